//! Tests of the table as a whole, and what the tests of the other files use.

use super::*;
use kind::{Circumstances, Source};
use proptest::prelude::*;
use std::collections::HashSet;
use std::fs;

/// A directory of its own for a test, gone when dropped.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn scratch_directory() -> Scratch {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "shardis-config-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    let path = std::env::temp_dir().join(name);
    fs::create_dir_all(&path).expect("the directory for temporary files is writable");
    Scratch(path.canonicalize().expect("it was just made"))
}

pub(super) fn loaded_in(directory: &Path, arguments: &[&str]) -> Result<Config, ConfigFileError> {
    let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
    Config::load_from(&arguments, &mut io::empty(), directory)
}

#[track_caller]
pub(super) fn loaded(arguments: &[&str]) -> Config {
    loaded_in(Path::new("/"), arguments).unwrap_or_else(|error| panic!("{error}"))
}

/// What CONFIG GET shows.
pub(super) fn text_of(config: &Config, name: &str) -> String {
    let found = config.get(&[name.as_bytes()]);
    String::from_utf8_lossy(&found[0].1).into_owned()
}

#[test]
fn names_are_unique_and_fields_are_named_after_them() {
    let mut names: Vec<&str> = PARAMETERS.iter().flat_map(Parameter::names).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(names.iter().all(|name| {
        name.bytes()
            .all(|byte| byte.is_ascii_lowercase() || b"-_".contains(&byte))
    }));
    for parameter in PARAMETERS {
        assert_eq!(parameter.field, parameter.name.replace('-', "_"));
    }
}

#[test]
fn the_rows_are_documented() {
    for parameter in PARAMETERS {
        let doc = parameter.doc.concat();
        assert!(doc.len() > 10 && doc.ends_with('.'), "{}", parameter.name);
        assert!(parameter.doc.iter().all(|line| line.len() < 120), "{}", parameter.name);
    }
}

#[test]
fn every_parameter_of_redis_has_its_default() {
    // CONFIG GET * of redis-server 7.0.15 started in / with nothing, and what 7.2 added.
    let expected = include_str!("tests/redis_defaults.txt");
    let config = loaded(&[]);
    let own = |name: &str| Parameter::find(name.as_bytes()).is_some_and(|(_, row)| row.is(Flags::OWN));
    let mut actual: Vec<String> = config
        .get(&[b"*"])
        .iter()
        .filter(|(name, _)| !own(name))
        .map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value)))
        .collect();
    actual.sort_unstable();
    let expected: Vec<&str> = expected.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(actual, expected);
}

#[test]
fn own_parameters() {
    let config = loaded(&["--shards", "AUTO"]);
    assert_eq!(
        (config.settings().shards, text_of(&config, "shards").as_str()),
        (0, "auto")
    );
    let config = loaded(&[
        "--shards",
        "3",
        "--pipeline-order",
        "strict",
        "--rdb-version",
        "12",
        "--shard-ports",
        "yes",
    ]);
    let settings = config.settings();
    assert_eq!(
        (settings.shards, settings.rdb_version, settings.shard_ports),
        (3, 12, true)
    );
    assert_eq!(
        (settings.pipeline_order, settings.pin_shards),
        (PipelineOrder::Strict, true)
    );
    assert!(loaded_in(Path::new("/"), &["--rdb-version", "9"]).is_err());
}

#[test]
fn the_ends_of_each_range_fit_into_the_field() {
    for parameter in PARAMETERS {
        let ends = match parameter.kind {
            Kind::Integer { keep: (min, max), .. } => [min, max],
            Kind::CountOrAuto { max } => [0, max],
            Kind::Memory { min, max, .. } => [min.into(), max.into()],
            Kind::Octal { max } => [0, max.into()],
            _ => continue,
        };
        for end in ends {
            let mut settings = Settings::default();
            (parameter.put)(&mut settings, Value::Integer(end));
            assert_eq!(parameter.value(&settings), Value::Integer(end), "{}", parameter.name);
        }
    }
}

#[test]
fn config_get_answers_as_redis_does() {
    let config = loaded(&[]);
    let names = |patterns: &[&[u8]]| {
        config
            .get(patterns)
            .into_iter()
            .map(|(name, _)| name)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&[b"PORT", b"por?"]), ["PORT"]);
    assert_eq!(names(&[b"por?", b"PORT"]), ["port"]);
    assert_eq!(names(&[b"KEY-load-delay"]), ["KEY-load-delay"]);
    assert_eq!(names(&[b"key-load-*"]), [""; 0]);
    assert_eq!(names(&[b"nope", b"slaveof"]), ["slaveof"]);
    assert_eq!(names(&[b"MAXMEMORY-[ps]*"]), ["maxmemory-policy", "maxmemory-samples"]);
    assert_eq!(names(&[b"slave*"]).len(), 8);
}

