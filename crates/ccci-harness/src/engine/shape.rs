//! What an app's env file is made of: the recipe's sample, shaped for a test run.

use std::collections::BTreeMap;
use std::path::Path;

use ccci_core::policy::Tree;
use ccci_core::substrate::env_file::{self, EnvError, Vars};

use super::{App, EngineError};
use crate::recipe::placeholder;

/// The compose file of a recipe whose env file names none.
pub(super) const COMPOSE: &str = "compose.yml";

/// What the recipe's sample of an env file is called.
pub(super) const SAMPLE: &str = ".env.sample";

/// The recipe's sample, as it is; empty where it has none.
///
/// # Errors
/// When there is one, and it cannot be read: the recipe's fault, as it is in the recipe's tree.
pub(super) fn sample(app: &App<'_>) -> Result<Vec<u8>, EngineError> {
    Ok(of_the_tree(&app.tree, SAMPLE)?.unwrap_or_default())
}

/// A small file of the recipe's tree, if it has one.
fn of_the_tree(tree: &Path, name: &str) -> Result<Option<Vec<u8>>, EngineError> {
    Tree::new(tree)
        .read(Path::new(name), env_file::MAX_FILE as u64)
        .map_err(|error| EngineError::Recipe(error.to_string()))
}

/// The sample with the app's own variables.
///
/// # Errors
/// What is wrong with the sample, with its line.
pub(super) fn env_text(sample: &[u8], app: &App<'_>) -> Result<Vec<u8>, EngineError> {
    with_vars(sample, SAMPLE, app, &app.env)
}

/// The text of the env file `name` with `vars` in it, and with what is the run's alone to say.
///
/// # Errors
/// What is wrong with it, with the line.
pub(super) fn with_vars(
    text: &[u8],
    name: &str,
    app: &App<'_>,
    vars: &BTreeMap<String, String>,
) -> Result<Vec<u8>, EngineError> {
    // What is the recipe's own is told by the line that it has in the recipe.
    env_file::parse(text).map_err(|error| not_read(&error, name))?;
    let vars = vars.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let text =
        env_file::set(text, &vars.chain(always(app)).collect::<Vec<_>>()).map_err(|error| not_read(&error, name))?;
    env_file::parse(&text).map_err(|error| EngineError::Recipe(format!("with the test's variables, {error}")))?;
    Ok(text)
}

/// An env file that cannot be read is the recipe's fault: it wrote it.
pub(super) fn not_read(error: &EnvError, name: &str) -> EngineError {
    EngineError::Recipe(error.in_file(name))
}

/// The variables that `abra.sh` exports, for the compose files. An export whose value is no plain text is code, which
/// nobody here runs.
///
/// # Errors
/// When there is such a file, and it cannot be read.
pub(super) fn exports(tree: &Path) -> Result<Vars, EngineError> {
    const SCRIPT: &str = "abra.sh";
    let text = of_the_tree(tree, SCRIPT)?.unwrap_or_default();
    let mut plain = Vec::new();
    for line in text.split(|byte| *byte == b'\n').filter(|line| line.trim_ascii().starts_with(b"export ")) {
        let with = [plain.as_slice(), line.trim_ascii(), b"\n"].concat();
        match env_file::parse(&with) {
            Ok(_) => plain = with,
            Err(error) => tracing::debug!(line = %String::from_utf8_lossy(line), why = error.why, "no plain export"),
        }
    }
    env_file::parse(&plain).map_err(|error| not_read(&error, SCRIPT))
}

/// What no recipe, test folder or caller has a say in. A test app never asks Let's Encrypt for a
/// certificate (incident `[acme]`).
pub(super) fn always<'app>(app: &'app App<'_>) -> [(&'static str, &'app str); 2] {
    [("DOMAIN", app.domain.as_str()), ("LETS_ENCRYPT_ENV", "")]
}

