//! Eviction by the real server at 1, 2 and 4 shards: which keys each policy takes, what commands answer at the limit, how far
//! memory is ever above it, and which clients are disconnected.
//!
//! Nothing here says how fast anything happens. What is random (samples) is asked for by large majorities. Replies at the limit
//! are compared with redis-server's.

mod support;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use support::{Client, Oracle, Server, Value, eventually};

const SHARD_COUNTS: [usize; 3] = [1, 2, 4];
/// So much above the limit is allowed, in parts of the limit.
const ALLOWED_EXCESS: f64 = 0.02;
const VALUE_BYTES: usize = 2000;

fn with_policy(shards: usize, policy: &str) -> Server {
    Server::shardis(shards, &["--maxmemory-policy", policy, "--maxmemory-samples", "10"])
}

/// What of the memory counts against the limit: not what is on its way.
fn counted_memory(client: &mut Client) -> u64 {
    let text = client.call(&["INFO", "memory"]).text();
    figure(&text, "used_memory").saturating_sub(figure(&text, "mem_not_counted_for_evict"))
}

fn info(client: &mut Client, section: &str, field: &str) -> u64 {
    figure(&client.call(&["INFO", section]).text(), field)
}

fn figure(info: &str, field: &str) -> u64 {
    let mut lines = info.lines();
    let value = lines.find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let value = value.unwrap_or_else(|| panic!("INFO has no {field}"));
    value.parse().unwrap_or_else(|_| panic!("{field}:{value} is no number"))
}

#[track_caller]
fn configure(client: &mut Client, parameter: &str, value: impl ToString) {
    let reply = client.call(&["CONFIG", "SET", parameter, &value.to_string()]);
    assert_eq!(reply, Value::Simple(b"OK".to_vec()), "{parameter}");
}

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

/// Keys `prefix:0` and on, each with a value; `more` is what stands behind the value.
fn fill(client: &mut Client, prefix: &str, count: usize, more: impl Fn(usize) -> String) {
    let value = "v".repeat(VALUE_BYTES);
    let requests: Vec<_> = (0..count)
        .map(|index| words(format!("SET {prefix}:{index} {value} {}", more(index)).trim_end()))
        .collect();
    for reply in client.call_all(&requests) {
        assert_eq!(reply, Value::Simple(b"OK".to_vec()));
    }
}

/// Keys `prefix:0` and on, that have rested or were used as `more` says (IDLETIME, FREQ).
fn fill_restored(client: &mut Client, prefix: &str, count: usize, ttl_ms: u64, more: &str) {
    client.call(&["SET", "model", &"v".repeat(VALUE_BYTES)]);
    let Value::Bulk(payload) = client.call(&["DUMP", "model"]) else {
        panic!("DUMP answers bytes")
    };
    client.call(&["DEL", "model"]);
    let requests: Vec<_> = (0..count)
        .map(|index| {
            let mut request = words(&format!("RESTORE {prefix}:{index} {ttl_ms}"));
            request.push(payload.clone());
            request.extend(words(more));
            request
        })
        .collect();
    for reply in client.call_all(&requests) {
        assert_eq!(reply, Value::Simple(b"OK".to_vec()));
    }
}

/// How many of `prefix:0` and on are there.
fn present(client: &mut Client, prefix: &str, count: usize) -> usize {
    let requests: Vec<_> = (0..count)
        .map(|index| words(&format!("EXISTS {prefix}:{index}")))
        .collect();
    let replies = client.call_all(&requests);
    replies.iter().map(|reply| reply.integer() as usize).sum()
}

/// Sets a limit that is so many bytes below what is used, and waits until the server obeys it.
fn lower_by(client: &mut Client, bytes: u64) -> u64 {
    let limit = counted_memory(client) - bytes;
    configure(client, "maxmemory", limit);
    eventually("memory is below the limit", || {
        counted_memory(client) as f64 <= limit as f64 * (1.0 + ALLOWED_EXCESS / 4.0)
    });
    limit
}

