//! DEBUG RELOAD and DEBUG LOADAOF: what is in the files of the data set, in the place of what is in memory.
//!
//! Meanwhile the server is one that loads: it refuses all that needs keys. So nobody sees the data set between the two, and what was under
//! way is let end first. The client waits; the server does not.

use super::debug::leading_f64;
use super::save::is_saved;
use crate::base::clock::UnixMs;
use crate::config::Settings;
use crate::durability::directory;
use crate::durability::load::{Load, LoadError, Options, Threads, empty_all};
use crate::engine::aof::Directory;
use crate::engine::local::on_another_thread;
use crate::engine::snapshot::Reason;
use crate::engine::{Context, Local, Node, NodeFuture, saves};
use crate::persist::aof::manifest::manifest_name;
use crate::resp::{Args, ReplyError, error};
use std::io;
use std::time::Duration;

/// How often it is looked whether what is waited for has come.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(1);

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Request {
    saves: bool,
    flushes: bool,
    merges: bool,
}

impl Request {
    fn parse(args: Args<'_>) -> Result<Request, ReplyError> {
        let mut request = Request {
            saves: true,
            flushes: true,
            merges: false,
        };
        for word in args.slice_from(2).iter() {
            match word.to_ascii_uppercase().as_slice() {
                b"MERGE" => request.merges = true,
                b"NOFLUSH" => request.flushes = false,
                b"NOSAVE" => request.saves = false,
                _ => return Err(error::RELOAD_OPTION_UNKNOWN),
            }
        }
        Ok(request)
    }
}

pub(super) fn reload(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let request = Request::parse(context.args())?;
        put_in_place(context, Source::Snapshot(request)).await
    })
}

pub(super) fn load_aof(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move { put_in_place(context, Source::AppendOnly).await })
}

/// What is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Snapshot(Request),
    AppendOnly,
}

fn put_in_place(context: &mut Context, source: Source) -> NodeFuture<'_> {
    Box::pin(async move {
        let node = context.with(|local| local.node.clone());
        // What is half read would be saved in the place of the whole.
        if !node.loading.claim_reload() {
            return Err(error::LOADING);
        }
        let outcome = put_in_place_alone(context, source).await;
        node.loading.end_reload();
        outcome
    })
}

fn put_in_place_alone(context: &mut Context, source: Source) -> NodeFuture<'_> {
    Box::pin(async move {
        let (failed, saves) = match source {
            Source::Snapshot(request) => (error::RELOAD_FAILED, request.saves),
            Source::AppendOnly => (error::LOAD_AOF_FAILED, false),
        };
        context.ask_all(Local::begin_loading).await;
        // Before it is saved: what is answered after the cut would be taken back.
        let handle = context.with(|local| local.handle());
        while handle.is_any_write_under_way().await {
            context.sleep(LOOKED_AT_EVERY).await;
        }
        let outcome = match !saves || save(context).await {
            true => Some(load(context, source).await),
            false => None,
        };
        if let (Source::AppendOnly, Some(Ok(()))) = (source, &outcome) {
            // As in Redis: what was read is no change.
            context
                .ask_all(|local: &mut Local| {
                    let changes = local.env.stats.counts.changes;
                    local.node.snapshots.publish_changes(local.env.shard, changes);
                })
                .await;
            context.with(|local| local.node.snapshots.forget_changes());
        }
        if let Some(Err(LoadError::Stopped)) = outcome {
            // What is half read is served to nobody, and not saved.
            return Err(failed);
        }
        context.ask_all(Local::end_loading).await;
        match outcome.ok_or(error::SAVE_FAILED)? {
            Ok(()) => {
                match source {
                    Source::Snapshot(_) => tracing::warn!("DB reloaded by DEBUG RELOAD"),
                    Source::AppendOnly => tracing::warn!("Append Only File loaded by DEBUG LOADAOF"),
                }
                context.reply().ok();
                Ok(())
            }
            Err(failure) => {
                tracing::warn!("{failure}");
                Err(failed)
            }
        }
    })
}

