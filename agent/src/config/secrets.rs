//! A look at the files that hold secrets: whether they are there, and whether others can read them.
//!
//! All of it are warnings: the files are read again whenever they change, so they may come, or be mended, later.

use std::{fs::Metadata, os::unix::fs::PermissionsExt, path::Path};

use super::{
    Config, SourceKind,
    document::Table,
    report::{Fault, Report},
};
#[cfg(feature = "postgres")]
use crate::client::postgres::Password;
use crate::secret::SecretSource;

/// Mode bits that let others than owner and group read.
const WORLD_READABLE: u32 = 0o004;

/// Warns of every file of secrets that is not as it should be.
pub(super) fn check(config: &Config, root: &Table, report: &mut Report) {
    for (name, source) in &config.sources {
        let path = |key: &'static [&'static str]| ["sources", name].into_iter().chain(key.iter().copied()).collect();
        #[cfg(feature = "mqtt")]
        if let SourceKind::Mqtt(settings) = &source.kind {
            if let Some(SecretSource::File(file)) = &settings.password {
                look(root, path(&["password_file"]), file, true, report);
            }
            for (key, file, is_secret) in super::tls::files(&settings.tls) {
                look(root, vec!["sources", name, "tls", key], file, is_secret, report);
            }
        }
        #[cfg(feature = "eventhub")]
        if let SourceKind::EventHub(settings) = &source.kind {
            check_hub(root, ["sources", name], &settings.connection, report);
        }
        let SourceKind::Http(settings) = &source.kind else { continue };
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
    #[cfg(feature = "eventhub")]
    for (name, sink) in &config.sinks {
        if let super::SinkKind::EventHub(settings) = &sink.kind {
            check_hub(root, ["sinks", name], &settings.connection, report);
        }
    }
    #[cfg(feature = "snowpipe")]
    for (name, sink) in &config.sinks {
        if let super::SinkKind::Snowpipe(settings) = &sink.kind {
            for (key, file, is_secret) in super::snowflake::files(&settings.connection) {
                look(root, [vec!["sinks", name], key].concat(), file, is_secret, report);
            }
        }
    }
    #[cfg(feature = "snowpipe")]
    if let super::ControlBackend::Snowflake(control) = &config.control.backend
        && root.place(&["control", "snowflake"]) != root.place(&["control"])
    {
        for (key, file, is_secret) in super::snowflake::files(&control.place.connection) {
            look(root, [vec!["control", "snowflake"], key].concat(), file, is_secret, report);
        }
    }
    #[cfg(feature = "postgres")]
    check_postgres(config, root, report);
}

#[cfg(feature = "eventhub")]
fn check_hub(root: &Table, path: [&str; 2], hub: &crate::client::eventhub::Settings, report: &mut Report) {
    for (key, file, is_secret) in super::hub::files(hub) {
        look(root, [path.to_vec(), key].concat(), file, is_secret, report);
    }
}

/// Files of a sink that its URL names are shown at the URL; those that the control table has from a sink, at the sink.
#[cfg(feature = "postgres")]
fn check_postgres(config: &Config, root: &Table, report: &mut Report) {
    if let super::ControlBackend::Postgres(server) = &config.control.backend {
        check_server(root, vec!["control"], server, None, report);
    }
    for (name, sink) in &config.sinks {
        if let super::SinkKind::Postgres(settings) = &sink.kind {
            check_server(root, vec!["sinks", name], &settings.connection, Some("url"), report);
        }
    }
}

/// Looks at the files of `server`: each at its key in the table at `path`, else at `otherwise` there.
#[cfg(feature = "postgres")]
fn check_server(
    root: &Table,
    path: Vec<&str>,
    server: &crate::client::postgres::Settings,
    otherwise: Option<&str>,
    report: &mut Report,
) {
    let password = match &server.password {
        Some(Password::Secret(SecretSource::File(file))) => Some(file),
        _ => None,
    };
    if let Some(Password::AzureToken(identity)) = &server.password {
        let at = |key| [path.as_slice(), &["azure", key]].concat();
        let files = super::azure::secret_files(identity).map(|(key, file)| (at(key), file));
        files.filter(|(at, _)| root.has(at)).for_each(|(at, file)| look(root, at, file, true, report));
    }
    let files = [
        ("password_file", password, true),
        ("ca_file", server.tls.ca_file.as_ref(), false),
        ("certificate_file", server.tls.certificate_file.as_ref(), false),
        ("key_file", server.tls.key_file.as_ref(), true),
    ];
    for (key, file, is_secret) in files {
        let at = |key| [path.as_slice(), &[key]].concat();
        let place = if root.has(&at(key)) { Some(at(key)) } else { otherwise.map(at) };
        if let (Some(file), Some(place)) = (file, place) {
            look(root, place, file, is_secret, report);
        }
    }
}

/// Looks at `file`, which the key at `path` names.
fn look(root: &Table, path: Vec<&str>, file: &Path, is_secret: bool, report: &mut Report) {
    let (problem, help) = match std::fs::metadata(file) {
        Err(error) => (
            format!("names a file that cannot be read: {error}"),
            "nothing goes in or out there until it can be: put it there, readable for forebay's user".to_owned(),
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
