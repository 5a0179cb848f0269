//! Client-side caching over TCP, at 1, 2 and 4 shards: scenes that real servers play as well, caches that never keep what is old, and the bounds of
//! what is remembered.

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use support::scenes::{Heard, scenes};
use support::{Client, Oracle, Server, Value, eventually};

const SHARD_COUNTS: [usize; 3] = [1, 2, 4];

/// See there.
const SCENES: &str = include_str!("support/tracking.txt");

/// Scenes in which 8.2 does otherwise than 7.0 and Valkey: FLUSHALL is answered there when another thread has done its work, behind what it tells.
const NOT_AS_IN_8_2: &[&str] = &["own flush"];
/// Scenes in which 7.0 does otherwise than 7.2 and later ones: what a script reads are the keys that it declares there.
const NOT_AS_IN_7_0: &[&str] = &["scripts read and write"];

#[test]
fn scenes_are_played_as_by_a_real_server() {
    let oracles = [Oracle::Redis70, Oracle::Redis82, Oracle::Valkey91].map(|oracle| oracle.start(&[]));
    let [Some(older), Some(newer), Some(valkey)] = oracles else {
        return;
    };
    let scenes = scenes(SCENES);
    let mut differences = Vec::new();
    let mut expected = Vec::new();
    for scene in &scenes {
        let [older, newer, valkey] = [&older, &newer, &valkey].map(|server| scene.play(server));
        let is_known = |scenes: &[&str], other: &Heard| (valkey == *other) != scenes.contains(&scene.name);
        if !is_known(NOT_AS_IN_7_0, &older) || !is_known(NOT_AS_IN_8_2, &newer) {
            differences.push(format!(
                "{}: {older:#?} in 7.0, {newer:#?} in 8.2, {valkey:#?} in Valkey",
                scene.name
            ));
        }
        expected.push(valkey);
    }
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        for (scene, expected) in scenes.iter().zip(&expected) {
            let heard = scene.play(&server);
            for (name, expected) in expected {
                if heard[name] != *expected {
                    differences.push(format!(
                        "{} with {shards} shards: {name} hears\n  {:?}\ninstead of\n  {expected:?}",
                        scene.name, heard[name]
                    ));
                }
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// A client that caches what it reads, as such clients do: until it is told that it has changed.
struct Cache {
    client: Client,
    kept: HashMap<String, u64>,
}

/// How it has its keys tracked.
const MODES: &[&str] = &[
    "client tracking on",
    "client tracking on",
    "client tracking on bcast prefix k",
    "client tracking on optout",
];

impl Cache {
    fn new(server: &Server, mode: &str) -> Cache {
        let mut client = server.client_resp3();
        assert_eq!(client.line(mode).text(), "OK");
        Cache {
            client,
            kept: HashMap::new(),
        }
    }

    /// Sends commands at once, and takes in all that comes until they are answered; the replies.
    fn call(&mut self, commands: &[Vec<String>]) -> Vec<Value> {
        let bytes: Vec<u8> = commands
            .iter()
            .flat_map(|words| support::client::encode(words))
            .collect();
        self.client.send(&bytes).expect("the server reads");
        let mut replies = Vec::new();
        while replies.len() < commands.len() {
            let reply = self.client.reply();
            match reply {
                Value::Push(items) => self.take_in(&items),
                reply => {
                    let words = &commands[replies.len()];
                    self.keep(words, &reply);
                    replies.push(reply);
                }
            }
        }
        replies
    }

    /// What a command has read is kept from when its reply is there.
    fn keep(&mut self, words: &[String], reply: &Value) {
        let read = |value: &Value| match value {
            Value::Nil => 0,
            value => value.text().parse().expect("a number"),
        };
        match words[0].as_str() {
            "get" => {
                self.kept.insert(words[1].clone(), read(reply));
            }
            "mget" => {
                let Value::Array(values) = reply else { panic!("{reply}") };
                for (key, value) in words[1..].iter().zip(values) {
                    self.kept.insert(key.clone(), read(value));
                }
            }
            _ => {}
        }
    }

    fn take_in(&mut self, push: &[Value]) {
        assert_eq!(push[0].text(), "invalidate");
        match &push[1] {
            Value::Nil => self.kept.clear(),
            Value::Array(keys) => self.kept.retain(|kept, _| keys.iter().all(|key| key.text() != *kept)),
            other => panic!("{other}"),
        }
    }
}

const KEY_COUNT: u64 = 24;
const WRITES_EACH: u64 = 400;

fn key(number: u64) -> String {
    format!("k{}", number % KEY_COUNT)
}

/// Each key has one writer, whose values only grow, and who says what is written when that is answered. A cache reads keys through itself, and asks
/// itself what it has: a key that it keeps must be as new as what was answered to the writer before the cache last heard anything.
#[test]
fn no_cache_keeps_what_is_older_than_what_it_was_told() {
    for shards in SHARD_COUNTS {
        for options in [&[][..], &["--appendonly", "yes"]] {
            let server = Server::shardis(shards, options);
            let written: Vec<std::sync::atomic::AtomicU64> = (0..KEY_COUNT).map(|_| 0.into()).collect();
            let is_over = AtomicBool::new(false);
            let (written, is_over) = (&written[..], &is_over);
            std::thread::scope(|scope| {
                let writers: Vec<_> = (0..3)
                    .map(|writer| {
                        let client = server.client();
                        scope.spawn(move || write(writer, client, written))
                    })
                    .collect();
                let readers: Vec<_> = MODES
                    .iter()
                    .enumerate()
                    .map(|(number, mode)| {
                        let cache = Cache::new(&server, mode);
                        scope.spawn(move || read(number as u64, cache, written, is_over))
                    })
                    .collect();
                writers.into_iter().for_each(|writer| writer.join().expect("it writes"));
                is_over.store(true, Ordering::SeqCst);
                let mut hits = 0;
                for reader in readers {
                    hits += reader.join().expect("its cache is never stale");
                }
                assert!(hits > 0, "{shards} shards: something is kept for a while");
            });
        }
    }
}

fn write(writer: u64, mut client: Client, written: &[std::sync::atomic::AtomicU64]) {
    for value in 1..=WRITES_EACH {
        // Keys of this writer only, so that each key's values are in order.
        let own = |at: u64| (value.wrapping_mul(7) + at) % (KEY_COUNT / 3) * 3 + writer;
        let (one, other) = (own(0), own(1));
        let text = value.to_string();
        match value % 4 {
            0 => {
                client.call(&["mset", &key(one), &text, &key(other), &text]);
            }
            1 => {
                client.line("multi");
                client.call(&["set", &key(one), &text]);
                client.call(&["set", &key(other), &text]);
                client.line("exec");
            }
            _ => {
                let set = |number| support::client::encode(&["set", &key(number), &text]);
                client.send(&[set(one), set(other)].concat()).expect("the server reads");
                client.reply();
                client.reply();
            }
        }
        written[one as usize].store(value, Ordering::SeqCst);
        written[other as usize].store(value, Ordering::SeqCst);
    }
}

/// How often it has found in its cache what it looked for.
fn read(number: u64, mut cache: Cache, written: &[std::sync::atomic::AtomicU64], is_over: &AtomicBool) -> usize {
    let (mut hits, mut at) = (0, number);
    loop {
        let ends = is_over.load(Ordering::SeqCst);
        at = at.wrapping_mul(5).wrapping_add(3);
        // What it has not it reads, in one of the ways in which one can.
        let wanted: Vec<String> = (0..4).map(|offset| key(at + offset)).collect();
        let missing: Vec<String> = wanted.into_iter().filter(|key| !cache.kept.contains_key(key)).collect();
        hits += 4 - missing.len();
        let read = |key: &String| vec!["get".to_owned(), key.clone()];
        let commands: Vec<Vec<String>> = match at % 3 {
            0 => missing.iter().map(read).collect(),
            _ if missing.is_empty() => Vec::new(),
            1 => vec![[vec!["mget".to_owned()], missing].concat()],
            _ => missing.iter().map(read).chain([vec!["ping".to_owned()]]).collect(),
        };
        cache.call(&commands);
        // All that was answered to a writer by now has been told when the cache hears of anything after it.
        let known: Vec<u64> = written.iter().map(|value| value.load(Ordering::SeqCst)).collect();
        cache.call(&[vec!["ping".to_owned()]]);
        for (key, value) in &cache.kept {
            let number: usize = key[1..].parse().expect("a number");
            assert!(
                *value >= known[number],
                "client {number} keeps {value} of {key}, which was {}",
                known[number]
            );
        }
        if ends {
            return hits;
        }
    }
}

#[test]
fn own_invalidations_come_behind_the_reply_in_a_pipeline() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        let mut client = server.client_resp3();
        client.line("client tracking on");
        let mut requests = Vec::new();
        for number in 0..50 {
            requests.extend(support::client::encode(&["get", &format!("key:{number}")]));
            requests.extend(support::client::encode(&["set", &format!("key:{number}"), "x"]));
        }
        client.send(&requests).expect("the server reads");
        let (mut replies, mut told) = (0, Vec::new());
        while replies < 100 || told.len() < 50 {
            match client.reply() {
                Value::Push(items) => {
                    let key = items[1].clone().items()[0].text();
                    let number: usize = key["key:".len()..].parse().expect("a number");
                    assert!(
                        replies >= 2 * number + 2,
                        "{shards} shards: {key} after {replies} replies"
                    );
                    told.push(number);
                }
                _ => replies += 1,
            }
        }
        told.sort_unstable();
        assert_eq!(told, (0..50).collect::<Vec<_>>());
    }
}

#[test]
fn what_ends_by_itself_is_told() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        let mut other = server.client();
        let mut client = server.client_resp3();
        client.line("client tracking on noloop");
        // Its time is over, and nobody looks. Who reads too late reads the next one.
        let read = (0..).find_map(|number| {
            let soon = format!("soon:{number}");
            other.line(&format!("set {soon} 1 px 50"));
            (client.line(&format!("get {soon}")) != Value::Nil).then_some(soon)
        });
        assert_eq!(told(&client.reply()), [read.expect("one of them is read in time")]);
        other.line("mset a 1 b 2");
        client.line("mget a b");
        // Evicted.
        other.line("config set maxmemory-policy allkeys-random");
        other.line("config set maxmemory 1");
        let mut gone = [client.reply(), client.reply()].map(|push| told(&push).concat());
        gone.sort();
        assert_eq!(gone, ["a", "b"]);
        other.line("config set maxmemory 0");
    }
}

