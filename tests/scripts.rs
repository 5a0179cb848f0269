//! Scripts and functions on a whole server: atomic over any keys on any shards, once, and through files.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use support::client::encode;
use support::{Client, Oracle, Server, Value};

const SHARD_COUNTS: [usize; 3] = [1, 2, 4];

fn eval(client: &mut Client, script: &str, words: &[&str]) -> Value {
    let mut call = vec!["EVAL", script];
    call.extend(words);
    client.call(&call)
}

/// Keys that no script below declares: some of them are at home on other shards than the client is.
const TRANSFER: &str = "
    local from, to = 'account:' .. ARGV[1], 'account:' .. ARGV[2]
    local amount = tonumber(ARGV[3])
    local has = tonumber(redis.call('GET', from) or '0')
    if has < amount then return redis.error_reply('POOR it has ' .. has) end
    redis.call('DECRBY', from, amount)
    redis.call('INCRBY', to, amount)
    redis.call('RPUSH', 'journal:' .. ARGV[1], cjson.encode({to = ARGV[2], amount = amount}))
    return has - amount";

const SUM: &str = "
    local sum = 0
    for i = 0, 9 do sum = sum + tonumber(redis.call('GET', 'account:' .. i) or '0') end
    return sum";

#[test]
fn undeclared_keys_on_all_shards_change_in_one_step() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        let mut client = server.client();
        for account in 0..10 {
            client.line(&format!("SET account:{account} 100"));
        }
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            for seed in 0..4 {
                let (server, is_over) = (&server, &is_over);
                scope.spawn(move || {
                    let mut client = server.client();
                    let mut random = fastrand::Rng::with_seed(seed);
                    for _ in 0..300 {
                        let [from, to] = [0, 0].map(|_| random.u8(0..10).to_string());
                        let reply = eval(&mut client, TRANSFER, &["0", &from, &to, &random.u8(1..40).to_string()]);
                        assert!(!reply.is_error() || reply.text().contains("POOR"), "{reply:?}");
                    }
                    is_over.store(true, Ordering::Relaxed);
                });
            }
            let (server, is_over) = (&server, &is_over);
            scope.spawn(move || {
                let mut client = server.client();
                while !is_over.load(Ordering::Relaxed) {
                    assert_eq!(eval(&mut client, SUM, &["0"]).integer(), 1000, "{shards} shards");
                    let keys: Vec<String> = (0..10).map(|account| format!("account:{account}")).collect();
                    let mut call = vec!["MGET".to_owned()];
                    call.extend(keys);
                    let values = client.call(&call).items();
                    let sum: i64 = values
                        .iter()
                        .map(|value| value.text().parse::<i64>().expect("a number"))
                        .sum();
                    assert_eq!(sum, 1000, "{shards} shards");
                }
            });
        });
    }
}

#[test]
fn a_script_that_runs_again_is_seen_and_counted_once() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(
            shards,
            &["--slowlog-log-slower-than", "0", "--notify-keyspace-events", "KEA"],
        );
        let (mut client, mut listener) = (server.client(), server.client_resp3());
        listener.line("PSUBSCRIBE *");
        let before = server.info_number("stats", "total_error_replies");
        // Twelve keys that it finds one by one, and an error that it catches.
        let script = "
            for i = 1, 12 do redis.call('INCR', 'counted:' .. i) end
            redis.pcall('LPUSH', 'counted:1', 'x')
            redis.call('PUBLISH', 'done', redis.call('GET', 'counted:12'))
            return redis.call('GET', 'nosuch')";
        assert_eq!(eval(&mut client, script, &["0"]), Value::Nil);
        let calls = server.info("commandstats", "cmdstat_incr");
        assert!(calls.starts_with("calls=12,"), "{calls}");
        let calls = server.info("commandstats", "cmdstat_eval");
        assert!(calls.starts_with("calls=1,"), "{calls}");
        let failed = server.info("commandstats", "cmdstat_lpush");
        assert!(failed.contains("failed_calls=1"), "{failed}");
        assert_eq!(server.info_number("stats", "total_error_replies") - before, 1);
        assert_eq!(server.info_number("stats", "keyspace_misses"), 1);
        let slow = client.line("SLOWLOG GET 100").items();
        let named = |name: &str| {
            let command = |entry: &&Value| entry.items()[3].items()[0].text() == name;
            slow.iter().filter(command).count()
        };
        assert_eq!((named("INCR"), named("EVAL")), (12, 1));
        // One event for each of the counters, on the channel of its key and on that of the event, and the message behind them.
        let mut heard = Vec::new();
        while heard.last().is_none_or(|last: &String| last != "done") {
            let message = listener.reply().items();
            heard.push(message[2].text());
        }
        assert_eq!(
            heard
                .iter()
                .filter(|channel| *channel == "__keyevent@0__:incrby")
                .count(),
            12
        );
        assert_eq!(heard.len(), 2 * 12 + 1, "{heard:?}");
    }
}

