//! Snapshots as users meet them: files that real servers read, data of one moment while clients write, save points, the end of the
//! process, and what happens when the disk or the process fails.
//!
//! What the parts promise by themselves (the cut in a slot, the laying of parts, crashes of the machine) stands beside them; this is the
//! whole server, with 1, 2 and 4 shards.

#[path = "support/mod.rs"]
mod support;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::{Oracle, Server, eventually};

const DEBUG: [&str; 2] = ["--enable-debug-command", "yes"];

/// Some of everything that a version 10 file can hold.
fn fill(server: &Server) {
    let mut client = server.client();
    let mut lines = Vec::new();
    for number in 0..400 {
        let (few, small) = (number % 7, number % 150);
        lines.push(format!("SET int:{number} {}", number * 1_000_003));
        lines.push(format!("SET text:{number} {}", "word-".repeat(number % 60)));
        lines.push(format!(
            "RPUSH list:{few} {number} element-{number} {}",
            "x".repeat(number)
        ));
        lines.push(format!("SADD set:{few} member-{number}"));
        lines.push(format!("SADD ints:{few} {number}"));
        lines.push(format!("ZADD zset:{few} {}.5 member-{number}", number * 3));
        lines.push(format!("ZADD small-zset:{small} {number} m"));
        lines.push(format!("HSET hash:{few} field-{number} value-{number}"));
        lines.push(format!("HSET small-hash:{small} f v"));
        lines.push(format!("XADD stream:{few} {number}-1 field value-{number}"));
        lines.push(format!(
            "SET expires:{number} v PXAT {}",
            4_000_000_000_000_u64 + number as u64
        ));
        lines.push(format!("PFADD hll:{few} {number}"));
    }
    lines.push("XGROUP CREATE stream:1 group 0".to_owned());
    lines.push("XREADGROUP GROUP group alice COUNT 3 STREAMS stream:1 >".to_owned());
    for line in &lines {
        let reply = client.line(line);
        assert!(!reply.is_error(), "{line}: {reply:?}");
    }
    for db in [3, 11] {
        client.line(&format!("SELECT {db}"));
        for number in 0..50 {
            client.line(&format!("SET of-{db}:{number} {number}"));
        }
    }
}

fn digest(server: &Server) -> String {
    server.client().line("DEBUG DIGEST").text()
}

/// Has a real server read the dump of ours, and compares.
fn is_read_by(oracle: Oracle, server: &Server) {
    let peer_dir = server.dir.join("peer");
    std::fs::create_dir_all(&peer_dir).expect("a directory in that of the server");
    std::fs::copy(server.dir.join("dump.rdb"), peer_dir.join("dump.rdb")).expect("there is a dump");
    let dir = peer_dir.to_string_lossy().into_owned();
    let Some(peer) = oracle.start(&["--dir", &dir, DEBUG[0], DEBUG[1]]) else {
        return;
    };
    assert_eq!(
        digest(&peer),
        digest(server),
        "{} reads what {} has saved",
        peer.name,
        server.name
    );
}

#[test]
fn real_servers_read_what_is_saved() {
    for shards in [1, 2, 4] {
        for (version, oracles) in [
            ("10", &[Oracle::Redis70, Oracle::Redis82, Oracle::Valkey91][..]),
            ("11", &[Oracle::Redis82, Oracle::Valkey91]),
            ("12", &[Oracle::Redis82]),
        ] {
            let server = Server::shardis(shards, &["--rdb-version", version, DEBUG[0], DEBUG[1]]);
            fill(&server);
            assert_eq!(server.client().line("SAVE").text(), "OK");
            for oracle in oracles {
                is_read_by(*oracle, &server);
            }
            let check = std::process::Command::new("redis-check-rdb")
                .arg(server.dir.join("dump.rdb"))
                .output();
            if let Ok(output) = check
                && version == "10"
            {
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(output.status.success() && text.contains("RDB looks OK"), "{text}");
                assert!(text.contains("Checksum OK"), "{text}");
            }
        }
    }
}

/// The names of a set of so many files.
fn set_names(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("dump.{index}-of-{count}.rdb")).collect()
}

/// The names in the directory of a server, without those of its log and of a peer.
fn data_names(server: &Server) -> Vec<String> {
    let mut names = names(&server.dir);
    names.retain(|name| name != "log" && name != "peer");
    names
}

