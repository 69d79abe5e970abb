//! A look at the files that hold secrets: whether they are there, and whether others can read them.
//!
//! All of it are warnings: the files are read again whenever they change, so they may come, or be mended, later.

use std::{fs::Metadata, os::unix::fs::PermissionsExt, path::Path};

use super::{
    Config, SourceKind,
    document::Table,
    report::{Fault, Report},
};
use crate::secret::SecretSource;

/// Mode bits that let others than owner and group read.
const WORLD_READABLE: u32 = 0o004;

/// Warns of every file of secrets that is not as it should be.
pub(super) fn check(config: &Config, root: &Table, report: &mut Report) {
    for (name, source) in &config.sources {
        let SourceKind::Http(settings) = &source.kind else { continue };
        let path = |key: &'static [&'static str]| ["sources", name].into_iter().chain(key.iter().copied()).collect();
        if let Some(SecretSource::File(file)) = &settings.token {
            look(root, path(&["token_file"]), file, true, report);
        }
        if let Some(tls) = &settings.tls {
            look(root, path(&["tls", "certificate_file"]), &tls.certificate_file, false, report);
            look(root, path(&["tls", "key_file"]), &tls.key_file, true, report);
            if let Some(file) = &tls.client_ca_file {
                look(root, path(&["tls", "client_ca_file"]), file, false, report);
            }
        }
    }
}

/// Looks at `file`, which the key at `path` names.
fn look(root: &Table, path: Vec<&str>, file: &Path, is_secret: bool, report: &mut Report) {
    let (problem, help) = match std::fs::metadata(file) {
        Err(error) => (
            format!("names a file that cannot be read: {error}"),
            "nothing is taken in by this source until it can be: put it there, readable for forebay's user".to_owned(),
        ),
        Ok(found) if !found.is_file() => ("names something that is no file".to_owned(), "name a file".to_owned()),
        Ok(found) if is_secret && world_readable(&found) => (
            format!("names a file that any user can read (mode {:04o})", found.permissions().mode() & 0o7777),
            "run chmod 0600 on it, and chown to forebay's user".to_owned(),
        ),
        Ok(_) => return,
    };
    report.warning(Fault::new(root.place(&path), path.join("."), problem).help(help));
}

fn world_readable(found: &Metadata) -> bool {
    found.permissions().mode() & WORLD_READABLE != 0
}
