//! Tunnels: a connection that both sides have switched to another protocol.

#[cfg(test)]
mod tests;

use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderMap;
use http::header::UPGRADE;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, copy, split};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::debug;

use crate::deploy::stats::Stats;
use crate::lifecycle::gate::{Gate, Lease};
use crate::proxy::websocket::{Frames, GOING_AWAY, Place};

/// For a client to hang up after its application has. One that never does would hold its lease,
/// and so keep a workload awake, for ever (RFC 6455 §7.1.1 lets the server close first).
const HANG_UP_TIME: Duration = Duration::from_secs(10);

/// For both sides of a websocket to end once its client was told to go.
const CLOSING_TIME: Duration = Duration::from_secs(5);

/// The longest time over which the clients of a workload that is drained are told to go. They all
/// connect anew as soon as they are.
const SPREAD_MAX: Duration = Duration::from_secs(10);

/// As much as is read from an application at once.
const CHUNK_BYTES: usize = 8192;

/// What a connection was switched to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Its clients can be told that their application is about to be stopped.
    WebSocket,
    Other,
}

impl Protocol {
    /// As the fields of an answer with the status 101 say.
    pub fn of(headers: &HeaderMap) -> Self {
        match headers.get(UPGRADE) {
            Some(name) if name.as_bytes().eq_ignore_ascii_case(b"websocket") => Self::WebSocket,
            _ => Self::Other,
        }
    }
}

/// Carries bytes both ways until both sides have ended; one side's end is passed on while the
/// other still speaks, a client only for some seconds. Holds the lease to the end, and drops
/// `also` then. The bytes are counted in the statistics, if there are some.
///
/// When the run is to be stopped, the client of a websocket is told to go with code 1001. Other
/// tunnels run on until the application ends them, as it does at the latest when it is stopped.
pub async fn tunnel<T>(
    client: OnUpgrade,
    application: OnUpgrade,
    lease: Rc<Lease>,
    (protocol, stats): (Protocol, Option<Arc<Stats>>),
    also: T,
) {
    let workload = lease.endpoint().workload.clone();
    let ends = tokio::try_join!(client, application);
    let (client, application) = match ends {
        Ok(ends) => ends,
        Err(error) => {
            debug!(%workload, %error, "a connection ended before it was switched");
            return;
        }
    };
    let client = Counted {
        side: TokioIo::new(client),
        stats: stats.clone(),
        count: Stats::from_client,
    };
    let application = Counted {
        side: TokioIo::new(application),
        stats,
        count: Stats::to_client,
    };
    let carried = match protocol {
        Protocol::WebSocket => carry_websocket(client, application, lease.gate()).await,
        Protocol::Other => carry(client, application).await,
    };
    match carried {
        Ok((up, down)) => debug!(%workload, up, down, "a tunnel ended"),
        Err(error) => debug!(%workload, %error, "a tunnel broke"),
    }
    drop(also);
}

/// One side of a tunnel. What is read of it is counted as it comes.
struct Counted<S> {
    side: S,
    stats: Option<Arc<Stats>>,
    count: fn(&Stats, u64),
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.side).poll_read(cx, buf);
        let bytes = buf.filled().len() - before;
        if let Some(stats) = this.stats.as_ref().filter(|_| bytes > 0) {
            (this.count)(stats, bytes as u64);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().side).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().side).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().side).poll_shutdown(cx)
    }
}

/// Gives the bytes that went up and down.
async fn carry<S>(client: S, application: S) -> io::Result<(u64, u64)>
where
    S: AsyncRead + AsyncWrite,
{
    let (from_client, to_client) = split(client);
    let (from_application, to_application) = split(application);
    to_both_ends(
        pass_on(from_client, to_application),
        pass_on(from_application, to_client),
    )
    .await
}

/// The same until the run is to be stopped. Then the client gets a Close frame at some moment
/// between two of the application's frames, and nothing after it. Its own Close frame passes, so
/// that to either side the other one closes. What has not ended then is cut off: in some seconds,
/// or at the end of the drain where no frame ended before. A run that is opened again meanwhile does
/// not take that back: the client's next connection finds it.
async fn carry_websocket<S>(client: S, application: S, gate: &Gate) -> io::Result<(u64, u64)>
where
    S: AsyncRead + AsyncWrite,
{
    let (from_client, to_client) = split(client);
    let (from_application, to_application) = split(application);
    let (leave, told) = (Notify::new(), Notify::new());
    let carried = to_both_ends(
        pass_on(from_client, to_application),
        pass_frames(from_application, to_client, &leave, &told),
    );
    tokio::select! {
        carried = carried => carried,
        () = going_away(gate, &leave, &told) => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn to_both_ends(
    up: impl Future<Output = io::Result<u64>>,
    down: impl Future<Output = io::Result<u64>>,
) -> io::Result<(u64, u64)> {
    let (mut up, mut down) = (pin!(up), pin!(down));
    tokio::select! {
        up = &mut up => Ok((up?, down.await?)),
        down = &mut down => {
            let down = down?;
            let hung_up = timeout(HANG_UP_TIME, up).await;
            Ok((hung_up.map_err(|_| io::ErrorKind::TimedOut)??, down))
        }
    }
}

/// Carries one way, its end included.
async fn pass_on<R, W>(mut from: R, mut to: W) -> io::Result<u64>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let bytes = copy(&mut from, &mut to).await?;
    to.shutdown().await?;
    Ok(bytes)
}

/// The same for the frames of a websocket's application. When told to leave it ends the client's
/// side at the next end of a frame, tells that, and reads away what the application still says.
async fn pass_frames<R, W>(mut from: R, mut to: W, leave: &Notify, told: &Notify) -> io::Result<u64>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut frames = Frames::default();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut passed = 0;
    let mut leaving = false;
    loop {
        match frames.place() {
            Place::Between if leaving => break,
            // The application closes it itself, and what it says passes to its end.
            Place::Closed if leaving => told.notify_one(),
            _ => {}
        }
        let read = tokio::select! {
            biased;
            () = leave.notified(), if !leaving => {
                leaving = true;
                continue;
            }
            read = from.read(&mut chunk) => read?,
        };
        if read == 0 {
            to.shutdown().await?;
            return Ok(passed);
        }
        let mut part = &chunk[..read];
        if leaving {
            part = &part[..frames.finish(part)];
        } else {
            frames.follow(part);
        }
        to.write_all(part).await?;
        to.flush().await?;
        passed += part.len() as u64;
    }
    to.write_all(&GOING_AWAY).await?;
    to.flush().await?;
    told.notify_one();
    while from.read(&mut chunk).await? > 0 {}
    to.shutdown().await?;
    Ok(passed)
}

/// Returns when a websocket to the run is to be cut off.
async fn going_away(gate: &Gate, leave: &Notify, told: &Notify) {
    let left = gate.draining().await;
    let end = Instant::now() + left;
    sleep(moment(left, fastrand::f64())).await;
    leave.notify_one();
    let end = end.max(Instant::now() + CLOSING_TIME);
    if timeout_at(end, told.notified()).await.is_ok() {
        sleep(CLOSING_TIME).await;
    }
}

/// When a client is told to go, of a workload that is drained for `left`: somewhere in the first
/// half of that time, `at` (0 to 1) of the way, so that not all connect anew at once.
fn moment(left: Duration, at: f64) -> Duration {
    (left / 2).min(SPREAD_MAX).mul_f64(at)
}
