//! What a shard does without being asked: keys that expire, memory that is freed, clients that are idle or too slow,
//! and samples of the counters.
//!
//! Two entries. [`Upkeep::cron`] runs `hz` times a second and does what is short. [`Upkeep::background_step`] does at most
//! [`STEP`] of what is long, when a pass of the loop has found nothing else to do: whoever sends a request then waits for
//! one step at most, and no reply waits, as those of the pass before are on their way. Where there are always requests, a
//! step comes after [`REST`] all the same, before those that have just arrived: a third of the time, and again one step is all that
//! anybody waits for. How much of it there may be between two runs of the cron is bounded as in Redis.
//!
//! Invariants:
//! 1. nothing here runs for longer than [`STEP`] and one slot's page beyond it, but for the scan of `expiry`.

use super::clients::Clients;
use super::env::Env;
use super::evict_clients::evict_clients;
use super::eviction::Eviction;
use super::expiry::Expiry;
use super::forgetting::Forgetting;
use super::ground::Ground;
use super::saver::Saver;
use super::under_way::UnderWay;
use crate::base::clock::{Ms, Ticks, UnixMs};
use crate::client::{Client, Stall};
use crate::config::OutputLimit;
use crate::shard::{ShardId, Ticket};
use crate::stats::{Counters, Memory};
use std::collections::VecDeque;
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

/// See above.
#[derive(Default)]
pub struct Upkeep {
    pub(super) expiry: Expiry,
    pub(super) eviction: Eviction,
    pub(super) saver: Saver,
    pub(super) forgetting: Forgetting,
    pub(super) under_way: UnderWay,
    /// Commands that go in steps, in the order in which they make the next one.
    pub(super) held: VecDeque<Ticket>,
    /// The last step of background work was one of these.
    was_held_last: bool,
    sampled_at: UnixMs,
    memory_read_at: UnixMs,
    /// The next client to be looked at.
    next_client: u32,
    /// When the last step of background work ended.
    stepped_at: Ticks,
}

