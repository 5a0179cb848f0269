//! From a client's bytes to a command that runs: the way of every request.
//!
//! ```text
//! bytes -> parse -> find -> rules (arity, auth, MULTI, pause) -> where?
//!                                                                 |- session command ........ here, now
//!                                                                 |- slots at home, free .... here, now: over the request's own bytes
//!                                                                 |- one slot, elsewhere .... shipped as bytes; the reply takes its place later
//!                                                                 |- several shards, lent ... a Task
//!                                                                 '- asynchronous ........... a future
//! ```
//!
//! Order within a connection: replies always leave in the order of the requests. A command on a single slot may start
//! while earlier ones of the same kind are still under way on other shards; every other command waits until all
//! before it are answered, and what comes after it waits for its answer (`pipeline-order strict` makes the first kind
//! wait as well, unless it goes to the same shard as those under way). Commands over the session run at once: what
//! they change was copied by the commands before them.

use super::evict::runs_over_keys;
use super::local::{Envelope, Local, Observation, REPLY_TO_WRITE};
use super::op::Journal;
use super::task::{ExecStep, Outcome, Task, TaskKind, run_keys, run_session};
use super::transaction::Control;
use super::{Caller, Registered, Run};
use crate::base::limits::REQUEST_ARGS_KEPT_MAX;
use crate::base::slot::key_slot;
use crate::client::{Client, Queued, ReplyMode, Stall};
use crate::config::PipelineOrder;
use crate::resp::{Args, OwnedArgs, Proto, Reply, ReplyBuf, ReplyError, RequestLimits, Step, error};
use crate::shard::link::{CommandHeader, ReplyHeader};
use crate::shard::{ConnRef, Footprint, Route, ShardId, SlotSet, Unit};
use crate::spec::{Flags, Protection};
use crate::store::DbIndex;

/// A command's bytes beyond which it goes to another shard as an object of its own instead of a copy in the link's ring.
const SHIPPED_BYTES_MAX: usize = 16 * 1024;

/// Fewer bytes than this hold hardly two requests, and are run without looking ahead.
const FORESEEN_BYTES_MIN: usize = 48;

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// It was answered, or will be; go on with the next one.
    Go,
    /// It has begun, and nothing else may before it is answered.
    Started,
    /// It has not begun; try again later.
    Wait(Stall),
}

const CALLER_RESP3: u16 = 1;
const CALLER_LEAVES_CLOCKS: u16 = 2;
const CALLER_IS_LOCAL: u16 = 4;
const CALLER_WRITES: u16 = 8;
const CALLER_IS_SILENT: u16 = 16;

impl Local {
    /// Takes bytes that a client has sent, and runs the requests in them.
    pub fn receive(&mut self, index: u32, data: &[u8]) {
        let Some(mut client) = self.clients.take(index) else {
            return;
        };
        client.last_interaction = self.env.now;
        self.env.stats.input_bytes += data.len() as u64;
        if client.is_closing {
            // What comes after QUIT or a protocol error is not read.
        } else if client.query.is_empty() && client.stall == Stall::Not {
            let consumed = self.run_requests(&mut client, data);
            if consumed < data.len() {
                client.reserve_query();
                client.query.extend_from_slice(&data[consumed..]);
            }
        } else {
            client.query.extend_from_slice(data);
            self.under_way.count_input(&mut client);
            if client.stall == Stall::Not {
                self.run_query(&mut client);
            } else {
                client.has_waiting_requests = true;
            }
        }
        self.check_query_limit(&mut client);
        self.put_back(client);
    }

    /// Goes on with requests that were received before.
    pub(super) fn resume(&mut self, index: u32) {
        let Some(mut client) = self.clients.take(index) else {
            return;
        };
        if client.stall == Stall::Not && !client.is_closing {
            self.run_query(&mut client);
        }
        self.put_back(client);
    }

