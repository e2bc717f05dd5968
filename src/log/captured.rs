//! What the code under test logs, for tests that look at it.

use std::io::{self, Write};
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use tracing::subscriber::{DefaultGuard, NoSubscriber};
use tracing::{Dispatch, Level};

/// Where there is only one subscriber, `tracing` asks that of the current thread whether a log line
/// that is met for the first time is wanted, and keeps the answer: the thread of another test, which has
/// none, would switch the line off for all. Where there are two, all are asked.
static ANOTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::new()));

/// To be called before a subscriber is made for one thread.
pub fn prepare() {
    LazyLock::force(&ANOTHER);
}

/// Lines as they were written.
#[derive(Clone, Default)]
pub struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    /// Takes what this thread logs, down to `level`, until the guard is dropped.
    pub fn begin(level: Level) -> (Self, DefaultGuard) {
        prepare();
        let captured = Self::default();
        let writer = captured.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(level)
            .with_writer(move || writer.clone())
            .finish();
        let guard = tracing::subscriber::set_default(subscriber);
        (captured, guard)
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).expect("log lines are text")
    }

    pub fn lines_with(&self, text: &str) -> usize {
        let log = self.text();
        log.lines().filter(|line| line.contains(text)).count()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `act` gives, and what it logs.
pub fn logged<T>(act: impl FnOnce() -> T) -> (T, String) {
    let (captured, guard) = Captured::begin(Level::INFO);
    let result = act();
    drop(guard);
    (result, captured.text())
}
