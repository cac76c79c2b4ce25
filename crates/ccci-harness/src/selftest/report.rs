//! What was seen of a cancel, and what it means.

use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ccci_core::config::duration;
use serde::{Deserialize, Serialize};

/// The version of the report's shape.
const SCHEMA: u32 = 1;

/// What the witness is to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Brief {
    pub(super) out: PathBuf,
    pub(super) shell: i32,
    pub(super) step: i32,
    pub(super) group: i32,
    pub(super) session: i32,
    pub(super) workspace: PathBuf,
    pub(super) home: Option<PathBuf>,
    #[serde(with = "duration")]
    pub(super) settle: Duration,
    pub(super) stdout: String,
}

impl FromStr for Brief {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(text)
    }
}

/// Of whom something was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Who {
    /// The step's shell.
    Shell,
    /// What it called.
    Step,
    /// A process in the step's group.
    Neighbour,
    /// A process in a session of its own.
    Witness,
    /// The step's working directory.
    Workspace,
    /// `$HOME`.
    Home,
    /// The step's standard output.
    Stdout,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(super) enum What {
    /// It got a signal.
    Signal {
        signal: String,
        /// Who sent it, as far as the kernel tells.
        pid: u32,
        /// The sender's name, if it was still there.
        sender: String,
        /// Whether it is the one that the kernel sends when the parent dies.
        by_parents_death: bool,
    },
    /// It ended without a word: SIGKILL, as everything else is heard.
    Killed,
    /// It ended.
    Ended,
    /// It ended by itself, as nothing came any more.
    GaveUp,
    /// It is no more.
    Gone,
    /// Nobody reads it any more.
    Closed,
}

/// Something that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    /// When: milliseconds since the machine was started.
    pub(super) at_ms: u64,
    pub(super) who: Who,
    #[serde(flatten)]
    pub(super) what: What,
}

/// The report.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    schema: u32,
    /// False when the witness did not get to its end: the runner ended it too.
    finished: bool,
    #[serde(flatten)]
    brief: Brief,
    /// Between the first signal and SIGKILL.
    grace_ms: Option<u64>,
    /// What happened, in order.
    seen: Vec<Seen>,
    /// The same in words.
    says: Vec<String>,
}

impl Report {
    pub(super) fn new(brief: Brief, mut seen: Vec<Seen>, finished: bool) -> Self {
        seen.sort_by_key(|seen| seen.at_ms);
        let says = if finished { conclude(&seen, &brief) } else { vec!["not finished".to_owned()] };
        Self { schema: SCHEMA, finished, brief, grace_ms: grace(&seen), seen, says }
    }
}

fn find(seen: &[Seen], who: Who, wanted: impl Fn(&What) -> bool) -> Option<&Seen> {
    seen.iter().find(|seen| seen.who == who && wanted(&seen.what))
}

fn signal(seen: &[Seen], who: Who) -> Option<&Seen> {
    find(seen, who, |what| matches!(what, What::Signal { .. }))
}

fn grace(seen: &[Seen]) -> Option<u64> {
    let killed = find(seen, Who::Step, |what| *what == What::Killed)?;
    Some(killed.at_ms.saturating_sub(signal(seen, Who::Step)?.at_ms))
}

/// What it means for a run.
fn conclude(seen: &[Seen], brief: &Brief) -> Vec<String> {
    let mut says = vec![first_word(seen)];
    says.extend(last_word(seen));
    says.push(match find(seen, Who::Shell, |what| *what == What::Ended) {
        Some(_) => "the step's shell ended".to_owned(),
        None => "the step's shell was left alone: it waits for what it called".to_owned(),
    });
    if signal(seen, Who::Witness).is_some() {
        says.push("a signal also reached a session of its own: the runner goes by cgroup or by parentage".to_owned());
    }
    for (who, name) in [(Who::Workspace, "the workspace"), (Who::Home, "$HOME")] {
        says.push(match find(seen, who, |what| *what == What::Gone) {
            Some(_) => format!("{name} was deleted: nothing in it can be counted on during a teardown"),
            None => format!("{name} was still there {} after the step's end", duration::show(brief.settle)),
        });
    }
    says.push(match find(seen, Who::Stdout, |what| *what == What::Closed) {
        Some(_) => "stdout lost its reader: what a teardown says is in run.log alone".to_owned(),
        None => format!("stdout ({}) was still there", brief.stdout),
    });
    says
}

