//! What DUMP answers and RESTORE takes: one value, sealed; and what FUNCTION DUMP and RESTORE do, all libraries as they stand in a file.
//!
//! ```text
//! +-----------+-------------+--------------------+------------------+
//! | type byte | value       | RDB version, u16   | CRC-64, u64      |
//! |           |             | little-endian      | little-endian    |
//! +-----------+-------------+--------------------+------------------+
//! ```
//!
//! The checksum is over all that stands before it. A server refuses versions above its own, so whoever moves values to an older
//! server sets `rdb-version`; layouts are chosen to match. A value that this version cannot hold has the version that can.

use super::file::opcode;
use super::file::writer::WITH_FUNCTIONS;
use super::rdb::{Damage, RdbError, RdbReader, RdbWriter};
pub use super::value::RDB_VERSION_MAX;
use super::value::{self, Making, OF_VALKEY_9, Value};
use crate::base::crc64::crc64;
use crate::config::Settings;
use crate::store::EntryRef;

/// Bytes of version and checksum.
const SEAL_BYTES: usize = 10;

/// How values are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Form {
    /// `rdb-version`: the version for what it can hold.
    pub rdb_version: u16,
    /// `rdbcompression`
    pub compresses: bool,
}

impl Form {
    /// As the configuration says.
    pub fn of(settings: &Settings) -> Form {
        Form {
            rdb_version: u16::from(settings.rdb_version),
            compresses: settings.rdbcompression,
        }
    }
}

/// Why a payload is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    #[error("the payload's version is too new, or its checksum is wrong, or it is too short for either")]
    Seal,
    #[error("the payload's value is damaged: {0}")]
    Value(#[from] RdbError),
}

/// The value of an entry, sealed. Key and expiry are not part of it.
pub fn dump(entry: EntryRef<'_>, form: Form) -> Vec<u8> {
    let mut out = Vec::new();
    let version = value::write(&mut RdbWriter::new(&mut out, form.compresses), entry, form.rdb_version);
    seal(&mut out, version);
    out
}

/// Appends version and checksum.
fn seal(out: &mut Vec<u8>, rdb_version: u16) {
    out.extend_from_slice(&rdb_version.to_le_bytes());
    let checksum = crc64(0, out);
    out.extend_from_slice(&checksum.to_le_bytes());
}

/// The value in a payload. Bytes between the value and its seal are passed over, as Redis does; a value that reaches into its seal is
/// damaged (Redis would take the seal for a part of it).
pub fn restore<'a>(payload: &'a [u8], making: Making<'_>) -> Result<Value<'a>, PayloadError> {
    restore_if(payload, making, true)
}

/// As [`restore`]; the checksum may be wrong if `checks` is false (`DEBUG SET-SKIP-CHECKSUM-VALIDATION`).
pub fn restore_if<'a>(payload: &'a [u8], making: Making<'_>, checks: bool) -> Result<Value<'a>, PayloadError> {
    let (body, version) = unseal(payload, checks)?;
    Ok(Value::read(&mut RdbReader::new(body), making, version)?)
}

/// The code of libraries of functions, sealed.
pub fn dump_functions(codes: &[Vec<u8>], form: Form) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = RdbWriter::new(&mut out, form.compresses);
    for code in codes {
        writer.byte(opcode::FUNCTION_2);
        writer.string(code);
    }
    seal(&mut out, form.rdb_version.min(WITH_FUNCTIONS));
    out
}

/// The code of the libraries in a payload.
pub fn restore_functions(payload: &[u8]) -> Result<Vec<Vec<u8>>, PayloadError> {
    let (body, _) = unseal(payload, true)?;
    let mut reader = RdbReader::new(body);
    let mut codes = Vec::new();
    while reader.offset() < body.len() {
        match reader.byte()? {
            opcode::FUNCTION_2 => codes.push(reader.string()?.into_owned()),
            other => return Err(Damage::Opcode(other).at(reader.offset()).into()),
        }
    }
    Ok(codes)
}

/// What is sealed, and the version that the seal names.
fn unseal(payload: &[u8], checks: bool) -> Result<(&[u8], u16), PayloadError> {
    let (body, seal) = payload
        .len()
        .checked_sub(SEAL_BYTES)
        .and_then(|length| payload.split_at_checked(length))
        .ok_or(PayloadError::Seal)?;
    let (version, checksum) = seal.split_first_chunk::<2>().ok_or(PayloadError::Seal)?;
    let sealed = crc64(0, &payload[..body.len() + version.len()]);
    let version = u16::from_le_bytes(*version);
    let is_known = version <= RDB_VERSION_MAX || version == OF_VALKEY_9;
    if !is_known || checks && checksum != sealed.to_le_bytes() {
        return Err(PayloadError::Seal);
    }
    Ok((body, version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::HashSeed;
    use crate::data::Limits;
    use crate::data::string::StringForm;
    use crate::store::OwnedEntry;

    const FORM: Form = Form {
        rdb_version: 10,
        compresses: true,
    };

    fn made(payload: &[u8]) -> Result<Value<'_>, PayloadError> {
        let making = Making {
            limits: &Limits::default(),
            seed: HashSeed([1, 2]),
        };
        restore(payload, making)
    }

    fn dumped(text: &[u8]) -> Vec<u8> {
        dump(
            OwnedEntry::string(b"k", text, StringForm::Detect, None, 0).as_ref(),
            FORM,
        )
    }

    #[test]
    fn values_come_back_with_their_encoding() {
        for text in [&b"10"[..], b"ten", b"", &[b'a'; 100_000]] {
            let bytes = dumped(text);
            let value = made(&bytes).expect("a good payload");
            let entry = value.into_entry(b"other", None, 9);
            assert_eq!(entry.as_ref().value().as_bytes(&mut itoa::Buffer::new()), text);
            let set = OwnedEntry::string(b"other", text, StringForm::Detect, None, 9);
            assert_eq!(entry.as_ref().encoding(), set.as_ref().encoding());
        }
    }

    #[test]
    fn redis_wrote_these() {
        // The replies to DUMP after `SET k 10` and `SET k hello`, redis-server 7.0.15.
        assert_eq!(dumped(b"10"), *b"\x00\xc0\n\n\x00n\x9fWE\x0e\xaec\xbb");
        assert_eq!(dumped(b"hello"), *b"\x00\x05hello\n\x00cr\xdfve4 \n");
    }

    #[test]
    fn seals_are_checked_before_anything_is_read() {
        for short in 0..SEAL_BYTES {
            assert_eq!(made(&vec![0; short]).err(), Some(PayloadError::Seal));
        }
        let mut newer = vec![0, 0xc0, 1];
        seal(&mut newer, RDB_VERSION_MAX + 1);
        assert_eq!(made(&newer).err(), Some(PayloadError::Seal));
        let mut unknown = vec![200, 0xc0, 1];
        seal(&mut unknown, RDB_VERSION_MAX);
        let expected = RdbError {
            offset: 1,
            what: Damage::Type(200),
        };
        assert_eq!(made(&unknown).err(), Some(PayloadError::Value(expected)));
        let mut empty = Vec::new();
        seal(&mut empty, 10);
        assert!(matches!(made(&empty), Err(PayloadError::Value(_))));
        let mut reaching = b"\x00\x06hello".to_vec();
        seal(&mut reaching, 10);
        assert!(matches!(made(&reaching), Err(PayloadError::Value(_))));
        let mut trailing = b"\x00\x01vrest".to_vec();
        seal(&mut trailing, 10);
        assert!(matches!(made(&trailing), Ok(Value::String(text)) if *text == *b"v"));
    }
}
