//! QoS 2 across cuts and restarts: each message is stored once. Promises 1 and 3.

use super::{
    broker::{Peer, Said},
    rig::{BOTH, Rig, Running},
};
use crate::{
    client::mqtt::{Qos, Version},
    source::testing::Behaviour,
};

/// What happens to the source between two connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Between {
    /// Only the connection is cut.
    Cut,
    /// The agent is killed too, and started again with what is on disk.
    Killed,
}

const BETWEEN: [Between; 2] = [Between::Cut, Between::Killed];

/// A source and its connection, and what happens to them.
struct Scene {
    rig: Rig,
    running: Option<Running>,
    peer: Option<Peer>,
}

impl Scene {
    /// A source with a new session.
    async fn begin(version: Version) -> Self {
        let rig = Rig::new(version).await;
        let running = rig.start();
        let peer = rig.broker.welcome(false).await;
        Self { rig, running: Some(running), peer: Some(peer) }
    }

    fn peer(&mut self) -> &mut Peer {
        self.peer.as_mut().expect("there is a connection")
    }

    async fn hears(&mut self, said: Said) {
        assert_eq!(self.peer().hear().await, said);
    }

    /// Cuts the connection, and lets `between` happen.
    async fn cut(&mut self, between: Between) {
        self.peer = None;
        if between == Between::Killed {
            self.running.take().expect("it runs").kill(&self.rig.intake).await;
            self.running = Some(self.rig.start());
        }
    }

    /// The source connects again, and the broker knows it.
    async fn reconnect(&mut self, between: Between) {
        let mut peer = self.rig.broker.accept().await;
        peer.welcome(true).await;
        if between == Between::Killed || self.rig.broker.version == Version::V5 {
            let said = peer.hear().await;
            let Said::Subscribe { id, .. } = said else { panic!("{said:?}") };
            peer.grant(id, &[2]).await;
        }
        self.peer = Some(peer);
    }

    /// The whole exchange of one message that is new, with an identifier that was used before.
    async fn send_another(&mut self, id: u16) {
        self.peer().publish(Qos::ExactlyOnce, id, "plant/a", b"another").await;
        self.hears(Said::PubRec(id)).await;
        self.peer().release(id).await;
        self.hears(Said::PubComp(id)).await;
    }

    /// After all, a message and another one with the same identifier are there, once each.
    async fn end(mut self, id: u16) {
        self.send_another(id).await;
        self.rig.has_stored(&["first", "another"]).await;
        let (running, mut peer) = (self.running.take().expect("it runs"), self.peer.take().expect("it is connected"));
        running.tell_to_stop();
        assert_eq!(peer.hear().await, Said::Disconnect);
        assert_eq!(running.ends().await, Ok(()));
        assert_eq!(self.rig.intake.acknowledged("0"), ["first", "another"]);
    }
}

#[tokio::test]
async fn a_cut_before_the_message_is_on_disk() {
    for version in BOTH {
        for between in BETWEEN {
            let mut scene = Scene::begin(version).await;
            scene.rig.intake.behave(Behaviour::Withhold);
            scene.peer().publish(Qos::ExactlyOnce, 7, "plant/a", b"first").await;
            scene.rig.intake.wait_for(|seen| seen.withheld() == 1).await;
            scene.cut(between).await;
            // Cut only, it comes to disk nevertheless. Killed, it does not.
            scene.rig.intake.behave(Behaviour::Accept);
            scene.reconnect(between).await;
            scene.peer().publish_again(Qos::ExactlyOnce, 7, "plant/a", b"first").await;
            scene.hears(Said::PubRec(7)).await;
            scene.peer().release(7).await;
            scene.hears(Said::PubComp(7)).await;
            scene.end(7).await;
        }
    }
}

#[tokio::test]
async fn a_cut_while_the_message_is_not_on_disk_even_when_it_comes_again() {
    for version in BOTH {
        let mut scene = Scene::begin(version).await;
        scene.rig.intake.behave(Behaviour::Withhold);
        scene.peer().publish(Qos::ExactlyOnce, 7, "plant/a", b"first").await;
        scene.rig.intake.wait_for(|seen| seen.withheld() == 1).await;
        scene.cut(Between::Cut).await;
        scene.reconnect(Between::Cut).await;
        scene.peer().publish_again(Qos::ExactlyOnce, 7, "plant/a", b"first").await;
        scene.peer().publish(Qos::AtMostOnce, 0, "plant/a", b"behind").await;
        scene.rig.intake.wait_for(|seen| seen.withheld() == 2).await;
        scene.rig.intake.behave(Behaviour::Accept);
        scene.hears(Said::PubRec(7)).await;
        assert_eq!(scene.rig.intake.acknowledged("0"), ["first", "behind"]);
    }
}

