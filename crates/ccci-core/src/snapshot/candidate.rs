//! A snapshot in the making: built beside the one that is there, by a run that holds its app's lock, and
//! put in its place only when that run has come out green.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{MANIFEST, Manifest, Origin, Part, SCHEMA, SECRETS, Shelf, SnapshotError, digest, list};
use crate::lock::AppLock;
use crate::name::{BaseDomain, Domain, RunId};
use crate::rundir::{replace_dir, write_atomic};

/// How a candidate's name begins: `new@<engine>@<domain>@<run id>`.
const PREFIX: &str = "new@";

fn name_of(engine: &str, domain: &Domain, run_id: &RunId) -> String {
    format!("{PREFIX}{engine}@{domain}@{run_id}")
}

/// Whose candidate has this name.
pub(super) fn domain_of(name: &str, base: &BaseDomain) -> Option<Domain> {
    let (_, rest) = name.strip_prefix(PREFIX)?.split_once('@')?;
    Domain::parse(rest.split_once('@')?.0, base)
}

/// A snapshot in the making.
#[derive(Debug)]
pub struct Candidate {
    shelf: Shelf,
    path: PathBuf,
}

impl Shelf {
    /// The candidate of a run, whether or not it is there.
    #[must_use]
    pub fn candidate(&self, domain: &Domain, run_id: &RunId) -> Candidate {
        Candidate { path: self.dir.join(name_of(&self.engine, domain, run_id)), shelf: self.clone() }
    }

    /// Begins the candidate of a run, in place of what dead runs of its domain left.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn begin(&self, lock: &AppLock, domain: &Domain, run_id: &RunId) -> Result<Candidate, SnapshotError> {
        let candidate = self.candidate(domain, run_id);
        lock.verify().map_err(|error| SnapshotError::Os {
            doing: "make",
            path: candidate.path.clone(),
            source: io::Error::other(error.to_string()),
        })?;
        let mut private = fs::DirBuilder::new();
        private.mode(0o700).recursive(true);
        // Nobody else may list what is kept either.
        private.create(&self.dir).map_err(SnapshotError::os("make", &self.dir))?;
        let same = name_of(&self.engine, domain, run_id);
        let same = same.rsplit_once('@').map_or("", |(same, _)| same);
        for path in list(&self.dir).map_err(SnapshotError::os("list", &self.dir))? {
            let stray = path.file_name().and_then(|name| name.to_str()?.rsplit_once('@'));
            if stray.is_some_and(|(of, _)| of == same) {
                fs::remove_dir_all(&path).map_err(SnapshotError::os("remove", &path))?;
            }
        }
        private.recursive(false).create(&candidate.path).map_err(SnapshotError::os("make", &candidate.path))?;
        Ok(candidate)
    }
}

impl Candidate {
    /// Copies everything in, and finishes it: from now on it can be promoted. The length of its archives.
    ///
    /// # Errors
    /// [`SnapshotError`]; what is there then is no snapshot, and goes with [`Candidate::discard`].
    pub fn fill(
        &self,
        domain: &Domain,
        origin: Origin,
        secrets: &BTreeMap<String, String>,
        volumes: &BTreeMap<String, PathBuf>,
    ) -> Result<u64, SnapshotError> {
        let mut parts = BTreeMap::new();
        for (number, (volume, from)) in volumes.iter().enumerate() {
            let mut archive = File::open(from).map_err(SnapshotError::os("open", from))?;
            parts.insert(volume.clone(), self.copy(format!("volume-{number}.tar"), &mut archive)?);
        }
        let text = serde_json::to_vec_pretty(secrets).map_err(|error| SnapshotError::broken(&self.path, error))?;
        let secrets = self.copy(SECRETS.to_owned(), &mut text.as_slice())?;
        let manifest = Manifest {
            schema: SCHEMA,
            recipe: self.shelf.recipe.clone(),
            engine: self.shelf.engine.clone(),
            origin,
            domain: domain.to_string(),
            secrets,
            volumes: parts,
        };
        let at = self.path.join(MANIFEST);
        let text = serde_json::to_vec_pretty(&manifest).map_err(|error| SnapshotError::broken(&at, error))?;
        // Last: what has a manifest is whole.
        write_atomic(&at, &text).map_err(SnapshotError::os("write", &at))?;
        sync(&self.path)?;
        Ok(manifest.bytes())
    }

