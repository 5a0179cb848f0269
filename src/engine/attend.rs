//! Clients who are looked after while a script does not end.
//!
//! A script that is busy holds its shard's thread, and all connections of that thread would hang with it. But an interpreter asks now and then whether
//! it shall go on, and that is a moment at which the thread can look at its sockets ([`Env::attend`]): connections are accepted, what has come is
//! read, and answered: with BUSY, but for the few commands that may be called then (the flag `allow_busy`). The script's unit of work stands
//! still meanwhile, with everything that it has borrowed; so nothing here touches a slot, and what would have to waits until the script is over.
//!
//! ```text
//!   the loop ─> a unit of work ─> a script ─> its interpreter asks ─> attend ─> the sockets, the clients in the lobby
//! ```
//!
//! Order is kept as it is elsewhere. Who has a command under way, or replies that wait, is not answered before these: what he sends is kept. So
//! it is with the client of the script itself. What the pass has produced before the script is released when the pass ends; a client for whom some of that
//! stands in his output is answered here only if it shows nothing that must wait (the pass has logged and told nothing so far).
//!
//! What clients of other shards have sent here before the script was busy waits in the links, which are in the middle of being read as a rule.
//!
//! Invariants: (1) no unit of work begins here; (2) whatever is sent here shows what earlier passes have released, or nothing; (3) the
//! time, the random numbers and the attempt of the unit that stands still are as they were.

use super::clients::Clients;
use super::env::{Attendant, Env};
use super::gates::{Refusal, may_run_while_busy};
use super::literal::{Control, Registered, Registry, Run};
use super::pass::STALLED_QUERY_BYTES_MAX;
use super::run::run_session;
use super::transaction::{self, Controlled};
use super::wire::{Handed, Wire};
use crate::client::{Client, ReplyMode, Stall};
use crate::resp::{Args, Reply, ReplyError, RequestLimits, Step, error};
use crate::shard::durable::Need;
use crate::spec::Flags;
use std::rc::Rc;

/// The sockets of a shard, as far as its clients are looked after by them.
pub trait Sockets: Wire {
    /// Looks, without waiting, what has happened.
    fn poll(&mut self);
    /// Hands the next thing that has happened to the desk; false: there is nothing more.
    fn next(&mut self, desk: &mut Desk<'_>) -> bool;
}

/// What has become of something that was handed to the desk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    Taken,
    /// It concerns the client whose command runs: it is to be handled, with all that follows for that client, when the shard can.
    Later,
}

/// Looks after the clients of one shard by these sockets.
struct Attendance<S> {
    sockets: S,
    registry: &'static Registry,
}

/// Somebody who looks after the clients of a shard by these sockets.
pub fn attendant<S: Sockets + Clone + 'static>(sockets: S, registry: &'static Registry) -> Rc<dyn Attendant> {
    Rc::new(Attendance { sockets, registry })
}

impl<S: Sockets + Clone> Attendant for Attendance<S> {
    fn attend(&self, env: &mut Env) {
        let Some(mut clients) = env.lobby.clients.take() else {
            return;
        };
        // As of the beginning of the pass nothing was busy, and what comes behind the script in it finds it so again.
        let refusal = env.node().busy_scripts.refusal();
        let before = std::mem::replace(&mut env.busy, refusal);
        let mut desk = Desk {
            env,
            clients: &mut clients,
            registry: self.registry,
            served: Vec::new(),
        };
        let mut sockets = self.sockets.clone();
        if !std::mem::replace(&mut desk.env.lobby.is_attended, true) {
            (0..desk.clients.index_end()).for_each(|index| desk.look_at(index));
        }
        sockets.poll();
        while sockets.next(&mut desk) {}
        for (index, is_free) in std::mem::take(&mut desk.served) {
            match is_free {
                true => desk.hand_over(index, &mut sockets),
                false => desk.hold_back(index, &mut sockets),
            }
        }
        env.busy = before;
        env.lobby.clients = Some(clients);
    }
}

impl Env {
    /// Looks after the clients of this shard, in the midst of a unit of work that takes long.
    pub fn attend(&mut self) {
        if let Some(attendant) = self.attendant.clone() {
            attendant.attend(self);
        }
    }
}

/// Where clients are served meanwhile.
pub struct Desk<'a> {
    pub env: &'a mut Env,
    pub clients: &'a mut Clients,
    registry: &'static Registry,
    /// Clients that were looked at, and whether they may be answered.
    served: Vec<(u32, bool)>,
}

/// What has become of a request.
enum Answer {
    Given,
    /// It waits until the script is over, and so does what comes behind it.
    Waits,
}

