//! What the shards' loops have in common: how to wake each other, how many connections each has, and when to stop.

use crate::net::{ListenSocket, WakeHandle};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Shared by all shards' loops.
pub struct Shared {
    /// Connections of each shard, those on their way to it included.
    pub connections: Vec<AtomicUsize>,
    wakes: Vec<OnceLock<WakeHandle>>,
    is_stopping: AtomicBool,
    /// For each shard, what it is to accept from instead of what it does.
    listening: Vec<Mailbox<Option<Listening>>>,
    /// For each shard, connections that others have accepted. Not by the links: a shard looks here also while it runs what does not end.
    handed_over: Vec<Mailbox<Vec<OwnedFd>>>,
}

/// What a shard accepts from.
#[derive(Default)]
pub struct Listening {
    /// For all shards.
    pub shared: Vec<ListenSocket>,
    /// For itself (`shard-ports`).
    pub own: Vec<ListenSocket>,
}

#[derive(Default)]
struct Mailbox<T> {
    content: Mutex<T>,
    /// So that a shard need not take the lock to see that there is nothing.
    is_full: AtomicBool,
}

impl<T: Default> Mailbox<T> {
    /// Puts something in, or in the place of what is there.
    fn put(&self, put: impl FnOnce(&mut T)) {
        put(&mut self.content.lock().unwrap_or_else(PoisonError::into_inner));
        self.is_full.store(true, Ordering::Release);
    }

    /// Takes all out; None: there is nothing.
    fn take(&self) -> Option<T> {
        if !self.is_full.load(Ordering::Acquire) {
            return None;
        }
        self.is_full.store(false, Ordering::Relaxed);
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        Some(std::mem::take(&mut content))
    }
}

impl Shared {
    pub fn new(shards: usize) -> Shared {
        Shared {
            connections: (0..shards).map(|_| AtomicUsize::new(0)).collect(),
            wakes: (0..shards).map(|_| OnceLock::new()).collect(),
            is_stopping: AtomicBool::new(false),
            listening: (0..shards).map(|_| Mailbox::default()).collect(),
            handed_over: (0..shards).map(|_| Mailbox::default()).collect(),
        }
    }

    /// Makes a shard's loop known: it can be woken from here on.
    pub fn announce(&self, index: usize, wake: WakeHandle) {
        let is_first = self.wakes[index].set(wake).is_ok();
        assert!(is_first, "a shard's loop starts once");
    }

    /// What wakes that shard; None before its loop has started (it does not sleep before).
    pub fn wake_handle(&self, index: usize) -> Option<&WakeHandle> {
        self.wakes[index].get()
    }

    /// The shard with the fewest connections.
    pub fn least_loaded(&self) -> usize {
        let loads = self.connections.iter().map(|count| count.load(Ordering::Relaxed));
        loads
            .enumerate()
            .min_by_key(|(_, load)| *load)
            .map_or(0, |(index, _)| index)
    }

    /// Has a shard accept from these sockets, and from no others.
    pub fn listen_to(&self, index: usize, listening: Listening) {
        self.listening[index].put(|content| *content = Some(listening));
        if let Some(wake) = self.wake_handle(index) {
            wake.wake();
        }
    }

    /// What [`Shared::listen_to`] has said last, once.
    pub fn take_listening(&self, index: usize) -> Option<Listening> {
        self.listening[index].take().flatten()
    }

    /// Gives a connection to another shard, which is still to be woken.
    pub fn hand_over(&self, index: usize, socket: OwnedFd) {
        self.connections[index].fetch_add(1, Ordering::Relaxed);
        self.handed_over[index].put(|sockets| sockets.push(socket));
    }

    /// Connections that were given to that shard. Each is still counted as on its way.
    pub fn take_handed_over(&self, index: usize) -> Vec<OwnedFd> {
        self.handed_over[index].take().unwrap_or_default()
    }

    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// Ends all loops.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        for wake in self.wakes.iter().filter_map(OnceLock::get) {
            wake.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_go_to_the_shard_with_the_fewest() {
        let shared = Shared::new(3);
        let mut chosen = Vec::new();
        for _ in 0..6 {
            let target = shared.least_loaded();
            shared.connections[target].fetch_add(1, Ordering::Relaxed);
            chosen.push(target);
        }
        assert_eq!(chosen, [0, 1, 2, 0, 1, 2]);
        shared.connections[1].fetch_sub(1, Ordering::Relaxed);
        assert_eq!(shared.least_loaded(), 1);
    }
}
