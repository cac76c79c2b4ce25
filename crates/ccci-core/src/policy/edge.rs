//! The edge of the host: its ports, and what its reverse proxy is told.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::objects::{external_name, is_external};
use super::route::is_bounded;
use super::{Found, Rule, elements, members, text};

/// Domains that are nobody's (RFC 2606): examples that a recipe did not replace.
const NOBODYS: [&str; 6] = ["example.com", "example.org", "example.net", "example", "test", "invalid"];

pub(super) fn judge(top: &Map<String, Value>, found: &mut Found<'_>) {
    for (name, service) in members(top.get("services")) {
        let at = format!("services.{name}");
        ports(&at, service, found);
        aliases(&at, name, service, top, found);
        for (at, labels) in [
            (format!("{at}.labels"), service.get("labels")),
            (format!("{at}.deploy.labels"), service.pointer("/deploy/labels")),
        ] {
            for (key, value) in members(labels) {
                label(&format!("{at}.{key}"), key, &text(value), found);
            }
            without_a_site(&at, labels, found);
        }
    }
}

/// A port that Docker chooses is in nobody's way; one that the recipe chooses may be another's.
fn ports(at: &str, service: &Value, found: &mut Found<'_>) {
    for (number, port) in elements(service.get("ports")).iter().enumerate() {
        let published = match port.get("published") {
            None | Some(Value::Null) if port.is_object() => continue,
            Some(published) => text(published),
            None => text(port),
        };
        if ["", "0"].contains(&published.as_str()) {
            continue;
        }
        found.add(
            Rule::Ports,
            &format!("{at}.ports[{number}]"),
            format!("port {published} of the host would be this app's, and no other run's"),
            "let the test folder's compose.ccci.yml publish what its tests need",
        );
    }
}

/// A name on a network that others use is answered by whoever has it.
fn aliases(at: &str, service_name: &str, service: &Value, top: &Map<String, Value>, found: &mut Found<'_>) {
    let shared = |key: &str| {
        let network = top.get("networks").and_then(|networks| networks.get(key));
        network.is_some_and(|network| is_external(network) && !found.is_own(external_name(key, network)))
    };
    let mut taken = Vec::new();
    for (key, network) in members(service.get("networks")).filter(|(key, _)| shared(key)) {
        for alias in elements(network.get("aliases")) {
            let alias = text(alias);
            let own = alias == service_name || alias.contains(found.app.stack) || is_own_host(&alias, found.app.domain);
            if !own {
                taken.push((format!("{at}.networks.{key}.aliases"), alias));
            }
        }
    }
    for (at, alias) in taken {
        let what = format!("`{alias}` on a network that others use could be another app's name");
        found.add(Rule::Routes, &at, what, "begin the alias with ${STACK_NAME}_, or leave it out");
    }
}

/// The app's domain, what is under it, and what is nobody's.
fn is_own_host(host: &str, domain: &str) -> bool {
    let host = host.trim().trim_end_matches('.').to_lowercase();
    let is_under = |domain: &str| host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    // An empty host is asked for by nobody; a pattern is no host.
    host.is_empty() || !host.contains('*') && (is_under(domain) || NOBODYS.iter().any(|nobodys| is_under(nobodys)))
}

fn label(at: &str, key: &str, value: &str, found: &mut Found<'_>) {
    let key = key.to_lowercase();
    let parts: Vec<&str> = key.split('.').collect();
    match parts.first().copied() {
        Some("traefik") => traefik(at, &parts[1..], value, found),
        Some(first) if is_caddy(first) => caddy(at, &parts, value, found),
        _ => {}
    }
}

const WRITE_DOMAIN: &str = "write Host(`${DOMAIN}`), alone or with && to the rest";

fn traefik(at: &str, parts: &[&str], value: &str, found: &mut Found<'_>) {
    let domain = found.app.domain;
    let own = |host: &str| is_own_host(host, domain);
    match parts {
        ["http" | "tcp", kind, name, rest @ ..] => {
            if !name.contains(&found.app.stack.to_lowercase()) {
                found.add(
                    Rule::Routes,
                    at,
                    format!("`{name}` is a name that another stack may use, and the proxy then serves neither"),
                    "put ${STACK_NAME} into the name",
                );
            }
            router(at, kind, rest, value, found);
        }
        // The first version: with or without a segment's name.
        ["frontend", "rule"] | [_, "frontend", "rule"] if !value.is_empty() && !is_bounded(value, &own) => {
            catches_others(at, value, found);
        }
        ["udp", "routers", ..] => {
            let what = "a router of UDP takes all that comes to an entry point";
            found.add(Rule::Routes, at, what, super::OR_OPERATOR);
        }
        ["tls", ..] => {
            let what = "options of TLS are for all apps of the proxy";
            found.add(Rule::Routes, at, what, "take it out");
        }
        _ => {}
    }
}

