//! Looking into a connection, to break it at a certain place.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use memchr::memmem;

use super::Cut;

/// Sees the bytes of one direction of one connection, in order, before they are forwarded.
pub trait Tap: Send {
    /// The next bytes, wherever the network has divided them, and what to do with them.
    fn see(&mut self, bytes: &[u8]) -> Verdict;
}

impl<F: FnMut(&[u8]) -> Verdict + Send> Tap for F {
    fn see(&mut self, bytes: &[u8]) -> Verdict {
        self(bytes)
    }
}

/// What to do with the bytes that a [`Tap`] was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Forward them.
    Forward,
    /// Forward the first `after` of them, then cut the connection.
    Cut {
        /// How many are forwarded.
        after: usize,
        /// How it is cut.
        how: Cut,
    },
    /// Forward the first `after` of them, and nothing more this way for as long as the connection lasts.
    Hold {
        /// How many are forwarded.
        after: usize,
    },
}

pub(super) type MakeTap = Arc<dyn Fn(u64) -> Box<dyn Tap> + Send + Sync>;

/// Cuts a connection before certain bytes are forwarded: once each time it is armed. Clones are the same trap.
#[derive(Clone)]
pub struct Trap {
    pattern: &'static [u8],
    how: Cut,
    armed: Arc<AtomicBool>,
    sprung: Arc<AtomicU64>,
}

impl Trap {
    /// One that waits for `pattern`, and is not armed.
    pub fn new(pattern: &'static [u8], how: Cut) -> Self {
        Self { pattern, how, armed: Arc::default(), sprung: Arc::default() }
    }

    /// Arms it, for one cut.
    pub fn arm(&self) {
        self.armed.store(true, Ordering::Release);
    }

    /// Cuts made so far.
    pub fn sprung(&self) -> u64 {
        self.sprung.load(Ordering::Acquire)
    }

    /// Its eye on one connection.
    pub fn tap(&self) -> Box<dyn Tap> {
        Box::new(Watch { trap: self.clone(), end: Vec::new() })
    }
}

impl fmt::Debug for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trap({:?})", self.pattern.escape_ascii().to_string())
    }
}

struct Watch {
    trap: Trap,
    /// The end of what was seen, shorter than the pattern by one byte: the pattern may have begun in it.
    end: Vec<u8>,
}

impl Tap for Watch {
    fn see(&mut self, bytes: &[u8]) -> Verdict {
        let Trap { pattern, how, armed, sprung } = &self.trap;
        let known = self.end.len();
        self.end.extend_from_slice(bytes);
        let found = memmem::find(&self.end, pattern);
        let surplus = self.end.len().saturating_sub(pattern.len() - 1);
        self.end.drain(..surplus);
        match found {
            Some(at) if armed.swap(false, Ordering::AcqRel) => {
                sprung.fetch_add(1, Ordering::AcqRel);
                // Of a pattern that began in what was forwarded before, at least its end is missing.
                Verdict::Cut { after: at.saturating_sub(known), how: *how }
            }
            _ => Verdict::Forward,
        }
    }
}
