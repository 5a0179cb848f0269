//! The manifest: which files are the append-only file, and in which order.
//!
//! ```text
//! file appendonly.aof.2.base.rdb seq 2 type b
//! file appendonly.aof.1.incr.aof seq 1 type h                <- history: replaced, to be removed
//! file appendonly.aof.2.incr.aof seq 2 type i
//! ```
//!
//! The format is Redis's, and what is written is byte for byte what Redis would write: base, history, increments; names in quotes
//! where they hold blanks; keys that are unknown are left out when it is written again. Redis ignores keys that it does not know, so what
//! annotated increments need stands in keys of our own:
//!
//! ```text
//! file F.3.base.rdb seq 3 type b number 1042                 <- log numbers below 1042 are in the base
//! file F.7.incr.aof seq 7 type i shard 0 shards 2 life 900 until 1300
//! file F.8.incr.aof seq 8 type i shard 1 shards 2 life 900 until 1300
//! file F.9.incr.aof seq 9 type i shard 0 shards 2 life 1310
//! file F.10.incr.aof seq 10 type i shard 1 shards 2 life 1310
//! ```
//!
//! | key | what |
//! |---|---|
//! | `shard`, `shards` | whose part it is, of how many; the parts of a generation stand together, in the order of their shards |
//! | `life` | the log number with which the process began that wrote it: all its numbers are this one or higher |
//! | `until` | the life is closed: of it the numbers up to this one are kept, and no others (below `life`: none) |
//! | `number` | of a base: what it holds |
//!
//! Invariants:
//! 1. Increments stand in the order of their numbers (`seq`), and lives in the order of theirs, without overlap; only the last is open.
//! 2. No name is given twice, and none that stands twice is read: sequence numbers rise, over those in the history as well.
//! 3. What is saved is the old manifest or the new one, whenever the machine stops, and when [`Manifest::save`] has returned, the new one.
//!
//! Format: <https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/> tells of it; the rest are Redis's files themselves.

use super::chunk::Place;
use crate::config::words;
use crate::runtime::disk::Disk;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::io::Write as _;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// No line is longer, with its line feed.
pub const LINE_BYTES_MAX: usize = 1024;

/// No name is longer, as it is written: so a line with all keys that we write has room.
const NAME_BYTES_MAX: usize = LINE_BYTES_MAX - 160;

/// The files of one append-only file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What all names begin with: `appendfilename`.
    pub stem: Vec<u8>,
    pub base: Option<Entry>,
    /// What has been replaced and is not removed yet.
    pub history: Vec<Entry>,
    pub increments: Vec<Entry>,
    /// No lower sequence number is given to a new file. (It is not written down: it matters only until there is one.)
    pub first_seq: u64,
}

/// What a file is by its name, with its sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    Base(u64),
    Increment(u64),
}

/// One of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: Vec<u8>,
    pub seq: u64,
    /// Of an increment: that it is annotated, and which one it is.
    pub part: Option<Part>,
    /// Of a base: the log numbers below this one are in it.
    pub number: Option<u64>,
}

/// What an annotated increment is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub place: Place,
    /// The last number of its life that is kept; None: the life is open.
    pub until: Option<u64>,
}

/// What stands together in the list of increments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Section {
    /// One of Redis's own.
    Plain(usize),
    /// All generations of one life.
    Life {
        increments: Range<usize>,
        life: u64,
        until: Option<u64>,
    },
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("Found an empty AOF manifest")]
    Empty,
    #[error("The AOF manifest file contains too long line")]
    TooLong,
    #[error("Invalid AOF manifest file format")]
    Format,
    #[error("File can't be a path, just a filename")]
    NotAName,
    #[error("Found duplicate base file information")]
    DuplicateBase,
    #[error("Found a non-monotonic sequence number")]
    NotMonotonic,
    /// Redis would read such a file twice; ours must not be cut in the middle of what it is.
    #[error("Found the same file twice")]
    SameFile,
    #[error("Unknown AOF file type")]
    UnknownType,
    #[error("The keys shard, shards and life stand together, with numbers, and only behind an increment")]
    Annotation,
    #[error("The increments of a generation are not all there, one for each shard in their order")]
    Generation,
    #[error("The lives of increments overlap, or another one than the last is open")]
    Lives,
}

/// Why a manifest is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}: '{text}'", text = String::from_utf8_lossy(.text))]
pub struct Malformed {
    /// From 1 on; 0: there is none.
    pub line: usize,
    pub text: Vec<u8>,
    pub fault: Fault,
}

/// Why there is no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("{file}: {error}", file = .file.display())]
    Io { file: PathBuf, error: io::Error },
    #[error("{file}, {malformed}", file = .file.display())]
    Malformed { file: PathBuf, malformed: Malformed },
}

