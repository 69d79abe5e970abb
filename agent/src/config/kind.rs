//! The kinds of values that keys have. Each says what is expected, and reads it.

#[cfg(any(feature = "eventhub", feature = "postgres"))]
mod azure;
#[cfg(any(feature = "postgres", feature = "snowpipe"))]
mod columns;
mod list;
#[cfg(feature = "mqtt")]
mod mqtt;
mod number;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "eventhub", feature = "postgres", feature = "snowpipe"))]
mod proxy;
#[cfg(feature = "snowpipe")]
mod snowflake;
mod text;

#[cfg(any(feature = "eventhub", feature = "postgres"))]
pub(super) use azure::{Authority, Tenant};
pub(super) use list::{Choices, Exclusions, Globs, Names};
#[cfg(feature = "mqtt")]
pub(super) use mqtt::{BrokerUrl, MessageIdentifier, MessageKey, MqttText, Topic, TopicFilters, covers};
pub(super) use number::{Count, Rate, Size, Time};
#[cfg(feature = "postgres")]
pub(super) use postgres::{ColumnNames, Columns, ServerUrl, Table};
#[cfg(any(feature = "eventhub", feature = "postgres", feature = "snowpipe"))]
pub(super) use proxy::ProxyUrl;
#[cfg(feature = "snowpipe")]
pub(super) use snowflake::{RowColumns, SnowflakeName};
#[cfg(any(feature = "eventhub", feature = "postgres"))]
pub(super) use text::HostName;
#[cfg(feature = "postgres")]
pub(super) use text::Identifier;
#[cfg(any(feature = "eventhub", feature = "postgres", feature = "snowpipe"))]
pub(super) use text::PlainText;
#[cfg(any(feature = "eventhub", feature = "mqtt", feature = "postgres", feature = "snowpipe"))]
pub(super) use text::SecretText;
#[cfg(any(feature = "eventhub", feature = "snowpipe"))]
pub(super) use text::Switch;
pub(super) use text::{Address, Choice, FilePath, Loopback, Name, Token, UrlPath};

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
