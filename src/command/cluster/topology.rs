//! Which nodes there are to be seen, where, and with which slots.
//!
//! ```text
//! shard-ports no            shard-ports yes, 2 shards
//! +--------------------+    +-------------------+ +-----------------------+
//! | node, port 6379    |    | shard 0, port 6380| | shard 1, port 6381    |
//! | slots 0-16383      |    | slots 0-8191      | | slots 8192-16383      |
//! +--------------------+    +-------------------+ +-----------------------+
//! ```
//!
//! The port of the whole server (6379 above) belongs to no node of the second picture; who asks there is told that
//! `myself` is the shard that serves its connection.
//!
//! Ids are 40 hexadecimal digits, as clients expect. They follow from the run id of the process and the number of the
//! shard, so all connections are told the same ones, and a restarted server is a new set of nodes.
//!
//! There is no bus between nodes yet: where a bus port is shown and none is announced, it is 0.

use crate::base::slot::SLOT_COUNT;
use crate::config::{EndpointType, Settings};
use crate::engine::Context;
use crate::engine::Local;
use crate::resp::Reply;
use sha1::{Digest, Sha1};

/// The nodes that a client is told of.
pub(super) struct Topology {
    pub(super) nodes: Vec<NodeView>,
    /// Index of the one that the client talks to.
    my_index: usize,
    address: String,
    hostname: String,
    endpoint_type: EndpointType,
}

/// One node.
pub(super) struct NodeView {
    pub(super) id: String,
    /// The id of its group of replicas, in which it is alone.
    pub(super) group_id: String,
    port: u16,
    bus_port: u16,
    /// Different for each node, as the owners of slots must have.
    pub(super) epoch: usize,
    /// First and last slot of each range, ascending.
    ranges: Vec<(u16, u16)>,
}

impl Topology {
    /// What the client of this call is told.
    pub(super) fn of(context: &Context) -> Topology {
        let local_address = context.session.local_address.clone();
        let shard = context.place.shard.0 as usize;
        context.with(|local| Topology::seen_from(local, &local_address, shard))
    }

    fn seen_from(local: &Local, local_address: &str, shard: usize) -> Topology {
        let settings = &local.env.settings;
        let node = &local.node;
        let owners: Vec<usize> = (0..SLOT_COUNT as u16)
            .map(|slot| local.core.owner(slot).0 as usize)
            .collect();
        let bus_port = match (settings.cluster_announce_bus_port, settings.cluster_port) {
            (0, configured) => configured,
            (announced, _) => announced,
        };
        let (nodes, my_index) = if settings.shard_port(0).is_none() {
            let port = match settings.cluster_announce_port {
                0 => settings.port,
                announced => announced,
            };
            let all = NodeView::new(&node.run_id, 0, port, bus_port, vec![(0, SLOT_COUNT as u16 - 1)]);
            (vec![all], 0)
        } else {
            let ranges = ranges_of(&owners, node.shards).into_iter().enumerate();
            let nodes = ranges
                .map(|(index, own)| {
                    let port = settings.shard_port(index).and_then(|port| u16::try_from(port).ok());
                    let port = port.expect("a port that does not exist could not be listened on");
                    NodeView::new(&node.run_id, index, port, bus_port, own)
                })
                .collect();
            (nodes, shard)
        };
        Topology {
            nodes,
            my_index,
            address: announced_address(settings, local_address),
            hostname: settings.cluster_announce_hostname.to_string_lossy().into_owned(),
            endpoint_type: settings.cluster_preferred_endpoint_type,
        }
    }

    /// The node that the client talks to.
    pub(super) fn me(&self) -> &NodeView {
        &self.nodes[self.my_index]
    }

    /// The greatest epoch of a node.
    pub(super) fn current_epoch(&self) -> usize {
        self.nodes.iter().map(|node| node.epoch).max().unwrap_or(0)
    }

