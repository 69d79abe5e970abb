//! The end of a connection or of a link, and why.

use tokio::sync::watch;

use super::Error;

/// Set once, and seen by all who wait for it.
#[derive(Debug)]
pub(super) struct End(watch::Sender<Option<Error>>);

impl Default for End {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl End {
    /// It has ended. What came first counts.
    pub(super) fn set(&self, error: Error) {
        self.0.send_if_modified(|end| {
            let is_first = end.is_none();
            end.get_or_insert(error);
            is_first
        });
    }

    /// Why, if it has ended.
    pub(super) fn get(&self) -> Option<Error> {
        self.0.borrow().clone()
    }

    /// Waits for the end.
    pub(super) async fn wait(&self) -> Error {
        let mut watched = self.0.subscribe();
        let ended = watched.wait_for(Option::is_some).await.expect("the sender is borrowed for as long");
        ended.clone().expect("it was waited for")
    }
}
