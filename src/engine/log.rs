//! The log of a shard: the effects of the units that it ran, as AOF, replicas and slot migration will read them.
//!
//! A unit is whole in the log of the shard that ran it, whatever slots it borrowed: standard commands as RESP bytes, with SELECT
//! where the db changes, and MULTI and EXEC around the effects of a unit that has several. Nothing is kept for nobody: with no
//! reader in the process ([`LogSwitch`]) no effect is even encoded. The switch is one for the process, because a slot may be changed on any
//! shard.
//!
//! Memory is bounded: what the slowest reader has not read is kept up to a limit; beyond it that reader is detached and told so at its
//! next read, since one stuck replica must not take the server down.
//!
//! Invariants: (1) a reader reads whole units; (2) bytes are kept exactly until every attached reader has read them; (3) the first
//! effect that a reader gets has its SELECT before it.

use super::attempt::{EffectBuffer, encode_command};
use crate::store::DbIndex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Whether anyone in the process reads logs: how many readers all shards' logs have.
#[derive(Clone, Debug, Default)]
pub struct LogSwitch(Arc<AtomicUsize>);

impl LogSwitch {
    /// Whether any log of the process has a reader.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

/// A reader of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderId(u64);

/// Why a reader gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("the reader fell {lag_bytes} bytes behind the end of the log and was detached")]
    Lagged { lag_bytes: u64 },
    #[error("no such reader is attached")]
    Detached,
}

/// See the essay above.
#[derive(Debug)]
pub struct Log {
    /// What some reader has not read.
    bytes: Vec<u8>,
    /// Bytes that stood before the first one kept, since the start.
    start_offset: u64,
    /// The db of the last effect; None: the next one needs a SELECT.
    db: Option<DbIndex>,
    lag_bytes_max: u64,
    readers: Vec<Reader>,
    next_reader: u64,
    switch: LogSwitch,
}

#[derive(Debug)]
struct Reader {
    id: ReaderId,
    offset: u64,
    /// Set when it was detached, until it has been told.
    lagged_bytes: Option<u64>,
}

/// Room that is kept when everything was read.
pub(super) const KEPT_BYTES_MAX: usize = 16 * 1024;

impl Log {
    /// An empty log whose readers may lag by so many bytes.
    pub fn new(switch: LogSwitch, lag_bytes_max: u64) -> Log {
        Log {
            bytes: Vec::new(),
            start_offset: 0,
            db: None,
            lag_bytes_max,
            readers: Vec::new(),
            next_reader: 0,
            switch,
        }
    }

    /// Whether anybody reads this log or another one.
    #[inline]
    pub fn is_wanted(&self) -> bool {
        self.switch.is_on()
    }

    /// Attaches a reader that begins at the end of the log.
    pub fn subscribe(&mut self) -> ReaderId {
        let id = ReaderId(self.next_reader);
        self.next_reader += 1;
        self.readers.push(Reader {
            id,
            offset: self.end_offset(),
            lagged_bytes: None,
        });
        self.db = None;
        self.switch.0.fetch_add(1, Ordering::Relaxed);
        id
    }

    /// Detaches a reader; one that is not attached is none's concern.
    pub fn unsubscribe(&mut self, reader: ReaderId) {
        let Some(at) = self.readers.iter().position(|other| other.id == reader) else {
            return;
        };
        if self.readers.swap_remove(at).lagged_bytes.is_none() {
            self.switch.0.fetch_sub(1, Ordering::Relaxed);
            self.forget_read();
        }
    }

    /// Hands the reader what it has not read, and counts it as read.
    pub fn read(&mut self, reader: ReaderId) -> Result<Vec<u8>, ReadError> {
        let at = self.readers.iter().position(|other| other.id == reader);
        let at = at.ok_or(ReadError::Detached)?;
        if let Some(lag_bytes) = self.readers[at].lagged_bytes {
            self.readers.swap_remove(at);
            return Err(ReadError::Lagged { lag_bytes });
        }
        let end = self.end_offset();
        let from = std::mem::replace(&mut self.readers[at].offset, end);
        let bytes = self.bytes[(from - self.start_offset) as usize..].to_vec();
        self.forget_read();
        Ok(bytes)
    }

    /// Bytes appended since the start.
    pub fn end_offset(&self) -> u64 {
        self.start_offset + self.bytes.len() as u64
    }

