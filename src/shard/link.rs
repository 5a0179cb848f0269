//! Links: the one-way queues between shards, and who has to be woken.
//!
//! Between each two shards there are two links, one for each direction, each a single-producer single-consumer ring of
//! bytes. What is small and frequent (a command for another shard, its reply) is written into the ring as a frame and
//! read from there in place: a hop allocates nothing. What is large, or must be moved and not copied (loans), goes
//! through a second ring of values beside the first, and leaves a marker in the byte ring, so that the order in which
//! things were sent is kept across both.
//!
//! ```text
//!  command() reply() message()                                       drain()
//!        |                                                              ^
//!        v            flush, or much gathered                           |
//!   staged bytes ---------------------------------> byte ring ---> frame after frame
//!   staged parcels -------------------------------> parcel ring --> (when its marker comes by)
//! ```
//!
//! Frames gather in a local buffer and are copied into the ring at the end of the sender's pass. That is one copy
//! of a few cached kilobytes, and it buys three things: the ring's indices, whose cache lines travel between the
//! cores, are touched once for each pass; a frame may be encoded straight into place without its size being known;
//! and a full ring needs no second path: what does not fit simply stays, in order, so a sender never blocks and never
//! drops. What may stay has a bound for those who begin something: they ask [`Outbound::has_room`] first.
//!
//! The ring is a stream of bytes, not of frames: a frame may straddle the wrap, where the reader puts it together
//! in a scratch buffer (once in a lap), and it may arrive in pieces, in which case the reader leaves it until the rest
//! is there.
//!
//! **Leaving together.** While what leaves a pass must leave it together, in the order of [`turns`](super::turns), the sender *holds*: nothing is
//! published before its pass is released ([`Outbound::release`]), and slots ([`Outbound::slots`]) stand aside until everything else of
//! their pass, on whatever link, is in its ring. A ring that is full so holds slots back, on other links too, but no frames. And since a
//! receiver must know when nothing older can come, a link in which frames of a turn are staged still shows a bound below that turn
//! ([`Inbound::bound`]), from before the shard's own bound goes.
//!
//! **Sleep.** A shard that finds nothing to do sets its bell to sleeping, and only then looks at its links a last time.
//! A sender first publishes, and only then looks at the bell. With a sequentially consistent fence between the two
//! steps on either side, at least one of them sees the other: either the sleeper finds the frame, or the sender finds
//! the sleeper, takes the flag down (so that it is woken once) and wakes it.
//!
//! **Starving.** A sender whose ring is full has nothing to do until the receiver has read, and sleeps until then: it says so in a
//! flag of the link, and only then tries a last time. A receiver that has read much takes the flag down and wakes the sender, by the
//! same two steps the other way round. It need not look when it has read little: a ring that was full shows at least half of its
//! content to the next reading.
//!
//! Invariants: (1) what is sent on one link arrives once and in order, whichever ring it goes through; (2) a parcel is
//! pushed before its marker is; (3) a shard whose `announce_sleep` answered true is
//! woken by the next flush that has something for it.
//!
//! Frame, little-endian: `length u32` (whole frame), `kind u8`, `protocol u8`, `flags u16`, then for a command
//! `connection u32, generation u32, sequence u32, db u32, slot u16, command u16, arguments...`, for a reply
//! `connection u32, generation u32, sequence u32, RESP...`, for a marker nothing, for the sender's time `unix ms u64`.

mod reader;

use super::ShardId;
use crate::base::clock::UnixMs;
use crate::base::limits::LINK_STAGED_BYTES_MAX;
use crate::base::size_class::allocated;
use reader::Reader;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

/// What goes before the arguments of a command sent to the home of its slot. The link gives no meaning to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandHeader {
    /// The connection on the sending shard.
    pub connection: u32,
    pub generation: u32,
    /// The command's number within its connection: the reply carries it back.
    pub sequence: u32,
    pub db: u32,
    pub slot: u16,
    /// The sender's index of the command in the table.
    pub command: u16,
    pub flags: u16,
    pub protocol: u8,
}

