//! Whether units have the times that they may have, as far as the judge knows of calendars and pauses.
//!
//! All shards have calendars of their own, which may be apart by what was drawn, and the host's clock may be set back. So what a shard's
//! calendar can have come to is known within bounds ([`Floor`]).

use super::engine::Record;
use super::judge::{Failure, Judge};
use super::roles::Role;
use crate::base::clock::UnixMs;
use crate::shard::Footprint;

/// Clock readings that lie between the beginning of a unit and the report of it, beside those of a transaction's commands.
const READINGS_MAX: u64 = 12;

/// What a shard's calendar has come to at least.
#[derive(Clone, Copy, Default)]
pub(super) struct Floor {
    course_ns: u64,
    unix_ns: u64,
}

/// A time in which nothing is written.
pub(super) struct PauseWindow {
    pub(super) until_ns: u64,
    pub(super) text: String,
}

impl Judge {
    /// The host's clock was set back.
    pub(super) fn clock_set_back(&mut self, by_ms: u64) {
        self.set_back_ms += by_ms;
    }

    /// A shard looks at the host's clock.
    pub(super) fn pass_begins(&mut self, shard: usize, course_ns: u64) {
        let unix_ns = self.calendar_ns(shard, course_ns);
        self.floors[shard] = Floor { course_ns, unix_ns };
    }

    /// What a shard's calendar has come to at least.
    pub(super) fn calendar_ns(&self, shard: usize, course_ns: u64) -> u64 {
        let Floor {
            course_ns: since_ns,
            unix_ns,
        } = self.floors[shard];
        let host_ms = (course_ns / 1_000_000).saturating_add_signed(self.skews_ms[shard] - self.set_back_ms as i64);
        let counted_ns = unix_ns + (course_ns - since_ns) / 10 * 9;
        counted_ns.max(host_ms * 1_000_000)
    }

    pub(super) fn check_time(
        &mut self,
        client: usize,
        index: usize,
        record: &Record,
        footprint: &Footprint,
        (step_ns, is_of_the_last): (u64, bool),
    ) -> Result<(), Failure> {
        let judged = &self.clients[client];
        let traits = &judged.states[index].traits;
        let (mut readings, mut may_be_old) = (
            READINGS_MAX,
            self.has_huge && traits.role == Role::Data || is_of_the_last,
        );
        if let Role::Exec(multi) = traits.role {
            for queued in &judged.states[multi..index] {
                readings += 4;
                // It began when it got its slots, and has kept them since.
                may_be_old |= queued.traits.is_asynchronous;
            }
        }
        let calendar = self.calendar_ns(record.shard, record.course_ns) / 1_000_000;
        let tolerated_ms = 1 + (readings * step_ns).div_ceil(1_000_000);
        let wrong = |text: String| {
            let what = judged.describe(index);
            Err(Failure::new(
                "time",
                format!("client {}: {what} on shard {}: {text}", judged.number, record.shard),
            ))
        };
        if record.now.0 + tolerated_ms < calendar && !may_be_old {
            return wrong(format!("its time is {} ms old", calendar - record.now.0));
        }
        let latest = self.latest_calendar(record.course_ns);
        if record.now.signed() > latest {
            return wrong(format!(
                "its time is {} ms ahead of everybody's",
                record.now.signed() - latest
            ));
        }
        let is_behind_all = !traits.is_single || self.is_strict;
        let floor = judged.states[index]
            .floor
            .max(if is_behind_all { judged.latest } else { UnixMs(0) });
        if record.now < floor {
            return wrong(format!(
                "its time {} is before {floor}, which its client knows of",
                record.now
            ));
        }
        let slots: Vec<u16> = match footprint {
            Footprint::Slots(slots) => slots.iter().collect(),
            Footprint::Everything => self.slot_times.keys().copied().collect(),
        };
        for slot in slots {
            let last = self.slot_times.entry(slot).or_insert(record.now);
            if record.now < *last {
                return Err(Failure::new(
                    "time",
                    format!(
                        "client {}: {} on shard {}: its time {} is before {last}, at which slot {slot} was used",
                        judged.number,
                        judged.describe(index),
                        record.shard,
                        record.now
                    ),
                ));
            }
            *last = record.now;
        }
        Ok(())
    }

    /// What the calendar is that is furthest ahead.
    pub(super) fn latest_calendar(&self, course_ns: u64) -> i64 {
        (course_ns / 1_000_000) as i64 + self.skews_ms.iter().max().copied().unwrap_or(0)
    }

    pub(super) fn check_pause(&self, record: &Record, writes: bool, what: impl Fn() -> String) -> Result<(), Failure> {
        let window = self.pauses.iter().find(|window| record.course_ns < window.until_ns);
        match window {
            Some(window) if writes => Err(Failure::new(
                "pause",
                format!("written during {}: {}", window.text, what()),
            )),
            _ => Ok(()),
        }
    }
}
