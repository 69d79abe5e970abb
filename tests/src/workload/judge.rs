//! What a recovered buffer is held to.

use std::collections::{BTreeMap, BTreeSet};

use forebay_buffer::{Loss, Numbering, Offset, ReadLimits, Recovery};

use super::{
    oracle::{Oracle, SINKS, Serial, WINDOW},
    rig::{Opened, Rig, Stop, start_of},
};

/// The ledger's reason for a dead letter that an operator discarded: the event was accounted for before.
const DISCARDED: &str = "dead letter discarded";

/// Judges a buffer that was just opened, settles what was open when the power went, and lets each sink resume where its
/// destination stands.
pub(super) fn judge(rig: &Rig, opened: &mut Opened, oracle: &mut Oracle) -> Result<(), Stop> {
    if let Recovery::Salvaged(report) = opened.buffer.recovery() {
        return Err(Stop::Violation(format!("the file had to be salvaged: {report:?}")));
    }
    settle_dead_letters(rig, opened, oracle)?;
    let mut inspector = opened.buffer.inspector().map_err(|error| rig.stop("open an inspector", error))?;
    let losses = inspector.losses().map_err(|error| rig.stop("read the ledger", error))?;
    for lane in 0..oracle.lanes.len() {
        for sink in oracle.sinks_of(lane) {
            judge_place(rig, opened, oracle, &losses, sink, lane)
                .map_err(|stop| stop.at(&format!("sink {}, {}", SINKS[sink], oracle.lanes[lane].name())))?;
        }
        judge_partition(opened, oracle, lane)?;
        judge_memory(rig, opened, oracle, lane)?;
    }
    judge_dead_letters(rig, opened, oracle)?;
    let found = inspector.check().map_err(|error| rig.stop("check the file", error))?;
    if !found.is_empty() {
        return Err(Stop::Violation(format!("the check found {found:?}")));
    }
    oracle.earlier_epoch = oracle.latest_epoch;
    oracle.closed_cleanly = false;
    Ok(())
}

/// Dead letters that were leaving have left all together, or stayed.
fn settle_dead_letters(rig: &Rig, opened: &mut Opened, oracle: &mut Oracle) -> Result<(), Stop> {
    let Some(leaving) = &oracle.leaving else { return Ok(()) };
    let ids: BTreeSet<i64> = leaving.letters.iter().map(|(id, _)| *id).collect();
    let present: BTreeSet<i64> = rig.dead_letters(opened, oracle)?.into_iter().map(|(id, _)| id).collect();
    match ids.intersection(&present).count() {
        0 => oracle.leave(),
        n if n == ids.len() => oracle.leaving = None,
        _ => return Err(Stop::Violation("some dead letters of one command have left, and some not".to_owned())),
    }
    rig.look_up_partitions(opened, oracle)
}

fn judge_place(
    rig: &Rig,
    opened: &mut Opened,
    oracle: &mut Oracle,
    losses: &[Loss],
    sink: usize,
    lane: usize,
) -> Result<(), Stop> {
    let subscription = rig.subscription(opened, sink, lane)?;
    let through = oracle.place(sink, lane).through;
    let start = start_of(&subscription);
    if let Some(checkpoint) = subscription.checkpoint() {
        // Promise 2. What lies between is in the ledger, or `account` says so.
        let in_the_ledger = of_place(oracle, losses, sink, lane).map(|loss| loss.last).max();
        if through.max(in_the_ledger).is_none_or(|furthest| checkpoint.offset > furthest) {
            return Err(format!("checkpoint {checkpoint:?} is ahead of {through:?} and {in_the_ledger:?}").into());
        }
        let numbering = oracle.lanes[lane].numbering;
        if Some(checkpoint.generation) != oracle.generation || !opened.buffer.knows_tag(numbering, checkpoint.tag) {
            return Err(format!("{checkpoint:?} is not one of this file's").into());
        }
        if subscription.checkpoint_at(checkpoint.offset) != Some(checkpoint) {
            return Err(format!("{checkpoint:?} bears another epoch's tag").into());
        }
    }
    if oracle.closed_cleanly && subscription.checkpoint().map(|checkpoint| checkpoint.offset) < through {
        return Err(format!("a clean close left the checkpoint at {start:?} instead of {through:?}").into());
    }
    let mut found: BTreeMap<Serial, Offset> = BTreeMap::new();
    let mut order = Vec::new();
    let mut after = start;
    loop {
        let limits = ReadLimits { max_events: 7, max_bytes: 64 * 1024 };
        let read = subscription.read(opened.reader(), after, limits);
        let read = read.map_err(|error| rig.stop("read", error))?;
        let Some((last, _)) = read.events.last() else { break };
        for (offset, event) in &read.events {
            let serial = oracle.recognise(event)?;
            if *offset <= after || found.insert(serial, *offset).is_some() {
                return Err(format!("event {serial} at {offset:?} came out of order or twice").into());
            }
            order.push(serial);
            after = *offset;
        }
        after = *last;
    }
    oracle.settle_batches(lane, &found)?;
    oracle.compare_order(lane, &order)?;
    account(oracle, losses, (sink, lane), start, &found)?;
    resume(rig, oracle, &subscription, (sink, lane))
}

