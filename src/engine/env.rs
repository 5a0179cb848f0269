//! What a running command may know and count besides its keys, and what ends its unit of work.
//!
//! The time of a unit of work is the shard's, and stands still while the unit runs; it never goes back, and it is a millisecond old at
//! most when the unit begins ([`Env::begin_unit`]).
//!
//! [`Env::end_unit`] is the one end of every unit, however it was run (at once, shipped here, on loans, as EXEC, by the cron, by eviction):
//! changes are final, and what follows from them is handed on.

use super::aof::Writers;
use super::attempt::{Attempt, Consequences};
use super::clients::Clients;
use super::counted::SlowCall;
use super::garbage::Garbage;
use super::listening::{Hearers, Mailbox, Message};
use super::lobby::Lobby;
use super::log::Log;
use super::node::Node;
use super::promise::Promises;
use super::receipts::{Owed, Receipt};
use super::registry::CommandId;
use super::snapshot::{SnapshotState, Snapshots};
use super::waiting::{Unserved, Waiting};
use crate::base::clock::{Calendar, Clock, Ms, Ticks, UnixMs};
use crate::base::limits::LOG_LAG_BYTES_MAX;
use crate::base::random::Random;
use crate::client::{ClientTable, ReplyResizing, Session};
use crate::config::words::quote;
use crate::config::{ClientClass, Settings};
use crate::data::Limits;
use crate::data::access::{AccessPolicy, Moment};
use crate::persist::value::Making;
use crate::pubsub::{Kind, Name};
use crate::resp::{Args, ReplyError, error};
use crate::shard::durable::{Durable, Need};
use crate::shard::turns::{Turn, Turns};
use crate::shard::{ConnRef, ShardId, View};
use crate::spec::{Command, Flags};
use crate::stats::Stats;
use crate::store::{Attention, Cut, DbIndex, HashSeed, Occupancy, Slot};
use std::any::Any;
use std::rc::Rc;
use std::sync::Arc;

/// `CLIENT PAUSE`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pause {
    pub until: UnixMs,
    pub writes_only: bool,
}

