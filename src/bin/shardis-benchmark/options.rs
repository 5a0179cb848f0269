//! The command line, and what it is resolved into.
//!
//! Short options are those of `redis-benchmark` where they mean the same (`-h -p -s -a -c -n -P -d -r`), so `-h` is the
//! host and help is `--help` alone. [`Options`] is what was typed, [`Plan`] what will be done: a plan has no option that
//! contradicts another, and all its templates are encoded.

use std::{num::NonZeroU64, path::PathBuf, time::Duration};

use clap::{ArgAction, Parser};
use thiserror::Error;

use crate::{
    connection::{Connector, Endpoint},
    distribution::{KeyDistribution, Zipf},
    template::{RequestLayout, Template, TemplateError},
};

/// Commands that `--mix` knows by name.
const NAMED_COMMANDS: [(&str, &str); 20] = [
    ("ping", "PING"),
    ("get", "GET __key__"),
    ("set", "SET __key__ __value__"),
    ("setex", "SETEX __key__ 3600 __value__"),
    ("del", "DEL __key__"),
    ("exists", "EXISTS __key__"),
    ("incr", "INCR counter:__key__"),
    ("mget", "MGET __keys:10__"),
    ("mset", "MSET __pairs:10__"),
    ("hset", "HSET hash:__key__ field __value__"),
    ("hget", "HGET hash:__key__ field"),
    ("lpush", "LPUSH list:__key__ __value__"),
    ("rpush", "RPUSH list:__key__ __value__"),
    ("lpop", "LPOP list:__key__"),
    ("rpop", "RPOP list:__key__"),
    ("sadd", "SADD set:__key__ __rand__"),
    ("spop", "SPOP set:__key__"),
    ("zadd", "ZADD zset:__key__ __rand__ __rand__"),
    ("zpopmin", "ZPOPMIN zset:__key__"),
    ("publish", "PUBLISH channel:__key__ __value__"),
];

/// Puts load on a Redis-compatible server and measures throughput and latency.
#[derive(Debug, Clone, Parser)]
#[command(name = "shardis-benchmark", version, disable_help_flag = true)]
pub struct Options {
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,

