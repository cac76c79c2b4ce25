//! Each row of the table, refused and once allowed.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::config::policy::{Exception, PolicySettings};

const DOMAIN: &str = "hell-012345.ci.x";
const STACK: &str = "hell-012345_ci_x";

fn policy() -> Policy {
    Policy::of(&PolicySettings::default(), "hello")
}

fn allowing(rule: Rule) -> Policy {
    let exception = Exception { allow: BTreeSet::from([rule]), external: BTreeSet::new() };
    let settings = PolicySettings { recipes: [("hello".to_owned(), exception)].into(), ..PolicySettings::default() };
    Policy::of(&settings, "hello")
}

fn judged_in(tree: &Path, compose: &Value, policy: &Policy) -> Judgement {
    judge(compose, App { domain: DOMAIN, stack: STACK, tree, base: Path::new(""), files: "compose.yml" }, policy)
}

/// That this is refused by the rule at the key, and let through, and named, by an exception for the rule alone.
#[track_caller]
fn refused(rule: Rule, key: &str, compose: &Value) {
    let tree = tempfile::tempdir().unwrap();
    let found = judged_in(tree.path(), compose, &policy());
    let [one] = &found.refused[..] else { panic!("one violation is expected of {compose}: {:#?}", found.refused) };
    assert_eq!((one.rule, one.key.as_str()), (rule, key), "{one}");
    assert!(!one.remedy.is_empty() && one.file == "compose.yml", "{one}");
    let found = judged_in(tree.path(), compose, &allowing(rule));
    assert!(found.refused.is_empty(), "{:?}", found.refused);
    assert_eq!(found.granted.len(), 1, "a granted exception is named");
    let other = if rule == Rule::Paths { Rule::Names } else { Rule::Paths };
    assert_eq!(judged_in(tree.path(), compose, &allowing(other)).refused.len(), 1, "another exception changes nothing");
}

#[track_caller]
fn accepted(compose: &Value) {
    let tree = tempfile::tempdir().unwrap();
    let found = judged_in(tree.path(), compose, &policy());
    assert_eq!(found, Judgement::default(), "{compose}");
}

/// A compose file with one service that has this.
fn service(key: &str, value: &Value) -> Value {
    json!({"services": {"app": {"image": "a:1", key: value}}})
}

fn label(key: &str, value: &str) -> Value {
    service("deploy", &json!({"labels": {key: value}}))
}

#[test]
fn a_recipe_as_it_is_at_co_op_cloud_needs_no_exception() {
    let name = |part: &str| format!("{STACK}_{part}");
    let router = format!("traefik.http.routers.{STACK}");
    let labels = json!({
        "traefik.enable": "true", "traefik.docker.network": "proxy",
        format!("{router}.rule"): format!("Host(`{DOMAIN}`, `www.{DOMAIN}`) && PathPrefix(`/`)"),
        format!("{router}.entrypoints"): "web-secure", format!("{router}.tls.certresolver"): "",
        format!("{router}.middlewares"): format!("{STACK}-redirect,security@file"),
        format!("traefik.http.services.{STACK}.loadbalancer.server.port"): "80",
        format!("traefik.http.middlewares.{STACK}-redirect.headers.SSLForceHost"): "true",
        format!("coop-cloud.{STACK}.version"): "0.1.0+1", "backupbot.backup": "true",
        "caddy": DOMAIN, "caddy.reverse_proxy": "{{upstreams 80}}", "caddy.tls.on_demand": "",
    });
    accepted(&json!({
        "version": "3.8",
        "x-common": {"anything": 1},
        "services": {
            "app": {
                "image": "nginx:1.27", "command": ["x"], "environment": {"A": "b"}, "networks": {"proxy": {}, "internal": {"aliases": ["db"]}},
                "volumes": [
                    {"type": "volume", "source": "data", "target": "/data"},
                    {"type": "bind", "source": "/etc/localtime", "target": "/etc/localtime", "read_only": true},
                    {"type": "tmpfs", "target": "/run", "tmpfs": {"size": 1048576}},
                ],
                "tmpfs": ["/tmp:size=64m,mode=1777"],
                "configs": [{"source": "conf", "target": "/c"}], "secrets": [{"source": "password"}],
                "healthcheck": {"test": ["CMD", "true"]}, "security_opt": ["no-new-privileges:true"],
                "logging": {"driver": "json-file", "options": {"max-size": "1m"}},
                "ulimits": {"nofile": 262_144}, "depends_on": ["db"], "restart": "unless-stopped",
                "ports": [{"target": 80, "mode": "host", "protocol": "tcp"}],
                "deploy": {
                    "replicas": 1, "mode": "replicated", "endpoint_mode": "dnsrr",
                    "update_config": {"failure_action": "rollback"}, "restart_policy": {"condition": "on-failure"},
                    "resources": {"limits": {"memory": "1G"}},
                    "placement": {"constraints": ["node.role == manager", "node.labels.x == y"]},
                    "labels": labels,
                },
            },
            "db": {"image": "postgres:16"},
        },
        "networks": {"proxy": {"name": "proxy", "external": true}, "internal": {"driver": "overlay", "driver_opts": {"encrypted": "true"}}},
        "volumes": {"data": {}, "more": {"name": name("more")}, "cache": {"driver_opts": {"type": "tmpfs", "device": "tmpfs", "o": "size=100m,uid=1000"}}},
        "secrets": {"password": {"name": name("password_v1"), "external": true}},
    }));
}

