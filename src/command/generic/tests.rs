//! What clients do not see of the generic family: effects, events, hits and misses, access clocks; what several shards do together; and the
//! shapes of RESP3. Replies and errors are in `tests/transcripts/generic.txt`.

use crate::base::clock::Ms;
use crate::base::glob;
use crate::base::slot::key_slot;
use crate::command::bench::{Bench, NOW};
use crate::config::{MaxmemoryPolicy, Permission, Settings};
use crate::resp::Proto;
use crate::shard::ConnRef;
use crate::store::DbIndex;
use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

fn adjust(bench: &Bench, change: impl Fn(&mut Settings)) {
    for shard in &bench.shards {
        let mut shard = shard.borrow_mut();
        let mut settings = (*shard.env.settings).clone();
        change(&mut settings);
        shard.env.stats.follow(&settings);
        shard.env.settings = Arc::new(settings);
    }
}

#[test]
fn writes_lead_to_what_they_lead_to_in_redis() {
    for shards in [1, 2] {
        let mut bench = Bench::new(shards);
        bench.run("mset a 1 b 2 c 3 d 4 e 5 f 6");
        bench.run("zadd z 1 m");
        bench.run("zadd y 1 m");
        for shard in 0..shards {
            bench.logged(shard);
        }
        bench.events();
        bench.signals();
        bench.follow(&[
            ("del nothing", &[], &[], &[]),
            (
                "del a b a nothing",
                &["del a b a nothing"],
                &["del a", "del b"],
                &["gone a", "gone b"],
            ),
            ("unlink c", &["unlink c"], &["del c"], &["gone c"]),
            ("exists d nothing", &[], &["keymiss nothing"], &[]),
            ("touch d nothing", &[], &["keymiss nothing"], &[]),
            ("expire d 100", &["PEXPIREAT d 1700000100000"], &["expire d"], &[]),
            ("pexpire d 100 lt", &["PEXPIREAT d 1700000000100"], &["expire d"], &[]),
            ("pexpire d 100 gt", &[], &[], &[]),
            (
                "expireat d 1700000200",
                &["PEXPIREAT d 1700000200000"],
                &["expire d"],
                &[],
            ),
            (
                "pexpireat d 1700000300000 gt",
                &["PEXPIREAT d 1700000300000"],
                &["expire d"],
                &[],
            ),
            ("persist d", &["persist d"], &["persist d"], &[]),
            ("persist d", &[], &[], &[]),
            ("persist nothing", &[], &[], &[]),
            ("expire d 0", &["DEL d"], &["del d"], &["gone d"]),
            ("expire d 0", &[], &[], &[]),
            ("rename nothing e", &[], &[], &[]),
            (
                "rename e g",
                &["rename e g"],
                &["new g", "rename_from e", "rename_to g"],
                &["gone e"],
            ),
            // What was under the new name goes first: the key is new all the same.
            (
                "rename g f",
                &["rename g f"],
                &["new f", "rename_from g", "rename_to f"],
                &["gone g"],
            ),
            ("rename f f", &[], &[], &[]),
            (
                "renamenx f g",
                &["renamenx f g"],
                &["new g", "rename_from f", "rename_to g"],
                &["gone f"],
            ),
            ("renamenx g g", &[], &[], &[]),
            ("renamenx g z", &[], &[], &[]),
            (
                "rename z y",
                &["rename z y"],
                &["new y", "rename_from z", "rename_to y"],
                &["gone y", "ready y", "gone z"],
            ),
            ("copy nothing h", &[], &["keymiss nothing"], &[]),
            ("copy g h", &["copy g h"], &["new h", "copy_to h"], &[]),
            ("copy g h", &[], &[], &[]),
            ("copy g h replace", &["copy g h replace"], &["new h", "copy_to h"], &[]),
            ("copy y x", &["copy y x"], &["new x", "copy_to x"], &["ready x"]),
            (
                "copy y h replace",
                &["copy y h replace"],
                &["new h", "copy_to h"],
                &["ready h"],
            ),
            (
                "copy y h replace",
                &["copy y h replace"],
                &["new h", "copy_to h"],
                &["gone h", "ready h"],
            ),
            ("copy g g db 1", &["copy g g db 1"], &["new g@1", "copy_to g@1"], &[]),
            (
                "move h 2",
                &["move h 2"],
                &["new h@2", "move_from h", "move_to h@2"],
                &["gone h", "ready h@2"],
            ),
            ("move g 1", &[], &[], &[]),
            ("scan 0", &[], &[], &[]),
            ("keys *", &[], &[], &[]),
            ("randomkey", &[], &[], &[]),
            ("type nothing", &[], &["keymiss nothing"], &[]),
            ("ttl nothing", &[], &["keymiss nothing"], &[]),
            ("dump nothing", &[], &["keymiss nothing"], &[]),
            // A miss, but no event.
            ("object encoding nothing", &[], &[], &[]),
            ("object freq nothing", &[], &[], &[]),
            ("memory usage nothing", &[], &[], &[]),
            ("pexpire g 50", &["PEXPIREAT g 1700000000050"], &["expire g"], &[]),
            ("pexpire y 50", &["PEXPIREAT y 1700000000050"], &["expire y"], &[]),
        ]);
        bench.pass(Ms(51));
        bench.follow(&[
            ("del g", &["DEL g"], &["expired g"], &["gone g"]),
            (
                "rename x y",
                &["DEL y", "rename x y"],
                &["expired y", "new y", "rename_from x", "rename_to y"],
                &["gone y", "ready y", "gone x"],
            ),
        ]);
    }
}

