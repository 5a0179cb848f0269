//! Runs the transcripts of `tests/transcripts`: commands with the replies that redis-cli prints for them.
//!
//! Every file runs on shardis with 1, 2 and 4 shards and on the oracles, which are the authors of the expected column: what
//! Redis 8.2 and Valkey 9.1 both say is what Redis 7.2 said, from which both descend. Where they differ the table of rulings
//! (`support/rulings.rs`) says whose word does not count, and Redis 7.0 must agree as well if its word does. Then every file runs once
//! more in RESP3, where shardis' replies are compared with those of whoever's word counts.
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
//! | `# shows COMMAND` | the next command | its reply is what COMMAND came to: a ruling on COMMAND is one on it |
//! | `# resp3` | the group | replies are in RESP3 in every run |
//! | `# shardis-only` | the group | no oracle runs it: none has such a thing |
//!
//! `SHARDIS_UPDATE_TRANSCRIPTS=1 cargo test --test transcripts` rewrites the expected replies from the oracles, where those
//! whose word counts agree.

mod support;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use support::rulings::{RULINGS, Ruling, rulings_on};
use support::value::split_words;
use support::{Client, Oracle, Server, Value};

/// What a command of a transcript is, and where.
struct Step {
    /// Index of the line of the command in the file.
    line: usize,
    words: Vec<Vec<u8>>,
    /// Another command, on which a ruling may stand.
    shows: Option<Vec<Vec<u8>>>,
    /// The lines of the expected reply: from `line + 1`, that many.
    expected_count: usize,
    expected: String,
    client: String,
    is_any: bool,
    is_sorted: bool,
    is_resp3: bool,
    is_shardis_only: bool,
}

impl Step {
    /// The rulings on this command, with their places in the table.
    fn rulings(&self) -> impl Iterator<Item = (usize, &'static Ruling)> {
        rulings_on(self.shows.as_ref().unwrap_or(&self.words))
    }

