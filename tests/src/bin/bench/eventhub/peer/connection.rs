//! One client's connection. It chooses the numbers of channels and handles, and they are the same in both directions.

use std::{
    collections::HashMap,
    io::{self, BufReader, Read, Write},
    net::TcpStream,
    sync::{Condvar, Mutex, MutexGuard, atomic::Ordering::Relaxed, mpsc},
    thread,
    time::Instant,
};

use serde_amqp::{
    Value,
    primitives::{Array, Symbol},
};

use super::{
    Service, requests,
    wire::{self, AMQP, SASL, code, frame, list, number, section, sections},
};

const MAX_FRAME_BYTES: u32 = 65_536;
const MAX_MESSAGE_BYTES: u64 = 1 << 20;
/// Messages that a producer may have under way, and how many of them are left when it may have as many again.
const CREDIT: u32 = 300;
const LEFT: u32 = 200;
/// Frames that a client may send: there is always room.
const WINDOW: u32 = 1 << 30;
/// Bytes of events written at once.
const CHUNK_BYTES: usize = 64 << 10;
/// Message format of a batch.
const BATCH_FORMAT: u32 = 0x8001_3700;

/// When to send a frame that is held back.
type Held = (Instant, Vec<u8>);

struct Connection<'a> {
    service: &'a Service,
    state: Mutex<State>,
    /// Rings when a consumer can be given something, and when the connection has ended.
    bell: Condvar,
    /// Taken by what acknowledges later.
    held: mpsc::Sender<Held>,
}

struct State {
    stream: TcpStream,
    sessions: HashMap<u16, Session>,
    has_ended: bool,
}

/// A session (part 2.5.6).
struct Session {
    /// The number of the client's next transfer.
    next_incoming: u32,
    /// The number of ours, which is its delivery's too: each delivery is one frame.
    next_outgoing: u32,
    /// Transfers that the client has room for.
    window: u32,
    links: HashMap<u32, Link>,
}

/// A link, as the peer sees it.
enum Link {
    /// A producer's, or questions to a node.
    Takes { node: Option<&'static str>, incoming: Incoming, count: u32 },
    /// Answers of a node.
    Answers { node: &'static str },
    /// A consumer's: the next event, and how many it may be given.
    Gives { next: u64, credit: u32 },
}

/// A message that comes in parts.
#[derive(Default)]
struct Incoming {
    delivery: u32,
    format: u32,
    message: Vec<u8>,
}

/// Serves a client until it goes.
pub(super) fn serve(stream: TcpStream, service: &Service) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(256 << 10, stream.try_clone()?);
    let (held, later) = mpsc::channel();
    let state = Mutex::new(State { stream, sessions: HashMap::new(), has_ended: false });
    let connection = Connection { service, state, bell: Condvar::new(), held };
    connection.let_in(&mut reader)?;
    thread::scope(|scope| {
        scope.spawn(|| connection.give());
        scope.spawn(|| connection.send_later(later));
        let ended = connection.read(&mut reader);
        connection.lock().has_ended = true;
        connection.bell.notify_all();
        // Ends what waits for something to send later.
        let _ = connection.held.send((Instant::now(), Vec::new()));
        ended
    })
}

impl Connection<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// SASL (part 5.3), whatever the client shows.
    fn let_in(&self, reader: &mut impl Read) -> io::Result<()> {
        let mut header = [0; 8];
        reader.read_exact(&mut header)?;
        let names = ["ANONYMOUS", "PLAIN"].map(|name| Value::Symbol(Symbol::from(name)));
        let mechanisms = list(code::MECHANISMS, vec![Value::Array(Array(names.to_vec()))]);
        self.lock().write(&[&header[..], &frame(SASL, 0, &[&mechanisms])].concat())?;
        read_frame(reader, &mut Vec::new())?;
        self.lock().write(&frame(SASL, 0, &[&list(code::OUTCOME, vec![Value::Ubyte(0), Value::Null])]))?;
        reader.read_exact(&mut header)?;
        self.lock().write(&header)
    }

