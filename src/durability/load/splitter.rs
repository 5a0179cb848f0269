//! One thread's way through a file or a part of it: page by page, each shard is told which entries are its own.

use super::{
    HEAVY_BYTES, HEAVY_STRING_BYTES, Load, LoadError, Makers, SharedPage, Spot, Unmade, Work, make, read_head,
};
use crate::data::Limits;
use crate::data::access::Moment;
use crate::engine::limits_of;
use crate::persist::file::reader::{Item, Next, Place, Reader};
use crate::persist::file::set::{MEMBER_FIELD, REPLACED_FIELD};
use crate::persist::file::writer::PARTS_FIELD;
use crate::persist::value::{Making, extent};
use crate::stats::access_policy;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a delay that was asked for lasts before it is looked whether it still is (`key-load-delay`).
const DELAY_STEP: Duration = Duration::from_millis(5);

/// See above.
pub(super) struct Splitter<'l> {
    load: &'l Load,
    file: Arc<Path>,
    /// Who makes what takes long; None: this thread.
    makers: Option<&'l Makers>,
    workbench: Workbench,
    db: u32,
    /// The entries of the present page, for each shard.
    spots: Vec<Vec<Spot>>,
    heavy: Vec<Spot>,
    expired: u64,
    /// Keys of the page, whoever takes them.
    key_count: u64,
}

/// What is needed to make values on a thread that is no shard's.
pub(super) struct Workbench {
    limits: Limits,
    moment: Moment,
}

impl Workbench {
    pub(super) fn new(load: &Load) -> Workbench {
        let settings = load.node.lock_config().shared_settings();
        Workbench {
            limits: limits_of(&settings, Limits::default().list_packed_threshold),
            moment: Moment {
                now: load.now,
                policy: access_policy(&settings),
                keeps_stale: false,
            },
        }
    }

    /// Makes an entry, and gives it to its shard.
    pub(super) async fn make(&mut self, load: &Load, page: &Arc<SharedPage>, spot: Spot) -> Result<(), LoadError> {
        let making = Making {
            limits: &self.limits,
            seed: load.options.seed,
        };
        let head = read_head(page, spot, making.seed)?;
        match make(page, &head, making, self.moment) {
            Ok(entry) => {
                let work = Work::Made {
                    page: page.clone(),
                    spot,
                    entry: Some((head.hash, entry)),
                };
                load.put(shard_of(load, spot.slot), page.bytes.len(), work).await
            }
            Err(Unmade::Empty) => {
                load.note_empty(&head.head.key);
                load.node.loading.count_keys(0, 1);
                Ok(())
            }
            Err(Unmade::Damaged(error)) => Err(error),
        }
    }
}

/// Why a page is turned.
enum Stop {
    Page,
    /// A list of parts that follow.
    Parts(Vec<u8>),
    End,
}

/// The shard that a slot belongs to.
fn shard_of(load: &Load, slot: u16) -> usize {
    usize::from(load.owners[usize::from(slot)].0)
}

