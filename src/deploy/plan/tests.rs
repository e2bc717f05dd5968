//! Going back, keeping and removing: exact cases, and what holds for any history.

use proptest::prelude::*;

use super::*;

fn hash(letter: char) -> ReleaseHash {
    let digit = char::from_digit(u32::from(letter) % 16, 16).unwrap();
    ReleaseHash::new(&digit.to_string().repeat(64)).unwrap()
}

/// `"ab<a"`: a switch to a, a switch to b, back to a.
fn history(text: &str) -> Vec<Past> {
    let mut past = Vec::new();
    let mut back = false;
    for letter in text.chars() {
        if letter == '<' {
            back = true;
        } else {
            let hash = hash(letter);
            past.push(Past { hash, back });
            back = false;
        }
    }
    past
}

fn found(text: &str, image: &str, awake: bool) -> Vec<Found> {
    text.chars()
        .map(|letter| Found {
            workload: WorkloadName::new(&format!("shop-{letter}")).unwrap(),
            hash: hash(letter),
            image: if image.is_empty() {
                format!("image:{letter}")
            } else {
                image.to_owned()
            },
            awake,
        })
        .collect()
}

fn names(names: &[WorkloadName]) -> String {
    names
        .iter()
        .map(|name| name.as_str().chars().last().unwrap())
        .collect()
}

#[test]
fn going_back_leads_to_what_was_current_before_and_then_further_back() {
    for (past, goes_to) in [
        ("", None),
        ("a", None),
        ("aa", None),
        ("ab", Some('a')),
        ("abc", Some('b')),
        ("abc<b", Some('a')),
        ("abc<b<a", None),
        ("abc<bd", Some('b')),
        ("aba", Some('b')),
        // Back to a release that the trimmed history no longer has: those between were left.
        ("bc<a", None),
        ("bc<ad", Some('a')),
        ("abb", Some('a')),
    ] {
        assert_eq!(previous(&history(past)), goes_to.map(hash), "{past:?}");
    }
}

#[test]
fn as_many_stay_asleep_as_configured_and_the_previous_one_always() {
    let kept = |past: &str, keep| {
        let past = history(past);
        super::kept(&past, &past.last().unwrap().hash, keep)
    };
    assert_eq!(kept("abcd", 2), [hash('c'), hash('b')]);
    assert_eq!(kept("abcd", 0), [hash('c')]);
    assert_eq!(kept("abcd", 9), [hash('c'), hash('b'), hash('a')]);
    // After going back, what was left can still be gone to.
    assert_eq!(kept("abc<b", 2), [hash('a'), hash('c')]);
    assert_eq!(kept("a", 2), []);
    assert_eq!(kept("aba", 2), [hash('b')]);
}

#[test]
fn what_is_neither_current_nor_kept_nor_under_way_is_removed_with_its_image() {
    let roles = Roles {
        current: Some(hash('d')),
        canary: Some(hash('e')),
        candidates: [hash('f')].into(),
        draining: [hash('c')].into(),
        kept: [hash('c'), hash('b')].into(),
    };
    let swept = sweep(&found("abcdef", "", true), &roles);
    assert_eq!(names(&swept.remove), "a");
    assert_eq!(names(&swept.rest), "b");
    assert_eq!(swept.images, ["image:a".to_owned()].into());
}

#[test]
fn an_image_that_a_kept_release_uses_stays() {
    let roles = Roles {
        current: Some(hash('b')),
        ..Roles::default()
    };
    let swept = sweep(&found("ab", "image:1", true), &roles);
    assert_eq!(names(&swept.remove), "a");
    assert!(swept.images.is_empty());
}

#[test]
fn without_a_current_release_nothing_is_removed() {
    let swept = sweep(&found("ab", "", true), &Roles::default());
    assert_eq!(names(&swept.rest), "ab");
    assert!(swept.remove.is_empty() && swept.images.is_empty());
}

#[test]
fn a_new_release_is_worse_when_it_fails_more_often_by_more_than_the_limit() {
    let watch = Watch {
        failures_max: 0.05,
        time: Duration::from_secs(60),
        requests_min: 20,
    };
    let tally = |requests, failures| Tally { requests, failures };
    assert_eq!(is_worse(watch, tally(100, 0), tally(19, 19)), None);
    assert_eq!(is_worse(watch, tally(100, 0), tally(100, 5)), None);
    assert!(is_worse(watch, tally(100, 0), tally(100, 6)).is_some());
    // An application that fails always does not become worse by failing still.
    assert_eq!(is_worse(watch, tally(10, 10), tally(100, 100)), None);
    assert_eq!(
        is_worse(watch, tally(0, 0), tally(40, 10)).unwrap(),
        "10 of 40 requests failed on the new release (25.0 %), beside 0.0 % on the old one"
    );
}

proptest! {
    #[test]
    fn neither_the_current_nor_the_previous_release_nor_their_images_are_ever_removed(
        past in proptest::collection::vec((0_u8..6, any::<bool>()), 1..20),
        keep in 0_usize..4,
        containers in "[a-f]{0,6}",
        image in 0_u8..2,
    ) {
        let past: Vec<Past> = past
            .iter()
            .map(|(letter, back)| Past {
                hash: hash(char::from(b'a' + letter)),
                back: *back,
            })
            .collect();
        let current = past.last().unwrap().hash.clone();
        let previous = previous(&past);
        prop_assert_ne!(previous.as_ref(), Some(&current));
        let kept: BTreeSet<ReleaseHash> = kept(&past, &current, keep).into_iter().collect();
        prop_assert!(!kept.contains(&current));
        prop_assert!(kept.len() <= keep.max(1));
        prop_assert!(previous.iter().all(|previous| kept.contains(previous)));
        let roles = Roles { current: Some(current.clone()), kept, ..Roles::default() };
        let image = if image == 0 { "" } else { "one:1" };
        let found = found(&containers, image, true);
        let swept = sweep(&found, &roles);
        for container in &found {
            let safe = container.hash == current || Some(&container.hash) == previous.as_ref();
            if safe {
                prop_assert!(!swept.remove.contains(&container.workload));
                prop_assert!(!swept.images.contains(&container.image));
            }
            prop_assert!(container.hash != current || !swept.rest.contains(&container.workload));
        }
    }
}
