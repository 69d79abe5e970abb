//! The disk and the clock.

use std::path::Path;

use super::{finding, ok};
use crate::{
    command::{setting::Setting, units},
    config::Config,
    contract::{Finding, Severity},
};

/// Before this, 1 January 2026, no clock is right.
const EARLIEST_US: i64 = 1_767_225_600_000_000;

/// Looks at this machine.
pub(super) fn check(setting: &Setting, config: &Config) -> Vec<Finding> {
    vec![disk(config), clock(setting)]
}

fn disk(config: &Config) -> Finding {
    let path = config.agent.data_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let subject = format!("disk of {}", config.agent.data_dir.display());
    let stat = match rustix::fs::statvfs(path) {
        Ok(stat) => stat,
        Err(error) => return finding(Severity::Error, subject, std::io::Error::from(error).to_string(), ""),
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let used: u64 = ["", "-wal", ".reserve"].iter().map(|suffix| size_of_file(config, suffix)).sum();
    let wanted = config.buffer.max_bytes.saturating_sub(used) + config.buffer.min_free_disk.unwrap_or(0);
    let message = format!("{} free", units::bytes(free));
    if free >= wanted {
        return ok(subject, message);
    }
    let remedy = format!("free {} on it, or lower buffer.max_bytes", units::bytes(wanted - free));
    let message = format!("{message}; the buffer may still grow by {}", units::bytes(wanted));
    finding(Severity::Warning, subject, message, remedy)
}

fn size_of_file(config: &Config, suffix: &str) -> u64 {
    let mut path = config.buffer.path.clone().into_os_string();
    path.push(suffix);
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn clock(setting: &Setting) -> Finding {
    let now = setting.clock.now();
    let shown = units::time(now.wall);
    if now.wall.0 < EARLIEST_US {
        let message = format!("says {shown}, which cannot be");
        return finding(Severity::Error, "clock", message, "start a time service: timedatectl set-ntp true");
    }
    if !now.synchronised {
        let message = format!("says {shown}, but the kernel does not call it synchronised: times are marked so");
        let remedy = "start a time service (timedatectl set-ntp true); max_age waits until then";
        return finding(Severity::Warning, "clock", message, remedy);
    }
    ok("clock", format!("synchronised, {shown}"))
}
