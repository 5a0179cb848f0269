//! Looks for lost wake-ups: a shard that sleeps although something of it is runnable.
//!
//! The executor underneath can park with runnable tasks when its preempt timer fires in the wrong moment; here that timer
//! is five hundred times as short as in the server, so that the moment comes often. Timers, wake-ups from another thread,
//! bytes from a socket and work for the blocking pool go on at once, over thousands of sleeps, with the shard sleeping
//! in the network ring and, in turn, in the executor. The bounds that the loop puts on its sleeps are lifted, so that
//! whatever is lost stops one of them for good, and a watchdog sees it. (What stays are the executor's timers, the
//! remedy for the executor's own fault. With one instead of the three, this test failed about every other time.)

use shardis::net::{Event, ListenSocket, Output, PeerAddr, Plane, TcpOptions, UringOptions, UringPlane, Wait};
use shardis::runtime::{self, Activity, Pump, Rouse};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// How long one kind of work may stand still. A lost wake-up stands for ever; a busy host does not stall this long.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often each kind of work goes to sleep.
const ROUNDS: usize = 3000;

/// Echoes; counts its sleeps.
struct Echo {
    plane: UringPlane,
    events: Vec<Event>,
    sleeps: Rc<Cell<usize>>,
    stop: Rc<Cell<bool>>,
}

