//! WAIT and WAITAOF: until so many replicas have what this client wrote, or until it is on disk here.
//!
//! Whoever waits does so as a task of its own, with nothing held: only its connection stands still. Inside a transaction nothing may wait, and
//! the answer is what is true at that moment. Replicas say each second how far they are; who waits has them asked at once.
//!
//! What a client has written last is not known of each (it may have been written on any shard), but all that was written before its call
//! has a log number by then. So WAITAOF waits until all of that is durable: now and then for more than in Redis, never for less. For the same reason
//! replicas are waited for until they have the stream as far as it went at the time of the call. Within a transaction WAITAOF answers for what came before that, as in Redis.

use crate::base::clock::Ms;
use crate::base::numbers::parse_i64;
use crate::client::Client;
use crate::engine::arguments::numbers::{element_count, integer};
use crate::engine::arguments::timeout::deadline_ms;
use crate::engine::followers;
use crate::engine::replication::{Replica, ReplicaState};
use crate::engine::{Command, Context, NodeFuture, Run};
use crate::resp::error;
use crate::shard::durable::Need;
use crate::spec::{ArgumentKind, Categories, Flags, Group, arg, command};

pub(super) const WAIT: Command = Command {
    summary: "Waits until the writes of this connection have reached a number of replicas.",
    since: "3.0.0",
    group: Group::Generic,
    complexity: "O(1)",
    arity: 3,
    flags: Flags::BLOCKING,
    categories: Categories::CONNECTION,
    tips: &["request_policy:all_shards", "response_policy:agg_min"],
    arguments: &[
        arg("numreplicas", ArgumentKind::Integer),
        arg("timeout", ArgumentKind::Integer),
    ],
    ..command("wait", Run::Node(wait))
};

pub(super) const WAITAOF: Command = Command {
    summary: "Waits until the writes of this connection are on disk here, and on a number of replicas.",
    since: "7.2.0",
    group: Group::Generic,
    complexity: "O(1)",
    arity: 4,
    flags: Flags::BLOCKING,
    categories: Categories::CONNECTION,
    tips: &["request_policy:all_shards", "response_policy:agg_min"],
    arguments: &[
        arg("numlocal", ArgumentKind::Integer),
        arg("numreplicas", ArgumentKind::Integer),
        arg("timeout", ArgumentKind::Integer),
    ],
    ..command("waitaof", Run::Node(wait_aof))
};

/// How soon WAITAOF looks again. A sync takes about as long, where syncs are not a second apart.
const DISK_LOOKED_AT_EVERY: Ms = Ms(1);

fn wait_aof(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let args = context.args();
        let local_count = integer(args.at(1))?;
        if !(0..=1).contains(&local_count) {
            return Err(error::out_of_bounds(0, 1));
        }
        // No count is beyond what an integer of the protocol says.
        let wanted_copies = i64::try_from(element_count(args.at(2))?).unwrap_or(i64::MAX);
        let deadline = deadline_ms(args.at(3), context.now())?;
        if is_replica(context) {
            return Err(error::WAITAOF_ON_REPLICA);
        }
        let mut target = None;
        let mut replicas = Replicas::default();
        loop {
            if local_count > 0 && !context.settings().appendonly {
                return Err(error::WAITAOF_WITHOUT_AOF);
            }
            let is_durable = context.with(|local| {
                // What this pass has logged gets its number at its end.
                let number = (!local.env.has_unwritten()).then(|| local.env.durable().last_of_all());
                target = target.or(number);
                target.is_some_and(|target| Need::of(target).is_met(local.env.durable().prefix()))
            });
            let durable_count = i64::from(is_durable && context.settings().appendonly);
            let copies = replicas.count(context, wanted_copies, |replica| replica.durable_offset);
            let is_met = durable_count >= local_count && copies >= wanted_copies;
            let is_over = deadline.is_some_and(|deadline| deadline < context.now());
            if is_met || is_over || context.is_nested || !is_connected(context) {
                let mut reply = context.reply();
                reply.array(2);
                reply.integer(durable_count);
                reply.integer(copies);
                return Ok(());
            }
            context.sleep(DISK_LOOKED_AT_EVERY.duration()).await;
        }
    })
}

/// How soon WAIT looks again: a replica on the same host answers sooner, one elsewhere mostly later.
const REPLICAS_LOOKED_AT_EVERY: Ms = Ms(1);

/// What is waited for of replicas.
#[derive(Default)]
struct Replicas {
    /// The end of the stream when the wait began.
    target: Option<u64>,
    has_asked: bool,
}

impl Replicas {
    /// How many have all that was there at first, by what they say of themselves; has them asked if that is too few.
    fn count(&mut self, context: &Context, wanted: i64, offset_of: fn(&Replica) -> Option<u64>) -> i64 {
        context.with(|local| {
            // What this pass has logged gets its offsets at its end; within a transaction what came before counts.
            if self.target.is_none() && (context.is_nested || !local.env.has_unwritten()) {
                self.target = Some(local.node.turns.end_offset());
            }
            let Some(target) = self.target else { return 0 };
            let has_it = |replica: &&Replica| {
                replica.state == ReplicaState::Online && offset_of(replica).is_some_and(|offset| offset >= target)
            };
            let count = local.node.replication.lock().replicas.iter().filter(has_it).count() as i64;
            if count < wanted && !context.is_nested && !std::mem::replace(&mut self.has_asked, true) {
                followers::ask_for_acks(local);
            }
            count
        })
    }
}

/// What is written to a replica goes no further.
fn is_replica(context: &Context) -> bool {
    context.with(|local| local.node.replication.is_replica())
}

fn wait(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        if is_replica(context) {
            return Err(error::WAIT_ON_REPLICA);
        }
        let wanted = integer(context.args().at(1))?;
        let timeout = parse_i64(context.args().at(2)).ok_or(error::TIMEOUT_NOT_AN_INTEGER)?;
        let timeout = u64::try_from(timeout).map_err(|_| error::TIMEOUT_NEGATIVE)?;
        let began = context.now();
        if timeout > i64::MAX as u64 - began.0 {
            return Err(error::TIMEOUT_OUT_OF_RANGE);
        }
        let mut replicas = Replicas::default();
        let mut left = if timeout == 0 { Ms::MAX } else { Ms(timeout) };
        loop {
            let count = replicas.count(context, wanted, |replica| Some(replica.acked_offset));
            if count >= wanted || context.is_nested || left == Ms::ZERO || !is_connected(context) {
                context.reply().integer(count);
                return Ok(());
            }
            context.sleep(REPLICAS_LOOKED_AT_EVERY.duration()).await;
            left -= REPLICAS_LOOKED_AT_EVERY.min(left);
        }
    })
}

/// Whether somebody waits for the answer still. (Redis forgets a peer that has closed its side at once.)
fn is_connected(context: &Context) -> bool {
    let is_there = |client: &mut Box<Client>| !(client.is_killed || client.is_closing || client.is_half_closed);
    context.with(|local| local.clients.get(context.place).is_some_and(is_there))
}
