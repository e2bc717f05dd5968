//! The public listening sockets: one a worker on TCP, one shared by all on a Unix path.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::SocketFlags;
use socket2::{Domain, Protocol, SockAddr, Socket as RawSocket, TcpKeepalive, Type};
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpStream, UnixStream};

use crate::config::Listen;
use crate::proxy::socket::Socket;

/// Connections that the kernel keeps ready for a worker that is busy.
const BACKLOG: i32 = 1024;

/// When a silent peer is asked whether it is still there. Without it a client that vanished would
/// hold its lease, and so keep a workload awake, for ever.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(20);

/// Why the listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {listen}: {reason}")]
pub struct ListenError {
    /// As in gateway.toml.
    pub listen: String,
    /// What is wrong and what to do.
    pub reason: String,
    #[source]
    pub source: Option<io::Error>,
}

/// Where a listener really is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// With the port that the kernel chose where 0 was asked for.
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::Tcp(address) => address.fmt(f),
            Bound::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// One worker's listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: RawSocket,
    unix: bool,
}

/// Opens `count` listeners on the same address.
pub fn bind(listen: &Listen, count: usize) -> Result<(Bound, Vec<Listener>), ListenError> {
    match listen {
        Listen::Tcp(address) => bind_tcp(*address, count),
        Listen::Unix(path) => bind_unix(path, count),
    }
}

fn bind_tcp(asked: SocketAddr, count: usize) -> Result<(Bound, Vec<Listener>), ListenError> {
    let explain = |error: io::Error| ListenError {
        listen: asked.to_string(),
        reason: reason(&error, asked),
        source: Some(error),
    };
    // Sockets that share a port would also share it with another gateway's, and each would get
    // a part of the requests. One that does not share finds out whether the port is free.
    if asked.port() != 0 {
        tcp_socket(asked, false).map_err(explain)?;
    }
    let first = tcp_socket(asked, true).map_err(explain)?;
    let bound = first
        .local_addr()
        .map_err(explain)?
        .as_socket()
        .unwrap_or(asked);
    let mut listeners = vec![Listener {
        socket: first,
        unix: false,
    }];
    for _ in 1..count {
        listeners.push(Listener {
            socket: tcp_socket(bound, true).map_err(explain)?,
            unix: false,
        });
    }
    Ok((Bound::Tcp(bound), listeners))
}

fn tcp_socket(address: SocketAddr, shared: bool) -> io::Result<RawSocket> {
    let socket = RawSocket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    // Connections of a gateway that just ended do not keep the port from the next one.
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    // Accepted sockets inherit these, which spares three calls a connection.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive())?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// How a connection finds out that its peer has vanished.
pub fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_EVERY)
}

fn reason(error: &io::Error, address: SocketAddr) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "address in use; end what listens there (ss -ltnp 'sport = :{}' names it) or set public.listen",
            address.port()
        ),
        io::ErrorKind::PermissionDenied => {
            "permission denied; ports below 1024 need privileges, choose another in public.listen"
                .to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address; set public.listen to one that it has, or to 0.0.0.0"
                .to_owned()
        }
        _ => error.to_string(),
    }
}

fn bind_unix(path: &Path, count: usize) -> Result<(Bound, Vec<Listener>), ListenError> {
    let refuse = |reason: String, source: Option<io::Error>| ListenError {
        listen: format!("unix:{}", path.display()),
        reason,
        source,
    };
    if let Ok(found) = std::fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(refuse(
                "the path exists and is no socket; remove it or set public.listen".to_owned(),
                None,
            ));
        }
        if StdUnixStream::connect(path).is_ok() {
            return Err(refuse(
                "address in use; end what listens there or set public.listen".to_owned(),
                None,
            ));
        }
        // Nobody listens: it was left behind by a gateway that was killed.
        std::fs::remove_file(path).map_err(|error| {
            refuse(
                format!("the stale socket cannot be removed: {error}"),
                Some(error),
            )
        })?;
    }
    let open = || -> io::Result<Vec<Listener>> {
        let socket = RawSocket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        socket.listen(BACKLOG)?;
        let mut listeners = Vec::new();
        for _ in 1..count {
            listeners.push(Listener {
                socket: socket.try_clone()?,
                unix: true,
            });
        }
        listeners.push(Listener { socket, unix: true });
        Ok(listeners)
    };
    let listeners = open().map_err(|error| {
        let what = match error.kind() {
            io::ErrorKind::NotFound => "its directory does not exist; make it".to_owned(),
            io::ErrorKind::PermissionDenied => {
                "permission denied; choose a directory that the gateway may write to".to_owned()
            }
            _ => error.to_string(),
        };
        refuse(what, Some(error))
    })?;
    Ok((Bound::Unix(path.to_owned()), listeners))
}

/// Removes a Unix listener's file when it is dropped, unless another one has taken its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: Option<(u64, u64)>,
}

impl SocketFile {
    pub fn of(bound: &Bound) -> Option<Self> {
        match bound {
            Bound::Tcp(_) => None,
            Bound::Unix(path) => Some(Self {
                path: path.clone(),
                inode: inode(path),
            }),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.inode.is_some() && inode(&self.path) == self.inode {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> Option<(u64, u64)> {
    let found = std::fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// A listener inside its worker's runtime.
#[derive(Debug)]
pub struct Acceptor {
    socket: AsyncFd<RawSocket>,
    unix: bool,
}

impl Acceptor {
    /// Must be called in the worker's runtime.
    #[expect(
        deprecated,
        reason = "its successor is unsafe to call, for the sake of types that may change or close \
                  their descriptor meanwhile; a socket does neither"
    )]
    pub fn new(listener: Listener) -> io::Result<Self> {
        Ok(Self {
            socket: AsyncFd::new(listener.socket)?,
            unix: listener.unix,
        })
    }

    /// Waits until there may be a connection; it stays in the kernel's queue.
    pub async fn ready(&self) -> io::Result<()> {
        self.socket.readable().await.map(|mut guard| {
            guard.retain_ready();
        })
    }

    /// Takes a connection out of the kernel's queue; `Ok(None)` when there is none after all.
    /// The address is `None` on a Unix socket.
    pub fn accept(&self) -> io::Result<Option<(Socket, Option<IpAddr>)>> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let accepted = self.socket.try_io(tokio::io::Interest::READABLE, |socket| {
            rustix::net::acceptfrom_with(socket, flags).map_err(io::Error::from)
        });
        let (fd, peer): (OwnedFd, _) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        if self.unix {
            let stream = UnixStream::from_std(fd.into())?;
            return Ok(Some((stream.into(), None)));
        }
        let peer = peer
            .and_then(|peer| SocketAddr::try_from(peer).ok())
            .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| {
                // A v6 socket sees v4 peers as ::ffff:1.2.3.4; no rule would match that.
                peer.ip().to_canonical()
            });
        let stream = TcpStream::from_std(fd.into())?;
        Ok(Some((stream.into(), Some(peer))))
    }
}
