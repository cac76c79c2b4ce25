//! Earlier runs, read from the results that they left: what the next one is measured against, and what
//! the site of a host is made of.
//!
//! There is no record besides the run directories, so there is nothing that could disagree with them,
//! and what retention removes is forgotten.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ccci_core::process::read_limited;
use ccci_core::rundir::file;
use serde::{Deserialize, Serialize};

use crate::outcome::Verdict;
use crate::results::{OLDEST_SCHEMA, Previous, Results, SCHEMA};

/// No result gets near this; more is not ours.
const LONGEST_FILE: u64 = 16 << 20;
/// So many green runs of a recipe say how long the next will take.
const ENOUGH: usize = 9;
/// So many results are looked at for them: a run must not be late because a host has a long memory.
const AT_MOST: usize = 200;

/// A run that has ended.
#[derive(Debug)]
pub(crate) struct Past {
    /// Its directory.
    pub(crate) dir: PathBuf,
    /// What it came to.
    pub(crate) results: Results,
}

impl Past {
    /// The last run of the same recipe that tells of a level, if this one does too.
    pub(crate) fn before(results: &Results, runs_dir: &Path) -> Option<Previous> {
        let same = |past: &Self| {
            past.results.tells_level() && past.results.recipe == results.recipe && past.results.run_id != results.run_id
        };
        // One that tells of none need not read what others left.
        if !results.tells_level() {
            return None;
        }
        let before = runs(runs_dir).ok()?.take(AT_MOST).find(same)?;
        Some(Previous { run_id: before.results.run_id, level: before.results.level })
    }
}

/// The runs whose results are in `runs_dir`, the one that ended last first. What is no result of a
/// version that we know is passed over.
///
/// # Errors
/// When the directory is there and cannot be listed.
pub(crate) fn runs(runs_dir: &Path) -> std::io::Result<impl Iterator<Item = Past> + use<>> {
    let entries = match std::fs::read_dir(runs_dir) {
        Ok(entries) => entries.collect::<Result<Vec<_>, _>>()?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut ended: Vec<(SystemTime, PathBuf)> = entries
        .into_iter()
        .filter_map(|entry| {
            let written = entry.path().join(file::RESULTS).metadata().ok()?.modified().ok()?;
            Some((written, entry.path()))
        })
        .collect();
    ended.sort_by(|one, other| other.cmp(one));
    Ok(ended.into_iter().filter_map(|(_, dir)| read(dir)))
}

fn read(dir: PathBuf) -> Option<Past> {
    let bytes = read_limited(&dir.join(file::RESULTS), LONGEST_FILE).ok()?;
    let results = serde_json::from_slice::<Results>(&bytes)
        .inspect_err(|error| tracing::debug!(dir = %dir.display(), %error, "passed over a result"))
        .ok()?;
    (OLDEST_SCHEMA..=SCHEMA).contains(&results.schema).then_some(Past { dir, results })
}

/// How long each phase usually takes: the median of earlier green runs, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Expected(BTreeMap<String, u64>);

impl Expected {
    /// What the last green runs of this recipe on this engine took. A host that cannot tell has no
    /// expectations, which costs a run nothing.
    pub(crate) fn of(runs_dir: &Path, recipe: &str, engine: &str) -> Self {
        let same = |past: &Past| {
            let results = &past.results;
            // A quick run does less, and what it does takes another time.
            results.verdict == Verdict::Green
                && results.quick.is_none()
                && results.recipe == recipe
                && results.engine == engine
        };
        match runs(runs_dir) {
            Ok(runs) => Self::from_runs(runs.take(AT_MOST).filter(same).take(ENOUGH)),
            Err(error) => {
                tracing::debug!(%error, "no expectations");
                Self::default()
            }
        }
    }

    fn from_runs(runs: impl Iterator<Item = Past>) -> Self {
        let mut times: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for past in runs {
            // Whom the run waited for says nothing about the next one's wait.
            for phase in past.results.phases.into_iter().filter(|phase| phase.name != "wait") {
                times.entry(phase.name).or_default().push(phase.milliseconds);
            }
        }
        Self(times.into_iter().map(|(name, times)| (name, median(times))).collect())
    }

    /// How long this phase usually takes.
    pub(crate) fn phase(&self, name: &str) -> Option<Duration> {
        self.0.get(name).copied().map(Duration::from_millis)
    }
}

/// The value in the middle; of two, the smaller.
pub(crate) fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_run_does_not_change_what_is_usual() {
        assert_eq!(median(vec![5, 900, 3]), 5);
        assert_eq!(median(vec![4, 1, 2, 3]), 2);
        assert_eq!(median(Vec::new()), 0);
    }
}
