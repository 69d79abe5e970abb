//! Streams and sinks that have another name in the config than in the buffer.

use forebay_buffer::{Buffer, Error, Status};

use super::AgentError;
use crate::config::Config;

/// What is to be renamed: from, to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Renames {
    streams: Vec<(String, String)>,
    sinks: Vec<(String, String)>,
}

impl Renames {
    /// The names in the config that are carried on from others. Once that is done the old name is gone from the buffer,
    /// so the line may stay in the config.
    pub(super) fn of(status: &Status, config: &Config) -> Self {
        let in_buffer = |names: &[&str], from: &Option<String>, to: &String| {
            let from = from.as_ref().filter(|from| names.contains(&from.as_str()))?;
            Some((from.clone(), to.clone()))
        };
        let (streams, sinks) = names(status);
        let sources = config.sources.iter();
        Self {
            streams: sources.filter_map(|(to, source)| in_buffer(&streams, &source.renamed_from, to)).collect(),
            sinks: config.sinks.iter().filter_map(|(to, sink)| in_buffer(&sinks, &sink.renamed_from, to)).collect(),
        }
    }

    /// Whether this stream gets another name.
    pub(super) fn has_stream(&self, name: &str) -> bool {
        self.streams.iter().any(|(from, _)| from == name)
    }

    /// Whether this sink gets another name.
    pub(super) fn has_sink(&self, name: &str) -> bool {
        self.sinks.iter().any(|(from, _)| from == name)
    }

    /// Those whose new name is taken.
    pub(super) fn impossible<'a>(&'a self, status: &'a Status) -> impl Iterator<Item = String> + 'a {
        let (streams, sinks) = names(status);
        let taken = |kind: &'static str, renames: &'a [(String, String)], names: Vec<&'a str>| {
            let taken = renames.iter().filter(move |(_, to)| names.contains(&to.as_str()));
            taken.map(move |(from, to)| {
                format!(
                    "the buffer has both a {kind} {from:?} and a {kind} {to:?}, so one cannot become the other: take \
                     renamed_from out of the config, or drop one with `forebay buffer discard --{kind} NAME`"
                )
            })
        };
        taken("stream", &self.streams, streams).chain(taken("sink", &self.sinks, sinks))
    }

    /// Renames. Blocks.
    pub(super) fn carry_out(&self, buffer: &Buffer) -> Result<(), AgentError> {
        let failed = |kind: &str, from: &str, error: Error| {
            AgentError::buffer(format_args!("cannot give the {kind} {from} another name"), &error)
        };
        for (from, to) in &self.streams {
            buffer.rename_stream(from, to).map_err(|error| failed("stream", from, error))?;
            log::info!("source {to}: carries on the stream {from}");
        }
        for (from, to) in &self.sinks {
            buffer.rename_sink(from, to).map_err(|error| failed("sink", from, error))?;
            log::info!("sink {to}: carries on where {from} was");
        }
        Ok(())
    }
}

fn names(status: &Status) -> (Vec<&str>, Vec<&str>) {
    let streams = status.streams.iter().map(|stream| stream.name.as_str());
    let sinks = status.sinks.iter().map(|sink| sink.name.as_str());
    (streams.collect(), sinks.collect())
}
