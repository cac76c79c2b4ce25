//! What to do about what was seen: a pure function. Whether an app's run is alive is not decided
//! here; the lock is asked when the action is carried out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ccci_core::config::Retention;
use ccci_core::memory::Memory;
use ccci_core::name::{BaseDomain, Domain, LockName};
use ccci_core::rundir::unfinished::{DeadRun, Owed};
use ccci_core::weaken::{self, Protection};

use crate::survey::Survey;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Ask the lock; if nobody holds it, reap the app.
    Reap(Domain),
    /// Ask the lock; if nobody holds it, end what processes a guard left, and remove the file.
    Unlink(LockName),
    /// Leave it alone and say so.
    Skip {
        /// What.
        what: String,
        /// Why.
        why: String,
    },
    /// Leave it alone until its back-off is over.
    Quarantined {
        /// Which app.
        domain: Domain,
        /// How often reaping failed.
        failures: u32,
    },
    /// Write the results of the runs of this name that died without one.
    Conclude(LockName),
    /// Enter a dead run in the index of unfinished runs, which lacks it.
    Enter(DeadRun),
    /// Put right a directory that the index names and of which nothing is owed.
    Tidy(PathBuf),
    /// Remove a dead run's directory.
    RemoveRun(PathBuf),
    /// Remove the directory of a run that was killed before it could say what it was, if it is empty.
    RemoveEmpty(PathBuf),
}

impl Action {
    /// Whether it is said when the time was over before it: what follows from another action, and what only puts the
    /// index right, is not.
    pub(crate) const fn is_counted(&self) -> bool {
        !matches!(self, Self::Conclude(_) | Self::Enter(_) | Self::Tidy(_))
    }
}

/// Decides.
pub(crate) fn plan(
    survey: &Survey,
    memory: &Memory,
    base: &BaseDomain,
    retention: &Retention,
    now: SystemTime,
) -> Vec<Action> {
    let mut actions = Vec::new();
    let odd: BTreeSet<&LockName> =
        survey.locks.iter().filter(|lock| lock.oddity.is_some()).map(|lock| &lock.name).collect();
    for lock in &survey.locks {
        if let Some(oddity) = lock.oddity {
            actions.push(Action::Skip {
                what: lock.path.display().to_string(),
                why: format!("is {oddity}, not a lock file: look at it by hand"),
            });
        }
    }
    // A source that cannot be read could hide an app, or the half of one: nothing is reaped, and no
    // lock file goes whose app may exist.
    let blind = (!survey.unreadable.is_empty() && weaken::on(Protection::FailClosed)) || survey.no_locks.is_some();
    // Without the run directories nobody can say whether a run lives whose lock file was unlinked.
    let blind = blind || survey.no_runs.is_some();
    let mut apps: Vec<&Domain> = survey.apps.keys().collect();
    // What would not go last time waits until the others have had their turn.
    apps.sort_by_key(|domain| memory.failures(domain));
    for domain in apps {
        if odd.contains(&LockName::App(domain.clone())) {
            continue;
        }
        actions.push(if blind {
            Action::Skip { what: domain.to_string(), why: "a source could not be read".to_owned() }
        } else if let Some(failures) = memory.quarantined(domain, now) {
            Action::Quarantined { domain: domain.clone(), failures }
        } else {
            Action::Reap(domain.clone())
        });
    }
    if !blind {
        for lock in survey.locks.iter().filter(|lock| lock.oddity.is_none()) {
            let has_app = matches!(&lock.name, LockName::App(domain) if survey.apps.contains_key(domain));
            if !has_app {
                actions.push(Action::Unlink(lock.name.clone()));
            }
        }
        let with_file: BTreeSet<&LockName> = survey.locks.iter().map(|lock| &lock.name).collect();
        let guards = survey.guards.iter().map(|guard| LockName::Guard(guard.clone()));
        let dead: BTreeSet<LockName> =
            survey.dead.iter().filter_map(|run| LockName::parse(run.lock(), base)).chain(guards).collect();
        let guards = dead.iter().filter(|name| matches!(name, LockName::Guard(_)) && !with_file.contains(name));
        actions.extend(guards.cloned().map(Action::Unlink));
        // Before anything is said of them: what is asked by name is asked of the index.
        actions.splice(..0, survey.unentered.iter().cloned().map(Action::Enter));
        // After their apps are gone, so that the result can say so.
        actions.extend(dead.into_iter().filter(|name| !odd.contains(name)).map(Action::Conclude));
        actions.extend(survey.stale.iter().cloned().map(Action::Tidy));
    }
    for (path, why) in &survey.odd_runs {
        actions.push(Action::Skip {
            what: path.display().to_string(),
            why: format!("cannot tell what this run left: {why}; look at it by hand, and remove it then"),
        });
    }
    actions.extend(old_runs(survey, retention, now));
    actions
}

