//! What the whole process knows of subscriptions: which shards have some, to what; and who caches keys.
//!
//! It is read by publishers, once for each pass that has messages, and written by SUBSCRIBE and its like; both take microseconds. A lock, because
//! what a publisher must see is one state of all of it: a client that moves from a channel to a pattern misses nothing.

use super::patterns::{PatternId, PatternIndex};
use super::prefixes::Prefixes;
use super::{Kind, Name};
use crate::shard::{ConnRef, ShardId};
use hashbrown::{HashMap, HashSet};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// See above.
#[derive(Debug, Default)]
pub struct Directory(RwLock<Book>);

#[derive(Debug, Default)]
struct Book {
    channels: HashMap<Name, Counts>,
    shard_channels: HashMap<Name, Counts>,
    /// By number, which is found by name.
    patterns: HashMap<PatternId, Counts>,
    pattern_ids: HashMap<Name, PatternId>,
    index: PatternIndex,
    next_pattern: u64,
    /// Clients that cache keys.
    caching: HashSet<ConnRef>,
    /// What some of them want to hear of.
    prefixes: Prefixes,
}

/// How many subscribers there are, by shard; no shard has none.
#[derive(Debug, Default)]
pub(super) struct Counts(Vec<(ShardId, u32)>);

impl Counts {
    pub(super) fn add(&mut self, shard: ShardId) {
        match self.0.iter_mut().find(|(of, _)| *of == shard) {
            Some((_, count)) => *count += 1,
            None => self.0.push((shard, 1)),
        }
    }

    /// True: nobody is left.
    pub(super) fn remove(&mut self, shard: ShardId) -> bool {
        let at = self.0.iter().position(|(of, _)| *of == shard);
        let at = at.expect("invariant 1: whoever leaves stands here");
        self.0[at].1 -= 1;
        if self.0[at].1 == 0 {
            self.0.swap_remove(at);
        }
        self.0.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn shards(&self) -> impl Iterator<Item = ShardId> {
        self.0.iter().map(|(shard, _)| *shard)
    }

    fn sum(&self) -> u64 {
        self.0.iter().map(|(_, count)| u64::from(*count)).sum()
    }
}

/// How many names there are that somebody is subscribed to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    pub channels: usize,
    pub patterns: usize,
    pub shard_channels: usize,
    /// Of keys, which clients that cache want to hear of.
    pub prefixes: usize,
}

/// Who gets a message, as [`Directory::find`] has found.
#[derive(Debug, Default)]
pub struct Found {
    /// Each once.
    pub shards: Vec<ShardId>,
    /// The patterns that match, in the order in which they came to be.
    pub patterns: Vec<PatternId>,
    /// How many deliveries that makes.
    pub deliveries: u64,
}

impl Directory {
    fn read(&self) -> RwLockReadGuard<'_, Book> {
        // A panic ends the process; what another thread has left is whole.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Book> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client of that shard subscribes to a name that is no pattern.
    pub(super) fn add(&self, shard: ShardId, kind: Kind, name: &Name) {
        let mut book = self.write();
        book.names(kind).entry_ref(name).or_default().add(shard);
    }

    /// It leaves.
    pub(super) fn remove(&self, shard: ShardId, kind: Kind, name: &Name) {
        let mut book = self.write();
        let names = book.names(kind);
        let counts = names.get_mut(name).expect("invariant 1");
        if counts.remove(shard) {
            names.remove(name);
        }
    }

    /// A client of that shard subscribes to a pattern.
    pub(super) fn add_pattern(&self, shard: ShardId, pattern: &Name) -> PatternId {
        let mut book = self.write();
        let Book {
            patterns,
            pattern_ids,
            index,
            next_pattern,
            ..
        } = &mut *book;
        let id = *pattern_ids.entry_ref(pattern).or_insert_with(|| {
            let id = PatternId(*next_pattern);
            *next_pattern += 1;
            index.insert(id, pattern);
            id
        });
        patterns.entry(id).or_default().add(shard);
        id
    }

    /// It leaves.
    pub(super) fn remove_pattern(&self, shard: ShardId, id: PatternId, pattern: &Name) {
        let mut book = self.write();
        let counts = book.patterns.get_mut(&id).expect("invariant 1");
        if counts.remove(shard) {
            book.patterns.remove(&id);
            book.pattern_ids.remove(pattern);
            book.index.remove(id, pattern);
        }
    }

