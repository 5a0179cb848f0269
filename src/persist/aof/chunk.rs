//! A chunk of an annotated increment: what one pass of a shard has logged, behind a line that says what it is.
//!
//! ```text
//! #shardis n=17 t=23 o=1042-1101 len=59 crc=7d9a40d5c1a0be33 b=0\r\n
//! *3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n ...                          (59 bytes)
//! ```
//!
//! | field | what |
//! |---|---|
//! | `n` | the log number: dense over all increments of one life |
//! | `t` | the turn |
//! | `o` | the offsets in the stream: the first byte, and the first behind |
//! | `len` | how many bytes of commands follow |
//! | `crc` | CRC-64 over where the chunk belongs ([`Place`]), the line before this field, the commands, and the line behind this field |
//! | `b` | 1: the chunk is *broad*: it concerns slots of other shards, or no slots (FLUSHALL) |
//!
//! The line is shorter than what Redis's readers skip (1023 bytes). A chunk that was copied into another increment, of another shard or
//! another life, has a wrong checksum there; so has one of which anything was changed, the line included.
//!
//! What is read may be torn or a stranger's: nothing is taken from the line before the checksum has been compared, but for the length, and
//! that is compared with what is there.

use crate::base::crc64::crc64;
use std::fmt::Write;
use std::ops::Range;

/// What an annotation begins with.
pub const MARK: &[u8] = b"#shardis ";

/// No annotation is longer, with its line break; and no comment that Redis skips.
pub const LINE_BYTES_MAX: usize = 1023;

/// Five numbers of up to 20 digits, a checksum and a flag, with their names.
const LINE_CAPACITY: usize = 192;

/// Where an increment stands among those that were begun with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub shard: u16,
    /// How many there are.
    pub shards: u16,
    /// The log number with which its process began: no chunk of that life has a lower one.
    pub life: u64,
}

/// What an annotation says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub number: u64,
    pub turn: u64,
    pub offsets: Range<u64>,
    /// Whether it concerns slots of other shards, or none.
    pub is_broad: bool,
}

/// A chunk that is whole, in the bytes that begin with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub head: Head,
    /// Bytes of the line, and of the commands behind it.
    pub line_bytes: usize,
    pub commands_bytes: usize,
}

impl Found {
    /// Where in these bytes the commands are.
    pub fn commands(&self) -> Range<usize> {
        self.line_bytes..self.bytes()
    }

    /// Bytes of the whole chunk.
    pub fn bytes(&self) -> usize {
        self.line_bytes + self.commands_bytes
    }
}

/// Why bytes do not begin with a whole chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the annotation is cut off")]
    TornLine,
    #[error("the chunk is cut off: {missing_bytes} bytes are missing")]
    Torn { missing_bytes: u64 },
    #[error("there is no annotation where one is expected")]
    NoAnnotation,
    #[error("the annotation is not understood")]
    Malformed,
    #[error("the checksum is wrong: {found:016x} was written, {computed:016x} is what there is")]
    Checksum { found: u64, computed: u64 },
}

/// What the line alone says, before the checksum has been compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    head: Head,
    pub line_bytes: usize,
    pub commands_bytes: u64,
    checksum: u64,
    /// What of the line is checked before the commands, and what behind them.
    before: usize,
    behind: usize,
}

impl Place {
    /// What the checksums of its chunks begin with.
    fn seed(self) -> u64 {
        let mut bytes = [0; 12];
        bytes[..2].copy_from_slice(&self.shard.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.shards.to_le_bytes());
        bytes[4..].copy_from_slice(&self.life.to_le_bytes());
        // (From 0 a row of zeros would leave 0.)
        crc64(1, &bytes)
    }
}

/// Appends a chunk: the annotation, and the commands, which may lie in several pieces.
pub fn encode(place: Place, head: &Head, commands: &[&[u8]], out: &mut Vec<u8>) {
    let commands_bytes: usize = commands.iter().map(|piece| piece.len()).sum();
    out.reserve(LINE_CAPACITY + commands_bytes);
    let begin = out.len();
    let Head {
        number, turn, offsets, ..
    } = head;
    let mut line = Line(out);
    let (start, end) = (offsets.start, offsets.end);
    let written = write!(
        line,
        "#shardis n={number} t={turn} o={start}-{end} len={commands_bytes}"
    );
    written.expect("a buffer takes everything");
    let behind: &[u8] = if head.is_broad { b" b=1\r\n" } else { b" b=0\r\n" };
    let mut checksum = crc64(place.seed(), &out[begin..]);
    for piece in commands {
        checksum = crc64(checksum, piece);
    }
    checksum = crc64(checksum, behind);
    write!(Line(out), " crc={checksum:016x}").expect("a buffer takes everything");
    out.extend_from_slice(behind);
    for piece in commands {
        out.extend_from_slice(piece);
    }
}

