//! The stream that the page lives on: in pieces, silent, hidden.

use serde_json::json;

use crate::bench::Bench;
use crate::browser::{Browser, css};
use crate::cases;
use crate::scene;
use crate::stage::{Stage, Style};

cases![
    a_status_in_pieces_is_read,
    a_silent_stream_is_given_up_and_opened_again,
    a_tab_that_nobody_sees_gives_its_stream_back,
];

async fn a_status_in_pieces_is_read(bench: Bench, browser: Browser) {
    let mut status = scene::empty();
    // So that characters of several bytes are cut as well.
    status["version"] = json!("ä€😀 9.8.7");
    let stage = Stage::with(&bench, status).await;
    for bytes in [1, 2, 3, 7, 1000] {
        stage.style(Style::Pieces(bytes));
        browser.open(&stage.url()).await;
        browser.reads(&css("#version"), "ä€😀 9.8.7").await;
        browser.reads(&css("#link"), "live").await;
    }
    stage.change(|status| status["version"] = json!("9.9"));
    browser.reads(&css("#version"), "9.9").await;
}

async fn a_silent_stream_is_given_up_and_opened_again(bench: Bench, browser: Browser) {
    let stage = Stage::with(&bench, scene::empty()).await;
    stage.style(Style::Silent);
    browser
        .open_with(&stage.url(), json!({ "clock": true }))
        .await;
    browser.reads(&css("#link"), "live").await;
    stage.change(|status| status["version"] = json!("unseen"));
    // The gateway would have sent something by now.
    browser.forward(41_000).await;
    browser.reads(&css("#lost"), "What you see is of").await;
    stage.style(Style::Whole);
    browser.reads(&css("#version"), "unseen").await;
    browser.sees_no(&css("#lost")).await;
}

/// A browser has few connections for each address, and every tab holds one.
async fn a_tab_that_nobody_sees_gives_its_stream_back(bench: Bench, browser: Browser) {
    let stage = Stage::with(&bench, scene::empty()).await;
    let look = json!({ "clock": true });
    browser.open_with(&stage.url(), look).await;
    browser.reads(&css("#link"), "live").await;
    stage.has_streams(1).await;
    let seen = |seen: bool| {
        let script = format!(
            "void (Object.defineProperty(document, 'hidden', {{ get: () => {}, configurable: true }}),
               document.dispatchEvent(new Event('visibilitychange')))",
            !seen
        );
        let browser = browser.clone();
        async move { browser.evaluate(&script).await }
    };
    // A short look at another tab costs nothing.
    seen(false).await;
    browser.forward(20_000).await;
    seen(true).await;
    browser.forward(20_000).await;
    stage.change(|status| status["version"] = json!("9.8.8"));
    browser.reads(&css("#version"), "9.8.8").await;
    seen(false).await;
    browser.forward(31_000).await;
    stage.has_streams(0).await;
    stage.change(|status| status["version"] = json!("9.8.9"));
    seen(true).await;
    browser.reads(&css("#version"), "9.8.9").await;
    browser.reads(&css("#link"), "live").await;
    stage.has_streams(1).await;
}
