//! The real servers that shardis is compared with, and where they are found.
//!
//! | oracle | what it is asked for | where it comes from |
//! |---|---|---|
//! | Redis 8.2 and Valkey 9.1 | what both say is Redis 7.2's, from which both descend | `scripts/oracles` |
//! | Redis 7.0 | where those two differ, and what neither has any more | Debian's redis-server |
//! | Redis 6.2 | an older peer | `scripts/oracles` |
//!
//! Each is looked for in the environment first (`SHARDIS_REDIS_8_2=/path/of/a/redis-server`), then in `.oracles`, then on the
//! path; a binary of another version than the one meant is none. Nobody needs them to run shardis, so one that is missing
//! fails no test: the test says on standard error, past what the test harness keeps back, that it compared nothing.

use super::Server;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One of the real servers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Oracle {
    Redis62,
    Redis70,
    Redis82,
    Valkey91,
}

impl Oracle {
    /// As messages name it.
    pub fn name(self) -> &'static str {
        match self {
            Oracle::Redis62 => "redis-server 6.2",
            Oracle::Redis70 => "redis-server 7.0",
            Oracle::Redis82 => "redis-server 8.2",
            Oracle::Valkey91 => "valkey-server 9.1",
        }
    }

    fn variable(self) -> &'static str {
        match self {
            Oracle::Redis62 => "SHARDIS_REDIS_6_2",
            Oracle::Redis70 => "SHARDIS_REDIS_7_0",
            Oracle::Redis82 => "SHARDIS_REDIS_8_2",
            Oracle::Valkey91 => "SHARDIS_VALKEY_9_1",
        }
    }

    /// What `--version` says somewhere.
    fn version(self) -> &'static str {
        match self {
            Oracle::Redis62 => "Redis server v=6.2.",
            Oracle::Redis70 => "Redis server v=7.0.",
            Oracle::Redis82 => "Redis server v=8.2.",
            Oracle::Valkey91 => "Valkey server v=9.1.",
        }
    }

    /// Below the directory of the sources, or a name to be looked for on the path.
    fn place(self) -> &'static str {
        match self {
            Oracle::Redis62 => ".oracles/redis-6.2.5/redis-server",
            Oracle::Redis70 => "redis-server",
            Oracle::Redis82 => ".oracles/redis-8.2.3/redis-server",
            Oracle::Valkey91 => ".oracles/valkey-9.1.2/valkey-server",
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Oracle::Redis70 => "apt install redis-server, or SHARDIS_REDIS_7_0",
            Oracle::Redis62 | Oracle::Redis82 | Oracle::Valkey91 => "scripts/oracles brings it",
        }
    }

    /// Its binary, if there is one that runs and is of that version.
    pub fn find(self) -> Option<PathBuf> {
        let program = match std::env::var_os(self.variable()) {
            Some(path) => PathBuf::from(path),
            None => match self.place() {
                name if !name.contains('/') => PathBuf::from(name),
                place => Path::new(env!("CARGO_MANIFEST_DIR")).join(place),
            },
        };
        let output = Command::new(&program).arg("--version").output().ok()?;
        let is_meant = String::from_utf8_lossy(&output.stdout).contains(self.version());
        is_meant.then_some(program)
    }

    /// As `find`; where there is none, that is said.
    pub fn program(self) -> Option<PathBuf> {
        let program = self.find();
        if program.is_none() {
            let thread = std::thread::current();
            let test = thread.name().unwrap_or("a test");
            // Not by a macro that prints: of those the harness keeps back what a test that passes has said.
            let line = format!(
                "SKIPPED: {test} compares nothing with {} ({})\n",
                self.name(),
                self.remedy()
            );
            std::io::stderr()
                .write_all(line.as_bytes())
                .expect("standard error takes a line");
        }
        program
    }

    /// A running one with these options, on a port of its own; nothing, said aloud, where there is none.
    pub fn start(self, options: &[&str]) -> Option<Server> {
        let program = self.program()?;
        Some(Server::start(self.name().to_owned(), &program, options, || Ok(())))
    }
}
