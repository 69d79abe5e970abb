//! Where reading begins in a partition: what the control table says, what the buffer says, and what the config says where
//! neither knows, or where the hub is not the one that it was.

use std::sync::Arc;

use forebay_buffer::{Numbering, Offset};
use tokio::sync::OnceCell;

use super::Position;
use crate::contract::{
    CheckpointKey, Control, ControlError, ControlRow, Creation, HubId, Intake, IntakeError, Passed, Target,
};

/// The numbers of what is here are those of a hub that is not the one there.
const ANOTHER_HUB: &str = "the hub was created before the one that was read until now: the source leads to another hub \
                           than it did (another name, or a namespace that has failed over). Nothing is read. Lead the source \
                           to the former hub again until what is in the buffer is delivered; then give it another name for \
                           this one";

/// The sinks of the stream, and the table where they say how far they are.
#[derive(Clone, Default)]
pub struct Checkpoints {
    /// The table. `None`: there is none, and what is here is all there is to know.
    pub control: Option<Arc<dyn Control>>,
    /// Where each sink that is not on this machine takes the events.
    pub targets: Vec<Target>,
    /// Whether there is another, which needs all that was not delivered to it from here: nothing may be passed over.
    pub has_local: bool,
}

/// The rows of partitions that begin together: whoever needs them first asks for all.
pub(super) struct Preloaded {
    keys: Vec<CheckpointKey>,
    rows: OnceCell<Vec<ControlRow>>,
}

impl Preloaded {
    pub(super) fn new(checkpoints: &Checkpoints, hub: &HubId, partitions: &[String]) -> Self {
        let keys = partitions.iter().flat_map(|partition| {
            checkpoints.targets.iter().map(move |target| CheckpointKey::of_hub(hub, partition, target))
        });
        Self { keys: keys.collect(), rows: OnceCell::new() }
    }

    async fn get(&self, control: &dyn Control) -> Result<&Vec<ControlRow>, ControlError> {
        self.rows.get_or_try_init(|| control.load(&self.keys)).await
    }
}

/// What the control table says of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Rows {
    /// The least of where sinks have come, under this creation of the hub.
    least: Option<Position>,
    /// Whether no sink is before that, so that it may be passed over.
    is_complete: bool,
    /// Whether a sink has come somewhere under an earlier creation.
    is_recreated: bool,
}

/// Where to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Beginning {
    /// After this.
    After(Position),
    /// Where the config says, for there is nothing here. Some sinks may have come to a place all the same.
    Fresh(Option<Position>),
    /// The same, for the hub is another one than the one that was read before.
    Recreated(Option<Position>),
}

impl Checkpoints {
    /// What the table says, or has said. The error is of the table, or says what is wrong with a row.
    pub(super) async fn rows(
        &self,
        hub: &HubId,
        partition: &str,
        created: i64,
        preloaded: Option<&Preloaded>,
    ) -> Result<Rows, ControlError> {
        let Some(control) = self.control.as_ref().filter(|_| !self.targets.is_empty()) else {
            return Ok(Rows::default());
        };
        let keys: Vec<_> = self.targets.iter().map(|target| CheckpointKey::of_hub(hub, partition, target)).collect();
        let found = match preloaded {
            Some(preloaded) => preloaded.get(&**control).await?,
            None => &control.load(&keys).await?,
        };
        let rows = keys.iter().map(|key| found.iter().find(|row| row.key == *key));
        compare(rows, !self.has_local, created, control.place()).map_err(ControlError::Stop)
    }
}

/// The least of what the sinks have. One without a row has nothing, and so has one that has no row there (not `is_complete`).
fn compare<'r>(
    rows: impl Iterator<Item = Option<&'r ControlRow>>,
    mut is_complete: bool,
    created: i64,
    place: &str,
) -> Result<Rows, String> {
    let (mut least, mut is_recreated): (Option<Position>, _) = (None, false);
    for row in rows {
        let Some(row) = row else {
            is_complete = false;
            continue;
        };
        let checkpoint = row.checkpoint.clone()?;
        let of = checkpoint.tag.0 as i64;
        if of > created {
            return Err(format!(
                "{ANOTHER_HUB} (the row of {} in {place} is of a later creation, tag {})",
                row.key, checkpoint.tag
            ));
        }
        if of < created {
            (is_complete, is_recreated) = (false, true);
            continue;
        }
        let position = Position::of_row(checkpoint.offset.0, row.upstream.as_ref());
        if least.as_ref().is_none_or(|least| position.sequence_number < least.sequence_number) {
            least = Some(position);
        }
    }
    Ok(Rows { least, is_complete, is_recreated })
}

