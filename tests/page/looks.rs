//! What is shown of what is told, on wide and narrow screens, and to those who do not see it.

use serde_json::{Value, json};

use crate::bench::Bench;
use crate::browser::{Browser, app, button, css, row};
use crate::cases;
use crate::scene;
use crate::stage::Stage;

cases![
    an_empty_gateway_says_what_to_do,
    releases_are_shown_with_all_that_is_told_of_them,
    traffic_is_shown_since_the_last_switch_and_before_it,
    everything_that_is_wrong_is_shown,
    workloads_are_shown_with_when_they_will_sleep,
    hundreds_of_workloads_can_be_filtered,
    hostile_texts_are_text_and_nothing_else,
    what_breaks_the_content_security_policy_is_noticed,
    a_phones_width_is_enough,
    nothing_stands_in_the_way_of_assistive_technology,
];

async fn an_empty_gateway_says_what_to_do(bench: Bench, browser: Browser) {
    let stage = Stage::with(&bench, scene::empty()).await;
    browser.open(&stage.url()).await;
    browser.reads(&css("#no-applications"), "[apps.NAME]").await;
    browser.sees(&css("#no-workloads")).await;
    browser.reads(&css("#version"), "9.8.7").await;
    browser.reads(&css("#link"), "live").await;
    browser.reads(&css("#engine"), "up").await;
    browser.reads(&css("#scripts-version"), "v3").await;
    browser.sees_no(&css("#workload-table")).await;
    browser.sees_no(&css("#lost")).await;
    assert_eq!(browser.evaluate("document.title").await, "Wakegate");
}

async fn releases_are_shown_with_all_that_is_told_of_them(bench: Bench, browser: Browser) {
    let stage = Stage::with(&bench, scene::full()).await;
    browser.open(&stage.url()).await;
    let shop = app("shop");
    browser.reads(&shop.css(".door"), "open").await;
    browser.reads(&shop.css(".serving"), "r42 serves").await;
    browser
        .reads(
            &app("blog").css(".serving"),
            "1.0 serves, 1.1 is tried as a canary",
        )
        .await;
    browser
        .reads(&shop.css("footer"), "s3://releases/shop up")
        .await;
    browser
        .reads(&shop.css("footer"), "localhost:8080 unknown")
        .await;
    browser
        .reads(
            &shop.css("footer"),
            "Last: switch to r42 from r41 by ada, 21 min ago",
        )
        .await;
    for (release, told) in [
        (
            "r42",
            &[
                "current",
                "ready",
                "1 held, 2 waiting, 5 streaming, 10 upgraded",
                "17 leases",
            ][..],
        ),
        ("r43", &["candidate", "pulling", "layer 3 of 7, 12 MiB"]),
        ("r44", &["candidate", "ready", "12 s", "sleeps in 14 min"]),
        (
            "r41",
            &[
                "draining",
                "23 s left",
                "3 streaming, 2 upgraded",
                "5 leases",
            ],
        ),
        ("r40", &["kept", "stopped"]),
        ("r39", &["unclaimed", "failed", "it ended with exit code 1"]),
    ] {
        let row = row(&shop, release);
        browser
            .reads(&row, &format!("localhost:8080/shop:{release}"))
            .await;
        for text in told {
            browser.reads(&row, text).await;
        }
    }
    browser
        .counts(&row(&shop, "r43").css(".steps i.on"), 1)
        .await;
    let hash = browser
        .attribute(&row(&shop, "r42").css("code"), "title")
        .await;
    assert_eq!(hash, scene::hash("r42"));

    let failure = shop.css("details.failure");
    browser
        .reads(&failure, "r38 was not launched 2 h ago")
        .await;
    browser.click(&failure.css("summary")).await;
    browser
        .reads(&failure, "GET /status answered 503 for 30 s.")
        .await;
    browser
        .reads(&failure.css("pre"), "cannot connect to db:5432")
        .await;
}

