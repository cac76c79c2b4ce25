//! A recipe's test folder, made for one test.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The service that every generated folder has: the example recipe's own program.
const APP: &str = r#"
[local.services.app]
command = ["hello-app"]
port = 8080
volumes = ["data"]
secrets = ["admin_token"]
"#;

/// Nothing in a test takes long; a run that hangs should say so soon.
const TIMEOUTS: &str = r#"
[timeouts]
deploy = "30s"
monitor = "0s"
http = "30s"
test = "5m"
"#;

/// A test folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(crate) fn new(tests: &Path, recipe: &str) -> Self {
        let folder = Self { path: tests.join(recipe) };
        fs::create_dir_all(&folder.path).unwrap();
        folder.toml(&format!("{TIMEOUTS}{APP}"))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces `recipe.toml`.
    pub fn toml(self, text: &str) -> Self {
        fs::write(self.path.join("recipe.toml"), text).unwrap();
        self
    }

    /// Adds to `recipe.toml`.
    pub fn also(self, text: &str) -> Self {
        let now = fs::read_to_string(self.path.join("recipe.toml")).unwrap();
        self.toml(&format!("{now}\n{text}\n"))
    }

    /// Adds a service that is a shell script.
    pub fn service(self, name: &str, script: &str) -> Self {
        let script = script.replace('\\', "\\\\").replace('"', "\\\"");
        self.also(&format!("[local.services.{name}]\ncommand = [\"sh\", \"-c\", \"\"\"\n{script}\"\"\"]"))
    }

    /// Adds an executable: a test (`test_install.sh`, `custom/x`) or a hook (`hooks/pre_install`).
    pub fn script(self, name: &str, script: &str) -> Self {
        let folder = self.file(name, &format!("#!/bin/sh\nset -e\n{script}\n"));
        fs::set_permissions(folder.path.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        folder
    }

    /// Adds a plain file.
    pub fn file(self, name: &str, text: &str) -> Self {
        let path = self.path.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }
}