/// Each file of a set is one that everybody can read, and all together are the data set, at any number of shards.
#[test]
fn a_file_for_each_shard_is_read_alone_and_with_the_others() {
    let key_count = |server: &Server| -> u64 {
        let keyspace = server.client().line("INFO keyspace").text();
        let counts = keyspace.split("keys=").skip(1);
        let digits = counts.map(|rest| rest.split(',').next().expect("a split has a first part"));
        digits.map(|digits| digits.parse::<u64>().expect("a number")).sum()
    };
    for shards in [1, 2, 4] {
        let options = ["--rdb-version", "10", "--rdb-layout", "per-shard", DEBUG[0], DEBUG[1]];
        let server = Server::shardis(shards, &options);
        fill(&server);
        let mut client = server.client();
        for from in (0..5000).step_by(500) {
            grow(&mut client, from..from + 500);
        }
        assert_eq!(client.line("SAVE").text(), "OK");
        assert_eq!(data_names(&server), set_names(shards));
        assert_eq!(info(&server, "rdb_last_bgsave_status"), "ok");
        assert_eq!(info(&server, "rdb_changes_since_last_save"), "0");
        assert_eq!(info(&server, "rdb_saves"), "1");
        let expected = digest(&server);
        let mut keys_of_peers = 0;
        for name in set_names(shards) {
            let peer_dir = server.dir.join("peer");
            std::fs::create_dir_all(&peer_dir).expect("a directory in that of the server");
            std::fs::copy(server.dir.join(&name), peer_dir.join("dump.rdb")).expect("there is a file");
            let dir = peer_dir.to_string_lossy().into_owned();
            if let Some(peer) = Oracle::Redis70.start(&["--dir", &dir]) {
                let keys = key_count(&peer);
                assert!(keys > 0, "{name}");
                keys_of_peers += keys;
            }
            let check = std::process::Command::new("redis-check-rdb")
                .arg(server.dir.join(&name))
                .output();
            if let Ok(output) = check {
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(output.status.success() && text.contains("RDB looks OK"), "{text}");
                assert!(text.contains("Checksum OK"), "{text}");
            }
        }
        if Oracle::Redis70.program().is_some() {
            assert_eq!(keys_of_peers, key_count(&server), "{shards} files");
        }
        let dir = server.dir.to_string_lossy().into_owned();
        drop(client);
        for readers in [1, 2, 4] {
            let copy = server.dir.join("peer");
            std::fs::remove_dir_all(&copy).expect("it is there");
            std::fs::create_dir(&copy).expect("a directory in that of the server");
            for name in set_names(shards) {
                std::fs::copy(Path::new(&dir).join(&name), copy.join(&name)).expect("there is a file");
            }
            let copy = copy.to_string_lossy().into_owned();
            let reader = Server::shardis(readers, &["--dir", &copy, DEBUG[0], DEBUG[1]]);
            reader.wait_until_loaded();
            assert_eq!(
                digest(&reader),
                expected,
                "{readers} shards read what {shards} have written"
            );
        }
    }
}

