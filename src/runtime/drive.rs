//! The main loop of a shard, and where it sleeps.
//!
//! Sleeping in glommio costs several times as much CPU as sleeping in the network ring, and glommio cannot know that
//! bytes have come. The network ring, in turn, cannot know that glommio's file I/O has completed. So:
//!
//! ```text
//!   busy ──────────────> pass, pass, pass ...; local tasks between them; every TURN_EVERY a turn for glommio
//!   idle ──────────────> sleep in the network ring until the next timer, at most SLICE; a turn for glommio
//!   idle, file I/O on its way (`outside`) ─> sleep in the network ring for a moment, then park in glommio
//!                                            (the bell, an eventfd, says that the network ring has something)
//! ```
//!
//! What wakes tasks: timers are our own (`timer.rs`) and wakes from other threads rouse the network ring (`task.rs`). So
//! nothing but file I/O needs glommio's rings, and a shard without file I/O never parks in glommio.
//!
//! glommio's lost wake-up: `run_task_queues` (0.9, and glommio-ng 0.12) answers "nothing ran" when the preempt timer had
//! fired before it ran anything, and the executor then parks although tasks are runnable, this loop among them. Three
//! things keep it harmless: the preempt timer is long; this loop hardly ever lets the executor park; and glommio timers
//! are always armed (`Heartbeat`). One timer is not enough, because the task that it wakes may be the one that is runnable
//! and does not run, and then nothing is armed any more; so there are three, each ten times as long as the one before, and
//! all of them would have to be lost in the same moment. `tests/lost_wakeup.rs` provokes it: with one timer it found the hole.

use super::task::TaskWatch;
use super::timer;
use glommio::io::PollableFd;
use nix::sys::eventfd::EventFd;
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// Ends the sleep of a shard in its network ring, from any thread.
pub type Rouse = Box<dyn Fn() + Send + Sync>;

/// What one turn of a shard's loop did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Nothing was there to do.
    Idle,
    /// Something was done; come again at once.
    Busy,
    /// `drive` returns.
    Stop,
}

/// What a shard does in its main loop: the server implements it, [`drive`] calls it. No call is held across an await,
/// so an implementation may borrow from `RefCell`s that tasks borrow too, as long as it lets go before it returns.
pub trait Pump {
    /// One turn: submit, sleep in the network ring for at most `wait` (zero: not at all), reap, run, queue the output.
    fn pass(&mut self, wait: Duration) -> Activity;
    /// When this shard must be awake at the latest.
    fn next_deadline(&self) -> Option<Instant>;
    /// Sets the flag "I sleep" for the other shards, then looks at the inboxes once more; `false`: do not sleep.
    fn announce_sleep(&mut self) -> bool;
    /// Takes the flag back.
    fn awake(&mut self);
    /// What ends a sleep in the network ring from any thread (`WakeHandle::wake`).
    fn rouse(&self) -> Rouse;
    /// A duplicate of the network plane's bell (eventfd, blocking mode).
    fn bell(&self) -> io::Result<OwnedFd>;
    /// Turns the bell on or off; on: `false` says that something is waiting already.
    fn set_bell(&mut self, on: bool) -> bool;
}

/// The longest sleep in the network ring. Ends by itself only for what nobody announced (a file operation that was
/// awaited without `outside`).
const SLICE: Duration = Duration::from_millis(100);
/// The same while file I/O is on its way: shorter than a disk needs, longer than a client's next request takes.
const OUTSIDE_SLICE: Duration = Duration::from_micros(100);
/// The longest park in glommio; like `SLICE`, for what nobody announced.
const PARK_AT_MOST: Duration = Duration::from_millis(1000);
/// The shortest of the timers that are always armed in glommio. An idle shard that is parked in glommio used 0.7 % of a core
/// with timers of 10 ms, 0.4 % with 25 ms, 0.3 % with 50 ms; asleep in its own ring for 100 ms at a time, 0.06 to 0.1 %.
/// (One run of 5 to 20 s each, on a busy two-core machine: good for the order, not for the digits.)
const HEARTBEAT: Duration = Duration::from_millis(50);
/// How often a busy shard looks at glommio's rings, when file I/O is on its way and when not.
const OUTSIDE_TURN_EVERY: Duration = Duration::from_micros(500);
const TURN_EVERY: Duration = Duration::from_millis(20);
/// Under load, background work gets one part in this many.
const BACKGROUND_PART: u32 = 10;

