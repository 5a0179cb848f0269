//! How the words of a directive become a [`Value`], and a value becomes words again: one function each way for every kind.
//!
//! A kind is data, not a trait object, so that the declaration of a parameter reads like a table row
//! (`integer(0, 65535)`), and so that the documentation, the sample file and the tests can look at its bounds.
//!
//! Invariants:
//! 1. What [`Kind::text`] writes, [`Kind::parse`] reads back to the same value. (But for a `replicaof` that is not set: Redis
//!    shows nothing, and does not read nothing.)
//! 2. An error text is Redis's own, byte for byte, without the `CONFIG SET failed` or `FATAL` around it: tools match on it.
//! 3. Nothing is stored here: parsing gets the old value and answers the new one, so that a refused CONFIG SET has
//!    nothing to undo.
//!
//! Where Redis's own conversion goes wrong on absurd input this one does not: `99999999999gb` is the greatest number
//! of bytes instead of what is left of it modulo 2^64. Source of formats:
//! <https://redis.io/docs/latest/operate/oss_and_stack/management/config-file/>, and a real server's answers.

use super::value::{
    ClientClass, Endpoint, KeyspaceEvents, MemoryOrPercent, OutputLimit, OutputLimits, SavePoint, Text, Value,
};
use std::{num::IntErrorKind, path::Path};

/// The greatest number of addresses that `bind` takes.
const BIND_ADDRESSES_MAX: usize = 16;

/// The kind of a parameter's value.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `yes` or `no`.
    Bool,
    /// A whole number. What is accepted but outside `keep` is moved to its nearest end, as Redis does with `hz`.
    Integer { min: i128, max: i128, keep: (i128, i128) },
    /// A whole number above zero, or `auto` (held as 0).
    CountOrAuto { max: i128 },
    /// A number of bytes, with a unit: `1k` is 1000, `1kb` is 1024, and so on with m and g. Less than `least` is accepted
    /// and becomes `least`, as Redis does with `repl-backlog-size`.
    Memory { min: u64, max: u64, least: u64 },
    /// A number of bytes, or `n%`.
    MemoryOrPercent,
    /// Permission bits in octal.
    Octal { max: u32 },
    /// One of these words.
    Choice(&'static [(&'static str, u32)]),
    /// Some of these words; the second part says why a set of bits makes no sense.
    Bits(&'static [(&'static str, u32)], fn(u32) -> Result<(), String>),
    /// Bytes, if the function has nothing against them.
    Text(fn(&[u8]) -> Result<(), String>),
    /// A directory that exists. Held as an absolute path.
    Directory,
    /// `bind`: up to 16 addresses.
    Addresses,
    /// `save`: pairs of seconds and changes.
    SavePoints,
    /// `client-output-buffer-limit`: class, hard limit, soft limit, seconds; any number of times.
    OutputLimits,
    /// `notify-keyspace-events`: letters.
    KeyspaceEvents,
    /// `oom-score-adj-values`: three numbers.
    OomScores,
    /// `latency-tracking-info-percentiles`: numbers from 0 to 100.
    Percentiles,
    /// `replicaof`: host and port, or `no one`.
    Master,
}

/// A whole number within bounds.
pub(super) const fn integer(min: i128, max: i128) -> Kind {
    Kind::Integer {
        min,
        max,
        keep: (min, max),
    }
}

/// A whole number within bounds, kept within narrower ones.
pub(super) const fn integer_kept(min: i128, max: i128, keep: (i128, i128)) -> Kind {
    Kind::Integer { min, max, keep }
}

/// A number of bytes within bounds.
pub(super) const fn memory(min: u64, max: u64) -> Kind {
    Kind::Memory { min, max, least: min }
}

/// A number of bytes within bounds, of which at least `least` are used.
pub(super) const fn memory_of_at_least(least: u64, min: u64, max: u64) -> Kind {
    Kind::Memory { min, max, least }
}

