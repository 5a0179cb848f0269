//! Everything that one shard's thread owns, sockets excepted.
//!
//! [`Local`] brings the shard's slots, its clients, its ends of the links and its statistics together. Whoever owns the
//! sockets feeds it and empties it, pass by pass (`pass`); so does the in-process test bench, with no socket at all.
//!
//! Other shards' state is reached in one way only: by a *visit*, a closure that travels by the link and runs over the
//! other [`Local`]. Its answer comes back the same way. A visit never waits for slots, so a unit of work may hold slots
//! while it asks.
//!
//! Handlers that wait live outside of this value, as tasks of the shard's executor; they reach it through a
//! [`LocalHandle`] and never keep it borrowed while they wait (invariant).

use super::clients::Clients;
use super::env::Env;
use super::feed::Feed;
use super::foresight::Foreseen;
use super::ground::{Core, Ground};
use super::listening::{Announcement, Hearer};
use super::literal::Registry;
use super::lobby::Lodged;
use super::log::Log;
use super::node::Node;
use super::receipts::{Awaited, ReceiptId, Word};
use super::room::Room;
use super::task::{Task, TaskKind};
use super::upkeep::Upkeep;
use super::waiting::Served;
use super::wire::Passes;
use crate::base::clock::Clock;
use crate::base::random::Random;
use crate::client::{Client, Session};
use crate::config::Settings;
use crate::resp::{OwnedArgs, ReplyBuf, Span};
use crate::shard::link::{CommandHeader, Inbound, Outbound, Port, ReplyHeader};
use crate::shard::{ConnRef, Footprint, Message, Outbox, Realm, Shard, ShardId, SlotSet, Unit};
use crate::stats::SlowEntry;
use crate::store::{HashSeed, Slot, SlotCommon, WatchToken};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// What travels by the links besides small commands and replies.
pub enum Envelope {
    Shard(Message<Slot, Box<Task>>),
    Visit(Box<dyn FnOnce(&mut Local) + Send>),
    /// A command that is too large to be copied into the link.
    Command(Box<(CommandHeader, OwnedArgs)>),
    /// Slow commands of one of the receiver's clients were run at the sender.
    Slow {
        place: ConnRef,
        entries: Vec<SlowEntry>,
    },
    /// A client of the receiver has waited for keys, and was served.
    Served(Box<Served>),
    /// For those who listen at the receiver.
    Announcement(Announcement),
    /// For a publisher among the receiver's clients: the sender has delivered.
    Word(Word),
    /// A reply to one of the receiver's clients, to be kept until there is word on that receipt.
    Kept(Box<(ReceiptId, ReplyHeader, ReplyBuf)>),
}

/// One shard's thread, sockets excepted.
pub struct Local {
    pub env: Env,
    pub node: Arc<Node>,
    pub registry: &'static Registry,
    pub core: Core,
    pub clients: Lodged,
    pub(super) outbound: Outbound<Envelope>,
    pub inbound: Option<Inbound<Envelope>>,
    pub(super) outbox: Outbox<Slot, Box<Task>>,
    /// Commands that write, of clients of this shard, that are under way: on other shards, or waiting for slots. A client that has
    /// gone leaves them to run.
    pub(super) writes_under_way: usize,
    pub(super) passes: Passes,
    /// Replies of this shard's clients that wait for deliveries.
    pub(super) awaited: Awaited,
    pub room: Room,
    pub(super) upkeep: Upkeep,
    /// The stream and who gets it; of use on the first shard only.
    pub(super) feed: Feed,
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
    /// Runs what may block on another thread; it is over when that has been run.
    fn run_blocking(&self, work: Box<dyn FnOnce() + Send>) -> Pin<Box<dyn Future<Output = ()>>>;
}

/// Runs work that may block on another thread; answers what it answers.
pub(crate) async fn on_another_thread<T: Send + 'static>(
    executor: &dyn Executor,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    let work = Box::new(move || {
        // The other end waits until this has been run.
        let _ = sender.send(work());
    });
    executor.run_blocking(work).await;
    receiver.recv().expect("the work has been run")
}

/// Makes a client of the connection with this index and generation; false: there are too many.
pub fn connect(
    env: &mut Env,
    clients: &mut Clients,
    (index, generation): (u32, u32),
    address: &str,
    local_address: &str,
    is_local: bool,
) -> bool {
    let place = ConnRef {
        shard: env.shard,
        index,
        generation,
    };
    let maxclients = env.settings.maxclients as usize;
    let Some(registration) = env.clients.register(place, address, maxclients) else {
        env.stats.counts.rejected_connections += 1;
        return false;
    };
    let mut session = Session::new(registration.id(), address, local_address, is_local);
    session.is_authenticated = env.settings.requirepass.is_empty();
    clients.enter(Client::new(session, place, registration, env.now));
    env.stats.counts.connections_received += 1;
    true
}

/// How tasks of the shard's executor reach its [`Local`].
#[derive(Clone)]
pub struct LocalHandle(pub Rc<RefCell<Local>>);

