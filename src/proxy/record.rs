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
    /// Of which the workload is a release.
    pub app: Option<String>,
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
                app = line.app,
                route = line.route,
                took_ms = took.as_millis() as u64,
                held_ms = self.held.as_millis() as u64,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::captured::logged;
    use crate::proxy::meter::{Meters, Metrics};

    #[test]
    fn a_request_is_one_line_with_all_that_is_known_of_it() {
        let mut registry = crate::metrics::registry();
        let meters = Meters::new(Metrics::new(&mut registry));
        let record = |line| Record {
            started: Instant::now(),
            held: Duration::from_millis(250),
            status: StatusCode::CREATED,
            meter: meters.of("w", &"/r/{x}".into()),
            line,
        };
        let line = Line {
            method: "PUT".to_owned(),
            host: "shop.example".to_owned(),
            path: "/r/1".to_owned(),
            workload: "w".to_owned(),
            app: Some("shop".to_owned()),
            route: "/r/{x}".to_owned(),
        };
        let ((), silent) = logged(|| drop(record(None)));
        assert_eq!(silent, "");
        let ((), log) = logged(|| drop(record(Some(Box::new(line)))));
        assert_eq!(log.lines().count(), 1);
        for told in [
            "INFO wakegate::requests:",
            r#"method="PUT""#,
            r#"host="shop.example""#,
            r#"path="/r/1""#,
            "status=201",
            r#"workload="w""#,
            r#"app="shop""#,
            r#"route="/r/{x}""#,
            "took_ms=",
            "held_ms=250",
        ] {
            assert!(log.contains(told), "{told} is not in {log}");
        }
    }
}
