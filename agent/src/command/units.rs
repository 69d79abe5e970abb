//! Figures as people read them.

use std::time::Duration;

use forebay_buffer::Timestamp;

/// Bytes in the units that the config uses: `512 B`, `1.5 MiB`.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // At 1,023.95 the one decimal would be rounded to 1,024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A count with its thousands apart: `1,234,567`.
pub(super) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A stretch of time in its two largest units: `850 ms`, `4 s`, `3 min 20 s`, `2 h 5 min`, `12 d 3 h`.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let two = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    };
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{seconds} s"),
        60..3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

/// So many a second: `0/s`, `0.3/s`, `12/s`, `1,234/s`.
pub(super) fn rate(per_second: f64) -> String {
    match per_second {
        0.0 => "0/s".to_owned(),
        few if few < 10.0 => format!("{few:.1}/s"),
        many => format!("{}/s", count(many.round() as u64)),
    }
}

/// A point in time, to the second: `2026-11-20T14:05:09Z`.
pub(super) fn time(time: Timestamp) -> String {
    let known = jiff::Timestamp::from_second(time.0.div_euclid(1_000_000));
    known.map_or_else(|_| format!("{} us", time.0), |known| known.to_string())
}

/// Reads a time such as `10s`, `5m`, `2h` or `500ms`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit.trim_start() {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" | "min" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let milliseconds = number.parse::<u64>().ok().zip(unit_ms).and_then(|(number, unit)| number.checked_mul(unit));
    milliseconds.map(Duration::from_millis).ok_or_else(|| format!("{text:?} is not a time: say 10s, 5m or 2h"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_units_of_the_config() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes((1 << 20) - 1), "1.0 MiB");
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
    }

    #[test]
    fn counts_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn times_show_their_two_largest_units() {
        let shown = |seconds| duration(Duration::from_secs(seconds));
        assert_eq!(duration(Duration::from_millis(850)), "850 ms");
        assert_eq!([4, 200, 3_600, 7_500].map(shown), ["4 s", "3 min 20 s", "1 h", "2 h 5 min"]);
        assert_eq!(shown(12 * 86_400 + 3 * 3_600), "12 d 3 h");
    }

    #[test]
    fn slow_rates_keep_a_decimal() {
        assert_eq!([0.0, 0.25, 12.4, 1_234.5].map(rate), ["0/s", "0.2/s", "12/s", "1,235/s"]);
    }

    #[test]
    fn points_in_time_are_in_utc_and_never_fail() {
        assert_eq!(time(Timestamp(1_700_000_000_999_999)), "2023-11-14T22:13:20Z");
        assert_eq!(time(Timestamp(-1)), "1969-12-31T23:59:59Z");
        assert_eq!(time(Timestamp(i64::MAX)), format!("{} us", i64::MAX));
    }

    #[test]
    fn a_time_needs_a_unit_and_must_fit() {
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("500 ms"), Ok(Duration::from_millis(500)));
        for wrong in ["", "10", "s", "-1s", "99999999999999999999s", "18446744073709551615h", "1 fortnight"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
