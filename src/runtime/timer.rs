//! Timers of a shard.
//!
//! glommio looks at its own timers only when its executor runs out of runnable tasks or its preempt timer fires, and a
//! busy shard never runs out. So the shard's timers are kept here, and [`drive`](super::drive) looks at them after each
//! pass, at the price of one comparison. Unit: `Instant`, rounded to nothing.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// The waker of one sleeper; empty when it is not waiting (any more).
type Sleeper = Rc<RefCell<Option<Waker>>>;

struct Armed {
    at: Instant,
    /// Sleepers with the same time are woken in the order in which they came.
    number: u64,
    sleeper: Sleeper,
}

impl PartialEq for Armed {
    fn eq(&self, other: &Armed) -> bool {
        self.number == other.number
    }
}

impl Eq for Armed {}

impl PartialOrd for Armed {
    fn partial_cmp(&self, other: &Armed) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Armed {
    fn cmp(&self, other: &Armed) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

#[derive(Default)]
struct Timers {
    heap: BinaryHeap<Reverse<Armed>>,
    next_number: u64,
    /// How many in the heap belong to sleeps that were dropped.
    abandoned: usize,
}

thread_local! {
    static TIMERS: RefCell<Timers> = RefCell::default();
}

/// When the first timer of this thread fires.
pub(super) fn next() -> Option<Instant> {
    TIMERS.with_borrow(|timers| timers.heap.peek().map(|Reverse(armed)| armed.at))
}

/// Wakes all whose time has come.
pub(super) fn fire(now: Instant) {
    loop {
        let due = TIMERS.with_borrow_mut(|timers| {
            let first = timers.heap.peek_mut()?;
            (first.0.at <= now).then(|| std::collections::binary_heap::PeekMut::pop(first).0)
        });
        let Some(armed) = due else {
            return;
        };
        // Taken out of the cell first: a waker may run code that sleeps.
        let waker = armed.sleeper.borrow_mut().take();
        match waker {
            Some(waker) => waker.wake(),
            None => TIMERS.with_borrow_mut(|timers| {
                timers.abandoned = timers.abandoned.saturating_sub(1);
            }),
        }
    }
}

/// Waits until `duration` has passed.
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(Instant::now() + duration)
}

/// Waits until `at`.
pub fn sleep_until(at: Instant) -> Sleep {
    Sleep { at, sleeper: None }
}

/// The future of [`sleep`].
#[must_use = "futures do nothing unless awaited"]
#[derive(Debug)]
pub struct Sleep {
    at: Instant,
    sleeper: Option<Sleeper>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.at {
            return Poll::Ready(());
        }
        if let Some(sleeper) = &self.sleeper {
            *sleeper.borrow_mut() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let sleeper = Rc::new(RefCell::new(Some(cx.waker().clone())));
        self.sleeper = Some(Rc::clone(&sleeper));
        TIMERS.with_borrow_mut(|timers| {
            let number = timers.next_number;
            timers.next_number += 1;
            timers.heap.push(Reverse(Armed {
                at: self.at,
                number,
                sleeper,
            }));
        });
        Poll::Pending
    }
}

impl Drop for Sleep {
    /// Long time-outs that are mostly dropped early must not pile up: the heap is swept when half of it is dead.
    fn drop(&mut self) {
        let waits = |sleeper: &Sleeper| sleeper.borrow_mut().take().is_some();
        if !self.sleeper.as_ref().is_some_and(waits) {
            return;
        }
        TIMERS.with_borrow_mut(|timers| {
            timers.abandoned += 1;
            if timers.abandoned * 2 > timers.heap.len() {
                timers.heap.retain(|Reverse(armed)| armed.sleeper.borrow().is_some());
                timers.abandoned = 0;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::Mutex;
    use std::task::Wake;

    struct Note(u32, Arc<Mutex<Vec<u32>>>);

    impl Wake for Note {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    fn poll(sleep: &mut Sleep, name: u32, woken: &Arc<Mutex<Vec<u32>>>) -> bool {
        let waker = Arc::new(Note(name, Arc::clone(woken))).into();
        Pin::new(sleep).poll(&mut Context::from_waker(&waker)).is_ready()
    }

    #[test]
    fn wakes_in_order_of_time_and_then_of_arrival() {
        let woken = Arc::default();
        let start = Instant::now() + Duration::from_secs(1000);
        let mut sleeps: Vec<_> = [3, 1, 2, 1]
            .iter()
            .map(|s| sleep_until(start + Duration::from_secs(*s)))
            .collect();
        for (name, sleep) in sleeps.iter_mut().enumerate() {
            assert!(!poll(sleep, name as u32, &woken));
        }
        assert_eq!(next(), Some(start + Duration::from_secs(1)));
        fire(start);
        assert!(woken.lock().unwrap().is_empty());
        fire(start + Duration::from_secs(2));
        assert_eq!(*woken.lock().unwrap(), [1, 3, 2]);
        fire(start + Duration::from_secs(9));
        assert_eq!(*woken.lock().unwrap(), [1, 3, 2, 0]);
        assert_eq!(next(), None);
    }

    #[test]
    fn dropped_sleeps_leave_nothing_behind() {
        let woken = Arc::default();
        let mut kept = sleep(Duration::from_secs(1));
        assert!(!poll(&mut kept, 0, &woken));
        for _ in 0..10_000 {
            let mut dropped = sleep(Duration::from_secs(1000));
            assert!(!poll(&mut dropped, 1, &woken));
        }
        let len = TIMERS.with_borrow(|timers| timers.heap.len());
        assert!(len < 10, "{len} are left");
        fire(Instant::now() + Duration::from_secs(2000));
        assert_eq!(*woken.lock().unwrap(), [0]);
    }

    #[test]
    fn a_time_that_has_passed_needs_no_timer() {
        let mut past = sleep(Duration::ZERO);
        assert!(poll(&mut past, 0, &Arc::default()));
        assert_eq!(next(), None);
    }
}
