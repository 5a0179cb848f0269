//! Requests as images: a command is encoded once, and each request is a copy of that image with digits written over it.
//!
//! Everything variable in a request has a fixed width, so the lengths in its encoding never change and rendering is one
//! `memcpy` and a few digits. Building the request argument by argument would cost more than the server spends on it.
//!
//! Placeholders, anywhere in an argument:
//!
//! | placeholder | becomes |
//! |---|---|
//! | `__key__` | prefix and zero-padded number of a key, drawn from the key distribution; each occurrence is drawn anew |
//! | `__value__` | a value of the configured size: printable, the same in every request |
//! | `__rand__`, `__rand_int__` | [`RANDOM_DIGITS`] digits, uniform over the key space |
//! | `__keys:N__` (a whole argument) | `N` arguments `__key__` |
//! | `__pairs:N__` (a whole argument) | `N` times the arguments `__key__` `__value__` |
//!
//! Arguments are separated by blanks; double quotes protect blanks and know `\n \r \t \" \\ \xHH`.
//!
//! Invariants:
//! 1. All renderings of a template have the same length.
//! 2. `route` is the range of the argument that decides the hash slot: the first that contains `__key__`, else the
//!    first after the command's name. A command of one argument has none.

use std::ops::Range;

use thiserror::Error;

/// Width of `__rand__`.
pub const RANDOM_DIGITS: usize = 12;

/// What the arguments of a template cannot be turned into.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TemplateError {
    /// There is no argument at all.
    #[error("a command template is empty")]
    Empty,
    /// A quote is never closed, or is followed by something else than a blank.
    #[error("unbalanced quotes in command template '{0}'")]
    Quotes(String),
    /// `__keys:N__` with something that is not a count.
    #[error("'{0}' in a command template: the count must be between 1 and 100000")]
    Count(String),
}

/// The fixed widths and contents that all templates of a run share.
#[derive(Debug, Clone)]
pub struct RequestLayout {
    /// What every key begins with.
    pub key_prefix: Vec<u8>,
    /// Width of the number in a key.
    pub key_digits: usize,
    /// What `__value__` stands for.
    pub value: Vec<u8>,
}

/// What is written over the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The number of a key.
    Key,
    /// A number that is uniform over the key space.
    Random,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Patch {
    digits: Range<usize>,
    field: Field,
}

/// A command that has been encoded once.
#[derive(Debug, Clone)]
pub struct Template {
    /// The command's name in capitals, for reports.
    pub name: String,
    /// The text that it was made from.
    pub source: String,
    image: Vec<u8>,
    patches: Vec<Patch>,
    route: Option<Range<usize>>,
}

impl Template {
    /// Encodes a command line with placeholders.
    pub fn parse(source: &str, layout: &RequestLayout) -> Result<Template, TemplateError> {
        let arguments = expand(split_arguments(source)?)?;
        let Some(name) = arguments.first() else {
            return Err(TemplateError::Empty);
        };
        let mut template = Template {
            name: String::from_utf8_lossy(name).to_uppercase(),
            source: source.to_owned(),
            image: format!("*{}\r\n", arguments.len()).into_bytes(),
            patches: Vec::new(),
            route: None,
        };
        let mut second = None;
        for (index, argument) in arguments.iter().enumerate() {
            let (body, patches) = fill(argument, layout);
            template
                .image
                .extend_from_slice(format!("${}\r\n", body.len()).as_bytes());
            let start = template.image.len();
            template.image.extend_from_slice(&body);
            let range = start..template.image.len();
            template.image.extend_from_slice(b"\r\n");
            if index == 1 {
                second = Some(range.clone());
            }
            if template.route.is_none() && patches.iter().any(|patch| patch.field == Field::Key) {
                template.route = Some(range);
            }
            template.patches.extend(patches.into_iter().map(|patch| Patch {
                digits: patch.digits.start + start..patch.digits.end + start,
                field: patch.field,
            }));
        }
        template.route = template.route.or(second);
        Ok(template)
    }

