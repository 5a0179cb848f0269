//! Shards in one thread, for tests of the families: what clients do not see of a command, and how several shards share it.
//!
//! Time stands still, each shard's log has a reader, all keyspace events are asked for, and one client is connected to the first shard. Tasks of the executor are polled
//! between the passes, so that nothing ever really waits.

use crate::base::clock::{Clock, SimulatedClock, UnixMs};
use crate::base::random::Random;
use crate::base::slot::{SLOT_COUNT, key_slot};
use crate::client::ClientTable;
use crate::command::FAMILIES;
use crate::config::{Config, Effect, KeyspaceEvents, Settings};
use crate::engine::local::{Executor, LocalOptions};
use crate::engine::log::ReaderId;
use crate::engine::node::Surroundings;
use crate::engine::{Local, Node, Registry, Signal};
use crate::resp::OwnedArgs;
use crate::shard::{Realm, ShardId, TicketSource, link};
use crate::store::{DbIndex, HashSeed, Occupancy};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// The time at which it stands still.
pub(super) const NOW: UnixMs = UnixMs(1_700_000_000_000);

struct Nowhere;

impl Surroundings for Nowhere {
    fn apply(&self, _: Effect, _: &Settings) -> Result<(), String> {
        Ok(())
    }
    fn shut_down(&self) {}
}

