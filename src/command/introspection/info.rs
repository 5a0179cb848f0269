//! COMMAND and COMMAND INFO.
//!
//! A command is an array of ten: name, arity, flags, first key, last key, step, ACL categories, tips, key specs,
//! subcommands. The last five came with Redis 7; whoever reads the old six finds them where they were.

use crate::engine::{Registered, Registry, SessionOp};
use crate::resp::{Reply, ReplyError};
use crate::spec::{Begin, Find, Flags, KeySpec};

pub(super) fn all(op: &mut SessionOp) -> Result<(), ReplyError> {
    let registry = op.registry;
    op.reply.array(registry.reachable().count());
    for found in registry.reachable() {
        reply_info(&mut op.reply, found, registry);
    }
    Ok(())
}

pub(super) fn info(op: &mut SessionOp) -> Result<(), ReplyError> {
    if op.args.len() == 2 {
        return all(op);
    }
    let registry = op.registry;
    let names = op.args.slice_from(2);
    op.reply.array(names.len());
    for name in names.iter() {
        match registry.by_full_name(name) {
            Some(found) => reply_info(&mut op.reply, found, registry),
            None => op.reply.null_array(),
        }
    }
    Ok(())
}

/// Writes one command, its subcommands included.
pub fn reply_info(reply: &mut Reply<'_>, found: &Registered, registry: &Registry) {
    let command = found.command;
    let (first, last, step) = command.legacy_range();
    reply.array(10);
    reply.bulk_string(&found.full_name);
    reply.integer(command.arity as i64);
    reply_names(reply, flag_names(found));
    for number in [first, last, step] {
        reply.integer(number);
    }
    let categories: Vec<String> = command
        .all_categories()
        .names()
        .map(|name| format!("@{name}"))
        .collect();
    reply_names(reply, categories.iter().map(String::as_str).collect());
    reply.set(command.tips.len());
    for tip in command.tips {
        reply.bulk_string(tip);
    }
    reply.set(command.keys.len());
    for spec in command.keys {
        reply_key_spec(reply, spec);
    }
    if found.children.is_empty() {
        reply.set(0);
    } else {
        reply.array(found.children.len());
        for child in registry.children(found) {
            reply_info(reply, child, registry);
        }
    }
}

/// The flags of the literal, and the one that follows from its key specs.
fn flag_names(found: &Registered) -> Vec<&'static str> {
    // The one that Redis keeps to itself.
    let is_shown = |name: &&str| Flags::named(name) != Some(Flags::MAY_REPLICATE);
    let mut names: Vec<&str> = found.command.flags.names().filter(is_shown).collect();
    if found.command.has_movable_keys() {
        // Redis names it before the last one.
        let is_last_set = found.command.flags.contains(Flags::ALLOW_BUSY);
        names.insert(names.len() - is_last_set as usize, "movablekeys");
    }
    names
}

/// Writes a set of names as simple strings.
pub(super) fn reply_names(reply: &mut Reply<'_>, names: Vec<&str>) {
    reply.set(names.len());
    for name in names {
        reply.simple(name);
    }
}

fn reply_key_spec(reply: &mut Reply<'_>, spec: &KeySpec) {
    reply.map(3 + !spec.notes.is_empty() as usize);
    if !spec.notes.is_empty() {
        reply.bulk_string("notes");
        reply.bulk_string(spec.notes);
    }
    reply.bulk_string("flags");
    reply_names(reply, spec.flags.names().collect());
    reply.bulk_string("begin_search");
    match spec.begin {
        Begin::Index(index) => reply_step(reply, "index", &[("index", index as i64)]),
        Begin::Keyword { keyword, from } => {
            reply_step_head(reply, "keyword", 2);
            reply.bulk_string("keyword");
            reply.bulk_string(keyword);
            reply.bulk_string("startfrom");
            reply.integer(from as i64);
        }
        Begin::Unknown => reply_step(reply, "unknown", &[]),
    }
    reply.bulk_string("find_keys");
    match spec.find {
        Find::Range { last, step, limit } => reply_step(
            reply,
            "range",
            &[
                ("lastkey", last as i64),
                ("keystep", step as i64),
                ("limit", limit as i64),
            ],
        ),
        Find::Count { count_at, first, step } => reply_step(
            reply,
            "keynum",
            &[
                ("keynumidx", count_at as i64),
                ("firstkey", first as i64),
                ("keystep", step as i64),
            ],
        ),
        Find::Unknown => reply_step(reply, "unknown", &[]),
    }
}

/// One step of a key spec whose parameters are numbers.
fn reply_step(reply: &mut Reply<'_>, kind: &str, parameters: &[(&str, i64)]) {
    reply_step_head(reply, kind, parameters.len());
    for (name, value) in parameters {
        reply.bulk_string(name);
        reply.integer(*value);
    }
}

fn reply_step_head(reply: &mut Reply<'_>, kind: &str, parameter_count: usize) {
    reply.map(2);
    reply.bulk_string("type");
    reply.bulk_string(kind);
    reply.bulk_string("spec");
    reply.map(parameter_count);
}