    /// Puts a client that was at work back into its place, and does what had to wait for that.
    fn put_back(&mut self, mut client: Box<Client>) {
        let place = client.place;
        self.under_way.count_input(&mut client);
        self.under_way.count_output(&mut client);
        self.clients.put_back(client);
        self.list(place.index);
        if self.env.stats.has_slow_entries() {
            let entries = self.env.stats.take_slow_entries();
            self.log_slow(place, entries);
        }
        self.post();
    }

    /// Runs the requests in the client's own buffer.
    fn run_query(&mut self, client: &mut Client) {
        let mut query = std::mem::take(&mut client.query);
        let start = std::mem::take(&mut client.query_start);
        let consumed = start + self.run_requests(client, &query[start..]);
        if consumed == query.len() {
            // An idle connection keeps no buffer.
            query = Vec::new();
        } else if consumed >= query.len() / 2 {
            // What moves is at most as much as was consumed, so moving costs a constant for each byte.
            query.drain(..consumed);
        } else {
            client.query_start = consumed;
        }
        client.query = query;
        client.reserve_query();
    }

    /// Runs requests from the beginning of `bytes`; returns how many bytes were consumed.
    fn run_requests(&mut self, client: &mut Client, bytes: &[u8]) -> usize {
        let mut parser = std::mem::take(&mut client.parser);
        let mut limits = self.request_limits(client);
        let mut position = 0;
        let mut foreseen_until = 0;
        while position < bytes.len() {
            if client.out.len() >= self.env.reply_bytes_max {
                // It will be disconnected for that: nothing more is done for it.
                client.has_waiting_requests = true;
                break;
            }
            // A request that has begun was looked at when it began: to look again at each read would be quadratic.
            if position >= foreseen_until && bytes.len() - position >= FORESEEN_BYTES_MIN && !parser.is_within_request()
            {
                // Whatever was looked through or not, the next look is further on.
                foreseen_until = position + self.foresee(client, &bytes[position..]).max(FORESEEN_BYTES_MIN);
            }
            match parser.next(&bytes[position..], &limits) {
                Ok(Step::Request { consumed }) => {
                    let args = parser.args(&bytes[position..position + consumed]);
                    if self.env.settings.echo_ceiling {
                        client.out.push(b"+OK\r\n");
                        position += consumed;
                        continue;
                    }
                    match self.request(client, args) {
                        Flow::Go => position += consumed,
                        Flow::Started => {
                            position += consumed;
                            client.has_waiting_requests = position < bytes.len();
                            break;
                        }
                        Flow::Wait(stall) => {
                            client.has_waiting_requests = true;
                            client.stall = stall;
                            break;
                        }
                    }
                    if client.is_closing {
                        position = bytes.len();
                        break;
                    }
                    limits.is_authentication_pending = !client.session.is_authenticated;
                }
                Ok(Step::Skip { consumed }) => position += consumed,
                Ok(Step::Incomplete { needed }) => {
                    client.needed_bytes = needed.unwrap_or(0);
                    break;
                }
                Err(refused) => {
                    let proto = client.session.proto;
                    let error = refused.reply_error();
                    self.env.stats.count_error(&error);
                    Reply::new(client.reply_buffer(), proto).error(&error);
                    client.is_closing = true;
                    position = bytes.len();
                    break;
                }
            }
        }
        client.parser = parser;
        self.foreseen.clear();
        position
    }

    fn request_limits(&self, client: &Client) -> RequestLimits {
        RequestLimits {
            bulk_bytes_max: self.env.settings.proto_max_bulk_len,
            is_authentication_pending: !client.session.is_authenticated,
        }
    }

    /// A client whose unread requests take too much is disconnected.
    fn check_query_limit(&mut self, client: &mut Client) {
        client.usage.note(client.query.len(), 0);
        if !client.is_killed && client.query.len() > self.env.settings.client_query_buffer_limit as usize {
            tracing::warn!(
                "Closing client that reached max query buffer length: id={} addr={} qbuf={}",
                client.session.id,
                client.session.address,
                client.query.len()
            );
            self.env.stats.query_limit_disconnections += 1;
            client.is_killed = true;
            client.is_closing = true;
        }
    }

