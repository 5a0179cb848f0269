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

use super::ShardId;
use crate::base::clock::UnixMs;
use crate::base::limits::LINK_STAGED_BYTES_MAX;
use crate::base::size_class::allocated;
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
    /// Shards that wait for room in a link to this one, of which something has been read.
    owed_wakes: Vec<ShardId>,
    doorbells: Doorbells,
}

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
    frame_bytes_max: usize,
    is_dirty: bool,
    /// The time that the target has been told.
    told: UnixMs,
}

struct Receiver<M> {
    bytes: rtrb::Consumer<u8>,
    parcels: rtrb::Consumer<Parcel<M>>,
    is_starving: Arc<AtomicBool>,
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
/// A staging buffer that has grown beyond this is given back when it is empty: there is one for each pair of shards.
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
    let sender = Sender {
        bytes: bytes_in,
        parcels: parcels_in,
        staged_bytes: Vec::new(),
        published_count: 0,
        staged_parcels: VecDeque::new(),
        staged_before: 0,
        parcel_bytes: 0,
        is_starving: is_starving.clone(),
        frame_bytes_max: ring_bytes / 4,
        is_dirty: false,
        told: UnixMs::EPOCH,
    };
    (
        Some(sender),
        Some(Receiver {
            bytes: bytes_out,
            parcels: parcels_out,
            is_starving,
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
        self.sender(to).mark(Parcel::Message(message));
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
    pub fn flush(&mut self, mut wake: impl FnMut(ShardId)) {
        for shard in self.owed_wakes.drain(..) {
            if self.doorbells.take_sleep(shard) {
                wake(shard);
            }
        }
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

    /// Stages a parcel and its marker.
    fn mark(&mut self, parcel: Parcel<M>) {
        let at = self.staged_before + self.staged_bytes.len() as u64;
        self.staged_parcels.push_back((at, parcel));
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
        } else if self.published_count > self.staged_bytes.len() / 2 {
            self.forget_published();
        }
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

/// One walk over what a link has.
struct Reader<'a, M, T> {
    from: ShardId,
    parcels: &'a mut rtrb::Consumer<Parcel<M>>,
    take: &'a mut T,
    frame_count: usize,
    /// A frame has not wholly arrived.
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
        {
            if at >= foreseen_until {
                foreseen_until = at + self.foresee(&bytes[at..]);
            }
            self.hand_out(frame);
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
        self.hand_out(scratch);
        rest.len()
    }

    /// Hands out one frame.
    #[inline]
    fn hand_out(&mut self, frame: &[u8]) {
        if frame[4] == KIND_MARKER {
            match self
                .parcels
                .pop()
                .expect("invariant 2: a parcel comes before its marker")
            {
                Parcel::Message(message) => self.take.take(self.from, Frame::Message(message)),
                Parcel::Frame(frame) => self.take.take(self.from, decode(&frame)),
            }
        } else {
            self.take.take(self.from, decode(frame));
        }
        self.frame_count += 1;
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
mod tests;
