//! A buffer that is full, or slow.

use std::time::Duration;

use super::{
    broker::Said,
    rig::{BOTH, Rig},
};
use crate::{
    client::mqtt::{Qos, Version},
    source::testing::Behaviour,
};

/// Promise 5.
#[tokio::test]
async fn above_the_limit_nothing_is_read_and_the_connection_lives() {
    for version in BOTH {
        let mut rig = Rig::new(version).await;
        rig.settings.max_unacknowledged_bytes = 64 << 10;
        rig.settings.keep_alive = Duration::from_millis(200);
        let _running = rig.start();
        let mut peer = rig.broker.welcome(false).await;
        rig.intake.behave(Behaviour::Withhold);
        let body = vec![b'x'; 16 << 10];
        for id in 1..=20 {
            peer.publish(Qos::AtLeastOnce, id, "plant/a", &body).await;
        }
        // The pings go on, and that their answers are not read does not matter.
        for _ in 0..4 {
            assert_eq!(peer.hear_all().await, Some(Said::Ping));
        }
        rig.intake.release(usize::MAX);
        rig.intake.wait_for(|seen| (4..20).contains(&seen.events())).await;
        rig.intake.behave(Behaviour::Accept);
        for id in 1..=20 {
            assert_eq!(peer.hear().await, Said::PubAck(id));
        }
        assert_eq!(rig.intake.acknowledged("0").len(), 20);
    }
}

/// Promise 6.
#[tokio::test]
async fn messages_of_qos_0_that_cannot_be_taken_are_dropped_and_counted() {
    for version in BOTH {
        let rig = Rig::new(version).await;
        let _running = rig.start();
        let mut peer = rig.broker.welcome(false).await;
        rig.intake.set_full(true);
        for _ in 0..50 {
            peer.publish(Qos::AtMostOnce, 0, "plant/a", b"dropped").await;
        }
        // What is acknowledged waits for its turn as always.
        peer.publish(Qos::AtLeastOnce, 1, "plant/a", b"kept").await;
        assert_eq!(peer.hear().await, Said::PubAck(1));
        rig.intake.wait_for(|seen| seen.lost() == 50).await;
        rig.intake.set_full(false);
        peer.publish(Qos::AtMostOnce, 0, "plant/a", b"kept too").await;
        rig.has_stored(&["kept", "kept too"]).await;
        let losses = rig.intake.losses();
        let bytes: u64 = losses.iter().map(|(_, _, bytes)| bytes).sum();
        assert!(losses.iter().all(|(partition, _, _)| partition == "0"));
        assert!(bytes >= 50 * 7, "{bytes}");
    }
}

#[tokio::test]
async fn where_all_is_qos_0_a_full_buffer_does_not_stop_the_counting() {
    let mut rig = Rig::new(Version::V5).await;
    rig.settings.qos = Qos::AtMostOnce;
    rig.settings.max_unacknowledged_bytes = 64 << 10;
    let running = rig.start();
    let mut peer = rig.broker.welcome(false).await;
    rig.intake.behave(Behaviour::Withhold);
    let body = vec![b'x'; 70 << 10];
    peer.publish(Qos::AtMostOnce, 0, "plant/a", &body).await;
    rig.intake.wait_for(|seen| seen.withheld() == 1).await;
    rig.intake.set_full(true);
    // The limit is reached, and the next one is read only to be dropped.
    peer.publish(Qos::AtMostOnce, 0, "plant/a", &body).await;
    rig.intake.behave(Behaviour::Accept);
    rig.intake.wait_for(|seen| seen.lost() == 1).await;
    assert_eq!(running.stop().await, Ok(()));
}

#[tokio::test]
async fn a_broker_that_floods_with_releases_is_cut_off() {
    let rig = Rig::new(Version::V5).await;
    let _running = rig.start();
    let mut peer = rig.broker.welcome(false).await;
    rig.intake.behave(Behaviour::Withhold);
    peer.publish(Qos::AtLeastOnce, 1, "plant/a", b"x").await;
    rig.intake.wait_for(|seen| seen.withheld() == 1).await;
    // None of these can be answered before the message.
    for _ in 0..150 {
        peer.say(&[0x62, 2, 0, 7].repeat(1_000)).await;
    }
    peer.hear_the_end().await;
    assert!(rig.waits_for().await.contains("more than"));
}

/// Promise 6. Were it not read, the broker would drop it, and count nothing.
#[tokio::test]
async fn above_the_limit_qos_0_is_dropped_and_counted_up_to_the_first_message_that_must_be_kept() {
    for version in BOTH {
        let mut rig = Rig::new(version).await;
        rig.settings.max_unacknowledged_bytes = 64 << 10;
        let _running = rig.start();
        let mut peer = rig.broker.welcome(false).await;
        rig.intake.behave(Behaviour::Withhold);
        let body = vec![b'x'; 70 << 10];
        peer.publish(Qos::AtLeastOnce, 1, "plant/a", &body).await;
        rig.intake.wait_for(|seen| seen.withheld() == 1).await;
        for _ in 0..3 {
            peer.publish(Qos::AtMostOnce, 0, "plant/a", &body).await;
        }
        rig.intake.set_full(true);
        rig.intake.wait_for(|seen| seen.lost() == 3).await;
        peer.publish(Qos::AtLeastOnce, 2, "plant/a", &body).await;
        rig.intake.wait_for(|seen| seen.withheld() == 2).await;
        peer.publish(Qos::AtLeastOnce, 3, "plant/a", &body).await;
        // It is not read: it would be handed over before this is written.
        rig.intake.release(1);
        assert_eq!(peer.hear().await, Said::PubAck(1));
        rig.intake.wait_for(|seen| seen.withheld() == 1).await;
        rig.intake.behave(Behaviour::Accept);
        rig.intake.set_full(false);
        for id in [2, 3] {
            assert_eq!(peer.hear().await, Said::PubAck(id));
        }
        assert_eq!(
            (rig.intake.losses().iter().map(|loss| loss.1).sum::<u64>(), rig.intake.acknowledged("0").len()),
            (3, 3)
        );
    }
}
