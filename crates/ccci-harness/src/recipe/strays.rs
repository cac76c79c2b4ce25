//! Files of a test folder that look like something that is run, and would not be: a misspelt test is one that nobody
//! runs, and looks like one that passes.
//!
//! What is not a test by its name and not a program stays what it is: `lib.sh`, `conftest.py`, `__init__.py`, data.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use ccci_core::config::strict;
use ccci_core::process::read_limited;

use super::{HOOKS, OVERLAY, TestFile, is_executable, is_script, list};
use crate::outcome::Tier;

/// What a program may be called at its end.
const PROGRAMS: [&str; 8] = ["", "sh", "bash", "py", "pl", "rb", "js", "ts"];
/// What pytest and Python know by name.
const PYTHONS_OWN: [&str; 2] = ["conftest", "__init__"];
/// The files and folders that are looked for by name.
const SETTINGS: [&str; 2] = ["recipe.toml", OVERLAY];
const FOLDERS: [&str; 3] = ["custom", "hooks", "previous"];
/// So much of a file is read for what it may define or import.
const MOST: u64 = 1 << 20;

/// A test folder that is looked through.
pub(super) struct Strays<'folder> {
    /// The copy that is read.
    pub(super) copy: &'folder Path,
    /// What messages name.
    pub(super) source: &'folder Path,
    /// What is run.
    pub(super) tests: Vec<&'folder TestFile>,
}

