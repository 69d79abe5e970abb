//! Whole runs of the source on real files.

mod found_again;
mod random;

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{sync::watch, task::JoinHandle};

use super::{position::Identity, *};
use crate::source::{
    batch::{MAX_BYTES, Window},
    testing::{Behaviour, FakeIntake, clock},
};

/// A folder of logs, an agent that follows them, and what it has taken in.
struct Case {
    folder: tempfile::TempDir,
    fake: FakeIntake,
    settings: Settings,
    progress: Arc<Progress>,
}

struct Running {
    switch: watch::Sender<bool>,
    task: JoinHandle<Result<(), SourceError>>,
}

impl Running {
    async fn stop(self) {
        self.switch.send(true).expect("the source listens");
        self.task.await.expect("no panic").expect("it stops well");
    }

    /// As `kill -9` does: nothing is finished.
    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.expect_err("it was killed").is_cancelled());
    }
}

impl Case {
    fn new(pattern: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = Settings {
            include: vec![folder.path().join(pattern).display().to_string()],
            exclude: vec!["*.gz".to_owned()],
            format: LineFormat::Lines,
            start: StartAt::Beginning,
            poll_interval: Duration::from_millis(5),
            max_files: 256,
            max_event_bytes: 1024 * 1024,
        };
        Self { folder, fake: FakeIntake::start(Behaviour::Accept), settings, progress: Progress::new("source logs") }
    }

    fn start(&self) -> Running {
        let (switch, shutdown) = Shutdown::new();
        let mut tail = Tail::new(self.settings.clone(), clock(), self.progress.clone());
        let intake = self.fake.intake();
        let task = tokio::spawn(async move { tail.run(intake, shutdown).await });
        Running { switch, task }
    }

    /// What a run is made of, to be moved on step by step.
    fn followers(&self) -> (watch::Sender<bool>, Followers) {
        let (switch, shutdown) = Shutdown::new();
        let tail = Tail::new(self.settings.clone(), clock(), self.progress.clone());
        (switch, tail.followers(self.fake.intake(), shutdown).expect("good patterns"))
    }

    /// Stores a position of a path, as an earlier run did.
    async fn store(&self, name: &str, position: &Position) {
        let batch = SourceBatch { position: Some(position.encode()), ..SourceBatch::default() };
        let receipt = self.fake.intake().submit(&self.partition(name), batch).await.expect("it is taken");
        receipt.await.expect("it is stored");
    }

    fn id(&self, name: &str) -> FileId {
        file::look(&self.path(name)).expect("no error").expect("a file").id
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn partition(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        let mut file = File::options().create(true).append(true).open(self.path(name)).expect("a file");
        file.write_all(text.as_bytes()).expect("a write");
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).expect("a rename");
    }

    /// Waits until the lines of a partition are these, and no others follow by then.
    async fn expect(&self, name: &str, lines: &[&str]) {
        let partition = self.partition(name);
        self.fake.wait_for(|seen| seen.lines(&partition).len() >= lines.len()).await;
        assert_eq!(self.fake.acknowledged(&partition), lines);
    }

