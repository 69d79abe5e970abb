//! Questions and answers over a pair of links: `$cbs`, and `$management`.

use std::sync::Arc;

use fe2o3_amqp::{
    Receiver, Sender,
    session::SessionHandle,
    types::{
        messaging::{ApplicationProperties, Message as Question, Properties, Source, Target},
        primitives::{SimpleValue, Value as Asked},
    },
};

use super::{
    Class, Error,
    connection::{Inner, Shown},
    decode::{self, Body, Message, Value},
    frames::{Wrapped, payload},
    line::Line,
    link::Session,
    tokens::Token,
};

/// The place of that among a message's properties.
const CORRELATION_ID: usize = 5;
/// Answers that may be under way: one, and those that nobody waits for any more.
const CREDIT: u32 = 10;

/// A pair of links to one node. Questions are asked one after the other.
pub(super) struct Requests {
    node: &'static str,
    place: Arc<str>,
    session: Session,
    line: Arc<Line>,
    token: Shown,
    sender: Sender,
    receiver: Receiver,
    asked: u64,
}

impl Requests {
    /// Attaches both links.
    pub(super) async fn attach(connection: &Arc<Inner>, node: &'static str) -> Result<Self, Error> {
        let links = async |session: &mut SessionHandle<()>| -> Result<_, Error> {
            let sender = Sender::builder().name(format!("{node}-sender")).target(node).attach(session).await?;
            let receiver = Receiver::builder()
                .name(format!("{node}-receiver"))
                .source(Source::builder().address(node).build())
                .target(Target::builder().address(node).build())
                .credit_mode(fe2o3_amqp::link::receiver::CreditMode::Auto(CREDIT))
                .attach(session)
                .await?;
            Ok((sender, receiver))
        };
        let (session, (sender, receiver)) = Session::attach(connection, node, links).await?;
        let Inner { place, line, token, .. } = &**connection;
        let (place, line, token) = (Arc::clone(place), Arc::clone(line), Arc::clone(token));
        Ok(Self { node, place, session, line, token, sender, receiver, asked: 0 })
    }

    /// `HOST/HUB`.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Ends the connection: it can have no other pair of links to this node, and tokens are made anew with another.
    pub(super) fn give_up(&self, error: Error) {
        let class = if error.class == Class::Detached { Class::Lost } else { error.class };
        self.line.end.set(self.line.judged(Error { class, ..error }));
    }

    /// Shows a token for `audience`.
    pub(super) async fn put_token(&mut self, audience: &str, token: &Token) -> Result<(), Error> {
        let properties = [("operation", "put-token"), ("type", token.kind), ("name", audience)];
        self.ask(&properties, Asked::String(token.secret.expose().to_owned())).await?;
        *self.token.lock().expect("no holder of this lock panics") = Some(token.secret.clone());
        Ok(())
    }

    /// Lets the peer hear that we are there: by credit, which it has already.
    pub(super) async fn say_something(&mut self) -> Result<(), Error> {
        let (session, receiver) = (&self.session, &mut self.receiver);
        session.within(self.node, async { receiver.set_credit(CREDIT).await.map_err(Error::from) }).await
    }

    /// Asks, and waits for the answer's body. An error leaves the pair usable unless it is one of link or connection.
    pub(super) async fn ask(&mut self, properties: &[(&str, &str)], body: Asked) -> Result<Value, Error> {
        self.asked += 1;
        let (id, node) = (self.asked, self.node);
        let application =
            properties.iter().map(|(name, value)| ((*name).to_owned(), SimpleValue::String((*value).to_owned())));
        let question = Question::builder()
            .properties(Properties::builder().message_id(id).reply_to(node).build())
            .application_properties(ApplicationProperties(application.collect()))
            .value(body)
            .build();
        let (sender, receiver) = (&mut self.sender, &mut self.receiver);
        let work = async {
            sender.send(question).await?;
            loop {
                let delivery = receiver.recv::<Wrapped>().await?;
                receiver.accept(&delivery).await?;
                let (message, whole) = decode::message(&payload(delivery.into_body()));
                // Else it is a late answer to a question that was given up.
                if message.properties.get(CORRELATION_ID) == Some(&Value::Unsigned(id)) {
                    whole.map_err(|why| {
                        Error::new(Class::Detached, format!("the answer is no message of AMQP: {why}"))
                    })?;
                    return answer(message);
                }
            }
        };
        let asked = self.session.within(node, work).await;
        let asked = asked.map_err(|error| error.while_doing(format_args!("asking {node}")));
        // Whether a token that is refused ends the connection is for who shows it.
        asked.map_err(|error| match error.class {
            Class::Unauthorized => error,
            _ => self.line.judged(error),
        })
    }
}

/// The body of a good answer, the error of a bad one.
fn answer(message: Message) -> Result<Value, Error> {
    let property =
        |name: &str| message.application_properties.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    let text = |name: &str| property(name).and_then(Value::text).map(str::to_owned);
    let status = property("status-code").and_then(Value::integer);
    if status.is_some_and(|status| (200..300).contains(&status)) {
        return Ok(match message.body {
            Body::Value(value) => value,
            _ => Value::Null,
        });
    }
    let description = text("status-description").unwrap_or_default();
    if let Some(condition) = text("error-condition") {
        return Err(Error::of_condition(&condition, Some(&description)));
    }
    let condition = match status {
        Some(401 | 403) => "amqp:unauthorized-access",
        Some(404 | 410) => "amqp:not-found",
        Some(429 | 503) => "com.microsoft:server-busy",
        Some(status @ 400..500) if status != 408 => "amqp:not-allowed",
        // It is the service's trouble, or no answer at all: neither lasts, and neither is known to be the connection's.
        _ => "com.microsoft:timeout",
    };
    let mut error = Error::of_condition(condition, Some(&description));
    let status = status.map_or("no status".to_owned(), |status| format!("status {status}"));
    error.message = format!("{status}: {description}");
    Err(error)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// What an answer with this status is to us.
    fn answered(status: Option<Value>) -> Result<Value, Class> {
        let application_properties = status.map(|status| ("status-code".to_owned(), status)).into_iter().collect();
        let message = Message { application_properties, body: Body::Value(Value::Boolean(true)), ..Message::default() };
        answer(message).map_err(|error| error.class)
    }

    #[test]
    fn a_status_is_read_whatever_kind_of_integer_it_is() {
        for status in [Value::Signed(202), Value::Unsigned(202)] {
            assert_eq!(answered(Some(status.clone())), Ok(Value::Boolean(true)), "{status:?}");
        }
    }

    #[test]
    fn only_what_is_wrong_with_the_question_is_refused() {
        let busy = Class::Busy(Duration::from_secs(4));
        for (status, class) in [
            (400, Class::Refused),
            (401, Class::Unauthorized),
            (404, Class::NotFound),
            (408, Class::Detached),
            (429, busy),
            (500, Class::Detached),
            (501, Class::Detached),
            (503, busy),
            (504, Class::Detached),
            (0, Class::Detached),
        ] {
            assert_eq!(answered(Some(Value::Signed(status))), Err(class), "{status}");
        }
        for none in [None, Some(Value::String("202".to_owned())), Some(Value::Unsigned(u64::MAX))] {
            assert_eq!(answered(none.clone()), Err(Class::Detached), "{none:?}");
        }
    }
}
