//! `--copy-from`: this agent's rows of the control table that was used before, carried over into the present one; and
//! those that sinks keep for themselves, where their table is another now.
//!
//! What a sink goes on from is only ever copied from where it kept that itself: a row that delivery wrote for it may be
//! behind. So each row of the former control table is copied only if it is delivery's in the present one.
//!
//! A row is only ever added. Where the present table has another one already, that is the newer, or someone else's: it is
//! listed and left as it is. Every row that was added is read again before it counts.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use forebay_buffer::Checkpoint;

use crate::{
    agent::{build_control, socket::Request},
    command::{
        failure::{Failure, Outcome},
        output, remote,
        setting::Setting,
    },
    config::{Config, RowKeeper, SinkConfig, SinkKind},
    contract::{CheckpointKey, CheckpointMove, Control, ControlError, ControlRow, KeptBy},
    control::postgres::Postgres,
};

/// The config that was used before. Refuses while an agent runs: the rows would be copied under its hands, and a sink
/// that went on from them would deliver again what they do not have.
pub(super) fn before(setting: &Setting, config: &Config, path: &Path) -> Outcome<Config> {
    if remote::ask(config, &Request::Status)?.is_some() {
        let message = "an agent runs with this config, and moves the rows meanwhile: stop it first";
        return Err(Failure::temporary(message));
    }
    // The variables in the environment are about the present control table.
    let environment = setting.environment.clone().without_overrides();
    Ok(Config::load(path, &environment).map_err(Failure::usage)?.config)
}

/// Rows to carry over: from where, to where, which, and whose they are there.
struct Carry {
    from: Arc<dyn Control>,
    to: Arc<dyn Control>,
    keeper: KeptBy,
    choose: Box<dyn Fn(&CheckpointKey) -> Choice>,
}

/// What is to become of a row.
enum Choice {
    Copy,
    /// It is not what this is about.
    PassOver,
    /// It is not needed, and why.
    Spare(String),
    /// It is left where it is, which an operator must look at, and why.
    Leave(String),
}

/// Copies.
pub(super) async fn copy(setting: &Setting, before: &Config, config: &Config) -> Outcome {
    let mut carries = own_rows(setting, before, config);
    let no_table = |which: &str| Failure::usage(format_args!("{which} config has no control table (`forebay check`)"));
    let (from, to) = (build_control(&before.control, &setting.clock), build_control(&config.control, &setting.clock));
    match (from, to) {
        (Some(from), Some(to)) if from.place() != to.place() => {
            let choose = delivery_rows(setting, before, config);
            carries.push(Carry { from, to, keeper: KeptBy::Delivery, choose });
        }
        _ if !carries.is_empty() => {}
        (None, _) => return Err(no_table("the former")),
        (_, None) => return Err(no_table("the present")),
        (_, Some(to)) => {
            return Err(Failure::usage(format_args!("both configs have the same control table, {}", to.place())));
        }
    }
    let mut left = 0;
    let hubs = config.hubs();
    let namespaces = hubs.values().map(|hub| hub.namespace.clone()).chain([config.agent.id.clone()]).collect();
    for carry in &carries {
        let copied = carry_over(carry, &namespaces).await?;
        output::print(&copied.told(carry.from.place(), carry.to.place()))?;
        left += copied.left;
    }
    match left {
        0 => Ok(()),
        left => Err(Failure::failed(format_args!("{left} rows were not copied: see above"))),
    }
}

/// Where a sink keeps rows for itself, if it does so: in its database, in a table that goes by the control table's name.
fn own_table(setting: &Setting, config: &Config, sink: &SinkConfig) -> Option<Postgres> {
    match &sink.kind {
        SinkKind::Postgres(settings) => {
            let (connection, table) = (settings.connection.clone(), config.control.table.clone());
            Some(Postgres::new(connection, table, Arc::clone(&setting.clock)).of_sinks())
        }
        _ => None,
    }
}

