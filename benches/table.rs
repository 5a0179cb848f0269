//! The table as a server fills it: bytes for each key, and the time of one lookup and one insert, next to hashbrown.
//!
//! `cargo bench --bench table` (or with `--profile quick`); `-- <keys>` for another number of keys than 2 million. Keys of
//! 16 bytes and values of 64, over 16384 slots, jemalloc, one thread. Not a statistical benchmark: a table of figures.

use std::hint::black_box;
use std::time::Instant;

use hashbrown::HashMap;
use shardis::base::clock::UnixMs;
use shardis::base::random::Random;
use shardis::base::slot::key_slot;
use shardis::data::access::Moment;
use shardis::data::string::StringForm;
use shardis::store::{Access, DbIndex, Expiry, HashSeed, Slot};
use tikv_jemalloc_ctl::{epoch, stats};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const DB: DbIndex = DbIndex(0);
const SLOT_COUNT: u16 = 16384;
const VALUE: [u8; 64] = [b'v'; 64];

/// Bytes allocated and resident.
#[derive(Clone, Copy)]
struct Memory {
    allocated: usize,
    resident: usize,
}

impl Memory {
    fn now() -> Memory {
        epoch::advance().expect("jemalloc has statistics");
        Memory {
            allocated: stats::allocated::read().expect("jemalloc has statistics"),
            resident: stats::resident::read().expect("jemalloc has statistics"),
        }
    }

    fn since(self, before: Memory, count: usize) -> String {
        format!(
            "{:6.1} allocated, {:6.1} resident",
            self.allocated.saturating_sub(before.allocated) as f64 / count as f64,
            self.resident.saturating_sub(before.resident) as f64 / count as f64,
        )
    }
}