/// What goes before an encoded reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplyHeader {
    pub connection: u32,
    pub generation: u32,
    pub sequence: u32,
    pub flags: u16,
}

/// What a link delivers.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a, M> {
    Command {
        header: CommandHeader,
        arguments: &'a [u8],
    },
    Reply {
        header: ReplyHeader,
        resp: &'a [u8],
    },
    /// A message as it was sent: moved, not copied.
    Message(M),
    /// The sender's time, when it sent what follows.
    Clock(UnixMs),
}

/// Who is handed what arrives. Any function of a frame will do; one that looks ahead is told of commands before their turn.
pub trait Take<M> {
    /// A command is among the next ones: its memory can be asked for. It comes to [`Take::take`] in its turn.
    #[inline]
    fn foresee(&mut self, _header: &CommandHeader, _arguments: &[u8]) {}

    /// The next frame.
    fn take(&mut self, from: ShardId, frame: Frame<'_, M>);
}

impl<M, F: FnMut(ShardId, Frame<'_, M>)> Take<M> for F {
    #[inline]
    fn take(&mut self, from: ShardId, frame: Frame<'_, M>) {
        self(from, frame)
    }
}

/// How many frames are looked at ahead of their turn.
const FORESEEN_FRAMES: usize = 16;

/// All ends of links that one shard has. It is made where the shards are, and moves to the shard's thread.
pub struct Port<M> {
    pub outbound: Outbound<M>,
    pub inbound: Inbound<M>,
    pub doorbells: Doorbells,
}

/// The sending ends of one shard's links.
pub struct Outbound<M> {
    /// By target; `None` for the shard itself.
    senders: Vec<Option<Sender<M>>>,
    /// The sender's time: what is sent carries it, so that nobody who knows of it runs at an earlier one.
    pub now: UnixMs,
    /// The targets for which something was written since they were last found up to date.
    dirty: Vec<ShardId>,
    /// Shards that wait for room in a link to this one, of which something has been read.
    owed_wakes: Vec<ShardId>,
    doorbells: Doorbells,
    /// What is sent waits for the end of its pass.
    holds: bool,
    /// Slots of this pass, in the order in which they were sent.
    slots: Vec<(ShardId, M)>,
    /// Slots of earlier passes, of which other frames are still staged.
    slots_behind: VecDeque<SlotsBehind<M>>,
}

/// Slots of one pass that wait for its other frames.
struct SlotsBehind<M> {
    /// The links in which some are staged, each with where these end among all bytes that were ever staged.
    frames: Vec<(ShardId, u64)>,
    slots: Vec<(ShardId, M)>,
}

/// No frames of any turn are staged.
const NO_BOUND: u64 = u64::MAX;

/// The receiving ends of one shard's links.
pub struct Inbound<M> {
    shard: ShardId,
    /// By source; `None` for the shard itself.
    receivers: Vec<Option<Receiver<M>>>,
    /// Where a frame that straddles the wrap is put together.
    scratch: Vec<u8>,
    /// Sources that waited for room, and have some now.
    relieved: Vec<ShardId>,
    doorbells: Doorbells,
}

/// One bell for each shard: whether it sleeps. Any thread that has something for a shard may look.
#[derive(Clone)]
pub struct Doorbells(Arc<[Bell]>);

/// On cache lines of its own (two, since processors fetch them in pairs).
#[repr(align(128))]
struct Bell {
    is_sleeping: AtomicBool,
}

struct Sender<M> {
    bytes: rtrb::Producer<u8>,
    parcels: rtrb::Producer<Parcel<M>>,
    staged_bytes: Vec<u8>,
    /// So many of the staged bytes are in the ring already.
    published_count: usize,
    /// With each, where its marker begins among all bytes that were ever staged.
    staged_parcels: VecDeque<(u64, Parcel<M>)>,
    /// Bytes that were staged before the first of `staged_bytes`.
    staged_before: u64,
    /// Bytes of the staged parcels that are frames.
    parcel_bytes: usize,
    is_starving: Arc<AtomicBool>,
    /// Passes of which frames are staged: where these end among all bytes that were ever staged, and a bound below the pass's turn.
    staged_turns: VecDeque<(u64, u64)>,
    /// The first of these bounds.
    bound: Arc<AtomicU64>,
    frame_bytes_max: usize,
    gathered_bytes_max: usize,
    is_dirty: bool,
    /// The time that the target has been told.
    told: UnixMs,
}

struct Receiver<M> {
    bytes: rtrb::Consumer<u8>,
    parcels: rtrb::Consumer<Parcel<M>>,
    is_starving: Arc<AtomicBool>,
    bound: Arc<AtomicU64>,
}

/// What goes beside the byte ring.
enum Parcel<M> {
    Message(M),
    /// A frame too long for the ring.
    Frame(Box<[u8]>),
}

const KIND_MARKER: u8 = 1;
const KIND_COMMAND: u8 = 2;
const KIND_REPLY: u8 = 3;
const KIND_CLOCK: u8 = 4;
/// Length, kind, protocol and flags.
const FRAME_HEAD_BYTES: usize = 8;
const COMMAND_HEAD_BYTES: usize = 28;
const REPLY_HEAD_BYTES: usize = 20;
const CLOCK_FRAME_BYTES: usize = 16;

/// Parcels that fit in the ring beside the bytes; beyond that they wait at the sender. Loans and large values are
/// few; with 64 shards there are 4032 such rings.
const PARCELS_MAX: usize = 64;
/// A sender publishes before the end of its pass when so much has gathered (or half of what the ring holds), so that the other core can
/// begin.
const GATHERED_BYTES_MAX: usize = 8 << 10;
/// A staging buffer that has grown beyond this is given back when it is empty, as is a list of parcels beyond what a ring holds: there is one
/// of each for each pair of shards.
pub const STAGED_BYTES_KEPT: usize = 2 * GATHERED_BYTES_MAX;
/// Room for all the byte rings of a process, and the bounds for one of them.
const ALL_RINGS_BYTES: usize = 32 << 20;
const RING_BYTES_MIN: usize = 8 << 10;
const RING_BYTES_MAX: usize = 128 << 10;

/// The size of each link's byte ring that suits so many shards.
pub fn ring_bytes_for(shard_count: u16) -> usize {
    let link_count = (shard_count as usize * shard_count.saturating_sub(1) as usize).max(1);
    (ALL_RINGS_BYTES / link_count).clamp(RING_BYTES_MIN, RING_BYTES_MAX)
}

/// All links between so many shards: one port for each shard, in their order.
pub fn connect<M: Send>(shard_count: u16, ring_bytes: usize) -> Vec<Port<M>> {
    let doorbells = Doorbells(
        (0..shard_count)
            .map(|_| Bell {
                is_sleeping: AtomicBool::new(false),
            })
            .collect(),
    );
    let mut ports: Vec<Port<M>> = (0..shard_count)
        .map(|shard| Port {
            outbound: Outbound {
                senders: Vec::new(),
                now: UnixMs::EPOCH,
                dirty: Vec::new(),
                owed_wakes: Vec::new(),
                doorbells: doorbells.clone(),
                holds: false,
                slots: Vec::new(),
                slots_behind: VecDeque::new(),
            },
            inbound: Inbound {
                shard: ShardId(shard),
                receivers: Vec::new(),
                scratch: Vec::new(),
                relieved: Vec::new(),
                doorbells: doorbells.clone(),
            },
            doorbells: doorbells.clone(),
        })
        .collect();
    for from in 0..shard_count as usize {
        for to in 0..shard_count as usize {
            let (sender, receiver) = if from == to { (None, None) } else { link(ring_bytes) };
            // Sources come in ascending order for each target, so pushing puts each receiver in its place.
            ports[from].outbound.senders.push(sender);
            ports[to].inbound.receivers.push(receiver);
        }
    }
    ports
}

fn link<M>(ring_bytes: usize) -> (Option<Sender<M>>, Option<Receiver<M>>) {
    let (bytes_in, bytes_out) = rtrb::RingBuffer::new(ring_bytes);
    let (parcels_in, parcels_out) = rtrb::RingBuffer::new(PARCELS_MAX);
    let is_starving = Arc::new(AtomicBool::new(false));
    let bound = Arc::new(AtomicU64::new(NO_BOUND));
    let sender = Sender {
        bytes: bytes_in,
        parcels: parcels_in,
        staged_bytes: Vec::new(),
        published_count: 0,
        staged_parcels: VecDeque::new(),
        staged_before: 0,
        parcel_bytes: 0,
        is_starving: is_starving.clone(),
        staged_turns: VecDeque::new(),
        bound: bound.clone(),
        frame_bytes_max: ring_bytes / 4,
        gathered_bytes_max: (ring_bytes / 2).min(GATHERED_BYTES_MAX),
        is_dirty: false,
        told: UnixMs::EPOCH,
    };
    (
        Some(sender),
        Some(Receiver {
            bytes: bytes_out,
            parcels: parcels_out,
            is_starving,
            bound,
        }),
    )
}

impl<M: Send> Outbound<M> {
    /// Sends a command to another shard; `encode` appends its arguments.
    #[inline]
    pub fn command(&mut self, to: ShardId, header: &CommandHeader, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut head = [0; COMMAND_HEAD_BYTES];
        head[4] = KIND_COMMAND;
        head[5] = header.protocol;
        head[6..8].copy_from_slice(&header.flags.to_le_bytes());
        head[8..12].copy_from_slice(&header.connection.to_le_bytes());
        head[12..16].copy_from_slice(&header.generation.to_le_bytes());
        head[16..20].copy_from_slice(&header.sequence.to_le_bytes());
        head[20..24].copy_from_slice(&header.db.to_le_bytes());
        head[24..26].copy_from_slice(&header.slot.to_le_bytes());
        head[26..28].copy_from_slice(&header.command.to_le_bytes());
        self.frame(to, &head, encode);
    }

