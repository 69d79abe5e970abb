//! How a client answers its broker.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
};

use super::{Frame, Frames, Version, kind};
use crate::servers::{Direction, Proxy, Verdict};

/// Watches the answers of the client behind a proxy: on each connection it acknowledges what came on that connection, in
/// the order in which it came, each once (3.1.1, section 4.6; packet identifiers are used again on the next connection).
/// Clones watch the same.
#[derive(Debug, Clone)]
pub struct Manners {
    version: Version,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// What is to be answered: by connection and type of the answer.
    owed: HashMap<(u64, u8), VecDeque<u16>>,
    /// The newest connection on which the broker has answered.
    newest: u64,
    answers: u64,
    subscriptions: u64,
    faults: Vec<String>,
}

impl Manners {
    /// Watches every connection made through `proxy` from now on.
    pub fn watch(proxy: &Proxy, version: Version) -> Self {
        let manners = Self { version, seen: Arc::default() };
        for direction in [Direction::ToClient, Direction::ToServer] {
            let watching = manners.clone();
            proxy.tap(direction, move |connection| {
                let (mut frames, watching) = (Frames::default(), watching.clone());
                Box::new(move |bytes: &[u8]| {
                    frames.push(bytes);
                    frames.by_ref().for_each(|frame| watching.see(connection, direction, &frame));
                    Verdict::Forward
                })
            });
        }
        manners
    }

    /// Acknowledgements of any kind so far.
    pub fn answers(&self) -> u64 {
        self.seen.lock().expect("no holder of this lock panics").answers
    }

    /// Messages and releases on the newest connection that are not answered.
    pub fn owed(&self) -> usize {
        let seen = self.seen.lock().expect("no holder of this lock panics");
        seen.owed.iter().filter(|((connection, _), _)| *connection == seen.newest).map(|(_, owed)| owed.len()).sum()
    }

    /// Subscriptions that the broker has confirmed.
    pub fn subscriptions(&self) -> u64 {
        self.seen.lock().expect("no holder of this lock panics").subscriptions
    }

    /// Every answer that was out of place.
    pub fn faults(&self) -> Vec<String> {
        self.seen.lock().expect("no holder of this lock panics").faults.clone()
    }

    fn see(&self, connection: u64, direction: Direction, frame: &Frame) {
        let mut seen = self.seen.lock().expect("no holder of this lock panics");
        match (direction, frame.kind) {
            (Direction::ToClient, kind::PUBLISH) => {
                let message = frame.message(self.version).expect("it is a PUBLISH");
                let answer = match message.qos {
                    0 => return,
                    1 => kind::PUBACK,
                    _ => kind::PUBREC,
                };
                seen.owed.entry((connection, answer)).or_default().push_back(message.packet_id);
            }
            (Direction::ToClient, kind::CONNACK) => seen.newest = connection,
            (Direction::ToClient, kind::SUBACK) => seen.subscriptions += 1,
            (Direction::ToClient, kind::PUBREL) => {
                seen.owed.entry((connection, kind::PUBCOMP)).or_default().push_back(frame.packet_id());
            }
            (Direction::ToServer, answer @ (kind::PUBACK | kind::PUBREC | kind::PUBCOMP)) => {
                seen.answers += 1;
                let next = seen.owed.get_mut(&(connection, answer)).and_then(VecDeque::pop_front);
                if next != Some(frame.packet_id()) {
                    let id = frame.packet_id();
                    seen.faults.push(format!("connection {connection}: type {answer} for {id} instead of {next:?}"));
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::frames::{encode, push_string};

    fn frame(bytes: &[u8]) -> Frame {
        let mut frames = Frames::default();
        frames.push(bytes);
        frames.next().expect("it is whole")
    }

    fn publish(id: u8) -> Frame {
        let mut body = Vec::new();
        push_string(&mut body, "t");
        body.extend([0, id]);
        frame(&encode(kind::PUBLISH << 4 | 2, &body))
    }

    fn faults(published: &[(u64, u8)], answered: &[(u64, u8)]) -> usize {
        let manners = Manners { version: Version::V3, seen: Arc::default() };
        published.iter().for_each(|(connection, id)| manners.see(*connection, Direction::ToClient, &publish(*id)));
        for (connection, id) in answered {
            manners.see(*connection, Direction::ToServer, &frame(&encode(kind::PUBACK << 4, &[0, *id])));
        }
        manners.faults().len()
    }

    #[test]
    fn only_what_came_on_a_connection_is_answered_there_in_its_order_and_once() {
        assert_eq!(faults(&[(0, 1), (0, 2), (1, 1)], &[(0, 1), (1, 1), (0, 2)]), 0);
        assert_eq!(faults(&[(0, 1), (0, 2)], &[(0, 2)]), 1, "out of order");
        assert_eq!(faults(&[(0, 1)], &[(0, 1), (0, 1)]), 1, "twice");
        assert_eq!(faults(&[(0, 1)], &[(1, 1)]), 1, "on another connection");
    }
}
