//! Finds the commands in what a client sends.
//!
//! A client's bytes arrive in reads of any size. [`RequestParser`] is shown the connection's buffer, from the first byte of the request
//! that is not complete yet, as often as it grows; it remembers how far it has come, so no byte of a request is looked at twice
//! however many reads it takes. It holds no bytes itself (inline commands with their quotes resolved excepted), only where the
//! arguments lie.
//!
//! Two forms are understood, as in Redis: `*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`, and a line of words with quotes, for people with telnet.
//!
//! # States
//!
//! ```text
//!                     +--------- Skip: *0, *-1, an empty line ---------+
//!                     v                                                |
//!   args_missing = 0, position = 0 --'*'--> count line ----------------+
//!            ^        |                          |
//!            |        +--else--> line of words   | args_missing = count
//!            |                        |          v
//!            |                        |     +-> length line --> bulk_bytes = length --+
//!            |                        |     |                                         |
//!            +------- Request --------+-----+---- bytes and \r\n <--------------------+
//! ```
//!
//! # Invariants
//!
//! 1. `position` and every span count from the first byte of the current request; the caller may move the buffer in memory, and must not
//!    drop bytes of a request before it is complete.
//! 2. `args_missing > 0` exactly while the arguments of a counted request are being collected; `spans` then holds those complete.
//! 3. No line end lies in front of `scanned` in the line that begins at `position`.
//! 4. What a client merely announces costs nothing: spans are reserved for at most `REQUEST_ARGS_RESERVED_MAX` arguments.
//!
//! # What is matched of Redis's parser
//!
//! Checked byte for byte against redis-server 7.0.15. Behind `\r` any byte is taken as the `\n`, and the two bytes behind an argument are not
//! looked at. Numbers are in canonical form only (`*01` is an error), any negative count is an empty request, `$-1` is an error. A
//! line is searched for its end before its first byte is looked at. A NUL byte ends the search for the end of a line, so that line
//! is never complete and ends as too big. On any error Redis sends the error, closes the connection, and looks at no further byte.

use std::fmt;

use memchr::memchr2;

use super::args::{Args, Span};
use super::error::ReplyError;
use crate::base::limits;
use crate::base::numbers::{as_c_text, parse_i64};

/// Where in its current request one connection stands. See the module's text.
#[derive(Debug, Default)]
pub struct RequestParser {
    spans: Vec<Span>,
    /// The arguments of an inline command, quotes resolved.
    scratch: Vec<u8>,
    is_inline: bool,
    args_missing: usize,
    position: usize,
    scanned: usize,
    /// The length of the argument whose bytes are awaited at `position`.
    bulk_bytes: Option<usize>,
}

/// What a client may announce. Changes with AUTH and CONFIG SET, so it is handed in with every call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// `proto-max-bulk-len`; no bound (`u64::MAX`) for a master that sends its stream.
    pub bulk_bytes_max: u64,
    /// Whether the client must authenticate first, and may announce only little until then.
    pub is_authentication_pending: bool,
}

/// How far a call of [`RequestParser::next`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A request is complete; [`RequestParser::args`] has its arguments, at least one.
    Request {
        /// How many bytes of the buffer it took.
        consumed: usize,
    },
    /// An empty line or an empty array: to be dropped without an answer.
    Skip {
        /// How many bytes of the buffer it took.
        consumed: usize,
    },
    /// The buffer ends within the request.
    Incomplete {
        /// How many bytes the buffer must hold for the next argument to be complete, where that is known: room to reserve.
        needed: Option<usize>,
    },
}

