//! The log of effects of one shard: what its slots went through, in order, and who reads it.
//!
//! The home shard of a slot appends the effects on that slot: those of units of work that ran at home as they end,
//! those of units that had the slot on loan when it comes back and before anyone else gets it. So the log has,
//! for each slot, the order in which its content really changed, and AOF, replication and slot migration are
//! readers of this one log instead of three hooks in every command.
//!
//! Nothing is kept for nobody: with no reader in the process no effect is even encoded
//! ([`View::wants_effects`](super::View::wants_effects)). The switch is one for the process and not one for each
//! shard because a slot may be changed on another shard than the one that logs it. A reader misses nothing that
//! runs after a consistent cut (everything borrowed) taken after it subscribed; it may miss what ran before.
//!
//! Memory is bounded: what the slowest reader has not read is kept up to a limit in bytes; beyond it that reader is
//! detached and told so at its next read, since one stuck replica must not take the server down.
//!
//! Invariants: (1) offsets grow by the bytes of the commands appended, and never go back; (2) the effects of one
//! unit of work stand together and are read together; (3) an entry is kept exactly until every attached reader
//! has read it.

use super::Ticket;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One logged change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Effect {
    pub slot: u16,
    pub db: u32,
    /// For a unit of work whose effects are in several shards' logs: its ticket and how many logs those are.
    pub unit: Option<(Ticket, u16)>,
    /// A command as RESP-encoded arguments.
    pub command: Box<[u8]>,
}

/// An effect with its place in the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogEntry {
    pub effect: Effect,
    /// The log's offset after this effect.
    pub end_offset_bytes: u64,
    /// Whether the next entry belongs to the same unit of work: a file or a stream must not end between them.
    pub continues: bool,
}

/// Effects of a unit of work, or of a log, for which room is kept: what a larger one needed is given back.
const EFFECTS_KEPT_MAX: usize = 256;

/// Whether anyone in the process reads effects. Shared by the logs of all shards.
#[derive(Clone, Debug, Default)]
pub struct EffectSwitch(Arc<AtomicUsize>);

impl EffectSwitch {
    /// A switch that is off.
    pub fn new() -> Self {
        EffectSwitch::default()
    }

    /// Whether any log of the process has a reader.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

/// A reader of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReaderId(u64);

/// Why a reader gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("the reader fell {lag_bytes} bytes behind the end of the log and was detached")]
    Lagged { lag_bytes: u64 },
    #[error("no such reader is attached")]
    Detached,
}

/// The effects on the slots of one shard, in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EffectLog {
    entries: VecDeque<LogEntry>,
    /// The number, since the start, of the first entry kept.
    first_index: u64,
    end_offset_bytes: u64,
    lag_bytes_max: u64,
    readers: Vec<Reader>,
    next_reader: u64,
    switch: EffectSwitch,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Reader {
    id: ReaderId,
    /// The number of the entry it reads next.
    index: u64,
    offset_bytes: u64,
    /// Set when it was detached, until it has been told.
    lagged_bytes: Option<u64>,
}

impl PartialEq for EffectSwitch {
    fn eq(&self, other: &Self) -> bool {
        self.is_on() == other.is_on()
    }
}

impl Eq for EffectSwitch {}

impl std::hash::Hash for EffectSwitch {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.is_on().hash(state);
    }
}

impl EffectLog {
    /// An empty log whose readers may lag by so many bytes.
    pub fn new(switch: EffectSwitch, lag_bytes_max: u64) -> Self {
        EffectLog {
            entries: VecDeque::new(),
            first_index: 0,
            end_offset_bytes: 0,
            lag_bytes_max,
            readers: Vec::new(),
            next_reader: 0,
            switch,
        }
    }

