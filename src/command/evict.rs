//! Eviction: what happens when the process uses more memory than `maxmemory`, or its clients more than `maxmemory-clients`.
//!
//! The limit is the process's. Every shard knows at every moment what the process uses ([`MemoryAccount`]), so whoever runs a
//! command looks before it runs it, and pays: it evicts its *share* of the excess, which is the share of all data that it holds. The
//! others do the same before their next command, or in their next pass, so keys go where the data is, and shards that write much
//! do not evict all of their own while cold keys lie elsewhere. An excess of more than a hundredth of the limit is
//! paid whole by whoever sees it: that bounds how far the process can be over.
//!
//! What goes is chosen as Redis does: `maxmemory-samples` keys are drawn at random, and those that are best to evict by the policy
//! join a small *pool* that remembers good candidates of earlier draws; the best of the pool goes. A slot is drawn with a chance that
//! grows with its keys, so keys of full slots are not spared.
//!
//! A command that may need memory is refused (`OOM`) only if the policy evicts nothing, or no shard has anything to evict.
//! Eviction stops after a time that `maxmemory-eviction-tenacity` sets, and goes on in the next passes.
//!
//! Invariants:
//! 1. a key that goes is logged as a DEL where anyone reads the log, before anybody sees the slot again;
//! 2. a slot that is on loan is left alone;
//! 3. memory that waits to be freed in the background is freed before a further key is evicted for it.

use super::effects::Effects;
use super::local::Local;
use super::{Registered, Run};
use crate::base::clock::{Ms, Ticks, UnixMs};
use crate::config::{MaxmemoryPolicy, MemoryOrPercent, Settings};
use crate::data::access;
use crate::resp::Args;
use crate::shard::ConnRef;
use crate::spec::Flags;
use crate::stats::MemoryAccount;
use crate::store::{DbIndex, EntryRef};
use std::time::Duration;

/// Candidates that are remembered (Redis's EVPOOL_SIZE).
const POOL_SIZE: usize = 16;
/// An excess of more than this part of the limit is paid by whoever sees it.
const TOLERATED_PART: usize = 100;
/// How often a shard counts what it has to evict, and how often when that is about to matter.
const COUNT_EVERY: Ms = Ms(1000);
const COUNT_EVERY_WHEN_FULL: Ms = Ms(100);
/// Elements freed between two looks at what that has brought.
const ELEMENTS_AT_ONCE: usize = 256;
/// Keys evicted between two looks at the clock, as in Redis.
const KEYS_BETWEEN_CLOCKS: usize = 16;
/// Draws of a slot before the slots are counted anew.
const DRAWS_MAX: usize = 64;

/// What a shard remembers between two evictions.
#[derive(Default)]
pub struct Eviction {
    /// The best candidate last.
    pool: Vec<Candidate>,
    /// Slots that had something to evict when they were last counted.
    slots: Vec<u16>,
    /// The most that one of them had.
    densest: usize,
    counted_at: UnixMs,
    /// The time was up before memory was below the limit; since when.
    exceeded_since: Option<Ticks>,
}

struct Candidate {
    /// The higher, the better to evict.
    score: u64,
    slot: u16,
    db: DbIndex,
    key: Box<[u8]>,
}

impl MaxmemoryPolicy {
    /// Whether only keys with an expiry may go.
    fn is_volatile(self) -> bool {
        matches!(
            self,
            Self::VolatileLru | Self::VolatileLfu | Self::VolatileRandom | Self::VolatileTtl
        )
    }

    fn is_random(self) -> bool {
        matches!(self, Self::VolatileRandom | Self::AllkeysRandom)
    }

    /// How good an entry is to evict; the higher, the better.
    fn score(self, entry: EntryRef<'_>, now: UnixMs, lfu_decay_minutes: u32) -> u64 {
        let clock = entry.access_clock();
        match self {
            Self::VolatileTtl => u64::MAX - entry.expiry().map_or(u64::MAX, |expiry| expiry.0),
            Self::VolatileLfu | Self::AllkeysLfu => 255 - u64::from(access::frequency(clock, now, lfu_decay_minutes)),
            _ => access::idle_s(clock, now),
        }
    }
}