/// Opens the partition, with what the sinks have already passed over, and says where to begin.
pub(super) async fn open(
    intake: &Intake,
    partition: &str,
    created: i64,
    rows: Rows,
) -> Result<Result<Beginning, String>, IntakeError> {
    let passed = rows
        .least
        .as_ref()
        .filter(|_| rows.is_complete)
        .map(|position| Passed { offset: Offset(position.sequence_number), position: Some(position.encode()) });
    let resumed = intake.resume_after(partition, Numbering::Shared { created }, passed).await?;
    if resumed.creation == Creation::Former {
        return Ok(Err(ANOTHER_HUB.to_owned()));
    }
    let known = match resumed.position.as_deref().map(Position::decode).transpose() {
        Ok(known) => known,
        Err(why) => return Ok(Err(why)),
    };
    // A batch whose events all came without a number has a position behind what is stored.
    let stored = (resumed.high_water > Offset::BEFORE_ALL)
        .then_some(Position { offset: None, sequence_number: resumed.high_water.0 });
    let later = match (known, stored) {
        (Some(known), Some(stored)) if stored.sequence_number > known.sequence_number => Some(stored),
        (known, stored) => known.or(stored),
    };
    Ok(Ok(match later {
        Some(position) => Beginning::After(position),
        None if resumed.creation == Creation::Anew || rows.is_recreated => Beginning::Recreated(rows.least),
        None => Beginning::Fresh(rows.least),
    }))
}

#[cfg(test)]
mod tests {
    use forebay_buffer::{Checkpoint, Generation, Tag};

    use super::*;
    use crate::contract::Upstream;

    fn row(tag: u64, offset: i64) -> ControlRow {
        let target = Target { database: "d".into(), schema: "s".into(), table: "t".into() };
        let key = CheckpointKey { namespace: "ns".into(), hub: "eh".into(), target, partition: "3".into() };
        let checkpoint = Ok(Checkpoint { generation: Generation(1), tag: Tag(tag), offset: Offset(offset) });
        let upstream = Some(Upstream { consumer_group: "$Default".into(), offset: Some(format!("o{offset}")) });
        ControlRow { key, kept_by: None, checkpoint, upstream }
    }

    fn at(number: i64) -> Option<Position> {
        Some(Position { offset: Some(format!("o{number}")), sequence_number: number })
    }

    fn of(rows: &[Option<ControlRow>]) -> Result<Rows, String> {
        compare(rows.iter().map(Option::as_ref), true, 9, "the table")
    }

    #[test]
    fn reading_begins_at_the_least_of_the_sinks_and_a_new_one_has_nothing() {
        let complete = Rows { is_complete: true, ..Rows::default() };
        let rows = of(&[Some(row(9, 7)), Some(row(9, 4)), Some(row(9, 5))]).expect("all can be read");
        assert_eq!(rows, Rows { least: at(4), ..complete.clone() });
        assert_eq!(of(&[Some(row(9, 7)), None]), Ok(Rows { least: at(7), ..Rows::default() }));
        assert_eq!(of(&[]), Ok(complete));
    }

    #[test]
    fn nothing_is_passed_over_where_a_sink_has_no_row_for_it_is_on_this_machine() {
        let beside_one = |row: ControlRow| compare([Some(&row)].into_iter(), false, 9, "the table");
        assert_eq!(beside_one(row(9, 7)), Ok(Rows { least: at(7), ..Rows::default() }));
        assert_eq!(beside_one(row(8, 7)), Ok(Rows { is_recreated: true, ..Rows::default() }));
    }

    #[test]
    fn a_hub_that_was_created_anew_is_recognised() {
        assert_eq!(of(&[Some(row(8, 7))]), Ok(Rows { is_recreated: true, ..Rows::default() }));
        let one = Rows { least: at(4), is_complete: false, is_recreated: true };
        assert_eq!(of(&[Some(row(8, 7)), Some(row(9, 4))]), Ok(one), "one sink has gone on");
        assert!(of(&[Some(row(10, 7))]).expect_err("it is later").contains("later creation"));
    }

    #[test]
    fn a_row_that_cannot_be_read_stops_the_partition() {
        let garbled = ControlRow { checkpoint: Err("waterlevel is NULL".into()), ..row(9, 1) };
        assert_eq!(of(&[Some(row(9, 7)), Some(garbled)]), Err("waterlevel is NULL".into()));
    }
}
