//! Eviction: what happens when the process uses more memory than `maxmemory`. (Clients: `evict_clients`.)
//!
//! The limit is the process's, and is about data: what is on its way does not count (`under_way`). Every shard knows at every moment
//! what the process uses ([`MemoryAccount`]), so whoever runs a
//! command looks before it runs it. What exceeds the limit is shared out among the shards as *duties*, by what each has to evict
//! and by how cold that is; each pays its duty before its next command, or in its next pass. So keys go where the coldest data is, and
//! shards that write much do not evict their own new keys while old ones lie elsewhere. A shard that nobody asks for
//! anything looks no sooner than its cron does: it is woken when its duty is a part of the limit that matters.
//!
//! Whole keys go, so a shard often pays more than its duty; that is remembered. Beyond a hundredth of the limit whoever writes pays
//! for what it writes, whatever its duty is: that bounds how far the process can be over when others are slow to pay.
//!
//! What goes is chosen as Redis does: `maxmemory-samples` keys are drawn at random, and those that are best to evict by the policy
//! join a small *pool* that remembers good candidates of earlier draws; the best of the pool goes. A slot is drawn with a chance in
//! proportion to its keys when they were last counted, so that neither keys of full slots nor of sparse ones are spared.
//!
//! A command that may need memory is refused (`OOM`) only if the policy evicts nothing, or no shard has anything to evict. So is
//! whatever a transaction would queue, as in Redis, and an EXEC of such commands.
//! Eviction stops after a time that `maxmemory-eviction-tenacity` sets, and goes on in the next passes.
//!
//! Invariants:
//! 1. a key that goes is logged as a DEL where anyone reads the log, before anybody sees the slot again;
//! 2. a slot that is on loan is left alone;
//! 3. memory that waits to be freed in the background is freed before a further key is evicted for it.

use super::attempt::{Attempt, EVICTED};
use super::env::{Ended, Observation};
use super::ground::Ground;
use super::serve::end_unit;
use super::under_way::UnderWay;
use crate::base::clock::{Ms, Ticks, UnixMs};
use crate::base::random::Random;
use crate::config::MaxmemoryPolicy;
use crate::data::access;
use crate::shard::{ConnRef, ShardId};
use crate::stats::MemoryAccount;
use crate::store::{DbIndex, EntryRef};
use std::time::Duration;

/// Candidates that are remembered (Redis's EVPOOL_SIZE).
const POOL_SIZE: usize = 16;
/// Beyond this part of the limit, shards pay for what they themselves take.
const TOLERATED_PART: usize = 100;
/// A duty of more than this part of the limit is a reason to wake a shard.
const ASKED_PART: usize = 800;
/// How often a shard counts what it has to evict, and how often when that is about to matter.
const COUNT_EVERY: Ms = Ms(1000);
const COUNT_EVERY_WHEN_FULL: Ms = Ms(100);
/// How soon slots are counted anew when nothing was found in them. A count of 16384 slots takes about a tenth of a millisecond.
const COUNT_EVERY_WHEN_EMPTY: Ms = Ms(10);
/// Elements freed between two looks at what that has brought.
const ELEMENTS_AT_ONCE: usize = 256;
/// Keys evicted between two looks at the clock, as in Redis.
const KEYS_BETWEEN_CLOCKS: usize = 16;
/// The highest frequency.
const LFU_MAX: u64 = 255;
/// Draws of a slot before the slots are counted anew: they are on loan, or what was in them has gone.
const DRAWS_MAX: usize = 16;

/// What a shard remembers between two evictions.
#[derive(Default)]
pub struct Eviction {
    /// The best candidate last.
    pool: Vec<Candidate>,
    /// Slots that had something to evict when they were last counted; with each, how much it and those before it had. (All shards
    /// together have up to 16384 of these, and four billion keys are more than one shard can hold: so eight bytes each.)
    slots: Vec<(u32, u16)>,
    counted_at: UnixMs,
    /// The changes to the keyspace, and the policy, that the last count knew.
    counted_changes: u64,
    counted_policy: Option<MaxmemoryPolicy>,
    /// What this shard had taken from the allocator, without what is on its way, when it looked last.
    counted_seen: isize,
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

    /// A number for what may go and in which order; not 0.
    fn rule(self) -> u8 {
        self as u8 + 1
    }

    fn is_random(self) -> bool {
        matches!(self, Self::VolatileRandom | Self::AllkeysRandom)
    }

    /// How good an entry is to evict; the higher, the better.
    fn score(self, entry: EntryRef<'_>, now: UnixMs, lfu_decay_minutes: u32) -> u64 {
        let clock = entry.access_clock();
        match self {
            Self::VolatileTtl => u64::MAX - entry.expiry().map_or(u64::MAX, |expiry| expiry.0),
            Self::VolatileLfu | Self::AllkeysLfu => {
                LFU_MAX - u64::from(access::frequency(clock, now, lfu_decay_minutes))
            }
            _ => access::idle_s(clock, now),
        }
    }

