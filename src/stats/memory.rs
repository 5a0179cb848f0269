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
//! Not all of it counts against `maxmemory`. What is *on its way* is bounded by other means (`base::limits`, the sizes of links and
//! buffers, the limits of clients) and is no data: if it counted, keys would pay for every burst of requests. So each shard publishes
//! beside its difference how much of its memory that is, and eviction goes by the rest:
//!
//! ```text
//! counted = in use - sum over shards of what is on its way      (it stays below the limit)
//! ```
//!
//! Beside it stand what a shard could evict and how cold that is, by which the work of eviction is shared out, and the *duty* of
//! each shard: what it has to free of an excess that anyone has seen. An excess is shared out once, by whoever sees it first; what
//! the duties cover already is not shared out again, however often and by however many shards it is looked at.
//!
//! With another allocator (the tests' programs run on the system's) the counters stay at zero, and nothing is ever evicted.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU8, AtomicU64, AtomicUsize, Ordering};
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

/// Readings that differ by no more agree.
const AGREEMENT_BYTES: usize = 4096;

/// By so much at most is the sum changed because of a single reading. What threads have that are no shards changes slowly.
const CORRECTION_BYTES_MAX: isize = 128 * 1024;

/// What all shards know of the process's memory.
#[derive(Debug)]
pub struct MemoryAccount {
    /// Of threads that are no shards, in bytes.
    elsewhere_bytes: AtomicIsize,
    /// What it seemed to be when it was read last.
    last_read_bytes: AtomicIsize,
    /// That was read when all shards had published.
    is_corrected: AtomicBool,
    /// Somebody is sharing out an excess.
    is_shared_out: AtomicBool,
    /// The shards are all there is: what the allocator says of the rest of the process is not asked for.
    is_closed: bool,
    /// The most that was ever used, as far as anyone looked, and what was used before the first client came.
    peak_bytes: AtomicUsize,
    at_start_bytes: AtomicUsize,
    /// What a snapshot keeps of the past: it is bounded by other means, and nothing that is evicted makes room for it.
    captured_bytes: Arc<AtomicUsize>,
    shards: Box<[ShardMemory]>,
}

/// What one shard has published; a line of the cache for each, so that writing one does not disturb the others.
#[derive(Debug, Default)]
#[repr(align(64))]
struct ShardMemory {
    /// Allocated less freed by its thread, without what is on its way: what is looked at before each command stands in one place.
    counted_bytes: AtomicIsize,
    /// What of its memory is on its way, and is no data.
    under_way_bytes: AtomicIsize,
    /// What the keys take that the policy lets it evict.
    evictable_bytes: AtomicUsize,
    /// How many keys that are.
    evictable_count: AtomicUsize,
    /// By which rule both were counted; 0: not at all, or not lately.
    counted_rule: AtomicU8,
    /// How cold the next of them is. Only the ratio to that of other shards has a meaning; 0 is not known.
    coldness: AtomicU64,
    /// What it has to free; below zero when it has freed too much, because whole keys go.
    duty_bytes: AtomicIsize,
    /// It was asked to evict, and did not come to it yet.
    is_asked: AtomicBool,
    /// What its clients take.
    client_bytes: AtomicUsize,
    /// What those of them take that may be disconnected, by their class.
    client_class_bytes: [AtomicUsize; CLIENT_CLASS_COUNT],
}

impl ShardMemory {
    /// What it has to free, in bytes.
    fn duty(&self) -> usize {
        self.duty_bytes.load(Ordering::Relaxed).max(0).unsigned_abs()
    }

    /// Allocated less freed by its thread.
    fn balance_bytes(&self) -> isize {
        self.counted_bytes.load(Ordering::Relaxed) + self.under_way_bytes.load(Ordering::Relaxed)
    }
}

impl MemoryAccount {
    /// For that many shards.
    pub fn new(shard_count: usize) -> MemoryAccount {
        MemoryAccount {
            elsewhere_bytes: AtomicIsize::new(0),
            last_read_bytes: AtomicIsize::new(0),
            is_corrected: AtomicBool::new(false),
            is_shared_out: AtomicBool::new(false),
            is_closed: false,
            peak_bytes: AtomicUsize::new(0),
            at_start_bytes: AtomicUsize::new(0),
            captured_bytes: Arc::default(),
            shards: (0..shard_count).map(|_| ShardMemory::default()).collect(),
        }
    }

    /// For shards that are not the whole process (a simulation): only their own balances count.
    pub fn closed(shard_count: usize) -> MemoryAccount {
        MemoryAccount {
            is_closed: true,
            ..MemoryAccount::new(shard_count)
        }
    }

    /// So much is used now: answers the most that ever was.
    pub fn note_peak(&self, used_bytes: usize) -> usize {
        self.peak_bytes.fetch_max(used_bytes, Ordering::Relaxed).max(used_bytes)
    }

