//! The private listener's socket: bound safely, served within limits, given back at the end.

use std::fs::Permissions;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::StartError;
use crate::config::Listen;

/// For a request's head to arrive, also the longest pause between two requests.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// A request's head, in bytes; past it 431.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Open connections; past it new ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;

/// For a peer to take what was sent to it, where it still acknowledges nothing.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// The pause after the system refused to accept (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const BACKLOG: i32 = 128;

/// A bound socket.
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The file of a unix socket; removed when this is dropped, if it is still the same file.
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// When to end, as told by whoever started the listener.
#[derive(Clone, Default)]
pub struct Ending {
    /// No new connections, and no new requests on the old ones.
    pub closing: CancellationToken,
    /// What is still open is dropped.
    pub aborting: CancellationToken,
}

impl Listener {
    pub async fn bind(listen: &Listen) -> Result<Self, StartError> {
        match listen {
            Listen::Tcp(address) => TcpListener::bind(address)
                .await
                .map(Self::Tcp)
                .map_err(|source| StartError::of(listen, source)),
            Listen::Unix(path) => bind_unix(listen, path).await,
        }
    }

    /// Where it is really bound: with the port that it got when port 0 was asked for.
    pub fn address(&self) -> io::Result<Listen> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Listen::Tcp),
            Self::Unix(_, file) => Ok(Listen::Unix(file.path.clone())),
        }
    }

    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(tcp, _)| Stream::Tcp(tcp)),
            Self::Unix(listener, _) => listener.accept().await.map(|(unix, _)| Stream::Unix(unix)),
        }
    }

    /// Serves until `ending.closing`; connections run as tasks of `tasks`.
    pub async fn serve(self, router: Router, tasks: TaskTracker, ending: Ending) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                () = ending.closing.cancelled() => break,
                accepted = async {
                    let place = places.clone().acquire_owned().await;
                    self.accept().await.map(|stream| (stream, place))
                } => accepted,
            };
            match accepted {
                Ok((stream, place)) => {
                    let conversation = converse(stream, router.clone(), ending.clone());
                    tasks.spawn(async move {
                        conversation.await;
                        drop(place);
                    });
                }
                Err(error) if gave_up_in_the_queue(&error) => {}
                Err(error) => {
                    tracing::warn!("the admin listener cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// The peer was gone before its connection was accepted (accept(2)).
fn gave_up_in_the_queue(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
    )
}

async fn converse(stream: Stream, router: Router, ending: Ending) {
    match stream {
        Stream::Tcp(tcp) => {
            let socket = SockRef::from(&tcp);
            if let Err(error) = socket
                .set_tcp_nodelay(true)
                .and_then(|()| socket.set_tcp_user_timeout(Some(WRITE_TIMEOUT)))
            {
                tracing::debug!("an admin connection's options could not be set: {error}");
            }
            serve_connection(tcp, router, ending).await;
        }
        Stream::Unix(unix) => serve_connection(unix, router, ending).await,
    }
}

async fn serve_connection<S>(stream: S, router: Router, ending: Ending)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let mut is_closing = false;
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!("an admin connection ended: {error}");
                }
                return;
            }
            () = ending.closing.cancelled(), if !is_closing => {
                connection.as_mut().graceful_shutdown();
                is_closing = true;
            }
            () = ending.aborting.cancelled() => return,
        }
    }
}

async fn bind_unix(listen: &Listen, path: &Path) -> Result<Listener, StartError> {
    let failed = |source| StartError::of(listen, source);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
    let address = SockAddr::unix(path).map_err(failed)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            remove_stale(listen, path).await?;
            socket.bind(&address).map_err(failed)?;
        }
        bound => bound.map_err(failed)?,
    }
    let file = SocketFile::at(path).map_err(failed)?;
    // Before listen(): until then nobody can connect, whatever the umask let the file become.
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
    socket.listen(BACKLOG).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    let listener = UnixListener::from_std(socket.into()).map_err(failed)?;
    Ok(Listener::Unix(listener, file))
}

/// Removes what a killed gateway left behind: a socket file on which nobody listens.
async fn remove_stale(listen: &Listen, path: &Path) -> Result<(), StartError> {
    let failed = |source| StartError::of(listen, source);
    let kind = std::fs::symlink_metadata(path).map_err(failed)?.file_type();
    if !kind.is_socket() {
        return Err(StartError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            tracing::info!("{} was left behind and is replaced", path.display());
            std::fs::remove_file(path).map_err(failed)
        }
        // Also when its queue is full or we may not connect: somebody is there.
        _ => Err(failed(ErrorKind::AddrInUse.into())),
    }
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::symlink_metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = |metadata: std::fs::Metadata| {
            (metadata.dev(), metadata.ino()) == (self.device, self.inode)
        };
        if std::fs::symlink_metadata(&self.path).is_ok_and(is_ours)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!("{} could not be removed: {error}", self.path.display());
        }
    }
}
