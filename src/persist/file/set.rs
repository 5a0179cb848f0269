//! Which files are one snapshot: how they are named, and how they all come to bear their names at once.
//!
//! A snapshot is one file (`dump.rdb`), or one for each shard (`dump.0-of-2.rdb`, `dump.1-of-2.rdb`), complete only together. Each says in a
//! field of its own of which snapshot it is (a number by chance, its [`SetId`]), and which file of how many. Renaming several files is
//! several steps, and the machine may stop between any two, so *one* of them is what counts:
//!
//! ```text
//! all files are whole under temporary names, and synced; so are these names
//!     rename  temp-<pid>.<id>.0.rdb -> dump.0-of-3.rdb     <- before: the snapshot of before; after: this one
//!     sync the directory                                   <- from here on it is saved
//!     rename  temp-<pid>.<id>.1.rdb -> dump.1-of-3.rdb ...
//!     remove what it has replaced
//! ```
//!
//! A set is that of its first file. Whoever looks for the others finds them by the id of the first, under their own names or under temporary
//! ones, which bear the id; a start finishes the renaming ([`finish`]). What lies under a temporary name and belongs to no first file was
//! never a snapshot ([`tidy`]). A snapshot in one file is a set of one.
//!
//! Between the first renaming and the last removal the snapshot of before may be there as well, whole, under other names (another number
//! of shards, another layout). So a file also says which ones it has *replaced*: all that were there under the names of this `dbfilename` when it was
//! begun, by their ids, or, where a file has none since somebody else wrote it, by a fingerprint. No clock decides between the two.
//!
//! Invariants:
//! 1. Before the first file bears its name nothing is changed that was there; when it does, every file of the set is whole, on the disk, and
//!    has a name that was synced.
//! 2. Nothing that was there is removed before the first file's name has been synced.
//! 3. A temporary name belongs to one snapshot only: no other one is ever written over it.

use super::reader::{Fault, FileError, Item, Next, Reader};
use super::source::Source;
use super::writer::{Laid, Sealed};
use crate::base::crc64::crc64;
use crate::base::slot::SLOT_COUNT;
use crate::runtime::disk::Disk;
use std::ffi::{OsStr, OsString};
use std::fmt::{self, Display};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The AUX field that says of which snapshot a file is: id, index, count.
pub const MEMBER_FIELD: &str = "shardis-snapshot";

/// The AUX field that says what a snapshot has replaced.
pub const REPLACED_FIELD: &str = "shardis-replaced";

/// How much of each end of a file goes into its fingerprint.
const FINGERPRINTED_BYTES: u64 = 4096;

/// What tells a snapshot from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SetId(pub u64);

impl Display for SetId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:016x}", self.0)
    }
}

impl SetId {
    fn parse(text: &str) -> Option<SetId> {
        let is_id = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id.then(|| u64::from_str_radix(text, 16).ok()).flatten().map(SetId)
    }
}

/// Which file of which snapshot one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: SetId,
    pub index: usize,
    pub count: usize,
}

impl Display for Member {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {} {}", self.id, self.index, self.count)
    }
}

impl Member {
    fn parse(text: &[u8]) -> Option<Member> {
        let mut words = std::str::from_utf8(text).ok()?.split(' ');
        Some(Member {
            id: SetId::parse(words.next()?)?,
            index: words.next()?.parse().ok()?,
            count: words.next()?.parse().ok()?,
        })
    }
}

/// The name of a file of a set: `dump.0-of-2.rdb` of `dump.rdb`.
pub fn name_of(name: &Path, index: usize, count: usize) -> OsString {
    let mut out = name.file_stem().unwrap_or_default().to_owned();
    out.push(format!(".{index}-of-{count}"));
    if let Some(suffix) = name.extension() {
        out.push(".");
        out.push(suffix);
    }
    out
}

