//! Publishing and listening, over TCP, at 1, 2 and 4 shards: scenes that real servers play as well, one order of all messages for all who listen,
//! and subscribers who do not read.

mod support;

use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc;
use std::time::Duration;
use support::scenes::scenes;
use support::value::split_words;
use support::{Client, Oracle, PATIENCE, Server, Value, eventually};

const SHARD_COUNTS: [usize; 3] = [1, 2, 4];

/// See there.
const SCENES: &str = include_str!("support/pubsub.txt");

/// Scenes in which 7.0 does otherwise than 7.2 and 8.2: it tells a client of its own doings before it has answered.
const NOT_AS_IN_7_0: &[&str] = &[
    "own messages in RESP3",
    "own shard messages in RESP3",
    "SUBSCRIBE inside EXEC",
    "PUBLISH inside EXEC",
    "classes of events",
];

#[test]
fn scenes_are_played_as_by_a_real_server() {
    let (Some(newer), Some(older)) = (Oracle::Redis82.start(&[]), Oracle::Redis70.start(&[])) else {
        return;
    };
    let scenes = scenes(SCENES);
    let mut differences = Vec::new();
    let mut expected = Vec::new();
    for scene in &scenes {
        let (newer, older) = (scene.play(&newer), scene.play(&older));
        if (newer == older) == NOT_AS_IN_7_0.contains(&scene.name) {
            differences.push(format!("{}: {newer:#?} in 8.2, {older:#?} in 7.0", scene.name));
        }
        expected.push(newer);
    }
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        for (scene, expected) in scenes.iter().zip(&expected) {
            let heard = scene.play(&server);
            for (name, expected) in expected {
                if heard[name] != *expected {
                    differences.push(format!(
                        "{} with {shards} shards: {name} hears\n  {:?}\ninstead of\n  {expected:?}",
                        scene.name, heard[name]
                    ));
                }
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

const PUBLISHER_COUNT: usize = 3;
const MESSAGES_EACH: usize = 200;

/// Publishers write, publish, and hand a token on; each listens to nobody. All who listen hear the same messages in the same order, and when they have one, what
/// its publisher had done before is done.
#[test]
fn all_who_listen_hear_one_order_and_nothing_before_its_cause() {
    for shards in SHARD_COUNTS {
        for options in [&[][..], &["--appendonly", "yes"]] {
            let server = Server::shardis(shards, options);
            let total = PUBLISHER_COUNT * MESSAGES_EACH;
            let subscribers: Vec<_> = (0..4).map(|number| subscriber(&server, number)).collect();
            std::thread::scope(|scope| {
                // The token goes round: whoever has it publishes, then gives it to the next.
                let (senders, receivers): (Vec<_>, Vec<_>) =
                    (0..PUBLISHER_COUNT).map(|_| mpsc::channel::<usize>()).unzip();
                senders[0].send(0).expect("the first one waits");
                for (number, token) in receivers.into_iter().enumerate() {
                    let next = senders[(number + 1) % PUBLISHER_COUNT].clone();
                    let client = server.client();
                    scope.spawn(move || publish(number, client, &token, &next));
                }
                drop(senders);
                let listeners: Vec<_> = subscribers
                    .into_iter()
                    .map(|client| {
                        let reader = server.client();
                        scope.spawn(move || listen(client, reader, total))
                    })
                    .collect();
                let heard: Vec<Vec<String>> = listeners
                    .into_iter()
                    .map(|listener| listener.join().expect("it hears all"))
                    .collect();
                for other in &heard[1..] {
                    assert_eq!(heard[0], *other, "{shards} shards");
                }
                let mut last_token = None;
                let mut last_of = HashMap::new();
                for message in &heard[0] {
                    let numbers: Vec<usize> = message.split(' ').map(|word| word.parse().expect("a number")).collect();
                    let [publisher, number, token] = numbers[..] else {
                        panic!("{message}")
                    };
                    let before = last_of.insert(publisher, number);
                    assert_eq!(
                        before.map_or(0, |before| before + 1),
                        number,
                        "in its publisher's order"
                    );
                    assert!(last_token.is_none_or(|last| last < token), "in the order of the token");
                    last_token = Some(token);
                }
            });
        }
    }
}

/// A client that listens to all channels, in one of the ways in which one can.
fn subscriber(server: &Server, number: usize) -> Client {
    let mut client = if number.is_multiple_of(2) {
        server.client()
    } else {
        server.client_resp3()
    };
    match number {
        0 | 1 => {
            client.line("psubscribe ch:*");
        }
        _ => {
            let channels: Vec<String> = (0..7).map(|number| format!("ch:{number}")).collect();
            let mut words = vec!["subscribe".to_owned()];
            words.extend(channels.iter().cloned());
            client.call(&words);
            channels[1..].iter().for_each(|_| drop(client.reply()));
        }
    }
    client
}

fn publish(number: usize, mut client: Client, token: &mpsc::Receiver<usize>, next: &mpsc::Sender<usize>) {
    for message in 0..MESSAGES_EACH {
        let held = token.recv_timeout(PATIENCE).expect("the token comes round");
        let text = format!("{number} {message} {held}");
        let channel = format!("ch:{}", (number + message) % 7);
        let key = format!("done:{number}");
        let value = message.to_string();
        match message % 3 {
            0 => {
                client.call(&["set", &key, &value]);
                assert_eq!(client.call(&["publish", &channel, &text]).integer(), 4);
            }
            1 => {
                client.line("multi");
                client.call(&["publish", &channel, &text]);
                client.call(&["set", &key, &value]);
                let replies = client.line("exec").items();
                assert_eq!(replies[0].integer(), 4);
            }
            _ => {
                let set = support::client::encode(&["set", &key, &value]);
                let publish = support::client::encode(&["publish", &channel, &text]);
                client.send(&[set, publish].concat()).expect("the server reads");
                client.reply();
                assert_eq!(client.reply().integer(), 4);
            }
        }
        // The last one finds nobody who waits.
        let _ = next.send(held + 1);
    }
}

fn listen(mut client: Client, mut reader: Client, total: usize) -> Vec<String> {
    let mut heard = Vec::with_capacity(total);
    while heard.len() < total {
        let items = client.reply().items();
        let text = items.last().expect("a message has a payload").text();
        if heard.len() % 5 == 0 {
            let (publisher, number) = text.split_once(' ').expect("its form");
            let number = number.split(' ').next().expect("its form");
            let done = reader.call(&["get", &format!("done:{publisher}")]).text();
            let (done, number): (usize, usize) = (done.parse().expect("it is set"), number.parse().expect("a number"));
            assert!(done >= number, "{text}: {done} is done");
        }
        heard.push(text);
    }
    heard
}

/// In RESP3 one client may do all at once: its own messages come behind the replies of what caused them.
#[test]
fn own_messages_come_behind_the_reply_in_a_pipeline() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &["--notify-keyspace-events", "KEA"]);
        let mut client = server.client_resp3();
        client.line("subscribe c");
        client.line("psubscribe __keyevent@0__:*");
        let mut requests = Vec::new();
        for number in 0..50 {
            requests.extend(support::client::encode(&["set", &format!("key:{number}"), "x"]));
            requests.extend(support::client::encode(&["publish", "c", &number.to_string()]));
        }
        client.send(&requests).expect("the server reads");
        let (mut replies, mut sets, mut posts) = (0, 0, 0);
        while sets + posts < 100 {
            match client.reply() {
                Value::Push(items) if items[0].text() == "message" => {
                    assert_eq!(items[2].text(), posts.to_string());
                    posts += 1;
                    assert!(replies >= 2 * posts, "{shards} shards: {posts} before their replies");
                }
                Value::Push(items) => {
                    assert_eq!(items[3].text(), format!("key:{sets}"));
                    sets += 1;
                    assert!(replies >= 2 * sets - 1, "{shards} shards: {sets} before their replies");
                }
                _ => replies += 1,
            }
        }
        while replies < 100 {
            client.reply();
            replies += 1;
        }
    }
}

