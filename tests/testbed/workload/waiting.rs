//! Requests that wait for keys, what serves them, and what ends their waits.
//!
//! They are drawn in few keys, so that several clients wait for the same one and what comes for one of them is another's.

use super::{Program, is_number};
use shardis::engine::testbed::{Ask, Judge, Meaning, NO_ID, Request, Wish, Words};

/// Consumer groups of each stream.
const GROUPS: &[&str] = &["g", "h"];

fn words<W: AsRef<[u8]>>(all: &[W]) -> Words {
    all.iter().map(|word| word.as_ref().to_vec()).collect()
}

impl Program<'_> {
    /// Something of all that.
    pub(super) fn waiting(&mut self) {
        match self.random.below(12) {
            0..5 => self.wait(),
            5 => self.unblock(),
            6 => self.group(),
            _ => self.serve(),
        }
    }

    /// The same, where nobody waits.
    pub(super) fn waiting_in_exec(&mut self) {
        match self.one_in(2) {
            true => self.wait(),
            false => self.serve(),
        }
    }

    /// A key of that kind, mostly one that all clients mean.
    fn common_key(&mut self, kind: &str) -> String {
        match self.has("one-slot-each") || self.one_in(3) {
            true => self.key(kind),
            false => format!("{kind}{{{}}}0", self.plan.tags[usize::from(self.one_in(4))]),
        }
    }

    /// Ends somebody's wait, if there is one.
    fn unblock(&mut self) {
        let number = self.random.below(self.plan.addresses.len());
        if number == self.client {
            return self.serve();
        }
        let (with_error, words): (bool, &[&str]) = match self.random.below(3) {
            0 => (false, &["CLIENT", "UNBLOCK", NO_ID]),
            1 => (false, &["CLIENT", "UNBLOCK", NO_ID, "TIMEOUT"]),
            _ => (true, &["CLIENT", "UNBLOCK", NO_ID, "ERROR"]),
        };
        let mut request = Request::new(words, Judge::Holds(is_number));
        request.meaning = Meaning::Unblocks { number, with_error };
        self.push(request);
    }

    /// A consumer group comes, goes, or is done with something.
    fn group(&mut self) {
        let (key, group) = (self.common_key("x"), self.pick(GROUPS));
        match self.random.below(6) {
            0 if self.one_in(2) => self.say(&["XGROUP", "DESTROY", &key, group], Judge::Compared),
            1 => self.say(&["XGROUP", "CREATE", &key, group, "0", "MKSTREAM"], Judge::Compared),
            _ => self.say(&["XGROUP", "CREATE", &key, group, "$", "MKSTREAM"], Judge::Compared),
        }
    }

    /// Makes a key ready, or changes what it is.
    fn serve(&mut self) {
        let value = self.random.below(100_000).to_string();
        match self.random.below(12) {
            0..3 => {
                let (key, word) = (self.common_key("l"), self.pick(&["RPUSH", "LPUSH"]));
                match self.one_in(3) {
                    true => self.say(&[word, &key, &value, "second"], Judge::Compared),
                    false => self.say(&[word, &key, &value], Judge::Compared),
                }
            }
            3 | 4 => {
                let key = self.common_key("z");
                self.say(&["ZADD", &key, &value, &value], Judge::Compared);
            }
            5..8 => {
                let key = self.common_key("x");
                self.say(&["XADD", &key, "*", "f", &value], Judge::Compared);
            }
            8 => {
                let (from, to) = self.any_way();
                self.say(&["RENAME", &from, &to], Judge::Compared);
            }
            9 => {
                let (from, to) = self.any_way();
                self.say(&["COPY", &from, &to, "REPLACE"], Judge::Compared);
            }
            10 => {
                let key = self.any_key();
                self.say(&["DEL", &key], Judge::Compared);
            }
            _ => {
                let (one, other) = (self.common_key("l"), self.common_key("l"));
                self.say(&["LMOVE", &one, &other, "RIGHT", "LEFT"], Judge::Compared);
            }
        }
    }

    /// A request that may have to wait.
    pub(super) fn wait(&mut self) {
        let for_ms = match self.random.below(5) {
            0 => 0,
            1 => self.random.u64_in(1..400),
            _ => self.random.u64_in(1..80),
        };
        let time_s = format!("{}.{:03}", for_ms / 1000, for_ms % 1000);
        let kind = self.pick(&["l", "l", "z", "x"]);
        let count = if self.one_in(2) { 1 } else { self.random.usize_in(1..4) };
        let mut keys: Vec<String> = (0..count).map(|_| self.common_key(kind)).collect();
        let at = self.random.below(4);
        let (both, alone): (Words, Vec<Words>) = match kind {
            "x" if at < 2 => {
                keys.truncate(1);
                let (group, consumer, ms) = (self.pick(GROUPS), format!("c{}", self.client), for_ms.to_string());
                let count = self.pick(&["1", "2", "10"]);
                let all = [
                    "XREADGROUP",
                    "GROUP",
                    group,
                    &consumer,
                    "COUNT",
                    count,
                    "BLOCK",
                    &ms,
                    "STREAMS",
                    &keys[0],
                    ">",
                ];
                (words(&all), Vec::new())
            }
            "x" => {
                // Whoever serves it has all of its keys.
                let tag = self.tag();
                keys = vec![format!("x{{{tag}}}0"), format!("x{{{tag}}}1")];
                keys.truncate(count);
                let id = self.pick(&["$", "$", "0"]);
                let mut all = words(&["XREAD", "BLOCK", &for_ms.to_string(), "STREAMS"]);
                all.extend(words(&keys));
                all.extend(keys.iter().map(|_| id.as_bytes().to_vec()));
                (all, Vec::new())
            }
            "l" if at == 0 && !self.has("eviction") => {
                keys.truncate(1);
                let target = self.common_key("l");
                let all = match self.one_in(3) {
                    true => words(&["BRPOPLPUSH", &keys[0], &target, &time_s]),
                    false => words(&["BLMOVE", &keys[0], &target, "LEFT", "RIGHT", &time_s]),
                };
                (all, Vec::new())
            }
            _ if at == 1 => {
                let (word, from) = match kind {
                    "l" => ("BLMPOP", self.pick(&["LEFT", "RIGHT"])),
                    _ => ("BZMPOP", self.pick(&["MIN", "MAX"])),
                };
                let count = self.pick(&["1", "2", "3"]);
                let of = |keys: &[String]| {
                    let mut all = words(&[word, &time_s, &keys.len().to_string()]);
                    all.extend(words(keys));
                    all.extend(words(&[from, "COUNT", count]));
                    all
                };
                (
                    of(&keys),
                    keys.iter().map(|key| of(std::slice::from_ref(key))).collect(),
                )
            }
            _ => {
                let word = match kind {
                    "l" => self.pick(&["BLPOP", "BRPOP"]),
                    _ => self.pick(&["BZPOPMIN", "BZPOPMAX"]),
                };
                let of = |keys: &[String]| {
                    let mut all = words(&[word]);
                    all.extend(words(keys));
                    all.extend(words(&[&time_s]));
                    all
                };
                (
                    of(&keys),
                    keys.iter().map(|key| of(std::slice::from_ref(key))).collect(),
                )
            }
        };
        let is_served_by = match kind {
            "l" => is_list,
            "z" => is_sorted_set,
            _ if both[0] == b"XREAD" => has_entries,
            _ => has_entries_for_group,
        };
        let mut request = Request::new(&both, Judge::Compared);
        request.waits = Some(Box::new(Wish {
            keys: words(&keys),
            alone,
            for_ms,
            settled: if kind == "x" { with_last_ids } else { as_it_is },
            is_served_by,
        }));
        self.push(request);
    }
}

