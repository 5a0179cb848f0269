//! Counts replies in a stream of bytes, in RESP2 and RESP3, without building them.
//!
//! The generator must be cheaper than the server that it measures, so it wants to know one thing of a reply: where it
//! ends. A parser would allocate arrays and strings for this; the scanner keeps three integers and skips.
//!
//! ```text
//!              +-- '+' '-' ':' '_' ',' '#' '(' --> Line --------------------+
//!              |                                                            |
//!   Type ------+-- '$' '=' '!' ------------------> Length --> Body ---------+--> one element less is missing
//!    ^         |                                     |                      |
//!    |         +-- '*' '~' '>' '%' '|' ------------> Length (n more) -------+
//!    +----------------------------------------------------------------------+
//! ```
//!
//! Nesting needs no stack: a reply is complete when no element is missing, and an aggregate of `n` elements turns one
//! missing element into `n`. An attribute (`|`) of `n` pairs adds `2n` and stands for nothing itself.
//!
//! Invariants:
//! 1. What is reported does not depend on how the bytes were cut into pieces.
//! 2. A push (`>`) is no reply to a request and is never reported.
//! 3. An error is reported before the reply that it is in, wherever it is nested.
//!
//! Format: the RESP specification of the Redis documentation ("Redis serialization protocol specification"). Streamed
//! strings and aggregates (`$?`, `*?`) are not sent by any server of this family and count as malformed.

use thiserror::Error;

/// What the scanner reports.
pub trait ReplySink {
    /// An error reply, or an error inside an aggregate, without its type byte and line end; cut to
    /// [`ERROR_TEXT_BYTES_MAX`].
    fn error(&mut self, text: &[u8]);
    /// One reply is complete.
    fn reply(&mut self);
}

/// The peer has sent something that is not RESP.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum MalformedReply {
    /// A reply begins with a byte that is no type.
    #[error("a reply begins with byte {0:#04x}, which is no RESP type")]
    Type(u8),
    /// The length of a string or aggregate is not a number.
    #[error("the length of a reply contains byte {0:#04x}")]
    Length(u8),
}

/// As much of an error's text as is kept. A MOVED redirection with the longest host name (253 bytes) fits.
pub const ERROR_TEXT_BYTES_MAX: usize = 320;

/// Where in a reply the stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a type byte.
    Type,
    /// Inside a line whose text does not matter.
    Line,
    /// Inside the line of a simple error.
    ErrorLine,
    /// Inside the decimal length that follows `kind`.
    Length { kind: u8, value: u64, is_negative: bool },
    /// Inside a bulk string or its line end.
    Body { rest: usize, is_error: bool },
}

/// The scanner's state between two pieces of a stream.
#[derive(Debug)]
pub struct ReplyScanner {
    state: State,
    /// Elements still to come before the current reply is complete.
    missing: u64,
    is_push: bool,
    error_text: Vec<u8>,
}

impl Default for ReplyScanner {
    fn default() -> Self {
        ReplyScanner::new()
    }
}

impl ReplyScanner {
    /// A scanner at the beginning of a stream.
    pub fn new() -> ReplyScanner {
        ReplyScanner {
            state: State::Type,
            missing: 1,
            is_push: false,
            error_text: Vec::new(),
        }
    }