#[test]
fn a_name_is_the_stacks_own() {
    for section in ["volumes", "networks", "secrets", "configs"] {
        let named = |name: &str| json!({"services": {}, section: {"x": {"name": name}}});
        for name in ["other_stack_data", STACK, &format!("{STACK}_"), &format!("{STACK}x_data"), "hell-012345_ci_data"]
        {
            refused(Rule::Names, &format!("{section}.x.name"), &named(name));
        }
        accepted(&named(&format!("{STACK}_x")));
    }
    for label in ["com.docker.stack.namespace", "cc-ci.run"] {
        refused(
            Rule::Names,
            &format!("volumes.x.labels.{label}"),
            &json!({"volumes": {"x": {"labels": {label: "other"}}}}),
        );
        refused(Rule::Names, &format!("services.app.deploy.labels.{label}"), &self::label(label, "other"));
    }
}

#[test]
fn what_belongs_to_others_is_named_by_the_operator() {
    for section in ["volumes", "networks", "secrets", "configs"] {
        for value in [json!({"external": true, "name": "theirs"}), json!({"external": {"name": "theirs"}})] {
            let compose = json!({section: {"x": value}});
            refused(Rule::External, &format!("{section}.x"), &compose);
            let mut settings = PolicySettings::default();
            // A bare name is a network's.
            let kind = section.trim_end_matches('s');
            let named = if kind == "network" { "theirs".to_owned() } else { format!("{kind}:theirs") };
            settings.recipes.insert("hello".to_owned(), Exception { external: [named].into(), ..Exception::default() });
            let tree = tempfile::tempdir().unwrap();
            let found = |recipe| judged_in(tree.path(), &compose, &Policy::of(&settings, recipe)).refused.len();
            assert_eq!((found("hello"), found("another")), (0, 1));
        }
    }
    refused(Rule::External, "networks.host", &json!({"networks": {"host": {"external": true}}}));
    // What every recipe may use is the network of that name, and nothing else.
    for section in ["volumes", "secrets", "configs"] {
        refused(Rule::External, &format!("{section}.x"), &json!({section: {"x": {"external": true, "name": "proxy"}}}));
    }
}

