//! What the kernel says of a process.

use std::{fs, time::Duration};

/// Clock ticks in a second, as Linux shows times to programs on every architecture that this runs on.
const USER_HZ: u64 = 100;

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

/// Time that process `pid` has spent on a processor (`utime` and `stime` of `/proc/PID/stat`, proc(5)), to the hundredth
/// of a second.
pub fn processor_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses, which may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1000 / USER_HZ))
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

    #[test]
    fn a_process_that_works_spends_time() {
        let own = || processor_time(std::process::id()).expect("this process is running");
        let before = own();
        while own() == before {
            std::hint::spin_loop();
        }
    }
}
