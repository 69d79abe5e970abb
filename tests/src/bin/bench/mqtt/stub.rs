//! A broker that has one subscriber, and sends it what it has as fast as it can: what remains when the broker costs
//! nothing.

use std::{
    net::{Ipv4Addr, TcpListener},
    time::{Duration, Instant},
};

use super::flow::{Load, Peer, kind};

pub(super) struct Stub(TcpListener);

impl Stub {
    pub(super) fn new() -> Self {
        Self(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free"))
    }

    pub(super) fn port(&self) -> u16 {
        self.0.local_addr().expect("it is bound").port()
    }

    /// Takes a subscriber and sends it `count` messages. Returns the time from its subscription to its last
    /// acknowledgement.
    pub(super) fn serve(&self, load: &Load, count: u64, window: u64) -> Duration {
        let (stream, _) = self.0.accept().expect("a subscriber connects");
        let mut subscriber = Peer::new(stream);
        subscriber.expect(kind::CONNECT);
        // CONNACK (section 3.2): no session, success, no properties.
        subscriber.write(&[0x20, 3, 0, 0, 0]);
        let subscribe = subscriber.expect(kind::SUBSCRIBE);
        // SUBACK (section 3.9): no properties, QoS 1 granted.
        subscriber.write(&[0x90, 4, subscribe[0], subscribe[1], 0, 1]);
        let begun = Instant::now();
        subscriber.publish(load, count, window);
        begun.elapsed()
    }
}
