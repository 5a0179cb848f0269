//! Calls, time and errors of each command.

use crate::base::section::Section;
use crate::config::Settings;
use hashbrown::HashMap;
use hdrhistogram::Histogram;

/// What INFO commandstats, INFO latencystats and LATENCY HISTOGRAM say of one command.
#[derive(Default)]
pub struct CommandStats {
    pub calls: u64,
    pub us: u64,
    pub rejected_calls: u64,
    pub failed_calls: u64,
    /// Recorded calls of at most a microsecond. Most calls are: they are counted without a search for their place in a histogram.
    shortest: u64,
    /// Microseconds of the other recorded calls; made with the first one.
    longer: Option<Box<Histogram<u64>>>,
}

/// Redis's own bounds: 1 ns is not told from 1 µs here, above one second everything is one second.
const HISTOGRAM_US_MAX: u64 = 1_000_000;

impl CommandStats {
    #[inline]
    pub fn record(&mut self, elapsed_us: u64, is_tracking: bool) {
        self.calls += 1;
        self.us += elapsed_us;
        if is_tracking {
            if elapsed_us <= 1 {
                self.shortest += 1;
            } else {
                let longer = self.longer.get_or_insert_with(new_histogram);
                longer.saturating_record(elapsed_us.min(HISTOGRAM_US_MAX));
            }
        }
    }

    /// Microseconds of each recorded call; None if none was.
    pub fn histogram(&self) -> Option<Box<Histogram<u64>>> {
        if self.shortest == 0 {
            return self.longer.clone();
        }
        let mut all = self.longer.clone().unwrap_or_else(new_histogram);
        all.saturating_record_n(1, self.shortest);
        Some(all)
    }

    /// Adds another shard's figures.
    pub fn add(&mut self, other: &CommandStats) {
        self.calls += other.calls;
        self.us += other.us;
        self.rejected_calls += other.rejected_calls;
        self.failed_calls += other.failed_calls;
        self.shortest += other.shortest;
        if let Some(theirs) = &other.longer {
            let ours = self.longer.get_or_insert_with(new_histogram);
            ours.add(&**theirs).expect("all histograms have the same bounds");
        }
    }

    /// A copy, to be sent to another shard.
    pub fn snapshot(&self) -> CommandStats {
        CommandStats {
            longer: self.longer.clone(),
            ..*self
        }
    }
}

/// Commands with their names.
pub trait Named<'a>: Iterator<Item = (&'a str, &'a CommandStats)> {}

impl<'a, I: Iterator<Item = (&'a str, &'a CommandStats)>> Named<'a> for I {}

/// Writes a line for each command that was called or refused.
pub fn write_calls<'a>(commands: impl Named<'a>, out: &mut Section) {
    for (name, stats) in commands {
        let CommandStats {
            calls,
            us,
            rejected_calls,
            failed_calls,
            ..
        } = stats;
        if *calls == 0 && *rejected_calls == 0 {
            continue;
        }
        let us_each = if *calls == 0 { 0.0 } else { *us as f64 / *calls as f64 };
        out.field(
            format_args!("cmdstat_{name}"),
            format_args!(
                "calls={calls},usec={us},usec_per_call={us_each:.2},rejected_calls={rejected_calls},failed_calls={failed_calls}"
            ),
        );
    }
}

/// Writes a line for each command of which calls were recorded: these percentiles of their times.
pub fn write_latencies<'a>(commands: impl Named<'a>, settings: &Settings, out: &mut Section) {
    for (name, stats) in commands {
        let Some(histogram) = stats.histogram() else { continue };
        let shown: Vec<String> = settings
            .latency_tracking_info_percentiles
            .iter()
            .map(|percentile| {
                let us = histogram.value_at_quantile(percentile / 100.0) as f64;
                format!("p{percentile}={us:.3}")
            })
            .collect();
        out.field(format_args!("latency_percentiles_usec_{name}"), shown.join(","));
    }
}

fn new_histogram() -> Box<Histogram<u64>> {
    Box::new(
        Histogram::new_with_bounds(1, HISTOGRAM_US_MAX, 2).expect("the bounds are in order and two digits are allowed"),
    )
}

/// Errors answered, by their first word.
#[derive(Default, Clone)]
pub struct ErrorStats {
    pub total: u64,
    by_code: HashMap<String, u64>,
}

/// Different codes that are kept apart: a script could make up any number of them.
const ERROR_CODES_MAX: usize = 128;

impl ErrorStats {
    pub fn count(&mut self, code: &str) {
        self.total += 1;
        if let Some(count) = self.by_code.get_mut(code) {
            *count += 1;
        } else if self.by_code.len() < ERROR_CODES_MAX {
            self.by_code.insert(code.to_owned(), 1);
        }
    }

    /// Adds another shard's figures.
    pub fn add(&mut self, other: &ErrorStats) {
        self.total += other.total;
        for (code, count) in &other.by_code {
            *self.by_code.entry_ref(code.as_str()).or_insert(0) += count;
        }
    }

    /// Codes and counts, in the order of the codes.
    pub fn sorted(&self) -> Vec<(&str, u64)> {
        let mut all: Vec<_> = self
            .by_code
            .iter()
            .map(|(code, count)| (code.as_str(), *count))
            .collect();
        all.sort_unstable();
        all
    }

    /// Writes a line for each code.
    pub fn write_section(&self, out: &mut Section) {
        for (code, count) in self.sorted() {
            out.field(format_args!("errorstat_{code}"), format_args!("count={count}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_shards_add_up() {
        let (mut a, mut b) = (CommandStats::default(), CommandStats::default());
        a.record(5, true);
        b.record(7, true);
        b.record(2_000_000, true);
        b.failed_calls += 1;
        a.add(&b.snapshot());
        assert_eq!((a.calls, a.us, a.failed_calls), (3, 2_000_012, 1));
        let histogram = a.histogram().expect("calls were recorded");
        assert_eq!(histogram.len(), 3);
        assert_eq!(histogram.value_at_quantile(0.5), 7);
    }

    #[test]
    fn the_shortest_calls_are_in_the_histogram_too() {
        let mut stats = CommandStats::default();
        stats.record(0, false);
        assert!(stats.histogram().is_none(), "nothing was recorded");
        for elapsed_us in [0, 1, 1, 9] {
            stats.record(elapsed_us, true);
        }
        let histogram = stats.histogram().expect("calls were recorded");
        assert_eq!((histogram.len(), histogram.min(), histogram.max()), (4, 1, 9));
        assert_eq!(histogram.value_at_quantile(0.75), 1);
        let mut others = CommandStats::default();
        others.record(0, true);
        others.add(&stats.snapshot());
        assert_eq!(others.histogram().map(|histogram| histogram.len()), Some(5));
    }

    #[test]
    fn codes_are_bounded() {
        let mut errors = ErrorStats::default();
        for i in 0..1000 {
            errors.count(&format!("E{i}"));
        }
        errors.count("E0");
        assert_eq!(errors.total, 1001);
        assert_eq!(errors.sorted().len(), ERROR_CODES_MAX);
        assert_eq!(errors.sorted()[0], ("E0", 2));
    }
}
