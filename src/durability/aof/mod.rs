//! The append-only file at a start.
//!
//! What a start finds is read, cut to what is kept and made last, and then handed on to whoever writes: [`Recovered`].

pub use crate::engine::aof::Recovered;
