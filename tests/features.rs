//! What recipe maintainers expect, on the embedded engine: dependencies, overlays, the app's variables, tests
//! that come with the recipe, the version to upgrade from, the lint rung, the screenshot.

#![expect(clippy::unwrap_used, reason = "a test that cannot do its work fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use ccci_core::name::Domain;
use ccci_core::process::Job;
use ccci_tests::folder::Folder;
use ccci_tests::host::Host;
use ccci_tests::process;
use nix::sys::signal::Signal;

/// The recipe `hello` needs `book`, and has its address.
const NEEDS: &str = "[[dependencies]]\nrecipe = \"book\"\n\n[env]\nBOOK = \"http://{dependency.book}/{domain}\"";

/// A host on which `hello` needs `book`.
fn with_dependency() -> (Host, Folder) {
    let host = Host::new();
    host.recipe("book");
    let _book = host.folder("book");
    host.settings(&format!("recipe_url = \"{}/{{recipe}}\"", host.path("recipes").display()));
    let folder = host.folder("hello").also(NEEDS);
    (host, folder)
}

/// Where `book` is while a plain run of `hello` needs it.
fn book(host: &Host) -> Domain {
    host.domain_of("book", host.pr(), host.domain().as_str())
}

#[test]
fn a_dependency_is_up_before_the_app_counted_and_verified_away() {
    let (host, folder) = with_dependency();
    let env = host.env_file(&host.domain());
    let look = format!("grep ^BOOK= '{}'; cat \"$CCCI_DEPS_FILE\"; test -d '{}'", env.display(), app_dir(&host));
    let _folder = folder.script("test_install.sh", &look);
    let ended = host.run().end().expect_clean(0);
    let (hello, book) = (host.domain(), book(&host));
    assert_ne!(hello, book);
    let log = ended.log();
    assert!(log.contains(&format!("| BOOK=http://{book}/{hello}")), "{log}");
    assert!(log.contains(&format!("| {{\"recipe\":\"book\",\"domain\":\"{book}\"}}")), "{log}");
    assert!(log.contains("deploy-count = 2 (expect 2)"), "{log}");
    let results = ended.results();
    assert_eq!(results["flags"]["clean_teardown"], true);
    let removed = results["receipt"]["removed"].as_array().unwrap();
    let of = |domain: &Domain| removed.iter().filter(|object| object["name"] == domain.as_str()).count();
    assert_eq!((of(&hello), of(&book)), (2, 2), "app directory and env file of both: {removed:#?}");
}

fn app_dir(host: &Host) -> String {
    host.path("state/local").join(book(host).as_str()).display().to_string()
}

#[test]
fn a_dependency_is_gone_whatever_becomes_of_the_app() {
    let (host, folder) = with_dependency();
    // Between the dependency's deploy and the app's.
    let _folder = folder.script("hooks/pre_install", "exit 1");
    let results = host.run().end().expect_clean(1).results();
    assert!(results["reason"].as_str().unwrap().contains("hook pre_install"), "{}", results["reason"]);
    assert!(results["receipt"].to_string().contains(book(&host).as_str()));
}

#[test]
fn a_dependency_is_gone_when_the_worker_or_everybody_was_killed() {
    for everybody in [false, true] {
        let (host, folder) = with_dependency();
        let gate = host.gate("up");
        let _folder = folder.script("test_install.sh", &gate.pass());
        let step = host.run().start();
        gate.reached();
        assert!(host.lock_of(book(&host)).path().exists(), "it has a lock of its own");
        let (keeper, worker) = (step.keeper(), step.part("worker"));
        if everybody {
            process::signal(keeper, Signal::SIGSTOP);
            process::signal(worker, Signal::SIGKILL);
            process::signal(keeper, Signal::SIGKILL);
            drop(step.end());
            let sweep = host.command(&["cc-ci-janitor", "sweep", "--json"]).end().expect(0);
            assert!(sweep.out().contains(book(&host).as_str()), "{}", sweep.out());
            host.assert_soon_clean();
        } else {
            process::signal(worker, Signal::SIGKILL);
            let ended = step.end().expect_clean(69);
            assert!(ended.results()["receipt"].to_string().contains(book(&host).as_str()));
        }
    }
}

