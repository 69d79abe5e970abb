//! Text as mdoc(7) has it.

/// Characters that roff would take for others or for its own, and what stands for them: each is printed as it was
/// written, so that what is copied from a page can be run.
const SPECIAL: [(char, &str); 7] =
    [('\\', "\\e"), ('-', "\\-"), ('\'', "\\(aq"), ('`', "\\(ga"), ('"', "\\(dq"), ('^', "\\(ha"), ('~', "\\(ti")];

/// What tells a path, a value or a name from a word of prose. groff is told with `\%` not to hyphenate these: a name
/// with one hyphen more is another. Quotes, hyphens and what stood in backticks are escapes here.
const NAMES: [char; 4] = ['\\', '/', '_', '='];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Columns of a line of the source, as mandoc(1) asks for.
const WIDTH: usize = 80;

/// The first line of a page: the day of the newest release.
pub(crate) fn date() -> String {
    date_of(include_str!("../../../CHANGELOG.md"))
}

/// Before the first release it is the epoch: mdoc(7) wants a date, and nobody takes this one for a release's.
fn date_of(changelog: &str) -> String {
    let mut days = changelog.lines().filter_map(|line| Some(line.strip_prefix("## [")?.split_once("] - ")?.1));
    let day = days.next().unwrap_or("1970-01-01");
    let numbers: Vec<usize> = day.split('-').filter_map(|number| number.parse().ok()).collect();
    match numbers[..] {
        [year, month @ 1..=12, day] => format!(".Dd {} {day}, {year}\n", MONTHS[month - 1]),
        _ => panic!("CHANGELOG.md: the day of a release is written as 2026-11-28, and not {day:?}"),
    }
}

/// A text that may stand anywhere, in arguments of macros too.
pub(crate) fn literal(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match SPECIAL.iter().find(|(special, _)| *special == c) {
            Some((_, escape)) => out.push_str(escape),
            None if c.is_ascii() => out.push(c),
            None => out.push_str(&format!("\\[u{:04X}]", u32::from(c))),
        }
    }
    // Only at the beginning of a line is it a macro's.
    if out.starts_with('.') { format!("\\&{out}") } else { out }
}

/// Prose. Each sentence begins a line. What stands in backticks is bold.
pub(crate) fn prose(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    sentences(&words).map(|sentence| broken(&bold(sentence))).collect()
}

/// A part of a sentence as one: `only this partition` as `Only this partition.`
pub(crate) fn sentence(part: &str) -> String {
    let mut rest = part.chars();
    let first = rest.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let end = if part.ends_with('.') { "" } else { "." };
    prose(&format!("{first}{}{end}", rest.as_str()))
}

/// Lines as they are, between macros that keep them so.
pub(crate) fn lines(text: &str) -> String {
    text.lines().map(|line| literal(line) + "\n").collect()
}

/// Puts each text in the place of the line that is its name between two `@`.
pub(crate) fn fill(page: &str, parts: &[(&str, String)]) -> String {
    parts.iter().fold(page.to_owned(), |page, (name, text)| {
        let place = format!("\n@{name}@\n");
        assert_eq!(page.matches(&place).count(), 1, "the page has one place for {name}");
        page.replace(&place, &format!("\n{text}"))
    })
}

/// One sentence as lines. A macro could not begin behind `\%` either.
fn broken(sentence: &str) -> String {
    let (mut out, mut column) = (String::new(), 0);
    for word in sentence.split(' ') {
        let guard = if word.contains(NAMES) || word.starts_with('.') { "\\%" } else { "" };
        if column > 0 && column + 1 + guard.len() + word.len() > WIDTH {
            out.push('\n');
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.extend([guard, word]);
        column += guard.len() + word.len();
    }
    out + "\n"
}

/// The sentences of a text that has no other blanks than single spaces.
fn sentences(text: &str) -> impl Iterator<Item = &str> {
    let mut from = 0;
    let ends = text.match_indices(". ").map(|(at, _)| at + 1);
    let ends = ends.filter(|end| text[end + 1..].starts_with(|c: char| c.is_uppercase() || matches!(c, '"' | '`')));
    ends.chain([text.len()]).map(move |end| std::mem::replace(&mut from, end + 1)..end).map(|range| &text[range])
}

fn bold(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let parts =
        parts.map(|(nth, part)| if nth % 2 == 1 { format!("\\fB{}\\fR", literal(part)) } else { literal(part) });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_copied_from_a_page_can_be_run() {
        assert_eq!(literal("--config='a\\b'"), "\\-\\-config=\\(aqa\\eb\\(aq");
        assert_eq!(literal("\"a\" ^ ~ `"), "\\(dqa\\(dq \\(ha \\(ti \\(ga");
        assert_eq!(literal("é…"), "\\[u00E9]\\[u2026]");
    }

    #[test]
    fn the_date_is_that_of_the_newest_release() {
        let released = "# Changelog\n## [Unreleased]\n- a\n## [0.2.0] - 2027-02-03\n## [0.1.0] - 2026-12-01\n";
        assert_eq!(date_of(released), ".Dd February 3, 2027\n");
        assert_eq!(date_of("## [Unreleased]\n"), ".Dd January 1, 1970\n");
    }

    #[test]
    fn no_line_is_taken_for_a_macro() {
        assert_eq!(lines(".Sh\n'Sh\na.b"), "\\&.Sh\n\\(aqSh\na.b\n");
        assert_eq!(prose("One. .Two"), "One. \\%.Two\n");
        let long = prose(&format!("{} .Sh x", "long ".repeat(16).trim_end()));
        assert!(long.ends_with("\n\\%.Sh x\n") && long.lines().all(|line| line.len() <= WIDTH), "{long}");
    }

    #[test]
    fn each_sentence_has_its_line() {
        assert_eq!(
            prose("One, 3.1.1 and\n two. Three. \"Four\" e.g. five."),
            "One, 3.1.1 and two.\nThree.\n\\%\\(dqFour\\(dq e.g. five.\n"
        );
        assert_eq!(sentence("only this"), "Only this.\n");
    }

    #[test]
    fn code_is_bold() {
        assert_eq!(prose("as `peek --after` prints"), "as \\%\\fBpeek \\%\\-\\-after\\fR prints\n");
    }

    #[test]
    #[should_panic(expected = "one place for X")]
    fn a_page_without_a_place_for_its_part_is_a_fault() {
        fill("a\n@Y@\n", &[("X", String::new())]);
    }
}
