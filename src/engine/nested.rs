//! What a script calls: commands that run within the unit of work of the script's own command.
//!
//! A script runs inside a handler over keys, so its calls are to the engine what the commands of EXEC are: each runs with its own gates, logs and
//! counts for itself, and looks at slots through the unit's view. There are two differences. Nobody knows beforehand which
//! commands come, so a call may lack slots at any time: then the whole script ends at once ([`Uncalled::Again`], which it must not be able to
//! catch), everything is taken back, and the unit runs again with these slots as well. And what follows in the script depends on what a call
//! answers, so the reply goes into a buffer of its own.
//!
//! What may be called is Redis's rule, read from the literals: commands that are not for scripts are refused, those over the session see a session of the
//! script's own (whose db is the caller's until it selects another one), and what waits for other shards, for files or for time is refused as well,
//! since nothing may wait while slots are held and a script is under way. (What is asked of the whole keyspace takes everything.)
//!
//! Invariants: (1) a call that is refused has done nothing; (2) after [`Uncalled::Again`] no further call is made in this attempt.

use super::attempt::Audience;
use super::env::Env;
use super::keyspace::Keyspace;
use super::literal::{Caller, Op, Registered, Registry, Run};
use super::run::{Outcome, count, run_keys, run_session, show};
use crate::client::Session;
use crate::resp::{Args, Proto, Reply, ReplyBuf, ReplyError, Span, error};
use crate::spec::Flags;
use crate::store::DbIndex;

/// The calls of one script.
pub struct Nested<'o, 'a, 'v> {
    keys: &'o mut Keyspace<'a, 'v>,
    pub env: &'o mut Env,
    rules: Rules,
    caller: Caller,
    /// Whether something was called that may write.
    has_written: bool,
    /// Who gets the effects of what is called; None: nobody.
    audience: Option<Audience>,
    session: Option<Box<Session>>,
    buffer: Vec<u8>,
    spans: Vec<Span>,
}

/// What holds for one run of a script.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// Nothing may be called that writes or publishes.
    pub is_read_only: bool,
    /// What takes memory may be called though there is too little.
    pub allows_oom: bool,
}

/// Why a call was not made, or is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uncalled {
    /// The script gets this error; nothing is counted.
    Refused(ReplyError),
    /// The script must end here: its unit lacks slots, and runs again.
    Again,
}

/// The registry of all commands.
fn registry_of(env: &Env) -> &'static Registry {
    let registry = env.registry().downcast_ref();
    registry.expect("a shard is made with the registry of its commands")
}

impl<'a, 'v> Op<'a, 'v> {
    /// For the script that this call runs: what it calls with, beside the reply that it writes in the end.
    pub fn nest<'o>(&'o mut self, rules: Rules) -> (Nested<'o, 'a, 'v>, &'o mut Reply<'a>) {
        let caller = Caller {
            is_nested: true,
            is_silent: false,
            is_script: true,
            ..self.caller
        };
        let nested = Nested {
            keys: &mut self.keys,
            env: self.env,
            rules,
            caller,
            has_written: false,
            audience: Some(Audience::Both),
            session: None,
            buffer: Vec::new(),
            spans: Vec::new(),
        };
        (nested, &mut self.reply)
    }
}