/// The layout is obeyed by the next snapshot, and what it replaces is gone: whatever ends it, and also under another number of shards.
#[test]
fn the_layout_can_be_changed_while_it_runs() {
    let mut server = Server::shardis(4, &["--save", "3600 1", DEBUG[0], DEBUG[1]]);
    let mut client = server.client();
    client.line("DEBUG POPULATE 1000");
    let expected = digest(&server);
    for (layout, files) in [
        ("merged", vec!["dump.rdb".to_owned()]),
        ("per-shard", set_names(4)),
        ("per-shard", set_names(4)),
        ("merged", vec!["dump.rdb".to_owned()]),
        ("per-shard", set_names(4)),
    ] {
        assert_eq!(client.line(&format!("CONFIG SET rdb-layout {layout}")).text(), "OK");
        let before = server.info_number("persistence", "rdb_saves");
        assert!(!client.line("BGSAVE").is_error());
        eventually("it is saved", || {
            server.info_number("persistence", "rdb_saves") > before
        });
        assert_eq!(data_names(&server), files, "{layout}");
        assert_eq!(client.line("DEBUG RELOAD NOSAVE").text(), "OK", "{}", server.log());
        assert_eq!(digest(&server), expected);
    }
    assert!(client.line("CONFIG SET rdb-layout both").is_error());
    // What is cancelled leaves those of before.
    let read = |server: &Server, name: &String| std::fs::read(server.dir.join(name)).expect("it is there");
    let files: Vec<Vec<u8>> = set_names(4).iter().map(|name| read(&server, name)).collect();
    client.line("CONFIG SET rdb-key-save-delay 10000");
    client.line("BGSAVE");
    eventually("keys are saved", || {
        server.info_number("persistence", "current_save_keys_processed") > 2
    });
    assert_eq!(client.line("BGSAVE CANCEL").text(), "Background saving cancelled");
    eventually("what it has left is gone", || data_names(&server) == set_names(4));
    let now: Vec<Vec<u8>> = set_names(4).iter().map(|name| read(&server, name)).collect();
    assert!(files == now);
    client.line("CONFIG SET rdb-key-save-delay 0");
    assert!(client.try_call(&["SHUTDOWN"]).is_err());
    assert!(server.ending().success());
    assert_eq!(data_names(&server), set_names(4));
    let dir = server.dir.to_string_lossy().into_owned();
    let options = ["--dir", &dir, "--rdb-layout", "per-shard", DEBUG[0], DEBUG[1]];
    let next = Server::shardis(2, &options);
    next.wait_until_loaded();
    assert_eq!(digest(&next), expected);
    assert_eq!(next.client().line("SAVE").text(), "OK");
    assert_eq!(data_names(&server), set_names(2));
    assert_eq!(next.client().line("FLUSHALL").text(), "OK");
    assert_eq!(next.client().line("SAVE").text(), "OK");
    drop(next);
    let last = Server::shardis(1, &["--dir", &dir]);
    last.wait_until_loaded();
    assert_eq!(last.client().line("DBSIZE").integer(), 0);
    assert_eq!(data_names(&server), set_names(2));
}

/// The lowest version that can hold it, and with no set that is packed 7.0 reads it whatever was asked for.
#[test]
fn the_version_is_the_lowest_that_the_content_needs() {
    let server = Server::shardis(2, &["--rdb-version", "12"]);
    let mut client = server.client();
    let version = || {
        let bytes = std::fs::read(server.dir.join("dump.rdb")).expect("there is a dump");
        String::from_utf8_lossy(&bytes[..9]).into_owned()
    };
    for (line, expected) in [
        ("SET key value", "REDIS0009"),
        ("HSET hash f v", "REDIS0010"),
        ("SADD set member", "REDIS0011"),
        ("HEXPIRE hash 1000 FIELDS 1 f", "REDIS0012"),
    ] {
        client.line(line);
        assert_eq!(client.line("SAVE").text(), "OK");
        assert_eq!(version(), expected, "{line}");
    }
}

