//! The data plane against sockets: a client and an application played by hand, byte by byte.

mod apps;
mod bodies;
mod canary;
mod counts;
mod draining;
mod errors;
mod forwarding;
mod redirects;
mod rig;
mod serving;
mod shop;
mod switching;
mod upgrades;
mod waking;
mod wire;
