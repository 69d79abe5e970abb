//! The Unix socket on which a running agent takes orders from the commands.
//!
//! One line of JSON asks, one line of JSON answers, and the connection ends. Only the agent's own user (and root) may
//! connect.

mod protocol;

use std::{
    fs, io,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, oneshot},
};

pub use self::protocol::{Answer, MAX_LINE_BYTES, Request};

/// `sun_path` of `sockaddr_un` without its final NUL: unix(7).
const MAX_PATH_BYTES: usize = 107;
/// Connections that are served at the same time; the next ones wait.
const MAX_CONNECTIONS: usize = 8;
/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);

/// A request, and where its answer goes.
pub type Asked = (Request, oneshot::Sender<Answer>);

/// The places where the socket of the agent on `data_dir` may be, in the order to try. The one in the runtime directory
/// bears a hash of the data directory, so that two agents do not take each other's place.
pub fn paths(runtime_dir: &Path, data_dir: &Path) -> [PathBuf; 2] {
    let canonical = data_dir.canonicalize().unwrap_or_else(|_| data_dir.to_owned());
    let hash = crc32fast::hash(canonical.as_os_str().as_bytes());
    [runtime_dir.join(format!("forebay-{hash:08x}.sock")), data_dir.join("forebay.sock")]
}

/// The listening end. Dropped, it takes its file away.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens in the runtime directory, or in the data directory if the other cannot be used. The caller holds the
    /// lock of the buffer, so a file that is in the way is left over from an agent that died.
    pub fn bind(runtime_dir: &Path, data_dir: &Path) -> Result<Self, String> {
        let [preferred, fallback] = paths(runtime_dir, data_dir);
        let first = fs::create_dir_all(runtime_dir).and_then(|()| listen(&preferred));
        let (listener, path) = match first {
            Ok(listener) => (listener, preferred),
            Err(error) => match listen(&fallback) {
                Ok(listener) => (listener, fallback),
                Err(second) => {
                    return Err(format!(
                        "cannot listen for commands on {} ({error}), nor on {} ({second}); \
                         set agent.runtime_dir to a short path that can be written to",
                        preferred.display(),
                        fallback.display(),
                    ));
                }
            },
        };
        log::debug!("listening for commands on {}", path.display());
        Ok(Self { listener, path })
    }

    /// Hands what is asked to `asked`. Never returns.
    pub async fn serve(self, asked: mpsc::Sender<Asked>) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let place = Arc::clone(&places).acquire_owned().await.expect("this semaphore is never closed");
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let asked = asked.clone();
                    tokio::spawn(async move {
                        let _place = place;
                        if let Err(error) = converse(stream, asked).await {
                            log::debug!("a command's connection broke: {error}");
                        }
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most likely: nothing that asking again at once would mend.
                    log::warn!("cannot accept a command's connection: {error}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Refuses a path that does not fit, with words that say so; the kernel's would not.
pub fn check_length(path: &Path) -> io::Result<()> {
    let length = path.as_os_str().len();
    if length <= MAX_PATH_BYTES {
        return Ok(());
    }
    let message = format!("the path has {length} bytes, and a socket's may have {MAX_PATH_BYTES}");
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    check_length(path)?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn converse(stream: UnixStream, asked: mpsc::Sender<Asked>) -> io::Result<()> {
    let (reading, mut writing) = stream.into_split();
    let mut line = String::new();
    let mut reading = BufReader::new(reading.take(MAX_LINE_BYTES));
    tokio::time::timeout(PATIENCE, reading.read_line(&mut line)).await??;
    let answer = match serde_json::from_str::<Request>(&line) {
        Ok(request) => {
            let (reply, answer) = oneshot::channel();
            let gone = || Answer::failed(75, "the agent is shutting down");
            match asked.send((request, reply)).await {
                Ok(()) => answer.await.unwrap_or_else(|_| gone()),
                Err(_) => gone(),
            }
        }
        Err(error) => Answer::failed(2, format!("the agent does not understand the request: {error}")),
    };
    let mut line = serde_json::to_vec(&answer).expect("answers are made of text and numbers");
    line.push(b'\n');
    writing.write_all(&line).await?;
    writing.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(path: &Path, line: &str) -> Answer {
        let mut stream = UnixStream::connect(path).await.expect("the agent listens");
        stream.write_all(line.as_bytes()).await.expect("the agent reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("the agent answers");
        serde_json::from_str(&answer).expect("the answer is a line of JSON")
    }

    #[tokio::test]
    async fn a_request_is_answered_on_one_line() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let socket = Socket::bind(directory.path(), directory.path()).expect("a short path can be bound");
        let path = socket.path.clone();
        let mode = fs::metadata(&path).expect("the socket is a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let (asked, mut asks) = mpsc::channel(1);
        let serving = tokio::spawn(socket.serve(asked));
        let answering = tokio::spawn(async move {
            let (request, reply) = asks.recv().await.expect("a request comes");
            reply.send(Answer::Done { message: format!("{request:?}") }).expect("the answer is awaited");
        });
        let answer = ask(&path, "{\"command\":\"adopt\"}\n").await;
        assert_eq!(answer, Answer::Done { message: "Adopt".to_owned() });
        answering.await.expect("the answering task does not panic");
        assert!(matches!(ask(&path, "{\"command\":\"dance\"}\n").await, Answer::Failed { code: 2, .. }));
        assert!(matches!(ask(&path, "{\"command\":\"adopt\"}\n").await, Answer::Failed { code: 75, .. }));

        serving.abort();
        assert!(serving.await.expect_err("it was aborted").is_cancelled());
        assert!(!path.exists(), "the socket's file goes with the agent");
    }

    #[tokio::test]
    async fn a_socket_left_over_from_an_agent_that_died_is_replaced() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let [path, _] = paths(directory.path(), directory.path());
        drop(std::os::unix::net::UnixListener::bind(&path).expect("a short path can be bound"));
        assert!(path.exists());
        Socket::bind(directory.path(), directory.path()).expect("the left-over file is no hindrance");
    }

    #[tokio::test]
    async fn a_runtime_directory_that_cannot_be_had_is_replaced_by_the_data_directory() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("file");
        fs::write(&file, "").expect("the directory is writable");
        let socket = Socket::bind(&file.join("run"), directory.path()).expect("the data directory serves");
        assert_eq!(socket.path, directory.path().join("forebay.sock"));
    }

    #[tokio::test]
    async fn a_path_too_long_for_a_socket_is_named_with_the_limit() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let long = directory.path().join("x".repeat(100));
        fs::create_dir(&long).expect("the file system takes names of 100 bytes");
        let error = Socket::bind(&long, &long).err().expect("no socket fits there");
        assert!(error.contains("107") && error.contains("agent.runtime_dir"), "{error}");
    }

    #[test]
    fn two_agents_with_one_runtime_directory_have_two_sockets() {
        let run = Path::new("/run/forebay");
        assert_ne!(paths(run, Path::new("/srv/a"))[0], paths(run, Path::new("/srv/b"))[0]);
    }
}
