//! What counts against `maxmemory`, and what comes back: requests on their way cost no keys, an empty server leaves room for data,
//! large commands give back what they needed, and a limit just above what is used holds. At 1, 2 and 4 shards.

mod support;

use std::io::Write;
use support::client::encode;
use support::{Client, Server, Value, eventually};

const SHARD_COUNTS: [usize; 3] = [1, 2, 4];
/// What may stay behind after a command that needed some ten megabytes: pages that the allocator's caches hold.
const REMAINDER_BYTES: u64 = 1_000_000;

fn info(client: &mut Client, section: &str, field: &str) -> u64 {
    let text = client.call(&["INFO", section]).text();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':').map(str::to_owned));
    let value = line.unwrap_or_else(|| panic!("INFO {section} has no {field}"));
    value.parse().unwrap_or_else(|_| panic!("{field}:{value} is no number"))
}

/// What of the memory counts against the limit.
fn counted_memory(client: &mut Client) -> u64 {
    let text = client.call(&["INFO", "memory"]).text();
    let figure = |field: &str| -> u64 {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.and_then(|value| value.parse().ok()).expect("INFO memory has it")
    };
    figure("used_memory").saturating_sub(figure("mem_not_counted_for_evict"))
}

#[track_caller]
fn configure(client: &mut Client, parameter: &str, value: impl ToString) {
    let reply = client.call(&["CONFIG", "SET", parameter, &value.to_string()]);
    assert_eq!(reply, Value::Simple(b"OK".to_vec()), "{parameter}");
}

/// Waits until the figure rests, and answers it: a shard publishes in its passes, and the rest is put right by the cron.
fn at_rest(mut figure: impl FnMut() -> u64) -> u64 {
    let (mut last, mut rests) = (0, 0);
    eventually("the memory rests", || {
        let now = figure();
        rests = if now.abs_diff(last) < 4096 { rests + 1 } else { 0 };
        last = now;
        rests > 20
    });
    last
}

/// SETs of keys that are all different, sent at once and without a look at the replies; how many were errors.
fn pour(server: &Server, count: usize, value_bytes: usize) -> usize {
    let mut client = server.client();
    let mut stream = client.stream().try_clone().expect("one more descriptor");
    let value = "v".repeat(value_bytes);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..count {
                let request = encode(&["SET", &format!("key:{number}"), &value]);
                stream.write_all(&request).expect("the server reads");
            }
        });
        (0..count).filter(|_| client.reply().is_error()).count()
    })
}

/// As much data stays as redis-server keeps, less what more threads cost: neither the pipeline itself nor what is between the
/// shards takes its place. (redis-server keeps 18,020 of these keys.)
#[test]
fn a_pipeline_is_not_paid_for_with_keys() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &["--maxmemory", "10mb", "--maxmemory-policy", "allkeys-lru"]);
        assert_eq!(pour(&server, 60_000, 440), 0);
        let mut client = server.client();
        let kept = client.call(&["DBSIZE"]).integer();
        assert!(kept >= 15_000, "{shards} shards: {kept} keys are left");
        eventually("the limit is obeyed", || counted_memory(&mut client) <= 10 << 20);
    }
}

/// Requests that are still arriving, and replies that nobody reads, are counted as what they are.
#[test]
fn buffers_of_clients_evict_nothing() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &["--maxmemory-policy", "allkeys-lru"]);
        let mut client = server.client();
        assert_eq!(pour(&server, 2000, 1000), 0);
        let limit = at_rest(|| counted_memory(&mut client)) + 500_000;
        configure(&mut client, "maxmemory", limit);
        let before = info(&mut client, "memory", "mem_not_counted_for_evict");
        let mut hoarder = server.client();
        hoarder.send(b"*100000\r\n").expect("the server reads");
        for _ in 0..3000 {
            let argument = format!("$1000\r\n{}\r\n", "x".repeat(1000));
            hoarder.send(argument.as_bytes()).expect("the server reads");
        }
        eventually("the request has arrived as far as it goes", || {
            info(&mut client, "memory", "mem_not_counted_for_evict") > before + 3_000_000
        });
        // More than the sockets hold.
        let mut deaf = server.client();
        let value = "v".repeat(1_000_000);
        let echoes: Vec<u8> = (0..12).flat_map(|_| encode(&["ECHO", &value])).collect();
        deaf.send(&echoes).expect("the server reads");
        eventually("replies wait", || {
            info(&mut client, "memory", "mem_not_counted_for_evict") > before + 6_000_000
        });
        for number in 0..100 {
            client.call(&["SET", &format!("more:{number}"), "value"]);
        }
        assert_eq!(info(&mut client, "stats", "evicted_keys"), 0, "{shards} shards");
        assert_eq!(client.call(&["DBSIZE"]).integer(), 2100);
        drop((hoarder, deaf));
        eventually("the buffers are gone", || {
            info(&mut client, "memory", "mem_not_counted_for_evict") < before + 100_000
        });
    }
}

