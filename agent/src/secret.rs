//! Passwords, tokens and keys: never printed, wiped when dropped, read again when their file changes.

mod reread;

use std::{fmt, fs::File, hint::black_box, io::Read, path::PathBuf};

pub use reread::Reread;

/// A secret's file may be this large; anything more is the wrong file.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// Text that must not be seen. It has no `Display`, and its `Debug` tells nothing.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Takes `text` as a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, to be handed to a protocol and to nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `other` is the same, in a time that does not tell where they differ (it does tell the length).
    pub fn matches(&self, other: &[u8]) -> bool {
        let ours = self.0.as_bytes();
        let differing = ours.iter().zip(other).fold(0, |differing, (a, b)| black_box(differing | (a ^ b)));
        ours.len() == other.len() && differing == 0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other.0.as_bytes())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0).into_bytes();
        bytes.fill(0);
        black_box(&bytes);
    }
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// The configuration or the environment has it.
    Inline(Secret),
    /// A file has it, and may have another one tomorrow.
    File(PathBuf),
}

impl SecretSource {
    /// Reads it: the file, each time, without the line end that editors leave. The error names the file and what to do.
    pub fn read(&self) -> Result<Secret, String> {
        let path = match self {
            Self::Inline(secret) => return Ok(secret.clone()),
            Self::File(path) => path,
        };
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(MAX_SECRET_BYTES + 1).read_to_string(&mut text));
        let secret = Secret(text);
        read.map_err(|error| {
            format!("cannot read the secret in {}: {error}; make the file readable for this user", path.display())
        })?;
        if secret.0.len() as u64 > MAX_SECRET_BYTES {
            return Err(format!("{} is too large to be a secret: name another file", path.display()));
        }
        match secret.0.trim_end_matches(['\r', '\n']) {
            "" => Err(format!("the secret in {} is empty: put it there, on one line", path.display())),
            trimmed => Ok(Secret::new(trimmed)),
        }
    }

    /// The secret, kept at hand and read again when its file changes.
    pub fn watch(&self) -> Result<Reread<Secret>, String> {
        let paths = match self {
            Self::Inline(_) => Vec::new(),
            Self::File(path) => vec![path.clone()],
        };
        let source = self.clone();
        Reread::new(paths, move || source.read())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_itself() {
        let shown = format!("{:?}", SecretSource::Inline(Secret::new("hunter2")));
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn only_the_same_bytes_match() {
        let secret = Secret::new("hunter2");
        assert!(secret.matches(b"hunter2"));
        for other in ["", "hunter", "hunter3", "hunter22"] {
            assert!(!secret.matches(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn a_file_is_read_without_its_line_end_and_errors_name_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let source = SecretSource::File(path.clone());
        assert!(source.read().unwrap_err().contains("token"));
        std::fs::write(&path, "\r\n").unwrap();
        assert!(source.read().unwrap_err().contains("empty"));
        std::fs::write(&path, "hunter2\r\n").unwrap();
        assert_eq!(source.read().unwrap().expose(), "hunter2");
        std::fs::write(&path, vec![b'x'; MAX_SECRET_BYTES as usize + 1]).unwrap();
        assert!(source.read().unwrap_err().contains("too large"));
    }
}