    /// The lines of CLUSTER NODES.
    pub(super) fn to_lines(&self) -> String {
        let mut text = String::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let NodeView {
                id,
                port,
                bus_port,
                epoch,
                ranges,
                ..
            } = node;
            let hostname = match self.hostname.as_str() {
                "" => String::new(),
                name => format!(",{name}"),
            };
            let flags = if index == self.my_index {
                "myself,master"
            } else {
                "master"
            };
            let address = &self.address;
            text.push_str(&format!(
                "{id} {address}:{port}@{bus_port}{hostname} {flags} - 0 0 {epoch} connected"
            ));
            for (first, last) in ranges {
                if first == last {
                    text.push_str(&format!(" {first}"));
                } else {
                    text.push_str(&format!(" {first}-{last}"));
                }
            }
            text.push('\n');
        }
        text
    }

    /// The reply of CLUSTER SLOTS.
    pub(super) fn reply_slots(&self, reply: &mut Reply<'_>) {
        let ranges = self
            .nodes
            .iter()
            .flat_map(|node| node.ranges.iter().map(move |range| (*range, node)));
        let mut ranges: Vec<_> = ranges.collect();
        ranges.sort_unstable_by_key(|(range, _)| *range);
        reply.array(ranges.len());
        for ((first, last), node) in ranges {
            reply.array(3);
            reply.integer(first as i64);
            reply.integer(last as i64);
            reply.array(4);
            self.reply_endpoint(reply);
            reply.integer(node.port as i64);
            reply.bulk_string(&node.id);
            let others = self.other_endpoints();
            reply.map(others.len());
            for (kind, value) in others {
                reply.bulk_string(kind);
                reply.bulk_string(value);
            }
        }
    }

    /// The reply of CLUSTER SHARDS.
    pub(super) fn reply_shards(&self, reply: &mut Reply<'_>) {
        reply.array(self.nodes.len());
        for node in &self.nodes {
            reply.map(2);
            reply.bulk_string("slots");
            reply.array(2 * node.ranges.len());
            for (first, last) in &node.ranges {
                reply.integer(*first as i64);
                reply.integer(*last as i64);
            }
            reply.bulk_string("nodes");
            reply.array(1);
            reply.map(7 + !self.hostname.is_empty() as usize);
            reply.bulk_string("id");
            reply.bulk_string(&node.id);
            reply.bulk_string("port");
            reply.integer(node.port as i64);
            reply.bulk_string("ip");
            reply.bulk_string(&self.address);
            reply.bulk_string("endpoint");
            self.reply_endpoint(reply);
            if !self.hostname.is_empty() {
                reply.bulk_string("hostname");
                reply.bulk_string(&self.hostname);
            }
            reply.bulk_string("role");
            reply.bulk_string("master");
            reply.bulk_string("replication-offset");
            reply.integer(0);
            reply.bulk_string("health");
            reply.bulk_string("online");
        }
    }

    /// What clients are to connect to: null is "the host that you know".
    fn reply_endpoint(&self, reply: &mut Reply<'_>) {
        match self.endpoint_type {
            EndpointType::Ip => reply.bulk_string(&self.address),
            EndpointType::Hostname if self.hostname.is_empty() => reply.bulk_string("?"),
            EndpointType::Hostname => reply.bulk_string(&self.hostname),
            EndpointType::UnknownEndpoint => reply.null(),
        }
    }

    /// The other ways to name the host.
    fn other_endpoints(&self) -> Vec<(&str, &str)> {
        let address = ("ip", self.address.as_str());
        let hostname = ("hostname", self.hostname.as_str());
        let others = match self.endpoint_type {
            EndpointType::Ip => vec![hostname],
            EndpointType::Hostname => vec![address],
            EndpointType::UnknownEndpoint => vec![address, hostname],
        };
        others.into_iter().filter(|(_, value)| !value.is_empty()).collect()
    }
}

impl NodeView {
    fn new(run_id: &str, index: usize, port: u16, bus_port: u16, ranges: Vec<(u16, u16)>) -> NodeView {
        NodeView {
            id: derived_id(run_id, "node", index),
            group_id: derived_id(run_id, "group", index),
            port,
            bus_port,
            epoch: index + 1,
            ranges,
        }
    }
}

/// 40 hexadecimal digits that follow from these.
fn derived_id(run_id: &str, what: &str, index: usize) -> String {
    let digest = Sha1::digest(format!("{run_id} {what} {index}"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The ranges of slots of each of `owner_count` owners, given the owner of each slot.
fn ranges_of(owners: &[usize], owner_count: usize) -> Vec<Vec<(u16, u16)>> {
    let mut ranges = vec![Vec::new(); owner_count];
    let mut first = 0;
    for run in owners.chunk_by(|a, b| a == b) {
        ranges[run[0]].push((first as u16, (first + run.len() - 1) as u16));
        first += run.len();
    }
    ranges
}

/// The address that clients are told: the announced one, or the one at which this client has reached the server.
fn announced_address(settings: &Settings, local_address: &str) -> String {
    if !settings.cluster_announce_ip.is_empty() {
        return settings.cluster_announce_ip.to_string_lossy().into_owned();
    }
    match local_address.parse::<std::net::SocketAddr>() {
        // What came in over an IPv6 socket from IPv4 is told the address it knows.
        Ok(address) => address.ip().to_canonical().to_string(),
        // A client of a Unix socket has none.
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_runs_of_one_owner() {
        assert_eq!(
            ranges_of(&[0, 0, 1, 0, 1, 1], 3),
            [vec![(0, 1), (3, 3)], vec![(2, 2), (4, 5)], vec![]]
        );
    }

    #[test]
    fn ids_differ_and_stay() {
        let id = derived_id("r", "node", 0);
        assert!(id.len() == 40 && id.bytes().all(|digit| digit.is_ascii_hexdigit()));
        assert_eq!(id, derived_id("r", "node", 0));
        assert_ne!(id, derived_id("r", "node", 1));
        assert_ne!(id, derived_id("r", "group", 0));
        assert_ne!(id, derived_id("s", "node", 0));
    }

    fn two_nodes() -> Topology {
        Topology {
            nodes: vec![
                NodeView::new("r", 0, 7001, 0, vec![(0, 99), (101, 101)]),
                NodeView::new("r", 1, 7002, 0, vec![(100, 100), (102, 16383)]),
            ],
            my_index: 1,
            address: "10.0.0.7".to_owned(),
            hostname: String::new(),
            endpoint_type: EndpointType::Ip,
        }
    }

    #[test]
    fn lines_name_ranges_and_myself() {
        let topology = two_nodes();
        let [first, second] = [0, 1].map(|index| topology.nodes[index].id.clone());
        assert_eq!(
            topology.to_lines(),
            format!(
                "{first} 10.0.0.7:7001@0 master - 0 0 1 connected 0-99 101\n\
                 {second} 10.0.0.7:7002@0 myself,master - 0 0 2 connected 100 102-16383\n"
            )
        );
    }

    #[test]
    fn an_address_without_its_port() {
        let settings = Settings::default();
        assert_eq!(announced_address(&settings, "10.1.2.3:6379"), "10.1.2.3");
        assert_eq!(announced_address(&settings, "[::1]:6379"), "::1");
        assert_eq!(announced_address(&settings, "[::ffff:10.1.2.3]:6379"), "10.1.2.3");
        assert_eq!(announced_address(&settings, "/tmp/s.sock:0"), "");
    }
}
