//! This machine's own condition, read from the kernel: each interval one event for each collector.
//!
//! The bodies are JSON objects whose names carry their units. Counters are given as the kernel counts them, since boot,
//! and rates are left to whoever reads them; only the processor's use is given in per cent since the last reading.
//! What a machine does not have (a container has no sensors) is left out, after one line in the log.

mod cpu;
mod disk;
mod memory;
mod network;
mod temperature;
mod uptime;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use forebay_buffer::{Event, TimeQuality, Timestamp, clock::Clock};
use serde::Serialize;
use tokio::{
    task,
    time::{MissedTickBehavior, interval},
};

use crate::{
    contract::{BoxFuture, Intake, IntakeError, Shutdown, Source, SourceBatch, SourceError},
    progress::{Condition, Progress},
};

/// The partition of everything that is read.
const PARTITION: &str = "0";

/// What the config says of the host source.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Time between readings.
    pub interval: Duration,
    /// What to read.
    pub collect: Vec<Collector>,
}

/// One kind of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Collector {
    /// Use of the processors, and the load.
    Cpu,
    /// Memory and swap.
    Memory,
    /// File systems and block devices.
    Disk,
    /// Network interfaces.
    Network,
    /// Every sensor of temperature.
    Temperature,
    /// Time since boot.
    Uptime,
}

impl Collector {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Cpu, Self::Memory, Self::Disk, Self::Network, Self::Temperature, Self::Uptime];

    /// Its name in the config and in the header `collector`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Network => "network",
            Self::Temperature => "temperature",
            Self::Uptime => "uptime",
        }
    }
}

/// The source that reads this machine.
pub struct Host {
    settings: Settings,
    clock: Arc<dyn Clock>,
    progress: Arc<Progress>,
    machine: Machine,
}

impl Host {
    /// Reads the machine that this runs on.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>, progress: Arc<Progress>) -> Self {
        Self { settings, clock, progress, machine: Machine::new("/") }
    }

    async fn run(&mut self, intake: Intake, mut shutdown: Shutdown) -> Result<(), SourceError> {
        self.progress.enter("", Condition::Running);
        let mut ticks = interval(self.settings.interval);
        // What could not be read in time is not made up for: it would be the same reading many times.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => return Ok(()),
                _ = ticks.tick() => {}
            }
            tokio::select! {
                biased;
                () = shutdown.requested() => return Ok(()),
                outcome = self.take_reading(&intake) => {
                    outcome.map_err(|error| SourceError::Retry(format!("handing over a reading of this machine: {error}")))?;
                }
            }
        }
    }

    async fn take_reading(&mut self, intake: &Intake) -> Result<(), IntakeError> {
        let (mut machine, collect, now) = (self.machine.clone(), self.settings.collect.clone(), self.clock.now().wall);
        let subject = self.progress.subject().to_owned();
        let read = move || {
            let events = machine.events(&collect, now, &subject);
            (machine, events)
        };
        let (machine, events) = task::spawn_blocking(read).await.expect("readings do not panic");
        self.machine = machine;
        if events.is_empty() {
            return Ok(());
        }
        let batch = SourceBatch { events, ..SourceBatch::default() };
        intake.submit(PARTITION, batch).await?.await.map(drop)
    }
}

impl Source for Host {
    fn run<'a>(&'a mut self, intake: Intake, shutdown: Shutdown) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(self.run(intake, shutdown))
    }
}

/// The machine below a root folder, and what must be kept of the last reading.
#[derive(Debug, Clone)]
struct Machine {
    root: PathBuf,
    last_cpu: Option<cpu::Times>,
    /// Collectors that had nothing to read: that was said once.
    missing: BTreeSet<Collector>,
}