/// Why a connection is no longer understood. It is answered with [`ProtocolError::reply_error`] and closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A line of words longer than `REQUEST_LINE_BYTES_MAX`.
    #[error("too big inline request")]
    TooBigInlineRequest,
    /// A quote that is not closed, or with text right behind it.
    #[error("unbalanced quotes in request")]
    UnbalancedQuotes,
    /// A `*` line longer than `REQUEST_LINE_BYTES_MAX`.
    #[error("too big mbulk count string")]
    TooBigMultibulkCountString,
    /// Not a number behind `*`, or too large a one.
    #[error("invalid multibulk length")]
    InvalidMultibulkLength,
    /// More arguments than a client may send before it authenticates.
    #[error("unauthenticated multibulk length")]
    UnauthenticatedMultibulkLength,
    /// A `$` line longer than `REQUEST_LINE_BYTES_MAX`.
    #[error("too big bulk count string")]
    TooBigBulkCountString,
    /// Something else where an argument should begin.
    #[error("expected '$', got '{}'", Printable(*.0))]
    ExpectedDollar(u8),
    /// Not a number behind `$`, a negative one, or one beyond `proto-max-bulk-len`.
    #[error("invalid bulk length")]
    InvalidBulkLength,
    /// A longer argument than a client may send before it authenticates.
    #[error("unauthenticated bulk length")]
    UnauthenticatedBulkLength,
}

struct Printable(u8);

impl fmt::Display for Printable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_ascii().fmt(f)
    }
}

impl ProtocolError {
    /// The answer, `ERR Protocol error: ...`. The byte of [`ProtocolError::ExpectedDollar`] is repeated as it came, line ends as spaces.
    pub fn reply_error(&self) -> ReplyError {
        match self {
            ProtocolError::ExpectedDollar(byte) => {
                ReplyError::owned([b"ERR Protocol error: expected '$', got '", &[*byte][..], b"'"].concat())
            }
            other => ReplyError::owned(format!("ERR Protocol error: {other}")),
        }
    }
}

impl RequestLimits {
    /// Redis's defaults, for a client that need not authenticate.
    pub const DEFAULT: RequestLimits = RequestLimits {
        bulk_bytes_max: limits::BULK_BYTES_MAX_DEFAULT,
        is_authentication_pending: false,
    };
}

impl RequestParser {
    /// A parser at the start of a connection.
    pub fn new() -> RequestParser {
        RequestParser::default()
    }

    /// Looks for the end of the current request. `buf` begins with its first byte, and holds at least what it held before.
    ///
    /// After `Request` and `Skip` the next call expects the bytes behind `consumed`. After an error the parser is of no more use.
    #[inline]
    pub fn next(&mut self, buf: &[u8], limits: &RequestLimits) -> Result<Step, ProtocolError> {
        if self.args_missing == 0 {
            match buf.first() {
                Some(b'*') => {}
                Some(_) => return self.inline(buf),
                None => return Ok(Step::Incomplete { needed: None }),
            }
            let (count, behind) = match short_number(buf, 1) {
                Some(found) => found,
                None => match self.count_line(buf)? {
                    Some(found) => found,
                    None => return Ok(Step::Incomplete { needed: None }),
                },
            };
            if count <= 0 {
                self.rewind();
                return Ok(Step::Skip { consumed: behind });
            }
            if count as u64 > limits::REQUEST_ARGS_MAX {
                return Err(ProtocolError::InvalidMultibulkLength);
            }
            if limits.is_authentication_pending && count as u64 > limits::UNAUTHENTICATED_ARGS_MAX {
                return Err(ProtocolError::UnauthenticatedMultibulkLength);
            }
            self.begin(count as usize);
            self.position = behind;
            self.scanned = behind;
        }
        self.bulks(buf, limits)
    }

    /// The arguments of the request that the last call found complete, in the same buffer.
    #[inline]
    pub fn args<'a>(&'a self, buf: &'a [u8]) -> Args<'a> {
        Args::new(if self.is_inline { &self.scratch } else { buf }, &self.spans)
    }

    /// Whether the last request was a line of words.
    pub fn is_inline(&self) -> bool {
        self.is_inline
    }

    /// Whether the current request has begun, and its arguments are being collected: what lies in front of the buffer has been
    /// looked at, and need not be again.
    #[inline]
    pub fn is_within_request(&self) -> bool {
        self.args_missing > 0
    }

