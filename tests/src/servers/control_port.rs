//! Where an emulator is asked what has come of it, and told what to be like.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::harness::Client;

/// A port of 127.0.0.1 that an emulator's README describes.
#[derive(Debug)]
pub struct ControlPort(pub(super) u16);

impl ControlPort {
    /// Arms a fault, and returns its number.
    pub fn arm(&self, fault: &Value) -> u64 {
        self.ask("POST", "/faults", fault)["id"].as_u64().expect("a fault has a number")
    }

    /// How often the fault with this number has happened.
    pub fn happened(&self, fault: u64) -> u64 {
        let all = self.ask("GET", "/faults", &Value::Null);
        let found = all.as_array().expect("a list").iter().find(|armed| armed["id"] == fault);
        found.expect("it was armed")["happened"].as_u64().expect("a count")
    }

    /// Changes settings.
    pub fn set(&self, settings: &Value) {
        self.ask("PATCH", "/settings", settings);
    }

    /// Panics at anything but success.
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        parse(&self.request(method, path, &body))
    }

    /// The same, with an answer that need not be JSON.
    pub(super) fn request(&self, method: &str, path: &str, body: &str) -> String {
        // An emulator closes a connection that was idle for some seconds, perhaps just when it is used again.
        let mut control = Client::new(self.0);
        let answer = control.request(method, path, &[], body.as_bytes()).expect("the control port answers");
        assert_eq!(answer.status, 200, "{method} {path} {body}: {}", answer.body);
        answer.body
    }
}

/// What an emulator has said.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("the emulator said {text:?}: {error}"))
}
