//! What clients do not see of the set family: what is logged, events, signals, hits and misses, several shards; and the shapes of RESP3. Replies
//! and errors are in `tests/transcripts/set.txt`.

use crate::base::clock::Ms;
use crate::command::bench::{Bench, Followed};

#[test]
fn what_follows_from_each_command() {
    let table: &[Followed<'_>] = &[
        ("sadd a 1 2 3 1", &["sadd a 1 2 3 1"], &["new a", "sadd a"], &[]),
        ("sadd a 1", &[], &[], &[]),
        ("srem a 9", &[], &[], &[]),
        ("srem a 1 9", &["srem a 1 9"], &["srem a"], &[]),
        ("smove a b 9", &[], &[], &[]),
        ("smove a b 2", &["smove a b 2"], &["srem a", "new b", "sadd b"], &[]),
        ("smove a a 3", &[], &[], &[]),
        (
            "smove a b 3",
            &["smove a b 3"],
            &["srem a", "del a", "sadd b"],
            &["gone a"],
        ),
        ("sadd a 3", &["sadd a 3"], &["new a", "sadd a"], &[]),
        ("smove a b 3", &["smove a b 3"], &["srem a", "del a"], &["gone a"]),
        ("smembers a", &[], &["keymiss a"], &[]),
        ("sadd a 3", &["sadd a 3"], &["new a", "sadd a"], &[]),
        ("srem a 3", &["srem a 3"], &["srem a", "del a"], &["gone a"]),
        ("sadd a 3", &["sadd a 3"], &["new a", "sadd a"], &[]),
        ("spop a", &["SREM a 3"], &["spop a", "del a"], &["gone a"]),
        ("spop a", &[], &[], &[]),
        ("sadd a x y", &["sadd a x y"], &["new a", "sadd a"], &[]),
        ("spop a 0", &[], &[], &[]),
        ("spop a 5", &["DEL a"], &["spop a", "del a"], &["gone a"]),
        (
            "sunionstore c b",
            &["sunionstore c b"],
            &["new c", "sunionstore c"],
            &[],
        ),
        ("sdiffstore c b", &["sdiffstore c b"], &["sdiffstore c"], &["gone c"]),
        (
            "sinterstore c b none",
            &["sinterstore c b none"],
            &["keymiss none", "del c"],
            &["gone c"],
        ),
        ("sinterstore c b none", &[], &["keymiss none"], &[]),
        ("sdiffstore b b b", &["sdiffstore b b b"], &["del b"], &["gone b"]),
        ("srandmember b 2", &[], &["keymiss b"], &[]),
    ];
    for shards in [1, 2] {
        Bench::new(shards).follow(table);
    }
}

#[test]
fn a_set_that_is_over_is_gone_before_the_next_one_comes() {
    for shards in [1, 2] {
        let mut bench = Bench::new(shards);
        for key in ["a", "b", "c", "d"] {
            bench.run(&format!("sadd {key} 1"));
            bench.run(&format!("pexpire {key} 10"));
        }
        bench.pass(Ms(11));
        bench.forget();
        bench.follow(&[
            (
                "sadd a 2",
                &["DEL a", "sadd a 2"],
                &["expired a", "new a", "sadd a"],
                &["gone a"],
            ),
            ("spop b", &["DEL b"], &["expired b"], &["gone b"]),
            (
                "smove a d 2",
                &["DEL d", "smove a d 2"],
                &["expired d", "srem a", "del a", "new d", "sadd d"],
                &["gone d", "gone a"],
            ),
            ("sadd a 2", &["sadd a 2"], &["new a", "sadd a"], &[]),
            (
                "sunionstore a c",
                &["DEL c", "sunionstore a c"],
                &["expired c", "keymiss c", "del a"],
                &["gone c", "gone a"],
            ),
        ]);
    }
}

#[test]
fn sets_of_two_shards_meet() {
    let mut bench = Bench::new(2);
    let (here, there) = (bench.key_on(0, 0), bench.key_on(1, 0));
    bench.run(&format!("sadd {here} 1 2"));
    bench.run(&format!("sadd {there} 2 3"));
    assert_eq!(bench.run(&format!("sinter {here} {there}")), "*1|$1|2");
    assert_eq!(bench.run(&format!("sdiff {there} {here}")), "*1|$1|3");
    assert_eq!(bench.run(&format!("sintercard 2 {there} {here}")), ":1");
    bench.forget();
    for (line, reply) in [
        (format!("smove {here} {there} 1"), ":1"),
        (format!("sunionstore {here} {here} {there}"), ":3"),
        (format!("sinterstore {here} {there} none"), ":0"),
    ] {
        assert_eq!(bench.run(&line), reply);
        assert_eq!(bench.logged_anywhere(), [line], "a unit is whole in one log");
    }
    assert_eq!(bench.run(&format!("exists {here}")), ":0");
}

#[test]
fn only_reads_count_hits_and_misses() {
    let mut bench = Bench::new(1);
    let steps = [
        ("sadd a 1 2 3", (0, 0)),
        ("srem a 3", (0, 0)),
        ("scard a", (1, 0)),
        ("sismember b 1", (0, 1)),
        ("sinter a b", (1, 1)),
        ("sunionstore c a b", (1, 1)),
        ("spop c", (0, 0)),
        ("srandmember a", (1, 0)),
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
fn many_members_are_logged_in_pieces() {
    let mut bench = Bench::new(1);
    let members: Vec<String> = (0..3000).map(|number| format!("m{number}")).collect();
    let mut words: Vec<&[u8]> = vec![b"sadd", b"a"];
    words.extend(members.iter().map(|member| member.as_bytes()));
    bench.run_words(&words);
    bench.logged(0);
    bench.run("spop a 2100");
    let lengths: Vec<usize> = bench.logged(0).iter().map(|line| line.split(' ').count()).collect();
    assert_eq!(lengths, [1026, 1026, 54]);
    assert_eq!(bench.run("scard a"), ":900");
}

#[test]
fn sets_are_sets_in_resp3() {
    let mut bench = Bench::new(1);
    bench.run("hello 3");
    bench.run("sadd a 1");
    let steps = [
        ("smembers a", "~1|$1|1"),
        ("smembers none", "~0"),
        ("sinter a none", "~0"),
        ("sunion a none", "~1|$1|1"),
        ("sdiff a none", "~1|$1|1"),
        ("srandmember a 5", "*1|$1|1"),
        ("smismember a 1 2", "*2|:1|:0"),
        ("spop a 0", "~0"),
        ("spop a 1", "~1|$1|1"),
        ("spop a 1", "~0"),
        ("spop a", "_"),
    ];
    for (line, expected) in steps {
        assert_eq!(bench.run(line), expected, "{line}");
    }
}
