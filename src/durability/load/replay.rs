//! The commands of an append-only file, run again on the shards whose keys they concern.
//!
//! ```text
//!  thread: the walk finds commands, in the one order of all           shards
//!    keys of one shard?  -- into the batch of that shard ---------->  run at once, by the registry's own handlers
//!    anything else       -- all batches, a mark behind each ------->  (drained)
//!                        -- the command ---------------------------->  a unit of work that collects its slots
//!                        <- it has run -----------------------------
//! ```
//!
//! Two commands without a common slot may run in either order, for nobody sees anything before everything is there. So a transaction
//! needs no more than that none of it is handed on before its EXEC has been found; its commands go each to its own shard.
//!
//! The thread is what cannot be made faster by more shards: for each command it finds the ends of the arguments, the command's name, the
//! slot, and copies the arguments. All else is done where the keys are.

use super::{GROUP, Load, LoadError, STEP, Step as ShardStep, Work};
use crate::base::clock::Ticks;
use crate::base::slot::key_slot;
use crate::durability::aof::walk::{Kept, Step, Walk};
use crate::durability::aof::{AofError, Found, keep};
use crate::engine::literal::{Registered, Run, key_slots};
use crate::engine::replay::{self, Replayed};
use crate::engine::{CommandId, Local, Registry};
use crate::persist::payload;
use crate::resp::{Args, OwnedArgs, ReplyBuf, Span};
use crate::shard::Footprint;
use crate::store::DbIndex;
use std::path::Path;
use std::sync::Arc;

/// A batch is handed on when it has so many commands, or bytes.
const BATCH_COMMANDS: usize = 256;
const BATCH_BYTES: usize = 32 * 1024;

/// What is said of a FUNCTION that is not understood.
const NO_FUNCTION: &str = "what it says of libraries of functions is not understood";

/// How many errors of commands are told.
const REFUSALS_NAMED_MAX: usize = 10;

/// Commands for one shard.
#[derive(Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    items: Vec<Item>,
    /// How many of the commands, and of their arguments, are done.
    done: usize,
    spans_done: usize,
}

#[derive(Clone, Copy)]
struct Item {
    command: CommandId,
    arguments: u32,
    db: u32,
    /// Of its only key, where it has one.
    slot: u16,
}

/// A command that needs slots of several shards.
pub(super) struct UnitWork {
    found: &'static Registered,
    args: OwnedArgs,
    db: DbIndex,
    footprint: Footprint,
}

/// Where a command runs.
enum Route {
    Shard { shard: usize, slot: u16 },
    Unit(Footprint),
}

impl Batch {
    fn push(&mut self, item: Item, args: Args<'_>) {
        for argument in args.iter() {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(argument);
            let end = self.bytes.len();
            self.spans.push(Span { start, end });
        }
        self.items.push(item);
    }

    fn is_full(&self) -> bool {
        self.items.len() >= BATCH_COMMANDS || self.bytes.len() >= BATCH_BYTES
    }

    /// Bytes that it keeps.
    fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.spans.capacity() * size_of::<Span>() + self.items.capacity() * size_of::<Item>()
    }

    /// The command that is next.
    fn next(&self) -> Option<(Item, Args<'_>)> {
        let item = *self.items.get(self.done)?;
        let spans = &self.spans[self.spans_done..self.spans_done + item.arguments as usize];
        Some((item, Args::new(&self.bytes, spans)))
    }

    fn pass(&mut self) {
        self.spans_done += self.items[self.done].arguments as usize;
        self.done += 1;
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
        self.items.clear();
        (self.done, self.spans_done) = (0, 0);
    }
}

/// The thread's part.
pub(super) struct Replayer<'l> {
    load: &'l Load,
    registry: &'static Registry,
    batches: Vec<Batch>,
    /// The commands of the transaction that is open.
    staged: Option<Batch>,
    /// What of it concerns libraries, not keys.
    functions: Vec<OwnedArgs>,
    /// Its buffers, when none is.
    spare: Batch,
    last: Option<CommandId>,
    /// How many marks and units were handed on.
    marks: usize,
    units: usize,
    commands: u64,
}

