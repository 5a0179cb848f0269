//! The engine without its sockets: any number of shards in one thread, with real links between them, one course of time, and a
//! memory account for each.
//!
//! Each call of a shard goes through [`Engine::with`], which charges to that shard whatever the allocator gives out and gets back
//! meanwhile, so that eviction and the account of what a run leaves behind work as with a thread for each. What the testbed takes
//! for itself while a shard is at work (its notes, its sockets) is the [`uncharged`] part.
//!
//! The reference is the same thing with one shard and no links ([`Reference`]).

use super::Recovery;
use super::history::{Heard, Told, Written};
use super::reply;
use super::restarts::Estate;
use super::saves::{self, Uncharged};
use super::story::Story;
use super::syncs::{self, has_file};
use super::tasks::Tasks;
use crate::base::clock::{Clock, SimulatedClock, UnixMs};
use crate::base::random::Random;
use crate::base::slot::key_slot;
use crate::client::ClientTable;
use crate::data::ValueType;
use crate::data::access::Moment;
use crate::engine::assembly::{BEGIN, Equipment, Plan};
use crate::engine::attempt::Consequences;
use crate::engine::env::{Observation, Observed};
use crate::engine::local::Executor;
use crate::engine::log::{Chunk, LogFile};
use crate::engine::waiting::Unserved;
use crate::engine::{CommandId, KeyEvent, Local, LocalHandle, Message, Post, Registry};
use crate::persist::digest::{Digest, digest_value};
use crate::pubsub::Kind;
use crate::resp::{OwnedArgs, Proto};
use crate::runtime::disk::SimulatedDisk;
use crate::shard::turns::Turn;
use crate::shard::{ConnRef, ShardId};
use crate::stats::MemoryAccount;
use crate::store::DbIndex;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

/// A unit of work as a shard has reported it.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) shard: usize,
    pub(super) origin: ConnRef,
    pub(super) command: CommandId,
    pub(super) db: DbIndex,
    pub(super) now: UnixMs,
    /// What the common course of time was.
    pub(super) course_ns: u64,
    pub(super) what: What,
    /// What it has logged: commands, each with its db.
    pub(super) effects: Vec<(DbIndex, Vec<u8>)>,
    /// The events of it.
    pub(super) told: Vec<Told>,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    /// Keys were deleted because their time was over.
    Expired,
    Ran(Vec<Vec<u8>>),
    /// It waits, or waits on.
    Parked(Vec<Vec<u8>>),
    /// It has waited, and is answered with an error.
    Refused(Vec<Vec<u8>>),
    WaitEnded(Unserved),
    Watched(Vec<Vec<u8>>),
    Committed,
    Aborted,
    Evicted(Vec<u8>),
    /// The snapshot of that number has what there is now; the turn of what its pass had logged before.
    Cut {
        number: u64,
        early: Option<Turn>,
    },
}

/// See the essay above.
pub(super) struct Engine {
    pub(super) shards: Vec<Rc<RefCell<Local>>>,
    pub(super) tasks: Vec<Rc<Tasks>>,
    pub(super) course_ns: Rc<Cell<u64>>,
    pub(super) step_ns: Rc<Cell<u64>>,
    skews_ms: Vec<Rc<Cell<i64>>>,
    /// What has been reported and not been looked at yet.
    pub(super) records: Rc<RefCell<Vec<Record>>>,
    pub(super) clients: Arc<ClientTable>,
    /// The file of each shard, if they have any.
    tapes: Vec<Tape>,
    /// What is heard on each shard, if anybody listens there.
    pub(super) heard: Vec<Option<Heard>>,
    balances: Vec<isize>,
    /// Where snapshots are saved.
    pub(super) disk: Arc<SimulatedDisk>,
    /// What the reading of the data set has come to; None: it goes on.
    pub(super) loaded: Outcome,
}

/// The id of the first client.
const FIRST_ID: usize = 100;

type Outcome = Rc<RefCell<Option<Result<(), String>>>>;

/// The shards of a story. Both engines hash with the same secret, so that what has no order has the same one in both.
fn plan<'a>(
    story: &Story,
    registry: &'static Registry,
    shard_count: usize,
    ring_bytes: usize,
    parameters: &'a [(String, String)],
) -> Plan<'a> {
    Plan {
        slot_count: story.slot_count,
        parameters,
        ring_bytes,
        started_at: UnixMs(BEGIN.0 - 3_600_000),
        memory: MemoryAccount::closed(shard_count),
        ..Plan::new(registry, shard_count)
    }
}

