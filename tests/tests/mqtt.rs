//! Promises 1 and 3 for messages from a real broker, where they are hardest to keep: between a message's disk and its
//! acknowledgement, between one connection and the next, and between the four packets of a QoS 2 delivery.

use std::collections::BTreeMap;

use forebay_tests::{
    harness::{self, Agent, Gateway, read_output, wait_until},
    mqtt::{Manners, PacketTrap, Publisher, Quality, Snap, Version, kind},
    random::Random,
    servers::{Cut, Direction, Mosquitto, Proxy},
};

const VERSIONS: [Version; 2] = [Version::V3, Version::V5];
const DEDUPE: &str = "dedupe = { by = \"$.n\" }";

/// A broker, an agent that takes its messages into a file, and the way between them.
struct Rig {
    gateway: Gateway,
    proxy: Proxy,
    mosquitto: Mosquitto,
    manners: Manners,
}

impl Rig {
    /// With `source` added to the settings of the MQTT source.
    fn new(version: Version, source: &str) -> Self {
        let mosquitto = Mosquitto::start();
        let proxy = Proxy::new(mosquitto.port());
        let manners = Manners::watch(&proxy, version);
        let rig = Self { gateway: Gateway::new(), proxy, mosquitto, manners };
        let (version, port) = (if version == Version::V3 { "3.1.1" } else { "5" }, rig.proxy.port());
        rig.gateway.configure(&format!(
            "[buffer]\nmax_event_bytes = \"64KiB\"\n\n[sources.line]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:{port}\"\nversion = \"{version}\"\n\
             topics = [\"t/#\"]\nbuffer = {{ max_bytes = \"1MiB\" }}\n{source}\n\n\
             [sinks.out]\ntype = \"file\"\ninputs = [\"line\"]\npath = \"{{dir}}/out/files\"\n"
        ));
        rig
    }

    /// Starts an agent, and waits until it has subscribed.
    fn start(&self) -> Agent {
        let agent = self.gateway.start();
        wait_until("the agent to subscribe", || self.manners.subscriptions() > 0);
        agent
    }

    fn publisher(&self, quality: Quality) -> Publisher {
        Publisher::new("sensor", self.mosquitto.port(), quality, 20)
    }

    /// The numbers that came into the file.
    fn numbers(&self) -> Vec<u64> {
        let output = read_output(&self.gateway.path("out/files"), "out");
        let number = |body: Option<serde_json::Value>| body.as_ref().and_then(|body| body["n"].as_u64());
        output.records.into_iter().map(|record| number(record.body).expect("a number was sent")).collect()
    }

    /// Publishes one last message and waits until it is in the file: then all others have had their time.
    fn wait_for_end(&self, publisher: &mut Publisher, number: u64) {
        publish(publisher, number..number + 1, 0);
        publisher.finish();
        wait_until("the last message to be delivered", || self.numbers().contains(&number));
    }
}

/// Numbered messages, each with `pad` bytes that do not compress.
fn publish(publisher: &mut Publisher, numbers: impl IntoIterator<Item = u64>, pad: usize) {
    for number in numbers {
        let mut random = Random::new(number);
        let pad: String = (0..pad / 16).map(|_| format!("{:016x}", random.bits())).collect();
        publisher.publish("t/x", format!("{{\"n\":{number},\"pad\":\"{pad}\"}}"));
    }
}

/// Every number up to `last` is there once, and in order.
#[track_caller]
fn assert_once_each(numbers: &[u64], last: u64) {
    let counts = numbers.iter().fold(BTreeMap::<u64, u64>::new(), |mut counts, number| {
        *counts.entry(*number).or_default() += 1;
        counts
    });
    let missing: Vec<u64> = (0..=last).filter(|number| !counts.contains_key(number)).collect();
    let again: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    assert!(missing.is_empty() && again.is_empty(), "missing: {missing:?}; there again: {again:?}");
    let fall = numbers.windows(2).find(|pair| pair[0] > pair[1]);
    assert_eq!(fall, None, "out of order");
}

