//! The shapes of a secret: as it is, and as programs write it down (base64, hex, percent, JSON, XML).

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::SHORTEST;

/// What a URL need not escape (RFC 3986).
const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// What JavaScript's `encodeURIComponent` leaves as well.
const COMPONENT: &AsciiSet = &STRICT.remove(b'!').remove(b'*').remove(b'\'').remove(b'(').remove(b')');
/// A line of a key file that says what it is, to everybody.
const ARMOUR: &str = "-----";

/// All shapes of all values, none twice, none that an ordinary word could be.
pub(super) fn of_all<'a>(values: impl Iterator<Item = &'a str>) -> Vec<Vec<u8>> {
    let mut all = BTreeSet::new();
    for value in values {
        add(value, &mut all);
        // Who prints a key of several lines prints it line by line.
        for line in value.lines().map(str::trim).filter(|line| value != *line && !line.starts_with(ARMOUR)) {
            if line.len() >= SHORTEST {
                add(line, &mut all);
            }
        }
    }
    all.into_iter().collect()
}

fn add(value: &str, all: &mut BTreeSet<Vec<u8>>) {
    let mut more = |text: String| {
        if text.len() >= SHORTEST {
            all.insert(text.into_bytes());
        }
    };
    more(value.to_owned());
    // A JSON text without its quotes; some escape the slash, some all that is not ASCII.
    let json = serde_json::Value::from(value).to_string();
    let json = json[1..json.len() - 1].to_owned();
    more(json.replace('/', "\\/"));
    let escaped: String = json.chars().map(|c| if c.is_ascii() { c.to_string() } else { utf16(c) }).collect();
    more(escaped);
    more(json);
    // Pages and JUnit.
    let xml = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    for (quote, single) in [("&quot;", "&#39;"), ("&quot;", "&#x27;"), ("&#34;", "&#39;"), ("&quot;", "&apos;")] {
        more(xml.replace('"', quote).replace('\'', single));
        more(xml.replace('"', quote));
    }
    more(xml);
    for set in [STRICT, COMPONENT, NON_ALPHANUMERIC] {
        let percent = utf8_percent_encode(value, set).to_string();
        more(percent.replace("%20", "+"));
        more(lower_escapes(&percent));
        more(percent);
    }
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    more(hex.to_uppercase());
    more(hex);
    for before in 0..3 {
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            more(inside_base64(value.as_bytes(), before, |bytes| engine.encode(bytes)));
        }
    }
}

fn utf16(c: char) -> String {
    c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect()
}

/// `%2F` as `%2f`.
fn lower_escapes(percent: &str) -> String {
    let mut escape = 0;
    let lower = |c: char| {
        escape = if c == '%' { 3 } else { u32::saturating_sub(escape, 1) };
        if escape > 0 { c.to_ascii_lowercase() } else { c }
    };
    percent.chars().map(lower).collect()
}

/// What of a value's base64 is the same whatever stands around it, when so many bytes modulo three stand before.
fn inside_base64(value: &[u8], before: usize, encode: impl Fn(&[u8]) -> String) -> String {
    let whole = encode(&[&vec![0; before], value].concat());
    // The first characters have bits of what is before, the last one of what follows.
    let from = [0, 2, 3][before];
    let until = whole.len() - usize::from(!(before + value.len()).is_multiple_of(3));
    whole.get(from..until).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_found_wherever_the_value_stands_in_what_was_encoded() {
        for value in ["hunter2", "hunter22", "hunter222", "p@ss/w+rd?>~", "äöü-äöü"] {
            let shapes = of_all([value].into_iter());
            for before in 0..7 {
                for after in 0..4 {
                    let text = format!("{}{value}{}", &"user:xy"[..before], &"\n@h0"[..after]);
                    for encoded in [STANDARD_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
                        let found = shapes.iter().any(|shape| encoded.contains(std::str::from_utf8(shape).unwrap()));
                        assert!(found, "{value}: {encoded}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_key_is_known_by_each_of_its_lines_and_not_by_its_heading() {
        let key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\nAASCBKcwggSj\n-----END PRIVATE KEY-----";
        let shapes = of_all([key].into_iter());
        let has = |text: &str| shapes.iter().any(|shape| shape == text.as_bytes());
        assert!(has("MIIEvQIBADANBg") && has("AASCBKcwggSj") && has(key));
        assert!(!has("-----BEGIN PRIVATE KEY-----"));
    }
}
