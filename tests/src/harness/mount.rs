//! Small filesystems, where the tests may mount them.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A tmpfs. Unmounted when dropped.
#[derive(Debug)]
pub struct Mount {
    path: PathBuf,
}

impl Mount {
    /// Mounts one at `path`, which is made. `options` as for mount(8): `size=16m`. `None` where that is not allowed.
    pub fn tmpfs(path: PathBuf, options: &str) -> Option<Self> {
        std::fs::create_dir(&path).expect("a directory can be made");
        let arguments = ["-t", "tmpfs", "-o", options, "tmpfs"];
        quietly(Command::new("mount").args(arguments).arg(&path)).then(|| Self { path })
    }

    /// Makes it read-only.
    pub fn make_read_only(&self) {
        let done = quietly(Command::new("mount").args(["-o", "remount,ro"]).arg(&self.path));
        assert!(done, "who may mount may remount");
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily, for a failing test may leave an agent that still holds files.
        quietly(Command::new("umount").arg("--lazy").arg(&self.path));
    }
}

fn quietly(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
