//! The toy content and the toy units of work of the simulation.

use shardis::shard::{Footprint, Verdict, View, Work};

/// The toy content of a slot: which units wrote it. Its length is its version.
#[derive(Clone, Debug, Default)]
pub struct Content {
    pub writers: Vec<u32>,
}

/// That a unit saw a version of a slot, and perhaps wrote the next one.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    pub slot: u16,
    pub version: usize,
    pub is_write: bool,
}

/// A toy unit of work.
#[derive(Clone, Debug)]
pub struct Job {
    pub id: u32,
    /// What it touches, and whether it writes.
    pub slots: Vec<(u16, bool)>,
    pub wants_everything: bool,
    /// How many times it holds before it is done.
    pub hold_count: u8,
    /// How many slots it looks for whose number depends on what it has seen.
    pub seek_count: u8,
    pub slot_count: u16,
    pub seen: Vec<Access>,
    pub held_count: u8,
    pub attempt_count: u32,
}

impl Job {
    pub fn footprint(&self) -> Footprint {
        match self.wants_everything {
            true => Footprint::Everything,
            false => Footprint::Slots(self.slots.iter().map(|(slot, _)| *slot).collect()),
        }
    }

    fn touch(&mut self, view: &mut View<'_, Content>, slot: u16, is_write: bool) -> bool {
        let Some(content) = view.slot(slot) else {
            return false;
        };
        self.seen.push(Access {
            slot,
            version: content.writers.len(),
            is_write,
        });
        if is_write {
            content.writers.push(self.id);
        }
        true
    }

    fn undo(&mut self, view: &mut View<'_, Content>) {
        while let Some(access) = self.seen.pop() {
            if access.is_write {
                let content = view.slot(access.slot).expect("what was written is still held");
                assert_eq!(content.writers.pop(), Some(self.id));
            }
        }
    }

    /// Looks for slots that depend on what was seen; the first one that is not there is lacking.
    fn seek(&mut self, view: &mut View<'_, Content>) -> Option<u16> {
        for at in 0..self.seek_count {
            let seen: usize = self.seen.iter().map(|access| access.version + 1).sum();
            let slot = (seen as u32 + self.id * 7 + at as u32 * 3) % self.slot_count as u32;
            if !self.touch(view, slot as u16, (self.id + at as u32).is_multiple_of(2)) {
                return Some(slot as u16);
            }
        }
        None
    }

    fn step(&mut self, view: &mut View<'_, Content>) -> Verdict {
        if self.wants_everything {
            let slots = view
                .all_slots()
                .expect("everything was asked for")
                .map(|(slot, _)| slot);
            assert!(slots.eq(0..self.slot_count), "everything is not everything");
        }
        if let Some(lacking) = self.seek(view) {
            self.undo(view);
            self.held_count = 0;
            // A slot that depends on others may change with them, from one attempt to the next, for ever.
            let more = if self.attempt_count > 3 {
                Footprint::Everything
            } else {
                Footprint::one(lacking)
            };
            return Verdict::Lacks(more);
        }
        if self.held_count < self.hold_count {
            self.held_count += 1;
            return Verdict::Hold;
        }
        Verdict::Done
    }

    /// After holding: nothing that it saw may have changed.
    pub fn go_on(&mut self, view: &mut View<'_, Content>) -> Verdict {
        for access in self.seen.clone() {
            let content = view.peek(access.slot).expect("who holds keeps what it has seen");
            let own = self
                .seen
                .iter()
                .filter(|other| other.slot == access.slot && other.is_write)
                .count();
            let first = self
                .seen
                .iter()
                .find(|other| other.slot == access.slot)
                .expect("it was seen");
            assert_eq!(
                content.writers.len(),
                first.version + own,
                "slot {} changed while held",
                access.slot
            );
        }
        self.step(view)
    }
}

impl Work<Content> for Job {
    type Env = ();

    fn run(&mut self, view: &mut View<'_, Content>, _: &mut ()) -> Verdict {
        assert!(
            self.seen.is_empty(),
            "a unit runs again only after it has undone what it did"
        );
        self.attempt_count += 1;
        for (slot, is_write) in self.slots.clone() {
            assert!(
                self.touch(view, slot, is_write),
                "slot {slot} of the footprint is not in the view"
            );
        }
        self.step(view)
    }
}
