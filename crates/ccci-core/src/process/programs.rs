//! The programs that the harness starts, and what they get of our environment.
//!
//! A program is found once, when a run begins and before a word of a recipe is read, on the caller's `PATH`; from then
//! on it is started by its absolute path. What it finds around itself is what is listed here and nothing else: the
//! CI step's own variables are no business of `docker`, `git`, `abra` or a browser, and a recipe's are data for them
//! (incidents `[path]`, `[ci-env]`). The caller's own command and the tests get more; see [`Job::new`](super::Job::new).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::tagged::{DOMAIN_VAR, LOCK_VAR, RUN_ID_VAR};

/// Every program that the harness starts by its name.
const NAMES: [&str; 9] = [
    "abra",
    "chromium",
    "chromium-browser",
    "docker",
    "git",
    "google-chrome",
    "google-chrome-stable",
    "python3",
    "setpriv",
];
/// What is looked through where the caller has no `PATH`.
const USUAL: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Messages and numbers are to be read by a program, whatever the caller speaks.
const LANGUAGE: &str = "C.UTF-8";

/// What a program needs of the caller's environment: who we are, where temporary files go, how the network and the
/// Docker daemon are reached, and whose process it is.
const NEEDED: [&str; 35] = [
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "TZ",
    "TZDIR",
    "LOCALE_ARCHIVE",
    "XDG_RUNTIME_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NIX_SSL_CERT_FILE",
    "GIT_SSL_CAINFO",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_EXEC_PATH",
    "SSH_AUTH_SOCK",
    "DOCKER_HOST",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS",
    "DOCKER_TLS_VERIFY",
    "DOCKER_API_VERSION",
    RUN_ID_VAR,
    DOMAIN_VAR,
    LOCK_VAR,
    // A test build's programs are told by it which protection is off.
    "CCCI_WEAKEN",
];

/// Where programs are: found once, and handed from one part of a run to the next in its plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Programs {
    /// The absolute folders of the caller's `PATH`, which are the children's.
    path: String,
    /// Each program that was found.
    found: BTreeMap<String, PathBuf>,
}

static KNOWN: OnceLock<Programs> = OnceLock::new();

/// Where programs are, looked for by whoever asks first.
pub fn programs() -> &'static Programs {
    KNOWN.get_or_init(|| Programs::on(std::env::var_os("PATH")))
}

impl Programs {
    /// Those on a `PATH`. A folder that is not absolute would be another one in each place, so none is looked in.
    fn on(path: Option<OsString>) -> Self {
        let path = path.filter(|path| !path.is_empty()).unwrap_or_else(|| USUAL.into());
        let dirs: Vec<PathBuf> = std::env::split_paths(&path).filter(|dir| dir.is_absolute()).collect();
        let path = dirs.iter().filter_map(|dir| dir.to_str()).collect::<Vec<_>>().join(":");
        let found = NAMES.iter().filter_map(|name| Some(((*name).to_owned(), look_in(&dirs, name)?))).collect();
        Self { path, found }
    }

    /// Makes these the known ones, unless some are known already: a later part of a run goes on with what the first
    /// one found.
    pub fn know(self) {
        if self != Self::default() && KNOWN.set(self).is_err() {
            tracing::debug!("where programs are is known already");
        }
    }

    /// The `PATH` that children get.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// A program. One that the harness does not start by itself is looked for on the same `PATH`.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        if NAMES.contains(&name) {
            return self.found.get(name).cloned();
        }
        look_in(&std::env::split_paths(&self.path).collect::<Vec<_>>(), name)
    }
}

fn look_in(dirs: &[PathBuf], name: &str) -> Option<PathBuf> {
    let usable = |program: &Path| program.is_file() && rustix::fs::access(program, rustix::fs::Access::EXEC_OK).is_ok();
    dirs.iter().map(|dir| dir.join(name)).find(|program| usable(program))
}

/// The environment of a program that the harness starts.
pub(super) fn environment(programs: &Programs) -> BTreeMap<OsString, OsString> {
    // Where one of these leads nowhere in particular, the program would take its working directory.
    let is_place = |key: &str| matches!(key, "HOME" | "TMPDIR" | "XDG_RUNTIME_DIR" | "DOCKER_CONFIG");
    let needed = NEEDED.iter().filter_map(|key| Some((*key, std::env::var_os(key)?)));
    let mut env: BTreeMap<OsString, OsString> = needed
        .filter(|(key, value)| !is_place(key) || Path::new(value).is_absolute())
        .map(|(key, value)| (key.into(), value))
        .collect();
    env.insert("PATH".into(), programs.path.clone().into());
    env.insert("LANG".into(), LANGUAGE.into());
    env
}

/// Whether a variable of this name is in the environment of every program that the harness starts.
#[must_use]
pub fn is_in_environment(name: &str) -> bool {
    name == "PATH" || name == "LANG" || NEEDED.contains(&name)
}