    /// Sends a reply to another shard; `encode` appends its RESP bytes, of any length.
    #[inline]
    pub fn reply(&mut self, to: ShardId, header: &ReplyHeader, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut head = [0; REPLY_HEAD_BYTES];
        head[4] = KIND_REPLY;
        head[6..8].copy_from_slice(&header.flags.to_le_bytes());
        head[8..12].copy_from_slice(&header.connection.to_le_bytes());
        head[12..16].copy_from_slice(&header.generation.to_le_bytes());
        head[16..20].copy_from_slice(&header.sequence.to_le_bytes());
        self.frame(to, &head, encode);
    }

    /// Sends a message to another shard.
    #[inline]
    pub fn message(&mut self, to: ShardId, message: M) {
        let holds = self.holds;
        let sender = self.sender(to);
        sender.mark(Parcel::Message(message));
        if !holds {
            sender.publish_early();
        }
    }

    /// Sends a message with slots in it, or one that keeps its place among such messages: while the sender holds, behind everything
    /// else of its pass.
    #[inline]
    pub fn slots(&mut self, to: ShardId, message: M) {
        if self.holds {
            self.slots.push((to, message));
        } else {
            self.message(to, message);
        }
    }

    #[inline]
    fn frame(&mut self, to: ShardId, head: &[u8], encode: impl FnOnce(&mut Vec<u8>)) {
        let holds = self.holds;
        let sender = self.sender(to);
        sender.frame(head, encode);
        if !holds {
            sender.publish_early();
        }
    }

