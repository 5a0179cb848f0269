//! The first line of a script: `#!lua flags=no-writes` of EVAL, `#!lua name=mylib` of FUNCTION LOAD.
//!
//! It says which language follows and what the code means to do; the words behind it are split as `redis.conf`'s are. A script without such a line
//! is of the old kind, about which nothing is known beforehand. The line itself is not compiled, but its line end is, so that errors
//! name the lines that the author counts.

use crate::config::words;
use crate::resp::{ReplyError, error};

/// What a script or a function says of itself: `redis.register_function`'s `flags`, and those of the first line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScriptFlags {
    pub no_writes: bool,
    pub allow_oom: bool,
    pub allow_stale: bool,
    pub no_cluster: bool,
    pub allow_cross_slot_keys: bool,
}

impl ScriptFlags {
    /// The names, in the order in which FUNCTION LIST shows them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let named = [
            (self.no_writes, NO_WRITES),
            (self.allow_oom, ALLOW_OOM),
            (self.allow_stale, ALLOW_STALE),
            (self.no_cluster, NO_CLUSTER),
            (self.allow_cross_slot_keys, ALLOW_CROSS_SLOT_KEYS),
        ];
        named.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name)
    }

    /// Adds the flag of this name; false if there is none.
    pub(super) fn set(&mut self, name: &[u8]) -> bool {
        let flag = [
            (NO_WRITES, &mut self.no_writes),
            (ALLOW_OOM, &mut self.allow_oom),
            (ALLOW_STALE, &mut self.allow_stale),
            (NO_CLUSTER, &mut self.no_cluster),
            (ALLOW_CROSS_SLOT_KEYS, &mut self.allow_cross_slot_keys),
        ]
        .into_iter()
        .find(|(known, _)| known.as_bytes() == name);
        flag.map(|(_, flag)| *flag = true).is_some()
    }
}

const NO_WRITES: &str = "no-writes";
const ALLOW_OOM: &str = "allow-oom";
const ALLOW_STALE: &str = "allow-stale";
const NO_CLUSTER: &str = "no-cluster";
const ALLOW_CROSS_SLOT_KEYS: &str = "allow-cross-slot-keys";

/// What the first line of a script says: nothing, if there is none; and the code behind it.
pub fn of_script(body: &[u8]) -> Result<(Option<ScriptFlags>, &[u8]), ReplyError> {
    if !body.starts_with(b"#!") {
        return Ok((None, body));
    }
    let (line, code) = split_line(body).ok_or(error::SHEBANG_INVALID)?;
    let words = words::split(line).ok_or(error::SHEBANG_ENGINE_INVALID)?;
    let (engine, options) = words.split_first().ok_or(error::SHEBANG_ENGINE_INVALID)?;
    if engine != b"#!lua" {
        return Err(error::shebang_engine(engine));
    }
    let mut flags = ScriptFlags::default();
    for option in options {
        let list = option
            .strip_prefix(b"flags=")
            .ok_or_else(|| error::shebang_option(option))?;
        if list.is_empty() {
            continue;
        }
        for name in list.split(|&byte| byte == b',') {
            if !flags.set(name) {
                return Err(error::shebang_flag(name));
            }
        }
    }
    Ok((Some(flags), code))
}

/// The name that the first line gives to a library, and the code behind that line.
pub fn of_library(body: &[u8]) -> Result<(Vec<u8>, &[u8]), ReplyError> {
    if !body.starts_with(b"#!") {
        return Err(error::FUNCTION_NO_METADATA);
    }
    let (line, code) = split_line(body).ok_or(error::LIBRARY_METADATA_INVALID)?;
    let words = words::split(line).ok_or(error::LIBRARY_METADATA_INVALID)?;
    let (engine, options) = words.split_first().ok_or(error::LIBRARY_METADATA_INVALID)?;
    let mut name = None;
    for option in options {
        match option.get(..5) {
            Some(key) if key.eq_ignore_ascii_case(b"name=") => {
                if name.replace(&option[5..]).is_some() {
                    return Err(error::LIBRARY_NAME_TWICE);
                }
            }
            _ => return Err(error::library_metadata(option)),
        }
    }
    let name = name.ok_or(error::LIBRARY_NAME_MISSING)?;
    if !is_name(name) {
        return Err(error::LIBRARY_NAME_INVALID);
    }
    if !engine[2..].eq_ignore_ascii_case(b"lua") {
        return Err(error::engine_not_found(&engine[2..]));
    }
    Ok((name.to_vec(), code))
}

/// Whether a library or a function may have this name.
pub(super) fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// The first line, and the rest from its line end on.
fn split_line(body: &[u8]) -> Option<(&[u8], &[u8])> {
    memchr::memchr(b'\n', body).map(|end| body.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_may_say_what_it_does() {
        assert_eq!(of_script(b"return 1"), Ok((None, &b"return 1"[..])));
        let (flags, code) = of_script(b"#!lua flags=no-writes,allow-stale\nreturn 1").expect("it is right");
        assert_eq!(code, b"\nreturn 1");
        let flags = flags.expect("there is a first line");
        assert_eq!(flags.names().collect::<Vec<_>>(), [NO_WRITES, ALLOW_STALE]);
        let text = |body: &[u8]| of_script(body).expect_err("it is wrong").to_string();
        assert_eq!(text(b"#!lua"), "ERR Invalid script shebang");
        assert_eq!(text(b"#!js\n"), "ERR Unexpected engine in script shebang: #!js");
        assert_eq!(text(b"#!lua name=x\n"), "ERR Unknown lua shebang option: name=x");
        assert_eq!(
            text(b"#!lua flags=no-writes,x\n"),
            "ERR Unexpected flag in script shebang: x"
        );
    }

    #[test]
    fn a_library_has_a_name() {
        assert_eq!(
            of_library(b"#!LUA name=a_1\ncode"),
            Ok((b"a_1".to_vec(), &b"\ncode"[..]))
        );
        let text = |body: &[u8]| of_library(body).expect_err("it is wrong").to_string();
        assert_eq!(text(b"code"), "ERR Missing library metadata");
        assert_eq!(text(b"#!lua name=a"), "ERR Invalid library metadata");
        assert_eq!(text(b"#!lua\n"), "ERR Library name was not given");
        assert_eq!(text(b"#!lua foo=a\n"), "ERR Invalid metadata value given: foo=a");
        assert_eq!(
            text(b"#!lua name=a name=b\n"),
            "ERR Invalid metadata value, name argument was given multiple times"
        );
        assert_eq!(text(b"#!js name=a\n"), "ERR Engine 'js' not found");
        assert!(text(b"#!lua name=a.b\n").starts_with("ERR Library names can only contain"));
    }
}
