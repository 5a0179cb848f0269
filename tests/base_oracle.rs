//! The ground floor against a real `redis-server`: what it computes, we compute.
//!
//! Random numbers, patterns, keys and strings go to both sides. The seed is fixed, so a failure is the same failure tomorrow. Where there is
//! no `redis-server` 7.0 the tests say so and pass; the unit tests of each module hold the known cases.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use shardis::base::crc64::crc64;
use shardis::base::long_double::LongDouble;
use shardis::base::slot::key_slot;
use shardis::base::{glob, lzf, numbers};
use shardis::resp::OwnedArgs;

/// A `redis-server` of our own, ended when dropped.
struct Oracle {
    server: Child,
    directory: PathBuf,
    stream: BufReader<TcpStream>,
}

#[derive(Debug, PartialEq)]
enum Answer {
    Line(String),
    Bulk(Option<Vec<u8>>),
    Array(Vec<Answer>),
}

impl Oracle {
    fn start() -> Option<Oracle> {
        Oracle::start_with(&[])
    }

    fn start_with(further: &[&str]) -> Option<Oracle> {
        let port = support::server::free_port();
        let cluster_port = port + 1;
        let directory = std::env::temp_dir().join(format!("shardis-oracle-{port}"));
        std::fs::create_dir_all(&directory).expect("the temporary directory is writable");
        let server = support::Oracle::Redis70.program()?;
        let mut server = Command::new(server)
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .args(["--cluster-port", &cluster_port.to_string()])
            .args(further)
            .current_dir(&directory)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it has just said its version");
        for _ in 0..200 {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
                return Some(Oracle {
                    server,
                    directory,
                    stream: BufReader::new(stream),
                });
            }
            assert!(
                server.try_wait().expect("a child can be asked").is_none(),
                "redis-server ended at once"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("redis-server does not listen");
    }

    /// Sends all commands, then reads all answers.
    fn ask_all(&mut self, commands: &[Vec<Vec<u8>>]) -> Vec<Answer> {
        let mut request = Vec::new();
        for command in commands {
            OwnedArgs::from_slices(command).as_args().encode_resp(&mut request);
        }
        let mut writer = self.stream.get_ref().try_clone().expect("a socket can be cloned");
        std::thread::scope(|scope| {
            scope.spawn(move || writer.write_all(&request).expect("redis-server reads"));
            commands.iter().map(|_| self.answer()).collect()
        })
    }

    fn answer(&mut self) -> Answer {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("redis-server answers");
        let (kind, rest) = line.trim_end().split_at(1);
        match kind {
            "$" if rest == "-1" => Answer::Bulk(None),
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>().expect("a length") + 2];
                self.stream
                    .read_exact(&mut bytes)
                    .expect("redis-server answers in full");
                bytes.truncate(bytes.len() - 2);
                Answer::Bulk(Some(bytes))
            }
            "*" => Answer::Array((0..rest.parse().expect("a length")).map(|_| self.answer()).collect()),
            _ => Answer::Line(line.trim_end().into()),
        }
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
        std::fs::remove_dir_all(&self.directory).ok();
    }
}

fn command<const N: usize>(args: [&[u8]; N]) -> Vec<Vec<u8>> {
    args.map(<[u8]>::to_vec).to_vec()
}

/// A number in one of the many forms that people write.
fn random_number(random: &mut fastrand::Rng) -> String {
    let digits = |random: &mut fastrand::Rng, most: usize| -> String {
        (0..random.usize(1..=most)).map(|_| random.digit(10)).collect()
    };
    let sign = random.choice(["", "", "", "-", "+"]).expect("not empty");
    let body = match random.u8(..12) {
        0 => format!("{}", random.i64(0..1000)),
        1 => format!("{}.{:02}", random.u32(0..100_000), random.u32(0..100)),
        2 => format!("{}", random.f64()),
        3 => format!("{}", f64::from_bits(random.u64(..) & (u64::MAX >> 1))),
        4 => format!("{:e}", f64::from_bits(random.u64(..) & (u64::MAX >> 1))),
        5 => format!("{}.{}", digits(random, 25), digits(random, 25)),
        6 => format!("{}.{}e{}", digits(random, 20), digits(random, 20), random.i32(-60..60)),
        7 => format!("{}e{}", digits(random, 30), random.i32(-5000..5000)),
        8 => format!("0x{:x}.{:x}p{}", random.u64(..), random.u64(..), random.i32(-80..80)),
        9 => format!(
            "0x{:x}p{}",
            random.u64(..) >> random.u32(..64),
            random.i32(-16520..16400)
        ),
        10 => format!("{}", random.u64(..)),
        _ => {
            let alphabet = b"0123456789+-.eExXpinfa \0";
            let text: Vec<u8> = (0..random.usize(..6))
                .map(|_| alphabet[random.usize(..alphabet.len())])
                .collect();
            String::from_utf8(text).expect("ASCII")
        }
    };
    format!("{sign}{body}")
}

