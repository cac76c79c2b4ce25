//! What a sweep found and did, for an operator to read in ten seconds, and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use ccci_core::lifetime::cause::exit;
use ccci_core::teardown::Receipt;
use serde::Serialize;

/// What became of one thing.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub(crate) enum Finding {
    /// An orphan, reaped.
    Reaped { domain: String, receipt: Receipt },
    /// An orphan, reaped in part; the receipt names the rest.
    Failed { domain: String, receipt: Receipt },
    /// An orphan that a dry run left.
    WouldReap { domain: String, objects: Vec<String> },
    /// Its lock is held: its run is alive.
    Live { name: String, holder: String },
    /// Its lock is held for longer than any run may last. Never stolen.
    PossiblyLeaked { name: String, holder: String },
    /// Not tried again yet.
    Quarantined { domain: String, failures: u32 },
    /// Left alone.
    Skipped { what: String, why: String },
    /// A guard that died before its teardown.
    DeadGuard { name: String, run_dir: String },
}

/// A whole sweep.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) dry_run: bool,
    pub(crate) findings: Vec<Finding>,
    /// Sources that could not be read.
    pub(crate) unreadable: Vec<String>,
    pub(crate) lock_files_removed: usize,
    pub(crate) run_dirs_removed: usize,
    /// What the budget left for the next sweep.
    pub(crate) not_reached: usize,
    pub(crate) milliseconds: u64,
    /// Since the janitor's memory began.
    pub(crate) reaped_total: u64,
    /// Since the janitor's memory began.
    pub(crate) failed_total: u64,
}

impl Report {
    /// The exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        let trouble =
            self.findings.iter().any(|finding| matches!(finding, Finding::Failed { .. } | Finding::Quarantined { .. }));
        match (self.unreadable.is_empty(), trouble) {
            (false, _) => exit::HOST,
            (true, true) => exit::RED,
            (true, false) => exit::GREEN,
        }
    }

    /// How many findings there are of each kind.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for kind in
            ["reaped", "failed", "would_reap", "live", "possibly_leaked", "quarantined", "skipped", "dead_guard"]
        {
            counts.insert(kind, 0);
        }
        for finding in &self.findings {
            *counts.entry(finding.kind()).or_default() += 1;
        }
        counts
    }
}

impl Finding {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Reaped { .. } => "reaped",
            Self::Failed { .. } => "failed",
            Self::WouldReap { .. } => "would_reap",
            Self::Live { .. } => "live",
            Self::PossiblyLeaked { .. } => "possibly_leaked",
            Self::Quarantined { .. } => "quarantined",
            Self::Skipped { .. } => "skipped",
            Self::DeadGuard { .. } => "dead_guard",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reaped { domain, receipt } => {
                write!(
                    f,
                    "reaped       {domain}: {} removed, {} processes ended",
                    receipt.removed.len(),
                    receipt.processes.len()
                )
            }
            Self::Failed { domain, receipt } => {
                let left: Vec<_> = receipt.residue.iter().map(|left| format!("{} ({})", left.what, left.why)).collect();
                write!(f, "NOT REAPED   {domain}: {}", left.join("; "))
            }
            Self::WouldReap { domain, objects } => write!(f, "would reap   {domain}: {}", objects.join(", ")),
            Self::Live { name, holder } => write!(f, "live         {name}: live concurrent run, leaving it ({holder})"),
            Self::PossiblyLeaked { name, holder } => {
                write!(
                    f,
                    "LEAKED RUN?  {name}: possible leaked run, held longer than twice its deadline ({holder}); stop it by hand"
                )
            }
            Self::Quarantined { domain, failures } => {
                write!(f, "QUARANTINED  {domain}: reaping failed {failures} times; see `cc-ci-run reap {domain}`")
            }
            Self::Skipped { what, why } => write!(f, "skipped      {what}: {why}"),
            Self::DeadGuard { name, run_dir } => {
                write!(
                    f,
                    "dead guard   {name}: its processes were ended; the next guard of this name runs its teardown ({run_dir})"
                )
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for source in &self.unreadable {
            writeln!(f, "UNREADABLE   {source}")?;
        }
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        let counts = self.counts();
        let counted: Vec<_> =
            counts.iter().filter(|(_, n)| **n > 0).map(|(kind, n)| format!("{n} {}", kind.replace('_', " "))).collect();
        let counted = if counted.is_empty() { "nothing to do".to_owned() } else { counted.join(", ") };
        let verb = if self.dry_run { "to remove" } else { "removed" };
        write!(
            f,
            "sweep: {counted}; {} lock files and {} run directories {verb}; {} ms",
            self.lock_files_removed, self.run_dirs_removed, self.milliseconds
        )?;
        if self.not_reached > 0 {
            write!(f, "; {} left for the next sweep (budget)", self.not_reached)?;
        }
        writeln!(f)
    }
}
