//! What a request must pass before it runs, read from the flags of its literal.
//!
//! The gates are a table (`gates!`), in the order in which clients can tell them apart by the errors. For each one its row says which ways
//! in lead through it: a client's own request, and a command that a home runs for a client of another shard, which has passed the rest where
//! its client is.

use super::env::{Env, Pause};
use super::literal::{Command, Control, Registered, Registry, Run, key_slots};
use super::local::Local;
use crate::client::{Client, Mode, Queued, Stall};
use crate::config::Settings;
use crate::resp::{Args, Proto, ReplyError, error};
use crate::spec::{Flags, Protection};

/// What does not let a request pass.
pub(super) enum Refusal {
    /// It is answered with this.
    Error(ReplyError),
    /// It is asked again when that is over.
    Postponed(Stall),
}

/// A way in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// A client of this shard has sent it.
    Request = 1,
    /// Another shard has sent it, for a client of its own.
    Shipped = 2,
    /// A client of this shard has sent it, and a script does not end meanwhile: nothing is at hand but what units may know.
    WhileBusy = 4,
}

/// Who asks, and for what.
struct Applicant<'a> {
    /// Whose request it is; None: a client of another shard.
    client: Option<&'a mut Client>,
    found: &'static Registered,
    args: Args<'a>,
}

const FROM_CLIENT: u8 = Way::Request as u8 | Way::WhileBusy as u8;
const REQUEST: u8 = Way::Request as u8;
const BOTH: u8 = REQUEST | Way::Shipped as u8;

/// Where the first gates stand: for these it takes no more of a shard.
struct Porch<'a> {
    env: &'a Env,
    registry: &'static Registry,
}

/// The table: a gate in each row, in Redis's order, behind the ways that lead through it. It becomes straight code: a loop over functions would
/// cost each request some fifty instructions.
macro_rules! gates {
    ($pass:ident in $place:ty: $($ways:ident => $check:ident;)+) => {
        impl Applicant<'_> {
            #[inline(always)]
            fn $pass(&mut self, way: Way, place: $place) -> Result<(), Refusal> {
                $(if $ways & way as u8 != 0 {
                    self.$check(place)?;
                })+
                Ok(())
            }
        }
    };
}

gates! {
    pass_porch in &Porch<'_>:
    FROM_CLIENT => gate_of_hidden_containers;
    FROM_CLIENT => gate_of_arity;
    FROM_CLIENT => gate_of_protection;
    FROM_CLIENT => gate_of_password;
    FROM_CLIENT => gate_of_listeners;
    FROM_CLIENT => gate_of_replicas;
    FROM_CLIENT => gate_of_loading;
    FROM_CLIENT => gate_of_busy_scripts;
}

gates! {
    pass in &mut Local:
    REQUEST => gate_of_pause;
    BOTH => gate_of_memory;
    REQUEST => gate_of_snapshots;
}

/// Whether a client's request may run.
#[inline(always)]
pub(super) fn let_in(
    shard: &mut Local,
    client: &mut Client,
    found: &'static Registered,
    args: Args,
) -> Result<(), Refusal> {
    let client = Some(client);
    let mut applicant = Applicant { client, found, args };
    let porch = Porch {
        env: &shard.env,
        registry: shard.registry,
    };
    applicant.pass_porch(Way::Request, &porch)?;
    applicant.pass(Way::Request, shard)
}

/// Whether a client's request may run while a script does not end, or why not.
pub(super) fn may_run_while_busy(
    env: &Env,
    registry: &'static Registry,
    client: &mut Client,
    found: &'static Registered,
    args: Args,
) -> Result<(), Refusal> {
    if env.is_paused() && env.pause.is_some_and(|pause| !pause.writes_only) {
        return Err(Refusal::Postponed(Stall::Paused));
    }
    let client = Some(client);
    Applicant { client, found, args }.pass_porch(Way::WhileBusy, &Porch { env, registry })
}

