//! One connection: made within a deadline, encrypted as asked for, and gone when it is dropped.

use std::{
    future::{Future, poll_fn},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use forebay_buffer::clock::Clock;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::OnceCell,
    task::{AbortHandle, spawn_blocking},
    time::timeout,
};
use tokio_postgres::{
    AsyncMessage, Client, Config, CopyInSink, NoTls, SimpleQueryMessage, Statement, config::SslMode as Negotiation,
    tls::TlsConnect,
};

use super::{
    Class, Error, OLDEST_SERVER, Password, Settings, SslMode,
    socket::{Address, Socket},
    tls::Connector,
};
use crate::{
    client::azure::{self, Credential, Token},
    secret::Secret,
    tls::client::{Client as TlsClient, Verify},
};

/// How long a statement may go without its answer: longer than the server waits for any lock in our transactions.
const PATIENCE: Duration = Duration::from_secs(60);
/// The slowest line that is believed to be alive while it carries data.
const SLOWEST_BYTES_PER_SECOND: u64 = 2 << 10;
/// What the server says where `pg_hba.conf` has no line for such a connection.
const NOT_LIKE_THIS: &str = "28000";

/// A connection. Dropped, it is closed at once, and the server rolls back what is open.
pub struct Connection {
    client: Client,
    driver: Driver,
    encryption: Encryption,
    server_version: u32,
    is_given_up: AtomicBool,
}

/// How a connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// By nothing.
    None,
    /// By nothing but the file system: a Unix socket.
    Local,
    /// By TLS, with a server that has proved who it is as far as `sslmode` asks.
    Tls,
}

