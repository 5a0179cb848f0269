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
use crate::data::ObjectRef;
use crate::data::frozen::{Head, Lent, Part, Sink, Use};
use crate::data::list::NodeView;
use crate::data::stream::{Block, Group, GroupHead, Numbers, Pending, StreamId};
use crate::store::{EntryRef, ValueRef};
use std::collections::HashMap;

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

/// What stands before the bytes of a string, which end with a line's end.
fn head_of_string(out: &mut Vec<u8>, key: &[u8], len: usize) {
    head(out, b'*', 3);
    bulk(out, b"SET");
    bulk(out, key);
    head(out, b'$', len);
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
    /// A string is begun whose bytes have come, and the line does not end yet.
    is_in_string: bool,
    /// The group of a stream that is being written, and what is pending in it: whose that is comes behind.
    group: Box<[u8]>,
    consumer: Box<[u8]>,
    pending: HashMap<StreamId, Pending>,
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
            is_in_string: false,
            group: Box::default(),
            consumer: Box::default(),
            pending: HashMap::new(),
        }
    }

    /// Writes about `effort` more parts of a value behind what is in `out`; true when that were the last. One that is not frozen is written
    /// whole, as it is.
    pub fn write_slice(&mut self, out: &mut Vec<u8>, value: &mut Lent<'_>, seed: HashSeed, effort: usize) -> bool {
        let mut writing = Writing { out, script: self };
        let is_written = value.read_slice(Use::Snapshot, seed, effort, &mut writing);
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
        if std::mem::take(&mut script.is_in_string) {
            self.out.extend_from_slice(b"\r\n");
        }
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

    fn numbers(&mut self, numbers: &Numbers) {
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
    }

    fn begin_group(&mut self, name: &[u8], last_delivered_id: StreamId, entries_read: Option<u64>) {
        let key = &*self.script.key;
        let last_id = last_delivered_id.to_string();
        let read = entries_read.map_or("-1".to_owned(), |read| read.to_string());
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
    }

    fn begin_consumer(&mut self, group: &[u8], name: &[u8]) {
        command(self.out, &[b"XGROUP", b"CREATECONSUMER", &self.script.key, group, name]);
    }

    fn claim(&mut self, group: &[u8], consumer: &[u8], id: StreamId, delivered_at: UnixMs, delivery_count: u64) {
        let id = id.to_string();
        let (at, count) = (delivered_at.0.to_string(), delivery_count.to_string());
        let words: [&[u8]; 12] = [
            b"XCLAIM",
            &self.script.key,
            group,
            consumer,
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

    fn group(&mut self, group: &Group) {
        let name = group.name();
        self.begin_group(name, group.last_delivered_id, group.entries_read);
        for consumer in group.consumers() {
            self.begin_consumer(name, consumer.name());
            for id in consumer.pending_from(StreamId::MIN) {
                if let Some(pending) = group.pending(id) {
                    self.claim(name, consumer.name(), id, pending.delivered_at, pending.delivery_count);
                }
            }
        }
    }

    /// The beginning of a group that comes in parts.
    fn group_head(&mut self, head: &GroupHead<'_>) {
        self.begin_group(head.name, head.last_delivered_id, head.entries_read);
        self.script.group = head.name.into();
        self.script.pending.clear();
    }

    /// IDs that are pending for the consumer that came before.
    fn ids(&mut self, ids: &[StreamId]) {
        let (group, consumer) = (
            std::mem::take(&mut self.script.group),
            std::mem::take(&mut self.script.consumer),
        );
        for id in ids {
            if let Some(pending) = self.script.pending.remove(id) {
                self.claim(&group, &consumer, *id, pending.delivered_at, pending.delivery_count);
            }
        }
        (self.script.group, self.script.consumer) = (group, consumer);
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
                self.numbers(&stream.entries.numbers());
                stream.groups.iter().for_each(|group| self.group(group));
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
            Head::String { len } => {
                head_of_string(self.out, &self.script.key, len);
                self.script.is_in_string = true;
                b""
            }
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
            Part::Numbers(numbers, _) => self.numbers(numbers),
            Part::Group(head) => self.group_head(head),
            Part::Pending(pending) => {
                self.script.pending.insert(pending.id, *pending);
            }
            Part::Consumers(_) => {}
            Part::Consumer(consumer) => {
                let group = std::mem::take(&mut self.script.group);
                self.begin_consumer(&group, consumer.name);
                self.script.group = group;
                self.script.consumer = consumer.name.into();
            }
            Part::Ids(ids) => self.ids(ids),
            Part::Bytes(bytes) => self.out.extend_from_slice(bytes),
        }
    }
}
