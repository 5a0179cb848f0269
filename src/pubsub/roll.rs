//! The subscribers of one shard: which of its clients get a message, and from when on.
//!
//! What stands here stands in the [`Directory`], too: a change is made in both, here as one of a client, there as one of a shard.

use super::directory::Directory;
use super::patterns::PatternId;
use super::{Kind, Name};
use crate::shard::ConnRef;
use hashbrown::HashMap;

/// A place in the order of messages: how many messages of a turn came before, all of the earlier turns included.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Moment {
    pub turn: u64,
    pub index: u32,
}

impl Moment {
    /// Behind all messages of that turn.
    pub const fn after(turn: u64) -> Moment {
        Moment { turn, index: u32::MAX }
    }

    /// Behind so many messages of the pass under way, which has no turn yet.
    pub const fn within_pass(index: u32) -> Moment {
        Moment { turn: u64::MAX, index }
    }

    /// The pass under way has got this turn.
    pub fn settle(&mut self, turn: u64) {
        if self.turn == u64::MAX {
            self.turn = turn;
        }
    }
}

/// A client, and since when it listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscriber {
    pub place: ConnRef,
    pub since: Moment,
}

/// See above.
#[derive(Debug, Default)]
pub struct Roll {
    channels: HashMap<Name, Vec<Subscriber>>,
    shard_channels: HashMap<Name, Vec<Subscriber>>,
    patterns: HashMap<PatternId, (Name, Vec<Subscriber>)>,
    pattern_ids: HashMap<Name, PatternId>,
    /// Whose moment is one within the pass under way.
    fresh: Vec<(Kind, Name)>,
}