/// Whether a command that another shard has sent may run: when that shard looked, those before it had not run. As many as a client may have
/// under way would get past a limit that has just been reached.
#[inline(always)]
pub(super) fn let_in_shipped(shard: &mut Local, found: &'static Registered, args: Args) -> Result<(), Refusal> {
    let client = None;
    Applicant { client, found, args }.pass(Way::Shipped, shard)
}

impl Applicant<'_> {
    #[inline(always)]
    fn gate_of_hidden_containers(&mut self, porch: &Porch<'_>) -> Result<(), Refusal> {
        match &self.client {
            Some(client) if self.found.is_inner || self.found.is_guarded() => {
                pass_guard(porch.registry, &porch.env.settings, client, self.found, self.args).map_err(Refusal::Error)
            }
            _ => Ok(()),
        }
    }

    #[inline(always)]
    fn gate_of_arity(&mut self, _: &Porch<'_>) -> Result<(), Refusal> {
        let command = self.found.command;
        if command.accepts(self.args.len()) && !matches!(command.run, Run::Container) {
            return Ok(());
        }
        Err(Refusal::Error(error::wrong_arity(&self.found.full_name)))
    }

    #[inline(always)]
    fn gate_of_protection(&mut self, porch: &Porch<'_>) -> Result<(), Refusal> {
        match (&self.client, self.found.command.protection) {
            (Some(client), Some(protection)) => {
                check_protection(&porch.env.settings, client, protection).map_err(Refusal::Error)
            }
            _ => Ok(()),
        }
    }

    #[inline(always)]
    fn gate_of_password(&mut self, porch: &Porch<'_>) -> Result<(), Refusal> {
        let is_known = self
            .client
            .as_ref()
            .is_none_or(|client| client.session.is_authenticated);
        if !is_known && !self.found.command.flags.contains(Flags::NO_AUTH) && wants_password(&porch.env.settings) {
            return Err(Refusal::Error(error::NO_AUTH));
        }
        Ok(())
    }

    /// What those may not send who listen.
    #[inline(always)]
    fn gate_of_listeners(&mut self, _: &Porch<'_>) -> Result<(), Refusal> {
        match &self.client {
            Some(client) if client.mode != Mode::Normal => self.check_listener(client),
            _ => Ok(()),
        }
    }

    /// Who has subscriptions in RESP2 could not tell replies from messages; and who watches all commands sends none over keys, being a
    /// kind of replica to Redis.
    #[cold]
    fn check_listener(&self, client: &Client) -> Result<(), Refusal> {
        let command = self.found.command;
        let is_restricted = client.session.subscriptions.is_some() && client.session.proto == Proto::Resp2;
        if is_restricted && !command.is_for_subscribers {
            return Err(Refusal::Error(error::not_for_subscribers(&self.found.full_name)));
        }
        let over_keys = Flags::READONLY.union(Flags::WRITE).union(Flags::MAY_REPLICATE);
        if matches!(client.mode, Mode::Monitor | Mode::Replica) && command.flags.intersects(over_keys) {
            return Err(Refusal::Error(error::REPLICA_KEYSPACE));
        }
        Ok(())
    }

    #[inline(always)]
    fn gate_of_pause(&mut self, shard: &mut Local) -> Result<(), Refusal> {
        if let Some(client) = &self.client
            && let Some(pause) = shard.env.pause
            && is_paused(shard, pause, client, self.found)
        {
            shard.clients.wait_for_pause(client.place);
            return Err(Refusal::Postponed(Stall::Paused));
        }
        Ok(())
    }

    /// On a replica: it refuses writes, and whatever needs data while these may be old.
    #[inline(always)]
    fn gate_of_replicas(&mut self, porch: &Porch<'_>) -> Result<(), Refusal> {
        match porch.env.node().replication.is_replica() {
            false => Ok(()),
            true => self.gate_on_a_replica(porch),
        }
    }

    #[cold]
    fn gate_on_a_replica(&mut self, porch: &Porch<'_>) -> Result<(), Refusal> {
        let is_any = |test: &dyn Fn(&Command) -> bool| self.any_command(porch.registry, test);
        if porch.env.settings.replica_read_only && is_any(&|command| command.flags.contains(Flags::WRITE)) {
            return Err(Refusal::Error(error::READ_ONLY_REPLICA));
        }
        if porch.env.is_stale() && is_any(&|command| !command.flags.contains(Flags::STALE)) {
            return Err(Refusal::Error(error::MASTER_DOWN));
        }
        Ok(())
    }

    /// Whether that holds for the command, or for one of those that it runs if it is EXEC.
    fn any_command(&self, registry: &Registry, test: &dyn Fn(&Command) -> bool) -> bool {
        let transaction = self.client.as_ref().and_then(|client| client.transaction.as_ref());
        let queue = match (self.found.command.run, transaction) {
            (Run::Transaction(Control::Exec), Some(transaction)) => &transaction.queue[..],
            _ => &[][..],
        };
        let mut queued = queue.iter().map(|queued| registry.get(queued.command).command);
        test(self.found.command) || queued.any(test)
    }

    /// While the data set is read. What MULTI has queued is looked at when EXEC comes: it may have been queued before.
    #[inline(always)]
    fn gate_of_loading(&mut self, porch: &Porch<'_>) -> Result<(), Refusal> {
        if porch.env.is_loading && !self.may_run_while_loading(porch.registry) {
            return Err(Refusal::Error(error::LOADING));
        }
        Ok(())
    }

    /// While a script runs for too long, somewhere.
    #[inline(always)]
    fn gate_of_busy_scripts(&mut self, porch: &Porch<'_>) -> Result<(), Refusal> {
        match &porch.env.busy {
            Some(error) if !self.found.command.flags.contains(Flags::ALLOW_BUSY) => Err(Refusal::Error(error.clone())),
            _ => Ok(()),
        }
    }

    #[cold]
    fn may_run_while_loading(&self, registry: &Registry) -> bool {
        let may_run = |command: &Command| command.flags.contains(Flags::LOADING);
        let transaction = self.client.as_ref().and_then(|client| client.transaction.as_ref());
        match (self.found.command.run, transaction) {
            (Run::Transaction(Control::Exec), Some(transaction)) => {
                let mut queue = transaction.queue.iter();
                queue.all(|queued| may_run(registry.get(queued.command).command))
            }
            _ => may_run(self.found.command),
        }
    }

    /// Makes room first, if the command is one over keys.
    #[inline(always)]
    fn gate_of_memory(&mut self, shard: &mut Local) -> Result<(), Refusal> {
        if shard.env.settings.maxmemory == 0 || !shard.env.may_evict() {
            return Ok(());
        }
        if runs_over_keys(&self.found.command.run) {
            if let Some(client) = &mut self.client {
                shard.upkeep.under_way.count_output(client);
            }
            shard.relieve();
        }
        if self.needs_memory(shard.registry) && shard.on_ground(|upkeep, on| upkeep.eviction.lacks_memory(on)) {
            return Err(Refusal::Error(error::OUT_OF_MEMORY));
        }
        Ok(())
    }

    /// Writes are refused after a snapshot has failed, where that is wanted, and wait while as much is captured for one as may be.
    #[inline(always)]
    fn gate_of_snapshots(&mut self, shard: &mut Local) -> Result<(), Refusal> {
        if shard.env.snapshot_state.is_calm() {
            return Ok(());
        }
        self.gate_of_troubled_snapshots(shard)
    }

    #[cold]
    fn gate_of_troubled_snapshots(&mut self, shard: &mut Local) -> Result<(), Refusal> {
        let Some(client) = &self.client else { return Ok(()) };
        let is_write = |command: &Command| command.flags.contains(Flags::WRITE);
        let (queued, is_queued) = match (&client.transaction, self.found.command.run) {
            (Some(transaction), Run::Transaction(Control::Exec)) => (&transaction.queue[..], false),
            (transaction, _) => (&[][..], transaction.is_some()),
        };
        let mut commands = queued.iter().map(|queued| shard.registry.get(queued.command).command);
        if !is_write(self.found.command) && !commands.any(is_write) {
            return Ok(());
        }
        if let Some(refusal) = shard.env.refusal_of_writes() {
            return Err(Refusal::Error(refusal));
        }
        if shard.env.snapshot_state.lacks_replicas {
            return Err(Refusal::Error(error::NO_REPLICAS));
        }
        let touches_unsaved = |command: &Command, args: Args| {
            let slots = key_slots(command, args);
            slots.iter().any(|slot| shard.env.cut.is_unsaved(slot))
        };
        let waits = shard.env.snapshot_state.is_at_limit
            && !is_queued
            && (touches_unsaved(self.found.command, self.args)
                || queued
                    .iter()
                    .any(|queued| touches_unsaved(shard.registry.get(queued.command).command, queued.args.as_args())));
        if waits {
            shard.clients.wait_for_snapshot(client.place);
            return Err(Refusal::Postponed(Stall::Snapshot));
        }
        Ok(())
    }

    /// Whether the command may take memory that lasts. What is queued by MULTI does, whatever it is.
    fn needs_memory(&self, registry: &Registry) -> bool {
        let transaction = self.client.as_ref().and_then(|client| client.transaction.as_ref());
        let Some(transaction) = transaction else {
            return self.found.command.flags.contains(Flags::DENYOOM);
        };
        match self.found.command.run {
            Run::Transaction(Control::Exec) => transaction.queue.iter().any(|queued| {
                let queued = registry.get(queued.command);
                queued.command.flags.contains(Flags::DENYOOM)
            }),
            Run::Transaction(Control::Discard | Control::Reset | Control::Quit) => false,
            _ => true,
        }
    }
}

