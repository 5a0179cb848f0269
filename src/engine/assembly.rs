//! Shards in one thread: how they are put together ([`Plan`]), and the plainest way to run commands on them ([`Assembly`]).
//!
//! A server makes its shards thread by thread; whoever wants to look at what they do (unit tests, benchmarks, comparisons with a real
//! server) wants any number of them in one thread, with real links between them and no sockets. What such shards have in common is said
//! here once; what differs (clocks, executors, memory accounts) is the caller's to give.
//!
//! In an [`Assembly`] time stands still until it is moved ([`Assembly::pass`]), one client is connected to the first shard, and
//! [`Assembly::run`] returns when its command has been answered. Tasks of the executor are polled between passes over the shards, so
//! that nothing ever really waits. Which commands there are is the registry's, as everywhere in the engine.

use super::aof::Aof;
use super::env::Observed;
use super::listening::Hearers;
use super::literal::Registry;
use super::local::{Executor, Local, LocalOptions};
use super::log::{LogSwitch, ReaderId};
use super::node::{Node, Surroundings};
use super::replication::Replication;
use super::snapshot::Snapshots;
use super::unblock;
use crate::base::clock::{Clock, Ms, SimulatedClock, UnixMs};
use crate::base::random::Random;
use crate::base::slot::{SLOT_COUNT, key_slot};
use crate::client::ClientTable;
use crate::config::{Config, Effect, Settings};
use crate::resp::OwnedArgs;
use crate::runtime::disk::{Disk, SimulatedDisk};
use crate::shard::turns::Turns;
use crate::shard::{Realm, ShardId, TicketSource, link};
use crate::stats::MemoryAccount;
use crate::store::{Cut, HashSeed, Occupancy};
use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// When an assembly begins.
pub const BEGIN: UnixMs = UnixMs(1_700_000_000_000);

/// All assemblies hash with it, so that what has no order has the same one in each.
const HASH_SEED: HashSeed = HashSeed([1, 2]);

/// Passes over all shards within which the command of one client has been answered, whatever it asks of other shards.
const PASSES_OF_A_COMMAND: usize = 16;

/// Shards as they are wanted.
pub struct Plan<'a> {
    pub registry: &'static Registry,
    pub shard_count: usize,
    /// Fewer slots than a server has make them meet more often.
    pub slot_count: u16,
    /// Parameters of the configuration that are not as by default.
    pub parameters: &'a [(String, String)],
    /// The size of each link.
    pub ring_bytes: usize,
    pub started_at: UnixMs,
    pub memory: MemoryAccount,
    pub disk: Arc<dyn Disk>,
}

/// What each shard brings with it.
pub struct Equipment {
    pub clock: Clock,
    pub random: Random,
    pub executor: Rc<dyn Executor>,
}

/// There is nothing around these shards that could be changed.
struct Nowhere;

impl Surroundings for Nowhere {
    fn apply(&self, _: Effect, _: &Settings) -> Result<(), String> {
        Ok(())
    }
    fn end_now(&self) -> ! {
        unreachable!("no script is busy where there are no sockets")
    }

    fn shut_down(&self) {}
}

impl Plan<'_> {
    /// So many shards of a server with its defaults.
    pub fn new(registry: &'static Registry, shard_count: usize) -> Plan<'static> {
        Plan {
            registry,
            shard_count,
            slot_count: SLOT_COUNT as u16,
            parameters: &[],
            ring_bytes: 64 * 1024,
            started_at: BEGIN,
            memory: MemoryAccount::new(shard_count),
            disk: SimulatedDisk::new(0),
        }
    }

    /// Puts them together, linked to each other. An error says what is wrong with the parameters.
    pub fn assemble(self, equip: impl Fn(usize) -> Equipment) -> Result<Vec<Rc<RefCell<Local>>>, String> {
        let mut arguments = Vec::new();
        for (name, value) in self.parameters {
            arguments.push(OsString::from(format!("--{name}")));
            arguments.push(OsString::from(value));
        }
        let config = Config::load_from(&arguments, &mut std::io::empty(), Path::new("/"));
        let config = config.map_err(|error| error.to_string())?;
        let cut = Arc::new(Cut::new(self.slot_count, self.memory.captured_bytes().clone()));
        let turns = Arc::new(Turns::new(self.shard_count));
        let snapshots = Snapshots::new(self.disk.clone(), cut.clone(), self.shard_count, self.started_at);
        let snapshots = Arc::new(snapshots);
        let log_switch = LogSwitch::default();
        let aof = Aof::new(
            self.disk,
            turns.clone(),
            snapshots.clone(),
            log_switch.clone(),
            config.settings(),
            true,
        );
        let node = Arc::new(Node {
            started_at: self.started_at,
            run_id: "0".repeat(40),
            shards: self.shard_count,
            clients: ClientTable::new(),
            command_count: self.registry.all().len(),
            config: Mutex::new(config),
            executable: String::new(),
            memory: self.memory,
            occupancy: Arc::new(Occupancy::new(SLOT_COUNT)),
            attention: Default::default(),
            cut,
            snapshots,
            aof: Arc::new(aof),
            log_switch,
            turns,
            hearers: Arc::new(Hearers::new(self.shard_count)),
            replication: Replication::new("1".repeat(40)),
            loading: Default::default(),
            busy_scripts: Default::default(),
            scripts: Default::default(),
            shutdown: Mutex::new(None),
            surroundings: Box::new(Nowhere),
        });
        let realm = Realm {
            shard_count: self.shard_count as u16,
            slot_count: self.slot_count,
            tickets: TicketSource::new(),
        };
        let ports = link::connect(self.shard_count as u16, self.ring_bytes);
        let shards = ports.into_iter().enumerate().map(|(index, port)| {
            let Equipment {
                clock,
                random,
                executor,
            } = equip(index);
            Local::new(LocalOptions {
                id: ShardId(index as u16),
                node: node.clone(),
                registry: self.registry,
                realm: realm.clone(),
                seed: HASH_SEED,
                port,
                executor,
                clock,
                random,
            })
        });
        Ok(shards.collect())
    }
}

