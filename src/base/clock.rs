//! Time, in two kinds that cannot be mixed up: where on the calendar ([`UnixMs`], [`Ms`]) and how long ([`Ticks`]).
//!
//! Calendar time decides when a key expires, goes into files and to replicas, and may jump when the host's clock is set.
//! It is read once for each unit of work and handed down as a value, so that one command sees one instant and a test or
//! a simulation can say what time it is. [`Ticks`] measures commands, timeouts and sleeps, and never goes backwards.
//!
//! # Invariants
//!
//! 1. All arithmetic saturates: an expiry of `u64::MAX` plus a duration stays there, an instant before 1970 is 1970.
//! 2. Only `now()` of a clock reads anything; everything else is a plain number. A shard reads them by its [`Clock`], which
//!    a simulation replaces.
//! 3. A [`Calendar`] never goes back, whatever is done to the host's clock.
//!
//! # Units
//!
//! `UnixMs`: milliseconds since 1970-01-01 00:00 UTC. `Ms`: milliseconds. `Ticks`: nanoseconds since an arbitrary start
//! (the host's boot, on Linux).
//!
//! # Why not the time-stamp counter
//!
//! Measured on a two-core KVM guest (Sapphire Rapids, 2.3 GHz, clock source `tsc`), 20 million reads: `Instant::now()`, which is
//! `clock_gettime` through the vDSO, 23 ns; `_rdtsc` 10 ns. A command is timed with two reads, or with one when the end of one command is the start of
//! the next, so the counter would save some 13 ns of the 600 or more that a request costs, and would bring `unsafe`, calibration, and wrong
//! answers on hosts whose counter is not invariant. It is not worth that.

use std::cell::Cell;
use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// A duration in whole milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ms(pub u64);

/// A point of calendar time: milliseconds since 1970-01-01 00:00 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMs(pub u64);

/// What a thread has had of a CPU, in nanoseconds. Sleep does not count, nor what the host gives to others: it says what work takes, where
/// [`Ticks`] say how long it lasts. A reading is a call of the kernel, some ten times as dear as one of the other clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CpuTime(pub u64);

/// A reading of the monotonic clock, in nanoseconds since an arbitrary start. Comparable only within one host and boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticks(pub u64);

impl Ms {
    /// No time at all.
    pub const ZERO: Ms = Ms(0);
    /// The longest duration; added to anything it gives [`UnixMs::MAX`].
    pub const MAX: Ms = Ms(u64::MAX);

    /// A duration of whole seconds, saturating.
    pub const fn from_seconds(seconds: u64) -> Ms {
        Ms(seconds.saturating_mul(1000))
    }

    /// Whole seconds, rounded down.
    pub const fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// Whole seconds, rounded to the nearest as TTL does it (500 ms counts as a second).
    pub const fn seconds_rounded(self) -> u64 {
        self.0.saturating_add(500) / 1000
    }

    /// As the standard library's type, for timers.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl From<Duration> for Ms {
    fn from(duration: Duration) -> Ms {
        Ms(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }
}

impl UnixMs {
    /// The first representable instant.
    pub const EPOCH: UnixMs = UnixMs(0);
    /// The last representable instant: "never".
    pub const MAX: UnixMs = UnixMs(u64::MAX);

    /// Reads the host's calendar clock. An instant before 1970 reads as 1970.
    pub fn now() -> UnixMs {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        UnixMs(Ms::from(since_epoch).0)
    }

    /// From whole seconds since 1970, saturating.
    pub const fn from_seconds(seconds: u64) -> UnixMs {
        UnixMs(seconds.saturating_mul(1000))
    }

    /// From a signed number of milliseconds as commands and files give it; what lies before 1970 becomes 1970.
    pub const fn from_signed(ms: i64) -> UnixMs {
        if ms < 0 { UnixMs(0) } else { UnixMs(ms as u64) }
    }

    /// As a signed number of milliseconds, saturating: what replies and files carry.
    pub const fn signed(self) -> i64 {
        if self.0 > i64::MAX as u64 {
            i64::MAX
        } else {
            self.0 as i64
        }
    }

