//! A hub, connected to again and again.

use std::sync::{Arc, Weak};

use forebay_buffer::clock::Clock;
use tokio::{sync::Mutex, time::Instant};

use super::{
    Connection, Credential, Error, Settings,
    connection::Inner,
    error::Class,
    settings::Resolved,
    tokens::{Proven, Tokens},
    transport::Way,
};
use crate::client::azure;

/// A hub, connected to again and again. Clones share the connection.
#[derive(Clone)]
pub struct Hub(Arc<Shared>);

struct Shared {
    settings: Arc<Settings>,
    clock: Arc<dyn Clock>,
    place: Arc<str>,
    state: Mutex<State>,
}

struct State {
    way: Way,
    /// Tokens of Entra are kept from one connection to the next.
    identity: Option<Arc<azure::Credential>>,
    proven: Arc<Proven>,
    /// Who uses it keeps it.
    live: Weak<Inner>,
    /// When the last attempt failed, and why.
    failed: Option<(Instant, Error)>,
}

impl Hub {
    /// Connects to nothing yet. Reads the files that the settings name; the error says which cannot be used.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let Resolved { endpoint, credential } = settings.resolve()?;
        let place = format!("{}/{}", settings.host(), settings.hub).into();
        let identity = match credential {
            Credential::Entra(settings) => Some(azure::Credential::new(*settings, Arc::clone(&clock))),
            _ => None,
        };
        let settings = Arc::new(settings);
        let way = Way::new(Arc::clone(&settings), endpoint, Arc::clone(&clock));
        let state = Mutex::new(State { way, identity, proven: Arc::default(), live: Weak::new(), failed: None });
        Ok(Self(Arc::new(Shared { settings, clock, place, state })))
    }

    /// `HOST/HUB`, for messages.
    pub fn place(&self) -> &str {
        &self.0.place
    }

    /// The live connection, or a new one. There is one attempt at a time, and all who came while it was made share what
    /// came of it.
    pub async fn connection(&self) -> Result<Connection, Error> {
        let asked = Instant::now();
        let mut state = self.0.state.lock().await;
        if let Some(inner) = state.live.upgrade() {
            let connection = Connection { inner };
            if connection.is_alive() {
                return Ok(connection);
            }
        }
        if let Some((at, error)) = &state.failed
            && *at >= asked
        {
            return Err(error.clone());
        }
        match self.open(&mut state).await {
            Ok(connection) => {
                (state.live, state.failed) = (Arc::downgrade(&connection.inner), None);
                Ok(connection)
            }
            Err(error) => {
                state.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn open(&self, state: &mut State) -> Result<Connection, Error> {
        let Shared { settings, clock, place, .. } = &*self.0;
        // The key may be another one by now.
        let resolved = settings.resolve().map_err(|problem| Error::new(Class::Unauthorized, problem))?;
        if resolved.endpoint != *state.way.endpoint() {
            state.way = Way::new(Arc::clone(settings), resolved.endpoint, Arc::clone(clock));
        }
        let (identity, proven) = (state.identity.clone(), Arc::clone(&state.proven));
        let tokens = Tokens::new(resolved.credential, identity, Arc::clone(clock), settings.token_life, proven);
        let patience = (settings.timeout, settings.idle_timeout);
        Connection::open(&state.way, &settings.hub, Arc::clone(place), tokens, patience).await
    }
}
