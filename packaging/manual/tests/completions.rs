//! The completions, asked for by the shells themselves.

use std::{collections::BTreeSet, fs, io::Write as _, path::Path, process::Command};

use argh::CommandInfoWithArgs;
use tempfile::TempDir;

/// A line that is completed at its end, what must be offered, and what must not.
const LINES: &[(&str, &[&str], &[&str])] = &[
    ("forebay ", &["run", "check", "dead-letter", "buffer", "help"], &["list", "salvage", "--config"]),
    ("forebay d", &["dead-letter", "demo"], &["run"]),
    ("forebay --", &["--config", "--help", "--version"], &["run", "--json"]),
    ("forebay -", &["-h", "--help"], &["run"]),
    ("forebay dead-letter ", &["list", "show", "retry", "discard", "help"], &["run", "salvage"]),
    // Two commands of one name, and one within the other's family, are told apart by what they are in.
    ("forebay check --", &["--connect", "--json", "--config"], &["--acknowledge"]),
    ("forebay buffer check --", &["--acknowledge", "--config"], &["--connect", "--json"]),
    ("forebay dead-letter discard --", &["--all", "--sink"], &["--acknowledge"]),
    ("forebay buffer discard --", &["--sink", "--stream"], &["--all"]),
    ("forebay --config check run --", &["--config"], &["--connect"]),
    ("forebay dead-letter list --stream retry --", &["--limit"], &["--force"]),
    ("forebay peek line1 --", &["--partition", "--after", "--limit", "--config"], &["--all"]),
    ("forebay help ", &["run", "dead-letter"], &["list"]),
    ("forebay help dead-letter ", &["list"], &["run"]),
    ("forebay dead-letter help ", &["list"], &["run"]),
    // Files only where a file is meant, and directories where one is.
    ("forebay --config fo", &["forebay.toml", "folder"], &["run"]),
    ("forebay --config=fo", &["forebay.toml"], &["run"]),
    ("forebay run --config fo", &["forebay.toml"], &["run"]),
    ("forebay buffer export --output fo", &["forebay.toml"], &[]),
    ("forebay demo --dir fo", &["folder"], &["forebay.toml"]),
    ("forebay setup --print-sql > fo", &["forebay.toml", "folder"], &[]),
    ("forebay setup --print-sql >> fo", &["forebay.toml"], &[]),
    ("forebay peek --partition fo", &[], &["forebay.toml", "folder"]),
    ("forebay peek fo", &[], &["forebay.toml", "folder"]),
];

/// The completions, and two files whose names begin alike.
fn written() -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let status = Command::new(env!("CARGO_BIN_EXE_forebay-manual")).arg(directory.path()).status();
    assert!(status.expect("the program can be run").success());
    let here = directory.path().join("here");
    fs::create_dir_all(here.join("folder")).expect("the directory is writable");
    fs::write(here.join("forebay.toml"), "").expect("the directory is writable");
    directory
}

/// Every command, each with a line that asks for its options, and those options.
fn all_options() -> Vec<(String, Vec<&'static str>)> {
    fn add(lines: &mut Vec<(String, Vec<&'static str>)>, path: &str, command: &CommandInfoWithArgs) {
        lines.push((format!("forebay {path}--"), command.flags.iter().map(|flag| flag.long).collect()));
        for inner in &command.commands {
            add(lines, &format!("{path}{} ", inner.name), &inner.command);
        }
    }
    let mut lines = Vec::new();
    add(&mut lines, "", &forebay::command::information());
    lines
}

/// Runs a shell with `script`, whose arguments are lines to complete. It prints what it offers for each, a word to a
/// line, and behind them a line with the word END. `None`: this machine does not have the shell.
fn ask(shell: &str, script: &str, directory: &Path, lines: &[&str]) -> Option<Vec<BTreeSet<String>>> {
    let mut command = Command::new(shell);
    if shell == "zsh" {
        command.arg("-f");
    }
    command.arg("-c").arg(script);
    if shell != "fish" {
        command.arg(shell);
    }
    command.args(lines).current_dir(directory.join("here")).env("COMPLETIONS", directory).env("HOME", directory);
    let output = match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // Past the capturing of a test's output. Nothing is lost if nobody listens.
            let _ = writeln!(std::io::stderr(), "skipped: the completion of {shell}, because there is no {shell}");
            return None;
        }
        output => output.expect("the shell can be run"),
    };
    let text = String::from_utf8(output.stdout).expect("the names are text");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{shell}: {said}\n{text}");
    let mut offered = vec![BTreeSet::new()];
    for line in text.lines() {
        match line.trim_end_matches(['\r', '/', ' ', '=']) {
            "" => {}
            "END" => offered.push(BTreeSet::new()),
            word => drop(offered.last_mut().expect("there is one for each line").insert(word.to_owned())),
        }
    }
    assert_eq!(offered.pop(), Some(BTreeSet::new()), "{shell} did not end: {text}");
    assert_eq!(offered.len(), lines.len(), "{shell}: {text}");
    Some(offered)
}

fn check(shell: &str, script: &str) {
    let directory = written();
    let lines: Vec<_> = LINES.iter().map(|(line, ..)| *line).collect();
    let Some(offered) = ask(shell, script, directory.path(), &lines) else { return };
    for ((line, wanted, unwanted), offered) in LINES.iter().zip(&offered) {
        // A shell may offer `--config=forebay.toml` for one word.
        let has = |word: &str| offered.iter().any(|offered| offered == word || offered.ends_with(&format!("={word}")));
        for word in *wanted {
            assert!(has(word), "{shell} does not offer {word} for {line:?}, but {offered:?}");
        }
        for word in *unwanted {
            assert!(!has(word), "{shell} offers {word} for {line:?}");
        }
    }
    let all = all_options();
    let lines: Vec<_> = all.iter().map(|(line, _)| line.as_str()).collect();
    let offered = ask(shell, script, directory.path(), &lines).expect("it was there before");
    for ((line, options), offered) in all.iter().zip(&offered) {
        let missing: Vec<_> = options.iter().filter(|option| !offered.contains(**option)).collect();
        assert!(missing.is_empty(), "{shell} does not offer {missing:?} for {line:?}, but {offered:?}");
    }
}

#[test]
fn a_shell_that_is_left_out_is_said_past_the_capture() {
    let mut tests = Command::new(std::env::current_exe().expect("this is one"));
    let output =
        tests.args(["--exact", "fish_completes_commands_options_and_files"]).env("PATH", "/nonexistent").output();
    let output = output.expect("the tests can be run");
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("skipped: "), "{output:?}");
}

#[test]
fn bash_completes_commands_options_and_files() {
    check("bash", include_str!("complete.bash"));
}

#[test]
fn fish_completes_commands_options_and_files() {
    check("fish", include_str!("complete.fish"));
}

#[test]
fn zsh_completes_commands_options_and_files() {
    check("zsh", include_str!("complete.zsh"));
}
