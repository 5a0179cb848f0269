//! The interpreter of scripts by itself: what no server can be asked. Holes that end Redis, bounds that Redis has not, programs that would not end.
//!
//! Nothing but the library is needed here, so that this is run under the sanitizer, too (`scripts/asan`).

use shardis::resp::{Proto, Reply, ReplyBuf, ReplyError};
use shardis::script::{Ending, Host, Limits, LogLevel, Refusal, Replication, Script, State, hex_digest};

fn state() -> State {
    State::new(Limits {
        memory_bytes_max: 64 << 20,
    })
}

/// A host without a server, that ends runs.
#[derive(Default)]
struct Alone {
    /// Questions that are answered with yes.
    patience: usize,
    /// What a call is answered with.
    refusal: Option<Refusal>,
    end: Option<Refusal>,
    calls: usize,
    errors_counted: Vec<String>,
    seed: u64,
}

impl Host for Alone {
    fn call(&mut self, args: &[&[u8]], _: Proto, reply: &mut ReplyBuf) -> Result<(), Refusal> {
        self.calls += 1;
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        match args[0] {
            // A large value comes by reference.
            b"large" => Reply::new(reply, Proto::Resp2).bulk_shared(vec![b'x'; 100_000].into()),
            b"fail" => reply.push(b"-WRONGTYPE it is\r\n"),
            _ => Reply::new(reply, Proto::Resp2).integer(args.len() as i64),
        }
        Ok(())
    }

    fn random_seed(&mut self) -> u64 {
        self.seed
    }

    fn set_replication(&mut self, _: Replication) {}

    fn may_call(&mut self, _: &[&[u8]]) -> Option<bool> {
        None
    }

    fn log(&mut self, _: LogLevel, _: &[u8]) {}

    fn count_error(&mut self, text: &[u8]) {
        self.errors_counted.push(String::from_utf8_lossy(text).into_owned());
    }

    fn interrupted(&mut self) -> Result<(), Refusal> {
        if self.patience > 0 {
            self.patience -= 1;
            return Ok(());
        }
        Err(self.end.clone().unwrap_or(Refusal::Unwind))
    }
}

/// Runs a program: what it has written, and how it has ended.
fn run(state: &mut State, host: &mut Alone, program: &str) -> (ReplyBuf, Result<(), Ending>) {
    let sha = hex_digest(program.as_bytes());
    let script = Script {
        sha: &sha,
        body: program.as_bytes(),
    };
    let mut out = ReplyBuf::new();
    let end = state.eval(script, &[], &[], host, &mut Reply::new(&mut out, Proto::Resp2));
    (out, end)
}

/// How a program ends: its reply, its error, or `unwind`.
fn end_of(state: &mut State, host: &mut Alone, program: &str) -> String {
    let (out, end) = run(state, host, program);
    match end {
        Ok(()) => String::from_utf8_lossy(&out.to_contiguous()).into_owned(),
        Err(Ending::Error { error, .. }) => {
            assert!(out.is_empty(), "nothing is written of {program}");
            error.to_string()
        }
        Err(Ending::Unwind) => {
            assert!(out.is_empty(), "nothing is written of {program}");
            "unwind".to_owned()
        }
    }
}

/// Programs that would keep the error of a run that must end.
const KEEPERS: &[&str] = &[
    "while true do BODY end",
    "while true do pcall(function() while true do BODY end end) end",
    "while true do xpcall(function() while true do BODY end end, function(e) while true do BODY end end) end",
    "while true do coroutine.resume(coroutine.create(function() while true do BODY end end)) end",
    "local f = coroutine.wrap(function() while true do BODY end end) while true do pcall(f) end",
    "while true do load(function() while true do BODY end end) end",
    "while true do pcall(pcall, pcall, function() while true do BODY end end) end",
    "while true do pcall(string.gsub, 'x', 'x', function() while true do BODY end end) end",
    "while true do pcall(table.sort, {1, 2, 3}, function() while true do BODY end end) end",
    "local t = setmetatable({}, {__index = function() while true do BODY end end}) while true do pcall(function() return t.x end) end",
    "while true do pcall(table.foreach, {1}, function() while true do BODY end end) end",
    "while true do pcall(loadstring(\"while true do BODY end\")) end",
    "while true do pcall(tostring, setmetatable({}, {__tostring = function() while true do BODY end end})) end",
];

