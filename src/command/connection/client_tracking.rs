//! CLIENT TRACKING and CACHING, GETREDIR and TRACKINGINFO: which keys a client caches, and who hears when they change.
//!
//! What is asked for is looked at whole before anything is changed. (Redis 7.2 answers an error and `+OK` where two prefixes overlap of which
//! none is the first; here such a call is refused, like any other.)

use super::client::CLIENT_FLAGS;
use crate::base::numbers::parse_i64;
use crate::client::{Tracking, TrackingMode};
use crate::engine::{Command, Run, SessionOp};
use crate::pubsub::Name;
use crate::resp::{Args, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Group, arg, command};
use std::collections::BTreeSet;

pub(super) const TRACKING: Command = Command {
    summary: "Says whether and how the keys are tracked that the connection caches.",
    since: "6.0.0",
    group: Group::Connection,
    complexity: "O(N) where N is the number of prefixes",
    arity: -3,
    flags: CLIENT_FLAGS,
    categories: Categories::CONNECTION,
    arguments: &[
        arg(
            "status",
            ArgumentKind::OneOf(&[Argument::word("on", "ON"), Argument::word("off", "OFF")]),
        ),
        arg("client-id", ArgumentKind::Integer).token("REDIRECT").optional(),
        arg("prefix", ArgumentKind::String)
            .token("PREFIX")
            .optional()
            .token_repeated(),
        Argument::word("bcast", "BCAST").optional(),
        Argument::word("optin", "OPTIN").optional(),
        Argument::word("optout", "OPTOUT").optional(),
        Argument::word("noloop", "NOLOOP").optional(),
    ],
    changes_subscriptions: true,
    ..command("tracking", Run::Session(tracking))
};

/// What a call asks for.
#[derive(Default)]
struct Asked {
    redirect: Option<i64>,
    prefixes: Vec<Name>,
    is_broadcast: bool,
    opts_in: bool,
    opts_out: bool,
    skips_own: bool,
}

impl Asked {
    /// Reads the options; `exists` says whether there is a client of that id.
    fn read(args: Args, exists: impl Fn(i64) -> bool) -> Result<Asked, ReplyError> {
        let mut asked = Asked::default();
        let mut index = 3;
        while let Some(option) = args.get(index) {
            let value = args.get(index + 1);
            index += 1;
            if option.eq_ignore_ascii_case(b"BCAST") {
                asked.is_broadcast = true;
            } else if option.eq_ignore_ascii_case(b"OPTIN") {
                asked.opts_in = true;
            } else if option.eq_ignore_ascii_case(b"OPTOUT") {
                asked.opts_out = true;
            } else if option.eq_ignore_ascii_case(b"NOLOOP") {
                asked.skips_own = true;
            } else if let Some(id) = value
                && option.eq_ignore_ascii_case(b"REDIRECT")
            {
                if asked.redirect.is_some() {
                    return Err(error::TRACKING_REDIRECT_TWICE);
                }
                let id = parse_i64(id).ok_or(error::NOT_AN_INTEGER)?;
                if !exists(id) {
                    return Err(error::TRACKING_REDIRECT_MISSING);
                }
                asked.redirect = Some(id);
                index += 1;
            } else if let Some(prefix) = value
                && option.eq_ignore_ascii_case(b"PREFIX")
            {
                asked.prefixes.push(prefix.into());
                index += 1;
            } else {
                return Err(error::SYNTAX);
            }
        }
        Ok(asked)
    }

    /// What is tracked from now on, where that was until now.
    fn turn_on(self, before: Option<&Tracking>) -> Result<Tracking, ReplyError> {
        if !self.is_broadcast && !self.prefixes.is_empty() {
            return Err(error::TRACKING_PREFIX_WITHOUT_BCAST);
        }
        if before.is_some_and(|before| before.is_broadcast() != self.is_broadcast) {
            return Err(error::TRACKING_BCAST_SWITCHED);
        }
        let mode = match (self.is_broadcast, self.opts_in, self.opts_out) {
            (true, false, false) => TrackingMode::Broadcast,
            (true, ..) => return Err(error::TRACKING_OPT_WITH_BCAST),
            (_, true, true) => return Err(error::TRACKING_OPTIN_WITH_OPTOUT),
            (_, true, _) => TrackingMode::OptIn,
            (.., true) => TrackingMode::OptOut,
            _ => TrackingMode::Read,
        };
        let opposite = match mode {
            TrackingMode::OptIn => Some(TrackingMode::OptOut),
            TrackingMode::OptOut => Some(TrackingMode::OptIn),
            _ => None,
        };
        if opposite.is_some() && before.map(|before| before.mode) == opposite {
            return Err(error::TRACKING_OPT_SWITCHED);
        }
        let mut prefixes = before.map_or_else(BTreeSet::new, |before| before.prefixes.clone());
        for (index, prefix) in self.prefixes.iter().enumerate() {
            if let Some(other) = prefixes.iter().find(|other| overlap(prefix, other)) {
                return Err(error::tracking_prefix_overlaps(prefix, other));
            }
            if let Some(other) = self.prefixes[index + 1..].iter().find(|other| overlap(prefix, other)) {
                return Err(error::tracking_prefixes_overlap(prefix, other));
            }
        }
        if self.is_broadcast && self.prefixes.is_empty() {
            prefixes.insert(Name::from(&b""[..]));
        }
        prefixes.extend(self.prefixes);
        let redirect = self.redirect.map(|id| id as u64);
        Ok(Tracking::new(mode, self.skips_own, redirect, prefixes))
    }
}

