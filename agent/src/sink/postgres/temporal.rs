//! Times in the binary forms of the server, which counts from the year 2000.

use forebay_buffer::Timestamp;
use jiff::civil;

use super::cell::Misfit;

const MICROS_A_DAY: i64 = 86_400_000_000;
/// 2000-01-01, in days since 1970-01-01.
const DAYS_TO_2000: i64 = 10_957;
/// What the server takes as a timestamp, in microseconds since 2000 (`MIN_TIMESTAMP` and `END_TIMESTAMP` in
/// `src/include/datatype/timestamp.h`), and as a date, in days (`DATETIME_MIN_JULIAN`).
const MIN_TIMESTAMP: i64 = -211_813_488_000_000_000;
const END_TIMESTAMP: i64 = 9_223_371_331_200_000_000;
const MIN_DATE: i64 = -2_451_545;

/// A time that the server's `timestamp` and `timestamptz` can hold.
pub(super) fn write_timestamp(out: &mut Vec<u8>, time: Timestamp) -> Result<(), Misfit> {
    let since_2000 = time.0.checked_sub(DAYS_TO_2000 * MICROS_A_DAY);
    let fits = since_2000.filter(|micros| (MIN_TIMESTAMP..END_TIMESTAMP).contains(micros));
    let micros = fits.ok_or(Misfit::new("22008", "is a time that the server cannot hold"))?;
    out.extend_from_slice(&micros.to_be_bytes());
    Ok(())
}

/// The day of a time, in UTC.
pub(super) fn write_date(out: &mut Vec<u8>, time: Timestamp) -> Result<(), Misfit> {
    let days = time.0.div_euclid(MICROS_A_DAY) - DAYS_TO_2000;
    if days < MIN_DATE {
        return Err(Misfit::new("22008", "is a day that the server cannot hold"));
    }
    let days = i32::try_from(days).expect("64 bits of microseconds hold less than 2^31 days");
    out.extend_from_slice(&days.to_be_bytes());
    Ok(())
}

/// The time of day, in UTC.
pub(super) fn write_time(out: &mut Vec<u8>, time: Timestamp) {
    out.extend_from_slice(&time.0.rem_euclid(MICROS_A_DAY).to_be_bytes());
}

/// Writes `infinity` or `-infinity`, if that is what `text` says (`DT_NOEND` in `src/include/datatype/timestamp.h`,
/// `DATEVAL_NOEND` in `src/include/utils/date.h`, and their opposites).
pub(super) fn write_infinity(out: &mut Vec<u8>, is_date: bool, text: &str) -> bool {
    let word = text.trim_ascii();
    let is_late = match word.strip_prefix('-') {
        Some(rest) if rest.eq_ignore_ascii_case("infinity") => false,
        None if word.strip_prefix('+').unwrap_or(word).eq_ignore_ascii_case("infinity") => true,
        _ => return false,
    };
    match is_date {
        true => out.extend_from_slice(&(if is_late { i32::MAX } else { i32::MIN }).to_be_bytes()),
        false => out.extend_from_slice(&(if is_late { i64::MAX } else { i64::MIN }).to_be_bytes()),
    }
    true
}

/// Reads a date with a time as RFC 3339 or SQL write it. Without an offset it is UTC: what the server's `TimeZone` says
/// may differ from one connection to the next.
pub(super) fn parse_timestamp(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.trim_ascii().parse::<jiff::Timestamp>() {
        return Some(Timestamp(time.as_microsecond()));
    }
    let (time, ahead) = parted(text)?;
    let time: civil::DateTime = time.parse().ok()?;
    let since_1970 = time.duration_since(civil::date(1970, 1, 1).to_datetime(civil::Time::midnight()));
    Some(Timestamp(i64::try_from(since_1970.as_micros()).ok()? - ahead))
}

/// Reads a time of day, as midnight of 1970 and so much; one with an offset as it is in UTC, as its timestamp is.
pub(super) fn parse_time(text: &str) -> Option<Timestamp> {
    let (time, ahead) = parted(text)?;
    let time: civil::Time = time.parse().ok()?;
    let seconds = i64::from(time.hour()) * 3600 + i64::from(time.minute()) * 60 + i64::from(time.second());
    let micros = seconds * 1_000_000 + i64::from(time.subsec_nanosecond()) / 1000;
    Some(Timestamp((micros - ahead).rem_euclid(MICROS_A_DAY)))
}