/// What is asked of the whole keyspace is found out late, with one shard as well.
#[test]
fn what_a_script_did_before_it_asks_for_everything_is_done_once() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        let mut client = server.client();
        for asks in ["'DBSIZE'", "'KEYS', '*'", "'SCAN', 0", "'RANDOMKEY'", "'SWAPDB', 1, 2"] {
            let script = format!("redis.call('INCR', KEYS[1]) redis.call({asks}) return redis.call('GET', KEYS[1])");
            assert_eq!(
                eval(&mut client, &script, &["1", asks]).text(),
                "1",
                "{asks} with {shards} shards"
            );
        }
    }
}

#[test]
fn a_script_that_chooses_by_chance_comes_to_an_end() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        let mut client = server.client();
        client.line("SADD set a b c d e f g h");
        let script = "
            local member = redis.call('SRANDMEMBER', 'set')
            local key = member .. math.random(1000000)
            redis.call('INCR', key)
            return redis.call('INCR', key .. redis.call('SPOP', 'set'))";
        for _ in 0..8 {
            assert_eq!(eval(&mut client, script, &["0"]).integer(), 1);
        }
        assert_eq!(client.line("DBSIZE").integer(), 16);
    }
}

#[test]
fn what_is_loaded_is_known_to_every_shard_and_what_is_flushed_to_none() {
    let server = Server::shardis(4, &[]);
    let mut clients: Vec<Client> = (0..8).map(|_| server.client()).collect();
    for round in 0..50 {
        let loader = round % clients.len();
        let digest = clients[loader]
            .call(&["SCRIPT", "LOAD", &format!("return {round}")])
            .text();
        for client in &mut clients {
            assert_eq!(client.call(&["EVALSHA", &digest, "0"]).integer(), round as i64);
        }
        clients[(round + 3) % 8].line("SCRIPT FLUSH");
        for client in &mut clients {
            let reply = client.call(&["EVALSHA", &digest, "0"]);
            assert!(reply.text().starts_with("NOSCRIPT"), "{reply:?}");
        }
    }
}

#[test]
fn evaluated_scripts_go_when_there_are_many_and_loaded_ones_stay() {
    let server = Server::shardis(2, &[]);
    let mut client = server.client();
    let loaded = client.call(&["SCRIPT", "LOAD", "return 'loaded'"]).text();
    for number in 0..600 {
        eval(&mut client, &format!("return {number}"), &["0"]);
    }
    assert_eq!(server.info_number("memory", "number_of_cached_scripts"), 501);
    assert_eq!(client.call(&["EVALSHA", &loaded, "0"]).text(), "loaded");
}

