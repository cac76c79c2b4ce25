//! What the bridge has seen, kept over its end: how far it looked, what it dealt with, and what it claimed and did
//! not get done with.
//!
//! It makes a restart miss nothing. That nothing is started twice does not hang on it: that is the claim on the
//! forge. So a file that cannot be read is put aside and said, and the bridge looks back as far as it may.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ccci_core::config::forge::{Bridge, Repository};
use ccci_core::rundir::write_atomic;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::say;

/// Where it is if nobody says otherwise.
const STATE_DIR: &str = "/var/lib/cc-ci-bridge";
const FILE: &str = "seen.json";

/// How far a repository's comments are dealt with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The forge's time of the last look after which nothing was left to do.
    pub(crate) last: Timestamp,
    /// The comments that are dealt with, and when each was written; older ones are known by their time.
    pub(crate) done: BTreeMap<u64, Timestamp>,
}

/// A comment that was claimed, and whose build may have been started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) repository: Repository,
    pub(crate) pull: u64,
    pub(crate) commit: String,
}

/// What is in the file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Seen {
    repositories: BTreeMap<Repository, Place>,
    #[serde(default)]
    claims: BTreeMap<u64, Claim>,
}

/// The file.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    seen: Seen,
    /// There was one, and it could not be read.
    lost: bool,
    /// The trouble with writing it that was said last.
    trouble: Option<String>,
}

impl Ledger {
    /// Reads it where the settings, or the unit, have it.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub(crate) fn open(bridge: &Bridge) -> anyhow::Result<Self> {
        let of_unit = || std::env::var_os("STATE_DIRECTORY").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        let dir = bridge.state_dir.clone().or_else(of_unit).unwrap_or_else(|| PathBuf::from(STATE_DIR));
        Self::in_dir(&dir).with_context(|| {
            format!(
                "cannot keep what is seen in {}: give it to the bridge's user, or set bridge.state_dir",
                dir.display()
            )
        })
    }

    fn in_dir(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let path = dir.join(FILE);
        let mut ledger = Self { path, seen: Seen::default(), lost: false, trouble: None };
        match std::fs::read(&ledger.path) {
            Ok(text) => match serde_json::from_slice(&text) {
                Ok(seen) => ledger.seen = seen,
                Err(error) => ledger.put_aside(&error)?,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        // A directory that cannot be written is found out now, and not after the first build.
        write_atomic(&ledger.path, &serde_json::to_vec_pretty(&ledger.seen)?)?;
        Ok(ledger)
    }

    fn put_aside(&mut self, why: &serde_json::Error) -> io::Result<()> {
        let aside = self.path.with_extension("unreadable");
        std::fs::rename(&self.path, &aside)?;
        say(&format!("{}: {why}; it is {} now, and the bridge looks back", self.path.display(), aside.display()));
        self.lost = true;
        Ok(())
    }

    /// How far a repository was dealt with, and whether that is only not known any more.
    pub(crate) fn place(&self, repository: &Repository) -> (Option<Place>, bool) {
        (self.seen.repositories.get(repository).cloned(), self.lost)
    }

    /// Keeps it.
    pub(crate) fn keep(&mut self, repository: &Repository, place: &Place) {
        if self.seen.repositories.get(repository) != Some(place) {
            self.seen.repositories.insert(repository.clone(), place.clone());
            self.write();
        }
    }

    /// Before a comment is claimed.
    pub(crate) fn claim(&mut self, comment: u64, claim: Claim) {
        self.seen.claims.insert(comment, claim);
        self.write();
    }

    /// When it is known what became of it.
    pub(crate) fn settle(&mut self, comment: u64) {
        self.seen.claims.remove(&comment);
        self.write();
    }

    /// What was claimed by a bridge that ended before it knew what became of it.
    pub(crate) fn open_claims(&self) -> Vec<(u64, Claim)> {
        self.seen.claims.iter().map(|(comment, claim)| (*comment, claim.clone())).collect()
    }

    /// Writes it. A full disk stops no build: the claims on the forge hold all the same.
    fn write(&mut self) {
        let written = serde_json::to_vec_pretty(&self.seen)
            .map_err(io::Error::from)
            .and_then(|text| write_atomic(&self.path, &text));
        let trouble = written.err().map(|error| error.to_string());
        if let Some(why) = &trouble
            && self.trouble != trouble
        {
            say(&format!("{}: {why}; a restart now may miss a comment", self.path.display()));
        }
        self.trouble = trouble;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(second: i64) -> Place {
        Place { last: Timestamp::from_second(second).unwrap(), done: BTreeMap::from([(7, Timestamp::UNIX_EPOCH)]) }
    }

    #[test]
    fn what_was_kept_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let repository: Repository = "o/n".parse().unwrap();
        let mut ledger = Ledger::in_dir(dir.path()).unwrap();
        assert_eq!(ledger.place(&repository), (None, false));
        ledger.keep(&repository, &place(5));
        let claim = Claim { repository: repository.clone(), pull: 12, commit: "4".repeat(40) };
        ledger.claim(9, claim.clone());
        ledger.claim(10, claim.clone());
        ledger.settle(10);
        let again = Ledger::in_dir(dir.path()).unwrap();
        assert_eq!(again.place(&repository), (Some(place(5)), false));
        assert_eq!(again.open_claims(), [(9, claim)]);
    }

    #[test]
    fn one_that_cannot_be_read_is_not_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "{\"repositories\": {\"o/n\": 5").unwrap();
        let ledger = Ledger::in_dir(dir.path()).unwrap();
        assert_eq!(ledger.place(&"o/n".parse().unwrap()), (None, true));
        assert!(dir.path().join("seen.unreadable").exists());
    }
}