/// A limit that is lowered is obeyed without any command that needs memory; what goes is counted, and only that.
#[test]
fn a_lower_limit_evicts_in_the_background() {
    for shards in SHARD_COUNTS {
        let server = with_policy(shards, "allkeys-lru");
        let mut client = server.client();
        fill(&mut client, "key", 6000, |_| String::new());
        assert_eq!(info(&mut client, "stats", "evicted_keys"), 0);
        lower_by(&mut client, 5_000_000);
        // What is left of the excess is paid bit by bit: no more goes while it is counted.
        configure(&mut client, "maxmemory", 0);
        let left = present(&mut client, "key", 6000);
        assert!((1000..4500).contains(&left), "{shards} shards: {left} of 6000 are left");
        assert_eq!(client.call(&["DBSIZE"]).integer(), left as i64);
        assert_eq!(info(&mut client, "stats", "evicted_keys"), 6000 - left as u64);
        fill(&mut client, "more", 3000, |_| String::new());
        assert_eq!(client.call(&["DBSIZE"]).integer(), left as i64 + 3000);
    }
}

/// Keys without expiry are safe from the policies that say so, to the last; then commands are refused.
#[test]
fn volatile_policies_spare_keys_without_expiry() {
    for shards in SHARD_COUNTS {
        for policy in ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"] {
            let server = with_policy(shards, policy);
            let mut client = server.client();
            fill(&mut client, "stays", 2000, |_| String::new());
            fill(&mut client, "goes", 2000, |index| format!("EX {}", 10_000 + index));
            lower_by(&mut client, 2_000_000);
            assert_eq!(present(&mut client, "stays", 2000), 2000, "{policy}, {shards} shards");
            let left = present(&mut client, "goes", 2000);
            assert!(
                (500..1500).contains(&left),
                "{policy}, {shards} shards: {left} are left"
            );
            // Below what those that stay take.
            let limit = counted_memory(&mut client) - 4_000_000;
            configure(&mut client, "maxmemory", limit);
            eventually("every key with an expiry has gone", || {
                client.call(&["DBSIZE"]).integer() == 2000
            });
            eventually("there is nothing left to evict", || {
                client.call(&["SET", "new", "value"]).text()
                    == "OOM command not allowed when used memory > 'maxmemory'."
            });
            assert_eq!(present(&mut client, "stays", 2000), 2000, "{policy}, {shards} shards");
            let evicted = info(&mut client, "stats", "evicted_keys");
            let created = 4000 + u64::from(client.call(&["EXISTS", "new"]).integer() == 1);
            assert!(evicted >= created - 2001, "{policy}, {shards} shards: {evicted}");
            // What gets an expiry may go, on whichever shard it lies.
            let expire: Vec<_> = (0..2000).map(|n| words(&format!("EXPIRE stays:{n} 10000"))).collect();
            client.call_all(&expire);
            eventually("there is room again", || {
                !client.call(&["SET", "new", "value"]).is_error()
            });
        }
    }
}

/// The keys that expire first go first.
#[test]
fn volatile_ttl_takes_the_soonest() {
    for shards in SHARD_COUNTS {
        let server = with_policy(shards, "volatile-ttl");
        let mut client = server.client();
        fill(&mut client, "late", 2000, |index| format!("EX {}", 1_000_000 + index));
        fill(&mut client, "soon", 2000, |index| format!("EX {}", 10_000 + index));
        lower_by(&mut client, 2_500_000);
        let late_gone = 2000 - present(&mut client, "late", 2000);
        let soon_gone = 2000 - present(&mut client, "soon", 2000);
        assert!(
            soon_gone > 500 && late_gone * 20 < soon_gone,
            "{shards} shards: {soon_gone} that expire soon, {late_gone} that expire late"
        );
    }
}