#[test]
fn functions_and_effects_survive_in_files() {
    for (shards, then) in [(1, 4), (4, 2), (2, 1)] {
        for options in [
            &["--appendonly", "yes"][..],
            &["--save", "1000 1000"],
            &["--appendonly", "yes", "--aof-use-rdb-preamble", "no"],
        ] {
            let dir = std::env::temp_dir().join(format!(
                "shardis-scripts-{}-{shards}-{}",
                std::process::id(),
                options.len()
            ));
            let _ = std::fs::remove_dir_all(&dir);
            std::fs::create_dir_all(&dir).expect("there is room");
            let mut all = vec![
                "--dir",
                dir.to_str().expect("it is text"),
                "--enable-debug-command",
                "yes",
            ];
            all.extend(options);
            let mut server = Server::shardis(shards, &all);
            let mut client = server.client();
            let library = "#!lua name=lib\nredis.register_function('bump', function(keys) return redis.call('INCR', keys[1]) end)";
            assert_eq!(client.call(&["FUNCTION", "LOAD", library]).text(), "lib");
            client.call(&[
                "FUNCTION",
                "LOAD",
                "#!lua name=gone\nredis.register_function('gone', function() end)",
            ]);
            client.line("FUNCTION DELETE gone");
            for _ in 0..3 {
                client.line("FCALL bump 1 counter");
            }
            eval(
                &mut client,
                "for i = 1, 20 do redis.call('SET', 'k' .. i, redis.call('TIME')[1]) end",
                &["0"],
            );
            eval(
                &mut client,
                "redis.set_repl(redis.REPL_AOF) redis.call('SADD', 's', 'x') redis.call('SPOP', 's')",
                &["0"],
            );
            let digest = client.line("DEBUG DIGEST").text();
            let end = match options.contains(&"--save") {
                true => "SHUTDOWN SAVE NOW",
                false => "SHUTDOWN NOSAVE NOW",
            };
            // It answers by closing the connection.
            let _ = client.try_call(&end.split(' ').collect::<Vec<_>>());
            let _ = server.ending();
            let server = Server::shardis(then, &all);
            let mut client = server.client();
            server.wait_until_loaded();
            assert_eq!(client.line("DEBUG DIGEST").text(), digest, "{options:?}");
            assert_eq!(client.line("FCALL bump 1 counter").integer(), 4, "{options:?}");
            assert_eq!(server.info_number("memory", "number_of_libraries"), 1);
            let _ = std::fs::remove_dir_all(&dir);
        }
    }
}

/// What FUNCTION DUMP answers goes to other servers and comes from them.
#[test]
fn libraries_travel_to_other_servers_and_back() {
    let ours = Server::shardis(2, &[]);
    let library = "#!lua name=lib\nredis.register_function('f', function(keys, args) return args[1] end)";
    for oracle in [Oracle::Redis70, Oracle::Redis82, Oracle::Valkey91] {
        let Some(theirs) = oracle.start(&[]) else { continue };
        for (from, to) in [(&ours, &theirs), (&theirs, &ours)] {
            let (mut from, mut to) = (from.client(), to.client());
            from.line("FUNCTION FLUSH");
            to.line("FUNCTION FLUSH");
            from.call(&["FUNCTION", "LOAD", library]);
            let Value::Bulk(payload) = from.line("FUNCTION DUMP") else {
                panic!("{} has no dump", oracle.name())
            };
            let reply = to.call(&[&b"FUNCTION"[..], b"RESTORE", &payload]);
            assert_eq!(reply.text(), "OK", "{}", oracle.name());
            assert_eq!(to.call(&["FCALL", "f", "0", "x"]).text(), "x");
        }
    }
}

/// The server with each number of shards, and what it is measured by.
fn servers(options: &[&str]) -> Vec<Server> {
    let ours = SHARD_COUNTS.map(|shards| Server::shardis(shards, options));
    let theirs = [Oracle::Redis70, Oracle::Redis82].map(|oracle| oracle.start(options));
    ours.into_iter().chain(theirs.into_iter().flatten()).collect()
}

const SOON_BUSY: &[&str] = &["--busy-reply-threshold", "50", "--save", ""];

/// Begins what does not end, and comes back when clients are answered BUSY. (What asks no key is never on its way to a shard that is about to
/// be busy.)
fn begin(server: &Server, call: &[&str]) -> Client {
    let mut runner = server.client();
    runner.send(&encode(call)).expect("the server reads");
    while !server.client().line("PING").text().starts_with("BUSY") {}
    runner
}

