//! Our literals against the oracles' COMMAND INFO: arity, flags, first/last/step, ACL categories, tips and key specs of every
//! command and subcommand that both have.
//!
//! What Redis 8.2 and Valkey 9.1 both say must be ours; where they differ, ours is what one of them says, or Redis 7.0. Where an
//! oracle is missing the test says so, and compares with the others.

mod support;

use shardis::command::FAMILIES;
use shardis::command::introspection::reply_info;
use shardis::engine::Registry;
use shardis::resp::{Proto, Reply, ReplyBuf};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use support::Oracle;

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

/// What an oracle says of its commands.
fn theirs(oracle: Oracle) -> Option<BTreeMap<String, Fields>> {
    let server = oracle.start(&[])?;
    let mut connection = TcpStream::connect(("127.0.0.1", server.port)).expect("it listens");
    connection
        .write_all(b"HELLO 3\r\nCOMMAND\r\n")
        .expect("the oracle reads");
    let mut replies = BufReader::new(&mut connection);
    Value::read(&mut replies);
    let mut all = BTreeMap::new();
    collect(Value::read(&mut replies).list(), &mut all);
    Some(all)
}

#[test]
fn command_info_is_that_of_redis() {
    let [Some(redis), Some(valkey), Some(older)] = [Oracle::Redis82, Oracle::Valkey91, Oracle::Redis70].map(theirs)
    else {
        return;
    };
    let mut differences = Vec::new();
    let mut compared = 0;
    for (name, our_fields) in &ours() {
        let said = [&redis, &valkey, &older].map(|all| all.get(name));
        compared += usize::from(said[0].is_some());
        for (field, our_value) in our_fields {
            let [redis, valkey, older] = said.map(|fields| fields.map(|fields| &fields[field]));
            let is_right = match (redis, valkey) {
                (None, None) => true,
                (Some(redis), Some(valkey)) if redis == valkey => our_value == redis,
                _ => [redis, valkey, older].contains(&Some(our_value)),
            };
            if !is_right {
                differences.push(format!(
                    "{name}: {field}\n  ours   {our_value:?}\n  Redis  {redis:?}\n  Valkey {valkey:?}\n  7.0    {older:?}"
                ));
            }
        }
    }
    assert!(compared > 50, "only {compared} commands are known to both");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