async fn traffic_is_shown_since_the_last_switch_and_before_it(bench: Bench, browser: Browser) {
    let stage = Stage::with(&bench, scene::full()).await;
    browser.open(&stage.url()).await;
    browser.sees(&app("shop").css("table.traffic")).await;
    let lines = |app: &str| {
        let script = format!(
            "[...document.querySelectorAll('[aria-label=\"Traffic of {app}\"] tbody tr')]
               .map((row) => [...row.cells].map((cell) => cell.textContent))"
        );
        let browser = browser.clone();
        async move { browser.evaluate(&script).await }
    };
    let shop = lines("shop").await;
    let title = shop[0][0].as_str().expect("a text");
    assert!(title.starts_with("Since the last switch, "), "{title}");
    assert_eq!(
        shop[1],
        json!([
            "all releases",
            "18,755",
            "10",
            "18,311",
            "120",
            "310",
            "4",
            "4 (0.02 %)",
            "3.1 ms",
            "15 ms",
            "2.1 s",
            "17.9 MiB",
            "1.2 GiB"
        ])
    );
    assert_eq!(shop[2][0], "r42");
    assert_eq!(shop[3][0], "r41");
    assert_eq!(shop[3][1], "311");
    assert_eq!(shop[4][0], "Before that");
    // One release did everything: there is no line for all.
    assert_eq!(
        shop[5],
        json!([
            "r41",
            "215K",
            "0",
            "210K",
            "1,500",
            "3,201",
            "310",
            "310 (0.14 %) 2 not connected, 3 turned over to the current release",
            "3.1 ms",
            "15 ms",
            "2.1 s",
            "205 MiB",
            "14.0 GiB"
        ])
    );
    let blog = lines("blog").await;
    let title = blog[0][0].as_str().expect("a text");
    assert!(title.starts_with("Since the gateway's start, "), "{title}");
    assert_eq!(blog.as_array().map(Vec::len), Some(4), "{blog}");

    // A gateway that began after the switch has counted from its start only.
    stage.change(|status| {
        let shop = scene::app(status, "shop");
        status["apps"][shop]["counted_since"] = json!(scene::ago(60));
    });
    browser
        .reads(
            &app("shop").css("table.traffic"),
            "Since the gateway's start",
        )
        .await;

    // How many come in a second is counted by the page.
    browser
        .reads(&app("shop").css(".pulse"), "0 requests/s")
        .await;
    stage.change(|status| {
        let shop = scene::app(status, "shop");
        status["apps"][shop]["since_last_switch"]["requests"] = json!(40_000);
    });
    browser
        .until("Number(document.querySelectorAll('.pulse strong')[1].textContent.replace(',', '')) > 1000")
        .await;
}

async fn everything_that_is_wrong_is_shown(bench: Bench, browser: Browser) {
    let stage = Stage::with(&bench, scene::troubled()).await;
    stage.answers(
        "GET /scripts",
        200,
        scene::with(
            scene::scripts(),
            json!({ "refused": { "at": "2026-01-02T03:04:05Z", "errors": [
                { "file": "shop.rhai", "line": 7, "column": 5, "message": "there is no function proxi", "excerpt": "  proxi(name)\n  ^" }
            ] } }),
        ),
    );
    browser.open(&stage.url()).await;
    browser
        .reads(&css("#engine-away"), "docker.sock: connection refused")
        .await;
    browser.reads(&css("#engine"), "away").await;
    let shop = app("shop");
    browser.reads(&shop.css(".door"), "paused").await;
    for alert in [
        "Paused: requests are held",
        "tried 4 times: No route to host.",
        "20 of 20 requests failed on the new release. Going back failed: Release 7233385f did not get healthy: it exited with code 1.",
        "The store does not answer: s3://releases: no route to host.",
    ] {
        browser.sees(&shop.css(".alerts li").having(alert)).await;
    }
    browser
        .reads(&shop.css("footer"), "s3://releases/shop down")
        .await;
    let blog = app("blog");
    browser
        .reads(&blog.css(".serving"), "No release is current.")
        .await;
    for alert in [
        "current.json names a release that cannot be read.",
        "The registry does not answer: Connection refused.",
    ] {
        browser.sees(&blog.css(".alerts li").having(alert)).await;
    }
    browser
        .reads(&css("#scripts-version"), "v3, refused change")
        .await;
    browser
        .reads(
            &css("#scripts-view"),
            "shop.rhai:7:5: there is no function proxi",
        )
        .await;
    browser
        .reads(&css("#scripts-view pre"), "proxi(name)")
        .await;
    let title = browser.evaluate("document.title").await;
    assert_eq!(title, "6 problems · Wakegate");

    // And it is gone when it is.
    stage.change(|status| *status = scene::full());
    browser.sees_no(&css("#engine-away")).await;
    browser.counts(&css(".alerts li[data-tone=bad]"), 0).await;
    assert_eq!(browser.evaluate("document.title").await, "Wakegate");
}

