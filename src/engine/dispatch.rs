//! From a client's bytes to a command that runs: the way of every request.
//!
//! ```text
//! bytes -> parse -> find -> gates (arity, password, pause, memory) -> queued by MULTI, or where?
//!                                                                 |- session command ........ here, now
//!                                                                 |- slots at home, free .... here, now: over the request's own bytes
//!                                                                 |- one slot, elsewhere .... shipped as bytes; the reply takes its place later
//!                                                                 |- several shards, lent ... a Task
//!                                                                 '- asynchronous ........... a future
//! ```
//!
//! What may start while earlier commands of the same client are under way is `route`'s to say. Commands over the session run at once:
//! what they change was copied by the commands before them.

use super::asynchronous::start_asynchronous;
use super::delivery::has_heard_all;
use super::gates::{Refusal, let_in};
use super::literal::{Control, Registered, Run};
use super::local::Local;
use super::route::Flow;
use super::run::run_session;
use super::transaction::{self, Controlled};
use crate::base::clock::Ticks;
use crate::client::{Client, ReplyMode, Stall};
use crate::resp::{Args, Reply, ReplyError, RequestLimits, RequestParser, Step, error};
use crate::spec::Flags;
use crate::store::DbIndex;

/// Fewer bytes than this hold hardly two requests, and are run without looking ahead.
const FORESEEN_BYTES_MIN: usize = 48;

