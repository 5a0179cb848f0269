//! What the network plane and the main loop cost by themselves: a server that answers every PING with PONG.
//!
//! `cargo bench --bench net_plane` starts it and, next to it, redis-server (if there is one), drives both in turn with
//! redis-benchmark, and prints the CPU time of each server for each request (user and system, of the whole process), which
//! is what can be compared on a machine with neighbours.
//!
//! `cargo bench --bench net_plane -- serve <port>` only serves; `-- large` measures large replies, sent with and without
//! a copy.

use bytes::Bytes;
use shardis::net::{
    ConnId, Event, ListenSocket, Output, Plane, Sent, TcpOptions, UringOptions, UringPlane, Wait, WakeHandle,
};
use shardis::runtime::{self, Activity, Pump, Rouse};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What redis-benchmark's ping_mbulk sends.
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

struct Server {
    plane: UringPlane,
    events: Vec<Event>,
    /// Output of connections whose last write is still in flight, by index.
    waiting: Vec<Vec<u8>>,
    scratch: Vec<u8>,
    /// If not empty, each request is answered with this instead of PONG.
    large: Bytes,
    stop: Arc<AtomicBool>,
}

impl Server {
    fn answer(&mut self, conn: ConnId, request_count: usize) {
        if !self.large.is_empty() {
            let out = Output {
                bytes: &mut b"$".to_vec(),
                shared: &mut vec![(1, self.large.clone())],
            };
            assert_eq!(self.plane.send(conn, out), Sent::Taken);
            return;
        }
        if self.waiting.len() <= conn.index() {
            self.waiting.resize_with(conn.index() + 1, Vec::new);
        }
        let waiting = &mut self.waiting[conn.index()];
        let out = if waiting.is_empty() { &mut self.scratch } else { waiting };
        for _ in 0..request_count {
            out.extend_from_slice(b"+PONG\r\n");
        }
        self.flush(conn);
    }

    fn flush(&mut self, conn: ConnId) {
        let waiting = &mut self.waiting[conn.index()];
        if waiting.is_empty() {
            std::mem::swap(waiting, &mut self.scratch);
        }
        let out = Output {
            bytes: waiting,
            shared: &mut Vec::new(),
        };
        let _ = self.plane.send(conn, out);
        if waiting.is_empty() {
            std::mem::swap(waiting, &mut self.scratch);
        }
    }
}

impl Pump for Server {
    fn pass(&mut self, wait: Duration) -> Activity {
        let wait = match wait.is_zero() {
            true => Wait::No,
            false => Wait::Until(wait),
        };
        let mut events = std::mem::take(&mut self.events);
        self.plane.poll(wait, &mut events).expect("poll");
        let activity = match events.is_empty() {
            _ if self.stop.load(Ordering::Relaxed) => Activity::Stop,
            true => Activity::Idle,
            false => Activity::Busy,
        };
        for event in events.drain(..) {
            match event {
                Event::Accepted { conn, .. } => self.plane.start(conn),
                Event::Received { conn, buffer } => {
                    let data = buffer.bytes();
                    let request_count = match data.starts_with(PING) {
                        true => data.len() / PING.len(),
                        // redis-benchmark begins with two CONFIG GETs; any answer will do.
                        false => 2,
                    };
                    self.plane.give_back(buffer);
                    self.answer(conn, request_count);
                }
                Event::Drained { conn } => self.flush(conn),
                Event::PeerClosed { conn, .. } => self.plane.close_now(conn),
                Event::AcceptFailed { error, .. } => eprintln!("accept: {error}"),
                Event::Woken => {}
            }
        }
        self.events = events;
        activity
    }

    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    fn announce_sleep(&mut self) -> bool {
        true
    }

    fn awake(&mut self) {}

    fn rouse(&self) -> Rouse {
        let wake: WakeHandle = self.plane.wake_handle();
        Box::new(move || wake.wake())
    }

    fn bell(&self) -> io::Result<OwnedFd> {
        self.plane.bell().try_clone_to_owned()
    }

    fn set_bell(&mut self, on: bool) -> bool {
        self.plane.set_bell(on).expect("bell")
    }
}

fn serve(port: u16, stop: Arc<AtomicBool>) -> runtime::ShardHandle<()> {
    let cpu = runtime::allowed_cpus()[0];
    runtime::spawn_shard(0, Some(cpu), move || async move {
        if std::env::var_os("OUTSIDE").is_some() {
            runtime::spawn_local(runtime::outside(std::future::pending::<()>())).detach();
        }
        let address = format!("127.0.0.1:{port}").parse().expect("an address");
        let socket = ListenSocket::bind_tcp(address, TcpOptions::default()).expect("a free port");
        let mut options = UringOptions::default();
        if let Some(bytes) = number("BUFFER_BYTES") {
            options.buffer_bytes = bytes;
        }
        if let Some(count) = number("BUFFER_COUNT") {
            options.buffer_count = count as u16;
        }
        if let Some(from) = number("ZERO_COPY_FROM") {
            options.zero_copy_from_bytes = from;
        }
        let mut plane = UringPlane::new(options).expect("a ring");
        plane.listen(socket);
        let server = Server {
            plane,
            events: Vec::new(),
            waiting: Vec::new(),
            scratch: Vec::new(),
            large: Bytes::from(vec![b'x'; number("REPLY_BYTES").unwrap_or(0)]),
            stop,
        };
        runtime::drive(server).await.expect("drive");
    })
    .expect("a shard")
}

fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok()
}

