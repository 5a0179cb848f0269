//! The access clock: 24 bits in each entry that say when (LRU) or how often (LFU) it was used.
//!
//! The layouts are Redis's, because OBJECT IDLETIME, OBJECT FREQ, RESTORE and RDB files show them:
//!
//! ```text
//! LRU   | seconds of the last access, modulo 2^24 (194 days) |
//! LFU   | minutes of the last decay, modulo 2^16 | counter 8 |
//! ```
//!
//! The LFU counter is logarithmic: it goes up with probability `1 / ((counter - 5) * log_factor + 1)`, and down by one for
//! every `decay_minutes` without access. A new entry begins at 5, so that it is not the first to be evicted. The scheme is
//! described in Redis's documentation (Key eviction, "The new LFU mode").
//!
//! Which layout holds is a matter of `maxmemory-policy` and thus of the caller; after a change of the policy old bits are
//! misread for a while, as in Redis.

use crate::base::clock::UnixMs;

/// Counter of a new entry.
pub const LFU_INITIAL: u8 = 5;

const CLOCK_MASK: u64 = (1 << 24) - 1;
const LRU_RESOLUTION_MS: u64 = 1000;
const MINUTE_MS: u64 = 60_000;

/// How the access clock is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessPolicy {
    /// The time of the last access.
    Lru,
    /// A decaying counter of accesses.
    Lfu {
        /// `lfu-log-factor`: the higher, the more accesses saturate the counter.
        log_factor: u32,
        /// `lfu-decay-time` in minutes; 0 is no decay.
        decay_minutes: u32,
    },
    /// There are no accesses: a file is read, and all that is entered has this clock.
    Fixed(u32),
}

/// When a unit of work runs, and by which rule it counts its accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The time of the unit of work; it stands still while that runs.
    pub now: UnixMs,
    /// The rule of the access clock.
    pub policy: AccessPolicy,
    /// What is over stays where it is, though nobody sees it (CLIENT PAUSE): only what takes its place removes it.
    pub keeps_stale: bool,
}

impl Moment {
    /// `now`, with the LRU rule.
    pub const fn lru(now: UnixMs) -> Moment {
        Moment {
            now,
            policy: AccessPolicy::Lru,
            keeps_stale: false,
        }
    }

    /// The same, while nothing may be deleted because it is over.
    pub fn keeping_stale(self) -> Moment {
        Moment {
            keeps_stale: true,
            ..self
        }
    }

    /// The access clock of a new entry.
    #[inline]
    pub fn new_clock(self) -> u32 {
        match self.policy {
            AccessPolicy::Lru => lru_clock(self.now),
            AccessPolicy::Lfu { .. } => lfu_clock(self.now, LFU_INITIAL),
            AccessPolicy::Fixed(clock) => clock,
        }
    }

    /// The access clock after an access; `random` is uniform over all its values.
    #[inline]
    pub fn touched_clock(self, clock: u32, random: u32) -> u32 {
        match self.policy {
            AccessPolicy::Lru => lru_clock(self.now),
            AccessPolicy::Fixed(clock) => clock,
            AccessPolicy::Lfu {
                log_factor,
                decay_minutes,
            } => {
                let counter = frequency(clock, self.now, decay_minutes);
                lfu_clock(
                    self.now,
                    counter.saturating_add(u8::from(lfu_counts(counter, log_factor, random))),
                )
            }
        }
    }
}

/// The LRU clock of the time `now`.
#[inline]
pub fn lru_clock(now: UnixMs) -> u32 {
    ((now.0 / LRU_RESOLUTION_MS) & CLOCK_MASK) as u32
}

/// The LRU clock of an entry that was last used `idle_s` seconds before `now` (RESTORE IDLETIME).
pub fn lru_clock_idle(now: UnixMs, idle_s: u64) -> u32 {
    (u64::from(lru_clock(now)).wrapping_sub(idle_s.min(CLOCK_MASK)) & CLOCK_MASK) as u32
}

