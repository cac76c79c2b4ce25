//! Lifetimes: who dies when, and that the app never outlives its run.

use std::fs;

use ccci_tests::host::{Host, until};
use ccci_tests::moment::{self, Moment};
use ccci_tests::process::{self, wait_gone};
use nix::sys::signal::Signal;

/// A test per moment, for each of these claims.
macro_rules! at_every_moment {
    ($($moment:ident),* $(,)?) => { at_every_moment! { @ [$($moment)*]
        the_keepers_sigkill_leaves_nothing keeper_killed,
        the_workers_sigkill_leaves_nothing worker_killed,
        a_cancel_leaves_nothing cancelled,
    } };
    (@ $moments:tt $($claim:ident $check:ident),* $(,)?) => { $( at_every_moment! { % $claim $check $moments } )* };
    (% $claim:ident $check:ident [$($moment:ident)*]) => {
        mod $claim {
            $( #[test] #[expect(non_snake_case, reason = "named after the moment")] fn $moment() {
                super::$check(ccci_tests::moment::Moment::$moment);
            } )*
        }
    };
}

at_every_moment![Fetch, PreInstall, InstallSteps, Install, PreUpgrade, PreBackup, PreRestore, Custom, Keep, Teardown];

/// SIGKILL to the keeper: what is left of the run tears down under the same lock, and concludes.
fn keeper_killed(moment: Moment) {
    let host = Host::new();
    let held = moment.prepare(&host);
    let mut step = held.start(&host);
    let worker = step.part(if moment == Moment::Teardown { "reaper" } else { "worker" });
    let run_dir = step.run_dir();
    step.signal_keeper(Signal::SIGKILL);
    held.open();
    assert!(wait_gone(worker, ccci_tests::host::limit()), "the reaper does not finish");
    let ended = step.end();
    assert_eq!(ended.code, 128 + 9, "the shell reports its child's end");
    assert_eq!(ended.run_dir.as_deref(), Some(run_dir.as_path()));
    let results = ended.results();
    assert_eq!(results["verdict"], "cancelled");
    assert_eq!(results["cause"]["cause"], "keeper_died");
    assert_eq!(results["flags"]["clean_teardown"], true, "{results:#}");
    host.assert_clean();
}

/// SIGKILL to the worker (or the reaper that it became): the keeper starts a reaper.
fn worker_killed(moment: Moment) {
    let host = Host::new();
    let held = moment.prepare(&host);
    let step = held.start(&host);
    let part = step.part(if moment == Moment::Teardown { "reaper" } else { "worker" });
    process::signal(part, Signal::SIGKILL);
    held.open();
    // A worker that had done its work before its reaper died has a result of its own.
    let ended = step.end().expect_clean(if moment == Moment::Teardown { 0 } else { 69 });
    let results = ended.results();
    assert_eq!(results["flags"]["clean_teardown"], true, "{results:#}");
    assert!(ended.log().contains("starting a reaper"), "{}", ended.log());
}

/// The CI's own cancel: SIGKILL to the shell, workspace and home deleted at once.
fn cancelled(moment: Moment) {
    let host = Host::new();
    let held = moment.prepare(&host);
    let mut step = held.start(&host);
    step.cancel();
    if moment == Moment::Teardown {
        step.says("during teardown: noted");
        held.open();
        let results = step.keeper_end().expect(0).results();
        assert_eq!(results["verdict"], "green", "the work was done when the cancel came");
    } else {
        let results = step.keeper_end().expect(143).results();
        assert_eq!(results["verdict"], "cancelled");
        assert_eq!(results["cause"]["cause"], "parent_died");
        assert_eq!(results["flags"]["clean_teardown"], true, "{results:#}");
    }
    host.assert_clean();
}
