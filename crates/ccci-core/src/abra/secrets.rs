//! What `abra app secret generate -m` prints: the only place where a generated value is ever seen.

use std::collections::BTreeMap;
use std::fmt;

/// A generated secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Its name in the recipe.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Reads the list of objects with `name` and `value`, in any case, and whatever is printed around it.
/// Nothing printed means that nothing was to be generated. `Err` never contains any of it.
pub(super) fn parse(stdout: &[u8]) -> Result<Vec<Secret>, String> {
    let text = String::from_utf8_lossy(stdout);
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let (Some(start), Some(end)) = (text.find('['), text.rfind(']')) else {
        return Err("it is no list".to_owned());
    };
    let list = text.get(start..=end).unwrap_or_default();
    let rows: Vec<BTreeMap<String, String>> = serde_json::from_str(list)
        .map_err(|error| format!("it is no list of secrets (at column {})", error.column()))?;
    rows.into_iter()
        .map(|row| {
            let get = |key: &str| row.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value);
            match (get("name"), get("value")) {
                (Some(name), Some(value)) => Ok(Secret { name: name.clone(), value: value.clone() }),
                _ => Err("an entry has no name or no value".to_owned()),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_never_shown() {
        let read = parse(br#"[{"name":"token","value":"hunter2"},{"NAME":"key","VALUE":"x"}]"#).unwrap();
        assert_eq!((read[0].name.as_str(), read[0].value.as_str(), read[1].name.as_str()), ("token", "hunter2", "key"));
        assert!(!format!("{read:?}").contains("hunter2"));
        assert_eq!(parse(b"\n"), Ok(Vec::new()));
        assert_eq!(parse(b"INFO generated\n[]\n"), Ok(Vec::new()));
        for bad in
            ["hunter2", "[hunter2]", r#"[{"value":"hunter2"}]"#, r#"[{"name":1,"value":"hunter2"}]"#, "]hunter2["]
        {
            let error = parse(bad.as_bytes()).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
