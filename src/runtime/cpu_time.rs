//! The CPU time that the process has used, as the kernel accounts for it (getrusage(2)).

use crate::base::section::Section;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

/// Writes seconds in the kernel and outside it: of the process, of children that have ended, and of a main thread.
pub fn write_cpu_times(out: &mut Section) {
    let seconds = |time: TimeVal| format!("{}.{:06}", time.tv_sec(), time.tv_usec());
    // No thread is the main one here: the one that answers stands for it.
    for (whose, who) in [
        ("", UsageWho::RUSAGE_SELF),
        ("_children", UsageWho::RUSAGE_CHILDREN),
        ("_main_thread", UsageWho::RUSAGE_THREAD),
    ] {
        if let Ok(usage) = getrusage(who) {
            out.field(format_args!("used_cpu_sys{whose}"), seconds(usage.system_time()));
            out.field(format_args!("used_cpu_user{whose}"), seconds(usage.user_time()));
        }
    }
}