impl Engine {
    pub(super) fn new(
        story: &Story,
        registry: &'static Registry,
        estate: &Estate,
        recovery: &dyn Recovery,
    ) -> Result<Engine, String> {
        let shard_count = story.shard_count;
        let course_ns = Rc::new(Cell::new(estate.course_ns));
        let step_ns = Rc::new(Cell::new(story.schedule.step_ns));
        let skews = story.schedule.skews_ms.iter();
        let skews_ms: Vec<_> = skews.map(|skew| Rc::new(Cell::new(*skew))).collect();
        let tasks: Vec<_> = (0..shard_count)
            .map(|_| Rc::new(Tasks::new(course_ns.clone())))
            .collect();
        let disk = estate.disk.clone();
        let mut parameters = story.parameters.clone();
        parameters.extend(saves::parameters(story));
        parameters.extend(syncs::parameters(story));
        parameters.extend(estate.parameters(story));
        let mut plan = plan(story, registry, shard_count, story.ring_bytes, &parameters);
        plan.disk = Arc::new(Uncharged(disk.clone()));
        let shards = plan.assemble(|index| Equipment {
            clock: Clock::Simulated(SimulatedClock {
                elapsed_ns: course_ns.clone(),
                skew_ms: skews_ms[index].clone(),
                step_ns: step_ns.clone(),
            }),
            random: Random::with_seed(story.schedule_seed ^ index as u64),
            executor: tasks[index].clone(),
        })?;
        let clients = shards[0].borrow().node.clients.clone();
        let mut engine = Engine {
            shards,
            tasks,
            skews_ms,
            records: Rc::default(),
            clients,
            tapes: Vec::new(),
            heard: vec![None; shard_count],
            balances: vec![0; shard_count],
            disk,
            course_ns,
            step_ns,
            loaded: Outcome::default(),
        };
        let tasks: Vec<_> = engine.tasks.iter().map(|tasks| &**tasks).collect();
        engine.use_up_ids();
        engine.loaded = begin_loading(recovery, &engine.shards, &tasks, estate.now())?;
        for (index, local) in engine.shards.iter().enumerate() {
            let mut local = local.borrow_mut();
            if story.features.has("logged") && !has_file(story) {
                let tape = Tape::default();
                local.log().attach_file(Box::new(tape.clone()));
                engine.tapes.push(tape);
            }
            if !local.env.is_loading {
                local.begin_logging();
            }
            if story.features.has("listening") && !has_file(story) && story.listens(index) {
                let heard = Heard::default();
                engine.heard[index] = Some(heard.clone());
                local.listen(Box::new(move |turn, messages| {
                    uncharged(|| heard.borrow_mut().push((turn, messages.iter().map(told).collect())));
                }));
            }
            local.env.observer = Some(observer(index, engine.records.clone(), engine.course_ns.clone()));
        }
        Ok(engine)
    }

    /// Has all ids of clients be as long as the word that stands for one which is not known yet.
    fn use_up_ids(&self) {
        for _ in 0..FIRST_ID - 1 {
            let nobody = ConnRef::background(ShardId(0));
            drop(self.clients.register(nobody, "", usize::MAX));
        }
    }

    /// Runs `f` over a shard, and charges its memory to it.
    pub(super) fn with<T>(&mut self, shard: usize, f: impl FnOnce(&mut Local) -> T) -> T {
        MemoryAccount::pose_as(self.balances[shard]);
        let answer = f(&mut self.shards[shard].borrow_mut());
        self.balances[shard] = MemoryAccount::own_balance_bytes();
        answer
    }

    /// The process dies: nothing that was under way goes on.
    pub(super) fn abandon(&self) {
        self.tasks.iter().for_each(|tasks| tasks.abandon());
    }

    /// Whether the data set is still read.
    pub(super) fn is_loading(&self) -> bool {
        self.shards[0].borrow().node.loading.is_loading()
    }

    /// What is stored, as of this time; None: some of it is on its way between shards.
    pub(super) fn picture(&self, now: UnixMs, slot_count: u16) -> Option<Picture> {
        let (mut picture, mut slots_seen) = (Picture::new(), 0);
        for shard in &self.shards {
            slots_seen += put_in(&mut picture, &shard.borrow(), now);
        }
        (slots_seen == usize::from(slot_count)).then_some(picture)
    }

    /// How many changes all shards have counted.
    pub(super) fn changes(&self) -> u64 {
        let shards = self.shards.iter();
        shards.map(|shard| shard.borrow().env.stats.counts.changes).sum()
    }

