//! How long a command waits, as its argument says: Redis's readings and refusals.

use crate::base::clock::UnixMs;
use crate::base::long_double::LongDouble;
use crate::base::numbers::parse_i64;
use crate::resp::{ReplyError, error};

/// When so many seconds, a fraction rounded up, are over; None: never.
pub fn deadline_s(text: &[u8], now: UnixMs) -> Result<Option<UnixMs>, ReplyError> {
    let seconds = LongDouble::parse(text).ok_or(error::TIMEOUT_NOT_A_FLOAT)?;
    let timeout_ms = seconds.ceil_thousandfold().ok_or(error::TIMEOUT_OUT_OF_RANGE)?;
    deadline(timeout_ms, now)
}

/// When so many milliseconds are over; None: never.
pub fn deadline_ms(text: &[u8], now: UnixMs) -> Result<Option<UnixMs>, ReplyError> {
    deadline(parse_i64(text).ok_or(error::TIMEOUT_NOT_AN_INTEGER)?, now)
}

fn deadline(timeout_ms: i64, now: UnixMs) -> Result<Option<UnixMs>, ReplyError> {
    match timeout_ms {
        ..0 => Err(error::TIMEOUT_NEGATIVE),
        0 => Ok(None),
        _ => {
            let deadline = now.signed().checked_add(timeout_ms);
            deadline
                .map(UnixMs::from_signed)
                .map(Some)
                .ok_or(error::TIMEOUT_OUT_OF_RANGE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded_up_and_none_is_for_ever() {
        let now = UnixMs(1_000);
        for (text, expected) in [
            ("0", Ok(None)),
            ("-0", Ok(None)),
            ("1", Ok(Some(2_000))),
            ("0.07", Ok(Some(1_070))),
            ("0.0001", Ok(Some(1_001))),
            ("1.0005", Ok(Some(2_001))),
            ("1e3", Ok(Some(1_001_000))),
            ("0x10", Ok(Some(17_000))),
            // Rounded up, these are none.
            ("-0.0001", Ok(None)),
            ("-1", Err(error::TIMEOUT_NEGATIVE)),
            ("-inf", Err(error::TIMEOUT_NEGATIVE)),
            ("inf", Err(error::TIMEOUT_OUT_OF_RANGE)),
            ("9223372036854775", Err(error::TIMEOUT_OUT_OF_RANGE)),
            ("9223372036854776", Err(error::TIMEOUT_OUT_OF_RANGE)),
            ("9223372036854773", Ok(Some(9_223_372_036_854_774_000_u64))),
            ("nan", Err(error::TIMEOUT_NOT_A_FLOAT)),
            ("", Err(error::TIMEOUT_NOT_A_FLOAT)),
            (" 1", Err(error::TIMEOUT_NOT_A_FLOAT)),
        ] {
            let found = deadline_s(text.as_bytes(), now).map(|deadline| deadline.map(|at| at.0));
            assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{text}");
        }
    }

    #[test]
    fn milliseconds_are_whole() {
        let now = UnixMs(1_000);
        for (text, expected) in [
            ("0", Ok(None)),
            ("1", Ok(Some(1_001))),
            ("-1", Err(error::TIMEOUT_NEGATIVE)),
            ("1.5", Err(error::TIMEOUT_NOT_AN_INTEGER)),
            ("9223372036854775807", Err(error::TIMEOUT_OUT_OF_RANGE)),
        ] {
            let found = deadline_ms(text.as_bytes(), now).map(|deadline| deadline.map(|at| at.0));
            assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{text}");
        }
    }
}
