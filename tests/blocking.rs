//! Clients that wait for keys, seen through real sockets: who is served, with what, and in which order.
//!
//! Most of it stands in scenes, which shardis plays with 1, 2 and 4 shards, in RESP2 and RESP3, and the real servers as well; all must say
//! the same.
//!
//! ```text
//! a & BLPOP list 0      a sends this, and is blocked by it
//! b > LPUSH list x      b sends this and reads the answer
//! a ?                   a reads an answer
//! ```

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::client::encode;
use support::value::split_words;
use support::{Client, Oracle, Server, Value, eventually};

const SHARD_COUNTS: [usize; 3] = [1, 2, 4];

/// Plays a scene; what its clients read, line by line.
fn play(server: &Server, scene: &str, is_resp3: bool) -> Vec<String> {
    let mut control = server.client();
    control.line("FLUSHALL");
    let mut clients: HashMap<&str, Client> = HashMap::new();
    let mut ids: HashMap<&str, i64> = HashMap::new();
    let mut seen = Vec::new();
    for line in scene.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, rest) = line.split_once(' ').expect("a client and what it does");
        let client = clients.entry(name).or_insert_with(|| {
            let mut client = match is_resp3 {
                true => server.client_resp3(),
                false => server.client(),
            };
            ids.insert(name, client.line("CLIENT ID").integer());
            client
        });
        let (sign, command) = rest.split_at(1);
        let command = command.trim();
        let mut words = split_words(command).expect("balanced quotes");
        for word in &mut words {
            // The id of a client.
            if let Some(id) = word
                .strip_prefix(b"@")
                .and_then(|name| ids.get(std::str::from_utf8(name).ok()?))
            {
                *word = id.to_string().into_bytes();
            }
        }
        match sign {
            ">" | "?" => {
                if sign == ">" {
                    client.send(&encode(&words)).expect("the server reads");
                }
                let reply = client.try_raw_reply();
                let (_, bytes) = reply.unwrap_or_else(|error| panic!("{}: {line}: {error}\n{scene}", server.name));
                seen.push(format!("{line}: {}", bytes.escape_ascii()));
            }
            "&" => {
                client.send(&encode(&words)).expect("the server reads");
                let id = format!("id={} ", ids[name]);
                eventually(line, || {
                    let list = control.call(&["CLIENT", "LIST"]).text();
                    let of_client = list.lines().find(|line| line.starts_with(&id));
                    of_client.is_some_and(|line| line.contains("flags=b"))
                });
            }
            other => panic!("{other}: no such sign"),
        }
    }
    // Nobody is left that another scene would meet.
    drop(clients);
    eventually("all have gone", || {
        server.info_number("clients", "blocked_clients") == 0
    });
    seen
}

/// What the real servers say of a scene, and that they agree.
fn expected(oracles: &[Server], scene: &str, is_resp3: bool) -> Option<Vec<String>> {
    let mut said = oracles
        .iter()
        .map(|server| (play(server, scene, is_resp3), &server.name));
    let (first, by) = said.next()?;
    for (other, name) in said {
        assert_eq!(first, other, "{by} and {name} differ:\n{scene}");
    }
    Some(first)
}

/// Has all servers play these.
fn compare(scenes: &[&str], oracles: &[Oracle]) {
    let oracles: Vec<Server> = oracles.iter().filter_map(|oracle| oracle.start(&[])).collect();
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        for scene in scenes {
            for is_resp3 in [false, true] {
                let found = play(&server, scene, is_resp3);
                if let Some(expected) = expected(&oracles, scene, is_resp3) {
                    assert_eq!(found, expected, "{}, RESP3 {is_resp3}:\n{scene}", server.name);
                }
            }
        }
        let mut control = server.client();
        eventually("nothing is awaited any more", || {
            control.line("FLUSHALL");
            server.info_number("clients", "total_blocking_keys") == 0
        });
    }
}

const BOTH: &[Oracle] = &[Oracle::Redis70, Oracle::Redis82];
/// Where what was changed with 7.2 counts: a command that is served is run again whole.
const LATER: &[Oracle] = &[Oracle::Redis82, Oracle::Valkey91];

