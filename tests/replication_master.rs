//! shardis as a master: real servers copy it, and have what it has.
//!
//! A replica is connected while clients write, gets the data set as of the cut and every change since; and whatever way it got there, the
//! digests are equal when `WAIT` has said that it is up to date. Where one of the servers is missing the test says so.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::{Client, Oracle, Server, eventually};

const SHARDS: [usize; 3] = [1, 2, 4];

fn master(shards: usize, options: &[&str]) -> Server {
    let fixed = [
        "--enable-debug-command",
        "yes",
        "--repl-diskless-sync-delay",
        "0",
        "--repl-backlog-size",
        "32mb",
    ];
    Server::shardis(shards, &[&fixed[..], options].concat())
}

/// A server that copies nobody yet.
fn replica(oracle: Oracle) -> Option<Server> {
    oracle.start(&["--enable-debug-command", "yes"])
}

fn follow(replica: &Server, master: &Server) {
    let port = master.port.to_string();
    assert_eq!(replica.client().call(&["REPLICAOF", "127.0.0.1", &port]).text(), "OK");
}

fn is_up(replica: &Server) -> bool {
    replica.info("replication", "master_link_status") == "up"
}

/// Keys of all types, some with a time to live, in several dbs.
fn fill(client: &mut Client) {
    for line in [
        "SELECT 0",
        "SET string value",
        "SET number 12345",
        "SET dying x EX 10000",
        "APPEND raw 0123456789012345678901234567890123456789012345678901234567890123456789",
        "RPUSH list a b c 1 2 3",
        "SADD ints 1 2 3",
        "SADD words one two three",
        "HSET hash f v g w",
        "ZADD sorted 1 a 2.5 b",
        "PFADD logs a b c",
        "GEOADD geo 13.361389 38.115556 Palermo",
        "SELECT 3",
        "SET string in-three",
        "RPUSH list x",
        "SELECT 0",
    ] {
        let reply = client.line(line);
        assert!(!reply.is_error(), "{line}: {}", reply.text());
    }
    let large = "x".repeat(100_000);
    client.call(&["SET", "large", &large]);
    for at in 0..2000 {
        let at = at.to_string();
        client.call(&["HSET", "big-hash", &at, "value"]);
        client.call(&["SET", &format!("key:{at}"), &at]);
    }
}

/// One round of writes of all sorts over all slots.
fn write_round(client: &mut Client, round: u64) {
    let number = (round % 997).to_string();
    let key = |name: &str| format!("{name}:{number}");
    client.call(&["SET", &key("key"), &round.to_string()]);
    client.call(&["INCRBYFLOAT", &key("float"), "0.5"]);
    client.call(&["MSET", &key("a"), "1", &key("b"), "2", &key("c"), "3"]);
    client.call(&["RPUSH", &key("list"), "x", "y"]);
    client.call(&["SPOP", "words"]);
    client.call(&["SADD", "words", &number, &key("w")]);
    client.call(&["SET", &key("short"), "x", "PX", "1"]);
    client.call(&["SELECT", "3"]);
    client.call(&["LMOVE", "list", "list", "LEFT", "RIGHT"]);
    client.call(&["SELECT", "0"]);
    client.call(&["MULTI"]);
    client.call(&["INCR", &key("count")]);
    client.call(&["SINTERSTORE", &key("inter"), "ints", "words"]);
    client.call(&["DEL", &key("a")]);
    client.call(&["EXEC"]);
    let script = "redis.call('INCR', KEYS[1]) redis.call('LPUSH', KEYS[2], ARGV[1]) return redis.call('TIME')[1]";
    client.call(&["EVAL", script, "2", &key("scripted"), &key("list"), &number]);
}

/// Writes until it is told to stop, over a connection of its own; answers how many rounds that were.
fn writer(server: &Server, stops: &AtomicBool, seed: u64) -> u64 {
    let mut client = server.client();
    let mut rounds = 0;
    while !stops.load(Ordering::Relaxed) {
        write_round(&mut client, seed + rounds * 7);
        rounds += 1;
    }
    rounds
}

/// Waits until the replica has all, and compares what both have.
fn assert_same(master: &Server, replica: &Server) {
    let (mut ours, mut theirs) = (master.client(), replica.client());
    // What is over is deleted before it is compared: a replica deletes nothing by itself. One key has a long time to live.
    eventually("what is over has been deleted", || {
        let keyspace = ours.call(&["INFO", "keyspace"]).text();
        let of_first = keyspace.lines().find(|line| line.starts_with("db0:"));
        of_first.is_none_or(|line| line.contains(",expires=1,") || line.contains(",expires=0,"))
    });
    assert_eq!(ours.call(&["WAIT", "1", "60000"]).integer(), 1, "{}", replica.log());
    let digests = [&mut ours, &mut theirs].map(|client| client.call(&["DEBUG", "DIGEST"]).text());
    if digests[0] != digests[1] {
        let sizes = [&mut ours, &mut theirs].map(|client| client.call(&["INFO", "keyspace"]).text());
        panic!(
            "{} has not what {} has: {sizes:?}\n{}",
            replica.name,
            master.name,
            replica.log()
        );
    }
}

