//! Details that are compared with the oracles and that a transcript cannot tell: replies that do not come, entries of the
//! slow log with their times left out, raw requests.

mod support;

use std::io::Read;
use support::client::encode;
use support::value::split_words;
use support::{Client, Oracle, Server, Value};

/// Runs the same on what descends from Redis 7.2 and on this server with 1, 2 and 4 shards; all must give the same.
#[track_caller]
fn same<T: PartialEq + std::fmt::Debug>(options: &[&str], run: impl Fn(&Server) -> T) {
    same_as([Oracle::Redis82, Oracle::Valkey91], options, run);
}

#[track_caller]
fn same_as<T: PartialEq + std::fmt::Debug>(oracles: [Oracle; 2], options: &[&str], run: impl Fn(&Server) -> T) {
    let oracles = oracles.map(|oracle| oracle.start(options));
    let expected: Vec<T> = oracles.iter().flatten().map(&run).collect();
    for shards in [1, 2, 4] {
        let ours = run(&Server::shardis(shards, options));
        for (oracle, theirs) in oracles.iter().flatten().zip(&expected) {
            assert_eq!(ours, *theirs, "{shards} shards, and {}", oracle.name);
        }
    }
}

fn words(line: &str) -> Vec<Vec<u8>> {
    split_words(line).expect("the quotes are balanced")
}

/// Sends the commands and an ECHO in one pipeline, and answers the bytes that come up to the reply of the ECHO. (No more than
/// bytes: Redis counts a reply that is skipped inside EXEC, and a parser would wait for it.)
fn pipeline(server: &Server, lines: &[&str]) -> String {
    const END: &[u8] = b"$7\r\nthe end\r\n";
    let mut client = server.client();
    let mut bytes: Vec<u8> = lines.iter().flat_map(|line| encode(&words(line))).collect();
    bytes.extend(encode(&["ECHO", "the end"]));
    client.send(&bytes).expect("the server reads");
    let mut found = Vec::new();
    while !found.ends_with(END) {
        let mut byte = [0];
        client.stream().read_exact(&mut byte).expect("the ECHO is answered");
        found.extend(byte);
    }
    found.escape_ascii().to_string()
}

#[test]
fn replies_that_are_skipped() {
    let pipelines: [&[&str]; 9] = [
        &["CLIENT REPLY SKIP", "CLIENT REPLY SKIP", "PING a", "PING b"],
        &[
            "CLIENT REPLY SKIP",
            "CLIENT REPLY SKIP",
            "CLIENT REPLY SKIP",
            "PING a",
            "PING b",
        ],
        &["CLIENT REPLY SKIP", "CLIENT REPLY ON", "PING a", "PING b"],
        &[
            "CLIENT REPLY SKIP",
            "CLIENT REPLY OFF",
            "PING a",
            "CLIENT REPLY ON",
            "PING b",
        ],
        &[
            "CLIENT REPLY OFF",
            "CLIENT REPLY SKIP",
            "PING a",
            "PING b",
            "CLIENT REPLY ON",
            "PING c",
        ],
        &["CLIENT REPLY SKIP", "NOSUCH", "PING a"],
        &["CLIENT REPLY SKIP", "CLIENT REPLY SKIP", "GET", "PING a"],
        &[
            "CLIENT REPLY SKIP",
            "CLIENT REPLY SKIP",
            "SET a 1",
            "GET a",
            "CLIENT REPLY SKIP",
            "GET b",
            "GET c",
            "MGET a b c",
        ],
        // What is silent waits until those before it are answered, on as many shards as it may be.
        &["SET a 1", "GET b", "GET c", "CLIENT REPLY SKIP", "MGET a b c", "PING a"],
    ];
    same(&[], |server| pipelines.map(|lines| pipeline(server, lines)));
    // Valkey takes no CLIENT REPLY inside a transaction.
    let queued = [
        "CLIENT REPLY SKIP",
        "MULTI",
        "CLIENT REPLY SKIP",
        "PING a",
        "EXEC",
        "PING b",
    ];
    same_as([Oracle::Redis82, Oracle::Redis70], &[], |server| {
        pipeline(server, &queued)
    });
}

