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
//! drops. (The bound on what may stay is the bound on commands in flight of the connections.)
//!
//! The ring is a stream of bytes, not of frames: a frame may straddle the wrap, where the reader puts it together
//! in a scratch buffer (once in a lap), and it may arrive in pieces, in which case the reader leaves it until the rest
//! is there.
//!
//! **Sleep.** A shard that finds nothing to do sets its bell to sleeping, and only then looks at its links a last time.
//! A sender first publishes, and only then looks at the bell. With a sequentially consistent fence between the two
//! steps on either side, at least one of them sees the other: either the sleeper finds the frame, or the sender finds
//! the sleeper, takes the flag down (so that it is woken once) and wakes it.
//!
//! Invariants: (1) what is sent on one link arrives once and in order, whichever ring it goes through; (2) a parcel is
//! pushed before its marker is, or the reader waits at the marker; (3) a shard whose `announce_sleep` answered true is
//! woken by the next flush that has something for it.
//!
//! Frame, little-endian: `length u32` (whole frame), `kind u8`, `protocol u8`, `flags u16`, then for a command
//! `connection u32, generation u32, sequence u32, db u32, slot u16, command u16, arguments...`, for a reply
//! `connection u32, generation u32, sequence u32, RESP...`, for a marker nothing, for the sender's time `unix ms u64`.

use super::ShardId;
use crate::base::clock::UnixMs;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

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
    doorbells: Doorbells,
}

/// The receiving ends of one shard's links.
pub struct Inbound<M> {
    shard: ShardId,
    /// By source; `None` for the shard itself.
    receivers: Vec<Option<Receiver<M>>>,
    /// Where a frame that straddles the wrap is put together.
    scratch: Vec<u8>,
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
    staged_parcels: VecDeque<Parcel<M>>,
    frame_bytes_max: usize,
    is_dirty: bool,
    /// The time that the target has been told.
    told: UnixMs,
}

struct Receiver<M> {
    bytes: rtrb::Consumer<u8>,
    parcels: rtrb::Consumer<Parcel<M>>,
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
/// A sender publishes before the end of its pass when so much has gathered, so that the other core can begin.
const GATHERED_BYTES_MAX: usize = 8 << 10;
/// A staging buffer that has grown beyond this is given back when it is empty.
const STAGED_BYTES_KEPT: usize = 256 << 10;
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
                doorbells: doorbells.clone(),
            },
            inbound: Inbound {
                shard: ShardId(shard),
                receivers: Vec::new(),
                scratch: Vec::new(),
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
    let sender = Sender {
        bytes: bytes_in,
        parcels: parcels_in,
        staged_bytes: Vec::new(),
        published_count: 0,
        staged_parcels: VecDeque::new(),
        frame_bytes_max: ring_bytes / 4,
        is_dirty: false,
        told: UnixMs::EPOCH,
    };
    (
        Some(sender),
        Some(Receiver {
            bytes: bytes_out,
            parcels: parcels_out,
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
        self.sender(to).frame(&head, encode);
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
        self.sender(to).frame(&head, encode);
    }

    /// Sends a message to another shard.
    #[inline]
    pub fn message(&mut self, to: ShardId, message: M) {
        let sender = self.sender(to);
        sender.staged_parcels.push_back(Parcel::Message(message));
        sender.mark();
    }

    /// Makes visible what was sent, at the end of each pass, and calls `wake` once for each target that sleeps and
    /// has got something. To be called in each pass while [`Outbound::has_backlog`].
    pub fn flush(&mut self, mut wake: impl FnMut(ShardId)) {
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

    /// Whether something still waits for room in a target's ring. The target does not know: do not sleep, flush again.
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
            self.staged_parcels.push_back(Parcel::Frame(frame));
            return self.mark();
        }
        self.staged_bytes[start..start + 4].copy_from_slice(&(frame_bytes as u32).to_le_bytes());
        self.publish_early();
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

    /// Stages the marker of the parcel that was staged last.
    fn mark(&mut self) {
        let mut head = [0; FRAME_HEAD_BYTES];
        head[..4].copy_from_slice(&(FRAME_HEAD_BYTES as u32).to_le_bytes());
        head[4] = KIND_MARKER;
        self.staged_bytes.extend_from_slice(&head);
        self.publish_early();
    }

    #[inline]
    fn publish_early(&mut self) {
        // Not when more is staged than one gathering: then the ring was full the last time.
        let gathered = self.staged_bytes.len() - self.published_count;
        if (GATHERED_BYTES_MAX..2 * GATHERED_BYTES_MAX).contains(&gathered) {
            self.publish();
        }
    }

    /// Puts into the rings what fits.
    fn publish(&mut self) {
        while let Some(parcel) = self.staged_parcels.pop_front() {
            if let Err(rtrb::PushError::Full(parcel)) = self.parcels.push(parcel) {
                self.staged_parcels.push_front(parcel);
                break;
            }
        }
        let (pushed, _) = self
            .bytes
            .push_partial_slice(&self.staged_bytes[self.published_count..]);
        self.published_count += pushed.len();
        if self.published_count == self.staged_bytes.len() {
            self.staged_bytes.clear();
            self.staged_bytes.shrink_to(STAGED_BYTES_KEPT);
            self.published_count = 0;
        } else if self.published_count > self.staged_bytes.len() / 2 {
            self.staged_bytes.drain(..self.published_count);
            self.published_count = 0;
        }
    }

    fn is_published(&self) -> bool {
        self.staged_bytes.is_empty() && self.staged_parcels.is_empty()
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
                frame_count += receiver.drain(from, &mut self.scratch, &mut take);
            }
        }
        frame_count
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
    fn drain(&mut self, from: ShardId, scratch: &mut Vec<u8>, take: &mut impl Take<M>) -> usize {
        let available = self.bytes.slots();
        if available == 0 {
            return 0;
        }
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
        frame_count
    }
}

/// One walk over what a link has.
struct Reader<'a, M, T> {
    from: ShardId,
    parcels: &'a mut rtrb::Consumer<Parcel<M>>,
    take: &'a mut T,
    frame_count: usize,
    /// Something has not wholly arrived, and what is behind it must wait.
    is_stopped: bool,
}

