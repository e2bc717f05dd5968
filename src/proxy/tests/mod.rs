//! The data plane against sockets: a client and an application played by hand, byte by byte.

mod bodies;
mod draining;
mod errors;
mod forwarding;
mod rig;
mod serving;
mod upgrades;
mod waking;