/// Whether the parameter that protects a command lets this client call it.
#[cold]
fn check_protection(settings: &Settings, client: &Client, protection: Protection) -> Result<(), ReplyError> {
    let (permission, refusal) = match protection {
        Protection::ModuleCommand => (settings.enable_module_command, error::MODULE_NOT_ALLOWED),
    };
    match permission.allows(client.session.is_local) {
        true => Ok(()),
        false => Err(refusal),
    }
}

/// The rule of a container whose subcommands are its own affair: arity, guard, password, then the subcommand.
#[cold]
fn pass_guard(
    registry: &Registry,
    settings: &Settings,
    client: &Client,
    found: &'static Registered,
    args: Args,
) -> Result<(), ReplyError> {
    let container = match found.parent {
        Some(parent) => registry.get(parent),
        None => found,
    };
    let Run::Guarded(guarded) = container.command.run else {
        unreachable!("only a guarded container has inner commands")
    };
    if !container.command.accepts(args.len()) {
        return Err(error::wrong_arity(&container.full_name));
    }
    (guarded.guard)(settings, client.session.is_local)?;
    if !client.session.is_authenticated && wants_password(settings) {
        return Err(error::NO_AUTH);
    }
    if !found.is_inner || !found.command.accepts(args.len()) {
        return Err(error::unknown_subcommand_or_arity(container.command.name, args.at(1)));
    }
    Ok(())
}

