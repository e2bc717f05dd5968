//! The data plane: takes requests in, asks the scripts, gets a lease, and carries the bytes.
//!
//! One thread a worker, each with its own listener, runtime and connections to applications;
//! nothing in the hot path is shared between them. A request goes down through
//! `handler` (facts, decision), `entry` (lease) and `forward` (attempts on connections from
//! `upstream`); whatever the gateway says itself is made in `respond`.

mod again;
mod body;
mod canary;
mod entry;
mod facts;
mod forward;
mod handler;
mod headers;
mod listener;
mod meter;
mod page;
mod patience;
mod ports;
mod record;
mod respond;
mod socket;
mod upgrade;
mod upstream;
mod websocket;
mod worker;

#[cfg(test)]
mod tests;

pub use listener::{Bound, ListenError};
pub use meter::Metrics;
pub use ports::{Decide, OnError, Wake};
pub use worker::{Proxy, Running, StartError};
