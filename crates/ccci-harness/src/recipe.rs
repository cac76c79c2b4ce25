//! A recipe's test folder, `<tests-dir>/<recipe>/`: what `docs/recipes.md` describes.
//!
//! An unknown key, a wrong type or a file that could never run is an error that names it, because
//! what is silently dropped is a test that nobody runs (incident `[unknown-key]`).

mod approval;
mod overlay;
pub(crate) mod placeholder;
pub(crate) mod source;
mod strays;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use ccci_core::config::{duration, strict};
use ccci_core::name::RecipeName;
use serde::Deserialize;

use crate::outcome::{Rung, Tier};
pub(crate) use overlay::OVERLAY;

/// `recipe.toml`. Every key has a default; a recipe without a test folder gets the generic floor.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RecipeToml {
    pub(crate) health: Health,
    pub(crate) timeouts: Timeouts,
    /// Variables for the app's env file.
    pub(crate) env: BTreeMap<String, String>,
    /// Values of secrets that no generator could make, by their names in the recipe.
    pub(crate) secrets: BTreeMap<String, String>,
    pub(crate) readiness: Vec<Probe>,
    pub(crate) upgrade: Upgrade,
    pub(crate) backup: Backup,
    /// Rungs that do not apply, each with the reason.
    pub(crate) not_applicable: BTreeMap<Rung, String>,
    /// Apps that must be up before this one, in this order.
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) screenshot: Screenshot,
    pub(crate) tests: Tests,
    pub(crate) local: Local,
}

/// What tests and hooks find around them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tests {
    /// Variables of the CI step that they get though their names look like the CI's own or like a secret's.
    pub(crate) environment: Vec<String>,
}

/// A recipe that this one needs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dependency {
    pub(crate) recipe: String,
    /// The version; its newest release where none is given.
    pub(crate) version: Option<String>,
}

/// What is photographed at the end.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Screenshot {
    pub(crate) path: String,
}

impl Default for Screenshot {
    fn default() -> Self {
        Self { path: "/".to_owned() }
    }
}

/// What a healthy app answers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Health {
    pub(crate) path: String,
    pub(crate) status: Vec<u16>,
    /// Why the app has nothing that could be asked over HTTP.
    pub(crate) none: Option<String>,
    /// Whether the file says anything about health.
    #[serde(skip, default = "yes")]
    given: bool,
}

const fn yes() -> bool {
    true
}

impl Default for Health {
    fn default() -> Self {
        Self { path: "/".to_owned(), status: vec![200, 301, 302], none: None, given: false }
    }
}

impl RecipeToml {
    /// Whether the folder says how the app is to be asked.
    pub(crate) fn asks(&self) -> bool {
        !self.readiness.is_empty() || (self.health.given && self.health.none.is_none())
    }
}

/// The longest that things may take.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Timeouts {
    /// Until every service runs.
    #[serde(with = "duration")]
    pub(crate) deploy: Duration,
    /// So long every service must stay up before a tier passes: as `docker service` waits to verify.
    #[serde(with = "duration")]
    pub(crate) monitor: Duration,
    /// Until the app answers, once its services run.
    #[serde(with = "duration")]
    pub(crate) http: Duration,
    /// One test file or hook.
    #[serde(with = "duration")]
    pub(crate) test: Duration,
    /// One image.
    #[serde(with = "duration")]
    pub(crate) pull: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            deploy: Duration::from_secs(600),
            monitor: Duration::from_secs(5),
            http: Duration::from_secs(300),
            test: Duration::from_secs(600),
            pull: Duration::from_secs(900),
        }
    }
}

/// A readiness probe: `http` or `tcp`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Probe {
    /// A path that must answer with one of `status`.
    pub(crate) http: Option<String>,
    #[serde(default = "ok_only")]
    pub(crate) status: Vec<u16>,
    /// A port that must accept connections.
    pub(crate) tcp: Option<u16>,
    /// How many times in a row.
    #[serde(default = "once")]
    pub(crate) times: u32,
}