#[test]
fn no_program_keeps_the_error_that_ends_it() {
    for keeper in KEEPERS {
        let mut state = state();
        // By the question that is asked every so many instructions.
        let program = keeper.replace("BODY", "");
        for (end, expected) in [
            (Refusal::Unwind, "unwind"),
            (
                Refusal::Error(ReplyError::owned("ERR killed")),
                "ERR killed script: SHA, on @user_script:1.",
            ),
        ] {
            let mut host = Alone {
                patience: 3,
                end: Some(end),
                ..Alone::default()
            };
            let sha = hex_digest(program.as_bytes());
            let expected = expected.replace("SHA", &String::from_utf8_lossy(&sha));
            assert_eq!(end_of(&mut state, &mut host, &program), expected, "{program}");
        }
        // By a call, which must not be made again.
        let program = keeper.replace("BODY", "redis.pcall('x')");
        let mut host = Alone {
            patience: usize::MAX,
            refusal: Some(Refusal::Unwind),
            ..Alone::default()
        };
        assert_eq!(end_of(&mut state, &mut host, &program), "unwind", "{program}");
        assert_eq!(host.calls, 1, "{program}");
        // The state goes on as if nothing had been.
        host.refusal = None;
        assert_eq!(end_of(&mut state, &mut host, "return redis.call('x', 'y')"), ":2\r\n");
    }
}