type Spawned = Pin<Box<dyn Future<Output = ()>>>;

/// Tasks that are polled after each pass over the shards, until they are done. A sleep lasts one such pass.
#[derive(Default)]
pub struct Tasks(RefCell<Vec<Spawned>>);

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

    fn run_blocking(&self, work: Box<dyn FnOnce() + Send>) -> Spawned {
        Box::pin(async move { work() })
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

/// Lets out what a shard has produced, clients excepted. In one thread, each shard has its turn written before another one takes one.
fn release(shard: &mut Local) {
    if shard.take_turn().is_some() {
        assert!(
            shard.write_pass() && shard.may_release(),
            "nobody is in the middle of a pass"
        );
    }
    shard.release_frames(|_| {});
}

/// Shards at a time that stands still, with one client on the first of them.
pub struct Assembly {
    pub shards: Vec<Rc<RefCell<Local>>>,
    /// How many steps were made of commands that go in steps.
    pub steps: Cell<usize>,
    tasks: Rc<Tasks>,
    course_ns: Rc<Cell<u64>>,
}

impl Assembly {
    /// So many shards of a server with its defaults.
    pub fn new(registry: &'static Registry, shard_count: usize) -> Assembly {
        Assembly::of(Plan::new(registry, shard_count))
    }

    /// Shards as they are wanted.
    pub fn of(plan: Plan<'_>) -> Assembly {
        let tasks = Rc::new(Tasks::default());
        let course_ns = Rc::new(Cell::new(BEGIN.0 * 1_000_000));
        let shards = plan.assemble(|index| Equipment {
            clock: Clock::Simulated(SimulatedClock {
                elapsed_ns: course_ns.clone(),
                skew_ms: Rc::default(),
                step_ns: Rc::default(),
            }),
            random: Random::with_seed(index as u64),
            executor: tasks.clone(),
        });
        let shards = shards.expect("the parameters are valid");
        let is_taken = shards[0].borrow_mut().connect(0, 0, "127.0.0.1:1", "127.0.0.1:2", true);
        assert!(is_taken, "the first client is taken");
        Assembly {
            shards,
            steps: Cell::default(),
            tasks,
            course_ns,
        }
    }

    /// Runs a command; the reply as it goes to the client.
    pub fn run(&self, words: &[&[u8]]) -> Vec<u8> {
        let mut request = Vec::new();
        OwnedArgs::from_slices(words).as_args().encode_resp(&mut request);
        self.shards[0].borrow_mut().receive(0, &request);
        self.go_round();
        let mut first = self.shards[0].borrow_mut();
        let reply = first.clients.at(0).expect("the client is there").out.take();
        reply.to_contiguous().into_owned()
    }

    /// Passes over all shards until the command of a client has been answered, if it can be.
    pub fn go_round(&self) {
        for _ in 0..PASSES_OF_A_COMMAND {
            for shard in &self.shards {
                let mut shard = shard.borrow_mut();
                let stable = shard.stable_turn();
                shard.drain_links();
                shard.hear(stable);
                unblock::end_overdue(&mut shard);
                unblock::look_again(&mut shard);
                shard.post();
                while shard.step_held() {
                    self.steps.set(self.steps.get() + 1);
                }
                release(&mut shard);
            }
            self.tasks.poll_all();
        }
    }

    /// Tells somebody of every unit of work of a shard, in the order in which they take effect.
    pub fn observe(&self, shard: usize, observer: impl FnMut(&Observed<'_>) + 'static) {
        self.shards[shard].borrow_mut().env.observer = Some(Box::new(observer));
    }

    /// Polls the tasks of the shards' executor.
    pub fn poll_tasks(&self) {
        self.tasks.poll_all();
    }

    /// Attaches a reader to the log of a shard.
    pub fn subscribe(&self, shard: usize) -> ReaderId {
        self.shards[shard].borrow_mut().log().subscribe()
    }

    /// What the reader has not read of the log of its shard, without the SELECTs with which chunks begin.
    pub fn read_log(&self, shard: usize, reader: ReaderId) -> Vec<u8> {
        let mut shard = self.shards[shard].borrow_mut();
        let chunks = shard
            .log()
            .read(reader)
            .expect("whoever reads after each command keeps up");
        chunks.iter().flat_map(|chunk| &chunk.stream().bytes).copied().collect()
    }

    /// Lets time go on.
    pub fn pass(&self, time: Ms) {
        self.course_ns.set(self.course_ns.get() + time.0 * 1_000_000);
        for shard in &self.shards {
            shard.borrow_mut().env.begin_pass();
        }
    }

    /// Does the periodic work until nothing is left of it.
    pub fn work(&self) {
        for shard in &self.shards {
            let mut shard = shard.borrow_mut();
            for _ in 0..1000 {
                shard.cron();
                shard.background_step();
            }
            release(&mut shard);
        }
    }

    /// The shard that a key is at home on.
    pub fn home(&self, key: &str) -> usize {
        self.shards[0].borrow().core.owner(key_slot(key.as_bytes())).0 as usize
    }

    /// A key that is at home on that shard; another one for each `number`.
    pub fn key_on(&self, shard: usize, number: usize) -> String {
        let mut keys = (0..).map(|n| format!("k{n}")).filter(|key| self.home(key) == shard);
        keys.nth(number).expect("every shard has slots")
    }
}
