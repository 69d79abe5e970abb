//! The pages say all that the definitions say, and are what other programs can read.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use forebay::config::{Config, Environment, Fallback, reference};
use tempfile::TempDir;

/// The pages and completions, written by the program.
struct Written(TempDir);

impl Written {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let output = Command::new(env!("CARGO_BIN_EXE_forebay-manual")).arg(directory.path()).output();
        let output = output.expect("the program can be run");
        assert!(output.status.success(), "{output:?}");
        Self(directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn pages(&self) -> [PathBuf; 2] {
        ["forebay.1", "forebay.toml.5"].map(|name| self.path(name))
    }
}

/// Runs a program. `None`, and a line that says so: this machine does not have it.
fn run(program: &str, arguments: &[&str], page: &Path) -> Option<Output> {
    match Command::new(program).args(arguments).arg(page).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // Past the capturing of a test's output. Nothing is lost if nobody listens.
            let _ = writeln!(std::io::stderr(), "skipped: a check of the manual pages, because there is no {program}");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

/// A page as a terminal of 80 columns shows it, its lines and blanks put together: what is said, however it is broken.
fn shown(page: &Path) -> Option<String> {
    let output = run("mandoc", &["-T", "utf8", "-O", "width=78"], page)?;
    let plain = plain(output);
    assert!(plain.lines().all(|line| line.chars().count() <= 80), "a line is too long for a serial console:\n{plain}");
    Some(plain)
}

/// What was printed for a terminal, without what makes it bold or underlined: each character over itself or a line.
fn plain(output: Output) -> String {
    let text = String::from_utf8(output.stdout).expect("UTF-8 was asked for");
    let mut plain = String::new();
    for c in text.chars() {
        if c == '\u{8}' {
            plain.pop();
        } else {
            plain.push(c);
        }
    }
    plain
}

fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What of a text is the same in the page: its words.
fn words(text: &str) -> String {
    flat(&text.replace('`', ""))
}

#[test]
fn mandoc_and_groff_have_nothing_to_say_of_the_pages() {
    let written = Written::new();
    for page in written.pages() {
        for (program, arguments) in
            [("mandoc", ["-T", "lint", "-W", "style"].as_slice()), ("groff", &["-mdoc", "-ww", "-Tutf8", "-z"])]
        {
            let Some(output) = run(program, arguments, &page) else { continue };
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            // Which other pages are installed is not their fault.
            let is_theirs = |line: &&str| !line.contains("referenced manual not found") && !line.contains("mandoc.db");
            let said: Vec<_> = said.lines().filter(is_theirs).collect();
            assert!(said.is_empty(), "{program}:\n{}", said.join("\n"));
        }
    }
}

#[test]
fn what_may_be_copied_from_a_page_is_not_hyphenated() {
    let written = Written::new();
    let mut broken = Vec::new();
    for page in written.pages() {
        // man(1) shows pages with groff, in the width of the terminal less two columns.
        for width in [58, 78, 98] {
            let Some(output) = run("groff", &["-mdoc", "-Tutf8", "-P-c", &format!("-rLL={width}n")], &page) else {
                return;
            };
            let text = plain(output);
            let ends = text.match_indices("\u{2010}\n").map(|(at, hyphen)| (&text[..at], &text[at + hyphen.len()..]));
            broken.extend(ends.map(|(before, behind)| {
                let word = |part: Option<&str>| part.unwrap_or_default().to_owned();
                word(before.split_whitespace().next_back()) + &word(behind.split_whitespace().next())
            }));
        }
    }
    assert!(broken.len() > 10, "groff breaks words of prose: {broken:?}");
    let is_prose = |word: &&String| word.chars().all(|c| c.is_alphabetic() || ".,:;()'".contains(c));
    let names: Vec<_> = broken.iter().filter(|word| !is_prose(word)).collect();
    assert!(names.is_empty(), "{names:?}");
}

#[test]
fn a_check_that_is_left_out_is_said_past_the_capture() {
    let mut tests = Command::new(std::env::current_exe().expect("this is one"));
    let output = tests
        .args(["--exact", "no_sign_of_another_notation_is_left_in_the_pages"])
        .env("PATH", "/nonexistent")
        .output();
    let output = output.expect("the tests can be run");
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("skipped: "), "{output:?}");
}

#[test]
fn every_command_and_option_is_in_the_page_with_its_description() {
    let written = Written::new();
    let Some(page) = shown(&written.path("forebay.1")) else { return };
    let program = forebay::command::information();
    let mut commands = vec![(String::new(), &program)];
    let mut seen = 0;
    while let Some((path, command)) = commands.pop() {
        seen += 1;
        let own = section(&page, if path.is_empty() { "DESCRIPTION" } else { &path });
        let has = |text: &str| assert!(own.contains(&words(text)), "{path}: {text:?} is not in: {own}");
        // The program's is a sentence with a subject there.
        has(if path.is_empty() { &command.description[1..] } else { command.description });
        command.notes.iter().for_each(|note| has(note));
        for flag in command.flags.iter().filter(|flag| path.is_empty() || flag.long != "--help") {
            has(if flag.long == "--help" { "--help, -h" } else { flag.long });
            has(&capital(flag.description));
        }
        command.positionals.iter().for_each(|positional| has(&capital(positional.description)));
        for inner in &command.commands {
            commands.push((format!("{path} {}", inner.name).trim_start().to_owned(), &inner.command));
        }
    }
    assert!(seen > 15, "{seen}");
    let codes = section(&page, "EXIT STATUS");
    for error in program.error_codes {
        let text = format!("{} {}.", error.code, capital(error.description));
        assert!(codes.contains(&text), "{text:?} is not in: {codes}");
    }
}

/// What stands between a heading and the next.
fn section(page: &str, heading: &str) -> String {
    let is_heading = |line: &&str| line.chars().take(4).any(|c| c != ' ');
    let mut lines = page.lines();
    assert!(lines.any(|line| line.trim() == heading && is_heading(&line)), "there is no heading {heading}");
    flat(&lines.take_while(|line| !is_heading(line)).collect::<Vec<_>>().join(" "))
}

fn capital(text: &str) -> String {
    text[..1].to_uppercase() + &text[1..]
}

#[test]
fn every_key_is_in_the_page_with_all_that_is_said_of_it() {
    let written = Written::new();
    let Some(page) = shown(&written.path("forebay.toml.5")) else { return };
    let mut rest = flat(&page);
    let mut seen = 0;
    for table in reference() {
        let variant = if table.variant.is_empty() { String::new() } else { format!(", type = \"{}\"", table.variant) };
        let mut after = |text: &str| {
            let text = words(text);
            let (_, behind) = rest.split_once(&text).unwrap_or_else(|| panic!("{text} is not in: {rest:.300}"));
            rest = behind.to_owned();
        };
        after(&format!("[{}]{variant}", table.path));
        after(table.doc);
        for key in &table.keys {
            seen += 1;
            after(key.name);
            after(key.doc);
            after(&format!("Value: {}", key.expected));
            match key.fallback {
                Fallback::Required => {}
                Fallback::Value(default) => after(&format!("Default: {default}")),
                Fallback::Otherwise(otherwise) => after(&format!("If unset: {otherwise}")),
            }
            if let Some(variable) = key.variable {
                after(&format!("Variable: {variable}"));
            }
        }
    }
    assert!(seen > 80, "{seen}");
}

#[test]
fn no_sign_of_another_notation_is_left_in_the_pages() {
    let written = Written::new();
    for page in written.pages() {
        let Some(text) = shown(&page) else { continue };
        for sign in ["`", "\\", ".It", ".Pp"] {
            let found = text.lines().find(|line| line.contains(sign) && !line.contains("postgresql://"));
            assert_eq!(found, None, "{sign:?} in {}", page.display());
        }
        // What a template has in the place of something.
        let is_place =
            |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        let found = text.lines().find(|line| line.split('@').skip(1).any(is_place) && line.matches('@').count() > 1);
        assert_eq!(found, None, "a place in {}", page.display());
    }
}

#[test]
fn the_example_of_the_page_is_valid() {
    let text = include_str!("../pages/example.toml");
    let environment = Environment::made_up([("CREDENTIALS_DIRECTORY", "/run/credentials/forebay")]);
    let loaded = Config::parse(text.as_bytes(), Path::new("/etc/forebay"), &environment);
    assert_eq!(loaded.unwrap_or_else(|invalid| panic!("{invalid}")).warnings, []);
    assert!(text.lines().all(|line| line.len() <= 72), "it is indented in the page");
}

#[test]
fn what_cannot_be_written_is_named() {
    let written = Written::new();
    let file = written.path("file");
    fs::write(&file, "").expect("the directory is writable");
    let program = || Command::new(env!("CARGO_BIN_EXE_forebay-manual"));
    let output = program().arg(file.join("below")).output().expect("the program can be run");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write"), "{output:?}");
    assert_eq!(program().output().expect("the program can be run").status.code(), Some(2));
}
