//! This server as a replica, of the real servers: what it has is what they have, at any number of shards.

mod support;

use support::{Client, Oracle, Server, Value, eventually};

const SHARDS: [usize; 3] = [1, 2, 4];

const MASTERS: [Oracle; 4] = [Oracle::Redis62, Oracle::Redis70, Oracle::Redis82, Oracle::Valkey91];

/// Has one server follow another.
fn follow(replica: &Server, master: &Server) {
    let port = master.port.to_string();
    let reply = replica.client().call(&["REPLICAOF", "127.0.0.1", &port]);
    assert_eq!(reply.text(), "OK", "{}", replica.name);
}

fn is_linked(replica: &Server) -> bool {
    replica.info("replication", "master_link_status") == "up"
}

/// Waits until all that the master has is here too.
fn wait_until_same(replica: &Server, master: &Server) {
    eventually(
        &format!("{} is linked to {}\n{}", replica.name, master.name, replica.log()),
        || is_linked(replica),
    );
    eventually("the replica has all that its master has", || {
        let end = master.info("replication", "master_repl_offset");
        replica.info("replication", "slave_repl_offset") == end
            && master.info("replication", "master_repl_offset") == end
    });
}

/// What is compared: each key of each db with its value, as commands show it, and how long it still lives.
fn contents(client: &mut Client) -> Vec<String> {
    let mut all = Vec::new();
    for db in ["0", "1", "9"] {
        client.call(&["SELECT", db]);
        let keys = client.call(&["KEYS", "*"]).sorted().items();
        let keys = keys.iter().map(Value::text);
        for key in keys {
            let key = key.as_bytes();
            let kind = client.call(&[&b"TYPE"[..], key]).text();
            let show: Vec<&[u8]> = match kind.as_str() {
                "string" => vec![b"GET", key],
                "list" => vec![b"LRANGE", key, b"0", b"-1"],
                "set" => vec![b"SMEMBERS", key],
                "zset" => vec![b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"],
                "hash" => vec![b"HGETALL", key],
                "stream" => vec![b"XINFO", b"STREAM", key, b"FULL"],
                other => panic!("a key of type {other}"),
            };
            let value = client.call(&show);
            let value = match kind.as_str() {
                "hash" => {
                    let mut fields: Vec<String> = value
                        .items()
                        .chunks(2)
                        .map(|pair| pair[0].to_string() + &pair[1].to_string())
                        .collect();
                    fields.sort();
                    format!("{fields:?}")
                }
                // The consumers' idle times go on, and the nodes of the tree are each server's own.
                "stream" => client.call(&[&b"XRANGE"[..], key, b"-", b"+"]).to_string(),
                "set" => value.sorted().to_string(),
                _ => value.to_string(),
            };
            let ends = client.call(&[&b"PTTL"[..], key]).integer() >= 0;
            all.push(format!("{db} {} {kind} {value} {ends}", key.escape_ascii()));
        }
    }
    client.call(&["SELECT", "0"]);
    all
}

fn assert_same(replica: &Server, master: &Server) {
    wait_until_same(replica, master);
    let (found, expected) = (contents(&mut replica.client()), contents(&mut master.client()));
    assert_eq!(
        found.len(),
        expected.len(),
        "keys of {} and {}",
        replica.name,
        master.name
    );
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected, "{} and {}", replica.name, master.name);
    }
}

/// Some of each type, packed and not.
fn fill(client: &mut Client) {
    for db in ["0", "9"] {
        client.call(&["SELECT", db]);
        for number in 0..200 {
            client.line(&format!("SET string:{number} value:{number}"));
            client.line(&format!("SADD set:{} {number}", number % 7));
            client.line(&format!("RPUSH list:{} {number}", number % 7));
            client.line(&format!("HSET hash:{} field:{number} {number}", number % 7));
            client.line(&format!("ZADD zset:{} {number}.5 member:{number}", number % 7));
            client.line(&format!("XADD stream:{} {}-1 field {number}", number % 3, number + 1));
        }
        client.line("SADD words one two three");
        client.line("XGROUP CREATE stream:0 group 0");
        client.line("XREADGROUP GROUP group consumer COUNT 5 STREAMS stream:0 >");
        client.line("EXPIRE string:1 1000");
        client.line("SETBIT bits 1000 1");
        client.line("PFADD logs a b c");
        client.call(&["SET", "large", &"x".repeat(100_000)]);
        for number in 0..2000 {
            client.line(&format!("RPUSH long element:{number}"));
            client.line(&format!("HSET broad field:{number} {number}"));
        }
    }
    client.call(&["SELECT", "0"]);
}

