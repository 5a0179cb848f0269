//! What a master's stream brings, in its order: a batch of commands as one unit of work.
//!
//! A replica may show no effect without those before it. So the commands of the stream do not run each by itself on the shard of its keys,
//! where one would overtake another: a *batch* of them, as many as have come while the one before ran, is a unit of work over the slots of
//! all its keys. It runs on the shard that holds most of these; the others travel to it, a pointer each. One batch begins when the one before has
//! ended. So whoever reads sees a batch whole or not at all, and the batches in their order: what he sees is a prefix of the stream. Units of work
//! of the replica's clients take their place between the batches by the rules that hold for all units of work.
//!
//! Within a batch each unit of the master's is a unit here: a command, or what stands between MULTI and EXEC. What follows from it is logged, told
//! and served as what follows from a client's; so the append-only file of a replica is its own.
//!
//! Such a command is the master's word. Nothing is over for it ([`Env::moment`](super::env::Env::moment)), it may write where clients may not, and it
//! waits for nothing.
//!
//! Invariants:
//! 1. a batch holds at least one slot, so that it never runs beside a change of the role;
//! 2. it runs whole or, if its generation is over, not at all; where it ends is noted while it has its slots.

use super::attempt::Attempt;
use super::env::{Ended, Env, Observation};
use super::literal::{Caller, Registered, Registry, Run, key_slots};
use super::registry::CommandId;
use super::run::{Outcome, run_keys};
use super::serve::end_unit;
use crate::resp::{Args, ReplyBuf, Span};
use crate::shard::{ConnRef, Footprint, SlotMarks, View};
use crate::store::{DbIndex, Slot};

/// See the essay above.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    items: Vec<Item>,
    slots: SlotMarks,
    /// Something in it may reach any slot.
    is_broad: bool,
    /// For which generation of [`Following`](super::replication::Following) it was made.
    pub generation: u64,
    /// Where the stream is behind it, and the db that is selected there.
    pub offset: u64,
    pub db: u32,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    command: CommandId,
    arguments: u32,
    db: u32,
    /// It is the last of its unit.
    ends_unit: bool,
}

/// What a command is that cannot be in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotOverKeys;

impl Batch {
    /// Adds a command. `ends_unit`: what follows is another unit.
    pub fn push(
        &mut self,
        found: &'static Registered,
        args: Args<'_>,
        db: u32,
        ends_unit: bool,
    ) -> Result<(), NotOverKeys> {
        match found.command.run {
            Run::Keys(_) => key_slots(found.command, args).iter().for_each(|slot| {
                self.slots.insert(slot);
            }),
            // What they reach is known only as they run.
            Run::Reaching(..) | Run::Slots(..) | Run::Script(_) | Run::Everything(_) => self.is_broad = true,
            _ => return Err(NotOverKeys),
        }
        for argument in args.iter() {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(argument);
            let end = self.bytes.len();
            self.spans.push(Span { start, end });
        }
        self.items.push(Item {
            command: found.id,
            arguments: args.len() as u32,
            db,
            ends_unit,
        });
        Ok(())
    }

    /// Adds what another batch has, as one unit.
    pub fn append_unit(&mut self, mut other: Batch) {
        if let Some(last) = other.items.last_mut() {
            last.ends_unit = true;
        }
        let before = self.bytes.len();
        self.bytes.append(&mut other.bytes);
        self.spans.extend(other.spans.iter().map(|span| Span {
            start: before + span.start,
            end: before + span.end,
        }));
        self.items.append(&mut other.items);
        other.slots.for_each(|slot| {
            self.slots.insert(slot);
        });
        self.is_broad |= other.is_broad;
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many commands.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Bytes of all arguments.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.spans.capacity() * size_of::<Span>() + self.items.capacity() * size_of::<Item>()
    }

    /// The slots that it runs over.
    pub(super) fn footprint(&mut self) -> Footprint {
        if self.is_broad {
            return Footprint::Everything;
        }
        if self.slots.is_empty() {
            // Invariant 1. (What is published has no key.)
            self.slots.insert(0);
        }
        Footprint::Slots(std::mem::take(&mut self.slots).into_set())
    }

    /// Runs it; `reply` is for those who want none.
    pub(super) fn run(&self, view: &mut View<'_, Slot>, env: &mut Env, reply: &mut ReplyBuf) {
        let node = env.node().clone();
        if !node.replication.following.is_current(self.generation) {
            return;
        }
        let registry: &'static Registry = env
            .registry()
            .downcast_ref()
            .expect("a shard is made with the registry of its commands");
        env.obey(true);
        let (mut attempt, mut spans_done) = (Attempt::default(), 0);
        for item in &self.items {
            let spans = &self.spans[spans_done..spans_done + item.arguments as usize];
            spans_done += spans.len();
            let (found, args) = (registry.get(item.command), Args::new(&self.bytes, spans));
            let db = DbIndex(item.db);
            let outcome = run_keys(
                found,
                args,
                &Caller::in_background(db, false),
                None,
                view,
                &mut attempt,
                env,
                reply,
            );
            assert!(
                outcome == Outcome::Ran,
                "{} has all the slots that it can name",
                found.full_name
            );
            if let Some(error) = reply.as_error() {
                tracing::warn!(
                    "== CRITICAL == This replica is sending an error to its master: '{}' after processing the command '{}'",
                    error[1..].trim_ascii().escape_ascii(),
                    found.full_name
                );
            }
            reply.clear();
            if item.ends_unit {
                let ended = Ended {
                    origin: ConnRef::background(env.shard),
                    command: found.id,
                    db,
                    what: Observation::Ran(args),
                };
                // Those who are served by it are clients.
                env.obey(false);
                end_unit(env, &mut attempt, view, ended);
                env.forgo_receipt();
                attempt = Attempt::default();
                env.begin_unit();
                env.obey(true);
            }
        }
        env.obey(false);
        node.replication
            .following
            .advance(self.generation, self.offset, self.db);
    }
}
