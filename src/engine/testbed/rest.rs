//! What must be true when everything has come to rest: nobody waits for anything, and nothing is left of what was there.

use super::judge::Failure;
use super::run::Run;
use super::syncs::has_file;
use crate::client::Stall;
use crate::engine::{attempt, log};
use crate::shard::link::STAGED_BYTES_KEPT;

/// What a shard may keep of what it has taken, links excepted: counters, buffers that are kept on purpose.
const KEPT_BYTES_MAX: isize = 64 << 10;
/// And more if its log is read: the log's buffer, those of two units (what is logged instead of a command has one of its own), and
/// lists of what follows from a unit.
const LOGGED_KEPT_BYTES_MAX: isize = (log::KEPT_BYTES_MAX + 4 * attempt::KEPT_BYTES_MAX) as isize;
/// And what is kept to encode chunks for an append-only file.
const FILED_KEPT_BYTES_MAX: isize = 64 << 10;

impl Run<'_> {
    /// What must be true when everything has come to rest.
    pub(super) fn check_rest(&mut self) -> Result<(), Failure> {
        let wrong = |kind, text: String| Err(Failure::new(kind, text));
        if !self.engine.clients.is_empty() {
            return wrong(
                "rest",
                format!("{} clients are left in the table", self.engine.clients.len()),
            );
        }
        let mut slots_seen = 0;
        for shard in 0..self.shards.len() {
            let sockets = self.sockets[shard].open_count();
            let has_tasks = !self.engine.tasks[shard].is_empty();
            let mut local = self.engine.shards[shard].borrow_mut();
            let clients: Vec<String> = local
                .clients
                .iter()
                .map(|client| client.session.address.to_string())
                .collect();
            let waiting = local.clients.iter().filter(|client| client.stall != Stall::Not).count();
            if !clients.is_empty() || sockets > 0 {
                return wrong(
                    "rest",
                    format!("shard {shard} has clients left: {clients:?}, {waiting} of which wait; {sockets} sockets"),
                );
            }
            if has_tasks {
                return wrong("rest", format!("shard {shard} has tasks left"));
            }
            if !local.core.is_idle() {
                return wrong("rest", format!("shard {shard} has units of work or loans left"));
            }
            if local.clients.has_listed() || local.link().has_backlog() {
                return wrong("rest", format!("shard {shard} has something left to do"));
            }
            if local.has_unreleased() || local.env.mailbox.holds_any() {
                return wrong(
                    "rest",
                    format!("shard {shard} has something left to release, or to deliver"),
                );
            }
            if !local.awaited.is_empty() {
                return wrong("rest", format!("shard {shard} has replies that wait for deliveries"));
            }
            if !local.env.garbage.is_empty() {
                return wrong("rest", format!("shard {shard} has something left to free"));
            }
            for (index, slot) in local.core.contents_here() {
                slots_seen += 1;
                if slot.key_count() > 0 || slot.watched_count() > 0 || slot.has_waiters() {
                    return wrong(
                        "rest",
                        format!(
                            "slot {index} has {} keys, {} watched, {} waited for",
                            slot.key_count(),
                            slot.watched_count(),
                            slot.awaited_count()
                        ),
                    );
                }
            }
        }
        if slots_seen != usize::from(self.story.slot_count) {
            return wrong("rest", format!("{slots_seen} slots are there"));
        }
        let node = self.engine.shards[0].borrow().node.clone();
        self.judge.history.check_rest(node.turns.end_offset())?;
        for shard in &self.engine.shards {
            shard.borrow_mut().stop_listening();
        }
        if node.hearers.is_any() {
            return wrong("rest", "somebody listens still".to_owned());
        }
        // As long as commands were slow, and no longer than it may be: that is nothing that was forgotten.
        for shard in 0..self.shards.len() {
            self.engine.with(shard, |local| local.env.stats.slow_log.clear());
        }
        let left = self.engine.taken_bytes() - self.taken_at_start;
        let shards = self.shards.len();
        let staged_max = shards * (shards - 1) * STAGED_BYTES_KEPT;
        let logged_max = match (has_file(self.story), self.story.features.has("logged")) {
            (true, _) => LOGGED_KEPT_BYTES_MAX + FILED_KEPT_BYTES_MAX,
            (false, true) => LOGGED_KEPT_BYTES_MAX,
            (false, false) => 0,
        };
        let kept_max = (KEPT_BYTES_MAX + logged_max) * shards as isize + staged_max as isize;
        let is_checked = !self.without.iter().any(|check| check == "memory-check");
        if is_checked && left > kept_max {
            return wrong("memory", format!("{left} bytes were not given back"));
        }
        Ok(())
    }
}
