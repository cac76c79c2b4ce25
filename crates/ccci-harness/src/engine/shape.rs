//! What an app's env file is made of: the recipe's sample, shaped for a test run.

use std::collections::BTreeMap;

use ccci_core::substrate::env_file;

use super::App;

/// The compose file of a recipe whose env file names none.
pub(super) const COMPOSE: &str = "compose.yml";

/// The sample with the app's own variables.
pub(super) fn env_text(sample: &str, app: &App<'_>) -> String {
    with_vars(sample, app, &app.env)
}

/// The env file with `vars` in it, and with what is the run's alone to say.
pub(super) fn with_vars(text: &str, app: &App<'_>, vars: &BTreeMap<String, String>) -> String {
    let vars = vars.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    env_file::set(text, &vars.chain(always(app)).collect::<Vec<_>>())
}

/// What no recipe, test folder or caller has a say in. A test app never asks Let's Encrypt for a
/// certificate (incident `[acme]`).
pub(super) fn always<'app>(app: &'app App<'_>) -> [(&'static str, &'app str); 2] {
    [("DOMAIN", app.domain.as_str()), ("LETS_ENCRYPT_ENV", "")]
}

/// The env file with `overlay` as its last compose file, or without it. The line is added at the end, as
/// `COMPOSE_FILE` may be built up over several lines.
pub(super) fn with_overlay(text: &str, overlay: &str, wanted: bool) -> String {
    let last = format!(":{overlay}");
    let ours = |line: &&str| line.starts_with("COMPOSE_FILE=") && line.ends_with(&last);
    let mut text: String = text.lines().filter(|line| !ours(line)).flat_map(|line| [line, "\n"]).collect();
    if wanted {
        let vars = env_file::parse(&text);
        let files = vars.get("COMPOSE_FILE").filter(|files| !files.is_empty()).map_or(COMPOSE, String::as_str);
        text += &format!("COMPOSE_FILE={files}{last}\n");
    }
    text
}

/// The values with `{domain}`, `{stack}` and `{dependency.<recipe>}` filled in.
///
/// # Errors
/// Names a dependency that the recipe does not have, and a variable whose value is no single line.
pub(crate) fn fill(
    values: &BTreeMap<String, String>,
    domain: &str,
    dependencies: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    const OPEN: &str = "{dependency.";
    let stack = domain.replace('.', "_");
    let fill = |value: &String| {
        let mut value = value.replace("{domain}", domain).replace("{stack}", &stack);
        for (recipe, domain) in dependencies {
            value = value.replace(&format!("{OPEN}{recipe}}}"), domain);
        }
        match value.find(OPEN) {
            Some(at) => Err(format!("`{}` names no dependency of the recipe", &value[at..])),
            None => Ok(value),
        }
    };
    values
        .iter()
        .map(|(key, value)| match value.contains(['\n', '\r']) {
            true => Err(format!("the value of {key} has several lines, and a line is all that an env file can hold")),
            false => Ok((key.clone(), fill(value)?)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_comes_last_and_goes_again() {
        let text = "COMPOSE_FILE=compose.yml\nCOMPOSE_FILE=\"$COMPOSE_FILE:compose.smtp.yml\"\nA=1";
        let with = with_overlay(text, "compose.ccci.yml", true);
        assert_eq!(env_file::parse(&with)["COMPOSE_FILE"], "compose.yml:compose.smtp.yml:compose.ccci.yml");
        assert_eq!(with_overlay(&with, "compose.ccci.yml", true), with, "once");
        assert_eq!(with_overlay(&with, "compose.ccci.yml", false), format!("{text}\n"));
        assert_eq!(with_overlay("A=1\n", "o.yml", true), "A=1\nCOMPOSE_FILE=compose.yml:o.yml\n");
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