/// Whether clients must authenticate: the password may have been taken away since they came.
fn wants_password(settings: &Settings) -> bool {
    !settings.requirepass.is_empty()
}

/// Whether CLIENT PAUSE holds this request back. A pause whose time is over is ended by whoever meets it.
fn is_paused(shard: &mut Local, pause: Pause, client: &Client, found: &'static Registered) -> bool {
    if pause.until <= shard.env.now {
        shard.env.end_pause(&mut shard.clients);
        return false;
    }
    if !pause.writes_only {
        return true;
    }
    match (&client.transaction, found.command.run) {
        (Some(transaction), Run::Transaction(Control::Exec)) => any_writes(shard.registry, &transaction.queue),
        (Some(_), _) => false,
        (None, _) => writes(found.command),
    }
}

/// Whether running the command is a unit of work over keys, for which room is made first.
fn runs_over_keys(run: &Run) -> bool {
    matches!(
        run,
        Run::Keys(_)
            | Run::Reaching(..)
            | Run::Slots(..)
            | Run::Script(_)
            | Run::Everything(_)
            | Run::Transaction(Control::Exec)
    )
}

/// Whether any of these commands writes.
pub(super) fn any_writes(registry: &Registry, queue: &[Queued]) -> bool {
    queue.iter().any(|queued| writes(registry.get(queued.command).command))
}

