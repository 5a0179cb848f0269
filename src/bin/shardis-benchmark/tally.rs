//! What a run has measured: latencies in histograms, errors, bytes, and the course of it all over time.
//!
//! Each worker fills a tally of its own, and the tallies are merged when the run is over: recording touches no memory
//! that another thread touches. A latency is recorded once, in the histogram of its command for the current interval;
//! when the interval ends, that histogram is added to the command's total and kept in sparse form for the time series.
//! Percentiles of several threads cannot be computed from their percentiles, so what is kept are counts.
//!
//! Invariants:
//! 1. Merging tallies gives what one tally would have had from all the recordings.
//! 2. The counts of the time series add up to the counts of the totals after [`Tally::finish`].
//!
//! Units: nanoseconds, since the run's common origin where it is a point in time.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

/// Smallest latency that is told apart from zero: 64 ns, far below a system call.
const LATENCY_MIN_NS: u64 = 64;
/// Longer latencies count as this one: two minutes, above every time-out of a run.
const LATENCY_MAX_NS: u64 = 120_000_000_000;
/// Three significant digits: 0.1 % is well below the noise of any machine.
const SIGNIFICANT_DIGITS: u8 = 3;

/// An empty histogram of latencies in nanoseconds.
pub fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_MIN_NS, LATENCY_MAX_NS, SIGNIFICANT_DIGITS)
        .expect("the bounds are constants that the library accepts")
}

#[derive(Debug)]
struct CommandTally {
    total: Histogram<u64>,
    interval: Histogram<u64>,
}

/// One interval of the time series of one worker.
#[derive(Debug, Clone, PartialEq, Eq)]
struct IntervalCounts {
    index: u64,
    error_count: u64,
    /// Latency and how often.
    latencies: Vec<(u64, u64)>,
}

/// One interval of the merged time series.
#[derive(Debug)]
pub struct IntervalSample {
    /// Number of the interval, from zero.
    pub index: u64,
    /// Errors in replies.
    pub error_count: u64,
    /// All latencies of the interval.
    pub latency: Histogram<u64>,
}

/// What one worker, or after merging all of them, has measured.
#[derive(Debug)]
pub struct Tally {
    commands: Vec<CommandTally>,
    intervals: Vec<IntervalCounts>,
    measure_from_ns: u64,
    interval_ns: u64,
    interval_index: u64,
    interval_end_ns: u64,
    interval_error_count: u64,
    /// Requests sent, those of the warm-up included.
    pub sent_count: u64,
    /// Bytes sent, those of the warm-up included.
    pub sent_bytes: u64,
    /// Bytes received, those of the warm-up included.
    pub received_bytes: u64,
    /// Errors in replies to measured requests.
    pub error_count: u64,
    /// When the first error of the run came, the warm-up included, and its text.
    pub first_error: Option<(u64, String)>,
    /// Requests that were sent again because the cluster had moved their slot.
    pub redirect_count: u64,
    /// Requests that had no reply when the run was given up.
    pub unanswered_count: u64,
    /// Requests of an open loop that were due before the end and found no free client.
    pub unsent_count: u64,
    /// Requests of an open loop, those of the warm-up included, that were sent late because no client was free.
    pub starved_count: u64,
    /// When the last measured reply came.
    pub last_reply_ns: u64,
}

impl Tally {
    /// An empty tally for `command_count` commands; intervals are counted from `measure_from_ns`.
    pub fn new(command_count: usize, measure_from_ns: u64, interval_ns: u64) -> Tally {
        Tally {
            commands: (0..command_count)
                .map(|_| CommandTally {
                    total: latency_histogram(),
                    interval: latency_histogram(),
                })
                .collect(),
            intervals: Vec::new(),
            measure_from_ns,
            interval_ns,
            interval_index: 0,
            interval_end_ns: measure_from_ns + interval_ns,
            interval_error_count: 0,
            sent_count: 0,
            sent_bytes: 0,
            received_bytes: 0,
            error_count: 0,
            first_error: None,
            redirect_count: 0,
            unanswered_count: 0,
            unsent_count: 0,
            starved_count: 0,
            last_reply_ns: measure_from_ns,
        }
    }

