//! What the wall clock was worth, and when.
//!
//! A gateway may boot in 1970 and jump to the present an hour later. The time since boot never jumps; so each segment
//! records that, and an *era*: the boot, the distance between wall and time since boot, and whether the kernel called the
//! wall clock synchronised. Once it is synchronised, the true distance of that boot is known, and every time that was
//! stamped earlier in the same boot can be put right. A boot that was never synchronised leaves its times untrusted.

use std::time::Duration;

use rusqlite::{Connection, params};

use crate::{Error, Event, TimeQuality, catalog::rows, clock::Reading, seal::Seal};

/// Two distances that differ by less are the same: slewing moves it by 43 s a day at the most, a step by more at once.
const SAME_DISTANCE_US: i64 = 50_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Era {
    pub(crate) id: i64,
    pub(crate) boot: u128,
    pub(crate) wall_minus_boot_us: i64,
    pub(crate) synchronised: bool,
}

/// When a segment was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) era: i64,
    pub(crate) since_boot_ms: i64,
}

/// Every era of the file, in order of their ids.
#[derive(Debug, Clone)]
pub(crate) struct Timeline {
    boot: u128,
    eras: Vec<Era>,
}

impl Timeline {
    pub(crate) fn load(db: &Connection, boot: u128) -> Result<Self, Error> {
        let eras = rows(db, "SELECT id, boot, wall_minus_boot_us, synchronised, seal FROM era ORDER BY id", |row| {
            let boot: Vec<u8> = row.get(1)?;
            let era = Era {
                id: row.get(0)?,
                boot: boot.try_into().map_or(0, u128::from_le_bytes),
                wall_minus_boot_us: row.get(2)?,
                synchronised: row.get(3)?,
            };
            Ok((era, era_seal(&era), row.get(4)?))
        })?;
        Ok(Self { boot, eras })
    }

    pub(crate) fn eras(&self) -> &[Era] {
        &self.eras
    }

    /// The arrival that a reading of the clock stands for; a new era comes with it where there is none that fits.
    pub(crate) fn arrival(&self, reading: Reading) -> (Arrival, Option<Era>) {
        let distance = distance_us(reading);
        let fits = |era: &&Era| {
            era.boot == self.boot
                && era.synchronised == reading.synchronised
                && (era.wall_minus_boot_us - distance).abs() < SAME_DISTANCE_US
        };
        let known = self.eras.iter().rev().find(fits);
        let new = known.is_none().then(|| Era {
            id: self.eras.last().map_or(1, |era| era.id + 1),
            boot: self.boot,
            wall_minus_boot_us: distance,
            synchronised: reading.synchronised,
        });
        let era = known.copied().or(new).expect("either there is one or it is made").id;
        (Arrival { era, since_boot_ms: reading.since_boot.as_millis() as i64 }, new)
    }

    /// Forgets the eras after the first `count`: their transaction was rolled back.
    pub(crate) fn truncate(&mut self, count: usize) {
        self.eras.truncate(count);
    }

    /// Remembers an era that [`Self::arrival`] made, once it is in the file.
    pub(crate) fn add(&mut self, era: Era) {
        self.eras.push(era);
    }

    /// How long ago `arrival` was; `None` where no clock can be trusted with the answer.
    pub(crate) fn age(&self, arrival: Arrival, now: Reading) -> Option<Duration> {
        let era = self.era(arrival.era)?;
        let then = Duration::from_millis(arrival.since_boot_ms.max(0) as u64);
        if era.boot == self.boot {
            return Some(now.since_boot.saturating_sub(then));
        }
        let distance = self.true_distance_us(era)?;
        let then = Duration::from_micros(u64::try_from(arrival.since_boot_ms * 1000 + distance).ok()?);
        Some(self.trusted_wall(now)?.saturating_sub(then))
    }

    /// The wall time, as time since 1970, if the kernel calls it synchronised.
    pub(crate) fn trusted_wall(&self, now: Reading) -> Option<Duration> {
        now.synchronised.then(|| Duration::from_micros(now.wall.0.max(0) as u64))
    }

    /// Puts right the times that the gateway stamped in `era`, and marks those that cannot be.
    pub(crate) fn repair(&self, era: i64, event: &mut Event) {
        if event.time_quality != TimeQuality::Stamped {
            return;
        }
        let Some(era) = self.era(era).filter(|era| !era.synchronised) else { return };
        match self.true_distance_us(era) {
            Some(distance) => {
                let correction = distance.saturating_sub(era.wall_minus_boot_us);
                if correction.abs() >= SAME_DISTANCE_US {
                    event.time.0 = event.time.0.saturating_add(correction);
                    event.time_quality = TimeQuality::Repaired;
                }
            }
            None => event.time_quality = TimeQuality::Untrusted,
        }
    }

