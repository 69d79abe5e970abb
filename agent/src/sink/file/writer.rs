//! The one writer behind all lanes of a file sink.

use std::{
    fs::{File, TryLockError},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use forebay_buffer::{Checkpoint, clock::Clock};

use super::{
    Compression, Settings,
    disk::Disk,
    state::{Current, Found, State, StateFile},
};
use crate::contract::{PartitionId, SinkError};

/// Zstandard's own default: the balance that fits a gateway's processor.
const ZSTD_LEVEL: i32 = 3;

/// A batch as lines, and what the checkpoint is behind each of them.
pub(super) struct Part {
    lines: Vec<u8>,
    /// For each line, where it ends and the checkpoint there.
    ends: Vec<(usize, Checkpoint)>,
    expected: Option<Checkpoint>,
    through: Checkpoint,
}

impl Part {
    pub(super) fn new(expected: Option<Checkpoint>, through: Checkpoint) -> Self {
        Self { lines: Vec::new(), ends: Vec::new(), expected, through }
    }

    /// Adds a line, as `write` writes it.
    pub(super) fn add(&mut self, checkpoint: Checkpoint, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.lines);
        self.ends.push((self.lines.len(), checkpoint));
    }

    /// The checkpoint behind all of it.
    pub(super) fn through(&self) -> Checkpoint {
        self.through
    }
}

/// The open files. After an error they are dropped, and opened again: what is on disk is the truth.
pub(super) struct Writer<D> {
    disk: D,
    settings: Settings,
    clock: Arc<dyn Clock>,
    state_file: StateFile,
    state: State,
    /// The file that the state says is being written, once it is open.
    data: Option<(PathBuf, File)>,
}

impl<D: Disk> Writer<D> {
    /// Opens the files, and cuts off what was written and not committed. What it finds then is durable.
    pub(super) fn open(disk: D, settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, SinkError> {
        create_directory(&disk, &settings.path)?;
        let path = settings.path.join(format!("{}.state", settings.name));
        let file = match disk.create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => disk.open(&path),
            created => created,
        };
        let file = file.map_err(failed("opening", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message =
                    format!("{} is in use by another process: only one may write these files", path.display());
                return Err(SinkError::Retry { message, after: None });
            }
            Err(TryLockError::Error(error)) => return Err(failed("locking", &path)(error)),
        }
        disk.sync_directory(&settings.path).map_err(failed("syncing", &settings.path))?;
        let (state_file, found) = StateFile::read(path.clone(), file).map_err(failed("reading", &path))?;
        let existing = numbers(&settings)?;
        let state = match found {
            Found::State(state) => state,
            Found::Nothing => State { first: existing.last().map_or(1, |last| last + 1), ..State::default() },
            // A first record that was torn: nothing was written under it yet.
            Found::Damaged if existing.is_empty() => State { first: 1, ..State::default() },
            Found::Damaged => {
                return Err(SinkError::Stop(format!(
                    "{} is damaged: how much of {} is committed is unknown. Move both away, and run `forebay buffer \
                     adopt` to go on with new files",
                    path.display(),
                    settings.path.join(format!("{}-*", settings.name)).display(),
                )));
            }
            Found::Newer => {
                return Err(SinkError::Stop(format!(
                    "{} was written by a later version of forebay: install that version again",
                    path.display()
                )));
            }
            Found::Foreign => {
                return Err(SinkError::Stop(format!(
                    "{} is not a file of forebay: move it away, or call the sink something else",
                    path.display()
                )));
            }
        };
        let mut writer = Self { disk, settings, clock, state_file, state, data: None };
        writer.recover()?;
        // The process that wrote the record may have died before it was synced, and what is answered from it must be
        // durable. Syncing alone would not do: after a failed sync the pages count as clean.
        writer.write_state()?;
        Ok(writer)
    }

    /// How far `partition` has come.
    pub(super) fn checkpoint(&mut self, partition: &PartitionId) -> Option<Checkpoint> {
        let key = (partition.stream.clone(), partition.name.clone());
        if let Some(former) = &partition.renamed_from
            && !self.state.checkpoints.contains_key(&key)
            && let Some(checkpoint) = self.state.checkpoints.remove(&(former.clone(), partition.name.clone()))
        {
            self.state.checkpoints.insert(key, checkpoint);
            return Some(checkpoint);
        }
        self.state.checkpoints.get(&key).copied()
    }

