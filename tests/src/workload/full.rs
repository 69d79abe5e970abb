//! Runs on a disk that fills up.

use std::time::{Duration, Instant};

use super::{
    oracle::{LINE, Oracle},
    plan::{Append, Reach, Step, plan},
    rig::{Opened, Rig, Stop},
    run::{Runner, Verdict},
};
use crate::{random::Random, vfs::Image};

/// The longest that anything here may take: far more than it does, for the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// Appends that surely fill what [`Runner::fill_and_drain`] leaves free.
const APPENDS_TO_FILL: u64 = 2_000;

impl Runner {
    /// A random run while the disk's capacity goes up and down; then a power cut, and an end without want.
    pub fn full_disk(&self, seed: u64) -> Verdict {
        let mut random = Random::new(seed);
        let mut oracle = self.begin();
        let length = random.between(20, 60);
        let steps = plan(&mut random, length);
        let mut opened = None;
        let worked = self.steps_on_a_full_disk(&mut random, &mut opened, &mut oracle, &steps);
        self.rig.disk.cut();
        drop(opened);
        self.rig.disk.set_capacity(None);
        worked.or_else(Stop::forgive)?;
        self.rig.disk.restart(Image::seeded(random.bits()));
        self.end_without_want(&mut oracle).or_else(Stop::forgive)
    }

    /// Fills the disk, sees producers held back and sinks drained, and producers go on.
    pub fn fill_and_drain(&self) -> Verdict {
        let mut oracle = self.begin();
        let mut opened = match self.open_and_judge(&mut oracle) {
            Ok(opened) => opened,
            Err(stop) => return stop.forgive(),
        };
        let story = self.story(&mut opened, &mut oracle).or_else(Stop::forgive);
        self.rig.disk.cut();
        drop(opened);
        self.rig.disk.set_capacity(None);
        story?;
        self.rig.disk.restart(Image::Nothing);
        self.end_without_want(&mut oracle).or_else(Stop::forgive)
    }

    fn steps_on_a_full_disk(
        &self,
        random: &mut Random,
        opened: &mut Option<Opened>,
        oracle: &mut Oracle,
        steps: &[Step],
    ) -> Result<(), Stop> {
        for step in steps {
            let disk = &self.rig.disk;
            match random.below(6) {
                0 => disk.set_capacity(None),
                1 => disk.set_capacity(Some(disk.used_bytes())),
                2 => disk.set_capacity(Some(disk.used_bytes() + random.below(48 * 1024))),
                _ => {}
            }
            if *step == Step::Reopen
                || opened.is_none() && (oracle.generation.is_none() || !self.rig.reserve().exists())
            {
                disk.set_capacity(None);
            }
            self.steps(opened, oracle, std::slice::from_ref(step))?;
        }
        Ok(())
    }

    fn story(&self, opened: &mut Opened, oracle: &mut Oracle) -> Result<(), Stop> {
        let rig = &self.rig;
        rig.disk.set_capacity(Some(rig.disk.used_bytes() + 100 * 1024));
        let mut seeds = 0..APPENDS_TO_FILL;
        while append(rig, opened, oracle, seeds.next().ok_or_else(|| "the disk was never full".to_owned())?)? {}
        self.until("the status says so", || {
            let status = opened.buffer.status().map_err(|error| rig.stop("ask for the status", error))?;
            Ok(status.full.is_some() && opened.buffer.is_full(LINE))
        })?;
        rig.drain(opened, oracle)?;
        self.until("all is delivered, and appends go on", || append(rig, opened, oracle, u64::MAX))
    }

    fn until(&self, what: &str, mut is_so: impl FnMut() -> Result<bool, Stop>) -> Result<(), Stop> {
        let started = Instant::now();
        while !is_so()? {
            if started.elapsed() > PATIENCE {
                return Err(Stop::Violation(format!("in vain it was waited until {what}")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Opens with room to spare: appends go on, and every event gets where it belongs.
    fn end_without_want(&self, oracle: &mut Oracle) -> Result<(), Stop> {
        let mut opened = self.open_and_judge(oracle)?;
        if !append(&self.rig, &mut opened, oracle, 7)? {
            return Err(Stop::Violation("there is room, and an append is held back".to_owned()));
        }
        self.rig.drain(&mut opened, oracle)?;
        self.rig.close(&mut opened, oracle)?;
        drop(opened);
        self.open_and_judge(oracle).map(drop)
    }
}

/// Appends one batch; false if it is held back.
fn append(rig: &Rig, opened: &mut Opened, oracle: &mut Oracle, seed: u64) -> Result<bool, Stop> {
    let appended = oracle.lanes[0].batches.len();
    let append = Append { lane: 0, events: vec![seed, seed, seed], refuses_one: false, has_position: false };
    rig.step(opened, oracle, &Step::Append(append))?;
    Ok(oracle.lanes[0].batches.len() > appended)
}

impl Rig {
    /// Delivers everything there is to every sink.
    pub(super) fn drain(&self, opened: &mut Opened, oracle: &mut Oracle) -> Result<(), Stop> {
        for lane in 0..oracle.lanes.len() {
            for sink in oracle.sinks_of(lane) {
                loop {
                    let before = oracle.place(sink, lane).through;
                    let deliver = Step::Deliver { sink, lane, max_events: 50, reach: Reach::All, refuses_one: false };
                    self.step(opened, oracle, &deliver)?;
                    if oracle.place(sink, lane).through == before {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}
