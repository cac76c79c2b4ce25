//! What a recipe may not ask of the host: refused before anything is made, with others' things unchanged.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ccci_tests::swarm::{At, RECIPE, SwarmHost, compose, daemon, removed};
use nix::sys::signal::Signal;
use serde_json::Value;

const STACK_LABEL: &str = "com.docker.stack.namespace";

/// What somebody else has on the same Docker.
struct Others {
    objects: Vec<(&'static str, String)>,
    seen: BTreeMap<String, String>,
}

impl Others {
    /// Another stack's things and nobody's, some of them called almost as the run's own.
    fn beside(swarm: &SwarmHost) -> Self {
        let (own, other) = (swarm.stack(), format!("other{}", swarm.host.pr()));
        let file = swarm.host.path("theirs");
        fs::write(&file, "theirs").unwrap();
        let file = file.display().to_string();
        let label = format!("{STACK_LABEL}={other}");
        let mut objects = Vec::new();
        for kind in ["secret", "config"] {
            for (name, labels) in [
                (format!("{other}_dns_token_v1"), vec!["--label", label.as_str()]),
                (format!("{other}_unlabelled"), vec![]),
                (format!("{own}x_token_v1"), vec!["--label", label.as_str()]),
            ] {
                daemon().cli(&[&[kind, "create"], &labels[..], &[&name, &file]].concat());
                objects.push((kind, name));
            }
        }
        let volume = format!("{other}_data");
        daemon().cli(&["volume", "create", "--label", &label, &volume]);
        let at = daemon().cli(&["volume", "inspect", &volume, "--format", "{{.Mountpoint}}"]);
        fs::write(Path::new(&at).join("theirs"), "theirs").unwrap();
        objects.push(("volume", volume));
        let network = format!("{other}_internal");
        daemon().cli(&["network", "create", "--driver", "overlay", "--label", &label, &network]);
        objects.push(("network", network));
        let service = format!("{other}_app");
        let create = ["service", "create", "--detach", "--quiet", "--no-resolve-image", "--label", &label];
        daemon().cli(&[&create[..], &["--name", &service, "ccci-test:1", "run"]].concat());
        objects.push(("service", service));
        let mut others = Self { objects, seen: BTreeMap::new() };
        others.seen = others.look();
        others
    }

    fn look(&self) -> BTreeMap<String, String> {
        let mut seen = BTreeMap::new();
        for (kind, name) in &self.objects {
            let mut text = daemon().cli(&[kind, "inspect", name]);
            if *kind == "volume" {
                let at = daemon().cli(&["volume", "inspect", name, "--format", "{{.Mountpoint}}"]);
                let files = fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path());
                text +=
                    &files.map(|file| format!("{file:?} {}", fs::read_to_string(&file).unwrap())).collect::<String>();
            }
            if *kind == "service" {
                text += &daemon().cli(&["service", "ps", "--quiet", "--no-trunc", name]);
            }
            seen.insert(format!("{kind} {name}"), text);
        }
        seen
    }

    #[track_caller]
    fn are_unchanged(&self) {
        assert_eq!(self.seen, self.look());
    }

    fn name(&self, kind: &str) -> &str {
        &self.objects.iter().find(|(of, _)| *of == kind).unwrap().1
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        for (kind, name) in self.objects.iter().rev() {
            let _there_or_not = daemon().try_cli(&[kind, "rm", name]);
        }
    }
}

/// A host whose deploys are counted.
fn watched() -> SwarmHost {
    let swarm = SwarmHost::new();
    swarm.hold("stack deploy", 0, At::After, &swarm.host.gate("deploy"));
    swarm
}

/// Runs the recipe, which must be refused in these words before anything but its env file is made.
#[track_caller]
fn is_refused(swarm: &SwarmHost, words: &[&str]) {
    let step = swarm.run().args(["--stages", "install"]).start();
    let ended = swarm.clean_end(step, 1);
    let results = ended.results();
    let reason = results["reason"].as_str().unwrap();
    for word in [&["refused before anything was made"], words].concat() {
        assert!(reason.contains(word), "`{word}` is missing in: {reason}");
    }
    assert_eq!(removed(&results), [].into(), "something was made");
    assert!(!swarm.host.path("calls").exists(), "it was deployed all the same");
}

/// A recipe with these sections after its services, and with a secret that would be made.
fn tree(swarm: &SwarmHost, sections: &str) {
    let text = format!("services:\n  app:\n    image: ccci-test:1\n    command: [run]\n{sections}");
    swarm.tree(RECIPE, |dir| {
        fs::write(dir.join("compose.yml"), &text).unwrap();
        fs::write(dir.join(".env.sample"), "TYPE=pair\nSECRET_TOKEN_VERSION=v1\n").unwrap();
        fs::write(dir.join("empty"), "").unwrap();
    });
}

