//! What clients do not see of the string family: effects, events, hits and misses, limits; and the shapes of RESP3. Replies and
//! errors are in `tests/transcripts/string.txt`.

use crate::base::clock::Ms;
use crate::command::bench::Bench;
use crate::config::Settings;
use crate::resp::Proto;
use std::sync::Arc;

#[test]
fn writes_lead_to_what_they_lead_to_in_redis() {
    for shards in [1, 2] {
        let mut bench = Bench::new(shards);
        bench.follow(&[
            ("get a", &[], &["keymiss a"], &[]),
            ("set a 1", &["set a 1"], &["new a", "set a"], &[]),
            ("get a", &[], &[], &[]),
            ("set a 2 GET", &["SET a 2"], &["set a"], &[]),
            ("set a 3 xx", &["set a 3 xx"], &["set a"], &[]),
            ("set a 3 nx", &[], &[], &[]),
            (
                "set b 1 ex 100",
                &["SET b 1 PXAT 1700000100000"],
                &["new b", "set b", "expire b"],
                &[],
            ),
            (
                "set b 1 px 5 get",
                &["SET b 1 PXAT 1700000000005"],
                &["set b", "expire b"],
                &[],
            ),
            ("set b 2 keepttl", &["set b 2 keepttl"], &["set b"], &[]),
            ("set b 3 keepttl get", &["SET b 3 keepttl"], &["set b"], &[]),
            ("set b 3 get xx", &["SET b 3 xx"], &["set b"], &[]),
            ("set b 1 exat 1", &["SET b 1 PXAT 1000"], &["set b", "expire b"], &[]),
            ("get b", &["DEL b"], &["expired b", "keymiss b"], &["gone b"]),
            (
                "set b 1 pxat 1800000000001 nx",
                &["SET b 1 PXAT 1800000000001"],
                &["new b", "set b", "expire b"],
                &[],
            ),
            ("set n 1 nx get", &["SET n 1 nx"], &["keymiss n", "new n", "set n"], &[]),
            ("set n 1 nx get", &[], &[], &[]),
            ("setnx n 1", &[], &[], &[]),
            ("setnx m 1", &["setnx m 1"], &["new m", "set m"], &[]),
            (
                "setex b 10 v",
                &["SET b v PXAT 1700000010000"],
                &["set b", "expire b"],
                &[],
            ),
            (
                "psetex b 10 v",
                &["SET b v PXAT 1700000000010"],
                &["set b", "expire b"],
                &[],
            ),
            ("getset b 2", &["SET b 2"], &["set b"], &[]),
            ("getset s 2", &["SET s 2"], &["keymiss s", "new s", "set s"], &[]),
            ("getex missing", &[], &["keymiss missing"], &[]),
            ("getex a", &[], &[], &[]),
            ("getex a persist", &[], &[], &[]),
            ("getex a ex 100", &["PEXPIREAT a 1700000100000"], &["expire a"], &[]),
            (
                "getex a pxat 1800000000001",
                &["PEXPIREAT a 1800000000001"],
                &["expire a"],
                &[],
            ),
            ("getex a persist", &["PERSIST a"], &["persist a"], &[]),
            ("getex a ex 0", &[], &[], &[]),
            ("getex a exat 1", &["DEL a"], &["del a"], &["gone a"]),
            ("set a 10", &["set a 10"], &["new a", "set a"], &[]),
            ("incrbyfloat a 1.5", &["SET a 11.5 KEEPTTL"], &["incrbyfloat a"], &[]),
            (
                "incrbyfloat f 1.5",
                &["SET f 1.5 KEEPTTL"],
                &["new f", "incrbyfloat f"],
                &[],
            ),
            ("incr a", &[], &[], &[]),
            ("getdel a", &["DEL a"], &["del a"], &["gone a"]),
            ("getdel a", &[], &["keymiss a"], &[]),
            ("incr c", &["incr c"], &["new c", "incrby c"], &[]),
            ("decr c", &["decr c"], &["incrby c"], &[]),
            ("incrby c 5", &["incrby c 5"], &["incrby c"], &[]),
            ("decrby c 0", &["decrby c 0"], &["incrby c"], &[]),
            ("append c 1", &["append c 1"], &["append c"], &[]),
            ("append e 1", &["append e 1"], &["new e", "append e"], &[]),
            ("setrange c 3 x", &["setrange c 3 x"], &["setrange c"], &[]),
            ("setrange r 1 x", &["setrange r 1 x"], &["new r", "setrange r"], &[]),
            ("setrange r 9 ", &[], &[], &[]),
            (
                "mset x 1 y 2 x 3",
                &["mset x 1 y 2 x 3"],
                &["new x", "set x", "new y", "set y", "set x"],
                &[],
            ),
            ("msetnx x 1 z 2", &[], &[], &[]),
            (
                "msetnx v 1 w 2",
                &["msetnx v 1 w 2"],
                &["new v", "set v", "new w", "set w"],
                &[],
            ),
            ("mset x 1 y", &[], &[], &[]),
            ("mget x 1 y 2", &[], &["keymiss 1", "keymiss 2"], &[]),
            // What is overwritten and was no string, others may have waited for.
            (
                "zadd zset 1 m",
                &["zadd zset 1 m"],
                &["new zset", "zadd zset"],
                &["ready zset"],
            ),
            (
                "set zset 1 px 50",
                &["SET zset 1 PXAT 1700000000050"],
                &["set zset", "expire zset"],
                &["gone zset"],
            ),
        ]);
        bench.pass(Ms(51));
        bench.follow(&[(
            "incr zset",
            &["DEL zset", "incr zset"],
            &["expired zset", "new zset", "incrby zset"],
            &["gone zset"],
        )]);
    }
}

