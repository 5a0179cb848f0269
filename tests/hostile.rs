//! What strangers and accidents do to a server: noise, absurd lengths, clients that never read, never finish, or die in the
//! middle of everything.
//!
//! Each assault runs against the real server on 1, 2 and 4 shards, and each ends in the same way ([`Siege::check`]): the
//! server lives and answers others, its clients are gone from its books, and their memory has come back. Where Redis has
//! words for it, the words are compared with those of `redis-server`.
//!
//! Chance is seeded: a failure repeats itself.

mod support;

use fastrand::Rng;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::client::encode;
use support::{Client, Oracle, Server, eventually};

/// What may remain of an assault: buffers that grew and are kept, pages of the allocator. Each of them moves much more.
const REMAINDER_BYTES: u64 = 6 << 20;

/// A server, and what it was like before the assault.
struct Siege {
    server: Server,
    /// Somebody who does nothing wrong, and must not notice.
    bystander: Client,
    used_bytes: u64,
}

impl Siege {
    fn new(server: Server) -> Siege {
        let mut bystander = server.client();
        bystander.line("SET bystander here");
        let used_bytes = used_bytes(&mut bystander);
        Siege {
            server,
            bystander,
            used_bytes,
        }
    }

    /// A connection with nothing on top.
    fn stranger(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.server.port)).expect("the server takes connections");
        stream.set_nodelay(true).expect("it is a TCP socket");
        stream
            .set_read_timeout(Some(support::PATIENCE))
            .expect("it is not zero");
        stream
            .set_write_timeout(Some(support::PATIENCE))
            .expect("it is not zero");
        stream
    }

    /// The bystander is served: by the shard of its connection and by all others.
    #[track_caller]
    fn others_are_served(&mut self) {
        assert_eq!(self.bystander.line("GET bystander").text(), "here");
        assert_eq!(self.bystander.line("MGET a b c bystander").items()[3].text(), "here");
    }

    /// The assault is over: everything is as it was before.
    #[track_caller]
    fn check(mut self) {
        assert!(self.server.is_running(), "the server has ended:\n{}", self.server.log());
        self.others_are_served();
        let bystander = &mut self.bystander;
        eventually("all clients but one are gone", || {
            info(bystander, "clients", "connected_clients") == 1
        });
        eventually("the server does what it is asked", || {
            bystander.line("FLUSHALL").text() == "OK" && bystander.line("SET bystander here").text() == "OK"
        });
        let limit = self.used_bytes + REMAINDER_BYTES;
        eventually("the memory comes back", || used_bytes(bystander) <= limit);
        assert_eq!(bystander.line("DBSIZE").integer(), 1);
    }
}

fn info(client: &mut Client, section: &str, field: &str) -> u64 {
    let text = client.call(&["INFO", section]).text();
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .unwrap_or_else(|| panic!("INFO {section} has no {field}"));
    value.parse().expect("it is a number")
}

fn used_bytes(client: &mut Client) -> u64 {
    info(client, "memory", "used_memory")
}

/// Runs an assault on each number of shards.
fn besiege(options: &[&str], assault: impl Fn(&mut Siege)) {
    for shards in [1, 2, 4] {
        let mut siege = Siege::new(Server::shardis(shards, options));
        assault(&mut siege);
        siege.check();
    }
}

/// Ends a connection as a process that is killed ends it with unread data: with a reset.
fn reset(stream: TcpStream) {
    let linger = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(&stream, sockopt::Linger, &linger).expect("it is a socket");
}

/// Sends, and takes it as no fault of the server if it has hung up already.
fn send(stream: &mut TcpStream, bytes: &[u8]) {
    match stream.write_all(bytes) {
        Err(error) if !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
            panic!("the server does not read: {error}")
        }
        _ => {}
    }
}

/// Everything that comes up to the end of the stream; a reset is an end, a server that neither answers nor ends is not.
fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("the connection does not end: {error}"),
        _ => rest,
    }
}

/// What the server says to these bytes and nothing after them.
fn answer(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the server takes connections");
    stream
        .set_read_timeout(Some(support::PATIENCE))
        .expect("it is not zero");
    send(&mut stream, bytes);
    // It may have hung up already.
    let _ = stream.shutdown(Shutdown::Write);
    rest(&mut stream)
}

