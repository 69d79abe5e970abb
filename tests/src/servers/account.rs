//! The account a server runs under: servers refuse root, or leave it by themselves, and the tests may be root.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::Path,
    process::Command,
};

use rustix::process::geteuid;

/// Whom a server runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Account {
    /// Whoever runs the tests.
    Own,
    /// Another user, for the tests run as root.
    Other { user: u32, group: u32 },
}

impl Account {
    /// The first of `names` that this machine knows, or `nobody`, where the tests run as root.
    pub(super) fn for_server(names: &[&str]) -> Self {
        if !geteuid().is_root() {
            return Self::Own;
        }
        let users = fs::read_to_string("/etc/passwd").expect("a Linux machine has a list of users");
        let found = names.iter().chain(&["nobody"]).find_map(|name| find(&users, name));
        found.expect("a Linux machine has a user called nobody")
    }

    /// Makes `command` run under it.
    pub(super) fn apply(self, command: &mut Command) {
        if let Self::Other { user, group } = self {
            command.uid(user).gid(group);
        }
    }

    /// Gives it `path`, and what is below.
    pub(super) fn give(self, path: &Path) {
        let Self::Other { user, group } = self else { return };
        chown(path, Some(user), Some(group)).expect("root may give files away");
        if path.is_dir() {
            for entry in fs::read_dir(path).expect("root may read every directory") {
                self.give(&entry.expect("root may read every directory").path());
            }
        }
    }
}

/// A line of passwd(5): name, password, user, group, and more.
fn find(users: &str, name: &str) -> Option<Account> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then_some(())?;
        Some(Account::Other { user: fields.nth(1)?.parse().ok()?, group: fields.next()?.parse().ok()? })
    })
}
