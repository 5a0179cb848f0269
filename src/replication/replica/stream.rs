//! The stream: what comes is cut into commands, these become batches, and each batch takes effect when the one before has.
//!
//! ```text
//!   bytes --> command, command, MULTI command command EXEC, PING, command ...
//!             '-------------------- batch ---------------------'
//!   read, cut, gather | read, cut, gather | ...        the link's thread
//!                     |   batch takes effect  | ...    the shards
//! ```
//!
//! While one batch takes effect the next one gathers, so its size is what the master sends in that time, up to a bound: a shard is to be busy with
//! it for half a millisecond or so. With a stream that is slow each command is a batch, and nobody waits for anything.
//!
//! Every byte counts, as it counts for the master: empty lines and PINGs too. Within MULTI the count stands still; when the link breaks there, all of
//! it comes again.
//!
//! Invariants:
//! 1. One batch at most is under way; when this ends, none is.
//! 2. What is confirmed has taken effect.

use super::LinkError;
use super::errands::wait;
use super::link::Link;
use super::wire::Wire;
use crate::engine::CommandId;
use crate::engine::literal::{Control, Run};
use crate::engine::replay;
use crate::engine::streamed::Batch;
use crate::resp::{Args, RequestLimits, RequestParser, Step};
use std::convert::Infallible;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How often the master is told how far this has come.
const CONFIRMED_EVERY: Duration = Duration::from_secs(1);

/// A batch that has so many commands, or bytes, is handed on.
const BATCH_COMMANDS: usize = 512;
const BATCH_BYTES: usize = 32 * 1024;

/// How often it is looked around while a batch takes effect.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(100);

const LIMITS: RequestLimits = RequestLimits {
    bulk_bytes_max: u64::MAX,
    is_authentication_pending: false,
};

/// Follows the stream until the link breaks.
pub(super) fn follow<'l>(link: &'l Link<'l>, wire: &mut Wire<'l>) -> Result<Infallible, LinkError> {
    let position = link.node.replication.following.position().ok_or(LinkError::Over)?;
    let mut follower = Follower {
        link,
        wire,
        parser: RequestParser::default(),
        batch: Batch::default(),
        open: None,
        read_offset: position.offset,
        offset: position.offset,
        db: position.db,
        last: None,
        flight: None,
        confirmed_at: Instant::now(),
    };
    let outcome = follower.go();
    // Where the data set stands is known when nothing is under way.
    follower.land(false)?;
    outcome
}

struct Follower<'l, 'w> {
    link: &'l Link<'l>,
    wire: &'w mut Wire<'l>,
    parser: RequestParser,
    /// What is to take effect next.
    batch: Batch,
    /// The transaction that has begun.
    open: Option<Batch>,
    /// Bytes of the stream that were cut into commands, and how many of them stand before the last unit's end.
    read_offset: u64,
    offset: u64,
    db: u32,
    last: Option<CommandId>,
    /// Tells when the batch has taken effect that is under way.
    flight: Option<Receiver<()>>,
    confirmed_at: Instant,
}

impl Follower<'_, '_> {
    fn go(&mut self) -> Result<Infallible, LinkError> {
        self.confirm()?;
        loop {
            // At first there may be what came behind the data set.
            self.cut()?;
            self.hand_on()?;
            let following = &self.link.node.replication.following;
            following.note_read(self.link.generation, self.read_offset + self.wire.buffer.len() as u64);
            self.confirm_in_time()?;
            while self.wire.read_more()? == 0 {
                self.confirm_in_time()?;
            }
        }
    }

    /// Takes the commands that are there.
    fn cut(&mut self) -> Result<(), LinkError> {
        let buffer = std::mem::take(&mut self.wire.buffer);
        let mut at = 0;
        let outcome = loop {
            let rest = &buffer[at..];
            let consumed = match self.parser.next(rest, &LIMITS) {
                Ok(Step::Incomplete { .. }) => break Ok(()),
                Ok(Step::Skip { consumed }) => consumed,
                Ok(Step::Request { consumed }) => {
                    let parser = std::mem::take(&mut self.parser);
                    let taken = self.take(parser.args(rest));
                    self.parser = parser;
                    if let Err(error) = taken {
                        break Err(error);
                    }
                    consumed
                }
                Err(error) => break Err(LinkError::Protocol(error.to_string())),
            };
            at += consumed;
            self.read_offset += consumed as u64;
            if self.open.is_none() {
                self.offset = self.read_offset;
            }
            let is_full = self.batch.len() >= BATCH_COMMANDS || self.batch.bytes() >= BATCH_BYTES;
            if is_full && let Err(error) = self.hand_on() {
                break Err(error);
            }
        };
        // What has come meanwhile is behind it.
        let come = std::mem::replace(&mut self.wire.buffer, buffer);
        self.wire.buffer.drain(..at);
        self.wire.buffer.extend_from_slice(&come);
        outcome
    }