pub(crate) fn what_is_another_stacks_is_refused_before_anything_is_made_and_stays_as_it_is() {
    let swarm = watched();
    let others = Others::beside(&swarm);
    for kind in ["secret", "config"] {
        let names: Vec<&String> = others.objects.iter().filter(|(of, _)| *of == kind).map(|(_, name)| name).collect();
        for name in names {
            tree(&swarm, &format!("{kind}s:\n  a: {{name: {name}, file: ./empty}}\n"));
            is_refused(&swarm, &[name, &format!("{kind}s.a.name"), "policy: names", "${STACK_NAME}_"]);
            tree(&swarm, &format!("{kind}s:\n  a: {{name: {name}, external: true}}\n"));
            is_refused(&swarm, &[name, "policy: external"]);
        }
    }
    for kind in ["volume", "network"] {
        let name = others.name(kind);
        tree(
            &swarm,
            &format!(
                "    {kind}s: [{}]\n{kind}s:\n  v: {{name: {name}}}\n",
                if kind == "volume" { "v:/x" } else { "v" }
            ),
        );
        is_refused(&swarm, &[name, &format!("{kind}s.v.name"), "policy: names"]);
    }
    // The operator lets it choose its names: what is there already is another's all the same.
    swarm.host.settings(&format!("[policy.recipes.{RECIPE}]\nallow = [\"names\"]\n"));
    for kind in ["secret", "config"] {
        let name = others.name(kind);
        tree(&swarm, &format!("{kind}s:\n  a: {{name: {name}, file: ./empty}}\n"));
        is_refused(&swarm, &[name, "exists already"]);
    }
    let name = others.name("volume");
    tree(&swarm, &format!("    volumes: [\"v:/x\"]\nvolumes:\n  v: {{name: {name}}}\n"));
    is_refused(&swarm, &[name, "exists already"]);
    others.are_unchanged();
}

pub(crate) fn what_leaves_the_tree_is_refused_before_anything_is_made() {
    let swarm = watched();
    let secret = "a-password-of-the-host";
    fs::write(swarm.host.path("host-secret"), format!("PASSWORD={secret}\n")).unwrap();
    let outside = swarm.host.path("host-secret").display().to_string();
    let up = "../".repeat(12) + outside.trim_start_matches('/');
    for sections in [
        format!("configs:\n  c: {{file: {up}}}\n"),
        format!("secrets:\n  c: {{file: {outside}}}\n"),
        format!("    env_file: {up}\n"),
        format!("    env_file: [empty, {outside}]\n"),
        "    env_file: ${OUT}\n".to_owned(),
    ] {
        tree(&swarm, &sections);
        is_refused(&swarm, &["policy: paths"]);
    }
    for (name, target) in [(".env.sample", outside.as_str()), ("abra.sh", &up), ("compose.yml", &outside)] {
        swarm.tree(RECIPE, |dir| {
            fs::write(dir.join("compose.yml"), "services:\n  app: {image: \"ccci-test:1\", command: [run]}\n").unwrap();
            if dir.join(name).exists() {
                fs::remove_file(dir.join(name)).unwrap();
            }
            std::os::unix::fs::symlink(target, dir.join(name)).unwrap();
        });
        is_refused(&swarm, &[name, "leads out of the recipe"]);
    }
    swarm.tree(RECIPE, |dir| {
        fs::write(dir.join(".env.sample"), format!("COMPOSE_FILE=compose.yml:{up}\n")).unwrap();
        fs::write(dir.join("compose.yml"), "services:\n  app: {image: \"ccci-test:1\", command: [run]}\n").unwrap();
    });
    let step = swarm.run().args(["--stages", "install"]).start();
    let ended = swarm.clean_end(step, 1);
    assert!(ended.results()["reason"].as_str().unwrap().contains("leads out of the recipe"));
    let found = ended.files_with(secret);
    assert!(found.is_empty(), "{found:?}");
}

