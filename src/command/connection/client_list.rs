//! CLIENT LIST and CLIENT INFO: a client as one line of text.
//!
//! Each shard writes the lines of its own clients, and the caller's shard puts them in the order of their ids. The
//! fields, their order and their spelling are those of Redis 7.2 (<https://redis.io/docs/latest/commands/client-list/>);
//! tools split the line at spaces and `=`.
//!
//! What the fields about memory mean, and where they come from, stands in `client::memory`.

use super::client::CLIENT_FLAGS;
use super::client_tracking::redirect_number;
use crate::base::clock::UnixMs;
use crate::base::numbers::parse_i64;
use crate::client::{Client, ClientType, Session, Tracking};
use crate::engine::Context;
use crate::engine::{Command, Local, NodeFuture, Registry, Run};
use crate::pubsub::Kind;
use crate::resp::{Args, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, arg, command};
use std::collections::HashMap;

pub(super) const LIST: Command = Command {
    summary: "Describes the client connections, one in a line.",
    since: "2.4.0",
    group: Group::Connection,
    complexity: "O(N) where N is the number of client connections",
    arity: -2,
    flags: CLIENT_FLAGS.union(Flags::ADMIN),
    categories: Categories::CONNECTION,
    tips: &["nondeterministic_output"],
    arguments: &[
        arg(
            "client-type",
            ArgumentKind::OneOf(&[
                Argument::word("normal", "NORMAL"),
                Argument::word("master", "MASTER"),
                Argument::word("replica", "REPLICA"),
                Argument::word("pubsub", "PUBSUB"),
            ]),
        )
        .token("TYPE")
        .optional()
        .since("5.0.0"),
        arg("client-id", ArgumentKind::Integer)
            .token("ID")
            .optional()
            .multiple()
            .since("6.2.0"),
    ],
    history: &[
        ("2.8.12", "Shows the `id`."),
        ("5.0.0", "Can be restricted by `TYPE`."),
        ("6.0.0", "Shows the `user`."),
        (
            "6.2.0",
            "Shows `argv-mem`, `tot-mem`, `laddr` and `redir`; can be restricted by `ID`.",
        ),
        ("7.0.0", "Shows `resp`, `multi-mem`, `rbs` and `rbp`."),
        ("7.0.3", "Shows `ssub`."),
    ],
    ..command("list", Run::Node(list))
};

pub(super) const INFO: Command = Command {
    summary: "Describes the connection, as CLIENT LIST does.",
    since: "6.2.0",
    group: Group::Connection,
    complexity: "O(1)",
    arity: 2,
    flags: CLIENT_FLAGS,
    categories: Categories::CONNECTION,
    tips: &["nondeterministic_output"],
    ..command("info", Run::Node(info))
};

/// The type of clients of that name, in any letter case.
pub(super) fn type_named(name: &[u8]) -> Result<ClientType, ReplyError> {
    [
        ("normal", ClientType::Normal),
        ("master", ClientType::Master),
        ("replica", ClientType::Replica),
        ("slave", ClientType::Replica),
        ("pubsub", ClientType::PubSub),
    ]
    .into_iter()
    .find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name))
    .map(|(_, kind)| kind)
    .ok_or_else(|| error::unknown_client_type(name))
}

/// Which lines are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    All,
    OfType(ClientType),
    /// In this order, one as often as it is named.
    Ids(Vec<i64>),
}

fn wanted(args: Args) -> Result<Wanted, ReplyError> {
    let Some(option) = args.get(2) else {
        return Ok(Wanted::All);
    };
    if option.eq_ignore_ascii_case(b"TYPE") && args.len() == 4 {
        return Ok(Wanted::OfType(type_named(args.at(3))?));
    }
    if option.eq_ignore_ascii_case(b"ID") && args.len() > 3 {
        let ids = args.slice_from(3);
        let ids = ids.iter().map(|id| parse_i64(id).ok_or(error::CLIENT_ID_INVALID));
        return Ok(Wanted::Ids(ids.collect::<Result<_, _>>()?));
    }
    Err(error::SYNTAX)
}

fn list(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let wanted = wanted(context.args())?;
        let caller = Caller::of(context);
        let question = {
            let wanted = wanted.clone();
            move |local: &mut Local| lines(local, &wanted, &caller)
        };
        let mut found: Vec<(i64, Vec<u8>)> = context.ask_all(question).await.into_iter().flatten().collect();
        let text = match wanted {
            Wanted::Ids(ids) => {
                let by_id: HashMap<i64, Vec<u8>> = found.into_iter().collect();
                ids.iter().filter_map(|id| by_id.get(id)).flatten().copied().collect()
            }
            _ => {
                found.sort_unstable_by_key(|(id, _)| *id);
                found.into_iter().flat_map(|(_, line)| line).collect::<Vec<u8>>()
            }
        };
        context.reply().verbatim("txt", &text);
        Ok(())
    })
}

fn info(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let wanted = Wanted::Ids(vec![context.session.id as i64]);
        let caller = Caller::of(context);
        let question = move |local: &mut Local| lines(local, &wanted, &caller);
        let found = context.ask(context.place.shard, question).await;
        let text: Vec<u8> = found.into_iter().flat_map(|(_, line)| line).collect();
        context.reply().verbatim("txt", &text);
        Ok(())
    })
}

