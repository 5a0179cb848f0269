//! What all shards say of themselves, put together: INFO is written from it, and MEMORY reads it.
//!
//! Key counts are those of one moment for each shard. A slot that is under way between two shards at that moment would
//! be missing, so the question is asked again until the reports add up to all slots.

use crate::base::clock::UnixMs;
use crate::base::slot::SLOT_COUNT;
use crate::config::Settings;
use crate::engine::{Context, Local, Node, Registry, Report};
use crate::scripting;
use crate::stats::{CommandStats, Memory, ScriptFigures};
use std::sync::Arc;
use std::time::Duration;

/// How often the shards are asked again while slots are under way between them.
const ATTEMPTS_MAX: usize = 50;

/// See above.
pub struct Overview {
    pub total: Report,
    pub shards: Vec<Report>,
    pub memory: Memory,
    pub scripts: ScriptFigures,
    pub node: Arc<Node>,
    pub settings: Arc<Settings>,
    registry: &'static Registry,
    pub now: UnixMs,
}

impl Overview {
    /// Asks all shards, until no slot is under way. What they count of each command takes a good part of a hundred kilobytes of each, and
    /// is told only if it is asked for.
    pub async fn ask(context: &Context, tells_commands: bool) -> Overview {
        // What the reports take is gone when the answer comes: it is no part of it.
        let memory = context.with(|local| {
            local.publish_memory();
            Memory::read(&local.node.memory)
        });
        let mut attempts = 0;
        let shards = loop {
            let reports = context
                .ask_all(move |local: &mut Local| Report::of(local, tells_commands))
                .await;
            attempts += 1;
            let seen: usize = reports.iter().map(|report| report.keys.slot_count).sum();
            if seen == SLOT_COUNT || attempts == ATTEMPTS_MAX {
                break reports;
            }
            context.sleep(Duration::from_micros(100)).await;
        };
        let mut total = Report::default();
        for report in &shards {
            total.add(report);
        }
        let (scripts, node, settings, registry, now) = context.with(|local| {
            (
                scripting::figures(&mut local.env),
                local.node.clone(),
                local.env.settings.clone(),
                local.registry,
                local.env.now,
            )
        });
        if tells_commands {
            fold_inner(registry, &mut total.stats.commands);
        }
        Overview {
            total,
            shards,
            memory,
            scripts,
            node,
            settings,
            registry,
            now,
        }
    }

    /// The commands by name, if they were asked for.
    pub fn commands(&self) -> impl Iterator<Item = (&str, &CommandStats)> {
        let commands = self.registry.all().iter().zip(&self.total.stats.commands);
        commands.map(|(found, stats)| (found.full_name.as_str(), stats))
    }
}

/// Counts commands that are hidden in a container as the container.
pub fn fold_inner(registry: &Registry, commands: &mut [CommandStats]) {
    for found in registry.all().iter().filter(|found| found.is_inner) {
        let counted = std::mem::take(&mut commands[found.id as usize]);
        commands[registry.counted_as(found) as usize].add(&counted);
    }
}