/// Saves everything as of now; a snapshot that is under way is of before, and waited for.
async fn save(context: &Context) -> bool {
    loop {
        let begun = context.with(|local| saves::begin(local, Reason::Awaited));
        if let Some(number) = begun {
            return is_saved(context, number).await;
        }
        context.sleep(LOOKED_AT_EVERY).await;
    }
}

/// Loads the files, when nothing is under way any more.
async fn load(context: &Context, source: Source) -> Result<(), LoadError> {
    let (node, options) = context.with(|local| {
        let (is_snapshot, merges) = match source {
            Source::Snapshot(request) => (true, request.merges),
            Source::AppendOnly => (false, false),
        };
        let options = Options {
            checks: local.env.settings.rdbchecksum && !local.env.skips_checksums,
            merges,
            keeps_expired: !is_snapshot,
            loads_truncated: true,
            is_reload: true,
            seed: local.env.seed,
            now: UnixMs::now(),
            threads: Threads::Host,
        };
        (local.node.clone(), options)
    });
    let load = match source {
        Source::Snapshot(request) => {
            if request.flushes {
                empty_all(&context.with(|local| local.handle())).await;
            }
            while node.snapshots.is_writing() {
                // It would rename files while they are read. None can begin.
                context.sleep(LOOKED_AT_EVERY).await;
            }
            let (name, found) = found_elsewhere(context, |node, settings| {
                let (dir, name) = (settings.dir.as_path(), settings.dbfilename.as_path());
                (name.to_owned(), directory::data_set(&*node.snapshots.disk, dir, name))
            })
            .await;
            let failed = |error| LoadError::Io { file: name, error };
            match found {
                Ok(found) if found.files.is_empty() => return Err(failed(io::ErrorKind::NotFound.into())),
                Ok(found) => Load::new(node, found, options),
                Err(error) => return Err(failed(io::Error::other(error))),
            }
        }
        Source::AppendOnly => {
            let (location, found) = found_elsewhere(context, |node, settings| {
                let location = Directory::of(settings);
                let found = location.look(&*node.snapshots.disk);
                (location, found)
            })
            .await;
            // What is there stays there, if there is nothing to take its place.
            let Some(found) = found? else {
                let name = String::from_utf8_lossy(&manifest_name(&location.name)).into_owned();
                return Err(LoadError::Io {
                    file: location.path.join(name),
                    error: io::ErrorKind::NotFound.into(),
                });
            };
            empty_all(&context.with(|local| local.handle())).await;
            Load::of_aof(node, found, options)
        }
    };
    load.read_into(&context.with(|local| local.handle())).await
}

/// What is found on a disk, looked for on a thread that may wait.
async fn found_elsewhere<T: Send + 'static>(
    context: &Context,
    look: impl FnOnce(&Node, &Settings) -> T + Send + 'static,
) -> T {
    let (node, executor) = context.with(|local| (local.node.clone(), local.executor()));
    let settings = context.settings();
    on_another_thread(&*executor, move || look(&node, &settings)).await
}

pub(super) fn set_skip_checksum_validation(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let skips = leading_f64(context.args().at(2)) as i64 != 0;
        context.ask_all(move |local| local.env.skips_checksums = skips).await;
        context.reply().ok();
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::OwnedArgs;

    #[test]
    fn options_are_read_in_any_order_and_case() {
        let parsed = |words: &[&str]| Request::parse(OwnedArgs::from_slices(words).as_args());
        let usual = Request {
            saves: true,
            flushes: true,
            merges: false,
        };
        assert_eq!(parsed(&["DEBUG", "RELOAD"]), Ok(usual));
        let merging = Request {
            saves: false,
            flushes: false,
            merges: true,
        };
        assert_eq!(parsed(&["debug", "reload", "noFlush", "MERGE", "nosave"]), Ok(merging));
        assert_eq!(
            parsed(&["DEBUG", "RELOAD", "SOFTLY"]),
            Err(error::RELOAD_OPTION_UNKNOWN)
        );
    }
}
