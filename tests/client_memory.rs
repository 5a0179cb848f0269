//! What clients take of the server's memory, at the real server with 1, 2 and 4 shards: who is thrown out for it and who is not, what CLIENT
//! LIST says of it, and that a reply beyond the client's limit ends while it is being made.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;
use support::client::encode;
use support::{Client, Server, Value, eventually};

const SHARD_COUNTS: [usize; 3] = [1, 2, 4];

/// The lines of CLIENT LIST by the clients' names, each as its fields.
fn clients(control: &mut Client) -> BTreeMap<String, BTreeMap<String, String>> {
    let list = control.call(&["CLIENT", "LIST"]).text();
    list.lines()
        .map(|line| {
            let fields: BTreeMap<String, String> = line
                .split(' ')
                .filter_map(|field| field.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            (fields["name"].clone(), fields)
        })
        .collect()
}

fn figure(control: &mut Client, name: &str, field: &str) -> usize {
    clients(control)[name][field].parse().expect("a number")
}

fn ok(client: &mut Client, words: &[&str]) {
    let reply = client.call(words);
    assert!(!reply.is_error(), "{words:?}: {reply}");
}

fn named(server: &Server, name: &str) -> Client {
    let mut client = server.client();
    ok(&mut client, &["CLIENT", "SETNAME", name]);
    client
}

/// A client that is never thrown out.
fn control(server: &Server) -> Client {
    let mut client = named(server, "control");
    ok(&mut client, &["CLIENT", "NO-EVICT", "ON"]);
    client
}

#[test]
fn a_client_whose_replies_were_delivered_holds_nothing_of_them() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &["--maxmemory-clients", "10mb"]);
        let mut control = control(&server);
        // By reference, and copied.
        ok(&mut control, &["SET", "string", &"x".repeat(2_000_000)]);
        let element = "e".repeat(1000);
        let mut push = vec!["RPUSH", "list"];
        push.extend(std::iter::repeat_n(element.as_str(), 2000));
        ok(&mut control, &push);
        let mut readers: Vec<Client> = Vec::new();
        for number in 0..12 {
            let mut reader = named(&server, &format!("reader {number}").replace(' ', "-"));
            let words: &[&str] = match number % 2 {
                0 => &["GET", "string"],
                _ => &["LRANGE", "list", "0", "-1"],
            };
            ok(&mut reader, words);
            readers.push(reader);
        }
        // Some rounds of the eviction.
        std::thread::sleep(Duration::from_millis(600));
        let list = clients(&mut control);
        assert_eq!(list.len(), 13, "{shards} shards");
        for (name, fields) in list.iter().filter(|(name, _)| *name != "control") {
            let output = ["obl", "oll", "omem"].map(|field| fields[field].as_str());
            assert_eq!(output, ["0", "0", "0"], "{name} with {shards} shards");
        }
        assert_eq!(server.info_number("stats", "evicted_clients"), 0);
    }
}

/// Ways to hold some megabytes, each with a limit that allows less.
#[test]
fn who_holds_much_is_thrown_out_wherever_he_holds_it() {
    type Holding = (&'static str, fn(&mut Client));
    let ways: [Holding; 5] = [
        ("an argument that is arriving", |client| {
            let mut bytes = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$9000000\r\n".to_vec();
            bytes.resize(4_000_000, b'x');
            let _ = client.send(&bytes);
        }),
        ("arguments of a request that is arriving", |client| {
            let mut bytes = b"*1000001\r\n$5\r\nRPUSH\r\n".to_vec();
            (0..200_000).for_each(|_| bytes.extend_from_slice(b"$10\r\n0123456789\r\n"));
            let _ = client.send(&bytes);
        }),
        ("the queue of MULTI, large arguments", |client| {
            ok(client, &["MULTI"]);
            let value = "x".repeat(100_000);
            (0..40).for_each(|_| ok(client, &["SET", "k", &value]));
        }),
        ("the queue of MULTI, many commands", |client| {
            ok(client, &["MULTI"]);
            let queue: Vec<Vec<&str>> = (0..60_000).map(|_| vec!["INCR", "n"]).collect();
            for part in queue.chunks(5000) {
                client.call_all(part);
            }
        }),
        ("watched keys", |client| {
            let keys: Vec<String> = (0..30_000).map(|number| format!("key:{number:060}")).collect();
            for part in keys.chunks(5000) {
                let mut words = vec!["WATCH"];
                words.extend(part.iter().map(String::as_str));
                ok(client, &words);
            }
        }),
    ];
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        let mut control = control(&server);
        for (way, hold) in ways {
            ok(&mut control, &["CONFIG", "SET", "maxmemory-clients", "0"]);
            let small: Vec<Client> = (0..4)
                .map(|number| named(&server, &format!("small-{number}")))
                .collect();
            let mut large = named(&server, "large");
            hold(&mut large);
            eventually(way, || figure(&mut control, "large", "tot-mem") > 3_000_000);
            ok(&mut control, &["CONFIG", "SET", "maxmemory-clients", "2mb"]);
            eventually(way, || !clients(&mut control).contains_key("large"));
            let left = clients(&mut control).len();
            assert_eq!(left, 1 + small.len(), "{way} with {shards} shards");
        }
        assert_eq!(server.info_number("stats", "evicted_clients"), ways.len() as u64);
    }
}

