//! The open loop of shardis-benchmark against a real server: requests are due by the clock, whatever the server does.
//!
//! Asserted are counts, never times: this machine may be busy with other things, and then a rate is not kept. But every request
//! that was due is sent and answered all the same, those that found no free connection are counted, and the program says of a rate
//! that was not kept that it was not.

mod support;

use serde_json::Value;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use support::{Server, eventually};

/// Starts the program, one thread of it, against a server.
fn start(server: &Server, options: &[&str]) -> Child {
    let json = server.dir.join("result.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardis-benchmark"));
    command
        .args(["--port", &server.port.to_string(), "--threads", "1"])
        .arg("--json")
        .arg(json)
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().expect("the program was built")
}

/// What it has found, and what it has said.
fn end(server: &Server, child: Child) -> (Value, String) {
    let Output { status, stdout, stderr } = child.wait_with_output().expect("it is ours");
    let said = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let said = said.concat();
    assert!(status.success(), "{status}: {said}");
    let text = std::fs::read_to_string(server.dir.join("result.json")).expect("it has written its result");
    (serde_json::from_str(&text).expect("it is JSON"), said)
}

/// How often the server has run a command.
fn calls(server: &Server, command: &str) -> u64 {
    let text = server.client().call(&["INFO", "commandstats"]).text();
    let start = format!("cmdstat_{command}:calls=");
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    let count = line.and_then(|rest| rest.split(',').next());
    count.map_or(0, |count| count.parse().expect("it is a number"))
}

/// All that was due was sent, run once, and answered.
#[track_caller]
fn assert_all_done(server: &Server, result: &Value, count: u64) {
    for (field, expected) in [("requests", count), ("unsent", 0), ("unanswered", 0), ("errors", 0)] {
        assert_eq!(result[field], expected, "{field}: {result:#}");
    }
    assert_eq!(calls(server, "get") + calls(server, "set"), count);
}

#[test]
fn all_that_is_due_is_sent_whether_the_rate_is_kept_or_not() {
    let server = Server::shardis(1, &[]);
    // Twenty requests are due together every millisecond.
    let child = start(&server, &["-c", "20", "--rate", "20000", "-n", "6000"]);
    let (result, _) = end(&server, child);
    assert_all_done(&server, &result, 6000);
    assert_eq!(result["options"]["rate_per_s"], 20_000.0);
}

#[test]
fn a_rate_beyond_all_measure_is_said_not_to_be_kept() {
    let server = Server::shardis(1, &[]);
    let child = start(&server, &["-c", "2", "--rate", "50000000", "-n", "20000"]);
    let (result, said) = end(&server, child);
    assert_all_done(&server, &result, 20_000);
    assert!(said.contains("the rate was not kept"), "{said}");
    // All are due within less than a millisecond, and two connections have two under way.
    let starved = result["starved"].as_u64().expect("a count");
    assert!(starved > 19_000, "{starved}");
    assert!(said.contains("-c or -P would help"), "{said}");
}

#[test]
fn what_was_due_while_the_server_stood_still_is_sent_afterwards() {
    let server = Server::shardis(2, &[]);
    let mut client = server.client();
    assert_eq!(client.line("CLIENT PAUSE 1000000 WRITE").text(), "OK");
    let child = start(
        &server,
        &["-c", "4", "--rate", "1000", "-n", "1000", "--read-ratio", "0"],
    );
    // Its four connections have a request each under way, and nothing goes on.
    eventually("it has connected", || {
        let info = client.call(&["INFO", "clients"]).text();
        info.contains("connected_clients:5\r\n")
    });
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(calls(&server, "set"), 0);
    assert_eq!(client.line("CLIENT UNPAUSE").text(), "OK");
    let (result, _) = end(&server, child);
    assert_all_done(&server, &result, 1000);
    // Some 400 came due in that time; fewer if the program was late itself.
    let starved = result["starved"].as_u64().expect("a count");
    assert!(starved > 50, "{starved}");
}
