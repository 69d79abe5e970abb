//! The kinds of values that keys have. Each says what is expected, and reads it.

mod list;
#[cfg(feature = "mqtt")]
mod mqtt;
mod number;
#[cfg(feature = "postgres")]
mod postgres;
mod text;

pub(super) use list::{Choices, Exclusions, Globs, Names};
#[cfg(feature = "mqtt")]
pub(super) use mqtt::{BrokerUrl, MessageIdentifier, MessageKey, MqttText, Topic, TopicFilters, covers};
pub(super) use number::{Count, Rate, Size, Time};
#[cfg(feature = "postgres")]
pub(super) use postgres::{ColumnNames, Columns, ServerUrl, Table};
pub(super) use text::{Address, Choice, FilePath, Loopback, Name, SecretText, UrlPath};
#[cfg(feature = "postgres")]
pub(super) use text::{HostName, Identifier, Password, PlainText};

use super::{
    document::{Node, Value},
    key::Kind,
    reading::Reading,
    report::Reported,
};

/// What another kind says, or `"off"`.
#[derive(Debug)]
pub(super) struct OrOff<K>(pub(super) K);

impl<K: Kind> Kind for OrOff<K> {
    type Value = Option<K::Value>;

    fn expected(&self) -> String {
        format!("{}, or \"off\"", self.0.expected())
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<Self::Value, Reported> {
        match &node.value {
            Value::Text(text) if text == "off" => Ok(None),
            _ => self.0.read(node, reading).map(Some),
        }
    }
}
