//! [`UringPlane`]: the network plane on a ring of its own.
//!
//! One ring for each shard, used by one thread (SINGLE_ISSUER), whose completions are processed only when that thread
//! asks (DEFER_TASKRUN): no interrupt of the command that is running, and many completions for one system call.
//!
//! * Accept and receive are multishot: armed once, they report for as long as nothing goes wrong.
//! * Received bytes lie in the provided-buffer ring (`buffer_ring.rs`); an idle connection holds no buffer.
//! * Writes are queued as the caller hands them over and go out with the next [`Plane::poll`], all in one call.
//!
//! Invariants (those of `net/mod.rs` aside):
//! 1. A connection's place is freed when `requests == 0`: no completion can name a connection that is gone. The
//!    generation in a completion is checked all the same.
//! 2. At most one receive of a connection is with the kernel (`RECEIVING`), and one write (`write != NO_WRITE`).
//! 3. A receive that ended because the buffer ring was dry is in `starved`, and is armed again, in the order of arrival,
//!    for as many connections as there are free buffers. So a dry ring neither spins nor forgets anybody.
//! 4. The ring is torn down only after every request has completed: the kernel never touches memory that is freed.

use super::buffer_ring::{BufferRing, GROUP};
use super::connection::{Connection, NO_WRITE, state};
use super::flight::{Flights, Rest};
use super::listen::ListenSocket;
use super::requests::{Completion, GENERATION_MASK, Requests, kind, tag};
use super::wake::{WakeHandle, eventfd};
use super::{BufferLease, CloseReason, ConnId, Event, ListenerId, Output, Plane, REPORTED_BYTES_MIN, Sent, Wait};
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// The sizes of a plane.
#[derive(Clone, Copy, Debug)]
pub struct UringOptions {
    /// Places in the submission queue; more requests than that in one pass cost one more system call.
    pub submission_entries: u32,
    /// Places in the completion queue; more completions than that are kept by the kernel, more slowly.
    pub completion_entries: u32,
    /// Receive buffers, a power of two of at most 32768.
    pub buffer_count: u16,
    /// The size of one receive buffer.
    pub buffer_bytes: usize,
    /// Writes from this size on are sent without a copy; `usize::MAX`: none.
    pub zero_copy_from_bytes: usize,
    /// How long `close_after_flush` waits for a peer that does not read.
    pub flush_patience: Duration,
}

/// From where on a write is tried without a copy. An estimate for network cards, not a measurement: pinning pages and a
/// second completion must be worth it. Over loopback it never pays, because the kernel copies all the same: with zero copy
/// asked for each time, the server used 1.2 to 3.6 times the CPU, at every size from 16 KiB to 8 MiB (`benches/net_plane.rs`
/// without the fallback, medians of 5 alternating rounds on a busy two-core machine). So the kernel's word that it has
/// copied is heeded, and the price is one attempt for each local connection that is sent something large.
const ZERO_COPY_FROM_BYTES: usize = 64 * 1024;

impl Default for UringOptions {
    fn default() -> UringOptions {
        UringOptions {
            submission_entries: 2048,
            completion_entries: 8192,
            buffer_count: 512,
            buffer_bytes: 4096,
            zero_copy_from_bytes: ZERO_COPY_FROM_BYTES,
            flush_patience: Duration::from_secs(60),
        }
    }
}

/// After a failed accept (no descriptors, mostly): Redis, too, tries again on its next turn; a tenth of a second keeps
/// the log and the core quiet until descriptors are free.
static ACCEPT_RETRY_AFTER: types::Timespec = types::Timespec::new().nsec(100_000_000);
/// How often connections that are being flushed are looked at.
static FLUSH_SWEEP_EVERY: types::Timespec = types::Timespec::new().sec(1);

struct Listener {
    socket: ListenSocket,
    is_armed: bool,
    is_dying: bool,
}

/// See the module.
pub struct UringPlane {
    queue: Requests,
    buffers: BufferRing,
    connections: Vec<Connection>,
    vacant: Vec<u32>,
    starved: VecDeque<ConnId>,
    flights: Flights,
    listeners: Vec<Option<Listener>>,
    /// Connections that close after their last write, and since when.
    flushing: Vec<(ConnId, Instant)>,
    flush_sweep_is_armed: bool,
    wake: WakeHandle,
    /// What the read of the eventfd writes into.
    wake_value: Box<u64>,
    bell: OwnedFd,
    peers: Vec<WakeHandle>,
    completions: Vec<Completion>,
    options: UringOptions,
}

