//! The differential test: the same streams of commands go to shardis (1, 2 and 4 shards) and to an oracle, Redis 8.2 or Valkey
//! 9.1 in turn, and every reply is compared byte for byte, in RESP2 and in RESP3. Where the two are known to differ from each
//! other (`support/rulings.rs`) the one whose word does not count is not asked.
//!
//! Streams are written from the literals' own syntax (`generator`), so a new command is in them as soon as it exists. What
//! cannot be compared byte for byte stands in a table with its reasons (`normalise`). A session begins with an empty
//! keyspace and new connections; in it two connections take turns with pipelined batches, each in its own db, transaction
//! and set of watched keys. After each batch the whole keyspaces are compared: names, types, encodings, expiry, and the
//! serialised values.
//!
//! A difference is shrunk to a short list of commands that still shows it, and printed so that it can be typed to
//! redis-cli. The seed is printed as well.
//!
//! * `SHARDIS_DIFF_COMMANDS=n`: so many commands in all, instead of 300,000;
//! * `SHARDIS_DIFF_SEED=n`: begins with this seed.

mod generator;
mod normalise;
#[path = "../support/mod.rs"]
mod support;

use generator::{DBS_TOUCHED, Generator, Words};
use std::collections::BTreeMap;
use support::client::encode;
use support::value::word;
use support::{Client, Oracle, Server, Value};

/// Commands in all, over all numbers of shards and both protocols.
const COMMAND_COUNT: usize = 300_000;
/// Commands of a session: what a difference must be found in again when it is shrunk.
const SESSION_COUNT: usize = 2000;
/// Commands that are sent before their replies are read. Replies are small: they never fill the sockets' buffers.
const BATCH_COUNT: usize = 100;
/// Connections of a session.
const CONNECTION_COUNT: usize = 2;
/// Sessions that shrinking may run.
const SHRINK_COUNT_MAX: usize = 400;

/// A command and the connection that sends it.
type Sent = (usize, Words);

/// One of the two sides of a session.
struct Side<'a> {
    server: &'a Server,
    clients: Vec<Client>,
    inspector: Client,
}

impl Side<'_> {
    fn new(server: &Server, is_resp3: bool) -> Side<'_> {
        let mut inspector = server.client();
        inspector.call(&["FLUSHALL"]);
        let connect = |_| {
            if is_resp3 {
                server.client_resp3()
            } else {
                server.client()
            }
        };
        Side {
            server,
            clients: (0..CONNECTION_COUNT).map(connect).collect(),
            inspector,
        }
    }

    /// The bytes of the replies of a batch.
    fn run(&mut self, connection: usize, batch: &[Sent]) -> Result<Vec<(Value, Vec<u8>)>, String> {
        let bytes: Vec<u8> = batch.iter().flat_map(|(_, words)| encode(words)).collect();
        let client = &mut self.clients[connection];
        let name = &self.server.name;
        client
            .send(&bytes)
            .map_err(|error| format!("{name} takes no more: {error}"))?;
        batch
            .iter()
            .map(|_| {
                client
                    .try_raw_reply()
                    .map_err(|error| format!("{name} answers no more: {error}"))
            })
            .collect()
    }

    /// Everything that is stored: under the db and the key, its type, encoding, expiry, serialised value, and what members it has as a set.
    fn keyspace(&mut self) -> BTreeMap<(usize, Vec<u8>), Vec<Value>> {
        let mut all = BTreeMap::new();
        for db in DBS_TOUCHED {
            let mut ask = encode(&["SELECT", &db.to_string()]);
            ask.extend(encode(&["KEYS", "*"]));
            self.inspector.send(&ask).expect("the inspector is connected");
            self.inspector.reply();
            let keys: Vec<Vec<u8>> = self.inspector.reply().items().into_iter().map(bulk).collect();
            let ask: Vec<u8> = keys
                .iter()
                .flat_map(|key| {
                    [
                        encode(&[&b"TYPE"[..], &key[..]]),
                        encode(&[&b"OBJECT"[..], b"ENCODING", &key[..]]),
                        encode(&[&b"PTTL"[..], &key[..]]),
                        encode(&[&b"DUMP"[..], &key[..]]),
                        encode(&[&b"SMEMBERS"[..], &key[..]]),
                    ]
                    .concat()
                })
                .collect();
            self.inspector.send(&ask).expect("the inspector is connected");
            for key in keys {
                all.insert((db, key), (0..5).map(|_| self.inspector.reply()).collect());
            }
        }
        all
    }

    /// The keys that an iteration from start to end shows.
    fn scanned(&mut self, db: usize, count: usize) -> Vec<Vec<u8>> {
        self.inspector.call(&["SELECT", &db.to_string()]);
        let (mut keys, mut cursor) = (Vec::new(), "0".to_owned());
        loop {
            let reply = self
                .inspector
                .call(&["SCAN", &cursor, "COUNT", &count.to_string()])
                .items();
            keys.extend(reply[1].items().into_iter().map(bulk));
            cursor = reply[0].text();
            if cursor == "0" {
                keys.sort();
                keys.dedup();
                return keys;
            }
        }
    }
}