/// Whether a command is one that CLIENT PAUSE WRITE holds back.
pub(super) fn writes(command: &Command) -> bool {
    command.flags.intersects(Flags::WRITE.union(Flags::MAY_REPLICATE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Ms;
    use crate::config::Permission;
    use crate::engine::assembly::Assembly;
    use crate::engine::{Guarded, SessionOp};
    use crate::resp::OwnedArgs;
    use crate::spec::{KeyFlags, KeySpec, command};
    use crate::stats::MemoryAccount;
    use std::sync::Arc;

    const A_KEY: &[KeySpec] = &[KeySpec::one(1, KeyFlags::RW)];

    const fn over_a_key(name: &'static str, flags: Flags) -> Command {
        Command {
            arity: 2,
            flags,
            keys: A_KEY,
            ..command(name, Run::Keys(|_| Ok(())))
        }
    }

    const fn over_the_session(name: &'static str, arity: i16, flags: Flags) -> Command {
        Command {
            arity,
            flags,
            ..command(name, Run::Session(nothing))
        }
    }

    fn nothing(_: &mut SessionOp) -> Result<(), ReplyError> {
        Ok(())
    }

    const fn controlling(name: &'static str, control: Control) -> Command {
        Command {
            arity: 1,
            ..command(name, Run::Transaction(control))
        }
    }

    const COMMANDS: &[Command] = &[
        over_a_key("look", Flags::READONLY),
        over_a_key("put", Flags::WRITE.union(Flags::DENYOOM)),
        over_a_key("take", Flags::WRITE),
        over_the_session("say", 2, Flags::NONE),
        over_the_session("enter", 1, Flags::NO_AUTH),
        over_the_session("publish", 1, Flags::MAY_REPLICATE),
        Command {
            protection: Some(Protection::ModuleCommand),
            ..over_the_session("load", 1, Flags::NONE)
        },
        controlling("multi", Control::Multi),
        controlling("exec", Control::Exec),
        controlling("discard", Control::Discard),
        controlling("reset", Control::Reset),
        controlling("quit", Control::Quit),
        Command {
            arity: -2,
            subcommands: &[over_the_session("member", 2, Flags::NONE)],
            ..command("container", Run::Container)
        },
        Command {
            arity: -2,
            ..command(
                "hidden",
                Run::Guarded(&Guarded {
                    subcommands: &[over_the_session("one", 3, Flags::NONE)],
                    guard: |settings, _| match settings.enable_debug_command {
                        Permission::No => Err(error::DEBUG_NOT_ALLOWED),
                        _ => Ok(()),
                    },
                }),
            )
        },
    ];

    /// A shard and its client.
    struct Door {
        assembly: Assembly,
        client: Box<Client>,
    }

    impl Door {
        fn new() -> Door {
            let registry = Box::leak(Box::new(Registry::new(&[COMMANDS], &[]).unwrap()));
            let assembly = Assembly::new(registry, 1);
            let client = assembly.shards[0].borrow_mut().clients.take(0).unwrap();
            Door { assembly, client }
        }

        fn set(&self, change: impl FnOnce(&mut Settings)) {
            let mut shard = self.assembly.shards[0].borrow_mut();
            let mut settings = (*shard.env.settings).clone();
            change(&mut settings);
            shard.follow(Arc::new(settings));
        }

        /// What becomes of a request: nothing if it may run.
        fn answer(&mut self, line: &str) -> String {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let args = OwnedArgs::from_slices(&words);
            let mut shard = self.assembly.shards[0].borrow_mut();
            let found = shard.registry.resolve(args.as_args()).unwrap();
            match let_in(&mut shard, &mut self.client, found, args.as_args()) {
                Ok(()) => String::new(),
                Err(Refusal::Error(error)) => {
                    error.code().into_owned() + if error.text().ends_with(b"HELP.") { " HELP" } else { "" }
                }
                Err(Refusal::Postponed(stall)) => format!("{stall:?}"),
            }
        }

        /// The same for one that another shard has sent.
        fn answer_shipped(&self, line: &str) -> bool {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let args = OwnedArgs::from_slices(&words);
            let mut shard = self.assembly.shards[0].borrow_mut();
            let found = shard.registry.resolve(args.as_args()).unwrap();
            let_in_shipped(&mut shard, found, args.as_args()).is_ok()
        }

        fn expect(&mut self, answers: &[(&str, &str)]) {
            for (line, answer) in answers {
                assert_eq!(self.answer(line), *answer, "{line}");
            }
        }

        /// A transaction of these commands.
        fn begin(&mut self, queue: &[&str]) {
            let registry = self.assembly.shards[0].borrow().registry;
            let mut transaction = Box::<crate::client::Transaction>::default();
            for name in queue {
                let args = OwnedArgs::from_slices(&[*name, "key"]);
                transaction.queue(registry.by_name(name.as_bytes()).unwrap().id, args.as_args());
            }
            self.client.transaction = Some(transaction);
        }
    }

    #[test]
    fn the_number_of_arguments_is_the_literals() {
        let mut door = Door::new();
        door.expect(&[
            ("look key", ""),
            ("look", "ERR"),
            ("look key other", "ERR"),
            ("container member", ""),
            ("container member more", "ERR"),
            ("container", "ERR"),
        ]);
    }

    #[test]
    fn a_container_itself_never_runs() {
        // Of the right length, but without a subcommand; nothing but the gate refuses it.
        let mut door = Door::new();
        let mut shard = door.assembly.shards[0].borrow_mut();
        let found = shard.registry.by_name(b"container").unwrap();
        let args = OwnedArgs::from_slices(&["container", "x"]);
        assert!(found.command.accepts(args.as_args().len()));
        assert!(let_in(&mut shard, &mut door.client, found, args.as_args()).is_err());
    }

    #[test]
    fn without_the_password_only_those_may_run_that_need_none() {
        let mut door = Door::new();
        door.client.session.is_authenticated = false;
        door.expect(&[("look key", ""), ("enter", "")]);
        door.set(|settings| {
            settings.requirepass = "secret".into();
            settings.enable_debug_command = Permission::Yes;
        });
        door.expect(&[("look key", "NOAUTH"), ("enter", ""), ("hidden one x", "NOAUTH")]);
        door.client.session.is_authenticated = true;
        door.expect(&[("look key", ""), ("hidden one x", "")]);
    }

    #[test]
    fn a_protected_command_asks_its_parameter() {
        let mut door = Door::new();
        door.expect(&[("load", "ERR"), ("say x", "")]);
        door.set(|settings| settings.enable_module_command = Permission::Local);
        door.expect(&[("load", "")]);
        door.client.session.is_local = false;
        door.expect(&[("load", "ERR")]);
    }

    #[test]
    fn what_a_guarded_container_holds_is_told_to_those_who_may_know() {
        let mut door = Door::new();
        // The rule comes before everything but the number of arguments that the container takes.
        door.expect(&[("hidden one x", "ERR"), ("hidden", "ERR"), ("hidden nothing", "ERR")]);
        door.set(|settings| settings.enable_debug_command = Permission::Yes);
        door.expect(&[
            ("hidden one x", ""),
            ("hidden one", "ERR HELP"),
            ("hidden nothing x", "ERR HELP"),
            ("hidden", "ERR"),
        ]);
        door.client.session.is_authenticated = false;
        door.expect(&[("hidden one x", ""), ("hidden one", "ERR HELP")]);
    }

    #[test]
    fn what_takes_memory_is_refused_where_there_is_none() {
        let mut door = Door::new();
        let balance = MemoryAccount::own_balance_bytes();
        MemoryAccount::pose_as(1 << 30);
        door.expect(&[("put key", "")]);
        assert!(door.answer_shipped("put key"));
        door.set(|settings| settings.maxmemory = 1 << 40);
        door.expect(&[("put key", ""), ("look key", "")]);
        door.set(|settings| settings.maxmemory = 1 << 20);
        door.expect(&[("put key", "OOM"), ("take key", ""), ("look key", ""), ("say x", "")]);
        assert!(!door.answer_shipped("put key"));
        assert!(door.answer_shipped("take key"));
        // What is queued takes memory, whatever it is; what is run is asked for what it takes.
        door.begin(&["look", "take"]);
        door.expect(&[
            ("look key", "OOM"),
            ("exec", ""),
            ("discard", ""),
            ("reset", ""),
            ("quit", ""),
        ]);
        door.begin(&["look", "put"]);
        door.expect(&[("exec", "OOM"), ("discard", "")]);
        door.set(|settings| settings.maxmemory = 1 << 40);
        door.expect(&[("exec", "")]);
        MemoryAccount::pose_as(balance);
    }

    #[test]
    fn room_is_looked_for_before_a_command_over_keys() {
        let mut door = Door::new();
        let balance = MemoryAccount::own_balance_bytes();
        door.set(|settings| settings.maxmemory = 1 << 20);
        // The account is as old as the last look: only a unit over keys has another one.
        MemoryAccount::pose_as(1 << 30);
        door.assembly.shards[0].borrow_mut().publish_memory();
        MemoryAccount::pose_as(0);
        let counted = |door: &Door| door.assembly.shards[0].borrow().node.memory.counted_bytes();
        door.expect(&[("say x", "")]);
        assert!(counted(&door) >= 1 << 30);
        door.expect(&[("put key", "")]);
        assert!(counted(&door) < 1 << 20);
        MemoryAccount::pose_as(balance);
    }

    #[test]
    fn a_pause_holds_back_what_it_is_for_until_it_is_over() {
        let mut door = Door::new();
        let now = door.assembly.shards[0].borrow().env.now;
        let begin = |door: &Door, writes_only| {
            let until = now + Ms(1000);
            let env = &mut door.assembly.shards[0].borrow_mut().env;
            env.pause = None;
            env.begin_pause(Pause { until, writes_only });
        };
        begin(&door, true);
        door.expect(&[
            ("put key", "Paused"),
            ("publish", "Paused"),
            ("look key", ""),
            ("say x", ""),
        ]);
        door.begin(&["look"]);
        door.expect(&[("put key", ""), ("exec", "")]);
        door.begin(&["look", "take"]);
        door.expect(&[("look key", ""), ("exec", "Paused")]);
        door.client.transaction = None;
        begin(&door, false);
        door.expect(&[("look key", "Paused"), ("say x", "Paused")]);
        // A client of another shard was asked there.
        assert!(door.answer_shipped("put key"));
        let set_now = |door: &Door, past: u64| door.assembly.shards[0].borrow_mut().env.now = now + Ms(past);
        set_now(&door, 999);
        door.expect(&[("look key", "Paused")]);
        set_now(&door, 1000);
        door.expect(&[("look key", "")]);
        assert!(
            door.assembly.shards[0].borrow().env.pause.is_none(),
            "who meets its end ends it"
        );
    }
}
