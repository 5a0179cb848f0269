//! The sample file `config/shardis.conf`, written from the table: every parameter with what it does, what it takes and
//! its default.

use super::{
    kind::Kind,
    parameter::{Flags, Parameter, defaults},
    rewrite::lines_of,
    settings::PARAMETERS,
};
use std::fmt::Write;

const HEADING: &str = "\
# Configuration of shardis. Every parameter stands here with its default: a server that reads this file runs as one that
# reads none. Written from the table in src/config/table; a test keeps the two the same.
#
#     shardis /path/to/shardis.conf [--name value ...]
#
# What follows the file on the command line overrides it. redis.conf of Redis works as it is, older names included.
#
# A line is a name and its value. A value with blanks stands in double quotes, where \\n, \\\" and \\xHH are escapes, or in
# single quotes. A line that begins with # is a comment; there is no comment after a value. Sizes have units:
# 1k is 1000 bytes, 1kb is 1024 bytes, and so on with m and g, in any case.
#
# Besides parameters there can be lines of
#
#     include <file or pattern>           read another file here; what follows overrides it
#     rename-command <command> <name>     call a command otherwise, or, with \"\", take it away
#     user <name> <rules>                 an ACL user, as for ACL SETUSER
";

/// The text of the sample file.
pub fn sample() -> String {
    let mut text = HEADING.to_string();
    let mut group = "";
    for parameter in PARAMETERS.iter().filter(|parameter| !parameter.is(Flags::HIDDEN)) {
        if parameter.group != group {
            group = parameter.group;
            let rule = "#".repeat(100 - group.len());
            let _ = write!(text, "\n################## {group} {rule}\n");
        }
        text.push('\n');
        for line in parameter.doc {
            let _ = writeln!(text, "#{line}");
        }
        let _ = writeln!(text, "# Values: {}.{}", parameter.kind.describe(), remarks(parameter));
        if matches!(parameter.kind, Kind::Directory) {
            let _ = writeln!(text, "{} {}", parameter.name, parameter.default);
            continue;
        }
        for line in lines_of(parameter, defaults()) {
            let _ = writeln!(text, "{}", String::from_utf8_lossy(&line.text));
        }
    }
    text
}

/// Older names, and when the parameter can be changed.
fn remarks(parameter: &Parameter) -> String {
    let mut remarks = String::new();
    if let [first, ..] = parameter.aliases {
        let _ = write!(remarks, " Older name: {first}.");
    }
    if parameter.is(Flags::IMMUTABLE) {
        remarks.push_str(" Not changed at run time.");
    } else if parameter.is(Flags::PROTECTED) {
        remarks.push_str(" CONFIG SET needs enable-protected-configs.");
    }
    remarks
}