impl Desk<'_> {
    /// Bytes have come.
    pub fn received(&mut self, index: u32, bytes: &[u8]) -> Taken {
        let Some(client) = self.clients.at(index) else {
            return Taken::Later;
        };
        self.env.stats.counts.reads_processed += 1;
        self.env.stats.counts.input_bytes += bytes.len() as u64;
        client.last_interaction = self.env.now;
        if !client.is_closing {
            client.query.extend_from_slice(bytes);
        }
        self.look_at(index);
        Taken::Taken
    }

    /// All that was taken of a client's output is written.
    pub fn drained(&mut self, index: u32) -> Taken {
        if self.clients.at(index).is_none() {
            return Taken::Later;
        }
        self.look_at(index);
        Taken::Taken
    }

    /// The peer sends nothing more.
    pub fn ended(&mut self, index: u32) -> Taken {
        let Some(client) = self.clients.at(index) else {
            return Taken::Later;
        };
        client.is_half_closed = true;
        self.look_at(index);
        Taken::Taken
    }

    /// Answers what a client has sent, as far as it can be answered.
    fn look_at(&mut self, index: u32) {
        let Some(mut client) = self.clients.take(index) else {
            return;
        };
        let shows_nothing_new = client.out.is_empty() || self.has_produced_nothing();
        let owes_nothing = client.pending.is_empty() && client.need == Need::NONE && client.held.is_none();
        let is_free = client.stall == Stall::Not && owes_nothing && shows_nothing_new && !client.is_killed;
        if is_free && !client.is_closing && client.query_bytes() > 0 {
            self.answer(&mut client);
        } else if !is_free {
            client.has_waiting_requests |= client.query_bytes() > 0;
        }
        self.served.push((index, is_free));
        self.clients.put_back(client);
        // For what is left to be done when the script is over.
        self.clients.list(index);
    }

    /// Whether all that stands in the outputs of clients may be sent before the pass ends.
    fn has_produced_nothing(&self) -> bool {
        !self.env.log.has_gathered() && self.env.messages.is_empty() && !self.env.holds
    }

    /// Answers the requests in a client's buffer.
    fn answer(&mut self, client: &mut Client) {
        let query = std::mem::take(&mut client.query);
        let mut position = std::mem::take(&mut client.query_start);
        let mut parser = std::mem::take(&mut client.parser);
        client.has_waiting_requests = false;
        while position < query.len() && !client.is_closing {
            let limits = RequestLimits {
                bulk_bytes_max: self.env.settings.proto_max_bulk_len,
                is_authentication_pending: !client.session.is_authenticated,
            };
            match parser.next(&query[position..], &limits) {
                Ok(Step::Request { consumed }) => {
                    let args = parser.args(&query[position..position + consumed]);
                    match self.request_in_its_mode(client, args) {
                        Answer::Given => position += consumed,
                        Answer::Waits => {
                            client.has_waiting_requests = true;
                            break;
                        }
                    }
                }
                Ok(Step::Skip { consumed }) => position += consumed,
                Ok(Step::Incomplete { needed }) => {
                    client.needed_bytes = needed.unwrap_or(0);
                    break;
                }
                Err(refused) => {
                    self.fail(client, &refused.reply_error());
                    client.is_closing = true;
                }
            }
        }
        client.parser = parser;
        if !client.is_closing {
            client.query = query;
            client.query.drain(..position);
            client.reserve_query();
        }
    }

    /// One request, under whatever CLIENT REPLY has said.
    fn request_in_its_mode(&mut self, client: &mut Client, args: Args) -> Answer {
        let mode = client.session.reply_mode;
        if mode == ReplyMode::On {
            return self.request(client, args);
        }
        let mark = client.out.mark();
        let answer = self.request(client, args);
        if matches!(answer, Answer::Given) && client.is_silent() {
            client.out.truncate(mark);
            if mode == ReplyMode::SkipNext {
                client.session.reply_mode = ReplyMode::On;
            }
        }
        answer
    }

    fn request(&mut self, client: &mut Client, args: Args) -> Answer {
        let found = match self.registry.resolve_after(client.last_command, args) {
            Ok(found) => found,
            Err(error) => return self.reject(client, None, &error),
        };
        match may_run_while_busy(self.env, self.registry, client, found, args) {
            Ok(()) => {}
            Err(Refusal::Error(error)) => return self.reject(client, Some(found), &error),
            Err(Refusal::Postponed(_)) => return Answer::Waits,
        }
        let run = found.command.while_busy.unwrap_or(found.command.run);
        let acts_inside_multi = matches!(run, Run::Transaction(control) if control != Control::Unwatch);
        if let Some(transaction) = &mut client.transaction
            && !acts_inside_multi
        {
            if found.command.flags.contains(Flags::NO_MULTI) {
                return self.reject(client, Some(found), &error::NOT_ALLOWED_IN_MULTI);
            }
            transaction.queue(found.id, args);
            let proto = client.session.proto;
            Reply::new(&mut client.out, proto).simple("QUEUED");
            return Answer::Given;
        }
        let answer = match run {
            Run::Session(_) => {
                self.run_session(client, found, args);
                Answer::Given
            }
            Run::Transaction(control) => self.control(client, control, found, args),
            // What is over keys, or asks other shards, has a way to run while a script is busy, or is none of the commands that do.
            _ => Answer::Waits,
        };
        if matches!(answer, Answer::Given) {
            client.last_command = Some(found.id);
        }
        answer
    }

    fn run_session(&mut self, client: &mut Client, found: &'static Registered, args: Args) {
        // The script's own calls may have left some.
        let others = self.env.stats.take_slow_entries();
        let node = self.env.node().clone();
        let Client { session, out, .. } = client;
        let counted = run_session(found, args, session, false, self.env, &node, self.registry, out);
        counted.count(&mut self.env.stats);
        self.env.note_slow(found.command, args, counted.elapsed_us);
        for mut entry in self.env.stats.take_slow_entries() {
            entry.set_client(&client.session.address, &client.session.name);
            self.env.stats.slow_log.push(entry);
        }
        self.env.stats.put_slow_entries_back(others);
        client.is_closing |= client.session.closes;
        client.follow_session();
        if self.env.shows_commands() {
            self.env.show(found.command, args, &client.session);
        }
    }

    /// A command that controls the transaction: as far as it needs no slots, and changes nothing of what its client listens to.
    fn control(&mut self, client: &mut Client, control: Control, found: &'static Registered, args: Args) -> Answer {
        let session = &client.session;
        let listens = session.subscriptions.is_some() || session.is_monitor || session.tracking.is_some();
        let needs_slots = control == Control::Watch && !client.is_in_transaction();
        if needs_slots || control == Control::Reset && listens {
            return Answer::Waits;
        }
        let node = self.env.node().clone();
        let is_open = self.env.settings.requirepass.is_empty();
        let step = transaction::control(client, control, found, args, self.registry, &node, is_open);
        let Controlled::Answer { reply, unwatches } = step else {
            unreachable!("what needs slots waits, and EXEC is refused")
        };
        if unwatches {
            self.env.lobby.forgotten.append(&mut client.watched);
        }
        match reply {
            Ok(text) => {
                self.env.stats.count_call(found.id, 0);
                let proto = client.session.proto;
                Reply::new(&mut client.out, proto).simple(text);
            }
            Err(error) => {
                self.env.stats.count_failure(found.id, 0);
                self.fail(client, &error);
            }
        }
        if self.env.shows_commands() {
            self.env.show(found.command, args, &client.session);
        }
        Answer::Given
    }

    fn reject(&mut self, client: &mut Client, found: Option<&'static Registered>, error: &ReplyError) -> Answer {
        if let Some(found) = found {
            self.env.stats.count_rejection(found.id);
        }
        if let Some(transaction) = &mut client.transaction {
            transaction.is_aborted = true;
        }
        match found {
            // An EXEC that is refused ends the transaction all the same, and says so.
            Some(found) if matches!(found.command.run, Run::Transaction(Control::Exec)) => {
                client.transaction = None;
                self.env.lobby.forgotten.append(&mut client.watched);
                self.fail(client, &error::exec_aborted_because(error));
            }
            _ => self.fail(client, error),
        }
        Answer::Given
    }

    fn fail(&mut self, client: &mut Client, error: &ReplyError) {
        self.env.stats.count_error(error);
        let proto = client.session.proto;
        Reply::new(&mut client.out, proto).error(error);
    }

    /// Sends what a client was answered, and ends its connection if it is over.
    fn hand_over(&mut self, index: u32, wire: &mut impl Wire) {
        let Some(client) = self.clients.at(index) else { return };
        let output_bytes = client.out.len() as u64;
        if output_bytes > 0 {
            match wire.send(index, &mut client.out) {
                Handed::Taken => {
                    self.env.stats.counts.output_bytes += output_bytes;
                    self.env.stats.counts.writes_processed += 1;
                }
                // It comes again when that is written.
                Handed::Busy => return,
                Handed::Gone => {}
            }
        }
        let is_over = client.is_closing || client.is_half_closed && !client.has_waiting_requests;
        if is_over && let Some(mut client) = self.clients.remove(index) {
            self.env.stop_listening(&mut client.session);
            self.env.lobby.gone.push(*client);
            wire.close(index, false);
        } else {
            self.hold_back(index, wire);
        }
    }

    /// Reads no more from a client that sends on and on what is not answered; beyond the limit it ends when the script is over.
    fn hold_back(&mut self, index: u32, wire: &mut impl Wire) {
        let bytes_max = self.env.settings.client_query_buffer_limit as usize;
        let Some(client) = self.clients.at(index) else { return };
        if client.query.len() > bytes_max && !client.is_killed {
            self.env.stats.counts.query_limit_disconnections += 1;
            client.is_killed = true;
            client.is_closing = true;
        }
        // It is read on when the pass ends.
        if client.query_bytes() > STALLED_QUERY_BYTES_MAX && std::mem::take(&mut client.is_read) {
            wire.read_on(index, false);
        }
    }
}
