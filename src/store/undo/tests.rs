//! Undos: whole dbs that come back, and large values that were frozen for them.

use super::*;
use crate::base::clock::UnixMs;
use crate::base::random::{Random, fewer_if_checked};
use crate::data::Limits;
use crate::data::ObjectRef;
use crate::data::access::Moment;
use crate::data::hash::{FieldExpiry, Hash};
use crate::data::list::{End, List};
use crate::data::set::Set;
use crate::data::sorted_set::{AddOptions, SortedSet};
use crate::data::string::StringForm;
use crate::store::object::Edited;
use crate::store::{Access, Expiry, HashSeed};

const AT: Moment = Moment::lru(UnixMs(100));

fn slot() -> Slot {
    let mut slot = Slot::new(0, HashSeed([1, 2]));
    for n in 0..500u32 {
        let expiry = if n % 3 == 0 {
            Expiry::At(UnixMs(1000 + u64::from(n)))
        } else {
            Expiry::Clear
        };
        slot.set_string(DbIndex(n % 3), &n.to_be_bytes(), b"v", StringForm::Detect, expiry, AT);
    }
    slot
}

fn picture(slot: &Slot) -> Vec<(DbIndex, String)> {
    let mut entries = Vec::new();
    for db in slot.dbs() {
        slot.for_each(db, UnixMs(0), |entry| entries.push((db, format!("{entry:?}"))));
    }
    entries.sort();
    entries
}

#[test]
fn a_cleared_and_exchanged_world_comes_back() {
    let mut slot = slot();
    let before = (picture(&slot), slot.expires(DbIndex(0)), slot.expiry_sum_ms(DbIndex(0)));
    slot.begin_undo();
    slot.set_int(DbIndex(0), b"new", 1, Expiry::Clear, AT);
    assert!(slot.remove(DbIndex(0), &0u32.to_be_bytes(), AT));
    slot.swap_dbs(DbIndex(0), DbIndex(1), AT);
    slot.append(DbIndex(1), &3u32.to_be_bytes(), b"tail", AT);
    assert!(
        slot.clear_db(DbIndex(1)).is_empty(),
        "what an undo needs is not given away"
    );
    slot.append(DbIndex(1), &3u32.to_be_bytes(), b"again", AT);
    slot.swap_dbs(DbIndex(1), DbIndex(9), AT);
    drop(slot.clear_all());
    slot.set_int(DbIndex(2), b"last", 1, Expiry::Clear, AT);
    slot.rollback();
    slot.check();
    assert_eq!(
        (picture(&slot), slot.expires(DbIndex(0)), slot.expiry_sum_ms(DbIndex(0))),
        before
    );
}

#[test]
fn what_a_commit_frees_is_handed_out() {
    let mut slot = slot();
    slot.begin_undo();
    drop(slot.clear_all());
    slot.set_int(DbIndex(0), b"new", 1, Expiry::Clear, AT);
    let mut detached = slot.commit_undo();
    assert!(!detached.is_empty());
    let mut steps = 0;
    while !detached.free_step(10) {
        steps += 1;
    }
    assert!(steps > 3, "the tables were there, page by page");
    assert_eq!(slot.key_count(), 1);
}

#[test]
fn an_expiry_within_an_undo_is_taken_back() {
    let mut slot = slot();
    let late = Moment::lru(UnixMs(10_000));
    assert!(slot.get(DbIndex(0), &0u32.to_be_bytes(), late, Access::Read).is_none());
    slot.begin_undo();
    assert!(slot.get(DbIndex(0), &3u32.to_be_bytes(), late, Access::Read).is_none());
    slot.rollback();
    assert_eq!(slot.take_told().len(), 1, "the one from before");
    assert!(slot.get(DbIndex(0), &3u32.to_be_bytes(), late, Access::Read).is_none());
    assert_eq!(slot.take_told().len(), 1, "noticed again");
}

const SEED: HashSeed = HashSeed([1, 2]);

/// Db, key, expiry, access clock and elements of an entry.
type Content = (DbIndex, Vec<u8>, Option<UnixMs>, u32, Vec<Vec<u8>>);

