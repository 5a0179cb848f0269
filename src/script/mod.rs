//! The language of scripts: Lua 5.1, as Redis lets its users write it.
//!
//! It knows no shard, no client and no command. Each shard has one [`State`], in which the scripts of EVAL and the functions of libraries are compiled
//! once and run as often as they are called; what they ask of the server goes through the [`Host`] of the run.
//!
//! In reading order:
//!
//! | file | owns |
//! |---|---|
//! | `host` | what a script sees of the server, and how it ends |
//! | `header` | the first line of a script or of a library |

mod header;
mod host;

pub use header::{ScriptFlags, of_library, of_script};
pub use host::{Ending, Host, LogLevel, Refusal, Replication};

/// So many instructions of a script pass between two questions whether it shall go on.
pub const INSTRUCTIONS_PER_QUESTION: i32 = 100_000;
