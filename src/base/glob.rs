//! Glob patterns as KEYS, SCAN MATCH, PSUBSCRIBE, CONFIG GET and the ACL use them.
//!
//! `*` any run of bytes, `?` any one byte, `[abc]`, `[^abc]`, `[a-z]` one byte of a class, `\x` the byte x itself. Bytes, not
//! characters; "ignoring case" means ASCII letters.
//!
//! Every element but `*` takes exactly one byte, so it is enough to remember the last `*` met: if what follows it fails, one
//! more byte goes to that star and matching resumes behind it. An earlier star need never be reconsidered, because
//! whatever it could give up the later star can take. Hence no recursion, no allocation, and at most pattern × text steps, where
//! the recursive way blows up exponentially on patterns such as `a*a*a*a*b`.
//!
//! The corners follow redis-server (checked against 7.0.15 by matching random patterns on both sides):
//!
//! * a class without its `]` ends with the pattern, and what it lists counts;
//! * in `[a-]...` the `]` is the end of a range, so the class goes on; `[z-a]` is the range a to z;
//! * inside a class `\x` is x and always minds the case, whatever was asked;
//! * a `\` that ends the pattern is a plain backslash;
//! * the empty text is matched only by the empty pattern, not even by `*`.

/// Whether `text` as a whole matches `pattern`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    matches_folding::<false>(pattern, text)
}

/// As [`matches()`], with ASCII letters equal to their other case.
pub fn matches_ignoring_case(pattern: &[u8], text: &[u8]) -> bool {
    matches_folding::<true>(pattern, text)
}

/// Whether the pattern has any active character at all; one that has none matches only itself.
pub fn is_literal(pattern: &[u8]) -> bool {
    !pattern.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'))
}

fn matches_folding<const FOLD: bool>(pattern: &[u8], text: &[u8]) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let mut at = 0;
    let mut position = 0;
    // Behind the last star met: where the pattern resumes, and the first byte not yet given to that star.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(at) == Some(&b'*') {
            while pattern.get(at) == Some(&b'*') {
                at += 1;
            }
            if at == pattern.len() {
                return true;
            }
            star = Some((at, position));
            continue;
        }
        let matched_to = match text.get(position) {
            Some(&byte) if at < pattern.len() => element::<FOLD>(pattern, at, byte),
            None if at == pattern.len() => return true,
            // The text is used up and the pattern still wants a byte: giving more to the star cannot help.
            None => return false,
            Some(_) => None,
        };
        match (matched_to, star) {
            (Some(next), _) => {
                at = next;
                position += 1;
            }
            (None, None) => return false,
            (None, Some((resume_at, taken))) => {
                at = resume_at;
                position = taken + 1;
                star = Some((resume_at, position));
            }
        }
    }
}

/// Matches the one-byte element at `pattern[at]` with `byte`: where the pattern goes on, or `None`.
fn element<const FOLD: bool>(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match pattern[at] {
        b'?' => Some(at + 1),
        b'[' => class::<FOLD>(pattern, at + 1, byte),
        b'\\' if at + 1 < pattern.len() => equal::<FOLD>(pattern[at + 1], byte).then_some(at + 2),
        literal => equal::<FOLD>(literal, byte).then_some(at + 1),
    }
}

/// Matches the class whose text begins at `at`, just behind its `[`.
fn class<const FOLD: bool>(pattern: &[u8], mut at: usize, byte: u8) -> Option<usize> {
    let is_negated = pattern.get(at) == Some(&b'^');
    if is_negated {
        at += 1;
    }
    let mut is_listed = false;
    let next = loop {
        match &pattern[at..] {
            [] => break at,
            [b'\\', escaped, ..] => {
                is_listed |= *escaped == byte;
                at += 2;
            }
            [b']', ..] => break at + 1,
            [first, b'-', last, ..] => {
                let (low, high) = (fold::<FOLD>(*first.min(last)), fold::<FOLD>(*first.max(last)));
                is_listed |= (low..=high).contains(&fold::<FOLD>(byte));
                at += 3;
            }
            [listed, ..] => {
                is_listed |= equal::<FOLD>(*listed, byte);
                at += 1;
            }
        }
    };
    (is_listed != is_negated).then_some(next)
}

fn fold<const FOLD: bool>(byte: u8) -> u8 {
    if FOLD { byte.to_ascii_lowercase() } else { byte }
}

fn equal<const FOLD: bool>(left: u8, right: u8) -> bool {
    fold::<FOLD>(left) == fold::<FOLD>(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, text: &str) -> bool {
        matches(pattern.as_bytes(), text.as_bytes())
    }

    #[test]
    fn stars_and_question_marks() {
        for (pattern, text, expected) in [
            ("*", "a", true),
            ("**", "abc", true),
            ("a*", "a", true),
            ("a*b", "ab", true),
            ("a*b", "axxb", true),
            ("a*b", "axxbc", false),
            ("*b*", "abc", true),
            ("*ab", "aab", true),
            ("*a*b*c", "xaybzc", true),
            ("?", "a", true),
            ("?", "ab", false),
            ("a?c", "abc", true),
            ("a*?", "a", false),
            ("news.*", "news.tech", true),
            ("abc", "ab", false),
            ("ab", "abc", false),
        ] {
            assert_eq!(check(pattern, text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn classes() {
        for (pattern, text, expected) in [
            ("h[ae]llo", "hello", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("[abc", "b", true),
            ("[", "[", false),
            ("[^", "x", true),
            ("[a-]x]", "x", true),
            ("[a\\]]", "]", true),
            ("[]", "a", false),
            ("[]a]", "a]", false),
            ("[^]", "a", true),
        ] {
            assert_eq!(check(pattern, text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn escapes() {
        assert!(check("h\\*llo", "h*llo"));
        assert!(!check("h\\*llo", "hello"));
        assert!(check("a\\", "a\\"));
        assert!(check("\\\\", "\\"));
        assert!(is_literal(b"plain:key"));
        assert!(!is_literal(b"a\\*"));
    }

    #[test]
    fn case_folds_everywhere_but_behind_a_backslash_in_a_class() {
        assert!(matches_ignoring_case(b"MaxMem*", b"maxmemory"));
        assert!(matches_ignoring_case(b"[A-C]x", b"bX"));
        assert!(matches_ignoring_case(b"\\A", b"a"));
        assert!(!matches_ignoring_case(b"[\\A]", b"a"));
        assert!(!matches(b"A", b"a"));
    }

    #[test]
    fn empty_text_matches_only_the_empty_pattern() {
        assert!(check("", ""));
        assert!(!check("*", ""));
        assert!(!check("", "a"));
        assert!(!check("?", ""));
    }

    #[test]
    fn many_stars_do_not_explode() {
        let pattern = "a*".repeat(2000) + "b";
        let text = "a".repeat(20_000);
        assert!(!check(&pattern, &text));
    }
}
