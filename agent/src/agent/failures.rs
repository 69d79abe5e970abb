//! How often the buffer may fail before the agent gives up and leaves it to the service manager.

use std::time::{Duration, Instant};

use forebay_buffer::Error;

use super::AgentError;

/// This many within [`WINDOW`] are too many: opening again does not mend it.
const MAX: usize = 5;
const WINDOW: Duration = Duration::from_secs(600);
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The failures of late.
#[derive(Debug, Default)]
pub(super) struct Failures(Vec<Instant>);

impl Failures {
    /// Notes one, and says how long to wait before the buffer is opened again.
    pub(super) fn add(&mut self, error: &Error) -> Result<Duration, AgentError> {
        let now = Instant::now();
        self.0.retain(|failure| now.duration_since(*failure) < WINDOW);
        self.0.push(now);
        if self.0.len() > MAX {
            return Err(AgentError::failed(format!(
                "the buffer failed {} times in {} minutes, the last time with: {error}; look at the disk \
                 (dmesg, smartctl), then run `forebay buffer check`",
                self.0.len(),
                WINDOW.as_secs() / 60,
            )));
        }
        Ok(FIRST_PAUSE * (1 << self.0.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_keeps_failing_is_given_up() {
        let mut failures = Failures::default();
        let error = Error::Damaged("a page".to_owned());
        for _ in 0..MAX {
            assert!(failures.add(&error).is_ok());
        }
        let given_up = failures.add(&error).expect_err("one more is too many");
        assert!(given_up.message.contains("a page"), "{given_up}");
    }

    #[test]
    fn failures_of_long_ago_do_not_count() {
        let Some(long_ago) = Instant::now().checked_sub(WINDOW) else { return };
        let mut failures = Failures(vec![long_ago; MAX]);
        assert!(failures.add(&Error::Closed).is_ok());
    }
}
