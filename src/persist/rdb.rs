//! The RDB format's primitives.
//!
//! # Lengths
//!
//! ```text
//!  00LLLLLL                               below 64
//!  01LLLLLL LLLLLLLL                      below 16384, big-endian
//!  10000000 <4 bytes, big-endian>         up to 32 bits
//!  10000001 <8 bytes, big-endian>         the rest
//!  11EEEEEE                               no length: a string in the special form E follows
//! ```
//!
//! # Strings
//!
//! ```text
//!  <length> <bytes>
//!  E = 0, 1, 2    an integer of 8, 16, 32 bits, little-endian, that stands for its decimal text
//!  E = 3          LZF: <length compressed> <length of the text> <compressed bytes>
//! ```
//!
//! A writer tries them in Redis's order: a text of at most 11 bytes as an integer, one of more than 20 bytes compressed (if allowed, and
//! if that saves 4 bytes), else as it is. Reading takes any form for any string.

use crate::base::lzf;
use crate::base::numbers::parse_i64;
use crate::data::Damaged;
use std::borrow::Cow;
use std::fmt;

/// The longest text that a 32-bit integer can have, `-2147483648`.
const INTEGER_TEXT_BYTES_MAX: usize = 11;
/// Longer texts are compressed: below, the announcement of two lengths costs what is saved.
const PLAIN_BYTES_MAX: usize = 20;

const FORM_INT8: u8 = 0;
const FORM_INT16: u8 = 1;
const FORM_INT32: u8 = 2;
const FORM_LZF: u8 = 3;
const LENGTH_32: u8 = 0x80;
const LENGTH_64: u8 = 0x81;
const SPECIAL: u8 = 0xc0;

/// What was wrong with bytes that were to be read, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at offset {offset}: {what}")]
pub struct RdbError {
    /// Bytes from the beginning of what was read.
    pub offset: usize,
    pub what: Damage,
}

/// The kinds of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("{wanted} bytes expected, {left} left")]
    CutShort { wanted: u64, left: usize },
    #[error("no length can begin with the byte {0:#04x}")]
    Length(u8),
    #[error("a length expected, a special string found")]
    NotALength,
    #[error("there is no special form {0} of a string")]
    Form(u8),
    #[error("compressed bytes that do not make a text of {0} bytes")]
    Compressed(u64),
    #[error("there is no type of value with the number {0}")]
    Type(u8),
    #[error("The RDB file contains module data I can't load: no matching module type '{0}'")]
    Module(ModuleType),
    #[error("Pre-release function format not supported.")]
    PreReleaseFunction,
    #[error("there is no opcode {0}")]
    Opcode(u8),
    #[error("a value of a module has no part of the kind {0}")]
    ModulePart(u64),
    #[error("a value without elements")]
    Empty,
    #[error("a packed value is damaged: {0}")]
    Packed(Damaged),
    #[error("a list has no nodes of the kind {0}")]
    Node(u64),
    #[error("a packed value with half a pair at its end")]
    HalfPair,
    #[error("an element that is there twice")]
    Twice,
    #[error("a score that is no number")]
    Score,
    #[error("a stream that contradicts itself")]
    Stream,
    #[error("an element that a value of this type cannot take")]
    Element,
}

/// The number by which a module's type is known, and the name that is coded in it: nine letters of six bits each, in front of ten bits
/// for a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModuleType(pub u64);

impl fmt::Display for ModuleType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        for place in (0..9).rev() {
            let letter = LETTERS[(self.0 >> (10 + 6 * place) & 0x3f) as usize];
            write!(f, "{}", char::from(letter))?;
        }
        Ok(())
    }
}

impl Damage {
    /// This damage, found at that offset.
    pub fn at(self, offset: usize) -> RdbError {
        RdbError { offset, what: self }
    }
}

/// Reads from a slice, front to back.
#[derive(Clone, Debug)]
pub struct RdbReader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

