//! The clock of a gateway, set wrong.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::Gateway;

/// Steers the clock of a gateway's agents through the file that `FOREBAY_TEST_CLOCK` names.
#[derive(Debug)]
pub struct WrongClock {
    file: PathBuf,
    boot: u64,
    wrong_by: i64,
    synchronised: bool,
}

impl WrongClock {
    /// For `gateway`, whose clock is right and synchronised so far.
    pub fn new(gateway: &mut Gateway) -> Self {
        let file = gateway.path("clock");
        gateway.set("FOREBAY_TEST_CLOCK", file.to_str().expect("a temporary directory has a plain name"));
        let clock = Self { file, boot: 1, wrong_by: 0, synchronised: true };
        clock.write();
        clock
    }

    /// The next boot: with a clock that shows one minute past midnight on 1 January 1970, and nobody has set it yet.
    pub fn boot_in_1970(&mut self) {
        self.boot += 1;
        self.synchronised = false;
        self.wrong_by = 60_000_000 - now_micros();
        self.write();
    }

    /// The next boot, with a clock that is right from the start.
    pub fn boot_well(&mut self) {
        self.boot += 1;
        self.set_right();
    }

    /// The time daemon sets the clock.
    pub fn set_right(&mut self) {
        self.synchronised = true;
        self.wrong_by = 0;
        self.write();
    }

    /// The clock jumps, and the kernel goes on calling it synchronised.
    pub fn jump(&mut self, by: Jump) {
        let micros = |duration: Duration| i64::try_from(duration.as_micros()).expect("a jump of less than an age");
        self.wrong_by += match by {
            Jump::Forward(by) => micros(by),
            Jump::Back(by) => -micros(by),
        };
        self.write();
    }

    fn write(&self) {
        let next = self.file.with_extension("next");
        let text = format!("{} {} {:x}\n", self.wrong_by, self.synchronised, self.boot);
        fs::write(&next, text).and_then(|()| fs::rename(&next, &self.file)).expect("the clock's file can be written");
    }
}

/// Which way a clock jumps, and how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jump {
    /// Into the future.
    Forward(Duration),
    /// Into the past.
    Back(Duration),
}

/// The right time.
pub fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the machine that tests has a clock after 1970");
    since.as_micros() as i64
}
