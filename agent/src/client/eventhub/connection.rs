//! One connection, and the task that watches over it.

use std::{sync::Arc, time::Duration};

use fe2o3_amqp::{
    connection::{Connection as Amqp, ConnectionHandle},
    sasl_profile::SaslProfile,
    session::{Session, SessionHandle},
};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};

use super::{
    Error, Receiver, ReceiverOptions, Sender,
    end::End,
    error::Class,
    frames::{Frames, MAX_FRAME_BYTES},
    line::Line,
    requests::Requests,
    stream::Stream,
    tokens::{Token, Tokens},
    transport::Way,
};
use crate::{retry::Backoff, secret::Secret};

/// Sessions that one connection may have.
const MAX_CHANNEL: u16 = 4_999;
/// How long a token may take: sources of identities are asked one after the other.
const TOKEN_PATIENCE: Duration = Duration::from_secs(120);
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// A connection to a hub. It closes when the last clone, sender and receiver of it is gone.
#[derive(Clone)]
pub struct Connection {
    pub(super) inner: Arc<Inner>,
}

/// A token that was shown.
pub(super) type Shown = Arc<std::sync::Mutex<Option<Secret>>>;

/// What all that is on a connection shares.
pub(super) struct Inner {
    pub(super) hub: String,
    /// `HOST/HUB`.
    pub(super) place: Arc<str>,
    pub(super) line: Arc<Line>,
    /// After the goodbye.
    closed: Arc<End>,
    pub(super) management: Mutex<Option<Requests>>,
    /// The last token that was shown.
    pub(super) token: Shown,
    /// For a session. Dropped, the connection closes.
    begins: mpsc::Sender<oneshot::Sender<Result<SessionHandle<()>, Error>>>,
}

impl Inner {
    /// A new session: it comes in time, or the connection ends.
    pub(super) async fn begin(&self) -> Result<SessionHandle<()>, Error> {
        let (answer, answered) = oneshot::channel();
        // Where nobody takes or answers it, the connection has ended.
        self.begins.send(answer).await.ok();
        match answered.await {
            Ok(begun) => begun,
            Err(_) => Err(self.line.end.wait().await),
        }
    }
}

impl Connection {
    /// Connects, and shows what lets us in.
    pub(super) async fn open(
        way: &Way,
        hub: &str,
        place: Arc<str>,
        tokens: Tokens,
        (patience, idle): (Duration, Duration),
    ) -> Result<Self, Error> {
        let doing = || format!("connecting to {place}");
        let audience = format!("sb://{}/{hub}", way.endpoint().host);
        let token =
            within(TOKEN_PATIENCE, tokens.token(&audience)).await.map_err(|error| error.while_doing(doing()))?;
        let (line, closed) = (Arc::new(Line::new(patience)), Arc::new(End::default()));
        let attempt = async {
            let stream = Frames::new(Stream::new(way.open().await?, Arc::clone(&closed), patience));
            let builder = Amqp::builder()
                .container_id(container_id())
                .hostname(way.endpoint().host.as_str())
                .max_frame_size(MAX_FRAME_BYTES)
                .channel_max(MAX_CHANNEL)
                .idle_time_out(u32::try_from(idle.as_millis()).unwrap_or(u32::MAX))
                .sasl_profile(SaslProfile::Anonymous);
            // Queues within are left as deep as they are: a full one would stop the task that is to empty it. What is in
            // them is bounded by what is in flight and by credit.
            builder.open_with_stream(stream).await.map_err(Error::from)
        };
        let handle = match timeout(patience, attempt).await {
            Ok(opened) => opened.map_err(|error| error.while_doing(doing()))?,
            Err(_) => return Err(Error::silent(doing(), patience)),
        };
        let (begins, begun) = mpsc::channel(1);
        let inner = Arc::new(Inner {
            hub: hub.to_owned(),
            place: Arc::clone(&place),
            line: Arc::clone(&line),
            closed: Arc::clone(&closed),
            management: Mutex::default(),
            token: Shown::default(),
            begins,
        });
        tokio::spawn(watch(handle, begun, Arc::clone(&line), closed));
        let opened = Self { inner };
        match opened.let_in(audience, tokens, token, idle).await {
            Ok(()) => Ok(opened),
            Err(mut error) => {
                line.end.set(error.clone());
                if error.class == Class::Detached {
                    error.class = Class::Lost;
                }
                Err(error.while_doing(doing()))
            }
        }
    }

    /// Shows `token`, and goes on showing tokens for as long as the connection lives.
    async fn let_in(&self, audience: String, tokens: Tokens, token: Token, idle: Duration) -> Result<(), Error> {
        let mut cbs = Requests::attach(&self.inner, "$cbs").await?;
        let shown = show(&mut cbs, &audience, &tokens, token).await;
        let token = shown.map_err(|error| Error { message: format!("{error}{}", advice(&tokens, &error)), ..error })?;
        let line = Arc::clone(&self.inner.line);
        tokio::spawn(async move {
            tokio::select! {
                () = renew(cbs, audience, tokens, token, idle) => {}
                _ = line.end.wait() => {}
            }
        });
        Ok(())
    }