    /// Does what the client says until it says goodbye.
    fn read(&self, reader: &mut impl Read) -> io::Result<()> {
        let mut body = Vec::new();
        loop {
            let channel = read_frame(reader, &mut body)?;
            let Some((code, fields, payload)) = wire::split(&body) else { continue };
            let mut state = self.lock();
            match code {
                code::OPEN => state.say(0, open())?,
                code::BEGIN => state.begin(channel, &fields)?,
                code::ATTACH => state.attach(channel, fields)?,
                code::FLOW => {
                    state.flow(channel, &fields);
                    self.bell.notify_one();
                }
                code::TRANSFER => self.transfer(&mut state, channel, &fields, payload)?,
                code::DETACH => state.detach(channel, &fields)?,
                code::END => {
                    state.sessions.remove(&channel);
                    state.say(channel, list(code::END, vec![Value::Null]))?;
                }
                code::CLOSE => return state.say(0, list(code::CLOSE, vec![Value::Null])),
                _ => {}
            }
        }
    }

    /// A part of a message, or all of it (part 2.7.5).
    fn transfer(&self, state: &mut State, channel: u16, fields: &[Value], payload: &[u8]) -> io::Result<()> {
        let handle = number(fields, 0).unwrap_or_default();
        let Some(session) = state.sessions.get_mut(&channel) else { return Ok(()) };
        session.next_incoming = session.next_incoming.wrapping_add(1);
        let Some(Link::Takes { node, incoming, count }) = session.links.get_mut(&handle) else { return Ok(()) };
        // Only the first part has to say it.
        incoming.delivery = number(fields, 1).unwrap_or(incoming.delivery);
        incoming.format = number(fields, 3).unwrap_or(incoming.format);
        incoming.message.extend_from_slice(payload);
        if fields.get(5) == Some(&Value::Bool(true)) {
            return Ok(());
        }
        *count += 1;
        let (node, count, delivery) = (*node, *count, incoming.delivery);
        let answer = match node {
            Some(node) => Some((node, requests::answer(node, &incoming.message, self.service))),
            None => {
                self.service.taken.fetch_add(events(incoming), Relaxed);
                None
            }
        };
        incoming.message.clear();
        match answer {
            Some((node, answer)) => {
                state.say(channel, accepted(delivery))?;
                state.answer(channel, node, &answer)?;
            }
            None => self.acknowledge(state, channel, delivery)?,
        }
        if count.is_multiple_of(CREDIT - LEFT) { state.grant(channel, handle, count) } else { Ok(()) }
    }

    fn acknowledge(&self, state: &mut State, channel: u16, delivery: u32) -> io::Result<()> {
        let delay = self.service.delay;
        if delay.is_zero() {
            return state.say(channel, accepted(delivery));
        }
        let held = (Instant::now() + delay, frame(AMQP, channel, &[&accepted(delivery)]));
        self.held.send(held).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Sends each frame when its time has come. All are held back for as long, so they stay in order.
    fn send_later(&self, later: mpsc::Receiver<Held>) {
        for (at, frame) in later {
            thread::sleep(at.saturating_duration_since(Instant::now()));
            let mut state = self.lock();
            if state.has_ended || state.write(&frame).is_err() {
                return;
            }
        }
    }

    /// Gives consumers what they have credit for.
    fn give(&self) {
        let mut chunk = Vec::with_capacity(2 * CHUNK_BYTES);
        let mut state = self.lock();
        while !state.has_ended {
            chunk.clear();
            let given = state.fill(self.service, &mut chunk);
            if chunk.is_empty() {
                state = self.bell.wait(state).expect("no holder of this lock panics");
                continue;
            }
            self.service.given.fetch_add(given, Relaxed);
            if state.write(&chunk).is_err() {
                return;
            }
            // Others wait for the lock: what the client says of its credit.
            drop(state);
            state = self.lock();
        }
    }
}

impl State {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    fn say(&mut self, channel: u16, performative: Vec<u8>) -> io::Result<()> {
        self.write(&frame(AMQP, channel, &[&performative]))
    }