    /// Reads one more piece of the stream and reports what it completes.
    pub fn feed(&mut self, bytes: &[u8], sink: &mut impl ReplySink) -> Result<(), MalformedReply> {
        let mut at = 0;
        while at < bytes.len() {
            match self.state {
                State::Type => {
                    let kind = bytes[at];
                    at += 1;
                    self.state = match kind {
                        b'+' | b':' | b'_' | b',' | b'#' | b'(' => State::Line,
                        b'-' => {
                            self.error_text.clear();
                            State::ErrorLine
                        }
                        b'$' | b'=' | b'!' | b'*' | b'~' | b'>' | b'%' | b'|' => State::Length {
                            kind,
                            value: 0,
                            is_negative: false,
                        },
                        other => return Err(MalformedReply::Type(other)),
                    };
                }
                State::Line => match memchr::memchr(b'\n', &bytes[at..]) {
                    Some(length) => {
                        at += length + 1;
                        self.element_done(sink);
                    }
                    None => return Ok(()),
                },
                State::ErrorLine => match memchr::memchr(b'\n', &bytes[at..]) {
                    Some(length) => {
                        self.keep_error_text(&bytes[at..at + length]);
                        if self.error_text.last() == Some(&b'\r') {
                            self.error_text.pop();
                        }
                        sink.error(&self.error_text);
                        at += length + 1;
                        self.element_done(sink);
                    }
                    None => {
                        self.keep_error_text(&bytes[at..]);
                        return Ok(());
                    }
                },
                State::Length {
                    kind,
                    mut value,
                    mut is_negative,
                } => loop {
                    // The loop keeps the number in registers: lengths are the bulk of what is not skipped.
                    let Some(&byte) = bytes.get(at) else {
                        self.state = State::Length {
                            kind,
                            value,
                            is_negative,
                        };
                        return Ok(());
                    };
                    at += 1;
                    match byte {
                        b'0'..=b'9' => {
                            value = value.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
                        }
                        b'\n' => {
                            let length = if is_negative { None } else { Some(value) };
                            self.length_done(kind, length, sink);
                            break;
                        }
                        b'\r' => {}
                        b'-' => is_negative = true,
                        other => return Err(MalformedReply::Length(other)),
                    }
                },
                State::Body { rest, is_error } => {
                    let piece = rest.min(bytes.len() - at);
                    if is_error {
                        // The last two bytes of the body are its line end.
                        let text_bytes = piece.min(rest.saturating_sub(2));
                        self.keep_error_text(&bytes[at..at + text_bytes]);
                    }
                    at += piece;
                    if piece == rest {
                        if is_error {
                            sink.error(&self.error_text);
                        }
                        self.element_done(sink);
                    } else {
                        self.state = State::Body {
                            rest: rest - piece,
                            is_error,
                        };
                    }
                }
            }
        }
        Ok(())
    }

    fn keep_error_text(&mut self, text: &[u8]) {
        let room = ERROR_TEXT_BYTES_MAX - self.error_text.len();
        self.error_text.extend_from_slice(&text[..text.len().min(room)]);
    }

    /// A length has been read; `None` is the null of RESP2.
    fn length_done(&mut self, kind: u8, length: Option<u64>, sink: &mut impl ReplySink) {
        let Some(length) = length else {
            self.element_done(sink);
            return;
        };
        match kind {
            b'$' | b'=' | b'!' => {
                let is_error = kind == b'!';
                if is_error {
                    self.error_text.clear();
                }
                self.state = State::Body {
                    rest: usize::try_from(length.saturating_add(2)).unwrap_or(usize::MAX),
                    is_error,
                };
            }
            b'|' => {
                self.missing = self.missing.saturating_add(length.saturating_mul(2));
                self.state = State::Type;
            }
            _ => {
                let element_count = if kind == b'%' { length.saturating_mul(2) } else { length };
                if kind == b'>' {
                    self.is_push = true;
                }
                self.missing = self.missing.saturating_add(element_count);
                self.element_done(sink);
            }
        }
    }

