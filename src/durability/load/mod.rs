//! Reading a data set into all shards, while they serve.
//!
//! ```text
//!  threads that may wait                            shards, which may not
//!  +-----------------------------------+            +-----------------------------------------------+
//!  | splitter: reads a file or a part, |   pages    | make values, enter keys; half a millisecond,  |
//!  | finds where entries end           |----------->| then a pass of the loop, then the next        |
//!  +-----------------------------------+  (queues)  +-----------------------------------------------+
//!  | maker: makes what takes long      |------------^ made entries
//!  +-----------------------------------+
//! ```
//!
//! A *page* is some 100 KB of a file; each shard gets the same page and a list of the entries in it whose slots are its own. So nothing is
//! copied, values are made where they will live, and looking for ends, which is all that one thread has to do for the whole file, is a
//! small part of the work. A value that would keep a shard busy for too long is made by a thread and handed over whole.
//!
//! A file that shardis has laid together says where its parts lie ([`PARTS_FIELD`](crate::persist::file::writer::PARTS_FIELD)), and parts can be split by several threads; so can the
//! files of a set. Whose entries they are does not matter: any number of shards may have written them.
//!
//! While it goes on the shards answer what may be answered (`Env::is_loading`), and nothing expires or is evicted. They stop refusing when
//! *all* have taken in all there is: what a client then sees is the whole data set.
//!
//! An append-only file is read in the same way: its base as any file, then its commands, which `replay` hands to the shards whose keys they
//! concern. When everything is there, and before anybody is served, the file is gone on with (`engine::aof`).
//!
//! Invariants:
//! 1. A shard makes values for [`STEP`] at a time, and one value that is no larger than [`HEAVY_BYTES`] beyond it.
//! 2. What waits between threads and shards is bounded (`queue`).
//! 3. When `run` has returned, no thread of it is left, and each shard serves the whole data set, or the process is to end.

mod emptying;
mod queue;
mod replay;
mod splitter;
mod threads;

pub use self::emptying::empty_all;
pub use self::threads::Threads;

use self::queue::Queue;
use self::replay::{Batch, Replayer, UnitWork};
use self::splitter::Splitter;
use self::threads::{Part, Waiting, run_here, wake};
use super::aof::walk::Kept;
use super::aof::{AofError, Found, keep};
use super::directory::{DataSet, remove_replaced};
use crate::base::clock::UnixMs;
use crate::base::crc64::combine;
use crate::data::access::{AccessPolicy, Moment, lfu_clock, lru_clock_idle};
use crate::data::dict::Foresight;
use crate::engine::aof::Directory;
use crate::engine::local::{LocalHandle, on_another_thread};
use crate::engine::{Local, Node, Registry};
use crate::persist::file::reader::{FileError, Head, PartSpan, Reader, parts_of};
use crate::persist::file::source::Source;
use crate::persist::rdb::{Damage, RdbError, RdbReader};
use crate::persist::value::{Making, Value};
use crate::runtime::disk::Disk;
use crate::runtime::yield_now;
use crate::shard::{ConnRef, ShardId, initial_owners};
use crate::store::{DbIndex, HashSeed, OwnedEntry};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;
use std::time::Duration;

/// How long a shard takes in keys before it does a pass of its loop.
const STEP: Duration = Duration::from_micros(400);

/// How many keys it takes in between two looks at the clock. Their memory is asked for together, ahead (`engine::foresight` has the reasons).
const GROUP: usize = 16;

/// A value of more bytes than this is made by a thread, if it has elements. What they come to differs by their kind: 16 KB of small integers
/// in a set took 0.8 ms in an optimised build, which is about the most (November 2026).
const HEAVY_BYTES: usize = 16 * 1024;

/// The same for a string, which is copied, or decompressed.
const HEAVY_STRING_BYTES: usize = 256 * 1024;

/// How many keys without elements are named in the log, as in Redis.
const EMPTY_KEYS_NAMED_MAX: u64 = 10;

