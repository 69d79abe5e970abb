//! AMQP in WebSocket (RFC 6455; "AMQP over WebSockets" of OASIS): a client's side, and no more of it than carries bytes.
//!
//! The libraries for it are larger than all that is left for them in the binary. Frames that the peer sends may be of any
//! size: their content is handed on as it comes, and nothing is kept.

use std::{
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::{Buf, BufMut, BytesMut};
use ring::digest;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::{Error, error::Class, http, stream::Bytes};

/// Where the service has it.
const PATH: &str = "/$servicebus/websocket";
/// What Azure's own libraries ask for, and what OASIS calls it.
const PROTOCOLS: [&str; 2] = ["AMQPWSB10", "amqp"];
/// RFC 6455, section 1.3.
const MAGIC: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Content of one frame that we send, at most.
const MAX_CONTENT_BYTES: usize = 64 << 10;
/// Read at a time.
const CHUNK_BYTES: usize = 16 << 10;
/// Content of a frame that is not data (section 5.5).
const MAX_CONTROL_BYTES: u64 = 125;

const BINARY: u8 = 0x82;
const PONG: u8 = 0x8a;

/// Bytes over WebSocket.
pub(super) struct WebSocket {
    stream: Box<dyn Bytes>,
    /// Read, and not yet taken apart: the head of a frame at most, or a ping.
    input: BytesMut,
    /// What is left of the content of a data frame.
    content: u64,
    /// Frames that are not written yet.
    output: BytesMut,
}

/// Asks for WebSocket, and waits for the answer.
pub(super) async fn connect(mut stream: Box<dyn Bytes>, host: &str, port: u16) -> Result<WebSocket, Error> {
    let mut nonce = [0; 16];
    random(&mut nonce);
    let nonce = BASE64_STANDARD.encode(nonce);
    let authority = http::authority(host, port);
    let request = format!(
        "GET {PATH} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: AMQPWSB10, amqp\r\nSec-WebSocket-Key: {nonce}\r\n\r\n"
    );
    let lost = |error: io::Error| Error::lost(format!("asking {authority} for WebSocket: {error}"));
    stream.write_all(request.as_bytes()).await.map_err(lost)?;
    stream.flush().await.map_err(lost)?;
    let answer = http::Head::read(&mut stream).await.map_err(lost)?;
    if answer.status != 101 {
        let class = match answer.status {
            // By a firewall of the service's or another on the way, which somebody changes there.
            401 | 403 => Class::Unauthorized,
            408 | 429 | 500.. => Class::Lost,
            _ => Class::Refused,
        };
        let message =
            format!("{authority} does not speak WebSocket at {PATH}: it answers {} {}", answer.status, answer.reason);
        return Err(Error::new(class, message));
    }
    let proof = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{nonce}{MAGIC}").as_bytes());
    if answer.field("sec-websocket-accept") != Some(BASE64_STANDARD.encode(proof).as_str()) {
        return Err(Error::lost(format!("{authority} gives an answer about WebSocket that is not to this request")));
    }
    if !answer.field("sec-websocket-protocol").is_some_and(|chosen| PROTOCOLS.contains(&chosen)) {
        return Err(Error::new(Class::Refused, format!("{authority} speaks WebSocket, and no AMQP over it")));
    }
    Ok(WebSocket { stream, input: BytesMut::new(), content: 0, output: BytesMut::new() })
}

fn random(bytes: &mut [u8]) {
    // Masks protect proxies that do not know WebSocket, not us (section 10.3).
    let _ = getrandom::fill(bytes);
}

impl WebSocket {
    /// Puts a frame into the output, masked as a client must.
    fn put(&mut self, first: u8, content: &[u8]) {
        let mut mask = [0; 4];
        random(&mut mask);
        self.output.put_u8(first);
        match (u8::try_from(content.len()), u16::try_from(content.len())) {
            (Ok(length @ ..=125), _) => self.output.put_u8(0x80 | length),
            (_, Ok(length)) => {
                self.output.put_u8(0x80 | 126);
                self.output.put_u16(length);
            }
            _ => {
                self.output.put_u8(0x80 | 127);
                self.output.put_u64(content.len() as u64);
            }
        }
        self.output.put_slice(&mask);
        self.output.extend(content.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }

    /// Writes what is to be written.
    fn poll_output(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let written = ready!(pin!(&mut self.stream).poll_write(context, &self.output))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the head of a frame off the input, and the whole of one that is not data. `false`: more must be read first.
    fn next_frame(&mut self) -> io::Result<bool> {
        let [first, second, ..] = self.input[..] else { return Ok(false) };
        if second & 0x80 != 0 || first & 0x70 != 0 {
            return Err(io::Error::other("the peer sends frames that are not a server's"));
        }
        let (head, length) = match (second, &self.input[2..]) {
            (126, [a, b, ..]) => (4, u64::from(u16::from_be_bytes([*a, *b]))),
            (127, &[a, b, c, d, e, f, g, h, ..]) => (10, u64::from_be_bytes([a, b, c, d, e, f, g, h])),
            (126 | 127, _) => return Ok(false),
            (length, _) => (2, u64::from(length)),
        };
        let opcode = first & 0x0f;
        if opcode < 8 {
            self.input.advance(head);
            self.content = length;
            return Ok(true);
        }
        if length > MAX_CONTROL_BYTES {
            return Err(io::Error::other("the peer sends a frame that is too large for its kind"));
        }
        let length = usize::try_from(length).expect("it is at most 125");
        if self.input.len() < head + length {
            return Ok(false);
        }
        self.input.advance(head);
        let content = self.input.split_to(length);
        match opcode {
            8 => Err(closed(&content)),
            9 => {
                self.put(PONG, &content);
                Ok(true)
            }
            _ => Ok(true),
        }
    }
}

/// The peer says goodbye, and perhaps why (section 7.1.5).
fn closed(content: &[u8]) -> io::Error {
    let why = match content {
        [a, b, why @ ..] => format!("{} {}", u16::from_be_bytes([*a, *b]), String::from_utf8_lossy(why)),
        _ => "it does not say why".to_owned(),
    };
    io::Error::new(io::ErrorKind::ConnectionAborted, format!("the peer closed the WebSocket: {}", why.trim_end()))
}

impl AsyncRead for WebSocket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.content > 0 && !this.input.is_empty() {
                let left = usize::try_from(this.content).unwrap_or(usize::MAX);
                let taken = this.input.len().min(left).min(buffer.remaining());
                buffer.put_slice(&this.input.split_to(taken));
                this.content -= taken as u64;
                return Poll::Ready(Ok(()));
            }
            if this.content == 0 && this.next_frame()? {
                continue;
            }
            // A pong waits for the next chance if the peer does not read.
            if let Poll::Ready(Err(error)) = this.poll_output(context) {
                return Poll::Ready(Err(error));
            }
            let mut chunk = [0; CHUNK_BYTES];
            let mut read = ReadBuf::new(&mut chunk);
            ready!(pin!(&mut this.stream).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                // Without a goodbye.
                return Poll::Ready(Ok(()));
            }
            this.input.put_slice(read.filled());
        }
    }
}