    /// A link to one partition, or to the hub, which then chooses.
    pub async fn sender(&self, partition: Option<&str>) -> Result<Sender, Error> {
        Sender::attach(&self.inner, partition).await
    }

    /// A link from one partition.
    pub async fn receiver(&self, options: &ReceiverOptions) -> Result<Receiver, Error> {
        Receiver::attach(&self.inner, options).await
    }

    /// Whether it has not ended yet.
    pub fn is_alive(&self) -> bool {
        self.inner.line.end.get().is_none()
    }

    /// Resolves when the connection is dead, with the reason.
    pub async fn ended(&self) -> Error {
        self.inner.line.end.wait().await
    }

    /// Says goodbye, and waits a moment for the answer. It ends for all who share it.
    pub async fn close(self) {
        self.inner.line.end.set(closed_here());
        self.inner.closed.wait().await;
    }
}

async fn within(patience: Duration, token: impl Future<Output = Result<Token, Error>>) -> Result<Token, Error> {
    timeout(patience, token).await.unwrap_or_else(|_| Err(Error::silent("asking for a token", patience)))
}

/// Shows a token, or another in place of one that the service would not have. Returns the one that it has taken.
async fn show(cbs: &mut Requests, audience: &str, tokens: &Tokens, token: Token) -> Result<Token, Error> {
    let refused = match cbs.put_token(audience, &token).await {
        Ok(()) => {
            tokens.taken(&token);
            return Ok(token);
        }
        Err(error) => error,
    };
    if refused.class != Class::Unauthorized {
        return Err(refused);
    }
    let Some(fresh) = tokens.fresh(&token).await else { return Err(refused) };
    let fresh = fresh?;
    cbs.put_token(audience, &fresh).await?;
    Ok(fresh)
}

/// Shows another token before the last one ends, and lets something be heard of us every `idle`. What ends the links to
/// `$cbs` ends the connection, and so does a refusal when the last token ends; the next one begins with what the files
/// hold by then.
async fn renew(mut cbs: Requests, audience: String, tokens: Tokens, mut shown: Token, idle: Duration) {
    let mut renew_at = shown.renew_at;
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
    loop {
        // The AMQP library says something only when the peer's whole patience is over.
        let next_word = Instant::now() + idle;
        match renew_at {
            Some(renew_at) if renew_at <= next_word => sleep_until(renew_at).await,
            _ => {
                sleep_until(next_word).await;
                match cbs.say_something().await {
                    Ok(()) => continue,
                    Err(error) => return cbs.give_up(error),
                }
            }
        }
        let renewed = async {
            let token = within(TOKEN_PATIENCE, tokens.token(&audience)).await?;
            show(&mut cbs, &audience, &tokens, token).await
        };
        renew_at = match renewed.await {
            Ok(token) => {
                backoff.reset();
                shown = token;
                shown.next_at()
            }
            Err(error)
                if matches!(error.class, Class::Lost | Class::Detached)
                    || (error.class == Class::Unauthorized && !shown.holds()) =>
            {
                let message = format!("renewing the token: {error}{}", advice(&tokens, &error));
                return cbs.give_up(Error { message, ..error });
            }
            // The clock may be wrong, and be set right before the last one ends.
            Err(error) => {
                log::warn!("the token for {} is not renewed: {error}{}", cbs.place(), advice(&tokens, &error));
                Some(Instant::now() + backoff.next())
            }
        };
    }
}

/// What an operator may look at, where the service does not take a token.
fn advice(tokens: &Tokens, error: &Error) -> &'static str {
    if error.class == Class::Unauthorized { tokens.advice() } else { "" }
}

/// Watches over a connection: begins its sessions, sees its end, and closes it when nobody has it any more.
async fn watch(
    mut handle: ConnectionHandle<()>,
    mut begins: mpsc::Receiver<oneshot::Sender<Result<SessionHandle<()>, Error>>>,
    line: Arc<Line>,
    closed: Arc<End>,
) {
    loop {
        let answer = tokio::select! {
            ended = handle.on_close() => {
                line.end.set(ended.err().map_or_else(|| Error::lost("the service closed the connection"), Error::from));
                break;
            }
            _ = line.end.wait() => break,
            begin = begins.recv() => match begin {
                Some(answer) => answer,
                None => break,
            },
        };
        let patience = line.patience();
        tokio::select! {
            begun = timeout(patience, Session::builder().begin(&mut handle)) => match begun {
                Ok(begun) => drop(answer.send(begun.map_err(Error::from))),
                Err(_) => {
                    line.end.set(Error::silent("beginning a session", patience));
                    break;
                }
            },
            _ = line.end.wait() => break,
        }
    }
    if !handle.is_closed() {
        let _ = timeout(GOODBYE, handle.close()).await;
    }
    line.end.set(closed_here());
    // Ends the stream, whatever it is waiting for.
    closed.set(closed_here());
}

fn closed_here() -> Error {
    Error::lost("the connection was closed here")
}

/// A name for the service's logs.
fn container_id() -> String {
    format!("forebay-{:08x}", getrandom::u32().unwrap_or_default())
}
