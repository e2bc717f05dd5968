//! What requests see of an application whose releases and door change.

use std::sync::Arc;
use std::time::Duration;

use super::{App, AppLimits, Apps, Current, Door, Release};
use crate::deploy::stats::Stats;
use crate::lifecycle::places::Places;
use crate::names::{AppName, ReleaseHash, WorkloadName};
use crate::spec::WorkloadSpec;

fn app(held_max: usize) -> Arc<App> {
    let limits = AppLimits {
        pause_max: Duration::from_secs(1),
        held_max,
    };
    App::new(AppName::new("shop").unwrap(), limits)
}

fn release(digit: &str) -> Arc<Release> {
    let workload = WorkloadName::new(&format!("shop-{digit}")).unwrap();
    Arc::new(Release {
        app: AppName::new("shop").unwrap(),
        hash: ReleaseHash::new(&digit.repeat(64)).unwrap(),
        revision: digit.to_owned(),
        spec: WorkloadSpec::new(workload.clone(), "shop:1"),
        workload,
        stats: Arc::<Stats>::default(),
    })
}

fn current(app: &App) -> String {
    match &app.route().current {
        Current::Release(release) => release.revision.clone(),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_new_route_counts_at_once_and_the_old_one_is_told() {
    let app = app(1);
    let loading = app.route();
    assert!(matches!(loading.current, Current::Loading));
    assert!(app.is_current(&loading));
    app.set_route(Current::Release(release("1")), Some(release("2")));
    assert!(loading.superseded.is_cancelled() && !app.is_current(&loading));
    let first = app.route();
    assert_eq!(first.canary.as_ref().unwrap().revision, "2");
    assert!(!first.superseded.is_cancelled() && app.is_current(&first));
    app.set_route(Current::Nothing("gone".into()), None);
    assert!(first.superseded.is_cancelled());
    assert_eq!(current(&app), "Nothing(\"gone\")");
}

#[test]
fn the_door_and_the_releases_change_apart() {
    let app = app(1);
    app.set_route(Current::Release(release("1")), Some(release("2")));
    let open = app.route();
    app.set_door(Door::Paused);
    // Who waits for a release now has to wait at the door.
    assert!(open.superseded.is_cancelled());
    assert_eq!(app.door(), Door::Paused);
    assert_eq!(current(&app), "1");
    assert!(app.route().canary.is_some());
    app.set_route(Current::Release(release("2")), None);
    assert_eq!((app.door(), current(&app)), (Door::Paused, "2".to_owned()));
    app.set_door(Door::Open);
    assert_eq!((app.door(), current(&app)), (Door::Open, "2".to_owned()));
}

#[test]
fn who_is_held_has_a_place_in_the_application_and_among_all() {
    let all = Arc::new(Places::new(3));
    let (one, other) = (app(2), app(2));
    let apps = Apps::new([one.clone()], all.clone());
    let _places = [apps.place(&one).unwrap(), apps.place(&one).unwrap()];
    assert!(apps.place(&one).is_none());
    let _third = apps.place(&other).unwrap();
    assert!(apps.place(&other).is_none());
    assert_eq!((one.held(), other.held(), all.taken()), (2, 1, 3));
}

#[test]
fn applications_are_found_by_name() {
    let apps = Apps::new([app(1)], Arc::new(Places::new(1)));
    let name = |name| AppName::new(name).unwrap();
    assert!(apps.get(&name("shop")).is_some());
    assert!(apps.get(&name("shpo")).is_none());
    assert!(Apps::default().get(&name("shop")).is_none());
}
