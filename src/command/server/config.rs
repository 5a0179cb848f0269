//! CONFIG: reads and changes the parameters.
//!
//! CONFIG SET answers when every shard works with the new settings: the client that changed a limit meets the new one
//! with its next command, whatever shard that runs on.

use crate::config::{self, Parameter, SetContext, SetError};
use crate::engine::help::reply_help;
use crate::engine::{Command, Context, Local, Node, NodeFuture, Run, SessionOp, rewrites};
use crate::resp::{OwnedArgs, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Flags, Group, arg, command};

const ADMIN: Flags = Flags::ADMIN
    .union(Flags::NOSCRIPT)
    .union(Flags::LOADING)
    .union(Flags::STALE);

pub(super) const CONFIG: Command = Command {
    summary: "Contains the commands on the configuration.",
    since: "2.0.0",
    group: Group::Server,
    complexity: "Depends on subcommand.",
    arity: -2,
    flags: Flags::NONE,
    subcommands: &[CONFIG_REWRITE, CONFIG_RESETSTAT, CONFIG_HELP, CONFIG_GET, CONFIG_SET],
    ..command("config", Run::Container)
};

const CONFIG_REWRITE: Command = Command {
    summary: "Writes the running configuration into the file that the server was started with.",
    since: "2.8.0",
    group: Group::Server,
    complexity: "O(1)",
    arity: 2,
    flags: ADMIN,
    tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
    ..command("rewrite", Run::Node(rewrite))
};

fn rewrite(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let config = context.with(|local| local.node.lock_config().clone());
        config
            .rewrite(None)
            .map_err(|failed| ReplyError::owned(failed.to_string()))?;
        context.reply().ok();
        Ok(())
    })
}

const CONFIG_RESETSTAT: Command = Command {
    summary: "Sets the counters that INFO shows to zero.",
    since: "2.0.0",
    group: Group::Server,
    complexity: "O(1)",
    arity: 2,
    flags: ADMIN,
    tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
    ..command("resetstat", Run::Node(resetstat))
};

fn resetstat(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        context.ask_all(|local| local.env.stats.reset()).await;
        context.with(|local| local.node.aof.reset_counts());
        context.reply().ok();
        Ok(())
    })
}

const CONFIG_HELP: Command = Command {
    summary: "Explains the subcommands.",
    since: "5.0.0",
    group: Group::Server,
    complexity: "O(1)",
    arity: 2,
    flags: Flags::LOADING.union(Flags::STALE),
    ..command("help", Run::Session(help))
};

fn help(op: &mut SessionOp) -> Result<(), ReplyError> {
    reply_help(
        &mut op.reply,
        "CONFIG",
        &[
            (
                "GET <pattern>",
                &["Answer the parameters that match the glob-like <pattern> and their values."],
            ),
            (
                "SET <directive> <value>",
                &["Set the parameter <directive> to <value>."],
            ),
            ("RESETSTAT", &["Set the counters shown by INFO to zero."]),
            (
                "REWRITE",
                &["Write the running configuration into the configuration file."],
            ),
        ],
    );
    Ok(())
}

const CONFIG_GET: Command = Command {
    summary: "Answers the parameters whose names match the patterns.",
    since: "2.0.0",
    group: Group::Server,
    complexity: "O(N) when N is the number of configuration parameters provided",
    arity: -3,
    flags: ADMIN,
    arguments: &[arg("parameter", ArgumentKind::String).multiple()],
    history: &[("7.0.0", "Several patterns in one call.")],
    ..command("get", Run::Session(get))
};

fn get(op: &mut SessionOp) -> Result<(), ReplyError> {
    let patterns: Vec<&[u8]> = op.args.slice_from(2).iter().collect();
    let found = op.node.lock_config().get(&patterns);
    op.reply.map(found.len());
    for (name, value) in found {
        op.reply.bulk(name.as_bytes());
        op.reply.bulk(&value);
    }
    Ok(())
}

const CONFIG_SET: Command = Command {
    summary: "Changes parameters: all of them, or none.",
    since: "2.0.0",
    group: Group::Server,
    complexity: "O(N) when N is the number of configuration parameters provided",
    arity: -4,
    flags: ADMIN,
    tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
    arguments: &[arg("data", ArgumentKind::Block(PAIR)).multiple()],
    history: &[("7.0.0", "Several parameters in one call.")],
    secrets_of: Some(set_secrets),
    ..command("set", Run::Node(set))
};

fn set(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let words: OwnedArgs = context.args().slice_from(2).to_owned();
        let words: Vec<&[u8]> = words.as_args().iter().collect();
        let (pairs, rest) = words.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(error::wrong_arity("config|set"));
        }
        let pairs: Vec<(&[u8], &[u8])> = pairs.iter().map(|[name, value]| (*name, *value)).collect();
        let node = context.with(|local| local.node.clone());
        let set_context = SetContext {
            is_local_client: context.session.is_local,
            is_loading: node.loading.is_loading(),
        };
        let (settings, changes_log) = {
            // Two clients that change parameters at once do so one after the other.
            let mut config = node.lock_config();
            let change = config
                .set(&pairs, &set_context)
                .map_err(|refused| ReplyError::owned(refused.to_string()))?;
            let changed = change
                .apply(|parameter, settings| match parameter.effect {
                    Some(effect) => node.surroundings.apply(effect, settings),
                    None => Ok(()),
                })
                .map_err(|refused| ReplyError::owned(refused.to_string()))?;
            let had_log = std::mem::replace(&mut *config, changed).settings().appendonly;
            let settings = config.shared_settings();
            let changes_log = settings.appendonly != had_log;
            (settings, changes_log)
        };
        let wants_log = settings.appendonly;
        context.ask_all(follow_newest).await;
        let local = context.with(|local| local.handle());
        match wants_log {
            // What is on stays on, be it that its beginning is still read.
            _ if !changes_log => {}
            false => rewrites::turn_off(&local).await,
            true => {
                if rewrites::turn_on(&local).await.is_err() {
                    return Err(leave_log_off(context, &node).await);
                }
            }
        }
        context.reply().ok();
        Ok(())
    })
}

/// Has a shard go by the parameters as they are when it hears of a change: of two changes at once the earlier may be heard of last.
fn follow_newest(local: &mut Local) {
    let settings = local.node.lock_config().shared_settings();
    local.follow(settings);
}

/// The append-only file could not be begun: its parameter is as it was.
async fn leave_log_off(context: &mut Context, node: &Node) -> ReplyError {
    {
        let mut config = node.lock_config();
        *config = config.clone().changed(|settings| settings.appendonly = false);
    }
    context.ask_all(follow_newest).await;
    ReplyError::owned(SetError::failed("appendonly", "Unable to turn on AOF. Check server logs.").to_string())
}

const PAIR: &[Argument] = &[
    arg("parameter", ArgumentKind::String),
    arg("value", ArgumentKind::String),
];

/// The values of parameters that are secrets.
fn set_secrets(call: &[&[u8]]) -> Vec<usize> {
    let is_secret =
        |name: &[u8]| Parameter::find(name).is_some_and(|(_, parameter)| parameter.is(config::Flags::SENSITIVE));
    let names = (2..call.len()).step_by(2);
    names
        .filter(|&index| is_secret(call[index]))
        .map(|index| index + 1)
        .collect()
}