/// Why a data set could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{file}: {error}", file = .file.display())]
    File { file: PathBuf, error: FileError },
    #[error("{file}: {error}", file = .file.display())]
    Io { file: PathBuf, error: io::Error },
    #[error("{file}: at offset {offset}: FATAL: Data file was created with a Redis server configured to handle more than {databases} databases. Exiting", file = .file.display())]
    Databases { file: PathBuf, offset: u64, databases: u32 },
    #[error("{file}: at offset {offset}: RDB has duplicated key '{key}' in DB {db}", file = .file.display(), key = .key.escape_ascii())]
    Duplicate {
        file: PathBuf,
        offset: u64,
        key: Vec<u8>,
        db: u32,
    },
    #[error("{file}: the part at offset {offset} has the checksum {found:x}, and {expected:x} was written down for it", file = .file.display())]
    PartChecksum {
        file: PathBuf,
        offset: u64,
        expected: u64,
        found: u64,
    },
    #[error("{0}")]
    Aof(#[from] AofError),
    #[error("the log cannot be gone on with: {0}")]
    Writing(String),
    /// The process is to end.
    #[error("the process is to end")]
    Stopped,
}

/// How a data set is read.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Checksums are compared (`rdbchecksum`, `DEBUG SET-SKIP-CHECKSUM-VALIDATION`).
    pub checks: bool,
    /// What has expired is entered all the same: an append-only file says itself what has been deleted.
    pub keeps_expired: bool,
    /// An append-only file that is torn at its end is read as far as it is whole (`aof-load-truncated`).
    pub loads_truncated: bool,
    /// A key that is there already is overwritten (`DEBUG RELOAD MERGE`).
    pub merges: bool,
    /// The process has served before, and goes on with what there is if reading fails (`DEBUG RELOAD`).
    pub is_reload: bool,
    /// The secret of the keyspace's hashes, and of those in values.
    pub seed: HashSeed,
    /// What has expired by then is left out.
    pub now: UnixMs,
    pub threads: Threads,
}

/// See the essay above.
pub struct Load {
    node: Arc<Node>,
    disk: Arc<dyn Disk>,
    files: Vec<PathBuf>,
    /// What they have replaced.
    replaced: Vec<PathBuf>,
    /// It is an append-only file that is read.
    aof: Option<Found>,
    /// The shards bring it.
    registry: OnceLock<&'static Registry>,
    options: Options,
    /// What has expired by then is left out.
    now: UnixMs,
    databases: u32,
    /// What the file says that a stream has selected that goes on from it.
    stream_db: AtomicU32,
    /// The shard of each slot.
    owners: Arc<[ShardId]>,
    queues: Box<[Queue]>,
    /// Nothing more is wanted, for whatever reason.
    is_over: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    failure: Option<LoadError>,
    /// Shards that have taken in all there was.
    idle: usize,
    /// Shards that refuse nothing any more.
    ready: usize,
    released: usize,
    /// Marks that shards have come to in their queues, and units of work that have ended.
    marks: usize,
    units: usize,
    /// Commands that were answered with an error.
    refusals: usize,
    /// Of an append-only file, when it has been read to its end.
    kept: Option<Kept>,
    /// Who waits for any of these to change.
    waiting: Waiting,
}

/// A page of a file, and what is to be known to read it.
struct SharedPage {
    bytes: Vec<u8>,
    /// Bytes of the file before it.
    offset: u64,
    file: Arc<Path>,
    version: u16,
}

/// Where an entry lies in its page.
#[derive(Clone, Copy)]
struct Spot {
    start: usize,
    db: u32,
    slot: u16,
}

/// What a shard is to take in.
enum Work {
    Page {
        page: Arc<SharedPage>,
        spots: Vec<Spot>,
        /// How many of them are done.
        done: usize,
    },
    Made {
        page: Arc<SharedPage>,
        spot: Spot,
        /// With the hash of its key.
        entry: Option<(u64, OwnedEntry)>,
    },
    /// Commands that run on this shard.
    Commands(Batch),
    /// All before it is done.
    Mark,
    /// A command that needs slots of others.
    Unit(Option<UnitWork>),
}

/// How far a step has got.
enum Step {
    Finished,
    Unfinished,
    Failed(LoadError),
}

impl Load {
    /// Of a data set. From here on every shard that begins refuses commands, until `run` has ended. What the data set has replaced is gone
    /// when it has been read and was whole.
    pub fn new(node: Arc<Node>, found: DataSet, options: Options) -> Arc<Load> {
        Load::begin(node, found, None, options)
    }

