//! Numbers and patterns from strangers. What is accepted prints as something that is accepted as the same; patterns match as the plain
//! recursive definition says.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shardis::base::long_double::LongDouble;
use shardis::base::{glob, numbers};

fuzz_target!(|data: &[u8]| {
    if let Some(value) = numbers::parse_i64(data) {
        assert_eq!(value.to_string().as_bytes(), data);
        assert_eq!(numbers::i64_text_bytes(value), data.len());
    }
    if let Some(value) = numbers::parse_f64(data) {
        let again = numbers::parse_f64(&numbers::format_f64(value));
        assert_eq!(again.map(f64::to_bits), Some(value.to_bits()));
    }
    if let Some(value) = LongDouble::parse(data) {
        let text = value.to_human();
        // Beyond seventeen decimals the text is not the number any more, but it stays a number.
        assert!(LongDouble::parse(&text).is_some());
        let difference = value + LongDouble::parse(&[b"-", &text[..]].concat()).unwrap_or(LongDouble::ZERO);
        difference.to_human();
    }
    if let Some(split) = data.iter().position(|&byte| byte == b'\n') {
        let (pattern, text) = (&data[..split], &data[split + 1..]);
        glob::matches_ignoring_case(pattern, text);
        let has_only_plain_elements = !pattern.iter().any(|byte| matches!(byte, b'[' | b'\\'));
        // The plain definition takes exponential time, so it is asked about little only.
        if has_only_plain_elements && !text.is_empty() && pattern.len() <= 10 && text.len() <= 12 {
            assert_eq!(glob::matches(pattern, text), by_definition(pattern, text));
        }
    }
});

fn by_definition(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|taken| by_definition(rest, &text[taken..])),
        ([b'?', rest @ ..], [_, behind @ ..]) => by_definition(rest, behind),
        ([literal, rest @ ..], [byte, behind @ ..]) => literal == byte && by_definition(rest, behind),
        _ => false,
    }
}