#[test]
fn the_largest_go_first_and_no_more_of_them_than_needed() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        let mut control = control(&server);
        let mut holding: Vec<Client> = Vec::new();
        // Each is in a class of its own.
        for power in 0..6 {
            let mut client = named(&server, &format!("holds-{power}"));
            let mut bytes = b"*2\r\n$3\r\nGET\r\n$100000000\r\n".to_vec();
            bytes.resize(100_000 << power, b'x');
            client.send(&bytes).expect("nothing is limited yet");
            holding.push(client);
        }
        eventually("all has arrived", || {
            let list = clients(&mut control);
            (0..6).all(|power| list[&format!("holds-{power}")]["qbuf"].parse::<usize>().unwrap() > 99_000 << power)
        });
        let total = |power: usize, control: &mut Client| figure(control, &format!("holds-{power}"), "tot-mem");
        let small: usize = (0..4).map(|power| total(power, &mut control)).sum();
        let limit = small + total(4, &mut control) / 2;
        ok(
            &mut control,
            &["CONFIG", "SET", "maxmemory-clients", &limit.to_string()],
        );
        eventually("the two largest go", || clients(&mut control).len() == 5);
        std::thread::sleep(Duration::from_millis(400));
        let left: Vec<String> = clients(&mut control).into_keys().collect();
        assert_eq!(
            left,
            ["control", "holds-0", "holds-1", "holds-2", "holds-3"],
            "{shards} shards"
        );
    }
}

#[test]
fn the_fields_of_memory_grow_with_what_is_there() {
    let server = Server::shardis(2, &[]);
    let mut control = control(&server);
    let mut client = named(&server, "c");
    let idle = figure(&mut control, "c", "tot-mem");
    client
        .send(b"*3\r\n$3\r\nSET\r\n$100\r\n")
        .and_then(|()| client.send(&[b'k'; 100]))
        .and_then(|()| client.send(b"\r\n$50000\r\n"))
        .and_then(|()| client.send(&[b'v'; 30_000]))
        .expect("the server reads");
    eventually("the value is arriving", || figure(&mut control, "c", "qbuf") == 30_000);
    assert_eq!(figure(&mut control, "c", "argv-mem"), 103);
    assert!(figure(&mut control, "c", "tot-mem") > idle + 30_000);
    client
        .send(&[b'v'; 20_000])
        .and_then(|()| client.send(b"\r\n"))
        .expect("the server reads");
    assert_eq!(client.reply(), Value::Simple(b"OK".to_vec()));
    assert_eq!(
        (figure(&mut control, "c", "qbuf"), figure(&mut control, "c", "argv-mem")),
        (0, 0)
    );

    ok(&mut client, &["WATCH", "a", "b", "c"]);
    assert_eq!(figure(&mut control, "c", "watch"), 3);
    ok(&mut client, &["MULTI"]);
    ok(&mut client, &["SET", "a", "1234567"]);
    // The bytes, and a word for each argument.
    assert_eq!(figure(&mut control, "c", "multi-mem"), 11 + 3 * 8);
    ok(&mut client, &["DISCARD"]);
    assert_eq!(
        (
            figure(&mut control, "c", "watch"),
            figure(&mut control, "c", "multi-mem")
        ),
        (0, 0)
    );

    // Nobody reads: what the socket does not take is with the server.
    ok(&mut control, &["SET", "large", &"x".repeat(1_000_000)]);
    let get = encode(&["GETRANGE", "large", "0", "9999"]);
    client.send(&get.repeat(2000)).expect("the server reads");
    eventually("the output waits", || figure(&mut control, "c", "omem") > 5_000_000);
    let fields = &clients(&mut control)["c"];
    let number = |field: &str| fields[field].parse::<usize>().unwrap();
    assert!(number("oll") > 100 && number("tot-mem") > number("omem"), "{fields:?}");
    assert!(number("rbp") > 5000, "{fields:?}");
    for _ in 0..2000 {
        client.reply();
    }
    eventually("nothing waits", || {
        let fields = &clients(&mut control)["c"];
        ["obl", "oll", "omem"].iter().all(|field| fields[*field] == "0")
    });
}

