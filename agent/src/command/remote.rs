//! Commands that change something, or ask how it goes: through the agent's socket if one runs, else by their own hand.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
    time::Duration,
};

use forebay_buffer::clock::Clock;

use super::{
    failure::{Failure, Outcome},
    setting::{Setting, buffer_exists},
};
use crate::{
    agent::{
        AgentError, options, perform,
        socket::{Answer, Request, check_length, paths},
    },
    config::Config,
};

/// How long the agent may take to answer: an adoption closes and opens the buffer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lets the agent do it, or does it if none runs. Returns what was done.
pub(super) fn change(setting: &Setting, config: &Config, request: Request) -> Outcome<String> {
    let answer = match ask(config, &request)? {
        Some(answer) => answer,
        None => do_it(config, &setting.clock, request)?,
    };
    match answer {
        Answer::Done { message } => Ok(message),
        Answer::Failed { code, message } => Err(Failure::with_code(code, message)),
        Answer::Status { .. } => Err(Failure::failed("the agent answered something else than what it was asked")),
    }
}

/// Asks the running agent. `None`: none runs.
pub(super) fn ask(config: &Config, request: &Request) -> Outcome<Option<Answer>> {
    for path in paths(&config.agent.runtime_dir, &config.agent.data_dir) {
        if check_length(&path).is_err() {
            continue;
        }
        match UnixStream::connect(&path) {
            Ok(stream) => return converse(stream, request).map(Some).map_err(|error| broken(&path, &error)),
            Err(error) => match error.kind() {
                // Not there, or left over from an agent that died, or below something that is no directory.
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => {}
                io::ErrorKind::PermissionDenied => return Err(forbidden(&path)),
                _ => return Err(broken(&path, &error)),
            },
        }
    }
    Ok(None)
}

fn converse(mut stream: UnixStream, request: &Request) -> io::Result<Answer> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_ANSWER_BYTES)).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the agent ended before it answered"));
    }
    Ok(serde_json::from_str(&answer)?)
}

/// More than any status is long.
const MAX_ANSWER_BYTES: u64 = 64 << 20;

fn broken(path: &Path, error: &io::Error) -> Failure {
    Failure::temporary(format_args!("cannot talk to the agent at {}: {error}", path.display()))
}

fn forbidden(path: &Path) -> Failure {
    Failure::failed(format_args!(
        "may not use {}: run this as root or as the user that forebay runs as (sudo -u forebay forebay ...)",
        path.display()
    ))
}

/// Opens the buffer for one change. Its lock keeps an agent out for as long.
fn do_it(config: &Config, clock: &Arc<dyn Clock>, request: Request) -> Outcome<Answer> {
    buffer_exists(config)?;
    let buffer = options(config, clock).open()?;
    let done =
        perform(&buffer, config, request).map_err(|error| AgentError::buffer("the buffer did not do it", &error));
    buffer.close();
    Ok(done?)
}
