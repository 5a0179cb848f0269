//! What clients do not see of the bitmap family: effects, hits and misses, keyspace changes that are none. Replies and errors
//! are in `tests/transcripts/bitmap.txt`.

use crate::base::slot::key_slot;
use crate::command::bench::Bench;

#[test]
fn effects_are_those_that_redis_propagates() {
    let mut bench = Bench::new(1);
    let steps: &[(&str, &[&str])] = &[
        ("setbit b 7 1", &["setbit b 7 1"]),
        ("setbit b 7 1", &[]),
        ("setbit b 100 0", &["setbit b 100 0"]),
        ("setbit b 100 0", &[]),
        ("setbit zeros 0 0", &["setbit zeros 0 0"]),
        ("set n 1234", &["set n 1234"]),
        ("setbit n 0 0", &[]),
        ("object encoding n", &[]),
        ("bitfield x get u8 0", &[]),
        ("bitfield x set u8 0 1", &["bitfield x set u8 0 1"]),
        ("bitfield x set u8 0 1", &[]),
        ("bitfield x overflow fail incrby u8 0 300", &[]),
        (
            "bitfield x get u8 0 incrby u8 0 1",
            &["bitfield x get u8 0 incrby u8 0 1"],
        ),
        ("bitfield_ro x get u8 0", &[]),
        ("bitop and d b none", &["bitop and d b none"]),
        ("bitop and d none none", &["bitop and d none none"]),
        ("bitop and d none none", &[]),
        ("bitcount b", &[]),
        ("bitpos b 1", &[]),
        ("getbit b 1", &[]),
    ];
    for (line, expected) in steps {
        bench.run(line);
        assert_eq!(bench.logged(0), *expected, "{line}");
    }
    assert_eq!(bench.run("object encoding n"), "$3|raw");
    // Redis makes the string longer and does not say so; a replica of ours shall have it too.
    bench.run("bitfield long overflow fail incrby u2 100 9");
    assert_eq!(bench.logged(0).len(), 1);
}

#[test]
fn bitop_over_two_shards_logs_its_result() {
    let mut bench = Bench::new(2);
    let home = |key: &str| bench.shards[0].borrow().core.owner(key_slot(key.as_bytes())).0 as usize;
    let here = (0..).map(|n| format!("k{n}")).find(|key| home(key) == 0).unwrap();
    let there = (0..).map(|n| format!("k{n}")).find(|key| home(key) == 1).unwrap();
    bench.run(&format!("set {there} abc"));
    bench.logged(1);
    assert_eq!(bench.run(&format!("bitop or {here} {there}")), ":3");
    assert_eq!(bench.logged(0), [format!("SET {here} abc")]);
    assert_eq!(bench.run(&format!("bitop or {there} {here} missing")), ":3");
    assert_eq!(bench.run(&format!("del {here}")), ":1");
    bench.logged(0);
    bench.logged(1);
    assert_eq!(bench.run(&format!("bitop or {there} {here}")), ":0");
    assert_eq!(bench.logged(1), [format!("DEL {there}")]);
}

#[test]
fn only_reads_count_hits_and_misses() {
    let mut bench = Bench::new(1);
    let steps = [
        ("setbit a 1 1", (0, 0)),
        ("getbit a 1", (1, 0)),
        ("getbit b 1", (0, 1)),
        ("bitcount a", (1, 0)),
        ("bitpos b 1", (0, 1)),
        ("bitop or c a b", (1, 1)),
        ("bitfield a set u8 0 1", (0, 0)),
        ("bitfield a get u8 0", (1, 0)),
        ("bitfield b", (0, 1)),
        ("bitfield_ro a get u8 0", (1, 0)),
    ];
    let mut before = bench.hits_and_misses();
    for (line, (hits, misses)) in steps {
        bench.run(line);
        let after = bench.hits_and_misses();
        assert_eq!(after, (before.0 + hits, before.1 + misses), "{line}");
        before = after;
    }
}