    /// Of an append-only file; the same holds.
    pub fn of_aof(node: Arc<Node>, found: Found, options: Options) -> Arc<Load> {
        let files = found.manifest.files().map(|entry| entry.path(&found.dir)).collect();
        let replaced = Vec::new();
        Load::begin(node, DataSet { files, replaced }, Some(found), options)
    }

    fn begin(node: Arc<Node>, found: DataSet, aof: Option<Found>, options: Options) -> Arc<Load> {
        let DataSet { files, replaced } = found;
        let disk = node.snapshots.disk.clone();
        let now = options.now;
        let lens = files.iter().map(|path| Source::open(&*disk, path)?.bytes());
        // What cannot be read now is told when it is to be read.
        let total_bytes = lens.filter_map(Result::ok).sum();
        node.loading.begin(now, total_bytes);
        let databases = node.lock_config().settings().databases;
        Arc::new(Load {
            databases,
            stream_db: AtomicU32::new(0),
            owners: initial_owners(node.shards as u16, node.cut.slot_count()),
            queues: (0..node.shards).map(|_| Queue::default()).collect(),
            node,
            disk,
            files,
            replaced,
            aof,
            registry: OnceLock::new(),
            options,
            now,
            is_over: AtomicBool::new(false),
            state: Mutex::default(),
        })
    }

    /// Whether it is an append-only file that is read.
    pub fn is_of_aof(&self) -> bool {
        self.aof.is_some()
    }

