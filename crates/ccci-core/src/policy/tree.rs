//! A recipe's tree as it is on disk: nothing leads out of it, and everything in it is a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use super::{Judgement, Policy, Rule, Violation};

/// Why a file of a recipe is not read.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It is somewhere else.
    #[error("`{path}` leads out of the recipe, to {target}")]
    Outside {
        /// As the recipe has it.
        path: String,
        /// Where it leads.
        target: String,
    },
    /// It is no file.
    #[error("`{path}` is {kind}, and no file")]
    Kind {
        /// As the recipe has it.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// It is too large.
    #[error("`{path}` has {bytes} bytes, and {most} are allowed")]
    Size {
        /// As the recipe has it.
        path: String,
        /// How many it has.
        bytes: u64,
        /// How many it may have.
        most: u64,
    },
    /// The recipe says that it is there, and it is not.
    #[error("the recipe has no `{path}`")]
    Missing {
        /// As the recipe has it.
        path: String,
    },
    /// It is there and cannot be read.
    #[error("`{path}` cannot be read: {source}")]
    Unreadable {
        /// As the recipe has it.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl Refused {
    /// Which row of the table this is.
    #[must_use]
    pub const fn rule(&self) -> Rule {
        match self {
            Self::Size { .. } => Rule::Limits,
            Self::Outside { .. } | Self::Kind { .. } | Self::Missing { .. } | Self::Unreadable { .. } => Rule::Paths,
        }
    }
}

/// A recipe's tree. Nobody changes it while it is judged: it is the run's own copy, and nothing of the recipe
/// has run by then.
#[derive(Debug, Clone, Copy)]
pub struct Tree<'a>(&'a Path);

impl<'a> Tree<'a> {
    /// The tree in this folder.
    #[must_use]
    pub const fn new(root: &'a Path) -> Self {
        Self(root)
    }

    /// Reads a file of the tree; links are followed as long as they stay in it. `None` when it is not there.
    ///
    /// # Errors
    /// `Refused`.
    pub fn read(self, path: &Path, most: u64) -> Result<Option<Vec<u8>>, Refused> {
        match self.open(path, most) {
            Ok(file) => {
                let mut bytes = Vec::new();
                let unreadable = |source| Refused::Unreadable { path: path.display().to_string(), source };
                file.take(most).read_to_end(&mut bytes).map_err(unreadable)?;
                Ok(Some(bytes))
            }
            Err(Refused::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// That this is a file of the tree, of at most so many bytes.
    ///
    /// # Errors
    /// `Refused`.
    pub fn expect_file(self, path: &Path, most: u64) -> Result<(), Refused> {
        self.open(path, most).map(drop)
    }

    fn open(self, path: &Path, most: u64) -> Result<File, Refused> {
        let shown = || path.display().to_string();
        let unreadable = |source| Refused::Unreadable { path: shown(), source };
        let root = self.0.canonicalize().map_err(unreadable)?;
        let outside = |target: &Path| Refused::Outside { path: shown(), target: target.display().to_string() };
        let real = match root.join(path).canonicalize() {
            Ok(real) => real,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                // Also what is not there outside is nobody's to ask for.
                let meant = normal(&root.join(path));
                return Err(if meant.starts_with(&root) {
                    Refused::Missing { path: shown() }
                } else {
                    outside(&meant)
                });
            }
            Err(error) => return Err(unreadable(error)),
        };
        // git's own folder is the clone's and not the recipe's: it knows where the clone came from.
        let in_git =
            |real: &Path| real.strip_prefix(&root).is_ok_and(|inside| inside.iter().any(|part| part == ".git"));
        if !real.starts_with(&root) || in_git(&real) {
            return Err(outside(&real));
        }
        // Looked at before it is opened: opening a device can do something, and a FIFO would be waited for.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let kind = real.symlink_metadata().map_err(unreadable)?.file_type();
        if !kind.is_file() {
            return Err(Refused::Kind { path: shown(), kind: named(kind) });
        }
        let flags = i32::from_ne_bytes(flags.bits().to_ne_bytes());
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&real).map_err(unreadable)?;
        let bytes = file.metadata().map_err(unreadable)?.len();
        if bytes > most {
            return Err(Refused::Size { path: shown(), bytes, most });
        }
        Ok(file)
    }
}

fn named(kind: std::fs::FileType) -> &'static str {
    if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_block_device() || kind.is_char_device() {
        "a device"
    } else {
        "a link"
    }
}

/// The path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

/// Judges all that is in a tree, but git's own folder: links that leave it, devices and FIFOs, and how much
/// there is.
#[must_use]
pub fn judge_tree(root: &Path, policy: &Policy) -> Judgement {
    let mut walk = Walk { root: root.to_owned(), found: Vec::new(), files: 0, bytes: 0 };
    match root.canonicalize().and_then(|real| {
        walk.root = real;
        walk.folder(Path::new(""), policy)
    }) {
        Ok(()) => {}
        // What cannot be looked at is not known to be harmless.
        Err(error) => walk.add(Rule::Paths, Path::new(""), format!("the tree cannot be read: {error}"), "try again"),
    }
    policy.sort(walk.found)
}

struct Walk {
    root: PathBuf,
    found: Vec<Violation>,
    files: usize,
    bytes: u64,
}

impl Walk {
    fn add(&mut self, rule: Rule, path: &Path, what: String, remedy: &str) {
        let file = if path.as_os_str().is_empty() { ".".to_owned() } else { path.display().to_string() };
        self.found.push(Violation { rule, file, key: String::new(), what, remedy: remedy.to_owned() });
    }

    fn folder(&mut self, folder: &Path, policy: &Policy) -> io::Result<()> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.root.join(folder))? {
            names.push(entry?.file_name());
        }
        names.sort();
        for name in names {
            let path = folder.join(&name);
            if path == Path::new(".git") {
                continue;
            }
            let meta = self.root.join(&path).symlink_metadata()?;
            self.files += 1;
            self.bytes += meta.size();
            if self.files > policy.limits.files || self.bytes > policy.limits.tree_mb << 20 {
                let what =
                    format!("the tree has more than {} files or {} MB", policy.limits.files, policy.limits.tree_mb);
                self.add(Rule::Limits, Path::new(""), what, "keep in the recipe what is deployed");
                return Ok(());
            }
            let kind = meta.file_type();
            if kind.is_dir() {
                self.folder(&path, policy)?;
                if self.found.iter().any(|violation| violation.rule == Rule::Limits) {
                    return Ok(());
                }
            } else if kind.is_symlink() {
                if let Some(target) = self.outside(&path)? {
                    let what = format!("this link leads out of the recipe, to {target}");
                    self.add(Rule::Paths, &path, what, "put the file itself into the recipe");
                }
            } else if !kind.is_file() {
                let what = format!("this is {}, and no file", named(kind));
                self.add(Rule::Paths, &path, what, "take it out");
            }
        }
        Ok(())
    }

    /// Where a link leads, if that is out of the tree. One that leads nowhere is judged by where it points.
    fn outside(&self, link: &Path) -> io::Result<Option<String>> {
        let full = self.root.join(link);
        let target = match full.canonicalize() {
            Ok(real) => real,
            Err(_) => normal(&full.parent().unwrap_or(&self.root).join(std::fs::read_link(&full)?)),
        };
        let is_git = target.starts_with(self.root.join(".git"));
        Ok((!target.starts_with(&self.root) || is_git).then(|| target.display().to_string()))
    }
}
