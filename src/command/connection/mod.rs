//! The connection itself: who is at the other end, which protocol and which db it uses, and what the server knows of
//! it (CLIENT and its subcommands).
//!
//! Most of this is the client's own [`Session`](crate::client::Session), so most of it runs at once, on any shard.
//! What looks at other clients asks the shards: a shard knows its own clients only.
//!
//! | file | owns |
//! |---|---|
//! | this one | AUTH, ECHO, HELLO, PING, QUIT, SELECT |
//! | `client` | CLIENT, and those subcommands that concern the caller's session |
//! | `client_list` | CLIENT LIST and INFO: a client as one line of text |
//! | `client_kill` | CLIENT KILL: which clients a call means |
//! | `client_pause` | CLIENT PAUSE, UNPAUSE and UNBLOCK |
//! | `client_tracking` | CLIENT TRACKING and what belongs to it |
//!
//! There is one user so far, `default`, with the password of `requirepass`. Passwords are compared by their SHA-256, so
//! that how long a comparison takes says nothing about the password.

mod client;
mod client_kill;
mod client_list;
mod client_pause;
mod client_tracking;

use crate::base::numbers::parse_i64;
use crate::config::REDIS_VERSION;
use crate::engine::Control;
use crate::engine::{Command, Run, SessionOp};
use crate::resp::{Proto, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, arg, command};
use sha2::{Digest, Sha256};

pub const COMMANDS: &[Command] = &[AUTH, client::CLIENT, ECHO, HELLO, PING, QUIT, SELECT];

const AUTH: Command = Command {
    summary: "Proves who the client is.",
    since: "1.0.0",
    group: Group::Connection,
    complexity: "O(N) where N is the number of passwords defined for the user",
    arity: -2,
    flags: HANDSHAKE,
    categories: Categories::CONNECTION,
    arguments: &[
        arg("username", ArgumentKind::String).optional().since("6.0.0"),
        arg("password", ArgumentKind::String),
    ],
    history: &[("6.0.0", "A user's name may precede the password.")],
    secrets_of: Some(|call| (1..call.len()).collect()),
    ..command("auth", Run::Session(auth))
};

fn auth(op: &mut SessionOp) -> Result<(), ReplyError> {
    match op.args.len() {
        2 if op.env.settings.requirepass.is_empty() => return Err(error::AUTH_WITHOUT_PASSWORD),
        2 => authenticate(op, DEFAULT_USER, op.args.at(1))?,
        3 => authenticate(op, op.args.at(1), op.args.at(2))?,
        _ => return Err(error::SYNTAX),
    }
    op.reply.ok();
    Ok(())
}

const ECHO: Command = Command {
    summary: "Answers its argument.",
    since: "1.0.0",
    group: Group::Connection,
    complexity: "O(1)",
    arity: 2,
    flags: Flags::LOADING.union(Flags::STALE).union(Flags::FAST),
    categories: Categories::CONNECTION,
    arguments: &[arg("message", ArgumentKind::String)],
    ..command("echo", Run::Session(echo))
};

fn echo(op: &mut SessionOp) -> Result<(), ReplyError> {
    op.reply.bulk(&op.args[1]);
    Ok(())
}

const HELLO: Command = Command {
    summary: "Agrees on the protocol's version and says what this server is.",
    since: "6.0.0",
    group: Group::Connection,
    complexity: "O(1)",
    arity: -1,
    flags: HANDSHAKE,
    categories: Categories::CONNECTION,
    arguments: HELLO_ARGUMENTS,
    history: &[(
        "6.2.0",
        "`protover` may be left out: the connection's properties are answered as they are.",
    )],
    secrets_of: Some(hello_secrets),
    ..command("hello", Run::Session(hello))
};

fn hello(op: &mut SessionOp) -> Result<(), ReplyError> {
    let mut proto = op.session.proto;
    if let Some(version) = op.args.get(1) {
        proto = match parse_i64(version).ok_or(error::PROTO_NOT_AN_INTEGER)? {
            2 => Proto::Resp2,
            3 => Proto::Resp3,
            _ => return Err(error::NO_PROTO),
        };
    }
    let mut credentials = None;
    let mut name = None;
    let mut index = 2;
    while let Some(option) = op.args.get(index) {
        if option.eq_ignore_ascii_case(b"AUTH") && index + 2 < op.args.len() {
            credentials = Some((op.args.at(index + 1), op.args.at(index + 2)));
            index += 3;
        } else if option.eq_ignore_ascii_case(b"SETNAME") && index + 1 < op.args.len() {
            name = Some(client::checked_name(op.args.at(index + 1))?);
            index += 2;
        } else {
            return Err(error::hello_option(option));
        }
    }
    if let Some((user, password)) = credentials {
        authenticate(op, user, password)?;
    }
    if !op.session.is_authenticated && !op.env.settings.requirepass.is_empty() {
        return Err(error::HELLO_NO_AUTH);
    }
    if let Some(name) = name {
        op.session.name = name.to_vec();
    }
    op.session.proto = proto;
    op.reply.set_proto(proto);
    let mode = if op.env.settings.cluster_enabled {
        "cluster"
    } else {
        "standalone"
    };
    let reply = &mut op.reply;
    reply.map(7);
    for (field, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        reply.bulk_string(field);
        reply.bulk_string(value);
    }
    for (field, value) in [("proto", proto.version()), ("id", op.session.id as i64)] {
        reply.bulk_string(field);
        reply.integer(value);
    }
    let role = match op.node.replication.is_replica() {
        true => "replica",
        false => "master",
    };
    for (field, value) in [("mode", mode), ("role", role)] {
        reply.bulk_string(field);
        reply.bulk_string(value);
    }
    reply.bulk_string("modules");
    reply.array(0);
    Ok(())
}

