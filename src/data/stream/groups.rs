//! Consumer groups: who has been given which entry and has not acknowledged it yet.
//!
//! A group remembers how far it has read (`last_delivered_id`) and its *pending entries*: those that were delivered to one of its
//! consumers and not acknowledged. They are kept twice, since both questions are asked all the time:
//!
//! ```text
//! group.pending     ID → consumer's number, time and count of deliveries        40 bytes each
//! consumer.pending  ID                                                          16 bytes each
//! ```
//!
//! A consumer's number is never given twice in a group, so it needs no counting of references.
//!
//! How many entries a group has read (`entries_read`) is known exactly as long as it reads everything in order. An ID in between and
//! deleted entries make it unknown, until the group reads up to a place whose number is known (`Entries::count_up_to`). From it
//! follows the *lag*: how many are left to read. The rules are described in Redis's documentation of XINFO GROUPS.
//!
//! A group and the groups of a stream can be frozen with it: what they keep then stands in `past::groups`.
//!
//! Invariants: 1. an ID is in exactly one consumer's `pending` if and only if it is in the group's, under that consumer's number;
//! 2. `names` and `consumers` name the same consumers; 3. `consumer_bytes` is what the consumers' allocations take.

mod frozen;

pub(super) use frozen::SpentStream;

use super::entries::Entries;
use super::id::StreamId;
use super::past::groups::{Graves, Head, Name, PastGroup, PastGroups};
use super::runs::{Ordered, Runs};
use crate::base::clock::{Ms, UnixMs};
use crate::base::size_class::allocated;
use crate::data::past::Pasts;

/// An entry that was delivered and not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    pub id: StreamId,
    /// When it was delivered last.
    pub delivered_at: UnixMs,
    /// How often it was delivered.
    pub delivery_count: u64,
    consumer: u64,
}

impl Ordered for Pending {
    type Key = StreamId;

    fn order_key(&self) -> &StreamId {
        &self.id
    }
}

impl Pending {
    /// How long ago it was delivered last.
    pub fn idle(&self, now: UnixMs) -> Ms {
        now - self.delivered_at
    }
}

impl Ordered for StreamId {
    type Key = StreamId;

    fn order_key(&self) -> &StreamId {
        self
    }
}

/// A consumer of a group.
#[derive(Clone, Debug)]
pub struct Consumer {
    number: u64,
    name: Box<[u8]>,
    /// When it was last named by a command.
    pub seen_at: UnixMs,
    /// When it was last given an entry; `None`: never.
    pub active_at: Option<UnixMs>,
    pending: Runs<StreamId>,
}

impl Consumer {
    /// Its name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// What it is.
    pub fn head(&self) -> ConsumerHead<'_> {
        ConsumerHead {
            name: &self.name,
            seen_at: self.seen_at,
            active_at: self.active_at,
            pending_count: self.pending.len(),
            number: self.number,
        }
    }

    /// How many entries are pending for it.
    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// The IDs of the entries that are pending for it, from `from` on.
    pub fn pending_from(&self, from: StreamId) -> impl Iterator<Item = StreamId> {
        self.pending.iter_from(self.pending.lower_bound(&from)).copied()
    }

    fn allocated_bytes(&self) -> usize {
        allocated(size_of::<Consumer>()) + allocated(self.name.len()) + self.pending.allocated_bytes()
    }
}

impl Ordered for Consumer {
    type Key = u64;

    fn order_key(&self) -> &u64 {
        &self.number
    }
}

/// A consumer's name, to find its number.
#[derive(Clone, Debug)]
struct Named {
    name: Box<[u8]>,
    number: u64,
}

impl Ordered for Named {
    type Key = [u8];

    fn order_key(&self) -> &[u8] {
        &self.name
    }
}

/// Which consumer of a group is meant; valid as long as that consumer is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerNumber(u64);

/// What a group is, apart from what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupHead<'a> {
    pub name: &'a [u8],
    pub last_delivered_id: StreamId,
    pub entries_read: Option<u64>,
    pub pending_count: usize,
}