/// Money that is moved between accounts on all shards is all there in every snapshot, whatever else goes on.
#[test]
fn a_snapshot_under_load_is_of_one_moment() {
    const ACCOUNTS: usize = 400;
    const EACH: i64 = 1000;
    const SAME: usize = 200;
    if Oracle::Redis70.program().is_none() {
        return;
    }
    for shards in [1, 2, 4] {
        let server = Server::shardis(shards, &["--rdb-version", "10", DEBUG[0], DEBUG[1]]);
        let mut client = server.client();
        for account in 0..ACCOUNTS {
            client.line(&format!("SET account:{account} {EACH}"));
        }
        client.line("DEBUG POPULATE 30000 filler 100");
        let is_over = AtomicBool::new(false);
        // Large values that always have as many elements as each other.
        for from in (0..20000).step_by(500) {
            grow(&mut client, from..from + 500);
        }
        std::thread::scope(|scope| {
            let _over = OverWhenDropped(&is_over);
            let (shared, over) = (&server, &is_over);
            scope.spawn(move || {
                let mut client = shared.client();
                let mut random = fastrand::Rng::with_seed(99);
                let mut member = 20000;
                while !over.load(Ordering::Relaxed) {
                    match random.u32(..100) {
                        0 => {
                            for line in ["MULTI", "RENAME big:set big:set2", "RENAME big:set2 big:set", "EXEC"] {
                                client.line(line);
                            }
                        }
                        1 => {
                            // They go, and come back as they were.
                            for line in [
                                "MULTI",
                                "COPY big:list big:list2",
                                "DEL big:list",
                                "RENAME big:list2 big:list",
                                "EXEC",
                            ] {
                                client.line(line);
                            }
                        }
                        2..50 => {
                            let gone = random.u32(..member);
                            client.line("MULTI");
                            client.line(&format!("SREM big:set m{gone}"));
                            client.line(&format!("ZREM big:zset m{gone}"));
                            client.line(&format!("HDEL big:hash m{gone}"));
                            client.line(&format!("LREM big:list 1 m{gone}"));
                            client.line("EXEC");
                        }
                        _ => {
                            grow(&mut client, member..member + 1);
                            member += 1;
                        }
                    }
                }
            });
            for worker in 0..3_usize {
                let (server, is_over) = (&server, &is_over);
                scope.spawn(move || {
                    let mut client = server.client();
                    let mut random = fastrand::Rng::with_seed(worker as u64);
                    while !is_over.load(Ordering::Relaxed) {
                        let (from, to) = (random.usize(..ACCOUNTS), random.usize(..ACCOUNTS));
                        match random.u32(..20) {
                            0..10 => {
                                let amount = random.i64(1..50);
                                client.line("MULTI");
                                client.line(&format!("DECRBY account:{from} {amount}"));
                                client.line(&format!("INCRBY account:{to} {amount}"));
                                client.line("EXEC");
                            }
                            10 => {
                                // It is somewhere else for a while, and comes back, each time with what it has.
                                client.line(&format!("RENAME account:{from} account:{from}"));
                                client.line("MULTI");
                                client.line(&format!("RENAMENX account:{from} moved:{from}"));
                                client.line("EXEC");
                                client.line(&format!("RENAMENX moved:{from} account:{from}"));
                            }
                            11 => {
                                for line in ["MULTI", "SWAPDB 0 1", "SWAPDB 0 1", "EXEC"] {
                                    client.line(line);
                                }
                            }
                            12 => drop(client.line(&format!("SET filler:{from} other EX 1"))),
                            13 => drop(client.line(&format!("DEL filler:{}", random.usize(..30000)))),
                            14 => {
                                // A db whose keys all have one value, whenever that was.
                                let value = random.u32(..);
                                let pairs = (0..SAME).map(|number| format!("same:{number} {value}"));
                                let set = format!("MSET {}", pairs.collect::<Vec<_>>().join(" "));
                                for line in ["MULTI", "SELECT 5", "FLUSHDB", &set, "SELECT 0", "EXEC"] {
                                    client.line(line);
                                }
                            }
                            _ => drop(client.line(&format!("APPEND filler:{} more", random.usize(..30000)))),
                        }
                    }
                });
            }
            for round in 0..6 {
                let before = server.info_number("persistence", "rdb_saves");
                assert!(!client.line("BGSAVE").is_error());
                eventually("the snapshot is saved", || {
                    server.info_number("persistence", "rdb_saves") > before
                });
                let peer_dir = server.dir.join("peer");
                std::fs::create_dir_all(&peer_dir).expect("a directory in that of the server");
                std::fs::copy(server.dir.join("dump.rdb"), peer_dir.join("dump.rdb")).expect("there is a dump");
                let dir = peer_dir.to_string_lossy().into_owned();
                let peer = Oracle::Redis70.start(&["--dir", &dir]).expect("it was there");
                let mut peer = peer.client();
                let mut sum = 0;
                for name in ["account", "moved"] {
                    let mut keys = vec!["MGET".to_owned()];
                    keys.extend((0..ACCOUNTS).map(|account| format!("{name}:{account}")));
                    let values = peer.call(&keys).items();
                    sum += values
                        .iter()
                        .filter_map(|value| value.text().parse::<i64>().ok())
                        .sum::<i64>();
                }
                assert_eq!(sum, ACCOUNTS as i64 * EACH, "{shards} shards, round {round}");
                peer.line("SELECT 5");
                let mut keys = vec!["MGET".to_owned()];
                keys.extend((0..SAME).map(|number| format!("same:{number}")));
                let values = peer.call(&keys).items();
                assert!(values.iter().all(|value| *value == values[0]), "{values:?}");
                peer.line("SELECT 0");
                let sizes = ["SCARD big:set", "ZCARD big:zset", "HLEN big:hash", "LLEN big:list"];
                let sizes = sizes.map(|line| peer.line(line).integer());
                assert!(
                    sizes[0] > 1000 && sizes.iter().all(|size| *size == sizes[0]),
                    "{sizes:?}"
                );
            }
        });
        assert_eq!(info(&server, "current_cow_size"), "0");
        assert_eq!(
            info(&server, "rdb_writers_held_count"),
            "0",
            "this much was never captured"
        );
        assert_eq!(names(&server.dir), ["dump.rdb", "log", "peer"]);
    }
}

