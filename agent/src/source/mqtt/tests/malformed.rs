//! Messages that are none: what would end the connection would come again for ever.

use super::{
    broker::{Said, publish_raw},
    rig::{BOTH, Rig},
};
use crate::client::mqtt::{Qos, Version};

const AT_LEAST_ONCE: u8 = 0x32;
const EXACTLY_ONCE: u8 = 0x34;

/// Promise 6.
#[tokio::test]
async fn a_message_whose_topic_is_none_becomes_a_dead_letter_and_is_acknowledged() {
    for version in BOTH {
        let mut rig = Rig::new(version).await;
        rig.settings.shape.partition_level = Some(0);
        let _running = rig.start();
        let mut peer = rig.broker.welcome(false).await;
        let topics: [&[u8]; 5] = [b"pl\xffnt/a", b"plant/+", b"plant/#", b"plant\0/a", b""];
        for (id, topic) in (1..).zip(topics) {
            peer.say(&publish_raw(version, AT_LEAST_ONCE, id, topic, &[], b"kept")).await;
            assert_eq!(peer.hear().await, Said::PubAck(id));
        }
        peer.say(&publish_raw(version, EXACTLY_ONCE, 6, b"\xff", &[], b"kept")).await;
        assert_eq!(peer.hear().await, Said::PubRec(6));
        peer.release(6).await;
        assert_eq!(peer.hear().await, Said::PubComp(6));
        let refused = rig.intake.refused("0");
        assert_eq!(refused.len(), 6);
        for letter in refused {
            assert_eq!((letter.code.as_str(), letter.event.body.as_deref()), ("malformed", Some(b"kept".as_slice())));
        }
        peer.publish(Qos::AtLeastOnce, 7, "plant/a", b"fine").await;
        assert_eq!(peer.hear().await, Said::PubAck(7));
        assert_eq!(rig.intake.acknowledged("plant"), ["fine"]);
    }
}

/// Promise 6.
#[tokio::test]
async fn a_message_whose_properties_are_none_becomes_a_dead_letter_and_is_acknowledged() {
    let rig = Rig::new(Version::V5).await;
    let _running = rig.start();
    let mut peer = rig.broker.welcome(false).await;
    let too_many = [0x26, 0, 0, 0, 0].repeat(65);
    let cases: [(&[u8], &str); 5] = [
        (&[0x26, 0, 1, 0xff, 0, 0], "not text in UTF-8"),
        (&[0x03, 0, 9, b'x'], "shorter"),
        (&[0x23, 0, 1], "topic alias"),
        (&[0x7e], "0x7e"),
        (&too_many, "too many properties"),
    ];
    for (id, (properties, why)) in (1..).zip(cases) {
        peer.say(&publish_raw(Version::V5, AT_LEAST_ONCE, id, b"plant/a", properties, b"kept")).await;
        assert_eq!(peer.hear().await, Said::PubAck(id));
        let refused = rig.intake.refused("0");
        let letter = refused.last().expect("it is refused");
        assert_eq!((letter.code.as_str(), letter.event.body.as_deref()), ("malformed", Some(b"kept".as_slice())));
        assert!(letter.reason.contains(why), "{}", letter.reason);
    }
}