/// See the essay above.
pub struct Env {
    pub shard: ShardId,
    pub shards: usize,
    /// Replaced by [`Env::follow`] only.
    pub settings: Arc<Settings>,
    /// The thresholds of packed values, as `settings` has them.
    pub limits: Limits,
    /// The secret of the hashes: the keyspace's, and that of every table in a value.
    pub seed: HashSeed,
    pub stats: Stats,
    pub random: Random,
    /// Which slots may have keys: what SCAN passes over without holding it.
    pub occupancy: Arc<Occupancy>,
    pub(super) attention: Arc<Attention>,
    /// The moment of the last snapshot.
    pub(crate) cut: Arc<Cut>,
    pub(super) snapshots: Arc<Snapshots>,
    aof: Arc<Writers>,
    /// As of the beginning of the pass.
    pub(super) snapshot_state: SnapshotState,
    /// FLUSHALL has ended the snapshots: the empty keyspace is to be saved, if anything ever is.
    pub(super) wants_save: bool,
    /// Deleted values and tables that are freed in the background.
    pub garbage: Garbage,
    pub(super) pause: Option<Pause>,
    /// `DEBUG SET-ACTIVE-EXPIRE`.
    pub expires_actively: bool,
    pub(super) clock: Clock,
    calendar: Calendar,
    /// The hard limit of `client-output-buffer-limit` for those who send commands: of what is beyond it nobody will see anything.
    pub(super) reply_bytes_max: usize,
    /// A data set is being read: commands that cannot run meanwhile are refused, nothing expires and nothing is evicted.
    pub(super) is_loading: bool,
    /// What runs is what the data set is made of: nothing of it is logged or counted, and nothing is over for it.
    pub(super) is_replaying: bool,
    /// What runs is the master's word: nothing is over for it, and it may write.
    obeys: bool,
    /// `DEBUG SET-SKIP-CHECKSUM-VALIDATION`.
    pub skips_checksums: bool,
    /// `DEBUG PAUSE-CRON`.
    pub is_cron_paused: bool,
    pub(super) reply_resizing: ReplyResizing,
    /// When the last command ended, which is when the next one begins.
    pub(super) ticks: Ticks,
    /// The time of the unit of work that runs. It never goes back, and is a millisecond old at most when the unit begins
    /// ([`Env::begin_unit`]).
    pub now: UnixMs,
    /// When the millisecond of `now` is over.
    now_until: Ticks,
    /// Told of every unit of work in the order in which they take effect, where somebody checks that order.
    pub(super) observer: Option<Observer>,
    /// The effects of the units that this shard has run.
    pub(super) log: Log,
    /// What the replies of this pass wait for.
    pub(super) promises: Promises,
    turns: Arc<Turns>,
    /// What this pass has to tell those who listen.
    pub(super) messages: Vec<Message>,
    /// For publishers among those whose messages these are.
    pub(super) receipts: Vec<Receipt>,
    pub(super) next_receipt: u64,
    /// Of the unit that has ended last.
    pub(super) unit_receipt: Option<Owed>,
    /// Somebody was entered with what it has read since the pass began: until the pass is released, nothing leaves that could overtake the reply.
    pub(super) holds: bool,
    pub(super) hearers: Arc<Hearers>,
    pub(super) clients: Arc<ClientTable>,
    /// Those who listen on this shard.
    pub(super) mailbox: Mailbox,
    /// What is to be done for those who wait for keys.
    pub(super) waiting: Waiting,
    /// For the next unit that leads to anything.
    spare: Option<Box<Consequences>>,
    /// This shard's settings ask for events.
    pays_attention: bool,
    node: Arc<Node>,
    /// All commands: their type stands above this file.
    registry: &'static (dyn Any + Send + Sync),
    /// What most requests are answered while a script is busy.
    pub(super) busy: Option<ReplyError>,
    /// What the interpreter of scripts keeps on this shard, which stands above the engine.
    pub interpreter: Option<Box<dyn Any>>,
    /// The clients of the shard, while a unit of work runs.
    pub(super) lobby: Lobby,
    /// Looks after these while it takes long; None: nobody, where there are no sockets.
    pub attendant: Option<Rc<dyn Attendant>>,
}

/// Who can look after the clients of a shard in the midst of a unit of work.
pub trait Attendant {
    /// Looks once, without waiting, what they want, and answers what can be answered.
    fn attend(&self, env: &mut Env);
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
    /// What has followed from it.
    pub consequences: Option<&'a Consequences>,
}

/// A unit of work that has run to its end.
pub(super) struct Ended<'a> {
    pub origin: ConnRef,
    /// Of the command that the client sent; nothing but 0 where none did.
    pub command: CommandId,
    pub db: DbIndex,
    pub what: Observation<'a>,
}