    /// Appends one request to `out`; `draw` gives the number for each field in order.
    #[inline]
    pub fn render(&self, out: &mut Vec<u8>, mut draw: impl FnMut(Field) -> u64) {
        let start = out.len();
        out.extend_from_slice(&self.image);
        let request = &mut out[start..];
        for patch in &self.patches {
            write_digits(&mut request[patch.digits.clone()], draw(patch.field));
        }
    }

    /// The argument of a rendered request that decides its hash slot (invariant 2).
    pub fn route_argument<'request>(&self, request: &'request [u8]) -> Option<&'request [u8]> {
        self.route.clone().map(|range| &request[range])
    }

    /// The length of every request of this template (invariant 1).
    pub fn request_bytes(&self) -> usize {
        self.image.len()
    }
}

/// Writes `number` right-aligned with leading zeros; digits that do not fit are dropped.
#[inline]
fn write_digits(field: &mut [u8], mut number: u64) {
    for digit in field.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Replaces the placeholders of one argument by their images and says where digits go.
fn fill(argument: &[u8], layout: &RequestLayout) -> (Vec<u8>, Vec<Patch>) {
    let mut body = Vec::new();
    let mut patches = Vec::new();
    let mut rest = argument;
    let mut number = |body: &mut Vec<u8>, digits: usize, field| {
        let start = body.len();
        body.resize(start + digits, b'0');
        patches.push(Patch {
            digits: start..start + digits,
            field,
        });
    };
    while let Some(&byte) = rest.first() {
        if let Some(after) = rest.strip_prefix(b"__key__") {
            body.extend_from_slice(&layout.key_prefix);
            number(&mut body, layout.key_digits, Field::Key);
            rest = after;
        } else if let Some(after) = rest.strip_prefix(b"__value__") {
            body.extend_from_slice(&layout.value);
            rest = after;
        } else if let Some(after) = rest
            .strip_prefix(b"__rand__")
            .or_else(|| rest.strip_prefix(b"__rand_int__"))
        {
            number(&mut body, RANDOM_DIGITS, Field::Random);
            rest = after;
        } else {
            body.push(byte);
            rest = &rest[1..];
        }
    }
    (body, patches)
}

/// Replaces `__keys:N__` and `__pairs:N__` by what they stand for.
fn expand(arguments: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, TemplateError> {
    let mut expanded = Vec::with_capacity(arguments.len());
    for argument in arguments {
        let (count_text, unit): (_, &[&[u8]]) = if let Some(rest) = argument.strip_prefix(b"__keys:") {
            (rest, &[b"__key__"])
        } else if let Some(rest) = argument.strip_prefix(b"__pairs:") {
            (rest, &[b"__key__", b"__value__"])
        } else {
            expanded.push(argument);
            continue;
        };
        let count = count_text
            .strip_suffix(b"__")
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| digits.parse::<usize>().ok())
            .filter(|count| (1..=100_000).contains(count))
            .ok_or_else(|| TemplateError::Count(String::from_utf8_lossy(&argument).into_owned()))?;
        for _ in 0..count {
            expanded.extend(unit.iter().map(|part| part.to_vec()));
        }
    }
    Ok(expanded)
}

fn split_arguments(source: &str) -> Result<Vec<Vec<u8>>, TemplateError> {
    let unbalanced = || TemplateError::Quotes(source.to_owned());
    let mut arguments = Vec::new();
    let mut bytes = source.bytes().peekable();
    loop {
        while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
        if bytes.peek().is_none() {
            return Ok(arguments);
        }
        let mut argument = Vec::new();
        if bytes.next_if_eq(&b'"').is_some() {
            loop {
                match bytes.next().ok_or_else(unbalanced)? {
                    b'"' => break,
                    b'\\' => argument.push(match bytes.next().ok_or_else(unbalanced)? {
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'x' => {
                            let mut digit = || {
                                bytes
                                    .next()
                                    .and_then(|byte| char::from(byte).to_digit(16))
                                    .ok_or_else(unbalanced)
                            };
                            (digit()? * 16 + digit()?) as u8
                        }
                        other => other,
                    }),
                    other => argument.push(other),
                }
            }
            if bytes.peek().is_some_and(|byte| !byte.is_ascii_whitespace()) {
                return Err(unbalanced());
            }
        } else {
            while let Some(byte) = bytes.next_if(|byte| !byte.is_ascii_whitespace()) {
                argument.push(byte);
            }
        }
        arguments.push(argument);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> RequestLayout {
        RequestLayout {
            key_prefix: b"key:".to_vec(),
            key_digits: 4,
            value: b"vvv".to_vec(),
        }
    }

    fn render(source: &str, numbers: &[u64]) -> String {
        let template = Template::parse(source, &layout()).unwrap();
        let mut numbers = numbers.iter();
        let mut out = b"before".to_vec();
        template.render(&mut out, |_| *numbers.next().unwrap());
        assert_eq!(out.len(), 6 + template.request_bytes());
        assert!(numbers.next().is_none(), "every number was used");
        String::from_utf8(out).unwrap()["before".len()..].to_owned()
    }

    #[test]
    fn placeholders_become_fixed_width_fields() {
        assert_eq!(
            render("set __key__ __value__", &[42]),
            "*3\r\n$3\r\nset\r\n$8\r\nkey:0042\r\n$3\r\nvvv\r\n"
        );
        assert_eq!(
            render("HSET h f:__rand__:__key__ x", &[7, 9]),
            "*4\r\n$4\r\nHSET\r\n$1\r\nh\r\n$23\r\nf:000000000007:key:0009\r\n$1\r\nx\r\n"
        );
        assert_eq!(
            render("INCR __rand_int__", &[1_234_567_890_123]),
            "*2\r\n$4\r\nINCR\r\n$12\r\n234567890123\r\n"
        );
        assert_eq!(render("PING", &[]), "*1\r\n$4\r\nPING\r\n");
    }

    #[test]
    fn counted_placeholders_become_arguments() {
        assert_eq!(
            render("MGET __keys:2__", &[1, 2]),
            "*3\r\n$4\r\nMGET\r\n$8\r\nkey:0001\r\n$8\r\nkey:0002\r\n"
        );
        assert_eq!(
            render("MSET __pairs:2__", &[1, 2]),
            "*5\r\n$4\r\nMSET\r\n$8\r\nkey:0001\r\n$3\r\nvvv\r\n$8\r\nkey:0002\r\n$3\r\nvvv\r\n"
        );
    }

    #[test]
    fn quotes_protect_blanks() {
        assert_eq!(
            render(r#"EVAL "return \"a b\"\x21" 0"#, &[]),
            "*3\r\n$4\r\nEVAL\r\n$13\r\nreturn \"a b\"!\r\n$1\r\n0\r\n"
        );
        assert_eq!(render("ECHO \"\"", &[]), "*2\r\n$4\r\nECHO\r\n$0\r\n\r\n");
    }

    #[test]
    fn wrong_templates_are_refused() {
        let error = |source| Template::parse(source, &layout()).unwrap_err();
        assert_eq!(error("  "), TemplateError::Empty);
        assert!(matches!(error("GET \"a"), TemplateError::Quotes(_)));
        assert!(matches!(error("GET \"a\"b"), TemplateError::Quotes(_)));
        assert!(matches!(error("GET \"\\xg0\""), TemplateError::Quotes(_)));
        assert!(matches!(error("MGET __keys:0__"), TemplateError::Count(_)));
        assert!(matches!(error("MGET __keys:x__"), TemplateError::Count(_)));
        assert!(matches!(error("MGET __keys:3"), TemplateError::Count(_)));
    }

    #[test]
    fn the_first_key_decides_the_route() {
        let route = |source: &str| {
            let template = Template::parse(source, &layout()).unwrap();
            let mut out = Vec::new();
            template.render(&mut out, |_| 5);
            template.route_argument(&out).map(<[u8]>::to_vec)
        };
        assert_eq!(route("SET __key__ __value__").unwrap(), b"key:0005");
        assert_eq!(route("EVAL x 1 {__key__}:a __key__").unwrap(), b"{key:0005}:a");
        assert_eq!(route("INCR counter:__rand__").unwrap(), b"counter:000000000005");
        assert_eq!(route("PING"), None);
    }
}