impl UringPlane {
    /// A plane for the calling thread, which must be the one that uses it.
    pub fn new(options: UringOptions) -> io::Result<UringPlane> {
        let mut ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(options.completion_entries)
            .build(options.submission_entries)?;
        let buffers = BufferRing::register(&ring, options.buffer_count, options.buffer_bytes)?;
        let bell = eventfd()?;
        ring.submitter().register_eventfd(bell.as_raw_fd())?;
        ring.completion().disable_eventfd();
        // SAFETY: the descriptor is the ring's and open; it is borrowed only to be duplicated.
        let wake = WakeHandle::new(unsafe { BorrowedFd::borrow_raw(ring.as_raw_fd()) })?;
        let mut plane = UringPlane {
            queue: Requests::new(ring),
            buffers,
            connections: Vec::new(),
            vacant: Vec::new(),
            starved: VecDeque::new(),
            flights: Flights::default(),
            listeners: Vec::new(),
            flushing: Vec::new(),
            flush_sweep_is_armed: false,
            wake,
            wake_value: Box::new(0),
            bell,
            peers: Vec::new(),
            completions: Vec::new(),
            options,
        };
        plane.arm_wake_read();
        Ok(plane)
    }

    /// The entry of a connection that the caller may still name.
    fn live(&mut self, conn: ConnId) -> Option<&mut Connection> {
        self.connections
            .get_mut(conn.index as usize)
            .filter(|entry| entry.generation == conn.generation && !entry.is(state::DYING))
            .filter(|entry| entry.fd.is_some())
    }

    fn live_ref(&self, conn: ConnId) -> Option<&Connection> {
        self.connections
            .get(conn.index as usize)
            .filter(|entry| entry.generation == conn.generation && !entry.is(state::DYING))
            .filter(|entry| entry.fd.is_some())
    }

    fn insert(&mut self, fd: OwnedFd) -> ConnId {
        match self.vacant.pop() {
            Some(index) => {
                let entry = &mut self.connections[index as usize];
                entry.fd = Some(fd);
                entry.state = 0;
                ConnId {
                    index,
                    generation: entry.generation,
                }
            }
            None => {
                let index = self.connections.len() as u32;
                self.connections.push(Connection {
                    fd: Some(fd),
                    generation: 0,
                    write: NO_WRITE,
                    requests: 0,
                    state: 0,
                });
                ConnId { index, generation: 0 }
            }
        }
    }

    /// Empties a place and gives out what it held.
    fn remove(&mut self, index: u32) -> Option<OwnedFd> {
        let entry = &mut self.connections[index as usize];
        assert!(
            entry.requests == 0 && entry.write == NO_WRITE,
            "a connection was freed while the kernel worked on it"
        );
        entry.generation = entry.generation.wrapping_add(1);
        self.vacant.push(index);
        entry.fd.take()
    }

    /// Frees a dying connection that the kernel has let go of.
    fn finish_if_done(&mut self, index: u32) {
        let entry = &self.connections[index as usize];
        if entry.is(state::DYING) && entry.requests == 0 && entry.write == NO_WRITE {
            drop(self.remove(index));
        }
    }

    /// Arms a receive if one is wanted and none is with the kernel.
    fn receive_if_wanted(&mut self, index: u32) {
        let entry = &mut self.connections[index as usize];
        let unwanted = state::PAUSED | state::RECEIVING | state::STARVED | state::ENDED | state::DYING;
        if !entry.is(state::STARTED) || entry.is(unwanted) {
            return;
        }
        entry.set(state::RECEIVING);
        entry.requests += 1;
        let request = opcode::RecvMulti::new(types::Fd(entry.raw_fd()), GROUP)
            .build()
            .user_data(tag(kind::RECEIVE, entry.generation, index));
        self.queue.push(request);
    }

    fn cancel_receive(&mut self, index: u32) {
        let entry = &mut self.connections[index as usize];
        if !entry.is(state::RECEIVING) || entry.is(state::CANCELLING) {
            return;
        }
        entry.set(state::CANCELLING);
        let target = tag(kind::RECEIVE, entry.generation, index);
        self.cancel(target);
    }

    fn cancel(&mut self, target: u64) {
        self.queue.push_silent(
            opcode::AsyncCancel::new(target)
                .build()
                .flags(squeue::Flags::SKIP_SUCCESS)
                .user_data(tag(kind::CANCEL, 0, 0)),
        );
    }

