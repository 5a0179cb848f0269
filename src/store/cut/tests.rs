//! The cut of a slot against pictures of it.

use super::*;
use crate::base::clock::UnixMs;
use crate::base::random::{Random, fewer_if_checked};
use crate::data::Limits;
use crate::data::access::Moment;
use crate::data::frozen::{Head, Part, Sink};
use crate::data::list::{End, List};
use crate::data::set::Set;
use crate::data::string::StringForm;
use crate::store::{Access, Edited, Expiry, HashSeed, SlotCommon};
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
        crate::store::ValueRef::Object(_) => {
            let mut copy = entry.to_owned();
            let mut parts = Parts::default();
            copy.edit_object(|object| {
                if object.as_ref().freezes() {
                    object.freeze(Use::Snapshot);
                }
                assert!(object.read_slice(Use::Snapshot, HashSeed([0, 0]), usize::MAX, &mut parts));
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
}

impl Parts {
    fn text(mut self) -> String {
        if !self.is_list {
            self.all.sort();
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

fn change(slot: &mut Slot, random: &mut Random) {
    let db = DbIndex(random.below(3) as u32);
    let key = random.below(300).to_string().into_bytes();
    match random.below(40) {
        0 => drop(slot.clear_db(db)),
        1 => slot.swap_dbs(db, DbIndex(random.below(4) as u32), AT),
        2..10 => drop(slot.remove(db, &key, AT)),
        10..14 => {
            if let Some(entry) = slot.take(db, &key, AT) {
                slot.put(
                    DbIndex(random.below(3) as u32),
                    &random.below(300).to_string().into_bytes(),
                    entry,
                    AT,
                );
            }
        }
        14..18 => drop(slot.set_expiry(db, &key, Some(UnixMs(50 + random.below(9) as u64)), AT)),
        18..24 => drop(slot.append(db, &key, b"+", AT)),
        24..27 => drop(slot.get(db, &key, AT, Access::Read)),
        27..32 => change_large(slot, db, random),
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

/// Changes a value that may be large: `large` elements make it so at once.
fn change_large(slot: &mut Slot, db: DbIndex, random: &mut Random) {
    let key = format!("large:{}", random.below(4)).into_bytes();
    let count = [1, 3, 100, 1500][random.below(4)];
    let limits = Limits::default();
    let seed = slot.common.seed;
    let first = random.below(3000);
    let removes = random.chance(1, 3);
    let member = |number: usize| format!("member {}", (first + number) % 3000).into_bytes();
    let edited = slot.edit_or_create(db, &key, AT, |set: &mut Set| {
        for number in 0..count {
            match removes {
                true => drop(set.remove(&member(number), seed)),
                false => drop(set.add(&member(number), &limits, seed)),
            }
        }
        Edited::Changed(())
    });
    assert!(edited.is_ok());
    let edited = slot.edit_or_create(db, &[&key[..], b"list"].concat(), AT, |list: &mut List| {
        for number in 0..count {
            match removes {
                true => drop(list.pop(End::Front, &limits, |_| ())),
                false => list.push(End::Back, &member(number), &limits),
            }
        }
        Edited::Changed(())
    });
    assert!(edited.is_ok());
}

/// A slot that is the only one, and its cut.
fn slot_of(seed: u64) -> (Slot, Arc<Cut>) {
    let cut = Arc::new(Cut::new(1, Arc::default()));
    let common = SlotCommon {
        seed: HashSeed([seed, 7]),
        occupancy: None,
        attention: Arc::default(),
        cut: cut.clone(),
    };
    (Slot::sharing(0, Arc::new(common)), cut)
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
                    left = left.saturating_sub(1);
                    if left == 0 {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
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
