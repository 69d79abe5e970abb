//! Receiving: events of one partition, as many as there is credit for.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use fe2o3_amqp::{
    Receiver as AmqpReceiver,
    link::{
        RecvError,
        delivery::{Delivery, DeliveryInfo},
        receiver::CreditMode,
    },
    types::{
        definitions::{Fields, SenderSettleMode},
        messaging::{FilterSet, Source, Target},
        primitives::{Symbol, Value},
    },
};
use serde_amqp::{described::Described, descriptor::Descriptor};

use super::{
    Error, Received, ReceiverOptions, Start,
    connection::Inner,
    frames::{Wrapped, payload},
    link::Session,
    message,
};

/// The name of a filter, and of what describes its value.
const SELECTOR: &str = "apache.org:selector-filter:string";
/// Frames that one event may come in.
const MAX_FRAMES: usize = 20;

/// Receives from one partition.
pub struct Receiver {
    /// Dropped before the session, so that it says goodbye.
    link: AmqpReceiver,
    session: Session,
    prefetch: u32,
    prefetch_bytes: usize,
    /// How large events are: the largest of late.
    typical_bytes: usize,
    /// Events that may be under way or held. It begins with one and doubles with each that comes, for how large they are is
    /// not known before.
    window: u32,
    /// Credit is being given, or that was interrupted and is to be done again.
    is_giving: bool,
    /// Why there will be no more events: what is behind one that could not be had is not to be had either.
    failed: Option<Error>,
    /// Received, and not accepted: oldest first.
    held: VecDeque<DeliveryInfo>,
    what: String,
    _connection: Arc<Inner>,
}

impl Receiver {
    pub(super) async fn attach(connection: &Arc<Inner>, options: &ReceiverOptions) -> Result<Self, Error> {
        let ReceiverOptions { consumer_group, partition, prefetch, .. } = options;
        let address = format!("{}/ConsumerGroups/{consumer_group}/Partitions/{partition}", connection.hub);
        let what = format!("a receiver of {address}");
        let prefetch = (*prefetch).max(1);
        let (session, link) = Session::attach(connection, &what, async |session| {
            let mut builder = AmqpReceiver::builder()
                .name(format!("receiver-{:08x}", getrandom::u32().unwrap_or_default()))
                .source(Source::builder().address(address.as_str()).filter(filter(&options.start)).build())
                .target(Target::builder().address(options.name.as_str()).build())
                .sender_settle_mode(SenderSettleMode::Settled)
                .credit_mode(CreditMode::Manual)
                .properties(properties(options));
            // What there is credit for must fit in, for a full queue stops the whole connection.
            builder.buffer_size = MAX_FRAMES * prefetch as usize;
            if options.track_last_enqueued {
                builder = builder.add_desired_capabilities("com.microsoft:enable-receiver-runtime-metric");
            }
            builder.attach(session).await
        })
        .await?;
        let mut receiver = Self {
            link,
            session,
            prefetch,
            prefetch_bytes: options.prefetch_bytes,
            typical_bytes: 1,
            window: 1,
            is_giving: false,
            failed: None,
            held: VecDeque::new(),
            what,
            _connection: Arc::clone(connection),
        };
        receiver.refill().await?;
        Ok(receiver)
    }

    /// The next event. Waits for as long as the partition is empty, and ends when link, session or connection does. It
    /// can be dropped and called again.
    pub async fn receive(&mut self) -> Result<Received, Error> {
        self.check()?;
        self.refill().await?;
        let received = tokio::select! {
            biased;
            received = self.link.recv::<Wrapped>() => received,
            error = self.session.end.wait() => return Err(self.fail(error)),
        };
        self.take(received)
    }

    /// The next event if it is here already.
    pub fn try_receive(&mut self) -> Option<Result<Received, Error>> {
        if let Err(error) = self.check() {
            return Some(Err(error));
        }
        let received = match pin!(self.link.recv::<Wrapped>()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(received) => received,
            Poll::Pending => return None,
        };
        Some(self.take(received))
    }

