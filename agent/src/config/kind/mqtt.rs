//! What MQTT has of its own: addresses of brokers, topics, filters, and what identifies a message.

use crate::{
    client::mqtt::Address,
    config::{document::Node, key::Kind, reading::Reading, report::Reported},
    json_path::JsonPath,
    source::mqtt::{Identifier, Key},
};

/// No text is longer (MQTT 3.1.1 and 5, section 1.5.3 and 1.5.4).
const MAX_TEXT_BYTES: usize = 65_535;

/// Where a broker is.
#[derive(Debug)]
pub(in crate::config) struct BrokerUrl;

/// Filters of topics, each once, at least one.
#[derive(Debug)]
pub(in crate::config) struct TopicFilters;

/// A topic.
#[derive(Debug)]
pub(in crate::config) struct Topic;

/// A text as MQTT has them: the name of a client or a user.
#[derive(Debug)]
pub(in crate::config) struct MqttText;

/// What is a message's key.
#[derive(Debug)]
pub(in crate::config) struct MessageKey;

/// What identifies a message.
#[derive(Debug)]
pub(in crate::config) struct MessageIdentifier;

impl Kind for BrokerUrl {
    type Value = Address;

    fn expected(&self) -> String {
        "\"mqtt://HOST:1883\", or \"mqtts://HOST:8883\" with TLS".to_owned()
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<Address, Reported> {
        let text = reading.text(node)?;
        Address::parse(&text).map_err(|problem| reading.wrong(node, problem))
    }
}

impl Kind for TopicFilters {
    type Value = Vec<String>;

    fn expected(&self) -> String {
        "a list of topics, such as [\"plant/+/telemetry\", \"alarms/#\"], at least one; \"+\" stands for one level, \
         \"#\" at the end for all that follow"
            .to_owned()
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<Vec<String>, Reported> {
        let items = reading.list(node)?;
        if items.is_empty() {
            return Err(reading.wrong(node, "is empty"));
        }
        let mut filters = Vec::with_capacity(items.len());
        for item in items {
            let filter = reading.text(item)?;
            check_filter(&filter).map_err(|problem| reading.wrong(item, problem))?;
            if filters.contains(&filter) {
                return Err(reading.wrong(item, "names the same twice"));
            }
            filters.push(filter);
        }
        Ok(filters)
    }
}

impl Kind for Topic {
    type Value = String;

    fn expected(&self) -> String {
        "a topic without wildcards, such as \"plant/gateway/status\"".to_owned()
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<String, Reported> {
        let topic = MqttText.read(node, reading)?;
        if topic.contains(['+', '#']) { Err(reading.wrong(node, "has a wildcard")) } else { Ok(topic) }
    }
}

impl Kind for MqttText {
    type Value = String;

    fn expected(&self) -> String {
        format!("a text of at most {MAX_TEXT_BYTES} bytes")
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<String, Reported> {
        let text = reading.text(node)?;
        check_text(&text).map_err(|problem| reading.wrong(node, problem)).map(|()| text)
    }
}

impl Kind for MessageKey {
    type Value = Key;

    fn expected(&self) -> String {
        "\"topic\", or the path of a field such as \"$.device.id\"".to_owned()
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<Key, Reported> {
        let text = reading.text(node)?;
        match text.as_str() {
            "topic" => Ok(Key::Topic),
            path => JsonPath::parse(path).map(Key::Path).map_err(|problem| reading.wrong(node, problem)),
        }
    }
}

impl Kind for MessageIdentifier {
    type Value = Identifier;

    fn expected(&self) -> String {
        "\"key\", \"header:NAME\" for a user property, or the path of a field such as \"$.id\"".to_owned()
    }

    fn read(&self, node: &Node, reading: &mut Reading<'_, '_>) -> Result<Identifier, Reported> {
        let text = reading.text(node)?;
        match text.strip_prefix("header:") {
            Some("") => Err(reading.wrong(node, "has no name behind \"header:\"")),
            Some(name) => Ok(Identifier::Header(name.to_owned())),
            None if text == "key" => Ok(Identifier::Key),
            None => JsonPath::parse(&text).map(Identifier::Path).map_err(|problem| reading.wrong(node, problem)),
        }
    }
}

fn check_text(text: &str) -> Result<(), &'static str> {
    match () {
        () if text.is_empty() => Err("is empty"),
        () if text.len() > MAX_TEXT_BYTES => Err("is too long"),
        () if text.contains('\0') => Err("holds a NUL character"),
        () => Ok(()),
    }
}

/// MQTT 3.1.1 and 5, section 4.7, and 4.8.2 of MQTT 5 for what is shared.
fn check_filter(filter: &str) -> Result<(), &'static str> {
    check_text(filter)?;
    let filter = match filter.strip_prefix("$share/") {
        None => filter,
        Some(shared) => match shared.split_once('/') {
            Some((group, _)) if group.is_empty() || group.contains(['+', '#']) => {
                return Err("has no name of a group behind \"$share/\"");
            }
            Some((_, filter)) if !filter.is_empty() => filter,
            _ => return Err("has no topic behind the name of its group"),
        },
    };
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        match level {
            "#" if levels.peek().is_some() => return Err("has levels behind its \"#\""),
            "#" | "+" => {}
            _ if level.contains(['+', '#']) => return Err("has a wildcard that is only a part of its level"),
            _ => {}
        }
    }
    Ok(())
}

/// Whether what is published to `topic` comes to a subscriber of `filter` (MQTT 3.1.1 and 5, section 4.7).
pub(in crate::config) fn covers(filter: &str, topic: &str) -> bool {
    let shared = filter.strip_prefix("$share/").and_then(|shared| shared.split_once('/'));
    let filter = shared.map_or(filter, |(_, filter)| filter);
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let (mut levels, mut wanted) = (topic.split('/'), filter.split('/'));
    loop {
        match (wanted.next(), levels.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_covers_a_topic_as_a_broker_sees_it() {
        for filter in ["a/b/c", "a/+/c", "#", "a/#", "a/b/c/#", "+/+/+", "$share/g/a/#"] {
            assert!(covers(filter, "a/b/c"), "{filter}");
        }
        for filter in ["a/b", "a/b/c/d", "+", "a/+", "b/#", "$share/g/a", "a/b/c/+"] {
            assert!(!covers(filter, "a/b/c"), "{filter}");
        }
        assert!(!covers("#", "$SYS/x") && !covers("+/x", "$SYS/x") && covers("$SYS/#", "$SYS/x"));
    }

    #[test]
    fn filters_have_their_wildcards_where_they_may_be() {
        for filter in ["a", "/", "a/b", "+", "#", "a/+/b", "a/#", "+/+", "$SYS/#", "$share/g/a/+", "$share/g//a", "a b"]
        {
            assert_eq!(check_filter(filter), Ok(()), "{filter}");
        }
        for filter in
            ["", "a#", "a/#/b", "#/", "a+", "+a/b", "$share/", "$share/g", "$share/g/", "$share//a", "$share/+/a", "\0"]
        {
            check_filter(filter).expect_err(filter);
        }
    }
}
