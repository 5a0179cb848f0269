//! Scripts and functions: EVAL and FCALL with their kin, the cache of scripts (SCRIPT), and libraries (FUNCTION).

mod eval;
mod function;
mod script;

use crate::engine::Command;
use crate::resp::{Args, ReplyError};
use crate::spec::{Argument, ArgumentKind, arg};
use eval::{EVAL, EVAL_RO, EVALSHA, EVALSHA_RO, FCALL, FCALL_RO};
use function::FUNCTION;
use script::SCRIPT;

pub const COMMANDS: &[Command] = &[EVAL, EVALSHA, EVAL_RO, EVALSHA_RO, FCALL, FCALL_RO, FUNCTION, SCRIPT];

const FLUSH_TYPE: Argument = arg(
    "flush-type",
    ArgumentKind::OneOf(&[Argument::word("async", "ASYNC"), Argument::word("sync", "SYNC")]),
)
.optional();

/// Checks the mode of a flush: what is freed is little, so both are the same.
fn check_flush(args: Args, mode_error: ReplyError) -> Result<(), ReplyError> {
    let is_known = args
        .get(2)
        .is_none_or(|mode| mode.eq_ignore_ascii_case(b"SYNC") || mode.eq_ignore_ascii_case(b"ASYNC"));
    match is_known && args.len() <= 3 {
        true => Ok(()),
        false => Err(mode_error),
    }
}
