//! The way through an append-only file: all its commands, in the one order in which they were run.
//!
//! The base comes first, then the increments as the manifest lists them; those of one life are merged ([`super::life`]). What holds keys
//! instead of commands (RDB) is for somebody else to read: the way says so, and goes on behind it.
//!
//! SELECT, MULTI and EXEC belong to the way and not to the data: it knows the db of each command, and says where a transaction begins and
//! ends. So that of a file which ends within a transaction nothing of that is kept.
//!
//! A *plain* file is kept by Redis's rules: only the last may be torn, and it ends behind its last whole command, or before the MULTI
//! that has no EXEC.

use super::buffer::FileBuffer;
use super::life::{Cut, Life, LifeEnd};
use super::{AofError, Found};
use crate::persist::aof::command::{self, Next};
use crate::persist::aof::manifest::{Entry, Manifest, Section};
use crate::persist::file::source::Source;
use crate::resp::{Args, Span};
use crate::runtime::disk::Disk;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What files of keys begin with.
const KEYS_BEGIN_WITH: [&[u8]; 2] = [b"REDIS", b"VALKEY"];

/// What `#TS:` lines begin with.
const TIMESTAMP: &[u8] = b"#TS:";

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::durability) enum Step {
    /// A file that begins with keys: to be read by others, who say where they have come to ([`Walk::keys_end_at`]).
    Keys,
    /// [`Walk::args`] are its arguments, [`Walk::db`] is where it runs.
    Command,
    /// A transaction begins; it ends with [`Step::Exec`], or is not there.
    Multi,
    Exec,
    /// A second of the clock: only what stands behind it happened then, or later.
    Timestamp(u64),
    End,
}

/// What was kept, when the way has come to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The last log number of the life that was open, which this closes.
    pub until: Option<u64>,
    /// What the next log number has to be, at least.
    pub next_number: u64,
    pub last_turn: u64,
    pub end_offset: u64,
    /// Files that go on behind what is kept, or that were open and are kept whole.
    pub cuts: Vec<Cut>,
}

impl Kept {
    /// What of it is shorter than it was.
    pub fn losses(&self) -> impl Iterator<Item = &Cut> {
        self.cuts.iter().filter(|cut| cut.kept_bytes < cut.bytes)
    }
}

/// See above.
pub(in crate::durability) struct Walk {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// What is still to be opened.
    legs: VecDeque<Leg>,
    leg: Current,
    spans: Vec<Span>,
    /// Of the last command.
    end: usize,
    databases: u32,
    number: u64,
    kept: Kept,
    /// Passed, and told nobody yet.
    counted_bytes: u64,
    passed: Vec<Arc<Path>>,
}

enum Leg {
    /// Behind the last one stand only such as are empty.
    Plain {
        entry: Entry,
        is_last: bool,
        is_empty: bool,
    },
    Life {
        entries: Vec<Entry>,
    },
}

enum Current {
    None,
    Plain(Plain),
    Merged(Merged),
}

struct Plain {
    buffer: FileBuffer,
    is_last: bool,
    db: u32,
    has_begun: bool,
    /// Where the transaction begins that is open.
    multi_at: Option<u64>,
}

struct Merged {
    life: Life,
    /// Of each part.
    dbs: Vec<u32>,
    /// The part whose chunk is being read, and how far.
    chunk: Option<(usize, usize)>,
    /// It is in the base.
    is_in_base: bool,
    is_in_multi: bool,
}

