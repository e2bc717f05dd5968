//! Tunnels: a connection that both sides have switched to another protocol.

use std::rc::Rc;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tracing::debug;

use crate::lifecycle::gate::Lease;

/// Carries bytes both ways until both sides have ended; one side's end is passed on while the
/// other still speaks. Holds the lease to the end, and drops `also` then.
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
    let mut client = TokioIo::new(client);
    let mut application = TokioIo::new(application);
    match copy_bidirectional(&mut client, &mut application).await {
        Ok((up, down)) => debug!(%workload, up, down, "a tunnel ended"),
        Err(error) => debug!(%workload, %error, "a tunnel broke"),
    }
    drop(also);
}
