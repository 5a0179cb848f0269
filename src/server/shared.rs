//! What the shards' loops have in common: how to wake each other, how many connections each has, and when to stop.

use crate::net::{ListenSocket, WakeHandle};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Shared by all shards' loops.
pub struct Shared {
    /// Connections of each shard, those on their way to it included.
    pub connections: Vec<AtomicUsize>,
    wakes: Vec<OnceLock<WakeHandle>>,
    is_stopping: AtomicBool,
    /// Sockets that the first shard is to accept from instead of those it has.
    sockets: Mutex<Option<Vec<ListenSocket>>>,
    has_sockets: AtomicBool,
}

impl Shared {
    pub fn new(shards: usize) -> Shared {
        Shared {
            connections: (0..shards).map(|_| AtomicUsize::new(0)).collect(),
            wakes: (0..shards).map(|_| OnceLock::new()).collect(),
            is_stopping: AtomicBool::new(false),
            sockets: Mutex::new(None),
            has_sockets: AtomicBool::new(false),
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

    /// Has the first shard accept from these sockets, and close the TCP sockets it had.
    pub fn listen_instead(&self, sockets: Vec<ListenSocket>) {
        *self.sockets.lock().unwrap_or_else(PoisonError::into_inner) = Some(sockets);
        self.has_sockets.store(true, Ordering::Release);
        if let Some(wake) = self.wake_handle(0) {
            wake.wake();
        }
    }

    /// The sockets of [`Shared::listen_instead`], once.
    pub fn take_sockets(&self) -> Option<Vec<ListenSocket>> {
        if !self.has_sockets.load(Ordering::Acquire) {
            return None;
        }
        self.has_sockets.store(false, Ordering::Relaxed);
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).take()
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