/// Changes of many kinds, with effects over several shards.
fn change(client: &mut Client, round: u32) {
    for number in 0..50 {
        client.line(&format!("INCR counter:{}", number % 5));
        client.line(&format!(
            "MSET a:{number} {round} b:{number} {round} c:{number} {round}"
        ));
        client.line("LMOVE list:1 list:2 LEFT RIGHT");
        client.line(&format!("SET volatile:{number} {round} EX 1000"));
        client.line("RENAME a:1 renamed");
        client.line("SUNIONSTORE union set:1 set:2");
        client.line("SPOP set:3");
        client.line("MULTI");
        client.line(&format!("SET one {number}"));
        client.line("SELECT 1");
        client.line(&format!("SET two {number}"));
        client.line("SELECT 0");
        client.line("DEL b:2");
        client.line("EXEC");
        client.call(&[
            "EVAL",
            "redis.call('INCR', KEYS[1]); redis.call('LPUSH', KEYS[2], ARGV[1])",
            "2",
            "scripted",
            "scripts",
            "x",
        ]);
    }
    client.line("SWAPDB 0 1");
    client.line("SWAPDB 0 1");
}

/// The data set, sent from a file and straight, and then the stream, in which there is more than keys.
#[test]
fn it_has_what_its_master_has() {
    for oracle in MASTERS {
        for diskless in ["no", "yes"] {
            let Some(master) = oracle.start(&["--repl-diskless-sync", diskless, "--repl-diskless-sync-delay", "0"])
            else {
                continue;
            };
            fill(&mut master.client());
            for shards in SHARDS {
                let replica = Server::shardis(shards, &[]);
                replica.client().line("SET old gone");
                follow(&replica, &master);
                assert_same(&replica, &master);
                change(&mut master.client(), shards as u32);
                assert_same(&replica, &master);
                assert_eq!(replica.client().line("GET old"), Value::Nil);
                let refused = replica.client().line("SET key value");
                assert_eq!(refused.text(), "READONLY You can't write against a read only replica.");
                // A master knows its replica, and hears from it.
                let known = master.info("replication", "slave0");
                assert!(
                    known.contains(&format!("port={},state=online", replica.port)),
                    "{known}"
                );
            }
        }
    }
}

/// Which commands a replica runs, and what it says of the others: with its master, without it, and when it may be written to.
const LINES: &str = "SET key value|GET string:1|MGET string:1 string:2|DEL string:1|LPUSH list:1 x|BLPOP list:1 0|SORT list:1|SORT_RO list:1|\
    SETEX key 10 v|EXPIRE string:1 10|GETEX string:1|GETDEL string:1|FLUSHALL|FLUSHDB|SWAPDB 0 1|PUBLISH channel message|\
    PFCOUNT logs|SADD set:1 new|XADD stream:0 * a b|XREADGROUP GROUP group consumer STREAMS stream:0 >|XREAD STREAMS missing 0|\
    DBSIZE|RANDOMKEY x|TYPE string:1|OBJECT ENCODING string:1|MULTI|SET key value|EXEC|MULTI|GET string:1|EXEC|\
    MULTI|SELECT 1|GET missing|EXEC|PING|ECHO text|CONFIG GET maxmemory|WAIT 0 0|WAIT x y|CLIENT SETNAME me|CLIENT GETNAME|SELECT 0|WATCH key|UNWATCH|\
    EVAL 'return 1' 0|EVAL 'return redis.call(\"GET\",KEYS[1])' 1 string:1|EVAL 'return redis.call(\"SET\",KEYS[1],1)' 1 key|\
    EVAL 'return redis.pcall(\"SET\",KEYS[1],1)' 1 key|EVAL_RO 'return redis.call(\"SET\",KEYS[1],1)' 1 key|\
    EVAL '#!lua\nreturn 1' 0|EVAL '#!lua flags=no-writes\nreturn 1' 0|EVAL '#!lua flags=no-writes,allow-stale\nreturn 1' 0|\
    EVAL '#!lua flags=allow-stale\nreturn 1' 0|EVAL_RO '#!lua\nreturn 1' 0|EVAL '#!lua flags=no-writes,allow-stale\nreturn redis.call(\"GET\",\"string:1\")' 0|\
    EVAL 'return redis.call(\"ECHO\",\"x\")' 0|FCALL missing 0|FUNCTION FLUSH|FUNCTION LIST LIBRARYNAME read* WITHCODE|FUNCTION LIST LIBRARYNAME writing|FCALL reads 0|FCALL writes 0|FUNCTION LOAD '#!lua name=other\nredis.register_function(\"f\",function() return 1 end)'|\
    SUBSCRIBE channel|UNSUBSCRIBE channel|REPLICAOF 127.0.0.1 70000|REPLICAOF 127.0.0.1 x|REPLICAOF one|SLAVEOF";