#[test]
fn nothing_of_the_host_is_mounted() {
    let mount = |value: Value| service("volumes", &json!([value]));
    for source in ["/var/run/docker.sock", "/", "/etc", "/etc/localtime"] {
        refused(
            Rule::Mounts,
            "services.app.volumes[0]",
            &mount(json!({"type": "bind", "source": source, "target": "/x"})),
        );
    }
    for kind in ["npipe", "cluster", "image"] {
        refused(Rule::Mounts, "services.app.volumes[0]", &mount(json!({"type": kind, "source": "x", "target": "/x"})));
    }
    refused(
        Rule::Mounts,
        "services.app.volumes[0]",
        &mount(json!({"type": "volume", "source": "/etc", "target": "/x"})),
    );
    refused(Rule::Mounts, "services.app.volumes[0]", &mount(json!("/etc:/x")));
    refused(Rule::Mounts, "services.app.volumes[0].tmpfs.size", &mount(json!({"type": "tmpfs", "target": "/x"})));
    refused(Rule::Mounts, "services.app.tmpfs", &service("tmpfs", &json!("/run")));
    for options in ["size=0", "size=00", "size=1m,size=0", "size=0,size=1m", "size=m"] {
        refused(Rule::Mounts, "services.app.tmpfs", &service("tmpfs", &json!([format!("/run:{options}")])));
    }
}

#[test]
fn a_volumes_options_mount_nothing() {
    for options in [
        json!({"type": "none", "o": "bind", "device": "/etc"}),
        json!({"type": "nfs", "o": "addr=10.0.0.1", "device": ":/x"}),
        json!({"type": "cifs", "device": "//x/y"}),
        json!({"type": "tmpfs", "device": "tmpfs"}),
        json!({"type": "tmpfs", "device": "/dev/sda1", "o": "size=1m"}),
        json!({"device": "/dev/sda1", "type": "ext4"}),
    ] {
        refused(Rule::Mounts, "volumes.x.driver_opts", &json!({"volumes": {"x": {"driver_opts": options}}}));
    }
}

#[test]
fn drivers_are_dockers_own() {
    refused(Rule::Drivers, "volumes.x.driver", &json!({"volumes": {"x": {"driver": "rexray"}}}));
    for driver in ["host", "macvlan", "bridge"] {
        refused(Rule::Drivers, "networks.x.driver", &json!({"networks": {"x": {"driver": driver}}}));
    }
    refused(Rule::Drivers, "networks.x.ipam.driver", &json!({"networks": {"x": {"ipam": {"driver": "dhcp"}}}}));
    refused(
        Rule::Drivers,
        "networks.x.driver_opts.com.docker.network.bridge.name",
        &json!({"networks": {"x": {"driver_opts": {"com.docker.network.bridge.name": "docker0"}}}}),
    );
    refused(Rule::Drivers, "secrets.x.driver", &json!({"secrets": {"x": {"driver": "vault"}}}));
    refused(Rule::Drivers, "configs.x.template_driver", &json!({"configs": {"x": {"template_driver": "shell"}}}));
}

#[test]
fn namespaces_are_the_containers_own() {
    for (key, value) in [
        ("network_mode", "host"),
        ("network_mode", "container:x"),
        ("pid", "host"),
        ("ipc", "host"),
        ("uts", "host"),
        ("cgroup", "host"),
        ("userns_mode", "host"),
        ("cgroup_parent", "/x"),
    ] {
        refused(Rule::Namespaces, &format!("services.app.{key}"), &service(key, &json!(value)));
    }
    accepted(&service("network_mode", &json!("bridge")));
}

#[test]
fn rights_are_those_of_any_container() {
    for (key, value) in [
        ("privileged", json!(true)),
        ("cap_add", json!(["SYS_ADMIN"])),
        ("devices", json!(["/dev/kvm"])),
        ("device_cgroup_rules", json!(["c 1:3 mr"])),
        ("gpus", json!("all")),
        ("runtime", json!("sysbox")),
        ("sysctls", json!({"kernel.shmmax": 1})),
        ("credential_spec", json!({"file": "x"})),
        ("security_opt", json!(["seccomp:unconfined"])),
        ("security_opt", json!(["no-new-privileges:false"])),
    ] {
        refused(Rule::Privileges, &format!("services.app.{key}"), &service(key, &value));
    }
    let devices = service("deploy", &json!({"resources": {"reservations": {"devices": [{"capabilities": ["gpu"]}]}}}));
    refused(Rule::Privileges, "services.app.deploy.resources.reservations.devices", &devices);
    accepted(&service("privileged", &json!(false)));
}

