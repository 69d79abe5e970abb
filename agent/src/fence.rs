//! Fences: how the intake keeps delivery away from a partition that belongs to another owner now.
//!
//! The intake closes a partition's fence and awaits that; no lane of any sink has anything of it in flight then, and the
//! undelivered rest can be taken back out of the buffer. Lanes pass the fence before they touch a partition, and leave
//! as soon as it is being closed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::sync::watch;

/// The fences of all partitions, open until closed. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Fences(Arc<Mutex<BTreeMap<(String, String), Gate>>>);

type Gate = Arc<watch::Sender<State>>;

#[derive(Debug, Default)]
struct State {
    closed: bool,
    /// How often it was opened: a lane that another owner turned away waits for this to grow.
    openings: u64,
    /// How often it was verified, open, who the owner is.
    affirmations: u64,
    /// Lanes that passed and have not left.
    inside: usize,
}

impl Fences {
    /// Closes the fence while nothing can be in flight yet.
    pub fn shut(&self, stream: &str, partition: &str) {
        self.gate(stream, partition).send_modify(|state| state.closed = true);
    }

    /// Whether the fence is closed.
    pub fn is_closed(&self, stream: &str, partition: &str) -> bool {
        self.gate(stream, partition).borrow().closed
    }

    /// Closes the fence, and resolves when every lane has left and nothing of the partition is in flight.
    pub async fn close(&self, stream: &str, partition: &str) {
        let gate = self.gate(stream, partition);
        gate.send_modify(|state| state.closed = true);
        // The sender is held by this very function, so the wait cannot fail.
        let _ = gate.subscribe().wait_for(|state| state.inside == 0 || !state.closed).await;
    }

    /// Lets lanes in again.
    pub fn open(&self, stream: &str, partition: &str) {
        self.gate(stream, partition).send_modify(|state| {
            state.closed = false;
            state.openings += 1;
        });
    }

    /// Lets lanes that another owner seemed to have turned away try again, for it has been verified who the owner is: this
    /// agent. Changes nothing where the fence is closed. It takes two: who is being verified may have begun before a lane was
    /// turned away.
    pub fn affirm(&self, stream: &str, partition: &str) {
        self.gate(stream, partition).send_if_modified(|state| {
            state.affirmations += u64::from(!state.closed);
            !state.closed
        });
    }

    /// Waits until the fence is open, and passes it.
    pub async fn pass(&self, stream: &str, partition: &str) -> Pass {
        let gate = self.gate(stream, partition);
        let mut watched = gate.subscribe();
        loop {
            let mut openings = None;
            gate.send_if_modified(|state| {
                if !state.closed {
                    state.inside += 1;
                    openings = Some(state.openings);
                }
                !state.closed
            });
            if let Some(openings) = openings {
                return Pass { gate, openings };
            }
            let _ = watched.wait_for(|state| !state.closed).await;
        }
    }

    fn gate(&self, stream: &str, partition: &str) -> Gate {
        let mut gates = self.0.lock().expect("no holder of this lock panics");
        Arc::clone(gates.entry((stream.to_owned(), partition.to_owned())).or_default())
    }
}

/// The right to deliver one partition, until dropped.
#[derive(Debug)]
pub struct Pass {
    gate: Gate,
    openings: u64,
}

impl Pass {
    /// Resolves when the fence is being closed: finish what is in flight, and drop the pass.
    pub async fn closing(&self) {
        let _ = self.gate.subscribe().wait_for(|state| state.closed).await;
    }

    /// Whether the fence is being closed.
    pub fn is_closing(&self) -> bool {
        self.gate.borrow().closed
    }

    /// Resolves when the fence was closed, or opened anew, since this pass was given, or affirmed twice from now on.
    pub async fn superseded(&self) {
        let enough = self.gate.borrow().affirmations + 2;
        let is_over = |state: &State| state.closed || state.openings != self.openings || state.affirmations >= enough;
        let _ = self.gate.subscribe().wait_for(is_over).await;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.gate.send_modify(|state| state.inside -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    async fn is_pending(future: &mut (impl Future + Unpin)) -> bool {
        std::future::poll_fn(|context| Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_pending())).await
    }

    #[tokio::test]
    async fn closing_waits_until_every_lane_has_left() {
        let fences = Fences::default();
        let (first, second) = (fences.pass("s", "0").await, fences.pass("s", "0").await);
        let mut closed = Box::pin(fences.close("s", "0"));
        assert!(is_pending(&mut closed).await);
        first.closing().await;
        drop(first);
        assert!(is_pending(&mut closed).await);
        drop(second);
        closed.await;
    }

    #[tokio::test]
    async fn nobody_passes_a_closed_fence_until_it_is_opened() {
        let fences = Fences::default();
        fences.close("s", "0").await;
        let mut passing = Box::pin(fences.pass("s", "0"));
        assert!(is_pending(&mut passing).await);
        fences.open("s", "0");
        assert!(!passing.await.is_closing());
    }

    #[tokio::test]
    async fn a_fence_is_of_one_partition_only() {
        let fences = Fences::default();
        fences.close("s", "0").await;
        assert!(!fences.pass("s", "1").await.is_closing());
        assert!(!fences.pass("t", "0").await.is_closing());
    }

    #[tokio::test]
    async fn what_is_shut_is_closed_until_it_is_opened() {
        let fences = Fences::default();
        fences.shut("s", "0");
        let mut passing = Box::pin(fences.pass("s", "0"));
        assert!(is_pending(&mut passing).await);
        assert!(fences.is_closed("s", "0") && !fences.is_closed("t", "0"));
        fences.open("s", "0");
        assert!(!passing.await.is_closing());
    }

    #[tokio::test]
    async fn a_lane_that_was_turned_away_tries_again_where_this_agent_is_the_owner_still() {
        let fences = Fences::default();
        let pass = fences.pass("s", "0").await;
        for _ in 0..3 {
            fences.affirm("s", "0");
        }
        let mut superseded = Box::pin(pass.superseded());
        assert!(is_pending(&mut superseded).await, "all that was before it was turned away");
        for _ in 0..2 {
            fences.affirm("s", "1");
        }
        fences.affirm("s", "0");
        assert!(is_pending(&mut superseded).await, "that may have been asked before it was turned away");
        fences.affirm("s", "0");
        superseded.await;
        assert!(!pass.is_closing(), "nobody need leave for it");
        fences.shut("s", "0");
        fences.affirm("s", "0");
        assert!(fences.is_closed("s", "0"));
    }

    #[tokio::test]
    async fn a_lane_that_was_turned_away_hears_of_the_next_opening() {
        let fences = Fences::default();
        let pass = fences.pass("s", "0").await;
        let mut superseded = Box::pin(pass.superseded());
        assert!(is_pending(&mut superseded).await);
        fences.open("s", "0");
        superseded.await;
    }
}
