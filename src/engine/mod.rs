//! What runs commands: the layer below the families.
//!
//! A request goes through three steps here, none of which knows a socket. [`dispatch`] reads a client's bytes, finds
//! the command and lets it through the gates; [`route`] decides where it runs; a handler runs it ([`run`]). The reply goes into the client's
//! output, directly or by way of another shard, and [`Env::end_unit`] ends the unit of work, however it was run.
//!
//! In reading order; a file uses only what stands above it (a test reads the sources and keeps that true):
//!
//! | file | owns |
//! |---|---|
//! | `registry` | all commands, numbered and found by name |
//! | `tracked` | what a unit has read for clients that cache, and what it has changed of that |
//! | `counted`, `parked`, `attempt` | what follows from a unit of work, kept until it has ended |
//! | `waiting` | what a unit leaves to be done for clients that wait for keys |
//! | `replication` | what the node is to other servers: history, the master it follows, replicas |
//! | `log` | the effects of the units that a shard has run, a chunk for each pass |
//! | `receipts`, `listening` | messages, in the order of turns, and who waits until they are delivered |
//! | `order` | what a snapshot is for that is not the data set's own file |
//! | `full_sync` | a snapshot that replicas wait for |
//! | `libraries` | what of the data set is in no slot |
//! | `snapshot` | which snapshot is under way, and how the last one ended |
//! | `aof` | the append-only file: what chunks become in files, and which files there are |
//! | `promise` | what replies wait for where nothing is shown before it is on disk |
//! | `garbage` | what is to be freed |
//! | `clients`, `lobby` | the clients of a shard, and where they are while a unit of work runs |
//! | `node`, `env` | what the process, and what a shard knows; the time; the end of a unit |
//! | `telling` | what units have to tell, and whose replies wait until it is delivered |
//! | `keyspace`, `typed` | the slots of a unit, as its commands see them |
//! | `literal`, `op` | what a command is, and what its handler is given |
//! | `arguments`, `stored`, `help` | what many handlers read and write alike |
//! | `blocked` | a client that waits for keys, as those know it who may end that |
//! | `again` | what a unit keeps that is run again |
//! | `run`, `nested`, `serve`, `exec`, `streamed`, `task` | running a command, those that a script calls, serving who has waited, a transaction, what a master's stream brings, a unit that travels |
//! | `under_way`, `ground`, `expiry`, `eviction`, `saver`, `evict_clients` | parts of a shard, each by itself |
//! | `forgetting` | keys that clients cache, beyond the limit, and of clients that have gone |
//! | `upkeep` | what nobody asks for, with what it remembers |
//! | `foresight`, `wire` | memory asked for ahead; the seam to the connections |
//! | `room` | the blocked clients of a shard |
//! | `feed` | who gets the stream, as its owner knows it |
//! | `local` | the shard: its parts together, and how others reach it |
//! | `invalidation`, `delivery` | messages into the outputs of clients |
//! | `unblock` | clients that begin to wait, and the ways out |
//! | `saves`, `rewrites` | beginning and ending snapshots, and rewrites of the append-only file |
//! | `followers` | replicas: full and partial syncs, and what they are sent |
//! | `report` | what the node and its shards say of themselves |
//! | `replay` | commands that come from a file, or from a master |
//! | `gates`, `route` | whether, and where |
//! | `transaction`, `asynchronous` | MULTI and WATCH; commands that wait |
//! | `shutdown` | the end of the process |
//! | `intake` | what comes from other shards, and what units leave to be handed out |
//! | `dispatch`, `pass` | a client's bytes; one pass of the shard |
//! | `attend` | clients who are looked after while a script does not end |
//! | `assembly`, `testbed` | shards in one thread, for tests and benches |
//!
//! Invariant: the literal is the only place that says anything about a command. Nothing here compares names, and nothing here knows
//! a family: which commands there are is the registry's, and that is handed in.

mod again;
pub(crate) mod aof;
pub(crate) mod arguments;
pub mod assembly;
mod asynchronous;
mod attempt;
mod attend;
mod blocked;
mod clients;
mod counted;
mod delivery;
mod dispatch;
pub(crate) mod env;
mod evict_clients;
mod eviction;
mod exec;
mod expiry;
mod feed;
pub(crate) mod followers;
pub(crate) mod foresight;
mod forgetting;
mod full_sync;
mod garbage;
mod gates;
mod ground;
pub(crate) mod help;
mod intake;
mod invalidation;
mod keyspace;
mod libraries;
pub(crate) mod listening;
pub(crate) mod literal;
mod lobby;
pub(crate) mod local;
pub(crate) mod log;
mod nested;
pub(crate) mod node;
mod op;
mod order;
mod parked;
mod pass;
mod promise;
mod receipts;
mod registry;
pub(crate) mod replay;
pub(crate) mod replication;
mod report;
pub(crate) mod rewrites;
mod room;
mod route;
pub(crate) mod run;
mod saver;
pub(crate) mod saves;
mod serve;
pub(crate) mod shutdown;
pub(crate) mod snapshot;
pub(crate) mod stored;
pub(crate) mod streamed;
mod task;
mod telling;
pub mod testbed;
mod tracked;
mod transaction;
pub(crate) mod typed;
pub(crate) mod unblock;
mod under_way;
mod upkeep;
mod waiting;
pub mod wire;

pub use attempt::{Audience, Event, KeyEvent, Post, Signal};
pub use attend::{Desk, Sockets, Taken, attendant};
pub use clients::Clients;
pub use env::{Env, limits_of};
pub use keyspace::Keyspace;
pub use listening::Message;
pub use literal::{Caller, Command, Context, Control, Guarded, NodeFuture, Op, Registered, Registry, Run, SessionOp};
pub use local::{Envelope, Local, LocalHandle, connect};
pub use nested::{Nested, Rules, Uncalled};
pub use node::{BusyScripts, Node};
pub use parked::{Nothing, Park};
pub use registry::CommandId;
pub use report::{Report, write_server, write_shards};
pub use task::Task;
pub use unblock::{Unblock, unblock};