/// What was not used for long, or not often, goes first; of the keys that may go.
#[test]
fn lru_and_lfu_spare_what_is_used() {
    for shards in SHARD_COUNTS {
        for (policy, ttl_ms) in [
            ("allkeys-lru", 0),
            ("allkeys-lfu", 0),
            ("volatile-lru", 100_000_000),
            ("volatile-lfu", 100_000_000),
        ] {
            let server = with_policy(shards, policy);
            let mut client = server.client();
            let (hot, cold) = match policy.ends_with("lru") {
                true => ("IDLETIME 1", "IDLETIME 50000"),
                false => ("FREQ 200", "FREQ 2"),
            };
            fill_restored(&mut client, "hot", 2000, ttl_ms, hot);
            fill_restored(&mut client, "cold", 2000, ttl_ms, cold);
            lower_by(&mut client, 2_500_000);
            let hot_gone = 2000 - present(&mut client, "hot", 2000);
            let cold_gone = 2000 - present(&mut client, "cold", 2000);
            assert!(
                cold_gone > 500 && hot_gone * 20 < cold_gone,
                "{policy}, {shards} shards: {cold_gone} cold keys, {hot_gone} hot keys"
            );
        }
    }
}

/// A key that is read stays while others that came with it go. (Clocks of accesses count seconds.)
#[test]
fn reading_keeps_a_key() {
    let server = with_policy(4, "allkeys-lru");
    let mut client = server.client();
    fill(&mut client, "read", 1000, |_| String::new());
    fill(&mut client, "unread", 3000, |_| String::new());
    eventually("some seconds have passed", || {
        let idle = |client: &mut Client, key: &str| client.call(&["OBJECT", "IDLETIME", key]).integer();
        idle(&mut client, "unread:2999") >= 2
    });
    let reads: Vec<_> = (0..1000).map(|n| words(&format!("GET read:{n}"))).collect();
    client.call_all(&reads);
    lower_by(&mut client, 3_000_000);
    let read_gone = 1000 - present(&mut client, "read", 1000);
    let unread_gone = 3000 - present(&mut client, "unread", 3000);
    assert!(
        unread_gone > 800 && read_gone * 20 < unread_gone,
        "{unread_gone} unread, {read_gone} read"
    );
}

/// Random policies have no favourites.
#[test]
fn random_policies_take_of_everything() {
    for shards in SHARD_COUNTS {
        let server = with_policy(shards, "allkeys-random");
        let mut client = server.client();
        fill(&mut client, "plain", 2000, |_| String::new());
        fill(&mut client, "expiring", 2000, |_| "EX 10000".to_owned());
        lower_by(&mut client, 3_000_000);
        let plain_gone = 2000 - present(&mut client, "plain", 2000);
        let expiring_gone = 2000 - present(&mut client, "expiring", 2000);
        assert!(
            plain_gone * 2 > expiring_gone && expiring_gone * 2 > plain_gone,
            "{shards} shards: {plain_gone} and {expiring_gone}"
        );
    }
}

/// Another policy works from the next command on.
#[test]
fn the_policy_can_be_changed() {
    for shards in SHARD_COUNTS {
        let server = with_policy(shards, "noeviction");
        let mut client = server.client();
        fill(&mut client, "key", 3000, |_| String::new());
        let limit = counted_memory(&mut client) - 2_000_000;
        configure(&mut client, "maxmemory", limit);
        assert!(client.call(&["SET", "new", "value"]).is_error());
        assert_eq!(client.call(&["DBSIZE"]).integer(), 3000, "noeviction evicts nothing");
        configure(&mut client, "maxmemory-policy", "volatile-lru");
        eventually("nothing may be evicted", || {
            client.call(&["SET", "new", "value"]).is_error()
        });
        configure(&mut client, "maxmemory-policy", "allkeys-lfu");
        assert_eq!(client.call(&["SET", "new", "value"]).text(), "OK");
        eventually("memory is below the limit", || {
            counted_memory(&mut client) as f64 <= limit as f64 * (1.0 + ALLOWED_EXCESS)
        });
        assert!(client.call(&["DBSIZE"]).integer() < 3000);
    }
}

