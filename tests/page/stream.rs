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
