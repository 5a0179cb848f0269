//! What clients do not see of the stream family: what is logged, events, signals; and what Redis 7.2 answers otherwise than
//! the older server that the transcripts are compared with. Replies and errors are in `tests/transcripts/stream.txt`.

use crate::command::bench::Bench;

/// The bench's time.
const NOW: &str = "1700000000000";

#[test]
fn what_follows_from_each_command() {
    let claim = |consumer: &str, id: &str, count: u32, last: &str| {
        format!("XCLAIM s g {consumer} 0 {id} TIME {NOW} RETRYCOUNT {count} FORCE JUSTID LASTID {last}")
    };
    type Row<'a> = (&'a str, Vec<String>, Vec<&'a str>, Vec<&'a str>);
    let steps: Vec<Row<'_>> = vec![
        ("xadd s nomkstream 1-1 a b", vec![], vec![], vec![]),
        (
            "xadd s 1-1 a b",
            vec!["xadd s 1-1 a b".into()],
            vec!["new s", "xadd s"],
            vec!["ready s"],
        ),
        ("xadd s 1-1 a b", vec![], vec![], vec![]),
        (
            "xadd s 1-* a b",
            vec!["xadd s 1-2 a b".into()],
            vec!["xadd s"],
            vec!["ready s"],
        ),
        (
            "xadd s maxlen 9 * a b",
            vec![format!("xadd s maxlen 9 {NOW}-0 a b")],
            vec!["xadd s"],
            vec!["ready s"],
        ),
        (
            "xadd s maxlen ~ 2 limit 5 * a b",
            vec![format!("xadd s maxlen = 4 {NOW}-1 a b")],
            vec!["xadd s"],
            vec!["ready s"],
        ),
        (
            "xadd s minid ~ 1-2 9999999999999-1 a b",
            vec!["xadd s minid = 1-1 9999999999999-1 a b".into()],
            vec!["xadd s"],
            vec!["ready s"],
        ),
        ("xtrim s maxlen ~ 3", vec![], vec![], vec![]),
        (
            "xtrim s maxlen 4",
            vec!["xtrim s maxlen 4".into()],
            vec!["xtrim s"],
            vec![],
        ),
        ("xdel s 1-1", vec![], vec![], vec![]),
        (
            "xdel s 9999999999999-1",
            vec!["xdel s 9999999999999-1".into()],
            vec!["xdel s"],
            vec![],
        ),
        (
            "xsetid s 9999999999999-2",
            vec!["xsetid s 9999999999999-2".into()],
            vec!["xsetid s"],
            vec![],
        ),
        (
            "xgroup create s g 0",
            vec!["xgroup create s g 0".into()],
            vec!["xgroup-create s"],
            vec![],
        ),
        (
            "xreadgroup group g a count 1 streams s >",
            vec![
                claim("a", "1-2", 1, "1-2"),
                "XGROUP SETID s g 1-2 ENTRIESREAD -1".into(),
            ],
            vec!["xgroup-createconsumer s"],
            vec![],
        ),
        ("xreadgroup group g a streams s 0", vec![], vec![], vec![]),
        (
            "xreadgroup group g b noack count 1 streams s >",
            vec![
                "XGROUP CREATECONSUMER s g b".into(),
                format!("XGROUP SETID s g {NOW}-0 ENTRIESREAD -1"),
            ],
            vec!["xgroup-createconsumer s"],
            vec![],
        ),
        (
            "xreadgroup group g c streams s 0",
            vec!["XGROUP CREATECONSUMER s g c".into()],
            vec!["xgroup-createconsumer s"],
            vec![],
        ),
        ("xreadgroup group g c streams s 0", vec![], vec![], vec![]),
        (
            "xclaim s g b 0 1-2 9-9",
            vec![claim("b", "1-2", 3, &format!("{NOW}-0"))],
            vec![],
            vec![],
        ),
        ("xclaim s g b 1 1-2", vec![], vec![], vec![]),
        (
            "xclaim s g b 1 1-2 lastid 9999999999999-0",
            vec!["XGROUP SETID s g 9999999999999-0 ENTRIESREAD -1".into()],
            vec![],
            vec![],
        ),
        (
            "xautoclaim s g a 0 0 justid",
            vec![claim("a", "1-2", 3, "9999999999999-0")],
            vec![],
            vec![],
        ),
        ("xdel s 1-2", vec!["xdel s 1-2".into()], vec!["xdel s"], vec![]),
        (
            "xautoclaim s g c 0 0",
            vec![claim("a", "1-2", 3, "9999999999999-0")],
            vec![],
            vec![],
        ),
        ("xack s g 1-2", vec![], vec![], vec![]),
        (
            "xgroup setid s g 0",
            vec!["xgroup setid s g 0".into()],
            vec!["xgroup-setid s"],
            vec![],
        ),
        (
            "xgroup delconsumer s g a",
            vec!["xgroup delconsumer s g a".into()],
            vec!["xgroup-delconsumer s"],
            vec![],
        ),
        ("xgroup delconsumer s g a", vec![], vec![], vec![]),
        ("xgroup createconsumer s g b", vec![], vec![], vec![]),
        (
            "xgroup destroy s g",
            vec!["xgroup destroy s g".into()],
            vec!["xgroup-destroy s"],
            vec!["ready s"],
        ),
        ("xgroup destroy s g", vec![], vec![], vec![]),
        (
            "xgroup create t g $ mkstream",
            vec!["xgroup create t g $ mkstream".into()],
            vec!["new t", "xgroup-create t"],
            vec!["ready t"],
        ),
        (
            "xadd s maxlen 1 9999999999999-9 a b",
            vec!["xadd s maxlen 1 9999999999999-9 a b".into()],
            vec!["xadd s", "xtrim s"],
            vec!["ready s"],
        ),
        ("xrange missing - +", vec![], vec!["keymiss missing"], vec![]),
    ];
    for shards in [1, 2] {
        let mut bench = Bench::new(shards);
        for (line, logged, events, signals) in &steps {
            let logged: Vec<&str> = logged.iter().map(String::as_str).collect();
            bench.follow(&[(line, &logged, events, signals)]);
        }
    }
}

