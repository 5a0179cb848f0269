//! One block of a stream: a listpack of entries, byte for byte as Redis keeps it in memory, in RDB files and in DUMP.
//!
//! ```text
//! master   | live | deleted | field count F | F names | 0 |
//! entry    | flags | ms - master's | seq - master's | F values                | element count |     flags has SAMEFIELDS
//!          | flags | ms - master's | seq - master's | N | N × (name, value)   | element count |     else
//! ```
//!
//! The block's master ID (the ID of the entry it was begun with) is its key and not part of the listpack. The names of the first
//! entry's fields are written once, in the master entry; whoever has the same fields in the same order writes values only.
//! The element count behind each entry does not count itself; it is how a reader walks backwards. A deleted entry keeps its place
//! and gets a flag, so deleting moves nothing; the block goes when all its entries are deleted. Differences are 64-bit and wrap:
//! a later millisecond may have a smaller sequence number. (The format: Redis's RDB type STREAM_LISTPACKS.)
//!
//! Invariants, checked for blocks from outside by [`Block::from_listpack`], so that nothing here can fail later:
//! 1. Every entry is whole, its element count is right, its flags are 0 to 3.
//! 2. `live` and `deleted` are the numbers of such entries, and `live` is not 0.
//! 3. The IDs of live entries ascend strictly, and none is below the master ID. (XSETID may go back behind a deleted entry, so
//!    those may be anything.)

use super::id::StreamId;
use super::runs::Ordered;
use crate::data::listpack::{Item, Listpack, Place};

/// Entry flag: it is deleted.
const DELETED: i64 = 1;
/// Entry flag: its fields are those of the master entry.
const SAME_FIELDS: i64 = 2;

/// A block of entries.
#[derive(Clone, Debug)]
pub struct Block {
    id: StreamId,
    pack: Listpack,
}

impl Ordered for Block {
    type Key = StreamId;

    fn order_key(&self) -> &StreamId {
        &self.id
    }
}

/// The master entry, read.
#[derive(Clone, Copy)]
struct Master {
    live: i64,
    deleted: i64,
    field_count: usize,
    /// The first name, or the 0 behind them.
    names: Place,
    /// The 0 behind the names.
    end: Place,
}

/// An entry, where it lies. Reading its fields copies nothing.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    /// Its ID.
    pub id: StreamId,
    pack: &'a Listpack,
    flags_at: Place,
    flags: i64,
    field_count: usize,
    /// The first name, if they are in the master entry.
    names: Option<Place>,
    /// The first value, or the first name if names stand with the values.
    values: Place,
}

impl<'a> Entry<'a> {
    /// How many fields it has.
    pub fn field_count(&self) -> usize {
        self.field_count
    }

    /// Names and values, in the order in which they were added.
    pub fn fields(&self) -> Fields<'a> {
        Fields {
            pack: self.pack,
            left: self.field_count,
            names: self.names,
            values: self.values,
        }
    }

    /// The place of its element count.
    fn end(&self) -> Place {
        let elements = self.field_count * if self.names.is_some() { 1 } else { 2 };
        (0..elements).fold(self.values, |at, _| expect_next(self.pack, at))
    }

    fn is_deleted(&self) -> bool {
        self.flags & DELETED != 0
    }
}

/// The fields of an entry: pairs of name and value.
#[derive(Clone)]
pub struct Fields<'a> {
    pack: &'a Listpack,
    left: usize,
    names: Option<Place>,
    values: Place,
}

impl<'a> Iterator for Fields<'a> {
    type Item = (Item<'a>, Item<'a>);

