//! JSON as Lua's values. What is open is kept in the core's list; on the stack stand the open tables, in an object with the key whose value comes next.
//!
//! The text ends with a zero byte, which Lua puts behind every string: a zero byte within it ends it too.

use std::ffi::{c_char, c_int};

use mlua_sys as ffi;

use super::{Options, options};
use crate::script::lua::{Core, Frame, Thread, check_bytes, push_bytes, raise_argument, raise_here, raise_text_here};

pub(super) unsafe extern "C-unwind" fn decode(thread: Thread) -> c_int {
    // SAFETY: called by Lua; the text stays on the stack.
    unsafe {
        if ffi::lua_gettop(thread) != 1 {
            raise_argument(thread, 1, c"expected 1 argument");
        }
        let options = *options(thread);
        let text = check_bytes(thread, 1);
        if text.len() >= 2 && (text[0] == 0 || text[1] == 0) {
            raise_here(thread, b"JSON parser does not support UTF-16 or UTF-32");
        }
        let mut lexer = Lexer { text, at: 0, options };
        read(thread, &mut lexer);
        let (token, at) = lexer.next(thread);
        if !matches!(token, Token::End) {
            refuse(thread, "the end", token, at);
        }
        1
    }
}

/// Pushes one value with all that is in it.
///
/// # Safety
/// Called by Lua.
unsafe fn read(thread: Thread, lexer: &mut Lexer<'_>) {
    // SAFETY: called by Lua; a lexer owns nothing.
    unsafe {
        Core::of(thread).frames.clear();
        let (mut token, mut at) = lexer.next(thread);
        loop {
            match token {
                Token::String => push_text(thread),
                Token::Number(number) => ffi::lua_pushnumber(thread, number),
                Token::Boolean(value) => ffi::lua_pushboolean(thread, c_int::from(value)),
                Token::Null => ffi::lua_pushlightuserdata(thread, std::ptr::null_mut()),
                Token::ObjectBegin | Token::ArrayBegin => {
                    let is_map = matches!(token, Token::ObjectBegin);
                    descend(thread, lexer.options, is_map, at);
                    (token, at) = lexer.next(thread);
                    let is_empty = match is_map {
                        true => matches!(token, Token::ObjectEnd),
                        false => matches!(token, Token::ArrayEnd),
                    };
                    if !is_empty {
                        if is_map {
                            (token, at) = key(thread, lexer, token, at);
                        }
                        continue;
                    }
                    Core::of(thread).frames.pop();
                }
                _ => refuse(thread, "value", token, at),
            }
            // The value on top is whole: it goes where it belongs, and what it makes whole too.
            loop {
                let Some(frame) = Core::of(thread).frames.last_mut() else {
                    return;
                };
                frame.done += 1;
                let frame = *frame;
                match frame.is_map {
                    true => ffi::lua_rawset(thread, -3),
                    false => ffi::lua_rawseti_(thread, -2, frame.done as c_int),
                }
                (token, at) = lexer.next(thread);
                match (token, frame.is_map) {
                    (Token::ObjectEnd, true) | (Token::ArrayEnd, false) => {
                        Core::of(thread).frames.pop();
                    }
                    (Token::Comma, _) => {
                        (token, at) = lexer.next(thread);
                        if frame.is_map {
                            (token, at) = key(thread, lexer, token, at);
                        }
                        break;
                    }
                    (_, true) => refuse(thread, "comma or object end", token, at),
                    (_, false) => refuse(thread, "comma or array end", token, at),
                }
            }
        }
    }
}

/// Pushes the key that this token is, and fetches the first token of its value.
///
/// # Safety
/// Called by Lua.
unsafe fn key(thread: Thread, lexer: &mut Lexer<'_>, token: Token, at: usize) -> (Token, usize) {
    // SAFETY: called by Lua.
    unsafe {
        if !matches!(token, Token::String) {
            refuse(thread, "object key string", token, at);
        }
        push_text(thread);
        let (token, at) = lexer.next(thread);
        if !matches!(token, Token::Colon) {
            refuse(thread, "colon", token, at);
        }
        lexer.next(thread)
    }
}