/// For how many messages of a step there is always room.
const MESSAGES_KEPT_MAX: usize = 64;

/// What a shard is made of when it starts.
pub struct LocalOptions {
    pub id: ShardId,
    pub node: Arc<Node>,
    pub registry: &'static Registry,
    pub realm: Realm,
    pub seed: HashSeed,
    pub port: Port<Envelope>,
    pub executor: Rc<dyn Executor>,
    pub clock: Clock,
    pub random: Random,
}

impl Local {
    /// A shard with its share of empty slots.
    pub fn new(options: LocalOptions) -> Rc<RefCell<Local>> {
        let LocalOptions {
            id,
            node,
            registry,
            realm,
            seed,
            port,
            executor,
            clock,
            random,
        } = options;
        let common = Arc::new(SlotCommon {
            seed,
            occupancy: Some(node.occupancy.clone()),
            attention: node.attention.clone(),
            cut: node.cut.clone(),
        });
        let env = Env::new(id, &node, registry, seed, clock, random);
        let core = Shard::new(id, &realm, |index| Box::new(Slot::sharing(index, common.clone())));
        Rc::new_cyclic(|handle| {
            RefCell::new(Local {
                env,
                node,
                registry,
                core,
                clients: Lodged::default(),
                outbound: port.outbound,
                inbound: Some(port.inbound),
                outbox: Outbox::new(),
                writes_under_way: 0,
                passes: Passes::default(),
                awaited: Awaited::default(),
                room: Room::default(),
                upkeep: Upkeep::default(),
                feed: Feed::default(),
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
        if !self.env.messages.is_empty() || self.env.holds {
            // Somebody may have begun to listen since the pass began: no reply overtakes what its command tells, nor is overtaken by what is told
            // to who has read.
            self.outbound.hold(true);
        }
        &mut self.outbound
    }

    /// Enters a new client; false: there are too many.
    pub fn connect(&mut self, index: u32, generation: u32, address: &str, local_address: &str, is_local: bool) -> bool {
        let of_connection = (index, generation);
        connect(
            &mut self.env,
            &mut self.clients,
            of_connection,
            address,
            local_address,
            is_local,
        )
    }

    /// Has units of work run, with what they may know of the shard; the clients are in the lobby meanwhile.
    #[inline]
    pub(super) fn on_core<T>(
        &mut self,
        work: impl FnOnce(&mut Core, &mut Env, &mut Outbox<Slot, Box<Task>>) -> T,
    ) -> T {
        self.env.lobby.take_in(&mut self.clients);
        let answer = work(&mut self.core, &mut self.env, &mut self.outbox);
        self.env.lobby.give_back(&mut self.clients);
        answer
    }

    /// Does what was put off for clients that have left while a unit of work ran.
    #[cold]
    pub(super) fn see_off(&mut self) {
        let mut tokens = std::mem::take(&mut self.env.lobby.forgotten);
        for mut client in std::mem::take(&mut self.env.lobby.gone) {
            self.upkeep.under_way.forget(&mut client);
            tokens.append(&mut client.watched);
        }
        self.forget_watches(tokens);
    }

    /// A data set is read from here on, and commands that cannot run meanwhile are refused.
    pub fn begin_loading(&mut self) {
        self.env.is_loading = true;
        self.env.is_replaying = true;
    }

    /// Whether it is one that loads.
    pub fn is_loading(&self) -> bool {
        self.env.is_loading
    }

    /// The data set is whole.
    pub fn end_loading(&mut self) {
        self.end_replaying();
        self.env.is_loading = false;
    }

    /// All of the data set that concerns this shard is there: what runs from here on is somebody's. Clients of this shard are refused until
    /// that is so on all shards.
    pub fn end_replaying(&mut self) {
        self.env.is_replaying = false;
        self.begin_logging();
    }

    /// At the start: what is changed from here on goes into the append-only file, if there is one.
    pub fn begin_logging(&mut self) {
        if !self.env.log.has_file()
            && let Some(file) = self.node.aof.file_of(self.env.shard)
        {
            self.env.log.attach_file(file);
        }
    }

    /// What this shard logs, for those who read it.
    pub fn log(&mut self) -> &mut Log {
        &mut self.env.log
    }

    /// Hears of everything that is told on this shard from now on, in the one order in which it happened on all shards.
    pub fn listen(&mut self, hearer: Hearer) {
        self.env.mailbox.listen(hearer);
    }

    /// Hears of nothing any more.
    pub fn stop_listening(&mut self) {
        self.env.mailbox.stop();
    }

    /// Starts a unit of work that no client waits for.
    pub fn start_in_background(&mut self, kind: TaskKind, footprint: Footprint) {
        let unit = Unit {
            work: Box::new(Task::in_background(self.env.shard, kind)),
            footprint,
            origin: ConnRef::background(self.env.shard),
            ticket: None,
        };
        self.on_core(|core, env, outbox| core.dispatch(unit, env, outbox));
        self.post_messages();
    }

    /// Forgets the client's watched keys.
    pub fn unwatch(&mut self, client: &mut Client) {
        self.forget_watches(std::mem::take(&mut client.watched));
    }

    /// Has the slots forget who watched their keys.
    pub(super) fn forget_watches(&mut self, tokens: Vec<(u16, WatchToken)>) {
        if tokens.is_empty() {
            return;
        }
        let slots: SlotSet = tokens.iter().map(|(slot, _)| *slot).collect();
        self.start_in_background(TaskKind::Unwatch { tokens }, Footprint::Slots(slots));
    }

    /// Puts the shard's messages onto the links, behind what went there before. To be called before anything else is sent: there is
    /// one way onto a link, and what is sent first arrives first.
    #[inline]
    pub(super) fn post_messages(&mut self) {
        if !self.outbox.messages.is_empty() {
            self.link();
            for (to, message) in self.outbox.messages.drain(..) {
                match message {
                    // It carries a reply: rule 3.
                    Message::Finished { .. } => self.outbound.message(to, Envelope::Shard(message)),
                    // The others keep their order, as the protocol of loans counts on it.
                    _ => self.outbound.slots(to, Envelope::Shard(message)),
                }
            }
            // When a unit gives everything back, all that has waited for it runs in one step.
            if self.outbox.messages.capacity() > MESSAGES_KEPT_MAX {
                self.outbox.messages.shrink_to(MESSAGES_KEPT_MAX);
            }
        }
    }

    /// Says that this shard is about to sleep; false when something has come in the meantime.
    pub fn announce_sleep(&mut self) -> bool {
        if self.has_unreleased()
            || !self.may_sleep_on_disk()
            || !self.inbound.as_mut().is_some_and(Inbound::announce_sleep)
        {
            return false;
        }
        let may_sleep = self.outbound.announce_starving();
        if !may_sleep {
            self.awake();
        }
        may_sleep
    }

    /// Whether no client of this shard waits for what is durable by now; from here on a sync wakes it.
    fn may_sleep_on_disk(&self) -> bool {
        let durable = self.env.durable();
        !self.clients.wait_for_disk_anywhere() || durable.announce_waiting(self.env.shard, self.passes.seen_prefix)
    }

    /// Says that this shard is awake.
    pub fn awake(&mut self) {
        if let Some(inbound) = &mut self.inbound {
            inbound.awake();
        }
    }

    /// Lends upkeep what it works on.
    pub(super) fn on_ground<T>(&mut self, work: impl FnOnce(&mut Upkeep, &mut Ground<'_>) -> T) -> T {
        let Local {
            env,
            node,
            core,
            upkeep,
            ..
        } = self;
        work(upkeep, &mut Ground { core, env, node })
    }

    /// Goes by these settings from now on.
    pub fn follow(&mut self, settings: Arc<Settings>) {
        self.node.aof.follow(&settings);
        self.env.follow(settings);
        // A limit holds from its first command on: nobody must take a shard that has not counted for one that can evict.
        self.on_ground(|upkeep, on| upkeep.eviction.cron(on));
    }

    /// Makes room if the process uses too much. To be called before a command runs, and in each pass. True: the time was up
    /// before this shard had done its part, so go on soon.
    #[inline]
    pub(super) fn relieve(&mut self) -> bool {
        self.env.settings.maxmemory > 0 && self.env.may_evict() && self.relieve_limited()
    }

    fn relieve_limited(&mut self) -> bool {
        let Local {
            env,
            node,
            core,
            upkeep,
            outbound,
            ..
        } = self;
        let asked = upkeep.relieve(&mut Ground { core, env, node }, || outbound.memory_bytes());
        for other in asked {
            self.link().message(
                other,
                Envelope::Visit(Box::new(move |there: &mut Local| {
                    there.node.memory.heed(usize::from(other.0));
                    there.relieve();
                })),
            );
        }
        self.upkeep.eviction.is_unfinished()
    }

    /// So many bytes were taken by what carries this shard, before there was a shard.
    pub fn leave_out(&mut self, machinery_bytes: usize) {
        self.upkeep.under_way.leave_out(machinery_bytes);
    }

    /// So many bytes are kept for output that was handed over. To be said as soon as output has been written: what it took is free
    /// again, and would be room for data.
    pub fn note_wire(&mut self, held_bytes: usize) {
        self.upkeep.under_way.count_wire(held_bytes);
    }

    /// Looks at the links.
    pub(super) fn count_links(&mut self) {
        self.upkeep.under_way.count_links(self.outbound.memory_bytes());
    }

    /// Tells the other shards what this one has taken, as of now. In every pass, limit or not: the sum must be right when a limit is set.
    #[inline]
    pub fn publish_memory(&mut self) {
        self.count_links();
        self.on_ground(|upkeep, on| on.publish(&upkeep.under_way));
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

    /// Whether commands that write are under way, of clients of any shard.
    pub async fn is_any_write_under_way(&self) -> bool {
        let counts = self.ask_all(|local: &mut Local| local.writes_under_way).await;
        counts.iter().any(|count| *count > 0)
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
