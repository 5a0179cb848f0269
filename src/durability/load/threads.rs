//! Who does the parts of a load that may wait: threads, or in turns whoever simulates them.
//!
//! Every part (splitting a file, making what takes long, waiting for the shards) is a future that waits at the places where a thread would:
//! for room in a queue, for a job, for a delay that was asked for. So the same parts run each on a thread of its own, and all in one
//! thread, where the testbed says which of them goes on.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

/// How often a thread that waits looks again, whether it was woken or not: nobody wakes it when the process is to end.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(20);

/// A part of the work.
pub(super) type Part<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// See above.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Threads {
    /// Each part has one.
    Host,
    /// There is none: each part goes on when it is polled. A delay lasts until the next time.
    Simulated,
}

impl Threads {
    /// Does all these parts at the same time, until the last is done.
    pub(super) async fn side_by_side(self, mut parts: Vec<Part<'_>>) {
        match self {
            Threads::Host => thread::scope(|scope| {
                for part in parts {
                    scope.spawn(move || run_here(part));
                }
            }),
            Threads::Simulated => {
                std::future::poll_fn(|context| {
                    parts.retain_mut(|part| part.as_mut().poll(context).is_pending());
                    if parts.is_empty() {
                        return Poll::Ready(());
                    }
                    // Another one first the next time.
                    parts.rotate_left(1);
                    Poll::Pending
                })
                .await;
            }
        }
    }

    pub(super) async fn sleep(self, duration: Duration) {
        match self {
            Threads::Host => thread::sleep(duration),
            Threads::Simulated => crate::runtime::yield_now().await,
        }
    }

    /// Somebody else may go on here.
    pub(super) async fn breathe(self) {
        if self == Threads::Simulated {
            crate::runtime::yield_now().await;
        }
    }
}

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Does a part on this thread, which waits where the part does.
pub(super) fn run_here<F: Future>(part: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut part = std::pin::pin!(part);
    loop {
        if let Poll::Ready(output) = part.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park_timeout(LOOKED_AT_EVERY);
    }
}

/// Who waits for something that others change.
#[derive(Debug, Default)]
pub(super) struct Waiting(Vec<Waker>);

impl Waiting {
    pub(super) fn add(&mut self, context: &Context<'_>) {
        if !self.0.iter().any(|waker| waker.will_wake(context.waker())) {
            self.0.push(context.waker().clone());
        }
    }

    /// Who is to be woken, when nothing is locked any more.
    pub(super) fn take(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.0)
    }
}

pub(super) fn wake(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// The parts wait for each other in turn, so one that is never polled again keeps all of them waiting.
    #[test]
    fn parts_that_wait_for_each_other_come_to_their_end() {
        for threads in [Threads::Host, Threads::Simulated] {
            let state = Mutex::new((0, Waiting::default()));
            let turn = |mine: usize| {
                let state = &state;
                std::future::poll_fn(move |context| {
                    let mut state = state.lock().unwrap();
                    if state.0 % 3 != mine {
                        state.1.add(context);
                        return Poll::Pending;
                    }
                    state.0 += 1;
                    wake(state.1.take());
                    Poll::Ready(())
                })
            };
            let parts = (0..3).map(|mine| -> Part<'_> {
                let (first, second) = (turn(mine), turn(mine));
                Box::pin(async move {
                    first.await;
                    second.await;
                })
            });
            run_here(threads.side_by_side(parts.rev().collect()));
            assert_eq!(state.lock().unwrap().0, 6, "{threads:?}");
        }
    }
}
