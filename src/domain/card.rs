//! Payment card numbers, found so that they can be refused: the vault keeps personal data, never card data.

use unicode_normalization::{UnicodeNormalization as _, char::is_combining_mark};
use zeroize::Zeroizing;

/// Issuers by the first four digits of their numbers, and the lengths that they issue (ISO/IEC 7812-1).
///
/// Maestro's numbers of 12 digits are left out: IIN and BIN have 12.
const ISSUERS: [(u32, u32, &[usize]); 14] = [
    (2200, 2204, &[16, 17, 18, 19]),             // Mir
    (2221, 2720, &[16]),                         // Mastercard
    (3000, 3059, &[14, 15, 16, 17, 18, 19]),     // Diners Club
    (3095, 3095, &[14, 15, 16, 17, 18, 19]),     // Diners Club
    (3400, 3499, &[15]),                         // American Express
    (3528, 3589, &[16, 17, 18, 19]),             // JCB
    (3600, 3699, &[14, 15, 16, 17, 18, 19]),     // Diners Club
    (3700, 3799, &[15]),                         // American Express
    (3800, 3999, &[14, 15, 16, 17, 18, 19]),     // Diners Club
    (4000, 4999, &[13, 16, 19]),                 // Visa
    (5000, 5099, &[13, 14, 15, 16, 17, 18, 19]), // Maestro
    (5100, 5599, &[16]),                         // Mastercard
    (5600, 5899, &[13, 14, 15, 16, 17, 18, 19]), // Maestro
    (6000, 6999, &[13, 14, 15, 16, 17, 18, 19]), // Maestro, UnionPay (62), Discover
];

/// Shortest and longest number that [`ISSUERS`] has.
const LENGTHS: std::ops::RangeInclusive<usize> = 13..=19;

/// Whether these digits, all of them, are the number of a payment card: a known issuer's first digits and length,
/// and a valid Luhn sum.
#[must_use]
pub fn is_card_number(digits: &str) -> bool {
    let values: Option<Vec<u32>> = digits.chars().map(|c| c.to_digit(10)).collect();
    values.is_some_and(|values| is_card(&values))
}

/// Whether a text holds the number of a payment card, also one that is spread out.
///
/// Digits of every script count, and so do their decorated forms (Unicode NFKC). Spaces, line ends, invisible
/// characters, marks, dashes, dots, slashes and underscores between digits are passed over; anything else parts two
/// numbers. A number begins and ends where a group of digits does, so the inside of a longer number, such as an
/// account's, is not taken for a card. Two dates, as in `24.10.2026-25.10.2026`, are two dates.
#[must_use]
pub fn holds_card_number(text: &str) -> bool {
    let mut run = Run::with_capacity(text.len());
    for c in text.nfkc() {
        if let Some(digit) = digit_value(c) {
            run.push(digit);
        } else if is_separator(c) {
            run.end_group();
        } else if run.holds_card() {
            return true;
        } else {
            run.clear();
        }
    }
    run.holds_card()
}

/// Digits with nothing but separators between them.
struct Run {
    digits: Zeroizing<Vec<u32>>,
    /// Where each group of digits begins.
    starts: Vec<usize>,
    in_group: bool,
}

impl Run {
    fn with_capacity(digits: usize) -> Self {
        Self { digits: Zeroizing::new(Vec::with_capacity(digits)), starts: Vec::new(), in_group: false }
    }

    fn push(&mut self, digit: u32) {
        if !self.in_group {
            self.starts.push(self.digits.len());
        }
        self.in_group = true;
        self.digits.push(digit);
    }

    const fn end_group(&mut self) {
        self.in_group = false;
    }

    fn clear(&mut self) {
        self.digits.clear();
        self.starts.clear();
        self.in_group = false;
    }