fn key(n: usize) -> [u8; 16] {
    let mut key = *b"key:000000000000";
    let mut rest = n;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

/// Nanoseconds for each of `count` runs of `work`, which gets a random number below `count`.
fn time(count: usize, mut work: impl FnMut(usize)) -> f64 {
    let mut random = Random::with_seed(7);
    let start = Instant::now();
    for _ in 0..count {
        work(random.below(count));
    }
    start.elapsed().as_nanos() as f64 / count as f64
}

#[allow(clippy::vec_box, reason = "as the server keeps them: a slot moves as a pointer")]
fn slots() -> Vec<Box<Slot>> {
    (0..SLOT_COUNT)
        .map(|index| Box::new(Slot::new(index, HashSeed([0x1234_5678, 0x9abc_def0]))))
        .collect()
}

fn main() {
    let count = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(2_000_000);
    let at = Moment::lru(UnixMs(1_700_000_000_000));
    println!(
        "{count} keys of 16 bytes with values of 64, {SLOT_COUNT} slots; Slot {} bytes",
        size_of::<Slot>()
    );

    let start = Memory::now();
    let mut slots = slots();
    let empty = Memory::now();
    println!("empty slots, bytes for each slot: {}", empty.since(start, slots.len()));
    let keys: Vec<usize> = {
        let mut keys: Vec<usize> = (0..count).collect();
        Random::with_seed(1).shuffle(&mut keys);
        keys
    };
    let before = Memory::now();
    let mut worst_ns = 0;
    let mut slow_count = 0;
    let begin = Instant::now();
    for n in &keys {
        let key = key(*n);
        let one = Instant::now();
        let slot = &mut slots[usize::from(key_slot(&key))];
        slot.set_string(DB, &key, &VALUE, StringForm::Detect, Expiry::Clear, at);
        let ns = one.elapsed().as_nanos();
        worst_ns = worst_ns.max(ns);
        slow_count += usize::from(ns > 100_000);
    }
    let insert_ns = begin.elapsed().as_nanos() as f64 / count as f64;
    println!(
        "bytes for each key: {} (without the slots themselves)",
        Memory::now().since(before, count)
    );
    let used: usize = slots.iter().map(|slot| slot.used_bytes()).sum();
    println!(
        "bytes for each key: {:6.1} by the store's own account",
        used as f64 / count as f64
    );
    println!("  of which table:   {:6.1}", used as f64 / count as f64 - 96.0);
    println!("insert, random order: {insert_ns:6.0} ns with its timing; worst {worst_ns} ns, {slow_count} over 100 us");
    let get_ns = time(count, |n| {
        let key = key(n);
        let slot = &mut slots[usize::from(key_slot(&key))];
        let entry = slot.get(DB, &key, at, Access::Read).expect("it was inserted");
        black_box(entry.value());
    });
    println!("get, random:          {get_ns:6.0} ns");
    let miss_ns = time(count, |n| {
        let key = key(n + count);
        black_box(
            slots[usize::from(key_slot(&key))]
                .get(DB, &key, at, Access::Read)
                .is_none(),
        );
    });
    println!("get, missing:         {miss_ns:6.0} ns");
    let set_ns = time(count, |n| {
        let key = key(n);
        let slot = &mut slots[usize::from(key_slot(&key))];
        slot.set_string(DB, &key, &VALUE, StringForm::Detect, Expiry::Clear, at);
    });
    println!("overwrite, random:    {set_ns:6.0} ns");
    let begin = Instant::now();
    for slot in &mut slots {
        black_box(slot.expire_step(UnixMs(at.now.0 + 1), 100));
    }
    println!(
        "expiry, nothing due:  {:6.0} ns for each slot",
        begin.elapsed().as_nanos() as f64 / slots.len() as f64
    );
    for n in &keys {
        let key = key(*n);
        slots[usize::from(key_slot(&key))].set_expiry(DB, &key, Some(UnixMs(at.now.0 + *n as u64)), at);
    }
    let begin = Instant::now();
    let mut examined = 0;
    for slot in &mut slots {
        examined += slot
            .expire_step(UnixMs(at.now.0 + count as u64 / 20), usize::MAX)
            .examined_count;
    }
    println!(
        "expiry, 1 of 20 due:  {:6.0} ns for each entry examined ({examined})",
        begin.elapsed().as_nanos() as f64 / examined.max(1) as f64
    );
    let begin = Instant::now();
    for n in &keys {
        let key = key(*n);
        black_box(slots[usize::from(key_slot(&key))].remove(DB, &key, at));
    }
    println!(
        "remove, random order: {:6.0} ns",
        begin.elapsed().as_nanos() as f64 / count as f64
    );
    drop(slots);

    // The same in one slot: two levels of nodes.
    let mut slot = Slot::new(0, HashSeed([0x1234_5678, 0x9abc_def0]));
    let mut worst_ns = 0;
    let begin = Instant::now();
    for n in &keys {
        let key = key(*n);
        let one = Instant::now();
        slot.set_string(DB, &key, &VALUE, StringForm::Detect, Expiry::Clear, at);
        worst_ns = worst_ns.max(one.elapsed().as_nanos());
    }
    let insert_ns = begin.elapsed().as_nanos() as f64 / count as f64;
    let get_ns = time(count, |n| {
        black_box(
            slot.get(DB, &key(n), at, Access::Read)
                .expect("it was inserted")
                .value(),
        );
    });
    println!(
        "all in one slot: insert {insert_ns:.0} ns, worst {worst_ns} ns, get {get_ns:.0} ns, table {:.1} bytes for each key",
        slot.used_bytes() as f64 / count as f64 - 96.0
    );
    drop(slot);

    type Map = HashMap<Box<[u8]>, Box<[u8]>>;
    let before = Memory::now();
    let mut maps: Vec<Map> = (0..SLOT_COUNT).map(|_| Map::new()).collect();
    let begin = Instant::now();
    for n in &keys {
        let key = key(*n);
        maps[usize::from(key_slot(&key))].insert(key.into(), VALUE.into());
    }
    let insert_ns = begin.elapsed().as_nanos() as f64 / count as f64;
    let memory = Memory::now().since(before, count);
    let get_ns = time(count, |n| {
        let key = key(n);
        let value = &maps[usize::from(key_slot(&key))][&key[..]];
        black_box(value.len() + usize::from(value[0]));
    });
    println!("hashbrown, a map for each slot: insert {insert_ns:.0} ns, get {get_ns:.0} ns; {memory}");
    drop(maps);

    let before = Memory::now();
    let mut map = Map::new();
    let mut worst_ns = 0;
    let begin = Instant::now();
    for n in &keys {
        let one = Instant::now();
        map.insert(key(*n).into(), VALUE.into());
        worst_ns = worst_ns.max(one.elapsed().as_nanos());
    }
    let insert_ns = begin.elapsed().as_nanos() as f64 / count as f64;
    let memory = Memory::now().since(before, count);
    let get_ns = time(count, |n| {
        let value = &map[&key(n)[..]];
        black_box(value.len() + usize::from(value[0]));
    });
    println!("hashbrown, one map: insert {insert_ns:.0} ns, worst {worst_ns} ns, get {get_ns:.0} ns; {memory}");
}
