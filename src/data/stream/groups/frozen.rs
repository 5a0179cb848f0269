//! Freezing groups, reading them as they were, taking their changes back: see `past::groups`.

use super::{Consumer, ConsumerHead, ConsumerNumber, Group, GroupHead, Groups, Pending};
use crate::data::frozen::{Part, Sink};
use crate::data::past::{NOT_FROZEN, Pasts, Remains, Spent, Use};
use crate::data::stream::past::groups::{Grave, Head, PastGroup, PastGroups, Place, Stage, Uses};
use crate::data::stream::past::{Next, PastRuns};
use hashbrown::HashMap;

/// IDs of a consumer that are shown at once.
const IDS_AT_ONCE: usize = 64;

impl Consumer {
    fn owned_head(&self) -> Head {
        Head {
            number: self.number,
            name: self.name.clone(),
            seen_at: self.seen_at,
            active_at: self.active_at,
        }
    }
}

impl PastGroup {
    #[cold]
    pub(super) fn change_consumer(&mut self, consumer: &Consumer) {
        if self.consumers.changes(&consumer.name) {
            self.consumers.keep(consumer.name.clone(), consumer.owned_head());
        }
    }

    pub(super) fn remove_consumer(&mut self, consumer: &Consumer) {
        if self.consumers.wants(&consumer.name) {
            self.consumers.keep(consumer.name.clone(), consumer.owned_head());
        }
    }

    #[cold]
    pub(super) fn change_pending(&mut self, pending: &Pending) {
        if self.pending.changes(&pending.id) {
            self.pending.keep(pending.id, *pending);
        }
    }

    #[cold]
    pub(super) fn remove_pending(&mut self, pending: &Pending) {
        if self.pending.wants(&pending.id) {
            self.pending.keep(pending.id, *pending);
        }
    }
}

impl Group {
    fn begin_past(&mut self, to: Use) {
        let past = PastGroup {
            last_delivered_id: self.last_delivered_id,
            entries_read: self.entries_read,
            pending: PastRuns::new(self.pending.len()),
            consumers: PastRuns::new(self.consumers.len()),
            stage: Stage::Head,
            gathered: HashMap::new(),
        };
        self.pasts.begin(to, past);
    }

    fn kept_bytes(&self, to: Use) -> usize {
        self.pasts.get(to).map_or(0, PastGroup::kept_bytes)
    }

    /// Makes it what it was when its past for an undo began.
    fn roll_back(&mut self) {
        let Some(past) = self.pasts.end(Use::Undo) else { return };
        (self.last_delivered_id, self.entries_read) = (past.last_delivered_id, past.entries_read);
        let (fresh, gone) = past.pending.into_changes();
        for id in fresh {
            self.forget(id);
        }
        let (fresh, mut gone_consumers) = past.consumers.into_changes();
        for name in fresh {
            let number = self
                .names
                .by_key(&name)
                .expect("a past names living consumers only")
                .number;
            match gone_consumers.remove(&name) {
                Some(was) if was.number == number => {
                    let consumer = self.numbered_mut(ConsumerNumber(number));
                    (consumer.seen_at, consumer.active_at) = (was.seen_at, was.active_at);
                }
                other => {
                    // Nothing is pending for it any more: all that was is fresh.
                    self.remove_consumer(&name);
                    gone_consumers.extend(other.map(|was| (name, was)));
                }
            }
        }
        for head in gone_consumers.into_values() {
            self.insert_consumer(head);
        }
        for was in gone.into_values() {
            let consumer = ConsumerNumber(was.consumer);
            self.set_pending(was.id, consumer, was.delivered_at, was.delivery_count);
        }
    }

    /// Shows the next of what it was, for about so much effort, which it takes off; true after the last. Its past has begun.
    fn read(&mut self, to: Use, effort: &mut usize, sink: &mut impl Sink) -> bool {
        let past = self.pasts.get_mut(to).expect(NOT_FROZEN);
        while *effort > 0 {
            *effort -= 1;
            match &mut past.stage {
                Stage::Head => {
                    sink.part(Part::Group(&GroupHead {
                        name: &self.name,
                        last_delivered_id: past.last_delivered_id,
                        entries_read: past.entries_read,
                        pending_count: past.pending.len(),
                    }));
                    past.stage = Stage::Pending;
                }
                Stage::Pending => {
                    let next = past
                        .pending
                        .next(|last| self.pending.after(last).map(|pending| (pending.id, *pending)));
                    match next {
                        Some(Next::Nothing) => {}
                        Some(Next::Gone(pending) | Next::Living(pending)) => {
                            sink.part(Part::Pending(&pending));
                            let ids = past.gathered.entry(pending.consumer).or_default();
                            let is_new = ids.insert(pending.id).is_ok();
                            debug_assert!(is_new, "an ID is pending once");
                        }
                        None => {
                            sink.part(Part::Consumers(past.consumers.len()));
                            past.stage = Stage::Consumers;
                        }
                    }
                }
                Stage::Consumers => {
                    let next = past.consumers.next(|last| {
                        let named = self.names.after(last.map(|name| &**name))?;
                        Some((named.name.clone(), self.consumers.by_key(&named.number)?.owned_head()))
                    });
                    match next {
                        Some(Next::Nothing) => {}
                        Some(Next::Gone(head) | Next::Living(head)) => {
                            let ids = past.gathered.remove(&head.number).unwrap_or_default();
                            sink.part(Part::Consumer(&ConsumerHead {
                                name: &head.name,
                                seen_at: head.seen_at,
                                active_at: head.active_at,
                                pending_count: ids.len(),
                                number: head.number,
                            }));
                            past.stage = Stage::Ids(ids);
                        }
                        None => return true,
                    }
                }
                Stage::Ids(ids) => {
                    let some: Vec<_> = std::iter::from_fn(|| ids.pop_first()).take(IDS_AT_ONCE).collect();
                    if some.is_empty() {
                        past.stage = Stage::Consumers;
                    } else {
                        *effort = effort.saturating_sub(some.len() / 4);
                        sink.part(Part::Ids(&some));
                    }
                }
            }
        }
        false
    }

