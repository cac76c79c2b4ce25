//! What became of the runs that ended: how many by verdict, and how long they waited. Counted once each, from
//! the results that they left.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::rundir::{RunDir, file};

/// A result is dated when it is written and seen when it is renamed; no disk takes longer between the two.
const SETTLES: Duration = Duration::from_secs(60);

/// The runs that ended since the janitor's memory began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// How many ended with each verdict.
    pub runs: BTreeMap<String, u64>,
    /// How many had to wait for their lock.
    pub waited: u64,
    /// How long they waited, added up.
    pub waited_ms: u64,
    /// Results dated before this are counted: milliseconds since 1970.
    until: u64,
}

/// As much of `results.json` as is counted.
#[derive(Debug, Deserialize)]
struct Results {
    verdict: String,
    #[serde(default)]
    phases: Vec<Phase>,
}

#[derive(Debug, Deserialize)]
struct Phase {
    name: String,
    milliseconds: u64,
}

impl History {
    /// With what ended since the last time. `runs` are run directories, and when each last changed; `looked` is
    /// when the look at them began.
    #[must_use]
    pub fn counting<'run>(
        mut self,
        runs: impl IntoIterator<Item = (&'run Path, SystemTime)>,
        looked: SystemTime,
    ) -> Self {
        let mut counted = false;
        let until = millis(looked).saturating_sub(u64::try_from(SETTLES.as_millis()).unwrap_or(0));
        for (dir, changed) in runs {
            if !(self.until..until).contains(&millis(changed)) {
                continue;
            }
            // A run without results was killed: what it left is counted as reaped.
            let Ok(Some(results)) = RunDir::open(dir.to_owned()).read_json::<Results>(file::RESULTS) else {
                continue;
            };
            counted = true;
            *self.runs.entry(results.verdict).or_default() += 1;
            let waited = results.phases.iter().filter(|phase| phase.name == "wait").map(|phase| phase.milliseconds);
            let waited = waited.sum::<u64>();
            self.waited += u64::from(waited > 0);
            self.waited_ms = self.waited_ms.saturating_add(waited);
        }
        // Never back, or a clock that was set back would make us count again; and not for nothing, or
        // every sweep would write.
        if counted {
            self.until = self.until.max(until);
        }
        self
    }

    /// Takes the longer history. Both begin with the same one, so it has all that is in the other.
    pub fn extend_to(&mut self, other: &Self) {
        if other.until > self.until {
            self.clone_from(other);
        }
    }
}

fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_is_counted_once_and_only_when_its_result_has_settled() {
        let runs = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let run = |name: &str, text: &str, seconds_ago: u64| {
            let path = runs.path().join(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join(file::RESULTS), text).unwrap();
            (path, now - Duration::from_secs(seconds_ago))
        };
        let all = [
            run("1", r#"{"verdict": "green", "phases": [{"name": "wait", "milliseconds": 1500}]}"#, 300),
            run("2", r#"{"verdict": "red", "phases": [{"name": "wait", "milliseconds": 0}]}"#, 200),
            run("3", "{}", 200),
            run("4", r#"{"verdict": "green"}"#, 5),
        ];
        let all = || all.iter().map(|(path, changed)| (path.as_path(), *changed));
        let mut history = History::default();
        for _ in 0..2 {
            history = history.counting(all(), now);
            assert_eq!(history.runs, BTreeMap::from([("green".to_owned(), 1), ("red".to_owned(), 1)]));
        }
        assert_eq!((history.waited, history.waited_ms), (1, 1500));
        let before = history.clone();
        let later = now + Duration::from_secs(120);
        history = history.counting(all(), later);
        assert_eq!(history.runs["green"], 2);
        let again = history.clone().counting(all(), now).counting(all(), later);
        assert_eq!(again, history, "a clock that went back and forth");
        let mut other = before.clone();
        other.extend_to(&history);
        other.extend_to(&before);
        assert_eq!(other, history, "two janitors");
    }
}
