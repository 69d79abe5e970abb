//! Paths into JSON values: the part of JSONPath (RFC 9535) that names one place, `$.device['serial no'].channels[0]`.

mod raw;

use std::{fmt, iter::Peekable, str::CharIndices};

/// A path, parsed once and followed for each event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPath {
    text: String,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Name(String),
    Index(usize),
}

impl JsonPath {
    /// Parses a path. The error says what is wrong with it, and at which character.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut chars = text.char_indices().peekable();
        if chars.next_if(|(_, c)| *c == '$').is_none() {
            return Err("does not begin with \"$\", which stands for the whole value".to_owned());
        }
        let mut steps = Vec::new();
        while let Some((at, c)) = chars.next() {
            let step = match c {
                '.' => name(&mut chars),
                '[' => in_brackets(&mut chars),
                _ => Err("has no \".\" and no \"[\""),
            };
            steps.push(step.map_err(|problem| format!("{problem} (at character {})", text[..at].chars().count() + 1))?);
        }
        Ok(Self { text: text.to_owned(), steps })
    }

    /// What stands at this place in `value`, if anything does: what [`JsonPath::find_raw`] is held against.
    #[cfg(test)]
    fn find<'v>(&self, value: &'v serde_json::Value) -> Option<&'v serde_json::Value> {
        self.steps.iter().try_fold(value, |value, step| match step {
            Step::Name(name) => value.as_object()?.get(name),
            Step::Index(index) => value.as_array()?.get(*index),
        })
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn name(chars: &mut Peekable<CharIndices<'_>>) -> Result<Step, &'static str> {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    let name: String = std::iter::from_fn(|| chars.next_if(|(_, c)| fits(*c))).map(|(_, c)| c).collect();
    match (name.as_str(), chars.peek()) {
        ("", Some((_, '.' | '*'))) => Err("names more than one place, which is not supported"),
        ("", _) => Err("has no name behind the \".\": write other names as ['a name']"),
        _ => Ok(Step::Name(name)),
    }
}

fn in_brackets(chars: &mut Peekable<CharIndices<'_>>) -> Result<Step, &'static str> {
    let step = match chars.next_if(|(_, c)| matches!(c, '\'' | '"')) {
        Some((_, quote)) => Step::Name(quoted(chars, quote)?),
        None => {
            let digits: String =
                std::iter::from_fn(|| chars.next_if(|(_, c)| c.is_ascii_digit())).map(|(_, c)| c).collect();
            Step::Index(digits.parse().map_err(|_| "has neither a name in quotes nor a number in its brackets")?)
        }
    };
    chars.next_if(|(_, c)| *c == ']').map(|_| step).ok_or("has more in its brackets than one name or number")
}

/// The name up to the closing `quote`; a backslash keeps the character behind it.
fn quoted(chars: &mut Peekable<CharIndices<'_>>, quote: char) -> Result<String, &'static str> {
    let mut name = String::new();
    loop {
        match chars.next() {
            Some((_, c)) if c == quote => return Ok(name),
            Some((_, '\\')) => name.extend(chars.next().map(|(_, c)| c)),
            Some((_, c)) => name.push(c),
            None => return Err("has a quote that is not closed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn find(path: &str, value: &Value) -> Option<Value> {
        JsonPath::parse(path).expect("a path").find(value).cloned()
    }

    #[test]
    fn a_path_leads_to_its_place() {
        let value = json!({"device": {"id": 7, "serial no": "x", "it's": [1, [2, 3]]}, "größe": null, "a-b": 1});
        assert_eq!(find("$", &value), Some(value.clone()));
        assert_eq!(find("$.device.id", &value), Some(json!(7)));
        assert_eq!(find("$['device'].id", &value), Some(json!(7)));
        assert_eq!(find("$.device[\"serial no\"]", &value), Some(json!("x")));
        assert_eq!(find(r"$.device['it\'s'][1][0]", &value), Some(json!(2)));
        assert_eq!(find("$.größe", &value), Some(Value::Null));
        assert_eq!(find("$.a-b", &value), Some(json!(1)));
    }

    #[test]
    fn where_nothing_is_nothing_is_found() {
        let value = json!({"device": {"id": 7}, "list": [1]});
        for path in ["$.devices", "$.device.id.more", "$.list.id", "$.list[1]", "$[0]", "$.device[0]"] {
            assert_eq!(find(path, &value), None, "{path}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused_with_its_place() {
        let wrong = |text| JsonPath::parse(text).expect_err("no path");
        assert_eq!(wrong("device.id"), "does not begin with \"$\", which stands for the whole value");
        assert_eq!(wrong("$.a..b"), "names more than one place, which is not supported (at character 4)".to_owned());
        for text in ["", "$a", "$.", "$.a.", "$.*", "$[", "$[]", "$['a'", "$['a", "$[-1]", "$[1:2]", "$[*]", "$.a b"] {
            wrong(text);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\$?[.\\[\\]'\"\\\\a-c0-9*é]{0,12}") {
            if let Ok(path) = JsonPath::parse(&text) {
                prop_assert_eq!(path.to_string(), text);
            }
        }
    }
}
