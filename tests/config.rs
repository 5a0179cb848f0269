//! The configuration against a real `redis-server`: what it refuses, we refuse in the same words; what it shows, we show;
//! what either writes, the other reads. Where no `redis-server` is installed the tests say so and pass; the module's own tests
//! hold the known cases.

mod support;

use shardis::config::{Config, Flags, Kind, PARAMETERS, REDIS_VERSION, SetContext};
use std::{
    ffi::OsString,
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A directory of its own, gone when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("shardis-config-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("the directory for temporary files is writable");
        Self(path.canonicalize().expect("it was just made"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A `redis-server` on a Unix socket only, ended when dropped.
struct Oracle {
    server: Child,
    stream: BufReader<UnixStream>,
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Oracle {
    fn start(directory: &Path, arguments: &[&str]) -> Option<Self> {
        let socket = directory.join("oracle.sock");
        let _ = fs::remove_file(&socket);
        let mut command = Command::new(support::Oracle::Redis70.program()?);
        command
            .args(arguments)
            .args(["--port", "0", "--unixsocket"])
            .arg(&socket)
            .current_dir(directory);
        let server = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut server = server.expect("it has just said its version");
        for _ in 0..600 {
            if let Ok(stream) = UnixStream::connect(&socket) {
                return Some(Self {
                    server,
                    stream: BufReader::new(stream),
                });
            }
            let ended = server.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "redis-server ended at once with {arguments:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("redis-server does not listen");
    }

    /// Sends a command; answers the error or the flat list of its reply.
    fn call(&mut self, words: &[&[u8]]) -> Result<Vec<Vec<u8>>, String> {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend(format!("${}\r\n", word.len()).bytes());
            request.extend(*word);
            request.extend(b"\r\n");
        }
        self.stream.get_mut().write_all(&request).expect("redis-server reads");
        let mut reply = Vec::new();
        self.read_reply(&mut reply)?;
        Ok(reply)
    }

    fn read_reply(&mut self, into: &mut Vec<Vec<u8>>) -> Result<(), String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("redis-server answers");
        let (kind, rest) = line.trim_end().split_at(1);
        let count = || rest.parse::<usize>().expect("a length is a number");
        match kind {
            "-" => return Err(rest.to_string()),
            "$" => {
                let mut bulk = vec![0; count() + 2];
                self.stream.read_exact(&mut bulk).expect("redis-server answers");
                bulk.truncate(count());
                into.push(bulk);
            }
            "*" => return (0..count()).try_for_each(|_| self.read_reply(into)),
            _ => into.push(rest.as_bytes().to_vec()),
        }
        Ok(())
    }
}

fn load(directory: &Path, arguments: &[&str]) -> Result<Config, String> {
    let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
    Config::load_from(&arguments, &mut io::empty(), directory).map_err(|error| error.to_string())
}

/// Setting these in the oracle does more than set them (it listens, touches the kernel, fails for want of a library), or
/// says something of its own machine, or depends on another parameter.
const LEFT_OUT: &[&str] = &[
    "port",
    "tls-port",
    "tls-replication",
    "tls-cluster",
    "watchdog-period",
    "bind",
    "oom-score-adj",
    "oom-score-adj-values",
    "maxclients",
    "activedefrag",
];

/// Values that are good, bad and odd for one kind or another.
const VALUES: &[&str] = &[
    "",
    "0",
    "1",
    "-1",
    "5",
    "05",
    "+5",
    " 5",
    "5 ",
    "-0",
    "1.5",
    "0x10",
    "99",
    "100",
    "101",
    "1000",
    "1001",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "-2147483648",
    "-2147483649",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "-9223372036854775809",
    "1k",
    "1kb",
    "1KB",
    "2m",
    "2Mb",
    "3g",
    "3gB",
    "1tb",
    "kb",
    "7b",
    "5%",
    "0%",
    "100%",
    "101%",
    "-5%",
    "%",
    "yes",
    "NO",
    "Yes ",
    "default",
    "force now",
    "save nosave",
    "nosave  now",
    "everysec",
    "ALWAYS",
    "relative",
    "absolute",
    "allkeys-lru",
    "volatile-ttl ",
    "1 2",
    "1  2",
    "1 2 3",
    "1 2 3 4",
    "0 1",
    "1 0",
    "-1 1",
    "a b",
    "50 99.5 100",
    "50 nan",
    "1e1",
    "-0.5",
    "99.1234567",
    "normal 1 2 3",
    "slave 1mb 2kb 3 pubsub 0 0 0",
    "replica 1 2 -3",
    "normal x 2 3",
    "nobody 1 2 3",
    "KEA",
    "g$lshzxetd",
    "Kq",
    "E$m",
    "n",
    "{title}",
    "{title",
    "}{title}",
    "{nope}",
    "host-name.example",
    "under_score",
    "a/b",
    "no such",
    "127.0.0.1 1",
];

#[test]
fn config_set_answers_as_redis_does() {
    let scratch = Scratch::new("set");
    let directory = &scratch.0;
    let Some(mut oracle) = Oracle::start(directory, &["--save", "", "--enable-protected-configs", "yes"]) else {
        return;
    };
    let ours = load(directory, &["--save", "", "--enable-protected-configs", "yes"]).expect("both start with it");
    let context = SetContext {
        is_local_client: true,
        is_loading: false,
    };
    let mut compared = 0;
    for parameter in PARAMETERS
        .iter()
        .filter(|row| !row.is(Flags::OWN) && !LEFT_OUT.contains(&row.name))
    {
        for name in parameter.names() {
            let Ok(old) = oracle.call(&[b"CONFIG", b"GET", name.as_bytes()]) else {
                continue;
            };
            // What 7.2 has added, an older server does not have.
            let [_, old] = old.as_slice() else { continue };
            for value in VALUES {
                // Redis takes this many bytes for 1%, and percentiles in hexadecimal.
                let is_odd = [
                    ("maxmemory-clients", "18446744073709551615"),
                    ("latency-tracking-info-percentiles", "0x10"),
                ];
                if is_odd.contains(&(name, value)) {
                    continue;
                }
                let pair = (name.as_bytes(), value.as_bytes());
                let theirs = oracle.call(&[b"CONFIG", b"SET", pair.0, pair.1]).map(|_| {
                    let shown = oracle.call(&[b"CONFIG", b"GET", pair.0]).expect("the name is known");
                    String::from_utf8_lossy(&shown[1]).into_owned()
                });
                let ours = ours.set(&[pair], &context).map(|change| {
                    let shown = change.accept().get(&[pair.0]).remove(0).1;
                    String::from_utf8_lossy(&shown).into_owned()
                });
                let ours = ours.map_err(|error| error.to_string());
                assert_eq!(ours, theirs, "{name} {value:?}");
                let _ = oracle.call(&[b"CONFIG", b"SET", pair.0, old]);
                compared += 1;
            }
        }
    }
    assert!(compared > 10_000, "{compared}");
}

/// What `redis-server` prints when it refuses its arguments, in the version that we name.
fn refusal(program: &Path, directory: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let start = text.find("(Redis ")? + "(Redis ".len();
    let end = start + text[start..].find(')')?;
    Some(format!("{}{REDIS_VERSION}{}", &text[..start], &text[end..]))
}

#[test]
fn files_and_options_are_refused_as_redis_refuses_them() {
    let Some(program) = support::Oracle::Redis70.program() else {
        return;
    };
    let scratch = Scratch::new("refusals");
    let directory = &scratch.0;
    // Each ends with a line that both refuse, so that what goes before it is compared too and no server stays.
    let last = ["--no-such-parameter", "1"];
    for options in [
        &[][..],
        &["--save"],
        &["--SAVE", "--timeout", "5"],
        &["--save", ""],
        &["--save", "", ""],
        &["--save 1 2 3 4"],
        &["--save", "1", "2", "--save", "3"],
        &["--masterauth", "--foo"],
        &["--masterauth", "--foo", "--bar"],
        &["--masterauth --foo", "--timeout", "7"],
        &["--masterauth ", "--timeout", "7"],
        &["--masterauth=5"],
        &["--timeout 7", "8"],
        &["--masterauth", "a \"b\" \\x35 'c"],
        &["--masterauth \"a b"],
        &["--masterauth 'a b'"],
        &["--client-output-buffer-limit", "normal 1 2 3"],
        &["--client-output-buffer-limit", "normal 1 2"],
        &["--bind", "a", "b"],
        &["--bind", ""],
        &["--replicaof", "a  1"],
        &["--replicaof", "a", "70000"],
        &["--replicaof", "no", "one"],
        &["--replicaof", ""],
        &["--user", "a", "on"],
        &["--include", "/no/such/*"],
        &["--rename-command", "GET"],
        &["--list-max-ziplist-entries", "x"],
        &["--lua-replicate-commands"],
        &["--", "x"],
        &["-x"],
        &["x", "y"],
        &["--port", "1", "-", "--hz", "5"],
        &["--shutdown-on-sigterm"],
        &["--shutdown-on-sigterm", "force  now"],
        &["--oom-score-adj-values", "1", "2"],
        &["--latency-tracking-info-percentiles"],
        &["--notify-keyspace-events", "KEq"],
        &["--dir", "/no/such/directory"],
        &["--unixsocketperm", "0700"],
        &["--unixsocketperm", "+7"],
        &["--io-threads", "0"],
        &["--proc-title-template", "{x}"],
        &["--appendfilename", "a/b"],
        &["--enable-debug-command", "sometimes"],
        &["--supervised", "me"],
        &["--sentinel", "--port", "1"],
    ] {
        // `x y` names a file that is not there, and sentinels are not ours: other texts, other tests.
        if matches!(options, ["x", "y"] | ["--sentinel", ..]) {
            continue;
        }
        let arguments = [options, &last].concat();
        assert_eq!(
            load(directory, &arguments).err(),
            refusal(&program, directory, &arguments),
            "{arguments:?}"
        );
    }
    for text in [
        "port \"abc",
        "port \"abc\"x",
        "'port' 'x'",
        "\"\" x",
        "timeout 5 # five",
        "timeout\t5",
        "timeout \"\\x35\"",
        "timeout '\\x35'",
        "\n\n   \n# c\n\tNOPE x\n",
        "save",
        "save \"1  2\"",
        "save \"1 2\" 3",
        "save 1 2 \\\n3 4",
        "rename-command GET",
        "rename-command A B C",
        "user",
        "include",
        "include a b",
        "loadmodule",
        "sentinel",
        "sentinel monitor x",
        "foo.bar",
        "port 1\r\nhz x\r\n",
        "vm-enabled no",
        "slaveof a x",
        "appenddirname \"\"",
        "dbfilename a/b",
        "client-output-buffer-limit",
        "client-output-buffer-limit \"normal 1 1 1\" pubsub 1 1 1",
        "maxmemory 5zb",
        "maxmemory-clients 101%",
        "cluster-announce-hostname a_b",
    ] {
        fs::write(directory.join("c.conf"), text).expect("the directory is ours");
        let arguments = ["c.conf", last[0], last[1]];
        assert_eq!(
            load(directory, &arguments).err(),
            refusal(&program, directory, &arguments),
            "{text:?}"
        );
    }
}

#[test]
fn each_reads_what_the_other_has_rewritten() {
    let scratch = Scratch::new("rewrite");
    let directory = &scratch.0;
    let text = "# mine\n\nslave-read-only no\nsave 900 1\nsave 5 5 6 6\nrename-command GET GETX\nmaxmemory 3gb\n\
                client-output-buffer-limit pubsub 1 2 3\nproc-title-template \"x {title}\"\n\nloglevel notice\n";
    fs::write(directory.join("a.conf"), text).expect("the directory is ours");
    let Some(mut oracle) = Oracle::start(directory, &["a.conf"]) else {
        return;
    };
    let pairs: &[(&[u8], &[u8])] = &[
        (b"masterauth", b"a\"b\n\x01\xff '"),
        (b"notify-keyspace-events", b"KEA"),
        (b"shutdown-on-sigint", b"nosave force"),
        (b"latency-tracking-info-percentiles", b"50 99.25"),
        (b"client-output-buffer-limit", b"normal 1gb 2mb 3"),
        (b"save", b"1 1 2 2"),
        (b"repl-backlog-size", b"1000000"),
        (b"hz", b"33"),
        (b"list-max-ziplist-size", b"-5"),
        (b"maxmemory-clients", b"7%"),
        (b"oom-score-adj-values", b"1 2 3"),
        (b"tls-protocols", b"TLSv1.2 TLSv1.3"),
    ];
    let words = pairs.iter().flat_map(|(name, value)| [*name, *value]);
    let words: Vec<&[u8]> = [b"CONFIG".as_slice(), b"SET"].into_iter().chain(words).collect();
    oracle.call(&words).expect("the values are good");
    oracle.call(&[b"CONFIG", b"REWRITE"]).expect("the directory is ours");
    let ours = load(directory, &["a.conf"]).expect("what Redis has written can be read");
    assert_same(&mut oracle, &ours);

    // And the other way round, from the same start. Redis does not know the own parameters, which are at their defaults.
    fs::write(directory.join("a.conf"), text).expect("the directory is ours");
    let ours = load(directory, &["a.conf"]).expect("the test's file is right");
    let context = SetContext {
        is_local_client: true,
        is_loading: false,
    };
    let ours = ours.set(pairs, &context).expect("the values are good").accept();
    ours.rewrite(None).expect("the directory is ours");
    drop(oracle);
    let Some(mut oracle) = Oracle::start(directory, &["a.conf"]) else {
        return;
    };
    assert_same(&mut oracle, &ours);
}

/// Compares all that CONFIG GET shows, but for what the oracle was told on its command line.
#[track_caller]
fn assert_same(oracle: &mut Oracle, ours: &Config) {
    let shown = oracle.call(&[b"CONFIG", b"GET", b"*"]).expect("the pattern is right");
    for pair in shown.chunks_exact(2) {
        let name = String::from_utf8_lossy(&pair[0]).into_owned();
        // The oracle lowers this one to what the system allows.
        if ["port", "unixsocket", "maxclients"].contains(&name.as_str()) {
            continue;
        }
        assert_eq!(ours.get(&[&pair[0]]), [(name, pair[1].clone())]);
    }
}

#[test]
fn kinds_describe_themselves() {
    for parameter in PARAMETERS {
        let described = parameter.kind.describe();
        let is_text = matches!(parameter.kind, Kind::Text(_));
        assert!(
            !described.is_empty() && is_text == (described == "text"),
            "{}",
            parameter.name
        );
    }
}