    /// Whether nothing may leave before its pass is released. To be said where a pass begins; what is held by then leaves with it.
    #[inline]
    pub fn hold(&mut self, holds: bool) {
        self.holds = holds;
    }

    /// Whether little enough waits for room in the link to that shard for something new to begin.
    #[inline]
    pub fn has_room(&self, to: ShardId) -> bool {
        self.senders[to.0 as usize].as_ref().is_none_or(Sender::has_room)
    }

    /// The same for all links.
    pub fn has_room_everywhere(&self) -> bool {
        self.senders.iter().flatten().all(Sender::has_room)
    }

    /// Bytes that wait for room.
    pub fn staged_bytes(&self) -> usize {
        self.senders.iter().flatten().map(Sender::waiting_bytes).sum()
    }

    /// Bytes of memory that the links to others take: the rings, and the buffers of what waits for room.
    pub fn memory_bytes(&self) -> usize {
        self.senders.iter().flatten().map(Sender::memory_bytes).sum()
    }

    /// For a shard that is about to sleep and has announced that: says to the targets whose rings are full that it waits for room.
    /// `false`: there is room by now, do not sleep. After `true`, a target that has read wakes this shard.
    pub fn announce_starving(&mut self) -> bool {
        if self.dirty.is_empty() {
            return true;
        }
        for target in &self.dirty {
            let sender = self.senders[target.0 as usize].as_ref();
            let sender = sender.expect("only links to others get dirty");
            sender.is_starving.store(true, Ordering::SeqCst);
        }
        // Between saying so and trying again: see "Starving" above.
        fence(Ordering::SeqCst);
        let has_room = |target: &ShardId| {
            self.senders[target.0 as usize]
                .as_ref()
                .is_some_and(Sender::could_publish)
        };
        !self.dirty.iter().any(has_room)
    }

