//! The directory of all files: it belongs to one process, and what lies in it is the data set.
//!
//! Two servers that write into one directory take each other's data away without a word. So a server locks the directory itself, by
//! `flock`: nothing is left behind in it, not even by a crash, and the kernel knows who holds the lock (`/proc/locks`).
//!
//! The data set is one file, or a set of files that are complete only together: `dump.rdb`, or `dump.0-of-2.rdb` and `dump.1-of-2.rdb`
//! (`persist::file::set` tells how they come to be). Where several are there, one that says that it has replaced the others counts. Only
//! where none says so, since somebody has put them there, it is the one that was written last. A set that is not whole is never loaded, and
//! what is older than it only if whoever runs the server takes it away: data that was there must not be missed in silence.

use crate::persist::file::set::{self, Found};
use crate::runtime::disk::Disk;
use std::collections::BTreeMap;
use std::fs::{File, Metadata, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How many things that are wrong with a set are told: a set that somebody has cut in two may miss hundreds of files.
const FAULTS_NAMED_MAX: usize = 5;

/// A directory that no other process may take. It is free again when this is gone, or the process.
#[derive(Debug)]
pub struct Owned {
    locked: File,
}

/// Why a directory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    #[error("the directory {dir} is in use by {holder}: two servers that keep their data in one place destroy it. Give each one its own `dir`.", dir = .dir.display(), holder = of_process(.holder))]
    InUse { dir: PathBuf, holder: Option<u32> },
    #[error("{dir}: {error}", dir = .dir.display())]
    Io { dir: PathBuf, error: io::Error },
}

fn of_process(holder: &Option<u32>) -> String {
    match holder {
        Some(pid) => format!("the process {pid}"),
        None => "another process".to_owned(),
    }
}

impl Owned {
    /// Takes a directory.
    pub fn take(dir: &Path) -> Result<Owned, Denied> {
        let failed = |error| Denied::Io {
            dir: dir.to_owned(),
            error,
        };
        let file = File::open(dir).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = holder_of(&file);
                let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
                return Err(Denied::InUse { dir, holder });
            }
            // Not every file system has locks.
            Err(TryLockError::Error(error)) => {
                tracing::warn!("The directory {} cannot be locked: {error}", dir.display());
            }
        }
        Ok(Owned { locked: file })
    }

    /// Whether it is that directory, under whatever name.
    pub fn is(&self, dir: &Path) -> bool {
        let identity = |about: Metadata| (about.dev(), about.ino());
        match (self.locked.metadata(), std::fs::metadata(dir)) {
            (Ok(own), Ok(other)) => identity(own) == identity(other),
            _ => false,
        }
    }
}

/// The process that holds the lock of a file, as the kernel tells; it does not tell of those in another namespace.
fn holder_of(file: &File) -> Option<u32> {
    let about = file.metadata().ok()?;
    let device = about.dev();
    let name = format!(
        "{:02x}:{:02x}:{}",
        nix::sys::stat::major(device),
        nix::sys::stat::minor(device),
        about.ino()
    );
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    // 1: FLOCK  ADVISORY  WRITE 1234 fe:01:131 0 EOF
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_it = words.get(1) == Some(&"FLOCK") && words.get(5) == Some(&name.as_str());
        is_it
            .then(|| words.get(4)?.parse().ok())
            .flatten()
            .filter(|pid| *pid > 0)
    })
}

/// What is to be read at the start.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DataSet {
    /// All of them are to be read; none: there is nothing.
    pub files: Vec<PathBuf>,
    /// What it has replaced, and a save that was cut off has left.
    pub replaced: Vec<PathBuf>,
}

/// Why nothing can be said to be the data set.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{file}: {what}", file = .file.display())]
    Unread { file: PathBuf, what: String },
    #[error("{what}. The files of a snapshot are complete only together: put them where they were, or, to start {without}, take {files} out of {dir}", dir = .dir.display())]
    Incomplete {
        what: String,
        without: String,
        files: String,
        dir: PathBuf,
    },
}

/// Finds the data set in a directory. A renaming that was cut off is finished.
pub fn data_set(disk: &dyn Disk, dir: &Path, name: &Path) -> Result<DataSet, Unusable> {
    if let Err(error) = set::finish(disk, dir) {
        tracing::warn!(
            "Cannot rename what a save has left in {}: {error}. It is read under the names that it has.",
            dir.display()
        );
    }
    let mut found = set::found(disk, dir, name)?;
    found.retain(|file| !file.is_overdue);
    // What a file would say decides which of the others counts.
    let unread = found.iter().find_map(|file| Some((&file.path, file.unread()?)));
    if let Some((path, what)) = unread {
        let file = path.clone();
        return Err(Unusable::Unread { file, what });
    }
    let mut candidates = candidates(found, name);
    let Some(chosen) = choose(&candidates) else {
        let faulty = candidates.iter().max_by_key(|candidate| candidate.written_at);
        return match faulty {
            Some(faulty) => Err(faulty.unusable(dir, "without them")),
            None => Ok(DataSet::default()),
        };
    };
    let chosen = candidates.swap_remove(chosen);
    let mut replaced = Vec::new();
    for other in candidates {
        if other.is_replaced_by(&chosen) {
            replaced.extend(other.files);
        } else if other.fault.is_some() && other.written_at >= chosen.written_at {
            return Err(other.unusable(dir, &format!("with {}", chosen.names())));
        } else {
            let fault = other.fault.as_ref().map_or("", |_| ", which is not whole");
            tracing::warn!(
                "{} is loaded, which was written later than {}{fault}.",
                chosen.names(),
                other.names()
            );
        }
    }
    Ok(DataSet {
        files: chosen.files,
        replaced,
    })
}