#[test]
fn flushing_and_swapping_are_no_events_but_those_who_wait_are_told() {
    for shards in [1, 2] {
        let mut bench = Bench::new(shards);
        bench.follow(&[
            (
                "mset a 1 b 2",
                &["mset a 1 b 2"],
                &["new a", "set a", "new b", "set b"],
                &[],
            ),
            ("flushdb", &["flushdb"], &[], &["flushed 0"]),
            ("flushdb", &["flushdb"], &[], &[]),
            (
                "mset a 1 b 2",
                &["mset a 1 b 2"],
                &["new a", "set a", "new b", "set b"],
                &[],
            ),
            ("copy a a db 3", &["copy a a db 3"], &["new a@3", "copy_to a@3"], &[]),
            ("pexpire a 50", &["PEXPIREAT a 1700000000050"], &["expire a"], &[]),
            ("swapdb 0 3", &["swapdb 0 3"], &[], &["swapped 0 3"]),
            ("swapdb 3 0", &["swapdb 3 0"], &[], &["swapped 3 0"]),
            ("swapdb 3 3", &["swapdb 3 3"], &[], &[]),
            ("watch a", &[], &[], &[]),
        ]);
        bench.pass(Ms(51));
        bench.follow(&[
            // What is watched and is over goes before the exchange; who waits is told in the order of slots.
            (
                "swapdb 0 3",
                &["DEL a", "swapdb 0 3"],
                &["expired a"],
                &["swapped 0 3", "gone a"],
            ),
            ("unwatch", &[], &[], &[]),
            ("flushall async", &["flushall async"], &[], &["flushed 3", "flushed 0"]),
            ("set a 1", &["set a 1"], &["new a", "set a"], &[]),
        ]);
    }
}