    fn begin(&mut self, channel: u16, fields: &[Value]) -> io::Result<()> {
        let session = Session {
            next_incoming: number(fields, 1).unwrap_or_default(),
            next_outgoing: 0,
            window: number(fields, 2).unwrap_or_default(),
            links: HashMap::new(),
        };
        self.sessions.insert(channel, session);
        let (next, windows) = (Value::Uint(0), [Value::Uint(WINDOW), Value::Uint(WINDOW), Value::Uint(255)]);
        let begun = [Value::Ushort(channel), next].into_iter().chain(windows);
        self.say(channel, list(code::BEGIN, begun.chain([const { Value::Null }; 3]).collect()))
    }

    /// Takes every link (part 2.7.3): it says of itself what the client has said of it.
    fn attach(&mut self, channel: u16, mut fields: Vec<Value>) -> io::Result<()> {
        fields.resize(14, Value::Null);
        let handle = number(&fields, 1).unwrap_or_default();
        let gives = fields[2] == Value::Bool(true);
        let address = address(&fields[if gives { 5 } else { 6 }]);
        let node = ["$cbs", "$management"].into_iter().find(|node| address.ends_with(node));
        let link = match (node, gives) {
            (Some(node), true) => Link::Answers { node },
            (None, true) => Link::Gives { next: 0, credit: 0 },
            (node, false) => Link::Takes { node, incoming: Incoming::default(), count: 0 },
        };
        let Some(session) = self.sessions.get_mut(&channel) else { return Ok(()) };
        session.links.insert(handle, link);
        fields[2] = Value::Bool(!gives);
        fields[7] = Value::Null;
        fields[9] = if gives { Value::Uint(0) } else { Value::Null };
        fields[10] = Value::Ulong(MAX_MESSAGE_BYTES);
        fields[11..].fill(Value::Null);
        self.say(channel, list(code::ATTACH, fields))?;
        if gives { Ok(()) } else { self.grant(channel, handle, 0) }
    }

    /// Lets a producer that has sent `count` messages send [`CREDIT`] more (part 2.7.4).
    fn grant(&mut self, channel: u16, handle: u32, count: u32) -> io::Result<()> {
        let Some(session) = self.sessions.get(&channel) else { return Ok(()) };
        let numbers = [session.next_incoming, WINDOW, session.next_outgoing, WINDOW, handle, count, CREDIT];
        let rest = [Value::Null, Value::Bool(false), Value::Bool(false), Value::Null];
        self.say(channel, list(code::FLOW, numbers.map(Value::Uint).into_iter().chain(rest).collect()))
    }

    /// What a client has room for, and has asked for.
    fn flow(&mut self, channel: u16, fields: &[Value]) {
        let Some(session) = self.sessions.get_mut(&channel) else { return };
        let received = number(fields, 0).unwrap_or_default();
        let window = number(fields, 1).unwrap_or_default();
        session.window = received.wrapping_add(window).wrapping_sub(session.next_outgoing);
        let link = number(fields, 4).and_then(|handle| session.links.get_mut(&handle));
        if let Some(Link::Gives { next, credit }) = link {
            let upto = number(fields, 5).unwrap_or_default().wrapping_add(number(fields, 6).unwrap_or_default());
            // Its count of deliveries is the number of the event that it waits for.
            *credit = upto.wrapping_sub(*next as u32);
        }
    }

