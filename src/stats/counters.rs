//! The counters of a shard, each declared once: its name, how several shards' are put together, where INFO shows it and as what.
//!
//! INFO, RESETSTAT and the sum over shards all read this table; whoever counts something new adds a row. A figure that is shown in other
//! units than it is counted in says so in its row.

use crate::base::section::Section;

/// How the figures of several shards become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combine {
    /// They are added up.
    Sum,
    /// The largest stands for all.
    Max,
}

/// A counter as INFO knows it.
pub struct Counter {
    /// The field's name in INFO; empty: it is shown in no field of its own.
    pub field: &'static str,
    /// The section that it stands in.
    pub section: &'static str,
    /// So many of what is counted are one of what is shown.
    pub unit: u64,
    /// How several shards' become one.
    pub combine: Combine,
    /// What it counts.
    pub help: &'static str,
    read: fn(&Counts) -> u64,
}

macro_rules! counters {
    ($($(#[doc = $help:literal])+ $name:ident: $combine:ident, $section:literal $field:literal / $unit:literal;)+) => {
        /// What a shard counts, or the sum over several.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[doc = $help])+ pub $name: u64,)+
        }

        /// All counters, in the order of their declaration.
        pub const COUNTERS: &[Counter] = &[
            $(Counter {
                field: $field,
                section: $section,
                unit: $unit,
                combine: Combine::$combine,
                help: concat!($($help),+),
                read: |counts| counts.$name,
            },)+
        ];

        impl Counts {
            /// Puts another shard's figures together with these.
            pub fn add(&mut self, other: &Counts) {
                $(self.$name = match Combine::$combine {
                    Combine::Sum => self.$name + other.$name,
                    Combine::Max => self.$name.max(other.$name),
                };)+
            }
        }
    };
}

counters! {
    /// Commands that were run, rejected ones not included.
    commands_processed: Sum, "stats" "total_commands_processed" / 1;
    /// Connections that were accepted.
    connections_received: Sum, "stats" "total_connections_received" / 1;
    /// Connections that were refused for `maxclients`.
    rejected_connections: Sum, "stats" "rejected_connections" / 1;
    /// Bytes that clients have sent.
    input_bytes: Sum, "stats" "total_net_input_bytes" / 1;
    /// Bytes that clients were sent.
    output_bytes: Sum, "stats" "total_net_output_bytes" / 1;
    /// Look-ups for reading that found a key.
    keyspace_hits: Sum, "stats" "keyspace_hits" / 1;
    /// Look-ups for reading that found none.
    keyspace_misses: Sum, "stats" "keyspace_misses" / 1;
    /// Keys that were deleted because their time was over.
    expired_keys: Sum, "stats" "expired_keys" / 1;
    /// Fields of hashes that were deleted because their time was over.
    expired_subkeys: Sum, "stats" "expired_subkeys" / 1;
    /// Keys that were evicted.
    evicted_keys: Sum, "stats" "evicted_keys" / 1;
    /// Clients that were evicted.
    evicted_clients: Sum, "stats" "evicted_clients" / 1;
    /// Microseconds during which memory was above its limit because eviction had run out of time.
    eviction_exceeded_us: Max, "stats" "total_eviction_exceeded_time" / 1000;
    /// Microseconds spent in active expiry.
    active_expire_us: Sum, "stats" "expire_cycle_cpu_milliseconds" / 1000;
    /// How often active expiry ran out of time.
    expire_time_cap_reached: Sum, "stats" "expired_time_cap_reached_count" / 1;
    /// Replicas that have asked for a data set, or were given one instead of what they lacked.
    full_syncs: Sum, "stats" "sync_full" / 1;
    /// Replicas that were given what they lacked.
    partial_syncs: Sum, "stats" "sync_partial_ok" / 1;
    /// Replicas that wanted what they lacked, and could not be given it.
    refused_partial_syncs: Sum, "stats" "sync_partial_err" / 1;
    /// Changes to the keyspace.
    changes: Sum, "persistence" "rdb_changes_since_last_save" / 1;
    /// Commands that this shard sent to another one.
    hops: Sum, "shards" "" / 1;
    /// Clients that were disconnected because they sent too much that could not be run.
    query_limit_disconnections: Sum, "stats" "client_query_buffer_limit_disconnections" / 1;
    /// Clients that were disconnected because they did not read what they were sent.
    output_limit_disconnections: Sum, "stats" "client_output_buffer_limit_disconnections" / 1;
    /// How often bytes came from a client.
    reads_processed: Sum, "stats" "total_reads_processed" / 1;
    /// How often output was handed to the network.
    writes_processed: Sum, "stats" "total_writes_processed" / 1;
    /// Passes of the shard's loop.
    loop_passes: Sum, "stats" "eventloop_cycles" / 1;
    /// Microseconds that they took, sleeping excepted.
    loop_us: Sum, "stats" "eventloop_duration_sum" / 1;
    /// The part of it that commands took.
    loop_command_us: Sum, "stats" "eventloop_duration_cmd_sum" / 1;
    /// The CPU time of the longest pass, in microseconds, since `latency-monitor-threshold` is set.
    loop_longest_cpu_us: Max, "stats" "eventloop_longest_cpu_usec" / 1;
    /// Microseconds that commands took.
    command_us: Sum, "stats" "" / 1;
    /// Values that were freed in the background.
    lazy_freed_objects: Sum, "memory" "lazyfreed_objects" / 1;
    /// Attempts to authenticate that failed.
    acl_denied_auth: Sum, "stats" "acl_access_denied_auth" / 1;
}

impl Counts {
    /// Writes the counter that INFO shows as this field.
    pub fn write_field(&self, field: &'static str, out: &mut Section) {
        out.field(field, self.shown(field));
    }

    fn shown(&self, field: &str) -> u64 {
        let counter = COUNTERS.iter().find(|counter| counter.field == field);
        let counter = counter.unwrap_or_else(|| panic!("no counter is shown as {field}"));
        (counter.read)(self) / counter.unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_put_together_and_shown() {
        let mut all = Counts {
            keyspace_hits: 2,
            eviction_exceeded_us: 5_000,
            ..Counts::default()
        };
        all.add(&Counts {
            keyspace_hits: 3,
            eviction_exceeded_us: 4_000,
            active_expire_us: 2_999,
            ..Counts::default()
        });
        let shown = |field| all.shown(field);
        assert_eq!(shown("keyspace_hits"), 5);
        assert_eq!(shown("total_eviction_exceeded_time"), 5, "the longest, in milliseconds");
        assert_eq!(shown("expire_cycle_cpu_milliseconds"), 2);
        let mut names: Vec<_> = COUNTERS
            .iter()
            .map(|counter| counter.field)
            .filter(|field| !field.is_empty())
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "a field is declared twice");
        assert!(
            COUNTERS
                .iter()
                .all(|counter| !counter.help.is_empty() && counter.unit > 0)
        );
    }
}
