//! All that Docker has, and which of it belongs to a stack.

use std::collections::BTreeSet;

use super::{Kind, Object};
use crate::docker::answers::{Labels, Named, STACK_LABEL, TASK_LABEL};
use crate::docker::{Docker, DockerError};
use crate::name::{BaseDomain, Domain};
use crate::weaken::{self, Protection};

/// One thing that Docker has.
#[derive(Debug)]
struct Part {
    object: Object,
    stack: Option<String>,
    /// The task that it is the container of.
    task: Option<String>,
}

/// All that Docker has of the kinds that a stack is made of.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    parts: Vec<Part>,
}

impl Inventory {
    /// Looks at everything. One kind that cannot be listed makes the whole an error.
    pub(super) fn take(docker: &Docker) -> Result<Self, DockerError> {
        let mut inventory = Self::default();
        for service in docker.services()? {
            inventory.add(Kind::Service, service.spec.name, service.id, &service.spec.labels);
        }
        for container in docker.containers()? {
            inventory.add(Kind::Container, container.name().to_owned(), container.id.clone(), &container.labels);
        }
        for network in docker.networks()? {
            inventory.add(Kind::Network, network.name, network.id, &network.labels);
        }
        for volume in docker.volumes()? {
            inventory.add(Kind::Volume, volume.name.clone(), volume.name, &volume.labels);
        }
        let mut named = |kind, list: Vec<Named>| {
            for one in list {
                inventory.add(kind, one.spec.name, one.id, &one.spec.labels);
            }
        };
        named(Kind::Secret, docker.secrets()?);
        named(Kind::Config, docker.configs()?);
        Ok(inventory)
    }

    fn add(&mut self, kind: Kind, name: String, id: String, labels: &Labels) {
        let stack = labels.get(STACK_LABEL).filter(|stack| !stack.is_empty()).cloned();
        self.parts.push(Part { object: Object { kind, name, id }, stack, task: labels.get(TASK_LABEL).cloned() });
    }

    /// The apps of which there is anything.
    pub(super) fn apps(&self, base: &BaseDomain) -> BTreeSet<Domain> {
        let stacks = self.stacks();
        let app = |part: &Part| match &part.stack {
            Some(stack) => Domain::from_stack_name(stack, base),
            None => Domain::from_object_name(&part.object.name, base)
                .filter(|domain| belongs(&domain.stack_name(), &part.object.name, None, &stacks)),
        };
        self.parts.iter().filter_map(app).collect()
    }

    /// What belongs to `stack`, in the order of removal.
    pub(super) fn of_stack(&self, stack: &str) -> Vec<Object> {
        let mut objects: Vec<Object> = self.parts_of(stack).into_iter().map(|part| part.object.clone()).collect();
        objects.sort();
        objects
    }

    /// What is called as something in `planned` and belongs to no stack.
    pub(super) fn unmarked(&self, planned: &[Object]) -> Vec<Object> {
        let meant = |part: &&Part| {
            part.stack.is_none()
                && planned.iter().any(|wish| (wish.kind, &wish.name) == (part.object.kind, &part.object.name))
        };
        self.parts.iter().filter(meant).map(|part| part.object.clone()).collect()
    }

    /// What is called as something in `planned` and is not marked as a part of `stack`.
    pub(super) fn claimed(&self, planned: &[Object], stack: &str) -> Vec<Object> {
        let taken = |part: &&Part| {
            part.stack.as_deref() != Some(stack)
                && planned.iter().any(|wish| (wish.kind, &wish.name) == (part.object.kind, &part.object.name))
        };
        self.parts.iter().filter(taken).map(|part| part.object.clone()).collect()
    }

    /// The containers of `stack`, each with its task if Swarm started it.
    pub(super) fn containers_of(&self, stack: &str) -> Vec<(Object, Option<String>)> {
        let parts = self.parts_of(stack).into_iter().filter(|part| part.object.kind == Kind::Container);
        parts.map(|part| (part.object.clone(), part.task.clone())).collect()
    }

    fn parts_of(&self, stack: &str) -> Vec<&Part> {
        let stacks = self.stacks();
        self.parts.iter().filter(|part| belongs(stack, &part.object.name, part.stack.as_deref(), &stacks)).collect()
    }

    fn stacks(&self) -> BTreeSet<&str> {
        self.parts.iter().filter_map(|part| part.stack.as_deref()).collect()
    }
}

/// Whether something called `name`, with this stack label, belongs to `stack` (incident `[neighbour]`).
///
/// A label is the only word on it. Without one the name tells, up to the `_`; but the name of stack
/// `a_b`'s secret begins like one of stack `a`, so a known stack with the longer name has it.
fn belongs(stack: &str, name: &str, label: Option<&str>, stacks: &BTreeSet<&str>) -> bool {
    if !weaken::on(Protection::ExactName) {
        return label.unwrap_or(name).starts_with(stack);
    }
    let is_part_of = |stack: &str| name.strip_prefix(stack).is_some_and(|rest| rest.len() > 1 && rest.starts_with('_'));
    match label {
        Some(label) => label == stack,
        None => is_part_of(stack) && !stacks.iter().any(|other| other.len() > stack.len() && is_part_of(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STACK: &str = "hell-012345_ci_x";

    #[test]
    fn neighbours_that_begin_alike_do_not_belong() {
        let none = BTreeSet::new();
        assert!(belongs(STACK, "hell-012345_ci_x_app", None, &none));
        assert!(belongs(STACK, "anything", Some(STACK), &none));
        for (name, label) in [
            ("hell-012345_ci_xy_app", None),
            ("hell-012345_ci_x", None),
            ("hell-012345_ci_x_", None),
            ("hell-012345_ci_x-app", None),
            ("xhell-012345_ci_x_app", None),
            ("hell-012345_ci_x_app", Some("hell-012345_ci_xy")),
            ("hell-012345_ci_x_y_app", Some("hell-012345_ci_x_y")),
            ("app", Some("hell-012345_ci")),
        ] {
            assert!(!belongs(STACK, name, label, &none), "{name} {label:?}");
        }
    }

    #[test]
    fn a_longer_stack_has_what_is_named_after_it() {
        let stacks = BTreeSet::from([STACK, "hell-012345_ci_x_y"]);
        assert!(belongs("hell-012345_ci_x_y", "hell-012345_ci_x_y_pw_v1", None, &stacks));
        assert!(!belongs(STACK, "hell-012345_ci_x_y_pw_v1", None, &stacks));
        assert!(belongs(STACK, "hell-012345_ci_x_pw_v1", None, &stacks));
    }

    #[test]
    fn an_app_is_found_by_any_one_part() {
        let base = BaseDomain::new("ci.x").unwrap();
        for (name, label) in [("hell-012345_ci_x_pw", None), ("other", Some(STACK))] {
            let mut inventory = Inventory::default();
            let labels = label.map(|label| (STACK_LABEL.to_owned(), label.to_owned())).into_iter().collect();
            inventory.add(Kind::Secret, name.to_owned(), "id".to_owned(), &labels);
            inventory.add(Kind::Network, "proxy".to_owned(), "id".to_owned(), &Labels::new());
            let apps = inventory.apps(&base);
            assert_eq!(apps.iter().map(Domain::as_str).collect::<Vec<_>>(), ["hell-012345.ci.x"], "{name}");
        }
    }
}
