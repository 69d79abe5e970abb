//! Rows that the service has left out: it commits the others, and says how many these are, what the last of them lacks, and
//! the end of the append that has it.

use forebay_buffer::{Checkpoint, Offset};

use super::{SnowpipeLane, are_comparable, quoted};
use crate::{
    client::snowflake::Status,
    contract::{POSSIBLY_DELIVERED, Refusal, RefusedRange, SinkError},
    sink::snowpipe::{OnRowError, token::Token},
};

impl SnowpipeLane {
    /// What the service has left out of the events behind the local checkpoint, as is known only now: `new` rows. What is not
    /// behind it may be seen to already, by another owner. The error says that it is to be seen to.
    pub(super) fn refused_before(
        &self,
        status: &Status,
        new: u64,
        local: Option<Checkpoint>,
        found: Option<Checkpoint>,
        is_seen_to: bool,
    ) -> Result<Vec<RefusedRange>, SinkError> {
        if new == 0 {
            return Ok(Vec::new());
        }
        let after = local.map_or(Offset::BEFORE_ALL, |local| local.offset);
        let committed = found.map_or(Offset::BEFORE_ALL, |found| found.offset);
        let bound = error_bound(status)
            .filter(|bound| found.is_some_and(|found| are_comparable(self.partition.numbering, *bound, found)))
            .map(|bound| bound.offset);
        // One that is not behind what is confirmed comes late, and is of that.
        let through = bound.filter(|bound| *bound <= committed).map_or(committed, |bound| bound.max(after));
        if through <= after && is_seen_to {
            log::error!(
                "{} ({}: channel {}: {} among those up to {}, which are confirmed already: the owner that confirmed them has \
                 seen to it)",
                self.shared.progress.subject(),
                self.partition,
                self.channel,
                reason(status, new),
                self.partition.numbering.display(after),
            );
            return Ok(Vec::new());
        }
        self.meet(status, new, after, through)?;
        let range = RefusedRange { after, through, code: POSSIBLY_DELIVERED.to_owned(), reason: reason(status, new) };
        Ok(if through > after { vec![range] } else { Vec::new() })
    }

    /// The events that the service may have left out now: all from the last good token, `before`, to the end of the append
    /// that has the last of them. `None`: that is not committed yet, and there may be more.
    pub(super) fn refused_among(
        &mut self,
        status: &Status,
        new: u64,
        committed: Option<Token>,
    ) -> Result<Option<Vec<Refusal>>, SinkError> {
        let numbering = self.partition.numbering;
        let open = self.opened()?;
        let before = open.committed(numbering).unwrap_or(Offset::BEFORE_ALL);
        let is_news = committed != open.committed;
        let committed = committed.filter(|_| is_news).map_or(before, |token| token.checkpoint.offset);
        let last = open.flights.last();
        let through = match error_bound(status) {
            // It comes late, and is of what is confirmed, or of what another had appended.
            Some(bound) if bound.offset <= before || last.is_none_or(|last| last.generation != bound.generation) => {
                before
            }
            bound => {
                let bound = bound.map_or(committed, |bound| bound.offset);
                open.flights.end_of(bound).unwrap_or(committed)
            }
        };
        let offsets: Vec<_> = open.flights.through(through).collect();
        if through > committed && self.shared.settings.on_row_error == OnRowError::DeadLetter {
            return Ok(None);
        }
        self.meet(status, new, before, through)?;
        let reason = reason(status, new);
        let refusal = |offset| Refusal { offset, code: POSSIBLY_DELIVERED.to_owned(), reason: reason.clone() };
        Ok(Some(offsets.into_iter().map(refusal).collect()))
    }

    /// The service has left out `new` rows of those after `after` through `through`, or of earlier ones if there are none:
    /// says so, or stops.
    fn meet(&self, status: &Status, new: u64, after: Offset, through: Offset) -> Result<(), SinkError> {
        let numbering = self.partition.numbering;
        let among = match through > after {
            true => format!("among those after {} through {}", numbering.display(after), numbering.display(through)),
            false => format!("among those up to {}, which are confirmed already", numbering.display(after)),
        };
        let message = format!("{}: channel {}: {} {among}", self.partition, self.channel, reason(status, new));
        match self.shared.settings.on_row_error {
            OnRowError::DeadLetter => {
                let place =
                    if through > after { "they become dead letters" } else { "they are not in the buffer any more" };
                log::error!("{} ({message}); {place}", self.shared.progress.subject());
                Ok(())
            }
            OnRowError::Stop => Err(SinkError::Stop(format!(
                "{message}. Nothing more is confirmed. Mend what the table cannot take; then set on_row_error = \
                 \"dead-letter\" and reload the agent: it puts them among the dead letters, the good ones too, and goes on"
            ))),
        }
    }
}

/// Where the last row that was left out may be at most.
fn error_bound(status: &Status) -> Option<Checkpoint> {
    let token = Token::parse(status.last_error_offset_upper_bound.as_deref()?)?;
    Some(token.checkpoint)
}

/// The service's words about what it has left out.
fn reason(status: &Status, new: u64) -> String {
    let words = status.last_error_message.as_deref().map(quoted).unwrap_or_default();
    let rows = match new {
        1 => "1 row that does".to_owned(),
        _ => format!("{new} rows that do"),
    };
    format!("Snowflake has left out {rows} not fit the table ({words})")
}
