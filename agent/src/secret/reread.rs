//! A value that is made from files, and made again when they change.

use std::{
    fs::metadata,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// How often the files are looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// See the module.
pub struct Reread<T> {
    paths: Vec<PathBuf>,
    load: Box<dyn Fn() -> Result<T, String> + Send + Sync>,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Arc<T>,
    stamps: Vec<Option<Stamp>>,
    looked: Instant,
    error: Option<String>,
}

/// What tells one version of a file from the next: device, inode, size, modification and change time.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

impl<T> Reread<T> {
    /// Makes the value with `load`, which reads `paths`.
    pub fn new(
        paths: Vec<PathBuf>,
        load: impl Fn() -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        // The stamps are taken first: a change while loading is then seen at the next look.
        let stamps = stamps(&paths);
        let value = Arc::new(load()?);
        let state = State { value, stamps, looked: Instant::now(), error: None };
        Ok(Self { paths, load: Box::new(load), state: Mutex::new(state) })
    }

    /// The value, after a look at the files if the last one is more than a second ago. If they cannot be used (half
    /// written, or the key not yet beside its certificate) the earlier value stays, and the next look tries again.
    pub fn get(&self) -> Arc<T> {
        let mut state = self.state.lock().expect("no holder of this lock panics");
        if !self.paths.is_empty() && state.looked.elapsed() >= LOOK_EVERY {
            state.looked = Instant::now();
            self.look(&mut state);
        }
        Arc::clone(&state.value)
    }

    /// Why the files as they are now cannot be used.
    pub fn error(&self) -> Option<String> {
        self.state.lock().expect("no holder of this lock panics").error.clone()
    }

    fn look(&self, state: &mut State<T>) {
        let stamps = stamps(&self.paths);
        if stamps == state.stamps && state.error.is_none() {
            return;
        }
        match (self.load)() {
            Ok(value) => {
                log::info!("read again: {}", names(&self.paths));
                *state = State { value: Arc::new(value), stamps, looked: state.looked, error: None };
            }
            Err(error) => {
                if state.error.is_none() {
                    log::warn!("{error}; what was read before stays in use");
                }
                state.error = Some(error);
            }
        }
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Option<Stamp>> {
    paths.iter().map(|path| stamp(path)).collect()
}

fn stamp(path: &Path) -> Option<Stamp> {
    let file = metadata(path).ok()?;
    Some((file.dev(), file.ino(), file.size(), (file.mtime(), file.mtime_nsec()), (file.ctime(), file.ctime_nsec())))
}

fn names(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
impl<T> Reread<T> {
    /// Lets the next [`Reread::get`] look at once.
    pub(crate) fn look_now(&self) {
        let mut state = self.state.lock().unwrap();
        state.looked = Instant::now();
        self.look(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number_in(path: PathBuf) -> Reread<u32> {
        Reread::new(vec![path.clone()], move || {
            std::fs::read_to_string(&path).map_err(|e| e.to_string())?.parse().map_err(|_| "not a number".to_owned())
        })
        .unwrap()
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_broken_one_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("value");
        std::fs::write(&path, "1").unwrap();
        let number = number_in(path.clone());
        assert_eq!(*number.get(), 1);

        std::fs::write(&path, "22").unwrap();
        number.look_now();
        assert_eq!(*number.get(), 22);

        std::fs::write(&path, "half").unwrap();
        number.look_now();
        assert_eq!((*number.get(), number.error()), (22, Some("not a number".to_owned())));

        std::fs::write(&path, "333").unwrap();
        number.look_now();
        assert_eq!((*number.get(), number.error()), (333, None));
    }
}
