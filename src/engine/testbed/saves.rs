//! Snapshots in a run: they are begun and cancelled whenever it is drawn, the disk fails now and then, and what is on it is compared with
//! what the reference had at the cut.
//!
//! * When a snapshot is reported as saved, its files hold what there was at its cut.
//! * At moments that are drawn, a copy of the disk crashes: what its files hold then is what there was at the cut of the last snapshot that
//!   was reported as saved, or at a later one's. The run itself goes on undisturbed.
//! * What a snapshot that has ended has left beside its files is gone.
//!
//! Which files those are says who would read them at a start ([`Recovery::files`]), so it is the same in either layout.

use super::Recovery;
use super::engine::{Picture, Record, What, uncharged};
use super::judge::Failure;
use super::run::Run;
use super::story::Story;
use super::syncs::{has_file, look_at_file};
use crate::base::clock::UnixMs;
use crate::base::hash::HashSeed;
use crate::data::Limits;
use crate::engine::saves;
use crate::engine::snapshot::{Ending, Reason};
use crate::persist::digest::digest_value;
use crate::persist::file::reader::{Head, Item, Next, Reader};
use crate::persist::rdb::RdbReader;
use crate::persist::value::{Making, Value};
use crate::runtime::disk::{Disk, DiskFile, Failing, SimulatedDisk};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Steps between two snapshots that are begun, on average.
const BEGUN_EVERY: u64 = 400;
const CANCELLED_EVERY: u64 = 4000;
const CRASHED_EVERY: u64 = 300;
const FAILING_EVERY: u64 = 1500;
/// The same for snapshots where processes do not live long, and for machines that stop in the middle of an operation.
const BEGUN_EVERY_SOON: u64 = 100;
const STOPPED_EVERY: u64 = 500;

/// What is known of the disk.
pub(super) struct Saves {
    disk: Arc<SimulatedDisk>,
    /// The newest snapshot that was reported as saved.
    saved: Option<u64>,
    /// A cut that is not reported yet (`Fault::LateCut`).
    late: Option<Record>,
}