    fn copy(&self, name: String, from: &mut impl io::Read) -> Result<Part, SnapshotError> {
        let path = self.path.join(&name);
        let copy = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            let (size, sha256) = digest(from, &mut file)?;
            file.flush()?;
            file.sync_all()?;
            Ok(Part { file: name, size, sha256 })
        };
        copy().map_err(SnapshotError::os("write", &path))
    }

    /// Whether it was finished.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.path.join(MANIFEST).is_file()
    }

    /// Puts it in the place of the snapshot that is there, in one step, as soon as nobody reads that one.
    /// `waits` is told once when somebody does. What it has replaced goes with [`Candidate::discard`].
    ///
    /// # Errors
    /// [`SnapshotError`]; the old snapshot, or the new one, is then in its place, whole.
    pub fn promote(&self, patience: Duration, waits: &mut dyn FnMut()) -> Result<(), SnapshotError> {
        let alone = self.shelf.lock(true, patience, waits)?;
        let place = self.shelf.path();
        replace_dir(&self.path, &place).map_err(SnapshotError::os("replace", &place))?;
        drop(alone);
        sync(&self.shelf.dir)
    }

    /// Removes what is at its place: it, or what it has replaced.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn discard(self) -> Result<(), SnapshotError> {
        // Most runs have none, and where nothing can be looked at nothing was made.
        if self.path.symlink_metadata().is_err() {
            return Ok(());
        }
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(SnapshotError::os("remove", &self.path)(error))
            }
            _ => Ok(()),
        }
    }
}