/// Tables grow and shrink, keys expire, are evicted, renamed and deleted while a snapshot walks through them: what is saved is what there was.
#[test]
fn a_snapshot_has_every_key_whatever_becomes_of_the_tables() {
    const KEYS: usize = 20_000;
    for shards in [1, 2, 4] {
        let options = [
            "--rdb-key-save-delay",
            "10000",
            "--maxmemory-policy",
            "allkeys-random",
            DEBUG[0],
            DEBUG[1],
        ];
        let server = Server::shardis(shards, &options);
        let mut client = server.client();
        client.line(&format!("DEBUG POPULATE {KEYS} key 20"));
        let expected = digest(&server);
        assert_eq!(client.line("BGSAVE").text(), "Background saving started");
        eventually("it walks", || {
            server.info_number("persistence", "current_save_keys_processed") > 0
        });
        let line = |number: usize| match number % 5 {
            0 => format!("SET new:{number} value"),
            1 => format!("PEXPIRE key:{number} 1"),
            2 => format!("UNLINK key:{number}"),
            3 => format!("RENAME key:{number} moved:{number}"),
            _ => format!("SET other:{number} value"),
        };
        let lines = (0..KEYS).map(|number| line(number).split(' ').map(str::to_owned).collect());
        client.call_all::<String>(&lines.collect::<Vec<_>>());
        eventually("keys are evicted", || {
            let used = server.info_number("memory", "used_memory");
            let limit = (used - server.info_number("memory", "mem_not_counted_for_evict")) / 10 * 9;
            client.line(&format!("CONFIG SET maxmemory {limit}"));
            client.line("SET one more");
            server.info_number("stats", "evicted_keys") > 0
        });
        client.line("CONFIG SET maxmemory 0");
        eventually("keys have expired", || {
            server.info_number("stats", "expired_keys") + server.info_number("stats", "evicted_keys") > 1000
        });
        assert_eq!(info(&server, "rdb_bgsave_in_progress"), "1", "it walks still");
        client.line("CONFIG SET rdb-key-save-delay 0");
        eventually("it is saved", || info(&server, "rdb_saves") == "1");
        let aside = server.dir.join("aside");
        std::fs::create_dir_all(&aside).expect("a directory in that of the server");
        std::fs::copy(server.dir.join("dump.rdb"), aside.join("dump.rdb")).expect("there is a dump");
        let dir = aside.to_string_lossy().into_owned();
        let other = Server::shardis(2, &["--dir", &dir, DEBUG[0], DEBUG[1]]);
        eventually("it is loaded", || info(&other, "loading") == "0");
        assert_eq!(other.client().line("DBSIZE").integer(), KEYS as i64, "{shards} shards");
        assert_eq!(digest(&other), expected, "{shards} shards");
    }
}

/// Fields that expire are saved with their times, and a real server reads them; those whose time is over are not there.
#[test]
fn fields_that_expire_are_saved() {
    for shards in [1, 2, 4] {
        let server = Server::shardis(shards, &["--rdb-version", "11", DEBUG[0], DEBUG[1]]);
        let mut client = server.client();
        let sizes = [("small", 9), ("large", 900)];
        for (key, count) in sizes {
            for number in 0..count {
                client.line(&format!("HSET {key} field:{number} value:{number}"));
            }
            for number in (0..count).step_by(3) {
                let at = 4_000_000_000_000_u64 + number;
                client.line(&format!("HPEXPIREAT {key} {at} FIELDS 1 field:{number}"));
            }
            client.line(&format!("HSET {key} short v"));
            client.line(&format!("HPEXPIRE {key} 1 FIELDS 1 short"));
            eventually("a field is over", || {
                matches!(client.line(&format!("HGET {key} short")), support::Value::Nil)
            });
        }
        assert_eq!(client.line("SAVE").text(), "OK");
        let aside = server.dir.join("aside");
        std::fs::create_dir_all(&aside).expect("a directory in that of the server");
        std::fs::copy(server.dir.join("dump.rdb"), aside.join("dump.rdb")).expect("there is a dump");
        let dir = aside.to_string_lossy().into_owned();
        let Some(peer) = Oracle::Redis82.start(&["--dir", &dir]) else {
            return;
        };
        let mut peer = peer.client();
        for (key, count) in sizes {
            assert_eq!(
                peer.line(&format!("HLEN {key}")).integer(),
                count as i64,
                "{shards} shards"
            );
            for number in 0..count {
                let asked = format!("HPEXPIRETIME {key} FIELDS 1 field:{number}");
                let expected = match number % 3 {
                    0 => 4_000_000_000_000 + number as i64,
                    _ => -1,
                };
                assert_eq!(peer.line(&asked).items()[0].integer(), expected, "{key} {number}");
            }
        }
    }
}