#[test]
fn a_dependency_that_does_not_come_up_is_no_verdict_on_the_recipe() {
    let (host, _folder) = with_dependency();
    let _broken = host.folder("book").service("db", "echo no disk\nexit 3");
    let results = host.run().end().expect_clean(69).results();
    let reason = results["reason"].as_str().unwrap();
    assert!(reason.contains("dependency book") && reason.contains("no disk"), "{reason}");
}

#[test]
fn a_variable_of_the_caller_reaches_the_app_and_none_brings_lets_encrypt_back() {
    let host = Host::new();
    let env = host.env_file(&host.domain());
    let folder = host.folder("hello").also("[env]\nCOLOUR = \"red\"\nLETS_ENCRYPT_ENV = \"production\"");
    let _folder = folder.script("test_install.sh", &format!("cat '{}'", env.display()));
    let run = host.run().args(["--stages", "install"]).env("EXTRA_ENV", "COLOUR=blue\nSHAPE=a=b\n");
    let log = run.end().expect_clean(0).log();
    let has = |line: &str| log.lines().any(|said| said.ends_with(&format!(" | {line}")));
    assert!(has("COLOUR=blue") && has("SHAPE=a=b") && has("LETS_ENCRYPT_ENV="), "{log}");
    let wrong = host.run().args(["--env", "no-assignment"]).end().expect(2);
    assert!(wrong.err().contains("NAME=VALUE"), "{}", wrong.err());
}

#[test]
fn an_overlay_that_names_an_image_ends_the_run_before_a_deploy() {
    let host = Host::new();
    let _folder = host.folder("hello").file("compose.ccci.yml", "services:\n  db:\n    image: postgres:1\n");
    let ended = host.run().end().expect_clean(2);
    let reason = ended.results()["reason"].to_string();
    assert!(reason.contains("compose.ccci.yml") && reason.contains("service `db` has `image`"), "{reason}");
}

/// Commits everything in a repository, with a further file.
fn commit(repository: &Path, file: &str, text: &str) {
    let path = repository.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let script = "git add --all && git -c user.name=t -c user.email=t@example.com commit --quiet --message change";
    git(repository, script);
}

fn git(repository: &Path, script: &str) -> String {
    let job = Job::new("sh").args(["-c", script]).dir(repository).env([("GIT_CONFIG_GLOBAL", "/dev/null")]).capture();
    String::from_utf8(job.run_ok(&mut |_| {}).unwrap().stdout).unwrap().trim().to_owned()
}

#[test]
fn a_test_that_comes_with_the_recipe_runs_only_when_its_content_is_approved() {
    let host = Host::new();
    let ran = host.path("ran");
    let test = format!("#!/bin/sh\necho >'{}'\n", ran.display());
    commit(&host.recipe("hello"), "tests/ccci/own.sh", &test);
    let step = || host.run().args(["--stages", "install,custom"]);
    let declined = step().end().expect_clean(0);
    assert!(!ran.exists(), "somebody's code was run");
    let log = declined.log();
    let line = log.lines().find(|line| line.contains("tests/ccci/own.sh")).unwrap();
    let digest = line.split("sha256 ").nth(1).unwrap().split(')').next().unwrap().to_owned();

    host.settings(&format!("approved_tests = [\"{digest}\"]"));
    let results = step().end().expect_clean(0).results();
    assert!(ran.exists());
    assert!(results["stages"].to_string().contains("recipe/own.sh"), "{}", results["stages"]);

    fs::remove_file(&ran).unwrap();
    commit(&host.recipe("hello"), "tests/ccci/own.sh", &format!("{test}# changed\n"));
    let _declined = step().end().expect_clean(0);
    assert!(!ran.exists(), "what was approved was another content");
}

