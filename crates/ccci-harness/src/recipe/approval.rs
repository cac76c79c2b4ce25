//! Tests that come with the recipe itself, and so with a pull request: somebody else's code on the host.
//! None is run unless the operator has approved exactly this content, by its SHA-256.

use std::fmt;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use super::{Folder, TestFile};
use crate::outcome::Tier;

/// Where a recipe keeps them.
const OWN_TESTS: &str = "tests/ccci";
/// Where the approved ones are put, in the run's copy of the test folder.
const ADMITTED: &str = "recipe";

/// A test of the recipe's own that is not run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Declined {
    name: String,
    digest: String,
}

impl fmt::Display for Declined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{OWN_TESTS}/{} comes with the recipe and is not approved (approved_tests, sha256 {})",
            self.name, self.digest
        )
    }
}

impl Folder {
    /// Takes in the recipe's own tests whose digest is in `approved`, as custom tests; the others.
    ///
    /// # Errors
    /// When the recipe's files or the run's cannot be read or written.
    pub(crate) fn admit(&mut self, tree: &Path, approved: &[String]) -> anyhow::Result<Vec<Declined>> {
        let dir = tree.join(OWN_TESTS);
        let mut declined = Vec::new();
        for name in super::list(&dir)? {
            let path = dir.join(&name);
            let plain = path.symlink_metadata().is_ok_and(|meta| meta.is_file());
            let pytest = name.starts_with("test_") && name.ends_with(".py");
            if !plain || !(pytest || super::is_executable(&path)) {
                continue;
            }
            // Read once: what is judged is what is run.
            let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let digest = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            if approved.contains(&digest) {
                let admitted = format!("{ADMITTED}/{name}");
                write_executable(&self.path.join(&admitted), &bytes)?;
                self.tests.entry(Tier::Custom).or_default().push(TestFile { name: admitted, pytest });
            } else {
                declined.push(Declined { name, digest });
            }
        }
        Ok(declined)
    }
}

fn write_executable(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    use std::io::Write as _;
    let write = || {
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o700).open(path)?.write_all(bytes)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_the_approved_content_is_taken_in() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("tree").join(OWN_TESTS);
        std::fs::create_dir_all(&own).unwrap();
        for (name, mode) in [("good.sh", 0o755), ("bad.sh", 0o755), ("data.json", 0o644)] {
            std::fs::write(own.join(name), name).unwrap();
            std::fs::set_permissions(own.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        std::os::unix::fs::symlink("good.sh", own.join("link.sh")).unwrap();
        let approved = [Sha256::digest("good.sh").iter().map(|byte| format!("{byte:02x}")).collect::<String>()];
        let tree = dir.path().join("tree");
        let folder = |name: &str| Folder::snapshot(&dir.path().join("none"), &dir.path().join(name)).unwrap();

        let mut none = folder("none-approved");
        let declined = none.admit(&tree, &[]).unwrap();
        assert_eq!(declined.len(), 2, "{declined:?}");
        assert!(none.tests(Tier::Custom).is_empty());

        let mut one = folder("one-approved");
        let declined = one.admit(&tree, &approved).unwrap();
        assert_eq!(declined[0].name, "bad.sh");
        assert!(declined[0].to_string().contains("tests/ccci/bad.sh") && declined.len() == 1, "{declined:?}");
        assert_eq!(one.tests(Tier::Custom), [TestFile { name: "recipe/good.sh".into(), pytest: false }]);
        assert_eq!(std::fs::read(one.path.join("recipe/good.sh")).unwrap(), b"good.sh");
    }
}
