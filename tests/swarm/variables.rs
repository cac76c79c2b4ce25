//! What is a variable of what: a recipe's are data, the CI step's are nobody's but the harness's.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use ccci_core::process::Job;
use ccci_tests::swarm::{RECIPE, SwarmHost};
use serde_json::Value;

/// Writes files of [`RECIPE`] and commits them. What begins with `#!` is executable.
fn commit(swarm: &SwarmHost, files: &[(&str, &[u8])]) {
    let dir = swarm.host.path("recipes").join(RECIPE);
    for (name, bytes) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        let mode = if bytes.starts_with(b"#!") { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let script =
        "git add --all --force && git -c user.name=t -c user.email=t@example.com commit --quiet --message more";
    let job = Job::new("sh").args(["-ec", script]).dir(&dir).env([("GIT_CONFIG_GLOBAL", "/dev/null")]);
    job.run_ok(&mut |_| {}).unwrap_or_else(|error| panic!("{error}"));
}

/// A recipe with one service, whose environment is `environment`.
fn compose(image: &str, environment: &str) -> String {
    format!(
        "version: \"3.8\"\nservices:\n  app:\n    image: {image}\n    command: [run]\n    environment: {environment}\n"
    )
}

/// Has the run write down what Docker holds of the service.
fn looks_at_the_service(swarm: &SwarmHost) {
    let look = format!("docker service inspect {}_app >\"$TMPDIR/service\"", swarm.stack());
    drop(swarm.folder(RECIPE).script("test_install.sh", &look));
}

/// The environment of the service's containers, as Docker holds it.
fn held(swarm: &SwarmHost) -> BTreeMap<String, Option<String>> {
    let text = fs::read_to_string(swarm.host.path("tmp/service")).unwrap();
    let service: Value = serde_json::from_str(&text).unwrap();
    let env = service[0]["Spec"]["TaskTemplate"]["ContainerSpec"]["Env"].as_array().cloned().unwrap_or_default();
    let entry = |text: &str| match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (text.to_owned(), None),
    };
    env.iter().map(|text| entry(text.as_str().unwrap())).collect()
}

fn assert_holds(swarm: &SwarmHost, expected: &[(&str, &str)]) {
    let held = held(swarm);
    for (name, value) in expected {
        assert_eq!(held.get(*name), Some(&Some((*value).to_owned())), "{name} in {held:#?}");
    }
}

