//! A disk in memory that loses, tears, fails and crashes as its seed and its orders say.
//!
//! Each file has what the process sees and what is *synced*. A crash keeps of what was not synced a prefix of the appended bytes that is
//! drawn, and may tear the last one in it; a patch that was not synced is kept or not. Names are kept in the same two pictures: after a crash
//! some beginning of the changes of names since the last [`Disk::sync_dir`] has happened, as on a disk that keeps a journal, or any of them,
//! since nobody promises more. A sync of a directory is for its own names. So whoever relies on an order that it has not forced is found out by
//! some seed.

use super::{Disk, DiskFile};
use crate::base::random::Random;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What an operation meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// The machine stops: this and every later operation fails until it has been started again.
    Crash,
    /// ENOSPC; a write has written some of its bytes.
    NoSpace,
    /// EIO.
    Broken,
}

/// See the essay above.
#[derive(Clone)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

struct State {
    files: BTreeMap<u64, Content>,
    names: BTreeMap<PathBuf, u64>,
    /// The names as a crash would find them, if no change since were kept.
    synced_names: BTreeMap<PathBuf, u64>,
    /// Changes of names since, in their order.
    changes: Vec<NameChange>,
    next_file: u64,
    random: Random,
    operations: u64,
    orders: Vec<(u64, Failing)>,
    has_crashed: bool,
    /// Handles from before a crash are dead.
    era: u64,
}

#[derive(Clone)]
enum NameChange {
    Is(PathBuf, u64),
    Moved(PathBuf, PathBuf, u64),
    Gone(PathBuf),
}

impl NameChange {
    /// Whether a directory's sync makes it last. (What was moved from one to another is there or here, whichever is synced.)
    fn concerns(&self, dir: &Path) -> bool {
        let lies_there = |path: &PathBuf| path.parent() == Some(dir);
        match self {
            NameChange::Is(path, _) | NameChange::Gone(path) => lies_there(path),
            NameChange::Moved(from, to, _) => lies_there(from) || lies_there(to),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            NameChange::Is(path, file) => {
                names.insert(path.clone(), *file);
            }
            NameChange::Moved(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
            NameChange::Gone(path) => {
                names.remove(path);
            }
        }
    }
}

#[derive(Clone, Default)]
struct Content {
    seen: Vec<u8>,
    synced: Vec<u8>,
}

impl SimulatedDisk {
    pub fn new(seed: u64) -> Arc<SimulatedDisk> {
        Arc::new(SimulatedDisk(Arc::new(Mutex::new(State {
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            synced_names: BTreeMap::new(),
            changes: Vec::new(),
            next_file: 0,
            random: Random::with_seed(seed),
            operations: 0,
            orders: Vec::new(),
            has_crashed: false,
            era: 0,
        }))))
    }

    /// Lets the operation of that number (as [`SimulatedDisk::operations`] counts) fail so.
    pub fn fail_at(&self, operation: u64, how: Failing) {
        self.lock().orders.push((operation, how));
    }

    /// How many operations there have been.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    pub fn has_crashed(&self) -> bool {
        self.lock().has_crashed
    }

    /// The machine stops now.
    pub fn crash(&self) {
        self.lock().has_crashed = true;
    }

    /// The process ends, and the machine goes on: what was written is there, and what was open is dead.
    pub fn end_process(&self) {
        let mut state = self.lock();
        state.era += 1;
        state.orders.clear();
    }

    /// The machine is there again, with what a crash has left of the files. What was open is dead.
    pub fn restart(&self) {
        let state = &mut *self.lock();
        state.era += 1;
        state.has_crashed = false;
        state.orders.clear();
        let changes = std::mem::take(&mut state.changes);
        let (begun, keeps_order) = (state.random.below(changes.len() + 1), state.random.chance(1, 2));
        for (at, change) in changes.iter().enumerate() {
            let is_kept = match keeps_order {
                true => at < begun,
                false => state.random.chance(1, 2),
            };
            if is_kept {
                change.apply(&mut state.synced_names);
            }
        }
        state.names = state.synced_names.clone();
        let State {
            files, names, random, ..
        } = state;
        files.retain(|file, _| names.values().any(|named| named == file));
        for content in files.values_mut() {
            let left = what_a_crash_leaves(content, random);
            content.seen.clone_from(&left);
            content.synced = left;
        }
    }