/// Ends the threads that ask, also when the one that looks has failed: they would go on for ever, and nobody would hear of it.
struct OverWhenDropped<'a>(&'a AtomicBool);

impl Drop for OverWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// More elements for each of the large values, in one transaction.
fn grow(client: &mut support::Client, members: std::ops::Range<u32>) {
    client.line("MULTI");
    for (command, one) in [
        ("SADD big:set", "m{}"),
        ("ZADD big:zset", "{} m{}"),
        ("HSET big:hash", "m{} v"),
        ("RPUSH big:list", "m{}"),
    ] {
        let all = members.clone().map(|member| one.replace("{}", &member.to_string()));
        client.line(&format!("{command} {}", all.collect::<Vec<_>>().join(" ")));
    }
    assert!(!client.line("EXEC").is_error());
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("it is there");
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("it can be read")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

fn info(server: &Server, field: &str) -> String {
    server.info("persistence", field)
}

/// What the commands answer while a snapshot is under way, as `rdb-key-save-delay` lets one be watched.
#[test]
fn a_snapshot_can_be_watched_cancelled_and_let_go_on() {
    for shards in [1, 2, 4] {
        let server = Server::shardis(shards, &["--rdb-key-save-delay", "10000", DEBUG[0], DEBUG[1]]);
        let mut client = server.client();
        client.line("DEBUG POPULATE 5000");
        assert_eq!(client.line("BGSAVE").text(), "Background saving started");
        for line in ["BGSAVE", "SAVE", "BGSAVE SCHEDULE"] {
            assert_eq!(
                client.line(line).text(),
                "ERR Background save already in progress",
                "{line}"
            );
        }
        assert_eq!(client.line("BGSAVE NOW").text(), "ERR syntax error");
        eventually("keys are saved", || {
            server.info_number("persistence", "current_save_keys_processed") > 2
        });
        assert_eq!(info(&server, "rdb_bgsave_in_progress"), "1");
        assert_eq!(info(&server, "current_save_keys_total"), "5000");
        assert!(
            !names(&server.dir).contains(&"dump.rdb".to_owned()),
            "nothing has its name before it is whole"
        );
        assert_eq!(client.line("BGSAVE CANCEL").text(), "Background saving cancelled");
        assert_eq!(info(&server, "rdb_bgsave_in_progress"), "0");
        assert_eq!(info(&server, "rdb_last_bgsave_status"), "err");
        eventually("what it has left is gone", || names(&server.dir) == ["log"]);
        assert_eq!(
            client.line("BGSAVE CANCEL").text(),
            "ERR Background saving is currently not in progress or scheduled"
        );
        // The next one is not disturbed by what the last has left, and a new delay is obeyed at once.
        client.line("SET late value");
        assert_eq!(client.line("BGSAVE").text(), "Background saving started");
        client.line("CONFIG SET rdb-key-save-delay 0");
        eventually("it is saved", || info(&server, "rdb_saves") == "1");
        assert_eq!(info(&server, "rdb_last_bgsave_status"), "ok");
        assert_eq!(info(&server, "rdb_changes_since_last_save"), "0");
        assert_eq!(server.info_number("stats", "total_forks"), 2);
        for line in ["MULTI", "SET a b", "BGSAVE"] {
            client.line(line);
        }
        let answers = client.line("EXEC").items();
        assert_eq!(answers[1].text(), "Background saving scheduled");
        eventually("it has come", || info(&server, "rdb_saves") == "2");
        for line in ["MULTI", "SAVE"] {
            client.line(line);
        }
        assert!(client.line("EXEC").text().starts_with("EXECABORT"));
    }
}

/// What is captured is bounded: writers of what is not saved yet wait, others and readers do not.
#[test]
fn writers_wait_when_as_much_is_captured_as_may_be() {
    for shards in [1, 2, 4] {
        let options = [
            "--rdb-key-save-delay",
            "1000000",
            "--snapshot-memory-max",
            "200kb",
            "--rdbcompression",
            "no",
            DEBUG[0],
            DEBUG[1],
        ];
        let server = Server::shardis(shards, &options);
        let mut client = server.client();
        client.line("DEBUG POPULATE 20000 key 1000");
        client.line("BGSAVE");
        let mut writer = server.client();
        writer
            .stream()
            .set_read_timeout(Some(Duration::from_millis(300)))
            .expect("a timeout");
        let mut held_at = None;
        for number in 0..20000 {
            if writer.try_call(&["APPEND", &format!("key:{number}"), "!"]).is_err() {
                held_at = Some(number);
                break;
            }
        }
        let held_at = held_at.expect("a writer is held");
        assert!(held_at > 100, "at {held_at}");
        assert_eq!(client.line("GET key:19999").text().len(), 1000, "a reader is not");
        let captured = server.info_number("persistence", "current_cow_size");
        let limit = 200 * 1024 * shards as u64;
        assert!((limit..limit + 200_000).contains(&captured), "{captured} of {limit}");
        assert!(server.info_number("persistence", "rdb_writers_held_count") > 0);
        assert!(server.log().contains("writers of keys that are not saved yet wait"));
        assert_eq!(client.line("BGSAVE CANCEL").text(), "Background saving cancelled");
        eventually("the write has been made", || {
            client.line(&format!("STRLEN key:{held_at}")).integer() == 1001
        });
        assert_eq!(info(&server, "current_cow_size"), "0");
    }
}

#[test]
fn save_points_save_and_a_failing_save_refuses_writes() {
    let server = Server::shardis(2, &["--save", "1 3"]);
    let mut client = server.client();
    for number in 0..3 {
        client.line(&format!("SET key:{number} value"));
    }
    eventually("a save point has saved", || info(&server, "rdb_saves") == "1");
    assert!(server.log().contains("3 changes in 1 seconds. Saving..."));
    assert_eq!(info(&server, "rdb_changes_since_last_save"), "0");
    // The directory is no more.
    let aside = server.dir.with_extension("aside");
    std::fs::rename(&server.dir, &aside).expect("it can be renamed");
    client.line("BGSAVE");
    eventually("that has failed", || info(&server, "rdb_last_bgsave_status") == "err");
    for line in ["SET key value", "PING"] {
        assert!(
            client
                .line(line)
                .text()
                .starts_with("MISCONF Redis is configured to save RDB"),
            "{line}"
        );
    }
    assert_eq!(client.line("GET key:1").text(), "value");
    assert_eq!(client.line("SAVE").text(), "ERR");
    client.line("CONFIG SET stop-writes-on-bgsave-error no");
    eventually("it is obeyed", || client.line("SET key value").text() == "OK");
    client.line("CONFIG SET stop-writes-on-bgsave-error yes");
    std::fs::rename(&aside, &server.dir).expect("it can be renamed back");
    assert_eq!(client.line("SAVE").text(), "OK");
    eventually("writes are taken again", || client.line("SET key value").text() == "OK");
}

#[test]
fn flushall_ends_a_snapshot_and_saves_the_empty_set() {
    let server = Server::shardis(
        4,
        &[
            "--save",
            "1000 1000000",
            "--rdb-key-save-delay",
            "10000",
            DEBUG[0],
            DEBUG[1],
        ],
    );
    let mut client = server.client();
    client.line("DEBUG POPULATE 2000");
    client.line("BGSAVE");
    assert_eq!(client.line("FLUSHALL").text(), "OK");
    eventually("the empty set is saved", || {
        info(&server, "rdb_saves") == "1" && info(&server, "rdb_bgsave_in_progress") == "0"
    });
    assert_eq!(info(&server, "rdb_last_bgsave_status"), "ok");
    assert_eq!(names(&server.dir), ["dump.rdb", "log"]);
    assert!(
        std::fs::metadata(server.dir.join("dump.rdb"))
            .expect("it is there")
            .len()
            < 600
    );
}

#[test]
fn the_end_of_the_process_saves_what_it_should() {
    let kill = |server: &Server, signal| {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(server.pid() as i32), signal).expect("it is ours");
    };
    use nix::sys::signal::Signal::{SIGINT, SIGTERM};
    for (options, ends, saves) in [
        (&["--save", "1000 1000000"][..], Err(SIGTERM), true),
        (&["--save", "1000 1000000"], Err(SIGINT), true),
        (&["--save", ""], Err(SIGTERM), false),
        (
            &["--save", "1000 1000000", "--shutdown-on-sigterm", "nosave"],
            Err(SIGTERM),
            false,
        ),
        (&["--save", "", "--shutdown-on-sigint", "save"], Err(SIGINT), true),
        (&["--save", "1000 1000000"], Ok("SHUTDOWN"), true),
        (&["--save", "1000 1000000"], Ok("SHUTDOWN NOSAVE"), false),
        (&["--save", ""], Ok("SHUTDOWN SAVE NOW"), true),
        (&["--save", ""], Ok("SHUTDOWN"), false),
    ] {
        let mut server = Server::shardis(2, options);
        let mut client = server.client();
        client.line("SET key value");
        match ends {
            Err(signal) => kill(&server, signal),
            Ok(line) => assert!(client.try_call(&line.split(' ').collect::<Vec<_>>()).is_err(), "{line}"),
        }
        assert!(server.ending().success());
        let expected = if saves { &["dump.rdb", "log"][..] } else { &["log"] };
        assert_eq!(names(&server.dir), expected, "{options:?} {ends:?}");
    }
}