impl Roll {
    /// Whether no client of this shard is subscribed to anything.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.patterns.is_empty() && self.shard_channels.is_empty()
    }

    /// Makes the client of that place a subscriber of a name, which it is not yet. Its moment is to be set before anything is delivered: every
    /// publisher knows of it when this has returned.
    pub fn add(&mut self, directory: &Directory, kind: Kind, name: &Name, place: ConnRef) {
        let subscriber = Subscriber {
            place,
            since: Moment::after(u64::MAX),
        };
        let subscribers = match kind {
            Kind::Channel => self.channels.entry_ref(name).or_default(),
            Kind::ShardChannel => self.shard_channels.entry_ref(name).or_default(),
            Kind::Pattern => {
                let id = directory.add_pattern(place.shard, name);
                self.pattern_ids.insert(name.clone(), id);
                &mut self.patterns.entry(id).or_insert_with(|| (name.clone(), Vec::new())).1
            }
        };
        subscribers.push(subscriber);
        if kind != Kind::Pattern {
            directory.add(place.shard, kind, name);
        }
    }

    /// Says since when it listens.
    pub fn set_moment(&mut self, kind: Kind, name: &Name, place: ConnRef, since: Moment) {
        if since.turn == u64::MAX {
            self.fresh.push((kind, name.clone()));
        }
        let subscribers = self.subscribers_mut(kind, name).into_iter().flatten();
        // The newest is the last.
        if let Some(subscriber) = subscribers.rev().find(|subscriber| subscriber.place == place) {
            subscriber.since = since;
        }
    }

    /// The pass under way has this turn, or none after that one: what is a moment within it is one of the turn.
    pub fn settle_moments(&mut self, turn: u64) {
        for (kind, name) in std::mem::take(&mut self.fresh) {
            for subscriber in self.subscribers_mut(kind, &name).into_iter().flatten() {
                subscriber.since.settle(turn);
            }
        }
    }

    /// Takes a client out; one that is not there is none's concern.
    pub fn remove(&mut self, directory: &Directory, kind: Kind, name: &Name, place: ConnRef) {
        let Some(subscribers) = self.subscribers_mut(kind, name) else {
            return;
        };
        let Some(at) = subscribers.iter().position(|subscriber| subscriber.place == place) else {
            return;
        };
        subscribers.swap_remove(at);
        let is_last = subscribers.is_empty();
        match kind {
            Kind::Pattern => {
                let id = self.pattern_ids[name];
                if is_last {
                    self.patterns.remove(&id);
                    self.pattern_ids.remove(name);
                }
                return directory.remove_pattern(place.shard, id, name);
            }
            Kind::Channel if is_last => drop(self.channels.remove(name)),
            Kind::ShardChannel if is_last => drop(self.shard_channels.remove(name)),
            Kind::Channel | Kind::ShardChannel => {}
        }
        directory.remove(place.shard, kind, name);
    }

    fn subscribers_mut(&mut self, kind: Kind, name: &Name) -> Option<&mut Vec<Subscriber>> {
        match kind {
            Kind::Channel => self.channels.get_mut(name),
            Kind::ShardChannel => self.shard_channels.get_mut(name),
            Kind::Pattern => {
                let id = self.pattern_ids.get(name)?;
                self.patterns.get_mut(id).map(|(_, subscribers)| subscribers)
            }
        }
    }

    /// Those who are subscribed to that channel, or shard channel.
    pub fn of_channel(&self, kind: Kind, name: &[u8]) -> &[Subscriber] {
        let names = match kind {
            Kind::ShardChannel => &self.shard_channels,
            Kind::Channel | Kind::Pattern => &self.channels,
        };
        names.get(name).map_or(&[], Vec::as_slice)
    }

    /// Those who are subscribed to that pattern, and how it reads.
    pub fn of_pattern(&self, id: PatternId) -> Option<(&Name, &[Subscriber])> {
        let (name, subscribers) = self.patterns.get(&id)?;
        Some((name, subscribers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pubsub::Figures;
    use crate::shard::ShardId;

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
    fn the_directory_counts_what_the_rolls_have() {
        let directory = Directory::default();
        let mut rolls = [Roll::default(), Roll::default()];
        for (kind, text) in [(Kind::Channel, "ab"), (Kind::Pattern, "a*"), (Kind::ShardChannel, "ab")] {
            for (shard, index) in [(0, 0), (0, 1), (1, 0)] {
                let place = client(shard, index);
                rolls[usize::from(shard)].add(&directory, kind, &name(text), place);
            }
        }
        assert_eq!(
            directory.figures(),
            Figures {
                channels: 1,
                patterns: 1,
                shard_channels: 1,
                prefixes: 0
            }
        );
        let found = directory.find(
            [
                (Kind::Channel, &b"ab"[..]),
                (Kind::ShardChannel, b"ab"),
                (Kind::Channel, b"ac"),
            ]
            .into_iter(),
        );
        let deliveries: Vec<u64> = found.iter().map(|found| found.deliveries).collect();
        assert_eq!(deliveries, [6, 3, 3]);
        assert!(found.iter().all(|found| found.shards.len() == 2));
        assert_eq!(
            found.iter().map(|found| found.patterns.len()).collect::<Vec<_>>(),
            [1, 0, 1]
        );
        assert_eq!(directory.deliveries(Kind::Channel, b"ab"), 6);
        assert_eq!(directory.subscribers(Kind::Channel, b"ab"), 3);
        // Who is not there is none's concern.
        rolls[0].remove(&directory, Kind::Channel, &name("ab"), client(0, 7));
        rolls[0].remove(&directory, Kind::Channel, &name("other"), client(0, 0));
        for (kind, text) in [(Kind::Channel, "ab"), (Kind::Pattern, "a*"), (Kind::ShardChannel, "ab")] {
            for (shard, index) in [(1, 0), (0, 0), (0, 1)] {
                assert!(!rolls[usize::from(shard)].is_empty());
                rolls[usize::from(shard)].remove(&directory, kind, &name(text), client(shard, index));
            }
        }
        assert!(rolls.iter().all(Roll::is_empty));
        assert_eq!(directory.figures(), Figures::default());
    }

    #[test]
    fn a_moment_within_a_pass_is_one_of_its_turn() {
        let (directory, mut roll) = (Directory::default(), Roll::default());
        for (index, since) in [(0, Moment::after(3)), (1, Moment::within_pass(2))] {
            roll.add(&directory, Kind::Channel, &name("c"), client(0, index));
            roll.set_moment(Kind::Channel, &name("c"), client(0, index), since);
        }
        roll.settle_moments(5);
        let since: Vec<Moment> = roll
            .of_channel(Kind::Channel, b"c")
            .iter()
            .map(|one| one.since)
            .collect();
        assert_eq!(since, [Moment::after(3), Moment { turn: 5, index: 2 }]);
        // Of the second, what comes behind it in its pass.
        assert!(Moment { turn: 5, index: 1 } < since[1] && Moment { turn: 5, index: 2 } >= since[1]);
    }
}
