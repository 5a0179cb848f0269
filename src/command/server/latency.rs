//! LATENCY: which events took long, and how the times of each command are distributed.
//!
//! Each shard notes the events that it sees and the times of the commands that it runs; every answer here is made of the
//! sum over the shards. Of several shards' samples of one event in the same second the worst is kept, as each shard
//! does by itself.

use super::info::fold_inner;
use crate::base::clock::UnixMs;
use crate::config::Settings;
use crate::engine::help::reply_help;
use crate::engine::{Command, CommandId, Context, NodeFuture, Registry, Run, SessionOp};
use crate::resp::{Reply, ReplyError};
use crate::spec::{ArgumentKind, Flags, Group, arg, command};
use crate::stats::{CommandStats, LatencyEvent, LatencyMonitor};
use hdrhistogram::Histogram;
use std::collections::BTreeSet;
use std::fmt::Write as _;

const LATENCY_FLAGS: Flags = Flags::ADMIN
    .union(Flags::NOSCRIPT)
    .union(Flags::LOADING)
    .union(Flags::STALE);
const TIPS: &[&str] = &[
    "nondeterministic_output",
    "request_policy:all_nodes",
    "response_policy:special",
];

/// A subcommand that reads what was noted.
const fn reading(name: &'static str, arity: i16, run: for<'a> fn(&'a mut Context) -> NodeFuture<'a>) -> Command {
    Command {
        since: "2.8.13",
        group: Group::Server,
        arity,
        flags: LATENCY_FLAGS,
        tips: TIPS,
        ..command(name, Run::Node(run))
    }
}

pub const COMMANDS: &[Command] = &[Command {
    summary: "Contains the commands on latency.",
    since: "2.8.13",
    group: Group::Server,
    complexity: "Depends on subcommand.",
    arity: -2,
    subcommands: &[
        Command {
            summary: "Says in words which events took long, and what to do about them.",
            ..reading("doctor", 2, doctor)
        },
        Command {
            summary: "Explains the subcommands.",
            since: "2.8.13",
            group: Group::Server,
            arity: 2,
            flags: Flags::LOADING.union(Flags::STALE),
            ..command("help", Run::Session(help))
        },
        Command {
            summary: "Answers the cumulative distribution of the times of commands.",
            since: "7.0.0",
            complexity: "O(N) where N is the number of commands with latency information being retrieved.",
            arguments: &[arg("command", ArgumentKind::String).optional().multiple()],
            ..reading("histogram", -2, histogram)
        },
        Command {
            summary: "Forgets the samples of the named events, or of all.",
            tips: &["request_policy:all_nodes", "response_policy:agg_sum"],
            arguments: &[arg("event", ArgumentKind::String).optional().multiple()],
            ..reading("reset", -2, reset)
        },
        Command {
            summary: "Draws the samples of an event.",
            arguments: &[arg("event", ArgumentKind::String)],
            ..reading("graph", 3, graph)
        },
        Command {
            summary: "Answers the samples of an event.",
            arguments: &[arg("event", ArgumentKind::String)],
            ..reading("history", 3, history)
        },
        Command {
            summary: "Answers the newest sample of each event, and its worst.",
            ..reading("latest", 2, latest)
        },
    ],
    ..command("latency", Run::Container)
}];

fn help(op: &mut SessionOp) -> Result<(), ReplyError> {
    reply_help(
        &mut op.reply,
        "LATENCY",
        &[
            ("DOCTOR", &["Answer a report on the events that took long."]),
            ("GRAPH <event>", &["Draw the samples of <event> with letters."]),
            (
                "HISTORY <event>",
                &["Answer the samples of <event>: time stamps and milliseconds."],
            ),
            ("LATEST", &["Answer the newest sample of each event."]),
            (
                "RESET [<event> ...]",
                &["Forget the samples of these events (default: of all)."],
            ),
            (
                "HISTOGRAM [COMMAND ...]",
                &[
                    "Answer how many calls of each of these commands took at most so many",
                    "microseconds (default: of all commands that were called).",
                ],
            ),
        ],
    );
    Ok(())
}

/// The events of all shards.
async fn events(context: &Context) -> LatencyMonitor {
    let of_shards = context.ask_all(|local| local.env.stats.latency.clone()).await;
    let mut all = LatencyMonitor::default();
    for one in &of_shards {
        all.merge(one);
    }
    all
}

/// The name of the event in the third argument.
fn event_name(context: &Context) -> String {
    String::from_utf8_lossy(context.args().at(2)).into_owned()
}

fn latest(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let all = events(context).await;
        let mut reply = context.reply();
        reply.array(all.events().count());
        for (name, event) in all.events() {
            let (second, ms) = event.samples.back().copied().unwrap_or_default();
            reply.array(4);
            reply.bulk(name.as_bytes());
            reply.integer(second as i64);
            reply.integer(i64::from(ms));
            reply.integer(i64::from(event.all_time_max_ms));
        }
        Ok(())
    })
}

