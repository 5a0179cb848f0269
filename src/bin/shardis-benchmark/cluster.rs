//! Which node or port owns a key: the client's side of Redis Cluster.
//!
//! A cluster-aware client computes the hash slot of a key and talks to the owner without asking. CLUSTER SLOTS names the
//! owners. A node of Redis Cluster and a per-core port of one process look the same from here.
//!
//! Invariants:
//! 1. A slot's owner is an index into `nodes`, and nodes are never removed: indices stay valid.
//! 2. Nodes that own nothing but are named in a redirection are added at the end.
//!
//! Sources: the Redis Cluster specification (slots, hash tags, MOVED and ASK) and the page of CLUSTER SLOTS.

use crate::connection::{ConnectError, Endpoint, Socket, Value, ask};

/// Number of hash slots, by the specification.
pub const SLOT_COUNT: usize = 16384;

/// The hash slot of a key: CRC16 (XMODEM) of the key, or of what stands between the first `{` and the next `}` if
/// that is not empty.
pub fn slot_of(key: &[u8]) -> u16 {
    let tag = memchr::memchr(b'{', key)
        .map(|open| &key[open + 1..])
        .and_then(|after| memchr::memchr(b'}', after).map(|close| &after[..close]))
        .filter(|tag| !tag.is_empty())
        .unwrap_or(key);
    crc16::State::<crc16::XMODEM>::calculate(tag) % SLOT_COUNT as u16
}

/// The owners of all slots.
#[derive(Debug, Clone)]
pub struct Topology {
    /// All nodes that are known (invariants 1 and 2).
    pub nodes: Vec<Endpoint>,
    owners: Vec<u16>,
}

impl Topology {
    /// One node that owns everything: any server without cluster mode.
    pub fn single(node: Endpoint) -> Topology {
        Topology {
            nodes: vec![node],
            owners: vec![0; SLOT_COUNT],
        }
    }

    /// Asks a node for the owners of all slots. `contact` is the address that was connected to; its host stands in for
    /// nodes that do not name theirs.
    pub fn discover(socket: &Socket, contact: &Endpoint) -> Result<Topology, ConnectError> {
        let reply = ask(socket, contact, &[b"CLUSTER", b"SLOTS"])?;
        Topology::from_slots_reply(&reply, contact).map_err(|reason| ConnectError::Topology {
            endpoint: contact.clone(),
            reason,
        })
    }

    fn from_slots_reply(reply: &Value, contact: &Endpoint) -> Result<Topology, String> {
        let unexpected = || "CLUSTER SLOTS has an unexpected form".to_owned();
        let Value::Array(ranges) = reply else {
            return Err(unexpected());
        };
        let mut owners: Vec<Option<u16>> = vec![None; SLOT_COUNT];
        let mut topology = Topology {
            nodes: Vec::new(),
            owners: Vec::new(),
        };
        for range in ranges {
            let Value::Array(fields) = range else {
                return Err(unexpected());
            };
            let [Value::Integer(first), Value::Integer(last), Value::Array(node), ..] = &fields[..] else {
                return Err(unexpected());
            };
            let [host, Value::Integer(port), ..] = &node[..] else {
                return Err(unexpected());
            };
            let host = match host {
                Value::Text(host) if !host.is_empty() && host != b"?" => String::from_utf8_lossy(host).into_owned(),
                _ => contact_host(contact),
            };
            let port = u16::try_from(*port).map_err(|_| unexpected())?;
            let index = topology.node_index(&Endpoint::Tcp { host, port });
            let (Ok(first), Ok(last)) = (usize::try_from(*first), usize::try_from(*last)) else {
                return Err(unexpected());
            };
            owners.get_mut(first..=last).ok_or_else(unexpected)?.fill(Some(index));
        }
        topology.owners = owners
            .into_iter()
            .enumerate()
            .map(|(slot, owner)| owner.ok_or_else(|| format!("slot {slot} has no owner")))
            .collect::<Result<_, _>>()?;
        Ok(topology)
    }

    /// Index of the node that owns a slot.
    #[inline]
    pub fn owner(&self, slot: u16) -> usize {
        usize::from(self.owners[usize::from(slot)])
    }

    /// Notes what a MOVED redirection has said.
    pub fn set_owner(&mut self, slot: u16, node_index: u16) {
        self.owners[usize::from(slot)] = node_index;
    }

    /// Index of a node, which is added if it is new.
    pub fn node_index(&mut self, node: &Endpoint) -> u16 {
        let index = self.nodes.iter().position(|known| known == node).unwrap_or_else(|| {
            self.nodes.push(node.clone());
            self.nodes.len() - 1
        });
        u16::try_from(index).expect("there are at most 16384 slots and so no more owners")
    }
}

fn contact_host(contact: &Endpoint) -> String {
    match contact {
        Endpoint::Tcp { host, .. } => host.clone(),
        Endpoint::Unix(_) => "127.0.0.1".to_owned(),
    }
}

