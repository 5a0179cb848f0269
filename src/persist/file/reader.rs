//! A whole RDB file, read front to back from anything that can be read, whoever wrote it.
//!
//! ```text
//! "REDIS" + 4 digits, or "VALKEY" + 3 | item ... | EOF | CRC-64 of all before it, from version 5 on; 0: not counted
//! ```
//!
//! The reader does not make values. It finds where each entry begins and ends and which slot its key belongs to, and hands the bytes on
//! page by page, so that values are made where they are to live, on many threads ([`Head::read`] and
//! [`Value::read_kind`](crate::persist::value::Value::read_kind) do it, over a page). One thread that looks for ends is several times as fast
//! as one that makes values.
//!
//! ```text
//!            page                                    next page
//!  | item | item | ... | item | half of one |
//!                              '------ copied ------> | half of one + the rest of it | ...
//! ```
//!
//! The numbers of types and opcodes depend on who wrote the file: Redis's and Valkey's 22, 23, 242 and 243 are different things. The
//! *version* tells them apart here and in `value`: Valkey's begin at 80.
//!
//! Invariants:
//! 1. A page holds at most twice what the entry at its beginning and the items behind it have been shown to take: no length that
//!    was only announced is ever allocated, and one that goes beyond the end of the file is an error at once.
//! 2. Whatever the bytes are, reading them ends with [`Item::End`] or an error. Nothing panics.

use super::opcode;
use crate::base::clock::UnixMs;
use crate::base::crc64::crc64;
use crate::base::slot::key_slot;
use crate::persist::rdb::{Damage, ModuleType, RdbError, RdbReader};
use crate::persist::value::{OF_VALKEY_9, RDB_VERSION_MAX, extent};
use std::borrow::Cow;
use std::io::{self, Read};

/// Bytes of a page: many entries, and little for a queue to hold.
const PAGE_BYTES: usize = 128 * 1024;

/// Bytes of a file's first words.
const SIGNATURE_BYTES: usize = 9;
/// Bytes of the checksum.
const CHECKSUM_BYTES: usize = 8;
/// The first version that ends with a checksum.
const WITH_CHECKSUM: u16 = 5;

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("Wrong signature trying to load DB from file")]
    Signature,
    #[error("Can't handle RDB format version {0}")]
    Version(u16),
    #[error("{0}")]
    Damage(Damage),
    #[error("Wrong RDB checksum expected: ({expected:x}) but got ({found:x}). Aborting now.")]
    Checksum { expected: u64, found: u64 },
    #[error("a part is said to end here, which is in the middle of an item")]
    PartEnd,
}

/// A fault, and where it is.
#[derive(Debug, thiserror::Error)]
#[error("at offset {offset}{}: {fault}", in_key(.key))]
pub struct FileError {
    /// Bytes from the beginning of the file.
    pub offset: u64,
    /// The key whose entry it is in, if one could be read.
    pub key: Option<Vec<u8>>,
    pub fault: Fault,
}

impl FileError {
    /// Damage in a page that begins at that offset of the file.
    pub fn damage(page_offset: u64, error: RdbError, key: Option<&[u8]>) -> FileError {
        FileError {
            offset: page_offset + error.offset as u64,
            key: key.map(<[u8]>::to_vec),
            fault: Fault::Damage(error.what),
        }
    }
}

fn in_key(key: &Option<Vec<u8>>) -> String {
    match key {
        Some(key) => format!(", in the key '{}'", key.escape_ascii()),
        None => String::new(),
    }
}

/// What stands before the value of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    pub expiry: Option<UnixMs>,
    /// For how many seconds it had not been used.
    pub idle_s: Option<u64>,
    /// The logarithmic counter of its uses.
    pub frequency: Option<u8>,
    /// The type byte of its value.
    pub kind: u8,
    pub key: Cow<'a, [u8]>,
}

