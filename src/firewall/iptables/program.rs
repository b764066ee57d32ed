//! Runs the system's own tools: by absolute path, with an empty environment, for a limited time.

use crate::firewall::Error;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// How long a tool may take; the lock is waited for within it.
const LIMIT: Duration = Duration::from_secs(10);

/// How long iptables waits for another one's lock, in seconds (`-w`, iptables(8)).
pub(super) const WAIT: &str = "5";

/// The most bytes that are read of what a tool prints.
const MOST: u64 = 64 << 20;

/// A program of the system, found once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Program {
    path: PathBuf,
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

    /// Runs it with these arguments and this input, and returns what it printed.
    ///
    /// # Errors
    /// What it said if it failed; [`Error::Busy`] if it took too long, and then it is dead.
    pub(super) fn run(&self, arguments: &[&str], input: &str) -> Result<String, Error> {
        self.run_for(LIMIT, arguments, input)
    }

    fn run_for(&self, limit: Duration, arguments: &[&str], input: &str) -> Result<String, Error> {
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
            Some((status, out, _)) if status.success() => Ok(out),
            Some((status, _, err)) => Err(refusal(&name.to_string(), status.code(), &err)),
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
fn attend(child: &mut Child, limit: Duration, input: &str) -> Option<(ExitStatus, String, String)> {
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
                return Some((status, out, err));
            }
            Ok(None) => std::thread::sleep(step),
            Err(_) => return None,
        }
    }
    None
}

/// What a tool that failed means. The legacy variant says 4 for its lock, the nf_tables variant
/// says 4 for nearly everything (iptables sources, `xtables.h` and `nft.c`), so the text decides.
fn refusal(name: &str, code: Option<i32>, said: &str) -> Error {
    let has = |texts: &[&str]| texts.iter().any(|t| said.contains(t));
    let text: String = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = text.chars().take(400).collect();
    let code = code.map_or("a signal".to_string(), |c| c.to_string());
    if has(&["Permission denied", "Operation not permitted", "must be root"]) {
        return Error::Rights;
    }
    if has(&["xtables lock", "Resource temporarily unavailable", "Device or resource busy"]) {
        return Error::Busy(format!(
            "{name}: {short}; another program holds the packet filter, the next try waits again"
        ));
    }
    if has(&["do you need to insmod", "Couldn't load", "Cannot open session to kernel"]) {
        return Error::Missing(format!(
            "{name}: {short}; load the kernel module or install the tool's extensions"
        ));
    }
    if has(&["is incompatible"]) {
        return Error::Refused(format!(
            "{name}: {short}; rules of nft are in that table: choose the nftables backend"
        ));
    }
    Error::Refused(format!("{name} ended with {code}: {short}"))
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
    fn run(tool: &Program, arguments: &[&str], input: &str) -> Result<String, Error> {
        loop {
            match tool.run(arguments, input) {
                Err(Error::Refused(text)) if text.contains("Text file busy") => {}
                other => return other,
            }
        }
    }

    #[test]
    fn it_hears_the_input_and_no_environment() {
        let (_dir, tool) = script("cat; echo \"$1|$CARGO_MANIFEST_DIR\"");
        let big = "x".repeat(300_000);
        assert_eq!(run(&tool, &["a b;c"], &big).unwrap(), format!("{big}a b;c|\n"));
    }

    #[test]
    fn a_tool_that_hangs_is_ended() {
        let (dir, tool) = script("echo $$ > \"${0%/*}/pid\"; exec sleep 1000");
        let limit = Duration::from_secs(1);
        let mut result = tool.run_for(limit, &[], "");
        while matches!(&result, Err(Error::Refused(t)) if t.contains("Text file busy")) {
            result = tool.run_for(limit, &[], "");
        }
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

    #[test]
    fn failures_say_what_to_do() {
        let (_dir, tool) = script("echo 'it is   broken' >&2; exit 2");
        let Err(Error::Refused(text)) = run(&tool, &[], "unread") else { panic!() };
        assert!(text.ends_with("tool ended with 2: it is broken"), "{text}");
        let lock = "Another app is currently holding the xtables lock; still 0s 0us";
        assert!(matches!(refusal("t", Some(4), lock), Error::Busy(_)));
        assert_eq!(refusal("t", Some(4), "Permission denied (you must be root)"), Error::Rights);
        assert_eq!(refusal("t", Some(1), "Kernel error: Operation not permitted"), Error::Rights);
        let set = "Couldn't load match `set':No such file or directory";
        assert!(matches!(refusal("t", Some(2), set), Error::Missing(_)));
        assert!(matches!(refusal("t", Some(4), "RULE_APPEND failed"), Error::Refused(_)));
        let mixed = refusal("t", Some(1), "table `mangle' is incompatible, use 'nft' tool.");
        assert!(mixed.to_string().ends_with("choose the nftables backend"), "{mixed}");
    }
}
