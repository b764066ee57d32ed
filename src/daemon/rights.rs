//! Giving up every right, for good.

use nix::unistd::{Gid, Uid, geteuid};

/// Becomes that user and group without a way back; or, where the user is shared, drops every
/// capability and says so.
///
/// # Errors
/// When anything of that did not happen: the process must end then.
pub(super) fn drop_all(user: Option<(u32, u32)>) -> Result<(), String> {
    if let Some((uid, gid)) = user {
        become_user(Uid::from_raw(uid), Gid::from_raw(gid))
            .map_err(|e| format!("could not become user {uid}: {e}"))?;
        if geteuid().is_root() || nix::unistd::setuid(Uid::from_raw(0)).is_ok() {
            return Err("still root after becoming another user".into());
        }
    }
    confine(user.is_none())
}

#[cfg(any(target_os = "linux", target_os = "freebsd", target_os = "openbsd"))]
fn become_user(uid: Uid, gid: Gid) -> nix::Result<()> {
    nix::unistd::setgroups(&[])?;
    nix::unistd::setresgid(gid, gid, gid)?;
    nix::unistd::setresuid(uid, uid, uid)
}

#[cfg(not(any(target_os = "linux", target_os = "freebsd", target_os = "openbsd")))]
fn become_user(uid: Uid, gid: Gid) -> nix::Result<()> {
    #[cfg(target_os = "macos")]
    crate::sys::leave_groups().map_err(|_| nix::errno::Errno::last())?;
    // By root these set all three ids.
    nix::unistd::setgid(gid)?;
    nix::unistd::setuid(uid)
}

#[cfg(target_os = "linux")]
fn confine(shared: bool) -> Result<(), String> {
    use caps::CapSet;
    use nix::sys::prctl;
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set).map_err(|e| format!("could not drop capabilities: {e}"))?;
    }
    if shared {
        log::info!(
            "no second user here: the user is shared with [priv], all capabilities are dropped"
        );
    }
    prctl::set_no_new_privs().map_err(|e| format!("no_new_privs: {e}"))?;
    prctl::set_dumpable(false).map_err(|e| format!("dumpable: {e}"))?;
    // A change of user clears it, so it comes last.
    prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).map_err(|e| format!("pdeathsig: {e}"))
}

#[cfg(not(target_os = "linux"))]
fn confine(shared: bool) -> Result<(), String> {
    match shared && geteuid().is_root() {
        true => Err("no unprivileged user to become".into()),
        false => Ok(()),
    }
}

/// The end of the parent is no end of this process any more.
///
/// # Errors
/// When the kernel refuses.
#[cfg(target_os = "linux")]
pub(super) fn outlive() -> Result<(), String> {
    nix::sys::prctl::set_pdeathsig(None).map_err(|e| format!("pdeathsig: {e}"))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn outlive() -> Result<(), String> {
    Ok(())
}