impl<'a> Head<'a> {
    /// Reads it; the value follows.
    #[inline]
    pub fn read(reader: &mut RdbReader<'a>) -> Result<Head<'a>, RdbError> {
        let (mut expiry, mut idle_s, mut frequency) = (None, None, None);
        let kind = loop {
            match reader.byte()? {
                opcode::EXPIRE_TIME_MS => expiry = expiry_of(i64::from_le_bytes(reader.array()?)),
                opcode::EXPIRE_TIME => {
                    let seconds = i64::from(i32::from_le_bytes(reader.array()?));
                    expiry = expiry_of(seconds.saturating_mul(1000));
                }
                opcode::IDLE => idle_s = Some(reader.length()?),
                opcode::FREQUENCY => frequency = Some(reader.byte()?),
                kind => break kind,
            }
        };
        Ok(Head {
            expiry,
            idle_s,
            frequency,
            kind,
            key: reader.string()?,
        })
    }
}

/// What Redis keeps for a key without expiry is -1, and so it reads that.
fn expiry_of(ms: i64) -> Option<UnixMs> {
    (ms != -1).then(|| UnixMs::from_signed(ms))
}

/// Where an entry lies in the present page, and what is known of it without making it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Offsets within the page: of its head, and of what follows its value.
    pub start: usize,
    pub end: usize,
    pub slot: u16,
    /// The type byte of its value.
    pub kind: u8,
    pub expiry: Option<UnixMs>,
}

/// One thing that stands in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    Entry(Place),
    /// What follows belongs to this db.
    SelectDb(u64),
    /// The db has so many keys, of which so many expire.
    Sizes {
        keys: u64,
        expires: u64,
    },
    /// A name and a value that say something of the file.
    Aux(Vec<u8>, Vec<u8>),
    /// The code of a library of functions.
    Function(Vec<u8>),
    /// A module has something to say apart from its keys; it was passed over.
    ModuleAux(ModuleType),
    /// What concerns servers that change while it is written only; it was passed over.
    Passed,
    /// The file, or the part, has been read to its end.
    End,
}

/// What a look at the file has brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Item(Item),
    /// The page holds no further item: [`Reader::turn_page`].
    PageEnd,
}

/// A run of items, as bytes.
#[derive(Debug)]
pub struct Page {
    pub bytes: Vec<u8>,
    /// Bytes of the file before the page.
    pub offset: u64,
}

/// See the essay above.
pub struct Reader<R> {
    source: R,
    /// Bytes that the source has not given yet, if that is known.
    left: Option<u64>,
    /// What it gave and no page has taken.
    ahead: Vec<u8>,
    /// How many of these are in pages.
    ahead_at: usize,
    page: Vec<u8>,
    /// Bytes of the file before the page.
    offset: u64,
    /// How much of the page is items that were read.
    at: usize,
    /// How much of the page is in the checksum.
    summed: usize,
    has_ended: bool,
    version: u16,
    is_part: bool,
    /// None: nobody wants it.
    crc: Option<u64>,
    /// What the file says that its checksum is.
    stored_crc: Option<u64>,
}

impl<R: Read> Reader<R> {
    /// Begins to read a file that has so many bytes, if that is known. `checks`: its checksum is compared with one that is counted.
    pub fn new(source: R, len: Option<u64>, checks: bool) -> Result<Reader<R>, FileError> {
        let mut reader = Reader::begin(source, 0, len, checks);
        let filled = reader.fill(SIGNATURE_BYTES);
        filled.map_err(|error| reader.error_at(0, Fault::Io(error)))?;
        let Some(signature) = reader.page.first_chunk::<SIGNATURE_BYTES>() else {
            let what = Damage::CutShort {
                wanted: SIGNATURE_BYTES as u64,
                left: reader.page.len(),
            };
            return Err(reader.error_at(0, Fault::Damage(what)));
        };
        let (digits, versions) = match signature {
            [b'R', b'E', b'D', b'I', b'S', digits @ ..] => (&digits[..], 1..=RDB_VERSION_MAX),
            [b'V', b'A', b'L', b'K', b'E', b'Y', digits @ ..] => (&digits[..], OF_VALKEY_9..=OF_VALKEY_9),
            _ => return Err(reader.error_at(0, Fault::Signature)),
        };
        let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
        reader.version = match number {
            Some(version) if versions.contains(&version) => version,
            Some(version) => return Err(reader.error_at(0, Fault::Version(version))),
            None => return Err(reader.error_at(0, Fault::Signature)),
        };
        if reader.version < WITH_CHECKSUM {
            reader.crc = None;
        }
        reader.at = SIGNATURE_BYTES;
        Ok(reader)
    }