/// The parameters of a story that concern snapshots.
pub(super) fn parameters(story: &Story) -> Vec<(String, String)> {
    let has = |name: &str| story.features.has(name);
    // A tight limit makes writers wait, which may change no reply.
    let limit = if story.schedule_seed.is_multiple_of(3) {
        "1024"
    } else {
        "64mb"
    };
    // Processes that follow each other may have others.
    let layout = match has("rdb-layout") && story.schedule_seed >> 5 & 1 == 0 {
        true => "per-shard",
        false => "merged",
    };
    let all = [
        ("rdb-layout", layout),
        (
            "save",
            if (has("snapshots") || has("restarts")) && !has_file(story) {
                "3600 1"
            } else {
                ""
            },
        ),
        ("stop-writes-on-bgsave-error", "no"),
        ("snapshot-memory-max", limit),
    ];
    all.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

impl Saves {
    /// Of a process that has found what that snapshot has saved, or something later.
    pub(super) fn new(disk: Arc<SimulatedDisk>, saved: Option<u64>) -> Saves {
        Saves {
            disk,
            saved,
            late: None,
        }
    }

    /// The newest snapshot that was reported as saved.
    pub(super) fn saved(&self) -> Option<u64> {
        self.saved
    }

    /// Reports cuts when something else has run since.
    pub(super) fn delay_cut(&mut self, records: &mut Vec<Record>) {
        let is_cut = |record: &Record| matches!(record.what, What::Cut { .. });
        let cut = records.iter().position(is_cut).map(|at| records.remove(at));
        if !records.is_empty() {
            records.extend(self.late.take());
        }
        self.late = cut.or(self.late.take());
    }
}

/// Begins, cancels and looks at snapshots, after each step.
pub(super) fn look_at_disk(run: &mut Run<'_>) -> Result<(), Failure> {
    let restarts = run.story.features.has("restarts");
    if has_file(run.story) {
        return look_at_file(run);
    }
    if !restarts && !run.story.features.has("snapshots") || run.engine.is_loading() {
        return Ok(());
    }
    let shard = run.random.below(run.shards.len());
    let is_in_pass = run.shards[shard].torn.is_some();
    let begun_every = if restarts { BEGUN_EVERY_SOON } else { BEGUN_EVERY };
    if run.random.chance(1, begun_every) && !is_in_pass && !run.are_waiting {
        let begun = run.engine.with(shard, |local| saves::begin(local, Reason::Background));
        run.shards[shard].is_woken = true;
        if let Some(number) = begun {
            run.tell_at(|| format!("shard {shard} begins snapshot {number}"));
        }
        run.judge_units_after(run.engine.step_ns.get())?;
    }
    if run.random.chance(1, CANCELLED_EVERY) && !is_in_pass {
        run.engine
            .with(shard, |local| local.node.snapshots.cancel(true, local.env.now));
        run.tell_at(|| "the snapshot is cancelled".to_owned());
    }
    if run.story.features.has("failing-disk") && run.random.chance(1, FAILING_EVERY) {
        let operation = run.saves.disk.operations() + run.random.u64_in(0..12);
        let how = [Failing::NoSpace, Failing::Broken][run.random.below(2)];
        run.saves.disk.fail_at(operation, how);
    }
    if run.story.after.is_some() && run.random.chance(1, STOPPED_EVERY) {
        let operation = run.saves.disk.operations() + run.random.u64_in(0..40);
        run.saves.disk.fail_at(operation, Failing::Crash);
    }
    note_endings(run)?;
    if run.random.chance(1, CRASHED_EVERY) {
        let seed = run.random.next_u64();
        let after = uncharged(|| {
            let copy = run.saves.disk.fork(seed);
            copy.crash();
            copy.restart();
            DataSet::on(&copy, run.recovery)
        })?;
        check_files(run, &after, false)?;
    }
    Ok(())
}

/// Looks which snapshots have ended since.
fn note_endings(run: &mut Run<'_>) -> Result<(), Failure> {
    let snapshots = run.engine.shards[0].borrow().node.snapshots.clone();
    let own = run.judge.numbers_from;
    let open = run.judge.cuts.iter().map(|cut| cut.number);
    let saved = open
        .filter(|number| *number > own && snapshots.ending(number - own) == Ending::Saved)
        .max();
    if saved.is_none_or(|number| Some(number) <= run.saves.saved) {
        return Ok(());
    }
    run.saves.saved = saved;
    let found = DataSet::on(&run.saves.disk, run.recovery)?;
    check_files(run, &found, true)?;
    // Only this one and later ones can be found from here on.
    run.judge.cuts.retain(|cut| Some(cut.number) >= saved);
    check_changes(run)?;
    // What could not be removed when the disk failed is there still.
    if !snapshots.is_under_way() && !run.story.features.has("failing-disk") {
        let names = run.saves.disk.names();
        if names.len() > found.files.len() {
            return Err(Failure::new(
                "snapshot",
                format!("something is left beside {:?}: {names:?}", found.files),
            ));
        }
    }
    Ok(())
}

/// What is counted as not saved is what has changed since the cut of the snapshot that has just been saved.
fn check_changes(run: &Run<'_>) -> Result<(), Failure> {
    // Evictions count, and are not the reference's; and who removes all keys counts those whose time is over.
    let is_fuzzy = run.judge.is_short_of_memory || run.story.keys_expire;
    let Some(cut) = run.judge.cuts.first().filter(|_| !is_fuzzy) else {
        return Ok(());
    };
    // A transaction that waits in its middle has counted, and has not been reported.
    let is_idle = run.engine.shards.iter().all(|shard| shard.borrow().core.is_idle());
    if !is_idle {
        return Ok(());
    }
    let snapshots = &run.engine.shards[0].borrow().node.snapshots;
    let told = snapshots.unsaved_changes(run.engine.changes());
    let since = run.judge.reference.changes() - cut.changes;
    match told == since {
        true => Ok(()),
        false => Err(Failure::new(
            "changes",
            format!("{told} changes are said not to be saved, and {since} were made since the cut"),
        )),
    }
}

/// The files of a snapshot, as a start would find them.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct DataSet {
    pub(super) files: Vec<PathBuf>,
    contents: Vec<Vec<u8>>,
}

