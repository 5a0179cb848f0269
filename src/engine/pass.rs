//! One pass of a shard, sockets excepted: what it does, in which order, and when it is due again.
//!
//! Whoever owns the sockets (the reactor; a simulation) calls [`Local::begin_pass`], hands in what has come
//! ([`Local::connect`], [`Local::receive`], [`Local::peer_closed`], [`Local::list`] when a connection is drained), and calls
//! [`Local::finish_pass`], which handles what other shards have sent, does the periodic work that is due, and gives out what came of
//! it all through a [`Wire`]. Everything that decides when output leaves, when a connection ends and when its peer is read from stands
//! here, so that it is tested where no socket is.
//!
//! Replies to a pipeline whose later commands are under way on other shards are *corked*: they wait for these, for
//! [`CORKED_AT_MOST`], so that the batch leaves in one segment. A send is the dearest thing that a shard does.
//!
//! Invariants:
//! 1. a client that is closing reads nothing more, and its connection ends when its replies are written;
//! 2. what has arrived before the peer closed its side is run before the connection ends.

use super::local::Local;
use super::wire::{Handed, Passes, Wire};
use crate::base::clock::Ticks;
use crate::client::{Client, Stall};
use std::time::Duration;

/// Unread requests of a client that waits for an earlier one: beyond this the socket is not read, so that the peer
/// feels it.
const STALLED_QUERY_BYTES_MAX: usize = 64 * 1024;

/// How long replies wait for those behind them that other shards owe. A shard that is awake answers within some 20 µs, one
/// that shares its core within a scheduling slice; beyond that the client is better served with what is there. With 50
/// clients, a pipeline of 16 and 4 shards it took operations of the ring for each request from 0.095 to 0.073.
const CORKED_AT_MOST: Duration = Duration::from_micros(250);

/// Replies of more than this leave at once: they fill segments of their own.
const CORKED_BYTES_MAX: usize = 16 * 1024;

impl Local {
    /// Begins a pass: reads the clocks, and does background work if that has waited for too long.
    pub fn begin_pass(&mut self) {
        self.env.begin_pass();
        self.passes.began = self.env.ticks;
        self.passes.busy_us_before = self.env.stats.counts.command_us;
        // The replies of the last pass are on their way by now, so that only what has just come waits for this.
        self.passes.is_busy = self.is_background_overdue() && self.background_step();
    }

    /// Does the rest of a pass. True: there is more to do at once.
    pub fn finish_pass(&mut self, wire: &mut impl Wire) -> bool {
        let mut is_busy = self.passes.is_busy;
        is_busy |= self.drain_links() > 0;
        if self.env.tick() >= self.passes.cron_due {
            let pause = self.cron();
            self.passes.cron_due = Ticks(self.env.ticks.0.saturating_add(pause.as_nanos() as u64));
        }
        self.upkeep.under_way.count_wire(wire.held_bytes());
        is_busy |= self.settle_memory();
        while let Some(index) = self.next_listed() {
            is_busy = true;
            self.serve(index, wire);
        }
        self.uncork(wire);
        self.upkeep.under_way.count_wire(wire.held_bytes());
        let ended = self.env.tick();
        let Passes {
            began, busy_us_before, ..
        } = self.passes;
        self.env.stats.count_pass(ended.us_since(began), busy_us_before);
        self.link().flush(|target| wire.wake(target));
        // What was left out for what has gone now would be room for data.
        self.count_links();
        is_busy |= self.let_waiting_go_on();
        is_busy || self.background_step()
    }

    /// Lets clients go on that waited for room in a link. True: there were any.
    fn let_waiting_go_on(&mut self) -> bool {
        if self.waiting_for_room.is_empty() || !self.outbound.has_room_everywhere() {
            return false;
        }
        for place in std::mem::take(&mut self.waiting_for_room) {
            if let Some(client) = self.clients.get(place)
                && client.stall == Stall::Link
            {
                client.stall = Stall::Not;
            }
            self.list(place.index);
        }
        true
    }

    /// The peer sends nothing more. What it has sent before is run and answered still: it may have closed its sending side only.
    pub fn peer_closed(&mut self, index: u32) {
        if let Some(client) = self.clients.at(index) {
            client.is_half_closed = true;
            self.list(index);
        }
    }

    /// When the next pass is due, if nothing happens before.
    pub fn next_deadline(&self) -> Ticks {
        let uncork = self.passes.corked.front().map(|(since, _)| corked_until(*since));
        uncork.map_or(self.passes.cron_due, |uncork| uncork.min(self.passes.cron_due))
    }

    /// Serves the clients whose replies have waited long enough, and forgets those that did not need it.
    fn uncork(&mut self, wire: &mut impl Wire) {
        while let Some(&(since, index)) = self.passes.corked.front() {
            let is_waiting = self
                .clients
                .at(index)
                .is_some_and(|client| client.corked_at == Some(since));
            if is_waiting && self.env.ticks < corked_until(since) {
                break;
            }
            self.passes.corked.pop_front();
            if is_waiting {
                self.serve(index, wire);
            }
        }
    }

    /// Hands a client's output over, and sees whether its connection goes on.
    fn serve(&mut self, index: u32, wire: &mut impl Wire) {
        let now = self.env.ticks;
        let Some(client) = self.clients.at(index) else { return };
        // What is beyond the client's limit ends it, and waits for nothing.
        let corked_max = CORKED_BYTES_MAX.min(self.env.reply_bytes_max);
        let waits = !client.pending.is_empty() && !client.is_killed && client.out.len() < corked_max;
        if waits && !client.out.is_empty() {
            match client.corked_at {
                None => {
                    client.corked_at = Some(now);
                    self.passes.corked.push_back((now, index));
                    return;
                }
                Some(since) if now < corked_until(since) => return,
                Some(_) => {}
            }
        }
        client.corked_at = None;
        client.usage.note(0, client.out.len());
        client.in_flight_bytes = wire.queued_bytes(index);
        if self.is_over_output_limit(index) {
            return self.end(index, wire, true);
        }
        let Some(client) = self.clients.at(index) else { return };
        let mut is_written = true;
        if !client.out.is_empty() {
            let output_bytes = client.out.len() as u64;
            match wire.send(index, &mut client.out) {
                Handed::Taken => {
                    self.env.stats.counts.output_bytes += output_bytes;
                    self.env.stats.counts.writes_processed += 1;
                }
                Handed::Busy => is_written = false,
                Handed::Gone => {}
            }
        }
        client.in_flight_bytes = wire.queued_bytes(index);
        self.upkeep.under_way.count_output(client);
        if client.is_killed {
            return self.end(index, wire, true);
        }
        let is_over = match client.is_closing {
            true => client.pending.is_empty(),
            false => client.is_half_closed && !client.has_work(),
        };
        if is_over && is_written {
            return self.end(index, wire, false);
        }
        throttle(client, wire);
    }

    /// Ends a client and its connection.
    fn end(&mut self, index: u32, wire: &mut impl Wire, at_once: bool) {
        self.disconnect(index);
        wire.close(index, at_once);
    }
}

fn corked_until(since: Ticks) -> Ticks {
    Ticks(since.0 + CORKED_AT_MOST.as_nanos() as u64)
}

/// Stops reading from a peer that sends on while an earlier request of it is under way.
fn throttle(client: &mut Client, wire: &mut impl Wire) {
    let reads = client.stall == Stall::Not || client.query_bytes() <= STALLED_QUERY_BYTES_MAX;
    if reads != client.is_read {
        client.is_read = reads;
        wire.read_on(client.place.index, reads);
    }
}
