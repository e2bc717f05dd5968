//! Clicks on the page of a real gateway, and what they have done, seen from the gateway's side.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::bench::{Bench, STATE_DIR, until};
use crate::browser::{Browser, app, button, css, row};
use crate::cases;
use crate::client::Answer;
use crate::gateway::Gateway;
use crate::setup::Setup;

cases![
    the_page_shows_what_the_status_tells,
    a_release_is_stored_launched_switched_to_and_gone_back_from,
    a_canary_is_tried_and_given_up,
    a_launch_that_fails_is_told_with_its_last_words_and_leaves_nothing,
    how_far_a_launch_has_come_is_shown,
    an_application_is_paused_and_resumed,
    an_application_is_closed_for_maintenance_and_opened_again,
    a_workload_is_made_woken_and_removed,
    what_others_change_appears_without_a_reload,
    a_revision_that_looks_like_markup_is_text,
    the_token_is_asked_for_and_kept_for_the_tab,
    a_lost_connection_is_told_and_comes_back,
    an_open_page_does_not_hold_the_gateways_end_up,
];

const SCRIPT: &str = r#"
route("/shop/{*rest}", |req| {
    let shop = app("shop").strip(1);
    if req.header("x-canary") == "1" { shop.canary(100) } else { shop.canary(0) }
});
route("/blog/{*rest}", |req| app("blog").strip(1));
route("/session/{name}/{*rest}", |req| proxy(req.param("name")));
ready(|c| probe(c.label("healthcheck")));
"#;

/// Two applications, whose releases are healthy when the sample application says so.
fn two_apps(bench: &Bench) -> Setup {
    let mut setup = bench.setup().script(SCRIPT);
    for name in ["shop", "blog"] {
        let mut app = toml::Table::new();
        app.insert("store".to_owned(), format!("file:{name}").into());
        app.insert("health_path".to_owned(), "/status".into());
        app.insert("pause_max".to_owned(), "200ms".into());
        setup = setup.set(&format!("apps.{name}"), app);
    }
    setup
}

/// A launch configuration of the sample application.
fn configuration(revision: &str) -> Value {
    json!({
        "image": "minionapp:latest",
        "revision": revision,
        "envs": { "IDLE": "0", "CONNSTR": revision },
    })
}

fn url(gateway: &Gateway) -> String {
    format!("http://{}/", gateway.client.admin_address())
}

async fn status(gateway: &Gateway) -> Value {
    Answer::to(gateway.client.admin(Method::GET, "/status"))
        .await
        .ok()
}

/// What is told of one application.
async fn app_status(gateway: &Gateway, name: &str) -> Value {
    let path = format!("/apps/{name}");
    Answer::to(gateway.client.admin(Method::GET, &path))
        .await
        .ok()
}

async fn post(gateway: &Gateway, path: &str, body: Value) -> Value {
    let request = gateway.client.admin(Method::POST, path).json(&body);
    let answer = Answer::to(request).await;
    assert!(answer.status < 300, "{}", answer.text());
    answer.json()
}

/// Stores and launches a release by the API; gives its hash.
async fn launch(gateway: &Gateway, app: &str, revision: &str) -> String {
    let path = format!("/apps/{app}/releases");
    let stored = post(gateway, &path, configuration(revision)).await;
    let hash = stored["hash"].as_str().expect("a hash").to_owned();
    post(gateway, "/launch", json!({ "app": app, "hash": hash })).await;
    hash
}

async fn run(gateway: &Gateway, app: &str, revision: &str) -> String {
    let hash = launch(gateway, app, revision).await;
    post(gateway, "/switch", json!({ "app": app, "hash": hash })).await;
    hash
}

/// Which release answers a request, by its own word.
async fn answering(gateway: &Gateway, app: &str) -> String {
    let answer = gateway.client.get(&format!("/{app}/x")).await.ok();
    answer["connstr"].as_str().expect("a revision").to_owned()
}

async fn confirm(browser: &Browser) {
    browser.click(&css("#confirm [value=yes]")).await;
}