    /// Closes the intervals that have ended by `now_ns`.
    #[inline]
    pub fn advance(&mut self, now_ns: u64) {
        if now_ns >= self.interval_end_ns {
            self.close_interval();
            self.interval_index = (now_ns - self.measure_from_ns) / self.interval_ns;
            self.interval_end_ns = self.measure_from_ns + (self.interval_index + 1) * self.interval_ns;
        }
    }

    /// Counts the reply to a request that was meant to be sent at `intended_ns`. Requests of the warm-up do not count.
    #[inline]
    pub fn record(&mut self, command: usize, intended_ns: u64, now_ns: u64) {
        if intended_ns >= self.measure_from_ns {
            self.commands[command]
                .interval
                .saturating_record(now_ns.saturating_sub(intended_ns));
            self.last_reply_ns = now_ns;
        }
    }

    /// Counts an error in the reply to a request that was meant to be sent at `intended_ns`.
    pub fn record_error(&mut self, intended_ns: u64, now_ns: u64, text: &[u8]) {
        if self.first_error.is_none() {
            self.first_error = Some((now_ns, String::from_utf8_lossy(text).into_owned()));
        }
        if intended_ns >= self.measure_from_ns {
            self.error_count += 1;
            self.interval_error_count += 1;
        }
    }

    fn close_interval(&mut self) {
        let mut latencies = Vec::new();
        for command in &mut self.commands {
            if command.interval.is_empty() {
                continue;
            }
            latencies.extend(
                command
                    .interval
                    .iter_recorded()
                    .map(|step| (step.value_iterated_to(), step.count_at_value())),
            );
            command
                .total
                .add(&command.interval)
                .expect("both histograms have the same bounds");
            command.interval.reset();
        }
        if !latencies.is_empty() || self.interval_error_count > 0 {
            self.intervals.push(IntervalCounts {
                index: self.interval_index,
                error_count: self.interval_error_count,
                latencies,
            });
            self.interval_error_count = 0;
        }
    }

    /// Closes the last interval. Nothing is recorded afterwards.
    pub fn finish(&mut self) {
        self.close_interval();
    }

    /// Adds what another finished tally of the same run has (invariant 1).
    pub fn merge(&mut self, other: Tally) {
        for (mine, theirs) in self.commands.iter_mut().zip(&other.commands) {
            mine.total
                .add(&theirs.total)
                .expect("both histograms have the same bounds");
        }
        self.intervals.extend(other.intervals);
        self.sent_count += other.sent_count;
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
        self.error_count += other.error_count;
        self.redirect_count += other.redirect_count;
        self.unanswered_count += other.unanswered_count;
        self.unsent_count += other.unsent_count;
        self.starved_count += other.starved_count;
        self.last_reply_ns = self.last_reply_ns.max(other.last_reply_ns);
        self.first_error = match (self.first_error.take(), other.first_error) {
            (Some(mine), Some(theirs)) => Some(if theirs.0 < mine.0 { theirs } else { mine }),
            (mine, theirs) => mine.or(theirs),
        };
    }

    /// The latencies of one command.
    pub fn command_latency(&self, command: usize) -> &Histogram<u64> {
        &self.commands[command].total
    }

    /// The latencies of all commands together.
    pub fn latency(&self) -> Histogram<u64> {
        let mut all = latency_histogram();
        for command in &self.commands {
            all.add(&command.total).expect("both histograms have the same bounds");
        }
        all
    }

    /// From the start of the measurement to the last reply.
    pub fn elapsed_ns(&self) -> u64 {
        self.last_reply_ns - self.measure_from_ns
    }

    /// Length of an interval.
    pub fn interval_ns(&self) -> u64 {
        self.interval_ns
    }