/// What a client sends that means well: the noise is made of it.
fn well_formed() -> Vec<Vec<u8>> {
    let lines = [
        "PING",
        "SET k v",
        "GET k",
        "MGET a b c d e",
        "MSET a 1 b 2 c 3",
        "DEL a b c",
        "MULTI",
        "EXEC",
        "DISCARD",
        "WATCH a b",
        "INCR n",
        "APPEND k x",
        "SETRANGE k 100 x",
        "GETRANGE k 0 -1",
        "SCAN 0",
        "KEYS *",
        "RENAME a b",
        "COPY b c",
        "HELLO 3",
        "HELLO 2",
        "SELECT 3",
        "CLIENT LIST",
        "CLIENT REPLY SKIP",
        "COMMAND COUNT",
        "EXPIRE a 1",
        "OBJECT ENCODING a",
        "DUMP a",
        "RESTORE r 0 x",
        "LCS a b",
        "SWAPDB 0 1",
        "RANDOMKEY",
        "DBSIZE",
        "CONFIG GET *",
        "INFO",
        "RESET",
        "TYPE a",
        "WAIT 0 0",
        "TIME",
        "ECHO x",
    ];
    lines
        .iter()
        .map(|line| encode(&line.split(' ').collect::<Vec<_>>()))
        .collect()
}