/// Where the words come from: it decides what a repeated directive means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The table of defaults: nothing is looked up on this machine.
    Default,
    /// A configuration file or the command line. `repeated`: not the first line of this parameter.
    File { repeated: bool },
    /// CONFIG SET.
    Command,
}

/// What parsing may look at besides the words.
#[derive(Clone, Copy)]
pub struct Circumstances<'a> {
    /// Where the words come from.
    pub source: Source,
    /// The value so far.
    pub old: &'a Value,
    /// What a relative `dir` is relative to.
    pub directory: &'a Path,
}

impl Kind {
    /// Whether the value may be several words. If not, exactly one word must follow the name.
    pub fn takes_many_words(&self) -> bool {
        match self {
            Self::Bits(..)
            | Self::Addresses
            | Self::SavePoints
            | Self::OutputLimits
            | Self::OomScores
            | Self::Percentiles
            | Self::Master => true,
            Self::Bool
            | Self::Integer { .. }
            | Self::CountOrAuto { .. }
            | Self::Memory { .. }
            | Self::MemoryOrPercent
            | Self::Octal { .. }
            | Self::Choice(_)
            | Self::Text(_)
            | Self::Directory
            | Self::KeyspaceEvents => false,
        }
    }

    /// Reads the words that follow a parameter's name. The error is Redis's text.
    pub fn parse(&self, words: &[&[u8]], around: &Circumstances<'_>) -> Result<Value, String> {
        // A value of several words may come as one: CONFIG SET always sends one, and a file may have quotes around it.
        // In a file they are split as a line is; in CONFIG SET each single space separates.
        let pieces: Vec<Vec<u8>>;
        let borrowed: Vec<&[u8]>;
        let words = match words {
            [only] if self.takes_many_words() && !only.is_empty() => {
                pieces = match around.source {
                    Source::Command => only.split(|&byte| byte == b' ').map(<[u8]>::to_vec).collect(),
                    Source::Default | Source::File { .. } => super::words::split(only).ok_or(WRONG_NUMBER)?,
                };
                borrowed = pieces.iter().map(Vec::as_slice).collect();
                &borrowed
            }
            _ => words,
        };
        if !self.takes_many_words() && words.len() != 1 {
            return Err(WRONG_NUMBER.into());
        }
        match *self {
            Self::Bool => match words[0].to_ascii_lowercase().as_slice() {
                b"yes" => Ok(Value::Bool(true)),
                b"no" => Ok(Value::Bool(false)),
                _ => Err("argument must be 'yes' or 'no'".into()),
            },
            Self::Integer { min, max, keep } => {
                let number = parse_integer(words[0]).ok_or(NOT_AN_INTEGER)?;
                Ok(Value::Integer(within(number.into(), min, max)?.clamp(keep.0, keep.1)))
            }
            Self::CountOrAuto { max } if words[0].eq_ignore_ascii_case(b"auto") => {
                Ok(Value::Integer(within(0, 0, max)?))
            }
            Self::CountOrAuto { max } => {
                let number = parse_integer(words[0]).ok_or(NOT_AN_INTEGER)?;
                Ok(Value::Integer(within(number.into(), 0, max)?))
            }
            Self::Memory { min, max, least } => {
                let bytes = parse_memory(words[0]).ok_or("argument must be a memory value")?;
                let bytes = within(bytes.into(), min.into(), max.into())?;
                Ok(Value::Integer(bytes.max(least.into())))
            }
            Self::MemoryOrPercent => parse_memory_or_percent(words[0]).map(Value::MemoryOrPercent),
            Self::Octal { max } => parse_octal(words[0], max),
            Self::Choice(names) => parse_name(names, words[0]).map(Value::Choice),
            Self::Bits(names, check) => {
                if words.is_empty() {
                    return Err(not_one_of(names));
                }
                let bits = words
                    .iter()
                    .try_fold(0, |bits, word| Ok::<_, String>(bits | parse_name(names, word)?))?;
                check(bits)?;
                Ok(Value::Choice(bits))
            }
            Self::Text(check) => {
                check(words[0])?;
                Ok(Value::Text(Text::new(words[0])))
            }
            Self::Directory => parse_directory(words[0], around),
            Self::Addresses => parse_addresses(words),
            Self::SavePoints => parse_save_points(words, around),
            Self::OutputLimits => parse_output_limits(words, around.old),
            Self::KeyspaceEvents => parse_keyspace_events(words[0]),
            Self::OomScores => parse_oom_scores(words),
            Self::Percentiles => parse_percentiles(words),
            Self::Master => parse_master(words),
        }
    }

