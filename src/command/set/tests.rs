//! What clients do not see of the set family: effects, hits and misses, several shards; and the shapes of RESP3. Replies
//! and errors are in `tests/transcripts/set.txt`.

use crate::base::slot::key_slot;
use crate::command::bench::Bench;

#[test]
fn effects_are_those_that_redis_propagates() {
    let mut bench = Bench::new(1);
    let steps: &[(&str, &[&str])] = &[
        ("sadd a 1 2 3 1", &["sadd a 1 2 3 1"]),
        ("sadd a 1", &[]),
        ("srem a 9", &[]),
        ("srem a 1 9", &["srem a 1 9"]),
        ("smove a b 9", &[]),
        ("smove a b 2", &["smove a b 2"]),
        ("smove a a 3", &[]),
        ("spop a", &["SREM a 3"]),
        ("spop a", &[]),
        ("sadd a x y", &["sadd a x y"]),
        ("spop a 0", &[]),
        ("spop a 5", &["DEL a"]),
        ("sunionstore c b", &["sunionstore c b"]),
        ("sinterstore c b none", &["sinterstore c b none"]),
        ("sinterstore c b none", &[]),
        ("sdiffstore b b", &["sdiffstore b b"]),
        ("srandmember b 2", &[]),
    ];
    for (line, expected) in steps {
        bench.run(line);
        assert_eq!(bench.logged(0), *expected, "{line}");
    }
}

#[test]
fn sets_of_two_shards_meet() {
    let mut bench = Bench::new(2);
    let home = |key: &str| bench.shards[0].borrow().core.owner(key_slot(key.as_bytes())).0 as usize;
    let here = (0..).map(|n| format!("k{n}")).find(|key| home(key) == 0).unwrap();
    let there = (0..).map(|n| format!("k{n}")).find(|key| home(key) == 1).unwrap();
    bench.run(&format!("sadd {here} 1 2"));
    bench.run(&format!("sadd {there} 2 3"));
    assert_eq!(bench.run(&format!("sinter {here} {there}")), "*1|$1|2");
    assert_eq!(bench.run(&format!("sdiff {there} {here}")), "*1|$1|3");
    assert_eq!(bench.run(&format!("sintercard 2 {there} {here}")), ":1");
    bench.logged(0);
    bench.logged(1);
    assert_eq!(bench.run(&format!("smove {here} {there} 1")), ":1");
    assert_eq!(bench.logged(0), [format!("SREM {here} 1")]);
    assert_eq!(bench.logged(1), [format!("SADD {there} 1")]);
    assert_eq!(bench.run(&format!("sunionstore {here} {here} {there}")), ":3");
    assert_eq!(bench.logged(0), [format!("DEL {here}"), format!("SADD {here} 1 2 3")]);
    assert_eq!(bench.run(&format!("sinterstore {here} {there} none")), ":0");
    assert_eq!(bench.logged(0), [format!("DEL {here}")]);
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
