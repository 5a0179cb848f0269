//! Servers for tests: this crate's, and the oracles ([`super::oracle`]).
//!
//! 1. Each has its own port on the loopback interface and its own directory, which goes away with it.
//! 2. It is ready when it has answered PING (also when it still loads), and it is killed and reaped when the value is dropped, also by a panic.
//! 3. It persists nothing, unless the test's own options say so.

use super::client::Client;
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Starts that are tried: another process may take a port between its being found free and being bound.
const START_COUNT_MAX: usize = 5;

/// What [`free_port`] gives out: below the ports that the kernel gives to connections.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A server may have a port for each shard, behind its own.
const PORTS_EACH: u16 = 8;

/// A running server.
pub struct Server {
    pub port: u16,
    pub dir: PathBuf,
    /// For messages: `shardis with 2 shards`, `redis-server 7.0`.
    pub name: String,
    child: Child,
}

impl Server {
    /// This crate's server with that many shards, and further options.
    pub fn shardis(shards: usize, options: &[&str]) -> Server {
        Server::shardis_after(shards, options, || Ok(()))
    }

    /// The same, with something done to its process before it runs; that must be safe to do after a fork.
    pub fn shardis_after(shards: usize, options: &[&str], prepare: fn() -> std::io::Result<()>) -> Server {
        let count = shards.to_string();
        let mut all = vec!["--shards", &count];
        all.extend_from_slice(options);
        // `SHARDIS_SERVER` names another build of it: does a test see a fault that is mended by now?
        let path = std::env::var_os("SHARDIS_SERVER").unwrap_or_else(|| env!("CARGO_BIN_EXE_shardis").into());
        Server::start(format!("shardis with {shards} shards"), Path::new(&path), &all, prepare)
    }

    /// Any server that takes Redis's options.
    pub(super) fn start(
        name: String,
        program: &Path,
        options: &[&str],
        prepare: fn() -> std::io::Result<()>,
    ) -> Server {
        for _ in 0..START_COUNT_MAX {
            let port = free_port();
            let dir = fresh_dir(port);
            let log = File::create(dir.join("log")).expect("the directory is new");
            let mut command = Command::new(program);
            command
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
                .arg("--dir")
                .arg(&dir)
                .args(options)
                .stdin(Stdio::null())
                .stdout(log.try_clone().expect("one more descriptor"))
                .stderr(log);
            // SAFETY: prctl is async-signal-safe, and so is what the caller does. A test process that is killed outright
            // runs no destructor.
            unsafe {
                command.pre_exec(move || {
                    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
                    prepare()
                });
            }
            let child = command
                .spawn()
                .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
            let mut server = Server {
                port,
                dir,
                name: name.clone(),
                child,
            };
            if server.becomes_ready() {
                return server;
            }
        }
        panic!("{name} did not find a free port");
    }

    /// Waits until it answers, though it may still load its data; false if the port was taken by someone else.
    fn becomes_ready(&mut self) -> bool {
        let deadline = Instant::now() + super::PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                let log = self.log();
                assert!(log.contains("listening"), "{} ended with {status}:\n{log}", self.name);
                return false;
            }
            if let Ok(mut client) = Client::connect(self.port)
                && let Ok(answer) = client.try_call(&["PING"])
                && is_alive(&answer.text())
                && let Ok(info) = client.try_call(&["INFO", "server"])
            {
                return info.text().contains(&format!("process_id:{}\r\n", self.pid()));
            }
            assert!(
                Instant::now() < deadline,
                "{} answers no PING:\n{}",
                self.name,
                self.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.port).unwrap_or_else(|error| panic!("{} takes no connection: {error}", self.name))
    }

    /// A client that has said HELLO 3.
    pub fn client_resp3(&self) -> Client {
        let mut client = self.client();
        client.call(&["HELLO", "3"]);
        client
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// How it has ended; waits for that.
    pub fn ending(&mut self) -> std::process::ExitStatus {
        let deadline = Instant::now() + super::PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                return status;
            }
            assert!(Instant::now() < deadline, "{} does not end", self.name);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until it has loaded its data set. INFO says so a moment before all shards serve.
    pub fn wait_until_loaded(&self) {
        super::eventually("it is loaded", || self.info("persistence", "loading") == "0");
        // Connections go to all shards.
        let serves = |_| !self.client().line("PING").text().starts_with("LOADING");
        assert!((0..8).all(serves), "INFO says that it is loaded, and a shard refuses");
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the child is ours").is_none()
    }

    /// What it has written to its standard output and error so far.
    pub fn log(&self) -> String {
        std::fs::read(self.dir.join("log")).map_or_else(
            |error| error.to_string(),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// What one line of INFO says.
    pub fn info(&self, section: &str, field: &str) -> String {
        let info = self.client().call(&["INFO", section]).text();
        let value = info
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value
            .unwrap_or_else(|| panic!("{} has no {field} in INFO {section}", self.name))
            .to_owned()
    }

    /// The same as a number.
    pub fn info_number(&self, section: &str, field: &str) -> u64 {
        let value = self.info(section, field);
        value.parse().unwrap_or_else(|_| panic!("{field}:{value} is no number"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let start = log.len().saturating_sub(4000);
            let tail = log
                .char_indices()
                .find(|&(at, _)| at >= start)
                .map_or("", |(at, _)| &log[at..]);
            eprintln!("-- the log of {} ends with:\n{tail}", self.name);
        }
        // Both fail only if it has ended and been reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn is_alive(answer: &str) -> bool {
    answer == "PONG" || answer.contains("LOADING")
}

/// The first of [`PORTS_EACH`] in a row that nobody listens on at the moment, and that no other test of this process has been given.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let count = PORTS.len() as u32 / u32::from(PORTS_EACH);
    for _ in 0..count {
        // Other processes begin elsewhere.
        let number = NEXT
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_add(std::process::id().wrapping_mul(37))
            % count;
        let first = PORTS.start + number as u16 * PORTS_EACH;
        let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
        if (first..first + PORTS_EACH).all(|port| is_free(&port)) {
            return first;
        }
    }
    panic!("the loopback interface has no free ports");
}

fn fresh_dir(port: u16) -> PathBuf {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("shardis-test-{}-{number}-{port}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("the temporary directory can be written");
    dir
}
