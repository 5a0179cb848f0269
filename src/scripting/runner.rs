//! Running scripts where the slots of their keys are.
//!
//! A script's command is one over keys ([`Run::Script`](crate::engine::Run)): its handler comes here with what the unit of work holds. It finds the
//! script, has the shard's own interpreter run it, and lets it call commands through [`Nested`]. The process shares the texts ([`Shared`]); what
//! is compiled belongs to a shard, since an interpreter runs on one thread.
//!
//! A script may be run again from its beginning, when a call lacks slots. Then its end is no end: the interpreter unwinds past every `pcall`,
//! and what the run has told (errors that it counts, lines for the log) is dropped with it.
//!
//! Invariants: (1) the interpreter is taken out of its shard while it runs, so a script cannot run another one; (2) a script's text is in
//! the cache before it runs.

use super::busy::{Busy, Watch};
use super::cache::{Cache, CachedScript, Digest, Known, Lookup, digest, parse_digest};
use super::functions::{Loaded, count_libraries, flags_of};
use crate::base::numbers::parse_i64;
use crate::engine::{Env, Nested, Node, Op, Rules, SessionOp, Uncalled};
use crate::resp::{Args, Proto, Reply, ReplyBuf, ReplyError, error};
use crate::script::{Ending, Host, Limits, LogLevel, Refusal, Replication, Script, ScriptFlags, State};
use crate::stats::ScriptFigures;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What all shards share.
pub struct Shared {
    cache: Cache,
    pub(super) busy: Busy,
    /// What each shard's interpreters took when it last used them.
    interpreters: Box<[InterpreterBytes]>,
}

#[derive(Default)]
struct InterpreterBytes {
    scripts: AtomicUsize,
    functions: AtomicUsize,
}

/// What a shard keeps.
pub(super) struct Interpreter {
    pub(super) state: State,
    pub(super) loaded: Loaded,
    known: Known,
}

/// How a call names its script.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// By its text (EVAL).
    Text,
    /// By its SHA1 (EVALSHA).
    Digest,
}

/// What the process's shards share.
pub fn shared(node: &Node) -> &Shared {
    let shared = node.scripts.get_or_init(|| {
        Box::new(Shared {
            cache: Cache::default(),
            busy: Busy::new(node.shards),
            interpreters: (0..node.shards).map(|_| InterpreterBytes::default()).collect(),
        })
    });
    shared.downcast_ref().expect("nobody else keeps anything there")
}

impl Interpreter {
    /// Lends the shard's interpreter, which is made the first time.
    pub(super) fn with<R>(
        env: &mut Env,
        work: impl FnOnce(&mut Interpreter, &mut Env) -> Result<R, ReplyError>,
    ) -> Result<R, ReplyError> {
        let mut interpreter = Interpreter::take(env);
        let answer = work(&mut interpreter, env);
        interpreter.put_back(env);
        answer
    }

    /// The shard has it again.
    fn put_back(self: Box<Interpreter>, env: &mut Env) {
        let bytes = &shared(env.node()).interpreters[usize::from(env.shard.0)];
        bytes.scripts.store(self.state.script_memory_bytes(), Ordering::Relaxed);
        bytes
            .functions
            .store(self.state.function_memory_bytes(), Ordering::Relaxed);
        env.interpreter = Some(self);
    }

    fn take(env: &mut Env) -> Box<Interpreter> {
        let limits = Limits {
            memory_bytes_max: match env.settings.lua_memory_max {
                0 => usize::MAX,
                bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
            },
        };
        let Some(kept) = env.interpreter.take() else {
            return Box::new(Interpreter {
                state: State::new(limits),
                loaded: Loaded::default(),
                known: Known::default(),
            });
        };
        let kept = kept.downcast::<Interpreter>();
        let mut interpreter = kept.unwrap_or_else(|_| unreachable!("nobody else keeps anything there"));
        interpreter.state.set_limits(limits);
        interpreter
    }

    /// The script that is named; a new text is compiled, and known from then on.
    fn find(&mut self, env: &Env, source: Source, named: &Digest, args: Args) -> Result<Arc<CachedScript>, ReplyError> {
        let cache = &shared(env.node()).cache;
        match self.look_up(cache, named) {
            Some(script) => Ok(script),
            None if source == Source::Digest => Err(error::NO_SCRIPT),
            None => {
                let script = self.compile(*named, &args[1])?;
                cache.insert(&script, false);
                Ok(script)
            }
        }
    }

    fn look_up(&mut self, cache: &Cache, named: &Digest) -> Option<Arc<CachedScript>> {
        if self.known.follow_flush(cache) {
            self.state.forget_all();
        }
        match self.known.find(named, cache) {
            Lookup::Found(script) => Some(script),
            Lookup::Unknown => None,
            Lookup::Lost => {
                self.state.forget(named);
                for digest in self.known.take_lost(cache) {
                    self.state.forget(&digest);
                }
                None
            }
        }
    }