    /// Begins to read a part: so many bytes that stand at that offset of a file of that version, and have no header and no end of their own.
    pub fn of_part(source: R, offset: u64, len: u64, version: u16, checks: bool) -> Reader<R> {
        Reader {
            version,
            is_part: true,
            ..Reader::begin(source, offset, Some(len), checks)
        }
    }

    fn begin(source: R, offset: u64, left: Option<u64>, checks: bool) -> Reader<R> {
        Reader {
            source,
            left,
            ahead: Vec::new(),
            ahead_at: 0,
            page: Vec::new(),
            offset,
            at: 0,
            summed: 0,
            has_ended: false,
            version: 0,
            is_part: false,
            crc: checks.then_some(0),
            stored_crc: None,
        }
    }

    /// The version; Valkey's begin at 80.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// The present page, with what follows its last item.
    pub fn page(&self) -> &[u8] {
        &self.page
    }

    /// How many bytes of the file are items that were read, the checksum at its end included.
    pub fn offset(&self) -> u64 {
        self.offset + self.at as u64
    }

    /// The checksum of all that was read; None if it is not counted.
    pub fn checksum(&mut self) -> Option<u64> {
        self.sum(self.at);
        self.crc
    }

    /// The checksum that the file ends with, once it was read. Zero: it was written without.
    pub fn stored_checksum(&self) -> Option<u64> {
        self.stored_crc
    }

    /// Goes on behind so many further bytes, which others have read (parts): from a source that stands there and has `left` bytes.
    /// `crc` makes the checksum with them of the one before them.
    pub fn jump(&mut self, source: R, bytes: u64, left: u64, crc: impl FnOnce(u64) -> u64) {
        self.sum(self.at);
        *self = Reader {
            version: self.version,
            crc: self.crc.map(crc),
            ..Reader::begin(source, self.offset() + bytes, Some(left), false)
        };
    }

    /// Reads the next item.
    #[inline]
    pub fn look(&mut self) -> Result<Next, FileError> {
        loop {
            let mut reader = RdbReader::at(&self.page, self.at);
            let cut_short = match read_item(&mut reader, self.version) {
                Ok(item) => {
                    let end = reader.offset();
                    self.at = end;
                    if item == Item::End {
                        self.finish()?;
                    }
                    return Ok(Next::Item(item));
                }
                Err(RdbError {
                    offset,
                    what: Damage::CutShort { wanted, left },
                }) => (offset, wanted, left),
                Err(error) => return Err(self.error(error, None)),
            };
            let (offset, wanted, left) = cut_short;
            let more = self.left.map(|more| more.saturating_add(self.ahead_left() as u64));
            if self.is_part && self.at == self.page.len() && more == Some(0) {
                return Ok(Next::Item(Item::End));
            }
            let is_beyond = more.is_some_and(|more| wanted > more.saturating_add(left as u64));
            if self.has_ended || is_beyond {
                let what = Damage::CutShort { wanted, left };
                let fault = self.is_part.then_some(Fault::PartEnd);
                return Err(self.error(RdbError { offset, what }, fault));
            }
            if self.at > 0 {
                return Ok(Next::PageEnd);
            }
            let target = PAGE_BYTES.max(self.page.len().saturating_mul(2));
            self.fill(target)
                .map_err(|error| self.error_at(self.page.len(), Fault::Io(error)))?;
        }
    }

