//! What each tier does, besides the recipe's own tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ccci_core::rundir::file;
use ccci_core::weaken::{self, Protection};
use jiff::Timestamp;

use super::super::suite::TestResult;
use super::{Stages, count_deploy};
use crate::engine::{Archive, Deployment, EngineError, Role, policy, tarball};
use crate::outcome::Tier;
use crate::recipe::source::{Release, Source};

/// How often a backup whose verify hook says no is made again (incident `[dump]`).
const BACKUP_TRIES: u32 = 3;

impl Stages<'_> {
    /// Deploys the release to upgrade from, or the head where there is none.
    pub(super) fn install(&mut self, source: &Source, release: &Release) -> Result<Vec<TestResult>, EngineError> {
        let (lock, app) = (self.lock, self.app);
        if let Some(why) = self.refused.take() {
            return Err(EngineError::Recipe(why));
        }
        source.checkout(release).map_err(|error| EngineError::Host(error.to_string()))?;
        policy::expect_tree(app, &self.plan.settings.policy)?;
        let made = self.engine("create", |engine, say| engine.create(lock, app, release, say))?;
        self.secrets.extend(made);
        for secret in self.secrets.values() {
            self.console.learn(secret);
        }
        self.hook("pre_install")?;
        self.console.say(&format!("   deploying {} (commit {:.12})", release.version, release.commit));
        count_deploy(app)?;
        let head = *release == source.head;
        let data = self.kept.filter(|_| weaken::on(Protection::KeptData)).map(|kept| &kept.volumes);
        let deployment = Deployment {
            release,
            role: if head { Role::Head } else { Role::Base },
            overlay: if head { app.folder.overlay() } else { app.folder.previous_overlay() },
            env: BTreeMap::new(),
            data,
        };
        self.engine("deploy", |engine, say| engine.deploy(lock, app, &deployment, say))?;
        // An app may have written its own domain down: before it can be well, it must be told of the new one.
        if self.kept.is_some() {
            self.hook("kept_data")?;
        }
        let mut tests = self.assert_up(Tier::Install)?;
        // What it did is in the kept data.
        if self.kept.is_none() {
            self.hook("install_steps")?;
        }
        tests.extend(self.assert_commit(Tier::Install, release, None)?);
        Ok(tests)
    }

    pub(super) fn upgrade(&mut self, source: &Source, from: &Release) -> Result<Vec<TestResult>, EngineError> {
        self.hook("pre_upgrade")?;
        source.checkout(&source.head).map_err(|error| EngineError::Host(error.to_string()))?;
        policy::expect_tree(self.app, &self.plan.settings.policy)?;
        self.console.say(&format!(
            "   upgrading {} to {} (commit {:.12})",
            from.version, source.head.version, source.head.commit
        ));
        let (lock, app) = (self.lock, self.app);
        let before = self.engine.commit(lock, app)?;
        let deployment = Deployment {
            release: &source.head,
            role: Role::Head,
            overlay: app.folder.overlay(),
            env: app.upgrade_env.clone(),
            data: None,
        };
        self.engine("upgrade", |engine, say| engine.deploy(lock, app, &deployment, say))?;
        let mut tests = self.assert_up(Tier::Upgrade)?;
        tests.extend(self.assert_commit(Tier::Upgrade, &source.head, before.as_deref())?);
        Ok(tests)
    }

    pub(super) fn backup(&mut self) -> Result<Vec<TestResult>, EngineError> {
        if self.engine.nothing_to_save(self.app)?.is_some() {
            return Ok(Vec::new());
        }
        let (lock, app) = (self.lock, self.app);
        let dir = self.app.dir.join(file::ARCHIVES);
        for attempt in 1..=BACKUP_TRIES {
            self.hook("pre_backup")?;
            let mut made = None;
            let saved = self.assert(Tier::Backup, "backup", &mut |stages| {
                made = Some(stages.engine("backup", |engine, say| engine.backup(lock, app, &dir, say))?);
                Ok(())
            })?;
            let verified = match self.hook("backup_verify") {
                Ok(()) => {
                    let mut tests = vec![saved];
                    if let Some(Archive::Files(files)) = &made {
                        tests.push(self.assert_readable(files)?);
                    }
                    self.save_aside(made.as_ref(), &dir);
                    self.archive = made;
                    return Ok(tests);
                }
                Err(EngineError::Recipe(why)) => why,
                Err(host) => return Err(host),
            };
            if attempt == BACKUP_TRIES {
                return Err(EngineError::Recipe(verified));
            }
            self.console.say(&format!("   the backup did not verify, trying again ({attempt} of {BACKUP_TRIES})"));
        }
        Ok(Vec::new())
    }

    /// Takes note of what a backup consists of, where it may be kept. What goes wrong is no verdict on it.
    fn save_aside(&mut self, made: Option<&Archive>, dir: &Path) {
        let Some(archive) = made.filter(|_| self.keeps) else { return };
        let readable = |files: BTreeMap<String, PathBuf>| match files
            .values()
            .try_for_each(|file| tarball::read_through(file).map(drop))
        {
            Ok(()) => Ok(files),
            Err(error) => Err(EngineError::Host(format!("what was saved cannot be read: {error}"))),
        };
        let most = self.plan.settings.snapshots.max_mb.get().saturating_mul(1 << 20);
        match self.engine.portable(self.lock, self.app, archive, dir, most).and_then(readable) {
            Ok(files) => self.saved = Some((files, Timestamp::now())),
            Err(error) => {
                self.console.say(&format!("!! kept: the volumes could not be saved: {error}"));
                self.drop_copies(archive, dir);
            }
        }
    }

    /// Removes the archives that were made beside a backup, in which nobody can look.
    pub(super) fn drop_copies(&mut self, backup: &Archive, dir: &Path) {
        if let Archive::Kept = backup
            && let Err(error) = std::fs::remove_dir_all(dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            self.console.say(&format!("!! cannot remove {}: {error}", dir.display()));
        }
    }

    pub(super) fn restore(&mut self) -> Result<Vec<TestResult>, EngineError> {
        self.hook("pre_restore")?;
        let Some(archive) = self.archive.take() else {
            return Err(EngineError::Recipe("there is no backup".to_owned()));
        };
        let (lock, app) = (self.lock, self.app);
        self.engine("restore", |engine, say| engine.restore(lock, app, &archive, say))?;
        self.archive = Some(archive);
        self.assert_up(Tier::Restore)
    }
}