/// What is not served while a script is busy, and what is, for a client who has been there before or who has just come.
fn check_service(client: &mut Client, kills: &str) {
    let mut is_busy = |line: &str| {
        let reply = client.line(line).text();
        assert!(
            reply.starts_with("BUSY Redis is busy running a script.") && reply.contains(kills),
            "{line}: {reply}"
        );
    };
    for line in [
        "GET other",
        "SET other 1",
        "PING",
        "INFO",
        "CONFIG GET save",
        "EVAL return 0",
        "DBSIZE",
        "SHUTDOWN",
    ] {
        is_busy(line);
    }
    assert!(client.line("NOSUCH").text().starts_with("ERR unknown command"));
    assert!(client.line("GET").text().starts_with("ERR wrong number"));
    assert_eq!(client.line("UNWATCH").text(), "OK");
    assert_eq!(client.line("MULTI").text(), "OK");
    assert!(client.line("GET other").text().starts_with("BUSY"));
    assert!(client.line("EXEC").text().starts_with("EXECABORT"));
    assert_eq!(client.line("MULTI").text(), "OK");
    assert!(
        client
            .line("EXEC")
            .text()
            .starts_with("EXECABORT Transaction discarded because of: BUSY")
    );
    assert_eq!(client.line("MULTI").text(), "OK");
    assert_eq!(client.line("DISCARD").text(), "OK");
    // A pipeline, the last request in two parts.
    client
        .send(b"HELLO 2\r\nGET a\r\nRESET\r\nDISC")
        .expect("the server reads");
    assert!(!client.reply().is_error());
    assert!(client.reply().text().starts_with("BUSY"));
    assert_eq!(client.reply().text(), "RESET");
    client.send(b"ARD\r\n").expect("the server reads");
    assert!(client.reply().text().starts_with("ERR DISCARD without MULTI"));
}

/// Clients on every shard, who have been served before.
fn acquainted(server: &Server) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..8).map(|_| server.client()).collect();
    for client in &mut clients {
        assert_eq!(client.line("PING").text(), "PONG");
    }
    clients
}

fn check_everybody(server: &Server, known: &mut [Client], kills: &str) {
    for client in known {
        check_service(client, kills);
    }
    for _ in 0..8 {
        let mut client = server.client();
        check_service(&mut client, kills);
        assert_eq!(client.line("QUIT").text(), "OK");
        assert_eq!(client.rest(), b"", "its connection has ended");
    }
}

#[test]
fn a_script_that_does_not_end_leaves_all_clients_an_answer_and_is_killed_by_any() {
    for server in servers(SOON_BUSY) {
        let mut known = acquainted(&server);
        let loops = [
            "while true do end",
            "while true do pcall(function() while true do end end) end",
            "while true do redis.call('GET', KEYS[1]) end",
            "while true do redis.pcall('GET', 'undeclared') end",
        ];
        for (round, script) in loops.iter().cycle().take(8).enumerate() {
            let mut runner = begin(&server, &["EVAL", script, "1", &format!("key:{round}")]);
            // (Between two calls of commands it may be long until an interpreter asks.)
            match round {
                0 => check_everybody(&server, &mut known, "SCRIPT KILL"),
                round if round < loops.len() => check_service(&mut known[round + 1], "SCRIPT KILL"),
                _ => {}
            }
            let reply = known[round].line("FUNCTION KILL").text();
            assert!(reply.starts_with("BUSY"), "{reply}");
            let reply = match round % 2 {
                0 => known[round].line("SCRIPT KILL"),
                _ => server.client().line("SCRIPT KILL"),
            };
            assert_eq!(reply.text(), "OK");
            let reply = runner.reply().text();
            assert!(reply.contains("Script killed by user"), "{script}: {reply}");
            for client in &mut known {
                assert_eq!(client.line("PING").text(), "PONG");
            }
        }
        assert!(server.client().line("SCRIPT KILL").text().starts_with("NOTBUSY"));
    }
}

#[test]
fn a_function_that_does_not_end_is_told_of_and_killed() {
    let library = "#!lua name=lib\nredis.register_function('forever', function() while true do end end)";
    for server in servers(SOON_BUSY) {
        let mut known = acquainted(&server);
        assert_eq!(known[0].call(&["FUNCTION", "LOAD", library]).text(), "lib");
        for round in 0..4 {
            let mut runner = begin(&server, &["FCALL", "forever", "1", &format!("key:{round}")]);
            check_everybody(&server, &mut known, "FUNCTION KILL");
            let client = &mut known[2 * round];
            assert!(client.line("SCRIPT KILL").text().starts_with("BUSY"));
            let told = client.line("FUNCTION STATS").items();
            let running = told[1].items();
            assert_eq!(running[1].text(), "forever");
            assert_eq!(client.line("FUNCTION KILL").text(), "OK");
            assert!(runner.reply().text().contains("Script killed by user"));
        }
    }
}

