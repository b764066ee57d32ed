//! Namespaces of our own, and why there are none where they are forbidden.

use super::DemoError;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};
use std::fs;
use std::io;
use std::path::Path;

/// What the process has after [`enter`].
pub(super) struct Space {
    /// Root only inside a user namespace: one uid is mapped, and it is an ordinary one outside.
    pub(super) mapped: bool,
    /// /run is a tmpfs that nobody else sees.
    pub(super) tmpfs: bool,
}

/// Moves this process into a network and a mount namespace of its own, in a user namespace of its
/// own where it has not the right otherwise (user_namespaces(7), network_namespaces(7)).
pub(super) fn enter() -> Result<Space, DemoError> {
    let spaces = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    let root = geteuid().is_root();
    let mapped = match if root { unshare(spaces) } else { Err(Errno::EPERM) } {
        Ok(()) => false,
        Err(Errno::EPERM) => {
            user(spaces)?;
            true
        }
        Err(e) => return Err(forbidden("unshare", e.into())),
    };
    Ok(Space { mapped, tmpfs: own_run() })
}

/// The same for a guest, which has the right already: a network namespace.
pub(super) fn network() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)
}

fn user(spaces: CloneFlags) -> Result<(), DemoError> {
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | spaces).map_err(|e| forbidden("unshare", e.into()))?;
    let put = |file: &str, text: String| {
        let path = format!("/proc/self/{file}");
        fs::write(&path, text).map_err(|e| forbidden(&path, e))
    };
    put("setgroups", "deny".into())?;
    put("uid_map", format!("0 {uid} 1"))?;
    put("gid_map", format!("0 {gid} 1"))
}

/// A tmpfs on /run, for the lock file of iptables and the demo's own files; not where it would
/// hide the binary itself, which `serve` runs again.
fn own_run() -> bool {
    let hides = std::env::current_exe().map_or(true, |exe| exe.starts_with("/run"));
    let none: Option<&str> = None;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    !hides
        && mount(none, "/", none, private, none).is_ok()
        && mount(Some("tmpfs"), "/run", Some("tmpfs"), flags, Some("mode=0755,size=64m")).is_ok()
}

/// What is known about the machine's restrictions; an absent file is `None`.
#[derive(Clone, Copy, Default)]
struct Rules {
    clone: Option<u64>,
    apparmor: Option<u64>,
    max: Option<u64>,
    seccomp: bool,
    container: bool,
    root: bool,
}

impl Rules {
    fn read() -> Rules {
        let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse().ok();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let marks = ["/.dockerenv", "/run/.containerenv"];
        Rules {
            clone: number("/proc/sys/kernel/unprivileged_userns_clone"),
            apparmor: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            max: number("/proc/sys/user/max_user_namespaces"),
            seccomp: status.lines().any(|l| l.split_whitespace().eq(["Seccomp:", "2"])),
            container: std::env::var_os("container").is_some()
                || marks.iter().any(|m| Path::new(m).exists()),
            root: geteuid().is_root(),
        }
    }

    /// What forbids it.
    fn cause(&self, error: &io::Error) -> &'static str {
        let full = error.raw_os_error() == Some(Errno::ENOSPC as i32);
        if self.max == Some(0) {
            "the sysctl user.max_user_namespaces is 0"
        } else if full {
            "the limits user.max_user_namespaces or user.max_net_namespaces are reached"
        } else if self.clone == Some(0) {
            "the sysctl kernel.unprivileged_userns_clone is 0"
        } else if self.apparmor.is_some_and(|n| n != 0) {
            "the sysctl kernel.apparmor_restrict_unprivileged_userns is on"
        } else if self.seccomp || self.container {
            "the container's seccomp profile or its missing CAP_SYS_ADMIN"
        } else {
            "a security module, a chroot or a kernel without user namespaces"
        }
    }

    /// What to run instead.
    fn remedy(&self) -> &'static str {
        if self.container || self.root {
            "run it as root outside the container, or start the container with `docker run --privileged`"
        } else {
            "run `sudo opensesame-spa demo`, or in a container start that with `docker run --privileged`"
        }
    }
}

/// The error where a namespace, or something that belongs to having one, is refused.
pub(super) fn forbidden(what: &str, error: io::Error) -> DemoError {
    let rules = Rules::read();
    let (cause, remedy) = (rules.cause(&error), rules.remedy());
    DemoError::Forbidden(format!(
        "namespaces are forbidden here ({what}: {error}); cause: {cause}. Instead {remedy}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_the_rule_that_forbids() {
        let (perm, full) = (Errno::EPERM.into(), io::Error::from(Errno::ENOSPC));
        let free = Rules { max: Some(96_365), ..Rules::default() };
        let says = |rules: Rules, error, word: &str| {
            let cause = rules.cause(error);
            assert!(cause.contains(word), "{cause:?} lacks {word:?}");
        };
        says(
            Rules { max: Some(0), clone: Some(0), ..free },
            &full,
            "user.max_user_namespaces is 0",
        );
        says(free, &full, "max_net_namespaces");
        says(Rules { clone: Some(0), ..free }, &perm, "unprivileged_userns_clone");
        says(Rules { clone: Some(1), apparmor: Some(1), ..free }, &perm, "apparmor_restrict");
        says(Rules { apparmor: Some(0), container: true, ..free }, &perm, "seccomp");
        says(Rules { apparmor: Some(0), ..free }, &perm, "security module");
    }

    #[test]
    fn the_remedy_is_sudo_unless_that_is_no_help() {
        let user = Rules::default();
        assert!(user.remedy().contains("`sudo opensesame-spa demo`"));
        assert!(!Rules { root: true, ..user }.remedy().contains("sudo"));
        assert!(!Rules { container: true, ..user }.remedy().contains("sudo"));
    }
}