/// Text into bytes.
struct Line<'a>(&'a mut Vec<u8>);

impl Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// Reads the annotation with which these bytes begin. They may end in it ([`Fault::TornLine`]) or behind it.
pub fn read_line(bytes: &[u8]) -> Result<Claim, Fault> {
    let common = bytes.len().min(MARK.len());
    if bytes[..common] != MARK[..common] {
        return Err(Fault::NoAnnotation);
    }
    let window = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(feed) = memchr::memchr(b'\n', window) else {
        return Err(match bytes.len() < LINE_BYTES_MAX {
            true => Fault::TornLine,
            false => Fault::Malformed,
        });
    };
    let line_bytes = feed + 1;
    claim_of(&bytes[..line_bytes]).ok_or(Fault::Malformed)
}

fn claim_of(line: &[u8]) -> Option<Claim> {
    let text = std::str::from_utf8(line).ok()?;
    let fields = text.strip_prefix("#shardis ")?.strip_suffix("\r\n")?;
    let mut fields = fields.split(' ');
    let mut field = |name: &str| fields.next()?.strip_prefix(name)?.strip_prefix('=');
    let number = decimal(field("n")?)?;
    let turn = decimal(field("t")?)?;
    let (start, end) = field("o")?.split_once('-')?;
    let offsets = decimal(start)?..decimal(end)?;
    let commands_bytes = decimal(field("len")?)?;
    let crc = field("crc")?;
    let is_hexadecimal = crc.len() == 16 && crc.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let checksum = u64::from_str_radix(crc, 16).ok().filter(|_| is_hexadecimal)?;
    let is_broad = match field("b")? {
        "0" => false,
        "1" => true,
        _ => return None,
    };
    if fields.next().is_some() || offsets.start > offsets.end {
        return None;
    }
    let behind = line.len() - " b=0\r\n".len();
    Some(Claim {
        head: Head {
            number,
            turn,
            offsets,
            is_broad,
        },
        line_bytes: line.len(),
        commands_bytes,
        checksum,
        before: behind - " crc=0123456789abcdef".len(),
        behind,
    })
}

/// A number as it is written, without anything around it.
fn decimal(digits: &str) -> Option<u64> {
    let is_canonical = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|_| is_canonical)
}

impl Claim {
    /// Compares the checksum. The line is the one from which the claim was read, the commands are as many bytes as it says.
    pub fn verify(self, place: Place, line: &[u8], commands: &[u8]) -> Result<Head, Fault> {
        debug_assert!(line.len() == self.line_bytes && commands.len() as u64 == self.commands_bytes);
        let computed = crc64(place.seed(), &line[..self.before]);
        let computed = crc64(crc64(computed, commands), &line[self.behind..]);
        match computed == self.checksum {
            true => Ok(self.head),
            false => Err(Fault::Checksum {
                found: self.checksum,
                computed,
            }),
        }
    }

    /// The number that it claims to have: for messages about a chunk that is damaged.
    pub fn claimed_number(&self) -> u64 {
        self.head.number
    }
}