    /// Appends the effects of a unit of work.
    pub(super) fn append(&mut self, effects: &EffectBuffer) {
        if self.readers.iter().all(|reader| reader.lagged_bytes.is_some()) {
            return;
        }
        let is_framed = effects.len() > 1;
        if is_framed {
            encode_command(&mut self.bytes, &[b"MULTI"]);
        }
        for (db, command) in effects.iter() {
            if self.db != Some(db) {
                let number = itoa::Buffer::new().format(db.0).to_owned();
                encode_command(&mut self.bytes, &[b"SELECT", number.as_bytes()]);
                self.db = Some(db);
            }
            self.bytes.extend_from_slice(command);
        }
        if is_framed {
            encode_command(&mut self.bytes, &[b"EXEC"]);
        }
        self.detach_laggards();
    }

    fn detach_laggards(&mut self) {
        let (end, max) = (self.end_offset(), self.lag_bytes_max);
        let mut detached = 0;
        for reader in self.readers.iter_mut().filter(|reader| reader.lagged_bytes.is_none()) {
            let lag_bytes = end - reader.offset;
            if lag_bytes > max {
                reader.lagged_bytes = Some(lag_bytes);
                detached += 1;
            }
        }
        if detached > 0 {
            self.switch.0.fetch_sub(detached, Ordering::Relaxed);
            self.forget_read();
        }
    }

    /// Drops what every attached reader has read.
    fn forget_read(&mut self) {
        let attached = self.readers.iter().filter(|reader| reader.lagged_bytes.is_none());
        let end = self.end_offset();
        let keep_from = attached.map(|reader| reader.offset).min().unwrap_or(end);
        self.bytes.drain(..(keep_from - self.start_offset) as usize);
        self.start_offset = keep_from;
        if self.bytes.is_empty() {
            self.bytes.shrink_to(KEPT_BYTES_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(commands: &[(u32, &[u8])]) -> EffectBuffer {
        let mut effects = EffectBuffer::default();
        for (db, word) in commands {
            effects.push(DbIndex(*db), &[word]);
        }
        effects
    }

    fn words(bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let lines = text.split("\r\n").filter(|line| !line.starts_with(['*', '$']));
        lines.collect::<Vec<_>>().join(" ").trim_end().to_owned()
    }

    #[test]
    fn readers_begin_at_the_end_and_read_whole_units() {
        let switch = LogSwitch::default();
        let mut log = Log::new(switch.clone(), 1000);
        log.append(&unit(&[(0, b"nobody")]));
        assert_eq!((log.end_offset(), switch.is_on()), (0, false));
        let first = log.subscribe();
        log.append(&unit(&[(0, b"a"), (0, b"b"), (3, b"c")]));
        let second = log.subscribe();
        log.append(&unit(&[(3, b"d")]));
        log.append(&unit(&[(3, b"e")]));
        let read = |log: &mut Log, reader| log.read(reader).map(|bytes| words(&bytes));
        assert_eq!(
            read(&mut log, first).as_deref(),
            Ok("MULTI SELECT 0 a b SELECT 3 c EXEC SELECT 3 d e")
        );
        assert_eq!(read(&mut log, second).as_deref(), Ok("SELECT 3 d e"));
        assert_eq!(read(&mut log, first).as_deref(), Ok(""));
        log.unsubscribe(first);
        assert!(switch.is_on());
        log.unsubscribe(second);
        assert!(!switch.is_on());
        assert_eq!(read(&mut log, first), Err(ReadError::Detached));
    }

    #[test]
    fn a_reader_that_lags_is_detached_and_told() {
        let switch = LogSwitch::default();
        let mut log = Log::new(switch.clone(), 50);
        let (slow, quick) = (log.subscribe(), log.subscribe());
        let mut kept = 0;
        while kept < 60 {
            log.append(&unit(&[(0, b"four")]));
            kept += log.read(quick).expect("it keeps up").len() as u64;
        }
        assert_eq!(log.read(slow), Err(ReadError::Lagged { lag_bytes: 51 }));
        assert_eq!(log.read(slow), Err(ReadError::Detached));
        assert_eq!(log.read(quick), Ok(Vec::new()));
        log.unsubscribe(quick);
        assert!(!switch.is_on());
        assert!(log.bytes.is_empty());
    }
}
