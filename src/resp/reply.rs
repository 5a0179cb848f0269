//! Writes replies.
//!
//! [`ReplyBuf`] is the linear output of a connection (or of a command on its way back from another shard). Small things are copied into
//! it; a large value is put in *by reference*, as a [`Bytes`] remembered with the position at which it belongs, and reaches the
//! socket without ever being copied. [`Reply`] is how a handler writes: it knows which protocol the client speaks, so no
//! handler asks.
//!
//! ```text
//! bytes:   *2\r\n$20000\r\n|\r\n$1\r\nx\r\n          shared: [(12, Bytes of 20000)]
//!                          ^ position 12
//! ```
//!
//! A reply may be far larger than the data it is made of (`HRANDFIELD key -999999999`), and than what its client may have waiting
//! (`client-output-buffer-limit`). A writer that was given such a bound ([`Reply::bounded`]) writes on until the output has it, and
//! drops what would make the buffer grow beyond: the client will be disconnected for what is there, and never sees that more is
//! missing. The bound is looked at only where the buffer must grow, so it costs nothing. What makes a reply by a count that a client has
//! chosen asks [`Reply::is_full`] and stops.
//!
//! # Invariants
//!
//! 1. `shared` is ordered by position, and no position lies behind the end of `bytes`. None is empty. Several may have the same position and then
//!    follow one another as they stand.
//! 2. `shared_bytes` is the sum of the lengths in `shared`.
//! 3. Deferred lengths are ended in the reverse order of their beginning.
//! 4. Nothing is dropped before the output has the bound: it is then beyond the client's limit, whatever follows.
//!
//! The RESP3 types and what RESP2 clients get in their stead: <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

use std::borrow::Cow;

use bytes::Bytes;

use super::error::ReplyError;
use crate::base::limits;
use crate::base::numbers::{format_f64, write_u64};

/// Output in order, large values by reference.
#[derive(Clone, Debug, Default)]
pub struct ReplyBuf {
    bytes: Vec<u8>,
    shared: Vec<(usize, Bytes)>,
    shared_bytes: usize,
}

/// The protocol version that a client asked for with HELLO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proto {
    /// RESP2, which every client begins with.
    #[default]
    Resp2,
    /// RESP3.
    Resp3,
}

/// The writer that handlers are given.
#[derive(Debug)]
pub struct Reply<'a> {
    out: &'a mut ReplyBuf,
    proto: Proto,
    /// From this length of the output on it need not be complete.
    bytes_max: usize,
}

/// A place in a [`ReplyBuf`]: where a length will be put in, or to which the output can be cut back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Mark {
    position: usize,
    shared_count: usize,
}

impl Proto {
    /// The number that HELLO shows.
    pub fn version(self) -> i64 {
        match self {
            Proto::Resp2 => 2,
            Proto::Resp3 => 3,
        }
    }
}

impl ReplyBuf {
    /// An empty buffer; it allocates when first written.
    pub const fn new() -> ReplyBuf {
        ReplyBuf {
            bytes: Vec::new(),
            shared: Vec::new(),
            shared_bytes: 0,
        }
    }

