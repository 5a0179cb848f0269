//! A long mixed load on four shards, and the sums that must hold when it is over.
//!
//! Many clients send what the differential test sends (all commands that have keys, written from the literals' own syntax, with
//! few keys, so that they meet), and beside it transactions, short expiries, reports, and connections that end where they are.
//! No reply may be an error that redis-server would not give, and no connection may end by itself. Then everything that the
//! server says about how much it holds is counted again, key by key; and when all is deleted, the memory is back where it was.
//!
//! `SHARDIS_SOAK_SECONDS=n`: so long instead of a minute.

#[path = "differential/generator.rs"]
#[allow(dead_code)] // Its other parts are for the differential test.
mod generator;
mod support;

use generator::{DBS_TOUCHED, Generator, Words};
use shardis::base::slot::{SLOT_COUNT, key_slot};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use support::client::encode;
use support::value::word;
use support::{Client, Oracle, PATIENCE, Server, Value, eventually};

const SECONDS: u64 = 60;
const SHARD_COUNT: usize = 4;
const CLIENT_COUNT: usize = 12;
/// Before memory is read for the first time: tables and buffers have their usual sizes then.
const WARM_UP: Duration = Duration::from_secs(3);
/// What may be used more after a load than before it: the allocator keeps some memory for each thread and size.
const KEPT_BYTES_MAX: u64 = 4 << 20;
/// What a table may take beside its entries: for each key, and for each slot and db that has any.
const TABLE_BYTES_EACH_KEY: u64 = 32;
const TABLE_BYTES_EACH_SLOT: u64 = 512;

/// Requests that report something, or concern the connection; they are strewn in.
const REPORTS: &[&str] = &[
    "INFO",
    "INFO commandstats",
    "MEMORY STATS",
    "MEMORY USAGE k1",
    "MEMORY DOCTOR",
    "CLIENT LIST",
    "CLIENT INFO",
    "CLIENT SETNAME soak",
    "CLIENT NO-TOUCH on",
    "CLIENT NO-TOUCH off",
    "CLIENT GETNAME",
    "CONFIG GET *max*",
    "CONFIG SET hz 20",
    "COMMAND COUNT",
    "COMMAND GETKEYS MSET a 1 b 2",
    "CLUSTER INFO",
    "CLUSTER SLOTS",
    "CLUSTER COUNTKEYSINSLOT 100",
    "CLUSTER GETKEYSINSLOT 12706 10",
    "SLOWLOG GET 5",
    "LATENCY LATEST",
    "DBSIZE",
    "TIME",
    "HELLO 3",
    "HELLO 2",
];

/// How errors begin that depend on what is stored in a way that asking redis-server about single commands does not show, or
/// that Redis 7.2 words in another way than 7.0 does.
const KNOWN_ERRORS: &[&str] = &[
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "WRONGTYPE Key is not a valid HyperLogLog string value.",
    "EXECABORT Transaction discarded because of previous errors.",
    "BUSYKEY Target key name already exists.",
    "BUSYGROUP Consumer Group name already exists",
    "NOGROUP No such ",
    "NOGROUP The consumer group this command requires no longer exists",
    "INVALIDOBJ Corrupted HLL object detected",
    "ERR MULTI calls can not be nested",
    "ERR WATCH inside MULTI is not allowed",
    "ERR EXEC without MULTI",
    "ERR DISCARD without MULTI",
    "ERR Command not allowed inside a transaction",
    "ERR no such key",
    "ERR index out of range",
    "ERR increment or decrement would overflow",
    "ERR increment would produce NaN or Infinity",
    "ERR value is not an integer or out of range",
    "ERR value is not a valid float",
    "ERR hash value is not an integer",
    "ERR hash value is not a float",
    "ERR resulting score is not a number (NaN)",
    "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
    "ERR could not decode requested zset member",
    "ERR The ID specified in XADD is equal or smaller than the target stream top item",
    "ERR The ID specified in XSETID is smaller than",
    "ERR The entries_added specified in XSETID is smaller than the target stream length",
    "ERR The stream has exhausted the last possible ID",
    "ERR Invalid stream ID specified as stream command argument",
    "ERR One or more scores can't be converted into double",
    "ERR An LFU maxmemory policy is not selected",
    "ERR An LFU maxmemory policy is selected",
    "ERR HLL sparse encoding error",
    "ERR syntax error",
];