/// Whether a variable of this name is known to mean something to a program, its loader, or a shell. The list is what
/// we know of and can have no end: no boundary rests on it alone.
#[must_use]
pub fn acts_on_programs(name: &str) -> bool {
    let beginnings = [
        "LD_",
        "DYLD_",
        "DOCKER_",
        "BUILDKIT_",
        "BUILDX_",
        "COMPOSE_",
        "GIT_",
        "PYTHON",
        "PERL5",
        "RUBYLIB",
        "RUBYOPT",
        "LC_",
        "XDG_",
        "OTEL_",
        "MALLOC_",
        "BASH_",
        "CCCI_",
    ];
    let names = [
        "PATH",
        "HOME",
        "TMPDIR",
        "TEMP",
        "TMP",
        "LANG",
        "LANGUAGE",
        "LOCPATH",
        "NLSPATH",
        "ENV",
        "IFS",
        "CDPATH",
        "SHELLOPTS",
        "PS4",
        "SHELL",
        "TERM",
        "TERMINFO",
        "TZDIR",
        "EDITOR",
        "PAGER",
        "BROWSER",
        "LESSOPEN",
        "LESSCLOSE",
        "GCONV_PATH",
        "GLIBC_TUNABLES",
        "HOSTALIASES",
        "RES_OPTIONS",
        "LOCALDOMAIN",
        "GODEBUG",
        "GOGC",
        "GOMAXPROCS",
        "GOMEMLIMIT",
        "GOTRACEBACK",
        "GOCOVERDIR",
        "NODE_OPTIONS",
        "NODE_PATH",
        "JAVA_TOOL_OPTIONS",
        "CURL_HOME",
        "CURL_CA_BUNDLE",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "OPENSSL_CONF",
        "SSH_AUTH_SOCK",
        "SSH_ASKPASS",
        "ABRA_DIR",
    ];
    let upper = name.to_ascii_uppercase();
    names.contains(&name)
        || beginnings.iter().any(|beginning| name.starts_with(beginning))
        || ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "FTP_PROXY"].contains(&upper.as_str())
}

/// Whether a variable of this name is the CI's own in a step's environment, or looks like a secret.
#[must_use]
pub fn is_the_steps_own(name: &str) -> bool {
    const WORDS: [&str; 8] =
        ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "PRIVATE_KEY", "ACCESS_KEY"];
    let upper = name.to_ascii_uppercase();
    upper.starts_with("DRONE_") || upper.ends_with("_KEY") || WORDS.iter().any(|word| upper.contains(word))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn program(dir: &Path, name: &str) -> PathBuf {
        std::fs::create_dir_all(dir).unwrap();
        let path = dir.join(name);
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn a_program_is_found_once_and_never_in_a_relative_folder() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("a"), dir.path().join("b"));
        let docker = program(&second, "docker");
        let own = program(&second, "own");
        let path = format!(".::{}:relative:{}", first.display(), second.display());
        let programs = Programs::on(Some(path.into()));
        assert_eq!(programs.path(), format!("{}:{}", first.display(), second.display()));
        assert_eq!(programs.find("docker"), Some(docker.clone()));
        // What comes up later in front of it changes nothing.
        program(&first, "docker");
        program(&first, "git");
        assert_eq!((programs.find("docker"), programs.find("git")), (Some(docker), None));
        assert_eq!(programs.find("own"), Some(own));
        let written = serde_json::to_string(&programs).unwrap();
        assert_eq!(serde_json::from_str::<Programs>(&written).unwrap(), programs, "as it stands in a plan");
    }

    #[test]
    fn without_a_path_the_usual_folders_are_looked_in() {
        assert_eq!(Programs::on(None).path(), USUAL);
        assert_eq!(Programs::on(Some("".into())).path(), USUAL);
        assert!(environment(programs()).contains_key(std::ffi::OsStr::new("PATH")));
    }

    #[test]
    fn names_that_mean_something_to_a_program_are_told_from_an_apps_own() {
        for name in ["PATH", "LD_PRELOAD", "DOCKER_HOST", "HOME", "https_proxy", "GODEBUG", "BASH_ENV", "COMPOSE_FILE"]
        {
            assert!(acts_on_programs(name), "{name}");
        }
        for name in ["DOMAIN", "STACK_NAME", "HTTP_PORT", "MY_PATH", "SECRET_LD_VERSION", "TYPE"] {
            assert!(!acts_on_programs(name), "{name}");
        }
    }

    #[test]
    fn what_is_the_cis_own_or_looks_like_a_secret_is_known_by_its_name() {
        for name in
            ["DRONE_BUILD_NUMBER", "SOME_TOKEN", "GITEA_SECRET", "db_password", "AWS_ACCESS_KEY_ID", "SIGNING_KEY"]
        {
            assert!(is_the_steps_own(name), "{name}");
        }
        for name in ["PATH", "HOME", "LANG", "CCCI_BASE_URL", "TMPDIR", "DOCKER_HOST", "KEYBOARD"] {
            assert!(!is_the_steps_own(name), "{name}");
        }
    }
}