fn history(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let name = event_name(context);
        let all = events(context).await;
        let mut reply = context.reply();
        let Some(event) = all.event(&name) else {
            reply.array(0);
            return Ok(());
        };
        reply.array(event.samples.len());
        for &(second, ms) in &event.samples {
            reply.array(2);
            reply.integer(second as i64);
            reply.integer(i64::from(ms));
        }
        Ok(())
    })
}

fn reset(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let args = context.args().slice_from(2);
        let names: Vec<String> = args
            .iter()
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        let of_shards = context
            .ask_all(move |local| {
                let latency = &mut local.env.stats.latency;
                let gone: Vec<&'static str> = latency
                    .events()
                    .map(|(name, _)| name)
                    .filter(|name| names.is_empty() || names.iter().any(|wanted| wanted == name))
                    .collect();
                for name in &gone {
                    latency.reset(Some(name));
                }
                gone
            })
            .await;
        let gone: BTreeSet<&'static str> = of_shards.into_iter().flatten().collect();
        context.reply().integer(gone.len() as i64);
        Ok(())
    })
}

fn graph(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let name = event_name(context);
        let all = events(context).await;
        let event = all
            .event(&name)
            .filter(|event| !event.samples.is_empty())
            .ok_or_else(|| ReplyError::owned(format!("ERR No samples available for event '{name}'")))?;
        let text = draw(&name, event, UnixMs::now().seconds());
        context.reply().verbatim("txt", text.as_bytes());
        Ok(())
    })
}

const GRAPH_COLUMNS: usize = 80;
const GRAPH_ROWS: usize = 4;
/// The three heights that a letter can show.
const HEIGHTS: [char; 3] = ['_', 'o', '#'];

/// Columns of letters, the oldest sample first, with its age below each.
fn draw(name: &str, event: &LatencyEvent, now_s: u64) -> String {
    let values = || event.samples.iter().map(|(_, ms)| *ms);
    let (low, high) = (values().min().unwrap_or(0), values().max().unwrap_or(0));
    let mut text = format!(
        "{name} - high {high} ms, low {low} ms (all time high {} ms)\n{}\n",
        event.all_time_max_ms,
        "-".repeat(GRAPH_COLUMNS)
    );
    let samples: Vec<(u64, u32)> = event.samples.iter().copied().collect();
    for part in samples.chunks(GRAPH_COLUMNS) {
        let steps = HEIGHTS.len() * GRAPH_ROWS;
        for row in 0..GRAPH_ROWS {
            let below = (GRAPH_ROWS - 1 - row) * HEIGHTS.len();
            for (_, ms) in part {
                let range = (high - low).max(1) as usize;
                let height = ((ms - low) as usize * steps / range).min(steps - 1);
                text.push(match height.checked_sub(below) {
                    Some(height) => HEIGHTS.get(height).copied().unwrap_or('|'),
                    None => ' ',
                });
            }
            text.push('\n');
        }
        text.push_str(&" ".repeat(part.len()));
        text.push('\n');
        let ages: Vec<Vec<char>> = part
            .iter()
            .map(|(second, _)| age(now_s.saturating_sub(*second)).chars().collect())
            .collect();
        for row in 0..ages.iter().map(Vec::len).max().unwrap_or(0) {
            text.extend(ages.iter().map(|age| age.get(row).copied().unwrap_or(' ')));
            text.push('\n');
        }
    }
    text
}

fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

fn doctor(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let all = events(context).await;
        let settings = context.settings();
        let text = diagnose(&all, &settings, UnixMs::now().seconds());
        context.reply().verbatim("txt", text.as_bytes());
        Ok(())
    })
}

/// What DOCTOR says.
fn diagnose(all: &LatencyMonitor, settings: &Settings, now_s: u64) -> String {
    if settings.latency_monitor_threshold == 0 {
        return "Latency monitoring is disabled in this Redis instance. You may use \"CONFIG SET \
                latency-monitor-threshold <milliseconds>.\" in order to enable it.\n"
            .to_owned();
    }
    if all.events().next().is_none() {
        return "No latency spike was observed during the lifetime of this Redis instance.\n".to_owned();
    }
    let mut text = "Latency spikes were observed in this Redis instance:\n\n".to_owned();
    for (index, (name, event)) in all.events().enumerate() {
        let count = event.samples.len().max(1) as u64;
        let mean = event.samples.iter().map(|(_, ms)| u64::from(*ms)).sum::<u64>() / count;
        let deviation = event
            .samples
            .iter()
            .map(|(_, ms)| u64::from(*ms).abs_diff(mean))
            .sum::<u64>()
            / count;
        let first = event.samples.front().map_or(now_s, |(second, _)| *second);
        let period = now_s.saturating_sub(first) as f64 / count as f64;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{}. {name}: {count} latency spikes (average {mean}ms, mean deviation {deviation}ms, period {period:.2} \
             sec). Worst all time event {}ms.",
            index + 1,
            event.all_time_max_ms
        );
    }
    let is_there = |name: &str| all.event(name).is_some();
    let mut advice: Vec<String> = Vec::new();
    if is_there("command") || is_there("fast-command") {
        let threshold_us = settings.latency_monitor_threshold as i64 * 1000;
        let logged = settings.slowlog_log_slower_than;
        if logged < 0 || logged > threshold_us {
            advice.push(format!(
                "The slow log does not show all of these commands. Use 'CONFIG SET slowlog-log-slower-than \
                 {threshold_us}' to see them."
            ));
        } else {
            advice.push("SLOWLOG GET shows which commands took long.".to_owned());
        }
    }
    if is_there("fast-command") {
        advice.push(
            "Commands that always take little time were slow: look for other processes on the same CPUs, for a virtual \
             machine without enough of them, and for swapping."
                .to_owned(),
        );
    }
    if is_there("command") {
        advice.push(
            "A command takes time in proportion to what it touches: look for large keys, and for commands that walk \
             over all of a key or of the keyspace."
                .to_owned(),
        );
    }
    if is_there("expire-cycle") {
        advice.push(
            "Many keys expire in the same moment: spread their expiries, or lower active-expire-effort.".to_owned(),
        );
    }
    text.push_str("\nAdvice:\n\n");
    for line in advice {
        let _ = writeln!(text, "- {line}");
    }
    text
}

fn histogram(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let registry = context.with(|local| local.registry);
        let of_shards = context
            .ask_all(|local| {
                let commands = &local.env.stats.commands;
                commands.iter().map(CommandStats::snapshot).collect::<Vec<_>>()
            })
            .await;
        let mut total: Vec<CommandStats> = registry.all().iter().map(|_| CommandStats::default()).collect();
        for commands in &of_shards {
            for (ours, theirs) in total.iter_mut().zip(commands) {
                ours.add(theirs);
            }
        }
        fold_inner(registry, &mut total);
        let names = context.args().slice_from(2);
        let wanted: Vec<CommandId> = match names.is_empty() {
            true => registry.all().iter().map(|found| found.id).collect(),
            false => names.iter().flat_map(|name| family(registry, name)).collect(),
        };
        let shown: Vec<_> = wanted
            .into_iter()
            .filter_map(|id| Some((id, total[id as usize].histogram()?)))
            .collect();
        let mut reply = context.reply();
        reply.map(shown.len());
        for (id, histogram) in shown {
            reply.bulk(registry.get(id).full_name.as_bytes());
            reply_distribution(&mut reply, &histogram);
        }
        Ok(())
    })
}

