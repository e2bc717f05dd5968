//! Wakegate: an HTTP gateway in which Rhai scripts decide and a fixed Rust core acts.
//!
//! # The way of a request
//!
//! ```text
//! proxy::handler      reads the facts of the request
//! script::decider       asks the scripts: facts in, a decision out, remembered per worker
//! deploy::route           which release is current, where the decision is for an application
//! lifecycle::fleet        gives a lease on the workload: at once when it is ready (an atomic),
//!   workload                else as soon as it has been woken
//!     machine                 decides every start and stop, without waiting for anything
//!     runtime                   carries it out: Docker, child processes, or a fake in tests
//! proxy::upstream     sends the request; the lease lives until the answer's last byte
//! ```
//!
//! # Floors
//!
//! A file uses only floors below its own (`tests/tidy.rs` sees to it). From the ground up:
//!
//! - vocabulary: [`names`], [`clock`], [`metrics`];
//! - pure: [`config`], [`decision`], [`spec`], [`target`], [`lifecycle::gate`], [`lifecycle::machine`];
//! - ports and engines: [`runtime`] (the trait), [`script`], [`store`], [`https`], [`inquiry`];
//! - adapters and drivers: `runtime::docker`, `runtime::process`, `runtime::fake`, [`traefik`],
//!   [`lifecycle::fleet`] with its workloads;
//! - services: [`proxy`];
//! - doors: [`admin`], [`cli`], [`app`], `main`, and [`demo`] with the sample application.
//!
//! # What holds everywhere
//!
//! - Scripts are pure: they get facts and return data. Only the core waits.
//! - One state machine owns a workload; nothing else creates, starts, stops or removes a container.
//! - The engine is the truth. Nothing about containers is stored here: after a crash or a lost
//!   event stream everything is listed again.
//! - A lease releases itself. Idle means that there is none.
//! - Every queue, buffer, retry and wait has a limit in gateway.toml or in a decision.
//!
//! # What is absent
//!
//! There is no request-path lock, no database, no global state, and no DNS lookup: addresses come
//! from the engine. The data plane's threads share nothing but the gates of the workloads and the
//! current version of the scripts.

pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod decision;
pub mod demo;
pub mod deploy;
pub mod https;
pub mod inquiry;
pub mod lifecycle;
pub mod log;
pub mod metrics;
pub mod names;
pub mod proxy;
pub mod runtime;
pub mod script;
pub mod spec;
pub mod store;
pub mod target;
pub mod traefik;
