//! The limit: rumqttc with its own event loop, which acknowledges by itself and throws away what comes.

use std::{sync::mpsc, thread, time::Duration};

use rumqttc::v5::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, mqttbytes::QoS};
use tokio::sync::oneshot;

/// A subscriber on a thread of its own, until it is dropped.
pub(super) struct Bare {
    counted: mpsc::Receiver<()>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Bare {
    /// Subscribes at the broker on `port`, to count `count` messages.
    pub(super) fn subscribe(port: u16, topic: &'static str, count: u64, window: u64) -> Self {
        let (subscribed, is_subscribed) = mpsc::channel();
        let (done, counted) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let mut options = MqttOptions::new("bare", "127.0.0.1", port);
                options.set_receive_maximum(Some(window as u16)).set_keep_alive(Duration::from_secs(60));
                let (client, events) = AsyncClient::new(options, 10);
                client.subscribe(topic, QoS::AtLeastOnce).await.expect("the queue has room");
                tokio::select! {
                    () = receive(events, count, &subscribed, &done) => {}
                    _ = stopped => {}
                }
            });
        });
        is_subscribed.recv().expect("the broker takes the subscription");
        Self { counted, stop: Some(stop), thread: Some(thread) }
    }

    /// Waits until all messages have come.
    pub(super) fn wait(&self) {
        self.counted.recv().expect("every message comes");
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

/// Goes on after the last message, so that it is acknowledged.
async fn receive(mut events: EventLoop, count: u64, subscribed: &mpsc::Sender<()>, done: &mpsc::Sender<()>) {
    let mut left = count;
    while let Ok(event) = events.poll().await {
        match event {
            Event::Incoming(Incoming::SubAck(_)) => subscribed.send(()).expect("somebody waits for it"),
            Event::Incoming(Incoming::Publish(message)) => {
                std::hint::black_box(message);
                left -= 1;
                if left == 0 {
                    // Where nobody counts, the broker waits for the last acknowledgement.
                    let _ = done.send(());
                }
            }
            _ => {}
        }
    }
}