#[test]
fn shapes_of_resp3() {
    let mut bench = Bench::new(1);
    bench.run("hello 3");
    assert_eq!(bench.run("xread streams s 0"), "_");
    bench.run("xadd s 1-1 a 1");
    assert_eq!(bench.run("xread streams s 0"), "%1|$1|s|*1|*2|$3|1-1|*2|$1|a|$1|1");
    bench.run("xgroup create s g 0");
    assert_eq!(
        bench.run("xreadgroup group g c streams s >"),
        "%1|$1|s|*1|*2|$3|1-1|*2|$1|a|$1|1"
    );
    assert_eq!(
        bench.run("xinfo consumers s g"),
        "*1|%4|$4|name|$1|c|$7|pending|:1|$4|idle|:0|$8|inactive|:0"
    );
    bench.run("xgroup createconsumer s g d");
    assert!(bench.run("xinfo consumers s g").ends_with("$8|inactive|:-1"));
    bench.run("xdel s 1-1");
    assert_eq!(bench.run("xreadgroup group g c streams s 0"), "%1|$1|s|*1|*2|$3|1-1|_");
    let full = bench.run("xinfo stream s full");
    assert!(
        full.contains(&format!(
            "$11|active-time|:{NOW}|$9|pel-count|:1|$7|pending|*1|*3|$3|1-1"
        )),
        "{full}"
    );
    assert_eq!(bench.run("xpending s g"), "*4|:1|$3|1-1|$3|1-1|*1|*2|$1|c|$1|1");
}

#[test]
fn several_streams_on_several_shards() {
    let mut bench = Bench::new(4);
    for key in ["a", "b", "c", "d", "e"] {
        bench.run(&format!("xadd {key} 1-1 k {key}"));
        bench.run(&format!("xgroup create {key} g 0"));
    }
    let reply = bench.run("xreadgroup group g me streams a b c d e > > > > >");
    assert!(
        reply.starts_with("*5|*2|$1|a|*1|*2|$3|1-1|*2|$1|k|$1|a|*2|$1|b|"),
        "{reply}"
    );
    assert_eq!(bench.run("xreadgroup group g me streams a b c > > >"), "*-1");
    assert!(bench.run("xread streams a b c d e 0 0 0 0 0").starts_with("*5|"));
}
