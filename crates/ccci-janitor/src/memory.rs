//! What the janitor remembers between sweeps: which apps would not go, and running totals. It makes
//! the janitor more patient, never bolder; losing it costs nothing but a few tries.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ccci_core::name::Domain;
use ccci_core::rundir::write_atomic;
use serde::{Deserialize, Serialize};

/// So many failed reaps in a row, and an app is quarantined.
const PATIENCE: u32 = 3;
/// The first back-off; it doubles with every further failure.
const BACK_OFF: Duration = Duration::from_secs(3600);
/// The longest back-off.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// An app that would not go.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Trouble {
    failures: u32,
    /// Seconds since 1970 of the last failure.
    last: u64,
}

/// The memory.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Memory {
    trouble: BTreeMap<String, Trouble>,
    /// Apps reaped since the memory began.
    pub(crate) reaped: u64,
    /// Reaps that failed since the memory began.
    pub(crate) failed: u64,
}

impl Memory {
    fn file(state_dir: &Path) -> PathBuf {
        state_dir.join("janitor.json")
    }

    /// Reads it; one that is missing or broken is empty.
    pub(crate) fn load(state_dir: &Path) -> Self {
        std::fs::read(Self::file(state_dir))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }

    /// Writes it.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn save(&self, state_dir: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(state_dir)?;
        write_atomic(&Self::file(state_dir), &serde_json::to_vec_pretty(self)?)
    }

    /// How often reaping this app failed, while its back-off lasts.
    pub(crate) fn quarantined(&self, domain: &Domain, now: SystemTime) -> Option<u32> {
        let trouble = self.trouble.get(domain.as_str())?;
        let more = trouble.failures.checked_sub(PATIENCE)?;
        let back_off = BACK_OFF.saturating_mul(1 << more.min(10)).min(LONGEST);
        let last = UNIX_EPOCH + Duration::from_secs(trouble.last);
        // A clock that was set back must not lengthen it.
        let over = now.duration_since(last).is_ok_and(|gone| gone >= back_off) || now < last;
        (!over).then_some(trouble.failures)
    }

    /// Remembers what became of a reap.
    pub(crate) fn note(&mut self, domain: &Domain, clean: bool, now: SystemTime) {
        if clean {
            self.reaped += 1;
            self.trouble.remove(domain.as_str());
        } else {
            self.failed += 1;
            let trouble = self.trouble.entry(domain.to_string()).or_default();
            trouble.failures += 1;
            trouble.last = now.duration_since(UNIX_EPOCH).map_or(0, |gone| gone.as_secs());
        }
    }

    /// Forgets apps that are no more.
    pub(crate) fn keep_only(&mut self, still_there: impl Fn(&str) -> bool) {
        self.trouble.retain(|domain, _| still_there(domain));
    }
}

#[cfg(test)]
mod tests {
    use ccci_core::name::BaseDomain;

    use super::*;

    #[test]
    fn the_third_failure_quarantines_and_the_back_off_grows() {
        let domain = Domain::parse("hell-012345.ci.example", &BaseDomain::new("ci.example").unwrap()).unwrap();
        let at = |hours: u64| UNIX_EPOCH + Duration::from_secs(1_000_000 + hours * 3600);
        let mut memory = Memory::default();
        for _ in 0..2 {
            memory.note(&domain, false, at(0));
            assert_eq!(memory.quarantined(&domain, at(0)), None);
        }
        memory.note(&domain, false, at(0));
        assert_eq!(memory.quarantined(&domain, at(0)), Some(3));
        assert_eq!(memory.quarantined(&domain, at(1)), None, "the back-off is over");
        memory.note(&domain, false, at(1));
        assert_eq!(memory.quarantined(&domain, at(2)), Some(4), "twice as long");
        assert_eq!(memory.quarantined(&domain, UNIX_EPOCH), None, "a clock that was set back");
        memory.note(&domain, true, at(9));
        assert_eq!(memory.quarantined(&domain, at(9)), None);
    }
}
