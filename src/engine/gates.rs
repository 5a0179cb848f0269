//! What a request must pass before it runs, read from the flags of its literal.
//!
//! The gates are a table (`gates!`), in the order in which clients can tell them apart by the errors. For each one its row says which ways
//! in lead through it: a client's own request, and a command that a home runs for a client of another shard, which has passed the rest where
//! its client is.

use super::env::Pause;
use super::literal::{Command, Control, Registered, Run};
use super::local::Local;
use crate::client::{Client, Queued, Stall};
use crate::resp::{Args, ReplyError, error};
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
}

/// Who asks, and for what.
struct Applicant<'a> {
    /// Whose request it is; None: a client of another shard.
    client: Option<&'a mut Client>,
    found: &'static Registered,
    args: Args<'a>,
}

const BOTH: u8 = Way::Request as u8 | Way::Shipped as u8;
const REQUEST: u8 = Way::Request as u8;

/// The table: a gate in each row, in Redis's order, behind the ways that lead through it. It becomes straight code: a loop over functions would
/// cost each request some fifty instructions.
macro_rules! gates {
    ($($ways:ident => $check:ident;)+) => {
        impl Local {
            #[inline(always)]
            fn pass_gates(&mut self, way: Way, mut applicant: Applicant<'_>) -> Result<(), Refusal> {
                $(if $ways & way as u8 != 0 {
                    self.$check(&mut applicant)?;
                })+
                Ok(())
            }
        }
    };
}

gates! {
    REQUEST => gate_of_hidden_containers;
    REQUEST => gate_of_arity;
    REQUEST => gate_of_protection;
    REQUEST => gate_of_password;
    REQUEST => gate_of_pause;
    REQUEST => gate_of_loading;
    BOTH => gate_of_memory;
}

impl Local {
    /// Whether a client's request may run.
    #[inline(always)]
    pub(super) fn let_in(
        &mut self,
        client: &mut Client,
        found: &'static Registered,
        args: Args,
    ) -> Result<(), Refusal> {
        let client = Some(client);
        self.pass_gates(Way::Request, Applicant { client, found, args })
    }

    /// Whether a command that another shard has sent may run: when that shard looked, those before it had not run. As many as a client may have
    /// under way would get past a limit that has just been reached.
    #[inline(always)]
    pub(super) fn let_in_shipped(&mut self, found: &'static Registered, args: Args) -> Result<(), Refusal> {
        let client = None;
        self.pass_gates(Way::Shipped, Applicant { client, found, args })
    }

    #[inline(always)]
    fn gate_of_hidden_containers(&mut self, applicant: &mut Applicant<'_>) -> Result<(), Refusal> {
        let Applicant { client, found, args } = applicant;
        match client {
            Some(client) if found.is_inner || found.is_guarded() => {
                self.pass_guard(client, found, *args).map_err(Refusal::Error)
            }
            _ => Ok(()),
        }
    }

    #[inline(always)]
    fn gate_of_arity(&mut self, applicant: &mut Applicant<'_>) -> Result<(), Refusal> {
        let command = applicant.found.command;
        if command.accepts(applicant.args.len()) && !matches!(command.run, Run::Container) {
            return Ok(());
        }
        Err(Refusal::Error(error::wrong_arity(&applicant.found.full_name)))
    }

    #[inline(always)]
    fn gate_of_protection(&mut self, applicant: &mut Applicant<'_>) -> Result<(), Refusal> {
        match (&applicant.client, applicant.found.command.protection) {
            (Some(client), Some(protection)) => self.check_protection(client, protection).map_err(Refusal::Error),
            _ => Ok(()),
        }
    }

    #[inline(always)]
    fn gate_of_password(&mut self, applicant: &mut Applicant<'_>) -> Result<(), Refusal> {
        let is_known = applicant
            .client
            .as_ref()
            .is_none_or(|client| client.session.is_authenticated);
        if !is_known && !applicant.found.command.flags.contains(Flags::NO_AUTH) && self.wants_password() {
            return Err(Refusal::Error(error::NO_AUTH));
        }
        Ok(())
    }

    #[inline(always)]
    fn gate_of_pause(&mut self, applicant: &mut Applicant<'_>) -> Result<(), Refusal> {
        if let Some(client) = &mut applicant.client
            && self.env.pause.is_some()
            && self.is_paused(client, applicant.found)
        {
            self.paused.push(client.place);
            return Err(Refusal::Postponed(Stall::Paused));
        }
        Ok(())
    }

    /// While the data set is read. What MULTI has queued is looked at when EXEC comes: it may have been queued before.
    #[inline(always)]
    fn gate_of_loading(&mut self, applicant: &mut Applicant<'_>) -> Result<(), Refusal> {
        if self.env.is_loading && !self.may_run_while_loading(applicant) {
            return Err(Refusal::Error(error::LOADING));
        }
        Ok(())
    }

    #[cold]
    fn may_run_while_loading(&self, applicant: &Applicant<'_>) -> bool {
        let may_run = |command: &Command| command.flags.contains(Flags::LOADING);
        let transaction = applicant.client.as_ref().and_then(|client| client.transaction.as_ref());
        match (applicant.found.command.run, transaction) {
            (Run::Transaction(Control::Exec), Some(transaction)) => transaction
                .queue
                .iter()
                .all(|queued| may_run(self.registry.get(queued.command).command)),
            _ => may_run(applicant.found.command),
        }
    }

