//! Statements ("Snowflake SQL API reference" in the vendor's documentation).

use std::{sync::Arc, time::Duration};

use percent_encoding::utf8_percent_encode;
use serde_json::{Map, Value as Json, json};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};
use ureq::http::Method;

use super::{
    Error, ResultSet, Snowflake, StatementError,
    exchange::Answer,
    login::Plane,
    request::{Ask, Content},
    result::{Begun, rows},
};
use crate::{client::https::ESCAPED, retry::Backoff};

const ROOT: &str = "/api/v2/statements";
/// The service answers after 45 seconds at the latest, if only that it is not done.
const ATTEMPT_PATIENCE: Duration = Duration::from_secs(60);
/// Having a statement cancelled may take this long.
const CANCEL_PATIENCE: Duration = Duration::from_secs(10);
/// The parts of a result after the first are no longer together.
const MAX_RESULT_BYTES: usize = 32 << 20;

/// A statement with what it needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// The text, with a `?` for each binding.
    pub text: String,
    /// One for each `?`.
    pub bindings: Vec<Value>,
    /// As SHOW prints it.
    pub database: Option<String>,
    /// As SHOW prints it.
    pub schema: Option<String>,
    /// As SHOW prints it.
    pub warehouse: Option<String>,
    /// As SHOW prints it. `None`: that of the settings.
    pub role: Option<String>,
    /// It may take this long, with all that is tried again. It is cancelled then.
    pub timeout: Duration,
}

/// A value for a `?`.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// NULL, of whatever type.
    Null,
    /// VARCHAR, and by PARSE_JSON(?) VARIANT.
    Text(String),
    /// NUMBER.
    Fixed(i64),
}

impl Value {
    fn json(&self) -> Json {
        let (kind, value) = match self {
            Self::Null => ("TEXT", None),
            Self::Text(text) => ("TEXT", Some(text.clone())),
            Self::Fixed(number) => ("FIXED", Some(number.to_string())),
        };
        json!({ "type": kind, "value": value })
    }
}

impl Snowflake {
    /// Carries out one statement, once. If this is given up, the statement is cancelled when it is known to run.
    pub async fn execute(self: &Arc<Self>, statement: Statement) -> Result<ResultSet, Error> {
        let (mut reply, answer) = oneshot::channel();
        let snowflake = Arc::clone(self);
        // It goes on by itself, so that what is given up can be cancelled.
        tokio::spawn(async move {
            let outcome = snowflake.carry_out(&statement, &mut reply).await;
            // Nobody waits for it any more: that is theirs to say.
            let _ = reply.send(outcome);
        });
        answer.await.unwrap_or_else(|_| Err(Error::Unknown("the agent is shutting down".to_owned())))
    }

    async fn carry_out<T>(
        self: &Arc<Self>,
        statement: &Statement,
        caller: &mut oneshot::Sender<T>,
    ) -> Result<ResultSet, Error> {
        let deadline = Instant::now() + statement.timeout;
        let ask = Ask::new(Plane::Sql, "carry out a statement", Method::POST, ROOT);
        let content = Content::Json(self.body(statement).to_string().into());
        let ask = Ask { patience: ATTEMPT_PATIENCE, is_delicate: true, ..ask.with(content) };
        let mut answer = judged(&ask, self.ask(&ask, deadline).await?)?;
        if answer.status == 202 {
            let handle = handle(&answer)?;
            let done = tokio::select! {
                done = self.done(&handle, deadline) => done,
                () = caller.closed() => Err(Error::Unknown("nobody waits for the statement".to_owned())),
            };
            answer = match done {
                Err(error) if error.statement().is_none() => {
                    self.cancel(&handle).await;
                    return Err(error);
                }
                done => done?,
            };
        }
        self.whole(begun(&answer)?, deadline).await
    }