/// All that a slot holds, element by element.
fn content(slot: &Slot) -> Vec<Content> {
    let mut entries = Vec::new();
    for db in slot.dbs() {
        slot.for_each(db, UnixMs(0), |entry| {
            let mut elements = Vec::new();
            match entry.object() {
                Some(ObjectRef::Set(set)) => set.for_each(|member| elements.push(member.to_vec())),
                Some(ObjectRef::Hash(hash)) => hash.for_each_with_expiry(|field, value, expiry| {
                    elements.push(format!("{:?}{:?}{expiry:?}", field.to_vec(), value.to_vec()).into_bytes());
                }),
                Some(ObjectRef::SortedSet(set)) => elements.extend(
                    set.iter()
                        .map(|element| format!("{} {:?}", element.score, element.member.to_vec()).into_bytes()),
                ),
                Some(ObjectRef::List(list)) => {
                    let mut place = 0;
                    list.for_each(|item| {
                        place += 1;
                        elements.push([format!("{place:06} ").as_bytes(), &item.to_vec()].concat());
                    });
                }
                _ => elements.push(entry.value().as_bytes(&mut itoa::Buffer::new()).to_vec()),
            }
            elements.sort();
            entries.push((db, entry.key().to_vec(), entry.expiry(), entry.access_clock(), elements));
        });
    }
    entries.sort();
    entries
}

fn limits() -> Limits {
    Limits {
        list_max_listpack_size: 4,
        hash_max_listpack_entries: 10,
        set_max_intset_entries: 10,
        set_max_listpack_entries: 10,
        zset_max_listpack_entries: 10,
        ..Limits::default()
    }
}

const KEYS: [&[u8]; 6] = [b"set", b"hash", b"zset", b"list", b"string", b"other set"];

/// Changes a value in its place, whatever type it is; makes one if there is none.
fn change(slot: &mut Slot, db: DbIndex, key: &[u8], random: &mut Random, count: usize) {
    let (limits, at) = (limits(), AT);
    let mut text = || format!("{:0width$}", random.below(300), width = 3).into_bytes();
    let texts: Vec<Vec<u8>> = (0..count).map(|_| text()).collect();
    let removes = random.below(3) == 0;
    // Under a name that a RENAME has given to another type nothing happens.
    let _ = match key {
        b"hash" => slot.edit_or_create(db, key, at, |hash: &mut Hash| {
            for text in &texts {
                if removes {
                    hash.remove(text, UnixMs(0), SEED);
                } else {
                    hash.set(text, b"value", FieldExpiry::Clear, UnixMs(0), &limits, SEED);
                    let expiry = random.below(2).checked_sub(1).map(|_| UnixMs(5000));
                    hash.set_expiry(text, expiry, UnixMs(0), SEED);
                }
            }
            Edited::Changed(())
        }),
        b"zset" => slot.edit_or_create(db, key, at, |set: &mut SortedSet| {
            for text in &texts {
                if removes {
                    set.remove(SEED, text);
                } else {
                    let score = random.below(50) as f64;
                    set.add(SEED, text, score, AddOptions::default(), &limits);
                }
            }
            Edited::Changed(())
        }),
        b"list" => slot.edit_or_create(db, key, at, |list: &mut List| {
            let end = if random.below(2) == 0 { End::Front } else { End::Back };
            for text in &texts {
                if removes {
                    list.pop(end, &limits, |_| ());
                } else {
                    list.push(end, text, &limits);
                }
            }
            Edited::Changed(())
        }),
        b"string" => {
            // The caller looks at the type, and at expiry.
            let entry = slot.get(db, key, at, Access::Peek);
            if entry.is_none_or(|entry| entry.object().is_none()) {
                // Many make it so long that it is frozen.
                let offset = [random.below(1000) * 250, 300_000][usize::from(count > 200)];
                match removes {
                    true => drop(slot.append(db, key, b"tail", at)),
                    false => drop(slot.set_range(db, key, offset, &texts.concat(), at)),
                }
            }
            Ok(())
        }
        _ => slot.edit_or_create(db, key, at, |set: &mut Set| {
            for text in &texts {
                if removes {
                    set.remove(text, SEED);
                } else {
                    set.add(text, &limits, SEED);
                }
            }
            Edited::Changed(())
        }),
    };
}

