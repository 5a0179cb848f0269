//! Our literals against a real redis-server's COMMAND INFO: arity, flags, first/last/step, ACL categories, tips and key
//! specs of every command and subcommand that both have.
//!
//! The server at hand is older (7.0) than what we follow (7.2), so differences that 7.2 made stand in a list here, each
//! with its reason; whatever is not in the list must agree, and whatever is in the list must differ. Without a
//! redis-server on this host there is nothing to compare with, and the test says so.

mod support;

use shardis::command::introspection::reply_info;
use shardis::command::{FAMILIES, Registry};
use shardis::resp::{Proto, Reply, ReplyBuf};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What differs on purpose: command, field, and why.
const INTENDED: &[(&str, &str, &str)] = &[
    ("client|setname", "tips", "7.2 tells proxies to send it to all nodes"),
    ("cluster|shards", "flags", "7.2 answers it while loading"),
    ("cluster|slots", "flags", "7.2 answers it while loading"),
    (
        "command|getkeys",
        "arity",
        "7.2 takes a command without arguments, to say that it has no keys",
    ),
    ("command|getkeysandflags", "arity", "as command|getkeys"),
    (
        "msetnx",
        "tips",
        "7.2 has taken its routing tips away: MSETNX cannot be split over nodes",
    ),
    ("zrank", "arity", "7.2 knows WITHSCORE"),
    ("zrevrank", "arity", "as zrank"),
];

/// A reply, maps and sets as the lists that they are in RESP2.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Value {
    Null,
    Number(i64),
    Text(String),
    List(Vec<Value>),
}

impl Value {
    fn read(from: &mut impl BufRead) -> Value {
        let mut line = String::new();
        from.read_line(&mut line).expect("a whole reply");
        let (kind, rest) = line.trim_end().split_at(1);
        let number = || rest.parse::<i64>().expect("a length or a number");
        match kind {
            "_" => Value::Null,
            ":" => Value::Number(number()),
            "+" => Value::Text(rest.to_owned()),
            "$" => {
                let mut text = vec![0; number() as usize + 2];
                from.read_exact(&mut text).expect("a whole string");
                text.truncate(text.len() - 2);
                Value::Text(String::from_utf8(text).expect("COMMAND INFO is text"))
            }
            "*" | "~" | "%" => {
                let count = if kind == "%" { 2 * number() } else { number() };
                Value::List((0..count).map(|_| Value::read(from)).collect())
            }
            _ => panic!("{line:?} is no part of COMMAND INFO"),
        }
    }

    fn list(&self) -> &[Value] {
        match self {
            Value::List(list) => list,
            other => panic!("{other:?} is no list"),
        }
    }

    fn text(&self) -> &str {
        match self {
            Value::Text(text) => text,
            other => panic!("{other:?} is no text"),
        }
    }

    fn sorted(&self) -> Value {
        let mut list = self.list().to_vec();
        list.sort();
        Value::List(list)
    }

    /// A key spec without its remark (which is ours), its flags in one order.
    fn key_spec(&self) -> Value {
        let fields = self.list().chunks(2).map(|pair| (pair[0].text(), &pair[1]));
        let fields = fields.filter(|(name, _)| *name != "notes").map(|(name, value)| {
            let value = if name == "flags" { value.sorted() } else { value.clone() };
            Value::List(vec![Value::Text(name.to_owned()), value])
        });
        Value::List(fields.collect())
    }
}

type Fields = BTreeMap<&'static str, Value>;

/// The fields of each command and subcommand in a list of commands.
fn collect(commands: &[Value], into: &mut BTreeMap<String, Fields>) {
    for command in commands {
        let parts = command.list();
        assert_eq!(parts.len(), 10);
        let key_specs = parts[8].list().iter().map(Value::key_spec).collect();
        let fields = BTreeMap::from([
            ("arity", parts[1].clone()),
            ("flags", parts[2].sorted()),
            ("range", Value::List(parts[3..6].to_vec())),
            ("categories", parts[6].sorted()),
            ("tips", parts[7].sorted()),
            ("key specs", Value::List(key_specs)),
        ]);
        into.insert(parts[0].text().to_owned(), fields);
        collect(parts[9].list(), into);
    }
}

fn ours() -> BTreeMap<String, Fields> {
    let registry = Registry::new(FAMILIES, &[]).expect("nothing is renamed");
    let mut all = BTreeMap::new();
    for found in registry.reachable() {
        let mut out = ReplyBuf::new();
        reply_info(&mut Reply::new(&mut out, Proto::Resp3), found, &registry);
        let bytes = out.to_contiguous();
        let mut rest = &bytes[..];
        let value = Value::read(&mut rest);
        assert!(rest.is_empty(), "{} writes more than one value", found.full_name);
        collect(&[value], &mut all);
    }
    all
}

/// A redis-server that ends with the test.
struct Oracle(Child);

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What redis-server says of its commands, if there is one on this host.
fn theirs() -> Option<BTreeMap<String, Fields>> {
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .ok()?
        .port();
    let child = Command::new(support::Oracle::Redis70.program()?)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .stdout(Stdio::null())
        .spawn()
        .ok()?;
    let _oracle = Oracle(child);
    let connection = (0..600).find_map(|_| {
        std::thread::sleep(Duration::from_millis(50));
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
    let mut connection = connection.expect("redis-server listens");
    connection
        .write_all(b"HELLO 3\r\nCOMMAND\r\n")
        .expect("redis-server reads");
    let mut replies = BufReader::new(&mut connection);
    Value::read(&mut replies);
    let mut all = BTreeMap::new();
    collect(Value::read(&mut replies).list(), &mut all);
    Some(all)
}

#[test]
fn command_info_is_that_of_redis() {
    let ours = ours();
    let Some(theirs) = theirs() else {
        return;
    };
    let mut differences = Vec::new();
    let mut found_intended = Vec::new();
    let mut compared = 0;
    for (name, our_fields) in &ours {
        let Some(their_fields) = theirs.get(name) else { continue };
        compared += 1;
        for (field, our_value) in our_fields {
            let their_value = &their_fields[field];
            if our_value == their_value {
                continue;
            }
            match INTENDED.iter().position(|(n, f, _)| n == name && f == field) {
                Some(index) => found_intended.push(index),
                None => differences.push(format!(
                    "{name}: {field}\n  ours   {our_value:?}\n  theirs {their_value:?}"
                )),
            }
        }
    }
    assert!(compared > 50, "only {compared} commands are known to both");
    for (index, (name, field, _)) in INTENDED.iter().enumerate() {
        if !found_intended.contains(&index) {
            differences.push(format!("{name}: {field} is listed as different and is the same"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