impl<'l> Replayer<'l> {
    /// Reads an append-only file; what of it is kept.
    pub async fn replay(load: &'l Load, found: &Found) -> Result<Kept, LoadError> {
        if !load.wait_until(|_| load.registry.get().is_some()).await {
            return Err(LoadError::Stopped);
        }
        let mut replayer = Replayer {
            load,
            registry: load.registry.get().expect("it has been waited for"),
            batches: load.queues.iter().map(|_| Batch::default()).collect(),
            staged: None,
            functions: Vec::new(),
            spare: Batch::default(),
            last: None,
            marks: 0,
            units: 0,
            commands: 0,
        };
        let mut walk = Walk::new(load.disk.clone(), found, load.databases);
        let mut began = Ticks::now();
        loop {
            let step = walk.go()?;
            tell_passed(walk.take_passed(), found, &mut began);
            match step {
                Step::Command => replayer.take(&mut walk).await?,
                Step::Multi => replayer.staged = Some(std::mem::take(&mut replayer.spare)),
                Step::Exec => replayer.execute(&mut walk).await?,
                Step::Timestamp(_) => {}
                Step::Keys => {
                    let end = replayer.read_keys(&walk.place().0).await?;
                    walk.keys_end_at(end);
                }
                Step::End => break,
            }
        }
        load.node.loading.count_bytes(walk.take_counted_bytes());
        for shard in 0..replayer.batches.len() {
            replayer.hand_on(shard).await?;
        }
        if let Some(staged) = &replayer.staged {
            let (count, last) = (staged.items.len(), found.manifest.files().last());
            let name = last
                .map(|entry| entry.path(&found.dir).display().to_string())
                .unwrap_or_default();
            tracing::warn!("Revert incomplete MULTI/EXEC transaction in AOF file {name} ({count} commands)");
        }
        let kept = walk.into_kept();
        if !load.options.is_reload {
            keep::tell(&kept, load.options.loads_truncated)?;
        }
        Ok(kept)
    }

    /// Has the keys read with which a file begins; where they end.
    async fn read_keys(&mut self, path: &Path) -> Result<u64, LoadError> {
        let is_base = path.extension().is_some_and(|extension| extension == "rdb");
        match is_base {
            true => tracing::info!("Reading RDB base file on AOF loading..."),
            false => tracing::info!("Reading RDB preamble from AOF file..."),
        }
        let end = self.load.read_file(path).await;
        match (&end, is_base) {
            (Ok(_), true) => {}
            (Ok(_), false) => tracing::info!("Reading the remaining AOF tail..."),
            (Err(_), true) => tracing::warn!(
                "Error reading the RDB base file {}, AOF loading aborted",
                path.display()
            ),
            (Err(_), false) => {
                tracing::warn!(
                    "Error reading the RDB preamble of the AOF file {}, AOF loading aborted",
                    path.display()
                );
            }
        }
        end
    }

    /// Takes the command at which the walk stands.
    async fn take(&mut self, walk: &mut Walk) -> Result<(), LoadError> {
        let (args, db) = (walk.args(), walk.db());
        if args.len() > 1 && args.at(0).eq_ignore_ascii_case(b"function") {
            if self.staged.is_some() {
                self.functions.push(args.to_owned());
            } else if !self.keep_function(args) {
                return Err(format_error(walk, NO_FUNCTION.to_owned()).into());
            }
            return Ok(());
        }
        let Ok(found) = self.registry.resolve_after(self.last, args) else {
            let name = args.at(0).to_vec();
            let (file, offset) = walk.place();
            let file = file.to_path_buf();
            return Err(AofError::UnknownCommand { file, offset, name }.into());
        };
        self.last = Some(found.id);
        if !found.command.accepts(args.len()) {
            let what = format!("wrong number of arguments for '{}'", found.full_name);
            return Err(format_error(walk, what).into());
        }
        if let Some(staged) = &mut self.staged {
            let item = Item {
                command: found.id,
                arguments: args.len() as u32,
                db,
                slot: 0,
            };
            staged.push(item, args);
            return Ok(());
        }
        match self.route(found, args) {
            Ok(Route::Shard { shard, slot }) => {
                self.put(shard, found.id, db, slot, args);
                match self.batches[shard].is_full() {
                    true => {
                        self.load.node.loading.count_bytes(walk.take_counted_bytes());
                        self.hand_on(shard).await
                    }
                    false => Ok(()),
                }
            }
            Ok(Route::Unit(footprint)) => {
                let args = args.to_owned();
                self.run_apart(found, args, db, footprint).await
            }
            Err(what) => Err(format_error(walk, what).into()),
        }
    }

