//! The server itself: the keyspace as a whole, the configuration, and what it knows of itself.

mod config;
mod debug;
mod debug_values;
pub mod info;
mod keyspace;
mod latency;
mod lolwut;
mod memory;
mod module;
mod shutdown;
mod slowlog;

pub use config::COMMANDS as CONFIG;
pub use debug::COMMANDS as DEBUG;
pub use info::COMMANDS as INFO;
pub use keyspace::COMMANDS as KEYSPACE;
pub use latency::COMMANDS as LATENCY;
pub use lolwut::COMMANDS as LOLWUT;
pub use memory::COMMANDS as MEMORY;
pub use module::COMMANDS as MODULE;
pub use shutdown::COMMANDS as SHUTDOWN;
pub use slowlog::COMMANDS as SLOWLOG;
