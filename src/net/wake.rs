//! Waking a plane from another thread.
//!
//! Two ways lead into a sleeping ring. Any thread can write to an eventfd that the ring reads (one system call). A
//! thread with a ring of its own can have the kernel post a completion into the other ring (MSG_RING), which goes along
//! with what that thread submits anyway.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

/// Wakes one plane; cheap to clone, usable from every thread.
#[derive(Clone, Debug)]
pub struct WakeHandle {
    shared: Arc<WakeFds>,
}

#[derive(Debug)]
struct WakeFds {
    /// A duplicate of the ring's descriptor: while a handle lives, the number cannot come to mean another file, and a
    /// message can never land in somebody else's ring.
    ring: OwnedFd,
    /// Blocking mode: io_uring answers a read of a nonblocking eventfd with EAGAIN instead of waiting.
    eventfd: OwnedFd,
}

impl WakeHandle {
    pub(super) fn new(ring: BorrowedFd<'_>) -> io::Result<WakeHandle> {
        Ok(WakeHandle {
            shared: Arc::new(WakeFds {
                ring: ring.try_clone_to_owned()?,
                eventfd: eventfd()?,
            }),
        })
    }

    /// Wakes the plane, or keeps it from falling asleep: one `Woken` event will come. Several calls may count as one.
    pub fn wake(&self) {
        // Fails only when the counter is full, which means that a wake-up is waiting to be read.
        let _ = nix::unistd::write(&self.shared.eventfd, &1u64.to_ne_bytes());
    }

    pub(super) fn ring_fd(&self) -> RawFd {
        self.shared.ring.as_raw_fd()
    }

    pub(super) fn eventfd(&self) -> RawFd {
        self.shared.eventfd.as_raw_fd()
    }

    pub(super) fn is_same(&self, other: &WakeHandle) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

/// A fresh eventfd in blocking mode.
pub(super) fn eventfd() -> io::Result<OwnedFd> {
    use nix::sys::eventfd::{EfdFlags, EventFd};
    Ok(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?.into())
}