/// A shutdown that cannot save is refused, and clients write on; forced, the process ends.
#[test]
fn a_shutdown_that_cannot_save_is_refused() {
    let mut server = Server::shardis(2, &["--save", "1000 1000000"]);
    let mut client = server.client();
    client.line("SET key value");
    client.line("CONFIG SET stop-writes-on-bgsave-error no");
    let aside = server.dir.with_extension("aside");
    std::fs::rename(&server.dir, &aside).expect("it can be renamed");
    assert_eq!(
        client.line("SHUTDOWN").text(),
        "ERR Errors trying to SHUTDOWN. Check logs."
    );
    eventually("writes go on", || client.line("SET key other").text() == "OK");
    assert_eq!(client.line("SHUTDOWN ABORT").text(), "ERR No shutdown in progress.");
    assert!(client.try_call(&["SHUTDOWN", "FORCE"]).is_err());
    assert!(server.ending().success());
    std::fs::rename(&aside, &server.dir).expect("it can be renamed back");
    assert_eq!(names(&server.dir), ["log"]);
}

#[test]
fn a_shutdown_that_saves_for_long_can_be_taken_back() {
    let server = Server::shardis(2, &["--save", "1000 1000000", "--rdb-key-save-delay", "100000"]);
    let mut client = server.client();
    for number in 0..100 {
        client.line(&format!("SET key:{number} value"));
    }
    let asked = std::thread::spawn({
        let mut other = server.client();
        move || other.line("SHUTDOWN").text()
    });
    eventually("it saves", || {
        server.info_number("persistence", "current_save_keys_processed") > 1
    });
    assert_eq!(client.line("SHUTDOWN ABORT").text(), "OK");
    assert_eq!(
        asked.join().expect("it was answered"),
        "ERR Errors trying to SHUTDOWN. Check logs."
    );
    eventually("writes go on", || client.line("SET key other").text() == "OK");
}

