//! Libraries of functions: what FUNCTION does, and FCALL.
//!
//! What a data set has of a library is its code ([`Libraries`](crate::engine)): it stands in files and goes to replicas. A shard compiles what it runs: before it
//! calls a function, or tells of any, it looks whether the process's libraries have changed, and then drops and loads what differs ([`Loaded::follow`]). So a library's
//! variables are each shard's own, and begin anew where its code is loaded again.
//!
//! Whoever changes the libraries holds the whole keyspace: no script runs meanwhile, and where he stands in the order of turns is the same for all.
//! He tries the new code on his own shard first; a library that cannot be loaded changes nothing.
//!
//! Invariant: names of libraries and names of functions (in whatever case) are each there once.

use super::busy::Running;
use super::runner::{Interpreter, shared, write_log};
use crate::base::clock::Ticks;
use crate::base::glob;
use crate::engine::{Env, Node, Op, SessionOp};
use crate::persist::payload::{self, Form, PayloadError};
use crate::persist::rdb::Damage;
use crate::resp::{Proto, Reply, ReplyBuf, ReplyError, error};
use crate::script::{Host, Library, LibraryFunction, LogLevel, Refusal, Replication, ScriptFlags};

/// How long the code of a library may run when it is loaded.
const LOAD_MS_MAX: u64 = 500;

/// The libraries that are compiled on a shard.
#[derive(Default)]
pub(super) struct Loaded {
    /// Changes of the process's libraries when the shard last looked.
    changes: u64,
    libraries: Vec<Compiled>,
}

struct Compiled {
    code: Vec<u8>,
    library: Library,
}

/// FUNCTION RESTORE's policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    Flush,
    Append,
    Replace,
}

impl Loaded {
    /// What a function says of itself.
    pub(super) fn function(&self, name: &[u8]) -> Option<&LibraryFunction> {
        let mut functions = self.libraries.iter().flat_map(|compiled| &compiled.library.functions);
        functions.find(|function| function.name.eq_ignore_ascii_case(name))
    }

    fn position(&self, name: &[u8]) -> Option<usize> {
        self.libraries.iter().position(|compiled| compiled.library.name == name)
    }
}

impl Interpreter {
    /// Compiles what the process's libraries are now.
    pub(super) fn follow_libraries(&mut self, env: &Env) {
        let libraries = &env.node().snapshots.libraries;
        if libraries.changes() != self.loaded.changes {
            self.load_changed(env);
        }
    }

    #[cold]
    fn load_changed(&mut self, env: &Env) {
        let libraries = &env.node().snapshots.libraries;
        // What changes behind this look is seen at the next one.
        let changes = libraries.changes();
        let codes = libraries.codes().clone();
        let (kept, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.loaded.libraries)
            .into_iter()
            .partition(|compiled| codes.contains(&compiled.code));
        self.loaded.libraries = kept;
        for compiled in gone {
            self.state.drop_library(&compiled.library.name);
        }
        for code in codes {
            if self.loaded.libraries.iter().all(|compiled| compiled.code != code)
                && let Err(error) = self.load_library(env, code)
            {
                tracing::warn!("A library of functions of the data set cannot be loaded: {error}");
            }
        }
        self.loaded.changes = changes;
    }

    fn load_library(&mut self, env: &Env, code: Vec<u8>) -> Result<(), ReplyError> {
        let library = self.state.load_library(&code, &mut Loading::new(env))?;
        self.loaded.libraries.push(Compiled { code, library });
        Ok(())
    }

