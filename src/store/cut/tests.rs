//! The cut of a slot against pictures of it.

use super::*;
use crate::base::clock::UnixMs;
use crate::base::random::{Random, fewer_if_checked};
use crate::data::access::Moment;
use crate::data::frozen::{Head, Part, Sink};
use crate::data::hash::{FieldExpiry, Hash};
use crate::data::list::{End, List};
use crate::data::set::Set;
use crate::data::string::StringForm;
use crate::data::{Limits, ObjectRef};
use crate::store::{Access, Edited, Expiry, HashSeed, MovedBack, SlotCommon};
use std::collections::BTreeMap;

const AT: Moment = Moment::lru(UnixMs(1));

type Picture = BTreeMap<(u32, Vec<u8>), String>;

fn picture(slot: &Slot) -> Picture {
    let mut all = Picture::new();
    for db in slot.dbs().collect::<Vec<_>>() {
        slot.for_each(db, UnixMs(0), |entry| note(&mut all, db, entry));
    }
    all
}

fn note(all: &mut Picture, db: DbIndex, entry: EntryRef<'_>) {
    let value = match entry.value() {
        // A copy is not frozen, whatever has become of the value itself.
        _ if entry.lent().is_some() => {
            let mut copy = entry.to_owned();
            let mut parts = Parts::default();
            copy.lend(|value| {
                if value.as_ref().freezes() {
                    value.freeze(Use::Snapshot);
                }
                assert!(value.read_slice(Use::Snapshot, HashSeed([0, 0]), usize::MAX, &mut parts));
            });
            parts.text()
        }
        value => format!("{value:?}"),
    };
    insert(all, db, entry.key(), value, entry.expiry());
}

fn insert(all: &mut Picture, db: DbIndex, key: &[u8], value: String, expiry: Option<UnixMs>) {
    let before = all.insert((db.0, key.to_vec()), format!("{value} {expiry:?}"));
    assert_eq!(before, None, "saved once");
}

/// What a value consists of, in any order but that of a list.
#[derive(Default)]
struct Parts {
    all: Vec<String>,
    is_list: bool,
    bytes: Vec<u8>,
}

impl Parts {
    fn text(mut self) -> String {
        if !self.is_list {
            self.all.sort();
        }
        if !self.bytes.is_empty() {
            let hash = HashSeed([1, 1]).hash(&self.bytes);
            self.all.push(format!("{} bytes: {hash:x}", self.bytes.len()));
        }
        self.all.join(" ")
    }
}

impl Sink for Parts {
    fn whole(&mut self, object: ObjectRef<'_>) {
        self.all.push(format!("{object:?} of {}", object.len()));
    }

    fn begin(&mut self, head: Head) {
        self.is_list = matches!(head, Head::List { .. });
    }

    fn part(&mut self, part: Part<'_>) {
        self.all.push(match part {
            Part::Bytes(bytes) => return self.bytes.extend_from_slice(bytes),
            Part::Node(node) => format!("{node:?}"),
            Part::Member(member) => format!("{}", member.escape_ascii()),
            part => format!("{part:?}"),
        });
    }
}

#[derive(Default)]
struct Saved {
    all: Picture,
    captured: Captured,
    begun: Parts,
}

impl Saved {
    /// Reads some of what is frozen.
    fn frozen(&mut self, slot: &mut Slot, effort: usize) {
        let Some(named) = slot.first_frozen().cloned() else {
            return;
        };
        let parts = &mut self.begun;
        let (is_read, detached) =
            slot.read_frozen(|object, seed| object.read_slice(Use::Snapshot, seed, effort, parts));
        drop(detached);
        if is_read {
            let value = std::mem::take(&mut self.begun).text();
            insert(&mut self.all, named.db, &named.key, value, named.expiry);
        }
    }

    /// Takes in what is captured, and so many entries of it out: a saver has others to serve, too.
    fn captured(&mut self, slot: &mut Slot, cut: &Cut, effort: usize) {
        self.captured.absorb(slot.take_captured());
        for _ in 0..effort {
            let Some((db, entry)) = self.captured.next(cut) else {
                break;
            };
            note(&mut self.all, db, entry.as_ref());
        }
    }
}

/// One entry fewer is to be saved in this step; the last one ends it.
fn count_down(left: &mut usize) -> ControlFlow<()> {
    *left = left.saturating_sub(1);
    match *left {
        0 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    }
}

