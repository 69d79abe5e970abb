//! `forebay demo`: this machine's own figures, through the buffer, into files, with the status to look at.

use std::{
    fs, io,
    net::TcpListener,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};

use super::{
    arguments,
    failure::{Failure, Outcome},
    output,
    run::{in_runtime, pass_signals, signals, start_log},
    setting::Setting,
    status::{History, REDRAW, render, take},
    units,
};
use crate::{
    agent::{Agent, Load, Order},
    config::{Config, DEMO},
};

/// Longer than anybody watches a demo.
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

/// Runs the embedded config until Ctrl-C, or as long as was asked for.
pub(super) fn run(setting: Setting, options: &arguments::Demo) -> Outcome {
    let duration = options.duration.as_deref().map(units::parse_duration).transpose().map_err(Failure::usage)?;
    let directory = make_directory(&setting, options.dir.as_deref())?;
    let mut config = Config::demo(&directory);
    // Another agent may have the port.
    config.observe = config.observe.filter(|address| TcpListener::bind(address).is_ok());
    start_log("warn", false);
    let introduction = introduction(&directory, &config);
    let setting = Arc::new(Setting { path: directory.join("forebay.toml"), ..setting });
    in_runtime(play(setting, config, introduction, duration.unwrap_or(FOREVER)))?;
    Ok(output::print(&format!("\nall of it is left in {}\n", directory.display()))?)
}

async fn play(setting: Arc<Setting>, config: Config, introduction: String, duration: Duration) -> Outcome {
    let (order, orders) = mpsc::channel(1);
    tokio::spawn(pass_signals(signals()?, order.clone()));
    let unchanged = config.clone();
    let load: Load = Arc::new(move || Ok(unchanged.clone()));
    let agent = Agent { config: config.clone(), load, clock: Arc::clone(&setting.clock), orders };
    let mut agent = tokio::spawn(agent.run());

    let deadline = Instant::now() + duration;
    let mut history = History::default();
    output::clear_screen()?;
    let ended = loop {
        tokio::select! {
            ended = &mut agent => break ended,
            () = tokio::time::sleep_until(deadline) => {
                let _ = order.send(Order::Stop).await;
                break agent.await;
            }
            () = tokio::time::sleep(REDRAW) => {}
        }
        let (setting, config) = (Arc::clone(&setting), config.clone());
        let taken = tokio::task::spawn_blocking(move || take(&setting, &config)).await;
        // An agent that is starting or stopping has no status.
        if let Ok(Ok(report)) = taken {
            history.add(&report);
            output::redraw(&(introduction.clone() + &render(&report, &history)))?;
        }
    };
    ended.map_err(Failure::failed)?.map_err(Failure::from)
}

fn make_directory(setting: &Setting, asked: Option<&Path>) -> Outcome<PathBuf> {
    let (directory, mine) = match asked {
        Some(asked) => (std::path::absolute(asked).unwrap_or_else(|_| asked.to_owned()), false),
        None => {
            let number =
                getrandom::u32().map_err(|error| Failure::failed(format_args!("no random number: {error}")))?;
            (setting.environment.temporary_directory().join(format!("forebay-demo-{number:08x}")), true)
        }
    };
    let failed = |error: io::Error| {
        Failure::failed(format_args!("cannot make {}: {error}; say another with --dir", directory.display()))
    };
    // One that somebody else has put into the temporary directory is not taken.
    fs::DirBuilder::new().recursive(!mine).mode(0o700).create(&directory).map_err(failed)?;
    // So that the other commands can be tried on it.
    fs::write(directory.join("forebay.toml"), DEMO).map_err(failed)?;
    Ok(directory)
}

fn introduction(directory: &Path, config: &Config) -> String {
    let directory = directory.display();
    let page = config.observe.map(|address| format!("status page     http://{address}/\n")).unwrap_or_default();
    format!(
        "events          {directory}/events\nbuffer          {directory}\n{page}\
         other commands  forebay --config {directory}/forebay.toml status\n\n"
    )
}
