//! What one connection may rely on, seen through real sockets: its commands take effect in their order, whatever their size; what has
//! arrived is run; a transaction takes effect once; time goes on while others are slow; and what it sends has a bound.
//!
//! The testbed (`tests/testbed.rs`) looks for such faults at random; here stands what was once wrong, in the form in which it was seen.

mod support;

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};
use support::client::encode;
use support::{Client, Server, Value, eventually};

const SHARD_COUNTS: [usize; 3] = [1, 2, 4];
const KEY_COUNT: usize = 40;

fn pipeline(commands: &[Vec<Vec<u8>>]) -> Vec<u8> {
    commands.iter().flat_map(|words| encode(words)).collect()
}

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

/// Sends commands at once, and answers their replies.
fn at_once(client: &mut Client, commands: &[Vec<Vec<u8>>]) -> Vec<Value> {
    client.send(&pipeline(commands)).expect("the server reads");
    commands.iter().map(|_| client.reply()).collect()
}

fn lines(client: &mut Client, commands: &[&str]) -> Vec<String> {
    let commands: Vec<_> = commands.iter().map(|line| words(line)).collect();
    at_once(client, &commands).iter().map(Value::text).collect()
}

#[test]
fn a_transaction_that_asks_other_shards_and_reaches_further_runs_once() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        for asks in ["WAIT 0 0", "INFO commandstats", "CLIENT LIST"] {
            let mut client = server.client();
            client.line("FLUSHALL");
            client.line("CONFIG RESETSTAT");
            client.line("RPUSH l 1 2 3 4 5 6");
            for weight in 1..=6 {
                client.line(&format!("SET w_{weight} {}", 7 - weight));
            }
            let before = ["MULTI", "INCR counter", asks, "SORT l BY w_*", "INCR counter"];
            assert!(lines(&mut client, &before)[1..].iter().all(|reply| reply == "QUEUED"));
            let Value::Array(replies) = client.line("EXEC") else {
                panic!("{asks}: no array");
            };
            assert_eq!(
                (replies[0].integer(), replies[3].integer()),
                (1, 2),
                "{asks}, {shards} shards"
            );
            if asks.starts_with("WAIT") {
                assert_eq!(replies[1], Value::Integer(0));
            } else {
                assert!(replies[1].text().contains(if asks.starts_with("INFO") {
                    "cmdstat_incr"
                } else {
                    "cmd=exec"
                }));
            }
            let sorted: Vec<String> = replies[2].items().iter().map(Value::text).collect();
            assert_eq!(sorted, ["6", "5", "4", "3", "2", "1"], "{asks}, {shards} shards");
        }
    }
}

#[test]
fn a_transaction_that_is_run_again_begins_with_the_session_it_had() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        let mut client = server.client();
        for element in 1..=6 {
            client.line(&format!("RPUSH l {element}"));
            client.line(&format!("SET w_{element} {element}"));
        }
        client.line("SELECT 1");
        client.line("RPUSH l 1 2 3 4 5 6");
        for element in 1..=6 {
            client.line(&format!("SET w_{element} {}", 9 - element));
        }
        client.line("SELECT 0");
        client.line("CONFIG RESETSTAT");
        lines(
            &mut client,
            &["MULTI", "SET a 1", "GET a", "SELECT 1", "SORT l BY w_*", "GET nothing"],
        );
        let Value::Array(replies) = client.line("EXEC") else {
            panic!("no array");
        };
        let sorted: Vec<String> = replies[3].items().iter().map(Value::text).collect();
        assert_eq!(sorted, ["6", "5", "4", "3", "2", "1"]);
        assert!(client.line("EXISTS a").integer() == 0, "in db 1");
        client.line("SELECT 0");
        assert_eq!(client.line("GET a").text(), "1");
        // Counted once, however often it was run.
        let stats = client.line("INFO stats").text();
        assert!(stats.contains("keyspace_misses:2\r\n"), "{shards} shards: {stats}");
        let commands = client.line("INFO commandstats").text();
        assert!(
            commands.contains("cmdstat_set:calls=1,") && commands.contains("cmdstat_sort:calls=1,"),
            "{commands}"
        );
    }
}