    async fn wait_for_lane(&self, lane: &str, condition: impl Fn(&Condition) -> bool) {
        let wait = async {
            while !self.progress.lanes().get(lane).is_some_and(|since| condition(&since.condition)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.expect("the condition comes");
    }
}

#[tokio::test]
async fn lines_are_taken_as_they_are_written_and_a_partial_one_waits() {
    let case = Case::new("*.log");
    case.write("a.log", "one\r\ntwo\nthr");
    let running = case.start();
    case.expect("a.log", &["one", "two"]).await;
    case.write("a.log", "ee\n");
    case.write("b.log", "another\n");
    case.expect("a.log", &["one", "two", "three"]).await;
    case.expect("b.log", &["another"]).await;
    let path = forebay_buffer::Value::String(case.partition("b.log"));
    assert_eq!(case.fake.stored(&case.partition("b.log"))[0].events[0].headers, [("path".to_owned(), path)]);
    running.stop().await;
}

#[tokio::test]
async fn a_file_rotated_by_renaming_is_read_to_its_end_before_the_next() {
    let case = Case::new("*.log");
    case.write("a.log", "one\n");
    let running = case.start();
    case.expect("a.log", &["one"]).await;
    case.rename("a.log", "a.log.1");
    case.write("a.log.1", "two, after the renaming\n");
    case.write("a.log", "three\n");
    case.expect("a.log", &["one", "two, after the renaming", "three"]).await;
    running.stop().await;
}

#[tokio::test]
async fn what_is_written_to_a_finished_file_is_reported() {
    let case = Case::new("*.log");
    case.write("a.log", "one\n");
    let running = case.start();
    case.expect("a.log", &["one"]).await;
    case.rename("a.log", "a.log.1");
    case.write("a.log", "two\n");
    case.expect("a.log", &["one", "two"]).await;
    assert_eq!(case.progress.errors.load(Ordering::Relaxed), 0);
    case.write("a.log.1", "too late\n");
    case.write("a.log", "three\n");
    case.expect("a.log", &["one", "two", "three"]).await;
    let reported = async {
        while case.progress.errors.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reported).await.expect("it is reported");
    running.stop().await;
    assert_eq!(case.progress.errors.load(Ordering::Relaxed), 1, "once");
}

#[tokio::test]
async fn the_writer_may_stay_with_the_renamed_file_while_the_new_one_is_empty() {
    let case = Case::new("*.log");
    case.write("a.log", "one\n");
    let running = case.start();
    case.expect("a.log", &["one"]).await;
    case.rename("a.log", "a.log.1");
    case.write("a.log", "");
    for line in ["two", "three", "four"] {
        case.write("a.log.1", &format!("{line}\n"));
        let partition = case.partition("a.log");
        case.fake.wait_for(|seen| seen.lines(&partition).last().is_some_and(|last| last == line)).await;
    }
    case.write("a.log", "five\n");
    case.expect("a.log", &["one", "two", "three", "four", "five"]).await;
    running.stop().await;
}

#[tokio::test]
async fn the_last_line_of_a_rotated_file_needs_no_end() {
    let case = Case::new("*.log");
    case.write("a.log", "one\ncut o");
    let running = case.start();
    case.expect("a.log", &["one"]).await;
    case.rename("a.log", "a.log.1");
    case.write("a.log", "next\n");
    case.expect("a.log", &["one", "cut o", "next"]).await;
    running.stop().await;
}

#[tokio::test]
async fn a_file_truncated_in_place_is_read_from_its_beginning() {
    let case = Case::new("*.log");
    case.write("a.log", "one\ntwo\n");
    let running = case.start();
    case.expect("a.log", &["one", "two"]).await;
    fs::copy(case.path("a.log"), case.path("a.log.1")).expect("a copy");
    fs::write(case.path("a.log"), "").expect("a truncation");
    case.write("a.log", "3\n");
    case.expect("a.log", &["one", "two", "3"]).await;
    // Longer than what was read, all at once: only its first bytes show that it is another.
    fs::write(case.path("a.log"), "four\nfive\nsix\n").expect("a rewriting");
    case.expect("a.log", &["one", "two", "3", "four", "five", "six"]).await;
    running.stop().await;
}

#[tokio::test]
async fn files_rotated_while_the_agent_was_down_are_read_in_their_order() {
    let case = Case::new("*.log");
    case.write("a.log", "one\n");
    let running = case.start();
    case.expect("a.log", &["one"]).await;
    running.stop().await;
    case.write("a.log", "two\n");
    case.rename("a.log", "a.log.1");
    case.write("a.log", "three\n");
    case.rename("a.log.1", "a.log.2");
    case.rename("a.log", "a.log.1");
    case.write("a.log", "four\n");
    // As logrotate compresses: a copy with another name, never read.
    fs::copy(case.path("a.log.2"), case.path("a.log.3.gz")).expect("a copy");
    let running = case.start();
    case.expect("a.log", &["one", "two", "three", "four"]).await;
    running.stop().await;
}

#[tokio::test]
async fn numbers_may_grow_with_time() {
    let case = Case::new("*.log");
    case.write("a.log", "0\n");
    let running = case.start();
    case.expect("a.log", &["0"]).await;
    running.stop().await;
    for n in 1..4_u32 {
        case.rename("a.log", &format!("a.log.{n}"));
        // Times that differ, however coarse the file system's are.
        let file = File::options().write(true).open(case.path(&format!("a.log.{n}"))).expect("a file");
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(n.into())).expect("a time");
        case.write("a.log", &format!("{n}\n"));
    }
    let running = case.start();
    case.expect("a.log", &["0", "1", "2", "3"]).await;
    running.stop().await;
}

#[tokio::test]
async fn every_state_of_a_restart_goes_on_with_the_next_line() {
    type Change = fn(&Case);
    let changes: [(&str, Change, &[&str]); 6] = [
        ("nothing", |_| (), &["one", "two"]),
        ("growth", |case| case.write("a.log", "three\n"), &["one", "two", "three"]),
        ("the end of a partial line", |case| case.write("a.log", "tial\n"), &["one", "two", "partial"]),
        (
            "a rename without a successor",
            |case| {
                case.rename("a.log", "gone");
                case.write("gone", "three\n");
                case.write("a.log", "four\n");
            },
            &["one", "two", "three", "four"],
        ),
        ("a truncation", |case| fs::write(case.path("a.log"), "1\n").expect("a write"), &["one", "two", "1"]),
        (
            "a new file",
            |case| {
                case.write("new", "1\n2\n3\n4\n5\n6\n");
                case.rename("new", "a.log");
            },
            &["one", "two", "1", "2", "3", "4", "5", "6"],
        ),
    ];
    for (what, change, expected) in changes {
        for killed in [true, false] {
            let case = Case::new("a.log");
            case.write("a.log", if what.contains("partial") { "one\ntwo\npar" } else { "one\ntwo\n" });
            let running = case.start();
            case.expect("a.log", &["one", "two"]).await;
            if killed {
                running.kill().await
            } else {
                running.stop().await
            }
            change(&case);
            let running = case.start();
            println!("{what}, killed: {killed}");
            case.expect("a.log", expected).await;
            running.stop().await;
            // Once more, to see that nothing comes twice.
            let running = case.start();
            case.write("a.log", "the last\n");
            let mut expected = expected.to_vec();
            expected.push("the last");
            case.expect("a.log", &expected).await;
            running.stop().await;
        }
    }
}

#[tokio::test]
async fn lines_that_were_not_on_disk_at_a_crash_come_again_and_once() {
    let case = Case::new("a.log");
    let lines: Vec<String> = (0..5_000).map(|n| format!("line {n}")).collect();
    case.write("a.log", &(lines.join("\n") + "\n"));
    case.fake.behave(Behaviour::Withhold);
    let running = case.start();
    case.fake.wait_for(|seen| seen.withheld() == Window::LIMIT).await;
    case.fake.release(1);
    case.fake.wait_for(|seen| seen.withheld() == Window::LIMIT).await;
    running.kill().await;
    case.fake.crash();
    case.fake.behave(Behaviour::Accept);
    let running = case.start();
    case.expect("a.log", &lines.iter().map(String::as_str).collect::<Vec<_>>()).await;
    running.stop().await;
}

#[tokio::test]
async fn a_deleted_file_and_its_successor_are_both_read() {
    let case = Case::new("*.log");
    case.write("a.log", "one\n");
    let running = case.start();
    case.expect("a.log", &["one"]).await;
    case.write("a.log", "two\n");
    fs::remove_file(case.path("a.log")).expect("a removal");
    case.write("b.log", "meanwhile\n");
    case.expect("b.log", &["meanwhile"]).await;
    case.write("a.log", "three\n");
    let partition = case.partition("a.log");
    case.fake.wait_for(|seen| seen.lines(&partition).iter().any(|line| line == "three")).await;
    running.stop().await;
}

#[tokio::test]
async fn at_the_end_means_the_first_start_only() {
    let mut case = Case::new("*.log");
    case.settings.start = StartAt::End;
    case.write("a.log", "old\nbeing wri");
    let running = case.start();
    let mark = case.partition("a.log");
    case.fake.wait_for(|seen| seen.batches() >= 2).await;
    assert!(!case.fake.stored(&mark).is_empty(), "where it begins is stored before there is a line");
    running.kill().await;
    case.write("a.log", "tten\n");
    case.write("b.log", "new\n");
    let running = case.start();
    case.expect("a.log", &["being written"]).await;
    case.expect("b.log", &["new"]).await;
    case.write("c.log", "newer\n");
    case.expect("c.log", &["newer"]).await;
    running.stop().await;
}

#[tokio::test]
async fn a_line_that_is_too_long_is_refused_and_reading_goes_on() {
    let mut case = Case::new("a.log");
    case.settings.max_event_bytes = 1000;
    let long = "x".repeat(3 * MAX_BYTES);
    case.write("a.log", &format!("one\n{long}\ntwo\n"));
    let running = case.start();
    case.expect("a.log", &["one", "two"]).await;
    let refused = case.fake.refused(&case.partition("a.log"));
    assert_eq!((refused.len(), refused[0].code.as_str()), (1, "too_large"));
    assert_eq!(refused[0].event.body.as_deref(), Some("x".repeat(1000).as_bytes()));
    assert!(refused[0].reason.contains(&long.len().to_string()), "{}", refused[0].reason);
    running.stop().await;
}

#[tokio::test]
async fn a_hundred_thousand_lines_come_once_and_in_order() {
    let case = Case::new("a.log");
    let lines: Vec<String> = (0..100_000).map(|n| format!("line {n} of many")).collect();
    let running = case.start();
    let mut file = File::create(case.path("a.log")).expect("a file");
    for chunk in lines.chunks(7_777) {
        // Torn in the middle of a line.
        let text = chunk.join("\n") + "\n";
        let (first, second) = text.split_at(text.len() / 2);
        file.write_all(first.as_bytes()).expect("a write");
        file.write_all(second.as_bytes()).expect("a write");
    }
    let partition = case.partition("a.log");
    case.fake.wait_for(|seen| seen.events() >= lines.len()).await;
    assert_eq!(case.fake.acknowledged(&partition), lines);
    let batches = case.fake.stored(&partition);
    assert!(batches.iter().all(|batch| batch.events.len() <= 1_000 && batch.position.is_some()));
    running.stop().await;
}

#[tokio::test]
async fn what_is_in_flight_is_bounded_however_many_files_there_are() {
    let case = Case::new("*.log");
    let text = "a line of a file among many\n".repeat(20_000);
    for n in 0..40 {
        fs::write(case.path(&format!("{n}.log")), &text).expect("a write");
    }
    case.fake.behave(Behaviour::Withhold);
    let running = case.start();
    case.fake.wait_for(|seen| seen.withheld() == READERS * Window::LIMIT).await;
    for _ in 0..200 {
        case.fake.wait_for(|seen| seen.withheld() >= READERS).await;
        case.fake.release(1);
    }
    // Promise 5.
    case.fake.wait_for(|seen| seen.most_withheld() == READERS * Window::LIMIT).await;
    case.fake.behave(Behaviour::Accept);
    case.fake.wait_for(|seen| seen.events() == 40 * 20_000).await;
    running.stop().await;
}

#[tokio::test]
async fn files_beyond_the_limit_are_named_and_left_alone() {
    let mut case = Case::new("*.log");
    case.settings.max_files = 2;
    for name in ["a.log", "b.log", "c.log"] {
        case.write(name, "one\n");
    }
    let running = case.start();
    case.expect("a.log", &["one"]).await;
    case.expect("b.log", &["one"]).await;
    case.wait_for_lane("max_files", |condition| matches!(condition, Condition::Waiting(_))).await;
    fs::remove_file(case.path("a.log")).expect("a removal");
    case.expect("c.log", &["one"]).await;
    running.stop().await;
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_says_so_and_the_others_go_on() {
    let case = Case::new("*.log");
    // A loop of links cannot be opened by anyone, not even by root.
    std::os::unix::fs::symlink("loop.log", case.path("loop.log")).expect("a link");
    case.write("a.log", "one\n");
    let running = case.start();
    case.expect("a.log", &["one"]).await;
    let lane = case.partition("loop.log");
    case.wait_for_lane(&lane, |condition| matches!(condition, Condition::Waiting(_))).await;
    fs::remove_file(case.path("loop.log")).expect("a removal");
    case.write("loop.log", "readable now\n");
    case.expect("loop.log", &["readable now"]).await;
    running.stop().await;
}

#[tokio::test]
async fn a_pattern_that_cannot_be_understood_stops_the_source() {
    let mut case = Case::new("*.log");
    case.settings.include.push("/var/[".to_owned());
    let outcome = case.start().task.await.expect("no panic");
    assert!(matches!(&outcome, Err(SourceError::Stop(why)) if why.contains("/var/[")), "{outcome:?}");
}
