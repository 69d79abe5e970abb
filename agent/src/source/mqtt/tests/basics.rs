//! Messages in, acknowledgements out, and what the broker may answer.

use std::time::Duration;

use forebay_buffer::{BodyKind, Value};

use super::{
    broker::Said,
    rig::{BOTH, Rig},
};
use crate::{
    client::mqtt::{Qos, Version},
    progress::Condition,
    secret::{Secret, SecretSource},
    source::testing::Behaviour,
};

/// Promise 1.
#[tokio::test]
async fn a_message_is_acknowledged_when_it_is_on_disk_and_not_before() {
    for version in BOTH {
        for (qos, answer) in [(Qos::AtLeastOnce, Said::PubAck(9)), (Qos::ExactlyOnce, Said::PubRec(9))] {
            let rig = Rig::new(version).await;
            rig.intake.behave(Behaviour::Withhold);
            let running = rig.start();
            let mut peer = rig.broker.welcome(false).await;
            peer.publish(qos, 9, "plant/a", b"{\"x\": \xff").await;
            rig.intake.wait_for(|seen| seen.withheld() == 1).await;
            // Had it been said too early, it would come before the answer to this.
            running.tell_to_stop();
            rig.intake.behave(Behaviour::Accept);
            assert_eq!(peer.hear().await, answer);
            assert_eq!(peer.hear().await, Said::Disconnect);
            assert_eq!(running.ends().await, Ok(()));
            let event = rig.intake.stored("0")[0].events[0].clone();
            assert_eq!(event.body.as_deref(), Some(b"{\"x\": \xff".as_slice()));
            let headers =
                [("topic", "plant/a".into()), ("qos", Value::Integer(qos as i64)), ("retain", Value::Boolean(false))];
            assert_eq!(event.headers, headers.map(|(name, value)| (name.to_owned(), value)));
        }
    }
}

#[tokio::test]
async fn acknowledgements_go_out_in_the_order_of_arrival() {
    for version in BOTH {
        let mut rig = Rig::new(version).await;
        rig.settings.shape.partition_level = Some(1);
        rig.intake.behave(Behaviour::Withhold);
        let _running = rig.start();
        let mut peer = rig.broker.welcome(false).await;
        let sent = [(5, "b", 1), (3, "a", 2), (4, "b", 1), (1, "c", 2), (2, "a", 1)];
        for (id, level, qos) in sent {
            let qos = if qos == 1 { Qos::AtLeastOnce } else { Qos::ExactlyOnce };
            peer.publish(qos, id, &format!("plant/{level}"), b"x").await;
        }
        rig.intake.wait_for(|seen| seen.withheld() >= 3).await;
        rig.intake.behave(Behaviour::Accept);
        for (id, _, qos) in sent {
            assert_eq!(peer.hear().await, if qos == 1 { Said::PubAck(id) } else { Said::PubRec(id) });
        }
    }
}

#[tokio::test]
async fn a_receipt_acknowledges_nothing_on_a_later_connection() {
    for version in BOTH {
        let rig = Rig::new(version).await;
        rig.intake.behave(Behaviour::Withhold);
        let _running = rig.start();
        let mut peer = rig.broker.welcome(false).await;
        peer.publish(Qos::AtLeastOnce, 5, "plant/a", b"first").await;
        rig.intake.wait_for(|seen| seen.withheld() == 1).await;
        drop(peer);
        let mut peer = rig.broker.accept().await;
        peer.welcome(true).await;
        rig.intake.behave(Behaviour::Accept);
        rig.has_stored(&["first"]).await;
        if version == Version::V5 {
            let said = peer.hear().await;
            let Said::Subscribe { id, .. } = said else { panic!("{said:?}") };
            peer.grant(id, &[1]).await;
        }
        // Another message with the same identifier: were the first acknowledged, it would be for this one.
        rig.intake.behave(Behaviour::Withhold);
        peer.publish(Qos::AtLeastOnce, 5, "plant/a", b"second").await;
        peer.publish(Qos::AtLeastOnce, 6, "plant/a", b"third").await;
        rig.intake.wait_for(|seen| seen.withheld() >= 1).await;
        rig.intake.behave(Behaviour::Accept);
        assert_eq!(peer.hear().await, Said::PubAck(5));
        assert_eq!(peer.hear().await, Said::PubAck(6));
        rig.has_stored(&["first", "second", "third"]).await;
    }
}

