//! Replies: read from bytes (RESP2 and RESP3), and printed as redis-cli prints them on a terminal.
//!
//! Formats: <https://redis.io/docs/latest/develop/reference/protocol-spec/>. A reply that breaks them is a panic: it is a
//! finding.

/// One reply. Texts are kept as they were sent.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Value {
    Simple(Vec<u8>),
    Error(Vec<u8>),
    Integer(i64),
    Bulk(Vec<u8>),
    /// `$-1`, `*-1` and `_`.
    Nil,
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Set(Vec<Value>),
    Push(Vec<Value>),
    Double(Vec<u8>),
    Boolean(bool),
    BigNumber(Vec<u8>),
    /// The format (`txt`, `mkd`) and the text.
    Verbatim(Vec<u8>, Vec<u8>),
}

/// The first reply in `bytes` and its length, or nothing while it is incomplete.
pub fn parse(bytes: &[u8]) -> Option<(Value, usize)> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let (kind, line, mut at) = (bytes[0], &bytes[1..end], end + 2);
    let mut items = |count: usize| {
        let mut items = Vec::with_capacity(count.min(1024));
        for _ in 0..count {
            let (item, length) = parse(&bytes[at..])?;
            at += length;
            items.push(item);
        }
        Some(items)
    };
    let value = match kind {
        b'+' => Value::Simple(line.to_vec()),
        b'-' => Value::Error(line.to_vec()),
        b':' => Value::Integer(number(line)),
        b'_' => Value::Nil,
        b',' => Value::Double(line.to_vec()),
        b'(' => Value::BigNumber(line.to_vec()),
        b'#' => Value::Boolean(line == b"t"),
        b'*' if line == b"-1" => Value::Nil,
        b'*' => Value::Array(items(size(line))?),
        b'~' => Value::Set(items(size(line))?),
        b'>' => Value::Push(items(size(line))?),
        b'|' => {
            // An attribute stands before the reply that it says something about; neither client shows it.
            items(2 * size(line))?;
            let (value, length) = parse(&bytes[at..])?;
            return Some((value, at + length));
        }
        b'%' => {
            let flat = items(2 * size(line))?;
            Value::Map(
                flat.chunks_exact(2)
                    .map(|pair| (pair[0].clone(), pair[1].clone()))
                    .collect(),
            )
        }
        b'$' if line == b"-1" => Value::Nil,
        b'$' | b'!' | b'=' => {
            let length = size(line);
            let text = bytes.get(at..at + length)?.to_vec();
            let tail = bytes.get(at + length..at + length + 2)?;
            assert_eq!(tail, b"\r\n", "behind a text of {length} bytes");
            at += length + 2;
            match kind {
                b'$' => Value::Bulk(text),
                b'!' => Value::Error(text),
                _ => Value::Verbatim(text[..3].to_vec(), text[4..].to_vec()),
            }
        }
        _ => panic!(
            "no reply begins like this: {}",
            bytes[..bytes.len().min(80)].escape_ascii()
        ),
    };
    Some((value, at))
}

fn number(line: &[u8]) -> i64 {
    let text = String::from_utf8_lossy(line);
    text.parse()
        .unwrap_or_else(|_| panic!("a reply has {text:?} for a number"))
}

fn size(line: &[u8]) -> usize {
    let number = number(line);
    usize::try_from(number).unwrap_or_else(|_| panic!("a reply has the size {number}"))
}

impl Value {
    /// The text of a string, status or error; numbers in decimal; what redis-cli prints for the others.
    pub fn text(&self) -> String {
        match self {
            Value::Simple(text) | Value::Error(text) | Value::Bulk(text) | Value::Verbatim(_, text) => {
                String::from_utf8_lossy(text).into_owned()
            }
            Value::Integer(number) => number.to_string(),
            other => other.to_string(),
        }
    }

    #[track_caller]
    pub fn integer(&self) -> i64 {
        match self {
            Value::Integer(number) => *number,
            other => panic!("no integer: {other}"),
        }
    }

    /// The items of an array, set or push; keys and values of a map in turn.
    #[track_caller]
    pub fn items(&self) -> Vec<Value> {
        match self {
            Value::Array(items) | Value::Set(items) | Value::Push(items) => items.clone(),
            Value::Map(pairs) => pairs
                .iter()
                .flat_map(|(key, value)| [key.clone(), value.clone()])
                .collect(),
            other => panic!("no aggregate: {other}"),
        }
    }

    pub fn is_error(&self) -> bool {
        matches!(self, Value::Error(_))
    }

