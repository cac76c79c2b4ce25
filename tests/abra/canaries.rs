//! Seven canaries that watch the harness itself: recipes of which it is known what must become of them. A
//! harness that grows too kind lets a bad one live, one that grows too strict kills a good one.

use ccci_core::process::Job;
use ccci_tests::abra::AbraHost;
use ccci_tests::binaries;

/// A recipe that is the example's, but for its newest commit and its test folder.
struct Canary {
    /// In the newest `compose.yml`: this…
    from: &'static str,
    /// …is replaced by this.
    to: &'static str,
    /// A test or hook that is added.
    script: Option<(&'static str, &'static str)>,
    stages: &'static str,
    /// What must come of it.
    code: i32,
    level: u64,
    /// The test that says so, by tier and name, and what it says.
    tier: &'static str,
    test: &'static str,
    outcome: &'static str,
    words: &'static str,
}

const ALL: &str = "install,upgrade,backup,restore,custom";

fn sing(canary: &Canary) {
    let abra = AbraHost::new();
    let folder = abra.swarm.host.folder("hello");
    let example = binaries::workspace().join("tests/recipes/hello");
    let copy = Job::new("cp").args(["-R".as_ref(), example.join(".").as_os_str(), folder.path().as_os_str()]);
    copy.run_ok(&mut |_| {}).unwrap();
    let folder = match canary.script {
        Some((name, script)) => folder.script(name, script),
        None => folder,
    };
    if canary.test == "generic/healthy" {
        // It is waited for in vain.
        let toml = std::fs::read_to_string(folder.path().join("recipe.toml")).unwrap();
        let _impatient = folder.toml(&toml.replace("http = \"30s\"", "http = \"3s\""));
    }
    let repository = abra.swarm.host.recipe("hello");
    let compose = std::fs::read_to_string(repository.join("compose.yml")).unwrap();
    assert!(compose.contains(canary.from), "`{}` is not in the example", canary.from);
    std::fs::write(repository.join("compose.yml"), compose.replace(canary.from, canary.to)).unwrap();
    let commit = "git -c user.name=t -c user.email=t@example.com commit --quiet --all --allow-empty --message change";
    Job::new("sh").args(["-c", commit]).dir(&repository).run_ok(&mut |_| {}).unwrap();

    let step = abra.run_of("hello").args(["--stages", canary.stages]).start();
    let ended = abra.swarm.clean_end(step, canary.code);
    let results = ended.results();
    assert_eq!(results["level"], canary.level, "{:#}", results["rungs"]);
    let stages = results["stages"].as_array().unwrap();
    let stage = stages.iter().find(|stage| stage["tier"] == canary.tier).unwrap();
    assert_eq!(stage["outcome"], canary.outcome, "{stage:#}");
    let tests = stage["tests"].as_array().unwrap();
    let test = tests.iter().find(|test| test["name"] == canary.test);
    let said = match test {
        Some(test) => {
            assert_eq!(test["outcome"], canary.outcome, "{test:#}");
            test["reason"].as_str().unwrap_or_default()
        }
        // A hook is no test: the tier names it.
        None => stage["reason"].as_str().unwrap_or_default(),
    };
    assert!(test.is_some() || said.starts_with(canary.test), "{} is not named: {stage:#}", canary.test);
    assert!(said.contains(canary.words), "`{}` is missing in: {said}", canary.words);
    if canary.code != 0 {
        let reason = results["reason"].as_str().unwrap();
        assert!(reason.starts_with(&format!("{}: {}", canary.tier, canary.test)), "{reason}");
    }
}

pub(crate) fn a_good_recipe_with_tests_is_green_to_the_top() {
    sing(&Canary {
        from: "",
        to: "",
        script: None,
        stages: ALL,
        code: 0,
        level: 5,
        tier: "custom",
        test: "custom/admin_token_guards_the_book.sh",
        outcome: "pass",
        words: "",
    });
}

pub(crate) fn a_good_recipe_that_grows_a_service_is_green() {
    sing(&Canary {
        from: "\nvolumes:\n",
        to: "  db:\n    image: ccci-test:1\n    networks: [internal]\n\nvolumes:\n",
        script: None,
        stages: "install,upgrade",
        code: 0,
        level: 2,
        tier: "upgrade",
        test: "test_upgrade.sh",
        outcome: "pass",
        words: "",
    });
}

/// Swarm had taken the update back, so the old version ran with every task that was asked for: green.
pub(crate) fn a_recipe_whose_upgrade_is_rolled_back_is_not_green_again() {
    sing(&Canary {
        from: "GREETING_FILE=/greeting.txt",
        to: "GREETING_FILE=/nowhere.txt",
        script: None,
        stages: "install,upgrade",
        code: 1,
        level: 1,
        tier: "upgrade",
        test: "generic/converged",
        outcome: "fail",
        words: "did not go through",
    });
}

pub(crate) fn a_recipe_that_answers_nobody_is_red_in_install() {
    sing(&Canary {
        from: "LISTEN=0.0.0.0:8080",
        to: "LISTEN=127.0.0.1:8080",
        script: None,
        stages: "install",
        code: 1,
        level: 0,
        tier: "install",
        test: "generic/healthy",
        outcome: "fail",
        words: "not there within",
    });
}

pub(crate) fn a_recipe_whose_upgrade_loses_the_data_is_red_in_upgrade() {
    sing(&Canary {
        from: "VOLUME_DATA=/data",
        to: "VOLUME_DATA=/dev/shm",
        script: None,
        stages: "install,upgrade",
        code: 1,
        level: 1,
        tier: "upgrade",
        test: "test_upgrade.sh",
        outcome: "fail",
        words: "data: got",
    });
}

pub(crate) fn a_recipe_whose_backup_is_cut_off_is_red_in_backup() {
    sing(&Canary {
        from: "",
        to: "",
        script: Some(("hooks/backup_verify", "echo 'the dump is cut off'\nexit 1")),
        stages: "install,backup,restore",
        code: 1,
        level: 1,
        tier: "backup",
        test: "hook backup_verify",
        outcome: "fail",
        words: "the dump is cut off",
    });
}

pub(crate) fn a_recipe_that_serves_every_name_is_red_in_custom() {
    sing(&Canary {
        from: "      - DOMAIN\n",
        to: "",
        script: None,
        stages: "install,custom",
        code: 1,
        level: 1,
        tier: "custom",
        test: "custom/admin_token_guards_the_book.sh",
        outcome: "fail",
        words: "another host: got",
    });
}