/// The sink that had the target of `sink` before: of several, the one of the same name.
fn former_sink<'a>(before: &'a Config, name: &str, sink: &SinkConfig) -> Option<&'a SinkConfig> {
    let target = sink.kind.target(name);
    let having: Vec<_> = before.sinks.iter().filter(|(name, sink)| sink.kind.target(name) == target).collect();
    let called = |wanted: &str| having.iter().find(|(name, _)| *name == wanted);
    let of_name = called(name).or_else(|| called(sink.renamed_from.as_deref()?));
    of_name.or_else(|| having.first().filter(|_| having.len() == 1)).map(|(_, sink)| *sink)
}

/// The rows that sinks keep for themselves, where their table is another now.
fn own_rows(setting: &Setting, before: &Config, config: &Config) -> Vec<Carry> {
    let moved = config.sinks.iter().filter_map(|(name, sink)| {
        let from = own_table(setting, before, former_sink(before, name, sink)?)?;
        let (to, target) = (own_table(setting, config, sink)?, sink.kind.target(name));
        let choose = move |key: &CheckpointKey| if key.target == target { Choice::Copy } else { Choice::PassOver };
        let (from, to): (Arc<dyn Control>, Arc<dyn Control>) = (Arc::new(from), Arc::new(to));
        (from.place() != to.place()).then(|| Carry { from, to, keeper: KeptBy::Sink, choose: Box::new(choose) })
    });
    moved.collect()
}

/// Which rows of the former control table are delivery's in the present one: all but those of sinks whose own rows that
/// has. The sinks go on from those, wherever they kept them before.
fn delivery_rows(setting: &Setting, before: &Config, config: &Config) -> Box<dyn Fn(&CheckpointKey) -> Choice> {
    let control = build_control(&before.control, &setting.clock);
    let control = control.as_ref().map(|control| control.place().to_owned());
    let kept = config.sinks.iter().filter(|(_, sink)| config.control.keeper(&sink.kind) == RowKeeper::Sink);
    let kept: Vec<_> = kept
        .map(|(name, sink)| {
            let own = former_sink(before, name, sink).and_then(|former| own_table(setting, before, former));
            (name.clone(), sink.kind.target(name), own.map(|own| own.place().to_owned()))
        })
        .collect();
    Box::new(move |key| {
        let sinks = || kept.iter().filter(|(_, target, _)| key.target == *target);
        match sinks().next() {
            None => Choice::Copy,
            // It is among the sink's own rows.
            Some(_) if sinks().any(|(_, _, own)| *own == control) => Choice::PassOver,
            Some((name, _, Some(own))) => {
                Choice::Spare(format!("not copied: the sink {name} goes on from its own row, that of {own}"))
            }
            Some((name, _, None)) => Choice::Leave(format!(
                "left: the sink {name} keeps this row for itself now, and did not before; what delivery wrote may be \
                 behind what the sink's database has"
            )),
        }
    })
}

/// What became of the rows.
#[derive(Debug, Default)]
struct Copied {
    lines: Vec<String>,
    copied: usize,
    left: usize,
}

impl Copied {
    fn told(&self, from: &str, to: &str) -> String {
        let lines: String = self.lines.iter().map(|line| format!("{line}\n")).collect();
        format!("{lines}{} rows copied from {from} to {to}, and read back\n", self.copied)
    }
}

