//! Rates for each second (`instantaneous_*`): the mean over the last samples, as Redis measures them.

use crate::base::clock::UnixMs;

const SAMPLES: usize = 16;

/// A counter's rate over the last samples.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    last: u64,
    per_second: [u64; SAMPLES],
}

/// The rates that INFO shows.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    last_at: Option<UnixMs>,
    next_index: usize,
    commands: Rate,
    input: Rate,
    output: Rate,
    passes: Rate,
    pass_us: Rate,
}

/// The counters that have rates.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub commands: u64,
    pub input_bytes: u64,
    pub output_bytes: u64,
    pub passes: u64,
    pub pass_us: u64,
}

impl Rates {
    /// Takes a sample of the counters; to be called about ten times a second.
    pub fn sample(&mut self, now: UnixMs, counters: Counters) {
        let elapsed_ms = match self.last_at {
            Some(last) => now.since(last).0,
            None => 0,
        };
        if elapsed_ms == 0 && self.last_at.is_some() {
            return;
        }
        for (rate, value) in [
            (&mut self.commands, counters.commands),
            (&mut self.input, counters.input_bytes),
            (&mut self.output, counters.output_bytes),
            (&mut self.passes, counters.passes),
            (&mut self.pass_us, counters.pass_us),
        ] {
            let grown = value.saturating_sub(rate.last);
            rate.last = value;
            if let Some(per_second) = (grown * 1000).checked_div(elapsed_ms) {
                rate.per_second[self.next_index] = per_second;
            }
        }
        if elapsed_ms > 0 {
            self.next_index = (self.next_index + 1) % SAMPLES;
        }
        self.last_at = Some(now);
    }

    pub fn commands_per_second(&self) -> u64 {
        mean(&self.commands)
    }

    pub fn input_bytes_per_second(&self) -> u64 {
        mean(&self.input)
    }

    pub fn output_bytes_per_second(&self) -> u64 {
        mean(&self.output)
    }

    /// Turns of the loop.
    pub fn passes_per_second(&self) -> u64 {
        mean(&self.passes)
    }

    /// Microseconds of a turn of the loop, on average.
    pub fn us_per_pass(&self) -> u64 {
        mean(&self.pass_us).checked_div(mean(&self.passes)).unwrap_or(0)
    }
}

fn mean(rate: &Rate) -> u64 {
    rate.per_second.iter().sum::<u64>() / SAMPLES as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_counter_has_its_rate() {
        let mut rates = Rates::default();
        for i in 0..40u64 {
            let counters = Counters {
                commands: i * 50,
                passes: i * 10,
                pass_us: i * 70,
                ..Counters::default()
            };
            rates.sample(UnixMs(1 + i * 100), counters);
        }
        assert_eq!(rates.commands_per_second(), 500);
        assert_eq!((rates.passes_per_second(), rates.us_per_pass()), (100, 7));
    }
}
