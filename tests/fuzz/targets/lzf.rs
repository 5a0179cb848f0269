//! LZF and CRC-64. Anything may be decompressed without a panic or a byte too many; what was compressed comes back; a checksum does not
//! depend on how its text is cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shardis::base::crc64::crc64;
use shardis::base::lzf::{SAVING_BYTES_MIN, compress, decompress};

fuzz_target!(|data: &[u8]| {
    let Some((length, bytes)) = data.split_first_chunk::<2>() else { return };
    let text_bytes = usize::from(u16::from_le_bytes(*length));
    if let Some(text) = decompress(bytes, text_bytes) {
        assert_eq!(text.len(), text_bytes);
    }
    if let Some(compressed) = compress(bytes) {
        assert!(compressed.len() + SAVING_BYTES_MIN <= bytes.len());
        assert_eq!(decompress(&compressed, bytes.len()).as_deref(), Some(bytes));
        assert_eq!(decompress(&compressed, bytes.len() - 1), None);
    }
    let (first, second) = bytes.split_at(text_bytes.min(bytes.len()));
    assert_eq!(crc64(crc64(0, first), second), crc64(0, bytes));
});
