//! The clients of a shard, by the index of their connection.

use crate::client::Client;
use crate::shard::ConnRef;

/// See above.
#[derive(Default)]
pub struct Clients {
    places: Vec<Option<Box<Client>>>,
    count: usize,
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
}
