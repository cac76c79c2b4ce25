//! Why a run ended before it was done, and the exit codes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Exit codes of every command (`docs/concurrency.md`). Never 78: Drone takes it for success and
/// skips what follows (incident `[78]`).
pub mod exit {
    /// Everything passed and nothing was left behind.
    pub const GREEN: u8 = 0;
    /// A test failed, the deploy count is off, or residue was left.
    pub const RED: u8 = 1;
    /// Usage, configuration or test-folder error.
    pub const USAGE: u8 = 2;
    /// The host cannot do it; not the recipe's fault.
    pub const HOST: u8 = 69;
    /// The lock was not had in time, the conflict was refused, or too little time is left.
    pub const BUSY: u8 = 75;
    /// The deadline passed.
    pub const DEADLINE: u8 = 142;
    /// Cancelled.
    pub const CANCELLED: u8 = 143;
}

/// Who or what ended a run early.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// A signal sent by a process (`si_pid`; 0 is the kernel or another pid namespace).
    Operator {
        /// `SIGTERM`, `SIGINT`, `SIGQUIT` or `SIGHUP`.
        signal: String,
        /// The sender's pid.
        pid: u32,
    },
    /// The process that started the run is gone: the CI cancelled its step.
    ParentDied,
    /// The run's own clock.
    Deadline,
    /// SIGALRM, from outside.
    Alarm {
        /// The sender's pid.
        pid: u32,
    },
    /// A newer run of the same name was to replace this one.
    Superseded {
        /// The newer run.
        by: String,
        /// Its supervisor's pid.
        pid: u32,
    },
    /// The keeper was killed; what was left of the run finished the teardown.
    KeeperDied,
}

impl Cause {
    /// The exit code that reports this cause.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Deadline | Self::Alarm { .. } => exit::DEADLINE,
            Self::Operator { .. } | Self::ParentDied | Self::Superseded { .. } | Self::KeeperDied => exit::CANCELLED,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator { signal, pid: 0 } => match signal.as_str() {
                "SIGINT" => f.write_str("SIGINT (Ctrl-C)"),
                "SIGQUIT" => f.write_str("SIGQUIT (Ctrl-\\)"),
                "SIGHUP" => f.write_str("SIGHUP (the terminal is gone)"),
                _ => f.write_str(signal),
            },
            Self::Operator { signal, pid } => write!(f, "{signal} from pid {pid}"),
            Self::ParentDied => f.write_str("the parent process died (CI step cancelled)"),
            Self::Deadline => f.write_str("the deadline passed"),
            Self::Alarm { pid } => write!(f, "SIGALRM from pid {pid}"),
            Self::Superseded { by, .. } => write!(f, "superseded by run {by}"),
            Self::KeeperDied => f.write_str("the keeper was killed"),
        }
    }
}
