//! What is noted of one request when its answer is over: metrics, and a log line by setting.

use std::rc::Rc;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;
use tracing::info;

use crate::proxy::meter::RouteMeter;

/// Goes along with the answer and notes it when it is dropped.
#[derive(Debug)]
pub struct Record {
    pub started: Instant,
    pub held: Duration,
    pub status: StatusCode,
    pub meter: Rc<RouteMeter>,
    /// Only with `log.requests`.
    pub line: Option<Box<Line>>,
}

/// What a log line says besides times and status.
#[derive(Debug)]
pub struct Line {
    pub method: String,
    pub host: String,
    pub path: String,
    pub workload: String,
    pub route: String,
}

impl Drop for Record {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        self.meter.answered(self.status, took);
        if let Some(line) = &self.line {
            info!(
                target: "wakegate::requests",
                method = line.method,
                host = line.host,
                path = line.path,
                status = self.status.as_u16(),
                workload = line.workload,
                route = line.route,
                took_ms = took.as_millis() as u64,
                held_ms = self.held.as_millis() as u64,
            );
        }
    }
}
