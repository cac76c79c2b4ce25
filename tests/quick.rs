//! Quick runs, on the embedded engine: what a release's green run keeps, who begins with it, and what becomes
//! of it when something dies, breaks or is in the way.

#![expect(clippy::unwrap_used, reason = "a test that cannot do its work fails")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ccci_core::name::RecipeName;
use ccci_core::process::{Job, read_limited, wait_ready};
use ccci_core::snapshot::{Shelf, Store};
use ccci_tests::folder::Folder;
use ccci_tests::forge::{self, Forge};
use ccci_tests::host::{self, Host};
use ccci_tests::process;
use ccci_tests::schema::{expect_valid, schema};
use ccci_tests::step::{Ended, Launch};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// The release that is kept, and that the pull request is built on.
const RELEASE: &str = "0.1.0+1.1.0";

/// A host with a pull request `change` on top of the newest release, and a test folder whose install test writes
/// the run's id into the data.
struct Lab {
    host: Host,
    _folder: Folder,
}

impl Lab {
    fn new() -> Self {
        let host = Host::new();
        // A domain follows from the ref: this host's release must not clash with another host's.
        let release = format!("git branch {} {RELEASE}", Self::branch(&host));
        let change = "git checkout --quiet -b change && echo changed >greeting.txt && \
                      git -c user.name=t -c user.email=t@example.com commit --quiet --all --message change && \
                      git checkout --quiet main";
        git(&host, &format!("{release} && {change}"));
        let folder = Self::folder(&host);
        Self { host, _folder: folder }
    }

    fn branch(host: &Host) -> String {
        format!("release-{}", host.pr())
    }

    /// What is written at the install is there after the upgrade, however the app came by it; with its secret.
    fn folder(host: &Host) -> Folder {
        let mark = mark(host);
        let seen = format!("echo \"mark of $(cat {mark})\"; cat {}/secrets/admin_token >'{}'", app(host), secret(host));
        host.folder("hello")
            .script("test_install.sh", &format!("test ! -e {mark}; echo \"$CCCI_RUN_ID\" >{mark}"))
            .script("test_upgrade.sh", &seen)
            .script("custom/check", &format!("test -s {mark}"))
    }

    /// A run of the release, by nobody's pull request.
    fn release(&self) -> Launch<'_> {
        self.host.run().env("PR", "0").env("REF", &Self::branch(&self.host))
    }

    /// A quick run of the pull request.
    fn quick(&self) -> Launch<'_> {
        self.host.run().env("REF", "change").env("CCCI_QUICK", "1")
    }

    /// A host on which the release's data are kept, by this run.
    fn with_kept() -> (Self, String) {
        let lab = Self::new();
        let results = lab.release().end().expect_clean(0).results();
        expect_valid(&schema("results.schema.json"), &results);
        assert_eq!(results["kept"]["promoted"], true, "{:#}", results["kept"]);
        let run = results["run_id"].as_str().unwrap().to_owned();
        (lab, run)
    }

    fn shelf(&self) -> Shelf {
        Store::new(&self.host.path("state")).shelf(&RecipeName::new("hello").unwrap(), "local")
    }

    /// The run whose data are kept, every byte of them verified.
    fn kept_by(&self) -> Option<String> {
        let snapshot = self.shelf().open(Duration::ZERO, &mut || {}).unwrap()?;
        Some(snapshot.manifest.origin.run_id)
    }

    /// What lies beside the snapshot.
    fn beside(&self) -> Vec<String> {
        let mut names = host::list(&self.host.path("state/snapshots/hello"));
        names.retain(|name| name != "local" && name != "local.lock");
        names
    }

    /// Every file of the snapshot: what it is, when it was last changed, and all that is in it.
    fn bytes(&self) -> BTreeMap<String, (u64, i64, i64, Vec<u8>)> {
        let dir = self.shelf().path();
        let file = |name: String| {
            let path = dir.join(&name);
            let meta = path.metadata().unwrap();
            (name, (meta.ino(), meta.mtime(), meta.mtime_nsec(), fs::read(path).unwrap()))
        };
        host::list(&dir).into_iter().map(file).collect()
    }

    /// The snapshot's lock file.
    fn lock(&self) -> File {
        let path = self.host.path("state/snapshots/hello/local.lock");
        File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap()
    }
}

