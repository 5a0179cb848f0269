//! Entries as bytes, the parts that shards write, and the file that parts are laid together to.
//!
//! A [`Scribe`] turns entries into bytes of a part, on the shard that holds them; a value that is too large for one step goes in slices,
//! into a part where nothing comes between them. A [`Part`] takes these bytes into a file, on a thread that may wait. When they are written, [`lay`] makes one file
//! of parts, be it of all of them or of those of one shard (`rdb-layout`):
//!
//! ```text
//! first part's file:  header, as long as it will be | its body |
//! others' files:                                                body |     copied behind it, by the kernel
//! at last:            the header is written over its place, EOF and checksum behind the end, synced
//! ```
//!
//! So a part that is alone is not copied at all. The checksum of the whole is put together from those of header and parts; nothing is read
//! again. The file bears its final name only when all of it is on the disk (`set`).
//!
//! The version in the header is the lowest that can hold what is in the file, so that the oldest servers that could read its content do.

use super::opcode;
use crate::base::clock::UnixMs;
use crate::base::crc64::{combine, crc64};
use crate::base::hash::HashSeed;
use crate::config::{MaxmemoryPolicy, Settings};
use crate::data::access::{frequency, idle_s};
use crate::data::frozen::Lent;
use crate::persist::aof::script::{self, Script};
use crate::persist::payload::Form;
use crate::persist::rdb::RdbWriter;
use crate::persist::value::{self, SlicedValue};
use crate::runtime::disk::{Disk, DiskFile};
use crate::store::{DbIndex, EntryRef};
use std::io;
use std::path::{Path, PathBuf};

/// The AUX field that says where the parts lie.
pub const PARTS_FIELD: &str = "shardis-parts";

/// How much is written between two syncs, where a file is synced as it is written (`rdb-save-incremental-fsync`).
const SYNCED_AT_ONCE_BYTES: u64 = 4 * 1024 * 1024;

/// The lowest version that is written: that of Redis 5 to 6.2.
const VERSION_MIN: u16 = 9;

/// The first version that holds libraries of functions: that of Redis 7.0.
pub(in crate::persist) const WITH_FUNCTIONS: u16 = 10;

/// What is written beside a key: how it was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    Untold,
    /// For how long it was not used.
    Idle,
    /// How often it is used, with `lfu-decay-time`.
    Frequency {
        decay_minutes: u32,
    },
}

/// See the essay above.
#[derive(Debug)]
pub struct Scribe {
    /// As commands, not as a snapshot.
    is_script: bool,
    out: Vec<u8>,
    db: Option<DbIndex>,
    form: Form,
    usage: Usage,
    now: UnixMs,
    key_count: u64,
    version: u16,
}

/// An entry whose value is written in slices.
pub enum SlicedEntry {
    Value(SlicedValue),
    Script(Script),
}

/// Bytes of a part.
#[derive(Debug, Default)]
pub struct Batch {
    pub bytes: Vec<u8>,
    pub key_count: u64,
}

impl Scribe {
    /// `now` is the time of the snapshot.
    pub fn new(form: Form, usage: Usage, now: UnixMs) -> Scribe {
        Scribe {
            is_script: false,
            out: Vec::new(),
            db: None,
            form,
            usage,
            now,
            key_count: 0,
            version: VERSION_MIN,
        }
    }

    /// The same, as commands that make the entries.
    pub fn of_commands(self) -> Scribe {
        Scribe {
            is_script: true,
            ..self
        }
    }

    /// Writes an entry.
    pub fn write(&mut self, db: DbIndex, entry: EntryRef<'_>) {
        if self.is_script {
            self.select(db);
            script::write_entry(&mut self.out, entry);
            self.key_count += 1;
            return;
        }
        self.write_head(db, entry.expiry(), entry.access_clock());
        let version = value::write_keyed(&mut self.out, entry, self.form.compresses, self.form.rdb_version);
        self.version = self.version.max(version);
        self.key_count += 1;
    }

