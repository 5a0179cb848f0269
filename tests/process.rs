//! The server among the other processes of its host: its title, the report it leaves when it crashes, and what it says where
//! it is not allowed to run.

mod support;

use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Output, Stdio};
use support::{Oracle, Server, eventually};

/// What `ps` shows.
fn title(server: &Server) -> String {
    let bytes = std::fs::read(format!("/proc/{}/cmdline", server.pid())).expect("it runs");
    let text = String::from_utf8_lossy(&bytes);
    text.trim_end_matches('\0').replace('\0', " ")
}

#[test]
fn the_title_follows_the_template_as_that_of_redis_does() {
    let Some(redis) = Oracle::Redis70.start(&[]) else {
        return;
    };
    let shardis = Server::shardis(2, &[]);
    let program = env!("CARGO_BIN_EXE_shardis");
    // The oracle's own name and port are made ours.
    let ours = |text: String| {
        let name = text.strip_prefix("redis-server").map(|rest| format!("{program}{rest}"));
        name.unwrap_or(text)
            .replace(&redis.port.to_string(), &shardis.port.to_string())
    };
    assert_eq!(title(&shardis), ours(title(&redis)));
    let long = format!("{{title}} {}", "x".repeat(1000));
    for template in [
        "{title} -{port}-{tls-port}-{unixsocket}-{config-file}-{server-mode}- {listen-addr} ",
        "{listen-addr}",
        &long,
        "{title} {listen-addr} {server-mode}",
        "{nothing}",
        "",
    ] {
        let replies = [&redis, &shardis].map(|server| {
            let words = ["CONFIG", "SET", "proc-title-template", template];
            server.client().call(&words).text()
        });
        assert_eq!(replies[0], replies[1]);
        let (found, expected) = (title(&shardis), ours(title(&redis)));
        if template.len() < 200 {
            assert_eq!(found, expected);
        } else {
            assert_eq!(found.len(), 255, "{found}");
        }
    }
    // The environment has moved, and is still there.
    assert_eq!(shardis.client().line("PING").text(), "PONG");
}

#[test]
fn no_title_is_set_where_none_is_wanted() {
    let server = Server::shardis(1, &["--set-proc-title", "no"]);
    let title = title(&server);
    assert!(title.contains(" --set-proc-title no"), "{title}");
}

const START: &str = "=== REDIS BUG REPORT START: Cut & paste starting from here ===";
const END: &str = "=== REDIS BUG REPORT END. Make sure to include from START to END. ===";

/// Has the server crash by a DEBUG command; its log.
fn crash(server: &mut Server, command: &str) -> String {
    // There is no answer any more.
    let _ = server.client().try_call(&["DEBUG", command]);
    server.ending();
    server.log()
}

#[track_caller]
fn reported(log: &str, wanted: &[&str]) {
    assert_eq!(log.matches(START).count(), 1, "{log}");
    assert_eq!(log.matches(END).count(), 1, "{log}");
    for text in wanted {
        assert!(log.contains(text), "no {text:?} in:\n{log}");
    }
}

#[test]
fn a_memory_fault_leaves_a_report_and_the_signal() {
    for shards in [1, 2, 4] {
        let mut server = Server::shardis(shards, &["--enable-debug-command", "yes"]);
        let pid = format!("pid:{}", server.pid());
        let log = crash(&mut server, "SEGFAULT");
        assert_eq!(server.ending().signal(), Some(libc::SIGSEGV), "{log}");
        let wanted = [
            "crashed by signal: 11 (SIGSEGV), si_code: 1",
            "Accessing address: 0x8\n",
            "Crashed running the instruction at: 0x",
            "redis_version:7.2",
            "last command: debug",
            "STACK TRACE",
            "(+0x",
            &pid,
        ];
        reported(&log, &wanted);
    }
}

#[test]
fn other_signals_leave_a_report_too() {
    for signal in [Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGABRT] {
        let mut server = Server::shardis(1, &[]);
        kill(Pid::from_raw(server.pid() as i32), signal).expect("it is ours");
        assert_eq!(server.ending().signal(), Some(signal as i32));
        let killer = format!("Killed by PID: {}, UID: ", std::process::id());
        let name = format!("({})", signal.as_str());
        reported(&server.log(), &["crashed by signal: ", &name, &killer]);
    }
}