fn git(host: &Host, script: &str) {
    let job = Job::new("sh").args(["-ec", script]).dir(&host.recipe("hello"));
    job.env([("GIT_CONFIG_GLOBAL", "/dev/null")]).run_ok(&mut |_| {}).unwrap();
}

/// The app's directory, for a script of its test folder.
fn app(host: &Host) -> String {
    format!("'{}'/\"$CCCI_APP_DOMAIN\"", host.path("state/local").display())
}

/// A file on its volume.
fn mark(host: &Host) -> String {
    format!("{}/volumes/data/mark", app(host))
}

/// Where the tests leave the secret that they saw.
fn secret(host: &Host) -> String {
    host.path("secret").display().to_string()
}

fn outcome(results: &Value, tier: &str) -> Value {
    let stages = results["stages"].as_array().unwrap();
    stages.iter().find(|stage| stage["tier"] == tier).unwrap()["outcome"].clone()
}

/// A quick run began cold, says why, and did what can be done without kept data.
fn began_cold(ended: Ended<'_>, why: &str) {
    let ended = ended.expect_clean(0);
    assert!(ended.log().contains("NO KEPT DATA ARE USED"), "{}", ended.log());
    let results = ended.results();
    expect_valid(&schema("results.schema.json"), &results);
    assert_eq!(results["quick"]["from"], Value::Null);
    assert!(results["quick"]["why"].as_str().unwrap().contains(why), "{:#}", results["quick"]);
    assert_eq!((outcome(&results, "install"), outcome(&results, "custom")), (json!("pass"), json!("pass")));
    assert_eq!((outcome(&results, "upgrade"), &results["upgraded_from"]), (json!("unver"), &Value::Null));
}

#[test]
fn a_quick_run_begins_with_the_data_of_the_last_good_release_and_puts_them_back() {
    let (lab, release) = Lab::with_kept();
    let before = lab.bytes();
    let of_release = fs::read_to_string(secret(&lab.host)).unwrap();

    let ended = lab.quick().env("VERSION", "0.0.1+1.0.0").end().expect_clean(0);
    assert!(ended.log().contains("--version-from 0.0.1+1.0.0 is not used"), "{}", ended.log());
    let results = ended.results();
    expect_valid(&schema("results.schema.json"), &results);
    assert!(ended.log().contains(&format!("mark of {release}")), "{}", ended.log());
    assert_eq!(fs::read_to_string(secret(&lab.host)).unwrap(), of_release, "the data depend on it");
    let quick = &results["quick"]["from"];
    assert_eq!((&quick["run_id"], &quick["version"]), (&json!(release), &json!(RELEASE)));
    assert_eq!((&results["upgraded_from"], &results["quick"]["why"]), (&json!(RELEASE), &Value::Null));
    for (tier, word) in [("install", "pass"), ("upgrade", "pass"), ("backup", "unver"), ("custom", "pass")] {
        assert_eq!(outcome(&results, tier), word, "{tier}: {:#}", results["stages"]);
    }
    let tests = results["stages"].to_string();
    assert!(!tests.contains("test_install.sh"), "its tests are for a fresh app: {tests}");
    assert_eq!(results["deploy_count"], json!({"counted": 1, "expected": 1}));
    assert_eq!((&results["kept"], &results["previous"]), (&Value::Null, &Value::Null));
    assert!(ended.out().contains(&format!("quick: began with the data of {RELEASE}, kept by run {release}")));
    assert_eq!(lab.bytes(), before, "what is kept is as it was");
    assert_eq!(lab.beside(), [] as [&str; 0]);
}