fn bulk(value: Value) -> Vec<u8> {
    match value {
        Value::Bulk(text) => text,
        other => panic!("not a string: {other}"),
    }
}

/// Runs a session batch by batch; the error says what differs.
struct Session<'a> {
    ours: Side<'a>,
    theirs: Side<'a>,
    oracle: Oracle,
    /// What each connection has queued since MULTI.
    queued: Vec<Vec<Words>>,
}

impl<'a> Session<'a> {
    fn new(ours: &'a Server, (oracle, theirs): (Oracle, &'a Server), is_resp3: bool) -> Session<'a> {
        Session {
            ours: Side::new(ours, is_resp3),
            theirs: Side::new(theirs, is_resp3),
            oracle,
            queued: vec![Vec::new(); CONNECTION_COUNT],
        }
    }

    /// `batch` is of one connection.
    fn run(&mut self, batch: &[Sent], count: usize) -> Result<(), String> {
        let connection = batch[0].0;
        let (ours, theirs) = (self.ours.run(connection, batch)?, self.theirs.run(connection, batch)?);
        for ((_, words), ((our, our_raw), (their, their_raw))) in batch.iter().zip(ours.iter().zip(&theirs)) {
            let agree = match our_raw == their_raw {
                true => true,
                false => self.agree(connection, words, our, their),
            };
            if !agree {
                let server = &self.ours.server.name;
                return Err(format!(
                    "> {}\n  {}: {their}\n  {server}: {our}",
                    typed(words),
                    self.oracle.name()
                ));
            }
            let queued = &mut self.queued[connection];
            if *their == Value::Simple(b"QUEUED".to_vec()) {
                queued.push(words.clone());
            } else if ["exec", "discard", "reset"]
                .iter()
                .any(|name| words[0].eq_ignore_ascii_case(name.as_bytes()))
            {
                queued.clear();
            }
        }
        self.compare_keyspaces(count)
    }

    fn agree(&self, connection: usize, words: &[Vec<u8>], our: &Value, their: &Value) -> bool {
        let queued = &self.queued[connection];
        match (our, their) {
            (Value::Array(our), Value::Array(their)) if words[0].eq_ignore_ascii_case(b"exec") => {
                our.len() == their.len()
                    && queued.len() == our.len()
                    && queued
                        .iter()
                        .zip(our.iter().zip(their))
                        .all(|(words, (our, their))| normalise::agree(self.oracle, words, our, their))
            }
            _ => normalise::agree(self.oracle, words, our, their),
        }
    }

    fn compare_keyspaces(&mut self, count: usize) -> Result<(), String> {
        let (ours, theirs) = (self.ours.keyspace(), self.theirs.keyspace());
        let server = &self.ours.server.name;
        for key in ours.keys().chain(theirs.keys()) {
            let (our, their) = (ours.get(key), theirs.get(key));
            let agree = match (our, their) {
                (Some(our), Some(their)) => {
                    let names = [
                        b"TYPE".to_vec(),
                        b"ENCODING".to_vec(),
                        b"PTTL".to_vec(),
                        b"DUMP".to_vec(),
                        b"SMEMBERS".to_vec(),
                    ];
                    names.iter().enumerate().all(|(at, name)| {
                        normalise::agree(self.oracle, std::slice::from_ref(name), &our[at], &their[at])
                    })
                }
                _ => false,
            };
            if !agree {
                let shown = |side: Option<&Vec<Value>>| {
                    side.map_or("missing".to_owned(), |values| {
                        values.iter().map(Value::to_string).collect::<Vec<_>>().join(" ")
                    })
                };
                return Err(format!(
                    "afterwards, in db {}, the key {}\n  {}: {}\n  {server}: {}",
                    key.0,
                    word(&key.1),
                    self.oracle.name(),
                    shown(their),
                    shown(our)
                ));
            }
        }
        let db = count % 4;
        let (ours, theirs) = (
            self.ours.scanned(db, 1 + count % 13),
            self.theirs.scanned(db, 1 + count % 13),
        );
        if ours != theirs {
            return Err(format!(
                "afterwards, SCAN shows other keys in db {db}: {} and {}",
                ours.len(),
                theirs.len()
            ));
        }
        Ok(())
    }
}

