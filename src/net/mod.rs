//! The network plane: sockets in, events and bytes out.
//!
//! This module owns every socket of a shard, the memory that the kernel reads from and writes to, and nothing else. It
//! has never heard of a command, a reply or a client: the layer above sees connections as [`ConnId`]s, input as leased
//! buffers ([`BufferLease`]) and output as bytes with larger shared pieces between them ([`Output`]).
//!
//! [`Plane`] is the seam. It answers with a list of events instead of calling back, so that the caller can borrow the
//! plane and its own state one after the other; the one implementation here is [`UringPlane`]. Another one (epoll, for
//! hosts that refuse io_uring) needs nothing but this trait.
//!
//! The life of a connection:
//!
//! ```text
//!   Accepted ──start──> receiving <──pause/resume──> paused
//!      │                   │  Received*, Drained*, PeerClosed
//!      │detach             │
//!      v                   v
//!   OwnedFd ──adopt──>  close_after_flush / close_now ──> the ConnId is dead: no event names it any more
//!   (another shard)
//! ```
//!
//! Invariants that callers may rely on, and that the tests hold every plane to:
//!
//! 1. A `ConnId` is never reused: its generation grows with each connection that takes its place.
//! 2. After `close_now`, `close_after_flush` or `detach` no event names that `ConnId`.
//! 3. Bytes handed to `send` stay in memory until the kernel no longer reads them, also when the connection is closed.
//! 4. `PeerClosed` comes after all bytes that arrived before it. The connection stays until the caller closes it.
//! 5. `send` writes in the order of its calls; at most one write of a connection is in flight.
//! 6. A call that names a dead `ConnId` does nothing.

mod address;
mod buffer_ring;
mod connection;
mod flight;
mod listen;
mod requests;
mod uring;
mod wake;

pub use address::PeerAddr;
pub use listen::{BindError, BindPattern, Handover, ListenSocket, TcpOptions, set_keepalive};
pub use uring::{UringOptions, UringPlane};
pub use wake::WakeHandle;

use bytes::Bytes;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

/// Names one connection of one plane. `generation` makes an old id harmless after its place was taken again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl ConnId {
    /// The place in the plane's table: small, dense, reused. Good as an index into a table of one's own.
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// How many connections had this place before.
    pub fn generation(self) -> u32 {
        self.generation
    }
}

/// Names one listening socket of one plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub(crate) u32);

/// Received bytes that still lie in the kernel's buffer ring. Not `Copy`: it must come back through
/// [`Plane::give_back`], soon, or the ring runs dry for every connection of the shard.
///
/// It is read by itself, with no borrow of the plane: who works on what was received may use the plane meanwhile.
#[must_use = "a lease that is not given back is lost to the buffer ring"]
#[derive(Debug)]
pub struct BufferLease(pub(crate) buffer_ring::Lease);

impl BufferLease {
    /// What was received.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// How many bytes were received, never 0.
    #[allow(clippy::len_without_is_empty, reason = "a lease is never empty")]
    pub fn len(&self) -> usize {
        self.bytes().len()
    }
}

/// Why a connection has ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer has closed its sending side (it may still read).
    Eof,
    /// Reading or writing failed with this errno; nothing more can be sent.
    Failed(i32),
}

/// The end of a write of so many bytes is told ([`Event::Drained`]). A smaller one is over before anybody asks, unless the peer
/// does not read; telling it would cost an event for each reply.
pub const REPORTED_BYTES_MIN: usize = 16 * 1024;

/// What [`Plane::poll`] reports.
#[derive(Debug)]
pub enum Event {
    /// A fresh connection: answer with `start`, `detach` or `close_now`. Its ends: [`PeerAddr::of_peer`] of its `socket`.
    Accepted { conn: ConnId, listener: ListenerId },
    /// Accepting failed (out of descriptors, for instance). The plane tries again by itself after a short pause.
    AcceptFailed { listener: ListenerId, error: io::Error },
    /// Bytes arrived: read them, then `give_back`.
    Received { conn: ConnId, buffer: BufferLease },
    /// See invariant 4. After `Eof`, one `Failed` may follow when a write fails too.
    PeerClosed { conn: ConnId, reason: CloseReason },
    /// All that was taken is written, and an earlier `send` was refused: send again. Also told of a write of at least
    /// [`REPORTED_BYTES_MIN`], so that who counts what the plane holds for a peer learns that it holds nothing any more.
    Drained { conn: ConnId },
    /// Another thread has called (`WakeHandle::wake` or `Plane::wake_peer`). Several calls may arrive as one.
    Woken,
}

