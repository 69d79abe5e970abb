//! Random writes, rotations, truncations, stops and kills, held against what was written.

use std::{fs, time::Duration};

use super::Case;

/// A small generator: a failing seed is printed, and gives the same run again.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// What a run of random writes, rotations, stops and kills has written so far.
struct Written {
    lines: Vec<String>,
    /// Bytes of the last line that were written without its end.
    is_torn: bool,
}

impl Written {
    fn write(&mut self, case: &Case, name: &str, random: &mut Random) {
        let mut text = String::new();
        for _ in 0..=random.below(40) {
            let line = format!("line {} {}", self.lines.len(), "x".repeat(random.below(300) as usize));
            let line = if std::mem::take(&mut self.is_torn) { "...".to_owned() } else { self.begin(line) };
            text += &(line + "\n");
        }
        if random.below(3) == 0 {
            text += &self.begin(format!("torn {}", self.lines.len()));
            self.is_torn = true;
            self.lines.last_mut().expect("it was begun").push_str("...");
        }
        case.write(name, &text);
    }

    fn begin(&mut self, line: String) -> String {
        self.lines.push(line.clone());
        line
    }

    /// Nobody will end the last line.
    fn cut(&mut self) {
        if std::mem::take(&mut self.is_torn) {
            let last = self.lines.last_mut().expect("it is torn");
            last.truncate(last.len() - "...".len());
        }
    }

    fn end(&mut self, case: &Case, name: &str) {
        if std::mem::take(&mut self.is_torn) {
            case.write(name, "...\n");
        }
    }

    /// How many lines can be read by now.
    fn whole(&self) -> usize {
        self.lines.len() - usize::from(self.is_torn)
    }
}

#[tokio::test]
async fn every_line_comes_once_through_any_writes_rotations_and_crashes() {
    for seed in 0..40 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let case = Case::new(if seed % 2 == 0 { "a.log" } else { "a.log*" });
        let partition = case.partition("a.log");
        let mut written = Written { lines: Vec::new(), is_torn: false };
        written.write(&case, "a.log", &mut random);
        let mut running = Some(case.start());
        // A file that is rotated before it was ever seen is nobody's.
        case.fake.wait_for(|seen| seen.events() == written.whole()).await;
        for _ in 0..25 {
            match random.below(7) {
                0..=2 => written.write(&case, "a.log", &mut random),
                3 => {
                    if seed % 2 == 0 {
                        written.cut();
                    } else {
                        // A rotated file that is followed by its own path is no rotated file: its last line waits.
                        written.end(&case, "a.log");
                    }
                    for n in (1..12).rev().filter(|n| case.path(&format!("a.log.{n}")).exists()) {
                        case.rename(&format!("a.log.{n}"), &format!("a.log.{}", n + 1));
                    }
                    case.rename("a.log", "a.log.1");
                    written.write(&case, "a.log", &mut random);
                }
                4 if running.is_some() && !written.is_torn => {
                    // What is truncated before it was read is gone: that is what this way of rotating is like.
                    let whole = written.whole();
                    case.fake.wait_for(|seen| seen.events() == whole).await;
                    fs::write(case.path("a.log"), "").expect("a truncation");
                    written.write(&case, "a.log", &mut random);
                }
                5 => match running.take() {
                    Some(agent) if random.below(2) == 0 => agent.kill().await,
                    Some(agent) => agent.stop().await,
                    None => running = Some(case.start()),
                },
                _ => tokio::time::sleep(Duration::from_millis(random.below(15))).await,
            }
        }
        let agent = running.unwrap_or_else(|| case.start());
        let whole = written.whole();
        case.fake.wait_for(|seen| seen.events() >= whole).await;
        if seed % 2 == 0 {
            assert_eq!(case.fake.acknowledged(&partition), written.lines[..whole]);
        }
        // A file that was rotated away before anyone saw it may come by its own path, where a pattern matches that.
        let names = (1..13).map(|n| case.partition(&format!("a.log.{n}")));
        let mut all: Vec<String> =
            names.chain([partition.clone()]).flat_map(|name| case.fake.acknowledged(&name)).collect();
        all.sort_by_key(|line| written.lines.iter().position(|other| other == line));
        assert_eq!(all, written.lines[..whole]);
        agent.stop().await;
    }
}
