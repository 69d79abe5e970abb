//! Following a path through the text of a JSON value, which stays as it is: a number keeps all its digits.

use super::{JsonPath, Step};

impl JsonPath {
    /// The text that stands at this place in `json`, which must be valid. Of several members with the same name the last
    /// counts, as it does to the servers and libraries that read JSON. In a text that is not JSON it may find nothing,
    /// or anything that is part of it.
    pub fn find_raw<'j>(&self, json: &'j str) -> Option<&'j str> {
        self.steps.iter().try_fold(json.trim_ascii(), |value, step| match step {
            Step::Name(name) => member(value, name),
            Step::Index(index) => element(value, *index),
        })
    }
}

fn member<'j>(object: &'j str, wanted: &str) -> Option<&'j str> {
    let mut rest = object.strip_prefix('{')?.trim_ascii_start();
    let mut found = None;
    while rest.starts_with('"') {
        let (name, after) = rest.split_at_checked(string_end(rest)?)?;
        let after = after.trim_ascii_start().strip_prefix(':')?.trim_ascii_start();
        let (value, behind) = after.split_at_checked(value_end(after)?)?;
        if names(name, wanted) {
            found = Some(value);
        }
        rest = match behind.trim_ascii_start().strip_prefix(',') {
            Some(more) => more.trim_ascii_start(),
            None => break,
        };
    }
    found
}

fn element(array: &str, index: usize) -> Option<&str> {
    let mut rest = array.strip_prefix('[')?.trim_ascii_start();
    for at in 0.. {
        let (value, behind) = rest.split_at_checked(value_end(rest)?)?;
        if at == index {
            return Some(value);
        }
        rest = behind.trim_ascii_start().strip_prefix(',')?.trim_ascii_start();
    }
    None
}

/// Whether the JSON string `quoted` is `wanted`.
fn names(quoted: &str, wanted: &str) -> bool {
    let bare = quoted.get(1..quoted.len() - 1).unwrap_or_default();
    if bare.contains('\\') {
        serde_json::from_str::<String>(quoted).is_ok_and(|name| name == wanted)
    } else {
        bare == wanted
    }
}

/// Where the string that `text` begins with ends, its closing quote included.
fn string_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        match bytes[at] {
            b'"' => return Some(at + 1),
            _ => at += 2,
        }
    }
}

/// Where the value that `text` begins with ends.
fn value_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    match bytes.first()? {
        b'"' => string_end(text),
        b'{' | b'[' => {
            let (mut depth, mut at) = (0_usize, 0);
            loop {
                match bytes.get(at)? {
                    b'"' => at += string_end(text.get(at..)?)? - 1,
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => (),
                }
                at += 1;
                if depth == 0 {
                    return Some(at);
                }
            }
        }
        _ => {
            let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
            let end = bytes.iter().position(ends).unwrap_or(bytes.len());
            (end > 0).then_some(end)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn find<'j>(path: &str, json: &'j str) -> Option<&'j str> {
        JsonPath::parse(path).expect("a path").find_raw(json)
    }

    #[test]
    fn what_is_found_is_as_it_was_written() {
        let json = r#" { "a" : [ 1.50 , {"b c":"x\"]}"} ] , "n":123456789012345678901234567890.10, "a\u0062":null } "#;
        assert_eq!(find("$", json), Some(json.trim()));
        assert_eq!(find("$.a[0]", json), Some("1.50"));
        assert_eq!(find("$.a[1]", json), Some(r#"{"b c":"x\"]}"}"#));
        assert_eq!(find("$.a[1]['b c']", json), Some(r#""x\"]}""#));
        assert_eq!(find("$.n", json), Some("123456789012345678901234567890.10"));
        assert_eq!(find("$.ab", json), Some("null"));
        assert_eq!(find("$.a[2]", json), None);
        assert_eq!(find("$.c", json), None);
        assert_eq!(find("$[0]", "[]"), None);
        assert_eq!(find("$.a", "{}"), None);
    }

    #[test]
    fn of_members_with_one_name_the_last_counts() {
        assert_eq!(find("$.a", r#"{"a":1,"b":2,"a":3}"#), Some("3"));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-c\"\\\\{}\\[\\],: é\n]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c\"\\\\]{1,2}", inner, 0..4).prop_map(|members| json!(members)),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_finds_what_the_parsed_value_has(value in any_json(), pretty in any::<bool>(), path in "\\$(\\.[a-c]|\\[[0-2]\\]){0,3}") {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let text = text.expect("a value has a text");
            let path = JsonPath::parse(&path).expect("a path");
            let raw = path.find_raw(&text).map(|raw| serde_json::from_str::<Value>(raw).expect("a part is JSON"));
            prop_assert_eq!(raw.as_ref(), path.find(&value));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[{}\\[\\]\",:a\\\\ 1é]{0,16}", path in "\\$(\\.[a]|\\[[0-1]\\]){0,3}") {
            let _ = JsonPath::parse(&path).expect("a path").find_raw(&text);
        }
    }
}