#[test]
fn lists_are_waited_for() {
    compare(
        &[
            "a & BLPOP list 0
             b > LPUSH list x y z
             a ?
             b > LRANGE list 0 -1",
            "a & BRPOP one two three 0
             b > RPUSH two x
             a ?
             b > EXISTS one two three
             a > BRPOP one two 0.01
             b > RPUSH one 1
             b > RPUSH two 2
             a > BRPOP two one 0
             a > BLPOP two one 0",
            "a & BLMPOP 0 2 one two LEFT COUNT 2
             b > RPUSH two 1 2 3
             a ?
             b > LRANGE two 0 -1
             a & BLMPOP 0 2 one three RIGHT COUNT 10
             b > RPUSH three 1 2 3
             a ?
             b > EXISTS three",
            "a & BLMOVE from to LEFT RIGHT 0
             b > RPUSH from 1
             a ?
             b > LRANGE to 0 -1
             a & BRPOPLPUSH from to 0
             b > RPUSH from 2
             a ?
             b > LRANGE to 0 -1
             a & BLMOVE ring ring LEFT RIGHT 0
             b > RPUSH ring 1 2 3
             a ?
             b > LRANGE ring 0 -1",
        ],
        BOTH,
    );
}

#[test]
fn calls_are_refused_as_in_redis() {
    compare(
        &[
            "a > BLPOP list -1
             a > BLPOP list x
             a > BLPOP list 1e400
             a > BLPOP list 9223372036854775
             a > BLPOP list
             a > BLMOVE a b LEFT SIDEWAYS 0
             a > BLMOVE a b LEFT RIGHT -1
             a > BLMPOP 0 0 a LEFT
             a > BLMPOP 0 1 a MIDDLE
             a > BLMPOP -1 1 a LEFT
             a > BLMPOP x 1 a LEFT COUNT 0
             a > BRPOPLPUSH a b no
             a > SET string x
             a > BLPOP string 0
             a > BLPOP none string 0
             a > BLMOVE string b LEFT LEFT 0
             a > RPUSH list 1
             a > BLMOVE list string LEFT LEFT 0
             a > BLMPOP 0 2 none string LEFT
             a > LRANGE list 0 -1",
            "a > CLIENT UNBLOCK x
             a > CLIENT UNBLOCK 1000000
             a > CLIENT UNBLOCK @a
             a > CLIENT UNBLOCK @a ERROR
             a > CLIENT UNBLOCK @a SLOWLY",
        ],
        LATER,
    );
}

#[test]
fn a_wait_ends_by_time_or_by_command() {
    compare(
        &[
            "a > BLPOP list 0.01
             a > BLMOVE list other LEFT LEFT 0.01
             a > BRPOPLPUSH list other 0.01
             a > BLMPOP 0.01 1 list LEFT",
            "a & BLPOP list 0
             b > CLIENT UNBLOCK @a
             a ?
             a & BLMOVE list other LEFT LEFT 0
             b > CLIENT UNBLOCK @a ERROR
             a ?
             b > CLIENT UNBLOCK @a
             b > RPUSH list 1
             a > LLEN list",
            "a & BLPOP one two 0
             b > CLIENT UNBLOCK @a TIMEOUT
             a ?
             b > RPUSH two 1
             b > RPUSH one 1
             a > BLPOP one two 0",
        ],
        BOTH,
    );
}