/// What one client has to say at the end.
#[derive(Default)]
struct Witness {
    commands: u64,
    connections: u64,
    /// Errors by the command's name and the text, with an example of a request.
    errors: HashMap<(String, String), Words>,
}

fn words(line: &str) -> Words {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

fn typed(words: &[Vec<u8>]) -> String {
    words.iter().map(|text| word(text)).collect::<Vec<_>>().join(" ")
}

fn name_of(words: &[Vec<u8>]) -> String {
    String::from_utf8_lossy(&words[0]).to_ascii_lowercase()
}

/// A batch of requests of one connection.
fn batch(generator: &mut Generator) -> Vec<Words> {
    let mut batch = Vec::new();
    let count = 1 + generator.below(30);
    while batch.len() < count {
        match generator.below(40) {
            0 | 1 => {
                if generator.chance(40) {
                    let key = generator.key();
                    batch.push(vec![b"WATCH".to_vec(), key]);
                }
                batch.push(words("MULTI"));
                for _ in 0..generator.below(8) {
                    batch.push(generator.command());
                }
                batch.push(words(if generator.chance(10) { "DISCARD" } else { "EXEC" }));
            }
            2 => {
                let key = generator.key();
                let ms = (1 + generator.below(50)).to_string().into_bytes();
                batch.push(vec![b"PEXPIRE".to_vec(), key, ms]);
            }
            3 => {
                let (key, value) = (generator.key(), generator.value());
                let ms = (1 + generator.below(50)).to_string().into_bytes();
                batch.push(vec![b"SET".to_vec(), key, value, b"PX".to_vec(), ms]);
            }
            4 => {
                let (from, to) = (generator.key(), generator.key());
                batch.push(match generator.chance(50) {
                    true => vec![b"RENAME".to_vec(), from, to],
                    false => vec![b"COPY".to_vec(), from, to, b"REPLACE".to_vec()],
                });
            }
            // Seldom: what looks at every slot takes as long as hundreds of others.
            5 if generator.chance(20) => {
                let report = REPORTS[generator.below(REPORTS.len())];
                batch.push(words(report));
            }
            6 => {
                // A key of its own now and then, or the keyspace would never be more than a handful.
                let (key, value) = (format!("own:{}", generator.below(100_000)), generator.value());
                batch.push(vec![
                    b"SET".to_vec(),
                    key.into_bytes(),
                    value,
                    b"EX".to_vec(),
                    b"100000".to_vec(),
                ]);
            }
            _ => batch.push(generator.command()),
        }
    }
    batch
}

/// A client that works until the time is up.
fn work(server: &Server, seed: u64, payloads: &[Vec<u8>], deadline: Instant) -> Witness {
    let mut generator = Generator::new(seed, payloads.to_vec(), Oracle::Redis82);
    let mut witness = Witness::default();
    while Instant::now() < deadline {
        let mut client = server.client();
        witness.connections += 1;
        let mut queue: Vec<Words> = Vec::new();
        loop {
            let batch = batch(&mut generator);
            let bytes: Vec<u8> = batch.iter().flat_map(|words| encode(words)).collect();
            client
                .send(&bytes)
                .unwrap_or_else(|error| panic!("the server takes no more (seed {seed}): {error}"));
            if generator.chance(1) {
                // It goes away with its replies unread, perhaps inside a transaction.
                break;
            }
            for words in &batch {
                let reply = client.try_reply().unwrap_or_else(|error| {
                    panic!("the server answers no more (seed {seed}) at {}: {error}", typed(words))
                });
                witness.commands += 1;
                let name = name_of(words);
                match &reply {
                    Value::Simple(text) if text == b"QUEUED" => queue.push(words.clone()),
                    Value::Array(replies) if name == "exec" => {
                        assert_eq!(replies.len(), queue.len(), "EXEC answers each command of its queue");
                        for (words, reply) in std::mem::take(&mut queue).iter().zip(replies) {
                            witness.note(words, reply);
                        }
                    }
                    _ => witness.note(words, &reply),
                }
                if ["exec", "discard", "reset"].contains(&name.as_str()) {
                    queue.clear();
                }
            }
            if Instant::now() >= deadline || generator.chance(1) {
                break;
            }
        }
    }
    witness
}

impl Witness {
    fn note(&mut self, words: &[Vec<u8>], reply: &Value) {
        if let Value::Error(text) = reply {
            let text = String::from_utf8_lossy(text).into_owned();
            if !KNOWN_ERRORS.iter().any(|known| text.starts_with(known)) {
                self.errors
                    .entry((name_of(words), text))
                    .or_insert_with(|| words.to_vec());
            }
        }
    }
}

/// All clients for so long; what they have seen.
fn soak(server: &Server, payloads: &[Vec<u8>], duration: Duration, first_seed: u64) -> Witness {
    let deadline = Instant::now() + duration;
    let all = Mutex::new(Witness::default());
    std::thread::scope(|scope| {
        for number in 0..CLIENT_COUNT as u64 {
            let all = &all;
            scope.spawn(move || {
                let witness = work(server, first_seed + number, payloads, deadline);
                let mut all = all.lock().expect("the others end well");
                all.commands += witness.commands;
                all.connections += witness.connections;
                all.errors.extend(witness.errors);
            });
        }
    });
    all.into_inner().expect("all have ended well")
}

/// Whether an error is not of the kinds that Redis has. (What it says about values that several clients change at once cannot
/// be provoked again, so the wording of the others is compared by the differential test.)
fn is_foreign(error: &str) -> bool {
    let kinds = [
        "ERR ",
        "WRONGTYPE ",
        "NOGROUP ",
        "BUSYGROUP ",
        "BUSYKEY ",
        "EXECABORT ",
        "UNKILLABLE ",
        "INVALIDOBJ ",
    ];
    !kinds.iter().any(|kind| error.starts_with(kind)) || error.contains("not held")
}

/// Whether redis-server gives the same error to the same request, whatever its words name: nothing, or a value of some type.
fn redis_says(oracle: &mut Client, request: &[Vec<u8>], error: &str) -> bool {
    const STATES: [&str; 10] = [
        "DEL KEY",
        "SET KEY text",
        "SET KEY 10",
        "SETBIT KEY 1000 1",
        "RPUSH KEY a b 3",
        "SADD KEY a b 3",
        "ZADD KEY 1 a 2 b",
        "HSET KEY a 1 b text",
        "XADD KEY 5-5 a b",
        "PFADD KEY a b",
    ];
    if matches!(oracle.call(&[&b"COMMAND"[..], b"INFO", &request[0]]), Value::Array(found) if found[0] == Value::Nil) {
        // It is younger than the oracle.
        return ["ERR ", "WRONGTYPE "].iter().any(|code| error.starts_with(code)) && !error.contains("slot");
    }
    STATES.iter().any(|state| {
        oracle.call(&["FLUSHALL"]);
        for text in &request[1..] {
            let mut words = words(state);
            words[1] = text.clone();
            oracle.call(&words);
        }
        oracle.call(request).text() == error
    })
}

/// Serialised values of every type that the server knows.
fn payloads(server: &Server) -> Vec<Vec<u8>> {
    let mut client = server.client();
    let makers = [
        "SET k hello",
        "SET k 70000",
        "RPUSH k a b c 1 2",
        "SADD k 1 2 3",
        "SADD k a b c",
        "ZADD k 1 a 2.5 b",
        "HSET k a 1 b 2",
        "XADD k 1-1 a b",
        "PFADD k a b c",
    ];
    let mut payloads = vec![Vec::new(), b"nonsense".to_vec()];
    for maker in makers {
        client.call(&["DEL", "k"]);
        if client.line(maker).is_error() {
            // This family does not exist.
            continue;
        }
        match client.call(&["DUMP", "k"]) {
            Value::Bulk(payload) => payloads.push(payload),
            other => panic!("{maker}, then DUMP: {other}"),
        }
    }
    client.call(&["FLUSHALL"]);
    payloads
}

/// The lines of INFO keyspace: keys, keys with an expiry, their mean time to live in milliseconds.
fn keyspace_lines(client: &mut Client) -> BTreeMap<usize, [u64; 3]> {
    let text = client.call(&["INFO", "keyspace"]).text();
    let lines = text.lines().filter_map(|line| line.strip_prefix("db")?.split_once(':'));
    lines
        .map(|(db, fields)| {
            let figures: Vec<u64> = fields
                .split(',')
                .map(|field| field.split_once('=').expect("name=value").1)
                .map(|figure| figure.parse().expect("a number"))
                .collect();
            (db.parse().expect("a number"), [figures[0], figures[1], figures[2]])
        })
        .collect()
}

/// The sum over the shards of what their keyspaces take.
fn keyspace_bytes(client: &mut Client) -> u64 {
    let text = client.call(&["INFO", "shards"]).text();
    text.split([',', '\r', '\n'])
        .filter_map(|field| field.strip_prefix("keyspace_bytes="))
        .map(|figure| figure.parse::<u64>().expect("a number"))
        .sum()
}

fn ask_all(client: &mut Client, requests: impl Iterator<Item = Words>) -> Vec<Value> {
    client.call_all(&requests.collect::<Vec<Words>>())
}

fn scanned(client: &mut Client) -> BTreeSet<Vec<u8>> {
    let (mut keys, mut cursor) = (BTreeSet::new(), "0".to_owned());
    loop {
        let reply = client.call(&["SCAN", &cursor, "COUNT", "1000"]).items();
        for key in reply[1].items() {
            let Value::Bulk(key) = key else {
                panic!("a key is a text")
            };
            keys.insert(key);
        }
        cursor = reply[0].text();
        if cursor == "0" {
            return keys;
        }
    }
}

/// Counts everything again; the error says what is not as the server says. Keys may expire meanwhile, and then it is not.
fn recount(server: &Server) -> Result<String, String> {
    let mut client = server.client();
    let told = keyspace_lines(&mut client);
    let told_bytes = keyspace_bytes(&mut client);
    let (mut entry_bytes, mut keys_total, mut slots_total) = (0, 0, 0);
    for db in DBS_TOUCHED {
        client.call(&["SELECT", &db.to_string()]);
        let keys = scanned(&mut client);
        let size = client.call(&["DBSIZE"]).integer() as u64;
        let of_each = |command: &'static [u8]| {
            let keys = &keys;
            keys.iter().map(move |key| vec![command.to_vec(), key.clone()])
        };
        let expiries: Vec<i64> = ask_all(&mut client, of_each(b"PEXPIRETIME"))
            .iter()
            .map(Value::integer)
            .filter(|&expiry| expiry != -1)
            .collect();
        let now_ms = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("it is later than 1970")
            .as_millis() as f64;
        let mean_ms = match expiries.len() {
            0 => 0.0,
            count => expiries.iter().map(|&expiry| expiry as f64).sum::<f64>() / count as f64 - now_ms,
        };
        let [told_keys, told_expires, told_mean] = told.get(&db).copied().unwrap_or_default();
        let counted = (keys.len() as u64, expiries.len() as u64);
        if counted != (told_keys, told_expires) || size != told_keys {
            return Err(format!(
                "db {db}: SCAN shows {} keys, {} with expiry; DBSIZE says {size}, INFO {told_keys} and {told_expires}",
                counted.0, counted.1
            ));
        }
        if (mean_ms - told_mean as f64).abs() > 5000.0 + mean_ms.abs() * 0.001 {
            return Err(format!("db {db}: avg_ttl={told_mean}, counted {mean_ms}"));
        }
        for usage in ask_all(
            &mut client,
            keys.iter()
                .map(|key| vec![b"MEMORY".to_vec(), b"USAGE".to_vec(), key.clone()]),
        ) {
            if usage == Value::Nil {
                return Err(format!("db {db}: a key went in between"));
            }
            entry_bytes += usage.integer() as u64;
        }
        let mut slots: HashMap<u16, u64> = HashMap::new();
        for key in &keys {
            *slots.entry(key_slot(key)).or_default() += 1;
        }
        // All slots in one db; in the others those that have something.
        let asked: Vec<u16> = match db {
            0 => (0..SLOT_COUNT as u16).collect(),
            _ => slots.keys().copied().collect(),
        };
        let replies = ask_all(
            &mut client,
            asked
                .iter()
                .map(|slot| words(&format!("CLUSTER COUNTKEYSINSLOT {slot}"))),
        );
        for (slot, reply) in asked.iter().zip(replies) {
            let counted = slots.get(slot).copied().unwrap_or(0);
            if reply.integer() as u64 != counted {
                return Err(format!("db {db}, slot {slot}: {counted} keys counted, {reply} told"));
            }
        }
        keys_total += keys.len() as u64;
        slots_total += slots.len() as u64;
    }
    let tables = keys_total * TABLE_BYTES_EACH_KEY + slots_total * TABLE_BYTES_EACH_SLOT;
    // MEMORY USAGE has a share of the table in it.
    if told_bytes + 10 * keys_total < entry_bytes || told_bytes > entry_bytes + tables {
        return Err(format!(
            "the keyspace takes {told_bytes} bytes; its {keys_total} keys {entry_bytes}, in {slots_total} slots"
        ));
    }
    Ok(format!(
        "{keys_total} keys in {slots_total} slots, {entry_bytes} bytes by MEMORY USAGE, {told_bytes} by the shards' accounts"
    ))
}

