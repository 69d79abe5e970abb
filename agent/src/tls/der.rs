//! As much of DER (ITU-T X.690) as keys and certificates need.

pub(crate) const INTEGER: u8 = 0x02;
#[cfg(feature = "tls-client")]
pub(crate) const BIT_STRING: u8 = 0x03;
#[cfg(feature = "snowpipe")]
pub(crate) const OCTETS: u8 = 0x04;
#[cfg(any(feature = "postgres", feature = "snowpipe"))]
pub(crate) const OBJECT: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;

/// Reads one value after the other.
pub(crate) struct Reader<'d>(&'d [u8]);

impl<'d> Reader<'d> {
    pub(crate) fn new(der: &'d [u8]) -> Self {
        Self(der)
    }

    /// The contents of the next value if it has this `tag`. If not, nothing is read.
    pub(crate) fn take(&mut self, tag: u8) -> Option<&'d [u8]> {
        let (&[found, first], rest) = self.0.split_first_chunk::<2>()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81 => rest.split_first().map(|(byte, rest)| (usize::from(*byte), rest))?,
            0x82 => rest.split_first_chunk().map(|(bytes, rest)| (usize::from(u16::from_be_bytes(*bytes)), rest))?,
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length).filter(|_| found == tag)?;
        self.0 = rest;
        Some(value)
    }
}

/// The public key that a certificate is for (SubjectPublicKeyInfo), with its head. `None`: it is none.
#[cfg(feature = "tls-client")]
pub(super) fn public_key(certificate: &[u8]) -> Option<&[u8]> {
    let mut parts = from_validity(certificate)?;
    parts.take(SEQUENCE)?; // validity
    parts.take(SEQUENCE)?; // subject
    let from_key = parts.0;
    parts.take(SEQUENCE)?;
    from_key.strip_suffix(parts.0)
}

/// What a certificate says from its validity on (RFC 5280 section 4.1). `None`: it is none.
pub(super) fn from_validity(certificate: &[u8]) -> Option<Reader<'_>> {
    const VERSION: u8 = 0xa0;
    let mut parts = Reader::new(Reader::new(Reader::new(certificate).take(SEQUENCE)?).take(SEQUENCE)?);
    // One of version 1 does not say so.
    parts.take(VERSION);
    parts.take(INTEGER)?; // serialNumber
    parts.take(SEQUENCE)?; // signature
    parts.take(SEQUENCE)?; // issuer
    Some(parts)
}

/// One value of these `parts`, at most 64 KiB.
#[cfg(feature = "snowpipe")]
pub(crate) fn encode(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let contents = parts.concat();
    let length = u16::try_from(contents.len()).expect("public keys have less than 64 KiB").to_be_bytes();
    let mut value = vec![tag];
    match length {
        [0, short @ 0..=0x7f] => value.push(short),
        [0, byte] => value.extend([0x81, byte]),
        bytes => value.extend([0x82, bytes[0], bytes[1]]),
    }
    value.extend(contents);
    value
}

#[cfg(all(test, feature = "snowpipe"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_read_whatever_its_length() {
        for length in [0, 1, 127, 128, 255, 256, 65_000] {
            let contents = vec![7; length];
            let value = encode(OCTETS, &[&contents]);
            let mut reader = Reader::new(&value);
            assert_eq!(reader.take(SEQUENCE), None);
            assert_eq!(reader.take(OCTETS), Some(contents.as_slice()));
            assert_eq!(reader.take(OCTETS), None);
            for end in 0..value.len().min(300) {
                assert_eq!(Reader::new(&value[..end]).take(OCTETS), None, "{length} cut at {end}");
            }
        }
    }
}