/// The numbers in the name of a file, if it is that of a file of a set.
fn numbers_in(name: &Path, file: &OsStr) -> Option<(usize, usize)> {
    let stem = name.file_stem().unwrap_or_default().as_bytes();
    let rest = file.as_bytes().strip_prefix(stem)?.strip_prefix(b".")?;
    let numbers = match name.extension() {
        Some(suffix) => rest.strip_suffix(suffix.as_bytes())?.strip_suffix(b".")?,
        None => rest,
    };
    let (index, count) = std::str::from_utf8(numbers).ok()?.split_once("-of-")?;
    let (index, count) = (index.parse().ok()?, count.parse().ok()?);
    // Only as it is written here, and no number that nobody has so many shards for.
    let is_name = index < count && count <= SLOT_COUNT && name_of(name, index, count) == file;
    is_name.then_some((index, count))
}

/// A name that a file bears before it is part of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Temporary {
    pub pid: u32,
    /// None: a Redis has written it.
    pub id: Option<SetId>,
    /// Of the part; the first ones of a set are its files.
    pub number: usize,
}

impl Temporary {
    pub fn name(self) -> String {
        match self.id {
            Some(id) => format!("temp-{}.{id}.{}.rdb", self.pid, self.number),
            None => format!("temp-{}.rdb", self.pid),
        }
    }

    pub fn parse(name: &OsStr) -> Option<Temporary> {
        let name = name.to_str()?;
        let mut words = name.strip_prefix("temp-")?.strip_suffix(".rdb")?.split('.');
        let pid = words.next()?.parse().ok()?;
        let found = match (words.next(), words.next()) {
            (None, _) => Temporary {
                pid,
                id: None,
                number: 0,
            },
            (Some(id), number) => Temporary {
                pid,
                id: Some(SetId::parse(id)?),
                number: number?.parse().ok()?,
            },
        };
        (found.name() == name).then_some(found)
    }

    /// Whether it is a file of that set, which is waiting for its name.
    fn waits_for(self, id: SetId, count: usize) -> bool {
        self.id == Some(id) && (1..count).contains(&self.number)
    }
}

/// What a file says of itself at its beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// None: somebody else has written it.
    pub member: Option<Member>,
    /// What it has replaced.
    pub replaced: Vec<String>,
    /// Unix seconds; zero where it says nothing of that.
    pub written_at: u64,
}

/// Reads the beginning of a file.
pub fn told_by(disk: &dyn Disk, path: &Path) -> Result<Told, FileError> {
    let opened = Source::open(disk, path).and_then(|source| Ok((Source::bytes(&source)?, source)));
    let (bytes, source) = opened.map_err(|error| FileError {
        offset: 0,
        key: None,
        fault: Fault::Io(error),
    })?;
    let mut reader = Reader::new(source, Some(bytes), false)?;
    let mut told = Told::default();
    while let Next::Item(Item::Aux(name, value)) = reader.look()? {
        let text = String::from_utf8_lossy(&value);
        match std::str::from_utf8(&name) {
            Ok("ctime") => told.written_at = text.parse().unwrap_or(0),
            Ok(MEMBER_FIELD) => told.member = Member::parse(&value),
            Ok(REPLACED_FIELD) => told.replaced = text.split(' ').map(str::to_owned).collect(),
            _ => {}
        }
    }
    Ok(told)
}

/// A file that bears a name of a `dbfilename`, or will.
pub struct Found {
    pub path: PathBuf,
    /// Index and count, in the name that it bears or will bear; None: it is that of a single file.
    pub numbers: Option<(usize, usize)>,
    /// Another one waits for the name that it bears: it is of a snapshot that is no more.
    pub is_overdue: bool,
    pub told: Result<Told, FileError>,
    /// What it is known by to those that replace it; None if that cannot be found out.
    pub identity: io::Result<String>,
}

impl Found {
    /// Why it cannot be read at present, if it cannot. (What is damaged can be read.)
    pub fn unread(&self) -> Option<String> {
        match (&self.told, &self.identity) {
            (
                Err(FileError {
                    fault: Fault::Io(error),
                    ..
                }),
                _,
            )
            | (_, Err(error)) => Some(error.to_string()),
            _ => None,
        }
    }
}

