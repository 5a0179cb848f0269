//! What the link's threads have done on the shards: errands, which the first shard takes.
//!
//! A thread leaves an errand here and, where it wants an answer, waits for it on a channel of its own. Nobody else waits: what takes longer
//! than a moment is a task of the first shard's executor.

use super::LinkError;
use crate::engine::LocalHandle;
use std::collections::VecDeque;
use std::future::Future;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

/// What is to be done, at once.
type Errand = Box<dyn FnOnce(&LocalHandle) + Send>;

/// See the essay above.
#[derive(Default)]
pub struct Errands {
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    errands: VecDeque<Errand>,
    taker: Option<Waker>,
}

impl Errands {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has that done on the first shard.
    pub(super) fn post(&self, errand: impl FnOnce(&LocalHandle) + Send + 'static) {
        let mut inside = self.lock();
        inside.errands.push_back(Box::new(errand));
        let taker = inside.taker.take();
        drop(inside);
        if let Some(taker) = taker {
            taker.wake();
        }
    }

    /// Has a task run on the first shard, and waits for what it answers; meanwhile `each` is called so often.
    pub(super) fn ask<T, F>(
        &self,
        every: Duration,
        mut each: impl FnMut(),
        errand: impl FnOnce(LocalHandle) -> F + Send + 'static,
    ) -> Result<T, LinkError>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let (sender, receiver) = channel();
        self.post(move |local| {
            let executor = local.with(|local| local.executor());
            let local = local.clone();
            executor.spawn(Box::pin(async move {
                let answer = errand(local).await;
                // Whoever asked may have gone.
                let _ = sender.send(answer);
            }));
        });
        wait(&receiver, every, || {
            each();
            Ok(())
        })
    }

    /// The first shard's part: takes errands as they come, and never ends.
    pub async fn attend(&self, local: LocalHandle) {
        loop {
            let errand = std::future::poll_fn(|context| {
                let mut inside = self.lock();
                if let Some(errand) = inside.errands.pop_front() {
                    return Poll::Ready(errand);
                }
                inside.taker = Some(context.waker().clone());
                Poll::Pending
            });
            errand.await(&local);
        }
    }
}

/// Waits for an answer; meanwhile `each` is called so often, and its error ends the wait. That the other end has gone means that the server ends.
pub(super) fn wait<T>(
    receiver: &Receiver<T>,
    every: Duration,
    mut each: impl FnMut() -> Result<(), LinkError>,
) -> Result<T, LinkError> {
    loop {
        match receiver.recv_timeout(every) {
            Ok(answer) => return Ok(answer),
            Err(RecvTimeoutError::Timeout) => each()?,
            Err(RecvTimeoutError::Disconnected) => return Err(LinkError::Over),
        }
    }
}
