//! The directory of all files: it belongs to one process, and what lies in it is the data set.
//!
//! Two servers that write into one directory take each other's data away without a word. So a server locks the directory itself, by
//! `flock`: nothing is left behind in it, not even by a crash, and the kernel knows who holds the lock (`/proc/locks`).
//!
//! The data set is one file, or a set of files that are complete only together: `dump.rdb`, or `dump.0-of-2.rdb` and `dump.1-of-2.rdb`.
//! Where there are both, the one that was written last counts.

use crate::persist::file::reader::{Item, Next, Reader};
use crate::runtime::disk::{Disk, DiskFile};
use std::collections::BTreeMap;
use std::fs::{File, Metadata, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

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

/// The files of the data set in a directory, all of which are to be read; none: there is nothing.
pub fn data_set(disk: &dyn Disk, dir: &Path, name: &Path) -> io::Result<Vec<PathBuf>> {
    let merged = dir.join(name);
    let is_there = match disk.open(&merged) {
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    let sets = sets(disk, dir, name)?;
    let written_at = |files: &[PathBuf]| files.iter().filter_map(|path| written_at(disk, path)).min();
    let mut found: Option<(Vec<PathBuf>, Option<u64>)> = None;
    let candidates = sets.into_iter().chain(is_there.then(|| vec![merged]));
    for files in candidates {
        let at = written_at(&files);
        if found.as_ref().is_none_or(|(_, other)| at >= *other) {
            found = Some((files, at));
        }
    }
    Ok(found.map_or_else(Vec::new, |(files, _)| files))
}

/// The complete sets of files that bear a name with numbers in it.
fn sets(disk: &dyn Disk, dir: &Path, name: &Path) -> io::Result<Vec<Vec<PathBuf>>> {
    let stem = name.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let suffix = name
        .extension()
        .map_or_else(String::new, |suffix| format!(".{}", suffix.to_string_lossy()));
    let mut sets: BTreeMap<usize, BTreeMap<usize, PathBuf>> = BTreeMap::new();
    for file in disk.list(dir)? {
        let text = file.to_string_lossy();
        let numbers = text
            .strip_prefix(&stem)
            .and_then(|rest| rest.strip_prefix('.')?.strip_suffix(&suffix)?.split_once("-of-"));
        let Some((Ok(index), Ok(count))) = numbers.map(|(index, count)| (index.parse(), count.parse())) else {
            continue;
        };
        sets.entry(count).or_default().insert(index, dir.join(&file));
    }
    let complete = sets.into_iter().filter(|(count, files)| {
        let is_complete = *count > 0 && (0..*count).all(|index| files.contains_key(&index));
        if !is_complete {
            tracing::warn!(
                "{} of {count} files {stem}.<i>-of-{count}{suffix} are there, which are complete only together: they are left out.",
                files.len()
            );
        }
        is_complete
    });
    Ok(complete
        .map(|(count, mut files)| (0..count).filter_map(|index| files.remove(&index)).collect())
        .collect())
}

/// When a file says that it was written, Unix seconds.
fn written_at(disk: &dyn Disk, path: &Path) -> Option<u64> {
    let file = Source::open(disk, path).ok()?;
    let mut reader = Reader::new(file, None, false).ok()?;
    loop {
        match reader.look().ok()? {
            Next::Item(Item::Aux(name, value)) if name == b"ctime" => {
                return std::str::from_utf8(&value).ok()?.parse().ok();
            }
            Next::Item(Item::Aux(..)) => {}
            _ => return None,
        }
    }
}

/// A file of a disk, to be read from some place on.
pub struct Source {
    file: Box<dyn DiskFile>,
    at: u64,
}

impl Source {
    pub fn open(disk: &dyn Disk, path: &Path) -> io::Result<Source> {
        let file = disk.open(path)?;
        Ok(Source { file, at: 0 })
    }

    /// The same file, from there on.
    pub fn at(self, at: u64) -> Source {
        Source { at, ..self }
    }

    /// Bytes of the whole file.
    pub fn bytes(&self) -> io::Result<u64> {
        self.file.len()
    }
}

impl Read for Source {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(bytes, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::disk::SimulatedDisk;

    #[test]
    fn a_directory_is_owned_by_one() {
        let dir = std::env::temp_dir().join(format!("shardis-owned-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory for temporary files");
        let owned = Owned::take(&dir).expect("nobody else has it");
        // A lock belongs to an open file, so a process can get in its own way.
        let denied = Owned::take(&dir).expect_err("it is taken");
        assert!(
            denied
                .to_string()
                .contains(&format!("the process {}:", std::process::id())),
            "{denied}"
        );
        assert!(owned.is(&dir.join(".")) && !owned.is(Path::new("/")));
        drop(owned);
        Owned::take(&dir).expect("it is free again");
        assert_eq!(
            std::fs::read_dir(&dir).expect("it is there").count(),
            0,
            "nothing is left in it"
        );
        std::fs::remove_dir(&dir).expect("it is empty");
        assert!(matches!(Owned::take(&dir), Err(Denied::Io { .. })));
    }

    fn write(disk: &dyn Disk, name: &str, written_at: u64) {
        let mut bytes = b"REDIS0009\xfa\x05ctime\xc2".to_vec();
        bytes.extend_from_slice(&(written_at as u32).to_le_bytes());
        bytes.extend_from_slice(b"\xff\0\0\0\0\0\0\0\0");
        disk.create(&Path::new("/data").join(name))
            .unwrap()
            .append(&bytes)
            .unwrap();
    }

    #[test]
    fn the_newest_data_set_that_is_whole_counts() {
        let disk = SimulatedDisk::new(1);
        let found = || {
            let files = data_set(&*disk, Path::new("/data"), Path::new("dump.rdb")).unwrap();
            let names = files
                .iter()
                .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
            names.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(found(), "");
        for name in [
            "dump.0-of-3.rdb",
            "dump.2-of-3.rdb",
            "dump.x-of-1.rdb",
            "other.0-of-1.rdb",
            "dump.rdb.bak",
        ] {
            write(&*disk, name, 90);
        }
        assert_eq!(found(), "", "one is missing");
        write(&*disk, "dump.rdb", 10);
        assert_eq!(found(), "dump.rdb");
        write(&*disk, "dump.0-of-2.rdb", 20);
        assert_eq!(found(), "dump.rdb");
        write(&*disk, "dump.1-of-2.rdb", 20);
        assert_eq!(found(), "dump.0-of-2.rdb dump.1-of-2.rdb");
        write(&*disk, "dump.rdb", 30);
        assert_eq!(found(), "dump.rdb");
        write(&*disk, "dump.1-of-3.rdb", 40);
        assert_eq!(found(), "dump.0-of-3.rdb dump.1-of-3.rdb dump.2-of-3.rdb");
    }
}
