//! `forebay buffer`: care for the buffer file.

use std::{
    fs::OpenOptions,
    io::{BufWriter, Write},
    sync::Arc,
};

use forebay_buffer::{DeadLetterFilter, Inspector, OpenError, salvage};

use super::{
    arguments::{BufferAction, BufferAdopt, BufferDiscard, BufferExport},
    dead_letter, event,
    failure::{Failure, Outcome},
    output, remote,
    setting::{Setting, buffer_exists},
    units,
};
use crate::{
    agent::{options, socket::Request},
    config::Config,
};

/// Dead letters that are read at once.
const PAGE: usize = 500;

/// Checks, salvages, exports, adopts, or discards.
pub(super) fn run(setting: &Setting, action: BufferAction) -> Outcome {
    let config = setting.config()?;
    match action {
        BufferAction::Check(options) if options.acknowledge => {
            say(remote::change(setting, &config, Request::AcknowledgeSalvage)?)
        }
        BufferAction::Check(_) => check(setting, &config),
        BufferAction::Salvage(_) => salvage_file(setting, &config),
        BufferAction::Export(options) => export(setting.inspect(&config)?, &options),
        BufferAction::Adopt(options) => adopt(setting, &config, &options),
        BufferAction::Discard(options) => discard(setting, &config, options),
    }
}

fn say(message: String) -> Outcome {
    Ok(output::print(&(message + "\n"))?)
}

fn check(setting: &Setting, config: &Config) -> Outcome {
    let mut inspector = setting.inspect(config)?;
    let path = config.buffer.path.display();
    let problems = inspector.check()?;
    if problems.is_empty() {
        let status = inspector.status()?;
        let events = status.streams.iter().map(|stream| stream.events).sum();
        return say(format!("{path} is well: {} events, {}", units::count(events), units::bytes(status.file_bytes)));
    }
    for problem in &problems {
        output::print(&format!("{problem}\n"))?;
    }
    Err(Failure::failed(format_args!(
        "{path} is damaged: restart the agent, which salvages what can be read, or stop it and run \
         `forebay buffer salvage`; the damaged file is kept"
    )))
}

fn salvage_file(setting: &Setting, config: &Config) -> Outcome {
    buffer_exists(config)?;
    match Inspector::open(&config.buffer.path, Arc::clone(&setting.clock)) {
        Ok(mut inspector) => {
            if inspector.check().is_ok_and(|problems| problems.is_empty()) {
                return say(format!("{} is well: there is nothing to salvage", config.buffer.path.display()));
            }
        }
        // Another program's file is not ours to set aside.
        Err(error @ (OpenError::NotABuffer { .. } | OpenError::Newer { .. })) => return Err(error.into()),
        Err(_) => {}
    }
    let report = salvage(&options(config, &setting.clock))?;
    say(format!(
        "{} events are in the new buffer; at least {} are lost, and in the loss ledger\n\
         the damaged file is kept as {}; delete it when nobody needs it any more",
        units::count(report.events_kept),
        units::count(report.events_lost),
        report.set_aside.display(),
    ))
}

fn adopt(setting: &Setting, config: &Config, options: &BufferAdopt) -> Outcome {
    if !options.yes {
        return Err(Failure::usage(
            "adopting is for a buffer that was restored from a backup or cloned: all that is in it is delivered under \
             a new generation, and what was delivered after the backup was made arrives twice. Say --yes to go on; \
             or move the file away, and with it what is in it",
        ));
    }
    say(remote::change(setting, config, Request::Adopt)?)
}

fn discard(setting: &Setting, config: &Config, options: BufferDiscard) -> Outcome {
    let (request, used) = match (options.stream, options.sink) {
        (Some(name), None) => {
            let used = config.sources.contains_key(&name).then(|| format!("sources.{name}"));
            (Request::DiscardStream { name }, used)
        }
        (None, Some(name)) => {
            let used = config.sinks.contains_key(&name).then(|| format!("sinks.{name}"));
            (Request::DiscardSink { name }, used)
        }
        _ => return Err(Failure::usage("say what to discard: either --stream NAME or --sink NAME")),
    };
    if let Some(table) = used {
        return Err(Failure::usage(format_args!("[{table}] is in the config: take it out first, then discard it")));
    }
    say(remote::change(setting, config, request)?)
}

fn export(mut inspector: Inspector, options: &BufferExport) -> Outcome {
    let Some(path) = &options.output else {
        let mut out = output::buffered();
        export_to(&mut inspector, options, &mut out)?;
        return Ok(out.flush()?);
    };
    let failed = |error: std::io::Error| Failure::failed(format_args!("cannot write {}: {error}", path.display()));
    let file = OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
    let mut out = BufWriter::new(&file);
    let events = export_to(&mut inspector, options, &mut out)?;
    out.flush().and_then(|()| file.sync_all()).map_err(failed)?;
    say(format!("{} lines in {}", units::count(events), path.display()))
}

/// Writes every event, then every dead letter. Returns the number of lines.
fn export_to(inspector: &mut Inspector, options: &BufferExport, out: &mut impl Write) -> Outcome<u64> {
    let wanted = |stream: &str| options.stream.as_deref().is_none_or(|only| only == stream);
    let status = inspector.status()?;
    if let Some(only) = &options.stream
        && !status.streams.iter().any(|stream| stream.name == *only)
    {
        return Err(Failure::failed(format_args!("the buffer has no stream {only:?}")));
    }
    let mut lines = 0;
    for stream in status.streams.iter().filter(|stream| wanted(&stream.name)) {
        lines += event::write_stream(inspector, stream, None, None, usize::MAX, out)? as u64;
    }
    Ok(lines + export_dead_letters(inspector, options, out)?)
}

fn export_dead_letters(inspector: &mut Inspector, options: &BufferExport, out: &mut impl Write) -> Outcome<u64> {
    let mut filter = DeadLetterFilter { stream: options.stream.clone(), limit: PAGE, ..DeadLetterFilter::default() };
    let mut lines = 0;
    loop {
        let page = inspector.dead_letters(&filter)?;
        let Some(last) = page.last() else { return Ok(lines) };
        filter.after_id = last.id;
        lines += page.len() as u64;
        for letter in &page {
            let mut line =
                event::value(&letter.stream, &letter.partition, letter.numbering, letter.offset, &letter.event);
            line["dead_letter"] = dead_letter::head(letter);
            writeln!(out, "{line}")?;
        }
    }
}