#[test]
fn within_a_transaction_nobody_waits() {
    compare(
        &["a > MULTI
           a > BLPOP list 0
           a > BLMOVE list other LEFT LEFT 0
           a > BRPOPLPUSH list other 0
           a > BLMPOP 0 1 list LEFT
           a > RPUSH list 1 2 3 4 5
           a > BLPOP list 0
           a > BLMOVE list other LEFT LEFT 0
           a > BRPOPLPUSH list other 0
           a > BLMPOP 0 1 list LEFT COUNT 2
           a > BLPOP list nonsense
           a > EXEC
           a > LRANGE other 0 -1"],
        BOTH,
    );
}

#[test]
fn a_transaction_serves_when_it_has_ended() {
    compare(
        &[
            // By argument order, not by which came first.
            "a & BLPOP one two 0
             b > MULTI
             b > RPUSH two 2
             b > RPUSH one 1
             b > EXEC
             a ?
             b > EXISTS one two",
            "a & BLPOP list 0
             b > MULTI
             b > RPUSH list 1
             b > DEL list
             b > EXEC
             b > RPUSH list 2
             a ?",
            "a & BLPOP list 0
             b > MULTI
             b > RPUSH list 1 2
             b > LPOP list
             b > LLEN list
             b > EXEC
             a ?",
        ],
        LATER,
    );
}

#[test]
fn who_has_waited_longest_is_first() {
    compare(
        &[
            "a & BLPOP list 0
             b & BRPOP list 0
             c & BLPOP other list 0
             d > RPUSH list 1 2
             a ?
             b ?
             d > RPUSH list 3
             c ?",
            "a & BLPOP list 0
             b & BLPOP list 0
             c > CLIENT UNBLOCK @a
             a ?
             c > RPUSH list 1
             b ?
             a & BLPOP list 0
             b & BLPOP list 0
             c > RPUSH list 2
             a ?
             c > RPUSH list 3
             b ?",
        ],
        BOTH,
    );
}

#[test]
fn what_is_moved_on_is_served_within_the_same_turn() {
    compare(
        &[
            "a & BLMOVE first second LEFT RIGHT 0
             b & BLMOVE second third LEFT RIGHT 0
             c & BLPOP third 0
             d > RPUSH first x
             d > EXISTS first second third
             a ?
             b ?
             c ?",
            "a & BLMOVE first second LEFT RIGHT 0
             b & BLMOVE second first LEFT RIGHT 0
             d > RPUSH first x
             d > EXISTS first second
             a ?
             b ?",
            "a & BRPOPLPUSH first second 0
             b & BRPOPLPUSH first third 0
             d > SET second string
             d > RPUSH first x
             a ?
             b ?
             d > LRANGE third 0 -1",
            "a & BLMOVE first second LEFT RIGHT 0
             b & BLMOVE second third LEFT RIGHT 0
             d > MULTI
             d > RPUSH first x
             d > LRANGE first 0 -1
             d > LRANGE third 0 -1
             d > EXEC
             a ?
             b ?
             d > LRANGE third 0 -1",
        ],
        BOTH,
    );
}

#[test]
fn any_way_in_which_a_list_comes_to_be_serves() {
    let ways = [
        "b > LPUSH list x",
        "b > RPUSH source x
         b > LMOVE source list LEFT LEFT",
        "b > RPUSH source x
         b > RPOPLPUSH source list",
        "b > RPUSH source x
         b > RENAME source list",
        "b > RPUSH source x
         b > RENAMENX source list",
        "b > RPUSH source x
         b > COPY source list",
        "b > SELECT 1
         b > RPUSH list x
         b > MOVE list 0",
        "b > SELECT 1
         b > RPUSH source x
         b > COPY source list DB 0",
        "b > RPUSH source x
         b > SORT source ALPHA STORE list",
        "b > SELECT 1
         b > RPUSH list x
         b > SWAPDB 0 1",
        "b > MULTI
         b > LPUSH list x
         b > EXEC",
    ];
    let scenes: Vec<String> = ways
        .iter()
        .map(|way| {
            format!(
                "a & BLPOP other list 0
             {way}
             a ?
             b > EXISTS list"
            )
        })
        .collect();
    let scenes: Vec<&str> = scenes.iter().map(String::as_str).collect();
    compare(&scenes, BOTH);
}

#[test]
fn sorted_sets_are_waited_for() {
    compare(
        &[
            "a & BZPOPMIN one two 0
             b > ZADD two 1.5 x 2 y
             a ?
             b > ZRANGE two 0 -1 WITHSCORES
             a > BZPOPMAX one two 0
             a > BZPOPMIN one two 0.01
             a > BZPOPMIN one -1
             b > SET one x
             a > BZPOPMAX two one 0",
            "a & BZMPOP 0 2 one two MAX COUNT 2
             b > ZADD two 1 x 2 y 3 z
             a ?
             b > ZRANGE two 0 -1 WITHSCORES
             a > BZMPOP 0 1 two MIN
             a > BZMPOP 0.01 2 one two MIN COUNT 10
             a > BZMPOP 0 0 one MIN
             a > BZMPOP 0 1 one SIDEWAYS
             a > BZMPOP 0 1 one MIN COUNT 0
             a > BZMPOP x 1 one MIN",
            "a > MULTI
             a > BZPOPMIN set 0
             a > BZMPOP 0 1 set MIN
             a > ZADD set 1 x 2 y
             a > BZPOPMAX set 0
             a > EXEC",
            // Whoever waits for something else keeps his place.
            "a & BLPOP key 0
             b & BZPOPMAX key 0
             c & BLPOP key 0
             d > ZADD key 1 x
             b ?
             d > RPUSH key 1 2
             a ?
             c ?",
        ],
        BOTH,
    );
}

#[test]
fn any_way_in_which_a_sorted_set_comes_to_be_serves() {
    let ways = [
        "b > ZADD set 1 x",
        "b > ZINCRBY set 1 x",
        "b > ZADD source 1 x
         b > ZUNIONSTORE set 1 source",
        "b > ZADD source 1 x
         b > ZINTERSTORE set 1 source",
        "b > ZADD source 1 x
         b > ZDIFFSTORE set 1 source",
        "b > ZADD source 1 x
         b > ZRANGESTORE set source 0 -1",
        "b > GEOADD source 1 2 x
         b > GEOSEARCHSTORE set source FROMLONLAT 1 2 BYRADIUS 10 km",
        "b > GEOADD source 1 2 x
         b > GEORADIUS source 1 2 10 km STORE set",
        "b > GEOADD set 1 2 x",
        "b > ZADD source 1 x
         b > RENAME source set",
        "b > ZADD source 1 x
         b > COPY source set",
    ];
    let scenes = ways.map(|way| {
        format!(
            "a & BZPOPMIN other set 0
             {way}
             a ?
             b > EXISTS set"
        )
    });
    compare(&scenes.each_ref().map(String::as_str), BOTH);
}

#[test]
fn streams_are_waited_for() {
    compare(
        &[
            "a & XREAD BLOCK 0 STREAMS one two $ $
             b > XADD two 1-1 f v
             a ?
             a & XREAD BLOCK 0 STREAMS one two $ $
             b > XADD two 1-2 f v
             a ?
             a > XREAD BLOCK 10 STREAMS two $
             a > XREAD BLOCK 0 STREAMS two 1-1
             a > XREAD BLOCK -1 STREAMS two $
             a > XREAD BLOCK x STREAMS two $",
            // What is below the asked ID wakes nobody.
            "a & XREAD COUNT 1 BLOCK 0 STREAMS stream 5-0
             b > XADD stream 1-0 f v
             b > XADD stream 5-1 f v
             a ?",
            "a & XREAD COUNT 1 BLOCK 0 STREAMS stream $
             b & XREAD BLOCK 0 STREAMS stream 0
             c > MULTI
             c > XADD stream 1-1 f v
             c > XADD stream 1-2 f v
             c > EXEC
             a ?
             b ?",
            "a > MULTI
             a > XREAD BLOCK 0 STREAMS stream $
             a > EXEC",
            // Plain readers wait on through deletion and another type.
            "b > XADD stream 1-1 f v
             a & XREAD BLOCK 0 STREAMS stream $
             b > DEL stream
             b > SET stream x
             b > DEL stream
             b > XADD stream 1-1 f v
             b > XADD stream 1-2 f v
             a ?",
        ],
        LATER,
    );
}

#[test]
fn groups_are_waited_for_and_their_end_is_told() {
    compare(
        &[
            "b > XGROUP CREATE stream group $ MKSTREAM
             a & XREADGROUP GROUP group me BLOCK 0 STREAMS stream >
             c & XREADGROUP GROUP group other BLOCK 0 COUNT 1 STREAMS stream >
             b > XADD stream 1-1 f v
             a ?
             b > XADD stream 1-2 f v
             c ?
             b > XPENDING stream group
             a > XREADGROUP GROUP group me BLOCK 10 STREAMS stream >
             a > XREADGROUP GROUP group me BLOCK 0 STREAMS stream 0
             a > XREADGROUP GROUP group me BLOCK 0 STREAMS stream 2-0",
            "b > XGROUP CREATE stream group $ MKSTREAM
             a & XREADGROUP GROUP group me BLOCK 0 STREAMS stream >
             b > DEL stream
             a ?",
            "b > XGROUP CREATE stream group $ MKSTREAM
             a & XREADGROUP GROUP group me BLOCK 0 STREAMS stream >
             b > SET stream x
             a ?",
            "b > XGROUP CREATE stream group $ MKSTREAM
             a & XREADGROUP GROUP group me BLOCK 0 STREAMS stream >
             b > XGROUP DESTROY stream group
             a ?",
            "b > XGROUP CREATE stream group $ MKSTREAM
             a & XREADGROUP GROUP group me BLOCK 0 STREAMS stream >
             b > FLUSHDB
             a ?",
            "b > XGROUP CREATE stream group $ MKSTREAM
             a & XREADGROUP GROUP group me BLOCK 0 STREAMS stream >
             b > SWAPDB 0 1
             a ?",
            "b > XGROUP CREATE stream group $ MKSTREAM
             a & XREADGROUP GROUP group me BLOCK 0 STREAMS stream >
             b > RENAME stream other
             a ?",
            "b > XGROUP CREATE stream group $ MKSTREAM
             a & XREADGROUP GROUP group me BLOCK 0 STREAMS stream >
             b > PEXPIRE stream 1
             a ?",
            "b & BLPOP stream 0
             c > XGROUP CREATE stream group $ MKSTREAM
             a & XREADGROUP GROUP group me BLOCK 0 STREAMS stream >
             c > XADD stream 1-1 f v
             a ?
             c > DEL stream
             c > RPUSH stream x
             b ?",
            "b > XGROUP CREATE one group $ MKSTREAM
             b > XGROUP CREATE two group $ MKSTREAM
             a & XREADGROUP GROUP group me BLOCK 0 STREAMS one two > >
             b > DEL two
             a ?",
        ],
        LATER,
    );
}

#[test]
fn a_list_that_is_restored_serves() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        let (mut waiting, mut other) = (server.client(), server.client());
        other.line("RPUSH source x");
        let Value::Bulk(payload) = other.line("DUMP source") else {
            panic!("no payload");
        };
        waiting
            .send(&encode(&["BLPOP", "list", "0"]))
            .expect("the server reads");
        eventually("it is blocked", || {
            server.info_number("clients", "blocked_clients") == 1
        });
        other.call(&[b"RESTORE", b"list".as_slice(), b"0", &payload]);
        assert_eq!(waiting.reply().to_string(), "1) \"list\"\n2) \"x\"");
    }
}

