//! The library `struct`: values in packed bytes and back, by a format (Roberto Ierusalimschy's struct 0.2,
//! <http://www.inf.puc-rio.br/~roberto/struct/>).
//!
//! | option | means |
//! |---|---|
//! | `<` `>` `!n` blank | little endian (at first), big endian, values lie at multiples of their size but at most of n (at first 1) |
//! | `b` `h` `i`n `l` `T`, capitals unsigned | integers of 1, 2, n (4), 8, 8 bytes |
//! | `f` `d` `x` | float, double, a zero byte |
//! | `c`n `c0` `s` | so many bytes; all of them, unpacked by the number before; bytes and a zero |

use std::ffi::c_int;

use mlua_sys as ffi;

use super::lua::{Core, Thread, check_bytes, push_bytes, raise_argument, raise_here, raise_text_here};
use super::sandbox::set_functions;

/// Pushes the library's table.
///
/// # Safety
/// May raise.
pub(super) unsafe fn push(thread: Thread) {
    // SAFETY: as the caller promises.
    unsafe {
        ffi::lua_createtable(thread, 0, 3);
        set_functions(thread, &[(c"pack", pack), (c"unpack", unpack), (c"size", size)]);
    }
}

const INTEGER_BYTES_MAX: usize = 32;
const ALIGNMENT_DEFAULT: usize = 8;

/// Reads a format.
struct Format<'a> {
    rest: &'a [u8],
    is_big: bool,
    alignment: usize,
}

/// One value's place.
#[derive(Clone, Copy)]
struct Item {
    option: u8,
    bytes: usize,
}

impl<'a> Format<'a> {
    /// # Safety
    /// Called by Lua; the format is argument 1.
    unsafe fn of(thread: Thread) -> Format<'a> {
        // SAFETY: as the caller promises.
        let format = unsafe { check_bytes(thread, 1) };
        let end = memchr::memchr(0, format).unwrap_or(format.len());
        Format {
            rest: &format[..end],
            is_big: false,
            alignment: 1,
        }
    }

    /// The next option, with the number behind it.
    ///
    /// # Safety
    /// Called by Lua.
    unsafe fn next(&mut self, thread: Thread) -> Option<Item> {
        let (&option, rest) = self.rest.split_first()?;
        self.rest = rest;
        let bytes = match option {
            b'b' | b'B' | b'x' => 1,
            b'h' | b'H' => 2,
            b'f' => 4,
            b'l' | b'L' | b'T' | b'd' => 8,
            // SAFETY: called by Lua.
            b'c' => unsafe { self.number(thread, 1) },
            b'i' | b'I' => {
                // SAFETY: called by Lua.
                let bytes = unsafe { self.number(thread, 4) };
                if bytes > INTEGER_BYTES_MAX {
                    // SAFETY: nothing that must be dropped is alive.
                    unsafe {
                        let text = &mut Core::of(thread).text;
                        text.clear();
                        text.extend_from_slice(b"integral size ");
                        text.extend_from_slice(itoa::Buffer::new().format(bytes).as_bytes());
                        text.extend_from_slice(b" is larger than limit of 32");
                        raise_text_here(thread);
                    }
                }
                bytes
            }
            _ => 0,
        };
        Some(Item { option, bytes })
    }

    /// # Safety
    /// Called by Lua.
    unsafe fn number(&mut self, thread: Thread, default: usize) -> usize {
        let length = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if length == 0 {
            return default;
        }
        let (digits, rest) = self.rest.split_at(length);
        self.rest = rest;
        let number = digits.iter().try_fold(0i32, |number, digit| {
            number.checked_mul(10)?.checked_add(i32::from(digit - b'0'))
        });
        match number {
            Some(number) => number as usize,
            // SAFETY: nothing that must be dropped is alive.
            None => unsafe { raise_here(thread, b"integral size overflow") },
        }
    }

    /// Zero bytes before an item that would begin at this position.
    fn padding(&self, position: usize, item: Item) -> usize {
        if item.bytes == 0 || item.option == b'c' {
            return 0;
        }
        let to = item.bytes.min(self.alignment);
        (to.wrapping_sub(position & to.wrapping_sub(1))) & to.wrapping_sub(1)
    }

    /// What is no value.
    ///
    /// # Safety
    /// Called by Lua.
    unsafe fn control(&mut self, thread: Thread, option: u8) {
        match option {
            b' ' => {}
            b'>' => self.is_big = true,
            b'<' => self.is_big = false,
            b'!' => {
                // SAFETY: called by Lua.
                let alignment = unsafe { self.number(thread, ALIGNMENT_DEFAULT) };
                if !alignment.is_power_of_two() {
                    // SAFETY: nothing that must be dropped is alive.
                    unsafe {
                        let text = &mut Core::of(thread).text;
                        text.clear();
                        text.extend_from_slice(b"alignment ");
                        text.extend_from_slice(itoa::Buffer::new().format(alignment).as_bytes());
                        text.extend_from_slice(b" is not a power of 2");
                        raise_text_here(thread);
                    }
                }
                self.alignment = alignment;
            }
            // SAFETY: the text is Lua's, on the stack.
            _ => unsafe {
                let text = ffi::lua_pushfstring(thread, c"invalid format option '%c'".as_ptr(), c_int::from(option));
                ffi::luaL_argerror(thread, 1, text);
            },
        }
    }
}

