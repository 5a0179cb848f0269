//! What a shard does without being asked: keys that expire, memory that is freed, clients that are idle or too slow,
//! and samples of the counters.
//!
//! Two entries. [`Local::cron`] runs `hz` times a second and does what is short. [`Local::background_step`] does at most
//! [`STEP`] of what is long, when a pass of the loop has found nothing else to do: whoever sends a request then waits for
//! one step at most, and no reply waits, as those of the pass before are on their way. Where there are always requests, a
//! step comes after [`REST`] all the same, before those that have just arrived: a third of the time, and again one step is all that
//! anybody waits for. How much of it there may be between two runs of the cron is bounded as in Redis.
//!
//! Invariants:
//! 1. nothing here runs for longer than [`STEP`] and one slot's page beyond it, but for the scan of `expiry`.

use super::evict_clients::evict_clients;
use super::ground::Ground;
use super::local::{Envelope, Local};
use super::upkeep::Upkeep;
use crate::base::clock::{Ms, Ticks, UnixMs};
use crate::client::{Client, Stall};
use crate::config::OutputLimit;
use crate::stats::{Counters, Memory};
use std::time::Duration;

/// The longest step of background work: short against the time that a client notices, long against a pass without events.
const STEP: Duration = Duration::from_micros(250);
/// How long a busy shard puts background work off after a step.
const REST: Duration = Duration::from_micros(500);
/// Elements freed, and entries looked at by expiry, between two looks at the clock.
const ENTRIES_BETWEEN_CLOCKS: usize = 256;
/// How often rates are sampled, as in Redis.
const SAMPLE_EVERY: Ms = Ms(100);
/// How often the memory in use is read for its peak, and every client is looked at.
const SECOND: Ms = Ms(1000);
/// For so long after the start the memory in use is read more often: shards that have just begun take much at once.
const YOUTH: Ms = Ms(3000);

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
        self.on_ground(|upkeep, on| upkeep.expiry.end_round(on, period));
        if now.since(self.upkeep.sampled_at) >= SAMPLE_EVERY {
            self.upkeep.sampled_at = now;
            let stats = &mut self.env.stats;
            let counters = Counters {
                commands: stats.counts.commands_processed,
                input_bytes: stats.counts.input_bytes,
                output_bytes: stats.counts.output_bytes,
                passes: stats.counts.loop_passes,
                pass_us: stats.counts.loop_us,
            };
            stats.rates.sample(now, counters);
        }
        // The allocator counts for the whole process: one shard reads it.
        let is_young = now.since(self.node.started_at) < YOUTH;
        let read_every = if is_young { SAMPLE_EVERY } else { SECOND };
        if self.env.shard.0 == 0 && now.since(self.upkeep.memory_read_at) >= read_every {
            self.upkeep.memory_read_at = now;
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
        self.on_ground(|upkeep, on| upkeep.expiry.find_due_slots(on));
        next.max(Ms(1)).duration()
    }

    /// `DEBUG PAUSE-CRON`.
    pub fn pause_cron(&mut self, is_paused: bool) {
        self.env.is_cron_paused = is_paused;
    }

    /// `DEBUG SET-ACTIVE-EXPIRE`.
    pub fn set_active_expiry(&mut self, is_on: bool) {
        self.env.expires_actively = is_on;
    }

    /// `DEBUG REPLYBUFFER`: what is not said stays as it is.
    pub fn set_reply_resizing(&mut self, is_on: Option<bool>, peak_for: Option<Option<Ms>>) {
        let resizing = &mut self.env.reply_resizing;
        resizing.is_on = is_on.unwrap_or(resizing.is_on);
        resizing.peak_for = peak_for.unwrap_or(resizing.peak_for);
    }

    /// To be called in each pass: tells the other shards what memory this one has, and makes room if there is too much. True:
    /// there is more to do soon.
    pub fn settle_memory(&mut self) -> bool {
        self.publish_memory();
        self.relieve()
    }

    /// Makes room if the process uses too much. To be called before a command runs, and in each pass. True: the time was up
    /// before this shard had done its part, so go on soon.
    #[inline]
    pub(super) fn relieve(&mut self) -> bool {
        self.env.settings.maxmemory > 0 && !self.env.is_loading && self.relieve_limited()
    }

    fn relieve_limited(&mut self) -> bool {
        let limit = self.env.settings.maxmemory as usize;
        let mut counted = self.publish();
        let mut used = self.node.memory.counted_bytes();
        if used + self.upkeep.under_way.unsure_bytes() > limit {
            counted = self.publish_memory();
            used = self.node.memory.counted_bytes();
        }
        let asked = self.on_ground(|upkeep, on| {
            let Upkeep {
                eviction, under_way, ..
            } = upkeep;
            if used > limit {
                return eviction.relieve(on, under_way, counted, used);
            }
            eviction.rest(on, counted);
            Vec::new()
        });
        for other in asked {
            self.link().message(
                other,
                Envelope::Visit(Box::new(move |there: &mut Local| {
                    there.node.memory.heed(usize::from(other.0));
                    there.relieve();
                })),
            );
        }
        self.upkeep.eviction.is_unfinished()
    }

    /// Whether there is no memory for a command that needs some, and nothing to evict.
    pub(super) fn lacks_memory(&mut self) -> bool {
        self.on_ground(|upkeep, on| upkeep.eviction.lacks_memory(on))
    }

    /// Counts what there is to evict, if it is time for that, or there is a new limit or policy.
    pub fn evict_cron(&mut self) {
        self.on_ground(|upkeep, on| upkeep.eviction.cron(on));
    }

    /// So many bytes were taken by what carries this shard, before there was a shard.
    pub fn leave_out(&mut self, machinery_bytes: usize) {
        self.upkeep.under_way.leave_out(machinery_bytes);
    }

    /// So many bytes are kept for output that was handed over. To be said as soon as output has been written: what it took is free
    /// again, and would be room for data.
    pub fn note_wire(&mut self, held_bytes: usize) {
        self.upkeep.under_way.count_wire(held_bytes);
    }

    /// Looks at the links.
    pub(super) fn count_links(&mut self) {
        self.upkeep.under_way.count_links(self.outbound.memory_bytes());
    }

    /// Tells the other shards what this one has taken, as of now; answers what of it counts. In every pass, limit or not: the sum must be
    /// right when a limit is set.
    #[inline]
    pub fn publish_memory(&mut self) -> isize {
        self.count_links();
        self.publish()
    }

    /// The same, with the links as they were looked at last.
    #[inline]
    fn publish(&self) -> isize {
        let shard = usize::from(self.env.shard.0);
        self.node.memory.publish(shard, self.upkeep.under_way.bytes())
    }

    /// Disconnects the largest clients while all together take too much.
    fn evict_clients(&mut self) {
        for index in evict_clients(&mut self.clients, &mut self.env, &self.node.memory) {
            self.list(index);
        }
    }

    /// Lends upkeep what it works on.
    fn on_ground<T>(&mut self, work: impl FnOnce(&mut Upkeep, &mut Ground<'_>) -> T) -> T {
        let Local {
            env,
            node,
            core,
            upkeep,
            ..
        } = self;
        work(
            upkeep,
            &mut Ground {
                core,
                env,
                memory: &node.memory,
            },
        )
    }

    /// Whether background work has waited so long for an idle moment that it must not wait any more.
    pub fn is_background_overdue(&self) -> bool {
        self.has_background_work() && u128::from(self.env.ticks.ns_since(self.upkeep.stepped_at)) >= REST.as_nanos()
    }

    fn has_background_work(&self) -> bool {
        !self.env.garbage.is_empty() || self.upkeep.expiry.has_due()
    }

    /// A small step of work that waits for an idle moment. True: there is more.
    pub fn background_step(&mut self) -> bool {
        if !self.has_background_work() {
            return false;
        }
        let began = self.env.tick();
        let deadline = Ticks(began.0 + STEP.as_nanos() as u64);
        let expires_on = self.on_ground(|upkeep, on| upkeep.expiry.expire_some(on, began, deadline));
        while !self.env.garbage.is_empty() {
            let freed = self.env.garbage.free_step(ENTRIES_BETWEEN_CLOCKS);
            self.env.stats.counts.lazy_freed_objects += freed as u64;
            if self.env.clock.ticks() >= deadline {
                break;
            }
        }
        self.upkeep.stepped_at = self.env.tick();
        expires_on || !self.env.garbage.is_empty()
    }

    /// Looks at so many clients that each is seen about once a second.
    fn look_at_clients(&mut self, period: Ms) {
        let end = self.clients.index_end();
        let share = (end as u64 * period.0).div_ceil(SECOND.0).min(end as u64);
        let now = self.env.now;
        let timeout = Ms::from_seconds(u64::from(self.env.settings.timeout));
        for _ in 0..share {
            if self.upkeep.next_client >= end {
                self.upkeep.next_client = 0;
            }
            let index = self.upkeep.next_client;
            self.upkeep.next_client += 1;
            let Some(client) = self.clients.at(index) else { continue };
            let idle = now.since(client.last_interaction);
            if timeout > Ms::ZERO && idle > timeout && may_time_out(client) {
                tracing::debug!("Closing idle client");
                client.is_killed = true;
                self.list(index);
                continue;
            }
            client.give_back(now, self.env.reply_resizing);
            self.upkeep.under_way.count_input(client);
            self.upkeep.under_way.count_output(client);
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
        let limit = self
            .env
            .settings
            .client_output_buffer_limit
            .of(client.mode.output_class());
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
        self.env.stats.counts.output_limit_disconnections += 1;
        true
    }
}

/// Whether `timeout` is for this client: not while it waits for something of the server's.
fn may_time_out(client: &Client) -> bool {
    client.mode.times_out() && client.pending.is_empty() && client.stall == Stall::Not
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
    use crate::shard::{ConnRef, ShardId};

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