#[test]
fn what_is_sent_behind_a_blocked_command_waits() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        let (mut waiting, mut other) = (server.client(), server.client());
        let mut bytes = encode(&["SET", "k", "1"]);
        bytes.extend(encode(&["BLPOP", "list", "0"]));
        bytes.extend(encode(&["GET", "k"]));
        waiting.send(&bytes).expect("the server reads");
        assert_eq!(waiting.reply().text(), "OK", "what came before has been answered");
        eventually("it is blocked", || {
            server.info_number("clients", "blocked_clients") == 1
        });
        waiting.send(&encode(&["GET", "k"])).expect("the server reads");
        other.line("SET k 2");
        other.line("RPUSH list x");
        let replies: Vec<String> = (0..3).map(|_| waiting.reply().to_string()).collect();
        assert_eq!(replies, ["1) \"list\"\n2) \"x\"", "\"2\"", "\"2\""], "{}", server.name);
    }
}

#[test]
fn who_is_blocked_is_shown_counted_and_forgotten() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &["--timeout", "1"]);
        let clients = |field: &str| server.info_number("clients", field);
        let mut waiting = server.client();
        waiting
            .send(&encode(&["BLPOP", "one", "two", "three", "one", "0"]))
            .expect("the server reads");
        let mut timed = server.client();
        timed.send(&encode(&["BRPOP", "one", "100"])).expect("the server reads");
        eventually("both are blocked", || clients("blocked_clients") == 2);
        assert_eq!(clients("clients_in_timeout_table"), 1);
        assert_eq!(clients("total_blocking_keys"), 3);
        // The idle timeout of a second is not theirs.
        std::thread::sleep(Duration::from_millis(2500));
        assert_eq!(clients("blocked_clients"), 2);
        assert_eq!(server.client().line("LPUSH two x").integer(), 1);
        assert_eq!(waiting.reply().to_string(), "1) \"two\"\n2) \"x\"");
        assert_eq!(
            (clients("blocked_clients"), clients("clients_in_timeout_table")),
            (1, 1)
        );
        drop(timed);
        eventually("its end is seen", || clients("blocked_clients") == 0);
        eventually("its keys are forgotten", || clients("total_blocking_keys") == 0);
        assert_eq!(clients("clients_in_timeout_table"), 0);
        let mut client = server.client();
        client.line("RPUSH one x");
        assert_eq!(client.line("LLEN one").integer(), 1, "whoever has gone takes nothing");
    }
}

