//! What the kernel says of a running process and its children.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The process and all its descendants.
pub fn family(root: u32) -> Vec<u32> {
    let mut all = vec![root];
    let mut next = 0;
    while next < all.len() {
        let pid = all[next];
        for task in tasks(pid) {
            let children = fs::read_to_string(task.join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|p| p.parse::<u32>().ok()));
        }
        next += 1;
    }
    all
}

/// CPU time of the processes so far, user and system together, to the nanosecond (`/proc/PID/task/TID/schedstat`).
pub fn cpu_time(pids: &[u32]) -> io::Result<Duration> {
    let mut nanos = 0;
    for pid in pids {
        for task in tasks(*pid) {
            let text = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
            nanos += text.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    if nanos == 0 {
        return Err(io::Error::other("the kernel keeps no CPU times in /proc/PID/task/TID/schedstat"));
    }
    Ok(Duration::from_nanos(nanos))
}

/// Resident memory of the processes, in KiB.
pub fn resident_kib(pids: &[u32]) -> u64 {
    pids.iter().filter_map(|pid| resident_of(*pid)).sum()
}

fn resident_of(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|l| l.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn tasks(pid: u32) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/task"));
    entries.into_iter().flatten().flatten().map(|e| e.path()).collect()
}