/// A command, what it logs, its keyspace events, and what clients that wait for keys are told of it.
pub(super) type Step<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [&'a str]);

type Spawned = Pin<Box<dyn Future<Output = ()>>>;

/// Tasks that are polled after each pass over the shards, until they are done. A sleep lasts one such pass.
#[derive(Default)]
struct Tasks(RefCell<Vec<Spawned>>);

impl Executor for Tasks {
    fn spawn(&self, future: Spawned) {
        self.0.borrow_mut().push(future);
    }

    fn sleep(&self, _: Duration) -> Spawned {
        let mut has_slept = false;
        Box::pin(std::future::poll_fn(move |_| {
            let answer = if has_slept { Poll::Ready(()) } else { Poll::Pending };
            has_slept = true;
            answer
        }))
    }
}

impl Tasks {
    fn poll_all(&self) {
        // Not borrowed while polling: a task may spawn another one.
        let mut tasks = std::mem::take(&mut *self.0.borrow_mut());
        tasks.retain_mut(|task| task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        self.0.borrow_mut().append(&mut tasks);
    }
}

/// Shards in one thread, at a time that stands still, with one client on the first of them.
pub(super) struct Bench {
    pub(super) shards: Vec<Rc<RefCell<Local>>>,
    readers: Vec<ReaderId>,
    events: Rc<RefCell<Vec<String>>>,
    signals: Rc<RefCell<Vec<String>>>,
    tasks: Rc<Tasks>,
}

impl Bench {
    pub(super) fn new(shards: usize) -> Bench {
        let mut random = Random::with_seed(7);
        let config = Config::load_from(&[], &mut std::io::empty(), std::path::Path::new("/")).unwrap();
        let registry: &'static Registry = Box::leak(Box::new(Registry::new(FAMILIES, &[]).unwrap()));
        let node = Arc::new(Node {
            started_at: NOW,
            run_id: random.random_hex(40),
            replid: random.random_hex(40),
            shards,
            clients: ClientTable::new(),
            command_count: registry.all().len(),
            config: Mutex::new(config),
            executable: String::new(),
            memory: crate::stats::MemoryAccount::new(shards),
            occupancy: Arc::new(Occupancy::new(SLOT_COUNT)),
            attention: Default::default(),
            log_switch: Default::default(),
            shutdown: Mutex::new(None),
            surroundings: Box::new(Nowhere),
        });
        let realm = Realm {
            shard_count: shards as u16,
            slot_count: SLOT_COUNT as u16,
            tickets: TicketSource::new(),
        };
        let tasks = Rc::new(Tasks::default());
        let clock = SimulatedClock {
            elapsed_ns: Rc::new(Cell::new(NOW.0 * 1_000_000)),
            skew_ms: Rc::default(),
            step_ns: Rc::default(),
        };
        let ports = link::connect(shards as u16, 64 * 1024);
        let shards: Vec<_> = ports
            .into_iter()
            .enumerate()
            .map(|(index, port)| {
                Local::new(LocalOptions {
                    id: ShardId(index as u16),
                    node: node.clone(),
                    registry,
                    realm: realm.clone(),
                    seed: HashSeed([1, 2]),
                    port,
                    executor: tasks.clone(),
                    clock: Clock::Simulated(clock.clone()),
                    random: Random::with_seed(index as u64),
                })
            })
            .collect();
        let mut readers = Vec::new();
        let (events, signals) = (
            Rc::<RefCell<Vec<String>>>::default(),
            Rc::<RefCell<Vec<String>>>::default(),
        );
        for shard in &shards {
            let mut shard = shard.borrow_mut();
            readers.push(shard.env.log.subscribe());
            let mut settings = (*shard.env.settings).clone();
            settings.notify_keyspace_events = [
                KeyspaceEvents::ALL,
                KeyspaceEvents::KEYSPACE,
                KeyspaceEvents::KEYEVENT,
                KeyspaceEvents::NEW,
                KeyspaceEvents::KEY_MISS,
            ]
            .into_iter()
            .fold(KeyspaceEvents::default(), KeyspaceEvents::union);
            shard.env.follow(Arc::new(settings));
            let (events, signals) = (events.clone(), signals.clone());
            shard.env.observer = Some(Box::new(move |observed| {
                let Some(consequences) = observed.consequences else {
                    return;
                };
                let text = |db: DbIndex, key: &[u8]| match db {
                    DbIndex(0) => String::from_utf8_lossy(key).into_owned(),
                    DbIndex(other) => format!("{}@{other}", String::from_utf8_lossy(key)),
                };
                let told = consequences.events.iter();
                events
                    .borrow_mut()
                    .extend(told.map(|event| format!("{} {}", event.event.name, text(event.db, &event.key))));
                signals
                    .borrow_mut()
                    .extend(consequences.signals.iter().map(|signal| match signal {
                        Signal::Ready(db, key) => format!("ready {}", text(*db, key)),
                        Signal::Gone(db, key) => format!("gone {}", text(*db, key)),
                        Signal::Flushed(db) => format!("flushed {}", db.0),
                        Signal::Swapped(a, b) => format!("swapped {} {}", a.0, b.0),
                    }));
            }));
        }
        assert!(shards[0].borrow_mut().connect(0, 0, "127.0.0.1:1", "127.0.0.1:2", true));
        Bench {
            shards,
            readers,
            events,
            signals,
            tasks,
        }
    }

    /// Runs a command of words without spaces; the reply with `|` for each line end.
    pub(super) fn run(&mut self, line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        String::from_utf8_lossy(&self.run_words(&words))
            .trim_end()
            .replace("\r\n", "|")
    }

    /// Runs a command of any words; the reply as it goes to the client.
    pub(super) fn run_words(&mut self, words: &[&[u8]]) -> Vec<u8> {
        let mut request = Vec::new();
        OwnedArgs::from_slices(words).as_args().encode_resp(&mut request);
        self.shards[0].borrow_mut().receive(0, &request);
        for _ in 0..16 {
            for shard in &self.shards {
                let mut shard = shard.borrow_mut();
                shard.drain_links();
                shard.link().flush(|_| {});
            }
            self.tasks.poll_all();
        }
        let mut first = self.shards[0].borrow_mut();
        let reply = first.clients.at(0).expect("the client is there").out.take();
        reply.to_contiguous().into_owned()
    }

    /// What a shard has logged since the last call, as words; without what frames it (MULTI, EXEC, SELECT).
    pub(super) fn logged(&mut self, shard: usize) -> Vec<String> {
        let mut shard_of_log = self.shards[shard].borrow_mut();
        let bytes = shard_of_log.env.log.read(self.readers[shard]).expect("it keeps up");
        let mut logged = Vec::new();
        let mut rest = &bytes[..];
        let line = |rest: &mut &[u8]| {
            let end = rest.iter().position(|&byte| byte == b'\r').expect("lines have ends");
            let number: usize = std::str::from_utf8(&rest[1..end]).unwrap().parse().unwrap();
            *rest = &rest[end + 2..];
            number
        };
        while !rest.is_empty() {
            let words: Vec<String> = (0..line(&mut rest))
                .map(|_| {
                    let length = line(&mut rest);
                    let (word, behind) = rest.split_at_checked(length).expect("a word is whole");
                    rest = &behind[2..];
                    String::from_utf8_lossy(word).into_owned()
                })
                .collect();
            if !["MULTI", "EXEC", "SELECT"].contains(&&*words[0]) {
                logged.push(words.join(" "));
            }
        }
        logged
    }

    /// The keyspace events since the last call, each with its key (and the db, if that is not 0).
    pub(super) fn events(&self) -> Vec<String> {
        std::mem::take(&mut self.events.borrow_mut())
    }

    /// What clients that wait for keys would have been told since the last call.
    pub(super) fn signals(&self) -> Vec<String> {
        std::mem::take(&mut self.signals.borrow_mut())
    }

    /// Runs one command after the other, and compares what each of them has led to.
    pub(super) fn expect(&mut self, steps: &[Step]) {
        for (line, effects, events, signals) in steps {
            let reply = self.run(line);
            // A unit is whole in one log, whichever shard it ran on.
            let logged: Vec<String> = (0..self.shards.len()).flat_map(|shard| self.logged(shard)).collect();
            let of = format!("{line} on {} shards, which answered {reply}", self.shards.len());
            assert_eq!(logged, *effects, "the effects of {of}");
            assert_eq!(self.events(), *events, "the events of {of}");
            assert_eq!(self.signals(), *signals, "the signals of {of}");
        }
    }

    /// The first of the keys `k0`, `k1`... that is at home on that shard.
    pub(super) fn key_of(&self, shard: usize) -> String {
        let first = self.shards[0].borrow();
        let is_there = |key: &String| first.core.owner(key_slot(key.as_bytes())).0 as usize == shard;
        (0..).map(|number| format!("k{number}")).find(is_there).unwrap()
    }

    /// Lets time go on for all shards.
    pub(super) fn pass(&self, ms: u64) {
        for shard in &self.shards {
            let mut shard = shard.borrow_mut();
            shard.env.now = UnixMs(shard.env.now.0 + ms);
        }
    }

    /// `keyspace_hits` and `keyspace_misses` of the first shard.
    pub(super) fn hits_and_misses(&self) -> (u64, u64) {
        let first = self.shards[0].borrow();
        (
            first.env.stats.counts.keyspace_hits,
            first.env.stats.counts.keyspace_misses,
        )
    }
}
