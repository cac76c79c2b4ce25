//! A recipe's source: the run's own clone, at the exact ref, with its tags.
//!
//! A shared tree could be flipped by another run (incident `[fetch]`), so every run clones into its
//! own `ABRA_DIR`.

mod caveats;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use ccci_core::process::{Ended, ProcessError, git, wait_ready};

use crate::console::Console;

/// How often a fetch is tried when the network fails.
const TRIES: u32 = 3;

/// Why there is no source.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// The recipe or the ref does not exist.
    #[error("{0}")]
    NoSuch(String),
    /// It exists, perhaps, and cannot be had now.
    #[error("cannot fetch the recipe from {0}")]
    Host(String),
}

/// A version of the recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Release {
    /// The full commit id.
    pub(crate) commit: String,
    /// The tag, or the start of the commit id.
    pub(crate) version: String,
    /// Whether that is a tag.
    pub(crate) released: bool,
    /// Whether that is an annotated tag. abra knows no others.
    pub(crate) annotated: bool,
}

impl Release {
    fn new(tree: &Path, commit: String, version: String) -> Self {
        let reference = format!("refs/tags/{version}");
        let kind = git(tree).args(["cat-file", "-t", &reference]).capture().run_ok(&mut |_| {});
        let released = kind.is_ok();
        let annotated = kind.is_ok_and(|kind| kind.stdout.trim_ascii() == b"tag");
        Self { commit, version, released, annotated }
    }

    /// The release at a commit, or the bare commit.
    fn at(tree: &Path, commit: String) -> Self {
        let version = describe(tree, &commit);
        Self::new(tree, commit, version)
    }
}

/// The run's own clone.
#[derive(Debug)]
pub(crate) struct Source {
    tree: PathBuf,
    /// What is tested.
    pub(crate) head: Release,
}

impl Source {
    /// Clones the recipe to `tree` and checks the wanted ref out.
    ///
    /// # Errors
    /// [`SourceError`].
    pub(crate) fn fetch(from: &str, wanted: &str, tree: &Path, console: &mut Console) -> Result<Self, SourceError> {
        clone(from, tree, console)?;
        let wanted = if wanted.is_empty() { "HEAD" } else { wanted };
        let commit = match resolve(tree, wanted) {
            Some(commit) => commit,
            None if is_commit_id(wanted) => left_behind(from, wanted, tree, console)?,
            None => {
                return Err(SourceError::NoSuch(format!(
                    "{from} has no commit, branch or tag `{wanted}`; is it pushed, and spelled so?"
                )));
            }
        };
        let source = Self { head: Release::at(tree, commit), tree: tree.to_owned() };
        source.checkout(&source.head)?;
        Ok(source)
    }

    /// What the tree does not have though its commit names it, one line each.
    ///
    /// # Errors
    /// [`SourceError::Host`].
    pub(crate) fn caveats(&self) -> Result<Vec<String>, SourceError> {
        caveats::of(&self.tree, &self.head.commit)
    }

    /// The newest release, or the main branch of a recipe that has none.
    ///
    /// # Errors
    /// [`SourceError::Host`].
    pub(crate) fn newest(self) -> Result<Self, SourceError> {
        let newest = self.releases()?.into_iter().find_map(|tag| Some((resolve(&self.tree, &tag)?, tag)));
        let Some((commit, tag)) = newest else { return Ok(self) };
        let source = Self { head: Release::new(&self.tree, commit, tag), ..self };
        source.checkout(&source.head)?;
        Ok(source)
    }

    /// Whether `commit` is `tip` or leads to it.
    fn leads_to(&self, commit: &str, tip: &str) -> Result<bool, SourceError> {
        let asked = git(&self.tree).args(["merge-base", "--is-ancestor", commit, tip]).run(&mut |_| {});
        Ok(asked.map_err(|error| SourceError::Host(error.to_string()))?.ended == Ended::Exited(0))
    }

    /// A release that something is kept of, if the way from it leads up to the head; else why not.
    ///
    /// # Errors
    /// [`SourceError::Host`].
    pub(crate) fn kept(&self, commit: &str, version: &str) -> Result<Result<Release, String>, SourceError> {
        if commit == self.head.commit {
            return Ok(Err(format!("they are of {version}, which is what is tested")));
        }
        if resolve(&self.tree, version).as_deref() != Some(commit) {
            return Ok(Err(format!("they are of {version} at {commit:.12}, which the source does not have as such")));
        }
        if !self.leads_to(commit, &self.head.commit)? {
            return Ok(Err(format!("they are of {version}, on which the tested commit is not built")));
        }
        Ok(Ok(Release::new(&self.tree, commit.to_owned(), version.to_owned())))
    }

