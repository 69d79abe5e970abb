//! Network interfaces: `/proc/net/dev` (proc_pid_net(5)). The loopback is left out.

use std::{io, path::Path};

use serde::Serialize;

use super::text;

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Body {
    interfaces: Vec<Interface>,
}

/// Counters since the interface came up.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Interface {
    interface: String,
    received_bytes: u64,
    received_packets: u64,
    receive_errors: u64,
    receive_dropped: u64,
    sent_bytes: u64,
    sent_packets: u64,
    send_errors: u64,
    send_dropped: u64,
}

pub(super) fn read(root: &Path) -> io::Result<Body> {
    let interfaces: Vec<_> = text(root, "proc/net/dev")?.lines().filter_map(parse).collect();
    if interfaces.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no interface but the loopback"));
    }
    Ok(Body { interfaces })
}

fn parse(line: &str) -> Option<Interface> {
    // An alias has a colon in its name; the counters have none.
    let (name, counters) = line.rsplit_once(':')?;
    let interface = name.trim().to_owned();
    let counters: Vec<u64> = counters.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    if counters.len() < 16 || interface == "lo" {
        return None;
    }
    Some(Interface {
        interface,
        received_bytes: counters[0],
        received_packets: counters[1],
        receive_errors: counters[2],
        receive_dropped: counters[3],
        sent_bytes: counters[8],
        sent_packets: counters[9],
        send_errors: counters[10],
        send_dropped: counters[11],
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counters_are_told_apart_by_their_column() {
        let found = parse("  eth0:1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16").expect("as the kernel writes it");
        let expected = Interface {
            interface: "eth0".to_owned(),
            received_bytes: 1,
            received_packets: 2,
            receive_errors: 3,
            receive_dropped: 4,
            sent_bytes: 9,
            sent_packets: 10,
            send_errors: 11,
            send_dropped: 12,
        };
        assert_eq!(found, expected);
        assert_eq!(parse("  lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16"), None);
        assert_eq!(parse(" face |bytes    packets errs drop fifo frame compressed multicast|bytes"), None);
    }

    proptest! {
        #[test]
        fn parsing_never_panics(line in "\\PC{0,10}:?( [0-9]{0,21}){0,20}") {
            let _ = parse(&line);
        }
    }
}
