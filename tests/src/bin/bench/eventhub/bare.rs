//! The limit: fe2o3-amqp as it is, with batches that were made before, and events that are thrown away. Each is a process
//! of its own, so that what it spends can be told from what others spend.

use std::{collections::VecDeque, future::Future, io::Read, sync::Arc};

use fe2o3_amqp::{
    Connection, Receiver, Sender, Session,
    connection::ConnectionHandle,
    link::{delivery::Sendable, receiver::CreditMode},
    sasl_profile::SaslProfile,
    session::SessionHandle,
    types::{
        messaging::{Batch, Body, Data, Message, Outcome, Source},
        primitives::{Binary, Value},
    },
};
use forebay::client::eventhub::Outgoing;
use forebay_buffer::Value as Property;
use forebay_tests::servers::EventHubs;
use tokio::{net::TcpStream, task::JoinSet};

use super::{HUB, PARTITIONS};
use crate::{child::Figures, telemetry::Telemetry};

/// Message format of a batch.
const BATCH_FORMAT: u32 = 0x8001_3700;
/// What the agent and SDKs ask for.
const MAX_FRAME_BYTES: u32 = 65_536;
const PREFETCH: u32 = 300;
/// Different batches; then they come again.
const DIFFERENT: usize = 4;

/// Sends `events` in batches of `batch`, `in_flight` of them to each partition at a time.
pub(crate) fn send(port: u64, events: u64, batch: u64, in_flight: u64) -> Figures {
    let mut telemetry = Telemetry::new(1);
    let batches: Arc<Vec<_>> = Arc::new((0..DIFFERENT).map(|_| prepare(&mut telemetry, batch)).collect());
    let each = events / PARTITIONS as u64;
    let last = Arc::new(prepare(&mut telemetry, each % batch));
    run(port, async |mut session| {
        let mut partitions = JoinSet::new();
        for partition in 0..PARTITIONS {
            let address = format!("{HUB}/Partitions/{partition}");
            let mut sender = Sender::attach(&mut session, address.clone(), address).await.expect("a hub takes senders");
            let (batches, last) = (Arc::clone(&batches), Arc::clone(&last));
            partitions.spawn(async move {
                let whole = batches.iter().cycle().take((each / batch) as usize);
                let rest = (!each.is_multiple_of(batch)).then_some(&*last);
                let mut under_way = VecDeque::new();
                for batch in whole.chain(rest) {
                    if under_way.len() as u64 == in_flight {
                        accepted(under_way.pop_front()).await;
                    }
                    under_way.push_back(sender.send_batchable_ref(batch).await.expect("a hub takes batches"));
                }
                while !under_way.is_empty() {
                    accepted(under_way.pop_front()).await;
                }
                sender
            });
        }
        let senders = partitions.join_all().await;
        done();
        drop(senders);
    })
}

/// Receives `events` from each partition.
pub(crate) fn receive(port: u64, events: u64) -> Figures {
    run(port, async |mut session| {
        let mut partitions = JoinSet::new();
        for partition in 0..PARTITIONS {
            let address = format!("{HUB}/ConsumerGroups/$Default/Partitions/{partition}");
            let receiver = Receiver::builder()
                .name(address.clone())
                .source(Source::builder().address(address).build())
                .credit_mode(CreditMode::Auto(PREFETCH))
                .auto_accept(true);
            let mut receiver = receiver.attach(&mut session).await.expect("a hub takes receivers");
            partitions.spawn(async move {
                for _ in 0..events {
                    std::hint::black_box(receiver.recv::<Body<Value>>().await.expect("a hub gives events"));
                }
                receiver
            });
        }
        let receivers = partitions.join_all().await;
        done();
        drop(receivers);
    })
}

/// A batch of messages such as the agent sends.
fn prepare(telemetry: &mut Telemetry, events: u64) -> Sendable<Batch<Data>> {
    let messages = (0..events).map(|number| {
        let (event, id) =
            (telemetry.event(), format!("gw-test/line1/0/0123456789abcdef/{}", (1_i64 << 40) + number as i64));
        let text = |text: &str| Property::String(text.to_owned());
        let properties = vec![("forebay_id", text(&id)), ("forebay_key", text("machine 1237"))];
        let outgoing = Outgoing {
            message_id: &id,
            creation_time: Some(event.time),
            application_properties: properties,
            body: event.body.as_deref(),
            ..Outgoing::default()
        };
        Data(Binary::from(outgoing.encode()))
    });
    let message = Message::builder().data_batch(messages.collect::<Vec<_>>()).build();
    Sendable { message, message_format: BATCH_FORMAT, settled: None }
}

async fn accepted<E: std::fmt::Debug>(sent: Option<impl Future<Output = Result<Outcome, E>>>) {
    let outcome = sent.expect("one is under way").await.expect("a hub answers");
    assert!(matches!(outcome, Outcome::Accepted(_)), "a batch is not taken: {outcome:?}");
}

/// Connects, and does `work` in a session.
fn run(port: u64, work: impl AsyncFnOnce(SessionHandle<()>)) -> Figures {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut connection = connect(port).await;
        let session = Session::begin(&mut connection).await.expect("a hub takes sessions");
        work(session).await;
    });
    Figures::new()
}

async fn connect(port: u64) -> ConnectionHandle<()> {
    let stream = TcpStream::connect(("127.0.0.1", port as u16)).await.expect("the hub listens");
    stream.set_nodelay(true).expect("a socket takes options");
    let login = SaslProfile::Plain { username: EventHubs::RULE.to_owned(), password: EventHubs::KEY.to_owned() };
    let builder = Connection::builder().container_id("bare").hostname("localhost").sasl_profile(login);
    builder.max_frame_size(MAX_FRAME_BYTES).open_with_stream(stream).await.expect("a hub lets its rules in")
}

/// Says that all is done, and waits until whoever measures has seen it.
fn done() {
    println!("done");
    let _ = std::io::stdin().read(&mut [0]);
}
