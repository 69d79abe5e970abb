//! How much memory all bodies that are being taken in may need together (Promise 5).

use std::pin::pin;

use tokio::sync::{Notify, Semaphore, SemaphorePermit};

/// A reservation grows by at least this much, so that a body in small pieces does not ask at each of them.
const STEP_BYTES: usize = 64 * 1024;

/// The account that requests share.
///
/// A request reserves more and more while its body comes in. If all of them waited for each other with half a body in
/// hand, none would end; so one at a time may grow beyond what is shared, and ends, and gives back what it has. All
/// together hold no more than what is shared and one largest request.
pub(super) struct Memory {
    shared: Semaphore,
    shared_bytes: usize,
    last_resort: Semaphore,
    given_back: Notify,
}

impl Memory {
    pub(super) fn new(shared_bytes: usize) -> Self {
        let shared_bytes = shared_bytes.min(u32::MAX as usize);
        Self {
            shared: Semaphore::new(shared_bytes),
            shared_bytes,
            last_resort: Semaphore::new(1),
            given_back: Notify::new(),
        }
    }

    /// Nothing yet, to grow.
    pub(super) fn reserve(&self) -> Reservation<'_> {
        Reservation { memory: self, bytes: 0, shared: None, last_resort: None }
    }
}

/// What one request has of the account. Dropping it gives it back.
pub(super) struct Reservation<'a> {
    memory: &'a Memory,
    bytes: usize,
    shared: Option<SemaphorePermit<'a>>,
    last_resort: Option<SemaphorePermit<'a>>,
}

impl<'a> Reservation<'a> {
    /// Waits until `bytes` in all may be held.
    pub(super) async fn grow_to(&mut self, bytes: usize) {
        if bytes <= self.bytes || self.last_resort.is_some() {
            return;
        }
        let more = (bytes - self.bytes).max(STEP_BYTES);
        let memory = self.memory;
        let mut last_resort = pin!(memory.last_resort.acquire());
        loop {
            let mut given_back = pin!(memory.given_back.notified());
            given_back.as_mut().enable();
            // Not waiting in the semaphore itself: who wants much would take what comes free from those who want little.
            if self.bytes + more <= memory.shared_bytes
                && let Ok(permit) = memory.shared.try_acquire_many(more as u32)
            {
                return self.add(permit, more);
            }
            tokio::select! {
                biased;
                permit = &mut last_resort => {
                    self.last_resort = Some(permit.expect("this semaphore is never closed"));
                    return;
                }
                () = given_back => {}
            }
        }
    }

    fn add(&mut self, permit: SemaphorePermit<'a>, bytes: usize) {
        self.bytes += bytes;
        match &mut self.shared {
            Some(held) => held.merge(permit),
            none => *none = Some(permit),
        }
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        drop((self.shared.take(), self.last_resort.take()));
        self.memory.given_back.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::{Pin, pin},
        task::{Context, Waker},
    };

    use super::*;

    fn waits(future: Pin<&mut impl Future>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    #[tokio::test]
    async fn requests_that_all_want_more_end_one_after_the_other() {
        let memory = Memory::new(2 * STEP_BYTES);
        let (mut a, mut b, mut c) = (memory.reserve(), memory.reserve(), memory.reserve());
        a.grow_to(STEP_BYTES).await;
        b.grow_to(STEP_BYTES).await;
        // All that is shared is taken. One of them may go on; the other two wait.
        a.grow_to(50 * STEP_BYTES).await;
        {
            let (mut b_grows, mut c_grows) = (pin!(b.grow_to(2 * STEP_BYTES)), pin!(c.grow_to(1)));
            assert!(waits(b_grows.as_mut()) && waits(c_grows.as_mut()));
            drop(a);
            b_grows.await;
            c_grows.await;
        }
        drop((b, c));
        assert_eq!(memory.shared.available_permits(), 2 * STEP_BYTES);
    }

    #[tokio::test]
    async fn a_request_larger_than_all_that_is_shared_is_taken_alone() {
        let memory = Memory::new(STEP_BYTES);
        let (mut a, mut b) = (memory.reserve(), memory.reserve());
        a.grow_to(10 * STEP_BYTES).await;
        let mut b_grows = pin!(b.grow_to(10 * STEP_BYTES));
        assert!(waits(b_grows.as_mut()));
        drop(a);
        b_grows.await;
    }

    #[tokio::test]
    async fn who_wants_much_does_not_hold_up_who_wants_little() {
        let memory = Memory::new(4 * STEP_BYTES);
        let [mut a, mut b, mut c, mut d, mut e] = std::array::from_fn(|_| memory.reserve());
        a.grow_to(2 * STEP_BYTES).await;
        b.grow_to(9 * STEP_BYTES).await;
        {
            let mut c_grows = pin!(c.grow_to(3 * STEP_BYTES));
            assert!(waits(c_grows.as_mut()));
            assert!(!waits(pin!(d.grow_to(1))), "there is room for it");
            assert!(waits(c_grows.as_mut()));
            drop(a);
            // What was given back is enough, and the last resort is not waited for.
            assert!(!waits(c_grows.as_mut()));
        }
        assert!(waits(pin!(e.grow_to(1))), "all is taken");
        drop(c);
        assert!(!waits(pin!(e.grow_to(1))));
    }
}