#[test]
fn without_a_release_the_tip_of_the_main_branch_is_upgraded_from() {
    let host = Host::new();
    let repository = host.recipe("hello");
    git(&repository, "git tag | xargs git tag --delete");
    let tip = git(&repository, "git rev-parse HEAD");
    git(&repository, "git checkout --quiet -b change");
    commit(&repository, "note", "a change");
    git(&repository, "git checkout --quiet main");
    let stages = ["--stages", "install,upgrade"];
    let results = host.run().args(stages).args(["--ref", "change"]).end().expect_clean(0).results();
    assert_eq!(results["upgraded_from"], tip[..8]);
    let results = host.run().args(stages).end().expect_clean(0).results();
    assert_eq!(results["rungs"]["upgrade"]["outcome"], "skip");
    let reason = results["rungs"]["upgrade"]["reason"].as_str().unwrap();
    assert!(reason.contains("its main branch has already"), "{reason}");
}

/// A program called abra that prints this when it is asked to lint, and has a terminal.
fn linter(host: &Host, prints: &str) {
    host.program(
        "abra",
        &format!("test -t 1 || exit 1\ntest \"$1 $2\" = 'recipe lint' || exit 1\ncat <<'X'\n{prints}\nX"),
    );
}

#[test]
fn the_lint_rung_is_the_tables_word_and_never_a_pass_without_one() {
    let host = Host::new();
    let rung = || host.run().args(["--stages", "install"]).end().expect_clean(0).results()["rungs"]["lint"].clone();
    if ccci_core::abra::Abra::installed().is_none() {
        assert_eq!(rung()["outcome"], "unver", "no abra");
    }
    linter(&host, "│ R001 │ x │ error │ ✅ │ - │ y │");
    assert_eq!(rung()["outcome"], "pass");
    linter(&host, "│ R001 │ x │ error │ ❌ │ - │ y │\nWARN critical errors present");
    let broken = rung();
    assert_eq!((broken["outcome"].as_str(), broken["reason"].as_str()), (Some("fail"), Some("R001 x (y)")));
    linter(&host, "everything is fine");
    assert_eq!(rung()["outcome"], "unver", "no table");
    host.program("abra", "echo 'FATA unable to validate recipe'; exit 1");
    let cannot = rung();
    assert_eq!(cannot["outcome"], "unver");
    assert!(cannot["why"].as_str().unwrap().contains("unable to validate"), "{cannot}");
}

#[test]
fn the_recipe_lint_by_hand_reads_the_same_table() {
    let host = Host::new();
    let recipe = host.recipe("hello").display().to_string();
    let lint = |code| host.command(&["cc-ci-lint", "recipe", &recipe]).end().expect(code).out();
    linter(&host, "│ R001 │ x │ error │ ✅ │ - │ y │");
    assert_eq!(lint(0), "lint: PASS\n");
    linter(&host, "│ R001 │ x │ error │ ❌ │ - │ y │");
    assert_eq!(lint(1), "abra: R001 x (y)\nlint: FAIL\n");
    linter(&host, "everything is fine");
    assert!(lint(1).contains("it printed no table of rules"));
}

#[test]
fn no_variable_for_the_upgrade_makes_a_test_app_ask_for_a_certificate() {
    let host = Host::new();
    let folder =
        host.folder("hello").service("probe", "echo \"<$LETS_ENCRYPT_ENV>$SELF\" >>\"$TMPDIR/asked\"; exec sleep 1000");
    let _folder = folder.also("[upgrade.env]\nLETS_ENCRYPT_ENV = \"production\"\nSELF = \"{stack}\"");
    host.run().args(["--stages", "install,upgrade"]).end().expect_clean(0);
    let upgraded = format!("<>{}", host.domain().stack_name());
    let asked = fs::read_to_string(host.path("tmp/asked")).unwrap();
    assert_eq!(asked.lines().collect::<Vec<_>>(), ["<>", &upgraded], "at the install and at the upgrade");
}

