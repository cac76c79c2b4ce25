//! Services: every key is known or refused, and what reaches into the host is refused by its own rule.

use serde_json::{Map, Value};

use super::objects::{has_size, labels};
use super::{Found, OR_OPERATOR, Policy, Rule, elements, is_set, members, text};

/// Keys that stay inside the container, or that Docker's stacks ignore.
const HARMLESS: [&str; 38] = [
    "annotations",
    "attach",
    "build",
    "cap_drop",
    "cgroupns_mode",
    "command",
    "container_name",
    "depends_on",
    "dns",
    "dns_opt",
    "dns_search",
    "domainname",
    "entrypoint",
    "environment",
    "expose",
    "external_links",
    "extra_hosts",
    "group_add",
    "hostname",
    "init",
    "isolation",
    "links",
    "mac_address",
    "mem_limit",
    "mem_reservation",
    "platform",
    "profiles",
    "pull_policy",
    "read_only",
    "restart",
    "scale",
    "shm_size",
    "stdin_open",
    "stop_grace_period",
    "stop_signal",
    "tty",
    "ulimits",
    "working_dir",
];

/// Keys that are judged here or beside, each by its value.
const JUDGED: [&str; 28] = [
    "cap_add",
    "cgroup",
    "cgroup_parent",
    "configs",
    "credential_spec",
    "deploy",
    "device_cgroup_rules",
    "devices",
    "env_file",
    "gpus",
    "healthcheck",
    "image",
    "ipc",
    "labels",
    "logging",
    "network_mode",
    "networks",
    "oom_score_adj",
    "pid",
    "ports",
    "privileged",
    "runtime",
    "secrets",
    "security_opt",
    "sysctls",
    "tmpfs",
    "user",
    "volumes",
];

/// What of `deploy` is known.
const DEPLOY: [&str; 9] = [
    "endpoint_mode",
    "labels",
    "mode",
    "placement",
    "replicas",
    "resources",
    "restart_policy",
    "rollback_config",
    "update_config",
];

/// Files of the host that tell the time and nothing else.
const CLOCK: [&str; 2] = ["/etc/localtime", "/etc/timezone"];

pub(super) fn judge(top: &Map<String, Value>, policy: &Policy, found: &mut Found<'_>) {
    let count = members(top.get("services")).count();
    if count > policy.limits.services {
        let most = policy.limits.services;
        found.add(Rule::Limits, "services", format!("{count} services, and {most} are allowed"), OR_OPERATOR);
    }
    for (name, service) in members(top.get("services")) {
        let at = format!("services.{name}");
        for key in service.as_object().into_iter().flat_map(Map::keys) {
            let known = |list: &[&str]| list.contains(&key.as_str());
            if !known(&HARMLESS) && !known(&JUDGED) && key != "userns_mode" && key != "uts" && !key.starts_with("x-") {
                found.unknown(&format!("{at}.{key}"));
            }
        }
        image(&at, service, found);
        health(&at, service, found);
        privileges(&at, service, found);
        namespaces(&at, service, found);
        mounts(&at, service, found);
        logging(&at, service, found);
        deploy(&at, service, policy, found);
        env_files(&at, service, policy, found);
        labels(&format!("{at}.labels"), service.get("labels"), found);
        labels(&format!("{at}.deploy.labels"), service.pointer("/deploy/labels"), found);
    }
}

/// What begins with a dash is an option of the program that pulls it.
fn image(at: &str, service: &Value, found: &mut Found<'_>) {
    if service.get("image").map(text).is_some_and(|image| image.trim_start().starts_with('-')) {
        found.add(Rule::Names, &format!("{at}.image"), "this is no image's name", "name an image");
    }
}

/// A check runs outside of what the container is limited to, as often as it says.
fn health(at: &str, service: &Value, found: &mut Found<'_>) {
    for key in ["interval", "start_interval"] {
        let value = service.pointer(&format!("/healthcheck/{key}")).map(text).unwrap_or_default();
        // Docker writes what is a second or longer with seconds, minutes or hours in front of these units.
        let number = value.trim_end_matches(|c: char| c.is_alphabetic());
        let is_short = value.ends_with('s') && value.len() > number.len() + 1 && !number.contains(char::is_alphabetic);
        if is_short {
            let what = format!("a check every `{value}` keeps the host busy with nothing else");
            found.add(Rule::Limits, &format!("{at}.healthcheck.{key}"), what, "a second or more");
        }
    }
}

fn privileges(at: &str, service: &Value, found: &mut Found<'_>) {
    let spared = service.get("oom_score_adj").map(text).is_some_and(|value| value.trim().starts_with('-'));
    if spared {
        let what = "other processes of the host would be killed before this app's when memory runs out";
        found.add(Rule::Privileges, &format!("{at}.oom_score_adj"), what, OR_OPERATOR);
    }
    for key in
        ["privileged", "cap_add", "devices", "device_cgroup_rules", "gpus", "runtime", "sysctls", "credential_spec"]
    {
        if is_set(service.get(key)) {
            let what = format!("`{key}` gives the container more of the host than others have");
            found.add(Rule::Privileges, &format!("{at}.{key}"), what, OR_OPERATOR);
        }
    }
    // It takes rights away.
    let tightens = |option: &&Value| {
        let option = option.as_str().unwrap_or_default().replace('=', ":");
        !["no-new-privileges", "no-new-privileges:true"].contains(&option.as_str())
    };
    for option in elements(service.get("security_opt")).iter().filter(tightens) {
        let what = format!("`{}` takes a protection of the host away", text(option));
        found.add(Rule::Privileges, &format!("{at}.security_opt"), what, OR_OPERATOR);
    }
    if service.pointer("/deploy/resources/reservations/devices").is_some_and(|devices| is_set(Some(devices))) {
        let at = format!("{at}.deploy.resources.reservations.devices");
        found.add(Rule::Privileges, &at, "devices of the host are reached through it", OR_OPERATOR);
    }
}

