//! Durations as people write them: `90s`, `10m`, `1h 30m`, `30d`.

use std::time::Duration;

use jiff::SignedDuration;
use jiff::fmt::friendly::SpanPrinter;
use serde::{Deserialize, Deserializer, Serializer, de};

/// Reads a duration.
///
/// # Errors
/// A sentence that shows the form.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration: write it like \"90s\", \"10m\" or \"1h 30m\"");
    // jiff leaves days to spans, since a calendar's day varies; ours is 24 hours.
    let days = text.trim().strip_suffix('d').and_then(|days| days.trim().parse::<u64>().ok());
    if let Some(days) = days {
        return Ok(Duration::from_secs(days.saturating_mul(24 * 3600)));
    }
    let parsed: SignedDuration = text.trim().parse().map_err(|_| wrong())?;
    Duration::try_from(parsed).map_err(|_| wrong())
}

/// A duration as a person reads it.
#[must_use]
pub fn show(duration: Duration) -> String {
    let printer = SpanPrinter::new().spacing(jiff::fmt::friendly::Spacing::BetweenUnits);
    SignedDuration::try_from(duration)
        .map_or_else(|_| "for ever".to_owned(), |signed| printer.duration_to_string(&signed))
}

/// A measured duration in as few figures as a person needs: `850ms`, `4.2s`, `58s`, `3m 05s`, `2h 10m`.
#[must_use]
pub fn brief(duration: Duration) -> String {
    let (millis, seconds) = (duration.as_millis(), duration.as_secs());
    match seconds {
        0 => format!("{millis}ms"),
        1..10 => format!("{seconds}.{}s", millis % 1000 / 100),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// For `#[serde(with)]`.
///
/// # Errors
/// What the serialiser says.
pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&show(*value))
}

/// For `#[serde(with)]`.
///
/// # Errors
/// A value that is no string of that form.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    struct Visitor;
    impl de::Visitor<'_> for Visitor {
        type Value = Duration;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a duration such as \"90s\", \"10m\" or \"1h 30m\"")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
            parse(text).map_err(E::custom)
        }
    }
    deserializer.deserialize_str(Visitor)
}

/// The same for a value that may be missing.
pub mod optional {
    use super::*;

    /// For `#[serde(with)]`.
    ///
    /// # Errors
    /// What the serialiser says.
    pub fn serialize<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// For `#[serde(with)]`.
    ///
    /// # Errors
    /// A value that is no string of that form.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        #[derive(Deserialize)]
        struct Wrapped(#[serde(with = "super")] Duration);
        Ok(Option::<Wrapped>::deserialize(deserializer)?.map(|wrapped| wrapped.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_written() {
        assert_eq!(parse("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(parse("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
        for (seconds, said) in
            [(0.85, "850ms"), (4.29, "4.2s"), (58.9, "58s"), (185.0, "3m 05s"), (7800.0, "2h 10m"), (9e4, "1d 01h")]
        {
            assert_eq!(brief(Duration::from_secs_f64(seconds)), said);
        }
        for bad in ["", "ten", "-5m", "10"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