    /// How many arguments of an incomplete request have not arrived: the figure behind CLIENT LIST's `multi-mem` and of watchdogs.
    pub fn args_missing(&self) -> usize {
        self.args_missing
    }

    /// Bytes of the arguments of an incomplete request that have arrived whole.
    pub fn arrived_bytes(&self) -> usize {
        if self.is_within_request() {
            self.spans.iter().map(|span| span.len()).sum()
        } else {
            0
        }
    }

    /// Bytes of an incomplete request that are understood: they will not be looked at again.
    pub fn understood_bytes(&self) -> usize {
        if self.is_within_request() { self.position } else { 0 }
    }

    /// How many bytes the buffer will hold when the argument that is arriving is complete; 0 where that is not known.
    pub fn awaited_bytes(&self) -> usize {
        self.bulk_bytes
            .map_or(0, |length| self.position.saturating_add(length).saturating_add(2))
    }

    /// Gives back the memory that it does not need for the request that is arriving. The arguments of the last one are gone then.
    pub fn give_back(&mut self) {
        if !self.is_within_request() {
            self.spans = Vec::new();
            self.scratch = Vec::new();
        }
    }

    /// The memory it keeps beside the buffer.
    pub fn memory_bytes(&self) -> usize {
        self.spans.capacity() * size_of::<Span>() + self.scratch.capacity()
    }

    /// Collects the arguments of a counted request.
    #[inline]
    fn bulks(&mut self, buf: &[u8], limits: &RequestLimits) -> Result<Step, ProtocolError> {
        let mut position = self.position;
        let mut missing = self.args_missing;
        let mut awaited = self.bulk_bytes.take();
        while missing > 0 {
            let length = match awaited.take() {
                Some(length) => length,
                None => {
                    let short = match buf.get(position) {
                        Some(b'$') => short_number(buf, position + 1),
                        _ => None,
                    };
                    let (length, behind) = match short {
                        Some(found) => found,
                        None => {
                            self.position = position;
                            self.args_missing = missing;
                            match self.length_line(buf)? {
                                Some(found) => found,
                                None => return Ok(Step::Incomplete { needed: None }),
                            }
                        }
                    };
                    if length < 0 || length as u64 > limits.bulk_bytes_max {
                        return Err(ProtocolError::InvalidBulkLength);
                    }
                    if limits.is_authentication_pending && length as u64 > limits::UNAUTHENTICATED_BULK_BYTES_MAX {
                        return Err(ProtocolError::UnauthenticatedBulkLength);
                    }
                    position = behind;
                    length as usize
                }
            };
            // Neither sum overflows: positions are far below 2^62, lengths at most 2^63 - 1.
            let end = position + length;
            if buf.len() < end + 2 {
                self.position = position;
                self.scanned = position;
                self.args_missing = missing;
                self.bulk_bytes = Some(length);
                return Ok(Step::Incomplete { needed: Some(end + 2) });
            }
            self.spans.push(Span { start: position, end });
            position = end + 2;
            missing -= 1;
        }
        self.rewind();
        Ok(Step::Request { consumed: position })
    }

    /// Reads the `*` line where the short way did not do.
    #[cold]
    fn count_line(&mut self, buf: &[u8]) -> Result<Option<(i64, usize)>, ProtocolError> {
        let Some(end) = self.line_end(buf, ProtocolError::TooBigMultibulkCountString)? else {
            return Ok(None);
        };
        let count = parse_i64(&buf[1..end]).ok_or(ProtocolError::InvalidMultibulkLength)?;
        Ok(Some((count, end + 2)))
    }

    /// Reads the `$` line at `position` where the short way did not do.
    #[cold]
    fn length_line(&mut self, buf: &[u8]) -> Result<Option<(i64, usize)>, ProtocolError> {
        let Some(end) = self.line_end(buf, ProtocolError::TooBigBulkCountString)? else {
            return Ok(None);
        };
        match buf[self.position] {
            b'$' => {}
            other => return Err(ProtocolError::ExpectedDollar(other)),
        }
        let length = parse_i64(&buf[self.position + 1..end]).ok_or(ProtocolError::InvalidBulkLength)?;
        Ok(Some((length, end + 2)))
    }

