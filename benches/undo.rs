//! What a rollback costs that takes back the addition of a few elements: to values of a thousand elements and of a million. And what a
//! copy of the latter takes: at once, and in slices.
//!
//! `cargo bench --bench undo` (or with `--profile quick`). Each round opens an undo, adds ten elements to a value, and rolls back, as an
//! EXEC does that has to run again. Medians of many rounds, one thread, jemalloc. Not a statistical benchmark: a table of figures.

use std::time::Instant;

use shardis::base::clock::UnixMs;
use shardis::data::Limits;
use shardis::data::access::Moment;
use shardis::data::copying::Copying;
use shardis::data::hash::{FieldExpiry, Hash};
use shardis::data::list::{End, List};
use shardis::data::set::Set;
use shardis::data::sorted_set::{AddOptions, SortedSet};
use shardis::store::{DbIndex, Edited, HashSeed, Slot};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const DB: DbIndex = DbIndex(0);
const AT: Moment = Moment::lru(UnixMs(1));
const SEED: HashSeed = HashSeed([1, 2]);
const KEY: &[u8] = b"key";
const ADDED: usize = 10;
const ROUNDS: usize = 200;

/// Adds the elements with these numbers to a value.
type Add = fn(&mut Slot, std::ops::Range<usize>);

fn text(n: usize) -> Vec<u8> {
    format!("element:{n:08}").into_bytes()
}

fn add_to_set(slot: &mut Slot, numbers: std::ops::Range<usize>) {
    let done = slot.edit_or_create(DB, KEY, AT, |set: &mut Set| {
        for n in numbers {
            set.add(&text(n), &Limits::default(), SEED);
        }
        Edited::Changed(())
    });
    assert!(done.is_ok());
}

fn add_to_hash(slot: &mut Slot, numbers: std::ops::Range<usize>) {
    let done = slot.edit_or_create(DB, KEY, AT, |hash: &mut Hash| {
        for n in numbers {
            hash.set(&text(n), b"value", FieldExpiry::Clear, AT.now, &Limits::default(), SEED);
        }
        Edited::Changed(())
    });
    assert!(done.is_ok());
}

fn add_to_sorted_set(slot: &mut Slot, numbers: std::ops::Range<usize>) {
    let done = slot.edit_or_create(DB, KEY, AT, |set: &mut SortedSet| {
        for n in numbers {
            let score = (n * 7919 % 100_003) as f64;
            set.add(SEED, &text(n), score, AddOptions::default(), &Limits::default());
        }
        Edited::Changed(())
    });
    assert!(done.is_ok());
}

fn push_to_list(slot: &mut Slot, numbers: std::ops::Range<usize>) {
    let done = slot.edit_or_create(DB, KEY, AT, |list: &mut List| {
        for n in numbers {
            list.push(End::Back, &text(n), &Limits::default());
        }
        Edited::Changed(())
    });
    assert!(done.is_ok());
}

/// Median microseconds of a round.
fn measure(add: Add, len: usize) -> f64 {
    let mut slot = Slot::new(0, SEED);
    add(&mut slot, 0..len);
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|round| {
            let start = Instant::now();
            slot.begin_undo();
            let first = len + round * ADDED;
            add(&mut slot, first..first + ADDED);
            slot.rollback();
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    let entry = slot.peek(DB, KEY, AT.now).expect("it was made above");
    assert_eq!(entry.object().map(|object| object.len()), Some(len));
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

/// Milliseconds of a copy that is made at once, of one in slices, and microseconds of the longest slice of that.
fn measure_copy(add: Add, len: usize) -> (f64, f64, f64) {
    let mut slot = Slot::new(0, SEED);
    add(&mut slot, 0..len);
    let start = Instant::now();
    let copy = slot.peek(DB, KEY, AT.now).map(|entry| entry.to_owned());
    let at_once_ms = start.elapsed().as_secs_f64() * 1e3;
    drop(std::hint::black_box(copy));
    let start = Instant::now();
    let mut longest_us: f64 = 0.0;
    let mut copying = None;
    loop {
        let slice = Instant::now();
        let is_whole = slot.lend_object(DB, KEY, |object, seed| {
            let copying = copying.get_or_insert_with(|| Copying::begin(object, &Limits::default()));
            copying.step(object, seed, 128)
        });
        longest_us = longest_us.max(slice.elapsed().as_secs_f64() * 1e6);
        if is_whole.expect("it was made above") {
            break;
        }
    }
    (at_once_ms, start.elapsed().as_secs_f64() * 1e3, longest_us)
}

fn main() {
    let kinds: [(&str, Add); 4] = [
        ("set", add_to_set),
        ("hash", add_to_hash),
        ("sorted set", add_to_sorted_set),
        ("list", push_to_list),
    ];
    println!("median µs of {ROUNDS} rollbacks of {ADDED} added elements");
    println!("{:12} {:>12} {:>12}", "", "of 1,000", "of 1,000,000");
    for (name, add) in kinds {
        println!("{name:12} {:12.1} {:12.1}", measure(add, 1000), measure(add, 1_000_000));
    }
    println!("copies of 1,000,000 elements");
    println!(
        "{:12} {:>12} {:>12} {:>16}",
        "", "at once, ms", "slices, ms", "longest one, µs"
    );
    for (name, add) in kinds {
        let (at_once_ms, slices_ms, longest_us) = measure_copy(add, 1_000_000);
        println!("{name:12} {at_once_ms:12.1} {slices_ms:12.1} {longest_us:16.1}");
    }
}
