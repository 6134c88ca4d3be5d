//! How much memory the machine has, and how much this process has used.

/// Bytes a new program could have without pushing others out.
pub fn available_bytes() -> Option<u64> {
    let machine = field("/proc/meminfo", "MemAvailable:")?;
    // A container may be given less than the machine has.
    let limit = number("/sys/fs/cgroup/memory.max");
    let used = number("/sys/fs/cgroup/memory.current");
    let contained = limit
        .zip(used)
        .map(|(limit, used)| limit.saturating_sub(used));
    Some(contained.map_or(machine, |contained| contained.min(machine)))
}

/// Bytes of main memory.
pub fn total_bytes() -> Option<u64> {
    let machine = field("/proc/meminfo", "MemTotal:")?;
    Some(number("/sys/fs/cgroup/memory.max").map_or(machine, |limit| limit.min(machine)))
}

/// The most memory this process has had resident, in bytes.
pub fn peak_bytes() -> Option<u64> {
    field("/proc/self/status", "VmHWM:")
}

/// A line `name  number kB` of a file under /proc, in bytes.
fn field(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").trim().parse().ok()?;
    Some(kibibytes * 1024)
}

fn number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}
