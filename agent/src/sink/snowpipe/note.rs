//! What is kept with a lane's local checkpoint.

use crate::client::snowflake::Status;

/// What was known of the channel when it was confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    /// When the channel was made, in milliseconds since 1970: another one of the same name counts its errors anew.
    pub(super) created_on_ms: Option<i64>,
    /// Row errors of the channel that have been dealt with.
    pub(super) errors: u64,
    /// The token that was committed. The checkpoint may be beyond what it says, by events that were refused.
    pub(super) token: Option<String>,
}

impl Note {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let created = self.created_on_ms.map(|created| created.to_string()).unwrap_or_default();
        format!("{created} {} {}", self.errors, self.token.as_deref().unwrap_or_default()).into_bytes()
    }

    /// `None`: there is none, or it is of another kind of sink.
    pub(super) fn from_bytes(bytes: Option<&[u8]>) -> Option<Self> {
        let text = std::str::from_utf8(bytes?).ok()?;
        let (created, rest) = text.split_once(' ')?;
        let (errors, token) = rest.split_once(' ')?;
        Some(Self {
            created_on_ms: if created.is_empty() { None } else { Some(created.parse().ok()?) },
            errors: errors.parse().ok()?,
            token: Some(token).filter(|token| !token.is_empty()).map(str::to_owned),
        })
    }

    /// Row errors of the channel that have been dealt with: what this says, if it is of the same channel, or what the
    /// committed token says.
    pub(super) fn errors_known(note: Option<&Self>, status: &Status, of_token: u64) -> u64 {
        let of_note = note.filter(|note| note.created_on_ms == status.created_on_ms).map_or(0, |note| note.errors);
        of_note.max(of_token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(created_on_ms: Option<i64>, errors: u64, token: Option<&str>) -> Note {
        Note { created_on_ms, errors, token: token.map(str::to_owned) }
    }

    #[test]
    fn a_note_is_read_as_it_was_written() {
        for note in
            [note(None, 0, None), note(Some(-1), u64::MAX, Some("a b")), note(Some(1_700_000_000_000), 3, Some("x"))]
        {
            assert_eq!(Note::from_bytes(Some(&note.to_bytes())), Some(note));
        }
    }

    #[test]
    fn what_another_sink_has_kept_is_no_note() {
        for bytes in [None, Some(&b""[..]), Some(b"1"), Some(b"x 1 "), Some(b"1 x "), Some(&[0xff, b' ', b'1', b' '])] {
            assert_eq!(Note::from_bytes(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_channel_that_was_made_anew_counts_its_errors_anew() {
        let status = Status { created_on_ms: Some(5), ..Status::default() };
        assert_eq!(Note::errors_known(Some(&note(Some(5), 3, None)), &status, 1), 3);
        assert_eq!(Note::errors_known(Some(&note(Some(4), 3, None)), &status, 1), 1);
        assert_eq!(Note::errors_known(None, &status, 1), 1, "another agent had the channel");
    }
}
