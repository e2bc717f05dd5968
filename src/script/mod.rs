//! Rhai scripts: compiled, limited, and asked for decisions.

mod answers;
mod check;
pub mod counts;
pub mod current;
pub mod decider;
pub mod definitions;
mod documented;
mod duration;
mod engine;
pub mod error;
pub mod explain;
mod facts;
mod field;
pub mod guard;
pub mod head;
mod helpers;
pub mod history;
mod hooks;
mod load;
pub mod memo;
pub mod meter;
mod recent;
pub mod reload;
mod request;
mod routes;
mod rules;
pub mod selftest;
pub mod shadow;
mod shown;
mod simulated;
pub mod trial;
mod vars;
pub mod version;

#[cfg(test)]
mod tests;