    /// The value as CONFIG GET shows it.
    pub fn text(&self, value: &Value) -> Vec<u8> {
        match (self, value) {
            (_, Value::Bool(value)) => if *value { "yes" } else { "no" }.into(),
            (Self::Octal { .. }, Value::Integer(bits)) => format!("{bits:o}").into_bytes(),
            (Self::CountOrAuto { .. }, Value::Integer(0)) => b"auto".to_vec(),
            (_, Value::Integer(number)) => number.to_string().into_bytes(),
            (Self::KeyspaceEvents, Value::Choice(bits)) => keyspace_letters(*bits),
            (Self::Bits(names, _), Value::Choice(bits)) => bit_names(names, *bits).into_bytes(),
            (Self::Choice(names), Value::Choice(number)) => {
                let named = names.iter().find(|(_, value)| value == number);
                named.map_or_else(Vec::new, |(name, _)| name.as_bytes().to_vec())
            }
            (_, Value::Choice(number)) => number.to_string().into_bytes(),
            (_, Value::Text(text)) => text.as_bytes().to_vec(),
            (_, Value::Words(words)) => join(words.iter().map(Text::as_bytes)),
            (_, Value::MemoryOrPercent(MemoryOrPercent::Percent(percent))) => format!("{percent}%").into_bytes(),
            (_, Value::MemoryOrPercent(MemoryOrPercent::Bytes(bytes))) => bytes.to_string().into_bytes(),
            (_, Value::SavePoints(points)) => {
                let points = points
                    .iter()
                    .map(|point| format!("{} {}", point.seconds, point.changes));
                points.collect::<Vec<_>>().join(" ").into_bytes()
            }
            (_, Value::OutputLimits(limits)) => output_limits_text(limits).into_bytes(),
            (_, Value::OomScores(scores)) => scores.map(|score| score.to_string()).join(" ").into_bytes(),
            (_, Value::Percentiles(percentiles)) => {
                let percentiles = percentiles.iter().map(|percentile| shortest_decimal(*percentile));
                percentiles.collect::<Vec<_>>().join(" ").into_bytes()
            }
            (_, Value::Master(None)) => Vec::new(),
            (_, Value::Master(Some(Endpoint { host, port }))) => {
                join([host.as_bytes(), port.to_string().as_bytes()].into_iter())
            }
        }
    }

    /// What the sample file says about the values that are accepted.
    pub fn describe(&self) -> String {
        let number = |number: i128| match number {
            0x7fff_ffff_ffff_ffff => "2^63-1".into(),
            0xffff_ffff_ffff_ffff => "2^64-1".into(),
            0x7fff_ffff => "2^31-1".into(),
            0xffff_ffff => "2^32-1".into(),
            -0x8000_0000 => "-2^31".into(),
            other => other.to_string(),
        };
        let names = |names: &[(&'static str, u32)], separator: &str| {
            names.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(separator)
        };
        match *self {
            Self::Bool => "yes | no".into(),
            Self::Integer { keep: (min, max), .. } => format!("{} .. {}", number(min), number(max)),
            Self::CountOrAuto { max } => format!("auto | 1 .. {}", number(max)),
            Self::Memory { max, least, .. } => format!("bytes, {} .. {}", number(least.into()), number(max.into())),
            Self::MemoryOrPercent => "bytes, or a percentage of maxmemory".into(),
            Self::Octal { max } => format!("octal, 0 .. {max:o}"),
            Self::Choice(list) => names(list, " | "),
            Self::Bits(list, _) => format!("some of: {}", names(list, " ")),
            Self::Text(_) => "text".into(),
            Self::Directory => "a directory".into(),
            Self::Addresses => format!("up to {BIND_ADDRESSES_MAX} addresses"),
            Self::SavePoints => "<seconds> <changes>, any number of times; \"\" for never".into(),
            Self::OutputLimits => "<normal | replica | pubsub> <hard limit> <soft limit> <soft seconds>".into(),
            Self::KeyspaceEvents => "some of the letters g $ l s h z x e t d A n K E m".into(),
            Self::OomScores => "three numbers from -2000 to 2000".into(),
            Self::Percentiles => "numbers from 0 to 100".into(),
            Self::Master => "<host> <port>, or: no one".into(),
        }
    }
}

pub(super) const WRONG_NUMBER: &str = "wrong number of arguments";
const NOT_AN_INTEGER: &str = "argument couldn't be parsed into an integer";

fn join<'a>(words: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    words.collect::<Vec<_>>().join(&b' ')
}