fn change(slot: &mut Slot, random: &mut Random) {
    let db = DbIndex(random.below(3) as u32);
    let key = random.below(300).to_string().into_bytes();
    match random.below(40) {
        0 => drop(slot.clear_db(db)),
        1 => slot.swap_dbs(db, DbIndex(random.below(4) as u32), AT),
        2..10 => drop(slot.remove(db, &key, AT)),
        10..14 => {
            let large = format!("large:{}", random.below(4)).into_bytes();
            let key = if random.chance(1, 4) { large } else { key };
            let here = slot.as_destination();
            if let Some(entry) = slot.take_for(db, &key, here, None, AT) {
                let key = match random.chance(1, 4) {
                    true => format!("large:{}", random.below(4)).into_bytes(),
                    false => random.below(300).to_string().into_bytes(),
                };
                slot.put_taken(DbIndex(random.below(3) as u32), &key, entry, AT);
            }
        }
        14..18 => drop(slot.set_expiry(db, &key, Some(UnixMs(50 + random.below(9) as u64)), AT)),
        18..24 => {
            let entry = slot.peek(db, &key, AT.now);
            if entry.is_none_or(|entry| entry.object().is_none()) {
                slot.append(db, &key, b"+", AT);
            }
        }
        24..27 => drop(slot.get(db, &key, AT, Access::Read)),
        27..32 => {
            let key = format!("large:{}", random.below(4)).into_bytes();
            change_large(slot, db, &key, random);
        }
        _ => slot.set_string(
            db,
            &key,
            &random.next_u64().to_le_bytes(),
            StringForm::Raw,
            Expiry::Keep,
            AT,
        ),
    }
}

/// Changes three values that may be large: many elements make them so at once.
fn change_large(slot: &mut Slot, db: DbIndex, key: &[u8], random: &mut Random) {
    let count = [1, 3, 100, 1500][random.below(4)];
    let limits = Limits::default();
    let seed = slot.common.seed;
    let first = random.below(3000);
    let removes = random.chance(1, 3);
    let member = |number: usize| format!("member {}", (first + number) % 3000).into_bytes();
    let edited = slot.edit_or_create(db, key, AT, |set: &mut Set| {
        for number in 0..count {
            match removes {
                true => drop(set.remove(&member(number), seed)),
                false => drop(set.add(&member(number), &limits, seed)),
            }
        }
        Edited::Changed(())
    });
    // A key may have been moved over one of the other type.
    if edited.is_err() {
        return;
    }
    let edited = slot.edit_or_create(db, &[key, b"list"].concat(), AT, |list: &mut List| {
        for number in 0..count {
            match removes {
                true => drop(list.pop(End::Front, &limits, |_| ())),
                false => list.push(End::Back, &member(number), &limits),
            }
        }
        Edited::Changed(())
    });
    assert!(edited.is_ok());
    let key = [key, b"string"].concat();
    match (removes, count) {
        (true, 100) => drop(slot.remove(db, &key, AT)),
        (true, 1500) => slot.set_string(db, &key, &[b's'; 20_000], StringForm::Raw, Expiry::Keep, AT),
        (true, _) => drop(slot.append(db, &key, b"tail", AT)),
        (false, 1500) => drop(slot.set_range(db, &key, 300_000, &member(7), AT)),
        (false, _) => drop(slot.set_range(db, &key, first * 100, &member(count), AT)),
    }
}

/// A slot that is the only one, and its cut.
fn slot_of(seed: u64) -> (Slot, Arc<Cut>) {
    let cut = Arc::new(Cut::new(1, Arc::default()));
    (Slot::sharing(0, common(seed, &cut)), cut)
}

/// What the slots of one home have in common.
fn common(seed: u64, cut: &Arc<Cut>) -> Arc<SlotCommon> {
    Arc::new(SlotCommon {
        seed: HashSeed([seed, 7]),
        occupancy: None,
        attention: Arc::default(),
        cut: cut.clone(),
    })
}

