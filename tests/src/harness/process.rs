//! What the kernel says of a process.

use std::fs;

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Resident now (`VmRSS`).
    pub resident: u64,
    /// The most that was ever resident (`VmHWM`).
    pub peak: u64,
}

/// Memory of process `pid`. `None` if it is gone.
pub fn memory(pid: u32) -> Option<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kibibytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    Some(Memory { resident: kibibytes("VmRSS")? * 1024, peak: kibibytes("VmHWM")? * 1024 })
}

/// Bytes that process `pid` has caused to be written to storage (`write_bytes` of `/proc/PID/io`, proc(5)).
pub fn written_bytes(pid: u32) -> Option<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    io.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_can_be_asked_for_its_memory() {
        let own = memory(std::process::id()).expect("this process is running");
        assert!(own.resident > 0 && own.peak >= own.resident);
    }
}
