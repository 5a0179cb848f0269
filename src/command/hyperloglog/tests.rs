//! What clients do not see of the HyperLogLog family: effects, hits and misses. Replies, errors and the bytes of values are in
//! `tests/transcripts/hyperloglog.txt`.

use crate::base::slot::key_slot;
use crate::command::bench::Bench;

#[test]
fn effects_are_those_that_redis_propagates() {
    let mut bench = Bench::new(1);
    let steps: &[(&str, &[&str])] = &[
        ("pfadd h", &["pfadd h"]),
        ("pfadd h", &[]),
        ("pfadd h a b c", &["pfadd h a b c"]),
        ("pfadd h a", &[]),
        ("pfcount h", &["pfcount h"]),
        ("pfcount h", &[]),
        ("pfadd h d", &["pfadd h d"]),
        ("pfcount h", &["pfcount h"]),
        ("pfcount h other", &[]),
        ("pfcount other", &[]),
        ("pfmerge m h", &["pfmerge m h"]),
        ("pfmerge m", &["pfmerge m"]),
        ("pfmerge n", &["pfmerge n"]),
        ("pfdebug getreg h", &["pfdebug getreg h"]),
        ("pfdebug getreg h", &[]),
        ("pfdebug todense h", &[]),
        ("pfdebug todense n", &["pfdebug todense n"]),
        ("pfadd h e", &["pfadd h e"]),
        ("pfadd h e", &[]),
    ];
    for (line, expected) in steps {
        bench.run(line);
        assert_eq!(bench.logged(0), *expected, "{line}");
    }
}

#[test]
fn pfmerge_over_two_shards_logs_its_result() {
    let mut bench = Bench::new(2);
    let home = |key: &str| bench.shards[0].borrow().core.owner(key_slot(key.as_bytes())).0 as usize;
    let here = (0..).map(|n| format!("k{n}")).find(|key| home(key) == 0).unwrap();
    let there = (0..).map(|n| format!("k{n}")).find(|key| home(key) == 1).unwrap();
    bench.run(&format!("pfadd {there} a b c"));
    bench.logged(1);
    assert_eq!(bench.run(&format!("pfmerge {here} {there}")), "+OK");
    let logged = bench.logged(0);
    assert_eq!(logged.len(), 1);
    assert!(logged[0].starts_with(&format!("SET {here} HYLL")) && logged[0].ends_with(" KEEPTTL"));
    assert_eq!(bench.run(&format!("pfcount {here}")), ":3");
    assert_eq!(bench.run(&format!("pfcount {here} {there}")), ":3");
}

#[test]
fn only_reads_count_hits_and_misses() {
    let mut bench = Bench::new(1);
    let steps = [
        ("pfadd a 1", (0, 0)),
        ("pfcount a", (1, 0)),
        ("pfcount b", (0, 1)),
        ("pfcount a b", (1, 1)),
        ("pfmerge c a b", (1, 2)),
        ("pfdebug encoding a", (0, 0)),
    ];
    let mut before = bench.hits_and_misses();
    for (line, (hits, misses)) in steps {
        bench.run(line);
        let after = bench.hits_and_misses();
        assert_eq!(after, (before.0 + hits, before.1 + misses), "{line}");
        before = after;
    }
}