    /// Makes room first, if the command is one over keys.
    #[inline(always)]
    fn gate_of_memory(&mut self, applicant: &mut Applicant<'_>) -> Result<(), Refusal> {
        if self.env.settings.maxmemory == 0 {
            return Ok(());
        }
        if runs_over_keys(&applicant.found.command.run) {
            if let Some(client) = &mut applicant.client {
                self.upkeep.under_way.count_output(client);
            }
            self.relieve();
        }
        if self.needs_memory(applicant) && self.lacks_memory() {
            return Err(Refusal::Error(error::OUT_OF_MEMORY));
        }
        Ok(())
    }

    /// Whether the command may take memory that lasts. What is queued by MULTI does, whatever it is.
    fn needs_memory(&self, applicant: &Applicant<'_>) -> bool {
        let found = applicant.found;
        let transaction = applicant.client.as_ref().and_then(|client| client.transaction.as_ref());
        let Some(transaction) = transaction else {
            return found.command.flags.contains(Flags::DENYOOM);
        };
        match found.command.run {
            Run::Transaction(Control::Exec) => transaction.queue.iter().any(|queued| {
                let queued = self.registry.get(queued.command);
                queued.command.flags.contains(Flags::DENYOOM)
            }),
            Run::Transaction(Control::Discard | Control::Reset | Control::Quit) => false,
            _ => true,
        }
    }

    /// Whether the parameter that protects a command lets this client call it.
    #[cold]
    fn check_protection(&self, client: &Client, protection: Protection) -> Result<(), ReplyError> {
        let (permission, refusal) = match protection {
            Protection::ModuleCommand => (self.env.settings.enable_module_command, error::MODULE_NOT_ALLOWED),
        };
        match permission.allows(client.session.is_local) {
            true => Ok(()),
            false => Err(refusal),
        }
    }

    /// The rule of a container whose subcommands are its own affair: arity, guard, password, then the subcommand.
    #[cold]
    fn pass_guard(&self, client: &Client, found: &'static Registered, args: Args) -> Result<(), ReplyError> {
        let container = match found.parent {
            Some(parent) if found.is_inner => self.registry.get(parent),
            _ => found,
        };
        let Run::Guarded(guarded) = container.command.run else {
            unreachable!("only a guarded container has inner commands")
        };
        if !container.command.accepts(args.len()) {
            return Err(error::wrong_arity(&container.full_name));
        }
        (guarded.guard)(&self.env.settings, client.session.is_local)?;
        if !client.session.is_authenticated && self.wants_password() {
            return Err(error::NO_AUTH);
        }
        if !found.is_inner || !found.command.accepts(args.len()) {
            return Err(error::unknown_subcommand_or_arity(container.command.name, args.at(1)));
        }
        Ok(())
    }

    /// Whether clients must authenticate: the password may have been taken away since they came.
    fn wants_password(&self) -> bool {
        !self.env.settings.requirepass.is_empty()
    }

    /// Whether CLIENT PAUSE holds this request back.
    fn is_paused(&mut self, client: &Client, found: &'static Registered) -> bool {
        let Some(pause) = self.env.pause else { return false };
        if pause.until <= self.env.now {
            self.end_pause();
            return false;
        }
        if !pause.writes_only {
            return true;
        }
        match (&client.transaction, found.command.run) {
            (Some(transaction), Run::Transaction(Control::Exec)) => self.any_writes(&transaction.queue),
            (Some(_), _) => false,
            (None, _) => writes(found.command),
        }
    }

    /// Whether any of these commands writes.
    pub(super) fn any_writes(&self, queue: &[Queued]) -> bool {
        queue
            .iter()
            .any(|queued| writes(self.registry.get(queued.command).command))
    }

    /// Holds clients back. Where a pause lasts already, it becomes neither shorter nor milder by it.
    pub fn begin_pause(&mut self, asked: Pause) {
        let current = self.env.pause.filter(|pause| pause.until > self.env.now);
        self.env.pause = Some(match current {
            None => asked,
            Some(pause) => Pause {
                until: pause.until.max(asked.until),
                writes_only: pause.writes_only && asked.writes_only,
            },
        });
    }

    /// Lets the clients that CLIENT PAUSE held back go on.
    pub fn end_pause(&mut self) {
        self.env.pause = None;
        for place in std::mem::take(&mut self.paused) {
            if let Some(client) = self.clients.get(place)
                && client.stall == Stall::Paused
            {
                client.stall = Stall::Not;
            }
            self.list(place.index);
        }
    }
}

/// Whether running the command is a unit of work over keys, for which room is made first.
fn runs_over_keys(run: &Run) -> bool {
    matches!(
        run,
        Run::Keys(_) | Run::Reaching(..) | Run::Slots(..) | Run::Everything(_) | Run::Transaction(Control::Exec)
    )
}

/// Whether a command is one that CLIENT PAUSE WRITE holds back.
pub(super) fn writes(command: &Command) -> bool {
    command.flags.intersects(Flags::WRITE.union(Flags::MAY_REPLICATE))
}
