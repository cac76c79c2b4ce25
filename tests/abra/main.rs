//! `cc-ci-run run --engine abra` on a real Swarm, and what recipe maintainers expect of it.
//!
//! The abra is a stand-in wherever the real one cannot be had ([`ccci_tests::abra`]); Docker, Swarm, git and
//! the deploys are real. Otherwise as the `swarm` suite: one Docker for all claims, run beside each other.

#![expect(clippy::unwrap_used, reason = "a test that cannot do its work fails")]

mod whole;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// How many claims run at once, unless the caller says.
const BESIDE_EACH_OTHER: usize = 8;

macro_rules! claims {
    ($($file:ident: $($claim:ident),+;)+) => {
        vec![$($(Trial::test(concat!(stringify!($file), "::", stringify!($claim)), || {
            $file::$claim();
            Ok(())
        })),+),+]
    };
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(BESIDE_EACH_OTHER));
    let claims = claims! {
        whole: a_recipe_goes_through_every_tier_by_abra_and_leaves_nothing,
            a_release_is_deployed_pinned_and_the_head_by_chaos;
    };
    libtest_mimic::run(&arguments, claims).exit_code()
}
