//! What the processes of a server cost: processor time, wake-ups, memory.

use nix::unistd::{SysconfVar, sysconf};
use std::time::Duration;

fn of(pid: u32, file: &str) -> String {
    // Who ends meanwhile costs no more.
    std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default()
}

/// User and system time of processes, with that of children that have ended: fwknopd and letmein
/// run their tools so.
pub fn spent(pids: &[u32]) -> Duration {
    let second = sysconf(SysconfVar::CLK_TCK).unwrap().unwrap() as f64;
    let ticks =
        |fields: &[u64]| Duration::from_secs_f64(fields.iter().sum::<u64>() as f64 / second);
    let one = |pid: &u32| -> Option<Duration> {
        // proc_pid_stat(5): fields 14 to 17, counted from the name's end, which is field 2; a tick is
        // coarse, so a kernel that counts a thread's time in ns is asked for it.
        let text = of(*pid, "stat");
        let fields = text.rsplit(") ").next()?.split(' ').skip(11).take(4);
        let fields: Vec<u64> = fields.filter_map(|f| f.parse().ok()).collect();
        let (own, children) = fields.split_at_checked(2)?;
        Some(exact(*pid).unwrap_or_else(|| ticks(own)) + ticks(children))
    };
    pids.iter().filter_map(one).sum()
}

/// What the scheduler has counted for the threads of a process, where it does.
fn exact(pid: u32) -> Option<Duration> {
    let mut sum = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        sum += text.split(' ').next()?.parse::<u64>().ok()?;
    }
    (sum > 0).then(|| Duration::from_nanos(sum))
}

/// How often all threads of processes have been put on a processor or off it, by their own will or not.
pub fn switches(pids: &[u32]) -> u64 {
    let mut sum = 0;
    for pid in pids {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let text = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let lines = text.lines().filter(|l| l.contains("ctxt_switches:"));
            sum +=
                lines.filter_map(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok()).sum::<u64>();
        }
    }
    sum
}

/// Proportional set size: what is shared counts for each its part. kB.
pub fn pss(pids: &[u32]) -> u64 {
    let one = |pid: &u32| -> Option<u64> {
        let text = of(*pid, "smaps_rollup");
        let line = text.lines().find_map(|l| l.strip_prefix("Pss:"))?;
        line.split_whitespace().next()?.parse().ok()
    };
    pids.iter().filter_map(one).sum()
}
