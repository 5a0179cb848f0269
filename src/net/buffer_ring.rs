//! The provided-buffer ring: memory that the kernel picks from when bytes arrive.
//!
//! A receive that is armed for an idle connection holds no memory; the kernel takes a buffer out of this ring when there
//! is something to put into it. So ten thousand idle connections cost nothing here, and the ring must only hold what
//! arrives between two turns of the loop. The kernel takes the buffers in turn, so all that are in the ring are soon used; it begins
//! with a few, and gets more when it has run dry.
//!
//! ```text
//!   entries: [addr len id tail][addr len id ....] ...      shared with the kernel; `tail` lies in the first entry's
//!   memory:  [buffer 0][buffer 1] ... [buffer n-1]         spare field (io_uring_register_buf_ring(3))
//! ```
//!
//! Invariants:
//! 1. A buffer id is either in the kernel's part of the ring or leased (in a completion or a [`Lease`]), never both; ids from
//!    `provided` on have never been in the ring, and count as leased.
//! 2. `leased` counts the second kind; it never exceeds the number of buffers.
//! 3. The two mappings outlive the ring: the owner unregisters, or waits until the kernel is done, before dropping this. A lease keeps the
//!    memory as long as itself.

use io_uring::{IoUring, types::BufRingEntry};
use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

/// A private anonymous mapping.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    len_bytes: NonZeroUsize,
}

impl Mapping {
    fn new(len_bytes: usize) -> io::Result<Mapping> {
        let len_bytes = NonZeroUsize::new(len_bytes).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches no memory that exists.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len_bytes.get(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping { start, len_bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that `new` made, unmapped once.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len_bytes.get()) };
    }
}

/// A buffer that the kernel has filled, until it is given back.
#[derive(Debug)]
pub(crate) struct Lease {
    memory: Rc<Mapping>,
    id: u16,
    start_byte: usize,
    len_bytes: usize,
}

impl Lease {
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: within the mapping (`BufferRing::lease` has asserted it); the kernel does not write to a leased buffer (invariant 1).
        unsafe { std::slice::from_raw_parts(self.memory.start.as_ptr().add(self.start_byte), self.len_bytes) }
    }
}

pub(super) struct BufferRing {
    entries: Mapping,
    memory: Rc<Mapping>,
    count: u16,
    buffer_bytes: usize,
    /// Where the next buffer goes; free-running, like the kernel's copy.
    tail: u16,
    published_tail: u16,
    leased: u16,
    /// How many buffers have ever been in the ring.
    provided: u16,
}

/// How many buffers a ring begins with.
const PROVIDED_AT_FIRST: u16 = 64;

/// The one buffer group of a plane.
pub(super) const GROUP: u16 = 0;

