//! What a body is to sinks that tell JSON, text and bytes apart.

use forebay_buffer::{BodyKind, Event};
use serde::de::IgnoredAny;

/// A body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    /// There is none.
    None,
    /// JSON, as it came.
    Json(&'a str),
    /// Text that is not JSON, or is not meant to be.
    Text(&'a str),
    /// Bytes that are not text, or are not meant to be.
    Bytes(&'a [u8]),
}

impl<'a> Body<'a> {
    /// The body of `event`: what its source says that it is, else what it looks like.
    pub fn of(event: &'a Event) -> Self {
        let Some(bytes) = &event.body else { return Self::None };
        // The validator looks at the grammar only, so UTF-8 comes first.
        match (event.body_kind, std::str::from_utf8(bytes)) {
            (BodyKind::Bytes, _) | (_, Err(_)) => Self::Bytes(bytes),
            (BodyKind::Text, Ok(text)) => Self::Text(text),
            (BodyKind::Json, Ok(text)) => Self::Json(text),
            (BodyKind::Unsaid, Ok(text)) if serde_json::from_str::<IgnoredAny>(text).is_ok() => Self::Json(text),
            (BodyKind::Unsaid, Ok(text)) => Self::Text(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use forebay_buffer::Timestamp;

    use super::*;

    #[test]
    fn what_the_source_says_of_a_body_counts_before_what_it_looks_like() {
        let event = |kind| Event { body_kind: kind, ..Event::new(Timestamp(0), "17") };
        assert_eq!(Body::of(&event(BodyKind::Unsaid)), Body::Json("17"));
        assert_eq!(Body::of(&event(BodyKind::Json)), Body::Json("17"));
        assert_eq!(Body::of(&event(BodyKind::Text)), Body::Text("17"));
        assert_eq!(Body::of(&event(BodyKind::Bytes)), Body::Bytes(b"17"));
    }

    #[test]
    fn what_is_no_text_is_bytes_whatever_the_source_says() {
        let event = |kind| Event { body_kind: kind, ..Event::new(Timestamp(0), vec![0xff]) };
        for kind in [BodyKind::Unsaid, BodyKind::Json, BodyKind::Text] {
            assert_eq!(Body::of(&event(kind)), Body::Bytes(&[0xff]));
        }
    }
}
