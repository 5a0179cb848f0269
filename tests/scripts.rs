//! Scripts and functions on a whole server: atomic over any keys on any shards, once, and through files.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
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

/// What `others` are answered who ask again and again until the script has ended. (Those on its own shard are answered then.)
fn asked_until_it_ends(server: &Server, script: &str, question: &[u8]) -> (Value, Vec<String>) {
    let mut others: Vec<Client> = (0..8).map(|_| server.client()).collect();
    thread::scope(|scope| {
        let runner = scope.spawn(|| eval(&mut server.client(), script, &["1", "written"]));
        let mut asked = 0;
        while !runner.is_finished() {
            for other in &mut others {
                other.send(question).expect("the server reads");
            }
            asked += 1;
            thread::sleep(Duration::from_millis(20));
        }
        let replies = others
            .iter_mut()
            .flat_map(|other| (0..asked).map(|_| other.reply().text()).collect::<Vec<_>>());
        (runner.join().expect("it has ended"), replies.collect())
    })
}

#[test]
fn a_script_that_does_not_end_is_killed_from_another_shard() {
    let server = Server::shardis(2, &["--busy-reply-threshold", "100"]);
    for script in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "while true do redis.call('GET', KEYS[1]) end",
    ] {
        let (reply, answers) = asked_until_it_ends(&server, script, b"SCRIPT KILL\r\n");
        assert!(reply.text().contains("Script killed by user"), "{script}: {reply:?}");
        assert!(answers.iter().any(|answer| answer == "OK"), "{script}: {answers:?}");
        assert!(
            answers
                .iter()
                .all(|answer| answer == "OK" || answer.starts_with("NOTBUSY")),
            "{answers:?}"
        );
    }
    let bounded =
        "local began = os.clock() redis.call('SET', KEYS[1], 1) while os.clock() - began < 1 do end return 'done'";
    let (reply, answers) = asked_until_it_ends(&server, bounded, b"SCRIPT KILL\r\n");
    assert_eq!(reply.text(), "done");
    assert!(
        answers.iter().any(|answer| answer.starts_with("UNKILLABLE")),
        "{answers:?}"
    );
    assert!(!answers.iter().any(|answer| answer == "OK"), "{answers:?}");
    let (_, answers) = asked_until_it_ends(&server, bounded, b"GET other\r\n");
    assert!(
        answers.iter().any(|answer| answer.starts_with("BUSY Redis is busy")),
        "{answers:?}"
    );
    assert_eq!(server.client().line("GET written").text(), "1");
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