fn first_word(seen: &[Seen]) -> String {
    let together = signal(seen, Who::Neighbour).is_some();
    match signal(seen, Who::Step).map(|seen| &seen.what) {
        Some(What::Signal { signal, by_parents_death: true, .. }) => {
            format!(
                "{signal} came from the kernel, because the step's shell had died: the runner ended the shell alone"
            )
        }
        Some(What::Signal { signal, pid, sender, .. }) => {
            let whom = if together { "the step's process group" } else { "the step alone" };
            format!("{signal} came from pid {pid} ({}), to {whom}", if sender.is_empty() { "gone" } else { sender })
        }
        _ if find(seen, Who::Step, |what| *what == What::Killed).is_some() => {
            "SIGKILL came without a word: of a run only the worker would be left to clean up".to_owned()
        }
        _ => "nobody cancelled the step".to_owned(),
    }
}

fn last_word(seen: &[Seen]) -> Option<String> {
    if let Some(grace) = grace(seen) {
        return Some(format!("SIGKILL followed after {grace} ms: of a run only the worker or reaper would be left"));
    }
    let heard = signal(seen, Who::Step)?;
    let end = find(seen, Who::Step, |what| *what == What::GaveUp)?;
    Some(format!(
        "no SIGKILL followed within {} ms: a teardown has at least that long",
        end.at_ms.saturating_sub(heard.at_ms)
    ))
}

/// What kind of thing our stdout is.
pub(super) fn stdout_kind() -> String {
    use std::io::IsTerminal as _;
    let kind = match std::fs::metadata("/proc/self/fd/1").map(|metadata| metadata.file_type()) {
        Ok(_) if std::io::stdout().is_terminal() => "terminal",
        Ok(kind) if kind.is_fifo() => "pipe",
        Ok(kind) if kind.is_socket() => "socket",
        Ok(kind) if kind.is_file() => "file",
        Ok(_) => "device",
        Err(_) => "closed",
    };
    kind.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brief() -> Brief {
        Brief {
            out: "/x".into(),
            shell: 2,
            step: 3,
            group: 3,
            session: 3,
            workspace: "/w".into(),
            home: None,
            settle: Duration::from_secs(10),
            stdout: "pipe".to_owned(),
        }
    }

    fn at(at_ms: u64, who: Who, what: What) -> Seen {
        Seen { at_ms, who, what }
    }

    fn term(by_parents_death: bool) -> What {
        What::Signal { signal: "SIGTERM".to_owned(), pid: 9, sender: "runner".to_owned(), by_parents_death }
    }

    fn says(seen: Vec<Seen>) -> String {
        Report::new(brief(), seen, true).says.join("\n")
    }

    #[test]
    fn each_kind_of_cancel_is_told_apart() {
        let drone = says(vec![
            at(5, Who::Shell, What::Ended),
            at(6, Who::Step, term(true)),
            at(7, Who::Workspace, What::Gone),
            at(9, Who::Step, What::GaveUp),
        ]);
        assert!(drone.contains("the runner ended the shell alone") && drone.contains("within 3 ms"), "{drone}");
        assert!(drone.contains("the workspace was deleted") && drone.contains("$HOME was still there 10s"), "{drone}");

        let alone = says(vec![at(5, Who::Step, term(false)), at(1005, Who::Step, What::Killed)]);
        assert!(alone.contains("pid 9 (runner), to the step alone") && alone.contains("after 1000 ms"), "{alone}");
        let group = says(vec![at(5, Who::Step, term(false)), at(5, Who::Neighbour, term(false))]);
        assert!(group.contains("to the step's process group"), "{group}");
        assert!(says(vec![at(5, Who::Step, What::Killed)]).contains("without a word"));
        assert!(says(vec![at(5, Who::Step, What::GaveUp)]).contains("nobody cancelled"));
    }

    #[test]
    fn what_was_seen_is_told_in_order_and_breaks_off_where_the_witness_did() {
        let report = Report::new(brief(), vec![at(9, Who::Home, What::Gone), at(5, Who::Step, term(false))], false);
        assert_eq!(report.seen.iter().map(|seen| seen.at_ms).collect::<Vec<_>>(), [5, 9]);
        assert_eq!((report.finished, report.says), (false, vec!["not finished".to_owned()]));
    }
}