fn as_it_is(words: &Words, _: &mut Ask<'_>) -> Words {
    words.clone()
}

fn is_list(_: &Words, key: &[u8], ask: &mut Ask<'_>) -> bool {
    ask(&[b"TYPE", key]) == b"+list\r\n"
}

fn is_sorted_set(_: &Words, key: &[u8], ask: &mut Ask<'_>) -> bool {
    ask(&[b"TYPE", key]) == b"+zset\r\n"
}

/// The streams of a request, each with the place of its id among the words.
fn streams(words: &[Vec<u8>]) -> impl Iterator<Item = (&[u8], usize)> {
    let first = words
        .iter()
        .position(|word| word == b"STREAMS")
        .map_or(words.len(), |at| at + 1);
    let count = (words.len() - first) / 2;
    (first..first + count).map(move |at| (&words[at][..], at + count))
}

/// The text behind a name in a reply that is a list of names and values.
fn value_of<'r>(reply: &'r [u8], name: &str) -> Option<&'r [u8]> {
    let name = format!("\r\n{name}\r\n$");
    let at = memchr::memmem::find(reply, name.as_bytes())? + name.len();
    let mut lines = reply[at..].split(|byte| *byte == b'\n').skip(1);
    lines.next()?.strip_suffix(b"\r")
}

/// With the id of the last entry in place of `$`.
fn with_last_ids(words: &Words, ask: &mut Ask<'_>) -> Words {
    let mut settled = words.clone();
    for (key, at) in streams(words) {
        if words[at] == b"$" {
            let reply = ask(&[b"XINFO", b"STREAM", key]);
            settled[at] = value_of(&reply, "last-generated-id").unwrap_or(b"0-0").to_vec();
        }
    }
    settled
}

fn has_entries(words: &Words, key: &[u8], ask: &mut Ask<'_>) -> bool {
    let mut known = streams(words).filter(|(stream, _)| *stream == key);
    known.any(|(_, at)| ask(&[b"XREAD", b"STREAMS", key, &words[at]]).starts_with(b"*1"))
}

/// Or its group is gone, which it is to be told.
fn has_entries_for_group(words: &Words, key: &[u8], ask: &mut Ask<'_>) -> bool {
    let groups = ask(&[b"XINFO", b"GROUPS", key]);
    let name = [b"\r\n$4\r\nname\r\n$1\r\n", &words[2][..], b"\r\n"].concat();
    let Some(at) = memchr::memmem::find(&groups, &name) else {
        return true;
    };
    match value_of(&groups[at..], "last-delivered-id") {
        Some(last) => {
            let from = [b"(", last].concat();
            !ask(&[b"XRANGE", key, &from, b"+", b"COUNT", b"1"]).starts_with(b"*0")
        }
        None => true,
    }
}
