//! What the service manager hears of us: sd_notify(3). Without one, all of this does nothing.

use std::time::{Duration, Instant};

use forebay_buffer::Heartbeat;
use sd_notify::NotifyState;

/// How often the state is looked at when nobody asks for a watchdog.
const IDLE_INTERVAL: Duration = Duration::from_secs(10);
/// How much longer a start may take each time we say that it goes on.
const MORE_TIME: Duration = Duration::from_secs(60);

/// The service manager's ear.
pub(super) struct Systemd {
    watchdog: Option<Duration>,
    last_status: String,
    last_beat: Option<(Heartbeat, Instant)>,
    was_stuck: bool,
}

/// What the watchdog is fed with.
pub(super) struct VitalSigns {
    /// What has worked longest without a pause of all sources and sinks, and for how long.
    pub(super) longest_work: Option<(String, Duration)>,
    /// How the buffer's writer is.
    pub(super) writer: Heartbeat,
    /// The state in one line.
    pub(super) status: String,
}

impl Systemd {
    pub(super) fn new() -> Self {
        let watchdog = sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero());
        Self { watchdog, last_status: String::new(), last_beat: None, was_stuck: false }
    }

    /// How often to call [`Systemd::beat`].
    pub(super) fn interval(&self) -> Duration {
        self.watchdog.map_or(IDLE_INTERVAL, |interval| interval / 3)
    }

    pub(super) fn ready(&mut self) {
        tell(&[NotifyState::Ready]);
    }

    pub(super) fn stopping(&mut self) {
        self.last_status.clear();
        tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }

    pub(super) fn reloading(&mut self) {
        // Type=notify-reload wants the time with it.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
    }

    /// Tells the state if it changed, and feeds the watchdog if our own loops get on. Waiting for a network or for room
    /// is no work, so being offline or full never trips it.
    pub(super) fn beat(&mut self, signs: &VitalSigns) {
        if signs.status != self.last_status {
            self.last_status.clone_from(&signs.status);
            tell(&[NotifyState::Status(&signs.status)]);
        }
        let Some(limit) = self.watchdog else { return };
        match self.stuck(signs, limit) {
            None => {
                self.was_stuck = false;
                tell(&[NotifyState::Watchdog]);
            }
            Some(what) if !self.was_stuck => {
                self.was_stuck = true;
                log::error!("{what}: the watchdog is no longer fed");
            }
            Some(_) => {}
        }
    }

    /// What is stuck, if anything is.
    fn stuck(&mut self, signs: &VitalSigns, limit: Duration) -> Option<String> {
        let since = match self.last_beat {
            Some((before, since)) if before == signs.writer && signs.writer.busy => since,
            _ => {
                self.last_beat = Some((signs.writer, Instant::now()));
                Instant::now()
            }
        };
        if since.elapsed() > limit {
            return Some(format!(
                "the buffer's writer has been at one piece of work for {} s",
                since.elapsed().as_secs()
            ));
        }
        let (subject, longest) = signs.longest_work.as_ref()?;
        (*longest > limit).then(|| format!("{subject} has been at one piece of work for {} s", longest.as_secs()))
    }

    /// Keeps the service manager patient while the buffer is opened or closed, and at a reload: salvaging a large file
    /// takes its time.
    pub(super) async fn keep_alive_during<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let mut beat = tokio::time::interval(self.interval());
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = beat.tick() => {
                    tell(&[NotifyState::Watchdog, NotifyState::ExtendTimeoutUsec(MORE_TIME.as_micros() as u32)]);
                }
            }
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::debug!("cannot notify the service manager: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signs(beats: u64, busy: bool, longest: Duration) -> VitalSigns {
        let longest_work = Some(("source line1".to_owned(), longest));
        VitalSigns { longest_work, writer: Heartbeat { beats, busy }, status: String::new() }
    }

    #[test]
    fn a_writer_that_is_busy_without_getting_on_is_stuck() {
        let mut systemd = Systemd { watchdog: None, last_status: String::new(), last_beat: None, was_stuck: false };
        let mut stuck = |beats, busy| {
            std::thread::sleep(Duration::from_millis(2));
            systemd.stuck(&signs(beats, busy, Duration::ZERO), Duration::from_millis(1)).is_some()
        };
        assert!(!stuck(1, true));
        assert!(stuck(1, true));
        assert!(!stuck(2, true), "it got on");
        assert!(!stuck(2, false), "idle for long is well");
        assert!(!stuck(2, true), "it has only just begun");
    }

    #[test]
    fn work_of_a_source_that_takes_too_long_is_named() {
        let mut systemd = Systemd { watchdog: None, last_status: String::new(), last_beat: None, was_stuck: false };
        let limit = Duration::from_secs(30);
        assert_eq!(systemd.stuck(&signs(1, false, limit), limit), None);
        let stuck = systemd.stuck(&signs(1, false, Duration::from_secs(31)), limit).expect("it is over the limit");
        assert!(stuck.contains("source line1"), "{stuck}");
    }
}
