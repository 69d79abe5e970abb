//! Sizes, times and rates as people write them: a number is nothing without its unit.

use std::time::Duration;

/// Units of size, the largest first; of two names for one unit, the one that is printed first.
const SIZES: [(&str, u64); 11] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
    ("bytes", 1),
];

/// Units of time in milliseconds, the largest first.
const TIMES: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a size: `2GiB`, `64 KiB`, `1MB`.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let (number, rest) = leading_number(text)?;
    let unit = rest.trim();
    if unit.is_empty() {
        let shown = show_size(number);
        return Err(if number >= 1_000 && !shown.ends_with("0B") && shown.len() < number.to_string().len() {
            format!("has no unit: is it \"{shown}\", which is {number} bytes?")
        } else {
            format!("has no unit: is it \"{number}B\", \"{number}KiB\" or \"{number}MiB\"?")
        });
    }
    let (_, bytes) = SIZES.iter().find(|(name, _)| *name == unit).ok_or_else(|| {
        let meant = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
        let hint = meant.map(|(name, _)| format!(": is it \"{name}\"?")).unwrap_or_default();
        format!("has the unit \"{unit}\", which is none of size{hint}")
    })?;
    number.checked_mul(*bytes).ok_or_else(|| "is more than can be counted".to_owned())
}

/// Reads a time: `10s`, `5m`, `1h30m`, `250ms`, `7d`.
pub(super) fn parse_time(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    let mut total_ms: u64 = 0;
    loop {
        let (number, after) = leading_number(rest)?;
        let after = after.trim_start();
        let unit_length = after.find(|c: char| c.is_ascii_digit() || c.is_whitespace()).unwrap_or(after.len());
        let unit = &after[..unit_length];
        if unit.is_empty() {
            return Err(format!("has no unit: is it \"{number}s\", \"{number}ms\" or \"{number}m\"?"));
        }
        let (_, ms) = TIMES
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(|| format!("has the unit \"{unit}\", which is none of time"))?;
        let part = number.checked_mul(*ms).and_then(|part| total_ms.checked_add(part));
        total_ms = part.ok_or_else(|| "is more than can be counted".to_owned())?;
        rest = after[unit_length..].trim_start();
        if rest.is_empty() {
            return Ok(Duration::from_millis(total_ms));
        }
    }
}

/// Reads a rate: `1MiB/s`, or a size that is meant for each second.
pub(super) fn parse_rate(text: &str) -> Result<u64, String> {
    let size = text.trim().strip_suffix("/s").unwrap_or(text);
    parse_size(size)
}

/// A size in the largest unit that divides it.
pub(super) fn show_size(bytes: u64) -> String {
    let fits = |unit: u64| bytes >= unit && bytes.is_multiple_of(unit);
    let (name, unit) = SIZES.iter().find(|(_, unit)| fits(*unit)).unwrap_or(&("B", 1));
    format!("{}{name}", bytes / unit)
}

/// A time in the largest units that it is made of.
pub(super) fn show_time(time: Duration) -> String {
    let mut rest = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let mut shown = String::new();
    for (name, ms) in TIMES.iter().skip(1) {
        if rest >= *ms {
            shown.push_str(&format!("{}{name}", rest / ms));
            rest %= ms;
        }
    }
    if shown.is_empty() { "0s".to_owned() } else { shown }
}

/// The whole number that `text` begins with, and what follows it.
fn leading_number(text: &str) -> Result<(u64, &str), String> {
    let text = text.trim_start();
    let length = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(length);
    if digits.is_empty() {
        return Err("does not begin with a number".to_owned());
    }
    if rest.starts_with(['.', ',']) {
        return Err("is not a whole number: take a smaller unit".to_owned());
    }
    let number = digits.parse().map_err(|_| "is more than can be counted".to_owned())?;
    Ok((number, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_with_their_unit() {
        for (text, bytes) in
            [("2GiB", 2 << 30), ("64 KiB", 64 << 10), ("1MB", 1_000_000), ("5kB", 5_000), ("0B", 0), ("7 bytes", 7)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn a_size_without_unit_or_with_another_is_refused_with_a_hint() {
        assert!(parse_size("64").unwrap_err().contains("has no unit: is it \"64B\""));
        assert!(parse_size("1073741824").unwrap_err().contains("is it \"1GiB\", which is 1073741824 bytes?"));
        assert!(parse_size("2gib").unwrap_err().contains("is it \"GiB\"?"));
        assert!(parse_size("2 parsecs").unwrap_err().contains("none of size"));
        assert!(parse_size("1.5GiB").unwrap_err().contains("smaller unit"));
        assert!(parse_size("99999999TiB").unwrap_err().contains("more than can be counted"));
        assert!(parse_size("").unwrap_err().contains("number"));
    }

    #[test]
    fn times_are_read_with_their_units() {
        for (text, ms) in [
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("7d", 604_800_000),
            ("1h 30m", 5_400_000),
            ("2 w", 1_209_600_000),
        ] {
            assert_eq!(parse_time(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        assert!(parse_time("1h30").unwrap_err().contains("is it \"30s\""));
        assert!(parse_time("3 sec").unwrap_err().contains("\"sec\""));
    }

    #[test]
    fn a_rate_is_a_size_for_each_second() {
        assert_eq!(parse_rate("1MiB/s"), Ok(1 << 20));
        assert_eq!(parse_rate("64KiB"), Ok(64 << 10));
        assert!(parse_rate("5/s").is_err());
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(bytes: u64, ms in 0..u64::MAX / 2) {
            prop_assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
            let time = Duration::from_millis(ms);
            prop_assert_eq!(parse_time(&show_time(time)), Ok(time));
        }

        #[test]
        fn nothing_makes_them_panic(text in ".*") {
            let _ = (parse_size(&text), parse_time(&text), parse_rate(&text));
        }
    }
}