pub(crate) fn no_variable_of_a_recipe_is_one_of_a_program() {
    let swarm = SwarmHost::new();
    let mark = swarm.host.path("executed");
    let program = format!("#!/bin/sh\necho \"$0 $*\" >>'{}'\n", mark.display());
    let names =
        "[PATH, LD_PRELOAD, DOCKER_HOST, DOCKER_CONFIG, HOME, GODEBUG, GREETING, \"OTHER=${PATH}:${HOME:-none}\"]";
    let sample = "TYPE=pair\nPATH=.\nLD_PRELOAD=./evil.so\nDOCKER_HOST=tcp://127.0.0.1:1\nDOCKER_CONFIG=.docker\nHOME=.\n\
                  GREETING=hello\nCOMPOSE_FILE=compose.yml\nCOMPOSE_PROJECT_NAME=other\nHTTPS_PROXY=http://127.0.0.1:1\n";
    commit(
        &swarm,
        &[
            ("compose.yml", compose("ccci-test:1", names).as_bytes()),
            (".env.sample", sample.as_bytes()),
            ("abra.sh", b"export GODEBUG=panicnil=1\n"),
            ("docker", program.as_bytes()),
            ("git", program.as_bytes()),
            ("plugins/docker-stack", program.as_bytes()),
            (".docker/config.json", br#"{"cliPluginsExtraDirs": ["./plugins", "plugins"], "credsStore": "evil"}"#),
            ("docker-credential-evil", program.as_bytes()),
            ("evil.so", b"no library"),
        ],
    );
    looks_at_the_service(&swarm);
    let step = swarm.run().args(["--stages", "install"]).start();
    let ended = swarm.clean_end(step, 0);
    assert!(!mark.exists(), "executed: {}", fs::read_to_string(&mark).unwrap());
    assert!(!ended.log().contains("evil.so"), "the loader has read it:\n{}", ended.log());
    assert_holds(
        &swarm,
        &[
            ("PATH", "."),
            ("LD_PRELOAD", "./evil.so"),
            ("DOCKER_HOST", "tcp://127.0.0.1:1"),
            ("DOCKER_CONFIG", ".docker"),
            ("HOME", "."),
            ("GODEBUG", "panicnil=1"),
            ("GREETING", "hello"),
            ("OTHER", ".:."),
        ],
    );
}

pub(crate) fn no_variable_of_the_ci_step_is_one_of_a_recipe() {
    let swarm = SwarmHost::new();
    let names =
        "[SOME_TOKEN, HOME, PATH, DOCKER_HOST, \"T=${SOME_TOKEN:-none}\", \"H=${HOME:-none}\", \"P=${PATH-none}\"]";
    commit(
        &swarm,
        &[
            ("compose.yml", compose("\"ccci-test:${IMAGE_TAG:-1}\"", names).as_bytes()),
            (".env.sample", b"TYPE=pair\n"),
            ("abra.sh", b""),
        ],
    );
    let look = format!(
        "docker service inspect {}_app >\"$TMPDIR/service\"\nenv >\"$TMPDIR/env\"\n[ \"$CCCI_APP_DOMAIN\" ]",
        swarm.stack()
    );
    let named = "[tests]\nenvironment = [\"NAMED_TOKEN\"]";
    drop(swarm.folder(RECIPE).also(named).script("test_install.sh", &look));
    let step = swarm.run().args(["--stages", "install"]).env("IMAGE_TAG", "none-such").env("SOME_TOKEN", "hunter2");
    let step = step.env("DRONE_RPC_SECRET", "hunter3").env("NAMED_TOKEN", "hunter4").env("CI_COLOUR", "blue").start();
    let _green = swarm.clean_end(step, 0);
    assert_holds(&swarm, &[("T", "none"), ("H", "none"), ("P", "none")]);
    let held = held(&swarm);
    for name in ["SOME_TOKEN", "HOME", "PATH", "DOCKER_HOST"] {
        assert!(held.get(name).is_none_or(Option::is_none), "{name} in {held:#?}");
    }
    let seen = fs::read_to_string(swarm.host.path("tmp/env")).unwrap();
    assert!(!seen.contains("hunter2") && !seen.contains("hunter3"), "{seen}");
    assert!(seen.contains("NAMED_TOKEN=hunter4\n") && seen.contains("CI_COLOUR=blue\n"), "{seen}");
}

pub(crate) fn docker_holds_what_the_env_file_says() {
    let swarm = SwarmHost::new();
    let names = "[HASH, FALLBACK, MULTI, AFTER, ESC, LAST, \"LITERAL=a$$b\", \"WITHDEF=${UNSET_ONE:-dflt}\", \"IN=<${MULTI}>\"]";
    let file = compose("ccci-test:1", names)
        + "    deploy: {replicas: \"${COUNT}\"}\n    secrets: [pw]\n"
        + "secrets:\n  pw: {external: true, name: \"${STACK_NAME}_pw_${SECRET_PW_VERSION}\"}\n";
    let sample = "\u{feff}TYPE=pair\r\nHASH='$2y$05$abcdefghijklmnop'\nFALLBACK=${NOT_SET:-fallback}\nMULTI=\"line one\n\
                  line $COUNT\"\nAFTER=after\t# a comment\nESC=\"say \\\"hi\\\"\"\nCOMPOSE_FILE=\nCOUNT=1\n\
                  SECRET_PW_VERSION=v1 # length=0\nSECRET_PW_VERSION=v2\t# length=20 charset=hex\nLAST: 'no newline'";
    // A comment of an old editor's is no reason to read nothing.
    let sample = [b"# caf\xe9\n".as_slice(), sample.trim_start_matches('\u{feff}').as_bytes()].concat();
    commit(&swarm, &[("compose.yml", file.as_bytes()), (".env.sample", &sample), ("abra.sh", b"")]);
    looks_at_the_service(&swarm);
    let step = swarm.run().args(["--stages", "install"]).start();
    let _green = swarm.clean_end(step, 0);
    assert_holds(
        &swarm,
        &[
            ("HASH", "$2y$05$abcdefghijklmnop"),
            ("FALLBACK", "fallback"),
            // A value stands for what was said before it.
            ("MULTI", "line one\nline "),
            ("AFTER", "after"),
            ("ESC", "say \"hi\""),
            ("LAST", "no newline"),
            ("LITERAL", "a$b"),
            ("WITHDEF", "dflt"),
            ("IN", "<line one\nline >"),
        ],
    );
}

/// A run of this sample is red, at once and for this reason, and makes nothing.
fn is_red(sample: &[u8], reason: &str) {
    let swarm = SwarmHost::new();
    commit(
        &swarm,
        &[("compose.yml", compose("ccci-test:1", "[A]").as_bytes()), (".env.sample", sample), ("abra.sh", b"")],
    );
    let step = swarm.run().args(["--stages", "install"]).start();
    let results = swarm.clean_end(step, 1).results();
    assert!(results["reason"].as_str().unwrap().contains(reason), "{} for {reason}", results["reason"]);
    assert_eq!(results["deploy_count"]["counted"], 0, "{}", results["deploy_count"]);
}

pub(crate) fn an_env_file_that_cannot_be_read_is_red_and_its_line_is_named() {
    is_red(b"TYPE=pair\nGREETING=caf\xe9\n", ".env.sample:2: the value of GREETING is no UTF-8");
    is_red(b"TYPE=pair\nHASH=$2y$05$abc\n", ".env.sample:2: the value of HASH: `$2y` is no variable");
    let doubling = format!("A=xxxxxxxx\n{}", "A=$A$A\n".repeat(40));
    is_red(doubling.as_bytes(), ".env.sample:15: the value of A: it gets longer than");
}

pub(crate) fn a_secret_that_docker_would_refuse_is_red_and_its_variable_is_named() {
    is_red(b"SECRET_PW_VERSION=v1 # length=0\n", "SECRET_PW_VERSION: length=0: a secret has 1 to 4096 characters");
    is_red(b"SECRET_PW_VERSION=v1 # length=99999999999\n", "SECRET_PW_VERSION: length=99999999999");
    is_red(b"SECRET_PW_VERSION=\n", "SECRET_PW_VERSION: it has no version");
    is_red(b"SECRET_PW_VERSION=a/b\n", "SECRET_PW_VERSION: Docker takes no secret of the name");
}