/// Lines to two connections (`1>`, `2>`) with the replies of a server.
fn conversation(server: &Server, lines: &[&str]) -> Vec<String> {
    let mut clients = [server.client(), server.client()];
    lines
        .iter()
        .map(|line| {
            let (who, line) = line.split_once("> ").expect("the lines name their connection");
            let client = &mut clients[usize::from(who == "2")];
            format!("{who}> {line}: {}", client.line(line))
        })
        .collect()
}

/// At the limit with noeviction every reply is Redis's: what needs memory is refused, what does not is run; what is queued
/// is refused whatever it is, EXEC only if something in its queue needs memory.
#[test]
fn replies_at_the_limit_are_redis_s() {
    let lines = [
        "1> SET a b",
        "1> SET n 1",
        "1> SETBIT bits 7 1",
        "1> XADD stream 1-1 f v",
        "1> PFADD hll a",
        "1> CONFIG SET maxmemory 1",
        "1> SET a c",
        "1> GET a",
        "1> APPEND a x",
        "1> INCR n",
        "1> SETBIT bits 8 1",
        "1> GETBIT bits 7",
        "1> BITOP NOT other bits",
        "1> MSET a 1 b 2 c 3",
        "1> MGET a b c",
        "1> COPY a b",
        "1> RENAME a renamed",
        "1> RENAME renamed a",
        "1> EXPIRE a 1000",
        "1> PERSIST a",
        "1> XADD stream 2-1 f v",
        "1> XLEN stream",
        "1> XDEL stream 1-1",
        "1> PFADD hll b",
        "1> PFCOUNT hll",
        "1> GEOADD geo 1 1 a",
        "1> GETDEL n",
        "1> SETRANGE a 1 xyz",
        "1> GETSET a 1",
        "1> GETEX a PERSIST",
        "1> TYPE a",
        "1> DBSIZE",
        "1> PING",
        "1> NONSENSE",
        "1> SET a",
        // Everything that is queued takes memory.
        "1> MULTI",
        "1> GET a",
        "1> PING",
        "1> EXEC",
        "1> MULTI",
        "1> SET a b",
        "1> DISCARD",
        "1> MULTI",
        "1> MULTI",
        "1> WATCH a",
        "1> UNWATCH",
        "1> EXEC",
        "1> MULTI",
        "1> EXEC",
        "1> MULTI",
        "1> RESET",
        "1> WATCH a",
        "1> UNWATCH",
        "1> CONFIG SET maxmemory 0",
        // The limit comes between MULTI and EXEC.
        "1> MULTI",
        "1> SET a b",
        "1> GET a",
        "2> CONFIG SET maxmemory 1",
        "1> EXEC",
        "1> EXEC",
        "2> CONFIG SET maxmemory 0",
        "1> MULTI",
        "1> GET a",
        "1> DEL c",
        "2> CONFIG SET maxmemory 1",
        "1> EXEC",
        "2> CONFIG SET maxmemory 0",
        "1> WATCH a",
        "1> MULTI",
        "1> SET a b",
        "2> CONFIG SET maxmemory 1",
        "1> GET a",
        "1> EXEC",
        "1> DEL a",
        "1> UNLINK b",
        "1> FLUSHALL",
        "1> SET a b",
        "2> CONFIG SET maxmemory 0",
        "1> SET a b",
    ];
    let Some(oracle) = Oracle::Redis70.start(&["--maxmemory-policy", "noeviction"]) else {
        return;
    };
    let theirs = conversation(&oracle, &lines);
    for shards in SHARD_COUNTS {
        let server = with_policy(shards, "noeviction");
        let ours = conversation(&server, &lines);
        for (our, their) in ours.iter().zip(&theirs) {
            assert_eq!(our, their, "{shards} shards, and redis-server");
        }
    }
}