    /// What the process used before the first client came.
    pub fn at_start_bytes(&self) -> usize {
        self.at_start_bytes.load(Ordering::Relaxed)
    }

    /// Notes what is used before the first client comes.
    pub fn note_start(&self, bytes: usize) {
        self.at_start_bytes.store(bytes, Ordering::Relaxed);
    }

    /// What the process uses, in bytes, as far as it was published.
    pub fn used_bytes(&self) -> usize {
        let elsewhere = self.elsewhere_bytes.load(Ordering::Relaxed);
        usize::try_from(elsewhere + self.balance_bytes()).unwrap_or(0)
    }

    /// What of it counts against `maxmemory`.
    #[inline]
    pub fn counted_bytes(&self) -> usize {
        let shards = self.shards.iter();
        let counted: isize = shards.map(|shard| shard.counted_bytes.load(Ordering::Relaxed)).sum();
        let captured = self.captured_bytes.load(Ordering::Relaxed).cast_signed();
        usize::try_from(self.elsewhere_bytes.load(Ordering::Relaxed) + counted - captured).unwrap_or(0)
    }

    /// Where it is counted what a snapshot keeps of the past.
    pub fn captured_bytes(&self) -> &Arc<AtomicUsize> {
        &self.captured_bytes
    }

    /// What is on its way, and does not count.
    pub fn under_way_bytes(&self) -> usize {
        let shards = self.shards.iter();
        let sum: isize = shards.map(|shard| shard.under_way_bytes.load(Ordering::Relaxed)).sum();
        sum.max(0).unsigned_abs()
    }

    /// Puts the sum right: `used_bytes` are in use by the allocator's own statistics. What shards have taken and not yet published
    /// falsifies a reading, by something else each time. So two readings that agree are the truth, and others count for one part in
    /// `part` of what is known, and for little: a shard may be in the middle of a reply of many megabytes.
    pub fn correct(&self, used_bytes: usize, part: isize) {
        if self.is_closed {
            return;
        }
        let read = used_bytes as isize - self.balance_bytes();
        let last = self.last_read_bytes.swap(read, Ordering::Relaxed);
        if self.is_corrected.load(Ordering::Relaxed) && read.abs_diff(last) > AGREEMENT_BYTES {
            let known = self.elsewhere_bytes.load(Ordering::Relaxed);
            let step = ((read - known) / part).clamp(-CORRECTION_BYTES_MAX, CORRECTION_BYTES_MAX);
            self.elsewhere_bytes.store(known + step, Ordering::Relaxed);
        } else {
            self.elsewhere_bytes.store(read, Ordering::Relaxed);
            // What a shard has taken that never published would stay in the constant.
            let has_published = |shard: &ShardMemory| shard.balance_bytes() != 0;
            self.is_corrected
                .store(self.shards.iter().all(has_published), Ordering::Relaxed);
        }
    }

    /// Publishes the balance of the calling thread, which is that shard's, and how much of it is on its way. Answers the rest.
    #[inline]
    pub fn publish(&self, shard: usize, under_way_bytes: usize) -> isize {
        let counted = Self::own_balance_bytes() - under_way_bytes.cast_signed();
        let shard = &self.shards[shard];
        shard.counted_bytes.store(counted, Ordering::Relaxed);
        shard
            .under_way_bytes
            .store(under_way_bytes.cast_signed(), Ordering::Relaxed);
        counted
    }

    /// Publishes what a shard has to evict by a rule (not 0).
    pub fn publish_evictable(&self, shard: usize, rule: u8, bytes: usize, count: usize) {
        let shard = &self.shards[shard];
        shard.evictable_bytes.store(bytes, Ordering::Relaxed);
        shard.evictable_count.store(count, Ordering::Relaxed);
        shard.counted_rule.store(rule, Ordering::Release);
    }

    /// A shard does not count what it has to evict any more.
    pub fn forget_evictable(&self, shard: usize) {
        self.shards[shard].counted_rule.store(0, Ordering::Relaxed);
    }

    /// Whether a shard has counted by that rule.
    pub fn has_counted(&self, shard: usize, rule: u8) -> bool {
        self.shards[shard].counted_rule.load(Ordering::Acquire) == rule
    }

    /// Publishes how cold the key is that a shard would evict next.
    pub fn publish_coldness(&self, shard: usize, coldness: u64) {
        self.shards[shard].coldness.store(coldness, Ordering::Relaxed);
    }

    /// Shares out what the duties do not cover of an excess: by what each shard has to evict, and by the square of how cold
    /// it is, so that a shard whose keys are twice as hot has a quarter of the share. Not before all shards have counted by
    /// that rule: those that have not would get nothing.
    pub fn share_out(&self, excess: usize, rule: u8) {
        if !(0..self.shards.len()).all(|shard| self.has_counted(shard, rule)) {
            return;
        }
        // Two that share out the same excess would share it out twice. Whoever comes second looks again at its next command.
        if self.is_shared_out.swap(true, Ordering::Acquire) {
            return;
        }
        self.share_out_alone(excess);
        self.is_shared_out.store(false, Ordering::Release);
    }

