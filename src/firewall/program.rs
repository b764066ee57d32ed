//! Runs the system's own tools: by absolute path, with an empty environment, for a limited time.

use super::Error;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// The most bytes that are read of what a tool prints.
const MOST: u64 = 64 << 20;

/// A program of the system, found once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Program {
    path: PathBuf,
}

/// How a program ended, and what it said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    /// Its exit code; none if a signal ended it.
    pub(super) code: Option<i32>,
    /// What it printed.
    pub(super) out: String,
    /// What it complained about.
    pub(super) err: String,
}

impl Program {
    /// The first executable file of that name.
    pub(super) fn find(directories: &[PathBuf], name: &str) -> Option<Program> {
        let runs = |path: &PathBuf| {
            std::fs::metadata(path)
                .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        };
        directories.iter().map(|d| d.join(name)).find(runs).map(|path| Program { path })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs it with these arguments and this input until it has ended.
    ///
    /// # Errors
    /// When it does not start; [`Error::Busy`] if it took longer than `limit`, and then it is dead.
    pub(super) fn ask(
        &self,
        limit: Duration,
        arguments: &[&str],
        input: &str,
    ) -> Result<Answer, Error> {
        let name = self.path.display();
        let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
        let child = Command::new(&self.path)
            .args(arguments)
            .env_clear()
            .current_dir("/")
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.map_err(|e| {
            let full = [ErrorKind::WouldBlock, ErrorKind::OutOfMemory].contains(&e.kind());
            match e.kind() == ErrorKind::NotFound {
                true => Error::Missing(format!("{name}: {e}; install it again")),
                false if full => Error::Busy(format!("{name}: {e}")),
                false => Error::Refused(format!("{name} does not start: {e}")),
            }
        })?;
        match attend(&mut child, limit, input) {
            Some(answer) => Ok(answer),
            None => {
                // It may be gone already; then there is nothing to kill.
                let _ = child.kill();
                let _ = child.wait();
                Err(Error::Busy(format!("{name} took more than {limit:?} and was ended")))
            }
        }
    }
}

/// Feeds the child and listens to it until it has ended, or not within the limit.
fn attend(child: &mut Child, limit: Duration, input: &str) -> Option<Answer> {
    let (send, receive) = mpsc::channel();
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.as_bytes().to_vec();
        // A tool that stops reading says itself why.
        let feed = move || drop(stdin.write_all(&input));
        std::thread::Builder::new().spawn(feed).ok()?;
    }
    let streams: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|s| Box::new(s) as Box<dyn Read + Send>),
        child.stderr.take().map(|s| Box::new(s) as Box<dyn Read + Send>),
    ];
    let mut texts = [String::new(), String::new()];
    for (which, stream) in streams.into_iter().enumerate() {
        let (send, stream) = (send.clone(), stream?);
        let listen = move || {
            let mut bytes = Vec::new();
            // What was read before an error is still what it said.
            let _ = stream.take(MOST).read_to_end(&mut bytes);
            let _ = send.send((which, String::from_utf8_lossy(&bytes).into_owned()));
        };
        std::thread::Builder::new().spawn(listen).ok()?;
    }
    for _ in 0..texts.len() {
        let (which, text) = receive.recv_timeout(limit).ok()?;
        texts[which] = text;
    }
    let step = Duration::from_millis(1);
    for _ in 0..limit.as_millis() {
        match child.try_wait() {
            Ok(Some(status)) => {
                let [out, err] = texts;
                return Some(Answer { code: status.code(), out, err });
            }
            Ok(None) => std::thread::sleep(step),
            Err(_) => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(text: &str) -> (tempfile::TempDir, Program) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tool");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let found = Program::find(&[dir.path().to_path_buf()], "tool").unwrap();
        (dir, found)
    }

    /// Another thread of this process may be between fork and exec, with the script still open
    /// for writing.
    fn ask(tool: &Program, seconds: u64, arguments: &[&str], input: &str) -> Result<Answer, Error> {
        loop {
            match tool.ask(Duration::from_secs(seconds), arguments, input) {
                Err(Error::Refused(text)) if text.contains("Text file busy") => {}
                other => return other,
            }
        }
    }

    #[test]
    fn it_hears_the_input_and_no_environment() {
        let (_dir, tool) = script("cat; echo \"$1|$CARGO_MANIFEST_DIR\"");
        let big = "x".repeat(300_000);
        let answer = ask(&tool, 10, &["a b;c"], &big).unwrap();
        let out = format!("{big}a b;c|\n");
        assert_eq!(answer, Answer { code: Some(0), out, err: String::new() });
    }

    #[test]
    fn it_says_how_the_tool_ended_whatever_that_means() {
        let (_dir, tool) = script("echo one; echo two >&2; exit 255");
        let said = |text: &str| text.to_string();
        let answer = Answer { code: Some(255), out: said("one\n"), err: said("two\n") };
        assert_eq!(ask(&tool, 10, &[], "unread").unwrap(), answer);
    }

    #[test]
    fn a_tool_that_hangs_is_ended() {
        let (dir, tool) = script("echo $$ > \"${0%/*}/pid\"; exec sleep 1000");
        let result = ask(&tool, 1, &[], "");
        assert!(
            matches!(&result, Err(Error::Busy(t)) if t.ends_with("1s and was ended")),
            "{result:?}"
        );
        // On a slow machine it may have been ended before it wrote its number.
        if let Ok(pid) = std::fs::read_to_string(dir.path().join("pid")) {
            assert!(pid.is_empty() || !Path::new("/proc").join(pid.trim()).exists());
        }
    }

    #[test]
    fn what_is_not_executable_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tool"), "").unwrap();
        assert_eq!(Program::find(&[dir.path().to_path_buf()], "tool"), None);
    }
}
