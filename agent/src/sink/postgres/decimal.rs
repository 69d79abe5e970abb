//! Decimal numbers as they are written, with all their digits.

use super::cell::Misfit;

/// The most digits that `numeric` has before the point, and behind it (PostgreSQL documentation, table "Numeric Types").
const MAX_BEFORE: i64 = 131_072;
const MAX_BEHIND: i64 = 16_383;
/// No exponent beyond that gives a number that fits.
const MAX_EXPONENT: i64 = 1_000_000;

/// `[-]integer.fraction * 10^exponent`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decimal<'t> {
    negative: bool,
    integer: &'t [u8],
    fraction: &'t [u8],
    exponent: i64,
}

impl<'t> Decimal<'t> {
    /// Reads a number as JSON and SQL write it.
    pub(super) fn parse(text: &'t str) -> Option<Self> {
        let (negative, text) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => {
                let digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
                if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
                    return None;
                }
                let limit = if exponent.starts_with('-') { -MAX_EXPONENT } else { MAX_EXPONENT };
                (mantissa, exponent.parse().map_or(limit, |n: i64| n.clamp(-MAX_EXPONENT, MAX_EXPONENT)))
            }
            None => (text, 0),
        };
        let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let (integer, fraction) = (integer.as_bytes(), fraction.as_bytes());
        let all_digits = integer.iter().chain(fraction).all(u8::is_ascii_digit);
        (all_digits && integer.len() + fraction.len() > 0).then_some(Self { negative, integer, fraction, exponent })
    }

    /// How many digits there are.
    fn len(&self) -> i64 {
        (self.integer.len() + self.fraction.len()) as i64
    }

    /// The power of ten of digit `at`, counted from the first.
    fn power(&self, at: i64) -> i64 {
        self.integer.len() as i64 + self.exponent - 1 - at
    }

    /// The digit that stands for `power` of ten.
    fn digit(&self, power: i64) -> u16 {
        let at = self.power(power);
        let digit = match usize::try_from(at) {
            Ok(at) if at < self.integer.len() => self.integer[at],
            Ok(at) => self.fraction.get(at - self.integer.len()).copied().unwrap_or(b'0'),
            Err(_) => b'0',
        };
        u16::from(digit - b'0')
    }

    /// The highest and the lowest power of ten that has a digit other than 0. `None`: it is zero.
    fn span(&self) -> Option<(i64, i64)> {
        let mut digits = self.integer.iter().chain(self.fraction);
        let first = digits.position(|digit| *digit != b'0')? as i64;
        let mut digits = self.integer.iter().chain(self.fraction).rev();
        let last = self.len() - 1 - digits.position(|digit| *digit != b'0')? as i64;
        Some((self.power(first), self.power(last)))
    }

    /// Whether it is zero.
    pub(super) fn is_zero(&self) -> bool {
        self.span().is_none()
    }

    /// The integer that it is, if it is one and fits.
    pub(super) fn integer(&self) -> Result<i64, Misfit> {
        let Some((highest, lowest)) = self.span() else { return Ok(0) };
        if highest > 18 {
            return Err(Misfit::out_of_range());
        }
        if lowest < 0 {
            return Err(Misfit::new("22P02", "is no whole number"));
        }
        let magnitude = (0..=highest).rev().fold(0_i128, |sum, power| sum * 10 + i128::from(self.digit(power)));
        i64::try_from(if self.negative { -magnitude } else { magnitude }).map_err(|_| Misfit::out_of_range())
    }

    /// Appends it in the binary form of `numeric` (`numeric_recv` in `src/backend/utils/adt/numeric.c`): count of groups
    /// of four digits, weight of the first, sign, digits to show behind the point, and the groups.
    pub(super) fn write_numeric(&self, out: &mut Vec<u8>) -> Result<(), Misfit> {
        let scale = (self.fraction.len() as i64 - self.exponent).max(0);
        let (highest, lowest) = self.span().unwrap_or((-1, 0));
        if highest >= MAX_BEFORE || scale > MAX_BEHIND {
            return Err(Misfit::out_of_range());
        }
        let (first, last) = (highest.div_euclid(4), lowest.div_euclid(4));
        let groups = first - last + 1;
        let sign = if self.negative && groups > 0 { 0x4000_u16 } else { 0 };
        for field in [groups as u16, if groups > 0 { first as i16 as u16 } else { 0 }, sign, scale as u16] {
            out.extend_from_slice(&field.to_be_bytes());
        }
        for group in (last..=first).rev() {
            let value = (0..4).rev().fold(0, |sum, power| sum * 10 + self.digit(group * 4 + power));
            out.extend_from_slice(&value.to_be_bytes());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numeric(text: &str) -> Option<Vec<u16>> {
        let mut out = Vec::new();
        Decimal::parse(text)?.write_numeric(&mut out).ok()?;
        Some(out.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect())
    }

    /// The text of the binary form, digit by digit.
    fn shown(fields: &[u16]) -> String {
        let (count, weight, scale) = (fields[0], i64::from(fields[1] as i16), usize::from(fields[3]));
        let group = |at: i64| {
            let nth = weight - at;
            if (0..i64::from(count)).contains(&nth) { fields[4 + nth as usize] } else { 0 }
        };
        let integer: String = (0..=weight.max(0)).rev().map(|at| format!("{:04}", group(at))).collect();
        let behind: String = (1..=scale.div_ceil(4) as i64).map(|at| format!("{:04}", group(-at))).collect();
        let integer = integer.trim_start_matches('0');
        let integer = if integer.is_empty() { "0" } else { integer };
        let sign = if fields[2] == 0x4000 { "-" } else { "" };
        if scale == 0 { format!("{sign}{integer}") } else { format!("{sign}{integer}.{}", &behind[..scale]) }
    }

    #[test]
    fn a_number_keeps_all_its_digits() {
        for text in ["0", "1", "-1.50", "12345678901234567890.1234567890", "0.0001", "10000", "0.00", "99990000"] {
            assert_eq!(shown(&numeric(text).expect(text)), text);
        }
        assert_eq!(shown(&numeric("1.5e3").expect("a number")), "1500");
        assert_eq!(shown(&numeric("-1.25E-3").expect("a number")), "-0.00125");
        assert_eq!(shown(&numeric("+.5").expect("a number")), "0.5");
    }

    #[test]
    fn what_is_no_number_or_does_not_fit_is_refused() {
        for text in ["", "-", ".", "e5", "1e", "1e+", "1..2", "1a", "--1", "0x1", "1e5x", "NaN"] {
            assert!(Decimal::parse(text).is_none(), "{text}");
        }
        for text in ["1e131072", "1e-16384", "1e99999999999999999999", "1e-99999999999999999999"] {
            assert_eq!(numeric(text), None, "{text}");
        }
        assert!(numeric("1e131071").is_some() && numeric("1e-16383").is_some());
    }

    #[test]
    fn an_integer_may_be_written_in_many_ways_but_must_be_one() {
        let integer = |text| Decimal::parse(text).expect("a number").integer().map_err(|misfit| misfit.code);
        assert_eq!(integer("1.50e1"), Ok(15));
        assert_eq!(integer("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(integer("9223372036854775808"), Err("22003"));
        assert_eq!(integer("1e999999999999"), Err("22003"));
        assert_eq!(integer("0e999999999999"), Ok(0));
        assert_eq!(integer("21.5"), Err("22P02"));
        assert_eq!(integer("1e-5"), Err("22P02"));
    }

    proptest! {
        #[test]
        fn any_decimal_is_written_as_it_is(sign in "-?", integer in "(0|[1-9][0-9]{0,30})", fraction in "[0-9]{0,30}") {
            let text = if fraction.is_empty() { integer } else { format!("{integer}.{fraction}") };
            let is_zero = text.bytes().all(|c| matches!(c, b'0' | b'.'));
            let text = if is_zero { text } else { format!("{sign}{text}") };
            prop_assert_eq!(shown(&numeric(&text).expect("it fits")), text);
        }

        #[test]
        fn integers_are_read_back(number in any::<i64>()) {
            prop_assert_eq!(Decimal::parse(&number.to_string()).expect("a number").integer(), Ok(number));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[-+0-9.eE]{0,16}") {
            if let Some(decimal) = Decimal::parse(&text) {
                let _ = (decimal.integer(), decimal.write_numeric(&mut Vec::new()));
            }
        }
    }
}