#[test]
fn each_key_of_mset_is_a_change_and_what_is_not_written_is_none() {
    let mut bench = Bench::new(1);
    bench.run("mset x 1 y 2 x 3");
    assert_eq!(bench.shards[0].borrow().env.stats.counts.changes, 3);
    bench.run("setrange missing 0 ");
    bench.run("setrange x 9 ");
    assert_eq!(bench.shards[0].borrow().env.stats.counts.changes, 3);
}

#[test]
fn mset_over_two_shards_is_one_effect() {
    let mut bench = Bench::new(2);
    let (here, there) = (bench.key_on(0, 0), bench.key_on(1, 0));
    let line = format!("mset {here} 1 {there} 2 {here} 3");
    assert_eq!(bench.run(&line), "+OK");
    let logs = [bench.logged(0), bench.logged(1)].concat();
    assert_eq!(logs, [line]);
    assert_eq!(bench.run(&format!("mget {there} {here}")), "*2|$1|2|$1|3");
    assert_eq!(bench.run(&format!("msetnx new 1 {there} 9")), ":0");
    assert_eq!(bench.run(&format!("set {there} 5 ex 7 get")), "$1|2");
    assert_eq!(bench.logged(1), [format!("SET {there} 5 PXAT 1700000007000")]);
}

#[test]
fn only_reads_count_hits_and_misses() {
    let mut bench = Bench::new(1);
    let steps = [
        ("get a", (0, 1)),
        ("set a 1", (0, 0)),
        ("set a 2 get", (1, 0)),
        ("set a 3 nx", (0, 0)),
        ("set a 3 xx", (0, 0)),
        ("set new 1 xx get", (0, 1)),
        ("getset a 4", (1, 0)),
        ("getex a ex 100", (1, 0)),
        ("getex new", (0, 1)),
        ("getdel new", (0, 1)),
        ("incr a", (0, 0)),
        ("incrbyfloat a 1", (0, 0)),
        ("append a 1", (0, 0)),
        ("setrange a 0 1", (0, 0)),
        ("strlen a", (1, 0)),
        ("getrange new 0 1", (0, 1)),
        ("substr a 0 1", (1, 0)),
        ("mget a new a", (2, 1)),
        ("mset a 1 b 2", (0, 0)),
        ("msetnx a 1 c 2", (0, 0)),
        ("setnx a 1", (0, 0)),
        ("lcs a new", (1, 1)),
        ("getdel a", (1, 0)),
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
fn limit_is_proto_max_bulk_len() {
    let mut bench = Bench::new(1);
    {
        let mut first = bench.shards[0].borrow_mut();
        let settings = Settings {
            proto_max_bulk_len: 20,
            ..(*first.env.settings).clone()
        };
        first.env.settings = Arc::new(settings);
    }
    let too_long = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)";
    assert_eq!(bench.run("append s 12345678901234567890"), ":20");
    assert_eq!(bench.run("append s 9"), too_long);
    assert_eq!(bench.run("setrange s 19 x"), ":20");
    assert_eq!(bench.run("setrange s 20 x"), too_long);
    assert_eq!(bench.run("setrange new 20 x"), too_long);
    assert_eq!(bench.run("setrange new 9223372036854775807 x"), too_long);
    assert_eq!(
        bench.run("lcs s s"),
        "-ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len"
    );
    assert_eq!(bench.run("strlen s"), ":20");
}

#[test]
fn shapes_of_resp3() {
    let mut bench = Bench::new(1);
    bench.shards[0].borrow_mut().clients.at(0).unwrap().session.proto = Proto::Resp3;
    bench.run("mset a abcx b abcy");
    assert_eq!(bench.run("get missing"), "_");
    assert_eq!(bench.run("mget missing"), "*1|_");
    assert_eq!(bench.run("set a 1 nx"), "_");
    assert_eq!(bench.run("getex missing"), "_");
    assert_eq!(
        bench.run("lcs a b idx withmatchlen"),
        "%2|$7|matches|*1|*3|*2|:0|:2|*2|:0|:2|:3|$3|len|:3"
    );
}

#[test]
fn long_values_keep_their_bytes() {
    let mut bench = Bench::new(1);
    let text = "0123456789".repeat(4000);
    bench.run(&format!("set long {text}"));
    assert_eq!(bench.run("get long"), format!("$40000|{text}"));
    assert_eq!(bench.run("getrange long 5 39999"), format!("$39995|{}", &text[5..]));
    assert_eq!(bench.run("append long x"), ":40001");
    assert_eq!(bench.run("setrange long 0 y"), ":40001");
    assert_eq!(bench.run("getrange long 39998 -1"), "$3|89x");
    assert_eq!(bench.run("getrange long 0 1"), "$2|y1");
}
