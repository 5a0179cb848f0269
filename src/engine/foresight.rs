//! Memory asked for before it is needed.
//!
//! A command on a random key of a large keyspace waits for memory four times, one after the other: for the slot, for the tags of
//! the page, for the word behind the tag that is equal, for the entry. The processor cannot know the next address before the
//! last answer has come, so nothing overlaps. But in a pipeline the next requests are at hand already. Before a batch of them is
//! run, their keys are looked at, and for all of them together the same four steps are asked for ahead: the waits overlap.
//!
//! Requests for one and the same key are mostly for elements of a hash, a set or a sorted set: then the same is done with the
//! elements' pages in its table.
//!
//! It is a guess and nothing depends on it: the second argument is taken for the key, the third or the last for the element, the
//! requests are not checked, and what was asked for may have gone or moved when it is wanted. What is certain (the slot of a key at an address within the buffer that is
//! being run) is kept, so that it is not computed a second time.
//!
//! With 100,000 keys of 16 bytes, values of 64 bytes and a pipeline of 16, it took user CPU per request from 1.05 to 0.6 us
//! (November 2026, a loaded two-core guest, medians of three).

use super::ground::Core;
use super::literal::Registered;
use crate::base::hash::HashSeed;
use crate::base::slot::key_slot;
use crate::data::dict::Foresight;
use crate::resp::{Args, Peeked, peek_requests};
use crate::shard::Places;
use crate::shard::link::CommandHeader;
use crate::spec::key_positions;
use crate::store::{DbIndex, Slot};

/// Requests that are looked at together: a processor has some 10 to 20 line-fill buffers.
const BATCH: usize = 16;

/// Bytes of a buffer that are looked through at once: far more than sixteen common requests have, and little beside what a
/// longer request costs when it is run.
const FORESEEN_BYTES_MAX: usize = 64 * 1024;

/// Keys of one command that are asked for together. What they bring, some four lines each, fits the second level of the cache; of
/// more the first would have gone again when the last has come.
const FORESEEN_KEYS_MAX: usize = 256;

/// Keys that were looked at in a buffer, in the order of the requests.
#[derive(Default, Debug)]
pub struct Foreseen {
    keys: Vec<ForeseenKey>,
    /// The next one that may be asked for.
    next: usize,
}

#[derive(Clone, Copy, Debug)]
struct ForeseenKey {
    address: usize,
    len: usize,
    db: DbIndex,
    slot: u16,
    hash: u64,
    /// The key before it was the same.
    is_repeated: bool,
    /// The hash of the element that a request for the same key as the one before it is likely to name.
    element_hash: Option<u64>,
}

/// The argument that names an element, in the common commands that have one: behind the key, or the last one in those of sorted
/// sets, which have the score before it.
#[inline]
fn element_of<'a>(request: &Peeked<'a>) -> Option<&'a [u8]> {
    match request.name.first() {
        Some(b'z' | b'Z') => request.last,
        _ => request.third,
    }
}

impl Foreseen {
    /// The slot of a key that lies in the buffer which is being run, if it was looked at.
    #[inline]
    pub fn take_slot(&mut self, key: &[u8]) -> Option<u16> {
        let found = self.keys.get(self.next)?;
        (found.address == key.as_ptr().addr() && found.len == key.len()).then(|| {
            self.next += 1;
            found.slot
        })
    }

    /// Forgets all keys: the buffer they lie in is about to change.
    #[inline]
    pub fn clear(&mut self) {
        self.keys.clear();
        self.next = 0;
    }

    #[inline]
    fn push(&mut self, db: DbIndex, slot: u16, key: &[u8], element: Option<&[u8]>, seed: HashSeed) {
        let hash = seed.hash(key);
        let is_repeated = self.keys.last().is_some_and(|last| last.hash == hash);
        let element_hash = element.filter(|_| is_repeated).map(|element| seed.hash(element));
        self.keys.push(ForeseenKey {
            address: key.as_ptr().addr(),
            len: key.len(),
            db,
            slot,
            hash,
            is_repeated,
            element_hash,
        });
    }