unsafe extern "C-unwind" fn pack(thread: Thread) -> c_int {
    // SAFETY: called by Lua; the bytes under construction are the core's, and no other code of a script runs meanwhile.
    unsafe {
        let mut format = Format::of(thread);
        let mut argument = 2;
        // What is missing is called nil in errors.
        ffi::lua_pushnil(thread);
        Core::of(thread).text.clear();
        while let Some(item) = format.next(thread) {
            let out = &mut Core::of(thread).text;
            let padding = format.padding(out.len(), item);
            out.resize(out.len() + padding, 0);
            match item.option {
                b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                    let number = ffi::luaL_checknumber(thread, argument);
                    argument += 1;
                    put_integer(&mut Core::of(thread).text, bits_of(number), item.bytes, format.is_big);
                }
                b'x' => out.push(0),
                b'f' => {
                    let number = ffi::luaL_checknumber(thread, argument) as f32;
                    argument += 1;
                    put(&mut Core::of(thread).text, number.to_le_bytes(), format.is_big);
                }
                b'd' => {
                    let number = ffi::luaL_checknumber(thread, argument);
                    argument += 1;
                    put(&mut Core::of(thread).text, number.to_le_bytes(), format.is_big);
                }
                b'c' | b's' => {
                    let text = check_bytes(thread, argument);
                    argument += 1;
                    let bytes = if item.bytes == 0 { text.len() } else { item.bytes };
                    if text.len() < bytes {
                        raise_argument(thread, argument, c"string too short");
                    }
                    let out = &mut Core::of(thread).text;
                    out.extend_from_slice(&text[..bytes]);
                    if item.option == b's' {
                        out.push(0);
                    }
                }
                option => format.control(thread, option),
            }
        }
        let text: *const Vec<u8> = &Core::of(thread).text;
        push_bytes(thread, &*text);
        1
    }
}

/// A number as an integer's bits. What fits into none becomes what Redis gets for it on x86.
fn bits_of(number: f64) -> u64 {
    const TWO_TO_64: f64 = 18_446_744_073_709_551_616.0;
    match number {
        number if number < 0.0 => number as i64 as u64,
        number if number.is_nan() => 1 << 63,
        number if number >= TWO_TO_64 => 0,
        number => number as u64,
    }
}

/// Appends bytes that are little endian.
fn put<const N: usize>(out: &mut Vec<u8>, mut bytes: [u8; N], is_big: bool) {
    if is_big {
        bytes.reverse();
    }
    out.extend_from_slice(&bytes);
}

fn put_integer(out: &mut Vec<u8>, value: u64, bytes: usize, is_big: bool) {
    let mut all = [0; INTEGER_BYTES_MAX];
    all[..8].copy_from_slice(&value.to_le_bytes());
    let all = &mut all[..bytes];
    if is_big {
        all.reverse();
    }
    out.extend_from_slice(all);
}