/// Whatever happens to a slot between the steps of a walk, what is saved is what there was at the cut, each entry once.
#[test]
fn what_is_saved_is_what_there_was() {
    for seed in 0..fewer_if_checked(12) {
        let random = &mut Random::with_seed(seed);
        let (mut slot, cut) = slot_of(seed);
        for round in 0..4 {
            for _ in 0..random.below(2000) {
                change(&mut slot, random);
            }
            let expected = picture(&slot);
            cut.open();
            let mut saved = Saved::default();
            let gives_up = random.chance(1, 4);
            let mut steps = 0;
            loop {
                for _ in 0..random.below(12) {
                    change(&mut slot, random);
                }
                if random.chance(1, 6) {
                    slot.begin_undo();
                    for _ in 0..random.below(12) {
                        change(&mut slot, random);
                    }
                    if random.chance(1, 2) {
                        slot.rollback();
                    } else {
                        drop(slot.commit_undo());
                    }
                }
                slot.check();
                if gives_up && steps == 3 {
                    cut.close();
                }
                saved.captured(&mut slot, &cut, random.below(12));
                if cut.is_open() {
                    saved.frozen(&mut slot, random.below(400));
                } else {
                    while slot.first_frozen().is_some() {
                        drop(slot.read_frozen(|_, _| true).1);
                    }
                }
                let mut left = random.below(40);
                let is_done = slot.save_some(|db, entry| {
                    if cut.is_open() {
                        note(&mut saved.all, db, entry);
                    }
                    count_down(&mut left)
                });
                steps += 1;
                if is_done && slot.first_frozen().is_none() {
                    saved.captured(&mut slot, &cut, usize::MAX);
                    break;
                }
            }
            assert!(!cut.is_unsaved(0) && cut.next_captured(0).is_none());
            assert_eq!(cut.captured_bytes(), 0, "seed {seed}, round {round}");
            if cut.is_open() {
                let keys = saved.all.keys().chain(expected.keys());
                let differing = keys.filter(|key| saved.all.get(*key) != expected.get(*key));
                assert_eq!(differing.count(), 0, "seed {seed}, round {round}");
                cut.close();
            }
            slot.check();
        }
    }
}

#[test]
fn marks_are_found_in_their_order() {
    let marks = Marks::new();
    for slot in [0, 63, 64, 16383] {
        marks.set(slot);
    }
    assert_eq!(
        (marks.next(0), marks.next(1), marks.next(64), marks.next(65)),
        (Some(0), Some(63), Some(64), Some(16383))
    );
    marks.clear(16383);
    assert!(marks.next(65).is_none() && marks.has(63) && !marks.has(62));
}

/// The same of a snapshot: a list of few nodes with many bytes, which is frozen and does not take long to free, is saved though it was
/// overwritten.
#[test]
fn a_long_list_of_few_nodes_is_saved_though_it_was_overwritten() {
    let (mut slot, cut) = slot_of(7);
    let db = DbIndex(0);
    let pushed = slot.edit_or_create(db, b"list", AT, |list: &mut List| {
        (0..20).for_each(|_| list.push(End::Back, &[b'x'; 8000], &Limits::default()));
        Edited::Changed(())
    });
    assert!(pushed.is_ok());
    let expected = picture(&slot);
    cut.open();
    slot.set_string(db, b"list", b"text", StringForm::Raw, Expiry::Clear, AT);
    let mut saved = Saved::default();
    saved.captured(&mut slot, &cut, usize::MAX);
    while slot.first_frozen().is_some() {
        saved.frozen(&mut slot, 3);
    }
    assert!(slot.save_some(|_, _| unreachable!("all of it was captured")));
    let differing = saved
        .all
        .keys()
        .chain(expected.keys())
        .filter(|key| saved.all.get(*key) != expected.get(*key));
    assert_eq!(differing.count(), 0);
    assert!(!cut.take_lost());
}

/// A home's part of a snapshot, as the saver goes about it.
#[derive(Default)]
struct Home {
    slots: Vec<usize>,
    todo: Vec<usize>,
    /// The slot in which it reads something large.
    at: Option<usize>,
    begun: Parts,
    named: Option<FrozenEntry>,
    is_done: bool,
}