/// Fills what may be on its way with one message each, and adds one more that has to wait.
async fn one_more_than_may_be_on_its_way(rig: &Rig, peer: &mut super::broker::Peer) -> usize {
    rig.intake.behave(Behaviour::Withhold);
    for id in 1..=12 {
        peer.publish(Qos::AtLeastOnce, id, "plant/a", b"on its way").await;
        rig.intake.wait_for(|seen| seen.withheld() == usize::from(id)).await;
    }
    peer.publish(Qos::ExactlyOnce, 13, "plant/a", b"waits").await;
    peer.publish(Qos::AtMostOnce, 0, "plant/a", b"not sent again").await;
    12
}

#[tokio::test]
async fn what_the_broker_sends_again_is_not_stored_before_it_does() {
    for version in BOTH {
        let rig = Rig::new(version).await;
        let _running = rig.start();
        let mut peer = rig.broker.welcome(false).await;
        let on_the_way = one_more_than_may_be_on_its_way(&rig, &mut peer).await;
        drop(peer);
        rig.waits_for().await;
        rig.intake.behave(Behaviour::Accept);
        rig.intake.wait_for(|seen| seen.events() == on_the_way + 1).await;
        let mut peer = rig.broker.accept().await;
        peer.welcome(true).await;
        peer.publish_again(Qos::ExactlyOnce, 13, "plant/a", b"waits").await;
        rig.intake.wait_for(|seen| seen.events() == on_the_way + 2).await;
        let stored = rig.intake.acknowledged("0");
        assert_eq!(stored[on_the_way..], ["not sent again", "waits"]);
    }
}

#[tokio::test]
async fn what_a_broker_has_forgotten_is_stored_all_the_same() {
    for version in BOTH {
        let rig = Rig::new(version).await;
        let _running = rig.start();
        let mut peer = rig.broker.welcome(false).await;
        let on_the_way = one_more_than_may_be_on_its_way(&rig, &mut peer).await;
        drop(peer);
        rig.waits_for().await;
        rig.intake.behave(Behaviour::Accept);
        let mut peer = rig.broker.accept().await;
        peer.welcome(false).await;
        rig.intake.wait_for(|seen| seen.events() == on_the_way + 2).await;
        assert!(rig.intake.acknowledged("0").contains(&"waits".to_owned()));
    }
}

#[tokio::test]
async fn without_a_session_nothing_is_let_go_of() {
    let mut rig = Rig::new(Version::V5).await;
    rig.settings.session_expiry = Duration::ZERO;
    let _running = rig.start();
    let mut peer = rig.broker.welcome(false).await;
    let on_the_way = one_more_than_may_be_on_its_way(&rig, &mut peer).await;
    drop(peer);
    rig.waits_for().await;
    rig.intake.behave(Behaviour::Accept);
    rig.intake.wait_for(|seen| seen.events() == on_the_way + 2).await;
}

/// Promise 6.
#[tokio::test]
async fn a_message_that_is_too_large_becomes_a_dead_letter_and_is_acknowledged() {
    for version in BOTH {
        let rig = Rig::new(version).await;
        let _running = rig.start();
        let mut peer = rig.broker.welcome(false).await;
        let large = vec![b'x'; 300_000];
        peer.publish(Qos::AtLeastOnce, 1, "plant/a", &large).await;
        peer.publish(Qos::ExactlyOnce, 2, "plant/a", &large).await;
        peer.publish(Qos::AtLeastOnce, 3, "plant/a", b"small").await;
        for said in [Said::PubAck(1), Said::PubRec(2), Said::PubAck(3)] {
            assert_eq!(peer.hear().await, said);
        }
        rig.has_stored(&["small"]).await;
        let refused = rig.intake.refused("0");
        assert_eq!(refused.len(), 2);
        assert_eq!(
            (refused[0].code.as_str(), refused[0].event.body.as_ref().map(|body| body.len())),
            ("too_large", Some(4096))
        );
        assert!(refused[0].reason.contains("has 30001"), "{}", refused[0].reason);
    }
}

