//! Rhai scripts: compiled, limited, and asked for decisions.

mod answers;
mod check;
mod duration;
mod engine;
pub mod error;
mod facts;
mod hooks;
mod load;
pub mod memo;
pub mod meter;
mod request;
mod routes;
mod rules;
pub mod version;

#[cfg(test)]
mod tests;