impl Walk {
    /// The way through what was found.
    pub fn new(disk: Arc<dyn Disk>, found: &Found, databases: u32) -> Walk {
        let Manifest { base, increments, .. } = &found.manifest;
        let mut legs: VecDeque<Leg> = VecDeque::new();
        let plain = |entry: &Entry| Leg::Plain {
            entry: entry.clone(),
            is_last: false,
            is_empty: false,
        };
        legs.extend(base.iter().map(plain));
        for section in found.manifest.sections() {
            legs.push_back(match section {
                Section::Plain(index) => plain(&increments[index]),
                Section::Life { increments: range, .. } => Leg::Life {
                    entries: increments[range].to_vec(),
                },
            });
        }
        // Behind the last one that anything was written to stands only what a rewrite has made that never came to its cut.
        for leg in legs.iter_mut().rev() {
            let Leg::Plain {
                entry,
                is_last,
                is_empty,
            } = leg
            else {
                break;
            };
            *is_last = true;
            let source = Source::open(&*disk, &entry.path(&found.dir));
            *is_empty = source.and_then(|source| source.bytes()).is_ok_and(|bytes| bytes == 0);
            if !*is_empty {
                break;
            }
        }
        let number = base.as_ref().and_then(|base| base.number).unwrap_or(1);
        Walk {
            disk,
            dir: found.dir.clone(),
            legs,
            leg: Current::None,
            spans: Vec::new(),
            end: 0,
            databases,
            number,
            kept: Kept {
                next_number: number,
                ..Kept::default()
            },
            counted_bytes: 0,
            passed: Vec::new(),
        }
    }

    /// Goes on to the next thing.
    pub fn go(&mut self) -> Result<Step, AofError> {
        loop {
            let step = match &mut self.leg {
                Current::None => match self.legs.pop_front() {
                    Some(leg) => {
                        self.leg = self.open(leg)?;
                        None
                    }
                    None => return Ok(Step::End),
                },
                Current::Plain(_) => self.go_plain()?,
                Current::Merged(_) => self.go_merged()?,
            };
            if let Some(step) = step {
                return Ok(step);
            }
        }
    }

