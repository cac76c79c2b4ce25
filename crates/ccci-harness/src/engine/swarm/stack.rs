//! A stack as Docker will have it: the compose files merged and interpolated by `docker stack config`,
//! with the labels that abra would set.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use ccci_core::docker::Docker;
use ccci_core::docker::answers::STACK_LABEL;
use ccci_core::docker::change::Mark;
use ccci_core::policy::Limits;
use ccci_core::process::{ProcessError, is_in_environment};
use ccci_core::substrate::{Kind, Object};
use serde_json::{Map, Value, json};

use super::interpolate::{Interpolation, Refused};
use super::limits;
use crate::engine::EngineError;

/// Docker's loader only reads files.
const RESOLVE: Duration = Duration::from_secs(60);
/// A resolved stack.
#[derive(Debug)]
pub(in crate::engine) struct Stack(Value);

impl Stack {
    /// Merges and interpolates; Docker's own loader does it.
    ///
    /// # Errors
    /// What Docker says about the files.
    pub(super) fn resolve(
        docker: &Docker,
        files: &[PathBuf],
        vars: &BTreeMap<String, String>,
    ) -> Result<Self, EngineError> {
        let interpolation = Interpolation::of(files, vars).map_err(EngineError::Host)?;
        let done = interpolation.run(docker, RESOLVE).map_err(|error| match error {
            // The first two are about this host's docker program, the rest about the recipe's files.
            Refused::Process(ProcessError::Start { .. } | ProcessError::Watch { .. }) | Refused::NotHanded(..) => {
                EngineError::Host(error.to_string())
            }
            Refused::Process(error) if error.to_string().contains("is not a docker command") => EngineError::Host(
                "the docker program is too old: `docker stack config` came with version 25".to_owned(),
            ),
            Refused::Process(error) => {
                EngineError::Recipe(format!("Docker does not accept the compose files: {error}"))
            }
        })?;
        let not_read = |error: &dyn std::fmt::Display| {
            EngineError::Host(format!("cannot read what `docker stack config` printed: {error}"))
        };
        let text = String::from_utf8(done.stdout).map_err(|error| not_read(&error))?;
        let mut value: Value =
            serde_saphyr::from_str(&interpolation.restore_names(&text)).map_err(|error| not_read(&error))?;
        interpolation.restore_values(&mut value).map_err(EngineError::Recipe)?;
        Ok(Self(value))
    }

    /// The file, as Docker printed it.
    pub(super) const fn value(&self) -> &Value {
        &self.0
    }

    fn services(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.0.get("services").and_then(Value::as_object).into_iter().flatten()
    }

    /// Every image, once.
    pub(super) fn images(&self) -> BTreeSet<String> {
        self.services().filter_map(|(_, service)| Some(service.get("image")?.as_str()?.to_owned())).collect()
    }

    /// The networks that the stack shares with others.
    pub(super) fn external_networks(&self) -> BTreeSet<String> {
        let networks = self.0.get("networks").and_then(Value::as_object).into_iter().flatten();
        networks
            .filter(|(_, network)| network.get("external").is_some_and(|external| external != &json!(false)))
            .map(|(key, network)| network.get("name").and_then(Value::as_str).unwrap_or(key).to_owned())
            .collect()
    }

    /// Adds the labels by which the deployed commit is known again.
    pub(super) fn label(&mut self, stack: &str, commit: &str) {
        let Some(services) = self.0.get_mut("services").and_then(Value::as_object_mut) else { return };
        for service in services.values_mut().filter_map(Value::as_object_mut) {
            let deploy = service.entry("deploy").or_insert_with(|| json!({}));
            let Some(deploy) = deploy.as_object_mut() else { continue };
            let labels = deploy.entry("labels").or_insert_with(|| json!({}));
            if let Some(labels) = labels.as_object_mut() {
                labels.insert(format!("coop-cloud.{stack}.chaos"), json!("true"));
                labels.insert(chaos_version(stack), json!(commit));
            }
        }
    }

