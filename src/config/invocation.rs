//! What the command line asks of the program: to serve, or to print something and end.
//!
//! `clap` writes the help text, from the same rows as everything else. It does not read the arguments: Redis's rules
//! ([`file`](super::file)) are not those of an option parser, and a wrong option must fail in Redis's words.

use super::{Config, ConfigFileError, REDIS_VERSION};
use std::ffi::OsString;

/// What to do.
#[derive(Debug)]
pub enum Invocation {
    /// Print [`version_text`](Self::version_text).
    Version,
    /// Print [`help_text`](Self::help_text).
    Help,
    /// Print what of this system stands in the way, and how to change it.
    CheckSystem,
    /// Test this many megabytes of memory.
    TestMemory(usize),
    /// Connect to the server at this address (`host:port`, by default 127.0.0.1:6379), say PING, and end with 0 if it
    /// answers PONG: the health check of containers, which have no redis-cli.
    Ping(String),
    /// Check an append-only file: its manifest, or a single one of before Redis 7.
    CheckAof {
        file: String,
        fixes: bool,
        /// Unix seconds.
        truncates_to: Option<u64>,
    },
    /// Print an error and end with 1.
    Misused(&'static str),
    /// Serve.
    Serve(Config),
}

impl Invocation {
    /// Reads the arguments after the program's name. Only a first argument can ask for something other than serving.
    pub fn parse(arguments: &[OsString]) -> Result<Self, ConfigFileError> {
        let words: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
        let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        Ok(match words.as_slice() {
            ["-v" | "--version", ..] => Self::Version,
            ["-h" | "--help", ..] => Self::Help,
            ["--check-system", ..] => Self::CheckSystem,
            ["--ping"] => Self::Ping("127.0.0.1:6379".into()),
            ["--ping", address] => Self::Ping((*address).into()),
            ["--check-aof", rest @ ..] => Self::check_aof(rest).unwrap_or(Self::Misused(
                "Usage: shardis --check-aof [--fix|--truncate-to-timestamp $timestamp] <file.manifest|file.aof>\n",
            )),
            ["--test-memory", megabytes] if megabytes.parse::<usize>().is_ok_and(|count| count > 0) => {
                Self::TestMemory(megabytes.parse().unwrap_or(1))
            }
            ["--test-memory", ..] => Self::Misused(
                "Please specify the amount of memory to test in megabytes.\nExample: shardis --test-memory 4096\n",
            ),
            _ => Self::Serve(Config::load(arguments)?),
        })
    }

    fn check_aof(words: &[&str]) -> Option<Self> {
        let (file, fixes, truncates_to) = match words {
            ["--fix", file] | [file, "--fix"] => (file, true, None),
            ["--truncate-to-timestamp", second, file] | [file, "--truncate-to-timestamp", second] => {
                (file, false, Some(second.parse().ok()?))
            }
            [file] => (file, false, None),
            _ => return None,
        };
        let file = (*file).to_owned();
        (!file.starts_with("--")).then_some(Self::CheckAof {
            file,
            fixes,
            truncates_to,
        })
    }

    /// The line for `--version`. It has Redis's form, because tools look for `v=` in it; `build` says who it really is.
    pub fn version_text() -> String {
        format!(
            "Redis server v={REDIS_VERSION} sha=00000000:0 malloc=jemalloc bits={} build=shardis-{}\n",
            usize::BITS,
            env!("CARGO_PKG_VERSION")
        )
    }

    /// The text for `--help`.
    pub fn help_text() -> String {
        let command = clap::Command::new("shardis")
            .about(env!("CARGO_PKG_DESCRIPTION"))
            .override_usage(
                "shardis [/path/to/redis.conf] [--name value ...] [-]\n       \
                 shardis --name value ...\n       \
                 shardis -                      (reads the configuration from standard input)",
            )
            .disable_version_flag(true)
            .disable_help_flag(true)
            .args([
                clap::Arg::new("version").short('v').long("version").help("Print the version"),
                clap::Arg::new("help").short('h').long("help").help("Print this text"),
                clap::Arg::new("check-system").long("check-system").help("Look for settings of this system that stand in the way"),
                clap::Arg::new("check-aof").long("check-aof").value_name("manifest").help(
                    "Say what of an append only file is whole; with --fix or --truncate-to-timestamp seconds: cut it there",
                ),
                clap::Arg::new("test-memory").long("test-memory").value_name("megabytes").help("Test the memory"),
                clap::Arg::new("ping").long("ping").value_name("host:port").help("Say PING to a server; for health checks"),
                clap::Arg::new("name").long("name").value_name("value").help(
                    "Any line of a configuration file. It overrides the file. A value may stand in the same argument \
                     (\"--port 6380\") and may itself begin with two dashes",
                ),
            ].map(|argument| argument.action(clap::ArgAction::SetTrue)))
            .after_help(
                "Examples:\n  \
                 shardis                                        with the defaults: port 6379, a shard for each CPU\n  \
                 shardis /etc/redis/redis.conf --loglevel verbose\n  \
                 shardis --port 7777 --replicaof 127.0.0.1 8888\n  \
                 echo 'maxmemory 128mb' | shardis -",
            );
        let mut command = command;
        command.render_help().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Invocation {
        Invocation::parse(&arguments.iter().map(OsString::from).collect::<Vec<_>>())
            .expect("the test's arguments are right")
    }

    #[test]
    fn only_the_first_argument_counts() {
        assert!(matches!(parse(&["-v", "x"]), Invocation::Version));
        assert!(matches!(parse(&["--help"]), Invocation::Help));
        let checks = |arguments: &[&str]| match parse(arguments) {
            Invocation::CheckAof {
                file,
                fixes,
                truncates_to,
            } => (file, fixes, truncates_to),
            other => panic!("{other:?}"),
        };
        assert_eq!(checks(&["--check-aof", "f"]), ("f".into(), false, None));
        assert_eq!(checks(&["--check-aof", "--fix", "f"]), ("f".into(), true, None));
        assert_eq!(checks(&["--check-aof", "f", "--fix"]), ("f".into(), true, None));
        let truncating = ["--check-aof", "f", "--truncate-to-timestamp", "17"];
        assert_eq!(checks(&truncating), ("f".into(), false, Some(17)));
        for misused in [
            &["--check-aof"][..],
            &["--check-aof", "--fix"],
            &["--check-aof", "--truncate-to-timestamp", "x", "f"],
        ] {
            assert!(matches!(parse(misused), Invocation::Misused(_)), "{misused:?}");
        }
        assert!(matches!(parse(&["--test-memory", "12"]), Invocation::TestMemory(12)));
        assert!(matches!(parse(&["--test-memory"]), Invocation::Misused(_)));
        assert!(matches!(parse(&["--ping", "h:1"]), Invocation::Ping(address) if address == "h:1"));
        assert!(matches!(parse(&["--masterauth", "--help"]), Invocation::Serve(_)));
    }

    #[test]
    fn texts_say_what_tools_look_for() {
        assert!(Invocation::version_text().starts_with("Redis server v=7.2."));
        let help = Invocation::help_text();
        for word in [
            "redis.conf",
            "--check-system",
            "--test-memory",
            "--ping",
            "Examples:",
            "echo 'maxmemory 128mb' | shardis -",
        ] {
            assert!(help.contains(word), "{help}");
        }
    }
}