/// One command with very many arguments: when its keys are gone, so is all that it needed for itself.
#[test]
fn a_large_command_gives_everything_back() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        let mut client = server.client();
        // What the first commands of a kind take for good.
        client.call(&["MSET", "{a}1", "v", "{b}2", "v", "{c}3", "v", "{d}4", "v"]);
        client.call(&["FLUSHALL"]);
        let before = at_rest(|| info(&mut client, "memory", "used_memory"));
        let mut large = server.client();
        let mut words = vec!["MSET".to_owned()];
        (0..200_000).for_each(|number| words.extend([format!("key:{number}"), format!("value:{number}")]));
        assert_eq!(large.call(&words).text(), "OK");
        assert!(info(&mut client, "memory", "used_memory") > before + 8_000_000);
        for keys in words[1..].chunks(20_000) {
            let mut delete = vec!["DEL".to_owned()];
            delete.extend(keys.iter().step_by(2).cloned());
            assert_eq!(large.call(&delete).integer(), 10_000);
        }
        let after = at_rest(|| info(&mut client, "memory", "used_memory"));
        assert!(
            after < before + REMAINDER_BYTES,
            "{shards} shards: {before} bytes before, {after} after"
        );
    }
}

/// A limit that is a mere 100 KB above what is used: it holds, whether there is something to evict or not.
#[test]
fn a_narrow_limit_holds() {
    const MARGIN_BYTES: u64 = 100_000;
    for shards in SHARD_COUNTS {
        for (policy, fails) in [("allkeys-lru", false), ("volatile-lru", true), ("noeviction", true)] {
            // On a busy machine commands are slow: the slow log takes memory for them, and the first one of a kind, on each shard, a
            // histogram, which together is as much as the margin.
            let options = [
                "--maxmemory-policy",
                policy,
                "--slowlog-log-slower-than",
                "-1",
                "--latency-tracking",
                "no",
            ];
            let server = Server::shardis(shards, &options);
            let mut client = server.client();
            // What the first commands of a kind take for good, on each shard.
            assert_eq!(pour(&server, 1000, 500), 0);
            client.call(&["FLUSHALL"]);
            let limit = at_rest(|| counted_memory(&mut client)) + MARGIN_BYTES;
            configure(&mut client, "maxmemory", limit);
            let what = format!("{policy}, {shards} shards");
            let errors = pour(&server, 10_000, 500);
            assert_eq!(errors > 9000, fails, "{what}: {errors} errors");
            let mut used = 0;
            // Whoever asks takes some memory for that, now and then.
            let tolerated = MARGIN_BYTES / 2;
            eventually(&format!("{what}: the limit is obeyed"), || {
                used = counted_memory(&mut client);
                used <= limit + tolerated
            });
            let kept = client.call(&["DBSIZE"]).integer();
            // (Some 130 where nothing else runs; what is on its way on a busy machine takes of it.)
            assert!(kept >= 15, "{what}: {kept} keys in {used} bytes of {limit}");
            // The first of them may find a little room: who has poured has gone.
            let value = "v".repeat(10_000);
            let replies = (0..20).map(|number| client.call(&["SET", &format!("last:{number}"), &value]));
            let reply = replies.last().expect("there are twenty");
            assert_eq!(reply.is_error(), fails, "{what}: {reply:?}");
            let refusal = "OOM command not allowed when used memory > 'maxmemory'.";
            assert!(!fails || reply.text() == refusal, "{what}: {reply:?}");
            eventually(&format!("{what}: the limit is obeyed still"), || {
                counted_memory(&mut client) <= limit + tolerated
            });
        }
    }
}
