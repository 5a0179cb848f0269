//! What the process has taken from the allocator, known at every moment by every shard, without asking anyone.
//!
//! jemalloc counts for each thread what it has ever allocated and freed, and lets the thread read both counters where they lie. A
//! block may be freed by another thread than the one that allocated it, so the difference of one thread says little (it may
//! be negative); but the sum over all threads is exactly what is in use. So each shard publishes its own difference where the
//! others can read it, and what other threads have is added as a constant that is put right once a second from the allocator's
//! statistics.
//!
//! ```text
//! in use = elsewhere + sum over shards of (allocated - freed)
//! ```
//!
//! Beside it stands what a shard could evict, and what its keyspace takes: what eviction shares its work out by.
//!
//! With another allocator (the tests' programs run on the system's) the counters stay at zero, and nothing is ever evicted.

use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};
use tikv_jemalloc_ctl::thread::{ThreadLocal, allocatedp, deallocatedp};

/// Classes of clients by their memory: up to 64 KiB, up to twice that, and so on; the last has no end. Redis's classes.
pub const CLIENT_CLASS_COUNT: usize = 19;
/// The lowest class ends with this power of two.
const CLIENT_CLASS_LOG_MIN: u32 = 16;

/// The class of a client that takes so many bytes.
pub fn client_class(bytes: usize) -> usize {
    let log = usize::BITS - bytes.leading_zeros();
    (log.saturating_sub(CLIENT_CLASS_LOG_MIN) as usize).min(CLIENT_CLASS_COUNT - 1)
}

/// What all shards know of the process's memory.
#[derive(Debug)]
pub struct MemoryAccount {
    /// Of threads that are no shards, in bytes.
    elsewhere_bytes: AtomicIsize,
    shards: Box<[ShardMemory]>,
}

/// What one shard has published; a line of the cache for each, so that writing one does not disturb the others.
#[derive(Debug, Default)]
#[repr(align(64))]
struct ShardMemory {
    /// Allocated less freed by its thread.
    balance_bytes: AtomicIsize,
    /// What its keyspace takes.
    keyspace_bytes: AtomicUsize,
    /// How many keys the policy lets it evict.
    evictable_count: AtomicUsize,
    /// It was asked to evict, and did not come to it yet.
    is_asked: AtomicBool,
    /// What its clients take.
    client_bytes: AtomicUsize,
    /// What those of them take that may be disconnected, by their class.
    client_class_bytes: [AtomicUsize; CLIENT_CLASS_COUNT],
}

impl MemoryAccount {
    /// For that many shards.
    pub fn new(shard_count: usize) -> MemoryAccount {
        MemoryAccount {
            elsewhere_bytes: AtomicIsize::new(0),
            shards: (0..shard_count).map(|_| ShardMemory::default()).collect(),
        }
    }

    /// What the process uses, in bytes, as far as it was published.
    pub fn used_bytes(&self) -> usize {
        let elsewhere = self.elsewhere_bytes.load(Ordering::Relaxed);
        usize::try_from(elsewhere + self.balance_bytes()).unwrap_or(0)
    }

    /// Puts the sum right: `used_bytes` are in use by the allocator's own statistics.
    pub fn correct(&self, used_bytes: usize) {
        self.elsewhere_bytes
            .store(used_bytes as isize - self.balance_bytes(), Ordering::Relaxed);
    }

    /// Publishes the balance of the calling thread, which is that shard's.
    #[inline]
    pub fn publish(&self, shard: usize) {
        self.shards[shard]
            .balance_bytes
            .store(Self::own_balance_bytes(), Ordering::Relaxed);
    }

    /// Publishes what a shard has to evict.
    pub fn publish_keyspace(&self, shard: usize, keyspace_bytes: usize, evictable_count: usize) {
        let shard = &self.shards[shard];
        shard.keyspace_bytes.store(keyspace_bytes, Ordering::Relaxed);
        shard.evictable_count.store(evictable_count, Ordering::Relaxed);
    }

    /// Whether a shard should be asked to evict: it has something, and nobody has asked. From now on somebody has.
    pub fn ask(&self, shard: usize) -> bool {
        let shard = &self.shards[shard];
        shard.evictable_count.load(Ordering::Relaxed) > 0 && !shard.is_asked.swap(true, Ordering::Relaxed)
    }

    /// The shard comes to what it was asked for.
    pub fn heed(&self, shard: usize) {
        self.shards[shard].is_asked.store(false, Ordering::Relaxed);
    }

    /// Publishes what a shard's clients take: all together, and those that may be disconnected, by their class.
    pub fn publish_clients(&self, shard: usize, client_bytes: usize, classes: &[usize; CLIENT_CLASS_COUNT]) {
        let shard = &self.shards[shard];
        shard.client_bytes.store(client_bytes, Ordering::Relaxed);
        for (published, bytes) in shard.client_class_bytes.iter().zip(classes) {
            published.store(*bytes, Ordering::Relaxed);
        }
    }

