//! What is lost with a full buffer, counted by the intake as it is (Promise 6).

use std::{sync::Arc, time::Duration};

use forebay_buffer::{Buffer, Options, Start, StreamLimits, WhenFull};
use tokio::sync::watch;

use super::{super::Mqtt, broker::Peer, rig::Rig};
use crate::{
    client::mqtt::{Qos, Version},
    contract::{Intake, Shutdown},
    fence::Fences,
    intake::IntakeLoop,
    source::testing::clock,
};

const MESSAGES: u64 = 600;

async fn publish(peer: &mut Peer, topic: &str) {
    let mut body = vec![0; 1 << 10];
    getrandom::fill(&mut body).expect("the system has random bytes");
    peer.publish(Qos::AtMostOnce, 0, topic, &body).await;
}

fn lost_of(buffer: &Buffer, partition: &str) -> u64 {
    let losses = buffer.inspector().expect("the buffer is open").losses().expect("the ledger can be read");
    losses.iter().filter(|loss| loss.partition == partition).map(|loss| loss.events).sum()
}

#[tokio::test]
async fn each_message_of_qos_0_is_stored_or_in_the_ledger_after_a_stop_with_a_full_buffer() {
    for intake_hears_first in [true, false] {
        let mut rig = Rig::new(Version::V5).await;
        rig.settings.qos = Qos::AtMostOnce;
        rig.settings.shape.partition_level = Some(1);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let buffer = Options::new(directory.path().join("buffer.db"), clock()).open().expect("opens");
        let limits = StreamLimits { max_bytes: 128 << 10, max_age: None, when_full: WhenFull::Backpressure };
        buffer.declare_stream("line1", limits).expect("a new buffer takes a stream");
        buffer.declare_sink("files", &["line1"], Start::Oldest, 1 << 20).expect("the stream is there");
        let (full, is_full) = watch::channel(false);
        let (intake, requests) = Intake::new(is_full);
        let intake_loop = IntakeLoop {
            stream: "line1".to_owned(),
            max_bytes: limits.max_bytes,
            buffer: buffer.clone(),
            requests,
            full,
            progress: Arc::clone(&rig.progress),
            fences: Fences::default(),
        };
        let (stop_intake, shutdown) = Shutdown::new();
        let taking_in = tokio::spawn(intake_loop.run(shutdown));
        let (stop_source, shutdown) = Shutdown::new();
        let mut source = Mqtt::new(rig.settings.clone(), "gw", "line1", clock(), Arc::clone(&rig.progress));
        let source = tokio::spawn(async move { source.run(intake, shutdown).await });

        let mut peer = rig.broker.welcome(false).await;
        for _ in 0..MESSAGES {
            publish(&mut peer, "plant/a").await;
        }
        let in_time = tokio::time::timeout(Duration::from_secs(60), async {
            // Nothing is dropped before something waits, and then all of it is, in order.
            while lost_of(&buffer, "last") == 0 {
                publish(&mut peer, "plant/last").await;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        in_time.await.expect("the ledger says at once what is lost");

        let before = lost_of(&buffer, "a");
        let (first, then) = if intake_hears_first { (stop_intake, stop_source) } else { (stop_source, stop_intake) };
        first.send_replace(true);
        if intake_hears_first {
            // What it handed over is refused before it is told to stop.
            peer.hear_the_end().await;
        }
        then.send_replace(true);
        let ended = tokio::time::timeout(Duration::from_secs(60), source).await;
        ended.expect("it ends").expect("it does not panic").expect_err("not all was taken");
        taking_in.await.expect("it does not panic").expect("the buffer is well");
        let status = buffer.status().expect("the buffer is open");
        let stored: u64 = status.streams[0].partitions.iter().filter(|p| p.name == "a").map(|p| p.events).sum();
        let after = lost_of(&buffer, "a");
        assert!(stored + before < MESSAGES, "something was on its way when it was told to stop");
        assert_eq!(stored + after, MESSAGES, "{stored} are stored and {after} in the ledger");
    }
}
