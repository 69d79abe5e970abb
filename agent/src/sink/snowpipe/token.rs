//! The offset token that the service commits with a channel's rows: which checkpoint they come to.
//!
//! `forebay/1/GENERATION/TAG/OFFSET/ERRORS`: generation and tag in hexadecimal (where numbers are a hub's own, the tag is
//! when that was created, in microseconds since 1970), then the event's number, and how many row errors of the channel
//! were known and dealt with when it was appended. So another agent that takes a partition over sees whether there were
//! more since.

use std::fmt;

use forebay_buffer::{Checkpoint, Offset};

/// A token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    /// The last event that the rows come to.
    pub(super) checkpoint: Checkpoint,
    /// Row errors of the channel that had been dealt with.
    pub(super) errors: u64,
}

impl Token {
    /// Reads one. `None`: another program wrote it, or a later version of this one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("forebay/1/")?.split('/');
        let mut next = || parts.next();
        let token = Self {
            checkpoint: Checkpoint {
                generation: next()?.parse().ok()?,
                tag: next()?.parse().ok()?,
                offset: Offset(next()?.parse().ok().filter(|offset| *offset >= 0)?),
            },
            errors: next()?.parse().ok()?,
        };
        // There is one way to write it: what differs was not written here.
        (token.to_string() == text).then_some(token)
    }

    /// Whether it was appended in the same opening of the same buffer, and earlier.
    pub(super) fn is_before(&self, other: &Self) -> bool {
        let (one, other) = (self.checkpoint, other.checkpoint);
        (one.generation, one.tag) == (other.generation, other.tag) && one.offset < other.offset
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Checkpoint { generation, tag, offset } = self.checkpoint;
        write!(f, "forebay/1/{generation}/{tag}/{}/{}", offset.0, self.errors)
    }
}

#[cfg(test)]
mod tests {
    use forebay_buffer::{Generation, Tag};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_says_where_its_rows_come_to() {
        let checkpoint = Checkpoint { generation: Generation(0xabc), tag: Tag(0x12), offset: Offset(77) };
        let token = Token { checkpoint, errors: 3 };
        let text = "forebay/1/00000000000000000000000000000abc/0000000000000012/77/3";
        assert_eq!((token.to_string().as_str(), Token::parse(text)), (text, Some(token)));
    }

    #[test]
    fn what_another_wrote_is_no_token() {
        let text = "forebay/1/00000000000000000000000000000abc/0000000000000012/77/3";
        let others = [
            "",
            "3_17",
            "forebay/2/00000000000000000000000000000abc/0000000000000012/77/3",
            "forebay/1/abc/12/77/3",
            "forebay/1/00000000000000000000000000000abc/0000000000000012/-1/3",
            "forebay/1/00000000000000000000000000000abc/0000000000000012/+77/3",
            &text[..text.len() - 2],
            &format!("{text}/4"),
            &format!("{text} "),
        ];
        for other in others {
            assert_eq!(Token::parse(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn a_token_is_read_as_it_was_written(generation: u128, tag: u64, offset in 0..=i64::MAX, errors: u64) {
            let checkpoint = Checkpoint { generation: Generation(generation), tag: Tag(tag), offset: Offset(offset) };
            let token = Token { checkpoint, errors };
            prop_assert_eq!(Token::parse(&token.to_string()), Some(token));
        }

        #[test]
        fn no_text_makes_it_panic(text in "(forebay/1/)?[0-9a-f/+-]{0,70}") {
            let _ = Token::parse(&text);
        }
    }
}
