//! The `abra` engine: Co-op Cloud as its operators run it.
//!
//! abra makes the env file and the secrets, deploys, saves and restores. What is looked at is looked at in
//! Docker, by the same code as for the [`swarm`](super::swarm) engine: abra's own lists and its own waiting
//! are not relied on, and neither is its removal.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ccci_core::abra::{Abra, AbraError, How};
use ccci_core::lock::AppLock;
use ccci_core::rundir::RunDir;
use ccci_core::substrate::env_file;
use jiff::Timestamp;

use super::swarm::secrets::Secret;
use super::swarm::stack;
use super::swarm::{SERVER, SwarmEngine};
use super::{App, Archive, Deployment, Engine, EngineError, Observation, Role, Say, ServiceState, shape};
use crate::health::Target;
use crate::plan::Plan;
use crate::recipe::OVERLAY;
use crate::recipe::source::{self, Release};

/// A label with fewer characters of a commit than this is none.
const SHORTEST_COMMIT: usize = 7;

/// What the app's env file is called in an error.
const ENV_FILE: &str = "the env file";

/// Deploys by abra onto the Swarm of a Docker daemon.
#[derive(Debug)]
pub(crate) struct AbraEngine {
    abra: Abra,
    swarm: SwarmEngine,
    /// What labels stand for, as git said once.
    commits: RefCell<BTreeMap<String, Option<String>>>,
}

impl AbraEngine {
    /// The engine for this host's abra and daemon, in the run's own `ABRA_DIR`.
    ///
    /// # Errors
    /// [`EngineError::Host`] that says what is missing.
    pub(crate) fn find(plan: &Plan, dir: &RunDir) -> Result<Self, EngineError> {
        let program = Abra::installed().ok_or_else(|| {
            EngineError::Host("abra is not on the PATH: install it, or choose --engine swarm".to_owned())
        })?;
        let abra = Abra::new(program, dir.join("abra"));
        Ok(Self { abra, swarm: SwarmEngine::find(plan)?, commits: RefCell::default() })
    }

    /// What the env file says that abra left.
    fn vars(&self, app: &App<'_>) -> Result<BTreeMap<String, String>, EngineError> {
        env_file::parse(&self.swarm.read_env(app)?).map_err(|error| shape::not_read(&error, ENV_FILE))
    }

    fn write_env(&self, app: &App<'_>, text: &[u8]) -> Result<(), EngineError> {
        super::private_file(&self.swarm.env_path(app), text)
    }

    /// Makes the secrets that the test folder gives a value, because no generator could, and those that kept
    /// data depend on; how many.
    fn insert_known(
        &self,
        lock: &AppLock,
        app: &App<'_>,
        wanted: &[Secret],
        say: &mut Say<'_>,
    ) -> Result<usize, EngineError> {
        let known = |name: &String| app.folder.toml.secrets.get(name).or_else(|| app.secrets.get(name));
        let mut made = 0;
        for (secret, value) in wanted.iter().filter_map(|secret| Some((secret, known(&secret.name)?))) {
            lock.verify()?;
            let file = secret_file(app, value)
                .map_err(|error| EngineError::Host(format!("cannot hand secret {} to abra: {error}", secret.name)))?;
            // Nothing of it is left, whatever becomes of this process.
            let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
            let inserted =
                self.abra.insert_secret(app.domain.as_str(), &secret.name, &secret.version, Path::new(&path), say);
            inserted.map_err(failed)?;
            made += 1;
        }
        Ok(made)
    }

    /// Puts the overlay into the recipe's tree, where abra looks for compose files, or takes it out.
    fn place(app: &App<'_>, overlay: Option<&Path>) -> Result<(), EngineError> {
        let there = app.tree.join(OVERLAY);
        // A recipe that has a link of this name must not have it followed.
        let removed = match fs::remove_file(&there) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        let placed = match overlay {
            Some(overlay) => removed.and_then(|()| fs::copy(overlay, &there).map(drop)),
            None => removed,
        };
        placed.map_err(|error| EngineError::Host(format!("cannot place {}: {error}", there.display())))
    }

