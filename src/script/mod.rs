//! The language of scripts: Lua 5.1, as Redis lets its users write it.
//!
//! It knows no shard, no client and no command. Each shard has one [`State`], in which the scripts of EVAL and the functions of libraries are compiled
//! once and run as often as they are called; what they ask of the server goes through the [`Host`] of the run.
//!
//! The interpreter is Lua's own, as it was published, through `mlua-sys`; its libraries cjson, cmsgpack, struct and bit are written here. What Redis has changed in its copy of Lua
//! (tables that are read-only, text only, known holes) is done from outside: `sandbox` and `basics` say how.
//!
//! In reading order; a file uses only what stands above it, but `lua` holds what the others keep in it:
//!
//! | file | owns |
//! |---|---|
//! | `host` | what a script sees of the server, and how it ends |
//! | `header` | the first line of a script or of a library |
//! | `random` | the numbers of `math.random` |
//! | `lua` | the border: what a function may do that Lua calls; memory; compiling |
//! | `values` | replies become values, and values replies |
//! | `calls` | the table `redis` |
//! | `library` | `redis.register_function` |
//! | `basics` | functions of Lua's own that scripts get in another form |
//! | `bit`, `cjson`, `cmsgpack`, `structs` | the libraries |
//! | `sandbox` | the globals |
//! | `vm` | one interpreter: how chunks are compiled and run |
//! | `state` | what a shard has: scripts by name, functions by name |

mod basics;
mod bit;
mod calls;
mod cjson;
mod cmsgpack;
mod header;
mod host;
mod library;
mod lua;
mod random;
mod sandbox;
mod state;
mod structs;
mod values;
mod vm;

pub use calls::hex_digest;
pub use header::{ScriptFlags, of_library, of_script};
pub use host::{Ending, Host, LogLevel, Refusal, Replication};
pub use library::{Library, LibraryFunction};
pub use state::{Limits, Script, Sha, State};

/// So many instructions of a script pass between two questions whether it shall go on.
pub const INSTRUCTIONS_PER_QUESTION: i32 = 100_000;