/// What INCRBYFLOAT answers.
fn incremented(old: &[u8], increment: &[u8]) -> Answer {
    let (Some(old), Some(increment)) = (LongDouble::parse(old), LongDouble::parse(increment)) else {
        return Answer::Line("-ERR value is not a valid float".into());
    };
    let sum = old + increment;
    match sum.is_finite() {
        true => Answer::Bulk(Some(sum.to_human())),
        false => Answer::Line("-ERR increment would produce NaN or Infinity".into()),
    }
}

#[test]
fn long_doubles_add_as_incrbyfloat_does() {
    let Some(mut oracle) = Oracle::start() else {
        return;
    };
    let mut random = fastrand::Rng::with_seed(20);
    for _ in 0..20 {
        let mut pairs: Vec<(String, String)> = (0..1000)
            .map(|_| (random_number(&mut random), random_number(&mut random)))
            .collect();
        // Numbers that nearly cancel: what is left is made of the last bits.
        for (old, increment) in pairs.iter_mut().step_by(3) {
            *increment = match old.strip_prefix('-') {
                Some(positive) => format!("{positive}1"),
                None => format!("-{}", old.trim_start_matches('+')),
            };
        }
        let commands: Vec<_> = pairs
            .iter()
            .flat_map(|(old, increment)| {
                [
                    command([b"SET", b"n", old.as_bytes()]),
                    command([b"INCRBYFLOAT", b"n", increment.as_bytes()]),
                ]
            })
            .collect();
        let answers = oracle.ask_all(&commands);
        for ((old, increment), answer) in pairs.iter().zip(answers.iter().skip(1).step_by(2)) {
            assert_eq!(
                &incremented(old.as_bytes(), increment.as_bytes()),
                answer,
                "{old:?} + {increment:?}"
            );
        }
    }
}

#[test]
fn doubles_are_read_as_zadd_does() {
    let Some(mut oracle) = Oracle::start() else {
        return;
    };
    let mut random = fastrand::Rng::with_seed(21);
    for _ in 0..10 {
        let texts: Vec<String> = (0..1000).map(|_| random_number(&mut random)).collect();
        let commands: Vec<_> = texts
            .iter()
            .flat_map(|text| {
                [
                    command([b"DEL", b"z"]),
                    command([b"ZADD", b"z", text.as_bytes(), b"m"]),
                    command([b"ZSCORE", b"z", b"m"]),
                ]
            })
            .collect();
        let answers = oracle.ask_all(&commands);
        for (text, answers) in texts.iter().zip(answers.chunks(3)) {
            let ours = numbers::parse_f64(text.as_bytes());
            // Seventeen digits from 7.0, the shortest from us: compared as numbers.
            let theirs = match &answers[2] {
                Answer::Bulk(score) => score.as_deref().and_then(numbers::parse_f64),
                other => panic!("{other:?}"),
            };
            assert_eq!(ours, theirs, "{text:?}");
        }
    }
}

#[test]
fn integers_are_read_as_incrby_does() {
    let Some(mut oracle) = Oracle::start() else {
        return;
    };
    let mut random = fastrand::Rng::with_seed(22);
    let texts: Vec<String> = (0..5000)
        .map(|_| match random.u8(..4) {
            0 => random_number(&mut random),
            1 => (i128::from(i64::MAX) + i128::from(random.i8(..))).to_string(),
            2 => (i128::from(i64::MIN) + i128::from(random.i8(..))).to_string(),
            _ => (random.i64(..) >> random.u32(..64)).to_string(),
        })
        .collect();
    let commands: Vec<_> = texts
        .iter()
        .flat_map(|text| {
            [
                command([b"SET", b"n", b"0"]),
                command([b"INCRBY", b"n", text.as_bytes()]),
            ]
        })
        .collect();
    let answers = oracle.ask_all(&commands);
    for (text, answer) in texts.iter().zip(answers.iter().skip(1).step_by(2)) {
        let ours = match numbers::parse_i64(text.as_bytes()) {
            Some(value) => format!(":{value}"),
            None => "-ERR value is not an integer or out of range".into(),
        };
        assert_eq!(&Answer::Line(ours), answer, "{text:?}");
    }
}

