//! The whole engine in one thread, under programs of real commands, from seeds.
//!
//! | variable | says |
//! |---|---|
//! | `SHARDIS_TESTBED_SEED=n` | run this seed alone, and tell its story if it fails |
//! | `SHARDIS_TESTBED_SECONDS=n` | go on for so long (10) |
//! | `SHARDIS_TESTBED_SEEDS=n` | or until so many seeds have been run |
//! | `SHARDIS_TESTBED_BASE=n` | where the seeds begin |
//! | `SHARDIS_TESTBED_WITHOUT=a,b` | leave these features, and these checks, out |
//! | `SHARDIS_TESTBED_SHRINK_SECONDS=n` | look for so long for a smaller story that fails in the same way (20) |
//! | `SHARDIS_TESTBED_ALL=1` | do not end at the first failure; at the end, how often each kind came up |
//!
//! `seeds.txt` has the seeds that ever failed; they are run first.

mod workload;

use shardis::command::FAMILIES;
use shardis::durability::start::Simulated;
use shardis::engine::Registry;
use shardis::engine::testbed::{FAULTS, Failure, Fault, Testbed, note_panic};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, Once};
use std::time::{Duration, Instant};

/// The allocator of the server: eviction and the account of memory go by its counters.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const THREADS: u64 = 2;
const SHRINK_SECONDS: u64 = 20;

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| Registry::new(FAMILIES, &[]).expect("nothing is renamed"));

fn testbed() -> Testbed<'static> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !note_panic(info) {
                usual(info);
            }
        }));
    });
    let without = std::env::var("SHARDIS_TESTBED_WITHOUT").unwrap_or_default();
    Testbed {
        registry: &REGISTRY,
        workload: &workload::Commands,
        recovery: &Simulated,
        without: without.split(',').map(str::to_owned).collect(),
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn shrinking() -> Duration {
    Duration::from_secs(number("SHARDIS_TESTBED_SHRINK_SECONDS").unwrap_or(SHRINK_SECONDS))
}

/// The seeds that once failed, in `seeds.txt`: each line a seed and what it found.
fn kept_seeds() -> Vec<u64> {
    let lines = include_str!("seeds.txt").lines();
    let words = lines.filter_map(|line| line.split_whitespace().next());
    words
        .filter(|word| !word.starts_with('#'))
        .map(|word| word.parse().expect("a line begins with a seed"))
        .collect()
}

#[test]
fn every_course_of_events_is_right() {
    let bed = testbed();
    if let Some(seed) = number("SHARDIS_TESTBED_SEED") {
        if bed.run(seed, Fault::None).is_err() {
            panic!("{}", bed.explain(seed, Fault::None, shrinking()));
        }
        return;
    }
    let shows_all = number("SHARDIS_TESTBED_ALL").is_some();
    let base = number("SHARDIS_TESTBED_BASE").unwrap_or(0).wrapping_mul(1 << 32);
    let seconds = number("SHARDIS_TESTBED_SECONDS");
    let seeds = number("SHARDIS_TESTBED_SEEDS");
    let time = match (seconds, seeds) {
        (Some(seconds), _) => Duration::from_secs(seconds),
        (None, Some(_)) => Duration::MAX,
        (None, None) => Duration::from_secs(10),
    };
    let (began, kept) = (Instant::now(), kept_seeds());
    let (next, is_over, events) = (AtomicU64::new(0), AtomicBool::new(false), AtomicU64::new(0));
    let failures: Mutex<Vec<(u64, Failure)>> = Mutex::default();
    let work = || {
        let bed = testbed();
        while !is_over.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let seed = match kept.get(number as usize) {
                Some(seed) => *seed,
                None => base.wrapping_add(number - kept.len() as u64),
            };
            let is_kept = (number as usize) < kept.len();
            if !is_kept && (began.elapsed() >= time || seeds.is_some_and(|seeds| number >= seeds)) {
                return;
            }
            match bed.run(seed, Fault::None) {
                Ok(course) => {
                    events.fetch_add(course.events, Ordering::Relaxed);
                }
                Err(failure) => {
                    is_over.store(!shows_all, Ordering::Relaxed);
                    failures.lock().unwrap().push((seed, failure));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(work);
        }
    });
    let runs = next.load(Ordering::Relaxed).saturating_sub(THREADS);
    println!(
        "{runs} runs in {:.1} s, {} units and replies",
        began.elapsed().as_secs_f64(),
        events.load(Ordering::Relaxed)
    );
    let mut failures = failures.into_inner().unwrap();
    failures.sort_by_key(|(seed, _)| *seed);
    if shows_all {
        let mut kinds: BTreeMap<&str, Vec<&(u64, Failure)>> = BTreeMap::new();
        for failure in &failures {
            kinds.entry(failure.1.kind).or_default().push(failure);
        }
        for (kind, all) in &kinds {
            println!("{kind}: {} times", all.len());
            for (seed, failure) in all.iter().take(6) {
                println!("  SHARDIS_TESTBED_SEED={seed}  {}", failure.text);
            }
        }
        assert!(failures.is_empty(), "{} runs have failed", failures.len());
    }
    if let Some((seed, _)) = failures.first() {
        panic!(
            "{}SHARDIS_TESTBED_SEED={seed} cargo test --test testbed every_course\n{}",
            match bed.without.as_slice() {
                [none] if none.is_empty() => String::new(),
                without => format!("SHARDIS_TESTBED_WITHOUT={} ", without.join(",")),
            },
            bed.explain(*seed, Fault::None, shrinking())
        );
    }
}

/// A seed is worth something only if it does the same again.
#[test]
fn a_seed_goes_the_same_way_again() {
    let bed = testbed();
    for seed in 0..40 {
        let first = bed.run(seed, Fault::None).map_err(|failure| failure.text);
        let second = bed.run(seed, Fault::None).map_err(|failure| failure.text);
        assert_eq!(first, second, "seed {seed}");
    }
}

/// The checks are checked.
#[test]
fn every_fault_is_found() {
    const SEEDS: u64 = 600;
    let bed = testbed();
    for fault in FAULTS {
        // Not one that fails by itself.
        let is_found = |seed: &u64| bed.run(*seed, fault).is_err() && bed.run(*seed, Fault::None).is_ok();
        let found = (0..SEEDS).find(is_found);
        let seed = found.unwrap_or_else(|| panic!("{fault:?} was not found in {SEEDS} runs"));
        let failure = bed.run(seed, fault).expect_err("it has just failed");
        println!("{fault:?}: seed {seed}: {}: {}", failure.kind, failure.text);
    }
}