/// What stands where a length may stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Head {
    Length(u64),
    Special(u8),
}

impl<'a> RdbReader<'a> {
    pub fn new(bytes: &'a [u8]) -> RdbReader<'a> {
        RdbReader { bytes, offset: 0 }
    }

    /// Begins at an offset within the bytes; errors count from the beginning of them.
    pub fn at(bytes: &'a [u8], offset: usize) -> RdbReader<'a> {
        assert!(offset <= bytes.len(), "an offset beyond the bytes");
        RdbReader { bytes, offset }
    }

    /// Bytes read so far.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Bytes not read yet.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.offset
    }

    /// An error at the present offset.
    pub fn error(&self, what: Damage) -> RdbError {
        RdbError {
            offset: self.offset,
            what,
        }
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: u64) -> Result<&'a [u8], RdbError> {
        let left = self.left();
        let taken = usize::try_from(count).ok().filter(|count| *count <= left);
        let Some(taken) = taken else {
            return Err(self.error(Damage::CutShort { wanted: count, left }));
        };
        let found = &self.bytes[self.offset..][..taken];
        self.offset += taken;
        Ok(found)
    }

    /// The next byte.
    pub fn byte(&mut self) -> Result<u8, RdbError> {
        Ok(self.array::<1>()?[0])
    }

    /// The next bytes, as many as the array has.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], RdbError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64)?);
        Ok(out)
    }

    fn head(&mut self) -> Result<Head, RdbError> {
        let start = self.offset;
        let first = self.byte()?;
        Ok(Head::Length(match first >> 6 {
            0 => u64::from(first),
            1 => u64::from(u16::from_be_bytes([first & 0x3f, self.byte()?])),
            2 => match first {
                LENGTH_32 => u64::from(u32::from_be_bytes(self.array()?)),
                LENGTH_64 => u64::from_be_bytes(self.array()?),
                other => {
                    return Err(RdbError {
                        offset: start,
                        what: Damage::Length(other),
                    });
                }
            },
            _ => return Ok(Head::Special(first & 0x3f)),
        }))
    }

    /// A length.
    pub fn length(&mut self) -> Result<u64, RdbError> {
        let start = self.offset;
        match self.head()? {
            Head::Length(length) => Ok(length),
            Head::Special(_) => Err(RdbError {
                offset: start,
                what: Damage::NotALength,
            }),
        }
    }

    /// A string, whatever its form.
    pub fn string(&mut self) -> Result<Cow<'a, [u8]>, RdbError> {
        let start = self.offset;
        let number = match self.head()? {
            Head::Length(length) => return self.take(length).map(Cow::Borrowed),
            Head::Special(FORM_INT8) => i32::from(i8::from_le_bytes(self.array()?)),
            Head::Special(FORM_INT16) => i32::from(i16::from_le_bytes(self.array()?)),
            Head::Special(FORM_INT32) => i32::from_le_bytes(self.array()?),
            Head::Special(FORM_LZF) => return self.compressed(start),
            Head::Special(other) => {
                return Err(RdbError {
                    offset: start,
                    what: Damage::Form(other),
                });
            }
        };
        Ok(Cow::Owned(itoa::Buffer::new().format(number).as_bytes().to_vec()))
    }

    /// Passes over a string, whatever its form.
    #[inline]
    pub fn skip_string(&mut self) -> Result<(), RdbError> {
        let start = self.offset;
        let bytes = match self.head()? {
            Head::Length(length) => length,
            Head::Special(FORM_INT8) => 1,
            Head::Special(FORM_INT16) => 2,
            Head::Special(FORM_INT32) => 4,
            Head::Special(FORM_LZF) => {
                let compressed_bytes = self.length()?;
                self.length()?;
                compressed_bytes
            }
            Head::Special(other) => return Err(Damage::Form(other).at(start)),
        };
        self.take(bytes)?;
        Ok(())
    }

    fn compressed(&mut self, start: usize) -> Result<Cow<'a, [u8]>, RdbError> {
        let compressed_bytes = self.length()?;
        let text_bytes = self.length()?;
        let compressed = self.take(compressed_bytes)?;
        let text = usize::try_from(text_bytes)
            .ok()
            .and_then(|length| lzf::decompress(compressed, length));
        text.map(Cow::Owned).ok_or(RdbError {
            offset: start,
            what: Damage::Compressed(text_bytes),
        })
    }
}

