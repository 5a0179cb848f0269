//! The executor of a shard that is simulated: tasks with wakers, and timers of the simulated course.
//!
//! A task is polled only when something has woken it, and which of those is polled next is the scheduler's to say. So a
//! handler that forgets to arm its waker hangs here as it would in the server, which a poll of everything would hide.

use crate::base::clock::Ticks;
use crate::engine::local::Executor;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

type Spawned = Pin<Box<dyn Future<Output = ()>>>;

/// See the essay above.
pub(super) struct Tasks {
    tasks: RefCell<Vec<Task>>,
    timers: Rc<RefCell<Vec<Timer>>>,
    course_ns: Rc<Cell<u64>>,
}

struct Task {
    future: Spawned,
    flag: Arc<Flag>,
}

struct Timer {
    due: Ticks,
    waker: Waker,
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Tasks {
    pub(super) fn new(course_ns: Rc<Cell<u64>>) -> Tasks {
        Tasks {
            tasks: RefCell::default(),
            timers: Rc::default(),
            course_ns,
        }
    }

    /// How many tasks could go on.
    pub(super) fn ready_count(&self) -> usize {
        let tasks = self.tasks.borrow();
        tasks.iter().filter(|task| task.flag.0.load(Ordering::Relaxed)).count()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.borrow().is_empty()
    }

    /// What was under way is never gone on with.
    pub(super) fn abandon(&self) {
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        drop(tasks);
        self.timers.borrow_mut().clear();
    }

    /// Polls one of those that could go on.
    pub(super) fn poll(&self, number: usize) {
        let position = {
            let tasks = self.tasks.borrow();
            let ready = tasks
                .iter()
                .enumerate()
                .filter(|(_, task)| task.flag.0.load(Ordering::Relaxed));
            ready.map(|(position, _)| position).nth(number)
        };
        let Some(position) = position else { return };
        // Not borrowed while polling: a task may spawn another one.
        let mut task = self.tasks.borrow_mut().remove(position);
        task.flag.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(task.flag.clone());
        if task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            self.tasks.borrow_mut().push(task);
        }
    }

    /// When the next timer is due.
    pub(super) fn next_timer(&self) -> Option<Ticks> {
        self.timers.borrow().iter().map(|timer| timer.due).min()
    }

    /// Wakes the tasks whose timers are due.
    pub(super) fn fire(&self) {
        let now = Ticks(self.course_ns.get());
        self.timers.borrow_mut().retain(|timer| {
            if timer.due <= now {
                timer.waker.wake_by_ref();
            }
            timer.due > now
        });
    }
}

impl Executor for Tasks {
    fn spawn(&self, future: Spawned) {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        self.tasks.borrow_mut().push(Task { future, flag });
    }

    fn sleep(&self, duration: Duration) -> Spawned {
        let (timers, course_ns) = (self.timers.clone(), self.course_ns.clone());
        let due = Ticks(course_ns.get().saturating_add(duration.as_nanos() as u64));
        let mut is_armed = false;
        Box::pin(std::future::poll_fn(move |context| {
            if Ticks(course_ns.get()) >= due {
                return Poll::Ready(());
            }
            if !std::mem::replace(&mut is_armed, true) {
                let waker = context.waker().clone();
                timers.borrow_mut().push(Timer { due, waker });
            }
            Poll::Pending
        }))
    }

    /// When that other thread runs is the scheduler's to say, and when its shard hears that it has run: others may have seen before what it
    /// has done.
    fn run_blocking(&self, work: Box<dyn FnOnce() + Send>) -> Spawned {
        let mut work = Some(work);
        let mut is_handed_over = false;
        Box::pin(std::future::poll_fn(move |context| {
            if std::mem::replace(&mut is_handed_over, true) {
                let Some(work) = work.take() else {
                    return Poll::Ready(());
                };
                work();
            }
            context.waker().wake_by_ref();
            Poll::Pending
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_sleeps_goes_on_when_its_time_has_come() {
        let course_ns = Rc::new(Cell::new(5));
        let tasks = Rc::new(Tasks::new(course_ns.clone()));
        let has_slept = Rc::new(Cell::new(false));
        let sleep = tasks.sleep(Duration::from_nanos(10));
        let done = has_slept.clone();
        tasks.spawn(Box::pin(async move {
            sleep.await;
            done.set(true);
        }));
        assert_eq!(tasks.ready_count(), 1);
        tasks.poll(0);
        tasks.fire();
        assert_eq!((tasks.ready_count(), tasks.next_timer()), (0, Some(Ticks(15))));
        course_ns.set(15);
        tasks.fire();
        assert_eq!((tasks.ready_count(), tasks.next_timer()), (1, None));
        tasks.poll(0);
        assert!(has_slept.get() && tasks.is_empty());
    }
}
