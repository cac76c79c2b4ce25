//! What a quick run on Swarm comes to, alike for each engine that deploys there.

use std::fs;
use std::time::Duration;

use ccci_core::name::RecipeName;
use ccci_core::process::Job;
use ccci_core::snapshot::Store;
use serde_json::{Value, json};

use crate::binaries;
use crate::step::{Ended, Launch};
use crate::swarm::{SwarmHost, daemon};

/// The example's newest release.
const RELEASE: &str = "0.1.0+1.1.0";

/// Asks the app, in the name of who knows the kept secret, which stands in no file of the run.
const WITH_THE_TOKEN: &str = r#"host_port=${CCCI_BASE_URL#http://}
exec 3<>"/dev/tcp/${host_port%:*}/${host_port##*:}"
printf 'DELETE /entries HTTP/1.0\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n' "$CCCI_APP_DOMAIN" "$(cat @@)" >&3
read -r _ status _ <&3
test "$status" = 200"#;

/// Has the example's newest release kept by a run of it, and quick runs of a change to it begin with its data.
pub fn begins_with_kept_data<'host>(swarm: &'host SwarmHost, engine: &str, run: impl Fn() -> Launch<'host>) {
    let host = &swarm.host;
    let repository = host.recipe("hello");
    let branch = format!("release-{}", host.pr());
    let commit = "git -c user.name=t -c user.email=t@example.com commit --quiet --message change";
    let script = format!(
        "git branch {branch} {RELEASE} && git checkout --quiet -b change && echo x >note && git add note && {commit} \
         && git checkout --quiet main"
    );
    Job::new("sh").args(["-ec", &script]).dir(&repository).run_ok(&mut |_| {}).unwrap();
    let folder = host.folder("hello");
    let example = binaries::workspace().join("tests/recipes/hello");
    let copy = Job::new("cp").args(["-R".as_ref(), example.join(".").as_os_str(), folder.path().as_os_str()]);
    copy.run_ok(&mut |_| {}).unwrap();

    let shelf = Store::new(&host.path("state")).shelf(&RecipeName::new("hello").unwrap(), engine);
    let kept = || shelf.open(Duration::ZERO, &mut || {}).unwrap();
    let clean = |ended: &Ended<'_>, pr, reference: &str| {
        swarm.judge_clean(ended);
        let stack = host.domain_of("hello", pr, reference).stack_name();
        assert!(daemon().of_stack(&stack).is_empty(), "{:?}", daemon().of_stack(&stack));
    };
    let release = run().env("PR", "0").env("REF", &branch).end().expect(0);
    clean(&release, 0, &branch);
    let results = release.results();
    assert_eq!(results["kept"]["promoted"], true, "{:#}", results["kept"]);
    let snapshot = kept().unwrap();
    assert_eq!(snapshot.manifest.volumes.keys().collect::<Vec<_>>(), ["data"], "by a name that any stack knows");

    let token = host.path("token");
    fs::write(&token, &snapshot.secrets["admin_token"]).unwrap();
    let asks = WITH_THE_TOKEN.replace("@@", &format!("'{}'", token.display()));
    let _folder = folder.script("custom/zz_token.sh", &format!("exec bash -ec '{}'", asks.replace('\'', "'\\''")));
    let ended = run().env("REF", "change").args(["--quick"]).end().expect(0);
    clean(&ended, host.pr(), "change");
    let results = ended.results();
    assert_eq!(results["quick"]["from"]["run_id"], release.results()["run_id"]);
    assert_eq!((&results["upgraded_from"], &results["deploy_count"]["counted"]), (&json!(RELEASE), &json!(1)));
    // The example's upgrade test reads what its install test wrote, which was in the release's run alone.
    let stages = results["stages"].as_array().unwrap();
    let upgrade = stages.iter().find(|stage| stage["tier"] == "upgrade").unwrap();
    assert_eq!(upgrade["outcome"], "pass", "{upgrade:#}");
    assert!(upgrade["tests"].to_string().contains("test_upgrade.sh"), "{upgrade:#}");
    assert!(!results["stages"].to_string().contains("test_install.sh"), "{:#}", results["stages"]);
    assert_eq!(ended.files_with(&snapshot.secrets["admin_token"]), [] as [String; 0]);
    assert_eq!(results["flags"]["no_secret_leak"], true);
    assert_eq!(kept().unwrap().manifest, snapshot.manifest, "every byte is as it was");
    assert_eq!(results["kept"], Value::Null);
}
