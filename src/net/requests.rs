//! The ring's two queues: requests in, completions out.
//!
//! A completion says what it belongs to by 64 bits of our own:
//!
//! ```text
//!   63      56 55                  32 31                       0
//!   | kind    | generation (low 24)  | connection / write / ... |
//! ```
//!
//! Invariants:
//! 1. A request that was queued reaches the kernel: what does not fit into the submission queue waits in `overflow`, in
//!    order, and goes first.
//! 2. `outstanding` counts the requests that will complete and have not; the ring may be torn down when it is 0.

use super::Wait;
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

/// The ring, and the requests that did not fit into it.
pub(super) struct Requests {
    pub(super) ring: IoUring,
    overflow: VecDeque<squeue::Entry>,
    /// Requests that will complete, whatever happens, and have not yet. (A zero-copy write completes with its result.)
    outstanding: usize,
}

impl Requests {
    pub(super) fn new(ring: IoUring) -> Requests {
        Requests {
            ring,
            overflow: VecDeque::new(),
            outstanding: 0,
        }
    }

    /// Queues a request that completes exactly once without "more to come".
    pub(super) fn push(&mut self, entry: squeue::Entry) {
        self.outstanding += 1;
        self.push_silent(entry);
    }

    /// Queues a request that completes only when it fails.
    pub(super) fn push_silent(&mut self, entry: squeue::Entry) {
        if !self.overflow.is_empty() || !self.try_push(&entry) {
            self.overflow.push_back(entry);
            self.refill();
        }
    }

    fn try_push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: whoever builds an entry keeps the memory it names until its completion: flights (invariant 1 there),
        // the buffer ring, statics, and the plane's `wake_value`, all of which outlive the requests (invariant 2).
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    /// Moves what waits into the queue, submitting when that is full. Stops when the kernel takes no more for now.
    pub(super) fn refill(&mut self) {
        while let Some(entry) = self.overflow.front().cloned() {
            if self.try_push(&entry) {
                self.overflow.pop_front();
                continue;
            }
            match self.ring.submit() {
                Ok(taken) if taken > 0 => {}
                // EBUSY, EAGAIN: completions must be taken first; the next poll goes on.
                _ => return,
            }
        }
    }

    /// Appends all completions that are there.
    pub(super) fn take_completions(&mut self, completions: &mut Vec<Completion>) {
        for entry in self.ring.completion() {
            let completion = Completion::from(entry);
            if completion.ends_a_request() {
                self.outstanding -= 1;
            }
            completions.push(completion);
        }
    }

    /// Whether completions wait to be taken, or requests to be queued.
    pub(super) fn is_waiting(&mut self) -> bool {
        !self.overflow.is_empty() || !self.ring.completion().is_empty()
    }

    /// Cancels everything and waits until no request is left. What is still reported is dropped. Notifications of
    /// zero-copy writes are not waited for: they come when the peer has the bytes, which may be never.
    ///
    /// Panics when the kernel holds on for seconds: to go on would free memory that it may write to.
    pub(super) fn cancel_all(&mut self) {
        let give_up = Instant::now() + Duration::from_secs(5);
        let mut dropped = Vec::new();
        while self.outstanding > 0 {
            self.refill();
            self.push_silent(
                opcode::AsyncCancel2::new(types::CancelBuilder::any())
                    .build()
                    .flags(squeue::Flags::SKIP_SUCCESS)
                    .user_data(tag(kind::CANCEL, 0, 0)),
            );
            let entered = self.enter(Wait::Until(Duration::from_millis(10)));
            self.take_completions(&mut dropped);
            dropped.clear();
            assert!(
                entered.is_ok() && Instant::now() < give_up,
                "the kernel does not let go of {} requests: {entered:?}",
                self.outstanding
            );
        }
    }

    /// Enters the kernel: submits, runs deferred work, and waits if told to.
    pub(super) fn enter(&mut self, wait: Wait) -> io::Result<()> {
        let result = match wait {
            Wait::Until(limit) if !limit.is_zero() => {
                let limit = types::Timespec::from(limit);
                let arguments = types::SubmitArgs::new().timespec(&limit);
                self.ring.submitter().submit_with_args(1, &arguments)
            }
            _ => {
                let queued = {
                    let mut queue = self.ring.submission();
                    if queue.is_empty() && !queue.taskrun() && !queue.cq_overflow() {
                        return Ok(());
                    }
                    queue.sync();
                    queue.len() as u32
                };
                // SAFETY: no argument is passed; `queued` entries are in the queue.
                unsafe {
                    self.ring
                        .submitter()
                        .enter::<libc::sigset_t>(queued, 0, ENTER_GETEVENTS, None)
                }
            }
        };
        match result {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // Slept long enough; a signal; completions must be taken before more is submitted; out of memory for
                // requests just now. In each case what is queued stays queued.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }
}

/// IORING_ENTER_GETEVENTS (io_uring_enter(2)).
const ENTER_GETEVENTS: u32 = 1;

/// What the kernel says about a request; `kind`, `generation` and `index` are what its [`tag`] said.
pub(super) struct Completion {
    pub(super) kind: u8,
    pub(super) generation: u32,
    pub(super) index: u32,
    pub(super) result: i32,
    pub(super) flags: u32,
}

impl From<cqueue::Entry> for Completion {
    fn from(entry: cqueue::Entry) -> Completion {
        let tag = entry.user_data();
        Completion {
            kind: (tag >> 56) as u8,
            generation: (tag >> 32) as u32 & GENERATION_MASK,
            index: tag as u32,
            result: entry.result(),
            flags: entry.flags(),
        }
    }
}

impl Completion {
    /// Whether the request is over.
    pub(super) fn is_last(&self) -> bool {
        !cqueue::more(self.flags)
    }

    /// Whether this is the notification of a zero-copy write: its pages are free.
    pub(super) fn is_notification(&self) -> bool {
        cqueue::notif(self.flags)
    }

    fn ends_a_request(&self) -> bool {
        match self.kind {
            kind::CANCEL | kind::WAKE_MESSAGE | kind::WAKE_PEER => false,
            kind::WRITE => !self.is_notification(),
            _ => self.is_last(),
        }
    }
}

/// The kinds of requests.
pub(super) mod kind {
    pub(in crate::net) const ACCEPT: u8 = 1;
    pub(in crate::net) const RECEIVE: u8 = 2;
    pub(in crate::net) const WRITE: u8 = 3;
    /// Completes only when it fails, which means that what it should cancel is ending by itself.
    pub(in crate::net) const CANCEL: u8 = 4;
    /// The read of our eventfd.
    pub(in crate::net) const WAKE_READ: u8 = 5;
    /// Posted into our ring by another one.
    pub(in crate::net) const WAKE_MESSAGE: u8 = 6;
    /// Completes only when the message could not be posted.
    pub(in crate::net) const WAKE_PEER: u8 = 7;
    pub(in crate::net) const ACCEPT_RETRY: u8 = 8;
    pub(in crate::net) const FLUSH_SWEEP: u8 = 9;
}

pub(super) fn tag(kind: u8, generation: u32, index: u32) -> u64 {
    u64::from(kind) << 56 | u64::from(generation & GENERATION_MASK) << 32 | u64::from(index)
}

pub(super) const GENERATION_MASK: u32 = 0x00ff_ffff;
