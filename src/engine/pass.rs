//! One pass of a shard, sockets excepted: what it does, in which order, and when it is due again.
//!
//! Whoever owns the sockets (the reactor; a simulation) calls [`Local::begin_pass`], hands in what has come
//! ([`Local::connect`], [`Local::receive`], [`Local::peer_closed`], `Clients::list` when a connection is drained), and calls
//! [`Local::finish_pass`], which handles what other shards have sent, does the periodic work that is due, and gives out what came of
//! it all through a [`Wire`]. Everything that decides when output leaves, when a connection ends and when its peer is read from stands
//! here, so that it is tested where no socket is.
//!
//! ```text
//!  begin_pass | receive, ... | run_pass            | take_turn | write_pass | may_release, release_pass
//!             |              | links, cron, memory |  rule 1   |   rule 2   |  rule 3: replies, frames, slots
//!             '------- everything runs here -------'           '------- nothing runs here -------'
//! ```
//!
//! What a pass has produced leaves the shard at its end and all together, as the rules of [`turns`](crate::shard::turns) say: that holds
//! for replies to clients, for frames to other shards and for slots, the only ways out. A pass without effects and
//! messages takes no turn; while nobody wants turns, none does.
//!
//! Replies to a pipeline whose later commands are under way on other shards are *corked*: they wait for these, for
//! [`CORKED_AT_MOST`], so that the batch leaves in one segment. A send is the dearest thing that a shard does.
//!
//! Invariants:
//! 1. a client that is closing reads nothing more, and its connection ends when its replies are written;
//! 2. what has arrived before the peer closed its side is run before the connection ends;
//! 3. between the turn of a pass and its release the shard runs no unit.

use super::delivery;
use super::env::Env;
use super::followers;
use super::ground::Ground;
use super::local::Local;
use super::rewrites;
use super::saves::{follow_flush, look_after, run_job};
use super::shutdown::obey_signal;
use super::unblock;
use super::upkeep::is_over_output_limit;
use super::wire::{Handed, Passes, Wire};
use crate::base::clock::Ticks;
use crate::client::{Client, Stall};
use crate::shard::ShardId;
use crate::shard::durable::Need;
use crate::shard::turns::Turn;
use std::time::Duration;

/// Unread requests of a client that waits for an earlier one: beyond this the socket is not read, so that the peer
/// feels it.
pub(super) const STALLED_QUERY_BYTES_MAX: usize = 64 * 1024;

/// How long replies wait for those behind them that other shards owe. A shard that is awake answers within some 20 µs, one
/// that shares its core within a scheduling slice; beyond that the client is better served with what is there. With 50
/// clients, a pipeline of 16 and 4 shards it took operations of the ring for each request from 0.095 to 0.073.
const CORKED_AT_MOST: Duration = Duration::from_micros(250);

/// How often it is looked whether writers that a snapshot holds back may go on.
const HELD_WRITERS_LOOK_EVERY: Duration = Duration::from_micros(500);

/// Replies of more than this leave at once: they fill segments of their own.
const CORKED_BYTES_MAX: usize = 16 * 1024;

impl Local {
    /// Begins a pass: reads the clocks, and does background work if that has waited for too long.
    pub fn begin_pass(&mut self) {
        self.env.begin_pass();
        self.passes.began = self.env.ticks;
        self.outbound.hold(self.env.wants_turns());
        self.upkeep.saver.look_again();
        self.upkeep.expiry.look_again();
        if !self.env.snapshot_state.is_at_limit && self.clients.wait_for_snapshot_anywhere() {
            self.clients.find_snapshot_room();
        }
        self.passes.busy_us_before = self.env.stats.counts.command_us;
        // The replies of the last pass are on their way by now, so that only what has just come waits for this.
        self.passes.is_busy = self.upkeep.is_background_overdue(&self.env) && self.background_step();
    }

    /// Does the rest of a pass. True: there is more to do at once.
    pub fn finish_pass(&mut self, wire: &mut impl Wire) -> bool {
        self.run_pass(wire);
        if self.take_turn().is_some() {
            let mut patience = Patience::default();
            while !self.write_pass() {
                patience.wait();
            }
            while !self.may_release() {
                patience.wait();
            }
        }
        self.release_pass(wire)
    }