#[tokio::test]
async fn a_cut_that_swallows_the_pubrec() {
    for version in BOTH {
        for between in BETWEEN {
            let mut scene = Scene::begin(version).await;
            scene.peer().publish(Qos::ExactlyOnce, 7, "plant/a", b"first").await;
            scene.hears(Said::PubRec(7)).await;
            scene.cut(between).await;
            scene.reconnect(between).await;
            // As a broker does that never saw the PUBREC.
            scene.peer().publish_again(Qos::ExactlyOnce, 7, "plant/a", b"first").await;
            scene.hears(Said::PubRec(7)).await;
            scene.peer().release(7).await;
            scene.hears(Said::PubComp(7)).await;
            scene.end(7).await;
        }
    }
}

#[tokio::test]
async fn a_cut_between_pubrec_and_pubrel() {
    for version in BOTH {
        for between in BETWEEN {
            let mut scene = Scene::begin(version).await;
            scene.peer().publish(Qos::ExactlyOnce, 7, "plant/a", b"first").await;
            scene.hears(Said::PubRec(7)).await;
            scene.cut(between).await;
            scene.reconnect(between).await;
            scene.peer().release(7).await;
            scene.hears(Said::PubComp(7)).await;
            scene.end(7).await;
        }
    }
}

#[tokio::test]
async fn a_cut_between_pubrel_and_pubcomp() {
    for version in BOTH {
        for between in BETWEEN {
            let mut scene = Scene::begin(version).await;
            scene.peer().publish(Qos::ExactlyOnce, 7, "plant/a", b"first").await;
            scene.hears(Said::PubRec(7)).await;
            scene.rig.intake.behave(Behaviour::Withhold);
            scene.peer().release(7).await;
            scene.rig.intake.wait_for(|seen| seen.withheld() == 1).await;
            scene.cut(between).await;
            scene.rig.intake.behave(Behaviour::Accept);
            scene.reconnect(between).await;
            scene.peer().release(7).await;
            // Cut only, the release is on disk by now: whoever has it not needs not to be told that it is not found.
            let known = between == Between::Killed || version == Version::V3;
            scene.hears(if known { Said::PubComp(7) } else { Said::PubCompUnknown(7) }).await;
            scene.end(7).await;
        }
    }
}

#[tokio::test]
async fn a_cut_that_swallows_the_pubcomp() {
    for version in BOTH {
        for between in BETWEEN {
            let mut scene = Scene::begin(version).await;
            scene.peer().publish(Qos::ExactlyOnce, 7, "plant/a", b"first").await;
            scene.hears(Said::PubRec(7)).await;
            scene.peer().release(7).await;
            scene.hears(Said::PubComp(7)).await;
            scene.cut(between).await;
            scene.reconnect(between).await;
            scene.peer().release(7).await;
            scene.hears(if version == Version::V3 { Said::PubComp(7) } else { Said::PubCompUnknown(7) }).await;
            scene.end(7).await;
        }
    }
}

#[tokio::test]
async fn a_pubcomp_goes_out_only_when_the_release_is_on_disk() {
    for version in BOTH {
        let mut scene = Scene::begin(version).await;
        scene.peer().publish(Qos::ExactlyOnce, 7, "plant/a", b"first").await;
        scene.hears(Said::PubRec(7)).await;
        let held = scene.rig.intake.position("0");
        scene.rig.intake.behave(Behaviour::Withhold);
        scene.peer().release(7).await;
        scene.rig.intake.wait_for(|seen| seen.withheld() == 1).await;
        assert_eq!(scene.rig.intake.position("0"), held);
        scene.rig.intake.behave(Behaviour::Accept);
        scene.hears(Said::PubComp(7)).await;
        assert_ne!(scene.rig.intake.position("0"), held);
    }
}

#[tokio::test]
async fn a_broker_that_forgot_the_session_may_use_its_identifiers_anew() {
    for version in BOTH {
        for between in BETWEEN {
            let mut scene = Scene::begin(version).await;
            scene.peer().publish(Qos::ExactlyOnce, 7, "plant/a", b"first").await;
            scene.hears(Said::PubRec(7)).await;
            scene.cut(between).await;
            scene.rig.intake.behave(Behaviour::Withhold);
            let mut peer = scene.rig.broker.welcome(false).await;
            peer.publish(Qos::ExactlyOnce, 7, "plant/a", b"another").await;
            // What is held is let go of on disk before anything new is stored.
            scene.rig.intake.wait_for(|seen| seen.withheld() == 1).await;
            let batches = scene.rig.intake.batches();
            scene.rig.intake.release(1);
            scene.rig.intake.wait_for(|seen| seen.batches() == batches + 1).await;
            assert_eq!(scene.rig.intake.acknowledged("0"), ["first"]);
            scene.rig.intake.behave(Behaviour::Accept);
            assert_eq!(peer.hear().await, Said::PubRec(7));
            assert_eq!(scene.rig.intake.acknowledged("0"), ["first", "another"]);
        }
    }
}

