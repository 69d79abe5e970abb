//! A fresh cluster of Postgres without the second or two that `initdb` takes: it is made once for a target directory,
//! and copied from then on.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::account::Account;

/// The superuser of every cluster.
pub(super) const SUPERUSER: &str = "postgres";
/// Its password, for servers that ask for one.
pub(super) const PASSWORD: &str = "only-for-tests";

/// Copies a cluster as `initdb` leaves it to `target`, which must not be there.
pub(super) fn copy_to(target: &Path, programs: &Path, account: Account) {
    let template = template_directory().join(format!("postgres-template-{}", version(programs)));
    if !template.is_dir() {
        make(&template, programs, account);
    }
    copy(&template, target);
}

/// Test processes that run side by side wait for one another, and the directory appears when it is whole.
fn make(template: &Path, programs: &Path, account: Account) {
    let lock = File::create(template.with_extension("lock")).expect("a file can be made in the target directory");
    lock.lock().expect("a file of our own can be locked");
    if template.is_dir() {
        return;
    }
    // The target directory may lie where the other account cannot go: so it works elsewhere, and this process copies.
    let directory = tempfile::Builder::new().prefix("forebay-initdb-").tempdir().expect("a directory can be made");
    let password = directory.path().join("password");
    fs::write(&password, PASSWORD).expect("a file can be written");
    account.give(directory.path());
    let data = directory.path().join("data");
    let mut command = Command::new(programs.join("initdb"));
    command.args(["--username", SUPERUSER, "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--no-sync"]);
    command.arg("--pwfile").arg(&password).arg("--pgdata").arg(&data).current_dir(directory.path());
    account.apply(&mut command);
    let done = command.stdin(Stdio::null()).output().expect("initdb can be run");
    assert!(done.status.success(), "initdb failed: {}", String::from_utf8_lossy(&done.stderr));

    let unfinished = template.with_extension("unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).expect("a directory of our own can be removed");
    }
    copy(&data, &unfinished);
    fs::rename(&unfinished, template).expect("a directory of our own can be renamed");
}

/// `target/debug` or `target/release`, where this test lies.
fn template_directory() -> PathBuf {
    let executable = env::current_exe().expect("a running test has an executable");
    let profile = executable.ancestors().find(|dir| dir.join(".fingerprint").is_dir());
    profile.expect("a test executable lies in a directory of cargo's").to_owned()
}

/// Its version, without what a file name may not hold, or would take for an extension.
fn version(programs: &Path) -> String {
    let said = Command::new(programs.join("postgres")).arg("--version").output().expect("postgres can be run");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let version = said.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
    version.unwrap_or_else(|| panic!("postgres does not say its version: {said:?}")).replace(['/', '.'], "-")
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-R").arg(from).arg(to).status().expect("cp can be run");
    assert!(status.success(), "copying {} to {} failed", from.display(), to.display());
}