    fn share_out_alone(&self, excess: usize) {
        let covered = self.sum_of_duties();
        if excess <= covered {
            return;
        }
        let coldest = self
            .shards
            .iter()
            .map(|shard| shard.coldness.load(Ordering::Relaxed))
            .max();
        let coldest = coldest.unwrap_or(0).max(1) as f64;
        let weight = |shard: &ShardMemory| {
            let ratio = match shard.coldness.load(Ordering::Relaxed) {
                0 => 1.0,
                known => known as f64 / coldest,
            };
            shard.evictable_bytes.load(Ordering::Relaxed) as f64 * ratio * ratio
        };
        let all: f64 = self.shards.iter().map(weight).sum();
        if all <= 0.0 {
            return;
        }
        let uncovered = (excess - covered) as f64;
        for shard in &self.shards {
            // Rounded up, or a small excess would be nobody's.
            let share = (uncovered * weight(shard) / all).ceil();
            if share >= 1.0 {
                shard.duty_bytes.fetch_add(share as isize, Ordering::Relaxed);
            }
        }
    }

    /// What a shard has to free now, in bytes: its duty, or its part of the excess if the duties are more than that.
    pub fn duty(&self, shard: usize, excess: usize) -> usize {
        let own = self.shards[shard].duty();
        let all = self.sum_of_duties();
        if all <= excess {
            return own;
        }
        (own as u128 * excess as u128).div_ceil(all as u128) as usize
    }

    /// A shard has freed so many bytes. What it freed too much it has to free less later, but not more than `credit_max`.
    pub fn paid(&self, shard: usize, freed: isize, credit_max: usize) {
        let duty = &self.shards[shard].duty_bytes;
        let left = duty.load(Ordering::Relaxed).saturating_sub(freed);
        duty.store(left.max(-credit_max.cast_signed()), Ordering::Relaxed);
    }

    /// A shard has nothing to free any more: nothing is exceeded, or it has nothing.
    pub fn clear_duty(&self, shard: usize) {
        let shard = &self.shards[shard];
        if shard.duty() > 0 {
            shard.duty_bytes.store(0, Ordering::Relaxed);
        }
    }

    fn sum_of_duties(&self) -> usize {
        self.shards.iter().map(ShardMemory::duty).sum()
    }

