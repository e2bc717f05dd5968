//! One byte stream, TCP or Unix, that can be watched for its peer's leaving while nobody reads it.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connection to a client or to an application. Clones are the same connection.
#[derive(Debug, Clone)]
pub struct Socket(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stream: Stream,
    /// Whether anything was read since [`Socket::forget_heard`].
    heard: AtomicBool,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The same method of whichever stream it is.
macro_rules! either {
    ($socket:expr, $stream:ident => $call:expr) => {
        match &$socket.0.stream {
            Stream::Tcp($stream) => $call,
            Stream::Unix($stream) => $call,
        }
    };
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Self::new(Stream::Tcp(stream))
    }
}

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Self {
        Self::new(Stream::Unix(stream))
    }
}

impl Socket {
    fn new(stream: Stream) -> Self {
        Self(Arc::new(Inner {
            stream,
            heard: AtomicBool::new(false),
        }))
    }

    /// Whether the peer has said anything since [`Socket::forget_heard`].
    pub fn heard(&self) -> bool {
        self.0.heard.load(Ordering::Relaxed)
    }

    pub fn forget_heard(&self) {
        self.0.heard.store(false, Ordering::Relaxed);
    }

    /// Whether the peer has neither closed nor said anything that is not read yet, by the kernel's
    /// word of this moment: tokio only hears of it when it looks for events the next time.
    pub fn is_quiet(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let peeked = rustix::net::recv(self.as_fd(), &mut [0_u8; 1], flags);
        matches!(peeked, Err(Errno::AGAIN))
    }

    /// Resolves when the peer has closed its side, whether or not what it sent has been read.
    ///
    /// A request whose body is not read yet is not read from at all, so that HTTP would not notice.
    pub async fn hung_up(&self) {
        // "Priority" readiness is urgent data or the end of reading: the only kind that unread
        // data does not trigger.
        #[cfg(target_os = "linux")]
        loop {
            match either!(self, stream => stream.ready(Interest::PRIORITY).await) {
                Ok(ready) if ready.is_read_closed() => return,
                Ok(_) => tokio::time::sleep(Duration::from_secs(1)).await,
                Err(_) => return,
            }
        }
        #[cfg(not(target_os = "linux"))]
        std::future::pending().await
    }

    /// Ends the writing side, then reads away what the peer still sends, until it closes too.
    /// Within limits.
    ///
    /// Closing with unread data makes the kernel reset the connection, and the reset may overtake
    /// the answer: a client that is told 413 or 431 while it still sends would not see it
    /// (RFC 9112 §9.6).
    pub async fn linger(&self) {
        const TIME_MAX: Duration = Duration::from_secs(5);
        const BYTES_MAX: usize = 1 << 20;
        let _ = rustix::net::shutdown(self.as_fd(), rustix::net::Shutdown::Write);
        let read_away = async {
            let mut scratch = [0; 8192];
            let mut bytes = 0;
            while bytes < BYTES_MAX {
                if either!(self, stream => stream.readable().await).is_err() {
                    return;
                }
                match either!(self, stream => stream.try_read(&mut scratch)) {
                    Ok(0) => return,
                    Ok(n) => bytes += n,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return,
                }
            }
        };
        let _ = tokio::time::timeout(TIME_MAX, read_away).await;
    }

    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        either!(self, stream => stream.as_fd())
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buf.remaining();
        if room == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(either!(self, stream => stream.poll_read_ready(cx)))?;
            match either!(self, stream => stream.try_read_buf(buf)) {
                Ok(n) => {
                    if n > 0 {
                        self.0.heard.store(true, Ordering::Relaxed);
                    }
                    // A short read emptied the kernel's buffer: say so, which spares a read that
                    // would only be told "would block". Tokio's own streams do the same.
                    if 0 < n && n < room {
                        let _ = either!(self, stream => stream.try_io(Interest::READABLE, || {
                            Err::<(), _>(io::ErrorKind::WouldBlock.into())
                        }));
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(either!(self, stream => stream.poll_write_ready(cx)))?;
            match either!(self, stream => stream.try_write(buf)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(either!(self, stream => stream.poll_write_ready(cx)))?;
            match either!(self, stream => stream.try_write_vectored(bufs)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match rustix::net::shutdown(self.as_fd(), rustix::net::Shutdown::Write) {
            Ok(()) | Err(rustix::io::Errno::NOTCONN) => Poll::Ready(Ok(())),
            Err(errno) => Poll::Ready(Err(errno.into())),
        }
    }
}
