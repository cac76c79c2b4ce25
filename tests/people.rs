//! What people get to see: the log, the terminal, `status`, the site of a host, and the shapes of the JSON.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};

use ccci_core::process::Job;
use ccci_tests::binaries;
use ccci_tests::host::{self, Host, until};
use ccci_tests::moment::{self, Moment};
use ccci_tests::schema::{expect_valid, schema};
use ccci_tests::step::Ended;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const BROKEN: &str = "echo it is broken; exit 3";

/// What a page must not take for its own.
const HOSTILE: &str = "custom/<img src=x onerror=alert(1)> & \"'.sh";

/// What bash offers for a command line whose last word is being written, with the completions that `program` writes.
fn offered(program: &str, words: &[&str]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let generated = Job::new(binaries::program(program)).args(["generate", "completions"]).args([dir.path()]);
    generated.run_ok(&mut |_| {}).unwrap();
    let script = r#"source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        function=$(complete -p "$1"); function=${function##*-F }; "${function%% *}" "$1" "${@: -1}" "${@: -2:1}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    let asked = Job::new("bash")
        .args(["--norc", "-c", script, "bash"])
        .args([dir.path().join(format!("{program}.bash"))])
        .args([&[program], words].concat())
        .capture()
        .run_ok(&mut |_| {})
        .unwrap();
    String::from_utf8(asked.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_shell_completes_commands_their_options_and_the_values_of_those() {
    assert_eq!(offered("cc-ci-run", &["st"]), ["status"]);
    assert_eq!(offered("cc-ci-run", &["status", "--w"]), ["--watch"]);
    assert_eq!(offered("cc-ci-run", &["run", "--on-conflict", ""]), ["wait", "fail", "supersede"]);
    assert_eq!(offered("cc-ci-run", &["selftest", "runner", "--lim"]), ["--limit"]);
    assert_eq!(offered("cc-ci-janitor", &["sweep", "--dry"]), ["--dry-run"]);
    assert_eq!(offered("cc-ci-run", &["work"]), [""], "nobody is to start a part of a run");
}

#[test]
fn every_result_is_as_the_schema_says_and_a_wrong_one_is_not() {
    let host = Host::new();
    let schema = schema("results.schema.json");
    let green = host.run().end().expect_clean(0).results();
    expect_valid(&schema, &green);

    let _folder = host.folder("hello").script("custom/check", BROKEN);
    let red = host.run().end().expect_clean(1).results();
    expect_valid(&schema, &red);
    assert_eq!(red["previous"], json!({"run_id": green["run_id"], "level": 3}));

    let held = Moment::InstallSteps.prepare(&host);
    let step = held.start(&host);
    let busy = host.run().args(["--on-conflict", "fail"]).end().expect(75).results();
    expect_valid(&schema, &busy);
    step.signal_keeper(Signal::SIGTERM);
    let cancelled = step.end().expect_clean(143).results();
    expect_valid(&schema, &cancelled);
    assert_eq!(cancelled["cause"]["cause"], "operator");
    let reason = cancelled["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("SIGTERM from pid ") && reason.ends_with(", in install: hook install_steps"),
        "{reason}"
    );

    moment::leave_orphan(&host);
    let _folder = host.folder("hello");
    let after = host.run().env("REF", "no-such-branch").end();
    let usage = after.expect(2).results();
    expect_valid(&schema, &usage);
    let cleaned = host.run().end().expect_clean(0).results();
    expect_valid(&schema, &cleaned);

    for (pointer, wrong) in [
        ("/verdict", json!("greenish")),
        ("/schema", json!(3)),
        ("/level", json!(6)),
        ("/exit_code", json!(78)),
        ("/started", json!("yesterday")),
        ("/rungs/install", json!({"outcome": "fail"})),
        ("/rungs/install", json!({"outcome": "pass", "surprise": 1})),
        ("/stages/0/tests/0/milliseconds", json!(-1)),
        ("/phases/3/steps/0", json!("deploy")),
        ("/receipt/removed/0/kind", json!("image")),
        ("/flags", json!({"clean_teardown": true})),
    ] {
        let mut broken = green.clone();
        *broken.pointer_mut(pointer).unwrap() = wrong;
        assert!(!schema.is_valid(&broken), "{pointer}");
    }
    for key in green.as_object().unwrap().keys() {
        let mut broken = green.clone();
        broken.as_object_mut().unwrap().remove(key);
        assert!(!schema.is_valid(&broken), "without {key}");
    }
    let mut broken = green;
    broken["surprise"] = json!(1);
    assert!(!schema.is_valid(&broken));
}

#[test]
fn the_status_is_as_its_schema_says_whoever_holds_waits_or_is_gone() {
    let host = Host::new();
    host.settings("max_tests = 3\n");
    let schema = schema("status.schema.json");
    let status = || host.command(&["cc-ci-run", "status", "--json"]).end().expect(0).json();
    expect_valid(&schema, &status());
    let held = Moment::InstallSteps.prepare(&host);
    let build = "https://drone.example.org/coop/cc-ci/341";
    let first = held.launch(&host).env("DRONE_BUILD_LINK", build).start();
    held.reached(&first);
    let second = host.run().start();
    second.waits_for(&host.app_lock());
    let busy = status();
    expect_valid(&schema, &busy);
    assert_eq!(busy["slots"], json!({"total": 3, "taken": 1, "runs": [first.id()]}));
    assert_eq!(busy["locks"][0]["run"]["link"], build);
    let human = host.command(&["cc-ci-run", "status"]).end().expect(0).out();
    let log = first.run_dir().join("run.log");
    assert!(human.contains(&format!("  {}\n  {build}\n", log.display())), "{human}");
    second.signal_keeper(Signal::SIGTERM);
    second.end().expect(143);
    first.signal_keeper(Signal::SIGTERM);
    first.end().expect_clean(143);

    moment::leave_orphan(&host);
    // As a janitor leaves it that has tried in vain.
    let last = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let memory = json!({"trouble": {host.domain().as_str(): {"failures": 3, "last": last}}});
    fs::write(host.path("state/janitor.json"), memory.to_string()).unwrap();
    let left = status();
    expect_valid(&schema, &left);
    assert_eq!(left["leftovers"][0]["failures"], 3);
    assert!(left["leftovers"][0]["quarantined_until"].is_string(), "{left:#}");
    let human = host.command(&["cc-ci-run", "status"]).end().expect(0).out();
    assert!(human.contains("quarantined: the janitor failed 3 times and tries again in"), "{human}");
    host.command(&["cc-ci-run", "reap", host.domain().as_str()]).end().expect_clean(0);
}

#[test]
fn a_source_that_cannot_be_read_costs_a_status_that_source_alone() {
    let host = Host::new();
    fs::create_dir_all(host.path("state")).unwrap();
    fs::write(host.path("state/local"), "").unwrap();
    let status = host.command(&["cc-ci-run", "status", "--json"]).end().expect(69).json();
    expect_valid(&schema("status.schema.json"), &status);
    assert_eq!(status["unknown"].as_array().unwrap().len(), 1, "{status:#}");
    let human = host.command(&["cc-ci-run", "status"]).end().expect(69).out();
    assert!(human.contains("what is left over cannot be told"), "{human}");
    fs::remove_file(host.path("state/local")).unwrap();
    host.command(&["cc-ci-run", "status"]).end().expect(0);
}

#[test]
fn a_watch_says_each_change_and_ends_with_a_signal() {
    let host = Host::new();
    let watch = host.command(&["cc-ci-run", "status", "--watch", "--json"]).start();
    let seen = || -> Vec<Value> {
        let text = watch.out();
        // A line that is just being written is no line yet.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    until("the watch begins", || (!seen().is_empty()).then_some(()));
    let held = Moment::Install.prepare(&host);
    let run = held.start(&host);
    until("the watch sees the run", || {
        let last = seen().pop()?;
        (last["locks"][0]["run"]["run_id"] == run.id()).then_some(())
    });
    held.open();
    run.end().expect(0);
    until("the watch sees it go", || (seen().pop()?["locks"] == json!([])).then_some(()));
    let all = seen();
    assert!(all.windows(2).all(|pair| pair[0] != pair[1]), "it said the same twice: {all:#?}");
    watch.signal_keeper(Signal::SIGINT);
    watch.end().expect_clean(0);
}

/// Runs the step's command line on a terminal.
const ON_A_TERMINAL: &str = "cat >on-a-terminal.sh <<'END'\nexport CCCI_PARENT_PID=$$\n@@\n:\nEND\n\
                             TERM=xterm script -qefc 'sh -e on-a-terminal.sh' /dev/null";

#[test]
fn a_log_has_times_and_a_terminal_a_live_line() {
    let host = Host::new();
    let held = Moment::Install.prepare(&host);
    // Long enough for an expectation to be worth saying.
    let settings = host.path("tests/hello/recipe.toml");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, text.replace("monitor = \"0s\"", "monitor = \"1s\"")).unwrap();
    let step = held.launch(&host).script(ON_A_TERMINAL).untold().start();
    held.reached(&step);
    until("the live line tells of the test", || step.out().contains("\r\x1b[K▸ install ").then_some(()));
    until("it names the test", || step.out().contains(" · test test_install.sh").then_some(()));
    held.open();
    let ended = step.end().expect_clean(0);
    assert!(ended.out().contains("\x1b[K\x1b[32m-- install: pass ("), "{}", ended.out());
    assert!(!ended.log().contains('\x1b'), "the log is for files");
    held.open();
    let plain = held.launch(&host).script(ON_A_TERMINAL).untold().env("NO_COLOR", "1").end().expect_clean(0);
    assert!(plain.out().contains("\x1b[K-- install: pass ("), "{}", plain.out());

    let step = held.start(&host);
    held.open();
    let ended = step.end().expect_clean(0);
    let (said, summary) = (ended.out(), "===== RUN SUMMARY =====");
    assert!(!said.contains('\x1b'), "{said}");
    let before = said.lines().take_while(|line| *line != summary).filter(|line| !line.is_empty());
    let untimed: Vec<&str> = before.filter(|line| !line.starts_with('+')).collect();
    assert_eq!(untimed, [] as [&str; 0]);
    assert!(said.contains(", usually "), "an earlier run tells what is usual: {said}");
}

#[test]
fn every_command_works_on_a_terminal() {
    let host = Host::new();
    for words in [
        vec!["cc-ci-run", "status"],
        vec!["cc-ci-janitor", "sweep", "--dry-run"],
        vec!["cc-ci-run", "report", "--site", "site"],
    ] {
        host.command(&words).script(ON_A_TERMINAL).untold().end().expect_clean(0);
    }
}

#[test]
fn what_is_waited_for_is_known_while_it_is() {
    let host = Host::new();
    let _folder = host.folder("hello").also("[health]\npath = \"/nowhere\"\n");
    let step = host.run().start();
    let _known = step.keeper();
    let status = || host.command(&["cc-ci-run", "status", "--json"]).end().expect(0).json();
    let progress = until("the wait is said", || {
        let progress = status()["locks"][0]["progress"].clone();
        // At first it may not listen yet.
        let said = progress["waits_for"].as_str().is_some_and(|what| what.contains("GET /nowhere answered 404"));
        said.then_some(progress)
    });
    assert_eq!((&progress["phase"], &progress["step"]), (&json!("install"), &json!("health")));
    let human = host.command(&["cc-ci-run", "status"]).end().expect(0).out();
    assert!(human.contains(" · health: GET /nowhere answered 404"), "{human}");
    step.signal_keeper(Signal::SIGTERM);
    step.end().expect_clean(143);
}

#[test]
fn a_wait_in_vain_ends_with_the_last_lines_of_the_service() {
    let host = Host::new();
    let folder = host.folder("hello").also("[health]\npath = \"/nowhere\"\n");
    let text = fs::read_to_string(folder.path().join("recipe.toml")).unwrap();
    let talkative = r#"command = ["sh", "-c", "echo the cellar is flooded; exec hello-app"]"#;
    let text = text.replace("http = \"30s\"", "http = \"300ms\"").replace(r#"command = ["hello-app"]"#, talkative);
    drop(folder.toml(&text));
    let ended = host.run().end().expect_clean(1);
    let results = ended.results();
    let reason = results["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("install: generic/healthy: not there within 300ms: GET /nowhere answered 404"),
        "{reason}"
    );
    assert!(reason.contains("service app's last lines:\nthe cellar is flooded"), "{reason}");
    // At the end, the one thing that went wrong comes first.
    let (_, summary) =
        ended.out().split_once("===== RUN SUMMARY =====\n").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let lines: Vec<&str> = summary.lines().take(4).collect();
    assert!(lines[0].starts_with("RED (exit 1) — hello"), "{summary}");
    assert!(lines[1].starts_with("reason: install: generic/healthy: not there"), "{summary}");
    assert_eq!(lines[3].trim(), "the cellar is flooded");
}

/// Every file of a site.
fn files(site: &Path) -> Vec<PathBuf> {
    let (mut found, mut queue) = (Vec::new(), vec![site.to_owned()]);
    while let Some(dir) = queue.pop() {
        for name in host::list(&dir) {
            let path = dir.join(name);
            if path.is_dir() { queue.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

fn report<'host>(host: &'host Host, site: &Path) -> Ended<'host> {
    host.command(&["cc-ci-run", "report", "--site", site.to_str().unwrap()]).end()
}

/// What `attribute` of a page names.
fn addresses(page: &str, attribute: &str) -> Vec<String> {
    let begin = format!("{attribute}=\"");
    page.split(&begin).skip(1).map(|rest| rest[..rest.find('"').unwrap()].to_owned()).collect()
}

#[test]
fn a_site_tells_of_every_run_and_obeys_no_name() {
    let host = Host::new();
    let site = host.path("www/ci");
    let _folder = host.folder("hello").script("custom/check", "exit 0");
    host.run().end().expect_clean(0);
    let _folder = host.folder("hello").script(HOSTILE, "echo '<script>alert(2)</script>'; exit 3");
    let red = host.run().end().expect_clean(1);
    let told = report(&host, &site).expect_clean(0);
    assert!(told.out().contains(": 1 recipe, 2 runs"), "{}", told.out());

    let pages: Vec<PathBuf> =
        files(&site).into_iter().filter(|path| path.extension().is_some_and(|e| e == "html")).collect();
    assert_eq!(pages.len(), 4, "{pages:?}");
    for path in &pages {
        let page = fs::read_to_string(path).unwrap();
        for live in ["<img src=x", "<script", "onerror=alert(1)>"] {
            assert!(!page.contains(live), "{} holds {live}", path.display());
        }
        for address in addresses(&page, "href").iter().chain(&addresses(&page, "src")) {
            assert!(path.parent().unwrap().join(address).is_file(), "{} leads to {address}", path.display());
        }
        assert!(addresses(&page, "<img alt").len() <= 1 && page.contains("<html lang=\"en\">"), "{page}");
        assert!(!page.contains("http://") && !page.contains("https://"), "{} needs a network", path.display());
    }
    let run = fs::read_to_string(site.join("runs").join(red.results()["run_id"].as_str().unwrap()).join("index.html"));
    let run = run.unwrap();
    assert!(run.contains("custom/&lt;img src=x onerror=alert(1)&gt; &amp; &quot;'.sh"), "{run}");
    assert!(run.contains("&lt;script&gt;alert(2)&lt;/script&gt;"), "the log is there: {run}");
    assert!(run.contains("down from 4"), "{run}");
    let index = fs::read_to_string(site.join("index.html")).unwrap();
    assert!(index.contains("0 of 1 recipes green") && index.contains("Levels, oldest first: 4, 3"), "{index}");
    assert!(fs::read_to_string(site.join("recipes/hello/badge.svg")).unwrap().contains("level 3"));
    // The page of a run in its own directory is the same one, and leads nowhere.
    let alone = fs::read_to_string(red.run_dir.unwrap().join("summary.html")).unwrap();
    assert_eq!(addresses(&alone, "href"), [] as [String; 0]);
    assert!(!alone.contains("<img src=x") && alone.contains("down from 4"), "{alone}");
}

#[test]
fn a_site_is_replaced_as_a_whole_or_not_at_all() {
    let host = Host::new();
    let site = host.path("site");
    let first = host.run().end().expect_clean(0);
    let second = host.run().end().expect_clean(0);
    report(&host, &site).expect(0);
    fs::remove_dir_all(first.run_dir.unwrap()).unwrap();
    report(&host, &site).expect(0);
    assert_eq!(host::list(&site.join("runs")), ["r2"], "what is gone from the host is gone from its site");

    // A log that cannot be read fails the report half-way.
    let log = second.run_dir.unwrap().join("run.log");
    fs::remove_file(&log).unwrap();
    fs::create_dir(&log).unwrap();
    let before = files(&site);
    let failed = report(&host, &site).expect(69);
    assert!(failed.err().contains("cannot write"), "{}", failed.err());
    assert_eq!(files(&site), before);
    let beside: Vec<String> =
        host::list(&host.path("")).into_iter().filter(|name| name.contains("cc-ci-site")).collect();
    assert_eq!(beside, [] as [&str; 0], "what was half made is gone");
}

#[test]
fn a_folder_that_is_no_site_is_never_replaced() {
    let host = Host::new();
    let precious = host.path("home/precious");
    fs::create_dir_all(host.path("home")).unwrap();
    fs::write(&precious, "1").unwrap();
    let refused = report(&host, &host.path("home")).expect(2);
    assert!(refused.err().contains("holds something else than a site"), "{}", refused.err());
    assert_eq!(fs::read_to_string(&precious).unwrap(), "1");
}

#[test]
fn a_result_with_names_of_its_own_is_left_out_and_a_leak_is_not_published() {
    let host = Host::new();
    let dir = host.run().end().expect_clean(0).run_dir.unwrap();
    let steal = format!("cat '{}'/secrets/* >>\"$CCCI_OP_STATE_FILE\"", host.app_dir().display());
    let _folder = host.folder("hello").script("test_install.sh", &steal);
    let leaked = host.run().end().expect_clean(1);
    assert_eq!(leaked.results()["flags"]["no_secret_leak"], false);
    let text = fs::read_to_string(dir.join("results.json")).unwrap();
    for (number, (from, to)) in
        [("\"recipe\": \"hello\"", "\"recipe\": \"../../../escape\""), ("\"run_id\": \"r1\"", "\"run_id\": \"../up\"")]
            .iter()
            .enumerate()
    {
        let other = host.path("runs").join(format!("x{number}"));
        fs::create_dir(&other).unwrap();
        assert!(text.contains(from));
        fs::write(other.join("results.json"), text.replace(from, to)).unwrap();
    }
    let site = host.path("a/b/site");
    report(&host, &site).expect(0);
    assert_eq!(host::list(&site.join("runs")), ["r1", "r2"]);
    assert_eq!(host::list(&site.join("recipes")), ["hello"]);
    assert_eq!(host::list(&host.path("a/b")), ["site"]);
    assert_eq!(host::list(&site.join("runs/r2")), ["badge.svg", "index.html"]);
    assert!(
        host::list(&site.join("runs/r1")).contains(&"run.log".to_owned()),
        "a run that kept its secrets has its log"
    );
}
