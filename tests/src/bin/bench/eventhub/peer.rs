//! A peer that costs next to nothing: a hub that takes batches without looking into them and gives events that it made
//! before, to whoever connects. What remains is what a client can do.
//!
//! It is no hub beyond that. It lets everybody in, keeps nothing, and begins with event 0 whatever a consumer asks for.
//! It sends no heartbeats: a run is shorter than what clients wait.

mod connection;
mod feed;
mod requests;
mod wire;

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use forebay_tests::harness::now_micros;

use self::feed::Feed;

/// A hub of one run.
pub(super) struct Peer {
    service: Arc<Service>,
    port: u16,
    listener: Arc<TcpListener>,
    accepting: Option<JoinHandle<()>>,
}

/// What its connections share.
struct Service {
    partitions: usize,
    /// Events that each partition has for its consumers.
    events: u64,
    feed: Feed,
    created_ms: i64,
    /// How long an acknowledgement is held back.
    delay: Duration,
    taken: AtomicU64,
    given: AtomicU64,
}

impl Peer {
    /// Has `events` in each partition.
    pub(super) fn start(partitions: usize, events: u64, delay: Duration) -> Self {
        let created_ms = now_micros() / 1_000;
        let (taken, given) = (AtomicU64::new(0), AtomicU64::new(0));
        let feed = Feed::new(created_ms);
        let service = Arc::new(Service { partitions, events, feed, created_ms, delay, taken, given });
        let listener = Arc::new(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free"));
        let port = listener.local_addr().expect("it is bound").port();
        let accepting = thread::spawn({
            let (service, listener) = (Arc::clone(&service), Arc::clone(&listener));
            move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let service = Arc::clone(&service);
                    // A client that goes without a goodbye ends its thread with an error, which is nobody's business.
                    thread::spawn(move || connection::serve(stream, &service));
                }
            }
        });
        Self { service, port, listener, accepting: Some(accepting) }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Events that it has taken.
    pub(super) fn taken(&self) -> u64 {
        self.service.taken.load(Relaxed)
    }

    /// Events that it has given.
    pub(super) fn given(&self) -> u64 {
        self.service.given.load(Relaxed)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Whoever waits for a connection is told that none will come.
        rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both).expect("a socket that listens");
        self.accepting.take().map(JoinHandle::join);
    }
}