async fn the_page_shows_what_the_status_tells(bench: Bench, browser: Browser) {
    let gateway = two_apps(&bench).start().await;
    run(&gateway, "shop", "r1").await;
    for _ in 0..3 {
        answering(&gateway, "shop").await;
    }
    run(&gateway, "shop", "r2").await;
    launch(&gateway, "shop", "r3").await;
    answering(&gateway, "shop").await;
    gateway.client.create(&bench.sample("a")).await;
    // What is told below is to stay as it is while the page is read.
    until("the release before has ended", || async {
        let told = app_status(&gateway, "shop").await;
        let releases = told["releases"].as_array().expect("releases");
        let previous = releases.iter().find(|one| one["revision"] == "r1")?;
        // That it no longer drains is told a moment after its container has stopped.
        (previous["phase"] == "stopped" && previous["role"] == "previous").then_some(())
    })
    .await;
    browser.open(&url(&gateway)).await;
    browser.counts(&css("section.app"), 2).await;
    let told = status(&gateway).await;
    browser
        .reads(&css("#version"), told["version"].as_str().expect("text"))
        .await;
    for told in told["apps"].as_array().expect("applications") {
        let shown = app(told["app"].as_str().expect("a name"));
        browser
            .reads(&shown.css(".door"), told["door"].as_str().expect("text"))
            .await;
        let releases = told["releases"].as_array().expect("releases");
        browser
            .counts(&shown.css("tbody[role=rowgroup]"), releases.len())
            .await;
        for release in releases {
            let shown = row(&shown, release["revision"].as_str().expect("text"));
            for field in ["role", "phase", "image"] {
                browser
                    .reads(&shown, release[field].as_str().expect("text"))
                    .await;
            }
            let hash = browser.attribute(&shown.css("code"), "title").await;
            assert_eq!(hash, release["hash"]);
        }
    }
    let workloads = told["workloads"].as_array().expect("workloads");
    browser
        .counts(&css("#workload-table tbody"), workloads.len())
        .await;
    for workload in workloads {
        let shown = row(&css("#workloads"), workload["name"].as_str().expect("text"));
        browser
            .reads(&shown, workload["phase"].as_str().expect("text"))
            .await;
    }
    let traffic = app("shop").css("table.traffic");
    let lines = browser.text(&traffic).await;
    let shop = &told["apps"][1];
    assert_eq!(shop["since_last_switch"]["requests"], 1, "{shop}");
    assert_eq!(shop["before_last_switch"]["requests"], 3, "{shop}");
    let count_of = |revision: &str| {
        let line = lines.lines().find(|line| line.starts_with(revision));
        let line = line.unwrap_or_else(|| panic!("{revision} in {lines}"));
        let number = line.split_whitespace().nth(1);
        number.expect("a number").to_owned()
    };
    assert_eq!((count_of("r1"), count_of("r2")), ("3".into(), "1".into()));
}

