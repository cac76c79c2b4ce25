//! What a container of a test app gets of the host: as much as the recipe says, and never more than the host's
//! limits.

use ccci_core::policy::Limits;
use serde_json::{Map, Value, json};

/// How many files of a container's log Docker keeps.
const LOG_FILES: u64 = 2;

/// Puts the limits into a service of a host with so many processors.
pub(super) fn bound(service: &mut Map<String, Value>, limits: &Limits, processors: u64) {
    let any = limits.memory_mb > 0 || limits.pids > 0 || limits.cpus > 0 && limits.cpus < processors;
    if any && let Some(have) = below(service, &["deploy", "resources", "limits"]) {
        let memory = limits.memory_mb << 20;
        if memory > 0 && have.get("memory").and_then(number).is_none_or(|own| own <= 0.0 || own > as_number(memory)) {
            have.insert("memory".to_owned(), json!(memory.to_string()));
        }
        if limits.pids > 0
            && have.get("pids").and_then(number).is_none_or(|own| own <= 0.0 || own > as_number(limits.pids))
        {
            have.insert("pids".to_owned(), json!(limits.pids));
        }
        // As many as there are is no limit, and Docker refuses more.
        if limits.cpus > 0
            && limits.cpus < processors
            && have.get("cpus").and_then(number).is_none_or(|own| own <= 0.0 || own > as_number(limits.cpus))
        {
            have.insert("cpus".to_owned(), json!(limits.cpus.to_string()));
        }
    }
    if limits.log_mb > 0 {
        log(service, limits.log_mb);
    }
}

/// A log that Docker keeps in files has a size.
fn log(service: &mut Map<String, Value>, most: u64) {
    let Some(logging) = below(service, &["logging"]) else { return };
    let driver = logging.get("driver").and_then(Value::as_str).unwrap_or_default();
    let driver = match driver {
        "" => "json-file",
        "json-file" | "local" => driver,
        // It keeps nothing, or the operator allows it.
        _ => return,
    };
    logging.insert("driver".to_owned(), json!(driver));
    let Some(options) = below(logging, &["options"]) else { return };
    if options.get("max-size").and_then(Value::as_str).and_then(megabytes).is_none_or(|own| own > as_number(most)) {
        options.insert("max-size".to_owned(), json!(format!("{most}m")));
    }
    let files = options.get("max-file").and_then(number);
    if files.is_none_or(|own| own > as_number(LOG_FILES * 5)) {
        options.insert("max-file".to_owned(), json!(LOG_FILES.to_string()));
    }
}

/// The object at the end of these keys, made where it is missing; nothing where something else is in its place,
/// which Docker refuses.
fn below<'map>(map: &'map mut Map<String, Value>, keys: &[&str]) -> Option<&'map mut Map<String, Value>> {
    keys.iter().try_fold(map, |map, key| super::stack::object_of(map.entry(*key).or_insert(Value::Null)))
}

/// A number, in words or not. One that is not understood is no limit.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

#[expect(clippy::cast_precision_loss, reason = "nobody has so many bytes that one more or less counts")]
const fn as_number(value: u64) -> f64 {
    value as f64
}

/// How many megabytes this is, as Docker writes sizes of logs.
fn megabytes(size: &str) -> Option<f64> {
    let size = size.trim().to_lowercase();
    let size = size.trim_end_matches('b');
    let (digits, per) = match size.chars().last()? {
        'k' => (&size[..size.len() - 1], 1.0 / 1024.0),
        'm' => (&size[..size.len() - 1], 1.0),
        'g' => (&size[..size.len() - 1], 1024.0),
        _ => (size, 1.0 / f64::from(1 << 20)),
    };
    Some(digits.parse::<f64>().ok()? * per)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounded(service: Value, limits: &Limits, processors: u64) -> Value {
        let Value::Object(mut service) = service else { panic!("an object") };
        bound(&mut service, limits, processors);
        Value::Object(service)
    }

    #[test]
    fn a_service_without_limits_gets_the_hosts() {
        let limits = Limits { memory_mb: 512, pids: 100, cpus: 2, log_mb: 10, ..Limits::default() };
        let seen = bounded(json!({"image": "a"}), &limits, 8);
        let have = &seen["deploy"]["resources"]["limits"];
        assert_eq!(have, &json!({"memory": (512_u64 << 20).to_string(), "pids": 100, "cpus": "2"}));
        assert_eq!(seen["logging"], json!({"driver": "json-file", "options": {"max-size": "10m", "max-file": "2"}}));
        let small = bounded(json!({"deploy": null}), &limits, 2);
        assert!(small["deploy"]["resources"]["limits"].get("cpus").is_none(), "as many as there are");
    }

    #[test]
    fn less_stays_and_more_does_not() {
        let limits = Limits { memory_mb: 512, pids: 100, cpus: 2, log_mb: 10, ..Limits::default() };
        let own = |memory: &str, pids: u64, cpus: &str, size: &str, files: &str| {
            json!({
                "deploy": {"resources": {"limits": {"memory": memory, "pids": pids, "cpus": cpus}}},
                "logging": {"driver": "local", "options": {"max-size": size, "max-file": files}},
            })
        };
        let less = own("1048576", 10, "0.5", "512k", "3");
        assert_eq!(bounded(less.clone(), &limits, 8), less);
        let more = own("9000000000", 0, "8", "1g", "100");
        assert_eq!(bounded(more, &limits, 8), own("536870912", 100, "2", "10m", "2"));
    }

    #[test]
    fn zero_leaves_everything_to_the_recipe() {
        let limits = Limits { memory_mb: 0, pids: 0, cpus: 0, log_mb: 0, ..Limits::default() };
        let seen = bounded(json!({"image": "a"}), &limits, 8);
        assert_eq!(seen, json!({"image": "a"}), "nothing is added, not even an empty list");
        let other = bounded(json!({"logging": {"driver": "none"}}), &Limits::default(), 8);
        assert_eq!(other["logging"], json!({"driver": "none"}));
    }
}