#[test]
fn a_call_is_counted_once() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        let (mut waiting, mut other) = (server.client(), server.client());
        waiting
            .send(&encode(&["BLPOP", "list", "0"]))
            .expect("the server reads");
        eventually("it is blocked", || {
            server.info_number("clients", "blocked_clients") == 1
        });
        let stats = |other: &mut Client| {
            let text = other.call(&["INFO", "commandstats"]).text();
            let line = text.lines().find(|line| line.starts_with("cmdstat_blpop:"));
            line.map(str::to_owned)
        };
        assert_eq!(stats(&mut other), None, "it has not run yet");
        other.line("RPUSH list x");
        waiting.reply();
        let counted = stats(&mut other).expect("it has run");
        assert!(counted.starts_with("cmdstat_blpop:calls=1,"), "{counted}");
        waiting.line("BLPOP list 0.01");
        let counted = stats(&mut other).expect("it has run");
        assert!(counted.starts_with("cmdstat_blpop:calls=2,"), "{counted}");
    }
}

#[test]
fn no_wait_ends_early() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        let mut client = server.client();
        for (timeout, timeout_ms) in [("0.001", 1), ("0.05", 50), ("0.1234", 124)] {
            let began = Instant::now();
            assert_eq!(client.call(&["BLPOP", "list", "other", timeout]).to_string(), "(nil)");
            let elapsed = began.elapsed();
            assert!(
                elapsed >= Duration::from_millis(timeout_ms - 1),
                "{timeout}: {elapsed:?}"
            );
        }
    }
}

