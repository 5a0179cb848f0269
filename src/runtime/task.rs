//! Tasks, and who of them is runnable.
//!
//! glommio schedules the tasks but does not tell whether any is waiting to run, and the main loop must know before it
//! goes to sleep. So each future that is spawned here is polled with a waker of ours:
//!
//! ```text
//!   wake, on the shard's thread:  local task ──────> counted, and scheduled by glommio
//!                                 background task ─> queued; the loop releases one when it has time
//!   wake, from another thread:    into the inbox, and rouse the shard, which may sleep in the network ring;
//!                                 the loop goes on as above
//! ```
//!
//! (glommio has task queues with shares, but chooses between them only when its preempt timer fires, which must be rare
//! here, see `drive.rs`. And its own path for wakes from other threads is looked at only when the executor has nothing
//! to run.)
//!
//! Invariants:
//! 1. `is_woken` of a task is true from a wake until the poll that follows: one wake, one poll.
//! 2. `local_ready` counts the local tasks that glommio has in its queue.
//! 3. While a shard is driven, glommio's own wakers are used on the shard's thread only.

use super::drive::Rouse;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// How long a background task should run before it lets others run: what a request that arrives meanwhile waits.
const BACKGROUND_SLICE: Duration = Duration::from_micros(500);

/// How much nicer than the shards the threads are that block or compute beside them. A shard that wakes then runs at once; beside an equal
/// that never sleeps it would wait until the kernel next looks at who has run for how long, some four milliseconds now and then. Where shards
/// use all processors a quarter of one is left for such a thread.
const BESIDE_NICENESS: i32 = 5;

/// The part of a shard that other threads reach.
#[derive(Default)]
struct Shard {
    has_mail: AtomicBool,
    inbox: Mutex<Inbox>,
}

#[derive(Default)]
struct Inbox {
    woken: Vec<Arc<TaskWaker>>,
    /// Ends a sleep in the network ring; there while the shard is driven.
    rouse: Option<Rouse>,
}

impl Shard {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox
            .lock()
            .expect("nothing that could panic runs under this lock")
    }
}

/// What only the shard's own thread touches.
struct Here {
    shard: Arc<Shard>,
    is_driven: Cell<bool>,
    local_ready: Cell<usize>,
    background_ready: RefCell<VecDeque<Arc<TaskWaker>>>,
    /// The main loop, while it is parked.
    watcher: RefCell<Option<Waker>>,
    /// How often a task was polled.
    polls: Cell<u64>,
    /// How many futures wait for glommio's rings.
    outside: Cell<usize>,
    slice_start: Cell<Instant>,
}

thread_local! {
    static HERE: RefCell<Option<Rc<Here>>> = const { RefCell::new(None) };
}

fn here() -> Rc<Here> {
    HERE.with_borrow(|here| {
        here.clone()
            .expect("called on a thread that was started by spawn_shard")
    })
}

impl Here {
    fn wake_watcher(&self) {
        let watcher = self.watcher.borrow_mut().take();
        if let Some(watcher) = watcher {
            watcher.wake();
        }
    }
}

/// Runs a shard's main future with the thread's task state around it.
pub(super) async fn within_shard<F: Future>(main: F) -> F::Output {
    HERE.set(Some(Rc::new(Here {
        shard: Arc::default(),
        is_driven: Cell::new(false),
        local_ready: Cell::new(0),
        background_ready: RefCell::default(),
        watcher: RefCell::default(),
        polls: Cell::new(0),
        outside: Cell::new(0),
        slice_start: Cell::new(Instant::now()),
    })));
    // The state stays when this has ended: the executor goes on with tasks that are ready until it is dropped, and they find what they need.
    main.await
}

/// The main loop's view of the tasks. While it lives, the shard counts as driven.
pub(super) struct TaskWatch(Rc<Here>);

impl TaskWatch {
    /// For the shard that runs on this thread. `rouse` ends its sleep in the network ring, from any thread.
    pub(super) fn new(rouse: Rouse) -> TaskWatch {
        let here = here();
        assert!(!here.is_driven.replace(true), "a shard is driven by one loop");
        here.shard.inbox().rouse = Some(rouse);
        TaskWatch(here)
    }