fn ok_only() -> Vec<u16> {
    vec![200]
}

const fn once() -> u32 {
    1
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Upgrade {
    /// The version to upgrade from.
    pub(crate) base: Option<String>,
    /// Variables that are set for the upgrade only.
    pub(crate) env: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Backup {
    /// Whether the app can be backed up and restored.
    pub(crate) capable: bool,
}

impl Default for Backup {
    fn default() -> Self {
        Self { capable: true }
    }
}

/// How the `local` engine runs the recipe.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Local {
    pub(crate) services: BTreeMap<String, LocalService>,
}

/// A service of the `local` engine: a plain process.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LocalService {
    /// The program, found on `PATH` or, with a `/` in it, inside the recipe; and its arguments.
    pub(crate) command: Vec<String>,
    /// The port that it listens on, at the app's own address.
    pub(crate) port: Option<u16>,
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) volumes: Vec<String>,
    #[serde(default)]
    pub(crate) secrets: Vec<String>,
    /// Whether its volumes are backed up.
    #[serde(default = "yes")]
    pub(crate) backup: bool,
}

/// A test file or hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TestFile {
    /// Its path inside the folder; what the results call it.
    pub(crate) name: String,
    /// Whether pytest runs it.
    pub(crate) pytest: bool,
}

/// A test folder, read and judged.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    /// The run's own copy.
    pub(crate) path: PathBuf,
    pub(crate) toml: RecipeToml,
    tests: BTreeMap<Tier, Vec<TestFile>>,
}

/// The hooks by name.
pub(crate) const HOOKS: [&str; 7] =
    ["install_steps", "kept_data", "pre_install", "pre_upgrade", "pre_backup", "pre_restore", "backup_verify"];

impl Folder {
    /// Reads `source`, judges it, and copies it to `copy`, so that nothing changes it later.
    ///
    /// # Errors
    /// What is wrong with the folder, naming the file.
    pub(crate) fn snapshot(source: &Path, copy: &Path) -> anyhow::Result<Self> {
        match std::fs::symlink_metadata(source) {
            Ok(_) => {
                copy_tree(source, copy).with_context(|| format!("cannot read the test folder {}", source.display()))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => std::fs::create_dir_all(copy)?,
            Err(error) => bail!("cannot read the test folder {}: {error}", source.display()),
        }
        let text = match std::fs::read_to_string(copy.join("recipe.toml")) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            other => other.with_context(|| format!("cannot read {}", source.join("recipe.toml").display()))?,
        };
        // Messages name the maintainer's file, not the copy.
        let toml: RecipeToml = strict::parse(&source.join("recipe.toml").display().to_string(), &text)?;
        let mut tests = BTreeMap::new();
        for tier in Tier::ALL {
            tests.insert(tier, find_tests(copy, source, tier)?);
        }
        let folder = Self { path: copy.to_owned(), toml, tests };
        folder.judge(source)?;
        let tests = folder.tests.values().flatten().collect();
        strays::Strays { copy, source, tests }.refuse()?;
        overlay::judge(copy, source)?;
        Ok(folder)
    }