/// The command of that name and its subcommands.
fn family(registry: &Registry, name: &[u8]) -> Vec<CommandId> {
    let Some(found) = registry.by_full_name(name) else {
        return Vec::new();
    };
    let children = registry.children(found).map(|child| child.id);
    std::iter::once(found.id).chain(children).collect()
}

/// Calls, and how many of them took at most each of the bounds; a bound that adds no call is left out.
fn reply_distribution(reply: &mut Reply<'_>, histogram: &Histogram<u64>) {
    let mut bounds: Vec<(u64, u64)> = Vec::new();
    let total = histogram.len();
    let mut power = 0;
    while bounds.last().is_none_or(|(_, count)| *count < total) && power < BOUND_POWERS {
        let bound_ns = bound_ns(power);
        power += 1;
        let count: u64 = histogram
            .iter_recorded()
            .filter(|step| step.value_iterated_to() * 1000 <= bound_ns)
            .map(|step| step.count_at_value())
            .sum();
        if count > bounds.last().map_or(0, |(_, count)| *count) {
            bounds.push((bound_ns / 1000, count));
        }
    }
    reply.map(2);
    reply.bulk(b"calls");
    reply.integer(total as i64);
    reply.bulk(b"histogram_usec");
    reply.map(bounds.len());
    for (us, count) in bounds {
        reply.integer(us as i64);
        reply.integer(count as i64);
    }
}

/// More than a second is a second: the last bound lies above it.
const BOUND_POWERS: u32 = 21;

/// Redis's bounds: 1024 ns and its doubles, each up to the end of its bucket in a histogram of two digits.
fn bound_ns(power: u32) -> u64 {
    let start = 1024u64 << power;
    start + start / 128 - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{Proto, ReplyBuf};

    #[test]
    fn distributions_have_the_bounds_of_redis() {
        let bounds: Vec<u64> = (0..9).map(|power| bound_ns(power) / 1000).collect();
        assert_eq!(bounds, [1, 2, 4, 8, 16, 33, 66, 132, 264]);
        let mut stats = CommandStats::default();
        for us in [1, 7, 7, 30_000, 5_000_000] {
            stats.record(us, true);
        }
        let mut out = ReplyBuf::new();
        let histogram = stats.histogram().unwrap();
        reply_distribution(&mut Reply::new(&mut out, Proto::Resp2), &histogram);
        let text = String::from_utf8_lossy(&out.to_contiguous()).into_owned();
        assert_eq!(
            text,
            "*4\r\n$5\r\ncalls\r\n:5\r\n$14\r\nhistogram_usec\r\n*8\r\n:1\r\n:1\r\n:8\r\n:3\r\n:33816\r\n:4\r\n:1082130\r\n:5\r\n"
        );
    }

    #[test]
    fn graphs_show_the_newest_on_the_right() {
        let event = LatencyEvent {
            samples: [(10, 109), (11, 20)].into(),
            all_time_max_ms: 109,
        };
        let text = draw("command", &event, 20);
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(lines, ["# ", "| ", "| ", "|_", "  ", "19", "0s", "s "]);
        assert!(text.starts_with("command - high 109 ms, low 20 ms (all time high 109 ms)\n-"));
    }

    #[test]
    fn the_doctor_says_when_it_sees_nothing() {
        let mut settings = Settings::default();
        let monitor = LatencyMonitor::default();
        assert!(diagnose(&monitor, &settings, 0).contains("disabled"));
        settings.latency_monitor_threshold = 1;
        assert!(diagnose(&monitor, &settings, 0).contains("No latency spike"));
    }
}
