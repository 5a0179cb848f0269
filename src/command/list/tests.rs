//! What clients do not see of the list family: what is logged, events, signals, hits and misses, two shards; and the shapes of RESP3.
//! Replies and errors are in `tests/transcripts/list.txt`.

use crate::base::clock::Ms;
use crate::command::bench::{Bench, Followed};

#[test]
fn what_follows_from_each_command() {
    let table: &[Followed<'_>] = &[
        ("lpush a 1 2 3", &["lpush a 1 2 3"], &["new a", "lpush a"], &["ready a"]),
        ("lpushx a 0", &["lpushx a 0"], &["lpush a"], &[]),
        ("lpushx missing 0", &[], &[], &[]),
        ("rpush b x", &["rpush b x"], &["new b", "rpush b"], &["ready b"]),
        ("rpushx b y", &["rpushx b y"], &["rpush b"], &[]),
        ("rpop b", &["rpop b"], &["rpop b"], &[]),
        ("lrange a 0 -1", &[], &[], &[]),
        ("lrange missing 0 -1", &[], &["keymiss missing"], &[]),
        ("linsert a before 2 9", &["linsert a before 2 9"], &["linsert a"], &[]),
        ("linsert a before none 9", &[], &[], &[]),
        ("lset a 0 7", &["lset a 0 7"], &["lset a"], &[]),
        ("lset a 99 7", &[], &[], &[]),
        ("lrem a 0 none", &[], &[], &[]),
        ("lrem a 1 7", &["lrem a 1 7"], &["lrem a"], &[]),
        ("ltrim a 0 -1", &[], &["ltrim a"], &[]),
        ("lmpop 2 missing a left count 2", &["LPOP a 2"], &["lpop a"], &[]),
        (
            "lmpop 2 missing b right count 20",
            &["RPOP b 1"],
            &["rpop b", "del b"],
            &["gone b"],
        ),
        ("lmpop 1 b right", &[], &[], &[]),
        (
            "lmove a c left right",
            &["lmove a c left right"],
            &["new c", "rpush c", "lpop a"],
            &["ready c"],
        ),
        (
            "rpoplpush a c",
            &["rpoplpush a c"],
            &["lpush c", "rpop a", "del a"],
            &["gone a"],
        ),
        ("rpoplpush c c", &["rpoplpush c c"], &["lpush c", "rpop c"], &[]),
        ("rpoplpush missing c", &[], &[], &[]),
        ("lpop c 0", &[], &[], &[]),
        ("lpop c", &["lpop c"], &["lpop c"], &[]),
        (
            "lmove c a right left",
            &["lmove c a right left"],
            &["new a", "lpush a", "rpop c", "del c"],
            &["ready a", "gone c"],
        ),
        ("rpop a 5", &["rpop a 5"], &["rpop a", "del a"], &["gone a"]),
        ("rpop a", &[], &[], &[]),
        ("rpush d 1 2", &["rpush d 1 2"], &["new d", "rpush d"], &["ready d"]),
        ("ltrim d 5 9", &["ltrim d 5 9"], &["ltrim d", "del d"], &["gone d"]),
        ("rpush d 1 1", &["rpush d 1 1"], &["new d", "rpush d"], &["ready d"]),
        ("lrem d 0 1", &["lrem d 0 1"], &["lrem d", "del d"], &["gone d"]),
    ];
    for shards in [1, 2] {
        Bench::new(shards).follow(table);
    }
}

#[test]
fn a_list_that_is_over_is_gone_before_the_next_one_comes() {
    for shards in [1, 2] {
        let mut bench = Bench::new(shards);
        for key in ["a", "b", "c"] {
            bench.run(&format!("rpush {key} 1"));
            bench.run(&format!("pexpire {key} 10"));
        }
        bench.pass(Ms(11));
        bench.forget();
        bench.follow(&[
            (
                "lpush a 2",
                &["DEL a", "lpush a 2"],
                &["expired a", "new a", "lpush a"],
                &["gone a", "ready a"],
            ),
            ("lpop b", &["DEL b"], &["expired b"], &["gone b"]),
            ("llen c", &["DEL c"], &["expired c", "keymiss c"], &["gone c"]),
        ]);
    }
}

#[test]
fn an_element_that_moves_between_shards_is_logged_where_that_was_done() {
    let mut bench = Bench::new(2);
    let (here, there) = (bench.key_on(0, 0), bench.key_on(1, 0));
    assert_eq!(bench.run(&format!("rpush {here} 1 2 3")), ":3");
    bench.forget();
    for (line, reply) in [
        (format!("lmove {here} {there} right left"), "$1|3".to_owned()),
        (format!("rpoplpush {there} {here}"), "$1|3".to_owned()),
        (format!("lmove {here} {here} left right"), "$1|3".to_owned()),
    ] {
        assert_eq!(bench.run(&line), reply);
        assert_eq!(bench.logged_anywhere(), [line]);
    }
    assert_eq!(
        bench.run(&format!("lmpop 2 {there} {here} left count 9")),
        format!("*2|${}|{here}|*3|$1|1|$1|2|$1|3", here.len())
    );
    assert_eq!(bench.logged_anywhere(), [format!("LPOP {here} 3")]);
    assert_eq!(bench.run(&format!("exists {here} {there}")), ":0");
    assert_eq!(bench.run(&format!("lmove {there} {here} left left")), "$-1");
}

