//! From a config to an open buffer that has every stream and sink of the config, and no other with events to deliver.

use std::{fs, os::unix::fs::DirBuilderExt, path::Path, sync::Arc};

use forebay_buffer::{Buffer, Options, Recovery, SinkStatus, Status, clock::Clock};

use super::{AgentError, renames::Renames, sink_unit::window_bytes};
use crate::config::Config;

/// The buffer's options that a config says.
pub fn options(config: &Config, clock: &Arc<dyn Clock>) -> Options {
    let mut options = Options::new(&config.buffer.path, Arc::clone(clock));
    options.durability = config.buffer.durability;
    options.max_bytes = config.buffer.max_bytes;
    options.min_free_disk = config.buffer.min_free_disk;
    options.max_event_bytes = config.buffer.max_event_bytes;
    options.max_ack_delay = config.buffer.max_ack_delay;
    options
}

/// Opens the buffer, takes it over if `adopt` says so, and makes it fit the config. Blocks.
pub(super) fn open(config: &Config, clock: &Arc<dyn Clock>, adopt: bool) -> Result<Buffer, AgentError> {
    make_data_dir(&config.agent.data_dir)?;
    let buffer = options(config, clock).open()?;
    let prepared = if adopt { self::adopt(&buffer) } else { Ok(()) }.and_then(|()| prepare(&buffer, config));
    match prepared {
        Ok(()) => {
            report(&buffer, config);
            Ok(buffer)
        }
        Err(error) => {
            buffer.close();
            Err(error)
        }
    }
}

/// Says how the buffer was found.
fn report(buffer: &Buffer, config: &Config) {
    let path = config.buffer.path.display();
    match buffer.recovery() {
        Recovery::Created => log::info!("buffer {path}: created"),
        Recovery::Clean => log::info!("buffer {path}: opened"),
        Recovery::Unclean => log::info!("buffer {path}: opened after a crash; what was acknowledged is there"),
        Recovery::Salvaged(report) => log::error!(
            "buffer {path}: was damaged ({}) and salvaged: {} events kept, at least {} lost; the damaged file is {}; \
             `forebay buffer check --acknowledge` takes this off health",
            report.reason,
            report.events_kept,
            report.events_lost,
            report.set_aside.display(),
        ),
    }
}

/// Gives the buffer a new generation.
fn adopt(buffer: &Buffer) -> Result<(), AgentError> {
    let generation = buffer.adopt().map_err(|error| AgentError::buffer("cannot adopt the buffer", &error))?;
    log::warn!("the buffer was adopted: what is in it goes out under generation {generation}");
    Ok(())
}

fn make_data_dir(path: &Path) -> Result<(), AgentError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o750).create(path);
    made.map_err(|error| AgentError::io(format_args!("cannot make the data directory {}", path.display()), &error))
}

/// Renames what was renamed, refuses what would strand events, and declares what the config has. It changes nothing if
/// it refuses, and nothing that is in use: what a running sink or source relies on must be stopped first. Blocks.
pub(super) fn prepare(buffer: &Buffer, config: &Config) -> Result<(), AgentError> {
    let status = buffer.status().map_err(|error| AgentError::buffer("cannot read what the buffer holds", &error))?;
    let renames = Renames::of(&status, config);
    let refusals: Vec<String> = renames
        .impossible(&status)
        .chain(stranded_streams(&status, config, &renames))
        .chain(stranded_sinks(&status, config, &renames))
        .collect();
    if !refusals.is_empty() {
        return Err(AgentError::config(refusals.join("\n")));
    }
    renames.carry_out(buffer)?;
    let known = |name: &str| config.sinks.contains_key(name) || renames.has_sink(name);
    for sink in status.sinks.iter().filter(|sink| !known(&sink.name)) {
        buffer
            .discard_sink(&sink.name)
            .map_err(|error| AgentError::buffer(format_args!("cannot forget the sink {}", sink.name), &error))?;
        log::info!("sink {}: no longer in the config and with nothing left to deliver: forgotten", sink.name);
    }
    declare(buffer, config)
}

/// Streams with events to deliver that have no source any more. The events would go out, but nothing would ever say
/// that they are all there is; more likely the name is a slip.
fn stranded_streams<'a>(
    status: &'a Status,
    config: &'a Config,
    renames: &'a Renames,
) -> impl Iterator<Item = String> + 'a {
    let known = |name: &str| config.sources.contains_key(name) || renames.has_stream(name);
    status.streams.iter().filter(move |stream| !known(&stream.name)).filter_map(|stream| {
        let events = undelivered(status, &stream.name).unwrap_or(stream.events);
        let name = &stream.name;
        (events > 0).then(|| {
            format!(
                "{events} events of the stream {name:?} are not delivered, and no source has that name any more: \
                 put [sources.{name}] back; or if it has another name now, say renamed_from = \"{name}\" there; \
                 or drop the events with `forebay buffer discard --stream {name}`"
            )
        })
    })
}

/// The most events of a stream that one sink has yet to deliver. `None` if no sink takes the stream.
fn undelivered(status: &Status, stream: &str) -> Option<u64> {
    let takers = status.sinks.iter().filter(|sink| sink.streams.iter().any(|name| name == stream));
    let pending = |sink: &SinkStatus| {
        let partitions = sink.partitions.iter().filter(|partition| partition.stream == stream);
        partitions.map(|partition| partition.pending_events).sum()
    };
    takers.map(pending).max()
}

fn stranded_sinks<'a>(
    status: &'a Status,
    config: &'a Config,
    renames: &'a Renames,
) -> impl Iterator<Item = String> + 'a {
    let known = |name: &str| config.sinks.contains_key(name) || renames.has_sink(name);
    status.sinks.iter().filter(move |sink| !known(&sink.name) && sink.pending_events > 0).map(|sink| {
        let (name, events) = (&sink.name, sink.pending_events);
        format!(
            "{events} events are not delivered to the sink {name:?}, which is not in the config any more: \
             put [sinks.{name}] back; or if it has another name now, say renamed_from = \"{name}\" there; \
             or drop the events with `forebay buffer discard --sink {name}`"
        )
    })
}

fn declare(buffer: &Buffer, config: &Config) -> Result<(), AgentError> {
    for (name, source) in &config.sources {
        buffer
            .declare_stream(name, source.limits)
            .map_err(|error| AgentError::buffer(format_args!("cannot keep a stream for the source {name}"), &error))?;
    }
    for (name, sink) in &config.sinks {
        let inputs: Vec<&str> = sink.inputs.iter().map(String::as_str).collect();
        buffer
            .declare_sink(name, &inputs, sink.start, window_bytes(&sink.kind))
            .map_err(|error| AgentError::buffer(format_args!("cannot set up the sink {name}"), &error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
