//! The outside tools, and which files each looks at.

use std::path::Path;

use anyhow::Context as _;
use clap::ValueEnum;
use xshell::{Cmd, Shell, cmd};

/// Which outside tools are asked, and whether they may write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options<'a> {
    /// Let the formatters write.
    pub(crate) fix: bool,
    /// Of the tools for Nix files those that are not asked.
    pub(crate) without: &'a [NixTool],
}

/// A tool for Nix files. Unlike the others not each can be had everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NixTool {
    Statix,
    Deadnix,
    Nixfmt,
}

impl NixTool {
    /// What it is called, on the command line and as a program.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Statix => "statix",
            Self::Deadnix => "deadnix",
            Self::Nixfmt => "nixfmt",
        }
    }
}

/// The files to look at: what git tracks or does not ignore; all there are where there is no git
/// checkout, as in a tree that Nix has copied.
///
/// # Errors
/// When git does not answer, or the tree cannot be read.
pub(crate) fn files(shell: &Shell) -> anyhow::Result<Vec<String>> {
    let root = shell.current_dir();
    if !root.ancestors().any(|dir| dir.join(".git").exists()) {
        let mut found = Vec::new();
        walk(&root, "", &mut found)?;
        return Ok(found);
    }
    let listed = cmd!(shell, "git ls-files --cached --others --exclude-standard").quiet().read()?;
    // A file that is deleted and not yet committed is still listed.
    Ok(listed.lines().map(str::to_owned).filter(|file| shell.path_exists(file)).collect())
}

fn walk(root: &Path, below: &str, found: &mut Vec<String>) -> anyhow::Result<()> {
    let dir = root.join(below);
    let entries = std::fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut entries = entries.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = format!("{below}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type()?;
        // What `.gitignore` would leave out, and cargo's own folders.
        let built = below.is_empty() && ["target", "result", ".cargo"].iter().any(|name| path.starts_with(name));
        if kind.is_dir() && !built {
            walk(root, &format!("{path}/"), found)?;
        } else if kind.is_file() {
            found.push(path);
        }
    }
    Ok(())
}

/// Runs every tool that has something to look at; what each says when it is not content.
pub(crate) fn run(shell: &Shell, files: &[String], Options { fix, without }: Options<'_>) -> Vec<String> {
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
    let expressions = with(&[".nix"]);
    // The formatter last, for it formats what the others have written.
    for each in [NixTool::Statix, NixTool::Deadnix, NixTool::Nixfmt] {
        if expressions.is_empty() || without.contains(&each) {
            continue;
        }
        let list = &expressions;
        let command = match (each, fix) {
            // statix looks at one file or folder at a time.
            (NixTool::Statix, false) => cmd!(shell, "statix check ."),
            (NixTool::Statix, true) => cmd!(shell, "statix fix ."),
            (NixTool::Deadnix, false) => cmd!(shell, "deadnix --fail {list...}"),
            (NixTool::Deadnix, true) => cmd!(shell, "deadnix --edit {list...}"),
            (NixTool::Nixfmt, false) => cmd!(shell, "nixfmt --check {list...}"),
            (NixTool::Nixfmt, true) => cmd!(shell, "nixfmt {list...}"),
        };
        tool(each.name(), command);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_without_git_is_walked_and_what_was_built_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let shell = Shell::new().unwrap();
        shell.change_dir(dir.path());
        for file in ["a.rs", "docs/b.md", "target/debug/c.rs", "docs/target/d.rs", "result/e"] {
            shell.write_file(file, "").unwrap();
        }
        assert_eq!(files(&shell).unwrap(), ["a.rs", "docs/b.md", "docs/target/d.rs"]);
    }

    #[test]
    fn a_tool_that_is_not_there_is_a_failure_unless_it_was_not_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let shell = Shell::new().unwrap();
        shell.change_dir(dir.path());
        shell.set_var("PATH", dir.path());
        shell.write_file("x.nix", "{ }").unwrap();
        let files = ["x.nix".to_owned()];
        let missing = |without: &[NixTool]| {
            let problems = run(&shell, &files, Options { fix: false, without });
            assert!(problems.iter().all(|problem| problem.contains("cannot be run")), "{problems:?}");
            problems.iter().map(|problem| problem.split(':').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(missing(&[]), ["statix", "deadnix", "nixfmt"]);
        assert_eq!(missing(&[NixTool::Statix]), ["deadnix", "nixfmt"]);
        assert!(missing(NixTool::value_variants()).is_empty());
    }
}