    /// Hands the unwritten rest of a write to the kernel.
    fn submit_write(&mut self, number: u32) {
        let flight = self.flights.get_mut(number);
        let entry = &mut self.connections[flight.conn.index as usize];
        entry.requests += 1;
        let fd = types::Fd(entry.raw_fd());
        let rest_bytes = flight.total_bytes - flight.written_bytes;
        let without_copy = rest_bytes >= self.options.zero_copy_from_bytes && !entry.is(state::COPIES);
        flight.depart(without_copy);
        // WAITALL: the kernel itself goes on after a partial write.
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let request = match (flight.rest(), without_copy) {
            (Rest::One(start, len), false) => opcode::Send::new(fd, start, len).flags(flags).build(),
            (Rest::One(start, len), true) => opcode::SendZc::new(fd, start, len)
                .flags(flags)
                .zc_flags(ZC_REPORT_USAGE)
                .build(),
            (Rest::Many(header), false) => opcode::SendMsg::new(fd, header).flags(flags as u32).build(),
            (Rest::Many(header), true) => opcode::SendMsgZc::new(fd, header)
                .ioprio(ZC_REPORT_USAGE)
                .flags(flags as u32)
                .build(),
        };
        self.queue.push(request.user_data(tag(kind::WRITE, 0, number)));
    }

    fn arm_accept(&mut self, number: u32) {
        let Some(listener) = &mut self.listeners[number as usize] else {
            return;
        };
        listener.is_armed = true;
        let request = opcode::AcceptMulti::new(types::Fd(listener.socket.fd.as_raw_fd()))
            .flags(libc::SOCK_CLOEXEC)
            .build()
            .user_data(tag(kind::ACCEPT, 0, number));
        self.queue.push(request);
    }

    fn arm_wake_read(&mut self) {
        let value: *mut u64 = &mut *self.wake_value;
        let request = opcode::Read::new(types::Fd(self.wake.eventfd()), value.cast(), 8)
            .build()
            .user_data(tag(kind::WAKE_READ, 0, 0));
        self.queue.push(request);
    }

    /// Invariant 3.
    fn feed_the_starved(&mut self) {
        let mut free = self.buffers.free();
        while free > 0 {
            let Some(conn) = self.starved.pop_front() else {
                return;
            };
            let Some(entry) = self.live(conn) else {
                continue;
            };
            entry.unset(state::STARVED);
            self.receive_if_wanted(conn.index);
            free -= 1;
        }
    }

    fn take_completions(&mut self, events: &mut Vec<Event>) {
        let mut completions = std::mem::take(&mut self.completions);
        self.queue.take_completions(&mut completions);
        let mut was_woken = false;
        for completion in &completions {
            let index = completion.index;
            match completion.kind {
                kind::RECEIVE => self.on_receive(completion, events),
                kind::WRITE => self.on_write(completion, events),
                kind::ACCEPT => self.on_accept(completion, events),
                kind::WAKE_READ => {
                    was_woken = true;
                    self.arm_wake_read();
                }
                kind::WAKE_MESSAGE => was_woken = true,
                kind::WAKE_PEER => self.peers[index as usize].wake(),
                kind::ACCEPT_RETRY => {
                    if let Some(Some(listener)) = self.listeners.get(index as usize)
                        && !listener.is_armed
                    {
                        self.arm_accept(index);
                    }
                }
                kind::FLUSH_SWEEP => self.sweep_flushing(),
                _ => {}
            }
        }
        if was_woken {
            events.push(Event::Woken);
        }
        completions.clear();
        self.completions = completions;
    }

    fn on_receive(&mut self, completion: &Completion, events: &mut Vec<Event>) {
        let Completion {
            index,
            generation,
            result,
            flags,
            ..
        } = *completion;
        let entry = &mut self.connections[index as usize];
        assert_eq!(
            entry.generation & GENERATION_MASK,
            generation,
            "a completion named a connection that is gone (invariant 1)"
        );
        let conn = ConnId {
            index,
            generation: entry.generation,
        };
        if completion.is_last() {
            entry.unset(state::RECEIVING | state::CANCELLING);
            entry.requests -= 1;
        }
        let is_dying = entry.is(state::DYING);
        if let Some(buffer) = cqueue::buffer_select(flags) {
            let lease = self.buffers.lease(buffer, result.max(0) as u32);
            if result > 0 && !is_dying {
                let buffer = BufferLease(lease);
                events.push(Event::Received { conn, buffer });
            } else {
                self.buffers.give_back(lease);
            }
        }
        match -result {
            _ if is_dying || result > 0 => {}
            0 => {
                entry.set(state::ENDED);
                let reason = CloseReason::Eof;
                events.push(Event::PeerClosed { conn, reason });
            }
            libc::ENOBUFS if !entry.is(state::PAUSED) => {
                entry.set(state::STARVED);
                self.starved.push_back(conn);
            }
            // Paused, perhaps resumed since; interrupted.
            libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
            errno => {
                entry.set(state::ENDED);
                self.report_failure(conn, errno, events);
            }
        }
        self.receive_if_wanted(index);
        self.finish_if_done(index);
    }

