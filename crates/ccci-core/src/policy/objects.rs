//! Volumes, networks, secrets and configs: their names, whose they are, and what drives them.

use serde_json::{Map, Value};

use super::{Found, OR_OPERATOR, Policy, Rule, elements, is_set, members, text};

const SECTIONS: [(&str, &str, &[&str]); 4] = [
    ("networks", "network", &["name", "driver", "driver_opts", "ipam", "external", "internal", "attachable", "labels"]),
    ("volumes", "volume", &["name", "driver", "driver_opts", "external", "labels"]),
    ("secrets", "secret", &["name", "file", "external", "labels", "driver", "driver_opts", "template_driver"]),
    ("configs", "config", &["name", "file", "external", "labels", "template_driver"]),
];

/// Options of overlay networks that change nothing for others.
const NETWORK_OPTIONS: [&str; 3] = ["encrypted", "com.docker.network.driver.mtu", "com.docker.network.mtu"];

pub(super) fn judge(top: &Map<String, Value>, policy: &Policy, found: &mut Found<'_>) {
    for (section, kind, known) in SECTIONS {
        let count = members(top.get(section)).count();
        if count > policy.limits.objects {
            let most = policy.limits.objects;
            found.add(Rule::Limits, section, format!("{count} of a kind, and {most} are allowed"), OR_OPERATOR);
        }
        for (name, value) in members(top.get(section)) {
            let at = format!("{section}.{name}");
            for key in value.as_object().into_iter().flat_map(Map::keys) {
                if !known.contains(&key.as_str()) && !key.starts_with("x-") {
                    found.unknown(&format!("{at}.{key}"));
                }
            }
            if is_external(value) {
                external(&at, kind, name, value, policy, found);
            } else {
                own(&at, kind, name, value, policy, found);
            }
        }
    }
}

/// Whether an object is somebody else's to make.
pub(super) fn is_external(value: &Value) -> bool {
    !matches!(value.get("external"), None | Some(Value::Null | Value::Bool(false)))
}

/// What Docker calls an object that is somebody else's to make.
pub(super) fn external_name<'v>(key: &'v str, value: &'v Value) -> &'v str {
    let old_form = || value.get("external").and_then(|external| external.get("name"));
    value.get("name").or_else(old_form).and_then(Value::as_str).unwrap_or(key)
}

fn external(at: &str, kind: &str, key: &str, value: &Value, policy: &Policy, found: &mut Found<'_>) {
    let name = external_name(key, value);
    // A bare name is a network's: a volume of that name would be another's data, or made and left.
    let allowed = match kind {
        "network" => policy.external.contains(name),
        _ => policy.external.contains(&format!("{kind}:{name}")),
    };
    if !found.is_own(name) && !allowed {
        found.add(
            Rule::External,
            at,
            format!("the {kind} `{name}` belongs to somebody else, and recipes of this host may use none by this name"),
            "let the stack have its own; the operator may name it in [policy] external (a network by its name, others as \
             volume:NAME, secret:NAME, config:NAME)",
        );
    }
}

fn own(at: &str, kind: &str, key: &str, value: &Value, policy: &Policy, found: &mut Found<'_>) {
    if let Some(name) = value.get("name").and_then(Value::as_str)
        && !name.is_empty()
        && name != format!("{}_{key}", found.app.stack)
        && !found.is_own(name)
    {
        found.add(
            Rule::Names,
            &format!("{at}.name"),
            format!(
                "the {kind} would be called `{name}`, which another stack may use: Docker would take that stack's \
                 for this one's, and it would be removed with it"
            ),
            "begin the name with ${STACK_NAME}_, or leave it out",
        );
    }
    labels(&format!("{at}.labels"), value.get("labels"), found);
    match kind {
        "volume" => volume(at, value, found),
        "network" => network(at, value, found),
        _ => file(at, value, policy, found),
    }
}

/// Labels by which Docker, abra and this program know what is whose.
pub(super) fn labels(at: &str, value: Option<&Value>, found: &mut Found<'_>) {
    // Hints for a load balancer name nothing of Docker's own.
    let claims = |label: &str| {
        let own = ["com.docker.", "io.docker.", "cc-ci."].iter().any(|own| label.starts_with(own));
        own && !label.starts_with("com.docker.lb.")
    };
    let claimed: Vec<&String> = members(value).map(|(label, _)| label).filter(|label| claims(label)).collect();
    for label in claimed {
        let at = format!("{at}.{label}");
        found.add(Rule::Names, &at, "this label is Docker's or the harness's to set", "take it out");
    }
}