async fn a_release_is_stored_launched_switched_to_and_gone_back_from(
    bench: Bench,
    browser: Browser,
) {
    let gateway = two_apps(&bench).start().await;
    browser.open(&url(&gateway)).await;
    let shop = app("shop");
    browser.reads(&shop, "No releases.").await;
    browser
        .click(&shop.css("summary").having("Launch a release"))
        .await;
    for revision in ["r1", "r2"] {
        let text = format!("{:#}\n", configuration(revision));
        browser
            .fill(&shop.label("Launch configuration (JSON)"), &text)
            .await;
        browser
            .click(&button("Store this configuration for shop"))
            .await;
        browser
            .reads(
                &shop.css(".form .note"),
                &format!("{revision} is stored as"),
            )
            .await;
        // The store has the very bytes, under their hash.
        let files = std::fs::read_dir(bench.dir().join("shop")).expect("a folder");
        let stored = files
            .flatten()
            .find(|file| std::fs::read_to_string(file.path()).is_ok_and(|content| content == text));
        let stored = stored.expect("the configuration is stored").file_name();
        let hash = stored.to_string_lossy().into_owned();
        let hash = hash
            .trim_start_matches("container.")
            .trim_end_matches(".json");
        browser
            .click(&button(&format!("Launch {revision} of shop now")))
            .await;
        browser
            .sees(&row(&shop, revision).css("[data-role=candidate]"))
            .await;
        browser
            .reads(&shop.css(".form .note"), &format!("{revision} is healthy"))
            .await;
        let current = app_status(&gateway, "shop").await["current"].clone();
        assert_ne!(current, hash);
        if revision == "r1" {
            browser
                .click(&button(&format!("Switch shop to {revision} now")))
                .await;
        } else {
            browser
                .click(&button(&format!("Switch {revision} of shop")))
                .await;
        }
        confirm(&browser).await;
        browser
            .reads(&shop.css(".serving"), &format!("{revision} serves"))
            .await;
        assert_eq!(app_status(&gateway, "shop").await["current"], hash);
        assert_eq!(answering(&gateway, "shop").await, revision);
        // Requests go there, and the page tells so, a moment before the store has it.
        let current = crate::bench::until("the store has it", || async {
            let current = std::fs::read(bench.dir().join("shop/current.json")).ok()?;
            let current: Value = serde_json::from_slice(&current).ok()?;
            (current["hash"] == hash).then_some(current)
        })
        .await;
        assert_eq!(current["by"], "status page");
    }

    browser.click(&button("Roll back to r1, shop")).await;
    confirm(&browser).await;
    browser.reads(&shop.css(".serving"), "r1 serves").await;
    assert_eq!(answering(&gateway, "shop").await, "r1");

    // The page reads it when it is opened, and the store has it a moment after the page tells so.
    let history = until("the history has it", || async {
        let history = gateway.client.admin(Method::GET, "/apps/shop/history");
        let history = Answer::to(history).await.ok();
        let entries = history["history"].as_array().expect("a list").clone();
        (entries.len() == 3).then_some(entries)
    })
    .await;
    let kinds: Vec<&Value> = history.iter().map(|entry| &entry["kind"]).collect();
    assert_eq!(kinds, ["switch", "switch", "rollback"]);
    browser.click(&shop.css("summary").having("History")).await;
    let table = css("[aria-label='History of shop'] tbody");
    browser.counts(&table, 3).await;
    browser
        .reads(&table.css(":scope:nth-of-type(1)"), "rollback")
        .await;
}

async fn a_canary_is_tried_and_given_up(bench: Bench, browser: Browser) {
    let gateway = two_apps(&bench).start().await;
    run(&gateway, "shop", "r1").await;
    let hash = launch(&gateway, "shop", "r2").await;
    browser.open(&url(&gateway)).await;
    browser.click(&button("Canary r2 of shop")).await;
    confirm(&browser).await;
    let shop = app("shop");
    browser
        .reads(&shop.css(".serving"), "r1 serves, r2 is tried as a canary")
        .await;
    assert_eq!(app_status(&gateway, "shop").await["canary"], hash);
    let chosen = gateway.client.request(Method::GET, "/shop/x");
    let chosen = Answer::to(chosen.header("x-canary", "1")).await.ok();
    assert_eq!(chosen["connstr"], "r2");
    assert_eq!(answering(&gateway, "shop").await, "r1");

    browser.click(&button("Give up canary, shop")).await;
    confirm(&browser).await;
    until("the canary is given up", || async {
        let told = app_status(&gateway, "shop").await;
        told["canary"].is_null().then_some(())
    })
    .await;
    browser.reads(&shop.css(".serving"), "r1 serves").await;
    let chosen = gateway.client.request(Method::GET, "/shop/x");
    let chosen = Answer::to(chosen.header("x-canary", "1")).await.ok();
    assert_eq!(chosen["connstr"], "r1");
}

