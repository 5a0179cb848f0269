//! What the node is to other servers: whose history its data set is, how far that history goes, and who copies whom.
//!
//! | file | owns |
//! |---|---|
//! | here | the identity ([`History`]), and those who copy this server ([`Replica`]), as all shards know them |
//! | `following` | the role: whom this server copies, if it does, and how far it has come in that ([`Following`]) |
//! | `figures` | what INFO says of that |
//! | `stream` | the stream put together, and the end of it that is kept |
//!
//! A *history* is a name (`replid`) and all that has happened under it; a place in it is an offset, counted in bytes of the stream. Whoever
//! knows name and offset can say what is missing. When a server goes on from another one's history under a name of its own (it was
//! promoted, or started from a file), it remembers the old name with the offset up to which both are the same: who is not further
//! than that can go on here.
//!
//! Everything here is behind locks, held for moments: by who asks, and by what changes seldom (roles, links, acknowledgements). What is
//! asked with each command stands beside them as atomics: whether this is a replica, and how many of its own replicas are near.
//!
//! Invariant: the offset of a master is the end of the stream ([`Turns::end_offset`](crate::shard::turns::Turns::end_offset)) and nothing
//! else counts it; that of a replica is what it has applied of its master's.

mod figures;
mod following;
pub mod stream;

pub use figures::write_section;
pub use following::{Assignment, Following, LinkState, Position, Report, Transfer};

use crate::base::clock::UnixMs;
use crate::shard::ConnRef;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The history that a data set is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// 40 hex digits.
    pub replid: String,
    /// The history that it has gone on from.
    pub earlier: Option<Earlier>,
}

/// A history that another one has gone on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// 40 hex digits.
    pub replid: String,
    /// The first offset that it has not in common with what came of it (`second_repl_offset`).
    pub end_offset: u64,
}

impl History {
    /// One that begins with nothing.
    pub fn new(replid: String) -> History {
        History { replid, earlier: None }
    }

    /// Goes on under another name. What has the old one and is not above this offset, is of both.
    pub fn go_on_as(&mut self, replid: String, offset: u64) {
        let earlier = std::mem::replace(&mut self.replid, replid);
        self.earlier = Some(Earlier {
            replid: earlier,
            end_offset: offset + 1,
        });
    }

    /// Whether who has that history, and wants it from this offset on, can be given what came of it here.
    pub fn has(&self, replid: &[u8], from_offset: u64) -> bool {
        let is_earlier = |earlier: &Earlier| {
            replid.eq_ignore_ascii_case(earlier.replid.as_bytes()) && from_offset <= earlier.end_offset
        };
        replid.eq_ignore_ascii_case(self.replid.as_bytes()) || self.earlier.as_ref().is_some_and(is_earlier)
    }
}

/// A server that copies this one.
#[derive(Clone, Debug)]
pub struct Replica {
    /// Its client.
    pub id: u64,
    pub place: ConnRef,
    /// Where it says that it is, or where its connection comes from.
    pub ip: String,
    /// Where it says that it listens.
    pub port: u16,
    pub state: ReplicaState,
    /// What it has, as it has said last, and when that was.
    pub acked_offset: u64,
    pub acked_at: UnixMs,
    /// What of it is on its disk, if it has said so.
    pub durable_offset: Option<u64>,
}

/// How far a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaState {
    /// The data set is to be saved for it, or is being saved.
    Waiting,
    /// It is being sent.
    Receiving,
    /// It gets the stream.
    Online,
    /// It was sent what it wanted, and gets no stream.
    Served,
}

impl ReplicaState {
    /// As INFO calls it; None: it is not shown.
    pub fn name(self) -> Option<&'static str> {
        match self {
            ReplicaState::Waiting => Some("wait_bgsave"),
            ReplicaState::Receiving => Some("send_bulk"),
            ReplicaState::Online => Some("online"),
            ReplicaState::Served => None,
        }
    }
}

/// What of the stream is kept for those who come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BacklogFigures {
    pub first_offset: u64,
    pub byte_count: u64,
}

/// What is known of all that.
#[derive(Debug)]
pub struct State {
    pub history: History,
    pub replicas: Vec<Replica>,
    pub backlog: Option<BacklogFigures>,
}

impl State {
    /// The replica that is this client.
    pub fn replica(&mut self, id: u64) -> Option<&mut Replica> {
        self.replicas.iter_mut().find(|replica| replica.id == id)
    }
}

/// See the essay above.
pub struct Replication {
    /// Whom this server copies.
    pub following: Following,
    state: Mutex<State>,
    near_count: AtomicUsize,
}

impl Replication {
    /// A master whose history has this name.
    pub fn new(replid: String) -> Replication {
        Replication {
            following: Following::default(),
            state: Mutex::new(State {
                history: History::new(replid),
                replicas: Vec::new(),
                backlog: None,
            }),
            near_count: AtomicUsize::new(0),
        }
    }

    /// To be read, and held for moments.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this server copies another one.
    #[inline]
    pub fn is_replica(&self) -> bool {
        self.following.is_replica()
    }

    /// How many replicas have been heard of within `min-replicas-max-lag`, when that was looked at last.
    #[inline]
    pub fn near_count(&self) -> usize {
        self.near_count.load(Ordering::Relaxed)
    }

    /// Looks which replicas have been heard of within so many seconds.
    pub fn count_near(&self, max_lag_s: u64, now: UnixMs) {
        let state = self.lock();
        let is_near = |replica: &&Replica| replica.state == ReplicaState::Online && lag_s(replica, now) <= max_lag_s;
        let count = state.replicas.iter().filter(is_near).count();
        self.near_count.store(count, Ordering::Relaxed);
    }
}

/// For how many seconds nothing was heard of it.
fn lag_s(replica: &Replica, now: UnixMs) -> u64 {
    now.seconds().saturating_sub(replica.acked_at.seconds())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_knows_what_it_has_gone_on_from() {
        let [first, second] = ["a", "b"].map(|digit| digit.repeat(40));
        let mut history = History::new(first.clone());
        assert!(history.has(first.as_bytes(), 1_000_000));
        history.go_on_as(second.clone(), 700);
        assert!(history.has(second.as_bytes(), 1_000_000));
        // What has all up to 700 wants what begins at 701.
        assert!(history.has(first.to_uppercase().as_bytes(), 701));
        assert!(!history.has(first.as_bytes(), 702));
        assert!(!history.has(b"c", 1));
    }
}