/// Pushes the string that the lexer has read.
///
/// # Safety
/// Called by Lua.
unsafe fn push_text(thread: Thread) {
    // SAFETY: Lua copies it.
    unsafe {
        let text: *const Vec<u8> = &Core::of(thread).text;
        push_bytes(thread, &*text);
    }
}

/// Opens a table.
///
/// # Safety
/// Called by Lua.
unsafe fn descend(thread: Thread, options: Options, is_map: bool, at: usize) {
    // SAFETY: called by Lua.
    unsafe {
        let core = Core::of(thread);
        let depth = core.frames.len() + 1;
        if depth > options.decode_depth_max as usize || ffi::lua_checkstack(thread, if is_map { 3 } else { 2 }) == 0 {
            let text = &mut core.text;
            text.clear();
            text.extend_from_slice(b"Found too many nested data structures (");
            text.extend_from_slice(itoa::Buffer::new().format(depth).as_bytes());
            text.extend_from_slice(b") at character ");
            text.extend_from_slice(itoa::Buffer::new().format(at + 1).as_bytes());
            raise_text_here(thread);
        }
        core.frames.push(Frame {
            is_map,
            done: 0,
            count: 0,
        });
        ffi::lua_createtable(thread, 0, 0);
    }
}

#[derive(Clone, Copy)]
enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    /// Its bytes are the core's text.
    String,
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    Error(&'static str),
}

impl Token {
    /// What errors call it.
    fn name(self) -> &'static str {
        match self {
            Token::ObjectBegin => "T_OBJ_BEGIN",
            Token::ObjectEnd => "T_OBJ_END",
            Token::ArrayBegin => "T_ARR_BEGIN",
            Token::ArrayEnd => "T_ARR_END",
            Token::String => "T_STRING",
            Token::Number(_) => "T_NUMBER",
            Token::Boolean(_) => "T_BOOLEAN",
            Token::Null => "T_NULL",
            Token::Colon => "T_COLON",
            Token::Comma => "T_COMMA",
            Token::End => "T_END",
            Token::Error(text) => text,
        }
    }
}

struct Lexer<'a> {
    /// Behind it stands a zero byte.
    text: &'a [u8],
    at: usize,
    options: Options,
}