    fn judge(&self, source: &Path) -> anyhow::Result<()> {
        let file = source.join("recipe.toml");
        let file = file.display();
        for (number, probe) in self.toml.readiness.iter().enumerate() {
            ensure!(
                probe.http.is_some() != probe.tcp.is_some(),
                "{file}: readiness probe {}: give either `http` or `tcp`",
                number + 1
            );
            ensure!(probe.times > 0, "{file}: readiness probe {}: `times` must be at least 1", number + 1);
        }
        for (number, dependency) in self.toml.dependencies.iter().enumerate() {
            let name = RecipeName::new(&dependency.recipe).with_context(|| format!("{file}: dependencies"))?;
            let again = self.toml.dependencies[..number].iter().any(|other| other.recipe == name.as_str());
            ensure!(!again, "{file}: the dependency `{name}` is there twice");
        }
        let names = placeholder::names(self.toml.dependencies.iter().map(|needed| needed.recipe.as_str()));
        for (section, vars) in [("env", &self.toml.env), ("upgrade.env", &self.toml.upgrade.env)] {
            for (name, value) in vars {
                let filled = placeholder::fill(value, &names, |name| names.iter().any(|n| n == name).then(String::new));
                filled.map_err(|why| anyhow::anyhow!("{file}: {section}.{name}: {why}"))?;
            }
        }
        let others = [&self.toml.health.path, &self.toml.screenshot.path];
        for path in self.toml.readiness.iter().filter_map(|probe| probe.http.as_ref()).chain(others) {
            ensure!(path.starts_with('/'), "{file}: `{path}` is not a path: it starts with `/`");
        }
        ensure!(!self.toml.health.status.is_empty(), "{file}: health.status names no status");
        if let Some(reason) = &self.toml.health.none {
            ensure!(!reason.trim().is_empty(), "{file}: health.none is the reason why nobody can ask the app: give it");
            let http = self.toml.readiness.iter().any(|probe| probe.http.is_some());
            ensure!(
                !http,
                "{file}: health.none says that the app has no HTTP, and a readiness probe asks it by `http`"
            );
        }
        for (name, service) in &self.toml.local.services {
            ensure!(!service.command.is_empty(), "{file}: local.services.{name}.command is empty");
            for part in service.volumes.iter().chain(&service.secrets).chain([name]) {
                let fine =
                    !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
                ensure!(fine, "{file}: `{part}` is no name for a service, volume or secret: a-z, A-Z, 0-9, `_`, `-`");
            }
        }
        for hook in list(&self.path.join("hooks"))? {
            ensure!(
                HOOKS.contains(&hook.as_str()),
                "{}: unknown hook; known are {}",
                source.join("hooks").join(&hook).display(),
                HOOKS.join(", ")
            );
            let path = self.path.join("hooks").join(&hook);
            ensure!(
                is_executable(&path),
                "{} is not executable: chmod +x it",
                source.join("hooks").join(&hook).display()
            );
        }
        Ok(())
    }

    /// The test files of a tier, in the order of their names.
    pub(crate) fn tests(&self, tier: Tier) -> &[TestFile] {
        self.tests.get(&tier).map_or(&[], Vec::as_slice)
    }

    /// The path of a hook, if the folder has it.
    pub(crate) fn hook(&self, name: &str) -> Option<PathBuf> {
        Some(self.path.join("hooks").join(name)).filter(|path| path.is_file())
    }

    /// Whether it has anything that is executed as it is.
    pub(crate) fn has_programs(&self) -> bool {
        self.tests.values().flatten().any(|test| !test.pytest) || HOOKS.iter().any(|hook| self.hook(hook).is_some())
    }

    /// Whether any test needs pytest.
    pub(crate) fn needs_pytest(&self) -> bool {
        self.tests.values().flatten().any(|test| test.pytest)
    }
}

/// `test_<tier>*` beside `recipe.toml`, or everything in `custom/`.
fn find_tests(copy: &Path, source: &Path, tier: Tier) -> anyhow::Result<Vec<TestFile>> {
    let (dir, prefix) = if tier == Tier::Custom { ("custom/", String::new()) } else { ("", format!("test_{tier}")) };
    let mut tests = Vec::new();
    for name in list(&copy.join(dir))? {
        let path = copy.join(dir).join(&name);
        if !name.starts_with(&prefix) || !path.is_file() || name.starts_with('.') {
            continue;
        }
        let python = path.extension().is_some_and(|extension| extension == "py");
        if python && name.starts_with("test_") {
            tests.push(TestFile { name: format!("{dir}{name}"), pytest: true });
        } else if is_executable(&path) {
            tests.push(TestFile { name: format!("{dir}{name}"), pytest: false });
        } else if !prefix.is_empty() || is_script(&path) {
            // A test that nobody runs looks like one that passes.
            bail!("{} is not executable: chmod +x it", source.join(dir).join(&name).display());
        }
    }
    Ok(tests)
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0)
}

