//! A program that writes a log, and the log rotation that comes with it.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread::sleep,
    time::Duration,
};

use serde_json::json;

use crate::{
    harness::{Ledger, Outcome, wait_until},
    random::Random,
};

/// How the log is rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// `app.log` becomes `app.log.1`, that `app.log.2`, and so on. The program goes on writing to the renamed file for
    /// a few lines, then makes a new one.
    Count,
    /// As [`Rotation::Count`], but the new name ends in a date.
    Date,
    /// The file is copied and cut to nothing. What was not read before the cut is lost to any reader, so this waits
    /// until all of it was delivered, and makes the file grow again only when its first new line was.
    CopyTruncate,
}

/// One log. Its lines are JSON objects with an `id`.
pub struct LogWriter<'a> {
    /// The file.
    pub path: PathBuf,
    /// What its ids begin with.
    pub lane: String,
    /// How it is rotated.
    pub rotation: Rotation,
    /// Where its lines are entered.
    pub ledger: &'a Ledger,
    /// Chooses moments and sizes.
    pub random: Random,
    /// Whether the event with this id has reached the destination.
    pub delivered: &'a (dyn Fn(&str) -> bool + Sync),
}

impl LogWriter<'_> {
    /// Writes until `stop`.
    pub fn run(mut self, stop: &AtomicBool) {
        let mut file = open(&self.path);
        let (mut next, mut rotations) = (0, 0);
        // A file that is renamed to what nobody follows before anybody saw it cannot be found.
        self.write(&mut file, &mut next, 1);
        self.wait_delivered(next);
        while !stop.load(Ordering::Relaxed) {
            let count = 1 + self.random.below(20);
            self.write(&mut file, &mut next, count);
            if self.random.one_in(40) {
                rotations += 1;
                file = self.rotate(file, &mut next, rotations);
            }
            sleep(Duration::from_micros(self.random.below(20_000)));
        }
    }

    /// Writes whole lines, each sometimes in two pieces: a reader must not take the first for a line.
    fn write(&mut self, file: &mut File, next: &mut u64, count: u64) {
        for _ in 0..count {
            let id = format!("{}:{next}", self.lane);
            *next += 1;
            let line = json!({"id": id, "raw": self.random.bits()}).to_string() + "\n";
            let cut = if self.random.one_in(4) { self.random.below(line.len() as u64) as usize } else { 0 };
            for piece in [&line[..cut], &line[cut..]] {
                file.write_all(piece.as_bytes()).expect("the log can be written");
            }
            self.ledger.enter(vec![id], Outcome::Acknowledged);
        }
    }

    fn rotate(&mut self, mut file: File, next: &mut u64, rotations: u32) -> File {
        match self.rotation {
            Rotation::CopyTruncate => {
                self.wait_delivered(*next);
                file.set_len(0).expect("the log can be cut");
                self.write(&mut file, next, 1);
                self.wait_delivered(*next);
                return file;
            }
            Rotation::Count => {
                for number in (0..rotations).rev() {
                    self.rename(number, number + 1);
                }
            }
            Rotation::Date => {
                let rotated = self.path.with_extension(format!("log-2026{rotations:04}"));
                fs::rename(&self.path, rotated).expect("the log can be renamed");
            }
        }
        let late = self.random.below(5);
        self.write(&mut file, next, late);
        open(&self.path)
    }

    /// Renames the file that was rotated `from` times; 0 is the log itself.
    fn rename(&self, from: u32, to: u32) {
        let name = |number: u32| match number {
            0 => self.path.clone(),
            _ => self.path.with_extension(format!("log.{number}")),
        };
        fs::rename(name(from), name(to)).expect("the log can be renamed");
    }

    /// Waits until the last line before number `next` was delivered.
    fn wait_delivered(&self, next: u64) {
        let last = format!("\"{}:{}\"", self.lane, next - 1);
        wait_until("the log's last line to be delivered", || (self.delivered)(&last));
    }
}

fn open(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).expect("the log can be opened")
}
