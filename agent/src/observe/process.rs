//! This process as the kernel sees it.

use std::fs::read_to_string;

/// Resident memory, in bytes (proc(5), `/proc/self/status`).
pub(super) fn resident_bytes() -> Option<u64> {
    let kibibytes = field(&read_to_string("/proc/self/status").ok()?, "VmRSS:")?;
    Some(kibibytes * 1024)
}

/// Bytes that this process caused to be written to storage (proc(5), `/proc/self/io`).
pub(super) fn written_bytes() -> Option<u64> {
    field(&read_to_string("/proc/self/io").ok()?, "write_bytes:")
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory() {
        assert!(resident_bytes().unwrap() > 100_000);
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let io = "wchar: 1\nwrite_bytes: 4096\ncancelled_write_bytes: 7\n";
        assert_eq!(field(io, "write_bytes:"), Some(4096));
        assert_eq!(field(io, "read_bytes:"), None);
    }
}