    /// Commits a batch, in as many files as it needs. After an error some of it may be committed, in order.
    pub(super) fn commit(&mut self, partition: &PartitionId, part: &Part) -> Result<(), SinkError> {
        let key = (partition.stream.clone(), partition.name.clone());
        if self.state.checkpoints.get(&key) != part.expected.as_ref() {
            return Err(SinkError::Reconnect(format!(
                "{partition}: the files have moved on since they were last asked"
            )));
        }
        self.find_files()?;
        let (mut from, mut next) = (0, 0);
        while next < part.ends.len() {
            self.begin_if_due()?;
            let room = self.settings.max_file_bytes.saturating_sub(self.length());
            let fits = part.ends[next..].partition_point(|(end, _)| (end - from) as u64 <= room);
            let count = match fits {
                0 if self.length() > 0 => {
                    // What went into the full file is committed with the beginning of the next one.
                    self.begin_another()?;
                    continue;
                }
                // A single event larger than a file may be.
                0 => 1,
                fits => fits,
            };
            next += count;
            let (end, checkpoint) = part.ends[next - 1];
            self.append(&part.lines[from..end])?;
            self.state.checkpoints.insert(key.clone(), checkpoint);
            from = end;
        }
        self.state.checkpoints.insert(key, part.through);
        self.sync_data()?;
        // Between two looks somebody may have deleted them: what is confirmed must be in files that have names.
        if !self.find_files()? {
            return Err(SinkError::Reconnect(format!("{partition}: the file that was being written was taken away")));
        }
        self.write_state()
    }

    /// Looks whether the open files are still those of their names. A data file that was taken away is given up, and
    /// the next batch begins another; without the state nothing is known, and the files must be opened anew.
    fn find_files(&mut self) -> Result<bool, SinkError> {
        let state = self.settings.path.join(format!("{}.state", self.settings.name));
        if !self.state_file.is_named(&self.disk).map_err(failed("looking for", &state))? {
            return Err(SinkError::Reconnect(format!("{} was taken away", state.display())));
        }
        let Some((path, file)) = &self.data else { return Ok(true) };
        let named = self.disk.is_named(path, file).map_err(failed("looking for", path))?;
        if !named {
            log::warn!("{} has been taken away: going on in a new file", path.display());
            self.data = None;
        }
        Ok(named)
    }

    /// Makes the current file what the state says of it.
    fn recover(&mut self) -> Result<(), SinkError> {
        let Some(current) = self.state.current.clone() else { return Ok(()) };
        let path = self.data_path(&current);
        let file = match self.disk.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Claimed and never created, or taken away by someone: the next batch begins another.
                if current.length > 0 {
                    log::warn!("{} has been taken away: going on in a new file", path.display());
                }
                return Ok(());
            }
            Err(error) => return Err(failed("opening", &path)(error)),
        };
        let found = file.metadata().map_err(failed("reading", &path))?.len();
        if found < current.length || !is_last_write(&file, &current).map_err(failed("reading", &path))? {
            return Err(SinkError::Stop(format!(
                "{} is not what was written: {} bytes of it are committed, and it has {found}, or others. Put it back as \
                 it was, or move it away to go on in a new file",
                path.display(),
                current.length,
            )));
        }
        if found > current.length {
            self.disk.truncate(&path, &file, current.length).map_err(failed("cutting off", &path))?;
        }
        self.disk.sync(&path, &file).map_err(failed("syncing", &path))?;
        self.data = Some((path, file));
        Ok(())
    }

    /// Begins a file if there is none, or if the one there is too old or of another kind.
    fn begin_if_due(&mut self) -> Result<(), SinkError> {
        let Some(current) = &self.state.current else { return self.begin_another() };
        let another_kind = current.compression != self.settings.compression;
        let too_old = self.settings.max_file_age.is_some_and(|max_age| self.age(current) >= max_age);
        if self.data.is_none() || another_kind || (too_old && current.length > 0) {
            return self.begin_another();
        }
        Ok(())
    }

    /// Begins the next file, and commits what went into the one before. The state claims the number before the file is
    /// there, so that whoever finds it knows whose it is.
    fn begin_another(&mut self) -> Result<(), SinkError> {
        self.sync_data()?;
        loop {
            let taken = numbers(&self.settings)?.last().copied();
            let number =
                taken.max(self.state.current.as_ref().map(|current| current.number)).map_or(1, |last| last + 1);
            let current = Current {
                number: number.max(self.state.first),
                compression: self.settings.compression,
                length: 0,
                last_write: (0, 0),
                begun: self.now(),
            };
            let path = self.data_path(&current);
            self.state.current = Some(current);
            self.write_state()?;
            match self.disk.create(&path) {
                Ok(file) => {
                    self.disk.sync_directory(&self.settings.path).map_err(failed("syncing", &self.settings.path))?;
                    self.data = Some((path, file));
                    break;
                }
                // Somebody else made one of that name since the directory was read: it is not ours.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed("creating", &path)(error)),
            }
        }
        self.prune();
        Ok(())
    }

    /// Deletes the oldest files beyond those to keep. One that cannot be deleted is no reason to deliver nothing.
    fn prune(&self) {
        let (Some(keep), Some(current)) = (self.settings.keep_files, &self.state.current) else { return };
        let Ok(mut numbers) = numbers(&self.settings) else { return };
        numbers.retain(|number| (self.state.first..=current.number).contains(number));
        let excess = numbers.len().saturating_sub(keep.max(1) as usize);
        for number in &numbers[..excess] {
            for compression in [Compression::None, Compression::Zstd] {
                let path = self.settings.path.join(data_name(&self.settings.name, *number, compression));
                match self.disk.remove(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        log::warn!("deleting {}, to keep {keep} files: {error}", path.display());
                    }
                    _ => {}
                }
            }
        }
    }

    fn append(&mut self, lines: &[u8]) -> Result<(), SinkError> {
        let (path, file) = self.data.as_ref().expect("a file was begun before");
        let current = self.state.current.as_mut().expect("a file was begun before");
        let compressed = match current.compression {
            Compression::None => None,
            Compression::Zstd => {
                Some(zstd::bulk::compress(lines, ZSTD_LEVEL).map_err(failed("compressing for", path))?)
            }
        };
        let bytes = compressed.as_deref().unwrap_or(lines);
        self.disk.write_at(path, file, bytes, current.length).map_err(failed("writing", path))?;
        current.length += bytes.len() as u64;
        current.last_write = (bytes.len() as u64, crc32fast::hash(bytes));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), SinkError> {
        let Some((path, file)) = &self.data else { return Ok(()) };
        self.disk.sync(path, file).map_err(failed("syncing", path))
    }

    fn write_state(&mut self) -> Result<(), SinkError> {
        let path = self.settings.path.join(format!("{}.state", self.settings.name));
        self.state_file.write(&self.disk, &self.state).map_err(failed("writing", &path))
    }

    fn length(&self) -> u64 {
        self.state.current.as_ref().map_or(0, |current| current.length)
    }

    fn data_path(&self, current: &Current) -> PathBuf {
        self.settings.path.join(data_name(&self.settings.name, current.number, current.compression))
    }

    fn now(&self) -> (u128, u64) {
        (self.clock.boot_id(), self.clock.now().since_boot.as_micros() as u64)
    }

    /// How old a file is: in this boot, for the wall clock may be wrong, and nothing else goes on across boots.
    fn age(&self, current: &Current) -> Duration {
        let (boot, since_boot) = self.now();
        let begun = if current.begun.0 == boot { current.begun.1 } else { 0 };
        Duration::from_micros(since_boot.saturating_sub(begun))
    }
}