#[tokio::test]
async fn what_is_held_survives_in_its_own_partition() {
    let mut rig = Rig::new(Version::V5).await;
    rig.settings.shape.partition_level = Some(1);
    let running = rig.start();
    let mut peer = rig.broker.welcome(false).await;
    for (id, topic) in [(1, "plant/a"), (2, "plant/b"), (3, "plant/a")] {
        peer.publish(Qos::ExactlyOnce, id, topic, b"x").await;
        assert_eq!(peer.hear().await, Said::PubRec(id));
    }
    running.kill(&rig.intake).await;
    let running = rig.start();
    drop(peer);
    let mut peer = rig.broker.welcome(true).await;
    for (id, topic) in [(1, "plant/a"), (2, "plant/b"), (3, "plant/a")] {
        peer.publish_again(Qos::ExactlyOnce, id, topic, b"x").await;
        assert_eq!(peer.hear().await, Said::PubRec(id));
        peer.release(id).await;
        assert_eq!(peer.hear().await, Said::PubComp(id));
    }
    assert_eq!((rig.intake.acknowledged("a").len(), rig.intake.acknowledged("b").len()), (2, 1));
    drop(running);
}

/// While the buffer is full the broker repeats the release on another connection. Were it answered before the disk has
/// it, the broker's next message with this identifier would be taken for the old one after a crash.
#[tokio::test]
async fn a_release_that_comes_again_is_answered_when_the_first_one_is_on_disk() {
    for version in BOTH {
        let mut scene = Scene::begin(version).await;
        scene.peer().publish(Qos::ExactlyOnce, 7, "plant/a", b"first").await;
        scene.hears(Said::PubRec(7)).await;
        scene.rig.intake.behave(Behaviour::Withhold);
        scene.peer().release(7).await;
        scene.rig.intake.wait_for(|seen| seen.withheld() == 1).await;
        scene.cut(Between::Cut).await;
        scene.reconnect(Between::Cut).await;
        scene.peer().release(7).await;
        scene.peer().publish(Qos::AtMostOnce, 0, "plant/a", b"behind").await;
        scene.rig.intake.wait_for(|seen| seen.withheld() == 2).await;
        scene.running.take().expect("it runs").kill(&scene.rig.intake).await;
        let peer = scene.peer.take().expect("there is a connection");
        assert_eq!(peer.hear_the_end().await, [], "the disk has heard of no release");
        scene.rig.intake.behave(Behaviour::Accept);
        scene.running = Some(scene.rig.start());
        scene.reconnect(Between::Killed).await;
        scene.peer().release(7).await;
        scene.hears(Said::PubComp(7)).await;
        scene.end(7).await;
    }
}

/// A broker that has forgotten a message may use its identifier for another, which then has not been sent before.
#[tokio::test]
async fn a_new_message_with_an_identifier_that_is_held_is_stored() {
    for version in BOTH {
        for topic in ["plant/a", "plant/b"] {
            let mut rig = Rig::new(version).await;
            rig.settings.shape.partition_level = Some(1);
            let running = rig.start();
            let mut peer = rig.broker.welcome(false).await;
            peer.publish(Qos::ExactlyOnce, 7, "plant/a", b"first").await;
            assert_eq!(peer.hear().await, Said::PubRec(7));
            peer.publish(Qos::ExactlyOnce, 7, topic, b"another").await;
            assert_eq!(peer.hear().await, Said::PubRec(7));
            running.kill(&rig.intake).await;
            drop(peer);
            let _running = rig.start();
            let mut peer = rig.broker.welcome(true).await;
            peer.publish_again(Qos::ExactlyOnce, 7, topic, b"another").await;
            assert_eq!(peer.hear().await, Said::PubRec(7));
            peer.release(7).await;
            assert_eq!(peer.hear().await, Said::PubComp(7));
            let stored = [rig.intake.acknowledged("a"), rig.intake.acknowledged("b")].concat();
            assert_eq!(stored, ["first", "another"]);
        }
    }
}
