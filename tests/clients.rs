//! Published clients against the server: redis-cli, redis-benchmark, and the Rust client `redis`, plain and cluster-aware.
//! (Python's are in `tests/python`.)

mod support;

use redis::Commands;
use std::io::Write;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use support::client::encode;
use support::server::free_port;
use support::{Server, eventually};

fn cli(server: &Server, args: &[&str]) -> Output {
    Command::new("redis-cli")
        .args(["-h", "127.0.0.1", "-p", &server.port.to_string()])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("redis-cli is installed (apt install redis-tools)")
}

#[track_caller]
fn cli_text(server: &Server, args: &[&str]) -> String {
    let output = cli(server, args);
    let (text, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "redis-cli {args:?}: {text}{error}");
    text.into_owned()
}

/// Two shards with a port each. The first port is free; the two behind it are tried.
fn with_shard_ports() -> Server {
    Server::shardis(2, &["--shard-ports", "yes"])
}

#[test]
fn redis_cli_talks() {
    let server = Server::shardis(2, &[]);
    assert_eq!(cli_text(&server, &["PING"]), "PONG\n");
    assert_eq!(cli_text(&server, &["-3", "SET", "k", "v"]), "OK\n");
    assert_eq!(cli_text(&server, &["--no-raw", "GET", "k"]), "\"v\"\n");
    assert_eq!(cli_text(&server, &["-n", "3", "DBSIZE"]), "0\n");
    assert_eq!(cli_text(&server, &["-r", "3", "INCR", "n"]), "1\n2\n3\n");
}

#[test]
fn redis_cli_pipes() {
    const COUNT: usize = 10_000;
    let server = Server::shardis(2, &[]);
    let mut pipe = Command::new("redis-cli")
        .args(["-p", &server.port.to_string(), "--pipe"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("redis-cli is installed");
    let bytes: Vec<u8> = (0..COUNT)
        .flat_map(|i| encode(&["SET", &format!("key:{i}"), &i.to_string()]))
        .collect();
    let mut input = pipe.stdin.take().expect("it was asked for");
    input.write_all(&bytes).expect("redis-cli reads");
    drop(input);
    let output = pipe.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains(&format!("errors: 0, replies: {COUNT}")), "{text}");
    assert_eq!(cli_text(&server, &["DBSIZE"]), format!("{COUNT}\n"));
}

#[test]
fn redis_cli_scans_and_finds_big_keys() {
    let server = Server::shardis(2, &[]);
    let mut client = server.client();
    for i in 0..1000 {
        client.call(&["SET", &format!("key:{i}"), "v"]);
    }
    client.call(&["SET", "big", &"x".repeat(5000)]);
    let mut scanned: Vec<String> = cli_text(&server, &["--scan", "--pattern", "key:*"])
        .lines()
        .map(str::to_owned)
        .collect();
    scanned.sort();
    scanned.dedup();
    assert_eq!(scanned.len(), 1000);
    let report = cli_text(&server, &["--bigkeys"]);
    assert!(report.contains("Sampled 1001 keys in the keyspace!"), "{report}");
    assert!(
        report.contains("Biggest string found") && report.contains("big"),
        "{report}"
    );
}

/// Runs a client that would not end by itself, for a moment; what it has written.
fn for_a_moment(mut command: Command) -> String {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("redis-cli is installed");
    std::thread::sleep(Duration::from_millis(6000));
    let text = end(child);
    assert!(!text.is_empty(), "{command:?} says nothing");
    text
}

fn end(mut child: Child) -> String {
    // It may have ended by itself.
    let _ = child.kill();
    String::from_utf8_lossy(&child.wait_with_output().expect("it was started").stdout).into_owned()
}

#[test]
fn redis_cli_watches() {
    let server = Server::shardis(2, &[]);
    server.client().call(&["SET", "k", "v"]);
    let port = server.port.to_string();
    // Into a pipe it would write when it has a page full.
    let mut stat = Command::new("stdbuf");
    stat.args(["-oL", "redis-cli", "-p", &port, "--stat", "-i", "0.5"]);
    let text = for_a_moment(stat);
    assert!(text.contains("keys") && text.contains("requests"), "{text}");
    let mut latency = Command::new("redis-cli");
    latency.args(["-p", &port, "--latency", "--raw", "-i", "1"]);
    let text = for_a_moment(latency);
    assert_eq!(text.split_whitespace().count(), 4, "{text}");
}

fn benchmark(server: &Server, args: &[&str]) {
    let output = Command::new("redis-benchmark")
        .args(["-p", &server.port.to_string(), "--csv"])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("redis-benchmark is installed (apt install redis-tools)");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success() && !text.to_ascii_lowercase().contains("error"),
        "{args:?}: {text}"
    );
    assert!(text.contains("\"test\",\"rps\""), "{args:?}: {text}");
}