/// Each would end the process, or last for ever, in Lua 5.1 as it was published, or as Redis has it.
const HOLES: &[(&str, &str)] = &[
    // A thread's stack, by calls of C that call each other.
    (
        "local function f() coroutine.wrap(f)() end return f()",
        "stack overflow",
    ),
    ("local function f() return pcall(f) end f() return 1", ":1"),
    ("local function f() return f() + 1 end return f()", "stack overflow"),
    (
        "return string.find(string.rep('a', 300000), string.rep('a?', 300000))",
        "pattern too complex",
    ),
    (
        "return string.find(string.rep('a', 300000), string.rep('a-', 300000) .. 'b')",
        "pattern too complex",
    ),
    (
        "return string.match(string.rep('a', 300000), string.rep('a*', 300000))",
        "pattern too complex",
    ),
    (
        "for x in string.gmatch(string.rep('a', 300000), string.rep('a?', 300000)) do end",
        "pattern too complex",
    ),
    (
        "return string.gsub(string.rep('a', 300000), string.rep('a?', 300000), '')",
        "pattern too complex",
    ),
    (
        "local t = {} for i = 1, 100000 do t = {t} end return t",
        "reached lua stack limit",
    ),
    (
        "local t = {} for i = 1, 100000 do t = {t} end return cjson.encode(t)",
        "excessive nesting",
    ),
    ("return cmsgpack.unpack(string.rep('\\145', 100000))", "stack overflow"),
    (
        "local c = cjson.new() c.decode_max_depth(1e9) return c.decode(string.rep('[', 1e6))",
        "too many nested",
    ),
    (
        "local s = string.rep('(', 100000) return select(2, loadstring('return ' .. s))",
        "chunk has too many syntax levels",
    ),
    (
        "local s = string.rep('{', 100000) return select(2, loadstring('return ' .. s))",
        "chunk has too many syntax levels",
    ),
    ("return loadstring('return ' .. string.rep('a..', 100000) .. 'a')", ""),
    // The count of results.
    ("return unpack({}, 0, 2147483647)", "too many results to unpack"),
    (
        "return unpack({}, -2147483648, 2147483647)",
        "too many results to unpack",
    ),
    ("return unpack({}, 1, 1e9)", "too many results to unpack"),
    ("return {select('#', unpack({}, 1, 7000))}", ":7000"),
    (
        "return {string.byte(string.rep('x', 1e6), 1, -1)}",
        "string slice too long",
    ),
    (
        "local f = loadstring('local a, b, c, d, e, f, g, h = ... return 8') return f()",
        ":8",
    ),
    // The stack of a function with many parameters and more, called with few (CVE-2014-5461).
    (
        "local p = {} for i = 1, 190 do p[i] = 'p' .. i end
         local f = loadstring('return function(' .. table.concat(p, ',') .. ', ...) return p190 end')()
         local function deep(n) f() if n > 0 then return 1 + deep(n - 1) end return 0 end return deep(5000)",
        ":5000",
    ),
    // Code that was compiled elsewhere.
    (
        "return select(2, loadstring(string.dump(function() return 1 end)))",
        "unexpected symbol",
    ),
    (
        "local n = 0 return select(2, load(function() n = n + 1 return n == 1 and '\\27Lua' or nil end))",
        "unexpected symbol",
    ),
    // Metatables of the basic types.
    ("getmetatable('').__index = {} return ('x'):len()", "readonly"),
    ("getmetatable('').__add = function() end", "readonly"),
    (
        "return getmetatable(1) == nil and getmetatable(nil) == nil and getmetatable(print == nil) == nil",
        ":1",
    ),
    (
        "return getmetatable(cjson.null) == nil and getmetatable(function() end) == nil",
        ":1",
    ),
    // Without end.
    ("local t = {} t[1] = t t[2] = t return t", "the result is too large"),
    ("return string.rep('', 2147483647)", "$0"),
    ("table.insert({}, -2147483648, 1)", "position out of bounds"),
    ("table.insert({}, 2147483648, 1)", "position out of bounds"),
    // Formats.
    ("return string.format('%99999d', 1)", "invalid format"),
    ("return #string.format('%99.99f', 1e308)", ":409"),
    ("return string.format('%0.500f', 1)", "invalid format"),
    ("return {table.concat({}, 'x', 1, 2147483647)}", "invalid value"),
    (
        "return #table.concat(setmetatable({}, {__index = function() return 'x' end}), '', 1, 3)",
        "invalid value",
    ),
    ("local t = {} t[0/0] = 1", "table index is NaN"),
    (
        "return cmsgpack.unpack('\\129\\203\\127\\248\\0\\0\\0\\0\\0\\0\\1')",
        "table index is NaN",
    ),
    ("return cmsgpack.unpack('\\129\\192\\1')", "table index is nil"),
    ("return struct.unpack('c2147483647', 'x')", "too short"),
    ("return struct.pack('i2147483648', 1)", "overflow"),
    ("return bit.tohex(1, -2147483648)", "00000001"),
    // No finalizers: none of what would run them is there.
    ("return newproxy", "nonexistent global variable 'newproxy'"),
    ("return debug", "nonexistent global variable 'debug'"),
    ("collectgarbage('stop') return 1", ":1"),
    (
        "collectgarbage('setpause', 0) collectgarbage('setstepmul', 1000000) return 1",
        ":1",
    ),
];

#[test]
fn no_hole_is_open() {
    // All in one state, so that what one leaves behind would show in the next.
    let mut state = State::new(Limits {
        memory_bytes_max: 32 << 20,
    });
    let mut host = Alone {
        patience: usize::MAX,
        ..Alone::default()
    };
    for round in 0..2 {
        for (program, expected) in HOLES {
            let end = end_of(&mut state, &mut host, program);
            assert!(end.contains(expected), "{round}: {program}: {}", end.escape_debug());
        }
    }
    assert_eq!(end_of(&mut state, &mut host, "return ('x'):rep(3)"), "$3\r\nxxx\r\n");
}