fn namespaces(at: &str, service: &Value, found: &mut Found<'_>) {
    let harmless: [(&str, &[&str]); 7] = [
        ("network_mode", &["bridge", "none", "default"]),
        ("pid", &["private"]),
        ("ipc", &["private", "none", "shareable"]),
        ("uts", &[]),
        ("cgroup", &["private"]),
        ("cgroup_parent", &[]),
        ("userns_mode", &[]),
    ];
    for (key, harmless) in harmless {
        let value = service.get(key).map(text).unwrap_or_default();
        if is_set(service.get(key)) && !harmless.contains(&value.as_str()) {
            let what = format!("`{value}` is a namespace of the host or of another container");
            found.add(Rule::Namespaces, &format!("{at}.{key}"), what, OR_OPERATOR);
        }
    }
}

fn mounts(at: &str, service: &Value, found: &mut Found<'_>) {
    for (number, mount) in elements(service.get("volumes")).iter().enumerate() {
        let at = format!("{at}.volumes[{number}]");
        // Docker's own form; the short one is read before it is resolved.
        let Some(kind) = mount.get("type").and_then(Value::as_str) else {
            found.add(Rule::Mounts, &at, format!("`{}` is no mount that is understood", text(mount)), OR_OPERATOR);
            continue;
        };
        let source = mount.get("source").and_then(Value::as_str).unwrap_or_default();
        match kind {
            "volume" if !source.contains('/') => {}
            "tmpfs" => {
                let size = mount.pointer("/tmpfs/size").and_then(Value::as_u64).unwrap_or_default();
                if size == 0 {
                    let what = "a tmpfs without a size may take all of the host's memory";
                    found.add(Rule::Mounts, &format!("{at}.tmpfs.size"), what, "give it a size");
                }
            }
            "bind" if CLOCK.contains(&source) && mount.get("read_only") == Some(&Value::Bool(true)) => {}
            "bind" => found.add(
                Rule::Mounts,
                &at,
                format!("`{source}` is on the host, and the container would have it"),
                "use a volume, or a config for a file of the recipe",
            ),
            other => found.add(Rule::Mounts, &at, format!("a mount of the kind `{other}` is not known"), OR_OPERATOR),
        }
    }
    for entry in elements(service.get("tmpfs")) {
        let entry = text(entry);
        let (_, options) = entry.split_once(':').unwrap_or_default();
        if !has_size(options) {
            let what = format!("the tmpfs `{entry}` has no size, and may take all of the host's memory");
            found.add(Rule::Mounts, &format!("{at}.tmpfs"), what, "write `/path:size=64m`");
        }
    }
}

fn logging(at: &str, service: &Value, found: &mut Found<'_>) {
    let driver = service.pointer("/logging/driver").and_then(Value::as_str).unwrap_or_default();
    if !["", "json-file", "local", "none"].contains(&driver) {
        let what = format!("`{driver}` sends logs where the host lets nobody else");
        found.add(Rule::Logging, &format!("{at}.logging.driver"), what, "leave it out: the host's default is used");
    }
}

fn deploy(at: &str, service: &Value, policy: &Policy, found: &mut Found<'_>) {
    let at = format!("{at}.deploy");
    for (key, _) in members(service.get("deploy")) {
        if !DEPLOY.contains(&key.as_str()) && !key.starts_with("x-") {
            found.unknown(&format!("{at}.{key}"));
        }
    }
    let replicas = service.pointer("/deploy/replicas").and_then(Value::as_u64).unwrap_or(1);
    if replicas > policy.limits.replicas {
        let most = policy.limits.replicas;
        let what = format!("{replicas} replicas, and {most} are allowed");
        found.add(Rule::Limits, &format!("{at}.replicas"), what, OR_OPERATOR);
    }
    // What no machine of ours has is Swarm's to say; a machine's own name is nobody's in a recipe to know.
    let constraints = service.pointer("/deploy/placement/constraints");
    for constraint in elements(constraints) {
        let constraint = text(constraint);
        let key = constraint.split(['=', '!']).next().unwrap_or_default().trim().to_lowercase();
        if ["node.hostname", "node.id", "node.ip"].contains(&key.as_str()) && !constraint.contains("!=") {
            let what = format!("`{constraint}` ties the service to one machine, and not to this one");
            found.add(Rule::Placement, &format!("{at}.placement.constraints"), what, OR_OPERATOR);
        }
    }
}

/// Docker has read them by now; one that lies outside was not refused before only if it was hidden.
fn env_files(at: &str, service: &Value, policy: &Policy, found: &mut Found<'_>) {
    for entry in elements(service.get("env_file")) {
        let path = entry.get("path").unwrap_or(entry).as_str().unwrap_or_default();
        let most = policy.limits.file_kb * 1024;
        match super::Tree::new(found.app.tree).expect_file(&found.app.base.join(path), most) {
            Ok(()) | Err(super::tree::Refused::Missing { .. }) => {}
            Err(why) => {
                found.add(why.rule(), &format!("{at}.env_file"), why.to_string(), "keep the file in the recipe");
            }
        }
    }
}