#[test]
fn patterns_match_as_in_hscan() {
    let Some(mut oracle) = Oracle::start() else {
        return;
    };
    let mut random = fastrand::Rng::with_seed(23);
    let word = |random: &mut fastrand::Rng, alphabet: &[u8], most: usize| -> Vec<u8> {
        (0..random.usize(..most))
            .map(|_| alphabet[random.usize(..alphabet.len())])
            .collect()
    };
    for _ in 0..40 {
        let fields: Vec<Vec<u8>> = (0..60).map(|_| word(&mut random, b"aaabcAB]-^\\*[", 8)).collect();
        let mut fill = command([b"HSET", b"h"]);
        for field in &fields {
            fill.extend([field.clone(), b"v".to_vec()]);
        }
        let patterns: Vec<Vec<u8>> = (0..500).map(|_| word(&mut random, b"aabbc**?[[]]^--\\", 10)).collect();
        let mut commands = vec![command([b"DEL", b"h"]), fill];
        // A pattern that is exactly * is not matched at all there, so it is not asked for.
        let patterns: Vec<_> = patterns.into_iter().filter(|pattern| pattern != b"*").collect();
        commands.extend(
            patterns
                .iter()
                .map(|pattern| command([b"HSCAN", b"h", b"0", b"MATCH", pattern, b"COUNT", b"1000"])),
        );
        let answers = oracle.ask_all(&commands);
        for (pattern, answer) in patterns.iter().zip(&answers[2..]) {
            let Answer::Array(parts) = answer else {
                panic!("{answer:?}")
            };
            let Answer::Array(found) = &parts[1] else {
                panic!("{answer:?}")
            };
            for field in &fields {
                let is_found = found
                    .iter()
                    .step_by(2)
                    .any(|answer| *answer == Answer::Bulk(Some(field.clone())));
                assert_eq!(
                    glob::matches(pattern, field),
                    is_found,
                    "{} on {}",
                    pattern.escape_ascii(),
                    field.escape_ascii()
                );
            }
        }
    }
}