    /// The arguments of the command.
    pub fn args(&self) -> Args<'_> {
        let bytes = match &self.leg {
            Current::Plain(plain) => plain.buffer.rest(),
            Current::Merged(merged) => merged.commands(),
            Current::None => &[],
        };
        Args::new(bytes, &self.spans)
    }

    /// The db of the command.
    pub fn db(&self) -> u32 {
        match &self.leg {
            Current::Plain(plain) => plain.db,
            Current::Merged(merged) => merged.chunk.map_or(0, |(part, _)| merged.dbs[part]),
            Current::None => 0,
        }
    }

    /// Where the thing stands that was found last.
    pub fn place(&mut self) -> (Arc<Path>, u64) {
        match &mut self.leg {
            Current::Plain(plain) => (plain.buffer.path.clone(), plain.buffer.offset()),
            Current::Merged(merged) => merged.place(),
            Current::None => (Arc::from(&*self.dir), 0),
        }
    }

    /// Bytes that were passed since it was asked last.
    pub fn take_counted_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.counted_bytes)
    }

    /// Files of which the way has come to the end since it was asked last; those of a life end together.
    pub fn take_passed(&mut self) -> Vec<Arc<Path>> {
        std::mem::take(&mut self.passed)
    }

    /// The keys with which the file begins end there.
    pub fn keys_end_at(&mut self, offset: u64) {
        if let Current::Plain(plain) = &mut self.leg {
            plain.buffer.jump(offset);
        }
    }

    /// Ends the way here, before what was found last, or before what cannot be read: only in the last file, or the last life. (The last file
    /// is one behind which nothing was written, as for a start.)
    pub fn stop(&mut self) -> Result<(), AofError> {
        let is_empty = |leg: &Leg| matches!(leg, Leg::Plain { is_empty: true, .. });
        if !self.legs.iter().all(is_empty) {
            let (file, offset) = self.place();
            let file = file.to_path_buf();
            return Err(AofError::NotLast { file, offset });
        }
        match std::mem::replace(&mut self.leg, Current::None) {
            Current::None => {}
            Current::Plain(plain) => {
                let kept_bytes = plain.multi_at.unwrap_or(plain.buffer.offset());
                self.kept.cuts.push(plain.cut(kept_bytes));
            }
            Current::Merged(merged) => {
                let has_chunk = merged.chunk.is_some() && !merged.is_in_base;
                let end = merged.life.stop(has_chunk)?;
                self.keep_life(end, true);
            }
        }
        Ok(())
    }

    /// What was kept, at the end.
    pub fn into_kept(self) -> Kept {
        self.kept
    }

    fn open(&mut self, leg: Leg) -> Result<Current, AofError> {
        self.end = 0;
        Ok(match leg {
            Leg::Plain { entry, is_last, .. } => Current::Plain(Plain {
                buffer: FileBuffer::open(&*self.disk, &entry.path(&self.dir))?,
                is_last,
                db: 0,
                has_begun: false,
                multi_at: None,
            }),
            Leg::Life { entries } => {
                let life = Life::open(&*self.disk, &self.dir, &entries, self.number)?;
                Current::Merged(Merged {
                    life,
                    dbs: vec![0; entries.len()],
                    chunk: None,
                    is_in_base: false,
                    is_in_multi: false,
                })
            }
        })
    }

    fn go_plain(&mut self) -> Result<Option<Step>, AofError> {
        let Current::Plain(plain) = &mut self.leg else {
            unreachable!("asked for a plain file only")
        };
        let buffer = &mut plain.buffer;
        buffer.pass(self.end);
        self.counted_bytes += std::mem::take(&mut self.end) as u64;
        if !std::mem::replace(&mut plain.has_begun, true) {
            buffer.fill()?;
            if KEYS_BEGIN_WITH.iter().any(|word| buffer.rest().starts_with(word)) {
                return Ok(Some(Step::Keys));
            }
        }
        loop {
            let (path, offset) = (&buffer.path, buffer.offset());
            let next = command::next(buffer.rest(), 0, &mut self.spans);
            let next = next.map_err(|malformed| AofError::Format {
                file: path.to_path_buf(),
                offset: offset + malformed.at as u64,
                what: malformed.to_string(),
            })?;
            let end = match next {
                Next::Annotation { end } => {
                    let step = timestamp(&buffer.rest()[..end]);
                    self.end = end;
                    return Ok(step);
                }
                Next::Command { end } => end,
                Next::CutShort if !buffer.sees_end() => {
                    buffer.fill()?;
                    continue;
                }
                Next::CutShort => break,
            };
            self.end = end;
            let args = Args::new(buffer.rest(), &self.spans);
            return match word_of(args) {
                Word::Select => {
                    plain.db = db_of(args, self.databases).ok_or_else(|| AofError::Databases {
                        file: path.to_path_buf(),
                        offset,
                        databases: self.databases,
                    })?;
                    Ok(None)
                }
                Word::Multi if plain.multi_at.is_none() => {
                    plain.multi_at = Some(offset);
                    Ok(Some(Step::Multi))
                }
                Word::Exec if plain.multi_at.is_some() => {
                    plain.multi_at = None;
                    Ok(Some(Step::Exec))
                }
                Word::Multi | Word::Exec => Err(AofError::Format {
                    file: path.to_path_buf(),
                    offset,
                    what: format!("Unexpected {}", String::from_utf8_lossy(args.at(0)).to_uppercase()),
                }),
                Word::Other => Ok(Some(Step::Command)),
            };
        }
        let kept_bytes = plain.multi_at.unwrap_or(buffer.offset());
        if !plain.is_last && kept_bytes < buffer.len() {
            return Err(AofError::TornWithin {
                file: buffer.path.to_path_buf(),
                offset: kept_bytes,
            });
        }
        if plain.is_last {
            let cut = plain.cut(kept_bytes);
            self.kept.cuts.push(cut);
        }
        self.passed.push(plain.buffer.path.clone());
        self.leg = Current::None;
        Ok(None)
    }

    fn go_merged(&mut self) -> Result<Option<Step>, AofError> {
        let Current::Merged(merged) = &mut self.leg else {
            unreachable!("asked for a life only")
        };
        let Some((index, at)) = &mut merged.chunk else {
            return match merged.life.go()? {
                Some((index, head)) => {
                    merged.chunk = Some((index, 0));
                    merged.is_in_base = head.number < self.number;
                    self.kept.last_turn = head.turn;
                    self.kept.end_offset = head.offsets.end;
                    Ok(None)
                }
                None => self.end_life(),
            };
        };
        *at += std::mem::take(&mut self.end);
        let (index, at) = (*index, *at);
        let part = merged.life.part(index);
        let commands = &part.commands()[at..];
        if commands.is_empty() {
            if merged.is_in_multi {
                return Err(merged.format("the chunk ends within a transaction"));
            }
            self.counted_bytes += part.take();
            merged.chunk = None;
            return Ok(None);
        }
        let end = match command::next(commands, 0, &mut self.spans) {
            Ok(Next::Annotation { end }) => {
                let step = timestamp(&commands[..end]).filter(|_| !merged.is_in_base);
                self.end = end;
                return Ok(step);
            }
            Ok(Next::Command { end }) => end,
            Ok(Next::CutShort) => return Err(merged.format("the chunk ends within a command")),
            Err(malformed) => return Err(merged.format(&malformed.to_string())),
        };
        self.end = end;
        let args = Args::new(commands, &self.spans);
        match word_of(args) {
            Word::Multi | Word::Exec | Word::Other if merged.is_in_base => Ok(None),
            Word::Select => match db_of(args, self.databases) {
                Some(db) => {
                    merged.dbs[index] = db;
                    Ok(None)
                }
                None => {
                    let (file, offset) = merged.place();
                    Err(AofError::Databases {
                        file: file.to_path_buf(),
                        offset,
                        databases: self.databases,
                    })
                }
            },
            Word::Multi if !merged.is_in_multi => {
                merged.is_in_multi = true;
                Ok(Some(Step::Multi))
            }
            Word::Exec if merged.is_in_multi => {
                merged.is_in_multi = false;
                Ok(Some(Step::Exec))
            }
            Word::Multi | Word::Exec => Err(merged.format("Unexpected MULTI or EXEC")),
            Word::Other => Ok(Some(Step::Command)),
        }
    }

    fn end_life(&mut self) -> Result<Option<Step>, AofError> {
        let Current::Merged(merged) = std::mem::replace(&mut self.leg, Current::None) else {
            unreachable!("asked for a life only")
        };
        self.passed
            .extend(merged.life.parts().map(|part| part.buffer.path.clone()));
        let end = merged.life.end()?;
        let is_open = end.is_open;
        self.keep_life(end, is_open);
        Ok(None)
    }

    fn keep_life(&mut self, end: LifeEnd, ends_here: bool) {
        let LifeEnd {
            next, highest, cuts, ..
        } = end;
        self.number = next;
        self.kept.next_number = self.kept.next_number.max(next).max(highest.saturating_add(1));
        if ends_here {
            self.kept.until = Some(next - 1);
            self.kept.cuts = cuts;
        }
    }
}

