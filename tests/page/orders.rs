//! What the buttons order, what they ask before, and what they tell after.

use serde_json::{Value, json};

use crate::bench::Bench;
use crate::browser::{Browser, Place, app, button, css, row};
use crate::cases;
use crate::scene;
use crate::stage::{Asked, Stage};

cases![
    every_button_orders_what_it_says,
    a_launch_configuration_is_stored_launched_and_switched_to,
    what_cannot_be_undone_is_asked_about_once,
    a_question_can_be_answered_by_keyboard,
    a_refusal_is_told_where_the_button_is,
    a_button_is_busy_until_its_order_is_carried_out,
    the_history_is_read_when_it_is_wanted,
    scripts_can_be_gone_back_to_and_let_decide,
];

const JSON: Option<&str> = Some("application/json");

fn asked(what: &str, body: Value) -> Asked {
    Asked {
        what: what.to_owned(),
        content_type: JSON.map(str::to_owned),
        body: body.to_string(),
    }
}

/// An order without a body.
fn bare(what: &str) -> Asked {
    Asked {
        what: what.to_owned(),
        content_type: None,
        body: String::new(),
    }
}

async fn shown(bench: &Bench, browser: &Browser) -> Stage {
    let stage = Stage::with(bench, scene::full()).await;
    browser.open(&stage.url()).await;
    browser.counts(&css("section.app"), 2).await;
    stage
}