    fn compile(&mut self, named: Digest, body: &[u8]) -> Result<Arc<CachedScript>, ReplyError> {
        let script = CachedScript::new(named, body)?;
        self.state.check(Script { sha: &named, body })?;
        Ok(Arc::new(script))
    }
}

/// Runs the script that a call of EVAL or one of its kin names.
pub fn run(op: &mut Op, source: Source, is_read_only: bool) -> Result<(), ReplyError> {
    let args = op.args;
    let named = match source {
        Source::Text => digest(&args[1]),
        Source::Digest => parse_digest(&args[1]).ok_or(error::NO_SCRIPT)?,
    };
    let key_count = parse_i64(&args[2]).ok_or(error::NOT_AN_INTEGER)?;
    let call = Call::new(args, key_count)?;
    let mut interpreter = Interpreter::take(op.env);
    let found = interpreter.find(op.env, source, &named, args);
    let result = found.and_then(|script| {
        let rules = match script.flags {
            None if op.env.is_stale() => return Err(error::MASTER_DOWN),
            None => Rules {
                is_read_only,
                allows_oom: false,
            },
            Some(flags) => rules_of(op.env, flags, is_read_only)?,
        };
        let text = Script {
            sha: &named,
            body: &script.body,
        };
        let state = &mut interpreter.state;
        call.run(op, rules, false, |keys, values, host, reply| {
            state.eval(text, keys, values, host, reply)
        })
    });
    interpreter.put_back(op.env);
    result
}

/// FCALL, and FCALL_RO.
pub fn call_function(op: &mut Op, is_read_only: bool) -> Result<(), ReplyError> {
    let args = op.args;
    let mut interpreter = Interpreter::take(op.env);
    let flags = flags_of(&mut interpreter, op.env, &args[1]);
    let result = flags.and_then(|flags| {
        let key_count = parse_i64(&args[2]).ok_or(error::FUNCTION_KEYS_INVALID)?;
        let call = Call::new(args, key_count)?;
        let rules = rules_of(op.env, flags, is_read_only)?;
        let state = &mut interpreter.state;
        call.run(op, rules, true, |keys, values, host, reply| {
            state.call_function(&args[1], keys, values, host, reply)
        })
    });
    interpreter.put_back(op.env);
    result
}

/// What a script is given.
struct Call<'a> {
    keys: Vec<&'a [u8]>,
    values: Vec<&'a [u8]>,
}

