//! The guards of a keeper's first instructions: die when the CI step dies, and refuse to start when
//! it is dead already.
//!
//! Drone's exec runner cancels with SIGKILL to the step's shell alone (incident `[drone-kill]`), so
//! `PR_SET_PDEATHSIG` is the only thing that reaches the harness. It is cleared by set-uid and
//! capability exec, and it follows the parent *thread* (`prctl(2)`, incident `[thread]`).

use std::io;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid, getppid};

use crate::weaken::{self, Protection};

/// The variable in which a CI step hands over its own pid: `CCCI_PARENT_PID=$$`.
pub const PARENT_PID_VAR: &str = "CCCI_PARENT_PID";

/// Why a keeper refuses to start.
#[derive(Debug, thiserror::Error)]
pub enum ParentError {
    /// The process that wanted this run is gone already, so nobody could ever cancel it.
    #[error("parent died before prctl — refusing to run orphaned (parent is pid {actual}, expected {expected})")]
    Orphaned {
        /// What `getppid` says.
        actual: i32,
        /// What it should have been.
        expected: String,
    },
    /// `CCCI_PARENT_PID` is not a pid.
    #[error("{PARENT_PID_VAR}=`{0}` is not a process id: pass the step shell's own pid, {PARENT_PID_VAR}=$$")]
    NotAPid(String),
    /// A call that cannot fail on a kernel that this runs on.
    #[error("cannot arm the parent-death guards: {0}")]
    Os(#[from] io::Error),
}

/// Arms the guards and checks that the parent is still the one that started us.
///
/// Returns the parent's pid. Afterwards this process gets SIGTERM when its parent dies, adopts
/// orphaned descendants, and has `/` as its directory: the CI deletes the workspace under a cancelled run.
///
/// # Errors
/// [`ParentError::Orphaned`] when the parent died first; also when a subreaper took us over, which
/// only `CCCI_PARENT_PID` can tell.
pub fn arm() -> Result<Pid, ParentError> {
    let before = getppid();
    if weaken::on(Protection::ParentDeathSignal) {
        prctl::set_pdeathsig(Signal::SIGTERM).map_err(io::Error::from)?;
    }
    let told = match std::env::var(PARENT_PID_VAR) {
        // What a CI leaves of a variable without a value.
        Ok(text) if text.is_empty() => None,
        Ok(text) => Some(text.parse::<i32>().map(Pid::from_raw).map_err(|_| ParentError::NotAPid(text))?),
        Err(_) => None,
    };
    // Read again only now: a parent that dies from here on sends the signal.
    let actual = getppid();
    if let Some(expected) = orphaned(before, actual, told, is_main_process_of_a_unit()) {
        return Err(ParentError::Orphaned { actual: actual.as_raw(), expected });
    }
    prctl::set_child_subreaper(true).map_err(io::Error::from)?;
    std::env::set_current_dir("/")?;
    Ok(actual)
}

/// The decision, as a value: `Some(what was expected)` when the parent is gone.
fn orphaned(before: Pid, actual: Pid, told: Option<Pid>, unit: bool) -> Option<String> {
    if !weaken::on(Protection::ParentCheck) {
        return None;
    }
    match told {
        // A step shell that is its container's init is pid 1 and alive.
        Some(pid) => (actual != pid).then(|| pid.to_string()),
        None if before != actual => Some(before.to_string()),
        None if actual == Pid::from_raw(1) && !unit => Some("a parent other than init".to_owned()),
        None => None,
    }
}

/// systemd tells the main process of a unit its own pid (`SYSTEMD_EXEC_PID`, systemd.exec(5)); a
/// unit's parent *is* pid 1.
fn is_main_process_of_a_unit() -> bool {
    std::env::var("SYSTEMD_EXEC_PID").is_ok_and(|pid| pid == getpid().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_check_covers_every_case() {
        let pid = Pid::from_raw;
        assert_eq!(orphaned(pid(7), pid(7), None, false), None);
        assert_eq!(orphaned(pid(7), pid(7), Some(pid(7)), false), None);
        assert!(orphaned(pid(7), pid(9), None, false).is_some(), "changed under our eyes");
        assert!(orphaned(pid(9), pid(9), Some(pid(7)), false).is_some(), "a subreaper took us over");
        assert!(orphaned(pid(1), pid(1), None, false).is_some(), "init took us over");
        assert_eq!(orphaned(pid(1), pid(1), None, true), None, "a unit's parent is pid 1");
        assert_eq!(orphaned(pid(1), pid(1), Some(pid(1)), false), None, "the step shell is the container's init");
    }
}