    /// Host of the server
    #[arg(short = 'h', long, default_value = "127.0.0.1")]
    pub host: String,
    /// Port of the server
    #[arg(short = 'p', long, default_value_t = 6379)]
    pub port: u16,
    /// Unix socket of the server, instead of host and port
    #[arg(short = 's', long)]
    pub socket: Option<PathBuf>,
    /// HOST:PORT of a server; given several times, the connections are dealt out over several independent servers
    #[arg(long, conflicts_with_all = ["socket", "cluster"])]
    pub endpoint: Vec<String>,
    /// Password
    #[arg(short = 'a', long)]
    pub auth: Option<String>,
    /// User name for the password
    #[arg(long, requires = "auth")]
    pub user: Option<String>,
    /// Database to select
    #[arg(long, default_value_t = 0)]
    pub db: u32,
    /// Protocol version, 2 or 3
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=3))]
    pub resp: u8,
    /// Seconds to wait for a connection, and for the last replies
    #[arg(long, default_value_t = 10.0)]
    pub timeout: f64,
    /// Send each request to the node or port that owns its key, as CLUSTER SLOTS says; follow MOVED and ASK
    #[arg(long)]
    pub cluster: bool,

    /// Connections in all; in cluster mode clients, each with a connection to every node
    #[arg(short = 'c', long, default_value_t = 50)]
    pub connections: usize,
    /// Requests that a connection sends before it waits for the replies
    #[arg(short = 'P', long, default_value_t = 1)]
    pub pipeline: usize,
    /// Threads of this program [default: half the CPUs that it may use]
    #[arg(long)]
    pub threads: Option<usize>,
    /// CPUs to pin the threads to, in turn, such as 1,2,3
    #[arg(long, value_delimiter = ',')]
    pub cpus: Vec<usize>,

    /// Measured requests in all, instead of a duration
    #[arg(short = 'n', long, conflicts_with = "duration")]
    pub requests: Option<NonZeroU64>,
    /// Measured seconds [default: 10]
    #[arg(long)]
    pub duration: Option<f64>,
    /// Seconds of the same load before the measurement begins
    #[arg(long, default_value_t = 0.0)]
    pub warmup: f64,
    /// Open loop: requests per second in all, sent by the clock; latency counts from the intended time
    #[arg(long)]
    pub rate: Option<f64>,

    /// Size of the key space
    #[arg(short = 'r', long, default_value = "100000")]
    pub keys: NonZeroU64,
    /// What every key begins with
    #[arg(long, default_value = "key:")]
    pub key_prefix: String,
    /// Length of a key in bytes, prefix and number
    #[arg(long, default_value_t = 16)]
    pub key_bytes: usize,
    /// Which keys are asked for: uniform, or zipf:THETA (zipf is zipf:0.99)
    #[arg(long, default_value = "uniform")]
    pub distribution: String,
    /// Size of a value in bytes
    #[arg(short = 'd', long, default_value_t = 64)]
    pub value_bytes: usize,
    /// Share of GET in a load of GET and SET, 0 to 1 [default: 0.8]
    #[arg(long, conflicts_with_all = ["mix", "command"])]
    pub read_ratio: Option<f64>,
    /// Commands with weights, such as get:80,set:20
    #[arg(long, value_delimiter = ',')]
    pub mix: Vec<String>,
    /// COMMAND, or WEIGHT:COMMAND, with placeholders __key__ __value__ __rand__ __keys:N__ __pairs:N__; may be given several times
    #[arg(long)]
    pub command: Vec<String>,
    /// Seed of all random choices
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// Write every key once before the load
    #[arg(long)]
    pub preload: bool,
    /// Write every key once and end
    #[arg(long)]
    pub preload_only: bool,
    /// How a key is written by --preload
    #[arg(long, default_value = "SET __key__ __value__")]
    pub preload_command: String,

    /// Write the result as JSON
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Write the result as one self-contained page with plots
    #[arg(long)]
    pub html: Option<PathBuf>,
    /// Seconds of one point of the time series [default: a hundredth of the duration, 0.1 to 1]
    #[arg(long)]
    pub interval: Option<f64>,
    /// Title of the page and of the JSON file
    #[arg(long, default_value = "shardis-benchmark")]
    pub title: String,
    /// Do not print the result
    #[arg(short = 'q', long)]
    pub quiet: bool,
}

/// A combination of options that cannot be run.
#[derive(Debug, Error, PartialEq)]
pub enum OptionError {
    /// An option's value is out of its range.
    #[error("{option}: '{value}' {reason}")]
    Value {
        /// The option as typed.
        option: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        reason: String,
    },
    /// A command template cannot be encoded.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

/// Commands and how often each is sent.
#[derive(Debug, Clone)]
pub struct CommandMix {
    /// The encoded commands.
    pub templates: Vec<Template>,
    /// Cumulated weights; the last is the sum.
    cumulated: Vec<u64>,
}

impl CommandMix {
    /// A mix of templates with weights above zero.
    pub fn new(weighted: Vec<(u64, Template)>) -> CommandMix {
        let mut sum = 0;
        let mut mix = CommandMix {
            templates: Vec::new(),
            cumulated: Vec::new(),
        };
        for (weight, template) in weighted {
            sum += weight;
            mix.cumulated.push(sum);
            mix.templates.push(template);
        }
        assert!(sum > 0, "a mix has at least one command");
        mix
    }