async fn workloads_are_shown_with_when_they_will_sleep(bench: Bench, browser: Browser) {
    let stage = Stage::with(&bench, scene::full()).await;
    browser.open(&stage.url()).await;
    let list = css("#workloads");
    for (name, told) in [
        (
            "hello-1",
            &[
                "ready",
                "for 42 s",
                "41 s",
                "sleeps in 19 s",
                "172.18.0.20:9000",
                "hello:latest",
            ][..],
        ),
        ("hello-2", &["stopped", "for 2 h 2 min"]),
        ("hello-3", &["starting", "4 held"]),
        (
            "hello-4",
            &["failed", "the container ended with exit code 1"],
        ),
        ("hello-5", &["1 min 40 s", "never sleeps"]),
    ] {
        for text in told {
            browser.reads(&row(&list, name), text).await;
        }
    }
    // Only what can be woken has a button for it.
    for (name, sleeps) in [
        ("hello-1", false),
        ("hello-2", true),
        ("hello-3", false),
        ("hello-4", true),
    ] {
        let wake = button(&format!("Wake {name}"));
        match sleeps {
            true => browser.sees(&wake).await,
            false => browser.sees_no(&wake).await,
        };
        browser.sees(&button(&format!("Remove {name}"))).await;
    }
    browser
        .reads(&css("#totals"), "6 ready, 2 asleep, 4 other")
        .await;
    let width = "document.querySelector('#workload-table tbody:nth-of-type(1)') && getComputedStyle([...document.querySelectorAll('#workload-table tbody')].find((row) => row.textContent.includes('hello-1')).querySelector('.ahead b')).width !== '0px'";
    assert_eq!(browser.evaluate(width).await, true);
}

async fn hundreds_of_workloads_can_be_filtered(bench: Bench, browser: Browser) {
    let mut status = scene::empty();
    let names = (0..300).map(|number| format!("hello-{number:03}"));
    let workloads = names.map(|name| scene::workload(&name, "stopped"));
    status["workloads"] = workloads.collect();
    let stage = Stage::with(&bench, status).await;
    browser.open(&stage.url()).await;
    let rows = css("#workload-table tbody");
    browser.counts(&rows, 300).await;
    browser
        .fill(
            &crate::browser::Place::default().label("Filter"),
            "hello-27 stopped",
        )
        .await;
    browser.counts(&rows, 10).await;
    browser.reads(&css("#workload-count"), "10 of 300").await;
    // What comes meanwhile is filtered too.
    stage.change(|status| status["workloads"][271]["phase"] = json!("ready"));
    browser.counts(&rows, 9).await;
    browser
        .fill(&crate::browser::Place::default().label("Filter"), "no such")
        .await;
    browser.sees(&css("#no-matches")).await;
    browser
        .fill(&crate::browser::Place::default().label("Filter"), "")
        .await;
    browser.counts(&rows, 300).await;
    browser
        .reads(&row(&css("#workloads"), "hello-271"), "ready")
        .await;
}

async fn hostile_texts_are_text_and_nothing_else(bench: Bench, browser: Browser) {
    const HOSTILE: &str = "<img src=x onerror=\"complain('run')\"></pre></table><script>complain('run')</script>\"'&lt;";
    let mut status = scene::troubled();
    scene::hostile(&mut status, HOSTILE);
    let stage = Stage::with(&bench, status).await;
    let mut scripts = scene::scripts();
    scripts["refused"] = json!({ "at": "then", "errors": [{ "file": "f", "line": 1, "column": 1, "message": "m", "excerpt": "e" }] });
    scene::hostile(&mut scripts, HOSTILE);
    stage.answers("GET /scripts", 200, scripts);
    let refusal = json!({ "title": HOSTILE, "detail": HOSTILE, "errors": [{ "field": HOSTILE, "message": HOSTILE }], "log": [HOSTILE] });
    for what in ["POST /rollback", "POST /switch", "POST /launch"] {
        stage.answers(what, 422, refusal.clone());
    }
    browser.open(&stage.url()).await;
    browser.counts(&css("section.app"), 2).await;
    browser.reads(&css("#scripts-view"), HOSTILE).await;
    // Everything that was sent is there to be read.
    for place in [
        "h3",
        ".app tbody[role=rowgroup] strong",
        ".app tbody small",
        ".alerts li",
        ".failure summary",
        "footer code",
        "#workload-table strong",
        "#workload-table .role",
        "table.traffic tbody th",
        "#engine-away",
        "#version",
    ] {
        let script = format!(
            "[...document.querySelectorAll({place:?})].some((element) => element.textContent.includes({HOSTILE:?}))"
        );
        assert_eq!(browser.evaluate(&script).await, true, "{place}");
    }
    // Also in what is asked and answered.
    browser
        .click(&css(".app > header button:visible").having("Roll back to"))
        .await;
    browser.reads(&css("#confirm h2"), HOSTILE).await;
    browser.click(&css("#confirm [value=yes]")).await;
    browser.reads(&css(".trouble[role=alert]"), HOSTILE).await;
    browser
        .reads(&css(".trouble[role=alert] li"), HOSTILE)
        .await;
    browser
        .reads(&css(".trouble[role=alert] pre"), HOSTILE)
        .await;
    // The page has the elements of its own file and of its script, and no other.
    let foreign = browser
        .evaluate("document.querySelectorAll('img[src=x], [onerror], body script, script:not([src])').length")
        .await;
    assert_eq!(foreign, 0);
}

