//! How a line of configuration becomes words, and a word becomes a quoted part of a line.
//!
//! The rules are those of redis.conf (and of Redis's inline commands): words are separated by blanks; a word may be
//! wrapped in `"double quotes"`, where `\n \r \t \b \a \\ \" \xHH` are escapes, or in `'single quotes'`, where only `\'`
//! is one; a closing quote must be followed by a blank or the end. Everything is bytes, because passwords are.
//!
//! Invariants:
//! 1. `split(quote(word)) == [word]` for every byte string.
//! 2. `quote` never writes a line feed, so that what it wrote is always one line.
//!
//! Format: <https://redis.io/docs/management/config/> ("Passing arguments via the command line" and the sample file).

/// Splits one line into its words; `None` when its quotes are not balanced.
pub fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        let Some(start) = rest.iter().position(|&byte| !is_blank(byte)) else {
            return Some(words);
        };
        rest = &rest[start..];
        let (word, after) = next_word(rest)?;
        words.push(word);
        rest = after;
    }
}

/// The word that `text` begins with, and what follows it.
fn next_word(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            _ if is_blank(byte) => break,
            b'"' => {
                at = double_quoted(text, at + 1, &mut word)?;
                return closed(text, at).then(|| (word, &text[at..]));
            }
            b'\'' => {
                at = single_quoted(text, at + 1, &mut word)?;
                return closed(text, at).then(|| (word, &text[at..]));
            }
            _ => word.push(byte),
        }
        at += 1;
    }
    Some((word, &text[at..]))
}

/// Reads up to the closing `"`; answers the position after it.
fn double_quoted(text: &[u8], mut at: usize, word: &mut Vec<u8>) -> Option<usize> {
    loop {
        match *text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => {
                let escape = *text.get(at + 1)?;
                if escape == b'x'
                    && let Some(byte) = text.get(at + 2..at + 4).and_then(hex_byte)
                {
                    word.push(byte);
                    at += 4;
                    continue;
                }
                word.push(match escape {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => other,
                });
                at += 2;
            }
            byte => {
                word.push(byte);
                at += 1;
            }
        }
    }
}

/// Reads up to the closing `'`; answers the position after it.
fn single_quoted(text: &[u8], mut at: usize, word: &mut Vec<u8>) -> Option<usize> {
    loop {
        match *text.get(at)? {
            b'\'' => return Some(at + 1),
            b'\\' if text.get(at + 1) == Some(&b'\'') => {
                word.push(b'\'');
                at += 2;
            }
            byte => {
                word.push(byte);
                at += 1;
            }
        }
    }
}

/// Whether a closing quote that ended at `at` is followed by a blank or by nothing.
fn closed(text: &[u8], at: usize) -> bool {
    text.get(at).is_none_or(|&byte| is_blank(byte))
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16);
    Some((digit(digits[0])? * 16 + digit(digits[1])?) as u8)
}

/// C's `isspace`, which counts the vertical tab that Rust's ASCII white space leaves out.
fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// Cuts blanks and carriage returns from both ends of a line, as Redis does before it looks at the line.
pub fn trim(line: &[u8]) -> &[u8] {
    let is_edge = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let start = line.iter().position(|byte| !is_edge(byte)).unwrap_or(line.len());
    let end = line
        .iter()
        .rposition(|byte| !is_edge(byte))
        .map_or(start, |last| last + 1);
    &line[start..end]
}

/// Writes `word` in double quotes, with everything escaped that is not plain ASCII.
pub fn quote(word: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in word {
        match byte {
            b'\\' | b'"' => out.extend([b'\\', byte]),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            0x07 => out.extend(b"\\a"),
            0x08 => out.extend(b"\\b"),
            b' '..=b'~' => out.push(byte),
            _ => {
                let digit = |value: u8| b"0123456789abcdef"[usize::from(value)];
                out.extend([b'\\', b'x', digit(byte >> 4), digit(byte & 15)]);
            }
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(line: &str) -> Option<Vec<String>> {
        let words = split(line.as_bytes())?;
        Some(
            words
                .iter()
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect(),
        )
    }

    #[test]
    fn splits_as_redis_does() {
        let some = |expected: &[&str]| Some(expected.iter().map(|word| word.to_string()).collect::<Vec<_>>());
        assert_eq!(words(""), some(&[]));
        assert_eq!(words("  port\t6379  "), some(&["port", "6379"]));
        assert_eq!(words(r#"a "b c" 'd "e' "#), some(&["a", "b c", "d \"e"]));
        assert_eq!(words(r#""\x41\n\q\xzz""#), some(&["A\nqxzz"]));
        assert_eq!(words(r"'it\'s' '\n'"), some(&["it's", r"\n"]));
        assert_eq!(words(r"a\x41"), some(&[r"a\x41"]));
        assert_eq!(words(r#"ab"cd""#), some(&["abcd"]));
        assert_eq!(words(r#""""#), some(&[""]));
        for unbalanced in [r#"port "abc"#, r#"port "abc"x"#, "'a", r#""a\"#, r"'a'b"] {
            assert_eq!(words(unbalanced), None, "{unbalanced}");
        }
    }

    proptest! {
        #[test]
        fn quoted_words_come_back(word in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut line = b"name ".to_vec();
            quote(&word, &mut line);
            prop_assert!(!line.contains(&b'\n'));
            prop_assert_eq!(split(&line), Some(vec![b"name".to_vec(), word]));
        }
    }
}