impl<M, T: Take<M>> Reader<'_, M, T> {
    /// Reads the whole frames at the start of `bytes`; answers how many bytes they are.
    #[inline]
    fn read(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        let mut foreseen_until = 0;
        while let Some(frame_bytes) = frame_bytes(&bytes[at..])
            && let Some(frame) = bytes[at..].get(..frame_bytes)
            && {
                if at >= foreseen_until {
                    foreseen_until = at + self.foresee(&bytes[at..]);
                }
                self.hand_out(frame)
            }
        {
            at += frame_bytes;
        }
        at
    }

    /// Tells of the commands among the next frames; answers how many bytes these are.
    #[inline]
    fn foresee(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        for _ in 0..FORESEEN_FRAMES {
            let Some(frame_bytes) = frame_bytes(&bytes[at..]) else {
                break;
            };
            let Some(frame) = bytes[at..].get(..frame_bytes) else {
                break;
            };
            if frame[4] == KIND_COMMAND
                && let Frame::Command { header, arguments } = decode::<M>(frame)
            {
                self.take.foresee(&header, arguments);
            }
            at += frame_bytes;
        }
        at
    }

    /// Reads the frame that begins in `first`, where the ring ends, and goes on in `second`. Answers how many bytes of
    /// `second` it is.
    #[cold]
    fn read_straddling(&mut self, first: &[u8], second: &[u8], scratch: &mut Vec<u8>) -> usize {
        scratch.clear();
        scratch.extend_from_slice(first);
        let missing_head = FRAME_HEAD_BYTES.saturating_sub(first.len());
        scratch.extend_from_slice(&second[..missing_head.min(second.len())]);
        let frame_bytes = frame_bytes(scratch);
        let Some(rest) = frame_bytes.and_then(|frame_bytes| second.get(..frame_bytes - first.len())) else {
            self.is_stopped = true;
            return 0;
        };
        scratch.truncate(first.len());
        scratch.extend_from_slice(rest);
        if self.hand_out(scratch) { rest.len() } else { 0 }
    }

    /// Hands out one frame; `false`: it is the marker of a parcel that has not arrived.
    #[inline]
    fn hand_out(&mut self, frame: &[u8]) -> bool {
        if frame[4] == KIND_MARKER {
            match self.parcels.pop() {
                Ok(Parcel::Message(message)) => self.take.take(self.from, Frame::Message(message)),
                Ok(Parcel::Frame(frame)) => self.take.take(self.from, decode(&frame)),
                Err(rtrb::PopError::Empty) => {
                    self.is_stopped = true;
                    return false;
                }
            }
        } else {
            self.take.take(self.from, decode(frame));
        }
        self.frame_count += 1;
        true
    }
}