    /// Loads a library in the place of the one with its name, if `replaces`. With an error everything is as it was.
    fn enter(&mut self, env: &Env, code: &[u8], replaces: bool) -> Result<Vec<u8>, ReplyError> {
        let library = self.state.check_library(code, &mut Loading::new(env))?;
        let replaced = self.loaded.position(&library.name);
        if replaced.is_some() && !replaces {
            return Err(error::library_exists(&library.name));
        }
        for function in &library.functions {
            let others = self.loaded.libraries.iter().enumerate();
            let mut others = others.filter(|(at, _)| Some(*at) != replaced);
            let is_taken = |compiled: &Compiled| {
                let mut functions = compiled.library.functions.iter();
                functions.any(|other| other.name.eq_ignore_ascii_case(&function.name))
            };
            if others.any(|(_, compiled)| is_taken(compiled)) {
                return Err(error::function_exists(&function.name));
            }
        }
        let name = library.name;
        self.load_library(env, code.to_vec())?;
        if let Some(at) = replaced {
            self.loaded.libraries.remove(at);
        }
        Ok(name)
    }

    /// The process's libraries are those of this shard from now on.
    fn publish(&mut self, env: &Env) {
        let codes: Vec<Vec<u8>> = self
            .loaded
            .libraries
            .iter()
            .map(|compiled| compiled.code.clone())
            .collect();
        let libraries = &env.node().snapshots.libraries;
        libraries.change(|all| *all = codes);
        self.loaded.changes = libraries.changes();
    }
}

/// FUNCTION LOAD. Answers the name of the library.
pub fn load_function(op: &mut Op, code: &[u8], replaces: bool) -> Result<Vec<u8>, ReplyError> {
    let name = Interpreter::with(op.env, |interpreter, env| {
        interpreter.follow_libraries(env);
        let name = interpreter.enter(env, code, replaces)?;
        interpreter.publish(env);
        Ok(name)
    })?;
    op.changed(1);
    Ok(name)
}

/// FUNCTION DELETE.
pub fn delete_library(op: &mut Op, name: &[u8]) -> Result<(), ReplyError> {
    Interpreter::with(op.env, |interpreter, env| {
        interpreter.follow_libraries(env);
        let at = interpreter.loaded.position(name).ok_or(error::LIBRARY_NOT_FOUND)?;
        interpreter.loaded.libraries.remove(at);
        interpreter.state.drop_library(name);
        interpreter.publish(env);
        Ok(())
    })?;
    op.changed(1);
    Ok(())
}

/// FUNCTION FLUSH.
pub fn flush_libraries(op: &mut Op) -> Result<(), ReplyError> {
    Interpreter::with(op.env, |interpreter, env| {
        interpreter.loaded.libraries.clear();
        interpreter.state.forget_libraries();
        interpreter.publish(env);
        Ok(())
    })?;
    op.changed(1);
    Ok(())
}

/// FUNCTION RESTORE: all libraries of the payload, or none.
pub fn restore_libraries(op: &mut Op, payload: &[u8], policy: Policy) -> Result<(), ReplyError> {
    let codes = payload::restore_functions(payload).map_err(|refused| match refused {
        PayloadError::Seal => error::RESTORE_CHECKSUM,
        PayloadError::Value(wrong) if matches!(wrong.what, Damage::Opcode(_)) => error::FUNCTION_RESTORE_TYPE,
        PayloadError::Value(_) => error::FUNCTION_RESTORE_DAMAGED,
    })?;
    Interpreter::with(op.env, |interpreter, env| {
        interpreter.follow_libraries(env);
        if policy == Policy::Flush {
            interpreter.loaded.libraries.clear();
            interpreter.state.forget_libraries();
        }
        let entered = codes
            .iter()
            .try_for_each(|code| interpreter.enter(env, code, policy == Policy::Replace).map(drop));
        match entered {
            Ok(()) => interpreter.publish(env),
            // What the process has is still what it was.
            Err(_) => interpreter.load_changed(env),
        }
        entered
    })?;
    op.changed(1);
    Ok(())
}

/// FUNCTION DUMP.
pub fn dump_libraries(op: &mut SessionOp) -> Vec<u8> {
    let codes = op.node.snapshots.libraries.codes();
    payload::dump_functions(&codes, Form::of(&op.env.settings))
}