impl Plain {
    fn cut(&self, kept_bytes: u64) -> Cut {
        Cut {
            file: self.buffer.path.clone(),
            kept_bytes,
            bytes: self.buffer.len(),
            dropped_chunks: 0,
            dropped_numbers: None,
            fault: None,
        }
    }
}

impl Merged {
    /// The commands of the present chunk, from the present one on.
    fn commands(&self) -> &[u8] {
        match self.chunk {
            Some((index, at)) => self.life.parts().nth(index).map_or(&[], |part| &part.commands()[at..]),
            None => &[],
        }
    }

    fn place(&mut self) -> (Arc<Path>, u64) {
        let (index, at) = self.chunk.unwrap_or((0, 0));
        let part = self.life.part(index);
        (part.buffer.path.clone(), part.commands_offset() + at as u64)
    }

    fn format(&mut self, what: &str) -> AofError {
        let (file, offset) = self.place();
        AofError::Format {
            file: file.to_path_buf(),
            offset,
            what: what.to_owned(),
        }
    }
}

/// Commands that belong to the way.
enum Word {
    Select,
    Multi,
    Exec,
    Other,
}

#[inline]
fn word_of(args: Args<'_>) -> Word {
    let name = args.at(0);
    let is = |word: &[u8]| name.eq_ignore_ascii_case(word);
    match (name.len(), args.len()) {
        (6, 2) if is(b"select") => Word::Select,
        (5, 1) if is(b"multi") => Word::Multi,
        (4, 1) if is(b"exec") => Word::Exec,
        _ => Word::Other,
    }
}

/// The db that a SELECT names, if there is one of that number.
fn db_of(args: Args<'_>, databases: u32) -> Option<u32> {
    let db = std::str::from_utf8(args.at(1)).ok()?.parse().ok()?;
    (db < databases).then_some(db)
}

/// The time that an annotation tells, if it tells one.
fn timestamp(line: &[u8]) -> Option<Step> {
    let digits = line.strip_prefix(TIMESTAMP)?;
    let text = std::str::from_utf8(digits).ok()?.trim_ascii();
    text.parse().ok().map(Step::Timestamp)
}
