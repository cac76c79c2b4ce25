//! The pipeline: each rung goes red for its own reason, nothing hollow passes, and the result says it all.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;

use ccci_tests::folder::Folder;
use ccci_tests::host::Host;
use ccci_tests::moment::Moment;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// The outcome of a rung.
fn rung<'a>(results: &'a Value, name: &str) -> &'a str {
    results["rungs"][name]["outcome"].as_str().unwrap()
}

/// A tier of the result.
fn stage<'a>(results: &'a Value, tier: &str) -> &'a Value {
    results["stages"].as_array().unwrap().iter().find(|stage| stage["tier"] == tier).unwrap()
}

/// Runs the example with a folder that is broken in one place: red, that rung fails with that reason, and
/// nothing is left.
fn red(host: &Host, folder: Folder, failed: &str, reason: &str) -> Value {
    drop(folder);
    let results = host.run().end().expect_clean(1).results();
    assert_eq!(results["verdict"], "red");
    assert_eq!(rung(&results, failed), "fail", "{results:#}");
    let said = results["reason"].as_str().unwrap();
    assert!(said.contains(reason), "the reason is `{said}`");
    assert_eq!(results["flags"]["clean_teardown"], true);
    results
}

const BROKEN: &str = "echo it is broken; exit 3";

#[test]
fn the_example_recipe_climbs_to_level_4_and_the_result_tells_all() {
    let host = Host::new();
    let tests = ccci_tests::binaries::workspace().join("tests/recipes").display().to_string();
    let run = host.run().env("CCCI_TESTS_DIR", &tests).end().expect_clean(0);
    let results = run.results();
    assert_eq!((&results["verdict"], &results["exit_code"]), (&json!("green"), &json!(0)));
    assert_eq!((&results["schema"], &results["level"]), (&json!(2), &json!(4)));
    for name in ["install", "upgrade", "backup_restore", "functional"] {
        assert_eq!(rung(&results, name), "pass");
    }
    assert_eq!(rung(&results, "lint"), "unver");
    assert_eq!((&results["run_id"], &results["recipe"]), (&json!("r1"), &json!("hello")));
    assert_eq!((&results["pr"], &results["engine"]), (&json!(host.pr().to_string()), &json!("local")));
    assert_eq!(results["domain"], host.domain().as_str());
    assert_eq!((&results["version"], &results["upgraded_from"]), (&json!("0.1.0+1.1.0"), &json!("0.0.0+1.0.0")));
    assert_eq!(results["deploy_count"], json!({"counted": 1, "expected": 1}));
    assert_eq!(results["flags"], json!({"clean_teardown": true, "no_secret_leak": true}));
    assert_eq!(
        (&results["cause"], &results["reason"], &results["preclean"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    let phases = results["phases"].as_array().unwrap().iter().map(|phase| phase["name"].as_str().unwrap());
    // Those two are there where abra and a browser are.
    let phases: Vec<&str> = phases.filter(|phase| !["lint", "screenshot"].contains(phase)).collect();
    let order = ["wait", "preclean", "fetch", "install", "upgrade", "backup", "restore", "custom", "teardown"];
    assert_eq!(phases, order);
    assert!(results["phases"].as_array().unwrap().iter().all(|phase| phase["milliseconds"].is_u64()));
    // Every object that was planned is on the receipt, with its time, in the order of removal.
    let removed = results["receipt"]["removed"].as_array().unwrap();
    let kinds: Vec<&str> = removed.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["service", "volume", "secret", "config", "app_dir", "env_file"]);
    assert!(removed.iter().all(|object| object["removed_at"].is_string()));
    assert_eq!(results["receipt"]["residue"], json!([]));
    for file in ["junit.xml", "badge.svg", "summary.html", "run.log", "events.jsonl"] {
        assert!(run.run_dir.as_ref().unwrap().join(file).metadata().unwrap().len() > 0, "{file}");
    }
    assert!(run.out().contains("===== RUN SUMMARY =====\nGREEN (exit 0)"), "{}", run.out());
    assert!(run.out().contains("level=4"));
}

#[test]
fn a_failing_test_of_each_tier_makes_its_rung_red_and_is_named() {
    for (tier, rung, file) in [
        ("install", "install", "test_install.sh"),
        ("upgrade", "upgrade", "test_upgrade.sh"),
        ("backup", "backup_restore", "test_backup.sh"),
        ("restore", "backup_restore", "test_restore.sh"),
        ("custom", "functional", "custom/check"),
    ] {
        let host = Host::new();
        let folder = host.folder("hello").script(file, BROKEN);
        let results = red(&host, folder, rung, &format!("{tier}: {file}: exit code 3: it is broken"));
        let test = &stage(&results, tier)["tests"]
            .as_array()
            .unwrap()
            .iter()
            .find(|test| test["name"] == file)
            .unwrap()
            .clone();
        assert_eq!(test["outcome"], "fail");
    }
}

#[test]
fn a_failing_hook_makes_its_tier_red_and_is_named() {
    for (hook, rung) in [
        ("pre_install", "install"),
        ("install_steps", "install"),
        ("pre_upgrade", "upgrade"),
        ("pre_backup", "backup_restore"),
        ("pre_restore", "backup_restore"),
    ] {
        let host = Host::new();
        let folder = host.folder("hello").script(&format!("hooks/{hook}"), BROKEN);
        let _results = red(&host, folder, rung, &format!("hook {hook}:"));
    }
}

#[test]
fn a_failed_install_leaves_the_other_rungs_unverified() {
    let host = Host::new();
    let folder = host.folder("hello").script("test_install.sh", BROKEN);
    let results = red(&host, folder, "install", "it is broken");
    assert_eq!(results["level"], 0);
    for name in ["upgrade", "backup_restore", "functional"] {
        assert_eq!(rung(&results, name), "unver");
    }
}

#[test]
fn an_app_that_answers_wrongly_is_red() {
    let host = Host::new();
    let folder = host.folder("hello").also("[health]\npath = \"/nowhere\"\n");
    let text =
        fs::read_to_string(folder.path().join("recipe.toml")).unwrap().replace("http = \"30s\"", "http = \"300ms\"");
    let results =
        red(&host, folder.toml(&text), "install", "generic/healthy: not there within 300ms: GET /nowhere answered 404");
    assert_eq!(results["level"], 0);
}

#[test]
fn a_readiness_probe_that_fails_is_red() {
    for (probe, said) in [("http = \"/nowhere\"", "GET /nowhere answered 404"), ("tcp = 9", "connect to port 9")] {
        let host = Host::new();
        let folder = host.folder("hello").also(&format!("[[readiness]]\n{probe}\n"));
        let text = fs::read_to_string(folder.path().join("recipe.toml")).unwrap();
        let text = text.replace("http = \"30s\"", "http = \"300ms\"");
        let _results = red(&host, folder.toml(&text), "install", said);
    }
}

#[test]
fn an_app_that_nobody_can_ask_has_not_passed() {
    let host = Host::new();
    let folder = host.folder("hello");
    let silent = fs::read_to_string(folder.path().join("recipe.toml")).unwrap().replace("port = 8080\n", "");
    // It takes any port, and nobody is told which.
    let silent = format!("{silent}env = {{ LISTEN = \"127.0.0.1:0\" }}\n");
    drop(folder.toml(&silent));
    let ended = host.run().args(["--stages", "install"]).end().expect(2);
    let log = ended.log();
    assert!(log.contains("nobody can ask the app") && log.contains("[health] none"), "{log}");
    // The folder may say that this is how it should be.
    drop(host.folder("hello").toml(&format!("[health]\nnone = \"it only writes files\"\n{silent}")));
    let ended = host.run().args(["--stages", "install"]).end().expect(0);
    assert!(ended.log().contains("skip  generic/healthy"), "{}", ended.log());
}

#[test]
fn a_crash_looping_service_fails_fast_with_its_own_error() {
    let host = Host::new();
    let folder = host.folder("hello").service("worker", "echo the database is on fire >&2\nexit 5\n");
    let text =
        fs::read_to_string(folder.path().join("recipe.toml")).unwrap().replace("deploy = \"30s\"", "deploy = \"10s\"");
    let results = red(&host, folder.toml(&text), "install", "service worker failed 3 times: exit code 5");
    assert!(results["reason"].as_str().unwrap().contains("the database is on fire"), "{results:#}");
}

#[test]
fn a_service_that_dies_a_moment_later_is_red_though_nobody_asks_it() {
    let host = Host::new();
    // Seen running by all who look while the tier lasts.
    let script = "[ -e once ] || { touch once; sleep 3; }\nexit 5\n";
    let folder = host.folder("hello").service("worker", script);
    let text = fs::read_to_string(folder.path().join("recipe.toml")).unwrap();
    let folder = folder.toml(&text.replace("monitor = \"0s\"", "monitor = \"1m\""));
    let _results = red(&host, folder, "install", "generic/still-up: service worker failed 3 times: exit code 5");
}

#[test]
fn a_service_that_cannot_be_started_fails_fast_too() {
    let host = Host::new();
    let folder = host.folder("hello").also("[local.services.worker]\ncommand = [\"no-such-program\"]\n");
    let _results = red(&host, folder, "install", "service worker failed 3 times: cannot start `no-such-program`");
}

#[test]
fn a_backup_that_does_not_verify_is_made_again_three_times() {
    let host = Host::new();
    let tries = host.path("tries");
    let count = format!("echo x >>'{}'", tries.display());
    let folder = host.folder("hello").script("hooks/backup_verify", &format!("{count}\necho truncated; exit 1"));
    let results = red(&host, folder, "backup_restore", "hook backup_verify:");
    assert_eq!(fs::read_to_string(&tries).unwrap().lines().count(), 3);
    assert_eq!(stage(&results, "restore")["outcome"], "unver", "there is no good backup to restore");

    fs::remove_file(&tries).unwrap();
    let third = format!("{count}\ntest $(wc -l <'{}') -eq 3", tries.display());
    let _folder = host.folder("hello").script("hooks/backup_verify", &third);
    let run = host.run().end().expect_clean(0);
    assert!(run.log().contains("the backup did not verify, trying again (2 of 3)"), "{}", run.log());
}

#[test]
fn a_deploy_more_than_was_meant_is_red() {
    let host = Host::new();
    let _folder = host.folder("hello").script("test_install.sh", "echo again >>\"$CCCI_DEPLOY_COUNT_FILE\"");
    let run = host.run().end().expect_clean(1);
    assert!(run.log().contains("deploy-count = 2 (expect 1)"), "{}", run.log());
    assert_eq!(run.results()["reason"], "deploy-count = 2 (expect 1)");
}

#[test]
fn a_test_that_exits_with_78_is_red() {
    // [78]: Drone takes it for a success and skips what follows.
    let host = Host::new();
    let _results = red(&host, host.folder("hello").script("custom/skip.sh", "exit 78"), "functional", "exit code 78");
}

#[test]
fn an_upgrade_that_moves_nothing_is_red() {
    let host = Host::new();
    let run = host.run().env("VERSION", "0.1.0+1.1.0").end().expect_clean(1);
    let results = run.results();
    assert_eq!(rung(&results, "upgrade"), "fail");
    assert!(results["reason"].as_str().unwrap().contains("the upgrade moved nothing"), "{results:#}");
}

#[test]
fn a_recipe_without_an_older_release_skips_the_upgrade_with_a_reason() {
    let host = Host::new();
    let results = host.run().env("REF", "0.0.0+1.0.0").end().expect_clean(0).results();
    assert_eq!(rung(&results, "upgrade"), "skip");
    let reason = "the recipe has no release before this ref, which its main branch has already";
    assert_eq!(results["rungs"]["upgrade"]["reason"], reason);
    assert_eq!(results["level"], 3);
}

#[test]
fn tests_that_were_all_skipped_are_no_pass() {
    // [20]: pytest exits 0 when every test was skipped.
    let host = Host::new();
    let skipped = |results: &Value, said: &str| {
        assert_eq!(rung(results, "functional"), "unver", "{results:#}");
        assert_eq!(results["verdict"], "incomplete", "asked for, and no answer: {results:#}");
        assert!(results["reason"].as_str().unwrap().contains(said), "{results:#}");
        assert!(results["rungs"]["functional"].to_string().contains(said), "{results:#}");
        assert_eq!(results["level"], 3);
    };
    let _folder = host.folder("hello").script("custom/check", "echo not on this host; exit 77");
    skipped(&host.run().end().expect_clean(69).results(), "the test skipped itself: not on this host");

    // A pytest of the size of a postcard: it writes the report that pytest writes.
    let xml = "<testsuites><testsuite name=\"pytest\" tests=\"1\" skipped=\"1\" failures=\"0\" errors=\"0\">\
               <testcase classname=\"t\" name=\"test_x\"><skipped type=\"pytest.skip\" message=\"no\">x</skipped></testcase>\
               </testsuite></testsuites>";
    let script = format!("for arg; do case $arg in --junitxml=*) echo '{xml}' >\"${{arg#--junitxml=}}\" ;; esac; done");
    host.program("python3", &script);
    let _folder = host.folder("hello").file("custom/test_x.py", "");
    skipped(&host.run().end().expect_clean(69).results(), "every test was skipped (1)");
}

#[test]
fn a_pytest_file_without_pytest_is_the_hosts_fault_and_said_before_anything_is_deployed() {
    let host = Host::new();
    host.program("python3", "echo 'No module named pytest' >&2; exit 1");
    let _folder = host.folder("hello").file("test_install.py", "");
    let run = host.run().end().expect_clean(69);
    assert!(run.log().contains("the test folder has pytest tests, and pytest is not to be had"), "{}", run.log());
    assert!(!run.log().contains("deploying"), "{}", run.log());
}

#[test]
fn a_rung_declared_not_applicable_is_skipped_with_its_reason() {
    let host = Host::new();
    let _folder =
        host.folder("hello").also("[not_applicable]\nbackup_restore = \"no data\"\n[backup]\ncapable = true\n");
    let results = host.run().end().expect_clean(0).results();
    assert_eq!(results["rungs"]["backup_restore"], json!({"outcome": "skip", "reason": "no data"}));
}

#[test]
fn a_recipe_whose_upgrade_does_not_apply_is_tested_at_its_own_ref() {
    let host = Host::new();
    let example = std::fs::read_to_string(ccci_tests::binaries::workspace().join("tests/recipes/hello/recipe.toml"));
    let _folder =
        host.folder("hello").toml(&format!("{}\n[not_applicable]\nupgrade = \"begin anew\"\n", example.unwrap()));
    let run = host.run().end().expect_clean(0);
    let results = run.results();
    assert_eq!(results["rungs"]["upgrade"], json!({"outcome": "skip", "reason": "begin anew"}));
    let deployed = format!("deploying {}", results["version"].as_str().unwrap());
    assert!(run.log().contains(&deployed) && run.log().matches("deploying").count() == 1, "{}", run.log());
}

#[test]
fn only_the_stages_that_were_asked_for_run() {
    let host = Host::new();
    let _folder = host.folder("hello").script("test_upgrade.sh", BROKEN).script("custom/check", "exit 0");
    let results = host.run().args(["--stages", "install,custom"]).end().expect_clean(0).results();
    assert_eq!((rung(&results, "install"), rung(&results, "functional")), ("pass", "pass"));
    assert_eq!((rung(&results, "upgrade"), rung(&results, "backup_restore")), ("unver", "unver"));
    assert_eq!(results["level"], 1, "what was not looked at carries nothing");
    let typo = host.run().args(["--stages", "instal"]).end().expect_clean(2);
    assert!(typo.err().contains("invalid value 'instal'"), "{}", typo.err());
}

#[test]
fn a_stage_runs_with_those_that_it_needs() {
    let host = Host::new();
    let _folder = host.folder("hello").script("custom/check", BROKEN);
    let results = host.run().args(["--stages", "restore"]).end().expect_clean(0).results();
    assert_eq!(results["asked"], json!(["install", "backup", "restore"]));
    for tier in ["install", "backup", "restore"] {
        assert_eq!(stage(&results, tier)["outcome"], "pass", "{tier}");
    }
    let _folder = host.folder("hello").script("test_restore.sh", BROKEN);
    let results = host.run().args(["--stages", "restore"]).end().expect_clean(1).results();
    assert_eq!(stage(&results, "restore")["outcome"], "fail");
}

/// Takes the lines with a word out of the run's events, so that nothing of them is left.
fn lose(word: &str) -> String {
    format!("events=$(dirname \"$CCCI_DEPLOY_COUNT_FILE\")/events.jsonl; sed -i '/{word}/d' \"$events\"")
}

#[test]
fn a_result_that_was_lost_is_never_green_and_is_named() {
    for (word, what) in [
        ("\"stage\",\"tier\":\"upgrade\"", "what became of the tier upgrade"),
        ("\"upgrade\",\"name\":\"generic.commit\"", "tests of the tier upgrade"),
        ("\"step\",\"name\":\"health\"", "of the worker's"),
    ] {
        let host = Host::new();
        let _folder = host.folder("hello").script("custom/check", &lose(word));
        let ended = host.run().end().expect_clean(69);
        let results = ended.results();
        assert_eq!((&results["verdict"], &results["exit_code"]), (&json!("incomplete"), &json!(69)));
        assert!(results["missing"].to_string().contains(what), "{}", results["missing"]);
        assert!(ended.out().contains("INCOMPLETE (exit 69)"), "{}", ended.out());
        assert!(ended.out().contains("not known: "), "{}", ended.out());
        ccci_tests::schema::expect_valid(&ccci_tests::schema::schema("results.schema.json"), &results);
    }
}

#[test]
fn events_that_cannot_be_read_are_incomplete_and_the_result_is_written() {
    let host = Host::new();
    let events = "events=$(dirname \"$CCCI_DEPLOY_COUNT_FILE\")/events.jsonl";
    let _folder = host.folder("hello").script("custom/check", &format!("{events}; rm \"$events\"; mkfifo \"$events\""));
    let results = host.run().end().expect_clean(69).results();
    assert_eq!(results["verdict"], "incomplete", "{results:#}");
    assert!(results["missing"].to_string().contains("events.jsonl"), "{}", results["missing"]);
}

#[test]
fn what_a_test_leaves_in_the_events_costs_nothing_and_proves_nothing() {
    let half = "printf '{\"text\":\"\\303' >>\"$events\"";
    let pass = "echo '{\"at\":\"2026-01-01T00:00:00Z\",\"event\":\"stage\",\"tier\":\"custom\",\"outcome\":\"pass\",\
                \"milliseconds\":1,\"tests\":0}' >>\"$events\"";
    let script = |what: &str| format!("events=$(dirname \"$CCCI_DEPLOY_COUNT_FILE\")/events.jsonl; {what}");
    let host = Host::new();
    let _folder = host.folder("hello").script("test_upgrade.sh", &script(half)).script("custom/check", &script(half));
    host.run().end().expect_clean(0);
    let _folder = host.folder("hello").script("custom/check", &script(&format!("{pass}; exit 1")));
    host.run().end().expect_clean(1);
}

#[test]
fn a_kept_app_is_up_under_its_lock_until_the_time_is_over_or_somebody_ends_it() {
    let host = Host::new();
    let held = Moment::Keep.prepare(&host);
    let step = held.start(&host);
    assert_eq!(host.service("app").len(), 1);
    assert_eq!(host.kernel_on(&host.app_lock()).len(), 1);
    assert!(step.log().contains(&format!("end it with: kill {}", step.keeper())), "{}", step.log());
    step.signal_keeper(Signal::SIGTERM);
    let ended = step.end().expect_clean(0);
    assert_eq!(ended.results()["verdict"], "green", "its tests have spoken");
    let run = host.run().args(["--keep", "100ms"]).end().expect_clean(0);
    assert!(run.log().contains("stays up for 100ms"), "{}", run.log());
}

#[test]
fn a_test_that_hangs_is_ended_at_its_timeout_with_all_it_started() {
    let host = Host::new();
    host.settings("grace = \"100ms\"\n");
    let folder = host.folder("hello").script("test_install.sh", "trap '' TERM\nsleep 1000 & sleep 1000");
    let text = fs::read_to_string(folder.path().join("recipe.toml")).unwrap().replace("\"5m\"", "\"300ms\"");
    let _results = red(&host, folder.toml(&text), "install", "test_install.sh: timed out after 300ms");
}

#[test]
fn the_test_folder_is_the_runs_own_copy() {
    let host = Host::new();
    let held = Moment::Install.prepare(&host);
    let step = held.start(&host);
    // What a pull request changes now is not what is being tested.
    let _changed = host.folder("hello").script("test_upgrade.sh", BROKEN);
    held.open();
    let results = step.end().expect_clean(0).results();
    assert_eq!(rung(&results, "upgrade"), "pass");
}

#[test]
fn the_runs_secrets_are_nowhere_in_its_directory_or_output() {
    let host = Host::new();
    let _folder = host
        .folder("hello")
        .script(
            "test_install.sh",
            &format!(
                "cat '{0}'/secrets/*; cp '{0}'/secrets/admin_token '{1}'",
                host.app_dir().display(),
                host.path("secret").display()
            ),
        )
        .script("custom/check", &format!("echo \"token=$(cat '{}'/secrets/*)\"", host.app_dir().display()));
    let run = host.run().end().expect_clean(0);
    let secret = fs::read_to_string(host.path("secret")).unwrap();
    assert_eq!(secret.len(), 32, "the test saw it");
    assert_eq!(run.files_with(&secret), [] as [String; 0]);
    assert!(!run.out().contains(&secret) && !run.err().contains(&secret));
    assert!(run.log().contains("| ***"), "{}", run.log());
    assert_eq!(run.results()["flags"]["no_secret_leak"], true);
}

#[test]
fn a_secret_that_a_test_writes_into_the_runs_directory_makes_it_red() {
    let host = Host::new();
    let steal = format!("cat '{}'/secrets/* >>\"$CCCI_OP_STATE_FILE\"", host.app_dir().display());
    let _folder = host.folder("hello").script("test_install.sh", &steal);
    let results = host.run().end().expect_clean(1).results();
    assert_eq!(results["reason"], "a secret of the app stands in opstate");
    assert_eq!(results["flags"]["no_secret_leak"], false);
}

#[test]
fn json_output_is_the_result_alone() {
    let host = Host::new();
    let run = host.run().args(["--json"]).end().expect_clean(0);
    assert_eq!(run.json(), run.results());
    assert!(run.err().contains("RUN SUMMARY"), "talk goes to stderr");
}

#[test]
fn what_cannot_be_taken_down_is_named_and_red() {
    let host = Host::new();
    host.settings("teardown_budget = \"1s\"\n");
    // A mount point cannot be removed while something is mounted there.
    let busy = host.app_dir().join("volumes/data/busy");
    let gate = host.gate("up");
    let _folder = host.folder("hello").script("test_install.sh", &gate.pass());
    let script = format!("mkdir -p '{0}'\nmount -t tmpfs -o size=4k none '{0}'\n", busy.display());
    let step = host
        .run()
        .args(["--stages", "install"])
        .under(&["unshare", "--mount"])
        .script(&format!("@@ || code=$?\numount '{}' || :\nexit $code", busy.display()))
        .start();
    gate.reached();
    let shell = step.shell().to_string();
    let mounted = ccci_core::process::Job::new("nsenter")
        .args(["--mount", "--target", &shell, "sh", "-c", &script])
        .run_ok(&mut |_| {});
    mounted.unwrap();
    gate.open();
    let run = step.end().expect(1);
    let results = run.results();
    assert!(results["reason"].as_str().unwrap().starts_with("left behind: volume data"), "{results:#}");
    assert_eq!(results["flags"]["clean_teardown"], false);
    assert!(run.log().contains("!! left over: volume data: cannot remove volume data"), "{}", run.log());
    let _reaped = host.command(&["cc-ci-run", "reap", host.domain().as_str()]).end().expect_clean(0);
}