    /// All bytes that will go to the client.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.shared_bytes
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.shared.is_empty()
    }

    /// The memory it holds itself; values by reference belong to the keyspace until they are replaced there.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.shared.capacity() * size_of::<(usize, Bytes)>()
    }

    /// Bytes of the values by reference.
    pub fn shared_bytes(&self) -> usize {
        self.shared_bytes
    }

    /// Gives back the memory of an empty buffer.
    pub fn give_back(&mut self) {
        debug_assert!(self.is_empty(), "what is in it must be sent");
        if self.is_empty() {
            *self = ReplyBuf::new();
        }
    }

    /// Forgets the content and keeps memory for the next, but no more than a bound.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(limits::REPLY_KEPT_BYTES_MAX);
        self.shared.clear();
        self.shared_bytes = 0;
    }

    /// Hands out the content and leaves an empty buffer.
    pub fn take(&mut self) -> ReplyBuf {
        std::mem::take(self)
    }

    /// Moves the content of `other` behind this one's, and leaves `other` empty with its memory.
    pub fn append(&mut self, other: &mut ReplyBuf) {
        if self.is_empty() && other.bytes.len() > self.bytes.capacity() {
            std::mem::swap(self, other);
            return;
        }
        let from = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.shared
            .extend(other.shared.drain(..).map(|(position, value)| (position + from, value)));
        self.shared_bytes += other.shared_bytes;
        other.clear();
    }

    /// Appends the content of `other`: its bytes are copied, its large values shared.
    pub fn push_copy(&mut self, other: &ReplyBuf) {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        let shared = other.shared.iter();
        self.shared
            .extend(shared.map(|(position, value)| (position + from, value.clone())));
        self.shared_bytes += other.shared_bytes;
    }

    /// Appends bytes that are RESP already.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends a value by reference, whatever its size.
    pub fn push_shared(&mut self, value: Bytes) {
        if value.is_empty() {
            return;
        }
        self.shared_bytes += value.len();
        self.shared.push((self.bytes.len(), value));
    }

    /// Where the output stands now, to cut it back to with [`ReplyBuf::truncate`].
    pub fn mark(&self) -> Mark {
        Mark {
            position: self.bytes.len(),
            shared_count: self.shared.len(),
        }
    }

    /// Drops everything written since `mark`.
    pub fn truncate(&mut self, mark: Mark) {
        self.bytes.truncate(mark.position);
        let dropped: usize = self
            .shared
            .drain(mark.shared_count..)
            .map(|(_, value)| value.len())
            .sum();
        self.shared_bytes -= dropped;
    }

    /// Takes out everything written since `mark`.
    pub fn split_off(&mut self, mark: Mark) -> ReplyBuf {
        let mut rest = ReplyBuf {
            bytes: self.bytes.split_off(mark.position),
            shared: self.shared.split_off(mark.shared_count),
            shared_bytes: 0,
        };
        for (position, value) in &mut rest.shared {
            *position -= mark.position;
            rest.shared_bytes += value.len();
        }
        self.shared_bytes -= rest.shared_bytes;
        rest
    }

    /// The content as slices in order, none of them empty: what `writev` takes.
    pub fn segments(&self) -> Segments<'_> {
        Segments {
            buf: self,
            position: 0,
            shared_index: 0,
            is_shared_due: false,
        }
    }

    /// The content behind its first `skip` bytes, as slices: what is left after a send that took only a part.
    pub fn segments_from(&self, mut skip: usize) -> impl Iterator<Item = &[u8]> {
        self.segments().filter_map(move |segment| {
            let skipped = skip.min(segment.len());
            skip -= skipped;
            Some(&segment[skipped..]).filter(|rest| !rest.is_empty())
        })
    }

    /// Whether all content lies in one piece, and then this piece.
    pub fn as_single(&self) -> Option<&[u8]> {
        self.shared.is_empty().then_some(&self.bytes)
    }

    /// The error that it is, if it is one. (None is written but in one piece.)
    pub fn as_error(&self) -> Option<&[u8]> {
        self.as_single().filter(|text| text.starts_with(b"-"))
    }

    /// The content in one piece, copied only if it is not in one already.
    pub fn to_contiguous(&self) -> Cow<'_, [u8]> {
        match self.as_single() {
            Some(bytes) => Cow::Borrowed(bytes),
            None => Cow::Owned(
                self.segments()
                    .fold(Vec::with_capacity(self.len()), |mut all, segment| {
                        all.extend_from_slice(segment);
                        all
                    }),
            ),
        }
    }

    /// Hands both parts to whoever sends them: the linear bytes, and the shared pieces with their positions. `take` leaves
    /// both as they are, or both empty.
    pub fn give<R>(&mut self, take: impl FnOnce(&mut Vec<u8>, &mut Vec<(usize, Bytes)>) -> R) -> R {
        let answer = take(&mut self.bytes, &mut self.shared);
        if self.shared.is_empty() {
            self.shared_bytes = 0;
        }
        answer
    }

    /// The copied bytes and the values by reference with their positions in them, for a sender that must own both until the
    /// kernel is done with them.
    pub fn into_parts(self) -> (Vec<u8>, Vec<(usize, Bytes)>) {
        (self.bytes, self.shared)
    }

    /// Puts a header in at a mark and moves everything behind it.
    fn insert(&mut self, mark: Mark, header: Header) {
        let end = self.bytes.len();
        header.append_to(&mut self.bytes);
        let header_bytes = self.bytes.len() - end;
        self.bytes[mark.position..].rotate_right(header_bytes);
        for (position, _) in &mut self.shared[mark.shared_count..] {
            *position += header_bytes;
        }
    }
}

