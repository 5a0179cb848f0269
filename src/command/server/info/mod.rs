//! INFO: what the server knows of itself, in Redis's sections, fields and order.
//!
//! Every shard answers a [`Report`]; reports are added up, and the sections are written from the sum. A section is one
//! function over an [`Overview`] that writes its lines.
//!
//! Key counts are those of one moment for each shard. A slot that is under way between two shards at that moment would
//! be missing, so the question is asked again until the reports add up to all slots.

mod report;
mod sections;

pub use report::Report;

use crate::base::slot::SLOT_COUNT;
use crate::engine::{Command, Context, NodeFuture, Registry, Run};
use crate::resp::Args;
use crate::spec::{ArgumentKind, Categories, Flags, Group, arg, command};
use crate::stats::{CommandStats, Memory};
use sections::SECTIONS;
use std::time::Duration;

pub const COMMANDS: &[Command] = &[Command {
    summary: "Answers facts and figures about the server, by section.",
    since: "1.0.0",
    group: Group::Server,
    complexity: "O(1)",
    arity: -1,
    flags: Flags::LOADING.union(Flags::STALE),
    categories: Categories::DANGEROUS,
    tips: &[
        "nondeterministic_output",
        "request_policy:all_shards",
        "response_policy:special",
    ],
    arguments: &[arg("section", ArgumentKind::String).optional().multiple()],
    history: &[("7.0.0", "Several sections in one call.")],
    ..command("info", Run::Node(info))
}];

/// How often the shards are asked again while slots are under way between them.
const ATTEMPTS_MAX: usize = 50;

/// What the sections are written from.
pub struct Overview {
    pub total: Report,
    pub shards: Vec<Report>,
    pub memory: Memory,
    pub node: std::sync::Arc<crate::engine::Node>,
    pub settings: std::sync::Arc<crate::config::Settings>,
    pub registry: &'static crate::engine::Registry,
    pub now: crate::base::clock::UnixMs,
}

fn info(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let wanted: Vec<usize> = chosen(context.args().slice_from(1));
        let overview = overview(context).await;
        let mut text = String::new();
        for index in wanted {
            let section = &SECTIONS[index];
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            text.push_str(&format!("# {}\r\n", section.title));
            (section.write)(&overview, &mut text);
        }
        context.reply().verbatim("txt", text.as_bytes());
        Ok(())
    })
}

/// The sections that the arguments ask for, in INFO's own order.
fn chosen(args: Args<'_>) -> Vec<usize> {
    let (mut by_default, mut all, mut everything) = (args.is_empty(), false, false);
    for word in args.iter() {
        by_default |= word.eq_ignore_ascii_case(b"default");
        all |= word.eq_ignore_ascii_case(b"all");
        everything |= word.eq_ignore_ascii_case(b"everything");
    }
    let is_named = |name: &str| args.iter().any(|word| word.eq_ignore_ascii_case(name.as_bytes()));
    let is_wanted = |section: &sections::Section| {
        everything || (by_default && section.is_default) || (all && !section.is_of_modules) || is_named(section.name)
    };
    (0..SECTIONS.len())
        .filter(|&index| is_wanted(&SECTIONS[index]))
        .collect()
}

/// Asks all shards, until no slot is under way.
pub async fn overview(context: &Context) -> Overview {
    let mut attempts = 0;
    let shards = loop {
        let reports = context.ask_all(Report::of).await;
        attempts += 1;
        let seen: usize = reports.iter().map(|report| report.slots_seen).sum();
        if seen == SLOT_COUNT || attempts == ATTEMPTS_MAX {
            break reports;
        }
        context.sleep(Duration::from_micros(100)).await;
    };
    let mut total = Report::default();
    for report in &shards {
        total.add(report);
    }
    let (node, settings, registry, now) = context.with(|local| {
        (
            local.node.clone(),
            local.env.settings.clone(),
            local.registry,
            local.env.now,
        )
    });
    fold_inner(registry, &mut total.commands);
    let memory = Memory::read(&node.memory);
    Overview {
        total,
        shards,
        memory,
        node,
        settings,
        registry,
        now,
    }
}

/// Counts commands that are hidden in a container as the container.
pub fn fold_inner(registry: &Registry, commands: &mut [CommandStats]) {
    for found in registry.all().iter().filter(|found| found.is_inner) {
        let counted = std::mem::take(&mut commands[found.id as usize]);
        commands[registry.counted_as(found) as usize].add(&counted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::OwnedArgs;

    fn names(words: &[&str]) -> Vec<&'static str> {
        let args = OwnedArgs::from_slices(words);
        chosen(args.as_args())
            .into_iter()
            .map(|index| SECTIONS[index].name)
            .collect()
    }

    #[test]
    fn sections_are_chosen_as_redis_chooses_them() {
        let by_default = names(&[]);
        assert_eq!(names(&["default"]), by_default);
        assert!(by_default.contains(&"server") && !by_default.contains(&"commandstats"));
        assert!(names(&["all"]).contains(&"commandstats"));
        assert_eq!(names(&["KEYSPACE", "server", "nosuch"]), ["server", "keyspace"]);
        assert_eq!(names(&["nosuch"]), Vec::<&str>::new());
        let everything = names(&["everything"]);
        assert_eq!(everything.len(), SECTIONS.len());
    }
}