/// Seconds since the last access, by an LRU clock (OBJECT IDLETIME).
pub fn idle_s(clock: u32, now: UnixMs) -> u64 {
    u64::from(lru_clock(now)).wrapping_sub(u64::from(clock)) & CLOCK_MASK
}

/// The LFU clock with this counter, decayed just now (RESTORE FREQ).
#[inline]
pub fn lfu_clock(now: UnixMs, counter: u8) -> u32 {
    u32::from(minutes(now)) << 8 | u32::from(counter)
}

/// The counter of an LFU clock after the decay that is due (OBJECT FREQ).
#[inline]
pub fn frequency(clock: u32, now: UnixMs, decay_minutes: u32) -> u8 {
    let elapsed = minutes(now).wrapping_sub((clock >> 8) as u16);
    let periods = u32::from(elapsed).checked_div(decay_minutes).unwrap_or(0);
    (clock as u8).saturating_sub(periods.min(255) as u8)
}

fn minutes(now: UnixMs) -> u16 {
    (now.0 / MINUTE_MS) as u16
}

/// Whether an access raises the counter.
fn lfu_counts(counter: u8, log_factor: u32, random: u32) -> bool {
    let base = u64::from(counter.saturating_sub(LFU_INITIAL));
    let odds = base * u64::from(log_factor) + 1;
    u64::from(random) < (1 << 32) / odds
}

#[cfg(test)]
mod tests {
    use super::*;

    const LFU: AccessPolicy = AccessPolicy::Lfu {
        log_factor: 10,
        decay_minutes: 1,
    };

    #[test]
    fn idle_time_counts_seconds_over_the_wrap() {
        let start = UnixMs(((1 << 24) - 5) * 1000 + 999);
        let clock = Moment::lru(start).new_clock();
        assert_eq!(clock, (1 << 24) - 5);
        assert_eq!(idle_s(clock, start), 0);
        assert_eq!(idle_s(clock, UnixMs(start.0 + 1)), 1);
        assert_eq!(idle_s(clock, UnixMs(start.0 + 100_000)), 100);
        assert_eq!(idle_s(lru_clock_idle(UnixMs(3_000), 10), UnixMs(3_000)), 10);
    }

    #[test]
    fn frequency_decays_by_periods() {
        let start = UnixMs(u64::from(u16::MAX) * 60_000);
        let clock = lfu_clock(start, 20);
        assert_eq!(frequency(clock, start, 1), 20);
        assert_eq!(frequency(clock, UnixMs(start.0 + 60_000), 1), 19);
        assert_eq!(frequency(clock, UnixMs(start.0 + 600_000), 1), 10);
        assert_eq!(frequency(clock, UnixMs(start.0 + 600_000), 5), 18);
        assert_eq!(frequency(clock, UnixMs(start.0 + 6_000_000), 1), 0);
        assert_eq!(frequency(clock, UnixMs(start.0 + 6_000_000), 0), 20, "no decay");
    }

    #[test]
    fn counter_is_certain_at_first_and_then_logarithmic() {
        let at = Moment {
            policy: LFU,
            ..Moment::lru(UnixMs(0))
        };
        let clock = at.new_clock();
        assert_eq!(clock & 0xff, 5);
        assert_eq!(
            at.touched_clock(clock, u32::MAX) & 0xff,
            6,
            "the first access always counts"
        );
        // With factor 10 a counter of 15 goes up once in 101 accesses.
        let clock = lfu_clock(UnixMs(0), 15);
        assert_eq!(at.touched_clock(clock, u32::MAX / 101 - 1) & 0xff, 16);
        assert_eq!(at.touched_clock(clock, u32::MAX / 101 + 1) & 0xff, 15);
        assert_eq!(at.touched_clock(lfu_clock(UnixMs(0), 255), 0) & 0xff, 255);
    }
}