/// Recounts until nothing expires in between.
#[track_caller]
fn recounts(server: &Server) {
    let deadline = Instant::now() + PATIENCE / 2;
    loop {
        match recount(server) {
            Ok(counted) => return println!("{counted}"),
            Err(difference) => assert!(Instant::now() < deadline, "{}: {difference}", server.name),
        }
    }
}

/// Deletes all; how much is used when all of it has been freed and nobody is connected.
fn used_when_empty(server: &Server) -> u64 {
    server.client().call(&["FLUSHALL", "SYNC"]);
    eventually("all clients have gone", || {
        server.info_number("clients", "connected_clients") == 1
    });
    eventually("what was deleted is freed", || {
        server.info_number("memory", "lazyfree_pending_objects") == 0
    });
    assert_eq!(keyspace_bytes(&mut server.client()), 0, "the accounts are empty");
    server.info_number("memory", "used_memory")
}

fn seconds() -> u64 {
    let text = std::env::var("SHARDIS_SOAK_SECONDS").ok();
    text.map_or(SECONDS, |text| text.parse().expect("SHARDIS_SOAK_SECONDS is a number"))
}

#[test]
fn a_mixed_load_leaves_nothing_behind() {
    // A histogram for each command that is called the first time would look like a leak.
    let server = Server::shardis(
        SHARD_COUNT,
        &[
            "--list-max-listpack-size",
            "8",
            "--stream-node-max-entries",
            "5",
            "--latency-tracking",
            "no",
        ],
    );
    let payloads = payloads(&server);
    let seed = fastrand::u64(0..1 << 40);
    println!("seed {seed}, {} kinds of serialised values", payloads.len());
    soak(&server, &payloads, WARM_UP, seed);
    let before = used_when_empty(&server);
    let witness = soak(
        &server,
        &payloads,
        Duration::from_secs(seconds()),
        seed + CLIENT_COUNT as u64,
    );
    println!("{} commands on {} connections", witness.commands, witness.connections);
    assert!(!server.log().contains("panicked"), "a handler panicked");
    recounts(&server);
    let after = used_when_empty(&server);
    println!("{before} bytes used before, {after} after");
    assert!(
        after < before + KEPT_BYTES_MAX,
        "{after} bytes are used when all is deleted, {before} before"
    );
    let oracles = [Oracle::Redis82, Oracle::Valkey91, Oracle::Redis70];
    let oracles: Vec<Server> = oracles.iter().filter_map(|oracle| oracle.start(&[])).collect();
    if oracles.is_empty() {
        return;
    }
    let mut oracles: Vec<Client> = oracles.iter().map(Server::client).collect();
    let strange: Vec<String> = witness
        .errors
        .iter()
        .filter(|((_, error), request)| {
            is_foreign(error) && !oracles.iter_mut().any(|oracle| redis_says(oracle, request, error))
        })
        .map(|((_, error), request)| format!("> {}\n{error}", typed(request)))
        .collect();
    assert!(
        strange.is_empty(),
        "{} errors that Redis would not give (seed {seed}):\n{}",
        strange.len(),
        strange.join("\n")
    );
}

