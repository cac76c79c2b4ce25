//! Data of a recipe's last good release, kept for quick runs: archives, never volumes or services.
//!
//! `<state_dir>/snapshots/<recipe>/<engine>/` is a snapshot: `manifest.json`, `secrets.json`, an archive per
//! volume. What is there is whole: it was made beside, synced, and put in its place in one rename
//! ([`Candidate::promote`]), and nobody ever writes into it. Who reads it verifies every byte and keeps the
//! files open, so that what was verified is what is used, whatever is promoted meanwhile.
//!
//! Two locks. The snapshot's own (`<engine>.lock`) is shared by readers and taken alone for the rename. A
//! candidate belongs to its run's app lock: the candidate of a domain whose lock is free is nobody's.

mod candidate;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use nix::fcntl::OFlag;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::lifetime::clock::Deadline;
use crate::name::{BaseDomain, Domain, RecipeName};
use crate::process::{read_limited, wait_ready};
use crate::weaken::{self, Protection};
pub use candidate::Candidate;

/// The version of the shape of a snapshot; another one is not used.
pub const SCHEMA: u32 = 1;
const MANIFEST: &str = "manifest.json";
const SECRETS: &str = "secrets.json";
/// No manifest and no list of secrets gets near this.
const LONGEST_TEXT: u64 = 1 << 20;
/// The pause between two looks at the snapshot's lock: the kernel does not announce a release.
const PAUSE: Duration = Duration::from_millis(20);

/// Why a snapshot cannot be used or made.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The kernel said no.
    #[error("cannot {doing} {path}: {source}")]
    Os {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
    /// It is not what was kept.
    #[error("{path} is not what was kept: {why}; remove {dir}, the next green run of a release keeps another", dir = .path.parent().unwrap_or(.path).display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Somebody has its lock.
    #[error("{path} was locked by somebody else for {seconds} s")]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// How long.
        seconds: u64,
    },
}

impl SnapshotError {
    fn os(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Os { doing, path, source }
    }

    fn broken(path: &Path, why: impl ToString) -> Self {
        Self::Broken { path: path.to_owned(), why: why.to_string() }
    }
}

/// A file of a snapshot, as it was when it was kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its name beside the manifest.
    pub file: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its SHA-256, in hex.
    pub sha256: String,
}

/// Where the kept data come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The recipe's version.
    pub version: String,
    /// Its commit.
    pub commit: String,
    /// The green run that kept them.
    pub run_id: String,
    /// When their app was saved.
    pub taken: Timestamp,
}

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The recipe.
    pub recipe: String,
    /// The engine that deployed it.
    pub engine: String,
    /// Where they come from.
    #[serde(flatten)]
    pub origin: Origin,
    /// The domain that the app had.
    pub domain: String,
    /// The secrets that the data depend on; their values are in that file.
    pub secrets: Part,
    /// Each volume's archive.
    pub volumes: BTreeMap<String, Part>,
}

impl Manifest {
    /// How long the archives are together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.volumes.values().map(|part| part.size).sum()
    }
}

/// A snapshot, every byte of it verified and its archives open.
pub struct Snapshot {
    /// What it holds.
    pub manifest: Manifest,
    /// The secrets' values, by name.
    pub secrets: BTreeMap<String, String>,
    /// The archives, by volume.
    pub volumes: BTreeMap<String, File>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("manifest", &self.manifest).finish_non_exhaustive()
    }
}

/// A candidate that lies about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// Where.
    pub path: PathBuf,
    /// The domain whose lock says whether a run still works on it.
    pub domain: Domain,
}

/// All that is kept on this host.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store in a host's state directory.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { root: state_dir.join("snapshots") }
    }

    /// The place of one recipe's snapshot.
    #[must_use]
    pub fn shelf(&self, recipe: &RecipeName, engine: &str) -> Shelf {
        Shelf { dir: self.root.join(recipe.as_str()), recipe: recipe.to_string(), engine: engine.to_owned() }
    }

    /// Every candidate, finished or not.
    ///
    /// # Errors
    /// When a directory is there and cannot be listed.
    pub fn candidates(&self, base: &BaseDomain) -> io::Result<Vec<Stray>> {
        let mut found = Vec::new();
        for recipe in list(&self.root)? {
            for path in list(&recipe)? {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                found.extend(candidate::domain_of(&name, base).map(|domain| Stray { path, domain }));
            }
        }
        Ok(found)
    }
}

/// The entries of a directory, which may be missing, or be none.
fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The place of the snapshot of one recipe and engine.
#[derive(Debug, Clone)]
pub struct Shelf {
    dir: PathBuf,
    recipe: String,
    engine: String,
}

