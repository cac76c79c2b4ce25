//! The whole way, green, in the middle of other people's things.

use std::collections::BTreeSet;

use ccci_tests::swarm::{SwarmHost, compose, daemon, removed};
use serde_json::Value;

/// Writes down what Docker has, as `kind name`.
const LIST: &str = r#"for kind in service network volume secret config; do
  docker $kind ls --format '{{.Name}}' | sed "s/^/$kind /"
done >"$TMPDIR/listed"
docker ps --all --format '{{.Names}}' | sed 's/^/container /' >>"$TMPDIR/listed""#;

/// The example recipe with a second service.
fn with_second_service(version: &str) -> String {
    let path = ccci_tests::binaries::workspace().join(format!("tests/fixtures/hello/{version}/compose.yml"));
    let text = std::fs::read_to_string(path).unwrap();
    let second = "  db:\n    image: ccci-test:1\n    volumes: [\"dbdata:/data\"]\n    networks: [internal]\n\nvolumes:\n  dbdata:\n";
    text.replace("\nvolumes:\n", &format!("\n{second}"))
        .replace("failure_action", "monitor: 1s\n        failure_action")
}

pub(crate) fn a_recipe_goes_through_every_tier_and_leaves_nothing_of_its_own_and_all_of_the_others() {
    let swarm = SwarmHost::new();
    let repository = swarm.host.recipe("hello");
    for (tag, version) in [("0.3.0+1.0.0", "1.0.0"), ("0.4.0+1.1.0", "1.1.0")] {
        std::fs::write(repository.join("compose.yml"), with_second_service(version)).unwrap();
        let fixture = ccci_tests::binaries::workspace().join("tests/fixtures/hello").join(version);
        for file in ["greeting.txt", "abra.sh"] {
            std::fs::copy(fixture.join(file), repository.join(file)).unwrap();
        }
        let commit = "git -c user.name=t -c user.email=t@example.com";
        let script = format!("{commit} commit -qam '{tag}' && {commit} tag -am '{tag}' '{tag}'");
        ccci_core::process::Job::new("sh").args(["-c", &script]).dir(&repository).run_ok(&mut |_| {}).unwrap();
    }
    let folder = swarm.host.folder("hello");
    let example = ccci_tests::binaries::workspace().join("tests/recipes/hello");
    ccci_core::process::Job::new("cp")
        .args(["-R".as_ref(), example.join(".").as_os_str(), folder.path().as_os_str()])
        .run_ok(&mut |_| {})
        .unwrap();
    let _listing = folder.script("custom/zz_list.sh", LIST);

    let stack = swarm.host.domain().stack_name();
    let witness = Witness::around(&swarm, &stack);
    let ended = swarm.run_of("hello").end().expect(0);
    let results = ended.results();
    assert_eq!(results["verdict"], "green");
    assert_eq!(results["level"], 4, "{:#}", results["rungs"]);
    for tier in ["install", "upgrade", "backup", "restore", "custom"] {
        let stages = results["stages"].as_array().unwrap();
        let stage = stages.iter().find(|stage| stage["tier"] == tier).unwrap();
        assert_eq!(stage["outcome"], "pass", "{stage:#}");
        assert!(stage["tests"].as_array().unwrap().len() > usize::from(tier != "backup"), "{stage:#}");
    }
    assert_eq!(results["upgraded_from"], "0.3.0+1.0.0");
    assert_eq!(results["deploy_count"]["counted"], 1);
    assert_eq!(results["flags"]["no_secret_leak"], true);

    // The receipt is what Docker listed at the end of the custom tests, no more and no less.
    let listed = std::fs::read_to_string(swarm.host.path("tmp/listed")).unwrap();
    let begins = format!("{stack}_");
    let listed: BTreeSet<String> =
        listed.lines().filter(|line| line.split_once(' ').unwrap().1.starts_with(&begins)).map(str::to_owned).collect();
    assert_eq!(removed(&results), listed);
    let kinds: BTreeSet<&str> = listed.iter().map(|line| line.split_once(' ').unwrap().0).collect();
    assert_eq!(kinds.len(), 6, "one of each kind at least: {listed:?}");
    assert!(listed.iter().filter(|line| line.starts_with("service ")).count() == 2, "{listed:?}");
    assert_env_file_went_last(&results);

    swarm.judge_clean(&ended);
    witness.is_intact();
}