    #[inline]
    fn element_done(&mut self, sink: &mut impl ReplySink) {
        self.state = State::Type;
        self.missing -= 1;
        if self.missing == 0 {
            self.missing = 1;
            if self.is_push {
                self.is_push = false;
            } else {
                sink.reply();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Default, Debug, PartialEq)]
    struct Counted {
        replies: usize,
        errors: Vec<Vec<u8>>,
    }

    impl ReplySink for Counted {
        fn error(&mut self, text: &[u8]) {
            self.errors.push(text.to_vec());
        }
        fn reply(&mut self) {
            self.replies += 1;
        }
    }

    fn scan(pieces: &[&[u8]]) -> Result<Counted, MalformedReply> {
        let mut scanner = ReplyScanner::new();
        let mut counted = Counted::default();
        for piece in pieces {
            scanner.feed(piece, &mut counted)?;
        }
        Ok(counted)
    }

    #[test]
    fn every_type_is_one_reply() {
        for reply in [
            "+OK\r\n",
            "-ERR no\r\n",
            ":-12\r\n",
            "$0\r\n\r\n",
            "$-1\r\n",
            "$5\r\na\r\nb\n\r\n",
            "*0\r\n",
            "*-1\r\n",
            "*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
            "_\r\n",
            ",1.5\r\n",
            ",inf\r\n",
            "#t\r\n",
            "(123456789012345678901234567890\r\n",
            "!5\r\nERR x\r\n",
            "=7\r\ntxt:abc\r\n",
            "%1\r\n+a\r\n%1\r\n:1\r\n:2\r\n",
            "~3\r\n:1\r\n:2\r\n:3\r\n",
            "|1\r\n+ttl\r\n:1\r\n+OK\r\n",
            "*2\r\n|1\r\n+k\r\n*1\r\n:1\r\n:1\r\n:2\r\n",
        ] {
            assert_eq!(scan(&[reply.as_bytes()]).unwrap().replies, 1, "{reply:?}");
        }
    }

    #[test]
    fn pushes_are_skipped() {
        let stream = b">2\r\n+invalidate\r\n*1\r\n+k\r\n+OK\r\n>3\r\n+message\r\n+c\r\n+m\r\n:1\r\n";
        assert_eq!(scan(&[stream]).unwrap().replies, 2);
    }

    #[test]
    fn errors_keep_their_text_wherever_they_are() {
        let counted = scan(&[b"-ERR one\r\n!7\r\nERR two\r\n*2\r\n-ERR three\r\n+OK\r\n"]).unwrap();
        assert_eq!(counted.replies, 3);
        assert_eq!(
            counted.errors,
            [&b"ERR one"[..], b"ERR two", b"ERR three"].map(<[u8]>::to_vec)
        );
        let long = [b"-".as_slice(), &[b'x'; 1000], b"\r\n"].concat();
        let counted = scan(&[&long]).unwrap();
        assert_eq!(counted.errors[0].len(), ERROR_TEXT_BYTES_MAX);
    }

    #[test]
    fn garbage_is_refused() {
        assert_eq!(scan(&[b"HTTP/1.1"]), Err(MalformedReply::Type(b'H')));
        assert_eq!(scan(&[b"$1x\r\n"]), Err(MalformedReply::Length(b'x')));
        assert_eq!(scan(&[b"*?\r\n"]), Err(MalformedReply::Length(b'?')));
    }

    /// A random reply together with the number of errors in it.
    fn any_reply() -> impl Strategy<Value = (Vec<u8>, usize)> {
        let leaf = prop_oneof![
            "[a-z ]{0,20}".prop_map(|text| (format!("+{text}\r\n").into_bytes(), 0)),
            "[A-Z]{1,8} [a-z ]{0,20}".prop_map(|text| (format!("-{text}\r\n").into_bytes(), 1)),
            any::<i64>().prop_map(|number| (format!(":{number}\r\n").into_bytes(), 0)),
            Just((b"$-1\r\n".to_vec(), 0)),
            Just((b"_\r\n".to_vec(), 0)),
            proptest::collection::vec(any::<u8>(), 0..60).prop_map(|body| (bulk(b'$', &body), 0)),
            proptest::collection::vec(any::<u8>(), 0..60).prop_map(|body| (bulk(b'!', &body), 1)),
        ];
        leaf.prop_recursive(3, 40, 6, |inner| {
            (
                prop_oneof![Just(b'*'), Just(b'~'), Just(b'%')],
                proptest::collection::vec(inner, 0..6),
            )
                .prop_map(|(kind, mut elements)| {
                    if kind == b'%' && elements.len() % 2 == 1 {
                        elements.pop();
                    }
                    let count = if kind == b'%' {
                        elements.len() / 2
                    } else {
                        elements.len()
                    };
                    let mut bytes = vec![kind];
                    bytes.extend_from_slice(format!("{count}\r\n").as_bytes());
                    let errors = elements.iter().map(|(_, errors)| errors).sum();
                    elements
                        .iter()
                        .for_each(|(element, _)| bytes.extend_from_slice(element));
                    (bytes, errors)
                })
        })
    }

    fn bulk(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.extend_from_slice(format!("{}\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(b"\r\n");
        bytes
    }

    proptest! {
        /// Invariant 1, and that the count is right at all.
        #[test]
        fn any_split_gives_the_same_count(
            replies in proptest::collection::vec(any_reply(), 1..12),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let stream: Vec<u8> = replies.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
            let mut bounds: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            bounds.extend([0, stream.len()]);
            bounds.sort_unstable();
            let pieces: Vec<&[u8]> = bounds.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            let whole = scan(&[&stream]).unwrap();
            prop_assert_eq!(whole.replies, replies.len());
            prop_assert_eq!(whole.errors.len(), replies.iter().map(|(_, errors)| errors).sum::<usize>());
            prop_assert_eq!(&scan(&pieces).unwrap(), &whole);
            let single: Vec<&[u8]> = stream.chunks(1).collect();
            prop_assert_eq!(&scan(&single).unwrap(), &whole);
        }
    }
}