    /// Draws the index of a command.
    #[inline]
    pub fn draw(&self, rng: &mut fastrand::Rng) -> usize {
        if self.templates.len() == 1 {
            return 0;
        }
        let sum = self.cumulated[self.cumulated.len() - 1];
        let target = rng.u64(..sum);
        // Mixes are short: a scan beats a search.
        self.cumulated
            .iter()
            .position(|&upper| target < upper)
            .expect("the target is below the last upper bound")
    }
}

/// When a run ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Extent {
    /// After so many measured requests.
    Requests(u64),
    /// After so long.
    Duration(Duration),
}

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The servers; one in cluster mode, to be asked for the others.
    pub endpoints: Vec<Endpoint>,
    /// How to connect.
    pub connector: Connector,
    /// Whether requests go straight to the owners of their keys.
    pub is_cluster: bool,
    /// Connections, or clients in cluster mode.
    pub client_count: usize,
    /// Threads, never more than clients.
    pub thread_count: usize,
    /// CPUs for the threads, in turn; empty for no pinning.
    pub cpus: Vec<usize>,
    /// Requests on the way for each client.
    pub pipeline: usize,
    /// When the measured load ends; `None` for a preload alone.
    pub extent: Option<Extent>,
    /// Load before the measurement.
    pub warmup: Duration,
    /// Requests per second of an open loop.
    pub rate: Option<f64>,
    /// Which keys are asked for.
    pub distribution: KeyDistribution,
    /// Size of the key space.
    pub key_count: u64,
    /// What is sent.
    pub mix: CommandMix,
    /// What writes a key before the load.
    pub preload: Option<CommandMix>,
    /// Point distance of the time series.
    pub interval: Duration,
    /// Seed of all random choices.
    pub seed: u64,
}

impl Options {
    /// Checks the options and encodes the commands. `cpu_count` is how many CPUs this process may use.
    pub fn resolve(&self, cpu_count: usize) -> Result<Plan, OptionError> {
        let layout = self.layout()?;
        let endpoints = self.endpoints()?;
        let client_count = at_least_one("--connections", self.connections)?;
        let thread_count = match self.threads {
            Some(count) => at_least_one("--threads", count)?,
            None => (cpu_count / 2).max(1),
        };
        let duration = positive_seconds("--duration", self.duration.unwrap_or(10.0))?;
        let extent = match self.requests {
            Some(requests) => Extent::Requests(requests.get()),
            None => Extent::Duration(duration),
        };
        let default_interval = match extent {
            Extent::Duration(duration) => (duration.as_secs_f64() / 100.0).clamp(0.1, 1.0),
            Extent::Requests(_) => 0.1,
        };
        if let Some(rate) = self.rate
            && !(rate > 0.0 && rate.is_finite())
        {
            return Err(wrong("--rate", rate, "must be above zero"));
        }
        let preload = (self.preload || self.preload_only)
            .then(|| Template::parse(&self.preload_command, &layout))
            .transpose()?
            .map(|template| CommandMix::new(vec![(1, template)]));
        Ok(Plan {
            connector: Connector {
                user: self.user.clone(),
                password: self.auth.clone(),
                database: self.db,
                is_resp3: self.resp == 3,
                timeout: positive_seconds("--timeout", self.timeout)?,
            },
            is_cluster: self.cluster,
            client_count: client_count.max(endpoints.len()),
            thread_count: thread_count.min(client_count),
            cpus: self.cpus.clone(),
            pipeline: at_least_one("--pipeline", self.pipeline)?,
            extent: (!self.preload_only).then_some(extent),
            warmup: seconds("--warmup", self.warmup)?,
            rate: self.rate,
            distribution: self.key_distribution()?,
            key_count: self.keys.get(),
            mix: self.command_mix(&layout)?,
            preload,
            interval: positive_seconds("--interval", self.interval.unwrap_or(default_interval))?,
            seed: self.seed,
            endpoints,
        })
    }

    fn endpoints(&self) -> Result<Vec<Endpoint>, OptionError> {
        if let Some(path) = &self.socket {
            return Ok(vec![Endpoint::Unix(path.clone())]);
        }
        if self.endpoint.is_empty() {
            return Ok(vec![Endpoint::Tcp {
                host: self.host.clone(),
                port: self.port,
            }]);
        }
        self.endpoint
            .iter()
            .map(|text| Endpoint::parse(text).ok_or_else(|| wrong("--endpoint", text, "is not HOST:PORT")))
            .collect()
    }

