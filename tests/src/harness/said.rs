//! What commands have said.

use std::process::Output;

use serde_json::Value;

use super::Gateway;

/// Bytes that are text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a command has printed that went well; panics with all that it said if it did not.
#[track_caller]
pub fn well(output: Output) -> String {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// The findings of `check --connect` that are errors: subject, message, remedy.
pub fn errors(gateway: &Gateway) -> Vec<[String; 3]> {
    let output = gateway.run(&["check", "--connect", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    let findings = report["findings"].as_array().expect("there are findings");
    let word = |finding: &Value, name: &str| finding[name].as_str().expect("it is text").to_owned();
    let wrong = findings.iter().filter(|finding| finding["severity"] == "error");
    wrong.map(|finding| ["subject", "message", "remedy"].map(|name| word(finding, name))).collect()
}
