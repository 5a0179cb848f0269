//! The clients of a shard, by the index of their connection, and which of them are to be looked at.
//!
//! A client that has output to send, or requests that may start, is *listed*: the pass serves who is listed, and nobody else. Who cannot go
//! on says so in its `stall`; what it waits for is known here, so that it is listed again when that is over: for the replies of its own
//! commands ([`Clients::answered`]), for the end of CLIENT PAUSE, for room in a link.

use crate::client::{Client, Session, Stall};
use crate::shard::ConnRef;

/// See above.
#[derive(Default)]
pub struct Clients {
    places: Vec<Option<Box<Client>>>,
    count: usize,
    listed: Vec<u32>,
    paused: Vec<ConnRef>,
    /// Clients that wait because too much is captured for a snapshot.
    waiting_for_snapshot: Vec<ConnRef>,
    waiting_for_room: Vec<ConnRef>,
    /// Clients with replies that wait for the disk; some have gone meanwhile.
    waiting_for_disk: Vec<u32>,
}

impl Clients {
    /// Enters a client at the index of its connection.
    pub(super) fn enter(&mut self, client: Client) {
        let index = client.place.index as usize;
        if self.places.len() <= index {
            self.places.resize_with(index + 1, || None);
        }
        self.places[index] = Some(Box::new(client));
        self.count += 1;
    }

    /// Takes a client out that has gone.
    pub(super) fn remove(&mut self, index: u32) -> Option<Box<Client>> {
        let client = self.take(index)?;
        self.count -= 1;
        Some(client)
    }

    #[inline]
    pub fn at(&mut self, index: u32) -> Option<&mut Box<Client>> {
        self.places.get_mut(index as usize)?.as_mut()
    }

    /// The client of that connection, if it is still there.
    #[inline]
    pub fn get(&mut self, place: ConnRef) -> Option<&mut Box<Client>> {
        self.at(place.index).filter(|client| client.place == place)
    }

    #[inline]
    pub(super) fn take(&mut self, index: u32) -> Option<Box<Client>> {
        self.places.get_mut(index as usize)?.take()
    }

    #[inline]
    pub(super) fn put_back(&mut self, client: Box<Client>) {
        let index = client.place.index as usize;
        self.places[index] = Some(client);
    }

    pub fn iter(&self) -> impl Iterator<Item = &Client> {
        self.places.iter().flatten().map(|client| &**client)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Client> {
        self.places.iter_mut().flatten().map(|client| &mut **client)
    }

    pub fn len(&self) -> usize {
        self.count
    }

    /// The first index that no client has.
    pub(super) fn index_end(&self) -> u32 {
        self.places.len() as u32
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Puts a client on the list of those that have something to send or to start.
    pub fn list(&mut self, index: u32) {
        if let Some(client) = self.at(index)
            && !client.is_listed
        {
            client.is_listed = true;
            self.listed.push(index);
        }
    }

    pub(super) fn has_listed(&self) -> bool {
        !self.listed.is_empty()
    }

    /// Takes one from the list; it may have gone meanwhile.
    pub(super) fn next_listed(&mut self) -> Option<u32> {
        let index = self.listed.pop()?;
        if let Some(client) = self.at(index) {
            client.is_listed = false;
        }
        Some(index)
    }

    /// A command of this client was answered: what waited for that may start.
    pub(super) fn answered(&mut self, index: u32) {
        let Some(client) = self.at(index) else { return };
        let may_go_on = match client.stall {
            Stall::Barrier | Stall::Underway => client.pending.is_empty(),
            Stall::Full => client.pending.is_half_free(),
            // They wait for something else.
            Stall::Paused | Stall::Link | Stall::Snapshot | Stall::Blocked | Stall::Leaving | Stall::Not => false,
        };
        if may_go_on {
            client.stall = Stall::Not;
        }
        self.list(index);
    }

    /// Puts the session of a client back, as a command has left it that took it along.
    pub(super) fn take_session_back(&mut self, place: ConnRef, session: Session) {
        if let Some(client) = self.get(place) {
            client.is_closing |= session.closes;
            // What was said for the command that took it along is spent by now.
            let caching = client.session.caching && session.caching;
            client.session = Session { caching, ..session };
            client.follow_session();
        }
    }

    /// This client waits for the end of CLIENT PAUSE.
    pub(super) fn wait_for_pause(&mut self, place: ConnRef) {
        self.paused.push(place);
    }

    /// Lets the clients go on that CLIENT PAUSE held back.
    pub(super) fn end_pause(&mut self) {
        let paused = std::mem::take(&mut self.paused);
        self.let_go_on(paused, Stall::Paused);
    }

    /// This client waits until less is captured for a snapshot.
    pub(super) fn wait_for_snapshot(&mut self, place: ConnRef) {
        self.waiting_for_snapshot.push(place);
    }

    pub(super) fn wait_for_snapshot_anywhere(&self) -> bool {
        !self.waiting_for_snapshot.is_empty()
    }

    /// Less is captured, or nothing is any more.
    pub(super) fn find_snapshot_room(&mut self) {
        let waiting = std::mem::take(&mut self.waiting_for_snapshot);
        self.let_go_on(waiting, Stall::Snapshot);
    }

    /// This client waits for room in a link.
    pub(super) fn wait_for_room(&mut self, place: ConnRef) {
        self.waiting_for_room.push(place);
    }

    pub(super) fn wait_for_room_anywhere(&self) -> bool {
        !self.waiting_for_room.is_empty()
    }

    /// There is room again.
    pub(super) fn find_room(&mut self) {
        let waiting = std::mem::take(&mut self.waiting_for_room);
        self.let_go_on(waiting, Stall::Link);
    }

    /// This client's replies wait for the disk.
    pub(super) fn wait_for_disk(&mut self, index: u32) {
        if let Some(held) = self.at(index).and_then(|client| client.held.as_mut())
            && !std::mem::replace(&mut held.is_listed, true)
        {
            self.waiting_for_disk.push(index);
        }
    }

    pub(super) fn wait_for_disk_anywhere(&self) -> bool {
        !self.waiting_for_disk.is_empty()
    }

    /// More is durable: whoever waits for it is looked at.
    pub(super) fn find_durable(&mut self) {
        for index in std::mem::take(&mut self.waiting_for_disk) {
            if let Some(held) = self.at(index).and_then(|client| client.held.as_mut()) {
                held.is_listed = false;
                self.list(index);
            }
        }
    }

    /// Lists clients that have waited for something that is over.
    fn let_go_on(&mut self, waiting: Vec<ConnRef>, stalled_by: Stall) {
        for place in waiting {
            if let Some(client) = self.get(place)
                && client.stall == stalled_by
            {
                client.stall = Stall::Not;
            }
            self.list(place.index);
        }
    }
}
