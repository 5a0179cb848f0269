//! What a turn costs: everything that a pass does for its place in the order of all, without what it logs. A process of four shards; one
//! of them alone, and with others that take turns all the time (on a machine with fewer cores, whoever waits lends its core).
//!
//! The budget is 0.3 µs for a pass. (Where nobody wants turns a pass looks at two words, which `dispatch` has among its instructions.)

use criterion::{Criterion, criterion_group, criterion_main};
use shardis::shard::ShardId;
use shardis::shard::turns::{Share, StreamShare, Turns};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const SHARDS: u16 = 4;

fn effects() -> Share {
    Share {
        has_number: true,
        stream: Some(StreamShare {
            bytes: 40,
            first_db: 0,
            select_bytes: 23,
            last_db: 0,
        }),
    }
}

/// A pass with effects.
fn pass(turns: &Turns, shard: ShardId) {
    let turn = turns.take(shard, effects());
    turns.written(shard);
    while !turns.are_written(turn.earlier_numbers) {
        thread::yield_now();
    }
    turns.released(shard);
}

fn turns(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("turns");
    let turns = Arc::new(Turns::new(usize::from(SHARDS)));
    group.bench_function("alone", |bencher| {
        bencher.iter(|| pass(black_box(&turns), ShardId(0)));
    });
    for others in [1, SHARDS - 1] {
        let is_over = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (1..=others)
            .map(|shard| {
                let (turns, is_over) = (turns.clone(), is_over.clone());
                thread::spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        pass(&turns, ShardId(shard));
                        // Some other work of a pass.
                        (0..200).for_each(|_| std::hint::spin_loop());
                    }
                })
            })
            .collect();
        group.bench_function(format!("with_{others}_others"), |bencher| {
            bencher.iter(|| pass(&turns, ShardId(0)));
        });
        is_over.store(true, Ordering::Relaxed);
        threads
            .into_iter()
            .for_each(|thread| thread.join().expect("it takes turns"));
    }
    group.bench_function("what_is_stable", |bencher| {
        bencher.iter(|| black_box(&turns).stable());
    });
    group.finish();
}

criterion_group!(benches, turns);
criterion_main!(benches);