impl Pump for Echo {
    fn pass(&mut self, wait: Duration) -> Activity {
        if self.stop.get() {
            return Activity::Stop;
        }
        let wait = match wait.is_zero() {
            true => Wait::No,
            false => Wait::Until(wait),
        };
        self.plane.poll(wait, &mut self.events).unwrap();
        let is_idle = self.events.is_empty();
        for event in self.events.drain(..) {
            match event {
                Event::Accepted { conn, .. } => self.plane.start(conn),
                Event::Received { conn, buffer } => {
                    let mut bytes = buffer.bytes().to_vec();
                    self.plane.give_back(buffer);
                    let out = Output {
                        bytes: &mut bytes,
                        shared: &mut Vec::new(),
                    };
                    let _ = self.plane.send(conn, out);
                }
                Event::PeerClosed { conn, .. } => self.plane.close_now(conn),
                _ => {}
            }
        }
        match is_idle {
            true => Activity::Idle,
            false => Activity::Busy,
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    fn announce_sleep(&mut self) -> bool {
        self.sleeps.set(self.sleeps.get() + 1);
        true
    }

    fn awake(&mut self) {}

    fn rouse(&self) -> Rouse {
        let wake = self.plane.wake_handle();
        Box::new(move || wake.wake())
    }

    fn bell(&self) -> std::io::Result<OwnedFd> {
        self.plane.bell().try_clone_to_owned()
    }

    fn set_bell(&mut self, on: bool) -> bool {
        self.plane.set_bell(on).unwrap()
    }
}

/// How far each kind of work has got.
#[derive(Default)]
struct Progress {
    timers: AtomicUsize,
    threads: AtomicUsize,
    blocking: AtomicUsize,
    sockets: AtomicUsize,
}

impl Progress {
    fn all(&self) -> [usize; 4] {
        [&self.timers, &self.threads, &self.blocking, &self.sockets].map(|count| count.load(Ordering::SeqCst))
    }
}

async fn timers(progress: Arc<Progress>) {
    for round in 0..ROUNDS {
        // 0 to 1.5 ms, on both sides of the preempt timer.
        runtime::sleep(Duration::from_micros((round as u64 * 37) % 1500)).await;
        progress.timers.fetch_add(1, Ordering::SeqCst);
    }
}

/// Is woken by another thread after a short while, again and again.
async fn threads(progress: Arc<Progress>) {
    let (to_thread, from_shard) = mpsc::channel::<(usize, Waker)>();
    let count = Arc::new(AtomicUsize::new(0));
    let thread = std::thread::spawn({
        let count = Arc::clone(&count);
        move || {
            for (round, waker) in from_shard {
                if round % 2 == 0 {
                    std::thread::sleep(Duration::from_micros((round as u64 * 53) % 700));
                }
                count.fetch_add(1, Ordering::SeqCst);
                waker.wake();
            }
        }
    });
    for round in 0..ROUNDS {
        let mut is_sent = false;
        poll_fn(|cx| {
            if count.load(Ordering::SeqCst) > round {
                return Poll::Ready(());
            }
            if !std::mem::replace(&mut is_sent, true) {
                to_thread.send((round, cx.waker().clone())).unwrap();
            }
            Poll::Pending
        })
        .await;
        progress.threads.fetch_add(1, Ordering::SeqCst);
    }
    drop(to_thread);
    thread.join().unwrap();
}

/// Completions that only the executor's own rings report; the shard parks there meanwhile.
async fn blocking(progress: Arc<Progress>) {
    for round in 0..ROUNDS / 10 {
        runtime::run_blocking(move || {
            std::thread::sleep(Duration::from_micros((round as u64 * 71) % 2000));
        })
        .await;
        progress.blocking.fetch_add(10, Ordering::SeqCst);
        if round % 50 == 0 {
            // For a while nothing waits there, and the shard sleeps in the network ring.
            runtime::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn client(address: SocketAddr, progress: &Progress) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    for round in 0..ROUNDS {
        if round % 3 == 0 {
            std::thread::sleep(Duration::from_micros((round as u64 * 29) % 900));
        }
        let request = (round as u32).to_be_bytes();
        stream.write_all(&request).unwrap();
        let mut reply = [0; 4];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(reply, request);
        progress.sockets.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn no_wake_up_is_lost() {
    let progress = Arc::new(Progress::default());
    let (tell_address, address) = mpsc::channel();
    let of_shard = Arc::clone(&progress);
    let preempt_after = Duration::from_micros(200);
    let shard = runtime::spawn_with(0, None, preempt_after, move || async move {
        let mut plane = UringPlane::new(UringOptions::default()).unwrap();
        let loopback = "127.0.0.1:0".parse().unwrap();
        let socket = ListenSocket::bind_tcp(loopback, TcpOptions::default()).unwrap();
        let PeerAddr::Tcp(address) = socket.local_addr().unwrap() else {
            unreachable!("bound to an IP address")
        };
        tell_address.send(address).unwrap();
        plane.listen(socket);
        let (sleeps, stop) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
        let pump = Echo {
            plane,
            events: Vec::new(),
            sleeps: Rc::clone(&sleeps),
            stop: Rc::clone(&stop),
        };
        let background = runtime::spawn_background(async {
            loop {
                runtime::sleep(Duration::from_micros(300)).await;
                for _ in 0..100 {
                    runtime::breathe().await;
                }
            }
        });
        let work = RefCell::new(vec![
            runtime::spawn_local(timers(Arc::clone(&of_shard))),
            runtime::spawn_local(threads(Arc::clone(&of_shard))),
            runtime::spawn_local(blocking(Arc::clone(&of_shard))),
        ]);
        runtime::spawn_local(async move {
            for task in work.take() {
                task.await;
            }
            while of_shard.sockets.load(Ordering::SeqCst) < ROUNDS {
                runtime::sleep(Duration::from_millis(5)).await;
            }
            background.cancel().await;
            stop.set(true);
        })
        .detach();
        let for_ever = runtime::Limits {
            slice: PATIENCE * 10,
            park: PATIENCE * 10,
        };
        runtime::drive_within(pump, for_ever).await.unwrap();
        sleeps.get()
    })
    .unwrap();
    let address = address.recv().unwrap();
    let client = std::thread::spawn({
        let progress = Arc::clone(&progress);
        move || client(address, &progress)
    });
    let mut seen = progress.all();
    let mut since = [Instant::now(); 4];
    while seen != [ROUNDS; 4] {
        std::thread::sleep(Duration::from_millis(20));
        let now = progress.all();
        for kind in 0..4 {
            if now[kind] != seen[kind] || now[kind] == ROUNDS {
                since[kind] = Instant::now();
            }
            assert!(
                since[kind].elapsed() < PATIENCE,
                "a wake-up was lost; timers, threads, blocking, sockets have got to {now:?}"
            );
        }
        seen = now;
    }
    client.join().unwrap();
    let sleeps = shard.join();
    assert!(sleeps > ROUNDS, "only {sleeps} sleeps: this proves nothing");
}