/// How long one eviction may take, by `maxmemory-eviction-tenacity`: 50 us for each point up to 10, then 15 per cent more
/// for each; 100 is no limit. These are Redis's figures.
fn time_limit(tenacity: u8) -> Duration {
    match tenacity {
        0..=10 => Duration::from_micros(50 * u64::from(tenacity)),
        11..=99 => Duration::from_micros((500.0 * 1.15f64.powi(i32::from(tenacity) - 10)) as u64),
        _ => Duration::MAX,
    }
}

impl Local {
    /// Makes room if the process uses too much. To be called before a command runs, and in each pass. True: the time was up
    /// before enough was free, so go on soon.
    #[inline]
    pub(super) fn relieve(&mut self) -> bool {
        self.env.settings.maxmemory > 0 && self.relieve_limited()
    }

    fn relieve_limited(&mut self) -> bool {
        let limit = self.env.settings.maxmemory as usize;
        let account = &self.env.node.memory;
        let shard = usize::from(self.env.shard.0);
        account.publish(shard);
        let used = account.used_bytes();
        if used <= limit {
            self.eviction.exceeded_since = None;
            return false;
        }
        let excess = used - limit;
        let duty = if excess > limit / TOLERATED_PART {
            excess
        } else {
            account.share(shard, excess)
        };
        if self.env.settings.maxmemory_policy != MaxmemoryPolicy::Noeviction && self.env.pause.is_none() {
            self.evict(duty);
        }
        self.eviction.exceeded_since.is_some()
    }

    /// Whether a command must be refused because there is no memory and nothing to evict.
    #[inline]
    pub(super) fn is_out_of_memory(&mut self, found: &Registered) -> bool {
        self.env.settings.maxmemory > 0 && found.command.flags.contains(Flags::DENYOOM) && self.lacks_memory()
    }

    /// Whether more is used than may be, and nothing can be done about it.
    pub(super) fn lacks_memory(&mut self) -> bool {
        if self.env.node.memory.used_bytes() <= self.env.settings.maxmemory as usize {
            return false;
        }
        if self.env.settings.maxmemory_policy == MaxmemoryPolicy::Noeviction {
            return true;
        }
        if self.eviction.slots.is_empty() {
            self.count_evictable();
        }
        !self.env.node.memory.is_anything_evictable()
    }

    /// Frees at least so many bytes, if there is as much to evict and the time suffices.
    fn evict(&mut self, bytes: usize) {
        let began = Ticks::now();
        let limit = time_limit(self.env.settings.maxmemory_eviction_tenacity);
        let start = MemoryAccount::own_balance_bytes();
        let goal = start.saturating_sub_unsigned(bytes);
        let mut evicted = 0;
        let mut is_exceeded = false;
        while MemoryAccount::own_balance_bytes() > goal {
            if !self.env.garbage.is_empty() {
                let freed = self.env.garbage.free_step(ELEMENTS_AT_ONCE);
                self.env.stats.lazy_freed_objects += freed as u64;
            } else if self.evict_one() {
                evicted += 1;
            } else {
                break;
            }
            if evicted % KEYS_BETWEEN_CLOCKS == 0 && Ticks::now().ns_since(began) as u128 > limit.as_nanos() {
                is_exceeded = true;
                break;
            }
        }
        let shard = usize::from(self.env.shard.0);
        self.env.node.memory.publish(shard);
        let ended = Ticks::now();
        let stats = &mut self.env.stats;
        stats
            .latency
            .note("eviction-cycle", ended.us_since(began) / 1000, self.env.now);
        match (is_exceeded, self.eviction.exceeded_since) {
            (true, None) => self.eviction.exceeded_since = Some(began),
            (true, Some(since)) => {
                stats.eviction_exceeded_us += ended.us_since(since);
                self.eviction.exceeded_since = Some(ended);
            }
            (false, Some(since)) => {
                stats.eviction_exceeded_us += ended.us_since(since);
                self.eviction.exceeded_since = None;
            }
            (false, None) => {}
        }
    }

