//! What `<CONTAINER> HELP` answers, for every family.
//!
//! The shape is Redis's: simple strings, the first naming the container, then each subcommand with its arguments on a
//! line of its own and what it does on indented lines behind it, and HELP itself last. The sentences stand with the
//! family whose commands they explain.

use super::literal::{Command, Run, SessionOp};
use crate::resp::{Reply, ReplyError};
use crate::spec::{Categories, Flags, Group, command};

/// One subcommand: its name with its arguments, and the lines that say what it does.
pub type HelpEntry = (&'static str, &'static [&'static str]);

/// Replies with the subcommands of `container`, its name in capitals, each with its lines.
pub fn reply_help(reply: &mut Reply<'_>, container: &str, subcommands: &[(&str, &[&str])]) {
    let lines: usize = subcommands.iter().map(|(_, lines)| 1 + lines.len()).sum();
    reply.array(1 + lines + 2);
    reply.simple(&format!(
        "{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    ));
    for (usage, lines) in subcommands {
        reply.simple(usage);
        for line in *lines {
            reply.simple(&format!("    {line}"));
        }
    }
    reply.simple("HELP");
    reply.simple("    Print this help.");
}

/// The literal of a container's HELP.
pub const fn help_command(
    group: Group,
    categories: Categories,
    since: &'static str,
    run: fn(&mut SessionOp) -> Result<(), ReplyError>,
) -> Command {
    Command {
        summary: "Lists the subcommands and what they do.",
        since,
        group,
        arity: 2,
        flags: Flags::LOADING.union(Flags::STALE),
        categories,
        ..command("help", Run::Session(run))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{Proto, ReplyBuf};

    #[test]
    fn every_line_is_a_simple_string() {
        let mut out = ReplyBuf::new();
        let entries: [HelpEntry; 2] = [
            ("A <x>", &["Does one thing.", "Then another."]),
            ("B", &["Does nothing."]),
        ];
        reply_help(&mut Reply::new(&mut out, Proto::Resp3), "THING", &entries);
        let expected = "*8\r\n+THING <subcommand> [<arg> [value] [opt] ...]. Subcommands are:\r\n+A <x>\r\n\
                        +    Does one thing.\r\n+    Then another.\r\n+B\r\n+    Does nothing.\r\n+HELP\r\n\
                        +    Print this help.\r\n";
        assert_eq!(&*out.to_contiguous(), expected.as_bytes());
    }
}