    /// Whole seconds since 1970, rounded down.
    pub const fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// The time from `earlier` to this instant; zero when `earlier` is in fact later.
    pub const fn since(self, earlier: UnixMs) -> Ms {
        Ms(self.0.saturating_sub(earlier.0))
    }
}

impl Ticks {
    /// Reads the monotonic clock.
    pub fn now() -> Ticks {
        let reading = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux always has CLOCK_MONOTONIC");
        // The clock counts from boot: neither part is negative, and the sum fits for the next 584 years.
        Ticks(reading.tv_sec() as u64 * 1_000_000_000 + reading.tv_nsec() as u64)
    }

    /// Nanoseconds from `earlier` to this reading; zero when `earlier` is in fact later.
    pub const fn ns_since(self, earlier: Ticks) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole microseconds from `earlier` to this reading, the unit of SLOWLOG and of command statistics.
    pub const fn us_since(self, earlier: Ticks) -> u64 {
        self.ns_since(earlier) / 1000
    }

    /// Whole milliseconds from `earlier` to this reading.
    pub const fn ms_since(self, earlier: Ticks) -> Ms {
        Ms(self.ns_since(earlier) / 1_000_000)
    }

    /// The reading that is `duration` after this one, saturating.
    pub const fn after(self, duration: Ms) -> Ticks {
        Ticks(self.0.saturating_add(duration.0.saturating_mul(1_000_000)))
    }
}

impl CpuTime {
    /// What the calling thread has had until now.
    pub fn now() -> CpuTime {
        let reading =
            clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux always counts the CPU time of threads");
        CpuTime(reading.tv_sec() as u64 * 1_000_000_000 + reading.tv_nsec() as u64)
    }

    /// Whole microseconds from `earlier` to this reading.
    pub const fn us_since(self, earlier: CpuTime) -> u64 {
        self.0.saturating_sub(earlier.0) / 1000
    }
}

const NS_EACH_MS: u64 = 1_000_000;

/// Where a shard reads both kinds of time.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    #[default]
    Host,
    Simulated(SimulatedClock),
}

/// Time that a simulation sets: one course of it for all shards, and how far this shard's calendar is from it.
#[derive(Clone, Debug)]
pub struct SimulatedClock {
    /// Nanoseconds since 1970 as everybody's calendar would have them, and the monotonic clock's reading.
    pub elapsed_ns: Rc<Cell<u64>>,
    /// How far this calendar is ahead, or behind.
    pub skew_ms: Rc<Cell<i64>>,
    /// So much passes with each reading of the monotonic clock: work takes time.
    pub step_ns: Rc<Cell<u64>>,
}

impl Clock {
    /// The calendar's reading.
    #[inline]
    pub fn unix(&self) -> UnixMs {
        match self {
            Clock::Host => UnixMs::now(),
            Clock::Simulated(simulated) => {
                let common = simulated.elapsed_ns.get() / NS_EACH_MS;
                UnixMs(common.saturating_add_signed(simulated.skew_ms.get()))
            }
        }
    }

    /// The monotonic clock's reading.
    #[inline]
    pub fn ticks(&self) -> Ticks {
        match self {
            Clock::Host => Ticks::now(),
            Clock::Simulated(simulated) => {
                let now = simulated.elapsed_ns.get() + simulated.step_ns.get();
                simulated.elapsed_ns.set(now);
                Ticks(now)
            }
        }
    }
}

/// Calendar time that never goes back: what one shard's units of work see.
///
/// The host's clock is read once in a while ([`Calendar::follow`]) and counted on by the monotonic clock between. When the host's
/// clock has been set back, this one goes on at nine tenths of its speed until they meet: expiries come late by a tenth at most,
/// where standing still would keep every key for as long as the clock was set back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Calendar {
    followed_at: Ticks,
    /// Nanoseconds since 1970 at that reading.
    unix_ns: u64,
}

impl Calendar {
    const SLOWER_BY_PART: u64 = 10;

    /// Takes note of what the host's two clocks say now.
    #[inline]
    pub fn follow(&mut self, host: UnixMs, ticks: Ticks) {
        let elapsed_ns = ticks.ns_since(self.followed_at);
        let counted_ns = self
            .unix_ns
            .saturating_add(elapsed_ns - elapsed_ns / Self::SLOWER_BY_PART);
        self.unix_ns = host.0.saturating_mul(NS_EACH_MS).max(counted_ns);
        self.followed_at = ticks;
    }

    /// The time at a reading of the monotonic clock.
    #[inline]
    pub fn at(&self, ticks: Ticks) -> UnixMs {
        UnixMs(self.unix_ns.saturating_add(ticks.ns_since(self.followed_at)) / NS_EACH_MS)
    }

