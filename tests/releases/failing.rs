//! What goes wrong before a switch: a clear answer, and the current release serves on.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::{Api, ms};
use crate::configuration::sha256;
use crate::lines;
use crate::seen;
use crate::stage::{Stage, start};
use crate::traffic::Traffic;

lines![
    Both a_release_that_never_gets_healthy_fails_in_its_time_and_is_removed,
    Both a_release_that_ends_at_once_is_removed_and_its_last_words_are_told,
    Process a_release_with_an_unknown_setting_does_not_harm_the_next_launch,
    Process a_hash_that_nobody_stored_is_unknown,
    Process a_configuration_whose_bytes_have_another_hash_is_refused,
    Process what_is_no_configuration_is_refused_with_its_place,
    Process what_is_no_order_is_refused,
    Process a_release_that_is_not_launched_cannot_be_switched_to,
    Process a_release_that_ended_by_itself_before_the_switch_is_woken_for_it,
    Process a_candidate_that_broke_is_only_switched_to_when_it_gets_healthy_again,
    Process an_image_that_nobody_has_is_missing,
    Process a_store_whose_disk_is_full_refuses_and_goes_on_when_there_is_room,
];

/// The old release is current, alone and answers.
async fn assert_untouched(stage: &Stage, api: &Api, old: &str, name: &str) {
    assert_eq!(api.status().await["current"], old);
    assert_eq!(stage.shelf().current_hash().await, old);
    assert_eq!(api.answering().await, "old");
    seen::until_there(stage.bench(), &[name]).await;
    seen::until_running(stage.bench(), &[name]).await;
}

fn log_of(problem: &Value) -> String {
    let lines = problem["log"].as_array().expect("the log's last lines");
    let lines = lines.iter().map(|line| line.as_str().expect("a line"));
    lines.collect::<Vec<_>>().join("\n")
}

async fn a_release_that_never_gets_healthy_fails_in_its_time_and_is_removed(stage: Stage) {
    let (gateway, api) = stage.start().await;
    let old = stage.release("old");
    let old_hash = api.deployed(&old).await;
    let traffic = Traffic::begin(&gateway.public, "/x", 4, 40);
    let new = stage
        .release("new")
        .env("FAIL_STATUS", "503")
        .health("timeout", "6s");
    let hash = api.stored(&new).await;
    let began = Instant::now();
    let problem = api.launch(&hash).await.problem(422, "not_healthy");
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(6), "{} ms", ms(took));
    assert!(took < Duration::from_secs(25), "{} ms", ms(took));
    let detail = problem["detail"].as_str().expect("a text");
    assert!(detail.contains("503"), "{detail}");
    assert!(log_of(&problem).contains("listens on"), "{problem}");
    assert_untouched(&stage, &api, &old_hash, &old.container()).await;
    let failed = &api.status().await["failed_launches"][0];
    assert_eq!(failed["hash"], hash, "{failed}");
    api.switch(&hash).await.problem(409, "not_launched");
    traffic.end().await.assert_all_by("old");
    seen::assert_starts(stage.bench(), &old.container(), 1).await;
    assert_eq!(stage.shelf().history().await.len(), 1);
}

async fn a_release_that_ends_at_once_is_removed_and_its_last_words_are_told(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    let old = stage.release("old");
    let old_hash = api.deployed(&old).await;
    let new = stage
        .release("new")
        .env("BOOT_DELAY", "1m")
        .env("CRASH_AFTER", "300ms")
        .health("timeout", "30s");
    let hash = api.stored(&new).await;
    let began = Instant::now();
    let problem = api.launch(&hash).await.problem(422, "not_healthy");
    // There is nothing to wait for.
    assert!(began.elapsed() < Duration::from_secs(25));
    assert!(log_of(&problem).contains("CRASH_AFTER"), "{problem}");
    assert_untouched(&stage, &api, &old_hash, &old.container()).await;
}

