//! From the bytes of a request's body to the bodies of its events: a pure function, and the only parser of what
//! producers send.
//!
//! Nothing is built of the JSON: it is checked, and each event is a slice of the body, byte for byte as it came, with
//! duplicate keys, odd numbers and all. The check does not recurse, and nesting is limited nevertheless, for the sake
//! of the destinations.

mod depth;

use std::ops::Range;

use bytes::Bytes;
use memchr::memchr;
use serde::{
    Deserializer as _,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// How deep JSON may be nested. What stores it gives up not far above (serde_json at 128).
pub const MAX_DEPTH: usize = 100;

/// How a body is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON value: an array is one event for each element, anything else one event.
    Json,
    /// One JSON value on each line. Blank lines are passed over.
    Ndjson,
    /// The body is one event.
    Raw,
}

/// How much one request may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one event's body.
    pub max_event_bytes: usize,
    /// Events.
    pub max_events: usize,
}

/// What is wrong with a body, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyError {
    /// The kind of fault.
    pub fault: Fault,
    /// What is wrong, where, and what to do: for the producer.
    pub message: String,
    /// The line of an NDJSON body, from 1.
    pub line: Option<usize>,
    /// The element of a JSON array, from 0.
    pub element: Option<usize>,
    /// The byte in the body (decompressed), from 0.
    pub byte: Option<usize>,
}

/// Kinds of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The body is not what it should be.
    Malformed,
    /// An event is too large, or there are too many of them.
    TooLarge,
}

/// Takes `body` apart. On an error, nothing of it is to be kept.
pub fn events(body: &Bytes, format: Format, limits: &Limits) -> Result<Vec<Bytes>, BodyError> {
    if body.is_empty() {
        return Err(BodyError::malformed("the body is empty: send at least one event"));
    }
    let splitter = Splitter { body, limits };
    match format {
        Format::Raw => splitter.keep(body.clone(), 0, Place::Whole).map(|event| vec![event]),
        Format::Json => splitter.json(splitter.text()?),
        Format::Ndjson => splitter.ndjson(splitter.text()?),
    }
}

impl BodyError {
    fn malformed(message: impl Into<String>) -> Self {
        Self { fault: Fault::Malformed, message: message.into(), line: None, element: None, byte: None }
    }

    /// `what` at byte `byte` of the body, which is in `place`, whose own text begins at `start`.
    fn at(fault: Fault, place: Place, byte: usize, what: &str) -> Self {
        let (message, line, element) = match place {
            Place::Whole => (format!("byte {byte}: {what}"), None, None),
            Place::Line { number, start } => {
                (format!("line {number}, column {}: {what}", byte - start + 1), Some(number), None)
            }
            Place::Element(index) => (format!("element {index}, byte {byte}: {what}"), None, Some(index)),
        };
        Self { fault, message, line, element, byte: Some(byte) }
    }
}

/// Where in a body something is.
#[derive(Debug, Clone, Copy)]
enum Place {
    Whole,
    Line { number: usize, start: usize },
    Element(usize),
}

struct Splitter<'a> {
    body: &'a Bytes,
    limits: &'a Limits,
}