    /// The transaction is whole: its commands run.
    async fn execute(&mut self, walk: &mut Walk) -> Result<(), LoadError> {
        let Some(mut staged) = self.staged.take() else {
            return Ok(());
        };
        for args in std::mem::take(&mut self.functions) {
            if !self.keep_function(args.as_args()) {
                return Err(format_error(walk, NO_FUNCTION.to_owned()).into());
            }
        }
        while let Some((item, args)) = staged.next() {
            let found = self.registry.get(item.command);
            match self.route(found, args) {
                Ok(Route::Shard { shard, slot }) => {
                    self.put(shard, item.command, item.db, slot, args);
                    if self.batches[shard].is_full() {
                        self.hand_on(shard).await?;
                    }
                }
                Ok(Route::Unit(footprint)) => {
                    self.run_apart(found, args.to_owned(), item.db, footprint).await?;
                }
                Err(what) => return Err(format_error(walk, what).into()),
            }
            staged.pass();
        }
        staged.clear();
        self.spare = staged;
        Ok(())
    }

    fn put(&mut self, shard: usize, command: CommandId, db: u32, slot: u16, args: Args<'_>) {
        let item = Item {
            command,
            arguments: args.len() as u32,
            db,
            slot,
        };
        self.batches[shard].push(item, args);
        self.commands += 1;
    }

    /// Where a command runs. The error is why it cannot.
    fn route(&self, found: &'static Registered, args: Args<'_>) -> Result<Route, String> {
        let owner = |slot: u16| usize::from(self.load.owners[usize::from(slot)].0);
        if let Some(position) = found.single_key {
            let slot = key_slot(&args[position]);
            let shard = owner(slot);
            return Ok(Route::Shard { shard, slot });
        }
        match found.command.run {
            Run::Keys(_) => {
                let slots = key_slots(found.command, args);
                let mut owners = slots.as_slice().iter().map(|slot| owner(*slot));
                let shard = owners.next().unwrap_or(0);
                Ok(match owners.all(|other| other == shard) {
                    true => Route::Shard { shard, slot: 0 },
                    false => Route::Unit(Footprint::Slots(slots)),
                })
            }
            // What it reaches is known only as it runs.
            Run::Reaching(..) | Run::Slots(..) | Run::Script(_) | Run::Everything(_) => {
                Ok(Route::Unit(Footprint::Everything))
            }
            _ => Err(format!("'{}' is no command that a file can hold", found.full_name)),
        }
    }

    /// Hands on what has gathered for a shard.
    async fn hand_on(&mut self, shard: usize) -> Result<(), LoadError> {
        if self.batches[shard].items.is_empty() {
            return Ok(());
        }
        let full = &mut self.batches[shard];
        let room = Batch {
            bytes: Vec::with_capacity(full.bytes.len()),
            spans: Vec::with_capacity(full.spans.len()),
            items: Vec::with_capacity(full.items.len()),
            ..Batch::default()
        };
        let batch = std::mem::replace(full, room);
        self.load.options.threads.breathe().await;
        self.load.delay(std::mem::take(&mut self.commands)).await;
        self.load.put(shard, batch.memory_bytes(), Work::Commands(batch)).await
    }

    /// Runs a command that is not for one shard, when all before it are done.
    async fn run_apart(
        &mut self,
        found: &'static Registered,
        args: OwnedArgs,
        db: u32,
        footprint: Footprint,
    ) -> Result<(), LoadError> {
        let shards = self.batches.len();
        for shard in 0..shards {
            self.hand_on(shard).await?;
        }
        // (A single shard does one thing after the other by itself.)
        if shards > 1 {
            for shard in 0..shards {
                self.load.put(shard, 0, Work::Mark).await?;
            }
            self.marks += shards;
            let marks = self.marks;
            if !self.load.wait_until(|state| state.marks >= marks).await {
                return Err(LoadError::Stopped);
            }
        }
        let bytes = args.memory_bytes();
        let unit = UnitWork {
            found,
            args,
            db: DbIndex(db),
            footprint,
        };
        self.load.put(0, bytes, Work::Unit(Some(unit))).await?;
        self.units += 1;
        let units = self.units;
        if shards > 1 && !self.load.wait_until(|state| state.units >= units).await {
            return Err(LoadError::Stopped);
        }
        Ok(())
    }

