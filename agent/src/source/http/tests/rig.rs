//! A running source, its intake, and clients that write what they like.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use forebay_buffer::{Appended, Offset, Timestamp, clock::Reading};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

use super::super::{Http, Patience, Settings};
use crate::{
    contract::{Intake, IntakeRequest, IntakeRequests, PartitionRequest, Shutdown, Source, SourceBatch, SourceError},
    http::Limits,
    progress::Progress,
};

/// No test waits longer for what must come.
const AT_MOST: Duration = Duration::from_secs(20);
/// What the clock says, always: some day in 2026, in microseconds.
pub(super) const TIME: i64 = 1_790_000_000_000_000;

#[derive(Debug)]
pub(crate) struct FixedClock;

impl forebay_buffer::clock::Clock for FixedClock {
    fn now(&self) -> Reading {
        Reading { wall: Timestamp(TIME), since_boot: Duration::ZERO, synchronised: true }
    }
    fn boot_id(&self) -> u128 {
        1
    }
}

pub(super) fn settings() -> Settings {
    Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        path: "/".to_owned(),
        token: None,
        tls: None,
        max_body_bytes: 100_000,
        max_decompressed_bytes: 200_000,
        max_connections: 8,
        max_event_bytes: 50_000,
    }
}

pub(super) fn appended(events: u64) -> Appended {
    Appended { high_water: Offset(1), events, dropped: 0 }
}

pub(super) struct Rig {
    pub(super) http: std::net::SocketAddr,
    pub(super) full: watch::Sender<bool>,
    switch: watch::Sender<bool>,
    source: Option<JoinHandle<Result<(), SourceError>>>,
    batches: Arc<Mutex<Vec<SourceBatch>>>,
}

impl Rig {
    /// A source whose intake takes everything.
    pub(super) async fn start(settings: Settings) -> Self {
        Self::hurried(settings, Limits::default(), Patience::default()).await
    }

    /// The same, with other timeouts.
    pub(super) async fn hurried(settings: Settings, limits: Limits, patience: Patience) -> Self {
        let (rig, mut requests) = Self::run(settings, limits, patience).await.unwrap();
        let batches = Arc::clone(&rig.batches);
        tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                let IntakeRequest::Of { partition, request: PartitionRequest::Append { batch, reply, .. } } = request
                else {
                    panic!("this source only appends")
                };
                assert_eq!(partition, "0");
                let events = batch.events.len() as u64;
                batches.lock().unwrap().push(batch);
                let _ = reply.send(Ok(appended(events)));
            }
        });
        rig
    }

    /// A source whose intake is the test's.
    pub(super) async fn held(settings: Settings) -> (Self, mpsc::Receiver<IntakeRequest>) {
        Self::run(settings, Limits::default(), Patience::default()).await.unwrap()
    }

    /// A source that must not start.
    pub(super) async fn refused(settings: Settings) -> Result<(), SourceError> {
        Self::run(settings, Limits::default(), Patience::default()).await.map(|_| ())
    }

    async fn run(
        settings: Settings,
        limits: Limits,
        patience: Patience,
    ) -> Result<(Self, mpsc::Receiver<IntakeRequest>), SourceError> {
        let limits = Limits { max_connections: settings.max_connections, ..limits };
        let mut source = Http::new(settings, Arc::new(FixedClock), Progress::new("source test"));
        (source.limits, source.patience) = (limits, patience);
        let mut address = source.address();
        let (full, full_watched) = watch::channel(false);
        let (intake, IntakeRequests { queue: requests, .. }) = Intake::new(full_watched);
        let (switch, shutdown) = Shutdown::new();
        let task = tokio::spawn(async move { source.run(intake, shutdown).await });
        let Ok(http) = address.wait_for(Option::is_some).await.map(|address| address.unwrap()) else {
            return Err(task.await.unwrap().unwrap_err());
        };
        Ok((Self { http, full, switch, source: Some(task), batches: Arc::default() }, requests))
    }

    pub(super) async fn connect(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect(self.http).await.unwrap())
    }

    pub(super) fn batches(&self) -> Vec<SourceBatch> {
        self.batches.lock().unwrap().clone()
    }

    pub(super) fn stop(&self) {
        self.switch.send_replace(true);
    }

    pub(super) async fn ended(&mut self) -> Result<(), SourceError> {
        timeout(AT_MOST, self.source.take().unwrap()).await.expect("the source ends").unwrap()
    }
}

/// A POST of a body as it is.
pub(super) fn post(content_type: &str, body: &str) -> String {
    let length = body.len();
    format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// A POST whose last three bytes do not come.
pub(super) fn cut_short(content_type: &str, body: &str) -> String {
    let mut request = post(content_type, body);
    request.truncate(request.len() - 3);
    request
}

/// A POST of compressed JSON.
pub(super) fn encoded(encoding: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut request = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Encoding: {encoding}\r\n\
         Content-Length: {length}\r\n\r\n"
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

pub(super) struct Client<S> {
    stream: S,
    ahead: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, ahead: Vec::new() }
    }

    pub(super) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Writes until the other side takes no more.
    pub(super) async fn write_while_taken(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    pub(super) async fn send(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.write(request).await;
        self.read().await
    }

    pub(super) async fn read(&mut self) -> Answer {
        timeout(AT_MOST, self.try_read()).await.expect("an answer comes").expect("the answer is whole")
    }

    /// The next answer. `None`: the connection ended before it was whole.
    pub(super) async fn try_read(&mut self) -> Option<Answer> {
        let head_end = loop {
            match memchr::memmem::find(&self.ahead, b"\r\n\r\n") {
                Some(end) => break end,
                None => self.read_more().await?,
            }
        };
        let head = String::from_utf8(self.ahead.drain(..head_end + 4).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|line| line.split_once(": ").unwrap()).map(|(n, v)| (n.to_owned(), v.to_owned()));
        let mut answer = Answer { status, headers: headers.collect(), body: String::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        while self.ahead.len() < length {
            self.read_more().await?;
        }
        answer.body = String::from_utf8(self.ahead.drain(..length).collect()).unwrap();
        Some(answer)
    }

    async fn read_more(&mut self) -> Option<()> {
        match self.stream.read_buf(&mut self.ahead).await {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(()),
        }
    }

    /// Whether nothing has come, after the server had many turns to answer.
    pub(super) async fn is_silent(&mut self) -> bool {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        timeout(Duration::ZERO, self.read_more()).await.is_err()
    }

    /// Whether the other side has closed by now.
    pub(super) async fn is_cut(&mut self) -> bool {
        matches!(timeout(Duration::ZERO, self.read_more()).await, Ok(None))
    }

    /// Whether the other side closes, with or without an answer.
    pub(super) async fn is_closed(&mut self) -> bool {
        timeout(AT_MOST, async { while self.read_more().await.is_some() {} }).await.is_ok()
    }
}