/// What a shard does not know of the client whose command runs: the session is with the command, and so are the
/// arguments.
#[derive(Clone)]
struct Caller {
    session: Session,
    argument_bytes: usize,
}

impl Caller {
    fn of(context: &Context) -> Caller {
        Caller {
            session: context.session.clone(),
            argument_bytes: context.args().byte_len(),
        }
    }
}

/// The lines of this shard's clients, with their ids.
fn lines(local: &mut Local, wanted: &Wanted, caller: &Caller) -> Vec<(i64, Vec<u8>)> {
    let is_wanted = |client: &&Client| match wanted {
        Wanted::All => true,
        Wanted::OfType(kind) => client.mode.client_type() == *kind,
        Wanted::Ids(ids) => ids.contains(&(client.session.id as i64)),
    };
    let registry = local.registry;
    let describe = |client: &Client| {
        let caller = (client.session.id == caller.session.id).then_some(caller);
        (client.session.id as i64, line(client, caller, registry, local.env.now))
    };
    local.clients.iter().filter(is_wanted).map(describe).collect()
}

/// The line of one client, with its line end.
fn line(client: &Client, caller: Option<&Caller>, registry: &Registry, now: UnixMs) -> Vec<u8> {
    let session = caller.map_or(&client.session, |caller| &caller.session);
    let argument_bytes = caller.map_or(0, |caller| caller.argument_bytes);
    let transaction = client.transaction.as_deref();
    let queued_count = transaction.map_or(-1, |transaction| transaction.queue.len() as i64);
    let memory = client.memory();
    let seconds_since = |then: UnixMs| (now.since(then).0 / 1000) as i64;
    let command = client
        .last_command
        .map_or("NULL", |id| registry.get(id).full_name.as_str());
    let mut line = Line(Vec::with_capacity(400));
    line.number("id", session.id as i64);
    line.text("addr", session.address.as_bytes());
    line.text("laddr", session.local_address.as_bytes());
    line.number("fd", client.socket_fd as i64);
    line.text("name", &session.name);
    line.number("age", seconds_since(client.connected_at));
    line.number("idle", seconds_since(client.last_interaction));
    line.text("flags", flags(client, session).as_bytes());
    line.number("db", session.db as i64);
    let subscriptions = session.subscriptions.as_deref();
    let count = |kind| subscriptions.map_or(0, |subscriptions| subscriptions.count(kind) as i64);
    line.number("sub", count(Kind::Channel));
    line.number("psub", count(Kind::Pattern));
    line.number("ssub", count(Kind::ShardChannel));
    line.number("multi", queued_count);
    line.number("watch", memory.watched_count as i64);
    line.number("qbuf", memory.query_bytes as i64);
    line.number("qbuf-free", memory.query_free_bytes as i64);
    line.number("argv-mem", (argument_bytes + memory.arriving_bytes) as i64);
    line.number("multi-mem", memory.queued_bytes as i64);
    line.number("rbs", memory.reply_buffer_bytes as i64);
    line.number("rbp", memory.reply_peak_bytes as i64);
    line.number("obl", memory.waiting_bytes as i64);
    line.number("oll", memory.behind_count as i64);
    line.number("omem", memory.behind_bytes as i64);
    line.number("tot-mem", (argument_bytes + memory.total_bytes) as i64);
    line.text(
        "events",
        if !client.out.is_empty() || client.in_flight_bytes > 0 {
            b"rw"
        } else {
            b"r"
        },
    );
    line.text("cmd", command.as_bytes());
    line.text("user", &session.user);
    line.number("redir", redirect_number(session.tracking.as_deref()));
    line.number("resp", session.proto.version());
    line.text("lib-name", &session.lib_name);
    line.text("lib-ver", &session.lib_ver);
    line.end()
}

/// The letters of `flags`, in Redis's order.
fn flags(client: &Client, session: &Session) -> String {
    let is_unix_socket = session.address.ends_with(":0");
    let letter = client.mode.letter();
    let tracking = session.tracking.as_deref();
    // Redis has that of a blocked client behind that of a transaction; it never has both.
    let letters: String = [
        (letter.unwrap_or_default(), letter.is_some()),
        ('x', client.transaction.is_some()),
        ('t', tracking.is_some()),
        ('R', tracking.is_some_and(Tracking::is_redirect_broken)),
        ('B', tracking.is_some_and(Tracking::is_broadcast)),
        ('c', client.is_closing || session.closes),
        ('A', client.is_killed),
        ('U', is_unix_socket),
        ('e', session.is_exempt_from_eviction),
        ('T', session.leaves_clocks),
    ]
    .into_iter()
    .filter_map(|(letter, is_set)| is_set.then_some(letter))
    .collect();
    if letters.is_empty() { "N".to_owned() } else { letters }
}

/// A line of `field=value` with a space between two.
struct Line(Vec<u8>);

impl Line {
    fn text(&mut self, field: &str, value: &[u8]) {
        if !self.0.is_empty() {
            self.0.push(b' ');
        }
        self.0.extend_from_slice(field.as_bytes());
        self.0.push(b'=');
        self.0.extend_from_slice(value);
    }

    fn number(&mut self, field: &str, value: i64) {
        self.text(field, itoa::Buffer::new().format(value).as_bytes());
    }

    fn end(mut self) -> Vec<u8> {
        self.0.push(b'\n');
        self.0
    }
}
