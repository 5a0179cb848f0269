//! INFO's sections and fields, against the oracles': dashboards and monitors find figures by name, and people by place.
//!
//! What Redis 7.0 says we say too, in its order, whichever sections are asked for. What we say beyond that is 7.2's, which Redis 8.2
//! or Valkey 9.1 has too, or our own, and then it stands in a list here.

mod support;

use support::{Client, Oracle, Server};

/// Ways to ask.
const QUESTIONS: &[&[&str]] = &[
    &["INFO"],
    &["INFO", "default"],
    &["INFO", "all"],
    &["INFO", "everything"],
    &["INFO", "default", "commandstats"],
    &["INFO", "keyspace", "nosuch", "Server"],
    &["INFO", "modules"],
    &["INFO", "nosuch"],
];

/// What no other server says.
const OURS: &[&str] = &[
    "eventloop_longest_cpu_usec",
    "rdb_writers_held_count",
    "shardis_version",
    "# Shards",
    "shard_count",
    "shard<n>",
];

/// Names that are made of a name or a number: of a command, an error, a db, a listener, a shard.
const MADE_OF_NAMES: &[(&str, &str)] = &[
    ("cmdstat_", "cmdstat_<command>"),
    ("latency_percentiles_usec_", "latency_percentiles_usec_<command>"),
    ("errorstat_", "errorstat_<code>"),
    ("db", "db<n>"),
    ("listener", "listener<n>"),
    ("shard", "shard<n>"),
];

/// A key that expires, calls that are counted, an error: so that every section has something to say.
fn use_somewhat(client: &mut Client) {
    client.call(&["SET", "key", "value", "EX", "1000"]);
    client.call(&["GET", "key"]);
    client.call(&["LPUSH", "key", "element"]);
}

/// The headings and the names of the fields, in order; those that are made of names once for all that follow each other.
fn outline(info: &str) -> Vec<String> {
    let lines = info.split_terminator("\r\n").filter(|line| !line.is_empty());
    let mut outline: Vec<String> = lines.map(of_line).collect();
    outline.dedup();
    outline
}

fn of_line(line: &str) -> String {
    if line.starts_with("# ") {
        return line.to_owned();
    }
    let (name, _) = line
        .split_once(':')
        .unwrap_or_else(|| panic!("{line:?} is neither a heading nor a field"));
    let made = MADE_OF_NAMES.iter().find(|(prefix, _)| {
        let rest = name.strip_prefix(prefix);
        rest.is_some_and(|rest| prefix.ends_with('_') || rest.parse::<u32>().is_ok())
    });
    made.map_or(name, |(_, shown)| *shown).to_owned()
}

#[test]
fn what_redis_says_is_said_in_its_order() {
    let Some(oracle) = Oracle::Redis70.start(&[]) else {
        return;
    };
    let mut theirs = oracle.client();
    use_somewhat(&mut theirs);
    for shards in [1, 2] {
        let server = Server::shardis(shards, &[]);
        let mut client = server.client();
        use_somewhat(&mut client);
        for question in QUESTIONS {
            let ours = outline(&client.call(question).text());
            let expected = outline(&theirs.call(question).text());
            let mut rest = ours.iter();
            for name in &expected {
                assert!(
                    rest.any(|own| own == name),
                    "{shards} shards, {question:?}: {name} is missing, or not behind what comes before it in {ours:#?}"
                );
            }
            let headings = |outline: &[String]| -> Vec<String> {
                let headings = outline.iter().filter(|name| name.starts_with("# "));
                headings.filter(|name| !OURS.contains(&&***name)).cloned().collect()
            };
            assert_eq!(headings(&ours), headings(&expected), "{shards} shards, {question:?}");
        }
    }
}

#[test]
fn what_no_other_server_says_is_known() {
    let mut known: Vec<String> = OURS.iter().map(|&name| name.to_owned()).collect();
    for oracle in [Oracle::Redis70, Oracle::Redis82, Oracle::Valkey91] {
        let Some(oracle) = oracle.start(&[]) else { return };
        let mut theirs = oracle.client();
        use_somewhat(&mut theirs);
        known.extend(outline(&theirs.call(&["INFO", "everything"]).text()));
    }
    let server = Server::shardis(2, &[]);
    let mut client = server.client();
    use_somewhat(&mut client);
    let ours = outline(&client.call(&["INFO", "everything"]).text());
    let unknown: Vec<&String> = ours.iter().filter(|name| !known.contains(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    for own in OURS {
        assert!(ours.iter().any(|name| name == own), "{own} is not said");
    }
    let mut names = ours.clone();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), ours.len(), "a name stands twice in {ours:#?}");
}

#[test]
fn figures_of_all_shards_are_put_together() {
    for shards in [1, 2] {
        let server = Server::shardis(shards, &[]);
        let mut clients: Vec<Client> = (0..4).map(|_| server.client()).collect();
        for number in 0..20 {
            let key = format!("key{number}");
            clients[number % 4].call(&["SET", &key, "value"]);
            if number < 6 {
                clients[3].call(&["PEXPIREAT", &key, "32503680000000"]);
            }
        }
        clients[1].call(&["WATCH", "key1", "key2", "key3"]);
        clients[2].call(&["WATCH", "key1"]);
        clients[2].call(&["GET", "nosuch"]);
        clients[3].call(&["NOSUCH"]);
        let text = clients[0].call(&["INFO", "everything"]).text();
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
        };
        for (name, expected) in [
            ("connected_clients", "4"),
            ("watching_clients", "2"),
            ("total_watched_keys", "4"),
            ("rdb_changes_since_last_save", "26"),
            ("keyspace_misses", "1"),
            ("total_error_replies", "1"),
            ("errorstat_ERR", "count=1"),
            ("shard_count", &shards.to_string()),
        ] {
            assert_eq!(value(name), expected, "{name} of {shards} shards");
        }
        assert!(value("cmdstat_set").starts_with("calls=20,"), "{shards} shards: {text}");
        assert!(
            value("latency_percentiles_usec_set").starts_with("p50="),
            "{shards} shards"
        );
        assert!(
            value("db0").starts_with("keys=20,expires=6,avg_ttl="),
            "{shards} shards: {text}"
        );
        let of_shards = |figure: &str| -> usize {
            let lines = (0..shards).map(|shard| value(&format!("shard{shard}")));
            let figures = lines.map(|line| {
                let mut parts = line.split(',');
                parts.find_map(|part| part.strip_prefix(figure)?.strip_prefix('=')?.parse::<usize>().ok())
            });
            figures.map(|figure| figure.expect("each shard says it")).sum()
        };
        assert_eq!(of_shards("slots"), 16384);
        assert_eq!(of_shards("keys"), 20);
        assert_eq!(of_shards("clients"), 4);
    }
}
