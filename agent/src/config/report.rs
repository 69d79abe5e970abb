//! What is wrong with a configuration: collected while it is read, so that all of it is reported at once.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use super::{
    files::{Files, Place, Unreadable},
    mask,
};
use crate::contract::{Finding, Severity};

/// A shown line is cut to about this many characters.
const SHOWN_COLUMNS: usize = 100;

/// What is said of one thing is cut to this many characters: it may quote what the file holds.
const SAID_CHARACTERS: usize = 500;

/// No more errors are explained, nor warnings: who has mended these will run the check again.
pub(super) const MAX_SHOWN: usize = 100;

/// One thing that is wrong with the configuration, or that deserves a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// [`Severity::Error`] or [`Severity::Warning`].
    pub severity: Severity,
    /// The file. Empty if it is about an environment variable, which `key` names then.
    pub file: PathBuf,
    /// Line and column, from 1. `None` if it is about the file as a whole.
    pub position: Option<(usize, usize)>,
    /// The key's full path, `sources.line1.listen`. Empty if it is about no key.
    pub key: String,
    /// What is wrong.
    pub problem: String,
    /// What would be right. Empty if the problem says it.
    pub expected: String,
    /// What to do about it. Empty if that is plain.
    pub help: String,
    /// The line, its secrets masked, and a line with a caret below. Empty without a position.
    snippet: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = if self.severity == Severity::Error { "error" } else { "warning" };
        write!(f, "{severity}: {}: ", self.subject())?;
        writeln!(f, "{}", self.problem)?;
        f.write_str(&self.snippet)?;
        for (label, text) in [("expected", &self.expected), ("help", &self.help)] {
            if !text.is_empty() {
                writeln!(f, "  {label}: {text}")?;
            }
        }
        Ok(())
    }
}

impl Diagnostic {
    /// `file:line:column: key`, as far as they are known.
    fn subject(&self) -> String {
        if self.file.as_os_str().is_empty() {
            return self.key.clone();
        }
        let mut subject = self.file.display().to_string();
        if let Some((line, column)) = self.position {
            subject.push_str(&format!(":{line}:{column}"));
        }
        if !self.key.is_empty() {
            subject.push_str(": ");
            subject.push_str(&self.key);
        }
        subject
    }
}

impl From<&Diagnostic> for Finding {
    fn from(diagnostic: &Diagnostic) -> Self {
        let help = [&diagnostic.expected, &diagnostic.help].into_iter().filter(|text| !text.is_empty());
        Self {
            severity: diagnostic.severity,
            subject: diagnostic.subject(),
            message: diagnostic.problem.clone(),
            remedy: help.cloned().collect::<Vec<_>>().join("; "),
        }
    }
}

/// Proof that what is missing has been reported: only [`Report`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reported(());

/// How much of a fault's line is shown, beyond the masking of what is called a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// All of it.
    Line,
    /// The key, but not its value.
    Key,
    /// What comes before the first value, unless the line is whole by itself.
    Broken,
}

/// What was found, and where.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) place: Place,
    pub(super) key: String,
    pub(super) problem: String,
    pub(super) expected: String,
    pub(super) help: String,
    pub(super) shown: Shown,
    /// The environment variable that it is about, and as much of its value as may be shown. It stands in no file.
    pub(super) variable: Option<(&'static str, Option<String>)>,
}

impl Fault {
    /// A fault of the value at `place`, which is that of `key`.
    pub(super) fn new(place: Place, key: impl Into<String>, problem: impl Into<String>) -> Self {
        let (expected, help) = (String::new(), String::new());
        Self { place, key: key.into(), problem: problem.into(), expected, help, shown: Shown::Line, variable: None }
    }

    /// Says that it is not about the file but about an environment variable, whose value may be shown if it is given.
    pub(super) fn of_variable(self, name: &'static str, value: Option<&str>) -> Self {
        Self { variable: Some((name, value.map(str::to_owned))), ..self }
    }

    /// Says what would be right.
    pub(super) fn expected(self, expected: impl Into<String>) -> Self {
        Self { expected: expected.into(), ..self }
    }

    /// Says what to do.
    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self { help: help.into(), ..self }
    }

    /// Does not show what stands behind the place on its line: nobody knows what it is, so it may be a secret.
    pub(super) fn masked(self) -> Self {
        Self { shown: Shown::Key, ..self }
    }

    /// Shows no more of a line that does not parse than what can be no secret.
    pub(super) fn broken(self) -> Self {
        Self { shown: Shown::Broken, ..self }
    }
}

/// Collects what is found.
#[derive(Debug, Default)]
pub(super) struct Report {
    unreadable: Vec<Unreadable>,
    errors: Vec<Fault>,
    warnings: Vec<Fault>,
    left_out: usize,
}

/// All that was found.
#[derive(Debug)]
pub(super) struct Findings {
    /// What makes the configuration unusable.
    pub(super) errors: Vec<Diagnostic>,
    /// What deserves a look.
    pub(super) warnings: Vec<Diagnostic>,
    /// How many errors there are besides.
    pub(super) left_out: usize,
}

impl Report {
    /// Takes down a file that cannot be read.
    pub(super) fn unreadable(&mut self, file: Unreadable) -> Reported {
        self.unreadable.push(file);
        Reported(())
    }

    /// Takes down something that makes the configuration unusable.
    pub(super) fn error(&mut self, fault: Fault) -> Reported {
        if self.errors.len() < MAX_SHOWN {
            self.errors.push(fault);
        } else {
            self.left_out += 1;
        }
        Reported(())
    }

    /// Takes down something that deserves a look.
    pub(super) fn warning(&mut self, fault: Fault) {
        if self.warnings.len() < MAX_SHOWN {
            self.warnings.push(fault);
        }
    }