/// See [`ReplyBuf::segments`].
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    buf: &'a ReplyBuf,
    position: usize,
    shared_index: usize,
    is_shared_due: bool,
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let segment: &[u8] = match self.buf.shared.get(self.shared_index) {
                Some((_, value)) if self.is_shared_due => {
                    self.is_shared_due = false;
                    self.shared_index += 1;
                    value
                }
                Some(&(position, _)) => {
                    self.is_shared_due = true;
                    let from = std::mem::replace(&mut self.position, position);
                    &self.buf.bytes[from..position]
                }
                None if self.position < self.buf.bytes.len() => {
                    let from = std::mem::replace(&mut self.position, self.buf.bytes.len());
                    &self.buf.bytes[from..]
                }
                None => return None,
            };
            if !segment.is_empty() {
                return Some(segment);
            }
        }
    }
}

impl<'a> Reply<'a> {
    /// A writer behind what `out` holds already.
    pub fn new(out: &'a mut ReplyBuf, proto: Proto) -> Reply<'a> {
        Reply::bounded(out, proto, usize::MAX)
    }

    /// As `new`; when `out` has `bytes_max` bytes, nobody will see what follows.
    pub fn bounded(out: &'a mut ReplyBuf, proto: Proto, bytes_max: usize) -> Reply<'a> {
        Reply { out, proto, bytes_max }
    }

    /// Whether what is written now is for nobody: the output has its bound.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.out.len() >= self.bytes_max
    }

    /// Makes room for so many bytes; false: they are not wanted any more.
    #[inline]
    fn has_room(&mut self, bytes: usize) -> bool {
        self.out.bytes.capacity() - self.out.bytes.len() >= bytes || self.grow(bytes)
    }

    #[cold]
    fn grow(&mut self, bytes: usize) -> bool {
        if self.is_full() {
            return false;
        }
        self.out.bytes.reserve(bytes);
        true
    }

    /// The client's protocol, for the few replies whose shape depends on it.
    pub fn proto(&self) -> Proto {
        self.proto
    }

    /// From here on replies are written in this version (HELLO answers in the one it sets).
    pub fn set_proto(&mut self, proto: Proto) {
        self.proto = proto;
    }

    /// Whether the client speaks RESP3.
    pub fn is_resp3(&self) -> bool {
        self.proto == Proto::Resp3
    }

    /// The buffer behind the writer.
    pub fn buf(&mut self) -> &mut ReplyBuf {
        self.out
    }

    /// A writer into the same buffer with a shorter life, possibly in another protocol.
    pub fn reborrow(&mut self, proto: Proto) -> Reply<'_> {
        Reply::bounded(self.out, proto, self.bytes_max)
    }

    /// `+OK`.
    #[inline]
    pub fn ok(&mut self) {
        self.raw(b"+OK\r\n");
    }

    /// `+text`; the text holds no line end.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// `-CODE text`.
    pub fn error(&mut self, error: &ReplyError) {
        self.line(b'-', error.text());
    }

    /// `:value`.
    #[inline]
    pub fn integer(&mut self, value: i64) {
        match value {
            0 => self.raw(b":0\r\n"),
            1 => self.raw(b":1\r\n"),
            2.. => self.header(Header::new(b':', value as u64)),
            _ => self.line(b':', itoa::Buffer::new().format(value).as_bytes()),
        }
    }

