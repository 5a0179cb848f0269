//! The request parser. However a stream is cut into reads, the same commands and the same error come out; what was parsed and encoded
//! again parses to itself; and nothing panics.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shardis::resp::{Args, OwnedArgs, ProtocolError, RequestLimits, RequestParser, Step};

/// Reads the stream in pieces whose lengths `next_read` gives.
fn feed(
    stream: &[u8],
    limits: &RequestLimits,
    mut next_read: impl FnMut() -> usize,
) -> (Vec<OwnedArgs>, Option<ProtocolError>) {
    let mut parser = RequestParser::new();
    let mut commands = Vec::new();
    let (mut begin, mut end) = (0, 0);
    loop {
        let buf = &stream[begin..end];
        match parser.next(buf, limits) {
            Ok(Step::Request { consumed }) => {
                assert!(consumed > 0 && consumed <= buf.len());
                assert!(!parser.args(buf).is_empty());
                commands.push(parser.args(buf).to_owned());
                begin += consumed;
            }
            Ok(Step::Skip { consumed }) => {
                assert!(consumed > 0 && consumed <= buf.len());
                begin += consumed;
            }
            Ok(Step::Incomplete { needed }) => {
                assert!(needed.is_none_or(|needed| needed > buf.len()));
                if end == stream.len() {
                    return (commands, None);
                }
                end = (end + next_read().max(1)).min(stream.len());
            }
            Err(error) => {
                assert!(error.reply_error().text().starts_with(b"ERR Protocol error: "));
                return (commands, Some(error));
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&[seed, flags], stream)) = data.split_first_chunk() else { return };
    let limits = RequestLimits { is_authentication_pending: flags & 1 != 0, bulk_bytes_max: 1 << (flags >> 3) };
    let whole = feed(stream, &limits, || stream.len());
    let mut random = fastrand::Rng::with_seed(seed.into());
    assert_eq!(feed(stream, &limits, || random.usize(..8)), whole);

    let mut encoded = Vec::new();
    let mut spans = Vec::new();
    for command in &whole.0 {
        command.as_args().encode_resp(&mut encoded);
        let mut frame = vec![0; command.as_args().encoded_len()];
        assert_eq!(command.as_args().encode_into(&mut frame), frame.len());
        assert_eq!(Args::decode(&frame, &mut spans), command.as_args());
    }
    assert_eq!(feed(&encoded, &RequestLimits::DEFAULT, || encoded.len()), (whole.0, None));
});
