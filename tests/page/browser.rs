//! A real browser, driven by tests/page/browser.py.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;

use crate::bench::in_time;

const DRIVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page/browser.py");

/// Where `.ci/run` puts it: Python with Playwright, below the target folder.
const OWN_PYTHON: &str = "test-tools/playwright/bin/python";

/// What a browser needs to be there.
#[derive(Clone)]
pub struct Tools {
    chromium: PathBuf,
    python: PathBuf,
}

impl Tools {
    /// `WAKEGATE_CHROMIUM`, else what stands in the path; a Python that has Playwright likewise by
    /// `WAKEGATE_PLAYWRIGHT_PYTHON`. An error says what is missing.
    pub fn find() -> Result<Self, String> {
        let named = |variable: &str| std::env::var_os(variable).map(PathBuf::from);
        let chromium = named("WAKEGATE_CHROMIUM")
            .or_else(|| ["chromium", "chromium-browser"].iter().find_map(in_path))
            .ok_or("there is no chromium")?;
        // Some folders up from the tested program.
        let mut folders = Path::new(env!("CARGO_BIN_EXE_wakegate")).ancestors();
        let own = folders.find_map(|folder| {
            let python = folder.join(OWN_PYTHON);
            python.exists().then_some(python)
        });
        let python = named("WAKEGATE_PLAYWRIGHT_PYTHON")
            .or(own)
            .or_else(|| in_path(&"python3"))
            .ok_or("there is no Python")?;
        let imports = std::process::Command::new(&python)
            .args([
                "-c",
                "import playwright.async_api, axe_playwright_python.async_playwright",
            ])
            .stderr(Stdio::null())
            .status();
        match imports {
            Ok(status) if status.success() => Ok(Self { chromium, python }),
            _ => Err(format!("{} has no playwright, or no axe", python.display())),
        }
    }
}

fn in_path(name: &&str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut files = std::env::split_paths(&path).map(|folder| folder.join(name));
    files.find(|file| file.is_file())
}

/// One browser with one page. It ends when the last handle is dropped.
#[derive(Clone)]
pub struct Browser(Arc<Mutex<Driver>>);

struct Driver {
    child: Child,
    orders: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
    /// What it stores goes in there.
    _home: TempDir,
}

impl Browser {
    pub fn start(tools: &Tools) -> std::io::Result<Self> {
        let home = tempfile::tempdir()?;
        let dir = home.path();
        let mut child = Command::new(&tools.python)
            .arg(DRIVER)
            .arg(&tools.chromium)
            .env("HOME", dir)
            .env("TMPDIR", dir)
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_CACHE_HOME")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let orders = child.stdin.take();
        let answers = child.stdout.take().expect("its output");
        Ok(Self(Arc::new(Mutex::new(Driver {
            child,
            orders,
            answers: BufReader::new(answers).lines(),
            _home: home,
        }))))
    }