    /// A score as a figure that can be compared as a ratio: idle seconds, or one by the frequency, or by the seconds to live.
    fn coldness(self, score: u64, now: UnixMs) -> u64 {
        const ONE: u64 = 1 << 40;
        match self {
            Self::VolatileTtl => ONE / (1 + (u64::MAX - score).saturating_sub(now.0) / 1000),
            Self::VolatileLfu | Self::AllkeysLfu => ONE / (1 + (LFU_MAX - score)),
            Self::VolatileLru | Self::AllkeysLru => 1 + score,
            _ => 1,
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

impl Eviction {
    /// Does this shard's part when the process uses so much, which is more than it may; `counted` is what this shard has published of itself.
    /// Answers the other shards that must be asked to do theirs.
    pub(super) fn relieve(
        &mut self,
        on: &mut Ground<'_>,
        under_way: &UnderWay,
        counted: isize,
        used: usize,
    ) -> Vec<ShardId> {
        let limit = on.env.settings.maxmemory as usize;
        let shard = usize::from(on.env.shard.0);
        let taken = self.note_seen(counted);
        if on.env.settings.maxmemory_policy == MaxmemoryPolicy::Noeviction || on.env.pause.is_some() {
            self.exceeded_since = None;
            return Vec::new();
        }
        let excess = used - limit;
        let tolerated = limit / TOLERATED_PART;
        let mut asked = Vec::new();
        let duty = if on.env.shards == 1 {
            excess
        } else {
            let rule = on.env.settings.maxmemory_policy.rule();
            let mut own = taken.max(0).unsigned_abs().min(excess.saturating_sub(tolerated));
            if !on.node.memory.has_counted(shard, rule) {
                // There was no limit until now, or another one: what was taken under that is nobody's in particular.
                own = 0;
                self.count_evictable(on);
                self.know_coldness(on);
            }
            on.node.memory.share_out(excess, rule);
            let others = (0..on.env.shards).filter(|&other| other != shard);
            asked.extend(
                others
                    .filter(|&other| on.node.memory.ask(other, rule, limit / ASKED_PART))
                    .map(|other| ShardId(other as u16)),
            );
            on.node.memory.duty(shard, excess).max(own)
        };
        if duty > 0 {
            let freed = self.evict(on, under_way, duty);
            on.node.memory.paid(shard, freed, tolerated);
            if freed <= 0 && self.exceeded_since.is_none() {
                on.node.memory.clear_duty(shard);
            }
            self.counted_seen = on.publish(under_way);
        } else {
            // What is exceeded is others' to free, or no key at all.
            self.exceeded_since = None;
        }
        asked
    }

    /// The process uses no more than it may: nothing is owed.
    pub(super) fn rest(&mut self, on: &Ground<'_>, counted: isize) {
        self.note_seen(counted);
        on.node.memory.clear_duty(usize::from(on.env.shard.0));
        self.exceeded_since = None;
    }

    /// Whether the time was up before this shard had done its part.
    pub(super) fn is_unfinished(&self) -> bool {
        self.exceeded_since.is_some()
    }

    /// Answers how much more that is than at the last look.
    fn note_seen(&mut self, counted: isize) -> isize {
        counted - std::mem::replace(&mut self.counted_seen, counted)
    }

    /// Whether more is used than may be, and nothing can be done about it.
    pub(super) fn lacks_memory(&mut self, on: &mut Ground<'_>) -> bool {
        if on.node.memory.counted_bytes() <= on.env.settings.maxmemory as usize {
            return false;
        }
        if on.env.settings.maxmemory_policy == MaxmemoryPolicy::Noeviction {
            return true;
        }
        let shard = usize::from(on.env.shard.0);
        let rule = on.env.settings.maxmemory_policy.rule();
        let is_counted = on.node.memory.has_counted(shard, rule);
        if !is_counted || self.slots.is_empty() && self.knows_more_than_counted(on) {
            self.count_evictable(on);
        }
        !on.node.memory.is_anything_evictable(rule)
    }

    /// Frees at least so many bytes, if there is as much to evict and the time suffices. Returns how many.
    fn evict(&mut self, on: &mut Ground<'_>, under_way: &UnderWay, bytes: usize) -> isize {
        let began = on.env.clock.ticks();
        let limit = time_limit(on.env.settings.maxmemory_eviction_tenacity);
        let start = MemoryAccount::own_balance_bytes();
        let goal = start.saturating_sub_unsigned(bytes);
        let mut evicted = 0;
        let mut is_exceeded = false;
        while MemoryAccount::own_balance_bytes() > goal {
            if !on.env.garbage.is_empty() {
                let freed = on.env.garbage.free_step(ELEMENTS_AT_ONCE);
                on.env.stats.counts.lazy_freed_objects += freed as u64;
            } else if self.evict_one(on) {
                evicted += 1;
            } else {
                break;
            }
            if evicted % KEYS_BETWEEN_CLOCKS == 0 && on.env.clock.ticks().ns_since(began) as u128 > limit.as_nanos() {
                is_exceeded = true;
                break;
            }
        }
        on.publish(under_way);
        let ended = on.env.tick();
        let stats = &mut on.env.stats;
        stats
            .latency
            .note("eviction-cycle", ended.us_since(began) / 1000, on.env.now);
        match (is_exceeded, self.exceeded_since) {
            (true, None) => self.exceeded_since = Some(began),
            (true, Some(since)) => {
                stats.counts.eviction_exceeded_us += ended.us_since(since);
                self.exceeded_since = Some(ended);
            }
            (false, Some(since)) => {
                stats.counts.eviction_exceeded_us += ended.us_since(since);
                self.exceeded_since = None;
            }
            (false, None) => {}
        }
        start - MemoryAccount::own_balance_bytes()
    }

    /// Evicts one key; false if there is none.
    fn evict_one(&mut self, on: &mut Ground<'_>) -> bool {
        let policy = on.env.settings.maxmemory_policy;
        let only_volatile = policy.is_volatile();
        if policy.is_random() {
            // One that cannot go now (its slot is kept for somebody) is no reason to go on drawing without end.
            return self
                .draw(on, only_volatile, |_| 0)
                .is_some_and(|candidate| self.evict_key(on, &candidate));
        }
        self.sample(on);
        while let Some(candidate) = self.pool.pop() {
            if self.evict_key(on, &candidate) {
                self.publish_coldness(on, Some(candidate.score));
                return true;
            }
        }
        false
    }

    /// Draws keys for the pool.
    fn sample(&mut self, on: &mut Ground<'_>) {
        let policy = on.env.settings.maxmemory_policy;
        let (now, decay_minutes) = (on.env.now, on.env.settings.lfu_decay_time);
        for _ in 0..on.env.settings.maxmemory_samples {
            match self.draw(on, policy.is_volatile(), |entry| {
                policy.score(entry, now, decay_minutes)
            }) {
                Some(candidate) => self.remember(candidate),
                None => break,
            }
        }
    }

    /// A key drawn at random from the slots that are here.
    fn draw(
        &mut self,
        on: &mut Ground<'_>,
        only_volatile: bool,
        score: impl Fn(EntryRef<'_>) -> u64,
    ) -> Option<Candidate> {
        if self.counted_policy != Some(on.env.settings.maxmemory_policy) {
            self.count_evictable(on);
        }
        let mut is_counted = false;
        loop {
            for _ in 0..DRAWS_MAX {
                let random = &mut on.env.random;
                let Some(index) = self.draw_slot(random) else {
                    break;
                };
                let Some(slot) = on.core.places().and_then(|places| places.home(index)) else {
                    continue;
                };
                if let Some((db, entry)) = slot.draw(only_volatile, random) {
                    return Some(Candidate {
                        score: score(entry),
                        slot: index,
                        db,
                        key: entry.key().into(),
                    });
                }
            }
            if is_counted || on.env.now.since(self.counted_at) < COUNT_EVERY_WHEN_EMPTY {
                return None;
            }
            self.count_evictable(on);
            is_counted = true;
        }
    }

    /// Deletes a key if it is still there and may go.
    fn evict_key(&mut self, on: &mut Ground<'_>, candidate: &Candidate) -> bool {
        let nobody = ConnRef::background(on.env.shard);
        let (index, now) = (candidate.slot, on.env.now);
        let only_volatile = on.env.settings.maxmemory_policy.is_volatile();
        let Some(mut view) = on.core.try_view(&[index], nobody) else {
            return false;
        };
        let env = &mut *on.env;
        let mut attempt = Attempt::default();
        env.arm(&mut attempt);
        let moment = env.moment();
        let slot = attempt.held(&mut view, index).expect("the view was given this slot");
        let entry = slot.peek(candidate.db, &candidate.key, now);
        let may_go = entry.is_some_and(|entry| !only_volatile || entry.expiry().is_some());
        let is_gone = may_go && slot.remove(candidate.db, &candidate.key, moment);
        let expired = attempt.collect(&mut view, |detached| env.garbage.absorb(detached));
        expired.count(&mut env.stats);
        if is_gone {
            env.stats.counts.evicted_keys += 1;
            env.stats.counts.changes += 1;
            if let Some(consequences) = &mut attempt.consequences {
                consequences.tell(EVICTED, candidate.db, &candidate.key);
                consequences.log(candidate.db, &[b"DEL", &candidate.key]);
            }
        }
        let ended = Ended {
            origin: nobody,
            command: 0,
            db: candidate.db,
            what: if is_gone {
                Observation::Evicted(&candidate.key)
            } else {
                Observation::Expired
            },
        };
        end_unit(env, &mut attempt, &mut view, ended);
        is_gone
    }

    /// Counts what this shard has to evict, and tells the others.
    fn count_evictable(&mut self, on: &mut Ground<'_>) {
        let policy = on.env.settings.maxmemory_policy;
        let only_volatile = policy.is_volatile();
        let eviction = self;
        if eviction.counted_policy.replace(policy) != Some(policy) {
            // Scores of two policies cannot be compared.
            eviction.pool.clear();
        }
        eviction.counted_at = on.env.now;
        eviction.counted_changes = on.env.stats.counts.changes;
        // All slots are on loan as a whole: what was counted before stands.
        let Some(places) = on.core.places() else { return };
        eviction.slots.clear();
        let (mut bytes, mut total) = (0, 0);
        for (index, slot) in places.iter() {
            let count = slot.draw_count(only_volatile);
            if count > 0 {
                total += count;
                // Of those that may not go, other keys of the slot, only the number is known.
                let share = slot.used_bytes() as u128 * count as u128 / slot.draw_count(false) as u128;
                bytes += share as usize;
                eviction.slots.push((u32::try_from(total).unwrap_or(u32::MAX), index));
            }
        }
        let shard = usize::from(on.env.shard.0);
        on.node.memory.publish_evictable(shard, policy.rule(), bytes, total);
    }

    /// Tells the others how cold the keys are of a shard that has not evicted yet, or not lately.
    fn know_coldness(&mut self, on: &mut Ground<'_>) {
        let policy = on.env.settings.maxmemory_policy;
        if !policy.is_random() {
            self.sample(on);
        }
        self.publish_coldness(on, self.pool.last().map(|best| best.score));
    }

    /// Tells the others how cold the key of that score is; None: it is not known.
    fn publish_coldness(&self, on: &Ground<'_>, score: Option<u64>) {
        let policy = on.env.settings.maxmemory_policy;
        let coldness = score.map_or(0, |score| policy.coldness(score, on.env.now));
        let shard = usize::from(on.env.shard.0);
        on.node.memory.publish_coldness(shard, coldness);
    }

    /// Whether a count may bring to light what the last one did not.
    fn knows_more_than_counted(&self, on: &Ground<'_>) -> bool {
        let eviction = self;
        eviction.counted_changes != on.env.stats.counts.changes
            || eviction.counted_policy != Some(on.env.settings.maxmemory_policy)
            // Slots that were on loan have come back, perhaps with more than they had.
            || on.env.now.since(eviction.counted_at) >= COUNT_EVERY_WHEN_FULL
    }

    /// The periodic part: counting.
    pub(super) fn cron(&mut self, on: &mut Ground<'_>) {
        let settings = on.env.settings.clone();
        if settings.maxmemory > 0 && settings.maxmemory_policy != MaxmemoryPolicy::Noeviction {
            let is_full = on.node.memory.counted_bytes() as u64 > settings.maxmemory / 10 * 9;
            let every = if is_full { COUNT_EVERY_WHEN_FULL } else { COUNT_EVERY };
            let is_new = self.counted_policy != Some(settings.maxmemory_policy)
                || !on
                    .node
                    .memory
                    .has_counted(usize::from(on.env.shard.0), settings.maxmemory_policy.rule());
            if is_new || on.env.now.since(self.counted_at) >= every {
                self.count_evictable(on);
                self.know_coldness(on);
            }
        } else {
            on.node.memory.forget_evictable(usize::from(on.env.shard.0));
        }
    }
}

impl Eviction {
    /// A slot, with a chance in proportion to what it had; None if no slot had anything.
    fn draw_slot(&self, random: &mut Random) -> Option<u16> {
        let total = self.slots.last()?.0;
        let ticket = random.below(total as usize) as u32;
        let at = self.slots.partition_point(|&(end, _)| end <= ticket);
        Some(self.slots[at].1)
    }

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
    fn slots_are_drawn_in_proportion() {
        let mut random = Random::with_seed(1);
        let mut eviction = Eviction::default();
        assert_eq!(eviction.draw_slot(&mut random), None);
        // One key in slot 3, 98 in slot 5, one in slot 9.
        eviction.slots = vec![(1, 3), (99, 5), (100, 9)];
        let mut counts = [0; 10];
        for _ in 0..10_000 {
            counts[usize::from(eviction.draw_slot(&mut random).unwrap())] += 1;
        }
        assert!(
            (50..200).contains(&counts[3]) && (50..200).contains(&counts[9]),
            "{counts:?}"
        );
        assert_eq!(counts[3] + counts[5] + counts[9], 10_000);
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