    /// Whether so many are held that no more are asked for until some are accepted.
    pub fn is_full(&self) -> bool {
        self.held.len() >= self.window as usize
    }

    /// The `count` oldest events that were received are on disk: as many more may come. Without this no more than
    /// [`ReceiverOptions::prefetch`] come.
    pub async fn accept(&mut self, count: u32) -> Result<(), Error> {
        self.check()?;
        let count = self.held.len().min(count as usize);
        let accepted: Vec<_> = self.held.drain(..count).collect();
        // The service does not wait to hear it; others may.
        let work = async { self.link.accept_all(accepted).await.map_err(Error::from) };
        let accepted = self.session.within("accepting events", work).await;
        accepted.map_err(|error| self.fail(error))?;
        self.refill().await
    }

    /// Lets the partition go.
    pub async fn close(self) {
        let Self { link, session, .. } = self;
        // Who does not answer will find out.
        let _ = session.within("closing the receiver", async { link.close().await.map_err(Error::from) }).await;
    }

    fn take(&mut self, received: Result<Delivery<Wrapped>, RecvError>) -> Result<Received, Error> {
        let delivery = received.map_err(|error| self.fail(error.into()))?;
        let (info, message) = delivery.into_parts();
        self.held.push_back(info);
        let received = message::received(payload(message.body));
        self.typical_bytes = (self.typical_bytes - self.typical_bytes / 64).max(received.size_bytes);
        let limit = u32::try_from(self.prefetch_bytes / self.typical_bytes).unwrap_or(u32::MAX);
        self.window = self.window.saturating_mul(2).min(limit).clamp(1, self.prefetch);
        Ok(received)
    }

    /// Asks for more, if there is enough to ask for: fewer where they are large.
    async fn refill(&mut self) -> Result<(), Error> {
        let credit = self.link.credit();
        let wanted = self.window.saturating_sub(u32::try_from(self.held.len()).unwrap_or(u32::MAX));
        let is_enough = wanted <= credit || (credit > 0 && wanted - credit < self.window.div_ceil(4));
        if is_enough && !self.is_giving {
            return Ok(());
        }
        self.is_giving = true;
        let work = async { self.link.set_credit(wanted.max(credit)).await.map_err(Error::from) };
        let asked = self.session.within("asking for events", work).await;
        asked.map_err(|error| self.fail(error))?;
        self.is_giving = false;
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// It ends with this error, and says so each time it is asked.
    fn fail(&mut self, error: Error) -> Error {
        let error = self.session.broken(error).while_doing(&self.what);
        self.failed.get_or_insert(error).clone()
    }
}

fn filter(start: &Start) -> FilterSet {
    let (name, value) = match start {
        Start::Oldest => ("offset", "-1".to_owned()),
        Start::Latest => ("offset", "@latest".to_owned()),
        Start::AfterOffset(offset) => ("offset", offset.replace('\'', "''")),
        Start::AfterSequenceNumber(number) => ("sequence-number", number.to_string()),
        Start::EnqueuedAfter(time) => ("enqueued-time", time.0.div_euclid(1_000).to_string()),
    };
    let expression = Value::String(format!("amqp.annotation.x-opt-{name} > '{value}'"));
    let descriptor = Descriptor::Name(Symbol::from(SELECTOR));
    let described = Value::Described(Box::new(Described { descriptor, value: expression }));
    [(Symbol::from(SELECTOR), described)].into_iter().collect()
}

fn properties(options: &ReceiverOptions) -> Fields {
    let mut properties = Fields::new();
    properties.insert("com.microsoft:receiver-name".into(), Value::String(options.name.clone()));
    if let Some(level) = options.owner_level {
        properties.insert("com.microsoft:epoch".into(), Value::Long(level));
    }
    properties
}
