use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use super::*;

struct Pair {
    proxy: Proxy,
    listener: TcpListener,
    client: TcpStream,
    server: TcpStream,
}

fn pair(prepare: impl FnOnce(&Proxy)) -> Pair {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let proxy = Proxy::new(listener.local_addr().expect("it is bound").port());
    prepare(&proxy);
    let client = connect(&proxy);
    let server = listener.accept().expect("the proxy connects").0;
    server.set_read_timeout(Some(crate::harness::DEADLINE)).expect("a timeout can be set");
    Pair { proxy, listener, client, server }
}

fn connect(proxy: &Proxy) -> TcpStream {
    let client = TcpStream::connect(("127.0.0.1", proxy.port())).expect("the proxy listens");
    client.set_read_timeout(Some(crate::harness::DEADLINE)).expect("a timeout can be set");
    client
}

fn read(from: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).expect("they come");
    bytes
}

/// What comes until the connection ends, and how it ends.
fn read_to_end(from: &mut TcpStream) -> (Vec<u8>, Option<ErrorKind>) {
    let mut bytes = Vec::new();
    let error = from.read_to_end(&mut bytes).err().map(|error| error.kind());
    (bytes, error)
}

#[test]
fn bytes_and_the_end_of_a_connection_go_both_ways() {
    let Pair { proxy, mut client, mut server, .. } = pair(|_| {});
    client.write_all(b"there").expect("it is open");
    assert_eq!(read(&mut server, 5), b"there");
    server.write_all(b"back").expect("it is open");
    server.shutdown(std::net::Shutdown::Write).expect("it is open");
    assert_eq!(read_to_end(&mut client), (b"back".to_vec(), None));
    client.write_all(b"still").expect("one way is open");
    drop(client);
    assert_eq!(read_to_end(&mut server), (b"still".to_vec(), None));
    assert_eq!(proxy.made(), 1);
}

#[test]
fn a_cut_ends_both_sides_as_it_was_asked_to() {
    for (how, seen) in [(Cut::Reset, Some(ErrorKind::ConnectionReset)), (Cut::Finish, None)] {
        let Pair { proxy, mut client, mut server, .. } = pair(|_| {});
        client.write_all(b"up").expect("it is open");
        assert_eq!(read(&mut server, 2), b"up");
        proxy.cut(how);
        assert_eq!(read_to_end(&mut client), (vec![], seen));
        assert_eq!(read_to_end(&mut server), (vec![], seen));
    }
}

#[test]
fn while_it_refuses_nothing_listens_and_what_is_there_goes_on() {
    let Pair { proxy, listener, mut client, mut server } = pair(|_| {});
    proxy.refuse();
    let refused = TcpStream::connect(("127.0.0.1", proxy.port())).expect_err("nothing listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    client.write_all(b"on").expect("it is open");
    assert_eq!(read(&mut server, 2), b"on");
    proxy.accept();
    connect(&proxy).write_all(b"new").expect("it is open");
    assert_eq!(read(&mut listener.accept().expect("the proxy connects").0, 3), b"new");
}

#[test]
fn a_truncated_connection_forwards_so_many_bytes_more() {
    let Pair { proxy, mut client, mut server, .. } = pair(|_| {});
    proxy.truncate(Direction::ToClient, 3, Cut::Finish);
    client.write_all(b"whole").expect("it is open");
    assert_eq!(read(&mut server, 5), b"whole");
    server.write_all(b"torn").expect("it is open");
    assert_eq!(read_to_end(&mut client), (b"tor".to_vec(), None));
}

#[test]
fn a_frozen_connection_is_silent_and_loses_nothing() {
    let Pair { proxy, listener, mut client, mut server } = pair(|_| {});
    proxy.freeze();
    client.write_all(b"late").expect("the socket is there");
    let mut newcomer = connect(&proxy);
    newcomer.write_all(b"new").expect("the socket is there");
    drop(newcomer);
    server.set_nonblocking(true).expect("it can be");
    listener.set_nonblocking(true).expect("it can be");
    assert_eq!(server.read(&mut [0; 9]).expect_err("nothing comes").kind(), ErrorKind::WouldBlock);
    assert_eq!(listener.accept().expect_err("nothing comes").kind(), ErrorKind::WouldBlock);
    proxy.thaw();
    server.set_nonblocking(false).expect("it can be");
    listener.set_nonblocking(false).expect("it can be");
    assert_eq!(read(&mut server, 4), b"late");
    assert_eq!(read_to_end(&mut listener.accept().expect("the proxy connects").0), (b"new".to_vec(), None));
}

#[test]
fn a_delay_holds_back_one_direction() {
    let Pair { proxy, mut client, mut server, .. } = pair(|_| {});
    let by = Duration::from_millis(50);
    proxy.delay(Direction::ToServer, by);
    let begun = std::time::Instant::now();
    client.write_all(b"slow").expect("it is open");
    assert_eq!(read(&mut server, 4), b"slow");
    assert!(begun.elapsed() >= by);
}

#[test]
fn a_trap_cuts_before_its_pattern_however_it_is_divided() {
    for parts in [&[&b"a COMMIT z"[..]][..], &[b"a COM", b"MIT z"], &[b"a ", b"C", b"OMMIT", b" z"]] {
        let trap = Trap::new(b"COMMIT", Cut::Finish);
        let Pair { proxy: _proxy, mut client, mut server, .. } = pair(|proxy| {
            let trap = trap.clone();
            proxy.tap(Direction::ToClient, move |_| trap.tap());
        });
        server.write_all(b"COMMIT ").expect("it is open");
        assert_eq!(read(&mut client, 7), b"COMMIT ", "it is not armed");
        trap.arm();
        for part in parts {
            // What comes after the cut has nowhere to go.
            let _ = server.write_all(part);
        }
        let (came, _) = read_to_end(&mut client);
        assert!(b"a COMMI".starts_with(&came[..]), "{:?}", came.escape_ascii().to_string());
        assert_eq!(trap.sprung(), 1);
    }
}

#[test]
fn a_tap_can_hold_one_direction_for_good() {
    let Pair { proxy: _proxy, mut client, mut server, .. } = pair(|proxy| {
        proxy.tap(Direction::ToServer, |_| Box::new(|_: &[u8]| Verdict::Hold { after: 2 }));
    });
    client.write_all(b"held").expect("it is open");
    assert_eq!(read(&mut server, 2), b"he");
    server.write_all(b"back").expect("it is open");
    assert_eq!(read(&mut client, 4), b"back");
    drop(client);
    assert_eq!(read_to_end(&mut server).0, b"");
}
