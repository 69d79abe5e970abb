//! A broker that keeps to the protocol, and connections and agents that do not last: each message of QoS 2 is stored
//! once and in order, and none of QoS 1 is missing.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    broker::{Peer, Said},
    rig::{BOTH, Rig},
};
use crate::{
    client::mqtt::{Qos, Version},
    source::testing::Behaviour,
};

const MESSAGES: u64 = 40;
const WINDOW: usize = 6;

/// What the broker knows of a message that is on its way.
#[derive(Debug, Clone, Copy)]
enum Sent {
    AtLeastOnce(u64),
    ExactlyOnce(u64),
    Received,
}

/// The broker's side of the session.
#[derive(Default)]
struct Session {
    /// By the order of sending.
    in_flight: BTreeMap<u64, (u16, Sent)>,
    next: u64,
    next_id: u16,
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

impl Session {
    fn is_done(&self) -> bool {
        self.next == MESSAGES && self.in_flight.is_empty()
    }

    async fn send_new(&mut self, peer: &mut Peer, random: &mut Random) {
        let number = self.next;
        self.next += 1;
        // Identifiers are used again as soon as they are free.
        let used: BTreeSet<_> = self.in_flight.values().map(|(id, _)| *id).collect();
        while self.next_id == 0 || used.contains(&self.next_id) {
            self.next_id = (self.next_id + 1) % 8;
        }
        let (id, body) = (self.next_id, number.to_string());
        let exactly = random.below(3) > 0;
        let sent = if exactly { Sent::ExactlyOnce(number) } else { Sent::AtLeastOnce(number) };
        self.in_flight.insert(number, (id, sent));
        let qos = if exactly { Qos::ExactlyOnce } else { Qos::AtLeastOnce };
        peer.publish(qos, id, &format!("plant/{}", number % 2), body.as_bytes()).await;
    }

    async fn send_again(&self, peer: &mut Peer) {
        for (id, sent) in self.in_flight.values() {
            let (qos, number) = match sent {
                Sent::Received => {
                    peer.release(*id).await;
                    continue;
                }
                Sent::AtLeastOnce(number) => (Qos::AtLeastOnce, number),
                Sent::ExactlyOnce(number) => (Qos::ExactlyOnce, number),
            };
            peer.publish_again(qos, *id, &format!("plant/{}", number % 2), number.to_string().as_bytes()).await;
        }
    }

    async fn hear(&mut self, said: Said, peer: &mut Peer) {
        let order = |id: u16| self.in_flight.iter().find(|(_, (held, _))| *held == id).map(|(order, _)| *order);
        match said {
            Said::Subscribe { id, .. } => peer.grant(id, &[2]).await,
            Said::PubAck(id) | Said::PubComp(id) | Said::PubCompUnknown(id) => {
                let order = order(id).expect("it answers what was sent");
                self.in_flight.remove(&order);
            }
            Said::PubRec(id) => {
                let order = order(id).expect("it answers what was sent");
                self.in_flight.insert(order, (id, Sent::Received));
                peer.release(id).await;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Runs one seed to its end.
async fn run(version: Version, seed: u64) {
    let mut random = Random(seed);
    let mut rig = Rig::new(version).await;
    rig.settings.shape.partition_level = Some(1);
    let mut running = rig.start();
    let mut session = Session::default();
    let mut known = false;
    while !session.is_done() {
        let mut peer = rig.broker.accept().await;
        peer.welcome(std::mem::replace(&mut known, true)).await;
        session.send_again(&mut peer).await;
        for _ in 0..=random.below(24) {
            match random.below(6) {
                0 => rig.intake.behave(if random.below(2) == 0 { Behaviour::Withhold } else { Behaviour::Accept }),
                1 => rig.intake.release(1),
                2 | 3 => {
                    // While the buffer takes nothing, too.
                    if let Some(said) = peer.hear_now().await {
                        session.hear(said, &mut peer).await;
                    }
                }
                _ if session.next < MESSAGES && session.in_flight.len() < WINDOW => {
                    session.send_new(&mut peer, &mut random).await;
                }
                _ if !session.in_flight.is_empty() => {
                    rig.intake.behave(Behaviour::Accept);
                    if let Some(said) = peer.hear_all().await {
                        session.hear(said, &mut peer).await;
                    }
                }
                _ => {}
            }
        }
        drop(peer);
        if random.below(2) == 0 {
            running.kill(&rig.intake).await;
            running = rig.start();
        }
    }
    rig.intake.behave(Behaviour::Accept);
    running.kill(&rig.intake).await;

    let mut all = BTreeSet::new();
    for partition in ["0", "1"] {
        let stored = rig.intake.stored(partition);
        let events = stored.iter().flat_map(|batch| &batch.events);
        let mut exactly = Vec::new();
        for event in events {
            let body = event.body.as_deref().and_then(|body| std::str::from_utf8(body).ok());
            let number: u64 = body.and_then(|body| body.parse().ok()).expect("a number");
            all.insert(number);
            if event.headers.iter().any(|(name, value)| name == "qos" && *value == forebay_buffer::Value::Integer(2)) {
                exactly.push(number);
            }
        }
        assert!(exactly.is_sorted_by(|a, b| a < b), "seed {seed} of {version:?}, partition {partition}: {exactly:?}");
    }
    assert_eq!(all.len() as u64, MESSAGES, "seed {seed} of {version:?}");
}

/// Promises 1, 3 and 4.
#[tokio::test]
async fn whatever_is_cut_or_killed_each_message_is_stored() {
    for seed in 0..60 {
        for version in BOTH {
            let patience = std::time::Duration::from_secs(60);
            let done = tokio::time::timeout(patience, run(version, seed)).await;
            done.unwrap_or_else(|_| panic!("seed {seed} of {version:?} does not end"));
        }
    }
}