#[test]
fn the_secrets_of_the_kept_data_are_nowhere_but_in_the_snapshot_which_is_its_owners_alone() {
    let lab = Lab::new();
    let show = format!("cat {}/secrets/admin_token", app(&lab.host));
    let _folder = Lab::folder(&lab.host).script("custom/zz_show", &show);
    let release = lab.release().end().expect_clean(0);
    let quick = lab.quick().end().expect_clean(0);
    assert_ne!(quick.results()["quick"]["from"], Value::Null);
    let secret = fs::read_to_string(secret(&lab.host)).unwrap();
    assert_eq!(secret.len(), 32, "the tests saw it");
    for ended in [release, quick] {
        assert_eq!(ended.files_with(&secret), [] as [String; 0]);
        assert!(!ended.out().contains(&secret) && !ended.err().contains(&secret));
        assert!(ended.log().contains("| ***"), "{}", ended.log());
        assert_eq!(ended.results()["flags"]["no_secret_leak"], true);
    }
    let dir = lab.shelf().path();
    let mode = |path: PathBuf| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(lab.host.path("state/snapshots")), mode(dir.clone())), (0o700, 0o700));
    for name in host::list(&dir) {
        assert_eq!(mode(dir.join(&name)), 0o600, "{name}");
    }
}

#[test]
fn only_a_whole_cold_run_of_a_release_keeps_its_data() {
    let lab = Lab::new();
    let host = &lab.host;
    let branch = Lab::branch(host);
    let runs: [(&str, Launch<'_>); 6] = [
        ("of a pull request, whoever tags what", host.run().env("REF", &branch)),
        ("of what is no release", host.run().env("PR", "0").env("REF", "change")),
        ("of some stages", lab.release().args(["--stages", "install,upgrade,backup,restore"])),
        ("with variables of the caller's", lab.release().args(["--env", "COLOUR=red"])),
        ("quick", lab.release().env("CCCI_QUICK", "1")),
        ("quick, of all stages", lab.release().args(["--quick", "--stages", "install,upgrade,backup,restore,custom"])),
    ];
    for (what, run) in runs {
        let results = run.end().expect_clean(0).results();
        assert_eq!((&results["kept"], lab.kept_by()), (&Value::Null, None), "a run {what}");
    }
    host.settings("[snapshots]\nkeep = false\n");
    let results = lab.release().end().expect_clean(0).results();
    assert_eq!((&results["kept"], lab.kept_by()), (&Value::Null, None));
    host.settings("");
    let results = lab.release().end().expect_clean(0).results();
    assert_eq!(lab.kept_by().as_deref(), results["run_id"].as_str());
    host.settings("[snapshots]\nkeep = false\n");
    began_cold(lab.quick().end(), "in the settings is false");
}

#[test]
fn a_run_that_is_not_green_keeps_nothing_and_what_was_kept_stays() {
    let (lab, release) = Lab::with_kept();
    let before = lab.bytes();
    // Every tier passes; what makes it red comes after them.
    let steal = format!("cat {}/secrets/* >>\"$CCCI_OP_STATE_FILE\"", app(&lab.host));
    let _folder = Lab::folder(&lab.host).script("custom/zz_steal", &steal);
    let results = lab.release().end().expect_clean(1).results();
    assert_eq!(results["kept"]["promoted"], false);
    assert!(results["kept"]["why"].as_str().unwrap().contains("did not come out green"), "{:#}", results["kept"]);

    let _folder = Lab::folder(&lab.host).script("custom/zz_red", "exit 1");
    let results = lab.release().end().expect_clean(1).results();
    assert!(results["kept"]["why"].as_str().unwrap().contains("custom is fail"), "{:#}", results["kept"]);

    let _folder = Lab::folder(&lab.host).script("custom/zz_skips", "exit 77");
    let results = lab.release().end().expect_clean(69).results();
    assert!(results["kept"]["why"].as_str().unwrap().contains("custom is unver"), "{:#}", results["kept"]);

    assert_eq!((lab.bytes(), lab.beside()), (before, Vec::new()));
    assert_eq!(lab.kept_by(), Some(release));
}

#[test]
fn what_cannot_be_kept_is_said_and_changes_no_verdict() {
    let lab = Lab::new();
    let why = |ended: Ended<'_>| {
        let results = ended.expect_clean(0).results();
        assert_eq!((&results["verdict"], &results["kept"]["promoted"]), (&json!("green"), &json!(false)));
        results["kept"]["why"].as_str().unwrap().to_owned()
    };
    let _folder = Lab::folder(&lab.host).also("[backup]\ncapable = false");
    assert!(why(lab.release().end()).contains("no backup of it was made and restored"));
    let _folder = Lab::folder(&lab.host).script(
        "hooks/pre_backup",
        &format!("dd if=/dev/zero of={}/volumes/data/big bs=1M count=2 2>/dev/null", app(&lab.host)),
    );
    lab.host.settings("[snapshots]\nmax_mb = 1\n");
    assert!(why(lab.release().end()).contains("max_mb"), "too large");
    lab.host.settings("");
    fs::create_dir_all(lab.host.path("state")).unwrap();
    fs::write(lab.host.path("state/snapshots"), "in the way").unwrap();
    assert!(why(lab.release().end()).contains("state/snapshots"), "no place for it");
    began_cold(lab.quick().end(), "none are kept");
    fs::remove_file(lab.host.path("state/snapshots")).unwrap();

    // A disk with room for the runs and their apps, and none for what is kept.
    let place = lab.host.path("state/snapshots");
    fs::create_dir_all(&place).unwrap();
    let mount = format!("mount -t tmpfs -o size=1m none '{}'\n@@ || code=$?\nexit $code", place.display());
    let full = lab.release().under(&["unshare", "--mount"]).script(&mount).end();
    let said = why(full);
    assert!(said.contains("No space left"), "{said}");
}

