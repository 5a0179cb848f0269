//! What runs commands: the layer below the families.
//!
//! A request goes through three steps here, none of which knows a socket. [`dispatch`] reads a client's bytes, finds
//! the command, applies the rules that its literal declares (arity, authentication, MULTI) and decides where it runs.
//! A handler runs it. The reply goes into the client's output, directly or by way of another shard.
//!
//! There are three kinds of handlers ([`Run`]), told apart by type so that what must not wait cannot wait:
//!
//! * over keys: a function over [`Op`], synchronous, on whichever shard holds the slots;
//! * over the session: a function over [`SessionOp`], synchronous, on any shard;
//! * over the node: an asynchronous function over [`Context`], on the shard of the connection; it may ask other shards.
//!
//! Invariant: the literal is the only place that says anything about a command. Nothing here compares names, and nothing here knows
//! a family: which commands there are is the registry's, and that is handed in.

pub mod arguments;
pub mod assembly;
pub mod asynchronous;
pub mod attempt;
pub mod clients;
pub mod counted;
pub mod cron;
pub mod dispatch;
pub mod env;
pub mod evict_clients;
pub mod eviction;
pub mod exec;
pub mod expiry;
pub mod foresight;
pub mod gates;
pub mod ground;
pub mod help;
pub mod keyspace;
pub mod literal;
pub mod local;
pub mod log;
pub mod node;
pub mod op;
pub mod pass;
pub mod registry;
pub mod route;
pub mod run;
pub mod stored;
pub mod task;
pub mod testbed;
pub mod transaction;
pub mod typed;
pub mod under_way;
pub mod upkeep;
pub mod wire;

pub use attempt::{Event, KeyEvent, Signal};
pub use env::Env;
pub use keyspace::Keyspace;
pub use literal::{Caller, Command, Context, Control, Guarded, NodeFuture, Op, Registered, Registry, Run, SessionOp};
pub use local::{Envelope, Local, LocalHandle};
pub use node::Node;
pub use registry::CommandId;
pub use task::Task;
