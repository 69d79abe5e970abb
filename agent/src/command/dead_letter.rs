//! `forebay dead-letter`: events that were refused for good.

use std::io::Write;

use forebay_buffer::{DeadLetter, DeadLetterFilter, Inspector};
use serde_json::{Value, json};

use super::{
    arguments::{DeadLetterAction, DeadLetterList, DeadLetterShow},
    event,
    failure::{Failure, Outcome},
    output, remote,
    setting::Setting,
    table::Table,
    units,
};
use crate::{agent::socket::Request, config::Config};

/// Dead letters that are read, or changed, at once.
const PAGE: usize = 1_000;

/// Which dead letters a command is about.
struct Choice {
    ids: Vec<i64>,
    all: bool,
    sink: Option<String>,
    stream: Option<String>,
}

/// Lists them, shows them, sends them again, or drops them.
pub(super) fn run(setting: &Setting, action: DeadLetterAction) -> Outcome {
    let config = setting.config()?;
    match action {
        DeadLetterAction::List(options) => list(setting.inspect(&config)?, options),
        DeadLetterAction::Show(options) => show(setting.inspect(&config)?, &options),
        DeadLetterAction::Retry(options) => {
            let force = options.force;
            let choice = Choice { ids: options.ids, all: options.all, sink: options.sink, stream: options.stream };
            change(setting, &config, choice, |ids| Request::RetryDeadLetters { ids, force })
        }
        DeadLetterAction::Discard(options) => {
            let choice = Choice { ids: options.ids, all: options.all, sink: options.sink, stream: options.stream };
            change(setting, &config, choice, |ids| Request::DiscardDeadLetters { ids })
        }
    }
}

fn list(mut inspector: Inspector, options: DeadLetterList) -> Outcome {
    let mut filter = DeadLetterFilter { sink: options.sink, stream: options.stream, after_id: 0, limit: options.limit };
    let letters = inspector.dead_letters(&filter)?;
    if options.json {
        let mut out = output::buffered();
        for letter in &letters {
            writeln!(out, "{}", head(letter))?;
        }
        return Ok(out.flush()?);
    }
    let mut table = Table::new(&[">id", "when", "stream", "sink", "code", "reason"]);
    for letter in &letters {
        table.row(vec![
            letter.id.to_string(),
            units::time(letter.when),
            format!("{}/{}", letter.stream, letter.partition),
            letter.sink.clone().unwrap_or_else(|| "(intake)".to_owned()),
            letter.code.clone(),
            letter.reason.clone(),
        ]);
    }
    if table.is_empty() {
        return Ok(output::print("no dead letters\n")?);
    }
    output::print(&table.draw())?;
    filter.after_id = letters.last().map_or(0, |letter| letter.id);
    filter.limit = 1;
    if !inspector.dead_letters(&filter)?.is_empty() {
        output::print("there are more: say --limit\n")?;
    }
    Ok(())
}

fn show(mut inspector: Inspector, options: &DeadLetterShow) -> Outcome {
    if options.ids.is_empty() {
        return Err(Failure::usage(
            "say the ids of the dead letters to show, as `forebay dead-letter list` prints them",
        ));
    }
    let mut missing = Vec::new();
    for id in &options.ids {
        let filter = DeadLetterFilter { after_id: id.saturating_sub(1), limit: 1, ..DeadLetterFilter::default() };
        match inspector.dead_letters(&filter)?.into_iter().find(|letter| letter.id == *id) {
            None => missing.push(id.to_string()),
            Some(letter) => {
                let mut shown = head(&letter);
                shown["event"] =
                    event::value(&letter.stream, &letter.partition, letter.numbering, letter.offset, &letter.event);
                output::print(&format!("{shown:#}\n"))?;
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(format_args!("there is no dead letter {}", missing.join(", "))))
}

/// All but the event.
pub(super) fn head(letter: &DeadLetter) -> Value {
    json!({
        "id": letter.id,
        "when": units::time(letter.when),
        "stream": letter.stream,
        "partition": letter.partition,
        "offset": letter.numbering.display(letter.offset).to_string(),
        "sink": letter.sink,
        "code": letter.code,
        "reason": letter.reason,
    })
}

fn change(setting: &Setting, config: &Config, choice: Choice, request: impl Fn(Vec<i64>) -> Request) -> Outcome {
    let ids = choose(setting, config, choice)?;
    if ids.is_empty() {
        return Ok(output::print("no dead letters\n")?);
    }
    for ids in ids.chunks(PAGE) {
        let done = remote::change(setting, config, request(ids.to_vec()))?;
        output::print(&format!("{done}\n"))?;
    }
    Ok(())
}

/// The ids that are meant: those that were said, or all that the filters let through.
fn choose(setting: &Setting, config: &Config, choice: Choice) -> Outcome<Vec<i64>> {
    match (choice.ids.is_empty(), choice.all) {
        (false, false) if choice.sink.is_none() && choice.stream.is_none() => return Ok(choice.ids),
        (true, true) => {}
        _ => return Err(Failure::usage("say either ids, or --all (which --sink and --stream narrow down)")),
    }
    let mut inspector = setting.inspect(config)?;
    let mut filter = DeadLetterFilter { sink: choice.sink, stream: choice.stream, after_id: 0, limit: PAGE };
    let mut ids = Vec::new();
    loop {
        let page = inspector.dead_letters(&filter)?;
        let Some(last) = page.last() else { return Ok(ids) };
        filter.after_id = last.id;
        ids.extend(page.iter().map(|letter| letter.id));
    }
}