/// The env file with `overlay` as its last compose file, or without it. The line is added at the end, as
/// `COMPOSE_FILE` may be built up over several lines.
///
/// # Errors
/// When the text cannot be read.
pub(super) fn with_overlay(text: &[u8], overlay: &str, wanted: bool) -> Result<Vec<u8>, EnvError> {
    let last = format!(":{overlay}");
    let ours = |line: &&[u8]| line.starts_with(b"COMPOSE_FILE=") && line.trim_ascii_end().ends_with(last.as_bytes());
    let mut text: Vec<u8> =
        text.split_inclusive(|byte| *byte == b'\n').filter(|line| !ours(line)).flatten().copied().collect();
    if wanted {
        let vars = env_file::parse(&text)?;
        let files = vars.get("COMPOSE_FILE").filter(|files| !files.is_empty()).map_or(COMPOSE, String::as_str);
        if !text.is_empty() && !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        text.extend(format!("COMPOSE_FILE={files}{last}\n").bytes());
    }
    Ok(text)
}

/// The values with `{domain}`, `{stack}` and `{dependency.<recipe>}` filled in.
///
/// # Errors
/// Names a placeholder that stands for nothing, and a variable whose value is no single line.
pub(crate) fn fill(
    values: &BTreeMap<String, String>,
    domain: &str,
    dependencies: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    let stack = domain.replace('.', "_");
    let names = placeholder::names(dependencies.keys().map(String::as_str));
    let known = |name: &str| match name {
        "domain" => Some(domain.to_owned()),
        "stack" => Some(stack.clone()),
        other => placeholder::dependency(other).and_then(|recipe| dependencies.get(recipe).cloned()),
    };
    let fill = |key: &str, value: &str| {
        placeholder::fill(value, &names, known).map_err(|why| format!("the value of {key}: {why}"))
    };
    values
        .iter()
        .map(|(key, value)| match value.contains(['\n', '\r']) {
            true => Err(format!("the value of {key} has several lines, and a line is all that an env file can hold")),
            false => Ok((key.clone(), fill(key, value)?)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_comes_last_and_goes_again() {
        let overlaid = |text: &[u8], wanted| with_overlay(text, "compose.ccci.yml", wanted).unwrap();
        let text = b"COMPOSE_FILE=compose.yml\nCOMPOSE_FILE=\"$COMPOSE_FILE:compose.smtp.yml\"\nA=1";
        let with = overlaid(text, true);
        let files = env_file::parse(&with).unwrap()["COMPOSE_FILE"].clone();
        assert_eq!(files, "compose.yml:compose.smtp.yml:compose.ccci.yml");
        assert_eq!(overlaid(&with, true), with, "once");
        assert_eq!(overlaid(&with, false), [text.as_slice(), b"\n"].concat());
        assert_eq!(overlaid(b"COMPOSE_FILE=\n", true), b"COMPOSE_FILE=\nCOMPOSE_FILE=compose.yml:compose.ccci.yml\n");
    }

    #[test]
    fn what_a_script_exports_is_plain_text_or_code() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(exports(dir.path()).unwrap(), Vars::new(), "no script");
        let script = "#!/bin/bash\nexport A=v1\nexport B=\"v2\" # two\nrun() {\n  export C=$(id)\n  export D=\"$(\n}\nexport E=v3 F=4\n";
        std::fs::write(dir.path().join("abra.sh"), script).unwrap();
        let vars = exports(dir.path()).unwrap();
        assert_eq!((vars["A"].as_str(), vars["B"].as_str(), vars["E"].as_str()), ("v1", "v2", "v3 F=4"));
        assert!(!vars.contains_key("D"), "{vars:?}");
        std::fs::remove_file(dir.path().join("abra.sh")).unwrap();
        std::fs::create_dir(dir.path().join("abra.sh")).unwrap();
        assert!(exports(dir.path()).unwrap_err().to_string().contains("abra.sh"));
    }

    #[test]
    fn placeholders_are_filled_and_an_unknown_dependency_is_named() {
        let values = |text: &str| BTreeMap::from([("A".to_owned(), text.to_owned())]);
        let known = BTreeMap::from([("db".to_owned(), "db-000000.ci".to_owned())]);
        let filled = fill(&values("{domain} {stack} {dependency.db} {\"json\": 1}"), "a-1.ci", &known).unwrap();
        assert_eq!(filled["A"], "a-1.ci a-1_ci db-000000.ci {\"json\": 1}");
        assert!(fill(&values("{dependency.x}"), "a", &known).unwrap_err().contains("{dependency.x}"));
        assert!(fill(&values("a\nLETS_ENCRYPT_ENV=production"), "a", &known).unwrap_err().contains("value of A"));
    }
}
