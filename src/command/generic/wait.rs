//! WAIT and WAITAOF: until so many replicas have what this client wrote, or until it is on disk here.
//!
//! There are no replicas yet, so whoever wants none has its answer at once, and whoever wants some gets 0 when its time is over. It
//! waits as a task of its own, with nothing held: only its connection stands still. Inside a transaction nothing may wait, and
//! the answer is what is true at that moment.
//!
//! What a client has written last is not known of each (it may have been written on any shard), but all that was written before its call
//! has a log number by then. So WAITAOF waits until all of that is durable: now and then for more than in Redis, never for less. Within a
//! transaction it answers for what came before that, as in Redis.

use crate::base::clock::Ms;
use crate::base::numbers::parse_i64;
use crate::client::Client;
use crate::engine::arguments::numbers::{element_count, integer};
use crate::engine::arguments::timeout::deadline_ms;
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
        let replica_count = element_count(args.at(2))?;
        let deadline = deadline_ms(args.at(3), context.now())?;
        if is_replica(context) {
            return Err(error::WAITAOF_ON_REPLICA);
        }
        let mut target = None;
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
            let is_met = durable_count >= local_count && replica_count == 0;
            let is_over = deadline.is_some_and(|deadline| deadline < context.now());
            if is_met || is_over || context.is_nested || !is_connected(context) {
                let mut reply = context.reply();
                reply.array(2);
                reply.integer(durable_count);
                reply.integer(0);
                return Ok(());
            }
            context.sleep(DISK_LOOKED_AT_EVERY.duration()).await;
        }
    })
}

/// How long one sleep lasts before the client is looked after: who is gone need not be waited for.
const SLEEP_MAX: Ms = Ms(200);

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
        if wanted > 0 && !context.is_nested {
            let mut left = if timeout == 0 { Ms::MAX } else { Ms(timeout) };
            while left > Ms::ZERO && is_connected(context) {
                let nap = left.min(SLEEP_MAX);
                context.sleep(nap.duration()).await;
                left -= nap;
            }
        }
        context.reply().integer(0);
        Ok(())
    })
}

/// Whether somebody waits for the answer still. (Redis forgets a peer that has closed its side at once.)
fn is_connected(context: &Context) -> bool {
    let is_there = |client: &mut Box<Client>| !(client.is_killed || client.is_closing || client.is_half_closed);
    context.with(|local| local.clients.get(context.place).is_some_and(is_there))
}