    /// What a shard has written since the last call.
    pub(super) fn written(&mut self, shard: usize) -> Option<Written> {
        self.tapes.get(shard)?.0.borrow_mut().written.pop()
    }

    /// The file of a shard refuses what is written next, or takes it; it loses it if that is broken.
    pub(super) fn set_disk(&mut self, shard: usize, refuses: bool, loses: bool) {
        if let Some(tape) = self.tapes.get(shard) {
            let mut tape = tape.0.borrow_mut();
            (tape.refuses, tape.loses) = (refuses, loses);
        }
    }

    /// Polls a task of a shard, and charges its memory to the shard.
    pub(super) fn poll(&mut self, shard: usize, number: usize) {
        MemoryAccount::pose_as(self.balances[shard]);
        self.tasks[shard].poll(number);
        self.balances[shard] = MemoryAccount::own_balance_bytes();
    }

    /// What all shards have taken since they were made.
    pub(super) fn taken_bytes(&self) -> isize {
        self.balances.iter().sum()
    }

    /// Has a shard take memory that nobody accounts for.
    pub(super) fn leak(&mut self, shard: usize, bytes: isize) {
        self.balances[shard] += bytes;
    }

    /// Sets a shard's calendar.
    pub(super) fn set_skew_ms(&self, shard: usize, skew_ms: i64) {
        self.skews_ms[shard].set(skew_ms);
    }
}

/// Begins to read what the disk of these shards has, in tasks of theirs; threads are tasks of the first.
fn begin_loading(
    recovery: &dyn Recovery,
    shards: &[Rc<RefCell<Local>>],
    tasks: &[&Tasks],
    now: UnixMs,
) -> Result<Outcome, String> {
    let outcome = Outcome::default();
    let (node, seed) = {
        let first = shards[0].borrow();
        (first.node.clone(), first.env.seed)
    };
    let Some(reading) = recovery.begin(&node, seed, now)? else {
        *outcome.borrow_mut() = Some(Ok(()));
        return Ok(outcome);
    };
    for (shard, tasks) in shards.iter().zip(tasks) {
        shard.borrow_mut().begin_loading();
        tasks.spawn((reading.attend)(LocalHandle(shard.clone())));
    }
    let (threads, told) = (reading.threads, outcome.clone());
    tasks[0].spawn(Box::pin(async move {
        let result = threads.await;
        *told.borrow_mut() = Some(result);
    }));
    Ok(outcome)
}

/// Puts into a picture what a shard has at this time; how many slots that were.
fn put_in(picture: &mut Picture, local: &Local, now: UnixMs) -> usize {
    let mut slots = 0;
    for (_, slot) in local.core.contents_here() {
        slots += 1;
        for db in slot.dbs() {
            slot.for_each(db, now, |entry| {
                picture.insert((db.0, entry.key().to_vec()), (entry.expiry(), digest_value(entry)));
            });
        }
    }
    slots
}

/// A file that keeps what was written to it.
#[derive(Clone, Debug, Default)]
struct Tape(Rc<RefCell<TapeState>>);

#[derive(Debug, Default)]
struct TapeState {
    written: Vec<Written>,
    refuses: bool,
    loses: bool,
}

impl LogFile for Tape {
    fn write(&mut self, chunk: &Chunk) -> bool {
        let mut tape = self.0.borrow_mut();
        if tape.refuses {
            return false;
        }
        if !tape.loses {
            uncharged(|| {
                let mut written = Written::default();
                chunk.file().encode(true, &mut written.file);
                chunk.stream().encode(chunk.turn.has_select, &mut written.stream);
                tape.written.push(written);
            });
        }
        true
    }
}

fn told(message: &Message) -> Told {
    match message {
        Message::Event(event, _) => told_event(event),
        Message::Post(post) => told_post(post),
        Message::Command(line) => ("command", DbIndex(0), line.as_bytes().to_vec()),
        Message::Invalidation(told) => ("invalidate", DbIndex(0), format!("{told:?}").into_bytes()),
    }
}

fn told_event(event: &KeyEvent) -> Told {
    (event.event.name, event.db, event.key.to_vec())
}

fn told_post(post: &Post) -> Told {
    let name = match post.kind {
        Kind::ShardChannel => "spublish",
        Kind::Channel | Kind::Pattern => "publish",
    };
    (name, DbIndex(0), [&post.channel[..], b" ", &post.payload].concat())
}