    /// Takes in what other threads have woken.
    pub(super) fn take_mail(&self) {
        let shard = &self.0.shard;
        if shard.has_mail.swap(false, Ordering::AcqRel) {
            let woken = std::mem::take(&mut shard.inbox().woken);
            for task in woken {
                task.schedule(&self.0);
            }
        }
    }

    pub(super) fn is_any_ready(&self) -> bool {
        self.local_ready() || self.background_ready() || self.0.shard.has_mail.load(Ordering::Acquire)
    }

    pub(super) fn local_ready(&self) -> bool {
        self.0.local_ready.get() > 0
    }

    pub(super) fn background_ready(&self) -> bool {
        !self.0.background_ready.borrow().is_empty()
    }

    /// Lets glommio run the next background task, once, as soon as the loop yields.
    pub(super) fn release_background(&self) {
        let next = self.0.background_ready.borrow_mut().pop_front();
        if let Some(task) = next {
            task.wake_inner();
        }
    }

    /// Whether somebody awaits a completion that only glommio's rings report.
    pub(super) fn waits_outside(&self) -> bool {
        self.0.outside.get() > 0
    }

    /// How many polls of tasks there have been.
    pub(super) fn polls(&self) -> u64 {
        self.0.polls.get()
    }

    /// `waker` is woken when a task has been polled or has become ready.
    pub(super) fn watch(&self, waker: &Waker) {
        *self.0.watcher.borrow_mut() = Some(waker.clone());
    }
}

impl Drop for TaskWatch {
    /// From here on glommio schedules everything by itself again.
    fn drop(&mut self) {
        self.0.is_driven.set(false);
        self.0.shard.inbox().rouse = None;
        self.0.shard.has_mail.store(true, Ordering::Release);
        self.take_mail();
        while self.background_ready() {
            self.release_background();
        }
    }
}

/// One task's waker.
struct TaskWaker {
    shard: Arc<Shard>,
    is_background: bool,
    is_woken: AtomicBool,
    /// Whether `local_ready` counts it; touched by the shard's thread only.
    is_counted: AtomicBool,
    /// glommio's waker; gone when the task is.
    inner: Mutex<Option<Waker>>,
}

impl TaskWaker {
    fn inner(&self) -> MutexGuard<'_, Option<Waker>> {
        self.inner
            .lock()
            .expect("nothing that could panic runs under this lock")
    }

    fn wake_inner(&self) {
        let inner = self.inner().clone();
        if let Some(inner) = inner {
            inner.wake();
        }
    }

    /// A wake, on the shard's thread.
    fn schedule(self: &Arc<Self>, here: &Here) {
        if self.is_background && here.is_driven.get() {
            here.background_ready.borrow_mut().push_back(Arc::clone(self));
            here.wake_watcher();
            return;
        }
        self.count(here);
        self.wake_inner();
    }

    fn count(&self, here: &Here) {
        if !self.is_background && !self.is_counted.swap(true, Ordering::Relaxed) {
            here.local_ready.set(here.local_ready.get() + 1);
        }
    }

    fn discount(&self, here: &Here) {
        if self.is_counted.swap(false, Ordering::Relaxed) {
            here.local_ready.set(here.local_ready.get() - 1);
        }
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_woken.swap(true, Ordering::AcqRel) {
            return;
        }
        let own_thread = HERE.with_borrow(|here| {
            here.as_ref()
                .filter(|here| Arc::ptr_eq(&here.shard, &self.shard))
                .cloned()
        });
        if let Some(here) = own_thread {
            self.schedule(&here);
            return;
        }
        let mut inbox = self.shard.inbox();
        match &inbox.rouse {
            Some(rouse) => {
                // One rouse is enough for all that is in the inbox.
                if !self.shard.has_mail.swap(true, Ordering::AcqRel) {
                    rouse();
                }
                inbox.woken.push(Arc::clone(self));
            }
            None => {
                drop(inbox);
                self.wake_inner();
            }
        }
    }
}