#[test]
fn what_listens_is_shown() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        let mut clients: Vec<Client> = (0..6).map(|_| server.client()).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.call(&["subscribe", "all"]);
            client.call(&["subscribe", &format!("own:{number}")]);
            client.call(&["psubscribe", "p*"]);
            client.call(&["ssubscribe", "s"]);
        }
        let info = |field: &str| server.info_number(if field == "pubsub_clients" { "clients" } else { "stats" }, field);
        assert_eq!(info("pubsub_channels"), 7);
        assert_eq!(info("pubsub_patterns"), 1);
        assert_eq!(info("pubsubshard_channels"), 1);
        assert_eq!(info("pubsub_clients"), 6);
        let mut other = server.client();
        let list = other.line("client list type pubsub").text();
        assert_eq!(list.lines().count(), 6, "{list}");
        assert!(
            list.lines()
                .all(|line| line.contains(" flags=P ") && line.contains(" sub=2 psub=1 ssub=1 "))
        );
        assert_eq!(other.line("client kill type pubsub").integer(), 6);
        // Those who were killed have left by the time that their connections end.
        clients.iter_mut().for_each(|client| drop(client.rest()));
        eventually("all have left", || info("pubsub_clients") == 0);
        assert_eq!(other.line("publish all x").integer(), 0);
        assert_eq!(
            (
                info("pubsub_channels"),
                info("pubsub_patterns"),
                info("pubsubshard_channels")
            ),
            (0, 0, 0)
        );
    }
}

