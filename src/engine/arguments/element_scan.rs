//! The options of HSCAN, SSCAN and ZSCAN, behind key and cursor: `MATCH pattern`, `COUNT n`, and HSCAN's `NOVALUES`.

use super::Options;
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
        let mut options = Options::behind(args, 3);
        while !options.is_empty() {
            if knows_novalues && options.flag(b"NOVALUES") {
                scan.with_values = false;
            } else if options.flag(b"COUNT") {
                scan.count = usize::try_from(options.integer()?)
                    .ok()
                    .filter(|count| *count > 0)
                    .ok_or(error::SYNTAX)?;
            } else if options.flag(b"MATCH") {
                // What matches everything need not be tried on each element.
                scan.pattern = Some(options.word()?).filter(|pattern| *pattern != b"*");
            } else {
                return Err(error::SYNTAX);
            }
        }
        Ok(scan)
    }
}