#[test]
fn a_script_that_has_written_ends_with_the_process_only_and_leaves_nothing() {
    for (shards, keys) in [(1, "1"), (2, "1"), (4, "1"), (4, "3")] {
        for from_another in [false, true] {
            let name = format!("shardis-busy-{}-{shards}-{keys}-{from_another}", std::process::id());
            let dir = std::env::temp_dir().join(name);
            let _ = std::fs::remove_dir_all(&dir);
            std::fs::create_dir_all(&dir).expect("there is room");
            let pid_file = dir.join("pid").display().to_string();
            let dir_text = dir.display().to_string();
            let mut options = SOON_BUSY.to_vec();
            options.extend(["--dir", &dir_text, "--appendonly", "yes", "--pidfile", &pid_file]);
            let mut server = Server::shardis(shards, &options);
            let mut known = acquainted(&server);
            for (index, client) in known.iter_mut().enumerate() {
                assert_eq!(client.line(&format!("SET before:{index} 1")).text(), "OK");
            }
            let script = "for _, key in ipairs(KEYS) do redis.call('SET', key, 1) end while true do end";
            let call = ["EVAL", script, keys, "a", "b", "c"];
            let runner = begin(&server, &call);
            for client in &mut known {
                assert!(client.line("SCRIPT KILL").text().starts_with("UNKILLABLE"));
            }
            assert!(server.client().line("SCRIPT KILL").text().starts_with("UNKILLABLE"));
            assert!(known[0].line("SHUTDOWN SAVE").text().starts_with("BUSY"));
            assert!(known[0].line("SHUTDOWN ABORT").text().starts_with("ERR No shutdown"));
            let mut ender = match from_another {
                true => server.client(),
                false => known.remove(3),
            };
            assert!(
                ender.try_call(&["SHUTDOWN", "NOSAVE"]).is_err(),
                "the connection just ends"
            );
            assert!(server.ending().success());
            assert!(!std::path::Path::new(&pid_file).exists());
            drop((runner, known));
            let server = Server::shardis(shards, &options);
            server.wait_until_loaded();
            let mut client = server.client();
            for index in 0..8 {
                assert_eq!(client.line(&format!("GET before:{index}")).text(), "1");
            }
            assert_eq!(client.line("EXISTS a b c").integer(), 0);
            drop(server);
            let _ = std::fs::remove_dir_all(&dir);
        }
    }
}

/// What would need slots waits; it is not lost, and neither is what stands behind it.
#[test]
fn who_watches_while_a_script_is_busy_is_answered_behind_it() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, SOON_BUSY);
        let mut known = acquainted(&server);
        let mut runner = begin(&server, &["EVAL", "while true do end", "1", "watched"]);
        for client in &mut known {
            client
                .send(b"WATCH watched\r\nMULTI\r\nDISCARD\r\n")
                .expect("the server reads");
        }
        // The script's own client, too.
        runner
            .send(b"INCR counted\r\nINCR counted\r\n")
            .expect("the server reads");
        assert_eq!(server.client().line("SCRIPT KILL").text(), "OK");
        for client in &mut known {
            assert_eq!([0; 3].map(|_| client.reply().text()), ["OK"; 3]);
        }
        assert!(runner.reply().is_error());
        assert_eq!([0; 2].map(|_| runner.reply().integer()), [1, 2]);
    }
}

#[test]
fn a_script_that_takes_too_much_ends_with_an_error() {
    let server = Server::shardis(2, &["--lua-memory-max", "8mb"]);
    let mut client = server.client();
    for script in [
        "local t = {} while true do t[#t + 1] = {} end",
        "local s = 'x' while true do s = s .. s end",
        "return string.rep('x', 100000000)",
        "local function f() return 1 + f() end return f()",
        "local t = {} for i = 1, 10000000 do t[i] = i end",
    ] {
        assert!(eval(&mut client, script, &["0"]).is_error(), "{script}");
        assert_eq!(eval(&mut client, "return 'well'", &["0"]).text(), "well", "{script}");
    }
    assert!(server.info_number("memory", "used_memory_vm_eval") < 8 << 20);
}