/// FUNCTION LIST: those whose name matches.
pub fn list_libraries(op: &mut SessionOp, pattern: Option<&[u8]>, has_code: bool) -> Result<(), ReplyError> {
    let reply = &mut op.reply;
    Interpreter::with(op.env, |interpreter, env| {
        interpreter.follow_libraries(env);
        let matches = |compiled: &&Compiled| pattern.is_none_or(|p| glob::matches(p, &compiled.library.name));
        let shown: Vec<&Compiled> = interpreter.loaded.libraries.iter().filter(matches).collect();
        reply.array(shown.len());
        for compiled in shown {
            reply.map(3 + usize::from(has_code));
            reply.bulk(b"library_name");
            reply.bulk(&compiled.library.name);
            reply.bulk(b"engine");
            reply.bulk(b"LUA");
            reply.bulk(b"functions");
            reply.array(compiled.library.functions.len());
            compiled
                .library
                .functions
                .iter()
                .for_each(|function| list(reply, function));
            if has_code {
                reply.bulk(b"library_code");
                reply.bulk(&compiled.code);
            }
        }
        Ok(())
    })
}

fn list(reply: &mut Reply<'_>, function: &LibraryFunction) {
    reply.map(3);
    reply.bulk(b"name");
    reply.bulk(&function.name);
    reply.bulk(b"description");
    match &function.description {
        Some(description) => reply.bulk(description),
        None => reply.null(),
    }
    reply.bulk(b"flags");
    reply.set(function.flags.names().count());
    function.flags.names().for_each(|name| reply.simple(name));
}

/// How many libraries and functions there are.
pub fn count_libraries(env: &mut Env) -> (usize, usize) {
    let counted = Interpreter::with(env, |interpreter, env| {
        interpreter.follow_libraries(env);
        let libraries = &interpreter.loaded.libraries;
        let functions = libraries.iter().map(|compiled| compiled.library.functions.len());
        Ok((libraries.len(), functions.sum()))
    });
    counted.unwrap_or_default()
}

/// The function that runs for too long, if any does.
pub fn running_function(op: &SessionOp) -> Result<Option<Running>, ReplyError> {
    shared(op.node).busy.function(op.env.ticks_now())
}

/// FUNCTION KILL.
pub fn kill_function(node: &Node) -> Result<(), ReplyError> {
    shared(node).busy.kill(true)
}

/// The server as the code of a library sees it while it is loaded: it may call nothing, and not take long.
struct Loading<'e> {
    env: &'e Env,
    began: Ticks,
}

impl Loading<'_> {
    fn new(env: &Env) -> Loading<'_> {
        Loading {
            env,
            began: env.ticks_now(),
        }
    }
}

impl Host for Loading<'_> {
    fn call(&mut self, _: &[&[u8]], _: Proto, _: &mut ReplyBuf) -> Result<(), Refusal> {
        Err(Refusal::Error(error::SCRIPT_NOT_ALLOWED))
    }

    fn random_seed(&mut self) -> u64 {
        0
    }

    fn set_replication(&mut self, _: Replication) {}

    fn may_call(&mut self, _: &[&[u8]]) -> Option<bool> {
        None
    }

    fn log(&mut self, level: LogLevel, text: &[u8]) {
        write_log(level, text);
    }

    fn count_error(&mut self, _: &[u8]) {}

    fn interrupted(&mut self) -> Result<(), Refusal> {
        let elapsed_us = self.env.ticks_now().us_since(self.began);
        match elapsed_us / 1000 > LOAD_MS_MAX {
            true => Err(Refusal::Error(error::FUNCTION_LOAD_TIMEOUT)),
            false => Ok(()),
        }
    }
}

/// The rules of a function that is called.
pub(super) fn flags_of(interpreter: &mut Interpreter, env: &Env, name: &[u8]) -> Result<ScriptFlags, ReplyError> {
    interpreter.follow_libraries(env);
    let function = interpreter.loaded.function(name);
    function.map(|function| function.flags).ok_or(error::FUNCTION_NOT_FOUND)
}
