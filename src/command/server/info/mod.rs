//! INFO: what the server knows of itself, in Redis's sections and their order.
//!
//! Each section is written by whoever its figures belong to, into a [`Section`]; here stands only which sections there are, in which order,
//! and which words ask for them. They are written from an [`Overview`]: what all shards have answered, put together.

mod absent;
mod overview;
mod persistence;

pub(super) use overview::{Overview, fold_inner};

use crate::base::section::Section;
use crate::engine::replication::write_section;
use crate::engine::{Command, Context, NodeFuture, Run, write_server, write_shards};
use crate::resp::Args;
use crate::runtime::write_cpu_times;
use crate::spec::{ArgumentKind, Categories, Flags, Group, arg, command};
use crate::stats::{write_calls, write_latencies};

pub(super) const INFO: Command = Command {
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
};

fn info(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let chosen = chosen(context.args().slice_from(1));
        let tells_commands = chosen.iter().any(|row| row.is_of_commands);
        let overview = Overview::ask(context, tells_commands).await;
        let sections = chosen.iter().map(|row| {
            let mut section = Section::new(row.title);
            (row.write)(&overview, &mut section);
            section
        });
        let texts: Vec<String> = sections.map(Section::into_text).collect();
        context.reply().verbatim("txt", texts.join("\r\n").as_bytes());
        Ok(())
    })
}

/// The words that ask for several sections at once.
const DEFAULT: &str = "default";
const ALL: &str = "all";
const EVERYTHING: &str = "everything";

const USUAL: &[&str] = &[DEFAULT, ALL, EVERYTHING];
const DETAILED: &[&str] = &[ALL, EVERYTHING];

/// One section.
struct Row {
    /// The word that asks for it alone.
    name: &'static str,
    title: &'static str,
    /// The words that ask for it among others.
    groups: &'static [&'static str],
    write: Write,
    /// It tells something of each command.
    is_of_commands: bool,
}

/// Has whoever knows it write what stands in a section.
type Write = fn(&Overview, &mut Section);

const fn row(name: &'static str, title: &'static str, groups: &'static [&'static str], write: Write) -> Row {
    Row {
        name,
        title,
        groups,
        write,
        is_of_commands: false,
    }
}

const fn of_commands(row: Row) -> Row {
    Row {
        is_of_commands: true,
        ..row
    }
}

/// All sections, in order.
const SECTIONS: &[Row] = &[
    row("server", "Server", USUAL, |overview, out| {
        write_server(&overview.node, &overview.settings, overview.now, out);
    }),
    row("clients", "Clients", USUAL, |overview, out| {
        let attention = &overview.node.attention;
        overview.total.clients.write_section(&overview.settings, attention, out);
    }),
    row("memory", "Memory", USUAL, |overview, out| {
        let (held, counts) = (overview.total.held(), &overview.total.stats.counts);
        let scripts = &overview.scripts;
        overview
            .memory
            .write_section(&held, scripts, counts, &overview.settings, out);
    }),
    row("persistence", "Persistence", USUAL, persistence::write),
    row("stats", "Stats", USUAL, |overview, out| {
        let snapshots = &overview.node.snapshots;
        let stats = &overview.total.stats;
        let heard = overview.node.hearers.directory.figures();
        let attention = &overview.node.attention;
        stats.write_section(snapshots.begun_count(), snapshots.last_cut_us(), heard, attention, out);
    }),
    row("replication", "Replication", USUAL, |overview, out| {
        let end_offset = overview.node.turns.end_offset();
        write_section(
            &overview.node.replication,
            &overview.settings,
            end_offset,
            overview.now,
            out,
        );
    }),
    row("cpu", "CPU", USUAL, |_, out| write_cpu_times(out)),
    row("modules", "Modules", USUAL, absent::modules),
    of_commands(row("commandstats", "Commandstats", DETAILED, |overview, out| {
        write_calls(overview.commands(), out);
    })),
    row("errorstats", "Errorstats", USUAL, |overview, out| {
        overview.total.stats.errors.write_section(out);
    }),
    of_commands(row("latencystats", "Latencystats", DETAILED, |overview, out| {
        write_latencies(overview.commands(), &overview.settings, out);
    })),
    row("cluster", "Cluster", USUAL, absent::cluster),
    row("keyspace", "Keyspace", USUAL, |overview, out| {
        overview.total.keys.write_section(overview.now, out);
    }),
    row("shards", "Shards", USUAL, |overview, out| {
        write_shards(&overview.shards, out);
    }),
];

/// The sections that the words ask for, in order.
fn chosen(words: Args<'_>) -> Vec<&'static Row> {
    let is_asked_for = |name: &str| match words.is_empty() {
        true => name == DEFAULT,
        false => words.iter().any(|word| word.eq_ignore_ascii_case(name.as_bytes())),
    };
    SECTIONS
        .iter()
        .filter(|row| is_asked_for(row.name) || row.groups.iter().any(|group| is_asked_for(group)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::bench::Bench;
    use crate::resp::OwnedArgs;
    use crate::stats::COUNTERS;

    fn names(words: &[&str]) -> Vec<&'static str> {
        let args = OwnedArgs::from_slices(words);
        chosen(args.as_args()).into_iter().map(|row| row.name).collect()
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

    #[test]
    fn every_counter_is_shown_in_its_section_and_nowhere_else() {
        let mut bench = Bench::new(2);
        let text = bench.run("INFO everything");
        let sections: Vec<&str> = text.split("# ").skip(1).collect();
        assert_eq!(sections.len(), SECTIONS.len());
        for counter in COUNTERS.iter().filter(|counter| !counter.field.is_empty()) {
            let line = format!("|{}:", counter.field);
            let shown = SECTIONS.iter().zip(&sections).filter(|(_, text)| text.contains(&line));
            let names: Vec<&str> = shown.map(|(row, _)| row.name).collect();
            assert_eq!(names, [counter.section], "{}", counter.field);
        }
    }
}