/// Sends a command that is to be blocked, without waiting for that.
fn send(client: &mut Client, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    client.send(&encode(&words)).expect("the server reads");
}

fn is_blocked(server: &Server, count: u64) {
    eventually("all are blocked", || {
        server.info_number("clients", "blocked_clients") == count
    });
}

/// Everything that is pushed is taken once, by whichever ways; and in the end nobody waits for a key that could serve him.
#[test]
fn each_element_is_taken_once() {
    const KEYS: usize = 6;
    const TAKERS: usize = 8;
    const PUSHERS: usize = 3;
    const PUSHES: usize = 400;
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        let is_over = AtomicBool::new(false);
        let taken: Vec<Vec<String>> = std::thread::scope(|scope| {
            let (server, is_over) = (&server, &is_over);
            let takers: Vec<_> = (0..TAKERS)
                .map(|number| {
                    scope.spawn(move || {
                        let mut random = fastrand::Rng::with_seed(number as u64);
                        let mut client = server.client();
                        let mut taken = Vec::new();
                        loop {
                            let mut key = || format!("key{}", random.usize(..KEYS));
                            let words: Vec<String> = match number % 4 {
                                // These move elements in circles.
                                0 => vec![
                                    "BLMOVE".into(),
                                    key(),
                                    key(),
                                    "LEFT".into(),
                                    "RIGHT".into(),
                                    "0.02".into(),
                                ],
                                1 => vec!["BLPOP".into(), key(), "0.02".into()],
                                2 => vec!["BRPOP".into(), key(), key(), key(), "0.02".into()],
                                _ => ["BLMPOP", "0.02", "2", &key(), &key(), "LEFT", "COUNT", "2"]
                                    .map(str::to_owned)
                                    .into(),
                            };
                            let is_last = is_over.load(Ordering::SeqCst);
                            match client.call(&words) {
                                Value::Nil if is_last => return taken,
                                Value::Nil => {}
                                Value::Bulk(_) if is_last => return taken,
                                Value::Bulk(_) => {}
                                Value::Array(items) => match &items[1] {
                                    Value::Array(several) => taken.extend(several.iter().map(Value::text)),
                                    one => taken.push(one.text()),
                                },
                                other => panic!("{other}"),
                            }
                        }
                    })
                })
                .collect();
            let pushers: Vec<_> = (0..PUSHERS)
                .map(|number| {
                    scope.spawn(move || {
                        let mut random = fastrand::Rng::with_seed(1000 + number as u64);
                        let mut client = server.client();
                        for push in 0..PUSHES {
                            let element = format!("{number}-{push}");
                            let mut key = || format!("key{}", random.usize(..KEYS));
                            match push % 3 {
                                0 => {
                                    client.line("MULTI");
                                    client.call(&["RPUSH", &key(), &element]);
                                    client.call(&["LLEN", &key()]);
                                    client.line("EXEC");
                                }
                                _ => {
                                    client.call(&["LPUSH", &key(), &element]);
                                }
                            }
                        }
                    })
                })
                .collect();
            for pusher in pushers {
                pusher.join().expect("all was pushed");
            }
            is_over.store(true, Ordering::SeqCst);
            takers
                .into_iter()
                .map(|taker| taker.join().expect("it ended"))
                .collect()
        });
        let mut client = server.client();
        let mut all: Vec<String> = taken.into_iter().flatten().collect();
        for key in 0..KEYS {
            let left = client.call(&["LRANGE", &format!("key{key}"), "0", "-1"]);
            all.extend(left.items().iter().map(Value::text));
        }
        let mut expected: Vec<String> = (0..PUSHERS)
            .flat_map(|number| (0..PUSHES).map(move |push| format!("{number}-{push}")))
            .collect();
        all.sort_unstable();
        expected.sort_unstable();
        assert!(
            all == expected,
            "{}: {} of {} elements",
            server.name,
            all.len(),
            expected.len()
        );
        eventually("nothing is awaited any more", || {
            server.info_number("clients", "total_blocking_keys") == 0
        });
    }
}

