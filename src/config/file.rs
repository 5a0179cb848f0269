//! Reading a configuration: the file, standard input and the command line, by Redis's own rules.
//!
//! Redis makes one text of the three, in this order, and reads it line by line; so does this module, because the rules
//! that tools rely on follow from it: what stands on the command line overrides the file, repeated `save` lines add up
//! across both, and an error on the command line has a line number.
//!
//! * A line is trimmed; empty lines and lines that begin with `#` are skipped; there are no comments after a value.
//! * The first word is a name in any case, new or old. Single-word values need exactly one more word.
//! * `include` reads another file (or, for a pattern, all files that match, as one text) in place. Relative names are
//!   relative to `dir` as set so far, because Redis changes its directory when it reads `dir`.
//! * `rename-command`, `user` and `loadmodule` belong to others: they are checked for their number of words and kept.
//! * On the command line, each argument that begins with `--` starts a line, except directly after a name that has no
//!   value yet: `--masterauth --secret` is a password. `"--port 1"` is a name with its value. `--save` without a value
//!   means `--save ""`. Everything else is a value, taken as it is. `-` as first or last argument reads standard input.
//!
//! Command-line libraries cannot express these rules (values that look like options, options without names known
//! beforehand, repeated options that add up or override), so the parser is written by hand, and `clap` only writes the
//! help text ([`invocation`](super::invocation)).

use super::{
    kind::{Source, WRONG_NUMBER, describe_error},
    parameter::Parameter,
    settings::Settings,
    words,
};
use crate::base::glob;
use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    fmt, fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// The version of Redis whose behaviour is matched, as it stands in error texts.
pub const REDIS_VERSION: &str = "7.2.4";

/// Files may include files; more levels than this are a file that includes itself.
const INCLUDE_DEPTH_MAX: usize = 32;

/// Why a configuration is refused. The process prints it and exits with 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigFileError {
    /// A line is wrong.
    Line {
        /// Counted from 1, in the text of file, standard input and command line.
        line_number: usize,
        /// The line, trimmed.
        line: Vec<u8>,
        /// What is wrong.
        message: String,
    },
    /// The lines do not go together, or something that they name does not work.
    Whole(String),
    /// The text of a line for the log, after which Redis exits without the heading.
    Log(String),
}

impl fmt::Display for ConfigFileError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heading = format_args!("\n*** FATAL CONFIG FILE ERROR (Redis {REDIS_VERSION}) ***\n");
        match self {
            Self::Line {
                line_number,
                line,
                message,
            } => {
                let line = String::from_utf8_lossy(line);
                write!(
                    out,
                    "{heading}Reading the configuration file, at line {line_number}\n>>> '{line}'\n{message}\n"
                )
            }
            Self::Whole(message) => writeln!(out, "{heading}{message}"),
            Self::Log(message) => out.write_str(message),
        }
    }
}

impl std::error::Error for ConfigFileError {}

/// A line whose meaning another module knows (`rename-command`, `user`, `loadmodule`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// Where it stands.
    pub line_number: usize,
    /// The line, trimmed.
    pub line: Vec<u8>,
    /// The words after the name.
    pub words: Vec<Vec<u8>>,
}

impl Directive {
    /// The error that whoever knows the meaning has found.
    pub fn error(&self, message: impl Into<String>) -> ConfigFileError {
        ConfigFileError::Line {
            line_number: self.line_number,
            line: self.line.clone(),
            message: message.into(),
        }
    }
}

/// The arguments of the command line, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Arguments {
    /// The first argument, if it is not an option.
    pub file: Option<PathBuf>,
    /// Whether `-` was there.
    pub reads_stdin: bool,
    /// The other arguments as lines of a file.
    pub lines: Vec<u8>,
}