    /// One request.
    #[inline]
    fn request(&mut self, client: &mut Client, args: Args) -> Flow {
        let registry = self.env.registry;
        let found = match registry.resolve_after(client.last_command, args) {
            Ok(found) => found,
            Err(error) => return self.refuse_unknown(client, args, &error),
        };
        let command = found.command;
        if (found.is_inner || found.is_guarded())
            && let Err(error) = self.pass_guard(client, found, args)
        {
            return self.reject(client, Some(found), &error);
        }
        if !command.accepts(args.len()) || matches!(command.run, Run::Container) {
            return self.reject(client, Some(found), &error::wrong_arity(&found.full_name));
        }
        if let Some(protection) = command.protection
            && let Err(error) = self.check_protection(client, protection)
        {
            return self.reject(client, Some(found), &error);
        }
        if !client.session.is_authenticated && !command.flags.contains(Flags::NO_AUTH) && self.wants_password() {
            return self.reject(client, Some(found), &error::NO_AUTH);
        }
        if self.env.pause.is_some() && self.is_paused(client, found, args) {
            self.paused.push(client.place);
            return Flow::Wait(Stall::Paused);
        }
        if self.env.settings.maxmemory > 0 {
            if runs_over_keys(&command.run) {
                self.under_way.count_output(client);
                self.relieve();
            }
            if self.is_out_of_memory(client, found) {
                return self.reject(client, Some(found), &error::OUT_OF_MEMORY);
            }
        }
        client.last_command = Some(found.id);
        if client.session.reply_mode == ReplyMode::On {
            return self.run(client, found, args);
        }
        self.run_silenced(client, found, args)
    }

    /// Whether the parameter that protects a command lets this client call it.
    #[cold]
    fn check_protection(&self, client: &Client, protection: Protection) -> Result<(), ReplyError> {
        let (permission, refusal) = match protection {
            Protection::ModuleCommand => (self.env.settings.enable_module_command, error::MODULE_NOT_ALLOWED),
        };
        match permission.allows(client.session.is_local) {
            true => Ok(()),
            false => Err(refusal),
        }
    }

    /// The rule of a container whose subcommands are its own affair: arity, guard, password, then the subcommand.
    #[cold]
    fn pass_guard(&self, client: &Client, found: &Registered, args: Args) -> Result<(), ReplyError> {
        let container = match found.parent {
            Some(parent) if found.is_inner => self.env.registry.get(parent),
            _ => found,
        };
        let Run::Guarded(guarded) = container.command.run else {
            unreachable!("only a guarded container has inner commands")
        };
        if !container.command.accepts(args.len()) {
            return Err(error::wrong_arity(&container.full_name));
        }
        (guarded.guard)(&self.env.settings, client.session.is_local)?;
        if !client.session.is_authenticated && self.wants_password() {
            return Err(error::NO_AUTH);
        }
        if !found.is_inner || !found.command.accepts(args.len()) {
            return Err(error::unknown_subcommand_or_arity(container.command.name, args.at(1)));
        }
        Ok(())
    }

    /// Whether clients must authenticate: the password may have been taken away since they came.
    fn wants_password(&self) -> bool {
        !self.env.settings.requirepass.is_empty()
    }

    /// A request that names no command. One that begins like HTTP was sent by a browser that somebody has tricked into
    /// talking to this port: its connection ends before it can send more.
    fn refuse_unknown(&mut self, client: &mut Client, args: Args, error: &ReplyError) -> Flow {
        if args[0].eq_ignore_ascii_case(b"post") || args[0].eq_ignore_ascii_case(b"host:") {
            tracing::warn!(
                "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: commands to Redis. \
                 This is likely due to an attacker attempting to use Cross Protocol Scripting to compromise your Redis \
                 instance. Connection from {} aborted.",
                client.session.address
            );
            client.is_closing = true;
            client.is_killed = true;
            return Flow::Go;
        }
        self.reject(client, None, error)
    }

