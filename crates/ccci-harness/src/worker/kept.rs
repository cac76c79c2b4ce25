//! Data that outlive their app: what a quick run begins with, and what a release's run hands on.
//!
//! A quick run works on copies, in an app of its own. What is handed on is the archive that the run's own
//! restore tier has put back and tested; whether it replaces what is kept is decided when the run is over
//! ([`crate::results::promotion`]).

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use ccci_core::lock::AppLock;
use ccci_core::name::{RecipeName, RunId};
use ccci_core::rundir::RunDir;
use ccci_core::snapshot::{Origin, Shelf, Snapshot, SnapshotError, Store};
use jiff::Timestamp;

use crate::console::Console;
use crate::engine::App;
use crate::event::{Event, Handed, report};
use crate::outcome::{Outcome, Rung, Tier};
use crate::plan::{Plan, RecipeJob};
use crate::recipe::Folder;
use crate::recipe::source::{Release, Source, SourceError};

/// How long a run waits for who has the snapshot locked: a rename takes no time, a reader as long as the data.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Kept data that a quick run begins with.
#[derive(Debug)]
pub(super) struct Kept {
    /// The release that they are of.
    pub(super) release: Release,
    /// The domain that their app had.
    pub(super) domain: String,
    pub(super) secrets: BTreeMap<String, String>,
    /// An archive per volume, verified and open.
    pub(super) volumes: BTreeMap<String, File>,
}

/// The place of a run's snapshot.
pub(crate) fn shelf(plan: &Plan, job: &RecipeJob) -> Option<Shelf> {
    let recipe = RecipeName::new(&job.recipe).ok()?;
    Some(Store::new(&plan.places.state_dir).shelf(&recipe, &job.engine.to_string()))
}

/// Looks for data that a quick run can begin with, and says what it found. `Err` is why there are none.
///
/// # Errors
/// [`SourceError::Host`].
pub(super) fn look(
    plan: &Plan,
    job: &RecipeJob,
    folder: &Folder,
    source: &Source,
    dir: &RunDir,
    console: &mut Console,
) -> Result<Result<Kept, String>, SourceError> {
    report(dir, Event::Step { name: "kept data".to_owned() });
    let found = find(plan, job, folder, source, console)?;
    let (from, why) = match &found {
        Ok((kept, origin)) => {
            for secret in kept.secrets.values() {
                console.learn(secret);
            }
            let Origin { version, run_id, taken, .. } = origin;
            console.say(&format!("== quick: begins with the data of {version}, kept by run {run_id} on {taken:.0} =="));
            (Some(origin.clone()), None)
        }
        Err(why) => {
            console.say(&format!("== quick: NO KEPT DATA ARE USED, the run begins cold: {why} =="));
            (None, Some(why.clone()))
        }
    };
    if let Some(version) = job.base_version.as_ref().filter(|_| found.is_ok() || job.stages == Tier::QUICK) {
        let begins = if found.is_ok() { "with the kept data" } else { "cold" };
        console.say(&format!("== quick: --version-from {version} is not used, the run begins {begins} =="));
    }
    report(dir, Event::Quick { from, why });
    Ok(found.map(|(kept, _)| kept))
}

fn find(
    plan: &Plan,
    job: &RecipeJob,
    folder: &Folder,
    source: &Source,
    console: &mut Console,
) -> Result<Result<(Kept, Origin), String>, SourceError> {
    if !plan.settings.snapshots.keep {
        return Ok(Err("`[snapshots] keep` in the settings is false".to_owned()));
    }
    if let Some(reason) = folder.toml.not_applicable.get(&Rung::Upgrade) {
        return Ok(Err(format!("recipe.toml says that no upgrade applies: {reason}")));
    }
    if !job.stages.contains(&Tier::Upgrade) {
        return Ok(Err("the stages that were asked for have no upgrade".to_owned()));
    }
    if !folder.toml.dependencies.is_empty() {
        return Ok(Err(DEPENDS.to_owned()));
    }
    let Some(shelf) = shelf(plan, job) else { return Ok(Err(format!("{} is no recipe's name", job.recipe))) };
    let waits = &mut || console.say("== quick: the kept data are just being replaced — waiting ==");
    let snapshot = match shelf.open(PATIENCE, waits) {
        Ok(Some(snapshot)) => snapshot,
        Ok(None) => {
            return Ok(Err(format!(
                "none are kept of {} on the {} engine; a green run of a release keeps them: cc-ci-run run {} --ref VERSION",
                job.recipe, job.engine, job.recipe
            )));
        }
        Err(error) => return Ok(Err(error.to_string())),
    };
    let Snapshot { manifest, secrets, volumes } = snapshot;
    let release = source.kept(&manifest.origin.commit, &manifest.origin.version)?;
    let domain = manifest.domain;
    Ok(release.map(|release| (Kept { release, domain, secrets, volumes }, manifest.origin)))
}