impl Arguments {
    /// Takes apart what follows the name of the program.
    pub fn parse(arguments: &[OsString]) -> Self {
        let mut parsed = Self::default();
        let (mut rest, mut offset) = (arguments, 0);
        if let [first, after @ ..] = arguments
            && !first.as_bytes().starts_with(b"-")
        {
            parsed.file = Some(PathBuf::from(first));
            (rest, offset) = (after, 1);
        }
        let mut name_wants_value = false;
        for (index, argument) in rest.iter().map(|argument| argument.as_bytes()).enumerate() {
            let is_last = index + 1 == rest.len();
            if argument == b"-" && (index + offset == 0 || is_last) && !name_wants_value {
                parsed.reads_stdin = true;
            } else if let Some(name) = argument.strip_prefix(b"--")
                && !name_wants_value
            {
                if !parsed.lines.is_empty() {
                    parsed.lines.push(b'\n');
                }
                parsed.lines.extend(name);
                parsed.lines.push(b' ');
                // `--name value` in one argument is complete; a lone `--name` takes the next argument, whatever it is.
                name_wants_value = words::split(argument).is_some_and(|words| words.len() == 1);
                let next_is_name = rest
                    .get(index + 1)
                    .is_some_and(|next| next.as_bytes().starts_with(b"--"));
                if name_wants_value && name.eq_ignore_ascii_case(b"save") && (is_last || next_is_name) {
                    parsed.lines.extend(b"\"\"");
                    name_wants_value = false;
                }
            } else {
                words::quote(argument, &mut parsed.lines);
                parsed.lines.push(b' ');
                name_wants_value = false;
            }
        }
        parsed
    }
}

/// What a text of configuration has said so far.
pub(super) struct Reader {
    /// The settings so far.
    pub settings: Settings,
    /// The process's directory, as `dir` lines have moved it.
    pub directory: PathBuf,
    /// `rename-command` lines.
    pub renamed_commands: Vec<Directive>,
    /// `user` lines.
    pub users: Vec<Directive>,
    /// `loadmodule` lines.
    pub modules: Vec<Directive>,
    has_module_parameters: bool,
    /// The parameters that a line has set.
    seen: HashSet<&'static str>,
    /// Those of them that an included file has set.
    pub included: HashSet<&'static str>,
}

impl Reader {
    /// Starts with the defaults, in `directory`.
    pub fn new(directory: PathBuf) -> Self {
        Self {
            settings: Settings::default(),
            directory,
            renamed_commands: Vec::new(),
            users: Vec::new(),
            modules: Vec::new(),
            has_module_parameters: false,
            seen: HashSet::new(),
            included: HashSet::new(),
        }
    }

    /// Reads the file, then `stdin` if it was asked for, then the lines of the command line.
    pub fn read(&mut self, arguments: &Arguments, stdin: &mut dyn io::Read) -> Result<(), ConfigFileError> {
        let mut text = Vec::new();
        if let Some(file) = &arguments.file {
            text = self.read_files(file.as_os_str())?;
        }
        if arguments.reads_stdin {
            stdin.read_to_end(&mut text).map_err(|error| {
                ConfigFileError::Log(format!("Fatal error, can't read stdin: {}", describe_error(&error)))
            })?;
        }
        if !arguments.lines.is_empty() {
            text.push(b'\n');
            text.extend(&arguments.lines);
        }
        self.read_text(&text, 0)?;
        self.settings.dir = super::Text::new(self.directory.as_os_str().as_bytes());
        if self.settings.cluster_enabled && self.settings.replicaof.is_some() {
            return Err(ConfigFileError::Whole(
                "replicaof directive not allowed in cluster mode".into(),
            ));
        }
        if self.has_module_parameters && self.modules.is_empty() {
            let message = "Module Configuration detected without loadmodule directive or no ApplyConfig call: aborting";
            return Err(ConfigFileError::Log(message.into()));
        }
        Ok(())
    }

