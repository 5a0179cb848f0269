//! Scripts, and what their libraries are given by strangers. Whatever it is, it ends with a reply or an error, takes no more memory than it
//! may, and leaves a state that works; what was decoded and encoded again is decoded to the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shardis::resp::{Proto, Reply, ReplyBuf};
use shardis::script::{Ending, Host, Limits, LogLevel, Refusal, Replication, Script, State, hex_digest};
use std::cell::RefCell;

const MEMORY_BYTES_MAX: usize = 32 << 20;

/// By the first byte of an input: what is done with the rest, ARGV[1], and, of structs, with its first part, ARGV[2].
const PROGRAMS: &[&str] = &[
    "return cjson.encode(cjson.decode(ARGV[1]))",
    "return {cmsgpack.unpack(ARGV[1])}",
    "return cmsgpack.pack(cmsgpack.unpack(ARGV[1]))",
    "return {struct.unpack(ARGV[2], ARGV[1])}",
    "return struct.pack(ARGV[2], #ARGV[1], ARGV[1], 1, 2, 3, 4)",
    "return {struct.size(ARGV[2]), redis.sha1hex(ARGV[1]), bit.tohex(tonumber(ARGV[1]) or 0)}",
    "return {redis.error_reply(ARGV[1]), redis.status_reply(ARGV[2])}",
    "return redis.pcall(unpack(ARGV))",
];

/// Whatever a script calls is answered with what it was given.
struct Echo;

impl Host for Echo {
    fn call(&mut self, args: &[&[u8]], protocol: Proto, reply: &mut ReplyBuf) -> Result<(), Refusal> {
        let mut reply = Reply::new(reply, protocol);
        reply.array(args.len());
        args.iter().for_each(|arg| reply.bulk(arg));
        Ok(())
    }

    fn random_seed(&mut self) -> u64 {
        1
    }

    fn set_replication(&mut self, _: Replication) {}

    fn may_call(&mut self, args: &[&[u8]]) -> Option<bool> {
        Some(args.len() % 2 == 0)
    }

    fn log(&mut self, _: LogLevel, _: &[u8]) {}

    fn count_error(&mut self, _: &[u8]) {}

    fn interrupted(&mut self) -> Result<(), Refusal> {
        Err(Refusal::Unwind)
    }
}

/// The reply of a program; None: it has ended otherwise.
fn run(state: &mut State, program: &[u8], args: &[&[u8]]) -> Option<Vec<u8>> {
    let sha = hex_digest(program);
    let script = Script {
        sha: &sha,
        body: program,
    };
    let mut out = ReplyBuf::new();
    let ended = state.eval(script, &[], args, &mut Echo, &mut Reply::new(&mut out, Proto::Resp3));
    assert!(state.memory_bytes() <= MEMORY_BYTES_MAX);
    match ended {
        Ok(()) => Some(out.to_contiguous().into_owned()),
        Err(Ending::Error { .. } | Ending::Unwind) => {
            assert!(out.is_empty());
            None
        }
    }
}

thread_local! {
    static STATE: RefCell<State> = RefCell::new(State::new(Limits { memory_bytes_max: MEMORY_BYTES_MAX }));
}

fuzz_target!(|data: &[u8]| {
    let Some((&which, rest)) = data.split_first() else {
        return;
    };
    STATE.with_borrow_mut(|state| {
        let Some(program) = PROGRAMS.get(usize::from(which)) else {
            // A program of its own. A pattern may take longer than anybody waits, without an instruction of Lua.
            let is_pattern = |word: &&[u8]| data.windows(word.len()).any(|part| part == *word);
            let has_patterns = [&b"find"[..], b"match", b"gsub"].iter().any(is_pattern);
            if !has_patterns {
                run(state, data, &[]);
                state.forget_all();
            }
            return;
        };
        let Some((&length, rest)) = rest.split_first() else {
            return;
        };
        let (format, text) = rest.split_at(usize::from(length).min(rest.len()));
        let first = run(state, program.as_bytes(), &[text, format]);
        if which == 0
            && let Some(json) = first
        {
            let begin = json.windows(2).position(|pair| pair == b"\r\n").map_or(0, |at| at + 2);
            let json = &json[begin..json.len() - 2];
            // Numbers are written with 14 digits.
            let is_same = "local function same(a, b)
                if type(a) ~= type(b) then return false end
                if type(a) == 'number' then return a == b or a ~= a or math.abs(a - b) <= math.abs(a) * 1e-12 end
                if type(a) ~= 'table' then return a == b end
                for k, v in pairs(a) do if not same(v, b[k]) then return false end end
                for k in pairs(b) do if a[k] == nil then return false end end
                return true
            end
            local a = cjson.decode(ARGV[1])
            return same(a, cjson.decode(cjson.encode(a)))";
            assert_eq!(run(state, is_same.as_bytes(), &[json]).as_deref(), Some(&b":1\r\n"[..]));
        }
        assert_eq!(run(state, b"return 1", &[]).as_deref(), Some(&b":1\r\n"[..]));
    });
});