const PING: Command = Command {
    summary: "Answers PONG, or its argument.",
    since: "1.0.0",
    group: Group::Connection,
    complexity: "O(1)",
    arity: -1,
    flags: Flags::FAST,
    categories: Categories::CONNECTION,
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    arguments: &[arg("message", ArgumentKind::String).optional()],
    is_for_subscribers: true,
    ..command("ping", Run::Session(ping))
};

fn ping(op: &mut SessionOp) -> Result<(), ReplyError> {
    if let Some(refusal) = op.env.refusal_of_writes() {
        // So that whoever only asks whether the server is well learns that it is not.
        return Err(refusal);
    }
    let is_told_apart = op.session.proto == Proto::Resp3 || op.session.subscriptions.is_none();
    match op.args.len() {
        // As a message, since it may come between messages.
        1 | 2 if !is_told_apart => {
            op.reply.array(2);
            op.reply.bulk(b"pong");
            op.reply.bulk(op.args.get(1).unwrap_or_default());
        }
        1 => op.reply.simple("PONG"),
        2 => op.reply.bulk(&op.args[1]),
        _ => return Err(error::wrong_arity("ping")),
    }
    Ok(())
}

const QUIT: Command = Command {
    summary: "Ends the connection.",
    since: "1.0.0",
    group: Group::Connection,
    complexity: "O(1)",
    arity: -1,
    flags: HANDSHAKE,
    categories: Categories::CONNECTION,
    deprecated: Some(("7.2.0", "just closing the connection")),
    is_for_subscribers: true,
    ..command("quit", Run::Transaction(Control::Quit))
};

const SELECT: Command = Command {
    summary: "Chooses the db of the commands that follow.",
    since: "1.0.0",
    group: Group::Connection,
    complexity: "O(1)",
    arity: 2,
    flags: Flags::LOADING.union(Flags::STALE).union(Flags::FAST),
    categories: Categories::CONNECTION,
    arguments: &[arg("index", ArgumentKind::Integer)],
    ..command("select", Run::Session(select))
};

fn select(op: &mut SessionOp) -> Result<(), ReplyError> {
    let (low, high) = (i32::MIN as i64, i32::MAX as i64);
    let db = parse_i64(&op.args[1]).ok_or(error::NOT_AN_INTEGER)?;
    if !(low..=high).contains(&db) {
        return Err(error::out_of_bounds(low, high));
    }
    if op.env.settings.cluster_enabled && db != 0 {
        return Err(error::SELECT_IN_CLUSTER);
    }
    if !(0..op.env.settings.databases as i64).contains(&db) {
        return Err(error::DB_OUT_OF_RANGE);
    }
    op.session.db = db as u32;
    op.reply.ok();
    Ok(())
}

/// What can be said before the client is authenticated, and while nothing else is answered.
const HANDSHAKE: Flags = Flags::NOSCRIPT
    .union(Flags::LOADING)
    .union(Flags::STALE)
    .union(Flags::FAST)
    .union(Flags::NO_AUTH)
    .union(Flags::ALLOW_BUSY);

const HELLO_ARGUMENTS: &[Argument] = &[arg(
    "arguments",
    ArgumentKind::Block(&[
        arg("protover", ArgumentKind::Integer),
        arg(
            "auth",
            ArgumentKind::Block(&[
                arg("username", ArgumentKind::String),
                arg("password", ArgumentKind::String),
            ]),
        )
        .token("AUTH")
        .optional(),
        arg("clientname", ArgumentKind::String).token("SETNAME").optional(),
    ]),
)
.optional()];

/// The only user.
const DEFAULT_USER: &[u8] = b"default";

/// Makes the session that of `user`, if the password is the user's.
fn authenticate(op: &mut SessionOp, user: &[u8], password: &[u8]) -> Result<(), ReplyError> {
    let required = &op.env.settings.requirepass;
    // Without a password the user may say anything.
    let is_known = user == DEFAULT_USER && (required.is_empty() || is_same_secret(required.as_bytes(), password));
    if !is_known {
        op.env.stats.counts.acl_denied_auth += 1;
        return Err(error::WRONG_PASSWORD);
    }
    op.session.user = user.to_vec();
    op.session.is_authenticated = true;
    Ok(())
}

/// Whether two secrets are equal, in a time that depends on the length of the guess only.
fn is_same_secret(secret: &[u8], guess: &[u8]) -> bool {
    let (secret, guess) = (Sha256::digest(secret), Sha256::digest(guess));
    secret
        .iter()
        .zip(&guess)
        .fold(0, |differing, (a, b)| differing | (a ^ b))
        == 0
}

/// User and password of every AUTH.
fn hello_secrets(call: &[&[u8]]) -> Vec<usize> {
    let mut secrets = Vec::new();
    let mut index = 2;
    while let Some(option) = call.get(index) {
        if option.eq_ignore_ascii_case(b"AUTH") {
            secrets.extend([index + 1, index + 2]);
            index += 3;
        } else {
            index += 2;
        }
    }
    secrets
}

#[cfg(test)]
mod tests {
    use super::is_same_secret;

    #[test]
    fn secrets_are_compared_whole() {
        assert!(is_same_secret(b"", b""));
        assert!(is_same_secret(b"sesame", b"sesame"));
        for guess in [&b"sesam"[..], b"sesame ", b"Sesame", b"", b"sesame\0"] {
            assert!(!is_same_secret(b"sesame", guess));
        }
    }
}