async fn a_launch_that_fails_is_told_with_its_last_words_and_leaves_nothing(
    bench: Bench,
    browser: Browser,
) {
    let gateway = two_apps(&bench).start().await;
    run(&gateway, "shop", "r1").await;
    let mut broken = configuration("r2");
    broken["envs"]["FAIL_STATUS"] = json!("503");
    broken["health"] = json!({ "path": "/status", "timeout": "6s" });
    let stored = post(&gateway, "/apps/shop/releases", broken).await;
    let hash = stored["hash"].as_str().expect("a hash");
    browser.open(&url(&gateway)).await;
    let shop = app("shop");
    browser
        .click(&shop.css("summary").having("Launch a release"))
        .await;
    browser
        .fill(&shop.label("or the hash of a stored one"), hash)
        .await;
    browser.click(&button("Launch this hash for shop")).await;
    let told = shop.css(".form [role=alert]");
    browser.reads(&told, "did not get healthy").await;
    browser.reads(&told.css("pre"), "listens on").await;
    let failure = shop.css("details.failure");
    browser.reads(&failure, "r2 was not launched").await;
    browser.click(&failure.css("summary")).await;
    browser.reads(&failure.css("pre"), "listens on").await;
    browser.sees_no(&row(&shop, "r2")).await;
    assert!(!bench.exists(&format!("shop-r2-{}", &hash[..8])).await);
    assert_eq!(answering(&gateway, "shop").await, "r1");

    // A hash that nobody has stored, and something that is no hash.
    for (wrong, detail) in [
        ("0".repeat(64), "0000"),
        ("nonsense".to_owned(), "nonsense"),
    ] {
        browser
            .fill(&shop.label("or the hash of a stored one"), &wrong)
            .await;
        browser.click(&button("Launch this hash for shop")).await;
        browser.reads(&told, detail).await;
    }
    browser
        .fill(
            &shop.label("Launch configuration (JSON)"),
            "{\"revision\": \"r3\",\n \"colour\": 1}",
        )
        .await;
    browser
        .click(&button("Store this configuration for shop"))
        .await;
    browser.reads(&told.css("li"), "colour").await;
    browser.reads(&told.css("li"), "line 2").await;
}

async fn how_far_a_launch_has_come_is_shown(bench: Bench, browser: Browser) {
    let gateway = two_apps(&bench).start().await;
    browser.open(&url(&gateway)).await;
    let mut slow = configuration("r1");
    slow["envs"]["BOOT_DELAY"] = json!("10m");
    slow["health"] = json!({ "path": "/status", "timeout": "10m" });
    let stored = post(&gateway, "/apps/shop/releases", slow).await;
    let order = json!({ "app": "shop", "hash": stored["hash"] });
    let launch = gateway.client.admin(Method::POST, "/launch").json(&order);
    let launch = tokio::spawn(Answer::to(launch));
    let shown = row(&app("shop"), "r1");
    browser.reads(&shown, "candidate").await;
    browser.reads(&shown, "checking").await;
    browser.counts(&shown.css(".steps i.on"), 3).await;
    browser.sees_no(&shown.button("Switch r1 of shop")).await;
    let told = app_status(&gateway, "shop").await;
    assert_eq!(told["releases"][0]["launch"]["phase"], "checking");

    // It is given up when somebody removes what is launched.
    let workload = told["releases"][0]["workload"].as_str().expect("a name");
    browser.click(&button(&format!("Remove {workload}"))).await;
    confirm(&browser).await;
    let refused = launch.await.expect("an answer");
    assert!(refused.status >= 400, "{}", refused.text());
    browser.sees_no(&shown).await;
    assert!(!bench.exists(workload).await);
}

async fn an_application_is_paused_and_resumed(bench: Bench, browser: Browser) {
    let gateway = two_apps(&bench).start().await;
    run(&gateway, "shop", "r1").await;
    run(&gateway, "blog", "b1").await;
    browser.open(&url(&gateway)).await;
    browser.click(&button("Pause shop")).await;
    browser.reads(&app("shop").css(".door"), "paused").await;
    assert_eq!(app_status(&gateway, "shop").await["door"], "paused");
    // Held for the 200 ms that it may be, and then refused.
    assert_eq!(gateway.client.get("/shop/x").await.status, 503);
    assert_eq!(answering(&gateway, "blog").await, "b1");

    browser.click(&button("Resume shop")).await;
    browser.reads(&app("shop").css(".door"), "open").await;
    assert_eq!(app_status(&gateway, "shop").await["door"], "open");
    assert_eq!(answering(&gateway, "shop").await, "r1");
}

