//! What is said about every kind of wrong configuration, word for word.
//!
//! A case is a file `golden/config/NAME.toml`, or a directory `golden/config/NAME` with a `forebay.toml` and what is
//! beside it; what must be said stands in `NAME.stderr`. After a change of a message on purpose, run this with
//! `UPDATE_GOLDEN=1` and read the difference.

use std::{
    fs,
    path::{Path, PathBuf},
};

use forebay::config::{Config, Environment};

/// The values of secrets in the cases: none of them may ever be said.
const SECRETS: [&str; 2] = ["hunter2", "correct-horse"];

/// Where the cases are, relative to the directory that tests run in.
const CASES: &str = "tests/golden/config";

#[test]
fn every_wrong_configuration_is_explained_word_for_word() {
    let cases = cases();
    assert!(cases.len() >= 25, "only {} cases were found in {CASES}", cases.len());
    let mut differences = Vec::new();
    for (name, main) in &cases {
        let said = explain(main);
        let golden = Path::new(CASES).join(format!("{name}.stderr"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &said).expect("the golden file is writable");
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if said != expected {
            differences.push(format!("--- {name}: expected\n{expected}--- {name}: said\n{said}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn no_secret_is_said_in_any_of_the_messages() {
    let mut with_secrets = 0;
    for (name, main) in cases() {
        let text = fs::read_to_string(&main).unwrap_or_default();
        with_secrets += usize::from(SECRETS.iter().any(|secret| text.contains(secret)));
        let said = explain(&main);
        assert!(SECRETS.iter().all(|secret| !said.contains(secret)), "{name}:\n{said}");
    }
    assert!(with_secrets >= 5, "the cases hold too few secrets to show anything");
}

fn cases() -> Vec<(String, PathBuf)> {
    let mut cases: Vec<_> = fs::read_dir(CASES)
        .expect("the directory of cases is there")
        .map(|entry| entry.expect("the directory can be read").path())
        .filter(|path| path.is_dir() || path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| {
            let name = path.file_stem().expect("an entry has a name").to_string_lossy().into_owned();
            (name, if path.is_dir() { path.join("forebay.toml") } else { path })
        })
        .collect();
    cases.sort();
    cases
}

/// All that is said about the configuration at `main`.
fn explain(main: &Path) -> String {
    let environment = Environment::made_up([("INGEST_TOKEN", "correct-horse"), ("LISTEN", "correct-horse")]);
    let said = match Config::load(main, &environment) {
        Err(invalid) => format!("{invalid}\n"),
        Ok(loaded) => {
            assert!(
                !format!("{:?}", loaded.config).contains("correct-horse"),
                "{} gives a secret away",
                main.display()
            );
            loaded.warnings.iter().map(|warning| format!("{warning}\n")).collect()
        }
    };
    said.replace(&format!("{CASES}/"), "")
}
