//! What waits to be taken in by one shard: filled by threads that may wait, emptied by the shard, which may not.
//!
//! It is bounded by bytes, so that a file is read no faster than it can be taken in. What is larger than the bound goes in alone.

use super::Work;
use super::threads::{Waiting, wake};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// Bytes that wait for one shard at most.
const BYTES_MAX: usize = 1024 * 1024;

/// See above.
#[derive(Default)]
pub(super) struct Queue {
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    works: VecDeque<(usize, Work)>,
    bytes: usize,
    stage: Stage,
    taker: Option<Waker>,
    /// Who waits for room.
    putters: Waiting,
}

/// What the shard has to expect.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// There may be more.
    #[default]
    Open,
    /// There is no more than what is here.
    Closed,
    /// All shards have taken in all there was.
    Released,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds work that keeps so many bytes, as soon as there is room. False, and the work is gone, if `is_over` says that nobody wants it.
    pub(super) async fn put(&self, bytes: usize, work: Work, is_over: impl Fn() -> bool) -> bool {
        let mut work = Some(work);
        std::future::poll_fn(|context| {
            let mut inside = self.lock();
            if inside.bytes > 0 && inside.bytes + bytes > BYTES_MAX {
                if is_over() {
                    return Poll::Ready(false);
                }
                inside.putters.add(context);
                return Poll::Pending;
            }
            if let Some(work) = work.take() {
                inside.bytes += bytes;
                inside.works.push_back((bytes, work));
            }
            rouse(inside);
            Poll::Ready(true)
        })
        .await
    }

    /// Has those look again who wait for room.
    pub(super) fn rouse_putters(&self) {
        let putters = self.lock().putters.take();
        wake(putters);
    }

    pub(super) fn close(&self) {
        let mut inside = self.lock();
        inside.stage = inside.stage.max(Stage::Closed);
        rouse(inside);
    }

    /// Nothing more is wanted: what is here is dropped.
    pub(super) fn clear(&self) {
        let mut inside = self.lock();
        let works = std::mem::take(&mut inside.works);
        inside.bytes = 0;
        drop(inside);
        drop(works);
        self.rouse_putters();
    }

    pub(super) fn release(&self) {
        let mut inside = self.lock();
        inside.stage = Stage::Released;
        rouse(inside);
    }

    /// The next work; None when there will be none.
    pub(super) async fn take(&self) -> Option<Work> {
        std::future::poll_fn(|context| {
            let mut inside = self.lock();
            if let Some((bytes, work)) = inside.works.pop_front() {
                inside.bytes -= bytes;
                let putters = inside.putters.take();
                drop(inside);
                wake(putters);
                return Poll::Ready(Some(work));
            }
            if inside.stage > Stage::Open {
                return Poll::Ready(None);
            }
            inside.taker = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Waits until all shards have taken in all there was.
    pub(super) async fn released(&self) {
        std::future::poll_fn(|context| {
            let mut inside = self.lock();
            if inside.stage == Stage::Released {
                return Poll::Ready(());
            }
            inside.taker = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

fn rouse(mut inside: MutexGuard<'_, Inside>) {
    let taker = inside.taker.take();
    drop(inside);
    if let Some(taker) = taker {
        taker.wake();
    }
}
