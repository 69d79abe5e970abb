//! Any bytes as the body of a request: events that are slices of it, or an error that points into it, without a panic.
#![no_main]

use bytes::Bytes;
use forebay::source::http::body::{Format, Limits, events};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let body = Bytes::copy_from_slice(bytes);
    let limits = Limits { max_event_bytes: 1000, max_events: 100 };
    for format in [Format::Json, Format::Ndjson, Format::Raw] {
        match events(&body, format, &limits) {
            Ok(events) => {
                assert!(events.len() <= limits.max_events);
                for event in events {
                    assert!(event.len() <= limits.max_event_bytes);
                    assert!(body.as_ptr_range().contains(&event.as_ptr()), "an event is a slice of its body");
                    let is_json = serde_json::from_slice::<&serde_json::value::RawValue>(&event).is_ok();
                    assert!(is_json || format == Format::Raw, "what is taken as JSON is JSON");
                }
            }
            Err(error) => assert!(error.byte.is_none_or(|byte| byte <= body.len()), "{error:?}"),
        }
    }
});
