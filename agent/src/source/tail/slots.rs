//! A few blocking file operations at a time, and none that hangs in the way of the others.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task, time,
};

/// When an operation is taken for hung (a network file system whose server is gone): it waits on, and its slot goes
/// to somebody else.
const HUNG_AFTER: Duration = Duration::from_secs(2);

/// So many things may be under way at once; those that hang do not count.
#[derive(Debug, Clone)]
pub(super) struct Slots(Arc<Semaphore>);

impl Slots {
    /// With `count` slots.
    pub(super) fn new(count: usize) -> Self {
        Self(Arc::new(Semaphore::new(count)))
    }

    /// Waits for a slot.
    pub(super) async fn take(&self) -> Slot {
        Slot { slots: self.clone(), permit: Some(self.permit().await) }
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        self.0.clone().acquire_owned().await.expect("nobody closes this semaphore")
    }
}

/// A slot, free again when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Slots,
    permit: Option<OwnedSemaphorePermit>,
}

impl Slot {
    /// Runs blocking work. If it hangs, says so through `hung` and gives the slot away until the work is done.
    pub(super) async fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
        hung: impl FnOnce(),
    ) -> T {
        let mut work = task::spawn_blocking(work);
        let outcome = match time::timeout(HUNG_AFTER, &mut work).await {
            Ok(outcome) => outcome,
            Err(_) => {
                hung();
                self.permit = None;
                let outcome = work.await;
                self.permit = Some(self.slots.permit().await);
                outcome
            }
        };
        outcome.expect("work on files does not panic")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_that_hangs_does_not_hold_up_the_others() {
        let slots = Slots::new(1);
        let (release, blocked) = mpsc::channel::<()>();
        let (said, mut hears) = tokio::sync::mpsc::unbounded_channel();
        let mut slot = slots.take().await;
        let hanging =
            tokio::spawn(
                async move { slot.run(move || blocked.recv(), || said.send(()).expect("the test listens")).await },
            );
        // The only slot is taken, and comes free because its work hangs.
        assert_eq!(slots.take().await.run(|| 7, || ()).await, 7);
        hears.recv().await.expect("it was said");
        assert!(!hanging.is_finished());
        release.send(()).expect("it waits");
        hanging.await.expect("no panic").expect("it was released");
    }
}
