//! Azure Arc, which gives gateways outside of Azure an identity. Its agent answers on this machine only, and only those
//! who can read a file that it names: root, and the members of the group `himds`.
//!
//! "Authenticate against Azure resources with Azure Arc-enabled servers" in Microsoft's documentation.

use std::{
    fs::File,
    io::Read,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use tokio::time::Instant;

use super::{Token, error::Failure, exchange::Answer, resource, sources::Sources};
use crate::{
    client::https::{encoded, is_loopback},
    secret::Secret,
};

/// Arc's agent. Where it is, Arc is.
pub(super) const AGENT: &str = "/opt/azcmagent/bin/himds";
/// Where it answers.
pub(super) const ENDPOINT: &str = "http://127.0.0.1:40342/metadata/identity/oauth2/token";
/// Where the files are that it names. Whoever could make us read another would be sent what is in it.
pub(super) const TOKENS: &str = "/var/opt/azcmagent/tokens";
/// No such file is larger.
const MAX_KEY_BYTES: u64 = 4096;

/// Asks at `endpoint`, and proves that a file of the directory `tokens` can be read.
pub(super) fn ask(sources: &Sources, scope: &str, endpoint: &str, tokens: &Path) -> Result<Token, Failure> {
    if !endpoint.starts_with("http://") || !is_loopback(endpoint) {
        let why = format!("Azure Arc: IDENTITY_ENDPOINT is {endpoint}, and Arc's agent is on this machine");
        return Err(Failure::lasting(why));
    }
    if sources.settings.client_id.is_some() {
        let why = "Azure Arc gives a machine one identity and no other: take client_id (AZURE_CLIENT_ID) out";
        return Err(Failure::lasting(why));
    }
    let url = format!("{endpoint}?{}", encoded(&[("api-version", "2020-06-01"), ("resource", resource(scope))]));
    let place = format!("Azure Arc: {endpoint}");
    let get = || sources.near.get(&url).header("Metadata", "true");
    let first = Answer::read(&place, get().call())?;
    if first.status != 401 {
        let why = format!("{place} asks for no file to be read, as Arc's agent does");
        return Err(if first.status == 200 { Failure::lasting(why) } else { first.refusal(&place) });
    }
    let key = challenge(first.challenge.as_deref(), tokens).map_err(Failure::lasting)?;
    let asked = Instant::now();
    let proof = Secret::new(format!("Basic {}", key.expose()));
    Answer::read(&place, get().header("Authorization", proof.expose()).call())?.token(&place, asked, sources.seconds())
}

/// What is in the file that `challenge` names: `Basic realm=FILE`.
fn challenge(challenge: Option<&str>, tokens: &Path) -> Result<Secret, String> {
    let file = challenge.and_then(|text| text.strip_prefix("Basic realm=")).map(|file| file.trim_matches('"'));
    let file = file.ok_or("Azure Arc: the agent names no file to read: update it (azcmagent)")?;
    let path = PathBuf::from(file);
    let is_there = path.parent() == Some(tokens) && path.extension().is_some_and(|extension| extension == "key");
    // A path that is put together anew has neither "." nor "//" in it.
    let is_plain = path.file_name().is_some_and(|name| tokens.join(name).as_os_str() == path.as_os_str());
    if !is_there || !is_plain {
        return Err(format!("Azure Arc: {file:?} is to be read, and that is no .key file of {}", tokens.display()));
    }
    read(&path)
}

fn read(path: &Path) -> Result<Secret, String> {
    let wrong = |why: &str| format!("Azure Arc: {}: {why}", path.display());
    let mut options = File::options();
    // Neither a link to another file nor a pipe that nobody writes to.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let open = options.read(true).custom_flags(flags.bits() as i32).open(path);
    let file = open.map_err(|error| wrong(&format!("{error}; add forebay's user to the group himds")))?;
    let metadata = file.metadata().map_err(|error| wrong(&error.to_string()))?;
    if !metadata.is_file() || metadata.len() > MAX_KEY_BYTES {
        return Err(wrong(&format!("is no file of at most {MAX_KEY_BYTES} bytes")));
    }
    let mut text = String::new();
    let read = file.take(MAX_KEY_BYTES).read_to_string(&mut text);
    let key = Secret::new(text);
    match read {
        Ok(_) if key.expose().bytes().all(|byte| (b' '..=b'~').contains(&byte)) && !key.expose().is_empty() => Ok(key),
        Ok(_) => Err(wrong("holds no key")),
        Err(error) => Err(wrong(&error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn only_a_key_file_of_arcs_own_directory_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = dir.path().join("tokens");
        fs::create_dir_all(tokens.join("inner.key")).unwrap();
        let at = |name: &str| format!("{}/{name}", tokens.display());
        for name in ["good.key", "wrong.txt", "../other.key", "inner.key/a.key", "empty.key"] {
            fs::write(at(name), if name == "empty.key" { "" } else { "hunter2" }).unwrap();
        }
        fs::write(at("largest.key"), "x".repeat(4096)).unwrap();
        fs::write(at("large.key"), "x".repeat(4097)).unwrap();
        fs::write(at("lines.key"), "a\r\nX-Header: b").unwrap();
        symlink(at("good.key"), at("link.key")).unwrap();
        let read = |file: String| challenge(Some(&format!("Basic realm={file}")), &tokens);
        assert_eq!(read(at("good.key")).unwrap().expose(), "hunter2");
        assert_eq!(read(at("largest.key")).unwrap().expose().len(), 4096);
        for wrong in [
            "wrong.txt",
            "../other.key",
            "../tokens/good.key",
            "./good.key",
            "/good.key",
            "inner.key",
            "inner.key/a.key",
            "link.key",
            "large.key",
            "lines.key",
            "empty.key",
            "none.key",
            "good.key/",
            "",
        ] {
            let error = read(at(wrong)).expect_err(wrong);
            assert!(error.starts_with("Azure Arc: ") && !error.contains("hunter2"), "{error}");
        }
        assert!(read(at("none.key")).unwrap_err().contains("himds"));
        for wrong in [None, Some("Bearer x"), Some("Basic realm=")] {
            assert!(challenge(wrong, &tokens).is_err(), "{wrong:?}");
        }
    }
}