    #[track_caller]
    fn order(&self, order: Value) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        let driver = self.0.clone();
        async move {
            let mut driver = driver.lock().await;
            let answered = in_time("the browser answers", driver.ask(&order)).await;
            answered.unwrap_or_else(|error| panic!("{caller}: {order}\n{error}"))
        }
    }

    /// Opens a page of its own, with nothing left of another one.
    #[track_caller]
    pub fn open(&self, url: &str) -> impl Future<Output = Value> {
        self.order(json!({ "what": "open", "url": url }))
    }

    /// The same with more said about the page: `width`, `height`, `scheme`, `clock`.
    #[track_caller]
    pub fn open_with(&self, url: &str, more: Value) -> impl Future<Output = Value> {
        let mut order = json!({ "what": "open", "url": url });
        let (Value::Object(order_fields), Value::Object(more)) = (&mut order, more) else {
            panic!("an object is needed");
        };
        order_fields.extend(more);
        self.order(order)
    }

    /// Closes the page, so that it asks nobody any more.
    #[track_caller]
    pub fn close(&self) -> impl Future<Output = Value> {
        self.order(json!({ "what": "close" }))
    }

    #[track_caller]
    pub fn reload(&self) -> impl Future<Output = Value> {
        self.order(json!({ "what": "reload" }))
    }

    #[track_caller]
    pub fn click(&self, place: &Place) -> impl Future<Output = Value> {
        self.order(json!({ "what": "click", "place": place.0 }))
    }

    #[track_caller]
    pub fn fill(&self, place: &Place, text: &str) -> impl Future<Output = Value> {
        self.order(json!({ "what": "fill", "place": place.0, "text": text }))
    }

    #[track_caller]
    pub fn focus(&self, place: &Place) -> impl Future<Output = Value> {
        self.order(json!({ "what": "focus", "place": place.0 }))
    }

    /// Presses a key such as `Tab` or `Enter`.
    #[track_caller]
    pub fn press(&self, key: &str) -> impl Future<Output = Value> {
        self.order(json!({ "what": "press", "key": key }))
    }

    /// Waits until it is there and can be seen.
    #[track_caller]
    pub fn sees(&self, place: &Place) -> impl Future<Output = Value> {
        self.order(json!({ "what": "see", "place": place.0 }))
    }

    /// Waits until it has that text.
    #[track_caller]
    pub fn reads(&self, place: &Place, text: &str) -> impl Future<Output = Value> {
        self.order(json!({ "what": "read", "place": place.0, "text": text }))
    }

    /// Waits until it is not there, or cannot be seen.
    #[track_caller]
    pub fn sees_no(&self, place: &Place) -> impl Future<Output = Value> {
        self.order(json!({ "what": "hidden", "place": place.0 }))
    }

    /// Waits until there are so many.
    #[track_caller]
    pub fn counts(&self, place: &Place, count: usize) -> impl Future<Output = Value> {
        self.order(json!({ "what": "count", "place": place.0, "count": count }))
    }

    /// Waits until it has the focus.
    #[track_caller]
    pub fn has_focus(&self, place: &Place) -> impl Future<Output = Value> {
        self.order(json!({ "what": "focused", "place": place.0 }))
    }

    /// The text of it as it is shown.
    #[track_caller]
    pub fn text(&self, place: &Place) -> impl Future<Output = String> {
        let text = self.order(json!({ "what": "text", "place": place.0 }));
        async { text.await.as_str().unwrap_or_default().to_owned() }
    }

    #[track_caller]
    pub fn attribute(&self, place: &Place, name: &str) -> impl Future<Output = Value> {
        self.order(json!({ "what": "attribute", "place": place.0, "name": name }))
    }

    /// What an expression of JavaScript has in the page.
    #[track_caller]
    pub fn evaluate(&self, script: &str) -> impl Future<Output = Value> {
        self.order(json!({ "what": "evaluate", "script": script }))
    }

    /// Waits until an expression of JavaScript is true.
    #[track_caller]
    pub fn until(&self, script: &str) -> impl Future<Output = Value> {
        self.order(json!({ "what": "until", "script": script }))
    }

    /// Lets time pass at once, on a page that was opened with `clock`.
    #[track_caller]
    pub fn forward(&self, ms: u64) -> impl Future<Output = Value> {
        self.order(json!({ "what": "forward", "ms": ms }))
    }

    #[track_caller]
    pub fn scheme(&self, scheme: &str) -> impl Future<Output = Value> {
        self.order(json!({ "what": "scheme", "scheme": scheme }))
    }

    /// What axe-core finds: the rule with the first element that breaks it, each.
    #[track_caller]
    pub fn axe(&self) -> impl Future<Output = Value> {
        self.order(json!({ "what": "axe" }))
    }

    /// A PNG of what is in sight.
    #[track_caller]
    pub fn picture(&self, path: &Path) -> impl Future<Output = Value> {
        self.order(json!({ "what": "picture", "path": path }))
    }

    /// What the page has done wrong since this was asked last.
    #[track_caller]
    pub fn complaints(&self) -> impl Future<Output = Vec<String>> {
        let complaints = self.order(json!({ "what": "complaints" }));
        async { serde_json::from_value(complaints.await).expect("a list of texts") }
    }
}

impl Driver {
    async fn ask(&mut self, order: &Value) -> Result<Value, String> {
        let told = |error: std::io::Error| error.to_string();
        let orders = self.orders.as_mut().ok_or("it has ended")?;
        let line = format!("{order}\n");
        orders.write_all(line.as_bytes()).await.map_err(told)?;
        let answer = self.answers.next_line().await.map_err(told)?;
        let answer = answer.ok_or("the browser's driver has ended")?;
        let mut answer: Value = serde_json::from_str(&answer).map_err(|error| error.to_string())?;
        match answer.get("error") {
            Some(error) => Err(error.as_str().unwrap_or_default().to_owned()),
            None => Ok(answer["value"].take()),
        }
    }
}

impl Drop for Driver {
    /// Without orders the driver closes the browser and ends; one that hangs is killed.
    fn drop(&mut self) {
        drop(self.orders.take());
        let began = std::time::Instant::now();
        while began.elapsed() < std::time::Duration::from_secs(10) {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id as i32)) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Where on the page: steps, each within the one before.
#[derive(Clone, Debug, Default)]
pub struct Place(Vec<Value>);

impl Place {
    fn with(&self, step: Value) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    pub fn css(&self, selector: &str) -> Self {
        self.with(json!({ "css": selector }))
    }

    /// By its role and its whole name, as assistive technology has them.
    pub fn role(&self, role: &str, name: &str) -> Self {
        self.with(json!({ "role": role, "name": name }))
    }

    pub fn button(&self, name: &str) -> Self {
        self.role("button", name)
    }

    /// A field by its label.
    pub fn label(&self, label: &str) -> Self {
        self.with(json!({ "label": label }))
    }

    /// Only those with that text somewhere in them.
    pub fn having(&self, text: &str) -> Self {
        self.with(json!({ "having": text }))
    }

    /// Only those that have another place in them.
    pub fn containing(&self, other: &Place) -> Self {
        self.with(json!({ "containing": other.0 }))
    }
}

pub fn css(selector: &str) -> Place {
    Place::default().css(selector)
}

pub fn button(name: &str) -> Place {
    Place::default().button(name)
}

/// The section of an application.
pub fn app(name: &str) -> Place {
    css("section.app").containing(&css("h3").having(name))
}

/// The row of a release or a workload by its revision or name.
pub fn row(within: &Place, name: &str) -> Place {
    within
        .css("tbody[role=rowgroup]")
        .containing(&css("th[role=rowheader]").having(name))
}
