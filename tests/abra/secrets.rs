//! Secrets that abra generates: in the app, and nowhere else.

use std::path::{Path, PathBuf};

use ccci_core::process::Job;
use ccci_tests::abra::AbraHost;
use ccci_tests::step::Ended;
use ccci_tests::swarm::{RECIPE, daemon};

/// Has the app's container print its secret; a test of the folder sees it so.
fn show(abra: &AbraHost) -> String {
    format!(
        "id=$(docker ps --quiet --filter name=^{}_app); docker exec \"$id\" /app cat /run/secrets/token",
        abra.swarm.stack()
    )
}

pub(crate) fn the_generated_secrets_are_nowhere_in_the_runs_directory_or_output() {
    let abra = AbraHost::new();
    let seen = abra.swarm.host.path("seen");
    let script =
        format!("secret=$({}); printf %s \"$secret\" >'{}'; echo \"it is $secret\"", show(&abra), seen.display());
    // A failing test's last words are its reason, in every file of results.
    let script = format!("{script}; echo \"and again: $secret\"; exit 1");
    let _folder = abra.swarm.folder(RECIPE).script("test_install.sh", &script);
    let step = abra.run_of(RECIPE).args(["--stages", "install"]).start();
    let ended = abra.swarm.clean_end(step, 1);
    let secret = std::fs::read_to_string(&seen).unwrap();
    assert_eq!(secret.len(), 20, "the test saw it");
    assert!(files_with(&seen, &secret) == [seen.clone()], "what is there is found");
    assert_eq!(files_with(ended.run_dir.as_ref().unwrap(), &secret), [] as [PathBuf; 0]);
    assert!(!ended.out().contains(&secret) && !ended.err().contains(&secret));
    assert!(ended.log().contains("it is ***"), "{}", ended.log());
    assert_eq!(ended.results()["reason"], "install: test_install.sh: exit code 1: and again: ***");
    assert_eq!(ended.results()["flags"]["no_secret_leak"], true);
    assert!(!abra.calls().concat().contains(&secret), "on a command line everybody can read it");
}

pub(crate) fn a_generated_secret_in_the_runs_directory_makes_it_red() {
    let abra = AbraHost::new();
    let steal = format!("{} >\"$CCCI_OP_STATE_FILE\"", show(&abra));
    let _folder = abra.swarm.folder(RECIPE).script("test_install.sh", &steal);
    let step = abra.run_of(RECIPE).args(["--stages", "install"]).start();
    let ended: Ended<'_> = abra.swarm.clean_end(step, 1);
    assert_eq!(ended.results()["reason"], "a secret of the app stands in opstate");
}

pub(crate) fn a_given_secret_is_inserted_and_not_on_a_command_line() {
    let abra = AbraHost::new();
    let sample = "TYPE=pair\nDOMAIN=x\nSECRET_TOKEN_VERSION=v1 #generate=false\n";
    let repository = abra.swarm.host.path("recipes").join(RECIPE);
    std::fs::write(repository.join(".env.sample"), sample).unwrap();
    let commit = "git -c user.name=t -c user.email=t@example.com commit --quiet --all --message sample";
    Job::new("sh").args(["-c", commit]).dir(&repository).run_ok(&mut |_| {}).unwrap();
    let check = format!("test \"$({})\" = 'given by the folder'", show(&abra));
    let folder = abra.swarm.folder(RECIPE).also("[secrets]\ntoken = \"given by the folder\"");
    let _folder = folder.script("test_install.sh", &check);
    let step = abra.run_of(RECIPE).args(["--stages", "install"]).start();
    let _green = abra.swarm.clean_end(step, 0);
    let calls = abra.calls();
    assert!(calls.iter().any(|call| call.contains("app secret insert") && call.contains(" token v1 ")), "{calls:#?}");
    assert!(!calls.concat().contains("given by"), "{calls:#?}");
    assert!(!daemon().has("secret", &format!("{}_token_v1", abra.swarm.stack())));
}

/// The files under a path in which a text stands.
fn files_with(path: &Path, text: &str) -> Vec<PathBuf> {
    if path.is_dir() && !path.is_symlink() {
        let entries = std::fs::read_dir(path).unwrap();
        return entries.flat_map(|entry| files_with(&entry.unwrap().path(), text)).collect();
    }
    let bytes = std::fs::read(path).unwrap_or_default();
    let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
    if found { vec![path.to_owned()] } else { Vec::new() }
}
