//! A private directory that goes away with the demo.

use super::DemoError;
use std::path::{Path, PathBuf};

/// The directory, 0700; everything in it is deleted when this is dropped.
pub(super) struct Place(PathBuf);

impl Place {
    /// In /run where that is the demo's own tmpfs, which even a killed demo cannot leave behind;
    /// else where temporary files go.
    pub(super) fn new(tmpfs: bool) -> Result<Place, DemoError> {
        let parent = if tmpfs { PathBuf::from("/run") } else { std::env::temp_dir() };
        nix::unistd::mkdtemp(&parent.join("opensesame-XXXXXX"))
            .map(Place)
            .map_err(|e| DemoError::Stage(format!("no directory in {}: {e}", parent.display())))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The path of a file in it, as an argument.
    pub(super) fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_dir_all(&self.0) {
            eprintln!("could not delete {}: {e}", self.0.display());
        }
    }
}
