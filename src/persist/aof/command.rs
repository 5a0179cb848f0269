//! The commands of an append-only file, one after the other: RESP arrays of bulk strings, and lines that begin with `#`, which mean
//! nothing to who reads commands.
//!
//! It is what stands in the serial part of a replay, so it makes nothing: it says where the arguments lie. Whether a command is whole it
//! finds out at its end, and begins anew when there is more of it.

use crate::base::limits::REQUEST_ARGS_MAX;
use crate::resp::Span;

/// No annotation is longer, with its line feed; Redis reads a longer one as something else.
pub const ANNOTATION_BYTES_MAX: usize = 1023;

/// What a line before arguments may have, with its end: a mark, a number, CR and LF.
const COUNT_LINE_BYTES_MAX: usize = 32;

/// What stands next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A command, up to there.
    Command { end: usize },
    /// A line to be passed over.
    Annotation { end: usize },
    /// The bytes end within something.
    CutShort,
}

/// What is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Malformed {
    /// Where.
    pub at: usize,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum What {
    #[error("Expected prefix '{expected}', got: '{got}'", expected = .expected.escape_ascii(), got = .got.escape_ascii())]
    Mark { expected: u8, got: u8 },
    #[error("a number is expected here")]
    Number,
    #[error("Expected \\r\\n")]
    LineEnd,
    #[error("the annotation is too long")]
    Annotation,
}

/// Looks at what begins at `at`, and notes where the arguments of a command lie: in `spans`, whose content it replaces.
pub fn next(bytes: &[u8], at: usize, spans: &mut Vec<Span>) -> Result<Next, Malformed> {
    spans.clear();
    match bytes.get(at) {
        None => return Ok(Next::CutShort),
        Some(b'#') => return annotation(bytes, at),
        Some(_) => {}
    }
    let Some((count, mut position)) = count_line(bytes, at, b'*')? else {
        return Ok(Next::CutShort);
    };
    if count == 0 || count as u64 > REQUEST_ARGS_MAX {
        return Err(Malformed { at, what: What::Number });
    }
    for _ in 0..count {
        let Some((length, start)) = count_line(bytes, position, b'$')? else {
            return Ok(Next::CutShort);
        };
        let Some(end) = start
            .checked_add(length)
            .filter(|end| *end < bytes.len().saturating_sub(1))
        else {
            return Ok(Next::CutShort);
        };
        if bytes[end..end + 2] != *b"\r\n" {
            return Err(Malformed {
                at: end,
                what: What::LineEnd,
            });
        }
        spans.push(Span { start, end });
        position = end + 2;
    }
    Ok(Next::Command { end: position })
}

fn annotation(bytes: &[u8], at: usize) -> Result<Next, Malformed> {
    let window = &bytes[at..bytes.len().min(at + ANNOTATION_BYTES_MAX)];
    match memchr::memchr(b'\n', window) {
        Some(feed) => Ok(Next::Annotation { end: at + feed + 1 }),
        None if window.len() < ANNOTATION_BYTES_MAX => Ok(Next::CutShort),
        None => Err(Malformed {
            at,
            what: What::Annotation,
        }),
    }
}