    /// Commands that are not queued by MULTI.
    fn acts_inside_multi(&self, found: &Registered) -> bool {
        matches!(found.command.run, Run::Transaction(control) if control != Control::Unwatch)
    }

    fn run(&mut self, client: &mut Client, found: &Registered, args: Args) -> Flow {
        if client.transaction.is_some() && !self.acts_inside_multi(found) {
            return self.queue(client, found, args);
        }
        match found.command.run {
            Run::Keys(_) | Run::Reaching(..) | Run::Slots(..) | Run::Everything(_) => {
                self.run_over_slots(client, found, args)
            }
            Run::Session(_) => {
                let buffer = if client.pending.is_empty() {
                    &mut client.out
                } else {
                    client.pending.tail()
                };
                let counted = run_session(found, args, &mut client.session, false, &mut self.env, buffer);
                counted.count(&mut self.env.stats);
                self.env.note_slow(found, args, counted.elapsed_us);
                client.is_closing |= client.session.closes;
                Flow::Go
            }
            Run::Node(_) => self.start_asynchronous(client, found, args),
            Run::Transaction(control) => self.control(client, control, found, args),
            Run::Container | Run::Guarded(_) => unreachable!("a container was refused by its arity"),
        }
    }

    /// Runs a command under `CLIENT REPLY OFF` or `SKIP`: its reply is taken away again.
    fn run_silenced(&mut self, client: &mut Client, found: &Registered, args: Args) -> Flow {
        if client.session.reply_mode == ReplyMode::SkipNext {
            client.session.reply_mode = ReplyMode::Skipping;
        }
        let mark = client.reply_buffer().mark();
        let flow = self.run(client, found, args);
        match flow {
            Flow::Wait(_) => {
                // The request comes again.
                if client.session.reply_mode == ReplyMode::Skipping {
                    client.session.reply_mode = ReplyMode::SkipNext;
                }
                return flow;
            }
            // CLIENT REPLY ON has set it to on by now, and is itself answered, SKIP before it or not.
            Flow::Go if !client.pending.is_last_unanswered() && client.session.reply_mode != ReplyMode::On => {
                client.reply_buffer().truncate(mark);
            }
            // The reply comes later: its place was reserved as silent.
            _ => {}
        }
        if client.session.reply_mode == ReplyMode::Skipping {
            client.session.reply_mode = ReplyMode::On;
        }
        flow
    }

    /// Whether a reply that comes later is to be dropped.
    pub(super) fn is_silent(&self, client: &Client) -> bool {
        client.session.reply_mode != ReplyMode::On
    }

    #[inline]
    fn run_over_slots(&mut self, client: &mut Client, found: &Registered, args: Args) -> Flow {
        if let Some(position) = found.single_key {
            let key = &args[position];
            let slot = self.foreseen.take_slot(key).unwrap_or_else(|| key_slot(key));
            let owner = self.core.owner(slot);
            if owner == self.env.shard {
                return self.run_here(client, found, args, &[slot], Some((key, slot)));
            }
            return self.ship(client, found, args, slot, owner);
        }
        let footprint = match found.command.run.footprint(found.command, args) {
            Some(Ok(footprint)) => footprint,
            Some(Err(error)) => {
                self.fail_now(client, found, &error);
                return Flow::Go;
            }
            None => unreachable!("commands over slots have a footprint"),
        };
        // What may reach further is a command on a single slot by chance only, and overtakes nothing.
        if let Footprint::Slots(slots) = &footprint
            && let [slot] = *slots.as_slice()
            && !found.command.run.may_reach_further()
        {
            let owner = self.core.owner(slot);
            if owner == self.env.shard {
                return self.run_among(client, found, args, &[slot]);
            }
            return self.ship(client, found, args, slot, owner);
        }
        if !client.pending.is_empty() {
            return Flow::Wait(Stall::Barrier);
        }
        if let (Footprint::Slots(slots), Route::Here) = (&footprint, self.core.route(&footprint)) {
            let slots = slots.clone();
            self.foresee_keys(found, args, DbIndex(client.session.db));
            return self.run_among(client, found, args, slots.as_slice());
        }
        let task = Task::new(client, found.id, TaskKind::Command { args: args.to_owned() });
        self.start(client, task, footprint)
    }

