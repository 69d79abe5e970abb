//! Keeps secrets out of the lines that errors show.
//!
//! A line is shown because something is wrong with it, so it cannot be relied on to parse: what is a secret is told by
//! the words before it, and rather too much is hidden than too little.

use super::reference;

/// Words that make a key's value a secret.
const SECRET_WORDS: [&str; 9] = [
    "token",
    "password",
    "passwd",
    "secret",
    "passphrase",
    "private_key",
    "credential",
    "connection_string",
    // Of connection strings themselves, whatever the key is called.
    "sharedaccess",
];

/// No key is longer, not even a broken one.
const MAX_KEY: usize = 64;

/// What is shown in place of a secret, whatever its length.
pub(super) const MASK: &str = "********";

/// Whether the value of a key of this name is a secret. Misspelt names count: `tokn` is what errors are about. What the
/// key `credential` has is the name of a kind, and an address shows no more than where tokens come from.
pub(super) fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    if name.ends_with("_file") || name.ends_with("_url") || name == "credential" {
        return false;
    }
    let is_near = |part: &str, word: &str| strsim::osa_distance(part, word) <= if part.len() < 4 { 1 } else { 2 };
    let is_like = |word: &str| is_near(&name, word) || name.split(['_', '-', '.']).any(|part| is_near(part, word));
    SECRET_WORDS.iter().any(|word| name.contains(word) || is_like(word))
}

/// The lines of `text`, with every secret in them masked.
pub(super) fn masked_lines(text: &str) -> Vec<String> {
    let mut state = State::Open;
    let mut mask = |line| {
        let (shown, next) = mask_line(line, state);
        state = next;
        shown
    };
    text.split('\n').map(&mut mask).collect()
}

/// What can be shown of `line`, already masked, if it may be broken: a value only if the key before it is a known one,
/// and nothing behind a second key.
pub(super) fn broken_line(line: &str) -> String {
    let first = line.find(['"', '\'', '=']);
    let hidden = match first {
        _ if line.trim_start().starts_with('#') => None,
        Some(at) if reference::is_known(line[..at].trim()) => line.match_indices('=').nth(1).map(|(second, _)| second),
        _ => first,
    };
    hidden.map_or_else(|| line.to_owned(), |at| format!("{}{MASK}", &line[..at]))
}

/// Where a line stands.
#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// Nothing secret reaches into it.
    Open,
    /// A secret began above: it goes on until something else begins.
    Secret,
    /// A secret in triple quotes began above: it goes on until they end.
    Quoted(&'static str),
}

fn mask_line(line: &str, state: State) -> (String, State) {
    match state {
        State::Quoted(quotes) if line.contains(quotes) => (MASK.to_owned(), State::Secret),
        State::Quoted(_) => (MASK.to_owned(), state),
        State::Secret if !begins_anew(line) => (MASK.to_owned(), state),
        State::Secret | State::Open => match secret_starts(line).or_else(|| broken_key_ends(line)) {
            None => (mask_userinfo(line), State::Open),
            Some(start) => {
                let hidden = &line[start..];
                let open = |quotes: &str| hidden.matches(quotes).count() % 2 == 1;
                let next =
                    ["\"\"\"", "'''"].into_iter().find(|quotes| open(quotes)).map_or(State::Secret, State::Quoted);
                (format!("{}{MASK}", &line[..start]), next)
            }
        },
    }
}

/// Whether `line` is a table's header or a new key.
fn begins_anew(line: &str) -> bool {
    let line = line.trim();
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ' ');
    let header = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let key = line.split_once('=').map(|(key, _)| key.trim());
    header.or(key).is_some_and(|name| !name.is_empty() && name.chars().all(bare))
}

/// Where in `line` the first secret value begins.
fn secret_starts(line: &str) -> Option<usize> {
    let in_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let is_header = line.trim_start().starts_with('[') && begins_anew(line);
    let mut from = 0;
    while !is_header && let Some(begin) = line[from..].find(in_word).map(|at| from + at) {
        let end = line[begin..].find(|c| !in_word(c)).map_or(line.len(), |at| begin + at);
        if is_secret_name(&line[begin..end]) && !is_plain_value(&line[..begin], &line[end..]) {
            let after = &line[end..];
            let sign = after.find(['=', ':']).map_or(0, |at| at + 1);
            let blanks = after[sign..].len() - after[sign..].trim_start().len();
            return Some(end + sign + blanks);
        }
        from = end;
    }
    None
}

/// Where the key that `line` begins with ends, if it would be a secret's without the characters that no key has.
fn broken_key_ends(line: &str) -> Option<usize> {
    let ends = line.char_indices().take(MAX_KEY).filter(|(_, c)| *c == '=').map(|(at, _)| at);
    let mut secrets = ends.filter(|at| {
        let mended: String = line[..*at].chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        is_secret_name(&mended)
    });
    secrets.next().map(|at| at + 1)
}

/// Whether a word between `before` and `after` on its line is within a quoted value that ends as a value does, rather
/// than a key, or something that only looks quoted.
fn is_plain_value(before: &str, after: &str) -> bool {
    ['"', '\''].into_iter().any(|quote| {
        let is_quoted = before.matches(quote).count() % 2 == 1;
        let (within, behind) = after.split_once(quote).unwrap_or((after, "?"));
        let behind = behind.trim_start();
        is_quoted && !within.contains('=') && (behind.is_empty() || behind.starts_with([',', ']', '}', '#']))
    })
}

