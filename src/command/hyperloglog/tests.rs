//! What clients do not see of the HyperLogLog family: effects, events, hits and misses. Replies, errors and the bytes of values are in
//! `tests/transcripts/hyperloglog.txt`.

use crate::base::clock::Ms;
use crate::command::bench::Bench;

#[test]
fn writes_lead_to_what_they_lead_to_in_redis() {
    for shards in [1, 2] {
        let mut bench = Bench::new(shards);
        bench.follow(&[
            ("pfadd h", &["pfadd h"], &["new h", "pfadd h"], &[]),
            ("pfadd h", &[], &[], &[]),
            ("pfadd h a b c", &["pfadd h a b c"], &["pfadd h"], &[]),
            ("pfadd h a", &[], &[], &[]),
            // The estimate that it keeps is for replicas too, and no news.
            ("pfcount h", &["pfcount h"], &[], &[]),
            ("pfcount h", &[], &[], &[]),
            ("pfadd h d", &["pfadd h d"], &["pfadd h"], &[]),
            ("pfcount h", &["pfcount h"], &[], &[]),
            ("pfcount h other", &[], &["keymiss other"], &[]),
            ("pfcount other", &[], &["keymiss other"], &[]),
            ("pfmerge m h", &["pfmerge m h"], &["keymiss m", "new m", "pfadd m"], &[]),
            ("pfmerge m", &["pfmerge m"], &["pfadd m"], &[]),
            (
                "pfmerge n o",
                &["pfmerge n o"],
                &["keymiss n", "keymiss o", "new n", "pfadd n"],
                &[],
            ),
            ("pfdebug getreg h", &["pfdebug getreg h"], &[], &[]),
            ("pfdebug getreg h", &[], &[], &[]),
            ("pfdebug todense h", &[], &[], &[]),
            ("pfdebug todense n", &["pfdebug todense n"], &[], &[]),
            ("pfadd h e", &["pfadd h e"], &["pfadd h"], &[]),
            ("pfadd h e", &[], &[], &[]),
            ("expire h 1", &["PEXPIREAT h 1700000001000"], &["expire h"], &[]),
        ]);
        bench.pass(Ms(1001));
        bench.follow(&[(
            "pfadd h e",
            &["DEL h", "pfadd h e"],
            &["expired h", "new h", "pfadd h"],
            &["gone h"],
        )]);
    }
}

#[test]
fn what_is_merged_over_two_shards_is_there() {
    let mut bench = Bench::new(2);
    let (here, there) = (bench.key_on(0, 0), bench.key_on(1, 0));
    bench.run(&format!("pfadd {there} a b c"));
    assert_eq!(bench.run(&format!("pfmerge {here} {there}")), "+OK");
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