    /// As [`Local::run_here`], for a command whose slots are not just that of its only key.
    #[inline(never)]
    fn run_among(&mut self, client: &mut Client, found: &Registered, args: Args, slots: &[u16]) -> Flow {
        self.run_here(client, found, args, slots, None)
    }

    /// Runs a command whose slots are at home here.
    #[inline(always)]
    fn run_here(
        &mut self,
        client: &mut Client,
        found: &Registered,
        args: Args,
        slots: &[u16],
        first: Option<(&[u8], u16)>,
    ) -> Flow {
        if !client.pending.is_empty() {
            if self.is_strict() && client.pending_home != Some(self.env.shard) {
                return Flow::Wait(Stall::Barrier);
            }
            if client.pending.is_full() {
                return Flow::Wait(Stall::Full);
            }
        }
        self.env.begin_unit();
        let caller = Caller::of(&client.session);
        let Some(mut view) = self.core.try_view(slots, client.place) else {
            if let [slot] = *slots
                && !found.command.run.may_reach_further()
            {
                return self.start_single(client, found, args, slot);
            }
            let task = Task::new(client, found.id, TaskKind::Command { args: args.to_owned() });
            let footprint = Footprint::Slots(slots.iter().copied().collect());
            return self.start(client, task, footprint);
        };
        let mut journal = Journal::default();
        let buffer = if client.pending.is_empty() {
            &mut client.out
        } else {
            client.pending.tail()
        };
        let outcome = run_keys(
            found,
            args,
            &caller,
            first,
            &mut view,
            &mut journal,
            &mut self.env,
            buffer,
        );
        match outcome {
            Outcome::Ran => {
                drop(view);
                self.env
                    .observe(client.place, found.id, caller.db, Observation::Ran(args));
                Flow::Go
            }
            Outcome::Lacking => {
                // It found out late what it needs. A view of its own slots has changed nothing yet: handlers look for
                // slots before they change any, and those that cannot run as tasks, with a journal.
                drop(view);
                if !client.pending.is_empty() {
                    return Flow::Wait(Stall::Barrier);
                }
                let task = Task::new(client, found.id, TaskKind::Command { args: args.to_owned() });
                let mut footprint = Footprint::Slots(slots.iter().copied().collect());
                footprint.merge(&journal.into_footprint());
                self.start(client, task, footprint)
            }
        }
    }

    /// Sends a command on one slot to the slot's home.
    #[inline]
    fn ship(&mut self, client: &mut Client, found: &Registered, args: Args, slot: u16, home: ShardId) -> Flow {
        if !client.pending.is_empty() {
            if self.is_strict() && client.pending_home != Some(home) {
                return Flow::Wait(Stall::Barrier);
            }
            if client.pending.is_full() {
                return Flow::Wait(Stall::Full);
            }
        }
        if !self.outbound.has_room(home) {
            self.waiting_for_room.push(client.place);
            return Flow::Wait(Stall::Link);
        }
        let bytes = args.byte_len();
        let is_write = writes(found.command);
        let sequence = self.reserve_single(client, home, bytes, is_write);
        let session = &client.session;
        let flag = |is_set: bool, bit: u16| if is_set { bit } else { 0 };
        let header = CommandHeader {
            connection: client.place.index,
            generation: client.place.generation,
            sequence,
            db: session.db,
            slot,
            command: found.id,
            flags: flag(session.proto == Proto::Resp3, CALLER_RESP3)
                | flag(session.leaves_clocks, CALLER_LEAVES_CLOCKS)
                | flag(session.is_local, CALLER_IS_LOCAL)
                | flag(is_write, CALLER_WRITES)
                | flag(self.is_silent(client), CALLER_IS_SILENT),
            protocol: 0,
        };
        self.env.stats.hops += 1;
        if bytes > SHIPPED_BYTES_MAX {
            let command = Box::new((header, args.to_owned()));
            self.link().message(home, Envelope::Command(command));
        } else {
            self.link().command(home, &header, |frame| args.encode_append(frame));
        }
        Flow::Go
    }

