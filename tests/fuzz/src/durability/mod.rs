//! Of starts only how an append-only file is read: the rest needs the engine.

pub mod aof;