/// Subscribers who never read end by their limit, and the publisher waits for none of them.
#[test]
fn who_does_not_read_ends_and_holds_nobody_up() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &["--client-output-buffer-limit", "pubsub 1mb 0 0"]);
        let mut deaf: Vec<Client> = (0..8).map(|_| server.client()).collect();
        for client in &mut deaf {
            client.line("subscribe c");
        }
        let mut hears = server.client();
        hears.line("subscribe c");
        let mut publisher = server.client();
        let payload = "x".repeat(64 * 1024);
        let mut published = 0;
        loop {
            let reached = publisher.call(&["publish", "c", &payload]).integer();
            published += 1;
            assert_eq!(hears.reply().items()[2].text().len(), payload.len());
            if reached == 1 {
                break;
            }
            assert!(published < 10_000, "{reached} are still reached");
        }
        assert_eq!(
            server.info_number("stats", "client_output_buffer_limit_disconnections"),
            8
        );
    }
}

/// What is published is no change of the data: replicas are told of it, and a file is not.
#[test]
fn no_file_has_what_was_published() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &["--appendonly", "yes", "--aof-use-rdb-preamble", "no"]);
        let (mut subscriber, mut client) = (server.client(), server.client());
        subscriber.line("subscribe secret-channel");
        client.line("publish secret-channel x");
        client.line("multi");
        client.line("publish secret-channel y");
        client.line("set a-key 1");
        client.line("publish secret-channel z");
        client.line("spublish secret-channel z");
        assert_eq!(client.line("exec").items().len(), 4);
        for text in ["x", "y", "z"] {
            assert_eq!(subscriber.reply().items()[2].text(), text);
        }
        assert_eq!(server.info_number("persistence", "rdb_changes_since_last_save"), 1);
        let files = std::fs::read_dir(server.dir.join("appendonlydir")).expect("it is there");
        let written: Vec<u8> = files
            .flat_map(|file| std::fs::read(file.expect("it can be read").path()).expect("it can be read"))
            .collect();
        let has = |text: &str| written.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(has("a-key") && !has("secret-channel"), "{shards} shards");
    }
}

/// Events that no command leads to: of keys that are evicted, and of those whose time is over while nobody looks.
#[test]
fn what_happens_by_itself_is_told() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(
            shards,
            &[
                "--notify-keyspace-events",
                "Exe",
                "--maxmemory-policy",
                "allkeys-random",
            ],
        );
        let mut subscriber = server.client();
        subscriber.line("psubscribe __keyevent@*__:*");
        let mut client = server.client();
        for number in 0..20 {
            client.line(&format!("set short:{number} x px 1"));
        }
        let mut expired = Vec::new();
        while expired.len() < 20 {
            let items = subscriber.reply().items();
            assert_eq!(items[2].text(), "__keyevent@0__:expired");
            expired.push(items[3].text());
        }
        expired.sort();
        expired.dedup();
        assert_eq!(expired.len(), 20, "each once");
        let used = server.info_number("memory", "used_memory");
        assert_eq!(
            client
                .line(&format!("config set maxmemory {}", used + 1_000_000))
                .text(),
            "OK"
        );
        let value = "x".repeat(10_000);
        for number in 0..300 {
            assert_eq!(client.call(&["set", &format!("key:{number}"), &value]).text(), "OK");
        }
        eventually("keys are evicted", || server.info_number("stats", "evicted_keys") > 0);
        client.line("config set maxmemory 0");
        let items = subscriber.reply().items();
        assert_eq!(items[2].text(), "__keyevent@0__:evicted");
        assert_eq!(client.call(&["exists", &items[3].text()]).integer(), 0);
    }
}

