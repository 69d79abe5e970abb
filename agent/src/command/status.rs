//! `forebay status`: what comes in, what is kept, and what goes out.

mod rates;
mod render;

use std::time::Duration;

pub(super) use self::{rates::History, render::render};
use super::{
    arguments,
    failure::{Failure, Outcome},
    output, remote,
    setting::Setting,
};
use crate::{
    agent::socket::{Answer, Request},
    config::Config,
    observe::status::Report,
};

/// Between two drawings.
pub(super) const REDRAW: Duration = Duration::from_secs(1);

/// Prints the status, once or again and again.
pub(super) fn run(setting: &Setting, options: &arguments::Status) -> Outcome {
    let config = setting.config()?;
    if !options.watch {
        let report = take(setting, &config)?;
        return show(&report, &History::default(), options.json);
    }
    let mut history = History::default();
    if !options.json {
        output::clear_screen()?;
    }
    loop {
        match take(setting, &config) {
            Ok(report) => {
                history.add(&report);
                if options.json {
                    show(&report, &history, true)?;
                } else {
                    output::redraw(&render(&report, &history))?;
                }
            }
            // The agent may be on its way down, or up again.
            Err(failure) if failure.is_temporary() => output::redraw(&format!("{failure}\n"))?,
            Err(failure) => return Err(failure),
        }
        std::thread::sleep(REDRAW);
    }
}

/// Asks the running agent, or looks into the buffer if none runs.
pub(super) fn take(setting: &Setting, config: &Config) -> Outcome<Report> {
    match remote::ask(config, &Request::Status)? {
        None => {
            let status = setting.inspect(config)?.status()?;
            let mut report = Report::of_buffer(&status, setting.clock.now());
            // A file that nobody has open does not know its limit.
            report.buffer.max_bytes = config.buffer.max_bytes;
            Ok(report)
        }
        Some(Answer::Status { report }) => serde_json::from_value(report).map_err(|error| {
            Failure::failed(format_args!("the agent that runs is of another version of forebay ({error}): restart it"))
        }),
        Some(Answer::Failed { code, message }) => Err(Failure::with_code(code, message)),
        Some(Answer::Done { .. }) => Err(Failure::failed("the agent answered something else than its status")),
    }
}

fn show(report: &Report, history: &History, as_json: bool) -> Outcome {
    let text = if as_json {
        serde_json::to_string(report).expect("numbers and text always serialize") + "\n"
    } else {
        render(report, history)
    };
    Ok(output::print(&text)?)
}