impl Home {
    fn step(&mut self, slots: &mut [Slot], cut: &Cut, saved: &mut Saved, random: &mut Random) {
        let has_captured = |slot: &usize| cut.next_captured(*slot as u16) == Some(*slot as u16);
        for slot in self.slots.clone().iter().filter(|slot| has_captured(slot)) {
            saved.captured(&mut slots[*slot], cut, usize::MAX);
            if self.at.is_none()
                && let Some(named) = slots[*slot].first_frozen().cloned()
            {
                slots[*slot].take_forward();
                self.named = Some(named);
                self.at = Some(*slot);
            }
        }
        while let Some(at) = self.at {
            if let Some(other) = slots[at].take_forward() {
                assert!(self.slots.contains(&usize::from(other)), "it moves within its home");
                self.at = Some(usize::from(other));
                continue;
            }
            assert_eq!(
                slots[at].first_frozen(),
                self.named.as_ref(),
                "what is read is what was begun with"
            );
            let (effort, parts) = (1 + random.below(100), &mut self.begun);
            let (is_read, detached) =
                slots[at].read_frozen(|object, seed| object.read_slice(Use::Snapshot, seed, effort, parts));
            drop(detached);
            if is_read {
                let named = self.named.take().expect("it was begun");
                let value = std::mem::take(&mut self.begun).text();
                insert(&mut saved.all, named.db, &named.key, value, named.expiry);
                self.at = None;
            }
            break;
        }
        if let Some(slot) = self.todo.last().copied().filter(|_| self.at.is_none()) {
            let mut left = random.below(4);
            let is_through = slots[slot].save_some(|db, entry| {
                note(&mut saved.all, db, entry);
                count_down(&mut left)
            });
            if is_through {
                self.todo.pop();
            }
        }
        self.is_done = self.todo.is_empty() && self.at.is_none() && !self.slots.iter().any(has_captured);
    }
}

/// Large values move between the slots of one home, and to those of another one, which may be done with its part already: all of what
/// they were is saved, once, under their names of then.
#[test]
fn what_has_moved_to_another_slot_is_saved_as_what_it_was() {
    let (mut moved_along, mut forwarded) = (0, 0);
    for seed in 0..fewer_if_checked(20) {
        let random = &mut Random::with_seed(seed);
        let cut = Arc::new(Cut::new(4, Arc::default()));
        let commons = [common(seed, &cut), common(seed, &cut)];
        let mut slots: Vec<Slot> = (0..4)
            .map(|slot| Slot::sharing(slot, commons[usize::from(slot / 2)].clone()))
            .collect();
        for (slot, content) in slots.iter_mut().enumerate() {
            for number in [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3] {
                change_large(content, DbIndex(0), format!("{slot}:{number}").as_bytes(), random);
            }
        }
        let all = |slots: &[Slot]| slots.iter().flat_map(picture).collect::<Picture>();
        let expected = all(&slots);
        cut.open();
        let mut saved = Saved::default();
        let mut homes = [vec![0, 1], vec![2, 3]].map(|slots| Home {
            todo: slots.clone(),
            slots,
            ..Home::default()
        });
        while homes.iter().any(|home| !home.is_done) {
            let name = |slot: usize, random: &mut Random| format!("{slot}:{}", random.below(4)).into_bytes();
            let (db, other_db) = (DbIndex(random.below(2) as u32), DbIndex(random.below(2) as u32));
            let has_undo = random.chance(1, 4);
            if has_undo {
                slots.iter_mut().for_each(Slot::begin_undo);
            }
            for _ in 0..if has_undo { 1 + random.below(4) } else { 1 } {
                let (from, to) = (random.below(4), random.below(4));
                let (key, other) = (name(from, random), name(to, random));
                match random.below(8) {
                    0..3 => {
                        // Now and then the one that is being read, if it has its name of then still.
                        let read = homes.iter().find_map(|home| home.at.zip(home.named.as_ref()));
                        let (from, db, key) = match read.filter(|_| random.chance(1, 3)) {
                            Some((at, named)) => (at, named.db, named.key.to_vec()),
                            None => (from, db, key),
                        };
                        let destination = slots[to].as_destination();
                        let frozen_count = |slot: &Slot| {
                            slot.rare()
                                .and_then(|rare| rare.cut.as_ref())
                                .map_or(0, |cut| cut.frozen.len())
                        };
                        let before = frozen_count(&slots[to]);
                        if let Some(taken) = slots[from].take_for(db, &key, destination, None, AT) {
                            slots[to].put_taken(other_db, &other, taken, AT);
                            moved_along += usize::from(from != to && frozen_count(&slots[to]) > before);
                        }
                    }
                    3 => change_large(&mut slots[from], db, &key, random),
                    4 if random.chance(1, 8) => drop(slots[from].clear_db(db)),
                    5 if random.chance(1, 4) => slots.iter_mut().for_each(|slot| slot.swap_dbs(db, other_db, AT)),
                    6 if random.chance(1, 4) => drop(slots[from].remove(db, &key, AT)),
                    _ => {}
                }
            }
            if has_undo && random.chance(1, 2) {
                let mut moved = MovedBack::default();
                slots.iter_mut().for_each(|slot| slot.roll_back_into(&mut moved));
                slots.iter_mut().for_each(|slot| slot.fill_from(&mut moved));
                drop(moved.into_detached());
            } else if has_undo {
                slots.iter_mut().for_each(|slot| drop(slot.commit_undo()));
            }
            slots.iter().for_each(Slot::check);
            let turn = random.below(2);
            // Who is done looks at nothing any more.
            if !homes[turn].is_done {
                let at = homes[turn].at;
                homes[turn].step(&mut slots, &cut, &mut saved, random);
                forwarded += usize::from(at.is_some() && homes[turn].at.is_some() && at != homes[turn].at);
            }
        }
        assert!(!cut.take_lost() && cut.next_captured(0).is_none(), "seed {seed}");
        assert_eq!(cut.captured_bytes(), 0, "seed {seed}");
        let keys = saved.all.keys().chain(expected.keys());
        let differing: Vec<_> = keys.filter(|key| saved.all.get(*key) != expected.get(*key)).collect();
        assert!(differing.is_empty(), "seed {seed}: {differing:?}");
        cut.close();
    }
    assert!(
        moved_along > 0 && forwarded > 0,
        "{moved_along} moved, {forwarded} of them half read"
    );
}