    /// The time series, in order of time; intervals in which nothing came back have an empty histogram.
    pub fn series(&self) -> Vec<IntervalSample> {
        let mut samples: BTreeMap<u64, IntervalSample> = BTreeMap::new();
        let last = self.intervals.iter().map(|counts| counts.index).max();
        for index in 0..last.map_or(0, |last| last + 1) {
            samples.insert(
                index,
                IntervalSample {
                    index,
                    error_count: 0,
                    latency: latency_histogram(),
                },
            );
        }
        for counts in &self.intervals {
            let sample = samples
                .get_mut(&counts.index)
                .expect("all intervals up to the last have been created");
            sample.error_count += counts.error_count;
            for &(latency_ns, count) in &counts.latencies {
                sample.latency.saturating_record_n(latency_ns, count);
            }
        }
        samples.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the same random recordings to one tally and, dealt out, to three that are merged.
    #[test]
    fn merging_gives_what_one_tally_would_have() {
        let new = || Tally::new(2, 1_000, 10_000);
        let mut whole = new();
        let mut parts = [new(), new(), new()];
        let mut rng = fastrand::Rng::with_seed(3);
        let mut now_ns = 1_000;
        for _ in 0..5_000 {
            now_ns += rng.u64(..40);
            let latency_ns = rng.u64(..50_000);
            let (command, part) = (rng.usize(..2), rng.usize(..3));
            for tally in [&mut whole, &mut parts[part]] {
                tally.advance(now_ns);
                tally.record(command, now_ns.saturating_sub(latency_ns), now_ns);
                if latency_ns < 500 {
                    tally.record_error(now_ns, now_ns, format!("ERR {now_ns}").as_bytes());
                }
            }
        }
        whole.finish();
        let [mut merged, second, third] = parts;
        merged.finish();
        for mut part in [second, third] {
            part.finish();
            merged.merge(part);
        }
        assert_eq!(merged.latency(), whole.latency());
        assert_eq!(merged.command_latency(1), whole.command_latency(1));
        assert_eq!(merged.error_count, whole.error_count);
        assert_eq!(merged.first_error, whole.first_error);
        assert_eq!(merged.elapsed_ns(), whole.elapsed_ns());
        let (left, right) = (merged.series(), whole.series());
        assert_eq!(left.len(), right.len());
        for (left, right) in left.iter().zip(&right) {
            assert_eq!(left.index, right.index);
            assert_eq!(left.error_count, right.error_count);
            assert_eq!(left.latency, right.latency);
        }
    }

    #[test]
    fn the_series_adds_up_to_the_total() {
        let mut tally = Tally::new(1, 0, 100);
        for now_ns in [10, 90, 110, 950, 960] {
            tally.advance(now_ns);
            tally.record(0, now_ns - 5, now_ns);
        }
        tally.finish();
        let series = tally.series();
        let counts: Vec<u64> = series.iter().map(|sample| sample.latency.len()).collect();
        assert_eq!(counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(counts.iter().sum::<u64>(), tally.latency().len());
    }

    #[test]
    fn the_warm_up_does_not_count() {
        let mut tally = Tally::new(1, 1_000, 100);
        tally.advance(500);
        tally.record(0, 400, 500);
        tally.record_error(400, 500, b"ERR early");
        tally.record(0, 900, 1_100);
        tally.record(0, 1_000, 1_200);
        tally.finish();
        assert_eq!(tally.latency().len(), 1);
        assert_eq!(tally.error_count, 0);
        assert_eq!(tally.first_error.as_ref().unwrap().1, "ERR early");
        assert_eq!(tally.elapsed_ns(), 200);
    }

    #[test]
    fn latencies_beyond_the_bounds_count_as_the_longest() {
        let mut tally = Tally::new(1, 0, u64::MAX / 4);
        tally.record(0, 0, 10 * LATENCY_MAX_NS);
        tally.finish();
        let latency = tally.latency();
        assert_eq!(latency.len(), 1);
        assert!(latency.max() >= LATENCY_MAX_NS);
    }
}
