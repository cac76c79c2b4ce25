//! What tests and hooks find around them: environment, log files, state files.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use ccci_core::process::{Finished, Job as Process, is_the_steps_own, programs};
use ccci_core::weaken::{self, Protection};

use super::Stages;
use crate::console::Console;
use crate::engine::{App, EngineError};
use crate::event::{Event, report};

/// The state files of a run, and the variables that name them.
const STATE_FILES: [(&str, &str); 4] = [
    ("CCCI_DEPLOY_COUNT_FILE", "deploys"),
    ("CCCI_OP_STATE_FILE", "opstate"),
    ("CCCI_DEPS_FILE", "deps"),
    ("CCCI_DEP_SKIP_FILE", "depskip"),
];

impl Stages<'_> {
    /// Runs a hook, if the test folder has it.
    pub(super) fn hook(&mut self, name: &str) -> Result<(), EngineError> {
        let Some(path) = self.app.folder.hook(name) else { return Ok(()) };
        self.step(&format!("hook {name}"));
        self.console.say(&format!("   hook {name}"));
        let log = self.log_file(&format!("hooks/{name}"))?;
        let hook = without_the_steps_secrets(Process::new(path), &self.app.folder.toml.tests.environment);
        let hook = hook.env(self.env()?).dir(&self.app.folder.path).timeout(self.app.folder.toml.timeouts.test);
        let done = logged(&hook, log, self.console);
        done.map(drop).map_err(|error| match error.is_the_hosts() {
            true => EngineError::Host(format!("hook {name}: {error}")),
            false => EngineError::Recipe(format!("hook {name}: {error}")),
        })
    }

    /// A fresh log file for a test or hook.
    pub(super) fn log_file(&self, name: &str) -> Result<std::fs::File, EngineError> {
        let path = self.app.dir.join("logs").join(format!("{}.log", name.replace('/', "-")));
        let parent = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let file = parent.and_then(|()| std::fs::OpenOptions::new().append(true).create(true).open(&path));
        file.map_err(|error| EngineError::Host(format!("cannot create {}: {error}", path.display())))
    }

    /// What tests and hooks find in their environment.
    ///
    /// # Errors
    /// When it cannot be found out where the app answers.
    pub(super) fn env(&mut self) -> Result<BTreeMap<String, String>, EngineError> {
        let mut env: BTreeMap<String, String> =
            self.plan.tag_vars().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        for (key, file) in STATE_FILES {
            env.insert(key.to_owned(), state_file(self.app, file).display().to_string());
        }
        env.insert("ABRA_DIR".to_owned(), self.app.dir.join("abra").display().to_string());
        env.insert("CCCI_RECIPE".to_owned(), self.job.recipe.clone());
        if let Some(kept) = self.kept {
            env.insert("CCCI_KEPT_DOMAIN".to_owned(), kept.domain.clone());
        }
        match self.engine.target(self.app)? {
            Some(target) => {
                env.insert("CCCI_BASE_URL".to_owned(), target.base_url());
            }
            None => {
                let why = match &self.app.folder.toml.health.none {
                    Some(reason) => format!("recipe.toml, health.none: {reason}"),
                    None => "nothing of the app is published yet".to_owned(),
                };
                self.console.say(&format!("     | CCCI_BASE_URL is not set: {why}"));
            }
        }
        // `cc-ci-run exec` is this program, wherever it was started from.
        if let Some(own) = std::env::current_exe().ok().as_deref().and_then(std::path::Path::parent) {
            env.insert("PATH".to_owned(), format!("{}:{}", programs().path(), own.display()));
        }
        env.insert("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned());
        Ok(env)
    }

    /// DG4.1: as many real deploys as were meant: the app's own, and one of each dependency.
    pub(in crate::worker) fn count_deploys(&mut self, dependencies: usize) {
        let path = state_file(self.app, "deploys");
        let text = match std::fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            // Unreported, it is missing from the result, which is then incomplete.
            Err(error) => {
                self.console.say(&format!("!! deploys cannot be counted: {}: {error}", path.display()));
                return;
            }
        };
        let (counted, expected) = (text.lines().count(), 1 + dependencies);
        self.console.say(&format!("deploy-count = {counted} (expect {expected})"));
        report(self.app.dir, Event::Deploys { counted, expected });
    }
}

/// A test's or hook's process without what is the CI's own in the step's environment, and without what looks like a
/// secret there, unless the test folder names it: the app that is tested, and its logs, are a stranger's.
pub(in crate::worker) fn without_the_steps_secrets(job: Process, named: &[String]) -> Process {
    job.without_env(|name| is_the_steps_own(name) && !named.iter().any(|wanted| wanted == name))
}

fn state_file(app: &App<'_>, name: &str) -> PathBuf {
    // [CONC-A1]: state that was keyed by domain was shared by two runs of it.
    if weaken::on(Protection::StatePerRun) {
        app.dir.join(name)
    } else {
        std::env::temp_dir().join(format!("cc-ci-{name}-{}", app.domain))
    }
}

/// Counts a real deploy.
pub(in crate::worker) fn count_deploy(app: &App<'_>) -> Result<(), EngineError> {
    let path = state_file(app, "deploys");
    let file = std::fs::OpenOptions::new().append(true).create(true).open(&path);
    let counted = file.and_then(|mut file| writeln!(file, "{}", app.domain));
    counted.map_err(|error| EngineError::Host(format!("cannot count a deploy in {}: {error}", path.display())))
}

/// Runs a job into a log and, indented, to the console; redacted in both.
fn logged(
    job: &Process,
    mut log: std::fs::File,
    console: &mut Console,
) -> Result<Finished, ccci_core::process::ProcessError> {
    job.run_ok(&mut |line| to_log(line, &mut log, console))
}

pub(in crate::worker) fn to_log(line: &str, log: &mut std::fs::File, console: &mut Console) {
    if let Err(error) = writeln!(log, "{}", console.clean(line)) {
        tracing::warn!(%error, "a log line is lost");
    }
    console.say(&format!("     | {line}"));
}
