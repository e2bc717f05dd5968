//! One end of a connection, read and written by hand.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::rig::soon;

/// One end of a connection, read and written by hand.
pub struct Wire<S = TcpStream> {
    pub stream: S,
    pub buffer: Vec<u8>,
}

impl Wire {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::new(soon(TcpStream::connect(address)).await.unwrap())
    }

    /// Ends it with a reset, not with a clean end.
    pub fn reset(self) {
        let stream = self.stream.into_std().unwrap();
        socket2::SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    pub async fn say(&mut self, text: impl AsRef<[u8]>) {
        soon(self.stream.write_all(text.as_ref())).await.unwrap();
    }

    async fn read_some(&mut self) -> std::io::Result<usize> {
        soon(self.stream.read_buf(&mut self.buffer)).await
    }

    /// The next bytes up to and with `end`.
    pub async fn until(&mut self, end: &str) -> String {
        loop {
            let found = self
                .buffer
                .windows(end.len())
                .position(|window| window == end.as_bytes());
            if let Some(at) = found {
                let text = self.buffer.drain(..at + end.len()).collect();
                return String::from_utf8(text).unwrap();
            }
            let got = self.read_some().await.unwrap();
            let had = String::from_utf8_lossy(&self.buffer);
            assert!(got > 0, "the connection ended after {had:?}");
        }
    }

    /// The next message's head.
    pub async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    pub async fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(self.read_some().await.unwrap() > 0, "the connection ended");
        }
        self.buffer.drain(..count).collect()
    }

    pub async fn text(&mut self, count: usize) -> String {
        String::from_utf8(self.bytes(count).await).unwrap()
    }

    /// Head and body of a message with Content-Length.
    pub async fn message(&mut self) -> (String, String) {
        let head = self.head().await;
        let length = field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        let body = self.text(length).await;
        (head, body)
    }

    /// All up to the end of the connection, however it ends.
    pub async fn rest(&mut self) -> String {
        while self.read_some().await.is_ok_and(|got| got > 0) {}
        String::from_utf8(std::mem::take(&mut self.buffer)).unwrap()
    }

    /// Returns when the other end has closed and nothing more came.
    pub async fn ended(&mut self) {
        assert_eq!(self.rest().await, "");
    }
}

/// A field's value in a head; names are compared without case.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    fields(head, name).into_iter().next()
}

pub fn fields<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .filter(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
        .collect()
}

pub fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}