    /// The tags that lead to the head, newest first.
    fn releases(&self) -> Result<Vec<String>, SourceError> {
        let tags = git(&self.tree)
            .args(["tag", "--merged", &self.head.commit, "--sort=-version:refname", "--sort=-creatordate"])
            .capture()
            .run_ok(&mut |_| {})
            .map_err(|error| SourceError::Host(error.to_string()))?;
        Ok(String::from_utf8_lossy(&tags.stdout).lines().map(str::to_owned).collect())
    }

    /// Puts a release's files into the tree.
    ///
    /// # Errors
    /// [`SourceError::Host`]: the commit is there, so only the host can fail.
    pub(crate) fn checkout(&self, release: &Release) -> Result<(), SourceError> {
        checkout(&self.tree, release)
    }

    /// The files.
    pub(crate) fn tree(&self) -> &Path {
        &self.tree
    }

    /// The version to upgrade from: the one that was asked for; else the newest release tag before
    /// the head; else the tip of the main branch. `Err` is the reason why there is none, or that the wanted one does not exist.
    pub(crate) fn base(&self, wanted: Option<&str>) -> Result<Result<Release, String>, SourceError> {
        if let Some(version) = wanted {
            let commit = resolve(&self.tree, version)
                .ok_or_else(|| SourceError::NoSuch(format!("the recipe has no version `{version}` to upgrade from")))?;
            return Ok(Ok(Release::new(&self.tree, commit, version.to_owned())));
        }
        for tag in self.releases()? {
            match resolve(&self.tree, &tag) {
                Some(commit) if commit != self.head.commit => {
                    return Ok(Ok(Release::new(&self.tree, commit, tag)));
                }
                _ => {}
            }
        }
        // What a pull request would be merged into; from there to a commit that it has is no way up.
        match resolve(&self.tree, "HEAD") {
            Some(tip) if !self.leads_to(&self.head.commit, &tip)? => Ok(Ok(Release::at(&self.tree, tip))),
            _ => Ok(Err("the recipe has no release before this ref, which its main branch has already".to_owned())),
        }
    }
}

fn clone(from: &str, tree: &Path, console: &mut Console) -> Result<(), SourceError> {
    let parent = tree.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(parent)
        .with_context(|| format!("cannot create {}", parent.display()))
        .map_err(|error| SourceError::Host(format!("{error:#}")))?;
    let clone = git(parent)
        // A folder that belongs to the CI's checkout user is still to be read.
        .args(["-c", "safe.directory=*", "clone", "--quiet", "--no-checkout", "--no-hardlinks", "--", from])
        .args([tree]);
    let mut last = String::new();
    for attempt in 1..=TRIES {
        match clone.run_ok(&mut |line| console.say(line)) {
            Ok(_) => return Ok(()),
            Err(ProcessError::Failed { tail, .. }) if is_missing(&tail) => {
                return Err(SourceError::NoSuch(format!(
                    "there is no recipe repository at {from} that everybody may read; is the recipe spelled so? \
                     --src names another place ({})",
                    fatal(&tail)
                )));
            }
            Err(ProcessError::Failed { tail, .. }) if !tail.trim().is_empty() => last = fatal(&tail),
            Err(error) => last = error.to_string(),
        }
        // A clone that broke off is no base for the next try.
        if let Err(error) = std::fs::remove_dir_all(tree)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(SourceError::Host(format!("cannot remove {}: {error}", tree.display())));
        }
        if attempt < TRIES {
            console.say(&format!("   fetch failed, trying again ({attempt} of {TRIES})"));
            // A pause for a network that fails; nothing announces that it is back.
            let _over = wait_ready(&mut [], Some(Duration::from_secs(u64::from(attempt))));
        }
    }
    Err(SourceError::Host(format!("{from}: {last}")))
}