    /// The index of the `\r` that ends the line at `position`, once a byte stands behind it.
    fn line_end(&mut self, buf: &[u8], too_big: ProtocolError) -> Result<Option<usize>, ProtocolError> {
        self.scanned = self.scanned.max(self.position);
        match memchr2(b'\r', 0, &buf[self.scanned..]) {
            Some(offset) if buf[self.scanned + offset] == b'\r' => {
                self.scanned += offset;
                Ok((self.scanned + 1 < buf.len()).then_some(self.scanned))
            }
            found => {
                self.scanned = found.map_or(buf.len(), |offset| self.scanned + offset);
                if buf.len() - self.position > limits::REQUEST_LINE_BYTES_MAX {
                    return Err(too_big);
                }
                Ok(None)
            }
        }
    }

    /// Reads a line of words.
    #[cold]
    fn inline(&mut self, buf: &[u8]) -> Result<Step, ProtocolError> {
        let end = match memchr2(b'\n', 0, &buf[self.scanned..]) {
            Some(offset) if buf[self.scanned + offset] == b'\n' => self.scanned + offset,
            found => {
                self.scanned = found.map_or(buf.len(), |offset| self.scanned + offset);
                if buf.len() > limits::REQUEST_LINE_BYTES_MAX {
                    return Err(ProtocolError::TooBigInlineRequest);
                }
                return Ok(Step::Incomplete { needed: None });
            }
        };
        let line = buf[..end].strip_suffix(b"\r").unwrap_or(&buf[..end]);
        self.begin(0);
        self.is_inline = true;
        self.scratch.clear();
        self.scratch.shrink_to(limits::REQUEST_SCRATCH_KEPT_BYTES_MAX);
        split_words(line, &mut self.scratch, &mut self.spans)?;
        self.rewind();
        let consumed = end + 1;
        Ok(if self.spans.is_empty() {
            Step::Skip { consumed }
        } else {
            Step::Request { consumed }
        })
    }

    /// Makes the places for the arguments of a new request.
    #[inline]
    fn begin(&mut self, count: usize) {
        self.spans.clear();
        if self.spans.capacity() > limits::REQUEST_ARGS_KEPT_MAX {
            self.spans.shrink_to(limits::REQUEST_ARGS_KEPT_MAX);
        }
        self.spans.reserve(count.min(limits::REQUEST_ARGS_RESERVED_MAX));
        self.is_inline = false;
        self.args_missing = count;
    }

    /// Back to the state between two requests; the arguments stay readable.
    #[inline]
    fn rewind(&mut self) {
        self.args_missing = 0;
        self.position = 0;
        self.scanned = 0;
    }
}

/// Reads the number at `from` and says what stands behind its line, if it is the usual kind: one to nine digits in canonical form
/// and both bytes of the line end. `None` means only that the long way must be taken.
#[inline(always)]
pub(super) fn short_number(buf: &[u8], from: usize) -> Option<(i64, usize)> {
    // Nearly all numbers have one digit or two. That the fourth byte is there says that the one behind the `\r` is, whatever it is.
    if let Some([first, second, third, _]) = buf.get(from..).and_then(<[u8]>::first_chunk::<4>) {
        let (high, low) = (first.wrapping_sub(b'0'), second.wrapping_sub(b'0'));
        if *second == b'\r' && high <= 9 {
            return Some((i64::from(high), from + 3));
        }
        if *third == b'\r' && low <= 9 && (1..=9).contains(&high) {
            return Some((i64::from(high * 10 + low), from + 4));
        }
    }
    number_of_any_length(buf, from)
}