    /// Whether the expected reply is to be this oracle's.
    fn is_word_of(&self, oracle: Oracle) -> bool {
        if self.is_shardis_only || oracle == Oracle::Redis70 && self.rulings().next().is_none() {
            return false;
        }
        self.rulings().all(|(_, ruling)| !ruling.against.contains(&oracle))
    }
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
        let mut shows = None;
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
                    shows: shows.take(),
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
                        } else if let Some(command) = other.strip_prefix("shows ") {
                            shows = split_words(command);
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

    /// What differs from the expected column, of all or of an oracle whose word counts.
    fn differences(&self, server: &Server, oracle: Option<Oracle>) -> Vec<String> {
        let replies = self.run(server, oracle.is_some(), false);
        let compared = self.steps.iter().zip(&replies);
        compared
            .filter(|(step, _)| oracle.is_none_or(|oracle| step.is_word_of(oracle)))
            .filter_map(|(step, reply)| {
                let got = reply.as_ref()?.to_string();
                (!step.is_any && got != step.expected).then(|| {
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

    /// What differs in RESP3 from an oracle whose word counts.
    fn differences_in_resp3(
        &self,
        ours: &[Option<Value>],
        server: &Server,
        (oracle, peer): (Oracle, &Server),
    ) -> Vec<String> {
        let theirs = self.run(peer, true, true);
        let compared = self.steps.iter().zip(ours.iter().zip(&theirs));
        compared
            .filter(|(step, _)| step.is_word_of(oracle))
            .filter_map(|(step, (our, their))| {
                let is_same = step.is_any || their.is_none() || our == their;
                (!is_same).then(|| {
                    format!(
                        "{} (RESP3)\n  {}: {}\n  {}: {}",
                        self.place(step),
                        peer.name,
                        shown(their),
                        server.name,
                        shown(our)
                    )
                })
            })
            .collect()
    }

    /// Writes the oracles' replies into the file, where those whose word counts say the same.
    fn update(&self, oracles: &[(Oracle, Server)]) {
        let all: Vec<_> = oracles
            .iter()
            .map(|(_, server)| self.run(server, true, false))
            .collect();
        let mut text = String::new();
        let mut at = 0;
        for (index, step) in self.steps.iter().enumerate() {
            let reply_at = step.line + 1;
            self.lines[at..reply_at]
                .iter()
                .for_each(|line| text.push_str(&format!("{line}\n")));
            at = reply_at + step.expected_count;
            let counting = oracles
                .iter()
                .zip(&all)
                .filter(|((oracle, _), _)| step.is_word_of(*oracle));
            let said: BTreeSet<&Value> = counting.filter_map(|(_, replies)| replies[index].as_ref()).collect();
            match said.first() {
                Some(reply) if !step.is_any && said.len() == 1 => text.push_str(&format!("{reply}\n")),
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

    /// The rulings that this oracle needs here: on commands to which it answers something else.
    fn needed(&self, server: &Server, oracle: Oracle) -> BTreeSet<usize> {
        let replies = self.run(server, true, false);
        let compared = self.steps.iter().zip(replies);
        compared
            .filter(|(step, reply)| reply.as_ref().is_some_and(|reply| reply.to_string() != step.expected))
            .flat_map(|(step, _)| step.rulings())
            .filter(|(_, ruling)| ruling.against.contains(&oracle))
            .map(|(index, _)| index)
            .collect()
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

/// As redis-cli prints it, in RESP3 too: kinds of aggregates are told apart.
fn shown(reply: &Option<Value>) -> String {
    reply.as_ref().map_or_else(String::new, Value::to_string)
}

fn fail_on(differences: Vec<String>) {
    assert!(
        differences.is_empty(),
        "{} replies differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
}

const OPTIONS: [&str; 2] = ["--enable-debug-command", "yes"];

/// Those of the oracles that are here.
fn oracles() -> Vec<(Oracle, Server)> {
    let all = [Oracle::Redis82, Oracle::Valkey91, Oracle::Redis70];
    all.into_iter()
        .filter_map(|oracle| Some((oracle, oracle.start(&OPTIONS)?)))
        .collect()
}

/// The expected column is what the oracles answer whose word counts.
#[test]
fn the_oracles_agree_with_the_expected_column() {
    let oracles = oracles();
    if std::env::var_os("SHARDIS_UPDATE_TRANSCRIPTS").is_some() {
        transcripts().iter().for_each(|transcript| transcript.update(&oracles));
    }
    let transcripts = transcripts();
    let differences = oracles.iter().flat_map(|(oracle, server)| {
        let of_one = move |transcript: &Transcript| transcript.differences(server, Some(*oracle));
        transcripts.iter().flat_map(of_one)
    });
    fail_on(differences.collect());
}

/// Every ruling is against somebody who does say something else somewhere.
#[test]
fn no_ruling_is_idle() {
    let transcripts = transcripts();
    let idle = oracles().into_iter().flat_map(|(oracle, server)| {
        let needed: BTreeSet<usize> = transcripts
            .iter()
            .flat_map(|transcript| transcript.needed(&server, oracle))
            .collect();
        let idle = RULINGS
            .iter()
            .enumerate()
            .filter(move |(index, ruling)| ruling.against.contains(&oracle) && !needed.contains(index));
        idle.map(move |(_, ruling)| format!("`{}`: {} says the same", ruling.command, oracle.name()))
            .collect::<Vec<_>>()
    });
    fail_on(idle.collect());
}

fn shardis_agrees(shards: usize) {
    let server = Server::shardis(shards, &OPTIONS);
    fail_on(
        transcripts()
            .iter()
            .flat_map(|t| t.differences(&server, None))
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
fn resp3_is_that_of_the_oracles() {
    let server = Server::shardis(2, &OPTIONS);
    let oracles = oracles();
    let differences = transcripts().into_iter().flat_map(|transcript| {
        let ours = transcript.run(&server, false, true);
        let compared = oracles
            .iter()
            .map(|(oracle, peer)| transcript.differences_in_resp3(&ours, &server, (*oracle, peer)));
        compared.flatten().collect::<Vec<_>>()
    });
    fail_on(differences.collect());
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