    fn holds_card(&self) -> bool {
        self.starts.iter().enumerate().any(|(i, from)| {
            let later = self.starts.iter().skip(i + 1).copied().chain([self.digits.len()]);
            later
                .skip_while(|to| to - from < *LENGTHS.start())
                .take_while(|to| to - from <= *LENGTHS.end())
                .any(|to| {
                    let groups = self.starts.iter().copied().filter(|start| (*from..to).contains(start));
                    self.digits
                        .get(*from..to)
                        .is_some_and(|digits| is_card(digits) && !are_two_dates(digits, groups, *from))
                })
        })
    }
}

/// Sixteen digits in the groups of two dates, day first.
fn are_two_dates(digits: &[u32], starts: impl Iterator<Item = usize>, from: usize) -> bool {
    let is_date = |date: &[u32]| match date {
        [d1, d2, m1, m2, y1, y2, ..] => {
            (1..=31).contains(&(d1 * 10 + d2))
                && (1..=12).contains(&(m1 * 10 + m2))
                && (18..=21).contains(&(y1 * 10 + y2))
        }
        _ => false,
    };
    digits.len() == 16
        && starts.map(|start| start - from).eq([0, 2, 4, 8, 10, 12])
        && digits.chunks_exact(8).all(is_date)
}

fn is_card(digits: &[u32]) -> bool {
    issued(digits) && luhn(digits)
}

fn issued(digits: &[u32]) -> bool {
    let Some(first) = digits.first_chunk::<4>() else { return false };
    let first = first.iter().fold(0, |sum, digit| sum * 10 + digit);
    ISSUERS.iter().any(|(from, to, lengths)| (from..=to).contains(&&first) && lengths.contains(&digits.len()))
}

/// The sum of ISO/IEC 7812-1, Annex B.
fn luhn(digits: &[u32]) -> bool {
    let weighed = |(i, digit): (usize, &u32)| match (i % 2, *digit) {
        (0, d) => d,
        (_, d) if d > 4 => d * 2 - 9,
        (_, d) => d * 2,
    };
    digits.iter().rev().enumerate().map(weighed).sum::<u32>().is_multiple_of(10)
}

/// The zeros of the scripts whose decimal digits NFKC leaves as they are (Unicode, general category Nd). Nine digits
/// follow each.
const ZEROS: &str = "\
    \u{660}\u{6f0}\u{7c0}\u{966}\u{9e6}\u{a66}\u{ae6}\u{b66}\u{be6}\u{c66}\u{ce6}\u{d66}\u{de6}\u{e50}\
    \u{ed0}\u{f20}\u{1040}\u{1090}\u{17e0}\u{1810}\u{1946}\u{19d0}\u{1a80}\u{1a90}\u{1b50}\u{1bb0}\
    \u{1c40}\u{1c50}\u{a620}\u{a8d0}\u{a900}\u{a9d0}\u{a9f0}\u{aa50}\u{abf0}\u{104a0}\u{10d30}\
    \u{10d40}\u{11066}\u{110f0}\u{11136}\u{111d0}\u{112f0}\u{11450}\u{114d0}\u{11650}\u{116c0}\
    \u{116d0}\u{116da}\u{11730}\u{118e0}\u{11950}\u{11bf0}\u{11c50}\u{11d50}\u{11da0}\u{11de0}\
    \u{11f50}\u{16130}\u{16a60}\u{16ac0}\u{16b50}\u{16d70}\u{1e140}\u{1e2f0}\u{1e4f0}\u{1e5f1}\
    \u{1e950}";

fn digit_value(c: char) -> Option<u32> {
    let of_script = |zero: char| u32::from(c).checked_sub(u32::from(zero)).filter(|value| *value < 10);
    c.to_digit(10).or_else(|| if c.is_ascii() { None } else { ZEROS.chars().find_map(of_script) })
}

