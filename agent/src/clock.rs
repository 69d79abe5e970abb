//! The clocks behind [`Clock`]: the machine's own, one that tests set, and one that a file steers.
//!
//! Whether the wall clock can be believed is the kernel's to say: every time daemon (timesyncd, chrony with `rtcsync`,
//! ntpd, busybox) clears `STA_UNSYNC` in `adjtimex(2)` once it has set the clock, and the kernel sets it again when the
//! clock is set by hand or nobody has corrected it for about nine hours. No file in `/proc` or `/sys` shows the flag.
//! `rtime-clock` has the one safe call for it that we found, but its other modules assume a 64-bit `long`, so it is
//! used on 64-bit targets only. Elsewhere, and where a seccomp filter forbids the call (systemd's `ProtectClock=yes`
//! does), the mark that timesyncd leaves in `/run` decides. Without either the clock counts as not synchronised: that
//! is the safe side, for then no age is acted upon and every time is marked.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use forebay_buffer::{
    Timestamp,
    clock::{Clock, Reading},
};
use rustix::time::{ClockId, Timespec, clock_gettime};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Made by systemd-timesyncd when it first synchronises in this boot (systemd-timesyncd.service(8), "Files").
const TIMESYNCD_MARK: &str = "/run/systemd/timesync/synchronized";

/// The machine's own clocks.
#[derive(Debug)]
pub struct SystemClock {
    boot_id: u128,
}

impl SystemClock {
    /// Reads the boot id once. Where there is none, a random one makes this run a boot of its own.
    pub fn new() -> Self {
        let known = fs::read_to_string(BOOT_ID).ok().and_then(|text| parse_boot_id(&text));
        Self { boot_id: known.unwrap_or_else(random_id) }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Reading {
        let since_boot = clock_gettime(ClockId::Boottime);
        let wall = clock_gettime(ClockId::Realtime);
        Reading {
            wall: Timestamp(micros(wall)),
            since_boot: Duration::from_micros(u64::try_from(micros(since_boot)).unwrap_or_default()),
            synchronised: kernel_says_synchronised().unwrap_or_else(|| Path::new(TIMESYNCD_MARK).exists()),
        }
    }

    fn boot_id(&self) -> u128 {
        self.boot_id
    }
}

#[cfg(target_pointer_width = "64")]
fn kernel_says_synchronised() -> Option<bool> {
    /// `STA_UNSYNC` of linux/timex.h.
    const UNSYNCHRONISED: i32 = 0x40;
    let mut query = rtime_clock::adjtime::Timex::new();
    rtime_clock::adjtime::adjtimex(&mut query).ok()?;
    Some(query.0.status & UNSYNCHRONISED == 0)
}

#[cfg(not(target_pointer_width = "64"))]
fn kernel_says_synchronised() -> Option<bool> {
    None
}

fn micros(time: Timespec) -> i64 {
    // The fields' widths differ between targets.
    #[allow(clippy::useless_conversion)]
    let (seconds, nanos) = (i64::from(time.tv_sec), i64::from(time.tv_nsec));
    seconds.saturating_mul(1_000_000).saturating_add(nanos / 1_000)
}

fn parse_boot_id(text: &str) -> Option<u128> {
    u128::from_str_radix(&text.trim().replace('-', ""), 16).ok()
}

fn random_id() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("a Linux kernel always has random bytes for a running process");
    u128::from_be_bytes(bytes)
}

/// A clock that stands still until it is moved. For tests.
#[derive(Debug)]
pub struct ManualClock {
    state: Mutex<(Reading, u128)>,
}

impl ManualClock {
    /// A synchronised clock that shows `wall`, one minute after boot.
    pub fn new(wall: Timestamp) -> Self {
        let reading = Reading { wall, since_boot: Duration::from_secs(60), synchronised: true };
        Self { state: Mutex::new((reading, 1)) }
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        let (reading, _) = &mut *self.state();
        reading.since_boot += by;
        reading.wall.0 += i64::try_from(by.as_micros()).expect("tests advance by less than the age of the universe");
    }

    /// Sets the wall clock, as an operator or a time daemon would: the time since boot goes on.
    pub fn set_wall(&self, wall: Timestamp) {
        self.state().0.wall = wall;
    }

    /// Sets what the kernel says of the wall clock.
    pub fn set_synchronised(&self, synchronised: bool) {
        self.state().0.synchronised = synchronised;
    }

