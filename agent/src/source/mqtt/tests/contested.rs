//! Connections that do not last: what is said about them, and when they are said to run again.

use super::{
    broker::{Peer, Said},
    rig::Rig,
};
use crate::{
    client::mqtt::{Qos, Version},
    progress::Condition,
};

/// So many short ones in a row that somebody else may have the session.
const MANY: usize = 20;

async fn connect(rig: &Rig) -> Peer {
    let mut peer = rig.broker.welcome(false).await;
    // The subscription is heard of by now.
    peer.publish(Qos::AtLeastOnce, 1, "plant/a", b"x").await;
    assert_eq!(peer.hear().await, Said::PubAck(1));
    peer
}

/// Promise 7.
#[tokio::test]
async fn after_short_connections_one_must_last_before_it_is_said_to_run() {
    let rig = Rig::new(Version::V5).await;
    let _running = rig.start();
    for _ in 0..3 {
        drop(connect(&rig).await);
        rig.waits_for().await;
    }
    let _peer = connect(&rig).await;
    assert!(matches!(rig.condition(), Some(Condition::Waiting(_))), "{:?}", rig.condition());
    rig.runs().await;
}

#[tokio::test]
async fn another_client_is_asked_about_only_where_the_broker_closes_the_connection() {
    for (garbage, is_asked) in [(&[][..], true), (&[0x00, 0x00][..], false)] {
        let rig = Rig::new(Version::V5).await;
        let _running = rig.start();
        for _ in 0..MANY {
            let mut peer = connect(&rig).await;
            peer.say(garbage).await;
            if !is_asked {
                peer.hear_the_end().await;
            }
        }
        // It was said before the next one comes.
        rig.broker.accept().await;
        let reason = rig.waits_for().await;
        assert_eq!(reason.contains("does another client"), is_asked, "{reason}");
    }
}
