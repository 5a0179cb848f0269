//! The process-wide table of clients: who exists and on which shard, for whoever must find a client by its id
//! (CLIENT KILL, CLIENT UNBLOCK) or count them all (`maxclients`).
//!
//! The records lie in a lock-free slab. Ids are found through an index that changes only when a client comes or goes,
//! so no command that a client runs ever meets its lock. What changes with every command (idle time, buffers) is not
//! here: it is the shard's own, and CLIENT LIST asks the shards.

use crate::shard::ConnRef;
use hashbrown::HashMap;
use sharded_slab::Slab;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is known of a client everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub id: u64,
    pub place: ConnRef,
}

/// All clients of the process.
#[derive(Default)]
pub struct ClientTable {
    records: Slab<Record>,
    by_id: Mutex<BTreeMap<u64, usize>>,
    /// Where the peers are, for a shard that tells of another one's client.
    addresses: Mutex<HashMap<ConnRef, Box<str>>>,
    next_id: AtomicU64,
    count: AtomicUsize,
}

/// A client's entry in the table; it leaves the table when this is dropped.
pub struct Registration {
    table: Arc<ClientTable>,
    key: usize,
    id: u64,
    place: ConnRef,
}

impl ClientTable {
    pub fn new() -> Arc<ClientTable> {
        Arc::new(ClientTable::default())
    }

    /// Enters a client and gives it the next id. None when `maxclients` are there already.
    pub fn register(self: &Arc<ClientTable>, place: ConnRef, address: &str, maxclients: usize) -> Option<Registration> {
        if self.count.fetch_add(1, Ordering::Relaxed) >= maxclients {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed) + 1;
        let Some(key) = self.records.insert(Record { id, place }) else {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return None;
        };
        self.index().insert(id, key);
        self.addresses().insert(place, address.into());
        Some(Registration {
            table: self.clone(),
            key,
            id,
            place,
        })
    }

    /// Where the client with this id is.
    pub fn find(&self, id: u64) -> Option<ConnRef> {
        let key = *self.index().get(&id)?;
        let record = self.records.get(key)?;
        (record.id == id).then_some(record.place)
    }

    /// Where the peer of that connection is, if it is still there.
    pub fn address_of(&self, place: ConnRef) -> Option<Box<str>> {
        self.addresses().get(&place).cloned()
    }

    /// How many clients there are.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn addresses(&self) -> MutexGuard<'_, HashMap<ConnRef, Box<str>>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn index(&self) -> MutexGuard<'_, BTreeMap<u64, usize>> {
        // A panic ends the process, so a poisoned lock is never met; its content would be sound all the same.
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration {
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.table.index().remove(&self.id);
        self.table.addresses().remove(&self.place);
        self.table.records.remove(self.key);
        self.table.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::ShardId;

    #[test]
    fn ids_ascend_and_places_are_found_until_the_client_leaves() {
        let table = ClientTable::new();
        let place = |index| ConnRef {
            shard: ShardId(1),
            index,
            generation: 0,
        };
        let first = table.register(place(7), "here:7", 2).expect("there is room");
        let second = table.register(place(8), "here:8", 2).expect("there is room");
        assert!(table.register(place(9), "here:9", 2).is_none());
        assert_eq!(table.address_of(place(8)).as_deref(), Some("here:8"));
        assert_eq!(table.address_of(place(9)), None);
        assert_eq!(table.len(), 2);
        assert!(second.id() > first.id());
        assert_eq!(table.find(second.id()), Some(place(8)));
        let id = first.id();
        drop(first);
        assert_eq!(table.find(id), None);
        assert_eq!(table.len(), 1);
        assert_eq!(table.address_of(place(7)), None);
        let third = table.register(place(9), "here:9", 2).expect("there is room again");
        assert_eq!(table.find(third.id()), Some(place(9)));
    }
}
