//! Clients that cache, over shards in one thread whose passes are taken apart and interleaved by chance: no cache ever keeps what is older than
//! what was answered to who has written it.
//!
//! Each key has one writer, whose values only grow. What a writer is answered is the least that others may keep from then on: a write
//! is answered when all who are told have it in their outputs, so a client that has nothing under way has got it. When all is quiet, what is
//! kept is what is there. The clients do what such clients do: in default, OPTIN, OPTOUT and BCAST mode, with NOLOOP, and with another client
//! that hears for them, with which they take a value that they are still waiting for as old when it is told of in the meantime.
//!
//! | variable | says |
//! |---|---|
//! | `SHARDIS_CACHING_SEED=n` | run this seed alone |
//! | `SHARDIS_CACHING_SEEDS=n` | run so many (40) |

mod support;

use shardis::base::clock::Ms;
use shardis::base::random::Random;
use shardis::command::FAMILIES;
use shardis::engine::Registry;
use shardis::engine::assembly::{Assembly, Plan};
use shardis::engine::wire::{Handed, Wire};
use shardis::resp::ReplyBuf;
use shardis::shard::ShardId;
use std::collections::{HashMap, VecDeque};
use std::sync::LazyLock;
use support::Value;
use support::client::encode;
use support::value::parse;

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| Registry::new(FAMILIES, &[]).expect("nothing is renamed"));

const SEEDS: u64 = 40;
const STEPS: usize = 1500;
const CLIENT_COUNT: usize = 6;
const KEYS_OF_A_SHARD: usize = 4;
/// Commands that a client has under way.
const DEPTH: usize = 4;

#[test]
fn no_cache_is_ever_older_than_what_was_answered() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|value| value.parse::<u64>().expect("a number"))
    };
    let seeds = match number("SHARDIS_CACHING_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SHARDIS_CACHING_SEEDS").unwrap_or(SEEDS),
    };
    let (mut kept, mut told) = (0, 0);
    for seed in seeds {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.come_to_rest();
        kept += world.kept;
        told += world.told;
    }
    assert!(
        kept > 0 && told > 0,
        "{kept} values were kept, and {told} invalidations heard"
    );
}

/// How a client has its keys tracked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Read,
    SkipsOwn,
    OptsIn,
    OptsOut,
    Broadcast,
    Redirected,
    /// It does not cache, and may hear for others.
    Hears,
}

/// What a client waits for.
#[derive(Clone, Debug)]
enum Awaited {
    /// A reply that says nothing.
    Plain,
    /// Values of these keys; false: not to be kept.
    Read(Vec<usize>, bool),
    /// These keys have this version.
    Write(Vec<usize>, u64),
    /// All keys are gone; what was answered of each until it was sent.
    Flush(Vec<u64>),
    Exec(Vec<Awaited>),
}

struct Actor {
    shard: usize,
    index: u32,
    mode: Mode,
    /// Whom it hears for.
    hears_for: Option<usize>,
    awaited: VecDeque<Awaited>,
    incoming: Vec<u8>,
    cache: HashMap<usize, u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Idle,
    Begun,
    Ran,
    Taken,
}

/// What a shard's connections are handed.
#[derive(Default)]
struct Sockets(Vec<(u32, Vec<u8>)>);

impl Wire for Sockets {
    fn send(&mut self, index: u32, output: &mut ReplyBuf) -> Handed {
        self.0.push((index, output.take().to_contiguous().into_owned()));
        Handed::Taken
    }
    fn queued_bytes(&self, _: u32) -> usize {
        0
    }
    fn read_on(&mut self, _: u32, _: bool) {}
    fn close(&mut self, _: u32, _: bool) {}
    fn wake(&mut self, _: ShardId) {}
}

