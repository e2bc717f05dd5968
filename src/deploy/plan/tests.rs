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
        let way = way_back(&history(past));
        assert_eq!(way.first().cloned(), goes_to.map(hash), "{past:?}");
    }
    assert_eq!(way_back(&history("abc<bd")), [hash('b'), hash('a')]);
    assert_eq!(way_back(&history("abac")), [hash('a'), hash('b')]);
}

#[test]
fn as_many_stay_asleep_as_configured_and_the_previous_one_always() {
    let kept = |past: &str, count| {
        let past = history(past);
        let keep = Keep { count, back_min: 1 };
        super::kept(&past, &past.last().unwrap().hash, keep, |_| true)
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
fn releases_that_were_left_do_not_take_the_place_of_those_on_the_way_back() {
    let kept = |past: &str, count, back_min| {
        let past = history(past);
        let keep = Keep { count, back_min };
        super::kept(&past, &past.last().unwrap().hash, keep, |_| true)
    };
    // b was good; c and d were left again.
    assert_eq!(kept("abc<bd<b", 2, 1), [hash('a'), hash('d')]);
    assert_eq!(kept("abc<bd<b", 3, 1), [hash('a'), hash('d'), hash('c')]);
    assert_eq!(kept("abc<bd", 2, 1), [hash('b'), hash('a')]);
    // While d may have to be left as well, what b would be gone back from to stays.
    assert_eq!(kept("abc<bd", 1, 2), [hash('b'), hash('a')]);
    assert_eq!(kept("abc<bd", 1, 1), [hash('b')]);
    assert_eq!(kept("abc<bd", 0, 2), [hash('b'), hash('a')]);
}

#[test]
fn a_release_without_a_container_takes_no_place_among_those_kept() {
    let past = history("abcd");
    let there =
        |hashes: &'static str| move |one: &ReleaseHash| hashes.chars().any(|c| hash(c) == *one);
    let keep = Keep {
        count: 2,
        back_min: 1,
    };
    let kept = |hashes| super::kept(&past, &hash('d'), keep, there(hashes));
    assert_eq!(kept("abcd"), [hash('c'), hash('b')]);
    assert_eq!(kept("abd"), [hash('b'), hash('a')]);
    assert_eq!(kept("d"), []);
}

#[test]
fn what_is_neither_current_nor_kept_nor_under_way_is_removed_with_its_image() {
    let roles = Roles {
        current: Some(hash('d')),
        none_yet: false,
        canary: Some(hash('e')),
        candidates: [hash('f')].into(),
        draining: [hash('c')].into(),
        kept: [hash('c'), hash('b')].into(),
    };
    let swept = sweep(&found("abcdef", "", true), &roles, &BTreeSet::new());
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
    let swept = sweep(&found("ab", "image:1", true), &roles, &BTreeSet::new());
    assert_eq!(names(&swept.remove), "a");
    assert!(swept.images.is_empty());
}

#[test]
fn an_image_that_a_failed_launch_has_brought_goes_unless_something_uses_it() {
    let roles = Roles {
        current: Some(hash('a')),
        ..Roles::default()
    };
    let left = ["image:a", "image:x"].map(str::to_owned).into();
    let swept = sweep(&found("a", "", true), &roles, &left);
    assert_eq!(swept.images, ["image:x".to_owned()].into());
}

#[test]
fn without_a_current_release_nothing_is_removed() {
    let swept = sweep(&found("ab", "", true), &Roles::default(), &BTreeSet::new());
    assert_eq!(names(&swept.rest), "ab");
    assert!(swept.remove.is_empty() && swept.images.is_empty());
}

#[test]
fn before_the_first_switch_of_all_a_launch_that_nobody_waits_for_any_more_is_removed() {
    let roles = Roles {
        none_yet: true,
        candidates: [hash('b')].into(),
        ..Roles::default()
    };
    let swept = sweep(&found("ab", "", true), &roles, &BTreeSet::new());
    assert_eq!(names(&swept.remove), "a");
    assert!(swept.rest.is_empty());
    assert_eq!(swept.images, ["image:a".to_owned()].into());
}

#[test]
fn a_new_release_is_worse_when_it_fails_more_often_by_more_than_the_limit() {
    let watch = Watch {
        failures_max: 0.05,
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
        keep in (0_usize..4, 1_usize..3),
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
        let way = way_back(&past);
        let previous = way.first().cloned();
        prop_assert!(!way.contains(&current));
        let (count, back_min) = keep;
        let kept: BTreeSet<ReleaseHash> =
            kept(&past, &current, Keep { count, back_min }, |_| true).into_iter().collect();
        prop_assert!(!kept.contains(&current));
        prop_assert!(kept.len() <= count.max(back_min));
        prop_assert!(way.iter().take(count.max(back_min)).all(|hash| kept.contains(hash)));
        let roles = Roles { current: Some(current.clone()), kept, ..Roles::default() };
        let image = if image == 0 { "" } else { "one:1" };
        let found = found(&containers, image, true);
        let swept = sweep(&found, &roles, &BTreeSet::new());
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