    /// Takes one command. Those that are about the stream itself are done here.
    fn take(&mut self, args: Args<'_>) -> Result<(), LinkError> {
        let is = |index: usize, word: &[u8]| args.get(index).is_some_and(|arg| arg.eq_ignore_ascii_case(word));
        match args.len() {
            2 if is(0, b"select") => return self.select(args.at(1)),
            1 | 2 if is(0, b"ping") => return Ok(()),
            2.. if is(0, b"replconf") => {
                return match is(1, b"getack") {
                    true => self.answer(),
                    false => Ok(()),
                };
            }
            _ => {}
        }
        let found = match self.link.registry.resolve_after(self.last, args) {
            Ok(found) if found.command.accepts(args.len()) => found,
            Ok(found) => {
                self.tell(&format!("wrong number of arguments for '{}'", found.full_name), args);
                return Ok(());
            }
            Err(error) => {
                self.tell(&error.to_string(), args);
                return Ok(());
            }
        };
        self.last = Some(found.id);
        match found.command.run {
            Run::Transaction(Control::Multi) => {
                self.open = Some(Batch::default());
                return Ok(());
            }
            Run::Transaction(Control::Exec) => {
                if let Some(open) = self.open.take() {
                    self.batch.append_unit(open);
                }
                return Ok(());
            }
            _ => {}
        }
        let pushed = match &mut self.open {
            Some(open) => open.push(found, args, self.db, false),
            None => self.batch.push(found, args, self.db, true),
        };
        if pushed.is_err() {
            self.tell("it is no command over keys", args);
        }
        Ok(())
    }

    /// Says in the log that a command of the master's was left out, which Redis does with one that it does not know.
    fn tell(&self, why: &str, args: Args<'_>) {
        tracing::warn!(
            "== CRITICAL == This replica leaves out a command of its master, and may differ from it from now on: {why}, in '{}'",
            args.at(0).escape_ascii()
        );
    }

    fn select(&mut self, db: &[u8]) -> Result<(), LinkError> {
        let number = std::str::from_utf8(db).ok().and_then(|text| text.parse().ok());
        let databases = self.link.settings.databases;
        match number {
            Some(number) if number < databases => {
                self.db = number;
                Ok(())
            }
            _ => Err(LinkError::Protocol(format!(
                "the stream selects DB {}, and `databases` is {databases} here",
                db.escape_ascii()
            ))),
        }
    }

    /// Has what has gathered take effect, as soon as the batch before has.
    fn hand_on(&mut self) -> Result<(), LinkError> {
        let (generation, offset, db) = (self.link.generation, self.offset, self.db);
        if self.batch.is_empty() {
            let following = &self.link.node.replication.following;
            if self.flight.is_none() || following.position().is_some_and(|position| position.offset != offset) {
                // Nothing but bytes that count.
                self.land(true)?;
                following.advance(generation, offset, db);
            }
            return Ok(());
        }
        self.land(true)?;
        let mut batch = Box::new(std::mem::take(&mut self.batch));
        (batch.generation, batch.offset, batch.db) = (generation, offset, db);
        let (sender, receiver) = channel();
        self.link.errands.post(move |local| {
            let then = Box::new(move || {
                // Whoever waited may have gone.
                let _ = sender.send(());
            });
            local.with(|local| replay::apply(local, batch, then));
        });
        self.flight = Some(receiver);
        Ok(())
    }

    /// Waits until nothing is under way; `confirms`: and tells the master meanwhile how far it is.
    fn land(&mut self, confirms: bool) -> Result<(), LinkError> {
        let Some(flight) = self.flight.take() else {
            return Ok(());
        };
        let each = || match confirms {
            true => self.confirm_in_time(),
            false => Ok(()),
        };
        let outcome = wait(&flight, LOOKED_AT_EVERY, each);
        if outcome.is_err() {
            self.flight = Some(flight);
        }
        outcome
    }

    /// The master wants to know how far this is.
    fn answer(&mut self) -> Result<(), LinkError> {
        self.hand_on()?;
        self.land(true)?;
        self.confirm()
    }

    fn confirm_in_time(&mut self) -> Result<(), LinkError> {
        match self.confirmed_at.elapsed() >= CONFIRMED_EVERY {
            true => self.confirm(),
            false => Ok(()),
        }
    }

    /// Tells the master what has taken effect.
    fn confirm(&mut self) -> Result<(), LinkError> {
        self.confirmed_at = Instant::now();
        let position = self.link.node.replication.following.position().ok_or(LinkError::Over)?;
        let offset = position.offset.to_string();
        self.wire.command(&[b"REPLCONF", b"ACK", offset.as_bytes()])
    }
}