/// All files of a `dbfilename`, with those that wait for their names.
pub fn found(disk: &dyn Disk, dir: &Path, name: &Path) -> io::Result<Vec<Found>> {
    let names = disk.list(dir)?;
    let mut paths: Vec<(Option<(usize, usize)>, PathBuf)> = Vec::new();
    for file in &names {
        let numbers = numbers_in(name, file);
        if numbers.is_some() || file == name.as_os_str() {
            paths.push((numbers, dir.join(file)));
        }
    }
    let named_count = paths.len();
    let waiting: Vec<Temporary> = names.iter().filter_map(|name| Temporary::parse(name)).collect();
    let mut firsts = Vec::new();
    for (numbers, path) in &paths {
        if let Some((0, count)) = *numbers
            && !waiting.is_empty()
            // One that cannot be read is found out below.
            && let Ok(Some(id)) = first_of_set(disk, path, count)
        {
            firsts.push((id, count));
        }
    }
    for (id, count) in firsts {
        for waiting in waiting.iter().filter(|waiting| waiting.waits_for(id, count)) {
            paths.push((Some((waiting.number, count)), dir.join(waiting.name())));
        }
    }
    let waited_for: Vec<_> = paths[named_count..].iter().map(|(numbers, _)| *numbers).collect();
    let look = |(at, (numbers, path)): (usize, (_, PathBuf))| {
        let told = told_by(disk, &path);
        let member = told.as_ref().ok().and_then(|told| told.member);
        Found {
            numbers,
            is_overdue: at < named_count && waited_for.contains(&numbers),
            identity: member.map_or_else(|| fingerprint(disk, &path), |member| Ok(member.id.to_string())),
            told,
            path,
        }
    };
    Ok(paths.into_iter().enumerate().map(look).collect())
}

/// The set of so many files whose first one this is, if it is that.
fn first_of_set(disk: &dyn Disk, path: &Path, count: usize) -> Result<Option<SetId>, FileError> {
    let member = told_by(disk, path)?.member;
    let is_first = |member: &Member| (member.index, member.count) == (0, count);
    Ok(member.filter(is_first).map(|member| member.id))
}

/// What tells a file from others that says nothing of itself: its length, and a checksum of its ends.
fn fingerprint(disk: &dyn Disk, path: &Path) -> io::Result<String> {
    let source = Source::open(disk, path)?;
    let bytes = Source::bytes(&source)?;
    let mut head = source.take(FINGERPRINTED_BYTES);
    let mut ends = Vec::new();
    head.read_to_end(&mut ends)?;
    let mut tail = head.into_inner().at(bytes.saturating_sub(FINGERPRINTED_BYTES));
    tail.read_to_end(&mut ends)?;
    Ok(format!("{bytes}:{:016x}", crc64(0, &ends)))
}

/// What a new snapshot will have replaced.
#[derive(Debug, Default)]
pub struct Replaced {
    identities: Vec<String>,
    paths: Vec<PathBuf>,
}

impl Replaced {
    /// All that is there under the names of a `dbfilename`.
    pub fn find(disk: &dyn Disk, dir: &Path, name: &Path) -> io::Result<Replaced> {
        let mut replaced = Replaced::default();
        let is_no_hindrance = |kind| [io::ErrorKind::PermissionDenied, io::ErrorKind::NotFound].contains(&kind);
        for file in found(disk, dir, name)? {
            match file.identity {
                Ok(identity) if !replaced.identities.contains(&identity) => replaced.identities.push(identity),
                Ok(_) => {}
                // What may not be read may be replaced all the same, and what has gone meanwhile needs no replacing.
                Err(error) if is_no_hindrance(error.kind()) => {}
                Err(error) => return Err(error),
            }
            replaced.paths.push(file.path);
        }
        Ok(replaced)
    }

    /// What a file says of itself that is a file of a snapshot which replaces this.
    pub fn told(&self, member: Member) -> Vec<(&'static str, String)> {
        let mut told = vec![(MEMBER_FIELD, member.to_string())];
        if !self.identities.is_empty() {
            told.push((REPLACED_FIELD, self.identities.join(" ")));
        }
        told
    }
}