fn within(number: i128, min: i128, max: i128) -> Result<i128, String> {
    if (min..=max).contains(&number) {
        Ok(number)
    } else {
        Err(format!("argument must be between {min} and {max} inclusive"))
    }
}

/// Redis's strict form of a number: no plus sign, no blanks, no leading zeros, no `-0`.
pub(super) fn parse_integer(word: &[u8]) -> Option<i64> {
    let digits = word.strip_prefix(b"-").unwrap_or(word);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) || (digits[0] == b'0' && word.len() > 1) {
        return None;
    }
    str::from_utf8(word).ok()?.parse().ok()
}

/// The form that C's `strtoll` reads: blanks before it, a sign and leading zeros are fine, nothing at all is zero, and what
/// is too great is the greatest number.
fn parse_loose_integer(word: &[u8]) -> Option<i64> {
    if word.is_empty() {
        return Some(0);
    }
    match str::from_utf8(word).ok()?.trim_ascii_start().parse() {
        Ok(number) => Some(number),
        Err(error) => match error.kind() {
            IntErrorKind::PosOverflow => Some(i64::MAX),
            IntErrorKind::NegOverflow => Some(i64::MIN),
            _ => None,
        },
    }
}

/// A number of bytes with a unit. No digits at all is zero; too many are the greatest number that there is.
pub fn parse_memory(word: &[u8]) -> Option<u64> {
    let digit_count = word.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, unit) = word.split_at(digit_count);
    let factor: u64 = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    let number = digits.iter().fold(0u64, |number, digit| {
        number.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
    });
    Some(number.saturating_mul(factor))
}

fn parse_memory_or_percent(word: &[u8]) -> Result<MemoryOrPercent, String> {
    const NEITHER: &str = "argument must be a memory or percent value";
    const TOO_MANY_PERCENT: &str = "percentage argument must be less or equal to 100";
    if let Some(number) = word.strip_suffix(b"%") {
        return match parse_integer(number).ok_or(NEITHER)? {
            0 => Ok(MemoryOrPercent::Bytes(0)),
            percent @ 1..=100 => Ok(MemoryOrPercent::Percent(percent as u8)),
            101.. => Err(TOO_MANY_PERCENT.into()),
            _ => Err(NEITHER.into()),
        };
    }
    let bytes = parse_memory(word).ok_or(NEITHER)?;
    // Redis holds percentages as negative numbers, and takes what overflows for one.
    if i64::try_from(bytes).is_err() {
        return Err(TOO_MANY_PERCENT.into());
    }
    Ok(MemoryOrPercent::Bytes(bytes))
}

fn parse_octal(word: &[u8], max: u32) -> Result<Value, String> {
    let number = str::from_utf8(word)
        .ok()
        .and_then(|word| i64::from_str_radix(word, 8).ok());
    let number = number.ok_or("argument couldn't be parsed as an octal number")?;
    if (0..=i64::from(max)).contains(&number) {
        Ok(Value::Integer(number.into()))
    } else {
        Err(format!("argument must be between 0 and {max:o} inclusive"))
    }
}

