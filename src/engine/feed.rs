//! Who gets the stream, as its owner knows it: what each replica was promised, and from which offset on it gets what becomes whole.
//!
//! The owner is the first shard. Here it only decides; what follows from it (a snapshot that begins, bytes that are sent) is done by
//! `followers`.
//!
//! ```text
//!  asked for --> waits --(a full sync's cut)--> promised: from the offset of the cut on --(the file is whole)--> sent
//!            '-- what it lacks is in the backlog: from the end on
//! ```
//!
//! Nothing is logged for the stream before somebody has asked for it. From then on everything is; but passes that had begun before may
//! hand out nothing, so the stream begins at a cut: whoever makes it holds all slots, and each pass before has been released.
//!
//! Invariants: (1) who is promised gets all bytes from its offset on, once and in order; (2) there is a stream if anybody is promised.

use super::full_sync::FullSync;
use super::replication::stream::{Piece, Stream, Stretch};
use crate::base::clock::UnixMs;
use crate::client::ReplicaWords;
use crate::shard::ConnRef;
use std::sync::Arc;

/// See the essay above.
#[derive(Default)]
pub struct Feed {
    pub(super) stream: Option<Stream>,
    pub(super) fed: Vec<Fed>,
    /// The full sync that is under way.
    pub(super) sync: Option<UnderWay>,
    /// One is being begun.
    pub(super) is_beginning: bool,
    /// Of the role under which all that was promised ([`Following::generation`](super::replication::Following::generation)).
    pub(super) generation: u64,
    pub(super) pinged_at: UnixMs,
    pub(super) kept_awake_at: UnixMs,
    /// Since when there is a backlog and no replica.
    pub(super) alone_since: Option<UnixMs>,
}

/// A replica.
pub struct Fed {
    pub(super) id: u64,
    pub(super) place: ConnRef,
    pub(super) words: ReplicaWords,
    /// It has asked with PSYNC, and is told which history it gets.
    pub(super) is_told: bool,
    pub(super) since: UnixMs,
    pub(super) stage: Promise,
}

/// What it was promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promise {
    Nothing,
    /// The data set as of this offset, and what comes behind that; the file is being made.
    Sync(u64),
    /// What comes from this offset on.
    From(u64),
    /// A data set and no stream, and that is on its way.
    Served,
}

/// A full sync that is under way.
pub(super) struct UnderWay {
    pub(super) sync: Arc<FullSync>,
    /// Its cut has been made, and those who wait for it know.
    pub(super) is_cut: bool,
    /// By marks, or by a length.
    pub(super) has_mark: bool,
}

impl Feed {
    /// Takes a piece in; answers what has become whole. Without a stream nobody was promised anything.
    pub(super) fn take_in(&mut self, piece: Piece) -> Option<Stretch> {
        self.stream.as_mut()?.take_in(piece)
    }

    /// Who gets something of that stretch, and how many of its first bytes are none of it.
    pub(super) fn readers(&self, stretch: &Stretch) -> Vec<(ConnRef, usize)> {
        let end = stretch.offset + stretch.bytes.len() as u64;
        let of = |fed: &Fed| match fed.stage {
            Promise::Sync(from) | Promise::From(from) if !fed.words.is_served_once && from < end => {
                Some((fed.place, from.saturating_sub(stretch.offset) as usize))
            }
            _ => None,
        };
        self.fed.iter().filter_map(of).collect()
    }

    /// How much of the stream is kept.
    pub(super) fn backlog_bytes(&self) -> usize {
        self.stream.as_ref().map_or(0, Stream::kept_bytes)
    }

    /// Since when the one that has waited longest for a full sync does, and how many do.
    pub(super) fn waiting(&self) -> Option<(UnixMs, usize)> {
        let waiting = self.fed.iter().filter(|fed| fed.stage == Promise::Nothing);
        let since = waiting.clone().map(|fed| fed.since).min()?;
        Some((since, waiting.count()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::ShardId;

    fn fed(id: u64, stage: Promise) -> Fed {
        Fed {
            id,
            place: ConnRef {
                index: id as u32,
                ..ConnRef::background(ShardId(0))
            },
            words: ReplicaWords::default(),
            is_told: true,
            since: UnixMs(id),
            stage,
        }
    }

    #[test]
    fn everybody_gets_what_is_behind_its_own_offset() {
        let mut feed = Feed {
            stream: Some(Stream::new(100, 1000)),
            fed: vec![
                fed(1, Promise::Nothing),
                fed(2, Promise::Sync(104)),
                fed(3, Promise::From(100)),
                fed(4, Promise::From(110)),
                fed(5, Promise::Served),
            ],
            ..Feed::default()
        };
        let piece = Piece {
            offset: 100,
            bytes: b"0123456789".to_vec(),
            number: 0,
        };
        let stretch = feed.take_in(piece).expect("it is whole");
        let readers = feed.readers(&stretch);
        let readers: Vec<_> = readers.iter().map(|(place, skipped)| (place.index, *skipped)).collect();
        assert_eq!(readers, [(2, 4), (3, 0)]);
        assert_eq!(feed.waiting(), Some((UnixMs(1), 1)));
    }
}
