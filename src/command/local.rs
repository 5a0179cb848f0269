//! Everything that one shard's thread owns, sockets excepted.
//!
//! [`Local`] brings the shard's slots, its clients, its ends of the links and its statistics together. Whoever owns the
//! sockets feeds it ([`Local::receive`], [`Local::drain_links`]) and empties it ([`Local::next_listed`]); so does the
//! in-process test bench, with no socket at all.
//!
//! Other shards' state is reached in one way only: by a *visit*, a closure that travels by the link and runs over the
//! other [`Local`]. Its answer comes back the same way. A visit never waits for slots, so a unit of work may hold slots
//! while it asks.
//!
//! Handlers that wait live outside of this value, as tasks of the shard's executor; they reach it through a
//! [`LocalHandle`] and never keep it borrowed while they wait (invariant).

use super::cron::Cron;
use super::effects::Effects;
use super::evict::Eviction;
use super::foresight::Foreseen;
use super::pass::Passes;
use super::task::{Task, TaskKind};
use super::under_way::UnderWay;
use super::{CommandId, Registered, Registry};
use crate::base::clock::{Calendar, Clock, Ticks, UnixMs};
use crate::base::random::Random;
use crate::client::{Client, ClientTable, ReplyResizing, Session, Stall};
use crate::config::{ClientClass, Config, Settings};
use crate::data::Limits;
use crate::data::access::{AccessPolicy, Moment};
use crate::persist::value::Making;
use crate::resp::{Args, OwnedArgs, ReplyBuf, Span};
use crate::shard::link::{CommandHeader, Frame, Inbound, Outbound, Port, ReplyHeader, Take};
use crate::shard::{ConnRef, Footprint, Message, Outbox, Realm, Shard, ShardId, Unit};
use crate::spec::Flags;
use crate::stats::{MemoryAccount, SlowEntry, Stats};
use crate::store::{DbIndex, Detached, HashSeed, Occupancy, Slot, SlotCommon};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

/// The process-wide facts, and the few things that are changed from any shard.
pub struct Node {
    pub started_at: UnixMs,
    /// 40 hex digits, new for each process.
    pub run_id: String,
    /// 40 hex digits: the history of the data set.
    pub replid: String,
    pub shards: usize,
    pub clients: Arc<ClientTable>,
    pub registry: &'static Registry,
    /// The configuration as it is now; each shard has the typed settings of it (see [`Env::settings`]).
    pub config: Mutex<Config>,
    pub executable: String,
    /// The most memory ever used, as far as anyone looked, and what was used before the first client came.
    pub memory_peak: AtomicUsize,
    pub memory_at_start: AtomicUsize,
    /// What is used now, as every shard knows it.
    pub memory: MemoryAccount,
    /// Which slots may have keys: what SCAN passes over without holding it.
    pub occupancy: Arc<Occupancy>,
    /// Set when the process is to end; whoever runs the process looks at it.
    pub shutdown: Mutex<Option<Shutdown>>,
    /// What the surroundings do for commands that change them (listeners, log file, limits).
    pub surroundings: Box<dyn Surroundings>,
}

/// How the process is to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shutdown {
    pub nosave: bool,
    pub save: bool,
    pub now: bool,
    pub force: bool,
}

/// What commands ask of the process around the shards.
pub trait Surroundings: Send + Sync {
    /// Gives effect to a changed parameter that reaches beyond the shards (ports, log file, process title...). The error
    /// is the reason that CONFIG SET answers.
    fn apply(&self, parameter: &str, settings: &Settings) -> Result<(), String>;
    /// Ends the process's service: called once [`Node::shutdown`] is set.
    fn shut_down(&self);
}

impl Node {
    pub fn lock_config(&self) -> std::sync::MutexGuard<'_, Config> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `CLIENT PAUSE`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pause {
    pub until: UnixMs,
    pub writes_only: bool,
}

