//! Whether the sample application is used, and since when not.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Counts what is going on.
#[derive(Debug)]
pub struct Usage {
    state: Mutex<State>,
    /// Uses so far, those included that have ended.
    begun: AtomicU64,
    /// Told when the last use ends.
    idle: Notify,
}

#[derive(Debug)]
enum State {
    InUse { uses: usize },
    Idle { since: Instant },
}

/// A request, websocket or stream that goes on; ends when it is dropped.
#[derive(Debug)]
pub struct Use(Arc<Usage>);

impl Usage {
    /// Idle from now on.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State::Idle {
                since: Instant::now(),
            }),
            begun: AtomicU64::new(0),
            idle: Notify::new(),
        })
    }

    /// How many uses have begun.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// How many go on.
    pub fn current(&self) -> usize {
        match *self.state.lock() {
            State::InUse { uses } => uses,
            State::Idle { .. } => 0,
        }
    }

    pub fn begin(self: &Arc<Self>) -> Use {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state.lock();
        *state = match *state {
            State::InUse { uses } => State::InUse { uses: uses + 1 },
            State::Idle { .. } => State::InUse { uses: 1 },
        };
        Use(self.clone())
    }

    /// How long it has had no use; zero while it has one.
    pub fn idle_time(&self) -> Duration {
        match *self.state.lock() {
            State::InUse { .. } => Duration::ZERO,
            State::Idle { since } => since.elapsed(),
        }
    }

    /// Resolves when there was no use for `time`; with `None` never.
    pub async fn idle_for(&self, time: Option<Duration>) {
        let Some(time) = time else {
            return std::future::pending().await;
        };
        loop {
            let due = match *self.state.lock() {
                State::InUse { .. } => None,
                State::Idle { since } => Some(since + time),
            };
            match due {
                Some(due) if due <= Instant::now() => return,
                Some(due) => sleep_until(due).await,
                None => self.idle.notified().await,
            }
        }
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        *state = match *state {
            State::InUse { uses } if uses > 1 => State::InUse { uses: uses - 1 },
            _ => State::Idle {
                since: Instant::now(),
            },
        };
        if matches!(*state, State::Idle { .. }) {
            self.0.idle.notify_one();
        }
    }
}

/// An answer's body that is a use until its last byte.
pub struct UsedBody {
    body: Body,
    _use: Use,
}

impl UsedBody {
    pub fn new(body: Body, current: Use) -> Self {
        Self {
            body,
            _use: current,
        }
    }
}

impl http_body::Body for UsedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn it_is_idle_a_whole_period_after_the_last_use_ended() {
        let usage = Usage::new();
        let begun = Instant::now();
        let (first, second) = (usage.begin(), usage.begin());
        let mut idle = std::pin::pin!(usage.idle_for(Some(MINUTE)));
        assert!(tokio::time::timeout(10 * MINUTE, &mut idle).await.is_err());
        drop(first);
        assert!(tokio::time::timeout(10 * MINUTE, &mut idle).await.is_err());
        assert_eq!(usage.idle_time(), Duration::ZERO);
        assert_eq!((usage.current(), usage.begun()), (1, 2));
        drop(second);
        idle.await;
        assert_eq!(begun.elapsed().as_secs(), 21 * 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_use_in_the_last_moment_begins_the_period_anew() {
        let usage = Usage::new();
        let mut idle = std::pin::pin!(usage.idle_for(Some(MINUTE)));
        let almost = MINUTE - Duration::from_millis(10);
        assert!(tokio::time::timeout(almost, &mut idle).await.is_err());
        drop(usage.begin());
        assert!(tokio::time::timeout(almost, &mut idle).await.is_err());
        assert!(usage.idle_time() >= almost);
        idle.await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_idle_from_the_start() {
        let usage = Usage::new();
        let begun = Instant::now();
        usage.idle_for(Some(MINUTE)).await;
        assert_eq!(begun.elapsed().as_secs(), 60);
        assert!(usage.idle_for(None).now_or_never().is_none());
    }
}