/// Adds the rows of `namespaces` that are chosen and not there yet.
async fn carry_over(carry: &Carry, namespaces: &BTreeSet<String>) -> Outcome<Copied> {
    let Carry { from, to, keeper, choose } = carry;
    let (mut rows, mut there) = (Vec::new(), Vec::new());
    for namespace in namespaces {
        rows.extend(list(&**from, namespace).await?);
        there.extend(list(&**to, namespace).await?);
    }
    let mut done = Copied::default();
    for row in rows {
        let key = &row.key;
        let present = there.iter().find(|present| present.key == *key);
        let line = match choose(key) {
            Choice::PassOver => continue,
            Choice::Spare(why) => Ok(why),
            Choice::Leave(why) => Err(why),
            Choice::Copy if *keeper == KeptBy::Sink && row.kept_by == Some(KeptBy::Delivery) => {
                Err("left: delivery wrote it, and not the sink".to_owned())
            }
            Choice::Copy => match (&row.checkpoint, present) {
                (Err(why), _) => Err(format!("left: {why}")),
                (Ok(former), None) => match add(&**to, *keeper, &row, *former).await? {
                    true => {
                        done.copied += 1;
                        Ok(format!("copied: {}", show(former)))
                    }
                    false => Err("left: another writer came before".to_owned()),
                },
                (Ok(former), Some(present)) => compare(former, present, *keeper),
            },
        };
        done.left += usize::from(line.is_err());
        let (Ok(line) | Err(line)) = line;
        done.lines.push(format!("{key}: {line}"));
    }
    Ok(done)
}

/// Whether `present`, which is to be `keeper`'s, is what is to be copied. The error says what it is.
fn compare(former: &Checkpoint, present: &ControlRow, keeper: KeptBy) -> Result<String, String> {
    if present.kept_by.is_some_and(|present| present != keeper) {
        let whose = if keeper == KeptBy::Sink { "delivery wrote it" } else { "a sink keeps it" };
        return Err(format!("left: there is one there already, and {whose}"));
    }
    match &present.checkpoint {
        Ok(present) if present == former => Ok("was there already".to_owned()),
        Ok(present) => Err(format!("left: it is at {} there, and at {} here", show(present), show(former))),
        Err(why) => Err(format!("left: {why}")),
    }
}

/// Adds one row, and reads it again. `false`: there is one by now.
async fn add(to: &dyn Control, keeper: KeptBy, row: &ControlRow, checkpoint: Checkpoint) -> Outcome<bool> {
    let (key, upstream) = (&row.key, row.upstream.clone());
    let failed = |doing: &str, error: ControlError| failure(&format!("{doing} {key} in {}", to.place()), &error);
    let is_added = match to.save(&[CheckpointMove { key: key.clone(), from: None, to: checkpoint, upstream }]).await {
        Ok(()) => true,
        // By our own hand, if the first answer was lost.
        Err(ControlError::Moved(_)) => false,
        Err(error) => return Err(failed("adding", error)),
    };
    let found = to.load(std::slice::from_ref(key)).await.map_err(|error| failed("reading back", error))?;
    let found = found.first().filter(|found| found.kept_by == Some(keeper)).map(|found| &found.checkpoint);
    match found {
        Some(Ok(found)) if *found == checkpoint => Ok(true),
        _ if !is_added => Ok(false),
        found => {
            let found = match found {
                Some(Ok(found)) => show(found),
                Some(Err(why)) => why.clone(),
                None => "nothing".to_owned(),
            };
            let (place, written) = (to.place(), show(&checkpoint));
            Err(Failure::failed(format_args!("{key} in {place}: {written} was written, and {found} was read back")))
        }
    }
}

async fn list(control: &dyn Control, namespace: &str) -> Outcome<Vec<ControlRow>> {
    let listed = control.list(namespace).await;
    listed.map_err(|error| failure(&format!("listing the rows of {namespace} in {}", control.place()), &error))
}

fn show(checkpoint: &Checkpoint) -> String {
    let Checkpoint { generation, tag, offset } = checkpoint;
    format!("offset {} (generation {generation}, tag {tag})", offset.0)
}

fn failure(doing: &str, error: &ControlError) -> Failure {
    match error {
        ControlError::Retry(_) => Failure::temporary(format_args!("{doing}: {error}")),
        _ => Failure::failed(format_args!("{doing}: {error}")),
    }
}