/// Clients come and go while others publish: whoever is answered hears all that is published from then on, and nothing from before.
#[test]
fn who_subscribes_hears_all_from_then_on() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        std::thread::scope(|scope| {
            let (stop, stopped) = mpsc::channel::<()>();
            let mut publisher = server.client();
            scope.spawn(move || {
                let mut number = 0_u64;
                while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
                    publisher.call(&["set", "last", &number.to_string()]);
                    publisher.call(&["publish", "c", &number.to_string()]);
                    number += 1;
                }
            });
            let coming: Vec<_> = (0..3)
                .map(|_| {
                    let (mut client, mut reader) = (server.client(), server.client());
                    scope.spawn(move || {
                        for _ in 0..60 {
                            let before: i64 = reader.line("get last").text().parse().unwrap_or(-1);
                            client.line("subscribe c");
                            let now: i64 = reader.line("get last").text().parse().unwrap_or(-1);
                            let first: i64 = client.reply().items()[2].text().parse().expect("a number");
                            // The one that was under way may still come, and what was published since must.
                            assert!(first >= before && first <= now + 1, "{before}, {now}, then {first}");
                            let second: i64 = client.reply().items()[2].text().parse().expect("a number");
                            assert_eq!(second, first + 1, "none is left out");
                            client
                                .send(&support::client::encode(&["unsubscribe", "c"]))
                                .expect("the server reads");
                            let mut last = second;
                            loop {
                                let items = client.reply().items();
                                if items[0].text() == "unsubscribe" {
                                    break;
                                }
                                let next: i64 = items[2].text().parse().expect("a number");
                                assert_eq!(next, last + 1);
                                last = next;
                            }
                            // Nothing comes behind the answer.
                            assert_eq!(client.line("ping").text(), "PONG");
                        }
                    })
                })
                .collect();
            for one in coming {
                one.join().expect("it hears all");
            }
            stop.send(()).expect("the publisher is there");
        });
    }
}

#[test]
fn ten_thousand_listen() {
    const CLIENT_COUNT: usize = 10_000;
    // Both ends of each connection are descriptors of this machine; the test's own are limited.
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).expect("it is known");
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, limit.1, limit.1);
    let count = CLIENT_COUNT.min(limit.1 as usize / 2);
    let server = Server::shardis(2, &["--maxclients", "11000"]);
    let mut clients: Vec<Client> = (0..count).map(|_| server.client()).collect();
    for client in &mut clients {
        client
            .send(&support::client::encode(&["subscribe", "c"]))
            .expect("the server reads");
    }
    for client in &mut clients {
        assert_eq!(client.reply().items()[0].text(), "subscribe");
    }
    let mut publisher = server.client();
    for number in 0..3 {
        let text = number.to_string();
        assert_eq!(publisher.call(&["publish", "c", &text]).integer(), count as i64);
        for client in &mut clients {
            assert_eq!(client.reply().items()[2].text(), text);
        }
    }
    // Half of them go at once.
    clients.truncate(count / 2);
    eventually("those who are left are counted", || {
        publisher.line("pubsub numsub c").items()[1].integer() == count as i64 / 2
    });
    assert_eq!(publisher.line("publish c x").integer(), count as i64 / 2);
    std::thread::sleep(Duration::from_millis(1));
}

/// What a client that watches all commands is shown, without the times, and with clients in the place of their addresses.
fn watched(server: &Server) -> Vec<String> {
    server.client().line("flushall");
    let mut monitor = server.client();
    assert_eq!(monitor.line("monitor").text(), "OK");
    let mut names = HashMap::new();
    let mut clients: BTreeMap<&str, Client> = BTreeMap::new();
    for line in MONITORED.lines().filter(|line| !line.is_empty()) {
        let (name, command) = line.split_once("> ").expect("a client and a command");
        let client = clients.entry(name).or_insert_with(|| server.client());
        let address = client.stream().local_addr().expect("it is connected").to_string();
        names.insert(address, name);
        client.call(&split_words(command).expect("the quotes are balanced"));
    }
    // It is shown its own commands, too, and none over keys are its own.
    let mut shown = Vec::new();
    for command in ["ping end", "get k", "reset", "get k"] {
        monitor
            .send(&support::client::encode(&split_words(command).expect("words")))
            .expect("the server reads");
        loop {
            let reply = monitor.reply();
            let Value::Simple(line) = &reply else {
                shown.push(reply.to_string());
                break;
            };
            let line = String::from_utf8_lossy(line).into_owned();
            match line.split_once(" [") {
                Some((time, rest)) if time.parse::<f64>().is_ok() => {
                    let (place, words) = rest.split_once("] ").expect("its form");
                    let (db, address) = place.split_once(' ').expect("its form");
                    let name = names.get(address).copied().unwrap_or("monitor");
                    shown.push(format!("[{db} {name}] {words}"));
                }
                _ => {
                    shown.push(line);
                    break;
                }
            }
        }
    }
    // The line of its own PING comes behind the answer to that, and so may the last ones of clients on other shards.
    shown.sort_by_key(|line| (!line.starts_with('['), line.contains("monitor")));
    shown
}

