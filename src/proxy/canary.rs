//! Which release gets a request while another is tried: as an earlier choice's cookie says, else by lot.
//!
//! The cookie `wakegate-APP` belongs to one trial: it names the canary by its short hash, with `not-`
//! before it for a client that the current release was chosen for. Another canary is another trial,
//! in which every client is chosen for anew; were the cookie to name the release that was chosen, who
//! once got the current one would be left out of all later trials.

use http::header::{COOKIE, HeaderMap, HeaderValue};

use crate::decision::Canary;
use crate::names::{AppName, ReleaseHash};

/// Before the application's name in the cookie's.
const PREFIX: &str = "wakegate-";

/// Before the hash of a canary that was not chosen.
const NOT: &str = "not-";

/// What was chosen for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    pub canary: bool,
    /// The client is to be given a cookie, so that it keeps to this.
    pub tell: bool,
}

/// Chooses between the current release and the canary. `kept`: what was chosen for this client before,
/// see [`kept`]. `draw`: a random number from 0 to 100, without 100.
pub fn choose(canary: Canary, kept: Option<bool>, draw: f64) -> Choice {
    let (canary, tell) = match (canary, kept) {
        (Canary::Never, _) => (false, false),
        (Canary::Always, _) => (true, false),
        (Canary::Percent(_), Some(kept)) => (kept, false),
        (Canary::Percent(percent), None) => (draw < percent, true),
    };
    Choice { canary, tell }
}

/// What the request's cookie says of the trial of this canary: whether it was chosen. `None`: the
/// client was not chosen for yet.
pub fn kept(headers: &HeaderMap, app: &AppName, canary: &ReleaseHash) -> Option<bool> {
    pairs(headers).find_map(|pair| {
        let value = std::str::from_utf8(value_of(pair, app)?).ok()?;
        if value == canary.short() {
            return Some(true);
        }
        (value.strip_prefix(NOT) == Some(canary.short())).then_some(false)
    })
}