    /// A place for the reply of a command on a single slot that is run later, at `home`.
    #[inline]
    fn reserve_single(&mut self, client: &mut Client, home: ShardId, bytes: usize, is_write: bool) -> u32 {
        let is_alone = client.pending.is_empty() || client.pending_home == Some(home);
        client.pending_home = is_alone.then_some(home);
        self.writes_under_way += usize::from(is_write);
        let is_silent = self.is_silent(client);
        client.pending.reserve(is_silent, bytes)
    }

    /// Runs a command that another shard has shipped here, from the bytes in the link.
    pub(super) fn run_shipped(&mut self, from: ShardId, header: CommandHeader, arguments: &[u8]) {
        let mut spans = std::mem::take(&mut self.spans);
        let args = Args::decode(arguments, &mut spans);
        if let Err(footprint) = self.run_shipped_args(from, &header, args) {
            let args = args.to_owned();
            self.start_shipped(from, &header, args, footprint);
        }
        spans.clear();
        spans.shrink_to(REQUEST_ARGS_KEPT_MAX);
        self.spans = spans;
        self.post();
    }

    /// The same for one that came as a whole.
    pub(super) fn run_shipped_whole(&mut self, from: ShardId, header: CommandHeader, args: OwnedArgs) {
        if let Err(footprint) = self.run_shipped_args(from, &header, args.as_args()) {
            self.start_shipped(from, &header, args, footprint);
        }
        self.post();
    }

    /// Runs it if its slot is free; the error is what it needs.
    #[inline]
    fn run_shipped_args(&mut self, from: ShardId, header: &CommandHeader, args: Args) -> Result<(), Footprint> {
        // The memory is used here.
        self.relieve();
        let place = origin_of(from, header);
        let caller = caller_of(header);
        self.env.begin_unit();
        let registry = self.env.registry;
        let found = registry.get(header.command);
        let first = found.single_key.map(|position| (&args[position], header.slot));
        let mut reply = std::mem::take(&mut self.scratch);
        let mut footprint = Footprint::one(header.slot);
        let is_refused = self.is_out_of_memory_here(found);
        let is_done = match self.core.try_view(&[header.slot], place) {
            _ if is_refused => {
                self.env.stats.count_rejection(found.id);
                self.env.stats.count_error(&error::OUT_OF_MEMORY);
                Reply::new(&mut reply, caller.proto).error(&error::OUT_OF_MEMORY);
                true
            }
            Some(mut view) => {
                let mut journal = Journal::default();
                let outcome = run_keys(
                    found,
                    args,
                    &caller,
                    first,
                    &mut view,
                    &mut journal,
                    &mut self.env,
                    &mut reply,
                );
                footprint.merge(&journal.into_footprint());
                outcome != Outcome::Lacking
            }
            None => false,
        };
        if is_done && !is_refused {
            self.env.observe(place, found.id, caller.db, Observation::Ran(args));
        }
        if is_done {
            if self.env.stats.has_slow_entries() {
                let entries = self.env.stats.take_slow_entries();
                self.link().message(from, Envelope::Slow { place, entries });
            }
            let CommandHeader {
                connection,
                generation,
                sequence,
                flags,
                ..
            } = *header;
            let flags = if flags & CALLER_WRITES != 0 { REPLY_TO_WRITE } else { 0 };
            self.send_reply(
                from,
                ReplyHeader {
                    connection,
                    generation,
                    sequence,
                    flags,
                },
                &reply,
            );
        }
        reply.clear();
        self.scratch = reply;
        if is_done { Ok(()) } else { Err(footprint) }
    }

