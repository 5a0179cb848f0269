//! How long the wire takes: a request parsed, a reply written, a command put on a link and taken off.
//!
//! `cargo bench --profile quick --bench resp`. These run for each command of each client, so a budget stands beside each in the
//! comments; a figure far beyond it on a quiet machine is a regression.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use shardis::base::long_double::LongDouble;
use shardis::base::{crc64, glob, lzf, numbers, slot};
use shardis::resp::{Args, OwnedArgs, Proto, Reply, ReplyBuf, RequestLimits, RequestParser, Step};

fn request(args: &[&[u8]]) -> Vec<u8> {
    let mut request = Vec::new();
    OwnedArgs::from_slices(args).as_args().encode_resp(&mut request);
    request
}

/// Parses all requests of a buffer and returns how many there were.
fn parse_all(parser: &mut RequestParser, stream: &[u8]) -> usize {
    let (mut begin, mut count) = (0, 0);
    while begin < stream.len() {
        let buf = &stream[begin..];
        match parser.next(buf, &RequestLimits::DEFAULT) {
            Ok(Step::Request { consumed }) => {
                black_box(parser.args(buf).get(1));
                begin += consumed;
                count += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    count
}

fn parsing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    let set = request(&[b"SET", b"key:000000012345", &[b'v'; 64]]);
    let get = request(&[b"GET", b"key:000000012345"]);
    let mset: Vec<&[u8]> = std::iter::once(&b"MSET"[..])
        .chain([&b"key:000000012345"[..]; 200])
        .collect();
    let cases = [
        ("get", get.repeat(100), 100),
        // Budget: 60 ns.
        ("set with 64 bytes", set.repeat(100), 100),
        ("mset of 200 arguments", request(&mset).repeat(10), 10),
        ("inline get", b"GET key:000000012345\r\n".repeat(100), 100),
    ];
    for (name, stream, count) in cases {
        let mut parser = RequestParser::new();
        group.throughput(Throughput::Elements(count));
        group.bench_function(name, |bencher| {
            bencher.iter(|| parse_all(&mut parser, black_box(&stream)))
        });
    }
    // 1 MiB that arrives in reads of 16 KiB: each byte is to be looked at once, and the bytes of a value not at all.
    let large = request(&[b"SET", b"k", &vec![b'v'; 1 << 20]]);
    let mut parser = RequestParser::new();
    group.throughput(Throughput::Elements(1));
    group.bench_function("set with 1 MiB in 16 KiB reads", |bencher| {
        bencher.iter(|| {
            let mut end = 0;
            while end < large.len() {
                end = (end + 16 * 1024).min(large.len());
                black_box(parser.next(black_box(&large[..end]), &RequestLimits::DEFAULT)).expect("a valid request");
            }
        });
    });
    group.finish();
}

fn links(criterion: &mut Criterion) {
    let stream = request(&[b"SET", b"key:000000012345", &[b'v'; 64]]);
    let mut parser = RequestParser::new();
    parser.next(&stream, &RequestLimits::DEFAULT).expect("a valid request");
    let args = parser.args(&stream);
    let mut frame = [0; 256];
    let mut spans = Vec::new();
    // Budget for the whole hop is 300 ns; this is its copying part.
    criterion.bench_function("frame encode and decode, set with 64 bytes", |bencher| {
        bencher.iter(|| {
            let frame_bytes = black_box(args).encode_into(black_box(&mut frame));
            Args::decode(&frame[..frame_bytes], &mut spans).len()
        });
    });
}

fn replies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reply");
    group.throughput(Throughput::Elements(100));
    let mut out = ReplyBuf::new();
    let mut write = |name: &str, each: &dyn Fn(&mut Reply<'_>)| {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                let mut reply = Reply::new(&mut out, Proto::Resp2);
                for _ in 0..100 {
                    each(black_box(&mut reply));
                }
            });
        });
    };
    let value = [b'v'; 64];
    let large = Bytes::from(vec![b'v'; 1 << 20]);
    write("100 x ok", &|reply| reply.ok());
    write("100 x bulk of 64 bytes", &|reply| reply.bulk(black_box(&value)));
    write("100 x integer", &|reply| reply.integer(black_box(123_456)));
    write("100 x double", &|reply| reply.double(black_box(3.25)));
    write("100 x shared bulk of 1 MiB", &|reply| reply.bulk_shared(large.clone()));
    write("100 x deferred array of 10", &|reply| {
        let mark = reply.deferred();
        for element in 0..10 {
            reply.integer(element);
        }
        reply.end_array(mark, 10);
    });
    group.finish();
}

fn ground_floor(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("base");
    group.bench_function("key_slot of 16 bytes", |bencher| {
        bencher.iter(|| slot::key_slot(black_box(b"key:000000012345")))
    });
    group.bench_function("parse_i64 of 6 digits", |bencher| {
        bencher.iter(|| numbers::parse_i64(black_box(b"123456")))
    });
    group.bench_function("parse_f64", |bencher| {
        bencher.iter(|| numbers::parse_f64(black_box(b"1234.5678")))
    });
    group.bench_function("format_f64", |bencher| {
        bencher.iter(|| numbers::format_f64(black_box(1234.5678)).len())
    });
    group.bench_function("glob of 16 bytes", |bencher| {
        bencher.iter(|| glob::matches(black_box(b"key:*5"), black_box(b"key:000000012345")));
    });
    group.bench_function("incrbyfloat", |bencher| {
        let mut text = Vec::new();
        bencher.iter(|| {
            text.clear();
            let sum = LongDouble::parse(black_box(b"10.5")).expect("a number")
                + LongDouble::parse(black_box(b"0.1")).expect("a number");
            sum.write_human(&mut text);
        });
    });
    let text: Vec<u8> = b"the quick brown fox jumps over the lazy dog 0123456789 ".repeat(300);
    let compressed = lzf::compress(&text).expect("it repeats");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("crc64", |bencher| bencher.iter(|| crc64::crc64(0, black_box(&text))));
    group.bench_function("lzf compress", |bencher| {
        bencher.iter(|| lzf::compress(black_box(&text)))
    });
    group.bench_function("lzf decompress", |bencher| {
        bencher.iter(|| lzf::decompress(black_box(&compressed), text.len()))
    });
    group.finish();
}

criterion_group!(benches, parsing, links, replies, ground_floor);
criterion_main!(benches);
