//! Man pages and shell completions, written by each program about itself; and its arguments, as they are read.
//!
//! A hidden `generate` command instead of a build script: packagers call the binary that they ship, so
//! the pages cannot be about another version of it. Owns no text: every word is the program's own help.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Command, Parser, Subcommand};
use clap_complete::Shell;

/// The program's arguments. A variable without a value stands for none: that is what a CI leaves where there is nothing.
///
/// # Errors
/// What is wrong with them, for the person who called it; or what was asked for: the help, the version.
pub fn arguments<T: Parser>() -> Result<T, clap::Error> {
    let mut matches = unset_empty(T::command()).try_get_matches()?;
    T::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut T::command()))
}

fn unset_empty(command: Command) -> Command {
    let empty = |arg: &clap::Arg| arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    let command = command.mut_args(|arg| if empty(&arg) { arg.env(None::<&'static str>) } else { arg });
    command.mut_subcommands(unset_empty)
}

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
            Self::Man { dir } => man(program, dir),
            Self::Completions { dir } => completions(program, dir),
        });
        written.map_err(|error| io::Error::new(error.kind(), format!("cannot write to {}: {error}", dir.display())))
    }
}

fn man(program: Command, dir: &Path) -> io::Result<()> {
    let name = program.get_name().to_owned();
    clap_mangen::generate_to(program, dir)?;
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let ours = path.file_name().and_then(|name| name.to_str()).is_some_and(|page| page.starts_with(&name));
        if ours {
            std::fs::write(&path, set(&std::fs::read_to_string(&path)?))?;
        }
    }
    Ok(())
}

/// The page as people copy from it: no word is taken apart or spread, and an example stays in its line.
fn set(page: &str) -> String {
    let mut set = String::new();
    let (mut verbatim, mut extra) = (false, false);
    for line in page.lines() {
        extra |= line == ".SH EXTRA";
        let example = extra && line.starts_with("  ");
        if example != verbatim {
            set += if example { ".nf\n" } else { ".fi\n" };
            verbatim = example;
        }
        set += match line {
            ".SH EXTRA" => ".SH NOTES",
            line => line,
        };
        set += "\n";
        if line.starts_with(".TH ") {
            set += ".nh\n.ad l\n";
        }
    }
    set
}

fn completions(program: Command, dir: &Path) -> io::Result<()> {
    let name = program.get_name().to_owned();
    let mut shown = visible(program);
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let path = clap_complete::generate_to(shell, &mut shown, &name, dir)?;
        if shell == Shell::Bash {
            let text = std::fs::read_to_string(&path)?;
            std::fs::write(&path, of_one_name(&text, &name))?;
        }
    }
    Ok(())
}

/// `clap_complete` 4.6 writes a program's name with hyphens in two ways into the file for bash, which then knows
/// the commands and none of their options.
fn of_one_name(text: &str, name: &str) -> String {
    text.replace(&name.replace('-', "__subcmd__"), &name.replace('-', "__"))
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
    fn an_example_stays_in_its_line_and_what_follows_is_filled_again() {
        let page = ".TH tool 1\n.SH OPTIONS\n  as it was\n.SH EXTRA\nExample:\n  tool a\n  tool b\n\nMore.\n";
        let wanted = ".TH tool 1\n.nh\n.ad l\n.SH OPTIONS\n  as it was\n.SH NOTES\nExample:\n.nf\n  tool a\n  tool b\n.fi\n\nMore.\n";
        assert_eq!(set(page), wanted);
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
