//! What a shard does without being asked: keys that expire, memory that is freed, clients that are idle or too slow,
//! and samples of the counters.
//!
//! Two entries. [`Local::cron`] runs `hz` times a second and does what is short. [`Local::background_step`] does at most
//! [`STEP`] of what is long, when a pass of the loop has found nothing else to do: whoever sends a request then waits for
//! one step at most, and no reply waits, as those of the pass before are on their way. Where there are always requests, a
//! step comes after [`REST`] all the same, before those that have just arrived: a third of the time, and again one step is all that
//! anybody waits for. How much of it there may be between two runs of the cron is bounded as in Redis.
//!
//! Active expiry has no list of keys to watch. Each slot knows a time before which none of its keys expires, so what
//! is due is found by a look at each slot (a *scan*), and the earliest of these times says when the next scan is due at
//! the latest. A key may get an expiry at any moment, without this file being told; so a shard whose keys change scans
//! from time to time in any case. A scan touches a line of memory for each slot and is therefore timed: the next one
//! comes after a hundred times as long, which keeps scans below one per cent of a core. A shard whose keys did not
//! change has nothing to find but what slots bring home that were lent, and scans once a second.
//!
//! Invariants:
//! 1. a slot that is on loan is left alone: whoever has it sees what is expired, and a later scan finds the rest;
//! 2. each key that is deleted here is logged as a DEL, and each field of a hash as an HDEL, where anyone reads the log, before anybody sees the slot again;
//! 3. nothing here runs for longer than [`STEP`] and one slot's page beyond it, but for the scan itself.

use super::attempt::Attempt;
use super::env::{Ended, Observation};
use super::local::Local;
use crate::base::clock::{Ms, Ticks, UnixMs};
use crate::client::{Client, Stall};
use crate::config::{ClientClass, OutputLimit};
use crate::shard::ConnRef;
use crate::stats::{Counters, Memory};
use crate::store::DbIndex;
use std::time::Duration;

/// The longest step of background work: short against the time that a client notices, long against a pass without events.
const STEP: Duration = Duration::from_micros(250);
/// How long a busy shard puts background work off after a step.
const REST: Duration = Duration::from_micros(500);
/// Elements freed, and entries looked at by expiry, between two looks at the clock.
const ENTRIES_BETWEEN_CLOCKS: usize = 256;
/// A scan of all slots takes at most one part in this many of the time.
const SCAN_PART: u64 = 100;
/// The time between two scans when nothing tells that one is needed.
const SCAN_EVERY: Ms = Ms(1000);
/// How often rates are sampled, as in Redis.
const SAMPLE_EVERY: Ms = Ms(100);
/// How often the memory in use is read for its peak, and every client is looked at.
const SECOND: Ms = Ms(1000);
/// For so long after the start the memory in use is read more often: shards that have just begun take much at once.
const YOUTH: Ms = Ms(3000);
/// Each round counts that much in the moving average of `expired_stale_perc`, as in Redis.
const STALE_WEIGHT: f64 = 0.05;

/// What the periodic work remembers.
#[derive(Default)]
pub struct Cron {
    expiry: Expiry,
    sampled_at: UnixMs,
    memory_read_at: UnixMs,
    /// The next client to be looked at.
    next_client: u32,
    /// When the last step of background work ended.
    stepped_at: Ticks,
}

/// How far active expiry has got.
#[derive(Default)]
struct Expiry {
    /// Slots with something due, in the order in which they are worked on from the end.
    due: Vec<u16>,
    /// The earliest time at which a key expires in a slot that is not due.
    next_due: Option<UnixMs>,
    scanned_at: UnixMs,
    /// How long the last scan took.
    scan_cost: Ms,
    /// The changes to the keyspace that the last scan knew.
    changes_seen: u64,
    /// What is left of this round's time, in nanoseconds.
    budget_ns: u64,
    /// Of this round: entries looked at, entries deleted, time taken.
    examined: usize,
    expired: usize,
    spent_ns: u64,
}

