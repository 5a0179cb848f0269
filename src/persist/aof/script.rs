//! Values as commands that make them: an append-only file whose base is no snapshot (`aof-use-rdb-preamble no`).
//!
//! | type | commands |
//! |---|---|
//! | string | SET |
//! | list, set, sorted set, hash | RPUSH, SADD, ZADD, HMSET, of [`TOGETHER`] elements each; HPEXPIREAT for each field that expires |
//! | stream | XADD for each entry; XADD MAXLEN 0 for one without; XSETID; XGROUP CREATE, CREATECONSUMER; XCLAIM for each pending entry |
//!
//! PEXPIREAT follows where the key expires. These are the commands that Redis writes, so that any of its versions that knows the type reads them.
//!
//! A value is written in slices as well, as a frozen one is read: what has come so far is held until there are enough elements for a command.

use crate::base::clock::UnixMs;
use crate::base::hash::HashSeed;
use crate::base::numbers::format_f64_shortest;
use crate::data::frozen::{Head, Part, Sink, Use};
use crate::data::list::NodeView;
use crate::data::stream::{Block, Group, Groups, Numbers, StreamId};
use crate::data::{Object, ObjectRef};
use crate::store::{EntryRef, ValueRef};

/// Elements in one command, as in Redis.
const TOGETHER: usize = 64;

/// Appends a command.
pub fn command(out: &mut Vec<u8>, words: &[&[u8]]) {
    head(out, b'*', words.len());
    words.iter().for_each(|word| bulk(out, word));
}

fn head(out: &mut Vec<u8>, mark: u8, number: usize) {
    out.push(mark);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn bulk(out: &mut Vec<u8>, word: &[u8]) {
    head(out, b'$', word.len());
    out.extend_from_slice(word);
    out.extend_from_slice(b"\r\n");
}

/// Appends the commands that make an entry.
pub fn write_entry(out: &mut Vec<u8>, entry: EntryRef<'_>) {
    let key = entry.key();
    match entry.value() {
        ValueRef::Int(number) => command(out, &[b"SET", key, itoa::Buffer::new().format(number).as_bytes()]),
        ValueRef::Inline(text) => command(out, &[b"SET", key, text]),
        ValueRef::Shared(text) => command(out, &[b"SET", key, text]),
        ValueRef::Object(object) => {
            let mut script = Script::new(key, None);
            let mut writing = Writing {
                out,
                script: &mut script,
            };
            writing.whole(object);
            writing.flush();
        }
    }
    write_expiry(out, key, entry.expiry());
}

fn write_expiry(out: &mut Vec<u8>, key: &[u8], expiry: Option<UnixMs>) {
    if let Some(UnixMs(at)) = expiry {
        command(out, &[b"PEXPIREAT", key, itoa::Buffer::new().format(at).as_bytes()]);
    }
}

/// The writing of one value, from its first slice to its last.
pub struct Script {
    key: Box<[u8]>,
    expiry: Option<UnixMs>,
    verb: &'static [u8],
    /// Words of elements that no command has yet.
    held: Vec<u8>,
    word_count: usize,
    /// HPEXPIREAT of fields that no command has yet.
    deadlines: Vec<u8>,
}

impl Script {
    /// Nothing is written yet.
    pub fn new(key: &[u8], expiry: Option<UnixMs>) -> Script {
        Script {
            key: key.into(),
            expiry,
            verb: b"",
            held: Vec::new(),
            word_count: 0,
            deadlines: Vec::new(),
        }
    }

    /// Writes about `effort` more parts of an object behind what is in `out`; true when that were the last. One that is not frozen is written
    /// whole, as it is.
    pub fn write_slice(&mut self, out: &mut Vec<u8>, object: &mut Object, seed: HashSeed, effort: usize) -> bool {
        let mut writing = Writing { out, script: self };
        let is_written = object.read_slice(Use::Snapshot, seed, effort, &mut writing);
        if is_written {
            writing.flush();
            write_expiry(out, &self.key, self.expiry);
        }
        is_written
    }
}

/// One slice.
struct Writing<'w> {
    out: &'w mut Vec<u8>,
    script: &'w mut Script,
}

