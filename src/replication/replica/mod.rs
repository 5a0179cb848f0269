//! This node as a replica: the link to its master, from REPLICAOF to the last byte.
//!
//! ```text
//!  the link's thread, which may wait                                      shards, which may not
//!  +---------------------------------------------------------------+      +--------------------------------+
//!  | link:      looks up the name, connects, says who it is, PSYNC |      |                                |
//!  | transfer:  the data set, into a file                          |      |                                |
//!  | placing:   ... in the place of what there was          -------|----->| empty, load, serve again       |
//!  | stream:    cuts what comes into commands and batches   -------|----->| one unit of work for each      |
//!  |            <- it has taken effect; REPLCONF ACK               |      |                                |
//!  +---------------------------------------------------------------+      +--------------------------------+
//!                                                          errands, which the first shard hands out
//! ```
//!
//! What the shards know of it is [`Following`](crate::engine::replication::Following): whether they refuse writes, and where the data set stands in its
//! master's history. Everything that waits for a name, for the network or for a disk is here, on a thread that each generation of
//! `Following` has for itself. When its generation ends it changes nothing any more and goes away as soon as it finds out.
//!
//! A link that breaks is made again, each second, and goes on where the data set stands, if the master still has what followed. Otherwise
//! all of it is fetched anew. Clients are served what there is until the new data set is here; then it is read as at a start
//! ([`durability::load`](crate::durability::load)), by all shards, which meanwhile answer that they load.
//!
//! Invariants:
//! 1. The position in `Following` is that of the data set, at any time: it is taken away before the data set is, and is there again when that is whole.
//! 2. A byte of the stream is confirmed when what it is part of has taken effect on all shards.

mod errands;
mod link;
mod placing;
mod stream;
mod transfer;
mod wire;

pub use errands::Errands;

use crate::durability::load::LoadError;
use crate::engine::{Node, Registry};
use std::io;
use std::sync::Arc;

/// Makes a node able to be a replica, and one, if its configuration says so. To be called before it serves. What its links have done on the
/// shards they leave with `errands`, which the first shard is to attend to.
pub fn prepare(node: &Arc<Node>, registry: &'static Registry, errands: &Arc<Errands>) {
    let (weak, errands) = (Arc::downgrade(node), errands.clone());
    node.replication.following.start_by(Box::new(move |assignment| {
        let Some(node) = weak.upgrade() else { return };
        let errands = errands.clone();
        let name = "replication".to_owned();
        let started = std::thread::Builder::new()
            .name(name)
            .spawn(move || link::keep(&node, registry, &errands, &assignment));
        if let Err(error) = started {
            tracing::warn!("Can't start a thread for the link to the MASTER: {error}");
        }
    }));
    let master = node.lock_config().settings().replicaof.clone();
    if let Some(master) = master {
        node.replication.following.follow(master, None);
    }
}

/// Why a link has ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    /// Nobody wants it any more.
    #[error("another master is followed, or none")]
    Over,
    #[error("{what}: {error}")]
    Io { what: &'static str, error: io::Error },
    #[error("Timeout {0}: nothing has come for longer than repl-timeout")]
    Silent(&'static str),
    #[error("the connection was closed {0}")]
    Closed(&'static str),
    /// The master does not want to, or cannot.
    #[error("{what}: {answer}")]
    Refused { what: &'static str, answer: String },
    #[error("what the master sends is not understood: {0}")]
    Protocol(String),
    #[error("Failed trying to load the MASTER synchronization DB: {0}")]
    Load(#[from] LoadError),
}