    /// Brings all keys through the stages, and then the elements.
    fn ask(&self, places: &Places<Slot>) {
        for batch in self.keys.chunks(BATCH) {
            ask_keys(batch, places);
        }
        let mut rest = &self.keys[..];
        while let Some(first) = rest.iter().position(|key| key.element_hash.is_some()) {
            let of_key = &rest[first..];
            let count = of_key.iter().take_while(|key| key.element_hash.is_some()).count();
            ask_elements(&of_key[..count], places);
            rest = &of_key[count..];
        }
    }
}

/// Brings at most [`BATCH`] keys through the stages.
fn ask_keys(keys: &[ForeseenKey], places: &Places<Slot>) {
    let mut asked: [Option<(&Slot, &ForeseenKey)>; BATCH] = [None; BATCH];
    let mut count = 0;
    for key in keys.iter().filter(|key| !key.is_repeated) {
        if let Some(slot) = places.home(key.slot) {
            slot.foresee();
            asked[count] = Some((slot, key));
            count += 1;
        }
    }
    // One key alone is not worth it.
    if count < 2 {
        return;
    }
    // A slot has seldom so many keys that its table has a second level.
    for stage in [Foresight::Tags, Foresight::Words, Foresight::Elements] {
        for (slot, key) in asked[..count].iter().flatten() {
            slot.foresee_key(key.db, key.hash, stage);
        }
    }
}

/// Brings the elements of one key through the stages.
fn ask_elements(requests: &[ForeseenKey], places: &Places<Slot>) {
    let object = requests.first().and_then(|key| {
        let slot = places.home(key.slot)?;
        slot.guess_object(key.db, key.hash)
    });
    let Some(object) = object.filter(|object| object.has_table()) else {
        return;
    };
    use Foresight::{Directory, Elements, Node, Tags, Words};
    for stage in [Node, Directory, Tags, Words, Elements] {
        for hash in requests.iter().filter_map(|key| key.element_hash) {
            object.foresee(hash, stage);
        }
    }
}

impl Foreseen {
    /// Asks for the memory that the next requests in `bytes` will need; answers how many bytes they take.
    pub(super) fn look_ahead(&mut self, core: &Core, seed: HashSeed, db: DbIndex, bytes: &[u8]) -> usize {
        self.clear();
        let bytes = &bytes[..bytes.len().min(FORESEEN_BYTES_MAX)];
        let looked_through = peek_requests(bytes, BATCH, |request| {
            let key = request.second;
            self.push(db, key_slot(key), key, element_of(&request), seed);
        });
        if let Some(places) = core.places() {
            self.ask(places);
        }
        looked_through
    }

    /// Notes a command that has been shipped here and is run soon; its only key stands at `position` among its arguments.
    #[inline]
    pub(super) fn note_shipped(
        &mut self,
        seed: HashSeed,
        position: Option<usize>,
        header: &CommandHeader,
        arguments: &[u8],
    ) {
        if let Some(key) = position.and_then(|position| Args::peek(arguments, position)) {
            self.push(DbIndex(header.db), header.slot, key, None, seed);
        }
    }

    /// Asks for the memory of the commands that were noted.
    #[inline]
    pub(super) fn ask_noted(&mut self, core: &Core) {
        if self.keys.is_empty() {
            return;
        }
        if let Some(places) = core.places() {
            self.ask(places);
        }
        self.clear();
    }

    /// Asks for the memory of the first keys of one command that has several.
    pub(super) fn ask_keys(&mut self, core: &Core, seed: HashSeed, found: &Registered, args: Args, db: DbIndex) {
        self.clear();
        // What cannot be found is not asked for; the handler will refuse the call.
        let _ = key_positions(
            found.command.keys,
            args.len(),
            |index| args.at(index),
            |position| {
                if self.keys.len() < FORESEEN_KEYS_MAX {
                    let key = &args[position.index];
                    self.push(db, key_slot(key), key, None, seed);
                }
            },
        );
        self.ask_noted(core);
    }
}