/// The task that reads and writes.
struct Driver {
    task: AbortHandle,
    /// Why it has ended. What waits for an answer is only told that there will be none.
    end: Arc<Mutex<Option<Error>>>,
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A server, connected to again and again: what was found out about the way there is kept.
pub struct Server {
    settings: Settings,
    address: Address,
    clock: Arc<dyn Clock>,
    /// Whose tokens are the password, if it is one.
    credential: Option<Arc<Credential>>,
    /// Made when it is first needed, and kept: it reads its files again by itself when they change.
    tls: OnceCell<TlsClient>,
}

/// Connects and logs in, once.
pub async fn connect(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Connection, Error> {
    Server::new(settings.clone(), clock).connect().await
}

impl Server {
    /// Connects to nothing yet.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>) -> Self {
        let address = Address::new(&settings.host, settings.port);
        let credential = match &settings.password {
            Some(Password::AzureToken(identity)) => Some(Credential::new((**identity).clone(), Arc::clone(&clock))),
            _ => None,
        };
        Self { settings, address, clock, credential, tls: OnceCell::new() }
    }

    /// What it was made of.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Connects and logs in.
    pub async fn connect(&self) -> Result<Connection, Error> {
        let settings = &self.settings;
        let attempt = async {
            let connection = match &self.credential {
                Some(credential) => self.by_token(credential).await?,
                None => self.by_sslmode(self.password()?.as_ref()).await?,
            };
            match connection.server_version {
                version if version < OLDEST_SERVER => Err(Error::Confused(format!(
                    "the server's version is {}: {} and later are supported",
                    version / 10_000,
                    OLDEST_SERVER / 10_000
                ))),
                _ => Ok(connection),
            }
        };
        match timeout(settings.connect_timeout, attempt).await {
            Ok(outcome) => outcome.map_err(|error| at(settings, error)),
            Err(_) => {
                let message = format!("no answer within {} s", settings.connect_timeout.as_secs_f32());
                Err(at(settings, Error::Lost(message)))
            }
        }
    }

    fn password(&self) -> Result<Option<Secret>, Error> {
        match &self.settings.password {
            Some(Password::Secret(source)) => source.read().map(Some).map_err(Error::Login),
            _ => Ok(None),
        }
    }

    async fn by_token(&self, credential: &Credential) -> Result<Connection, Error> {
        if !self.settings.sslmode.is_encrypted() && !self.settings.is_local() {
            return Err(Error::Confused(format!("a token does not go where sslmode is {}", self.settings.sslmode)));
        }
        let token: Token = credential.token(azure::POSTGRES).await.map_err(|error| match error.is_passing() {
            true => Error::Lost(format!("{error:#}")),
            false => Error::Login(format!("{error:#}")),
        })?;
        let outcome = self.by_sslmode(Some(&token.secret)).await;
        if matches!(&outcome, Err(Error::Server(error)) if error.class() == Class::Login) {
            // What it stands for may have changed since: the next attempt has another.
            credential.forget(azure::POSTGRES, &token);
        }
        outcome
    }

    async fn by_sslmode(&self, password: Option<&Secret>) -> Result<Connection, Error> {
        let mode = self.settings.sslmode;
        if self.settings.is_local() || mode == SslMode::Disable {
            return self.plain(password).await;
        }
        match mode {
            SslMode::Allow => match self.plain(password).await {
                Err(error) if is_refused_like_this(&error) => self.encrypted(Negotiation::Require, password).await,
                outcome => outcome,
            },
            SslMode::Prefer => match self.encrypted(Negotiation::Prefer, password).await {
                Err(error) if may_be_plain(&error) => self.plain(password).await,
                outcome => outcome,
            },
            _ => self.encrypted(Negotiation::Require, password).await,
        }
    }

    async fn plain(&self, password: Option<&Secret>) -> Result<Connection, Error> {
        let socket = self.open().await?;
        let encryption = if self.settings.is_local() { Encryption::Local } else { Encryption::None };
        let mut connection = log_in(socket, NoTls, &self.settings, Negotiation::Disable, password).await?;
        connection.encryption = encryption;
        Ok(connection)
    }

    async fn encrypted(&self, negotiation: Negotiation, password: Option<&Secret>) -> Result<Connection, Error> {
        let tls = self.tls().await?;
        let socket = self.open().await?;
        let used = Arc::new(AtomicBool::new(false));
        let connector = Connector {
            config: tls.config(),
            host: self.settings.host.clone(),
            verify: self.verify(),
            used: Arc::clone(&used),
        };
        let mut connection = log_in(socket, connector, &self.settings, negotiation, password).await?;
        if used.load(Ordering::Relaxed) {
            connection.encryption = Encryption::Tls;
        }
        Ok(connection)
    }

    /// What TLS needs. The system's trust store takes long to read on a small machine, so a thread does it on
    /// which nothing else waits, and once.
    async fn tls(&self) -> Result<&TlsClient, Error> {
        let make = || async {
            let (files, verify) = (self.settings.tls.clone(), self.verify());
            let clock = Arc::clone(&self.clock);
            let made = spawn_blocking(move || TlsClient::new(&files, verify, clock)).await;
            let made = made.map_err(|_| Error::Lost("the agent is shutting down".to_owned()))?;
            made.map_err(Error::Login)
        };
        self.tls.get_or_try_init(make).await
    }

    fn verify(&self) -> Verify {
        self.settings.sslmode.verify(&self.settings.tls)
    }

    async fn open(&self) -> Result<Socket, Error> {
        self.address.open().await.map_err(Error::Lost)
    }
}

/// `error`, with what was being done.
fn at(settings: &Settings, error: Error) -> Error {
    let to = |message: String| format!("connecting to {}: {message}", settings.place());
    match error {
        Error::Lost(message) => Error::Lost(to(message)),
        Error::Handshake(message) => Error::Handshake(to(message)),
        Error::Login(message) => Error::Login(to(message)),
        Error::Confused(message) => Error::Confused(to(message)),
        Error::Server(mut server) => {
            let advice = match Class::of(&server.code) {
                Class::Login if matches!(settings.password, Some(Password::AzureToken(_))) => format!(
                    "; {:?} must be a role that was made for this very identity of Microsoft Entra \
                     (pgaadauth_create_principal)",
                    settings.user
                ),
                Class::Login => format!("; look at the password and at pg_hba.conf for user {:?}", settings.user),
                // See tls.rs: `could not find digest for NID UNDEF`.
                _ if server.routine.as_deref() == Some("be_tls_get_certificate_hash") => {
                    "; no login can be bound to its certificate: have one signed with RSA or ECDSA, or say \
                     sslmode=verify-full, and nothing needs to be bound"
                        .to_owned()
                }
                _ => String::new(),
            };
            server.message = to(server.message) + &advice;
            Error::Server(server)
        }
    }
}

fn is_refused_like_this(error: &Error) -> bool {
    error.server().is_some_and(|error| error.code == NOT_LIKE_THIS)
}

/// Whether libpq would try `prefer` again without TLS: the server will not have it, or the handshake failed.
fn may_be_plain(error: &Error) -> bool {
    is_refused_like_this(error) || matches!(error, Error::Handshake(_))
}

async fn log_in<T>(
    socket: Socket,
    tls: T,
    settings: &Settings,
    negotiation: Negotiation,
    password: Option<&Secret>,
) -> Result<Connection, Error>
where
    T: TlsConnect<Socket>,
    T::Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut config = Config::new();
    config.user(&settings.user).dbname(&settings.database).application_name(&settings.application_name);
    // The name is for the handshake only: the line is there already.
    config.host(&settings.host).ssl_mode(negotiation);
    if let Some(password) = password {
        config.password(password.expose());
    }
    let (client, mut connection) = config.connect_raw(socket, tls).await?;
    let version = connection.parameter("server_version").and_then(version).unwrap_or_default();
    let end = Arc::new(Mutex::new(None));
    let ending = Arc::clone(&end);
    let task = tokio::spawn(async move {
        loop {
            match poll_fn(|cx| connection.poll_message(cx)).await {
                Some(Ok(AsyncMessage::Notice(notice))) => log::debug!("Postgres: {notice}"),
                Some(Ok(_)) => (),
                Some(Err(error)) => break *ending.lock().expect("no holder of this lock panics") = Some(error.into()),
                None => break,
            }
        }
    });
    let driver = Driver { task: task.abort_handle(), end };
    Ok(Connection {
        client,
        driver,
        encryption: Encryption::None,
        server_version: version,
        is_given_up: AtomicBool::new(false),
    })
}