const MONITORED: &str = r#"
a> PING
a> set k "a\x01\n\"b\\"
a> mset a 1 b 2 c 3
a> rename a {t}b
b> get k
a> select 3
b> get missing
a> lpush k x
a> get k
a> multi
a> set a 1
a> select 0
a> get a
a> ping
a> info server
b> set between 1
a> eXec
a> multi
a> get a
a> discard
a> watch x k
a> multi
b> set x 1
a> get k
a> exec
a> multi
a> nosuch
a> exec
a> unwatch
a> auth x
a> auth u p
a> hello 2 auth default x
a> config get maxmemory
a> client id
a> client list
a> nosuch
a> get
a> subscribe x
a> unsubscribe
b> publish a b
b> spublish a b
a> reset
a> command count
a> slowlog len
a> sort k by w_*
a> multi
a> sort {l}ist by w_*
a> set k v
a> exec
a> dbsize
a> scan 0
a> randomkey
a> swapdb 0 1
"#;

#[test]
fn commands_are_shown_as_by_a_real_server() {
    let (Some(newer), Some(older)) = (Oracle::Redis82.start(&[]), Oracle::Redis70.start(&[])) else {
        return;
    };
    let expected = watched(&newer);
    assert_eq!(expected, watched(&older));
    assert!(expected.len() > 40, "{expected:?}");
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        assert_eq!(watched(&server), expected, "{shards} shards");
        // When it has gone, nobody is shown anything.
        assert_eq!(server.client().line("publish x y").integer(), 0);
        let monitor = {
            let mut monitor = server.client();
            monitor.line("monitor");
            let list = server.client().line("client list").text();
            assert!(list.contains(" flags=O "), "{list}");
            monitor
        };
        drop(monitor);
        eventually("it has left", || {
            !server.client().line("client list").text().contains(" flags=O ")
        });
    }
}

/// What all clients do, seen by several who watch: one order, with each client's own in its.
#[test]
fn all_who_watch_see_one_order() {
    for shards in SHARD_COUNTS {
        let server = Server::shardis(shards, &[]);
        let monitors: Vec<Client> = (0..3)
            .map(|_| {
                let mut monitor = server.client();
                monitor.line("monitor");
                monitor
            })
            .collect();
        std::thread::scope(|scope| {
            for writer in 0..3 {
                let mut client = server.client();
                scope.spawn(move || {
                    for number in 0..100 {
                        client.line(&format!("set {writer}:{} {number}", number % 7));
                        client.line(&format!(
                            "mset {writer}:x {number} {writer}:y {number} {writer}:z {number}"
                        ));
                    }
                });
            }
            let readers: Vec<_> = monitors
                .into_iter()
                .map(|mut monitor| {
                    scope.spawn(move || (0..600).map(|_| monitor.reply().text()).collect::<Vec<String>>())
                })
                .collect();
            let seen: Vec<Vec<String>> = readers
                .into_iter()
                .map(|reader| reader.join().expect("it sees all"))
                .collect();
            assert!(seen.iter().all(|lines| *lines == seen[0]), "{shards} shards");
            for writer in 0..3 {
                let own = format!("\" \"{writer}:");
                let own = seen[0].iter().filter(|line| line.contains(&own));
                let numbers: Vec<usize> = own
                    .map(|line| line.rsplit('"').nth(1).expect("a value").parse().expect("a number"))
                    .collect();
                assert_eq!(numbers.len(), 200);
                assert!(numbers.is_sorted(), "{numbers:?}");
            }
        });
    }
}