#[test]
fn kept_data_that_were_changed_are_not_used() {
    let (lab, _) = Lab::with_kept();
    let archive = lab.shelf().path().join("volume-0.tar");
    let good = fs::read(&archive).unwrap();
    let mut bad = good.clone();
    // In the middle of what the archive holds: it can still be unpacked.
    let at = good.windows(5).position(|window| window == b"mark\0").unwrap() + 512;
    bad[at] ^= 1;
    fs::write(&archive, &bad).unwrap();
    began_cold(lab.quick().end(), "checksum");
    fs::write(&archive, &good[..good.len() - 1]).unwrap();
    began_cold(lab.quick().end(), "bytes, not");
    fs::write(&archive, &good).unwrap();
    let manifest = lab.shelf().path().join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("\"schema\": 1", "\"schema\": 9")).unwrap();
    began_cold(lab.quick().end(), "its schema is 9");
    fs::write(&manifest, text).unwrap();
    assert_ne!(lab.quick().end().expect_clean(0).results()["quick"]["from"], Value::Null);
}

#[test]
fn a_quick_run_that_kept_data_are_of_no_use_to_begins_cold() {
    let lab = Lab::new();
    began_cold(lab.quick().end(), "none are kept of hello on the local engine");
    let (lab, _) = Lab::with_kept();
    began_cold(lab.host.run().env("REF", RELEASE).args(["--quick"]).end(), "which is what is tested");
    git(
        &lab.host,
        "git checkout --quiet -b aside 0.0.0+1.0.0 && git -c user.name=t -c user.email=t@example.com \
                    commit --quiet --allow-empty --message aside && git checkout --quiet main",
    );
    began_cold(lab.host.run().env("REF", "aside").args(["--quick"]).end(), "is not built");
    git(&lab.host, &format!("git tag --force '{RELEASE}' '{RELEASE}^' 2>/dev/null"));
    began_cold(lab.quick().end(), "does not have as such");
    let named = lab.quick().args(["--stages", "install,custom"]).end().expect_clean(0).results();
    assert!(named["quick"]["why"].as_str().unwrap().contains("no upgrade"), "{:#}", named["quick"]);
}

