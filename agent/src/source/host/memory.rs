//! Memory and swap: `/proc/meminfo` (proc_meminfo(5)).

use std::{io, path::Path};

use serde::Serialize;

use super::{number, text, unexpected};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Body {
    total_bytes: u64,
    /// Total without what is available.
    used_bytes: u64,
    /// What programs can still get without swapping.
    available_bytes: u64,
    free_bytes: u64,
    swap_total_bytes: u64,
    swap_used_bytes: u64,
}

pub(super) fn read(root: &Path) -> io::Result<Body> {
    parse(&text(root, "proc/meminfo")?).ok_or_else(|| unexpected("proc/meminfo"))
}

fn parse(text: &str) -> Option<Body> {
    let bytes = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kibibytes: u64 = number(line.split_whitespace().next())?;
        kibibytes.checked_mul(1024)
    };
    let (total_bytes, free_bytes) = (bytes("MemTotal")?, bytes("MemFree")?);
    // Kernels before 3.14 do not say what is available.
    let available_bytes = bytes("MemAvailable").unwrap_or(free_bytes);
    let swap_total_bytes = bytes("SwapTotal").unwrap_or(0);
    Some(Body {
        total_bytes,
        used_bytes: total_bytes.saturating_sub(available_bytes),
        available_bytes,
        free_bytes,
        swap_total_bytes,
        swap_used_bytes: swap_total_bytes.saturating_sub(bytes("SwapFree").unwrap_or(0)),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn used_is_what_is_not_available() {
        let text = "MemTotal:   2000 kB\nMemFree: 100 kB\nMemAvailable: 500 kB\nSwapTotal: 30 kB\nSwapFree: 10 kB\n";
        let body = parse(text).expect("as the kernel writes it");
        assert_eq!((body.total_bytes, body.used_bytes), (2_048_000, 1_536_000));
        assert_eq!((body.swap_total_bytes, body.swap_used_bytes), (30_720, 20_480));
        assert_eq!(parse("MemTotal: 1 kB\nMemFree: 1 kB\n").map(|body| body.used_bytes), Some(0));
        assert_eq!(parse("MemTotal: 1 kB\n"), None);
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "((MemTotal|MemFree|SwapTotal|SwapFree):? *[0-9]{0,25} kB\n|\\PC{0,20}\n){0,6}") {
            let _ = parse(&text);
        }
    }
}