/// Promise 6.
#[tokio::test]
async fn a_payload_that_is_not_what_it_should_be_becomes_a_dead_letter_and_is_acknowledged() {
    let mut rig = Rig::new(Version::V5).await;
    rig.settings.shape.decode = BodyKind::Json;
    let _running = rig.start();
    let mut peer = rig.broker.welcome(false).await;
    peer.publish(Qos::AtLeastOnce, 1, "plant/a", b"{\"x\":").await;
    peer.publish(Qos::AtLeastOnce, 2, "plant/a", b"{\"x\":1}").await;
    assert_eq!(peer.hear().await, Said::PubAck(1));
    assert_eq!(peer.hear().await, Said::PubAck(2));
    rig.has_stored(&["{\"x\":1}"]).await;
    let refused = &rig.intake.refused("0")[0];
    assert_eq!(refused.code, "malformed");
    assert_eq!(refused.reason, "not a JSON value: EOF while parsing a value at line 1 column 5");
    assert_eq!(rig.intake.stored("0").last().expect("a batch").events[0].body_kind, BodyKind::Json);
}

#[tokio::test]
async fn a_refused_subscription_is_named_and_tried_again() {
    for (version, code, why) in [(Version::V3, 0x80, "no reason"), (Version::V5, 0x87, "not authorised")] {
        let mut rig = Rig::new(version).await;
        rig.settings.topics = vec!["plant/#".to_owned(), "secret/#".to_owned()];
        let _running = rig.start();
        let mut peer = rig.broker.accept().await;
        peer.welcome(false).await;
        let said = peer.hear().await;
        assert_eq!(said, Said::Subscribe { id: 1, filters: rig.settings.topics.clone() });
        peer.grant(1, &[1, code]).await;
        peer.hear_the_end().await;
        let reason = rig.waits_for().await;
        assert!(reason.contains("\"secret/#\": ") && reason.contains(why) && !reason.contains("plant"), "{reason}");
        rig.broker.accept().await;
    }
}

#[tokio::test]
async fn a_refused_connection_is_explained_and_tried_again() {
    let cases = [
        (Version::V3, 5, "not authorised"),
        (Version::V3, 4, "password"),
        (Version::V3, 77, "0x4d"),
        (Version::V5, 0x87, "not authorised"),
        (Version::V5, 0x84, "version = \"3.1.1\""),
        (Version::V5, 0x9b, "status_topic"),
        (Version::V5, 0xfe, "0xfe"),
    ];
    for (version, code, why) in cases {
        let rig = Rig::new(version).await;
        let _running = rig.start();
        let mut peer = rig.broker.accept().await;
        peer.hear().await;
        peer.answer(false, code).await;
        peer.hear_the_end().await;
        let reason = rig.waits_for().await;
        assert!(reason.contains("refuses the connection") || reason.contains("does not speak"), "{reason}");
        assert!(reason.contains(why), "{reason}");
        rig.broker.accept().await;
    }
}

#[tokio::test]
async fn a_broker_that_knows_only_the_older_version_is_understood() {
    let rig = Rig::new(Version::V5).await;
    let _running = rig.start();
    let mut peer = rig.broker.accept().await;
    peer.hear().await;
    peer.say(&[0x20, 2, 0, 1]).await;
    peer.hear_the_end().await;
    assert!(rig.waits_for().await.contains("version = \"3.1.1\""));
}

#[tokio::test]
async fn a_silent_broker_is_given_up_and_tried_again() {
    let mut rig = Rig::new(Version::V5).await;
    rig.settings.connect_timeout = Duration::from_millis(50);
    let _running = rig.start();
    let _silent = rig.broker.accept().await;
    assert!(rig.waits_for().await.contains("did not answer within 50ms"));
    let mut peer = rig.broker.accept().await;
    peer.welcome(false).await;
    // Welcomed, and without an answer to the subscription.
    assert!(peer.hear_the_end().await.iter().any(|said| matches!(said, Said::Subscribe { .. })));
}

#[tokio::test]
async fn a_broker_that_answers_no_ping_is_given_up() {
    let mut rig = Rig::new(Version::V3).await;
    rig.settings.keep_alive = Duration::from_millis(80);
    let _running = rig.start();
    let peer = rig.broker.welcome(false).await;
    assert!(peer.hear_the_end().await.contains(&Said::Ping));
    assert!(rig.waits_for().await.contains("silent"));
}

