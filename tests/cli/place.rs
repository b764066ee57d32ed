//! A directory of its own for each test, and the program run in it.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

pub struct Place {
    dir: TempDir,
}

impl Place {
    pub fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    /// One with a configuration in `s`, whose packet filter is a dry run.
    pub fn with_server() -> Place {
        let place = Place::new();
        place.init(&[]);
        place
    }

    pub fn init(&self, more: &[&str]) -> String {
        let first = ["init", "--dir", "s", "--backend", "dry-run"];
        self.ok(&[&first, more].concat())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Writes a file that nobody else can read.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
        file.as_mut().unwrap().write_all(text.as_ref()).unwrap();
    }

    pub fn mode(&self, name: &str) -> u32 {
        self.path(name).metadata().unwrap().permissions().mode() & 0o7777
    }

    pub fn chmod(&self, name: &str, mode: u32) {
        std::fs::set_permissions(self.path(name), PermissionsExt::from_mode(mode)).unwrap();
    }

    pub fn exists(&self, name: &str) -> bool {
        self.path(name).symlink_metadata().is_ok()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_opensesame-spa"));
        // Who tests over ssh is told more than these tests expect.
        command.env_remove("SSH_CONNECTION");
        command.args(args).current_dir(self.dir.path()).env_clear();
        command.env("HOME", self.dir.path()).env("XDG_CONFIG_HOME", self.path("xdg"));
        command.stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        let out = self.command(args).output().unwrap();
        for text in [&out.stdout, &out.stderr] {
            assert!(!text.contains(&0x1b), "colour codes: {args:?}");
        }
        out
    }

    /// What a run that must succeed prints.
    pub fn ok(&self, args: &[&str]) -> String {
        text(self.run(args), args)
    }

    /// What a run with this stdin prints.
    pub fn ok_with(&self, args: &[&str], input: &str) -> String {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        text(child.wait_with_output().unwrap(), args)
    }

    /// The one line of a run that must fail.
    pub fn fail(&self, args: &[&str]) -> String {
        let out = self.run(args);
        let why = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(1), "{args:?}: {why}");
        assert_eq!(why.lines().count(), 1, "{args:?}: {why}");
        assert!(why.starts_with("error: ") && out.stdout.is_empty(), "{args:?}: {why}");
        why
    }

    /// What a run says that was typed wrongly.
    pub fn usage(&self, args: &[&str]) -> String {
        let out = self.run(args);
        let why = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2), "{args:?}: {why}");
        why
    }

    pub fn check(&self) -> String {
        self.ok(&["serve", "--check", "--config", "s/server.toml"])
    }

    pub fn invite(&self, name: &str, more: &[&str]) -> String {
        self.ok(&[&["invite", name, "--config", "s/server.toml"], more].concat())
    }

    pub fn invite_fails(&self, name: &str, more: &[&str]) -> String {
        self.fail(&[&["invite", name, "--config", "s/server.toml"], more].concat())
    }
}

fn text(out: Output, args: &[&str]) -> String {
    let why = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{args:?}: {} {why}", out.status);
    String::from_utf8(out.stdout).unwrap()
}

/// The base64 texts of keys in a file: what must never be shown.
pub fn secrets(text: &str) -> Vec<String> {
    let quoted = text.split('"').skip(1).step_by(2);
    quoted.filter(|t| t.len() == 44 && t.ends_with('=')).map(Into::into).collect()
}

/// Whether eight characters in a row of one of these secrets stand in a text.
pub fn leak(text: &str, secrets: &[String]) -> Option<String> {
    let runs = secrets.iter().flat_map(|s| (0..s.len() - 7).map(move |i| &s[i..i + 8]));
    runs.into_iter().find(|run| text.contains(run)).map(Into::into)
}
