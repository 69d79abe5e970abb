//! What was appended to a channel and is not committed yet.

use std::{collections::VecDeque, ops::RangeInclusive};

use forebay_buffer::{Checkpoint, Offset};

/// Appends in their order, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Flights(VecDeque<Flight>);

#[derive(Debug)]
struct Flight {
    /// What the checkpoint is when it is committed: what the offset token of the append says.
    through: Checkpoint,
    /// Whose rows it has: offsets without a gap, which most have. None: all of these events are refused, and no token comes
    /// to them.
    rows: Vec<RangeInclusive<i64>>,
}

impl Flights {
    pub(super) fn push(&mut self, through: Checkpoint, offsets: Vec<Offset>) {
        let mut rows: Vec<RangeInclusive<i64>> = Vec::new();
        for Offset(offset) in offsets {
            match rows.last_mut() {
                Some(run) if run.end() + 1 == offset => *run = *run.start()..=offset,
                _ => rows.push(offset..=offset),
            }
        }
        self.0.push_back(Flight { through, rows });
    }

    /// Whether the service has anything to commit.
    pub(super) fn has_rows(&self) -> bool {
        self.0.iter().any(|flight| !flight.rows.is_empty())
    }

    /// The last of what is not committed.
    pub(super) fn last(&self) -> Option<Checkpoint> {
        self.0.back().map(|flight| flight.through)
    }

    /// The end of the append that has the event at `bound`, or would have it.
    pub(super) fn end_of(&self, bound: Offset) -> Option<Offset> {
        self.0.iter().map(|flight| flight.through.offset).find(|through| *through >= bound)
    }

    /// The events with rows up to `bound`.
    pub(super) fn through(&self, bound: Offset) -> impl Iterator<Item = Offset> {
        let rows = self.0.iter().flat_map(|flight| &flight.rows).cloned().flatten().map(Offset);
        rows.take_while(move |offset| *offset <= bound)
    }

    /// Whether the token of one of the appends says `committed`.
    pub(super) fn holds(&self, committed: Checkpoint) -> bool {
        self.0.iter().any(|flight| flight.through == committed)
    }

    /// The service has committed the append whose token says `committed`: lets go of all up to that, and of what follows
    /// without rows. How far that is. `None`: no further than before.
    ///
    /// A token that is of none of them says nothing about them: it is of another buffer, or of a clone of this one.
    pub(super) fn commit(&mut self, committed: Option<Checkpoint>) -> Option<Checkpoint> {
        let mut count = self.0.iter().position(|flight| Some(flight.through) == committed).map_or(0, |at| at + 1);
        count += self.0.iter().skip(count).take_while(|flight| flight.rows.is_empty()).count();
        self.0.drain(..count).next_back().map(|flight| flight.through)
    }
}

#[cfg(test)]
mod tests {
    use forebay_buffer::{Generation, Tag};

    use super::*;

    fn at(offset: i64) -> Checkpoint {
        Checkpoint { generation: Generation(1), tag: Tag(2), offset: Offset(offset) }
    }

    fn flights(all: &[(i64, &[i64])]) -> Flights {
        let mut flights = Flights::default();
        for (through, offsets) in all {
            flights.push(at(*through), offsets.iter().copied().map(Offset).collect());
        }
        flights
    }

    #[test]
    fn a_commit_lets_go_of_whole_appends_only() {
        let mut flights = flights(&[(3, &[1, 3]), (6, &[4, 5]), (9, &[7])]);
        assert_eq!(flights.commit(None), None);
        assert_eq!(flights.commit(Some(at(2))), None);
        assert_eq!(flights.commit(Some(at(6))), Some(at(6)), "commits come in batches");
        assert_eq!((flights.last(), flights.has_rows()), (Some(at(9)), true));
        assert_eq!(flights.commit(Some(at(6))), None, "it is told again");
        assert_eq!(flights.commit(Some(at(9))), Some(at(9)));
        assert_eq!((flights.last(), flights.has_rows()), (None, false));
    }

    #[test]
    fn a_token_of_another_buffer_or_of_a_clone_lets_go_of_nothing() {
        let mut flights = flights(&[(3, &[1, 3]), (6, &[4, 5])]);
        let others = [
            Checkpoint { generation: Generation(7), ..at(3) },
            Checkpoint { tag: Tag(7), ..at(6) },
            Checkpoint { generation: Generation(7), ..at(1000) },
            at(1000),
        ];
        for other in others {
            assert!(!flights.holds(other));
            assert_eq!(flights.commit(Some(other)), None, "{other:?}");
        }
    }

    #[test]
    fn what_has_no_rows_is_done_with_what_is_before_it() {
        let mut flights = flights(&[(2, &[]), (4, &[3]), (6, &[]), (8, &[])]);
        assert_eq!(flights.commit(None), Some(at(2)));
        assert_eq!(flights.commit(None), None);
        assert_eq!(flights.commit(Some(at(4))), Some(at(8)));
    }

    #[test]
    fn an_append_ends_behind_its_last_row() {
        let flights = flights(&[(3, &[1, 3]), (6, &[4, 5])]);
        assert_eq!(
            [1, 3, 4, 6].map(|bound| flights.end_of(Offset(bound)).map(|end| end.0)),
            [Some(3), Some(3), Some(6), Some(6)]
        );
        assert_eq!(flights.end_of(Offset(7)), None);
    }

    #[test]
    fn the_events_of_a_range_are_those_with_rows() {
        let flights = flights(&[(3, &[1, 3]), (4, &[]), (9, &[5, 6, 9])]);
        assert_eq!(flights.through(Offset(6)).map(|offset| offset.0).collect::<Vec<_>>(), [1, 3, 5, 6]);
    }
}