impl<'l> Splitter<'l> {
    pub(super) fn new(load: &'l Load, file: Arc<Path>, makers: Option<&'l Makers>) -> Splitter<'l> {
        Splitter {
            load,
            file,
            makers,
            workbench: Workbench::new(load),
            db: 0,
            spots: load.queues.iter().map(|_| Vec::new()).collect(),
            heavy: Vec::new(),
            expired: 0,
            key_count: 0,
        }
    }

    /// Reads on to the end (None), or up to a list of parts that follow.
    pub(super) async fn go<R: Read>(&mut self, reader: &mut Reader<R>) -> Result<Option<Vec<u8>>, LoadError> {
        loop {
            let stop = self.read_page(reader)?;
            self.turn_page(reader).await?;
            match stop {
                Stop::Page => {}
                Stop::Parts(list) => return Ok(Some(list)),
                Stop::End => {
                    if reader.stored_checksum() == Some(0) {
                        tracing::info!("RDB file was saved with checksum disabled: no check performed.");
                    }
                    return Ok(None);
                }
            }
        }
    }

    /// Sorts in what is in a page, up to its end or whatever else needs it to be turned.
    fn read_page<R: Read>(&mut self, reader: &mut Reader<R>) -> Result<Stop, LoadError> {
        loop {
            let next = reader.look().map_err(|error| LoadError::File {
                file: self.file.to_path_buf(),
                error,
            })?;
            match next {
                Next::Item(Item::Entry(place)) => self.sort_in(place),
                Next::PageEnd => return Ok(Stop::Page),
                Next::Item(Item::End) => return Ok(Stop::End),
                Next::Item(Item::SelectDb(db)) => self.select(db, reader.offset())?,
                Next::Item(Item::Aux(name, value)) if name == PARTS_FIELD.as_bytes() => return Ok(Stop::Parts(value)),
                Next::Item(Item::Aux(name, value)) => self.hear(&name, &value),
                Next::Item(Item::Function(code)) => self.keep_library(code),
                Next::Item(Item::ModuleAux(module)) => {
                    tracing::warn!(
                        "The RDB file contains AUX module data I can't load: no matching module '{module}'. It is left out."
                    );
                }
                Next::Item(Item::Sizes { .. } | Item::Passed) => {}
            }
        }
    }

    /// Puts an entry down for its shard, or for who makes what takes long.
    #[inline]
    fn sort_in(&mut self, place: Place) {
        self.key_count += 1;
        if !self.load.options.keeps_expired && place.expiry.is_some_and(|expiry| expiry < self.load.now) {
            self.expired += 1;
            return;
        }
        let spot = Spot {
            start: place.start,
            db: self.db,
            slot: place.slot,
        };
        let heavy_bytes = match extent::is_composed(place.kind) {
            true => HEAVY_BYTES,
            false => HEAVY_STRING_BYTES,
        };
        // A later entry of the same key must come later.
        if place.end - place.start > heavy_bytes && !self.load.options.merges {
            self.heavy.push(spot);
        } else {
            self.spots[shard_of(self.load, place.slot)].push(spot);
        }
    }

    /// Hands the page on.
    async fn turn_page<R: Read>(&mut self, reader: &mut Reader<R>) -> Result<(), LoadError> {
        let page = reader.turn_page();
        let loading = &self.load.node.loading;
        loading.count_bytes(page.bytes.len() as u64);
        loading.count_expired(std::mem::take(&mut self.expired));
        let bytes = page.bytes.len();
        let page = Arc::new(SharedPage {
            bytes: page.bytes,
            offset: page.offset,
            file: self.file.clone(),
            version: reader.version(),
        });
        let key_count = std::mem::take(&mut self.key_count);
        self.load.options.threads.breathe().await;
        self.load.delay(key_count).await;
        if self.load.is_over() {
            return Err(LoadError::Stopped);
        }
        let shards = self.spots.len();
        for (shard, spots) in self.spots.iter_mut().enumerate().filter(|(_, spots)| !spots.is_empty()) {
            let work = Work::Page {
                page: page.clone(),
                spots: std::mem::take(spots),
                done: 0,
            };
            self.load.put(shard, bytes / shards, work).await?;
        }
        for spot in std::mem::take(&mut self.heavy) {
            match self.makers {
                Some(makers) => makers.put(self.load, &page, spot).await?,
                None => self.workbench.make(self.load, &page, spot).await?,
            }
        }
        Ok(())
    }

    fn select(&mut self, db: u64, offset: u64) -> Result<(), LoadError> {
        let databases = self.load.databases;
        match u32::try_from(db) {
            Ok(db) if db < databases => {
                self.db = db;
                Ok(())
            }
            _ => Err(LoadError::Databases {
                file: self.file.to_path_buf(),
                offset,
                databases,
            }),
        }
    }

    /// What the file says of itself.
    fn hear(&self, name: &[u8], value: &[u8]) {
        let text = String::from_utf8_lossy(value);
        match name {
            b"redis-ver" => tracing::info!("Loading RDB produced by version {text}"),
            b"valkey-ver" => tracing::info!("Loading RDB produced by Valkey version {text}"),
            b"ctime" => {
                let then: u64 = text.parse().unwrap_or(0);
                tracing::info!("RDB age {} seconds", (self.load.now.0 / 1000).saturating_sub(then));
            }
            b"used-mem" => {
                let bytes: u64 = text.parse().unwrap_or(0);
                tracing::info!("RDB memory usage when created {:.2} Mb", bytes as f64 / 1024.0 / 1024.0);
                self.load.node.loading.note_used_bytes_then(bytes);
            }
            b"repl-stream-db" => {
                let db = text.parse().unwrap_or(0);
                self.load.stream_db.store(db, Ordering::Relaxed);
            }
            b"aof-base" | b"aof-preamble" => {
                if text == "1" {
                    tracing::info!("RDB is base AOF");
                }
            }
            _ if name == MEMBER_FIELD.as_bytes() || name == REPLACED_FIELD.as_bytes() => {}
            [b'%', ..] => tracing::info!("RDB '{}': {text}", String::from_utf8_lossy(name)),
            _ => tracing::debug!("Unrecognized RDB AUX field: '{}'", String::from_utf8_lossy(name)),
        }
    }

    /// Keeps a library, once.
    fn keep_library(&self, code: Vec<u8>) {
        self.load.node.snapshots.libraries.change(|libraries| {
            if !libraries.contains(&code) {
                libraries.push(code);
            }
        });
    }
}

impl Load {
    /// `key-load-delay`: microseconds for each key; below zero, one for so many keys.
    pub(super) async fn delay(&self, keys: u64) {
        let mut done = Duration::ZERO;
        loop {
            let delay = self.node.lock_config().settings().key_load_delay;
            let all = match delay {
                0 => return,
                1.. => Duration::from_micros(keys.saturating_mul(u64::from(delay.unsigned_abs()))),
                _ => Duration::from_micros(keys / u64::from(delay.unsigned_abs())),
            };
            if done >= all || self.is_over() {
                return;
            }
            let step = DELAY_STEP.min(all - done);
            self.options.threads.sleep(step).await;
            done += step;
        }
    }
}