    /// Makes a unit of work of a command that was shipped here and has to wait.
    fn start_shipped(&mut self, from: ShardId, header: &CommandHeader, args: OwnedArgs, footprint: Footprint) {
        let origin = origin_of(from, header);
        let work = Box::new(Task {
            sequence: header.sequence,
            origin,
            command: header.command,
            is_write: header.flags & CALLER_WRITES != 0,
            caller: caller_of(header),
            reply: ReplyBuf::default(),
            slow_entries: Vec::new(),
            kind: TaskKind::Command { args },
        });
        let unit = Unit {
            work,
            footprint,
            origin,
            ticket: None,
        };
        self.core.submit(unit, &mut self.env, &mut self.outbox);
    }

    /// Sends a reply back to the shard of its connection: small ones as bytes in the link.
    fn send_reply(&mut self, to: ShardId, header: ReplyHeader, reply: &ReplyBuf) {
        self.link().reply(to, &header, |frame| {
            for segment in reply.segments() {
                frame.extend_from_slice(segment);
            }
        });
    }

    /// Starts a command on a single slot of this shard, which is lent: later commands need not wait for it.
    fn start_single(&mut self, client: &mut Client, found: &Registered, args: Args, slot: u16) -> Flow {
        let mut task = Task::new(client, found.id, TaskKind::Command { args: args.to_owned() });
        task.is_write = writes(found.command);
        task.sequence = self.reserve_single(client, self.env.shard, args.byte_len(), task.is_write);
        self.submit(client.place, task, Footprint::one(slot));
        Flow::Go
    }

    /// Starts a task that nothing of the same client may overtake.
    pub(super) fn start(&mut self, client: &mut Client, mut task: Task, footprint: Footprint) -> Flow {
        debug_assert!(client.pending.is_empty());
        task.is_write = match &task.kind {
            TaskKind::Command { .. } => writes(self.env.registry.get(task.command).command),
            TaskKind::Exec(step) => self.any_writes(&step.queue),
            TaskKind::Watch { .. } | TaskKind::Unwatch { .. } => false,
        };
        self.writes_under_way += usize::from(task.is_write);
        task.sequence = client.pending.reserve(self.is_silent(client), task.memory_bytes());
        client.stall = Stall::Underway;
        self.submit(client.place, task, footprint);
        Flow::Started
    }

    fn submit(&mut self, origin: ConnRef, task: Task, footprint: Footprint) {
        let runs_in_steps = matches!(&task.kind, TaskKind::Exec(step) if step.asks_other_shards);
        let unit = Unit {
            work: Box::new(task),
            footprint,
            origin,
            ticket: None,
        };
        if runs_in_steps {
            // Its asynchronous commands are tasks of this shard's executor.
            self.core.submit(unit, &mut self.env, &mut self.outbox);
        } else {
            self.core.dispatch(unit, &mut self.env, &mut self.outbox);
        }
        // What has finished already is handed out when the client is back in its place; what is for others goes before all that
        // this client sends next.
        self.post_messages();
    }

    /// A unit of work of one of this shard's clients has been run.
    pub(super) fn finish(&mut self, origin: ConnRef, task: Task) {
        let Task {
            sequence,
            mut reply,
            kind,
            slow_entries,
            is_write,
            ..
        } = task;
        self.end_write(is_write);
        if !slow_entries.is_empty() {
            self.log_slow(origin, slow_entries);
        }
        let Some(client) = self.clients.get(origin) else {
            // Its watches must not stay behind.
            if let TaskKind::Watch { tokens, .. } = kind {
                let slots: SlotSet = tokens.iter().map(|(slot, _)| *slot).collect();
                self.start_in_background(TaskKind::Unwatch { tokens }, Footprint::Slots(slots));
            }
            return;
        };
        let Client {
            pending, out, watched, ..
        } = &mut **client;
        pending.answer(sequence, out, |buffer| buffer.append(&mut reply));
        match kind {
            TaskKind::Watch { tokens, .. } => watched.extend(tokens),
            TaskKind::Exec(step) => {
                let ExecStep { session, .. } = *step;
                self.take_session_back(origin, session);
            }
            _ => {}
        }
        self.answered(origin.index);
    }

    fn is_strict(&self) -> bool {
        self.env.settings.pipeline_order == PipelineOrder::Strict
    }

