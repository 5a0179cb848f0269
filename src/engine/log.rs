//! The log of a shard: the effects of the units that it ran, a chunk for each pass, as files and replicas will read them.
//!
//! A unit is whole in the log of the shard that ran it, whatever slots it borrowed: standard commands as RESP bytes, with SELECT
//! where the db changes, and MULTI and EXEC around the effects of a unit that has several. What the units of a pass have logged gathers in
//! one buffer; when the pass has taken its turn ([`Turns`]), it is the [`Chunk`] of that turn, and is written before the shard does
//! anything else (rule 2).
//!
//! ```text
//!  unit, unit, unit --append--> gathered --take(turn)--> chunk --write--> file    (at once, or the shard waits)
//!                                                                  |----> stream  (a piece, which is handed on when the pass is released)
//!                                                                  '----> readers (kept until it is read, up to a bound)
//! ```
//!
//! Most effects are for the file and for the stream alike, and stand once. Where a pass has some that only one of the two gets
//! ([`Audience`]), the two have parts of their own. A chunk does not say which db it begins in: the file goes on from the shard's last
//! chunk, the stream from that of whichever shard had the turn before; so it says what the first db is, and where a SELECT of it would
//! stand.
//!
//! There are two kinds of readers. A *file* gets each chunk as it is written, and is never detached: while it refuses, the shard waits,
//! and with it whoever would see what it has changed. A reader of the *stream* is bounded: what the slowest has not read is kept up to a
//! limit; beyond it that reader is detached and told so at its next read, since one stuck replica must not take the server down.
//!
//! Nothing is kept for nobody: with no reader in the process ([`LogSwitch`]) no effect is even encoded. The switch is one for the
//! process, because a slot may be changed on any shard.
//!
//! Invariants: (1) a reader gets whole units, and chunks in the order of their turns; (2) a SELECT stands wherever the db of the stream
//! changes, and can stand wherever that of a file does; (3) a chunk is kept exactly until every reader of the stream has read it.

use super::attempt::{Audience, EffectBuffer, encode_command};
use super::replication::stream::Piece;
use crate::shard::ShardId;
use crate::shard::turns::{Share, StreamShare, Turn, Turns};
use crate::store::DbIndex;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Whether anyone in the process reads logs: how many readers all shards' logs have.
#[derive(Clone, Debug, Default)]
pub struct LogSwitch {
    readers: Arc<AtomicUsize>,
    /// What is logged is put together to the stream of the process.
    streams: Arc<AtomicBool>,
}

impl LogSwitch {
    /// Whether any log of the process has a reader.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.readers.load(Ordering::Relaxed) > 0
    }

    /// Has everything logged from now on, though no file may be attached yet.
    pub(super) fn hold(&self) {
        self.readers.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one [`LogSwitch::hold`] back.
    pub(super) fn let_go(&self) {
        self.readers.fetch_sub(1, Ordering::Relaxed);
    }

    /// From here on what passes log that begin now is handed out for the stream, or nothing is any more.
    pub(super) fn stream(&self, is_wanted: bool) {
        match (self.streams.swap(is_wanted, Ordering::SeqCst), is_wanted) {
            (false, true) => self.hold(),
            (true, false) => self.let_go(),
            _ => {}
        }
    }

    /// Whether what is logged is put together to a stream.
    #[inline]
    fn streams(&self) -> bool {
        self.streams.load(Ordering::Relaxed)
    }
}

/// What one pass has logged for one audience.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Whole units, without a SELECT of the db in which the first effect is.
    pub bytes: Vec<u8>,
    /// The dbs of the first and of the last effect.
    pub dbs: Option<(DbIndex, DbIndex)>,
    /// Where the SELECT of the first db stands, if there has to be one: at the beginning, or behind the MULTI with which it begins.
    pub select_at: usize,
    /// Some of it concerns slots of other shards, or no slots at all.
    pub is_broad: bool,
}

/// What one pass has logged, and its place in the order of all.
#[derive(Debug)]
pub struct Chunk {
    pub turn: Turn,
    both: Part,
    /// Where file and stream differ: what the stream gets.
    stream: Option<Part>,
}

impl Chunk {
    /// What the file gets; nothing, if the chunk has no log number.
    pub fn file(&self) -> &Part {
        &self.both
    }

    /// What of it a file gets, for whoever writes it later.
    pub(super) fn for_file(&self) -> Chunk {
        Chunk {
            turn: self.turn.clone(),
            both: self.both.clone(),
            stream: None,
        }
    }

