//! What clients do not see of the sorted set family: effects, hits and misses; and the shapes of RESP3 that Redis 7.0 does not
//! have. Replies and errors are in `tests/transcripts/sorted_set.txt`.

use crate::base::slot::key_slot;
use crate::command::bench::Bench;

/// A key of that shard.
fn key_of(bench: &Bench, shard: usize) -> String {
    let home = |key: &str| bench.shards[0].borrow().core.owner(key_slot(key.as_bytes())).0 as usize;
    (0..).map(|n| format!("k{n}")).find(|key| home(key) == shard).unwrap()
}

#[test]
fn effects_are_those_that_redis_propagates() {
    let mut bench = Bench::new(1);
    let steps: &[(&str, &[&str])] = &[
        ("zadd z 1 a 2 b 3 c 4 d 5 e", &["zadd z 1 a 2 b 3 c 4 d 5 e"]),
        ("zadd z 1 a", &[]),
        ("zadd z nx 9 a", &[]),
        ("zadd z xx incr 1 nobody", &[]),
        ("zadd missing xx 1 a", &[]),
        ("zadd z incr 2 a", &["zadd z incr 2 a"]),
        ("zincrby z 0.5 a", &["zincrby z 0.5 a"]),
        ("zincrby z 0 a", &[]),
        ("zmpop 2 missing z max count 2", &["ZPOPMAX z 2"]),
        ("zmpop 1 z min", &["ZPOPMIN z 1"]),
        ("zmpop 1 missing min", &[]),
        ("zpopmin z 0", &[]),
        ("zpopmin z 1", &["zpopmin z 1"]),
        ("zrem z nobody", &[]),
        ("zrem z a nobody", &["zrem z a nobody"]),
        ("zpopmax z", &[]),
        ("zadd z 1 a 2 b 3 c", &["zadd z 1 a 2 b 3 c"]),
        ("zremrangebyrank z 5 9", &[]),
        ("zremrangebyrank z 0 0", &["zremrangebyrank z 0 0"]),
        ("zrangestore d z 0 -1", &["zrangestore d z 0 -1"]),
        ("zrangestore d missing 0 -1", &["zrangestore d missing 0 -1"]),
        ("zrangestore d missing 0 -1", &[]),
        ("zunionstore d 2 z missing", &["zunionstore d 2 z missing"]),
        ("zdiffstore d 2 z z", &["zdiffstore d 2 z z"]),
        ("zinterstore d 2 z missing", &[]),
        ("zremrangebyscore z 0 9", &["zremrangebyscore z 0 9"]),
        ("zmpop 1 z max", &[]),
    ];
    for (line, expected) in steps {
        bench.run(line);
        assert_eq!(bench.logged(0), *expected, "{line}");
    }
}

#[test]
fn what_is_stored_over_two_shards_is_logged_as_it_is() {
    let mut bench = Bench::new(2);
    let (here, there) = (key_of(&bench, 0), key_of(&bench, 1));
    bench.run(&format!("zadd {there} 1 a 2.5 b -inf c"));
    bench.run(&format!("set {here} x"));
    bench.logged(1);
    bench.logged(0);
    let zadd = format!("ZADD {here} -inf c 2 a 5 b");
    assert_eq!(bench.run(&format!("zunionstore {here} 1 {there} weights 2")), ":3");
    assert_eq!(bench.logged(0), [format!("DEL {here}"), zadd]);
    assert_eq!(bench.run(&format!("zrangestore {here} {there} 1 1")), ":1");
    assert_eq!(bench.logged(0), [format!("DEL {here}"), format!("ZADD {here} 1 a")]);
    assert_eq!(bench.run(&format!("zinterstore {here} 2 {there} missing")), ":0");
    assert_eq!(bench.logged(0), [format!("DEL {here}")]);
    assert_eq!(bench.run(&format!("zinterstore {here} 2 {there} missing")), ":0");
    assert!(bench.logged(0).is_empty());
    // What is taken is logged where it was.
    assert_eq!(
        bench.run(&format!("zmpop 2 {here} {there} max")).split('|').nth(2),
        Some(&*there)
    );
    assert_eq!(bench.logged(1), [format!("ZPOPMAX {there} 1")]);
    assert!(bench.logged(0).is_empty());
}

