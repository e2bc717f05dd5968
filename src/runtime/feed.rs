//! The event feed of the runtimes that make their own events: many subscribers, ordered times.

use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::broadcast;

use crate::runtime::{EngineEvent, EngineTime};

/// Events that a subscriber may be behind. One that falls further behind has its stream ended,
/// which tells it to list everything again.
const BEHIND_MAX: usize = 4096;

/// Sends events to whoever subscribed.
#[derive(Debug)]
pub(super) struct Feed {
    sender: broadcast::Sender<EngineEvent>,
    last: EngineTime,
}

impl Feed {
    pub fn new() -> Self {
        Self {
            sender: broadcast::Sender::new(BEHIND_MAX),
            last: EngineTime::default(),
        }
    }

    /// The wall clock, made to move forward with every call.
    pub fn now(&mut self) -> EngineTime {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos() as i64);
        self.last = EngineTime(wall.max(self.last.0 + 1));
        self.last
    }

    /// No time from here on is before `known`: the clock may have been set back meanwhile.
    pub fn not_before(&mut self, known: EngineTime) {
        self.last = self.last.max(known);
    }

    pub fn send(&self, event: EngineEvent) {
        // An error says that nobody listens, which is fine.
        let _ = self.sender.send(event);
    }

    /// Events from this moment on; the stream ends when its reader is too slow or on `end_all`.
    pub fn subscribe(&self) -> BoxStream<'static, EngineEvent> {
        let receiver = self.sender.subscribe();
        stream::unfold(receiver, |mut receiver| async move {
            // Lagged and closed both end the stream.
            let event = receiver.recv().await.ok()?;
            Some((event, receiver))
        })
        .boxed()
    }

    /// Ends all streams, after what was sent before has been read.
    pub fn end_all(&mut self) {
        self.sender = broadcast::Sender::new(BEHIND_MAX);
    }
}