    /// The db that a stream has selected which goes on from what was read; 0 where nothing says so.
    pub fn stream_db(&self) -> u32 {
        self.stream_db.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody wants more to be read.
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed) || self.is_stopping()
    }

    fn is_stopping(&self) -> bool {
        self.node
            .shutdown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    /// Ends it with this error, if there was none before.
    fn fail(&self, error: LoadError) {
        self.is_over.store(true, Ordering::Relaxed);
        self.change(|state| {
            state.failure.get_or_insert(error);
        });
        self.queues.iter().for_each(Queue::rouse_putters);
    }

    /// Changes what is waited for.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let waiting = state.waiting.take();
        drop(state);
        wake(waiting);
    }

    /// Reads everything; blocks until all shards have it. Each shard must [`Load::attend`].
    pub fn run(&self) -> Result<(), LoadError> {
        run_here(self.go())
    }

    /// The same, for whoever simulates the thread that would be blocked.
    pub async fn go(&self) -> Result<(), LoadError> {
        if let Err(error) = self.read_files().await {
            self.fail(error);
        }
        for queue in &self.queues {
            if self.is_over() {
                queue.clear();
            }
            queue.close();
        }
        // A process that is to end serves nobody what it has half read, and saves none of it.
        if !self.wait_for(|state| state.idle).await {
            return Err(LoadError::Stopped);
        }
        let mut failure = self.lock().failure.take();
        if failure.is_none() && !self.options.is_reload {
            failure = self.hand_on().err();
        }
        if failure.is_none() {
            // Before anybody can have a snapshot saved under these names.
            remove_replaced(&*self.disk, &self.replaced);
        }
        if failure.is_none() || self.options.is_reload {
            self.node.loading.end();
            self.queues.iter().for_each(Queue::release);
            if self.wait_for(|state| state.released).await {
                self.node.loading.end_refusing();
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Hands an append-only file to who goes on with it.
    fn hand_on(&self) -> Result<(), LoadError> {
        let (Some(found), Some(kept)) = (&self.aof, self.lock().kept.take()) else {
            return Ok(());
        };
        let recovered = keep::keep(&*self.disk, found.clone(), kept)?;
        let directory = Directory::of(self.node.lock_config().settings());
        let begun = self.node.aof.begin(directory, recovered);
        begun.map_err(LoadError::Writing)
    }

    /// Waits until that is so; false if nobody wants more to be read.
    async fn wait_until(&self, is_so: impl Fn(&State) -> bool) -> bool {
        std::future::poll_fn(|context| {
            let mut state = self.lock();
            if is_so(&state) {
                return Poll::Ready(true);
            }
            if self.is_over() {
                return Poll::Ready(false);
            }
            state.waiting.add(context);
            Poll::Pending
        })
        .await
    }

    /// Waits until that is so for all shards; false if the process is to end first.
    async fn wait_for(&self, count: impl Fn(&State) -> usize) -> bool {
        std::future::poll_fn(|context| {
            let mut state = self.lock();
            if count(&state) >= self.queues.len() {
                return Poll::Ready(true);
            }
            if self.is_stopping() {
                return Poll::Ready(false);
            }
            state.waiting.add(context);
            Poll::Pending
        })
        .await
    }

    async fn read_files(&self) -> Result<(), LoadError> {
        if let Some(found) = &self.aof {
            let kept = Replayer::replay(self, found).await?;
            self.lock().kept = Some(kept);
            return Ok(());
        }
        match self.files.as_slice() {
            [file] => self.read_file(file).await.map(|_| ()),
            files => {
                let next = AtomicUsize::new(0);
                self.in_parallel(files.len(), || async {
                    while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let (mut reader, file) = self.open(path)?;
                        let mut splitter = Splitter::new(self, file, None);
                        while splitter.go(&mut reader).await?.is_some() {}
                    }
                    Ok(())
                })
                .await
            }
        }
    }

    fn open(&self, path: &Path) -> Result<(Reader<Source>, Arc<Path>), LoadError> {
        let failed = |error| LoadError::Io {
            file: path.to_owned(),
            error,
        };
        let source = Source::open(&*self.disk, path).map_err(failed)?;
        let len = source.bytes().map_err(failed)?;
        let reader = Reader::new(source, Some(len), self.options.checks);
        let reader = reader.map_err(|error| LoadError::File {
            file: path.to_owned(),
            error,
        })?;
        Ok((reader, Arc::from(path)))
    }

    /// Reads one file: by one thread that splits and several that make what takes long, or in its parts. Where it ends, which need not be where
    /// the file does.
    async fn read_file(&self, path: &Path) -> Result<u64, LoadError> {
        let (mut reader, file) = self.open(path)?;
        let makers = Makers::default();
        let mut outcome = Ok(());
        let mut parts: Vec<Part<'_>> = Vec::new();
        for _ in 0..self.queues.len() {
            parts.push(Box::pin(makers.work(self)));
        }
        parts.push(Box::pin(async {
            let mut splitter = Splitter::new(self, file, Some(&makers));
            outcome = loop {
                match splitter.go(&mut reader).await {
                    Ok(Some(list)) => {
                        if let Err(error) = self.read_parts(path, &mut reader, &list).await {
                            break Err(error);
                        }
                    }
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            makers.close();
        }));
        self.options.threads.side_by_side(parts).await;
        outcome.map(|()| reader.offset())
    }

    /// Reads the parts that follow, in parallel, and goes on behind them. A list that cannot be is left out: the parts are then read as what
    /// they are, a part of the file.
    async fn read_parts(&self, path: &Path, reader: &mut Reader<Source>, list: &[u8]) -> Result<(), LoadError> {
        let failed = |error| LoadError::Io {
            file: path.to_owned(),
            error,
        };
        let open = || Source::open(&*self.disk, path).map_err(failed);
        let source = open()?;
        let len = source.bytes().map_err(failed)?;
        let begin = reader.offset();
        let Some(parts) = parts_of(list, len.saturating_sub(begin)) else {
            tracing::warn!("{}: the list of parts is not understood, and left out", path.display());
            return Ok(());
        };
        let mut at = begin;
        let mut placed: Vec<(u64, PartSpan)> = Vec::with_capacity(parts.len());
        for part in parts {
            placed.push((at, part));
            at += part.bytes;
        }
        let (version, next) = (reader.version(), AtomicUsize::new(0));
        self.in_parallel(placed.len(), || async {
            while let Some(&(offset, part)) = placed.get(next.fetch_add(1, Ordering::Relaxed)) {
                let checks = self.options.checks && part.crc != 0;
                let mut of_part = Reader::of_part(open()?.at(offset), offset, part.bytes, version, checks);
                let mut splitter = Splitter::new(self, Arc::from(path), None);
                while splitter.go(&mut of_part).await?.is_some() {}
                if let Some(found) = of_part.checksum()
                    && found != part.crc
                {
                    return Err(LoadError::PartChecksum {
                        file: path.to_owned(),
                        offset,
                        expected: part.crc,
                        found,
                    });
                }
            }
            Ok(())
        })
        .await?;
        let with_parts = |crc| {
            let parts = placed.iter().map(|(_, part)| part);
            parts.fold(crc, |crc, part| combine(crc, part.crc, part.bytes))
        };
        reader.jump(source.at(at), at - begin, len - at, with_parts);
        Ok(())
    }

    /// Does the same as many times as there are shards, but no more than `count`, each on a thread of its own.
    async fn in_parallel<F>(&self, count: usize, work: impl Fn() -> F) -> Result<(), LoadError>
    where
        F: Future<Output = Result<(), LoadError>> + Send,
    {
        let mut parts: Vec<Part<'_>> = Vec::new();
        for _ in 0..count.min(self.queues.len()) {
            let work = work();
            parts.push(Box::pin(async {
                if let Err(error) = work.await {
                    self.fail(error);
                }
            }));
        }
        self.options.threads.side_by_side(parts).await;
        match self.is_over() {
            // Which of them has failed is written down.
            true => Err(LoadError::Stopped),
            false => Ok(()),
        }
    }

    /// Gives a shard work that keeps so many bytes.
    async fn put(&self, shard: usize, bytes: usize, work: Work) -> Result<(), LoadError> {
        match self.queues[shard].put(bytes, work, || self.is_over()).await {
            true => Ok(()),
            false => Err(LoadError::Stopped),
        }
    }

    /// Reads everything into the shards of a server that runs. To be called while commands that need data are refused.
    pub async fn read_into(self: Arc<Load>, local: &LocalHandle) -> Result<(), LoadError> {
        let attended = self.clone();
        local
            .ask_all(move |local: &mut Local| {
                let attending = attended.attend(local.handle());
                local.executor().spawn(Box::pin(attending));
            })
            .await;
        let executor = local.with(|local| local.executor());
        on_another_thread(&*executor, move || self.run()).await
    }

    /// A shard's part: takes in what it is given until there is no more.
    pub async fn attend(self: Arc<Load>, local: LocalHandle) {
        let shard = local.with(|local| usize::from(local.id().0));
        // The first one brings it.
        let _ = self.registry.set(local.with(|local| local.registry));
        self.change(|_| {});
        let queue = &self.queues[shard];
        while let Some(mut work) = queue.take().await {
            loop {
                match local.with(|local| self.step(local, &mut work)) {
                    Step::Finished => break,
                    Step::Unfinished => yield_now().await,
                    Step::Failed(error) => {
                        self.fail(error);
                        break;
                    }
                }
            }
            yield_now().await;
        }
        self.change(|state| state.idle += 1);
        queue.released().await;
        local.with(Local::end_replaying);
        self.change(|state| state.ready += 1);
        // A shard that serves has others run what its clients send.
        if !self.wait_for(|state| state.ready).await {
            return;
        }
        local.with(Local::end_loading);
        self.change(|state| state.released += 1);
    }

    /// Takes in some of the work.
    fn step(self: &Arc<Load>, local: &mut Local, work: &mut Work) -> Step {
        if self.is_over.load(Ordering::Relaxed) {
            return Step::Finished;
        }
        let moment = local.env.moment_of_entering();
        let mut counts = Counts::default();
        let outcome = match work {
            Work::Made { page, spot, entry } => match entry.take() {
                Some((hash, made)) => match self.enter(local, page, *spot, hash, made, moment) {
                    Ok(None) => {
                        counts.loaded += 1;
                        Step::Finished
                    }
                    Ok(Some(back)) => {
                        *entry = Some((hash, back));
                        Step::Unfinished
                    }
                    Err(error) => Step::Failed(error),
                },
                None => Step::Finished,
            },
            Work::Commands(batch) => self.step_commands(local, batch),
            Work::Mark => {
                self.change(|state| state.marks += 1);
                Step::Finished
            }
            Work::Unit(unit) => {
                self.run_unit(local, unit.take());
                Step::Finished
            }
            Work::Page { page, spots, done } => self.step_page(local, page, spots, done, moment, &mut counts),
        };
        self.node.loading.count_keys(counts.loaded, counts.empty);
        outcome
    }

    fn step_page(
        &self,
        local: &mut Local,
        page: &SharedPage,
        spots: &[Spot],
        done: &mut usize,
        moment: Moment,
        counts: &mut Counts,
    ) -> Step {
        let began = local.env.ticks_now();
        let mut heads = Vec::with_capacity(GROUP);
        while *done < spots.len() {
            let group = &spots[*done..spots.len().min(*done + GROUP)];
            heads.clear();
            for &spot in group {
                match read_head(page, spot, local.env.seed) {
                    Ok(head) => heads.push(head),
                    Err(error) => return Step::Failed(error),
                }
            }
            foresee(local, group, &heads);
            for (&spot, head) in group.iter().zip(&heads) {
                let outcome = match make(page, head, local.env.making(), moment) {
                    Ok(entry) => {
                        let entered = self.enter(local, page, spot, head.hash, entry, moment);
                        counts.loaded += u64::from(matches!(entered, Ok(None)));
                        entered
                    }
                    Err(Unmade::Empty) => {
                        self.note_empty(&head.head.key);
                        counts.empty += 1;
                        Ok(None)
                    }
                    Err(Unmade::Damaged(error)) => Err(error),
                };
                match outcome {
                    Ok(None) => *done += 1,
                    // Its slot is on loan: it comes back soon, and the entry is made again.
                    Ok(Some(_)) => return Step::Unfinished,
                    Err(error) => return Step::Failed(error),
                }
            }
            if u128::from(local.env.ticks_now().ns_since(began)) >= STEP.as_nanos() {
                return Step::Unfinished;
            }
        }
        Step::Finished
    }

    /// Enters a key. Hands it back if its slot is on loan.
    fn enter(
        &self,
        local: &mut Local,
        page: &SharedPage,
        spot: Spot,
        hash: u64,
        entry: OwnedEntry,
        moment: Moment,
    ) -> Result<Option<OwnedEntry>, LoadError> {
        let background = ConnRef::background(local.id());
        let Some(mut view) = local.core.try_view(&[spot.slot], background) else {
            return Ok(Some(entry));
        };
        let slot = view.slot(spot.slot).expect("a view has the slots it was asked for");
        let db = DbIndex(spot.db);
        match slot.enter(db, hash, entry) {
            Ok(()) => {}
            Err(entry) if self.options.merges => {
                let key = entry.as_ref().key().to_vec();
                slot.put(db, &key, entry, moment);
                // Nobody follows from what a file says.
                drop(slot.take_told());
                if let Some(discarded) = slot.take_discarded() {
                    local.env.garbage.absorb(*discarded);
                }
            }
            Err(entry) => {
                return Err(LoadError::Duplicate {
                    file: page.file.to_path_buf(),
                    offset: page.offset + spot.start as u64,
                    key: entry.as_ref().key().to_vec(),
                    db: spot.db,
                });
            }
        }
        Ok(None)
    }

    /// Says in the log that a key was left out, if not many were.
    fn note_empty(&self, key: &[u8]) {
        if self.node.loading.keys_empty() < EMPTY_KEYS_NAMED_MAX {
            tracing::info!("rdbLoadObject skipping empty key: {}", key.escape_ascii());
        }
    }
}

/// Keys of one step.
#[derive(Default)]
struct Counts {
    loaded: u64,
    empty: u64,
}

/// An entry of a page whose value is still to be made.
struct ReadHead<'a> {
    head: Head<'a>,
    /// Of its key.
    hash: u64,
    /// Where in the page its value begins.
    value_at: usize,
}

/// Why there is no entry.
enum Unmade {
    /// There is nothing in it.
    Empty,
    Damaged(LoadError),
}

impl SharedPage {
    fn damaged(&self, error: RdbError, key: Option<&[u8]>) -> LoadError {
        LoadError::File {
            file: self.file.to_path_buf(),
            error: FileError::damage(self.offset, error, key),
        }
    }
}

#[inline]
fn read_head(page: &SharedPage, spot: Spot, seed: HashSeed) -> Result<ReadHead<'_>, LoadError> {
    let mut reader = RdbReader::at(&page.bytes, spot.start);
    let head = Head::read(&mut reader).map_err(|error| page.damaged(error, None))?;
    Ok(ReadHead {
        hash: seed.hash(&head.key),
        value_at: reader.offset(),
        head,
    })
}

/// Asks for the memory that entering these keys will read.
fn foresee(local: &Local, spots: &[Spot], heads: &[ReadHead<'_>]) {
    let Some(places) = local.core.places() else { return };
    for spot in spots {
        if let Some(slot) = places.home(spot.slot) {
            slot.foresee();
        }
    }
    // A slot has seldom so many keys that its table has a second level.
    for (spot, head) in spots.iter().zip(heads) {
        if let Some(slot) = places.home(spot.slot) {
            slot.foresee_key(DbIndex(spot.db), head.hash, Foresight::Tags);
        }
    }
}

/// Makes an entry of its bytes.
fn make(page: &SharedPage, read: &ReadHead<'_>, making: Making<'_>, moment: Moment) -> Result<OwnedEntry, Unmade> {
    let head = &read.head;
    let mut reader = RdbReader::at(&page.bytes, read.value_at);
    match Value::read_kind(head.kind, &mut reader, making, page.version) {
        Ok(value) => Ok(value.into_entry(&head.key, head.expiry, clock_of(head, moment))),
        Err(error) if error.what == Damage::Empty => Err(Unmade::Empty),
        Err(error) => Err(Unmade::Damaged(page.damaged(error, Some(&head.key)))),
    }
}

/// The access clock of an entry, by what the file says of its use, if that is what the policy goes by.
fn clock_of(head: &Head<'_>, moment: Moment) -> u32 {
    match (moment.policy, head.idle_s, head.frequency) {
        (AccessPolicy::Lru, Some(idle_s), _) => lru_clock_idle(moment.now, idle_s),
        (AccessPolicy::Lfu { .. }, _, Some(frequency)) => lfu_clock(moment.now, frequency),
        _ => moment.new_clock(),
    }
}

/// Threads that make what takes long, for one who splits.
#[derive(Default)]
struct Makers {
    inside: Mutex<MakersInside>,
}

#[derive(Default)]
struct MakersInside {
    jobs: Vec<(Arc<SharedPage>, Spot)>,
    is_closed: bool,
    /// Who waits for a job, or for fewer of them.
    waiting: Waiting,
}

impl Makers {
    fn lock(&self) -> MutexGuard<'_, MakersInside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is waited for.
    fn change<T>(&self, change: impl FnOnce(&mut MakersInside) -> T) -> T {
        let mut inside = self.lock();
        let answer = change(&mut inside);
        let waiting = inside.waiting.take();
        drop(inside);
        wake(waiting);
        answer
    }

    /// Adds an entry, as soon as no more than one waits for each maker.
    async fn put(&self, load: &Load, page: &Arc<SharedPage>, spot: Spot) -> Result<(), LoadError> {
        std::future::poll_fn(|context| {
            let mut inside = self.lock();
            if inside.jobs.len() < load.queues.len() {
                return Poll::Ready(Ok(()));
            }
            if load.is_over() {
                return Poll::Ready(Err(LoadError::Stopped));
            }
            inside.waiting.add(context);
            Poll::Pending
        })
        .await?;
        // Nobody else adds any.
        self.change(|inside| inside.jobs.push((page.clone(), spot)));
        Ok(())
    }

    fn close(&self) {
        self.change(|inside| inside.is_closed = true);
    }

    /// The next job; None when there will be none.
    async fn job(&self) -> Option<(Arc<SharedPage>, Spot)> {
        let is_there = std::future::poll_fn(|context| {
            let mut inside = self.lock();
            if let Some(job) = inside.jobs.pop() {
                return Poll::Ready(Some(job));
            }
            if inside.is_closed {
                return Poll::Ready(None);
            }
            inside.waiting.add(context);
            Poll::Pending
        });
        let job = is_there.await;
        self.change(|_| {});
        job
    }

    /// Makes entries until there will be no more.
    async fn work(&self, load: &Load) {
        let mut workbench = splitter::Workbench::new(load);
        while let Some((page, spot)) = self.job().await {
            if let Err(error) = workbench.make(load, &page, spot).await {
                load.fail(error);
            }
        }
    }
}