impl Strays<'_> {
    /// Refuses a file that looks like a test, a setting or a folder of tests, and is none.
    ///
    /// # Errors
    /// Names the file, what is known, and what it may have been meant to be.
    pub(super) fn refuse(&self) -> anyhow::Result<()> {
        for name in list(self.copy)?.iter().filter(|name| !name.starts_with('.')) {
            let path = self.copy.join(name);
            if path.is_dir() {
                self.folder(name, &path)?;
            } else if !self.tests.iter().any(|test| test.name == *name) {
                self.beside_the_tests(name, &path)?;
            }
        }
        Ok(())
    }

    /// A file beside `recipe.toml`.
    fn beside_the_tests(&self, name: &str, path: &Path) -> anyhow::Result<()> {
        if SETTINGS.contains(&name) {
            return Ok(());
        }
        if let Some(near) = strict::nearest(name, SETTINGS.into_iter()) {
            bail!("{}: nobody reads it; did you mean `{near}`?", self.source.join(name).display());
        }
        if self.looks_like_a_test(name, path)? || (is_executable(path) && is_program(name, path)) {
            let known: Vec<String> = Tier::ALL.iter().filter(|tier| **tier != Tier::Custom).map(known_name).collect();
            bail!(
                "{}: it looks like a test, and nobody runs it; did you mean `{}`? Known are {}, and everything in \
                 custom/; what only helps them is not executable, and not called a test",
                self.source.join(name).display(),
                meant(name),
                known.join(", ")
            );
        }
        Ok(())
    }

    fn folder(&self, name: &str, path: &Path) -> anyhow::Result<()> {
        let shown = self.source.join(name);
        match name {
            "custom" => {
                for inside in list(path)? {
                    self.in_custom(&inside, &path.join(&inside))?;
                }
                return Ok(());
            }
            // Each is judged by what reads it.
            "hooks" | "previous" => return Ok(()),
            _ => {}
        }
        if let Some(near) = strict::nearest(name, FOLDERS.into_iter()) {
            bail!("{}: nobody looks into it; did you mean `{near}/`?", shown.display());
        }
        if name.starts_with("test_") {
            bail!("{}: a test is a file, and this is a folder; functional tests are in custom/", shown.display());
        }
        self.no_tests_below(path, &shown)
    }

    /// A file in `custom/`.
    fn in_custom(&self, name: &str, path: &Path) -> anyhow::Result<()> {
        let shown = self.source.join("custom").join(name);
        if path.is_dir() {
            return self.no_tests_below(path, &shown);
        }
        let runs = self.tests.iter().any(|test| test.name.strip_prefix("custom/") == Some(name));
        if runs || name.starts_with('.') {
            return Ok(());
        }
        let (stem, extension) = parts(name);
        let alone = extension == "py" && !PYTHONS_OWN.contains(&stem) && !self.is_mentioned(stem, path)?;
        if alone || self.looks_like_a_test(name, path)? {
            bail!(
                "{}: it looks like a test, and nobody runs it; did you mean `{}`? In custom/ run executables and \
                 `test_*.py`; a module that they import may be called as it likes",
                shown.display(),
                if extension == "py" { format!("test_{stem}.py") } else { format!("chmod +x {name}") }
            );
        }
        Ok(())
    }

    /// Folders that nobody looks into hold no tests.
    fn no_tests_below(&self, dir: &Path, shown: &Path) -> anyhow::Result<()> {
        for name in list(dir)?.iter().filter(|name| !name.starts_with('.') && *name != "__pycache__") {
            let (path, shown) = (dir.join(name), shown.join(name));
            if path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                self.no_tests_below(&path, &shown)?;
            } else if self.looks_like_a_test(name, &path)? {
                bail!(
                    "{}: it looks like a test, and nobody looks into this folder; tests are beside recipe.toml and \
                     in custom/ itself",
                    shown.display()
                );
            }
        }
        Ok(())
    }

    /// By its name, or by what it defines.
    fn looks_like_a_test(&self, name: &str, path: &Path) -> anyhow::Result<bool> {
        let (stem, extension) = parts(name);
        if !PROGRAMS.contains(&extension) || PYTHONS_OWN.contains(&stem) || !path.is_file() {
            return Ok(false);
        }
        let words = stem.to_lowercase().replace(['-', '.', ' '], "_");
        let named = words.split('_').any(|word| matches!(word, "test" | "tests"));
        // `testinstall`, `test_instal`: a letter away from what would run.
        let near = Tier::ALL
            .iter()
            .any(|tier| strict::nearest(&words, [format!("test_{tier}").as_str()].into_iter()).is_some());
        if named || near {
            return Ok(true);
        }
        let defines =
            |text: String| text.lines().any(|line| line.starts_with("def test_") || line.starts_with("class Test"));
        Ok(extension == "py" && defines(self.text(path)?))
    }

    /// Whether another file of the folder has this word in it, as one that imports it would.
    fn is_mentioned(&self, word: &str, by_others_than: &Path) -> anyhow::Result<bool> {
        let mut files: Vec<PathBuf> = Vec::new();
        for dir in ["", "custom", "hooks"].map(|dir| self.copy.join(dir)) {
            files.extend(list(&dir)?.iter().map(|name| dir.join(name)).filter(|path| path.is_file()));
        }
        for path in files.iter().filter(|path| *path != by_others_than) {
            let text = self.text(path)?;
            if text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').any(|other| other == word) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn text(&self, path: &Path) -> anyhow::Result<String> {
        let shown = || self.source.join(path.strip_prefix(self.copy).unwrap_or(path)).display().to_string();
        let bytes = read_limited(path, MOST).with_context(|| format!("cannot read {}", shown()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn parts(name: &str) -> (&str, &str) {
    name.rsplit_once('.').unwrap_or((name, ""))
}

/// A script or a binary, and not data that happens to be executable, as everything is on some file systems.
fn is_program(name: &str, path: &Path) -> bool {
    let (stem, extension) = parts(name);
    let elf = read_limited(path, 4).is_ok_and(|start| start == b"\x7fELF");
    !PYTHONS_OWN.contains(&stem) && (elf || is_script(path) || (PROGRAMS.contains(&extension) && !extension.is_empty()))
}

fn known_name(tier: &Tier) -> String {
    format!("test_{tier}*")
}

/// What a file beside `recipe.toml` may have been meant to be called.
fn meant(name: &str) -> String {
    let (stem, extension) = parts(name);
    let words = stem.to_lowercase().replace(['-', '.', ' '], "_");
    let dot = if extension.is_empty() { "" } else { "." };
    let rest = words.split('_').filter(|word| !matches!(*word, "test" | "tests")).collect::<Vec<_>>().join("_");
    let tiers: Vec<String> = Tier::ALL.iter().map(ToString::to_string).collect();
    let tier = tiers.iter().find(|tier| words.contains(tier.as_str())).map(String::as_str);
    let near = tier.or_else(|| strict::nearest(&rest, tiers.iter().map(String::as_str)));
    let near = near.or_else(|| strict::nearest(rest.trim_start_matches("test"), tiers.iter().map(String::as_str)));
    match near {
        _ if HOOKS.contains(&stem) => format!("hooks/{stem}"),
        Some(tier) if tier != "custom" => format!("test_{tier}{dot}{extension}"),
        _ if extension == "py" && !words.starts_with("test_") => format!("custom/test_{rest}.py"),
        _ => format!("custom/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::Folder;

    fn judged(files: &[(&str, &str, u32)]) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("hello");
        std::fs::create_dir(&source).unwrap();
        for (name, text, mode) in files {
            let path = source.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(*mode)).unwrap();
        }
        Folder::snapshot(&source, &dir.path().join("copy")).map(drop).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn what_looks_like_a_test_and_would_not_run_is_refused_with_what_was_meant() {
        for (name, mode, meant) in [
            ("test_instal.sh", 0o755, "`test_install.sh`"),
            ("test_instal.sh", 0o644, "`test_install.sh`"),
            ("upgrade_test.py", 0o644, "`test_upgrade.py`"),
            ("test-install.sh", 0o755, "`test_install.sh`"),
            ("tests_install.sh", 0o755, "`test_install.sh`"),
            ("Test_install.sh", 0o755, "`test_install.sh`"),
            ("testinstall.sh", 0o755, "`test_install.sh`"),
            ("install", 0o755, "`test_install`"),
            ("smoke.sh", 0o755, "`custom/smoke.sh`"),
            ("smoke_test.py", 0o644, "`custom/test_smoke.py`"),
            ("test_smoke.py", 0o644, "`custom/test_smoke.py`"),
            ("pre_install", 0o755, "`hooks/pre_install`"),
            ("custom/smoke_test.py", 0o644, "`test_smoke_test.py`"),
            ("custom/smoke.py", 0o644, "`test_smoke.py`"),
            ("custom/test_x.sh", 0o644, "chmod +x"),
            ("custom/more/test_x.py", 0o644, "nobody looks into this folder"),
            ("costum/test_x.py", 0o644, "`custom/`"),
            ("tests/test_x.py", 0o644, "nobody looks into this folder"),
            ("test_install/run.sh", 0o755, "this is a folder"),
            ("hook/pre_install", 0o755, "`hooks/`"),
            ("recipes.toml", 0o644, "`recipe.toml`"),
            ("compose.ccci.yaml", 0o644, "`compose.ccci.yml`"),
        ] {
            let text = if name.ends_with(".py") { "" } else { "#!/bin/sh\n" };
            let error = judged(&[(name, text, mode)]).expect_err(name);
            assert!(name.split('/').any(|part| error.contains(&format!("/{part}"))), "{name}: {error}");
            assert!(error.contains(meant), "{name}: {error}");
        }
        let defines = judged(&[("checks.py", "def test_x():\n    pass\n", 0o644)]).unwrap_err();
        assert!(defines.contains("checks.py"), "{defines}");
    }

    #[test]
    fn helpers_and_data_stay_fine() {
        let files: [(&str, &str, u32); 16] = [
            ("recipe.toml", "", 0o777),
            ("lib.sh", "#!/bin/sh\n", 0o644),
            ("testlib.sh", "x=1\n", 0o644),
            ("conftest.py", "", 0o644),
            ("__init__.py", "", 0o755),
            ("README.md", "how to test", 0o755),
            ("test_data.json", "{}", 0o644),
            ("latest.sql", "", 0o644),
            ("data/contest.txt", "", 0o755),
            ("bin/mock-server", "#!/bin/sh\n", 0o755),
            ("test_install_more.py", "", 0o644),
            ("custom/__init__.py", "", 0o644),
            ("custom/helpers.py", "", 0o644),
            ("custom/test_x.py", "from helpers import y\n", 0o644),
            ("custom/check", "#!/bin/sh\n", 0o755),
            ("custom/fixtures/page.html", "", 0o644),
        ];
        assert_eq!(judged(&files), Ok(()));
    }

    #[test]
    fn a_misspelt_placeholder_is_refused_where_it_stands() {
        for section in ["env", "upgrade.env"] {
            let toml = format!("[{section}]\nURL = \"https://{{domian}}/\"\n");
            let error = judged(&[("recipe.toml", &toml, 0o644)]).unwrap_err();
            assert!(error.contains("recipe.toml") && error.contains("{domian}") && error.contains("URL"), "{error}");
        }
        let toml = "[env]\nURL = \"{domain} {stack} {dependency.db}\"\n[[dependencies]]\nrecipe = \"db\"\n";
        assert_eq!(judged(&[("recipe.toml", toml, 0o644)]), Ok(()));
        let missing = judged(&[("recipe.toml", "[env]\nDB = \"{dependency.db}\"\n", 0o644)]).unwrap_err();
        assert!(missing.contains("names no dependency"), "{missing}");
    }
}
