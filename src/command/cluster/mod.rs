//! CLUSTER and its kin: this server as a cluster of one, or of its own shards.
//!
//! All slots are served here, `cluster-enabled` or not, so the questions about slots have true answers either way, and a
//! cluster-aware client can be pointed at this server. With `shard-ports` it learns the port of each shard and the
//! slots that the shard owns, and then talks to the owning core directly: each shard looks like a node (see
//! [`topology`]). Every port serves every key all the same, so a client that is out of date is never redirected.
//!
//! What belongs to a node among other nodes (READONLY, READWRITE, ASKING) needs `cluster-enabled`, as in Redis, or
//! `shard-ports`: a cluster-aware client says READONLY on each connection if it may read from replicas.

mod topology;

use crate::base::numbers::parse_i64;
use crate::base::slot::{SLOT_COUNT, key_slot};
use crate::engine::Context;
use crate::engine::help::{HelpEntry, help_command, reply_help};
use crate::engine::{Command, NodeFuture, Op, Run, SessionOp};
use crate::resp::{Args, ReplyError, error};
use crate::shard::SlotSet;
use crate::spec::{ArgumentKind, Categories, Flags, Group, arg, command};
use topology::Topology;

pub const COMMANDS: &[Command] = &[
    Command {
        summary: "Lets the next command see a slot that is being imported.",
        since: "3.0.0",
        group: Group::Cluster,
        complexity: "O(1)",
        arity: 1,
        flags: Flags::FAST,
        categories: Categories::CONNECTION,
        ..command("asking", Run::Session(among_nodes))
    },
    Command {
        summary: "Contains the commands about slots and nodes.",
        since: "3.0.0",
        group: Group::Cluster,
        complexity: "Depends on subcommand.",
        arity: -2,
        subcommands: &[
            COUNTKEYSINSLOT,
            GETKEYSINSLOT,
            help_command(Group::Cluster, Categories::NONE, "5.0.0", help),
            INFO,
            KEYSLOT,
            LINKS,
            MYID,
            MYSHARDID,
            NODES,
            SHARDS,
            SLOTS,
        ],
        ..command("cluster", Run::Container)
    },
    Command {
        summary: "Allows reads on a replica of a cluster.",
        since: "3.0.0",
        group: Group::Cluster,
        complexity: "O(1)",
        arity: 1,
        flags: Flags::LOADING.union(Flags::STALE).union(Flags::FAST),
        categories: Categories::CONNECTION,
        ..command("readonly", Run::Session(among_nodes))
    },
    Command {
        summary: "Sends reads on a replica of a cluster to its master again.",
        since: "3.0.0",
        group: Group::Cluster,
        complexity: "O(1)",
        arity: 1,
        flags: Flags::LOADING.union(Flags::STALE).union(Flags::FAST),
        categories: Categories::CONNECTION,
        ..command("readwrite", Run::Session(among_nodes))
    },
];

/// ASKING, READONLY, READWRITE: this node serves all slots, and none is on its way, so there is nothing to note.
fn among_nodes(op: &mut SessionOp) -> Result<(), ReplyError> {
    if !op.env.settings.cluster_enabled && !op.env.settings.shard_ports {
        return Err(error::CLUSTER_DISABLED);
    }
    op.reply.ok();
    Ok(())
}

const ANSWERS_VARY: &[&str] = &["nondeterministic_output"];

const KEYSLOT: Command = Command {
    summary: "Answers the slot of a key.",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: "O(N) where N is the number of bytes in the key",
    arity: 3,
    flags: Flags::STALE,
    arguments: &[arg("key", ArgumentKind::String)],
    ..command("keyslot", Run::Session(keyslot))
};

fn keyslot(op: &mut SessionOp) -> Result<(), ReplyError> {
    op.reply.integer(key_slot(&op.args[2]) as i64);
    Ok(())
}

const COUNTKEYSINSLOT: Command = Command {
    summary: "Answers how many keys a slot has.",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: "O(1)",
    arity: 3,
    flags: Flags::STALE,
    arguments: &[arg("slot", ArgumentKind::Integer)],
    ..command("countkeysinslot", Run::Slots(countkeysinslot_slots, countkeysinslot))
};