/// One step of a unit of work.
fn step(slot: &mut Slot, random: &mut Random) {
    let db = |random: &mut Random| DbIndex(random.below(3) as u32);
    let (one, two) = (db(random), db(random));
    let key = KEYS[random.below(KEYS.len())];
    match random.below(24) {
        0 => {
            slot.remove(one, key, AT);
        }
        1 => slot.set_string(one, key, b"overwritten", StringForm::Detect, Expiry::Keep, AT),
        2 | 3 => {
            // Under another name of its type's, as RENAME and MOVE may have it too, or of another.
            let to = if key == b"set" {
                b"other set"
            } else {
                KEYS[random.below(KEYS.len())]
            };
            let here = slot.as_destination();
            if random.below(4) == 0 {
                if let Some(entry) = slot.take(one, key, AT) {
                    slot.put(two, to, entry, AT);
                }
            } else if let Some(taken) = slot.take_for(one, key, here, None, AT) {
                slot.put_taken(two, to, taken, AT);
            }
        }
        4 if one != two => slot.swap_dbs(one, two, AT),
        5 if random.below(4) == 0 => drop(slot.clear_db(one)),
        6 => {
            let expiry = (random.below(2) == 0).then_some(UnixMs(200));
            slot.set_expiry(one, key, expiry, AT);
        }
        7 => {
            let late = Moment::lru(UnixMs(300));
            slot.get(one, key, late, Access::Peek);
        }
        8 => {
            let sets: Vec<u8> = (0..=255).collect();
            slot.put(
                one,
                b"other set",
                OwnedEntry::string(b"", &sets, StringForm::Raw, None, 1),
                AT,
            );
        }
        9 => {
            // To its last element.
            let _ = slot.edit(one, key, AT, |set: &mut Set| {
                set.pop(set.len(), random, SEED, |_| ());
                Edited::Changed(())
            });
        }
        10 => {
            let late = UnixMs(6000);
            let mut found = None;
            slot.edit_object(one, key, AT, |object| {
                found = Some(object.expire_fields(late, 50, SEED).len());
                Edited::when(found > Some(0), ())
            });
        }
        _ => {
            let count = 1 + random.below(60);
            change(slot, one, key, random, count);
        }
    }
}

#[test]
fn large_values_come_back_whatever_became_of_them() {
    for seed in 0..fewer_if_checked(60) {
        let mut random = Random::with_seed(seed);
        let mut slot = Slot::new(0, SEED);
        for db in 0..2 {
            for key in KEYS {
                change(&mut slot, DbIndex(db), key, &mut random, 400);
            }
        }
        for round in 0..12 {
            let before = content(&slot);
            slot.begin_undo();
            for _ in 0..1 + random.below(30) {
                step(&mut slot, &mut random);
            }
            slot.check();
            let is_rolled_back = random.below(3) > 0;
            if is_rolled_back {
                slot.rollback();
                assert!(content(&slot) == before, "seed {seed}, round {round}");
            } else {
                let after = content(&slot);
                let mut detached = slot.commit_undo();
                while !detached.free_step(20) {}
                assert!(content(&slot) == after, "seed {seed}, round {round}");
            }
            slot.check();
            for db in slot.dbs() {
                slot.for_each(db, UnixMs(0), |entry| assert!(!entry.is_frozen(Use::Undo)));
            }
            slot.take_told();
            drop(slot.take_discarded());
            for _ in 0..5 {
                step(&mut slot, &mut random);
            }
            slot.take_told();
            drop(slot.take_discarded());
        }
    }
}

