//! The options of HSCAN, SSCAN and ZSCAN, behind key and cursor: `MATCH pattern`, `COUNT n`, and HSCAN's `NOVALUES`.

use super::numbers::integer;
use crate::resp::{Args, ReplyError, error};

/// Elements that a call visits without COUNT.
const COUNT_DEFAULT: usize = 10;

/// What a call asks for.
pub struct ElementScan<'a> {
    pub count: usize,
    /// None: all match.
    pub pattern: Option<&'a [u8]>,
    pub with_values: bool,
}

impl<'a> ElementScan<'a> {
    /// Reads the options; `knows_novalues` is for HSCAN.
    pub fn parse(args: Args<'a>, knows_novalues: bool) -> Result<ElementScan<'a>, ReplyError> {
        let mut scan = ElementScan {
            count: COUNT_DEFAULT,
            pattern: None,
            with_values: true,
        };
        let mut index = 3;
        while index < args.len() {
            let option = args.at(index);
            if knows_novalues && option.eq_ignore_ascii_case(b"NOVALUES") {
                scan.with_values = false;
                index += 1;
                continue;
            }
            let value = args.get(index + 1).ok_or(error::SYNTAX)?;
            if option.eq_ignore_ascii_case(b"COUNT") {
                scan.count = usize::try_from(integer(value)?)
                    .ok()
                    .filter(|count| *count > 0)
                    .ok_or(error::SYNTAX)?;
            } else if option.eq_ignore_ascii_case(b"MATCH") {
                // What matches everything need not be tried on each element.
                scan.pattern = Some(value).filter(|pattern| *pattern != b"*");
            } else {
                return Err(error::SYNTAX);
            }
            index += 2;
        }
        Ok(scan)
    }
}