/// Promises 1, 3 and 6: each acknowledged event is at the destination, a dead letter, in the ledger, or still here; what
/// the destination has and the local checkpoint does not say may be both there and here.
fn account(
    oracle: &Oracle,
    losses: &[Loss],
    (sink, lane): (usize, usize),
    start: Offset,
    found: &BTreeMap<Serial, Offset>,
) -> Result<(), String> {
    let known = &oracle.lanes[lane];
    let place = oracle.places.get(&(sink, lane)).cloned().unwrap_or_default();
    let mut dropped: Vec<(&Loss, u64)> = of_place(oracle, losses, sink, lane).map(|loss| (loss, loss.events)).collect();
    let delivered: BTreeSet<Serial> = place.delivered.iter().copied().collect();
    for serial in known.serials() {
        let offset = known.offsets.get(&serial).copied();
        let is_here = found.contains_key(&serial);
        let has_passed = offset.is_some_and(|offset| offset <= start);
        let is_settled = delivered.contains(&serial)
            || place.refused.contains_key(&serial)
                && offset.is_some_and(|offset| place.through.is_some_and(|through| offset <= through));
        // What was retried and dropped before anyone read it has an offset that nobody saw.
        let covers = |loss: &Loss, left: u64| {
            offset.map_or(left > 0 && known.only.is_some(), |at| loss.first <= at && at <= loss.last)
        };
        let ledger =
            dropped.iter_mut().find(|(loss, left)| covers(loss, *left)).filter(|_| offset.is_some() || !is_here);
        if let Some((loss, left)) = ledger.filter(|_| !is_settled) {
            *left = left.checked_sub(1).ok_or_else(|| format!("{loss:?} covers more events than it says"))?;
            if is_here {
                return Err(format!("event {serial} at {offset:?} is in the ledger, and still here"));
            }
        } else if !is_here && !has_passed {
            return Err(format!("event {serial} at {offset:?} was acknowledged, and is lost"));
        } else if has_passed && !is_settled {
            return Err(format!("event {serial} at {offset:?} was passed by a checkpoint, and never delivered"));
        }
    }
    match dropped.iter().find(|(_, left)| *left > 0) {
        Some((loss, left)) => Err(format!("{loss:?} counts {left} events too many")),
        None => Ok(()),
    }
}

/// The entries of the ledger that say what a sink misses of a lane.
fn of_place<'a>(oracle: &Oracle, losses: &'a [Loss], sink: usize, lane: usize) -> impl Iterator<Item = &'a Loss> {
    let known = &oracle.lanes[lane];
    losses.iter().filter(move |loss| {
        loss.stream == known.stream
            && loss.partition == known.partition
            && loss.sink.as_deref().is_none_or(|name| name == SINKS[sink])
            && known.only.is_none_or(|_| loss.sink.is_some())
            && loss.reason != DISCARDED
    })
}

/// The destination says where it stands.
fn resume(
    rig: &Rig,
    oracle: &mut Oracle,
    subscription: &forebay_buffer::Subscription,
    (sink, lane): (usize, usize),
) -> Result<(), Stop> {
    let Some(after) = oracle.place(sink, lane).through else {
        return subscription.resume_here().map_err(|error| rig.stop("resume", error));
    };
    let missing = subscription.missing_after(after).map_err(|error| rig.stop("look for missing events", error))?;
    if let Some(missing) = missing {
        return Err(format!("after {after:?}, {missing:?} are said to be missing").into());
    }
    subscription.resume_after(after).map_err(|error| rig.stop("resume", error))
}

