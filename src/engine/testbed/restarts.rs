//! Processes that follow each other: one is killed, or its machine crashes, and the next begins with what is on the disk, with any number of
//! shards.
//!
//! * What it finds is what there was at the cut of the last snapshot that was reported as saved, or at that of a later one (`saves`).
//! * What it has when it serves is what the same file makes of a single shard, which the judge goes on with.
//! * Until then whatever cannot run while a data set is read is refused with Redis's words, or was not run before it was whole.
//! * Where the disk fails, a process may come to its end while it reads: that is an end then, and the file is as it was.
//!
//! The code that finds and reads the file is that of a server's start; only that its threads are tasks here, which go on when it is drawn.

use super::Testbed;
use super::engine::Engine;
use super::fault::Fault;
use super::history::History;
use super::judge::Failure;
use super::run::Run;
use super::saves::{CutSeen, DataSet, check_files, first_difference};
use super::story::{Death, Story};
use super::syncs::has_file;
use crate::base::clock::UnixMs;
use crate::base::random::Random;
use crate::engine::assembly::BEGIN;
use crate::runtime::disk::{Disk, Failing, SimulatedDisk};
use std::sync::Arc;

/// The snapshots of each process have numbers above those of the one before.
const NUMBERS_OF_A_PROCESS: u64 = 1 << 32;

/// Calendars are not further apart than this, and what expires in between is not looked at.
const SKEW_MS: u64 = 10;

/// Polls of tasks within which a data set is read, or that has failed.
const POLLS_MAX: usize = 1_000_000;

/// Operations of the disk, of which one fails, while a data set is found and read.
const OPERATIONS: u64 = 16;

/// What one process leaves to the next.
pub(super) struct Estate {
    pub(super) disk: Arc<SimulatedDisk>,
    pub(super) course_ns: u64,
    /// The newest snapshot that was reported as saved, and all that may be on the disk.
    pub(super) saved: Option<u64>,
    pub(super) cuts: Vec<CutSeen>,
    /// All numbers of snapshots so far are below.
    pub(super) numbers_from: u64,
    pub(super) is_first: bool,
    /// Its machine has crashed.
    pub(super) has_crashed: bool,
    /// What has happened in the process before, where an append-only file is to tell that.
    pub(super) history: Option<History>,
}

impl Estate {
    /// Of the first process: nothing.
    pub(super) fn new(story: &Story) -> Estate {
        Estate {
            disk: SimulatedDisk::new(story.schedule_seed),
            course_ns: BEGIN.0 * 1_000_000,
            saved: None,
            cuts: Vec::new(),
            numbers_from: 0,
            is_first: true,
            has_crashed: false,
            history: None,
        }
    }

    /// The time at which the data set is read.
    pub(super) fn now(&self) -> UnixMs {
        UnixMs(self.course_ns / 1_000_000)
    }

    /// The parameters that concern the reading.
    pub(super) fn parameters(&self, story: &Story) -> Vec<(String, String)> {
        let delays_us = ["0", "0", "1000", "20000"];
        let delay_us = delays_us[(story.schedule_seed >> 8) as usize % delays_us.len()];
        match self.is_first {
            true => Vec::new(),
            false => vec![("key-load-delay".to_owned(), delay_us.to_owned())],
        }
    }
}

/// Whether this process has done what it does before it dies.
pub(super) fn is_to_die(run: &Run<'_>) -> bool {
    let after = run.story.after.as_ref();
    after.is_some_and(|(death, _)| run.step_count >= death.after_steps) || run.engine.disk.has_crashed()
}

/// The process dies. What it leaves must be what it has said.
pub(super) fn die(run: &mut Run<'_>, death: Death) -> Result<Estate, Failure> {
    run.tell_at(|| format!("the process dies: {death:?}"));
    run.engine.abandon();
    let disk = run.engine.disk.clone();
    let has_crashed = death.is_crash || disk.has_crashed();
    match has_crashed {
        true => {
            disk.crash();
            disk.restart();
        }
        false => disk.end_process(),
    }
    if has_file(run.story) {
        return Ok(Estate {
            disk,
            course_ns: run.engine.course_ns.get() + death.gap_ms * 1_000_000,
            saved: None,
            cuts: Vec::new(),
            numbers_from: run.judge.numbers_from + NUMBERS_OF_A_PROCESS,
            is_first: false,
            has_crashed,
            history: None,
        });
    }
    let mut found = DataSet::on(&disk, run.recovery)?;
    if run.manner.fault == Fault::LoseSaved {
        for name in disk.names() {
            let removed = disk.remove(&name);
            removed.map_err(|error| Failure::new("story", error.to_string()))?;
        }
        found = DataSet::on(&disk, run.recovery)?;
    }
    check_files(run, &found, false)?;
    let mut cuts = std::mem::take(&mut run.judge.cuts);
    let saved = run.saves.saved();
    cuts.retain(|cut| Some(cut.number) >= saved);
    if has_crashed {
        // What is there is on the disk, and nothing else can come up any more.
        cuts.clear();
    }
    let numbers_from = run.judge.numbers_from + NUMBERS_OF_A_PROCESS;
    Ok(Estate {
        disk,
        course_ns: run.engine.course_ns.get() + death.gap_ms * 1_000_000,
        saved: match has_crashed {
            true => (!found.is_empty()).then_some(numbers_from),
            false => saved,
        },
        cuts,
        numbers_from,
        is_first: false,
        has_crashed,
        history: None,
    })
}