    /// These shards wait for room in their links to this one, and have some now: the next flush wakes them.
    pub fn owe_wakes(&mut self, shards: &mut Vec<ShardId>) {
        self.owed_wakes.append(shards);
    }

    /// Makes visible what was sent, at the end of each pass, and calls `wake` once for each target that sleeps and
    /// has got something. To be called in each pass.
    pub fn flush(&mut self, wake: impl FnMut(ShardId)) {
        self.release(None, wake);
    }

    /// The same for a pass that has taken a turn.
    pub fn release(&mut self, turn: Option<u64>, mut wake: impl FnMut(ShardId)) {
        for shard in self.owed_wakes.drain(..) {
            if self.doorbells.take_sleep(shard) {
                wake(shard);
            }
        }
        self.publish(&mut wake);
        if let (Some(turn), false) = (turn, self.dirty.is_empty()) {
            self.show_bounds(turn);
        }
        if !self.slots.is_empty() || !self.slots_behind.is_empty() {
            self.release_slots(&mut wake);
        }
    }

    /// Puts into the rings what fits.
    fn publish(&mut self, wake: &mut impl FnMut(ShardId)) {
        if self.dirty.is_empty() {
            return;
        }
        for target in &self.dirty {
            self.senders[target.0 as usize]
                .as_mut()
                .expect("only links to others get dirty")
                .publish();
        }
        // Between publishing and looking at the bells: see "Sleep" above.
        fence(Ordering::SeqCst);
        let (senders, doorbells) = (&mut self.senders, &self.doorbells);
        self.dirty.retain(|target| {
            if doorbells.take_sleep(*target) {
                wake(*target);
            }
            let sender = senders[target.0 as usize]
                .as_mut()
                .expect("only links to others get dirty");
            sender.is_dirty = !sender.is_published();
            sender.is_dirty
        });
    }

    /// Some links have no room for all frames of this turn: they show a bound below it until they have.
    #[cold]
    fn show_bounds(&mut self, turn: u64) {
        for target in &self.dirty {
            let sender = self.senders[target.0 as usize].as_mut();
            let sender = sender.expect("only links to others get dirty");
            sender.staged_turns.push_back((sender.staged_end(), turn - 1));
            sender.settle_bound();
        }
    }