    /// Attaches a reader that begins at the end of the log.
    pub fn subscribe(&mut self) -> ReaderId {
        let id = ReaderId(self.next_reader);
        self.next_reader += 1;
        self.readers.push(Reader {
            id,
            index: self.first_index + self.entries.len() as u64,
            offset_bytes: self.end_offset_bytes,
            lagged_bytes: None,
        });
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

    /// Shows the reader what it has not read, oldest first, and counts it as read: at most about `effects_max`
    /// effects, more only to end with a whole unit of work. Answers how many it was.
    pub fn read(
        &mut self,
        reader: ReaderId,
        effects_max: usize,
        mut visit: impl FnMut(&LogEntry),
    ) -> Result<usize, ReadError> {
        let at = self
            .readers
            .iter()
            .position(|other| other.id == reader)
            .ok_or(ReadError::Detached)?;
        if let Some(lag_bytes) = self.readers[at].lagged_bytes {
            self.readers.swap_remove(at);
            return Err(ReadError::Lagged { lag_bytes });
        }
        let cursor = &mut self.readers[at];
        let start = (cursor.index - self.first_index) as usize;
        let mut count = 0;
        let mut inside_unit = false;
        for entry in self.entries.range(start..) {
            if count >= effects_max && !inside_unit {
                break;
            }
            visit(entry);
            inside_unit = entry.continues;
            cursor.offset_bytes = entry.end_offset_bytes;
            count += 1;
        }
        cursor.index += count as u64;
        self.forget_read();
        Ok(count)
    }

    /// Bytes appended since the start.
    pub fn end_offset_bytes(&self) -> u64 {
        self.end_offset_bytes
    }

    /// How many effects are kept because a reader has not read them.
    pub fn kept_count(&self) -> usize {
        self.entries.len()
    }

    /// Appends the effects of one unit of work and empties the list.
    pub(super) fn append(&mut self, effects: &mut Vec<Effect>) {
        let is_read = self.readers.iter().any(|reader| reader.lagged_bytes.is_none());
        let mut remaining = effects.len();
        for effect in effects.drain(..) {
            remaining -= 1;
            self.end_offset_bytes += effect.command.len() as u64;
            if is_read {
                self.entries.push_back(LogEntry {
                    effect,
                    end_offset_bytes: self.end_offset_bytes,
                    continues: remaining > 0,
                });
            } else {
                self.first_index += 1;
            }
        }
        effects.shrink_to(EFFECTS_KEPT_MAX);
        if is_read {
            self.detach_laggards();
        }
    }

    fn detach_laggards(&mut self) {
        let (end, max) = (self.end_offset_bytes, self.lag_bytes_max);
        let mut detached = 0;
        for reader in self.readers.iter_mut().filter(|reader| reader.lagged_bytes.is_none()) {
            let lag_bytes = end - reader.offset_bytes;
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
        let end = self.first_index + self.entries.len() as u64;
        let attached = self.readers.iter().filter(|reader| reader.lagged_bytes.is_none());
        let keep_from = attached.map(|reader| reader.index).min().unwrap_or(end);
        self.entries.drain(..(keep_from - self.first_index) as usize);
        if self.entries.is_empty() {
            self.entries.shrink_to(EFFECTS_KEPT_MAX);
        }
        self.first_index = keep_from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effects(slots: &[u16]) -> Vec<Effect> {
        let effect = |slot: &u16| Effect {
            slot: *slot,
            db: 0,
            unit: None,
            command: Box::from(*b"four"),
        };
        slots.iter().map(effect).collect()
    }

    fn read(log: &mut EffectLog, reader: ReaderId, effects_max: usize) -> Result<Vec<u16>, ReadError> {
        let mut slots = Vec::new();
        log.read(reader, effects_max, |entry| slots.push(entry.effect.slot))
            .map(|count| {
                assert_eq!(count, slots.len());
                slots
            })
    }

    #[test]
    fn readers_begin_at_the_end_and_read_whole_units() {
        let switch = EffectSwitch::new();
        let mut log = EffectLog::new(switch.clone(), 1000);
        log.append(&mut effects(&[1]));
        assert_eq!(
            (log.kept_count(), log.end_offset_bytes(), switch.is_on()),
            (0, 4, false)
        );
        let first = log.subscribe();
        log.append(&mut effects(&[2, 3, 4]));
        let second = log.subscribe();
        log.append(&mut effects(&[5]));
        assert_eq!(read(&mut log, first, 1), Ok(vec![2, 3, 4]));
        assert_eq!(read(&mut log, second, 9), Ok(vec![5]));
        assert_eq!(log.kept_count(), 1);
        assert_eq!(read(&mut log, first, 9), Ok(vec![5]));
        assert_eq!((log.kept_count(), log.end_offset_bytes()), (0, 20));
        log.unsubscribe(first);
        assert!(switch.is_on());
        log.unsubscribe(second);
        assert!(!switch.is_on());
        assert_eq!(read(&mut log, first, 9), Err(ReadError::Detached));
    }

    #[test]
    fn a_reader_that_lags_is_detached_and_told() {
        let switch = EffectSwitch::new();
        let mut log = EffectLog::new(switch.clone(), 8);
        let (slow, quick) = (log.subscribe(), log.subscribe());
        for slot in 0..2 {
            log.append(&mut effects(&[slot]));
            assert_eq!(read(&mut log, quick, 9), Ok(vec![slot]));
        }
        assert_eq!(log.kept_count(), 2);
        log.append(&mut effects(&[2]));
        assert_eq!(log.kept_count(), 1, "only the quick reader counts");
        assert_eq!(read(&mut log, slow, 9), Err(ReadError::Lagged { lag_bytes: 12 }));
        assert_eq!(read(&mut log, slow, 9), Err(ReadError::Detached));
        assert_eq!(read(&mut log, quick, 9), Ok(vec![2]));
        log.unsubscribe(quick);
        assert!(!switch.is_on());
    }

    #[test]
    fn the_switch_counts_readers_of_all_logs() {
        let switch = EffectSwitch::new();
        let mut logs = [EffectLog::new(switch.clone(), 4), EffectLog::new(switch.clone(), 4)];
        let reader = logs[0].subscribe();
        logs[1].subscribe();
        logs[0].append(&mut effects(&[1, 2]));
        assert!(switch.is_on(), "one reader lagged, the other is there");
        logs[0].unsubscribe(reader);
        assert!(switch.is_on());
    }
}