fn volume(at: &str, value: &Value, found: &mut Found<'_>) {
    let driver = value.get("driver").and_then(Value::as_str).unwrap_or_default();
    if !["", "local"].contains(&driver) {
        let what = format!("the volume driver `{driver}` is a program of the host, or none");
        found.add(Rule::Drivers, &format!("{at}.driver"), what, OR_OPERATOR);
    }
    let options: Vec<(&String, String)> =
        members(value.get("driver_opts")).map(|(key, value)| (key, text(value))).collect();
    // A tmpfs with a size is memory that has a bound; whatever else `local` mounts is the host's or another's.
    let option = |name: &str| options.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str());
    let bounded = option("o").is_some_and(has_size);
    let harmless = option("type") == Some("tmpfs") && option("device") == Some("tmpfs") && bounded;
    if !options.is_empty() && !harmless {
        let shown: Vec<String> = options.iter().map(|(key, value)| format!("{key}={value}")).collect();
        found.add(
            Rule::Mounts,
            &format!("{at}.driver_opts"),
            format!("options of a volume mount what is not the stack's ({})", shown.join(", ")),
            "leave them out: a plain volume holds the app's data",
        );
    }
}

/// Whether the options of a tmpfs give it a size. The kernel takes the last of several, so each must be one.
pub(super) fn has_size(options: &str) -> bool {
    let mut sizes = options.split(',').filter_map(|option| option.trim().strip_prefix("size=")).peekable();
    let is_size = |size: &str| {
        let digits = size.trim_end_matches(['k', 'K', 'm', 'M', 'g', 'G']);
        digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.bytes().any(|byte| byte != b'0')
    };
    sizes.peek().is_some() && sizes.all(is_size)
}

/// A subnet of this many addresses or fewer leaves room for others in Docker's pools.
const WIDEST_V4: u8 = 20;
const WIDEST_V6: u8 = 48;

/// Whether a subnet is wider than a stack has use for. What cannot be read is for Docker to refuse.
fn is_wide(subnet: &str) -> bool {
    let Some((address, length)) = subnet.split_once('/') else { return false };
    let widest = if address.contains(':') { WIDEST_V6 } else { WIDEST_V4 };
    length.trim().parse::<u8>().is_ok_and(|length| length < widest)
}

fn network(at: &str, value: &Value, found: &mut Found<'_>) {
    let driver = value.get("driver").and_then(Value::as_str).unwrap_or_default();
    if !["", "overlay"].contains(&driver) {
        let what = format!("a network of the driver `{driver}` is not the stack's own");
        found.add(Rule::Drivers, &format!("{at}.driver"), what, "leave it out: Swarm's is `overlay`");
    }
    let strange: Vec<&String> = members(value.get("driver_opts"))
        .map(|(key, _)| key)
        .filter(|key| !NETWORK_OPTIONS.contains(&key.as_str()))
        .collect();
    for option in strange {
        let at = format!("{at}.driver_opts.{option}");
        found.add(Rule::Drivers, &at, "the policy does not know this option of a network", OR_OPERATOR);
    }
    let ipam = value.get("ipam");
    let ipam_driver = ipam.and_then(|ipam| ipam.get("driver")).and_then(Value::as_str).unwrap_or_default();
    if !["", "default"].contains(&ipam_driver) {
        let what = format!("`{ipam_driver}` is a program of the host, or none");
        found.add(Rule::Drivers, &format!("{at}.ipam.driver"), what, OR_OPERATOR);
    }
    if let Some(config) = ipam.and_then(|ipam| ipam.get("config"))
        && elements(Some(config)).len() > 8
    {
        found.add(Rule::Limits, &format!("{at}.ipam.config"), "more than 8 subnets", OR_OPERATOR);
    }
    let subnets = elements(ipam.and_then(|ipam| ipam.get("config"))).iter();
    for subnet in subnets.filter_map(|config| config.get("subnet").and_then(Value::as_str)).filter(|one| is_wide(one)) {
        let what = format!("`{subnet}` takes the addresses of other networks, or of the host's own");
        found.add(Rule::Limits, &format!("{at}.ipam.config"), what, "leave it out, or take a /20 or less (IPv6: /48)");
    }
}

/// A secret or config that is made of a file.
fn file(at: &str, value: &Value, policy: &Policy, found: &mut Found<'_>) {
    for key in ["driver", "driver_opts"] {
        if is_set(value.get(key)) {
            let at = format!("{at}.{key}");
            found.add(Rule::Drivers, &at, "a driver of secrets is a program of the host, or none", OR_OPERATOR);
        }
    }
    let template = value.get("template_driver").and_then(Value::as_str).unwrap_or_default();
    if !["", "golang"].contains(&template) {
        found.add(Rule::Drivers, &format!("{at}.template_driver"), "known is `golang`", OR_OPERATOR);
    }
    if let Some(path) = value.get("file").and_then(Value::as_str) {
        // Docker takes no more than this of either kind.
        if let Err(why) = super::Tree::new(found.app.tree).expect_file(path.as_ref(), policy.limits.file_kb * 1024) {
            let remedy = "keep the file in the recipe";
            found.add(why.rule(), &format!("{at}.file"), why.to_string(), remedy);
        }
    }
}