    fn next(&mut self) -> Option<(Item<'a>, Item<'a>)> {
        self.left = self.left.checked_sub(1)?;
        let name = match &mut self.names {
            Some(at) => {
                let name = self.pack.get(*at);
                *at = expect_next(self.pack, *at);
                name
            }
            None => {
                let name = self.pack.get(self.values);
                self.values = expect_next(self.pack, self.values);
                name
            }
        };
        let value = self.pack.get(self.values);
        self.values = expect_next(self.pack, self.values);
        Some((name, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Fields<'_> {}

impl Block {
    /// A block with its first entry, whose fields become the master's. `words` are names and values in turn.
    pub fn begin<'w>(id: StreamId, words: impl ExactSizeIterator<Item = &'w [u8]> + Clone) -> Block {
        let mut pack = Listpack::new();
        let field_count = words.len() / 2;
        pack.push_int(1);
        pack.push_int(0);
        pack.push_int(field_count as i64);
        for name in words.clone().step_by(2) {
            pack.push_back(name);
        }
        pack.push_int(0);
        let mut block = Block { id, pack };
        block.push_entry(id, true, words);
        block
    }

    /// A block from outside: RDB, RESTORE. `None` if it breaks an invariant; `Some(None)` if all is right but every entry is deleted.
    pub fn from_listpack(id: StreamId, pack: Listpack) -> Option<Option<Block>> {
        let block = Block { id, pack };
        let live = block.validate()?;
        Some((live > 0).then_some(block))
    }

    /// Checks all invariants but that there is a live entry, and answers the number of live ones.
    fn validate(&self) -> Option<i64> {
        let pack = &self.pack;
        let int = |at: Place| match pack.get(at) {
            Item::Int(value) => Some(value),
            Item::Bytes(_) => None,
        };
        let live_at = pack.first()?;
        let deleted_at = pack.next(live_at)?;
        let count_at = pack.next(deleted_at)?;
        let (live, deleted) = (int(live_at)?, int(deleted_at)?);
        let field_count = int(count_at).filter(|&count| (0..=pack.len() as i64).contains(&count))?;
        let mut at = pack.next(count_at)?;
        for _ in 0..field_count {
            at = pack.next(at)?;
        }
        if int(at)? != 0 {
            return None;
        }
        let mut found = (0, 0);
        let mut last: Option<StreamId> = None;
        let mut entry = pack.next(at);
        while let Some(flags_at) = entry {
            let flags = int(flags_at).filter(|flags| (0..=3).contains(flags))?;
            let ms_at = pack.next(flags_at)?;
            let seq_at = pack.next(ms_at)?;
            let entry_id = self.absolute(int(ms_at)?, int(seq_at)?);
            let mut at = pack.next(seq_at)?;
            let mut elements = field_count;
            if flags & SAME_FIELDS == 0 {
                elements = int(at).filter(|&count| (0..=pack.len() as i64).contains(&count))? * 2;
                at = pack.next(at)?;
            }
            for _ in 0..elements {
                at = pack.next(at)?;
            }
            let own = if flags & SAME_FIELDS == 0 { 4 } else { 3 };
            if int(at)? != elements + own {
                return None;
            }
            if flags & DELETED == 0 {
                let ascends = match last {
                    Some(last) => last < entry_id,
                    None => self.id <= entry_id,
                };
                if !ascends {
                    return None;
                }
                last = Some(entry_id);
                found.0 += 1;
            } else {
                found.1 += 1;
            }
            entry = pack.next(at);
        }
        (found == (live, deleted)).then_some(live)
    }

    /// The master ID.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// The listpack, as files store it.
    pub fn listpack(&self) -> &Listpack {
        &self.pack
    }

    /// Entries that are not deleted.
    pub fn live(&self) -> u64 {
        self.master().live as u64
    }

    /// Entries, those that are deleted too.
    pub fn slots(&self) -> u64 {
        let master = self.master();
        (master.live + master.deleted) as u64
    }

    /// Adds an entry at the end. `words` are names and values in turn.
    pub fn append<'w>(&mut self, id: StreamId, words: impl ExactSizeIterator<Item = &'w [u8]> + Clone) {
        let master = self.master();
        let mut at = master.names;
        let is_same = words.len() / 2 == master.field_count
            && words.clone().step_by(2).all(|name| {
                let is_same = self.pack.get(at).eq_bytes(name);
                at = expect_next(&self.pack, at);
                is_same
            });
        self.count(1, 0);
        self.push_entry(id, is_same, words);
    }

    fn push_entry<'w>(&mut self, id: StreamId, is_same: bool, words: impl ExactSizeIterator<Item = &'w [u8]> + Clone) {
        let word_count = words.len();
        let pack = &mut self.pack;
        pack.push_int(if is_same { SAME_FIELDS } else { 0 });
        pack.push_int(id.ms.wrapping_sub(self.id.ms) as i64);
        pack.push_int(id.seq.wrapping_sub(self.id.seq) as i64);
        if is_same {
            for value in words.skip(1).step_by(2) {
                pack.push_back(value);
            }
            pack.push_int((word_count / 2 + 3) as i64);
        } else {
            pack.push_int((word_count / 2) as i64);
            for word in words {
                pack.push_back(word);
            }
            pack.push_int((word_count + 4) as i64);
        }
    }

    /// Deletes the entry with that ID; false if there is none. The last one must not be deleted but go with the block.
    pub fn delete(&mut self, id: StreamId) -> bool {
        let Some(at) = self
            .live_entries()
            .find(|entry| entry.id >= id)
            .filter(|entry| entry.id == id)
        else {
            return false;
        };
        let (at, flags) = (at.flags_at, at.flags);
        self.pack.replace_int(at, flags | DELETED);
        self.count(-1, 1);
        true
    }

    /// Deletes live entries from the front, while `goes_on` says so of the next one's ID and how many were deleted before it. Answers how many.
    pub fn delete_front(&mut self, mut goes_on: impl FnMut(StreamId, u64) -> bool) -> u64 {
        let mut deleted = 0;
        // No place moves while flags are changed: they take one byte, whatever they are.
        let master = self.master();
        let mut at = self.pack.next(master.end);
        while let Some(flags_at) = at {
            let entry = self.entry_at(&master, flags_at);
            let end = entry.end();
            if !entry.is_deleted() {
                if !goes_on(entry.id, deleted) {
                    break;
                }
                let flags = entry.flags;
                self.pack.replace_int(flags_at, flags | DELETED);
                deleted += 1;
            }
            at = self.pack.next(end);
        }
        if deleted > 0 {
            self.count(-(deleted as i64), deleted as i64);
        }
        deleted
    }

    /// The entries from the first to the last, without those that are deleted.
    pub fn live_entries(&self) -> impl Iterator<Item = Entry<'_>> {
        Forward::new(self)
    }

