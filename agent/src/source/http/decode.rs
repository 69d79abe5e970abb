//! Content-Encoding: what a compressed body says, never more of it than allowed.

use std::io::{self, Read};

use flate2::bufread::MultiGzDecoder;

/// The window that a decoder must be ready for (RFC 8878 section 3.1.1.1.2), as a power of two: 8 MiB. A frame that
/// asks for more is refused.
const MAX_WINDOW_LOG: u32 = 23;
/// How much is decompressed at a time.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    /// What `Accept-Encoding` says where another one came (RFC 7694 section 3).
    pub(super) const ACCEPTED: &str = "gzip, zstd";

    /// From the header's value. `None`: not one of ours.
    pub(super) fn from_header(value: &[u8]) -> Option<Self> {
        match value.trim_ascii().to_ascii_lowercase().as_slice() {
            b"" | b"identity" => Some(Self::Identity),
            b"gzip" | b"x-gzip" => Some(Self::Gzip),
            b"zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// A reader of what `encoded` says. Several gzip members or zstd frames in a row are one body.
    pub(super) fn decode(self, encoded: &[u8]) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(match self {
            Self::Identity => Box::new(encoded),
            Self::Gzip => Box::new(MultiGzDecoder::new(encoded)),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(encoded)?;
                decoder.window_log_max(MAX_WINDOW_LOG)?;
                Box::new(decoder)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        zstd::encode_all(text, 3).unwrap()
    }

    fn decoded(encoding: Encoding, encoded: &[u8]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        encoding.decode(encoded)?.read_to_end(&mut all)?;
        Ok(all)
    }

    #[test]
    fn several_members_or_frames_are_one_body() {
        for (encoding, encode) in [(Encoding::Gzip, gzip as fn(&[u8]) -> Vec<u8>), (Encoding::Zstd, zstd)] {
            let body = [encode(b"one\n"), encode(b""), encode(b"two\n")].concat();
            assert_eq!(decoded(encoding, &body).unwrap(), b"one\ntwo\n");
        }
    }

    #[test]
    fn a_body_that_breaks_off_is_an_error() {
        for (encoding, whole) in [(Encoding::Gzip, gzip(b"some text")), (Encoding::Zstd, zstd(b"some text"))] {
            for length in 1..whole.len() {
                assert!(decoded(encoding, &whole[..length]).is_err(), "{encoding:?} cut at {length}");
            }
        }
    }

    #[test]
    fn what_follows_a_body_is_an_error() {
        for (encoding, whole) in [(Encoding::Gzip, gzip(b"some text")), (Encoding::Zstd, zstd(b"some text"))] {
            assert!(decoded(encoding, &[&whole[..], b"rubbish"].concat()).is_err(), "{encoding:?}");
        }
    }

    #[test]
    fn a_frame_that_wants_a_huge_window_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(MAX_WINDOW_LOG + 1).unwrap();
        encoder.write_all(&[b'x'; 100_000]).unwrap();
        assert!(decoded(Encoding::Zstd, &encoder.finish().unwrap()).is_err());
    }
}