/// The length of the frame at the start of `bytes`, if its head is there.
#[inline]
fn frame_bytes(bytes: &[u8]) -> Option<usize> {
    let head = bytes.first_chunk::<FRAME_HEAD_BYTES>()?;
    Some(u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize)
}

#[inline]
fn decode<M>(frame: &[u8]) -> Frame<'_, M> {
    let u16_at = |at: usize| u16::from_le_bytes([frame[at], frame[at + 1]]);
    let u32_at = |at: usize| u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
    match frame[4] {
        KIND_COMMAND => {
            let arguments = &frame[COMMAND_HEAD_BYTES..];
            let header = CommandHeader {
                connection: u32_at(8),
                generation: u32_at(12),
                sequence: u32_at(16),
                db: u32_at(20),
                slot: u16_at(24),
                command: u16_at(26),
                flags: u16_at(6),
                protocol: frame[5],
            };
            Frame::Command { header, arguments }
        }
        KIND_REPLY => {
            let resp = &frame[REPLY_HEAD_BYTES..];
            let header = ReplyHeader {
                connection: u32_at(8),
                generation: u32_at(12),
                sequence: u32_at(16),
                flags: u16_at(6),
            };
            Frame::Reply { header, resp }
        }
        KIND_CLOCK => {
            let bytes = frame[8..]
                .first_chunk()
                .expect("a frame of this kind has eight bytes behind its head");
            Frame::Clock(UnixMs(u64::from_le_bytes(*bytes)))
        }
        kind => panic!("a link delivered a frame of kind {kind}, which nobody sends"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// One thing that was sent, as the test remembers it.
    #[derive(Debug, PartialEq, Eq, Clone)]
    enum Sent {
        Command(u32, Vec<u8>),
        Reply(u32, Vec<u8>),
        Message(u32),
    }

    fn sent(sequence: u32, random: &mut fastrand::Rng) -> Sent {
        let length = match random.u8(..20) {
            0 => random.usize(1000..5000),
            1..5 => 0,
            _ => random.usize(..60),
        };
        let bytes = (0..length).map(|at| (at as u32 ^ sequence) as u8).collect();
        match random.u8(..10) {
            0 => Sent::Message(sequence),
            1..5 => Sent::Reply(sequence, bytes),
            _ => Sent::Command(sequence, bytes),
        }
    }

    fn send(outbound: &mut Outbound<u32>, to: ShardId, what: &Sent) {
        match what {
            Sent::Command(sequence, bytes) => {
                let header = CommandHeader {
                    connection: sequence ^ 1,
                    generation: sequence ^ 2,
                    sequence: *sequence,
                    db: sequence ^ 3,
                    slot: *sequence as u16,
                    command: !*sequence as u16,
                    flags: 7,
                    protocol: 3,
                };
                outbound.command(to, &header, |buffer| buffer.extend_from_slice(bytes));
            }
            Sent::Reply(sequence, bytes) => {
                let header = ReplyHeader {
                    connection: sequence ^ 1,
                    generation: sequence ^ 2,
                    sequence: *sequence,
                    flags: 9,
                };
                outbound.reply(to, &header, |buffer| buffer.extend_from_slice(bytes));
            }
            Sent::Message(sequence) => outbound.message(to, *sequence),
        }
    }

    fn received(frame: Frame<'_, u32>) -> Sent {
        match frame {
            Frame::Command { header, arguments } => {
                let sequence = header.sequence;
                assert_eq!((header.connection, header.generation), (sequence ^ 1, sequence ^ 2));
                assert_eq!((header.db, header.slot), (sequence ^ 3, sequence as u16));
                assert_eq!(
                    (header.command, header.flags, header.protocol),
                    (!sequence as u16, 7, 3)
                );
                Sent::Command(sequence, arguments.to_vec())
            }
            Frame::Reply { header, resp } => {
                let sequence = header.sequence;
                assert_eq!(
                    (header.connection, header.generation, header.flags),
                    (sequence ^ 1, sequence ^ 2, 9)
                );
                Sent::Reply(sequence, resp.to_vec())
            }
            Frame::Message(sequence) => Sent::Message(sequence),
            Frame::Clock(now) => panic!("nobody has told the time, and it is {now}"),
        }
    }

    #[test]
    fn keeps_order_across_both_rings_and_overflow() {
        let mut random = fastrand::Rng::with_seed(1);
        for ring_bytes in [64, 100, 1 << 10, 64 << 10] {
            let mut ports = connect::<u32>(3, ring_bytes);
            let mut expected: VecDeque<Sent> = VecDeque::new();
            let mut sequence = 0;
            while sequence < 5000 || !expected.is_empty() {
                for _ in 0..random.usize(..if sequence < 5000 { 200 } else { 1 }.max(1)) {
                    let what = sent(sequence, &mut random);
                    send(&mut ports[0].outbound, ShardId(2), &what);
                    expected.push_back(what);
                    sequence += 1;
                }
                if random.bool() {
                    ports[0].outbound.flush(|_| panic!("nobody sleeps"));
                }
                ports[2].inbound.drain(|from, frame| {
                    assert_eq!(from, ShardId(0));
                    assert_eq!(Some(received(frame)), expected.pop_front());
                });
            }
            ports[0].outbound.flush(|_| panic!("nobody sleeps"));
            assert!(!ports[0].outbound.has_backlog());
        }
    }

    #[test]
    fn wakes_a_sleeping_target_once() {
        let mut ports = connect::<u32>(2, 1 << 10);
        let mut other = ports.pop().expect("two ports");
        let mut this = ports.pop().expect("two ports");
        assert!(other.inbound.announce_sleep());
        let mut woken = Vec::new();
        this.outbound.flush(|shard| woken.push(shard));
        assert!(woken.is_empty(), "nothing was sent");
        this.outbound.message(ShardId(1), 1);
        assert!(other.inbound.announce_sleep(), "nothing is visible before the flush");
        this.outbound.flush(|shard| woken.push(shard));
        this.outbound.message(ShardId(1), 2);
        this.outbound.flush(|shard| woken.push(shard));
        assert_eq!(woken, [ShardId(1)]);
        assert!(!other.inbound.announce_sleep(), "there is something to read");
        assert_eq!(other.inbound.drain(|_, _| ()), 2);
        assert!(other.inbound.announce_sleep());
        assert!(this.doorbells.ring(ShardId(1)) && !this.doorbells.ring(ShardId(1)));
        assert!(other.inbound.announce_sleep());
        other.inbound.awake();
        assert!(!this.doorbells.ring(ShardId(1)));
    }

    /// Two threads that bounce messages and sleep whenever they can: a lost wake-up would stop them for ever, which
    /// shows as a wake-up that does not come within a time far beyond any scheduling delay.
    #[test]
    fn two_threads_lose_neither_frames_nor_wake_ups() {
        const ROUNDS: u32 = 20_000;
        let mut ports = connect::<u32>(2, 256).into_iter();
        let (wake_first, sleep_first) = mpsc::channel::<()>();
        let (wake_second, sleep_second) = mpsc::channel::<()>();
        let run = |mut port: Port<u32>, peer: ShardId, wake: mpsc::Sender<()>, sleep: mpsc::Receiver<()>| {
            let mut random = fastrand::Rng::with_seed(peer.0 as u64);
            let (mut sent_count, mut received_count) = (0, 0);
            while sent_count < ROUNDS || received_count < ROUNDS || port.outbound.has_backlog() {
                // The peer ends when it has received everything, so this side may be told later than it asks.
                let burst = random
                    .u32(..20)
                    .min(ROUNDS - sent_count)
                    .min(received_count + 64 - sent_count);
                for _ in 0..burst {
                    send(&mut port.outbound, peer, &sent(sent_count, &mut random));
                    sent_count += 1;
                }
                port.outbound.flush(|shard| {
                    assert_eq!(shard, peer);
                    // A peer that has ended does not listen any more.
                    let _ = wake.send(());
                });
                let taken = port.inbound.drain(|_, frame| {
                    let (Sent::Command(sequence, _) | Sent::Reply(sequence, _) | Sent::Message(sequence)) =
                        received(frame);
                    assert_eq!(sequence, received_count);
                    received_count += 1;
                });
                let is_blocked = sent_count == ROUNDS || sent_count == received_count + 64;
                let waits = is_blocked && taken == 0 && received_count < ROUNDS && !port.outbound.has_backlog();
                if waits && port.inbound.announce_sleep() {
                    sleep
                        .recv_timeout(std::time::Duration::from_secs(60))
                        .expect("a wake-up was lost");
                    port.inbound.awake();
                } else if taken == 0 {
                    std::thread::yield_now();
                }
            }
        };
        let (first, second) = (ports.next().expect("two ports"), ports.next().expect("two ports"));
        std::thread::scope(|scope| {
            scope.spawn(move || run(first, ShardId(1), wake_second, sleep_first));
            scope.spawn(move || run(second, ShardId(0), wake_first, sleep_second));
        });
    }
}
