//! What a plane remembers of a connection.
//!
//! Little: ten thousand idle connections must cost next to nothing. Buffers are in the ring (`buffer_ring.rs`) while they
//! are used, output is in `flight.rs` while it is written.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// `Connection::write` when no write is with the kernel.
pub(super) const NO_WRITE: u32 = u32::MAX;

/// What is remembered of a connection.
pub(super) struct Connection {
    pub(super) fd: Option<OwnedFd>,
    pub(super) generation: u32,
    /// The write in flight, in `flights`.
    pub(super) write: u32,
    /// Requests with the kernel that name this connection.
    pub(super) requests: u16,
    pub(super) state: u16,
}

/// Bits of `Connection::state`.
pub(super) mod state {
    /// Bytes are wanted.
    pub(in crate::net) const STARTED: u16 = 1;
    /// `pause_receive` was called.
    pub(in crate::net) const PAUSED: u16 = 1 << 1;
    /// A receive is with the kernel.
    pub(in crate::net) const RECEIVING: u16 = 1 << 2;
    /// In the list of those who wait for buffers.
    pub(in crate::net) const STARVED: u16 = 1 << 3;
    /// A receive is being cancelled.
    pub(in crate::net) const CANCELLING: u16 = 1 << 4;
    /// Nothing more comes from the peer.
    pub(in crate::net) const ENDED: u16 = 1 << 5;
    /// Writing has failed.
    pub(in crate::net) const BROKEN: u16 = 1 << 6;
    /// A `send` was refused: `Drained` is owed.
    pub(in crate::net) const REFUSED: u16 = 1 << 7;
    /// The caller has closed it; it lives on until the kernel has let go.
    pub(in crate::net) const DYING: u16 = 1 << 8;
    /// It waits for its last write.
    pub(in crate::net) const FLUSHING: u16 = 1 << 9;
    /// The kernel has copied a zero-copy write all the same (loopback does): do not ask again.
    pub(in crate::net) const COPIES: u16 = 1 << 10;
}

impl Connection {
    pub(super) fn is(&self, bits: u16) -> bool {
        self.state & bits != 0
    }

    pub(super) fn set(&mut self, bits: u16) {
        self.state |= bits;
    }

    pub(super) fn unset(&mut self, bits: u16) {
        self.state &= !bits;
    }

    pub(super) fn fd_ref(&self) -> BorrowedFd<'_> {
        self.fd
            .as_ref()
            .expect("a place is emptied only when nothing names it any more")
            .as_fd()
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.fd_ref().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Connection>() <= 24);
    }
}