/// What a load saw: how many bytes were used at most, and how many replies were errors.
struct Seen {
    used_max: u64,
    samples: u64,
    errors: u64,
}

/// Runs writers, each a function of its connection and number, and looks at the memory from another connection meanwhile.
fn watch_memory(server: &Server, writers: usize, write: impl Fn(&mut Client, usize) -> u64 + Sync) -> Seen {
    let is_over = AtomicBool::new(false);
    let errors = AtomicU64::new(0);
    let mut seen = Seen {
        used_max: 0,
        samples: 0,
        errors: 0,
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..writers)
            .map(|number| {
                let (write, errors) = (&write, &errors);
                scope.spawn(move || {
                    let mut client = server.client();
                    errors.fetch_add(write(&mut client, number), Ordering::Relaxed);
                })
            })
            .collect();
        let sampler = scope.spawn(|| {
            let mut client = server.client();
            let (mut used_max, mut samples) = (0, 0);
            while !is_over.load(Ordering::Relaxed) {
                used_max = counted_memory(&mut client).max(used_max);
                samples += 1;
            }
            (used_max, samples)
        });
        let ended: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        is_over.store(true, Ordering::Relaxed);
        (seen.used_max, seen.samples) = sampler.join().expect("the sampler ends by itself");
        assert!(ended.iter().all(Result::is_ok), "a writer's connection failed");
    });
    seen.errors = errors.into_inner();
    seen
}

/// SETs of random keys below a bound, with values of different sizes, `count` of them.
fn write_random(client: &mut Client, seed: u64, count: usize, key: impl Fn(u32) -> String) -> u64 {
    let mut rng = fastrand::Rng::with_seed(seed);
    let value = "x".repeat(4000);
    let mut errors = 0;
    for _ in 0..count / 50 {
        let requests: Vec<_> = (0..50)
            .map(|_| {
                let size = rng.usize(50..2000);
                words(&format!("SET {} {}", key(rng.u32(0..1_000_000)), &value[..size]))
            })
            .collect();
        errors += client
            .call_all(&requests)
            .iter()
            .filter(|reply| reply.is_error())
            .count() as u64;
    }
    errors
}

const STEADY_LIMIT: u64 = 40_000_000;

fn assert_within(seen: &Seen, limit: u64, what: &str) {
    let excess = seen.used_max as f64 / limit as f64 - 1.0;
    println!(
        "{what}: at most {:.2} % above the limit, {} samples",
        excess * 100.0,
        seen.samples
    );
    assert!(seen.samples > 5, "{what}: only {} samples", seen.samples);
    assert_eq!(seen.errors, 0, "{what}: writes failed");
    assert!(
        excess <= ALLOWED_EXCESS,
        "{what}: {} bytes used of {limit}",
        seen.used_max
    );
}

/// A steady write load that goes on for twice the limit and more never gets far above it, and never fails.
#[test]
fn a_write_load_stays_near_the_limit() {
    for (shards, policy) in [
        (1, "allkeys-lru"),
        (2, "allkeys-lfu"),
        (4, "allkeys-lru"),
        (4, "allkeys-random"),
    ] {
        let server = with_policy(shards, policy);
        configure(&mut server.client(), "maxmemory", STEADY_LIMIT);
        let seen = watch_memory(&server, 4, |client, number| {
            write_random(client, number as u64, 16_000, |n| format!("key:{n}"))
        });
        assert_within(&seen, STEADY_LIMIT, &format!("{policy}, {shards} shards"));
        let mut client = server.client();
        assert!(info(&mut client, "stats", "evicted_keys") > 10_000);
        assert!(
            counted_memory(&mut client) > STEADY_LIMIT / 10 * 9,
            "it evicted too much"
        );
    }
}

