//! CONFIG SET: several parameters at once, all or nothing, in two phases.
//!
//! The first phase is pure: [`Config::set`](super::Config::set) reads all values into a copy of the settings and answers a
//! [`Change`], or an error, and nothing has happened. In the second, the server gives effect to what has changed
//! ([`Change::apply`]): listens on the new port, raises the limit of open files. Where that fails, the effects so far are
//! taken back in reverse order and the old configuration stays. Only then are the new settings shared.
//!
//! Invariant: an error leaves the configuration, and the effects of it, as they were.

use super::{
    Config,
    kind::Source,
    parameter::{Flags, Parameter},
    settings::Settings,
};
use std::fmt;

/// What CONFIG SET must know of its circumstances.
#[derive(Clone, Copy, Debug)]
pub struct SetContext {
    /// Whether the client came over the loopback interface or the Unix socket.
    pub is_local_client: bool,
    /// Whether the dataset is still being loaded.
    pub is_loading: bool,
}

/// Why CONFIG SET is refused. Displays as the text of the error reply, code included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetError {
    /// There is no such parameter.
    Unknown(String),
    /// A parameter can not be set, or not to this value.
    Failed {
        /// The parameter's name.
        parameter: String,
        /// Redis's words.
        reason: String,
    },
    /// Not while the dataset is loaded.
    Loading,
}

impl SetError {
    /// The error of an effect that has failed.
    pub fn failed(parameter: &str, reason: impl Into<String>) -> Self {
        Self::Failed {
            parameter: parameter.into(),
            reason: reason.into(),
        }
    }
}

impl fmt::Display for SetError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => {
                write!(
                    out,
                    "ERR Unknown option or number of arguments for CONFIG SET - '{name}'"
                )
            }
            Self::Failed { parameter, reason } => {
                write!(
                    out,
                    "ERR CONFIG SET failed (possibly related to argument '{parameter}') - {reason}"
                )
            }
            Self::Loading => out.write_str("LOADING Redis is loading the dataset in memory"),
        }
    }
}

impl std::error::Error for SetError {}

/// A configuration that differs from the one in force, before it takes effect.
#[derive(Debug)]
pub struct Change {
    old: Config,
    new: Config,
    /// What differs, in the order of the command, with the names that the command used.
    changed: Vec<(&'static str, &'static Parameter)>,
}

impl Change {
    /// The parameters whose values differ, in the order of the command.
    pub fn parameters(&self) -> impl Iterator<Item = &'static Parameter> + '_ {
        self.changed.iter().map(|(_, parameter)| *parameter)
    }

    /// The settings in force.
    pub fn before(&self) -> &Settings {
        self.old.settings()
    }

    /// The settings to come.
    pub fn after(&self) -> &Settings {
        self.new.settings()
    }

    /// Takes the new configuration without effects, or after the caller has seen to them.
    pub fn accept(self) -> Config {
        self.new
    }