/// `server_version_num` of a `server_version` such as `15.18 (Debian 15.18-0+deb12u1)`, `17beta1` or `12.22`.
fn version(text: &str) -> Option<u32> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse::<u32>().ok());
    let major = numbers.next().flatten()?;
    let minor = if text.contains('.') { numbers.next().flatten().unwrap_or_default() } else { 0 };
    major.checked_mul(10_000)?.checked_add(minor)
}

impl Connection {
    /// What statements and copies are made with. [`Connection::explain`] says why it fails.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Runs `sql`, one statement or several, as a simple query.
    pub async fn simple(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, Error> {
        self.within(sql.len() as u64, self.client.simple_query(sql)).await
    }

    /// The answer to a request that carries `bytes`, if it comes in the time that the slowest line needs for them.
    pub async fn within<T>(
        &self,
        bytes: u64,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Error> {
        let patience = PATIENCE + Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND);
        match timeout(patience, answer).await {
            Ok(outcome) => outcome.map_err(|error| self.explain(error)),
            Err(_) => Err(Error::Lost(format!("the server has not answered within {} s", patience.as_secs()))),
        }
    }

    /// `error`, or what ended the connection if it says no more than that it is closed.
    pub fn explain(&self, error: tokio_postgres::Error) -> Error {
        let is_closed = error.is_closed();
        let ended = self.driver.end.lock().expect("no holder of this lock panics").clone();
        match ended {
            Some(Error::Server(mut server)) if is_closed => {
                server.is_fatal = true;
                Error::Server(server)
            }
            Some(end) if is_closed => end,
            _ => error.into(),
        }
    }

    /// Starts a COPY. The last handle to the statement makes the end of the copy its end too.
    ///
    /// A refusal puts the driver out of step with the server, which answers each of two `Sync`s where one answer is
    /// waited for: what comes next would be taken for the answer to something else. So it gives the connection up.
    pub async fn copy_in(&self, statement: Statement) -> Result<CopyInSink<Bytes>, Error> {
        let started = self.within(0, self.client.copy_in(&statement)).await;
        if started.is_err() {
            self.give_up();
        }
        started
    }

    /// Nothing more must be asked on it: it is not known what is going on there.
    pub fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Relaxed);
    }

    /// Whether it is given up, or known to be closed.
    pub fn is_closed(&self) -> bool {
        self.is_given_up.load(Ordering::Relaxed) || self.client.is_closed()
    }

    /// How it is protected.
    pub fn encryption(&self) -> Encryption {
        self.encryption
    }

    /// `server_version_num`, of the server or of the pooler's servers.
    pub fn server_version(&self) -> u32 {
        self.server_version
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_version_is_read_as_distributions_write_it() {
        assert_eq!(version("15.18 (Debian 15.18-0+deb12u1)"), Some(150_018));
        assert_eq!(version("17beta1"), Some(170_000));
        assert_eq!(version("12.22"), Some(120_022));
        assert_eq!(version("PgBouncer"), None);
    }

    #[tokio::test]
    async fn a_server_that_accepts_and_says_nothing_is_given_up_in_time() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let url = format!("postgresql://me@127.0.0.1:{port}/db?sslmode=disable");
        let mut settings = super::super::Url::parse(&url).and_then(super::super::Url::settings).expect("a URL");
        settings.connect_timeout = Duration::from_millis(50);
        let clock = Arc::new(crate::clock::SystemClock::new());
        let error = connect(&settings, clock).await.err().expect("nobody answers");
        assert_eq!(error.class(), Class::Reconnect);
        assert!(error.to_string().contains("database \"db\" on 127.0.0.1"), "{error}");
    }
}