    fn read_text(&mut self, text: &[u8], depth: usize) -> Result<(), ConfigFileError> {
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
            // Redis holds lines as C strings.
            let line = words::trim(line.split(|&byte| byte == 0).next().unwrap_or(line));
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            self.read_line(index + 1, line, depth)?;
        }
        Ok(())
    }

    fn read_line(&mut self, line_number: usize, line: &[u8], depth: usize) -> Result<(), ConfigFileError> {
        let error = |message: String| ConfigFileError::Line {
            line_number,
            line: line.to_vec(),
            message,
        };
        let words = words::split(line).ok_or_else(|| error("Unbalanced quotes in configuration line".into()))?;
        let Some((name, values)) = words.split_first() else {
            return Ok(());
        };
        if let Some((_, parameter)) = Parameter::find(name) {
            if depth > 0 {
                self.included.insert(parameter.name);
            }
            return self.set_parameter(parameter, values).map_err(error);
        }
        let directive = || Directive {
            line_number,
            line: line.to_vec(),
            words: values.to_vec(),
        };
        match (name.to_ascii_lowercase().as_slice(), values) {
            (b"include", [path]) => {
                if depth == INCLUDE_DEPTH_MAX {
                    return Err(error("Too many levels of include".into()));
                }
                let text = self.read_files(OsStr::from_bytes(path))?;
                self.read_text(&text, depth + 1)?;
            }
            (b"rename-command", [_, _]) => self.renamed_commands.push(directive()),
            (b"user", [_, ..]) => self.users.push(directive()),
            (b"loadmodule", [_, ..]) => self.modules.push(directive()),
            // Parameters that Redis has given up without giving up the files that set them.
            (b"list-max-ziplist-entries" | b"list-max-ziplist-value" | b"lua-replicate-commands", [_])
            | (b"sentinel", []) => {}
            (b"sentinel", [_, ..]) => return Err(error("sentinel directive while not in sentinel mode".into())),
            (module_parameter, []) if module_parameter.contains(&b'.') => {
                return Err(error("Module config specified without value".into()));
            }
            (module_parameter, _) if module_parameter.contains(&b'.') => self.has_module_parameters = true,
            _ => return Err(error("Bad directive or wrong number of arguments".into())),
        }
        Ok(())
    }

    fn set_parameter(&mut self, parameter: &'static Parameter, values: &[Vec<u8>]) -> Result<(), String> {
        if !parameter.kind.takes_many_words() && values.len() != 1 {
            return Err(WRONG_NUMBER.into());
        }
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        let source = Source::File {
            repeated: !self.seen.insert(parameter.name),
        };
        parameter.parse_into(&mut self.settings, &values, source, &self.directory)?;
        if matches!(parameter.kind, super::kind::Kind::Directory) {
            self.directory = self.settings.dir.as_path().to_path_buf();
        }
        Ok(())
    }

    /// The text of a file, or of all files that match a pattern, in the order of their names.
    fn read_files(&self, path: &OsStr) -> Result<Vec<u8>, ConfigFileError> {
        let is_pattern = path.as_bytes().iter().any(|byte| b"*?[".contains(byte));
        let paths = if is_pattern {
            matching_paths(&self.directory, path)
        } else {
            vec![self.directory.join(path)]
        };
        let mut text = Vec::new();
        for found in paths {
            let content = fs::read(&found).map_err(|error| {
                let named = if is_pattern {
                    found.display()
                } else {
                    Path::new(path).display()
                };
                let error = describe_error(&error);
                ConfigFileError::Log(format!("Fatal error, can't open config file '{named}': {error}"))
            })?;
            text.extend(content);
        }
        Ok(text)
    }
}