/// Spoils a few bytes.
fn spoil(bytes: &mut Vec<u8>, random: &mut Rng) {
    for _ in 0..random.usize(1..6) {
        let at = random.usize(0..=bytes.len());
        match random.u8(0..6) {
            0 => bytes.insert(at, random.u8(..)),
            1 => bytes.truncate(at),
            2 if at < bytes.len() => bytes[at] = random.u8(..),
            3 if at < bytes.len() => bytes[at] ^= 1 << random.u8(0..8),
            4 => {
                let words: [&[u8]; 8] = [
                    b"\r\n",
                    b"*",
                    b"$",
                    b"-1",
                    b"*3\r\n",
                    b"$99999999999999999999\r\n",
                    b"\0",
                    b"*1048577\r\n",
                ];
                let word = words[random.usize(0..words.len())];
                bytes.splice(at..at, word.iter().copied());
            }
            _ => {
                let end = random.usize(at..=bytes.len());
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
        }
    }
}

#[test]
fn noise() {
    const CONNECTIONS: usize = 400;
    let corpus = well_formed();
    besiege(&[], |siege| {
        let mut random = Rng::with_seed(17);
        for round in 0..CONNECTIONS {
            let mut bytes: Vec<u8> = if random.u8(0..4) == 0 {
                (0..random.usize(1..2000)).map(|_| random.u8(..)).collect()
            } else {
                (0..random.usize(1..20))
                    .flat_map(|_| corpus[random.usize(0..corpus.len())].clone())
                    .collect()
            };
            spoil(&mut bytes, &mut random);
            let mut stream = siege.stranger();
            send(&mut stream, &bytes);
            if random.bool() {
                // Said to the end: an answer to each request, an error, and the end of the stream.
                let _ = stream.shutdown(Shutdown::Write);
                rest(&mut stream);
            } else {
                reset(stream);
            }
            if round % 50 == 0 {
                siege.bystander.line("SET bystander here");
                siege.others_are_served();
            }
        }
        // Noise may have moved it into another db.
        siege.bystander.line("FLUSHALL");
        siege.bystander.line("SET bystander here");
    });
}

#[test]
fn absurd_lengths_and_garbage_get_the_words_of_redis() {
    let long_line = vec![b'x'; 70_000];
    let inputs: Vec<Vec<u8>> = [
        &b"*2147483647\r\n"[..],
        b"*2147483648\r\n",
        b"*99999999999999999999\r\n",
        b"*-2147483648\r\n",
        b"*-1\r\nPING\r\n",
        b"*0\r\nPING\r\n",
        b"*\r\nPING\r\n",
        b"*abc\r\n",
        b"*1 \r\n$4\r\nPING\r\n",
        b"*1\r\n$9999999999\r\n",
        b"*1\r\n$536870913\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$-9223372036854775808\r\n",
        b"*1\r\n$18446744073709551616\r\n",
        b"*1\r\n$\r\n",
        b"*1\r\n$4x\r\nPING\r\n",
        b"*1\r\n:4\r\nPING\r\n",
        b"*1\r\nPING\r\n",
        b"*2\r\n$4\r\nPING\r\n*1\r\n",
        b"*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n",
        b"*1\r\n$0\r\n\r\nPING\r\n",
        b"PING \"unbalanced\r\n",
        b"PING 'x'y\r\n",
        b"PING \"x\"y\r\n",
        b"\"\" PING\r\n",
        b"PING\nPING\r\n\r\n\n \r\nPING a\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n",
        b"\0\0\0\0\r\nPING\r\n",
        b"GET / HTTP/1.1\r\nAccept: */*\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nPING\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 6\r\n\r\nPING\r\n",
        b"PING\r\nQUIT\r\nPING\r\n",
        b"$4\r\nPING\r\n",
        b"+OK\r\n",
        b"\xff\xfe\xfd\r\n",
    ]
    .iter()
    .map(|input| input.to_vec())
    .chain([
        long_line,
        [b"*".to_vec(), vec![b'1'; 70_000]].concat(),
        [b"*1\r\n$".to_vec(), vec![b'1'; 70_000]].concat(),
    ])
    .collect();
    let Some(redis) = Oracle::Redis70.start(&[]) else {
        return;
    };
    let expected: Vec<Vec<u8>> = inputs.iter().map(|input| answer(redis.port, input)).collect();
    besiege(&[], |siege| {
        for (input, expected) in inputs.iter().zip(&expected) {
            let found = answer(siege.server.port, input);
            assert_eq!(
                found.escape_ascii().to_string(),
                expected.escape_ascii().to_string(),
                "to {}",
                input[..input.len().min(80)].escape_ascii()
            );
        }
    });
}

#[test]
fn who_asks_and_never_reads_is_closed() {
    const VALUE_BYTES: usize = 200_000;
    let limit = ["--client-output-buffer-limit", "normal 4mb 0 0"];
    besiege(&limit, |siege| {
        let value = "v".repeat(VALUE_BYTES);
        siege.bystander.call(&["SET", "big", &value]);
        let (large, small) = (encode(&["GET", "big"]), encode(&["PING", &value[..100]]));
        // Both of a kind, on each shard: large replies, which are sent by reference, and many small ones.
        let mut strangers: Vec<TcpStream> = (0..8).map(|_| siege.stranger()).collect();
        for (index, stream) in strangers.iter_mut().enumerate() {
            let request = if index % 2 == 0 { &large } else { &small };
            let count = 32 << 20 >> if index % 2 == 0 { 17 } else { 7 };
            let block = request.repeat(100);
            for _ in 0..count / 100 {
                if stream.write_all(&block).is_err() {
                    break;
                }
            }
            siege.others_are_served();
        }
        let bystander = &mut siege.bystander;
        eventually("all that do not read are closed", || {
            info(bystander, "clients", "connected_clients") == 1
        });
        assert_eq!(info(bystander, "stats", "client_output_buffer_limit_disconnections"), 8);
    });
}

#[test]
fn unread_replies_without_a_limit_go_with_their_client() {
    besiege(&[], |siege| {
        let value = "v".repeat(500_000);
        siege.bystander.call(&["SET", "big", &value]);
        let mut stream = siege.stranger();
        send(&mut stream, &encode(&["GET", "big"]).repeat(20));
        send(&mut stream, &encode(&["ECHO", &value[..100_000]]).repeat(100));
        siege.others_are_served();
        reset(stream);
    });
}

#[test]
fn requests_that_never_end_are_bounded() {
    besiege(&["--client-query-buffer-limit", "1mb"], |siege| {
        let mut announced = siege.stranger();
        send(&mut announced, b"*2\r\n$4\r\nECHO\r\n$100000000\r\n");
        let block = vec![b'x'; 64 * 1024];
        for _ in 0..100 {
            if announced.write_all(&block).is_err() {
                break;
            }
        }
        assert_eq!(rest(&mut announced), b"");
        // Only announced, 50 GB in all: little is set aside for what has not come.
        let announcing: Vec<TcpStream> = (0..100)
            .map(|_| {
                let mut stream = siege.stranger();
                send(&mut stream, b"*1048576\r\n$536870912\r\nx");
                stream
            })
            .collect();
        siege.others_are_served();
        let bystander = &mut siege.bystander;
        eventually("all are there", || {
            info(bystander, "clients", "connected_clients") == 101
        });
        let used = used_bytes(bystander);
        assert!(used < siege.used_bytes + (200 << 20), "{used} bytes for announcements");
        announcing.into_iter().for_each(reset);
    });
}

#[test]
fn thousands_connect_and_reset() {
    const ROUNDS: usize = 30;
    const CONNECTIONS: usize = 100;
    besiege(&[], |siege| {
        let mut random = Rng::with_seed(4);
        for _ in 0..ROUNDS {
            let mut strangers: Vec<TcpStream> = (0..CONNECTIONS).map(|_| siege.stranger()).collect();
            for stream in &mut strangers {
                match random.u8(0..4) {
                    0 => {}
                    1 => send(stream, b"PING\r\nPING\r\n"),
                    2 => send(stream, &encode(&["MSET", "a", "1", "b", "2", "c", "3"])),
                    _ => send(stream, b"*3\r\n$3\r\nSET\r\n$1\r\nk"),
                }
            }
            random.shuffle(&mut strangers);
            for stream in strangers {
                if random.bool() {
                    reset(stream);
                }
            }
            siege.others_are_served();
        }
    });
}

#[test]
fn clients_die_in_the_middle_of_everything() {
    const ROUNDS: usize = 60;
    besiege(&[], |siege| {
        let mut random = Rng::with_seed(5);
        for round in 0..ROUNDS {
            let text = round.to_string();
            let endings: [Vec<u8>; 8] = [
                // A request, cut anywhere.
                {
                    let bytes = encode(&["SET", "half", &"x".repeat(2000)]);
                    bytes[..random.usize(1..bytes.len())].to_vec()
                },
                // A transaction that never comes to its EXEC.
                [
                    encode(&["MULTI"]),
                    encode(&["SET", "never", "1"]),
                    encode(&["INCR", "never2"]),
                ]
                .concat(),
                // One that does, over all shards: all of it happens or nothing.
                [
                    encode(&["WATCH", "watched", "x", "y"]),
                    encode(&["MULTI"]),
                    encode(&["MSET", "pair{1}", &text, "pair{2}", &text, "pair{3}", &text]),
                    encode(&["EXEC"]),
                ]
                .concat(),
                // A pipeline over all shards.
                (0..200)
                    .flat_map(|i| encode(&["SET", &format!("key:{i}"), &text]))
                    .collect(),
                // Multi-shard units of work, one after the other.
                (0..50)
                    .flat_map(|i| {
                        encode(&[
                            "MSET",
                            &format!("a{i}"),
                            "1",
                            &format!("b{i}"),
                            "2",
                            &format!("c{i}"),
                            "3",
                        ])
                    })
                    .collect(),
                // Waiting for something that does not come.
                encode(&["WAIT", "1", "0"]),
                // Asynchronous ones, which answer after the client is gone. All of what has arrived is run, so there are few.
                [
                    encode(&["CLIENT", "LIST"]),
                    encode(&["INFO", "everything"]),
                    encode(&["DBSIZE"]),
                ]
                .concat()
                .repeat(5),
                // Replies that are on their way.
                encode(&["KEYS", "*"]).repeat(10),
            ];
            let strangers: Vec<TcpStream> = endings
                .iter()
                .map(|bytes| {
                    let mut stream = siege.stranger();
                    send(&mut stream, bytes);
                    stream
                })
                .collect();
            for stream in strangers {
                if random.u8(0..4) == 0 {
                    drop(stream);
                } else {
                    reset(stream);
                }
            }
            let pair = siege.bystander.line("MGET pair{1} pair{2} pair{3}").items();
            assert!(pair[0] == pair[1] && pair[1] == pair[2], "half a transaction: {pair:?}");
        }
        siege.others_are_served();
        assert_eq!(siege.bystander.line("EXISTS never never2 half").integer(), 0);
    });
}

#[test]
fn client_processes_are_killed() {
    besiege(&[], |siege| {
        let port = siege.server.port.to_string();
        for round in 0..6 {
            let mut child = Command::new("redis-benchmark")
                .args([
                    "-p",
                    &port,
                    "-n",
                    "100000000",
                    "-r",
                    "1000",
                    "-P",
                    "16",
                    "-c",
                    "20",
                    "-d",
                    "100",
                    "-t",
                    "set,mset",
                ])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("redis-benchmark is installed (apt install redis-tools)");
            let before = info(&mut siege.bystander, "stats", "total_commands_processed");
            let bystander = &mut siege.bystander;
            eventually("the load comes", || {
                info(bystander, "stats", "total_commands_processed") > before + 1000 * (round + 1)
            });
            child.kill().expect("it is ours");
            child.wait().expect("it is ours");
            siege.others_are_served();
        }
    });
}

#[test]
fn requests_come_in_pieces() {
    let requests = [
        &b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nva\r\nl\r\n"[..],
        b"GET k\r\n",
        b"*1\r\n$5\r\nMULTI\r\n*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n*1\r\n$4\r\nEXEC\r\n",
        b"\r\n*4\r\n$4\r\nMGET\r\n$1\r\nk\r\n$1\r\nx\r\n$1\r\ny\r\n",
        b"SET \"quoted key\" 'v'\r\n*2\r\n$3\r\nDEL\r\n$10\r\nquoted key\r\n*2\r\n$3\r\nDEL\r\n$1\r\nn\r\n",
    ]
    .concat();
    let expected = b"+OK\r\n$5\r\nva\r\nl\r\n+OK\r\n+QUEUED\r\n*1\r\n:1\r\n*3\r\n$5\r\nva\r\nl\r\n$-1\r\n$-1\r\n+OK\r\n:1\r\n:1\r\n";
    besiege(&[], |siege| {
        // In two pieces, cut at every byte, with another client in between.
        for cut in 1..requests.len() {
            let mut stream = siege.stranger();
            send(&mut stream, &requests[..cut]);
            siege.others_are_served();
            send(&mut stream, &requests[cut..]);
            let mut found = vec![0; expected.len()];
            stream.read_exact(&mut found).expect("all is answered");
            assert_eq!(
                found.escape_ascii().to_string(),
                expected.escape_ascii().to_string(),
                "cut at {cut}"
            );
        }
        // Byte by byte.
        let mut stream = siege.stranger();
        for byte in &requests {
            send(&mut stream, &[*byte]);
        }
        let mut found = vec![0; expected.len()];
        stream.read_exact(&mut found).expect("all is answered");
        assert_eq!(found, expected);
    });
}

#[test]
fn redis_cli_pipes_to_the_end() {
    besiege(&[], |siege| {
        let mut pipe = Command::new("redis-cli")
            .args(["-p", &siege.server.port.to_string(), "--pipe"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-cli is installed (apt install redis-tools)");
        let mut input = pipe.stdin.take().expect("it was asked for");
        for i in 0..1000 {
            let bytes = encode(&["SET", &format!("key:{i}"), &"v".repeat(i)]);
            input.write_all(&bytes).expect("redis-cli reads");
        }
        drop(input);
        let output = pipe.wait_with_output().expect("it ends");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("errors: 0, replies: 1000"), "{text}");
    });
}

#[test]
fn slow_clients_harm_nobody_and_time_out() {
    const CONNECTIONS: usize = 200;
    besiege(&[], |siege| {
        let request = encode(&["SET", "slow", "value"]);
        let mut strangers: Vec<TcpStream> = (0..CONNECTIONS).map(|_| siege.stranger()).collect();
        for byte in &request[..request.len() - 1] {
            for stream in &mut strangers {
                send(stream, &[*byte]);
            }
            siege.others_are_served();
        }
        // Half of them finish, and are served.
        let mut finished = strangers.split_off(CONNECTIONS / 2);
        for stream in &mut finished {
            send(stream, b"\n");
            let mut reply = [0; 5];
            stream.read_exact(&mut reply).expect("it is answered");
            assert_eq!(&reply, b"+OK\r\n");
        }
        siege.bystander.line("CONFIG SET timeout 1");
        // The bystander is never idle for long.
        let bystander = &mut siege.bystander;
        eventually("the idle ones are closed", || {
            info(bystander, "clients", "connected_clients") == 1
        });
        for mut stream in strangers.into_iter().chain(finished) {
            assert_eq!(rest(&mut stream), b"");
        }
    });
}

/// Fewer descriptors than `maxclients` needs: the limit is lowered at the start, and beyond it there is Redis's error.
#[test]
fn more_clients_than_descriptors() {
    const TOO_MANY: &[u8] = b"-ERR max number of clients reached\r\n";
    for shards in [1, 2, 4] {
        let few = || Ok(setrlimit(Resource::RLIMIT_NOFILE, 150, 150)?);
        let mut siege = Siege::new(Server::shardis_after(shards, &[], few));
        let log = siege.server.log();
        assert!(log.contains("maxclients has been reduced to"), "{log}");
        let maxclients = siege.bystander.line("CONFIG GET maxclients").items()[1].text();
        let maxclients: usize = maxclients.parse().expect("it is a number");
        assert!(maxclients < 150, "{maxclients}");
        for _ in 0..3 {
            let mut strangers: Vec<Client> = (1..maxclients).map(|_| siege.server.client()).collect();
            for stranger in &mut strangers {
                assert_eq!(stranger.line("PING").text(), "PONG");
            }
            for _ in 0..50 {
                assert_eq!(rest(&mut siege.stranger()), TOO_MANY);
            }
            siege.others_are_served();
            drop(strangers);
            let bystander = &mut siege.bystander;
            eventually("they are gone", || info(bystander, "clients", "connected_clients") == 1);
        }
        let refused = siege.bystander.line("CONFIG SET maxclients 100000").text();
        assert!(
            refused.contains("not able to handle the specified number of clients"),
            "{refused}"
        );
        siege.check();
    }
}

/// No descriptor left at all, which `maxclients` cannot prevent when something else has taken them: the server waits, does
/// not spin, and goes on when there are some again.
#[test]
fn no_descriptors_left() {
    for shards in [1, 2, 4] {
        let few_and_taken = || {
            setrlimit(Resource::RLIMIT_NOFILE, 250, 250)?;
            for _ in 0..100 {
                // SAFETY: a plain system call.
                unsafe { nix::libc::dup(0) };
            }
            Ok(())
        };
        let mut siege = Siege::new(Server::shardis_after(shards, &[], few_and_taken));
        let strangers: Vec<TcpStream> = (0..150).map(|_| siege.stranger()).collect();
        let mut log = String::new();
        let server = &siege.server;
        eventually("it says so", || {
            log = server.log();
            log.contains("Accepting client connection: ") && log.contains("Too many open files")
        });
        siege.others_are_served();
        // It neither spins nor fills the log while nothing changes.
        let (cpu, lines, began) = (cpu_ticks(siege.server.pid()), log.lines().count(), Instant::now());
        std::thread::sleep(Duration::from_millis(500));
        let elapsed = began.elapsed().as_secs_f64();
        let spent = (cpu_ticks(siege.server.pid()) - cpu) as f64 / 100.0;
        assert!(spent < elapsed / 2.0, "{spent} s of CPU in {elapsed} s of waiting");
        let lines = siege.server.log().lines().count() - lines;
        assert!(lines < 200, "{lines} lines of log in {elapsed} s");
        drop(strangers);
        let mut late = siege.server.client();
        assert_eq!(late.line("PING").text(), "PONG");
        drop(late);
        siege.check();
    }
}

/// User and system time of a process, in hundredths of a second (proc_pid_stat(5)).
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, fields) = stat.rsplit_once(") ").expect("the name is in parentheses");
    let fields: Vec<u64> = fields
        .split(' ')
        .skip(11)
        .take(2)
        .map(|field| field.parse().expect("it is a number"))
        .collect();
    fields.iter().sum()
}
