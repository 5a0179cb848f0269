//! Runs the transcripts of `tests/transcripts`: commands with the replies that redis-cli prints for them.
//!
//! Every file runs on shardis with 1, 2 and 4 shards and on redis-server, which is the author of the expected column. Then
//! it runs once more in RESP3, where the two servers' replies are compared with each other.
//!
//! ```text
//! # A remark. A file begins with an empty keyspace; blank lines separate its groups.
//! > SET k "a\x00b"
//! OK
//! # sorted
//! > KEYS *
//! 1) "k"
//! ```
//!
//! | directive | reaches | what it does |
//! |---|---|---|
//! | `# any` | the next command | its reply is not compared; the expected lines are for the reader |
//! | `# sorted` | the next command | the items of its reply have no order: they are sorted |
//! | `# client NAME` | up to the next one | sends on another connection (the first one has the name `main`) |
//! | `# resp3` | the group | replies are in RESP3 in every run |
//! | `# shardis-only` | the group | redis-server does not run it: it has no such thing, or Redis 7.2 differs from 7.0 |
//!
//! `SHARDIS_UPDATE_TRANSCRIPTS=1 cargo test --test transcripts` rewrites the expected replies from redis-server.

mod support;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use support::value::split_words;
use support::{Client, Server, Value};

/// What a command of a transcript is, and where.
struct Step {
    /// Index of the line of the command in the file.
    line: usize,
    words: Vec<Vec<u8>>,
    /// The lines of the expected reply: from `line + 1`, that many.
    expected_count: usize,
    expected: String,
    client: String,
    is_any: bool,
    is_sorted: bool,
    is_resp3: bool,
    is_shardis_only: bool,
}

struct Transcript {
    path: PathBuf,
    lines: Vec<String>,
    steps: Vec<Step>,
}

impl Transcript {
    fn read(path: &Path) -> Transcript {
        let text = std::fs::read_to_string(path).expect("the directory has named it");
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut steps = Vec::new();
        let mut client = "main".to_owned();
        let (mut is_any, mut is_sorted, mut is_resp3, mut is_shardis_only) = (false, false, false, false);
        let mut at = 0;
        while at < lines.len() {
            let line = &lines[at];
            if line.trim().is_empty() {
                (is_resp3, is_shardis_only) = (false, false);
            } else if let Some(command) = line.strip_prefix("> ") {
                let words =
                    split_words(command).unwrap_or_else(|| panic!("{}:{}: unbalanced quotes", path.display(), at + 1));
                let expected: Vec<&str> = lines[at + 1..]
                    .iter()
                    .map(String::as_str)
                    .take_while(|line| !line.is_empty() && !line.starts_with("> ") && !line.starts_with("# "))
                    .collect();
                steps.push(Step {
                    line: at,
                    words,
                    expected_count: expected.len(),
                    expected: expected.join("\n"),
                    client: client.clone(),
                    is_any,
                    is_sorted,
                    is_resp3,
                    is_shardis_only,
                });
                at += steps.last().map_or(0, |step| step.expected_count);
                (is_any, is_sorted) = (false, false);
            } else if let Some(remark) = line.strip_prefix('#') {
                match remark.trim() {
                    "any" => is_any = true,
                    "sorted" => is_sorted = true,
                    "resp3" => is_resp3 = true,
                    "shardis-only" => is_shardis_only = true,
                    other => {
                        if let Some(name) = other.strip_prefix("client ").filter(|name| !name.contains(' ')) {
                            client = name.to_owned();
                        }
                    }
                }
            } else {
                panic!("{}:{}: what is this line?", path.display(), at + 1);
            }
            at += 1;
        }
        Transcript {
            path: path.to_owned(),
            lines,
            steps,
        }
    }

