//! The whole engine in one thread, driven by a seed: any number of shards with their links, clients with their sockets, clocks and
//! timers, in an order of steps that is drawn, against a sequential model.
//!
//! What lies between the loan protocol and the sockets (dispatch, EXEC, links, the memory of clients, what a pass does and when a
//! shard may sleep) has its faults where no test of one part looks: in an order of events. Here every such order can come up, comes up
//! again from its seed, and is made small before anybody has to read it. The engine is the shipped one; it stands on seams that
//! it has anyway ([`Wire`](super::wire::Wire), [`Clock`](crate::base::clock::Clock), [`Executor`](super::local::Executor), the
//! links, the observer of units).
//!
//! | file | owns |
//! |---|---|
//! | `story` | what a run is about, drawn before it begins; what a workload has to say |
//! | `roles` | what each request is to the engine, read from the literals |
//! | `engine` | the shards in one thread, and the reference |
//! | `tasks` | the executor of each shard |
//! | `sockets` | what lies between a shard and its clients' peers |
//! | `peer` | the far end of a connection |
//! | `run` | the steps |
//! | `passes` | the parts of a shard's pass |
//! | `host` | what the host does to the shards |
//! | `limits` | what clients may take of the server's memory |
//! | `rest` | what must be true at the end |
//! | `judge`, `judged` | whether what clients see is right |
//! | `times` | the times of units, and pauses |
//! | `waits` | clients that wait for keys |
//! | `ears` | clients that listen |
//! | `saves` | whether what is on the disk is what there was at a cut |
//! | `restarts` | the end of a process, and the next one, which has what is on the disk |
//! | `syncs` | what is on disk, where replies wait for that |
//! | `history` | whether the logs of all shards are one history |
//! | `reply` | where a reply ends |
//! | `fault` | what is broken on purpose, to check the checks |
//! | `shrink` | making a failing story smaller |
//!
//! It takes the registry as an argument and knows no command and no family: what to send, and how replies are judged that the
//! model cannot tell, is the [`Workload`]'s. How a process begins that finds a data set stands above the engine, and is handed in, too
//! ([`Recovery`]).
//!
//! Invariants: (1) a run depends on its seed and on nothing else: no host's time, no address, no order of a hash table; (2) whatever the
//! testbed takes for itself is charged to no shard; (3) a check that can be switched off is named as a feature is, and is never off
//! where nobody has said so.

mod ears;
mod engine;
mod fault;
mod history;
mod host;
mod judge;
mod judged;
mod limits;
mod passes;
mod peer;
mod reply;
mod rest;
mod restarts;
mod roles;
mod run;
mod saves;
mod shrink;
mod sockets;
mod story;
mod syncs;
mod tasks;
mod times;
mod waits;

pub use fault::{FAULTS, Fault};
pub use judge::Failure;
pub use story::{
    Ask, ClientStory, Death, End, FEATURES, Features, Judge, Listening, Meaning, NO_ID, PINNED, Plan, Request, Story,
    Wish, Words, Workload,
};

use super::{LocalHandle, Node, Registry};
use crate::base::clock::UnixMs;
use crate::runtime::disk::Disk;
use crate::store::HashSeed;
use run::{Manner, Outcome};
use std::cell::Cell;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// See the essay above.
pub struct Testbed<'a> {
    pub registry: &'static Registry,
    pub workload: &'a dyn Workload,
    pub recovery: &'a dyn Recovery,
    /// Features that no run has, and checks that are not made.
    pub without: Vec<String>,
}

/// What a process does about its data set when it starts.
pub trait Recovery {
    /// Looks what is on the disk of this process at this time, and begins to read it if there is anything. The error is what the process
    /// ends with.
    fn begin(&self, node: &Arc<Node>, seed: HashSeed, now: UnixMs) -> Result<Option<Reading>, String>;

    /// The files that a start would read which finds this disk; none: there is no data set.
    fn files(&self, disk: &dyn Disk) -> Result<Vec<PathBuf>, String>;
}

/// What a shard does while a data set is read.
pub type Attend = Box<dyn Fn(LocalHandle) -> Pin<Box<dyn Future<Output = ()>>>>;

/// A data set that is being read.
pub struct Reading {
    /// What threads of the process do, all in one.
    pub threads: Pin<Box<dyn Future<Output = Result<(), String>>>>,
    /// What each shard does.
    pub attend: Attend,
}

/// What a run that has not failed has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Course {
    /// Two runs with the same digest have gone the same way.
    pub digest: u64,
    /// Units of work and replies.
    pub events: u64,
}

/// Lines of the course of events that are shown of a failure.
const LINES_SHOWN: usize = 160;

impl Testbed<'_> {
    /// Runs the story of a seed.
    pub fn run(&self, seed: u64, fault: Fault) -> Result<Course, Failure> {
        let story = Story::draw(seed, self.workload, &self.without);
        let outcome = self.go(&story, Manner { fault, is_told: false });
        match outcome.failure {
            Some(failure) => Err(failure),
            None => Ok(Course {
                digest: outcome.digest,
                events: outcome.units,
            }),
        }
    }

    /// A failing seed for people: what it does, made as small as was found in this time.
    pub fn explain(&self, seed: u64, fault: Fault, time: Duration) -> String {
        let story = Story::draw(seed, self.workload, &self.without);
        let run = |story: &Story, manner: Manner| self.go(story, manner).failure;
        let Some(failure) = run(&story, Manner { fault, is_told: false }) else {
            return format!("seed {seed} does not fail");
        };
        let first = failure.clone();
        let (story, failure) = shrink::shrink(story, failure, time, &run, fault);
        let told = self.go(&story, Manner { fault, is_told: true }).told;
        let skipped = told.len().saturating_sub(LINES_SHOWN);
        format!(
            "seed {seed}: {}: {}\nmade smaller: {}: {}\n{}{}{}\n",
            first.kind,
            first.text,
            failure.kind,
            failure.text,
            story.tell(),
            if skipped > 0 {
                format!("({skipped} lines before)\n")
            } else {
                String::new()
            },
            told[skipped..].join("\n")
        )
    }

    fn go(&self, story: &Story, manner: Manner) -> Outcome {
        let was_quiet = IS_QUIET.replace(true);
        let ended = std::panic::catch_unwind(AssertUnwindSafe(|| run::run(story, self, manner)));
        IS_QUIET.set(was_quiet);
        ended.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or(panic.downcast_ref::<&str>().map(ToString::to_string));
            let place = PANIC_PLACE.take();
            Outcome {
                failure: Some(Failure::new(
                    "panic",
                    format!("{} ({place})", text.unwrap_or_else(|| "a panic".to_owned())),
                )),
                ..Outcome::default()
            }
        })
    }
}

thread_local! {
    /// A run is under way, and reports its panics itself.
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
    static PANIC_PLACE: Cell<String> = const { Cell::new(String::new()) };
}

/// For the hook of panics: takes note of one in a run, which is reported with its seed; false if it is none.
pub fn note_panic(info: &std::panic::PanicHookInfo<'_>) -> bool {
    if IS_QUIET.get() {
        PANIC_PLACE.set(info.location().map(ToString::to_string).unwrap_or_default());
    }
    IS_QUIET.get()
}