    /// Who gets each of these messages: whether they are for shard channels, and the names of their channels. All in one state of the directory.
    pub fn find<'a>(&self, messages: impl Iterator<Item = (Kind, &'a [u8])>) -> Vec<Found> {
        let book = self.read();
        messages.map(|(kind, name)| book.find(kind, name)).collect()
    }

    /// How many deliveries a message to that channel would make now.
    pub fn deliveries(&self, kind: Kind, name: &[u8]) -> u64 {
        self.read().find(kind, name).deliveries
    }

    /// How many subscribers a channel or a shard channel has, patterns excepted.
    pub fn subscribers(&self, kind: Kind, name: &[u8]) -> u64 {
        let book = self.read();
        let names = match kind {
            Kind::ShardChannel => &book.shard_channels,
            Kind::Channel | Kind::Pattern => &book.channels,
        };
        names.get(name).map_or(0, Counts::sum)
    }

    /// The channels, or shard channels, that somebody is subscribed to.
    pub fn names(&self, kind: Kind) -> Vec<Name> {
        let book = self.read();
        match kind {
            Kind::Channel => book.channels.keys().cloned().collect(),
            Kind::ShardChannel => book.shard_channels.keys().cloned().collect(),
            Kind::Pattern => book.pattern_ids.keys().cloned().collect(),
        }
    }

    pub fn figures(&self) -> Figures {
        let book = self.read();
        Figures {
            channels: book.channels.len(),
            patterns: book.patterns.len(),
            shard_channels: book.shard_channels.len(),
            prefixes: book.prefixes.len(),
        }
    }

    pub(super) fn add_caching(&self, place: ConnRef) {
        self.write().caching.insert(place);
    }

    pub(super) fn remove_caching(&self, place: ConnRef) {
        self.write().caching.remove(&place);
    }

    /// A client of that shard wants to hear of the changes of all keys that begin with this.
    pub(super) fn add_prefix(&self, shard: ShardId, prefix: &Name) {
        self.write().prefixes.add(shard, prefix);
    }

    /// It does so no more.
    pub(super) fn remove_prefix(&self, shard: ShardId, prefix: &Name) {
        self.write().prefixes.remove(shard, prefix);
    }

    pub fn is_anybody_caching(&self) -> bool {
        !self.read().caching.is_empty()
    }

    /// Whether that client caches keys.
    pub fn caches(&self, place: ConnRef) -> bool {
        self.read().caching.contains(&place)
    }

    /// The shards that have clients which do.
    pub fn caching_shards(&self) -> Vec<ShardId> {
        let mut shards: Vec<ShardId> = self.read().caching.iter().map(|place| place.shard).collect();
        shards.sort_unstable();
        shards.dedup();
        shards
    }

    /// Whether somebody wants to hear of a key because of how it begins.
    pub fn is_broadcast(&self, key: &[u8]) -> bool {
        self.read().prefixes.of_key(key).next().is_some()
    }

    /// The prefixes of a key that somebody wants to hear of, and which shards have somebody.
    pub fn prefixes_of(&self, key: &[u8]) -> Vec<(Name, Vec<ShardId>)> {
        let book = self.read();
        let prefixes = book.prefixes.of_key(key);
        prefixes
            .map(|(prefix, counts)| (prefix.clone(), counts.shards().collect()))
            .collect()
    }
}

impl Book {
    fn names(&mut self, kind: Kind) -> &mut HashMap<Name, Counts> {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::ShardChannel => &mut self.shard_channels,
            Kind::Pattern => unreachable!("patterns are kept by their numbers"),
        }
    }

    fn find(&self, kind: Kind, name: &[u8]) -> Found {
        let mut found = Found::default();
        let mut take = |counts: &Counts| {
            for (shard, count) in &counts.0 {
                found.deliveries += u64::from(*count);
                if !found.shards.contains(shard) {
                    found.shards.push(*shard);
                }
            }
        };
        let names = match kind {
            Kind::ShardChannel => &self.shard_channels,
            Kind::Channel | Kind::Pattern => &self.channels,
        };
        if let Some(counts) = names.get(name) {
            take(counts);
        }
        if kind != Kind::ShardChannel && !self.index.is_empty() {
            let patterns = self.index.matching(name);
            patterns.iter().for_each(|id| take(&self.patterns[id]));
            found.patterns = patterns;
        }
        found
    }
}