/// Takes away what a data set has replaced that was read, and found to be whole.
pub fn remove_replaced(disk: &dyn Disk, replaced: &[PathBuf]) {
    let paths: Vec<&Path> = replaced.iter().map(PathBuf::as_path).collect();
    // (They lie in one directory.)
    let Some(dir) = paths.first().and_then(|path| path.parent()) else {
        return;
    };
    match disk.sync_dir(dir) {
        Ok(()) => set::remove_replaced(disk, &paths),
        Err(error) => tracing::warn!("{} cannot be synced: {error}", dir.display()),
    }
}

/// Which of them counts, if one is whole: one that no other has replaced, and of several of these the one that was written last.
fn choose(candidates: &[Candidate]) -> Option<usize> {
    let whole = || candidates.iter().enumerate().filter(|(_, one)| one.fault.is_none());
    let is_replaced = |index: usize, one: &Candidate| {
        let mut others = whole().filter(|(other, _)| *other != index);
        others.any(|(_, other)| one.is_replaced_by(other))
    };
    let newest = whole()
        .filter(|(index, one)| !is_replaced(*index, one))
        .max_by_key(|(_, one)| one.written_at);
    newest.map(|(index, _)| index)
}

/// A file, or a set of files, that may be the data set.
struct Candidate {
    /// In the order of their numbers.
    files: Vec<PathBuf>,
    /// What they are known by to those that replace them.
    identities: Vec<String>,
    replaced: Vec<String>,
    /// Unix seconds; of what cannot be read later than of anything else, so that it is not passed over in silence.
    written_at: u64,
    /// Why it is not whole.
    fault: Option<String>,
}

impl Candidate {
    fn is_replaced_by(&self, other: &Candidate) -> bool {
        let is_known = |identity: &String| other.replaced.contains(identity);
        self.identities.iter().all(is_known)
    }

    fn names(&self) -> String {
        let names = self.files.iter().filter_map(|path| path.file_name());
        let names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
        names.join(", ")
    }

    fn unusable(&self, dir: &Path, without: &str) -> Unusable {
        Unusable::Incomplete {
            what: self.fault.clone().unwrap_or_default(),
            without: without.to_owned(),
            files: self.names(),
            dir: dir.to_owned(),
        }
    }
}

/// Sorts what was found by what belongs together.
fn candidates(found: Vec<Found>, name: &Path) -> Vec<Candidate> {
    // A single file stands before all sets.
    let mut together: BTreeMap<Option<usize>, Vec<Found>> = BTreeMap::new();
    for file in found {
        let count = file.numbers.map(|(_, count)| count);
        together.entry(count).or_default().push(file);
    }
    let candidate = |(count, mut files): (Option<usize>, Vec<Found>)| {
        files.sort_by_key(|file| file.numbers);
        let told = || files.iter().map(|file| file.told.as_ref());
        let written_at = told().map(|told| told.map_or(u64::MAX, |told| told.written_at)).max();
        Candidate {
            written_at: written_at.unwrap_or(0),
            replaced: told()
                .find_map(Result::ok)
                .map_or_else(Vec::new, |told| told.replaced.clone()),
            fault: count.and_then(|count| fault_of_set(&files, name, count)),
            identities: files
                .iter()
                .filter_map(|file| file.identity.as_ref().ok().cloned())
                .collect(),
            files: files.into_iter().map(|file| file.path).collect(),
        }
    };
    together.into_iter().map(candidate).collect()
}

/// Why a set is not whole, if it is not; its files are in the order of their numbers.
fn fault_of_set(files: &[Found], name: &Path, count: usize) -> Option<String> {
    let id = files.iter().find_map(|file| Some(file.told.as_ref().ok()?.member?.id));
    let mut faults: Vec<String> = Vec::new();
    for file in files {
        let called = file.path.file_name().unwrap_or_default().display();
        match file.told.as_ref().map(|told| told.member) {
            Err(error) => faults.push(format!("{called}: {error}")),
            Ok(None) => faults.push(format!("{called} does not say of which snapshot it is")),
            Ok(Some(member)) if Some(member.id) != id => faults.push(format!("{called} is of another snapshot")),
            Ok(Some(member)) if Some((member.index, member.count)) != file.numbers => {
                faults.push(format!(
                    "{called} says that it is file {} of {}",
                    member.index, member.count
                ));
            }
            Ok(Some(_)) => {}
        }
    }
    let is_there = |index: usize| files.iter().any(|file| file.numbers == Some((index, count)));
    let missing = (0..count).filter(|index| !is_there(*index));
    for index in missing.take(FAULTS_NAMED_MAX) {
        faults.push(format!("{} is missing", set::name_of(name, index, count).display()));
    }
    faults.truncate(FAULTS_NAMED_MAX);
    (!faults.is_empty()).then(|| faults.join(", "))
}

#[cfg(test)]
mod tests;