    /// What the stream gets of it, as it stands there.
    fn piece(&self) -> Piece {
        let mut bytes = Vec::with_capacity((self.turn.offsets.end - self.turn.offsets.start) as usize);
        self.stream().encode(self.turn.has_select, &mut bytes);
        Piece {
            offset: self.turn.offsets.start,
            bytes,
            number: self.turn.number.unwrap_or(0),
        }
    }

    /// What the stream gets, from the beginning of the chunk's offsets.
    pub fn stream(&self) -> &Part {
        self.stream.as_ref().unwrap_or(&self.both)
    }
}

impl Part {
    /// Its bytes, with the SELECT if that is asked for.
    pub fn encode(&self, has_select: bool, out: &mut Vec<u8>) {
        let (before, behind) = self.bytes.split_at(self.select_at);
        out.extend_from_slice(before);
        if let (true, Some((first, _))) = (has_select, self.dbs) {
            encode_select(out, first);
        }
        out.extend_from_slice(behind);
    }

    fn push(&mut self, db: DbIndex, command: &[u8]) {
        match &mut self.dbs {
            None => {
                self.select_at = self.bytes.len();
                self.dbs = Some((db, db));
            }
            Some((_, last)) => {
                if *last != db {
                    encode_select(&mut self.bytes, db);
                    *last = db;
                }
            }
        }
        self.bytes.extend_from_slice(command);
    }

    fn append(&mut self, effects: &EffectBuffer, is_for: impl Fn(Audience) -> bool) {
        let mut own = effects.iter().filter(|effect| is_for(effect.audience)).peekable();
        // As in Redis, a unit of several effects is framed for both, be only one of them for this one.
        let is_framed = effects.len() > 1 && own.peek().is_some();
        if is_framed {
            encode_command(&mut self.bytes, &[b"MULTI"]);
        }
        for effect in own {
            self.push(effect.db, effect.command);
        }
        if is_framed {
            encode_command(&mut self.bytes, &[b"EXEC"]);
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES_MAX);
        (self.dbs, self.select_at, self.is_broad) = (None, 0, false);
    }
}

/// A file that gets the chunks of one shard.
pub trait LogFile {
    /// Writes a chunk that has a log number. False: it is not written; the shard waits and asks again.
    fn write(&mut self, chunk: &Chunk) -> bool;

    /// Its number counts as written from here on: whoever syncs may go to work.
    fn written(&mut self) {}
}

