//! The check digit that IIN and BIN share (rules of registration P030000565 and P070000406).

/// True when `text` is 12 ASCII digits whose last is the check digit of the first 11.
///
/// Nothing else about a number is judged: since Resolution 853 of 26.08.2013 an IIN need not agree with the
/// person's date of birth or sex.
#[must_use]
pub fn has_valid_check_digit(text: &str) -> bool {
    let Some((digits, check)) = parse_digits(text) else {
        return false;
    };
    check_digit(&digits) == Some(check)
}

/// True when `text` is 12 ASCII digits whose last is what either pass over the first 11 gives. This is wider than
/// [`has_valid_check_digit`]: it also holds what a checker takes for an IIN that knows one pass only.
#[must_use]
pub fn resembles_iin(text: &str) -> bool {
    parse_digits(text).is_some_and(|(digits, check)| passes(&digits).any(|remainder| remainder == check))
}

/// The check digit of 11 digits, or `None` where the number may not be issued (both passes give 10).
#[must_use]
pub fn check_digit(digits: &[u32; 11]) -> Option<u32> {
    passes(digits).find(|remainder| *remainder < 10)
}

/// The remainders of both passes, 0 to 10.
fn passes(digits: &[u32; 11]) -> impl Iterator<Item = u32> {
    const FIRST: [u32; 11] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
    const SECOND: [u32; 11] = [3, 4, 5, 6, 7, 8, 9, 10, 11, 1, 2];
    let pass = |weights: [u32; 11]| digits.iter().zip(weights).map(|(d, w)| d * w).sum::<u32>() % 11;
    [FIRST, SECOND].into_iter().map(pass)
}

fn parse_digits(text: &str) -> Option<([u32; 11], u32)> {
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(10)).collect::<Option<_>>()?;
    let (check, first) = digits.split_last()?;
    Some((first.try_into().ok()?, *check))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_passes_are_used() {
        for good in [
            "991231600002", // first pass
            "991231600301", // first pass gives 10, second decides
            "211140009394", // BINs of published policies; the first and the third need the second pass
            "230840002814",
            "210140019844",
            "171240017760",
        ] {
            assert!(has_valid_check_digit(good), "{good}");
        }
        assert_eq!(check_digit(&[9, 9, 1, 2, 3, 1, 6, 0, 1, 1, 0]), None, "never issued");
    }

    #[test]
    fn every_wrong_check_digit_is_found() {
        for good in ["991231600002", "991231600301"] {
            let (body, check) = good.split_at(11);
            for digit in "0123456789".chars().filter(|d| !check.contains(*d)) {
                assert!(!has_valid_check_digit(&format!("{body}{digit}")), "{body}{digit}");
            }
        }
    }

    #[test]
    fn one_pass_is_enough_for_a_resemblance() {
        for (text, valid) in [
            ("991231600002", true),  // first pass
            ("991231600301", true),  // second pass
            ("991231600009", false), // the second pass gives 9, where the first decides
            ("991231601100", false), // both give 10
        ] {
            assert_eq!(has_valid_check_digit(text), valid, "{text}");
            assert_eq!(resembles_iin(text), text != "991231601100", "{text}");
        }
    }

    #[test]
    fn only_twelve_ascii_digits() {
        for bad in ["", "99123160000", "9912316000020", "99123160000a", "٩٩١٢٣١٦٠٠٠٠٢"] {
            assert!(!has_valid_check_digit(bad), "{bad}");
        }
    }
}