    /// A string of bytes, copied.
    #[inline]
    pub fn bulk(&mut self, value: &[u8]) {
        let header = Header::new(b'$', value.len() as u64);
        if !self.has_room(HEADER_BYTES_MAX + value.len() + 2) {
            return;
        }
        let bytes = &mut self.out.bytes;
        header.append_to(bytes);
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    }

    /// A string of bytes, by reference from `REPLY_SHARED_BYTES_MIN` up.
    pub fn bulk_shared(&mut self, value: Bytes) {
        if value.len() < limits::REPLY_SHARED_BYTES_MIN {
            return self.bulk(&value);
        }
        if self.is_full() {
            return;
        }
        self.header(Header::new(b'$', value.len() as u64));
        self.out.push_shared(value);
        self.raw(b"\r\n");
    }

    /// A string of characters.
    pub fn bulk_string(&mut self, text: &str) {
        self.bulk(text.as_bytes());
    }

    /// An integer as a string.
    pub fn bulk_integer(&mut self, value: i64) {
        self.bulk(itoa::Buffer::new().format(value).as_bytes());
    }

    /// No value: `$-1`, or `_`.
    #[inline]
    pub fn null(&mut self) {
        self.raw(match self.proto {
            Proto::Resp2 => b"$-1\r\n",
            Proto::Resp3 => b"_\r\n",
        });
    }

    /// No array: `*-1`, or `_`.
    pub fn null_array(&mut self) {
        self.raw(match self.proto {
            Proto::Resp2 => b"*-1\r\n",
            Proto::Resp3 => b"_\r\n",
        });
    }

    /// Begins an array of `count` elements.
    #[inline]
    pub fn array(&mut self, count: usize) {
        self.header(Header::new(b'*', count as u64));
    }

    /// Begins a map of `count` pairs, in RESP2 an array of twice as many elements.
    pub fn map(&mut self, count: usize) {
        self.header(self.map_header(count));
    }

    /// Begins a set of `count` elements, in RESP2 an array.
    pub fn set(&mut self, count: usize) {
        self.header(self.typed_header(b'~', count));
    }

    /// Begins an out-of-band message of `count` elements, in RESP2 an array.
    pub fn push(&mut self, count: usize) {
        self.header(self.typed_header(b'>', count));
    }

    /// Begins an attribute of `count` pairs, which the proper reply must follow. RESP2 has none: ask [`Reply::is_resp3`] first.
    pub fn attribute(&mut self, count: usize) {
        debug_assert!(self.is_resp3(), "RESP2 has no attributes");
        self.header(Header::new(b'|', count as u64));
    }

    /// A double, in RESP2 as a string.
    pub fn double(&mut self, value: f64) {
        let text = format_f64(value);
        match self.proto {
            Proto::Resp2 => self.bulk(&text),
            Proto::Resp3 => self.line(b',', &text),
        }
    }

    /// `#t` or `#f`, in RESP2 1 or 0.
    pub fn boolean(&mut self, value: bool) {
        self.raw(match (self.proto, value) {
            (Proto::Resp2, true) => b":1\r\n",
            (Proto::Resp2, false) => b":0\r\n",
            (Proto::Resp3, true) => b"#t\r\n",
            (Proto::Resp3, false) => b"#f\r\n",
        });
    }

    /// Text to be shown as it is, with its format of three letters (`txt`, `mkd`); in RESP2 a string without the format.
    pub fn verbatim(&mut self, format: &str, text: &[u8]) {
        debug_assert_eq!(format.len(), 3);
        if self.proto == Proto::Resp2 {
            return self.bulk(text);
        }
        self.header(Header::new(b'=', text.len() as u64 + 4));
        self.raw(format.as_bytes());
        self.raw(b":");
        self.raw(text);
        self.raw(b"\r\n");
    }

    /// An integer of any size given by its digits, in RESP2 as a string.
    pub fn big_number(&mut self, digits: &str) {
        match self.proto {
            Proto::Resp2 => self.bulk(digits.as_bytes()),
            Proto::Resp3 => self.line(b'(', digits.as_bytes()),
        }
    }

