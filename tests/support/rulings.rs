//! Where the oracles differ from each other, and who is right.
//!
//! What Redis 8.2 and Valkey 9.1 both say is what Redis 7.2 said. Where they differ, or have both left 7.2, Redis 7.0 and the
//! documentation of 7.2 decide, and each such place is one line here: a pattern of commands, whose word does not count, and why.
//! The others' word counts, that of Redis 7.0 included, to which nobody listens where there is no line.
//!
//! The transcripts show each of them (a line that nobody needs fails a test), and the differential test sends what a line is
//! against to nobody whom it is against.

use super::oracle::Oracle::{self, Redis70, Redis82, Valkey91};
use super::value::split_words;

/// A place where oracles differ.
pub struct Ruling {
    /// Words of a command, in any case. `*` at a word's end is any rest of it, `...` any number of words.
    pub command: &'static str,
    /// Whose word does not count.
    pub against: &'static [Oracle],
    pub why: &'static str,
}

const fn ruling(command: &'static str, against: &'static [Oracle], why: &'static str) -> Ruling {
    Ruling { command, against, why }
}

/// Hash fields that expire are Redis 7.4's and 8.0's, so its word alone counts.
const OTHERS_THAN_8_2: &[Oracle] = &[Valkey91, Redis70];

#[rustfmt::skip]
pub const RULINGS: &[Ruling] = &[
    // What is newer than 7.2.
    ruling("HEXPIRE ...", OTHERS_THAN_8_2, "7.4"),
    ruling("HPEXPIRE ...", &[Redis70], "7.4, and the same in Valkey where a transcript has it"),
    ruling("HEXPIREAT ...", &[Redis70], "as HPEXPIRE"),
    ruling("HPEXPIREAT ...", OTHERS_THAN_8_2, "7.4"),
    ruling("HTTL ...", OTHERS_THAN_8_2, "7.4"),
    ruling("HPTTL ...", OTHERS_THAN_8_2, "7.4"),
    ruling("HEXPIRETIME ...", OTHERS_THAN_8_2, "7.4"),
    ruling("HPEXPIRETIME ...", &[Redis70], "as HPEXPIRE"),
    ruling("HPERSIST ...", OTHERS_THAN_8_2, "7.4"),
    ruling("HGETDEL ...", OTHERS_THAN_8_2, "8.0"),
    ruling("HGETEX ...", OTHERS_THAN_8_2, "8.0"),
    ruling("HSETEX ...", OTHERS_THAN_8_2, "8.0"),
    ruling("OBJECT ENCODING e", OTHERS_THAN_8_2, "7.4: a packed hash with expiries has a name of its own"),
    // Numbers.
    ruling("SORT hex ...", &[Redis82, Valkey91], "7.2 reads numbers by strtod, which takes hexadecimal ones; both have another reader"),
    ruling("SORT spaced ...", &[Redis82, Valkey91], "as above: strtod passes over spaces in front"),
    ruling("SORT void ...", &[Valkey91], "as above: to strtod the empty text is 0"),
    ruling("Z* ... \" 1\" ...", &[Redis82, Valkey91], "as above, for bounds and scores"),
    ruling("... 0x10 ...", &[Valkey91], "its reader of numbers knows no hexadecimal ones"),
    ruling("... 0x1p3 ...", &[Valkey91], "as above"),
    ruling("ZR* ... 0x1* ...", &[Redis82], "its reader of bounds knows no hexadecimal numbers either; that of scores does"),
    ruling("ZCOUNT ... 0x1* ...", &[Redis82], "as above"),
    ruling("GEOPOS ...", &[Redis82], "7.2 prints 17 digits behind the point; 8.2 the fewest that read back"),
    ruling("GEO* ... WITHCOORD ...", &[Redis82], "as GEOPOS"),
    // Scripts.
    ruling("EVAL* ...", &[Valkey91], "it words the errors of scripts anew"),
    ruling("FCALL ...", &[Valkey91], "as EVAL"),
    ruling("FUNCTION LOAD ...", &[Valkey91], "as EVAL"),
    ruling("EVAL \"return redis.log(9, 'y')\" 0", &[Redis70], "7.2 words it anew"),
    ruling("EVAL \"return redis.call('BLPOP'*\" 0", &[Redis70], "7.2 lets scripts call what waits"),
    ruling("EVAL \"return redis.call('OBJECT'*\" 0", &[Redis70], "7.2 packs small lists"),
    ruling("EVAL \"return os.time\" 0", &[Redis70], "7.2 has os.clock"),
    ruling("EVAL \"return type(os.clock())\" 0", &[Redis70], "as above"),
    // Words.
    ruling("GEOSEARCH* ... FROMMEMBER ...", &[Valkey91], "it names a member that is missing"),
    ruling("GEORADIUSBYMEMBER* ...", &[Valkey91], "as GEOSEARCH"),
    ruling("GEOSEARCH g FROMLONLAT 15 37 ASC WITHDIST", &[Valkey91], "it knows polygons"),
    ruling("XREAD COUNT 2 STREAMS s", &[Redis82, Redis70], "7.4 knows the ID +; 7.0 does not name the command"),
    ruling("XREAD COUNT 2 STREAMS s t 0", &[Redis82, Redis70], "as above"),
    ruling("CLIENT LIST ID ...", &[Valkey91], "it has other words for it"),
    ruling("CLIENT KILL ID x", &[Valkey91], "it takes several IDs"),
    ruling("MULTI", &[Valkey91], "it says of a nested one what it says of all that may not be queued, and lets EXEC fail"),
    ruling("WATCH ...", &[Valkey91], "as MULTI"),
    // Arguments.
    ruling("BITCOUNT * *", &[Valkey91, Redis70], "it takes a start alone; 7.0 looks for the key first"),
    ruling("BITCOUNT * * * *", &[Valkey91, Redis70], "it looks at the unit before it reads the end; 7.0 as above"),
    ruling("Z* ... LIMIT -* ...", &[Valkey91], "in a large set it takes a negative offset for 0; 7.2 answers nothing, as of a small one"),
    ruling("SCAN ... TYPE ...", &[Valkey91], "it refuses types that there are not"),
    ruling("CLIENT PAUSE * WRITE more", &[Valkey91], "it passes over what is too much"),
    ruling("CLIENT UNBLOCK * ERROR more", &[Valkey91], "as CLIENT PAUSE"),
    ruling("DEBUG OBJECT k extra", &[Valkey91], "it takes an option"),
    ruling("GETEX * EX* *", &[Valkey91], "it looks at the time before it looks for the key"),
    ruling("GETEX * PX* *", &[Valkey91], "as above"),
    // What is answered, and what is told of a key.
    ruling("OBJECT REFCOUNT small", &[Redis82, Valkey91], "7.2 shares small integers; both keep them in their entries"),
    ruling("OBJECT ENCODING n", &[Redis82, Valkey91], "7.2 keeps 44 bytes with their header; both keep keys and values together and count otherwise"),
    ruling("XGROUP ... ENTRIESREAD ...", &[Redis82], "it corrects a count that is too large"),
    ruling("LTRIM ...", &[Valkey91], "to watchers, a LTRIM that takes nothing away is no change there"),
    ruling("LSET * 922337203685477580* *", &[Redis82, Valkey91], "both cut the index to 32 bits and write to another place; the documentation: an index out of range is an error"),
    ruling("LSET * -922337203685477580* *", &[Redis82, Valkey91], "as above"),
    ruling("READONLY", &[Valkey91], "it takes it outside cluster mode too"),
    ruling("READWRITE", &[Valkey91], "as READONLY"),
    ruling("MODULE LIST ...", &[Redis82, Valkey91], "both come with modules of their own"),
    ruling("CLUSTER KEYSLOT *", &[Redis82, Redis70], "they refuse it outside cluster mode; there is one slot to a key in any mode, and it is what clients ask for"),
    ruling("COMMAND INFO ...", &[Valkey91], "it allows more while a script is busy, and has an array of subcommands in RESP3"),
];

impl Ruling {
    pub fn is_on(&self, words: &[Vec<u8>]) -> bool {
        matches(&self.words(), words)
    }

    fn words(&self) -> Vec<Vec<u8>> {
        split_words(self.command).expect("the table's quotes are balanced")
    }
}

fn matches(pattern: &[Vec<u8>], words: &[Vec<u8>]) -> bool {
    match (pattern.split_first(), words.split_first()) {
        (None, _) => words.is_empty(),
        (Some((first, rest)), _) if first == b"..." => {
            (0..=words.len()).any(|skipped| matches(rest, &words[skipped..]))
        }
        (Some((first, rest)), Some((word, more))) => {
            let is_same = match first.split_last() {
                Some((b'*', start)) => word
                    .get(..start.len())
                    .is_some_and(|word| word.eq_ignore_ascii_case(start)),
                _ => first.eq_ignore_ascii_case(word),
            };
            is_same && matches(rest, more)
        }
        (Some(_), None) => false,
    }
}

/// The rulings on a command, with their places in the table.
pub fn rulings_on(words: &[Vec<u8>]) -> impl Iterator<Item = (usize, &'static Ruling)> {
    RULINGS.iter().enumerate().filter(|(_, ruling)| ruling.is_on(words))
}