    /// Whether CLIENT PAUSE holds this request back.
    fn is_paused(&mut self, client: &Client, found: &Registered, _args: Args) -> bool {
        let Some(pause) = self.env.pause else { return false };
        if pause.until <= self.env.now {
            self.end_pause();
            return false;
        }
        if !pause.writes_only {
            return true;
        }
        match (&client.transaction, found.command.run) {
            (Some(transaction), Run::Transaction(Control::Exec)) => self.any_writes(&transaction.queue),
            (Some(_), _) => false,
            (None, _) => writes(found.command),
        }
    }

    /// Whether any of these commands writes.
    fn any_writes(&self, queue: &[Queued]) -> bool {
        queue
            .iter()
            .any(|queued| writes(self.env.registry.get(queued.command).command))
    }

    /// Lets the clients that CLIENT PAUSE held back go on.
    pub fn end_pause(&mut self) {
        self.env.pause = None;
        for place in std::mem::take(&mut self.paused) {
            if let Some(client) = self.clients.get(place)
                && client.stall == Stall::Paused
            {
                client.stall = Stall::Not;
            }
            self.list(place.index);
        }
    }

    /// Refuses a request before it is run: an error, and a transaction that is being queued is aborted.
    pub(super) fn reject(&mut self, client: &mut Client, found: Option<&Registered>, error: &ReplyError) -> Flow {
        if let Some(found) = found {
            self.env.stats.count_rejection(found.id);
        }
        // An EXEC that is refused ends the transaction all the same, and says so.
        let ended = found
            .is_some_and(|found| matches!(found.command.run, Run::Transaction(Control::Exec)))
            .then(|| error::exec_aborted_because(error));
        if ended.is_some() {
            client.transaction = None;
            self.unwatch(client);
        }
        let error = ended.as_ref().unwrap_or(error);
        self.env.stats.count_error(error);
        if let Some(transaction) = &mut client.transaction {
            transaction.is_aborted = true;
        }
        let proto = client.session.proto;
        let silent = self.is_silent(client);
        if client.session.reply_mode == ReplyMode::SkipNext {
            client.session.reply_mode = ReplyMode::On;
        }
        if !silent {
            Reply::new(client.reply_buffer(), proto).error(error);
        }
        Flow::Go
    }

    /// Answers a command that was run and failed.
    pub(super) fn fail_now(&mut self, client: &mut Client, found: &Registered, error: &ReplyError) {
        self.env.stats.count_failure(found.id, 0);
        self.env.stats.count_error(error);
        let proto = client.session.proto;
        Reply::new(client.reply_buffer(), proto).error(error);
    }

    /// Answers a command that was run.
    pub(super) fn answer_now(&mut self, client: &mut Client, found: &Registered, write: impl FnOnce(&mut Reply<'_>)) {
        self.env.stats.count_call(found.id, 0);
        let proto = client.session.proto;
        write(&mut Reply::new(client.reply_buffer(), proto));
    }
}

/// Whether a command is one that CLIENT PAUSE WRITE holds back.
fn writes(command: &super::Command) -> bool {
    command.flags.intersects(Flags::WRITE.union(Flags::MAY_REPLICATE))
}

/// The connection of a command that was shipped from another shard.
fn origin_of(from: ShardId, header: &CommandHeader) -> ConnRef {
    ConnRef {
        shard: from,
        index: header.connection,
        generation: header.generation,
    }
}

/// Who has sent a command that was shipped from another shard.
fn caller_of(header: &CommandHeader) -> Caller {
    Caller {
        db: DbIndex(header.db),
        proto: if header.flags & CALLER_RESP3 != 0 {
            Proto::Resp3
        } else {
            Proto::Resp2
        },
        leaves_clocks: header.flags & CALLER_LEAVES_CLOCKS != 0,
        is_local: header.flags & CALLER_IS_LOCAL != 0,
        is_nested: false,
        is_silent: header.flags & CALLER_IS_SILENT != 0,
    }
}