impl Local {
    /// The periodic work; returns when it is due again.
    pub fn cron(&mut self) -> Duration {
        let now = self.env.now;
        let period = Ms(1000 / u64::from(self.env.settings.hz.max(1)));
        if self.env.is_cron_paused {
            // That is no periodic work in Redis, but done before each command.
            self.evict_clients();
            return period.max(Ms(1)).duration();
        }
        self.end_expiry_round(period);
        if now.since(self.cron.sampled_at) >= SAMPLE_EVERY {
            self.cron.sampled_at = now;
            let stats = &mut self.env.stats;
            let counters = Counters {
                commands: stats.commands_processed,
                input_bytes: stats.input_bytes,
                output_bytes: stats.output_bytes,
                passes: stats.loop_passes,
                pass_us: stats.loop_us,
            };
            stats.rates.sample(now, counters);
        }
        // The allocator counts for the whole process: one shard reads it.
        let is_young = now.since(self.node.started_at) < YOUTH;
        let read_every = if is_young { SAMPLE_EVERY } else { SECOND };
        if self.env.shard.0 == 0 && now.since(self.cron.memory_read_at) >= read_every {
            self.cron.memory_read_at = now;
            self.publish_memory();
            let memory = Memory::read(&self.node.memory);
            // Soon after the start shards still take what they begin with.
            let part = if is_young { 2 } else { 8 };
            self.node.memory.correct(memory.allocated, part);
        }
        self.look_at_clients(period);
        self.evict_cron();
        self.evict_clients();
        let mut next = period;
        if let Some(pause) = self.env.pause {
            if pause.until <= now {
                self.end_pause();
            } else {
                next = next.min(pause.until - now);
            }
        }
        self.find_due_slots();
        next.max(Ms(1)).duration()
    }

    /// To be called in each pass: tells the other shards what memory this one has, and makes room if there is too much. True:
    /// there is more to do soon.
    pub fn settle_memory(&mut self) -> bool {
        self.publish_memory();
        self.relieve()
    }

    /// Whether background work has waited so long for an idle moment that it must not wait any more.
    pub fn is_background_overdue(&self) -> bool {
        self.has_background_work() && u128::from(self.env.ticks.ns_since(self.cron.stepped_at)) >= REST.as_nanos()
    }

    fn has_background_work(&self) -> bool {
        !self.env.garbage.is_empty() || !self.cron.expiry.due.is_empty()
    }

    /// A small step of work that waits for an idle moment. True: there is more.
    pub fn background_step(&mut self) -> bool {
        if !self.has_background_work() {
            return false;
        }
        let began = self.env.tick();
        let deadline = Ticks(began.0 + STEP.as_nanos() as u64);
        let expires_on = self.expire_some(began, deadline);
        while !self.env.garbage.is_empty() {
            let freed = self.env.garbage.free_step(ENTRIES_BETWEEN_CLOCKS);
            self.env.stats.lazy_freed_objects += freed as u64;
            if self.env.clock.ticks() >= deadline {
                break;
            }
        }
        self.cron.stepped_at = self.env.tick();
        expires_on || !self.env.garbage.is_empty()
    }

    /// Looks for slots in which something is due, if it is time for that.
    fn find_due_slots(&mut self) {
        let now = self.env.now;
        let changes = self.env.stats.changes;
        let expiry = &mut self.cron.expiry;
        if !self.env.expires_actively || self.env.pause.is_some() || !expiry.due.is_empty() {
            return;
        }
        let pause = if changes == expiry.changes_seen {
            SCAN_EVERY
        } else {
            Ms(expiry.scan_cost.0 * SCAN_PART).min(SCAN_EVERY)
        };
        let is_due = expiry.next_due.is_some_and(|due| due < now);
        if !is_due && now.since(expiry.scanned_at) < pause {
            return;
        }
        // All slots are on loan as a whole: the next round is soon enough.
        let Some(places) = self.core.places() else { return };
        let began = self.env.clock.ticks();
        let mut next_due: Option<UnixMs> = None;
        for (index, slot) in places.iter() {
            match slot.next_expiry() {
                Some(bound) if bound < now => expiry.due.push(index),
                Some(bound) => next_due = Some(next_due.map_or(bound, |earlier| earlier.min(bound))),
                None => {}
            }
        }
        expiry.next_due = next_due;
        expiry.scanned_at = now;
        expiry.changes_seen = changes;
        expiry.scan_cost = Ms(self.env.clock.ticks().ns_since(began).div_ceil(1_000_000));
    }