    /// Sends the slots of each pass of which everything else is in its ring.
    #[cold]
    fn release_slots(&mut self, wake: &mut impl FnMut(ShardId)) {
        if !self.slots.is_empty() {
            let staged_end = |target: &ShardId| {
                let sender = self.senders[target.0 as usize].as_ref();
                (*target, sender.map_or(0, Sender::staged_end))
            };
            let frames = self.dirty.iter().map(staged_end).collect();
            let slots = std::mem::take(&mut self.slots);
            self.slots_behind.push_back(SlotsBehind { frames, slots });
        }
        let senders = &self.senders;
        let is_published = |(target, end): &(ShardId, u64)| {
            let sender = senders[target.0 as usize].as_ref();
            sender.is_none_or(|sender| sender.published_end() >= *end)
        };
        let is_free = |behind: &SlotsBehind<M>| behind.frames.iter().all(is_published);
        let free_count = self.slots_behind.iter().take_while(|behind| is_free(behind)).count();
        for SlotsBehind { slots, .. } in self.slots_behind.drain(..free_count).collect::<Vec<_>>() {
            for (to, message) in slots {
                self.sender(to).mark(Parcel::Message(message));
            }
        }
        self.publish(wake);
    }

    /// Whether something still waits for room in a target's ring.
    pub fn has_backlog(&self) -> bool {
        !self.dirty.is_empty()
    }

    #[inline]
    fn sender(&mut self, to: ShardId) -> &mut Sender<M> {
        let sender = self.senders[to.0 as usize]
            .as_mut()
            .expect("a shard has no link to itself");
        if !sender.is_dirty {
            sender.is_dirty = true;
            self.dirty.push(to);
        }
        if sender.told < self.now {
            sender.tell(self.now);
        }
        sender
    }
}

impl<M> Sender<M> {
    /// Stages a frame: a head whose length is not yet known, and what `encode` appends.
    #[inline]
    fn frame(&mut self, head: &[u8], encode: impl FnOnce(&mut Vec<u8>)) {
        let start = self.staged_bytes.len();
        self.staged_bytes.extend_from_slice(head);
        encode(&mut self.staged_bytes);
        let frame_bytes = self.staged_bytes.len() - start;
        if frame_bytes > self.frame_bytes_max {
            let frame = self.staged_bytes.split_off(start).into_boxed_slice();
            self.parcel_bytes += frame.len();
            return self.mark(Parcel::Frame(frame));
        }
        self.staged_bytes[start..start + 4].copy_from_slice(&(frame_bytes as u32).to_le_bytes());
    }

    /// Stages the time, once for each millisecond in which something is sent.
    #[cold]
    fn tell(&mut self, now: UnixMs) {
        self.told = now;
        let mut frame = [0; CLOCK_FRAME_BYTES];
        frame[..4].copy_from_slice(&(CLOCK_FRAME_BYTES as u32).to_le_bytes());
        frame[4] = KIND_CLOCK;
        frame[8..].copy_from_slice(&now.0.to_le_bytes());
        self.staged_bytes.extend_from_slice(&frame);
    }

    /// Stages a parcel and its marker.
    fn mark(&mut self, parcel: Parcel<M>) {
        let at = self.staged_before + self.staged_bytes.len() as u64;
        self.staged_parcels.push_back((at, parcel));
        let mut head = [0; FRAME_HEAD_BYTES];
        head[..4].copy_from_slice(&(FRAME_HEAD_BYTES as u32).to_le_bytes());
        head[4] = KIND_MARKER;
        self.staged_bytes.extend_from_slice(&head);
    }

    #[inline]
    fn publish_early(&mut self) {
        // Not when more is staged than one gathering: then the ring was full the last time.
        let gathered = self.staged_bytes.len() - self.published_count;
        if (self.gathered_bytes_max..2 * self.gathered_bytes_max).contains(&gathered) {
            self.publish();
        }
    }

