//! What must hold between the parts of a configuration, once each is right by itself.

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

#[cfg(feature = "eventhub")]
use super::ControlBackend;
use super::{
    AgentSettings, BufferSettings, ControlConfig, SinkConfig, SinkKind, SourceKind,
    buffer::{Quota, equal_share},
    document::{Table, Value},
    key::{alternatives, nearest},
    kind::Name,
    reading::Reader,
    report::Fault,
    sources::Source,
    units::show_size,
};
#[cfg(feature = "eventhub")]
use crate::contract::HubId;
use crate::contract::Target;

/// The most that the sources of lines put into one batch, besides its last line.
const BATCH_BYTES: u64 = 256 * 1024;

/// The parts that could be read; the others are reported.
pub(super) struct Parts<'p> {
    pub(super) root: &'p Table,
    pub(super) agent: Option<&'p AgentSettings>,
    pub(super) buffer: Option<&'p BufferSettings>,
    pub(super) control: Option<&'p ControlConfig>,
    pub(super) observe: Option<SocketAddr>,
    pub(super) sources: &'p BTreeMap<String, Source>,
    pub(super) sinks: &'p BTreeMap<String, SinkConfig>,
}

/// Reports all that does not fit together.
pub(super) fn check(parts: &Parts<'_>, reader: &mut Reader<'_>) {
    let mut checker = Checker { parts, reader };
    checker.inputs();
    checker.untaken_sources();
    checker.listeners();
    checker.standard_streams();
    checker.output_paths();
    checker.circles();
    checker.renames();
    #[cfg(feature = "mqtt")]
    checker.renamed_sessions();
    checker.checkpoint_keys();
    #[cfg(feature = "eventhub")]
    checker.hubs();
    checker.quotas();
}

struct Checker<'c, 'p, 'e> {
    parts: &'c Parts<'p>,
    reader: &'c mut Reader<'e>,
}

impl<'p> Checker<'_, 'p, '_> {
    fn error(&mut self, path: &[&str], problem: impl Into<String>, help: impl Into<String>) {
        let place = self.parts.root.place(path);
        self.reader.report.error(Fault::new(place, path.join("."), problem).help(help));
    }

    /// Where the value at `path` stands, for an error about another one.
    fn shown(&self, path: &[&str]) -> String {
        self.reader.files.show(self.parts.root.place(path))
    }

