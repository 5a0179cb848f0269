//! The configuration: every parameter of Redis 7.2 and a few own ones, from one table.
//!
//! ```text
//!   table/*.rs      one row for each parameter: name, older names, kind, default, flags, subsystem, what it does
//!        |
//!        +--> Settings      one typed field for each row; the server reads only this
//!        +--> PARAMETERS    one generic row for each; everything below reads only this
//!                |
//!                +-- file.rs     redis.conf, standard input and the command line -> Config
//!                +-- mod.rs      CONFIG GET
//!                +-- change.rs   CONFIG SET, in two phases
//!                +-- rewrite.rs  CONFIG REWRITE
//!                +-- sample.rs   config/shardis.conf
//! ```
//!
//! Why one table: the name, range, default and documentation of a parameter each have one place, and what is true of one
//! parameter's handling is true of all. Why typed fields beside it: the code that serves commands reads
//! `settings.maxmemory` as a number, with no lookup and no chance of a wrong name.
//!
//! A [`Config`] is immutable and cheap to clone. CONFIG SET makes a new one; whoever owns the current one swaps it, and
//! hands the new settings to the shards. So a shard never sees half of a change, and no lock is read on the way of a command.
//!
//! Invariants:
//! 1. For every parameter and value: what CONFIG GET shows is accepted by CONFIG SET and in a file, and means the same
//!    (`no one` for the empty `replicaof`).
//! 2. `config/shardis.conf` is what [`sample`] writes, and starting with it is starting with nothing.
//! 3. This module opens no socket and starts no thread. It reads configuration files, checks that `dir` exists, and
//!    replaces the file in CONFIG REWRITE; every other effect of a parameter is the server's.
//!
//! The behaviour is documented at <https://redis.io/docs/latest/operate/oss_and_stack/management/config/> and in the pages
//! of the CONFIG commands; error texts are what a real server answers.

mod change;
mod choices;
mod file;
mod invocation;
mod kind;
mod parameter;
mod rewrite;
mod sample;
mod settings;
mod table;
mod value;
pub(crate) mod words;

pub use change::{Change, SetContext, SetError};
pub use choices::*;
pub use file::{ConfigFileError, Directive, REDIS_VERSION};
pub use invocation::Invocation;
pub use kind::{Kind, parse_memory};
pub use parameter::{Effect, Flags, Parameter, Subsystem};
pub use rewrite::RewriteError;
pub use sample::sample;
pub use settings::{PARAMETERS, Settings};
pub use value::*;

