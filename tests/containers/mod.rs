//! A Docker engine that knows nothing of the machine's own, in a network namespace that the test has
//! made. Nothing outlives the `Engine`.
#![allow(dead_code, unreachable_pub)]

use crate::netns::Guard;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Runs a command, which must succeed: what it printed.
pub fn done(command: &mut Command) -> String {
    let shown = format!("{command:?}");
    let Output { status, stdout, stderr } = command.output().expect(&shown);
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{shown}: {status}\n{out}\n{err}");
    out.into_owned()
}

pub struct Engine {
    namespace: String,
    dir: PathBuf,
    daemon: Option<Guard>,
}

impl Engine {
    /// Starts it in that network namespace.
    pub fn start(namespace: String) -> Engine {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("os-docker-{}-{n}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("daemon.json"), "{}").unwrap();
        let mut engine = Engine { namespace, dir, daemon: None };
        engine.run();
        engine
    }

    fn run(&mut self) {
        let log = fs::File::create(self.dir.join("log")).unwrap();
        // Not `ip netns exec`: that hides the control groups.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace)).arg("dockerd");
        for (option, name) in [
            ("--config-file", "daemon.json"),
            ("--data-root", "data"),
            ("--exec-root", "exec"),
            ("--pidfile", "pid"),
        ] {
            command.arg(option).arg(self.dir.join(name));
        }
        command.arg("-H").arg(self.socket()).args(["--storage-driver", "vfs"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.daemon = Some(Guard(command.spawn().unwrap()));
        for _ in 0..600 {
            if self.docker(&["info"]).output().unwrap().status.success() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("no engine: {}", fs::read_to_string(self.dir.join("log")).unwrap());
    }

    /// It ends its containers, their network and its helpers.
    fn end(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = Command::new("kill").arg(daemon.0.id().to_string()).output();
            let _ = daemon.0.wait();
        }
    }

    pub fn restart(&mut self) {
        self.end();
        self.run();
    }

    pub fn socket(&self) -> String {
        format!("unix://{}", self.dir.join("sock").display())
    }

    pub fn docker(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(["-H", &self.socket()]).args(args).current_dir(env!("CARGO_MANIFEST_DIR"));
        command
    }

    pub fn inspect(&self, name: &str, what: &str) -> String {
        done(&mut self.docker(&["inspect", "-f", what, name])).trim().to_string()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.end();
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        for mount in mounts.lines().filter_map(|l| l.split(' ').nth(1)) {
            if Path::new(mount).starts_with(&self.dir) {
                let _ = Command::new("umount").arg(mount).output();
            }
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}
