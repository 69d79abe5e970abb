//! The page for observers: served as soon as its address can be had.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::net::TcpListener;

use crate::{
    contract::Shutdown,
    observe::{self, View},
    progress::{Condition, Progress},
    retry::Backoff,
};

const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Serves `view` at `address` until told to stop; without an address, only keeps it up to date. An address that is
/// taken holds up nothing else: events come first.
pub(super) async fn run(address: Option<SocketAddr>, view: Arc<View>, progress: Arc<Progress>, mut shutdown: Shutdown) {
    let Some(address) = address else { return view.follow(shutdown).await };
    let mut backoff = Backoff::new(Duration::from_millis(200), LONGEST_PAUSE);
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) => {
                let why = format!("cannot listen on {address}: {error}; set observe.listen to a free address");
                progress.enter("", Condition::Waiting(why));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next()) => {}
            () = shutdown.requested() => return,
        }
    };
    progress.enter("", Condition::Running);
    observe::serve(listener, view, shutdown).await;
}
