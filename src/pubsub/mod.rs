//! Who listens to what: subscriptions to channels, to patterns of channels, and to shard channels.
//!
//! Three views of the same facts, each where it is needed:
//!
//! | view | where | answers |
//! |---|---|---|
//! | [`Subscriptions`] | with the client's session | what this client is subscribed to |
//! | [`Roll`] | on each shard, of its own clients | which clients get a message |
//! | [`Directory`] | once in the process, under a lock | which shards get a message, how many subscribers a channel has |
//!
//! A publisher asks the directory only, once for each pass, when the turn of its messages is taken; patterns are matched there once
//! ([`patterns`]), and the shards are told which of them did. So a shard without subscribers gets nothing, and a subscription is known to every
//! shard as soon as it stands in the directory: SUBSCRIBE need not ask anybody.
//!
//! Clients that cache keys hear of their changes in the same way ([`CachingClients`]).
//!
//! A subscription has a moment ([`Moment`]), a place in the order of all messages: nothing from before it is delivered.
//!
//! Invariants: (1) what stands in the roll of a shard stands in the directory with this shard, and the other way round; the counts in the directory are
//! the sums over the rolls; (2) a client is in a roll at most once for each name.

mod directory;
mod patterns;
mod prefixes;
mod roll;

pub use directory::{Directory, Figures, Found};
pub use patterns::{PatternId, PatternIndex};
pub use prefixes::CachingClients;
pub use roll::{Moment, Roll, Subscriber};

use std::collections::BTreeSet;
use std::sync::Arc;

/// A channel's name, or a pattern.
pub type Name = Arc<[u8]>;

/// What a subscription is to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Kind {
    /// All that is published to a channel of that name.
    Channel,
    /// All that is published to channels whose names match.
    Pattern,
    /// All that is published to a shard channel of that name. Patterns do not reach these.
    ShardChannel,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Channel, Kind::Pattern, Kind::ShardChannel];
}

/// What one client is subscribed to.
#[derive(Clone, Debug, Default)]
pub struct Subscriptions {
    names: [BTreeSet<Name>; 3],
}

impl Subscriptions {
    /// False: it was there.
    pub fn add(&mut self, kind: Kind, name: Name) -> bool {
        self.names[kind as usize].insert(name)
    }

    /// False: it was not there.
    pub fn remove(&mut self, kind: Kind, name: &[u8]) -> bool {
        self.names[kind as usize].remove(name)
    }

    pub fn names(&self, kind: Kind) -> impl Iterator<Item = &Name> {
        self.names[kind as usize].iter()
    }

    /// How many there are of a kind.
    pub fn count(&self, kind: Kind) -> usize {
        self.names[kind as usize].len()
    }

    pub fn is_empty(&self) -> bool {
        self.names.iter().all(BTreeSet::is_empty)
    }

    /// What is told with each change of that kind: channels and patterns are counted together.
    pub fn told_count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Channel | Kind::Pattern => self.count(Kind::Channel) + self.count(Kind::Pattern),
            Kind::ShardChannel => self.count(Kind::ShardChannel),
        }
    }

    /// About how much memory they take. The names are shared with the roll and the directory, and are counted here.
    pub fn memory_bytes(&self) -> usize {
        let names = self.names.iter().flatten();
        names.map(|name| name.len() + NAME_BYTES).sum()
    }
}

/// What a name takes beside its bytes: its place in the set, in the roll, and the counts of the reference.
const NAME_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_and_patterns_are_counted_together() {
        let mut subscriptions = Subscriptions::default();
        assert!(subscriptions.is_empty());
        let name = |text: &str| Name::from(text.as_bytes());
        assert!(subscriptions.add(Kind::Channel, name("a")));
        assert!(!subscriptions.add(Kind::Channel, name("a")));
        assert!(subscriptions.add(Kind::Pattern, name("a")));
        assert!(subscriptions.add(Kind::ShardChannel, name("a")));
        assert_eq!(Kind::ALL.map(|kind| subscriptions.told_count(kind)), [2, 2, 1]);
        assert!(subscriptions.memory_bytes() > 3);
        assert!(subscriptions.remove(Kind::Channel, b"a"));
        assert!(!subscriptions.remove(Kind::Channel, b"a"));
        assert_eq!(Kind::ALL.map(|kind| subscriptions.count(kind)), [0, 1, 1]);
    }
}
