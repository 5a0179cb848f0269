//! COMMAND DOCS: a map from names to the documentation of each command, its arguments as a tree.
//!
//! What a literal leaves empty is left out of the map, so maps differ in length.

use crate::engine::{Registered, Registry, SessionOp};
use crate::resp::{Reply, ReplyError};
use crate::spec::{Argument, ArgumentKind};

pub(super) fn docs(op: &mut SessionOp) -> Result<(), ReplyError> {
    let registry = op.registry;
    let names = op.args.slice_from(2);
    let documented: Vec<&Registered> = if names.is_empty() {
        registry.reachable().collect()
    } else {
        // A name that no command has is passed over.
        names.iter().filter_map(|name| registry.by_full_name(name)).collect()
    };
    op.reply.map(documented.len());
    for found in documented {
        op.reply.bulk_string(&found.full_name);
        reply_docs(&mut op.reply, found, registry);
    }
    Ok(())
}

fn reply_docs(reply: &mut Reply<'_>, found: &Registered, registry: &Registry) {
    let command = found.command;
    let mark = reply.deferred();
    let mut fields = Fields { reply, count: 0 };
    fields.text("summary", command.summary);
    fields.text("since", command.since);
    fields.text("group", command.group.name());
    fields.text("complexity", command.complexity);
    if let Some((since, replacement)) = command.deprecated {
        let reply = fields.field("doc_flags");
        reply.set(1);
        reply.simple("deprecated");
        fields.text("deprecated_since", since);
        fields.text("replaced_by", replacement);
    }
    if !command.history.is_empty() {
        let reply = fields.field("history");
        reply.set(command.history.len());
        for (version, change) in command.history {
            reply.array(2);
            reply.bulk_string(version);
            reply.bulk_string(change);
        }
    }
    if !command.arguments.is_empty() {
        reply_arguments(fields.field("arguments"), command.arguments);
    }
    if !found.children.is_empty() {
        let reply = fields.field("subcommands");
        reply.map(found.children.len());
        for child in registry.children(found) {
            reply.bulk_string(&child.full_name);
            reply_docs(reply, child, registry);
        }
    }
    let count = fields.count;
    reply.end_map(mark, count);
}

fn reply_arguments(reply: &mut Reply<'_>, arguments: &[Argument]) {
    reply.array(arguments.len());
    for argument in arguments {
        reply_argument(reply, argument);
    }
}

fn reply_argument(reply: &mut Reply<'_>, argument: &Argument) {
    let mark = reply.deferred();
    let mut fields = Fields { reply, count: 0 };
    let (kind, parts): (&str, &[Argument]) = match argument.kind {
        ArgumentKind::String => ("string", &[]),
        ArgumentKind::Integer => ("integer", &[]),
        ArgumentKind::Double => ("double", &[]),
        ArgumentKind::Key(_) => ("key", &[]),
        ArgumentKind::Pattern => ("pattern", &[]),
        ArgumentKind::UnixTime => ("unix-time", &[]),
        ArgumentKind::PureToken => ("pure-token", &[]),
        ArgumentKind::OneOf(parts) => ("oneof", parts),
        ArgumentKind::Block(parts) => ("block", parts),
    };
    fields.text("name", argument.name);
    fields.text("type", kind);
    if parts.is_empty() {
        fields.text("display_text", argument.display.unwrap_or(argument.name));
    }
    if let ArgumentKind::Key(spec) = argument.kind {
        fields.field("key_spec_index").integer(spec as i64);
    }
    fields.text("token", argument.token.unwrap_or(""));
    fields.text("summary", argument.summary);
    fields.text("since", argument.since);
    fields.text("deprecated_since", argument.deprecated_since);
    let flags: Vec<&str> = [
        ("optional", argument.is_optional),
        ("multiple", argument.is_multiple),
        ("multiple_token", argument.is_token_repeated),
    ]
    .into_iter()
    .filter_map(|(name, is_set)| is_set.then_some(name))
    .collect();
    if !flags.is_empty() {
        super::info::reply_names(fields.field("flags"), flags);
    }
    if !parts.is_empty() {
        reply_arguments(fields.field("arguments"), parts);
    }
    let count = fields.count;
    reply.end_map(mark, count);
}

/// Writes the fields of a map and counts them.
struct Fields<'r, 'a> {
    reply: &'r mut Reply<'a>,
    count: usize,
}

impl<'a> Fields<'_, 'a> {
    /// A field with this name; its value is to be written by the caller.
    fn field(&mut self, name: &str) -> &mut Reply<'a> {
        self.count += 1;
        self.reply.bulk_string(name);
        self.reply
    }

    /// A field of text, unless the text is empty.
    fn text(&mut self, name: &str, text: &str) {
        if !text.is_empty() {
            self.field(name).bulk_string(text);
        }
    }
}
