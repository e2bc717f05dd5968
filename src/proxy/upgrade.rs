//! Tunnels: a connection that both sides have switched to another protocol.

use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy, split};
use tokio::time::timeout;
use tracing::debug;

use crate::deploy::stats::Stats;
use crate::lifecycle::gate::Lease;

/// For a client to hang up after its application has. One that never does would hold its lease,
/// and so keep a workload awake, for ever (RFC 6455 §7.1.1 lets the server close first).
const HANG_UP_TIME: Duration = Duration::from_secs(10);

/// Carries bytes both ways until both sides have ended; one side's end is passed on while the
/// other still speaks, a client only for some seconds. Counts them in `stats`, if there are some.
/// Holds the lease to the end, and drops `also` then.
pub async fn tunnel<T>(
    client: OnUpgrade,
    application: OnUpgrade,
    lease: Rc<Lease>,
    stats: Option<Arc<Stats>>,
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
    match carry(client, application).await {
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
    let mut up = pin!(pass_on(from_client, to_application));
    let mut down = pin!(pass_on(from_application, to_client));
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
