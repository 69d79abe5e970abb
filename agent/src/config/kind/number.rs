//! Numbers: with a unit unless they count things.

use std::time::Duration;

use crate::config::{
    document::{Node, Value},
    key::Kind,
    reading::Reading,
    report::Reported,
    units::{parse_rate, parse_size, parse_time, show_size, show_time},
};

/// A size in bytes, within limits.
#[derive(Debug)]
pub(in crate::config) struct Size {
    pub(in crate::config) min: u64,
    pub(in crate::config) max: u64,
}

/// A time, within limits.
#[derive(Debug)]
pub(in crate::config) struct Time {
    pub(in crate::config) min: Duration,
    pub(in crate::config) max: Duration,
}

/// Bytes for each second.
#[derive(Debug)]
pub(in crate::config) struct Rate;

/// A number of things, within limits.
#[derive(Debug)]
pub(in crate::config) struct Count {
    pub(in crate::config) min: u64,
    pub(in crate::config) max: u64,
}

impl Kind for Size {
    type Value = u64;

    fn expected(&self) -> String {
        let range = match (self.min, self.max) {
            (0, u64::MAX) => String::new(),
            (min, u64::MAX) => format!(", at least {}", show_size(min)),
            (min, max) => format!(", from {} to {}", show_size(min), show_size(max)),
        };
        format!("a size with its unit, such as \"64KiB\" or \"2GiB\"{range}")
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<u64, Reported> {
        let size = measure(node, reading, parse_size)?;
        within(size, &self.min, &self.max).map_err(|problem| reading.wrong(node, problem))
    }
}

impl Kind for Time {
    type Value = Duration;

    fn expected(&self) -> String {
        let range = format!(", from {} to {}", show_time(self.min), show_time(self.max));
        format!("a time with its unit, such as \"250ms\", \"10s\" or \"1h30m\"{range}")
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<Duration, Reported> {
        let time = measure(node, reading, parse_time)?;
        within(time, &self.min, &self.max).map_err(|problem| reading.wrong(node, problem))
    }
}

impl Kind for Rate {
    type Value = u64;

    fn expected(&self) -> String {
        "bytes for each second with their unit, such as \"1MiB/s\", at least 1KiB/s".to_owned()
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<u64, Reported> {
        let rate = measure(node, reading, parse_rate)?;
        within(rate, &1_024, &u64::MAX).map_err(|problem| reading.wrong(node, problem))
    }
}

impl Kind for Count {
    type Value = u64;

    fn expected(&self) -> String {
        format!("a whole number without quotes, from {} to {}", self.min, self.max)
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<u64, Reported> {
        let number = match &node.value {
            Value::Integer(number) => number,
            Value::Text(number) if reading.is_of_variable() => number,
            other => return Err(reading.wrong(node, format!("is {}", other.kind()))),
        };
        let number = match number.parse() {
            Ok(number) => number,
            Err(_) if number.starts_with('-') => return Err(reading.wrong(node, "is negative")),
            Err(_) => return Err(reading.wrong(node, "is not a decimal number that can be counted to")),
        };
        within(number, &self.min, &self.max).map_err(|problem| reading.wrong(node, problem))
    }
}

/// Reads a text with `parse`. A number without quotes is read the same way: what it lacks is its unit.
fn measure<T>(
    node: &Node,
    reading: &mut Reading<'_, '_>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<T, Reported> {
    let text = match &node.value {
        Value::Integer(number) => number.clone(),
        _ => reading.text(node)?,
    };
    parse(&text).map_err(|problem| reading.wrong(node, problem))
}

fn within<T: PartialOrd>(value: T, min: &T, max: &T) -> Result<T, &'static str> {
    match () {
        () if value < *min => Err("is too small"),
        () if value > *max => Err("is too large"),
        () => Ok(value),
    }
}