fn words(line: &str) -> Vec<Vec<u8>> {
    support::value::split_words(&line.replace("\\n", "\n")).expect("the line is well quoted")
}

/// What a server answers to each line.
fn answers(server: &Server) -> Vec<(String, String)> {
    let mut client = server.client();
    let lines = LINES.split('|').map(str::trim);
    lines
        .map(|line| (line.to_owned(), client.call(&words(line)).to_string()))
        .collect()
}

/// As a real replica answers, which follows the same master.
#[test]
fn it_answers_as_a_replica_does() {
    let Some(master) = Oracle::Redis70.start(&["--repl-diskless-sync-delay", "0"]) else {
        return;
    };
    fill(&mut master.client());
    for library in [
        "#!lua name=reading\nredis.register_function{function_name='reads', callback=function() return redis.call('GET','string:1') end, flags={'no-writes'}}",
        "#!lua name=writing\nredis.register_function('writes', function() return redis.call('SET','key','1') end)",
    ] {
        assert!(!master.client().call(&["FUNCTION", "LOAD", library]).is_error());
    }
    let Some(model) = Oracle::Redis70.start(&[]) else {
        return;
    };
    let servers = SHARDS.map(|shards| Server::shardis(shards, &[]));
    follow(&model, &master);
    for server in &servers {
        follow(server, &master);
    }
    let compare = |what: &str| {
        let expected = answers(&model);
        for server in &servers {
            let found = answers(server);
            let differ = found
                .iter()
                .zip(&expected)
                .filter(|(found, expected)| found != expected);
            let differ: Vec<_> = differ.map(|(found, (_, expected))| (found, expected)).collect();
            assert!(differ.is_empty(), "{}, {what}: {differ:#?}", server.name);
        }
    };
    for server in servers.iter().chain([&model]) {
        wait_until_same(server, &master);
    }
    compare("with its master");
    let name = ["127.0.0.1", &master.port.to_string()].map(str::to_owned);
    drop(master);
    let all = || servers.iter().chain([&model]);
    for server in all() {
        eventually("the link is down", || !is_linked(server));
        let again = server.client().call(&["REPLICAOF", &name[0], &name[1]]);
        assert_eq!(again.text(), "OK Already connected to specified master");
    }
    compare("without its master");
    for server in all() {
        server.client().line("CONFIG SET replica-serve-stale-data no");
    }
    compare("without its master, and not to answer with what is old");
    for server in all() {
        server.client().line("CONFIG SET replica-serve-stale-data yes");
        server.client().line("CONFIG SET replica-read-only no");
        server.client().line("DEL key list:1 stream:0");
        assert_eq!(server.client().line("SET mine 1").text(), "OK");
        assert_eq!(server.client().line("REPLICAOF NO ONE").text(), "OK");
        assert_eq!(server.client().line("REPLICAOF no one").text(), "OK");
        assert_eq!(server.info("replication", "role"), "master");
        assert_eq!(server.client().line("GET mine").text(), "1");
    }
}

/// What the master says of how replicas have come.
fn syncs(master: &Server) -> [u64; 2] {
    ["sync_full", "sync_partial_ok"].map(|field| master.info_number("stats", field))
}