    /// The reading at which the next millisecond begins.
    #[inline]
    pub fn next_ms_at(&self, ticks: Ticks) -> Ticks {
        let ns = self.unix_ns.saturating_add(ticks.ns_since(self.followed_at));
        Ticks(ticks.0.saturating_add(NS_EACH_MS - ns % NS_EACH_MS))
    }
}

impl Add<Ms> for UnixMs {
    type Output = UnixMs;
    fn add(self, duration: Ms) -> UnixMs {
        UnixMs(self.0.saturating_add(duration.0))
    }
}

impl AddAssign<Ms> for UnixMs {
    fn add_assign(&mut self, duration: Ms) {
        *self = *self + duration;
    }
}

impl Sub<Ms> for UnixMs {
    type Output = UnixMs;
    fn sub(self, duration: Ms) -> UnixMs {
        UnixMs(self.0.saturating_sub(duration.0))
    }
}

impl Sub<UnixMs> for UnixMs {
    type Output = Ms;
    fn sub(self, earlier: UnixMs) -> Ms {
        self.since(earlier)
    }
}

impl Add for Ms {
    type Output = Ms;
    fn add(self, other: Ms) -> Ms {
        Ms(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Ms {
    fn add_assign(&mut self, other: Ms) {
        *self = *self + other;
    }
}

impl Sub for Ms {
    type Output = Ms;
    fn sub(self, other: Ms) -> Ms {
        Ms(self.0.saturating_sub(other.0))
    }
}

impl SubAssign for Ms {
    fn sub_assign(&mut self, other: Ms) {
        *self = *self - other;
    }
}

impl fmt::Display for UnixMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(UnixMs::MAX + Ms(1), UnixMs::MAX);
        assert_eq!(UnixMs(5) - Ms(9), UnixMs::EPOCH);
        assert_eq!(UnixMs(5) - UnixMs(9), Ms::ZERO);
        assert_eq!(UnixMs(9) - UnixMs(5), Ms(4));
        assert_eq!(Ms::from_seconds(u64::MAX), Ms::MAX);
        assert_eq!(UnixMs::from_signed(-1), UnixMs::EPOCH);
        assert_eq!(UnixMs::MAX.signed(), i64::MAX);
        assert_eq!(UnixMs::from_signed(1_700_000_000_123).signed(), 1_700_000_000_123);
    }

    #[test]
    fn seconds_round_as_ttl_does() {
        assert_eq!(Ms(1499).seconds_rounded(), 1);
        assert_eq!(Ms(1500).seconds_rounded(), 2);
        assert_eq!(Ms(1999).seconds(), 1);
    }

    #[test]
    fn a_calendar_goes_on_when_the_host_is_set_back() {
        let mut calendar = Calendar::default();
        let ms = |count: u64| Ticks(count * NS_EACH_MS);
        calendar.follow(UnixMs(5_000), ms(10));
        assert_eq!(calendar.at(ms(10)), UnixMs(5_000));
        assert_eq!(calendar.at(ms(13)), UnixMs(5_003));
        assert_eq!(calendar.next_ms_at(Ticks(ms(13).0 + 250)), ms(14));
        calendar.follow(UnixMs(5_020), ms(30));
        assert_eq!(calendar.at(ms(30)), UnixMs(5_020));
        // An hour back: nine tenths of what passes counts.
        calendar.follow(UnixMs(0), ms(40));
        assert_eq!(calendar.at(ms(40)), UnixMs(5_029));
        calendar.follow(UnixMs(10), ms(50));
        assert_eq!(calendar.at(ms(50)), UnixMs(5_038));
        // And on again.
        calendar.follow(UnixMs(9_000), ms(60));
        assert_eq!(calendar.at(ms(61)), UnixMs(9_001));
    }

    #[test]
    fn calendar_is_after_2024_and_ticks_do_not_go_back() {
        assert!(UnixMs::now() > UnixMs::from_seconds(1_704_067_200));
        let first = Ticks::now();
        let second = Ticks::now();
        assert!(second >= first);
        assert_eq!(Ticks(2_500_000).us_since(Ticks(500_000)), 2000);
        assert_eq!(Ticks(0).after(Ms(3)).ms_since(Ticks(0)), Ms(3));
        assert_eq!(Ticks(1).ns_since(Ticks(5)), 0);
    }
}