/// Reads the chunk with which these bytes begin, and compares its checksum.
pub fn decode(place: Place, bytes: &[u8]) -> Result<Found, Fault> {
    let claim = read_line(bytes)?;
    let line_bytes = claim.line_bytes;
    let there = (bytes.len() - line_bytes) as u64;
    if there < claim.commands_bytes {
        return Err(Fault::Torn {
            missing_bytes: claim.commands_bytes - there,
        });
    }
    let commands_bytes = claim.commands_bytes as usize;
    let (line, behind) = bytes.split_at(line_bytes);
    let head = claim.verify(place, line, &behind[..commands_bytes])?;
    Ok(Found {
        head,
        line_bytes,
        commands_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLACE: Place = Place {
        shard: 1,
        shards: 3,
        life: 40,
    };

    fn head(number: u64) -> Head {
        Head {
            number,
            turn: number + 5,
            offsets: 100..159,
            is_broad: false,
        }
    }

    fn encoded(place: Place, head: &Head, commands: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(place, head, &[commands], &mut bytes);
        bytes
    }

    #[test]
    fn the_line_is_as_documented() {
        let bytes = encoded(PLACE, &head(42), b"*1\r\n$4\r\nPING\r\n");
        let text = String::from_utf8(bytes).unwrap();
        let (line, commands) = text.split_once("\r\n").unwrap();
        let (before, behind) = line.split_once(" crc=").unwrap();
        assert_eq!(before, "#shardis n=42 t=47 o=100-159 len=14");
        // By the definition of the checksum, bit by bit: files of today are read tomorrow.
        assert_eq!(behind, "d63aed93ef1c70a7 b=0");
        assert_eq!(commands, "*1\r\n$4\r\nPING\r\n");
    }

    #[test]
    fn a_chunk_belongs_where_it_was_written() {
        let bytes = encoded(PLACE, &head(42), b"abc");
        assert!(decode(PLACE, &bytes).is_ok());
        let elsewhere = [
            Place { shard: 2, ..PLACE },
            Place { shards: 4, ..PLACE },
            Place { life: 41, ..PLACE },
        ];
        for place in elsewhere {
            let found = decode(place, &bytes);
            assert!(matches!(found, Err(Fault::Checksum { .. })), "{place:?}: {found:?}");
        }
    }

    #[test]
    fn what_is_no_annotation_is_named() {
        let fault = |bytes: &[u8]| decode(PLACE, bytes).unwrap_err();
        assert_eq!(fault(b""), Fault::TornLine);
        assert_eq!(fault(b"#shard"), Fault::TornLine);
        assert_eq!(fault(b"#TS:1234\r\n"), Fault::NoAnnotation);
        assert_eq!(fault(b"*1\r\n$4\r\nPING\r\n"), Fault::NoAnnotation);
        assert_eq!(fault(b"#shardis n=1\r\n"), Fault::Malformed);
        let mut endless = MARK.to_vec();
        endless.resize(LINE_BYTES_MAX, b'1');
        assert_eq!(fault(&endless[..LINE_BYTES_MAX - 1]), Fault::TornLine);
        assert_eq!(fault(&endless), Fault::Malformed);
        let whole = encoded(PLACE, &head(1), b"abc");
        let text = String::from_utf8(whole).unwrap();
        for (from, to) in [
            ("n=1", "n=01"),
            ("n=1", "n=+1"),
            ("o=100-159", "o=159-100"),
            ("b=0", "b=2"),
            (" t=", "  t="),
        ] {
            assert_eq!(fault(text.replace(from, to).as_bytes()), Fault::Malformed, "{to}");
        }
        let huge = "#shardis n=1 t=1 o=0-0 len=18446744073709551615 crc=0000000000000000 b=0\r\n";
        assert_eq!(
            fault(huge.as_bytes()),
            Fault::Torn {
                missing_bytes: u64::MAX
            }
        );
    }

    #[test]
    fn the_longest_line_is_one_that_others_skip() {
        let head = Head {
            number: u64::MAX,
            turn: u64::MAX,
            offsets: u64::MAX..u64::MAX,
            is_broad: true,
        };
        let mut bytes = Vec::new();
        encode(PLACE, &head, &[], &mut bytes);
        assert!(
            bytes.len() < LINE_CAPACITY && LINE_CAPACITY < LINE_BYTES_MAX,
            "{}",
            bytes.len()
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            numbers in any::<(u64, u64, u64, u16)>(),
            is_broad in any::<bool>(),
            commands in proptest::collection::vec(any::<u8>(), 0..200),
            cut in any::<prop::sample::Index>(),
            change in any::<(prop::sample::Index, std::num::NonZeroU8)>(),
            behind in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let (number, turn, start, bytes) = numbers;
            let start = start / 2;
            let head = Head { number, turn, offsets: start..start + u64::from(bytes), is_broad };
            let (first, second) = commands.split_at(cut.index(commands.len() + 1));
            let mut whole = Vec::new();
            encode(PLACE, &head, &[first, second], &mut whole);
            let length = whole.len();
            whole.extend(&behind);
            let found = decode(PLACE, &whole).unwrap();
            prop_assert_eq!(&found.head, &head);
            prop_assert_eq!(&whole[found.commands()], &commands[..]);
            prop_assert_eq!(found.bytes(), length);
            // Whatever is missing, and whatever is changed, it is seen.
            let shorter = cut.index(length);
            let fault = decode(PLACE, &whole[..shorter]).unwrap_err();
            prop_assert!(matches!(fault, Fault::Torn { .. } | Fault::TornLine), "{:?}", fault);
            let mut altered = whole[..length].to_vec();
            altered[change.0.index(length)] ^= change.1.get();
            prop_assert!(decode(PLACE, &altered).is_err());
        }

        #[test]
        fn strangers_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..80), is_marked in any::<bool>()) {
            let mut whole = if is_marked { MARK.to_vec() } else { Vec::new() };
            whole.extend(bytes);
            prop_assert!(decode(PLACE, &whole).is_err());
        }
    }
}