/// High water and position are those of the last batch.
fn judge_partition(opened: &Opened, oracle: &Oracle, lane: usize) -> Result<(), Stop> {
    let (partition, known) = (&opened.partitions[lane], &oracle.lanes[lane]);
    let last = known.batches.last().and_then(|batch| batch.serials.last());
    let expected = last.and_then(|serial| known.offsets.get(serial)).copied();
    if expected.is_some_and(|expected| partition.high_water() != expected) {
        let high_water = partition.high_water();
        return Err(format!("{}: high water is {high_water:?} instead of {expected:?}", known.name()).into());
    }
    let position = known.batches.iter().rev().find_map(|batch| batch.position.clone());
    if partition.position() != position {
        let found = partition.position();
        return Err(format!("{}: the position is {found:?} instead of {position:?}", known.name()).into());
    }
    Ok(())
}

/// What is remembered is on disk with its events: the last of them, as many as the window takes.
fn judge_memory(rig: &Rig, opened: &Opened, oracle: &Oracle, lane: usize) -> Result<(), Stop> {
    let (partition, known) = (&opened.partitions[lane], &oracle.lanes[lane]);
    let found = partition.identities().map_err(|error| rig.stop("read identities", error))?;
    let all: Vec<u128> = known.serials().map(u128::from).collect();
    let enough = if known.remembers { all.len().min(WINDOW) } else { 0 };
    if !all.ends_with(&found) || found.len() < enough || (!known.remembers && !found.is_empty()) {
        return Err(format!("{}: {found:?} are remembered of {all:?}", known.name()).into());
    }
    Ok(())
}

fn judge_dead_letters(rig: &Rig, opened: &Opened, oracle: &mut Oracle) -> Result<(), Stop> {
    let listed = rig.dead_letters(opened, oracle)?;
    let found: BTreeSet<_> = listed.iter().map(|(_, letter)| letter.clone()).collect();
    if found.len() != listed.len() {
        return Err(Stop::Violation("a dead letter is there twice".to_owned()));
    }
    for letter in found.difference(&oracle.dead_letters.clone()) {
        let place = letter.sink.and_then(|sink| oracle.places.get_mut(&(sink, letter.lane)));
        match place.and_then(|place| place.refused.get_mut(&letter.serial)) {
            Some(is_recorded) if !*is_recorded => *is_recorded = true,
            _ => return Err(Stop::Violation(format!("{letter:?} was never refused"))),
        }
        oracle.dead_letters.insert(letter.clone());
    }
    match oracle.dead_letters.difference(&found).next() {
        Some(lost) => Err(Stop::Violation(format!("{lost:?} was recorded, and is lost"))),
        None => {
            // What was not recorded was not refused: the sink decides anew.
            oracle.places.values_mut().for_each(|place| place.refused.retain(|_, is_recorded| *is_recorded));
            Ok(())
        }
    }
}

impl Oracle {
    /// Decides which unacknowledged batches of a lane were written: each whole or not at all, and none after one that was
    /// not.
    fn settle_batches(&mut self, lane: usize, found: &BTreeMap<Serial, Offset>) -> Result<(), String> {
        let expects_gaps = self.expects_gaps;
        let known = &mut self.lanes[lane];
        known.offsets.extend(found.iter().map(|(serial, offset)| (*serial, *offset)));
        let mut gap = false;
        let mut letters = Vec::new();
        for batch in known.batches.iter_mut().filter(|batch| !batch.acknowledged) {
            match batch.serials.iter().filter(|serial| found.contains_key(serial)).count() {
                0 => gap = true,
                n if n == batch.serials.len() && (!gap || expects_gaps) => batch.acknowledged = true,
                n => {
                    let all = batch.serials.len();
                    return Err(format!("{n} of {all} events of an unanswered batch, after a gap: {gap}"));
                }
            }
            if batch.acknowledged {
                letters.extend(batch.refused.iter().copied());
            }
        }
        known.batches.retain(|batch| batch.acknowledged);
        if known.numbering == Numbering::Assigned {
            self.latest_epoch = self.latest_epoch.max(found.values().map(|offset| offset.epoch()).max());
        }
        let letter = |serial| super::oracle::DeadLetter { sink: None, lane, serial };
        self.dead_letters.extend(letters.into_iter().map(letter));
        Ok(())
    }

    /// Promise 4.
    fn compare_order(&self, lane: usize, order: &[Serial]) -> Result<(), String> {
        let mut appended = self.lanes[lane].serials();
        match order.iter().find(|serial| !appended.any(|next| next == **serial)) {
            Some(serial) => Err(format!("event {serial} is out of order, or of another partition")),
            None => Ok(()),
        }
    }
}

impl super::oracle::Lane {
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.stream, self.partition)
    }
}