/// What a consumer is, apart from what is pending for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerHead<'a> {
    pub name: &'a [u8],
    pub seen_at: UnixMs,
    pub active_at: Option<UnixMs>,
    pub pending_count: usize,
    pub(super) number: u64,
}

/// A consumer group. A clone is not frozen.
#[derive(Clone, Debug)]
pub struct Group {
    name: Name,
    /// The last entry that was delivered to anyone.
    pub last_delivered_id: StreamId,
    /// How many entries the group has read; `None`: not known.
    pub entries_read: Option<u64>,
    pending: Runs<Pending>,
    consumers: Runs<Box<Consumer>>,
    names: Runs<Named>,
    consumer_bytes: usize,
    numbers: u64,
    pasts: Pasts<PastGroup>,
}

impl Ordered for Group {
    type Key = [u8];

    fn order_key(&self) -> &[u8] {
        &self.name
    }
}

/// How XCLAIM and XAUTOCLAIM change what they claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Entries that were delivered less long ago are left alone.
    pub idle_min: Ms,
    /// The new time of delivery.
    pub delivered_at: UnixMs,
    /// The new count of deliveries, if one is given.
    pub delivery_count: Option<u64>,
    /// The count goes up by one, if none is given.
    pub counts: bool,
    /// An entry that is pending for nobody becomes so.
    pub force: bool,
    pub now: UnixMs,
}

/// What became of an entry that was to be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// It is the consumer's now.
    Yes(Pending),
    /// It is not pending, or not long enough.
    No,
    /// It is not in the stream any more, and now not pending either. This is what it was.
    Gone(Pending),
}

