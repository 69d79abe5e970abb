//! `forebay run`: the agent, until told to stop.

use std::{io::Write, sync::Arc, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use super::{
    failure::{Failure, Outcome},
    setting::Setting,
};
use crate::{
    agent::{Agent, Load, Order},
    config::Loaded,
};

/// Threads for everything that waits for a network or a clock. What blocks has threads of its own.
const WORKER_THREADS: usize = 2;
/// How long threads that still block when all is done (a read of standard input) are waited for.
const LEAVE_BEHIND: Duration = Duration::from_millis(100);

/// Runs the agent.
pub(super) fn run(setting: Setting) -> Outcome {
    let Loaded { config, warnings } = setting.load()?;
    start_log(&config.agent.log, setting.environment.logs_to_journal());
    for warning in warnings {
        log::warn!("{}", warning.to_string().trim_end());
    }
    let clock = Arc::clone(&setting.clock);
    let load: Load = Arc::new(move || match setting.load() {
        Ok(loaded) => Ok(loaded.config),
        Err(invalid) => Err(invalid.to_string()),
    });
    in_runtime(async move {
        let (order, orders) = mpsc::channel(1);
        tokio::spawn(pass_signals(signals()?, order));
        Ok(Agent { config, load, clock, orders }.run().await?)
    })
}

/// Runs `work` on a runtime of its own.
pub(super) fn in_runtime<T>(work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .thread_name("forebay")
        .enable_all()
        .build()
        .map_err(|error| Failure::temporary(format_args!("cannot start threads: {error}")))?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_timeout(LEAVE_BEHIND);
    outcome
}

/// The signals that mean something: stop, stop, reload.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

pub(super) fn signals() -> Outcome<Signals> {
    let listen =
        |kind| signal(kind).map_err(|error| Failure::failed(format_args!("cannot listen to signals: {error}")));
    Ok(Signals {
        terminate: listen(SignalKind::terminate())?,
        interrupt: listen(SignalKind::interrupt())?,
        hang_up: listen(SignalKind::hangup())?,
    })
}

/// Turns signals into orders. The second one that says stop ends the process at once: what is on disk stays there.
pub(super) async fn pass_signals(mut signals: Signals, orders: mpsc::Sender<Order>) {
    let mut stopping = false;
    loop {
        let order = tokio::select! {
            _ = signals.terminate.recv() => Order::Stop,
            _ = signals.interrupt.recv() => Order::Stop,
            _ = signals.hang_up.recv() => Order::Reload,
        };
        if order == Order::Stop {
            if stopping {
                log::warn!("told to stop a second time: leaving at once");
                std::process::exit(1);
            }
            stopping = true;
            log::info!("told to stop");
        }
        // A reload that is asked for while another is under way, or while the agent goes down, is not needed.
        let passed = match order {
            Order::Stop => orders.send(order).await.is_ok(),
            Order::Reload => orders.try_send(order).is_ok() || !stopping,
        };
        if !passed {
            log::debug!("nothing listens to {order:?} any more");
        }
    }
}

/// Sends log lines to standard error. The journal has its own times, and understands the level as sd-daemon(3) has it.
pub(super) fn start_log(filter: &str, to_journal: bool) {
    let mut builder = env_logger::Builder::new();
    builder.parse_filters(filter).format(move |out, record| {
        if !to_journal {
            return writeln!(out, "{} {:<5} {}", out.timestamp(), record.level(), record.args());
        }
        let priority = match record.level() {
            log::Level::Error => 3,
            log::Level::Warn => 4,
            log::Level::Info => 6,
            log::Level::Debug | log::Level::Trace => 7,
        };
        // Each line is an entry of its own there.
        record.args().to_string().lines().try_for_each(|line| writeln!(out, "<{priority}>{line}"))
    });
    // A logger that is there already is a test's.
    let _ = builder.try_init();
}