fn data_name(name: &str, number: u64, compression: Compression) -> String {
    let extension = match compression {
        Compression::None => "ndjson",
        Compression::Zstd => "ndjson.zst",
    };
    format!("{name}-{number:08}.{extension}")
}

/// The numbers of the data files there are, ascending.
fn numbers(settings: &Settings) -> Result<Vec<u64>, SinkError> {
    let reading = |error| failed("reading", &settings.path)(error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&settings.path).map_err(reading)? {
        let name = entry.map_err(reading)?.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(&settings.name)?.strip_prefix('-')) else {
            continue;
        };
        let Some((number, "ndjson" | "ndjson.zst")) = rest.split_once('.') else { continue };
        if number.len() >= 8 {
            found.extend(number.parse::<u64>());
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Whether `file` ends, up to its committed length, with what was written there last.
fn is_last_write(file: &File, current: &Current) -> io::Result<bool> {
    let (length, crc) = current.last_write;
    let Some(start) = current.length.checked_sub(length) else { return Ok(false) };
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = [0; 8192];
    let mut at = start;
    while at < current.length {
        let wanted = usize::try_from(current.length - at).unwrap_or(usize::MAX).min(buffer.len());
        file.read_exact_at(&mut buffer[..wanted], at)?;
        hasher.update(&buffer[..wanted]);
        at += wanted as u64;
    }
    Ok(hasher.finalize() == crc)
}

fn create_directory(disk: &impl Disk, path: &Path) -> Result<(), SinkError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_directory(disk, parent)?;
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed("creating", path)(error)),
        _ => {}
    }
    disk.sync_directory(parent).map_err(failed("syncing", parent))
}

/// An operator can mend permissions and make room while the agent runs, so it tries again.
fn failed<'a>(doing: &'a str, path: &'a Path) -> impl Fn(io::Error) -> SinkError + 'a {
    move |error| {
        let remedy = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ": it goes on when there is room",
            io::ErrorKind::PermissionDenied => ": let the user that forebay runs as write there",
            io::ErrorKind::ReadOnlyFilesystem => ": mount it writable, or set another path",
            _ => "",
        };
        SinkError::Retry { message: format!("{doing} {}: {error}{remedy}", path.display()), after: None }
    }
}

#[cfg(test)]
mod tests;
