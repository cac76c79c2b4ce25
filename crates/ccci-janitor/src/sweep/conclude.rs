//! Runs that died without a result. What a run came to, and how a forge is told, only `cc-ci-run` knows: it is started
//! for each, and does its work under the claim on the run's directory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use ccci_core::name::LockName;
use ccci_core::process::{Job, find_program};
use ccci_core::rundir::unfinished::{DeadRun, Owed, dead_runs, tidy};
use ccci_core::rundir::{RunDir, file};
use ccci_core::weaken::{self, Protection};
use serde::Deserialize;

use super::Sweep;
use crate::report::Concluded;

/// The program that concludes, beside this one or on the `PATH`.
const PROGRAM: &str = "cc-ci-run";
/// The longest that it may take; telling a forge has a limit of its own.
const PATIENCE: Duration = Duration::from_secs(60);

/// As much of a result as is told.
#[derive(Debug, Deserialize)]
struct Results {
    verdict: String,
}

impl Sweep<'_> {
    /// Concludes the dead runs of a name, but for guards whose teardown is still to come.
    pub(super) fn conclude(&mut self, name: &LockName) {
        if !weaken::on(Protection::ConcludeDead) {
            return;
        }
        let dead = match dead_runs(&self.places.runs_dir, name, None) {
            Ok(dead) => dead,
            Err(error) => return self.skipped(name.to_string(), format!("cannot tell which runs of it died: {error}")),
        };
        for run in dead.iter().filter(|run| run.owed() == Owed::Conclusion) {
            let dir = run.dir().path().display().to_string();
            if self.options.dry_run {
                self.skipped(dir, format!("run {} would be concluded", run.run_id()));
                continue;
            }
            match self.conclude_run(run) {
                Ok(concluded) => self.report.concluded.extend(concluded),
                Err(error) => self.skipped(dir, format!("cannot conclude run {}: {error:#}", run.run_id())),
            }
        }
    }

    /// `None` where somebody else was faster.
    fn conclude_run(&self, run: &DeadRun) -> anyhow::Result<Option<Concluded>> {
        let name = Path::new(run.lock()).file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(receipt) = self.receipts.get(&name) {
            let Some(claimed) = run.claim()? else { return Ok(None) };
            if !claimed.dir().join(file::RECEIPT).try_exists()? {
                claimed.dir().write_json(file::RECEIPT, receipt)?;
            }
        }
        let ended = Job::new(program()?).args(["conclude".as_ref(), run.dir().path().as_os_str()]).timeout(PATIENCE);
        ended.run_ok(&mut |_| {})?;
        let guard = run.dir().read_json::<Results>(file::GUARD)?;
        let Some(results) = guard.map_or_else(|| run.dir().read_json(file::RESULTS), |own| Ok(Some(own)))? else {
            return Ok(None);
        };
        let run_dir = run.dir().path().display().to_string();
        Ok(Some(Concluded { run_id: run.run_id().to_owned(), run_dir, verdict: results.verdict }))
    }

    /// Puts right what the index of unfinished runs names and is none.
    pub(super) fn tidy(&mut self, path: &Path) {
        if !self.options.dry_run
            && let Err(error) = tidy(path)
        {
            self.skipped(path.display().to_string(), error);
        }
    }

    /// Enters a dead run of an earlier version in the index, or one that a power cut took from it.
    pub(super) fn enter(&mut self, run: &DeadRun) {
        if !self.options.dry_run
            && let Err(error) = RunDir::open(run.dir().path().to_owned()).enter(run.lock())
        {
            self.skipped(run.dir().path().display().to_string(), error);
        }
    }
}

fn program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    let beside = own.with_file_name(PROGRAM);
    match find_program(PROGRAM) {
        _ if beside.is_file() => Ok(beside),
        Some(found) => Ok(found),
        None => bail!("{PROGRAM} is neither beside {} nor on the PATH", own.display()),
    }
}