const DEPENDS: &str = "the recipe has dependencies, whose data are not kept";

/// Whether a run is of the kind that hands its data on: all of a release as it is, by nobody's pull request.
pub(super) fn is_of_a_release(job: &RecipeJob, source: &Source) -> bool {
    let whole = Tier::ALL.iter().all(|tier| job.stages.contains(tier));
    // Anybody can put a tag on what they ask to be merged.
    let ours = matches!(job.pr.as_str(), "" | "0");
    !job.quick && whole && ours && source.head.released && job.extra_env.is_empty()
}

/// What the tiers leave to hand on.
#[derive(Debug)]
pub(super) struct Tested<'run> {
    pub(super) outcomes: &'run BTreeMap<Tier, Outcome>,
    pub(super) secrets: &'run BTreeMap<String, String>,
    /// The saved data, and when they were saved.
    pub(super) saved: Option<&'run (BTreeMap<String, PathBuf>, Timestamp)>,
}

/// Hands the run's saved data on, if they are worth it. What goes wrong is told, and changes no verdict.
pub(super) fn hand_on(
    plan: &Plan,
    job: &RecipeJob,
    lock: &AppLock,
    app: &App<'_>,
    source: &Source,
    tested: &Tested<'_>,
    console: &mut Console,
) {
    if !plan.settings.snapshots.keep || !is_of_a_release(job, source) {
        return;
    }
    report(app.dir, Event::Step { name: "hand data on".to_owned() });
    let handed = match candidate(plan, job, lock, app, source, tested) {
        Ok(bytes) => Handed { bytes, why: None },
        Err(why) => {
            console.say(&format!("== kept: nothing of this run: {why} =="));
            Handed { bytes: 0, why: Some(why) }
        }
    };
    report(app.dir, Event::HandedOn(handed));
}

fn candidate(
    plan: &Plan,
    job: &RecipeJob,
    lock: &AppLock,
    app: &App<'_>,
    source: &Source,
    tested: &Tested<'_>,
) -> Result<u64, String> {
    if !app.folder.toml.dependencies.is_empty() {
        return Err(DEPENDS.to_owned());
    }
    let good = |outcome: &Outcome| matches!(outcome, Outcome::Pass | Outcome::Skip { .. });
    if let Some((tier, outcome)) = tested.outcomes.iter().find(|(_, outcome)| !good(outcome)) {
        return Err(format!("{tier} is {}", outcome.word()));
    }
    let restored = [Tier::Backup, Tier::Restore].iter().all(|tier| tested.outcomes.get(tier) == Some(&Outcome::Pass));
    let Some((volumes, taken)) = tested.saved.filter(|_| restored) else {
        return Err("no backup of it was made and restored".to_owned());
    };
    let sizes = volumes.values().map(|file| file.metadata().map(|meta| meta.len()));
    let bytes: u64 = sizes.sum::<std::io::Result<u64>>().map_err(|error| format!("cannot read the backup: {error}"))?;
    let limit = plan.settings.snapshots.max_mb.get();
    if bytes > limit.saturating_mul(1 << 20) {
        return Err(format!("its data are {} MB, `[snapshots] max_mb` is {limit}", bytes >> 20));
    }
    let id = RunId::new(&plan.run_id).map_err(|error| error.to_string())?;
    let shelf = shelf(plan, job).ok_or_else(|| format!("{} is no recipe's name", job.recipe))?;
    let origin = Origin {
        version: source.head.version.clone(),
        commit: source.head.commit.clone(),
        run_id: plan.run_id.clone(),
        taken: *taken,
    };
    let make = || {
        let candidate = shelf.begin(lock, &app.domain, &id)?;
        candidate.fill(&app.domain, origin, tested.secrets, volumes)
    };
    make().map_err(|error: SnapshotError| match shelf.candidate(&app.domain, &id).discard() {
        Ok(()) => error.to_string(),
        Err(stays) => format!("{error}; {stays}"),
    })
}
