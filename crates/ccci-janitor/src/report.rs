//! What a sweep found and did, for an operator to read in ten seconds, and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use ccci_core::docker::host::Addresses;
use ccci_core::lifetime::cause::exit;
use ccci_core::memory::History;
use ccci_core::teardown::Receipt;
use jiff::Timestamp;
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
    Live { name: String, holder: String, waiting: usize },
    /// Its lock is held for longer than any run may last. Never stolen.
    PossiblyLeaked { name: String, holder: String, waiting: usize },
    /// Not tried again yet.
    Quarantined { domain: String, failures: u32 },
    /// Left alone.
    Skipped { what: String, why: String },
    /// A guard that died before its teardown, with the processes that it left.
    DeadGuard {
        name: String,
        run_id: String,
        run_dir: String,
        /// When it was last heard of.
        left: Timestamp,
        processes: Vec<String>,
    },
}

/// A run that died without a result and has one now.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Concluded {
    pub(crate) run_id: String,
    pub(crate) run_dir: String,
    pub(crate) verdict: String,
}

/// What an image prune did.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Pruned {
    pub(crate) images: usize,
    pub(crate) bytes: u64,
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
    /// Runs that had died without a result.
    pub(crate) concluded: Vec<Concluded>,
    /// Snapshots in the making whose run is dead.
    pub(crate) candidates_removed: usize,
    /// What an image prune did, if one was due.
    pub(crate) pruned: Option<Pruned>,
    /// The addresses that are left on the networks that all stacks share.
    pub(crate) addresses: Vec<Addresses>,
    /// What the budget left for the next sweep.
    pub(crate) not_reached: usize,
    pub(crate) milliseconds: u64,
    /// Since the janitor's memory began.
    pub(crate) reaped_total: u64,
    /// Since the janitor's memory began.
    pub(crate) failed_total: u64,
    /// The runs that ended since the janitor's memory began.
    pub(crate) history: History,
}

impl Report {
    /// The exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match (self.unreadable.is_empty(), self.leftovers() > 0 && !self.dry_run) {
            (false, _) => exit::HOST,
            (true, true) => exit::RED,
            (true, false) => exit::GREEN,
        }
    }

    /// How many dead runs something is left of after this sweep, as far as it got.
    pub(crate) fn leftovers(&self) -> usize {
        let counts = self.counts();
        ["failed", "would_reap", "quarantined", "dead_guard"].iter().map(|kind| counts[kind]).sum()
    }

    /// How many runs wait for a lock.
    pub(crate) fn waiting(&self) -> usize {
        let waiting = |finding: &Finding| match finding {
            Finding::Live { waiting, .. } | Finding::PossiblyLeaked { waiting, .. } => *waiting,
            _ => 0,
        };
        self.findings.iter().map(waiting).sum()
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
    const fn is_urgent(&self) -> bool {
        matches!(
            self,
            Self::Failed { .. } | Self::PossiblyLeaked { .. } | Self::Quarantined { .. } | Self::DeadGuard { .. }
        )
    }

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
            Self::Live { name, holder, waiting } => {
                write!(f, "live         {name}: live concurrent run, leaving it ({holder}){}", queue(*waiting))
            }
            Self::PossiblyLeaked { name, holder, waiting } => {
                write!(
                    f,
                    "LEAKED RUN?  {name}: possible leaked run, held longer than twice its deadline ({holder}); stop it by hand{}",
                    queue(*waiting)
                )
            }
            Self::Quarantined { domain, failures } => {
                write!(f, "QUARANTINED  {domain}: reaping failed {failures} times; see `cc-ci-run reap {domain}`")
            }
            Self::Skipped { what, why } => write!(f, "skipped      {what}: {why}"),
            Self::DeadGuard { name, run_id, run_dir, left, processes } => {
                write!(
                    f,
                    "DEAD GUARD   {name}: run {run_id}, last heard of at {left:.0}; {} processes of it; its teardown is still to come, with the next guard of this \
                     name or by hand: cc-ci-run guard --name {name} -- true ({run_dir})",
                    processes.len()
                )
            }
        }
    }
}

fn queue(waiting: usize) -> String {
    if waiting == 0 { String::new() } else { format!("; {waiting} waiting") }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for source in &self.unreadable {
            writeln!(f, "UNREADABLE   {source}")?;
        }
        // What somebody must look at comes first.
        for (urgent, finding) in
            [true, false].into_iter().flat_map(|urgent| self.findings.iter().map(move |f| (urgent, f)))
        {
            if finding.is_urgent() == urgent {
                writeln!(f, "{finding}")?;
            }
        }
        for Concluded { run_id, run_dir, verdict } in &self.concluded {
            writeln!(f, "concluded    run {run_id}, which died without a result: {verdict} ({run_dir})")?;
        }
        if let Some(pruned) = &self.pruned {
            writeln!(f, "pruned       {} images without a name, {} bytes", pruned.images, pruned.bytes)?;
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
        if !self.concluded.is_empty() {
            write!(f, "; {} dead runs concluded", self.concluded.len())?;
        }
        if self.candidates_removed > 0 {
            write!(f, "; {} half-made snapshots of dead runs {verb}", self.candidates_removed)?;
        }
        if self.not_reached > 0 {
            write!(f, "; {} left for the next sweep (budget)", self.not_reached)?;
        }
        writeln!(f)
    }
}
