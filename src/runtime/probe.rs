//! Whether io_uring works here, and if not, who refuses it.
//!
//! io_uring is refused in more ways than it is missing: by the seccomp profile of a container, by a sysctl that some
//! distributions set, by a limit on locked memory. Each looks different (an errno, sometimes only with the help of a file
//! in /proc), and each has another remedy. So the server asks once, at the start, and says in one message what was
//! refused and which setting allows it.
//!
//! What is wanted, with the kernel that brought it: MSG_RING 5.18, provided-buffer rings and multishot accept 5.19,
//! multishot receive, SEND_ZC and SINGLE_ISSUER 6.0, DEFER_TASKRUN and SENDMSG_ZC 6.1 (io_uring_setup(2),
//! io_uring_enter(2)). So 6.1 is the oldest kernel, and DEFER_TASKRUN, which a set-up either accepts or not, stands for
//! all that cannot be asked for one by one.

use io_uring::{IoUring, Probe, opcode};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs;
use std::io;

/// The oldest kernel that has all of it.
const KERNEL_WANTED: &str = "6.1";

const DISABLED_SYSCTL: &str = "/proc/sys/kernel/io_uring_disabled";

/// Why io_uring cannot be used. Each text names what was refused and the setting that allows it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IoUringUnavailable {
    #[error(
        "io_uring is refused by a seccomp filter ({call}: {errno}), as container runtimes install by default. \
         Allow the system calls io_uring_setup, io_uring_enter and io_uring_register: \
         `docker run --security-opt seccomp=config/seccomp-io_uring.json ...` (the profile that ships with shardis; \
         `seccomp=unconfined` allows everything), in Kubernetes `securityContext.seccompProfile` \
         (type Localhost with that profile), in a systemd unit \
         `SystemCallFilter=io_uring_setup io_uring_enter io_uring_register`."
    )]
    Seccomp { call: &'static str, errno: String },
    #[error(
        "io_uring is switched off by the sysctl kernel.io_uring_disabled = 2. \
         Allow it with `sysctl kernel.io_uring_disabled=0` (to keep it: a line in /etc/sysctl.d/)."
    )]
    DisabledForAll,
    #[error(
        "io_uring is reserved for privileged processes by the sysctl kernel.io_uring_disabled = 1. \
         Allow it with `sysctl kernel.io_uring_disabled=0`, or put the user of this process into a group \
         and name it: `sysctl kernel.io_uring_group=<gid>`."
    )]
    DisabledForOthers,
    #[error("io_uring of this kernel ({found}) lacks {missing}. Linux {KERNEL_WANTED} or newer is needed.")]
    KernelTooOld { found: String, missing: String },
    #[error(
        "io_uring got no memory: the limit on locked memory is {limit}. \
         Raise it: `ulimit -l unlimited`, in a systemd unit `LimitMEMLOCK=infinity`, \
         `docker run --ulimit memlock=-1 ...`."
    )]
    LockedMemory { limit: String },
    #[error("io_uring could not be set up ({call}: {errno}).")]
    Other { call: &'static str, errno: String },
}

/// What is known about the host besides the errno.
struct Host {
    /// kernel.io_uring_disabled; `None` on kernels before 6.6, which lack it.
    disabled: Option<u32>,
    has_seccomp_filter: bool,
    kernel: String,
    locked_memory_limit: String,
}

impl Host {
    fn read() -> Host {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let limit = match getrlimit(Resource::RLIMIT_MEMLOCK) {
            Ok((soft, _)) if soft == nix::libc::RLIM_INFINITY => "unlimited".to_owned(),
            Ok((soft, _)) => format!("{} KiB", soft / 1024),
            Err(_) => "unknown".to_owned(),
        };
        Host {
            disabled: text(DISABLED_SYSCTL).trim().parse().ok(),
            // proc_pid_status(5): 2 is SECCOMP_MODE_FILTER.
            has_seccomp_filter: text("/proc/self/status")
                .lines()
                .any(|line| line.split_whitespace().eq(["Seccomp:", "2"])),
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            locked_memory_limit: limit,
        }
    }

    fn explain(&self, call: &'static str, error: &io::Error) -> IoUringUnavailable {
        let errno = error
            .raw_os_error()
            .map_or_else(|| error.to_string(), |raw| nix::Error::from_raw(raw).to_string());
        let too_old = |missing: &str| IoUringUnavailable::KernelTooOld {
            found: self.kernel.clone(),
            missing: missing.to_owned(),
        };
        match (error.raw_os_error(), self.disabled) {
            (Some(libc::EPERM), Some(2)) => IoUringUnavailable::DisabledForAll,
            (Some(libc::EPERM), Some(1)) => IoUringUnavailable::DisabledForOthers,
            (Some(libc::EPERM | libc::EACCES), _) => IoUringUnavailable::Seccomp { call, errno },
            // A filter that does not know a system call may answer so too.
            (Some(libc::ENOSYS), _) if self.has_seccomp_filter && self.is_kernel_new_enough() => {
                IoUringUnavailable::Seccomp { call, errno }
            }
            (Some(libc::ENOSYS), _) => too_old("io_uring itself (or it was left out, CONFIG_IO_URING)"),
            (Some(libc::EINVAL), _) => too_old("the set-up flags SINGLE_ISSUER, DEFER_TASKRUN and COOP_TASKRUN"),
            (Some(libc::ENOMEM), _) => IoUringUnavailable::LockedMemory {
                limit: self.locked_memory_limit.clone(),
            },
            _ => IoUringUnavailable::Other { call, errno },
        }
    }