    /// Puts into the rings what fits.
    fn publish(&mut self) {
        while let Some((at, parcel)) = self.staged_parcels.pop_front() {
            let frame_bytes = match &parcel {
                Parcel::Frame(frame) => frame.len(),
                Parcel::Message(_) => 0,
            };
            if let Err(rtrb::PushError::Full(parcel)) = self.parcels.push(parcel) {
                self.staged_parcels.push_front((at, parcel));
                break;
            }
            self.parcel_bytes -= frame_bytes;
        }
        let publishable = self.publishable_count();
        let (pushed, _) = self
            .bytes
            .push_partial_slice(&self.staged_bytes[self.published_count..publishable]);
        self.published_count += pushed.len();
        if self.published_count == self.staged_bytes.len() {
            self.forget_published();
            self.staged_bytes.shrink_to(STAGED_BYTES_KEPT);
            if self.staged_parcels.capacity() > PARCELS_MAX {
                self.staged_parcels.shrink_to(PARCELS_MAX);
            }
        } else if self.published_count > self.staged_bytes.len() / 2 {
            self.forget_published();
        }
        if !self.staged_turns.is_empty() {
            self.settle_bound();
        }
    }

    /// Where what is staged ends among all bytes that were ever staged.
    fn staged_end(&self) -> u64 {
        self.staged_before + self.staged_bytes.len() as u64
    }

    /// Where what is in the ring ends.
    fn published_end(&self) -> u64 {
        self.staged_before + self.published_count as u64
    }

    /// Shows the bound of the first turn of which frames are staged. They are in the ring before it goes.
    #[cold]
    fn settle_bound(&mut self) {
        while let Some((end, _)) = self.staged_turns.front()
            && *end <= self.published_end()
        {
            self.staged_turns.pop_front();
        }
        if self.staged_turns.is_empty() && self.staged_turns.capacity() > PARCELS_MAX {
            self.staged_turns.shrink_to(PARCELS_MAX);
        }
        let bound = self.staged_turns.front().map_or(NO_BOUND, |(_, bound)| *bound);
        self.bound.store(bound, Ordering::SeqCst);
    }

    /// How many of the staged bytes come before the marker of a parcel that is not in its ring.
    fn publishable_count(&self) -> usize {
        match self.staged_parcels.front() {
            Some((at, _)) => (*at - self.staged_before) as usize,
            None => self.staged_bytes.len(),
        }
    }

    fn forget_published(&mut self) {
        self.staged_bytes.drain(..self.published_count);
        self.staged_before += self.published_count as u64;
        self.published_count = 0;
    }

    fn is_published(&self) -> bool {
        self.staged_bytes.is_empty()
    }

    /// Whether the next [`Sender::publish`] would put anything into the rings.
    fn could_publish(&self) -> bool {
        let has_bytes = self.published_count < self.publishable_count() && self.bytes.slots() > 0;
        has_bytes || !self.staged_parcels.is_empty() && self.parcels.slots() > 0
    }

    fn waiting_bytes(&self) -> usize {
        self.staged_bytes.len() - self.published_count + self.parcel_bytes
    }

    fn memory_bytes(&self) -> usize {
        self.bytes.buffer().capacity()
            + PARCELS_MAX * size_of::<Parcel<M>>()
            + allocated(self.staged_bytes.capacity())
            + self.staged_parcels.capacity() * size_of::<(u64, Parcel<M>)>()
            + self.staged_turns.capacity() * size_of::<(u64, u64)>()
            + self.parcel_bytes
    }