#[test]
fn a_service_is_tied_to_no_machine() {
    let placed = |constraint: &str| service("deploy", &json!({"placement": {"constraints": [constraint]}}));
    for constraint in ["node.hostname == other", "node.id==abc", "Node.Hostname==x"] {
        refused(Rule::Placement, "services.app.deploy.placement.constraints", &placed(constraint));
    }
    for constraint in ["node.role==manager", "node.labels.nope == yes", "node.hostname != old"] {
        accepted(&placed(constraint));
    }
}

#[test]
fn logs_stay_on_the_host() {
    for driver in ["syslog", "gelf", "fluentd", "journald", "some/plugin"] {
        refused(Rule::Logging, "services.app.logging.driver", &service("logging", &json!({"driver": driver})));
    }
}

#[test]
fn a_port_of_the_host_is_the_test_folders_to_ask_for() {
    for port in [
        json!({"target": 80, "published": 80}),
        json!({"target": 80, "published": "8000-8010", "mode": "host"}),
        json!("80:80"),
    ] {
        refused(Rule::Ports, "services.app.ports[0]", &service("ports", &json!([port])));
    }
    accepted(&service("ports", &json!([{"target": 80, "published": 0}])));
}

#[test]
fn the_proxy_is_told_of_the_apps_own_domain_alone() {
    let router = |option: &str| format!("traefik.http.routers.{STACK}.{option}");
    let at = |key: &str| format!("services.app.deploy.labels.{key}");
    for (key, value) in [
        (router("rule"), "Host(`www.ci.x`)"),
        (router("rule"), "Host(`evilhell-012345.ci.x`)"),
        (router("rule"), "HostRegexp(`.+`)"),
        (router("rule"), "PathPrefix(`/`)"),
        (router("RULE"), "PathPrefix(`/`)"),
        (format!("traefik.tcp.routers.{STACK}.rule"), "HostSNI(`*`)"),
        (format!("traefik.udp.routers.{STACK}.entrypoints"), "dns"),
        (router("tls.certresolver"), "production"),
        (router("tls.domains[0].main"), "ci.x"),
        (router("service"), "api@internal"),
        (router("service"), "drone@swarm"),
        (format!("traefik.http.services.{STACK}.loadbalancer.server.url"), "http://169.254.169.254"),
        ("traefik.http.routers.drone.rule".to_owned(), &format!("Host(`{DOMAIN}`)")),
        ("traefik.http.middlewares.auth.basicauth.users".to_owned(), "x"),
        ("traefik.tls.stores.default.defaultgeneratedcert.resolver".to_owned(), "x"),
        ("traefik.frontend.rule".to_owned(), "Host:www.ci.x"),
        ("traefik.web.frontend.rule".to_owned(), "PathPrefix:/"),
        ("caddy".to_owned(), "www.ci.x"),
        ("caddy_1".to_owned(), &format!("{DOMAIN}, ci.x")),
        ("caddy".to_owned(), ":80"),
        ("caddy".to_owned(), "(snippet)"),
        ("caddy".to_owned(), "*.ci.x"),
        ("caddy".to_owned(), ""),
        ("caddy.email".to_owned(), "x@x"),
    ] {
        refused(Rule::Routes, &at(&key), &label(&key, value));
    }
    let value = json!({"services": {"app": {"labels": {"caddy": "www.ci.x"}}}});
    refused(Rule::Routes, "services.app.labels.caddy", &value);
    for (key, value) in [
        (router("rule"), format!("Host(`{DOMAIN}`)")),
        (router("rule"), "Host(`matrix.example.com`)".to_owned()),
        (router("rule"), "Host(``)".to_owned()),
        (router("service"), format!("{STACK}@swarm")),
        (router("service"), format!("{STACK}_api")),
        (format!("traefik.tcp.routers.{STACK}_ssh.rule"), format!("HostSNI(`{DOMAIN}`)")),
        ("caddy_0".to_owned(), format!("https://{DOMAIN}:443/x www.{DOMAIN}")),
    ] {
        accepted(&label(&key, &value));
    }
}

