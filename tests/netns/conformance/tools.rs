//! Programs in the place of the system's: each is counted, does what a test wants, and then what the
//! system's does.

use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// A directory with iptables, ip6tables, their restores and saves in both variants, and ipset.
pub struct Tools(TempDir);

impl Tools {
    /// The lines are shell: `$me` is the program's name, `$n` counts the calls of all, `$at` and `$d`
    /// are what [`Tools::set`] has written and where.
    pub fn new(lines: &str) -> Tools {
        let dir = tempfile::tempdir().unwrap();
        let names = ["iptables", "ip6tables"].iter().flat_map(|base| {
            ["-nft", "-nft-restore", "-nft-save", "-legacy", "-legacy-restore", "-legacy-save"]
                .map(|v| format!("{base}{v}"))
        });
        for name in names.chain(["ipset".to_string()]) {
            let d = dir.path().display();
            let text = format!(
                "#!/bin/sh\nd={d}\nme={name}\nread n < $d/calls\nn=$((n + 1))\necho $n > $d/calls\n\
                 read at < $d/at\n{lines}\nexec /usr/sbin/{name} \"$@\"\n"
            );
            // Written by another process: a program that is open for writing does not start.
            let write = "printf %s \"$1\" > \"$2\" && chmod 755 \"$2\"";
            let path = dir.path().join(name);
            let done = Command::new("sh").args(["-c", write, "sh", &text]).arg(&path).status();
            assert!(done.unwrap().success());
        }
        let tools = Tools(dir);
        tools.set("calls", 0);
        tools.set("at", 0);
        tools
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn set(&self, name: &str, value: usize) {
        std::fs::write(self.path().join(name), format!("{value}\n")).unwrap();
    }

    pub fn get(&self, name: &str) -> usize {
        std::fs::read_to_string(self.path().join(name)).unwrap().trim().parse().unwrap()
    }
}