impl Shelf {
    /// Where the snapshot is, if there is one.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.join(&self.engine)
    }

    /// Opens the snapshot and verifies it; `None` when nothing is kept. `waits` is told once when another
    /// has its lock.
    ///
    /// # Errors
    /// [`SnapshotError`]; then it must not be used.
    pub fn open(&self, patience: Duration, waits: &mut dyn FnMut()) -> Result<Option<Snapshot>, SnapshotError> {
        if !self.path().exists() {
            return Ok(None);
        }
        let _shared = self.lock(false, patience, waits)?;
        let path = self.path().join(MANIFEST);
        // Another schema may have another shape: it is looked at first.
        #[derive(Deserialize)]
        struct Versioned {
            schema: u32,
        }
        let bytes = match read_limited(&path, LONGEST_TEXT) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.path().exists() => return Ok(None),
            other => other.map_err(SnapshotError::os("read", &path))?,
        };
        let Versioned { schema } = parse(&path, &bytes)?;
        if schema != SCHEMA {
            return Err(SnapshotError::broken(&path, format!("its schema is {schema}, this program knows {SCHEMA}")));
        }
        let manifest: Manifest = parse(&path, &bytes)?;
        if (&manifest.recipe, &manifest.engine) != (&self.recipe, &self.engine) {
            let why = format!("it is of {} on {}", manifest.recipe, manifest.engine);
            return Err(SnapshotError::broken(&path, why));
        }
        let at = self.path().join(SECRETS);
        let mut text = Vec::new();
        let file = self.verified(&manifest.secrets)?;
        file.take(LONGEST_TEXT).read_to_end(&mut text).map_err(SnapshotError::os("read", &at))?;
        let secrets = parse(&at, &text)?;
        let volumes = manifest.volumes.iter().map(|(name, part)| Ok((name.clone(), self.verified(part)?)));
        let volumes = volumes.collect::<Result<_, SnapshotError>>()?;
        Ok(Some(Snapshot { manifest, secrets, volumes }))
    }

    /// A file of the snapshot, at its beginning, if it is what was kept.
    fn verified(&self, part: &Part) -> Result<File, SnapshotError> {
        let path = self.path().join(&part.file);
        if Path::new(&part.file).file_name() != Some(part.file.as_ref()) {
            return Err(SnapshotError::broken(&path, "its manifest names a file elsewhere"));
        }
        let opened = OpenOptions::new().read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(&path);
        let mut file = opened.map_err(SnapshotError::os("open", &path))?;
        let (size, sha256) = digest(&mut file, &mut io::sink()).map_err(SnapshotError::os("read", &path))?;
        if weaken::on(Protection::SnapshotChecksum) && (size, sha256.as_str()) != (part.size, part.sha256.as_str()) {
            let why = if size == part.size {
                "its checksum differs".to_owned()
            } else {
                format!("it has {size} bytes, not {}", part.size)
            };
            return Err(SnapshotError::broken(&path, why));
        }
        file.rewind().map_err(SnapshotError::os("read", &path))?;
        Ok(file)
    }

    /// The snapshot's lock, shared or alone; what is held then is given up with the file.
    fn lock(&self, alone: bool, patience: Duration, waits: &mut dyn FnMut()) -> Result<File, SnapshotError> {
        let path = self.dir.join(format!("{}.lock", self.engine));
        let flags = OFlag::O_NOFOLLOW.bits();
        let open =
            || OpenOptions::new().read(true).write(true).create(true).mode(0o600).custom_flags(flags).open(&path);
        let file = open().map_err(SnapshotError::os("open", &path))?;
        if !weaken::on(Protection::SnapshotLock) {
            return Ok(file);
        }
        let until = Deadline::after(patience);
        let mut said = false;
        loop {
            let tried =
                if alone { fs2::FileExt::try_lock_exclusive(&file) } else { fs2::FileExt::try_lock_shared(&file) };
            match tried {
                Ok(()) => return Ok(file),
                Err(error) if error.raw_os_error() != fs2::lock_contended_error().raw_os_error() => {
                    return Err(SnapshotError::os("lock", &path)(error));
                }
                Err(_) if until.passed() => return Err(SnapshotError::Busy { path, seconds: patience.as_secs() }),
                Err(_) => {}
            }
            if !std::mem::replace(&mut said, true) {
                waits();
            }
            let _over = wait_ready(&mut [], Some(PAUSE));
        }
    }
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, SnapshotError> {
    serde_json::from_slice(bytes).map_err(|error| SnapshotError::broken(path, error))
}

/// Copies what is left of `from`; its length and its SHA-256.
fn digest(from: &mut impl io::Read, to: &mut impl io::Write) -> io::Result<(u64, String)> {
    let mut sha = Sha256::new();
    let mut size = 0;
    let mut buffer = vec![0; 128 << 10];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        sha.update(&buffer[..read]);
        to.write_all(&buffer[..read])?;
        size += read as u64;
    }
    Ok((size, sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
}
