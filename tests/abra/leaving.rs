//! Who is cancelled or killed while abra is at work, and that nothing of the app outlives its run.

use ccci_tests::abra::AbraHost;
use ccci_tests::process;
use ccci_tests::swarm::{At, RECIPE, compose, daemon};
use nix::sys::signal::Signal;

pub(crate) fn a_cancel_while_abra_deploys_ends_abra_first_and_leaves_nothing() {
    let abra = AbraHost::new();
    let gate = abra.swarm.host.gate("deploys");
    // The stack is half made, and abra would go on making it ([E7]).
    abra.swarm.hold("stack deploy", 1, At::During, &gate);
    let mut step = abra.run_of(RECIPE).start();
    gate.reached();
    step.cancel();
    let ended = step.keeper_end().expect(143);
    abra.swarm.judge_clean(&ended);
    let results = ended.results();
    let processes = results["receipt"]["processes"].as_array().unwrap();
    assert!(!processes.is_empty(), "abra was at work, and was ended before anything was removed");
}

pub(crate) fn the_workers_death_while_abra_restores_leaves_nothing() {
    let abra = AbraHost::new();
    let labelled = compose("run", "      labels: [\"backupbot.backup=true\"]");
    abra.swarm.recipe(RECIPE, &[&labelled]);
    let gate = abra.swarm.host.gate("restores");
    let _folder = abra.swarm.folder(RECIPE).script("test_restore.sh", &gate.pass());
    let step = abra.run_of(RECIPE).args(["--stages", "install,backup,restore"]).start();
    gate.reached();
    process::signal(step.part("worker"), Signal::SIGKILL);
    let _host = abra.swarm.clean_end(step, 69);
    assert!(daemon().of_stack(&abra.swarm.stack()).is_empty());
}

pub(crate) fn a_dependency_by_abra_is_up_first_and_gone_at_the_end() {
    let abra = AbraHost::new();
    abra.swarm.recipe("other", &[&compose("run", "")]);
    let host = &abra.swarm.host;
    host.settings(&format!("recipe_url = \"{}/{{recipe}}\"", host.path("recipes").display()));
    let folder = abra.swarm.folder(RECIPE).also("[[dependencies]]\nrecipe = \"other\"");
    let stack = host.domain_of("other", host.pr(), abra.swarm.domain().as_str()).stack_name();
    let up = format!("docker service inspect --format '{{{{.Spec.Name}}}}' {stack}_app");
    let _folder = folder.script("hooks/pre_install", &up);
    let step = abra.run_of(RECIPE).args(["--stages", "install"]).start();
    let ended = abra.swarm.clean_end(step, 0);
    assert!(ended.log().contains(&format!("| {stack}_app")), "not up before the app: {}", ended.log());
    assert_eq!(ended.results()["deploy_count"]["counted"], 2);
    assert!(daemon().of_stack(&stack).is_empty(), "{:?}", daemon().of_stack(&stack));
    assert!(ended.results()["receipt"].to_string().contains(&format!("{stack}_app")));
}

pub(crate) fn a_backup_that_no_test_looks_at_is_no_pass() {
    let abra = AbraHost::new();
    let labelled = compose("run", "      labels: [\"backupbot.backup=true\"]");
    abra.swarm.recipe(RECIPE, &[&labelled]);
    let start = || abra.run_of(RECIPE).args(["--stages", "install,backup,restore"]).start();
    let rung = |step| abra.swarm.clean_end(step, 0).results()["rungs"]["backup_restore"].clone();
    let results = abra.swarm.clean_end(start(), 69).results();
    assert_eq!(results["verdict"], "incomplete", "asked for, and no answer: {results:#}");
    let unseen = &results["rungs"]["backup_restore"];
    assert_eq!(unseen["outcome"], "unver", "{unseen}");
    assert!(unseen["why"].as_str().unwrap().contains("test_restore"), "{unseen}");

    let _folder = abra.swarm.folder(RECIPE).script("test_restore.sh", "true");
    assert_eq!(rung(start())["outcome"], "pass");

    let _none = abra.swarm.folder(RECIPE);
    abra.swarm.recipe(RECIPE, &[&compose("run", "")]);
    let without = rung(start());
    assert_eq!(without["outcome"], "skip");
    assert!(without["reason"].as_str().unwrap().contains("backupbot.backup"), "{without}");
}

pub(crate) fn the_previous_overlay_is_for_the_base_alone() {
    let abra = AbraHost::new();
    abra.swarm.recipe(RECIPE, &[&compose("run", ""), &compose("run", "").replace("ccci-test:1", "ccci-test:2")]);
    let overlay = |name: &str| format!("version: \"3.8\"\nservices:\n  app:\n    environment: {{WHICH: {name}}}\n");
    let which = format!(
        "docker service inspect --format '{{{{.Spec.TaskTemplate.ContainerSpec.Env}}}}' {}_app",
        abra.swarm.stack()
    );
    let _folder = abra
        .swarm
        .folder(RECIPE)
        .file("compose.ccci.yml", &overlay("head"))
        .file("previous/compose.ccci.yml", &overlay("base"))
        .script("test_install.sh", &which)
        .script("test_upgrade.sh", &which);
    let step = abra.run_of(RECIPE).args(["--stages", "install,upgrade"]).start();
    let log = abra.swarm.clean_end(step, 0).log();
    let (base, head) = (log.find("| [WHICH=base]"), log.find("| [WHICH=head]"));
    assert!(base.is_some() && head > base, "{log}");
}