#[test]
fn restore_is_logged_with_an_absolute_time() {
    let mut bench = Bench::new(1);
    bench.run("set k 10");
    let reply = bench.run_words(&[b"dump", b"k"]);
    let payload = reply[reply.iter().position(|byte| *byte == b'\n').unwrap() + 1..reply.len() - 2].to_vec();
    bench.logged(0);
    assert_eq!(bench.run_words(&[b"restore", b"n", b"5000", &payload]), b"+OK\r\n");
    let [logged] = &bench.logged(0)[..] else { panic!() };
    assert!(
        logged.starts_with("restore n 1700000005000 ") && logged.ends_with(" ABSTTL"),
        "{logged}"
    );
    assert_eq!(bench.events()[2..], ["new n", "restore n"]);
    assert_eq!(bench.run("pttl n"), ":5000");
    assert_eq!(
        bench.run_words(&[b"restore", b"n", b"0", &payload]),
        b"-BUSYKEY Target key name already exists.\r\n"
    );
    assert!(bench.logged(0).is_empty());
    bench.run_words(&[b"restore", b"n", b"0", &payload, b"replace"]);
    assert!(bench.logged(0)[0].starts_with("restore n 0 "));
    assert_eq!(bench.events(), ["new n", "restore n"]);
    assert_eq!(bench.run("ttl n"), ":-1");
    // A time that is over leaves no key, and nothing to tell if there was none.
    assert_eq!(
        bench.run_words(&[b"restore", b"n", b"1", &payload, b"absttl", b"replace"]),
        b"+OK\r\n"
    );
    assert_eq!(bench.logged(0), ["DEL n"]);
    assert_eq!(
        (bench.events(), bench.signals()),
        (vec!["del n".to_owned()], vec!["gone n".to_owned()])
    );
    assert_eq!(
        bench.run_words(&[b"restore", b"n", b"1", &payload, b"absttl"]),
        b"+OK\r\n"
    );
    assert!(bench.logged(0).is_empty());
    assert_eq!(bench.run("exists n"), ":0");
}

/// With its expiry and its bytes, and as one effect in the log of the shard that did it.
#[test]
fn a_value_goes_to_another_shard() {
    let mut bench = Bench::new(2);
    let (here, there) = (bench.key_on(0, 0), bench.key_on(1, 0));
    let value = "value ".repeat(50);
    bench.run_words(&[b"set", here.as_bytes(), value.as_bytes()]);
    bench.run(&format!("pexpire {here} 7000"));
    let dumped = bench.run_words(&[b"dump", here.as_bytes()]);
    for line in [format!("rename {here} {there}"), format!("copy {there} {here}")] {
        bench.logged(0);
        bench.logged(1);
        bench.run(&line);
        assert_eq!([bench.logged(0), bench.logged(1)].concat(), [line]);
    }
    for key in [here, there] {
        assert_eq!(bench.run_words(&[b"dump", key.as_bytes()]), dumped);
        assert_eq!(bench.run(&format!("pttl {key}")), ":7000");
    }
}

