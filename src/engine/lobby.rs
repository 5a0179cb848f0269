//! Where the clients of a shard are while it runs what may take long.
//!
//! A unit of work borrows the slots of its shard and all that units may know; what it does not borrow are the clients. So whoever has units run
//! puts the clients into the lobby first, where a script that does not end finds them and has them looked after (`attend`), and takes
//! them back behind it. That is two moves of a pointer.
//!
//! What must be done for those who left meanwhile needs the shard; it is kept here until the shard is at hand again.
//!
//! Invariant: the clients are in one of the two places, and whoever has lent them takes them back before it looks for any.

use super::clients::Clients;
use crate::client::Client;
use crate::store::WatchToken;
use std::ops::{Deref, DerefMut};

/// The clients in their shard.
pub struct Lodged(Option<Box<Clients>>);

/// The clients elsewhere, and what is owed to them.
#[derive(Default)]
pub(super) struct Lobby {
    pub(super) clients: Option<Box<Clients>>,
    /// Since they came here all of them have been looked at once.
    pub(super) is_attended: bool,
    /// Clients whose connections have ended.
    pub(super) gone: Vec<Client>,
    /// Watches that are over.
    pub(super) forgotten: Vec<(u16, WatchToken)>,
}

impl Default for Lodged {
    fn default() -> Lodged {
        Lodged(Some(Box::default()))
    }
}

const THEY_ARE_BACK: &str = "clients are looked for when they are back";

impl Deref for Lodged {
    type Target = Clients;

    #[inline]
    fn deref(&self) -> &Clients {
        self.0.as_ref().expect(THEY_ARE_BACK)
    }
}

impl DerefMut for Lodged {
    #[inline]
    fn deref_mut(&mut self) -> &mut Clients {
        self.0.as_mut().expect(THEY_ARE_BACK)
    }
}

impl Lobby {
    /// They come.
    #[inline]
    pub(super) fn take_in(&mut self, lodged: &mut Lodged) {
        self.clients = lodged.0.take();
    }

    /// They go home.
    #[inline]
    pub(super) fn give_back(&mut self, lodged: &mut Lodged) {
        lodged.0 = self.clients.take();
        self.is_attended = false;
    }

    /// Whether the shard has something to do for those who left.
    #[inline]
    pub(super) fn owes(&self) -> bool {
        !self.gone.is_empty() || !self.forgotten.is_empty()
    }
}
