//! A look at requests ahead of the parser.
//!
//! Whoever wants to have memory at hand when a request is run must know its key before that. The parser cannot say, since what
//! it has found it hands out at once; so the requests behind are looked through once more, for a few of their arguments. It is
//! a guess: nothing is checked or remembered, and a request of another form than the usual one ends it.
//!
//! To look at a request again at each read until it is complete would be quadratic, so the caller asks the parser first
//! (`RequestParser::is_within_request`), and bounds the bytes that it shows.

use super::request::short_number;

/// Arguments of a request that was looked at ahead of the parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peeked<'a> {
    /// The first argument.
    pub name: &'a [u8],
    /// The second, which is nearly always a key.
    pub second: &'a [u8],
    pub third: Option<&'a [u8]>,
    /// The last of three or more.
    pub last: Option<&'a [u8]>,
}

/// Looks through whole requests of the usual form at the beginning of `buf`, at most `requests_max` of them, and shows some of the
/// arguments of each; a request that has only a name, or another form, ends it. Nothing is checked: it is
/// for guessing what the parser will find. Answers how many bytes it has looked through.
#[inline]
pub fn peek_requests(buf: &[u8], requests_max: usize, mut visit: impl FnMut(Peeked<'_>)) -> usize {
    let mut end = 0;
    for _ in 0..requests_max {
        let Some((peeked, behind)) = peek_request(buf, end) else {
            break;
        };
        visit(peeked);
        end = behind;
    }
    end
}

/// The request at `from`, and where it ends.
#[inline]
fn peek_request(buf: &[u8], from: usize) -> Option<(Peeked<'_>, usize)> {
    if *buf.get(from)? != b'*' {
        return None;
    }
    let (count, mut position) = short_number(buf, from + 1)?;
    let (mut name, mut second, mut third, mut last) = (None, None, None, None);
    for index in 0..count {
        if *buf.get(position)? != b'$' {
            return None;
        }
        let (length, behind) = short_number(buf, position + 1)?;
        let argument = buf.get(behind..behind + length as usize)?;
        match index {
            0 => name = Some(argument),
            1 => second = Some(argument),
            2 => (third, last) = (Some(argument), Some(argument)),
            _ => last = Some(argument),
        }
        position = behind + length as usize + 2;
    }
    let peeked = Peeked {
        name: name?,
        second: second?,
        third,
        last,
    };
    (position <= buf.len()).then_some((peeked, position))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::OwnedArgs;

    #[test]
    fn what_is_peeked_is_what_the_parser_finds() {
        let requests: [&[&str]; 5] = [
            &["GET", "k"],
            &["SADD", "set", "member"],
            &["ZADD", "sorted", "1.5", "member"],
            &["HSET", "hash", "", "", "last"],
            &["PING"],
        ];
        let mut bytes = Vec::new();
        for words in requests {
            let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
            OwnedArgs::from_slices(&words).as_args().encode_resp(&mut bytes);
        }
        let with_keys = bytes.len() - b"*1\r\n$4\r\nPING\r\n".len();
        let seen = |bytes: &[u8], count: usize| {
            let mut seen = Vec::new();
            let end = peek_requests(bytes, count, |request| {
                let text = |argument: &[u8]| String::from_utf8(argument.to_vec()).unwrap();
                seen.push((
                    text(request.name),
                    text(request.second),
                    request.third.map(text),
                    request.last.map(text),
                ));
            });
            (seen, end)
        };
        let expected: Vec<_> = requests[..4]
            .iter()
            .map(|words| {
                let text = |index: usize| words.get(index).map(|word| (*word).to_owned());
                let last = (words.len() > 2).then(|| words[words.len() - 1].to_owned());
                (text(0).unwrap(), text(1).unwrap(), text(2), last)
            })
            .collect();
        assert_eq!(seen(&bytes, 16), (expected.clone(), with_keys), "PING ends it");
        assert_eq!(seen(&bytes, 2).0, expected[..2]);
        // Whatever is cut off, nothing is shown that is not there as a whole.
        for end in 0..bytes.len() {
            let (seen, looked_through) = seen(&bytes[..end], 16);
            assert!(looked_through <= end && seen == expected[..seen.len()]);
        }
    }
}
