//! The outside tools, and which files each looks at.

use xshell::{Cmd, Shell, cmd};

/// The files that git tracks, and those that it does not ignore.
///
/// # Errors
/// When this is no git checkout.
pub(crate) fn tracked(shell: &Shell) -> anyhow::Result<Vec<String>> {
    let listed = cmd!(shell, "git ls-files --cached --others --exclude-standard").quiet().read()?;
    // A file that is deleted and not yet committed is still listed.
    Ok(listed.lines().map(str::to_owned).filter(|file| shell.path_exists(file)).collect())
}

/// Runs every tool that has something to look at; what each says when it is not content.
pub(crate) fn run(shell: &Shell, files: &[String], fix: bool) -> Vec<String> {
    let mut problems = Vec::new();
    let mut tool = |name: &str, command: Cmd<'_>| {
        let done = command.quiet().ignore_status().output();
        match done {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).trim().to_owned());
                problems.push(format!("{name}:\n{}", text.join("\n").trim()));
            }
            // What was not looked at is not clean.
            Err(error) => problems.push(format!("{name}: cannot be run: {error}")),
        }
    };
    let with = |endings: &[&str]| -> Vec<&String> {
        files.iter().filter(|file| endings.iter().any(|ending| file.ends_with(ending))).collect()
    };
    let rust = with(&[".rs"]);
    if !rust.is_empty() {
        let check = (!fix).then_some("--check");
        tool("rustfmt", cmd!(shell, "cargo fmt --all -- {check...}"));
        tool("clippy", cmd!(shell, "cargo clippy --quiet --workspace --all-targets -- --deny warnings"));
    }
    let scripts: Vec<&String> = files.iter().filter(|file| is_shell(shell, file)).collect();
    if !scripts.is_empty() {
        let list = &scripts;
        let write = if fix { "--write" } else { "--diff" };
        tool("shfmt", cmd!(shell, "shfmt {write} --indent 2 {list...}"));
        tool("shellcheck", cmd!(shell, "shellcheck --external-sources --source-path=SCRIPTDIR {scripts...}"));
    }
    let yaml = with(&[".yml", ".yaml"]);
    if !yaml.is_empty() {
        tool("yamllint", cmd!(shell, "yamllint --strict {yaml...}"));
    }
    problems
}

/// A shell script by its ending or its first line.
fn is_shell(shell: &Shell, file: &str) -> bool {
    if file.ends_with(".sh") {
        return true;
    }
    let plain = !file.rsplit('/').next().unwrap_or_default().contains('.');
    plain
        && shell.read_file(file).is_ok_and(|text| {
            let first = text.lines().next().unwrap_or_default();
            first.starts_with("#!") && (first.ends_with("sh") || first.contains("sh "))
        })
}
