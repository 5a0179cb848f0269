//! What clients do not see of SORT: slots found late, what is logged, events, signals. Replies and errors are in `tests/transcripts/sort.txt`.

use super::{Pattern, number_of, sort_window};
use crate::base::clock::Ms;
use crate::command::bench::{Bench, Followed};

#[test]
fn patterns_have_a_place_for_the_element_and_perhaps_a_field() {
    let key = |text: &'static str| match Pattern::parse(text.as_bytes()) {
        Pattern::Key { before, behind, field } => {
            let field = field.map_or("-", |field| std::str::from_utf8(field).unwrap());
            let [before, behind] = [before, behind].map(|part| std::str::from_utf8(part).unwrap());
            format!("{before}|{behind}|{field}")
        }
        Pattern::Element => "element".to_owned(),
        Pattern::Nothing => "nothing".to_owned(),
    };
    let expected = [
        ("#", "element"),
        ("w", "nothing"),
        ("w->f", "nothing"),
        ("*", "||-"),
        ("w_*_x", "w_|_x|-"),
        ("w_*->f", "w_||f"),
        ("w_*_x->f->g", "w_|_x|f->g"),
        ("w_*->", "w_|->|-"),
        ("a->b*", "a->b||-"),
        ("**->f", "|*|f"),
    ];
    for (text, parts) in expected {
        assert_eq!(key(text), parts, "{text}");
    }
}

#[test]
fn numbers_are_read_as_strtod_reads_them() {
    for (text, number) in [
        (&b""[..], Some(0.0)),
        (b"\x00x", Some(0.0)),
        (b" 2", Some(2.0)),
        (b"\t-1", Some(-1.0)),
        (b"1\x00abc", Some(1.0)),
        (b"0x10", Some(16.0)),
        (b"inf", Some(f64::INFINITY)),
        (b"2 ", None),
        (b"  ", None),
        (b"nan", None),
        (b"1e400", None),
        (b"5e-324", None),
        (b"a", None),
    ] {
        assert_eq!(number_of(text), number, "{}", text.escape_ascii());
    }
}

#[test]
fn a_window_of_the_order_is_the_order_s_window() {
    let mut random = crate::base::random::Random::with_seed(3);
    for _ in 0..300 {
        let mut numbers: Vec<u64> = (0..random.below(40)).map(|_| random.u64_in(0..20)).collect();
        let mut sorted = numbers.clone();
        sorted.sort();
        let start = random.below(numbers.len() + 1);
        let window = start..start + random.below(numbers.len() - start + 1);
        sort_window(&mut numbers, &window, u64::cmp);
        assert_eq!(numbers[window.clone()], sorted[window]);
    }
}

#[test]
fn keys_of_other_shards_are_found_late_and_all_at_once() {
    let mut bench = Bench::new(4);
    // One at home where the client is, and one elsewhere.
    let lists = [0, 3].map(|shard| bench.key_on(shard, 0));
    for list in lists {
        for number in 0..20 {
            bench.run(&format!("rpush {list} {number}"));
            bench.run(&format!("set w_{number} {}", 100 - number));
            bench.run(&format!("hset h_{number} f v{number}"));
        }
        let sorted = bench.run(&format!("sort {list} by w_* limit 0 3 get # get h_*->f get none_*"));
        assert_eq!(sorted, "*9|$2|19|$3|v19|$-1|$2|18|$3|v18|$-1|$2|17|$3|v17|$-1");
        bench.forget();
        let stores = format!("sort {list} by w_* limit 18 9 get w_* store to");
        assert_eq!(bench.run(&stores), ":2");
        assert_eq!(bench.logged_anywhere(), [stores], "wherever its keys live");
        assert_eq!(bench.run("lrange to 0 -1"), "*2|$2|99|$3|100");
        bench.run("multi");
        bench.run("incr changed");
        bench.run(&format!("sort_ro {list} by w_* limit 0 1"));
        assert_eq!(bench.run("exec"), "*2|:1|*1|$2|19");
        bench.run("del changed");
    }
}

/// Comparing what is watched is no part of what an EXEC can take back.
#[test]
fn a_watched_key_that_is_over_is_logged_though_exec_runs_again() {
    let mut bench = Bench::new(4);
    for number in 0..20 {
        bench.run(&format!("rpush list {number}"));
        bench.run(&format!("set w_{number} {}", 100 - number));
    }
    bench.run("set k v px 10");
    bench.pass(Ms(11));
    // While nothing expires, the key is hidden and stays.
    bench.run("client pause 5 write");
    bench.run("watch k");
    bench.pass(Ms(10));
    bench.run("multi");
    bench.run("sort_ro list by w_* limit 0 1");
    bench.forget();
    assert_eq!(bench.run("exec"), "*1|*1|$2|19");
    assert_eq!(bench.logged_anywhere(), ["DEL k"]);
    assert_eq!(bench.events(), ["expired k"]);
}

#[test]
fn what_follows_from_each_command() {
    let table: &[Followed<'_>] = &[
        ("sadd s 3 1 2", &["sadd s 3 1 2"], &["new s", "sadd s"], &[]),
        ("sort s", &[], &[], &[]),
        ("sort none", &[], &["keymiss none"], &[]),
        (
            "sort s by w_* limit 0 1",
            &[],
            &["keymiss w_1", "keymiss w_2", "keymiss w_3"],
            &[],
        ),
        (
            "sort s by nosort store to",
            &["sort s by nosort store to"],
            &["new to", "sortstore to"],
            &["ready to"],
        ),
        ("sort s store to", &["sort s store to"], &["sortstore to"], &["gone to"]),
        (
            "sort none store to",
            &["sort none store to"],
            &["keymiss none", "del to"],
            &["gone to"],
        ),
        ("sort none store to", &[], &["keymiss none"], &[]),
    ];
    for shards in [1, 2] {
        Bench::new(shards).follow(table);
    }
}