#[test]
fn at_qos_2_each_message_is_there_once_whichever_packet_is_lost_and_whoever_is_killed() {
    const BURST: u64 = 40;
    let mut random = Random::new(harness::seed());
    for version in VERSIONS {
        let rig = Rig::new(version, "qos = 2");
        let lost = [
            (Direction::ToClient, kind::PUBLISH),
            (Direction::ToServer, kind::PUBREC),
            // Between PUBREC and PUBREL.
            (Direction::ToClient, kind::PUBREL),
            (Direction::ToServer, kind::PUBCOMP),
        ];
        let traps = lost.map(|(direction, kind)| {
            [Snap::Cut, Snap::Hold].map(|snap| (PacketTrap::set(&rig.proxy, direction, kind, snap), snap))
        });
        let mut agent = rig.start();
        let mut publisher = rig.publisher(Quality::ExactlyOnce);
        let mut sent = 0;
        for (trap, snap) in traps.iter().flatten() {
            for skip in [0, random.below(BURST - 1)] {
                let before = trap.sprung();
                trap.arm(skip);
                publish(&mut publisher, sent..sent + BURST, 0);
                publisher.finish();
                sent += BURST;
                wait_until("the packet to be lost", || trap.sprung() > before);
                if *snap == Snap::Hold {
                    // Nothing goes on until the agent is gone.
                    agent.kill_9();
                    agent = rig.gateway.spawn();
                }
                // Mosquitto 2.0.11 forgets that it had sent a PUBREL if the connection is lost again before it has repeated
                // it, and sends the PUBLISH again, against MQTT-4.3.3: so one connection has to end well before the next
                // is lost.
                wait_until("everything to be delivered", || {
                    rig.numbers().len() as u64 == sent && rig.manners.owed() == 0
                });
            }
        }
        rig.wait_for_end(&mut publisher, sent);
        agent.wait_ready();
        assert!(agent.terminate().success());
        assert_once_each(&rig.numbers(), sent);
        assert_eq!(rig.manners.faults(), Vec::<String>::new(), "{version:?}");
    }
}

#[test]
fn a_message_whose_acknowledgement_died_with_the_agent_is_there_twice_and_with_dedupe_once() {
    for version in VERSIONS {
        for (source, expected) in [("", &[0, 0, 1][..]), (DEDUPE, &[0, 1])] {
            let rig = Rig::new(version, source);
            let trap = PacketTrap::set(&rig.proxy, Direction::ToServer, kind::PUBACK, Snap::Hold);
            let agent = rig.start();
            let mut publisher = rig.publisher(Quality::AtLeastOnce);
            trap.arm(0);
            publish(&mut publisher, 0..1, 0);
            wait_until("the message to be delivered", || rig.numbers() == [0]);
            wait_until("the acknowledgement to be held", || trap.sprung() == 1);
            agent.kill_9();
            let agent = rig.gateway.start();
            rig.wait_for_end(&mut publisher, 1);
            assert!(agent.terminate().success());
            assert_eq!(rig.numbers(), expected, "{version:?} {source}");
        }
    }
}

/// The buffer is full, so that receipts are outstanding, when the connection is cut: they come when the next one is there,
/// on which the broker has sent the same messages under the same packet identifiers.
#[test]
fn the_receipt_of_an_older_connection_acknowledges_nothing() {
    const MESSAGES: u64 = 400;
    const PAD: usize = 8 << 10;
    for version in VERSIONS {
        let rig = Rig::new(version, DEDUPE);
        rig.gateway.cut("out");
        let agent = rig.start();
        let mut publisher = rig.publisher(Quality::AtLeastOnce);
        publish(&mut publisher, 0..MESSAGES, PAD);
        publisher.finish();
        let held_back = |agent: &Agent| agent.log().iter().any(|line| line.contains("held back"));
        wait_until("the buffer to be full", || held_back(&agent));
        let answered = rig.manners.answers();
        assert!(answered < MESSAGES, "the buffer took everything, so that nothing is tried");

        for _ in 0..3 {
            let before = rig.proxy.made();
            rig.proxy.cut(Cut::Reset);
            wait_until("the broker to send again", || rig.proxy.made() > before && rig.manners.owed() > 0);
        }
        rig.gateway.mend("out");
        rig.wait_for_end(&mut publisher, MESSAGES);
        wait_until("everything to be acknowledged", || rig.manners.owed() == 0);
        assert!(agent.terminate().success());
        assert_once_each(&rig.numbers(), MESSAGES);
        assert_eq!(rig.manners.faults(), Vec::<String>::new(), "{version:?}");
    }
}

#[test]
fn a_broker_that_is_down_at_the_start_is_one_line_in_the_log_and_events_flow_when_it_comes() {
    let rig = Rig::new(Version::V5, "");
    let mut publisher = rig.publisher(Quality::AtLeastOnce);
    let agent = rig.start();
    assert!(agent.terminate().success(), "the session is there");
    rig.mosquitto.stop();

    let agent = rig.gateway.spawn();
    let lines = |agent: &Agent| -> Vec<String> {
        agent.log().into_iter().filter(|line| line.contains("source line")).collect()
    };
    wait_until("several attempts", || agent.source_errors() >= 4);
    assert_eq!(lines(&agent).len(), 1, "{:#?}", lines(&agent));
    rig.mosquitto.start_again();
    rig.wait_for_end(&mut publisher, 7);
    wait_until("the end to be logged", || lines(&agent).len() > 1);
    assert_eq!(lines(&agent).len(), 2, "{:#?}", lines(&agent));
    assert!(agent.terminate().success());
}
