//! How the processes of a service are held together: namespaces, where the board allows them.
//!
//! Root makes a PID namespace. Anyone else makes a user namespace too, in which only the own user and
//! group exist, under their own numbers. Where neither is allowed (an old kernel, a container's
//! seccomp filter, a distribution's policy) the shim becomes the reaper of its descendants
//! and kills them by walking `/proc`. What came of it is reported, never assumed: see
//! [`Containment`].

use std::fs;
use std::io;
use std::process::{Command, ExitCode, Stdio};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{getgid, getpid, getuid, set_child_subreaper};
use rustix::thread::{
    CapabilitySet, UnshareFlags, capabilities, configure_capability_in_ambient_set,
    set_capabilities, unshare_unsafe,
};

use super::cgroup::Cgroup;
use super::instance::Limits;
use super::wire::Containment;

/// Prepares this process, the shim, so that the next child it spawns begins a PID namespace.
///
/// Can be done once per process: the second child would be pid 2 of the same namespace. Fails only
/// where the process is left in a state that it cannot work in.
pub(crate) fn enter(isolate_pids: bool) -> io::Result<Containment> {
    let mut containment = Containment::default();
    if isolate_pids && unshare(UnshareFlags::NEWPID).is_ok() {
        containment.pid_namespace = true;
    } else if isolate_pids && enter_user_namespace()? {
        containment.pid_namespace = true;
        containment.user_namespace = true;
    } else {
        set_child_subreaper(Some(getpid()))?;
    }
    Ok(containment)
}

/// Gives the caller, the init of a PID namespace, a `/proc` that shows this namespace.
///
/// Needs a mount namespace, which follows the host's mounts, so that a stick plugged in later can
/// be seen and pulled out. Afterwards the capability that it took is given up.
pub(crate) fn remount_proc() -> io::Result<()> {
    let mounted = unshare(UnshareFlags::NEWNS).and_then(|()| {
        mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        Ok(mount("proc", "/proc", "proc", flags, None)?)
    });
    rustix::thread::clear_ambient_capability_set()?;
    mounted
}

/// `shim --probe`: what this board allows, as JSON on stdout. A process of its own, because a
/// namespace once entered is not left again.
pub(crate) fn probe_main() -> ExitCode {
    match probe() {
        Ok(containment) => {
            println!("{}", serde_json::json!(containment));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("probe: {error}");
            ExitCode::FAILURE
        }
    }
}

fn probe() -> io::Result<Containment> {
    let limits = Limits { memory_bytes: Some(1 << 30), pids: Some(16) };
    let name = format!("probe-{}", getpid().as_raw_nonzero());
    let cgroup = Cgroup::create(&name, limits).ok();
    let mut containment = enter(true)?;
    if containment.pid_namespace {
        let status = Command::new(super::init::SELF)
            .args(["shim-init", "--contained", "--probe"])
            .stdin(Stdio::null())
            .status();
        // No child at all: the namespace is of no use here.
        containment.pid_namespace = status.is_ok();
        containment.own_proc = status.is_ok_and(|status| status.success());
    }
    if let Some(cgroup) = cgroup {
        containment.cgroup = true;
        containment.memory_limited = cgroup.memory_limited;
        containment.pids_limited = cgroup.pids_limited;
        cgroup.remove();
    }
    Ok(containment)
}

/// False if user namespaces are not allowed; then nothing has changed.
fn enter_user_namespace() -> io::Result<bool> {
    let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
    if unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWPID).is_err() {
        return Ok(false);
    }
    // From here on there is no way back: without the maps this process is nobody.
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))?;
    let _ = hand_down_sys_admin();
    Ok(true)
}

/// Lets the init keep, over `exec`, the capability (in this namespace only) to mount its `/proc`.
fn hand_down_sys_admin() -> io::Result<()> {
    let mut sets = capabilities(None)?;
    sets.inheritable |= CapabilitySet::SYS_ADMIN;
    set_capabilities(None, sets)?;
    configure_capability_in_ambient_set(CapabilitySet::SYS_ADMIN, true)?;
    Ok(())
}

fn unshare(flags: UnshareFlags) -> io::Result<()> {
    debug_assert!(!flags.contains(UnshareFlags::FILES));
    #[expect(unsafe_code, reason = "unsafe only because of FILES, which no caller here passes")]
    // SAFETY: the file descriptor table stays shared, which is the one thing that could dangle.
    unsafe {
        unshare_unsafe(flags)?;
    }
    Ok(())
}