/// Old data lies in one slot, on a shard that nobody asks for anything; new data comes to the other shards. Writes do not
/// fail, and most of what goes is old: the shard with the old data is given nearly all of the duty, and the others pay for
/// what they take only when it is slow.
#[test]
fn old_data_on_another_shard_makes_room() {
    for shards in [2, 4] {
        let server = with_policy(shards, "allkeys-lru");
        let mut client = server.client();
        // The old data is in a slot of the first quarter, the new in the second half.
        assert!(shardis::base::slot::key_slot(b"{b}") < 4096);
        fill_restored(&mut client, "{b}", 15_000, 0, "IDLETIME 5000");
        let limit = counted_memory(&mut client);
        configure(&mut client, "maxmemory", limit);
        let tags: Vec<String> = (0..200)
            .map(|n| format!("{{{n}}}"))
            .filter(|tag| shardis::base::slot::key_slot(tag.as_bytes()) >= 8192)
            .collect();
        let seen = watch_memory(&server, 2, |client, number| {
            let tags = &tags;
            write_random(client, number as u64, 8000, |n| {
                format!("{}:{n}", tags[n as usize % tags.len()])
            })
        });
        assert_within(&seen, limit, &format!("{shards} shards, the old data on one"));
        let old_gone = 15_000 - present(&mut client, "{b}", 15_000);
        let evicted = info(&mut client, "stats", "evicted_keys");
        // (Nine of ten where nothing else runs, and three of four on a busy machine, whose shards do not get their turns alike.)
        assert!(
            old_gone as u64 * 3 > evicted * 2,
            "{shards} shards: {evicted} keys were evicted, {old_gone} of them old"
        );
    }
}

/// One slot has nearly everything, and a few keys lie elsewhere: it is evicted from all the same.
#[test]
fn a_full_slot_among_sparse_ones_is_evicted_from() {
    for shards in SHARD_COUNTS {
        let server = with_policy(shards, "allkeys-random");
        let mut client = server.client();
        fill(&mut client, "{b}", 10_000, |_| String::new());
        fill(&mut client, "sparse", 500, |_| String::new());
        lower_by(&mut client, 10_000_000);
        let left = present(&mut client, "{b}", 10_000);
        assert!(left < 8000, "{shards} shards: {left} keys of the full slot are left");
    }
}

/// Commands over many shards and transactions make room as others do.
#[test]
fn work_over_several_shards_makes_room() {
    for shards in SHARD_COUNTS {
        let server = with_policy(shards, "allkeys-lru");
        configure(&mut server.client(), "maxmemory", STEADY_LIMIT / 2);
        let seen = watch_memory(&server, 2, |client, number| {
            let value = "x".repeat(4000);
            let mut errors = 0;
            for round in 0..400 {
                let keys: Vec<String> = (0..8).map(|n| format!("{number}:{round}:{n}")).collect();
                let mut set = vec!["MSET"];
                keys.iter().for_each(|key| set.extend([key.as_str(), value.as_str()]));
                errors += u64::from(client.call(&set).is_error());
                client.call(&["MULTI"]);
                for key in &keys[..4] {
                    client.call(&["COPY", key, &format!("{key}:copy"), "REPLACE"]);
                }
                errors += u64::from(client.call(&["EXEC"]).is_error());
            }
            errors
        });
        assert_within(&seen, STEADY_LIMIT / 2, &format!("{shards} shards, many keys at once"));
    }
}

/// Sums that must hold: what was created is there, or was evicted, or has expired.
#[test]
fn what_has_gone_is_counted_once() {
    for shards in SHARD_COUNTS {
        let server = with_policy(shards, "allkeys-random");
        let mut client = server.client();
        let count = 9000;
        fill(&mut client, "key", count, |index| match index % 3 {
            0 => format!("PX {}", 1 + index % 100),
            1 => "EX 10000".to_owned(),
            _ => String::new(),
        });
        lower_by(&mut client, 2_000_000);
        eventually("what was created is there or is counted", || {
            let gone = info(&mut client, "stats", "evicted_keys") + info(&mut client, "stats", "expired_keys");
            client.call(&["DBSIZE"]).integer() as u64 + gone == count as u64
        });
        assert!(info(&mut client, "stats", "evicted_keys") > 0);
        assert!(info(&mut client, "stats", "expired_keys") > 0);
        assert!(client.call(&["DBSIZE"]).integer() > 0);
    }
}