/// What has lost its last element has no place any more, and what has few left is written over in its place: both are saved as what they
/// were, and come back as that.
#[test]
fn a_frozen_value_is_saved_though_it_was_emptied_or_shrunk_and_overwritten() {
    for (left, is_taken_back) in [0, 5]
        .into_iter()
        .flat_map(|left| [None, Some(false), Some(true)].map(|back| (left, back)))
    {
        let (mut slot, cut) = slot_of(5);
        let (db, seed) = (DbIndex(0), slot.common.seed);
        let member = |number: usize| format!("member {number}").into_bytes();
        let made = slot.edit_or_create(db, b"set", AT, |set: &mut Set| {
            for number in 0..1500 {
                set.add(&member(number), &Limits::default(), seed);
            }
            Edited::Changed(())
        });
        assert!(made.is_ok());
        let expected = picture(&slot);
        cut.open();
        if is_taken_back.is_some() {
            slot.begin_undo();
        }
        let shrunk = slot.edit(db, b"set", AT, |set: &mut Set| {
            for number in left..1500 {
                set.remove(&member(number), seed);
            }
            Edited::Changed(())
        });
        assert_eq!((shrunk, slot.key_count()), (Ok(Some(())), left.min(1)));
        if left > 0 {
            slot.set_string(db, b"set", b"text", StringForm::Raw, Expiry::Clear, AT);
        }
        match is_taken_back {
            Some(true) => {
                slot.rollback();
                assert!(picture(&slot) == expected, "{left} left");
            }
            Some(false) => drop(slot.commit_undo()),
            None => {}
        }
        let mut saved = Saved::default();
        while slot.first_frozen().is_some() {
            saved.frozen(&mut slot, 100);
        }
        assert!(slot.save_some(|_, _| unreachable!("all of it was captured")));
        assert!(
            saved.all == expected && !cut.take_lost(),
            "{left} left, {is_taken_back:?}"
        );
        slot.check();
    }
}