/// Lets a process start whose disk fails while it reads, if that is drawn.
pub(super) fn fail_to_start(story: &Story, bed: &Testbed<'_>, estate: &Estate) -> Result<(), Failure> {
    let random = &mut Random::with_seed(!story.schedule_seed);
    if estate.is_first || has_file(story) || !story.features.has("failing-disk") || random.chance(1, 2) {
        return Ok(());
    }
    let disk = &estate.disk;
    let before = DataSet::on(disk, bed.recovery)?;
    disk.fail_at(disk.operations() + random.u64_in(0..OPERATIONS), Failing::Broken);
    // It may end before there are any shards.
    if let Ok(mut engine) = Engine::new(story, bed.registry, estate, bed.recovery) {
        let mut polls = 0;
        while engine.loaded.borrow().is_none() {
            let ready = |shard: &usize| engine.tasks[*shard].ready_count() > 0;
            let ready: Vec<usize> = (0..story.shard_count).filter(ready).collect();
            polls += 1;
            if ready.is_empty() || polls > POLLS_MAX {
                return Err(Failure::new(
                    "load",
                    "a start whose disk fails does not come to its end",
                ));
            }
            let shard = ready[random.below(ready.len())];
            let number = random.below(engine.tasks[shard].ready_count());
            engine.poll(shard, number);
        }
        engine.abandon();
    }
    disk.end_process();
    match DataSet::on(disk, bed.recovery)?.holds_what(&before) {
        true => Ok(()),
        false => Err(Failure::new("load", "a start whose disk fails has changed the file")),
    }
}

/// Looks what the reading of the data set has come to.
pub(super) fn look_at_loading(run: &mut Run<'_>) -> Result<(), Failure> {
    if !run.is_unseen {
        return Ok(());
    }
    if let Some(Err(error)) = &*run.engine.loaded.borrow() {
        return Err(Failure::new("load", error.clone()));
    }
    let course_ns = run.engine.course_ns.get();
    run.judge.is_loading = run.engine.is_loading();
    let mut is_over = true;
    for (index, shard) in run.engine.shards.iter().enumerate() {
        match shard.borrow().env.is_loading {
            true => is_over = false,
            false => run.judge.loaded(index, course_ns),
        }
    }
    run.judge.is_replaying = run.judge.is_loading || !is_over;
    let is_in_pass = run.shards.iter().any(|state| state.torn.is_some());
    // A transaction that waits in its middle has changed something, and has not been reported.
    let is_idle = run.engine.shards.iter().all(|shard| shard.borrow().core.is_idle());
    if !is_over || is_in_pass || run.judge.is_loading || !is_idle {
        return Ok(());
    }
    if run.manner.fault == Fault::LoseLoaded {
        lose_key(run);
    }
    let now = UnixMs(course_ns / 1_000_000 + SKEW_MS);
    let Some(mut found) = run.engine.picture(now, run.story.slot_count) else {
        return Ok(());
    };
    let mut expected = run.judge.reference.picture(now);
    let fading = run.judge.reference.fading(now);
    found.retain(|key, _| !fading.contains(key));
    expected.retain(|key, _| !fading.contains(key));
    run.is_unseen = false;
    run.tell_at(|| format!("{} keys are loaded", found.len()));
    match found == expected {
        true => Ok(()),
        false => Err(Failure::new(
            "loaded",
            format!(
                "what was loaded is not what there was: {}",
                first_difference(&found, &expected)
            ),
        )),
    }
}

/// Removes a key that nobody has asked to be removed.
fn lose_key(run: &mut Run<'_>) {
    for shard in 0..run.shards.len() {
        let has_lost = run.engine.with(shard, |local| {
            let nobody = crate::shard::ConnRef::background(local.id());
            let moment = local.env.moment();
            let slots: Vec<u16> = local.core.slots_here().collect();
            slots.into_iter().any(|index| {
                let mut view = local.core.try_view(&[index], nobody).expect("nothing is lent");
                let slot = view.slot(index).expect("the view was given this slot");
                let mut found = None;
                for db in slot.dbs() {
                    slot.for_each(db, moment.now, |entry| found = Some((db, entry.key().to_vec())));
                }
                found.is_some_and(|(db, key)| slot.remove(db, &key, moment))
            })
        });
        if has_lost {
            return;
        }
    }
}
