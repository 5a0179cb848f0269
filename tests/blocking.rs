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
fn a_call_is_counted_once_without_the_time_that_it_waited() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &["--slowlog-log-slower-than", "400000"]);
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
        std::thread::sleep(Duration::from_millis(500));
        other.line("RPUSH list x");
        waiting.reply();
        let counted = stats(&mut other).expect("it has run");
        assert!(counted.starts_with("cmdstat_blpop:calls=1,"), "{counted}");
        waiting.line("BLPOP list 0.5");
        let counted = stats(&mut other).expect("it has run");
        assert!(counted.starts_with("cmdstat_blpop:calls=2,"), "{counted}");
        // Others may be slow on a busy machine.
        let slow = other.line("SLOWLOG GET -1");
        let is_of_blpop = |entry: &Value| entry.items()[3].items()[0].text() == "BLPOP";
        assert!(!slow.items().iter().any(is_of_blpop), "{}: {slow:?}", server.name);
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