#[test]
fn case_is_ignored_as_in_config_get() {
    let Some(mut oracle) = Oracle::start() else {
        return;
    };
    let mut random = fastrand::Rng::with_seed(24);
    let names = match &oracle.ask_all(&[command([b"CONFIG", b"GET", b"*"])])[0] {
        Answer::Array(pairs) => pairs.iter().step_by(2).map(text_of).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let patterns: Vec<Vec<u8>> = (0..2000)
        .map(|_| {
            let mut pattern = names[random.usize(..names.len())].clone();
            for _ in 0..random.usize(1..5) {
                let place = random.usize(..pattern.len());
                let piece: &[u8] = random
                    .choice([&b"*"[..], b"?", b"[A-M]", b"[^n-z]", b"[\\A]", b"\\E", b"E"])
                    .expect("not empty");
                pattern.splice(place..place + 1, piece.iter().copied());
            }
            pattern
        })
        .filter(|pattern| pattern.iter().any(|byte| b"*?[".contains(byte)))
        .collect();
    let commands: Vec<_> = patterns
        .iter()
        .map(|pattern| command([b"CONFIG", b"GET", pattern]))
        .collect();
    for (pattern, answer) in patterns.iter().zip(oracle.ask_all(&commands)) {
        let Answer::Array(pairs) = answer else {
            panic!("{answer:?}")
        };
        let mut found: Vec<_> = pairs.iter().step_by(2).map(text_of).collect();
        let mut ours: Vec<_> = names
            .iter()
            .filter(|name| glob::matches_ignoring_case(pattern, name))
            .cloned()
            .collect();
        found.sort();
        ours.sort();
        assert_eq!(ours, found, "{}", pattern.escape_ascii());
    }
}

fn text_of(answer: &Answer) -> Vec<u8> {
    match answer {
        Answer::Bulk(Some(text)) => text.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn slots_are_those_of_cluster_keyslot() {
    let Some(mut oracle) = Oracle::start_with(&["--cluster-enabled", "yes"]) else {
        return;
    };
    let mut random = fastrand::Rng::with_seed(25);
    let keys: Vec<Vec<u8>> = (0..2000)
        .map(|_| {
            (0..random.usize(..40))
                .map(|_| {
                    if random.u8(..4) == 0 {
                        b"{}"[random.usize(..2)]
                    } else {
                        random.u8(..)
                    }
                })
                .collect()
        })
        .collect();
    let commands: Vec<_> = keys.iter().map(|key| command([b"CLUSTER", b"KEYSLOT", key])).collect();
    for (key, answer) in keys.iter().zip(oracle.ask_all(&commands)) {
        assert_eq!(
            Answer::Line(format!(":{}", key_slot(key))),
            answer,
            "{}",
            key.escape_ascii()
        );
    }
}

#[test]
fn dump_payloads_agree_in_checksum_and_compression() {
    let Some(mut oracle) = Oracle::start() else {
        return;
    };
    let mut random = fastrand::Rng::with_seed(26);
    let values: Vec<Vec<u8>> = (0..400)
        .map(|_| {
            let alphabet = random.u8(1..20);
            let piece: Vec<u8> = (0..random.usize(1..60)).map(|_| b'a' + random.u8(..alphabet)).collect();
            (0..random.usize(64..20_000))
                .map(|place| piece[place % piece.len()] ^ u8::from(random.u8(..100) == 0))
                .collect()
        })
        .collect();
    for value in &values {
        let answers = oracle.ask_all(&[command([b"SET", b"s", value]), command([b"DUMP", b"s"])]);
        let payload = text_of(&answers[1]);
        let (body, checksum) = payload.split_at(payload.len() - 8);
        assert_eq!(crc64(0, body).to_le_bytes(), checksum);
        // Type 0, then 0xc3, the compressed and the true length, and the text, for what compresses.
        if body[1] == 0xc3 {
            let (compressed_bytes, at) = rdb_length(body, 2);
            let (text_bytes, at) = rdb_length(body, at);
            assert_eq!(
                lzf::decompress(&body[at..at + compressed_bytes], text_bytes).as_ref(),
                Some(value)
            );
        }
        // And our own goes back the other way.
        let Some(compressed) = lzf::compress(value) else {
            continue;
        };
        let mut ours = vec![0, 0xc3];
        for length in [compressed.len(), value.len()] {
            ours.push(0x80);
            ours.extend_from_slice(&(length as u32).to_be_bytes());
        }
        ours.extend_from_slice(&compressed);
        ours.extend_from_slice(&body[body.len() - 2..]);
        let checksum = crc64(0, &ours);
        ours.extend_from_slice(&checksum.to_le_bytes());
        let answers = oracle.ask_all(&[
            command([b"RESTORE", b"r", b"0", &ours, b"REPLACE"]),
            command([b"GET", b"r"]),
        ]);
        assert_eq!(answers, [Answer::Line("+OK".into()), Answer::Bulk(Some(value.clone()))]);
    }
}

/// Reads a length as RDB files write it, and says where it ends.
fn rdb_length(body: &[u8], at: usize) -> (usize, usize) {
    let first = usize::from(body[at]);
    match first >> 6 {
        0 => (first, at + 1),
        1 => ((first & 0x3f) << 8 | usize::from(body[at + 1]), at + 2),
        _ => (
            u32::from_be_bytes(body[at + 1..at + 5].try_into().expect("four bytes")) as usize,
            at + 5,
        ),
    }
}

/// Doubles of every size, and those that people write.
fn doubles() -> Vec<f64> {
    let mut random = fastrand::Rng::with_seed(31);
    let mut out = vec![
        1_155_586_661_879_542.0 + 0.25,
        5e-324,
        f64::MAX,
        f64::MIN_POSITIVE,
        0.1,
        0.1 + 0.2,
    ];
    for _ in 0..5000 {
        out.push(f64::from_bits(random.u64(..)));
        out.push(random.f64() * 2e6 - 1e6);
        out.push(random.u64(..1 << 60) as f64 + random.f64());
        out.push(random.i32(..1_000_000) as f64 / 10f64.powi(random.i32(0..13)));
    }
    out.retain(|value| value.is_finite());
    out
}

#[test]
fn doubles_are_printed_by_the_digits_of_7_2() {
    const BATCH_COUNT: usize = 500;
    for oracle in [support::Oracle::Redis82, support::Oracle::Valkey91] {
        let Some(server) = oracle.start(&[]) else { continue };
        let mut client = server.client();
        for batch in doubles().chunks(BATCH_COUNT) {
            let members: Vec<String> = (0..batch.len()).map(|number| format!("m{number}")).collect();
            let mut add = vec!["ZADD".to_owned(), "z".to_owned()];
            for (value, member) in batch.iter().zip(&members) {
                add.extend([format!("{value:e}"), member.clone()]);
            }
            client.line("DEL z");
            assert_eq!(client.call(&add).integer(), batch.len() as i64);
            let ask = ["ZMSCORE", "z"].into_iter().chain(members.iter().map(String::as_str));
            let theirs = client.call(&ask.collect::<Vec<_>>()).items();
            for (value, their) in batch.iter().zip(theirs) {
                let ours = numbers::format_f64(*value);
                assert_eq!(
                    String::from_utf8_lossy(&ours),
                    their.text(),
                    "{} of {value:e}",
                    oracle.name()
                );
            }
        }
    }
}