async fn an_application_is_closed_for_maintenance_and_opened_again(bench: Bench, browser: Browser) {
    let gateway = two_apps(&bench).start().await;
    run(&gateway, "shop", "r1").await;
    run(&gateway, "blog", "b1").await;
    browser.open(&url(&gateway)).await;
    browser.click(&button("Maintenance of shop")).await;
    browser
        .reads(&css("#confirm"), "Close shop for maintenance?")
        .await;
    browser.click(&css("#confirm").button("Cancel")).await;
    assert_eq!(answering(&gateway, "shop").await, "r1");

    browser.click(&button("Maintenance of shop")).await;
    confirm(&browser).await;
    browser
        .reads(&app("shop").css(".door"), "maintenance")
        .await;
    assert_eq!(gateway.client.get("/shop/x").await.status, 503);
    assert_eq!(answering(&gateway, "blog").await, "b1");

    browser.click(&button("End the maintenance of shop")).await;
    browser.reads(&app("shop").css(".door"), "open").await;
    assert_eq!(answering(&gateway, "shop").await, "r1");

    browser.sees_no(&button("End maintenance of all")).await;
    browser.click(&button("Maintenance of all")).await;
    confirm(&browser).await;
    for name in ["shop", "blog"] {
        browser.reads(&app(name).css(".door"), "maintenance").await;
        let path = format!("/{name}/x");
        assert_eq!(gateway.client.get(&path).await.status, 503);
    }
    browser.click(&button("End maintenance of all")).await;
    for (name, revision) in [("shop", "r1"), ("blog", "b1")] {
        browser.reads(&app(name).css(".door"), "open").await;
        assert_eq!(answering(&gateway, name).await, revision);
    }
}

async fn a_workload_is_made_woken_and_removed(bench: Bench, browser: Browser) {
    let gateway = two_apps(&bench).start().await;
    browser.open(&url(&gateway)).await;
    browser.sees(&css("#no-workloads")).await;
    let sample = bench.sample("a");
    let name = sample.name();
    browser
        .click(&css("summary").having("Make a workload"))
        .await;
    let field = css("#workload-making textarea");
    browser.fill(&field, "{\"name\": \"no image\"}").await;
    browser.click(&button("Make only")).await;
    browser
        .reads(&css("#workload-making [role=alert]"), "image")
        .await;
    browser.fill(&field, &sample.0.to_string()).await;
    browser.click(&button("Make only")).await;
    let shown = row(&css("#workloads"), name);
    browser.reads(&shown, "stopped").await;
    assert!(bench.exists(name).await);
    let id = gateway.client.view(name).await["id"].clone();
    let id = id.as_str().expect("an id");
    assert!(!bench.runs(id).await);

    browser.click(&button(&format!("Wake {name}"))).await;
    browser.reads(&shown, "ready").await;
    assert!(bench.runs(id).await);
    assert_eq!(bench.starts(id).await, 1);

    browser.click(&button(&format!("Remove {name}"))).await;
    confirm(&browser).await;
    browser.sees_no(&shown).await;
    until("it is gone", || async {
        (!bench.exists(name).await && !bench.runs(id).await).then_some(())
    })
    .await;
    browser.sees(&css("#no-workloads")).await;
    let left = std::fs::read_dir(bench.dir().join(STATE_DIR)).expect("the state folder");
    let left = left.flatten().filter(|entry| entry.path().is_dir());
    assert_eq!(left.count(), 0);
}

