//! Clients that listen to channels, and what is published there.
//!
//! Who speaks RESP3 listens beside all that it does otherwise; who speaks RESP2 does little else, as it may not.

use super::{Program, is_map_or_array, is_number};
use shardis::engine::testbed::{Judge, Listening, Plan, Request};
use shardis::pubsub::Kind;
use shardis::resp::Proto;

const CHANNELS: &[&str] = &["channel", "chat", "news"];
const PATTERNS: &[&str] = &["ch*", "*", "n[aeiou]ws", "__keyevent@*", "__keyspace@0__:l*", "c*l"];
const SHARD_CHANNELS: &[&str] = &["channel"];
const EVENTS: &[&str] = &["__keyevent@0__:rpush", "__keyevent@0__:del", "channel"];

/// Whether clients of such a run may listen: where the turns of all messages are known, and no limit of replies holds.
pub(super) fn is_possible(plan: &Plan<'_>) -> bool {
    let has = |feature: &str| plan.features.has(feature);
    has("subscribing") && has("listening") && !has("file") && !has("output-limit")
}

impl Program<'_> {
    /// What is published goes to replicas, too, and to no file: the judge reads logs as if all stood in both.
    pub(super) fn publishes(&self) -> bool {
        self.has("publishing") && self.has("listening") && !self.has("logged") && !self.has("file")
    }

    pub(super) fn publish(&mut self) {
        let has_listeners = is_possible(self.plan);
        let (command, channel) = match (self.one_in(4), has_listeners) {
            (true, _) => ("SPUBLISH", "channel"),
            (false, true) => ("PUBLISH", self.pick(CHANNELS)),
            (false, false) => ("PUBLISH", "channel"),
        };
        // How many hear it the reference does not know.
        let judge = if has_listeners {
            Judge::Holds(is_number)
        } else {
            Judge::Compared
        };
        for _ in 0..if self.one_in(4) { 3 } else { 1 } {
            let text = format!("{} {}", self.client, self.requests.len());
            self.say(&[command, channel, &text], judge);
        }
    }

    /// Decides whether this client listens. True: it does nothing else.
    pub(super) fn begin_to_listen(&mut self) -> bool {
        if !is_possible(self.plan) || self.one_in(3) {
            return false;
        }
        self.listens = self.proto == Proto::Resp3;
        if self.listens {
            self.subscribe();
            return false;
        }
        for _ in 0..self.random.usize_in(1..7) {
            match self.random.below(4) {
                0 => self.say(&["PING"], Judge::Any),
                _ => self.subscribe(),
            }
        }
        true
    }

    /// Begins to listen to something, or ends that.
    pub(super) fn subscribe(&mut self) {
        let (kind, words, names) = match self.random.below(6) {
            0..2 => (Kind::Channel, ["SUBSCRIBE", "UNSUBSCRIBE"], CHANNELS),
            2 => (Kind::Channel, ["SUBSCRIBE", "UNSUBSCRIBE"], EVENTS),
            3 | 4 => (Kind::Pattern, ["PSUBSCRIBE", "PUNSUBSCRIBE"], PATTERNS),
            _ => (Kind::ShardChannel, ["SSUBSCRIBE", "SUNSUBSCRIBE"], SHARD_CHANNELS),
        };
        let begins = !self.one_in(4);
        let count = if self.one_in(3) && kind != Kind::ShardChannel {
            2
        } else {
            1
        };
        let names: Vec<Vec<u8>> = (0..count).map(|_| self.pick(names).as_bytes().to_vec()).collect();
        let word = words[usize::from(!begins)].as_bytes().to_vec();
        let all: Vec<Vec<u8>> = std::iter::once(word).chain(names.iter().cloned()).collect();
        // Each name is confirmed, which is judged by itself.
        let mut request = Request::new(&all, Judge::Holds(is_confirmation));
        request.listens = Some(Listening { kind, begins, names });
        self.push(request);
    }
}

fn is_confirmation(reply: &[u8]) -> bool {
    reply.starts_with(b">3\r\n") || is_map_or_array(reply)
}