struct World {
    seed: u64,
    random: Random,
    assembly: Assembly,
    phases: Vec<Phase>,
    /// What has been sent to clients' shards and has not arrived.
    inboxes: Vec<Vec<(u32, Vec<u8>)>>,
    actors: Vec<Actor>,
    keys: Vec<String>,
    versions: Vec<u64>,
    /// The last version of each key that its writer was answered, and the least that may be kept.
    answered: Vec<u64>,
    least: Vec<u64>,
    kept: usize,
    told: usize,
    /// Keys are forgotten beyond a limit. Whoever changes one that was, or one that FLUSHALL has taken, waits for nobody: what was told of it
    /// then may still be on its way.
    is_limited: bool,
    story: Vec<String>,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random::with_seed(seed);
        let shards = random.usize_in(1..=4);
        let mut parameters = Vec::new();
        let is_limited = random.chance(1, 3);
        if is_limited {
            parameters.push(("tracking-table-max-keys".to_owned(), "3".to_owned()));
        }
        let assembly = Assembly::of(Plan {
            parameters: &parameters,
            ..Plan::new(&REGISTRY, shards)
        });
        let keys: Vec<String> = (0..shards)
            .flat_map(|shard| (0..KEYS_OF_A_SHARD).map(move |number| (shard, number)))
            .map(|(shard, number)| assembly.key_on(shard, number))
            .collect();
        assembly.run(&[b"rpush", b"list", b"1", b"2", b"3"]);
        let mut world = World {
            seed,
            phases: vec![Phase::Idle; shards],
            inboxes: vec![Vec::new(); shards],
            actors: Vec::new(),
            versions: vec![0; keys.len()],
            answered: vec![0; keys.len()],
            least: vec![0; keys.len()],
            keys,
            assembly,
            kept: 0,
            told: 0,
            is_limited,
            story: Vec::new(),
            random,
        };
        for client in 0..CLIENT_COUNT {
            world.enter(client);
        }
        world
    }

    /// A client comes, or comes again, and says how it caches.
    fn enter(&mut self, client: usize) {
        let shard = self.random.usize_in(0..self.phases.len());
        let index = 10 + self.story.len() as u32;
        let modes = [
            Mode::Read,
            Mode::Read,
            Mode::SkipsOwn,
            Mode::OptsIn,
            Mode::OptsOut,
            Mode::Broadcast,
            Mode::Redirected,
        ];
        // The last one hears for the one before.
        let hears = client + 1 == CLIENT_COUNT;
        let mut mode = modes[self.random.usize_in(0..modes.len())];
        if hears {
            mode = Mode::Hears;
        } else if mode == Mode::Redirected && client + 2 != CLIENT_COUNT {
            mode = Mode::Read;
        }
        let connected = self.assembly.shards[shard]
            .borrow_mut()
            .connect(index, 0, "127.0.0.1:3", "127.0.0.1:2", true);
        assert!(connected);
        let actor = Actor {
            shard,
            index,
            mode,
            hears_for: hears.then_some(CLIENT_COUNT - 2),
            awaited: VecDeque::new(),
            incoming: Vec::new(),
            cache: HashMap::new(),
        };
        match self.actors.get_mut(client) {
            Some(place) => *place = actor,
            None => self.actors.push(actor),
        }
        self.send(client, &["hello", "3"], Awaited::Plain);
        let tracking: &[&str] = match mode {
            Mode::Read => &[],
            Mode::SkipsOwn => &["noloop"],
            Mode::OptsIn => &["optin"],
            Mode::OptsOut => &["optout"],
            Mode::Broadcast => &["bcast", "prefix", "k"],
            // It is told as soon as the other one is there.
            Mode::Redirected | Mode::Hears => return,
        };
        let words: Vec<&str> = ["client", "tracking", "on"].iter().chain(tracking).copied().collect();
        self.send(client, &words, Awaited::Plain);
    }

    /// The client that hears for another one is there: that has it do so.
    fn redirect(&mut self) {
        let (caches, hears) = (CLIENT_COUNT - 2, CLIENT_COUNT - 1);
        if self.actors[caches].mode != Mode::Redirected || !self.actors[caches].awaited.is_empty() {
            return;
        }
        let (shard, index) = (self.actors[hears].shard, self.actors[hears].index);
        let mut shard = self.assembly.shards[shard].borrow_mut();
        let id = shard.clients.at(index).map(|client| client.session.id.to_string());
        drop(shard);
        if let Some(id) = id {
            self.send(caches, &["client", "tracking", "on", "redirect", &id], Awaited::Plain);
            self.actors[caches].mode = Mode::Read;
        }
    }

    fn send(&mut self, client: usize, words: &[&str], awaited: Awaited) {
        self.story.push(format!("{client}: {}", words.join(" ")));
        let actor = &mut self.actors[client];
        actor.awaited.push_back(awaited);
        self.inboxes[actor.shard].push((actor.index, encode(words)));
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..35 => {
                let client = self.random.usize_in(0..CLIENT_COUNT);
                self.act(client);
            }
            35..37 => self.leave(),
            37..39 => self.redirect(),
            39..41 if self.phases.iter().all(|phase| *phase == Phase::Idle) => self.assembly.pass(Ms(1)),
            _ => {
                let shard = self.random.usize_in(0..self.phases.len());
                self.advance(shard);
            }
        }
    }

    /// A client goes, which has nothing on its way to its shard, and another one takes its place.
    fn leave(&mut self) {
        let client = self.random.usize_in(0..CLIENT_COUNT);
        let (shard, index) = (self.actors[client].shard, self.actors[client].index);
        let is_on_its_way = self.inboxes[shard].iter().any(|(of, _)| *of == index);
        let is_redirected = client + 2 >= CLIENT_COUNT;
        let is_busy = !self.actors[client].awaited.is_empty();
        if self.phases[shard] != Phase::Idle || is_on_its_way || is_redirected || is_busy {
            return;
        }
        self.story.push(format!("{client} goes"));
        self.assembly.shards[shard].borrow_mut().disconnect(index);
        self.enter(client);
    }

    /// Keys that a client writes, one or several.
    fn own_keys(&mut self, client: usize) -> Vec<usize> {
        let writers = CLIENT_COUNT - 1;
        let own: Vec<usize> = (0..self.keys.len()).filter(|key| key % writers == client).collect();
        let count = self.random.usize_in(1..=3).min(own.len());
        let first = self.random.usize_in(0..own.len().max(1));
        (0..count).map(|at| own[(first + at) % own.len()]).collect()
    }

    fn any_keys(&mut self) -> Vec<usize> {
        let count = self.random.usize_in(1..=3);
        let mut keys: Vec<usize> = (0..count).map(|_| self.random.usize_in(0..self.keys.len())).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// A read: its words, and what is kept of it.
    fn read(&mut self, client: usize, keys: Vec<usize>, keeps: bool) -> (Vec<String>, Awaited) {
        let word = if keys.len() == 1 { "get" } else { "mget" };
        let names = keys.iter().map(|key| self.keys[*key].clone());
        let words = std::iter::once(word.to_owned()).chain(names).collect();
        let keeps = keeps && !matches!(self.actors[client].mode, Mode::Hears | Mode::Redirected);
        (words, Awaited::Read(keys, keeps))
    }

    fn write(&mut self, keys: Vec<usize>) -> (Vec<String>, Awaited) {
        let version = keys.iter().map(|key| self.versions[*key]).max().unwrap_or(0) + 1;
        keys.iter().for_each(|key| self.versions[*key] = version);
        let names = keys.iter().map(|key| self.keys[*key].clone());
        let words = match self.random.below(6) {
            0 => std::iter::once("del".to_owned()).chain(names).collect(),
            _ if keys.len() == 1 => vec!["set".to_owned(), self.keys[keys[0]].clone(), version.to_string()],
            _ => {
                let pairs = names.flat_map(|name| [name, version.to_string()]);
                std::iter::once("mset".to_owned()).chain(pairs).collect()
            }
        };
        (words, Awaited::Write(keys, version))
    }

    fn act(&mut self, client: usize) {
        if self.actors[client].awaited.len() >= DEPTH || self.actors[client].mode == Mode::Hears {
            return;
        }
        let mode = self.actors[client].mode;
        let own = self.own_keys(client);
        match self.random.below(12) {
            0..4 if !own.is_empty() => {
                let (words, awaited) = self.write(own);
                self.send_owned(client, &words, awaited);
            }
            4 if self.random.chance(1, 4) => {
                let answered = self.answered.clone();
                self.send(client, &["flushall"], Awaited::Flush(answered));
            }
            5 | 6 => self.transact(client, own),
            _ => {
                let keys = self.any_keys();
                let said = match mode {
                    Mode::OptsIn => Some("yes"),
                    Mode::OptsOut if self.random.chance(1, 2) => Some("no"),
                    _ => None,
                };
                if let Some(word) = said {
                    self.send(client, &["client", "caching", word], Awaited::Plain);
                }
                let (words, awaited) = self.read(client, keys, said != Some("no"));
                self.send_owned(client, &words, awaited);
            }
        }
    }

    /// A transaction that reads and writes; some find out late what they need.
    fn transact(&mut self, client: usize, own: Vec<usize>) {
        if self.actors[client].mode == Mode::OptsIn {
            self.send(client, &["client", "caching", "yes"], Awaited::Plain);
        }
        self.send(client, &["multi"], Awaited::Plain);
        let mut queued = Vec::new();
        for _ in 0..self.random.usize_in(1..=3) {
            let (words, awaited) = match self.random.below(3) {
                0 if !own.is_empty() => self.write(own.clone()),
                1 => {
                    let words = ["sort", "list", "by", "w_*"].map(str::to_owned);
                    (words.to_vec(), Awaited::Plain)
                }
                _ => {
                    let keys = self.any_keys();
                    self.read(client, keys, true)
                }
            };
            self.send_owned(client, &words, Awaited::Plain);
            queued.push(awaited);
        }
        self.send(client, &["exec"], Awaited::Exec(queued));
    }

    fn send_owned(&mut self, client: usize, words: &[String], awaited: Awaited) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.send(client, &words, awaited);
    }

    /// The next part of a shard's pass.
    fn advance(&mut self, number: usize) {
        let mut wire = Sockets::default();
        let mut shard = self.assembly.shards[number].borrow_mut();
        let next = match self.phases[number] {
            Phase::Idle => {
                shard.begin_pass();
                Phase::Begun
            }
            Phase::Begun => {
                for (index, bytes) in std::mem::take(&mut self.inboxes[number]) {
                    shard.receive(index, &bytes);
                }
                shard.run_pass(&mut wire);
                Phase::Ran
            }
            Phase::Ran => {
                shard.take_turn();
                Phase::Taken
            }
            Phase::Taken => match shard.write_pass() && shard.may_release() {
                false => Phase::Taken,
                true => {
                    shard.release_pass(&mut wire);
                    Phase::Idle
                }
            },
        };
        drop(shard);
        self.phases[number] = next;
        self.assembly.poll_tasks();
        for (index, bytes) in wire.0 {
            let mut actors = self.actors.iter();
            if let Some(client) = actors.position(|actor| actor.shard == number && actor.index == index) {
                self.hear(client, &bytes);
            }
        }
        self.check();
    }

    fn hear(&mut self, client: usize, bytes: &[u8]) {
        self.actors[client].incoming.extend_from_slice(bytes);
        while let Some((value, length)) = parse(&self.actors[client].incoming) {
            self.actors[client].incoming.drain(..length);
            self.story.push(format!("{client} hears {value:?}"));
            match value {
                Value::Push(items) => self.take_in(client, &items),
                reply => {
                    let awaited = self.actors[client].awaited.pop_front();
                    let awaited = awaited.unwrap_or_else(|| panic!("seed {}: nobody asked for {reply}", self.seed));
                    self.answer(client, &awaited, &reply);
                }
            }
        }
    }

    fn answer(&mut self, client: usize, awaited: &Awaited, reply: &Value) {
        assert!(!matches!(reply, Value::Error(_)), "seed {}: {reply}", self.seed);
        match awaited {
            Awaited::Plain => {}
            Awaited::Read(keys, keeps) => {
                let values = match reply {
                    Value::Array(values) => values.clone(),
                    value => vec![value.clone()],
                };
                for (key, value) in keys.iter().zip(values) {
                    match value {
                        Value::Nil => self.actors[client].cache.remove(key),
                        value if *keeps => {
                            self.kept += 1;
                            let version = value.text().parse().expect("a number");
                            self.actors[client].cache.insert(*key, version)
                        }
                        // What it has kept may be another one's by now.
                        _ => None,
                    };
                }
            }
            Awaited::Write(keys, version) => {
                // Who has removed what was not there any more knows of a change that somebody else may still wait for.
                let is_sure = !matches!(reply, Value::Integer(count) if *count < keys.len() as i64);
                for key in keys {
                    if is_sure {
                        self.answered[*key] = self.answered[*key].max(*version);
                        self.least[*key] = self.least[*key].max(*version);
                    }
                    if self.actors[client].mode == Mode::SkipsOwn {
                        self.actors[client].cache.remove(key);
                    }
                }
            }
            Awaited::Flush(answered) => {
                for (least, answered) in self.least.iter_mut().zip(answered) {
                    *least = (*least).max(answered + 1);
                }
            }
            Awaited::Exec(queued) => {
                let Value::Array(replies) = reply else {
                    panic!("seed {}: EXEC answers {reply}", self.seed)
                };
                for (awaited, reply) in queued.iter().zip(replies) {
                    self.answer(client, awaited, reply);
                }
            }
        }
    }

    fn take_in(&mut self, client: usize, push: &[Value]) {
        assert_eq!(push[0].text(), "invalidate", "seed {}", self.seed);
        self.told += 1;
        let of = self.actors[client].hears_for.unwrap_or(client);
        let keys: Vec<usize> = match &push[1] {
            Value::Nil => (0..self.keys.len()).collect(),
            Value::Array(names) => {
                let places = names.iter().map(|name| {
                    let name = name.text();
                    self.keys.iter().position(|key| *key == name)
                });
                places.flatten().collect()
            }
            other => panic!("seed {}: {other}", self.seed),
        };
        let actor = &mut self.actors[of];
        for key in keys {
            actor.cache.remove(&key);
            if of != client {
                // It may be on its way on the other connection.
                actor.awaited.iter_mut().for_each(|awaited| forget(awaited, key));
            }
        }
    }

    /// Whoever has nothing under way keeps nothing that is older than it may be.
    fn check(&self) {
        let flushes = |awaited: &Awaited| matches!(awaited, Awaited::Flush(_));
        if self.is_limited || self.actors.iter().any(|actor| actor.awaited.iter().any(flushes)) {
            return;
        }
        for (client, actor) in self.actors.iter().enumerate() {
            let is_idle = actor.awaited.is_empty() && actor.incoming.is_empty();
            let stale = actor.cache.iter().find(|(key, version)| **version < self.least[**key]);
            if let (true, Some((key, version))) = (is_idle, stale) {
                let from = self.story.len().saturating_sub(60);
                panic!(
                    "seed {}: client {client} ({:?}) keeps version {version} of {}, which is {} at least:\n{}",
                    self.seed,
                    actor.mode,
                    self.keys[*key],
                    self.least[*key],
                    self.story[from..].join("\n")
                );
            }
        }
    }

    /// When all is quiet, what is kept is what is there.
    fn come_to_rest(&mut self) {
        let mut rounds = 0;
        while self.actors.iter().any(|actor| !actor.awaited.is_empty()) || rounds < 8 {
            rounds += 1;
            assert!(
                rounds < 1000,
                "seed {}: it never ends:\n{}",
                self.seed,
                self.story.join("\n")
            );
            if self.phases.iter().all(|phase| *phase == Phase::Idle) {
                self.assembly.pass(Ms(1));
            }
            for shard in 0..self.phases.len() {
                loop {
                    self.advance(shard);
                    if matches!(self.phases[shard], Phase::Idle | Phase::Taken) {
                        break;
                    }
                }
            }
        }
        for (key, name) in self.keys.clone().iter().enumerate() {
            let reply = self.assembly.run(&[b"get", name.as_bytes()]);
            let (value, _) = parse(&reply).expect("it is answered");
            let there = match value {
                Value::Nil => None,
                value => Some(value.text().parse::<u64>().expect("a number")),
            };
            for actor in &self.actors {
                if let Some(version) = actor.cache.get(&key) {
                    assert_eq!(
                        Some(*version),
                        there,
                        "seed {}: {:?} keeps it of {name} at the end:\n{}",
                        self.seed,
                        actor.mode,
                        self.story.join("\n")
                    );
                }
            }
        }
    }
}

/// What is read of a key is not to be kept.
fn forget(awaited: &mut Awaited, key: usize) {
    match awaited {
        Awaited::Read(keys, keeps) => *keeps &= !keys.contains(&key),
        Awaited::Exec(queued) => queued.iter_mut().for_each(|awaited| forget(awaited, key)),
        _ => {}
    }
}