async fn what_others_change_appears_without_a_reload(bench: Bench, browser: Browser) {
    let gateway = two_apps(&bench).start().await;
    run(&gateway, "shop", "r1").await;
    browser.open(&url(&gateway)).await;
    let shop = app("shop");
    browser.reads(&shop.css(".serving"), "r1 serves").await;
    browser.evaluate("void (window.mark = 1)").await;

    post(&gateway, "/apps/shop/pause", json!({})).await;
    browser.reads(&shop.css(".door"), "paused").await;
    post(&gateway, "/apps/shop/resume", json!({})).await;
    browser.reads(&shop.css(".door"), "open").await;
    run(&gateway, "shop", "r2").await;
    browser.reads(&shop.css(".serving"), "r2 serves").await;
    browser.sees(&button("Roll back to r1, shop")).await;
    let sample = bench.sample("elsewhere");
    let id = gateway.client.run(&sample).await;
    let shown = row(&css("#workloads"), sample.name());
    browser.reads(&shown, "ready").await;
    // Behind the gateway's back, too.
    bench.kill(&id).await;
    browser.reads(&shown, "stopped").await;
    assert_eq!(browser.evaluate("window.mark").await, 1);
}

async fn a_revision_that_looks_like_markup_is_text(bench: Bench, browser: Browser) {
    const REVISION: &str = "<img src=x onerror=\"complain('run')\">";
    let gateway = two_apps(&bench).start().await;
    run(&gateway, "shop", REVISION).await;
    launch(&gateway, "shop", "</table><script>complain('run')</script>").await;
    let by = json!({ "app": "shop", "by": "<b onclick=\"complain('run')\">ada</b>" });
    browser.open(&url(&gateway)).await;
    let shop = app("shop");
    browser
        .reads(&shop.css(".serving"), &format!("{REVISION} serves"))
        .await;
    browser
        .click(&button(
            "Switch </table><script>complain('run')</script> of shop",
        ))
        .await;
    browser
        .reads(
            &css("#confirm"),
            "</table><script>complain('run')</script>?",
        )
        .await;
    confirm(&browser).await;
    browser
        .reads(
            &shop.css(".serving"),
            "<script>complain('run')</script> serves",
        )
        .await;
    post(&gateway, "/rollback", by).await;
    browser
        .reads(
            &shop.css("footer"),
            "by <b onclick=\"complain('run')\">ada</b>",
        )
        .await;
    browser.click(&shop.css("summary").having("History")).await;
    let history = css("[aria-label='History of shop']");
    browser.reads(&history, REVISION).await;
    browser.reads(&history, "<b onclick=").await;
    let foreign = browser
        .evaluate("document.querySelectorAll('img[src=x], b[onclick], body script').length")
        .await;
    assert_eq!(foreign, 0);
}

async fn the_token_is_asked_for_and_kept_for_the_tab(bench: Bench, browser: Browser) {
    const TOKEN: &str = "a-token-of-the-status-page";
    let setup = two_apps(&bench).set("admin.token", TOKEN);
    let gateway = setup.start().await;
    let url = url(&gateway);
    browser.open(&url).await;
    let dialog = css("#unlocking");
    browser.reads(&dialog, "The admin token, please").await;
    browser.has_focus(&css("#token")).await;
    browser.reads(&css("#link"), "locked").await;
    browser.sees_no(&css("#unlocking-problem")).await;
    browser.counts(&css("section.app"), 0).await;

    browser.fill(&css("#token"), "another token").await;
    browser.press("Enter").await;
    browser
        .reads(
            &css("#unlocking-problem"),
            "The admin token is not the right one.",
        )
        .await;
    assert_eq!(browser.evaluate("sessionStorage.length").await, 0);
    browser.click(&dialog.button("Cancel")).await;
    browser.sees(&css("#locked")).await;
    browser.click(&button("Enter the token")).await;
    browser.fill(&css("#token"), TOKEN).await;
    browser.press("Enter").await;
    browser.counts(&css("section.app"), 2).await;
    browser.reads(&css("#link"), "live").await;
    browser.sees_no(&css("#locked")).await;
    browser.reads(&css("#scripts-version"), "v1").await;

    // The buttons have it too.
    browser.click(&button("Pause shop")).await;
    browser.reads(&app("shop").css(".door"), "paused").await;
    let told = gateway.client.admin(Method::GET, "/apps/shop");
    let told = Answer::to(told.bearer_auth(TOKEN)).await.ok();
    assert_eq!(told["door"], "paused");

    // It is kept where no other tab, no other site and no server has it.
    let kept = browser
        .evaluate(
            "[Object.values(sessionStorage), localStorage.length, document.cookie, location.href]",
        )
        .await;
    assert_eq!(kept, json!([[TOKEN], 0, "", url]));
    browser.reload().await;
    browser.counts(&css("section.app"), 2).await;
    browser.sees_no(&dialog).await;
    browser.open(&url).await;
    browser.sees(&dialog).await;
}

