//! The disks of what is logged: it is synced when it is drawn, by a sync that begins and ends as steps of their own, and until then it would be
//! lost with the machine.
//!
//! What is logged goes to tapes, or, where a story has an append-only file, into that: with any layout and policy, rewritten when it
//! is drawn, and read by the next process.
//!
//! What is on disk is known here by itself: the turns whose chunks were written when a sync began that has ended.
//!
//! * Under `appendfsync always` a reply that a client is sent, and all that it was sent before, shows nothing beyond that (`judge`).
//! * What the next process finds is what there was at some turn: after the death of a process not before the last one that was written and
//!   after all others were, after the crash of a machine not before the last durable one (`history`).

use super::engine::{Engine, uncharged};
use super::fault::Fault;
use super::history::History;
use super::judge::{Failure, waits_for_disk};
use super::run::Run;
use super::story::Story;
use crate::base::clock::UnixMs;
use crate::engine::aof::Sync;
use crate::engine::rewrites;
use crate::runtime::disk::{Failing, SimulatedDisk};
use crate::shard::ShardId;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Steps between two rewrites of the append-only file, on average.
const REWRITTEN_EVERY: u64 = 150;
/// Steps until a machine stops in the middle of an operation.
const STOPPED_EVERY: u64 = 500;

/// Whether what shards log goes into an append-only file.
pub(super) fn has_file(story: &Story) -> bool {
    story.features.has("file")
}

fn layout(story: &Story) -> &'static str {
    ["per-shard", "per-shard", "single"][(story.schedule_seed >> 17) as usize % 3]
}

/// Whether that is as Redis writes it, so that it says nothing of chunks.
pub(super) fn is_plain(story: &Story) -> bool {
    story.shard_count == 1 || layout(story) == "single"
}

