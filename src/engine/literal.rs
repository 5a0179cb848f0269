//! What a command is: one literal, the ways to run one, and what each kind of handler is given.
//!
//! | kind | is given | runs |
//! |---|---|---|
//! | over keys | [`Op`]: arguments, reply, the keyspace as far as its slots are held, and what its shard knows | at once, on whichever shard holds the slots |
//! | over the session | [`SessionOp`]: the peer's session, the shard, the node | at once, on any shard; inside EXEC where the transaction runs, on the session that travels with it |
//! | over the node | [`Context`]: a copy of the session, a handle to the shard | as a task of the executor of its connection's shard; it may ask other shards |
//!
//! Kinds are told apart by type, so that what must not wait cannot wait. The parts of [`Op`] are fields, so that a handler can read an
//! entry and write its reply at once.

use super::env::Env;
use super::keyspace::Keyspace;
use super::node::Node;
use super::registry::{self, Kind};
use super::tracked::tracker_of;
use crate::base::slot::key_slot;
use crate::client::{ReplyMode, Session};
use crate::config::Settings;
use crate::resp::{Args, OwnedArgs, Proto, Reply, ReplyBuf, ReplyError};
use crate::shard::{ConnRef, Footprint, SlotMarks, SlotSet};
use crate::spec::{InvalidKeys, KeyPosition, key_positions};
use crate::store::{DbIndex, Tracker};
use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

/// A command literal of this server.
pub type Command = crate::spec::Command<Run>;
/// All of them.
pub type Registry = registry::Registry<Run>;
/// One of them.
pub type Registered = registry::Registered<Run>;

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
    /// As [`Run::Keys`], and over whatever the commands need that it calls as it runs (scripts): it may lack any of that, and then
    /// runs again, with everything taken back. It logs and counts by the commands that it calls.
    Script(fn(&mut Op) -> Result<(), ReplyError>),
    /// Over the whole keyspace: every shard lends all it has.
    Everything(fn(&mut Op) -> Result<(), ReplyError>),
    /// Over the client's session and what the shard knows by itself.
    Session(fn(&mut SessionOp) -> Result<(), ReplyError>),
    /// Over the node, waiting for other shards, for time, or for files.
    Node(for<'a> fn(&'a mut Context) -> NodeFuture<'a>),
    /// Moves the connection's transaction: the dispatcher's own.
    Transaction(Control),
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
    pub guard: fn(settings: &Settings, is_local: bool) -> Result<(), ReplyError>,
}

impl Run {
    /// The slots that a call needs, for those kinds that run over slots.
    pub fn footprint(&self, command: &Command, args: Args) -> Option<Result<Footprint, ReplyError>> {
        match self {
            Run::Keys(_) | Run::Reaching(..) | Run::Script(_) => Some(Ok(Footprint::Slots(key_slots(command, args)))),
            Run::Slots(slots, _) => Some(slots(args).map(Footprint::Slots)),
            Run::Everything(_) => Some(Ok(Footprint::Everything)),
            _ => None,
        }
    }

    /// Whether a call may find out only as it runs that it needs more slots (SORT), or all of them (KEYS): it then runs again. What
    /// its transaction has done before it must be taken back then, and nothing of its client may overtake it.
    pub fn may_reach_further(&self) -> bool {
        matches!(self, Run::Reaching(..) | Run::Slots(..) | Run::Script(_))
    }
}

impl Kind for Run {
    fn guarded(&self) -> Option<&'static [Command]> {
        match self {
            Run::Guarded(guarded) => Some(guarded.subcommands),
            _ => None,
        }
    }

    fn is_over_its_keys(&self) -> bool {
        matches!(self, Run::Keys(_))
    }
}

/// What a command does with the connection's transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Control {
    Multi,
    Exec,
    Discard,
    Watch,
    Unwatch,
    Reset,
    Quit,
}