#[test]
fn an_alias_on_a_shared_network_is_not_another_apps() {
    let compose = |alias: &str| {
        json!({
            "services": {"app": {"networks": {"proxy": {"aliases": [alias]}}}}, "networks": {"proxy": {"external": true}},
        })
    };
    refused(Rule::Routes, "services.app.networks.proxy.aliases", &compose("postgres"));
    for alias in ["app", DOMAIN, &format!("{STACK}_app")] {
        accepted(&compose(alias));
    }
}

#[test]
fn what_is_counted_has_a_limit() {
    let many = |count: usize| (0..count).map(|n| (format!("x{n}"), json!({"image": "a"}))).collect::<Map<_, _>>();
    refused(Rule::Limits, "services", &json!({"services": many(61)}));
    let objects: Map<_, _> = (0..101).map(|n| (format!("x{n}"), json!({}))).collect();
    refused(Rule::Limits, "volumes", &json!({"volumes": objects}));
    refused(Rule::Limits, "services.app.deploy.replicas", &service("deploy", &json!({"replicas": 11})));
}

#[test]
fn a_key_that_nobody_knows_is_refused() {
    for key in ["provider", "models", "post_start", "volumes_from", "use_api_socket"] {
        refused(Rule::Keys, &format!("services.app.{key}"), &service(key, &json!({"x": "y"})));
    }
    refused(Rule::Keys, "services.app.deploy.something", &service("deploy", &json!({"something": 1})));
    refused(Rule::Keys, "include", &json!({"include": ["x"]}));
    refused(Rule::Keys, "configs.x.environment", &json!({"configs": {"x": {"environment": "TOKEN"}}}));
}

#[test]
fn a_file_of_a_config_is_in_the_tree() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    std::fs::write(tree.join("conf"), "x").unwrap();
    std::fs::write(dir.path().join("secret"), "x").unwrap();
    std::os::unix::fs::symlink("../secret", tree.join("link")).unwrap();
    std::os::unix::fs::symlink("conf", tree.join("inside")).unwrap();
    std::fs::write(tree.join("large"), vec![b'x'; 2 << 20]).unwrap();
    nix::unistd::mkfifo(&tree.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let found = |path: &str, policy: &Policy| {
        let compose = json!({"configs": {"c": {"file": tree.join(path)}}});
        judged_in(&tree, &compose, policy)
    };
    for fine in ["conf", "inside", "./conf"] {
        assert_eq!(found(fine, &policy()), Judgement::default(), "{fine}");
    }
    for (path, rule, says) in [
        ("link", Rule::Paths, "leads out"),
        ("../secret", Rule::Paths, "leads out"),
        ("/etc/hostname", Rule::Paths, "leads out"),
        ("../nothing", Rule::Paths, "leads out"),
        ("/dev/null", Rule::Paths, "leads out"),
        ("fifo", Rule::Paths, "a FIFO"),
        (".", Rule::Paths, "a folder"),
        ("missing", Rule::Paths, "has no"),
        ("large", Rule::Limits, "bytes"),
    ] {
        let found_of = |policy: &Policy| found(path, policy);
        let refused = found_of(&policy()).refused;
        assert_eq!(refused.len(), 1, "{path}");
        assert!(refused[0].rule == rule && refused[0].what.contains(says), "{}", refused[0]);
        assert_eq!(found_of(&allowing(rule)).granted.len(), 1);
    }
}

