//! Requests on keep-alive connections, at a steady rate, each of which is looked at.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::Request;
use http::header::{CONNECTION, HOST};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::bench::{PATIENCE, until};

/// One request and what came of it.
#[derive(Debug, Clone)]
pub struct Exchange {
    pub began: Instant,
    pub took: Duration,
    /// Which release answered, by its own report; else what went wrong.
    pub by: Result<String, String>,
}

/// Requests that go on until they are ended.
pub struct Traffic {
    done: Arc<Mutex<Vec<Exchange>>>,
    stop: CancellationToken,
    connections: JoinSet<()>,
    opened: Arc<AtomicUsize>,
}

impl Traffic {
    /// So many requests a second in all, over so many connections that stay open. A connection is
    /// opened again only where the last answer on it says that it is closed.
    pub fn begin(address: &str, path: &str, connections: usize, per_second: usize) -> Self {
        let mut traffic = Self {
            done: Arc::default(),
            stop: CancellationToken::new(),
            connections: JoinSet::new(),
            opened: Arc::default(),
        };
        let every = Duration::from_secs(1) * connections as u32 / per_second as u32;
        for number in 0..connections {
            let line = Line {
                address: address.to_owned(),
                path: path.to_owned(),
                opened: traffic.opened.clone(),
                sender: None,
            };
            let begins = tokio::time::Instant::now() + every * number as u32 / connections as u32;
            let mut ticks = tokio::time::interval_at(begins, every);
            // After a stall the rate is as before. What was missed, all at once, might be over before a
            // line looks at what comes some time after its moment.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let (done, stop) = (traffic.done.clone(), traffic.stop.clone());
            traffic.connections.spawn(go_on(line, ticks, done, stop));
        }
        traffic
    }

    pub fn count(&self) -> usize {
        self.done.lock().len()
    }

    /// Waits until so many more are done.
    pub async fn more(&self, count: usize) {
        let wanted = self.count() + count;
        until("more requests are done", || async {
            (self.count() >= wanted).then_some(())
        })
        .await;
    }

    /// Lets the requests under way end.
    pub async fn end(mut self) -> Exchanges {
        self.stop.cancel();
        while let Some(ended) = self.connections.join_next().await {
            ended.expect("it ends as it should");
        }
        let mut exchanges = std::mem::take(&mut *self.done.lock());
        exchanges.sort_by_key(|exchange| exchange.began);
        Exchanges(exchanges)
    }
}

async fn go_on(
    mut line: Line,
    mut ticks: tokio::time::Interval,
    done: Arc<Mutex<Vec<Exchange>>>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let began = Instant::now();
        let by = match tokio::time::timeout(PATIENCE, line.exchange()).await {
            Ok(by) => by,
            Err(_) => Err("no answer".to_owned()),
        };
        if by.is_err() {
            line.sender = None;
        }
        let took = began.elapsed();
        done.lock().push(Exchange { began, took, by });
    }
}

/// One connection.
struct Line {
    address: String,
    path: String,
    opened: Arc<AtomicUsize>,
    sender: Option<SendRequest<Empty<Bytes>>>,
}

impl Line {
    async fn exchange(&mut self) -> Result<String, String> {
        let told = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
        if self.sender.is_none() {
            let stream = TcpStream::connect(&self.address).await;
            let stream = stream.map_err(|error| told("connecting", &error))?;
            let (sender, connection) = handshake(TokioIo::new(stream))
                .await
                .map_err(|error| told("connecting", &error))?;
            tokio::spawn(connection);
            self.opened.fetch_add(1, Ordering::Relaxed);
            self.sender = Some(sender);
        }
        let sender = self.sender.as_mut().expect("it is open");
        let request = Request::get(&self.path).header(HOST, &self.address);
        let request = request.body(Empty::new()).expect("a request");
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|error| told("sending", &error))?;
        let status = answer.status();
        let is_last = answer
            .headers()
            .get(CONNECTION)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
        let body = answer.into_body().collect().await;
        let body = body.map_err(|error| told("reading", &error))?.to_bytes();
        if is_last {
            self.sender = None;
        } else if let Some(sender) = &mut self.sender {
            // What breaks after a whole answer is no failure of this request but of the next.
            let _ = sender.ready().await;
        }
        let text = String::from_utf8_lossy(&body);
        if status != 200 {
            return Err(format!("{status}: {text}"));
        }
        let report: Value = serde_json::from_str(&text).map_err(|_| text.into_owned())?;
        let by = report["connstr"].as_str();
        by.map(str::to_owned)
            .ok_or_else(|| format!("nobody's: {report}"))
    }
}

/// All that was asked and answered, in the order of their beginnings.
pub struct Exchanges(pub Vec<Exchange>);

impl Exchanges {
    pub fn failures(&self) -> Vec<&Exchange> {
        self.0.iter().filter(|one| one.by.is_err()).collect()
    }

    /// No request was lost.
    pub fn assert_whole(&self) {
        let failures = self.failures();
        assert!(
            failures.is_empty(),
            "{} of {} failed, first {:?}",
            failures.len(),
            self.0.len(),
            failures[0].by
        );
        assert!(!self.0.is_empty(), "nothing was asked");
    }

    /// Those that began from then on.
    pub fn since(&self, moment: Instant) -> Self {
        let since = self.0.iter().filter(|one| one.began >= moment);
        Self(since.cloned().collect())
    }

    /// Those that began before.
    pub fn before(&self, moment: Instant) -> Self {
        let before = self.0.iter().filter(|one| one.began < moment);
        Self(before.cloned().collect())
    }

    /// Those that were answered by then. One that was still under way may be anybody's.
    pub fn answered_by(&self, moment: Instant) -> Self {
        let answered = self.0.iter().filter(|one| one.began + one.took <= moment);
        Self(answered.cloned().collect())
    }

    /// How many each release has answered; failures under `-`.
    pub fn by_release(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for one in &self.0 {
            let by = one.by.as_deref().unwrap_or("-");
            *counts.entry(by).or_default() += 1;
        }
        counts
    }

    /// All were answered by that release.
    pub fn assert_all_by(&self, release: &str) {
        self.assert_whole();
        let counts = self.by_release();
        assert!(
            counts.len() == 1 && counts.contains_key(release),
            "not only {release}: {counts:?}"
        );
    }

    /// The time below which that share of the requests was answered, in milliseconds.
    pub fn percentile(&self, share: f64) -> f64 {
        let mut times: Vec<Duration> = self.0.iter().map(|one| one.took).collect();
        times.sort_unstable();
        let at = (times.len() as f64 * share) as usize;
        let time = times.get(at.min(times.len().saturating_sub(1)));
        time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }
}
