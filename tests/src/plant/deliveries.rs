//! What the broker delivers to the agent, seen on the wire.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use super::readings::lane_and_number;
use crate::{
    mqtt::{Frames, Version},
    servers::{Tap, Verdict},
};

/// Every PUBLISH on its way from the broker to the agent, in order. What is cut or lost behind the place where it is seen
/// is here and never came, so that this is the most that the agent can have had. Clones see the same.
#[derive(Debug, Clone)]
pub struct Deliveries {
    version: Version,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    lanes: HashMap<String, Vec<u64>>,
    messages: u64,
}

impl Deliveries {
    pub(super) fn new(version: Version) -> Self {
        Self { version, seen: Arc::default() }
    }

    /// The numbers delivered of each lane, in order.
    pub fn by_lane(&self) -> HashMap<String, Vec<u64>> {
        self.seen.lock().expect("no holder of this lock panics").lanes.clone()
    }

    /// Messages delivered, repeated ones included.
    pub fn messages(&self) -> u64 {
        self.seen.lock().expect("no holder of this lock panics").messages
    }

    pub(super) fn tap(&self) -> Box<dyn Tap> {
        let (mut frames, version, seen) = (Frames::default(), self.version, Arc::clone(&self.seen));
        Box::new(move |bytes: &[u8]| {
            frames.push(bytes);
            let mut seen = seen.lock().expect("no holder of this lock panics");
            for frame in frames.by_ref() {
                let Some(message) = frame.message(version) else { continue };
                seen.messages += 1;
                if let Some((lane, number)) = lane_and_number(&message.payload) {
                    seen.lanes.entry(lane).or_default().push(number);
                }
            }
            Verdict::Forward
        })
    }
}
