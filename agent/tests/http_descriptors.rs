//! A process of its own, for it takes the file descriptors away that other tests would need.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use forebay::{
    contract::Shutdown,
    http::{Limits, Request, Response, serve},
};
use http_body_util::Full;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const AT_MOST: Duration = Duration::from_secs(20);

#[tokio::test]
async fn without_descriptors_a_connection_waits_and_is_not_lost() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(asking(address).await);
    }
    // The kernel has accepted all three; this process may open two sockets more.
    let limits = Rlimit { current: Some(limit_with_free(2)), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, limits).unwrap();

    let (switch, shutdown) = Shutdown::new();
    let hello = |_: Request| async { Response::new(Full::new(Bytes::from_static(b"hello"))) };
    let served = tokio::spawn(serve(listener, None, Limits::default(), hello, shutdown));

    let mut third = clients.pop().unwrap();
    for client in &mut clients {
        answered(client).await;
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let mut ignored = [0; 1];
    assert!(timeout(Duration::ZERO, third.read(&mut ignored)).await.is_err(), "the third has to wait");
    drop(clients);
    answered(&mut third).await;
    switch.send_replace(true);
    timeout(AT_MOST, served).await.expect("serving ends").unwrap();
}

/// The limit below which `free` descriptors are not in use.
fn limit_with_free(free: usize) -> u64 {
    let is_free = |fd: &u64| !std::fs::exists(format!("/proc/self/fd/{fd}")).unwrap();
    (0..).filter(is_free).nth(free).expect("there is always another number")
}

async fn asking(address: SocketAddr) -> TcpStream {
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(REQUEST).await.unwrap();
    client
}

async fn answered(client: &mut TcpStream) {
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello") {
        let read = timeout(AT_MOST, client.read_buf(&mut answer)).await.expect("an answer comes").unwrap();
        assert!(read > 0, "the connection ended");
    }
}
