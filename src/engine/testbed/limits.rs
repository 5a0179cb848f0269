//! What clients may take of the server's memory, and which of them may be ended for that.
//!
//! Two parameters bound it: `client-output-buffer-limit` what waits for one client, `maxmemory-clients` what all of them take. The
//! engine weighs its buffers. Here it is reckoned from outside, by what a client has sent, what it is owed and what it has not
//! read; so what is asked of the engine is asked with some room. Checked is that
//!
//! 1. a client is ended at once only if it may have been owed as much as its output may be, or all clients together may have taken as much as
//!    they may; and for that, none that is exempt;
//! 2. at the end of a pass, no client has more output waiting than it may, and than waits for later replies of its pipeline;
//! 3. what waits for later replies has not waited for too long when a pass begins that hands it over;
//! 4. at the end of a pass, a peer is read from unless it waits for an earlier request and has sent more than may lie behind that;
//! 5. when all have been left alone for a while, they take no more than they may, unless only exempt ones are left.

use super::judge::Failure;
use super::run::Run;
use super::sockets::Closed;
use super::story::Story;
use crate::client::Stall;

/// The lowest limit for all clients that is obeyed. Redis's figure.
const CLIENTS_BYTES_MIN: usize = 128 << 10;
/// Output that may wait for later replies of a pipeline.
const CORKED_BYTES_MAX: usize = 16 << 10;
/// And for so long.
const CORKED_NS_MAX: u64 = 250_000;
/// Requests that may lie behind one that is waited for.
const STALLED_BYTES_MAX: usize = 64 << 10;
/// What a client takes that has sent nothing, at most, and for each request.
const CLIENT_BYTES_MAX: usize = 8 << 10;
const REQUEST_BYTES_MAX: usize = 1 << 10;
/// Buffers grow by doubling, and what is in them is copied once.
const COPIES_MAX: usize = 3;
/// Several rounds of each shard's periodic work.
const SETTLING_NS: u64 = 500_000_000;

/// The limits of a run; None: there is none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    /// Of each client's output.
    output_bytes: Option<usize>,
    /// Of what all clients take.
    clients_bytes: Option<usize>,
}

impl Limits {
    pub(super) fn of(story: &Story) -> Limits {
        let value = |name: &str| story.parameters.iter().find(|(other, _)| other == name);
        let number = |text: &str| text.parse().ok().filter(|bytes| *bytes > 0);
        let output = value("client-output-buffer-limit").and_then(|(_, text)| text.split(' ').nth(1));
        let clients = value("maxmemory-clients").and_then(|(_, text)| number(text));
        Limits {
            output_bytes: output.and_then(number),
            clients_bytes: clients.map(|bytes: usize| bytes.max(CLIENTS_BYTES_MIN)),
        }
    }

    /// Each client's output may be as long as it likes from now on.
    pub(super) fn lift_output(&mut self) {
        self.output_bytes = None;
    }

    /// Whether all clients together have a limit.
    pub(super) fn bound_all(&self) -> bool {
        self.clients_bytes.is_some()
    }

    /// How long all are left alone before it is looked at what they take.
    pub(super) fn settling_ns(&self) -> u64 {
        self.clients_bytes.map_or(0, |_| SETTLING_NS)
    }
}

impl Run<'_> {
    /// Whether there was a reason to end a client at once.
    pub(super) fn has_taken_too_much(&self, closed: &Closed) -> bool {
        let owed_bytes = closed.flight_bytes + self.judge.owed_bytes(closed.client);
        if self.limits.output_bytes.is_some_and(|limit| owed_bytes >= limit) {
            return true;
        }
        let may_take = |client: usize| {
            let peer = &self.peers[client];
            let moved_bytes = peer.begun_bytes() + peer.written_bytes + self.judge.owed_bytes(client);
            CLIENT_BYTES_MAX + REQUEST_BYTES_MAX * peer.sent + COPIES_MAX * moved_bytes
        };
        // Those that have left are in the figures of their shards until its next round.
        let may_take_all = || (0..self.peers.len()).map(may_take).sum::<usize>();
        let is_exempt = self.judge.is_exempt(closed.client);
        let limit = self.limits.clients_bytes.filter(|_| !is_exempt);
        limit.is_some_and(|limit| may_take_all() >= limit)
    }

    /// What waits for the clients of a shard that has just finished a pass, and of them.
    pub(super) fn check_buffers(&mut self, shard: usize, began_ns: u64) -> Result<(), Failure> {
        let limit = self.limits.output_bytes.unwrap_or(usize::MAX);
        let local = self.engine.shards[shard].borrow();
        for client in local.clients.iter() {
            let index = client.place.index;
            let Some(socket) = self.sockets[shard].at(index).filter(|socket| !socket.is_closed) else {
                continue;
            };
            let waiting_bytes = socket.flight_bytes + client.out.len();
            if client
                .corked_at
                .is_some_and(|since| since.0 + CORKED_NS_MAX <= began_ns)
            {
                return Err(Failure::new(
                    "corked",
                    format!(
                        "{} bytes for client {} were held back for too long",
                        client.out.len(),
                        socket.client
                    ),
                ));
            }
            // It is weighed when it has waited long enough for what is behind it, and until then nothing else is seen to.
            let corked_bytes = client.corked_at.map_or(0, |_| limit.min(CORKED_BYTES_MAX));
            let may_send =
                matches!(client.stall, Stall::Not | Stall::Blocked) || client.query_bytes() <= STALLED_BYTES_MAX;
            // (Who waited for a command in steps is seen to in the next pass, if the last step was made behind the end of this one.)
            let is_to_be_seen = self.story.features.has("huge") && local.clients.has_listed();
            if client.corked_at.is_none() && !is_to_be_seen && socket.is_read != may_send {
                return Err(Failure::new(
                    "reading",
                    format!(
                        "client {} has sent {} bytes, waits for {:?}, and is {}read from",
                        socket.client,
                        client.query_bytes(),
                        client.stall,
                        if socket.is_read { "" } else { "not " }
                    ),
                ));
            }
            if waiting_bytes >= limit.saturating_add(corked_bytes) {
                return Err(Failure::new(
                    "limit",
                    format!("{waiting_bytes} bytes wait for client {}, of {limit}", socket.client),
                ));
            }
        }
        Ok(())
    }

    /// What all clients take when nothing has happened for a while.
    pub(super) fn check_clients(&mut self) -> Result<(), Failure> {
        let Some(limit) = self.limits.clients_bytes else {
            return Ok(());
        };
        let (mut bytes, mut has_evictable) = (0, false);
        for shard in &self.engine.shards {
            let local = shard.borrow();
            for client in local.clients.iter() {
                bytes += client.memory().total_bytes;
                has_evictable |= !client.session.is_exempt_from_eviction;
            }
        }
        match bytes > limit && has_evictable {
            true => Err(Failure::new("limit", format!("clients take {bytes} bytes, of {limit}"))),
            false => Ok(()),
        }
    }
}