    /// The node has another master than before, or none.
    #[cold]
    fn take_role(&mut self) {
        let settings = self.node.lock_config().shared_settings();
        self.follow(settings);
        if self.node.replication.is_replica() {
            unblock::end_all(self);
        }
    }

    /// Runs what other shards have sent, what is due, and what clients have sent before and could not begin.
    pub fn run_pass(&mut self, wire: &mut impl Wire) {
        // Who is about to listen to less may have gone since, and be the last who listened.
        let has_leaving = !self.passes.leaving.is_empty();
        let may_hear = self.env.mailbox.listens() || self.env.mailbox.holds_any() || has_leaving;
        let stable = may_hear.then(|| self.stable_turn());
        self.passes.is_busy |= self.drain_links() > 0;
        if let Some(stable) = stable {
            self.hear(stable);
            delivery::let_leave(self, stable);
        }
        let generation = self.node.replication.following.generation();
        if generation != std::mem::replace(&mut self.passes.generation, generation) {
            self.take_role();
        }
        if self.env.tick() >= self.passes.cron_due {
            let pause = self.cron();
            self.passes.cron_due = Ticks(self.env.ticks.0.saturating_add(pause.as_nanos() as u64));
        }
        unblock::end_overdue(self);
        unblock::look_again(self);
        self.upkeep.under_way.count_wire(wire.held_bytes());
        self.publish_memory();
        self.passes.is_busy |= self.relieve();
        self.passes.is_busy |= self.on_ground(|upkeep, on| upkeep.forgetting.step(on));
        // Keys that were evicted or whose time was over.
        self.post();
        if self.clients.wait_for_disk_anywhere() {
            self.look_at_disk();
        }
        self.resume_listed();
        if self.env.lobby.owes() {
            self.see_off();
        }
        follow_flush(self);
    }

    /// Lets listed clients go on with what they have sent, and puts those that may have output down to be served when the pass
    /// is released.
    pub(super) fn resume_listed(&mut self) {
        while let Some(index) = self.clients.next_listed() {
            let Some(client) = self.clients.at(index) else { continue };
            // Who is to end at once runs nothing more, nor does who is to end for what it has not read.
            let may_go_on =
                client.stall == Stall::Not && !client.is_killed && client.out.len() < self.env.reply_bytes_max;
            if may_go_on && std::mem::take(&mut client.has_waiting_requests) {
                // Which lists it again.
                self.resume(index);
            } else {
                self.passes.served.push(index);
            }
        }
    }

    /// The periodic work; returns when it is due again.
    pub(super) fn cron(&mut self) -> Duration {
        let links_bytes = self.outbound.memory_bytes();
        let Local {
            env,
            node,
            core,
            upkeep,
            clients,
            ..
        } = self;
        let pause = upkeep.cron(&mut Ground { core, env, node }, clients, links_bytes);
        look_after(self);
        rewrites::look_after(self);
        followers::look_after(self);
        obey_signal(self);
        pause
    }

    /// A small step of work that waits for an idle moment. True: there is more.
    pub(super) fn background_step(&mut self) -> bool {
        if self.upkeep.is_turn_of_held(&self.env) {
            return self.step_held();
        }
        let is_unfinished = self.on_ground(|upkeep, on| upkeep.background_step(on));
        run_job(self);
        is_unfinished
    }

    /// Rule 8: what the bounds are, before the links are drained. Those of the links after those of the shards, which go only when a
    /// link shows one in their place.
    pub(super) fn stable_turn(&self) -> u64 {
        let stable = self.node.turns.stable();
        let inbound = self.inbound.as_ref();
        inbound.map_or(stable, |inbound| stable.min(inbound.bound()))
    }

    /// Delivers what is stable. What has just come is mostly not: it left its shard after the counter was read. So that it need not wait
    /// for another pass, the bounds and the links are looked at once more.
    pub(super) fn hear(&mut self, stable: u64) {
        self.deliver_up_to(stable);
        if self.env.mailbox.holds_any() {
            let stable = self.stable_turn();
            self.passes.is_busy |= self.drain_links() > 0;
            self.deliver_up_to(stable);
        }
        self.passes.next_look = self.env.mailbox.next_look(self.env.ticks);
    }