/// The cookie that tells a client's next requests what was chosen; kept until the browser is closed.
pub fn cookie(app: &AppName, canary: &ReleaseHash, chosen: bool, secure: bool) -> HeaderValue {
    let not = if chosen { "" } else { NOT };
    let secure = if secure { "; Secure" } else { "" };
    let short = canary.short();
    let text = format!("{PREFIX}{app}={not}{short}; Path=/; HttpOnly; SameSite=Lax{secure}");
    // Names of applications and hashes have nothing that a header cannot have.
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

/// Takes the gateway's cookie out of a request; the others stay as they are.
pub fn strip(headers: &mut HeaderMap, app: &AppName) {
    if !pairs(headers).any(|pair| value_of(pair, app).is_some()) {
        return;
    }
    let lines: Vec<HeaderValue> = headers.get_all(COOKIE).iter().cloned().collect();
    headers.remove(COOKIE);
    for line in lines {
        let pairs = line.as_bytes().split(|byte| *byte == b';');
        let others: Vec<&[u8]> = pairs
            .map(<[u8]>::trim_ascii)
            .filter(|pair| !pair.is_empty() && value_of(pair, app).is_none())
            .collect();
        if !others.is_empty()
            && let Ok(line) = HeaderValue::from_bytes(&others.join(&b"; "[..]))
        {
            headers.append(COOKIE, line);
        }
    }
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(COOKIE).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .map(<[u8]>::trim_ascii)
}

/// The value of a pair that is the application's cookie of the gateway.
fn value_of<'a>(pair: &'a [u8], app: &AppName) -> Option<&'a [u8]> {
    pair.strip_prefix(PREFIX.as_bytes())?
        .strip_prefix(app.as_str().as_bytes())?
        .strip_prefix(b"=")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> AppName {
        AppName::new("shop").unwrap()
    }

    fn hash(digit: &str) -> ReleaseHash {
        ReleaseHash::new(&digit.repeat(64)).unwrap()
    }

    fn cookies(lines: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_static(line));
        }
        headers
    }

    #[test]
    fn what_the_script_says_of_all_goes_before_the_cookie_and_the_cookie_before_the_lot() {
        let choice = |canary, tell| Choice { canary, tell };
        for kept in [None, Some(true), Some(false)] {
            for draw in [0.0, 99.9] {
                assert_eq!(choose(Canary::Never, kept, draw), choice(false, false));
                assert_eq!(choose(Canary::Always, kept, draw), choice(true, false));
            }
        }
        let ten = Canary::Percent(10.0);
        assert_eq!(choose(ten, Some(true), 99.9), choice(true, false));
        assert_eq!(choose(ten, Some(false), 0.0), choice(false, false));
        assert_eq!(choose(ten, None, 9.99), choice(true, true));
        assert_eq!(choose(ten, None, 10.0), choice(false, true));
    }

    #[test]
    fn exactly_the_share_of_all_draws_is_chosen() {
        for percent in [0.5, 10.0, 33.0, 99.5] {
            let draws = (0..10_000).map(|n| f64::from(n) / 100.0);
            let chosen = draws.filter(|draw| choose(Canary::Percent(percent), None, *draw).canary);
            assert_eq!(chosen.count() as f64, percent * 100.0, "{percent}");
        }
    }

    #[test]
    fn random_draws_come_near_the_share() {
        let mut rng = fastrand::Rng::with_seed(3);
        for percent in [1.0, 10.0, 50.0] {
            let all = 100_000;
            let chosen = (0..all)
                .filter(|_| choose(Canary::Percent(percent), None, rng.f64() * 100.0).canary)
                .count();
            let share = chosen as f64 / f64::from(all) * 100.0;
            // Five standard deviations.
            let near = 5.0 * (percent * (100.0 - percent) / f64::from(all)).sqrt();
            assert!((share - percent).abs() < near, "{share} for {percent}");
        }
    }

    #[test]
    fn a_cookie_says_what_was_chosen_in_this_trial_and_nothing_of_another() {
        let chosen = |lines: &[&'static str]| kept(&cookies(lines), &app(), &hash("c"));
        assert_eq!(chosen(&["wakegate-shop=cccccccc"]), Some(true));
        assert_eq!(
            chosen(&["a=1;wakegate-shop=not-cccccccc; b=2"]),
            Some(false)
        );
        // Of two the one that is of this trial.
        assert_eq!(
            chosen(&["wakegate-shop=not-aaaaaaaa", "x=y; wakegate-shop=cccccccc"]),
            Some(true)
        );
        for none in [
            "",
            "wakegate-shop=aaaaaaaa",
            "wakegate-shop=not-aaaaaaaa",
            "wakegate-shop=ccccccccc",
            "wakegate-shop=",
            "wakegate-shop",
            "wakegate-shop2=cccccccc",
            "xwakegate-shop=cccccccc",
            "wakegate-shop=\"cccccccc\"",
        ] {
            assert_eq!(chosen(&[none]), None, "{none:?}");
        }
    }

    #[test]
    fn what_a_client_is_told_is_what_it_is_understood_by() {
        for chosen in [true, false] {
            let told = cookie(&app(), &hash("c"), chosen, false);
            let pair = told.to_str().unwrap().split(';').next().unwrap().to_owned();
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, pair.parse().unwrap());
            assert_eq!(kept(&headers, &app(), &hash("c")), Some(chosen));
            assert_eq!(kept(&headers, &app(), &hash("d")), None);
        }
        assert_eq!(
            cookie(&app(), &hash("c"), true, false),
            "wakegate-shop=cccccccc; Path=/; HttpOnly; SameSite=Lax"
        );
        assert_eq!(
            cookie(&app(), &hash("c"), false, true),
            "wakegate-shop=not-cccccccc; Path=/; HttpOnly; SameSite=Lax; Secure"
        );
    }

    #[test]
    fn the_gateways_cookie_is_taken_out_and_the_others_stay() {
        let stripped = |lines: &[&'static str]| {
            let mut headers = cookies(lines);
            strip(&mut headers, &app());
            let lines = headers.get_all(COOKIE).iter();
            lines
                .map(|line| line.to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            stripped(&["a=1; wakegate-shop=cccccccc; b=\"2\""]),
            ["a=1; b=\"2\""]
        );
        assert_eq!(
            stripped(&["wakegate-shop=x", "a=1;wakegate-shop=", "b"]),
            ["a=1", "b"]
        );
        assert!(stripped(&["wakegate-shop=not-cccccccc"]).is_empty());
        // Without it every byte stays.
        let others = ["a=1;b=2 ;; wakegate-other=cccccccc"];
        assert_eq!(stripped(&others), others);
    }
}
