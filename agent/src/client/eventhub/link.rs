//! A session of a link's own, for a refused link spoils the session that it was to be on.

use std::{sync::Arc, time::Duration};

use fe2o3_amqp::session::SessionHandle;
use tokio::{sync::oneshot, time::timeout};

use super::{Class, Error, connection::Inner, end::End, line::Line};

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// A link's session. Dropped, it ends.
pub(super) struct Session {
    /// Of the session, or of the connection.
    pub(super) end: Arc<End>,
    line: Arc<Line>,
    _release: oneshot::Sender<()>,
}

impl Session {
    /// Begins a session, and attaches a link to it with `attach`.
    pub(super) async fn attach<L, E: Into<Error>>(
        connection: &Arc<Inner>,
        what: &str,
        attach: impl AsyncFnOnce(&mut SessionHandle<()>) -> Result<L, E>,
    ) -> Result<(Self, L), Error> {
        let doing = || format!("attaching {what}");
        let line = Arc::clone(&connection.line);
        let refused = |error: Error| line.judged(error.while_doing(doing()));
        let mut handle = connection.begin().await.map_err(refused)?;
        let patience = line.patience();
        let attached = tokio::select! {
            attached = timeout(patience, attach(&mut handle)) => attached,
            error = line.end.wait() => return Err(error),
        };
        let link = match attached {
            Ok(attached) => attached.map_err(|error| refused(error.into()))?,
            Err(_) => {
                // A peer that does not answer an attach answers nothing any more.
                let error = Error::silent(doing(), patience);
                line.end.set(error.clone());
                return Err(error);
            }
        };
        let end = Arc::new(End::default());
        let (release, released) = oneshot::channel();
        tokio::spawn(watch(handle, Arc::clone(&line), Arc::clone(&end), released));
        Ok((Self { end, line, _release: release }, link))
    }

    /// The link is of no use after this error.
    pub(super) fn broken(&self, error: Error) -> Error {
        let error = self.line.judged(error);
        self.end.set(error.clone());
        error
    }

    /// What `work` comes to, unless the session or the connection ends before. `None`: nothing came of it for so long.
    pub(super) async fn within_for<T>(
        &self,
        patience: Duration,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Option<Result<T, Error>> {
        tokio::select! {
            biased;
            outcome = timeout(patience, work) => outcome.ok(),
            error = self.end.wait() => Some(Err(error)),
        }
    }

    /// What `work` comes to in the usual time. After that the link is of no use any more.
    pub(super) async fn within<T>(&self, what: &str, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let patience = self.line.patience();
        let silent = || Error { class: Class::Detached, ..Error::silent(what, patience) };
        self.within_for(patience, work).await.unwrap_or_else(|| Err(self.broken(silent())))
    }
}

/// Watches over a session, and ends it when it is released.
async fn watch(mut handle: SessionHandle<()>, line: Arc<Line>, end: Arc<End>, released: oneshot::Receiver<()>) {
    let error = tokio::select! {
        ended = handle.on_end() => match ended {
            Err(error) => error.into(),
            // So it does when its connection has ended: that is seen by another, in a moment.
            Ok(()) => timeout(GOODBYE, line.end.wait())
                .await
                .unwrap_or_else(|_| Error::new(Class::Detached, "the service ended the session")),
        },
        error = line.end.wait() => error,
        _ = released => {
            let _ = timeout(GOODBYE, handle.end()).await;
            return;
        }
    };
    end.set(line.judged(error));
}
