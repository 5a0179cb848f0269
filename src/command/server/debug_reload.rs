//! DEBUG RELOAD: what is in the file of the data set, in the place of what is in memory.
//!
//! Meanwhile the server is one that loads: it refuses all that needs keys. So nobody sees the data set between the two, and what was under
//! way is let end first. The client waits; the server does not.

use super::debug::leading_f64;
use super::save::is_saved;
use crate::base::clock::UnixMs;
use crate::durability::directory;
use crate::durability::load::{Load, LoadError, Options, Threads};
use crate::engine::snapshot::Reason;
use crate::engine::{Context, Local, NodeFuture, saves};
use crate::resp::{Args, ReplyError, error};
use crate::shard::ConnRef;
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
        let node = context.with(|local| local.node.clone());
        // What is half read would be saved in the place of the whole.
        if !node.loading.claim_reload() {
            return Err(error::LOADING);
        }
        let outcome = put_in_place(context, request).await;
        node.loading.end_reload();
        outcome
    })
}

fn put_in_place(context: &mut Context, request: Request) -> NodeFuture<'_> {
    Box::pin(async move {
        context.ask_all(Local::begin_loading).await;
        // Before it is saved: what is answered after the cut would be taken back.
        let handle = context.with(|local| local.handle());
        while handle.is_any_write_under_way().await {
            context.sleep(LOOKED_AT_EVERY).await;
        }
        let outcome = match !request.saves || save(context).await {
            true => Some(load(context, request).await),
            false => None,
        };
        if let Some(Err(LoadError::Stopped)) = outcome {
            // What is half read is served to nobody, and not saved.
            return Err(error::RELOAD_FAILED);
        }
        context.ask_all(Local::end_loading).await;
        match outcome.ok_or(error::SAVE_FAILED)? {
            Ok(()) => {
                tracing::warn!("DB reloaded by DEBUG RELOAD");
                context.reply().ok();
                Ok(())
            }
            Err(failure) => {
                tracing::warn!("{failure}");
                Err(error::RELOAD_FAILED)
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

/// Loads the file, when nothing is under way any more.
async fn load(context: &Context, request: Request) -> Result<(), LoadError> {
    let (node, executor, options) = context.with(|local| {
        let options = Options {
            checks: local.env.settings.rdbchecksum && !local.env.skips_checksums,
            merges: request.merges,
            keeps_expired: false,
            loads_truncated: false,
            is_reload: true,
            seed: local.env.seed,
            now: UnixMs::now(),
            threads: Threads::Host,
        };
        (local.node.clone(), local.executor(), options)
    });
    if request.flushes {
        while context.ask_all(empty).await.contains(&false) {
            context.sleep(LOOKED_AT_EVERY).await;
        }
        node.snapshots.libraries().clear();
    }
    while node.snapshots.is_writing() {
        // It would rename files while they are read. None can begin.
        context.sleep(LOOKED_AT_EVERY).await;
    }
    let settings = context.settings();
    let (sender, receiver) = std::sync::mpsc::channel();
    let (finder, finder_settings) = (node.clone(), settings.clone());
    executor
        .run_blocking(Box::new(move || {
            let (dir, name) = (finder_settings.dir.as_path(), finder_settings.dbfilename.as_path());
            // The other end waits until this has been run.
            let _ = sender.send(directory::data_set(&*finder.snapshots.disk, dir, name));
        }))
        .await;
    let found = receiver.recv().expect("the work has been run");
    let failed = |error| LoadError::Io {
        file: settings.dbfilename.as_path().to_owned(),
        error,
    };
    let found = found.map_err(|error| failed(io::Error::other(error)))?;
    if found.files.is_empty() {
        return Err(failed(io::ErrorKind::NotFound.into()));
    }
    let load = Load::new(node, found, options);
    let attended = load.clone();
    context
        .ask_all(move |local| {
            let attending = attended.attend(local.handle());
            local.executor().spawn(Box::pin(attending));
        })
        .await;
    let (sender, receiver) = std::sync::mpsc::channel();
    executor
        .run_blocking(Box::new(move || {
            // The other end waits until this has been run.
            let _ = sender.send(load.run());
        }))
        .await;
    receiver.recv().expect("the work has been run")
}

/// Removes all keys of a shard; false if some of its slots are on loan.
fn empty(local: &mut Local) -> bool {
    let slots: Vec<u16> = local.core.slots_here().collect();
    let background = ConnRef::background(local.id());
    let Some(mut view) = local.core.try_view(&slots, background) else {
        return false;
    };
    for slot in slots {
        let slot = view.slot(slot).expect("a view has the slots it was asked for");
        local.env.garbage.absorb(slot.clear_all());
        // Nobody follows from what a file says.
        drop(slot.take_told());
    }
    true
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