#[test]
fn a_panic_leaves_one_report_and_aborts_or_exits() {
    let mut server = Server::shardis(2, &["--enable-debug-command", "yes"]);
    let log = crash(&mut server, "PANIC");
    assert_eq!(server.ending().signal(), Some(libc::SIGABRT), "{log}");
    reported(&log, &["called by DEBUG PANIC", "last command: debug", "STACK TRACE"]);
    let mut server = Server::shardis(2, &["--enable-debug-command", "yes", "--use-exit-on-panic", "yes"]);
    let log = crash(&mut server, "PANIC");
    assert_eq!(server.ending().code(), Some(1), "{log}");
    reported(&log, &["called by DEBUG PANIC"]);
}

#[test]
fn reports_can_be_turned_off() {
    for command in ["SEGFAULT", "PANIC"] {
        let mut server = Server::shardis(2, &["--enable-debug-command", "yes"]);
        let ok = server
            .client()
            .line("CONFIG SET crash-log-enabled no crash-memcheck-enabled no");
        assert_eq!(ok.text(), "OK");
        let log = crash(&mut server, command);
        assert!(server.ending().signal().is_some() && !log.contains(START), "{log}");
    }
}

#[test]
fn nobody_crashes_it_without_leave() {
    let mut server = Server::shardis(1, &[]);
    for command in ["SEGFAULT", "PANIC", "ASSERT"] {
        let refused = server.client().call(&["DEBUG", command]).text();
        assert!(refused.starts_with("ERR DEBUG command not allowed"), "{refused}");
    }
    assert!(server.is_running());
}

/// What is done to a process before it becomes the server.
type Prepare = fn() -> io::Result<()>;

/// Runs a server that is not expected to start; `prepare` takes something away from its process.
fn refused(prepare: Prepare) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardis"));
    command.args(["--port", "0", "--unixsocket", "/nonexistent/socket", "--shards", "1"]);
    command.stdin(Stdio::null());
    // SAFETY: what is done between fork and exec are plain system calls.
    unsafe { command.pre_exec(prepare) };
    command.output().expect("the server can be run")
}

/// The server has ended with status 1 and one line on stderr; it is answered.
#[track_caller]
fn refusal(output: &Output) -> String {
    let (out, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(output.status.code(), Some(1), "{out}{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    error.into_owned()
}

/// Lets a system call fail with an errno, as a container's seccomp profile does (seccomp(2)).
fn deny(call: libc::c_long, errno: i32) -> io::Result<()> {
    const LOAD_NUMBER: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const ANSWER: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut steps = [
        step(LOAD_NUMBER, 0, 0, 0),
        step(IF_EQUAL, 0, 1, call as u32),
        step(ANSWER, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        step(ANSWER, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: steps.len() as u16,
        filter: steps.as_mut_ptr(),
    };
    // SAFETY: the program is valid for the length of the call.
    let has_failed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) != 0
    };
    match has_failed {
        true => Err(io::Error::last_os_error()),
        false => Ok(()),
    }
}

#[test]
fn a_seccomp_filter_is_named_with_its_remedy() {
    let calls: [(Prepare, &str); 3] = [
        (|| deny(libc::SYS_io_uring_setup, libc::EPERM), "(io_uring_setup: EPERM"),
        (
            || deny(libc::SYS_io_uring_setup, libc::ENOSYS),
            "(io_uring_setup: ENOSYS",
        ),
        (
            || deny(libc::SYS_io_uring_register, libc::EPERM),
            "(io_uring_register: EPERM",
        ),
    ];
    for (prepare, wanted) in calls {
        let text = refusal(&refused(prepare));
        assert!(text.starts_with("io_uring is refused by a seccomp filter"), "{text}");
        assert!(
            text.contains(wanted) && text.contains("--security-opt seccomp="),
            "{text}"
        );
    }
}

/// Below what the executor needs, and with no right to raise it.
#[test]
fn too_little_locked_memory_is_named_with_its_remedy() {
    let output = refused(|| {
        const CAP_SYS_RESOURCE: libc::c_ulong = 24;
        setrlimit(Resource::RLIMIT_MEMLOCK, 64 << 10, 64 << 10)?;
        // SAFETY: a plain system call. It fails for those who have no capabilities, and need not lose one.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, CAP_SYS_RESOURCE, 0, 0, 0) };
        Ok(())
    });
    let text = refusal(&output);
    assert!(text.contains("the limit on locked memory is 64 KiB"), "{text}");
    assert!(text.contains("ulimit -l unlimited"), "{text}");
}

/// A low soft limit is raised by the server itself.
#[test]
fn a_low_soft_limit_of_locked_memory_is_raised() {
    let server = Server::shardis_after(2, &[], || Ok(setrlimit(Resource::RLIMIT_MEMLOCK, 64 << 10, 8 << 20)?));
    eventually("it serves", || server.client().line("PING").text() == "PONG");
}