/// The name of a manifest.
pub fn manifest_name(stem: &[u8]) -> Vec<u8> {
    [stem, b".manifest"].concat()
}

/// The name under which a manifest is written before it counts.
pub fn temporary_name(stem: &[u8]) -> Vec<u8> {
    [b"temp-", stem, b".manifest"].concat()
}

/// Where a file of that name lies.
pub fn path_of(dir: &Path, name: &[u8]) -> PathBuf {
    dir.join(OsStr::from_bytes(name))
}

impl Entry {
    pub fn plain(name: Vec<u8>, seq: u64) -> Entry {
        Entry {
            name,
            seq,
            part: None,
            number: None,
        }
    }

    /// Where it lies.
    pub fn path(&self, dir: &Path) -> PathBuf {
        path_of(dir, &self.name)
    }

    fn encode(&self, kind: u8, out: &mut Vec<u8>) {
        out.extend_from_slice(b"file ");
        write_name(&self.name, out);
        let mut put = |key: &str, value: u64| write!(out, " {key} {value}").expect("a buffer takes everything");
        put("seq", self.seq);
        out.extend_from_slice(b" type ");
        out.push(kind);
        let mut put = |key: &str, value: u64| write!(out, " {key} {value}").expect("a buffer takes everything");
        if let Some(Part { place, until }) = self.part {
            put("shard", place.shard.into());
            put("shards", place.shards.into());
            put("life", place.life);
            if let Some(until) = until {
                put("until", until);
            }
        }
        if let Some(number) = self.number {
            put("number", number);
        }
        out.push(b'\n');
    }
}

/// A name as it stands in a line.
fn write_name(name: &[u8], out: &mut Vec<u8>) {
    match needs_quotes(name) {
        true => words::quote(name, out),
        false => out.extend_from_slice(name),
    }
}

/// Redis's rule.
fn needs_quotes(name: &[u8]) -> bool {
    let is_special = |byte: &u8| !byte.is_ascii_graphic() || matches!(byte, b'\\' | b'"' | b'\'');
    name.is_empty() || name.iter().any(is_special)
}

impl Manifest {
    /// Of nothing yet.
    pub fn new(stem: &[u8]) -> Manifest {
        Manifest {
            stem: stem.to_vec(),
            base: None,
            history: Vec::new(),
            increments: Vec::new(),
            first_seq: 1,
        }
    }

    /// The sequence number of the next base.
    pub fn next_base_seq(&self) -> u64 {
        self.next_seq(self.base.iter(), |seq| {
            [false, true].map(|is_rdb| self.base_name(seq, is_rdb)).to_vec()
        })
    }

    /// The sequence number of the next increment.
    pub fn next_increment_seq(&self) -> u64 {
        self.next_seq(self.increments.iter(), |seq| vec![self.increment_name(seq)])
    }