impl Machine {
    fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), last_cpu: None, missing: BTreeSet::new() }
    }

    fn events(&mut self, collect: &[Collector], now: Timestamp, subject: &str) -> Vec<Event> {
        let host = fs::read_to_string(self.root.join("proc/sys/kernel/hostname")).unwrap_or_default();
        let key = Some(Bytes::copy_from_slice(host.trim().as_bytes())).filter(|key| !key.is_empty());
        let mut events = Vec::with_capacity(collect.len());
        for collector in collect {
            match self.read(*collector) {
                Ok(body) => {
                    self.missing.remove(collector);
                    events.push(Event {
                        time: now,
                        time_quality: TimeQuality::Stamped,
                        key: key.clone(),
                        headers: vec![("collector".to_owned(), collector.name().into())],
                        body: Some(body),
                        ..Event::default()
                    });
                }
                Err(error) if self.missing.insert(*collector) => {
                    log::info!("{subject}: nothing to read for {}: {error}", collector.name());
                }
                Err(_) => {}
            }
        }
        events
    }

    fn read(&mut self, collector: Collector) -> io::Result<Bytes> {
        let root = &self.root;
        match collector {
            Collector::Cpu => {
                let (times, body) = cpu::read(root, self.last_cpu)?;
                self.last_cpu = Some(times);
                to_json(&body)
            }
            Collector::Memory => to_json(&memory::read(root)?),
            Collector::Disk => to_json(&disk::read(root)?),
            Collector::Network => to_json(&network::read(root)?),
            Collector::Temperature => to_json(&temperature::read(root)?),
            Collector::Uptime => to_json(&uptime::read(root)?),
        }
    }
}

fn to_json(body: &impl Serialize) -> io::Result<Bytes> {
    Ok(serde_json::to_vec(body)?.into())
}

