//! How many clients there are and what they take, over any number of them, for those who tell people.

use super::{Client, Mode};
use crate::base::section::Section;
use crate::config::Settings;
use crate::store::Attention;

/// Some clients.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientFigures {
    pub count: usize,
    /// How many have keys under WATCH, and how many keys that are.
    watching: usize,
    watched_keys: usize,
    subscribed: usize,
    /// How many cache keys.
    tracking: usize,
    /// How many wait for keys, and how many of them not for ever.
    blocked: usize,
    pub timed: usize,
    /// The most input that one of them has in memory, and the most output.
    query_bytes_max: usize,
    output_bytes_max: usize,
    /// What they take, in bytes.
    pub total_bytes: usize,
}

impl ClientFigures {
    /// Counts a client, as it is now.
    pub fn count(&mut self, client: &Client) {
        let memory = client.memory();
        let query_bytes = memory.arriving_bytes + memory.query_bytes + memory.query_free_bytes;
        self.add(&ClientFigures {
            count: 1,
            watching: usize::from(!client.watched.is_empty()),
            watched_keys: client.watched.len(),
            subscribed: usize::from(client.mode == Mode::Subscribed),
            tracking: usize::from(client.session.tracking.is_some()),
            blocked: usize::from(client.mode == Mode::Blocked),
            timed: 0,
            query_bytes_max: query_bytes,
            output_bytes_max: memory.waiting_bytes + memory.behind_bytes,
            total_bytes: memory.total_bytes,
        });
    }

    /// Adds the figures of other clients.
    pub fn add(&mut self, other: &ClientFigures) {
        self.count += other.count;
        self.watching += other.watching;
        self.watched_keys += other.watched_keys;
        self.subscribed += other.subscribed;
        self.tracking += other.tracking;
        self.blocked += other.blocked;
        self.timed += other.timed;
        self.query_bytes_max = self.query_bytes_max.max(other.query_bytes_max);
        self.output_bytes_max = self.output_bytes_max.max(other.output_bytes_max);
        self.total_bytes += other.total_bytes;
    }

    /// Writes what INFO says of clients, and of the keys for which some of them wait.
    pub fn write_section(&self, settings: &Settings, attention: &Attention, out: &mut Section) {
        out.field("connected_clients", self.count);
        out.field("cluster_connections", 0);
        out.field("maxclients", settings.maxclients);
        out.field("client_recent_max_input_buffer", self.query_bytes_max);
        out.field("client_recent_max_output_buffer", self.output_bytes_max);
        out.field("blocked_clients", self.blocked);
        out.field("tracking_clients", self.tracking);
        out.field("pubsub_clients", self.subscribed);
        out.field("watching_clients", self.watching);
        out.field("clients_in_timeout_table", self.timed);
        out.field("total_watched_keys", self.watched_keys);
        out.field("total_blocking_keys", attention.awaited_keys());
        out.field("total_blocking_keys_on_nokey", attention.minded_keys());
    }
}