    /// Fills a chunk with events, a consumer after the other. Returns how many.
    fn fill(&mut self, service: &Service, chunk: &mut Vec<u8>) -> u64 {
        let mut given = 0;
        for (channel, session) in &mut self.sessions {
            for (handle, link) in &mut session.links {
                let Link::Gives { next, credit } = link else { continue };
                while *credit > 0 && session.window > 0 && *next < service.events && chunk.len() < CHUNK_BYTES {
                    service.feed.append(chunk, (*channel, *handle), session.next_outgoing, *next);
                    session.next_outgoing = session.next_outgoing.wrapping_add(1);
                    (*next, *credit, session.window) = (*next + 1, *credit - 1, session.window - 1);
                    given += 1;
                }
            }
        }
        given
    }

    /// Sends an answer by the link that the client has for those of `node`.
    fn answer(&mut self, channel: u16, node: &str, message: &[u8]) -> io::Result<()> {
        let Some(session) = self.sessions.get_mut(&channel) else { return Ok(()) };
        let is_it = |link: &Link| matches!(link, Link::Answers { node: of } if *of == node);
        let Some((handle, _)) = session.links.iter().find(|(_, link)| is_it(link)) else { return Ok(()) };
        let (handle, delivery) = (*handle, session.next_outgoing);
        session.next_outgoing = delivery.wrapping_add(1);
        let tag = Value::Binary(delivery.to_be_bytes().to_vec().into());
        let mut fields = vec![Value::Uint(handle), Value::Uint(delivery), tag, Value::Uint(0)];
        fields.extend([Value::Bool(true), Value::Bool(false), Value::Null, Value::Null]);
        fields.extend([const { Value::Bool(false) }; 3]);
        self.write(&frame(AMQP, channel, &[&list(code::TRANSFER, fields), message]))
    }

    fn detach(&mut self, channel: u16, fields: &[Value]) -> io::Result<()> {
        let handle = number(fields, 0).unwrap_or_default();
        self.sessions.get_mut(&channel).and_then(|session| session.links.remove(&handle));
        let closed = fields.get(1).cloned().unwrap_or(Value::Bool(false));
        self.say(channel, list(code::DETACH, vec![Value::Uint(handle), closed, Value::Null]))
    }
}

/// Reads the next frame's body (part 2.3.1), and returns its channel.
fn read_frame(reader: &mut impl Read, body: &mut Vec<u8>) -> io::Result<u16> {
    let mut header = [0; 8];
    reader.read_exact(&mut header)?;
    let [a, b, c, d, ..] = header;
    let size = u32::from_be_bytes([a, b, c, d]);
    if header[4] != 2 || !(8..=MAX_FRAME_BYTES).contains(&size) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    body.resize(size as usize - 8, 0);
    reader.read_exact(body)?;
    Ok(u16::from_be_bytes([header[6], header[7]]))
}

/// What the peer says of itself (part 2.7.1).
fn open() -> Vec<u8> {
    let said = [Value::String("peer".to_owned()), Value::Null, Value::Uint(MAX_FRAME_BYTES), Value::Ushort(4_999)];
    list(code::OPEN, said.into_iter().chain([const { Value::Null }; 6]).collect())
}

/// Accepts a delivery (part 2.7.6), and settles it.
fn accepted(delivery: u32) -> Vec<u8> {
    let state = wire::described(code::ACCEPTED, Value::List(Vec::new()));
    let settled = [Value::Bool(true), Value::Uint(delivery), Value::Uint(delivery), Value::Bool(true)];
    list(code::DISPOSITION, settled.into_iter().chain([state, Value::Bool(false)]).collect())
}

/// Events in a message: in a batch, each data section is one.
fn events(incoming: &Incoming) -> u64 {
    match incoming.format {
        BATCH_FORMAT => sections(&incoming.message).filter(|(code, _)| *code == section::DATA).count() as u64,
        _ => 1,
    }
}

/// The address of a source or a target.
fn address(terminus: &Value) -> String {
    match terminus {
        Value::Described(described) => match &described.value {
            Value::List(fields) => fields.first().and_then(wire::text).unwrap_or_default(),
            _ => String::new(),
        },
        _ => String::new(),
    }
}