/// How long [`Plane::poll`] may sleep when nothing has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// Until something happens, at most this long.
    Until(Duration),
}

/// Output as two borrowed parts: a linear buffer, and shared pieces inserted at positions of it (ascending; a piece at
/// `p` comes after `bytes[..p]` and the pieces before it in the list).
pub struct Output<'a> {
    pub bytes: &'a mut Vec<u8>,
    pub shared: &'a mut Vec<(usize, Bytes)>,
}

/// What [`Plane::send`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "output that was not taken must be offered again at Drained"]
pub enum Sent {
    /// All of it is the plane's now; both parts are empty again (with recycled capacity).
    Taken,
    /// A write is in flight: nothing was taken, `Drained` will come.
    Busy,
    /// The connection is dead or its writing side has failed: the output was dropped.
    Gone,
}

/// The seam between the server and the sockets. All calls but those on a [`WakeHandle`] are the owning thread's.
pub trait Plane {
    /// What wakes this plane from elsewhere.
    type Wake: Clone + Send + Sync + 'static;

    /// Starts accepting on `socket`.
    fn listen(&mut self, socket: ListenSocket) -> ListenerId;
    /// Stops accepting and closes the plane's descriptor of the listening socket.
    fn unlisten(&mut self, listener: ListenerId);

    /// Takes over a connected socket, for instance one that another shard has accepted. `start` must follow.
    fn adopt(&mut self, socket: OwnedFd) -> ConnId;
    /// Begins to receive on a connection that was accepted or adopted.
    fn start(&mut self, conn: ConnId);
    /// Gives away a connection on which `start` has not been called.
    fn detach(&mut self, conn: ConnId) -> Option<OwnedFd>;

    /// Submits all that is queued, sleeps if allowed and nothing is there, and appends what has happened to `events`.
    fn poll(&mut self, wait: Wait, events: &mut Vec<Event>) -> io::Result<()>;

    /// Returns a buffer to the ring.
    fn give_back(&mut self, lease: BufferLease);

    /// Takes all of `out` when no write is in flight; see [`Sent`].
    fn send(&mut self, conn: ConnId, out: Output<'_>) -> Sent;
    /// An empty buffer with capacity, for output that is collected while a write is in flight.
    fn spare_buffer(&mut self) -> Vec<u8>;
    /// Hands such a buffer back for reuse.
    fn recycle(&mut self, buffer: Vec<u8>);
    /// Bytes that `send` took and that are not written yet.
    fn queued_bytes(&self, conn: ConnId) -> usize;
    /// Bytes of memory that it keeps for all that was sent: until the kernel has let go of it, and for use again; without what
    /// others share.
    fn held_bytes(&self) -> usize;

    /// Stops receiving; bytes that are on their way already may still be reported.
    fn pause_receive(&mut self, conn: ConnId);
    /// Receives again after `pause_receive`.
    fn resume_receive(&mut self, conn: ConnId);
    /// Writes what was taken, then closes. Invariant 2 holds from this call on.
    fn close_after_flush(&mut self, conn: ConnId);
    /// Closes at once; what is unwritten is dropped.
    fn close_now(&mut self, conn: ConnId);

    /// The socket of a live connection, for options and address look-ups.
    fn socket(&self, conn: ConnId) -> Option<BorrowedFd<'_>>;
    /// How many connections the plane holds, those that are still closing included.
    fn connection_count(&self) -> usize;

    /// A handle with which other threads wake this plane.
    fn wake_handle(&self) -> Self::Wake;
    /// Wakes another plane with the next submission: no system call of its own.
    fn wake_peer(&mut self, peer: &Self::Wake);

    /// A descriptor that becomes readable (eventfd, blocking mode) when something completes while the bell is on.
    fn bell(&self) -> BorrowedFd<'_>;
    /// Turns the bell on or off. On: `false` says that something is waiting already, so do not sleep on it.
    fn set_bell(&mut self, on: bool) -> io::Result<bool>;
}
