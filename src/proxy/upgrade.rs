//! Tunnels: a connection that both sides have switched to another protocol.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, split};
use tokio::time::timeout;
use tracing::debug;

use crate::lifecycle::gate::Lease;

/// For a client to hang up after its application has. One that never does would hold its lease,
/// and so keep a workload awake, for ever (RFC 6455 §7.1.1 lets the server close first).
const HANG_UP_TIME: Duration = Duration::from_secs(10);

/// Carries bytes both ways until both sides have ended; one side's end is passed on while the
/// other still speaks, a client only for some seconds. Holds the lease to the end, and drops
/// `also` then.
pub async fn tunnel<T>(client: OnUpgrade, application: OnUpgrade, lease: Rc<Lease>, also: T) {
    let workload = lease.endpoint().workload.clone();
    let ends = tokio::try_join!(client, application);
    let (client, application) = match ends {
        Ok(ends) => ends,
        Err(error) => {
            debug!(%workload, %error, "a connection ended before it was switched");
            return;
        }
    };
    match carry(TokioIo::new(client), TokioIo::new(application)).await {
        Ok((up, down)) => debug!(%workload, up, down, "a tunnel ended"),
        Err(error) => debug!(%workload, %error, "a tunnel broke"),
    }
    drop(also);
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