fn countkeysinslot_slots(args: Args) -> Result<SlotSet, ReplyError> {
    let number = parse_i64(args.at(2)).ok_or(error::NOT_AN_INTEGER)?;
    let slot = slot_number(number).ok_or(error::SLOT_OUT_OF_RANGE)?;
    Ok([slot].into_iter().collect())
}

fn countkeysinslot(op: &mut Op) -> Result<(), ReplyError> {
    let db = op.keys.db;
    let mut count = 0;
    for slot in countkeysinslot_slots(op.args)?.iter() {
        count += op.keys.numbered(slot)?.len(db);
    }
    op.reply.integer(count as i64);
    Ok(())
}

const GETKEYSINSLOT: Command = Command {
    summary: "Answers some keys of a slot.",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: "O(N) where N is the number of requested keys",
    arity: 4,
    flags: Flags::STALE,
    tips: ANSWERS_VARY,
    arguments: &[arg("slot", ArgumentKind::Integer), arg("count", ArgumentKind::Integer)],
    ..command("getkeysinslot", Run::Slots(getkeysinslot_slots, getkeysinslot))
};

/// The slot, and how many of its keys are wanted.
fn slot_and_count(args: Args) -> Result<(u16, u64), ReplyError> {
    let number = parse_i64(args.at(2)).ok_or(error::NOT_AN_INTEGER)?;
    let count = parse_i64(args.at(3)).ok_or(error::NOT_AN_INTEGER)?;
    match (slot_number(number), u64::try_from(count)) {
        (Some(slot), Ok(count)) => Ok((slot, count)),
        _ => Err(error::SLOT_OR_COUNT_INVALID),
    }
}

fn getkeysinslot_slots(args: Args) -> Result<SlotSet, ReplyError> {
    let (slot, _) = slot_and_count(args)?;
    Ok([slot].into_iter().collect())
}

fn getkeysinslot(op: &mut Op) -> Result<(), ReplyError> {
    let (slot, wanted) = slot_and_count(op.args)?;
    let (db, now) = (op.keys.db, op.keys.moment.now);
    let found = op.keys.numbered(slot)?;
    let mark = op.reply.deferred();
    let mut count = 0;
    found.for_each(db, now, |entry| {
        if (count as u64) < wanted {
            op.reply.bulk(entry.key());
            count += 1;
        }
    });
    op.reply.end_array(mark, count);
    Ok(())
}

fn slot_number(number: i64) -> Option<u16> {
    u16::try_from(number).ok().filter(|slot| (*slot as usize) < SLOT_COUNT)
}

const INFO: Command = Command {
    summary: "Answers how this node sees the cluster.",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: "O(1)",
    arity: 2,
    flags: Flags::STALE,
    tips: ANSWERS_VARY,
    ..command("info", Run::Node(info))
};

fn info(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let topology = Topology::of(context);
        let node_count = topology.nodes.len();
        let fields = [
            ("cluster_slots_assigned", SLOT_COUNT),
            ("cluster_slots_ok", SLOT_COUNT),
            ("cluster_slots_pfail", 0),
            ("cluster_slots_fail", 0),
            ("cluster_known_nodes", node_count),
            ("cluster_size", node_count),
            ("cluster_current_epoch", topology.current_epoch()),
            ("cluster_my_epoch", topology.me().epoch),
            ("cluster_stats_messages_sent", 0),
            ("cluster_stats_messages_received", 0),
            ("total_cluster_links_buffer_limit_exceeded", 0),
        ];
        let mut text = String::from("cluster_state:ok\r\n");
        for (field, value) in fields {
            text.push_str(&format!("{field}:{value}\r\n"));
        }
        context.reply().verbatim("txt", text.as_bytes());
        Ok(())
    })
}

const LINKS: Command = Command {
    summary: "Lists the connections to other nodes.",
    since: "7.0.0",
    group: Group::Cluster,
    complexity: "O(N) where N is the total number of Cluster nodes",
    arity: 2,
    flags: Flags::STALE,
    tips: ANSWERS_VARY,
    ..command("links", Run::Session(links))
};