impl Local {
    /// Takes bytes that a client has sent, and runs the requests in them.
    pub fn receive(&mut self, index: u32, data: &[u8]) {
        let Some(mut client) = self.clients.take(index) else {
            return;
        };
        client.last_interaction = self.env.now;
        self.env.stats.counts.input_bytes += data.len() as u64;
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
            self.upkeep.under_way.count_input(&mut client);
            if client.stall == Stall::Not {
                self.run_query(&mut client);
            } else {
                client.has_waiting_requests = true;
            }
        }
        self.check_query_limit(&mut client);
        self.put_back(client);
    }

    /// Goes on with requests that were received before, of a client whom nothing stops any more.
    pub(super) fn resume(&mut self, index: u32) {
        let Some(mut client) = self.clients.take(index) else {
            return;
        };
        // What has just been answered may have ended the connection.
        if !client.is_closing {
            self.run_query(&mut client);
        }
        self.put_back(client);
    }

    /// Puts a client that was at work back into its place, and does what had to wait for that.
    fn put_back(&mut self, mut client: Box<Client>) {
        let place = client.place;
        self.upkeep.under_way.count_input(&mut client);
        self.upkeep.under_way.count_output(&mut client);
        self.clients.put_back(client);
        self.clients.list(place.index);
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
            foreseen_until = self.foresee(client, &parser, bytes, position, foreseen_until);
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

    /// Asks ahead for the memory that the requests from `position` on will touch; returns how far it has looked.
    #[inline]
    fn foresee(
        &mut self,
        client: &Client,
        parser: &RequestParser,
        bytes: &[u8],
        position: usize,
        foreseen_until: usize,
    ) -> usize {
        // A request that has begun was looked at when it began: to look again at each read would be quadratic.
        if position < foreseen_until || bytes.len() - position < FORESEEN_BYTES_MIN || parser.is_within_request() {
            return foreseen_until;
        }
        let db = DbIndex(client.session.db);
        let seen = self
            .foreseen
            .look_ahead(&self.core, self.env.seed, db, &bytes[position..]);
        // Whatever was looked through or not, the next look is further on.
        position + seen.max(FORESEEN_BYTES_MIN)
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
            self.env.stats.counts.query_limit_disconnections += 1;
            client.is_killed = true;
            client.is_closing = true;
        }
    }

    /// One request.
    #[inline]
    fn request(&mut self, client: &mut Client, args: Args) -> Flow {
        let has_said = client.session.caching;
        let flow = self.look_at(client, args);
        if has_said && !matches!(flow, Flow::Wait(_)) {
            self.spend_caching(client, args);
        }
        flow
    }

    /// What CLIENT CACHING has said was for this command, if it is none of CLIENT's, and does not begin or join a transaction.
    #[cold]
    fn spend_caching(&self, client: &mut Client, args: Args) {
        let found = self.registry.resolve_after(client.last_command, args).ok();
        let parent = found.and_then(|found| found.parent);
        let keeps = parent.is_some_and(|parent| self.registry.get(parent).command.keeps_caching);
        if !keeps && !client.is_in_transaction() {
            client.session.caching = false;
        }
    }

    #[inline]
    fn look_at(&mut self, client: &mut Client, args: Args) -> Flow {
        let registry = self.registry;
        let found = match registry.resolve_after(client.last_command, args) {
            Ok(found) => found,
            Err(error) => return self.refuse_unknown(client, args, &error),
        };
        match let_in(self, client, found, args) {
            Ok(()) => {}
            Err(Refusal::Error(error)) => return self.reject(client, Some(found), &error),
            Err(Refusal::Postponed(stall)) => return Flow::Wait(stall),
        }
        client.last_command = Some(found.id);
        if client.session.reply_mode == ReplyMode::On {
            return self.run(client, found, args);
        }
        self.run_silenced(client, found, args)
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
    fn acts_inside_multi(&self, found: &'static Registered) -> bool {
        matches!(found.command.run, Run::Transaction(control) if control != Control::Unwatch)
    }

    fn run(&mut self, client: &mut Client, found: &'static Registered, args: Args) -> Flow {
        if client.transaction.is_some() && !self.acts_inside_multi(found) {
            return self.queue(client, found, args);
        }
        match found.command.run {
            Run::Keys(_) | Run::Reaching(..) | Run::Slots(..) | Run::Script(_) | Run::Everything(_) => {
                self.run_over_slots(client, found, args)
            }
            Run::Session(_) => self.run_over_session(client, found, args),
            Run::Node(_) if self.env.busy.is_some() && found.command.while_busy.is_some() => {
                self.run_over_session(client, found, args)
            }
            Run::Node(_) => start_asynchronous(self, client, found, args),
            Run::Transaction(control) => self.control(client, control, found, args),
            Run::Container | Run::Guarded(_) => unreachable!("a container was refused by its arity"),
        }
    }

    /// Runs a command over the session of its client.
    #[inline]
    fn run_over_session(&mut self, client: &mut Client, found: &'static Registered, args: Args) -> Flow {
        if found.command.changes_subscriptions && !client.pending.is_empty() {
            // What comes of the commands before it comes from before the subscription.
            return Flow::Wait(Stall::Barrier);
        }
        if found.command.changes_subscriptions && !has_heard_all(self, client) {
            return Flow::Wait(Stall::Leaving);
        }
        let buffer = if client.pending.is_empty() {
            &mut client.out
        } else {
            client.pending.tail()
        };
        let counted = run_session(
            found,
            args,
            &mut client.session,
            false,
            &mut self.env,
            &self.node,
            self.registry,
            buffer,
        );
        counted.count(&mut self.env.stats);
        self.env.note_slow(found.command, args, counted.elapsed_us);
        client.is_closing |= client.session.closes;
        client.follow_session();
        if self.env.shows_commands() {
            self.env.show(found.command, args, &client.session);
        }
        Flow::Go
    }

    /// Runs a command that controls the transaction.
    fn control(&mut self, client: &mut Client, control: Control, found: &'static Registered, args: Args) -> Flow {
        // UNWATCH inside MULTI is queued as any command is; everything else acts now.
        if control == Control::Unwatch && client.is_in_transaction() {
            return self.queue(client, found, args);
        }
        if !client.pending.is_empty() {
            return Flow::Wait(Stall::Barrier);
        }
        if control == Control::Reset {
            if !has_heard_all(self, client) {
                return Flow::Wait(Stall::Leaving);
            }
            self.env.stop_listening(&mut client.session);
            client.follow_session();
        }
        // What EXEC runs is shown when that has run, and EXEC behind it.
        let is_shown = self.env.shows_commands();
        let began = self.env.ticks;
        let is_open = self.env.settings.requirepass.is_empty();
        let step = transaction::control(client, control, found, args, self.registry, &self.node, is_open);
        match step {
            Controlled::Answer { reply, unwatches } => {
                if unwatches {
                    self.unwatch(client);
                }
                match reply {
                    Ok(text) => self.answer_now(client, found, |reply| reply.simple(text)),
                    Err(error) => self.fail_now(client, found, &error),
                }
            }
            // What EXEC takes is its commands'.
            Controlled::Start(mut task, footprint) if control == Control::Exec => {
                if self.env.shows_commands() {
                    task.show_as(found.command, args);
                }
                return self.start(client, task, footprint);
            }
            Controlled::Start(task, footprint) => {
                if is_shown {
                    self.env.show(found.command, args, &client.session);
                }
                self.note_slow_since(began, found, args);
                return self.start(client, task, footprint);
            }
        }
        if is_shown {
            self.env.show(found.command, args, &client.session);
        }
        self.note_slow_since(began, found, args);
        Flow::Go
    }

    fn note_slow_since(&mut self, began: Ticks, found: &Registered, args: Args) {
        let ended = self.env.tick();
        self.env.note_slow(found.command, args, ended.us_since(began));
    }

    /// Adds a command to the queue of MULTI.
    fn queue(&mut self, client: &mut Client, found: &'static Registered, args: Args) -> Flow {
        if found.command.flags.contains(Flags::NO_MULTI) {
            return self.reject(client, Some(found), &error::NOT_ALLOWED_IN_MULTI);
        }
        if let Some(transaction) = &mut client.transaction {
            transaction.queue(found.id, args);
        }
        let proto = client.session.proto;
        Reply::new(client.reply_buffer(), proto).simple("QUEUED");
        Flow::Go
    }

    /// Runs a command under `CLIENT REPLY OFF` or `SKIP`: its reply is taken away again.
    fn run_silenced(&mut self, client: &mut Client, found: &'static Registered, args: Args) -> Flow {
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
            Flow::Go
                if !client.pending.is_last_unanswered()
                    && client.session.reply_mode != ReplyMode::On
                    && !found.command.answers_in_messages =>
            {
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
}

#[cfg(test)]
mod tests {
    use crate::engine::assembly::Assembly;
    use crate::engine::{Command, Registry, Run};
    use crate::spec::command;
    use std::sync::Arc;

    const COMMANDS: &[Command] = &[
        Command {
            arity: 1,
            ..command(
                "stay",
                Run::Session(|op| {
                    op.reply.ok();
                    Ok(())
                }),
            )
        },
        Command {
            arity: 1,
            ..command(
                "leave",
                Run::Session(|op| {
                    op.session.closes = true;
                    op.reply.simple("BYE");
                    Ok(())
                }),
            )
        },
        Command {
            arity: 1,
            ..command(
                "leave-later",
                Run::Node(|context| {
                    Box::pin(async {
                        context.session.closes = true;
                        context.reply().simple("BYE");
                        Ok(())
                    })
                }),
            )
        },
    ];

    fn assembly() -> Assembly {
        let registry = Box::leak(Box::new(Registry::new(&[COMMANDS], &[]).unwrap()));
        Assembly::new(registry, 1)
    }

    /// What a client has sent behind a command that ends its connection is not run.
    #[test]
    fn nothing_is_run_behind_a_command_that_ends_the_connection() {
        let assembly = assembly();
        let mut shard = assembly.shards[0].borrow_mut();
        shard.receive(0, b"stay\r\nleave\r\nstay\r\n");
        let client = shard.clients.at(0).expect("the client is there");
        assert_eq!(&*client.out.take().to_contiguous(), b"+OK\r\n+BYE\r\n");
        assert!(client.is_closing);
        assert_eq!(shard.env.stats.counts.input_bytes, 19);
    }

    /// The server that does nothing, beside which others are measured.
    #[test]
    fn under_the_ceiling_every_request_gets_the_same_answer() {
        let assembly = assembly();
        let mut shard = assembly.shards[0].borrow_mut();
        Arc::make_mut(&mut shard.env.settings).echo_ceiling = true;
        shard.receive(0, b"stay\r\nleave\r\nnosuch\r\n");
        let client = shard.clients.at(0).expect("the client is there");
        assert_eq!(&*client.out.take().to_contiguous(), b"+OK\r\n+OK\r\n+OK\r\n");
        assert!(client.query.is_empty() && !client.is_closing);
    }

    #[test]
    fn a_browser_is_shown_the_door() {
        for (line, is_refused) in [
            ("POST / HTTP/1.1", true),
            ("Host: localhost", true),
            ("GET / HTTP/1.1", false),
        ] {
            let assembly = assembly();
            let mut shard = assembly.shards[0].borrow_mut();
            shard.receive(0, format!("{line}\r\nstay\r\n").as_bytes());
            let client = shard.clients.at(0).expect("the client is there");
            assert_eq!((client.is_killed, client.is_closing), (is_refused, is_refused));
            assert_eq!(client.out.is_empty(), is_refused, "{line}");
        }
    }

    #[test]
    fn requests_of_nothing_are_passed_over() {
        let assembly = assembly();
        let mut shard = assembly.shards[0].borrow_mut();
        shard.receive(0, b"\r\nstay\r\n*0\r\nstay\r\n\r\n");
        let client = shard.clients.at(0).expect("the client is there");
        assert_eq!(&*client.out.take().to_contiguous(), b"+OK\r\n+OK\r\n");
        assert!(client.query.is_empty());
    }

    /// Of others, a request of ten arguments is refused.
    #[test]
    fn who_is_authenticated_may_send_many_arguments() {
        let assembly = assembly();
        let mut shard = assembly.shards[0].borrow_mut();
        shard.receive(0, b"stay\r\n*11\r\n");
        let client = shard.clients.at(0).expect("the client is there");
        assert_eq!(&*client.out.take().to_contiguous(), b"+OK\r\n");
        assert!(!client.is_closing);
    }

    #[test]
    fn who_sends_more_than_may_wait_is_closed_once() {
        let assembly = assembly();
        let mut shard = assembly.shards[0].borrow_mut();
        Arc::make_mut(&mut shard.env.settings).client_query_buffer_limit = 10;
        let mut send = |bytes: &[u8]| {
            shard.receive(0, bytes);
            let client = shard.clients.at(0).expect("the client is there");
            let is_closed = (client.is_killed, client.is_closing);
            (is_closed, shard.env.stats.counts.query_limit_disconnections)
        };
        assert_eq!(send(b"0123456789"), ((false, false), 0));
        assert_eq!(send(b"0"), ((true, true), 1));
        assert_eq!(send(b"0"), ((true, true), 1));
    }

    #[test]
    fn nor_behind_one_that_took_its_time() {
        let assembly = assembly();
        let mut shard = assembly.shards[0].borrow_mut();
        shard.receive(0, b"leave-later\r\nstay\r\n");
        drop(shard);
        assert_eq!(assembly.run(&[b"stay"]), b"+BYE\r\n");
        let mut shard = assembly.shards[0].borrow_mut();
        shard.resume_listed();
        let client = shard.clients.at(0).expect("the client is there");
        assert!(client.is_closing && client.out.is_empty());
    }

    /// What has been run is cut off the buffer only where that moves less than it frees.
    #[test]
    fn the_rest_of_a_buffer_moves_at_a_constant_cost() {
        let long = "x".repeat(100);
        for (tail, query_start, query) in [("st", 0, "st".to_owned()), (&long, 6, format!("stay\r\n{long}"))] {
            let assembly = assembly();
            let mut shard = assembly.shards[0].borrow_mut();
            shard.receive(0, b"st");
            shard.receive(0, format!("ay\r\n{tail}").as_bytes());
            let client = shard.clients.at(0).expect("the client is there");
            assert_eq!(
                (client.query_start, String::from_utf8_lossy(&client.query)),
                (query_start, query.into())
            );
        }
    }
}