/// A reader of one shard's part of the stream.
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
pub struct Log {
    /// What the pass under way has logged.
    gathered: Part,
    /// The same for the stream, where it differs.
    gathered_stream: Option<Part>,
    /// It has taken its turn and is not written.
    unwritten: Option<Chunk>,
    /// The turn of what the pass under way has logged before a cut; it is released with the rest of the pass.
    early: Option<Turn>,
    file: Option<Box<dyn LogFile>>,
    /// What goes to whoever puts the stream together, when the pass is released.
    pieces: Vec<Piece>,
    /// What some reader of the stream has not read.
    kept: VecDeque<Rc<Chunk>>,
    /// How many chunks, and how many bytes, stood before the first one kept.
    forgotten: Position,
    end: Position,
    lag_bytes_max: u64,
    readers: Vec<Reader>,
    next_reader: u64,
    switch: LogSwitch,
    turns: Arc<Turns>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Position {
    chunks: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Reader {
    id: ReaderId,
    position: Position,
    /// Set when it was detached, until it has been told.
    lagged_bytes: Option<u64>,
}

/// Room that is kept when everything was written.
pub(super) const KEPT_BYTES_MAX: usize = 16 * 1024;

impl Log {
    /// An empty log whose readers may lag by so many bytes.
    pub fn new(switch: LogSwitch, turns: Arc<Turns>, lag_bytes_max: u64) -> Log {
        Log {
            gathered: Part::default(),
            gathered_stream: None,
            unwritten: None,
            early: None,
            file: None,
            pieces: Vec::new(),
            kept: VecDeque::new(),
            forgotten: Position::default(),
            end: Position::default(),
            lag_bytes_max,
            readers: Vec::new(),
            next_reader: 0,
            switch,
            turns,
        }
    }

    /// Whether anybody reads this log or another one.
    #[inline]
    pub fn is_wanted(&self) -> bool {
        self.switch.is_on()
    }

    /// From now on each chunk is written to that file.
    pub fn attach_file(&mut self, file: Box<dyn LogFile>) {
        if self.file.replace(file).is_none() {
            self.begin();
        }
    }

    /// No chunk is written to a file any more. Answers whether one was.
    pub fn detach_file(&mut self) -> bool {
        let had_file = self.file.take().is_some();
        self.leave(usize::from(had_file));
        had_file
    }

    /// Whether there is a file.
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// Attaches a reader of the stream, who begins at the end of the log.
    pub fn subscribe(&mut self) -> ReaderId {
        let id = ReaderId(self.next_reader);
        self.next_reader += 1;
        self.readers.push(Reader {
            id,
            position: self.end,
            lagged_bytes: None,
        });
        self.begin();
        id
    }

    /// Detaches a reader; one that is not attached is none's concern.
    pub fn unsubscribe(&mut self, reader: ReaderId) {
        let Some(at) = self.readers.iter().position(|other| other.id == reader) else {
            return;
        };
        if self.readers.swap_remove(at).lagged_bytes.is_none() {
            self.leave(1);
            self.forget_read();
        }
    }

    /// Hands the reader what it has not read, and counts it as read.
    pub fn read(&mut self, reader: ReaderId) -> Result<Vec<Rc<Chunk>>, ReadError> {
        let at = self.readers.iter().position(|other| other.id == reader);
        let at = at.ok_or(ReadError::Detached)?;
        if let Some(lag_bytes) = self.readers[at].lagged_bytes {
            self.readers.swap_remove(at);
            return Err(ReadError::Lagged { lag_bytes });
        }
        let from = std::mem::replace(&mut self.readers[at].position, self.end).chunks;
        let unread = self.kept.iter().skip((from - self.forgotten.chunks) as usize);
        let unread = unread.cloned().collect();
        self.forget_read();
        Ok(unread)
    }

    fn begin(&mut self) {
        self.switch.readers.fetch_add(1, Ordering::Relaxed);
    }

    fn leave(&mut self, count: usize) {
        self.switch.readers.fetch_sub(count, Ordering::Relaxed);
    }

    /// Appends the effects of a unit of work. `is_broad`: it had slots of other shards, or all there are.
    pub(super) fn append(&mut self, effects: &EffectBuffer, is_broad: bool) {
        if self.gathered_stream.is_none() && effects.iter().any(|effect| effect.audience != Audience::Both) {
            self.gathered_stream = Some(self.gathered.clone());
        }
        self.gathered.append(effects, |audience| audience != Audience::Stream);
        self.gathered.is_broad |= is_broad;
        if let Some(stream) = &mut self.gathered_stream {
            stream.append(effects, |audience| audience != Audience::File);
        }
    }

    /// Whether the pass under way has logged something.
    #[inline]
    pub(super) fn has_gathered(&self) -> bool {
        self.gathered.dbs.is_some() || self.gathered_stream.is_some()
    }

    /// Rule 7: gives what the pass under way has logged a turn and a number of its own, and writes it, since a cut follows: what comes behind
    /// the cut must not be in one chunk with it. Answers the number that the next chunk of the process gets.
    pub(super) fn split(&mut self, shard: ShardId) -> u64 {
        if self.has_gathered() {
            self.early = Some(self.take_turn(shard));
            // All other shards have written theirs: they have nothing that could be changed.
            self.write(shard);
        }
        self.turns.next_number()
    }

    /// The same, while the pass goes on.
    pub(super) fn early(&self) -> Option<&Turn> {
        self.early.as_ref()
    }

    /// The turn of what was logged before a cut, if nothing has been logged since.
    pub(super) fn take_early(&mut self) -> Option<Turn> {
        self.early.take()
    }

    /// Rule 1: takes a turn for what was gathered, or for messages alone.
    pub(super) fn take_turn(&mut self, shard: ShardId) -> Turn {
        let share = |part: &Part| {
            part.dbs.map(|(first_db, last_db)| StreamShare {
                bytes: part.bytes.len() as u64,
                first_db: first_db.0,
                select_bytes: select_bytes(first_db),
                last_db: last_db.0,
            })
        };
        if self.early.take().is_some() {
            // What was logged before the cut is released with this: nobody may see it sooner.
            self.turns.released(shard);
        }
        let turn = self.turns.take(
            shard,
            Share {
                has_number: self.gathered.dbs.is_some(),
                stream: share(self.gathered_stream.as_ref().unwrap_or(&self.gathered)),
            },
        );
        if self.has_gathered() {
            self.unwritten = Some(Chunk {
                turn: turn.clone(),
                both: std::mem::take(&mut self.gathered),
                stream: self.gathered_stream.take(),
            });
        }
        turn
    }

    /// Rule 2: writes the chunk that has its turn, if there is one. False: the file refuses; nothing else may be done before it has taken
    /// it.
    pub(super) fn write(&mut self, shard: ShardId) -> bool {
        let Some(chunk) = &self.unwritten else { return true };
        if let Some(file) = &mut self.file
            && chunk.turn.number.is_some()
            && !file.write(chunk)
        {
            return false;
        }
        self.turns.written(shard);
        if let Some(file) = &mut self.file {
            file.written();
        }
        if let Some(chunk) = self.unwritten.take() {
            if self.switch.streams() && chunk.stream().dbs.is_some() {
                self.pieces.push(chunk.piece());
            }
            self.keep(chunk);
        }
        true
    }

    /// Takes what the pass has for the stream. To be handed on when the pass is released, and not before.
    #[inline]
    pub(super) fn take_pieces(&mut self) -> Vec<Piece> {
        std::mem::take(&mut self.pieces)
    }

    /// Keeps a chunk for the readers of the stream, or its buffer for the next one.
    fn keep(&mut self, chunk: Chunk) {
        let is_read = self.readers.iter().any(|reader| reader.lagged_bytes.is_none());
        if !is_read || chunk.stream().dbs.is_none() {
            self.gathered = chunk.both;
            return self.gathered.clear();
        }
        self.end.chunks += 1;
        self.end.bytes += chunk.turn.offsets.end - chunk.turn.offsets.start;
        self.kept.push_back(Rc::new(chunk));
        self.detach_laggards();
    }

    fn detach_laggards(&mut self) {
        let (end, max) = (self.end.bytes, self.lag_bytes_max);
        let mut detached = 0;
        for reader in self.readers.iter_mut().filter(|reader| reader.lagged_bytes.is_none()) {
            let lag_bytes = end - reader.position.bytes;
            if lag_bytes > max {
                reader.lagged_bytes = Some(lag_bytes);
                detached += 1;
            }
        }
        if detached > 0 {
            self.leave(detached);
            self.forget_read();
        }
    }

    /// Drops what every attached reader has read.
    fn forget_read(&mut self) {
        let attached = self.readers.iter().filter(|reader| reader.lagged_bytes.is_none());
        let slowest = attached
            .map(|reader| reader.position)
            .min_by_key(|position| position.chunks);
        let keep_from = slowest.unwrap_or(self.end);
        self.kept.drain(..(keep_from.chunks - self.forgotten.chunks) as usize);
        self.forgotten = keep_from;
        if self.kept.is_empty() {
            self.kept.shrink_to_fit();
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let attached = self.readers.iter().filter(|reader| reader.lagged_bytes.is_none());
        self.leave(attached.count() + usize::from(self.file.is_some()));
    }
}

pub(super) fn encode_select(bytes: &mut Vec<u8>, db: DbIndex) {
    let number = itoa::Buffer::new().format(db.0).to_owned();
    encode_command(bytes, &[b"SELECT", number.as_bytes()]);
}

/// How many bytes a SELECT of that db takes.
fn select_bytes(db: DbIndex) -> u64 {
    let mut bytes = Vec::with_capacity(32);
    encode_select(&mut bytes, db);
    bytes.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    const SHARD: ShardId = ShardId(0);

    fn unit(commands: &[(u32, Audience, &[u8])]) -> EffectBuffer {
        let mut effects = EffectBuffer::default();
        for (db, audience, word) in commands {
            effects.push(DbIndex(*db), *audience, &[word]);
        }
        effects
    }

    fn both(db: u32, word: &'static [u8]) -> (u32, Audience, &'static [u8]) {
        (db, Audience::Both, word)
    }

    fn words(bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let lines = text.split("\r\n").filter(|line| !line.starts_with(['*', '$']));
        lines.collect::<Vec<_>>().join(" ").trim_end().to_owned()
    }

    fn new_log(lag_bytes_max: u64) -> Log {
        Log::new(LogSwitch::default(), Arc::new(Turns::new(1)), lag_bytes_max)
    }

    /// A pass of these units.
    fn pass(log: &mut Log, units: &[EffectBuffer]) {
        units.iter().for_each(|unit| log.append(unit, false));
        log.take_turn(SHARD);
        assert!(log.write(SHARD));
        log.turns.released(SHARD);
    }

    /// What a reader of the stream has not read, and whether the chunks' offsets say how long they are.
    fn read(log: &mut Log, reader: ReaderId) -> Result<String, ReadError> {
        let mut bytes = Vec::new();
        for chunk in log.read(reader)? {
            let before = bytes.len();
            chunk.stream().encode(chunk.turn.has_select, &mut bytes);
            let offsets = &chunk.turn.offsets;
            assert_eq!((bytes.len() - before) as u64, offsets.end - offsets.start);
        }
        Ok(words(&bytes))
    }

    #[test]
    fn readers_begin_at_the_end_and_read_whole_units() {
        let mut log = new_log(1000);
        let first = log.subscribe();
        pass(&mut log, &[unit(&[both(0, b"a"), both(0, b"b"), both(3, b"c")])]);
        let second = log.subscribe();
        pass(&mut log, &[unit(&[both(3, b"d")]), unit(&[both(1, b"e")])]);
        assert_eq!(
            read(&mut log, first).as_deref(),
            Ok("MULTI SELECT 0 a b SELECT 3 c EXEC d SELECT 1 e")
        );
        assert_eq!(read(&mut log, second).as_deref(), Ok("d SELECT 1 e"));
        assert_eq!(read(&mut log, first).as_deref(), Ok(""));
        log.unsubscribe(first);
        assert!(log.switch.is_on());
        log.unsubscribe(second);
        assert!(!log.switch.is_on());
        assert_eq!(read(&mut log, first), Err(ReadError::Detached));
    }

    #[test]
    fn a_reader_that_lags_is_detached_and_told() {
        let mut log = new_log(70);
        let (slow, quick) = (log.subscribe(), log.subscribe());
        for _ in 0..4 {
            pass(&mut log, &[unit(&[both(0, b"four")])]);
            read(&mut log, quick).expect("it keeps up");
        }
        // Four times 14 bytes, and a SELECT of 23.
        assert_eq!(read(&mut log, slow), Err(ReadError::Lagged { lag_bytes: 79 }));
        assert_eq!(read(&mut log, slow), Err(ReadError::Detached));
        assert_eq!(read(&mut log, quick), Ok(String::new()));
        assert!(log.kept.is_empty());
        log.unsubscribe(quick);
        assert!(!log.switch.is_on());
    }

    /// Takes every other chunk at the second attempt.
    struct Slow {
        chunks: Rc<RefCell<Vec<String>>>,
        attempts: usize,
    }

    impl LogFile for Slow {
        fn write(&mut self, chunk: &Chunk) -> bool {
            self.attempts += 1;
            if self.attempts % 3 == 2 {
                return false;
            }
            let mut bytes = Vec::new();
            chunk.file().encode(false, &mut bytes);
            self.chunks.borrow_mut().push(words(&bytes));
            true
        }
    }

    #[test]
    fn a_file_that_refuses_holds_the_shard_back() {
        let mut log = new_log(1000);
        let chunks = Rc::new(RefCell::new(Vec::new()));
        log.attach_file(Box::new(Slow {
            chunks: chunks.clone(),
            attempts: 0,
        }));
        pass(&mut log, &[unit(&[both(0, b"a")])]);
        log.append(&unit(&[both(0, b"b")]), false);
        let turn = log.take_turn(SHARD);
        assert!(!log.write(SHARD), "the file has refused");
        assert!(!log.turns.are_written(turn.earlier_numbers + 1));
        assert!(log.write(SHARD));
        assert!(log.turns.are_written(turn.earlier_numbers + 1));
        assert_eq!(*chunks.borrow(), ["a", "b"]);
        drop(log);
    }

    #[test]
    fn each_audience_gets_what_is_for_it() {
        let mut log = new_log(1000);
        let chunks = Rc::new(RefCell::new(Vec::new()));
        log.attach_file(Box::new(Slow {
            chunks: chunks.clone(),
            attempts: 0,
        }));
        let reader = log.subscribe();
        let (file, stream) = (Audience::File, Audience::Stream);
        let units = [
            unit(&[both(0, b"a")]),
            unit(&[(0, stream, b"s"), (1, file, b"f"), both(1, b"b")]),
            unit(&[(1, stream, b"t")]),
        ];
        pass(&mut log, &units);
        let chunk = log.read(reader).expect("it is attached").pop().expect("there is one");
        let mut bytes = Vec::new();
        chunk.stream().encode(false, &mut bytes);
        assert_eq!(words(&bytes), "a MULTI s SELECT 1 b EXEC t");
        assert_eq!(*chunks.borrow(), ["a MULTI SELECT 1 f b EXEC"]);
        // What is for the stream alone takes no log number.
        log.append(&unit(&[(1, stream, b"u")]), false);
        let turn = log.take_turn(SHARD);
        assert_eq!((turn.turn, turn.number, turn.has_select), (2, None, false));
        assert!(log.write(SHARD));
        assert_eq!(chunks.borrow().len(), 1, "the file gets nothing of it");
        assert_eq!(read(&mut log, reader).as_deref(), Ok("u"));
    }
}