/// A whole id; nothing less can be asked for.
fn is_commit_id(wanted: &str) -> bool {
    matches!(wanted.len(), 40 | 64) && wanted.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Fetches a commit that no branch or tag leads to: a force-push or a deleted branch has left it behind, and forges
/// keep such for a while.
fn left_behind(from: &str, commit: &str, tree: &Path, console: &mut Console) -> Result<String, SourceError> {
    let fetch = git(tree).args(["-c", "safe.directory=*", "fetch", "--quiet", "--no-tags", "origin", commit]);
    let mut last = String::new();
    for attempt in 1..=TRIES {
        match fetch.run_ok(&mut |_| {}) {
            Ok(_) => {
                console
                    .say(&format!("== no branch or tag of the source has {commit:.12} any more: fetched by its id =="));
                return resolve(tree, commit)
                    .ok_or_else(|| SourceError::NoSuch(format!("{commit} is no commit of {from}")));
            }
            Err(ProcessError::Failed { tail, .. }) if is_gone(&tail) => {
                return Err(SourceError::NoSuch(format!(
                    "commit {commit} is gone from {from}: no branch or tag has it, as after a force-push or when a branch \
                     was deleted, and it is not given out by its id either ({}); test the branch's new head",
                    fatal(&tail)
                )));
            }
            Err(ProcessError::Failed { tail, .. }) if !tail.trim().is_empty() => last = fatal(&tail),
            Err(error) => last = error.to_string(),
        }
        if attempt < TRIES {
            console.say(&format!("   fetch of {commit:.12} failed, trying again ({attempt} of {TRIES})"));
            // As for the clone.
            let _over = wait_ready(&mut [], Some(Duration::from_secs(u64::from(attempt))));
        }
    }
    Err(SourceError::Host(format!("{from}: {last}")))
}

/// How git says that a repository does not have a commit, or does not give it out.
fn is_gone(tail: &str) -> bool {
    ["not our ref", "unadvertised object", "couldn't find remote ref", "did not contain", "bad object"]
        .iter()
        .any(|words| tail.contains(words))
}

/// git says "not found" in these ways; everything else may be the network. A forge that hides what is private
/// asks for a name and a password where nothing is, and nobody answers.
fn is_missing(tail: &str) -> bool {
    ["does not exist", "not found", "does not appear to be a git repository", "could not read Username"]
        .iter()
        .any(|words| tail.contains(words))
}

/// The line in which git says what went wrong.
fn fatal(tail: &str) -> String {
    let lines = || tail.lines().map(str::trim).filter(|line| !line.is_empty());
    lines().find_map(|line| line.strip_prefix("fatal: ")).or_else(|| lines().next()).unwrap_or_default().to_owned()
}

/// Puts a release's files into a tree. What is untracked stays.
///
/// # Errors
/// [`SourceError::Host`]: the commit is there, so only the host can fail.
pub(crate) fn checkout(tree: &Path, release: &Release) -> Result<(), SourceError> {
    let checkout = git(tree).args(["checkout", "--quiet", "--force", "--detach", &release.commit]);
    checkout.run_ok(&mut |_| {}).map(drop).map_err(|error| SourceError::Host(error.to_string()))
}

/// The commit of a ref: a commit id, a tag or a remote branch. What has the form of a whole id is that commit and nothing
/// else: a branch or tag that is called so would take the place of what was approved.
pub(crate) fn resolve(tree: &Path, wanted: &str) -> Option<String> {
    let candidates = match is_commit_id(wanted) {
        true => vec![wanted.to_owned()],
        false => vec![format!("refs/remotes/origin/{wanted}"), format!("refs/tags/{wanted}"), wanted.to_owned()],
    };
    for candidate in candidates {
        let spec = format!("{candidate}^{{commit}}");
        let parsed = git(tree).args(["rev-parse", "--verify", "--quiet", "--end-of-options", &spec]).capture();
        if let Ok(found) = parsed.run_ok(&mut |_| {}) {
            // With --end-of-options some versions of git print that word first.
            let text = String::from_utf8_lossy(&found.stdout).into_owned();
            let commit = text.lines().last().map(|line| line.trim().to_owned());
            // The id of a tag's own object is not that of its commit.
            return commit.filter(|commit| !is_commit_id(wanted) || commit.eq_ignore_ascii_case(wanted));
        }
    }
    None
}

/// The tag at a commit, or the start of its id.
fn describe(tree: &Path, commit: &str) -> String {
    let tags = git(tree).args(["tag", "--points-at", commit, "--sort=-version:refname"]).capture().run_ok(&mut |_| {});
    let tag = tags.ok().and_then(|tags| String::from_utf8_lossy(&tags.stdout).lines().next().map(str::to_owned));
    tag.unwrap_or_else(|| commit.chars().take(8).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_all_that_git_prints_the_line_that_says_why_is_told() {
        let refused = "\n  fatal: Could not read from remote repository.\n\n  Please make sure you have the correct";
        assert_eq!(fatal(refused), "Could not read from remote repository.");
        assert_eq!(fatal("error: askpass\nfatal: could not read Username for 'x'"), "could not read Username for 'x'");
        assert_eq!(fatal("\n  ssh: connect to host x port 22: refused\n"), "ssh: connect to host x port 22: refused");
        assert_eq!(fatal(""), "");
    }

    #[test]
    fn a_commit_that_was_left_behind_is_asked_for_by_its_whole_id() {
        assert!(is_commit_id(&"0a".repeat(20)) && is_commit_id(&"0A".repeat(32)));
        assert!(!is_commit_id("0a0a0a0a") && !is_commit_id(&"0g".repeat(20)) && !is_commit_id("main"));
        assert!(is_gone("fatal: remote error: upload-pack: not our ref 0a0a"));
        assert!(is_gone("error: Server does not allow request for unadvertised object 0a0a"));
        assert!(!is_gone("fatal: unable to access 'https://x/': Could not resolve host: x"));
    }

    #[test]
    fn what_is_not_there_is_no_trouble_with_the_network() {
        assert!(is_missing("fatal: could not read Username for 'https://git.example.org': terminal prompts disabled"));
        assert!(is_missing("fatal: repository '/x' does not exist"));
        assert!(!is_missing("fatal: unable to access 'https://x/': Could not resolve host: x"));
    }
}
