//! Scripts and functions on shards: which there are, and how they run where the slots of their keys are.
//!
//! The language is [`crate::script`]'s, which knows no shard and no command. Here its interpreters become a part of each shard, its host becomes what a
//! unit of work may call, and the process gets one cache of scripts and one set of libraries.
//!
//! | file | owns |
//! |---|---|
//! | `cache` | the scripts that the process knows by their SHA1 |
//! | `busy` | scripts that do not end |
//! | `runner` | a script as a command over keys |
//! | `functions` | libraries, and FUNCTION |

mod busy;
mod cache;
mod functions;
mod runner;

pub use functions::{
    Policy, count_libraries, delete_library, dump_libraries, flush_libraries, kill_function, list_libraries,
    load_function, restore_libraries, running_function,
};
pub use runner::{Source, call_function, exists, figures, flush, kill, load, run};