#[test]
fn an_idle_client_gives_its_buffers_back_unless_the_cron_is_paused() {
    let server = Server::shardis(2, &["--enable-debug-command", "yes"]);
    let mut control = control(&server);
    ok(&mut control, &["DEBUG", "PAUSE-CRON", "1"]);
    let mut client = named(&server, "c");
    let mut bytes = b"*2\r\n$3\r\nGET\r\n$500000\r\n".to_vec();
    bytes.resize(100_000, b'x');
    client.send(&bytes).expect("the server reads");
    eventually("the argument is arriving", || {
        figure(&mut control, "c", "qbuf") > 99_000
    });
    // The time after which buffers of idle clients are given back is 2 s.
    std::thread::sleep(Duration::from_millis(3500));
    assert!(
        figure(&mut control, "c", "qbuf-free") > 300_000,
        "there is room for all of it"
    );
    ok(&mut control, &["DEBUG", "PAUSE-CRON", "0"]);
    eventually("the room is given back", || {
        figure(&mut control, "c", "qbuf-free") < 4096
    });
    eventually("and that of the replies", || figure(&mut control, "c", "rbs") <= 1024);
    client
        .send(&vec![b'x'; 500_000 + 24 - 100_000 - 2])
        .expect("the server reads");
    client.send(b"\r\n").expect("the server reads");
    assert_eq!(client.reply(), Value::Nil, "nothing of it was lost");
}

#[test]
fn a_reply_ends_where_the_limit_of_its_client_is() {
    let commands: [&[&str]; 6] = [
        &["HRANDFIELD", "hash", "-999999999"],
        &["HRANDFIELD", "hash", "-999999999", "WITHVALUES"],
        &["SRANDMEMBER", "set", "-999999999"],
        &["ZRANDMEMBER", "sorted", "-999999999"],
        &["ZRANDMEMBER", "sorted", "-999999999", "WITHSCORES"],
        &["LRANGE", "list", "0", "-1"],
    ];
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &["--client-output-buffer-limit", "normal 256kb 0 0"]);
        let mut control = control(&server);
        // With several tags the keys lie on other shards than the connections too.
        let tags: Vec<String> = (0..shards).map(|number| format!("{{{number}}}")).collect();
        for tag in &tags {
            ok(
                &mut control,
                &["HSET", &format!("hash{tag}"), "field", "value", "number", "1"],
            );
            ok(&mut control, &["SADD", &format!("set{tag}"), "member", "7"]);
            ok(
                &mut control,
                &["ZADD", &format!("sorted{tag}"), "1.5", "member", "2", "7"],
            );
            let mut push = vec!["RPUSH".to_owned(), format!("list{tag}")];
            push.extend((0..4_000).map(|number| format!("{number:0100}")));
            assert!(!control.call(&push).is_error());
        }
        let with_tag = |command: &[&str], tag: &str| -> Vec<String> {
            let mut words: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
            words[1].push_str(tag);
            words
        };
        let mut disconnected = 0;
        for command in commands {
            for tag in &tags {
                let words = with_tag(command, tag);
                let mut alone = server.client();
                assert!(alone.try_call(&words).is_err(), "{words:?} with {shards} shards");
                let mut in_exec = server.client();
                ok(&mut in_exec, &["MULTI"]);
                for _ in 0..3 {
                    assert!(!in_exec.call(&words).is_error());
                }
                assert!(
                    in_exec.try_call(&["EXEC"]).is_err(),
                    "{words:?} in EXEC with {shards} shards"
                );
                disconnected += 2;
                // Its reply is dropped, so there is nothing to be thrown out for.
                let mut silent = server.client();
                silent
                    .send(&encode(&["CLIENT", "REPLY", "OFF"]))
                    .expect("the server reads");
                silent.send(&encode(&words)).expect("the server reads");
                silent
                    .send(&encode(&["CLIENT", "REPLY", "ON"]))
                    .expect("the server reads");
                assert_eq!(
                    silent.reply(),
                    Value::Simple(b"OK".to_vec()),
                    "{words:?} with {shards} shards"
                );
            }
        }
        assert_eq!(
            server.info_number("stats", "client_output_buffer_limit_disconnections"),
            disconnected
        );
        let peak = server.info_number("memory", "used_memory_peak");
        assert!(peak < 200_000_000, "{shards} shards: {peak} bytes");
        // Whatever fits is whole.
        let words = with_tag(&["HRANDFIELD", "hash", "-5000"], &tags[0]);
        assert_eq!(control.call(&words).items().len(), 5_000, "{shards} shards");
    }
}
