//! What clients do not see of the sorted set family: effects, events, hits and misses; and the shapes of RESP3 that Redis 7.0 does not
//! have. Replies and errors are in `tests/transcripts/sorted_set.txt`.

use crate::base::clock::Ms;
use crate::command::bench::Bench;

#[test]
fn writes_lead_to_what_they_lead_to_in_redis() {
    for shards in [1, 2] {
        let mut bench = Bench::new(shards);
        let store = "zunionstore d 2 z missing";
        bench.follow(&[
            (
                "zadd z 1 a 2 b 3 c 4 d 5 e",
                &["zadd z 1 a 2 b 3 c 4 d 5 e"],
                &["new z", "zadd z"],
                &["ready z"],
            ),
            ("zadd z 1 a", &[], &[], &[]),
            ("zadd z 2 a 6 f", &["zadd z 2 a 6 f"], &["zadd z"], &[]),
            ("zrem z f", &["zrem z f"], &["zrem z"], &[]),
            ("zadd z nx 9 a", &[], &[], &[]),
            ("zadd z xx incr 1 nobody", &[], &[], &[]),
            ("zadd missing xx 1 a", &[], &[], &[]),
            ("zadd z incr 2 a", &["zadd z incr 2 a"], &["zincr z"], &[]),
            (
                "zadd i incr 2 a",
                &["zadd i incr 2 a"],
                &["new i", "zincr i"],
                &["ready i"],
            ),
            ("zincrby z 0.5 a", &["zincrby z 0.5 a"], &["zincr z"], &[]),
            ("zincrby z 0 a", &[], &[], &[]),
            ("zmpop 2 missing z max count 2", &["ZPOPMAX z 2"], &["zpopmax z"], &[]),
            ("zmpop 1 z min", &["ZPOPMIN z 1"], &["zpopmin z"], &[]),
            ("zmpop 1 missing min", &[], &[], &[]),
            ("zpopmin z 0", &[], &[], &[]),
            ("zpopmin z 1", &["zpopmin z 1"], &["zpopmin z"], &[]),
            ("zrem z nobody", &[], &[], &[]),
            (
                "zrem z a nobody d",
                &["zrem z a nobody d"],
                &["zrem z", "del z"],
                &["gone z"],
            ),
            ("zpopmax z", &[], &[], &[]),
            (
                "zadd z 1 a 2 b 3 c",
                &["zadd z 1 a 2 b 3 c"],
                &["new z", "zadd z"],
                &["ready z"],
            ),
            ("zremrangebyrank z 5 9", &[], &[], &[]),
            (
                "zremrangebyrank z 0 0",
                &["zremrangebyrank z 0 0"],
                &["zremrangebyrank z"],
                &[],
            ),
            ("zrange missing 0 -1", &[], &["keymiss missing"], &[]),
            (
                "zrangestore d z 0 -1",
                &["zrangestore d z 0 -1"],
                &["new d", "zrangestore d"],
                &["ready d"],
            ),
            (
                "zrangestore d z 0 0",
                &["zrangestore d z 0 0"],
                &["zrangestore d"],
                &["gone d"],
            ),
            (
                "zrangestore d missing 0 -1",
                &["zrangestore d missing 0 -1"],
                &["keymiss missing", "del d"],
                &["gone d"],
            ),
            ("zrangestore d missing 0 -1", &[], &["keymiss missing"], &[]),
            (
                store,
                &[store],
                &["keymiss missing", "new d", "zunionstore d"],
                &["ready d"],
            ),
            ("zdiffstore d 2 z z", &["zdiffstore d 2 z z"], &["del d"], &["gone d"]),
            ("zinterstore d 2 z missing", &[], &["keymiss missing"], &[]),
            ("set d 1", &["set d 1"], &["new d", "set d"], &[]),
            ("zinterstore d 1 z", &["zinterstore d 1 z"], &["zinterstore d"], &[]),
            (
                "zremrangebylex d [b [b",
                &["zremrangebylex d [b [b"],
                &["zremrangebylex d"],
                &[],
            ),
            (
                "zremrangebyscore z 0 9",
                &["zremrangebyscore z 0 9"],
                &["zremrangebyscore z", "del z"],
                &["gone z"],
            ),
            ("zmpop 1 z max", &[], &[], &[]),
            (
                "zadd z 1 a 2 b",
                &["zadd z 1 a 2 b"],
                &["new z", "zadd z"],
                &["ready z"],
            ),
            (
                "zmpop 1 z max count 9",
                &["ZPOPMAX z 2"],
                &["zpopmax z", "del z"],
                &["gone z"],
            ),
            ("expire d 1", &["PEXPIREAT d 1700000001000"], &["expire d"], &[]),
        ]);
        bench.pass(Ms(1001));
        bench.follow(&[(
            "zadd d 1 x",
            &["DEL d", "zadd d 1 x"],
            &["expired d", "new d", "zadd d"],
            &["gone d", "ready d"],
        )]);
    }
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
