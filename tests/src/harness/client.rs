//! A producer's HTTP/1.1 client: one connection, kept alive. Just what the tests need, over a plain socket, so that a
//! test knows exactly what was sent and what came back.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// No answer for this long is no answer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Response {
    /// The first header called `name` (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(held, _)| held == name).map(|(_, value)| value.as_str())
    }
}

/// A connection to one address, opened when it is first needed and again after it failed.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
}

/// What became of a request that got no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// No connection came about: the request was never sent.
    NotSent(io::Error),
    /// It was sent, in part or whole, and nothing is known of its fate.
    Unknown(io::Error),
}

impl Client {
    /// To `127.0.0.1:port`.
    pub fn new(port: u16) -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], port)), connection: None }
    }

    /// Sends `GET path`.
    pub fn get(&mut self, path: &str) -> Result<Response, NoAnswer> {
        self.request("GET", path, &[], b"")
    }

    /// Sends `POST path` with a body.
    pub fn post(&mut self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Response, NoAnswer> {
        self.request("POST", path, headers, body)
    }

    /// Sends `METHOD path` with a body.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response, NoAnswer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(self.address).map_err(NoAnswer::NotSent)?,
        };
        let (response, keep) = exchange(&mut connection, method, path, headers, body).map_err(NoAnswer::Unknown)?;
        if keep {
            self.connection = Some(connection);
        }
        Ok(response)
    }
}

fn connect(address: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(BufReader::new(stream))
}

/// One request and its answer, and whether the connection may be used again.
fn exchange(
    connection: &mut BufReader<TcpStream>,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<(Response, bool)> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    let mut bytes = request.into_bytes();
    bytes.extend_from_slice(body);
    // A server may answer (413) and close before it has read all: then the answer counts, not the broken pipe.
    let written = connection.get_mut().write_all(&bytes);
    match read_response(connection) {
        Ok((response, keep)) => Ok((response, keep && written.is_ok())),
        Err(error) => Err(written.err().unwrap_or(error)),
    }
}

fn read_response(connection: &mut BufReader<TcpStream>) -> io::Result<(Response, bool)> {
    let status_line = read_line(connection)?;
    let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| bad(&status_line))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(connection)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| bad(&line))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut response = Response { status, headers, body: String::new() };
    let mut body = Vec::new();
    let mut keep = response.header("connection") != Some("close");
    if let Some(length) = response.header("content-length") {
        body = vec![0; length.parse().map_err(|_| bad(length))?];
        connection.read_exact(&mut body)?;
    } else if response.header("transfer-encoding") == Some("chunked") {
        read_chunks(connection, &mut body)?;
    } else {
        connection.read_to_end(&mut body)?;
        keep = false;
    }
    response.body = String::from_utf8_lossy(&body).into_owned();
    Ok((response, keep))
}

fn read_chunks(connection: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let line = read_line(connection)?;
        let length = usize::from_str_radix(&line, 16).map_err(|_| bad(&line))?;
        let start = body.len();
        body.resize(start + length, 0);
        connection.read_exact(&mut body[start..])?;
        read_line(connection)?;
        if length == 0 {
            return Ok(());
        }
    }
}

fn read_line(connection: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    if connection.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP: {what:?}"))
}