    /// Gives effect to each changed parameter in turn: `effect(parameter, settings)`. When one fails, `effect` is called with
    /// the old settings for it and for those before it, in reverse order, and what that answers is ignored.
    pub fn apply(
        self,
        mut effect: impl FnMut(&'static Parameter, &Settings) -> Result<(), String>,
    ) -> Result<Config, SetError> {
        for (index, (name, parameter)) in self.changed.iter().enumerate() {
            if let Err(reason) = effect(parameter, self.new.settings()) {
                for (_, applied) in self.changed[..=index].iter().rev() {
                    let _ = effect(applied, self.old.settings());
                }
                return Err(SetError::failed(name, reason));
            }
        }
        Ok(self.new)
    }
}

/// The first phase of CONFIG SET.
pub(super) fn prepare(config: &Config, pairs: &[(&[u8], &[u8])], context: &SetContext) -> Result<Change, SetError> {
    let settings = config.settings();
    let mut rows: Vec<(&'static str, &'static Parameter, &[u8])> = Vec::with_capacity(pairs.len());
    // All names are looked at before any value.
    for &(given, value) in pairs {
        let shown = String::from_utf8_lossy(given);
        let Some((name, parameter)) = Parameter::find(given) else {
            return Err(SetError::Unknown(shown.into_owned()));
        };
        // One of our own is accepted where it changes nothing: a tool that sets all that it has read must not stumble over what it
        // cannot know.
        let is_idle = || parameter.is(Flags::OWN) && parameter.text(settings) == value;
        if parameter.is(Flags::IMMUTABLE) && !is_idle() {
            return Err(SetError::failed(&shown, "can't set immutable config"));
        }
        if parameter.is(Flags::PROTECTED) && !settings.enable_protected_configs.allows(context.is_local_client) {
            return Err(SetError::failed(&shown, "can't set protected config"));
        }
        if parameter.is(Flags::DENY_LOADING) && context.is_loading {
            return Err(SetError::Loading);
        }
        // A name and its older name count as two.
        if rows.iter().any(|(other, ..)| *other == name) {
            return Err(SetError::failed(name, "duplicate parameter"));
        }
        rows.push((name, parameter, value));
    }
    let mut new = settings.clone();
    for (name, parameter, value) in &rows {
        parameter
            .parse_into(&mut new, &[value], Source::Command, settings.dir.as_path())
            .map_err(|reason| SetError::failed(name, reason))?;
    }
    let mut changed: Vec<(&'static str, &'static Parameter)> = Vec::new();
    for (name, parameter, _) in rows {
        let is_new = parameter.value(&new) != parameter.value(settings);
        if is_new && !changed.iter().any(|(_, other)| *other == parameter) {
            changed.push((name, parameter));
        }
    }
    Ok(Change {
        old: config.clone(),
        new: config.with_settings(new),
        changed,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{loaded, text_of};
    use super::*;

    const REMOTE: SetContext = SetContext {
        is_local_client: false,
        is_loading: false,
    };

    fn set(config: &Config, pairs: &[(&str, &str)]) -> Result<Config, String> {
        set_in(config, pairs, &REMOTE)
    }

    fn set_in(config: &Config, pairs: &[(&str, &str)], context: &SetContext) -> Result<Config, String> {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
        config
            .set(&pairs, context)
            .map(Change::accept)
            .map_err(|error| error.to_string())
    }

    fn failed(name: &str, reason: &str) -> Result<Config, String> {
        Err(format!(
            "ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}"
        ))
    }

    /// Compares refusals, which are all that a test can compare of a `Config`.
    #[track_caller]
    fn assert_refused(actual: Result<Config, String>, expected: Result<Config, String>) {
        assert_eq!(actual.err(), expected.err());
    }

    #[test]
    fn refuses_in_the_words_of_redis() {
        let config = loaded(&[]);
        // As redis-server 7.0.15 answers.
        for (name, value, reason) in [
            ("timeout", "abc", "argument couldn't be parsed into an integer"),
            ("timeout", "05", "argument couldn't be parsed into an integer"),
            ("timeout", "-1", "argument must be between 0 and 2147483647 inclusive"),
            ("SLAVE-PRIORITY", "x", "argument couldn't be parsed into an integer"),
            (
                "acllog-max-len",
                "-1",
                "argument must be between 0 and 9223372036854775807 inclusive",
            ),
            ("maxclients", "0", "argument must be between 1 and 4294967295 inclusive"),
            ("maxmemory", "1 gb", "argument must be a memory value"),
            ("maxmemory", "-1", "argument must be a memory value"),
            (
                "proto-max-bulk-len",
                "1",
                "argument must be between 1048576 and 9223372036854775807 inclusive",
            ),
            (
                "maxmemory-clients",
                "101%",
                "percentage argument must be less or equal to 100",
            ),
            ("maxmemory-clients", "-5%", "argument must be a memory or percent value"),
            ("activedefrag", "maybe", "argument must be 'yes' or 'no'"),
            (
                "appendfsync",
                "sometimes",
                "argument(s) must be one of the following: everysec, always, no",
            ),
            (
                "shutdown-on-sigterm",
                "force  nosave",
                "argument(s) must be one of the following: default, save, nosave, now, force",
            ),
            (
                "shutdown-on-sigterm",
                "save nosave",
                "shutdown options SAVE and NOSAVE can't be used simultaneously",
            ),
            ("oom-score-adj-values", "1 2", "wrong number of arguments"),
            (
                "oom-score-adj-values",
                "1 2 2001",
                "Invalid oom-score-adj-values, elements must be between -2000 and 2000.",
            ),
            ("save", "1 2 3", "Invalid save parameters"),
            ("save", "1  2", "Invalid save parameters"),
            ("save", "0 1", "Invalid save parameters"),
            (
                "client-output-buffer-limit",
                "normal 1 2",
                "Wrong number of arguments in buffer limit configuration.",
            ),
            (
                "client-output-buffer-limit",
                "master 1 2 3",
                "Invalid client class specified in buffer limit configuration.",
            ),
            (
                "client-output-buffer-limit",
                "normal 1 2 -3",
                "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
            ),
            (
                "notify-keyspace-events",
                "q",
                "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.",
            ),
            (
                "latency-tracking-info-percentiles",
                "50 a",
                "Invalid latency-tracking-info-percentiles parameters",
            ),
            (
                "latency-tracking-info-percentiles",
                "101",
                "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]",
            ),
            (
                "proc-title-template",
                "{x}",
                "template format is invalid or contains unknown variables",
            ),
            (
                "cluster-announce-hostname",
                "a_b",
                "Hostnames may only contain alphanumeric characters, hyphens or dots",
            ),
            (
                "bind",
                "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17",
                "Too many bind addresses specified.",
            ),
        ] {
            assert_refused(set(&config, &[(name, value)]), failed(&name.to_lowercase(), reason));
        }
        assert_refused(
            set(&config, &[("DAEMONIZE", "yes")]),
            failed("DAEMONIZE", "can't set immutable config"),
        );
        assert_refused(
            set(&config, &[("daemonize", "no")]),
            failed("daemonize", "can't set immutable config"),
        );
        assert_refused(
            set(&config, &[("pin-shards", "no")]),
            failed("pin-shards", "can't set immutable config"),
        );
        assert!(set(&config, &[("pin-shards", "yes"), ("shards", "auto")]).is_ok());
        assert_refused(
            set(&config, &[("dir", "/")]),
            failed("dir", "can't set protected config"),
        );
        let twice = set(&config, &[("Timeout", "1"), ("timeout", "2")]);
        assert_refused(twice, failed("timeout", "duplicate parameter"));
        let unknown = Err("ERR Unknown option or number of arguments for CONFIG SET - 'nOpe'".to_string());
        assert_refused(set(&config, &[("port", "x"), ("nOpe", "1")]), unknown);
    }

    #[test]
    fn all_or_nothing() {
        let config = loaded(&[]);
        assert!(set(&config, &[("timeout", "5"), ("hz", "x")]).is_err());
        assert_eq!(config.settings().timeout, 0);
        let config = set(&config, &[("timeout", "5"), ("hz", "50")]).expect("both values are good");
        assert_eq!((config.settings().timeout, config.settings().hz), (5, 50));
    }

    #[test]
    fn a_name_and_its_older_name_may_both_be_set() {
        let config = set(&loaded(&[]), &[("slave-read-only", "no"), ("replica-read-only", "yes")]);
        assert!(
            config
                .expect("Redis allows it, and the last one counts")
                .settings()
                .replica_read_only
        );
    }

    #[test]
    fn values_are_shown_as_redis_shows_them() {
        let config = loaded(&["--enable-protected-configs", "yes"]);
        for (name, value, shown) in [
            ("maxmemory", "1Gb", "1073741824"),
            ("maxmemory", "1g", "1000000000"),
            ("maxmemory", "", "0"),
            ("maxmemory", "99999999999999999999999", "18446744073709551615"),
            ("maxmemory-clients", "5%", "5%"),
            ("maxmemory-clients", "0%", "0"),
            ("hz", "0", "1"),
            ("hz", "501", "500"),
            ("shutdown-on-sigterm", "FORCE now", "now force"),
            ("shutdown-on-sigterm", "default force", "force"),
            ("shutdown-on-sigint", "default", "default"),
            ("oom-score-adj", "relative", "yes"),
            ("save", "01 2 3 4", "1 2 3 4"),
            ("save", "", ""),
            ("notify-keyspace-events", "Kg$lshzxet", "g$lshzxetK"),
            ("notify-keyspace-events", "KEA", "AKE"),
            (
                "latency-tracking-info-percentiles",
                "50 1e1 99.1234567",
                "50 10 99.123457",
            ),
            (
                "client-output-buffer-limit",
                "Replica 1mb 2kb 3",
                "normal 0 0 0 slave 1048576 2048 3 pubsub 33554432 8388608 60",
            ),
            ("bind", "", ""),
            ("requirepass", "a b\n", "a b\n"),
            ("dir", "/../", "/"),
        ] {
            let config = set(&config, &[(name, value)]).expect(value);
            assert_eq!(text_of(&config, name), shown, "{name} {value}");
        }
    }

    #[test]
    fn protection_and_loading() {
        let local = SetContext {
            is_local_client: true,
            is_loading: false,
        };
        let loading = SetContext {
            is_local_client: true,
            is_loading: true,
        };
        let config = loaded(&["--enable-protected-configs", "local"]);
        assert!(set_in(&config, &[("dbfilename", "x")], &local).is_ok());
        assert!(set(&config, &[("dbfilename", "x")]).is_err());
        let refused = set_in(&config, &[("appendonly", "yes")], &loading).err();
        assert_eq!(
            refused.as_deref(),
            Some("LOADING Redis is loading the dataset in memory")
        );
    }

    #[test]
    fn failed_effects_are_taken_back() {
        let config = loaded(&[]);
        let pairs: [(&[u8], &[u8]); 3] = [(b"port", b"1"), (b"timeout", b"0"), (b"maxclients", b"7")];
        let change = config.set(&pairs, &REMOTE).expect("the values are good");
        assert_eq!(
            change.parameters().map(|row| row.name).collect::<Vec<_>>(),
            ["port", "maxclients"]
        );
        let mut effects = Vec::new();
        let applied = change.apply(|row, settings| {
            effects.push((
                row.name,
                String::from_utf8(row.text(settings)).expect("numbers are ASCII"),
            ));
            if settings.maxclients == 7 && row.name == "maxclients" {
                Err("no".into())
            } else {
                Ok(())
            }
        });
        assert_eq!(applied.err(), Some(SetError::failed("maxclients", "no")));
        let expected = [
            ("port", "1"),
            ("maxclients", "7"),
            ("maxclients", "10000"),
            ("port", "6379"),
        ];
        assert_eq!(effects, expected.map(|(name, value)| (name, value.to_string())));
    }
}