    /// Gives the page away, and begins the next one behind the last item that was read.
    pub fn turn_page(&mut self) -> Page {
        self.sum(self.at);
        let mut bytes = std::mem::take(&mut self.page);
        let rest = &bytes[self.at..];
        if rest.len() <= PAGE_BYTES {
            self.page = Vec::with_capacity(PAGE_BYTES);
            self.page.extend_from_slice(rest);
        } else {
            self.put_back(rest);
        }
        bytes.truncate(self.at);
        let page = Page {
            bytes,
            offset: self.offset,
        };
        self.offset += self.at as u64;
        (self.at, self.summed) = (0, 0);
        page
    }

    /// What a page had more than it needed, when a large entry made it large, comes again.
    fn put_back(&mut self, rest: &[u8]) {
        if self.ahead_left() > 0 && self.ahead_at >= rest.len() {
            // The bytes read last came from there.
            self.ahead_at -= rest.len();
            return;
        }
        let mut ahead = rest.to_vec();
        ahead.extend_from_slice(&self.ahead[self.ahead_at..]);
        (self.ahead, self.ahead_at) = (ahead, 0);
        self.has_ended = false;
    }

    fn ahead_left(&self) -> usize {
        self.ahead.len() - self.ahead_at
    }

    /// Reads until the page has so many bytes, or all there are.
    fn fill(&mut self, target: usize) -> io::Result<()> {
        let wanted = target.max(PAGE_BYTES);
        let from_ahead = self.ahead_left().min(wanted.saturating_sub(self.page.len()));
        self.page.extend_from_slice(&self.ahead[self.ahead_at..][..from_ahead]);
        self.ahead_at += from_ahead;
        if self.ahead_left() > 0 {
            return Ok(());
        }
        (self.ahead, self.ahead_at) = (Vec::new(), 0);
        let mut filled = self.page.len();
        let room = wanted.saturating_sub(filled) as u64;
        let room = self.left.map_or(room, |left| room.min(left));
        self.has_ended = self.left == Some(room);
        self.page.resize(filled + room as usize, 0);
        let outcome = loop {
            if filled == self.page.len() {
                break Ok(());
            }
            match self.source.read(&mut self.page[filled..]) {
                Ok(0) => {
                    self.has_ended = true;
                    break Ok(());
                }
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        if let Some(left) = &mut self.left {
            *left -= filled as u64 - (self.page.len() as u64 - room);
        }
        self.page.truncate(filled);
        outcome
    }

    /// Takes the page up to there into the checksum.
    fn sum(&mut self, end: usize) {
        if let Some(crc) = &mut self.crc {
            *crc = crc64(*crc, &self.page[self.summed..end]);
        }
        self.summed = end;
    }

    /// Reads and compares the checksum behind the end.
    fn finish(&mut self) -> Result<(), FileError> {
        if self.version < WITH_CHECKSUM {
            return Ok(());
        }
        while self.page.len() < self.at + CHECKSUM_BYTES && !self.has_ended {
            self.fill(self.at + CHECKSUM_BYTES)
                .map_err(|error| self.error_at(self.at, Fault::Io(error)))?;
        }
        let Some(stored) = self.page[self.at..].first_chunk::<CHECKSUM_BYTES>() else {
            let what = Damage::CutShort {
                wanted: CHECKSUM_BYTES as u64,
                left: self.page.len() - self.at,
            };
            return Err(self.error_at(self.at, Fault::Damage(what)));
        };
        let expected = u64::from_le_bytes(*stored);
        self.stored_crc = Some(expected);
        let found = self.checksum();
        let at = self.at;
        self.at += CHECKSUM_BYTES;
        self.summed = self.at;
        match found {
            // Zero: nobody counted when it was written.
            Some(found) if expected != 0 && found != expected => {
                Err(self.error_at(at, Fault::Checksum { expected, found }))
            }
            _ => Ok(()),
        }
    }

    /// An error at that offset of the page, outside of any entry.
    fn error_at(&self, offset: usize, fault: Fault) -> FileError {
        FileError {
            offset: self.offset + offset as u64,
            key: None,
            fault,
        }
    }

    #[cold]
    fn error(&self, error: RdbError, fault: Option<Fault>) -> FileError {
        let begins_entry = self
            .page
            .get(self.at)
            .is_some_and(|first| is_of_entry(*first, self.version));
        let head = begins_entry.then(|| Head::read(&mut RdbReader::at(&self.page, self.at)));
        FileError {
            offset: self.offset + error.offset as u64,
            key: head.and_then(Result::ok).map(|head| head.key.into_owned()),
            fault: fault.unwrap_or(Fault::Damage(error.what)),
        }
    }
}

/// A part, as the header of a file tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartSpan {
    pub bytes: u64,
    /// Zero: it was not counted.
    pub crc: u64,
}

/// What the field [`PARTS_FIELD`](super::writer::PARTS_FIELD) says, in a file that has `left` bytes behind it; None if that cannot be.
pub fn parts_of(list: &[u8], left: u64) -> Option<Vec<PartSpan>> {
    let mut parts = Vec::new();
    let mut sum = 0u64;
    for part in std::str::from_utf8(list).ok()?.split(',') {
        let (bytes, crc) = part.split_once(':')?;
        let bytes: u64 = bytes.parse().ok()?;
        let crc = u64::from_str_radix(crc, 16).ok()?;
        sum = sum.checked_add(bytes).filter(|sum| *sum <= left)?;
        parts.push(PartSpan { bytes, crc });
    }
    Some(parts)
}

/// Reads what stands next.
#[inline]
fn read_item(reader: &mut RdbReader<'_>, version: u16) -> Result<Item, RdbError> {
    let start = reader.offset();
    match reader.clone().byte()? {
        first if is_of_entry(first, version) => read_entry(reader, start, version),
        _ => read_other(reader),
    }
}

/// Whether an entry can begin with this byte.
#[inline]
fn is_of_entry(first: u8, version: u16) -> bool {
    match first {
        opcode::IDLE | opcode::FREQUENCY | opcode::EXPIRE_TIME_MS | opcode::EXPIRE_TIME => true,
        opcode::SLOT_IMPORT => version < OF_VALKEY_9,
        other => other < opcode::SLOT_IMPORT,
    }
}

#[inline]
fn read_entry(reader: &mut RdbReader<'_>, start: usize, version: u16) -> Result<Item, RdbError> {
    let head = Head::read(reader)?;
    extent::skip(head.kind, reader, version)?;
    Ok(Item::Entry(Place {
        start,
        end: reader.offset(),
        slot: key_slot(&head.key),
        kind: head.kind,
        expiry: head.expiry,
    }))
}

#[cold]
fn read_other(reader: &mut RdbReader<'_>) -> Result<Item, RdbError> {
    let start = reader.offset();
    Ok(match reader.byte()? {
        opcode::SELECT_DB => Item::SelectDb(reader.length()?),
        opcode::RESIZE_DB => Item::Sizes {
            keys: reader.length()?,
            expires: reader.length()?,
        },
        opcode::AUX => Item::Aux(reader.string()?.into_owned(), reader.string()?.into_owned()),
        opcode::FUNCTION_2 => Item::Function(reader.string()?.into_owned()),
        opcode::FUNCTION_PRE_GA => return Err(Damage::PreReleaseFunction.at(start)),
        opcode::MODULE_AUX => {
            let module = ModuleType(reader.length()?);
            // When the module wants to hear it: a kind of number, and the number.
            reader.length()?;
            reader.length()?;
            extent::skip_module(reader)?;
            Item::ModuleAux(module)
        }
        opcode::SLOT_INFO => {
            // Slot, keys, keys that expire.
            for _ in 0..3 {
                reader.length()?;
            }
            Item::Passed
        }
        opcode::SLOT_IMPORT => {
            // The job's name; ranges of slots.
            reader.skip_string()?;
            for _ in 0..reader.length()? {
                reader.length()?;
                reader.length()?;
            }
            Item::Passed
        }
        opcode::EOF => Item::End,
        other => return Err(Damage::Opcode(other).at(start)),
    })
}

// Not among the fuzzers, whose copy of this module has no files to write.
#[cfg(test)]
#[cfg(not(fuzzing))]
mod tests;