#[test]
fn large_requests_keep_their_place() {
    let large = vec![b'x'; 20_000];
    for shards in SHARD_COUNTS {
        for order in ["relaxed", "strict"] {
            let server = Server::shardis(shards, &["--pipeline-order", order]);
            let mut client = server.client();
            let key = |number: usize| format!("key:{number}").into_bytes();
            let mut commands = Vec::new();
            for number in 0..KEY_COUNT {
                commands.push(vec![b"SET".to_vec(), key(number), large.clone()]);
                commands.push(vec![b"STRLEN".to_vec(), key(number)]);
                commands.push(vec![b"SET".to_vec(), key(number), b"small".to_vec()]);
                commands.push(vec![b"STRLEN".to_vec(), key(number)]);
            }
            let replies = at_once(&mut client, &commands);
            for four in replies.chunks(4) {
                assert_eq!(
                    (four[1].integer(), four[3].integer()),
                    (20_000, 5),
                    "{shards} shards, {order}"
                );
            }
            for number in 0..KEY_COUNT {
                let key = key(number);
                assert_eq!(client.call(&[b"GET".as_slice(), key.as_slice()]).text(), "small");
            }
        }
    }
}

#[test]
fn what_has_arrived_is_run_though_the_peer_has_closed() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        let mut observer = server.client();
        for number in 0..KEY_COUNT {
            let mut stream = TcpStream::connect(("127.0.0.1", server.port)).expect("it accepts");
            let requests = [
                words(&format!("MSET a:{number} 1 b:{number} 1 c:{number} 1 d:{number} 1")),
                words(&format!("SET last:{number} 1")),
                words("INFO keyspace"),
                words(&format!("SET very-last:{number} 1")),
            ];
            stream.write_all(&pipeline(&requests)).expect("it reads");
            if number % 2 == 0 {
                stream.shutdown(Shutdown::Write).expect("the socket is open");
            }
            drop(stream);
        }
        eventually("all is run", || {
            (0..KEY_COUNT).all(|number| {
                let keys = format!("EXISTS a:{number} d:{number} last:{number} very-last:{number}");
                observer.line(&keys).integer() == 4
            })
        });
    }
}

#[test]
fn half_closed_peers_get_all_their_replies() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        let mut client = server.client();
        let commands: Vec<_> = (0..KEY_COUNT)
            .flat_map(|number| {
                [
                    words(&format!("MSET a:{number} {number} b:{number} {number} c:{number} 1")),
                    words(&format!("MGET a:{number} b:{number}")),
                ]
            })
            .collect();
        client.send(&pipeline(&commands)).expect("it reads");
        client.stream().shutdown(Shutdown::Write).expect("the socket is open");
        for number in 0..KEY_COUNT {
            assert_eq!(client.reply().text(), "OK");
            let values: Vec<String> = client.reply().items().iter().map(Value::text).collect();
            assert_eq!(values, [number.to_string(), number.to_string()]);
        }
        assert!(client.try_reply().is_err(), "then the connection ends");
    }
}

#[test]
fn a_life_begins_when_its_command_runs() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &["--enable-debug-command", "yes"]);
        let mut client = server.client();
        let mut keys = 0;
        for number in 0..4 {
            let replies = lines(
                &mut client,
                &[
                    "DEBUG SLEEP 0.6",
                    &format!("SET key:{number} v PX 500"),
                    &format!("GET key:{number}"),
                ],
            );
            assert_eq!(replies[1], "OK");
            keys += client.line(&format!("EXISTS key:{number}")).integer();
        }
        // One may be lost to a machine that was busy for half a second.
        assert!(keys >= 3, "{shards} shards: {keys} of 4");
    }
}