impl<'a> Call<'a> {
    fn new(args: Args<'a>, key_count: i64) -> Result<Call<'a>, ReplyError> {
        const FIRST: usize = 3;
        let given = args.len() - FIRST;
        let keys = match usize::try_from(key_count) {
            Ok(count) if count <= given => count,
            Err(_) if key_count < 0 => return Err(error::NUMKEYS_NEGATIVE),
            _ => return Err(error::NUMKEYS_BEYOND_ARGS),
        };
        Ok(Call {
            keys: args.range(FIRST, FIRST + keys).iter().collect(),
            values: args.slice_from(FIRST + keys).iter().collect(),
        })
    }

    /// Has it run by `run`, and does what follows when it has ended.
    fn run(
        &self,
        op: &mut Op,
        rules: Rules,
        is_function: bool,
        run: impl FnOnce(&[&[u8]], &[&[u8]], &mut dyn Host, &mut Reply<'_>) -> Result<(), Ending>,
    ) -> Result<(), ReplyError> {
        let node = op.env.node().clone();
        let watch = Watch::new(&shared(&node).busy, &node, op.env, op.args, is_function);
        let (ended, errors, lines) = {
            let (nested, reply) = op.nest(rules);
            let mut calls = Calls {
                nested,
                watch,
                errors: Vec::new(),
                lines: Vec::new(),
            };
            let ended = run(&self.keys, &self.values, &mut calls, reply);
            (ended, calls.errors, calls.lines)
        };
        if ended == Err(Ending::Unwind) {
            // It is run again: the text is never sent.
            return Err(error::NO_SCRIPT);
        }
        lines.iter().for_each(|(level, text)| write_log(*level, text));
        for text in errors {
            op.env.stats.count_error(&ReplyError::owned(text));
        }
        match ended {
            Err(Ending::Error {
                error,
                is_counted: true,
            }) => {
                op.reply.error(&error);
                Ok(())
            }
            Err(Ending::Error { error, .. }) => Err(error),
            Ok(()) | Err(Ending::Unwind) => Ok(()),
        }
    }
}

/// What holds for a run of what says this of itself; the error says why it must not run now.
fn rules_of(env: &Env, flags: ScriptFlags, is_read_only: bool) -> Result<Rules, ReplyError> {
    if flags.no_cluster && env.settings.cluster_enabled {
        return Err(error::SCRIPT_NO_CLUSTER);
    }
    let is_refused_as_stale = !flags.allow_stale && env.is_stale();
    if is_refused_as_stale && (flags.no_writes || !env.is_read_only()) {
        return Err(error::MASTER_DOWN);
    }
    if !flags.no_writes {
        if env.is_read_only() {
            return Err(error::READ_ONLY_REPLICA);
        }
        if is_read_only {
            return Err(error::SCRIPT_WRITES_IN_RO);
        }
        if let Some(refusal) = env.refusal_of_writes() {
            return Err(refusal);
        }
        if !flags.allow_oom && env.lacks_memory() {
            return Err(error::SCRIPT_OUT_OF_MEMORY);
        }
    }
    Ok(Rules {
        is_read_only: is_read_only || flags.no_writes,
        allows_oom: flags.allow_oom || flags.no_writes,
    })
}

/// SCRIPT LOAD. Answers the name of the script.
pub fn load(op: &mut SessionOp, body: &[u8]) -> Result<Digest, ReplyError> {
    let named = digest(body);
    let cache = &shared(op.node).cache;
    let script = Interpreter::with(op.env, |interpreter, _| match interpreter.look_up(cache, &named) {
        Some(script) => Ok(script),
        None => interpreter.compile(named, body),
    })?;
    cache.insert(&script, true);
    Ok(named)
}

/// SCRIPT FLUSH: what shards have compiled goes when they look for a script again.
pub fn flush(op: &mut SessionOp) {
    shared(op.node).cache.clear();
}

/// What INFO says of scripts and functions.
pub fn figures(env: &mut Env) -> ScriptFigures {
    let (libraries, functions) = count_libraries(env);
    let node = env.node();
    let shared = shared(node);
    let (cached_scripts, cache_bytes) = shared.cache.size();
    let sum = |bytes: fn(&InterpreterBytes) -> &AtomicUsize| {
        let all = shared.interpreters.iter();
        all.map(|one| bytes(one).load(Ordering::Relaxed)).sum()
    };
    ScriptFigures {
        eval_vm_bytes: sum(|one| &one.scripts),
        function_vm_bytes: sum(|one| &one.functions),
        cached_scripts,
        cache_bytes,
        libraries,
        functions,
        library_bytes: node.snapshots.libraries.codes().iter().map(Vec::len).sum(),
    }
}

/// Whether the cache has a script of that name.
pub fn exists(node: &Node, named: &[u8]) -> bool {
    parse_digest(named).is_some_and(|digest| shared(node).cache.find(&digest).is_some())
}

/// SCRIPT KILL.
pub fn kill(node: &Node) -> Result<(), ReplyError> {
    shared(node).busy.kill(false)
}

/// What the run of a script asks for.
struct Calls<'o, 'a, 'v> {
    nested: Nested<'o, 'a, 'v>,
    watch: Watch<'o>,
    /// Errors to be counted when the run is over.
    errors: Vec<Vec<u8>>,
    /// Lines for the log, for then.
    lines: Vec<(LogLevel, Vec<u8>)>,
}

impl Host for Calls<'_, '_, '_> {
    fn call(&mut self, args: &[&[u8]], protocol: Proto, reply: &mut ReplyBuf) -> Result<(), Refusal> {
        let watch = &self.watch;
        let called = self.nested.call(args, protocol, reply, || watch.note_write());
        called.map_err(|uncalled| match uncalled {
            Uncalled::Refused(error) => Refusal::Error(error),
            Uncalled::Again => Refusal::Unwind,
        })
    }

    fn random_seed(&mut self) -> u64 {
        self.nested.env.random.next_u64()
    }

    fn set_replication(&mut self, target: Replication) {
        self.nested.send_effects(target.to_aof, target.to_replicas);
    }

    fn may_call(&mut self, args: &[&[u8]]) -> Option<bool> {
        self.nested.knows(args).then_some(true)
    }

    fn log(&mut self, level: LogLevel, text: &[u8]) {
        self.lines.push((level, text.to_vec()));
    }

    fn count_error(&mut self, text: &[u8]) {
        self.errors.push(text.to_vec());
    }

    fn interrupted(&mut self) -> Result<(), Refusal> {
        let has_written = self.nested.has_written();
        self.watch.look(self.nested.env, has_written).map_err(Refusal::Error)
    }
}

/// Writes a line of a script into the log.
pub(super) fn write_log(level: LogLevel, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    match level {
        LogLevel::Debug => tracing::trace!("{text}"),
        LogLevel::Verbose => tracing::debug!("{text}"),
        LogLevel::Notice => tracing::info!("{text}"),
        LogLevel::Warning => tracing::warn!("{text}"),
    }
}