#[test]
fn redis_benchmark_runs() {
    let server = Server::shardis(2, &[]);
    benchmark(
        &server,
        &["-t", "ping,set,get,incr,mset", "-n", "5000", "-r", "1000", "-c", "20"],
    );
    benchmark(
        &server,
        &[
            "-t",
            "ping,set,get,incr,mset",
            "-n",
            "20000",
            "-r",
            "1000",
            "-c",
            "20",
            "-P",
            "16",
        ],
    );
    assert!(server.info_number("stats", "total_commands_processed") >= 100_000);
}

#[test]
fn redis_benchmark_runs_on_the_shards_ports() {
    let server = with_shard_ports();
    benchmark(
        &server,
        &[
            "--cluster",
            "-t",
            "set,get",
            "-n",
            "10000",
            "-r",
            "1000",
            "-c",
            "10",
            "-P",
            "4",
        ],
    );
}

fn rust_client(server: &Server) -> redis::Connection {
    let client = redis::Client::open(format!("redis://{}/", server.address())).expect("the address is right");
    client.get_connection().expect("the server is there")
}

#[test]
fn the_rust_client_works() -> redis::RedisResult<()> {
    let server = Server::shardis(2, &[]);
    let mut connection = rust_client(&server);
    let _: () = connection.set("k1", 41)?;
    let next: i64 = connection.incr("k1", 1)?;
    assert_eq!(next, 42);
    let _: () = connection.mset(&[("k2", "b"), ("k3", "c")])?;
    let values: Vec<Option<String>> = connection.mget(&["k1", "k2", "k3", "none"])?;
    assert_eq!(
        values,
        [Some("42".to_owned()), Some("b".to_owned()), Some("c".to_owned()), None]
    );
    let (a, b): (i64, String) = redis::pipe()
        .incr("k1", 1)
        .ignore()
        .get("k1")
        .get("k2")
        .query(&mut connection)?;
    assert_eq!((a, b.as_str()), (43, "b"));
    // Reads, and writes two keys on different shards, or begins again.
    let (doubled,): (i64,) = redis::transaction(&mut connection, &["k1"], |connection, pipe| {
        let old: i64 = connection.get("k1")?;
        pipe.set("k2", old * 2).ignore().get("k2").query(connection)
    })?;
    assert_eq!(doubled, 86);
    let scanned: Vec<String> = connection.scan()?.collect::<redis::RedisResult<_>>()?;
    assert_eq!(scanned.len(), 3);
    let error = redis::cmd("INCR")
        .arg("k3")
        .query::<i64>(&mut connection)
        .expect_err("it is no number");
    assert!(error.to_string().contains("not an integer"), "{error}");
    Ok(())
}

#[test]
fn the_rust_cluster_client_finds_the_shards() -> redis::RedisResult<()> {
    let server = with_shard_ports();
    let client = redis::cluster::ClusterClient::new(vec![format!("redis://{}/", server.address())])?;
    let mut connection = client.get_connection()?;
    let hops = || total_hops(&server);
    let before = hops();
    for i in 0..500 {
        let _: () = connection.set(format!("key:{i}"), i)?;
    }
    for i in 0..500 {
        let value: i64 = connection.get(format!("key:{i}"))?;
        assert_eq!(value, i);
    }
    assert_eq!(hops() - before, 0, "every request goes to its key's home");
    assert_eq!(server.client().call(&["DBSIZE"]).integer(), 500);
    Ok(())
}

/// Requests that were sent on from one shard to another, over all shards.
fn total_hops(server: &Server) -> u64 {
    let info = server.client().call(&["INFO", "shards"]).text();
    let hops = info
        .split([',', '\r', '\n'])
        .filter_map(|field| field.strip_prefix("hops="));
    hops.map(|count| count.parse::<u64>().expect("a count")).sum()
}

#[test]
fn hops_are_counted() {
    let server = Server::shardis(2, &[]);
    let mut client = server.client();
    let before = total_hops(&server);
    for i in 0..100 {
        client.call(&["SET", &format!("key:{i}"), "v"]);
    }
    assert!(total_hops(&server) > before, "half of the keys are on the other shard");
}

/// What the oracle refuses is refused: a port that is taken ends the second server, with Redis's words.
#[test]
fn a_taken_port_is_refused() {
    let server = Server::shardis(1, &[]);
    let output = Command::new(env!("CARGO_BIN_EXE_shardis"))
        .args([
            "--port",
            &server.port.to_string(),
            "--bind",
            "127.0.0.1",
            "--shards",
            "1",
        ])
        .output()
        .expect("it was built");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains(&format!("Failed listening on port {} (tcp), aborting.", server.port)),
        "{text}"
    );
}

/// SIGTERM ends it, with Redis's last words, in the process that was started.
#[test]
fn sigterm_ends_it() {
    let port = free_port();
    let mut child = Command::new(env!("CARGO_BIN_EXE_shardis"))
        .args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--shards",
            "2",
            "--save",
            "",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it was built");
    eventually("the server answers", || {
        support::Client::connect(port).is_ok_and(|mut client| client.try_call(&["PING"]).is_ok())
    });
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("the child is ours");
    eventually("the server ends", || {
        child.try_wait().expect("the child is ours").is_some()
    });
    let output = child.wait_with_output().expect("it has ended");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("ready to exit, bye bye"), "{text}");
}
