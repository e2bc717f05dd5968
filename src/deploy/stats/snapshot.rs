//! The counts of a release at a moment, or between two, as they are shown and compared.

use serde::Serialize;

use super::histogram::Buckets;

#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Snapshot {
    /// Requests that got their answer: from the release, or from the gateway because it had none.
    pub requests: u64,
    pub statuses: Statuses,
    /// Requests for which a connection to the release could not be made, also if another attempt
    /// got through.
    pub connect_errors: u64,
    /// Requests that the gateway answered in place of the release.
    pub gateway_errors: u64,
    /// Requests that went to the current release instead, because this one, a canary, could not be
    /// used. They are none of `requests`.
    pub turned_over: u64,
    /// Answers that the release began and did not bring to their end, by itself: neither did their client
    /// leave, nor was the release told to end.
    pub broken_off: u64,
    /// Requests that went wrong by the release's fault: answered 5xx or in part, not answered, not
    /// reached at the first attempt, or turned over because of that. Each counts once.
    pub failed: u64,
    /// Of these, those that have no answer, since their client has left or they still wait for it. They
    /// are none of `requests`.
    pub unanswered: u64,
    /// Of the release's own answers.
    pub response_times: ResponseTimes,
    /// Bodies and tunnels.
    pub bytes_from_clients: u64,
    pub bytes_to_clients: u64,
    pub open: Open,
}

/// Requests by the class of their status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Statuses {
    /// Connections that switched to another protocol.
    #[serde(rename = "1xx")]
    pub informational: u64,
    #[serde(rename = "2xx")]
    pub success: u64,
    #[serde(rename = "3xx")]
    pub redirection: u64,
    #[serde(rename = "4xx")]
    pub client_error: u64,
    #[serde(rename = "5xx")]
    pub server_error: u64,
}

/// From a request's arrival until its answer began, without the time for which it was held. None
/// where there was no answer.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ResponseTimes {
    pub p50_ms: Option<f64>,
    pub p90_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub buckets: Buckets,
}

/// Requests that are open now, each in one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Open {
    /// The release wakes for them.
    pub held: u64,
    /// They were sent, and their answer has not begun.
    pub waiting: u64,
    /// Their answer is under way.
    pub streaming: u64,
    /// They are tunnels now, such as websockets.
    pub upgraded: u64,
}

impl Snapshot {
    /// Completes `rest` with what is worked out.
    pub(super) fn new(statuses: Statuses, buckets: Buckets, rest: Snapshot) -> Self {
        Self {
            requests: statuses.total(),
            statuses,
            response_times: ResponseTimes {
                p50_ms: buckets.quantile_ms(0.5),
                p90_ms: buckets.quantile_ms(0.9),
                p99_ms: buckets.quantile_ms(0.99),
                buckets,
            },
            ..rest
        }
    }

    /// What was counted since `before`, an earlier snapshot of the same release. What is open is
    /// as it is now.
    pub fn since(&self, before: &Snapshot) -> Snapshot {
        let (now, then) = (self, before);
        let statuses = now
            .statuses
            .counts()
            .into_iter()
            .zip(then.statuses.counts());
        let mut since = [0; 5];
        for (since, (now, then)) in since.iter_mut().zip(statuses) {
            *since = now.saturating_sub(then);
        }
        let between = |of: fn(&Snapshot) -> u64| of(now).saturating_sub(of(then));
        let buckets = &now.response_times.buckets;
        Snapshot::new(
            Statuses::from(since),
            buckets.since(&then.response_times.buckets),
            Snapshot {
                connect_errors: between(|all| all.connect_errors),
                gateway_errors: between(|all| all.gateway_errors),
                turned_over: between(|all| all.turned_over),
                broken_off: between(|all| all.broken_off),
                failed: between(|all| all.failed),
                unanswered: between(|all| all.unanswered),
                bytes_from_clients: between(|all| all.bytes_from_clients),
                bytes_to_clients: between(|all| all.bytes_to_clients),
                open: now.open,
                ..Snapshot::default()
            },
        )
    }

    /// What two releases have done together.
    pub fn plus(&self, other: &Snapshot) -> Snapshot {
        let mut statuses = self.statuses.counts();
        for (sum, count) in statuses.iter_mut().zip(other.statuses.counts()) {
            *sum += count;
        }
        let open = Open {
            held: self.open.held + other.open.held,
            waiting: self.open.waiting + other.open.waiting,
            streaming: self.open.streaming + other.open.streaming,
            upgraded: self.open.upgraded + other.open.upgraded,
        };
        Snapshot::new(
            Statuses::from(statuses),
            self.response_times
                .buckets
                .plus(&other.response_times.buckets),
            Snapshot {
                connect_errors: self.connect_errors + other.connect_errors,
                gateway_errors: self.gateway_errors + other.gateway_errors,
                turned_over: self.turned_over + other.turned_over,
                broken_off: self.broken_off + other.broken_off,
                failed: self.failed + other.failed,
                unanswered: self.unanswered + other.unanswered,
                bytes_from_clients: self.bytes_from_clients + other.bytes_from_clients,
                bytes_to_clients: self.bytes_to_clients + other.bytes_to_clients,
                open,
                ..Snapshot::default()
            },
        )
    }

    /// All that came to the release and of which is known how it went; at least those that failed.
    pub fn visits(&self) -> u64 {
        self.requests + self.turned_over + self.unanswered
    }
}

impl Statuses {
    fn counts(self) -> [u64; 5] {
        [
            self.informational,
            self.success,
            self.redirection,
            self.client_error,
            self.server_error,
        ]
    }

    pub fn total(self) -> u64 {
        self.counts().iter().sum()
    }
}

impl From<[u64; 5]> for Statuses {
    /// 1xx first.
    fn from(counts: [u64; 5]) -> Self {
        let [
            informational,
            success,
            redirection,
            client_error,
            server_error,
        ] = counts;
        Self {
            informational,
            success,
            redirection,
            client_error,
            server_error,
        }
    }
}