/// A link that is cut goes on where it was, in whatever the master was about to say.
#[test]
fn a_cut_link_goes_on_where_it_was() {
    for oracle in MASTERS {
        let options = ["--repl-diskless-sync-delay", "0", "--repl-backlog-size", "64mb"];
        let Some(master) = oracle.start(&options) else {
            continue;
        };
        for shards in SHARDS {
            let replica = Server::shardis(shards, &[]);
            follow(&replica, &master);
            wait_until_same(&replica, &master);
            let [full, partial] = syncs(&master);
            for round in 0..4 {
                let mut client = master.client();
                change(&mut client, round);
                client.call(&["SELECT", "9"]);
                client.line(&format!("SET round {round}"));
                client.line("CLIENT KILL TYPE replica");
                // Where the stream goes on another db is selected than where it began.
                client.line(&format!("APPEND rounds {round}"));
                change(&mut client, round);
            }
            assert_same(&replica, &master);
            let [full_then, partial_then] = syncs(&master);
            assert_eq!(full_then, full, "no full sync: {}", replica.log());
            assert!(partial_then > partial);
        }
    }
}

/// Whoever reads on the replica sees what was done as one as one, and never what is later without what was sooner.
#[test]
fn readers_see_states_that_the_master_had() {
    const KEYS: usize = 16;
    const ROUNDS: u32 = 400;
    let Some(master) = Oracle::Redis70.start(&["--repl-diskless-sync-delay", "0"]) else {
        return;
    };
    for shards in SHARDS {
        let replica = Server::shardis(shards, &[]);
        let keys: Vec<String> = (0..KEYS).map(|number| format!("key:{number}")).collect();
        let mut writer = master.client();
        for key in &keys {
            writer.call(&["SET", key, "0"]);
        }
        for key in ["first", "second"] {
            writer.call(&["SET", key, "0"]);
        }
        follow(&replica, &master);
        wait_until_same(&replica, &master);
        let last = ROUNDS.to_string();
        std::thread::scope(|scope| {
            for reader in 0..2 {
                let (replica, keys, last) = (&replica, &keys, &last);
                scope.spawn(move || {
                    let mut client = replica.client();
                    let mut all = vec!["MGET".to_owned()];
                    all.extend(keys.iter().cloned());
                    let mut before = 0;
                    loop {
                        let seen: Vec<String> = client.call(&all).items().iter().map(Value::text).collect();
                        assert!(
                            seen.iter().all(|value| *value == seen[0]),
                            "half a transaction: {seen:?}"
                        );
                        let now: u32 = seen[0].parse().expect("a number");
                        assert!(now >= before, "{now} after {before}");
                        before = now;
                        // What is written second is not there without what is written first; it is read first.
                        let second = client.call(&["GET", "second"]).text();
                        let first = client.call(&["GET", "first"]).text();
                        let [second, first]: [u32; 2] = [second, first].map(|text| text.parse().expect("a number"));
                        assert!(first >= second, "reader {reader}: {first} and {second}");
                        if seen[0] == *last {
                            break;
                        }
                    }
                });
            }
            for round in 1..=ROUNDS {
                let round = round.to_string();
                let mut commands = vec![
                    vec!["SET", "first", &round],
                    vec!["SET", "second", &round],
                    vec!["MULTI"],
                ];
                commands.extend(keys.iter().map(|key| vec!["SET", key, &round]));
                commands.push(vec!["EXEC"]);
                writer.call_all(&commands);
            }
        });
    }
}