#[test]
fn only_reads_count_hits_and_misses() {
    let mut bench = Bench::new(1);
    let steps = [
        ("rpush a 1 2 3 4", (0, 0)),
        ("llen a", (1, 0)),
        ("lindex a 0", (1, 0)),
        ("lpos b 1", (0, 1)),
        ("lrange b 0 1", (0, 1)),
        ("lpop a", (0, 0)),
        ("lpop b", (0, 0)),
        ("lmove a b left left", (0, 0)),
        ("lmpop 1 a left", (0, 0)),
        ("ltrim a 0 9", (0, 0)),
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
fn nothing_is_null_in_resp3() {
    let mut bench = Bench::new(1);
    bench.run("hello 3");
    for line in [
        "lpop a",
        "lpop a 2",
        "lmpop 1 a left",
        "lindex a 0",
        "lmove a b left left",
    ] {
        assert_eq!(bench.run(line), "_", "{line}");
    }
}

/// A second client on the first shard.
fn second_client(bench: &Bench) {
    let mut first = bench.shards[0].borrow_mut();
    assert!(first.connect(1, 0, "127.0.0.1:3", "127.0.0.1:2", true));
}

/// What it sends; and what it has been answered.
fn send(bench: &Bench, bytes: &str) -> String {
    let mut first = bench.shards[0].borrow_mut();
    first.receive(1, bytes.as_bytes());
    let client = first.clients.at(1).expect("it is there");
    String::from_utf8_lossy(&client.out.take().to_contiguous()).into_owned()
}

#[test]
fn who_is_served_is_logged_behind_who_has_pushed_and_by_itself() {
    let mut bench = Bench::new(1);
    second_client(&bench);
    assert_eq!(send(&bench, "blmove a b left right 0\r\n"), "");
    bench.forget();
    for line in ["multi", "rpush a x", "set k v", "exec"] {
        bench.run(line);
    }
    assert_eq!(send(&bench, ""), "$1\r\nx\r\n");
    assert_eq!(
        bench.events(),
        [
            "new a", "rpush a", "new k", "set k", "new b", "rpush b", "lpop a", "del a"
        ]
    );
    assert_eq!(bench.logged(0), ["rpush a x", "set k v", "LMOVE a b left right"]);
    send(&bench, "blpop a 0\r\n");
    bench.forget();
    let reader = bench.subscribe(0);
    for line in ["multi", "rpush a x y", "rpush a z", "exec"] {
        bench.run(line);
    }
    let raw = String::from_utf8(bench.read_log(0, reader)).unwrap();
    let (exec_at, pop_at) = (
        raw.find("EXEC").expect("of two effects"),
        raw.find("LPOP").expect("it was served"),
    );
    assert!(exec_at < pop_at, "{raw}");
}

#[test]
fn what_was_ready_while_clients_were_paused_is_served_afterwards() {
    let bench = Bench::new(2);
    second_client(&bench);
    let key = bench.key_on(1, 0);
    send(&bench, &format!("blpop {key} 0\r\n"));
    bench.go_round();
    // The home of the key is paused already, the shard of who pushes is not yet.
    let pause = crate::engine::env::Pause {
        until: crate::base::clock::UnixMs(u64::MAX),
        writes_only: true,
    };
    bench.shards[1].borrow_mut().env.begin_pause(pause);
    let mut bench = bench;
    assert_eq!(bench.run(&format!("rpush {key} x")), ":1");
    assert_eq!(send(&bench, ""), "");
    {
        let mut second = bench.shards[1].borrow_mut();
        let second = &mut *second;
        second.env.end_pause(&mut second.clients);
    }
    bench.go_round();
    assert_eq!(
        send(&bench, ""),
        format!("*2\r\n${}\r\n{key}\r\n$1\r\nx\r\n", key.len())
    );
}

#[test]
fn a_wait_ends_in_the_millisecond_behind_its_deadline_and_is_no_time_of_the_command() {
    for shards in [1, 2] {
        let mut bench = Bench::new(shards);
        second_client(&bench);
        let keys = [0, 1].map(|number| bench.key_on(shards - 1, number));
        let call = format!("blpop {} {} 0.1\r\n", keys[0], keys[1]);
        send(&bench, &call);
        bench.go_round();
        bench.pass(Ms(100));
        bench.go_round();
        assert_eq!(send(&bench, ""), "", "it is never early");
        bench.pass(Ms(1));
        bench.go_round();
        assert_eq!(send(&bench, ""), "*-1\r\n");
        send(&bench, "blpop key 0\r\n");
        bench.go_round();
        bench.pass(Ms(10_000));
        bench.run("rpush key x");
        assert_eq!(send(&bench, ""), "*2\r\n$3\r\nkey\r\n$1\r\nx\r\n");
        assert_eq!(bench.run("slowlog len"), ":0");
        let awaited: usize = bench
            .shards
            .iter()
            .map(|shard| {
                let shard = shard.borrow();
                let slots = shard.core.contents_here();
                slots.map(|(_, slot)| slot.awaited_count()).sum::<usize>()
            })
            .sum();
        assert_eq!(awaited, 0);
    }
}
