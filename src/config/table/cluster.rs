//! Parameters of Redis Cluster.

/// Adds this file's rows and hands all of them to `$next`.
macro_rules! cluster_parameters {
    ($next:ident $($after:ident)*; $($rows:tt)*) => { $next! { $($after)*; $($rows)*

chapter "CLUSTER";

    /// Whether this server is a node of a cluster.
    "cluster-enabled" => cluster_enabled: bool = Kind::Bool, "no", Flags::IMMUTABLE, Cluster;

    /// The file in which the node keeps what it knows of the cluster. The node writes it; nobody else should.
    "cluster-config-file" => cluster_config_file: Text = Kind::Text(check::any), "nodes.conf", Flags::IMMUTABLE, Cluster;

    /// After how many milliseconds without an answer a node is taken for failing.
    "cluster-node-timeout" => cluster_node_timeout: u64 = integer(0, I64), "15000", Flags::NONE, Cluster;

    /// The port of the cluster bus. 0 is the client port plus 10000.
    "cluster-port" => cluster_port: u16 = integer(0, 65535), "0", Flags::IMMUTABLE, Network;

    /// How old a replica's data may be for it to take its master's place, in multiples of the node timeout. 0 is any age.
    "cluster-replica-validity-factor" | "cluster-slave-validity-factor" => cluster_replica_validity_factor: u32 = integer(0, I32), "10", Flags::NONE, Cluster;

    /// How many replicas a master keeps when it gives one to a master that has none.
    "cluster-migration-barrier" => cluster_migration_barrier: u32 = integer(0, I32), "1", Flags::NONE, Cluster;

    /// Whether replicas may move to masters that have none.
    "cluster-allow-replica-migration" => cluster_allow_replica_migration: bool = Kind::Bool, "yes", Flags::NONE, Cluster;

    /// Whether the whole cluster stops answering when a slot has no node.
    "cluster-require-full-coverage" => cluster_require_full_coverage: bool = Kind::Bool, "yes", Flags::NONE, Cluster;

    /// Whether this replica never takes its master's place by itself.
    "cluster-replica-no-failover" | "cluster-slave-no-failover" => cluster_replica_no_failover: bool = Kind::Bool, "no", Flags::NONE, Cluster;

    /// Whether a node answers reads while the cluster is down.
    "cluster-allow-reads-when-down" => cluster_allow_reads_when_down: bool = Kind::Bool, "no", Flags::NONE, Cluster;

    /// Whether a node serves sharded Pub/Sub while the cluster is down.
    "cluster-allow-pubsubshard-when-down" => cluster_allow_pubsubshard_when_down: bool = Kind::Bool, "yes", Flags::NONE, Cluster;

    /// Drop the connection to a node that has not taken this many bytes. 0 is no limit.
    "cluster-link-sendbuf-limit" => cluster_link_sendbuf_limit: u64 = memory(0, u64::MAX), "0", Flags::NONE, Cluster;

    /// The address that other nodes and clients are told, where the node's own is translated on the way.
    "cluster-announce-ip" => cluster_announce_ip: Text = Kind::Text(check::any), "", Flags::NONE, Network;

    /// The client port that is told. 0 is `port`.
    "cluster-announce-port" => cluster_announce_port: u16 = integer(0, 65535), "0", Flags::NONE, Network;

    /// The TLS port that is told. 0 is `tls-port`.
    "cluster-announce-tls-port" => cluster_announce_tls_port: u16 = integer(0, 65535), "0", Flags::NONE, Cluster;

    /// The port of the cluster bus that is told.
    "cluster-announce-bus-port" => cluster_announce_bus_port: u16 = integer(0, 65535), "0", Flags::NONE, Network;

    /// The host name that is told.
    "cluster-announce-hostname" => cluster_announce_hostname: Text = Kind::Text(check::host_name), "", Flags::NONE, Network;

    /// A name for people to read, in the log of this node and of the others.
    "cluster-announce-human-nodename" => cluster_announce_human_nodename: Text = Kind::Text(check::node_name), "", Flags::NONE, Cluster;

    /// What clients are told to connect to: address, host name, or nothing, so that they reuse the endpoint they know.
    "cluster-preferred-endpoint-type" => cluster_preferred_endpoint_type: EndpointType = Kind::Choice(EndpointType::NAMES), "ip", Flags::NONE, Network;

    } };
}

pub(in crate::config) use cluster_parameters;