/// An error that says where to ask instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirection {
    /// True for ASK, which is for this one request; false for MOVED, which is for good.
    pub is_ask: bool,
    /// The slot in question.
    pub slot: u16,
    /// The node to ask.
    pub node: Endpoint,
}

impl Redirection {
    /// Reads `MOVED slot host:port` or `ASK slot host:port`; an empty host means the host of the node that answered.
    pub fn parse(error: &[u8], answered_by: &Endpoint) -> Option<Redirection> {
        let text = std::str::from_utf8(error).ok()?;
        let mut words = text.split(' ');
        let is_ask = match words.next()? {
            "MOVED" => false,
            "ASK" => true,
            _ => return None,
        };
        let slot = words
            .next()?
            .parse()
            .ok()
            .filter(|&slot| usize::from(slot) < SLOT_COUNT)?;
        let Endpoint::Tcp { host, port } = Endpoint::parse(words.next()?)? else {
            return None;
        };
        let host = if host.is_empty() || host == "?" {
            contact_host(answered_by)
        } else {
            host
        };
        Some(Redirection {
            is_ask,
            slot,
            node: Endpoint::Tcp { host, port },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Endpoint {
        Endpoint::Tcp {
            host: host.to_owned(),
            port,
        }
    }

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        Value::Array(vec![
            Value::Integer(first),
            Value::Integer(last),
            Value::Array(vec![host, Value::Integer(port), Value::Text(b"id".to_vec())]),
        ])
    }

    #[test]
    fn slots_agree_with_the_specification() {
        // The check value of CRC16/XMODEM over "123456789" is 0x31C3; the other two are what CLUSTER KEYSLOT answers.
        assert_eq!(slot_of(b"123456789"), 0x31C3);
        assert_eq!(slot_of(b"foo"), 12182);
        assert_eq!(slot_of(b"somekey"), 11058);
        assert_eq!(slot_of(b""), 0);
    }

    #[test]
    fn hash_tags_follow_the_specification() {
        assert_eq!(slot_of(b"{foo}bar"), slot_of(b"foo"));
        assert_eq!(slot_of(b"a{foo}{bar}"), slot_of(b"foo"));
        assert_eq!(slot_of(b"a{{foo}}b"), slot_of(b"{foo"));
        assert_ne!(slot_of(b"a{}{foo}"), slot_of(b"foo"));
        assert_ne!(slot_of(b"a{foo"), slot_of(b"foo"));
    }

    #[test]
    fn owners_come_from_cluster_slots() {
        let reply = Value::Array(vec![
            range(0, 5460, Value::Text(b"10.0.0.1".to_vec()), 7000),
            range(5461, 10922, Value::Null, 7001),
            range(10923, 16383, Value::Text(Vec::new()), 7002),
        ]);
        let topology = Topology::from_slots_reply(&reply, &tcp("host", 7000)).unwrap();
        assert_eq!(
            topology.nodes,
            [tcp("10.0.0.1", 7000), tcp("host", 7001), tcp("host", 7002)]
        );
        for (slot, owner) in [(0, 0), (5460, 0), (5461, 1), (10922, 1), (10923, 2), (16383, 2)] {
            assert_eq!(topology.owner(slot), owner, "slot {slot}");
        }
    }

    #[test]
    fn incomplete_clusters_are_refused() {
        let gap = Value::Array(vec![range(0, 16382, Value::Null, 7000)]);
        let reason = Topology::from_slots_reply(&gap, &tcp("h", 1)).unwrap_err();
        assert!(reason.contains("16383"), "{reason}");
        let outside = Value::Array(vec![range(0, 16384, Value::Null, 7000)]);
        assert!(Topology::from_slots_reply(&outside, &tcp("h", 1)).is_err());
        assert!(Topology::from_slots_reply(&Value::Null, &tcp("h", 1)).is_err());
    }

    #[test]
    fn redirections_change_the_owner() {
        let moved = Redirection::parse(b"MOVED 3999 127.0.0.1:6381", &tcp("x", 1)).unwrap();
        assert_eq!(moved.node, tcp("127.0.0.1", 6381));
        assert!(!moved.is_ask);
        let mut topology = Topology::single(tcp("a", 1));
        let index = topology.node_index(&moved.node);
        topology.set_owner(moved.slot, index);
        assert_eq!(topology.owner(3999), 1);
        assert_eq!(topology.owner(4000), 0);
        assert_eq!(topology.node_index(&moved.node), index, "known nodes keep their index");

        let ask = Redirection::parse(b"ASK 1 :7000", &tcp("x", 1)).unwrap();
        assert!(ask.is_ask);
        assert_eq!(ask.node, tcp("x", 7000));
        assert_eq!(Redirection::parse(b"ERR MOVED 1 a:1", &tcp("x", 1)), None);
        assert_eq!(Redirection::parse(b"MOVED 16384 a:1", &tcp("x", 1)), None);
    }
}