/// A time without its zone, and how far that is ahead of UTC, in microseconds. A zone is `Z`, `UTC`, or an offset, with
/// blanks before it or without; a name in brackets behind it says nothing more, and one without is not known.
fn parted(text: &str) -> Option<(&str, i64)> {
    let text = text.trim_ascii();
    let (text, is_named) = match text.strip_suffix(']') {
        Some(rest) => (rest.rsplit_once('[')?.0, true),
        None => (text, false),
    };
    let is_zone = |at: usize, zone: &str| text.get(at..).is_some_and(|end| end.eq_ignore_ascii_case(zone));
    for zone in ["z", "utc"] {
        let at = text.len().saturating_sub(zone.len());
        if is_zone(at, zone) {
            return Some((text[..at].trim_ascii_end(), 0));
        }
    }
    // The hyphens of a date come before any of these.
    let begins = text.find(['T', 't', ' ', ':']).unwrap_or(text.len());
    let Some(sign) = text[begins..].rfind(['+', '-']) else { return (!is_named).then_some((text, 0)) };
    let (time, offset) = text.split_at(begins + sign);
    let then: jiff::Timestamp = format!("1970-01-01T00:00:00{offset}").parse().ok()?;
    Some((time.trim_ascii_end(), -then.as_microsecond()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_epochs_are_those_of_the_server() {
        let mut out = Vec::new();
        write_timestamp(&mut out, Timestamp(946_684_800_000_001)).expect("the year 2000");
        write_date(&mut out, Timestamp(946_684_800_000_000 - 1)).expect("the year 1999");
        write_time(&mut out, Timestamp(-1));
        let expected = [&1_i64.to_be_bytes()[..], &(-1_i32).to_be_bytes(), &(MICROS_A_DAY - 1).to_be_bytes()].concat();
        assert_eq!(out, expected);
    }

    #[test]
    fn times_that_the_server_cannot_hold_are_refused() {
        let code = |time| write_timestamp(&mut Vec::new(), Timestamp(time)).map_err(|misfit| misfit.code);
        assert_eq!(code(i64::MIN), Err("22008"));
        assert_eq!(code(i64::MAX), Ok(()), "the year 294247 is just before the server's end");
        assert_eq!(write_date(&mut Vec::new(), Timestamp(i64::MIN)).map_err(|misfit| misfit.code), Err("22008"));
        assert!(write_date(&mut Vec::new(), Timestamp(i64::MAX)).is_ok());
    }

    #[test]
    fn times_are_read_as_producers_write_them() {
        let noon = Some(Timestamp(1_700_000_000_123_456));
        for text in [
            "2023-11-14T22:13:20.123456Z",
            "2023-11-14T23:13:20.123456+01:00",
            "2023-11-14 22:13:20.123456+00",
            "2023-11-14T22:13:20.123456",
            " 2023-11-14 22:13:20.123456789 ",
            "2023-11-14 22:13:20.123456 UTC",
            "2023-11-14 22:13:20.123456utc",
            "2023-11-14 22:13:20.123456 Z",
            "2023-11-14 23:13:20.123456 +0100",
            "2023-11-14T17:13:20.123456-05:00[America/New_York]",
        ] {
            assert_eq!(parse_timestamp(text), noon, "{text}");
        }
        assert_eq!(parse_timestamp("2023-11-14"), Some(Timestamp(1_699_920_000_000_000)));
        for text in ["", "yesterday", "1700000000", "2023-02-30T00:00:00Z", "infinity"] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
        assert_eq!(parse_time("01:02:03.5"), Some(Timestamp(3_723_500_000)));
        assert_eq!(parse_time("25:00"), None);
        let end = Some(Timestamp(253_402_300_799_000_000));
        assert_eq!(parse_timestamp("9999-12-31 23:59:59"), end, "what stands for no end");
        assert_eq!(parse_timestamp("9999-12-31T23:59:59Z"), end);
    }

    #[test]
    fn a_date_a_timestamp_and_a_time_are_of_the_same_instant() {
        for text in [
            "2023-11-14T23:30:00-05:00",
            "2023-11-14 23:30:00 -0500",
            "2023-11-15 04:30:00Z",
            "2023-11-15 04:30:00 UTC",
            "2023-11-15T05:30:00+01:00[Europe/Paris]",
        ] {
            assert_eq!(parse_timestamp(text), Some(Timestamp(1_700_022_600_000_000)), "{text}");
            assert_eq!(parse_time(text), Some(Timestamp(16_200_000_000)), "{text}");
        }
        assert_eq!(parse_time("23:30:00-05"), Some(Timestamp(16_200_000_000)));
        assert_eq!(parse_time("04:30Z"), Some(Timestamp(16_200_000_000)));
    }

    proptest! {
        #[test]
        fn no_time_makes_it_panic(micros in any::<i64>(), text in "[-0-9:TZUC+.é\\[\\] ]{0,24}") {
            let _ = write_timestamp(&mut Vec::new(), Timestamp(micros));
            let _ = write_date(&mut Vec::new(), Timestamp(micros));
            let _ = (parse_timestamp(&text), parse_time(&text));
        }
    }
}