/// The keys of a push.
fn told(push: &Value) -> Vec<String> {
    let Value::Push(items) = push else {
        panic!("{push} is no push")
    };
    assert_eq!(items[0].text(), "invalidate");
    items[1].clone().items().iter().map(Value::text).collect()
}

#[test]
fn what_is_tracked_is_shown_and_forgotten_with_its_clients() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        let figures = |server: &Server| {
            let stats = ["keys", "items", "prefixes"];
            let stats = stats.map(|what| server.info_number("stats", &format!("tracking_total_{what}")));
            (server.info_number("clients", "tracking_clients"), stats)
        };
        let mut clients: Vec<Client> = (0..4).map(|_| server.client_resp3()).collect();
        for client in &mut clients {
            client.line("client tracking on");
            client.line("mget a b c");
        }
        clients[0].line("get d");
        let mut broad = server.client();
        let id = clients[0].line("client id").integer();
        broad.line(&format!("client tracking on bcast prefix x prefix y redirect {id}"));
        assert_eq!(figures(&server), (5, [4, 13, 2]));
        let list = server.client().line("client list").text();
        let shown = |flags: &str, redirect: &str| {
            let (flags, redirect) = (format!(" flags={flags} "), format!(" redir={redirect} "));
            list.lines()
                .filter(|line| line.contains(&flags) && line.contains(&redirect))
                .count()
        };
        assert_eq!((shown("t", "0"), shown("tB", &id.to_string())), (4, 1), "{list}");
        assert!(shown("N", "-1") > 0, "{list}");
        server.client().line("set b 1");
        assert_eq!(figures(&server), (5, [3, 9, 2]));
        // Of those who have gone nothing stays.
        clients.truncate(1);
        eventually("what they have read is forgotten", || {
            figures(&server) == (2, [3, 3, 2])
        });
        drop(clients);
        eventually("it is known that who was to hear has gone", || {
            server.client().line("set x1 1");
            let info = broad.line("client trackinginfo").to_string();
            info.contains("broken_redirect")
        });
        let list = server.client().line("client list").text();
        assert!(list.contains(" flags=tRB "), "{list}");
        drop(broad);
        eventually("nothing is left", || figures(&server) == (0, [0, 0, 0]));
    }
}