/// Runs a shard until its pump says [`Activity::Stop`]. The caller is the main future of `spawn_shard`.
pub async fn drive<P: Pump>(pump: P) -> io::Result<()> {
    drive_within(pump, Limits::default()).await
}

/// How long the loop sleeps at most. Tests that look for lost wake-ups raise both: what is lost then stays lost.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// In the network ring.
    pub slice: Duration,
    /// In the executor.
    pub park: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            slice: SLICE,
            park: PARK_AT_MOST,
        }
    }
}

/// [`drive`] with other limits.
#[doc(hidden)]
pub async fn drive_within<P: Pump>(mut pump: P, limits: Limits) -> io::Result<()> {
    let watch = TaskWatch::new(pump.rouse());
    let bell = BellWatch::start(pump.bell()?)?;
    // Always readable.
    let turn = PollableFd::new(EventFd::from_value(1)?)?;
    let _heartbeat = Heartbeat::start();
    let mut last_turn = Instant::now();
    let mut background_after = last_turn;
    loop {
        let mut activity = pump.pass(Duration::ZERO);
        let mut now = Instant::now();
        if activity == Activity::Idle && !watch.is_any_ready() {
            let slice = if watch.waits_outside() {
                OUTSIDE_SLICE
            } else {
                limits.slice
            };
            let wait = until_deadline(&pump, now).min(slice);
            if !wait.is_zero() && pump.announce_sleep() {
                activity = pump.pass(wait);
                pump.awake();
                now = Instant::now();
            }
        }
        if activity == Activity::Stop {
            return Ok(());
        }
        timer::fire(now);
        watch.take_mail();
        if watch.background_ready() && (activity == Activity::Idle || now >= background_after) {
            watch.release_background();
            glommio::executor().yield_now().await;
            background_after = Instant::now() + now.elapsed() * (BACKGROUND_PART - 1);
        } else if watch.local_ready() {
            glommio::executor().yield_now().await;
        }
        let waits_outside = watch.waits_outside();
        if activity == Activity::Idle && waits_outside && !watch.is_any_ready() {
            park(&mut pump, limits.park, &watch, &bell).await;
            last_turn = Instant::now();
        }
        let turn_every = if waits_outside { OUTSIDE_TURN_EVERY } else { TURN_EVERY };
        if now.duration_since(last_turn) >= turn_every && !watch.local_ready() {
            // The executor looks at its rings when it has nothing to run: wait for something that they report at once. Beside a task that
            // goes on and on that would take until it is preempted, and nobody would be served meanwhile; then it looks by itself.
            turn.readable().await?;
            last_turn = Instant::now();
        }
    }
}

/// How long until the pump or a timer must have its turn.
fn until_deadline<P: Pump>(pump: &P, now: Instant) -> Duration {
    let deadline = match (pump.next_deadline(), timer::next()) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(now))
}

/// Sleeps in glommio until the bell rings, a task stirs, or a timer is due.
async fn park<P: Pump>(pump: &mut P, limit: Duration, watch: &TaskWatch, bell: &BellWatch) {
    let wait = until_deadline(pump, Instant::now()).min(limit);
    if wait.is_zero() || !pump.announce_sleep() {
        return;
    }
    if pump.set_bell(true) {
        let polls = watch.polls();
        let stirred = poll_fn(|cx| {
            if watch.polls() != polls || watch.is_any_ready() || bell.take_ring() {
                return Poll::Ready(());
            }
            watch.watch(cx.waker());
            bell.watch(cx.waker());
            Poll::Pending
        });
        futures_lite::future::or(stirred, async {
            glommio::timer::sleep(wait).await;
        })
        .await;
    }
    pump.set_bell(false);
    pump.awake();
}

