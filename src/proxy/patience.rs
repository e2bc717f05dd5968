//! How long a client's connection may be silent: within a request's head, and between two requests.
//!
//! HTTP waits for a head with one timer and starts it anew when the request before is done, so that it
//! knows no pause between two requests. Here the timer itself tells the two apart, by whether
//! anything was read since it was started.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::Timer;
use hyper_util::rt::TokioTimer;
use tokio::time::{self, Sleep};

use crate::proxy::socket::Socket;

/// The timer of one connection. HTTP sets it once for each head, when it begins to wait for it.
pub struct Patience {
    socket: Socket,
    head_timeout: Duration,
    idle_timeout: Duration,
    /// Whether a head was waited for already. A client is expected to speak when it has connected.
    has_waited: AtomicBool,
}

impl Patience {
    pub fn new(socket: Socket, head_timeout: Duration, idle_timeout: Duration) -> Self {
        Self {
            socket,
            head_timeout,
            idle_timeout,
            has_waited: AtomicBool::new(false),
        }
    }
}

impl Timer for Patience {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        TokioTimer::new().sleep(duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        if !self.has_waited.swap(true, Ordering::Relaxed) {
            return TokioTimer::new().sleep_until(deadline);
        }
        // What of the next head came together with this request counts as not begun: it may take
        // as long as no head at all.
        self.socket.forget_heard();
        Box::pin(Pause {
            socket: self.socket.clone(),
            head_timeout: self.head_timeout,
            is_head: false,
            sleep: Box::pin(time::sleep(self.idle_timeout)),
        })
    }

    fn now(&self) -> Instant {
        time::Instant::now().into()
    }
}

/// Ends when nothing has come for the idle time, or when what has begun to come takes too long.
struct Pause {
    socket: Socket,
    head_timeout: Duration,
    /// Whether the next head has begun.
    is_head: bool,
    sleep: Pin<Box<Sleep>>,
}

impl Future for Pause {
    type Output = ();

    /// Asked after each read that did not bring the head's end.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_head && self.socket.heard() {
            self.is_head = true;
            let end = time::Instant::now() + self.head_timeout;
            self.sleep.as_mut().reset(end);
        }
        self.sleep.as_mut().poll(cx)
    }
}

impl hyper::rt::Sleep for Pause {}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    const HEAD: Duration = Duration::from_secs(30);
    const IDLE: Duration = Duration::from_secs(120);

    /// As HTTP sets it.
    fn wait(patience: &Patience) -> Pin<Box<dyn hyper::rt::Sleep>> {
        patience.sleep_until(patience.now() + HEAD)
    }

    #[tokio::test]
    async fn the_first_head_has_its_time_and_a_pause_has_its_own_until_the_next_begins() {
        let (own, mut client) = UnixStream::pair().unwrap();
        let mut socket = Socket::from(own);
        let patience = Patience::new(socket.clone(), HEAD, IDLE);
        let mut byte = [0];
        let spent = async |wait| {
            let began = time::Instant::now();
            wait.await;
            began.elapsed().as_secs()
        };

        time::pause();
        assert_eq!(spent(wait(&patience)).await, 30);
        assert_eq!(spent(wait(&patience)).await, 120);
        time::resume();

        // A byte of the request before does not count.
        client.write_all(b"x").await.unwrap();
        socket.read_exact(&mut byte).await.unwrap();
        time::pause();
        assert_eq!(spent(wait(&patience)).await, 120);

        let mut pause = wait(&patience);
        time::advance(Duration::from_secs(100)).await;
        assert!(futures_util::poll!(&mut pause).is_pending());
        time::resume();
        client.write_all(b"G").await.unwrap();
        socket.read_exact(&mut byte).await.unwrap();
        time::pause();
        assert!(futures_util::poll!(&mut pause).is_pending());
        time::advance(Duration::from_secs(20)).await;
        // Each further byte gives it no more time.
        time::resume();
        client.write_all(b"E").await.unwrap();
        socket.read_exact(&mut byte).await.unwrap();
        time::pause();
        assert!(futures_util::poll!(&mut pause).is_pending());
        assert!((9..=10).contains(&spent(pause).await));
    }
}