/// Appends to a buffer.
#[derive(Debug)]
pub struct RdbWriter<'o> {
    out: &'o mut Vec<u8>,
    /// `rdbcompression`
    compresses: bool,
    /// What stands between the type and the value, in a file.
    key: Option<&'o [u8]>,
    kind: u8,
}

impl<'o> RdbWriter<'o> {
    /// Writes behind what is in `out`; `compresses`: long strings in LZF.
    pub fn new(out: &'o mut Vec<u8>, compresses: bool) -> RdbWriter<'o> {
        RdbWriter {
            out,
            compresses,
            key: None,
            kind: 0,
        }
    }

    /// The same for a value that stands with its key.
    pub fn keyed(out: &'o mut Vec<u8>, compresses: bool, key: &'o [u8]) -> RdbWriter<'o> {
        RdbWriter {
            key: Some(key),
            ..RdbWriter::new(out, compresses)
        }
    }

    /// The byte that says what the value is, and the key, if it has one here.
    pub fn kind(&mut self, kind: u8) {
        self.byte(kind);
        self.kind = kind;
        if let Some(key) = self.key {
            self.string(key);
        }
    }

    /// What [`RdbWriter::kind`] was told last.
    pub fn last_kind(&self) -> u8 {
        self.kind
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// One byte.
    pub fn byte(&mut self, byte: u8) {
        self.out.push(byte);
    }

    /// A length.
    pub fn length(&mut self, length: u64) {
        if length < 1 << 6 {
            self.byte(length as u8);
        } else if length < 1 << 14 {
            self.raw(&(0x4000 | length as u16).to_be_bytes());
        } else if let Ok(length) = u32::try_from(length) {
            self.byte(LENGTH_32);
            self.raw(&length.to_be_bytes());
        } else {
            self.byte(LENGTH_64);
            self.raw(&length.to_be_bytes());
        }
    }

    /// A string, in the shortest of its forms that Redis would try.
    pub fn string(&mut self, text: &[u8]) {
        if text.len() <= INTEGER_TEXT_BYTES_MAX
            && let Some(number) = parse_i64(text)
            && self.small_integer(number)
        {
            return;
        }
        if self.compresses
            && text.len() > PLAIN_BYTES_MAX
            && let Some(compressed) = lzf::compress(text)
        {
            self.byte(SPECIAL | FORM_LZF);
            self.length(compressed.len() as u64);
            self.length(text.len() as u64);
            self.raw(&compressed);
            return;
        }
        self.length(text.len() as u64);
        self.raw(text);
    }

    /// A string that is the decimal text of an integer.
    pub fn integer_string(&mut self, number: i64) {
        if !self.small_integer(number) {
            let text = itoa::Buffer::new().format(number).to_owned();
            self.length(text.len() as u64);
            self.raw(text.as_bytes());
        }
    }

    /// Writes the integer in 1, 2 or 4 bytes, if it fits.
    fn small_integer(&mut self, number: i64) -> bool {
        if let Ok(small) = i8::try_from(number) {
            self.byte(SPECIAL | FORM_INT8);
            self.raw(&small.to_le_bytes());
        } else if let Ok(small) = i16::try_from(number) {
            self.byte(SPECIAL | FORM_INT16);
            self.raw(&small.to_le_bytes());
        } else if let Ok(small) = i32::try_from(number) {
            self.byte(SPECIAL | FORM_INT32);
            self.raw(&small.to_le_bytes());
        } else {
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &[u8], compresses: bool) -> Vec<u8> {
        let mut out = Vec::new();
        RdbWriter::new(&mut out, compresses).string(text);
        out
    }

    #[test]
    fn lengths_take_the_shortest_form_and_come_back() {
        for (length, bytes) in [
            (0, &[0u8][..]),
            (63, &[0x3f]),
            (64, &[0x40, 0x40]),
            (16383, &[0x7f, 0xff]),
            (16384, &[0x80, 0, 0, 0x40, 0]),
            (u64::from(u32::MAX), &[0x80, 0xff, 0xff, 0xff, 0xff]),
            (1 << 32, &[0x81, 0, 0, 0, 1, 0, 0, 0, 0]),
        ] {
            let mut out = Vec::new();
            RdbWriter::new(&mut out, true).length(length);
            assert_eq!(out, bytes, "{length}");
            let mut reader = RdbReader::new(&out);
            assert_eq!(reader.length(), Ok(length));
            assert_eq!(reader.left(), 0);
        }
    }

    #[test]
    fn integers_are_kept_as_such_only_in_canonical_form() {
        assert_eq!(written(b"-128", true), [0xc0, 0x80]);
        assert_eq!(written(b"128", true), [0xc1, 0x80, 0]);
        assert_eq!(written(b"-32769", true), [0xc2, 0xff, 0x7f, 0xff, 0xff]);
        assert_eq!(written(b"2147483648", true)[0], 10);
        assert_eq!(written(b"01", true), [2, b'0', b'1']);
        assert_eq!(written(b"-0", true), [2, b'-', b'0']);
    }

    #[test]
    fn strings_come_back() {
        let random: Vec<u8> = (0..300)
            .map({
                let mut random = fastrand::Rng::with_seed(5);
                move |_| random.u8(..)
            })
            .collect();
        for text in [
            &b""[..],
            b"7",
            b"-2147483648",
            b"9223372036854775807",
            b"hello",
            &[b'x'; 20_000],
            &random,
        ] {
            for compresses in [false, true] {
                let bytes = written(text, compresses);
                assert!(bytes.len() <= text.len() + 5);
                let mut reader = RdbReader::new(&bytes);
                assert_eq!(reader.string().as_deref(), Ok(text));
                assert_eq!(reader.left(), 0);
            }
        }
        assert!(written(&[b'x'; 21], true).len() < 21);
        assert_eq!(written(&[b'x'; 21], false).len(), 22);
        assert_eq!(written(&[b'x'; 20], true).len(), 21);
    }

    #[test]
    fn damage_is_told_with_its_offset() {
        let error = |bytes: &[u8]| RdbReader::new(bytes).string().expect_err("damaged");
        assert_eq!(
            error(&[]),
            RdbError {
                offset: 0,
                what: Damage::CutShort { wanted: 1, left: 0 }
            }
        );
        assert_eq!(
            error(&[5, b'a']),
            RdbError {
                offset: 1,
                what: Damage::CutShort { wanted: 5, left: 1 }
            }
        );
        assert_eq!(
            error(&[0x82]),
            RdbError {
                offset: 0,
                what: Damage::Length(0x82)
            }
        );
        assert_eq!(
            error(&[0xc4]),
            RdbError {
                offset: 0,
                what: Damage::Form(4)
            }
        );
        assert_eq!(
            error(&[0xc3, 0xc0]),
            RdbError {
                offset: 1,
                what: Damage::NotALength
            }
        );
        assert_eq!(
            error(&[0xc3, 2, 9, 0, b'a']),
            RdbError {
                offset: 0,
                what: Damage::Compressed(9)
            }
        );
        let huge = [0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(
            error(&huge).what,
            Damage::CutShort {
                wanted: u64::MAX,
                left: 0
            }
        );
        let bomb = [0xc3, 1, 0x81, 0xff, 0, 0, 0, 0, 0, 0, 0, 0x20];
        assert!(matches!(error(&bomb).what, Damage::Compressed(_)));
    }
}