fn typed(words: &[Vec<u8>]) -> String {
    words.iter().map(|text| word(text)).collect::<Vec<_>>().join(" ")
}

/// Runs commands in a new session; what differs first, and how many commands were sent by then.
fn replay(commands: &[Sent], ours: &Server, theirs: (Oracle, &Server), is_resp3: bool) -> Option<(String, usize)> {
    let mut session = Session::new(ours, theirs, is_resp3);
    let mut sent = 0;
    for batch in commands.chunk_by(|a, b| a.0 == b.0) {
        for batch in batch.chunks(BATCH_COUNT) {
            sent += batch.len();
            if let Err(difference) = session.run(batch, sent) {
                return Some((difference, sent));
            }
        }
    }
    None
}

/// Leaves out what the difference does not need: ever smaller pieces, as long as something differs without them.
fn shrunk(mut commands: Vec<Sent>, ours: &Server, theirs: (Oracle, &Server), is_resp3: bool) -> (Vec<Sent>, String) {
    let Some((mut difference, sent)) = replay(&commands, ours, theirs, is_resp3) else {
        return (commands, "it differed once and not again".to_owned());
    };
    commands.truncate(sent);
    let mut runs = 0;
    let mut piece = commands.len().div_ceil(2);
    while runs < SHRINK_COUNT_MAX {
        let mut at = 0;
        let before = commands.len();
        while at < commands.len() && runs < SHRINK_COUNT_MAX {
            let mut fewer = commands.clone();
            fewer.drain(at..(at + piece).min(commands.len()));
            runs += 1;
            match replay(&fewer, ours, theirs, is_resp3) {
                Some((shorter, sent)) if !fewer.is_empty() => {
                    fewer.truncate(sent);
                    (commands, difference) = (fewer, shorter);
                }
                _ => at += piece,
            }
        }
        if piece == 1 && commands.len() == before {
            break;
        }
        piece = (piece / 2).max(1);
    }
    (commands, difference)
}

/// Commands of one session.
fn stream(generator: &mut Generator) -> Vec<Sent> {
    let mut commands = Vec::with_capacity(SESSION_COUNT + BATCH_COUNT);
    while commands.len() < SESSION_COUNT {
        let connection = generator.below(CONNECTION_COUNT);
        for _ in 0..1 + generator.below(BATCH_COUNT) {
            let plain = |words: &[&str]| words.iter().map(|word| word.as_bytes().to_vec()).collect::<Words>();
            match generator.below(60) {
                0 => {
                    if generator.chance(50) {
                        let key = generator.key();
                        commands.push((connection, vec![b"WATCH".to_vec(), key]));
                    }
                    commands.push((connection, plain(&["MULTI"])));
                    for _ in 0..generator.below(6) {
                        commands.push((connection, generator.queued()));
                    }
                    let end = if generator.chance(15) { "DISCARD" } else { "EXEC" };
                    commands.push((connection, plain(&[end])));
                }
                // What it watches now is perhaps changed by the other connection before its transaction.
                1 => {
                    let key = generator.key();
                    commands.push((connection, vec![b"WATCH".to_vec(), key]));
                }
                2 => commands.push((connection, plain(&["SELECT", "0"]))),
                _ => commands.push((connection, generator.command())),
            }
        }
    }
    commands
}

/// Serialised values of the oracle's.
fn payloads(oracle: &Server) -> Vec<Vec<u8>> {
    let mut client = oracle.client();
    let texts: [&[u8]; 8] = [
        b"",
        b"1",
        b"-129",
        b"70000",
        b"9223372036854775807",
        b"hello",
        &[b'a'; 300],
        b"a longer text that cannot be compressed much: 0123456789",
    ];
    let dumped = texts.iter().map(|text| {
        client.call(&[b"SET", &b"k"[..], text]);
        bulk(client.call(&["DUMP", "k"]))
    });
    dumped.chain([Vec::new(), b"nonsense".to_vec()]).collect()
}

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// Where a run begins that names no seed: the same streams each time, so that what lands is what was tried. Other seeds
/// are for whoever goes looking.
const FIRST_SEED: u64 = 20_261_121;

