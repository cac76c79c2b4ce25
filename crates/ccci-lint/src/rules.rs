//! The house rules: what no outside tool knows.

mod indexes;
mod walls;

use std::path::Path;

use xshell::Shell;

/// Files of automated maintainers belong under `machine-docs/` and nowhere else.
const MACHINE_PREFIXES: [&str; 4] = ["STATUS-", "BACKLOG-", "REVIEW-", "JOURNAL-"];
const MACHINE_NAMES: [&str; 2] = ["DECISIONS.md", "DEFERRED.md"];
const MACHINE_SUFFIX: &str = "INBOX.md";
const MACHINE_DIR: &str = "machine-docs/";

/// Everything that breaks a rule, a line each.
pub(crate) fn check(shell: &Shell, files: &[String]) -> Vec<String> {
    let mut problems = locations(files);
    if files.iter().any(|file| file == ".drone.yml") {
        problems.extend(shell.read_file(".drone.yml").map_or_else(|e| vec![e.to_string()], |text| drone(&text)));
    }
    problems.extend(indexes::check(shell, files));
    problems.extend(walls::check(shell, files));
    problems
}

/// Where files of automated maintainers stand.
fn locations(files: &[String]) -> Vec<String> {
    let astray = |file: &&String| {
        let name =
            Path::new(file.as_str()).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let machine = MACHINE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            || MACHINE_NAMES.contains(&name.as_str())
            || name.ends_with(MACHINE_SUFFIX);
        machine && !file.starts_with(MACHINE_DIR)
    };
    files.iter().filter(astray).map(|file| format!("{file}: belongs under {MACHINE_DIR}")).collect()
}

/// Drone must not serialise what the lock arbitrates, and `exec` would hide a cancel from the step.
fn drone(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let code = |line: &str| line.split('#').next().unwrap_or_default().trim().to_owned();
    let lines: Vec<String> = text.lines().map(code).collect();
    if lines.iter().any(|line| line.starts_with("concurrency:")) {
        problems
            .push(".drone.yml: `concurrency.limit` queues builds out of sight; the lock does it per app".to_owned());
    }
    for line in lines.iter().filter(|line| line.contains("cc-ci-run run")) {
        if line.contains("exec cc-ci-run") {
            problems.push(
                ".drone.yml: `exec cc-ci-run` makes the runner's own shell the parent: call it directly".to_owned(),
            );
        }
        if !line.contains("CCCI_PARENT_PID=$$$$ ") {
            // A single pair reaches the shell as `$`, which is no pid: every run would exit 2.
            problems.push(
                ".drone.yml: the step that calls cc-ci-run passes CCCI_PARENT_PID=$$$$: Drone makes one `$` of two"
                    .to_owned(),
            );
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_files_are_at_home_in_one_place_only() {
        let files = ["README.md", "machine-docs/STATUS-1.md", "machine-docs/x/DEFERRED.md", "docs/decisions.md"]
            .map(String::from);
        assert!(locations(&files).is_empty());
        for astray in
            ["STATUS-1.md", "docs/JOURNAL-x.md", "DECISIONS.md", "crates/a/MYINBOX.md", "REVIEW-2", "x/BACKLOG-9.txt"]
        {
            assert_eq!(locations(&[astray.to_owned()]).len(), 1, "{astray}");
        }
    }

    #[test]
    fn drone_steps_call_the_harness_as_the_docs_say() {
        assert!(drone("  - CCCI_PARENT_PID=$$$$ cc-ci-run run\n# concurrency: no").is_empty());
        assert_eq!(drone("concurrency:\n  limit: 1").len(), 1);
        assert_eq!(drone("  - CCCI_PARENT_PID=$$$$ exec cc-ci-run run").len(), 1);
        assert_eq!(drone("  - cc-ci-run run").len(), 1);
        assert_eq!(drone("  - CCCI_PARENT_PID=$$ cc-ci-run run").len(), 1, "Drone halves it");
    }
}
