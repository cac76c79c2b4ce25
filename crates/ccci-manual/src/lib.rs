//! Man pages and shell completions, written by each program about itself.
//!
//! A hidden `generate` command instead of a build script: packagers call the binary that they ship, so
//! the pages cannot be about another version of it. Owns no text: every word is the program's own help.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Command, Subcommand};
use clap_complete::Shell;

/// What the hidden `generate` command writes.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Generate {
    /// Write a man page for the program and one for each of its commands
    Man {
        /// The folder to write to; made where it is missing
        dir: PathBuf,
    },
    /// Write completions for bash, zsh and fish
    Completions {
        /// The folder to write to; made where it is missing
        dir: PathBuf,
    },
}

impl Generate {
    /// Writes what was asked for, about `program`.
    ///
    /// # Errors
    /// When a file cannot be written; the folder is named.
    pub fn write(&self, program: Command) -> io::Result<()> {
        let (Self::Man { dir } | Self::Completions { dir }) = self;
        let written = std::fs::create_dir_all(dir).and_then(|()| match self {
            Self::Man { dir } => clap_mangen::generate_to(program, dir),
            Self::Completions { dir } => completions(program, dir),
        });
        written.map_err(|error| io::Error::new(error.kind(), format!("cannot write to {}: {error}", dir.display())))
    }
}

fn completions(program: Command, dir: &Path) -> io::Result<()> {
    let name = program.get_name().to_owned();
    let mut shown = visible(program);
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut shown, &name, dir)?;
    }
    Ok(())
}

/// The program without its hidden commands, which `clap_complete` would offer like any other: nobody
/// is to start a part of a run from a completion.
fn visible(program: Command) -> Command {
    let commands = program.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    Command::new(program.get_name().to_owned())
        .version(program.get_version().unwrap_or_default().to_owned())
        .args(program.get_arguments().cloned())
        .subcommands(commands)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program() -> Command {
        let inner = Command::new("inner").about("one of two").arg(clap::Arg::new("far").long("far").help("how far"));
        let hidden = Command::new("hidden-part").hide(true);
        let check = Command::new("check").about("says whether");
        let outer = Command::new("outer").about("has commands").subcommand_required(true).subcommand(check);
        Command::new("tool").version("1.2.3").subcommands([inner, outer, hidden])
    }

    fn written(what: impl FnOnce(PathBuf) -> Generate) -> Vec<(String, String)> {
        let dir = tempfile::tempdir().unwrap();
        // Deeper than what is there: a packager's folder need not exist.
        let dir = dir.path().join("deep/er");
        what(dir.clone()).write(program()).unwrap();
        let entries = std::fs::read_dir(&dir).unwrap().map(Result::unwrap);
        let mut files: Vec<_> = entries
            .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap()))
            .collect();
        files.sort();
        files
    }

    #[test]
    fn each_command_has_a_page_and_hidden_ones_have_none() {
        let pages = written(|dir| Generate::Man { dir });
        let names: Vec<_> = pages.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["tool-inner.1", "tool-outer-check.1", "tool-outer.1", "tool.1"]);
        assert!(pages[0].1.contains("how far"), "{}", pages[0].1);
    }

    #[test]
    fn each_shell_has_completions() {
        let files = written(|dir| Generate::Completions { dir });
        let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["_tool", "tool.bash", "tool.fish"]);
        for (name, text) in &files {
            assert!(text.contains("inner") && text.contains("far"), "{name}: {text}");
            assert!(!text.contains("hidden-part"), "{name} offers a hidden command: {text}");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let dir = file.path().join("man");
        let error = Generate::Man { dir: dir.clone() }.write(program()).unwrap_err().to_string();
        assert!(error.contains(&dir.display().to_string()), "{error}");
    }
}
