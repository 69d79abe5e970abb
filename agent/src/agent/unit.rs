//! One thing that runs beside the others: a source with its intake, a sink with its delivery, the page for observers.

use std::sync::Arc;

use tokio::{sync::watch, task::JoinHandle, time::Instant};

use crate::{contract::Shutdown, progress::Progress};

/// A task, and the switch that stops it.
pub(super) struct Unit {
    pub(super) progress: Arc<Progress>,
    switch: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Unit {
    /// Starts what `run` makes of the word to stop.
    pub(super) fn start<F>(progress: Arc<Progress>, run: impl FnOnce(Shutdown) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (switch, shutdown) = Shutdown::new();
        Self { progress, switch, task: tokio::spawn(run(shutdown)) }
    }

    /// Tells it to stop.
    pub(super) fn halt(&self) {
        self.switch.send_replace(true);
    }

    /// Waits until it has stopped. At `deadline` it is dropped where it stands, which is no worse than a crash.
    pub(super) async fn stopped(mut self, deadline: Instant) {
        self.halt();
        match tokio::time::timeout_at(deadline, &mut self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::error!("{}: {error}", self.progress.subject()),
            Err(_) => {
                log::warn!("{}: did not stop in time, and is dropped where it stands", self.progress.subject());
                self.task.abort();
                let _ = self.task.await;
            }
        }
    }
}

/// Stops all of them at the same time.
pub(super) async fn stop_all(units: impl IntoIterator<Item = Unit>, deadline: Instant) {
    let units: Vec<Unit> = units.into_iter().collect();
    units.iter().for_each(Unit::halt);
    for unit in units {
        unit.stopped(deadline).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_unit_that_does_not_stop_is_dropped_at_the_deadline() {
        let (held, dropped) = tokio::sync::oneshot::channel::<()>();
        let unit = Unit::start(Progress::new("source stubborn"), |_| async move {
            let _held = held;
            std::future::pending().await
        });
        unit.stopped(Instant::now() + Duration::from_millis(10)).await;
        assert!(dropped.await.is_err(), "what it held is let go of");
    }

    #[tokio::test]
    async fn a_unit_that_is_told_to_stop_does_so_in_its_own_way() {
        let (done, hear) = tokio::sync::oneshot::channel();
        let unit = Unit::start(Progress::new("source willing"), |mut shutdown| async move {
            shutdown.requested().await;
            done.send("all is on disk").expect("the test listens");
        });
        unit.stopped(Instant::now() + Duration::from_secs(60)).await;
        assert_eq!(hear.await, Ok("all is on disk"));
    }
}