    /// Marks all that a deploy of it will make as this run's: only what is so marked is removed by its name alone.
    pub(super) fn mark(&mut self, mark: &Mark) {
        let ours: BTreeMap<&str, &str> = mark.labels().into_iter().filter(|(key, _)| *key != STACK_LABEL).collect();
        let put = |holder: &mut Map<String, Value>| {
            let labels = holder.entry("labels").or_insert_with(|| json!({}));
            if let Some(labels) = object_of(labels) {
                labels.extend(ours.iter().map(|(key, value)| ((*key).to_owned(), json!(value))));
            }
        };
        self.each("services", &mut |service| {
            if let Some(deploy) = object_of(service.entry("deploy").or_insert_with(|| json!({}))) {
                put(deploy);
            }
        });
        for section in ["networks", "volumes", "secrets", "configs"] {
            self.each(section, &mut |object| {
                if object.get("external").is_none_or(|external| external == &json!(false)) {
                    put(object);
                }
            });
        }
    }

    /// Gives each container what the host's limits leave it: less where the recipe says less, never more.
    pub(super) fn bound(&mut self, limits: &Limits, processors: u64) {
        let version = self.0.get("version").and_then(Value::as_str).unwrap_or_default();
        // A number of processes can be told since then.
        if minor(version).is_some_and(|minor| minor < 9) {
            self.0["version"] = json!("3.9");
        }
        self.each("services", &mut |service| limits::bound(service, limits, processors));
    }

    /// Every object of a section; one that says nothing is one that says nothing more.
    fn each(&mut self, section: &str, act: &mut dyn FnMut(&mut Map<String, Value>)) {
        let all = self.0.get_mut(section).and_then(Value::as_object_mut);
        all.into_iter().flat_map(Map::values_mut).filter_map(object_of).for_each(act);
    }

    /// The volumes that a deploy of it will make.
    pub(super) fn volumes(&self, stack: &str) -> Vec<Volume> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let own = |key: &str, value: &Value| Volume {
            name: value.get("name").and_then(Value::as_str).map_or_else(|| format!("{stack}_{key}"), str::to_owned),
            driver: value.get("driver").and_then(Value::as_str).map(str::to_owned),
            options: value
                .get("driver_opts")
                .and_then(Value::as_object)
                .map(|options| options.iter().map(|(key, value)| (key.clone(), text(value))).collect())
                .unwrap_or_default(),
        };
        let all = self.0.get("volumes").and_then(Value::as_object).into_iter().flatten();
        all.filter(|(_, value)| value.get("external").is_none_or(|external| external == &json!(false)))
            .map(|(key, value)| own(key, value))
            .collect()
    }

    /// What a deploy of it will make.
    pub(super) fn objects(&self, stack: &str) -> Vec<Object> {
        let mut objects: Vec<Object> =
            self.services().map(|(name, _)| object(Kind::Service, format!("{stack}_{name}"))).collect();
        for (section, kind) in [
            ("networks", Kind::Network),
            ("volumes", Kind::Volume),
            ("secrets", Kind::Secret),
            ("configs", Kind::Config),
        ] {
            for (key, value) in self.0.get(section).and_then(Value::as_object).into_iter().flatten() {
                if value.get("external").is_some_and(|external| external != &json!(false)) {
                    continue;
                }
                let name =
                    value.get("name").and_then(Value::as_str).map_or_else(|| format!("{stack}_{key}"), str::to_owned);
                objects.push(object(kind, name));
            }
        }
        objects
    }

    /// The file to deploy. JSON is YAML; a `$` is doubled, as Docker interpolates again.
    pub(super) fn text(&self) -> String {
        let mut value = self.0.clone();
        // `docker stack config` prints the project's name, which `docker stack deploy` does not know.
        if let Some(top) = value.as_object_mut() {
            top.remove("name");
            let services = top.get_mut("services").and_then(Value::as_object_mut);
            for service in services.into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
                // Docker has put what stands in them into the environment, and would look for them beside this file.
                service.remove("env_file");
            }
        }
        double_dollars(&mut value);
        // A variable that nobody gave a value Docker looks for in its own environment, once more.
        for (_, service) in value.get_mut("services").and_then(Value::as_object_mut).into_iter().flatten() {
            if let Some(environment) = service.get_mut("environment").and_then(Value::as_object_mut) {
                environment.retain(|name, entry| !(entry.is_null() && is_in_environment(name)));
            }
        }
        value.to_string()
    }
}