    /// Begins an entry whose value is written in slices; nothing else is to be written before its last.
    pub fn begin_sliced(&mut self, db: DbIndex, key: &[u8], expiry: Option<UnixMs>, access_clock: u32) -> SlicedEntry {
        if self.is_script {
            self.select(db);
            return SlicedEntry::Script(Script::new(key, expiry));
        }
        self.write_head(db, expiry, access_clock);
        SlicedEntry::Value(SlicedValue::keyed(self.form.rdb_version, self.form.compresses, key))
    }

    /// Writes the next slice of it, about `effort` parts; true when that was the last.
    pub fn write_slice(&mut self, value: &mut SlicedEntry, lent: &mut Lent<'_>, seed: HashSeed, effort: usize) -> bool {
        let is_written = match value {
            SlicedEntry::Value(value) => {
                let is_written = value.write_slice(&mut self.out, lent, seed, effort);
                if is_written {
                    self.version = self.version.max(value.lowest_rdb_version());
                }
                is_written
            }
            SlicedEntry::Script(script) => script.write_slice(&mut self.out, lent, seed, effort),
        };
        self.key_count += u64::from(is_written);
        is_written
    }

    /// What stands before the commands of an entry.
    fn select(&mut self, db: DbIndex) {
        if self.db.replace(db) != Some(db) {
            let number = db.0.to_string();
            script::command(&mut self.out, &[b"SELECT", number.as_bytes()]);
        }
    }

    /// What stands before the type of an entry.
    fn write_head(&mut self, db: DbIndex, expiry: Option<UnixMs>, access_clock: u32) {
        let mut writer = RdbWriter::new(&mut self.out, self.form.compresses);
        if self.db != Some(db) {
            self.db = Some(db);
            writer.byte(opcode::SELECT_DB);
            writer.length(u64::from(db.0));
        }
        if let Some(UnixMs(expiry)) = expiry {
            writer.byte(opcode::EXPIRE_TIME_MS);
            writer.raw(&expiry.to_le_bytes());
        }
        match self.usage {
            Usage::Untold => {}
            Usage::Idle => {
                writer.byte(opcode::IDLE);
                writer.length(idle_s(access_clock, self.now));
            }
            Usage::Frequency { decay_minutes } => {
                writer.byte(opcode::FREQUENCY);
                writer.byte(frequency(access_clock, self.now, decay_minutes));
            }
        }
    }

    /// Bytes that were written and not taken yet.
    pub fn waiting_bytes(&self) -> usize {
        self.out.len()
    }

    /// Takes what was written, and goes on in another buffer.
    pub fn take(&mut self, next: Vec<u8>) -> Batch {
        debug_assert!(next.is_empty());
        Batch {
            bytes: std::mem::replace(&mut self.out, next),
            key_count: std::mem::take(&mut self.key_count),
        }
    }

    /// The lowest version that can hold what was written.
    pub fn version(&self) -> u16 {
        self.version
    }
}

/// How a file is written.
#[derive(Clone, Copy, Debug)]
pub struct Writing {
    /// `rdb-save-incremental-fsync`
    pub syncs_on_the_way: bool,
    /// `rdbchecksum`
    pub has_checksum: bool,
}

/// A part in its file, being written.
pub struct Part {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    writing: Writing,
    head: Option<Head>,
    /// Bytes at the beginning of the file that are no part of it.
    head_bytes: u64,
    len: u64,
    unsynced_bytes: u64,
    crc: u64,
    key_count: u64,
    version: u16,
}

impl Part {
    /// In a new file, behind as many bytes as the header takes, if one goes there.
    pub fn create(disk: &dyn Disk, path: &Path, writing: Writing, head: Option<Head>) -> io::Result<Part> {
        let mut file = disk.create(path)?;
        let head_bytes = head.as_ref().map_or(0, |head| head.bytes(VERSION_MIN, &[]).len());
        if head_bytes > 0 {
            file.append(&vec![0; head_bytes])?;
        }
        Ok(Part {
            file,
            path: path.to_owned(),
            writing,
            head,
            head_bytes: head_bytes as u64,
            len: 0,
            unsynced_bytes: 0,
            crc: 0,
            key_count: 0,
            version: VERSION_MIN,
        })
    }