    fn layout(&self) -> Result<RequestLayout, OptionError> {
        let digits_needed = (self.keys.get() - 1).max(1).ilog10() as usize + 1;
        let key_digits = self.key_bytes.saturating_sub(self.key_prefix.len());
        if key_digits < digits_needed {
            return Err(wrong(
                "--key-bytes",
                self.key_bytes,
                format!(
                    "is too short: the prefix takes {} and the number {digits_needed}",
                    self.key_prefix.len()
                ),
            ));
        }
        // The value is printable, does not repeat within a line of any dump, and is the same in every run.
        let mut rng = fastrand::Rng::with_seed(0x5EED);
        Ok(RequestLayout {
            key_prefix: self.key_prefix.clone().into_bytes(),
            key_digits,
            value: (0..self.value_bytes).map(|_| rng.alphanumeric() as u8).collect(),
        })
    }

    fn key_distribution(&self) -> Result<KeyDistribution, OptionError> {
        let key_count = self.keys.get();
        let (name, theta) = match self.distribution.split_once(':') {
            Some((name, theta)) => (name, Some(theta)),
            None => (self.distribution.as_str(), None),
        };
        match (name, theta) {
            ("uniform", None) => Ok(KeyDistribution::Uniform { key_count }),
            ("zipf", theta) => theta
                .unwrap_or("0.99")
                .parse::<f64>()
                .ok()
                .filter(|theta| *theta > 0.0 && theta.is_finite())
                .map(|theta| KeyDistribution::Zipf(Zipf::new(key_count, theta)))
                .ok_or_else(|| wrong("--distribution", &self.distribution, "needs an exponent above zero")),
            _ => Err(wrong(
                "--distribution",
                &self.distribution,
                "is neither uniform nor zipf:THETA",
            )),
        }
    }

    fn command_mix(&self, layout: &RequestLayout) -> Result<CommandMix, OptionError> {
        let mut weighted = Vec::new();
        for entry in &self.mix {
            let (name, weight) = match entry.split_once(':') {
                Some((name, weight)) => (name, weight.parse().unwrap_or(0)),
                None => (entry.as_str(), 1),
            };
            if weight == 0 {
                return Err(wrong("--mix", entry, "needs a whole weight above zero"));
            }
            let source = NAMED_COMMANDS
                .iter()
                .find(|(known, _)| known.eq_ignore_ascii_case(name))
                .map(|(_, source)| source)
                .ok_or_else(|| {
                    let names: Vec<_> = NAMED_COMMANDS.iter().map(|(known, _)| *known).collect();
                    wrong(
                        "--mix",
                        name,
                        format!("is not one of {}; see --command for others", names.join(", ")),
                    )
                })?;
            weighted.push((weight, Template::parse(source, layout)?));
        }
        for entry in &self.command {
            let (weight, source) = match entry.split_once(':') {
                Some((weight, source)) if !weight.is_empty() && weight.bytes().all(|byte| byte.is_ascii_digit()) => {
                    (weight.parse().unwrap_or(0), source)
                }
                _ => (1, entry.as_str()),
            };
            if weight == 0 {
                return Err(wrong("--command", entry, "needs a weight above zero"));
            }
            weighted.push((weight, Template::parse(source, layout)?));
        }
        if weighted.is_empty() {
            let ratio = self.read_ratio.unwrap_or(0.8);
            if !(0.0..=1.0).contains(&ratio) {
                return Err(wrong("--read-ratio", ratio, "must be between 0 and 1"));
            }
            // A resolution of one in a million is finer than any run can tell.
            let reads = (ratio * 1e6).round() as u64;
            for (weight, source) in [(reads, "GET __key__"), (1_000_000 - reads, "SET __key__ __value__")] {
                if weight > 0 {
                    weighted.push((weight, Template::parse(source, layout)?));
                }
            }
        }
        Ok(CommandMix::new(weighted))
    }
}

fn wrong(option: &'static str, value: impl ToString, reason: impl Into<String>) -> OptionError {
    OptionError::Value {
        option,
        value: value.to_string(),
        reason: reason.into(),
    }
}

fn at_least_one(option: &'static str, count: usize) -> Result<usize, OptionError> {
    if count == 0 {
        Err(wrong(option, count, "must be at least 1"))
    } else {
        Ok(count)
    }
}

fn seconds(option: &'static str, value: f64) -> Result<Duration, OptionError> {
    Duration::try_from_secs_f64(value)
        .ok()
        // Nanoseconds since the start must fit into 64 bits with room to spare.
        .filter(|duration| *duration <= Duration::from_secs(10 * 365 * 86_400))
        .ok_or_else(|| wrong(option, value, "is not a number of seconds"))
}

