//! `completions` and `man`: made out of the definitions.

use super::print;
use clap::Command;
use std::path::Path;

pub(super) fn completions(mut command: Command, shell: clap_complete::Shell) -> Result<(), String> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut command, "opensesame-spa", &mut out);
    print(&String::from_utf8_lossy(&out))
}

/// One page for the program and one for each subcommand.
pub(super) fn man(command: Command, dir: &Path) -> Result<(), String> {
    let wrong = |e| format!("{}: {e}", dir.display());
    std::fs::create_dir_all(dir).map_err(wrong)?;
    clap_mangen::generate_to(command, dir).map_err(wrong)
}