    /// Reports once that nothing can be written any more.
    fn report_failure(&mut self, conn: ConnId, errno: i32, events: &mut Vec<Event>) {
        let entry = &mut self.connections[conn.index as usize];
        if !entry.is(state::BROKEN | state::DYING) {
            let reason = CloseReason::Failed(errno);
            events.push(Event::PeerClosed { conn, reason });
        }
        entry.set(state::BROKEN);
    }

    fn on_write(&mut self, completion: &Completion, events: &mut Vec<Event>) {
        let (number, result) = (completion.index, completion.result);
        let flight = self.flights.get_mut(number);
        let conn = flight.conn;
        if completion.is_notification() {
            flight.kernel_refs -= 1;
            let is_over = flight.kernel_refs == 0;
            if result as u32 & ZC_USAGE_COPIED != 0
                && let Some(entry) = self.live(conn)
            {
                entry.set(state::COPIES);
            }
            if is_over && self.write_of(conn) != Some(number) {
                self.flights.free(number);
            }
            return;
        }
        if completion.is_last() {
            flight.kernel_refs -= 1;
        }
        let entry = &mut self.connections[conn.index as usize];
        entry.requests -= 1;
        let goes_on = match -result {
            _ if result > 0 => {
                flight.written_bytes += result as usize;
                flight.written_bytes < flight.total_bytes
            }
            libc::EINTR | libc::EAGAIN => true,
            // No leave to pin that many pages (RLIMIT_MEMLOCK), or a socket that cannot (unix): write with a copy.
            libc::ENOMEM | libc::ENOBUFS | libc::EOPNOTSUPP | libc::EINVAL if flight.is_without_copy => {
                entry.set(state::COPIES);
                true
            }
            _ => false,
        };
        // A connection that is closed at once does not write on; one that is flushed does.
        if goes_on && (!entry.is(state::DYING) || entry.is(state::FLUSHING)) {
            self.submit_write(number);
            return;
        }
        let is_written = flight.written_bytes == flight.total_bytes;
        let is_reported = flight.total_bytes >= REPORTED_BYTES_MIN;
        let is_over = flight.kernel_refs == 0;
        entry.write = NO_WRITE;
        if is_over {
            self.flights.free(number);
        }
        if !is_written {
            let errno = if result < 0 { -result } else { libc::EPIPE };
            self.report_failure(conn, errno, events);
        }
        let entry = &mut self.connections[conn.index as usize];
        if (entry.is(state::REFUSED) || is_reported) && !entry.is(state::DYING) {
            entry.unset(state::REFUSED);
            events.push(Event::Drained { conn });
        }
        if entry.is(state::DYING) {
            self.cancel_receive(conn.index);
            self.finish_if_done(conn.index);
        }
    }

    /// The write in flight of a connection, closed or not.
    fn write_of(&self, conn: ConnId) -> Option<u32> {
        self.connections
            .get(conn.index as usize)
            .filter(|entry| entry.generation == conn.generation && entry.write != NO_WRITE)
            .map(|entry| entry.write)
    }

    fn on_accept(&mut self, completion: &Completion, events: &mut Vec<Event>) {
        let (number, result, is_last) = (completion.index, completion.result, completion.is_last());
        let Some(listener) = &mut self.listeners[number as usize] else {
            unreachable!("a listener is dropped when its accept has ended");
        };
        let is_dying = listener.is_dying;
        if is_last {
            listener.is_armed = false;
        }
        let listener = ListenerId(number);
        if result >= 0 {
            // SAFETY: the kernel has just opened this descriptor for us; nobody else knows it.
            let fd = unsafe { OwnedFd::from_raw_fd(result) };
            if !is_dying {
                let conn = self.insert(fd);
                events.push(Event::Accepted { conn, listener });
            }
        } else if !is_dying && result != -libc::ECANCELED {
            let error = io::Error::from_raw_os_error(-result);
            events.push(Event::AcceptFailed { listener, error });
        }
        if !is_last {
            return;
        }
        match -result {
            _ if is_dying => self.listeners[number as usize] = None,
            _ if result >= 0 => self.arm_accept(number),
            // The peer has gone before it was accepted: no reason to wait.
            libc::ECONNABORTED | libc::EINTR | libc::EAGAIN | libc::ECANCELED => {
                self.arm_accept(number);
            }
            _ => self.queue.push(
                opcode::Timeout::new(&raw const ACCEPT_RETRY_AFTER)
                    .build()
                    .user_data(tag(kind::ACCEPT_RETRY, 0, number)),
            ),
        }
    }