#[test]
fn an_app_is_told_under_which_domain_its_kept_data_were_saved() {
    let (lab, _) = Lab::with_kept();
    let _folder = Lab::folder(&lab.host)
        .script("hooks/kept_data", &format!("echo \"from $CCCI_KEPT_DOMAIN\"; test -e {}", mark(&lab.host)))
        .script("hooks/install_steps", "echo 'of a fresh app'; exit 1");
    let ended = lab.quick().end().expect_clean(0);
    let domain = lab.host.domain_of("hello", 0, &Lab::branch(&lab.host));
    assert!(ended.log().contains(&format!("| from {domain}")), "{}", ended.log());
    assert!(!ended.log().contains("of a fresh app"), "{}", ended.log());
}

#[test]
fn a_snapshot_is_replaced_as_a_whole_and_not_while_somebody_reads_it() {
    let (lab, first) = Lab::with_kept();
    let before = lab.bytes();
    let reader = lab.lock();
    reader.lock_shared().unwrap();
    let step = lab.release().start();
    step.says("a quick run reads what is kept");
    assert_eq!((lab.bytes(), lab.beside().len()), (before, 1));
    drop(reader);
    let results = step.end().expect_clean(0).results();
    assert_ne!(lab.kept_by(), Some(first));
    assert_eq!(lab.kept_by().as_deref(), results["run_id"].as_str());
    assert_eq!(lab.beside(), [] as [&str; 0]);

    let writer = lab.lock();
    writer.lock().unwrap();
    let step = lab.quick().start();
    step.says("are just being replaced");
    drop(writer);
    assert_eq!(step.end().expect_clean(0).results()["quick"]["from"]["run_id"], results["run_id"]);
}

#[test]
fn two_releases_that_end_at_once_leave_one_snapshot_whole() {
    let lab = Lab::new();
    let other = format!("{}-again", Lab::branch(&lab.host));
    git(&lab.host, &format!("git branch {other} {RELEASE}"));
    let gate = lab.host.gate("end");
    let _folder = Lab::folder(&lab.host).script("custom/zz_gate", &gate.pass());
    for _ in 0..3 {
        let steps = [lab.release().start(), lab.release().env("REF", &other).start()];
        let _both = steps.each_ref().map(|_| gate.reached());
        gate.open();
        gate.open();
        let ids = steps.map(|step| step.end().expect(0).results()["run_id"].as_str().unwrap().to_owned());
        let kept = lab.kept_by().unwrap();
        assert!(ids.contains(&kept), "{kept} of {ids:?}");
        assert_eq!(lab.beside(), [] as [&str; 0]);
    }
    lab.host.assert_clean();
}

#[test]
fn a_run_that_dies_while_it_promotes_leaves_the_old_snapshot_and_the_janitor_the_rest() {
    let (lab, first) = Lab::with_kept();
    let before = lab.bytes();
    let reader = lab.lock();
    reader.lock_shared().unwrap();
    let step = lab.release().start();
    step.says("a quick run reads what is kept");
    step.signal_keeper(Signal::SIGKILL);
    drop(step.end());
    assert_eq!((lab.bytes(), lab.beside().len()), (before, 1));
    drop(reader);
    assert_eq!(lab.kept_by(), Some(first.clone()));
    let dry = lab.host.command(&["cc-ci-janitor", "sweep", "--json", "--dry-run"]).end().expect(0).json();
    assert_eq!((&dry["candidates_removed"], lab.beside().len()), (&json!(1), 1));
    let swept = lab.host.command(&["cc-ci-janitor", "sweep", "--json"]).end().expect(0).json();
    // Who concludes a run also settles what it had handed on.
    assert_eq!((swept["concluded"].as_array().map(Vec::len), lab.beside().len()), (Some(1), 0), "{swept:#}");
    assert_eq!(lab.kept_by(), Some(first));
    lab.host.assert_clean();
}