/// The arguments of the entries of the slow log, oldest first.
fn slow_arguments(client: &mut Client) -> Vec<Vec<String>> {
    let entries = client.call(&["SLOWLOG", "GET", "-1"]).items();
    let arguments = |entry: &Value| entry.items()[3].items().iter().map(Value::text).collect();
    entries.iter().rev().map(arguments).collect()
}

#[test]
fn the_slow_log_has_what_redis_logs_without_the_secrets() {
    let lines = [
        "AUTH secret",
        "AUTH default secret",
        "HELLO 2 AUTH default secret",
        "HELLO 2 SETNAME me AUTH default secret",
        "HELLO 2 SETNAME auth",
        "CONFIG SET masterauth secret",
        "CONFIG SET maxmemory 0 masteruser secret MASTERAUTH secret timeout 0",
        "CONFIG SET requirepass \"\"",
        "CONFIG GET requirepass",
        "CONFIG SET nosuch secret",
        "MULTI",
        "AUTH secret",
        "CONFIG SET masterauth \"\"",
        "EXEC",
        "MULTI",
        "PING",
        "DISCARD",
        "WATCH a b c",
        "UNWATCH",
        "NOSUCH secret",
        "GET",
        "MSET a 1 b 2 c 3",
        "GET a",
        "RESET",
    ];
    same(&[], |server| {
        let mut client = server.client();
        client.line("CONFIG SET slowlog-log-slower-than 0");
        client.line("SLOWLOG RESET");
        for line in lines {
            client.call(&words(line));
        }
        client.line("CONFIG SET slowlog-log-slower-than -1");
        let length = client.line("SLOWLOG LEN").integer();
        (length, slow_arguments(&mut client))
    });
}

/// Lines of INFO, without the times in them.
fn counts(client: &mut Client, section: &str) -> Vec<String> {
    let info = client.call(&["INFO", section]).text();
    let is_count = |field: &&str| !field.starts_with("usec");
    let counts = |line: &str| line.split(',').filter(is_count).collect::<Vec<_>>().join(",");
    let mut lines: Vec<String> = info.lines().filter(|line| line.contains(':')).map(counts).collect();
    lines.sort();
    lines
}

#[test]
fn calls_failures_and_rejections_are_counted() {
    let lines = [
        // By themselves: run, failed, rejected by a gate, unknown.
        "SET a 1",
        "INCR a",
        "LPUSH a 1",
        "MSET b 1 c 2 d",
        "MGET a b c",
        "GET",
        "NOSUCH a",
        "OBJECT NOSUCH a",
        "SELECT 99",
        // What controls a transaction.
        "MULTI",
        "MULTI",
        "WATCH a",
        "SET b 2",
        "GET",
        "EXEC",
        "EXEC",
        "DISCARD",
        "WATCH a b c",
        "UNWATCH",
        "MULTI",
        "DISCARD",
        // What runs inside one: over keys, over the session, over the node, and what fails there.
        "MULTI",
        "INCR a",
        "LPUSH a 1",
        "PING",
        "SELECT 99",
        "UNWATCH",
        "DBSIZE",
        "CONFIG GET port",
        "EXEC",
        // One whose commands may find out late what they need.
        "MULTI",
        "INCR a",
        "RPUSH list 3 1 2",
        "SORT list BY w_*",
        "SORT a",
        "EXEC",
        // One that does not run.
        "WATCH a",
        "INCR a",
        "MULTI",
        "INCR a",
        "EXEC",
        "RESET",
    ];
    // Valkey rejects MULTI and WATCH inside MULTI before they are called.
    same_as([Oracle::Redis82, Oracle::Redis70], &[], |server| {
        let mut client = server.client();
        client.line("CONFIG RESETSTAT");
        for line in lines {
            client.call(&words(line));
        }
        (counts(&mut client, "commandstats"), counts(&mut client, "errorstats"))
    });
}