    /// Another machine with a copy of this disk, of which nothing is open.
    pub fn fork(&self, seed: u64) -> Arc<SimulatedDisk> {
        let state = self.lock();
        let copy = SimulatedDisk::new(seed);
        {
            let mut other = copy.lock();
            other.files.clone_from(&state.files);
            other.names.clone_from(&state.names);
            other.synced_names.clone_from(&state.synced_names);
            other.changes.clone_from(&state.changes);
            other.next_file = state.next_file;
        }
        copy
    }

    /// What a file holds now, for whoever looks at the disk from outside; no operation.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock();
        let file = state.names.get(path)?;
        Some(state.files.get(file)?.seen.clone())
    }

    /// The names that there are; no operation.
    pub fn names(&self) -> Vec<PathBuf> {
        self.lock().names.keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was synced, or some of what was seen in its place.
fn what_a_crash_leaves(content: &Content, random: &mut Random) -> Vec<u8> {
    let Content { seen, synced } = content;
    if seen == synced || random.chance(1, 4) {
        return synced.clone();
    }
    let least = synced.len().min(seen.len());
    let keeps_patches = random.chance(1, 2);
    let mut left = if keeps_patches {
        seen[..least].to_vec()
    } else {
        synced[..least].to_vec()
    };
    let more = random.below(seen.len() - least + 1);
    left.extend_from_slice(&seen[least..least + more]);
    if more > 0 && random.chance(1, 3) {
        // The length has come to the disk, the last bytes have not.
        let torn = 1 + random.below(more.min(512));
        let end = left.len();
        left[end - torn..].fill(0);
    }
    left
}

impl State {
    /// Counts an operation; how it is to fail, if it is to.
    fn count(&mut self) -> Option<Failing> {
        if self.has_crashed {
            return Some(Failing::Crash);
        }
        let number = self.operations;
        self.operations += 1;
        let found = self.orders.iter().position(|(at, _)| *at == number)?;
        let (_, how) = self.orders.swap_remove(found);
        self.has_crashed |= how == Failing::Crash;
        Some(how)
    }

    fn begin(&mut self) -> io::Result<()> {
        self.count().map_or(Ok(()), |how| Err(error_of(how)))
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    fn find(&self, path: &Path) -> io::Result<u64> {
        self.names
            .get(path)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn error_of(how: Failing) -> io::Error {
    match how {
        Failing::Crash => io::Error::other("the machine has crashed"),
        Failing::NoSpace => io::Error::from_raw_os_error(libc::ENOSPC),
        Failing::Broken => io::Error::from_raw_os_error(libc::EIO),
    }
}

impl Disk for SimulatedDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.lock();
        state.begin()?;
        let file = match state.names.get(path) {
            Some(file) => *file,
            None => {
                let file = state.next_file;
                state.next_file += 1;
                state.change(NameChange::Is(path.to_owned(), file));
                file
            }
        };
        state.files.entry(file).or_default().seen.clear();
        Ok(self.file(file, state.era))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.lock();
        state.begin()?;
        let file = state.find(path)?;
        Ok(self.file(file, state.era))
    }

    fn open_shared(&self, path: &Path) -> io::Result<Arc<dyn DiskFile + Sync>> {
        let mut state = self.lock();
        state.begin()?;
        let file = state.find(path)?;
        Ok(Arc::new(SimulatedFile {
            disk: self.clone(),
            file,
            era: state.era,
        }))
    }

    fn open_to_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.open(path)
    }

    /// A directory is where something lies in it.
    fn make_dir(&self, _: &Path) -> io::Result<()> {
        self.lock().begin()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.begin()?;
        let file = state.find(from)?;
        state.change(NameChange::Moved(from.to_owned(), to.to_owned(), file));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.begin()?;
        state.find(path)?;
        state.change(NameChange::Gone(path.to_owned()));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let mut state = self.lock();
        state.begin()?;
        let here = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(here.filter_map(|path| Some(path.file_name()?.to_owned())).collect())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.begin()?;
        let State {
            changes, synced_names, ..
        } = &mut *state;
        changes.retain(|change| {
            let is_here = change.concerns(dir);
            if is_here {
                change.apply(synced_names);
            }
            !is_here
        });
        Ok(())
    }
}

impl SimulatedDisk {
    fn file(&self, file: u64, era: u64) -> Box<dyn DiskFile> {
        Box::new(SimulatedFile {
            disk: self.clone(),
            file,
            era,
        })
    }
}

struct SimulatedFile {
    disk: SimulatedDisk,
    file: u64,
    era: u64,
}

impl SimulatedFile {
    fn with<T>(&self, operation: impl FnOnce(&mut Content) -> T) -> io::Result<T> {
        let mut state = self.disk.lock();
        if state.era != self.era {
            return Err(error_of(Failing::Crash));
        }
        state.begin()?;
        let content = state.files.get_mut(&self.file);
        Ok(operation(content.expect(
            "a file is there while it is open: only a restart forgets files",
        )))
    }
}

impl DiskFile for SimulatedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.lock();
        if state.era != self.era {
            return Err(error_of(Failing::Crash));
        }
        let failing = state.count();
        let written = match failing {
            None => bytes.len(),
            Some(Failing::Broken) => 0,
            Some(_) => state.random.below(bytes.len() + 1),
        };
        if let Some(content) = state.files.get_mut(&self.file) {
            content.seen.extend_from_slice(&bytes[..written]);
        }
        failing.map_or(Ok(()), |how| Err(error_of(how)))
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.with(|content| {
            let offset = usize::try_from(offset).expect("a simulated file is small");
            let end = offset + bytes.len();
            if content.seen.len() < end {
                content.seen.resize(end, 0);
            }
            content.seen[offset..end].copy_from_slice(bytes);
        })
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|content| {
            let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(content.seen.len());
            let count = bytes.len().min(content.seen.len() - offset);
            bytes[..count].copy_from_slice(&content.seen[offset..offset + count]);
            count
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|content| content.seen.len() as u64)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.with(|content| content.synced.clone_from(&content.seen))
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.with(|content| {
            let len = usize::try_from(len).expect("a simulated file is small");
            content.seen.resize(len, 0);
        })
    }

    fn again(&self) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(SimulatedFile {
            disk: self.disk.clone(),
            file: self.file,
            era: self.era,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/data/file";

    fn read(disk: &SimulatedDisk, path: &str) -> Option<Vec<u8>> {
        let file = disk.open(Path::new(path)).ok()?;
        let mut bytes = vec![0; file.len().ok()? as usize];
        file.read_at(&mut bytes, 0).ok()?;
        Some(bytes)
    }

    #[test]
    fn a_crash_leaves_what_was_synced_and_some_of_the_rest() {
        let (mut lost, mut kept, mut torn) = (0, 0, 0);
        for seed in 0..200 {
            let disk = SimulatedDisk::new(seed);
            let mut file = disk.create(Path::new(PATH)).unwrap();
            file.append(b"synced").unwrap();
            file.sync().unwrap();
            disk.sync_dir(Path::new("/data")).unwrap();
            file.append(b" and not").unwrap();
            disk.crash();
            assert!(file.append(b"!").is_err());
            disk.restart();
            assert!(file.append(b"!").is_err(), "what was open is dead");
            let left = read(&disk, PATH).expect("its name was synced");
            assert!(left.starts_with(b"synced"), "{left:?}");
            match left.len() {
                6 => lost += 1,
                _ if left.ends_with(b"\0") => torn += 1,
                _ => kept += 1,
            }
        }
        assert!(lost > 20 && kept > 20 && torn > 10, "{lost} {kept} {torn}");
    }

    #[test]
    fn names_that_were_not_synced_may_be_lost_and_a_rename_keeps_one_of_two() {
        let mut seen = [0; 2];
        for seed in 0..100 {
            let disk = SimulatedDisk::new(seed);
            let (path, new) = (Path::new(PATH), Path::new("/data/new"));
            let mut old = disk.create(path).unwrap();
            old.append(b"old").unwrap();
            old.sync().unwrap();
            disk.sync_dir(Path::new("/data")).unwrap();
            let mut file = disk.create(new).unwrap();
            file.append(b"new").unwrap();
            file.sync().unwrap();
            disk.rename(new, path).unwrap();
            disk.crash();
            disk.restart();
            let at = match read(&disk, PATH).expect("one of the two is there").as_slice() {
                b"old" => 0,
                b"new" => {
                    assert_eq!(read(&disk, "/data/new"), None, "it has one name");
                    1
                }
                other => panic!("{other:?}"),
            };
            seen[at] += 1;
        }
        assert!(seen.iter().all(|count| *count > 5), "{seen:?}");
    }

    #[test]
    fn orders_are_obeyed_once() {
        let disk = SimulatedDisk::new(1);
        let mut file = disk.create(Path::new(PATH)).unwrap();
        disk.fail_at(1, Failing::NoSpace);
        disk.fail_at(2, Failing::Broken);
        assert_eq!(file.append(b"abc").unwrap_err().raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(libc::EIO));
        assert!(file.sync().is_ok() && !disk.has_crashed());
        disk.fail_at(disk.operations(), Failing::Crash);
        assert!(file.sync().is_err() && disk.has_crashed());
        assert!(disk.create(Path::new("/data/other")).is_err());
    }
}