    /// With the items of its outermost aggregate in a canonical order.
    pub fn sorted(mut self) -> Value {
        match &mut self {
            Value::Array(items) | Value::Set(items) | Value::Push(items) => items.sort(),
            Value::Map(pairs) => pairs.sort(),
            _ => {}
        }
        self
    }

    fn print(&self, indent: &str, out: &mut String) {
        let mut list = |items: Vec<(&Value, Option<&Value>)>, mark: char, empty: &str| {
            if items.is_empty() {
                out.push_str(empty);
            }
            let width = items.len().to_string().len();
            let inner = format!("{indent}{}", " ".repeat(width + 2));
            for (index, (item, value)) in items.into_iter().enumerate() {
                if index > 0 {
                    out.push('\n');
                    out.push_str(indent);
                }
                out.push_str(&format!("{:>width$}{mark} ", index + 1));
                item.print(&inner, out);
                if let Some(value) = value {
                    out.push_str(" => ");
                    value.print(&inner, out);
                }
            }
        };
        match self {
            Value::Simple(text) => out.push_str(&String::from_utf8_lossy(text)),
            Value::Error(text) => out.push_str(&format!("(error) {}", String::from_utf8_lossy(text))),
            Value::Integer(number) => out.push_str(&format!("(integer) {number}")),
            Value::Bulk(text) => out.push_str(&quote(text)),
            Value::Nil => out.push_str("(nil)"),
            Value::Double(text) => out.push_str(&format!("(double) {}", String::from_utf8_lossy(text))),
            Value::Boolean(is_true) => out.push_str(if *is_true { "(true)" } else { "(false)" }),
            Value::BigNumber(text) => out.push_str(&String::from_utf8_lossy(text)),
            // Escaped, which redis-cli does not do: a transcript's replies are told apart by their lines.
            Value::Verbatim(_, text) => out.push_str(&quote(text)),
            Value::Array(items) => list(items.iter().map(|i| (i, None)).collect(), ')', "(empty array)"),
            Value::Push(items) => list(items.iter().map(|i| (i, None)).collect(), ')', "(empty push)"),
            Value::Set(items) => list(items.iter().map(|i| (i, None)).collect(), '~', "(empty set)"),
            Value::Map(pairs) => list(pairs.iter().map(|(k, v)| (k, Some(v))).collect(), '#', "(empty hash)"),
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = String::new();
        self.print("", &mut out);
        f.write_str(&out)
    }
}

/// A text in double quotes, escaped as redis-cli escapes; it can read it back.
pub fn quote(text: &[u8]) -> String {
    let mut out = String::from("\"");
    for &byte in text {
        match byte {
            b'\\' | b'"' => out.extend(['\\', byte as char]),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            7 => out.push_str("\\a"),
            8 => out.push_str("\\b"),
            b' '..=b'~' => out.push(byte as char),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push('"');
    out
}

/// A word as it can be typed to redis-cli: quoted only where it must be.
pub fn word(text: &[u8]) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && !b"\"'\\#".contains(byte);
    if !text.is_empty() && text.iter().all(is_plain) {
        String::from_utf8_lossy(text).into_owned()
    } else {
        quote(text)
    }
}

/// The words of a line, with redis-cli's rules for quotes and escapes; nothing if the quotes are unbalanced.
pub fn split_words(line: &str) -> Option<Vec<Vec<u8>>> {
    let bytes = line.as_bytes();
    let (mut words, mut at) = (Vec::new(), 0);
    loop {
        while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        if at == bytes.len() {
            return Some(words);
        }
        let mut word = Vec::new();
        while let Some(&byte) = bytes.get(at).filter(|byte| !byte.is_ascii_whitespace()) {
            at += 1;
            match byte {
                b'\'' => {
                    let end = at + bytes[at..].iter().position(|&b| b == b'\'')?;
                    word.extend_from_slice(&bytes[at..end]);
                    at = end + 1;
                }
                b'"' => at = double_quoted(bytes, at, &mut word)?,
                _ => word.push(byte),
            }
        }
        words.push(word);
    }
}

/// Reads up to the closing quote; answers where the text goes on.
fn double_quoted(bytes: &[u8], mut at: usize, word: &mut Vec<u8>) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' if bytes.get(at + 1) == Some(&b'x') => {
                let digits = std::str::from_utf8(bytes.get(at + 2..at + 4)?).ok()?;
                word.push(u8::from_str_radix(digits, 16).ok()?);
                at += 4;
            }
            b'\\' => {
                word.push(match *bytes.get(at + 1)? {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'a' => 7,
                    b'b' => 8,
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