/// Events and what was published, in the order in which they were.
fn all_told(consequences: &Consequences) -> Vec<Told> {
    let mut told: Vec<Told> = Vec::new();
    let mut posts = consequences.posts.iter().peekable();
    for (index, event) in consequences.events.iter().enumerate() {
        while let Some((_, post)) = posts.next_if(|(behind, _)| *behind <= index) {
            told.push(told_post(post));
        }
        told.push(told_event(event));
    }
    told.extend(posts.map(|(_, post)| told_post(post)));
    told
}

/// Does something that is not the shard's affair while one is charged.
pub(super) fn uncharged<T>(f: impl FnOnce() -> T) -> T {
    let balance = MemoryAccount::own_balance_bytes();
    let answer = f();
    MemoryAccount::pose_as(balance);
    answer
}

fn observer(
    shard: usize,
    records: Rc<RefCell<Vec<Record>>>,
    course_ns: Rc<Cell<u64>>,
) -> Box<dyn FnMut(&Observed<'_>)> {
    let words = |args: &crate::resp::Args<'_>| args.iter().map(<[u8]>::to_vec).collect();
    Box::new(move |observed| {
        uncharged(|| {
            let what = match &observed.what {
                Observation::Ran(args) => What::Ran(words(args)),
                Observation::Parked(args) => What::Parked(words(args)),
                Observation::Refused(args) => What::Refused(words(args)),
                Observation::WaitEnded(how) => What::WaitEnded(*how),
                Observation::Watched(args) => What::Watched(words(args)),
                Observation::Committed => What::Committed,
                Observation::Aborted => What::Aborted,
                Observation::Evicted(key) => What::Evicted(key.to_vec()),
                Observation::Expired => What::Expired,
                Observation::Cut { number, early } => What::Cut {
                    number: *number,
                    early: early.clone(),
                },
            };
            let effects = observed.consequences.map_or_else(Vec::new, |consequences| {
                let effects = consequences.effects.iter();
                effects.map(|effect| (effect.db, effect.command.to_vec())).collect()
            });
            let told = observed.consequences.map_or_else(Vec::new, all_told);
            if matches!(what, What::Expired) && effects.is_empty() && told.is_empty() {
                return;
            }
            records.borrow_mut().push(Record {
                shard,
                origin: observed.origin,
                command: observed.command,
                db: observed.db,
                now: observed.now,
                course_ns: course_ns.get(),
                what,
                effects,
                told,
            });
        });
    })
}

/// Each key with its db, when it expires, and the fingerprint of its value.
pub(super) type Picture = BTreeMap<(u32, Vec<u8>), (Option<UnixMs>, Digest)>;

/// The sequential model: one shard, one request at a time, at the time that it is told.
pub(super) struct Reference {
    local: Rc<RefCell<Local>>,
    tasks: Rc<Tasks>,
}

impl Reference {
    /// One that has what is on the disk of a start.
    pub(super) fn new(
        story: &Story,
        registry: &'static Registry,
        estate: &Estate,
        recovery: &dyn Recovery,
    ) -> Result<Reference, String> {
        let course_ns = Rc::new(Cell::new(BEGIN.0 * 1_000_000));
        let tasks = Rc::new(Tasks::new(course_ns.clone()));
        let parameters = syncs::parameters_of_reference(story);
        let mut plan = plan(story, registry, 1, 1024, &parameters);
        plan.disk = estate.disk.fork(0);
        let shards = plan.assemble(|_| Equipment {
            clock: Clock::Simulated(SimulatedClock {
                elapsed_ns: course_ns.clone(),
                skew_ms: Rc::default(),
                step_ns: Rc::default(),
            }),
            random: Random::with_seed(0),
            executor: tasks.clone(),
        })?;
        let local = shards[0].clone();
        local.borrow_mut().env.now = estate.now();
        let loaded = begin_loading(recovery, &shards, &[&tasks], estate.now())?;
        while tasks.ready_count() > 0 {
            tasks.poll(0);
        }
        match loaded.take() {
            Some(Ok(())) => Ok(Reference { local, tasks }),
            Some(Err(error)) => Err(error),
            None => Err("the data set is read without end".to_owned()),
        }
    }

    /// Does what a shard has logged, at this time; the error is a reply that is one.
    pub(super) fn apply(&mut self, db: DbIndex, command: &[u8], now: UnixMs) -> Result<(), String> {
        let reply = self.feed(0, db, Proto::Resp2, now, command);
        match reply.first() {
            Some(b'-') => Err(String::from_utf8_lossy(&reply).into_owned()),
            _ => Ok(()),
        }
    }