async fn a_release_with_an_unknown_setting_does_not_harm_the_next_launch(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    let broken = stage.release("broken").env("IDLE", "5 parsecs");
    let hash = api.stored(&broken).await;
    for _ in 0..2 {
        let problem = api.launch(&hash).await.problem(422, "not_healthy");
        assert!(log_of(&problem).contains("5 parsecs"), "{problem}");
        assert!(seen::names(stage.bench()).await.is_empty());
    }
    api.deployed(&stage.release("good")).await;
    assert_eq!(api.answering().await, "good");
}

async fn a_hash_that_nobody_stored_is_unknown(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    let old = stage.release("old");
    let old_hash = api.deployed(&old).await;
    for hash in ["0".repeat(64), "0".repeat(32)] {
        let problem = api.launch(&hash).await.problem(404, "unknown_hash");
        assert!(problem["detail"].to_string().contains(&hash), "{problem}");
        api.switch(&hash).await.problem(404, "unknown_hash");
    }
    for no_hash in ["", "abc", "../current", &"g".repeat(64), &"0".repeat(63)] {
        api.launch(no_hash).await.problem(422, "invalid_hash");
        api.switch(no_hash).await.problem(422, "invalid_hash");
    }
    assert_untouched(&stage, &api, &old_hash, &old.container()).await;
}

async fn a_configuration_whose_bytes_have_another_hash_is_refused(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    let old = stage.release("old");
    let old_hash = api.deployed(&old).await;
    let new = stage.release("new");
    let hash = api.stored(&new).await;
    let shelf = stage.shelf();
    let key = format!("container.{hash}.json");
    let changed = new.clone().env("CONNSTR", "somebody else's");
    shelf.put(&key, &changed.bytes()).await;
    let problem = api.launch(&hash).await.problem(422, "hash_mismatch");
    assert!(
        problem["detail"].to_string().contains(&changed.hash()),
        "{problem}"
    );
    // The same with a name that an older store would have.
    let md5 = "d41d8cd98f00b204e9800998ecf8427e";
    shelf
        .put(&format!("container.{md5}.json"), &new.bytes())
        .await;
    api.launch(md5).await.problem(422, "hash_mismatch");
    assert_untouched(&stage, &api, &old_hash, &old.container()).await;
    // Stored anew it is what it was.
    api.stored(&new).await;
    assert_eq!(shelf.get(&key).await, Some(new.bytes()));
    api.launch(&hash).await.ok();
}

