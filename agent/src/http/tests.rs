use std::net::SocketAddr;

use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::watch,
    task::JoinHandle,
};

use super::*;
use crate::tls::tests::{Authority, connect};

const AT_MOST: Duration = Duration::from_secs(20);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

struct Rig {
    address: SocketAddr,
    switch: watch::Sender<bool>,
    served: JoinHandle<()>,
}

async fn start<H, F>(limits: Limits, tls: Option<Arc<tls::Server>>, handler: H) -> Rig
where
    H: Fn(Request) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, (switch, shutdown)) = (listener.local_addr().unwrap(), Shutdown::new());
    let served = tokio::spawn(serve(listener, tls, limits, handler, shutdown));
    Rig { address, switch, served }
}

fn hurried() -> Limits {
    Limits {
        header_timeout: Duration::from_millis(100),
        write_timeout: Duration::from_millis(100),
        drain_timeout: Duration::from_millis(200),
        ..Limits::default()
    }
}

async fn hello(_: Request) -> Response {
    Response::new(Full::new(Bytes::from_static(b"hello")))
}

/// What comes until the connection ends.
async fn rest<S: AsyncRead + Unpin>(stream: &mut S) -> Vec<u8> {
    let mut all = Vec::new();
    // A reset is an end, too.
    let read = timeout(AT_MOST, stream.read_to_end(&mut all)).await;
    assert!(read.is_ok(), "the connection must end");
    all
}

#[tokio::test]
async fn a_handler_that_does_not_end_is_cut_off_at_shutdown() {
    let (began, mut begun) = watch::channel(false);
    let began = Arc::new(began);
    let endless = move |_| {
        began.send_replace(true);
        std::future::pending::<Response>()
    };
    let rig = start(hurried(), None, endless).await;
    let mut client = TcpStream::connect(rig.address).await.unwrap();
    client.write_all(REQUEST).await.unwrap();
    begun.wait_for(|begun| *begun).await.unwrap();
    rig.switch.send_replace(true);
    timeout(AT_MOST, rig.served).await.expect("serving ends").unwrap();
    assert_eq!(rest(&mut client).await, b"");
}

#[tokio::test]
async fn a_tls_handshake_that_does_not_begin_is_cut_off() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let clock = Arc::new(crate::tls::tests::Clock1970);
    let tls = tls::Server::new(&authority.server_files(dir.path(), "server"), clock).unwrap();
    let rig = start(hurried(), Some(Arc::new(tls)), hello).await;
    let mut silent = TcpStream::connect(rig.address).await.unwrap();
    assert_eq!(rest(&mut silent).await, b"");
    let mut good = connect(rig.address, authority.client_config(None)).await.unwrap();
    good.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    assert!(rest(&mut good).await.ends_with(b"hello"));
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_cut_off() {
    let (asked, mut answered) = watch::channel(0);
    let asked = Arc::new(asked);
    let large = move |_| {
        asked.send_modify(|count| *count += 1);
        async { Response::new(Full::new(Bytes::from(vec![b'x'; 64 << 20]))) }
    };
    let limits = Limits { max_connections: 1, ..hurried() };
    let rig = start(limits, None, large).await;
    let mut client = TcpStream::connect(rig.address).await.unwrap();
    client.write_all(REQUEST).await.unwrap();
    timeout(AT_MOST, answered.wait_for(|count| *count == 1)).await.expect("it is answered").unwrap();
    // The one connection that is allowed becomes free.
    let mut next = TcpStream::connect(rig.address).await.unwrap();
    next.write_all(REQUEST).await.unwrap();
    timeout(AT_MOST, answered.wait_for(|count| *count == 2)).await.expect("the next is answered").unwrap();
}

#[tokio::test]
async fn a_client_that_reads_slowly_is_not_cut_off() {
    const LENGTH: usize = 16 << 20;
    let large = |_| async { Response::new(Full::new(Bytes::from(vec![b'x'; LENGTH]))) };
    let rig = start(hurried(), None, large).await;
    let mut client = TcpStream::connect(rig.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let (mut read, mut buffer) = (0, vec![0; 2 << 20]);
    loop {
        match timeout(AT_MOST, client.read(&mut buffer)).await.unwrap().unwrap() {
            0 => break,
            length => read += length,
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert!(read > LENGTH, "{read} of {LENGTH} bytes came");
}

#[tokio::test]
async fn a_client_that_has_said_all_gets_its_answer_nevertheless() {
    let rig = start(Limits::default(), None, |request: Request| async {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(Full::new(body))
    })
    .await;
    let mut client = TcpStream::connect(rig.address).await.unwrap();
    client.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nlast").await.unwrap();
    client.shutdown().await.unwrap();
    assert!(rest(&mut client).await.ends_with(b"last"));
}
