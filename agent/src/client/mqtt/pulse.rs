//! When to say something, and when the other side has been silent for too long.

use std::time::Duration;

use tokio::time::Instant;

/// The keep-alive of one connection (MQTT 3.1.1 and 5, section 3.1.2.10).
#[derive(Debug)]
pub(super) struct Pulse {
    /// Between pings.
    interval: Duration,
    /// How long an answer may take, and how long what is written may be stuck.
    patience: Duration,
    next_ping: Instant,
    /// When the ping was sent that nothing has followed.
    unanswered: Option<Instant>,
    /// Since when nothing could be written of what is to be.
    stuck: Option<Instant>,
    /// When an answer that was asked for must be there, and how long that takes.
    promised: Option<(Instant, Duration)>,
    listens: bool,
}

/// What there is to do when a time has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Nothing yet.
    Rest,
    /// Send a ping.
    Ping,
    /// The broker takes nothing, or answers nothing, for so long.
    Dead(Duration),
}

impl Pulse {
    /// A ping at three quarters of `keep_alive`, so that the broker hears of us in time.
    pub(super) fn new(keep_alive: Duration, now: Instant) -> Self {
        let interval = keep_alive * 3 / 4;
        Self {
            interval,
            patience: interval,
            next_ping: now + interval,
            unanswered: None,
            stuck: None,
            promised: None,
            listens: true,
        }
    }

    /// Something came.
    pub(super) fn heard(&mut self) {
        self.unanswered = None;
    }

    /// Whether anything is read just now. While nothing is, silence means nothing: answers are awaited from `now` on.
    pub(super) fn listens(&mut self, listens: bool, now: Instant) {
        if std::mem::replace(&mut self.listens, listens) && listens {
            return;
        }
        if let Some(since) = &mut self.unanswered {
            *since = now;
        }
        if let Some((by, patience)) = &mut self.promised {
            *by = now + *patience;
        }
    }

    /// Something was asked for that must be answered within `patience`.
    pub(super) fn promised(&mut self, now: Instant, patience: Duration) {
        self.promised = Some((now + patience, patience));
    }

    /// It was.
    pub(super) fn kept(&mut self) {
        self.promised = None;
    }

    /// Whether something is left to be written after an attempt.
    pub(super) fn wrote(&mut self, progress: bool, left: bool, now: Instant) {
        self.stuck = match self.stuck {
            Some(since) if left && !progress => Some(since),
            _ => left.then_some(now),
        };
    }

    /// When to look again.
    pub(super) fn due(&self) -> Instant {
        let ends = [self.unanswered, self.stuck].into_iter().flatten().map(|since| since + self.patience);
        let promised = self.promised.map(|(by, _)| by);
        ends.chain(promised).fold(self.next_ping, Instant::min)
    }

    /// What to do at `now`.
    pub(super) fn beat(&mut self, now: Instant) -> Beat {
        if [self.unanswered, self.stuck].into_iter().flatten().any(|since| since + self.patience <= now) {
            return Beat::Dead(self.patience);
        }
        if let Some((_, patience)) = self.promised.filter(|(by, _)| *by <= now) {
            return Beat::Dead(patience);
        }
        if now < self.next_ping {
            return Beat::Rest;
        }
        self.next_ping = now + self.interval;
        self.unanswered.get_or_insert(now);
        Beat::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_ping_goes_out_in_time_and_its_answer_is_awaited() {
        let start = Instant::now();
        let mut pulse = Pulse::new(40 * SECOND, start);
        assert_eq!(pulse.due(), start + 30 * SECOND);
        assert_eq!(pulse.beat(start + 29 * SECOND), Beat::Rest);
        assert_eq!(pulse.beat(start + 30 * SECOND), Beat::Ping);
        pulse.heard();
        assert_eq!(pulse.beat(start + 60 * SECOND), Beat::Ping);
        assert_eq!(pulse.beat(start + 89 * SECOND), Beat::Rest);
        assert_eq!(pulse.beat(start + 90 * SECOND), Beat::Dead(30 * SECOND));
    }

    #[test]
    fn silence_means_nothing_while_nothing_is_read() {
        let start = Instant::now();
        let mut pulse = Pulse::new(40 * SECOND, start);
        for half_minutes in 1..10 {
            let now = start + half_minutes * 30 * SECOND;
            pulse.listens(false, now);
            assert_eq!(pulse.beat(now), Beat::Ping);
        }
        let now = start + 290 * SECOND;
        pulse.listens(true, now);
        assert_eq!(pulse.beat(start + 300 * SECOND), Beat::Ping);
        assert_eq!(pulse.beat(now + 29 * SECOND), Beat::Rest);
        assert_eq!(pulse.beat(now + 30 * SECOND), Beat::Dead(30 * SECOND));
    }

    #[test]
    fn a_broker_that_takes_nothing_is_dead_and_one_that_is_slow_is_not() {
        let start = Instant::now();
        let mut pulse = Pulse::new(40 * SECOND, start);
        pulse.wrote(false, true, start);
        pulse.wrote(true, true, start + 20 * SECOND);
        pulse.heard();
        assert_eq!(pulse.beat(start + 31 * SECOND), Beat::Ping);
        pulse.heard();
        assert_eq!(pulse.beat(start + 50 * SECOND), Beat::Dead(30 * SECOND));
        let mut pulse = Pulse::new(40 * SECOND, start);
        pulse.wrote(false, true, start);
        pulse.wrote(true, false, start + SECOND);
        assert_eq!(pulse.due(), start + 30 * SECOND);
    }
}