async fn what_is_no_configuration_is_refused_with_its_place(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    let old = stage.release("old");
    let old_hash = api.deployed(&old).await;
    let files = || std::fs::read_dir(stage.dir().join("store")).expect("it is there");
    let before = files().count();
    let image = stage.bench().image();
    for (text, told) in [
        (String::new(), ""),
        ("{".to_owned(), ""),
        ("[]".to_owned(), "object"),
        ("\"text\"".to_owned(), "object"),
        (format!(r#"{{"image":"{image}"}}"#), "revision"),
        (
            format!("{{\n \"image\":\"{image}\",\n \"revision\":\"1\",\n \"memroy\":\"1MiB\"\n}}"),
            "memroy",
        ),
        (
            format!(r#"{{"image":"{image}","revision":"1","health":{{"pth":"/"}}}}"#),
            "health.pth",
        ),
        (
            format!(r#"{{"image":"{image}","revision":"1","memory":"much"}}"#),
            "memory",
        ),
        (r#"{"image":5,"revision":"1"}"#.to_owned(), "image"),
        (r#"{"ContainerConfig":{"Env":"A=B"}}"#.to_owned(), "Env"),
    ] {
        let problem = api.store(text.clone().into_bytes()).await;
        let (status, text_of_it) = (problem.status, problem.text());
        assert!(
            status == 400 || status == 422,
            "{text:?}: {status} {text_of_it}"
        );
        let problem = problem.json();
        assert!(
            problem["detail"]
                .as_str()
                .is_some_and(|detail| !detail.is_empty())
        );
        assert!(
            text_of_it.contains(told),
            "{text:?}: no {told:?} in {text_of_it}"
        );
        if told == "memroy" {
            assert_eq!(problem["errors"][0]["line"], 4, "{problem}");
            // And what was probably meant, or what there is.
            assert!(text_of_it.contains("memory"), "{problem}");
        }
    }
    let much = format!(r#"{{"revision":"{}"}}"#, "x".repeat(3 << 20));
    let answer = api.store(much.into_bytes()).await;
    assert_eq!(answer.status, 413, "{}", answer.text());
    assert_eq!(files().count(), before);
    // What somebody else has put there is looked at too.
    let bytes = b"{\"revision\": 1}".to_vec();
    let hash = sha256(&bytes);
    stage
        .shelf()
        .put(&format!("container.{hash}.json"), &bytes)
        .await;
    api.launch(&hash)
        .await
        .problem(422, "invalid_configuration");
    assert_untouched(&stage, &api, &old_hash, &old.container()).await;
}

async fn what_is_no_order_is_refused(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    let hash = api.stored(&stage.release("one")).await;
    for path in ["/launch", "/switch"] {
        for body in [
            json!({}),
            json!([]),
            json!({ "hash": hash, "hasch": "x" }),
            json!({ "hash": 5 }),
        ] {
            let answer = api.post(path, body.clone()).await;
            assert!(
                answer.status == 400 || answer.status == 422,
                "{path} {body}: {}",
                answer.text()
            );
        }
    }
    let by = "x".repeat(1000);
    let order = json!({ "hash": hash, "by": by });
    api.post("/switch", order)
        .await
        .problem(422, "invalid_body");
    assert!(seen::names(stage.bench()).await.is_empty());
}

async fn a_release_that_is_not_launched_cannot_be_switched_to(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    let old = stage.release("old");
    let old_hash = api.deployed(&old).await;
    let hash = api.stored(&stage.release("new")).await;
    api.switch(&hash).await.problem(409, "not_launched");
    api.try_out(&hash).await.problem(409, "not_launched");
    assert_untouched(&stage, &api, &old_hash, &old.container()).await;
}

/// Ends a release as a crash does: without a word, and without one to the gateway.
async fn break_off(stage: &Stage, name: &str) {
    let found = seen::container(stage.bench(), name).await;
    stage.bench().kill(&found.expect("it is there").id).await;
}

async fn a_release_that_ended_by_itself_before_the_switch_is_woken_for_it(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    let old = stage.release("old");
    api.deployed(&old).await;
    let new = stage.release("new");
    let hash = api.launched(&new).await;
    break_off(&stage, &new.container()).await;
    api.until_release("it has ended", &hash, |release| {
        release["phase"] != "ready" && release["phase"] != "starting"
    })
    .await;
    // While requests are served nobody is to wait for it, and that it wakes again is not known before.
    assert_eq!(api.answering().await, "old");
    api.switched(&hash).await;
    assert_eq!(api.status().await["current"], hash);
    assert_eq!(api.answering().await, "new");
}

/// Long after its backoff is over, and whether the application sleeps or not.
async fn a_candidate_that_broke_is_only_switched_to_when_it_gets_healthy_again(stage: Stage) {
    let file = stage.dir().join("broken");
    let program = env!("CARGO_BIN_EXE_wakegate");
    let script = format!("test ! -e {} && exec {program} minion", file.display());
    let setup = stage
        .setup()
        .image("fragile:latest", &["sh", "-c", &script])
        .set("lifecycle.backoff_min", "100ms")
        .set("lifecycle.backoff_max", "100ms");
    let (_gateway, api) = start(&setup).await;
    let old = stage.release("old").sleeps_after("2s");
    let old_hash = api.deployed(&old).await;
    let new = stage.release("new").with("image", "fragile:latest");
    let hash = api.launched(&new).await;
    std::fs::write(&file, "").expect("a file");
    break_off(&stage, &new.container()).await;
    let told = api.until_release("its end is told", &hash, |release| {
        release["phase"] == "stopped" && !release["reason"].is_null()
    });
    let told = told.await;
    assert!(told["reason"].to_string().contains("exited"), "{told}");
    for asleep in [false, true] {
        if asleep {
            api.until_phase(&old_hash, "stopped").await;
        } else {
            assert_eq!(api.answering().await, "old");
        }
        api.switch(&hash).await.problem(422, "not_healthy");
        assert_eq!(api.status().await["current"], old_hash);
    }
    let ran = setup
        .env("WAKEGATE_ADMIN_LISTEN", api.client.admin_address())
        .run(&["switch", "shop", &hash])
        .await;
    assert_eq!(ran.code, Some(4), "{ran:?}");
    std::fs::remove_file(&file).expect("a file");
    api.switched(&hash).await;
    assert_eq!(api.answering().await, "new");
}

async fn an_image_that_nobody_has_is_missing(stage: Stage) {
    let (_gateway, api) = stage.start().await;
    let old = stage.release("old");
    let old_hash = api.deployed(&old).await;
    let new = stage.release("new").with("image", "nobody/has:this");
    let hash = api.stored(&new).await;
    let answer = api.launch(&hash).await;
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(
        answer.text().contains("nobody/has:this"),
        "{}",
        answer.text()
    );
    assert_untouched(&stage, &api, &old_hash, &old.container()).await;
}

/// The store is a file system of its own that has no room left, in the gateway's own mount namespace.
async fn a_store_whose_disk_is_full_refuses_and_goes_on_when_there_is_room(stage: Stage) {
    const MOUNT: &str = "mount -t tmpfs -o size=256k none store && exec \"$@\"";
    std::fs::create_dir_all(stage.dir().join("store")).expect("a folder");
    let tried = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", MOUNT, "sh", "true"])
        .current_dir(stage.dir())
        .output();
    if !tried.as_ref().is_ok_and(|tried| tried.status.success()) {
        eprintln!("not shown: a full disk, since no file system can be mounted here: {tried:?}");
        return;
    }
    let mut setup = stage.setup();
    setup.under = ["unshare", "-m", "sh", "-c", MOUNT, "sh"]
        .map(str::to_owned)
        .to_vec();
    let (gateway, api) = start(&setup).await;
    let old = stage.release("old");
    let old_hash = api.deployed(&old).await;
    let new = stage.release("new");
    let new_hash = api.launched(&new).await;
    // Its folder as the gateway sees it.
    let root = format!("/proc/{}/root", gateway.pid.as_raw_nonzero());
    let folder = format!("{root}{}", stage.dir().join("store").display());
    let current = || std::fs::read(format!("{folder}/current.json")).expect("it is there");
    let (before, filler) = (current(), format!("{folder}/filler"));
    assert!(
        std::fs::write(&filler, vec![0_u8; 1 << 20]).is_err(),
        "it is not full"
    );

    let third = stage
        .release("third")
        .with("labels", json!({ "big": "x".repeat(20_000) }));
    let problem = api.store(third.bytes()).await.problem(507, "store_full");
    assert!(problem["detail"].to_string().contains("full"), "{problem}");
    // A switch is refused, or done and pending; it never leaves half a document.
    let answer = api.switch(&new_hash).await;
    match answer.status {
        200 => {
            assert_eq!(answer.json()["pending"], true, "{}", answer.text());
            assert_eq!(api.answering().await, "new");
            assert_eq!(current(), before);
        }
        _ => {
            answer.problem(507, "store_full");
            assert_eq!(api.answering().await, "old");
            assert_eq!(api.status().await["current"], old_hash);
            assert_eq!(current(), before);
        }
    }
    std::fs::remove_file(&filler).expect("a file");
    api.switch(&new_hash).await.ok();
    api.until("nothing is pending", |status| status["pending"].is_null())
        .await;
    let document: Value = serde_json::from_slice(&current()).expect("JSON");
    assert_eq!(document["hash"], new_hash);
    assert_eq!(api.answering().await, "new");
    api.stored(&third).await;
}
