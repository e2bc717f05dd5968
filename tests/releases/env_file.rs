//! `env_file`: static environment variables for all releases of an application.

use crate::configuration::Configuration;
use crate::lines;
use crate::seen;
use crate::setup::Ran;
use crate::stage::{Stage, start};

lines![
    Both variables_of_the_file_arrive_and_a_releases_own_go_over_them,
    Process what_is_wrong_in_the_file_is_told_by_check_with_its_line,
    Process a_file_that_is_not_there_is_told_by_check,
    Process a_gateway_with_a_bad_file_does_not_start,
    Process a_changed_file_counts_for_the_gateways_next_run,
    Docker a_container_that_was_made_with_another_file_is_told_of_and_stays,
];

const FILE: &str = r#"# The database, and other things.

DATABASE=postgres://db/shop?a=b#c
export EXPORTED=yes
QUOTED="Good morning, # everyone"   # a comment
SINGLE='$HOME is not replaced'
PLAIN=$HOME
EMPTY=
CONNSTR=of the file
"#;

/// A release that says nothing of `CONNSTR` itself.
fn silent(stage: &Stage, revision: &str) -> Configuration {
    let mut release = stage.release(revision);
    let envs = release.0["envs"].as_object_mut().expect("an object");
    envs.remove("CONNSTR");
    release
}

async fn variables_of_the_file_arrive_and_a_releases_own_go_over_them(stage: Stage) {
    std::fs::write(stage.dir().join("shop.env"), FILE).expect("a file");
    let setup = stage.setup().set("apps.shop.env_file", "shop.env");
    let (_gateway, api) = start(&setup).await;
    let release = stage.release("one");
    api.deployed(&release).await;
    assert_eq!(api.answering().await, "one");
    let made = seen::container(stage.bench(), &release.container())
        .await
        .expect("it is there");
    for (name, value) in [
        ("DATABASE", "postgres://db/shop?a=b#c"),
        ("EXPORTED", "yes"),
        ("QUOTED", "Good morning, # everyone"),
        ("SINGLE", "$HOME is not replaced"),
        ("PLAIN", "$HOME"),
        ("EMPTY", ""),
        ("CONNSTR", "one"),
    ] {
        assert_eq!(
            made.envs.get(name).map(String::as_str),
            Some(value),
            "{name}"
        );
    }
    // A release that says nothing of it has the file's.
    let other = silent(&stage, "other");
    api.deployed(&other).await;
    assert_eq!(api.answering().await, "of the file");
    // What is in the file is no part of what is stored: it may be secret.
    let key = format!("container.{}.json", other.hash());
    let stored = stage.shelf().get(&key).await.expect("it is stored");
    assert!(!String::from_utf8_lossy(&stored).contains("postgres"));
    let status = api.status().await.to_string();
    assert!(!status.contains("postgres"), "{status}");
}

async fn check(stage: &Stage, text: Option<&str>) -> Ran {
    if let Some(text) = text {
        std::fs::write(stage.dir().join("shop.env"), text).expect("a file");
    }
    let setup = stage.setup().set("apps.shop.env_file", "shop.env");
    let file = setup.write().file();
    setup
        .run(&["check", "--config", file.to_str().expect("a path in UTF-8")])
        .await
}

async fn what_is_wrong_in_the_file_is_told_by_check_with_its_line(stage: Stage) {
    let ran = check(&stage, Some(FILE)).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let bad = "# fine\nGOOD=1\nno equals sign\n=nothing\nSECRET=\"hunter2\n2BAD=x\n";
    let ran = check(&stage, Some(bad)).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let told = format!("{}{}", ran.out, ran.err);
    for line in [3, 4, 5] {
        let place = format!("shop.env:{line}");
        assert!(told.contains(&place), "no {place} in {told}");
    }
    assert!(!told.contains("shop.env:2:"), "{told}");
    assert!(!told.contains("hunter2"), "a secret is told: {told}");
}

async fn a_file_that_is_not_there_is_told_by_check(stage: Stage) {
    let ran = check(&stage, None).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("shop.env"), "{ran:?}");
}

async fn a_gateway_with_a_bad_file_does_not_start(stage: Stage) {
    std::fs::write(stage.dir().join("shop.env"), "what is this\n").expect("a file");
    let setup = stage.setup().set("apps.shop.env_file", "shop.env");
    let file = setup.write().file();
    let ran = setup
        .run(&["serve", "--config", file.to_str().expect("a path in UTF-8")])
        .await;
    assert_ne!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.contains("shop.env:1"), "{ran:?}");
}

/// A release that is there keeps what it was made with; one that is made anew has the new ones.
async fn a_changed_file_counts_for_the_gateways_next_run(stage: Stage) {
    let write = |text: &str| std::fs::write(stage.dir().join("shop.env"), text).expect("a file");
    write("CONNSTR=first\n");
    let setup = stage.setup().set("apps.shop.env_file", "shop.env");
    let (gateway, api) = start(&setup).await;
    let release = silent(&stage, "one");
    api.deployed(&release).await;
    assert_eq!(api.answering().await, "first");
    gateway.kill();
    write("CONNSTR=second\n");
    let (_gateway, api) = start(&setup).await;
    let answering = api.answering().await;
    assert!(
        ["first", "second"].contains(&answering.as_str()),
        "{answering}"
    );
    let next = release.with("revision", "two");
    api.deployed(&next).await;
    assert_eq!(api.answering().await, "second");
}

async fn a_container_that_was_made_with_another_file_is_told_of_and_stays(stage: Stage) {
    let write = |text: &str| std::fs::write(stage.dir().join("shop.env"), text).expect("a file");
    write("CONNSTR=first\nSAME=as ever\n");
    let setup = stage.setup().set("apps.shop.env_file", "shop.env");
    let (gateway, api) = start(&setup).await;
    let release = silent(&stage, "one");
    let hash = api.deployed(&release).await;
    let again = api.launch(&hash).await.ok();
    assert_eq!(again["warnings"], serde_json::json!([]));
    gateway.kill();
    write("CONNSTR=second\nSAME=as ever\n");
    let (_gateway, api) = start(&setup).await;
    let again = api.launch(&hash).await.ok();
    assert_eq!(again["existing"], true);
    let warning = again["warnings"][0].as_str().expect("a warning");
    assert!(warning.contains("another CONNSTR than"), "{warning}");
    assert!(
        !warning.contains("SAME") && !warning.contains("second"),
        "{warning}"
    );
    assert_eq!(api.answering().await, "first");
    let next = release.with("revision", "two");
    let next_hash = api.launched(&next).await;
    api.switched(&next_hash).await;
    assert_eq!(api.answering().await, "second");
}