/// Gives the files of a snapshot their names, and takes away what it has replaced, as the essay above says. After an error nothing has been
/// changed, unless it was in syncing the new name of the first file: then the snapshot is there, a start finds it, and a crash of the machine may
/// still undo it. It is reported as not saved then, as it is in Redis: what was reported as saved must be there whatever happens.
pub fn commit(
    disk: &dyn Disk,
    directory: &Path,
    files: Vec<(Sealed, PathBuf)>,
    replaced: &Replaced,
) -> io::Result<Laid> {
    let mut laid = Laid::default();
    files.iter().for_each(|(file, _)| laid.add(file));
    let (first, first_name) = files.first().expect("a snapshot has a file");
    let is_set = files.len() > 1;
    let names_are_synced = if is_set { disk.sync_dir(directory) } else { Ok(()) };
    if let Err(error) = names_are_synced.and_then(|()| disk.rename(first.path(), first_name)) {
        files.into_iter().for_each(|(file, _)| file.discard(disk));
        return Err(error);
    }
    disk.sync_dir(directory)?;
    // It is saved. What fails now leaves names behind that a start puts right.
    for (file, name) in &files[1..] {
        if let Err(error) = disk.rename(file.path(), name) {
            tracing::warn!(
                "{} cannot be renamed to {}, and is read under that name: {error}",
                file.path().display(),
                name.display()
            );
        }
    }
    let is_named = |path: &Path| files.iter().any(|(_, name)| name == path);
    let left: Vec<&Path> = replaced.paths.iter().map(PathBuf::as_path).collect();
    let left: Vec<&Path> = left.into_iter().filter(|path| !is_named(path)).collect();
    remove_replaced(disk, &left);
    if (is_set || !left.is_empty())
        && let Err(error) = disk.sync_dir(directory)
    {
        tracing::warn!("{} cannot be synced: {error}", directory.display());
    }
    Ok(laid)
}