#[test]
fn a_long_result_is_logged_in_pieces() {
    let mut bench = Bench::new(2);
    let (here, there) = (key_of(&bench, 0), key_of(&bench, 1));
    let elements: Vec<String> = (0..2500).map(|number| format!("{number} m{number}")).collect();
    bench.run(&format!("zadd {there} {}", elements.join(" ")));
    assert_eq!(bench.run(&format!("zrangestore {here} {there} 0 -1")), ":2500");
    let logged = bench.logged(0);
    let words = |line: &String| line.split(' ').count();
    assert_eq!(logged.iter().map(words).collect::<Vec<_>>(), [2, 2050, 2050, 906]);
    assert!(logged[3].ends_with(" 2499 m2499"));
}

#[test]
fn reads_count_and_writes_do_not() {
    let mut bench = Bench::new(1);
    let steps = [
        ("zadd z 1 a 2 b 3 c 4 d 5 e", (0, 0)),
        ("zincrby z 1 a", (0, 0)),
        ("zrem missing a", (0, 0)),
        ("zpopmin missing", (0, 0)),
        ("zmpop 2 missing z min", (0, 0)),
        ("zremrangebyrank missing 0 1", (0, 0)),
        ("zcard z", (1, 0)),
        ("zscore z nobody", (1, 0)),
        ("zmscore missing a b", (0, 1)),
        ("zrank missing a", (0, 1)),
        ("zrange z 0 -1", (1, 0)),
        ("zrange missing 0 -1", (0, 1)),
        ("zcount z x 1", (0, 0)),
        ("zscan z 0", (1, 0)),
        ("zrandmember missing", (0, 1)),
        ("zunion 3 z z missing", (2, 1)),
        ("zunionstore d 3 z z missing", (2, 1)),
        ("zrangestore d z 0 -1", (1, 0)),
        ("zintercard 2 z missing", (1, 1)),
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
fn the_rank_has_its_score_if_asked() {
    let mut bench = Bench::new(1);
    bench.run("zadd z 1 a 2.5 b");
    let steps = [
        ("zrank z b withscore", "*2|:1|$3|2.5"),
        ("zrevrank z b WITHSCORE", "*2|:0|$3|2.5"),
        ("zrank z nobody withscore", "*-1"),
        ("zrank missing b withscore", "*-1"),
        ("zrank z b withscores", "-ERR syntax error"),
        (
            "zrank z b withscore x",
            "-ERR wrong number of arguments for 'zrank' command",
        ),
    ];
    for (line, expected) in steps {
        assert_eq!(bench.run(line), expected, "{line}");
    }
    bench.run("hello 3");
    assert_eq!(bench.run("zrank z b withscore"), "*2|:1|,2.5");
    assert_eq!(bench.run("zrank z nobody withscore"), "_");
}

#[test]
fn a_long_walk_meets_every_element() {
    let mut bench = Bench::new(1);
    let elements: Vec<String> = (0..1000).map(|number| format!("{number} m{number}")).collect();
    bench.run(&format!("zadd z {}", elements.join(" ")));
    assert_eq!(bench.run("object encoding z"), "$8|skiplist");
    let mut met = std::collections::BTreeSet::new();
    let mut cursor = "0".to_owned();
    loop {
        let reply = bench.run(&format!("zscan z {cursor} count 50 match m*"));
        let words: Vec<&str> = reply.split('|').collect();
        cursor = words[2].to_owned();
        for pair in words[4..].chunks(4) {
            assert_eq!(format!("m{}", pair[3]), pair[1]);
            met.insert(pair[1].to_owned());
        }
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(met.len(), 1000);
}

#[test]
fn many_elements_at_once_make_a_large_one_at_once() {
    let mut bench = Bench::new(1);
    let elements = ["1 a"; 129].join(" ");
    assert_eq!(bench.run(&format!("zadd z {elements}")), ":1");
    assert_eq!(bench.run("object encoding z"), "$8|skiplist");
    let elements = ["1 a"; 128].join(" ");
    assert_eq!(bench.run(&format!("zadd y {elements}")), ":1");
    assert_eq!(bench.run("object encoding y"), "$8|listpack");
}