    fn body(&self, statement: &Statement) -> Json {
        let mut body = json!({ "statement": statement.text, "timeout": statement.timeout.as_secs().max(1) });
        let role = statement.role.as_ref().or(self.settings().role.as_ref());
        for (name, value) in [
            ("database", statement.database.as_ref()),
            ("schema", statement.schema.as_ref()),
            ("warehouse", statement.warehouse.as_ref()),
            ("role", role),
        ] {
            if let Some(value) = value {
                body[name] = value.as_str().into();
            }
        }
        if !statement.bindings.is_empty() {
            let bindings = statement.bindings.iter().enumerate();
            let bindings: Map<_, _> = bindings.map(|(nth, value)| ((nth + 1).to_string(), value.json())).collect();
            body["bindings"] = bindings.into();
        }
        body
    }

    /// The answer when the statement is done.
    async fn done(self: &Arc<Self>, handle: &str, deadline: Instant) -> Result<Answer, Error> {
        let ask = about(handle, "ask how a statement goes", Method::GET, "");
        let mut backoff = Backoff::default();
        loop {
            let answer = judged(&ask, self.ask(&ask, deadline).await.map_err(unknown)?)?;
            if answer.status != 202 {
                return Ok(answer);
            }
            let pause = backoff.next();
            if Instant::now() + pause >= deadline {
                return Err(Error::Unknown(format!("the statement {handle} is not done in time, and is cancelled")));
            }
            sleep(pause).await;
        }
    }

    /// With all its parts.
    async fn whole(self: &Arc<Self>, begun: Begun, deadline: Instant) -> Result<ResultSet, Error> {
        let Begun { mut result, parts, handle, .. } = begun;
        let mut size_bytes = 0;
        for part in 1..parts {
            let ask = about(&handle, "get a part of a result", Method::GET, &format!("?partition={part}"));
            let answer = judged(&ask, self.ask(&ask, deadline).await.map_err(unknown)?)?;
            size_bytes += answer.size_bytes();
            if size_bytes > MAX_RESULT_BYTES {
                return Err(Error::Confused(format!("a result has more than {MAX_RESULT_BYTES} bytes: ask for less")));
            }
            let more = answer.json().and_then(|mut body| rows(body["data"].take()));
            result.rows.extend(more.ok_or_else(|| nonsense(&answer))?);
        }
        Ok(result)
    }

    /// As well as it can be done. It ends by its own timeout in any case.
    async fn cancel(self: &Arc<Self>, handle: &str) {
        let ask = about(handle, "cancel a statement", Method::POST, "/cancel").with(Content::Json("{}".into()));
        match self.ask(&ask, Instant::now() + CANCEL_PATIENCE).await {
            Ok(answer) => log::debug!("cancelling the statement {handle}: the service answers {}", answer.described()),
            Err(error) => log::debug!("the statement {handle} runs on: {error}"),
        }
    }
}

fn about(handle: &str, what: &str, method: Method, rest: &str) -> Ask {
    let path = format!("{ROOT}/{}{rest}", utf8_percent_encode(handle, ESCAPED));
    Ask { patience: ATTEMPT_PATIENCE, ..Ask::new(Plane::Sql, what, method, path) }
}

/// What an answer means that is not about the moment, nor about who we are.
fn judged(ask: &Ask, answer: Answer) -> Result<Answer, Error> {
    let message = || format!("cannot {}: the service answers {}", ask.what, answer.described());
    match answer.status {
        200 | 202 => Ok(answer),
        408 | 422 => Err(StatementError::read(&answer).into_error()),
        404 => Err(Error::Missing(format!("{}; look whether the account is the right one", message()))),
        413 => Err(Error::TooLarge(message())),
        _ => Err(Error::Confused(message())),
    }
}

/// A statement that runs may be carried out though nobody can be asked.
fn unknown(error: Error) -> Error {
    match error {
        Error::Retry { message, .. } | Error::Unauthorized(message) => Error::Unknown(message),
        error => error,
    }
}

fn handle(answer: &Answer) -> Result<String, Error> {
    let body = answer.json().unwrap_or_default();
    body["statementHandle"].as_str().map(str::to_owned).ok_or_else(|| nonsense(answer))
}

fn begun(answer: &Answer) -> Result<Begun, Error> {
    answer.json().and_then(Begun::read).ok_or_else(|| nonsense(answer))
}

/// It was carried out, so that much is known; but not what came of it.
fn nonsense(answer: &Answer) -> Error {
    Error::Unknown(format!("the answer to a statement makes no sense: {}", answer.described()))
}
