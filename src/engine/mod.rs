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
pub mod attempt;
pub mod context;
pub mod counted;
pub mod cron;
pub mod dispatch;
pub mod env;
pub mod evict;
pub mod evict_clients;
pub mod foresight;
pub mod help;
pub mod keyspace;
pub mod local;
pub mod log;
pub mod node;
pub mod op;
pub mod pass;
pub mod registry;
pub mod session_op;
pub mod stored;
pub mod task;
pub mod testbed;
pub mod transaction;
pub mod typed;
pub mod under_way;

pub use attempt::{Event, KeyEvent, Signal};
pub use context::Context;
pub use env::Env;
pub use keyspace::Keyspace;
pub use local::{Envelope, Local, LocalHandle};
pub use node::Node;
pub use op::{Caller, Op};
pub use registry::{CommandId, Registered, Registry};
pub use session_op::SessionOp;
pub use task::Task;

use crate::resp::{Args, ReplyError};
use crate::shard::{Footprint, SlotSet};
use crate::spec::KeyPosition;
use std::future::Future;
use std::pin::Pin;

/// A command literal of this server.
pub type Command = crate::spec::Command<Run>;

/// What an asynchronous handler returns.
pub type NodeFuture<'a> = Pin<Box<dyn Future<Output = Result<(), ReplyError>> + 'a>>;

/// How a command runs.
#[derive(Clone, Copy)]
pub enum Run {
    /// Over the slots of the keys that its key specs find.
    Keys(fn(&mut Op) -> Result<(), ReplyError>),
    /// Over slots that its arguments name in another way (SCAN's cursor, CLUSTER COUNTKEYSINSLOT).
    Slots(
        fn(Args) -> Result<SlotSet, ReplyError>,
        fn(&mut Op) -> Result<(), ReplyError>,
    ),
    /// As [`Run::Keys`], and over slots of further keys that are found as it runs (SORT's patterns): it may lack some of them, and
    /// then runs again. So it is never sent to another shard ahead of its client's next commands. The first function finds a key
    /// in the arguments that no key spec can tell of (`STORE`).
    Reaching(fn(Args) -> Option<KeyPosition>, fn(&mut Op) -> Result<(), ReplyError>),
    /// Over the whole keyspace: every shard lends all it has.
    Everything(fn(&mut Op) -> Result<(), ReplyError>),
    /// Over the client's session and what the shard knows by itself.
    Session(fn(&mut SessionOp) -> Result<(), ReplyError>),
    /// Over the node, waiting for other shards, for time, or for files.
    Node(for<'a> fn(&'a mut Context) -> NodeFuture<'a>),
    /// Moves the connection's transaction: the dispatcher's own.
    Transaction(transaction::Control),
    /// Only its subcommands run.
    Container,
    /// As [`Run::Container`], but its subcommands are nobody else's affair.
    Guarded(&'static Guarded),
}

/// A container that looks from outside like one command (DEBUG): its subcommands have literals of their own, which say
/// how each of them runs, but COMMAND does not list them, statistics count them as the container, and one rule lets
/// all of them run or none.
pub struct Guarded {
    pub subcommands: &'static [Command],
    /// Refuses the call, or does not; `is_local` is the client's.
    pub guard: fn(settings: &crate::config::Settings, is_local: bool) -> Result<(), ReplyError>,
}

impl Run {
    /// The slots that a call needs, for those kinds that run over slots.
    pub fn footprint(&self, command: &Command, args: Args) -> Option<Result<Footprint, ReplyError>> {
        match self {
            Run::Keys(_) | Run::Reaching(..) => Some(Ok(Footprint::Slots(op::key_slots(command, args)))),
            Run::Slots(slots, _) => Some(slots(args).map(Footprint::Slots)),
            Run::Everything(_) => Some(Ok(Footprint::Everything)),
            _ => None,
        }
    }

    /// Whether a call may find out only as it runs that it needs more slots (SORT), or all of them (KEYS): it then runs again. What
    /// its transaction has done before it must be taken back then, and nothing of its client may overtake it.
    pub fn may_reach_further(&self) -> bool {
        matches!(self, Run::Reaching(..) | Run::Slots(..))
    }
}