    fn deliver_up_to(&mut self, stable: u64) {
        while let Some(announcement) = self.env.mailbox.next(stable) {
            delivery::deliver(self, announcement);
        }
    }

    /// Rule 5: has those clients served who wait for what is durable now.
    #[cold]
    fn look_at_disk(&mut self) {
        let prefix = self.env.durable().prefix();
        if prefix != self.passes.seen_prefix || !self.env.promises.hold() {
            self.passes.seen_prefix = prefix;
            self.clients.find_durable();
        }
    }

    /// Rule 1: takes a turn if the pass has effects or messages.
    pub fn take_turn(&mut self) -> Option<&Turn> {
        let has_messages = !self.env.messages.is_empty();
        if self.env.log.has_gathered() || has_messages {
            let turn = self.env.log.take_turn(self.env.shard);
            self.passes.turn = Some(turn);
        } else if let Some(early) = self.env.log.take_early() {
            self.passes.turn = Some(early);
        }
        if let Some(number) = self.passes.turn.as_ref().and_then(|turn| turn.number) {
            self.env.number_promises(number);
        }
        self.passes.turn.as_ref()
    }

    /// Rule 2: writes what the pass has logged. False: the file refuses; to be asked again before anything else is done.
    pub fn write_pass(&mut self) -> bool {
        self.env.log.write(self.env.shard)
    }

    /// Rule 3: whether every earlier log number is written.
    pub fn may_release(&self) -> bool {
        let turn = self.passes.turn.as_ref();
        turn.is_none_or(|turn| self.node.turns.are_written(turn.earlier_numbers))
    }

    /// Gives out what came of the pass: replies, frames and messages, then slots. True: there is more to do at once.
    pub fn release_pass(&mut self, wire: &mut impl Wire) -> bool {
        let mut is_busy = self.passes.is_busy;
        let mut served = std::mem::take(&mut self.passes.served);
        is_busy |= !served.is_empty();
        for index in served.drain(..).rev() {
            self.serve(index, wire);
        }
        self.passes.served = served;
        self.uncork(wire);
        self.upkeep.under_way.count_wire(wire.held_bytes());
        let ended = self.env.tick();
        let Passes {
            began, busy_us_before, ..
        } = self.passes;
        self.env.stats.count_pass(ended.us_since(began), busy_us_before);
        self.release_frames(|target| wire.wake(target));
        // What was left out for what has gone now would be room for data.
        self.count_links();
        is_busy |= self.let_waiting_go_on();
        is_busy |= self.clients.has_listed();
        is_busy || self.background_step()
    }

    /// Rule 3, for what goes to other shards.
    pub(super) fn release_frames(&mut self, wake: impl FnMut(ShardId)) {
        let turn = self.passes.turn.take();
        if let Some(turn) = &turn {
            delivery::announce(self, turn);
        }
        let pieces = self.env.log.take_pieces();
        if !pieces.is_empty() {
            followers::hand_on(self, pieces);
        }
        let turn = turn.map(|turn| turn.turn);
        let changes = self.env.stats.counts.changes;
        self.env.snapshots.publish_changes(self.env.shard, changes);
        self.link().release(turn, wake);
        if turn.is_some() {
            self.node.turns.released(self.env.shard);
        }
    }

    /// Whether something has come of what ran since the last pass was released, or this one is not released: the shard must not sleep.
    pub(super) fn has_unreleased(&self) -> bool {
        let has_told = !self.env.messages.is_empty() || !self.env.waiting.is_empty();
        self.passes.turn.is_some() || self.env.log.has_gathered() || has_told
    }

    /// Lets clients go on that waited for room in a link. True: there were any.
    fn let_waiting_go_on(&mut self) -> bool {
        if !self.clients.wait_for_room_anywhere() || !self.outbound.has_room_everywhere() {
            return false;
        }
        self.clients.find_room();
        true
    }

    /// The peer sends nothing more. What it has sent before is run and answered still: it may have closed its sending side only.
    pub fn peer_closed(&mut self, index: u32) {
        if let Some(client) = self.clients.at(index) {
            client.is_half_closed = true;
            self.clients.list(index);
        }
    }