    #[inline]
    fn has_room(&self) -> bool {
        self.waiting_bytes() < LINK_STAGED_BYTES_MAX
    }
}

impl<M: Send> Inbound<M> {
    /// Hands out what has arrived, link by link, each in order; answers how many frames it was.
    pub fn drain(&mut self, take: impl FnMut(ShardId, Frame<'_, M>)) -> usize {
        self.drain_into(take)
    }

    /// As [`Inbound::drain`], for one who may look ahead.
    pub fn drain_into(&mut self, mut take: impl Take<M>) -> usize {
        let mut frame_count = 0;
        for (from, receiver) in self.receivers.iter_mut().enumerate() {
            if let Some(receiver) = receiver {
                let from = ShardId(from as u16);
                frame_count += receiver.drain(from, &mut self.scratch, &mut take, &mut self.relieved);
            }
        }
        frame_count
    }

    /// The turns up to which frames that come by these links are in them. To be read before they are drained.
    pub fn bound(&self) -> u64 {
        let receivers = self.receivers.iter().flatten();
        let bounds = receivers.map(|receiver| receiver.bound.load(Ordering::SeqCst));
        bounds.min().unwrap_or(NO_BOUND)
    }

    /// Sources that have room since the last drainings, to be woken ([`Outbound::owe_wakes`]).
    pub fn relieved(&mut self) -> &mut Vec<ShardId> {
        &mut self.relieved
    }

    /// Says that this shard is about to sleep. `false`: something has arrived, do not sleep. After `true`, whoever
    /// sends something wakes it; call [`Inbound::awake`] then, or when it wakes for another reason.
    pub fn announce_sleep(&mut self) -> bool {
        let bell = &self.doorbells.0[self.shard.0 as usize];
        bell.is_sleeping.store(true, Ordering::SeqCst);
        // Between setting the bell and looking at the links: see "Sleep" above.
        fence(Ordering::SeqCst);
        let is_empty = self
            .receivers
            .iter()
            .flatten()
            .all(|receiver| receiver.bytes.is_empty());
        if !is_empty {
            bell.is_sleeping.store(false, Ordering::Relaxed);
        }
        is_empty
    }

    /// The shard does not sleep any more: nobody needs to wake it.
    pub fn awake(&mut self) {
        self.doorbells.0[self.shard.0 as usize]
            .is_sleeping
            .store(false, Ordering::Relaxed);
    }
}

impl Doorbells {
    /// For a thread that has put something where the shard looks before it sleeps: whether the shard must be woken.
    /// Only one of those who ask is told so.
    pub fn ring(&self, shard: ShardId) -> bool {
        fence(Ordering::SeqCst);
        self.take_sleep(shard)
    }

    #[inline]
    fn take_sleep(&self, shard: ShardId) -> bool {
        let bell = &self.0[shard.0 as usize];
        bell.is_sleeping.load(Ordering::Relaxed) && bell.is_sleeping.swap(false, Ordering::SeqCst)
    }
}

impl<M> Receiver<M> {
    #[inline]
    fn drain(
        &mut self,
        from: ShardId,
        scratch: &mut Vec<u8>,
        take: &mut impl Take<M>,
        relieved: &mut Vec<ShardId>,
    ) -> usize {
        let available = self.bytes.slots();
        if available == 0 {
            return 0;
        }
        let was_full = 2 * available >= self.bytes.buffer().capacity() || 2 * self.parcels.slots() >= PARCELS_MAX;
        let chunk = self.bytes.read_chunk(available).expect("so many bytes are in the ring");
        let (first, second) = chunk.as_slices();
        let mut reader = Reader {
            from,
            parcels: &mut self.parcels,
            take,
            frame_count: 0,
            is_stopped: false,
        };
        let mut read_bytes = reader.read(first);
        if !reader.is_stopped && !second.is_empty() {
            let mut second_start = 0;
            if read_bytes < first.len() {
                second_start = reader.read_straddling(&first[read_bytes..], second, scratch);
                if !reader.is_stopped {
                    read_bytes = first.len();
                }
            }
            if !reader.is_stopped {
                read_bytes += second_start + reader.read(&second[second_start..]);
            }
        }
        let frame_count = reader.frame_count;
        chunk.commit(read_bytes);
        if was_full {
            // Between making room and looking at the flag: see "Starving" above.
            fence(Ordering::SeqCst);
            if self.is_starving.load(Ordering::Relaxed) && self.is_starving.swap(false, Ordering::SeqCst) {
                relieved.push(from);
            }
        }
        frame_count
    }
}

#[cfg(test)]
mod tests;
