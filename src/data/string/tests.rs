//! Ranges and limits; long strings that are frozen, against what they were.

use super::*;
use crate::base::hash::HashSeed;
use crate::base::random::{Random, fewer_if_checked};
use crate::data::ObjectRef;
use crate::data::frozen::{Freezable, Head, Part, Sink, Use};
use bytes::Bytes;

#[test]
fn ranges_are_clamped_as_in_redis() {
    let text = b"This is a string";
    let slice = |start, end| std::str::from_utf8(&text[get_range(text.len(), start, end)]).unwrap();
    assert_eq!(slice(0, 3), "This");
    assert_eq!(slice(-3, -1), "ing");
    assert_eq!(slice(0, -1), "This is a string");
    assert_eq!(slice(10, 100), "string");
    assert_eq!(slice(5, 3), "");
    assert_eq!(slice(16, 20), "");
    assert_eq!(slice(-100, 3), "This");
    assert_eq!(slice(0, -100), "T");
    assert_eq!(slice(-1, -3), "");
    assert_eq!(slice(-100, -200), "");
    assert_eq!(slice(-200, -100), "T");
    assert_eq!(slice(i64::MIN, i64::MAX), "This is a string");
    assert_eq!(get_range(0, 0, -1), 0..0);
}

#[test]
fn limit_counts_the_whole_string() {
    assert!(!exceeds_limit(10, 2, 12));
    assert!(exceeds_limit(10, 3, 12));
    assert!(exceeds_limit(u64::MAX, 1, u64::MAX));
}

const SEED: HashSeed = HashSeed([8, 13]);
const LEN: usize = 300_000;

/// Collects what is read of a frozen string.
#[derive(Default)]
struct Reading {
    len: Option<usize>,
    bytes: Vec<u8>,
}

impl Sink for Reading {
    fn whole(&mut self, _object: ObjectRef<'_>) {
        panic!("it is no object");
    }

    fn begin(&mut self, head: Head) {
        let Head::String { len } = head else { panic!("{head:?}") };
        assert!(self.len.replace(len).is_none() && self.bytes.is_empty());
    }

    fn part(&mut self, part: Part<'_>) {
        assert!(self.len.is_some(), "the beginning comes first");
        let Part::Bytes(bytes) = part else { panic!("{part:?}") };
        self.bytes.extend_from_slice(bytes);
    }
}

fn string(random: &mut Random) -> LongString {
    let bytes: Vec<u8> = (0..LEN + random.below(10_000))
        .map(|_| random.below(256) as u8)
        .collect();
    LongString::adopt(bytes.into())
}

/// A run with one string; what it was at each freeze is kept as a copy.
struct Run {
    random: Random,
    string: LongString,
    undo: Option<Vec<u8>>,
    snapshot: Option<(Vec<u8>, Reading)>,
    /// As a reply has it that is not sent yet.
    sent: Option<Bytes>,
    finished: u64,
    taken_back: u64,
}

impl Run {
    fn step(&mut self) {
        let random = &mut self.random;
        match random.below(20) {
            0 if self.undo.is_none() => {
                self.undo = Some(self.string.bytes().to_vec());
                self.string.freeze(Use::Undo);
            }
            1 | 2 if self.snapshot.is_none() => {
                self.snapshot = Some((self.string.bytes().to_vec(), Reading::default()));
                self.string.freeze(Use::Snapshot);
            }
            3 => self.end_undo(),
            4 if random.below(8) == 0 && self.snapshot.take().is_some() => self.free(Use::Snapshot),
            5..8 => self.read(),
            8 => self.sent = (random.below(2) == 0).then(|| self.string.bytes().clone()),
            9 => {
                let tail = vec![b't'; random.below(20_000)];
                self.string.append(&tail);
            }
            _ => self.write(),
        }
        assert_eq!(self.string.is_frozen(Use::Undo), self.undo.is_some());
        assert_eq!(self.string.is_frozen(Use::Snapshot), self.snapshot.is_some());
        if self.undo.is_none() && self.snapshot.is_none() {
            assert_eq!((self.string.kept_bytes(), self.string.address()), (0, 0));
        }
    }