async fn every_button_orders_what_it_says(bench: Bench, browser: Browser) {
    let stage = shown(&bench, &browser).await;
    stage.change(|status| {
        let shop = scene::app(status, "shop");
        status["apps"][shop]["releases"][4]["phase"] = json!("absent");
        let blog = scene::app(status, "blog");
        status["apps"][blog]["door"] = json!("paused");
    });
    browser.sees(&button("Resume blog")).await;
    let by = "status page";
    let switch = |app: &str, revision: &str, more: Value| {
        scene::with(json!({ "app": app, "hash": scene::hash(revision) }), more)
    };
    let orders = [
        ("Pause shop", asked("POST /apps/shop/pause", json!({}))),
        ("Resume blog", asked("POST /apps/blog/resume", json!({}))),
        (
            "Maintenance of shop",
            asked("POST /maintenance/up", json!({ "app": "shop" })),
        ),
        (
            "Maintenance of all",
            asked("POST /maintenance/up", json!({})),
        ),
        (
            "Roll back to r41, shop",
            asked(
                "POST /rollback",
                json!({ "app": "shop", "by": by, "from": scene::hash("r42") }),
            ),
        ),
        (
            "Give up canary, blog",
            asked("POST /rollback", json!({ "app": "blog", "by": by })),
        ),
        (
            "Launch r40 of shop",
            asked("POST /launch", switch("shop", "r40", json!({}))),
        ),
        (
            "Discard r44 of shop",
            asked("POST /discard", switch("shop", "r44", json!({}))),
        ),
        (
            "Switch r44 of shop",
            asked("POST /switch", switch("shop", "r44", json!({ "by": by }))),
        ),
        (
            "Canary r44 of shop",
            asked(
                "POST /switch",
                switch("shop", "r44", json!({ "canary": true, "by": by })),
            ),
        ),
        (
            "Switch 1.1 of blog",
            asked("POST /switch", switch("blog", "1.1", json!({ "by": by }))),
        ),
        ("Wake hello-2", bare("PUT /deploy/hello-2?wait=ready")),
        ("Remove hello-1", bare("DELETE /deploy/hello-1")),
    ];
    let mut expected = Vec::new();
    for (name, order) in orders {
        browser.click(&button(name)).await;
        let asks = browser
            .evaluate("document.getElementById('confirm').open")
            .await;
        if asks == true {
            browser.click(&css("#confirm [value=yes]")).await;
        }
        expected.push(order);
        crate::bench::until(name, || async {
            (stage.asked().len() == expected.len()).then_some(())
        })
        .await;
        let got = stage.asked().pop().expect("an order");
        let want = expected.last().expect("an order");
        assert_eq!(
            (&got.what, &got.content_type),
            (&want.what, &want.content_type),
            "{name}"
        );
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        assert_eq!(json(&got.body), json(&want.body), "{name}");
        browser.counts(&css("button[aria-busy]"), 0).await;
        if name == "Roll back to r41, shop" {
            // It goes away by itself some seconds later.
            let told = app("shop").css("> .slot .note");
            browser.reads(&told, "r9 is current.").await;
        }
    }
    // While it is closed, the way back is what there is.
    stage.change(|status| {
        let shop = scene::app(status, "shop");
        status["apps"][shop]["door"] = json!("maintenance");
    });
    browser.sees_no(&button("Pause shop")).await;
    browser.click(&button("End the maintenance of shop")).await;
    let last = stage.has_been_asked("POST /maintenance/down").await;
    assert_eq!(last.body, r#"{"app":"shop"}"#);
    browser.click(&button("End maintenance of all")).await;
    crate::bench::until("all are opened", || async {
        let asked = stage.asked();
        let opened = asked.iter().filter(|order| order.what == last.what);
        (opened.count() == 2).then_some(())
    })
    .await;
    assert_eq!(stage.asked().pop().expect("an order").body, "{}");
}

async fn a_launch_configuration_is_stored_launched_and_switched_to(bench: Bench, browser: Browser) {
    const CONFIGURATION: &str = "{\n  \"image\": \"hello:2\",\n  \"revision\": \"r50\"\n}";
    let stage = shown(&bench, &browser).await;
    let release = json!({ "app": "shop", "hash": scene::hash("r50"), "revision": "r50" });
    let more = |fields: Value| scene::with(release.clone(), fields);
    stage.answers(
        "POST /apps/shop/releases",
        201,
        more(json!({ "warnings": ["HostConfig.Binds: not carried out"] })),
    );
    stage.answers(
        "POST /launch",
        200,
        more(json!({ "existing": false, "took_ms": 2300, "warnings": [] })),
    );
    stage.answers(
        "POST /switch",
        200,
        more(json!({ "unchanged": false, "pending": true })),
    );
    let shop = app("shop");
    browser
        .click(&shop.css("summary").having("Launch a release"))
        .await;
    browser
        .fill(&shop.label("Launch configuration (JSON)"), CONFIGURATION)
        .await;
    browser
        .click(&button("Store this configuration for shop"))
        .await;
    browser.reads(&shop.css(".note"), "r50 is stored as").await;
    browser
        .reads(&shop.css(".note"), "HostConfig.Binds: not carried out")
        .await;
    // Byte for byte: its hash is that of what was written.
    let stored = stage.has_been_asked("POST /apps/shop/releases").await;
    assert_eq!(
        (stored.body.as_str(), stored.content_type.as_deref()),
        (CONFIGURATION, JSON)
    );

    browser.click(&button("Launch r50 of shop now")).await;
    browser
        .reads(&shop.css(".note"), "r50 is healthy after 2 s.")
        .await;
    let launched = stage.has_been_asked("POST /launch").await;
    assert_eq!(
        launched,
        asked(
            "POST /launch",
            json!({ "app": "shop", "hash": scene::hash("r50") })
        )
    );

    browser.click(&button("Switch shop to r50 now")).await;
    browser.click(&css("#confirm [value=yes]")).await;
    browser
        .reads(&shop.css(".note"), "The store has not taken it yet")
        .await;
    let switched = stage.has_been_asked("POST /switch").await;
    let body: Value = serde_json::from_str(&switched.body).expect("JSON");
    assert_eq!(
        body,
        json!({ "app": "shop", "hash": scene::hash("r50"), "by": "status page" })
    );
}

async fn what_cannot_be_undone_is_asked_about_once(bench: Bench, browser: Browser) {
    let stage = shown(&bench, &browser).await;
    for (name, title) in [
        ("Maintenance of shop", "Close shop for maintenance?"),
        (
            "Maintenance of all",
            "Close all applications for maintenance?",
        ),
        ("Roll back to r41, shop", "Roll shop back to r41?"),
        ("Give up canary, blog", "Give up the canary of blog?"),
        ("Switch r40 of shop", "Switch shop to r40?"),
        ("Canary r40 of shop", "Try r40 as a canary of shop?"),
        ("Remove hello-1", "Remove hello-1?"),
    ] {
        browser.click(&button(name)).await;
        browser.reads(&css("#confirm h2"), title).await;
        browser.has_focus(&css("#confirm").button("Cancel")).await;
        browser.click(&css("#confirm").button("Cancel")).await;
        browser.sees_no(&css("#confirm")).await;
        browser.has_focus(&button(name)).await;
    }
    let release = scene::hash("r42");
    let workload = format!("shop-r42-{}", &release[..8]);
    browser.click(&button(&format!("Remove {workload}"))).await;
    browser
        .reads(&css("#confirm p"), "It is a release of shop.")
        .await;
    browser.press("Escape").await;
    browser.sees_no(&css("#confirm")).await;
    assert_eq!(stage.asked(), []);
    browser.click(&button("Remove hello-1")).await;
    browser.click(&css("#confirm [value=yes]")).await;
    stage.has_been_asked("DELETE /deploy/hello-1").await;
}

async fn a_question_can_be_answered_by_keyboard(bench: Bench, browser: Browser) {
    let stage = shown(&bench, &browser).await;
    let back = button("Roll back to r41, shop");
    browser.focus(&back).await;
    browser.press("Enter").await;
    browser.has_focus(&css("#confirm").button("Cancel")).await;
    browser.press("Enter").await;
    browser.sees_no(&css("#confirm")).await;
    browser.has_focus(&back).await;
    assert_eq!(stage.asked(), []);
    browser.press("Space").await;
    browser.has_focus(&css("#confirm").button("Cancel")).await;
    browser.press("Tab").await;
    browser
        .has_focus(&css("#confirm").button("Roll back"))
        .await;
    browser.press("Enter").await;
    stage.has_been_asked("POST /rollback").await;
    browser.has_focus(&back).await;
}

async fn a_refusal_is_told_where_the_button_is(bench: Bench, browser: Browser) {
    let stage = shown(&bench, &browser).await;
    let refusal = |detail: &str, more: Value| {
        scene::with(
            json!({ "type": "about:blank", "title": "No", "status": 422, "kind": "x", "detail": detail }),
            more,
        )
    };
    stage.answers(
        "POST /apps/shop/pause",
        503,
        refusal("the gateway is busy", json!({})),
    );
    stage.answers(
        "PUT /deploy/hello-2?wait=ready",
        503,
        refusal(
            "hello-2 does not get ready",
            json!({ "log": ["line one", "line two"] }),
        ),
    );
    stage.answers(
        "POST /switch",
        409,
        refusal("another change is under way", json!({})),
    );
    let errors = json!({ "errors": [
        { "field": "image", "message": "is missing" },
        { "field": "", "message": "it is not JSON", "line": 3, "column": 7 },
    ] });
    stage.answers(
        "POST /apps/shop/releases",
        422,
        refusal("not usable", errors),
    );
    let shop = app("shop");

    browser.click(&button("Pause shop")).await;
    browser
        .reads(&shop.css("> .slot [role=alert]"), "The gateway is busy.")
        .await;

    let hello = row(&css("#workloads"), "hello-2");
    browser.click(&button("Wake hello-2")).await;
    browser
        .reads(&hello.css("[role=alert]"), "hello-2 does not get ready.")
        .await;
    browser
        .reads(&hello.css("[role=alert] pre"), "line one\nline two")
        .await;

    browser.click(&button("Switch r44 of shop")).await;
    browser.click(&css("#confirm [value=yes]")).await;
    browser
        .reads(
            &row(&shop, "r44").css("[role=alert]"),
            "Another change is under way.",
        )
        .await;

    browser
        .click(&shop.css("summary").having("Launch a release"))
        .await;
    browser
        .click(&button("Store this configuration for shop"))
        .await;
    let told = shop.css(".form [role=alert] li");
    browser
        .reads(&told.having("image"), "image: is missing")
        .await;
    browser
        .reads(
            &told.having("not JSON"),
            "it is not JSON (line 3, column 7)",
        )
        .await;

    // It stays through statuses, until it is dismissed or the button is pressed again.
    stage.change(|status| status["version"] = json!("9.8.8"));
    browser.reads(&css("#version"), "9.8.8").await;
    browser.sees(&hello.css("[role=alert]")).await;
    browser.click(&hello.button("Dismiss this message")).await;
    browser.sees_no(&hello.css("[role=alert]")).await;
    stage.answers("POST /apps/shop/pause", 200, json!([]));
    browser.click(&button("Pause shop")).await;
    browser.sees_no(&shop.css("> .slot [role=alert]")).await;
}

async fn a_button_is_busy_until_its_order_is_carried_out(bench: Bench, browser: Browser) {
    let stage = shown(&bench, &browser).await;
    stage.stall(true);
    let pause = button("Pause shop");
    browser.click(&pause).await;
    stage.has_been_asked("POST /apps/shop/pause").await;
    assert_eq!(browser.attribute(&pause, "aria-busy").await, "true");
    // Once is enough; other buttons can be used meanwhile.
    browser.click(&pause).await;
    browser.click(&button("Pause blog")).await;
    stage.has_been_asked("POST /apps/blog/pause").await;
    let orders: Vec<String> = stage.asked().into_iter().map(|asked| asked.what).collect();
    assert_eq!(orders, ["POST /apps/shop/pause", "POST /apps/blog/pause"]);
    stage.stall(false);
    browser.counts(&css("button[aria-busy]"), 0).await;
}

async fn the_history_is_read_when_it_is_wanted(bench: Bench, browser: Browser) {
    let stage = shown(&bench, &browser).await;
    let entry = |revision: &str, kind: &str| json!({ "revision": revision, "hash": scene::hash(revision), "at": "2026-01-02T03:04:05Z", "by": "ada", "kind": kind });
    let history = |entries: Vec<Value>| json!({ "app": "shop", "history": entries });
    let first = vec![entry("r40", "switch"), entry("r41", "rollback")];
    stage.answers("GET /apps/shop/history", 200, history(first.clone()));
    let shop = app("shop");
    let rows = Place::default()
        .role("region", "History of shop")
        .css("tbody");
    browser.counts(&rows, 0).await;
    browser.click(&shop.css("summary").having("History")).await;
    browser.counts(&rows, 2).await;
    // The newest is on top.
    browser
        .reads(&rows.css(":scope:first-of-type"), "r41")
        .await;
    browser.reads(&rows.having("r41"), "rollback").await;
    browser.reads(&rows.having("r40"), "ada").await;
    // After a switch it is read again.
    stage.answers(
        "GET /apps/shop/history",
        200,
        history([first, vec![entry("r44", "switch")]].concat()),
    );
    stage.change(|status| {
        let shop = scene::app(status, "shop");
        status["apps"][shop]["last_switch"]["hash"] = json!(scene::hash("r44"));
    });
    browser.counts(&rows, 3).await;
    browser.click(&button("Launch r40 of shop again")).await;
    let launched = stage.has_been_asked("POST /launch").await;
    assert_eq!(
        launched,
        asked(
            "POST /launch",
            json!({ "app": "shop", "hash": scene::hash("r40") })
        )
    );
}

async fn scripts_can_be_gone_back_to_and_let_decide(bench: Bench, browser: Browser) {
    let stage = shown(&bench, &browser).await;
    let back = scene::with(
        scene::scripts(),
        json!({ "version": 2, "rolled_back": true }),
    );
    stage.answers("POST /scripts/rollback", 200, back);
    stage.answers("POST /scripts/activate", 200, scene::scripts());
    browser.click(&button("Go back to v2")).await;
    browser
        .reads(&css("#confirm h2"), "Go back to version 2 of the scripts?")
        .await;
    browser.click(&css("#confirm [value=yes]")).await;
    browser
        .reads(&css("#scripts-version"), "v2, rolled back")
        .await;
    let order = stage.has_been_asked("POST /scripts/rollback").await;
    assert_eq!(
        order,
        asked("POST /scripts/rollback", json!({ "version": 2 }))
    );
    browser.click(&button("End the rollback")).await;
    browser.reads(&css("#scripts-version"), "v3").await;
    stage.has_been_asked("POST /scripts/activate").await;
}
