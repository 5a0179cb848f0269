//! What a process does about its data set when it starts: it tidies up, finds what there is, and begins to read it.
//!
//! The server does it with threads ([`begin`]); the testbed has the same done in one thread, in an order that it draws ([`Simulated`]).

use super::aof::Recovered;
use super::aof::{AofError, Found};
use super::directory;
use super::load::{Load, Options, Threads};
use crate::base::clock::UnixMs;
use crate::config::Settings;
use crate::engine::aof::Directory;
use crate::engine::testbed::{Reading, Recovery};
use crate::engine::{LocalHandle, Node};
use crate::persist::aof::manifest::{Manifest, ManifestError};
use crate::persist::file::set;
use crate::runtime::disk::Disk;
use crate::store::HashSeed;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How it is done.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The secret of the keyspace's hashes.
    pub seed: HashSeed,
    pub now: UnixMs,
    pub threads: Threads,
}

/// Takes away what processes that have died have left, and begins to read the data set, if there is one: from here on shards that begin
/// refuse what needs it. With `appendonly yes` that is the append-only file and nothing else, which is gone on with when it has been read, or
/// begun. `is_alive` says of a process whether it lives. The error is what the process ends with.
pub fn begin(
    node: &Arc<Node>,
    settings: &Settings,
    start: Start,
    is_alive: impl Fn(u32) -> bool,
) -> Result<Option<Arc<Load>>, String> {
    let (dir, name) = (settings.dir.as_path(), settings.dbfilename.as_path());
    let disk = &*node.snapshots.disk;
    // The directory is this process's own: what bears its pid is of one that had the same.
    set::tidy(disk, dir, |found| {
        found.pid == std::process::id() || !is_alive(found.pid)
    });
    let options = Options {
        checks: settings.rdbchecksum,
        merges: false,
        keeps_expired: settings.appendonly,
        loads_truncated: settings.aof_load_truncated,
        is_reload: false,
        seed: start.seed,
        now: start.now,
        threads: start.threads,
    };
    if settings.appendonly {
        let found = find_aof(node, settings).map_err(|error| fatal(&error))?;
        if found.manifest.files().next().is_none() {
            let directory = Directory::of(settings);
            let nothing = Recovered::nothing(&directory.name);
            node.aof.begin(directory, nothing)?;
            return Ok(None);
        }
        return Ok(Some(Load::of_aof(node.clone(), found, options)));
    }
    let found = directory::data_set(disk, dir, name);
    let found = found.map_err(|error| format!("Fatal error loading the DB: {}: {error}. Exiting.", name.display()))?;
    Ok((!found.files.is_empty()).then(|| Load::new(node.clone(), found, options)))
}

/// The append-only file that there is, or one of nothing.
fn find_aof(node: &Node, settings: &Settings) -> Result<Found, AofError> {
    let (disk, location) = (&*node.snapshots.disk, Directory::of(settings));
    if let Some(found) = location.find(disk)? {
        return Ok(found);
    }
    let (dir, name) = (settings.dir.as_path(), settings.dbfilename.as_path());
    if set::found(disk, dir, name).is_ok_and(|files| !files.is_empty()) {
        tracing::warn!(
            "`appendonly` is yes, and there is no append only file in {}: the server starts empty, and {} is not loaded. To start with what is in it, start with `appendonly no`, and then say CONFIG SET appendonly yes.",
            location.path.display(),
            name.display()
        );
    }
    Ok(Found {
        dir: location.path,
        manifest: Manifest::new(&location.name),
    })
}

/// Says in the log why an append-only file cannot be used; the answer is the last thing that it says.
pub fn fatal(error: &AofError) -> String {
    if let AofError::Manifest(ManifestError::Malformed { file, malformed }) = error {
        let text = String::from_utf8_lossy(&malformed.text);
        tracing::warn!("*** FATAL AOF MANIFEST FILE ERROR ***");
        tracing::warn!(
            "Reading the manifest file {}, at line {}",
            file.display(),
            malformed.line
        );
        tracing::warn!(">>> '{text}'");
        return malformed.fault.to_string();
    }
    tracing::warn!("{error}");
    error.remedy()
}

/// A start in the testbed, where whoever has written anything before is dead.
#[derive(Clone, Copy, Debug, Default)]
pub struct Simulated;

impl Recovery for Simulated {
    fn files(&self, disk: &dyn Disk) -> Result<Vec<PathBuf>, String> {
        let found = directory::data_set(disk, Path::new("/"), Path::new("dump.rdb"));
        Ok(found.map_err(|error| error.to_string())?.files)
    }

    fn begin(&self, node: &Arc<Node>, seed: HashSeed, now: UnixMs) -> Result<Option<Reading>, String> {
        let settings = node.lock_config().settings().clone();
        let start = Start {
            seed,
            now,
            threads: Threads::Simulated,
        };
        let load = begin(node, &settings, start, |_| false)?;
        Ok(load.map(|load| {
            let attended = load.clone();
            Reading {
                threads: Box::pin(async move { load.go().await.map_err(|error| error.to_string()) }),
                attend: Box::new(move |local: LocalHandle| Box::pin(attended.clone().attend(local))),
            }
        }))
    }
}