/// How many clients wait where many do.
const CROWD: usize = 2000;

/// A server that takes so many.
fn roomy(shards: usize) -> Server {
    Server::shardis(shards, &["--maxclients", "12000"])
}

#[test]
fn a_crowd_waits_for_one_key_and_for_many() {
    for shards in [1, 4] {
        for has_one_key in [true, false] {
            let server = roomy(shards);
            let key = |number: usize| match has_one_key {
                true => "list".to_owned(),
                false => format!("list{number}"),
            };
            let mut crowd: Vec<Client> = (0..CROWD).map(|_| server.client()).collect();
            for (number, client) in crowd.iter_mut().enumerate() {
                send(client, &format!("BLPOP {} 0", key(number)));
                if has_one_key && number == CROWD / 2 {
                    // Those of the first half stand before those of the second.
                    is_blocked(&server, CROWD as u64 / 2 + 1);
                }
            }
            is_blocked(&server, CROWD as u64);
            let keys = if has_one_key { 1 } else { CROWD as u64 };
            assert_eq!(server.info_number("clients", "total_blocking_keys"), keys);
            // Every second one goes.
            let mut left = Vec::new();
            for (number, client) in crowd.into_iter().enumerate() {
                if number % 2 == 0 {
                    left.push((number, client));
                }
            }
            is_blocked(&server, left.len() as u64);
            let mut control = server.client();
            for (number, _) in &left {
                control.call(&["RPUSH", &key(*number), "x"]);
            }
            for (number, client) in &mut left {
                assert_eq!(client.reply().items()[0].text(), key(*number));
            }
            assert_eq!(control.line("DBSIZE").integer(), 0);
            assert_eq!(server.info_number("clients", "blocked_clients"), 0);
            eventually("nothing is awaited any more", || {
                server.info_number("clients", "total_blocking_keys") == 0
            });
        }
    }
}

#[test]
fn a_crowd_whose_time_is_over_at_once_leaves_nothing_behind() {
    for shards in [1, 4] {
        let server = roomy(shards);
        let mut crowd: Vec<Client> = (0..CROWD).map(|_| server.client()).collect();
        for _ in 0..2 {
            for client in &mut crowd {
                send(client, "BLPOP one two 0.5");
            }
            for client in &mut crowd {
                assert_eq!(client.reply(), Value::Nil);
            }
        }
        assert_eq!(server.info_number("clients", "blocked_clients"), 0);
        assert_eq!(server.info_number("clients", "clients_in_timeout_table"), 0);
        eventually("nothing is awaited any more", || {
            server.info_number("clients", "total_blocking_keys") == 0
        });
        let mut control = server.client();
        control.line("RPUSH one x");
        assert_eq!(control.line("LLEN one").integer(), 1);
    }
}

