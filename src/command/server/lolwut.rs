//! LOLWUT: a picture, and the version. Every version of Redis draws something else; so does this server: the hash
//! slots, as a weave in which each crossing shows which of the two threads is on top.

use crate::base::numbers::parse_i64;
use crate::base::random::Random;
use crate::config::REDIS_VERSION;
use crate::engine::{Command, Run, SessionOp};
use crate::resp::{ReplyError, error};
use crate::spec::{ArgumentKind, Flags, Group, arg, command};

pub(super) const LOLWUT: Command = Command {
    summary: "Draws something, and names the version.",
    since: "5.0.0",
    group: Group::Server,
    complexity: "",
    arity: -1,
    flags: Flags::READONLY.union(Flags::FAST),
    arguments: &[arg("version", ArgumentKind::Integer).token("VERSION").optional()],
    ..command("lolwut", Run::Session(lolwut))
};

fn lolwut(op: &mut SessionOp) -> Result<(), ReplyError> {
    let mut numbers = op.args.slice_from(1);
    let names_version = numbers.len() >= 2 && numbers.at(0).eq_ignore_ascii_case(b"VERSION");
    let mut draws = numbers.is_empty();
    if names_version {
        let version = parse_i64(numbers.at(1)).ok_or(error::NOT_AN_INTEGER)?;
        draws = matches!(version, 5..=7);
        numbers = numbers.slice_from(2);
    }
    let mut text = String::new();
    if draws {
        let mut sizes = [COLUMNS_DEFAULT, ROWS_DEFAULT];
        for (size, word) in sizes.iter_mut().zip(numbers.iter()) {
            *size = parse_i64(word).ok_or(error::NOT_AN_INTEGER)?;
        }
        let columns = sizes[0].clamp(1, COLUMNS_MAX) as usize;
        let rows = sizes[1].clamp(1, ROWS_MAX) as usize;
        text = weave(columns, rows, &mut op.env.random);
        text.push('\n');
        text.push_str("Threads that never meet, and yet make one cloth. ");
    }
    text.push_str(&format!("Redis ver. {REDIS_VERSION}\n"));
    op.reply.verbatim("txt", text.as_bytes());
    Ok(())
}

const COLUMNS_DEFAULT: i64 = 32;
const ROWS_DEFAULT: i64 = 8;
/// Nobody's terminal is larger.
const COLUMNS_MAX: i64 = 500;
const ROWS_MAX: i64 = 200;

/// A cloth of that many crossings in each row.
fn weave(columns: usize, rows: usize, random: &mut Random) -> String {
    let mut cloth = String::new();
    for row in 0..rows {
        for column in 0..columns {
            // A regular cloth, with a mistake here and there.
            let is_weft_on_top = ((row + column) % 2 == 0) != random.chance(1, 12);
            cloth.push_str(if is_weft_on_top { "━━" } else { "┃ " });
        }
        cloth.push('\n');
    }
    cloth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cloth_has_the_size_asked_for() {
        let cloth = weave(5, 3, &mut Random::with_seed(1));
        assert_eq!(cloth.lines().count(), 3);
        assert!(cloth.lines().all(|line| line.chars().count() == 10));
    }
}
