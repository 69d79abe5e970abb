//! Where the servers' programs lie.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// The program `name`, in `PATH` or where Debian puts the programs of servers; panics with the package that brings it.
pub(super) fn program(name: &str, package: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let places = env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    places.map(|place| place.join(name)).find(|file| file.is_file()).unwrap_or_else(|| missing(name, package))
}

/// The directory with all programs of Postgres: Debian keeps them out of `PATH`, one directory for each version, and
/// puts a wrapper for its own clusters into `PATH` instead of `psql`.
pub(super) fn postgres_programs() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin")).collect();
    versions.sort_by_key(|bin| bin.parent().and_then(Path::file_name)?.to_str()?.parse::<u32>().ok());
    let mut places = env::split_paths(&path).chain(versions.into_iter().rev());
    let all = ["initdb", "postgres", "psql"];
    places
        .find(|bin| all.iter().all(|name| bin.join(name).is_file()))
        .unwrap_or_else(|| missing("initdb", "postgresql"))
}

fn missing(name: &str, package: &str) -> ! {
    panic!("{name} is not on this machine: install the Debian package {package}, as tests/run does")
}
