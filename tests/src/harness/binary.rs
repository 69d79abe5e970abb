//! Finds the binary under test, building it if need be.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The `forebay` binary of the same target directory and profile as the test that asks; `FOREBAY_BINARY` names another.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| env::var_os("FOREBAY_BINARY").map_or_else(build, PathBuf::from))
}

/// Cargo builds the binary of a dependency only if asked to, and knows best whether the one there is up to date.
fn build() -> PathBuf {
    let executable = env::current_exe().expect("a running test has an executable");
    let profile = executable
        .ancestors()
        .find(|dir| matches!(dir.file_name().and_then(|name| name.to_str()), Some("debug" | "release")))
        .expect("a test executable lies below target/debug or target/release");
    let target = profile.parent().expect("the profile's directory lies in the target directory");

    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--locked", "--package", "forebay", "--bin", "forebay", "--target-dir"])
        .arg(target);
    cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace"));
    // What cargo tells a test about its package would make ring's build script, which watches it, run again each time.
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            cargo.env_remove(name);
        }
    }
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.status().expect("cargo can be run to build the binary under test");
    assert!(status.success(), "building the binary under test failed: {cargo:?}");
    profile.join("forebay")
}
