//! The shard's thread: a pinned executor, its tasks, and the main loop that sleeps in the right place.
//!
//! glommio runs underneath and is named nowhere above this module (the file part of persistence aside). What the layers
//! above see: [`spawn_shard`], [`drive`] with the [`Pump`] that they implement, [`spawn_local`] and [`spawn_background`],
//! [`sleep`], [`yield_now`], [`breathe`], [`outside`], and what is needed before any of it runs: [`shard_count_default`],
//! [`allowed_cpus`] and [`probe_io_uring`].
//!
//! Three kinds of work share a shard's thread:
//!
//! | work | runs |
//! |---|---|
//! | the pump: links, sockets, commands | in every pass |
//! | local tasks (commands that await) | between two passes, as soon as they are woken |
//! | background tasks (snapshots, defragmentation) | when the shard is idle; under load at most a tenth of the time |
//!
//! Files: `drive.rs` has the loop and says where an idle shard sleeps; `task.rs` knows which tasks are runnable, which
//! glommio does not tell; `timer.rs` keeps the timers, so that they are on time under load; `cpus.rs` and `probe.rs` look
//! at the host; `cpu_time.rs` says what the threads have used; `disk` is the seam for files.
//!
//! Invariants:
//! 1. No borrow of the pump is held across an await: tasks may borrow what the pump borrows.
//! 2. A task that is runnable is run before the shard sleeps.
//! 3. Whatever wakes a task, from whatever thread, ends the shard's sleep; the exception are glommio's own completions
//!    (file I/O), for which the awaiting code says [`outside`].

mod cpu_time;
mod cpus;
pub mod disk;
mod drive;
mod probe;
mod task;
mod timer;

pub use cpu_time::write_cpu_times;
pub use cpus::{allowed_cpus, shard_count_default};
pub use drive::{Activity, Pump, Rouse, drive};
#[doc(hidden)]
pub use drive::{Limits, drive_within};
pub use probe::{IoUringUnavailable, probe_io_uring};
pub use task::{Task, breathe, outside, run_blocking, spawn_background, spawn_local, yield_now};
pub use timer::{sleep, sleep_until};

use glommio::{LocalExecutorBuilder, Placement, PoolPlacement};
use std::future::Future;
use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long a glommio task may run before glommio asks it to yield. Our loop yields by its own clock; glommio 0.9 and
/// glommio-ng 0.12 can park with runnable tasks when this timer fires in the wrong moment (`drive.rs`), so it is long.
const PREEMPT_AFTER: Duration = Duration::from_millis(100);

/// The depth of glommio's rings: they carry file I/O only, the sockets have a ring of their own.
const FILE_RING_DEPTH: usize = 128;

/// Memory that glommio sets aside for direct I/O, the least it accepts: it falls back to the heap beyond that, and its
/// default of 10 MiB for each shard would exceed the usual RLIMIT_MEMLOCK of 8 MiB.
const DIRECT_IO_BYTES: usize = 64 * 1024;

/// Why a shard's thread could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    #[error("shard {index}: the thread could not be created: {source}")]
    Thread { index: usize, source: io::Error },
    #[error("shard {index}: the executor could not be set up: {reason}")]
    Executor { index: usize, reason: String },
}

/// A running shard.
#[derive(Debug)]
pub struct ShardHandle<T>(thread::JoinHandle<Option<T>>);

impl<T> ShardHandle<T> {
    /// Waits until the shard's main future has ended, and gives its result. A panic goes on in the caller.
    pub fn join(self) -> T {
        match self.0.join() {
            Ok(result) => result.expect("a handle exists only once the executor runs the main future"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// Starts shard `index` on a thread named `shard-<index>`, pinned to `cpu` if one is given, and runs `main()` there to
/// its end. Returns when the executor stands.
pub fn spawn_shard<G, F, T>(index: usize, cpu: Option<usize>, main: G) -> Result<ShardHandle<T>, SpawnError>
where
    G: FnOnce() -> F + Send + 'static,
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    spawn_with(index, cpu, PREEMPT_AFTER, main)
}

/// The same with another preempt timer: for the test that provokes glommio's lost wake-up.
#[doc(hidden)]
pub fn spawn_with<G, F, T>(
    index: usize,
    cpu: Option<usize>,
    preempt_after: Duration,
    main: G,
) -> Result<ShardHandle<T>, SpawnError>
where
    G: FnOnce() -> F + Send + 'static,
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let (ready, is_ready) = mpsc::sync_channel(1);
    let handle = thread::Builder::new()
        .name(format!("shard-{index}"))
        .spawn(move || {
            let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
            let executor = LocalExecutorBuilder::new(placement)
                .preempt_timer(preempt_after)
                .ring_depth(FILE_RING_DEPTH)
                .io_memory(DIRECT_IO_BYTES)
                .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
                .make();
            let (executor, outcome) = match executor {
                Ok(executor) => (Some(executor), Ok(())),
                Err(error) => (None, Err(error.to_string())),
            };
            // The other end waits for exactly this message.
            let _ = ready.send(outcome);
            executor.map(|executor| executor.run(async { task::within_shard(main()).await }))
        })
        .map_err(|source| SpawnError::Thread { index, source })?;
    match is_ready.recv() {
        Ok(Ok(())) => Ok(ShardHandle(handle)),
        Ok(Err(reason)) => Err(SpawnError::Executor { index, reason }),
        Err(_) => Err(SpawnError::Executor {
            index,
            reason: "the thread has ended".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The executor polls once more what is ready when the shard ends.
    #[test]
    fn tasks_that_go_on_while_a_shard_ends_do_no_harm() {
        for _ in 0..20 {
            let main = || async {
                for _ in 0..3 {
                    spawn_local(async {
                        yield_now().await;
                        run_blocking(|| ()).await;
                    })
                    .detach();
                }
            };
            let shard = spawn_shard(0, None, main).expect("it can be started");
            shard.join();
        }
    }
}