/// Every type, many keys, some that have expired and some that were evicted: all sums are right.
#[test]
fn what_is_told_is_true() {
    for shards in [1, 2, 4] {
        let server = Server::shardis(shards, &["--maxmemory-policy", "allkeys-random"]);
        let mut client = server.client();
        let before = server.info_number("memory", "used_memory");
        let mut rng = fastrand::Rng::with_seed(shards as u64);
        let mut created = 0;
        for db in [0, 1, 7] {
            client.call(&["SELECT", &db.to_string()]);
            let requests: Vec<Words> = (0..5000)
                .flat_map(|number| {
                    let key = format!("key:{number}");
                    let text = "x".repeat(rng.usize(1..400));
                    let make = match rng.u32(0..9) {
                        0 => format!("RPUSH {key} {text} b c"),
                        1 => format!("SADD {key} 1 2 {text}"),
                        2 => format!("ZADD {key} 1 {text} 2 b"),
                        3 => format!("HSET {key} a {text} b c"),
                        4 => format!("XADD {key} * field {text}"),
                        5 => format!("PFADD {key} {text}"),
                        6 => format!("SETBIT {key} {} 1", text.len() * 10),
                        _ => format!("SET {key} {text}"),
                    };
                    let expire = match rng.u32(0..6) {
                        0 => format!("PEXPIRE {key} {}", 1 + rng.u32(0..300)),
                        1 => format!("EXPIRE {key} {}", 1000 + rng.u32(0..1_000_000)),
                        _ => format!("TTL {key}"),
                    };
                    [words(&make), words(&expire)]
                })
                .collect();
            let replies = ask_all(&mut client, requests.into_iter());
            created += replies.iter().step_by(2).filter(|reply| !reply.is_error()).count() as u64;
        }
        recounts(&server);
        let not_counted = server.info_number("memory", "mem_not_counted_for_evict");
        let limit = server.info_number("memory", "used_memory") - not_counted - 500_000;
        client.call(&["CONFIG", "SET", "maxmemory", &limit.to_string()]);
        eventually("something was evicted", || {
            server.info_number("stats", "evicted_keys") > 100
        });
        client.call(&["CONFIG", "SET", "maxmemory", "0"]);
        recounts(&server);
        eventually("what was created is there, or was evicted, or has expired", || {
            let there: u64 = keyspace_lines(&mut client).values().map(|figures| figures[0]).sum();
            let expired = server.info_number("stats", "expired_keys");
            there + expired + server.info_number("stats", "evicted_keys") == created
        });
        assert!(server.info_number("stats", "expired_keys") > 100);
        // What the accounts say goes away is what goes away.
        let (full, told) = (server.info_number("memory", "used_memory"), keyspace_bytes(&mut client));
        drop(client);
        let empty = used_when_empty(&server);
        let freed = full.saturating_sub(empty);
        println!("{shards} shards: {before} bytes when it began, {full} full, {empty} empty; {told} told");
        assert!(
            freed.abs_diff(told) < told / 10 + 500_000,
            "{freed} bytes were freed, {told} told"
        );
    }
}