/// A process that is killed while it saves leaves the files of before, and the next one tidies up.
#[test]
fn a_kill_leaves_the_last_files_and_the_next_start_tidies_up() {
    for (layout, files) in [("merged", vec!["dump.rdb".to_owned()]), ("per-shard", set_names(4))] {
        let mut server = Server::shardis(4, &["--rdb-layout", layout, DEBUG[0], DEBUG[1]]);
        let mut client = server.client();
        client.line("SET key value");
        client.line("SAVE");
        let read = |server: &Server| -> Vec<Vec<u8>> {
            let paths = files.iter().map(|name| server.dir.join(name));
            paths.map(|path| std::fs::read(path).expect("it is there")).collect()
        };
        let saved = read(&server);
        client.line("CONFIG SET rdb-key-save-delay 100000");
        client.line("DEBUG POPULATE 2000");
        client.line("BGSAVE");
        eventually("it saves", || data_names(&server).len() > files.len() + 1);
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(server.pid() as i32),
            nix::sys::signal::Signal::SIGKILL,
        )
        .expect("it is ours");
        server.ending();
        assert!(read(&server) == saved, "{layout}");
        let dir = server.dir.to_string_lossy().into_owned();
        let next = Server::shardis(1, &["--dir", &dir]);
        assert_eq!(data_names(&server), files);
        assert!(next.log().contains("which a save has left that was not finished"));
        next.wait_until_loaded();
        assert_eq!(next.client().line("DBSIZE").integer(), 1, "{layout}");
    }
}
