//! Who caches keys: clients that hear when keys change, of those that they have read or of all that begin with a prefix.
//!
//! As with channels there are two views. Each shard knows its own clients that do ([`CachingClients`]), and for the process the directory
//! has who they are, and which shards have somebody for which prefix ([`Prefixes`]). A client that wants all keys has the empty prefix.
//!
//! Which prefixes a key has is found by looking up its beginnings, of those lengths that occur among the prefixes: as many look-ups as there
//! are lengths, however many prefixes there are.

use super::Name;
use super::directory::{Counts, Directory};
use super::roll::{Moment, Subscriber};
use crate::shard::{ConnRef, ShardId};
use hashbrown::HashMap;
use std::collections::BTreeMap;

/// The prefixes that somebody in the process wants to hear of.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    by_name: HashMap<Name, Counts>,
    /// How many there are of each length.
    lengths: BTreeMap<usize, usize>,
}

impl Prefixes {
    pub(super) fn add(&mut self, shard: ShardId, prefix: &Name) {
        let counts = self.by_name.entry_ref(prefix).or_default();
        if counts.is_empty() {
            *self.lengths.entry(prefix.len()).or_default() += 1;
        }
        counts.add(shard);
    }

    pub(super) fn remove(&mut self, shard: ShardId, prefix: &Name) {
        let counts = self
            .by_name
            .get_mut(prefix)
            .expect("invariant 1: whoever leaves stands here");
        if counts.remove(shard) {
            self.by_name.remove(prefix);
            let count = self
                .lengths
                .get_mut(&prefix.len())
                .expect("each is counted by its length");
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&prefix.len());
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// The prefixes of a key, the shortest first, each with those shards that have somebody for it.
    pub(super) fn of_key<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = (&'a Name, &'a Counts)> {
        let lengths = self.lengths.range(..=key.len());
        lengths.filter_map(|(length, _)| self.by_name.get_key_value(&key[..*length]))
    }
}

/// Those clients of a shard that cache keys.
#[derive(Debug, Default)]
pub struct CachingClients {
    all: HashMap<ConnRef, Moment>,
    by_prefix: HashMap<Name, Vec<Subscriber>>,
    /// Somebody's moment is one within the pass under way.
    is_any_fresh: bool,
}

impl CachingClients {
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// A client caches keys from now on. Its moment is to be set before anything is delivered.
    pub fn add(&mut self, directory: &Directory, place: ConnRef) {
        self.all.insert(place, Moment::after(u64::MAX));
        directory.add_caching(place);
    }

    /// It does so no more. False: it did not.
    pub fn remove(&mut self, directory: &Directory, place: ConnRef) -> bool {
        let was_there = self.all.remove(&place).is_some();
        if was_there {
            directory.remove_caching(place);
        }
        was_there
    }

    /// It hears of all keys that begin with this, of which it does not hear yet.
    pub fn add_prefix(&mut self, directory: &Directory, prefix: &Name, place: ConnRef) {
        let since = Moment::after(u64::MAX);
        let subscribers = self.by_prefix.entry_ref(prefix).or_default();
        subscribers.push(Subscriber { place, since });
        directory.add_prefix(place.shard, prefix);
    }

    /// It does so no more; one that is not there is none's concern.
    pub fn remove_prefix(&mut self, directory: &Directory, prefix: &Name, place: ConnRef) {
        let Some(subscribers) = self.by_prefix.get_mut(prefix) else {
            return;
        };
        let Some(at) = subscribers.iter().position(|subscriber| subscriber.place == place) else {
            return;
        };
        subscribers.swap_remove(at);
        if subscribers.is_empty() {
            self.by_prefix.remove(prefix);
        }
        directory.remove_prefix(place.shard, prefix);
    }

    /// Says since when a client hears of what was just added for it.
    pub fn set_moment(&mut self, place: ConnRef, since: Moment) {
        self.is_any_fresh |= since.turn == u64::MAX;
        let is_unset = |moment: &Moment| *moment == Moment::after(u64::MAX);
        if let Some(moment) = self.all.get_mut(&place).filter(|moment| is_unset(moment)) {
            *moment = since;
        }
        let subscribers = self.by_prefix.values_mut().flatten();
        let own = subscribers.filter(|subscriber| subscriber.place == place && is_unset(&subscriber.since));
        own.for_each(|subscriber| subscriber.since = since);
    }