/// The object that a value is; nothing at all is an empty one.
pub(super) fn object_of(value: &mut Value) -> Option<&mut Map<String, Value>> {
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut()
}

/// The minor number of a version 3 of compose files.
fn minor(version: &str) -> Option<u32> {
    match version.split_once('.') {
        Some(("3", minor)) => minor.parse().ok(),
        None if version == "3" => Some(0),
        _ => None,
    }
}

fn object(kind: Kind, name: String) -> Object {
    Object { kind, name, id: String::new() }
}

/// The label with the deployed commit.
pub(super) fn chaos_version(stack: &str) -> String {
    format!("coop-cloud.{stack}.chaos-version")
}

fn double_dollars(value: &mut Value) {
    match value {
        Value::String(text) => *text = text.replace('$', "$$"),
        Value::Array(items) => items.iter_mut().for_each(double_dollars),
        Value::Object(map) => {
            let entries = std::mem::take(map);
            *map = entries
                .into_iter()
                .map(|(key, mut value)| {
                    double_dollars(&mut value);
                    (key, value)
                })
                .collect::<Map<_, _>>();
        }
        _ => {}
    }
}

/// A volume that a stack asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Volume {
    /// What Docker calls it.
    pub(super) name: String,
    pub(super) driver: Option<String>,
    pub(super) options: BTreeMap<String, String>,
}

/// What a volume of a stack is called in a stack of any name.
pub(super) fn of_any<'name>(volume: &'name str, stack: &str) -> &'name str {
    volume.strip_prefix(stack).and_then(|rest| rest.strip_prefix('_')).unwrap_or(volume)
}

/// Whose fault a refused deploy is.
pub(in crate::engine) fn refused(error: &str) -> EngineError {
    // A shared network is the host's to make; everything else that is refused is in the files.
    if error.contains("is declared as external, but could not be found") && error.contains("network") {
        EngineError::Host(format!(
            "{error}: make the network (docker network create --driver overlay --attachable NAME)"
        ))
    } else {
        EngineError::Recipe(error.to_owned())
    }
}

/// Whose fault an image is that was not had.
pub(super) fn not_pulled(image: &str, error: &str) -> EngineError {
    let unknown = [
        "manifest unknown",
        "not found",
        "repository does not exist",
        "pull access denied",
        "invalid reference format",
    ];
    if unknown.iter().any(|words| error.contains(words)) {
        EngineError::Recipe(format!("image {image} cannot be had: {error}"))
    } else {
        EngineError::Host(format!("image {image} cannot be pulled now: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_asked_for_as_the_recipe_wants_it_and_known_in_any_stack() {
        let stack = Stack(json!({"volumes": {
            "data": null,
            "host": {"driver": "local", "driver_opts": {"type": "tmpfs", "size": 4}},
            "named": {"name": "s_other"},
            "theirs": {"external": true},
        }}));
        let volumes = stack.volumes("s");
        let names: Vec<_> = volumes.iter().map(|volume| (volume.name.as_str(), of_any(&volume.name, "s"))).collect();
        assert_eq!(names, [("s_data", "data"), ("s_host", "host"), ("s_other", "other")]);
        assert_eq!(volumes[1].options["size"], "4");
        assert_eq!(of_any("sx_data", "s"), "sx_data", "a neighbour's");
    }

    #[test]
    fn the_file_to_deploy_is_not_interpolated_twice() {
        let mut stack = Stack(
            json!({"name": "x", "services": {"app": {"image": "a", "environment": {"P": "a$b"}}}, "networks": {"proxy": {"external": true}, "own": {}}}),
        );
        stack.label("s", "c0ffee");
        let text = stack.text();
        assert!(text.contains("a$$b") && !text.contains("\"name\""), "{text}");
        assert!(text.contains("coop-cloud.s.chaos-version"), "{text}");
        let names: Vec<_> = stack.objects("s").into_iter().map(|object| object.name).collect();
        assert_eq!(names, ["s_app", "s_own"]);
    }
}
