//! Notices changes in the clients' directory (inotify(7)).

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// A watch on one directory.
pub(in crate::daemon) struct Watch {
    inotify: Inotify,
    /// The directory is gone: another one of its name has to be watched anew.
    over: bool,
}

impl Watch {
    /// Watches a directory; nothing where that is not possible, and the log says so: `reload` and
    /// SIGHUP do the same.
    pub(in crate::daemon) fn new(dir: &Path) -> Option<Watch> {
        let flags = InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC;
        let events = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_ONLYDIR;
        let watch = Inotify::init(flags).and_then(|i| i.add_watch(dir, events).map(|_| i));
        let watch = watch.map(|inotify| Watch { inotify, over: false });
        watch.inspect_err(|e| log::warn!("no watch on {}: {e}", dir.display())).ok()
    }

    pub(in crate::daemon) fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Whether a client's file may have changed.
    pub(in crate::daemon) fn drain(&mut self) -> bool {
        let mut any = false;
        while let Ok(events) = self.inotify.read_events() {
            self.over |= events.iter().any(|e| e.mask.contains(AddWatchFlags::IN_IGNORED));
            any |= events.iter().any(|e| {
                let name = e.name.as_ref().and_then(|n| n.to_str());
                // An overflow has no name, and may have hidden anything.
                name.is_none_or(|n| n.ends_with(".toml"))
            });
        }
        any
    }

    /// Whether nothing will be noticed any more.
    pub(in crate::daemon) fn is_over(&self) -> bool {
        self.over
    }
}