pub(crate) fn what_the_operator_allows_is_named_and_goes_with_the_run() {
    let swarm = watched();
    let fixed = format!("fixed-{}", swarm.host.pr());
    let text = compose("run", "").replace("volumes: {data: {}}", &format!("volumes: {{data: {{name: {fixed}}}}}"));
    swarm.recipe(RECIPE, &[&text]);
    is_refused(&swarm, &["volumes.data.name", &fixed]);
    swarm.host.settings(&format!("[policy.recipes.{RECIPE}]\nallow = [\"names\"]\n"));
    let step = swarm.run().args(["--stages", "install"]).start();
    let ended = swarm.clean_end(step, 0);
    let results = ended.results();
    let granted = results["policy"]["granted"].as_array().unwrap();
    assert_eq!(granted.len(), 1, "{granted:?}");
    assert_eq!((&granted[0]["rule"], &granted[0]["key"]), (&"names".into(), &"volumes.data.name".into()));
    assert!(removed(&ended.results()).contains(&format!("volume {fixed}")), "{:?}", removed(&ended.results()));
    assert!(!daemon().has("volume", &fixed), "it was this run's, and is still there");
}

pub(crate) fn what_a_run_makes_bears_its_label_and_has_limits() {
    let swarm = SwarmHost::new();
    swarm.host.settings("[policy.limits]\nmemory_mb = 64\npids = 99\nlog_mb = 1\n");
    swarm.recipe(RECIPE, &[&compose("run", "")]);
    let stack = swarm.stack();
    let script = format!(
        "for kind in service volume network secret config; do\n\
         for id in $(docker $kind ls --quiet --filter label={STACK_LABEL}={stack}); do\n\
         docker $kind inspect $id >>\"$TMPDIR/$kind\"; echo \"$CCCI_RUN_ID\" >\"$TMPDIR/run\"\n done\n done"
    );
    let _folder = swarm.folder(RECIPE).script("test_install.sh", &script);
    let step = swarm.run().args(["--stages", "install"]).start();
    let _green = swarm.clean_end(step, 0);
    let read = |name: &str| fs::read_to_string(swarm.host.path("tmp").join(name)).unwrap();
    let run = read("run");
    for kind in ["service", "volume", "network", "secret", "config"] {
        let text = read(kind);
        let all: Vec<Value> =
            serde_json::Deserializer::from_str(&text).into_iter::<Value>().map(Result::unwrap).collect();
        assert!(!all.is_empty(), "{kind}");
        for object in &all {
            let labels = [&object[0]["Labels"], &object[0]["Spec"]["Labels"]];
            let bears = labels.iter().any(|labels| labels["cc-ci.run"] == run.trim());
            assert!(
                bears && labels.iter().any(|labels| labels["cc-ci.domain"] == swarm.domain().as_str()),
                "{object:#}"
            );
        }
        if kind == "service" {
            let task = &all[0][0]["Spec"]["TaskTemplate"];
            assert_eq!(task["Resources"]["Limits"]["MemoryBytes"], 64 << 20, "{task:#}");
            assert_eq!(task["Resources"]["Limits"]["Pids"], 99, "{task:#}");
            assert_eq!(task["LogDriver"]["Options"]["max-size"], "1m", "{task:#}");
        }
    }
}

/// Small files that Docker deploys, each of a form of its own.
const FORMS: [(&str, &[(&str, &str)]); 9] = [
    (
        "an env file",
        &[
            (
                "compose.yml",
                "version: \"3.8\"\nservices:\n  app: {image: \"ccci-test:1\", command: [run], env_file: app.env}\n",
            ),
            ("app.env", "A=from_file\nB=$X\n"),
        ],
    ),
    (
        "env files",
        &[
            (
                "compose.yml",
                "services:\n  app: {image: \"ccci-test:1\", command: [run], env_file: [a.env, ./b.env], environment: {A: own}}\n",
            ),
            ("a.env", "A=1\nB=2\n"),
            ("b.env", "B=3\n"),
        ],
    ),
    (
        "version 3.0",
        &[(
            "compose.yml",
            "version: \"3.0\"\nservices:\n  app: {image: \"ccci-test:1\", command: [run], volumes: [\"data:/data\"], networks: [own]}\nnetworks: {own: {}}\nvolumes: {data: {}}\n",
        )],
    ),
    ("version 3", &[("compose.yml", "version: \"3\"\nservices:\n  app: {image: \"ccci-test:1\", command: [run]}\n")]),
    (
        "version 3.3",
        &[
            (
                "compose.yml",
                "version: \"3.3\"\nservices:\n  app: {image: \"ccci-test:1\", command: [run], networks: [proxy], configs: [c]}\nnetworks: {proxy: {external: true}}\nconfigs: {c: {file: ./c}}\n",
            ),
            ("c", "x $y $${z}"),
        ],
    ),
    (
        "version 3.13",
        &[(
            "compose.yml",
            "version: \"3.13\"\nservices:\n  app: {image: \"ccci-test:1\", command: [run], init: true, healthcheck: {test: [CMD, \"true\"], interval: 1m30s}}\n",
        )],
    ),
    (
        "no version and dollars",
        &[(
            "compose.yml",
            "services:\n  app:\n    image: ccci-test:1\n    command: [run, \"$$HOME\", \"a$$b\"]\n    environment: {P: \"x$$y\", Q: \"${STACK_NAME}\"}\n    labels: {l: \"$$1\"}\n    deploy: {labels: [\"k=$$v\"], replicas: 1}\n",
        )],
    ),
    (
        "COMPOSE_FILE that says nothing",
        &[
            (".env.sample", "COMPOSE_FILE=\n"),
            ("compose.yml", "services:\n  app: {image: \"ccci-test:1\", command: [run], environment: {A: base}}\n"),
        ],
    ),
    (
        "COMPOSE_FILE that refers to itself",
        &[
            (".env.sample", "COMPOSE_FILE=compose.yml\nCOMPOSE_FILE=\"$COMPOSE_FILE:compose.more.yml\"\n"),
            (
                "compose.yml",
                "services:\n  app: {image: \"ccci-test:1\", command: [run], environment: {A: base, B: base}}\n",
            ),
            (
                "compose.more.yml",
                "services:\n  app: {environment: {B: more}}\n  db: {image: \"ccci-test:1\", command: [run]}\n",
            ),
        ],
    ),
];

