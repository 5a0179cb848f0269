//! What clients do not see of the hash family: what is logged, events, signals, hits and misses, and fields that expire while time goes on. Replies and errors
//! are in `tests/transcripts/hash.txt`.

use crate::base::clock::Ms;
use crate::command::bench::{Bench, Followed, NOW};

/// The same time as text, that much later.
fn later(ms: u64) -> String {
    (NOW.0 + ms).to_string()
}

#[test]
fn what_follows_from_each_command() {
    let at = format!("HPEXPIREAT h {}", later(100_000));
    let table: &[Followed<'_>] = &[
        ("hset h a 1 b 2", &["hset h a 1 b 2"], &["new h", "hset h"], &[]),
        ("hset h a 1", &["hset h a 1"], &["hset h"], &[]),
        ("hset h a", &[], &[], &[]),
        ("hmset h c 3", &["hmset h c 3"], &["hset h"], &[]),
        ("hsetnx h c 3", &[], &[], &[]),
        ("hsetnx h d 4", &["hsetnx h d 4"], &["hset h"], &[]),
        ("hincrby h d 5", &["hincrby h d 5"], &["hincrby h"], &[]),
        ("hincrby h d x", &[], &[], &[]),
        ("hincrbyfloat h d 1.5", &["HSET h d 10.5"], &["hincrbyfloat h"], &[]),
        ("hget h a", &[], &[], &[]),
        ("hget missing a", &[], &["keymiss missing"], &[]),
        ("hdel h x y", &[], &[], &[]),
        ("hdel h d x", &["hdel h d x"], &["hdel h"], &[]),
        (
            "hexpire h 100 FIELDS 3 a b x",
            &[&format!("{at} FIELDS 2 a b")],
            &["hexpire h"],
            &[],
        ),
        (
            "hexpire h 100 nx FIELDS 2 a c",
            &[&format!("{at} FIELDS 1 c")],
            &["hexpire h"],
            &[],
        ),
        ("hpexpire h 100000 gt FIELDS 1 c", &[], &[], &[]),
        (
            "hincrbyfloat h c 0.5",
            &["HSET h c 3.5", &format!("{at} FIELDS 1 c")],
            &["hincrbyfloat h"],
            &[],
        ),
        (
            "hpersist h FIELDS 2 c c",
            &["HPERSIST h FIELDS 1 c"],
            &["hpersist h"],
            &[],
        ),
        ("hpersist h FIELDS 1 c", &[], &[], &[]),
        ("hexpireat h 1 FIELDS 2 c x", &["HDEL h c"], &["hdel h"], &[]),
        ("hgetex h FIELDS 1 a", &[], &[], &[]),
        (
            "hgetex h EX 100 FIELDS 2 a x",
            &[&format!("{at} FIELDS 1 a")],
            &["hexpire h"],
            &[],
        ),
        (
            "hgetex h PERSIST FIELDS 1 a",
            &["HPERSIST h FIELDS 1 a"],
            &["hpersist h"],
            &[],
        ),
        ("hgetex h PXAT 1 FIELDS 1 a", &["HDEL h a"], &["hdel h"], &[]),
        (
            "hgetdel h FIELDS 2 b x",
            &["HDEL h b"],
            &["hdel h", "del h"],
            &["gone h"],
        ),
        ("exists h", &[], &["keymiss h"], &[]),
        ("hgetdel h FIELDS 2 b x", &[], &[], &[]),
        (
            "hsetex h FNX EX 100 FIELDS 1 a 1",
            &[&format!("HSETEX h PXAT {} FIELDS 1 a 1", later(100_000))],
            &["new h", "hset h", "hexpire h"],
            &[],
        ),
        ("hsetex h FNX FIELDS 1 a 1", &[], &[], &[]),
        (
            "hsetex h FXX KEEPTTL FIELDS 1 a 2",
            &["HSETEX h KEEPTTL FIELDS 1 a 2"],
            &["hset h"],
            &[],
        ),
        ("hsetex h FIELDS 1 a 2", &["HSETEX h FIELDS 1 a 2"], &["hset h"], &[]),
        (
            "hsetex h EXAT 1 FIELDS 1 a 2",
            &["HDEL h a"],
            &["hset h", "hdel h", "del h"],
            &["gone h"],
        ),
        (
            "hsetex new EXAT 1 FIELDS 1 a 2",
            &["HDEL new a"],
            &["new new", "hset new", "hdel new", "del new"],
            &["gone new"],
        ),
        ("hset h a 1", &["hset h a 1"], &["new h", "hset h"], &[]),
        ("hdel h a b", &["hdel h a b"], &["hdel h", "del h"], &["gone h"]),
    ];
    for shards in [1, 2] {
        Bench::new(shards).follow(table);
    }
}