    /// Whether anything makes the configuration unusable.
    pub(super) fn has_errors(&self) -> bool {
        !self.unreadable.is_empty() || !self.errors.is_empty()
    }

    /// Everything, in the order of the files and of the lines in them.
    pub(super) fn finish(mut self, files: &Files) -> Findings {
        self.errors.sort_by_key(|fault| fault.place);
        self.warnings.sort_by_key(|fault| fault.place);
        let unreadable = self.unreadable.into_iter().map(|file| Diagnostic {
            severity: Severity::Error,
            file: file.path,
            position: None,
            key: String::new(),
            problem: file.problem,
            expected: String::new(),
            help: file.help,
            snippet: String::new(),
        });
        let mut show = Show { files, lines: BTreeMap::new() };
        let found = self.errors.into_iter().map(|fault| show.diagnose(Severity::Error, fault));
        let errors = unreadable.chain(found).collect();
        let warnings = self.warnings.into_iter().map(|fault| show.diagnose(Severity::Warning, fault)).collect();
        Findings { errors, warnings, left_out: self.left_out }
    }
}

/// Shows faults with the lines that they are on.
struct Show<'f> {
    files: &'f Files,
    /// The lines of each file, masked, from when the first of them is shown.
    lines: BTreeMap<usize, Vec<String>>,
}

impl Show<'_> {
    fn diagnose(&mut self, severity: Severity, fault: Fault) -> Diagnostic {
        let Fault { place, key, problem, expected, help, shown, variable } = fault;
        let (problem, help) = (printable(&problem), printable(&help));
        if let Some((name, value)) = variable {
            let (key, file, position) = (format!("environment variable {name}"), PathBuf::new(), None);
            let snippet = value.map(|value| format!("   {name}={}\n", printable(&value))).unwrap_or_default();
            return Diagnostic { severity, file, position, key, problem, expected, help, snippet };
        }
        let file = self.files.0[place.file].path.clone();
        let is_whole = place == Place::whole(place.file);
        let position = (!is_whole).then(|| self.files.position(place));
        let snippet = if is_whole { String::new() } else { self.snippet(place, shown) };
        let key = printable(&key);
        Diagnostic { severity, file, position, key, problem, expected, help, snippet }
    }

    /// The line that `place` begins in, and carets below it.
    fn snippet(&mut self, place: Place, shown: Shown) -> String {
        let files = self.files;
        let (number, column) = files.position(place);
        let lines = self.lines.entry(place.file).or_insert_with(|| mask::masked_lines(&files.0[place.file].text));
        let line = lines.get(number - 1).map_or("", String::as_str);
        let line = if shown == Shown::Broken { mask::broken_line(line) } else { line.to_owned() };
        let masked = line.find(mask::MASK).map_or(usize::MAX, |at| line[..at].chars().count());
        // What cannot be seen must not move the terminal's cursor, nor the caret.
        let mut line: Vec<char> = line.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let column = (column - 1).min(line.len()).min(masked);
        let marked = files.text(place).split('\n').next().unwrap_or_default().trim_end().chars().count();
        if shown == Shown::Key && line[column..].contains(&'=') {
            line.truncate(column + marked);
            line.extend(" = ...".chars());
        }
        let begin = if column > SHOWN_COLUMNS * 3 / 4 { column - SHOWN_COLUMNS / 2 } else { 0 };
        let end = line.len().min(begin + SHOWN_COLUMNS);
        let carets = marked.clamp(1, end.saturating_sub(column).max(1));
        let shown: String = line[begin..end].iter().collect();
        let gutter = " ".repeat(number.to_string().len());
        let indent = " ".repeat(column - begin);
        let carets = "^".repeat(carets);
        format!(" {gutter} |\n {number} | {shown}\n {gutter} | {indent}{carets}\n")
    }
}

/// `text` without what could move the terminal's cursor, and not too much of it.
fn printable(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    if text.chars().count() <= SAID_CHARACTERS {
        plain.collect()
    } else {
        plain.take(SAID_CHARACTERS).chain("...".chars()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::files::SourceFile;

    fn diagnostic(text: &str, start: usize, end: usize) -> Diagnostic {
        let files = Files(vec![SourceFile { path: "a.toml".into(), text: text.to_owned() }]);
        let mut report = Report::default();
        let _ = report.error(Fault::new(Place { file: 0, start, end }, "x.y", "is wrong").help("mend it"));
        report.finish(&files).errors.remove(0)
    }

    #[test]
    fn a_fault_shows_its_line_with_a_caret() {
        let shown = diagnostic("[x]\ny = 12\n", 8, 10).to_string();
        assert_eq!(shown, "error: a.toml:2:5: x.y: is wrong\n   |\n 2 | y = 12\n   |     ^^\n  help: mend it\n");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let shown = diagnostic("y = \u{1b}[2J\r\n", 4, 5).to_string();
        assert!(!shown.contains(['\u{1b}', '\r']), "{shown:?}");
    }

    #[test]
    fn a_very_long_line_is_cut_around_the_fault() {
        let text = format!("y = \"{}\" # {}", "a".repeat(500), "b".repeat(500));
        let shown = diagnostic(&text, 400, 401).to_string();
        assert!(shown.lines().all(|line| line.chars().count() < 120), "{shown}");
        assert!(shown.contains('^'));
    }

    #[test]
    fn a_finding_says_what_to_do() {
        let finding = Finding::from(&diagnostic("y = 12", 0, 1));
        assert_eq!((finding.subject.as_str(), finding.remedy.as_str()), ("a.toml:1:1: x.y", "mend it"));
    }
}
