//! The past of a stream's groups.
//!
//! There may be many groups, and millions of entries pending in one, so neither are copied. The groups have a past that knows which of them
//! are fresh and which are gone, and a group that is about to change for the first time *begins* one of its own ([`PastGroup`]): its head is copied,
//! and from then on it keeps the pending entries and the heads of the consumers that change.
//!
//! ```text
//! groups   a  b' c' e        fresh e;  begun b, c;  gone d
//!                |
//!                pending     1 2 3' 5      fresh 3, 5;  gone 3, 4
//!                consumers   x y'          fresh y;     gone y
//! ```
//!
//! Which consumer an entry is pending for is known by the entry, so the consumers' own lists need no past: they are gathered
//! anew as the pending entries are read ([`PastGroup::gathered`]).
//!
//! A group that goes is not copied for each use that wants it: it lies in its [`Grave`], with all its pasts, until the last use is done
//! with it, and nobody changes it there.
//!
//! Invariants: 1. a living group has a past of a use exactly if it is named in `begun` of that use; 2. a grave is wanted by the uses in whose
//! `groups` it is gone, and by those that are reading it.

use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet};

use super::{Next, PastRuns};
use crate::base::clock::UnixMs;
use crate::data::past::{NOTE_BYTES, Remains, Use};
use crate::data::stream::groups::{Group, Pending};
use crate::data::stream::id::StreamId;
use crate::data::stream::runs::Runs;

pub(in crate::data::stream) type Name = Box<[u8]>;

/// The head of a consumer, as it was.
#[derive(Clone)]
pub(in crate::data::stream) struct Head {
    pub(in crate::data::stream) number: u64,
    pub(in crate::data::stream) name: Name,
    pub(in crate::data::stream) seen_at: UnixMs,
    pub(in crate::data::stream) active_at: Option<UnixMs>,
}

/// The past of one group.
pub(in crate::data::stream) struct PastGroup {
    pub(in crate::data::stream) last_delivered_id: StreamId,
    pub(in crate::data::stream) entries_read: Option<u64>,
    pub(in crate::data::stream) pending: PastRuns<StreamId, Pending>,
    pub(in crate::data::stream) consumers: PastRuns<Name, Head>,
    pub(in crate::data::stream) stage: Stage,
    /// What was read as pending, for each consumer by its number.
    pub(in crate::data::stream) gathered: HashMap<u64, Runs<StreamId>>,
}

/// How far a group has been read.
pub(in crate::data::stream) enum Stage {
    Head,
    Pending,
    Consumers,
    /// What is pending for the consumer that was read last.
    Ids(Runs<StreamId>),
}

impl PastGroup {
    pub(in crate::data::stream) fn kept_bytes(&self) -> usize {
        let gathered: usize = self.gathered.values().map(Runs::allocated_bytes).sum();
        size_of::<PastGroup>() + self.pending.notes_bytes() + self.consumers.notes_bytes() + gathered
    }
}

impl Remains for PastGroup {
    fn left(&self) -> usize {
        self.pending.left() + self.consumers.left() + self.gathered.len()
    }

    fn free_step(&mut self, mut count: usize) -> bool {
        let is_over = self.pending.free_step(&mut count) && self.consumers.free_step(&mut count);
        while is_over && count > 0 {
            let Some(number) = self.gathered.keys().next().copied() else {
                return true;
            };
            if let Some(ids) = self.gathered.get_mut(&number) {
                if !ids.free_step(count) {
                    return false;
                }
                self.gathered.remove(&number);
            }
            count -= 1;
        }
        is_over && self.gathered.is_empty()
    }
}

/// A group that has gone, and the uses that want it.
pub(in crate::data::stream) struct Grave {
    pub(in crate::data::stream) group: Box<Group>,
    pub(in crate::data::stream) wanted_by: Uses,
}

/// A set of uses.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::data::stream) struct Uses(u8);

impl Uses {
    pub(in crate::data::stream) fn add(&mut self, to: Use) {
        self.0 |= 1 << to as u8;
    }

    pub(in crate::data::stream) fn remove(&mut self, to: Use) {
        self.0 &= !(1 << to as u8);
    }

    pub(in crate::data::stream) fn has(self, to: Use) -> bool {
        self.0 & 1 << to as u8 != 0
    }