    /// FUNCTION, which is no command over keys: libraries are kept as what they are, code. False: it is not understood.
    fn keep_function(&self, args: Args<'_>) -> bool {
        self.load
            .node
            .snapshots
            .libraries
            .change(|libraries| change_libraries(libraries, args))
    }
}

/// What FUNCTION with these arguments makes of the libraries. False: it is not understood.
fn change_libraries(libraries: &mut Vec<Vec<u8>>, args: Args<'_>) -> bool {
    let put = |libraries: &mut Vec<Vec<u8>>, code: Vec<u8>| {
        libraries.retain(|other| library_name(other) != library_name(&code));
        libraries.push(code);
    };
    match (args.at(1).to_ascii_lowercase().as_slice(), args.len()) {
        (b"load", 3..) => put(libraries, args.at(args.len() - 1).to_vec()),
        (b"flush", _) => libraries.clear(),
        (b"delete", 3..) => libraries.retain(|code| library_name(code) != args.get(2)),
        (b"restore", 3..) => {
            let Ok(restored) = payload::restore_functions(args.at(2)) else {
                return false;
            };
            if args.get(3).is_some_and(|policy| policy.eq_ignore_ascii_case(b"flush")) {
                libraries.clear();
            }
            restored.into_iter().for_each(|code| put(libraries, code));
        }
        _ => return false,
    }
    true
}

/// The name of a library: `#!lua name=this`.
fn library_name(code: &[u8]) -> Option<&[u8]> {
    let line = code.split(|byte| *byte == b'\n').next()?;
    line.split(u8::is_ascii_whitespace)
        .find_map(|word| word.strip_prefix(b"name="))
}

/// Says in the log which files were read, and how long that took.
fn tell_passed(passed: Vec<Arc<Path>>, found: &Found, began: &mut Ticks) {
    if passed.is_empty() {
        return;
    }
    let now = Ticks::now();
    let seconds = now.ns_since(*began) as f64 / 1e9;
    *began = now;
    let base = found.manifest.base.as_ref().map(|base| base.path(&found.dir));
    for path in passed {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let kind = if base.as_deref() == Some(&*path) {
            "base"
        } else {
            "incr"
        };
        tracing::info!("DB loaded from {kind} file {name}: {seconds:.3} seconds");
    }
}

fn format_error(walk: &mut Walk, what: String) -> AofError {
    let (file, offset) = walk.place();
    AofError::Format {
        file: file.to_path_buf(),
        offset,
        what,
    }
}

impl Load {
    /// Runs some of a batch.
    pub(super) fn step_commands(&self, local: &mut Local, batch: &mut Batch) -> ShardStep {
        let began = local.env.ticks_now();
        let mut reply = ReplyBuf::default();
        loop {
            for _ in 0..GROUP {
                let Some((item, args)) = batch.next() else {
                    return ShardStep::Finished;
                };
                let found = local.registry.get(item.command);
                let first = found.single_key.map(|position| (args.at(position), item.slot));
                match replay::run_here(local, found, args, first, DbIndex(item.db), &mut reply) {
                    Replayed::Ran => {}
                    Replayed::Refused(error) => self.note_refusal(found, &error),
                    Replayed::Later => return ShardStep::Unfinished,
                }
                batch.pass();
            }
            if u128::from(local.env.ticks_now().ns_since(began)) >= STEP.as_nanos() {
                return ShardStep::Unfinished;
            }
        }
    }

    /// Begins a unit of work; that it has ended is counted.
    pub(super) fn run_unit(self: &Arc<Load>, local: &mut Local, unit: Option<UnitWork>) {
        let Some(unit) = unit else { return };
        let load = self.clone();
        let then = Box::new(move || load.change(|state| state.units += 1));
        replay::run_apart(local, unit.found, unit.args, unit.db, unit.footprint, then);
    }

    /// Says in the log that a command was answered with an error, as Redis does, if not many were.
    fn note_refusal(&self, found: &Registered, error: &[u8]) {
        let mut refusals = 0;
        self.change(|state| {
            state.refusals += 1;
            refusals = state.refusals;
        });
        if refusals <= REFUSALS_NAMED_MAX {
            tracing::warn!(
                "== CRITICAL == This server is sending an error to its AOF-loading-client: '{}' after processing the command '{}'",
                error.trim_ascii().escape_ascii(),
                found.full_name
            );
        }
    }
}