/// A replica comes while clients write, loses its connection, and goes on from where it was.
fn story(shards: usize, oracle: Oracle, options: &[&str]) {
    let Some(replica) = replica(oracle) else { return };
    let master = master(shards, options);
    fill(&mut master.client());
    let stops = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|seed| {
                scope.spawn({
                    let (master, stops) = (&master, &stops);
                    move || writer(master, stops, seed)
                })
            })
            .collect();
        follow(&replica, &master);
        eventually("the replica is connected", || is_up(&replica));
        std::thread::sleep(Duration::from_millis(100));
        // One that is asked for while there is an answer to be had of it.
        assert_eq!(master.client().call(&["WAIT", "1", "60000"]).integer(), 1);
        let killed = master.client().call(&["CLIENT", "KILL", "TYPE", "replica"]).integer();
        assert_eq!(killed, 1);
        eventually("the replica has come back", || {
            replica.log().contains("Successful partial resynchronization") && is_up(&replica)
        });
        stops.store(true, Ordering::Relaxed);
        for writer in writers {
            assert!(writer.join().expect("it has no reason to fail") > 0);
        }
    });
    assert_same(&master, &replica);
    let offsets = [(&master, "master_repl_offset"), (&replica, "slave_repl_offset")];
    eventually("both count alike", || {
        let [ours, theirs] = offsets.map(|(server, field)| server.info_number("replication", field));
        ours == theirs
    });
    // The second time it lacked little.
    assert_eq!(
        master.log().matches("Synchronization with replica succeeded").count(),
        1
    );
    assert!(
        master
            .client()
            .call(&["CLIENT", "LIST", "TYPE", "replica"])
            .text()
            .contains("flags=S")
    );
    let line = master.info("replication", "slave0");
    assert!(line.contains(&format!("port={},state=online,", replica.port)), "{line}");
}

#[test]
fn redis_7_0_copies_a_data_set_that_comes_as_a_length_and_a_file() {
    for shards in SHARDS {
        story(shards, Oracle::Redis70, &["--repl-diskless-sync", "no"]);
    }
}

#[test]
fn replicas_of_several_kinds_copy_a_data_set_between_marks() {
    for (oracle, shards) in [(Oracle::Redis70, 1), (Oracle::Redis82, 2), (Oracle::Valkey91, 4)] {
        story(shards, oracle, &[]);
    }
}

#[test]
fn an_append_only_file_and_a_stream_have_the_same_effects() {
    for policy in ["everysec", "always"] {
        story(2, Oracle::Redis70, &["--appendonly", "yes", "--appendfsync", policy]);
    }
}

/// Messages are a part of the stream, and so is what concerns everything at once.
#[test]
fn messages_flushes_and_swaps_reach_a_replica() {
    for shards in SHARDS {
        let Some(replica) = replica(Oracle::Redis70) else {
            return;
        };
        let master = master(shards, &[]);
        follow(&replica, &master);
        eventually("the replica is connected", || is_up(&replica));
        let mut listener = replica.client();
        listener.call(&["SUBSCRIBE", "news"]);
        let mut client = master.client();
        for line in [
            "SET a 1",
            "FLUSHALL",
            "SET b 2",
            "SWAPDB 0 5",
            "SET c 3",
            "PUBLISH news hello",
        ] {
            assert!(!client.line(line).is_error(), "{line}");
        }
        assert_eq!(
            listener.reply().items().last().map(|last| last.text()).as_deref(),
            Some("hello")
        );
        assert_same(&master, &replica);
    }
}

/// What a replica is told, byte by byte.
#[test]
fn a_replica_is_told_which_history_it_gets_and_from_where() {
    for shards in SHARDS {
        let master = master(shards, &["--repl-diskless-sync", "no"]);
        let mut client = master.client();
        client.call(&["SET", "k", "v"]);
        let mut fake = master.client();
        assert_eq!(
            fake.call(&["REPLCONF", "listening-port", "7", "capa", "psync2"]).text(),
            "OK"
        );
        assert_eq!(
            fake.call(&["REPLCONF", "nonsense", "7"]).text(),
            "ERR Unrecognized REPLCONF option: nonsense"
        );
        assert_eq!(fake.call(&["REPLCONF", "capa"]).text(), "ERR syntax error");
        fake.send(&support::client::encode(&["PSYNC", "?", "-1"]))
            .expect("it is connected");
        let told = fake.reply().text();
        let words: Vec<&str> = told.split(' ').collect();
        assert_eq!((words[0], words[1].len(), words.len()), ("FULLRESYNC", 40, 3), "{told}");
        let offset: u64 = words[2].parse().expect("an offset");
        let history = words[1].to_owned();
        // A second connection goes on from there.
        client.call(&["SET", "k", "w"]);
        let mut next = master.client();
        next.call(&["REPLCONF", "capa", "psync2"]);
        let from = (offset + 1).to_string();
        eventually("the stream is there", || {
            master.info_number("replication", "repl_backlog_active") == 1
        });
        next.send(&support::client::encode(&["PSYNC", &history, &from]))
            .expect("it is connected");
        assert_eq!(next.reply().text(), format!("CONTINUE {history}"));
        let mut heard = Vec::new();
        while heard.last().is_none_or(|last| last != "SET k w") {
            let words: Vec<_> = next.reply().items().iter().map(|word| word.text()).collect();
            heard.push(words.join(" "));
        }
        // It comes whenever it is time for it.
        heard.retain(|command| command != "PING");
        assert_eq!(heard, ["SELECT 0", "SET k w"]);
    }
}

#[test]
fn writes_are_refused_while_too_few_replicas_are_there() {
    for shards in SHARDS {
        let Some(replica) = replica(Oracle::Redis70) else {
            return;
        };
        let master = master(shards, &["--min-replicas-to-write", "1"]);
        let mut client = master.client();
        let refusal = "NOREPLICAS Not enough good replicas to write.";
        assert_eq!(client.line("SET k v").text(), refusal);
        assert!(!client.line("GET k").is_error());
        follow(&replica, &master);
        eventually("a replica is near", || client.line("SET k v").text() == "OK");
        assert_eq!(replica.client().line("REPLICAOF NO ONE").text(), "OK");
        eventually("it has gone", || client.line("SET k v").text() == refusal);
    }
}