    /// Begins another boot.
    pub fn reboot(&self) {
        let (reading, boot_id) = &mut *self.state();
        reading.since_boot = Duration::ZERO;
        *boot_id += 1;
    }

    fn state(&self) -> MutexGuard<'_, (Reading, u128)> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Reading {
        self.state().0
    }

    fn boot_id(&self) -> u128 {
        self.state().1
    }
}

/// The machine's clocks, shifted by what a file says: how an end-to-end test gives a whole process a wrong clock.
///
/// The file holds `OFFSET_US SYNCHRONISED [BOOT_ID]`: microseconds added to the wall clock, `true` or `false`, and a
/// boot id in hexadecimal. It is read at each look, so that a test can let the clock jump; a file that cannot be
/// understood (it is being replaced) leaves things as they were.
#[derive(Debug)]
pub struct FileClock {
    path: PathBuf,
    system: SystemClock,
    last: Mutex<Steering>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Steering {
    offset_us: i64,
    synchronised: bool,
    boot_id: Option<u128>,
}

impl FileClock {
    /// Steered by the file at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let unsteered = Steering { offset_us: 0, synchronised: false, boot_id: None };
        Self { path: path.into(), system: SystemClock::new(), last: Mutex::new(unsteered) }
    }

    fn steering(&self) -> Steering {
        let mut last = self.last.lock().expect("no holder of this lock panics");
        if let Some(steering) = fs::read_to_string(&self.path).ok().and_then(|text| Steering::parse(&text)) {
            *last = steering;
        }
        *last
    }
}

impl Steering {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let offset_us = words.next()?.parse().ok()?;
        let synchronised = words.next()?.parse().ok()?;
        let boot_id = words.next().map(parse_boot_id);
        if boot_id == Some(None) {
            return None;
        }
        Some(Self { offset_us, synchronised, boot_id: boot_id.flatten() })
    }
}

impl Clock for FileClock {
    fn now(&self) -> Reading {
        let steering = self.steering();
        let mut reading = self.system.now();
        reading.wall.0 = reading.wall.0.saturating_add(steering.offset_us);
        reading.synchronised = steering.synchronised;
        reading
    }

    fn boot_id(&self) -> u128 {
        self.steering().boot_id.unwrap_or_else(|| self.system.boot_id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_goes_forward_and_knows_its_boot() {
        let clock = SystemClock::new();
        let (first, second) = (clock.now(), clock.now());
        assert!(second.since_boot >= first.since_boot);
        assert!(first.since_boot > Duration::ZERO);
        let year_2020 = 1_577_836_800_000_000;
        assert!(first.wall.0 > year_2020, "the wall clock is in microseconds");
        assert_eq!(clock.boot_id(), SystemClock::new().boot_id());
    }

    #[test]
    fn a_boot_id_is_read_as_the_kernel_writes_it() {
        let text = "00000000-0000-0000-0000-0000000000ff\n";
        assert_eq!(parse_boot_id(text), Some(255));
        assert_eq!(parse_boot_id("none"), None);
    }

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = ManualClock::new(Timestamp(5));
        let before = clock.now();
        clock.advance(Duration::from_micros(10));
        assert_eq!(clock.now().wall, Timestamp(15));
        clock.set_wall(Timestamp(0));
        clock.set_synchronised(false);
        assert_eq!(clock.now().since_boot, before.since_boot + Duration::from_micros(10));
        assert!(!clock.now().synchronised);
        let boot = clock.boot_id();
        clock.reboot();
        assert_ne!(clock.boot_id(), boot);
    }

    #[test]
    fn a_file_steers_the_clock_and_a_torn_file_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("clock");
        let clock = FileClock::new(&path);
        assert!(!clock.now().synchronised);
        let year_us = 365 * 86_400_000_000_i64;
        for (text, synchronised) in [(format!("{year_us} true ff"), true), ("31".to_owned(), true)] {
            fs::write(&path, text).expect("a write");
            let reading = clock.now();
            let ahead = reading.wall.0 - SystemClock::new().now().wall.0;
            assert!((ahead - year_us).abs() < 60_000_000, "it is a year ahead, not {ahead} us");
            assert_eq!((reading.synchronised, clock.boot_id()), (synchronised, 255));
        }
    }
}
