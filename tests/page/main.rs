//! The status page in a real browser.
//!
//! Each trial runs `wakegate serve` as a child process over the process runtime, and Chromium before
//! its page, driven by Playwright (tests/page/browser.py). What a click has done is looked at from the
//! gateway's side. What no gateway can be brought into at will is played by a stage that serves the
//! real page. Without Chromium or Playwright the trials are reported as ignored; when the environment
//! variable `WAKEGATE_REQUIRE` names `chromium`, they fail instead.

mod browser;
mod looks;
mod orders;
mod pictures;
mod reading;
mod real;
mod scene;
mod stage;
mod stream;

// What the end-to-end lines run gateways with.
#[allow(dead_code)]
#[path = "../end_to_end/bench.rs"]
mod bench;
#[allow(dead_code)]
#[path = "../end_to_end/client.rs"]
mod client;
#[allow(dead_code)]
#[path = "../end_to_end/frame.rs"]
mod frame;
#[allow(dead_code)]
#[path = "../end_to_end/gateway.rs"]
mod gateway;
#[allow(dead_code)]
#[path = "../end_to_end/scripts.rs"]
mod scripts;
#[allow(dead_code)]
#[path = "../end_to_end/setup.rs"]
mod setup;
#[allow(dead_code)]
#[path = "../end_to_end/world.rs"]
mod world;

use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use parking_lot::Mutex;

use bench::{Bench, Kind};
use browser::{Browser, Tools};

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One thing that the page does.
pub struct Case {
    name: &'static str,
    run: fn(Bench, Browser) -> Running,
}

/// Cases by the names of their functions.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub const CASES: &[$crate::Case] = &[$($crate::Case {
            name: concat!(module_path!(), "::", stringify!($name)),
            run: |bench, browser| Box::pin($name(bench, browser)),
        }),*];
    };
}
use cases;

const ALL: [&[Case]; 5] = [
    looks::CASES,
    reading::CASES,
    orders::CASES,
    stream::CASES,
    real::CASES,
];

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    // Browsers are large: more of them than cores only wait for each other.
    args.test_threads = args.test_threads.or(Some(2));
    let tokio = frame::tokio();
    let tools = Tools::find();
    let required = frame::is_required("chromium");
    if let (Err(reason), false) = (&tools, required) {
        eprintln!("the status page is not tested: {reason}");
    }
    let browsers = Arc::new(Mutex::new(Vec::new()));
    let mut trials = Vec::new();
    let pictures = pictures::folder().map(|_| pictures::CASES);
    for case in ALL.into_iter().chain(pictures).flatten() {
        let name = frame::name(case.name);
        let ignored = tools.is_err() && !required;
        let (tools, handle) = (tools.clone(), tokio.handle().clone());
        let browsers = browsers.clone();
        let body = move || handle.block_on(run(case, tools?, &browsers));
        trials.push(Trial::test(name, body).with_ignored_flag(ignored));
    }
    tokio.spawn(bench::clear_when_interrupted());
    let conclusion = libtest_mimic::run(&args, trials);
    browsers.lock().clear();
    conclusion.exit_code()
}

/// Runs one case and removes what it made, however it ended. The page has to have done nothing wrong.
///
/// A browser takes longer to start than most cases take, so one that has done well serves the next; each
/// page is opened in a profile of its own.
async fn run(
    case: &'static Case,
    tools: Tools,
    browsers: &Mutex<Vec<Browser>>,
) -> Result<(), Failed> {
    let bench = Bench::new(Kind::Process).await?;
    let left = browsers.lock().pop();
    let browser = match left {
        Some(browser) => browser,
        None => Browser::start(&tools)?,
    };
    let body = {
        let (bench, browser) = (bench.clone(), browser.clone());
        async move {
            (case.run)(bench, browser.clone()).await;
            browser.close().await;
            browser.complaints().await
        }
    };
    let complaints = frame::run(body, async || bench.clear().await, || bench.story()).await?;
    browsers.lock().push(browser);
    if !complaints.is_empty() {
        return Err(Failed::from(format!("the page did wrong: {complaints:#?}")));
    }
    Ok(())
}