#[test]
fn nothing_in_a_tree_leads_out_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    std::fs::create_dir_all(tree.join("sub/.git")).unwrap();
    std::fs::create_dir(tree.join(".git")).unwrap();
    let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, tree.join(name)).unwrap();
    std::fs::write(tree.join("compose.yml"), "x").unwrap();
    link("/etc", ".git/whatever");
    link("../compose.yml", "sub/inside");
    link("nowhere", "sub/dangling");
    assert_eq!(judge_tree(&tree, &policy()), Judgement::default());
    for target in ["/etc/os-release", "../other", "../../../nothing", "sub/../../x", ".git/config", "/dev/zero"] {
        link(target, ".env.sample");
        let found = judge_tree(&tree, &policy()).refused;
        assert!(
            found.len() == 1 && found[0].rule == Rule::Paths && found[0].file == ".env.sample",
            "{target}: {found:?}"
        );
        assert_eq!(judge_tree(&tree, &allowing(Rule::Paths)).granted.len(), 1);
        std::fs::remove_file(tree.join(".env.sample")).unwrap();
    }
    nix::unistd::mkfifo(&tree.join("sub/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(judge_tree(&tree, &policy()).refused[0].file, "sub/fifo");
    assert!(!judge_tree(&tree.join("missing"), &policy()).refused.is_empty(), "what is not seen is not harmless");
}

#[test]
fn a_tree_has_as_many_files_as_it_may() {
    let tree = tempfile::tempdir().unwrap();
    for number in 0..4 {
        std::fs::write(tree.path().join(number.to_string()), "x").unwrap();
    }
    let mut settings = PolicySettings::default();
    settings.limits.files = 3;
    let found = judge_tree(tree.path(), &Policy::of(&settings, "hello"));
    assert_eq!(found.refused[0].rule, Rule::Limits);
}

#[test]
fn files_are_judged_before_docker_reads_what_they_lead_to() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    std::fs::create_dir_all(tree.join("sub")).unwrap();
    std::fs::write(tree.join("app.env"), "A=1").unwrap();
    let found = |name: &str, value: Value, policy: &Policy| {
        let source = Source { name, text: "", value: &value };
        judge_files(&[source], &BTreeMap::new(), &tree, policy)
    };
    for fine in [json!("app.env"), json!(["./app.env", "none.env"]), json!([{"path": "app.env", "required": false}])] {
        assert_eq!(found("compose.yml", service("env_file", &fine), &policy()), Judgement::default());
    }
    assert_eq!(found("sub/compose.yml", service("env_file", &json!("../app.env")), &policy()), Judgement::default());
    for path in ["../x", "/etc/environment", "~/x", "$X", "${X:-/etc/environment}", "/dev/zero", "sub"] {
        for entry in [json!(path), json!(["app.env", path]), json!([{"path": path, "required": false}])] {
            let judged = |policy: &Policy| found("compose.yml", service("env_file", &entry), policy);
            let refused = judged(&policy()).refused;
            assert!(refused.len() == 1 && refused[0].rule == Rule::Paths, "{path}: {refused:?}");
            assert_eq!(judged(&allowing(Rule::Paths)).granted.len(), 1);
        }
    }
    for (value, key) in [
        (json!({"include": ["other.yml"]}), "include"),
        (service("extends", &json!({"file": "/etc/x.yml", "service": "x"})), "services.app.extends"),
        (json!({"secrets": {"x": {"environment": "DRONE_TOKEN"}}}), "secrets.x.environment"),
    ] {
        let refused = found("compose.yml", value, &policy()).refused;
        assert!(refused.len() == 1 && refused[0].key == key, "{refused:?}");
    }
    let outside = json!({"configs": {"c": {"file": "../../etc/hostname"}}});
    assert_eq!(found("compose.yml", outside, &policy()).refused[0].rule, Rule::Paths);
}

#[test]
fn variables_do_not_blow_a_file_up() {
    let tree = tempfile::tempdir().unwrap();
    let vars = BTreeMap::from([("A".to_owned(), "x".repeat(1 << 16))]);
    let text = "$A".repeat(1 << 10);
    let value = json!({});
    let found =
        judge_files(&[Source { name: "compose.yml", text: &text, value: &value }], &vars, tree.path(), &policy());
    assert_eq!(found.refused[0].rule, Rule::Limits);
}

#[test]
fn hints_for_a_load_balancer_are_no_claim_on_what_is_dockers() {
    accepted(&label("com.docker.lb.hosts", "x"));
    refused(Rule::Names, "services.app.deploy.labels.com.docker.lbx", &label("com.docker.lbx", "x"));
}