#[test]
fn the_janitor_leaves_what_a_live_run_is_about_to_hand_on() {
    let (lab, _) = Lab::with_kept();
    let reader = lab.lock();
    reader.lock_shared().unwrap();
    let step = lab.release().start();
    step.says("a quick run reads what is kept");
    let swept = lab.host.command(&["cc-ci-janitor", "sweep", "--json"]).end().expect(0).json();
    assert_eq!((&swept["candidates_removed"], lab.beside().len()), (&json!(0), 1));
    drop(reader);
    assert_eq!(step.end().expect_clean(0).results()["kept"]["promoted"], true);
}

#[test]
fn whenever_a_promotion_is_killed_the_old_snapshot_or_the_new_one_is_whole() {
    let (lab, mut kept) = Lab::with_kept();
    let (mut old, mut new) = (0, 0);
    for round in 0..12u64 {
        let reader = lab.lock();
        reader.lock_shared().unwrap();
        let step = lab.release().start();
        step.says("a quick run reads what is kept");
        let (keeper, run) = (step.keeper(), step.run_dir().file_name().unwrap().to_string_lossy().into_owned());
        drop(reader);
        // From at once to beyond the end of it: a look at the lock comes every 20 ms.
        let until = Instant::now() + Duration::from_millis(round * 3);
        while Instant::now() < until {
            let _over = wait_ready(&mut [], Some(Duration::from_micros(100)));
        }
        process::signal(keeper, Signal::SIGKILL);
        drop(step.end());
        let now = lab.kept_by().unwrap();
        assert!(now == kept || now == run, "{now} is neither {kept} nor {run}");
        *(if now == kept { &mut old } else { &mut new }) += 1;
        kept = now;
    }
    assert!(old > 0 && new > 0, "killed before and after: {old}, {new}");
    let _swept = lab.host.command(&["cc-ci-janitor", "sweep"]).end().expect(0);
    assert_eq!(lab.beside(), [] as [&str; 0]);
    lab.host.assert_clean();
}

#[test]
fn a_cancelled_run_hands_nothing_on() {
    let lab = Lab::new();
    let gate = lab.host.gate("tests");
    let _folder = Lab::folder(&lab.host).script("custom/zz_gate", &gate.pass());
    let step = lab.release().start();
    gate.reached();
    step.signal_keeper(Signal::SIGTERM);
    let _ended = step.end().expect_clean(143);
    assert_eq!((lab.kept_by(), lab.beside()), (None, Vec::new()));
}

#[test]
fn whoever_concludes_a_run_whose_tests_have_spoken_promotes_its_data() {
    let lab = Lab::new();
    // The data are handed on, and the app is still up.
    let held = || {
        let step = lab.release().args(["--keep", "10m"]).start();
        let _known = step.keeper();
        step.says("stays up for");
        assert_eq!(lab.beside().len(), 1);
        step
    };
    let step = held();
    let run_dir = step.run_dir();
    step.signal_keeper(Signal::SIGKILL);
    drop(step.end());
    host::until("the reaper concludes the run", || run_dir.join("results.json").exists().then_some(()));
    lab.host.assert_soon_clean();
    let by_reaper = lab.kept_by();
    assert_eq!(by_reaper.as_deref(), run_dir.file_name().unwrap().to_str());
    assert_eq!(lab.beside(), [] as [&str; 0]);

    let step = held();
    step.signal_keeper(Signal::SIGTERM);
    let results = step.end().expect_clean(0).results();
    assert_eq!(lab.kept_by().as_deref(), results["run_id"].as_str());

    let step = held();
    let run_dir = step.run_dir();
    let (keeper, worker) = (step.keeper(), step.part("worker"));
    process::signal(keeper, Signal::SIGSTOP);
    process::signal(worker, Signal::SIGKILL);
    process::signal(keeper, Signal::SIGKILL);
    drop(step.end());
    assert_eq!(lab.beside().len(), 1, "nobody is left who would conclude it");
    let swept = lab.host.command(&["cc-ci-janitor", "sweep", "--json"]).end().expect(0).json();
    // Who concludes a run also settles what it had handed on.
    assert_eq!((swept["concluded"].as_array().map(Vec::len), lab.beside().len()), (Some(1), 0), "{swept:#}");
    assert_eq!(lab.kept_by().as_deref(), run_dir.file_name().unwrap().to_str());
    lab.host.assert_clean();
}