/// What a running command may know and count besides its keys.
pub struct Env {
    pub shard: ShardId,
    pub shards: usize,
    pub node: Arc<Node>,
    pub registry: &'static Registry,
    /// Replaced by [`Env::follow`] only.
    pub settings: Arc<Settings>,
    /// The thresholds of packed values, as `settings` has them.
    pub limits: Limits,
    /// The secret of the hashes: the keyspace's, and that of every table in a value.
    pub seed: HashSeed,
    pub stats: Stats,
    pub random: Random,
    /// Deleted values and tables that are freed in the background.
    pub garbage: Garbage,
    pub pause: Option<Pause>,
    /// `DEBUG SET-ACTIVE-EXPIRE`.
    pub expires_actively: bool,
    pub clock: Clock,
    calendar: Calendar,
    /// The hard limit of `client-output-buffer-limit` for those who send commands: of what is beyond it nobody will see anything.
    pub reply_bytes_max: usize,
    /// `DEBUG PAUSE-CRON`.
    pub is_cron_paused: bool,
    pub reply_resizing: ReplyResizing,
    /// When the last command ended, which is when the next one begins.
    pub ticks: Ticks,
    /// The time of the unit of work that runs. It never goes back, and is a millisecond old at most when the unit begins
    /// ([`Env::begin_unit`]).
    pub now: UnixMs,
    /// When the millisecond of `now` is over.
    now_until: Ticks,
    /// Told of every unit of work in the order in which they take effect, where somebody checks that order.
    pub observer: Option<Observer>,
    pub(super) effects: Effects,
}

/// Who is told of units of work as they take effect.
pub type Observer = Box<dyn FnMut(&Observed<'_>)>;

/// One unit of work, at the moment at which it takes effect.
#[derive(Debug)]
pub struct Observed<'a> {
    pub origin: ConnRef,
    /// Of the command that the client sent; nothing but 0 where none did.
    pub command: CommandId,
    /// The db that its client had selected, or that of the key.
    pub db: DbIndex,
    pub now: UnixMs,
    pub what: Observation<'a>,
}

