//! What went wrong, and what is worth doing about it.

use std::{fmt, time::Duration};

/// A server that is busy wants to be left alone for so long, where it does not say how long.
const BUSY: Duration = Duration::from_secs(4);

/// Why something did not work, with the peer's own condition and words in its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What to do about it.
    pub class: Class,
    /// What was being done, and what came of it.
    pub message: String,
}

/// What an error is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The connection is gone, or nothing came over it for too long: a new one is worth trying at once.
    Lost,
    /// The link is gone, and the connection is not: a new link is worth trying at once.
    Detached,
    /// The service wants to be left alone for so long.
    Busy(Duration),
    /// A quota is used up: worth trying again after a long while.
    Quota,
    /// The service does not know us, or does not let us do this: worth trying again after a while, for keys and roles
    /// change.
    Unauthorized,
    /// Another receiver with a higher owner level has the partition: do not fight.
    Stolen,
    /// The message is larger than the link takes.
    TooLarge,
    /// The service does not take this very batch, and would not take it another time: something in it is wrong.
    Rejected,
    /// The position to begin at is none of this hub's.
    InvalidOffset,
    /// There is no such hub, consumer group or partition.
    NotFound,
    /// It will be the same until somebody changes something.
    Refused,
}

impl Error {
    /// One of this class.
    pub(super) fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into() }
    }

    /// The connection is gone.
    pub(super) fn lost(message: impl Into<String>) -> Self {
        Self::new(Class::Lost, message)
    }

    /// Nothing came for so long.
    pub(super) fn silent(what: impl fmt::Display, timeout: Duration) -> Self {
        Self::lost(format!("{what}: no answer within {} s", timeout.as_secs_f32()))
    }

    /// The same, with what was being done said first.
    pub(super) fn while_doing(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// What an AMQP condition of the service means, with the service's own words.
    pub(super) fn of_condition(condition: &str, description: Option<&str>) -> Self {
        let words = description.unwrap_or_default();
        let class = match condition {
            "com.microsoft:server-busy" => Class::Busy(wait_in(words).unwrap_or(BUSY)),
            "amqp:connection:forced"
            | "amqp:internal-error"
            | "amqp:connection:framing-error"
            | "amqp:connection:redirect" => Class::Lost,
            "com.microsoft:timeout"
            | "com.microsoft:operation-cancelled"
            | "amqp:link:detach-forced"
            | "amqp:link:transfer-limit-exceeded"
            | "amqp:session:window-violation" => Class::Detached,
            "amqp:unauthorized-access" | "com.microsoft:auth-failed" => Class::Unauthorized,
            "amqp:resource-limit-exceeded" => Class::Quota,
            "amqp:link:stolen" | "com.microsoft:producer-epoch-stolen" => Class::Stolen,
            "amqp:link:message-size-exceeded" => Class::TooLarge,
            "com.microsoft:georeplication:invalid-offset" => Class::InvalidOffset,
            "com.microsoft:argument-error" if is_about_a_position(words) => Class::InvalidOffset,
            "amqp:not-found" => Class::NotFound,
            "com.microsoft:argument-error"
            | "com.microsoft:argument-out-of-range"
            | "com.microsoft:entity-disabled"
            | "amqp:not-allowed"
            | "amqp:not-implemented"
            | "amqp:invalid-field"
            | "amqp:decode-error" => Class::Refused,
            // What is not known is worth another link; who calls waits longer each time.
            _ => Class::Detached,
        };
        let message = match words {
            "" => condition.to_owned(),
            words => format!("{condition}: {words}"),
        };
        Self { class, message }
    }
}

/// "The supplied offset '9' is invalid. The last offset in the system is '4'", and the same of sequence numbers.
fn is_about_a_position(words: &str) -> bool {
    words.contains("offset") || words.contains("sequence number")
}

/// "Please wait N seconds and try again".
fn wait_in(words: &str) -> Option<Duration> {
    let (_, rest) = words.split_once("wait ")?;
    let (number, rest) = rest.split_once(' ')?;
    let seconds: u64 = rest.starts_with("second").then(|| number.parse().ok())??;
    // What asks for more than an hour means something else.
    Some(Duration::from_secs(seconds.min(3600)))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_service_is_left_alone_as_long_as_it_says() {
        let class = |words| Error::of_condition("com.microsoft:server-busy", Some(words)).class;
        assert_eq!(
            class("Error code: 50002. Please wait 9 seconds and try again."),
            Class::Busy(Duration::from_secs(9))
        );
        assert_eq!(class("Please wait 1 second."), Class::Busy(Duration::from_secs(1)));
        for unclear in ["", "wait", "wait a moment", "wait -1 seconds", "wait 5 minutes"] {
            assert_eq!(class(unclear), Class::Busy(BUSY), "{unclear}");
        }
    }

    #[test]
    fn the_services_words_are_kept() {
        let error = Error::of_condition("amqp:not-found", Some("no hub 'x'")).while_doing("attaching");
        assert_eq!((error.class, error.to_string()), (Class::NotFound, "attaching: amqp:not-found: no hub 'x'".into()));
    }

    #[test]
    fn an_argument_that_is_no_offset_is_not_mistaken_for_one() {
        let of = |words| Error::of_condition("com.microsoft:argument-error", Some(words)).class;
        assert_eq!(
            of("The supplied offset '9' is invalid. The last offset in the system is '4'"),
            Class::InvalidOffset
        );
        assert_eq!(of("The supplied sequence number '9' is invalid"), Class::InvalidOffset);
        assert_eq!(of("The filter 'x' is not supported."), Class::Refused);
    }
}