/// A replica becomes a master: it takes writes at once, says which history it goes on from, and its old master can follow it.
#[test]
fn a_promoted_replica_leads() {
    let Some(master) = Oracle::Redis70.start(&["--repl-diskless-sync-delay", "0"]) else {
        return;
    };
    for shards in SHARDS {
        master.client().line("FLUSHALL");
        let replica = Server::shardis(shards, &[]);
        fill(&mut master.client());
        follow(&replica, &master);
        assert_same(&replica, &master);
        let blocked = {
            let mut client = replica.client();
            let reader = std::thread::spawn(move || client.line("XREAD BLOCK 0 STREAMS missing 0"));
            eventually("a reader waits", || {
                replica.info_number("clients", "blocked_clients") == 1
            });
            reader
        };
        let [history, offset] = ["master_replid", "slave_repl_offset"].map(|field| replica.info("replication", field));
        assert_eq!(history, master.info("replication", "master_replid"));
        let mut client = replica.client();
        // As Sentinel does it.
        for line in ["MULTI", "SLAVEOF NO ONE", "CLIENT KILL TYPE pubsub", "EXEC"] {
            let reply = client.line(line);
            assert!(!reply.is_error(), "{line}: {reply}");
        }
        assert_eq!(client.line("XADD missing 1-1 a b").text(), "1-1");
        assert!(
            !blocked.join().expect("the reader ends").is_error(),
            "who waits for data waits on"
        );
        assert_eq!(client.line("DEL missing").integer(), 1);
        let [replid, replid2, second, role] = ["master_replid", "master_replid2", "second_repl_offset", "role"]
            .map(|field| replica.info("replication", field));
        assert_eq!(role, "master");
        assert_ne!(replid, history);
        assert_eq!(replid2, history);
        let offset: u64 = offset.parse().expect("an offset");
        assert!(
            second.parse::<u64>().expect("an offset") > offset,
            "{second} and {offset}"
        );
        assert_eq!(client.line("ROLE").items()[0].text(), "master");

        // And back: those who wait are told to go elsewhere.
        let mut waiting = replica.client();
        let port = master.port.to_string();
        let waiting = std::thread::spawn(move || (waiting.line("BLPOP nothing 0"), waiting.rest()));
        eventually("a client waits", || {
            replica.info_number("clients", "blocked_clients") == 1
        });
        client.line("MULTI");
        client.call(&["SLAVEOF", "127.0.0.1", &port]);
        assert_eq!(client.line("EXEC").items()[0].text(), "OK");
        let (told, rest) = waiting.join().expect("it is told");
        assert_eq!(
            told.text(),
            "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"
        );
        assert!(rest.is_empty());
        change(&mut master.client(), 7);
        assert_same(&replica, &master);
    }
}

/// What is over on the master is gone for readers of the replica at once, and is deleted when the master says so; who listens on the replica
/// hears what is published on the master, and what happens to keys.
#[test]
fn the_master_says_what_is_over() {
    for oracle in MASTERS {
        let Some(master) = oracle.start(&["--repl-diskless-sync-delay", "0"]) else {
            continue;
        };
        for shards in SHARDS {
            let replica = Server::shardis(shards, &["--notify-keyspace-events", "KEA"]);
            follow(&replica, &master);
            wait_until_same(&replica, &master);
            let mut listener = replica.client();
            listener.line("SUBSCRIBE news");
            listener.line("PSUBSCRIBE __keyevent@0__:*");
            let mut client = master.client();
            // A master that does not look for what is over deletes it when somebody asks.
            for number in 0..20 {
                client.line(&format!("SET brief:{number} value PX 1"));
            }
            client.line("PUBLISH news first");
            wait_until_same(&replica, &master);
            let mut reader = replica.client();
            eventually("all is over", || {
                reader.line("EXISTS brief:0 brief:1 brief:2 brief:19").integer() == 0
            });
            eventually("the master has deleted it", || {
                (0..20).for_each(|number| drop(client.line(&format!("GET brief:{number}"))));
                replica.client().line("DBSIZE").integer() == client.line("DBSIZE").integer()
            });
            assert_eq!(
                replica.info_number("stats", "expired_keys"),
                0,
                "a replica lets nothing expire"
            );
            client.line("SET last value");
            client.line("PUBLISH news last");
            let (mut deleted, mut news) = (0, Vec::new());
            while news.last().is_none_or(|text| text != "last") {
                let message: Vec<String> = listener.reply().items().iter().map(Value::text).collect();
                match message.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                    ["message", "news", text] => news.push(text.to_owned()),
                    ["pmessage", _, "__keyevent@0__:del", key] => deleted += u32::from(key.starts_with("brief")),
                    _ => {}
                }
            }
            assert_eq!(news, ["first", "last"]);
            assert_eq!(deleted, 20);
            client.line("DEL last");
        }
    }
}

