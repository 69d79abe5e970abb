//! A bad network on command: a proxy between a client and a server on this machine.
//!
//! It knows no protocol. What has to happen at a certain place in one is done by a [`Tap`], which sees the bytes of one
//! direction before they are forwarded and may cut there.

mod connection;
mod tap;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    runtime,
    sync::{oneshot, watch},
};

pub use self::tap::{Tap, Trap, Verdict};
use self::{connection::Connection, tap::MakeTap};
use crate::harness::{free_port, wait_until};

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

/// How a connection ends, on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// At once, with RST: what is on its way is lost.
    Reset,
    /// With FIN, as if the other side had closed.
    Finish,
}

/// Forwards the connections made to its port of 127.0.0.1 to another port there. All methods may be called from any
/// thread.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the network is like now, for every connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Weather {
    refused: bool,
    frozen: bool,
    delay_to_server: Duration,
    delay_to_client: Duration,
}

impl Weather {
    fn delay(&self, direction: Direction) -> Duration {
        match direction {
            Direction::ToServer => self.delay_to_server,
            Direction::ToClient => self.delay_to_client,
        }
    }
}

struct Shared {
    target: u16,
    weather: watch::Sender<Weather>,
    listening: watch::Sender<bool>,
    connections: Mutex<Vec<Arc<Connection>>>,
    taps: Mutex<Vec<(Direction, MakeTap)>>,
    made: AtomicU64,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("target", &self.target).field("weather", &self.weather).finish_non_exhaustive()
    }
}

impl Proxy {
    /// One before the port `target` of 127.0.0.1, where nothing needs to listen yet.
    pub fn new(target: u16) -> Self {
        let fair =
            Weather { refused: false, frozen: false, delay_to_server: Duration::ZERO, delay_to_client: Duration::ZERO };
        let shared = Arc::new(Shared {
            target,
            weather: watch::Sender::new(fair),
            listening: watch::Sender::new(false),
            connections: Mutex::default(),
            taps: Mutex::default(),
            made: AtomicU64::new(0),
        });
        let (port, (stop, stopped)) = (free_port(), oneshot::channel());
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let runtime = runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime can be made").block_on(async {
                    tokio::select! {
                        () = accept(port, &shared) => {}
                        _ = stopped => {}
                    }
                });
            }
        });
        let proxy = Self { port, shared, stop: Some(stop), thread: Some(thread) };
        proxy.until_listening(true);
        proxy
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connections made to it so far.
    pub fn made(&self) -> u64 {
        self.shared.made.load(Ordering::Relaxed)
    }

    /// Ends every connection there is.
    pub fn cut(&self, how: Cut) {
        for connection in self.shared.live() {
            connection.cut(how);
        }
    }

    /// Turns new connections away, as a machine does on which nothing listens. Those that are there stay.
    pub fn refuse(&self) {
        self.change(|weather| weather.refused = true);
        self.until_listening(false);
    }

    /// Takes connections again after [`Proxy::refuse`].
    pub fn accept(&self) {
        self.change(|weather| weather.refused = false);
        self.until_listening(true);
    }

    /// Holds back everything that goes this way for `by`, at most 64 KiB at a time, so that it makes the network narrow
    /// as well as slow. Zero ends it.
    pub fn delay(&self, direction: Direction, by: Duration) {
        self.change(|weather| match direction {
            Direction::ToServer => weather.delay_to_server = by,
            Direction::ToClient => weather.delay_to_client = by,
        });
    }

    /// Forwards `bytes` more bytes this way on each connection there is, and then cuts it.
    pub fn truncate(&self, direction: Direction, bytes: u64, how: Cut) {
        for connection in self.shared.live() {
            connection.truncate(direction, bytes, how);
        }
    }

    /// Forwards nothing more, neither bytes nor the end of a connection, and keeps the sockets; new connections are
    /// taken and stay silent.
    pub fn freeze(&self) {
        self.change(|weather| weather.frozen = true);
    }

    /// Goes on after [`Proxy::freeze`], with all that was held back.
    pub fn thaw(&self) {
        self.change(|weather| weather.frozen = false);
    }

    /// Lets a new tap see what goes this way, on each connection made from now on; `make` is told the connection's number.
    /// Of several taps, the first that wants to cut does.
    pub fn tap(&self, direction: Direction, make: impl Fn(u64) -> Box<dyn Tap> + Send + Sync + 'static) {
        let mut taps = self.shared.taps.lock().expect("no holder of this lock panics");
        taps.push((direction, Arc::new(make)));
    }

    fn change(&self, change: impl FnOnce(&mut Weather)) {
        self.shared.weather.send_modify(change);
    }

    fn until_listening(&self, wanted: bool) {
        wait_until("the proxy to listen, or to stop listening", || *self.shared.listening.borrow() == wanted);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Whoever waits for it has gone only if its thread panicked.
        let _ = self.stop.take().expect("it is dropped once").send(());
        let ended = self.thread.take().expect("it is dropped once").join();
        assert!(ended.is_ok() || thread::panicking(), "the proxy does not panic");
    }
}

impl Shared {
    fn live(&self) -> Vec<Arc<Connection>> {
        self.connections.lock().expect("no holder of this lock panics").clone()
    }

    fn taps(&self, direction: Direction, number: u64) -> Vec<Box<dyn Tap>> {
        let taps = self.taps.lock().expect("no holder of this lock panics");
        taps.iter().filter(|(of, _)| *of == direction).map(|(_, make)| make(number)).collect()
    }

    fn forget(&self, connection: &Arc<Connection>) {
        let mut connections = self.connections.lock().expect("no holder of this lock panics");
        connections.retain(|held| !Arc::ptr_eq(held, connection));
    }
}

async fn accept(port: u16, shared: &Arc<Shared>) {
    let mut weather = shared.weather.subscribe();
    loop {
        let _ = weather.wait_for(|weather| !weather.refused).await;
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("nobody else takes the port");
        shared.listening.send_replace(true);
        loop {
            let client = tokio::select! {
                _ = weather.wait_for(|weather| weather.refused) => break,
                accepted = listener.accept() => accepted,
            };
            // A client that has gone already is none.
            if let Ok((client, _)) = client {
                let number = shared.made.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(client, number, Arc::clone(shared)));
            }
        }
        drop(listener);
        shared.listening.send_replace(false);
    }
}

async fn serve(client: TcpStream, number: u64, shared: Arc<Shared>) {
    let connection = Arc::new(Connection::new(number));
    shared.connections.lock().expect("no holder of this lock panics").push(Arc::clone(&connection));
    connection.run(client, &shared).await;
    shared.forget(&connection);
}