/// A future whose wakes are counted.
struct Counted<F> {
    future: Pin<Box<F>>,
    waker: Arc<TaskWaker>,
    here: Rc<Here>,
    is_started: bool,
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        {
            let mut inner = this.waker.inner();
            match &mut *inner {
                Some(known) if known.will_wake(cx.waker()) => {}
                other => *other = Some(cx.waker().clone()),
            }
        }
        if !std::mem::replace(&mut this.is_started, true) && this.waker.is_background && this.here.is_driven.get() {
            // glommio runs a new task at once; this one waits for its turn as all others.
            this.waker.schedule(&this.here);
            return Poll::Pending;
        }
        // Before the poll: a wake during it must count again.
        this.waker.discount(&this.here);
        this.waker.is_woken.store(false, Ordering::Release);
        if this.waker.is_background {
            this.here.slice_start.set(Instant::now());
        }
        let waker = Waker::from(Arc::clone(&this.waker));
        let poll = this.future.as_mut().poll(&mut Context::from_waker(&waker));
        this.here.polls.set(this.here.polls.get() + 1);
        this.here.wake_watcher();
        poll
    }
}

impl<F> Drop for Counted<F> {
    fn drop(&mut self) {
        self.waker.discount(&self.here);
        // Late wakes go nowhere, and never again.
        self.waker.is_woken.store(true, Ordering::Release);
        let inner = self.waker.inner().take();
        drop(inner);
    }
}

fn counted<F: Future>(future: F, is_background: bool) -> Counted<F> {
    let here = here();
    let waker = Arc::new(TaskWaker {
        shard: Arc::clone(&here.shard),
        is_background,
        is_woken: AtomicBool::new(true),
        is_counted: AtomicBool::new(false),
        inner: Mutex::new(None),
    });
    waker.count(&here);
    Counted {
        future: Box::pin(future),
        waker,
        here,
        is_started: false,
    }
}

/// A spawned task. Dropping it cancels the task; `detach` lets it run on.
#[must_use = "a task is cancelled when it is dropped; detach it to let it run"]
#[derive(Debug)]
pub struct Task<T>(glommio::Task<T>);

impl<T> Task<T> {
    /// Lets it run to its end, unobserved.
    pub fn detach(self) {
        self.0.detach();
    }

    /// Cancels it and waits until it is gone; its result, if it had one already.
    pub async fn cancel(self) -> Option<T> {
        self.0.cancel().await
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(cx)
    }
}

/// Runs a future on this shard; it first runs right after the current pass.
pub fn spawn_local<T: 'static>(future: impl Future<Output = T> + 'static) -> Task<T> {
    Task(glommio::spawn_local(counted(future, false)))
}

/// Runs a future on this shard, when there is nothing better to do. It should call [`breathe`] often.
pub fn spawn_background<T: 'static>(future: impl Future<Output = T> + 'static) -> Task<T> {
    Task(glommio::spawn_local(counted(future, true)))
}

/// Lets the other tasks and the main loop run.
pub async fn yield_now() {
    futures_lite::future::yield_now().await;
}

/// The same, but only when the background task has used up its slice (500 µs): cheap enough for inner loops.
pub async fn breathe() {
    if here().slice_start.get().elapsed() >= BACKGROUND_SLICE {
        yield_now().await;
    }
}

/// Awaits something that only glommio's own rings complete (file I/O). While such a future is alive, an idle shard
/// parks where those completions wake it, and a busy one looks for them often.
pub async fn outside<F: Future>(future: F) -> F::Output {
    struct Waiting(Rc<Here>);
    impl Drop for Waiting {
        fn drop(&mut self) {
            self.0.outside.set(self.0.outside.get() - 1);
        }
    }
    let here = here();
    here.outside.set(here.outside.get() + 1);
    let _waiting = Waiting(here);
    future.await
}

/// Runs a closure that blocks or computes for long (a name look-up, a part of a snapshot) on a thread of its own.
pub async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let work = move || {
        step_back();
        work()
    };
    outside(glommio::executor().spawn_blocking(work)).await
}

/// Lets the shards run before this thread, from now on: without privileges there is no way back.
fn step_back() {
    thread_local! {
        static IS_BACK: Cell<bool> = const { Cell::new(false) };
    }
    if !IS_BACK.replace(true) {
        // Of the thread, though POSIX says of the process. Nothing but speed depends on it.
        let _ = rustix::process::nice(BESIDE_NICENESS);
    }
}