impl Group {
    /// A group without consumers.
    pub fn new(name: &[u8], last_delivered_id: StreamId, entries_read: Option<u64>) -> Group {
        Group {
            name: name.into(),
            last_delivered_id,
            entries_read,
            pending: Runs::default(),
            consumers: Runs::default(),
            names: Runs::default(),
            consumer_bytes: 0,
            numbers: 0,
            pasts: Pasts::default(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// What it is.
    pub fn head(&self) -> GroupHead<'_> {
        GroupHead {
            name: &self.name,
            last_delivered_id: self.last_delivered_id,
            entries_read: self.entries_read,
            pending_count: self.pending.len(),
        }
    }

    /// What all its allocations take.
    pub fn allocated_bytes(&self) -> usize {
        allocated(size_of::<Group>())
            + allocated(self.name.len())
            + self.pending.allocated_bytes()
            + self.consumers.allocated_bytes()
            + self.names.allocated_bytes()
            + self.consumer_bytes
    }

    /// How many entries are left to read, if that is known.
    pub fn lag(&self, entries: &Entries) -> Option<i64> {
        let added = entries.added();
        if added == 0 {
            return Some(0);
        }
        let read = match self.entries_read {
            Some(read) if !entries.has_gaps_from(self.last_delivered_id) => read,
            _ => entries.count_up_to(self.last_delivered_id)?,
        };
        Some(added.wrapping_sub(read) as i64)
    }

    /// All consumers, ordered by name.
    pub fn consumers(&self) -> impl Iterator<Item = &Consumer> {
        self.names
            .iter()
            .filter_map(|named| self.consumers.by_key(&named.number))
            .map(|consumer| &**consumer)
    }

    /// How many consumers there are.
    pub fn consumer_count(&self) -> usize {
        self.consumers.len()
    }

    /// The consumer of that name.
    pub fn consumer(&self, name: &[u8]) -> Option<&Consumer> {
        let named = self.names.by_key(name)?;
        self.consumers.by_key(&named.number).map(|consumer| &**consumer)
    }

    /// The consumer that an entry is pending for.
    pub fn owner(&self, pending: &Pending) -> &Consumer {
        self.consumers
            .by_key(&pending.consumer)
            .expect("what is pending is pending for a consumer")
    }

    /// A consumer by its number.
    pub fn numbered(&self, number: ConsumerNumber) -> &Consumer {
        self.consumers
            .by_key(&number.0)
            .expect("the caller's number is of this group")
    }

    /// As [`Group::numbered`], to set its times.
    pub fn numbered_mut(&mut self, number: ConsumerNumber) -> &mut Consumer {
        let consumer = self.consumers.by_key_mut(&number.0);
        let consumer = consumer.expect("the caller's number is of this group");
        self.pasts.for_each(|past| past.change_consumer(consumer));
        consumer
    }

    /// Makes a consumer, unless there is one of that name. Says whether it did.
    pub fn add_consumer(&mut self, name: &[u8], now: UnixMs) -> (ConsumerNumber, bool) {
        if let Some(named) = self.names.by_key(name) {
            return (ConsumerNumber(named.number), false);
        }
        let head = Head {
            number: self.numbers,
            name: name.into(),
            seen_at: now,
            active_at: None,
        };
        (self.insert_consumer(head), true)
    }

    /// Puts in a consumer whose name and number no other one has.
    fn insert_consumer(&mut self, head: Head) -> ConsumerNumber {
        let Head {
            number,
            name,
            seen_at,
            active_at,
        } = head;
        self.numbers = self.numbers.max(number + 1);
        self.pasts.for_each(|past| past.consumers.note(name.clone()));
        let consumer = Box::new(Consumer {
            number,
            name: name.clone(),
            seen_at,
            active_at,
            pending: Runs::default(),
        });
        self.consumer_bytes += consumer.allocated_bytes() + allocated(name.len());
        let is_new = self.consumers.insert(consumer).is_ok();
        debug_assert!(is_new, "numbers are given once");
        let is_new = self.names.insert(Named { name, number }).is_ok();
        debug_assert!(is_new, "the caller has looked it up");
        ConsumerNumber(number)
    }

    /// Takes a consumer away with all that is pending for it. Answers how much that was; `None` if there is no such consumer.
    pub fn remove_consumer(&mut self, name: &[u8]) -> Option<usize> {
        let named = self.names.remove_key(name)?;
        let consumer = self.consumers.remove_key(&named.number)?;
        self.consumer_bytes -= consumer.allocated_bytes() + allocated(name.len());
        self.pasts.for_each(|past| past.remove_consumer(&consumer));
        for id in consumer.pending.iter() {
            self.remove_pending(id);
        }
        Some(consumer.pending.len())
    }

    /// How many entries are pending.
    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// The smallest ID that is pending, and the greatest.
    pub fn pending_ends(&self) -> Option<(StreamId, StreamId)> {
        Some((self.pending.first()?.id, self.pending.last()?.id))
    }

    /// What is pending, from an ID on.
    pub fn pending_from(&self, from: StreamId) -> impl Iterator<Item = &Pending> {
        self.pending.iter_from(self.pending.lower_bound(&from))
    }

    /// The pending entry with that ID.
    pub fn pending(&self, id: StreamId) -> Option<&Pending> {
        self.pending.by_key(&id)
    }

    /// Notes that the group has been given entry `id`, behind all it had been given before.
    pub fn advance(&mut self, id: StreamId, entries: &Entries) {
        self.entries_read = match self.entries_read {
            Some(read) if !entries.has_gaps_from(id) => Some(read + 1),
            known if entries.added() == 0 => known,
            _ => entries.count_up_to(id),
        };
        self.last_delivered_id = id;
    }

    /// Delivers an entry for the first time: it is pending for this consumer, whoever had it before.
    pub fn deliver(&mut self, id: StreamId, consumer: ConsumerNumber, now: UnixMs) {
        self.set_pending(id, consumer, now, 1);
        self.numbered_mut(consumer).active_at = Some(now);
    }

    /// Makes an entry pending for a consumer, with this time and count (also RDB, RESTORE).
    pub fn set_pending(&mut self, id: StreamId, consumer: ConsumerNumber, delivered_at: UnixMs, delivery_count: u64) {
        let pending = Pending {
            id,
            delivered_at,
            delivery_count,
            consumer: consumer.0,
        };
        let pasts = &mut self.pasts;
        let old = match self.pending.insert(pending) {
            Ok(_) => {
                pasts.for_each(|past| past.pending.note(id));
                None
            }
            Err(pending) => self.pending.by_key_mut(&id).map(|place| {
                pasts.for_each(|past| past.change_pending(place));
                std::mem::replace(place, pending).consumer
            }),
        };
        if old == Some(consumer.0) {
            return;
        }
        if let Some(old) = old {
            self.with_ids(old, |ids| ids.remove_key(&id));
        }
        let is_new = self.with_ids(consumer.0, |ids| ids.insert(id).is_ok());
        debug_assert!(is_new, "an ID is in one consumer's list only");
    }

    /// Delivers a pending entry to its consumer once more (XREADGROUP's history). False if it is not pending.
    pub fn deliver_again(&mut self, id: StreamId, now: UnixMs) -> bool {
        let Some(pending) = self.pending.by_key_mut(&id) else {
            return false;
        };
        self.pasts.for_each(|past| past.change_pending(pending));
        pending.delivered_at = now;
        pending.delivery_count = pending.delivery_count.wrapping_add(1);
        true
    }

    /// Notes that an entry is done with; false if it is not pending.
    pub fn acknowledge(&mut self, id: StreamId) -> bool {
        self.forget(id).is_some()
    }

    fn forget(&mut self, id: StreamId) -> Option<Pending> {
        let pending = self.remove_pending(&id)?;
        self.with_ids(pending.consumer, |ids| ids.remove_key(&id));
        Some(pending)
    }

    /// Takes an entry out of the group's list only.
    fn remove_pending(&mut self, id: &StreamId) -> Option<Pending> {
        let pending = self.pending.remove_key(id)?;
        self.pasts.for_each(|past| past.remove_pending(&pending));
        Some(pending)
    }

    /// Claims an entry for a consumer.
    pub fn claim(&mut self, id: StreamId, consumer: ConsumerNumber, claim: &Claim, entries: &Entries) -> Claimed {
        let old = self.pending(id).copied();
        if !entries.contains(id) {
            return self.forget(id).map_or(Claimed::No, Claimed::Gone);
        }
        let count = match old {
            Some(old) if old.idle(claim.now) < claim.idle_min => return Claimed::No,
            Some(old) => old.delivery_count,
            None if claim.force => 1,
            None => return Claimed::No,
        };
        let count = match claim.delivery_count {
            Some(count) => count,
            None => count.wrapping_add(u64::from(claim.counts)),
        };
        self.set_pending(id, consumer, claim.delivered_at, count);
        self.numbered_mut(consumer).active_at = Some(claim.now);
        Claimed::Yes(*self.pending(id).expect("it has just been put there"))
    }

    /// Changes a consumer's IDs and keeps the account.
    fn with_ids<R>(&mut self, consumer: u64, change: impl FnOnce(&mut Runs<StreamId>) -> R) -> R {
        let consumer = self
            .consumers
            .by_key_mut(&consumer)
            .expect("what is pending is pending for a consumer");
        let before = consumer.pending.allocated_bytes();
        let answer = change(&mut consumer.pending);
        self.consumer_bytes = self.consumer_bytes - before + consumer.pending.allocated_bytes();
        answer
    }

    /// About how many allocations and pending entries there are to free, or to copy.
    pub(super) fn effort(&self) -> usize {
        1 + self.consumer_count() + self.pending_count()
    }

    pub(super) fn free_step(&mut self, mut count: usize) -> bool {
        if !self.pasts.free_step(count) || !self.pending.free_step(count) {
            return false;
        }
        while count > 0 {
            count -= 1;
            let Some(consumer) = self.consumers.last_mut() else {
                return self.names.free_step(count.max(1));
            };
            // Its IDs go run by run: many at a time, and each run is one allocation.
            if consumer.pending.free_step(count) {
                let number = consumer.number;
                self.consumers.remove_key(&number);
            }
        }
        false
    }

    /// Checks the invariants.
    pub(super) fn check(&self) {
        self.pending.check();
        self.consumers.check();
        self.names.check();
        let mut bytes = 0;
        for consumer in self.consumers() {
            consumer.pending.check();
            bytes += consumer.allocated_bytes() + allocated(consumer.name.len());
            let ids = consumer.pending.iter();
            assert!(
                ids.into_iter()
                    .all(|id| self.pending(*id).expect("a consumer's IDs are pending").consumer == consumer.number)
            );
        }
        assert_eq!(self.consumers.len(), self.names.len());
        assert_eq!(self.consumer_bytes, bytes);
        let ids: usize = self.consumers().map(Consumer::pending_count).sum();
        assert_eq!(self.pending.len(), ids);
    }
}

/// The groups of a stream, by name.
#[derive(Default)]
pub struct Groups {
    groups: Runs<Box<Group>>,
    pasts: Pasts<PastGroups>,
    /// None: nothing has gone that somebody wants. There never is while nothing is frozen.
    graves: Option<Box<Graves>>,
}

/// A copy is not frozen.
impl Clone for Groups {
    fn clone(&self) -> Groups {
        Groups {
            groups: self.groups.clone(),
            ..Groups::default()
        }
    }
}

impl Groups {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// About how many allocations and pending entries there are to free, or to copy.
    pub fn effort(&self) -> usize {
        self.iter().map(Group::effort).sum()
    }

    /// Whether there is more than so much to copy.
    pub(super) fn takes_more_than(&self, effort: usize) -> bool {
        let mut left = effort;
        self.iter().any(|group| match left.checked_sub(group.effort()) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        })
    }

    /// All groups, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().map(|group| &**group)
    }