impl DataSet {
    /// On a copy of the disk: it stays as it is.
    pub(super) fn on(disk: &SimulatedDisk, recovery: &dyn Recovery) -> Result<DataSet, Failure> {
        uncharged(|| {
            let copy = disk.fork(0);
            let found = recovery.files(&*copy);
            let files = found.map_err(|error| Failure::new("snapshot", format!("a start would find: {error}")))?;
            let contents = files.iter().filter_map(|file| copy.content(file)).collect();
            Ok(DataSet { files, contents })
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Whether they hold the same, under whatever names.
    pub(super) fn holds_what(&self, other: &DataSet) -> bool {
        self.contents == other.contents
    }
}

/// The files are of the last snapshot that was saved, or, if they need not be, of a later one.
pub(super) fn check_files(run: &Run<'_>, found: &DataSet, is_exact: bool) -> Result<(), Failure> {
    let wrong = |text: String| Err(Failure::new("snapshot", text));
    if found.is_empty() {
        return match run.saves.saved {
            None => Ok(()),
            Some(number) => wrong(format!("snapshot {number} was saved, and there is no file")),
        };
    }
    let mut entries = Picture::new();
    for content in &found.contents {
        if let Err(error) = read(content, &mut entries) {
            return wrong(format!("a file cannot be read: {error}"));
        }
    }
    let mut difference = None;
    for cut in run.judge.cuts.iter().filter(|cut| Some(cut.number) >= run.saves.saved) {
        if is_exact && Some(cut.number) > run.saves.saved {
            break;
        }
        let mut found = entries.clone();
        found.retain(|key, (expiry, _)| expiry.is_none_or(|expiry| expiry >= cut.now) && !cut.fading.contains(key));
        let mut expected = cut.picture.clone();
        expected.retain(|key, _| !cut.fading.contains(key));
        if found == expected {
            return Ok(());
        }
        difference = difference.or(Some((cut.number, first_difference(&found, &expected))));
    }
    match difference {
        Some((number, text)) => wrong(format!("the file is not of snapshot {number}: {text}")),
        None => wrong("there is a file, and there was no cut".to_owned()),
    }
}

/// What there was at the cut of a snapshot.
#[derive(Clone)]
pub(super) struct CutSeen {
    pub(super) number: u64,
    pub(super) now: UnixMs,
    pub(super) picture: Picture,
    /// Of these keys nothing is said.
    pub(super) fading: BTreeSet<(u32, Vec<u8>)>,
    /// How many changes the reference had counted.
    pub(super) changes: u64,
}

pub(super) fn first_difference(found: &Picture, expected: &Picture) -> String {
    let keys = found.keys().chain(expected.keys());
    let mut differing = keys.filter(|key| found.get(*key) != expected.get(*key));
    differing.next().map_or_else(String::new, |key| {
        format!(
            "{} in db {}: {:?} in place of {:?}",
            key.1.escape_ascii(),
            key.0,
            found.get(key),
            expected.get(key)
        )
    })
}

/// What a file holds; each key once in all files.
fn read(content: &[u8], picture: &mut Picture) -> Result<(), String> {
    let limits = Limits::default();
    let making = Making {
        limits: &limits,
        seed: HashSeed([1, 2]),
    };
    let mut reader = Reader::new(content, Some(content.len() as u64), true).map_err(|error| error.to_string())?;
    let version = reader.version();
    let mut db = 0;
    let mut entries: Vec<(u32, std::ops::Range<usize>)> = Vec::new();
    loop {
        let next = reader.look().map_err(|error| error.to_string())?;
        let is_end = match next {
            Next::Item(Item::Entry(place)) => {
                entries.push((db, place.start..place.end));
                continue;
            }
            Next::Item(Item::SelectDb(number)) => {
                db = u32::try_from(number).map_err(|_| "no such db".to_owned())?;
                continue;
            }
            Next::Item(Item::End) => true,
            Next::Item(_) => continue,
            Next::PageEnd => false,
        };
        let page = reader.turn_page();
        for (db, range) in entries.drain(..) {
            let mut bytes = RdbReader::new(&page.bytes[range]);
            let head = Head::read(&mut bytes).map_err(|error| error.to_string())?;
            let value = Value::read_kind(head.kind, &mut bytes, making, version).map_err(|error| error.to_string())?;
            let entry = value.into_entry(&head.key, head.expiry, 0);
            let key = (db, head.key.to_vec());
            if picture
                .insert(key, (head.expiry, digest_value(entry.as_ref())))
                .is_some()
            {
                return Err(format!("{} is there twice", head.key.escape_ascii()));
            }
        }
        if is_end {
            return Ok(());
        }
    }
}

/// The simulated disk, whose memory no shard is charged with.
pub(super) struct Uncharged(pub(super) Arc<SimulatedDisk>);

struct UnchargedFile(Option<Box<dyn DiskFile>>);

impl Disk for Uncharged {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = uncharged(|| self.0.create(path))?;
        Ok(Box::new(UnchargedFile(Some(file))))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = uncharged(|| self.0.open(path))?;
        Ok(Box::new(UnchargedFile(Some(file))))
    }

    fn open_shared(&self, path: &Path) -> io::Result<Arc<dyn DiskFile + Sync>> {
        uncharged(|| self.0.open_shared(path))
    }

    fn open_to_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = uncharged(|| self.0.open_to_append(path))?;
        Ok(Box::new(UnchargedFile(Some(file))))
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        uncharged(|| self.0.make_dir(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        uncharged(|| self.0.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        uncharged(|| self.0.remove(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        self.0.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        uncharged(|| self.0.sync_dir(dir))
    }
}

impl Drop for UnchargedFile {
    fn drop(&mut self) {
        uncharged(|| drop(self.0.take()));
    }
}

impl UnchargedFile {
    fn file(&self) -> &dyn DiskFile {
        &**self.0.as_ref().expect("it is taken only in drop")
    }

    fn file_mut(&mut self) -> &mut dyn DiskFile {
        &mut **self.0.as_mut().expect("it is taken only in drop")
    }
}

impl DiskFile for UnchargedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        uncharged(|| self.file_mut().append(bytes))
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        uncharged(|| self.file_mut().write_at(bytes, offset))
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        uncharged(|| self.file().read_at(bytes, offset))
    }

    fn len(&self) -> io::Result<u64> {
        self.file().len()
    }

    fn sync(&mut self) -> io::Result<()> {
        uncharged(|| self.file_mut().sync())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        uncharged(|| self.file_mut().truncate(len))
    }

    fn again(&self) -> io::Result<Box<dyn DiskFile>> {
        let file = uncharged(|| self.file().again())?;
        Ok(Box::new(UnchargedFile(Some(file))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_named() {
        let digest = |number: i64| {
            let entry = crate::store::OwnedEntry::int(b"k", number, None, 0);
            digest_value(entry.as_ref())
        };
        let picture = |number| Picture::from([((3, b"k".to_vec()), (None, digest(number)))]);
        assert_eq!(first_difference(&picture(1), &picture(1)), "");
        assert!(first_difference(&picture(1), &picture(2)).starts_with("k in db 3: "));
    }
}