    fn write(&mut self) {
        let random = &mut self.random;
        let len = self.string.bytes().len();
        let (from, count, byte) = (random.below(len), random.below(9000), random.below(256) as u8);
        let end = match random.below(10) {
            0 => from + count,
            _ => (from + count).min(len),
        };
        self.string.edit(end, |bytes| {
            bytes.write(from..from + (end - from) / 2).fill(byte);
            bytes.write(from + (end - from) / 2..end).fill(byte);
            assert!(bytes[from..end].iter().all(|at| *at == byte));
        });
    }

    fn end_undo(&mut self) {
        let Some(was) = self.undo.take() else { return };
        if self.random.below(4) == 0 {
            self.free(Use::Undo);
            return;
        }
        self.string.roll_back(SEED);
        assert!(self.string.bytes() == &was, "what was taken back is not as it was");
        self.taken_back += 1;
    }

    fn read(&mut self) {
        let Some((was, reading)) = &mut self.snapshot else {
            return;
        };
        let effort = 1 + self.random.below(2000);
        let before = reading.bytes.len();
        let is_done = self.string.read_slice(Use::Snapshot, SEED, effort, reading);
        assert!(
            reading.bytes.len() - before < effort * 64 + 4096,
            "a slice has its length"
        );
        if is_done {
            assert_eq!(reading.len, Some(was.len()));
            assert!(reading.bytes == *was, "what was read is not what was frozen");
            self.snapshot = None;
            self.free(Use::Snapshot);
            self.finished += 1;
        }
    }

    fn free(&mut self, to: Use) {
        let mut spent = self.string.thaw(to);
        while !spent.free_step(10) {}
    }
}

#[test]
fn a_string_is_read_and_taken_back_as_it_was() {
    let seeds = fewer_if_checked(40);
    let (mut finished, mut taken_back) = (0, 0);
    for seed in 0..seeds {
        let mut random = Random::with_seed(seed);
        let mut run = Run {
            string: string(&mut random),
            random,
            undo: None,
            snapshot: None,
            sent: None,
            finished: 0,
            taken_back: 0,
        };
        (0..200).for_each(|_| run.step());
        while run.snapshot.is_some() {
            run.read();
        }
        run.end_undo();
        finished += run.finished;
        taken_back += run.taken_back;
    }
    assert!(
        finished > seeds && taken_back > seeds,
        "{finished} read, {taken_back} taken back"
    );
}

/// What a change costs while the string is frozen: the pieces in which it lies. Its bytes are not copied.
#[test]
fn a_frozen_string_keeps_the_pieces_that_change_and_nothing_else() {
    let mut string = string(&mut Random::with_seed(1));
    // Its own buffer from here on: one that was adopted may have no owner.
    string.edit(0, |_| ());
    let place = string.bytes().as_ptr();
    string.freeze(Use::Undo);
    string.freeze(Use::Snapshot);
    assert_eq!(string.kept_bytes(), 0);
    for at in [100_000, 100_001, 99_000] {
        string.edit(0, |bytes| bytes.write(at..at + 1).fill(b'x'));
    }
    assert_eq!(string.kept_count(), 2, "one piece for each of the two pasts");
    string.edit(0, |bytes| bytes.write(4095..4097).fill(b'x'));
    assert_eq!(string.kept_count(), 6);
    assert!(string.kept_bytes() >= 6 * 4096 && string.kept_bytes() < 6 * 4096 + 300);
    assert_eq!(string.bytes().as_ptr(), place, "it was changed in place");
    // To read is to keep nothing.
    string.edit(0, |bytes| assert_eq!(bytes[4096], b'x'));
    assert_eq!(string.kept_count(), 6);
    string.append(b"tail");
    assert_eq!(
        string.kept_count(),
        6,
        "what comes behind its end is no change of what it was"
    );
    string.roll_back(SEED);
    assert_eq!(string.kept_count(), 3, "those of the snapshot");
    let mut spent = string.thaw(Use::Snapshot);
    assert!(spent.free_step(1) && string.kept_bytes() == 0);
}

#[test]
fn a_string_that_is_not_frozen_is_shown_as_it_is() {
    let mut string = string(&mut Random::with_seed(2));
    let mut reading = Reading::default();
    assert!(string.read_slice(Use::Snapshot, SEED, 1, &mut reading));
    assert_eq!(
        (reading.len, &reading.bytes[..]),
        (Some(string.bytes().len()), &string.bytes()[..])
    );
    assert!(!string.clone().is_frozen(Use::Snapshot));
}
