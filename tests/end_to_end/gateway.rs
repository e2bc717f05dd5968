//! A running gateway: the program as a child process, what it logs, and its two listeners.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::bench::{Bench, until};
use crate::client::Client;
use crate::setup::Setup;

/// What a gateway has logged until now.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub fn text(&self) -> String {
        self.0.lock().join("\n")
    }

    /// The last lines, for people.
    pub fn end(&self) -> String {
        const LINES: usize = 60;
        let lines = self.0.lock();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    pub fn lines_with(&self, text: &str) -> Vec<String> {
        let lines = self.0.lock();
        lines
            .iter()
            .filter(|line| line.contains(text))
            .cloned()
            .collect()
    }

    /// Waits for a line with that text.
    pub async fn line_with(&self, text: &str) -> String {
        let what = format!("a log line with {text:?}");
        until(&what, || async { self.lines_with(text).pop() }).await
    }
}

/// A gateway that listens. Killed with its process group when it is dropped.
pub struct Gateway {
    bench: Bench,
    child: Child,
    pub pid: Pid,
    pub log: Log,
    /// Where requests come in, as it logged it.
    pub public: String,
    pub client: Client,
}

impl Gateway {
    /// Runs `wakegate serve` and returns when both listeners are open.
    pub async fn start(bench: &Bench, setup: &Setup) -> Self {
        let file = setup.file();
        let mut child = setup
            .command(&["serve", "--config", file.to_str().expect("a path in UTF-8")])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("the program can be run");
        let pid = Pid::from_child(&child);
        let log = Log::default();
        let lines = BufReader::new(child.stderr.take().expect("its output")).lines();
        let reader = log.clone();
        std::thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .for_each(|line| reader.0.lock().push(line));
        });
        bench.note(pid, log.clone());
        let mut gateway = Self {
            bench: bench.clone(),
            child,
            pid,
            log,
            public: String::new(),
            client: Client::default(),
        };
        let (public, admin) = gateway.listens().await;
        gateway.client = Client::new(&public, &admin);
        gateway.public = public;
        gateway
    }

    async fn listens(&mut self) -> (String, String) {
        let (log, child) = (self.log.clone(), Mutex::new(&mut self.child));
        until("it listens", || async {
            let word_after = |text: &str| {
                let line = log.lines_with(text).pop()?;
                let rest = line.split(text).nth(1)?;
                rest.split_whitespace().next().map(str::to_owned)
            };
            let public = word_after("serving address=");
            let admin = word_after("the admin API listens on ");
            if let (Some(public), Some(admin)) = (public, admin) {
                return Some((public, admin));
            }
            if let Ok(Some(status)) = child.lock().try_wait() {
                panic!("it ended with {status} before it listened:\n{}", log.text());
            }
            None
        })
        .await
    }

    /// Its highest memory use until now, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.pid.as_raw_nonzero());
        let status = std::fs::read_to_string(status).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.expect("the kernel tells it") << 10
    }

    /// Ends it as an operator does.
    pub fn terminate(&self) {
        kill_process(self.pid, Signal::TERM).expect("it runs");
    }

    /// Waits until it has ended by itself.
    pub async fn exit_code(mut self) -> Option<i32> {
        let child = Mutex::new(&mut self.child);
        let status = until("it ends", || async {
            child.lock().try_wait().expect("a child")
        });
        status.await.code()
    }

    /// Ends it without a chance to do anything.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = kill_process_group(self.pid, Signal::KILL);
            // The kernel may take its time, and this thread has other lines' tasks too.
            let _ = tokio::task::block_in_place(|| self.child.wait());
        }
        self.bench.ended(self.pid);
    }
}