    pub(in crate::data::stream) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Where a group is.
pub(in crate::data::stream) enum Place {
    Living(Name),
    Grave(u64),
}

/// The past of all groups; what is gone is known by the number of its grave.
pub(in crate::data::stream) struct PastGroups {
    pub(in crate::data::stream) groups: PastRuns<Name, u64>,
    pub(in crate::data::stream) begun: BTreeSet<Name>,
    /// The group that is being read.
    pub(in crate::data::stream) reads: Option<Place>,
    /// Groups that were read in their graves, and pasts that are over: to be freed.
    #[allow(clippy::vec_box, reason = "they come in their boxes, and stay in them")]
    pub(in crate::data::stream) left_groups: Vec<Box<Group>>,
    pub(in crate::data::stream) left_pasts: Vec<PastGroup>,
}

impl PastGroups {
    pub(in crate::data::stream) fn new(group_count: usize) -> PastGroups {
        PastGroups {
            groups: PastRuns::new(group_count),
            begun: BTreeSet::new(),
            reads: None,
            left_groups: Vec::new(),
            left_pasts: Vec::new(),
        }
    }

    /// Whether the living group of this name is being read.
    pub(in crate::data::stream) fn is_reading(&self, name: &[u8]) -> bool {
        matches!(&self.reads, Some(Place::Living(of)) if **of == *name)
    }

    /// Says which group is to be read next, or that one was passed over, in the order of names. None: all have been read.
    pub(in crate::data::stream) fn next(&mut self, living: &Runs<Box<Group>>) -> Option<Option<Place>> {
        let next = self.groups.next(|last| {
            let group = living.after(last.map(|name| &**name))?;
            Some((group.name().into(), group.name().into()))
        });
        Some(match next? {
            Next::Nothing => None,
            Next::Gone(grave) => Some(Place::Grave(grave)),
            Next::Living(name) => Some(Place::Living(name)),
        })
    }

    /// What it takes itself, and what it has taken over for itself alone.
    pub(in crate::data::stream) fn kept_bytes(&self) -> usize {
        let left: usize = self.left_groups.iter().map(|group| group.allocated_bytes()).sum();
        self.groups.notes_bytes() + self.begun.len() * NOTE_BYTES + left
    }
}

impl Remains for PastGroups {
    fn left(&self) -> usize {
        let pasts: usize = self.left_pasts.iter().map(PastGroup::left).sum();
        let groups: usize = self.left_groups.iter().map(|group| group.effort()).sum();
        pasts + groups + self.groups.left() + self.begun.len()
    }

    fn free_step(&mut self, mut count: usize) -> bool {
        if let Some(past) = self.left_pasts.last_mut() {
            if past.free_step(count) {
                self.left_pasts.pop();
            }
            return false;
        }
        if let Some(group) = self.left_groups.last_mut() {
            if group.free_step(count) {
                self.left_groups.pop();
            }
            return false;
        }
        while count > 0 && self.begun.pop_first().is_some() {
            count -= 1;
        }
        count > 0 && self.groups.free_step(&mut count)
    }
}

/// Graves by their numbers.
#[derive(Default)]
pub(in crate::data::stream) struct Graves {
    graves: BTreeMap<u64, Grave>,
    next: u64,
}

impl Graves {
    /// The number that the next group gets.
    pub(in crate::data::stream) fn next_number(&self) -> u64 {
        self.next
    }

    pub(in crate::data::stream) fn bury(&mut self, group: Box<Group>, wanted_by: Uses) {
        self.graves.insert(self.next, Grave { group, wanted_by });
        self.next += 1;
    }

    pub(in crate::data::stream) fn group_mut(&mut self, grave: u64) -> &mut Group {
        &mut self.graves.get_mut(&grave).expect(WANTED).group
    }

    /// Takes a group out for good.
    pub(in crate::data::stream) fn take(&mut self, grave: u64) -> Grave {
        self.graves.remove(&grave).expect(WANTED)
    }

    /// A use is done with a group; it comes back if no other one wants it.
    pub(in crate::data::stream) fn release(&mut self, number: u64, to: Use) -> Option<Box<Group>> {
        let grave = self.graves.get_mut(&number).expect(WANTED);
        grave.wanted_by.remove(to);
        let is_over = grave.wanted_by.is_empty();
        is_over.then(|| self.take(number).group)
    }

    pub(in crate::data::stream) fn allocated_bytes(&self) -> usize {
        self.graves.values().map(|grave| grave.group.allocated_bytes()).sum()
    }

    pub(in crate::data::stream) fn is_empty(&self) -> bool {
        self.graves.is_empty()
    }

    /// Frees about `count` pending entries, consumers or groups; true when nothing is left.
    pub(in crate::data::stream) fn free_step(&mut self, count: usize) -> bool {
        if let Some(mut first) = self.graves.first_entry()
            && first.get_mut().group.free_step(count)
        {
            first.remove();
        }
        self.graves.is_empty()
    }
}

const WANTED: &str = "a grave is there as long as somebody wants it";
