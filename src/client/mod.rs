//! The server's side of a peer: session, unread input, unsent output, and the transaction it is building.
//!
//! A [`Client`] belongs to the shard of its connection and knows no socket: bytes are put into `query` and taken out of
//! `out` by whoever moves them. Other shards name it by its [`ConnRef`]; what all shards need to know of all clients
//! (who exists, and where) stands in the process-wide [`ClientTable`].

mod figures;
mod follower;
mod held;
mod memory;
mod mode;
mod pending;
mod session;
mod table;
mod tracking;

pub use figures::ClientFigures;
pub use follower::{Follower, ReplicaWords, Stage};
pub use held::HeldReplies;
pub use memory::{ClientMemory, ReplyResizing, Usage};
pub use mode::{ClientType, Mode};
pub use pending::PendingReplies;
pub use session::{ReplyMode, Session};
pub use table::{ClientTable, Registration};
pub use tracking::{Tracking, TrackingMode};

use crate::base::clock::{Ticks, UnixMs};
use crate::base::size_class::allocated;
use crate::resp::{Args, OwnedArgs, ReplyBuf, RequestParser};
use crate::shard::durable::Need;
use crate::shard::{ConnRef, ShardId};
use crate::store::WatchToken;

/// One command that waits for EXEC.
#[derive(Clone, Debug)]
pub struct Queued {
    /// The command's number in the registry.
    pub command: u16,
    pub args: OwnedArgs,
}

/// What MULTI has collected.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    pub queue: Vec<Queued>,
    /// A command was refused while queueing: EXEC answers EXECABORT.
    pub is_aborted: bool,
    /// Bytes of the queued arguments, and a word for each, as Redis counts them.
    pub queued_bytes: usize,
}

impl Transaction {
    /// Adds a command, unless EXEC is refused anyway.
    pub fn queue(&mut self, command: u16, args: Args) {
        if !self.is_aborted {
            self.queued_bytes += args.byte_len() + args.len() * size_of::<usize>();
            self.queue.push(Queued {
                command,
                args: args.to_owned(),
            });
        }
    }
}

/// Why a connection's next request is not started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Stall {
    #[default]
    Not,
    /// It needs the commands before it to have been answered.
    Barrier,
    /// A unit of work or an asynchronous command of this connection is under way.
    Underway,
    /// As much of it is under way as may be ([`PendingReplies::is_full`]).
    Full,
    /// The link to the shard of its keys is full.
    Link,
    /// `CLIENT PAUSE`.
    Paused,
    /// As much is captured for a snapshot as may be.
    Snapshot,
    /// Its command waits for keys.
    Blocked,
    /// It is about to listen to less, and has still to hear what came before.
    Leaving,
}

/// Bytes of a client's buffers, as its shard has counted them.
#[derive(Clone, Copy, Debug, Default)]
pub struct CountedBuffers {
    pub input_bytes: usize,
    pub output_bytes: usize,
}

/// How much room an announced argument gets before its bytes arrive.
const QUERY_RESERVED_BYTES_MAX: usize = 1 << 20;

/// One peer.
pub struct Client {
    pub session: Session,
    pub mode: Mode,
    pub place: ConnRef,
    pub registration: Registration,
    pub connected_at: UnixMs,
    pub last_interaction: UnixMs,
    /// The last command's number in the registry.
    pub last_command: Option<u16>,
    pub transaction: Option<Box<Transaction>>,
    /// Keys under WATCH: slot and token.
    pub watched: Vec<(u16, WatchToken)>,
    /// Bytes that were received and not consumed: the beginning of a request, or requests that wait.
    pub query: Vec<u8>,
    /// How much of `query` is consumed already.
    pub query_start: usize,
    pub parser: RequestParser,
    /// How long `query` will be when the argument that is arriving is complete, where that is known.
    pub needed_bytes: usize,
    pub out: ReplyBuf,
    /// What all that is in `out` waits for, and what its earlier replies have waited for.
    pub need: Need,
    /// What has left `out` and waits for the disk.
    pub held: Option<Box<HeldReplies>>,
    pub pending: PendingReplies,
    /// How many of its pending commands have run, and wait only until all have their messages in their queues.
    pub undelivered: usize,
    /// The only shard on which its pending commands are under way; `None` when there are several, or nobody knows.
    pub pending_home: Option<ShardId>,
    pub stall: Stall,
    /// `query` holds requests that have not been looked at: they waited for an earlier one.
    pub has_waiting_requests: bool,
    /// No request is read any more; the connection ends when the output is written.
    pub is_closing: bool,
    /// The peer has closed its side: what has arrived is run and answered, and then the connection ends.
    pub is_half_closed: bool,
    /// Ends at once, output or not (CLIENT KILL, output buffer limits).
    pub is_killed: bool,
    /// Whether it stands in the shard's list of clients with something to send or to start.
    pub is_listed: bool,
    /// The number of its socket, which whoever owns the socket sets; -1 where there is none.
    pub socket_fd: i32,
    /// Bytes that the network plane holds for it, written by whoever moves the bytes.
    pub in_flight_bytes: usize,
    /// Its peer is read from.
    pub is_read: bool,
    /// Since when its output waits for replies behind it.
    pub corked_at: Option<Ticks>,
    /// How full its buffers were of late.
    pub usage: Usage,
    /// Since when its output is above the soft limit.
    pub above_soft_limit_since: Option<UnixMs>,
    /// What its buffers were counted with when it was last at work.
    pub counted: CountedBuffers,
    /// It copies this server.
    pub follower: Option<Box<Follower>>,
}