    /// Adds what a group of another stream has as pending; its consumer follows.
    pub(in crate::data) fn append_pending(&mut self, pending: &Pending) {
        let is_new = self.pending.insert(*pending).is_ok();
        debug_assert!(is_new, "an ID is pending once");
    }

    /// Adds a consumer of a group of another stream; its IDs follow.
    pub(in crate::data) fn append_consumer(&mut self, head: &ConsumerHead<'_>) -> ConsumerNumber {
        self.insert_consumer(Head {
            number: head.number,
            name: head.name.into(),
            seen_at: head.seen_at,
            active_at: head.active_at,
        })
    }

    /// Adds IDs of that consumer, which are pending in the group already.
    pub(in crate::data) fn append_ids(&mut self, consumer: ConsumerNumber, ids: &[super::StreamId]) {
        self.with_ids(consumer.0, |all| {
            for id in ids {
                let is_new = all.insert(*id).is_ok();
                debug_assert!(is_new, "an ID is pending once");
            }
        });
    }
}

/// Begins the pasts of a living group, which may be about to change, for the uses that need what it is.
#[cold]
pub(super) fn begin_wanted(pasts: &mut Pasts<PastGroups>, group: &mut Group) {
    let uses: Vec<Use> = pasts.uses().collect();
    for to in uses {
        let past = pasts.get_mut(to).expect(NOT_FROZEN);
        if past.groups.needs(&group.name) && group.pasts.get(to).is_none() {
            past.begun.insert(group.name.clone());
            group.begin_past(to);
        }
    }
}

impl Groups {
    pub(in crate::data::stream) fn freeze(&mut self, to: Use) {
        self.pasts.begin(to, PastGroups::new(self.groups.len()));
    }

    /// How many there were.
    pub(in crate::data::stream) fn frozen_count(&self, to: Use) -> usize {
        self.pasts.get(to).expect(NOT_FROZEN).groups.len()
    }

    pub(in crate::data::stream) fn kept_bytes(&self) -> usize {
        let of_use = |to: Use| {
            let past = self.pasts.get(to).expect(NOT_FROZEN);
            let begun = past.begun.iter().filter_map(|name| self.get(name));
            past.kept_bytes() + begun.map(|group| group.kept_bytes(to)).sum::<usize>()
        };
        let graves = self.graves.as_ref().map_or(0, |graves| graves.allocated_bytes());
        graves + self.pasts.uses().map(of_use).sum::<usize>()
    }

    /// Keeps a group that has left, if any use wants it.
    #[cold]
    pub(super) fn bury(&mut self, group: Box<Group>) {
        let number = self.graves.as_ref().map_or(0, |graves| graves.next_number());
        let mut wanted_by = Uses::default();
        let uses: Vec<Use> = self.pasts.uses().collect();
        for to in uses {
            let past = self.pasts.get_mut(to).expect(NOT_FROZEN);
            if past.is_reading(&group.name) {
                past.reads = Some(Place::Grave(number));
                past.begun.remove(&group.name);
                wanted_by.add(to);
            } else if past.groups.wants(&group.name) {
                past.groups.keep(group.name.clone(), number);
                past.begun.remove(&group.name);
                wanted_by.add(to);
            } else if group.pasts.get(to).is_some() {
                unreachable!("a group has a past of those only that want it");
            }
        }
        if !wanted_by.is_empty() {
            self.graves.get_or_insert_default().bury(group, wanted_by);
        }
    }

