//! One life: the chunks of all its increments, merged by log number.
//!
//! Each increment is a row of chunks whose numbers rise; the one that has the next number goes on. A life that is closed ends at the number that
//! the manifest says, and anything else is damage. The last life may be open, since the process that wrote it has died: it ends at the
//! first number that is missing, cut off or damaged, for what lies behind that was seen by nobody, or was not on the disk yet.

use super::AofError;
use super::buffer::FileBuffer;
use crate::persist::aof::chunk::{self, Fault, Found, Head, Place};
use crate::persist::aof::manifest::Entry;
use crate::runtime::disk::Disk;
use std::path::Path;
use std::sync::Arc;

/// What the number of a chunk that is cut off or damaged is believed to be, at most so far beyond the last one: it was read without a
/// checksum.
const BELIEVED_AHEAD_MAX: u64 = 1 << 40;

/// See above.
pub(super) struct Life {
    parts: Vec<Part>,
    /// Numbers below this one are in the base, or of an earlier life.
    start: u64,
    /// The number that has to come next.
    next: u64,
    until: Option<u64>,
    /// The number with which the process of this life began.
    life: u64,
    /// The part that had the last one.
    at: usize,
}

/// One increment.
pub(super) struct Part {
    pub buffer: FileBuffer,
    place: Place,
    /// The chunk at which the buffer stands.
    found: Option<Found>,
    /// Why there is none.
    fault: Option<PartFault>,
    /// Up to there chunks were taken.
    taken: u64,
    /// The number of the last chunk that was looked at.
    last: u64,
}

/// Why an increment goes no further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartFault {
    #[error("{0}")]
    Chunk(#[from] Fault),
    #[error("the number {number} stands behind {last}")]
    Order { number: u64, last: u64 },
}

/// How much of an increment is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    pub file: Arc<Path>,
    pub kept_bytes: u64,
    pub bytes: u64,
    /// What is dropped: so many whole chunks, with these numbers.
    pub dropped_chunks: u64,
    pub dropped_numbers: Option<(u64, u64)>,
    /// What stands behind them is no chunk.
    pub fault: Option<(u64, PartFault)>,
}

/// Where a life ends, and what is cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LifeEnd {
    /// The number that comes next: the one before it is kept.
    pub next: u64,
    /// The highest number that was found, kept or not, that of the beginning included.
    pub highest: u64,
    pub is_open: bool,
    pub cuts: Vec<Cut>,
}

impl Life {
    /// Opens its increments. Numbers below `number` are in the base.
    pub fn open(disk: &dyn Disk, dir: &Path, entries: &[Entry], number: u64) -> Result<Life, AofError> {
        let mut parts = Vec::with_capacity(entries.len());
        let (mut life, mut until) = (0, None);
        for entry in entries {
            let part = entry.part.expect("a life is made of annotated increments");
            (life, until) = (part.place.life, part.until);
            parts.push(Part {
                buffer: FileBuffer::open(disk, &entry.path(dir))?,
                place: part.place,
                found: None,
                fault: None,
                taken: 0,
                last: 0,
            });
        }
        Ok(Life {
            parts,
            start: life.max(number),
            next: life.max(number),
            until,
            life,
            at: 0,
        })
    }

    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter()
    }

    pub fn part(&mut self, index: usize) -> &mut Part {
        &mut self.parts[index]
    }

    /// The next chunk, and the part that it stands in; None: the life ends here. A chunk whose number is lower than it should be is in the base:
    /// it counts for the db that it leaves behind, and for nothing else.
    pub fn go(&mut self) -> Result<Option<(usize, Head)>, AofError> {
        let count = self.parts.len();
        for step in 0..count {
            let index = (self.at + step) % count;
            let (start, next, part) = (self.start, self.next, &mut self.parts[index]);
            let Some(found) = part.look()? else { continue };
            let number = found.head.number;
            if number < start || number == next {
                let head = found.head.clone();
                self.at = index;
                self.next += u64::from(number == next);
                return Ok(Some((index, head)));
            }
            if number < next {
                // Another part has it, too.
                part.found = None;
                part.fault = Some(PartFault::Order { number, last: next - 1 });
            }
        }
        Ok(None)
    }

    /// Ends it, when there is no next chunk.
    pub fn end(mut self) -> Result<LifeEnd, AofError> {
        let next = self.next;
        // (A base may be of a life of which nothing is kept.)
        if let Some(until) = self.until
            && next <= until
        {
            return Err(self.damage(next, until));
        }
        let end = self.rest()?;
        let left = end.cuts.iter().find(|cut| cut.bytes > cut.kept_bytes);
        if let (Some(until), Some(cut)) = (self.until, left) {
            return Err(AofError::Closed {
                file: cut.file.to_path_buf(),
                offset: cut.kept_bytes,
                what: format!(
                    "the manifest says that {until} is the last log number of these increments, and something stands behind it"
                ),
            });
        }
        Ok(end)
    }

    /// Ends it before the chunk that was found last, if it stands at one, whatever follows.
    pub fn stop(mut self, has_chunk: bool) -> Result<LifeEnd, AofError> {
        self.next -= u64::from(has_chunk);
        self.rest()
    }

    /// What stands behind the last number.
    fn rest(&mut self) -> Result<LifeEnd, AofError> {
        let next = self.next;
        let mut end = LifeEnd {
            next,
            // No other life begins with the same number.
            highest: self.life.max(next - 1),
            is_open: self.until.is_none(),
            cuts: Vec::new(),
        };
        for part in &mut self.parts {
            let cut = part.rest(next)?;
            let claimed = cut.dropped_numbers.map(|(_, last)| last).max(part.claimed(next));
            end.highest = end.highest.max(claimed.unwrap_or(0));
            end.cuts.push(cut);
        }
        Ok(end)
    }

    /// Why a closed life does not reach its end.
    fn damage(&self, next: u64, until: u64) -> AofError {
        let damaged = self.parts.iter().find(|part| part.fault.is_some());
        let behind = self.parts.iter().find(|part| part.found.is_some());
        let part = damaged.or(behind).unwrap_or(&self.parts[0]);
        let fault = part
            .fault
            .as_ref()
            .map_or_else(String::new, |fault| format!(": {fault}"));
        AofError::Closed {
            file: part.buffer.path.to_path_buf(),
            offset: part.buffer.offset(),
            what: format!(
                "the log number {next} is missing, of the numbers up to {until} that are kept by the manifest{fault}"
            ),
        }
    }
}