impl Writing<'_> {
    /// Adds an element of these words to the command that is to come.
    fn element(&mut self, words: &[&[u8]]) {
        words.iter().for_each(|word| bulk(&mut self.script.held, word));
        self.script.word_count += words.len();
        if self.script.word_count >= TOGETHER * words.len() {
            self.flush();
        }
    }

    /// Writes the command that has come together.
    fn flush(&mut self) {
        let script = &mut *self.script;
        if script.word_count > 0 {
            head(self.out, b'*', script.word_count + 2);
            bulk(self.out, script.verb);
            bulk(self.out, &script.key);
            self.out.append(&mut script.held);
            script.word_count = 0;
        }
        self.out.append(&mut script.deadlines);
    }

    fn field(&mut self, field: &[u8], value: &[u8], expiry: Option<UnixMs>) {
        if let Some(UnixMs(at)) = expiry {
            let mut digits = itoa::Buffer::new();
            let at = digits.format(at).as_bytes();
            let words: [&[u8]; 6] = [b"HPEXPIREAT", &self.script.key, at, b"FIELDS", b"1", field];
            command(&mut self.script.deadlines, &words);
        }
        self.element(&[field, value]);
    }

    fn block(&mut self, block: &Block) {
        for entry in block.live_entries() {
            let id = entry.id.to_string();
            head(self.out, b'*', 3 + 2 * entry.field_count());
            for word in [b"XADD", &*self.script.key, id.as_bytes()] {
                bulk(self.out, word);
            }
            let mut digits = itoa::Buffer::new();
            for (name, value) in entry.fields() {
                bulk(self.out, name.as_bytes(&mut digits));
                bulk(self.out, value.as_bytes(&mut digits));
            }
        }
    }

    fn rest(&mut self, numbers: &Numbers, groups: &Groups) {
        let key = &*self.script.key;
        let last_id = numbers.last_id.to_string();
        if numbers.len == 0 {
            // What is added is trimmed at once. (0-0 is no entry's.)
            let id = match numbers.last_id {
                StreamId::MIN => "0-1",
                _ => &last_id,
            };
            command(self.out, &[b"XADD", key, b"MAXLEN", b"0", id.as_bytes(), b"x", b"y"]);
        }
        let (added, max_deleted_id) = (numbers.added.to_string(), numbers.max_deleted_id.to_string());
        let words: [&[u8]; 7] = [
            b"XSETID",
            key,
            last_id.as_bytes(),
            b"ENTRIESADDED",
            added.as_bytes(),
            b"MAXDELETEDID",
            max_deleted_id.as_bytes(),
        ];
        command(self.out, &words);
        groups.iter().for_each(|group| self.group(group));
    }

    fn group(&mut self, group: &Group) {
        let (key, name) = (&*self.script.key, group.name());
        let last_id = group.last_delivered_id.to_string();
        let read = group.entries_read.map_or("-1".to_owned(), |read| read.to_string());
        let words: [&[u8]; 7] = [
            b"XGROUP",
            b"CREATE",
            key,
            name,
            last_id.as_bytes(),
            b"ENTRIESREAD",
            read.as_bytes(),
        ];
        command(self.out, &words);
        for consumer in group.consumers() {
            command(self.out, &[b"XGROUP", b"CREATECONSUMER", key, name, consumer.name()]);
            for id in consumer.pending_from(StreamId::MIN) {
                let Some(pending) = group.pending(id) else { continue };
                let id = id.to_string();
                let (at, count) = (pending.delivered_at.0.to_string(), pending.delivery_count.to_string());
                let words: [&[u8]; 12] = [
                    b"XCLAIM",
                    key,
                    name,
                    consumer.name(),
                    b"0",
                    id.as_bytes(),
                    b"TIME",
                    at.as_bytes(),
                    b"RETRYCOUNT",
                    count.as_bytes(),
                    b"JUSTID",
                    b"FORCE",
                ];
                command(self.out, &words);
            }
        }
    }
}

impl Sink for Writing<'_> {
    fn whole(&mut self, object: ObjectRef<'_>) {
        let mut digits = [itoa::Buffer::new(); 2];
        let [first, second] = &mut digits;
        match object {
            ObjectRef::List(list) => {
                self.script.verb = b"RPUSH";
                list.for_each(|element| self.element(&[element.as_bytes(first)]));
            }
            ObjectRef::Hash(hash) => {
                self.script.verb = b"HMSET";
                hash.for_each_with_expiry(|field, value, expiry| {
                    self.field(field.as_bytes(first), value.as_bytes(second), expiry);
                });
            }
            ObjectRef::Set(set) => {
                self.script.verb = b"SADD";
                set.for_each(|member| self.element(&[member.as_bytes(first)]));
            }
            ObjectRef::SortedSet(set) => {
                self.script.verb = b"ZADD";
                for element in set.iter() {
                    self.part(Part::Scored(element.member.as_bytes(first), element.score));
                }
            }
            ObjectRef::Stream(stream) => {
                stream.entries.blocks().for_each(|block| self.block(block));
                self.rest(&stream.entries.numbers(), &stream.groups);
            }
        }
    }

    fn begin(&mut self, head: Head) {
        self.script.verb = match head {
            Head::Set { .. } => b"SADD",
            Head::Hash { .. } => b"HMSET",
            Head::SortedSet { .. } => b"ZADD",
            Head::List { .. } => b"RPUSH",
            Head::Stream { .. } => b"",
        };
    }

    fn part(&mut self, part: Part<'_>) {
        match part {
            Part::Member(member) => self.element(&[member]),
            Part::Field(field, value, expiry) => self.field(field, value, expiry),
            Part::Scored(member, score) => self.element(&[&format_f64_shortest(score), member]),
            Part::Node(node) => match node {
                NodeView::Plain(element) => self.element(&[element]),
                NodeView::Packed(pack) => {
                    pack.iter()
                        .for_each(|element| self.element(&[element.as_bytes(&mut itoa::Buffer::new())]));
                }
                NodeView::Decompressed(pack) => {
                    pack.iter()
                        .for_each(|element| self.element(&[element.as_bytes(&mut itoa::Buffer::new())]));
                }
            },
            Part::Block(block) => self.block(block),
            Part::Rest(numbers, groups) => self.rest(numbers, groups),
        }
    }
}