/// What such a unit did.
#[derive(Debug)]
pub enum Observation<'a> {
    /// A command over keys ran, alone.
    Ran(Args<'a>),
    /// These keys are watched from now on.
    Watched(Args<'a>),
    /// A transaction ran to its end.
    Committed,
    /// A watched key had changed: the transaction did nothing.
    Aborted,
    /// A key was evicted.
    Evicted(&'a [u8]),
}

/// Values and tables that wait to be freed.
#[derive(Default)]
pub struct Garbage {
    tables: VecDeque<Detached>,
}

impl Garbage {
    pub fn absorb(&mut self, detached: Detached) {
        if !detached.is_empty() {
            self.tables.push_back(detached);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// How many keys wait (`lazyfree_pending_objects`).
    pub fn pending_count(&self) -> usize {
        self.tables.iter().map(Detached::entry_count).sum()
    }

    /// Frees about `count` elements. Returns how many entries have gone by it.
    pub fn free_step(&mut self, count: usize) -> usize {
        let Some(table) = self.tables.front_mut() else { return 0 };
        let before = table.entry_count();
        let is_gone = table.free_step(count);
        let freed = before - table.entry_count();
        if is_gone {
            self.tables.pop_front();
        }
        freed
    }
}

impl Env {
    /// Works by other settings from now on.
    pub fn follow(&mut self, settings: Arc<Settings>) {
        self.stats.follow(&settings);
        // No parameter, but `DEBUG QUICKLIST-PACKED-THRESHOLD`.
        self.limits = limits_of(&settings, self.limits.list_packed_threshold);
        self.reply_bytes_max = reply_bytes_max(&settings);
        self.settings = settings;
    }

    /// The time of the unit of work that runs now, and how it counts accesses.
    #[inline]
    pub fn moment(&self) -> Moment {
        Moment {
            now: self.now,
            policy: self.access_policy(),
            keeps_stale: self.is_paused(),
        }
    }

    /// Whether `CLIENT PAUSE` lasts: nothing expires then, and nothing is evicted.
    #[inline]
    pub fn is_paused(&self) -> bool {
        self.pause.is_some_and(|pause| pause.until > self.now)
    }

    #[inline]
    fn access_policy(&self) -> AccessPolicy {
        self.stats.access_policy
    }

    /// What values are made by that come from outside.
    pub fn making(&self) -> Making<'_> {
        Making {
            limits: &self.limits,
            seed: self.seed,
        }
    }

    /// Reads the clock at the end of a command; the next one is counted from here.
    #[inline]
    pub fn tick(&mut self) -> Ticks {
        self.ticks = self.clock.ticks();
        self.ticks
    }

    /// Reads both clocks.
    pub(super) fn begin_pass(&mut self) {
        let ticks = self.tick();
        self.calendar.follow(self.clock.unix(), ticks);
        self.move_on();
    }

    /// Brings the time up to when the last command ended. To be called before each unit of work; within one, time stands still.
    #[inline]
    pub fn begin_unit(&mut self) {
        if self.ticks >= self.now_until {
            self.move_on();
        }
    }

    #[cold]
    fn move_on(&mut self) {
        self.now = self.now.max(self.calendar.at(self.ticks));
        self.now_until = self.calendar.next_ms_at(self.ticks);
    }

    /// Another shard has got that far: what it knows of must not be in this one's future.
    pub(super) fn hear(&mut self, now: UnixMs) {
        self.now = self.now.max(now);
    }

    /// Tells who checks it of a unit of work that has just taken effect.
    #[inline]
    pub fn observe(&mut self, origin: ConnRef, command: CommandId, db: DbIndex, what: Observation<'_>) {
        if let Some(observer) = &mut self.observer {
            observer(&Observed {
                origin,
                command,
                db,
                now: self.now,
                what,
            });
        }
    }

    /// Puts a command that took long into the slow log, and among the events of the latency monitor.
    #[inline]
    pub fn note_slow(&mut self, found: &Registered, args: Args, elapsed_us: u64) {
        let limit = self.stats.slow_limit_us;
        if self.stats.latency.is_noted(elapsed_us / 1000) {
            let is_fast = found.command.flags.contains(Flags::FAST);
            let event = if is_fast { "fast-command" } else { "command" };
            self.stats.latency.note(event, elapsed_us / 1000, self.now);
        }
        if limit >= 0 && elapsed_us as i64 >= limit && !found.command.flags.contains(Flags::SKIP_SLOWLOG) {
            let secrets = found
                .command
                .secrets_of
                .map_or_else(Vec::new, |secrets_of| secrets_of(&args.iter().collect::<Vec<_>>()));
            self.stats.note_slow(args, &secrets, elapsed_us, self.now);
        }
    }
}

/// How long a client's output may be at all; no limit is the whole address space.
fn reply_bytes_max(settings: &Settings) -> usize {
    match settings.client_output_buffer_limit.of(ClientClass::Normal).hard_bytes {
        0 => usize::MAX,
        bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
    }
}

/// The thresholds of packed values. What is beyond the address space is no limit at all.
fn limits_of(settings: &Settings, list_packed_threshold: usize) -> Limits {
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Limits {
        hash_max_listpack_entries: count(settings.hash_max_listpack_entries),
        hash_max_listpack_value: count(settings.hash_max_listpack_value),
        set_max_intset_entries: count(settings.set_max_intset_entries),
        set_max_listpack_entries: count(settings.set_max_listpack_entries),
        set_max_listpack_value: count(settings.set_max_listpack_value),
        zset_max_listpack_entries: count(settings.zset_max_listpack_entries),
        zset_max_listpack_value: count(settings.zset_max_listpack_value),
        list_max_listpack_size: i64::from(settings.list_max_listpack_size),
        list_compress_depth: settings.list_compress_depth as usize,
        list_packed_threshold,
        stream_node_max_bytes: count(settings.stream_node_max_bytes),
        stream_node_max_entries: count(settings.stream_node_max_entries),
        hll_sparse_max_bytes: count(settings.hll_sparse_max_bytes),
    }
}

/// What travels by the links besides small commands and replies.
pub enum Envelope {
    Shard(Message<Slot, Box<Task>>),
    Visit(Box<dyn FnOnce(&mut Local) + Send>),
    /// A command that is too large to be copied into the link.
    Command(Box<(CommandHeader, OwnedArgs)>),
    /// A connection that another shard has accepted.
    Adopt(OwnedFd),
    /// Slow commands of one of the receiver's clients were run at the sender.
    Slow {
        place: ConnRef,
        entries: Vec<SlowEntry>,
    },
}

/// One shard's thread, sockets excepted.
pub struct Local {
    pub env: Env,
    pub core: Shard<Slot, Box<Task>>,
    pub clients: Clients,
    pub(super) outbound: Outbound<Envelope>,
    pub inbound: Option<Inbound<Envelope>>,
    /// Sockets that came from other shards, for whoever owns the sockets.
    pub adopted: Vec<OwnedFd>,
    pub(super) outbox: Outbox<Slot, Box<Task>>,
    /// Clients that have output to send, or requests to start.
    pub(super) listed: Vec<u32>,
    /// Clients that wait for the end of CLIENT PAUSE.
    pub(super) paused: Vec<ConnRef>,
    /// Clients that wait for room in a link.
    pub(super) waiting_for_room: Vec<ConnRef>,
    /// Commands that write, of clients of this shard, that are under way: on other shards, or waiting for slots. A client that has
    /// gone leaves them to run.
    pub(super) writes_under_way: usize,
    pub(super) passes: Passes,
    pub(super) under_way: UnderWay,
    /// What the periodic work remembers.
    pub(super) cron: Cron,
    pub(super) eviction: Eviction,
    pub(super) spans: Vec<Span>,
    pub(super) scratch: ReplyBuf,
    pub(super) foreseen: Foreseen,
    pub(super) handle: Weak<RefCell<Local>>,
    pub(super) executor: Rc<dyn Executor>,
}

/// The shard's executor, as handlers that wait need it.
pub trait Executor {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()>>>);
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()>>>;
}

/// How tasks of the shard's executor reach its [`Local`].
#[derive(Clone)]
pub struct LocalHandle(pub Rc<RefCell<Local>>);

/// The shard's clients, by the index of their connection.
#[derive(Default)]
pub struct Clients {
    places: Vec<Option<Box<Client>>>,
    count: usize,
}

impl Clients {
    #[inline]
    pub fn at(&mut self, index: u32) -> Option<&mut Box<Client>> {
        self.places.get_mut(index as usize)?.as_mut()
    }

    /// The client of that connection, if it is still there.
    #[inline]
    pub fn get(&mut self, place: ConnRef) -> Option<&mut Box<Client>> {
        self.at(place.index).filter(|client| client.place == place)
    }

    #[inline]
    pub(super) fn take(&mut self, index: u32) -> Option<Box<Client>> {
        self.places.get_mut(index as usize)?.take()
    }

    #[inline]
    pub(super) fn put_back(&mut self, client: Box<Client>) {
        let index = client.place.index as usize;
        self.places[index] = Some(client);
    }

    pub fn iter(&self) -> impl Iterator<Item = &Client> {
        self.places.iter().flatten().map(|client| &**client)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Client> {
        self.places.iter_mut().flatten().map(|client| &mut **client)
    }

    pub fn len(&self) -> usize {
        self.count
    }

    /// The first index that no client has.
    pub(super) fn index_end(&self) -> u32 {
        self.places.len() as u32
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// [`ReplyHeader::flags`]: the command was one that writes.
pub(super) const REPLY_TO_WRITE: u16 = 1;

/// What a shard is made of when it starts.
pub struct LocalOptions {
    pub id: ShardId,
    pub node: Arc<Node>,
    pub realm: Realm,
    pub seed: HashSeed,
    pub port: Port<Envelope>,
    pub executor: Rc<dyn Executor>,
    pub clock: Clock,
    pub random: Random,
}

/// What arrives by the links of a shard, on its way to it.
struct Intake<'a>(&'a mut Local);

impl Take<Envelope> for Intake<'_> {
    #[inline]
    fn foresee(&mut self, header: &CommandHeader, arguments: &[u8]) {
        self.0.foresee_shipped(header, arguments);
    }

    #[inline]
    fn take(&mut self, from: ShardId, frame: Frame<'_, Envelope>) {
        match frame {
            Frame::Command { header, arguments } => {
                self.0.foresee_collected();
                self.0.run_shipped(from, header, arguments);
            }
            Frame::Reply { header, resp } => self.0.answer_shipped(header, resp),
            Frame::Message(envelope) => self.0.open(from, envelope),
            Frame::Clock(now) => self.0.env.hear(now),
        }
    }
}

impl Local {
    /// A shard with its share of empty slots.
    pub fn new(options: LocalOptions) -> Rc<RefCell<Local>> {
        let LocalOptions {
            id,
            node,
            realm,
            seed,
            port,
            executor,
            clock,
            random,
        } = options;
        let settings = Arc::new(node.lock_config().settings().clone());
        let common = Arc::new(SlotCommon {
            seed,
            occupancy: Some(node.occupancy.clone()),
        });
        let registry = node.registry;
        let mut stats = Stats::new(registry.all().len());
        stats.follow(&settings);
        let mut env = Env {
            shard: id,
            shards: node.shards,
            registry,
            limits: limits_of(&settings, Limits::default().list_packed_threshold),
            reply_bytes_max: reply_bytes_max(&settings),
            is_cron_paused: false,
            reply_resizing: ReplyResizing::DEFAULT,
            settings,
            seed,
            stats,
            random,
            garbage: Garbage::default(),
            pause: None,
            expires_actively: true,
            clock,
            calendar: Calendar::default(),
            ticks: Ticks::default(),
            now: UnixMs::EPOCH,
            now_until: Ticks::default(),
            observer: None,
            effects: Effects::default(),
            node,
        };
        env.begin_pass();
        let core = Shard::new(id, &realm, |index| Box::new(Slot::sharing(index, common.clone())));
        Rc::new_cyclic(|handle| {
            RefCell::new(Local {
                env,
                core,
                clients: Clients::default(),
                outbound: port.outbound,
                inbound: Some(port.inbound),
                adopted: Vec::new(),
                outbox: Outbox::new(),
                listed: Vec::new(),
                paused: Vec::new(),
                waiting_for_room: Vec::new(),
                writes_under_way: 0,
                passes: Passes::default(),
                under_way: UnderWay::default(),
                cron: Cron::default(),
                eviction: Eviction::default(),
                spans: Vec::new(),
                scratch: ReplyBuf::default(),
                foreseen: Foreseen::default(),
                handle: handle.clone(),
                executor,
            })
        })
    }

    pub fn id(&self) -> ShardId {
        self.env.shard
    }

    /// A handle for tasks of this shard's executor.
    pub fn handle(&self) -> LocalHandle {
        LocalHandle(self.handle.upgrade().expect("a shard outlives what runs on it"))
    }

    pub fn executor(&self) -> Rc<dyn Executor> {
        self.executor.clone()
    }

    /// This shard's ends of the links: what is sent now is sent at the time of the unit of work that runs.
    #[inline]
    pub fn link(&mut self) -> &mut Outbound<Envelope> {
        self.outbound.now = self.env.now;
        &mut self.outbound
    }

    /// Enters a new client. The error is what it is told before it is disconnected.
    pub fn connect(&mut self, index: u32, generation: u32, address: &str, local_address: &str, is_local: bool) -> bool {
        let place = ConnRef {
            shard: self.env.shard,
            index,
            generation,
        };
        let maxclients = self.env.settings.maxclients as usize;
        let Some(registration) = self.env.node.clients.clone().register(place, maxclients) else {
            self.env.stats.rejected_connections += 1;
            return false;
        };
        let mut session = Session::new(registration.id(), address, local_address, is_local);
        session.is_authenticated = self.env.settings.requirepass.is_empty();
        let client = Client::new(session, place, registration, self.env.now);
        if self.clients.places.len() <= index as usize {
            self.clients.places.resize_with(index as usize + 1, || None);
        }
        self.clients.places[index as usize] = Some(Box::new(client));
        self.clients.count += 1;
        self.env.stats.connections_received += 1;
        true
    }

    /// Forgets a client whose connection has ended.
    pub fn disconnect(&mut self, index: u32) {
        if let Some(mut client) = self.clients.take(index) {
            self.clients.count -= 1;
            self.under_way.forget(&mut client);
            self.unwatch(&mut client);
            self.post();
        }
    }

    /// Puts a client on the list of those that have something to send or to start.
    pub fn list(&mut self, index: u32) {
        if let Some(client) = self.clients.at(index)
            && !client.is_listed
        {
            client.is_listed = true;
            self.listed.push(index);
        }
    }

    /// The next listed client, off the list. Its owner sends its output; [`Local::resume`] has been called for it.
    pub fn next_listed(&mut self) -> Option<u32> {
        let index = self.listed.pop()?;
        if let Some(client) = self.clients.at(index) {
            client.is_listed = false;
            // Who is to end at once runs nothing more.
            let may_go_on = client.stall == Stall::Not && !client.is_killed;
            if may_go_on && std::mem::take(&mut client.has_waiting_requests) {
                self.resume(index);
                if let Some(client) = self.clients.at(index) {
                    client.is_listed = false;
                }
            }
        }
        Some(index)
    }

    pub fn has_listed(&self) -> bool {
        !self.listed.is_empty()
    }

    /// Starts a unit of work that no client waits for.
    pub fn start_in_background(&mut self, kind: TaskKind, footprint: Footprint) {
        let unit = Unit {
            work: Box::new(Task::in_background(self.env.shard, kind)),
            footprint,
            origin: ConnRef::background(self.env.shard),
            ticket: None,
        };
        self.core.dispatch(unit, &mut self.env, &mut self.outbox);
        self.post_messages();
    }

    /// Sends what the shard wants sent, and hands out what it has finished.
    pub(super) fn post(&mut self) {
        while !self.outbox.is_empty() {
            self.post_messages();
            for (ticket, origin) in std::mem::take(&mut self.outbox.held) {
                self.continue_transaction(ticket, origin);
            }
            for (origin, task) in std::mem::take(&mut self.outbox.finished) {
                self.finish(origin, *task);
            }
        }
    }

    /// Puts the shard's messages onto the links, behind what went there before. To be called before anything else is sent: there is
    /// one way onto a link, and what is sent first arrives first.
    #[inline]
    pub(super) fn post_messages(&mut self) {
        if !self.outbox.messages.is_empty() {
            self.outbound.now = self.env.now;
            for (to, message) in self.outbox.messages.drain(..) {
                self.outbound.message(to, Envelope::Shard(message));
            }
        }
    }

    /// Handles all that has come from other shards. Returns how much that was.
    pub fn drain_links(&mut self) -> usize {
        let mut inbound = self.inbound.take().expect("links are drained by one caller at a time");
        let count = inbound.drain_into(Intake(self));
        self.foreseen.clear();
        self.outbound.owe_wakes(inbound.relieved());
        self.inbound = Some(inbound);
        count
    }

    /// Says that this shard is about to sleep; false when something has come in the meantime.
    pub fn announce_sleep(&mut self) -> bool {
        if !self.inbound.as_mut().is_some_and(Inbound::announce_sleep) {
            return false;
        }
        let may_sleep = self.outbound.announce_starving();
        if !may_sleep {
            self.awake();
        }
        may_sleep
    }

    /// Says that this shard is awake.
    pub fn awake(&mut self) {
        if let Some(inbound) = &mut self.inbound {
            inbound.awake();
        }
    }

    pub(super) fn open(&mut self, from: ShardId, envelope: Envelope) {
        match envelope {
            Envelope::Shard(message) => {
                self.core.handle(from, message, &mut self.env, &mut self.outbox);
                self.post();
            }
            Envelope::Visit(visit) => {
                self.env.begin_unit();
                visit(self);
                self.env.tick();
            }
            Envelope::Command(command) => self.run_shipped_whole(from, command.0, command.1),
            Envelope::Adopt(socket) => self.adopted.push(socket),
            Envelope::Slow { place, entries } => self.log_slow(place, entries),
        }
    }

    /// Writes slow commands of a client of this shard into the slow log.
    pub(super) fn log_slow(&mut self, place: ConnRef, entries: Vec<SlowEntry>) {
        let client = self.clients.get(place);
        let who = client.map(|client| (client.session.address.clone(), client.session.name.clone()));
        for mut entry in entries {
            if let Some((address, name)) = &who {
                entry.set_client(address, name);
            }
            self.env.stats.slow_log.push(entry);
        }
    }

    fn answer_shipped(&mut self, header: ReplyHeader, resp: &[u8]) {
        self.end_write(header.flags & REPLY_TO_WRITE != 0);
        let place = ConnRef {
            shard: self.env.shard,
            index: header.connection,
            generation: header.generation,
        };
        let Some(client) = self.clients.get(place) else { return };
        let Client { pending, out, .. } = &mut **client;
        pending.answer(header.sequence, out, |buffer| buffer.push(resp));
        self.under_way.count_output(client);
        self.answered(place.index);
    }

    /// A command of this client was answered: what waited for that may start.
    pub(super) fn answered(&mut self, index: u32) {
        let Some(client) = self.clients.at(index) else { return };
        let may_go_on = match client.stall {
            Stall::Barrier | Stall::Underway => client.pending.is_empty(),
            Stall::Full => client.pending.is_half_free(),
            // They wait for something else.
            Stall::Paused | Stall::Link | Stall::Not => false,
        };
        if may_go_on {
            client.stall = Stall::Not;
        }
        self.list(index);
    }

    /// A command that was under way has been run.
    pub(super) fn end_write(&mut self, was_write: bool) {
        if was_write {
            self.writes_under_way -= 1;
        }
    }

    /// Asks another shard; the answer comes when that shard has drained its links.
    pub fn ask<T: Send + 'static>(
        &mut self,
        shard: ShardId,
        question: impl FnOnce(&mut Local) -> T + Send + 'static,
    ) -> Answer<T> {
        let slot = Rc::new(AnswerSlot::default());
        if shard == self.env.shard {
            // A question to oneself is answered at once: the asker holds the borrow.
            slot.value.set(Some(Box::new(question(self))));
            return Answer {
                slot,
                kind: std::marker::PhantomData,
            };
        }
        let key = self.expect_answer(slot.clone());
        let asker = self.env.shard;
        let visit = Box::new(move |there: &mut Local| {
            let value: Box<dyn Any + Send> = Box::new(question(there));
            let deliver = Box::new(move |here: &mut Local| here.deliver(key, value));
            there.link().message(asker, Envelope::Visit(deliver));
        });
        self.link().message(shard, Envelope::Visit(visit));
        Answer {
            slot,
            kind: std::marker::PhantomData,
        }
    }

    fn expect_answer(&mut self, slot: Rc<AnswerSlot>) -> usize {
        EXPECTED.with(|expected| expected.borrow_mut().insert(slot))
    }

    fn deliver(&mut self, key: usize, value: Box<dyn Any + Send>) {
        let slot = EXPECTED.with(|expected| expected.borrow_mut().remove(key));
        slot.value.set(Some(value));
        if let Some(waker) = slot.waker.take() {
            waker.wake();
        }
    }
}

thread_local! {
    /// Where answers of other shards are put. A thread's own, like everything a shard owns; it is not a field of
    /// [`Local`] because an [`AnswerSlot`] is not `Send` and a visit's closure names it by its key.
    static EXPECTED: RefCell<slab::Slab<Rc<AnswerSlot>>> = const { RefCell::new(slab::Slab::new()) };
}

#[derive(Default)]
struct AnswerSlot {
    value: Cell<Option<Box<dyn Any + Send>>>,
    waker: Cell<Option<Waker>>,
}

/// The answer to [`Local::ask`], to be awaited without the [`Local`] borrowed.
pub struct Answer<T> {
    slot: Rc<AnswerSlot>,
    kind: std::marker::PhantomData<T>,
}

impl<T: 'static> Future for Answer<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<T> {
        match self.slot.value.take() {
            Some(value) => {
                let value = value
                    .downcast::<T>()
                    .expect("an answer has the type that its question returns");
                Poll::Ready(*value)
            }
            None => {
                self.slot.waker.set(Some(context.waker().clone()));
                Poll::Pending
            }
        }
    }
}

impl LocalHandle {
    /// Runs `f` over the shard. Must not be called from within another such call.
    pub fn with<T>(&self, f: impl FnOnce(&mut Local) -> T) -> T {
        f(&mut self.0.borrow_mut())
    }

    /// Asks all shards, this one included; answers in the order of their numbers.
    pub async fn ask_all<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Local) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        let shards = self.with(|local| local.env.shards);
        let mut answers = Vec::with_capacity(shards);
        for shard in 0..shards {
            let question = question.clone();
            answers.push(self.with(|local| local.ask(ShardId(shard as u16), question)));
        }
        let mut out = Vec::with_capacity(shards);
        for answer in answers {
            out.push(answer.await);
        }
        out
    }

    /// Asks one shard.
    pub async fn ask<T: Send + 'static>(
        &self,
        shard: ShardId,
        question: impl FnOnce(&mut Local) -> T + Send + 'static,
    ) -> T {
        let answer = self.with(|local| local.ask(shard, question));
        answer.await
    }
}