impl Part {
    /// The chunk that stands next, if one does.
    fn look(&mut self) -> Result<Option<&Found>, AofError> {
        while self.found.is_none() && self.fault.is_none() {
            if self.buffer.rest().is_empty() && self.buffer.sees_end() {
                return Ok(None);
            }
            match chunk::decode(self.place, self.buffer.rest()) {
                Ok(found) if found.head.number <= self.last || found.head.number < self.place.life => {
                    self.fault = Some(PartFault::Order {
                        number: found.head.number,
                        last: self.last.max(self.place.life - 1),
                    });
                }
                Ok(found) => {
                    self.last = found.head.number;
                    self.found = Some(found);
                }
                Err(Fault::TornLine | Fault::Torn { .. }) if !self.buffer.sees_end() => self.buffer.fill()?,
                Err(fault) => self.fault = Some(fault.into()),
            }
        }
        Ok(self.found.as_ref())
    }

    /// The commands of the chunk at which it stands.
    pub fn commands(&self) -> &[u8] {
        match &self.found {
            Some(found) => &self.buffer.rest()[found.commands()],
            None => &[],
        }
    }

    /// Where in the file they begin.
    pub fn commands_offset(&self) -> u64 {
        let line_bytes = self.found.as_ref().map_or(0, |found| found.line_bytes);
        self.buffer.offset() + line_bytes as u64
    }

    /// Goes on behind the chunk, which has been taken; how many bytes it had.
    pub fn take(&mut self) -> u64 {
        let began = self.buffer.offset();
        self.pass();
        self.taken = self.buffer.offset();
        self.taken - began
    }

    fn pass(&mut self) {
        if let Some(found) = self.found.take() {
            self.buffer.pass(found.bytes());
        }
    }

    /// Reads on behind what is kept, to tell what it is.
    fn rest(&mut self, next: u64) -> Result<Cut, AofError> {
        let (mut chunks, mut numbers) = (0, None);
        while let Some(number) = self.look()?.map(|found| found.head.number) {
            if number >= next {
                chunks += 1;
                let (first, _) = *numbers.get_or_insert((number, number));
                numbers = Some((first, number));
            }
            self.pass();
        }
        Ok(Cut {
            file: self.buffer.path.clone(),
            kept_bytes: self.taken,
            bytes: self.buffer.len(),
            dropped_chunks: chunks,
            dropped_numbers: numbers,
            fault: self.fault.clone().map(|fault| (self.buffer.offset(), fault)),
        })
    }

    /// What the line of a chunk that is not whole says that its number is, if that can be.
    fn claimed(&self, next: u64) -> Option<u64> {
        self.fault.as_ref()?;
        let claim = chunk::read_line(self.buffer.rest()).ok()?;
        Some(claim.claimed_number()).filter(|number| number.saturating_sub(next) < BELIEVED_AHEAD_MAX)
    }
}