    /// Bytes that are RESP already.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        if self.has_room(bytes.len()) {
            self.out.push(bytes);
        }
    }

    /// Begins an array, map or set whose length is known only when it ends. Write the elements, then call one of the `end_` methods.
    /// What follows the mark is moved by a few bytes then, so where the length can be had, use it.
    pub fn deferred(&mut self) -> Mark {
        self.out.mark()
    }

    /// Makes what was written since the mark an array of `count` elements.
    pub fn end_array(&mut self, mark: Mark, count: usize) {
        self.out.insert(mark, Header::new(b'*', count as u64));
    }

    /// Makes what was written since the mark a map of `count` pairs.
    pub fn end_map(&mut self, mark: Mark, count: usize) {
        let header = self.map_header(count);
        self.out.insert(mark, header);
    }

    /// Makes what was written since the mark a set of `count` elements.
    pub fn end_set(&mut self, mark: Mark, count: usize) {
        let header = self.typed_header(b'~', count);
        self.out.insert(mark, header);
    }

    #[inline]
    fn header(&mut self, header: Header) {
        if self.has_room(HEADER_BYTES_MAX) {
            header.append_to(&mut self.out.bytes);
        }
    }

    fn map_header(&self, count: usize) -> Header {
        match self.proto {
            Proto::Resp2 => Header::new(b'*', count as u64 * 2),
            Proto::Resp3 => Header::new(b'%', count as u64),
        }
    }

    fn typed_header(&self, kind: u8, count: usize) -> Header {
        Header::new(if self.is_resp3() { kind } else { b'*' }, count as u64)
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        debug_assert!(
            !text.iter().any(|byte| matches!(byte, b'\r' | b'\n')),
            "a line reply holds no line end"
        );
        if !self.has_room(text.len() + 3) {
            return;
        }
        let bytes = &mut self.out.bytes;
        bytes.push(kind);
        bytes.extend_from_slice(text);
        bytes.extend_from_slice(b"\r\n");
    }
}

/// Room for one byte of type, 20 digits and the line end.
const HEADER_BYTES_MAX: usize = 23;

/// A line such as `*3\r\n`.
#[derive(Clone, Copy)]
struct Header {
    kind: u8,
    number: u64,
}

impl Header {
    #[inline]
    fn new(kind: u8, number: u64) -> Header {
        Header { kind, number }
    }