/// As [`short_number`], for up to nine digits.
fn number_of_any_length(buf: &[u8], from: usize) -> Option<(i64, usize)> {
    let text = buf.get(from..)?;
    let first = text.first()?.wrapping_sub(b'0');
    if first > 9 {
        return None;
    }
    let mut value = i64::from(first);
    for index in 1..=9 {
        let byte = *text.get(index)?;
        if byte == b'\r' {
            // The byte behind must have arrived, whatever it is.
            return (index + 1 < text.len()).then_some((value, from + index + 2));
        }
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 || value == 0 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    None
}

/// Splits a line into words as redis-cli, redis.conf and inline commands do: by blanks; `'...'` takes everything but `\'` literally; `"..."`
/// knows `\n \r \t \b \a \xHH` and takes any other escaped byte as itself. A closing quote must be followed by a blank or the end.
///
/// The words go to `out`, one behind the other, and `spans` says where each lies. A NUL byte ends the line.
pub fn split_words(line: &[u8], out: &mut Vec<u8>, spans: &mut Vec<Span>) -> Result<(), ProtocolError> {
    let mut rest = as_c_text(line);
    loop {
        let Some(blanks) = rest.iter().position(|&byte| !is_space(byte)) else {
            return Ok(());
        };
        rest = &rest[blanks..];
        let start = out.len();
        // Text may precede a quote, but not follow it: a"b c" is one word, "b c"a is an error.
        loop {
            match rest {
                [] | [b' ' | b'\n' | b'\r' | b'\t', ..] => break,
                [b'"', behind @ ..] => {
                    rest = double_quoted(behind, out).ok_or(ProtocolError::UnbalancedQuotes)?;
                    break;
                }
                [b'\'', behind @ ..] => {
                    rest = single_quoted(behind, out).ok_or(ProtocolError::UnbalancedQuotes)?;
                    break;
                }
                [byte, behind @ ..] => {
                    out.push(*byte);
                    rest = behind;
                }
            }
        }
        spans.push(Span { start, end: out.len() });
    }
}

/// Resolves the text behind a `"` up to its partner and returns what follows; `None` if it is not closed properly.
fn double_quoted<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, behind) = match rest {
            [] => return None,
            [b'"', behind @ ..] => return closed(behind),
            [b'\\', b'x', high, low, behind @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex_digit(*high) << 4 | hex_digit(*low), behind)
            }
            [b'\\', escaped, behind @ ..] => (unescaped(*escaped), behind),
            [byte, behind @ ..] => (*byte, behind),
        };
        out.push(byte);
        rest = behind;
    }
}

/// Resolves the text behind a `'` up to its partner and returns what follows; `None` if it is not closed properly.
fn single_quoted<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, behind) = match rest {
            [] => return None,
            [b'\'', behind @ ..] => return closed(behind),
            [b'\\', b'\'', behind @ ..] => (b'\'', behind),
            [byte, behind @ ..] => (*byte, behind),
        };
        out.push(byte);
        rest = behind;
    }
}

/// What follows a closing quote, if that is a blank or nothing.
fn closed(behind: &[u8]) -> Option<&[u8]> {
    match behind.first() {
        Some(&byte) if !is_space(byte) => None,
        _ => Some(behind),
    }
}

fn unescaped(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex_digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        _ => (byte | 0x20) - b'a' + 10,
    }
}

