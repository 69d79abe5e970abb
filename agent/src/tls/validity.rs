//! From when to when a certificate is valid.

use forebay_buffer::Timestamp;
use jiff::{civil::DateTime, tz::TimeZone};

use super::der::{Reader, SEQUENCE, from_validity};

const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// A certificate's span of validity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Not before this.
    pub not_before: Timestamp,
    /// Not after this.
    pub not_after: Timestamp,
}

impl Validity {
    /// Reads it from a certificate in DER (RFC 5280 section 4.1). `None`: it is none.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let mut validity = Reader::new(from_validity(certificate)?.take(SEQUENCE)?);
        Some(Self { not_before: time(&mut validity)?, not_after: time(&mut validity)? })
    }

    /// The span in which both are valid.
    pub(super) fn and(self, other: Self) -> Self {
        let not_before = self.not_before.max(other.not_before);
        Self { not_before, not_after: self.not_after.min(other.not_after) }
    }
}

/// The next time (RFC 5280 section 4.1.2.5).
fn time(der: &mut Reader<'_>) -> Option<Timestamp> {
    let (text, century_digits) = match der.take(UTC_TIME) {
        Some(text) => (text, 0),
        None => (der.take(GENERALIZED_TIME)?, 2),
    };
    if text.len() != 13 + century_digits || !text.ends_with(b"Z") {
        return None;
    }
    let two = |at: usize| -> Option<i16> { std::str::from_utf8(text.get(at..at + 2)?).ok()?.parse().ok() };
    let year = match (century_digits, two(0)?) {
        (0, year @ 50..) => 1900 + year,
        (0, year) => 2000 + year,
        (_, century) => century * 100 + two(2)?,
    };
    let field = |index: usize| i8::try_from(two(2 + century_digits + 2 * index)?).ok();
    let civil = DateTime::new(year, field(0)?, field(1)?, field(2)?, field(3)?, field(4)?, 0).ok()?;
    let at = civil.to_zoned(TimeZone::UTC).ok()?.timestamp();
    Some(Timestamp(at.as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn certificate(from: (i32, u8), to: (i32, u8)) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from.0, from.1, 1);
        params.not_after = rcgen::date_time_ymd(to.0, to.1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    fn day(text: &str) -> Timestamp {
        Timestamp(format!("{text}T00:00:00Z").parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    #[test]
    fn both_forms_of_time_are_read() {
        // From 2050 on, certificates write the year with four digits.
        let validity = Validity::of(&certificate((1999, 3), (2062, 11))).unwrap();
        assert_eq!(validity, Validity { not_before: day("1999-03-01"), not_after: day("2062-11-01") });
    }

    #[test]
    fn a_chain_is_valid_as_long_as_all_of_it_is() {
        let a = Validity { not_before: Timestamp(1), not_after: Timestamp(9) };
        let b = Validity { not_before: Timestamp(2), not_after: Timestamp(10) };
        assert_eq!(a.and(b), Validity { not_before: Timestamp(2), not_after: Timestamp(9) });
    }

    proptest! {
        #[test]
        fn a_damaged_certificate_is_no_panic(at in 0usize..200, byte: u8, keep in 0usize..400) {
            let mut der = certificate((2020, 1), (2030, 1));
            der[at] = byte;
            der.truncate(keep);
            let _ = Validity::of(&der);
        }
    }
}