#[test]
fn a_kept_apps_data_are_those_of_the_backup_and_not_what_somebody_did_later() {
    let lab = Lab::new();
    let later = format!("echo later >{}", mark(&lab.host));
    let _folder = Lab::folder(&lab.host).script("custom/zz_later", &later);
    let release = lab.release().args(["--keep", "100ms"]).end().expect_clean(0);
    let _folder = Lab::folder(&lab.host);
    let ended = lab.quick().end().expect_clean(0);
    let run = release.results()["run_id"].as_str().unwrap().to_owned();
    assert!(ended.log().contains(&format!("mark of {run}")), "{}", ended.log());
}

#[test]
fn a_quick_run_counts_for_no_level_no_usual_time_and_no_badge() {
    let (lab, _) = Lab::with_kept();
    let _folder = Lab::folder(&lab.host).script("custom/zz_red", "exit 1");
    let ended = lab.quick().end().expect_clean(1);
    let results = ended.results();
    assert_eq!(results["previous"], Value::Null);
    for (text, file) in [("quick: red", "badge.svg"), ("cc-ci hello (quick)", "junit.xml")] {
        assert!(ended.files_with(text).iter().any(|path| path.ends_with(file)), "{file}");
    }
    let site = lab.host.path("site").display().to_string();
    let _written = lab.host.command(&["cc-ci-run", "report", "--site", &site]).end().expect(0);
    let read = |name: &str| {
        let bytes = read_limited(&lab.host.path("site").join(name), 1 << 20).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    assert!(read("recipes/hello/badge.svg").contains("level 4"));
    let overview = read("index.html");
    assert!(overview.contains("1 of 1 recipes green") && overview.contains("oldest first: 4\""), "{overview}");
    assert!(read("recipes/hello/index.html").contains(">quick<"));
    let page = read(&format!("runs/{}/index.html", results["run_id"].as_str().unwrap()));
    assert!(page.contains("Quick run") && page.contains(RELEASE), "{page}");
}

#[test]
fn the_forge_is_told_of_a_quick_run_under_a_name_of_its_own() {
    let (lab, _) = Lab::with_kept();
    let forge = Forge::new();
    forge.enlist(&lab.host, "");
    git(&lab.host, "git checkout --quiet change");
    let head = forge::head(&lab.host);
    let _cold = lab.host.run().env("REF", &head).args(["--stages", "install"]).end().expect_clean(0);
    let _quick = lab.host.run().env("REF", &head).args(["--quick"]).end().expect_clean(0);
    let state = forge.state();
    let contexts: Vec<&str> = state.statuses.iter().filter_map(|status| status["context"].as_str()).collect();
    assert_eq!(contexts.iter().filter(|context| **context == "cc-ci/quick").count(), 2, "{contexts:?}");
    let bodies: Vec<&str> = state.comments.iter().map(|comment| comment.body.as_str()).collect();
    let [cold, quick] = bodies[..] else { panic!("a comment each: {bodies:?}") };
    assert!(cold.contains("green, level 1 of 5") && !cold.contains("quick"), "{cold}");
    assert!(quick.contains("green, a quick run") && quick.contains("nothing is to hang"), "{quick}");
}