    /// When the next pass is due, if nothing happens before.
    pub fn next_deadline(&self) -> Ticks {
        let uncork = self.passes.corked.front().map(|(since, _)| corked_until(*since));
        let waits = self.clients.wait_for_snapshot_anywhere();
        let look = waits.then(|| Ticks(self.env.ticks.0 + HELD_WRITERS_LOOK_EVERY.as_nanos() as u64));
        let overdue = self.room.next_due(self.env.now, self.env.ticks);
        let others = [uncork, self.passes.next_look, look, overdue];
        others.into_iter().flatten().fold(self.passes.cron_due, Ticks::min)
    }

    /// Serves the clients whose replies have waited long enough, and forgets those that did not need it.
    fn uncork(&mut self, wire: &mut impl Wire) {
        while let Some(&(since, index)) = self.passes.corked.front() {
            let is_waiting = self
                .clients
                .at(index)
                .is_some_and(|client| client.corked_at == Some(since));
            if is_waiting && self.env.ticks < corked_until(since) {
                break;
            }
            self.passes.corked.pop_front();
            if is_waiting {
                self.serve(index, wire);
            }
        }
    }

    /// Hands a client's output over, and sees whether its connection goes on.
    fn serve(&mut self, index: u32, wire: &mut impl Wire) {
        let now = self.env.ticks;
        let Some(client) = self.clients.at(index) else { return };
        // What is beyond the client's limit ends it, and waits for nothing.
        let corked_max = CORKED_BYTES_MAX.min(self.env.reply_bytes_max);
        let waits = !client.pending.is_empty() && !client.is_killed && client.out.len() < corked_max;
        if waits && !client.out.is_empty() {
            match client.corked_at {
                None => {
                    client.corked_at = Some(now);
                    self.passes.corked.push_back((now, index));
                    return;
                }
                Some(since) if now < corked_until(since) => return,
                Some(_) => {}
            }
        }
        client.corked_at = None;
        if client.follower.is_some() {
            followers::obey_ack(client, &self.node.replication);
        }
        client.usage.note(0, client.out.len());
        client.in_flight_bytes = wire.queued_bytes(index);
        if is_over_output_limit(client, &mut self.env) {
            return self.end(index, wire, true);
        }
        let Some(client) = self.clients.at(index) else { return };
        let mut is_written = true;
        if client.need != Need::NONE || client.held.is_some() {
            let number = self.passes.turn.as_ref().and_then(|turn| turn.number);
            is_written = hold_back(client, &self.env, number);
            if !is_written {
                self.clients.wait_for_disk(index);
            }
        }
        let Some(client) = self.clients.at(index) else { return };
        if !client.out.is_empty() {
            let output_bytes = client.out.len() as u64;
            match wire.send(index, &mut client.out) {
                Handed::Taken => {
                    self.env.stats.counts.output_bytes += output_bytes;
                    self.env.stats.counts.writes_processed += 1;
                }
                Handed::Busy => {
                    is_written = false;
                    // What has waited behind it must not be taken for older.
                    if let Some(held) = &mut client.held {
                        held.put_back(&mut client.out);
                    }
                }
                Handed::Gone => {}
            }
        }
        client.in_flight_bytes = wire.queued_bytes(index);
        self.upkeep.under_way.count_output(client);
        if client.is_killed {
            return self.end(index, wire, true);
        }
        let is_over = match client.is_closing {
            true => client.pending.is_empty(),
            false => client.is_half_closed && !client.has_work(),
        };
        if is_over && is_written {
            return self.end(index, wire, false);
        }
        throttle(client, wire);
    }

    /// Forgets a client whose connection has ended.
    pub fn disconnect(&mut self, index: u32) {
        if let Some(mut client) = self.clients.remove(index) {
            self.env.stop_listening(&mut client.session);
            if client.follower.is_some() {
                followers::forget(self, client.session.id);
            }
            self.upkeep.under_way.forget(&mut client);
            self.unwatch(&mut client);
            unblock::leave(self, index);
            self.post();
        }
    }

    /// Ends a client and its connection.
    fn end(&mut self, index: u32, wire: &mut impl Wire, at_once: bool) {
        self.disconnect(index);
        wire.close(index, at_once);
    }
}

/// How a shard waits for others to write, which takes them microseconds: by looking again and again at first, then by letting a
/// thread run that may have its core, at last by sleeping, when a disk must be at work.
#[derive(Default)]
struct Patience {
    looks: u32,
}