#[test]
fn only_reads_count_hits_and_misses() {
    let mut bench = Bench::new(1);
    let steps = [
        ("hget h a", (0, 1)),
        ("hset h a 1", (0, 0)),
        ("hget h a", (1, 0)),
        ("hget h x", (1, 0)),
        ("hmget h a x", (1, 0)),
        ("hgetall h", (1, 0)),
        ("hkeys x", (0, 1)),
        ("hlen h", (1, 0)),
        ("hexists h x", (1, 0)),
        ("hscan h 0", (1, 0)),
        ("hrandfield x 3", (0, 1)),
        ("httl h FIELDS 1 a", (1, 0)),
        ("hsetnx h a 1", (0, 0)),
        ("hincrby h a 1", (0, 0)),
        ("hexpire h 1 FIELDS 1 a", (0, 0)),
        ("hpersist h FIELDS 1 a", (0, 0)),
        ("hdel h a", (0, 0)),
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
fn resp3_has_maps_and_pairs() {
    let mut bench = Bench::new(1);
    bench.run("hset h a 1");
    assert_eq!(bench.run("hgetall h"), "*2|$1|a|$1|1");
    assert_eq!(bench.run("hrandfield h -2 withvalues"), "*4|$1|a|$1|1|$1|a|$1|1");
    bench.run("hello 3");
    assert_eq!(bench.run("hgetall h"), "%1|$1|a|$1|1");
    assert_eq!(bench.run("hgetall x"), "%0");
    assert_eq!(bench.run("hkeys x"), "*0");
    assert_eq!(bench.run("hrandfield h 5 withvalues"), "*1|*2|$1|a|$1|1");
    assert_eq!(bench.run("hget h x"), "_");
}

#[test]
fn fields_expire_by_themselves_and_are_logged_once() {
    let mut bench = Bench::new(1);
    bench.run("hset h a 1 b 2 c 3");
    bench.run("hpexpire h 100 FIELDS 2 a b");
    bench.run("hset gone a 1");
    bench.run("hpexpire gone 100 FIELDS 1 a");
    bench.forget();
    bench.pass(Ms(100));
    assert_eq!(
        bench.run("hpttl h FIELDS 3 a b c"),
        "*3|:0|:0|:-1",
        "the last millisecond"
    );
    bench.pass(Ms(1));
    assert_eq!(bench.run("hgetall h"), "*2|$1|c|$1|3");
    assert_eq!(bench.run("hlen h"), ":1");
    assert_eq!(bench.run("hmget h a b c"), "*3|$-1|$-1|$1|3");
    assert_eq!(bench.run("hscan h 0"), "*2|$1|0|*2|$1|c|$1|3");
    assert_eq!(bench.run("hdel h a"), ":0");
    assert_eq!(bench.run("hlen gone"), ":0");
    assert_eq!(bench.run("hrandfield gone 5"), "*0");
    assert_eq!(bench.logged(0), Vec::<String>::new(), "who looks changes nothing");
    bench.work();
    let mut logged = bench.logged(0);
    logged.sort();
    assert_eq!(logged, ["HDEL gone a", "HDEL h a", "HDEL h b"]);
    let mut events = bench.events();
    events.retain(|event| event.ends_with("gone"));
    assert_eq!(events, ["hexpired gone", "del gone"]);
    assert_eq!(bench.signals(), ["gone gone"]);
    let local = bench.shards[0].borrow();
    let stats = &local.env.stats;
    assert_eq!((stats.counts.expired_subkeys, stats.counts.expired_keys), (3, 0));
    drop(local);
    assert_eq!(bench.run("exists gone h"), ":1");
    assert_eq!(bench.run("hgetall h"), "*2|$1|c|$1|3");
}

#[test]
fn a_field_that_is_over_begins_anew() {
    let mut bench = Bench::new(1);
    bench.run("hset h a 10 b 10 c 1");
    bench.run("hpexpire h 100 FIELDS 2 a b");
    bench.pass(Ms(101));
    bench.logged(0);
    assert_eq!(bench.run("hincrby h a 1"), ":1");
    assert_eq!(bench.run("hsetnx h b 5"), ":1");
    assert_eq!(bench.logged(0), ["HSET h a 1", "HSET h b 5"]);
    assert_eq!(bench.run("httl h FIELDS 2 a b"), "*2|:-1|:-1");
}

#[test]
fn a_table_of_fields_expires_in_steps() {
    let mut bench = Bench::new(2);
    for hundred in 0..30 {
        let pairs: Vec<String> = (0..100).map(|n| format!("f{} v", hundred * 100 + n)).collect();
        bench.run(&format!("hset h {}", pairs.join(" ")));
        let fields: Vec<String> = (0..100).map(|n| format!("f{}", hundred * 100 + n)).collect();
        if hundred > 0 {
            bench.run(&format!("hpexpire h {} FIELDS 100 {}", 10 + hundred, fields.join(" ")));
        }
    }
    assert_eq!(bench.run("hlen h"), ":3000");
    bench.pass(Ms(25));
    assert_eq!(bench.run("hlen h"), ":1600");
    (0..2).for_each(|shard| drop(bench.logged(shard)));
    bench.work();
    let logged: Vec<String> = (0..2).flat_map(|shard| bench.logged(shard)).collect();
    assert_eq!(logged.len(), 1400, "each field once");
    assert!(logged.iter().all(|effect| effect.starts_with("HDEL h f")));
    assert_eq!(bench.run("hlen h"), ":1600");
    bench.pass(Ms(1000));
    bench.work();
    assert_eq!(bench.run("hlen h"), ":100");
}

#[test]
fn what_is_watched_sees_fields_go() {
    let mut bench = Bench::new(1);
    bench.run("hset h a 1 b 2");
    bench.run("hpexpire h 10 FIELDS 1 a");
    bench.run("watch h");
    bench.pass(Ms(11));
    bench.work();
    bench.run("multi");
    bench.run("hset h c 3");
    assert_eq!(bench.run("exec"), "*-1");
}

#[test]
fn a_copy_and_an_undone_change_keep_their_expiries() {
    let mut bench = Bench::new(1);
    bench.run("hset {t}h a 1 b 2");
    bench.run("hpexpire {t}h 10 FIELDS 1 a");
    bench.run("copy {t}h {t}copy");
    bench.run("rename {t}h {t}new");
    bench.pass(Ms(11));
    bench.work();
    assert_eq!(bench.run("hkeys {t}copy"), "*1|$1|b");
    assert_eq!(bench.run("hkeys {t}new"), "*1|$1|b");
}