/// The parser of 5.1 does not hold all that it uses (CVE-2025-49844), so nothing is collected while it runs: not even what is garbage, here a table that only a
/// weak one knows, with a collector that is never at rest.
#[test]
fn nothing_is_collected_while_a_chunk_is_compiled() {
    let mut state = state();
    let mut host = Alone {
        patience: usize::MAX,
        ..Alone::default()
    };
    let program = "local body = {}
        for i = 1, 2000 do body[i] = 'do local function f() return \\'' .. i .. '\\' end end' end
        body = table.concat(body, ' ')
        local pieces = {body}
        local weak = setmetatable({}, {__mode = 'v'})
        local next_piece = function() return table.remove(pieces) end
        collectgarbage('setpause', 1) collectgarbage('setstepmul', 1000000)
        weak[1] = {}
        local f = loadstring(body)
        if weak[1] == nil then return 'collected by loadstring' end
        collectgarbage()
        if weak[1] ~= nil then return 'never collected' end
        return type(f) .. type(load(next_piece))";
    assert_eq!(end_of(&mut state, &mut host, program), "$16\r\nfunctionfunction\r\n");
}

#[test]
fn memory_is_counted_and_bounded() {
    const BOUND: usize = 8 << 20;
    let mut state = State::new(Limits {
        memory_bytes_max: BOUND,
    });
    assert_eq!(state.memory_bytes(), 0);
    let mut host = Alone {
        patience: usize::MAX,
        ..Alone::default()
    };
    end_of(&mut state, &mut host, "return 1");
    let idle = state.memory_bytes();
    assert!(idle > 10_000 && idle < 200_000, "{idle}");
    for program in [
        "return string.rep('x', 2^30)",
        "return string.rep('x', 2^31 - 1)",
        "local s = 'x' while true do s = s .. s end",
        "local t = {} while true do t[#t + 1] = #t end",
        "local t = {} for i = 1, 1e9 do t[i .. ''] = i end",
        "local t = {} while true do t = {t} end",
        "local t = {} for i = 1, 1e7 do t[i] = function() return i end end",
        "local s = string.rep('x', 2^20) local t = {} for i = 1, 100 do t[i] = s end return table.concat(t)",
        "local s = string.rep('x', 2^20) return s:gsub('x', 'yyyyyyyyyyyyyyyyyyyyy')",
        "local s = string.rep('x', 2^20) return ('%s%s%s%s%s%s%s%s'):format(s, s, s, s, s, s, s, s)",
        "local s = string.rep('\\1', 2^21) return cjson.encode(s)",
        "local s = string.rep('x', 2^21) return cmsgpack.pack(s, s, s, s)",
        "local t = {} while true do t[#t + 1] = coroutine.create(function() end) end",
        "return loadstring('return {' .. string.rep('1,', 2000000) .. '}')",
        "return load(function() return 'return 1 ' end)",
    ] {
        let end = end_of(&mut state, &mut host, program);
        assert!(end.contains("not enough memory"), "{program}: {}", end.escape_debug());
        assert!(state.memory_bytes() <= BOUND);
        // What has failed is gone, and the state works.
        assert_eq!(
            end_of(&mut state, &mut host, "return {#KEYS, cjson.encode({1})}"),
            "*2\r\n:0\r\n$3\r\n[1]\r\n"
        );
        assert!(state.memory_bytes() < BOUND / 2, "{program}: {}", state.memory_bytes());
    }
    // A script that keeps little but makes much ends well.
    let busy = "local n = 0 for i = 1, 200000 do local t = {i, i .. 'x'} n = n + #t end return n";
    assert_eq!(end_of(&mut state, &mut host, busy), ":400000\r\n");
    // Nor does what one leaves stop the next, when it has left the collector thinking that so much is needed.
    for round in 0..10 {
        let large = format!(
            "local t = {{}} for i = 1, 4 do t[i] = string.rep(string.char({} + i), 1200000) end collectgarbage() return #t",
            5 * round
        );
        assert_eq!(end_of(&mut state, &mut host, &large), ":4\r\n", "{round}");
    }
    state.forget_all();
    assert_eq!(state.memory_bytes(), 0);
}

#[test]
fn every_attempt_sees_the_same_random_numbers() {
    let mut host = Alone {
        patience: usize::MAX,
        ..Alone::default()
    };
    let program = "return {math.random(1e9), math.random(1e9)}";
    let mut draw = |state: &mut State, seed| {
        host.seed = seed;
        end_of(state, &mut host, program)
    };
    let (mut one, mut other) = (state(), state());
    let first = draw(&mut one, 5);
    assert_ne!(draw(&mut one, 6), first);
    assert_eq!(draw(&mut one, 5), first);
    assert_eq!(draw(&mut other, 5), first);
}