async fn a_lost_connection_is_told_and_comes_back(bench: Bench, browser: Browser) {
    let setup = two_apps(&bench);
    let gateway = setup.start().await;
    run(&gateway, "shop", "r1").await;
    let address = gateway.client.admin_address().to_owned();
    browser.open(&url(&gateway)).await;
    let shop = app("shop");
    browser.reads(&shop.css(".serving"), "r1 serves").await;
    browser.evaluate("void (window.mark = 1)").await;
    gateway.kill();

    browser.reads(&css("#lost"), "Connection lost.").await;
    browser.reads(&css("#lost"), "What you see is of ").await;
    browser.reads(&css("#lost-next"), " old, ").await;
    browser.reads(&css("#link"), "lost").await;
    let title = browser.evaluate("document.title").await;
    assert_eq!(title, "connection lost · Wakegate");
    // What was seen last can still be read, and a button says why it does nothing.
    browser.reads(&shop.css(".serving"), "r1 serves").await;
    browser.click(&button("Pause shop")).await;
    browser
        .reads(
            &shop.css("> .slot [role=alert]"),
            "The gateway cannot be reached.",
        )
        .await;
    browser
        .until("parseInt(document.getElementById('lost-next').textContent) >= 2")
        .await;

    let gateway = setup.set("admin.listen", address).start().await;
    browser.reads(&css("#link"), "live").await;
    browser.sees_no(&css("#lost")).await;
    browser.reads(&shop.css(".serving"), "r1 serves").await;
    browser.click(&button("Pause shop")).await;
    browser.reads(&shop.css(".door"), "paused").await;
    assert_eq!(app_status(&gateway, "shop").await["door"], "paused");
    assert_eq!(browser.evaluate("window.mark").await, 1);
}

async fn an_open_page_does_not_hold_the_gateways_end_up(bench: Bench, browser: Browser) {
    /// What is under way has two seconds. A round in which the machine stalls for a good part of them
    /// says nothing.
    const STALL: Duration = Duration::from_millis(500);
    const ROUNDS_MAX: usize = 10;
    for _ in 0..ROUNDS_MAX {
        let gateway = two_apps(&bench).start().await;
        browser.open(&url(&gateway)).await;
        browser.reads(&css("#link"), "live").await;
        let log = gateway.log.clone();
        let (over, is_over) = tokio::sync::oneshot::channel();
        let stalls = tokio::spawn(longest_stall(is_over));
        gateway.terminate();
        assert_eq!(gateway.exit_code().await, Some(0));
        over.send(()).expect("it is measured");
        browser.sees(&css("#lost")).await;
        let stalled = stalls.await.expect("a time");
        if stalled < STALL {
            return assert_eq!(log.lines_with("cut off"), Vec::<String>::new());
        }
    }
    panic!("the machine stalled for {STALL:?} in each of {ROUNDS_MAX} rounds");
}

/// By how much the latest tick of a clock came late until then.
async fn longest_stall(mut is_over: tokio::sync::oneshot::Receiver<()>) -> Duration {
    const TICK: Duration = Duration::from_millis(20);
    let mut longest = Duration::ZERO;
    loop {
        let begun = Instant::now();
        let ended = tokio::time::timeout(TICK, &mut is_over).await.is_ok();
        longest = longest.max(begun.elapsed().saturating_sub(TICK));
        if ended {
            return longest;
        }
    }
}