    /// Deletes expired keys of the slots that are due, until `deadline`. True: there is more to do at once.
    fn expire_some(&mut self, began: Ticks, deadline: Ticks) -> bool {
        if !self.env.expires_actively || self.env.pause.is_some() {
            // What is due is found again when keys may go again.
            self.cron.expiry.due.clear();
            return false;
        }
        let now = self.env.now;
        let deadline = deadline.min(Ticks(began.0.saturating_add(self.cron.expiry.budget_ns)));
        let mut clock = began;
        while clock < deadline
            && let Some(&index) = self.cron.expiry.due.last()
        {
            let is_unfinished = self.expire_in(index, now);
            if !is_unfinished {
                self.cron.expiry.due.pop();
            }
            clock = self.env.clock.ticks();
        }
        let expiry = &mut self.cron.expiry;
        let spent_ns = clock.ns_since(began);
        expiry.spent_ns += spent_ns;
        expiry.budget_ns = expiry.budget_ns.saturating_sub(spent_ns);
        !expiry.due.is_empty() && expiry.budget_ns > 0
    }

    /// One step in one slot. True: the slot has more.
    fn expire_in(&mut self, index: u16, now: UnixMs) -> bool {
        let nobody = ConnRef::background(self.env.shard);
        let Some(mut view) = self.core.try_view(&[index], nobody) else {
            return false;
        };
        let env = &mut self.env;
        let mut attempt = Attempt::default();
        env.arm(&mut attempt);
        let slot = attempt.held(&mut view, index).expect("the view was given this slot");
        let step = slot.expire_step(now, ENTRIES_BETWEEN_CLOCKS);
        let expired = attempt.collect(&mut view, |detached| env.garbage.absorb(detached));
        expired.count(&mut env.stats);
        let ended = Ended {
            origin: nobody,
            command: 0,
            db: DbIndex(0),
            what: Observation::Expired(expired.keys as usize),
        };
        env.end_unit(&mut attempt, &mut view, ended);
        let expiry = &mut self.cron.expiry;
        expiry.examined += step.examined_count;
        expiry.expired += step.expired_count;
        step.is_unfinished
    }

    /// Counts what expiry has done since the last round, and gives it time for the next one.
    fn end_expiry_round(&mut self, period: Ms) {
        let expiry = &mut self.cron.expiry;
        let stats = &mut self.env.stats;
        let stale_percent = if expiry.examined > 0 {
            100.0 * expiry.expired as f64 / expiry.examined as f64
        } else {
            0.0
        };
        stats.expired_stale_percent = stale_percent * STALE_WEIGHT + stats.expired_stale_percent * (1.0 - STALE_WEIGHT);
        stats.active_expire_us += expiry.spent_ns / 1000;
        stats
            .latency
            .note("expire-cycle", expiry.spent_ns / 1_000_000, self.env.now);
        if !expiry.due.is_empty() && expiry.budget_ns == 0 {
            stats.expire_time_cap_reached += 1;
        }
        let effort = u64::from(self.env.settings.active_expire_effort.clamp(1, 10)) - 1;
        // Redis's share of the time: a quarter, and two per cent more for each step of effort.
        expiry.budget_ns = period.0.max(1) * 1_000_000 * (25 + 2 * effort) / 100;
        (expiry.examined, expiry.expired, expiry.spent_ns) = (0, 0, 0);
    }