    /// Makes them what they were when they were frozen for an undo. Ordinary changes, which the other pasts see.
    pub(in crate::data::stream) fn roll_back(&mut self) {
        let past = self.pasts.end(Use::Undo).expect(NOT_FROZEN);
        let (fresh, gone) = past.groups.into_changes();
        for name in fresh {
            self.remove(&name);
        }
        for name in past.begun {
            let group = self
                .get_mut(&name)
                .expect("what has begun a past and has not gone is there");
            group.roll_back();
        }
        for (name, number) in gone {
            let graves = self.graves.as_mut().expect("a group that is gone has a grave");
            let Grave { mut group, wanted_by } = graves.take(number);
            for to in self.pasts.uses() {
                let past = self.pasts.get_mut(to).expect(NOT_FROZEN);
                if !wanted_by.has(to) {
                    past.groups.note(name.clone());
                    continue;
                }
                match past.reads {
                    Some(Place::Grave(of)) if of == number => past.reads = Some(Place::Living(name.clone())),
                    _ => drop(past.groups.take_back(&name)),
                }
                if group.pasts.get(to).is_none() {
                    group.begin_past(to);
                }
                past.begun.insert(name.clone());
            }
            group.roll_back();
            let is_new = self.groups.insert(group).is_ok();
            debug_assert!(is_new, "what came in its place has gone");
        }
        self.drop_graves_if_empty();
    }

    /// Shows the next of what they were, for about so much effort; true after the last.
    pub(in crate::data::stream) fn read(&mut self, to: Use, effort: &mut usize, sink: &mut impl Sink) -> bool {
        while *effort > 0 {
            let past = self.pasts.get_mut(to).expect(NOT_FROZEN);
            if past.reads.is_none() {
                *effort -= 1;
                match past.next(&self.groups) {
                    None => return true,
                    Some(None) => continue,
                    Some(place) => past.reads = place,
                }
            }
            let (group, name) = match past.reads.as_ref() {
                Some(Place::Grave(number)) => (self.graves.as_mut().expect(BURIED).group_mut(*number), None),
                Some(Place::Living(name)) => {
                    let group = self.groups.by_key_mut(name);
                    (
                        &mut **group.expect("a group that is read and has gone has a grave"),
                        Some(name),
                    )
                }
                None => unreachable!("one was chosen above"),
            };
            if group.pasts.get(to).is_none() {
                group.begin_past(to);
                if let Some(name) = name {
                    past.begun.insert(name.clone());
                }
            }
            if !group.read(to, effort, sink) {
                return false;
            }
            past.left_pasts.extend(group.pasts.end(to));
            match past.reads.take() {
                Some(Place::Living(name)) => drop(past.begun.remove(&name)),
                Some(Place::Grave(number)) => {
                    past.left_groups
                        .extend(self.graves.as_mut().expect(BURIED).release(number, to));
                }
                None => {}
            }
        }
        false
    }

    /// Ends a past, if there is one.
    pub(in crate::data::stream) fn thaw(&mut self, to: Use) -> Option<PastGroups> {
        let mut past = self.pasts.end(to)?;
        while let Some(name) = past.begun.pop_first() {
            if let Some(group) = self.groups.by_key_mut(&name) {
                past.left_pasts.extend(group.pasts.end(to));
            }
        }
        let read = match past.reads.take() {
            Some(Place::Grave(number)) => Some(number),
            _ => None,
        };
        let graves: Vec<u64> = past.groups.gone().copied().chain(read).collect();
        for number in graves {
            let all = self.graves.as_mut().expect(BURIED);
            past.left_pasts.extend(all.group_mut(number).pasts.end(to));
            past.left_groups.extend(all.release(number, to));
        }
        self.drop_graves_if_empty();
        Some(past)
    }

    fn drop_graves_if_empty(&mut self) {
        if self.graves.as_ref().is_some_and(|graves| graves.is_empty()) {
            self.graves = None;
        }
    }

    /// Checks the invariants of their pasts.
    pub(super) fn check_pasts(&self) {
        for to in [Use::Undo, Use::Snapshot, Use::Copy] {
            let past = self.pasts.get(to);
            for group in self.iter() {
                let is_named = past.is_some_and(|past| past.begun.contains(&group.name));
                assert_eq!(group.pasts.get(to).is_some(), is_named, "invariant 1 of `past::groups`");
            }
        }
        assert!(
            self.pasts.is_any() || self.graves.is_none(),
            "nobody wants what has gone"
        );
    }
}

const BURIED: &str = "what has gone and is wanted has a grave";

/// What is left of the past of a stream.
pub(in crate::data::stream) struct SpentStream<B: Remains> {
    pub(in crate::data::stream) blocks: B,
    pub(in crate::data::stream) groups: PastGroups,
}

impl<B: Remains + 'static> SpentStream<B> {
    pub(in crate::data::stream) fn into_spent(self) -> Spent {
        Spent::of(self)
    }
}

impl<B: Remains> Remains for SpentStream<B> {
    fn left(&self) -> usize {
        self.blocks.left() + self.groups.left()
    }

    fn free_step(&mut self, count: usize) -> bool {
        self.blocks.free_step(count) && self.groups.free_step(count)
    }
}
