//! The library `bit`: Lua BitOp 1.0 over 32 bits, as its documentation has it (<https://bitop.luajit.org/api.html>).
//!
//! A number is rounded to an integer of which the lower 32 bits count; results are signed.

use std::ffi::c_int;

use mlua_sys as ffi;

use super::lua::{Thread, push_bytes};
use super::sandbox::set_functions;

/// Pushes the library's table.
///
/// # Safety
/// May raise.
pub(super) unsafe fn push(thread: Thread) {
    // SAFETY: as the caller promises.
    unsafe {
        ffi::lua_createtable(thread, 0, 16);
        set_functions(
            thread,
            &[
                (c"tobit", tobit),
                (c"bnot", bnot),
                (c"band", band),
                (c"bor", bor),
                (c"bxor", bxor),
                (c"lshift", lshift),
                (c"rshift", rshift),
                (c"arshift", arshift),
                (c"rol", rol),
                (c"ror", ror),
                (c"bswap", bswap),
                (c"tohex", tohex),
            ],
        );
    }
}

/// The bits of an argument.
///
/// # Safety
/// Called by Lua; raises if it is no number.
unsafe fn bits(thread: Thread, index: c_int) -> u32 {
    // SAFETY: as the caller promises.
    let number = unsafe { ffi::luaL_checknumber(thread, index) };
    // In a double of this size the lowest bit is worth 1, so the addition rounds, and the lower bits are those of the integer.
    const ROUNDING: f64 = 6_755_399_441_055_744.0;
    (number + ROUNDING).to_bits() as u32
}

/// # Safety
/// Called by Lua.
unsafe fn answer(thread: Thread, bits: u32) -> c_int {
    // SAFETY: there is a slot.
    unsafe { ffi::lua_pushnumber(thread, f64::from(bits as i32)) };
    1
}

/// # Safety
/// Called by Lua.
unsafe fn fold(thread: Thread, combine: fn(u32, u32) -> u32) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        let first = bits(thread, 1);
        // From the last one on, as errors show.
        let rest = (2..=ffi::lua_gettop(thread)).rev();
        let result = rest.fold(first, |result, index| combine(result, bits(thread, index)));
        answer(thread, result)
    }
}

/// # Safety
/// Called by Lua.
unsafe fn shift(thread: Thread, shift: fn(u32, u32) -> u32) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        let value = bits(thread, 1);
        let count = bits(thread, 2) & 31;
        answer(thread, shift(value, count))
    }
}

unsafe extern "C-unwind" fn tobit(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe { answer(thread, bits(thread, 1)) }
}

unsafe extern "C-unwind" fn bnot(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe { answer(thread, !bits(thread, 1)) }
}

unsafe extern "C-unwind" fn band(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe { fold(thread, |a, b| a & b) }
}

unsafe extern "C-unwind" fn bor(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe { fold(thread, |a, b| a | b) }
}

unsafe extern "C-unwind" fn bxor(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe { fold(thread, |a, b| a ^ b) }
}

unsafe extern "C-unwind" fn lshift(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe { shift(thread, |value, count| value << count) }
}

unsafe extern "C-unwind" fn rshift(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe { shift(thread, |value, count| value >> count) }
}

unsafe extern "C-unwind" fn arshift(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe { shift(thread, |value, count| (value as i32 >> count) as u32) }
}

unsafe extern "C-unwind" fn rol(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe { shift(thread, u32::rotate_left) }
}

unsafe extern "C-unwind" fn ror(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe { shift(thread, u32::rotate_right) }
}

unsafe extern "C-unwind" fn bswap(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe { answer(thread, bits(thread, 1).swap_bytes()) }
}

/// So many hexadecimal digits of a number from its lower end, in capitals if the count is negative.
unsafe extern "C-unwind" fn tohex(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        let mut value = bits(thread, 1);
        let count = match ffi::lua_type(thread, 2) {
            ffi::LUA_TNONE => 8,
            _ => bits(thread, 2) as i32,
        };
        let digits: &[u8; 16] = if count < 0 {
            b"0123456789ABCDEF"
        } else {
            b"0123456789abcdef"
        };
        let mut text = [0; 8];
        let count = count.unsigned_abs().min(8) as usize;
        for digit in text[..count].iter_mut().rev() {
            *digit = digits[(value & 15) as usize];
            value >>= 4;
        }
        push_bytes(thread, &text[..count]);
        1
    }
}