    /// Looks at so many clients that each is seen about once a second.
    fn look_at_clients(&mut self, period: Ms) {
        let end = self.clients.index_end();
        let share = (end as u64 * period.0).div_ceil(SECOND.0).min(end as u64);
        let now = self.env.now;
        let timeout = Ms::from_seconds(u64::from(self.env.settings.timeout));
        for _ in 0..share {
            if self.cron.next_client >= end {
                self.cron.next_client = 0;
            }
            let index = self.cron.next_client;
            self.cron.next_client += 1;
            let Some(client) = self.clients.at(index) else { continue };
            let idle = now.since(client.last_interaction);
            if timeout > Ms::ZERO && idle > timeout && may_time_out(client) {
                tracing::debug!("Closing idle client");
                client.is_killed = true;
                self.list(index);
                continue;
            }
            client.give_back(now, self.env.reply_resizing);
            self.under_way.count_input(client);
            self.under_way.count_output(client);
            // Whoever owns the socket looks whether it has been above the limit for too long.
            if client.above_soft_limit_since.is_some() {
                self.list(index);
            }
        }
    }

    /// Whether a client has too much unsent output (`client-output-buffer-limit`): beyond the hard limit at once, beyond
    /// the soft limit if that has lasted. Says so in the log, and counts it.
    pub fn is_over_output_limit(&mut self, index: u32) -> bool {
        let Some(client) = self.clients.at(index) else {
            return false;
        };
        let limit = self.env.settings.client_output_buffer_limit.of(class(client));
        if !is_beyond(limit, client, self.env.now) {
            return false;
        }
        tracing::warn!(
            "Client id={} addr={} laddr={} name={} omem={} closed for overcoming of output buffer limits.",
            client.session.id,
            client.session.address,
            client.session.local_address,
            String::from_utf8_lossy(&client.session.name),
            client.output_bytes()
        );
        self.env.stats.output_limit_disconnections += 1;
        true
    }
}

/// Whose limits are the client's. Nobody replicates from this server or subscribes to anything yet.
fn class(_: &Client) -> ClientClass {
    ClientClass::Normal
}

/// Whether `timeout` is for this client: not while it waits for something of the server's.
fn may_time_out(client: &Client) -> bool {
    client.pending.is_empty() && client.stall == Stall::Not
}

/// Whether the client's output is beyond its limit; notes since when it is beyond the soft one.
fn is_beyond(limit: OutputLimit, client: &mut Client, now: UnixMs) -> bool {
    if limit.hard_bytes == 0 && limit.soft_bytes == 0 {
        client.above_soft_limit_since = None;
        return false;
    }
    let waiting = client.output_bytes() as u64;
    let is_over_hard = limit.hard_bytes > 0 && waiting >= limit.hard_bytes;
    let mut is_over_soft = false;
    if limit.soft_bytes > 0 && waiting >= limit.soft_bytes {
        let since = *client.above_soft_limit_since.get_or_insert(now);
        is_over_soft = now.since(since).seconds() > limit.soft_seconds;
    } else {
        client.above_soft_limit_since = None;
    }
    is_over_hard || is_over_soft
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{ClientTable, Session};
    use crate::shard::ShardId;

    #[test]
    fn output_limits_are_hard_at_once_and_soft_in_time() {
        let place = ConnRef {
            shard: ShardId(0),
            index: 0,
            generation: 0,
        };
        let registration = ClientTable::new().register(place, 1).expect("there is room");
        let session = Session::new(1, "127.0.0.1:1", "127.0.0.1:2", true);
        let mut client = Client::new(session, place, registration, UnixMs(0));
        let limit = OutputLimit {
            hard_bytes: 1000,
            soft_bytes: 100,
            soft_seconds: 2,
        };
        client.in_flight_bytes = 1000;
        assert!(
            !is_beyond(OutputLimit::default(), &mut client, UnixMs(0)),
            "zero is no limit"
        );
        assert!(is_beyond(limit, &mut client, UnixMs(0)));
        client.in_flight_bytes = 99;
        assert!(!is_beyond(limit, &mut client, UnixMs(9_000)));
        client.in_flight_bytes = 100;
        assert!(!is_beyond(limit, &mut client, UnixMs(10_000)));
        assert!(!is_beyond(limit, &mut client, UnixMs(12_999)));
        assert!(is_beyond(limit, &mut client, UnixMs(13_000)));
        client.in_flight_bytes = 0;
        assert!(!is_beyond(limit, &mut client, UnixMs(14_000)));
        client.in_flight_bytes = 100;
        assert!(!is_beyond(limit, &mut client, UnixMs(15_000)), "the time begins again");
    }
}
