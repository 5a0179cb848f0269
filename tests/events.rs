//! Keyspace events, compared with a real server: the same commands go to redis-server, to which a subscription listens, and to the engine
//! in this process on one shard and on two, whose units of work are observed. Each command must lead to the same events of the same keys in
//! the same order.
//!
//! The expected side is redis-server 8.2. Where Redis 7.2 is known to do otherwise, [`AS_IN_7_0`] says so and redis-server 7.0 is asked
//! instead; a line that stands there while both agree is a failure, too. Hash fields that expire have no other authority than 8.2; they are
//! looked at only when the background has deleted them, since redis-server deletes them as well when it meets them, and shardis does not.

mod support;

use shardis::base::clock::Ms;
use shardis::command::FAMILIES;
use shardis::engine::Registry;
use shardis::engine::assembly::Assembly;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use support::{Client, Oracle, Server, Value};

/// All classes, `new` and `keymiss` included.
const CLASSES: &str = "AKEnm";

/// Blocks of commands, each on an empty keyspace. `@wait` lets so many milliseconds pass, `@work` lets what is over be deleted in the
/// background, `@exec` runs the commands behind it in a transaction, `@restore` dumps its second key and restores it as its first.
const SCRIPT: &str = include_str!("support/events.txt");

/// Lines of the script for which 7.0 knows what 7.2 does.
const AS_IN_7_0: &[&str] = &[];

/// Something that runs lines and tells the events of each.
trait Subject {
    fn run(&mut self, words: &[&[u8]]) -> Value;
    fn wait(&mut self, ms: u64);
    fn work(&mut self);
    /// Events since the last call, each with its key.
    fn events(&mut self) -> Vec<String>;

    fn run_line(&mut self, line: &str) {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        match words[0] {
            b"@wait" => self.wait(line["@wait ".len()..].parse().expect("milliseconds")),
            b"@work" => self.work(),
            b"@exec" => {
                self.run(&[b"multi"]);
                for queued in line["@exec ".len()..].split("; ") {
                    self.run_line(queued);
                }
                self.run(&[b"exec"]);
            }
            b"@restore" => {
                let dumped = self.run(&[b"dump", words[2]]);
                let Value::Bulk(dumped) = dumped else {
                    panic!("{line}: DUMP answers {dumped:?}")
                };
                let mut call = vec![&b"restore"[..], words[1], b"0", &dumped];
                call.extend(&words[3..]);
                self.run(&call);
            }
            _ => drop(self.run(&words)),
        }
    }

    /// The events of each line of the script.
    fn tell_all(&mut self) -> Vec<Vec<String>> {
        let mut told = Vec::new();
        for line in lines() {
            if line.is_empty() {
                self.run(&[b"flushall"]);
                self.run(&[b"select", b"0"]);
                self.events();
            } else {
                self.run_line(line);
            }
            told.push(self.events());
        }
        told
    }
}

fn lines() -> impl Iterator<Item = &'static str> {
    SCRIPT.lines().filter(|line| !line.starts_with('#'))
}

/// A server with a subscription to all its events.
struct Listened {
    client: Client,
    subscription: Client,
    marks: usize,
    _server: Server,
}

impl Listened {
    fn start(oracle: Oracle) -> Option<Listened> {
        let options = ["--notify-keyspace-events", CLASSES, "--enable-debug-command", "yes"];
        let server = oracle.start(&options)?;
        let (mut client, mut subscription) = (server.client(), server.client());
        subscription.call(&["psubscribe", "__keyevent@*__:*"]);
        subscription.call(&["subscribe", "mark"]);
        client.call(&["debug", "set-active-expire", "0"]);
        Some(Listened {
            client,
            subscription,
            marks: 0,
            _server: server,
        })
    }
}

impl Subject for Listened {
    fn run(&mut self, words: &[&[u8]]) -> Value {
        self.client.call(words)
    }

    fn wait(&mut self, ms: u64) {
        std::thread::sleep(Duration::from_millis(ms));
    }

    fn work(&mut self) {
        self.client.line("debug set-active-expire 1");
        // It works ten times a second.
        std::thread::sleep(Duration::from_millis(400));
        self.client.line("debug set-active-expire 0");
    }

    fn events(&mut self) -> Vec<String> {
        self.marks += 1;
        let mark = self.marks.to_string();
        // It is sent behind all events that there were.
        self.client.call(&["publish", "mark", &mark]);
        let mut events = Vec::new();
        loop {
            let Value::Array(message) = self.subscription.reply() else {
                panic!("a message is an array")
            };
            let words: Vec<String> = message.iter().map(Value::text).collect();
            match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["message", "mark", number] if number == mark => return events,
                ["pmessage", _, channel, key] => {
                    let (db, event) = channel["__keyevent@".len()..].split_once("__:").expect("its form");
                    events.push(format!("{event} {key}@{db}"));
                }
                _ => panic!("{words:?}"),
            }
        }
    }
}

/// The engine in this process.
struct Observed {
    assembly: Assembly,
    events: Rc<RefCell<Vec<String>>>,
}

impl Observed {
    fn new(shard_count: usize) -> Observed {
        let registry = Box::leak(Box::new(Registry::new(FAMILIES, &[]).expect("no renames")));
        let assembly = Assembly::new(registry, shard_count);
        assembly.run(&[b"config", b"set", b"notify-keyspace-events", CLASSES.as_bytes()]);
        let events = Rc::<RefCell<Vec<String>>>::default();
        for shard in 0..shard_count {
            let events = events.clone();
            assembly.observe(shard, move |unit| {
                let told = unit.consequences.iter().flat_map(|consequences| &consequences.events);
                events.borrow_mut().extend(told.map(|told| {
                    let key = String::from_utf8_lossy(&told.key);
                    format!("{} {key}@{}", told.event.name, told.db.0)
                }));
            });
        }
        Observed { assembly, events }
    }
}

impl Subject for Observed {
    fn run(&mut self, words: &[&[u8]]) -> Value {
        let reply = self.assembly.run(words);
        let (value, _) = support::value::parse(&reply).expect("every command is answered");
        value
    }

    fn wait(&mut self, ms: u64) {
        self.assembly.pass(Ms(ms));
    }

    fn work(&mut self) {
        self.assembly.work();
    }

    fn events(&mut self) -> Vec<String> {
        std::mem::take(&mut self.events.borrow_mut())
    }
}

#[test]
fn events_are_those_of_a_real_server() {
    let (Some(mut newer), Some(mut older)) = (Listened::start(Oracle::Redis82), Listened::start(Oracle::Redis70))
    else {
        return;
    };
    let (newer, older) = (newer.tell_all(), older.tell_all());
    assert!(
        newer.iter().flatten().count() > 200,
        "the subscription has heard events"
    );
    let mut differences = Vec::new();
    for shard_count in [1, 2] {
        let ours = Observed::new(shard_count).tell_all();
        for (index, line) in lines().enumerate() {
            let is_ruled = AS_IN_7_0.contains(&line);
            if is_ruled && newer[index] == older[index] {
                differences.push(format!("{line}: 8.2 says the same as 7.0"));
            }
            let expected = if is_ruled { &older[index] } else { &newer[index] };
            if ours[index] != *expected {
                let (ours, older) = (&ours[index], &older[index]);
                differences.push(format!(
                    "{line} on {shard_count}: {ours:?} instead of {expected:?} (7.0: {older:?})"
                ));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