    /// Appends the line. With up to five digits it fits one machine word, which is put together in a register and appended whole, then
    /// cut to its length: 4 ns, where a copy of a length unknown to the compiler takes 14.
    #[inline]
    fn append_to(self, out: &mut Vec<u8>) {
        if self.number >= 100_000 {
            return self.append_long_to(out);
        }
        // From the last byte to the first, as the lowest byte of the word comes first in memory.
        let mut word = u64::from(u16::from_le_bytes(*b"\r\n"));
        let mut length = 3;
        let mut rest = self.number as u32;
        loop {
            word = (word << 8) | u64::from(b'0' + (rest % 10) as u8);
            length += 1;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        word = (word << 8) | u64::from(self.kind);
        let end = out.len() + length;
        out.extend_from_slice(&word.to_le_bytes());
        out.truncate(end);
    }

    #[cold]
    fn append_long_to(self, out: &mut Vec<u8>) {
        out.push(self.kind);
        write_u64(out, self.number);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(proto: Proto, write: impl FnOnce(&mut Reply<'_>)) -> String {
        let mut out = ReplyBuf::new();
        write(&mut Reply::new(&mut out, proto));
        String::from_utf8(out.to_contiguous().into_owned()).expect("the tests write text")
    }

    #[test]
    fn each_type_in_both_protocols() {
        type Case = (fn(&mut Reply<'_>), &'static str, &'static str);
        let cases: [Case; 20] = [
            (|r| r.ok(), "+OK\r\n", "+OK\r\n"),
            (|r| r.simple("PONG"), "+PONG\r\n", "+PONG\r\n"),
            (|r| r.error(&ReplyError::Static("ERR x")), "-ERR x\r\n", "-ERR x\r\n"),
            (|r| r.integer(-5), ":-5\r\n", ":-5\r\n"),
            (|r| r.integer(1234567), ":1234567\r\n", ":1234567\r\n"),
            (
                |r| r.integer(i64::MIN),
                ":-9223372036854775808\r\n",
                ":-9223372036854775808\r\n",
            ),
            (
                |r| r.integer(i64::MAX),
                ":9223372036854775807\r\n",
                ":9223372036854775807\r\n",
            ),
            (|r| r.bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n"),
            (|r| r.bulk_integer(-12), "$3\r\n-12\r\n", "$3\r\n-12\r\n"),
            (|r| r.null(), "$-1\r\n", "_\r\n"),
            (|r| r.null_array(), "*-1\r\n", "_\r\n"),
            (|r| r.map(2), "*4\r\n", "%2\r\n"),
            (|r| r.set(12), "*12\r\n", "~12\r\n"),
            (|r| r.push(3), "*3\r\n", ">3\r\n"),
            (|r| r.double(2.5), "$3\r\n2.5\r\n", ",2.5\r\n"),
            (|r| r.double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n"),
            (|r| r.boolean(true), ":1\r\n", "#t\r\n"),
            (|r| r.boolean(false), ":0\r\n", "#f\r\n"),
            (
                |r| r.verbatim("txt", b"hello"),
                "$5\r\nhello\r\n",
                "=9\r\ntxt:hello\r\n",
            ),
            (|r| r.big_number("123"), "$3\r\n123\r\n", "(123\r\n"),
        ];
        for (write, resp2, resp3) in cases {
            assert_eq!(written(Proto::Resp2, write), resp2);
            assert_eq!(written(Proto::Resp3, write), resp3);
        }
        assert_eq!(written(Proto::Resp3, |r| r.attribute(1)), "|1\r\n");
    }

    #[test]
    fn output_beyond_its_bound_grows_no_more_and_one_within_it_is_whole() {
        const BOUND: usize = 100_000;
        for proto in [Proto::Resp2, Proto::Resp3] {
            let mut out = ReplyBuf::new();
            let mut reply = Reply::bounded(&mut out, proto, BOUND);
            let mark = reply.deferred();
            let mut whole = ReplyBuf::new();
            let mut unbounded = Reply::new(&mut whole, proto);
            while !reply.is_full() {
                for reply in [&mut reply, &mut unbounded] {
                    reply.bulk(b"some text");
                    reply.integer(123_456);
                    reply.double(2.5);
                    reply.null();
                }
            }
            for _ in 0..1_000_000 {
                reply.bulk(b"some text");
                reply.integer(123_456);
                reply.double(2.5);
                reply.null();
                reply.bulk_shared(Bytes::from_static(&[b'x'; limits::REPLY_SHARED_BYTES_MIN]));
            }
            assert!(reply.is_full());
            reply.end_array(mark, 7);
            assert!(
                out.len() >= BOUND && out.memory_bytes() < 3 * BOUND,
                "{}",
                out.memory_bytes()
            );
            assert_eq!(
                out.to_contiguous()[4..whole.len() + 4],
                *whole.to_contiguous(),
                "no gap before the bound"
            );
        }
    }

    #[test]
    fn headers_at_every_width() {
        for number in [0, 9, 10, 99, 100, 999, 12345, 99_999, 100_000, 123_456, u64::MAX] {
            let mut line = b"before".to_vec();
            Header::new(b'*', number).append_to(&mut line);
            assert_eq!(line, format!("before*{number}\r\n").as_bytes());
        }
    }

    #[test]
    fn deferred_lengths_nest() {
        let text = written(Proto::Resp3, |r| {
            let outer = r.deferred();
            r.integer(7);
            let inner = r.deferred();
            r.integer(8);
            r.integer(9);
            r.end_map(inner, 1);
            let empty = r.deferred();
            r.end_set(empty, 0);
            r.end_array(outer, 3);
            r.ok();
        });
        assert_eq!(text, "*3\r\n:7\r\n%1\r\n:8\r\n:9\r\n~0\r\n+OK\r\n");
    }

    #[test]
    fn a_large_value_is_not_copied() {
        let value = Bytes::from(vec![b'v'; limits::REPLY_SHARED_BYTES_MIN]);
        let mut out = ReplyBuf::new();
        let mut reply = Reply::new(&mut out, Proto::Resp2);
        let mark = reply.deferred();
        reply.integer(1);
        reply.bulk_shared(value.clone());
        reply.bulk_shared(Bytes::from_static(b"small"));
        reply.end_array(mark, 3);
        let segments: Vec<&[u8]> = out.segments().collect();
        assert_eq!(segments.len(), 3);
        assert_eq!(segments[0], b"*3\r\n:1\r\n$16384\r\n");
        assert_eq!(segments[1].as_ptr(), value.as_ptr());
        assert_eq!(segments[2], b"\r\n$5\r\nsmall\r\n");
        assert_eq!(out.len(), segments.iter().map(|segment| segment.len()).sum::<usize>());
        let rest: Vec<&[u8]> = out.segments_from(segments[0].len() + 16383).collect();
        assert_eq!(rest, [b"v", segments[2]]);
    }

    #[test]
    fn cut_back_to_a_mark() {
        let mut out = ReplyBuf::new();
        out.push(b"kept");
        let mark = out.mark();
        out.push_shared(Bytes::from_static(b"shared"));
        out.push(b"dropped");
        out.truncate(mark);
        assert_eq!((out.len(), out.as_single()), (4, Some(&b"kept"[..])));
    }

    #[derive(Clone, Debug)]
    enum Write {
        Copied(Vec<u8>),
        Shared(Vec<u8>),
        Appended(Vec<Write>),
        Deferred(Vec<Write>),
    }

    fn writes() -> impl Strategy<Value = Vec<Write>> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..8);
        let leaf = prop_oneof![bytes().prop_map(Write::Copied), bytes().prop_map(Write::Shared)];
        let tree = leaf.prop_recursive(3, 24, 4, |inner| {
            let several = || prop::collection::vec(inner.clone(), 0..4);
            prop_oneof![several().prop_map(Write::Appended), several().prop_map(Write::Deferred)]
        });
        prop::collection::vec(tree, 0..8)
    }

    fn apply(writes: &[Write], out: &mut ReplyBuf, model: &mut Vec<u8>) {
        for write in writes {
            match write {
                Write::Copied(bytes) => {
                    out.push(bytes);
                    model.extend_from_slice(bytes);
                }
                Write::Shared(bytes) => {
                    out.push_shared(Bytes::copy_from_slice(bytes));
                    model.extend_from_slice(bytes);
                }
                Write::Appended(inner) => {
                    let mut other = ReplyBuf::new();
                    apply(inner, &mut other, model);
                    out.append(&mut other);
                    assert!(other.is_empty());
                }
                Write::Deferred(inner) => {
                    let mark = out.mark();
                    model.extend_from_slice(format!("*{}\r\n", inner.len() * 30).as_bytes());
                    apply(inner, out, model);
                    Reply::new(out, Proto::Resp2).end_array(mark, inner.len() * 30);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_segments_are_what_was_written(writes in writes(), skip in 0usize..64) {
            let (mut out, mut model) = (ReplyBuf::new(), Vec::new());
            apply(&writes, &mut out, &mut model);
            prop_assert_eq!(out.len(), model.len());
            prop_assert_eq!(out.is_empty(), out.bytes.is_empty() && out.shared.is_empty());
            prop_assert!(out.segments().all(|segment| !segment.is_empty()));
            prop_assert_eq!(&*out.to_contiguous(), &model);
            let rest: Vec<u8> = out.segments_from(skip).flatten().copied().collect();
            prop_assert_eq!(&rest, &model[skip.min(model.len())..]);
            let (bytes, shared) = out.take().into_parts();
            prop_assert_eq!(bytes.len() + shared.iter().map(|(_, value)| value.len()).sum::<usize>(), model.len());
            prop_assert!(out.is_empty());
        }
    }
}
