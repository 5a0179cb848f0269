//! A data set that has come whole, in the place of the one that was there.
//!
//! As at a start, the shards refuse meanwhile what needs data; so nobody sees anything between the two, and what was under way is let end first.
//! A snapshot that is being written is of what goes now, and is given up. The append-only file is left as it is, a file of the old data
//! set, and begun anew by a rewrite when the new one is there: whenever the machine stops, it is a file of one of the two.
//!
//! What cannot be read leaves nothing: half a data set is served to nobody.

use super::LinkError;
use super::link::Link;
use super::transfer::Received;
use super::wire::Wire;
use crate::base::clock::UnixMs;
use crate::durability::directory::DataSet;
use crate::durability::load::{Load, LoadError, Options, Threads, empty_all};
use crate::engine::aof::Mode;
use crate::engine::replication::{History, Position};
use crate::engine::{Local, LocalHandle, rewrites};
use std::time::Duration;

/// How often the master gets a sign of life while the data set is read.
const SIGN_OF_LIFE_EVERY: Duration = Duration::from_secs(1);

/// How often it is looked whether what is waited for has come.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(1);

/// See the essay above. `replid` and `offset` are what the data set is of.
pub(super) fn put_in_place(
    link: &Link<'_>,
    wire: &mut Wire<'_>,
    file: Received,
    replid: String,
    offset: u64,
) -> Result<(), LinkError> {
    let node = link.node;
    while !node.loading.claim_reload() {
        wire.check()?;
        std::thread::sleep(LOOKED_AT_EVERY);
    }
    let (generation, path) = (link.generation, file.path.clone());
    let position = Position { replid, offset, db: 0 };
    let placing = move |local: LocalHandle| async move {
        let files = DataSet {
            files: vec![path],
            replaced: Vec::new(),
        };
        place(&local, generation, files, position).await
    };
    let sign_of_life = || {
        // That the master has gone is found out when it is read from.
        let _ = wire.send(b"\n");
    };
    let outcome = link.errands.ask(SIGN_OF_LIFE_EVERY, sign_of_life, placing);
    node.loading.end_reload();
    outcome?
}

/// The shards' part.
async fn place(local: &LocalHandle, generation: u64, files: DataSet, position: Position) -> Result<(), LinkError> {
    let (node, executor) = local.with(|local| (local.node.clone(), local.executor()));
    // Without a place in a history until it is whole. Who has become a master meanwhile keeps what he has.
    if !node.replication.following.set_position(generation, None) {
        return Err(LinkError::Over);
    }
    let logs = node.aof.mode() != Mode::Off;
    if logs {
        rewrites::turn_off(local).await;
    }
    tracing::info!("MASTER <-> REPLICA sync: Flushing old data");
    local.ask_all(Local::begin_loading).await;
    while local.is_any_write_under_way().await {
        executor.sleep(LOOKED_AT_EVERY).await;
    }
    // No role changes from here on: that is refused while the shards load.
    if !node.replication.following.is_current(generation) {
        local.ask_all(Local::end_loading).await;
        return Err(LinkError::Over);
    }
    let now = local.with(|local| local.env.now);
    node.snapshots.cancel(false, now);
    while node.snapshots.is_writing() {
        executor.sleep(LOOKED_AT_EVERY).await;
    }
    empty_all(local).await;
    tracing::info!("MASTER <-> REPLICA sync: Loading DB in memory");
    let options = local.with(|local| Options {
        checks: local.env.settings.rdbchecksum && !local.env.skips_checksums,
        // They go when the master says so.
        keeps_expired: true,
        loads_truncated: false,
        merges: false,
        is_reload: true,
        seed: local.env.seed,
        now: UnixMs::now(),
        threads: Threads::Host,
    });
    let load = Load::new(node.clone(), files, options);
    let outcome = load.clone().read_into(local).await;
    match &outcome {
        Ok(()) => {
            let db = load.stream_db();
            // Nobody takes another role while the shards load.
            node.replication.lock().history = History::new(position.replid.clone());
            node.replication
                .following
                .set_position(generation, Some(Position { db, ..position }));
            tracing::info!("MASTER <-> REPLICA sync: Finished with success");
        }
        // The process is to end.
        Err(LoadError::Stopped) => return Err(LinkError::Load(LoadError::Stopped)),
        Err(_) => empty_all(local).await,
    }
    local.ask_all(Local::end_loading).await;
    if logs && rewrites::turn_on(local).await.is_err() {
        tracing::warn!("The append only file could not be begun anew after the synchronization with the MASTER.");
    }
    outcome.map_err(LinkError::Load)
}