#[test]
fn only_reads_count_hits_and_misses() {
    let mut bench = Bench::new(1);
    bench.run("mset a 1 b 2");
    let steps = [
        ("exists a b nothing", (2, 1)),
        ("touch a nothing", (1, 1)),
        ("type a", (1, 0)),
        ("type nothing", (0, 1)),
        ("ttl a", (1, 0)),
        ("pexpiretime nothing", (0, 1)),
        ("object encoding a", (1, 0)),
        ("object freq nothing", (0, 1)),
        ("dump a", (1, 0)),
        ("copy a c", (1, 0)),
        ("copy nothing c", (0, 1)),
        ("expire a 100", (0, 0)),
        ("persist a", (0, 0)),
        ("rename a d", (0, 0)),
        ("renamenx d a", (0, 0)),
        ("move a 1", (0, 0)),
        ("del nothing", (0, 0)),
        ("unlink b", (0, 0)),
        ("keys *", (0, 0)),
        ("scan 0", (0, 0)),
        ("randomkey", (0, 0)),
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
fn asking_is_not_using() {
    let mut bench = Bench::new(1);
    bench.run("set k 1");
    bench.pass(Ms(90_000));
    for line in [
        "exists k",
        "type k",
        "ttl k",
        "object refcount k",
        "expire k 1000",
        "keys *",
        "scan 0",
        "persist k",
    ] {
        bench.run(line);
        assert_eq!(bench.run("object idletime k"), ":90", "{line}");
    }
    bench.run("rename k moved");
    assert_eq!(bench.run("object idletime moved"), ":90", "a new name is no access");
    bench.run("copy moved copied");
    assert_eq!(bench.run("object idletime copied"), ":0");
    bench.shards[0]
        .borrow_mut()
        .clients
        .at(0)
        .unwrap()
        .session
        .leaves_clocks = true;
    bench.pass(Ms(30_000));
    bench.run("dump copied");
    assert_eq!(bench.run("object idletime copied"), ":30");
    bench.run("touch copied");
    assert_eq!(bench.run("object idletime copied"), ":0", "TOUCH is meant, even then");
}

#[test]
fn frequencies_need_their_policy() {
    let mut bench = Bench::new(1);
    adjust(&bench, |settings| {
        settings.maxmemory_policy = MaxmemoryPolicy::AllkeysLfu
    });
    bench.run("set k 1");
    assert_eq!(bench.run("object freq k"), ":5");
    assert_eq!(bench.run("object freq nothing"), "$-1");
    assert!(
        bench
            .run("object idletime k")
            .starts_with("-ERR An LFU maxmemory policy is selected, idle time")
    );
    bench.run("touch k");
    assert_eq!(bench.run("object freq k"), ":6");
    let reply = bench.run_words(&[b"dump", b"k"]);
    let payload = reply[reply.iter().position(|byte| *byte == b'\n').unwrap() + 1..reply.len() - 2].to_vec();
    bench.run_words(&[b"restore", b"f", b"0", &payload, b"freq", b"200"]);
    assert_eq!(bench.run("object freq f"), ":200");
    // Small integers are shared only while no access clock is needed for each.
    assert_eq!(bench.run("object refcount k"), ":2147483647");
    adjust(&bench, |settings| settings.maxmemory = 1 << 30);
    assert_eq!(bench.run("object refcount k"), ":1");
    adjust(&bench, |settings| {
        settings.maxmemory_policy = MaxmemoryPolicy::Noeviction
    });
    bench.run_words(&[b"restore", b"i", b"0", &payload, b"idletime", b"77"]);
    assert_eq!(bench.run("object idletime i"), ":77");
}

#[test]
fn large_values_are_freed_in_the_background() {
    let mut bench = Bench::new(1);
    let large = vec![b'x'; 100_000];
    bench.run_words(&[b"set", b"large", &large]);
    bench.run("set small 1");
    assert_eq!(bench.run("unlink large small"), ":2");
    assert_eq!(bench.shards[0].borrow().env.garbage.pending_count(), 1);
    bench.run_words(&[b"set", b"large", &large]);
    assert_eq!(bench.run("del large"), ":1");
    assert_eq!(
        bench.shards[0].borrow().env.garbage.pending_count(),
        1,
        "DEL frees at once"
    );
    adjust(&bench, |settings| settings.lazyfree_lazy_user_del = true);
    bench.run_words(&[b"set", b"large", &large]);
    bench.run("del large");
    assert_eq!(bench.shards[0].borrow().env.garbage.pending_count(), 2);
}

#[test]
fn expired_keys_are_gone_for_everyone() {
    let mut bench = Bench::new(2);
    for n in 0..20 {
        bench.run(&format!("set k{n} 1 px 50"));
    }
    bench.run("set stays 1");
    bench.pass(Ms(51));
    assert_eq!(bench.run("keys *"), "*1|$5|stays");
    for _ in 0..10 {
        assert_eq!(bench.run("randomkey"), "$5|stays");
    }
    assert_eq!(bench.run("exists k1 k2 stays"), ":1");
    assert_eq!(bench.run("ttl k1"), ":-2");
    assert_eq!(bench.run("renamenx stays k1"), ":1");
    assert_eq!(walk(&mut bench, "").0, BTreeSet::from(["k1".into()]));
}

/// Walks through the keyspace with SCAN: the keys, and how many calls it took.
fn walk(bench: &mut Bench, options: &str) -> (BTreeSet<String>, usize) {
    let (mut keys, mut calls, mut cursor) = (BTreeSet::new(), 0, "0".to_owned());
    loop {
        let reply = bench.run(format!("scan {cursor} {options}").trim_end());
        // *2 | $n | cursor | *k | $n | key | ...
        let parts: Vec<&str> = reply.split('|').collect();
        assert_eq!(parts[0], "*2", "{reply}");
        cursor = parts[2].to_owned();
        assert!(cursor.parse::<u64>().unwrap() < 1 << 53);
        keys.extend(parts[4..].iter().skip(1).step_by(2).map(|key| (*key).to_owned()));
        calls += 1;
        if cursor == "0" {
            return (keys, calls);
        }
    }
}

#[test]
fn small_keyspaces_end_in_one_call() {
    for shards in [1, 2, 4] {
        let mut bench = Bench::new(shards);
        assert_eq!(walk(&mut bench, ""), (BTreeSet::new(), 1), "empty, {shards} shards");
        let mut all = BTreeSet::new();
        // COUNT of them end it too: the last call is not one in vain.
        for n in 0..10 {
            all.insert(format!("k{n}"));
            bench.run(&format!("set k{n} {n}"));
            assert_eq!(walk(&mut bench, ""), (all.clone(), 1), "{n}, {shards} shards");
        }
        bench.run("set k10 10");
        all.insert("k10".to_owned());
        assert_eq!(walk(&mut bench, ""), (all.clone(), 2), "{shards} shards");
        assert_eq!(walk(&mut bench, "count 11"), (all, 1), "{shards} shards");
        bench.run("select 9");
        assert_eq!(walk(&mut bench, ""), (BTreeSet::new(), 1), "another db");
        bench.run("select 0");
        bench.run("set {tag}a 1");
        assert_eq!(walk(&mut bench, "match {tag}*"), (BTreeSet::from(["{tag}a".into()]), 1));
        assert_eq!(walk(&mut bench, "match k3"), (BTreeSet::from(["k3".into()]), 1));
        assert!(walk(&mut bench, "type list").0.is_empty());
        assert_eq!(bench.run("keys {tag}?"), "*1|$6|{tag}a");
    }
}

/// Keys that were deleted, one by one or as they expired, leave slots behind that seem to have some.
#[test]
fn a_keyspace_that_was_large_ends_in_one_call() {
    for shards in [1, 2, 4] {
        let mut bench = Bench::new(shards);
        for n in 0..60 {
            bench.run(&format!("set gone{n} 1 px 100"));
            bench.run(&format!("set k{n} 1"));
        }
        for n in 1..60 {
            bench.run(&format!("del k{n}"));
        }
        bench.pass(Ms(101));
        let rest = (BTreeSet::from(["k0".to_owned()]), 1);
        assert_eq!(walk(&mut bench, ""), rest, "{shards} shards");
        let occupancy = bench.shards[0].borrow().node.occupancy.clone();
        let seeming: Vec<u16> = std::iter::successors(occupancy.next_occupied(DbIndex(0), 0), |slot| {
            occupancy.next_occupied(DbIndex(0), slot + 1)
        })
        .collect();
        assert!(seeming.contains(&key_slot(b"k0")));
        // A slot in which SCAN itself had keys expire is forgotten by the next one.
        assert_eq!(walk(&mut bench, ""), rest, "{shards} shards");
        assert_eq!(occupancy.next_occupied(DbIndex(0), key_slot(b"k0") + 1), None);
        assert_eq!(occupancy.next_occupied(DbIndex(0), 0), Some(key_slot(b"k0")));
    }
}

/// Other shards learn that a slot is empty only from what is written.
#[test]
fn scan_tells_of_no_empty_slot_before_that_is_written() {
    let mut bench = Bench::new(2);
    let key = bench.key_on(0, 0);
    let occupancy = bench.shards[0].borrow().node.occupancy.clone();
    let seems_to_have_keys = || occupancy.next_occupied(DbIndex(0), 0).is_some();
    bench.run(&format!("set {key} 1"));
    let requests = format!("del {key}\r\nscan 0\r\n");
    bench.shards[0].borrow_mut().receive(0, requests.as_bytes());
    assert!(seems_to_have_keys(), "the pass is not released");
    bench.run("ping");
    assert!(seems_to_have_keys(), "nobody has looked since");
    bench.run("scan 0");
    assert!(!seems_to_have_keys());
}

#[test]
fn scan_inside_a_transaction_sees_what_it_has_done() {
    for shards in [1, 2, 4] {
        let mut bench = Bench::new(shards);
        let expected = BTreeSet::from(["a", "b", "c"].map(str::to_owned));
        bench.run("mset a 1 b 2");
        for step in ["multi", "del a b", "scan 0", "mset a 1 b 2 c 3", "scan 0", "del c"] {
            bench.run(step);
        }
        let reply = bench.run("exec");
        let parts: Vec<&str> = reply.split('|').collect();
        assert_eq!(parts[..8], ["*5", ":2", "*2", "$1", "0", "*0", "+OK", "*2"], "{reply}");
        let keys: BTreeSet<String> = parts[11..]
            .iter()
            .skip(1)
            .step_by(2)
            .take(3)
            .map(|key| (*key).to_owned())
            .collect();
        assert_eq!(keys, expected, "{reply}");
        // What a SCAN has found empty in a transaction is not forgotten.
        assert_eq!(walk(&mut bench, "").0, BTreeSet::from(["a", "b"].map(str::to_owned)));
    }
}

/// SCAN's promise, over all slots: what is there from the first call to the last is answered, whatever else comes and goes,
/// and nothing is that never was.
#[test]
fn scan_answers_every_key_that_stays() {
    for seed in 0..6 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bench = Bench::new([1, 2, 4][seed as usize % 3]);
        // Half of them in one slot, so that one table grows and shrinks while it is walked through.
        let name = |n: usize| {
            if n.is_multiple_of(2) {
                format!("{{t}}{n}")
            } else {
                format!("key:{n}")
            }
        };
        let stays: Vec<String> = (0..300).map(name).collect();
        for key in &stays {
            bench.run(&format!("set {key} 1"));
        }
        let mut met = HashSet::new();
        let mut cursor = "0".to_owned();
        let pattern = ["*", "*1*"][seed as usize % 2];
        loop {
            for _ in 0..random.usize(..20) {
                let guest = name(random.usize(1000..4000));
                bench.run(&if random.bool() {
                    format!("set {guest} 1")
                } else {
                    format!("del {guest}")
                });
            }
            let reply = bench.run(&format!("scan {cursor} match {pattern} count {}", random.usize(1..40)));
            let parts: Vec<&str> = reply.split('|').collect();
            cursor = parts[2].to_owned();
            met.extend(parts[4..].iter().skip(1).step_by(2).map(|key| (*key).to_owned()));
            if cursor == "0" {
                break;
            }
        }
        for key in stays
            .iter()
            .filter(|key| glob::matches(pattern.as_bytes(), key.as_bytes()))
        {
            assert!(met.contains(key), "seed {seed}: {key} was missed");
        }
        assert!(met.iter().all(|key| glob::matches(pattern.as_bytes(), key.as_bytes())));
    }
}

#[test]
fn keys_and_randomkey_see_all_shards_and_one_db() {
    let mut bench = Bench::new(3);
    let expected: BTreeSet<String> = (0..60).map(|n| format!("k{n}")).collect();
    for key in &expected {
        bench.run(&format!("set {key} 1"));
    }
    bench.run("copy k1 other db 1");
    let reply = bench.run("keys k*");
    let parts: Vec<&str> = reply.split('|').collect();
    assert_eq!(parts[0], "*60");
    assert_eq!(
        parts[1..]
            .iter()
            .skip(1)
            .step_by(2)
            .map(|key| (*key).to_owned())
            .collect::<BTreeSet<_>>(),
        expected
    );
    let drawn: HashSet<String> = (0..400).map(|_| bench.run("randomkey")).collect();
    assert!(drawn.len() > 40, "{} of 60 keys drawn in 400 times", drawn.len());
    bench.run("select 1");
    assert_eq!(bench.run("keys *"), "*1|$5|other");
    assert_eq!(bench.run("randomkey"), "$5|other");
}

#[test]
fn wait_waits_only_for_replicas_that_are_wanted() {
    let mut bench = Bench::new(1);
    assert_eq!(bench.run("wait 0 100"), ":0");
    assert_eq!(bench.run("wait 1 3"), ":0", "some naps, and the time is over");
    assert_eq!(bench.run("wait -1 0"), ":0");
    assert_eq!(bench.run("wait x 0"), "-ERR value is not an integer or out of range");
    assert_eq!(bench.run("wait 0 x"), "-ERR timeout is not an integer or out of range");
    assert_eq!(bench.run("wait 0 -1"), "-ERR timeout is negative");
    assert_eq!(bench.run("wait 0 9223372036854775807"), "-ERR timeout is out of range");
    bench.run("multi");
    bench.run("wait 1 0");
    assert_eq!(bench.run("exec"), "*1|:0", "a transaction does not wait");
    assert_eq!(bench.run("wait 1 0"), "", "for ever");
}

#[test]
fn shapes_of_resp3() {
    let mut bench = Bench::new(1);
    bench.shards[0].borrow_mut().clients.at(0).unwrap().session.proto = Proto::Resp3;
    assert_eq!(bench.run("randomkey"), "_");
    assert_eq!(bench.run("dump nothing"), "_");
    assert_eq!(bench.run("object encoding nothing"), "_");
    assert_eq!(bench.run("object refcount nothing"), "_");
    assert_eq!(bench.run("keys *"), "*0");
    assert_eq!(bench.run("scan 0"), "*2|$1|0|*0");
    assert_eq!(bench.run("type nothing"), "+none");
}

#[test]
fn times_are_those_of_the_unit_of_work() {
    let mut bench = Bench::new(1);
    bench.run("set k 1");
    assert_eq!(bench.run("expire k 10"), ":1");
    assert_eq!(bench.run("pexpiretime k"), format!(":{}", NOW.0 + 10_000));
    assert_eq!(bench.run("expiretime k"), format!(":{}", NOW.0 / 1000 + 10));
    assert_eq!(bench.run("pttl k"), ":10000");
    bench.pass(Ms(500));
    assert_eq!(bench.run("ttl k"), ":10");
    bench.pass(Ms(1));
    assert_eq!(bench.run("ttl k"), ":9");
}

/// Fills a key with a value of each type that takes several steps to copy.
fn fill_large(bench: &mut Bench, key: &str, kind: &str) {
    let long = "x".repeat(4000);
    for batch in 0..if kind == "stream" { 84 } else { 21 } {
        let numbers = batch * 1000..(batch + 1) * 1000;
        let words: Vec<String> = match kind {
            "set" => numbers.map(|n| format!("member {n}")).collect(),
            "hash" => numbers.flat_map(|n| [format!("field {n}"), n.to_string()]).collect(),
            "zset" => numbers
                .flat_map(|n| [(n % 777).to_string(), format!("member {n}")])
                .collect(),
            "list" => (0..20).map(|n| format!("{batch} {n} {long}")).collect(),
            _ => ["*", "field", &long.repeat(10)].map(str::to_owned).into(),
        };
        let command = match kind {
            "set" => "sadd",
            "hash" => "hset",
            "zset" => "zadd",
            "list" => "rpush",
            _ => "xadd",
        };
        let words = [command, key].into_iter().chain(words.iter().map(String::as_str));
        bench.run_words(&words.map(str::as_bytes).collect::<Vec<_>>());
    }
    if kind == "hash" {
        bench.run_words(&[b"hpexpire", key.as_bytes(), b"90000", b"FIELDS", b"1", b"field 7"]);
    }
    if kind == "stream" {
        bench.run(&format!("xgroup create {key} group 0"));
        bench.run(&format!("xreadgroup group group consumer count 5 streams {key} >"));
    }
}

/// To a shard that has saved its slot already, while what the value was is still to be saved by the other one.
#[test]
fn a_large_value_that_must_stay_for_a_snapshot_is_renamed_in_steps() {
    for is_walked in [false, true] {
        let mut bench = Bench::new(2);
        adjust(&bench, |settings| settings.enable_debug_command = Permission::Yes);
        let (source, target) = (bench.key_on(0, 0), bench.key_on(1, 1));
        fill_large(&mut bench, &source, "set");
        bench.run(&format!("set {target} old"));
        let digest = bench.run(&format!("debug digest-value {source}"));
        bench.shards[0].borrow().env.cut.open();
        let first_frozen = |bench: &Bench, shard: usize, key: &str, walks: bool| {
            let mut shard = bench.shards[shard].borrow_mut();
            let (slot, connection) = (key_slot(key.as_bytes()), ConnRef::background(shard.env.shard));
            let mut view = shard.core.try_view(&[slot], connection).expect("it is at home");
            let content = view.slot(slot).expect("the view was given this slot");
            assert!(!walks || content.save_some(|_, _| ControlFlow::Continue(())));
            content.first_frozen().cloned()
        };
        assert_eq!(first_frozen(&bench, 1, &target, is_walked), None);
        bench.forget();
        bench.steps.take();
        let line = format!("rename {source} {target}");
        assert_eq!(bench.run(&line), "+OK");
        assert_eq!(bench.steps.take() >= 2, is_walked);
        assert_eq!(bench.logged_anywhere(), [line]);
        assert_eq!(bench.run(&format!("debug digest-value {target}")), digest);
        assert_eq!(bench.run(&format!("exists {source}")), ":0");
        let at = if is_walked { (0, &source) } else { (1, &target) };
        let frozen = first_frozen(&bench, at.0, at.1, false).expect("it is still to be saved");
        assert_eq!(*frozen.key, *source.as_bytes());
    }
}

/// It is whole, and all that follows from it follows once.
#[test]
fn a_large_value_is_copied_in_steps() {
    for (shards, kind) in [
        (1, "set"),
        (2, "hash"),
        (1, "zset"),
        (2, "list"),
        (1, "stream"),
        (2, "set"),
    ] {
        let mut bench = Bench::new(shards);
        adjust(&bench, |settings| settings.enable_debug_command = Permission::Yes);
        let (source, target) = (bench.key_on(0, 0), bench.key_on(shards - 1, 1));
        fill_large(&mut bench, &source, kind);
        bench.run(&format!("pexpire {source} 7000"));
        bench.run(&format!("set {target} old"));
        bench.forget();
        bench.steps.take();
        let line = format!("copy {source} {target}");
        bench.follow(&[(&line, &[], &[], &[])]);
        assert_eq!(bench.steps.take(), 0, "what is there already is not written over");
        let hits = bench.hits_and_misses().0;
        let replacing = format!("{line} replace");
        assert_eq!(bench.run(&replacing), ":1");
        assert!(bench.steps.take() >= 2, "{kind}");
        assert_eq!(bench.logged_anywhere(), [replacing]);
        assert_eq!(bench.events(), [format!("new {target}"), format!("copy_to {target}")]);
        assert_eq!(bench.hits_and_misses().0 - hits, 1, "it is read once");
        assert_eq!(bench.run(&format!("pttl {target}")), ":7000");
        let same = |bench: &mut Bench, one: &str, other: &str| {
            for question in ["object encoding", "debug digest-value", "xpending", "hpexpiretime"] {
                let answers = [one, other].map(|key| match question {
                    "xpending" => bench.run(&format!("xpending {key} group")),
                    "hpexpiretime" => {
                        let words = [&b"hpexpiretime"[..], key.as_bytes(), b"fields", b"1", b"field 7"];
                        String::from_utf8(bench.run_words(&words)).unwrap()
                    }
                    _ => bench.run(&format!("{question} {key}")),
                });
                assert_eq!(answers[0], answers[1], "{question} of {kind}");
                let is_asked_in_vain = match question {
                    "xpending" => kind != "stream",
                    "hpexpiretime" => kind != "hash",
                    _ => false,
                };
                assert_eq!(answers[0].starts_with('-'), is_asked_in_vain, "{answers:?}");
            }
        };
        same(&mut bench, &source, &target);
        // The other way, in a transaction: at once.
        bench.run(&format!("del {source}"));
        bench.run("multi");
        bench.run(&format!("copy {target} {source}"));
        assert_eq!(bench.run("exec"), "*1|:1");
        assert_eq!(bench.steps.take(), 0);
        same(&mut bench, &source, &target);
    }
}