/// The watch over the page would see it if there were something.
async fn what_breaks_the_content_security_policy_is_noticed(bench: Bench, browser: Browser) {
    let stage = Stage::with(&bench, scene::full()).await;
    browser.open(&stage.url()).await;
    browser.counts(&css("section.app"), 2).await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    for (doing, refused) in [
        (
            "void document.body.append(Object.assign(document.createElement('img'), { src: 'data:image/gif,' }))",
            "img-src",
        ),
        (
            "void document.body.setAttribute('style', 'color: red')",
            "style-src",
        ),
        (
            "void fetch('http://127.0.0.1:9/').catch(() => {})",
            "connect-src",
        ),
        (
            "(() => { try { document.body.innerHTML = '<p>'; } catch { } })()",
            "require-trusted-types-for",
        ),
        (
            "(() => { const script = document.createElement('script'); try { script.text = 'complain(1)'; } catch { } })()",
            "require-trusted-types-for",
        ),
    ] {
        browser.evaluate(doing).await;
        let mut complaints = Vec::new();
        while !complaints
            .iter()
            .any(|told: &String| told.contains(refused))
        {
            complaints.extend(browser.complaints().await);
            tokio::task::yield_now().await;
        }
    }
    // They are told twice, by the document and on the console.
    browser.evaluate("void 0").await;
    browser.complaints().await;
    browser.open(&stage.url()).await;
    browser.complaints().await;
}

async fn a_phones_width_is_enough(bench: Bench, browser: Browser) {
    let mut status = scene::troubled();
    status["workloads"][0]["image"] = json!(format!("registry.example/{}", "long".repeat(40)));
    let stage = Stage::with(&bench, status).await;
    let phone = json!({ "width": 360, "height": 740 });
    browser.open_with(&stage.url(), phone).await;
    browser.counts(&css("section.app"), 2).await;
    for summary in ["Launch a release", "History"] {
        browser
            .click(&app("shop").css("summary").having(summary))
            .await;
    }
    // Nothing but the tables of numbers goes beyond the edge, and these scroll by themselves.
    let beyond = browser
        .evaluate(
            "[...document.querySelectorAll('body *')]
               .filter((element) => element.getBoundingClientRect().right > innerWidth + 1
                 && !element.closest('.table, .unseen, .skip') && element.checkVisibility())
               .map((element) => element.outerHTML.slice(0, 80))",
        )
        .await;
    assert_eq!(beyond, json!([]));
    assert_eq!(
        browser
            .evaluate("document.documentElement.scrollWidth")
            .await,
        360
    );
    // What belongs to a value is said before it, and a finger hits every button.
    browser.sees(&row(&app("shop"), "r42")).await;
    let label = browser
        .evaluate("getComputedStyle(document.querySelector('.stacks td[data-label=Phase]'), '::before').content")
        .await;
    assert_eq!(label, "\"Phase\"");
    let low = browser
        .evaluate(
            "[...document.querySelectorAll('button')].filter((button) => button.checkVisibility())
               .map((button) => button.getBoundingClientRect().height).filter((height) => height < 28).length",
        )
        .await;
    assert_eq!(low, 0);
}

/// axe-core's rules, on every scene, light and dark, wide and narrow.
async fn nothing_stands_in_the_way_of_assistive_technology(bench: Bench, browser: Browser) {
    let stage = Stage::with(&bench, scene::empty()).await;
    for (scene, apps) in [
        (scene::empty(), 0),
        (scene::full(), 2),
        (scene::troubled(), 2),
    ] {
        stage.change(|status| *status = scene);
        for (scheme, width) in [("light", 1280), ("dark", 1280), ("light", 390)] {
            let look = json!({ "width": width, "height": 900, "scheme": scheme });
            browser.open_with(&stage.url(), look).await;
            browser.counts(&css("section.app"), apps).await;
            browser.reads(&css("#link"), "live").await;
            let found: Value = browser.axe().await;
            assert_eq!(found, json!([]), "{scheme}, {width}");
        }
    }
    browser
        .click(&app("shop").button("Roll back to r41, shop"))
        .await;
    browser.sees(&css("#confirm")).await;
    assert_eq!(browser.axe().await, json!([]), "with a question");
}