pub(crate) fn what_is_deployed_is_what_docker_would_deploy() {
    let swarm = SwarmHost::new();
    swarm.host.settings("[policy.limits]\nmemory_mb = 0\npids = 0\ncpus = 0\nlog_mb = 0\n");
    let stack = swarm.stack();
    let dump = format!("docker service inspect $(docker service ls --quiet --filter label={STACK_LABEL}={stack})");
    let gate = swarm.host.gate("deployed");
    swarm.hold("stack deploy", 1, At::After, &gate);
    for (name, files) in FORMS {
        swarm.tree(RECIPE, |dir| {
            for (file, text) in files {
                fs::write(dir.join(file), text).unwrap();
            }
        });
        // What Docker has is looked at when it was told; whether it comes up well is not asked here.
        let step = swarm.run().args(["--stages", "install"]).start();
        gate.reached();
        let ours = daemon().shell(&dump);
        fs::remove_file(swarm.host.path("calls")).unwrap();
        gate.open();
        step.signal_keeper(Signal::SIGTERM);
        let _cancelled = step.end().expect(143);
        swarm.assert_clean();

        let dir = swarm.host.path("recipes").join(RECIPE);
        let more = if dir.join("compose.more.yml").exists() { "--compose-file compose.more.yml" } else { "" };
        let deploy = format!(
            "cd {} && STACK_NAME={stack} docker stack deploy --resolve-image never --compose-file compose.yml {more} {stack} >&2 && {dump}",
            dir.display()
        );
        let theirs = daemon().shell(&deploy);
        assert_eq!(specs(&ours), specs(&theirs), "{name}");
        daemon().cli(&["stack", "rm", &stack]);
        swarm.is_down_to(&stack, &["volume"]);
        for volume in
            daemon().cli(&["volume", "ls", "--quiet", "--filter", &format!("label={STACK_LABEL}={stack}")]).lines()
        {
            ccci_tests::host::until("the volume goes", || daemon().try_cli(&["volume", "rm", volume]).then_some(()));
        }
    }
}

/// The services by name, without what only a run of ours has and what differs each time.
fn specs(inspected: &str) -> BTreeMap<String, Value> {
    let all: Vec<Value> = serde_json::from_str(inspected).unwrap();
    let spec = |mut service: Value| {
        let mut spec = service["Spec"].take();
        let labels = spec["Labels"].as_object_mut().unwrap();
        labels.retain(|key, _| !key.starts_with("cc-ci.") && !key.contains(".chaos"));
        for network in spec["TaskTemplate"]["Networks"].as_array_mut().into_iter().flatten() {
            network["Target"].take();
        }
        for kind in ["Configs", "Secrets"] {
            for used in spec["TaskTemplate"]["ContainerSpec"][kind].as_array_mut().into_iter().flatten() {
                used[format!("{}ID", kind.trim_end_matches('s'))].take();
            }
        }
        // A mount has the volume's labels.
        for mount in spec["TaskTemplate"]["ContainerSpec"]["Mounts"].as_array_mut().into_iter().flatten() {
            let labels = mount["VolumeOptions"]["Labels"].as_object_mut();
            labels.into_iter().for_each(|labels| labels.retain(|key, _| !key.starts_with("cc-ci.")));
        }
        (spec["Name"].as_str().unwrap().to_owned(), spec)
    };
    all.into_iter().map(spec).collect()
}
