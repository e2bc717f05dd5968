//! Bodies on their way through, in both directions: streamed, limited, and holding their lease.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::time::Instant;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::deploy::stats::{Stats, Visit};
use crate::lifecycle::gate::Lease;
use crate::proxy::record::Record;
use crate::proxy::upstream::Checkout;

/// Why a request's body came to an end before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    #[error("the request's body is larger than allowed")]
    TooLarge,
    #[error("the request's body broke off or is malformed")]
    Client,
}

/// A client's body, kept where it survives a failed attempt to send it.
#[derive(Debug)]
pub struct Source {
    incoming: RefCell<Incoming>,
    bytes_max: u64,
    bytes: Cell<u64>,
    touched: Cell<bool>,
    fault: Cell<Option<BodyFault>>,
    progress: Cell<Instant>,
    /// Whether the application has asked for more than the client has sent.
    starved: Cell<bool>,
}

impl Source {
    pub fn new(incoming: Incoming, bytes_max: u64) -> Rc<Self> {
        Rc::new(Self {
            incoming: RefCell::new(incoming),
            bytes_max,
            bytes: Cell::new(0),
            touched: Cell::new(false),
            fault: Cell::new(None),
            progress: Cell::new(Instant::now()),
            starved: Cell::new(false),
        })
    }

    /// How many bytes the client has announced, at the least.
    pub fn announced(&self) -> u64 {
        self.incoming.borrow().size_hint().lower()
    }

    /// Whether it is known to have no more bytes than that.
    pub fn is_within(&self, bytes: u64) -> bool {
        let upper = self.incoming.borrow().size_hint().upper();
        upper.is_some_and(|upper| upper <= bytes)
    }

    /// Reads it to its end, or until it breaks off, and forgets it.
    pub async fn read_away(&self) {
        while let Some(Ok(_)) = poll_fn(|cx| self.poll(cx)).await {}
    }

    /// Whether any of it has been asked for; it cannot be sent anew then.
    pub fn touched(&self) -> bool {
        self.touched.get()
    }

    pub fn fault(&self) -> Option<BodyFault> {
        self.fault.get()
    }

    /// When a part of it last passed.
    pub fn progress(&self) -> Instant {
        self.progress.get()
    }

    /// Whether the application waits for the client.
    pub fn starved(&self) -> bool {
        self.starved.get()
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        self.touched.set(true);
        let polled = Pin::new(&mut *self.incoming.borrow_mut()).poll_frame(cx);
        self.starved.set(polled.is_pending());
        let frame = match ready!(polled) {
            Some(Ok(frame)) => frame,
            Some(Err(_)) => return Poll::Ready(Some(Err(self.fail(BodyFault::Client)))),
            None => return Poll::Ready(None),
        };
        self.progress.set(Instant::now());
        let bytes = self.bytes.get() + data_bytes(&frame);
        self.bytes.set(bytes);
        if bytes > self.bytes_max {
            return Poll::Ready(Some(Err(self.fail(BodyFault::TooLarge))));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn fail(&self, fault: BodyFault) -> BodyFault {
        self.fault.set(Some(fault));
        fault
    }
}

fn data_bytes(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| data.len() as u64)
}

/// A request's body as it is sent to the application. Holds the lease to its last byte: an
/// application may answer before it has read everything.
#[derive(Debug)]
pub enum RequestBody {
    Empty,
    Streamed {
        source: Rc<Source>,
        /// Of the release that it is sent to.
        stats: Option<Arc<Stats>>,
        _lease: Rc<Lease>,
    },
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        match self.get_mut() {
            RequestBody::Empty => Poll::Ready(None),
            RequestBody::Streamed { source, stats, .. } => {
                let frame = ready!(source.poll(cx));
                if let (Some(stats), Some(Ok(frame))) = (stats, &frame) {
                    stats.from_client(data_bytes(frame));
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Empty => true,
            RequestBody::Streamed { source, .. } => source.incoming.borrow().is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Empty => SizeHint::with_exact(0),
            RequestBody::Streamed { source, .. } => source.incoming.borrow().size_hint(),
        }
    }
}

/// An answer's body as it is sent to the client.
#[derive(Debug)]
pub struct AnswerBody {
    from: From,
    /// Dropped with the body: the answer is over then.
    record: Option<Record>,
}

#[derive(Debug)]
enum From {
    Gateway(Option<Bytes>),
    Application(Streamed),
}

#[derive(Debug)]
struct Streamed {
    incoming: Incoming,
    ended: bool,
    /// At the release that answers.
    visit: Option<Visit>,
    /// What it answers to, when that has a body.
    request: Option<Rc<Source>>,
    /// Goes back to its pool when the answer has come to its end.
    connection: Option<Checkout>,
    /// After the connection, so that it is given back while the workload is still held.
    lease: Rc<Lease>,
}

impl AnswerBody {
    /// What the gateway says itself.
    pub fn made(text: impl Into<Bytes>) -> Self {
        let text = text.into();
        Self {
            from: From::Gateway(Some(text).filter(|text| !text.is_empty())),
            record: None,
        }
    }

    /// What an application answers over `connection` to a request with that body.
    pub fn streamed(
        incoming: Incoming,
        connection: Checkout,
        lease: Rc<Lease>,
        visit: Option<Visit>,
        request: Option<Rc<Source>>,
    ) -> Self {
        Self {
            from: From::Application(Streamed {
                incoming,
                ended: false,
                visit,
                request,
                connection: Some(connection),
                lease,
            }),
            record: None,
        }
    }

    pub fn with_record(mut self, record: Record) -> Self {
        self.record = Some(record);
        self
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.get_mut().from {
            From::Gateway(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            From::Application(streamed) => {
                let frame = ready!(Pin::new(&mut streamed.incoming).poll_frame(cx));
                streamed.ended |= frame.is_none();
                match &frame {
                    Some(Ok(frame)) => streamed.passed(frame),
                    Some(Err(_)) => streamed.broke_off(),
                    None => {}
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.from {
            From::Gateway(text) => text.is_none(),
            From::Application(streamed) => streamed.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.from {
            From::Gateway(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
            From::Application(streamed) => streamed.incoming.size_hint(),
        }
    }
}

impl Streamed {
    fn passed(&self, frame: &Frame<Bytes>) {
        if let Some(visit) = &self.visit {
            visit.stats().to_client(data_bytes(frame));
        }
    }

    /// Its connection ended before it did. That is not the application's fault when it was told to end,
    /// or when the request broke off that it answers to.
    fn broke_off(&mut self) {
        let is_told_to_end = self.lease.gate().is_draining();
        let is_clients_fault = self
            .request
            .as_ref()
            .is_some_and(|request| request.fault().is_some());
        if !is_told_to_end
            && !is_clients_fault
            && let Some(visit) = &mut self.visit
        {
            visit.broke_off();
        }
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        // A broken-off answer's connection is in no state to be used again: dropping it closes it.
        if (self.ended || self.incoming.is_end_stream())
            && let Some(connection) = self.connection.take()
        {
            connection.give_back();
        }
    }
}