#[test]
fn a_stack_takes_no_more_of_the_host_than_its_share() {
    let subnet = |subnet: &str| json!({"networks": {"x": {"ipam": {"config": [{"subnet": subnet}]}}}});
    refused(Rule::Limits, "networks.x.ipam.config", &subnet("10.128.0.0/9"));
    refused(Rule::Limits, "networks.x.ipam.config", &subnet("fd00::/8"));
    accepted(&subnet("10.77.0.0/24"));
    let check = |interval: &str| service("healthcheck", &json!({"test": ["CMD", "true"], "interval": interval}));
    for short in ["1ms", "999.9ms", "5us", "5\u{b5}s", "1ns"] {
        refused(Rule::Limits, "services.app.healthcheck.interval", &check(short));
    }
    for fine in ["1s", "30s", "1m30s", "1.5s", "1h0m0s", "1s500ms"] {
        accepted(&check(fine));
    }
    refused(Rule::Privileges, "services.app.oom_score_adj", &service("oom_score_adj", &json!(-1000)));
    accepted(&service("oom_score_adj", &json!(500)));
    refused(Rule::Names, "services.app.image", &json!({"services": {"app": {"image": "--all-tags"}}}));
}

#[test]
fn the_proxy_serves_nothing_of_others_and_nothing_of_its_own() {
    let refused_label = |key: String, value: &str| {
        let at = format!("services.app.deploy.labels.{key}");
        refused(Rule::Routes, &at, &label(&key, value));
    };
    refused_label(format!("traefik.udp.routers.{STACK}-u.service"), "x");
    for value in ["victim_ci_x-app", "api@internal", &format!("{STACK}_app@file")] {
        refused_label(format!("traefik.http.routers.{STACK}.service"), value);
        refused_label(format!("traefik.http.middlewares.{STACK}-e.errors.service"), value);
    }
    for value in ["http://127.0.0.1:8080/", "http://victim_app/", &format!("http://{STACK}_app@victim/")] {
        refused_label(format!("traefik.http.middlewares.{STACK}-f.forwardauth.address"), value);
    }
    refused_label(format!("traefik.http.middlewares.{STACK}-p.plugin.x.y"), "z");
    refused_label("caddy_99999999999".to_owned(), "victim.ci.x");
    for (key, value) in [
        ("caddy.root", "* /"),
        ("caddy.file_server", "browse"),
        ("caddy.1_import", "x"),
        ("caddy.handle.0_root", "/"),
        ("caddy.reverse_proxy", "victim:80"),
    ] {
        let compose = service("deploy", &json!({"labels": {"caddy": DOMAIN, key: value}}));
        refused(Rule::Routes, &format!("services.app.deploy.labels.{key}"), &compose);
    }
    for (key, value) in [
        (format!("traefik.http.routers.{STACK}.service"), format!("{STACK}_app")),
        (format!("traefik.http.routers.{STACK}-r.service"), "noop@internal".to_owned()),
        (format!("traefik.http.middlewares.{STACK}-f.forwardauth.address"), format!("http://{STACK}_app:9000/auth")),
        (format!("traefik.http.middlewares.{STACK}-f.forwardauth.address"), format!("https://{DOMAIN}/auth")),
    ] {
        accepted(&label(&key, &value));
    }
}

#[test]
fn gits_own_folder_is_no_part_of_a_recipe() {
    let tree = tempfile::tempdir().unwrap();
    for dir in [".git", "sub/.git"] {
        std::fs::create_dir_all(tree.path().join(dir)).unwrap();
        std::fs::write(tree.path().join(dir).join("config"), "url = https://token@x").unwrap();
        for path in [format!("{dir}/config"), format!("./sub/../{dir}/config")] {
            std::fs::create_dir_all(tree.path().join("sub")).unwrap();
            let error = Tree::new(tree.path()).read(path.as_ref(), 100).unwrap_err();
            assert!(matches!(error, super::tree::Refused::Outside { .. }), "{error}");
        }
    }
    std::fs::write(tree.path().join(".gitignore"), "x").unwrap();
    assert!(Tree::new(tree.path()).read(".gitignore".as_ref(), 100).unwrap().is_some());
}