    /// What a shard must free of each class so that all shards free `excess` bytes: the highest class pays first, and in a
    /// class the first shards.
    pub fn client_duties(&self, shard: usize, excess: usize) -> [usize; CLIENT_CLASS_COUNT] {
        let mut duties = [0; CLIENT_CLASS_COUNT];
        let mut left = excess;
        for class in (0..CLIENT_CLASS_COUNT).rev() {
            for (index, other) in self.shards.iter().enumerate() {
                let paid = left.min(other.client_class_bytes[class].load(Ordering::Relaxed));
                left -= paid;
                if index == shard {
                    duties[class] = paid;
                }
            }
        }
        duties
    }

    /// What all clients take, in bytes.
    pub fn client_bytes(&self) -> usize {
        self.sum(|shard| &shard.client_bytes)
    }

    /// Whether any shard has a key to evict.
    pub fn is_anything_evictable(&self) -> bool {
        self.shards
            .iter()
            .any(|shard| shard.evictable_count.load(Ordering::Relaxed) > 0)
    }

    /// The part of `bytes` that falls to a shard, by what its keyspace takes of all; rounded up.
    pub fn share(&self, shard: usize, bytes: usize) -> usize {
        let own = self.shards[shard].keyspace_bytes.load(Ordering::Relaxed) as u128;
        let all = self.sum(|shard| &shard.keyspace_bytes) as u128;
        if all == 0 {
            return bytes;
        }
        (bytes as u128 * own).div_ceil(all) as usize
    }

    fn balance_bytes(&self) -> isize {
        let balances = self.shards.iter();
        balances.map(|shard| shard.balance_bytes.load(Ordering::Relaxed)).sum()
    }

    fn sum(&self, figure: impl Fn(&ShardMemory) -> &AtomicUsize) -> usize {
        self.shards
            .iter()
            .map(|shard| figure(shard).load(Ordering::Relaxed))
            .sum()
    }
}

impl MemoryAccount {
    /// What the calling thread has allocated, less what it has freed.
    #[inline]
    pub fn own_balance_bytes() -> isize {
        thread_local! {
            static COUNTERS: Option<(ThreadLocal<u64>, ThreadLocal<u64>)> =
                allocatedp::read().ok().zip(deallocatedp::read().ok());
        }
        COUNTERS.with(|counters| match counters {
            Some((allocated, freed)) => allocated.get().wrapping_sub(freed.get()).cast_signed() as isize,
            None => 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_the_keyspace() {
        let account = MemoryAccount::new(2);
        assert_eq!(account.share(0, 100), 100, "nobody has anything yet");
        account.publish_keyspace(0, 300, 3);
        account.publish_keyspace(1, 100, 1);
        assert_eq!((account.share(0, 100), account.share(1, 100)), (75, 25));
        assert_eq!(
            account.share(1, 1),
            1,
            "rounded up, or a small excess would be nobody's"
        );
        assert!(account.is_anything_evictable());
        account.publish_keyspace(0, 300, 0);
        account.publish_keyspace(1, 100, 0);
        assert!(!account.is_anything_evictable());
    }

    #[test]
    fn the_largest_clients_pay() {
        assert_eq!([0, 1, 65_535, 65_536, 131_072].map(client_class), [0, 0, 0, 1, 2]);
        assert_eq!(client_class(usize::MAX), CLIENT_CLASS_COUNT - 1);
        let account = MemoryAccount::new(3);
        let publish = |shard, low: usize, high: usize| {
            let mut classes = [0; CLIENT_CLASS_COUNT];
            (classes[0], classes[4]) = (low, high);
            account.publish_clients(shard, low + high, &classes);
        };
        publish(0, 100, 0);
        publish(1, 100, 1000);
        publish(2, 100, 1000);
        assert_eq!(account.client_bytes(), 2300);
        let duties = |excess| [0, 1, 2].map(|shard| account.client_duties(shard, excess));
        assert_eq!(duties(900).map(|duty| (duty[0], duty[4])), [(0, 0), (0, 900), (0, 0)]);
        assert_eq!(
            duties(1500).map(|duty| (duty[0], duty[4])),
            [(0, 0), (0, 1000), (0, 500)]
        );
        assert_eq!(
            duties(2150).map(|duty| (duty[0], duty[4])),
            [(100, 0), (50, 1000), (0, 1000)]
        );
    }

    #[test]
    fn the_sum_is_put_right() {
        let account = MemoryAccount::new(1);
        account.correct(1000);
        assert_eq!(account.used_bytes(), 1000);
        account.publish(0);
        account.correct(500);
        assert_eq!(account.used_bytes(), 500);
    }
}
