//! MEMORY USAGE beside what the allocator has given out: for large values of each type and for many small ones, at most 20 % apart.
//!
//! The allocator's count is of the whole process, so the values are large against what else moves in it.

mod support;

use support::Server;

/// How far an answer may be from the truth, in parts of the truth.
const ERROR_MAX: f64 = 0.2;

type Words = Vec<String>;

/// A shape: its name, the keys that hold it, and the commands that make it.
struct Shape {
    name: &'static str,
    keys: Vec<String>,
    commands: Vec<Words>,
}

fn words(line: &str) -> Words {
    line.split(' ').map(str::to_owned).collect()
}

/// One key, to which `count` elements are added, some hundred with each command.
fn large(name: &'static str, command: &str, count: usize, element: impl Fn(usize) -> String) -> Shape {
    let all: Vec<usize> = (0..count).collect();
    let commands = all.chunks(100).map(|numbers| {
        let elements: Vec<String> = numbers.iter().map(|number| element(*number)).collect();
        words(&format!("{command} key {}", elements.join(" ")))
    });
    Shape {
        name,
        keys: vec!["key".to_owned()],
        commands: commands.collect(),
    }
}

/// `count` keys, each made by a command.
fn small(name: &'static str, count: usize, command: impl Fn(&str, usize) -> String) -> Shape {
    let keys: Vec<String> = (0..count).map(|number| format!("key:{number:08}")).collect();
    let numbered = keys.iter().enumerate();
    let commands = numbered.map(|(number, key)| words(&command(key, number))).collect();
    Shape { name, keys, commands }
}

fn shapes() -> Vec<Shape> {
    let field_ttl = |number: usize| words(&format!("HEXPIRE key 100000 FIELDS 1 field:{number:08}"));
    let mut expiring = large("a hash whose fields expire", "HSET", 100_000, |number| {
        format!("field:{number:08} value:{number:08}")
    });
    expiring.commands.extend((0..100_000).map(field_ttl));
    vec![
        small("small strings", 30_000, |key, number| {
            format!("SET {key} value:{number:020}")
        }),
        small("strings that expire", 30_000, |key, number| {
            format!("SET {key} value:{number:020} EX 100000")
        }),
        small("strings of a page", 3000, |key, _| {
            format!("SET {key} {}", "v".repeat(4000))
        }),
        small("small hashes", 20_000, |key, number| {
            format!("HSET {key} a {number} b {number} c {number} d {number} e {number}")
        }),
        small("small sets of integers", 20_000, |key, number| {
            format!("SADD {key} {number} 1 2 3")
        }),
        small("small lists", 20_000, |key, number| {
            format!("RPUSH {key} {number} one two three")
        }),
        large("a list", "RPUSH", 150_000, |number| format!("element:{number:012}")),
        large("a set", "SADD", 100_000, |number| format!("member:{number:012}")),
        large("a set of integers", "SADD", 100_000, |number| (number * 7).to_string()),
        large("a hash", "HSET", 150_000, |number| {
            format!("field:{number:08} value:{number:08}")
        }),
        expiring,
        large("a sorted set", "ZADD", 150_000, |number| {
            format!("{}.5 member:{number:012}", number * 7919 % 150_000)
        }),
        Shape {
            name: "a stream",
            keys: vec!["key".to_owned()],
            commands: (1..=100_000)
                .map(|number| {
                    words(&format!(
                        "XADD key {number}-1 temperature {number} place hall{}",
                        number % 7
                    ))
                })
                .collect(),
        },
    ]
}

fn allocated(server: &Server) -> f64 {
    server.info_number("memory", "allocator_allocated") as f64
}

#[test]
fn memory_usage_is_near_the_truth() {
    for shape in shapes() {
        let server = Server::shardis(1, &[]);
        let mut client = server.client();
        // The tables and buffers that any work needs are there before the first look.
        client.call_all(&shape.commands[..1]);
        let before = allocated(&server);
        for reply in client.call_all(&shape.commands[1..]) {
            assert!(!reply.is_error(), "{}: {reply}", shape.name);
        }
        let truth = allocated(&server) - before;
        for samples in ["0", "5"] {
            let asked: Vec<Words> = shape
                .keys
                .iter()
                .map(|key| words(&format!("MEMORY USAGE {key} SAMPLES {samples}")))
                .collect();
            let told: i64 = client.call_all(&asked).iter().map(|reply| reply.integer()).sum();
            let error = told as f64 / truth - 1.0;
            println!("{}: {told} told, {truth} taken: {:+.1} %", shape.name, error * 100.0);
            assert!(
                error.abs() <= ERROR_MAX,
                "{} (SAMPLES {samples}): {told} and {truth}",
                shape.name
            );
        }
    }
}