/// What the master is told while its data set is on the way comes behind it.
#[test]
fn writes_during_a_sync_are_not_lost() {
    for diskless in ["no", "yes"] {
        let options = [
            "--repl-diskless-sync",
            diskless,
            "--repl-diskless-sync-delay",
            "0",
            "--rdb-key-save-delay",
            "500",
        ];
        let Some(master) = Oracle::Redis70.start(&options) else {
            return;
        };
        fill(&mut master.client());
        for shards in SHARDS {
            let replica = Server::shardis(shards, &[]);
            follow(&replica, &master);
            let mut rounds = 0;
            eventually("it has come", || {
                rounds += 1;
                change(&mut master.client(), rounds);
                is_linked(&replica)
            });
            assert_same(&replica, &master);
        }
    }
}

/// A replica with an append-only file has in it what it has; and it says whom it follows where that is asked for.
#[test]
fn a_replica_logs_what_it_gets() {
    let Some(master) = Oracle::Redis70.start(&["--repl-diskless-sync-delay", "0"]) else {
        return;
    };
    fill(&mut master.client());
    for shards in SHARDS {
        let replica = Server::shardis(shards, &["--appendonly", "yes", "--enable-debug-command", "yes"]);
        follow(&replica, &master);
        let named = format!("127.0.0.1 {}", master.port);
        for _ in 0..2 * shards {
            assert_eq!(replica.client().line("CONFIG GET replicaof").items()[1].text(), named);
        }
        wait_until_same(&replica, &master);
        change(&mut master.client(), 1);
        assert_same(&replica, &master);
        let mut client = replica.client();
        eventually("the file has been begun anew", || {
            replica.info_number("persistence", "aof_rewrite_in_progress") == 0
        });
        let before = contents(&mut client);
        let reloaded = client.line("DEBUG LOADAOF");
        assert_eq!(reloaded.text(), "OK", "{}", replica.log());
        assert_eq!(contents(&mut client), before, "{}", replica.name);
        assert_eq!(client.line("REPLICAOF NO ONE").text(), "OK");
        assert_eq!(replica.client().line("CONFIG GET replicaof").items()[1].text(), "");
    }
}

/// This server copies itself, whatever the numbers of shards; the roles change places; and who copies a server that begins to copy another
/// one is cut off, and told that there is nothing to be had while that has no link it could hand on.
#[test]
fn it_copies_and_is_copied_by_its_like() {
    for (of_master, of_replica) in [(1, 4), (4, 2), (2, 1)] {
        let args = ["--repl-diskless-sync-delay", "0"];
        let [master, replica] = [of_master, of_replica].map(|shards| Server::shardis(shards, &args));
        fill(&mut master.client());
        follow(&replica, &master);
        change(&mut master.client(), 1);
        assert_same(&replica, &master);
        assert_eq!(syncs(&master), [1, 0]);
        assert!(master.info_number("memory", "mem_replication_backlog") > 0);
        assert_eq!(master.client().line("CLIENT KILL TYPE replica").integer(), 1);
        change(&mut master.client(), 2);
        assert_same(&replica, &master);
        assert_eq!(syncs(&master), [1, 1], "what it lacked was in the backlog");
        assert_eq!(master.info_number("replication", "connected_slaves"), 1);

        // The roles change places.
        assert_eq!(replica.client().line("REPLICAOF NO ONE").text(), "OK");
        change(&mut replica.client(), 3);
        follow(&master, &replica);
        assert_same(&master, &replica);
        assert_eq!(master.info_number("replication", "connected_slaves"), 0);

        // A third one copies who leads now, and loses it when that follows another one.
        let third = Server::shardis(2, &args);
        follow(&third, &replica);
        assert_same(&third, &replica);
        let other = Server::shardis(1, &args);
        follow(&replica, &other);
        eventually("it is cut off", || !is_linked(&third));
        assert_eq!(replica.info_number("replication", "connected_slaves"), 0);
        follow(&third, &other);
        follow(&master, &other);
        fill(&mut other.client());
        for copy in [&replica, &third, &master] {
            assert_same(copy, &other);
        }
        assert_eq!(other.info_number("replication", "connected_slaves"), 3);
    }
}