/// Reads `*12\r\n` or `$12\r\n`: the number, and where the line ends.
#[inline]
fn count_line(bytes: &[u8], at: usize, mark: u8) -> Result<Option<(usize, usize)>, Malformed> {
    match bytes.get(at) {
        None => return Ok(None),
        Some(&got) if got != mark => {
            let what = What::Mark { expected: mark, got };
            return Err(Malformed { at, what });
        }
        Some(_) => {}
    }
    let (mut number, mut position) = (0_usize, at + 1);
    let limit = at + COUNT_LINE_BYTES_MAX;
    loop {
        match bytes.get(position) {
            None => return Ok(None),
            Some(&digit @ b'0'..=b'9') if position < limit => {
                number = number.saturating_mul(10).saturating_add(usize::from(digit - b'0'));
            }
            Some(b'\r') if position > at + 1 => break,
            Some(_) => {
                return Err(Malformed {
                    at: position,
                    what: What::Number,
                });
            }
        }
        position += 1;
    }
    match bytes.get(position + 1) {
        None => Ok(None),
        Some(b'\n') => Ok(Some((number, position + 2))),
        Some(_) => Err(Malformed {
            at: position,
            what: What::LineEnd,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{Args, OwnedArgs};
    use proptest::prelude::*;

    fn fault(bytes: &[u8]) -> String {
        let malformed = next(bytes, 0, &mut Vec::new()).unwrap_err();
        format!("{}: {malformed}", malformed.at)
    }

    #[test]
    fn what_is_no_command_is_named() {
        assert_eq!(fault(b"+OK\r\n"), "0: Expected prefix '*', got: '+'");
        assert_eq!(fault(b"*x\r\n"), "1: a number is expected here");
        assert_eq!(fault(b"*\r\n"), "1: a number is expected here");
        assert_eq!(fault(b"*0\r\n"), "0: a number is expected here");
        assert_eq!(fault(b"*-1\r\n"), "1: a number is expected here");
        assert_eq!(fault(b"*1\r\n:1\r\n"), "4: Expected prefix '$', got: ':'");
        assert_eq!(fault(b"*1\r\n$1\r\nabc"), "9: Expected \\r\\n");
        assert_eq!(fault(b"*1\rx"), "2: Expected \\r\\n");
        assert_eq!(fault(&[b'#'; ANNOTATION_BYTES_MAX]), "0: the annotation is too long");
        let zeros = format!("*{}1\r\n", "0".repeat(COUNT_LINE_BYTES_MAX));
        assert!(fault(zeros.as_bytes()).ends_with("a number is expected here"));
    }

    #[test]
    fn a_length_that_nothing_can_have_is_one_that_is_not_there_yet() {
        let bytes = b"*1\r\n$99999999999999999999\r\nabc\r\n";
        assert_eq!(next(bytes, 0, &mut Vec::new()), Ok(Next::CutShort));
    }

    proptest! {
        #[test]
        fn commands_are_found_whole_or_cut_short(
            commands in proptest::collection::vec(proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 1..5), 1..5),
            annotated in any::<u8>(),
        ) {
            let (mut bytes, mut ends) = (Vec::new(), vec![0]);
            for (index, command) in commands.iter().enumerate() {
                if annotated >> index & 1 > 0 {
                    bytes.extend_from_slice(b"#TS:1\r\n");
                    ends.push(bytes.len());
                }
                OwnedArgs::from_slices(command).as_args().encode_resp(&mut bytes);
                ends.push(bytes.len());
            }
            for length in 0..=bytes.len() {
                let (mut at, mut found, mut spans) = (0, Vec::new(), Vec::new());
                let cut = &bytes[..length];
                loop {
                    match next(cut, at, &mut spans).unwrap() {
                        Next::CutShort => break,
                        Next::Annotation { end } => at = end,
                        Next::Command { end } => {
                            found.push(Args::new(cut, &spans).iter().map(<[u8]>::to_vec).collect::<Vec<_>>());
                            at = end;
                        }
                    }
                }
                prop_assert_eq!(at, *ends.iter().rfind(|end| **end <= length).unwrap());
                prop_assert_eq!(&found[..], &commands[..found.len()]);
            }
        }

        #[test]
        fn strangers_bytes_do_no_harm(bytes in "([*$#][0-9]{0,3}(\r\n)?|[a-z]{1,3}(\r\n)?){0,9}") {
            let (bytes, mut spans) = (bytes.as_bytes(), Vec::new());
            if let Ok(Next::Command { end } | Next::Annotation { end }) = next(bytes, 0, &mut spans) {
                prop_assert!(end <= bytes.len() && end > 0);
                prop_assert!(spans.iter().all(|span| span.end <= end));
            }
        }
    }
}
