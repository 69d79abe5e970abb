//! Breaking a connection at a certain packet.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::Frames;
use crate::servers::{Cut, Direction, Proxy, Verdict};

/// What happens at the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snap {
    /// The connection is cut.
    Cut,
    /// Nothing more is forwarded in the packet's direction, and nobody is told.
    Hold,
}

/// Breaks a connection before a packet of one type is forwarded: once each time it is armed. Clones are the same trap.
#[derive(Debug, Clone)]
pub struct PacketTrap {
    kind: u8,
    snap: Snap,
    /// Packets until it snaps; 0: it is not armed.
    countdown: Arc<AtomicU64>,
    sprung: Arc<AtomicU64>,
}

impl PacketTrap {
    /// One that waits on every connection made through `proxy` from now on for a packet of type `kind` on its way in
    /// `direction`.
    pub fn set(proxy: &Proxy, direction: Direction, kind: u8, snap: Snap) -> Self {
        let trap = Self { kind, snap, countdown: Arc::default(), sprung: Arc::default() };
        let watching = trap.clone();
        proxy.tap(direction, move |_| {
            let (mut frames, watching) = (Frames::default(), watching.clone());
            Box::new(move |bytes: &[u8]| watching.see(&mut frames, bytes))
        });
        trap
    }

    /// Arms it for the next packet but `skip`.
    pub fn arm(&self, skip: u64) {
        self.countdown.store(skip + 1, Ordering::Release);
    }

    /// How often it has snapped.
    pub fn sprung(&self) -> u64 {
        self.sprung.load(Ordering::Acquire)
    }

    fn see(&self, frames: &mut Frames, bytes: &[u8]) -> Verdict {
        let before = frames.pushed();
        frames.push(bytes);
        let of_kind = frames.by_ref().filter(|frame| frame.kind == self.kind);
        let starts: Vec<u64> = of_kind.map(|frame| frame.start).collect();
        for start in starts {
            let left = self.countdown.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
            if left == Ok(1) {
                self.sprung.fetch_add(1, Ordering::AcqRel);
                // Of a packet that began in what was forwarded before, at least its end is missing.
                let after = start.saturating_sub(before) as usize;
                return match self.snap {
                    Snap::Cut => Verdict::Cut { after, how: Cut::Reset },
                    Snap::Hold => Verdict::Hold { after },
                };
            }
        }
        Verdict::Forward
    }
}