/// Masks the password of `scheme://user:password@host`: up to the last `@` of the value, for a password that was not
/// escaped as it must be may have `/`, `?` and `@` in it. That may hide a host and more.
fn mask_userinfo(line: &str) -> String {
    let mut shown = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        let value = value_ends(before, after);
        shown.push_str(before);
        // If the value has none, a quote in the password may have ended it too early.
        let sign = after[..value].rfind('@').or_else(|| after.rfind('@'));
        match (after[..value].find(':'), sign) {
            (Some(colon), Some(sign)) if colon < sign => {
                shown.push_str(&after[..=colon]);
                shown.push_str(MASK);
                rest = &after[sign..];
            }
            _ => rest = after,
        }
    }
    shown + rest
}

/// Where in `after` the value ends that began in `before`: at the quote that it began with. Without one, with the line.
fn value_ends(before: &str, after: &str) -> usize {
    let Some(quote) = before.chars().rev().find(|c| matches!(c, '"' | '\'')) else { return after.len() };
    let mut is_escaped = false;
    let end = after.find(|c| {
        let is_end = c == quote && !is_escaped;
        is_escaped = c == '\\' && quote == '"' && !is_escaped;
        is_end
    });
    end.unwrap_or(after.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown_line(text: &str, number: usize) -> String {
        masked_lines(text).swap_remove(number - 1)
    }

    #[test]
    fn a_value_behind_a_secret_name_is_masked() {
        assert_eq!(shown_line("token = \"hunter2\"", 1), "token = ********");
        assert_eq!(shown_line("x = { path = \"a\", token = \"hunter2\" }", 1), "x = { path = \"a\", token = ********");
        assert_eq!(shown_line("client_secret=hunter2", 1), "client_secret=********");
    }

    #[test]
    fn a_misspelt_name_and_a_missing_sign_do_not_give_the_secret_away() {
        for line in [
            "tokn = \"hunter2\"",
            "pasword = \"hunter2\"",
            "token \"hunter2\"",
            "token: hunter2",
            "\"token\" = hunter2",
            "conection_string = \"Endpoint=sb://h;SharedAccessKeyName=n;SharedAccessKey=hunter2\"",
            "connection-string = \"hunter2\"",
            "hub = \"Endpoint=sb://h;SharedAccessKeyName=n;SharedAccessKey=hunter2\"",
        ] {
            assert!(!shown_line(line, 1).contains("hunter2"), "{line}");
        }
    }

    #[test]
    fn a_secret_of_several_lines_is_masked_to_its_end() {
        let text = "token = \"\"\"\nhunter2\n\na = hunter2\n\"\"\"\npath = \"/x\"";
        for line in 2..=5 {
            assert_eq!(shown_line(text, line), MASK, "line {line}");
        }
        assert_eq!(shown_line(text, 6), "path = \"/x\"");
        let list = "token = [\n\"hunter2\"\n]\n[sinks.a]";
        assert_eq!(shown_line(list, 2), MASK);
        assert_eq!(shown_line(list, 4), "[sinks.a]");
    }

    #[test]
    fn a_file_that_holds_a_secret_may_be_named() {
        assert_eq!(shown_line("token_file = \"/run/t\"", 1), "token_file = \"/run/t\"");
        for line in ["[sources.token]", "path = \"/run/token\"", "listen = \"${TOKEN}\" # why", "a = [\"token\", 1]"] {
            assert_eq!(shown_line(line, 1), line);
        }
    }

    #[test]
    fn no_other_key_is_taken_for_a_secret() {
        let reference = reference::reference();
        let keys: Vec<_> = reference.iter().flat_map(|table| &table.keys).map(|key| key.name).collect();
        let mut secret: Vec<_> = keys.iter().copied().filter(|key| is_secret_name(key)).collect();
        secret.sort_unstable();
        secret.dedup();
        let mut expected = vec!["client_secret", "password", "token"];
        if cfg!(feature = "eventhub") {
            expected.insert(1, "connection_string");
        }
        if cfg!(feature = "snowpipe") {
            expected.extend(["oauth_client_secret", "private_key_password"]);
            expected.sort_unstable();
        }
        assert_eq!(secret, expected, "among {keys:?}");
    }

    #[test]
    fn the_password_in_an_address_is_masked() {
        assert_eq!(shown_line("url = \"mqtt://me:hunter2@host/x\"", 1), "url = \"mqtt://me:********@host/x\"");
        assert_eq!(shown_line("url = \"mqtt://host:1883/x\"", 1), "url = \"mqtt://host:1883/x\"");
        let two = "a = { url = \"pg://me:hunter2/@host/x\", name = 'b@c' }";
        assert_eq!(shown_line(two, 1), "a = { url = \"pg://me:********@host/x\", name = 'b@c' }");
    }

    proptest! {
        #[test]
        fn no_part_of_a_password_in_an_address_is_shown(
            parts in proptest::collection::vec("[/@:?# &=é'%]{1,3}|\\\\\"", 1..4),
            quoted in any::<bool>(),
        ) {
            let password: String = parts.iter().map(|part| format!("hunter2{part}hunter2")).collect();
            let quote = if quoted { "\"" } else { "" };
            let line = format!("url = {quote}postgresql://ingest:{password}@127.0.0.1/plant{quote}");
            let shown = shown_line(&line, 1);
            prop_assert!(!shown.contains("hunter2"), "{}", shown);
            prop_assert!(shown.starts_with(&format!("url = {quote}postgresql://")), "{}", shown);
        }

        #[test]
        fn every_line_is_shown_whatever_it_is(text in "(token|[a-z=\"'\\[\\]\n é:/@])*") {
            prop_assert_eq!(masked_lines(&text).len(), text.split('\n').count());
        }
    }
}