impl BufferRing {
    /// `count` must be a power of two of at most 32768 (io_uring_register_buf_ring(3)).
    pub(super) fn register(ring: &IoUring, count: u16, buffer_bytes: usize) -> io::Result<BufferRing> {
        if !count.is_power_of_two() || buffer_bytes == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let entries = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let memory = Rc::new(Mapping::new(usize::from(count) * buffer_bytes)?);
        // SAFETY: the entries are mapped, page aligned and long enough, and stay so for the ring's life (invariant 3).
        unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(entries.start.as_ptr() as u64, count, GROUP, 0)?;
        }
        let mut this = BufferRing {
            entries,
            memory,
            count,
            buffer_bytes,
            tail: 0,
            published_tail: 0,
            leased: count,
            provided: 0,
        };
        this.provide(PROVIDED_AT_FIRST.min(count));
        this.publish();
        Ok(this)
    }

    /// Twice as many buffers, as far as there are so many: it has run dry.
    pub(super) fn grow(&mut self) {
        self.provide(self.provided.saturating_mul(2).min(self.count));
    }

    fn provide(&mut self, until: u16) {
        for id in std::mem::replace(&mut self.provided, until)..until {
            self.put(id);
        }
    }

    /// How many buffers the kernel can pick from, once published.
    pub(super) fn free(&self) -> usize {
        usize::from(self.count - self.leased)
    }

    /// A completion has named a buffer with so many bytes: it is leased from now on.
    pub(super) fn lease(&mut self, id: u16, len_bytes: u32) -> Lease {
        let len_bytes = len_bytes as usize;
        assert!(
            id < self.count && self.leased < self.count && len_bytes <= self.buffer_bytes,
            "the kernel named a buffer it did not have"
        );
        self.leased += 1;
        Lease {
            memory: self.memory.clone(),
            id,
            start_byte: usize::from(id) * self.buffer_bytes,
            len_bytes,
        }
    }

    /// Puts a leased buffer behind the tail; the kernel sees it after `publish`.
    pub(super) fn give_back(&mut self, lease: Lease) {
        self.put(lease.id);
    }

    fn put(&mut self, id: u16) {
        assert!(id < self.count && self.leased > 0, "a buffer was given back twice");
        self.leased -= 1;
        let place = usize::from(self.tail & (self.count - 1));
        // SAFETY: `place` is within the entries. Places from the published tail on belong to us, because at most `count`
        // buffers exist (invariants 1 and 2). Setters write addr, len and id only: the shared tail, which lies in the
        // first entry, is not touched.
        unsafe {
            let entry = self.entries.start.cast::<BufRingEntry>().add(place).as_mut();
            entry.set_addr(self.memory.start.as_ptr().add(usize::from(id) * self.buffer_bytes) as u64);
            entry.set_len(self.buffer_bytes as u32);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel what was given back since the last call.
    pub(super) fn publish(&mut self) {
        if self.published_tail == self.tail {
            return;
        }
        // SAFETY: the tail is a field of the first entry, which is mapped and aligned; the kernel reads it as an atomic.
        let shared_tail = unsafe { &*BufRingEntry::tail(self.entries.start.as_ptr().cast()).cast::<AtomicU16>() };
        shared_tail.store(self.tail, Ordering::Release);
        self.published_tail = self.tail;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_leases_and_keeps_buffers_apart() {
        let ring = IoUring::new(4).unwrap();
        let mut buffers = BufferRing::register(&ring, 4, 64).unwrap();
        assert_eq!(buffers.free(), 4);
        let (third, first) = (buffers.lease(2, 64), buffers.lease(0, 10));
        assert_eq!(buffers.free(), 2);
        let place = |lease: &Lease| lease.bytes().as_ptr() as usize;
        assert_eq!(place(&third) - place(&first), 128);
        assert_eq!((third.bytes().len(), first.bytes().len()), (64, 10));
        buffers.give_back(third);
        buffers.give_back(first);
        buffers.publish();
        assert_eq!(buffers.free(), 4);
        ring.submitter().unregister_buf_ring(GROUP).unwrap();
    }

    #[test]
    fn grows_up_to_its_size() {
        let ring = IoUring::new(4).unwrap();
        let mut buffers = BufferRing::register(&ring, 256, 64).unwrap();
        assert_eq!(buffers.free(), 64);
        let last = buffers.lease(63, 1);
        buffers.grow();
        assert_eq!(buffers.free(), 127);
        buffers.grow();
        buffers.grow();
        buffers.give_back(last);
        assert_eq!(buffers.free(), 256);
        buffers.publish();
        ring.submitter().unregister_buf_ring(GROUP).unwrap();
    }

    #[test]
    #[should_panic(expected = "given back twice")]
    fn refuses_a_buffer_that_is_not_leased() {
        let ring = IoUring::new(4).unwrap();
        let mut buffers = BufferRing::register(&ring, 4, 64).unwrap();
        buffers.put(1);
    }

    #[test]
    fn refuses_sizes_the_kernel_would_refuse() {
        let ring = IoUring::new(4).unwrap();
        assert!(BufferRing::register(&ring, 3, 64).is_err());
        assert!(BufferRing::register(&ring, 4, 0).is_err());
    }
}