    /// The names of the entries of `[sources]` or `[sinks]`, those that could not be read included.
    fn declared(&self, collection: &str) -> Vec<&'p str> {
        match self.parts.root.0.get(collection).map(|entry| &entry.node.value) {
            Some(Value::Table(table)) => table.0.keys().map(String::as_str).collect(),
            _ => Vec::new(),
        }
    }

    fn inputs(&mut self) {
        let known = self.declared("sources");
        for (sink, config) in self.parts.sinks {
            let path = ["sinks", sink, "inputs"];
            for (at, input) in config.inputs.iter().enumerate().filter(|(_, input)| !known.contains(&input.as_str())) {
                let near = nearest(input, known.iter().copied());
                let help = near.map(|near| format!("did you mean \"{near}\"?")).unwrap_or_default();
                let place = self.parts.root.item_place(&path, at);
                let expected = alternatives(known.iter().copied());
                let fault = Fault::new(place, path.join("."), "names no source").expected(expected).help(help);
                self.reader.report.error(fault);
            }
        }
    }

    /// A source that no sink takes would fill its share of the buffer and stop. Silent where a sink could not be read
    /// or names no source: it may be meant to be the one.
    fn untaken_sources(&mut self) {
        let known = self.declared("sources");
        let mut inputs = self.parts.sinks.values().flat_map(|sink| &sink.inputs);
        let sinks = self.parts.sinks.len();
        if sinks == 0 || sinks < self.declared("sinks").len() || inputs.any(|input| !known.contains(&input.as_str())) {
            return;
        }
        for source in known.into_iter().filter(|source| Name { dots: false }.allows(source)) {
            if !self.parts.sinks.values().any(|sink| sink.inputs.iter().any(|input| input == source)) {
                let help = format!("add \"{source}\" to the inputs of a sink, or remove the source");
                self.error(&["sources", source], "goes nowhere: no sink takes its events", help);
            }
        }
    }

    fn listeners(&mut self) {
        let http = self.parts.sources.iter().filter_map(|(name, source)| match &source.kind {
            SourceKind::Http(settings) => Some((vec!["sources", name.as_str(), "listen"], settings.listen)),
            _ => None,
        });
        let observe = self.parts.observe.map(|listen| (vec!["observe", "listen"], listen));
        let all: Vec<_> = observe.into_iter().chain(http).collect();
        for (at, (path, listen)) in all.iter().enumerate() {
            if let Some((other, _)) = all[..at].iter().find(|(_, held)| collide(*held, *listen)) {
                let problem = format!("is the address of {} ({}) too", other.join("."), self.shown(other));
                self.error(path, problem, "give one of them another port");
            }
        }
    }

    fn standard_streams(&mut self) {
        let sources = self.parts.sources.iter().filter(|(_, source)| matches!(source.kind, SourceKind::Stdin(_)));
        let stdin: Vec<_> = sources.map(|(name, _)| ["sources", name.as_str()]).collect();
        let sinks = self.parts.sinks.iter().filter(|(_, sink)| matches!(sink.kind, SinkKind::Stdout(_)));
        let stdout: Vec<_> = sinks.map(|(name, _)| ["sinks", name.as_str()]).collect();
        for (paths, what) in [(stdin, "standard input"), (stdout, "standard output")] {
            for path in paths.iter().skip(1) {
                let problem = format!("shares {what} with {} ({})", paths[0].join("."), self.shown(&paths[0]));
                self.error(path, problem, "there is only one: remove one of the two");
            }
        }
    }

    fn output_paths(&mut self) {
        let mut seen = BTreeMap::new();
        for (name, sink) in self.parts.sinks {
            let SinkKind::File(settings) = &sink.kind else { continue };
            let path = ["sinks", name.as_str(), "path"];
            if let Some(first) = seen.insert(settings.path.clone(), path) {
                let problem = format!("is the directory of {} ({}) too", first.join("."), self.shown(&first));
                self.error(&path, problem, "give each sink a directory of its own");
            }
            let (agent, buffer) = (self.parts.agent, self.parts.buffer);
            let is_data_dir = agent.is_some_and(|agent| agent.data_dir == settings.path);
            if is_data_dir || buffer.is_some_and(|buffer| settings.path.starts_with(&buffer.path)) {
                let help = "take a directory of its own; one within data_dir will do";
                self.error(&path, "is where the buffer is", help);
            }
        }
    }

    /// A source that reads the files that its own events are written to would never come to an end.
    fn circles(&mut self) {
        for (name, sink) in self.parts.sinks {
            let SinkKind::File(file) = &sink.kind else { continue };
            let written = ["ndjson", "ndjson.zst"].map(|end| file.path.join(format!("{name}-00000001.{end}")));
            for (input, source) in self.parts.sources.iter().filter(|(input, _)| sink.inputs.contains(input)) {
                let SourceKind::Tail(tail) = &source.kind else { continue };
                if written.iter().any(|path| matches(&tail.include, path) && !matches(&tail.exclude, path)) {
                    let problem = format!("takes in the files that sinks.{name} makes of its events, without end");
                    let help = format!("exclude {}/*, or include less", file.path.display());
                    self.error(&["sources", input, "include"], problem, help);
                }
            }
        }
    }

    fn renames(&mut self) {
        let sources = self.parts.sources.iter().map(|(name, source)| ("sources", name, &source.renamed_from));
        let sinks = self.parts.sinks.iter().map(|(name, sink)| ("sinks", name, &sink.renamed_from));
        let mut seen = BTreeMap::new();
        for (collection, name, from) in sources.chain(sinks) {
            let Some(from) = from.as_deref() else { continue };
            let path = [collection, name.as_str(), "renamed_from"];
            if self.declared(collection).contains(&from) {
                let problem = format!("names {collection}.{from}, which is still there");
                self.error(&path, problem, "a name can be taken over only from one that is gone: remove this key");
            } else if let Some(first) = seen.insert((collection, from), path) {
                let problem = format!("is the former name of {} ({}) too", first[..2].join("."), self.shown(&first));
                self.error(&path, problem, "only one can take over what is in the buffer under that name");
            }
        }
    }

    /// Without a client_id a new name of the source is a new session, and what the broker keeps for the former one stays
    /// there.
    #[cfg(feature = "mqtt")]
    fn renamed_sessions(&mut self) {
        let Some(agent) = self.parts.agent else { return };
        for (name, source) in self.parts.sources {
            let (SourceKind::Mqtt(settings), Some(from)) = (&source.kind, &source.renamed_from) else { continue };
            if settings.client_id.is_none() {
                let former = settings.client_id(&agent.id, from);
                let path = ["sources", name, "renamed_from"];
                let problem = format!("leaves behind what the broker keeps for the former name, \"{former}\"");
                let fault = Fault::new(self.parts.root.place(&path), path.join("."), problem);
                self.reader.report.warning(fault.help(format!("set client_id = \"{former}\" beside it")));
            }
        }
    }

    /// Two sinks with one key would move each other's checkpoints, and each take the other's for its own.
    fn checkpoint_keys(&mut self) {
        let Some(control) = self.parts.control else { return };
        let sinks: Vec<_> = self.parts.sinks.iter().map(|(name, sink)| (name, sink, sink.kind.target(name))).collect();
        for (at, (name, sink, target)) in sinks.iter().enumerate() {
            let earlier = sinks[..at].iter().filter(|(_, _, other)| other == target);
            let mut shared = earlier.filter_map(|(other, held, _)| {
                let input = held.inputs.iter().find(|input| sink.inputs.contains(input))?;
                (!control.keeps_apart(&held.kind, &sink.kind)).then_some((other, input))
            });
            let Some((other, input)) = shared.next() else { continue };
            let Target { database, schema, table } = target;
            let shown = self.shown(&["sinks", other]);
            let problem = format!(
                "has the checkpoints of sinks.{other} ({shown}): both take \"{input}\" into {database}.{schema}.{table}"
            );
            let help = "let one of them take all of these inputs, or give one another table";
            self.error(&["sinks", name], problem, help);
        }
    }

    /// What is shared out with other agents needs a table for it, and one sink; and no two sources may read the same.
    #[cfg(feature = "eventhub")]
    fn hubs(&mut self) {
        let hubs = self.parts.sources.iter().filter_map(|(name, source)| match &source.kind {
            SourceKind::EventHub(settings) => Some((name.as_str(), &**settings)),
            _ => None,
        });
        let hubs: Vec<_> = hubs.collect();
        for (at, (name, settings)) in hubs.iter().enumerate() {
            let takes = |name: &str| -> Vec<Target> {
                let takes = |sink: &&SinkConfig| sink.inputs.iter().any(|input| input == name);
                let sinks = self.parts.sinks.iter().filter(|(_, sink)| takes(sink));
                sinks.map(|(name, sink)| sink.kind.target(name)).collect()
            };
            let targets = takes(name);
            let is_same_hub =
                |other: &HubId| (&other.namespace, &other.hub) == (&settings.hub.namespace, &settings.hub.hub);
            let earlier = || hubs[..at].iter().filter(|(_, other)| is_same_hub(&other.hub));
            let same_group = earlier().find(|(_, other)| other.hub.consumer_group == settings.hub.consumer_group);
            let same_target = earlier().find(|(other, _)| takes(other).iter().any(|target| targets.contains(target)));
            if let Some((other, _)) = same_group {
                let problem = format!("reads what sources.{other} ({}) does", self.shown(&["sources", other]));
                let help = "let one of them feed both sinks, or give one another consumer_group";
                self.error(&["sources", name], problem, help);
            } else if let Some((other, _)) = same_target {
                let problem =
                    format!("has the checkpoints of sources.{other}: both take the same hub to the same place");
                self.error(&["sources", name], problem, "remove one of the two");
            }
            if !settings.is_shared() {
                continue;
            }
            let path = ["sources", name, "partitions"];
            if targets.len() > 1 {
                let problem = "is \"balanced\", and several sinks take its events: who takes a partition over could not go on \
                               for all of them";
                self.error(&path, problem, "give each sink a source with a consumer group of its own");
            }
            if targets.iter().any(Target::is_local) {
                let problem = "is \"balanced\", and its events go into a sink that is on this machine only: who takes a \
                               partition over could not go on there";
                self.error(&path, problem, "let it read \"all\", or give it a sink that all agents reach");
            }
            if self.parts.control.is_some_and(|control| control.backend == ControlBackend::Nothing) {
                let problem = "is \"balanced\", and there is no control table to share partitions out in";
                let help = "say in [control] where it is: host, the server of a Postgres database, or warehouse, one of \
                            Snowflake's";
                self.error(&path, problem, help);
            }
            #[cfg(feature = "snowpipe")]
            if let Some(ControlBackend::Snowflake(control)) = self.parts.control.map(|control| &control.backend)
                && !control.is_durable
                && hubs[..at].iter().any(|(_, other)| other.is_shared())
            {
                let problem = "is \"balanced\" beside another that is, and ownership_mode is \"local_single_consumer_smoke\", which \
                               is for a single consumer";
                self.error(&path, problem, "use ownership_mode = \"durable\", or let only one source share its hub");
            }
        }
    }

    fn quotas(&mut self) {
        let Some(buffer) = self.parts.buffer else { return };
        let largest_event = buffer.max_event_bytes as u64;
        // A batch holds up to so many bytes besides.
        let needed = largest_event + BATCH_BYTES;
        let quotas = || self.parts.sources.values().map(|source| &source.quota);
        let given: u64 = quotas().filter_map(|quota: &Quota| quota.max_bytes).fold(0, u64::saturating_add);
        let share = equal_share(buffer.max_bytes, quotas());
        let sharing = quotas().filter(|quota| quota.max_bytes.is_none()).count();
        let small = self.parts.sources.iter().filter(|(_, s)| s.quota.max_bytes.is_some_and(|max| max < needed));
        for (name, _) in small {
            let problem = format!("has no room for a batch with an event of {}", show_size(largest_event));
            self.error(&["sources", name, "buffer", "max_bytes"], problem, "raise it, or lower buffer.max_event_bytes");
        }
        let path = ["buffer", "max_bytes"];
        let total = show_size(buffer.max_bytes);
        if given > buffer.max_bytes {
            let problem = format!("is {total}, but the sources claim {} of it", show_size(given));
            self.error(&path, problem, "raise it, or lower the max_bytes in the sources' buffer tables");
        } else if sharing > 0 && share < needed {
            let problem =
                format!("is {total}, which leaves {share} bytes for each source without a max_bytes of its own");
            let help = format!("each needs room for an event of {}: raise it", show_size(largest_event));
            self.error(&path, problem, help);
        }
    }
}

/// Whether one of `patterns` names `path`, as the tail source looks for files.
fn matches(patterns: &[String], path: &Path) -> bool {
    let options = glob::MatchOptions { require_literal_separator: true, ..Default::default() };
    let name = path.file_name().map_or(path, Path::new);
    let subject = |pattern: &str| if pattern.contains('/') { path } else { name };
    let parsed = patterns.iter().filter_map(|pattern| Some((subject(pattern), glob::Pattern::new(pattern).ok()?)));
    parsed.into_iter().any(|(subject, pattern)| pattern.matches_path_with(subject, options))
}

/// Whether two listeners cannot be open at once.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let same_ip = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && same_ip
}