#[test]
fn what_nothing_reads_is_told_once() {
    let told = |arguments: &[&str]| -> Vec<&str> {
        let config = loaded(arguments);
        config.without_effect().iter().map(|row| row.name).collect()
    };
    // What is not needed is no loss, what is read has its effect, and what is off does not exist.
    let none = [
        "--io-threads",
        "4",
        "--timeout",
        "5",
        "--rdb-version",
        "10",
        "--save",
        "",
    ];
    assert!(told(&none).is_empty());
    let some = ["--appendonly", "yes", "--locale-collate", "C", "--tls-port", "5"];
    assert_eq!(told(&some), ["locale-collate", "tls-port"]);
}

/// Every parameter that is said to have an effect is read by somebody, and no other is.
#[test]
fn what_is_in_effect_is_read() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut code = String::new();
    read_sources(&src, &mut code);
    let words: HashSet<&str> = code
        .split('.')
        .map(|rest| {
            rest.split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
                .unwrap_or("")
        })
        .collect();
    for parameter in PARAMETERS {
        let is_read = words.contains(parameter.field);
        if parameter.is_in_effect() && parameter.subsystem != Subsystem::Unneeded {
            assert!(is_read, "nobody reads {}", parameter.name);
        }
        if parameter.is(Flags::LATER) {
            assert!(
                !is_read,
                "{} is read: its row is not for later any more",
                parameter.name
            );
        }
    }
}

/// Appends the text of all sources below a folder, without the table itself and its tests.
fn read_sources(folder: &Path, code: &mut String) {
    for entry in std::fs::read_dir(folder).expect("the folder exists") {
        let path = entry.expect("it can be listed").path();
        let is_own =
            path.ends_with("config/table") || path.ends_with("config/tests.rs") || path.ends_with("data/limits.rs");
        if path.is_dir() && !is_own {
            read_sources(&path, code);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_own {
            code.push_str(&std::fs::read_to_string(&path).expect("it is text"));
        }
    }
}

#[test]
fn secrets_are_not_shown_in_debug_output() {
    let shown = format!("{:?}", loaded(&["--requirepass", "hunter2", "--hz", "20"]).settings());
    assert!(
        shown.contains("\"hz\": \"20\"") && !shown.contains("hunter2"),
        "{shown}"
    );
}

#[test]
fn the_stock_file_of_a_distribution_loads() {
    let path = "/etc/redis/redis.conf";
    // Its directories exist only where the distribution's server is installed.
    let Ok(stock) = fs::read_to_string(path) else { return };
    let directory = scratch_directory();
    let stock = stock.replace("\ndir /var/lib/redis", &format!("\ndir {}", directory.path().display()));
    fs::write(directory.path().join("redis.conf"), stock).expect("scratch is writable");
    let config = loaded_in(directory.path(), &["redis.conf"]).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.settings().port, 6379);
    config.rewrite(None).expect("scratch is writable");
    let again = loaded_in(directory.path(), &["redis.conf"]).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(again.settings(), config.settings());
}

#[test]
fn the_sample_file_is_the_table_and_means_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/shardis.conf");
    if std::env::var_os("SHARDIS_WRITE_SAMPLE").is_some() {
        fs::write(&path, sample()).expect("the source folder is writable");
    }
    let file = fs::read_to_string(&path).expect("config/shardis.conf is part of the sources");
    assert!(
        file == sample(),
        "config/shardis.conf is old: run this test with SHARDIS_WRITE_SAMPLE=1 to write it anew"
    );
    let directory = scratch_directory();
    fs::write(directory.path().join("shardis.conf"), &file).expect("scratch is writable");
    let with_file = loaded_in(directory.path(), &["shardis.conf"]).unwrap_or_else(|error| panic!("{error}"));
    let with_nothing = loaded_in(directory.path(), &[]).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(with_file.settings(), with_nothing.settings());
}

