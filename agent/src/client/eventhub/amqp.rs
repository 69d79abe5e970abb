//! What fe2o3-amqp's errors are to us, and the values that it and the buffer both have.

use std::fmt;

use fe2o3_amqp::{
    connection::{ConnectionStopReason, Error as ConnectionError, OpenError},
    link::{
        DetachError, IllegalLinkStateError, LinkStateError, ReceiverAttachError, RecvError, SendError,
        SenderAttachError, SessionStopReason,
    },
    session::{BeginError, Error as SessionError},
    types::definitions,
};

use super::{Error, error::Class};

/// A condition with the peer's words.
impl From<&definitions::Error> for Error {
    fn from(error: &definitions::Error) -> Self {
        Self::of_condition(&condition(&error.condition), error.description.as_deref())
    }
}

/// Its name on the wire.
pub(super) fn condition(condition: &definitions::ErrorCondition) -> String {
    use definitions::ErrorCondition as C;
    let symbol = match condition {
        C::AmqpError(error) => error.into(),
        C::ConnectionError(error) => error.into(),
        C::SessionError(error) => error.into(),
        C::LinkError(error) => error.into(),
        C::Custom(symbol) => return symbol.to_string(),
    };
    let fe2o3_amqp::types::primitives::Symbol(name) = symbol;
    name
}

impl From<OpenError> for Error {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::RemoteClosedWithError(error) => (&error).into(),
            OpenError::ProtocolHeaderMismatch(_) => Self::new(
                Class::Refused,
                "what answers there does not speak AMQP 1.0: look at host, port and transport",
            ),
            other => lost(other),
        }
    }
}

impl From<ConnectionError> for Error {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::RemoteClosedWithError(error) => closed_with(&error),
            other => lost(other),
        }
    }
}

impl From<BeginError> for Error {
    fn from(error: BeginError) -> Self {
        match error {
            BeginError::ConnectionStopped(reason) => (&reason).into(),
            BeginError::RemoteEndedWithError(error) => (&error).into(),
            other => lost(other),
        }
    }
}

impl From<SessionError> for Error {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::ConnectionStopped(reason) => (&reason).into(),
            SessionError::RemoteEndedWithError(error) => (&error).into(),
            other => detached(other),
        }
    }
}

impl From<&ConnectionStopReason> for Error {
    fn from(reason: &ConnectionStopReason) -> Self {
        match reason {
            ConnectionStopReason::ClosedWithError(error) | ConnectionStopReason::RemoteClosedWithError(error) => {
                closed_with(error)
            }
            ConnectionStopReason::RemoteClosed => Self::lost("the service closed the connection"),
            ConnectionStopReason::Closed => Self::lost("the connection is closed"),
        }
    }
}

/// The connection is gone whatever the condition says.
fn closed_with(error: &definitions::Error) -> Error {
    let mut error = Error::from(error);
    if matches!(error.class, Class::Detached) {
        error.class = Class::Lost;
    }
    error
}

impl From<&SessionStopReason> for Error {
    fn from(reason: &SessionStopReason) -> Self {
        match reason {
            SessionStopReason::ConnectionStopped(reason) => reason.into(),
            SessionStopReason::EndedWithError(error) | SessionStopReason::RemoteEndedWithError(error) => error.into(),
            SessionStopReason::Ended | SessionStopReason::RemoteEnded => detached("the session has ended"),
        }
    }
}

impl From<LinkStateError> for Error {
    fn from(error: LinkStateError) -> Self {
        match error {
            LinkStateError::SessionStopped(reason) => (&reason).into(),
            LinkStateError::RemoteDetachedWithError(error) | LinkStateError::RemoteClosedWithError(error) => {
                (&error).into()
            }
            LinkStateError::RemoteDetached | LinkStateError::RemoteClosed => detached("the service detached the link"),
            other => detached(other),
        }
    }
}

impl From<IllegalLinkStateError> for Error {
    fn from(error: IllegalLinkStateError) -> Self {
        match error {
            IllegalLinkStateError::SessionStopped(reason) => (&reason).into(),
            other => detached(other),
        }
    }
}

impl From<SenderAttachError> for Error {
    fn from(error: SenderAttachError) -> Self {
        match error {
            SenderAttachError::SessionStopped(reason) => (&reason).into(),
            SenderAttachError::RemoteClosedWithError(error) => (&error).into(),
            other => detached(other),
        }
    }
}

impl From<ReceiverAttachError> for Error {
    fn from(error: ReceiverAttachError) -> Self {
        match error {
            ReceiverAttachError::SessionStopped(reason) => (&reason).into(),
            ReceiverAttachError::RemoteClosedWithError(error) => (&error).into(),
            other => detached(other),
        }
    }
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        match error {
            SendError::LinkStateError(error) => error.into(),
            SendError::Detached(error) => error.into(),
            SendError::MessageSizeExceeded(error) => Self::new(Class::TooLarge, error.to_string()),
            other => detached(other),
        }
    }
}

impl From<DetachError> for Error {
    fn from(error: DetachError) -> Self {
        LinkStateError::from(error).into()
    }
}

impl From<RecvError> for Error {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::LinkStateError(error) => error.into(),
            RecvError::MessageDecode(error) => {
                Self::new(Class::Refused, format!("an event came that is no message of AMQP: {error:?}"))
            }
            other => detached(other),
        }
    }
}

fn lost(error: impl fmt::Display) -> Error {
    Error::lost(error.to_string())
}

fn detached(error: impl fmt::Display) -> Error {
    Error::new(Class::Detached, error.to_string())
}