/// What people, and those who hide a number, put between digits.
fn is_separator(c: char) -> bool {
    const DASHES_AND_DOTS: &str =
        "-_/.\u{58a}\u{5be}\u{2043}\u{2212}\u{30fb}\u{30fc}\u{b7}\u{2022}\u{2027}\u{2219}\u{22c5}\u{3002}";
    const INVISIBLE: &str = "\u{ad}\u{61c}\u{180e}\u{feff}";
    c.is_whitespace()
        || matches!(c, '\u{2010}'..='\u{2015}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || DASHES_AND_DOTS.contains(c)
        || INVISIBLE.contains(c)
        || is_combining_mark(c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::iin;

    /// Numbers that payment providers publish for tests, and made-up ones where they publish none.
    const NUMBERS: [&str; 18] = [
        "4111111111111111",
        "4012888888881881",
        "4222222222222",
        "5555555555554444",
        "2223003122003222",
        "2720992222222229",
        "378282246310005",
        "341111111111111",
        "30569309025904",
        "38520000023237",
        "36700102000000",
        "3530111333300000",
        "6759649826438453",
        "5018000000000009",
        "6011111111111117",
        "6200000000000005",
        "2200000000000004",
        "2204000000000000006",
    ];

    #[test]
    fn test_numbers_of_every_issuer_are_cards() {
        for number in NUMBERS {
            assert!(is_card_number(number), "{number}");
            for at in 0..number.len() {
                let mut wrong: Vec<char> = number.chars().collect();
                wrong[at] = char::from_digit((wrong[at].to_digit(10).unwrap() + 1) % 10, 10).unwrap();
                assert!(!is_card_number(&wrong.into_iter().collect::<String>()), "{number} at {at}");
            }
        }
    }

    #[test]
    fn cards_in_disguise_are_found() {
        for text in [
            "4111111111111111",
            "card4111111111111111x",
            "карта: 4111 1111 1111 1111, срок 12/29",
            "4111-1111-1111-1111 12 29 123",
            "4111.1111.1111.1111",
            "4111\u{a0}1111\u{202f}1111\u{2009}1111",
            "4111\u{200b}1111\u{ad}1111\u{feff}1111",
            "4111–1111—1111−1111",
            "4111_1111/1111·1111",
            "4111 - 1111 - 1111 - 1111",
            "4111 1111\n1111 1111",
            "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
            "４１１１１１１１１１１１１１１１",
            "٤١١١١١١١١١١١١١١١",
            "४१११ 1111 １１１１ 1111",
            "④①①① 1111 1111 1111",
            "4\u{20e3}1\u{20e3}1\u{20e3}1\u{20e3} 1111 1111 1111",
            "𝟒𝟏𝟏𝟏111111111111",
            "+4111111111111111",
            "4111111111111111=2912",
        ] {
            assert!(holds_card_number(text), "{text}");
        }
    }

    #[test]
    fn other_numbers_are_not_cards() {
        for text in [
            "",
            "991231600002",
            "560101300123 650101300123",
            "+7 701 123 45 67",
            "8 (701) 123-45-67, 8 (701) 123-45-68",
            "2026-11-22 2026-11-23",
            "23.11.2026-23.11.2026",
            "ORDER-2026/000117",
            "4111111111111112",
            "41111111111111111",
            "411111111111",
            "1111111111111117",
            "KZ86125KZT5004100100",
            "00004111111111111111",
            "353011133330000",
        ] {
            assert!(!holds_card_number(text), "{text}");
        }
        for (first, second) in [("24.10.2026", "25.10.2026"), ("23.01.2026", "27.12.2030")] {
            assert!(!holds_card_number(&format!("с {first} - {second}")), "two dates");
        }
        let shaped = [2, 4, 1, 0, 2, 0, 2, 6, 2, 5, 1, 0, 2, 0, 2, 1];
        let card = (0..10).map(|d| [&shaped[..15], &[d]].concat()).find(|digits| luhn(digits)).unwrap();
        let text: String = card.iter().map(|d| char::from_digit(*d, 10).unwrap()).collect();
        assert!(holds_card_number(&text), "no separators, no dates");
        let dates = format!(
            "{}.{}.{} {}.{}.{}",
            &text[..2],
            &text[2..4],
            &text[4..8],
            &text[8..10],
            &text[10..12],
            &text[12..]
        );
        assert!(!holds_card_number(&dates), "{dates}");
    }

    /// The Luhn check digit by another road than [`luhn`]: the table of doubled digits, from the left.
    fn luhn_check_digit(body: &[u32]) -> u32 {
        const DOUBLED: [u32; 10] = [0, 2, 4, 6, 8, 1, 3, 5, 7, 9];
        let odd = body.len() % 2;
        let sum: u32 = body
            .iter()
            .enumerate()
            .map(|(i, d)| if i % 2 == odd { *d } else { DOUBLED[usize::try_from(*d).unwrap()] })
            .sum();
        (10 - sum % 10) % 10
    }

    prop_compose! {
        /// A valid number of one of the issuers, written from their own publications, not from [`ISSUERS`].
        fn card()(
            (prefix, len) in prop_oneof![
                Just((4, 13)), Just((4, 16)), Just((4, 19)),
                (51..=55_u32).prop_map(|p| (p, 16)), (2221..=2720_u32).prop_map(|p| (p, 16)),
                Just((34, 15)), Just((37, 15)),
                (16..=19_usize).prop_map(|len| (62, len)),
                (2200..=2204_u32, 16..=19_usize),
                (3528..=3589_u32).prop_map(|p| (p, 16)),
                (300..=305_u32, 14..=16_usize), Just((36, 14)), Just((38, 16)),
                (prop_oneof![Just(5018_u32), Just(5020), Just(5038), Just(5893), Just(6304), Just(6759)], 13..=19_usize),
            ],
            rest in prop::collection::vec(0..10_u32, 18),
        ) -> Vec<u32> {
            let mut digits: Vec<u32> = prefix.to_string().chars().map(|c| c.to_digit(10).unwrap()).collect();
            digits.extend(rest);
            digits.truncate(len - 1);
            digits.push(luhn_check_digit(&digits));
            digits
        }
    }

    proptest! {
        #[test]
        fn every_hidden_card_is_found(
            digits in card(),
            separators in prop::collection::vec("[ .\u{a0}\u{2007}\u{202f}\u{200b}\u{2011}–_/-]{0,3}", 19),
            zeros in prop::collection::vec(prop::sample::select(vec!['0', '\u{660}', '\u{966}', '\u{ff10}', '\u{1d7ce}']), 19),
            before in "([0-9a-zЀ-ӿ .-]{0,20}[a-zЀ-ӿ(:,])?",
            after in "([a-zЀ-ӿ:,)][0-9a-zЀ-ӿ .-]{0,20})?",
        ) {
            let mut hidden = before;
            for ((digit, separator), zero) in digits.iter().zip(&separators).zip(&zeros) {
                hidden.push(char::from_u32(u32::from(*zero) + digit).unwrap());
                hidden.push_str(separator);
            }
            hidden.push_str(&after);
            prop_assert!(holds_card_number(&hidden), "{}", hidden);
        }

        #[test]
        fn a_number_that_fails_luhn_passes(
            body in prop::collection::vec(0..10_u32, 12..19),
            off in 1..10_u32,
            around in "[A-ZА-Я:, ]{0,5}",
        ) {
            let check = (luhn_check_digit(&body) + off) % 10;
            let text: String = body.iter().chain([&check]).filter_map(|d| char::from_digit(*d, 10)).collect();
            prop_assert!(!is_card_number(&text));
            let surrounded = format!("{around}{text}{around}");
            prop_assert!(!holds_card_number(&surrounded));
        }

        #[test]
        fn iins_bins_phones_and_long_numbers_pass(
            body in prop::array::uniform11(0..10_u32),
            phone in "[+87]7[0-9]{9}",
            account in "[0-9]{20,40}",
        ) {
            let check = iin::check_digit(&body).unwrap_or(0);
            let number: String = body.iter().chain([&check]).filter_map(|d| char::from_digit(*d, 10)).collect();
            for text in [number, phone, account] {
                prop_assert!(!holds_card_number(&text), "{}", text);
            }
        }

        #[test]
        fn digits_of_every_script_count(digit in "\\p{Nd}") {
            let c = digit.chars().next().unwrap();
            prop_assert!(c.nfkc().all(|c| digit_value(c).is_some()), "U+{:04X}", u32::from(c));
        }
    }
}