#[test]
fn what_a_client_sends_ahead_is_bounded() {
    const SENT_BYTES: usize = 64 << 20;
    for shards in [2, 4] {
        let server = Server::shardis(shards, &[]);
        let resident = || {
            let pages = std::fs::read_to_string(format!("/proc/{}/statm", server.pid())).expect("it runs");
            let pages = pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
            pages.expect("Linux tells it") * 4096
        };
        // A transaction that keeps one shard busy for a second or two.
        let mut slow = server.client();
        slow.line("SETRANGE large 50000000 x");
        let began = Instant::now();
        slow.line("BITCOUNT large");
        let count = (2000 / began.elapsed().as_millis().max(1)) as usize + 1;
        let mut transaction = vec![words("MULTI")];
        transaction.extend(vec![words("BITCOUNT large"); count]);
        transaction.push(words("EXEC"));
        let before = resident();
        slow.send(&pipeline(&transaction)).expect("it reads");
        // One client on each shard.
        let streams: Vec<TcpStream> = (0..shards)
            .map(|_| {
                let stream = TcpStream::connect(("127.0.0.1", server.port)).expect("it accepts");
                stream.set_nonblocking(true).expect("a socket can do that");
                stream
            })
            .collect();
        let value = "v".repeat(1000);
        let commands: Vec<_> = (0..50)
            .map(|number| words(&format!("SET key:{number} {value}")))
            .collect();
        let batch = pipeline(&commands);
        let mut places = vec![0; shards];
        let mut sent = 0;
        let deadline = Instant::now() + Duration::from_millis(1500);
        while sent < SENT_BYTES && Instant::now() < deadline {
            let mut is_stuck = true;
            for (mut stream, place) in streams.iter().zip(&mut places) {
                if let Ok(count) = stream.write(&batch[*place..]) {
                    *place = (*place + count) % batch.len();
                    sent += count;
                    is_stuck = false;
                }
            }
            if is_stuck {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let grown = resident().saturating_sub(before);
        assert!(
            grown < 16 << 20,
            "{shards} shards: {sent} bytes were sent, and {grown} are held"
        );
        for _ in 0..=count {
            slow.reply();
        }
        let replies = slow.reply().items();
        assert_eq!(replies.len(), count);
    }
}

#[test]
fn nothing_is_said_under_reply_off_not_even_that_a_command_is_queued() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        let mut client = server.client();
        let silent = [
            "CLIENT REPLY OFF",
            "MULTI",
            "INCR k",
            "nosuch",
            "EXEC",
            "MULTI",
            "INCR k",
            "EXEC",
            "MSET a 1 b 2",
        ];
        let commands: Vec<_> = silent
            .iter()
            .chain(&["CLIENT REPLY ON", "GET k"])
            .map(|line| words(line))
            .collect();
        client.send(&pipeline(&commands)).expect("it reads");
        assert_eq!(client.reply().text(), "OK", "CLIENT REPLY ON");
        assert_eq!(client.reply().text(), "1", "the second transaction");
    }
}

/// A limit below what a shard lets replies wait for: whoever gets beyond it is disconnected, and nobody else waits for that.
#[test]
fn a_small_output_limit_holds_nobody_up() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &["--client-output-buffer-limit", "normal 1kb 0 0"]);
        let mut other = server.client();
        let value = "v".repeat(100);
        for number in 0..KEY_COUNT {
            other.line(&format!("SET key:{number} {value}"));
        }
        for _ in 0..5 {
            let mut client = server.client();
            let commands: Vec<_> = (0..2000)
                .map(|number| words(&format!("GET key:{}", number % KEY_COUNT)))
                .collect();
            // The server may close before it has read everything.
            let _ = client.send(&pipeline(&commands));
            assert_eq!(other.line("PING").text(), "PONG");
            eventually("the client is gone", || {
                other.line("CLIENT LIST").text().lines().count() == 1
            });
        }
    }
}
