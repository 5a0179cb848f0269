//! What clients do not see of the bitmap family: effects, events, hits and misses, keyspace changes that are none. Replies and errors
//! are in `tests/transcripts/bitmap.txt`.

use crate::base::clock::Ms;
use crate::command::bench::Bench;

#[test]
fn writes_lead_to_what_they_lead_to_in_redis() {
    for shards in [1, 2] {
        let mut bench = Bench::new(shards);
        bench.follow(&[
            ("setbit b 7 1", &["setbit b 7 1"], &["new b", "setbit b"], &[]),
            ("setbit b 7 1", &[], &[], &[]),
            ("setbit b 100 0", &["setbit b 100 0"], &["setbit b"], &[]),
            ("setbit b 100 0", &[], &[], &[]),
            (
                "setbit zeros 0 0",
                &["setbit zeros 0 0"],
                &["new zeros", "setbit zeros"],
                &[],
            ),
            ("set n 1234", &["set n 1234"], &["new n", "set n"], &[]),
            ("setbit n 0 0", &[], &[], &[]),
            ("bitfield x get u8 0", &[], &["keymiss x"], &[]),
            (
                "bitfield x set u8 0 1",
                &["bitfield x set u8 0 1"],
                &["new x", "setbit x"],
                &[],
            ),
            ("bitfield x set u8 0 1", &[], &[], &[]),
            ("bitfield x overflow fail incrby u8 0 300", &[], &[], &[]),
            (
                "bitfield x get u8 0 incrby u8 0 1 set u8 8 3",
                &["bitfield x get u8 0 incrby u8 0 1 set u8 8 3"],
                &["setbit x"],
                &[],
            ),
            // Redis makes the string longer and does not say so; a replica of ours shall have it too.
            (
                "bitfield x overflow fail incrby u2 100 9",
                &["bitfield x overflow fail incrby u2 100 9"],
                &["setbit x"],
                &[],
            ),
            ("bitfield_ro x get u8 0", &[], &[], &[]),
            (
                "bitop and d b none",
                &["bitop and d b none"],
                &["keymiss none", "new d", "set d"],
                &[],
            ),
            ("bitop or d b", &["bitop or d b"], &["set d"], &[]),
            ("zadd z 1 m", &["zadd z 1 m"], &["new z", "zadd z"], &["ready z"]),
            ("bitop or z b", &["bitop or z b"], &["set z"], &["gone z"]),
            (
                "bitop and d none none",
                &["bitop and d none none"],
                &["keymiss none", "keymiss none", "del d"],
                &["gone d"],
            ),
            ("bitop and d none none", &[], &["keymiss none", "keymiss none"], &[]),
            ("bitcount none", &[], &["keymiss none"], &[]),
            ("bitpos b 1", &[], &[], &[]),
            ("getbit b 1", &[], &[], &[]),
            ("expire b 1", &["PEXPIREAT b 1700000001000"], &["expire b"], &[]),
        ]);
        assert_eq!(bench.run("object encoding n"), "$3|raw");
        bench.pass(Ms(1001));
        bench.follow(&[(
            "setbit b 0 1",
            &["DEL b", "setbit b 0 1"],
            &["expired b", "new b", "setbit b"],
            &["gone b"],
        )]);
    }
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