fn sync(dir: &Path) -> Result<(), SnapshotError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(SnapshotError::os("sync", dir))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::LockPath;
    use crate::name::{LockName, RecipeName};
    use crate::snapshot::Store;

    struct Lab {
        dir: tempfile::TempDir,
        domain: Domain,
        shelf: Shelf,
    }

    impl Lab {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let base = BaseDomain::new("ci.example").unwrap();
            let domain = Domain::parse("hell-0a1b2c.ci.example", &base).unwrap();
            let shelf = Store::new(dir.path()).shelf(&RecipeName::new("hello").unwrap(), "local");
            Self { dir, domain, shelf }
        }

        fn filled(&self, text: &str) -> Candidate {
            let at = LockPath::new(self.dir.path(), LockName::App(self.domain.clone()));
            let lock = at.try_acquire(true).unwrap().unwrap();
            let candidate = self.shelf.begin(&lock, &self.domain, &RunId::new("7").unwrap()).unwrap();
            assert!(!candidate.is_whole());
            let archive = self.dir.path().join("data.tar");
            fs::write(&archive, text).unwrap();
            let origin = Origin {
                version: "1.0.0+1".to_owned(),
                commit: "c".repeat(40),
                run_id: "7".to_owned(),
                taken: jiff::Timestamp::UNIX_EPOCH,
            };
            let secrets = BTreeMap::from([("token".to_owned(), "s3cret".to_owned())]);
            let volumes = BTreeMap::from([("data".to_owned(), archive)]);
            assert_eq!(candidate.fill(&self.domain, origin, &secrets, &volumes).unwrap(), text.len() as u64);
            candidate
        }

        fn promote(&self, text: &str) {
            let candidate = self.filled(text);
            candidate.promote(Duration::ZERO, &mut || {}).unwrap();
            candidate.discard().unwrap();
        }

        fn data(&self) -> Option<String> {
            let snapshot = self.shelf.open(Duration::ZERO, &mut || {}).unwrap()?;
            assert_eq!(snapshot.secrets["token"], "s3cret");
            Some(io::read_to_string(&snapshot.volumes["data"]).unwrap())
        }

        fn strays(&self) -> usize {
            let base = BaseDomain::new("ci.example").unwrap();
            Store::new(self.dir.path()).candidates(&base).unwrap().len()
        }
    }

    #[test]
    fn what_is_promoted_replaces_what_was_there_and_nothing_else_stays() {
        let lab = Lab::new();
        assert_eq!(lab.data(), None);
        lab.promote("one");
        assert_eq!(lab.data().as_deref(), Some("one"));
        let second = lab.filled("two");
        assert_eq!((lab.data().as_deref(), lab.strays()), (Some("one"), 1), "not before it is promoted");
        let reader = lab.shelf.open(Duration::ZERO, &mut || {}).unwrap().unwrap();
        second.promote(Duration::ZERO, &mut || {}).unwrap();
        assert_eq!((lab.data().as_deref(), lab.strays()), (Some("two"), 1));
        second.discard().unwrap();
        assert_eq!((lab.data().as_deref(), lab.strays()), (Some("two"), 0));
        assert_eq!(io::read_to_string(&reader.volumes["data"]).unwrap(), "one", "who had it open still has it");
    }

    #[test]
    fn it_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let lab = Lab::new();
        lab.promote("one");
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        let dir = lab.shelf.path();
        assert_eq!((mode(&lab.dir.path().join("snapshots")), mode(&dir)), (0o700, 0o700));
        for file in list(&dir).unwrap() {
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
    }

    #[test]
    fn a_changed_byte_a_missing_one_and_another_schema_are_found_out() {
        let lab = Lab::new();
        let broken = |spoil: &dyn Fn(&Path)| {
            lab.promote("data");
            spoil(&lab.shelf.path());
            lab.shelf.open(Duration::ZERO, &mut || {}).unwrap_err().to_string()
        };
        assert!(broken(&|dir| fs::write(dir.join("volume-0.tar"), "date").unwrap()).contains("checksum"));
        assert!(broken(&|dir| fs::write(dir.join("volume-0.tar"), "dat").unwrap()).contains("3 bytes, not 4"));
        assert!(broken(&|dir| fs::write(dir.join(SECRETS), "{}").unwrap()).contains("secrets.json"));
        assert!(broken(&|dir| fs::remove_file(dir.join("volume-0.tar")).unwrap()).contains("cannot open"));
        let schema = |dir: &Path| {
            let text = fs::read_to_string(dir.join(MANIFEST)).unwrap().replace("\"schema\": 1", "\"schema\": 2");
            fs::write(dir.join(MANIFEST), text).unwrap();
        };
        assert!(broken(&schema).contains("its schema is 2"));
        let elsewhere = |dir: &Path| {
            let text = fs::read_to_string(dir.join(MANIFEST)).unwrap().replace("volume-0.tar", "../x");
            fs::write(dir.join(MANIFEST), text).unwrap();
        };
        assert!(broken(&elsewhere).contains("elsewhere"));
    }

    #[test]
    fn death_between_the_rename_and_the_removal_leaves_the_new_one_and_a_stray() {
        let lab = Lab::new();
        lab.promote("one");
        let second = lab.filled("two");
        replace_dir(&second.path, &lab.shelf.path()).unwrap();
        assert_eq!((lab.data().as_deref(), lab.strays()), (Some("two"), 1));
        let third = lab.filled("three");
        assert_eq!(lab.strays(), 1, "who begins another of the domain removes it");
        third.discard().unwrap();
        assert_eq!((lab.data().as_deref(), lab.strays()), (Some("two"), 0));
    }

    #[test]
    fn a_reader_keeps_a_promotion_waiting_and_not_for_ever() {
        let lab = Lab::new();
        lab.promote("one");
        let reading = lab.shelf.lock(false, Duration::ZERO, &mut || {}).unwrap();
        let second = lab.shelf.lock(false, Duration::ZERO, &mut || {}).unwrap();
        let mut said = 0;
        let busy = lab.filled("two").promote(Duration::from_millis(50), &mut || said += 1).unwrap_err();
        assert!(busy.to_string().contains("local.lock"), "{busy}");
        assert_eq!((said, lab.data().as_deref()), (1, Some("one")));
        drop((reading, second));
        lab.promote("two");
        assert_eq!(lab.data().as_deref(), Some("two"));
    }

    #[test]
    fn a_candidates_name_tells_whose_it_is() {
        let lab = Lab::new();
        let base = BaseDomain::new("ci.example").unwrap();
        let name = name_of("swarm", &lab.domain, &RunId::new("r-1.2").unwrap());
        assert_eq!(domain_of(&name, &base), Some(lab.domain.clone()));
        for other in ["local", "local.lock", "new@local", "new@local@elsewhere.example@7"] {
            assert_eq!(domain_of(other, &base), None, "{other}");
        }
    }
}