fn not_one_of(names: &[(&'static str, u32)]) -> String {
    let names: Vec<_> = names.iter().map(|(name, _)| *name).collect();
    format!("argument(s) must be one of the following: {}", names.join(", "))
}

fn parse_name(names: &[(&'static str, u32)], word: &[u8]) -> Result<u32, String> {
    let named = names
        .iter()
        .find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()));
    named.map(|(_, value)| *value).ok_or_else(|| not_one_of(names))
}

fn bit_names(names: &[(&'static str, u32)], bits: u32) -> String {
    let is_set = |value: u32| {
        if bits == 0 {
            value == 0
        } else {
            value != 0 && bits & value == value
        }
    };
    names
        .iter()
        .filter(|(_, value)| is_set(*value))
        .map(|(name, _)| *name)
        .collect::<Vec<_>>()
        .join(" ")
}

fn parse_directory(word: &[u8], around: &Circumstances<'_>) -> Result<Value, String> {
    let text = Text::new(word);
    if around.source == Source::Default {
        return Ok(Value::Text(text));
    }
    let describe = |error: std::io::Error| describe_error(&error);
    // An empty path would join to the directory itself, where chdir("") fails.
    if word.is_empty() {
        return Err(describe(std::io::Error::from_raw_os_error(libc::ENOENT)));
    }
    let path = around.directory.join(text.as_path()).canonicalize().map_err(describe)?;
    if !path.is_dir() {
        return Err(describe(std::io::Error::from_raw_os_error(libc::ENOTDIR)));
    }
    Ok(Value::Text(Text::new(path.as_os_str().as_encoded_bytes())))
}

/// The system's words for an error, without the number that Rust adds.
pub(super) fn describe_error(error: &std::io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(number) => text.trim_end_matches(&format!(" (os error {number})")).to_string(),
        None => text,
    }
}

fn parse_addresses(words: &[&[u8]]) -> Result<Value, String> {
    if words.len() > BIND_ADDRESSES_MAX {
        return Err("Too many bind addresses specified.".into());
    }
    let words = if words == [b""] { &[] } else { words };
    Ok(Value::Words(words.iter().map(|word| Text::new(word)).collect()))
}

fn parse_save_points(words: &[&[u8]], around: &Circumstances<'_>) -> Result<Value, String> {
    const INVALID: &str = "Invalid save parameters";
    if words.is_empty() || words == [b""] {
        return Ok(Value::SavePoints(Vec::new()));
    }
    // The first `save` of a file replaces the defaults; those that follow add to it.
    let mut points = match (around.source, around.old) {
        (Source::File { repeated: true }, Value::SavePoints(points)) => points.clone(),
        _ => Vec::new(),
    };
    if !words.len().is_multiple_of(2) {
        return Err(INVALID.into());
    }
    for pair in words.chunks_exact(2) {
        let seconds = parse_loose_integer(pair[0])
            .filter(|seconds| *seconds >= 1)
            .ok_or(INVALID)?;
        let changes = parse_loose_integer(pair[1])
            .filter(|changes| *changes >= 0)
            .ok_or(INVALID)?;
        points.push(SavePoint { seconds, changes });
    }
    Ok(Value::SavePoints(points))
}

fn parse_output_limits(words: &[&[u8]], old: &Value) -> Result<Value, String> {
    let mut limits = match old {
        Value::OutputLimits(limits) => *limits,
        _ => OutputLimits::default(),
    };
    let words = if words == [b""] { &[] } else { words };
    if !words.len().is_multiple_of(4) {
        return Err("Wrong number of arguments in buffer limit configuration.".into());
    }
    for limit in words.chunks_exact(4) {
        let class = match limit[0].to_ascii_lowercase().as_slice() {
            b"normal" => ClientClass::Normal,
            b"slave" | b"replica" => ClientClass::Replica,
            b"pubsub" => ClientClass::Pubsub,
            _ => return Err("Invalid client class specified in buffer limit configuration.".into()),
        };
        let seconds = parse_loose_integer(limit[3]).and_then(|seconds| u64::try_from(seconds).ok());
        let (Some(hard_bytes), Some(soft_bytes), Some(soft_seconds)) =
            (parse_memory(limit[1]), parse_memory(limit[2]), seconds)
        else {
            return Err("Error in hard, soft or soft_seconds setting in buffer limit configuration.".into());
        };
        limits.set(
            class,
            OutputLimit {
                hard_bytes,
                soft_bytes,
                soft_seconds,
            },
        );
    }
    Ok(Value::OutputLimits(limits))
}

fn output_limits_text(limits: &OutputLimits) -> String {
    let one = |class: ClientClass| {
        let limit = limits.of(class);
        // CONFIG GET keeps the old word here; the configuration file has the new one.
        let name = if class == ClientClass::Replica {
            "slave"
        } else {
            class.name()
        };
        format!(
            "{name} {} {} {}",
            limit.hard_bytes, limit.soft_bytes, limit.soft_seconds
        )
    };
    ClientClass::ALL.map(one).join(" ")
}

fn parse_keyspace_events(word: &[u8]) -> Result<Value, String> {
    let mut bits = 0;
    for &letter in word {
        let named = KeyspaceEvents::LETTERS.iter().find(|(name, _)| *name == letter);
        bits |= match named {
            Some((_, bit)) => *bit,
            None if letter == b'A' => KeyspaceEvents::ALL.0,
            None => return Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into()),
        };
    }
    Ok(Value::Choice(bits))
}

/// The letters in Redis's order. `n` is written after `A` too, where Redis forgets it, so that it survives CONFIG REWRITE.
fn keyspace_letters(bits: u32) -> Vec<u8> {
    let mut letters = Vec::new();
    let mut rest = bits;
    if KeyspaceEvents(bits).contains(KeyspaceEvents::ALL) {
        letters.push(b'A');
        rest &= !KeyspaceEvents::ALL.0;
    }
    letters.extend(
        KeyspaceEvents::LETTERS
            .iter()
            .filter(|(_, bit)| rest & bit != 0)
            .map(|(letter, _)| *letter),
    );
    letters
}

fn parse_oom_scores(words: &[&[u8]]) -> Result<Value, String> {
    let [first, second, third] = words else {
        return Err(WRONG_NUMBER.into());
    };
    let score = |word: &[u8]| match parse_loose_integer(word) {
        Some(score @ -2000..=2000) => Ok(score as i32),
        _ => Err("Invalid oom-score-adj-values, elements must be between -2000 and 2000.".to_string()),
    };
    Ok(Value::OomScores([score(first)?, score(second)?, score(third)?]))
}

fn parse_percentiles(words: &[&[u8]]) -> Result<Value, String> {
    if words == [b""] {
        return Ok(Value::Percentiles(Vec::new()));
    }
    let percentile = |word: &&[u8]| {
        let number: Option<f64> = str::from_utf8(word).ok().and_then(|word| word.parse().ok());
        match number.filter(|number| !number.is_nan()) {
            None => Err("Invalid latency-tracking-info-percentiles parameters".to_string()),
            Some(number) if (0.0..=100.0).contains(&number) => Ok(six_decimals(number)),
            Some(_) => Err("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]".to_string()),
        }
    };
    words
        .iter()
        .map(percentile)
        .collect::<Result<_, _>>()
        .map(Value::Percentiles)
}

/// Percentiles are written with six decimals at most, so no more are kept (invariant 1).
fn six_decimals(number: f64) -> f64 {
    shortest_decimal(number).parse().unwrap_or(number)
}

fn shortest_decimal(number: f64) -> String {
    let text = format!("{number:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

fn parse_master(words: &[&[u8]]) -> Result<Value, String> {
    let [host, port] = words else {
        return Err(WRONG_NUMBER.into());
    };
    if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
        return Ok(Value::Master(None));
    }
    let port = parse_loose_integer(port)
        .and_then(|port| u16::try_from(port).ok())
        .ok_or("Invalid master port")?;
    Ok(Value::Master(Some(Endpoint {
        host: Text::new(host),
        port,
    })))
}