#[tokio::test]
async fn garbage_ends_the_connection_and_nothing_else() {
    for version in BOTH {
        let rig = Rig::new(version).await;
        let _running = rig.start();
        for garbage in
            [&[0x00, 0x00][..], &[0xff; 64], &[0x32, 2, 0, 0], &[0x30, 0xff, 0xff, 0xff, 0xff], &[0x36, 3, 0, 1, b'a']]
        {
            let mut peer = rig.broker.accept().await;
            peer.welcome(false).await;
            peer.hear().await;
            peer.say(garbage).await;
            peer.hear_the_end().await;
            assert!(rig.waits_for().await.contains("does not keep to the protocol"), "{garbage:?}");
        }
        let mut peer = rig.broker.welcome(false).await;
        peer.publish(Qos::AtLeastOnce, 1, "plant/a", b"fine").await;
        assert_eq!(peer.hear().await, Said::PubAck(1));
        assert_eq!(rig.condition(), Some(Condition::Running));
    }
}

#[tokio::test]
async fn birth_and_last_will_say_who_and_how() {
    for version in BOTH {
        let mut rig = Rig::new(version).await;
        rig.settings.status_topic = Some("plant/gw/status".to_owned());
        rig.settings.user = Some("gateway".to_owned());
        rig.settings.password = Some(SecretSource::Inline(Secret::new("hunter2")));
        let running = rig.start();
        let mut peer = rig.broker.accept().await;
        let offline = r#"{"agent":"gw","source":"line1","state":"offline"}"#;
        let connect = Said::Connect {
            client_id: "gw-line1".to_owned(),
            clean: false,
            user: Some(("gateway".to_owned(), "hunter2".to_owned())),
            will: Some(("plant/gw/status".to_owned(), offline.to_owned())),
        };
        assert_eq!(peer.hear().await, connect);
        peer.answer(false, 0).await;
        assert_eq!(peer.hear().await, Said::Subscribe { id: 1, filters: rig.settings.topics.clone() });
        peer.grant(1, &[2]).await;
        let version = env!("CARGO_PKG_VERSION");
        let online = format!(r#"{{"agent":"gw","source":"line1","state":"online","version":"{version}"}}"#);
        let said = |payload: &str| Said::Publish {
            topic: "plant/gw/status".to_owned(),
            payload: payload.to_owned(),
            retain: true,
        };
        assert_eq!(peer.hear().await, said(&online));
        running.tell_to_stop();
        assert_eq!(peer.hear().await, said(offline));
        assert_eq!(peer.hear().await, Said::Disconnect);
        assert_eq!(running.ends().await, Ok(()));
    }
}

#[tokio::test]
async fn a_source_that_has_no_broker_stops_when_it_is_told_to() {
    let mut rig = Rig::new(Version::V5).await;
    let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
    rig.settings.address.port = unused.local_addr().expect("it listens").port();
    drop(unused);
    let running = rig.start();
    assert!(rig.waits_for().await.contains("cannot reach 127.0.0.1:"));
    assert_eq!(running.stop().await, Ok(()));
}

#[tokio::test]
async fn a_buffer_that_is_closed_ends_the_source_and_acknowledges_nothing() {
    let rig = Rig::new(Version::V5).await;
    rig.intake.behave(Behaviour::Close);
    let running = rig.start();
    let mut peer = rig.broker.welcome(false).await;
    peer.publish(Qos::AtLeastOnce, 1, "plant/a", b"x").await;
    running.ends().await.expect_err("it cannot go on");
    assert_eq!(peer.hear_the_end().await, []);
}

/// Welcomes, says that there is a session, and awaits the subscription.
async fn must_subscribe(rig: &Rig) {
    let mut peer = rig.broker.accept().await;
    peer.welcome(true).await;
    let said = peer.hear().await;
    assert!(matches!(said, Said::Subscribe { .. }), "{said:?}");
}

#[tokio::test]
async fn a_session_whose_welcome_was_lost_is_subscribed_to() {
    for version in BOTH {
        let rig = Rig::new(version).await;
        let _running = rig.start();
        drop(rig.broker.welcome(false).await);
        // The broker has forgotten the session and begins a new one, and nobody hears of it.
        let mut peer = rig.broker.accept().await;
        assert!(matches!(peer.hear().await, Said::Connect { .. }));
        drop(peer);
        must_subscribe(&rig).await;
    }
}

#[tokio::test]
async fn a_subscription_that_was_not_answered_is_made_again() {
    for version in BOTH {
        let rig = Rig::new(version).await;
        let _running = rig.start();
        drop(rig.broker.welcome(false).await);
        let mut peer = rig.broker.accept().await;
        peer.welcome(false).await;
        assert!(matches!(peer.hear().await, Said::Subscribe { .. }));
        drop(peer);
        must_subscribe(&rig).await;
    }
}