impl Client {
    pub fn new(mut session: Session, place: ConnRef, registration: Registration, now: UnixMs) -> Client {
        session.place = place;
        Client {
            session,
            mode: Mode::Normal,
            place,
            registration,
            connected_at: now,
            last_interaction: now,
            last_command: None,
            transaction: None,
            watched: Vec::new(),
            query: Vec::new(),
            query_start: 0,
            parser: RequestParser::default(),
            needed_bytes: 0,
            out: ReplyBuf::default(),
            need: Need::NONE,
            held: None,
            pending: PendingReplies::default(),
            undelivered: 0,
            pending_home: None,
            stall: Stall::Not,
            has_waiting_requests: false,
            is_closing: false,
            is_half_closed: false,
            is_killed: false,
            is_listed: false,
            socket_fd: -1,
            in_flight_bytes: 0,
            is_read: true,
            corked_at: None,
            usage: Usage::default(),
            above_soft_limit_since: None,
            counted: CountedBuffers::default(),
            follower: None,
        }
    }

    /// Where the reply of a command that is answered now goes.
    #[inline]
    pub fn reply_buffer(&mut self) -> &mut ReplyBuf {
        if self.pending.is_empty() {
            &mut self.out
        } else {
            self.pending.tail()
        }
    }

    /// Where a message goes: behind every reply that has come, or will, for what it has sent. One whose command waits for a key has no
    /// reply under way before that ends, and hears in the meantime.
    pub fn message_buffer(&mut self) -> &mut ReplyBuf {
        match self.mode {
            Mode::Blocked => &mut self.out,
            _ => self.reply_buffer(),
        }
    }

    /// Its mode is what follows from its session, where nothing else determines it.
    #[inline]
    pub fn follow_session(&mut self) {
        if matches!(self.mode, Mode::Normal | Mode::Subscribed | Mode::Monitor) {
            self.mode = self.session.mode();
        }
    }

    /// Whether commands before it are still to be run: those that only wait for deliveries have been.
    pub fn has_commands_to_run(&self) -> bool {
        self.pending.unanswered() > self.undelivered
    }

    /// Makes room for the argument that is arriving, so that it is not moved again and again as it grows. What a client
    /// merely announces is believed up to a bound; beyond it the buffer doubles.
    pub fn reserve_query(&mut self) {
        let needed = std::mem::take(&mut self.needed_bytes).min(QUERY_RESERVED_BYTES_MAX);
        self.query.reserve(needed.saturating_sub(self.query.len()));
    }

    /// Bytes of output that are not written to the socket yet.
    pub fn output_bytes(&self) -> usize {
        let held_bytes = self.held.as_ref().map_or(0, |held| held.bytes());
        let withheld_bytes = self.follower.as_ref().map_or(0, |follower| follower.withheld.len());
        self.out.len() + self.in_flight_bytes + self.pending.kept_bytes() + held_bytes + withheld_bytes
    }

    /// Bytes of memory that its requests take which are not run yet.
    pub fn input_memory_bytes(&self) -> usize {
        allocated(self.query.capacity()) + allocated(self.parser.memory_bytes())
    }

    /// Bytes of memory that its replies take which are not handed over yet, without the values that they share with the keyspace.
    pub fn output_memory_bytes(&self) -> usize {
        let held_bytes = self.held.as_ref().map_or(0, |held| held.memory_bytes());
        let withheld = self.follower.as_ref().map(|follower| follower.withheld.memory_bytes());
        allocated(self.out.memory_bytes()) + self.pending.memory_bytes() + held_bytes + withheld.map_or(0, allocated)
    }

    /// Whether requests have arrived that are still to be run, or run. Nobody knows when one will be that waits for keys, or whether: a
    /// peer that has closed its side is not waited for.
    pub fn has_work(&self) -> bool {
        self.stall != Stall::Blocked
            && (self.stall != Stall::Not || self.has_waiting_requests || !self.pending.is_empty())
    }

    /// Unconsumed bytes of input.
    pub fn query_bytes(&self) -> usize {
        self.query.len() - self.query_start
    }

    /// A reply waits for that.
    #[inline]
    pub fn needs(&mut self, need: Need) {
        self.need = self.need.and(need);
    }

    /// Whether its replies are dropped (CLIENT REPLY).
    pub fn is_silent(&self) -> bool {
        self.session.reply_mode != ReplyMode::On
    }

    pub fn is_in_transaction(&self) -> bool {
        self.transaction.is_some()
    }
}
