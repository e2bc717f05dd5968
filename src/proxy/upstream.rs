//! One worker's connections to applications: made, pooled by run and port, and gone with the run.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

use crate::config::Upstream;
use crate::lifecycle::gate::{Gate, Lease};
use crate::proxy::body::RequestBody;
use crate::proxy::listener::keepalive;
use crate::proxy::socket::Socket;

/// Applications close idle connections after some seconds, and one that is closed just as it is
/// used again may swallow a request. One that cannot be repeated gets only a connection that was
/// used so recently that this hardly happens, and whose end has not arrived.
const FRESH_ENOUGH: Duration = Duration::from_secs(1);

/// Why a connection to an application could not be made. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot connect to {address}: {source}")]
    Refused {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("cannot connect to {address} within {} s", .after.as_secs_f64())]
    TimedOut {
        address: SocketAddr,
        after: Duration,
    },
    #[error("cannot speak HTTP with {address}: {source}")]
    Handshake {
        address: SocketAddr,
        source: hyper::Error,
    },
}

/// A worker's idle connections. Only the newest are used, so that the rest can time out.
#[derive(Debug)]
pub struct Pools {
    limits: Upstream,
    by_run: RefCell<HashMap<u64, Run>>,
}

/// The idle connections to one run of a workload, oldest first.
#[derive(Debug, Default)]
struct Run {
    idle: VecDeque<Idle>,
}

#[derive(Debug)]
struct Idle {
    port: u16,
    since: Instant,
    connection: Connection,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<RequestBody>,
    socket: Socket,
}

/// A connection that one request uses.
#[derive(Debug)]
pub struct Checkout {
    connection: Connection,
    pools: Weak<Pools>,
    serial: u64,
    port: u16,
    /// Made for this request, not taken from a pool.
    pub fresh: bool,
}

impl Pools {
    pub fn new(limits: Upstream) -> Rc<Self> {
        Rc::new(Self {
            limits,
            by_run: RefCell::default(),
        })
    }

    /// A connection to the lease's run. `repeatable`: whether the request may be sent again
    /// should the connection turn out to be dead.
    pub async fn connection(
        self: &Rc<Self>,
        lease: &Lease,
        port: u16,
        repeatable: bool,
    ) -> Result<Checkout, ConnectError> {
        if let Some(pooled) = self.pooled(lease, port, repeatable) {
            return Ok(pooled);
        }
        let address = SocketAddr::new(lease.endpoint().address, port);
        let connection = self.connect(address).await?;
        self.watch(lease.gate());
        Ok(Checkout {
            connection,
            pools: Rc::downgrade(self),
            serial: lease.endpoint().serial,
            port,
            fresh: true,
        })
    }

    fn pooled(self: &Rc<Self>, lease: &Lease, port: u16, repeatable: bool) -> Option<Checkout> {
        let serial = lease.endpoint().serial;
        let mut by_run = self.by_run.borrow_mut();
        let idle = &mut by_run.get_mut(&serial)?.idle;
        idle.retain(|idle| !idle.connection.sender.is_closed());
        let age_max = if repeatable {
            self.limits.idle_timeout
        } else {
            self.limits.idle_timeout.min(FRESH_ENOUGH)
        };
        let newest = idle.iter().rposition(|idle| {
            idle.port == port
                && idle.connection.sender.is_ready()
                && idle.since.elapsed() < age_max
                && (repeatable || idle.connection.socket.is_quiet())
        })?;
        let connection = idle.remove(newest)?.connection;
        connection.socket.forget_heard();
        Some(Checkout {
            connection,
            pools: Rc::downgrade(self),
            serial,
            port,
            fresh: false,
        })
    }

    async fn connect(&self, address: SocketAddr) -> Result<Connection, ConnectError> {
        let after = self.limits.connect_timeout;
        let stream = match timeout(after, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(source)) => return Err(ConnectError::Refused { address, source }),
            Err(_) => return Err(ConnectError::TimedOut { address, after }),
        };
        let refused = |source| ConnectError::Refused { address, source };
        stream.set_nodelay(true).map_err(refused)?;
        SockRef::from(&stream)
            .set_tcp_keepalive(&keepalive())
            .map_err(refused)?;
        let socket = Socket::from(stream);
        let (sender, driver) = Builder::new()
            .handshake(TokioIo::new(socket.clone()))
            .await
            .map_err(|source| ConnectError::Handshake { address, source })?;
        tokio::task::spawn_local(async move {
            if let Err(error) = driver.with_upgrades().await {
                debug!(%address, %error, "a connection to an application ended");
            }
        });
        Ok(Connection { sender, socket })
    }

    /// Drops what is idle too long, and everything at once when the run's gate closes: an
    /// application that is told to stop waits for its open connections.
    fn watch(self: &Rc<Self>, gate: &Arc<Gate>) {
        let serial = gate.endpoint().serial;
        if self.by_run.borrow().contains_key(&serial) {
            return;
        }
        self.by_run.borrow_mut().insert(serial, Run::default());
        let gate = gate.clone();
        let pools = Rc::downgrade(self);
        let idle_timeout = self.limits.idle_timeout;
        tokio::task::spawn_local(async move {
            // An empty pool has to be gone after a while too, or runs would add up.
            let mut empty_before = false;
            loop {
                let Some(due) = pools.upgrade().map(|pools| pools.next_due(serial)) else {
                    return;
                };
                let closed = timeout_at(due, gate.closed()).await.is_ok();
                let Some(pools) = pools.upgrade() else { return };
                let mut by_run = pools.by_run.borrow_mut();
                let Some(run) = by_run.get_mut(&serial) else {
                    return;
                };
                while run
                    .idle
                    .front()
                    .is_some_and(|oldest| oldest.since.elapsed() >= idle_timeout)
                {
                    run.idle.pop_front();
                }
                let unused = run.idle.is_empty() && gate.leases() == 0;
                if closed || (unused && empty_before) {
                    by_run.remove(&serial);
                    return;
                }
                empty_before = unused;
            }
        });
    }

    /// When the oldest idle connection is to be closed, or the pool to be looked at again.
    fn next_due(&self, serial: u64) -> Instant {
        let by_run = self.by_run.borrow();
        let oldest = by_run.get(&serial).and_then(|run| run.idle.front());
        oldest.map_or_else(Instant::now, |oldest| oldest.since) + self.limits.idle_timeout
    }

    fn give_back(&self, serial: u64, port: u16, connection: Connection) {
        let mut by_run = self.by_run.borrow_mut();
        // Without its pool the run is over.
        let Some(run) = by_run.get_mut(&serial) else {
            return;
        };
        if connection.sender.is_closed() || self.limits.idle_connections_max == 0 {
            return;
        }
        if run.idle.len() >= self.limits.idle_connections_max {
            run.idle.pop_front();
        }
        run.idle.push_back(Idle {
            port,
            since: Instant::now(),
            connection,
        });
    }
}

impl Checkout {
    pub fn sender(&mut self) -> &mut SendRequest<RequestBody> {
        &mut self.connection.sender
    }

    /// Whether the application has said anything since the connection was taken.
    pub fn heard(&self) -> bool {
        self.connection.socket.heard()
    }

    /// Ready for another request: to the pool, unless that is full or the run is over.
    pub fn give_back(self) {
        if let Some(pools) = self.pools.upgrade() {
            pools.give_back(self.serial, self.port, self.connection);
        }
    }
}
