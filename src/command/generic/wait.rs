//! WAIT: until so many replicas have what this client wrote.
//!
//! There are no replicas yet, so whoever wants none has its answer at once, and whoever wants some gets 0 when its time is over. It
//! waits as a task of its own, with nothing held: only its connection stands still. Inside a transaction nothing may wait, and
//! the answer is what is true at that moment.

use crate::base::clock::Ms;
use crate::base::numbers::parse_i64;
use crate::client::Client;
use crate::engine::arguments::numbers::integer;
use crate::engine::{Command, Context, NodeFuture, Run};
use crate::resp::error;
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

/// How long one sleep lasts before the client is looked after: who is gone need not be waited for.
const SLEEP_MAX: Ms = Ms(200);

fn wait(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
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