const SPINS_MAX: u32 = 100;
const YIELDS_MAX: u32 = 1000;
const NAP: Duration = Duration::from_micros(50);

impl Patience {
    fn wait(&mut self) {
        self.looks += 1;
        match self.looks {
            0..SPINS_MAX => std::hint::spin_loop(),
            SPINS_MAX..YIELDS_MAX => std::thread::yield_now(),
            _ => std::thread::sleep(NAP),
        }
    }
}

/// Rule 5: keeps back of a client's output what waits for the disk, and puts into it what does not any more. True: nothing waits. `number`:
/// that of the pass.
#[cold]
fn hold_back(client: &mut Client, env: &Env, number: Option<u64>) -> bool {
    let durable = env.durable();
    let holds = env.promises.hold();
    let prefix = durable.prefix();
    let is_met = |need: Need| !holds || need.is_met(prefix);
    client.need = client
        .need
        .resolved(number.unwrap_or_else(|| durable.last_number(env.shard)));
    let Client { need, held, out, .. } = client;
    if !out.is_empty() && (held.is_some() || !is_met(*need)) {
        held.get_or_insert_default().push(*need, out);
    }
    if is_met(*need) {
        *need = Need::NONE;
    }
    if let Some(replies) = held {
        replies.release(out, is_met);
        if replies.is_empty() {
            *held = None;
        }
    }
    held.is_none()
}

fn corked_until(since: Ticks) -> Ticks {
    Ticks(since.0 + CORKED_AT_MOST.as_nanos() as u64)
}