/// Whatever changes a frozen value (a command, the expiry of fields, the end of an undo): what it keeps by then is counted.
#[test]
fn what_a_frozen_value_keeps_is_counted_at_once() {
    let (mut slot, cut) = slot_of(3);
    let (db, seed) = (DbIndex(0), slot.common.seed);
    let field = |number: usize| format!("field {number}").into_bytes();
    let remove = |slot: &mut Slot, numbers: std::ops::Range<usize>| {
        let edited = slot.edit(db, b"hash", AT, |hash: &mut Hash| {
            for number in numbers {
                hash.remove(&field(number), AT.now, seed);
            }
            Edited::Changed(())
        });
        assert_eq!(edited, Ok(Some(())));
    };
    let made = slot.edit_or_create(db, b"hash", AT, |hash: &mut Hash| {
        for number in 0..2000 {
            let (expiry, limits) = (FieldExpiry::Clear, Limits::default());
            hash.set(&field(number), b"value", expiry, AT.now, &limits, seed);
            if number >= 1000 {
                hash.set_expiry(&field(number), Some(UnixMs(50)), AT.now, seed);
            }
        }
        Edited::Changed(())
    });
    assert!(made.is_ok());
    cut.open();
    let mut before = 0;
    let mut is_counted = |slot: &Slot| {
        let entry = slot.peek(db, b"hash", AT.now).expect("it is there");
        let kept_bytes = entry.object().map_or(0, ObjectRef::kept_bytes);
        assert_eq!(cut.captured_bytes(), kept_bytes);
        let has_grown = kept_bytes > before;
        before = kept_bytes;
        has_grown
    };
    for _ in 0..2 {
        // The first of all changes, and a further one.
        assert!(slot.expire_step(UnixMs(100), 100).expired_count > 0);
        assert!(is_counted(&slot));
    }
    remove(&mut slot, 0..10);
    assert!(is_counted(&slot));
    for goes_back in [true, false] {
        slot.begin_undo();
        remove(&mut slot, 10..400);
        assert!(is_counted(&slot));
        if goes_back {
            slot.rollback();
        } else {
            drop(slot.commit_undo());
        }
        is_counted(&slot);
    }
    slot.take_told();
}

/// A long string keeps what is written over, whoever writes it, and what has been appended is no part of what it was; to read it back to its
/// end frees that.
#[test]
fn what_a_frozen_string_keeps_is_counted_at_once() {
    let (mut slot, cut) = slot_of(4);
    let (db, key) = (DbIndex(0), b"string");
    slot.set_range(db, key, 400_000, b"end", AT);
    let expected = picture(&slot);
    cut.open();
    slot.append(db, key, b"tail", AT);
    assert_eq!(cut.captured_bytes(), 0);
    slot.set_range(db, key, 5000, b"x", AT);
    let one = cut.captured_bytes();
    assert!(one > 4096 && one < 4200, "{one}");
    slot.set_range(db, key, 5001, b"y", AT);
    assert_eq!(cut.captured_bytes(), one, "it is kept once");
    for goes_back in [true, false] {
        slot.begin_undo();
        slot.set_range(db, key, 100_000, &[b'z'; 8192], AT);
        assert!(cut.captured_bytes() >= one + 2 * 4096);
        match goes_back {
            true => slot.rollback(),
            false => drop(slot.commit_undo()),
        }
    }
    let mut saved = Saved::default();
    saved.frozen(&mut slot, 1500);
    assert!(saved.all.is_empty(), "it takes several slices");
    // Overwritten it is put aside.
    slot.set_int(db, key, 7, Expiry::Clear, AT);
    while slot.first_frozen().is_some() {
        saved.frozen(&mut slot, 1500);
    }
    assert!(saved.all == expected && cut.captured_bytes() == 0);
}

/// To a slot of another home that is still to be walked, even if that has not heard of the cut yet; but not to one that has been walked.
#[test]
fn a_value_moves_to_another_home_while_that_is_not_done() {
    for is_walked in [false, true] {
        let cut = Arc::new(Cut::new(2, Arc::default()));
        let mut slots = [0, 1].map(|slot| Slot::sharing(slot, common(9, &cut)));
        let (db, seed) = (DbIndex(0), slots[0].common.seed);
        for slot in &mut slots {
            let made = slot.edit_or_create(db, b"set", AT, |set: &mut Set| {
                for number in 0..1500 {
                    set.add(format!("member {number}").as_bytes(), &Limits::default(), seed);
                }
                Edited::Changed(())
            });
            assert!(made.is_ok());
        }
        cut.open();
        let [from, to] = &mut slots;
        if is_walked {
            assert!(to.save_some(|_, _| unreachable!("it is frozen")));
        }
        let destination = to.as_destination();
        let taken = from.take_for(db, b"set", destination, None, AT).expect("it is there");
        to.put_taken(db, b"moved", taken, AT);
        assert_eq!(
            from.first_frozen().is_some(),
            is_walked,
            "what it was stays where a home waits for it"
        );
        let entry = to.peek(db, b"moved", AT.now).expect("it is there");
        assert_eq!(entry.is_frozen(Use::Snapshot), !is_walked);
    }
}
