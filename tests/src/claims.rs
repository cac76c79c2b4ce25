//! Suites whose claims share a daemon: one process, a claim is `file::name`, arguments as of any Rust test.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// The claims of files, by name: `claims! { file: claim, claim; file: claim; }`.
#[macro_export]
macro_rules! claims {
    ($($file:ident: $($claim:ident),+;)+) => {
        vec![$($($crate::claims::claim(concat!(stringify!($file), "::", stringify!($claim)), $file::$claim)),+),+]
    };
}

/// One claim: it holds unless it panics.
pub fn claim(name: impl Into<String>, check: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, || {
        check();
        Ok(())
    })
}

/// Runs the claims that the arguments choose, so many beside each other unless they say otherwise.
#[must_use]
pub fn run(claims: Vec<Trial>, beside_each_other: usize) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(beside_each_other));
    libtest_mimic::run(&arguments, claims).exit_code()
}