/// Stops reading from a peer that sends on while an earlier request of it is under way.
fn throttle(client: &mut Client, wire: &mut impl Wire) {
    // Who is blocked may be so for days: that its peer has gone is seen only by reading.
    let reads = matches!(client.stall, Stall::Not | Stall::Blocked) || client.query_bytes() <= STALLED_QUERY_BYTES_MAX;
    if reads != client.is_read {
        client.is_read = reads;
        wire.read_on(client.place.index, reads);
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{KeyspaceEvents, Settings};
    use crate::engine::assembly::Assembly;
    use crate::engine::wire::{Handed, Wire};
    use crate::engine::{Audience, Command, Event, Message, Op, Registry, Run};
    use crate::resp::{ReplyBuf, ReplyError};
    use crate::shard::ShardId;
    use crate::spec::{KeyFlags, KeySpec, command};
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::sync::Arc;

    const COMMANDS: &[Command] = &[
        Command {
            arity: 2,
            keys: &[KeySpec::one(1, KeyFlags::RW)],
            ..command("put", Run::Keys(|op| change(op, Audience::Both)))
        },
        Command {
            arity: 2,
            keys: &[KeySpec::one(1, KeyFlags::RW)],
            ..command("tell", Run::Keys(tell))
        },
        Command {
            arity: 2,
            keys: &[KeySpec::one(1, KeyFlags::RW)],
            ..command("cry", Run::Keys(|op| change(op, Audience::Stream)))
        },
    ];

    fn change(op: &mut Op, audience: Audience) -> Result<(), ReplyError> {
        op.logs_for(audience);
        op.changed(1);
        op.reply.ok();
        Ok(())
    }

    fn tell(op: &mut Op) -> Result<(), ReplyError> {
        let key = op.args.at(1);
        op.wrote(key, Event::generic("told"));
        op.reply.ok();
        Ok(())
    }

    /// Connections to which nothing can be written.
    struct Deaf;

    impl Wire for Deaf {
        fn send(&mut self, _: u32, _: &mut ReplyBuf) -> Handed {
            Handed::Busy
        }
        fn queued_bytes(&self, _: u32) -> usize {
            0
        }
        fn read_on(&mut self, _: u32, _: bool) {}
        fn close(&mut self, _: u32, _: bool) {}
        fn wake(&mut self, _: ShardId) {}
    }

    #[test]
    fn a_shard_that_runs_for_long_holds_no_message_back() {
        let assembly = assembly();
        let (here, there) = (assembly.key_on(0, 0), assembly.key_on(1, 0));
        for shard in &assembly.shards {
            let env = &mut shard.borrow_mut().env;
            let settings = Settings {
                notify_keyspace_events: KeyspaceEvents::ALL.union(KeyspaceEvents::KEYEVENT),
                ..(*env.settings).clone()
            };
            env.follow(Arc::new(settings));
        }
        let heard = Rc::<RefCell<Vec<(u64, Box<[u8]>)>>>::default();
        let hears = heard.clone();
        let mut listening = assembly.shards[0].borrow_mut();
        listening.listen(Box::new(move |turn, events| {
            let keys = events.iter().map(|message| match message {
                Message::Event(event, _) => (turn, event.key.clone()),
                Message::Post(_) | Message::Command(_) | Message::Invalidation(_) => {
                    unreachable!("nobody publishes, watches or caches")
                }
            });
            hears.borrow_mut().extend(keys);
        }));
        let mut busy = assembly.shards[1].borrow_mut();
        listening.begin_pass();
        listening.receive(0, format!("tell {there}\r\n").as_bytes());
        listening.finish_pass(&mut Deaf);
        // The other shard has run that, and is in the middle of something long.
        busy.begin_pass();
        busy.run_pass(&mut Deaf);
        listening.begin_pass();
        listening.receive(0, format!("tell {here}\r\n").as_bytes());
        listening.finish_pass(&mut Deaf);
        listening.begin_pass();
        listening.finish_pass(&mut Deaf);
        let expected = [(1, here.as_bytes().into()), (2, there.as_bytes().into())];
        assert_eq!(heard.borrow()[..], expected[..1]);
        assert!(busy.take_turn().is_some());
        listening.begin_pass();
        listening.finish_pass(&mut Deaf);
        assert_eq!(heard.borrow().len(), 1, "it has not left yet");
        assert!(busy.write_pass() && busy.may_release());
        busy.release_pass(&mut Deaf);
        listening.begin_pass();
        listening.finish_pass(&mut Deaf);
        assert_eq!(heard.borrow()[..], expected);
    }

    fn assembly() -> Assembly {
        let registry = Box::leak(Box::new(Registry::new(&[COMMANDS], &[]).unwrap()));
        Assembly::new(registry, 2)
    }

    #[test]
    fn no_turn_is_taken_where_nobody_wants_one() {
        let assembly = assembly();
        let keys = [assembly.key_on(0, 0), assembly.key_on(1, 0)];
        let turns = assembly.shards[0].borrow().node.turns.clone();
        let put_all = || {
            for key in &keys {
                assert_eq!(assembly.run(&[b"put", key.as_bytes()]), b"+OK\r\n");
            }
        };
        put_all();
        assert_eq!(turns.counter(), 0);
        let reader = assembly.shards[1].borrow_mut().log().subscribe();
        put_all();
        // A log that is read makes all take turns, as the slots may be anywhere.
        assert_eq!(turns.counter(), 2);
        assembly.shards[1].borrow_mut().log().unsubscribe(reader);
        put_all();
        assert_eq!(turns.counter(), 2);
    }

    #[test]
    fn a_command_says_who_gets_what_it_logs() {
        let assembly = assembly();
        let written = Rc::<RefCell<Vec<String>>>::default();
        struct File(Rc<RefCell<Vec<String>>>);
        impl crate::engine::log::LogFile for File {
            fn write(&mut self, chunk: &crate::engine::log::Chunk) -> bool {
                self.0
                    .borrow_mut()
                    .push(String::from_utf8(chunk.file().bytes.clone()).unwrap());
                true
            }
        }
        let key = assembly.key_on(0, 0);
        assembly.shards[0]
            .borrow_mut()
            .log()
            .attach_file(Box::new(File(written.clone())));
        let reader = assembly.shards[0].borrow_mut().log().subscribe();
        assembly.run(&[b"cry", key.as_bytes()]);
        assembly.run(&[b"put", key.as_bytes()]);
        let chunks = assembly.shards[0].borrow_mut().log().read(reader).unwrap();
        let stream: Vec<_> = chunks
            .iter()
            .map(|chunk| chunk.stream().bytes.windows(3).any(|word| word == b"cry"))
            .collect();
        assert_eq!(stream, [true, false]);
        let written = written.borrow();
        assert!(written.len() == 1 && written[0].contains("put"), "{written:?}");
    }
}