    /// The entries from the last to the first, without those that are deleted.
    pub fn live_entries_rev(&self) -> impl Iterator<Item = Entry<'_>> {
        Backward::new(self)
    }

    /// The ID of the last entry, deleted or not.
    pub fn last_slot_id(&self) -> StreamId {
        let end = self.pack.last().expect("a block has an entry");
        let flags_at = self.begin_of(end);
        self.entry_at(&self.master(), flags_at).id
    }

    /// The ID of the last live entry.
    pub fn last_live_id(&self) -> StreamId {
        self.live_entries_rev().next().map_or(self.id, |entry| entry.id)
    }

    fn master(&self) -> Master {
        let pack = &self.pack;
        let live_at = pack.first().expect("a block has a master entry");
        let deleted_at = expect_next(pack, live_at);
        let count_at = expect_next(pack, deleted_at);
        let field_count = expect_int(pack, count_at) as usize;
        let names = expect_next(pack, count_at);
        Master {
            live: expect_int(pack, live_at),
            deleted: expect_int(pack, deleted_at),
            field_count,
            names,
            end: (0..field_count).fold(names, |at, _| expect_next(pack, at)),
        }
    }

    /// Changes the counts of the master entry. Places are invalid after it.
    fn count(&mut self, live: i64, deleted: i64) {
        let at = self.pack.first().expect("a block has a master entry");
        let before = expect_int(&self.pack, at);
        self.pack.replace_int(at, before + live);
        if deleted != 0 {
            let first = self.pack.first().expect("a block has a master entry");
            let at = expect_next(&self.pack, first);
            let before = expect_int(&self.pack, at);
            self.pack.replace_int(at, before + deleted);
        }
    }

    fn entry_at(&self, master: &Master, flags_at: Place) -> Entry<'_> {
        let pack = &self.pack;
        let flags = expect_int(pack, flags_at);
        let ms_at = expect_next(pack, flags_at);
        let seq_at = expect_next(pack, ms_at);
        let mut values = expect_next(pack, seq_at);
        let mut field_count = master.field_count;
        let mut names = Some(master.names);
        if flags & SAME_FIELDS == 0 {
            field_count = expect_int(pack, values) as usize;
            values = expect_next(pack, values);
            names = None;
        }
        Entry {
            id: self.absolute(expect_int(pack, ms_at), expect_int(pack, seq_at)),
            pack,
            flags_at,
            flags,
            field_count,
            names,
            values,
        }
    }

    /// The flags of the entry whose element count is at `end`.
    fn begin_of(&self, end: Place) -> Place {
        (0..expect_int(&self.pack, end)).fold(end, |at, _| {
            self.pack.previous(at).expect("an element count stays within its entry")
        })
    }

    fn absolute(&self, ms: i64, seq: i64) -> StreamId {
        StreamId {
            ms: self.id.ms.wrapping_add(ms as u64),
            seq: self.id.seq.wrapping_add(seq as u64),
        }
    }

    /// Checks the invariants.
    pub(super) fn check(&self) {
        assert!(self.validate().is_some_and(|live| live > 0));
    }
}

/// Walks over live entries, first to last.
struct Forward<'a> {
    block: &'a Block,
    master: Master,
    next: Option<Place>,
}

impl<'a> Forward<'a> {
    fn new(block: &'a Block) -> Forward<'a> {
        let master = block.master();
        Forward {
            block,
            master,
            next: block.pack.next(master.end),
        }
    }
}

impl<'a> Iterator for Forward<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            let entry = self.block.entry_at(&self.master, self.next?);
            self.next = self.block.pack.next(entry.end());
            if !entry.is_deleted() {
                return Some(entry);
            }
        }
    }
}

/// Walks over live entries, last to first.
struct Backward<'a> {
    block: &'a Block,
    master: Master,
    /// The element count of the next one, or the end of the master entry.
    end: Place,
}

impl<'a> Backward<'a> {
    fn new(block: &'a Block) -> Backward<'a> {
        Backward {
            block,
            master: block.master(),
            end: block.pack.last().expect("a block has a master entry"),
        }
    }
}

impl<'a> Iterator for Backward<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            if self.end == self.master.end {
                return None;
            }
            let flags_at = self.block.begin_of(self.end);
            let entry = self.block.entry_at(&self.master, flags_at);
            self.end = self
                .block
                .pack
                .previous(flags_at)
                .expect("the master entry is before it");
            if !entry.is_deleted() {
                return Some(entry);
            }
        }
    }
}

fn expect_next(pack: &Listpack, at: Place) -> Place {
    pack.next(at).expect("a block's entries are whole")
}

fn expect_int(pack: &Listpack, at: Place) -> i64 {
    match pack.get(at) {
        Item::Int(value) => value,
        Item::Bytes(_) => unreachable!("what is a number in a block was checked when it came in"),
    }
}