    /// Runs it; the replies of the steps that ran.
    fn run(&self, server: &Server, is_oracle: bool, in_resp3: bool) -> Vec<Option<Value>> {
        server.client().call(&["FLUSHALL"]);
        let mut clients: HashMap<(&str, bool), Client> = HashMap::new();
        let mut replies = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            if is_oracle && step.is_shardis_only {
                replies.push(None);
                continue;
            }
            let resp3 = in_resp3 || step.is_resp3;
            let client = clients.entry((&step.client, resp3)).or_insert_with(|| match resp3 {
                true => server.client_resp3(),
                false => server.client(),
            });
            let reply = client.try_call(&step.words).unwrap_or_else(|error| {
                panic!("{} on {}: {error}", self.place(step), server.name);
            });
            replies.push(Some(if step.is_sorted { reply.sorted() } else { reply }));
        }
        replies
    }

    fn place(&self, step: &Step) -> String {
        format!(
            "tests/transcripts/{}:{}: {}",
            self.name(),
            step.line + 1,
            self.lines[step.line]
        )
    }

    fn name(&self) -> String {
        self.path
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    /// What differs from the expected column.
    fn differences(&self, server: &Server, is_oracle: bool) -> Vec<String> {
        let replies = self.run(server, is_oracle, false);
        let compared = self.steps.iter().zip(&replies);
        compared
            .filter_map(|(step, reply)| {
                let got = reply.as_ref()?.to_string();
                let is_same = step.is_any || got == step.expected;
                (!is_same).then(|| {
                    format!(
                        "{}\n  expected: {}\n  {}: {got}",
                        self.place(step),
                        step.expected,
                        server.name
                    )
                })
            })
            .collect()
    }

    /// What differs in RESP3 between the two.
    fn differences_in_resp3(&self, server: &Server, oracle: &Server) -> Vec<String> {
        let (ours, theirs) = (self.run(server, false, true), self.run(oracle, true, true));
        let compared = self.steps.iter().zip(ours.iter().zip(&theirs));
        compared
            .filter_map(|(step, (our, their))| {
                let is_same = step.is_any || their.is_none() || our == their;
                (!is_same).then(|| {
                    format!(
                        "{} (RESP3)\n  expected: {their:?}\n  {}: {our:?}",
                        self.place(step),
                        server.name
                    )
                })
            })
            .collect()
    }

    /// Writes redis-server's replies into the file.
    fn update(&self, oracle: &Server) {
        let replies = self.run(oracle, true, false);
        let mut text = String::new();
        let mut at = 0;
        for (step, reply) in self.steps.iter().zip(replies) {
            let reply_at = step.line + 1;
            self.lines[at..reply_at]
                .iter()
                .for_each(|line| text.push_str(&format!("{line}\n")));
            at = reply_at + step.expected_count;
            match reply {
                Some(reply) if !step.is_any => text.push_str(&format!("{reply}\n")),
                _ => self.lines[reply_at..at]
                    .iter()
                    .for_each(|line| text.push_str(&format!("{line}\n"))),
            }
        }
        self.lines[at..]
            .iter()
            .for_each(|line| text.push_str(&format!("{line}\n")));
        std::fs::write(&self.path, text).expect("the transcripts can be written");
    }
}

/// All transcripts, by name.
fn transcripts() -> Vec<Transcript> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let entries = std::fs::read_dir(dir).expect("the sources are there");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("it can be read").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    assert!(!paths.is_empty());
    paths.iter().map(|path| Transcript::read(path)).collect()
}

fn fail_on(differences: Vec<String>) {
    assert!(
        differences.is_empty(),
        "{} replies differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
}

/// The expected column is what redis-server answers.
#[test]
fn redis_server_agrees_with_the_expected_column() {
    let oracle = Server::redis(&["--enable-debug-command", "yes"]);
    if std::env::var_os("SHARDIS_UPDATE_TRANSCRIPTS").is_some() {
        transcripts().iter().for_each(|transcript| transcript.update(&oracle));
    }
    fail_on(
        transcripts()
            .iter()
            .flat_map(|t| t.differences(&oracle, true))
            .collect(),
    );
}

fn shardis_agrees(shards: usize) {
    let server = Server::shardis(shards, &["--enable-debug-command", "yes"]);
    fail_on(
        transcripts()
            .iter()
            .flat_map(|t| t.differences(&server, false))
            .collect(),
    );
}

#[test]
fn one_shard_agrees() {
    shardis_agrees(1);
}

#[test]
fn two_shards_agree() {
    shardis_agrees(2);
}

#[test]
fn four_shards_agree() {
    shardis_agrees(4);
}

#[test]
fn resp3_is_the_same_on_both() {
    let (server, oracle) = (
        Server::shardis(2, &["--enable-debug-command", "yes"]),
        Server::redis(&["--enable-debug-command", "yes"]),
    );
    fail_on(
        transcripts()
            .iter()
            .flat_map(|t| t.differences_in_resp3(&server, &oracle))
            .collect(),
    );
}

/// The reader of transcripts itself: words, expected lines, directives.
#[test]
fn a_transcript_is_read_as_it_was_meant() {
    let path = std::env::temp_dir().join(format!("shardis-transcript-{}.txt", std::process::id()));
    std::fs::write(&path, "# Remark.\n> SET k \"a\\x00 b\"\nOK\n# sorted\n> KEYS *\n1) \"k\"\n2) \"l\"\n\n# any\n> TIME\n# client b\n> GET k\nx\n")
        .expect("the temporary directory can be written");
    let transcript = Transcript::read(&path);
    let _ = std::fs::remove_file(&path);
    let [set, keys, time, get] = &transcript.steps[..] else {
        panic!("there are four commands");
    };
    assert_eq!(set.words, [&b"SET"[..], b"k", b"a\0 b"]);
    assert_eq!((set.expected.as_str(), set.is_sorted), ("OK", false));
    assert_eq!(
        (keys.expected.as_str(), keys.is_sorted, keys.line),
        ("1) \"k\"\n2) \"l\"", true, 4)
    );
    assert!(time.is_any && !get.is_any);
    assert_eq!((time.client.as_str(), get.client.as_str()), ("main", "b"));
}