/// Large values move between the slots of a unit of work, over others and back, and change where they come to; taken back, each is where
/// it was and what it was, and none has been copied.
#[test]
fn large_values_come_back_from_other_slots() {
    let seeds = fewer_if_checked(60);
    let (mut rolled_back, mut moved_count) = (0, 0);
    for seed in 0..seeds {
        let mut random = Random::with_seed(seed);
        let mut slots = [0, 1, 2].map(|index| Slot::new(index, SEED));
        for slot in &mut slots {
            for key in KEYS {
                change(slot, DbIndex(0), key, &mut random, 400);
            }
        }
        for round in 0..12 {
            let before = slots.each_ref().map(content);
            let addresses = slots.each_ref().map(addresses);
            slots.iter_mut().for_each(Slot::begin_undo);
            for _ in 0..1 + random.below(30) {
                let (from, to) = (random.below(3), random.below(3));
                if random.below(3) > 0 {
                    step(&mut slots[from], &mut random);
                    continue;
                }
                let (one, two) = (DbIndex(random.below(3) as u32), DbIndex(random.below(3) as u32));
                let (key, other) = (KEYS[random.below(KEYS.len())], KEYS[random.below(KEYS.len())]);
                let there = slots[to].as_destination();
                if let Some(taken) = slots[from].take_for(one, key, there, None, AT) {
                    slots[to].put_taken(two, other, taken, AT);
                    moved_count += 1;
                }
            }
            if random.below(3) > 0 {
                let mut moved = MovedBack::default();
                slots.iter_mut().for_each(|slot| slot.roll_back_into(&mut moved));
                slots.iter_mut().for_each(|slot| slot.fill_from(&mut moved));
                let mut detached = moved.into_detached();
                while !detached.free_step(20) {}
                assert!(slots.each_ref().map(content) == before, "seed {seed}, round {round}");
                for (slot, before) in slots.iter().zip(addresses) {
                    assert_eq!(
                        self::addresses(slot),
                        before,
                        "seed {seed}, round {round}: it has been copied"
                    );
                }
                rolled_back += 1;
            } else {
                let after = slots.each_ref().map(content);
                slots.iter_mut().for_each(|slot| {
                    let mut detached = slot.commit_undo();
                    while !detached.free_step(20) {}
                });
                assert!(slots.each_ref().map(content) == after, "seed {seed}, round {round}");
            }
            for slot in &mut slots {
                slot.check();
                for db in slot.dbs() {
                    slot.for_each(db, UnixMs(0), |entry| assert!(!entry.is_frozen(Use::Undo)));
                }
                slot.take_told();
                drop(slot.take_discarded());
            }
        }
    }
    assert!(
        rolled_back > seeds && moved_count > 5 * seeds,
        "{rolled_back}, {moved_count}"
    );
}

/// Where the large values of a slot lie.
fn addresses(slot: &Slot) -> Vec<(DbIndex, Vec<u8>, usize)> {
    let mut all = Vec::new();
    for db in slot.dbs() {
        slot.for_each(db, UnixMs(0), |entry| {
            if entry.freezes() && entry.object().is_some() {
                all.push((db, entry.key().to_vec(), entry.value_address()));
            }
        });
    }
    all.sort();
    all
}

/// Renamed within an undo, a large value is the same one, there and back.
#[test]
fn a_large_value_moves_without_being_copied() {
    for (is_other_slot, is_taken_back) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut slots = [0, 1].map(|index| Slot::new(index, SEED));
        let (db, to) = (DbIndex(0), usize::from(is_other_slot));
        change(&mut slots[0], db, b"set", &mut Random::with_seed(1), 5000);
        let address = addresses(&slots[0])[0].2;
        slots.iter_mut().for_each(Slot::begin_undo);
        let there = slots[to].as_destination();
        let taken = slots[0].take_for(db, b"set", there, None, AT).expect("it is there");
        slots[to].put_taken(db, b"other set", taken, AT);
        assert_eq!(addresses(&slots[to]), [(db, b"other set".to_vec(), address)]);
        let kept = |slot: &Slot, key: &[u8]| slot.peek(db, key, AT.now).unwrap().object().unwrap().kept_bytes();
        change(&mut slots[to], db, b"other set", &mut Random::with_seed(2), 1);
        assert!(
            kept(&slots[to], b"other set") < 200,
            "what has changed, and nothing else"
        );
        let key = if is_taken_back {
            let mut moved = MovedBack::default();
            slots.iter_mut().for_each(|slot| slot.roll_back_into(&mut moved));
            slots.iter_mut().for_each(|slot| slot.fill_from(&mut moved));
            assert!(moved.into_detached().is_empty());
            &b"set"[..]
        } else {
            slots.iter_mut().for_each(|slot| drop(slot.commit_undo()));
            &b"other set"[..]
        };
        let at = if is_taken_back { 0 } else { to };
        assert_eq!(addresses(&slots[at]), [(db, key.to_vec(), address)]);
        assert_eq!(kept(&slots[at], key), 0);
        assert!(!slots[at].peek(db, key, AT.now).unwrap().is_frozen(Use::Undo));
    }
}

