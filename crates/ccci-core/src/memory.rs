//! What the janitor remembers between sweeps: which apps would not go, which substrates it has seen,
//! and running totals. It makes the janitor more patient, never bolder; losing it costs nothing but a
//! few tries. The janitor alone writes it; `cc-ci-run status` shows what is quarantined.

mod history;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
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

    /// Reads it; one that is missing is empty.
    ///
    /// # Errors
    /// When it is there and cannot be read or understood.
    pub fn load(state_dir: &Path) -> std::io::Result<Self> {
        match read_limited(&Self::file(state_dir), LONGEST_FILE) {
            Ok(text) => serde_json::from_slice(&text).map_err(std::io::Error::other),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Puts one that cannot be understood aside, so that the next sweep begins a new one. Where it is then.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn put_aside(state_dir: &Path) -> std::io::Result<PathBuf> {
        let _alone = Self::alone(state_dir)?;
        let aside = state_dir.join("janitor.json.broken");
        std::fs::rename(Self::file(state_dir), &aside)?;
        Ok(aside)
    }

    /// Excludes other janitors until it is dropped: they have a lock on the directory itself.
    fn alone(state_dir: &Path) -> std::io::Result<File> {
        std::fs::create_dir_all(state_dir)?;
        let dir = File::open(state_dir)?;
        fs2::FileExt::lock_exclusive(&dir)?;
        Ok(dir)
    }

    /// Changes it in place, and in the file if that makes a difference. Read again first, under a lock: another
    /// janitor may have written since.
    ///
    /// # Errors
    /// What the kernel says; the change is made here all the same.
    pub fn change(&mut self, state_dir: &Path, change: impl Fn(&mut Self)) -> std::io::Result<()> {
        let read = Self::alone(state_dir).and_then(|alone| Ok((alone, Self::load(state_dir)?)));
        let (_alone, before) = match read {
            Ok(read) => read,
            Err(error) => {
                change(self);
                return Err(error);
            }
        };
        let mut after = before.clone();
        change(&mut after);
        *self = after;
        if *self == before {
            return Ok(());
        }
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
        let mut memory = Memory::load(state.path()).unwrap();
        assert_eq!(memory.failures(&domain()), u32::MAX);
        assert_eq!(memory.quarantined(&domain(), SystemTime::now()), None);
        memory.note(&domain(), false, SystemTime::now());
        memory.note(&domain(), true, SystemTime::now());
        std::fs::write(Memory::file(state.path()), "{").unwrap();
        assert!(Memory::load(state.path()).is_err(), "unreadable is not empty");
        Memory::put_aside(state.path()).unwrap();
        assert_eq!(Memory::load(state.path()).unwrap(), Memory::default());
    }

    #[test]
    fn two_janitors_add_up_and_nothing_new_writes_nothing() {
        let state = tempfile::tempdir().unwrap();
        let (mut one, mut two) = (Memory::load(state.path()).unwrap(), Memory::load(state.path()).unwrap());
        one.change(state.path(), |_| {}).unwrap();
        assert!(!Memory::file(state.path()).exists());
        one.change(state.path(), |memory| memory.note(&domain(), true, SystemTime::now())).unwrap();
        two.change(state.path(), |memory| memory.note(&domain(), true, SystemTime::now())).unwrap();
        assert_eq!(Memory::load(state.path()).unwrap().reaped, 2);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut own = Memory::default();
                    for _ in 0..25 {
                        own.change(state.path(), |memory| memory.note(&domain(), true, SystemTime::now())).unwrap();
                    }
                });
            }
        });
        assert_eq!(Memory::load(state.path()).unwrap().reaped, 102, "at the same moment too");
    }
}