    /// Ends a connection whose socket may still be with the kernel.
    fn abort(&mut self, index: u32) {
        self.cancel_receive(index);
        let entry = &mut self.connections[index as usize];
        entry.unset(state::FLUSHING);
        if entry.write != NO_WRITE {
            let write = entry.write;
            if self.flights.get(write).is_without_copy {
                // Otherwise the kernel would keep our pages for as long as the peer does not read.
                let at_once = libc::linger {
                    l_onoff: 1,
                    l_linger: 0,
                };
                let _ = setsockopt(&entry.fd_ref(), sockopt::Linger, &at_once);
            }
            // The cancel below ends a write that waits for the peer; this ends one that is running.
            let _ = shutdown(entry.raw_fd(), Shutdown::Both);
            self.cancel(tag(kind::WRITE, 0, write));
        }
        self.finish_if_done(index);
    }

    fn arm_flush_sweep(&mut self) {
        if !self.flush_sweep_is_armed {
            self.flush_sweep_is_armed = true;
            self.queue.push(
                opcode::Timeout::new(&raw const FLUSH_SWEEP_EVERY)
                    .build()
                    .user_data(tag(kind::FLUSH_SWEEP, 0, 0)),
            );
        }
    }

    /// Gives up on peers that have not read their last reply for too long.
    fn sweep_flushing(&mut self) {
        self.flush_sweep_is_armed = false;
        let now = Instant::now();
        let patience = self.options.flush_patience;
        let mut flushing = std::mem::take(&mut self.flushing);
        flushing.retain(|&(conn, since)| {
            let entry = &self.connections[conn.index as usize];
            if entry.generation != conn.generation || entry.fd.is_none() {
                return false;
            }
            if now.duration_since(since) < patience {
                return true;
            }
            self.abort(conn.index);
            false
        });
        self.flushing = flushing;
        if !self.flushing.is_empty() {
            self.arm_flush_sweep();
        }
    }
}

/// IORING_SEND_ZC_REPORT_USAGE: the notification tells whether the kernel had to copy (io_uring_enter(2)).
const ZC_REPORT_USAGE: u16 = 1 << 3;
/// IORING_NOTIF_USAGE_ZC_COPIED, its answer.
const ZC_USAGE_COPIED: u32 = 1 << 31;

impl Plane for UringPlane {
    type Wake = WakeHandle;

    fn listen(&mut self, socket: ListenSocket) -> ListenerId {
        let number = self.listeners.len() as u32;
        self.listeners.push(Some(Listener {
            socket,
            is_armed: false,
            is_dying: false,
        }));
        self.arm_accept(number);
        ListenerId(number)
    }

    fn unlisten(&mut self, listener: ListenerId) {
        let number = listener.0;
        let Some(Some(entry)) = self.listeners.get_mut(number as usize) else {
            return;
        };
        if entry.is_dying {
            return;
        }
        entry.is_dying = true;
        if entry.is_armed {
            self.cancel(tag(kind::ACCEPT, 0, number));
        } else {
            self.listeners[number as usize] = None;
        }
    }

    fn adopt(&mut self, socket: OwnedFd) -> ConnId {
        self.insert(socket)
    }

    fn start(&mut self, conn: ConnId) {
        if let Some(entry) = self.live(conn) {
            entry.set(state::STARTED);
            self.receive_if_wanted(conn.index);
        }
    }

    fn detach(&mut self, conn: ConnId) -> Option<OwnedFd> {
        let entry = self.live(conn)?;
        if entry.is(state::STARTED) || entry.requests > 0 {
            return None;
        }
        self.remove(conn.index)
    }

    fn poll(&mut self, wait: Wait, events: &mut Vec<Event>) -> io::Result<()> {
        if !self.starved.is_empty() {
            self.buffers.grow();
        }
        self.buffers.publish();
        self.feed_the_starved();
        self.queue.refill();
        self.queue.enter(wait)?;
        self.take_completions(events);
        Ok(())
    }