    /// What is stored, as of this time.
    pub(super) fn picture(&self, now: UnixMs) -> Picture {
        let mut picture = Picture::new();
        put_in(&mut picture, &self.local.borrow(), now);
        picture
    }

    /// How many changes it has counted.
    pub(super) fn changes(&self) -> u64 {
        self.local.borrow().env.stats.counts.changes
    }

    /// Keys of hashes of which fields may be over at this time: when these go is nobody's promise.
    pub(super) fn fading(&self, now: UnixMs) -> BTreeSet<(u32, Vec<u8>)> {
        let mut fading = BTreeSet::new();
        for (_, slot) in self.local.borrow().core.contents_here() {
            for db in slot.dbs() {
                slot.for_each(db, UnixMs(0), |entry| {
                    if entry.field_expiry().is_some_and(|bound| bound <= now) {
                        fading.insert((db.0, entry.key().to_vec()));
                    }
                });
            }
        }
        fading
    }

    /// Runs a request for this client, at this time; the reply.
    pub(super) fn run(&mut self, client: u32, request: &Call<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        OwnedArgs::from_slices(request.words).as_args().encode_resp(&mut bytes);
        self.feed(client, request.db, request.proto, request.now, &bytes)
    }

    /// The same for one that is not to wait, as none does within a transaction.
    pub(super) fn run_at_once(&mut self, client: u32, request: &Call<'_>) -> Vec<u8> {
        let mut run = |words: &[Vec<u8>]| self.run(client, &Call { words, ..*request });
        run(&[b"MULTI".to_vec()]);
        run(request.words);
        let all = run(&[b"EXEC".to_vec()]);
        match reply::elements(&all).as_deref() {
            Some(&[one]) => one.to_vec(),
            _ => all,
        }
    }

    fn feed(&mut self, client: u32, db: DbIndex, proto: Proto, now: UnixMs, bytes: &[u8]) -> Vec<u8> {
        let mut local = self.local.borrow_mut();
        if local.clients.at(client).is_none() {
            assert!(local.connect(client, 0, "127.0.0.1:1", "127.0.0.1:2", true));
        }
        // The time is set, not read: units on other slots may be at an earlier one, as calendars differ.
        local.env.now = now;
        let there = local.clients.at(client).expect("it was connected");
        (there.session.db, there.session.proto) = (db.0, proto);
        local.receive(client, bytes);
        // Here nothing can come between the steps of a command.
        while local.step_held() {}
        drop(local);
        while self.tasks.ready_count() > 0 {
            self.tasks.poll(0);
        }
        let mut local = self.local.borrow_mut();
        let there = local.clients.at(client).expect("nothing ends it");
        let reply = there.out.take();
        while local.clients.next_listed().is_some() {}
        reply.to_contiguous().into_owned()
    }

    /// Forgets what a client watches.
    pub(super) fn unwatch(&mut self, client: u32) {
        let mut local = self.local.borrow_mut();
        if let Some(mut there) = local.clients.take(client) {
            there.transaction = None;
            local.unwatch(&mut there);
            local.clients.put_back(there);
        }
    }

    /// What type a key has at this time, if it is there.
    pub(super) fn type_of(&mut self, db: DbIndex, key: &[u8], now: UnixMs) -> Option<ValueType> {
        let mut local = self.local.borrow_mut();
        let (slot, nobody) = (key_slot(key), ConnRef::background(ShardId(0)));
        let mut view = local.core.try_view(&[slot], nobody).expect("nothing is ever lent here");
        let slot = view.slot(slot).expect("the view was given this slot");
        slot.peek(db, key, now).map(|entry| entry.type_of())
    }

    /// Removes a key, as eviction does.
    pub(super) fn remove(&mut self, slot: u16, db: DbIndex, key: &[u8], now: UnixMs) -> bool {
        let mut local = self.local.borrow_mut();
        let nobody = ConnRef::background(ShardId(0));
        let mut view = local.core.try_view(&[slot], nobody).expect("nothing is ever lent here");
        let slot = view.slot(slot).expect("the view was given this slot");
        slot.remove(db, key, Moment::lru(now))
    }
}

/// A request to the reference.
pub(super) struct Call<'a> {
    pub(super) words: &'a [Vec<u8>],
    pub(super) db: DbIndex,
    pub(super) proto: Proto,
    pub(super) now: UnixMs,
}
