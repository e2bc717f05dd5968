//! A Traefik beside the gateway: the routes that it makes of containers' labels, and what it tells.
//!
//! Traefik routes to what runs, by its labels; the gateway answers for what sleeps, as the router of
//! the lowest priority. When the gateway has woken a container it may send the client back to
//! Traefik, as soon as Traefik has taken up the container's route.
//!
//! Files: `labels` (which routers and which port a container has), `told` (what an answer of the API means), `api`
//! (asking it, within limits), `routes` (waiting for a woken container's route).

mod api;
mod labels;
mod routes;
mod told;

pub use labels::port;
pub use routes::{Routed, Routes};