    pub fn append(&mut self, batch: &Batch) -> io::Result<()> {
        self.file.append(&batch.bytes)?;
        self.len += batch.bytes.len() as u64;
        self.key_count += batch.key_count;
        if self.writing.has_checksum {
            self.crc = crc64(self.crc, &batch.bytes);
        }
        self.unsynced_bytes += batch.bytes.len() as u64;
        if self.writing.syncs_on_the_way && self.unsynced_bytes >= SYNCED_AT_ONCE_BYTES {
            self.unsynced_bytes = 0;
            self.file.sync()?;
        }
        Ok(())
    }

    /// Nothing more comes, and this version holds what has come.
    pub fn seal(&mut self, version: u16) {
        self.version = version;
    }

    /// Takes the file away.
    pub fn discard(self, disk: &dyn Disk) {
        // Nothing can be done if that fails; the next start finds it.
        let _ = disk.remove(&self.path);
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What a file says of itself.
#[derive(Clone, Debug)]
pub struct Head {
    pub redis_version: &'static str,
    pub created_at: UnixMs,
    pub used_bytes: u64,
    /// It is the base of an append-only file.
    pub is_base: bool,
    /// Further fields, with names of our own.
    pub fields: Vec<(&'static str, String)>,
    pub part_count: usize,
    /// Libraries of functions, each as its code.
    pub functions: Vec<Vec<u8>>,
}

/// A length and a checksum in text, as wide as it ever gets.
const PART_TEXT_BYTES: usize = 20 + 1 + 16;

impl Head {
    /// The lowest version that can hold what it says.
    fn lowest_version(&self) -> u16 {
        if self.functions.is_empty() {
            VERSION_MIN
        } else {
            WITH_FUNCTIONS
        }
    }

    /// As long, whatever the version and the parts are.
    fn bytes(&self, version: u16, parts: &[(u64, u64)]) -> Vec<u8> {
        let mut out = format!("REDIS{version:04}").into_bytes();
        let mut writer = RdbWriter::new(&mut out, false);
        let mut field = |name: &str, value: &str| {
            writer.byte(opcode::AUX);
            writer.string(name.as_bytes());
            writer.string(value.as_bytes());
        };
        field("redis-ver", self.redis_version);
        field("redis-bits", "64");
        field("ctime", &self.created_at.seconds().to_string());
        field("used-mem", &self.used_bytes.to_string());
        field("aof-base", if self.is_base { "1" } else { "0" });
        self.fields.iter().for_each(|(name, value)| field(name, value));
        for code in &self.functions {
            writer.byte(opcode::FUNCTION_2);
            writer.string(code);
        }
        let nothing = vec![(0, 0); self.part_count];
        let parts = if parts.is_empty() { &nothing } else { parts };
        debug_assert_eq!(parts.len(), self.part_count);
        let texts: Vec<String> = parts.iter().map(|(len, crc)| format!("{len:020}:{crc:016x}")).collect();
        writer.byte(opcode::AUX);
        writer.string(PARTS_FIELD.as_bytes());
        let text = texts.join(",");
        debug_assert_eq!(text.len(), self.part_count * (PART_TEXT_BYTES + 1) - 1);
        // Not `string`: its length must not depend on what it says.
        writer.length(text.len() as u64);
        writer.raw(text.as_bytes());
        out
    }
}

/// A file without keys, whole: what it says of itself, and the libraries.
pub fn without_keys(head: Head) -> Vec<u8> {
    let head = Head { part_count: 1, ..head };
    let mut bytes = head.bytes(head.lowest_version(), &[]);
    bytes.push(opcode::EOF);
    let crc = crc64(0, &bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// A file that is whole and on the disk, under its temporary name.
#[derive(Debug)]
pub struct Sealed {
    path: PathBuf,
    key_count: u64,
    bytes: u64,
    version: u16,
}

impl Sealed {
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The lowest version that holds what is in it.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// Takes the file away.
    pub fn discard(self, disk: &dyn Disk) {
        // Nothing can be done if that fails; the next start finds it.
        let _ = disk.remove(&self.path);
    }
}

/// What came of a save.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Laid {
    pub key_count: u64,
    pub bytes: u64,
    /// The highest of its files.
    pub version: u16,
}

impl Laid {
    /// Adds one of its files.
    pub fn add(&mut self, file: &Sealed) {
        self.key_count += file.key_count;
        self.bytes += file.bytes;
        self.version = self.version.max(file.version);
    }
}

/// Lays parts together, in the file of the first one, which has room for its header, and syncs it. The files of the others
/// are gone afterwards, whatever happens; after an error that of the first, too.
pub fn lay(disk: &dyn Disk, mut parts: Vec<Part>) -> io::Result<Sealed> {
    let sealed = lay_behind_first(&mut parts);
    let others = parts.into_iter().skip(usize::from(sealed.is_ok()));
    others.for_each(|part| part.discard(disk));
    sealed
}

fn lay_behind_first(parts: &mut [Part]) -> io::Result<Sealed> {
    let mut texts: Vec<(u64, u64)> = parts.iter().map(|part| (part.len, part.crc)).collect();
    let versions = parts.iter().map(|part| part.version);
    let version = versions.fold(VERSION_MIN, u16::max);
    let key_count = parts.iter().map(|part| part.key_count).sum();
    let (first, others) = parts.split_first_mut().expect("a file is laid of its parts");
    for other in others.iter() {
        first.file.append_file(&*other.file)?;
    }
    let Some(head) = &first.head else {
        // Commands, which need nothing before or behind them.
        first.file.sync()?;
        return Ok(Sealed {
            path: first.path.clone(),
            key_count,
            bytes: texts.iter().map(|(len, _)| len).sum(),
            version,
        });
    };
    // Parts that nobody has begun are empty.
    texts.resize(head.part_count, (0, 0));
    let version = version.max(head.lowest_version());
    let head = head.bytes(version, &texts);
    debug_assert_eq!(head.len() as u64, first.head_bytes);
    first.file.write_at(&head, 0)?;
    let end = [opcode::EOF];
    let mut crc = 0;
    if first.writing.has_checksum {
        crc = crc64(0, &head);
        for (len, part) in &texts {
            crc = combine(crc, *part, *len);
        }
        crc = crc64(crc, &end);
    }
    first.file.append(&end)?;
    first.file.append(&crc.to_le_bytes())?;
    first.file.sync()?;
    let bytes = head.len() as u64 + texts.iter().map(|(len, _)| len).sum::<u64>() + 9;
    Ok(Sealed {
        path: first.path.clone(),
        key_count,
        bytes,
        version,
    })
}

/// What of the use of keys is written under the policy of eviction.
pub fn usage_of(settings: &Settings) -> Usage {
    match settings.maxmemory_policy {
        MaxmemoryPolicy::AllkeysLru | MaxmemoryPolicy::VolatileLru => Usage::Idle,
        MaxmemoryPolicy::AllkeysLfu | MaxmemoryPolicy::VolatileLfu => Usage::Frequency {
            decay_minutes: settings.lfu_decay_time,
        },
        _ => Usage::Untold,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::string::StringForm;
    use crate::persist::file::set::{Replaced, commit};
    use crate::runtime::disk::{Failing, SimulatedDisk};
    use crate::store::OwnedEntry;

    const FORM: Form = Form {
        rdb_version: 11,
        compresses: true,
    };
    const WRITING: Writing = Writing {
        syncs_on_the_way: true,
        has_checksum: true,
    };

    fn head(part_count: usize) -> Head {
        Head {
            redis_version: "7.2.0",
            created_at: UnixMs(1_700_000_000_123),
            used_bytes: 1_000_000,
            is_base: false,
            fields: vec![("our-own", "something".to_owned())],
            part_count,
            functions: Vec::new(),
        }
    }

    fn batch(from: u32, count: u32) -> (Batch, u16) {
        let mut scribe = Scribe::new(FORM, Usage::Idle, UnixMs(1_700_000_000_123));
        for number in from..from + count {
            let entry = OwnedEntry::string(&number.to_be_bytes(), b"value", StringForm::Raw, Some(UnixMs(7)), 0);
            scribe.write(DbIndex(number % 2), entry.as_ref());
        }
        assert!(scribe.waiting_bytes() > 0);
        (scribe.take(Vec::new()), scribe.version())
    }

    fn save(disk: &dyn Disk, part_count: u32, name: &Path) -> io::Result<Laid> {
        let mut parts = Vec::new();
        for number in 0..part_count {
            let path = PathBuf::from(format!("/data/temp-{number}"));
            let mut part = Part::create(disk, &path, WRITING, (number == 0).then(|| head(part_count as usize)))?;
            for piece in 0..3 {
                let (batch, version) = batch(number * 300 + piece * 100, 100);
                part.append(&batch)?;
                part.seal(version);
            }
            parts.push(part);
        }
        let file = (lay(disk, parts)?, name.to_owned());
        commit(disk, Path::new("/data"), vec![file], &Replaced::default())
    }

    fn read(disk: &dyn Disk, name: &Path) -> Vec<u8> {
        let file = disk.open(name).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn parts_become_one_file_with_one_checksum() {
        let disk = SimulatedDisk::new(1);
        let name = Path::new("/data/dump.rdb");
        for part_count in [1, 2, 5] {
            let laid = save(&*disk, part_count, name).unwrap();
            assert_eq!((laid.key_count, laid.version), (u64::from(part_count) * 300, 9));
            let bytes = read(&*disk, name);
            assert_eq!(bytes.len() as u64, laid.bytes);
            assert!(bytes.starts_with(b"REDIS0009\xfa"));
            let (body, crc) = bytes.split_last_chunk::<8>().unwrap();
            assert_eq!(crc64(0, body), u64::from_le_bytes(*crc));
            assert_eq!(body.last(), Some(&opcode::EOF));
            assert_eq!(
                disk.list(Path::new("/data")).unwrap(),
                ["dump.rdb"],
                "nothing else is left"
            );
            // The parts lie where the header says.
            let text = String::from_utf8_lossy(&bytes);
            let at = text.find(PARTS_FIELD).unwrap();
            let list: String = text[at + PARTS_FIELD.len()..]
                .chars()
                .skip_while(|c| !c.is_ascii_digit() || *c == '@')
                .take_while(|c| c.is_ascii_hexdigit() || ":,".contains(*c))
                .collect();
            let lens: u64 = list
                .split(',')
                .map(|part| part.split(':').next().unwrap()[..20].parse::<u64>().unwrap())
                .sum();
            assert!(lens > 0 && lens < laid.bytes);
        }
    }

    /// Whatever fails, the file of before is there and nothing else; whatever crashes, the file is one of the two, and whole.
    #[test]
    fn a_save_that_fails_or_crashes_leaves_a_whole_file() {
        let name = Path::new("/data/dump.rdb");
        let whole = SimulatedDisk::new(1);
        save(&*whole, 2, name).unwrap();
        let operations = whole.operations();
        let new = read(&*whole, name);
        for how in [Failing::Crash, Failing::NoSpace, Failing::Broken] {
            for at in 0..operations {
                let disk = SimulatedDisk::new(at);
                save(&*disk, 1, name).unwrap();
                let old = read(&*disk, name);
                disk.fail_at(disk.operations() + at, how);
                let result = save(&*disk, 2, name);
                if how == Failing::Crash {
                    disk.crash();
                    disk.restart();
                    let found = read(&*disk, name);
                    assert!(found == old || found == new, "crash at {at}");
                    assert!(result.is_err() || found == new, "what was reported is there");
                } else if result.is_err() {
                    let found = read(&*disk, name);
                    assert!(found == old || found == new, "{how:?} at {at}");
                }
            }
        }
    }
}