fn links(op: &mut SessionOp) -> Result<(), ReplyError> {
    // Shards reach each other through memory, and there is no other process.
    op.reply.array(0);
    Ok(())
}

const MYID: Command = Command {
    summary: "Answers the id of the node.",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: "O(1)",
    arity: 2,
    flags: Flags::STALE,
    ..command("myid", Run::Node(myid))
};

fn myid(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let topology = Topology::of(context);
        context.reply().bulk_string(&topology.me().id);
        Ok(())
    })
}

const MYSHARDID: Command = Command {
    summary: "Answers the id of the group of replicas that the node belongs to.",
    since: "7.2.0",
    group: Group::Cluster,
    complexity: "O(1)",
    arity: 2,
    flags: Flags::STALE,
    tips: ANSWERS_VARY,
    ..command("myshardid", Run::Node(myshardid))
};

fn myshardid(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let topology = Topology::of(context);
        context.reply().bulk_string(&topology.me().group_id);
        Ok(())
    })
}

const NODES: Command = Command {
    summary: "Lists the nodes of the cluster, one in a line.",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: "O(N) where N is the total number of Cluster nodes",
    arity: 2,
    flags: Flags::STALE,
    tips: ANSWERS_VARY,
    ..command("nodes", Run::Node(nodes))
};

fn nodes(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let text = Topology::of(context).to_lines();
        context.reply().verbatim("txt", text.as_bytes());
        Ok(())
    })
}

const SHARDS: Command = Command {
    summary: "Lists the slot ranges with the nodes that serve them.",
    since: "7.0.0",
    group: Group::Cluster,
    complexity: "O(N) where N is the total number of cluster nodes",
    arity: 2,
    flags: Flags::LOADING.union(Flags::STALE),
    tips: ANSWERS_VARY,
    ..command("shards", Run::Node(shards))
};

fn shards(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let topology = Topology::of(context);
        topology.reply_shards(&mut context.reply());
        Ok(())
    })
}

const SLOTS: Command = Command {
    summary: "Lists the slot ranges with the address that serves each.",
    since: "3.0.0",
    group: Group::Cluster,
    complexity: "O(N) where N is the total number of Cluster nodes",
    arity: 2,
    flags: Flags::LOADING.union(Flags::STALE),
    tips: ANSWERS_VARY,
    history: &[
        ("4.0.0", "Shows the ids of nodes."),
        ("7.0.0", "Shows further ways to reach a node."),
    ],
    deprecated: Some(("7.0.0", "`CLUSTER SHARDS`")),
    ..command("slots", Run::Node(slots))
};

fn slots(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let topology = Topology::of(context);
        topology.reply_slots(&mut context.reply());
        Ok(())
    })
}

const HELP: &[HelpEntry] = &[
    ("COUNTKEYSINSLOT <slot>", &["Answer how many keys <slot> has."]),
    (
        "GETKEYSINSLOT <slot> <count>",
        &["Answer up to <count> keys of <slot>."],
    ),
    ("INFO", &["Answer how this node sees the cluster."]),
    ("KEYSLOT <key>", &["Answer the slot of <key>."]),
    (
        "LINKS",
        &["List the connections to other nodes, each as a map of its properties."],
    ),
    ("MYID", &["Answer the id of this node."]),
    ("MYSHARDID", &["Answer the id of this node's group of replicas."]),
    (
        "NODES",
        &[
            "List the nodes, one in a line:",
            "<id> <ip:port@bus-port> <flags> <master> <pings> <pongs> <epoch> <link> <slot> ...",
        ],
    ),
    ("SHARDS", &["List the slot ranges with the nodes that serve them."]),
    (
        "SLOTS",
        &[
            "List the slot ranges: first and last slot, then the address, port and id",
            "of the node that serves them.",
        ],
    ),
];

fn help(op: &mut SessionOp) -> Result<(), ReplyError> {
    reply_help(&mut op.reply, "CLUSTER", HELP);
    Ok(())
}
