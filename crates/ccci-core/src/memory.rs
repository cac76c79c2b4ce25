//! What the janitor remembers between sweeps: which apps would not go, which substrates it has seen,
//! and running totals. It makes the janitor more patient, never bolder; losing it costs nothing but a
//! few tries. The janitor alone writes it; `cc-ci-run status` shows what is quarantined.

mod history;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use history::History;
use serde::{Deserialize, Serialize};

use crate::name::Domain;
use crate::process::read_limited;
use crate::rundir::write_atomic;

/// So many failed reaps in a row, and an app is quarantined.
const PATIENCE: u32 = 3;
/// The first back-off; it doubles with every further failure.
const BACK_OFF: Duration = Duration::from_secs(3600);
/// The longest back-off.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// A memory never gets near this; more is not ours.
const LONGEST_FILE: u64 = 4 << 20;

/// An app that would not go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Trouble {
    failures: u32,
    /// Seconds since 1970 of the last failure.
    last: u64,
}

/// The memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    trouble: BTreeMap<String, Trouble>,
    /// Substrates that answered once. One that is then not there is down, not absent.
    seen: BTreeSet<String>,
    /// Apps reaped since the memory began.
    pub reaped: u64,
    /// Reaps that failed since the memory began.
    pub failed: u64,
    /// The runs that ended since the memory began.
    pub history: History,
}

impl Memory {
    /// The file.
    #[must_use]
    pub fn file(state_dir: &Path) -> PathBuf {
        state_dir.join("janitor.json")
    }

    /// Reads it; one that is missing or broken is empty.
    #[must_use]
    pub fn load(state_dir: &Path) -> Self {
        read_limited(&Self::file(state_dir), LONGEST_FILE)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }

    /// Changes it in place, and in the file if that makes a difference. Read again first: another
    /// janitor may have written since.
    ///
    /// # Errors
    /// What the kernel says; the change is made here all the same.
    pub fn change(&mut self, state_dir: &Path, change: impl Fn(&mut Self)) -> std::io::Result<()> {
        let before = Self::load(state_dir);
        let mut after = before.clone();
        change(&mut after);
        *self = after;
        if *self == before {
            return Ok(());
        }
        std::fs::create_dir_all(state_dir)?;
        write_atomic(&Self::file(state_dir), &serde_json::to_vec_pretty(self)?)
    }

    /// How often reaping this app failed in a row.
    #[must_use]
    pub fn failures(&self, domain: &Domain) -> u32 {
        self.trouble.get(domain.as_str()).map_or(0, |trouble| trouble.failures)
    }

    /// How often reaping this app failed, while its back-off lasts.
    #[must_use]
    pub fn quarantined(&self, domain: &Domain, now: SystemTime) -> Option<u32> {
        self.back_off_left(domain, now).map(|_| self.failures(domain))
    }

    /// How long this app is still left alone; `None` when it is not quarantined.
    #[must_use]
    pub fn back_off_left(&self, domain: &Domain, now: SystemTime) -> Option<Duration> {
        let trouble = self.trouble.get(domain.as_str())?;
        let more = trouble.failures.checked_sub(PATIENCE)?;
        let back_off = BACK_OFF.saturating_mul(1 << more.min(10)).min(LONGEST);
        // A clock that was set back, or a time that cannot be, must not lengthen it.
        let gone = now.duration_since(UNIX_EPOCH).ok()?.as_secs().checked_sub(trouble.last)?;
        back_off.checked_sub(Duration::from_secs(gone)).filter(|left| !left.is_zero())
    }

    /// Remembers what became of a reap.
    pub fn note(&mut self, domain: &Domain, clean: bool, now: SystemTime) {
        if clean {
            self.reaped = self.reaped.saturating_add(1);
            self.trouble.remove(domain.as_str());
        } else {
            self.failed = self.failed.saturating_add(1);
            let trouble = self.trouble.entry(domain.to_string()).or_default();
            trouble.failures = trouble.failures.saturating_add(1);
            trouble.last = now.duration_since(UNIX_EPOCH).map_or(0, |gone| gone.as_secs());
        }
    }

    /// Remembers the substrates that answered.
    pub fn saw<'a>(&mut self, substrates: impl IntoIterator<Item = &'a str>) {
        self.seen.extend(substrates.into_iter().map(str::to_owned));
    }

    /// Substrates that answered once and are not among `present`.
    #[must_use]
    pub fn missing(&self, present: &[&str]) -> Vec<&str> {
        self.seen.iter().map(String::as_str).filter(|name| !present.contains(name)).collect()
    }

    /// Forgets apps that are no more.
    pub fn keep_only(&mut self, still_there: impl Fn(&str) -> bool) {
        self.trouble.retain(|domain, _| still_there(domain));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::BaseDomain;

    fn domain() -> Domain {
        Domain::parse("hell-012345.ci.example", &BaseDomain::new("ci.example").unwrap()).unwrap()
    }

    #[test]
    fn the_third_failure_quarantines_and_the_back_off_grows() {
        let domain = domain();
        let at = |hours: u64| UNIX_EPOCH + Duration::from_secs(1_000_000 + hours * 3600);
        let mut memory = Memory::default();
        for _ in 0..2 {
            memory.note(&domain, false, at(0));
            assert_eq!(memory.quarantined(&domain, at(0)), None);
        }
        memory.note(&domain, false, at(0));
        assert_eq!(memory.quarantined(&domain, at(0)), Some(3));
        assert_eq!(memory.back_off_left(&domain, at(0)), Some(BACK_OFF));
        assert_eq!(memory.quarantined(&domain, at(1)), None, "the back-off is over");
        memory.note(&domain, false, at(1));
        assert_eq!(memory.quarantined(&domain, at(2)), Some(4), "twice as long");
        assert_eq!(memory.quarantined(&domain, UNIX_EPOCH), None, "a clock that was set back");
        memory.note(&domain, true, at(9));
        assert_eq!(memory.quarantined(&domain, at(9)), None);
    }

    #[test]
    fn a_memory_that_cannot_be_true_does_no_harm() {
        let state = tempfile::tempdir().unwrap();
        let text = format!(
            r#"{{"trouble":{{"{}":{{"failures":4294967295,"last":18446744073709551615}}}},"reaped":18446744073709551615}}"#,
            domain()
        );
        std::fs::write(Memory::file(state.path()), text).unwrap();
        let mut memory = Memory::load(state.path());
        assert_eq!(memory.failures(&domain()), u32::MAX);
        assert_eq!(memory.quarantined(&domain(), SystemTime::now()), None);
        memory.note(&domain(), false, SystemTime::now());
        memory.note(&domain(), true, SystemTime::now());
        std::fs::write(Memory::file(state.path()), "{").unwrap();
        assert_eq!(Memory::load(state.path()), Memory::default());
    }

    #[test]
    fn two_janitors_add_up_and_nothing_new_writes_nothing() {
        let state = tempfile::tempdir().unwrap();
        let (mut one, mut two) = (Memory::load(state.path()), Memory::load(state.path()));
        one.change(state.path(), |_| {}).unwrap();
        assert!(!Memory::file(state.path()).exists());
        one.change(state.path(), |memory| memory.note(&domain(), true, SystemTime::now())).unwrap();
        two.change(state.path(), |memory| memory.note(&domain(), true, SystemTime::now())).unwrap();
        assert_eq!(Memory::load(state.path()).reaped, 2);
    }
}