/// The ids in CLIENT LIST.
fn client_ids(client: &mut Client) -> HashSet<String> {
    let list = client.call(&["CLIENT", "LIST"]).text();
    list.lines()
        .filter_map(|line| line.split(' ').find_map(|field| field.strip_prefix("id=")))
        .map(str::to_owned)
        .collect()
}

/// A client with a request of that many bytes that has no end.
fn hoarder(server: &Server, bytes: usize, is_exempt: bool) -> (Client, String) {
    let mut client = server.client();
    let id = client.call(&["CLIENT", "ID"]).text();
    if is_exempt {
        client.call(&["CLIENT", "NO-EVICT", "on"]);
    }
    // Many arguments: one large one would be refused or kept for itself.
    let mut request = b"*1000000\r\n".to_vec();
    while request.len() < bytes {
        request.extend_from_slice(b"$1000\r\n");
        request.extend_from_slice(&[b'x'; 1000]);
        request.extend_from_slice(b"\r\n");
    }
    client.send(&request).expect("the server reads");
    (client, id)
}

/// `maxmemory-clients` disconnects the largest client, on whichever shard it is; smaller ones and those that are exempt stay.
#[test]
fn the_largest_client_goes() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        let mut client = server.client();
        client.call(&["CLIENT", "NO-EVICT", "on"]);
        let small: Vec<_> = (0..24).map(|_| hoarder(&server, 60_000, false)).collect();
        let middle: Vec<_> = (0..3).map(|_| hoarder(&server, 500_000, false)).collect();
        let exempt = hoarder(&server, 3_000_000, true);
        let largest = hoarder(&server, 2_000_000, false);
        // Buffers are larger than what is in them, so the sum may be there before all has been read: it must also rest.
        let (mut last, mut rests) = (0, 0);
        eventually("all have been read", || {
            let list = client.call(&["CLIENT", "LIST"]).text();
            let sum: usize = list
                .split([' ', '\n'])
                .filter_map(|field| field.strip_prefix("tot-mem=")?.parse::<usize>().ok())
                .sum();
            // The list itself is in the sum of whoever asks for it.
            rests = if sum.abs_diff(last) < 20_000 { rests + 1 } else { 0 };
            last = sum;
            rests > 20 && sum > 60_000 * 24 + 500_000 * 3 + 5_000_000
        });
        assert_eq!(info(&mut client, "stats", "evicted_clients"), 0);
        let all = info(&mut client, "memory", "mem_clients_normal");
        configure(&mut client, "maxmemory-clients", all - 1_000_000);
        eventually("the largest client has gone", || {
            !client_ids(&mut client).contains(&largest.1)
        });
        eventually("clients take less than the limit", || {
            info(&mut client, "memory", "mem_clients_normal") < all - 1_000_000
        });
        let ids = client_ids(&mut client);
        assert!(ids.contains(&exempt.1), "{shards} shards: it was exempt");
        for (_, id) in small.iter().chain(&middle) {
            assert!(ids.contains(id), "{shards} shards: the others were small enough");
        }
        assert_eq!(info(&mut client, "stats", "evicted_clients"), 1, "{shards} shards");
        // Below what the exempt one takes: all that may go and are of use go, and it stays.
        configure(&mut client, "maxmemory-clients", 2_000_000);
        eventually("those of middle size have gone", || {
            let ids = client_ids(&mut client);
            middle.iter().all(|(_, id)| !ids.contains(id))
        });
        // Any other client would be thrown out before it has asked: the exempt one alone takes more than all may.
        assert!(client_ids(&mut client).contains(&exempt.1));
    }
}