/// The browser is another user's, who has to find its program and its folder.
fn open_to_all(host: &Host) {
    for (dir, mode) in [("", 0o711), ("tmp", 0o777)] {
        fs::set_permissions(host.path(dir), fs::Permissions::from_mode(mode)).unwrap();
    }
}

#[test]
fn the_browser_reaches_the_app_and_nothing_else_of_the_host() {
    let host = Host::new();
    open_to_all(&host);
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    other.set_nonblocking(true).unwrap();
    let port = other.local_addr().unwrap().port();
    let page = format!(
        "<img src=http://127.0.0.1:{port}/><img src=http://localhost:{port}/>\
         <script>fetch('http://127.0.0.1:{port}/', {{mode: 'no-cors'}}).catch(() => 0)</script>"
    );
    let serve = format!(
        "cat >\"$TMPDIR/serve.py\" <<'END'\nimport http.server, os\n\
         class App(http.server.BaseHTTPRequestHandler):\n    def do_GET(self):\n        \
         self.send_response(200); self.send_header('Content-Type', 'text/html'); self.end_headers()\n        \
         self.wfile.write(b\"{page}\")\n\
         http.server.HTTPServer(('{}', 8080), App).serve_forever()\nEND\nexec python3 \"$TMPDIR/serve.py\"",
        host.domain().loopback()
    );
    let toml = "[timeouts]\ndeploy = \"30s\"\nmonitor = \"0s\"\nhttp = \"30s\"\n\
                [local.services.app]\ncommand = [\"sh\", \"./serve.sh\"]\nport = 8080\n";
    let _folder = host.folder("hello").file("serve.sh", &serve).toml(&toml.replace("./serve.sh", &serve_path(&host)));
    host.program("chromium", "exec chromium-headless-shell \"$@\"");
    let ended = host.run().args(["--stages", "install"]).end().expect_clean(0);
    assert!(ended.log().contains("== screenshot: "), "{}", ended.log());
    let picture = fs::read(ended.run_dir.as_ref().unwrap().join("screenshot.png")).unwrap();
    assert!(picture.starts_with(b"\x89PNG"), "a picture of {} bytes", picture.len());
    assert_eq!(other.accept().map_err(|error| error.kind()).unwrap_err(), std::io::ErrorKind::WouldBlock);
}

/// Where the folder of the recipe has the app's script.
fn serve_path(host: &Host) -> String {
    host.path("tests/hello/serve.sh").display().to_string()
}

#[test]
fn a_screenshot_is_taken_where_a_browser_is_and_its_failure_is_no_verdict() {
    let host = Host::new();
    open_to_all(&host);
    let write = "for word; do case $word in --screenshot=*) echo png >\"${word#*=}\" ;; esac; done";
    host.program("chromium", &format!("echo \"$(id -un) $*\" >\"$TMPDIR/browser\"; {write}"));
    let ended = host.run().args(["--stages", "install"]).end().expect_clean(0);
    assert_eq!(fs::read_to_string(ended.run_dir.as_ref().unwrap().join("screenshot.png")).unwrap(), "png\n");
    let called = fs::read_to_string(host.path("tmp/browser")).unwrap();
    let address = format!("MAP {} {}:8080", host.domain(), host.domain().loopback());
    assert!(called.contains(&address) && called.contains(&format!("http://{}/", host.domain())), "{called}");
    let user = if nix::unistd::Uid::effective().is_root() { "nobody " } else { "" };
    assert!(called.starts_with(user) && !called.contains("--no-sandbox"), "{called}");
    host.program("chromium", "echo 'no display'; exit 1");
    let ended = host.run().args(["--stages", "install"]).end().expect_clean(0);
    assert!(ended.log().contains("no screenshot: ") && ended.log().contains("no display"), "{}", ended.log());
    assert_eq!(fs::read_dir(host.path("tmp")).unwrap().count(), 1, "its profile is gone");
}