    /// One above those that are there, and above those in the history that bear such a name.
    fn next_seq<'a>(&self, own: impl Iterator<Item = &'a Entry>, names: impl Fn(u64) -> Vec<Vec<u8>>) -> u64 {
        let replaced = self
            .history
            .iter()
            .filter(|entry| names(entry.seq).contains(&entry.name));
        let seqs = own.map(|entry| entry.seq).chain(replaced.map(|entry| entry.seq));
        seqs.max().map_or(1, |seq| seq + 1).max(self.first_seq)
    }

    pub fn base_name(&self, seq: u64, is_rdb: bool) -> Vec<u8> {
        let format = if is_rdb { "rdb" } else { "aof" };
        [&self.stem[..], format!(".{seq}.base.{format}").as_bytes()].concat()
    }

    pub fn increment_name(&self, seq: u64) -> Vec<u8> {
        [&self.stem[..], format!(".{seq}.incr.aof").as_bytes()].concat()
    }

    /// What a file of that name is, if a manifest of this stem gives such names.
    pub fn named(&self, name: &[u8]) -> Option<Named> {
        let rest = name.strip_prefix(&self.stem[..])?.strip_prefix(b".")?;
        let seq = decimal(&rest[..rest.iter().position(|&byte| byte == b'.')?])?;
        let bases = [false, true].map(|is_rdb| self.base_name(seq, is_rdb));
        if bases.iter().any(|base| base == name) {
            return Some(Named::Base(seq));
        }
        (self.increment_name(seq) == name).then_some(Named::Increment(seq))
    }

    /// Lists the increments of a new generation behind the others, and answers which they are: annotated ones of so many shards, in the life
    /// that began with that number, or a single plain one.
    pub fn begin_generation(&mut self, annotated: Option<(u16, u64)>) -> &[Entry] {
        let begin = self.increments.len();
        let first = self.next_increment_seq();
        let count = annotated.map_or(1, |(shards, _)| shards);
        for (shard, seq) in (0..count).zip(first..) {
            let name = self.increment_name(seq);
            let part = annotated.map(|(shards, life)| Part {
                place: Place { shard, shards, life },
                until: None,
            });
            self.increments.push(Entry {
                part,
                ..Entry::plain(name, seq)
            });
        }
        &self.increments[begin..]
    }

    /// Puts a new base in the place of the one that is there, and of all increments before that sequence number: they become history.
    pub fn retire(&mut self, first_kept_seq: u64, base: Entry) {
        let kept = self.increments.partition_point(|entry| entry.seq < first_kept_seq);
        // The order in which Redis lists them.
        let mut history: Vec<Entry> = self.increments.drain(..kept).collect();
        history.extend(self.base.replace(base));
        history.append(&mut self.history);
        self.history = history;
        for entry in &mut self.history {
            (entry.part, entry.number) = (None, None);
        }
    }

    /// Closes the last life, if there is one, or ends it earlier: of it the numbers up to this one are kept.
    pub fn close_life(&mut self, last_kept: u64) {
        let last = self.increments.iter().rev().find_map(|entry| entry.part);
        let Some(life) = last.map(|part| part.place.life) else {
            return;
        };
        let parts = self.increments.iter_mut().filter_map(|entry| entry.part.as_mut());
        for part in parts.filter(|part| part.place.life == life) {
            part.until = Some(last_kept);
        }
    }

    /// The increments in the order in which they are read, with what belongs together.
    pub fn sections(&self) -> Vec<Section> {
        let mut sections = Vec::new();
        for (index, entry) in self.increments.iter().enumerate() {
            let Some(part) = entry.part else {
                sections.push(Section::Plain(index));
                continue;
            };
            match sections.last_mut() {
                Some(Section::Life { increments, life, .. }) if *life == part.place.life => increments.end = index + 1,
                _ => sections.push(Section::Life {
                    increments: index..index + 1,
                    life: part.place.life,
                    until: part.until,
                }),
            }
        }
        sections
    }

    /// All that is read at a start, in its order.
    pub fn files(&self) -> impl Iterator<Item = &Entry> {
        self.base.iter().chain(&self.increments)
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.base.iter().for_each(|entry| entry.encode(b'b', &mut out));
        self.history.iter().for_each(|entry| entry.encode(b'h', &mut out));
        self.increments.iter().for_each(|entry| entry.encode(b'i', &mut out));
        out
    }

    /// Reads a manifest by Redis's rules.
    pub fn parse(stem: &[u8], bytes: &[u8]) -> Result<Manifest, Malformed> {
        let mut manifest = Manifest::new(stem);
        let (mut line_number, mut names) = (0, HashSet::new());
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            line_number += 1;
            let malformed = |fault| Malformed {
                line: line_number,
                text: words::trim(&line[..line.len().min(LINE_BYTES_MAX)]).to_vec(),
                fault,
            };
            if line.starts_with(b"#") {
                continue;
            }
            manifest.take_line(line, &mut names).map_err(malformed)?;
        }
        let end = |fault| Malformed {
            line: line_number,
            text: Vec::new(),
            fault,
        };
        if line_number == 0 {
            return Err(end(Fault::Empty));
        }
        manifest.check_parts().map_err(end)?;
        Ok(manifest)
    }

    /// `names` are those of the lines before.
    fn take_line(&mut self, line: &[u8], names: &mut HashSet<Vec<u8>>) -> Result<(), Fault> {
        if line.len() > LINE_BYTES_MAX || !line.ends_with(b"\n") {
            return Err(Fault::TooLong);
        }
        let words = words::split(words::trim(line)).ok_or(Fault::Format)?;
        if words.len() < 6 || words.len() % 2 > 0 {
            return Err(Fault::Format);
        }
        let (mut name, mut seq, mut kind) = (None, None, None);
        let mut own: [Option<&[u8]>; 5] = [None; 5];
        for pair in words.chunks_exact(2) {
            let (key, value) = (pair[0].to_ascii_lowercase(), &pair[1][..]);
            match &key[..] {
                b"file" if !is_name(value) => return Err(Fault::NotAName),
                b"file" => name = Some(value.to_vec()),
                b"seq" => seq = decimal(value),
                b"type" => kind = value.first().copied(),
                _ => {
                    if let Some(at) = OWN_KEYS.iter().position(|own| own.as_bytes() == key) {
                        own[at] = Some(value);
                    }
                }
            }
        }
        let (Some(name), Some(seq), Some(kind)) = (name, seq.filter(|seq| *seq > 0), kind) else {
            return Err(Fault::Format);
        };
        let mut written = Vec::new();
        write_name(&name, &mut written);
        if written.len() > NAME_BYTES_MAX {
            return Err(Fault::TooLong);
        }
        let is_new = names.insert(name.clone());
        let mut entry = Entry::plain(name, seq);
        match kind {
            b'b' if self.base.is_some() => return Err(Fault::DuplicateBase),
            b'b' => {
                let [.., number] = own;
                entry.number = number
                    .map(|value| decimal(value).ok_or(Fault::Annotation))
                    .transpose()?;
                self.base = Some(entry);
            }
            b'h' => self.history.push(entry),
            b'i' => {
                if self.increments.last().is_some_and(|last| seq <= last.seq) {
                    return Err(Fault::NotMonotonic);
                }
                entry.part = part_of(own)?;
                self.increments.push(entry);
            }
            _ => return Err(Fault::UnknownType),
        }
        if is_new { Ok(()) } else { Err(Fault::SameFile) }
    }

    /// Invariant 1, of annotated increments.
    fn check_parts(&self) -> Result<(), Fault> {
        let mut expected: Option<Part> = None;
        let mut last: Option<Part> = None;
        for entry in &self.increments {
            let Some(part) = entry.part else {
                if expected.is_some() {
                    return Err(Fault::Generation);
                }
                if last.is_some_and(|last| last.until.is_none()) {
                    return Err(Fault::Lives);
                }
                continue;
            };
            match (expected, last) {
                (Some(expected), _) if expected != part => return Err(Fault::Generation),
                (Some(_), _) => {}
                (None, _) if part.place.shard > 0 => return Err(Fault::Generation),
                (None, Some(last)) if last.place.life == part.place.life => {
                    if (last.place.shards, last.until) != (part.place.shards, part.until) {
                        return Err(Fault::Generation);
                    }
                }
                (None, Some(last)) => {
                    if last.until.is_none_or(|until| until >= part.place.life) || last.place.life > part.place.life {
                        return Err(Fault::Lives);
                    }
                }
                (None, None) => {}
            }
            let shard = part.place.shard + 1;
            let place = Place { shard, ..part.place };
            expected = (shard < part.place.shards).then_some(Part { place, ..part });
            last = Some(part);
        }
        match expected {
            Some(_) => Err(Fault::Generation),
            None => Ok(()),
        }
    }

    /// Reads the manifest of a directory, if there is one.
    pub fn load(disk: &dyn Disk, dir: &Path, stem: &[u8]) -> Result<Option<Manifest>, ManifestError> {
        let file = path_of(dir, &manifest_name(stem));
        let failed = |error| ManifestError::Io {
            file: file.clone(),
            error,
        };
        let opened = match disk.open(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(failed)?,
        };
        let len = opened.len().map_err(failed)?;
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        let count = opened.read_at(&mut bytes, 0).map_err(failed)?;
        bytes.truncate(count);
        match Manifest::parse(stem, &bytes) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(malformed) => Err(ManifestError::Malformed { file, malformed }),
        }
    }

    /// Writes it, and makes it last.
    pub fn save(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let temporary = path_of(dir, &temporary_name(&self.stem));
        let mut file = disk.create(&temporary)?;
        file.append(&self.encode())?;
        file.sync()?;
        drop(file);
        disk.rename(&temporary, &path_of(dir, &manifest_name(&self.stem)))?;
        disk.sync_dir(dir)
    }
}

