//! Birth and last will: what others are told of the agent.

use serde_json::json;

use super::Settings;
use crate::client::mqtt::Will;

/// What is published about one source, and where.
pub(super) struct Status {
    topic: Option<String>,
    agent: String,
    source: String,
}

impl Status {
    pub(super) fn new(settings: &Settings, agent: &str, source: &str) -> Self {
        Self { topic: settings.status_topic.clone(), agent: agent.to_owned(), source: source.to_owned() }
    }

    /// What is said once it is there, and on which topic.
    pub(super) fn online(&self) -> Option<(&str, Vec<u8>)> {
        let version = env!("CARGO_PKG_VERSION");
        let payload = json!({"agent": self.agent, "source": self.source, "state": "online", "version": version});
        Some((self.topic.as_deref()?, payload.to_string().into_bytes()))
    }

    /// What is said when it goes.
    pub(super) fn offline(&self) -> Option<(&str, Vec<u8>)> {
        let payload = json!({"agent": self.agent, "source": self.source, "state": "offline"});
        Some((self.topic.as_deref()?, payload.to_string().into_bytes()))
    }

    /// The same, said by the broker when the connection is lost.
    pub(super) fn will(&self) -> Option<Will> {
        self.offline().map(|(topic, payload)| Will { topic: topic.to_owned(), payload })
    }
}
