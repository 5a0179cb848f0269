//! A peer that copies this server: what it has said of itself, and how far its connection is.
//!
//! ```text
//!  REPLCONF ...   SYNC, PSYNC          the data set is there          all of it is handed over       its first ACK
//!  (normal) ----> waiting -----------> receiving -------------------> ($len) online
//!                    |                                  '-----------> ($EOF) silent ---------------> online
//!                    '-- what it lacks is kept: online
//! ```
//!
//! From the cut on it is to get the stream, but behind the data set: until then what comes is withheld. With a data set that ends by a mark
//! nothing may come before it has said that it is done, since what is glued behind the mark would be taken for a part of it, or dropped.
//!
//! Invariant: what is withheld counts as output, and ends the client when it is beyond the limit for replicas.

use crate::resp::ReplyBuf;

/// What a peer has said of itself with REPLCONF.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaWords {
    /// Where it listens; 0: it has not said so.
    pub port: u16,
    /// Where others reach it; empty: where its connection comes from.
    pub ip: String,
    /// It can read a data set that ends by a mark.
    pub reads_marks: bool,
    /// It can be told of another history that goes on from its own.
    pub knows_histories: bool,
    /// It wants a data set and no stream.
    pub is_served_once: bool,
    /// It has acknowledged something since it asked last.
    pub has_acked: bool,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has asked; what it gets is being made.
    Waiting,
    Receiving,
    /// It has been given all of the data set, and has not said that it has it.
    Silent,
    Online,
    /// It has got what it wanted.
    Served,
}

/// See the essay above.
#[derive(Debug)]
pub struct Follower {
    pub stage: Stage,
    /// What of the stream has come meanwhile.
    pub withheld: ReplyBuf,
}

impl Follower {
    /// One that has just asked.
    pub fn new() -> Follower {
        Follower {
            stage: Stage::Waiting,
            withheld: ReplyBuf::default(),
        }
    }

    /// It gets the stream from here on; answers what of it has come.
    pub fn go_online(&mut self) -> ReplyBuf {
        self.stage = Stage::Online;
        self.withheld.take()
    }
}

impl Default for Follower {
    fn default() -> Follower {
        Follower::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_withheld_is_handed_out_once() {
        let mut follower = Follower::new();
        follower.withheld.push(b"abc");
        assert_eq!(follower.go_online().to_contiguous().into_owned(), b"abc");
        assert_eq!(follower.stage, Stage::Online);
        assert!(follower.go_online().is_empty());
    }
}
