//! SLOWLOG: the commands that took long.
//!
//! Each shard keeps those of its clients, and as many of them as the whole log may have (`slowlog-max-len`); ids ascend
//! over all shards. The log is therefore the newest ids of all, and no shard can have dropped one of them.

use crate::base::numbers::parse_i64;
use crate::engine::help::reply_help;
use crate::engine::{Command, Context, NodeFuture, Run, SessionOp};
use crate::resp::{ReplyError, error};
use crate::spec::{ArgumentKind, Flags, Group, arg, command};
use crate::stats::SlowEntry;

const SLOWLOG_FLAGS: Flags = Flags::ADMIN.union(Flags::LOADING).union(Flags::STALE);

/// How many entries GET answers when it is not told.
const COUNT_DEFAULT: i64 = 10;

pub(super) const SLOWLOG: Command = Command {
    summary: "Contains the commands on the slow log.",
    since: "2.2.12",
    group: Group::Server,
    complexity: "Depends on subcommand.",
    arity: -2,
    subcommands: &[SLOWLOG_LEN, SLOWLOG_HELP, SLOWLOG_GET, SLOWLOG_RESET],
    ..command("slowlog", Run::Container)
};

const SLOWLOG_LEN: Command = Command {
    summary: "Counts the entries of the slow log.",
    since: "2.2.12",
    group: Group::Server,
    arity: 2,
    flags: SLOWLOG_FLAGS,
    tips: &[
        "request_policy:all_nodes",
        "response_policy:agg_sum",
        "nondeterministic_output",
    ],
    ..command("len", Run::Node(len))
};

fn len(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let lengths = context.ask_all(|local| local.env.stats.slow_log.len()).await;
        let length_max = context.settings().slowlog_max_len as usize;
        let length = lengths.into_iter().sum::<usize>().min(length_max);
        context.reply().integer(length as i64);
        Ok(())
    })
}

const SLOWLOG_HELP: Command = Command {
    summary: "Explains the subcommands.",
    since: "6.2.0",
    group: Group::Server,
    arity: 2,
    flags: Flags::LOADING.union(Flags::STALE),
    ..command("help", Run::Session(help))
};

fn help(op: &mut SessionOp) -> Result<(), ReplyError> {
    reply_help(
        &mut op.reply,
        "SLOWLOG",
        &[
            (
                "GET [<count>]",
                &[
                    "Answer the newest <count> entries (10 if not given, all if -1). An entry is:",
                    "id, time stamp, microseconds, array of arguments, client address and port,",
                    "client name",
                ],
            ),
            ("LEN", &["Answer how many entries there are."]),
            ("RESET", &["Remove all entries."]),
        ],
    );
    Ok(())
}

const SLOWLOG_GET: Command = Command {
    summary: "Answers the newest entries of the slow log.",
    since: "2.2.12",
    group: Group::Server,
    complexity: "O(N) where N is the number of entries returned",
    arity: -2,
    flags: SLOWLOG_FLAGS,
    tips: &["request_policy:all_nodes", "nondeterministic_output"],
    arguments: &[arg("count", ArgumentKind::Integer).optional()],
    history: &[("4.0.0", "Entries have the client's address and name.")],
    ..command("get", Run::Node(get))
};

fn get(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let args = context.args();
        let count = match args.len() {
            2 => COUNT_DEFAULT,
            3 => parse_i64(args.at(2))
                .filter(|&count| count >= -1)
                .ok_or(error::SLOWLOG_COUNT_INVALID)?,
            _ => return Err(error::unknown_subcommand_or_arity("slowlog", args.at(1))),
        };
        let mut entries = entries(context).await;
        if let Ok(count) = usize::try_from(count) {
            entries.truncate(count);
        }
        let mut reply = context.reply();
        reply.array(entries.len());
        for entry in entries {
            reply.array(6);
            reply.integer(entry.id as i64);
            reply.integer(entry.at.seconds() as i64);
            reply.integer(entry.elapsed_us as i64);
            reply.array(entry.args.len());
            for word in &entry.args {
                reply.bulk(word);
            }
            reply.bulk(entry.client_address.as_bytes());
            reply.bulk(&entry.client_name);
        }
        Ok(())
    })
}

const SLOWLOG_RESET: Command = Command {
    summary: "Removes all entries from the slow log.",
    since: "2.2.12",
    group: Group::Server,
    complexity: "O(N) where N is the number of entries in the slowlog",
    arity: 2,
    flags: SLOWLOG_FLAGS,
    tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
    ..command("reset", Run::Node(reset))
};

fn reset(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        context.ask_all(|local| local.env.stats.slow_log.clear()).await;
        context.reply().ok();
        Ok(())
    })
}

/// All entries that the log has room for, newest first.
async fn entries(context: &Context) -> Vec<SlowEntry> {
    let of_shards = context
        .ask_all(|local| local.env.stats.slow_log.iter().cloned().collect::<Vec<_>>())
        .await;
    merge(of_shards, context.settings().slowlog_max_len as usize)
}

fn merge(of_shards: Vec<Vec<SlowEntry>>, length_max: usize) -> Vec<SlowEntry> {
    let mut all: Vec<SlowEntry> = of_shards.into_iter().flatten().collect();
    all.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.id));
    all.truncate(length_max);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::UnixMs;
    use crate::resp::OwnedArgs;

    #[test]
    fn the_newest_of_all_shards_are_the_log() {
        let args = OwnedArgs::from_slices(&["GET", "k"]);
        let made: Vec<SlowEntry> = (0..5)
            .map(|_| SlowEntry::new(args.as_args(), &[], 1, UnixMs(0)))
            .collect();
        let ids: Vec<u64> = made.iter().map(|entry| entry.id).collect();
        let of_shards = vec![
            vec![made[3].clone(), made[0].clone()],
            made[1..3].to_vec(),
            vec![made[4].clone()],
        ];
        let merged: Vec<u64> = merge(of_shards, 3).iter().map(|entry| entry.id).collect();
        assert_eq!(merged, [ids[4], ids[3], ids[2]]);
    }
}