    /// Whether a shard should be asked to evict: it has to free so many bytes, or has not counted by that rule, and nobody has
    /// asked. From now on somebody has.
    pub fn ask(&self, shard: usize, rule: u8, duty_min: usize) -> bool {
        let has_counted = self.has_counted(shard, rule);
        let shard = &self.shards[shard];
        let is_wanted = !has_counted || shard.duty() > duty_min;
        is_wanted && !shard.is_asked.swap(true, Ordering::Relaxed)
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

    /// Whether any shard has a key to evict by that rule, or may have: it has not counted.
    pub fn is_anything_evictable(&self, rule: u8) -> bool {
        (0..self.shards.len()).any(|shard| {
            !self.has_counted(shard, rule) || self.shards[shard].evictable_count.load(Ordering::Relaxed) > 0
        })
    }

    fn balance_bytes(&self) -> isize {
        self.shards.iter().map(ShardMemory::balance_bytes).sum()
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
        COUNTERS.with(Counters::balance_bytes)
    }

    /// Makes [`MemoryAccount::own_balance_bytes`] answer this now, and count on from it: several shards that take turns on one
    /// thread have a balance each.
    pub fn pose_as(balance_bytes: isize) {
        COUNTERS.with(|counters| {
            let shift = counters.shift_bytes.get();
            counters
                .shift_bytes
                .set(shift + balance_bytes - counters.balance_bytes());
        });
    }
}

/// The allocator's counters of one thread, where it keeps them.
struct Counters {
    allocated_and_freed: Option<(ThreadLocal<u64>, ThreadLocal<u64>)>,
    shift_bytes: Cell<isize>,
}

thread_local! {
    static COUNTERS: Counters = Counters {
        allocated_and_freed: allocatedp::read().ok().zip(deallocatedp::read().ok()),
        shift_bytes: Cell::new(0),
    };
}

impl Counters {
    #[inline]
    fn balance_bytes(&self) -> isize {
        let counted = match &self.allocated_and_freed {
            Some((allocated, freed)) => allocated.get().wrapping_sub(freed.get()).cast_signed() as isize,
            None => 0,
        };
        counted + self.shift_bytes.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With what has been paid too much as negative numbers.
    fn duties(account: &MemoryAccount) -> Vec<isize> {
        let shards = account.shards.iter();
        shards.map(|shard| shard.duty_bytes.load(Ordering::Relaxed)).collect()
    }

    #[test]
    fn a_thread_poses_as_several_shards() {
        MemoryAccount::pose_as(5000);
        assert_eq!(MemoryAccount::own_balance_bytes(), 5000);
        MemoryAccount::pose_as(-3);
        assert_eq!(MemoryAccount::own_balance_bytes(), -3);
        let account = MemoryAccount::closed(1);
        // What the account itself has taken counts where jemalloc does the counting.
        MemoryAccount::pose_as(-3);
        account.publish(0, 0);
        account.correct(1 << 30, 1);
        assert_eq!(account.used_bytes(), 0, "nothing but the shard counts");
    }

    #[test]
    fn an_excess_is_shared_out_once() {
        let account = MemoryAccount::new(2);
        account.share_out(100, 7);
        assert_eq!(duties(&account), [0, 0], "nobody has anything yet");
        assert!(account.is_anything_evictable(7), "or they do not know yet");
        account.publish_evictable(0, 7, 300, 3);
        account.share_out(100, 7);
        assert_eq!(duties(&account), [0, 0], "one shard has not counted");
        account.publish_evictable(1, 7, 100, 1);
        assert!(account.is_anything_evictable(7));
        account.publish_evictable(0, 7, 0, 0);
        account.publish_evictable(1, 7, 0, 0);
        assert!(!account.is_anything_evictable(7));
        account.publish_evictable(0, 7, 300, 3);
        account.publish_evictable(1, 7, 100, 1);
        for _ in 0..3 {
            account.share_out(100, 7);
            assert_eq!(duties(&account), [75, 25], "what is covered is not shared out again");
        }
        account.share_out(140, 7);
        assert_eq!(duties(&account), [105, 35], "only what has been added");
        account.forget_evictable(0);
        account.share_out(1000, 7);
        assert_eq!(duties(&account), [105, 35]);
        account.publish_evictable(0, 7, 300, 3);
        assert!(account.ask(0, 7, 100) && !account.ask(0, 7, 100) && !account.ask(1, 7, 100));
    }

    #[test]
    fn duties_shrink_with_the_excess() {
        let account = MemoryAccount::new(2);
        account.publish_evictable(0, 7, 300, 3);
        account.publish_evictable(1, 7, 100, 1);
        account.share_out(100, 7);
        assert_eq!((account.duty(0, 100), account.duty(1, 100)), (75, 25));
        assert_eq!(
            (account.duty(0, 50), account.duty(1, 50)),
            (38, 13),
            "others have paid more"
        );
        account.paid(0, 70, 30);
        assert_eq!(duties(&account), [5, 25]);
        account.paid(0, 50, 30);
        assert_eq!(duties(&account), [-30, 25], "no more than the credit");
        account.clear_duty(0);
        account.clear_duty(1);
        assert_eq!(duties(&account), [-30, 0], "a credit stays");
    }

    #[test]
    fn the_coldest_pay() {
        let account = MemoryAccount::new(3);
        for (shard, coldness) in [(0, 100), (1, 200), (2, 2)] {
            account.publish_evictable(shard, 7, 1000, 1);
            account.publish_coldness(shard, coldness);
        }
        account.share_out(100_010, 7);
        assert_eq!(duties(&account), [20_001, 80_002, 9]);
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
        const BYTES: usize = 100_000;
        let account = MemoryAccount::new(2);
        account.correct(10 * BYTES, 8);
        assert_eq!(account.used_bytes(), 10 * BYTES);
        account.shards[0]
            .counted_bytes
            .store(3 * BYTES as isize, Ordering::Relaxed);
        account.correct(10 * BYTES, 8);
        account.shards[1]
            .under_way_bytes
            .store(4 * BYTES as isize, Ordering::Relaxed);
        assert_eq!(
            account.used_bytes(),
            14 * BYTES,
            "what is published counts from then on"
        );
        assert_eq!(
            account.counted_bytes(),
            10 * BYTES,
            "but what is on its way, not against the limit"
        );
        assert_eq!(account.under_way_bytes(), 4 * BYTES);
        account.correct(10 * BYTES, 8);
        assert_eq!(
            account.used_bytes(),
            10 * BYTES,
            "the second shard had not published yet"
        );
        account.correct(2 * BYTES, 8);
        assert_eq!(account.used_bytes(), 9 * BYTES, "a reading is not the whole truth");
        account.correct(2 * BYTES, 8);
        assert_eq!(account.used_bytes(), 2 * BYTES, "two are");
        account.correct(1000 * BYTES, 2);
        let most = 2 * BYTES + CORRECTION_BYTES_MAX.unsigned_abs();
        assert_eq!(account.used_bytes(), most, "it may have been a moment's");
    }
}