/// Run directories beyond the retention, oldest first.
fn old_runs(survey: &Survey, retention: &Retention, now: SystemTime) -> impl Iterator<Item = Action> {
    let surplus = survey.runs.iter().filter(|run| run.planned).count().saturating_sub(retention.count.get() as usize);
    let old = |modified: SystemTime| now.duration_since(modified).unwrap_or(Duration::ZERO) > retention.age;
    let mut number = 0;
    let mut gone = Vec::new();
    let owing = survey.dead.iter().filter(|run| run.owed() == Owed::Teardown);
    let needed: BTreeSet<&Path> = owing.map(|run| run.dir().path()).collect();
    for run in &survey.runs {
        number += usize::from(run.planned);
        if needed.contains(run.path.as_path()) {
            continue;
        }
        if run.planned && (number <= surplus || old(run.modified)) {
            gone.push(Action::RemoveRun(run.path.clone()));
        } else if !run.planned && old(run.modified) {
            gone.push(Action::RemoveEmpty(run.path.clone()));
        }
    }
    gone.into_iter()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::survey::{LockFile, RunDirectory};

    fn domain(hex: &str) -> Domain {
        Domain::parse(&format!("hell-{hex}.ci.example"), &BaseDomain::new("ci.example").unwrap()).unwrap()
    }

    fn lock(hex: &str, oddity: Option<&'static str>) -> LockFile {
        LockFile { name: LockName::App(domain(hex)), path: format!("/l/{hex}").into(), oddity }
    }

    fn survey() -> Survey {
        Survey {
            apps: [
                (domain("000001"), ["local"].into()),
                (domain("000002"), ["local"].into()),
                (domain("000003"), ["local"].into()),
            ]
            .into(),
            locks: vec![lock("000001", None), lock("000003", Some("a symlink")), lock("000004", None)],
            ..Survey::default()
        }
    }

    fn base() -> BaseDomain {
        BaseDomain::new("ci.example").unwrap()
    }

    fn decide(survey: &Survey) -> Vec<Action> {
        plan(survey, &Memory::default(), &base(), &Retention::default(), SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn apps_are_put_to_the_lock_and_files_without_an_app_go() {
        let actions = decide(&survey());
        assert!(actions.contains(&Action::Reap(domain("000001"))));
        assert!(actions.contains(&Action::Reap(domain("000002"))), "no lock file at all");
        assert!(actions.contains(&Action::Unlink(LockName::App(domain("000004")))));
        assert!(!actions.contains(&Action::Reap(domain("000003"))), "its lock file is odd");
        assert_eq!(actions.len(), 4, "{actions:?}");
    }

    #[test]
    fn what_would_not_go_comes_last() {
        let mut memory = Memory::default();
        memory.note(&domain("000001"), false, SystemTime::UNIX_EPOCH);
        let actions = plan(&survey(), &memory, &base(), &Retention::default(), SystemTime::UNIX_EPOCH);
        let reaps: Vec<_> = actions.iter().filter(|action| matches!(action, Action::Reap(_))).collect();
        assert_eq!(reaps, [&Action::Reap(domain("000002")), &Action::Reap(domain("000001"))]);
    }

    #[test]
    fn an_unreadable_source_stops_everything_that_it_could_hide() {
        let blind = |change: fn(&mut Survey)| {
            let mut survey = survey();
            change(&mut survey);
            decide(&survey)
        };
        for actions in [
            blind(|survey| survey.unreadable.push("swarm: no answer".to_owned())),
            blind(|survey| survey.no_locks = Some("gone".to_owned())),
            blind(|survey| survey.no_runs = Some("permission denied".to_owned())),
        ] {
            assert!(actions.iter().all(|action| matches!(action, Action::Skip { .. })), "{actions:?}");
        }
    }

    #[test]
    fn runs_beyond_age_or_count_go_oldest_first() {
        let hours = |n: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(n * 3600);
        let runs: Vec<_> = (0..5)
            .map(|n| RunDirectory {
                path: format!("/r/{n}").into(),
                modified: hours(n),
                planned: true,
                concluded: true,
            })
            .collect();
        let survey = Survey { runs, ..Survey::default() };
        let gone = |age: u64, count| {
            let retention = Retention { age: Duration::from_secs(age * 3600), count: NonZeroU32::new(count).unwrap() };
            plan(&survey, &Memory::default(), &base(), &retention, hours(5)).len()
        };
        assert_eq!(gone(100, 3), 2);
        assert_eq!(gone(3, 100), 2);
        assert_eq!(gone(100, 100), 0);
    }
}
