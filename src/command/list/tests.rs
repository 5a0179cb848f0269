//! What clients do not see of the list family: effects, events, hits and misses, two shards; and the shapes of RESP3.
//! Replies and errors are in `tests/transcripts/list.txt`.

use crate::base::slot::key_slot;
use crate::command::bench::Bench;

#[test]
fn effects_are_those_that_redis_propagates() {
    let mut bench = Bench::new(1);
    let steps: &[(&str, &[&str])] = &[
        ("lpush a 1 2 3", &["lpush a 1 2 3"]),
        ("lpushx a 0", &["lpushx a 0"]),
        ("lpushx missing 0", &[]),
        ("rpush b x", &["rpush b x"]),
        ("lrange a 0 -1", &[]),
        ("linsert a before 2 9", &["linsert a before 2 9"]),
        ("linsert a before none 9", &[]),
        ("lset a 0 7", &["lset a 0 7"]),
        ("lset a 99 7", &[]),
        ("lrem a 0 none", &[]),
        ("lrem a 1 7", &["lrem a 1 7"]),
        ("ltrim a 0 -1", &[]),
        ("lmpop 2 missing a left count 2", &["LPOP a 2"]),
        ("lmpop 2 missing b right count 20", &["RPOP b 1"]),
        ("lmpop 1 b right", &[]),
        ("lmove a c left right", &["lmove a c left right"]),
        ("rpoplpush a a", &["rpoplpush a a"]),
        ("rpoplpush missing a", &[]),
        ("lpop a 0", &[]),
        ("lpop a", &["lpop a"]),
        ("rpop c 5", &["rpop c 5"]),
        ("rpop c", &[]),
    ];
    for (line, expected) in steps {
        bench.run(line);
        assert_eq!(bench.logged(0), *expected, "{line}");
    }
}

#[test]
fn an_element_moves_between_shards() {
    let mut bench = Bench::new(2);
    let home = |key: &str| bench.shards[0].borrow().core.owner(key_slot(key.as_bytes())).0 as usize;
    let here = (0..).map(|n| format!("k{n}")).find(|key| home(key) == 0).unwrap();
    let there = (0..).map(|n| format!("k{n}")).find(|key| home(key) == 1).unwrap();
    assert_eq!(bench.run(&format!("rpush {here} 1 2 3")), ":3");
    bench.logged(0);
    assert_eq!(bench.run(&format!("lmove {here} {there} right left")), "$1|3");
    assert_eq!(bench.logged(0), [format!("RPOP {here}")]);
    assert_eq!(bench.logged(1), [format!("LPUSH {there} 3")]);
    assert_eq!(bench.run(&format!("rpoplpush {there} {here}")), "$1|3");
    assert_eq!(bench.logged(0), [format!("LPUSH {here} 3")]);
    assert_eq!(bench.logged(1), [format!("RPOP {there}")]);
    assert_eq!(
        bench.run(&format!("lmpop 2 {there} {here} left count 9")),
        format!("*2|${}|{here}|*3|$1|3|$1|1|$1|2", here.len())
    );
    assert_eq!(bench.logged(0), [format!("LPOP {here} 3")]);
    assert_eq!(bench.run(&format!("exists {here} {there}")), ":0");
    assert_eq!(bench.run(&format!("lmove {there} {here} left left")), "$-1");
}

#[test]
fn only_reads_count_hits_and_misses() {
    let mut bench = Bench::new(1);
    let steps = [
        ("rpush a 1 2 3 4", (0, 0)),
        ("llen a", (1, 0)),
        ("lindex a 0", (1, 0)),
        ("lpos b 1", (0, 1)),
        ("lrange b 0 1", (0, 1)),
        ("lpop a", (0, 0)),
        ("lpop b", (0, 0)),
        ("lmove a b left left", (0, 0)),
        ("lmpop 1 a left", (0, 0)),
        ("ltrim a 0 9", (0, 0)),
    ];
    let mut before = bench.hits_and_misses();
    for (line, (hits, misses)) in steps {
        bench.run(line);
        let after = bench.hits_and_misses();
        assert_eq!(after, (before.0 + hits, before.1 + misses), "{line}");
        before = after;
    }
}

#[test]
fn nothing_is_null_in_resp3() {
    let mut bench = Bench::new(1);
    bench.run("hello 3");
    for line in [
        "lpop a",
        "lpop a 2",
        "lmpop 1 a left",
        "lindex a 0",
        "lmove a b left left",
    ] {
        assert_eq!(bench.run(line), "_", "{line}");
    }
}
