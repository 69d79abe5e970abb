//! Messages of QoS 2 that are stored and not yet released by the broker, as a partition's position has them.
//!
//! A position is a byte for its version, eight bytes that stand for the session, and the packet identifiers, two bytes
//! each, in big-endian order.

use ring::digest::{Context, SHA256};

use crate::client::mqtt::Address;

const VERSION: u8 = 1;

/// What stands for the session of a client with a broker: packet identifiers mean nothing outside of theirs. It is
/// stored, so that it must never change.
pub(super) fn session(broker: &Address, client_id: &str) -> [u8; 8] {
    let mut digest = Context::new(&SHA256);
    digest.update(broker.to_string().as_bytes());
    digest.update(b"\0");
    digest.update(client_id.as_bytes());
    *digest.finish().as_ref().first_chunk().expect("SHA-256 has 32 bytes")
}

/// A position.
pub(super) fn encode(session: [u8; 8], ids: impl Iterator<Item = u16>) -> Vec<u8> {
    let mut position = vec![VERSION];
    position.extend(session);
    position.extend(ids.flat_map(u16::to_be_bytes));
    position
}

/// The packet identifiers in a position: none if it belongs to another session.
pub(super) fn decode(session: [u8; 8], position: &[u8]) -> Result<Vec<u16>, String> {
    let (version, rest) = position.split_first().ok_or("it is empty")?;
    if *version != VERSION {
        return Err(format!("it has version {version}, and this agent knows {VERSION}"));
    }
    let (stored, ids) = rest.split_first_chunk::<8>().ok_or("it is too short")?;
    let (ids, rest) = ids.as_chunks::<2>();
    match rest {
        _ if *stored != session => Ok(Vec::new()),
        [] => Ok(ids.iter().map(|id| u16::from_be_bytes(*id)).collect()),
        _ => Err("it ends within a packet identifier".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back_in_its_own_session_only() {
        let address = Address::parse("mqtt://broker").unwrap();
        let (ours, other) = (session(&address, "a"), session(&address, "b"));
        for ids in [vec![], vec![1], vec![1, 500, u16::MAX]] {
            let position = encode(ours, ids.iter().copied());
            assert_eq!(decode(ours, &position), Ok(ids));
            assert_eq!(decode(other, &position), Ok(Vec::new()));
        }
        assert_ne!(ours, session(&Address::parse("mqtt://broker:1884").unwrap(), "a"));
    }

    #[test]
    fn what_is_no_position_is_refused() {
        let session = [7; 8];
        let mut torn = encode(session, [1, 2].into_iter());
        torn.pop();
        for position in [&[][..], &[2; 11], &[VERSION, 7], &torn, br#"{"v":1}"#] {
            decode(session, position).expect_err("no position");
        }
    }
}
