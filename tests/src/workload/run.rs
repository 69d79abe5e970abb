//! One run from its seed to its verdict, and many of them at once.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use forebay_buffer::Durability;

use super::{
    judge::judge,
    oracle::Oracle,
    plan::{Step, plan},
    rig::{After, Opened, Rig, Stop},
};
use crate::{
    random::Random,
    vfs::{Failure, Image, Operation},
};

/// Operations that a step takes on the average, by which the cut is spread over the run.
const OPERATIONS_PER_STEP: u64 = 9;
/// Operations that the first opening takes.
const OPERATIONS_TO_CREATE: u64 = 150;

/// What a run came to: the promise that was broken, if one was.
pub type Verdict = Result<(), String>;

/// A disk on which runs are done one after the other.
pub struct Runner {
    pub(super) rig: Rig,
}

impl Runner {
    /// A disk of its own, for runs with this durability.
    pub fn new(durability: Durability) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("forebay-workload-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        Self { rig: Rig::new(&name, durability) }
    }

    /// A random run of 10 to 60 steps, cut once or more.
    pub fn random(&self, seed: u64) -> Verdict {
        let mut random = Random::new(seed);
        let length = random.between(10, 60);
        let cuts = if random.one_in(4) { random.between(2, 3) } else { 1 };
        let mut oracle = self.begin();
        for cut in 0..cuts {
            let steps = plan(&mut random, length / cuts);
            let create = if cut == 0 { OPERATIONS_TO_CREATE } else { 0 };
            self.rig.disk.cut_after(random.below(create + steps.len() as u64 * OPERATIONS_PER_STEP));
            self.work(&mut oracle, &steps)?;
            self.rig.disk.restart(Image::seeded(random.bits()));
            while random.one_in(4) {
                self.rig.disk.cut_after(random.below(60));
                self.look(&mut oracle)?;
                self.rig.disk.restart(Image::seeded(random.bits()));
            }
            self.look(&mut oracle)?;
            self.rig.disk.restart(Image::seeded(random.bits()));
        }
        self.look(&mut oracle)
    }

    /// A random run on a disk that fails some operations, again and again. Each time the process is killed when it notices,
    /// and begins anew on what the kernel still has in its cache; the disk works while it does. A power cut comes last.
    pub fn failing(&self, seed: u64) -> Verdict {
        let mut random = Random::new(seed);
        let mut oracle = Oracle { expects_gaps: true, ..self.begin() };
        for _ in 0..random.between(2, 4) {
            let length = random.between(5, 25);
            let steps = plan(&mut random, length);
            let operation = [None, Some(Operation::Write), Some(Operation::Sync)][random.below(3) as usize];
            let after = random.below(OPERATIONS_TO_CREATE + length * OPERATIONS_PER_STEP);
            self.rig.disk.fail(Failure { operation, after, times: random.between(1, 3) });
            let mut opened = None;
            let worked = self.steps(&mut opened, &mut oracle, &steps);
            self.rig.disk.kill();
            drop(opened);
            worked.or_else(Stop::forgive)?;
            if random.one_in(2) {
                let mended = self.open_and_judge(&mut oracle);
                self.rig.disk.kill();
                mended.map(drop).or_else(Stop::forgive)?;
            } else {
                self.rig.disk.restart(Image::seeded(random.bits()));
            }
        }
        self.rig.disk.restart(Image::seeded(random.bits()));
        self.look(&mut oracle)
    }

    /// A given run, cut at operation `cut`.
    pub fn fixed(&self, steps: &[Step], cut: u64, image: Image) -> Verdict {
        let mut oracle = self.begin();
        self.rig.disk.cut_after(cut);
        self.work(&mut oracle, steps)?;
        self.rig.disk.restart(image);
        self.look(&mut oracle)
    }

    /// Operations that a run takes if nothing is cut.
    pub fn operations(&self, steps: &[Step]) -> Result<u64, String> {
        let mut oracle = self.begin();
        self.work(&mut oracle, steps)?;
        Ok(self.rig.disk.operations())
    }

    pub(super) fn begin(&self) -> Oracle {
        self.rig.clear();
        Oracle::new()
    }

    /// Does steps until they or the power are at an end, and leaves the buffer as a machine does that loses power.
    fn work(&self, oracle: &mut Oracle, steps: &[Step]) -> Verdict {
        let mut opened = None;
        let worked = self.steps(&mut opened, oracle, steps);
        self.rig.disk.cut();
        drop(opened);
        worked.or_else(Stop::forgive)
    }

    pub(super) fn steps(&self, opened: &mut Option<Opened>, oracle: &mut Oracle, steps: &[Step]) -> Result<(), Stop> {
        for step in steps {
            let mut current = match opened.take() {
                Some(opened) => opened,
                None => self.open_and_judge(oracle)?,
            };
            if self.rig.step(&mut current, oracle, step)? == After::StillOpen {
                *opened = Some(current);
            }
        }
        Ok(())
    }

    pub(super) fn open_and_judge(&self, oracle: &mut Oracle) -> Result<Opened, Stop> {
        let mut opened = self.rig.open(oracle)?;
        judge(&self.rig, &mut opened, oracle)?;
        Ok(opened)
    }

    /// Opens and judges. A cut on the way leaves what the test knows as it was.
    fn look(&self, oracle: &mut Oracle) -> Verdict {
        let mut settled = oracle.clone();
        match self.open_and_judge(&mut settled) {
            Ok(_opened) => {
                *oracle = settled;
                self.rig.disk.cut();
                Ok(())
            }
            Err(stop) => stop.forgive(),
        }
    }
}

/// Judges every number below `count` on as many threads as there are processors, each with a runner of its own, until
/// `enough` have failed. Returns those, with what was broken.
pub fn sweep(
    durability: Durability,
    count: u64,
    enough: usize,
    run: impl Fn(&Runner, u64) -> Verdict + Sync,
) -> Vec<(u64, String)> {
    let next = AtomicU64::new(0);
    let failures = Mutex::new(Vec::new());
    let failures_now = || failures.lock().unwrap_or_else(PoisonError::into_inner);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let runner = Runner::new(durability);
                while failures_now().len() < enough {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    let verdict = catch_unwind(AssertUnwindSafe(|| run(&runner, number)));
                    match verdict {
                        Ok(Ok(())) => {}
                        Ok(Err(what)) => failures_now().push((number, what)),
                        Err(_) => failures_now().push((number, "it panicked: see above".to_owned())),
                    }
                }
            });
        }
    });
    failures.into_inner().unwrap_or_else(PoisonError::into_inner)
}
