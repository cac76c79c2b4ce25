//! Hosts whose runs deploy by abra onto the shared Swarm: by the real one where `CCCI_TEST_ABRA` names it,
//! else by the stand-in `tests/abra/abra`, which shows only that cc-ci agrees with `docs/abra.md`.

use std::path::PathBuf;

use crate::binaries;
use crate::step::Launch;
use crate::swarm::SwarmHost;

/// The variable with the path of a real abra.
pub const REAL_VAR: &str = "CCCI_TEST_ABRA";

/// The abra that the tests use.
#[must_use]
pub fn program() -> PathBuf {
    let real = std::env::var_os(REAL_VAR).filter(|path| !path.is_empty());
    real.map_or_else(|| binaries::workspace().join("tests/abra/abra"), PathBuf::from)
}

/// A host with abra.
#[derive(Debug)]
pub struct AbraHost {
    /// All the rest of it.
    pub swarm: SwarmHost,
}

impl AbraHost {
    /// A host with abra first on the `PATH`, which writes down how it is called.
    #[must_use]
    pub fn new() -> Self {
        let swarm = SwarmHost::new();
        let (journal, abra) = (swarm.host.path("abra-calls"), program());
        // The real one keeps no journal, so its caller does.
        swarm.host.program(
            "abra",
            &format!(
                "t=pipe; [ -t 0 ] && [ -t 1 ] && t=terminal; echo \"$t $*\" >>'{}'\nexec '{}' \"$@\"",
                journal.display(),
                abra.display()
            ),
        );
        Self { swarm }
    }

    /// A step that runs a recipe by abra.
    #[must_use]
    pub fn run_of(&self, recipe: &str) -> Launch<'_> {
        self.swarm.run_of(recipe).env("CCCI_ENGINE", "abra")
    }

    /// How abra was called, in order: `pipe` or `terminal`, and the words.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.swarm.host.path("abra-calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl Default for AbraHost {
    fn default() -> Self {
        Self::new()
    }
}