unsafe extern "C-unwind" fn unpack(thread: Thread) -> c_int {
    // SAFETY: called by Lua; the data stays on the stack as argument 2.
    unsafe {
        let mut format = Format::of(thread);
        let data = check_bytes(thread, 2);
        let from = ffi::luaL_optinteger(thread, 3, 1);
        if from == 0 {
            raise_argument(thread, 3, c"offset must be 1 or greater");
        }
        // A negative one is far behind the end.
        let mut position = from as usize - 1;
        let mut count = 0;
        while let Some(item) = format.next(thread) {
            position = position.saturating_add(format.padding(position, item));
            let mut bytes = item.bytes;
            let Some(rest) = data.get(position..).filter(|rest| rest.len() >= bytes) else {
                raise_argument(thread, 2, TOO_SHORT);
            };
            ffi::luaL_checkstack_(thread, 2, c"too many results".as_ptr());
            match item.option {
                b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                    let is_signed = item.option.is_ascii_lowercase();
                    ffi::lua_pushnumber(thread, take_integer(&rest[..bytes], is_signed, format.is_big));
                    count += 1;
                }
                b'f' => {
                    let number = f32::from_le_bytes(take(rest, format.is_big));
                    ffi::lua_pushnumber(thread, f64::from(number));
                    count += 1;
                }
                b'd' => {
                    ffi::lua_pushnumber(thread, f64::from_le_bytes(take(rest, format.is_big)));
                    count += 1;
                }
                b'x' => {}
                b'c' => {
                    if bytes == 0 {
                        if count == 0 || ffi::lua_isnumber(thread, -1) == 0 {
                            raise_here(thread, b"format 'c0' needs a previous size");
                        }
                        let wanted = ffi::lua_tonumber(thread, -1);
                        bytes = if wanted < 0.0 { usize::MAX } else { wanted as usize };
                        ffi::lua_pop(thread, 1);
                        count -= 1;
                        if bytes > rest.len() {
                            raise_argument(thread, 2, TOO_SHORT);
                        }
                    }
                    push_bytes(thread, &rest[..bytes]);
                    count += 1;
                }
                b's' => {
                    let Some(end) = memchr::memchr(0, rest) else {
                        raise_here(thread, b"unfinished string in data");
                    };
                    push_bytes(thread, &rest[..end]);
                    bytes = end + 1;
                    count += 1;
                }
                option => format.control(thread, option),
            }
            position = position.saturating_add(bytes);
        }
        ffi::lua_pushnumber(thread, position.wrapping_add(1) as i64 as f64);
        count + 1
    }
}

const TOO_SHORT: &std::ffi::CStr = c"data string too short";

/// The first bytes, little endian.
fn take<const N: usize>(data: &[u8], is_big: bool) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&data[..N]);
    if is_big {
        bytes.reverse();
    }
    bytes
}

fn take_integer(data: &[u8], is_signed: bool, is_big: bool) -> f64 {
    let append = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
    let value = match is_big {
        true => data.iter().fold(0, append),
        false => data.iter().rev().fold(0, append),
    };
    if !is_signed {
        return value as f64;
    }
    let sign_and_above = u64::MAX.wrapping_shl((data.len() as u32 * 8).wrapping_sub(1));
    match value & sign_and_above {
        0 => value as i64 as f64,
        _ => (value | sign_and_above) as i64 as f64,
    }
}

unsafe extern "C-unwind" fn size(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        let mut format = Format::of(thread);
        let mut position = 0usize;
        while let Some(item) = format.next(thread) {
            position += format.padding(position, item);
            if item.option == b's' {
                raise_argument(thread, 1, c"option 's' has no fixed size");
            }
            if item.option == b'c' && item.bytes == 0 {
                raise_argument(thread, 1, c"option 'c0' has no fixed size");
            }
            if !item.option.is_ascii_alphanumeric() {
                format.control(thread, item.option);
            }
            position += item.bytes;
        }
        ffi::lua_pushnumber(thread, position as f64);
        1
    }
}