/// Any value of a kind, as CONFIG SET would take it.
fn value_text(kind: Kind) -> BoxedStrategy<Vec<u8>> {
    let text = |strategy: BoxedStrategy<String>| strategy.prop_map(String::into_bytes).boxed();
    match kind {
        Kind::Bool => text(prop_oneof![Just("yes".to_string()), Just("no".to_string())].boxed()),
        Kind::Integer { min, max, .. } => text((min..=max).prop_map(|number| number.to_string()).boxed()),
        Kind::CountOrAuto { max } => text((0..=max).prop_map(|number| number.to_string()).boxed()),
        Kind::Memory { min, max, .. } => text((min..=max).prop_map(|number| number.to_string()).boxed()),
        Kind::MemoryOrPercent => text("[1-9][0-9]?%|[1-9][0-9]{0,7}(kb|MB|g)?".boxed()),
        Kind::Octal { max } => text((0..=max).prop_map(|number| format!("{number:o}")).boxed()),
        Kind::Choice(names) => text(
            proptest::sample::select(names)
                .prop_map(|(name, _)| name.to_string())
                .boxed(),
        ),
        Kind::Bits(..) => text("(save|nosave|default)( now)?( force)?".boxed()),
        Kind::Text(check) => proptest::collection::vec(any::<u8>(), 0..20)
            .prop_map(move |text| if check(&text).is_ok() { text } else { b"plain".to_vec() })
            .boxed(),
        Kind::Directory => text("/|/etc|/etc/\\.\\.".boxed()),
        Kind::Addresses => text("([!-~]{1,12}( [!-~]{1,12}){0,15})?".boxed()),
        Kind::SavePoints => text("([1-9][0-9]{0,8} [0-9]{1,9}( [1-9][0-9]{0,8} [0-9]{1,9}){0,4})?".boxed()),
        Kind::OutputLimits => text("(normal|slave|replica|pubsub) [0-9]{1,9}[kmg]?b [0-9]{1,9} [0-9]{1,5}".boxed()),
        Kind::KeyspaceEvents => text("[Ag$lshzxeKEtmdn]{0,14}".boxed()),
        Kind::OomScores => text("-?[0-9]{1,3} -?1[0-9]{0,3} [0-9]{1,3}".boxed()),
        Kind::Percentiles => text("([0-9]{1,2}(\\.[0-9]{1,9})?( [0-9]{1,2}){0,3})?".boxed()),
        Kind::Master => text("[a-z.:0-9]{1,20} [1-9][0-9]{0,3}|no one".boxed()),
    }
}

fn any_change() -> impl Strategy<Value = (&'static Parameter, Vec<u8>)> {
    let row = (0..PARAMETERS.len()).prop_map(|index| &PARAMETERS[index]);
    row.prop_flat_map(|row| value_text(row.kind).prop_map(move |text| (row, text)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Invariant 1, and CONFIG REWRITE with it: what is set is shown, what is shown can be set, what is written is read.
    #[test]
    fn what_is_set_survives_get_and_rewrite(changes in proptest::collection::vec(any_change(), 1..6)) {
        let directory = scratch_directory();
        let file = directory.path().join("a.conf");
        fs::write(&file, "# mine\nport 7\nsave 1 1\nsave 2 2\nclient-output-buffer-limit pubsub 1 1 1\n").expect("scratch is writable");
        let mut config = loaded_in(directory.path(), &["a.conf"]).expect("the test's file is right");
        for (parameter, text) in &changes {
            let old = parameter.value(config.settings());
            let around = Circumstances { source: Source::Command, old: &old, directory: directory.path() };
            let value = match parameter.kind.parse(&[text], &around) {
                Ok(value) => value,
                Err(error) => return Err(TestCaseError::fail(format!("{parameter:?} {text:?}: {error}"))),
            };
            let shown = parameter.kind.text(&value);
            let shown = if value == Value::Master(None) { b"no one".to_vec() } else { shown };
            prop_assert_eq!(parameter.kind.parse(&[&shown], &around), Ok(value.clone()), "{:?} {:?}", parameter, text);
            config = config.changed(|settings| (parameter.put)(settings, value));
        }
        // The two can not go together in a file.
        config = config.changed(|settings| if settings.cluster_enabled { settings.replicaof = None });
        config.rewrite(None).expect("scratch is writable");
        let again = loaded_in(directory.path(), &["a.conf"]);
        let again = again.map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(again.settings(), config.settings());
        prop_assert!(fs::read_to_string(&file).expect("it was just written").starts_with("# mine\n"));
    }

    /// A lone word is split twice when it is read, so whatever it has must survive that.
    #[test]
    fn a_lone_address_survives_a_rewrite(address in "[!-~]{1,6}") {
        let directory = scratch_directory();
        fs::write(directory.path().join("a.conf"), "").expect("scratch is writable");
        let config = loaded_in(directory.path(), &["a.conf"]).expect("an empty file is right");
        let address = crate::config::Text::new(address.as_bytes());
        let config = config.changed(|settings| settings.bind = vec![address.clone()]);
        config.rewrite(None).expect("scratch is writable");
        let again = loaded_in(directory.path(), &["a.conf"]).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(&again.settings().bind, &vec![address]);
    }

    #[test]
    fn no_line_makes_the_parser_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        let directory = scratch_directory();
        fs::write(directory.path().join("a.conf"), &text).expect("scratch is writable");
        let _ = loaded_in(directory.path(), &["a.conf"]);
    }
}
