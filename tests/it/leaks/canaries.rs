//! Canaries, every form in which one might lie about, and a search for all of them at once.

use std::{collections::HashMap, fmt::Write as _};

use data_encoding::{BASE32_NOPAD, BASE64_NOPAD, BASE64URL_NOPAD, Encoding, HEXLOWER, HEXUPPER};

/// Something that must be nowhere, with a word for the message.
#[derive(Debug, Clone)]
pub struct Canary {
    what: &'static str,
    bytes: Vec<u8>,
}

impl Canary {
    pub fn new(what: &'static str, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        assert!(bytes.len() >= SHORTEST, "a {what} of {} bytes would be found by chance", bytes.len());
        Self { what, bytes }
    }

    /// How a form of it is told.
    pub fn name(&self, form: &str) -> String {
        format!("a {} as {form}", self.what)
    }

    /// Every form, by name.
    pub fn forms(&self) -> Vec<(String, Vec<u8>)> {
        let bytes = &self.bytes;
        let mut forms: Vec<(String, Vec<u8>)> = Vec::new();
        let mut add = |name: &str, form: Vec<u8>| {
            if forms.iter().all(|(_, known)| *known != form) {
                forms.push((name.to_owned(), form));
            }
        };
        add("plain", bytes.clone());
        add("hex", HEXLOWER.encode(bytes).into_bytes());
        add("HEX", HEXUPPER.encode(bytes).into_bytes());
        for (name, encoding, group) in
            [("base64", BASE64_NOPAD, 3), ("base64url", BASE64URL_NOPAD, 3), ("base32", BASE32_NOPAD, 5)]
        {
            for before in 0..group {
                let form = within(&encoding, bytes, before);
                add(&format!("lower-case {name} at {before}"), form.to_ascii_lowercase());
                add(&format!("{name} at {before}"), form);
            }
        }
        // As Rust shows bytes, and as PostgreSQL escapes them; a JSON text doubles the backslash.
        let list: Vec<_> = bytes.iter().map(ToString::to_string).collect();
        add("numbers", list.join(", ").into_bytes());
        for backslash in ["\\", "\\\\"] {
            let graphic = |b: u8| b.is_ascii_graphic() || b == b' ';
            add(&format!("{backslash}x"), escaped(bytes, graphic, |b| format!("{backslash}x{b:02x}")));
            add(&format!("{backslash}octal"), escaped(bytes, graphic, |b| format!("{backslash}{b:03o}")));
        }
        let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
        add("percent", escaped(bytes, unreserved, |b| format!("%{b:02X}")));
        add("lower-case percent", escaped(bytes, unreserved, |b| format!("%{b:02x}")));
        add("percent of non-ASCII", escaped(bytes, |b| b.is_ascii(), |b| format!("%{b:02X}")));
        if let Ok(text) = std::str::from_utf8(bytes) {
            add("UTF-16LE", text.encode_utf16().flat_map(u16::to_le_bytes).collect());
            add("UTF-16BE", text.encode_utf16().flat_map(u16::to_be_bytes).collect());
            add("\\u", json_escaped(text, |unit| format!("\\u{unit:04x}")));
            add("\\U", json_escaped(text, |unit| format!("\\u{unit:04X}")));
            let rust = |c: char| if c.is_ascii() { c.to_string() } else { c.escape_unicode().to_string() };
            add("\\u{}", text.chars().map(rust).collect::<String>().into_bytes());
        }
        forms
    }
}

/// Bytes as they look within a longer text of an encoding, after some bytes: without the characters at the ends, which
/// depend on what stands beside.
fn within(encoding: &Encoding, bytes: &[u8], before: usize) -> Vec<u8> {
    let bits = encoding.bit_width();
    let padded = [vec![0; before], bytes.to_vec()].concat();
    let whole = encoding.encode(&padded).into_bytes();
    whole[(before * 8).div_ceil(bits)..padded.len() * 8 / bits].to_vec()
}

fn escaped(bytes: &[u8], plain: impl Fn(u8) -> bool, escape: impl Fn(u8) -> String) -> Vec<u8> {
    let one = |&b: &u8| if plain(b) { vec![b] } else { escape(b).into_bytes() };
    bytes.iter().flat_map(one).collect()
}

fn json_escaped(text: &str, escape: impl Fn(u16) -> String) -> Vec<u8> {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "{}", escape(*unit)).unwrap();
            }
        }
    }
    out.into_bytes()
}

/// A shorter text might be found by chance.
const SHORTEST: usize = 8;

/// One form of one canary.
struct Needle {
    what: String,
    bytes: Vec<u8>,
}

/// Looks for many needles in one pass.
pub struct Search {
    by_start: HashMap<[u8; SHORTEST], Vec<Needle>>,
    /// Whether any needle begins with these two bytes: most places end here.
    begins: Vec<bool>,
}

impl Search {
    pub fn new(canaries: &[Canary]) -> Self {
        let mut search = Self { by_start: HashMap::new(), begins: vec![false; 1 << 16] };
        for canary in canaries {
            for (form, bytes) in canary.forms() {
                let start = *bytes.first_chunk().expect("no form is shorter than the shortest canary");
                search.begins[pair(bytes[0], bytes[1])] = true;
                let what = canary.name(&form);
                search.by_start.entry(start).or_default().push(Needle { what, bytes });
            }
        }
        search
    }

    /// What was found, each form once.
    pub fn find(&self, haystack: &[u8]) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        for (at, window) in haystack.array_windows::<SHORTEST>().enumerate() {
            if !self.begins[pair(window[0], window[1])] {
                continue;
            }
            let here = self.by_start.get(window).into_iter().flatten();
            found.extend(here.filter(|n| haystack[at..].starts_with(&n.bytes)).map(|n| n.what.as_str()));
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// Whether a form can stand in a line of text.
pub fn is_text(form: &[u8]) -> bool {
    std::str::from_utf8(form).is_ok_and(|text| text.chars().all(|c| !c.is_control()))
}

fn pair(first: u8, second: u8) -> usize {
    usize::from(first) << 8 | usize::from(second)
}

#[test]
fn every_form_is_found_wherever_it_stands() {
    let canary = Canary::new("value", "Сынақ 4711/Ә");
    let search = Search::new(std::slice::from_ref(&canary));
    for (name, form) in canary.forms() {
        let found = search.find(&[b"before ".as_slice(), &form, b" after"].concat()).len();
        assert!(found >= 1, "{name}");
    }
    // An encoding of a longer text, at each alignment.
    for before in 0..15 {
        let longer = [vec![b'x'; before], canary.bytes.clone(), b"yz".to_vec()].concat();
        for encoding in [BASE64_NOPAD, BASE64URL_NOPAD, BASE32_NOPAD] {
            assert!(!search.find(encoding.encode(&longer).as_bytes()).is_empty(), "{before}");
        }
    }
    assert!(search.find("Сынақ 4712/Ә".as_bytes()).is_empty());
}