/// What such a unit did.
#[derive(Debug)]
pub enum Observation<'a> {
    /// A command over keys ran, alone.
    Ran(Args<'a>),
    /// The same, and it waits: whoever makes one of its keys ready runs it again.
    Parked(Args<'a>),
    /// It has waited, and is answered with an error.
    Refused(Args<'a>),
    /// Nobody serves it any more: the wait has ended by itself, or was ended.
    WaitEnded(Unserved),
    /// These keys are watched from now on.
    Watched(Args<'a>),
    /// A transaction ran to its end.
    Committed,
    /// A watched key had changed: the transaction did nothing.
    Aborted,
    /// A key was evicted.
    Evicted(&'a [u8]),
    /// Keys were looked for whose time was over, and may have been deleted.
    Expired,
    /// The snapshot of that number has all keys as they are now. What the pass had logged before may have a turn of its own.
    Cut { number: u64, early: Option<Turn> },
}

impl Env {
    /// What the shard of that number begins with.
    pub(super) fn new(
        shard: ShardId,
        node: &Arc<Node>,
        registry: &'static (dyn Any + Send + Sync),
        seed: HashSeed,
        clock: Clock,
        random: Random,
    ) -> Env {
        let settings = Arc::new(node.lock_config().settings().clone());
        let mut env = Env {
            shard,
            shards: node.shards,
            limits: limits_of(&settings, Limits::default().list_packed_threshold),
            reply_bytes_max: reply_bytes_max(&settings),
            is_loading: node.loading.is_loading(),
            is_replaying: node.loading.is_loading(),
            obeys: false,
            skips_checksums: false,
            is_cron_paused: false,
            reply_resizing: ReplyResizing::DEFAULT,
            seed,
            stats: Stats::new(node.command_count),
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
            log: Log::new(node.log_switch.clone(), node.turns.clone(), LOG_LAG_BYTES_MAX),
            promises: Promises::default(),
            turns: node.turns.clone(),
            messages: Vec::new(),
            receipts: Vec::new(),
            next_receipt: 0,
            unit_receipt: None,
            holds: false,
            hearers: node.hearers.clone(),
            clients: node.clients.clone(),
            mailbox: Mailbox::new(shard, node.hearers.clone(), node.turns.clone()),
            waiting: Waiting::default(),
            spare: None,
            pays_attention: false,
            node: node.clone(),
            registry,
            busy: None,
            interpreter: None,
            lobby: Lobby::default(),
            attendant: None,
            settings: settings.clone(),
            occupancy: node.occupancy.clone(),
            attention: node.attention.clone(),
            cut: node.cut.clone(),
            snapshots: node.snapshots.clone(),
            aof: node.aof.writers.clone(),
            snapshot_state: SnapshotState::default(),
            wants_save: false,
        };
        env.follow(settings);
        env.begin_pass();
        env
    }

    /// The process that the shard is a part of.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// All commands, as what they are to those who know their type.
    pub(super) fn registry(&self) -> &'static (dyn Any + Send + Sync) {
        self.registry
    }

    /// Works by other settings from now on.
    pub fn follow(&mut self, settings: Arc<Settings>) {
        self.stats.follow(&settings);
        self.snapshots.follow(&settings);
        let pays_attention = !settings.notify_keyspace_events.is_empty();
        if pays_attention != std::mem::replace(&mut self.pays_attention, pays_attention) {
            if pays_attention {
                self.attention.begin();
            } else {
                self.attention.end();
            }
        }
        // No parameter, but `DEBUG QUICKLIST-PACKED-THRESHOLD`.
        self.limits = limits_of(&settings, self.limits.list_packed_threshold);
        self.reply_bytes_max = reply_bytes_max(&settings);
        self.settings = settings;
        self.follow_promises();
    }

    /// Whether replies wait for the disk may have changed. To be called on every shard before whoever has changed it is answered.
    pub(super) fn follow_promises(&mut self) {
        self.promises.follow(&self.turns.durable, self.shard);
    }

    /// The pass has taken this number.
    #[inline]
    pub(super) fn number_promises(&mut self, number: u64) {
        self.promises.number(number, &self.turns.durable);
    }

    /// How far the one history is on disk.
    pub fn durable(&self) -> &Durable {
        &self.turns.durable
    }

    /// What an answer waits for that concerns no slots of its own, and may show anything.
    pub(super) fn need_of_everything(&self) -> Need {
        match self.promises.hold() {
            true => self.promises.of_everything(self.durable()),
            false => Need::NONE,
        }
    }

    /// Why writes are refused, if a snapshot or a write to the append-only file has failed; whoever is asked whether the server is well says
    /// so, too.
    pub fn refusal_of_writes(&self) -> Option<ReplyError> {
        if self.snapshot_state.refuses_writes {
            return Some(error::SNAPSHOT_FAILED);
        }
        let has_failed = self.snapshot_state.has_log_failed;
        has_failed.then(|| error::aof_write_failed(self.aof.reason()))
    }

    /// Whether the process has more than `maxmemory` lets it have, as of the last account of each shard.
    pub fn lacks_memory(&self) -> bool {
        let bytes_max = self.settings.maxmemory;
        bytes_max > 0 && self.node.memory.counted_bytes() as u64 > bytes_max
    }

    /// The whole keyspace is gone: what is being saved of it is of no use any more.
    pub fn end_snapshots(&mut self) {
        self.snapshots.cancel(false, self.now);
        self.wants_save = !self.settings.save.is_empty();
    }

    /// The time of the unit of work that runs now, and how it counts accesses.
    ///
    /// While a data set is read nothing is over: a file of commands says itself what has been deleted, and when. So what looks at
    /// the keyspace then stands at the beginning of time; what only asks for the time ([`Env::now`]) does not. The same holds for what a master
    /// says.
    #[inline]
    pub fn moment(&self) -> Moment {
        let moment = self.moment_of_entering();
        match self.is_replaying || self.obeys {
            false => moment,
            true => Moment {
                now: UnixMs::EPOCH,
                policy: AccessPolicy::Fixed(moment.new_clock()),
                keeps_stale: true,
            },
        }
    }

    /// The same, for entries that come with all that is to be known of them.
    #[inline]
    pub fn moment_of_entering(&self) -> Moment {
        Moment {
            now: self.now,
            policy: self.access_policy(),
            keeps_stale: self.is_paused() || self.node.replication.is_replica(),
        }
    }

    /// Whether keys may be deleted because their time is over, without anybody having looked at them.
    pub(super) fn may_expire_actively(&self) -> bool {
        let is_held_up = self.is_loading || self.snapshot_state.has_log_failed;
        // What a replica has goes when its master says so.
        self.expires_actively && self.pause.is_none() && !is_held_up && !self.node.replication.is_replica()
    }

    /// Whether room may be made by taking keys away. What a replica has is what its master has, as a rule.
    pub(super) fn may_evict(&self) -> bool {
        let ignores = self.settings.replica_ignore_maxmemory && self.node.replication.is_replica();
        !self.is_loading && !self.snapshot_state.has_log_failed && !ignores
    }

    /// Whether this is a replica that takes writes from nobody but its master, which is not the one who wants something now.
    #[inline]
    pub fn is_read_only(&self) -> bool {
        self.node.replication.is_replica() && self.settings.replica_read_only && !self.obeys && !self.is_replaying
    }

    /// Why a replica does not run a command that writes, if it does not.
    #[inline]
    pub(super) fn refusal_of_replica(&self, flags: Flags) -> Option<ReplyError> {
        let refuses = flags.contains(Flags::WRITE) && self.is_read_only();
        refuses.then_some(error::READ_ONLY_REPLICA)
    }

    /// Whether a replica that has lost its master answers only what needs no data.
    #[inline]
    pub fn is_stale(&self) -> bool {
        self.node.replication.following.is_cut_off() && !self.settings.replica_serve_stale_data && !self.obeys
    }

    /// Whether what runs from here on is the master's word.
    pub(super) fn obey(&mut self, obeys: bool) {
        self.obeys = obeys;
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

    /// Whether anybody in the process reads logs, or listens: then what a pass produces leaves it in the order of turns.
    #[inline]
    pub(super) fn wants_turns(&self) -> bool {
        self.log.is_wanted() || self.hearers.is_any()
    }

    /// Whether anybody waits who makes another key when he is served.
    #[inline]
    pub(super) fn is_anybody_reaching(&self) -> bool {
        self.attention.is_anybody_reaching()
    }

    /// Whether CLIENT PAUSE holds back who is about to be served.
    pub(super) fn holds_back(&self, flags: Flags) -> bool {
        let writes = flags.intersects(Flags::WRITE.union(Flags::MAY_REPLICATE));
        let holds = |pause: Pause| pause.until > self.now && (writes || !pause.writes_only);
        self.pause.is_some_and(holds)
    }

    /// Whether this pass has logged something, which nobody elsewhere may know of before it is written: what is said to all shards at once
    /// has to wait.
    pub fn has_unwritten(&self) -> bool {
        self.log.has_gathered()
    }

    /// What values are made by that come from outside.
    pub fn making(&self) -> Making<'_> {
        Making {
            limits: &self.limits,
            seed: self.seed,
        }
    }

    /// Reads the clock for whoever works for a bounded time.
    pub fn ticks_now(&self) -> Ticks {
        self.clock.ticks()
    }

    /// Reads the clock at the end of a command; the next one is counted from here.
    #[inline]
    pub(super) fn tick(&mut self) -> Ticks {
        self.ticks = self.clock.ticks();
        self.ticks
    }

    /// Reads both clocks.
    pub(super) fn begin_pass(&mut self) {
        self.holds = false;
        let ticks = self.tick();
        self.calendar.follow(self.clock.unix(), ticks);
        self.move_on();
        self.snapshot_state = self.snapshots.state_for_writers(&self.settings);
        self.snapshot_state.has_log_failed = self.aof.refuses();
        self.snapshot_state.lacks_replicas = self.lacks_replicas();
        self.busy = self.node.busy_scripts.refusal();
        self.follow_promises();
    }

    /// `min-replicas-to-write`: a master refuses writes that too few replicas would have.
    fn lacks_replicas(&self) -> bool {
        let (wanted, replication) = (self.settings.min_replicas_to_write, &self.node.replication);
        wanted > 0
            && self.settings.min_replicas_max_lag > 0
            && !replication.is_replica()
            && replication.near_count() < wanted as usize
    }

    /// Brings the time up to when the last command ended. To be called before each unit of work; within one, time stands still.
    #[inline]
    pub(super) fn begin_unit(&mut self) {
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

    /// Gets a unit ready to put down what follows from it, if anybody wants to know.
    #[inline]
    pub(super) fn arm(&mut self, attempt: &mut Attempt) {
        // What is read from a file stands there already.
        let is_logged = self.log.is_wanted() && !self.is_replaying;
        if is_logged || attempt.can_undo || attempt.consequences.is_some() || self.attention.is_paid() {
            self.arm_in_full(attempt, is_logged);
        }
    }

    #[cold]
    fn arm_in_full(&mut self, attempt: &mut Attempt, is_logged: bool) {
        let spare = &mut self.spare;
        let consequences = attempt
            .consequences
            .get_or_insert_with(|| spare.take().unwrap_or_default());
        consequences.is_logged = is_logged;
        consequences.notes_seen = self.promises.hold();
        consequences.classes = self.settings.notify_keyspace_events;
    }

    /// Ends a unit of work that has run: nothing of it can be taken back any more, and what has followed from it is handed on.
    #[inline]
    pub(super) fn end_unit(&mut self, attempt: &mut Attempt, view: &mut View<'_, Slot>, unit: Ended<'_>) {
        attempt.commit(view, |detached| self.garbage.absorb(detached));
        if attempt.consequences.is_some() || self.observer.is_some() {
            self.hand_on(attempt.consequences.take(), unit, view.has_loans());
        }
    }

    /// Hands on what was found to be over before anything can be taken back, or by a command that lacks slots and by itself: it has
    /// changed nothing, but these keys are gone, and must not be forgotten with the attempt.
    #[cold]
    pub(super) fn hand_on_expiries(&mut self, attempt: &mut Attempt) {
        let Some(mut consequences) = attempt.consequences.take() else {
            return;
        };
        consequences.keep_expiries();
        let ended = Ended {
            origin: ConnRef::background(self.shard),
            command: 0,
            db: DbIndex(0),
            what: Observation::Expired,
        };
        // Whose slots they were in is not asked any more.
        self.hand_on(Some(consequences), ended, true);
    }

    /// Tells whoever checks the order of units that a wait has ended which nobody has served.
    pub(super) fn note_end_of_wait(&mut self, origin: ConnRef, command: CommandId, db: DbIndex, how: Unserved) {
        if let Some(observer) = &mut self.observer {
            observer(&Observed {
                origin,
                command,
                db,
                now: self.now,
                what: Observation::WaitEnded(how),
                consequences: None,
            });
        }
    }

    #[cold]
    fn hand_on(&mut self, mut consequences: Option<Box<Consequences>>, unit: Ended<'_>, is_broad: bool) {
        if self.promises.hold() {
            self.promises.end_unit(consequences.as_deref(), &self.turns.durable);
        }
        if let Some(consequences) = &mut consequences {
            self.count_put_aside(consequences);
            consequences.settle_signals();
            if !consequences.effects.is_empty() {
                self.log.append(&consequences.effects, is_broad);
            }
        }
        let Ended {
            origin,
            command,
            db,
            what,
        } = unit;
        if let Some(observer) = &mut self.observer {
            observer(&Observed {
                origin,
                command,
                db,
                now: self.now,
                what,
                consequences: consequences.as_deref(),
            });
        }
        if let Some(mut spare) = consequences {
            let tells = !spare.events.is_empty() || !spare.posts.is_empty() || !spare.shown.is_empty();
            if (tells || !spare.tracked.is_empty()) && self.hearers.is_any() {
                self.tell(&mut spare, origin);
            }
            if !spare.signals.is_empty() && self.attention.awaited_keys() > 0 {
                self.waiting.ready.append(&mut spare.signals);
            }
            spare.clear();
            self.spare = Some(spare);
        }
    }

    /// Counts what the commands of a unit have put aside that could have been taken back.
    #[inline]
    fn count_put_aside(&mut self, consequences: &mut Consequences) {
        for counted in consequences.counted.drain(..) {
            counted.count(&mut self.stats);
            if let Some(call) = &counted.slow {
                self.note_slow_call(call.flags, call.args.as_args(), &call.secrets, counted.elapsed_us);
            }
        }
    }

    /// Whether somebody watches all commands.
    #[inline]
    pub(super) fn shows_commands(&self) -> bool {
        self.hearers.shows_commands()
    }

    /// A command over the session, or over the node, has run, or one that controls a transaction: it is shown to those who watch all.
    #[cold]
    pub(super) fn show<R>(&mut self, command: &Command<R>, args: Args, session: &Session) {
        if let Some(arguments) = shown_arguments(command, args) {
            self.show_line(DbIndex(session.db), &session.address, &arguments);
        }
    }

    pub(super) fn show_line(&mut self, db: DbIndex, address: &str, arguments: &str) {
        let (seconds, ms) = (self.now.0 / 1000, self.now.0 % 1000);
        let line = format!("{seconds}.{ms:03}000 [{} {address}] {arguments}", db.0);
        self.messages.push(Message::Command(line.into()));
    }

    /// A client of this shard watches all commands from now on.
    pub fn watch_commands(&mut self, place: ConnRef) {
        let within_pass = self.within_pass();
        self.mailbox.watch(place, within_pass);
        // So that what runs on any shard has consequences.
        self.attention.begin();
    }

    /// How many deliveries a message would make now.
    pub fn deliveries(&self, kind: Kind, channel: &[u8]) -> u64 {
        match self.hearers.is_any() {
            true => self.hearers.directory.deliveries(kind, channel),
            false => 0,
        }
    }

    /// A client of this shard subscribes to what it was not subscribed to.
    pub fn subscribe(&mut self, kind: Kind, name: &Name, place: ConnRef) {
        let within_pass = self.within_pass();
        self.mailbox.subscribe(kind, name, place, within_pass);
    }

    /// How many messages the pass under way has, if it will have a turn in any case.
    pub(super) fn within_pass(&self) -> Option<u32> {
        let takes_turn = !self.messages.is_empty() || self.log.has_gathered();
        takes_turn.then_some(self.messages.len() as u32)
    }

    /// It leaves.
    pub fn unsubscribe(&mut self, kind: Kind, name: &Name, place: ConnRef) {
        self.mailbox.unsubscribe(kind, name, place);
    }

    /// A client listens to nothing any more.
    #[inline]
    pub(super) fn stop_listening(&mut self, session: &mut Session) {
        if session.tracking.is_some() {
            self.stop_caching(session);
            self.hearers.note_gone();
        }
        if std::mem::take(&mut session.is_monitor) {
            self.mailbox.unwatch(session.place);
            self.attention.end();
        }
        if let Some(subscriptions) = session.subscriptions.take() {
            for kind in Kind::ALL {
                for name in subscriptions.names(kind) {
                    self.mailbox.unsubscribe(kind, name, session.place);
                }
            }
        }
    }

    /// Ends what [`Env::begin_pause`] has begun.
    pub fn end_pause(&mut self, clients: &mut Clients) {
        self.pause = None;
        clients.end_pause();
    }

    /// Holds clients back. Where a pause lasts already, it becomes neither shorter nor milder by it.
    pub fn begin_pause(&mut self, asked: Pause) {
        let current = self.pause.filter(|pause| pause.until > self.now);
        self.pause = Some(match current {
            None => asked,
            Some(pause) => Pause {
                until: pause.until.max(asked.until),
                writes_only: pause.writes_only && asked.writes_only,
            },
        });
    }

    /// `DEBUG REPLYBUFFER`: what is not said stays as it is.
    pub fn set_reply_resizing(&mut self, is_on: Option<bool>, peak_for: Option<Option<Ms>>) {
        let resizing = &mut self.reply_resizing;
        resizing.is_on = is_on.unwrap_or(resizing.is_on);
        resizing.peak_for = peak_for.unwrap_or(resizing.peak_for);
    }

    /// Puts a command that took long into the slow log, and among the events of the latency monitor.
    #[inline]
    pub(super) fn note_slow<R>(&mut self, command: &Command<R>, args: Args, elapsed_us: u64) {
        if self.is_slow(elapsed_us) {
            self.note_slow_call(command.flags, args, &secrets_of(command, args), elapsed_us);
        }
    }

    /// The call, if it took so long that [`Env::note_slow`] would take it in.
    pub(super) fn slow_call<R>(&self, command: &Command<R>, args: Args, elapsed_us: u64) -> Option<Box<SlowCall>> {
        self.is_slow(elapsed_us).then(|| {
            Box::new(SlowCall {
                args: args.to_owned(),
                secrets: secrets_of(command, args),
                flags: command.flags,
            })
        })
    }

    #[inline]
    fn is_slow(&self, elapsed_us: u64) -> bool {
        let limit = self.stats.slow_limit_us;
        limit >= 0 && elapsed_us as i64 >= limit || self.stats.latency.is_noted(elapsed_us / 1000)
    }

    #[cold]
    fn note_slow_call(&mut self, flags: Flags, args: Args, secrets: &[usize], elapsed_us: u64) {
        let limit = self.stats.slow_limit_us;
        if self.stats.latency.is_noted(elapsed_us / 1000) {
            let is_fast = flags.contains(Flags::FAST);
            let event = if is_fast { "fast-command" } else { "command" };
            self.stats.latency.note(event, elapsed_us / 1000, self.now);
        }
        if limit >= 0 && elapsed_us as i64 >= limit && !flags.contains(Flags::SKIP_SLOWLOG) {
            self.stats.note_slow(args, secrets, elapsed_us, self.now);
        }
    }
}

/// Which arguments of a call are nobody's affair.
#[cold]
fn secrets_of<R>(command: &Command<R>, args: Args) -> Vec<usize> {
    command
        .secrets_of
        .map_or_else(Vec::new, |secrets_of| secrets_of(&args.iter().collect::<Vec<_>>()))
}

/// A command as those who watch all of them are shown it; None: it is hidden from them.
#[cold]
pub(super) fn shown_arguments<R>(command: &Command<R>, args: Args) -> Option<String> {
    let is_hidden = command.flags.intersects(Flags::ADMIN.union(Flags::SKIP_MONITOR));
    (!is_hidden).then(|| text_of_arguments(command, args))
}

/// The same, of what is hidden as a rule as well.
#[cold]
pub(super) fn text_of_arguments<R>(command: &Command<R>, args: Args) -> String {
    let words: Vec<&[u8]> = args.iter().collect();
    let secrets = secrets_of(command, args);
    let mut text = Vec::new();
    for (index, word) in words.iter().enumerate() {
        if index > 0 {
            text.push(b' ');
        }
        match secrets.contains(&index) {
            true => text.extend_from_slice(b"\"(redacted)\""),
            false => quote(word, &mut text),
        }
    }
    // Nothing is in it but what prints.
    String::from_utf8_lossy(&text).into_owned()
}

/// How long a client's output may be at all; no limit is the whole address space.
fn reply_bytes_max(settings: &Settings) -> usize {
    match settings.client_output_buffer_limit.of(ClientClass::Normal).hard_bytes {
        0 => usize::MAX,
        bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
    }
}

/// The thresholds of packed values. What is beyond the address space is no limit at all.
pub fn limits_of(settings: &Settings, list_packed_threshold: usize) -> Limits {
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

#[cfg(test)]
mod tests;