/// The keys that no Redis knows.
const OWN_KEYS: [&str; 5] = ["shard", "shards", "life", "until", "number"];

/// What the keys of an increment say.
fn part_of([shard, shards, life, until, _]: [Option<&[u8]>; 5]) -> Result<Option<Part>, Fault> {
    let number = |value: &[u8]| decimal(value).ok_or(Fault::Annotation);
    let small = |value| u16::try_from(number(value)?).map_err(|_| Fault::Annotation);
    let until = until.map(number).transpose()?;
    match (shard, shards, life) {
        (None, None, None) if until.is_none() => Ok(None),
        (Some(shard), Some(shards), Some(life)) => {
            let (shard, shards, life) = (small(shard)?, small(shards)?, number(life)?);
            let place = Place { shard, shards, life };
            let is_sound = shard < shards && life > 0 && until.is_none_or(|until| until >= life - 1);
            is_sound.then_some(Some(Part { place, until })).ok_or(Fault::Annotation)
        }
        _ => Err(Fault::Annotation),
    }
}

/// Whether it is a file's name without a path.
fn is_name(value: &[u8]) -> bool {
    !value.is_empty() && !value.contains(&b'/')
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let is_number = digits.first().is_some_and(u8::is_ascii_digit);
    // (As `i64`, which is what Redis reads.)
    let value: i64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    u64::try_from(value).ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests;