fn assert_env_file_went_last(results: &Value) {
    let removed = results["receipt"]["removed"].as_array().unwrap();
    assert_eq!(removed.last().unwrap()["kind"], "env_file", "{removed:#?}");
    let order = ["service", "container", "network", "volume", "secret", "config", "env_file"];
    let place = |object: &Value| order.iter().position(|kind| object["kind"] == *kind).unwrap();
    assert!(removed.iter().map(place).is_sorted(), "{removed:#?}");
    let times: Vec<_> = removed.iter().map(|object| object["removed_at"].as_str().unwrap().to_owned()).collect();
    assert!(times.is_sorted(), "{times:?}");
}

/// Things that are not the run's and are called almost as if they were.
struct Witness {
    neighbour: String,
    before: BTreeSet<String>,
    names: Vec<String>,
}

/// What is made by hand of everything that has a name.
const BARE: [&str; 4] = ["volume", "network", "secret", "config"];

impl Witness {
    /// A stack whose name begins with this one's, and things without a label beside both.
    fn around(swarm: &SwarmHost, stack: &str) -> Self {
        let docker = daemon();
        let neighbour = format!("{stack}y");
        let file = swarm.host.path("witness.yml");
        let text = compose("run", "").replace("${STACK_NAME}", &neighbour).replace("${SECRET_TOKEN_VERSION}", "v1");
        std::fs::write(&file, text.replace("${CONF_VERSION}", "v1")).unwrap();
        std::fs::write(swarm.host.path("conf.txt"), "witness\n").unwrap();
        let path = file.display().to_string();
        docker.cli(&["secret", "create", &format!("{neighbour}_token_v1"), &path]);
        docker.cli(&["stack", "deploy", "--resolve-image", "never", "--compose-file", &path, &neighbour]);
        let names = vec![format!("{stack}y_bare"), format!("{stack}-bare"), format!("x{stack}_bare")];
        for name in &names {
            for kind in ["volume", "network"] {
                docker.cli(&[kind, "create", name]);
            }
            for kind in ["secret", "config"] {
                docker.cli(&[kind, "create", name, &path]);
            }
            docker.cli(&["run", "--detach", "--name", name, "--volume", &format!("{name}:/data"), "ccci-test:1"]);
        }
        let label = format!("label=com.docker.stack.namespace={neighbour}");
        ccci_tests::host::until("the witness is up", || {
            (docker.cli(&["ps", "--quiet", "--filter", &label]).lines().count() == 2).then_some(())
        });
        let witness = Self { before: BTreeSet::new(), neighbour, names };
        Self { before: witness.now(), ..witness }
    }

    fn now(&self) -> BTreeSet<String> {
        let mut all = daemon().of_stack(&self.neighbour);
        let everything = daemon().everything();
        all.extend(self.names.iter().flat_map(|name| {
            let is = format!(" {name}");
            everything.iter().filter(move |line| line.ends_with(&is)).cloned()
        }));
        all
    }

    /// Fails unless all is there as before, the same containers even; then removes it.
    fn is_intact(&self) {
        assert_eq!(self.now(), self.before);
        let docker = daemon();
        for name in &self.names {
            docker.cli(&["rm", "--force", name]);
            for kind in BARE {
                docker.cli(&[kind, "rm", name]);
            }
        }
        docker.cli(&["stack", "rm", &self.neighbour]);
        docker.cli(&["secret", "rm", &format!("{}_token_v1", self.neighbour)]);
    }
}
