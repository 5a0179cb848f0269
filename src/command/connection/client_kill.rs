//! CLIENT KILL: which clients a call means, and ending them.
//!
//! Every shard looks through its own clients and ends those that the filters hold for. A client that ends itself is
//! answered first.
//!
//! `MAXAGE` came to Redis after 7.2 (7.4); a client that knows it means what it says, so it is taken here too.

use super::client::CLIENT_FLAGS;
use super::client_list::type_named;
use crate::base::clock::UnixMs;
use crate::base::numbers::parse_i64;
use crate::client::Client;
use crate::client::ClientType;
use crate::engine::Context;
use crate::engine::{Command, Local, NodeFuture, Run};
use crate::resp::{Args, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, arg, command};

pub(super) const KILL: Command = Command {
    summary: "Closes the connections of clients.",
    since: "2.4.0",
    group: Group::Connection,
    complexity: "O(N) where N is the number of client connections",
    arity: -3,
    flags: CLIENT_FLAGS.union(Flags::ADMIN),
    categories: Categories::CONNECTION,
    arguments: &[arg(
        "filter",
        ArgumentKind::OneOf(&[
            arg("old-format", ArgumentKind::String)
                .shown_as("ip:port")
                .deprecated("2.8.12"),
            arg("new-format", ArgumentKind::OneOf(NEW_FORMAT)).multiple(),
        ]),
    )],
    history: &[
        ("2.8.12", "Takes filters."),
        ("2.8.12", "The filter `ID`."),
        ("3.2.0", "The type `master`."),
        ("5.0.0", "The type `replica`; `slave` is its old name and still taken."),
        ("6.2.0", "The filter `LADDR`."),
    ],
    ..command("kill", Run::Node(kill))
};

const NEW_FORMAT: &[Argument] = &[
    arg("client-id", ArgumentKind::Integer)
        .token("ID")
        .optional()
        .since("2.8.12"),
    arg(
        "client-type",
        ArgumentKind::OneOf(&[
            Argument::word("normal", "NORMAL"),
            Argument::word("master", "MASTER").since("3.2.0"),
            Argument::word("slave", "SLAVE"),
            Argument::word("replica", "REPLICA").since("5.0.0"),
            Argument::word("pubsub", "PUBSUB"),
        ]),
    )
    .token("TYPE")
    .optional()
    .since("2.8.12"),
    arg("username", ArgumentKind::String).token("USER").optional(),
    arg("addr", ArgumentKind::String)
        .shown_as("ip:port")
        .token("ADDR")
        .optional(),
    arg("laddr", ArgumentKind::String)
        .shown_as("ip:port")
        .token("LADDR")
        .optional()
        .since("6.2.0"),
    arg(
        "skipme",
        ArgumentKind::OneOf(&[Argument::word("yes", "YES"), Argument::word("no", "NO")]),
    )
    .token("SKIPME")
    .optional(),
    arg("maxage", ArgumentKind::Integer).token("MAXAGE").optional(),
];

/// What a call means; all that is given must hold.
#[derive(Clone, Default, Debug)]
struct Filter {
    id: Option<i64>,
    kind: Option<ClientType>,
    user: Option<Vec<u8>>,
    address: Option<Vec<u8>>,
    local_address: Option<Vec<u8>>,
    age_s_min: Option<i64>,
    spares: Option<u64>,
}

impl Filter {
    fn holds_for(&self, client: &Client, now: UnixMs) -> bool {
        let session = &client.session;
        let age_s = (now.since(client.connected_at).0 / 1000) as i64;
        self.id.is_none_or(|id| session.id as i64 == id)
            && self.kind.is_none_or(|kind| client.mode.client_type() == kind)
            && self.user.as_ref().is_none_or(|user| *user == session.user)
            && self
                .address
                .as_ref()
                .is_none_or(|address| **address == *session.address.as_bytes())
            && self
                .local_address
                .as_ref()
                .is_none_or(|address| **address == *session.local_address.as_bytes())
            && self.age_s_min.is_none_or(|age_s_min| age_s >= age_s_min)
            && self.spares != Some(session.id)
    }
}

/// The filters of `CLIENT KILL <filter> <value> ...`; `caller` is the id of the client that calls.
fn parse_filter(args: Args, caller: u64) -> Result<Filter, ReplyError> {
    let mut filter = Filter {
        spares: Some(caller),
        ..Filter::default()
    };
    let mut index = 2;
    while index < args.len() {
        let option = args.at(index);
        let is_option = |word: &str| option.eq_ignore_ascii_case(word.as_bytes());
        let value = args.get(index + 1).ok_or(error::SYNTAX)?;
        if is_option("ID") {
            let id = parse_i64(value).filter(|id| *id > 0);
            filter.id = Some(id.ok_or(error::CLIENT_ID_NOT_POSITIVE)?);
        } else if is_option("MAXAGE") {
            let age = parse_i64(value).ok_or(error::KILL_AGE_NOT_AN_INTEGER)?;
            if age <= 0 {
                return Err(error::KILL_AGE_NOT_POSITIVE);
            }
            filter.age_s_min = Some(age);
        } else if is_option("TYPE") {
            filter.kind = Some(type_named(value)?);
        } else if is_option("ADDR") {
            filter.address = Some(value.to_vec());
        } else if is_option("LADDR") {
            filter.local_address = Some(value.to_vec());
        } else if is_option("USER") {
            if value != super::DEFAULT_USER {
                return Err(error::no_such_user(value));
            }
            filter.user = Some(value.to_vec());
        } else if is_option("SKIPME") {
            filter.spares = if value.eq_ignore_ascii_case(b"yes") {
                Some(caller)
            } else if value.eq_ignore_ascii_case(b"no") {
                None
            } else {
                return Err(error::SYNTAX);
            };
        } else {
            return Err(error::SYNTAX);
        }
        index += 2;
    }
    Ok(filter)
}

fn kill(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let caller = context.session.id;
        let is_old_format = context.args().len() == 3;
        let filter = if is_old_format {
            Filter {
                address: Some(context.args().at(2).to_vec()),
                ..Filter::default()
            }
        } else {
            parse_filter(context.args(), caller)?
        };
        let question = move |local: &mut Local| end_clients(local, &filter, caller);
        let ended: Vec<Ended> = context.ask_all(question).await;
        context.session.closes |= ended.iter().any(|ended| ended.is_caller_meant);
        let count: i64 = ended.iter().map(|ended| ended.count).sum();
        match (is_old_format, count) {
            (true, 0) => return Err(error::NO_SUCH_CLIENT),
            (true, _) => context.reply().ok(),
            (false, count) => context.reply().integer(count),
        }
        Ok(())
    })
}

/// What a shard has done.
#[derive(Clone, Copy)]
struct Ended {
    /// Clients that the filters held for.
    count: i64,
    /// The caller is one of them: it ends when it has its answer.
    is_caller_meant: bool,
}

/// Ends this shard's clients that the filter holds for.
fn end_clients(local: &mut Local, filter: &Filter, caller: u64) -> Ended {
    let now = local.env.now;
    let mut ended = Ended {
        count: 0,
        is_caller_meant: false,
    };
    let mut killed = Vec::new();
    for client in local.clients.iter_mut() {
        if client.is_killed || !filter.holds_for(client, now) {
            continue;
        }
        ended.count += 1;
        if client.session.id == caller {
            ended.is_caller_meant = true;
            continue;
        }
        client.is_killed = true;
        client.is_closing = true;
        killed.push(client.place.index);
    }
    for index in killed {
        local.clients.list(index);
    }
    ended
}