    fn is_kernel_new_enough(&self) -> bool {
        version(&self.kernel) >= version(KERNEL_WANTED)
    }
}

/// Major and minor number of a kernel release ("6.1.0-18-amd64").
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Sets up a ring as the network plane does, asks for the operations it uses, and throws it away.
pub fn probe_io_uring() -> Result<(), IoUringUnavailable> {
    raise_locked_memory_limit()?;
    probe().map_err(|failure| match failure {
        Failure::Call(call, error) => Host::read().explain(call, &error),
        Failure::Missing(missing) => IoUringUnavailable::KernelTooOld {
            found: Host::read().kernel,
            missing,
        },
    })
}

/// The executor refuses to start below its limit on locked memory, whatever the kernel would say: a lower one is raised
/// where that is allowed.
fn raise_locked_memory_limit() -> Result<(), IoUringUnavailable> {
    /// What glommio wants for its rings.
    const WANTED_BYTES: u64 = 512 * 1024;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_MEMLOCK) else {
        return Ok(());
    };
    let is_enough = soft >= WANTED_BYTES
        || setrlimit(Resource::RLIMIT_MEMLOCK, hard.max(WANTED_BYTES), hard.max(WANTED_BYTES)).is_ok();
    match is_enough {
        true => Ok(()),
        false => Err(IoUringUnavailable::LockedMemory {
            limit: Host::read().locked_memory_limit,
        }),
    }
}

enum Failure {
    Call(&'static str, io::Error),
    Missing(String),
}

fn probe() -> Result<(), Failure> {
    let ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .build(8)
        .map_err(|error| Failure::Call("io_uring_setup", error))?;
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|error| Failure::Call("io_uring_register", error))?;
    ring.submit_and_wait(0)
        .map_err(|error| Failure::Call("io_uring_enter", error))?;
    let parameters = ring.params();
    let wanted = [
        ("IORING_FEAT_NODROP", parameters.is_feature_nodrop()),
        ("IORING_FEAT_SUBMIT_STABLE", parameters.is_feature_submit_stable()),
        ("IORING_FEAT_EXT_ARG", parameters.is_feature_ext_arg()),
        ("IORING_FEAT_CQE_SKIP", parameters.is_feature_skip_cqe_on_success()),
        ("ACCEPT", probe.is_supported(opcode::Accept::CODE)),
        ("RECV", probe.is_supported(opcode::Recv::CODE)),
        ("SEND", probe.is_supported(opcode::Send::CODE)),
        ("SENDMSG", probe.is_supported(opcode::SendMsg::CODE)),
        ("SEND_ZC", probe.is_supported(opcode::SendZc::CODE)),
        ("SENDMSG_ZC", probe.is_supported(opcode::SendMsgZc::CODE)),
        ("MSG_RING", probe.is_supported(opcode::MsgRingData::CODE)),
        ("TIMEOUT", probe.is_supported(opcode::Timeout::CODE)),
        ("ASYNC_CANCEL", probe.is_supported(opcode::AsyncCancel::CODE)),
        ("READ", probe.is_supported(opcode::Read::CODE)),
    ];
    let missing: Vec<_> = wanted
        .iter()
        .filter(|(_, is_there)| !is_there)
        .map(|(name, _)| *name)
        .collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Failure::Missing(missing.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(errno: i32, disabled: Option<u32>, has_seccomp_filter: bool, kernel: &str) -> String {
        let host = Host {
            disabled,
            has_seccomp_filter,
            kernel: kernel.to_owned(),
            locked_memory_limit: "64 KiB".to_owned(),
        };
        host.explain("io_uring_setup", &io::Error::from_raw_os_error(errno))
            .to_string()
    }

    #[test]
    fn each_refusal_names_its_remedy() {
        for (errno, disabled, seccomp, kernel, wanted) in [
            (
                libc::EPERM,
                Some(0),
                true,
                "6.8.0",
                "docker run --security-opt seccomp=",
            ),
            (libc::EPERM, None, false, "6.1.0", "docker run --security-opt seccomp="),
            (libc::EPERM, Some(1), false, "6.8.0", "kernel.io_uring_group="),
            (libc::EPERM, Some(2), true, "6.8.0", "sysctl kernel.io_uring_disabled=0"),
            (
                libc::ENOSYS,
                None,
                true,
                "6.8.0",
                "seccomp filter (io_uring_setup: ENOSYS",
            ),
            (libc::ENOSYS, None, true, "4.18.0-553", "this kernel (4.18.0-553)"),
            (libc::EINVAL, None, false, "5.15.0-91-generic", "Linux 6.1 or newer"),
            (
                libc::ENOMEM,
                Some(0),
                false,
                "6.8.0",
                "limit on locked memory is 64 KiB",
            ),
            (libc::EMFILE, Some(0), false, "6.8.0", "io_uring_setup: EMFILE"),
        ] {
            let text = explain(errno, disabled, seccomp, kernel);
            assert!(text.contains(wanted), "{errno}: {text}");
        }
    }

    #[test]
    fn releases_compare_by_number() {
        assert!(version("6.10.3-arch1") > version("6.9"));
        assert!(version("5.19") < version(KERNEL_WANTED));
        assert_eq!(version("6.1.0-18-amd64"), (6, 1));
    }
}