    /// The full id behind a label's value, asked of git once.
    fn full_commit(&self, app: &App<'_>, label: &str) -> Option<String> {
        let ask = || source::resolve(&app.tree, label);
        self.commits.borrow_mut().entry(label.to_owned()).or_insert_with(ask).clone()
    }
}

/// The value in a file without a name.
fn secret_file(app: &App<'_>, value: &str) -> std::io::Result<fs::File> {
    let mut file = tempfile::tempfile_in(app.dir.path())?;
    file.write_all(value.as_bytes())?;
    Ok(file)
}

/// Whose fault it is that abra did not do it.
fn failed(error: AbraError) -> EngineError {
    let text = error.to_string();
    let daemon = ["Cannot connect to the Docker daemon", "inappropriate ioctl for device"];
    if error.is_refusal() && !daemon.iter().any(|words| text.contains(words)) {
        stack::refused(&text)
    } else {
        EngineError::Host(text)
    }
}

/// The commit that a chaos deploy's label begins with: abra shortens it, and marks a tree with changes.
fn chaos_commit(label: &str) -> Option<&str> {
    let end = label.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(label.len());
    label.get(..end).filter(|commit| commit.len() >= SHORTEST_COMMIT)
}

impl Engine for AbraEngine {
    fn create(
        &self,
        lock: &AppLock,
        app: &App<'_>,
        release: &Release,
        say: &mut Say<'_>,
    ) -> Result<BTreeMap<String, String>, EngineError> {
        self.swarm.plan_env_file(app)?;
        lock.verify()?;
        let path = self.swarm.env_path(app);
        let server = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(server)
            .map_err(|error| EngineError::Host(format!("cannot create {}: {error}", server.display())))?;
        let recipe = app.recipe();
        self.abra.new_app(recipe, SERVER, app.domain.as_str(), say).map_err(failed)?;
        // It may have moved the tree to its idea of a release; the sample that counts is this one's.
        source::checkout(&app.tree, release).map_err(|error| EngineError::Host(error.to_string()))?;
        let written = self.vars(app)?;
        let sample = shape::sample(app)?;
        let kinds: Vec<_> =
            ["TYPE", "RECIPE"].iter().filter_map(|key| Some((*key, written.get(*key)?.as_str()))).collect();
        let with_kinds = env_file::set(&sample, &kinds).map_err(|error| shape::not_read(&error, shape::SAMPLE))?;
        let text = shape::env_text(&with_kinds, app)?;
        self.write_env(app, &text)?;

        self.swarm.expect_allowed(app)?;
        let wanted = self.swarm.plan_secrets(app, &text)?;
        let mut made: BTreeMap<String, String> = wanted
            .iter()
            .filter(|secret| !app.folder.toml.secrets.contains_key(&secret.name))
            .filter_map(|secret| app.secrets.get_key_value(&secret.name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if wanted.len() == self.insert_known(lock, app, &wanted, say)? {
            return Ok(made);
        }
        lock.verify()?;
        let generated = self.abra.generate_secrets(app.domain.as_str(), say).map_err(failed)?;
        made.extend(generated.into_iter().map(|secret| (secret.name, secret.value)));
        Ok(made)
    }

    fn deploy(
        &self,
        lock: &AppLock,
        app: &App<'_>,
        deployment: &Deployment<'_>,
        say: &mut Say<'_>,
    ) -> Result<(), EngineError> {
        let overlay = deployment.overlay.as_deref();
        Self::place(app, overlay)?;
        let text = shape::with_vars(&self.swarm.read_env(app)?, ENV_FILE, app, &deployment.env)?;
        let text = shape::with_overlay(&text, OVERLAY, overlay.is_some());
        self.write_env(app, &text.map_err(|error| shape::not_read(&error, ENV_FILE))?)?;
        let placed = overlay.map(|_| app.tree.join(OVERLAY));
        let stack = self.swarm.prepare(app, placed.as_deref(), &BTreeMap::new())?;
        self.swarm.fill(lock, app, &stack, deployment)?;
        lock.verify()?;
        self.abra.deploy(app.domain.as_str(), how(deployment), say).map_err(failed)?;
        // abra leaves what the new version dropped running ([19]).
        self.swarm.prune(lock, app, &stack)
    }

    fn observe(&self, lock: &AppLock, app: &App<'_>) -> Result<Observation, EngineError> {
        self.swarm.observe(lock, app)
    }

    fn commit(&self, lock: &AppLock, app: &App<'_>) -> Result<Option<String>, EngineError> {
        let seen = self.swarm.observe(lock, app)?;
        if let Some(chaos) = &seen.commit {
            return Ok(chaos_commit(chaos).and_then(|commit| self.full_commit(app, commit)));
        }
        // A pinned deploy has no such label. The version's is the recipe's own word, and may be wrong or
        // missing; what abra deployed, it wrote into the env file.
        let env = self.vars(app)?;
        let deployed = ["TYPE", "RECIPE"].iter().find_map(|key| Some(env.get(*key)?.split_once(':')?.1.to_owned()));
        Ok(deployed.or(seen.version).and_then(|version| self.full_commit(app, &version)))
    }

    fn wait_for_change(&self, since: Timestamp, at_most: Duration) -> Result<bool, EngineError> {
        self.swarm.wait_for_change(since, at_most)
    }

    fn last_lines(&self, app: &App<'_>, service: &ServiceState) -> String {
        self.swarm.last_lines(app, service)
    }

    fn target(&self, app: &App<'_>) -> Result<Option<Target>, EngineError> {
        self.swarm.target(app)
    }

    fn unreachable(&self, app: &App<'_>) -> Result<Option<String>, EngineError> {
        self.swarm.unreachable(app)
    }

    fn nothing_to_save(&self, app: &App<'_>) -> Result<Option<String>, EngineError> {
        self.swarm.nothing_to_save(app)
    }

    fn backup(&self, lock: &AppLock, app: &App<'_>, _dir: &Path, say: &mut Say<'_>) -> Result<Archive, EngineError> {
        lock.verify()?;
        self.abra.back_up(app.domain.as_str(), say).map_err(failed)?;
        Ok(Archive::Kept)
    }

    fn restore(&self, lock: &AppLock, app: &App<'_>, _archive: &Archive, say: &mut Say<'_>) -> Result<(), EngineError> {
        lock.verify()?;
        self.abra.restore(app.domain.as_str(), say).map(drop).map_err(failed)
    }

    /// What the bot has is out of reach: the volumes are saved beside it.
    fn portable(
        &self,
        lock: &AppLock,
        app: &App<'_>,
        _archive: &Archive,
        dir: &Path,
        most: u64,
    ) -> Result<BTreeMap<String, PathBuf>, EngineError> {
        lock.verify()?;
        self.swarm.save(app, dir, most)
    }
}

/// A base is deployed as its release is, unless something makes the tree differ from it.
fn how<'run>(deployment: &Deployment<'run>) -> How<'run> {
    let Deployment { release, role, overlay, .. } = deployment;
    if *role == Role::Base && release.annotated && overlay.is_none() {
        How::Pinned(&release.version)
    } else {
        How::Chaos
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chaos_label_is_a_commit_with_or_without_a_mark() {
        assert_eq!(chaos_commit("0123abcd"), Some("0123abcd"));
        assert_eq!(chaos_commit("0123abcd+U"), Some("0123abcd"));
        assert_eq!(chaos_commit("0123abcd + unstaged changes"), Some("0123abcd"));
        assert_eq!(chaos_commit("0.1.0+1.2"), None);
        assert_eq!(chaos_commit("true"), None);
    }

    #[test]
    fn only_an_untouched_release_is_pinned() {
        let release = |annotated| Release { commit: "c".into(), version: "1.0.0+1".into(), released: true, annotated };
        let judged = |release: &Release, role, overlay: Option<PathBuf>| {
            let deployment = Deployment { release, role, overlay, env: BTreeMap::new(), data: None };
            let pinned = how(&deployment) == How::Pinned("1.0.0+1");
            if pinned { "pinned" } else { "chaos" }
        };
        assert_eq!(judged(&release(true), Role::Base, None), "pinned");
        assert_eq!(judged(&release(true), Role::Head, None), "chaos");
        assert_eq!(judged(&release(false), Role::Base, None), "chaos", "abra does not know lightweight tags");
        assert_eq!(judged(&release(true), Role::Base, Some("o.yml".into())), "chaos", "the tree differs");
    }
}