/// Whether a key can begin with both.
fn overlap(one: &[u8], other: &[u8]) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

fn tracking(op: &mut SessionOp) -> Result<(), ReplyError> {
    let clients = &op.node.clients;
    let exists = |id: i64| u64::try_from(id).is_ok_and(|id| clients.find(id).is_some());
    let asked = Asked::read(op.args, exists)?;
    if op.args[2].eq_ignore_ascii_case(b"ON") {
        let tracking = asked.turn_on(op.session.tracking.as_deref())?;
        op.env.cache(op.session, tracking);
    } else if op.args[2].eq_ignore_ascii_case(b"OFF") {
        op.env.stop_caching(op.session);
    } else {
        return Err(error::SYNTAX);
    }
    op.reply.ok();
    Ok(())
}

pub(super) const CACHING: Command = Command {
    summary: "Says whether the keys of the next command are tracked.",
    since: "6.0.0",
    group: Group::Connection,
    complexity: "O(1)",
    arity: 3,
    flags: CLIENT_FLAGS,
    categories: Categories::CONNECTION,
    arguments: &[arg(
        "mode",
        ArgumentKind::OneOf(&[Argument::word("yes", "YES"), Argument::word("no", "NO")]),
    )],
    ..command("caching", Run::Session(caching))
};

fn caching(op: &mut SessionOp) -> Result<(), ReplyError> {
    let Some(tracking) = &op.session.tracking else {
        return Err(error::CACHING_WITHOUT_TRACKING);
    };
    let (mode, refusal) = if op.args[2].eq_ignore_ascii_case(b"YES") {
        (TrackingMode::OptIn, error::CACHING_YES_WITHOUT_OPTIN)
    } else if op.args[2].eq_ignore_ascii_case(b"NO") {
        (TrackingMode::OptOut, error::CACHING_NO_WITHOUT_OPTOUT)
    } else {
        return Err(error::SYNTAX);
    };
    if tracking.mode != mode {
        return Err(refusal);
    }
    op.session.caching = true;
    op.reply.ok();
    Ok(())
}

pub(super) const GETREDIR: Command = Command {
    summary: "Answers the client that invalidation messages of this one go to.",
    since: "6.0.0",
    group: Group::Connection,
    complexity: "O(1)",
    arity: 2,
    flags: CLIENT_FLAGS,
    categories: Categories::CONNECTION,
    ..command("getredir", Run::Session(getredir))
};

/// What stands for "tracking is off" where a client's number is expected; and for "it hears itself".
const NOT_TRACKING: i64 = -1;
const NOT_REDIRECTED: u64 = 0;

/// The client that hears in the place of one, as a number.
pub(super) fn redirect_number(tracking: Option<&Tracking>) -> i64 {
    tracking.map_or(NOT_TRACKING, |tracking| {
        tracking.redirect.unwrap_or(NOT_REDIRECTED) as i64
    })
}

fn getredir(op: &mut SessionOp) -> Result<(), ReplyError> {
    op.reply.integer(redirect_number(op.session.tracking.as_deref()));
    Ok(())
}

pub(super) const TRACKINGINFO: Command = Command {
    summary: "Answers whether and how keys are tracked for this connection.",
    since: "6.2.0",
    group: Group::Connection,
    complexity: "O(1)",
    arity: 2,
    flags: CLIENT_FLAGS,
    categories: Categories::CONNECTION,
    ..command("trackinginfo", Run::Session(trackinginfo))
};

fn trackinginfo(op: &mut SessionOp) -> Result<(), ReplyError> {
    let tracking = op.session.tracking.as_deref();
    let flags = tracking.map_or_else(|| vec!["off"], |tracking| flags(tracking, op.session.caching));
    let reply = &mut op.reply;
    reply.map(3);
    reply.bulk_string("flags");
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.bulk_string(flag));
    reply.bulk_string("redirect");
    reply.integer(redirect_number(tracking));
    reply.bulk_string("prefixes");
    let prefixes = tracking.map(|tracking| &tracking.prefixes);
    reply.array(prefixes.map_or(0, BTreeSet::len));
    prefixes.into_iter().flatten().for_each(|prefix| reply.bulk(prefix));
    Ok(())
}

fn flags(tracking: &Tracking, caching: bool) -> Vec<&'static str> {
    let (mode, said) = match tracking.mode {
        TrackingMode::Read => (None, None),
        TrackingMode::Broadcast => (Some("bcast"), None),
        TrackingMode::OptIn => (Some("optin"), Some("caching-yes")),
        TrackingMode::OptOut => (Some("optout"), Some("caching-no")),
    };
    let skips_own = tracking.skips_own.then_some("noloop");
    let is_broken = tracking.is_redirect_broken().then_some("broken_redirect");
    let flags = [Some("on"), mode, said.filter(|_| caching), skips_own, is_broken];
    flags.into_iter().flatten().collect()
}
