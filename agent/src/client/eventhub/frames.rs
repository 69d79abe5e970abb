//! The frames of AMQP, on their way to fe2o3-amqp: what a message is made of is kept from it.
//!
//! It decodes each message that comes, and cannot be told not to; what is wrong with that is said in [`super::decode`]. So each
//! transfer's payload is put into a data section here: to fe2o3-amqp it is a message of bytes, one section for each frame,
//! and [`payload`] gives them back.
//!
//! A frame grows by that, and may be as large as the peer was told: so the peer is told of less than fe2o3-amqp is. So does
//! a message, and fe2o3-amqp judges it by what the peer says that it sends at most: so that is kept from it too.

use std::{
    fmt, io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use fe2o3_amqp::types::messaging::{Batch, Data};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::decode::{end_of_transfer, place_of_frame_limit, place_of_message_limit};

/// The largest frame that the peer may send: the service sends no larger ones.
const PEER_MAX_FRAME_BYTES: u32 = 65_536;
/// And that fe2o3-amqp takes: with a section's beginning.
pub(super) const MAX_FRAME_BYTES: u32 = PEER_MAX_FRAME_BYTES + 8;
/// A frame's size, where its body begins, its type and its channel. A protocol's header has as many.
const HEADER_BYTES: usize = 8;
/// Where the body begins, and the type: those of a frame of AMQP without an extended header.
const PLAIN: [u8; 2] = [2, 0];
/// What is read at once.
const READ_BYTES: usize = 16 << 10;

/// A message as fe2o3-amqp has it.
pub(super) type Wrapped = Batch<Data>;

/// The message as it came.
pub(super) fn payload(wrapped: Wrapped) -> Bytes {
    let mut frames: Vec<_> = wrapped.into_iter().map(|Data(bytes)| bytes.into_vec()).collect();
    if frames.len() == 1 { frames.remove(0).into() } else { frames.concat().into() }
}

/// See the module.
pub(super) struct Frames<T> {
    bytes: T,
    /// Read, and not given.
    read: BytesMut,
    /// The beginning of a frame, to be given before that.
    begun: BytesMut,
    /// How many bytes of `read` belong to a frame that has begun.
    rest: usize,
    /// What says how large frames may be, until it is written. `None`: it is still to come.
    opening: Option<BytesMut>,
}

impl<T> Frames<T> {
    pub(super) fn new(bytes: T) -> Self {
        Self { bytes, read: BytesMut::new(), begun: BytesMut::new(), rest: 0, opening: None }
    }

    /// Gives what there is to give, as far as there is room.
    fn give(&mut self, to: &mut ReadBuf<'_>) -> io::Result<()> {
        while to.remaining() > 0 && (!self.begun.is_empty() || self.rest > 0 || self.begin()?) {
            let is_beginning = !self.begun.is_empty();
            let (from, whole) = if is_beginning { (&mut self.begun, usize::MAX) } else { (&mut self.read, self.rest) };
            let count = whole.min(from.len()).min(to.remaining());
            if count == 0 {
                break;
            }
            to.put_slice(&from[..count]);
            from.advance(count);
            self.rest -= if is_beginning { 0 } else { count };
        }
        Ok(())
    }

    /// Begins a frame, if enough of it is there.
    fn begin(&mut self) -> io::Result<bool> {
        let Some((header, there)) = self.read.split_first_chunk_mut::<HEADER_BYTES>() else { return Ok(false) };
        let size = match header {
            [b'A', b'M', b'Q', b'P', ..] => HEADER_BYTES as u32,
            [a, b, c, d, ..] => u32::from_be_bytes([*a, *b, *c, *d]),
        };
        if !(HEADER_BYTES as u32..=PEER_MAX_FRAME_BYTES).contains(&size) {
            return Err(wrong(format!("a frame of {size} bytes has come; they have 8 to {PEER_MAX_FRAME_BYTES}")));
        }
        let body = size as usize - HEADER_BYTES;
        let there_bytes = there.len().min(body);
        let there = &mut there[..there_bytes];
        self.rest = size as usize;
        if header[4..6] != PLAIN || body == 0 {
            return Ok(true);
        }
        let end = match (end_of_transfer(there), place_of_message_limit(there)) {
            (Ok(Some(end)), _) => end,
            (Ok(None), Ok(limit)) => {
                limit.into_iter().for_each(|limit| there[limit].fill(0));
                return Ok(true);
            }
            (Err(_), _) | (_, Err(_)) if there_bytes < body => {
                self.rest = 0;
                return Ok(false);
            }
            (Err(why), _) | (_, Err(why)) => {
                return Err(wrong(format!("a frame has come that is none of AMQP: {why}")));
            }
        };
        self.rest = body - end;
        let mut section = [0x00, 0x53, 0x75, 0xb0, 0, 0, 0, 0];
        section[4..].copy_from_slice(&(self.rest as u32).to_be_bytes());
        self.begun.put_u32(size + section.len() as u32);
        self.begun.put_slice(&self.read[4..HEADER_BYTES + end]);
        self.begun.put_slice(&section);
        self.read.advance(HEADER_BYTES + end);
        Ok(true)
    }
}

fn wrong(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl<T: AsyncWrite + Unpin> Frames<T> {
    /// Has the peer told of the frames that it may send, if that is what is written.
    fn open(&mut self, bytes: &[u8]) -> bool {
        let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return false };
        if self.opening.is_some() || header[4..6] != PLAIN {
            return false;
        }
        let Ok(Some(limit)) = place_of_frame_limit(body) else { return false };
        let mut opening = BytesMut::from(bytes);
        opening[HEADER_BYTES..][limit].copy_from_slice(&PEER_MAX_FRAME_BYTES.to_be_bytes());
        self.opening = Some(opening);
        true
    }

    fn poll_opened(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(opening) = self.opening.as_mut().filter(|opening| !opening.is_empty()) {
            match ready!(pin!(&mut self.bytes).poll_write(context, opening))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => opening.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<T> fmt::Debug for Frames<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames").field("read_bytes", &self.read.len()).finish_non_exhaustive()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Frames<T> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = to.filled().len();
        loop {
            this.give(to)?;
            if to.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
            this.read.reserve(READ_BYTES);
            let count = ready!(pin!(this.bytes.read_buf(&mut this.read)).poll(context))?;
            if count == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Frames<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_opened(context))?;
        if this.open(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        pin!(&mut this.bytes).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_opened(context))?;
        pin!(&mut this.bytes).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_opened(context))?;
        pin!(&mut this.bytes).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// A transfer on channel 3, of handle 0 and delivery 1, with this payload.
    fn transfer(payload: &[u8]) -> Vec<u8> {
        let performative = [0x00, 0x53, 0x14, 0xc0, 0x06, 0x03, 0x43, 0x52, 0x01, 0xa0, 0x00];
        frame(&[&performative[..], payload].concat())
    }

    fn frame(body: &[u8]) -> Vec<u8> {
        let size = u32::try_from(HEADER_BYTES + body.len()).expect("it is short");
        [&size.to_be_bytes()[..], &[2, 0, 0, 3], body].concat()
    }

    /// What comes out of it when it is read and written in pieces of `piece` bytes.
    async fn through(sent: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        let (ours, mut theirs) = tokio::io::duplex(piece);
        let sent = sent.to_vec();
        let sending = tokio::spawn(async move { theirs.write_all(&sent).await });
        let (mut frames, mut given, mut buffer) = (Frames::new(ours), Vec::new(), vec![0; piece]);
        loop {
            let count = frames.read(&mut buffer).await?;
            if count == 0 {
                break;
            }
            given.extend_from_slice(&buffer[..count]);
        }
        sending.await.expect("no panic").expect("all is read");
        Ok(given)
    }

    #[tokio::test]
    async fn the_payload_of_a_transfer_is_put_into_a_data_section_and_all_else_is_left_alone() {
        let others = [
            b"AMQP\x03\x01\x00\x00".to_vec(),
            b"AMQP\x00\x01\x00\x00".to_vec(),
            frame(&[]),
            frame(&[0, 0x53, 0x18, 0x45]),
        ];
        let long = vec![7; PEER_MAX_FRAME_BYTES as usize - HEADER_BYTES - 11];
        for payload in [&b"x"[..], &long] {
            let sent = [others.concat(), transfer(payload), transfer(&[]), others.concat()].concat();
            let length = u32::try_from(payload.len()).expect("it is short").to_be_bytes();
            let section = [&[0x00, 0x53, 0x75, 0xb0][..], &length, payload].concat();
            let empty = [0x00, 0x53, 0x75, 0xb0, 0, 0, 0, 0];
            let expected = [others.concat(), transfer(&section), transfer(&empty), others.concat()].concat();
            for piece in [1, 7, 4_096, 1 << 20] {
                assert_eq!(through(&sent, piece).await.expect("nothing fails"), expected, "in pieces of {piece}");
            }
        }
    }

    /// fe2o3-amqp panics at some of it.
    #[tokio::test]
    async fn what_is_no_frame_ends_the_connection() {
        let sizes = [0_u32, 4, 7, PEER_MAX_FRAME_BYTES + 1, u32::MAX];
        let mut wrong = sizes.map(|size| [&size.to_be_bytes()[..], &[2, 0, 0, 0]].concat()).to_vec();
        wrong.push(frame(&[0x00, 0x53, 0x14, 0xd0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]));
        for sent in wrong {
            let error = through(&sent, 3).await.expect_err("it is none");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        }
    }

    /// What it sends at most says nothing about what is made of it here.
    #[tokio::test]
    async fn the_limit_of_a_peer_that_sends_is_kept_from_the_library() {
        let attach = |role: u8, limit: &[u8]| {
            // Name, handle, role, settle modes, source, target, what is unsettled twice, and the first delivery's number.
            let fields = [&[0xa1, 1, b'n', 0x43, role, 0x40, 0x40, 0x45, 0x45, 0x40, 0x40, 0x43][..], limit].concat();
            let size = u8::try_from(fields.len() + 1).expect("it is short");
            frame(&[&[0x00, 0x53, 0x12, 0xc0, size, 11][..], &fields].concat())
        };
        let limit = [&[0x80][..], &1_048_576_u64.to_be_bytes()].concat();
        let none = [0x80, 0, 0, 0, 0, 0, 0, 0, 0];
        let (sender, receiver) = (0x42, 0x41);
        let sent = [attach(sender, &limit), attach(sender, &[0x53, 9]), attach(receiver, &limit)].concat();
        let expected = [attach(sender, &none), attach(sender, &[0x53, 0]), attach(receiver, &limit)].concat();
        for piece in [1, 1 << 10] {
            assert_eq!(through(&sent, piece).await.expect("nothing fails"), expected);
        }
    }

    #[tokio::test]
    async fn the_peer_is_told_of_frames_that_still_fit_when_they_have_grown() {
        let open = |limit: u32| {
            let fields = [&[0xa1, 1, b'c', 0xa1, 1, b'h', 0x70][..], &limit.to_be_bytes()].concat();
            frame(&[&[0x00, 0x53, 0x10, 0xc0, 12, 3][..], &fields].concat())
        };
        let (ours, mut theirs) = tokio::io::duplex(1 << 10);
        let mut frames = Frames::new(ours);
        frames.write_all(b"AMQP\x00\x01\x00\x00").await.expect("it is written");
        frames.write_all(&open(MAX_FRAME_BYTES)).await.expect("it is written");
        frames.write_all(&transfer(b"x")).await.expect("it is written");
        frames.shutdown().await.expect("it is written");
        let mut sent = Vec::new();
        theirs.read_to_end(&mut sent).await.expect("nothing fails");
        let expected = [b"AMQP\x00\x01\x00\x00".to_vec(), open(PEER_MAX_FRAME_BYTES), transfer(b"x")].concat();
        assert_eq!(sent, expected);
    }
}