    /// Evicts one key; false if there is none.
    fn evict_one(&mut self) -> bool {
        let policy = self.env.settings.maxmemory_policy;
        let only_volatile = policy.is_volatile();
        if policy.is_random() {
            return match self.draw(only_volatile, |_| 0) {
                Some(candidate) => {
                    self.evict_key(&candidate);
                    true
                }
                None => false,
            };
        }
        let (now, decay_minutes) = (self.env.now, self.env.settings.lfu_decay_time);
        for _ in 0..self.env.settings.maxmemory_samples {
            match self.draw(only_volatile, |entry| policy.score(entry, now, decay_minutes)) {
                Some(candidate) => self.eviction.remember(candidate),
                None => break,
            }
        }
        while let Some(candidate) = self.eviction.pool.pop() {
            if self.evict_key(&candidate) {
                return true;
            }
        }
        false
    }

    /// A key drawn at random from the slots that are here.
    fn draw(&mut self, only_volatile: bool, score: impl Fn(EntryRef<'_>) -> u64) -> Option<Candidate> {
        for draws in 1.. {
            if self.eviction.slots.is_empty() || draws % DRAWS_MAX == 0 {
                self.count_evictable();
                if self.eviction.slots.is_empty() || draws > DRAWS_MAX * 4 {
                    return None;
                }
            }
            let random = &mut self.env.random;
            let eviction = &mut self.eviction;
            let index = eviction.slots[random.below(eviction.slots.len())];
            let Some(slot) = self.core.places().and_then(|places| places.home(index)) else {
                continue;
            };
            let count = slot.draw_count(only_volatile);
            eviction.densest = eviction.densest.max(count);
            if random.below(eviction.densest.max(1)) >= count {
                continue;
            }
            if let Some((db, entry)) = slot.draw(only_volatile, random) {
                return Some(Candidate {
                    score: score(entry),
                    slot: index,
                    db,
                    key: entry.key().into(),
                });
            }
        }
        None
    }

    /// Deletes a key if it is still there and may go.
    fn evict_key(&mut self, candidate: &Candidate) -> bool {
        let nobody = ConnRef::background(self.env.shard);
        let (index, now) = (candidate.slot, self.env.now);
        let only_volatile = self.env.settings.maxmemory_policy.is_volatile();
        let Some(mut view) = self.core.try_view(&[index], nobody) else {
            return false;
        };
        let is_wanted = view.wants_effects();
        let slot = view.slot(index).expect("the view was given this slot");
        let entry = slot.peek(candidate.db, &candidate.key, now);
        let may_go = entry.is_some_and(|entry| !only_volatile || entry.expiry().is_some());
        let is_gone = may_go && slot.remove(candidate.db, &candidate.key, now);
        if let Some(discarded) = slot.take_discarded() {
            self.env.garbage.absorb(*discarded);
        }
        if is_gone {
            self.env.stats.evicted_keys += 1;
            self.env.stats.changes += 1;
            if is_wanted {
                let mut effects = Effects::default();
                effects.is_wanted = true;
                effects.instead(index, candidate.db, &[b"DEL", &candidate.key]);
                effects.changed(1);
                effects.flush(&mut view, DbIndex(0), Args::EMPTY, Some(index));
            }
        }
        is_gone
    }

    /// Counts what this shard has to evict, and tells the others.
    fn count_evictable(&mut self) {
        let only_volatile = self.env.settings.maxmemory_policy.is_volatile();
        let eviction = &mut self.eviction;
        eviction.counted_at = self.env.now;
        // All slots are on loan as a whole: what was counted before stands.
        let Some(places) = self.core.places() else { return };
        eviction.slots.clear();
        eviction.densest = 0;
        let (mut bytes, mut total) = (0, 0);
        for (index, slot) in places.iter() {
            bytes += slot.used_bytes();
            let count = slot.draw_count(only_volatile);
            if count > 0 {
                eviction.slots.push(index);
                eviction.densest = eviction.densest.max(count);
                total += count;
            }
        }
        let shard = usize::from(self.env.shard.0);
        self.env.node.memory.publish_keyspace(shard, bytes, total);
    }

    /// The periodic part: counting, and clients that take too much.
    pub(super) fn evict_cron(&mut self) {
        let settings = self.env.settings.clone();
        let shard = usize::from(self.env.shard.0);
        self.env.node.memory.publish(shard);
        if settings.maxmemory > 0 && settings.maxmemory_policy != MaxmemoryPolicy::Noeviction {
            let is_full = self.env.node.memory.used_bytes() as u64 > settings.maxmemory / 10 * 9;
            let every = if is_full { COUNT_EVERY_WHEN_FULL } else { COUNT_EVERY };
            if self.env.now.since(self.eviction.counted_at) >= every {
                self.count_evictable();
            }
        }
        if let Some(limit) = client_limit(&settings) {
            self.evict_clients(limit);
        }
    }

    /// Disconnects the largest clients of this shard while all clients together take more than `limit`, down to its share.
    fn evict_clients(&mut self, limit: usize) {
        let shard = usize::from(self.env.shard.0);
        let mut own: usize = self.clients.iter().map(|client| client.memory_bytes()).sum();
        self.env.node.memory.publish_clients(shard, own);
        let all = self.env.node.memory.client_bytes();
        if all <= limit {
            return;
        }
        let share = (limit as u128 * own as u128 / all.max(1) as u128) as usize;
        let mut largest: Vec<(usize, u32)> = self
            .clients
            .iter()
            .filter(|client| !client.session.is_exempt_from_eviction && !client.is_killed)
            .map(|client| (client.memory_bytes(), client.place.index))
            .collect();
        largest.sort_unstable();
        while own > share
            && let Some((bytes, index)) = largest.pop()
        {
            own -= bytes;
            let Some(client) = self.clients.at(index) else { continue };
            tracing::info!(
                "Evicting client: id={} addr={} tot-mem={bytes}",
                client.session.id,
                client.session.address
            );
            client.is_killed = true;
            self.env.stats.evicted_clients += 1;
            self.list(index);
        }
    }
}

impl Eviction {
    /// Takes a candidate into the pool, if there is room or it is better than the worst.
    fn remember(&mut self, candidate: Candidate) {
        let at = self.pool.partition_point(|known| known.score < candidate.score);
        if self.pool.len() < POOL_SIZE {
            self.pool.insert(at, candidate);
        } else if at > 0 {
            self.pool[..at].rotate_left(1);
            self.pool[at - 1] = candidate;
        }
    }
}

/// `maxmemory-clients` in bytes; None: no limit.
fn client_limit(settings: &Settings) -> Option<usize> {
    match settings.maxmemory_clients {
        MemoryOrPercent::Bytes(0) => None,
        MemoryOrPercent::Bytes(bytes) => Some(bytes as usize),
        // A part of no limit is no limit.
        MemoryOrPercent::Percent(_) if settings.maxmemory == 0 => None,
        MemoryOrPercent::Percent(percent) => Some((settings.maxmemory / 100 * u64::from(percent)) as usize),
    }
}

/// Whether running the command is a unit of work over keys here, for which room is made first.
pub(super) fn runs_over_keys(run: &Run) -> bool {
    matches!(
        run,
        Run::Keys(_) | Run::Reaching(..) | Run::Slots(..) | Run::Everything(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_keeps_the_best() {
        let mut eviction = Eviction::default();
        for score in [5, 1, 9, 3, 7, 2, 8, 4, 6, 0, 15, 11, 13, 12, 14, 10, 20, 1, 17] {
            eviction.remember(Candidate {
                score,
                slot: 0,
                db: DbIndex(0),
                key: Box::default(),
            });
        }
        let scores: Vec<u64> = eviction.pool.iter().map(|candidate| candidate.score).collect();
        assert_eq!(scores, [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 20]);
    }

    #[test]
    fn tenacity_is_time() {
        assert_eq!(time_limit(0), Duration::ZERO);
        assert_eq!(time_limit(10), Duration::from_micros(500));
        assert_eq!(time_limit(11), Duration::from_micros(575));
        assert!(time_limit(99) > Duration::from_secs(100));
        assert_eq!(time_limit(100), Duration::MAX);
    }
}