fn is_script(path: &Path) -> bool {
    ccci_core::process::read_limited(path, 2).is_ok_and(|start| start == b"#!")
}

/// The names in a folder, sorted; none when there is no such folder.
fn list(dir: &Path) -> anyhow::Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => bail!("cannot read {}: {error}", dir.display()),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Copies a folder: files with their modes, symlinks as they are.
///
/// # Errors
/// What the kernel says; names the path.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_tree(&source, &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(&source)?, &target)
                .with_context(|| format!("cannot create {}", target.display()))?;
        } else if kind.is_file() {
            std::fs::copy(&source, &target).with_context(|| format!("cannot copy {}", source.display()))?;
        } else {
            bail!("{} is neither file, folder nor symlink", source.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folder(files: &[(&str, &str, u32)]) -> (tempfile::TempDir, anyhow::Result<Folder>) {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("src");
        fs::create_dir(&source).unwrap();
        for (name, text, mode) in files {
            let path = source.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
        }
        let folder = Folder::snapshot(&source, &dir.path().join("copy"));
        (dir, folder)
    }

    fn error(files: &[(&str, &str, u32)]) -> String {
        format!("{:#}", folder(files).1.unwrap_err())
    }

    #[test]
    fn tests_are_found_by_name_and_mode() {
        let (_dir, folder) = folder(&[
            ("recipe.toml", "", 0o644),
            ("test_install.sh", "#!/bin/sh\n", 0o755),
            ("test_install_more.py", "", 0o644),
            ("conftest.py", "", 0o644),
            ("custom/test_x.py", "", 0o644),
            ("custom/check", "#!/bin/sh\n", 0o755),
            ("custom/data.json", "{}", 0o644),
        ]);
        let folder = folder.unwrap();
        let names = |tier| folder.tests(tier).iter().map(|test| test.name.as_str()).collect::<Vec<_>>();
        assert_eq!(names(Tier::Install), ["test_install.sh", "test_install_more.py"]);
        assert_eq!(names(Tier::Custom), ["custom/check", "custom/test_x.py"]);
        assert!(names(Tier::Backup).is_empty());
        assert!(folder.needs_pytest());
    }

    #[test]
    fn what_could_never_run_is_an_error() {
        assert!(error(&[("test_install.sh", "#!/bin/sh\n", 0o644)]).contains("chmod +x"));
        assert!(error(&[("custom/check", "#!/bin/sh\n", 0o644)]).contains("chmod +x"));
        assert!(error(&[("hooks/pre_instal", "#!/bin/sh\n", 0o755)]).contains("unknown hook"));
        assert!(
            error(&[("recipe.toml", "[health]\npaht = \"/\"", 0o644)])
                .contains("recipe.toml:2: unknown key `paht`: did you mean `path`?")
        );
        assert!(error(&[("recipe.toml", "[[readiness]]\ntimes = 2", 0o644)]).contains("either `http` or `tcp`"));
        assert!(
            error(&[("recipe.toml", "[local.services.a]\ncommand = [\"x\"]\nvolumes = [\"../x\"]", 0o644)])
                .contains("../x")
        );
        assert!(error(&[("recipe.toml", "[not_applicable]\nbakcup = \"x\"", 0o644)]).contains("recipe.toml:2"));
    }

    #[test]
    fn a_recipe_without_a_folder_gets_the_floor() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::snapshot(&dir.path().join("none"), &dir.path().join("copy")).unwrap();
        assert_eq!(folder.toml.health.status, [200, 301, 302]);
        assert!(Tier::ALL.iter().all(|tier| folder.tests(*tier).is_empty()));
    }
}