    fn give_back(&mut self, lease: BufferLease) {
        self.buffers.give_back(lease.0);
    }

    fn send(&mut self, conn: ConnId, out: Output<'_>) -> Sent {
        let Some(entry) = self.live(conn).filter(|entry| !entry.is(state::BROKEN)) else {
            out.bytes.clear();
            out.shared.clear();
            return Sent::Gone;
        };
        if entry.write != NO_WRITE {
            entry.set(state::REFUSED);
            return Sent::Busy;
        }
        if out.bytes.is_empty() && out.shared.iter().all(|(_, piece)| piece.is_empty()) {
            out.shared.clear();
            return Sent::Taken;
        }
        let number = self.flights.take(conn, out.bytes, out.shared);
        self.connections[conn.index as usize].write = number;
        self.submit_write(number);
        Sent::Taken
    }

    fn spare_buffer(&mut self) -> Vec<u8> {
        self.flights.spare_buffer()
    }

    fn recycle(&mut self, buffer: Vec<u8>) {
        self.flights.recycle(buffer);
    }

    fn queued_bytes(&self, conn: ConnId) -> usize {
        match self.live_ref(conn) {
            Some(entry) if entry.write != NO_WRITE => {
                let flight = self.flights.get(entry.write);
                flight.total_bytes - flight.written_bytes
            }
            _ => 0,
        }
    }

    fn held_bytes(&self) -> usize {
        self.flights.held_bytes()
    }

    fn pause_receive(&mut self, conn: ConnId) {
        if let Some(entry) = self.live(conn) {
            entry.set(state::PAUSED);
            self.cancel_receive(conn.index);
        }
    }

    fn resume_receive(&mut self, conn: ConnId) {
        if let Some(entry) = self.live(conn) {
            entry.unset(state::PAUSED);
            self.receive_if_wanted(conn.index);
        }
    }

    fn close_after_flush(&mut self, conn: ConnId) {
        let Some(entry) = self.live(conn) else {
            return;
        };
        entry.set(state::DYING | state::FLUSHING);
        if entry.write == NO_WRITE {
            self.abort(conn.index);
            return;
        }
        self.cancel_receive(conn.index);
        self.flushing.push((conn, Instant::now()));
        self.arm_flush_sweep();
    }

    fn close_now(&mut self, conn: ConnId) {
        if let Some(entry) = self.live(conn) {
            entry.set(state::DYING);
            self.abort(conn.index);
        }
    }

    fn socket(&self, conn: ConnId) -> Option<BorrowedFd<'_>> {
        self.live_ref(conn)?.fd.as_ref().map(|fd| fd.as_fd())
    }

    fn connection_count(&self) -> usize {
        self.connections.len() - self.vacant.len()
    }

    fn wake_handle(&self) -> WakeHandle {
        self.wake.clone()
    }

    fn wake_peer(&mut self, peer: &WakeHandle) {
        let known = self.peers.iter().position(|known| known.is_same(peer));
        let number = known.unwrap_or_else(|| {
            self.peers.push(peer.clone());
            self.peers.len() - 1
        });
        let message = tag(kind::WAKE_MESSAGE, 0, 0);
        self.queue.push_silent(
            opcode::MsgRingData::new(types::Fd(peer.ring_fd()), 0, message, None)
                .build()
                .flags(squeue::Flags::SKIP_SUCCESS)
                .user_data(tag(kind::WAKE_PEER, 0, number as u32)),
        );
    }

    fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    fn set_bell(&mut self, on: bool) -> io::Result<bool> {
        if !on {
            self.queue.ring.completion().disable_eventfd();
            return Ok(true);
        }
        self.queue.ring.completion().enable_eventfd();
        // The kernel reads that flag when it posts; we look for completions only after it is visible.
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        self.buffers.publish();
        self.queue.enter(Wait::No)?;
        Ok(!self.queue.is_waiting())
    }
}

impl Drop for UringPlane {
    /// Invariant 4.
    fn drop(&mut self) {
        self.queue.cancel_all();
        if self.flights.may_be_pinned() {
            // The kernel may go on to send from these pages after the ring is gone, for as long as the peer does not
            // read. A plane is dropped when its thread ends: the memory is given up rather than the peer's bytes.
            std::mem::forget(std::mem::take(&mut self.flights));
        }
    }
}