/// A share of the streams, on that many shards, in both protocols.
fn differ(shards: usize) {
    let total = from_environment("SHARDIS_DIFF_COMMANDS").map_or(COMMAND_COUNT, |count| count as usize);
    let first_seed = from_environment("SHARDIS_DIFF_SEED").unwrap_or(FIRST_SEED * shards as u64);
    let pairs: Vec<Pair> = [Oracle::Redis82, Oracle::Valkey91]
        .into_iter()
        .filter_map(|oracle| Pair::start(shards, oracle))
        .collect();
    let mut sent = 0;
    let mut seed = first_seed;
    while sent < total / 3 && !pairs.is_empty() {
        // Two bits of the seed: what it is compared with, and the protocol.
        let pair = &pairs[(seed / 2) as usize % pairs.len()];
        let is_resp3 = seed % 2 == 1;
        let mut generator = Generator::new(seed, pair.payloads.clone(), pair.oracle);
        let commands = stream(&mut generator);
        sent += commands.len();
        let theirs = (pair.oracle, &pair.theirs);
        if let Some((difference, _)) = replay(&commands, &pair.ours, theirs, is_resp3) {
            let (commands, shorter) = shrunk(commands, &pair.ours, theirs, is_resp3);
            let script: Vec<String> = commands
                .iter()
                .map(|(connection, words)| format!("{}> {}", connection + 1, typed(words)))
                .collect();
            panic!(
                "{} differs from {} (SHARDIS_DIFF_SEED={seed}, RESP{}):\n{difference}\nShrunk to (connection> command):\n{}\n{shorter}",
                pair.ours.name,
                pair.oracle.name(),
                if is_resp3 { 3 } else { 2 },
                script.join("\n"),
            );
        }
        seed += 1;
    }
    println!("{shards} shards: {sent} commands, seeds {first_seed}..{seed}");
}

/// An oracle, and shardis set up so that the two can be compared.
struct Pair {
    oracle: Oracle,
    theirs: Server,
    ours: Server,
    payloads: Vec<Vec<u8>>,
}

impl Pair {
    fn start(shards: usize, oracle: Oracle) -> Option<Pair> {
        // What LZF makes of a text is the compressor's own choice; any reader of the format reads either.
        let options = ["--rdbcompression", "no"];
        // With such a policy, and a limit that is never reached, nobody shares integers, whose clocks stand still.
        let unshared = ["--maxmemory", "4gb", "--maxmemory-policy", "allkeys-lru"];
        let theirs = oracle.start(&[&options[..], &unshared].concat())?;
        let version = if oracle == Oracle::Redis82 { "12" } else { "11" };
        let payloads = payloads(&theirs);
        Some(Pair {
            oracle,
            payloads,
            ours: Server::shardis(shards, &[&options[..], &["--rdb-version", version]].concat()),
            theirs,
        })
    }
}

#[test]
fn one_shard_differs_in_nothing() {
    differ(1);
}

#[test]
fn two_shards_differ_in_nothing() {
    differ(2);
}

#[test]
fn four_shards_differ_in_nothing() {
    differ(4);
}

/// The streams contain what they are meant to contain.
#[test]
fn streams_reach_every_command_and_the_harness_sees_differences() {
    let mut generator = Generator::new(1, vec![b"payload".to_vec()], Oracle::Redis82);
    let commands = stream(&mut generator);
    let names: std::collections::BTreeSet<String> = commands
        .iter()
        .map(|(_, words)| String::from_utf8_lossy(&words[0]).to_ascii_lowercase())
        .collect();
    assert!(names.len() * 10 > generator.command_count() * 8, "{names:?}");
    let called: std::collections::BTreeSet<&[u8]> = commands
        .iter()
        .filter(|(_, words)| words[0] == generator::SCRIPT_COMMAND)
        .map(|(_, words)| &words[3][..])
        .collect();
    assert!(called.len() > 30, "scripts call as well: {called:?}");
    let agree = |command: &Words, our: &Value, their: &Value| normalise::agree(Oracle::Redis82, command, our, their);
    let of = |text: &str| text.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Words>();
    assert!(agree(&of("TTL k"), &Value::Integer(100), &Value::Integer(101)));
    assert!(!agree(&of("TTL k"), &Value::Integer(-1), &Value::Integer(0)));
    assert!(!agree(&of("GET k"), &Value::Nil, &Value::Bulk(Vec::new())));
    let scanned = |words: &[&str]| {
        let items = words.iter().map(|word| Value::Bulk(word.as_bytes().to_vec()));
        Value::Array(vec![Value::Bulk(b"0".to_vec()), Value::Array(items.collect())])
    };
    let (here, there) = (scanned(&["a", "b", "c", "d"]), scanned(&["c", "b", "a", "d"]));
    assert!(!agree(&of("HSCAN k 0"), &here, &there), "b is no longer a's");
    assert!(agree(&of("HSCAN k 0 NoValues"), &here, &there));
    assert!(!agree(
        &of("HSCAN k 0 NOVALUES"),
        &here,
        &scanned(&["a", "b", "c", "e"])
    ));
}