/// The files that match a path whose parts may be patterns, sorted. Hidden files match only if the pattern begins with a dot.
fn matching_paths(directory: &Path, pattern: &OsStr) -> Vec<PathBuf> {
    let mut found = vec![directory.to_path_buf()];
    for part in Path::new(pattern).components() {
        let part = part.as_os_str().as_bytes();
        let is_pattern = part.iter().any(|byte| b"*?[".contains(byte));
        // Shells negate a class with `!`, Redis's own patterns with `^`.
        let part_pattern = part.windows(2).enumerate().fold(part.to_vec(), |mut all, (at, pair)| {
            if pair == b"[!" {
                all[at + 1] = b'^';
            }
            all
        });
        let matches = |name: &OsStr| {
            let name = name.as_bytes();
            name.starts_with(b".") == part.starts_with(b".") && glob::matches(&part_pattern, name)
        };
        found = found
            .into_iter()
            .flat_map(|parent| {
                if !is_pattern {
                    return vec![parent.join(OsStr::from_bytes(part))];
                }
                let entries = fs::read_dir(&parent).into_iter().flatten().flatten();
                let names = entries.map(|entry| entry.file_name()).filter(|name| matches(name));
                names.map(|name| parent.join(name)).collect()
            })
            .filter(|path| path.exists())
            .collect();
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::super::tests::{loaded, loaded_in, scratch_directory, text_of};
    use super::*;

    fn arguments(arguments: &[&str]) -> Arguments {
        Arguments::parse(&arguments.iter().map(OsString::from).collect::<Vec<_>>())
    }

    fn lines(options: &[&str]) -> String {
        String::from_utf8(arguments(options).lines).expect("the test's options are ASCII")
    }

    /// What a start with these arguments prints, in a directory with the file `c.conf`.
    fn refusal(conf: &str, options: &[&str]) -> String {
        let directory = scratch_directory();
        fs::write(directory.path().join("c.conf"), conf).expect("scratch is writable");
        let error = loaded_in(directory.path(), options).expect_err("the test expects a refusal");
        error.to_string()
    }

    fn at_line(line_number: usize, line: &str, message: &str) -> String {
        format!(
            "\n*** FATAL CONFIG FILE ERROR (Redis {REDIS_VERSION}) ***\nReading the configuration file, at line \
             {line_number}\n>>> '{line}'\n{message}\n"
        )
    }

    #[test]
    fn options_become_lines() {
        assert_eq!(lines(&["--port", "1", "--timeout", "2"]), "port \"1\" \ntimeout \"2\" ");
        assert_eq!(lines(&["--port 1 2"]), "port 1 2 ");
        assert_eq!(lines(&["--save", "--timeout", "5"]), "save \"\"\ntimeout \"5\" ");
        assert_eq!(lines(&["--port", "1", "--SAVE"]), "port \"1\" \nSAVE \"\"");
        assert_eq!(
            lines(&["--masterauth", "--foo", "--timeout", "7"]),
            "masterauth \"--foo\" \ntimeout \"7\" "
        );
        assert_eq!(
            lines(&["--masterauth", "--timeout", "7"]),
            "masterauth \"--timeout\" \"7\" "
        );
        assert_eq!(
            lines(&["--masterauth --x", "--timeout", "7"]),
            "masterauth --x \ntimeout \"7\" "
        );
        assert_eq!(lines(&["--masterauth", "a \"b\" c"]), "masterauth \"a \\\"b\\\" c\" ");
        assert_eq!(lines(&["--masterauth", ""]), "masterauth \"\" ");
        assert_eq!(
            lines(&["--masterauth=5", "--port", "1"]),
            "masterauth=5 \"--port\" \"1\" "
        );
    }

    #[test]
    fn standard_input_and_file_are_recognised() {
        assert!(arguments(&["-"]).reads_stdin);
        assert!(arguments(&["-", "--port", "1"]).reads_stdin);
        let both = arguments(&["a.conf", "--port", "1", "-"]);
        assert!(both.reads_stdin && both.file == Some("a.conf".into()) && both.lines == b"port \"1\" ");
        assert_eq!(lines(&["--masterauth", "-"]), "masterauth \"-\" ");
        assert_eq!(
            arguments(&["-x"]),
            Arguments {
                lines: b"\"-x\" ".to_vec(),
                ..Default::default()
            }
        );
    }

    #[test]
    fn refuses_options_in_the_words_of_redis() {
        // As redis-server 7.0.15 prints, with another version in the heading.
        for (options, number, line, message) in [
            (
                &["--nope", "1"][..],
                2,
                "nope \"1\"",
                "Bad directive or wrong number of arguments",
            ),
            (&["--port"], 2, "port", "wrong number of arguments"),
            (
                &["--port", "abc"],
                2,
                "port \"abc\"",
                "argument couldn't be parsed into an integer",
            ),
            (
                &["--port", "1", "2"],
                2,
                "port \"1\" \"2\"",
                "wrong number of arguments",
            ),
            (&["--port 1 2"], 2, "port 1 2", "wrong number of arguments"),
            (&["-x"], 2, "\"-x\"", "Bad directive or wrong number of arguments"),
            (
                &["--port", "1", "--nope"],
                3,
                "nope",
                "Bad directive or wrong number of arguments",
            ),
            (
                &["--save", "5", "6", "7"],
                2,
                "save \"5\" \"6\" \"7\"",
                "Invalid save parameters",
            ),
            (&["--save", "", ""], 2, "save \"\" \"\"", "Invalid save parameters"),
            (
                &["--replicaof", "a", "b"],
                2,
                "replicaof \"a\" \"b\"",
                "Invalid master port",
            ),
            (
                &["--dir", "/nonexist"],
                2,
                "dir \"/nonexist\"",
                "No such file or directory",
            ),
            (
                &["--unixsocketperm", "999"],
                2,
                "unixsocketperm \"999\"",
                "argument couldn't be parsed as an octal number",
            ),
            (
                &["--rename-command", "a"],
                2,
                "rename-command \"a\"",
                "Bad directive or wrong number of arguments",
            ),
            (
                &["c.conf", "-h"],
                4,
                "\"-h\"",
                "Bad directive or wrong number of arguments",
            ),
        ] {
            assert_eq!(
                refusal("port 1\nhz 5\n", options),
                at_line(number, line, message),
                "{options:?}"
            );
        }
        let whole = refusal("", &["--cluster-enabled", "yes", "--replicaof", "a", "1"]);
        assert!(
            whole.ends_with(" ***\nreplicaof directive not allowed in cluster mode\n"),
            "{whole}"
        );
    }

    #[test]
    fn refuses_lines_in_the_words_of_redis() {
        for (conf, number, line, message) in [
            (
                "\n\n# c\n  port \"abc\n",
                4,
                "port \"abc",
                "Unbalanced quotes in configuration line",
            ),
            (
                "port \"abc\"x",
                1,
                "port \"abc\"x",
                "Unbalanced quotes in configuration line",
            ),
            (
                "NOPE a \"b c\"\n",
                1,
                "NOPE a \"b c\"",
                "Bad directive or wrong number of arguments",
            ),
            ("port\n", 1, "port", "wrong number of arguments"),
            ("timeout 5 # x\n", 1, "timeout 5 # x", "wrong number of arguments"),
            (
                "\"timeout\" 5x",
                1,
                "\"timeout\" 5x",
                "argument couldn't be parsed into an integer",
            ),
            (
                "sentinel monitor a b",
                1,
                "sentinel monitor a b",
                "sentinel directive while not in sentinel mode",
            ),
            (
                "include a b",
                1,
                "include a b",
                "Bad directive or wrong number of arguments",
            ),
            ("foo.bar", 1, "foo.bar", "Module config specified without value"),
            (
                "appendfilename \"\"",
                1,
                "appendfilename \"\"",
                "appendfilename can't be empty",
            ),
            (
                "appenddirname a/b",
                1,
                "appenddirname a/b",
                "appenddirname can't be a path, just a dirname",
            ),
            (
                "dbfilename a/b",
                1,
                "dbfilename a/b",
                "dbfilename can't be a path, just a filename",
            ),
            ("dir \"\"", 1, "dir \"\"", "No such file or directory"),
            (
                "io-threads 500",
                1,
                "io-threads 500",
                "argument must be between 1 and 128 inclusive",
            ),
            (
                "vm-enabled no",
                1,
                "vm-enabled no",
                "Bad directive or wrong number of arguments",
            ),
            (
                "unixsocketperm -5",
                1,
                "unixsocketperm -5",
                "argument must be between 0 and 777 inclusive",
            ),
            (
                "shutdown-on-sigterm",
                1,
                "shutdown-on-sigterm",
                "argument(s) must be one of the following: default, save, nosave, now, force",
            ),
        ] {
            assert_eq!(refusal(conf, &["c.conf"]), at_line(number, line, message), "{conf:?}");
        }
        let module = refusal("foo.bar 5\n", &["c.conf"]);
        assert_eq!(
            module,
            "Module Configuration detected without loadmodule directive or no ApplyConfig call: aborting"
        );
        let missing = refusal("include /nonexist\n", &["c.conf"]);
        assert_eq!(
            missing,
            "Fatal error, can't open config file '/nonexist': No such file or directory"
        );
        let endless = refusal("include c.conf", &["c.conf"]);
        assert!(endless.ends_with("Too many levels of include\n"), "{endless}");
    }

    #[test]
    fn repeated_lines_add_up_or_override_as_in_redis() {
        for (conf, options, name, shown) in [
            (
                "save 900 1\nsave 900 1\n",
                &["--save", "5", "5"][..],
                "save",
                "900 1 900 1 5 5",
            ),
            ("save 900 1\nsave \"\"\nsave 1 1\n", &[], "save", "1 1"),
            ("save \"1  2\"\n", &[], "save", "1 2"),
            ("save\n", &[], "save", ""),
            ("", &["--save", "1 2", "--save"], "save", ""),
            ("bind 127.0.0.1\nbind 127.0.0.1 -::1\n", &[], "bind", "127.0.0.1 -::1"),
            ("bind \"\"\n", &[], "bind", ""),
            ("timeout 5", &["--timeout", "7", "--timeout", "8"], "timeout", "8"),
            ("timeout \"\\x35\" \t\r\n\0timeout 6", &[], "timeout", "5"),
            (
                "client-output-buffer-limit normal 1 1 1\nclient-output-buffer-limit \"normal 2 2 2 pubsub 5kb 5 5\"",
                &[],
                "client-output-buffer-limit",
                "normal 2 2 2 slave 268435456 67108864 60 pubsub 5120 5 5",
            ),
            ("replicaof a 1\nslaveof NO ONE\n", &[], "replicaof", ""),
            ("replicaof \"a  1\"\n", &[], "slaveof", "a 1"),
            ("repl-backlog-size 5\nhz 0\n", &[], "hz", "1"),
            (
                "sentinel\nlua-replicate-commands no\nlist-max-ziplist-value 1\n",
                &[],
                "hz",
                "10",
            ),
        ] {
            let directory = scratch_directory();
            fs::write(directory.path().join("c.conf"), conf).expect("scratch is writable");
            let options = [&["c.conf"], options].concat();
            let config = loaded_in(directory.path(), &options).unwrap_or_else(|error| panic!("{conf:?}: {error}"));
            assert_eq!(text_of(&config, name), shown, "{conf:?} {options:?}");
        }
    }

    #[test]
    fn includes_follow_dir_and_patterns() {
        let directory = scratch_directory();
        let path = directory.path();
        fs::create_dir(path.join("d")).expect("scratch is writable");
        for (name, text) in [
            ("c.conf", "dir d\ninclude ../p?.conf\ninclude /nonexist/*\n"),
            ("p1.conf", "hz 20\n"),
            ("p2.conf", "timeout 9"),
            (".p3.conf", "nope"),
        ] {
            fs::write(path.join(name), text).expect("scratch is writable");
        }
        let config = loaded_in(path, &["c.conf"]).expect("the test's files are right");
        let settings = config.settings();
        assert_eq!((settings.hz, settings.timeout), (20, 9));
        assert_eq!(
            settings.dir.as_path(),
            path.join("d").canonicalize().expect("it was just made")
        );
        fs::write(path.join("p2.conf"), "timeout x").expect("scratch is writable");
        let error = loaded_in(path, &["c.conf"]).err().map(|error| error.to_string());
        // The files of a pattern are one text: the second file's first line is line 2.
        assert_eq!(
            error,
            Some(at_line(2, "timeout x", "argument couldn't be parsed into an integer"))
        );
    }

    #[test]
    fn foreign_lines_are_kept_with_their_place() {
        let directory = scratch_directory();
        let conf = "\nrename-command GET \"\"\nuser alice on >x\nloadmodule /x y\n";
        fs::write(directory.path().join("c.conf"), conf).expect("scratch is writable");
        let config = loaded_in(directory.path(), &["c.conf"]).expect("the test's file is right");
        let renamed = &config.renamed_commands()[0];
        assert_eq!(renamed.words, [b"GET".to_vec(), Vec::new()]);
        let error = renamed.error("No such command in rename-command").to_string();
        assert_eq!(
            error,
            at_line(2, "rename-command GET \"\"", "No such command in rename-command")
        );
        assert_eq!(config.users()[0].words.len(), 3);
        assert_eq!(config.modules()[0].line_number, 4);
    }

    #[test]
    fn values_from_the_command_line_are_taken_as_they_are() {
        let config = loaded(&["--masterauth", r#"a "b" \x35 c"#, "--requirepass \"a b\""]);
        assert_eq!(text_of(&config, "masterauth"), r#"a "b" \x35 c"#);
        assert_eq!(text_of(&config, "requirepass"), "a b");
    }
}