#[test]
fn an_error_is_counted_once() {
    let mut state = state();
    let mut host = Alone {
        patience: usize::MAX,
        ..Alone::default()
    };
    let mut counted = |program: &str| {
        let is_counted = match run(&mut state, &mut host, program).1 {
            Ok(()) => None,
            Err(Ending::Error { is_counted, .. }) => Some(is_counted),
            Err(Ending::Unwind) => panic!("nobody has asked for it"),
        };
        (is_counted, std::mem::take(&mut host.errors_counted))
    };
    assert_eq!(counted("return redis.call('fail')"), (Some(true), vec![]));
    assert_eq!(counted("return redis.pcall('fail')"), (None, vec![]));
    assert_eq!(counted("error(redis.pcall('fail'))"), (Some(true), vec![]));
    assert_eq!(counted("error('x')"), (Some(false), vec![]));
    assert_eq!(
        counted("return {1, redis.error_reply('E x'), {err = 'F y'}}"),
        (None, vec!["E x".to_owned(), "F y".to_owned()])
    );
}

#[test]
fn a_large_value_comes_through() {
    let mut state = state();
    let mut host = Alone {
        patience: usize::MAX,
        ..Alone::default()
    };
    assert_eq!(
        end_of(&mut state, &mut host, "return #redis.call('large')"),
        ":100000\r\n"
    );
    let many = "local t = {} for i = 1, 5000 do t[i] = i end return redis.call('x', unpack(t))";
    assert_eq!(end_of(&mut state, &mut host, many), ":5001\r\n");
}

#[test]
fn functions_keep_their_variables_and_libraries_replace_each_other() {
    let mut state = state();
    let mut host = Alone {
        patience: usize::MAX,
        ..Alone::default()
    };
    let code = b"#!lua name=counter\nlocal n = 0\nredis.register_function('next', function() n = n + 1 return n end)";
    let call = |state: &mut State, host: &mut Alone| {
        let mut out = ReplyBuf::new();
        let mut reply = Reply::new(&mut out, Proto::Resp2);
        let end = state.call_function(b"NEXT", &[], &[], host, &mut reply);
        end.map(|()| out.to_contiguous().into_owned()).ok()
    };
    let library = state.load_library(code, &mut host).expect("it is right");
    assert_eq!(library.functions[0].name, b"next");
    assert_eq!(call(&mut state, &mut host), Some(b":1\r\n".to_vec()));
    state.forget_all();
    assert_eq!(call(&mut state, &mut host), Some(b":2\r\n".to_vec()));
    // To look at it changes nothing, nor does one that fails.
    assert_eq!(state.check_library(code, &mut host), Ok(library));
    let broken = b"#!lua name=counter\nredis.register_function('next', function() end) local x = y";
    assert!(state.load_library(broken, &mut host).is_err());
    assert_eq!(call(&mut state, &mut host), Some(b":3\r\n".to_vec()));
    state.load_library(code, &mut host).expect("it is right");
    assert_eq!(call(&mut state, &mut host), Some(b":1\r\n".to_vec()));
    // Many loads leave nothing.
    let before = state.function_memory_bytes();
    for _ in 0..2000 {
        state.load_library(code, &mut host).expect("it is right");
    }
    assert!(state.function_memory_bytes() < 2 * before + 100_000);
    state.drop_library(b"counter");
    assert!(!state.has_library(b"counter"));
    assert_eq!(call(&mut state, &mut host), None);
    // A library that does not end is ended.
    let endless = b"#!lua name=endless\nwhile true do end";
    let mut host = Alone {
        end: Some(Refusal::Error(ReplyError::owned("ERR FUNCTION LOAD timeout"))),
        ..Alone::default()
    };
    let error = state.load_library(endless, &mut host).expect_err("it is ended");
    assert_eq!(
        error.to_string(),
        "ERR Error registering functions: ERR FUNCTION LOAD timeout"
    );
}
