//! Rhai scripts: compiled, limited, and asked for decisions.

mod answers;
mod check;
mod documented;
mod duration;
mod engine;
pub mod error;
mod facts;
mod helpers;
pub mod history;
mod hooks;
mod load;
pub mod memo;
pub mod meter;
pub mod reload;
mod request;
mod routes;
mod rules;
mod vars;
pub mod version;

#[cfg(test)]
mod tests;