/// Takes away files that a snapshot has replaced whose name is synced.
pub fn remove_replaced(disk: &dyn Disk, paths: &[&Path]) {
    for path in paths {
        match disk.remove(path) {
            Ok(()) => tracing::info!("Removed {}, which a newer snapshot has replaced", path.display()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(
                "Cannot remove {}, which a newer snapshot has replaced: {error}",
                path.display()
            ),
        }
    }
}

/// A set whose first file bears its name.
struct Committed {
    id: SetId,
    count: usize,
    /// What stands before and behind the numbers in the names of its files.
    around: [OsString; 2],
}

/// The sets of a directory, whatever their `dbfilename`. An error is of the first file that cannot be read: there may be more sets.
fn committed(disk: &dyn Disk, dir: &Path, names: &[OsString]) -> Result<Vec<Committed>, FileError> {
    const FIRST: &[u8] = b".0-of-";
    let mut sets = Vec::new();
    for name in names {
        let bytes = name.as_bytes();
        let Some(at) = bytes.windows(FIRST.len()).rposition(|window| window == FIRST) else {
            continue;
        };
        let rest = &bytes[at + FIRST.len()..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let count = std::str::from_utf8(&rest[..digits])
            .ok()
            .and_then(|text| text.parse().ok());
        if let Some(count) = count
            && let Some(id) = first_of_set(disk, &dir.join(name), count)?
        {
            let around = [&bytes[..at], &rest[digits..]].map(|bytes| OsString::from_vec(bytes.to_vec()));
            sets.push(Committed { id, count, around });
        }
    }
    Ok(sets)
}

/// Why a renaming cannot be finished.
#[derive(Debug, thiserror::Error)]
pub enum Unfinished {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("a first file cannot be read: {0}")]
    File(#[from] FileError),
}

/// Finishes renamings that were cut off, for all sets of a directory.
pub fn finish(disk: &dyn Disk, dir: &Path) -> Result<(), Unfinished> {
    let names = disk.list(dir)?;
    let waiting: Vec<Temporary> = names.iter().filter_map(|name| Temporary::parse(name)).collect();
    if waiting.iter().all(|waiting| waiting.number == 0) {
        return Ok(());
    }
    let mut is_synced = false;
    for set in committed(disk, dir, &names)? {
        for waiting in waiting.iter().filter(|waiting| waiting.waits_for(set.id, set.count)) {
            if !is_synced {
                // A crash of the process alone leaves the name of the first file where a crash of the machine could undo it.
                disk.sync_dir(dir)?;
                is_synced = true;
            }
            let [before, behind] = &set.around;
            let mut name = before.clone();
            name.push(format!(".{}-of-{}", waiting.number, set.count));
            name.push(behind);
            let from = waiting.name();
            disk.rename(&dir.join(&from), &dir.join(&name))?;
            tracing::info!("Renamed {from} to {}, as a save was about to", name.display());
        }
    }
    if is_synced {
        disk.sync_dir(dir)?;
    }
    Ok(())
}

/// Takes away what is under temporary names in a directory, for which `is_leftover` says that nobody writes it any more, and which
/// no snapshot needs.
pub fn tidy(disk: &dyn Disk, dir: &Path, is_leftover: impl Fn(Temporary) -> bool) {
    let Ok(names) = disk.list(dir) else { return };
    let temporary = names.iter().filter_map(|name| Temporary::parse(name));
    let left: Vec<Temporary> = temporary.filter(|found| is_leftover(*found)).collect();
    let sets = match left.iter().any(|found| found.number > 0) {
        true => committed(disk, dir, &names),
        false => Ok(Vec::new()),
    };
    for found in left {
        let is_needed = match &sets {
            Ok(sets) => sets.iter().any(|set| found.waits_for(set.id, set.count)),
            // It may be of one that could not be read just now.
            Err(_) => found.number > 0,
        };
        if is_needed {
            continue;
        }
        let name = found.name();
        match disk.remove(&dir.join(&name)) {
            Ok(()) => tracing::info!("Removed {name}, which a save has left that was not finished"),
            Err(error) => tracing::warn!("Cannot remove {name}, which a save has left: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for (name, index, count, expected) in [
            ("dump.rdb", 0, 2, "dump.0-of-2.rdb"),
            ("dump.rdb", 11, 12, "dump.11-of-12.rdb"),
            ("dump", 1, 3, "dump.1-of-3"),
            ("a.b.c", 0, 1, "a.b.0-of-1.c"),
            (".rdb", 0, 1, ".rdb.0-of-1"),
        ] {
            let made = name_of(Path::new(name), index, count);
            assert_eq!(made, expected);
            assert_eq!(numbers_in(Path::new(name), &made), Some((index, count)), "{name}");
        }
        for other in [
            "dump.rdb",
            "dump.2-of-2.rdb",
            "dump.0-of-0.rdb",
            "dump.00-of-2.rdb",
            "dump.+0-of-2.rdb",
            "dump.0-of-2",
            "dump.0-of-2.rdb.bak",
            "dump.0-of-99999999.rdb",
            "xdump.0-of-2.rdb",
        ] {
            assert_eq!(numbers_in(Path::new("dump.rdb"), OsStr::new(other)), None, "{other}");
        }
        let temporary = Temporary {
            pid: 77,
            id: Some(SetId(0xabc)),
            number: 3,
        };
        assert_eq!(temporary.name(), "temp-77.0000000000000abc.3.rdb");
        assert_eq!(Temporary::parse(OsStr::new(&temporary.name())), Some(temporary));
        let of_redis = Temporary::parse(OsStr::new("temp-77.rdb")).unwrap();
        assert_eq!((of_redis.pid, of_redis.id), (77, None));
        for other in [
            "temp-.rdb",
            "temp-x.rdb",
            "temp-77.1.rdb",
            "temp-77.0000000000000abc.rdb",
            "temp-77.0000000000000abc.3.4.rdb",
            "temp-77.0000000000000ABC.3.rdb",
            "temp-77.aof",
        ] {
            assert_eq!(Temporary::parse(OsStr::new(other)), None, "{other}");
        }
    }

    #[test]
    fn what_a_file_says_is_read_as_it_is_written() {
        let member = Member {
            id: SetId(u64::MAX - 5),
            index: 3,
            count: 12,
        };
        assert_eq!(Member::parse(member.to_string().as_bytes()), Some(member));
        for text in [
            "",
            "12 1 2",
            "000000000000000x 1 2",
            "0000000000000000 1",
            "0000000000000000 1 x",
        ] {
            assert_eq!(Member::parse(text.as_bytes()), None, "{text}");
        }
    }
}
