//! Somebody reads the page while it changes: what they are at stays where it is.

use serde_json::{Value, json};

use crate::bench::Bench;
use crate::browser::{Browser, app, button, css, row};
use crate::cases;
use crate::scene;
use crate::stage::Stage;

cases![
    the_focus_and_what_is_open_stay_when_rows_move,
    a_button_that_is_of_no_use_any_more_goes_when_the_focus_has_left_it,
    the_focus_goes_to_the_heading_when_its_row_is_gone,
    a_selection_stays_while_the_numbers_change,
    changes_are_told_to_those_who_do_not_see_them,
    everything_can_be_reached_by_keyboard,
];

async fn shown(bench: &Bench, browser: &Browser) -> Stage {
    let stage = Stage::with(bench, scene::full()).await;
    browser.open(&stage.url()).await;
    browser.counts(&css("section.app"), 2).await;
    stage
}

fn change_shop(stage: &Stage, change: impl FnOnce(&mut Value)) {
    stage.change(|status| {
        let shop = scene::app(status, "shop");
        change(&mut status["apps"][shop]);
    });
}

async fn the_focus_and_what_is_open_stay_when_rows_move(bench: Bench, browser: Browser) {
    let stage = shown(&bench, &browser).await;
    let launch = button("Switch r40 of shop");
    browser
        .click(&app("shop").css("summary").having("Launch a release"))
        .await;
    browser
        .fill(&app("shop").css("textarea"), "{\"half\": ")
        .await;
    browser.focus(&launch).await;
    browser
        .evaluate("void (document.activeElement.mark = 1)")
        .await;
    // The applications and the releases come in another order, and one is new.
    stage.change(|status| {
        let shop = scene::app(status, "shop");
        let releases = status["apps"][shop]["releases"]
            .as_array_mut()
            .expect("releases");
        releases.reverse();
        let mut new = releases[0].clone();
        new["hash"] = json!(scene::hash("r45"));
        new["revision"] = json!("r45");
        releases.insert(0, new);
        status["apps"]
            .as_array_mut()
            .expect("applications")
            .reverse();
    });
    browser.sees(&row(&app("shop"), "r45")).await;
    browser.has_focus(&launch).await;
    assert_eq!(browser.evaluate("document.activeElement.mark").await, 1);
    let text = browser
        .evaluate("document.querySelector('details[open] textarea').value")
        .await;
    assert_eq!(text, "{\"half\": ");
    let order = browser
        .evaluate(
            "[...document.querySelectorAll('h3')].map((title) => title.firstChild.textContent)",
        )
        .await;
    assert_eq!(order, json!(["shop", "blog"]));
}

async fn a_button_that_is_of_no_use_any_more_goes_when_the_focus_has_left_it(
    bench: Bench,
    browser: Browser,
) {
    let stage = shown(&bench, &browser).await;
    let wake = button("Wake hello-2");
    browser.focus(&wake).await;
    let set_phase = |phase: &str| {
        stage.change(|status| {
            let workloads = status["workloads"].as_array_mut().expect("workloads");
            let found = workloads.iter_mut().find(|view| view["name"] == "hello-2");
            found.expect("it is there")["phase"] = json!(phase);
        });
    };
    set_phase("ready");
    browser
        .reads(&row(&css("#workloads"), "hello-2"), "ready")
        .await;
    browser.has_focus(&wake).await;
    assert_eq!(browser.attribute(&wake, "aria-disabled").await, "true");
    browser.press("Enter").await;
    browser.press("Tab").await;
    browser.sees_no(&wake).await;
    assert_eq!(stage.asked(), []);
    // It is back when it is of use again.
    set_phase("stopped");
    browser.sees(&wake).await;
    assert_eq!(browser.attribute(&wake, "aria-disabled").await, Value::Null);
}

async fn the_focus_goes_to_the_heading_when_its_row_is_gone(bench: Bench, browser: Browser) {
    let stage = shown(&bench, &browser).await;
    browser.focus(&button("Switch r40 of shop")).await;
    change_shop(&stage, |shop| {
        let releases = shop["releases"].as_array_mut().expect("releases");
        releases.retain(|release| release["revision"] != "r40");
    });
    browser.sees_no(&row(&app("shop"), "r40")).await;
    browser.has_focus(&app("shop").css("h3")).await;
}

async fn a_selection_stays_while_the_numbers_change(bench: Bench, browser: Browser) {
    let stage = shown(&bench, &browser).await;
    browser
        .evaluate(
            "getSelection().selectAllChildren([...document.querySelectorAll('.app strong')]
               .find((element) => element.textContent === 'r42'))",
        )
        .await;
    assert_eq!(browser.evaluate("String(getSelection())").await, "r42");
    change_shop(&stage, |shop| {
        shop["since_last_switch"]["requests"] = json!(18_999)
    });
    browser
        .reads(&app("shop").css("table.traffic"), "18,999")
        .await;
    assert_eq!(browser.evaluate("String(getSelection())").await, "r42");
}

async fn changes_are_told_to_those_who_do_not_see_them(bench: Bench, browser: Browser) {
    let stage = shown(&bench, &browser).await;
    let told = css("#announcements");
    assert_eq!(browser.attribute(&told, "aria-live").await, "polite");
    // What was there from the beginning is no news.
    assert_eq!(browser.text(&told).await, "");
    change_shop(&stage, |shop| shop["door"] = json!("maintenance"));
    browser.reads(&told, "shop is maintenance").await;
    change_shop(&stage, |shop| {
        shop["current"] = json!(scene::hash("r44"));
        shop["releases"][0]["role"] = json!("draining");
        shop["releases"][0]["phase"] = json!("draining");
        shop["releases"][2]["role"] = json!("current");
    });
    browser.reads(&told, "shop: r44 is current").await;
    stage.change(|status| {
        let workloads = status["workloads"].as_array_mut().expect("workloads");
        let found = workloads.iter_mut().find(|view| view["name"] == "hello-3");
        found.expect("it is there")["phase"] = json!("ready");
    });
    browser.reads(&told, "hello-3 is ready").await;
    change_shop(&stage, |shop| {
        let mut failed = shop["failed_launches"][0].clone();
        failed["revision"] = json!("r46");
        failed["hash"] = json!(scene::hash("r46"));
        shop["failed_launches"]
            .as_array_mut()
            .expect("a list")
            .insert(0, failed);
    });
    browser.reads(&told, "shop: r46 was not launched").await;
}

async fn everything_can_be_reached_by_keyboard(bench: Bench, browser: Browser) {
    let _stage = shown(&bench, &browser).await;
    browser.press("Tab").await;
    browser.has_focus(&css(".skip")).await;
    let wanted = browser
        .evaluate(
            "[...document.querySelectorAll('button, summary, input')]
               .filter((element) => element.checkVisibility()).length",
        )
        .await;
    browser
        .evaluate(
            "void (window.reached = new Set(), document.addEventListener('focusin', (event) => {
               if (event.target.matches('button, summary, input')) window.reached.add(event.target);
             }))",
        )
        .await;
    for _ in 0..200 {
        browser.press("Tab").await;
        if browser.evaluate("window.reached.size").await == wanted {
            return;
        }
    }
    let reached = browser.evaluate("window.reached.size").await;
    panic!("{reached} of {wanted} can be reached");
}