/// glommio timers that are always armed, for the case of a lost wake-up.
struct Heartbeat {
    _tasks: [glommio::Task<()>; 3],
}

impl Heartbeat {
    fn start() -> Heartbeat {
        let beats = [HEARTBEAT, HEARTBEAT * 10, HEARTBEAT * 100];
        Heartbeat {
            _tasks: beats.map(|period| {
                glommio::spawn_local(async move {
                    loop {
                        glommio::timer::sleep(period).await;
                    }
                })
            }),
        }
    }
}

/// Reads the bell through glommio, for ever, and remembers that it rang.
struct BellWatch {
    state: Rc<BellState>,
    _reader: glommio::Task<()>,
}

#[derive(Default)]
struct BellState {
    rang: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl BellWatch {
    fn start(bell: OwnedFd) -> io::Result<BellWatch> {
        let bell = PollableFd::new(bell)?;
        let state = Rc::new(BellState::default());
        let reader = glommio::spawn_local({
            let state = Rc::clone(&state);
            async move {
                while bell.readable().await.is_ok() {
                    // Takes the count back, so that the next wait waits; readable, so it does not block.
                    let _ = nix::unistd::read(bell.get_ref(), &mut [0; 8]);
                    state.rang.set(true);
                    if let Some(waker) = state.waker.take() {
                        waker.wake();
                    }
                }
            }
        });
        Ok(BellWatch { state, _reader: reader })
    }

    fn take_ring(&self) -> bool {
        self.state.rang.replace(false)
    }

    fn watch(&self, waker: &Waker) {
        self.state.waker.set(Some(waker.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{
        ShardHandle, breathe, outside, run_blocking, sleep, sleep_until, spawn_background, spawn_local, spawn_shard,
    };
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::cell::RefCell;
    use std::os::fd::{AsFd, BorrowedFd};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::task::Context;

    /// A pump without a network: an eventfd stands for the ring, and the bell rings through a second one.
    struct Fake {
        ring: Arc<EventFd>,
        bell: Arc<EventFd>,
        bell_is_on: Arc<AtomicBool>,
        log: Rc<RefCell<Vec<&'static str>>>,
        /// Passes that find work, before the pump is idle.
        busy_passes: usize,
        stop: Rc<Cell<bool>>,
    }

    impl Fake {
        fn new() -> Fake {
            Fake {
                ring: Arc::new(EventFd::new().unwrap()),
                bell: Arc::new(EventFd::new().unwrap()),
                bell_is_on: Arc::default(),
                log: Rc::default(),
                busy_passes: 0,
                stop: Rc::default(),
            }
        }

        fn is_ringing(&self, wait: Duration) -> bool {
            let mut fds = [PollFd::new(self.ring.as_fd(), PollFlags::POLLIN)];
            // Rounded up: rounded down, the last millisecond before a deadline would be spent spinning.
            let wait = PollTimeout::try_from(wait.as_micros().div_ceil(1000).min(60_000)).unwrap();
            poll(&mut fds, wait).unwrap() > 0
        }
    }

    impl Pump for Fake {
        fn pass(&mut self, wait: Duration) -> Activity {
            if self.stop.get() {
                return Activity::Stop;
            }
            if self.busy_passes > 0 {
                self.busy_passes -= 1;
                return Activity::Busy;
            }
            self.log
                .borrow_mut()
                .push(if wait.is_zero() { "pass" } else { "sleep" });
            if !self.is_ringing(wait) {
                return Activity::Idle;
            }
            self.ring.read().unwrap();
            Activity::Busy
        }

        fn next_deadline(&self) -> Option<Instant> {
            None
        }

        fn announce_sleep(&mut self) -> bool {
            true
        }

        fn awake(&mut self) {}

        fn rouse(&self) -> Rouse {
            let (ring, bell) = (Arc::clone(&self.ring), Arc::clone(&self.bell));
            let bell_is_on = Arc::clone(&self.bell_is_on);
            Box::new(move || {
                ring.write(1).unwrap();
                if bell_is_on.load(Ordering::SeqCst) {
                    bell.write(1).unwrap();
                }
            })
        }

        fn bell(&self) -> io::Result<OwnedFd> {
            let bell: BorrowedFd<'_> = self.bell.as_fd();
            bell.try_clone_to_owned()
        }

        fn set_bell(&mut self, on: bool) -> bool {
            self.bell_is_on.store(on, Ordering::SeqCst);
            !self.is_ringing(Duration::ZERO)
        }
    }

    /// Runs `body` as a local task of a driven shard, to its end.
    fn on_a_shard<F: Future<Output = ()> + 'static>(
        busy_passes: usize,
        body: impl FnOnce(Rc<RefCell<Vec<&'static str>>>) -> F + Send + 'static,
    ) {
        let shard: ShardHandle<()> = spawn_shard(0, None, move || async move {
            let mut pump = Fake::new();
            pump.busy_passes = busy_passes;
            let (log, stop) = (Rc::clone(&pump.log), Rc::clone(&pump.stop));
            spawn_local(async move {
                body(log).await;
                stop.set(true);
            })
            .detach();
            drive(pump).await.unwrap();
        })
        .unwrap();
        shard.join();
    }

    #[test]
    fn the_thread_is_named_after_the_shard() {
        let shard = spawn_shard(7, None, || async { std::thread::current().name().map(str::to_owned) });
        assert_eq!(shard.unwrap().join().as_deref(), Some("shard-7"));
    }

    #[test]
    fn a_shard_runs_on_the_processor_it_was_given() {
        let cpu = *crate::runtime::allowed_cpus().last().unwrap();
        let shard = spawn_shard(0, Some(cpu), || async { crate::runtime::allowed_cpus() });
        assert_eq!(shard.unwrap().join(), [cpu]);
    }

    #[test]
    fn what_blocks_lets_the_shards_run_first() {
        on_a_shard(0, |_| async move {
            let niceness = || rustix::process::nice(0).unwrap();
            let of_the_shard = niceness();
            for _ in 0..3 {
                assert_eq!(run_blocking(niceness).await, (of_the_shard + 5).min(19));
            }
            assert_eq!(niceness(), of_the_shard);
        });
    }

    #[test]
    fn a_task_that_is_runnable_runs_before_the_shard_sleeps() {
        on_a_shard(0, |log| async move {
            log.borrow_mut().clear();
            for _ in 0..100 {
                spawn_local(async {}).await;
                crate::runtime::yield_now().await;
            }
            assert!(!log.borrow().contains(&"sleep"), "{:?}", log.borrow());
        });
    }

    #[test]
    fn a_task_that_goes_on_and_on_keeps_the_loop_from_nothing() {
        on_a_shard(0, |log| async move {
            let begun = Instant::now();
            // Longer than the executor lets a task run before it looks at its rings.
            while begun.elapsed() < Duration::from_millis(300) {
                log.borrow_mut().clear();
                for _ in 0..10 {
                    crate::runtime::yield_now().await;
                }
                let passes = log.borrow().len();
                assert!(passes >= 5, "{passes} passes while a task ran ten times");
            }
        });
    }

    #[test]
    fn timers_fire_in_order_idle_and_busy() {
        for busy_passes in [0, 100_000_000] {
            on_a_shard(busy_passes, |_| async {
                let order = Rc::new(RefCell::new(Vec::new()));
                let start = Instant::now();
                let tasks: Vec<_> = [300, 100, 200]
                    .into_iter()
                    .map(|ms| {
                        let order = Rc::clone(&order);
                        spawn_local(async move {
                            sleep_until(start + Duration::from_millis(ms)).await;
                            order.borrow_mut().push(ms);
                        })
                    })
                    .collect();
                for task in tasks {
                    task.await;
                }
                assert_eq!(*order.borrow(), [100, 200, 300]);
            });
        }
    }

    #[test]
    fn other_threads_wake_tasks_wherever_the_shard_sleeps() {
        for is_parking in [false, true] {
            on_a_shard(0, move |_| async move {
                let waits_outside = is_parking.then(|| spawn_local(outside(std::future::pending::<()>())));
                let (to_thread, from_shard) = std::sync::mpsc::channel::<Waker>();
                let count = Arc::new(AtomicUsize::new(0));
                let thread = std::thread::spawn({
                    let count = Arc::clone(&count);
                    move || {
                        for waker in from_shard {
                            count.fetch_add(1, Ordering::SeqCst);
                            waker.wake();
                        }
                    }
                });
                for round in 0..300 {
                    let mut is_sent = false;
                    poll_fn(|cx: &mut Context<'_>| {
                        if count.load(Ordering::SeqCst) > round {
                            return Poll::Ready(());
                        }
                        if !std::mem::replace(&mut is_sent, true) {
                            to_thread.send(cx.waker().clone()).unwrap();
                        }
                        Poll::Pending
                    })
                    .await;
                }
                drop(to_thread);
                thread.join().unwrap();
                drop(waits_outside);
            });
        }
    }

    #[test]
    fn background_work_gets_on_under_load_but_not_all_the_time() {
        on_a_shard(usize::MAX, |_| async {
            let slices = Rc::new(Cell::new(0));
            let background = spawn_background({
                let slices = Rc::clone(&slices);
                async move {
                    for _ in 0..20 {
                        let start = Instant::now();
                        while start.elapsed() < Duration::from_millis(1) {}
                        breathe().await;
                        slices.set(slices.get() + 1);
                    }
                }
            });
            let start = Instant::now();
            background.await;
            assert_eq!(slices.get(), 20);
            // 20 slices of 1 ms, each followed by nine times as long without.
            assert!(start.elapsed() > Duration::from_millis(150));
        });
    }

    #[test]
    fn background_work_does_not_hold_up_local_tasks() {
        on_a_shard(0, |_| async {
            let background = spawn_background(async {
                loop {
                    std::hint::spin_loop();
                    breathe().await;
                }
            });
            for _ in 0..100 {
                sleep(Duration::from_micros(100)).await;
                spawn_local(async {}).await;
            }
            background.cancel().await;
        });
    }

    #[test]
    fn blocking_work_comes_back() {
        on_a_shard(0, |_| async {
            for round in 0..100 {
                assert_eq!(run_blocking(move || round + 1).await, round + 1);
            }
        });
    }

    #[test]
    fn tasks_go_on_after_the_loop_has_stopped() {
        let shard = spawn_shard(0, None, || async {
            let pump = Fake::new();
            pump.stop.set(true);
            let early = spawn_background(async { 1 });
            drive(pump).await.unwrap();
            let late = spawn_background(async { 2 });
            (early.await, late.await)
        });
        assert_eq!(shard.unwrap().join(), (1, 2));
    }

    #[test]
    fn cancelled_tasks_leave_no_count_behind() {
        on_a_shard(0, |log| async move {
            for _ in 0..100 {
                drop(spawn_local(async {}));
                drop(spawn_local(std::future::pending::<()>()));
                drop(spawn_background(std::future::pending::<()>()));
            }
            // A count left behind would keep the loop from ever sleeping. How soon it sleeps is the machine's affair.
            for _ in 0..100 {
                log.borrow_mut().clear();
                sleep(Duration::from_millis(50)).await;
                let log = log.borrow();
                if log.contains(&"sleep") && log.len() < 100 {
                    return;
                }
            }
            panic!("the loop does not come to rest");
        });
    }
}