impl Nested<'_, '_, '_> {
    /// Calls a command, whose name is the first of the words, and appends its reply. Before one runs that may write, `may_write` is asked.
    pub fn call(
        &mut self,
        words: &[&[u8]],
        proto: Proto,
        reply: &mut ReplyBuf,
        may_write: impl FnOnce() -> Result<(), ReplyError>,
    ) -> Result<(), Uncalled> {
        let (mut buffer, mut spans) = (std::mem::take(&mut self.buffer), std::mem::take(&mut self.spans));
        buffer.clear();
        spans.clear();
        for word in words {
            let start = buffer.len();
            buffer.extend_from_slice(word);
            spans.push(Span {
                start,
                end: buffer.len(),
            });
        }
        let answer = self.call_args(Args::new(&buffer, &spans), proto, reply, may_write);
        (self.buffer, self.spans) = (buffer, spans);
        answer
    }

    fn call_args(
        &mut self,
        args: Args,
        proto: Proto,
        reply: &mut ReplyBuf,
        may_write: impl FnOnce() -> Result<(), ReplyError>,
    ) -> Result<(), Uncalled> {
        let registry = registry_of(self.env);
        let found = registry
            .resolve(args)
            .map_err(|_| Uncalled::Refused(error::SCRIPT_UNKNOWN_COMMAND))?;
        self.let_in(found, args).map_err(Uncalled::Refused)?;
        if found.command.flags.contains(Flags::WRITE) {
            may_write().map_err(Uncalled::Refused)?;
            self.has_written = true;
        }
        self.caller.proto = proto;
        match found.command.run {
            Run::Session(_) => {
                self.run_session(registry, found, args, proto, reply);
                Ok(())
            }
            Run::Everything(_) if !self.keys.view.has_everything() => {
                let _ = self.keys.need_everything();
                Err(Uncalled::Again)
            }
            _ => self.run_keys(found, args, reply),
        }
    }

    /// Whether the script may call that. (The order is Redis's: the first objection is the one that the script gets.)
    fn let_in(&self, found: &'static Registered, args: Args) -> Result<(), ReplyError> {
        let command = found.command;
        if !command.accepts(args.len()) {
            return Err(error::SCRIPT_WRONG_ARITY);
        }
        if command.flags.contains(Flags::NOSCRIPT) || !may_run_within(&command.run) {
            return Err(error::SCRIPT_NOT_ALLOWED);
        }
        if !command.flags.contains(Flags::STALE) && self.env.is_stale() {
            return Err(error::SCRIPT_STALE);
        }
        let writes = command.flags.contains(Flags::WRITE);
        if self.rules.is_read_only && (writes || command.flags.contains(Flags::MAY_REPLICATE)) {
            return Err(error::SCRIPT_READ_ONLY);
        }
        if let Some(refusal) = self.env.refusal_of_replica(command.flags) {
            return Err(refusal);
        }
        if writes && let Some(refusal) = self.env.refusal_of_writes() {
            return Err(refusal);
        }
        let takes_memory = command.flags.contains(Flags::DENYOOM);
        if takes_memory && !self.rules.allows_oom && !self.has_written && self.env.lacks_memory() {
            return Err(error::OUT_OF_MEMORY);
        }
        Ok(())
    }

    fn run_keys(&mut self, found: &'static Registered, args: Args, reply: &mut ReplyBuf) -> Result<(), Uncalled> {
        let attempt = &mut *self.keys.attempt;
        let logged_before = match &mut attempt.consequences {
            Some(consequences) => {
                consequences.audience = self.audience.unwrap_or_default();
                consequences.effects.len()
            }
            None => 0,
        };
        let outcome = run_keys(
            found,
            args,
            &self.caller,
            None,
            self.keys.view,
            attempt,
            self.env,
            reply,
        );
        if outcome != Outcome::Ran {
            return Err(Uncalled::Again);
        }
        if self.audience.is_none()
            && let Some(consequences) = &mut attempt.consequences
        {
            consequences.effects.truncate(logged_before);
        }
        Ok(())
    }

    fn run_session(
        &mut self,
        registry: &'static Registry,
        found: &'static Registered,
        args: Args,
        proto: Proto,
        reply: &mut ReplyBuf,
    ) {
        let session = self.session.get_or_insert_with(|| {
            let mut session = Session::new(0, "", "", self.caller.is_local);
            session.is_authenticated = true;
            session.db = self.caller.db.0;
            Box::new(session)
        });
        session.proto = proto;
        let node = self.env.node().clone();
        let counted = run_session(found, args, session, true, self.env, &node, registry, reply);
        self.caller.db = DbIndex(session.db);
        count(found, args, counted, self.keys.attempt, self.env);
        show(found, args, &self.caller, self.keys.attempt, self.env);
    }

    /// Whether something was called that may write.
    pub fn has_written(&self) -> bool {
        self.has_written
    }

    /// Who gets the effects of what is called from here on.
    pub fn send_effects(&mut self, to_file: bool, to_stream: bool) {
        self.audience = match (to_file, to_stream) {
            (true, true) => Some(Audience::Both),
            (true, false) => Some(Audience::File),
            (false, true) => Some(Audience::Stream),
            (false, false) => None,
        };
    }

    /// Whether there is such a command.
    pub fn knows(&self, words: &[&[u8]]) -> bool {
        let registry = registry_of(self.env);
        let args = crate::resp::OwnedArgs::from_slices(words);
        registry.resolve(args.as_args()).is_ok()
    }
}

/// Whether a command of this kind can run while a script does.
fn may_run_within(run: &Run) -> bool {
    match run {
        Run::Keys(_) | Run::Slots(..) | Run::Reaching(..) | Run::Everything(_) | Run::Session(_) => true,
        Run::Script(_) | Run::Node(_) | Run::Transaction(_) | Run::Container | Run::Guarded(_) => false,
    }
}