/// C's `isspace`, unlike Rust's ASCII white space with the vertical tab.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::resp::OwnedArgs;

    const LIMITS: RequestLimits = RequestLimits::DEFAULT;
    const PENDING: RequestLimits = RequestLimits {
        is_authentication_pending: true,
        ..LIMITS
    };

    /// Feeds `stream` in reads that end at `cuts`, as a connection would, and returns the commands and how it ended.
    fn feed(stream: &[u8], cuts: &[usize], limits: &RequestLimits) -> (Vec<OwnedArgs>, Option<ProtocolError>) {
        let mut parser = RequestParser::new();
        let mut commands = Vec::new();
        let mut begin = 0;
        for &end in cuts.iter().chain([&stream.len()]) {
            loop {
                let buf = &stream[begin..end];
                match parser.next(buf, limits) {
                    Ok(Step::Request { consumed }) => {
                        commands.push(parser.args(buf).to_owned());
                        begin += consumed;
                    }
                    Ok(Step::Skip { consumed }) => begin += consumed,
                    Ok(Step::Incomplete { needed }) => {
                        assert!(needed.is_none_or(|needed| needed > buf.len()));
                        break;
                    }
                    Err(error) => return (commands, Some(error)),
                }
            }
        }
        (commands, None)
    }

    fn whole(stream: &[u8]) -> (Vec<OwnedArgs>, Option<ProtocolError>) {
        feed(stream, &[], &LIMITS)
    }

    fn error_text(stream: &[u8], limits: &RequestLimits) -> String {
        let (_, error) = feed(stream, &[], limits);
        error.map_or("none".into(), |error| {
            String::from_utf8_lossy(error.reply_error().text()).into_owned()
        })
    }

    #[test]
    fn counted_requests() {
        let (commands, error) =
            whole(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n*-1\r\n*0\r\n*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPI");
        assert_eq!(error, None);
        assert_eq!(
            commands,
            [
                OwnedArgs::from_slices(&["SET", "k", ""]),
                OwnedArgs::from_slices(&["PING"])
            ]
        );
    }

    #[test]
    fn only_carriage_return_is_looked_at() {
        let (commands, error) = whole(b"*1\rX$4\r_PINGxx*1\r\n$4\r\nPING\r\n");
        assert_eq!((commands.len(), error), (2, None));
    }

    #[test]
    fn needed_is_the_end_of_the_argument() {
        let mut parser = RequestParser::new();
        let step = parser.next(b"*2\r\n$3\r\nGET\r\n$1000\r\nab", &LIMITS);
        assert_eq!(
            step,
            Ok(Step::Incomplete {
                needed: Some(13 + 7 + 1002)
            })
        );
        assert_eq!(parser.args_missing(), 1);
    }

    #[test]
    fn lines_of_words() {
        let cases: [(&[u8], &[&[u8]]); 15] = [
            (b"PING\n", &[b"PING"]),
            (b"  PING \t x  \r\n", &[b"PING", b"x"]),
            (b"PING x\ry\r\n", &[b"PING", b"x", b"y"]),
            (b"PING\x0bx\r\n", &[b"PING\x0bx"]),
            (b"PING \x0bx\r\n", &[b"PING", b"x"]),
            (b"a \"b c\"\r\n", &[b"a", b"b c"]),
            (b"a \"\\x41\\n\\q\\\"\"\r\n", &[b"a", b"A\nq\""]),
            (b"a \"\\xfF\\r\\t\\b\\a\\\\z\"\r\n", &[b"a", b"\xff\r\t\x08\x07\\z"]),
            (b"a \"\\x4\" \"\\xzz\"\r\n", &[b"a", b"x4", b"xzz"]),
            (b"a 'b\\'c\\n\\x41'\r\n", &[b"a", b"b'c\\n\\x41"]),
            (b"a b\"c d\"\r\n", &[b"a", b"bc d"]),
            (b"a b'c d'\r\n", &[b"a", b"bc d"]),
            (b"a \"\" ''\r\n", &[b"a", b"", b""]),
            (b"a \\n\r\r\n", &[b"a", b"\\n"]),
            (b"$4\r\n", &[b"$4"]),
        ];
        for (line, words) in cases {
            let (commands, error) = whole(line);
            assert_eq!(error, None, "{}", line.escape_ascii());
            assert_eq!(commands, [OwnedArgs::from_slices(words)], "{}", line.escape_ascii());
        }
        assert_eq!(whole(b"\r\n\n   \r\n").0.len(), 0);
    }

    #[test]
    fn error_texts_are_those_of_redis() {
        let long = [b'1'; limits::REQUEST_LINE_BYTES_MAX];
        let unbalanced = "ERR Protocol error: unbalanced quotes in request";
        let count = "ERR Protocol error: invalid multibulk length";
        let length = "ERR Protocol error: invalid bulk length";
        let cases: [(&[u8], &str); 31] = [
            (b"*abc\r\n", count),
            (b"*\r\n", count),
            (b"*01\r\n", count),
            (b"*00\r\n", count),
            (b"*-0\r\n", count),
            (b"*+1\r\n", count),
            (b"*1 \r\n", count),
            (b"*1\n$4\r\n", count),
            (b"*2147483648\r\n", count),
            (b"*9223372036854775808\r\n", count),
            (b"*1\r\n$-1\r\n", length),
            (b"*1\r\n$-0\r\n", length),
            (b"*1\r\n$\r\n", length),
            (b"*1\r\n$00\r\n", length),
            (b"*1\r\n$0000000005\r\n", length),
            (b"*1\r\n$536870913\r\n", length),
            (b"*1\r\n$99999999999\r\n", length),
            (b"*1\r\n+PING\r\n", "ERR Protocol error: expected '$', got '+'"),
            (b"*1\r\n\r\n", "ERR Protocol error: expected '$', got ' '"),
            (b"*1\r\n\xff\r\n", "ERR Protocol error: expected '$', got '\u{fffd}'"),
            (b"a 'b\r\n", unbalanced),
            (b"a \"b\r\n", unbalanced),
            (b"a \"b\\\r\n", unbalanced),
            (b"a \"b\"c\r\n", unbalanced),
            (b"a 'b'c\r\n", unbalanced),
            (b"a 'b'\"c\"\r\n", unbalanced),
            (
                &[b"*", &long[..]].concat(),
                "ERR Protocol error: too big mbulk count string",
            ),
            (
                &[b"*1\r\n$", &long[..]].concat(),
                "ERR Protocol error: too big bulk count string",
            ),
            (
                &[b"*1\r\n+", &long[..]].concat(),
                "ERR Protocol error: too big bulk count string",
            ),
            (
                &[b"a", &long[..]].concat(),
                "ERR Protocol error: too big inline request",
            ),
            (
                &[b"a\0\n", &long[..]].concat(),
                "ERR Protocol error: too big inline request",
            ),
        ];
        for (stream, text) in cases {
            assert_eq!(
                error_text(stream, &LIMITS),
                text,
                "{}",
                stream[..stream.len().min(40)].escape_ascii()
            );
        }
    }

    #[test]
    fn what_is_not_yet_an_error() {
        let long = [b'1'; limits::REQUEST_LINE_BYTES_MAX - 1];
        let waiting: [&[u8]; 11] = [
            b"*1\r",
            b"*1\r\nx",
            b"*1\r\nxx\r",
            b"*2147483647\r\n",
            b"*1\r\n$536870912\r\n",
            b"a\0b\r\n",
            b"*1\r\n\0abc\r\n",
            b"PING\r",
            &[b"*", &long[..]].concat(),
            &[b"*1\r\n$", &long[..]].concat(),
            &[b"a", &long[..]].concat(),
        ];
        for stream in waiting {
            assert_eq!(
                whole(stream),
                (vec![], None),
                "{}",
                stream[..stream.len().min(40)].escape_ascii()
            );
        }
    }

    #[test]
    fn little_before_authentication() {
        assert_eq!(
            error_text(b"*11\r\n", &PENDING),
            "ERR Protocol error: unauthenticated multibulk length"
        );
        assert_eq!(
            error_text(b"*999999999999\r\n", &PENDING),
            "ERR Protocol error: invalid multibulk length"
        );
        assert_eq!(
            error_text(b"*1\r\n$16385\r\n", &PENDING),
            "ERR Protocol error: unauthenticated bulk length"
        );
        assert_eq!(error_text(b"*10\r\n$16384\r\n", &PENDING), "none");
        let unbounded = RequestLimits {
            bulk_bytes_max: u64::MAX,
            ..LIMITS
        };
        assert_eq!(error_text(b"*1\r\n$9223372036854775807\r\n", &unbounded), "none");
    }

    #[test]
    fn an_announced_count_costs_no_memory() {
        let mut parser = RequestParser::new();
        parser.next(b"*2147483647\r\n", &LIMITS).expect("a valid count");
        assert!(parser.memory_bytes() <= 2 * limits::REQUEST_ARGS_RESERVED_MAX * size_of::<Span>());
    }

    #[test]
    fn a_large_request_is_forgotten() {
        let mut parser = RequestParser::new();
        let args = vec!["x"; 100_000];
        let mut stream = Vec::new();
        OwnedArgs::from_slices(&args).as_args().encode_resp(&mut stream);
        assert_eq!(
            parser.next(&stream, &LIMITS),
            Ok(Step::Request { consumed: stream.len() })
        );
        assert!(parser.memory_bytes() > 1_000_000);
        parser.next(b"*1\r\n$4\r\nPING\r\n", &LIMITS).expect("a valid request");
        assert!(parser.memory_bytes() < 50_000);
    }

    fn commands() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
        prop::collection::vec(
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..5),
            1..6,
        )
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_commands(
            commands in commands(),
            inline in prop::collection::vec(any::<bool>(), 6),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        ) {
            let mut stream = Vec::new();
            let owned: Vec<OwnedArgs> = commands.iter().map(|args| OwnedArgs::from_slices(args)).collect();
            for (args, &is_inline) in owned.iter().zip(&inline) {
                if is_inline {
                    // All bytes escaped: the longest way through the quotes.
                    for arg in args.as_args().iter() {
                        stream.extend_from_slice(b" \"");
                        for byte in arg {
                            stream.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
                        }
                        stream.push(b'"');
                    }
                    stream.extend_from_slice(b"\r\n");
                } else {
                    args.as_args().encode_resp(&mut stream);
                }
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
            cuts.sort_unstable();
            prop_assert_eq!(feed(&stream, &cuts, &LIMITS), (owned.clone(), None));
            let every_byte: Vec<usize> = (0..stream.len()).collect();
            prop_assert_eq!(feed(&stream, &every_byte, &LIMITS), (owned, None));
        }

        #[test]
        fn damage_is_found_at_the_same_place_however_it_is_split(
            commands in commands(),
            damage in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"\r\n\0*$-019\"' x\xff".to_vec())), 1..6),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        ) {
            let mut stream = Vec::new();
            for args in &commands {
                OwnedArgs::from_slices(args).as_args().encode_resp(&mut stream);
            }
            for (place, byte) in damage {
                let place = place.index(stream.len());
                stream[place] = byte;
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
            cuts.sort_unstable();
            prop_assert_eq!(feed(&stream, &cuts, &LIMITS), whole(&stream));
        }
    }

    #[test]
    fn what_has_arrived_of_a_request_is_known() {
        let stream = b"*3\r\n$3\r\nSET\r\n$4\r\nname\r\n$10\r\n0123456789\r\n";
        let mut parser = RequestParser::new();
        let mut seen = Vec::new();
        for end in 0..stream.len() {
            let step = parser.next(&stream[..end], &LIMITS);
            assert!(matches!(step, Ok(Step::Incomplete { .. })));
            let known = (
                parser.arrived_bytes(),
                parser.understood_bytes(),
                parser.awaited_bytes(),
            );
            assert_eq!(parser.is_within_request(), known.1 > 0);
            if seen.last() != Some(&known) {
                seen.push(known);
            }
        }
        let whole = stream.len();
        assert_eq!(
            seen,
            [
                (0, 0, 0),
                (0, 4, 0),
                (0, 8, 13),
                (3, 13, 0),
                (3, 17, 23),
                (7, 23, 0),
                (7, 28, whole)
            ]
        );
        let step = parser.next(stream, &LIMITS);
        assert_eq!(step, Ok(Step::Request { consumed: whole }));
        assert!(!parser.is_within_request());
        assert_eq!(
            (
                parser.arrived_bytes(),
                parser.understood_bytes(),
                parser.awaited_bytes()
            ),
            (0, 0, 0)
        );
        parser.give_back();
        assert_eq!(parser.memory_bytes(), 0);
    }
}
