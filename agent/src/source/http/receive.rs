//! The body of a request: read in time, within its limits, and decompressed.

use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use hyper::{
    body::{Body, Incoming},
    header::EXPECT,
    http::request::Parts,
};
use tokio::time::timeout;

use super::{
    Patience, Settings,
    decode::{CHUNK_BYTES, Encoding},
    memory::Reservation,
    rejection::Rejection,
};

/// A refused body up to this long is read and thrown away, so that the connection can be used again.
const DISCARD_BYTES: u64 = 64 * 1024;

/// Limits of a body.
#[derive(Debug, Clone)]
pub(super) struct Receiver {
    max_body_bytes: usize,
    max_decompressed_bytes: usize,
    patience: Patience,
}

impl Receiver {
    pub(super) fn new(settings: &Settings, patience: Patience) -> Self {
        let Settings { max_body_bytes, max_decompressed_bytes, .. } = *settings;
        Self { max_body_bytes, max_decompressed_bytes, patience }
    }

    /// Reads `body` and says what it says once decompressed. `reserved` grows with it.
    pub(super) async fn receive(
        &self,
        body: &mut Incoming,
        encoding: Encoding,
        reserved: &mut Reservation<'_>,
    ) -> Result<Bytes, Rejection> {
        if body.size_hint().lower() > self.max_body_bytes as u64 {
            return Err(self.too_large());
        }
        let read = self.read(body, reserved);
        let read = timeout(self.patience.whole, read).await.unwrap_or_else(|_| Err(Rejection::timeout()))?;
        match encoding {
            Encoding::Identity => Ok(Bytes::from(read)),
            _ => self.decompress(&read, encoding, reserved).await.map(Bytes::from),
        }
    }

    async fn read(&self, body: &mut Incoming, reserved: &mut Reservation<'_>) -> Result<Vec<u8>, Rejection> {
        let longest = body.size_hint().exact().map_or(self.max_body_bytes, |length| length as usize);
        let mut read = Vec::new();
        loop {
            let frame = timeout(self.patience.silence, body.frame()).await.map_err(|_| Rejection::timeout())?;
            let frame = match frame {
                None => return Ok(read),
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Err(Rejection::bad_request(format!("the body breaks off: {error}"))),
            };
            // What is no data is trailers, which say nothing here.
            let Ok(data) = frame.into_data() else { continue };
            if read.len() + data.remaining() > self.max_body_bytes {
                return Err(self.too_large());
            }
            let needed = read.len() + data.remaining();
            if needed > read.capacity() {
                // What a slow producer has announced and not sent is left to the others.
                let capacity = (2 * needed).min(longest).max(needed);
                self.reserve(reserved, capacity).await?;
                read.reserve_exact(capacity - read.len());
            }
            read.extend_from_slice(&data);
        }
    }

    async fn decompress(
        &self,
        encoded: &[u8],
        encoding: Encoding,
        reserved: &mut Reservation<'_>,
    ) -> Result<Vec<u8>, Rejection> {
        if encoded.is_empty() {
            return Ok(Vec::new());
        }
        let name = encoding.name();
        let broken = |error| Rejection::bad_request(format!("the body is not valid {name}: {error}"));
        let mut decoder = encoding.decode(encoded).map_err(broken)?;
        let mut decoded = Vec::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let length = decoder.read(&mut chunk).map_err(broken)?;
            if length == 0 {
                return Ok(decoded);
            }
            if decoded.len() + length > self.max_decompressed_bytes {
                return Err(Rejection::too_large(self.max_decompressed_bytes, "max_decompressed_bytes"));
            }
            // The decoder's window holds up to as much again as what came out of it.
            self.reserve(reserved, encoded.len() + 2 * (decoded.len() + length)).await?;
            decoded.extend_from_slice(&chunk[..length]);
        }
    }

    async fn reserve(&self, reserved: &mut Reservation<'_>, bytes: usize) -> Result<(), Rejection> {
        timeout(self.patience.memory, reserved.grow_to(bytes)).await.map_err(|_| Rejection::busy())
    }

    /// Reads what is left of a refused request's body, if it is short. Says whether the connection can go on.
    pub(super) async fn discard(&self, head: &Parts, body: &mut Incoming) -> bool {
        if body.is_end_stream() {
            return true;
        }
        // Reading would invite a producer that waits for `100 Continue` to send what nobody wants.
        let is_short = body.size_hint().upper().is_some_and(|length| length <= DISCARD_BYTES);
        if !is_short || head.headers.contains_key(EXPECT) {
            return false;
        }
        let rest = async { while let Some(Ok(_)) = body.frame().await {} };
        timeout(self.patience.silence, rest).await.is_ok() && body.is_end_stream()
    }

    fn too_large(&self) -> Rejection {
        Rejection::too_large(self.max_body_bytes, "max_body_bytes")
    }
}