/// Redis reduces an idle time to its clock of 24 bits and some of them overflow on the way; here the greatest that can be
/// kept is kept. What both can keep is the same.
#[test]
fn idle_times_that_are_restored() {
    let restore = |server: &Server, idle: &str| {
        let mut client = server.client();
        client.line("SET source v");
        let Value::Bulk(payload) = client.line("DUMP source") else {
            panic!("a dump is a text")
        };
        let reply = client.call(&[
            b"RESTORE",
            &b"k"[..],
            b"0",
            &payload,
            b"REPLACE",
            b"IDLETIME",
            idle.as_bytes(),
        ]);
        (reply.text(), client.line("OBJECT IDLETIME k").text())
    };
    same(&[], |server| {
        // A second may begin between the two commands.
        let (reply, idle) = restore(server, "100000");
        let idle: i64 = idle.parse().expect("it is a number");
        (reply, idle / 10)
    });
    same(&[], |server| {
        ["-1", "9223372036854775808", "x"].map(|idle| restore(server, idle).0)
    });
    let shardis = Server::shardis(2, &[]);
    for idle in ["16777216", "4294967296", "9223372036854775807"] {
        let (reply, kept) = restore(&shardis, idle);
        assert_eq!(reply, "OK");
        // (A second may begin between the two commands, and the clock with it.)
        assert!(["16777215", "0"].contains(&&*kept), "{kept}");
    }
}

/// Who may use DEBUG, and MODULE's changes: a wrong number of arguments is said first, then that, then that a password is wanted.
#[test]
fn protected_commands() {
    let ask = |server: &Server| {
        let mut client = server.client();
        let lines = [
            "MODULE LOAD",
            "MODULE LOAD /nosuch.so 1 2",
            "MODULE LOADEX /nosuch.so CONFIG name value ARGS 1",
            "MODULE LOADEX /nosuch.so CONFIG name",
            "MODULE UNLOAD nosuch",
            "MODULE HELP nothing",
            "DEBUG",
            "DEBUG JMAP",
            "MULTI",
            "MODULE UNLOAD nosuch",
            "EXEC",
        ];
        lines.map(|line| client.call(&words(line)))
    };
    for permission in ["no", "yes", "local"] {
        let permissions = ["--enable-module-command", permission, "--enable-debug-command", "no"];
        same(&permissions, ask);
    }
    // The password is set late, since a server is asked whether it is ready without one.
    // Valkey asks for it before anything else.
    let told = ["--enable-module-command", "no"];
    same_as([Oracle::Redis82, Oracle::Redis70], &told, |server| {
        server.client().call(&["CONFIG", "SET", "requirepass", "secret"]);
        ask(server)
    });
}

/// What a password keeps from those who have not said it, and who need not say it. (Valkey asks for it before anything else. In EXEC
/// a wrong one is left out: Redis 8.2 gives no reply to it there, and all that come behind are one too early.)
#[test]
fn a_password_is_asked_for() {
    let unknown = [
        "PING",
        "GET k",
        "GET",
        "NOSUCH",
        "CONFIG GET maxmemory",
        "CONFIG NOSUCH",
        "CLIENT ID",
        "MULTI",
        "EXEC",
        "WATCH k",
        "HELLO 3 AUTH default wrong",
        "HELLO 9 AUTH default secret",
        "AUTH",
        "AUTH wrong",
        "AUTH nobody secret",
        "AUTH default wrong",
        "AUTH a b c",
        "RESET",
        "GET k",
    ];
    let known = [
        "AUTH secret",
        "GET k",
        "MULTI",
        "GET k",
        "EXEC",
        "GET k",
        "RESET",
        "GET k",
        "AUTH default secret",
        "SET k 1",
        "QUIT",
    ];
    same_as([Oracle::Redis82, Oracle::Redis70], &[], |server| {
        let mut earlier = server.client();
        earlier.line("PING");
        let mut administrator = server.client();
        administrator.line("CONFIG SET requirepass secret");
        let mut client = server.client();
        let lines = unknown.into_iter().chain(known);
        let mut replies: Vec<String> = lines.map(|line| client.call(&words(line)).to_string()).collect();
        // Who came before the password need not say it; nobody need when it has been taken away.
        replies.push(earlier.line("GET k").to_string());
        let mut waiting = server.client();
        replies.push(waiting.line("GET k").to_string());
        administrator.call(&words("CONFIG SET requirepass \"\""));
        replies.extend(["GET k", "AUTH secret"].map(|line| waiting.line(line).to_string()));
        replies
    });
    // Redis 7.0 has other words for it.
    same(&[], |server| {
        server.client().line("CONFIG SET requirepass secret");
        let mut client = server.client();
        ["HELLO", "HELLO 3"].map(|line| client.line(line).to_string())
    });
}