impl AsyncWrite for WebSocket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_output(context))?;
        let bytes = &bytes[..bytes.len().min(MAX_CONTENT_BYTES)];
        this.put(BINARY, bytes);
        // It is taken; what cannot be written now will be by the next write or flush.
        match this.poll_output(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_output(context))?;
        pin!(&mut this.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};

    use super::*;

    /// A WebSocket past its handshake, and what it talks to.
    fn pair() -> (WebSocket, DuplexStream) {
        let (ours, theirs) = duplex(1 << 20);
        (WebSocket { stream: Box::new(ours), input: BytesMut::new(), content: 0, output: BytesMut::new() }, theirs)
    }

    /// Reads one frame of a client's: its first byte, and its content without the mask.
    async fn frame(stream: &mut DuplexStream) -> (u8, Vec<u8>) {
        let (first, second) = (stream.read_u8().await.unwrap(), stream.read_u8().await.unwrap());
        assert_ne!(second & 0x80, 0, "a client's frames are masked");
        let length = match second & 0x7f {
            126 => u64::from(stream.read_u16().await.unwrap()),
            127 => stream.read_u64().await.unwrap(),
            length => u64::from(length),
        };
        let mut mask = [0; 4];
        stream.read_exact(&mut mask).await.unwrap();
        let mut content = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut content).await.unwrap();
        content.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        (first, content)
    }

    #[tokio::test]
    async fn what_is_written_comes_in_masked_frames_of_every_width() {
        let (mut ours, mut theirs) = pair();
        for length in [0, 1, 125, 126, 65_535, 65_536, 70_000] {
            let sent: Vec<u8> = (0..length).map(|at| at as u8).collect();
            ours.write_all(&sent).await.unwrap();
            ours.flush().await.unwrap();
            let mut received = Vec::new();
            while received.len() < length {
                let (first, content) = frame(&mut theirs).await;
                assert_eq!(first, BINARY);
                received.extend(content);
            }
            assert_eq!(received, sent);
        }
    }

    #[tokio::test]
    async fn what_is_read_may_be_cut_anywhere_and_pings_are_answered_between() {
        let (mut ours, mut theirs) = pair();
        let mut sent = vec![0x02, 3, 1, 2, 3, 0x89, 4];
        sent.extend(b"ping");
        sent.extend([0x80, 126, 1, 0]);
        sent.extend([7; 256]);
        sent.extend([0x82, 0, 0x82, 1, 9]);
        let (reader, writer) = tokio::join!(
            async {
                let mut received = vec![0; 3 + 256 + 1];
                ours.read_exact(&mut received).await.map(|_| received)
            },
            async {
                for byte in sent {
                    theirs.write_u8(byte).await.unwrap();
                    tokio::task::yield_now().await;
                }
                frame(&mut theirs).await
            }
        );
        let mut expected = vec![1, 2, 3];
        expected.extend([7; 256]);
        expected.push(9);
        assert_eq!(reader.unwrap(), expected);
        assert_eq!(writer, (PONG, b"ping".to_vec()));
    }

    #[tokio::test]
    async fn a_goodbye_says_why_and_what_is_no_servers_frame_is_an_error() {
        for (sent, said) in [
            (&b"\x88\x07\x03\xe9enough"[..7 + 2], "1001 enoug"),
            (b"\x88\x00", "does not say why"),
            (b"\x82\x81abcde", "not a server's"),
            (b"\xc2\x01a", "not a server's"),
            (b"\x89\x7e\x00\xff", "too large for its kind"),
        ] {
            let (mut ours, mut theirs) = pair();
            theirs.write_all(sent).await.unwrap();
            let error = ours.read_u8().await.unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let (mut ours, theirs) = pair();
        drop(theirs);
        assert_eq!(ours.read_u8().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn an_answer_to_another_request_is_not_taken() {
        for (answer, class) in [
            ("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: bm9uZQ==\r\n\r\n", Class::Lost),
            ("HTTP/1.1 404 Not Found\r\n\r\n", Class::Refused),
            ("HTTP/1.1 403 Forbidden\r\n\r\n", Class::Unauthorized),
            ("HTTP/1.1 408 Request Timeout\r\n\r\n", Class::Lost),
            ("HTTP/1.1 429 Too Many Requests\r\n\r\n", Class::Lost),
            ("HTTP/1.1 503 Busy\r\n\r\n", Class::Lost),
            ("AMQP\0\0\0\0", Class::Lost),
        ] {
            let (ours, mut theirs) = duplex(4 << 10);
            let (asked, ()) = tokio::join!(connect(Box::new(ours), "h", 443), async {
                theirs.write_all(answer.as_bytes()).await.unwrap();
                theirs.shutdown().await.unwrap();
            });
            assert_eq!(asked.err().map(|error| error.class), Some(class), "{answer}");
        }
    }
}
