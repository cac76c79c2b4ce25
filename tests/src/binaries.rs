//! The binaries under test: freshly built, or the ones that `CCCI_TEST_BIN_DIR` names.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ccci_core::process::Job;

/// The directory with other binaries to test, such as a build with a protection switched off.
pub const BIN_DIR_VAR: &str = "CCCI_TEST_BIN_DIR";

/// Where `cc-ci-run` and its like are; built once per test process, so that no test ever passes
/// against yesterday's.
pub fn dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        if let Some(dir) = std::env::var_os(BIN_DIR_VAR) {
            return PathBuf::from(dir);
        }
        let dir = beside_the_test();
        let profile = match dir.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(other) => other,
        };
        let built = Job::new(env!("CARGO"))
            .args(["build", "--quiet", "--workspace", "--bins", "--profile", profile, "--manifest-path"])
            .args([workspace().join("Cargo.toml")])
            .args(["--target-dir".as_ref(), dir.parent().unwrap().as_os_str()])
            .without_env(|key| key.starts_with("CARGO_PKG_") || key.starts_with("CCCI_"))
            .run_ok(&mut |_| {});
        if let Err(error) = built {
            panic!("the binaries under test cannot be built: {error}");
        }
        dir
    })
}

/// A program under test.
pub fn program(name: &str) -> PathBuf {
    dir().join(name)
}

/// The workspace's folder.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The target directory's profile folder that this test was built into.
fn beside_the_test() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let mut dir = test.parent().unwrap();
    if dir.ends_with("deps") {
        dir = dir.parent().unwrap();
    }
    dir.to_owned()
}
