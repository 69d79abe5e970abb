//! `[....tls]`: whom a client trusts, and what it shows of itself.

use std::path::Path;

use super::{
    key::{Key, Schema},
    kind::FilePath,
    reading::Section,
    report::Reported,
};
use crate::tls::client::ClientSettings;

pub(super) static TLS: Schema = Schema {
    name: "tls",
    variant: "",
    doc: "How the server is verified where the connection is encrypted, and the certificate that it is shown. The files are \
          read again when they change.",
    keys: &[&CA_FILE, &CERTIFICATE_FILE, &KEY_FILE],
    tables: &[],
};

static CA_FILE: Key<FilePath> = Key::optional(
    "ca_file",
    FilePath,
    "the authorities that come with this program, and the system's",
    "A file of the authorities, one of which must have signed the server's certificate, PEM.",
);

static CERTIFICATE_FILE: Key<FilePath> = Key::optional(
    "certificate_file",
    FilePath,
    "none is shown",
    "The agent's own certificate and those that lead to its root, PEM.",
);

static KEY_FILE: Key<FilePath> =
    Key::optional("key_file", FilePath, "none is shown", "The private key of certificate_file, PEM.");

pub(super) fn read(mut section: Section<'_, '_, '_>) -> Result<ClientSettings, Reported> {
    let ca_file = section.given(&CA_FILE);
    let (certificate_file, key_file) = (section.given(&CERTIFICATE_FILE), section.given(&KEY_FILE));
    let settings = ClientSettings { ca_file: ca_file?, certificate_file: certificate_file?, key_file: key_file? };
    match (&settings.certificate_file, &settings.key_file) {
        (Some(_), None) => {
            Err(section.error(CERTIFICATE_FILE.name, "is given without its key", "give key_file too, or remove it"))
        }
        (None, Some(_)) => {
            let help = "give certificate_file too, or remove it";
            Err(section.error(KEY_FILE.name, "is given without its certificate", help))
        }
        _ => Ok(settings),
    }
}

/// The files that `settings` name, each with its key, and whether others must not read it.
pub(super) fn files(settings: &ClientSettings) -> impl Iterator<Item = (&'static str, &Path, bool)> {
    let files = [
        (CA_FILE.name, &settings.ca_file, false),
        (CERTIFICATE_FILE.name, &settings.certificate_file, false),
        (KEY_FILE.name, &settings.key_file, true),
    ];
    files.into_iter().filter_map(|(key, file, is_secret)| Some((key, file.as_deref()?, is_secret)))
}