impl Upkeep {
    /// The periodic work; returns when it is due again. `links_bytes` is what the links hold now.
    pub(super) fn cron(&mut self, on: &mut Ground<'_>, clients: &mut Clients, links_bytes: usize) -> Duration {
        let now = on.env.now;
        let period = Ms(1000 / u64::from(on.env.settings.hz.max(1)));
        if on.env.is_cron_paused {
            // That is no periodic work in Redis, but done before each command.
            evict_clients(clients, on.env, &on.node.memory);
            return period.max(Ms(1)).duration();
        }
        self.expiry.end_round(on, period);
        if now.since(self.sampled_at) >= SAMPLE_EVERY {
            self.sampled_at = now;
            let stats = &mut on.env.stats;
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
        let is_young = now.since(on.node.started_at) < YOUTH;
        let read_every = if is_young { SAMPLE_EVERY } else { SECOND };
        if on.env.shard.0 == 0 && now.since(self.memory_read_at) >= read_every {
            self.memory_read_at = now;
            self.under_way.count_links(links_bytes);
            on.publish(&self.under_way);
            let memory = Memory::read(&on.node.memory);
            // Soon after the start shards still take what they begin with.
            let part = if is_young { 2 } else { 8 };
            on.node.memory.correct(memory.allocated, part);
        }
        self.look_at_clients(on.env, clients, period);
        self.eviction.cron(on);
        evict_clients(clients, on.env, &on.node.memory);
        let mut next = period;
        if let Some(pause) = on.env.pause {
            if pause.until <= now {
                on.env.end_pause(clients);
            } else {
                next = next.min(pause.until - now);
            }
        }
        self.expiry.find_due_slots(on);
        next.max(Ms(1)).duration()
    }

    /// Makes room if more is used than the limit allows; answers which shards are to be asked to do the same. `links_bytes`
    /// looks at the links, which is dear, and done only where it matters.
    pub(super) fn relieve(&mut self, on: &mut Ground<'_>, links_bytes: impl FnOnce() -> usize) -> Vec<ShardId> {
        let limit = on.env.settings.maxmemory as usize;
        let mut counted = on.publish(&self.under_way);
        let mut used = on.node.memory.counted_bytes();
        if used + self.under_way.unsure_bytes() > limit {
            self.under_way.count_links(links_bytes());
            counted = on.publish(&self.under_way);
            used = on.node.memory.counted_bytes();
        }
        if used > limit {
            return self.eviction.relieve(on, &self.under_way, counted, used);
        }
        self.eviction.rest(on, counted);
        Vec::new()
    }

    /// Whether background work has waited so long for an idle moment that it must not wait any more.
    pub(super) fn is_background_overdue(&self, env: &Env) -> bool {
        self.has_background_work(env) && u128::from(env.ticks.ns_since(self.stepped_at)) >= REST.as_nanos()
    }

    fn has_background_work(&self, env: &Env) -> bool {
        !self.held.is_empty() || self.has_work_of_its_own(env)
    }

    /// Whether the next step is one of a command that goes in steps. They and what is nobody's command take turns.
    pub(super) fn is_turn_of_held(&mut self, env: &Env) -> bool {
        let is_others_turn = self.was_held_last && self.has_work_of_its_own(env);
        self.was_held_last = !self.held.is_empty() && !is_others_turn;
        self.was_held_last
    }

    /// A step of background work has ended.
    pub(super) fn note_step(&mut self, env: &mut Env) {
        self.stepped_at = env.tick();
    }

    fn has_work_of_its_own(&self, env: &Env) -> bool {
        !env.garbage.is_empty() || self.expiry.has_work() || self.saver.has_work()
    }

    /// A small step of work that waits for an idle moment. True: there is more.
    pub(super) fn background_step(&mut self, on: &mut Ground<'_>) -> bool {
        if !self.has_work_of_its_own(on.env) {
            return false;
        }
        let began = on.env.tick();
        let deadline = Ticks(began.0 + STEP.as_nanos() as u64);
        let expires_on = self.expiry.expire_some(on, began, deadline);
        self.saver.step(on, deadline);
        let env = &mut *on.env;
        while !env.garbage.is_empty() {
            let freed = env.garbage.free_step(ENTRIES_BETWEEN_CLOCKS);
            env.stats.counts.lazy_freed_objects += freed as u64;
            if env.clock.ticks() >= deadline {
                break;
            }
        }
        self.stepped_at = env.tick();
        expires_on || !env.garbage.is_empty() || self.saver.has_work() || !self.held.is_empty()
    }

    /// Looks at so many clients that each is seen about once a second.
    fn look_at_clients(&mut self, env: &Env, clients: &mut Clients, period: Ms) {
        let end = clients.index_end();
        let share = (end as u64 * period.0).div_ceil(SECOND.0).min(end as u64);
        let timeout = Ms::from_seconds(u64::from(env.settings.timeout));
        for _ in 0..share {
            if self.next_client >= end {
                self.next_client = 0;
            }
            let index = self.next_client;
            self.next_client += 1;
            let Some(client) = clients.at(index) else { continue };
            let idle = env.now.since(client.last_interaction);
            if timeout > Ms::ZERO && idle > timeout && may_time_out(client) {
                tracing::debug!("Closing idle client");
                client.is_killed = true;
                clients.list(index);
                continue;
            }
            client.give_back(env.now, env.reply_resizing);
            self.under_way.count_input(client);
            self.under_way.count_output(client);
            // Whoever owns the socket looks whether it has been above the limit for too long.
            if client.above_soft_limit_since.is_some() {
                clients.list(index);
            }
        }
    }
}

/// Whether a client has too much unsent output (`client-output-buffer-limit`): beyond the hard limit at once, beyond
/// the soft limit if that has lasted. Says so in the log, and counts it.
pub(super) fn is_over_output_limit(client: &mut Client, env: &mut Env) -> bool {
    let limit = env.settings.client_output_buffer_limit.of(client.mode.output_class());
    if !is_beyond(limit, client, env.now) {
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
    env.stats.counts.output_limit_disconnections += 1;
    true
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
        let registration = ClientTable::new()
            .register(place, "127.0.0.1:1", 1)
            .expect("there is room");
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