/// Keeping a large value costs nothing of its size: what it takes is the same while nothing has changed, and little more then.
#[test]
fn a_large_value_stays_where_it_is() {
    let mut slot = Slot::new(0, SEED);
    change(&mut slot, DbIndex(0), b"set", &mut Random::with_seed(1), 5000);
    let kept = |slot: &Slot| {
        let entry = slot.peek(DbIndex(0), b"set", UnixMs(0)).unwrap();
        (entry.is_frozen(Use::Undo), entry.object().unwrap().kept_bytes())
    };
    slot.begin_undo();
    assert_eq!(kept(&slot), (false, 0), "before it changes");
    let added = slot.edit(DbIndex(0), b"set", AT, |set: &mut Set| {
        set.add(b"one", &limits(), SEED);
        Edited::Changed(())
    });
    assert_eq!(added, Ok(Some(())));
    let (is_frozen, bytes) = kept(&slot);
    assert!(is_frozen && bytes < 100, "{bytes}");
    slot.rollback();
    assert_eq!(kept(&slot), (false, 0));
    let set = slot.peek(DbIndex(0), b"set", UnixMs(0)).unwrap();
    assert_eq!(
        set.object()
            .map(|object| object.len() > 200 && object.kept_bytes() == 0),
        Some(true)
    );
}

/// A list of few nodes with many bytes is frozen, and does not take long to free: what overwrites it must take it out all the same.
#[test]
fn a_long_list_of_few_nodes_comes_back_when_it_was_overwritten() {
    let mut slot = Slot::new(0, SEED);
    let db = DbIndex(0);
    let pushed = slot.edit_or_create(db, b"list", AT, |list: &mut List| {
        (0..20).for_each(|_| list.push(End::Back, &[b'x'; 8000], &Limits::default()));
        Edited::Changed(())
    });
    assert!(pushed.is_ok());
    let object = slot.peek(db, b"list", AT.now).unwrap().object().unwrap();
    assert!(object.freezes() && !object.is_heavy());
    let before = picture(&slot);
    for put in [false, true] {
        slot.begin_undo();
        match put {
            false => slot.set_int(db, b"list", 1, Expiry::Clear, AT),
            true => slot.put(db, b"list", OwnedEntry::int(b"other", 1, None, 0), AT),
        }
        slot.rollback();
        slot.check();
        assert_eq!(picture(&slot), before);
    }
}

/// A value that was frozen, and is too small for that by now, is written over: what it was comes back all the same.
#[test]
fn a_value_that_was_shrunk_and_overwritten_comes_back() {
    let mut slot = Slot::new(0, SEED);
    let (db, seed) = (DbIndex(0), SEED);
    let member = |number: usize| format!("member {number}").into_bytes();
    let made = slot.edit_or_create(db, b"set", AT, |set: &mut Set| {
        for number in 0..1500 {
            set.add(&member(number), &Limits::default(), seed);
        }
        Edited::Changed(())
    });
    assert!(made.is_ok());
    let before = content(&slot);
    slot.begin_undo();
    let shrunk = slot.edit(db, b"set", AT, |set: &mut Set| {
        for number in 5..1500 {
            set.remove(&member(number), seed);
        }
        Edited::Changed(())
    });
    assert_eq!(shrunk, Ok(Some(())));
    slot.set_string(db, b"set", b"text", StringForm::Raw, Expiry::Clear, AT);
    slot.rollback();
    assert!(content(&slot) == before);
    slot.check();
}