    fn era(&self, id: i64) -> Option<&Era> {
        self.eras.binary_search_by_key(&id, |era| era.id).ok().map(|index| &self.eras[index])
    }

    /// The distance in the era's boot once it was synchronised.
    fn true_distance_us(&self, era: &Era) -> Option<i64> {
        if era.synchronised {
            return Some(era.wall_minus_boot_us);
        }
        self.eras.iter().find(|other| other.boot == era.boot && other.synchronised).map(|era| era.wall_minus_boot_us)
    }
}

fn distance_us(reading: Reading) -> i64 {
    reading.wall.0.saturating_sub(i64::try_from(reading.since_boot.as_micros()).unwrap_or(i64::MAX))
}

fn era_seal(era: &Era) -> i64 {
    Seal::of("era")
        .int(era.id)
        .bytes(&era.boot.to_le_bytes())
        .int(era.wall_minus_boot_us)
        .int(i64::from(era.synchronised))
        .finish()
}

pub(crate) fn insert_era(db: &Connection, era: &Era) -> Result<(), Error> {
    db.execute(
        "INSERT INTO era(id, boot, wall_minus_boot_us, synchronised, seal) VALUES (?, ?, ?, ?, ?)",
        params![era.id, era.boot.to_le_bytes(), era.wall_minus_boot_us, era.synchronised, era_seal(era)],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    const YEAR_US: i64 = 365 * 86_400_000_000;

    fn reading(wall: i64, since_boot_s: u64, synchronised: bool) -> Reading {
        Reading { wall: Timestamp(wall), since_boot: Duration::from_secs(since_boot_s), synchronised }
    }

    fn arrive(timeline: &mut Timeline, reading: Reading) -> Arrival {
        let (arrival, era) = timeline.arrival(reading);
        if let Some(era) = era {
            timeline.add(era);
        }
        arrival
    }

    #[test]
    fn a_time_stamped_in_1970_is_put_right_once_the_clock_is_synchronised() {
        let mut timeline = Timeline { boot: 1, eras: Vec::new() };
        let early = arrive(&mut timeline, reading(10_000_000, 10, false));
        let mut event = Event::new(Timestamp(10_000_000), "x");
        event.time_quality = TimeQuality::Stamped;

        let mut before = event.clone();
        timeline.repair(early.era, &mut before);
        assert_eq!((before.time, before.time_quality), (event.time, TimeQuality::Untrusted));

        arrive(&mut timeline, reading(50 * YEAR_US + 60_000_000, 60, true));
        timeline.repair(early.era, &mut event);
        assert_eq!((event.time, event.time_quality), (Timestamp(50 * YEAR_US + 10_000_000), TimeQuality::Repaired));
    }

    #[test]
    fn a_time_that_the_producer_gave_is_never_touched() {
        let mut timeline = Timeline { boot: 1, eras: Vec::new() };
        let early = arrive(&mut timeline, reading(0, 0, false));
        let mut event = Event::new(Timestamp(7), "x");
        timeline.repair(early.era, &mut event);
        assert_eq!((event.time, event.time_quality), (Timestamp(7), TimeQuality::Given));
    }

    #[test]
    fn age_is_monotonic_within_a_boot_and_unknown_across_untrusted_ones() {
        let mut timeline = Timeline { boot: 1, eras: Vec::new() };
        let early = arrive(&mut timeline, reading(0, 10, false));
        let later = reading(90 * YEAR_US, 40, false);
        assert_eq!(timeline.age(early, later), Some(Duration::from_secs(30)));
        timeline.boot = 2;
        assert_eq!(timeline.age(early, reading(50 * YEAR_US, 5, true)), None);
    }

    #[test]
    fn age_across_boots_takes_the_wall_clock_when_both_sides_were_synchronised() {
        let mut timeline = Timeline { boot: 1, eras: Vec::new() };
        let early = arrive(&mut timeline, reading(50 * YEAR_US, 10, true));
        timeline.boot = 2;
        let now = reading(50 * YEAR_US + 3_600_000_000, 1, true);
        assert_eq!(timeline.age(early, now), Some(Duration::from_secs(3600)));
        assert_eq!(timeline.age(early, Reading { synchronised: false, ..now }), None);
    }
}