/// CPU time that the threads of a process have used, in seconds: the first field of /proc/<pid>/task/<tid>/schedstat, in
/// nanoseconds (Linux: Documentation/scheduler/sched-stats.rst). Unlike /proc/<pid>/stat it is not counted in ticks.
fn cpu_s(pid: u32) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives");
    let used_ns = |task: std::fs::DirEntry| -> Option<f64> {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    tasks.flatten().filter_map(used_ns).sum::<f64>() / 1e9
}

/// Runs redis-benchmark against `port`; CPU microseconds of `pid` for each request, and requests per second.
fn measure(port: u16, pid: u32, clients: u32, pipeline: u32, requests: u32) -> (f64, f64) {
    let before = cpu_s(pid);
    let start = Instant::now();
    let status = Command::new("redis-benchmark")
        .args(["-p", &port.to_string(), "-t", "ping_mbulk", "-q"])
        .args(["-c", &clients.to_string(), "-P", &pipeline.to_string()])
        .args(["-n", &requests.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("redis-benchmark is installed");
    assert!(status.success());
    let requests = f64::from(requests);
    let per_s = requests / start.elapsed().as_secs_f64();
    ((cpu_s(pid) - before) * 1e6 / requests, per_s)
}

/// Large replies over loopback, with zero copy off and on, in turn. On means: asked for until the kernel says that it has
/// copied all the same, which on loopback is once for each connection.
fn large() {
    for reply_bytes in [16 << 10, 64 << 10, 256 << 10, 1 << 20, 8 << 20] {
        let mut figures = [Vec::new(), Vec::new()];
        for _ in 0..number("ROUNDS").unwrap_or(5) {
            for (figures, zero_copy_from) in figures.iter_mut().zip([usize::MAX, 0]) {
                figures.push(large_round(reply_bytes, zero_copy_from));
            }
        }
        let figures = figures.map(median);
        println!(
            "reply of {:5} KiB: {:6.1} us/MiB with zero copy off, {:6.1} us/MiB with zero copy on",
            reply_bytes >> 10,
            figures[0],
            figures[1]
        );
    }
}

/// CPU microseconds of the server for each MiB that it sends.
fn large_round(reply_bytes: usize, zero_copy_from: usize) -> f64 {
    let port = 17_913;
    let mut server = Command::new(std::env::current_exe().expect("this program"))
        .args(["serve", &port.to_string()])
        .env("REPLY_BYTES", reply_bytes.to_string())
        .env("ZERO_COPY_FROM", zero_copy_from.to_string())
        .spawn()
        .expect("this program starts");
    std::thread::sleep(Duration::from_millis(300));
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
    let mut reply = vec![0; reply_bytes + 1];
    let mut ask = |count: usize| {
        for _ in 0..count {
            stream.write_all(PING).expect("the server lives");
            stream.read_exact(&mut reply).expect("the server lives");
        }
    };
    ask(10);
    let count = ((256 << 20) / reply_bytes).min(4000);
    let before = cpu_s(server.id());
    ask(count);
    let used = cpu_s(server.id()) - before;
    server.kill().expect("our own child");
    server.wait().expect("our own child");
    used * 1e6 / (count as f64 * reply_bytes as f64 / (1 << 20) as f64)
}

fn redis_server(port: u16) -> Option<Child> {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--save", "", "--bind", "127.0.0.1"])
        .stdout(Stdio::null())
        .spawn()
        .ok()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let stop = Arc::new(AtomicBool::new(false));
    if let [command, port, ..] = &arguments[..]
        && command == "serve"
    {
        serve(port.parse().expect("a port"), stop).join();
        return;
    }
    if arguments.first().is_some_and(|command| command == "large") {
        large();
        return;
    }
    let (own_port, redis_port) = (17_911, 17_912);
    let mut own = Command::new(std::env::current_exe().expect("this program"))
        .args(["serve", &own_port.to_string()])
        .spawn()
        .expect("this program starts");
    let mut redis = redis_server(redis_port);
    std::thread::sleep(Duration::from_millis(500));
    let rounds = number("ROUNDS").unwrap_or(5);
    for (clients, pipeline, requests) in [(50, 1, 100_000), (50, 16, 2_000_000), (1, 1, 20_000)] {
        let mut figures = [(); 4].map(|()| Vec::new());
        for _ in 0..rounds {
            let (cpu, per_s) = measure(own_port, own.id(), clients, pipeline, requests);
            figures[0].push(cpu);
            figures[1].push(per_s);
            if let Some(redis) = &redis {
                let (cpu, per_s) = measure(redis_port, redis.id(), clients, pipeline, requests);
                figures[2].push(cpu);
                figures[3].push(per_s);
            }
        }
        let [cpu, per_s, redis_cpu, redis_per_s] = figures.map(|values| match values.is_empty() {
            true => f64::NAN,
            false => median(values),
        });
        println!(
            "clients {clients:3} pipeline {pipeline:3}: {cpu:6.2} us/request {per_s:9.0}/s   \
             redis-server {redis_cpu:6.2} us/request {redis_per_s:9.0}/s"
        );
    }
    let before = cpu_s(own.id());
    std::thread::sleep(Duration::from_secs(5));
    let used = cpu_s(own.id()) - before;
    println!("idle: {:.2} % of a core", used / 5.0 * 100.0);
    for child in [Some(&mut own), redis.as_mut()].into_iter().flatten() {
        child.kill().expect("our own child");
        child.wait().expect("our own child");
    }
}