/// Who has sent a command, as far as a handler over keys may know.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    pub db: DbIndex,
    pub proto: Proto,
    /// `CLIENT NO-TOUCH`.
    pub leaves_clocks: bool,
    /// A Unix socket or a loopback address.
    pub is_local: bool,
    /// It runs inside EXEC or a script.
    pub is_nested: bool,
    /// Its reply is dropped (`CLIENT REPLY OFF` and `SKIP`).
    pub is_silent: bool,
    /// As whom it is entered with the keys that it reads, if it caches them.
    pub tracker: Option<Tracker>,
    /// A script calls it.
    pub is_script: bool,
}

impl Caller {
    /// As whom what no client has sent is run: in one go, and nobody wants its reply.
    pub(super) fn in_background(db: DbIndex, leaves_clocks: bool) -> Caller {
        Caller {
            db,
            proto: Proto::Resp2,
            leaves_clocks,
            is_local: true,
            is_nested: true,
            is_silent: true,
            tracker: None,
            is_script: false,
        }
    }

    pub fn of(session: &Session) -> Caller {
        Caller {
            db: DbIndex(session.db),
            proto: session.proto,
            leaves_clocks: session.leaves_clocks,
            is_local: session.is_local,
            is_nested: false,
            is_silent: session.reply_mode != ReplyMode::On,
            tracker: Caller::tracker(session),
            is_script: false,
        }
    }

    /// As whom its session is entered with the keys that it reads.
    #[inline]
    pub(super) fn tracker(session: &Session) -> Option<Tracker> {
        let tracking = session.tracking.as_ref()?;
        tracking.remembers(session.caching).then(|| tracker_of(session.place))
    }
}

/// One call of a command over keys.
pub struct Op<'a, 'v> {
    pub args: Args<'a>,
    pub reply: Reply<'a>,
    pub keys: Keyspace<'a, 'v>,
    pub env: &'a mut Env,
    pub caller: Caller,
    /// The literal that is being run.
    pub command: &'static Command,
    /// Changes to the keyspace so far.
    pub(super) changes: u64,
    /// Something else is logged than the command itself, or nothing.
    pub(super) is_replaced: bool,
}

/// One call of a command over the session.
pub struct SessionOp<'a> {
    pub args: Args<'a>,
    pub reply: Reply<'a>,
    pub session: &'a mut Session,
    pub env: &'a mut Env,
    pub node: &'a Node,
    pub registry: &'static Registry,
    /// It runs inside EXEC or a script.
    pub is_nested: bool,
    /// The literal that is being run.
    pub command: &'static Command,
}

/// One call of an asynchronous command.
pub struct Context {
    /// The shard that it runs on, whose type stands above this file: [`Context::local`](super::context) knows it.
    pub(super) shard: Rc<dyn Any>,
    pub arguments: OwnedArgs,
    pub session: Session,
    pub output: ReplyBuf,
    pub place: ConnRef,
    /// It runs inside EXEC.
    pub is_nested: bool,
    pub command: &'static Command,
}

/// The slots of a call's keys. Keys that cannot be found (a count that is no number) are left out: the handler will
/// refuse the call for the same reason.
pub fn key_slots(command: &Command, args: Args) -> SlotSet {
    let mut slots = SlotMarks::new();
    // An error leaves the slots found so far, which is all that a call that will be refused needs.
    let _ = each_key(command, args, |position| {
        slots.insert(key_slot(&args[position.index]));
    });
    slots.into_set()
}

/// Calls `found` with each key of a call that can be told from its arguments: by the key specs, and by the literal's own function.
pub fn each_key(command: &Command, args: Args, mut found: impl FnMut(KeyPosition)) -> Result<(), InvalidKeys> {
    key_positions(command.keys, args.len(), |index| args.at(index), &mut found)?;
    if let Run::Reaching(further, _) = command.run {
        further(args).into_iter().for_each(found);
    }
    Ok(())
}