/// The text of a file of the kernel's, below `root`.
fn text(root: &Path, path: &str) -> io::Result<String> {
    let path = root.join(path);
    // Names of devices and mount points need not be UTF-8.
    let bytes =
        fs::read(&path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What a reading says when a file is not as the kernel writes it.
fn unexpected(path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("/{path} is not in the form this version knows"))
}

/// The number in a word; nothing else.
fn number<T: std::str::FromStr>(word: Option<&str>) -> Option<T> {
    word?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;
    use crate::source::testing::{Behaviour, FakeIntake, clock};

    /// A small board, as its kernel shows it.
    fn board() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let files = [
            ("proc/sys/kernel/hostname", "gw-0042\n"),
            ("proc/stat", "cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 100 0 50 800 50 0 0 0 0 0\nctxt 1\n"),
            ("proc/loadavg", "0.50 0.25 0.10 1/100 4242\n"),
            (
                "proc/meminfo",
                "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 400 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
            ),
            ("proc/self/mounts", "/dev/mmcblk0p2 / ext4 rw 0 0\nproc /proc proc rw 0 0\n"),
            ("proc/diskstats", " 179 0 mmcblk0 10 0 200 5 20 0 400 9 0 12 14\n"),
            ("proc/net/dev", "h\nh\n lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\neth0: 10 2 0 1 0 0 0 0 20 3 0 0 0 0 0 0\n"),
            ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
            ("sys/class/thermal/thermal_zone0/temp", "48312\n"),
            ("proc/uptime", "3600.25 7000.00\n"),
        ];
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
            fs::write(path, text).expect("a write");
        }
        folder
    }

    fn bodies(events: &[Event]) -> BTreeMap<String, Value> {
        let body = |event: &Event| serde_json::from_slice(event.body.as_ref().expect("a body")).expect("JSON");
        let name = |event: &Event| match &event.headers[0] {
            (name, forebay_buffer::Value::String(collector)) if name == "collector" => collector.clone(),
            other => panic!("{other:?}"),
        };
        events.iter().map(|event| (name(event), body(event))).collect()
    }

    #[test]
    fn every_collector_gives_an_event_with_units_in_its_names() {
        let board = board();
        let mut machine = Machine::new(board.path());
        let events = machine.events(&Collector::ALL, Timestamp(7), "source host");
        assert!(events.iter().all(|event| event.key.as_deref() == Some(b"gw-0042") && event.time == Timestamp(7)));
        let bodies = bodies(&events);
        assert_eq!(bodies.len(), Collector::ALL.len());
        assert_eq!(bodies["memory"]["used_bytes"], 600 * 1024);
        assert_eq!(bodies["cpu"]["load_1m"], 0.5);
        assert_eq!(bodies["cpu"].get("user_percent"), None, "there is nothing to compare the first reading with");
        assert_eq!(bodies["uptime"]["uptime_seconds"], 3600.25);
        assert_eq!(bodies["temperature"]["sensors"][0]["celsius"], 48.312);
        assert_eq!(bodies["network"]["interfaces"][0]["sent_bytes"], 20);
        assert_eq!(bodies["disk"]["devices"][0]["written_bytes"], 400 * 512);
        assert_eq!(bodies["disk"]["filesystems"][0]["mount"], "/");

        fs::write(board.path().join("proc/stat"), "cpu  150 0 50 850 50 0 0 0 0 0\ncpu0 1 0 0 0 0 0 0 0 0 0\n")
            .expect("a write");
        let second = self::bodies(&machine.events(&[Collector::Cpu], Timestamp(8), "source host"));
        assert_eq!(second["cpu"]["user_percent"], 50.0);
        assert_eq!(second["cpu"]["idle_percent"], 50.0);
    }

    #[test]
    fn what_the_machine_does_not_have_is_left_out_until_it_has() {
        let board = board();
        fs::remove_dir_all(board.path().join("sys")).expect("a removal");
        let mut machine = Machine::new(board.path());
        for _ in 0..2 {
            assert_eq!(machine.events(&[Collector::Temperature, Collector::Uptime], Timestamp(7), "s").len(), 1);
        }
        assert_eq!(machine.missing, BTreeSet::from([Collector::Temperature]));
        let zone = board.path().join("sys/class/thermal/thermal_zone0");
        fs::create_dir_all(&zone).expect("a folder");
        fs::write(zone.join("temp"), "1000").expect("a write");
        assert_eq!(machine.events(&[Collector::Temperature], Timestamp(7), "s").len(), 1);
        assert!(machine.missing.is_empty());
    }

    #[test]
    fn this_very_machine_can_be_read() {
        let mut machine = Machine::new("/");
        let collect = [Collector::Cpu, Collector::Memory, Collector::Uptime];
        assert_eq!(machine.events(&collect, Timestamp(7), "source host").len(), 3);
    }

    #[tokio::test]
    async fn the_first_reading_comes_at_once_and_missed_ones_are_not_made_up_for() {
        let board = board();
        let settings = Settings { interval: Duration::from_secs(10), collect: vec![Collector::Uptime] };
        let mut host = Host::new(settings, clock(), Progress::new("source host"));
        host.machine = Machine::new(board.path());
        tokio::time::pause();
        let fake = FakeIntake::start(Behaviour::Withhold);
        let intake = fake.intake();
        let (switch, shutdown) = Shutdown::new();
        let run = tokio::spawn(async move { host.run(intake, shutdown).await });
        let at_once = tokio::time::Instant::now();
        fake.wait_for(|seen| seen.withheld() == 1).await;
        assert!(at_once.elapsed() < Duration::from_secs(1));
        // Three days under backpressure.
        tokio::time::advance(Duration::from_secs(72 * 3600)).await;
        assert_eq!(fake.batches(), 1);
        fake.release(1);
        fake.wait_for(|seen| seen.withheld() == 1).await;
        let resumed = tokio::time::Instant::now();
        fake.release(1);
        fake.wait_for(|seen| seen.withheld() == 1).await;
        assert!(resumed.elapsed() > Duration::from_secs(1), "the readings in between are not replayed in a burst");
        switch.send(true).expect("the source listens");
        run.await.expect("no panic").expect("it stops");
    }
}