fn router(at: &str, kind: &str, rest: &[&str], value: &str, found: &mut Found<'_>) {
    let domain = found.app.domain;
    let own = |host: &str| is_own_host(host, domain);
    match (kind, rest) {
        ("routers", ["rule"]) if !value.trim().is_empty() && !is_bounded(value, &own) => {
            catches_others(at, value, found);
        }
        ("routers", ["tls", "certresolver"]) if !value.is_empty() => found.add(
            Rule::Routes,
            at,
            format!("`{value}` would be asked for a certificate for a test app"),
            "write ${LETS_ENCRYPT_ENV}, which is empty in a test",
        ),
        ("routers", ["tls", name, part @ ("main" | "sans")])
            if name.starts_with("domains")
                && !value.split(',').all(|host| own(host.trim().trim_start_matches("*."))) =>
        {
            let what = format!("`{value}` ({part}) is not the app's domain");
            found.add(Rule::Routes, at, what, "write ${DOMAIN}");
        }
        ("routers", ["service"]) if is_anothers(value, found) => {
            let what = format!("`{value}` is not the app's own, and would be shown at its domain");
            found.add(Rule::Routes, at, what, "name a service of this stack");
        }
        ("middlewares", ["errors", "service"]) if is_anothers(value, found) => {
            let what = format!("`{value}` is not the app's own, and would be shown at its domain");
            found.add(Rule::Routes, at, what, "name a service of this stack");
        }
        ("middlewares", ["forwardauth", "address"]) if !is_own_address(value, found) => {
            let what = format!("the proxy would ask `{value}`, from its own network");
            found.add(Rule::Routes, at, what, "ask a service of this stack: http://${STACK_NAME}_NAME");
        }
        ("middlewares", ["plugin", ..]) => {
            let what = "a plugin is a program of the proxy";
            found.add(Rule::Routes, at, what, super::OR_OPERATOR);
        }
        ("services", parts) if parts.contains(&"url") || parts.contains(&"address") => {
            let what = format!("the proxy would send the app's requests to `{value}`");
            found.add(Rule::Routes, at, what, "name a port of the service");
        }
        _ => {}
    }
}

fn catches_others(at: &str, value: &str, found: &mut Found<'_>) {
    let what = format!("`{value}` catches requests for hosts that are not {}", found.app.domain);
    found.add(Rule::Routes, at, what, WRITE_DOMAIN);
}

/// Whether a service is of another provider, or of another stack. Names without a provider are of all stacks.
fn is_anothers(value: &str, found: &Found<'_>) -> bool {
    let (name, provider) = value.trim().split_once('@').unwrap_or((value.trim(), ""));
    // It answers nothing: what a redirection leads to.
    if value.trim() == "noop@internal" || name.is_empty() {
        return false;
    }
    !name.to_lowercase().contains(&found.app.stack.to_lowercase()) || !["", "docker", "swarm"].contains(&provider)
}

/// Whether an address is of a service of this stack, or of the app's own domain.
fn is_own_address(value: &str, found: &Found<'_>) -> bool {
    let rest = value.split_once("://").map_or(value, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // What stands before an `@` is a name, and the host is behind it.
    let host = authority.rsplit('@').next().unwrap_or_default().split(':').next().unwrap_or_default();
    let own_service = host.strip_prefix(found.app.stack).is_some_and(|rest| rest.starts_with('_'));
    own_service || !host.is_empty() && is_own_host(host, found.app.domain)
}

/// Directives of caddy that stand in no site are options of the whole proxy.
fn without_a_site(at: &str, labels: Option<&Value>, found: &mut Found<'_>) {
    let keys: BTreeSet<String> = members(labels).map(|(key, _)| key.to_lowercase()).collect();
    for key in &keys {
        if let Some((site, _)) = key.split_once('.')
            && is_caddy(site)
            && !keys.contains(site)
        {
            let what = format!("without a site in `{site}` this is an option of the whole proxy");
            found.add(Rule::Routes, &format!("{at}.{key}"), what, "name the site: ${DOMAIN}");
        }
    }
}

fn is_caddy(first: &str) -> bool {
    let numbered = |number: &str| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    first == "caddy" || first.strip_prefix("caddy_").is_some_and(numbered)
}

/// Directives of caddy that read the proxy's own files, run its programs, or reach into its network.
const CADDYS_OWN: [&str; 11] = [
    "acme_server",
    "bind",
    "exec",
    "file_server",
    "forward_auth",
    "fs",
    "import",
    "metrics",
    "php_fastcgi",
    "root",
    "templates",
];

/// A directive in the app's own site, at any depth; its order may stand in front (`caddy.1_root`).
fn directive(at: &str, parts: &[&str], value: &str, found: &mut Found<'_>) {
    let name = |part: &&str| {
        let (order, name) = part.split_once('_').unwrap_or(("", part));
        let ordered = !order.is_empty() && order.bytes().all(|byte| byte.is_ascii_digit());
        if ordered { name.to_owned() } else { (*part).to_owned() }
    };
    if let Some(known) = parts.iter().map(name).find(|name| CADDYS_OWN.contains(&name.as_str())) {
        let what = format!("`{known}` is about the proxy's own files, programs or network");
        found.add(Rule::Routes, at, what, super::OR_OPERATOR);
    }
    let leads = parts.last().is_some_and(|part| name(part) == "reverse_proxy") && !value.is_empty();
    if leads && !value.contains("{{upstreams") && !value.split_whitespace().all(|to| is_own_address(to, found)) {
        let what = format!("the proxy would send the app's requests to `{value}`");
        found.add(Rule::Routes, at, what, "write {{upstreams PORT}}");
    }
}

fn caddy(at: &str, parts: &[&str], value: &str, found: &mut Found<'_>) {
    if parts.len() > 1 {
        directive(at, &parts[1..], value, found);
        return;
    }
    let sites: Vec<&str> = value.split([',', ' ', '\t', '\n']).filter(|site| !site.is_empty()).collect();
    let host = |site: &str| {
        let site = site.split_once("://").map_or(site, |(_, rest)| rest);
        site.split(['/', ':']).next().unwrap_or_default().to_owned()
    };
    let domain = found.app.domain;
    let own = |site: &&str| !host(site).is_empty() && is_own_host(&host(site), domain);
    if sites.is_empty() || !sites.iter().all(own) {
        let what = if sites.is_empty() {
            "without a site these are options of the whole proxy".to_owned()
        } else {
            format!("`{value}` is not a site of {domain}")
        };
        found.add(Rule::Routes, at, what, "write ${DOMAIN}");
    }
}