use crate::base::glob;
use std::{
    collections::HashSet,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The configuration of one server: its settings, and what else its file said.
#[derive(Clone, Debug)]
pub struct Config {
    settings: Arc<Settings>,
    origin: Arc<Origin>,
}

/// What does not change after the start.
#[derive(Debug)]
struct Origin {
    file: Option<PathBuf>,
    renamed_commands: Vec<Directive>,
    users: Vec<Directive>,
    modules: Vec<Directive>,
    included: HashSet<&'static str>,
}

impl Config {
    /// Reads the configuration that the arguments after the program's name ask for, from the process's directory.
    pub fn load(arguments: &[OsString]) -> Result<Self, ConfigFileError> {
        let directory = std::env::current_dir().map_err(|error| {
            ConfigFileError::Log(format!(
                "Fatal error, can't read the current directory: {}",
                kind::describe_error(&error)
            ))
        })?;
        Self::load_from(arguments, &mut io::stdin(), &directory)
    }

    /// The same with an explicit standard input and directory. `directory` must be absolute.
    pub fn load_from(
        arguments: &[OsString],
        stdin: &mut dyn io::Read,
        directory: &Path,
    ) -> Result<Self, ConfigFileError> {
        let arguments = file::Arguments::parse(arguments);
        let mut reader = file::Reader::new(directory.to_path_buf());
        reader.read(&arguments, stdin)?;
        let origin = Origin {
            file: arguments.file.map(|file| directory.join(file)),
            renamed_commands: reader.renamed_commands,
            users: reader.users,
            modules: reader.modules,
            included: reader.included,
        };
        Ok(Self {
            settings: Arc::new(reader.settings),
            origin: Arc::new(origin),
        })
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The settings in force, to keep.
    pub fn shared_settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings)
    }

    /// The absolute path of the configuration file, if the server was started with one.
    pub fn file(&self) -> Option<&Path> {
        self.origin.file.as_deref()
    }

    /// The `rename-command` lines in order: each has two words, the second empty to take the command away. Whoever knows the
    /// commands checks them and makes errors with [`Directive::error`].
    pub fn renamed_commands(&self) -> &[Directive] {
        &self.origin.renamed_commands
    }

    /// The `user` lines in order: name and rules.
    pub fn users(&self) -> &[Directive] {
        &self.origin.users
    }

    /// The `loadmodule` lines in order: path and arguments.
    pub fn modules(&self) -> &[Directive] {
        &self.origin.modules
    }

    /// CONFIG GET: name and value of every parameter that one of the patterns matches. A name without wildcards answers as
    /// it was written; hidden parameters answer only to it. Older names are names of their own.
    pub fn get(&self, patterns: &[&[u8]]) -> Vec<(String, Vec<u8>)> {
        let mut found: Vec<(String, Vec<u8>)> = Vec::new();
        let mut answered: HashSet<&'static str> = HashSet::new();
        for pattern in patterns {
            if !pattern.iter().any(|byte| b"*?[".contains(byte)) {
                if let Some((name, parameter)) = Parameter::find(pattern)
                    && answered.insert(name)
                {
                    found.push((
                        String::from_utf8_lossy(pattern).into_owned(),
                        parameter.text(&self.settings),
                    ));
                }
                continue;
            }
            for parameter in PARAMETERS.iter().filter(|parameter| !parameter.is(Flags::HIDDEN)) {
                for name in parameter
                    .names()
                    .filter(|name| glob::matches_ignoring_case(pattern, name.as_bytes()))
                {
                    if answered.insert(name) {
                        found.push((name.to_string(), parameter.text(&self.settings)));
                    }
                }
            }
        }
        found
    }

    /// CONFIG SET, first phase: checks everything and changes nothing.
    pub fn set(&self, pairs: &[(&[u8], &[u8])], context: &SetContext) -> Result<Change, SetError> {
        change::prepare(self, pairs, context)
    }

    /// A configuration in which the server itself has changed something: what REPLICAOF says, the number of clients that
    /// the system allows, the password that ACL SETUSER gave to the default user.
    pub fn changed(&self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::clone(&self.settings);
        change(&mut settings);
        self.with_settings(settings)
    }

    fn with_settings(&self, settings: Settings) -> Self {
        Self {
            settings: Arc::new(settings),
            origin: Arc::clone(&self.origin),
        }
    }

    /// CONFIG REWRITE. `users` are all users, each as in a `user` line without the word `user`; `None` leaves the file's
    /// lines alone (as is right when the users are in an `aclfile`).
    pub fn rewrite(&self, users: Option<&[Vec<u8>]>) -> Result<(), RewriteError> {
        let file = self.file().ok_or(RewriteError::NoFile)?;
        let content = rewrite::Content {
            settings: &self.settings,
            included: &self.origin.included,
            users,
        };
        rewrite::rewrite(file, &content)
    }

    /// The parameters that are not at their default, ask for something, and have no effect in this version. What turns
    /// something off that does not exist is in effect.
    pub fn without_effect(&self) -> Vec<&'static Parameter> {
        let asks = |parameter: &Parameter| !matches!(&*parameter.text(&self.settings), b"" | b"no" | b"0");
        let rows = PARAMETERS.iter();
        rows.filter(|parameter| !parameter.is_in_effect() && !parameter.is_default(&self.settings) && asks(parameter))
            .collect()
    }
}

#[cfg(test)]
mod tests;