fn positive_seconds(option: &'static str, value: f64) -> Result<Duration, OptionError> {
    seconds(option, value)?
        .checked_sub(Duration::from_micros(1))
        .map(|rest| rest + Duration::from_micros(1))
        .ok_or_else(|| wrong(option, value, "must be above zero"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(arguments: &[&str]) -> Result<Plan, OptionError> {
        let program = std::iter::once(&"shardis-benchmark");
        Options::try_parse_from(program.chain(arguments)).unwrap().resolve(4)
    }

    fn share(plan: &Plan, command: usize) -> f64 {
        let mut rng = fastrand::Rng::with_seed(1);
        let hits = (0..10_000).filter(|_| plan.mix.draw(&mut rng) == command).count();
        hits as f64 / 10_000.0
    }

    #[test]
    fn the_mix_comes_from_one_of_three_options() {
        let default = resolve(&[]).unwrap();
        assert_eq!(default.mix.templates[0].name, "GET");
        assert!((share(&default, 0) - 0.8).abs() < 0.02);
        let mix = resolve(&["--mix", "set:1,incr:3", "--command", "4:LLEN list:__key__"]).unwrap();
        let names: Vec<_> = mix.mix.templates.iter().map(|template| &template.name).collect();
        assert_eq!(names, ["SET", "INCR", "LLEN"]);
        assert!((share(&mix, 1) - 0.375).abs() < 0.02);
        assert!((share(&mix, 2) - 0.5).abs() < 0.02);
        assert_eq!(resolve(&["--read-ratio", "1"]).unwrap().mix.templates.len(), 1);
    }

    #[test]
    fn every_named_command_can_be_encoded() {
        for (name, _) in NAMED_COMMANDS {
            let plan = resolve(&["--mix", name]).unwrap();
            assert_eq!(plan.mix.templates[0].name, name.to_uppercase());
        }
    }

    #[test]
    fn contradictions_are_refused() {
        for (arguments, option) in [
            (&["--connections", "0"][..], "--connections"),
            (&["--pipeline", "0"], "--pipeline"),
            (&["--rate", "0"], "--rate"),
            (&["--duration", "0"], "--duration"),
            (&["--warmup", "1e99"], "--warmup"),
            (&["--keys", "1000000000000000"], "--key-bytes"),
            (&["--distribution", "zipf:0"], "--distribution"),
            (&["--distribution", "normal"], "--distribution"),
            (&["--mix", "get:0"], "--mix"),
            (&["--mix", "frobnicate"], "--mix"),
            (&["--read-ratio", "2"], "--read-ratio"),
            (&["--endpoint", "nowhere"], "--endpoint"),
        ] {
            match resolve(arguments).unwrap_err() {
                OptionError::Value { option: named, .. } => assert_eq!(named, option),
                other => panic!("{arguments:?}: {other}"),
            }
        }
        for arguments in [
            ["-n", "0", "-q"],
            ["-n", "5", "--duration=1"],
            ["--resp", "4", "-q"],
            ["--read-ratio", "1", "--mix=get"],
        ] {
            let program = std::iter::once("shardis-benchmark");
            assert!(Options::try_parse_from(program.chain(arguments)).is_err());
        }
    }

    #[test]
    fn defaults_fit_together() {
        let plan = resolve(&["-c", "1", "--threads", "8", "-n", "5"]).unwrap();
        assert_eq!(plan.thread_count, 1, "a thread without a client is of no use");
        assert_eq!(plan.extent, Some(Extent::Requests(5)));
        let plan = resolve(&["--endpoint", "a:1", "--endpoint", "b:2", "-c", "1"]).unwrap();
        assert_eq!(plan.client_count, 2, "every server has a client");
        assert_eq!(resolve(&["--preload-only"]).unwrap().extent, None);
        assert_eq!(
            resolve(&["-r", "1000000000000"]).unwrap().key_count,
            1_000_000_000_000,
            "twelve digits suffice for the numbers 0 to 10^12 - 1"
        );
    }
}
