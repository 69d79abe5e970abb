use std::sync::atomic::{AtomicBool, Ordering};

use forebay_buffer::{
    Batch, Event, Options, Start,
    clock::{Clock, Reading},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
};

use super::*;

/// A clock that can be asked whether it is synchronised.
#[derive(Debug)]
struct TestClock(AtomicBool);

impl Clock for TestClock {
    fn now(&self) -> Reading {
        Reading { synchronised: self.0.load(Ordering::Relaxed), ..now() }
    }
    fn boot_id(&self) -> u128 {
        1
    }
}

struct Rig {
    _dir: tempfile::TempDir,
    _switch: watch::Sender<bool>,
    view: Arc<View>,
    clock: Arc<TestClock>,
    address: std::net::SocketAddr,
}

/// A buffer with the stream `line1`, which may take `max_bytes`, and three events in it that the sink `files` has not.
async fn start(max_bytes: u64) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(TestClock(AtomicBool::new(true)));
    let options = Options::new(dir.path().join("buffer.db"), Arc::clone(&clock) as Arc<dyn Clock>);
    let buffer = Options { min_free_disk: Some(0), ..options }.open().unwrap();
    let limits = StreamLimits { max_bytes, max_age: None, when_full: WhenFull::Backpressure };
    buffer.declare_stream("line1", limits).unwrap();
    buffer.declare_sink("files", &["line1"], Start::Oldest, 1 << 20).unwrap();
    let partition = buffer.partition("line1", "0", Numbering::Assigned).unwrap();
    let events = vec![Event::new(Timestamp(1), "{}"); 3];
    let encoded = partition.encode(Batch { events, ..Batch::default() }).unwrap();
    partition.append(encoded).wait().unwrap();

    let view = Arc::new(View::new("gw-0042", Instant::now(), buffer, Arc::clone(&clock) as Arc<dyn Clock>));
    view.set_parts(parts());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (switch, shutdown) = Shutdown::new();
    tokio::spawn(serve(listener, Arc::clone(&view), shutdown));
    Rig { _dir: dir, _switch: switch, view, clock, address }
}

impl Rig {
    /// The status and the rest of the answer.
    async fn ask(&self, request_line: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{request_line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let (status, answer) = self.ask(&format!("GET {path}")).await;
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    /// What `path` answers once the state before is forgotten.
    async fn status_becomes(&self, path: &str, status: u16) -> String {
        let becomes = async {
            loop {
                match self.get(path).await {
                    (found, body) if found == status => return body,
                    _ => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), becomes).await.expect("the status must change")
    }
}

#[tokio::test]
async fn a_healthy_agent_says_so_on_every_page() {
    let rig = start(1 << 29).await;
    for path in ["/health", "/health/live", "/health/ready"] {
        let (status, body) = rig.get(path).await;
        assert_eq!((status, body.as_str()), (200, "{\"healthy\":true,\"findings\":[]}"), "{path}");
    }
    let (status, body) = rig.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(body.contains("forebay_sink_pending_events{sink=\"files\",stream=\"line1\",partition=\"0\"} 3"), "{body}");
    let (status, body) = rig.get("/api/status").await;
    let report: Report = serde_json::from_str(&body).unwrap();
    assert_eq!((status, report.agent.unwrap().id.as_str(), report.sinks[0].pending_events), (200, "gw-0042", 3));
    let (status, body) = rig.get("/").await;
    assert_eq!(status, 200);
    assert!(body.contains("All is well") && body.contains("gw-0042") && body.ends_with("</html>\n"), "{body}");
}

#[tokio::test]
async fn a_full_buffer_is_unhealthy_alive_and_ready() {
    let rig = start(100).await;
    let body = rig.get("/health").await;
    let health: Health = serde_json::from_str(&body.1).unwrap();
    assert_eq!((body.0, health.findings.len()), (503, 1), "{health:?}");
    assert!(health.findings[0].message.contains("line1"), "{health:?}");
    assert!(health.findings[0].for_seconds.is_some() && !health.findings[0].remedy.is_empty(), "{health:?}");
    assert_eq!(rig.get("/health/live").await.0, 200);
    assert_eq!(rig.get("/health/ready").await.0, 200);
}

#[tokio::test]
async fn an_unsynchronised_clock_is_told_and_healthy() {
    let rig = start(1 << 29).await;
    rig.clock.0.store(false, Ordering::Relaxed);
    let (status, body) = rig.get("/health").await;
    assert_eq!(status, 200);
    assert!(body.contains("\"warning\"") && body.contains("clock"), "{body}");
}

#[tokio::test]
async fn other_parts_are_seen_after_a_reload() {
    let rig = start(1 << 29).await;
    assert_eq!(rig.get("/health/ready").await.0, 200);
    let mut parts = parts();
    parts.sources.push(SourceView {
        name: "line2".to_owned(),
        kind: "http",
        progress: Progress::new("source line2"),
        certificate_file: None,
    });
    rig.view.set_parts(parts);
    let body = rig.status_becomes("/health/ready", 503).await;
    assert!(body.contains("source line2"), "{body}");
}

#[tokio::test]
async fn there_is_nothing_to_change_and_nothing_else_to_see() {
    let rig = start(1 << 29).await;
    let (status, answer) = rig.ask("POST /health").await;
    assert_eq!(status, 405);
    assert!(answer.contains("allow: GET, HEAD"), "{answer}");
    assert_eq!(rig.get("/etc/passwd").await.0, 404);
    let (status, answer) = rig.ask("HEAD /metrics").await;
    assert_eq!(status, 200);
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}