/// The parameters of a story that concern its append-only file.
pub(super) fn parameters(story: &Story) -> Vec<(String, String)> {
    if !has_file(story) {
        return Vec::new();
    }
    let seed = story.schedule_seed >> 16;
    let policy = match waits_for_disk(story) {
        true => "always",
        false => ["everysec", "no"][(seed & 1) as usize],
    };
    let all = [
        ("appendonly", "yes"),
        ("appendfsync", policy),
        ("aof-layout", layout(story)),
        ("auto-aof-rewrite-percentage", "0"),
    ];
    all.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

/// Those of a reference, which is to read the same data set.
pub(super) fn parameters_of_reference(story: &Story) -> Vec<(String, String)> {
    let all = has_file(story).then(|| ("appendonly".to_owned(), "yes".to_owned()));
    all.into_iter().collect()
}

/// Whether replies are known to wait for the disk: that may change while the process runs, by requests of clients, each of which takes effect at
/// some moment between its arrival and its reply.
pub(super) struct Policy {
    is_sure: bool,
    /// What has a later turn is on disk before it is shown.
    since_turn: u64,
    /// Requests that are to change it and are under way.
    open: usize,
    /// Several are, or were, at once: which of them was the last is not known.
    are_mixed: bool,
}

impl Policy {
    pub(super) fn of(story: &Story) -> Policy {
        Policy {
            is_sure: waits_for_disk(story),
            since_turn: 0,
            open: 0,
            are_mixed: false,
        }
    }

    /// A request has come that is to change it.
    pub(super) fn asked(&mut self) {
        self.is_sure = false;
        self.are_mixed = self.open > 0;
        self.open += 1;
    }

    /// It was answered when the last turn was that one.
    pub(super) fn answered(&mut self, always: bool, last_turn: u64) {
        self.open -= 1;
        self.is_sure = always && self.open == 0 && !self.are_mixed;
        self.are_mixed &= self.open > 0;
        self.since_turn = last_turn;
    }

    /// Whether a reply that shows this turn must wait for the disk.
    pub(super) fn holds(&self, turn: u64) -> bool {
        self.is_sure && turn > self.since_turn
    }
}

/// A sync that is under way: of the file of a shard, or of one place of the append-only file.
struct UnderWay {
    turns: Vec<u64>,
    sync: Option<Sync>,
}

/// See the essay above.
#[derive(Default)]
pub(super) struct Syncs {
    /// Of each shard that stands for a file.
    under_way: Vec<Option<UnderWay>>,
    /// Shards that were rung for.
    rung: Arc<Vec<AtomicBool>>,
}

impl Syncs {
    pub(super) fn new(engine: &Engine, story: &Story) -> Syncs {
        let rung: Arc<Vec<_>> = Arc::new((0..story.shard_count).map(|_| AtomicBool::new(false)).collect());
        let bells = rung.clone();
        let node = engine.shards[0].borrow().node.clone();
        node.turns.durable.ring_by(Box::new(move |shard| {
            bells[usize::from(shard.0)].store(true, Ordering::Relaxed);
        }));
        if !has_file(story) {
            node.turns.durable.hold(true);
        }
        let places = if has_file(story) {
            node.aof.writers.place_count()
        } else {
            story.shard_count
        };
        Syncs {
            under_way: (0..places).map(|_| None).collect(),
            rung,
        }
    }

    /// Whether a sync can begin, or end, of that shard's file, or of that place.
    pub(super) fn can_go_on(&self, engine: &Engine, shard: usize) -> bool {
        let Some(under_way) = self.under_way.get(shard) else {
            return false;
        };
        let turns = &engine.shards[0].borrow().node.turns;
        let shards = (0..engine.shards.len()).filter(|other| other % self.under_way.len() == shard);
        let mut shards = shards.map(|shard| ShardId(shard as u16));
        under_way.is_some() || shards.any(|shard| turns.durable.is_unsynced(shard))
    }
}

/// Begins a sync of that shard's file, or of that place, or ends the one that is under way.
pub(super) fn sync(run: &mut Run<'_>, place: usize) -> Result<(), Failure> {
    let node = run.engine.shards[0].borrow().node.clone();
    let places = run.syncs.under_way.len();
    let id = ShardId(place as u16);
    match run.syncs.under_way[place].take() {
        None => {
            let shards = (0..run.shards.len()).filter(|shard| shard % places == place);
            let turns: Vec<u64> = shards.flat_map(|shard| run.judge.history.unsynced(shard)).collect();
            let (begins, sync) = match has_file(run.story) {
                true => {
                    let sync = uncharged(|| node.aof.writers.begin_sync(place));
                    (sync.is_some(), sync)
                }
                false => (node.turns.begin_sync(id), None),
            };
            if begins {
                run.syncs.under_way[place] = Some(UnderWay { turns, sync });
            }
        }
        Some(UnderWay { turns, sync }) => {
            // What nobody has synced is said to be synced.
            let is_lost = run.manner.fault == Fault::LoseSync && run.random.chance(1, 8);
            match sync {
                None => node.turns.end_sync(id),
                Some(mut sync) => uncharged(|| {
                    let outcome = if is_lost { Ok(()) } else { sync.run() };
                    if outcome.is_ok() {
                        node.aof.writers.end_sync(sync, outcome);
                    }
                }),
            }
            if !is_lost && !run.engine.disk.has_crashed() {
                run.judge.history.synced(&turns);
            }
            run.tell_at(|| format!("place {place} has synced turns {turns:?}"));
        }
    }
    for (state, rung) in run.shards.iter_mut().zip(&*run.syncs.rung) {
        state.is_woken |= rung.swap(false, Ordering::Relaxed);
    }
    Ok(())
}

/// Begins rewrites, and stops the machine, after each step.
pub(super) fn look_at_file(run: &mut Run<'_>) -> Result<(), Failure> {
    if run.engine.is_loading() {
        return Ok(());
    }
    let shard = run.random.below(run.shards.len());
    if run.random.chance(1, REWRITTEN_EVERY) && run.shards[shard].torn.is_none() && !run.are_waiting {
        let asked = run.engine.with(shard, |local| rewrites::ask(local, false));
        run.shards[shard].is_woken = true;
        run.tell_at(|| format!("shard {shard} is to rewrite the file: {asked:?}"));
        run.judge_units_after(run.engine.step_ns.get())?;
    }
    if run.story.after.is_some() && run.random.chance(1, STOPPED_EVERY) {
        let operation = run.engine.disk.operations() + run.random.u64_in(0..40);
        run.engine.disk.fail_at(operation, Failing::Crash);
    }
    Ok(())
}

/// Whether this refusal to start is about the plain increment that was written last: a crash may leave anything behind what was synced.
/// (Those behind it that are empty were made for a rewrite that never came to its cut.)
pub(super) fn is_garbage_at_the_end(disk: &SimulatedDisk, refusal: &str) -> bool {
    let dir = Path::new("/appendonlydir");
    let manifest = disk.content(&dir.join("appendonly.aof.manifest"));
    let manifest = String::from_utf8(manifest.unwrap_or_default()).unwrap_or_default();
    let name_of = |line: &str| line.split(' ').nth(1).unwrap_or_default().to_owned();
    let is_written = |line: &&str| {
        disk.content(&dir.join(name_of(line)))
            .is_some_and(|bytes| !bytes.is_empty())
    };
    let increments = manifest.lines().filter(|line| line.contains(" type i"));
    let last = increments.rev().find(is_written);
    let last = last.filter(|line| !line.contains(" shard "));
    last.map(name_of).is_some_and(|name| {
        let is_of_it = refusal.starts_with(&format!("/appendonlydir/{name}: at offset "));
        is_of_it && !refusal.contains("Unexpected end of file")
    })
}

/// Holds what a process has read against what happened in the one before.
pub(super) fn survives(run: &mut Run<'_>, history: History, has_crashed: bool) -> Result<(), Failure> {
    let now = UnixMs(run.engine.course_ns.get() / 1_000_000);
    let fading = run.judge.reference.fading(now);
    let mut found = run.judge.reference.picture(now);
    found.retain(|key, _| !fading.contains(key));
    history.survives(&found, &fading, now, has_crashed)
}