    /// The pass under way has this turn.
    pub fn settle_moments(&mut self, turn: u64) {
        if std::mem::take(&mut self.is_any_fresh) {
            self.all.values_mut().for_each(|moment| moment.settle(turn));
            let subscribers = self.by_prefix.values_mut().flatten();
            subscribers.for_each(|subscriber| subscriber.since.settle(turn));
        }
    }

    /// All of them that hear of what happens then.
    pub fn at(&self, moment: Moment) -> impl Iterator<Item = ConnRef> {
        let all = self.all.iter();
        all.filter(move |(_, since)| moment >= **since).map(|(place, _)| *place)
    }

    /// Those who hear of keys that begin with this.
    pub fn of_prefix(&self, prefix: &Name) -> &[Subscriber] {
        self.by_prefix.get(prefix).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pubsub::Figures;

    fn name(text: &str) -> Name {
        text.as_bytes().into()
    }

    fn client(shard: u16, index: u32) -> ConnRef {
        ConnRef {
            shard: ShardId(shard),
            index,
            generation: 0,
        }
    }

    #[test]
    fn a_key_is_known_to_those_who_have_one_of_its_prefixes() {
        let directory = Directory::default();
        let mut shards = [CachingClients::default(), CachingClients::default()];
        let wanted = [(0, 0, "a:"), (0, 1, "a:"), (1, 0, "a:b"), (1, 1, "")];
        for (shard, index, prefix) in wanted {
            let place = client(shard, index);
            shards[usize::from(shard)].add(&directory, place);
            shards[usize::from(shard)].add_prefix(&directory, &name(prefix), place);
            shards[usize::from(shard)].set_moment(place, Moment::after(3));
        }
        assert_eq!(
            directory.figures(),
            Figures {
                prefixes: 3,
                ..Figures::default()
            }
        );
        let found = |key: &str| {
            let found = directory.prefixes_of(key.as_bytes());
            let texts = found.into_iter().map(|(prefix, shards)| {
                let shards: Vec<u16> = shards.iter().map(|shard| shard.0).collect();
                (String::from_utf8_lossy(&prefix).into_owned(), shards)
            });
            texts.collect::<Vec<_>>()
        };
        let all = (String::new(), vec![1]);
        assert_eq!(
            found("a:bc"),
            [all.clone(), ("a:".to_owned(), vec![0]), ("a:b".to_owned(), vec![1])]
        );
        assert_eq!(found("a"), [all]);
        assert!(directory.is_broadcast(b"x") && directory.caches(client(1, 1)));
        assert_eq!(shards[0].of_prefix(&name("a:")).len(), 2);
        for (shard, index, prefix) in wanted {
            let (of, place) = (&mut shards[usize::from(shard)], client(shard, index));
            of.remove_prefix(&directory, &name(prefix), place);
            of.remove_prefix(&directory, &name(prefix), place);
            assert!(of.remove(&directory, place) && !of.remove(&directory, place));
        }
        assert!(shards.iter().all(CachingClients::is_empty));
        assert_eq!(directory.figures(), Figures::default());
        assert!(!directory.is_broadcast(b"a:bc") && !directory.caches(client(1, 1)));
    }

    #[test]
    fn nothing_from_before_is_heard() {
        let (directory, mut clients) = (Directory::default(), CachingClients::default());
        for (index, since) in [(0, Moment::after(3)), (1, Moment::within_pass(2))] {
            clients.add(&directory, client(0, index));
            clients.add_prefix(&directory, &name("p"), client(0, index));
            clients.set_moment(client(0, index), since);
        }
        clients.settle_moments(5);
        let at = |turn, index| {
            let mut at: Vec<u32> = clients.at(Moment { turn, index }).map(|place| place.index).collect();
            at.sort_unstable();
            at
        };
        assert_eq!(
            (at(3, 9), at(4, 0), at(5, 1), at(5, 2)),
            (vec![], vec![0], vec![0], vec![0, 1])
        );
        let since: Vec<Moment> = clients.of_prefix(&name("p")).iter().map(|one| one.since).collect();
        assert_eq!(since, [Moment::after(3), Moment { turn: 5, index: 2 }]);
        // What it adds later it hears from later on.
        clients.add_prefix(&directory, &name("q"), client(0, 0));
        clients.set_moment(client(0, 0), Moment::after(8));
        assert_eq!(clients.of_prefix(&name("p"))[0].since, Moment::after(3));
        assert_eq!(clients.of_prefix(&name("q"))[0].since, Moment::after(8));
    }
}