#[test]
fn beyond_the_limit_keys_are_taken_for_changed() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &["--tracking-table-max-keys", "50"]);
        let mut client = server.client_resp3();
        client.line("client tracking on");
        let total = |what: &str| server.info_number("stats", &format!("tracking_total_{what}"));
        let mut kept = HashMap::new();
        for number in 0..300 {
            let name = format!("key:{number}");
            client
                .send(&support::client::encode(&["get", &name]))
                .expect("the server reads");
            while let Value::Push(items) = client.reply() {
                let key = items[1].clone().items()[0].text();
                assert!(kept.remove(&key).is_some(), "{key} was told already");
            }
            kept.insert(name, ());
        }
        eventually("it is below the limit", || total("keys") <= 50);
        // What is not tracked was told.
        client
            .send(&support::client::encode(&["ping"]))
            .expect("the server reads");
        while let Value::Push(items) = client.reply() {
            assert!(kept.remove(&items[1].clone().items()[0].text()).is_some());
        }
        assert_eq!(kept.len() as u64, total("keys"));
        // Nor may many clients have few keys each without bound: ten times as many as keys.
        let mut clients: Vec<Client> = (0..60).map(|_| server.client()).collect();
        for client in &mut clients {
            client.line("client tracking on");
            client.line("mget a b c d e f g h i j k l m n o p q r s t");
        }
        eventually("it is below that, too", || total("items") <= 500);
        server.client().line("config set tracking-table-max-keys 0");
        for client in &mut clients {
            client.line("mget a b c d e f g h i j k l m n o p q r s t");
        }
        assert!(total("items") >= 1200);
    }
}

/// Thousands who want all keys, and do not read, cost a writer no more than their limits say, and end by them.
#[test]
fn who_does_not_read_ends_and_holds_nobody_up() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &["--client-output-buffer-limit", "normal 64kb 0 0"]);
        let mut deaf: Vec<Client> = (0..20).map(|_| server.client_resp3()).collect();
        for client in &mut deaf {
            client.line("client tracking on bcast");
        }
        let mut writer = server.client();
        let name = "x".repeat(20_000);
        let mut writes = 0;
        while server.info_number("clients", "tracking_clients") > 0 {
            assert_eq!(writer.call(&["set", &name, "1"]).text(), "OK");
            writes += 1;
            assert!(writes < 100_000, "they end some time");
        }
        assert_eq!(server.info_number("stats", "tracking_total_prefixes"), 0);
    }
}