impl Lexer<'_> {
    /// The byte so many places on; zero behind the end.
    fn byte(&self, offset: usize) -> u8 {
        self.text.get(self.at + offset).copied().unwrap_or(0)
    }

    /// The next token and where it, or what is wrong with it, stands.
    ///
    /// # Safety
    /// Called by Lua.
    unsafe fn next(&mut self, thread: Thread) -> (Token, usize) {
        while matches!(self.byte(0), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        let from = self.at;
        let simple = match self.byte(0) {
            b'{' => Token::ObjectBegin,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayBegin,
            b']' => Token::ArrayEnd,
            b':' => Token::Colon,
            b',' => Token::Comma,
            0 => return (Token::End, from),
            b'"' => {
                // SAFETY: the reference ends with the call, which calls no Lua.
                let out = unsafe { &mut Core::of(thread).text };
                return match self.string(out) {
                    Ok(()) => (Token::String, from),
                    Err(text) => (Token::Error(text), self.at),
                };
            }
            _ => return self.word(from),
        };
        self.at += 1;
        (simple, from)
    }

    /// A number, or one of the three words.
    fn word(&mut self, from: usize) -> (Token, usize) {
        let rest = &self.text[self.at..];
        let is_invalid = self.is_invalid_number();
        let is_decoded = self.options.decode_invalid != 0;
        if matches!(rest[0], b'-' | b'0'..=b'9') {
            return match is_invalid && !is_decoded {
                true => (Token::Error(INVALID_NUMBER), from),
                false => self.number(from),
            };
        }
        for (word, token) in [
            (&b"true"[..], Token::Boolean(true)),
            (b"false", Token::Boolean(false)),
            (b"null", Token::Null),
        ] {
            if rest.starts_with(word) {
                self.at += word.len();
                return (token, from);
            }
        }
        let can_begin = matches!(rest[0], b'f' | b'i' | b'I' | b'n' | b'N' | b't' | b'+');
        if can_begin && is_invalid && is_decoded {
            return self.number(from);
        }
        (Token::Error("invalid token"), from)
    }

    /// Whether what stands here is a number that JSON has not, but C.
    fn is_invalid_number(&self) -> bool {
        if self.byte(0) == b'+' {
            return true;
        }
        let offset = usize::from(self.byte(0) == b'-');
        let first = self.byte(offset);
        if first == b'0' {
            let second = self.byte(offset + 1);
            return second | 0x20 == b'x' || second.is_ascii_digit();
        }
        let word = self
            .text
            .get(self.at + offset..self.at + offset + 3)
            .unwrap_or_default();
        first > b'9' && (word.eq_ignore_ascii_case(b"inf") || word.eq_ignore_ascii_case(b"nan"))
    }

    /// A number as C reads it.
    fn number(&mut self, from: usize) -> (Token, usize) {
        let start: *const c_char = self.text[self.at..].as_ptr().cast();
        let mut end: *mut c_char = std::ptr::null_mut();
        // SAFETY: the text is ended by a zero byte.
        let number = unsafe { libc::strtod(start, &mut end) };
        let length = end as usize - start as usize;
        if length == 0 {
            return (Token::Error(INVALID_NUMBER), from);
        }
        self.at += length;
        (Token::Number(number), from)
    }

    /// A string, of which the opening mark stands here.
    fn string(&mut self, out: &mut Vec<u8>) -> Result<(), &'static str> {
        out.clear();
        self.at += 1;
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0));
            let plain = plain.unwrap_or(rest.len());
            out.extend_from_slice(&rest[..plain]);
            self.at += plain;
            match self.byte(0) {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => {}
                _ => return Err("unexpected end of string"),
            }
            let escape = match self.byte(1) {
                b'b' => 8,
                b't' => b'\t',
                b'n' => b'\n',
                b'f' => 12,
                b'r' => b'\r',
                byte @ (b'"' | b'\\' | b'/') => byte,
                b'u' => {
                    let (character, length) = self.unicode().ok_or("invalid unicode escape code")?;
                    let mut bytes = [0; 4];
                    out.extend_from_slice(encode_utf8(character, &mut bytes));
                    self.at += length;
                    continue;
                }
                _ => return Err("invalid escape code"),
            };
            out.push(escape);
            self.at += 2;
        }
    }

    /// The character that is escaped here, and the bytes of its escape.
    fn unicode(&self) -> Option<(u32, usize)> {
        let first = self.hex(2)?;
        if first & 0xf800 != 0xd800 {
            return Some((first, 6));
        }
        if first & 0x400 != 0 || self.byte(6) != b'\\' || self.byte(7) != b'u' {
            return None;
        }
        let second = self.hex(8)?;
        if second & 0xfc00 != 0xdc00 {
            return None;
        }
        Some((((first & 0x3ff) << 10 | second & 0x3ff) + 0x1_0000, 12))
    }

    fn hex(&self, offset: usize) -> Option<u32> {
        (offset..offset + 4).try_fold(0, |value, at| {
            Some(value << 4 | char::from(self.byte(at)).to_digit(16)?)
        })
    }
}

const INVALID_NUMBER: &str = "invalid number";

fn encode_utf8(character: u32, bytes: &mut [u8; 4]) -> &[u8] {
    match char::from_u32(character) {
        Some(character) => character.encode_utf8(bytes).as_bytes(),
        None => &[],
    }
}

/// Raises that something else stands where it should not.
///
/// # Safety
/// Called by Lua.
unsafe fn refuse(thread: Thread, expected: &str, found: Token, at: usize) -> ! {
    // SAFETY: called by Lua.
    unsafe {
        let text = &mut Core::of(thread).text;
        text.clear();
        text.extend_from_slice(b"Expected ");
        text.extend_from_slice(expected.as_bytes());
        text.extend_from_slice(b" but found ");
        text.extend_from_slice(found.name().as_bytes());
        text.extend_from_slice(b" at character ");
        text.extend_from_slice(itoa::Buffer::new().format(at + 1).as_bytes());
        raise_text_here(thread)
    }
}
