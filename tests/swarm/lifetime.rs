//! Who dies when, and that nothing of the app outlives its run.

use ccci_tests::claims::claim;
use ccci_tests::host;
use ccci_tests::process::{self, wait_gone};
use ccci_tests::step::Step;
use ccci_tests::swarm::{At, RECIPE, SAVED, SwarmHost, compose};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

/// A moment of a run on Swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// `docker stack deploy` is at work: the stack is half made.
    Deploy,
    /// The new version was handed over: Swarm replaces the tasks.
    Upgrade,
    /// A hook quiesces the app for its backup.
    Backup,
    /// The services are scaled to nothing, the volumes about to be put back.
    Restore,
    /// A test of the recipe's own.
    Custom,
    /// The services are removed, a stubborn container is still there.
    Teardown,
}

/// What is claimed of a moment.
type Check = fn(Moment);

const MOMENTS: [Moment; 6] =
    [Moment::Deploy, Moment::Upgrade, Moment::Backup, Moment::Restore, Moment::Custom, Moment::Teardown];

/// Every claim at every moment.
pub(crate) fn claims() -> Vec<Trial> {
    let claims: [(&str, Check); 4] = [
        ("a_term_leaves_nothing", terminated),
        ("the_steps_sigkill_leaves_nothing", cancelled),
        ("the_keepers_sigkill_leaves_nothing", keeper_killed),
        ("the_workers_sigkill_leaves_nothing", worker_killed),
    ];
    let at_all = |(name, check): (&'static str, Check)| {
        MOMENTS.map(|moment| claim(format!("lifetime::{name}_{moment:?}").to_lowercase(), move || check(moment)))
    };
    let mut all: Vec<Trial> = claims.into_iter().flat_map(at_all).collect();
    all.push(claim("lifetime::what_left_its_session_makes_nothing_anew_during_the_teardown", persistent));
    all.push(claim("lifetime::the_deadline_ends_a_deploy_and_leaves_nothing", deadline));
    all
}

/// Starts a run and waits until it stands at its moment; what to open for it to go on.
fn at(moment: Moment, swarm: &SwarmHost) -> (Step<'_>, ccci_tests::gate::Gate) {
    let gate = swarm.host.gate("moment");
    let stages = match moment {
        Moment::Deploy => {
            swarm.hold("stack deploy", 1, At::During, &gate);
            "install"
        }
        Moment::Upgrade => {
            let new = compose("run", "").replace("ccci-test:1", "ccci-test:2");
            swarm.recipe(RECIPE, &[&compose("run", ""), &new]);
            swarm.hold("stack deploy", 2, At::After, &gate);
            "install,upgrade"
        }
        Moment::Backup => {
            drop(swarm.folder(RECIPE).script("hooks/pre_backup", &gate.pass()));
            "install,backup"
        }
        Moment::Custom => {
            drop(swarm.folder(RECIPE).script("custom/test.sh", &gate.pass()));
            "install,custom"
        }
        Moment::Restore => {
            swarm.hold("service scale", 1, At::After, &gate);
            "install,backup,restore"
        }
        Moment::Teardown => {
            swarm.recipe(RECIPE, &[&compose("stubborn", SAVED)]);
            "install"
        }
    };
    let step = swarm.run().args(["--stages", stages]).start();
    let _now = (step.keeper(), step.run_dir());
    if moment == Moment::Teardown {
        step.says("== teardown ==");
        host::until("the services are removed", || {
            let left = ccci_tests::swarm::daemon().of_stack(&swarm.stack());
            (!left.iter().any(|line| line.starts_with("service "))).then_some(())
        });
    } else {
        gate.reached();
    }
    (step, gate)
}

/// SIGTERM to the keeper alone.
fn terminated(moment: Moment) {
    let swarm = SwarmHost::new();
    let (step, _gate) = at(moment, &swarm);
    step.signal_keeper(Signal::SIGTERM);
    if moment == Moment::Teardown {
        let ended = swarm.clean_end(step, 0);
        assert!(ended.log().contains("during teardown: noted"), "{}", ended.log());
    } else {
        assert_eq!(swarm.clean_end(step, 143).results()["verdict"], "cancelled");
    }
}

/// SIGKILL to the step's shell, workspace and home deleted at once.
fn cancelled(moment: Moment) {
    let swarm = SwarmHost::new();
    let (mut step, _gate) = at(moment, &swarm);
    step.cancel();
    let ended = step.keeper_end().expect(if moment == Moment::Teardown { 0 } else { 143 });
    swarm.judge_clean(&ended);
    if moment != Moment::Teardown {
        assert_eq!(ended.results()["cause"]["cause"], "parent_died");
    }
}

/// SIGKILL to the keeper: what is left of the run tears down under the same lock, and concludes.
fn keeper_killed(moment: Moment) {
    let swarm = SwarmHost::new();
    let (step, _gate) = at(moment, &swarm);
    let worker = step.part(if moment == Moment::Teardown { "reaper" } else { "worker" });
    let _known = step.run_dir();
    step.signal_keeper(Signal::SIGKILL);
    assert!(wait_gone(worker, host::limit()), "the reaper does not finish");
    let ended = step.end().expect(128 + 9);
    assert_eq!(ended.results()["cause"]["cause"], "keeper_died");
    swarm.judge_clean(&ended);
}

/// SIGKILL to the worker, or the reaper that it became: the keeper starts a reaper.
fn worker_killed(moment: Moment) {
    let swarm = SwarmHost::new();
    let (step, _gate) = at(moment, &swarm);
    process::signal(step.part(if moment == Moment::Teardown { "reaper" } else { "worker" }), Signal::SIGKILL);
    let ended = swarm.clean_end(step, if moment == Moment::Teardown { 0 } else { 69 });
    assert!(ended.log().contains("starting a reaper"), "{}", ended.log());
}

fn deadline() {
    let swarm = SwarmHost::new();
    let gate = swarm.host.gate("moment");
    swarm.hold("stack deploy", 1, At::After, &gate);
    let step = swarm.run().args(["--deadline", "2s"]).start();
    let ended = swarm.clean_end(step, 142);
    assert!(ended.log().contains("== run exceeded 2s hard deadline — tearing down =="), "{}", ended.log());
    assert_eq!(ended.results()["cause"]["cause"], "deadline");
}

/// A descendant in a session of its own, deaf to SIGTERM, that makes a part of the app over and over.
fn persistent() {
    let swarm = SwarmHost::new();
    swarm.host.settings("grace = \"200ms\"\nteardown_budget = \"60s\"\n");
    let volume = format!("{}_again", swarm.stack());
    let gate = swarm.host.gate("away");
    let make = format!("trap \"\" TERM; while docker volume create {volume}; do :; done");
    let away = format!("setsid sh -c '{make}' >/dev/null 2>&1 &\n{}", gate.pass());
    let _folder = swarm.folder(RECIPE).script("test_install.sh", &away);
    let step = swarm.run().args(["--stages", "install"]).start();
    gate.reached();
    host::until("it is at work", || ccci_tests::swarm::daemon().has("volume", &volume).then_some(()));
    step.signal_keeper(Signal::SIGTERM);
    let ended = swarm.clean_end(step, 143);
    assert!(ended.results()["receipt"]["removed"].to_string().contains(&volume));
}
