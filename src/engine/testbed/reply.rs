//! Replies as bytes: where one ends, and what an array is made of.
//!
//! The testbed compares bytes and understands as little of them as it can; this is all that it must know of RESP.

use crate::resp::Proto;

/// The length of the first reply in `bytes`; `None`: it is not whole yet. An error is what is wrong with it.
pub(super) fn length(bytes: &[u8]) -> Result<Option<usize>, String> {
    let mut at = 0;
    // Values that are still to come before the reply is whole.
    let mut missing = 1usize;
    while missing > 0 {
        let Some(head) = head(&bytes[at..])? else {
            return Ok(None);
        };
        at += head.bytes;
        if at > bytes.len() {
            return Ok(None);
        }
        missing = missing - 1 + head.children;
    }
    Ok(Some(at))
}

/// The elements of an array, set, push or map; `None` if it is none of these, or null.
pub(super) fn elements(reply: &[u8]) -> Option<Vec<&[u8]>> {
    if !matches!(reply.first(), Some(b'*' | b'~' | b'%' | b'>')) {
        return None;
    }
    let head = head(reply).ok()??;
    if reply[1] == b'-' {
        return None;
    }
    let mut found = Vec::with_capacity(head.children);
    let mut at = head.bytes;
    for _ in 0..head.children {
        let length = length(&reply[at..]).ok()??;
        found.push(&reply[at..at + length]);
        at += length;
    }
    Some(found)
}

/// What a string holds.
pub(super) fn text_of_bulk(reply: &[u8]) -> Option<&[u8]> {
    let begins = memchr::memchr(b'\n', reply)? + 1;
    reply.get(begins..reply.len().checked_sub(2)?)
}

/// Whether this is an error.
pub(super) fn is_error(reply: &[u8]) -> bool {
    matches!(reply.first(), Some(b'-' | b'!'))
}

/// Whether this is an error, or has one among its elements (EXEC).
pub(super) fn has_error(reply: &[u8]) -> bool {
    is_error(reply) || elements(reply).is_some_and(|elements| elements.into_iter().any(is_error))
}

/// Whether this is a null of any kind.
pub(super) fn is_null(reply: &[u8]) -> bool {
    matches!(reply, b"*-1\r\n" | b"$-1\r\n" | b"_\r\n")
}

/// The null of an array, in that protocol.
pub(super) fn null_array(proto: Proto) -> &'static [u8] {
    match proto {
        Proto::Resp2 => b"*-1\r\n",
        Proto::Resp3 => b"_\r\n",
    }
}

struct Head {
    /// What the value itself takes, its children excepted.
    bytes: usize,
    children: usize,
}

fn head(bytes: &[u8]) -> Result<Option<Head>, String> {
    let Some(&kind) = bytes.first() else { return Ok(None) };
    if !b"+-:_#,($=!*~>%|".contains(&kind) {
        return Err(format!("a reply begins with {:?}", kind as char));
    }
    let Some(end) = memchr::memchr(b'\r', bytes) else {
        return Ok(None);
    };
    let line_bytes = end + 2;
    let number = || -> Result<i64, String> {
        let text = String::from_utf8_lossy(&bytes[1..end]);
        text.parse().map_err(|_| format!("a length is {text:?}"))
    };
    let (bytes, children) = match kind {
        b'$' | b'=' | b'!' => match usize::try_from(number()?) {
            Ok(length) => (line_bytes + length + 2, 0),
            Err(_) => (line_bytes, 0),
        },
        b'*' | b'~' | b'>' => (line_bytes, usize::try_from(number()?).unwrap_or(0)),
        b'%' => (line_bytes, 2 * usize::try_from(number()?).unwrap_or(0)),
        // The attribute is no value: what it belongs to follows.
        b'|' => (line_bytes, 2 * usize::try_from(number()?).unwrap_or(0) + 1),
        _ => (line_bytes, 0),
    };
    Ok(Some(Head { bytes, children }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_end_where_they_end() {
        for whole in [
            &b"+OK\r\n"[..],
            b"$3\r\nab\n\r\n",
            b"$-1\r\n",
            b"*-1\r\n",
            b"*0\r\n",
            b"*2\r\n*1\r\n:1\r\n$2\r\n\r\n\r\n",
            b"%1\r\n+a\r\n_\r\n",
            b"|1\r\n+a\r\n+b\r\n:7\r\n",
        ] {
            let mut more = whole.to_vec();
            more.extend_from_slice(b":5\r\n");
            assert_eq!(length(&more), Ok(Some(whole.len())), "{}", whole.escape_ascii());
            for end in 0..whole.len() {
                assert_eq!(length(&whole[..end]), Ok(None), "{}", whole[..end].escape_ascii());
            }
        }
        assert!(length(b"OK\r\n").is_err());
        assert!(length(b"$x\r\n").is_err());
    }

    #[test]
    fn arrays_come_apart() {
        let parts = elements(b"*2\r\n*1\r\n:1\r\n$1\r\na\r\n").unwrap();
        assert_eq!(parts, [&b"*1\r\n:1\r\n"[..], b"$1\r\na\r\n"]);
        assert_eq!(text_of_bulk(parts[1]), Some(&b"a"[..]));
        assert_eq!(text_of_bulk(b"$-1\r\n"), None);
        assert_eq!(elements(b"*-1\r\n"), None);
        assert_eq!(elements(b"+OK\r\n"), None);
    }
}
