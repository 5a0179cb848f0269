//! The latency monitor: events that took at least `latency-monitor-threshold` milliseconds, by name.

use crate::base::clock::UnixMs;
use std::collections::{BTreeMap, VecDeque};

/// Samples kept of an event, as in Redis.
const SAMPLES_MAX: usize = 160;

/// One event's history.
#[derive(Clone, Debug, Default)]
pub struct LatencyEvent {
    /// Seconds and milliseconds, oldest first; one for each second, the worst.
    pub samples: VecDeque<(u64, u32)>,
    pub all_time_max_ms: u32,
}

/// The events of one shard.
#[derive(Clone, Debug, Default)]
pub struct LatencyMonitor {
    threshold_ms: u64,
    events: BTreeMap<&'static str, LatencyEvent>,
}

impl LatencyMonitor {
    /// 0 turns the monitor off.
    pub fn set_threshold_ms(&mut self, threshold_ms: u64) {
        self.threshold_ms = threshold_ms;
    }

    pub fn threshold_ms(&self) -> u64 {
        self.threshold_ms
    }

    /// Notes that `event` took that long, if that is long enough.
    #[inline]
    pub fn note(&mut self, event: &'static str, elapsed_ms: u64, now: UnixMs) {
        if self.is_noted(elapsed_ms) {
            self.add(event, elapsed_ms, now);
        }
    }

    /// Whether something that took that long is noted.
    #[inline]
    pub fn is_noted(&self, elapsed_ms: u64) -> bool {
        self.threshold_ms > 0 && elapsed_ms >= self.threshold_ms
    }

    fn add(&mut self, event: &'static str, elapsed_ms: u64, now: UnixMs) {
        let ms = u32::try_from(elapsed_ms).unwrap_or(u32::MAX);
        let history = self.events.entry(event).or_default();
        history.all_time_max_ms = history.all_time_max_ms.max(ms);
        match history.samples.back_mut() {
            Some((second, worst)) if *second == now.seconds() => *worst = (*worst).max(ms),
            _ => {
                if history.samples.len() == SAMPLES_MAX {
                    history.samples.pop_front();
                }
                history.samples.push_back((now.seconds(), ms));
            }
        }
    }

    /// Adds another shard's events.
    pub fn merge(&mut self, other: &LatencyMonitor) {
        for (&name, theirs) in &other.events {
            let ours = self.events.entry(name).or_default();
            ours.all_time_max_ms = ours.all_time_max_ms.max(theirs.all_time_max_ms);
            let mut by_second: BTreeMap<u64, u32> = ours.samples.iter().copied().collect();
            for &(second, ms) in &theirs.samples {
                let worst = by_second.entry(second).or_insert(ms);
                *worst = (*worst).max(ms);
            }
            let surplus = by_second.len().saturating_sub(SAMPLES_MAX);
            ours.samples = by_second.into_iter().skip(surplus).collect();
        }
    }

    pub fn events(&self) -> impl Iterator<Item = (&'static str, &LatencyEvent)> {
        self.events.iter().map(|(name, event)| (*name, event))
    }

    pub fn event(&self, name: &str) -> Option<&LatencyEvent> {
        self.events.get(name)
    }

    /// Forgets the named event, or all. Returns how many there were.
    pub fn reset(&mut self, name: Option<&str>) -> usize {
        match name {
            Some(name) => self.events.remove(name).is_some() as usize,
            None => std::mem::take(&mut self.events).len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_each_second_is_kept() {
        let mut monitor = LatencyMonitor::default();
        monitor.note("command", 500, UnixMs(1000));
        assert_eq!(monitor.events().count(), 0);
        monitor.set_threshold_ms(100);
        monitor.note("command", 99, UnixMs(1000));
        monitor.note("command", 100, UnixMs(1000));
        monitor.note("command", 300, UnixMs(1999));
        monitor.note("command", 200, UnixMs(2000));
        let mut other = LatencyMonitor::default();
        other.set_threshold_ms(1);
        other.note("command", 400, UnixMs(1500));
        monitor.merge(&other);
        let event = monitor.event("command").expect("it was noted");
        assert_eq!(event.samples, [(1, 400), (2, 200)]);
        assert_eq!(event.all_time_max_ms, 400);
        assert_eq!(monitor.reset(None), 1);
    }
}
