//! The JSON Schemas that are shipped, and what does not keep to them.

use serde_json::Value;

use crate::binaries;

/// A shipped schema.
#[must_use]
pub fn schema(name: &str) -> jsonschema::Validator {
    let text = std::fs::read(binaries::workspace().join("docs").join(name)).unwrap();
    jsonschema::validator_for(&serde_json::from_slice(&text).unwrap()).unwrap()
}

/// Fails with everything that is not as the schema says.
#[track_caller]
pub fn expect_valid(schema: &jsonschema::Validator, value: &Value) {
    let wrong: Vec<String> =
        schema.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(wrong.is_empty(), "{}\nin {value:#}", wrong.join("\n"));
}
