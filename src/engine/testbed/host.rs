//! What the host does to the shards: it takes a core away for a while, makes a pass slow, and has its clock set back.
//!
//! The clock is one for all shards, so it is set for all at once, wherever they are in their work. No shard's time may go back by
//! that, and none may stand still until the clock has caught up (`judge`).

use super::run::Run;

/// What the host has done and is doing.
#[derive(Debug, Default)]
pub(super) struct Host {
    /// A shard that is held up, and for how many steps.
    held: usize,
    held_steps: usize,
    /// How often the clock was set back, and how far in all.
    set_back_count: usize,
    set_back_ms: u64,
}

impl Run<'_> {
    /// The shard that makes no steps at present, as one does whose core has been taken away.
    pub(super) fn hold_up(&mut self) -> Option<usize> {
        let host = &mut self.host;
        host.held_steps = host.held_steps.saturating_sub(1);
        if host.held_steps == 0 && self.story.features.has("held-up") && self.random.chance(1, 300) {
            host.held = self.random.below(self.shards.len());
            host.held_steps = self.random.usize_in(20..600);
        }
        (host.held_steps > 0).then_some(host.held)
    }

    /// What a reading of a clock takes in this pass.
    pub(super) fn slow_step(&mut self) -> u64 {
        let usual = self.story.schedule.step_ns;
        let every = self.story.schedule.slow_every;
        if every == 0 || !self.random.chance(1, every) {
            return usual;
        }
        [400_000, 2_000_000, 9_000_000][self.random.below(3)]
    }

    /// How far a shard's calendar is from the common one now.
    pub(super) fn skew_ms(&self, shard: usize) -> i64 {
        self.story.schedule.skews_ms[shard] - self.host.set_back_ms as i64
    }

    /// Sets the clock back, if that is due some time.
    pub(super) fn set_clock_back(&mut self) {
        let due = self.story.schedule.set_backs_ms.get(self.host.set_back_count);
        let Some(&by_ms) = due.filter(|_| self.random.chance(1, 8)) else {
            return;
        };
        self.host.set_back_count += 1;
        self.host.set_back_ms += by_ms;
        for shard in 0..self.shards.len() {
            self.engine.set_skew_ms(shard, self.skew_ms(shard));
        }
        self.judge.clock_set_back(by_ms);
        self.tell_at(|| format!("the host's clock is set back by {by_ms} ms"));
    }
}