#[test]
fn who_is_killed_while_blocked_takes_nothing() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &["--client-query-buffer-limit", "1mb"]);
        let (mut killed, mut greedy, mut control) = (server.client(), server.client(), server.client());
        let id = killed.line("CLIENT ID").text();
        send(&mut killed, "BLMOVE one two LEFT LEFT 0");
        is_blocked(&server, 1);
        assert_eq!(control.line(&format!("CLIENT KILL ID {id}")).integer(), 1);
        assert!(killed.try_reply().is_err());
        is_blocked(&server, 0);
        // What is sent behind a blocked command has a bound.
        send(&mut greedy, "BLPOP one two 0");
        is_blocked(&server, 1);
        let more = encode(&["SET", "k", &"x".repeat(2 << 20)]);
        // The connection may end before all is sent.
        let _ = greedy.send(&more);
        is_blocked(&server, 0);
        eventually("nothing is awaited any more", || {
            server.info_number("clients", "total_blocking_keys") == 0
        });
        control.line("RPUSH one x");
        assert_eq!(control.line("LLEN one").integer(), 1);
    }
}

#[test]
fn who_hangs_up_while_blocked_is_forgotten() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        let mut waiting = server.client();
        send(&mut waiting, "BZPOPMIN one two 0");
        is_blocked(&server, 1);
        waiting
            .stream()
            .shutdown(std::net::Shutdown::Write)
            .expect("it is open");
        assert!(
            waiting.try_reply().is_err(),
            "nobody waits for a peer that sends nothing more"
        );
        is_blocked(&server, 0);
    }
}

#[test]
fn what_is_on_disk_can_be_waited_for() {
    for shards in SHARD_COUNTS {
        for policy in ["everysec", "always"] {
            let server = Server::shardis(shards, &["--appendonly", "yes", "--appendfsync", policy]);
            let mut client = server.client();
            let pair = |value: Value| value.items().iter().map(Value::integer).collect::<Vec<_>>();
            assert_eq!(pair(client.line("WAITAOF 0 0 0"))[1], 0);
            for key in ["one", "two", "three"] {
                client.line(&format!("SET {key} x"));
            }
            assert_eq!(pair(client.line("WAITAOF 1 0 0")), [1, 0], "{}, {policy}", server.name);
            assert_eq!(pair(client.line("WAITAOF 1 1 10")), [1, 0]);
            client.line("MULTI");
            client.line("SET one y");
            client.line("WAITAOF 1 0 0");
            let inside = client.line("EXEC").items().pop().expect("two replies");
            assert_eq!(pair(inside), [1, 0], "what came before the transaction");
            client.line("CONFIG SET appendonly no");
            assert!(client.line("WAITAOF 1 0 0").is_error());
        }
    }
}

#[test]
fn calls_of_waitaof_are_refused_as_in_redis() {
    compare(
        &["a > WAITAOF 2 0 0
           a > WAITAOF -1 0 0
           a > WAITAOF x 0 0
           a > WAITAOF 0 -1 0
           a > WAITAOF 0 x 0
           a > WAITAOF 0 0 -1
           a > WAITAOF 0 0 x
           a > WAITAOF 1 0 0
           a > WAITAOF 0 0 0
           a > WAITAOF 0 1 10
           a > MULTI
           a > WAITAOF 0 1 0
           a > EXEC"],
        LATER,
    );
}

/// A command that waits is shown to who watches all commands when it begins to, and not again when it is served.
#[test]
fn what_waits_is_shown_once() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        let (mut monitor, mut waiting, mut other) = (server.client(), server.client(), server.client());
        assert_eq!(monitor.line("MONITOR").text(), "OK");
        send(&mut waiting, "BLMOVE list target LEFT LEFT 0");
        is_blocked(&server, 1);
        other.line("RPUSH list x");
        assert_eq!(waiting.reply().text(), "x");
        other.line("GET end");
        let mut shown = Vec::new();
        loop {
            let line = monitor.reply().text();
            let (_, words) = line.split_once("] ").expect("its form");
            match words {
                "\"GET\" \"end\"" => break,
                words if words.starts_with("\"INFO\"") => {}
                words => shown.push(words.to_owned()),
            }
        }
        let expected = [
            "\"BLMOVE\" \"list\" \"target\" \"LEFT\" \"LEFT\" \"0\"",
            "\"RPUSH\" \"list\" \"x\"",
        ];
        assert_eq!(shown, expected, "{}", server.name);
    }
}