impl Splitter<'_> {
    /// The body as text, without the byte order mark that some producers begin with (RFC 8259 section 8.1).
    fn text(&self) -> Result<&str, BodyError> {
        let text = std::str::from_utf8(self.body).map_err(|error| {
            let byte = error.valid_up_to();
            let number = 1 + memchr::memchr_iter(b'\n', &self.body[..byte]).count();
            let start = memchr::memrchr(b'\n', &self.body[..byte]).map_or(0, |end| end + 1);
            BodyError::at(Fault::Malformed, Place::Line { number, start }, byte, "this is not UTF-8")
        })?;
        Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
    }

    fn json(&self, text: &str) -> Result<Vec<Bytes>, BodyError> {
        match text.trim_start_matches(JSON_SPACE).bytes().next() {
            None => Err(BodyError::malformed("the body is blank: send at least one event")),
            Some(b'[') => self.array(text),
            Some(_) => {
                let value = self.value(text, Place::Whole)?;
                self.keep(self.body.slice_ref(value.as_bytes()), self.offset(value), Place::Whole).map(|one| vec![one])
            }
        }
    }

    fn array(&self, text: &str) -> Result<Vec<Bytes>, BodyError> {
        if let Some(byte) = depth::exceeds(text.as_bytes(), MAX_DEPTH + 1) {
            return Err(self.too_deep(Place::Whole, self.offset(text) + byte));
        }
        let mut elements = Elements { splitter: self, events: Vec::new(), error: None };
        let mut parser = serde_json::Deserializer::from_str(text);
        let read = parser.deserialize_seq(&mut elements);
        let Elements { events, error, .. } = elements;
        match (error, read) {
            (Some(error), _) => Err(error),
            (None, Err(error)) => Err(self.syntax(Place::Element(events.len()), text, &error)),
            (None, Ok(())) => match parser.end() {
                Ok(()) => Ok(events),
                Err(error) => Err(self.syntax(Place::Whole, text, &error)),
            },
        }
    }

    fn ndjson(&self, text: &str) -> Result<Vec<Bytes>, BodyError> {
        let mut events = Vec::new();
        let mut number = 0;
        let mut rest = text;
        while !rest.is_empty() {
            number += 1;
            let (line, after) = match memchr(b'\n', rest.as_bytes()) {
                Some(end) => (&rest[..end], &rest[end + 1..]),
                None => (rest, ""),
            };
            rest = after;
            let line = line.strip_suffix('\r').unwrap_or(line);
            if line.trim_matches(JSON_SPACE).is_empty() {
                continue;
            }
            let start = self.offset(line);
            let place = Place::Line { number, start };
            self.value(line, place)?;
            self.room(events.len(), place, start)?;
            events.push(self.keep(self.body.slice_ref(line.as_bytes()), start, place)?);
        }
        if events.is_empty() {
            return Err(BodyError::malformed("the body has no line that is not blank: send at least one event"));
        }
        Ok(events)
    }

    /// The one JSON value in `text`, without what is blank around it.
    fn value<'t>(&self, text: &'t str, place: Place) -> Result<&'t str, BodyError> {
        if let Some(byte) = depth::exceeds(text.as_bytes(), MAX_DEPTH) {
            return Err(self.too_deep(place, self.offset(text) + byte));
        }
        let value: &RawValue = serde_json::from_str(text).map_err(|error| self.syntax(place, text, &error))?;
        Ok(value.get())
    }

    fn keep(&self, event: Bytes, start: usize, place: Place) -> Result<Bytes, BodyError> {
        if event.len() <= self.limits.max_event_bytes {
            return Ok(event);
        }
        let what = format!(
            "this event has {} bytes and {} are allowed: split it, or raise max_event_bytes",
            event.len(),
            self.limits.max_event_bytes
        );
        Err(BodyError::at(Fault::TooLarge, place, start, &what))
    }

    /// Whether one more event may come.
    fn room(&self, have: usize, place: Place, start: usize) -> Result<(), BodyError> {
        if have < self.limits.max_events {
            return Ok(());
        }
        let what = format!("more than {} events: send them in several requests", self.limits.max_events);
        Err(BodyError::at(Fault::TooLarge, place, start, &what))
    }

    fn too_deep(&self, place: Place, byte: usize) -> BodyError {
        let what = format!("nested deeper than {MAX_DEPTH} levels");
        BodyError::at(Fault::Malformed, place, byte, &what)
    }

    fn syntax(&self, place: Place, text: &str, error: &serde_json::Error) -> BodyError {
        let said = error.to_string();
        let what = said.rfind(" at line ").map_or(said.as_str(), |end| &said[..end]);
        let line_start = match error.line() {
            0 | 1 => 0,
            line => memchr::memchr_iter(b'\n', text.as_bytes()).nth(line - 2).map_or(0, |end| end + 1),
        };
        let byte = (line_start + error.column().saturating_sub(1)).min(text.len());
        BodyError::at(Fault::Malformed, place, self.offset(text) + byte, what)
    }

    /// Where in the body `part`, a slice of it, begins.
    fn offset(&self, part: &str) -> usize {
        let Range { start, end } = self.body.as_ptr_range();
        let at = part.as_ptr();
        debug_assert!((start..=end).contains(&at), "only slices of the body are asked for");
        at.addr() - start.addr()
    }
}

const JSON_SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// Collects an array's elements.
struct Elements<'s> {
    splitter: &'s Splitter<'s>,
    events: Vec<Bytes>,
    error: Option<BodyError>,
}

impl<'de> Visitor<'de> for &mut Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        let splitter = self.splitter;
        while let Some(element) = array.next_element::<&RawValue>()? {
            let element = element.get();
            let (place, start) = (Place::Element(self.events.len()), splitter.offset(element));
            let kept = splitter
                .room(self.events.len(), place, start)
                .and_then(|()| splitter.keep(splitter.body.slice_ref(element.as_bytes()), start, place));
            match kept {
                Ok(event) => self.events.push(event),
                Err(error) => {
                    self.error = Some(error);
                    return Err(A::Error::custom("a limit is passed"));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