    /// The group of that name.
    pub fn get(&self, name: &[u8]) -> Option<&Group> {
        self.groups.by_key(name).map(|group| &**group)
    }

    /// As [`Groups::get`], to be changed.
    pub fn get_mut(&mut self, name: &[u8]) -> Option<&mut Group> {
        let group = self.groups.by_key_mut(name)?;
        if self.pasts.is_any() {
            frozen::begin_wanted(&mut self.pasts, group);
        }
        Some(&mut **group)
    }

    /// Adds a group; false if there is one of that name.
    pub fn add(&mut self, group: Group) -> bool {
        if self.get(&group.name).is_some() {
            return false;
        }
        self.pasts
            .iter_mut()
            .for_each(|past| past.groups.note(group.name.clone()));
        self.groups.insert(Box::new(group)).is_ok()
    }

    /// Takes a group away with all that is pending in it; false if there is none of that name.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let Some(group) = self.groups.remove_key(name) else {
            return false;
        };
        if self.pasts.is_any() {
            self.bury(group);
        }
        true
    }

    /// What all allocations take.
    pub fn allocated_bytes(&self) -> usize {
        self.groups.allocated_bytes() + self.iter().map(Group::allocated_bytes).sum::<usize>()
    }

    /// Frees about `count` pending entries, consumers or groups; true when nothing is left.
    pub fn free_step(&mut self, count: usize) -> bool {
        if !self.pasts.free_step(count) {
            return false;
        }
        if let Some(graves) = &mut self.graves {
            if graves.free_step(count) {
                self.graves = None;
            }
            return false;
        }
        if let Some(group) = self.groups.last_mut() {
            if !group.free_step(count) {
                return false;
            }
            let name = group.name.clone();
            self.groups.remove_key(&name);
        }
        self.groups.is_empty()
    }

    /// Checks the invariants.
    pub(super) fn check(&self) {
        self.groups.check();
        self.iter().for_each(Group::check);
        self.check_pasts();
    }
}
