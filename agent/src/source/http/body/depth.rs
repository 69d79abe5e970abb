//! How deep JSON is nested, without parsing it.

use memchr::{memchr2, memchr2_iter};

/// Where `json` is nested deeper than `limit`, if it is. Exact for JSON, and up to the first fault in what is none.
pub(super) fn exceeds(json: &[u8], limit: usize) -> Option<usize> {
    // With no more than `limit` brackets there is nothing to find, and most events have few.
    if memchr2_iter(b'[', b'{', json).take(limit + 1).count() <= limit {
        return None;
    }
    let mut depth = 0;
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        match byte {
            b'"' => at = end_of_string(json, at + 1)?,
            b'[' | b'{' if depth == limit => return Some(at),
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// Where the closing quote is of a string that begins at `at`.
fn end_of_string(json: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr2(b'"', b'\\', json.get(at..)?)?;
        if json[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_strings_do_not_count() {
        assert_eq!(exceeds(br#"{"a[[[[": "[{\"[[", "b": [1]}"#, 2), None);
        assert_eq!(exceeds(br#"{"a[[[[": "[{\"[[", "b": [[1]]}"#, 2), Some(26));
    }

    #[test]
    fn siblings_do_not_add_up() {
        let siblings = format!("[{}]", vec!["[]"; 1000].join(","));
        assert_eq!(exceeds(siblings.as_bytes(), 2), None);
        assert_eq!(exceeds(siblings.as_bytes(), 1), Some(1));
    }

    #[test]
    fn an_open_string_is_the_end() {
        assert_eq!(exceeds(br#"[[["\"#, 2), Some(2));
        assert_eq!(exceeds(br#"[["\"#, 1), Some(1));
        assert_eq!(exceeds(br#"["[[[[\"#, 1), None);
    }
}
