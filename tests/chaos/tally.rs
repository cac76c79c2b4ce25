//! What was done so far, for the last line.

use std::collections::BTreeMap;
use std::fmt;

use crate::round::{Kind, Member};

/// The figures of a whole play.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) rounds: BTreeMap<Kind, u64>,
    pub(crate) runs: u64,
    pub(crate) green: u64,
    pub(crate) signals: BTreeMap<String, u64>,
    pub(crate) members: BTreeMap<Member, u64>,
    /// Nobody was there to be hit.
    pub(crate) missed: u64,
    pub(crate) unlinked: u64,
    pub(crate) robbed: u64,
    pub(crate) restarts: u64,
    pub(crate) sweeps: u64,
    pub(crate) reaped: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = |counts: Vec<(String, u64)>| -> String {
            counts.iter().map(|(what, n)| format!("{n} {what}")).collect::<Vec<_>>().join(", ")
        };
        let rounds = self.rounds.iter().map(|(kind, n)| (format!("{kind:?}"), *n)).collect();
        let members = self.members.iter().map(|(member, n)| (format!("{member:?}"), *n)).collect();
        let signals = self.signals.iter().map(|(signal, n)| (signal.clone(), *n)).collect();
        write!(
            f,
            "rounds: {}; runs: {} ({} green); signals: {} ({}) to {}; {} met nobody any more; lock files unlinked: \
             {}, robbed: {}; daemon restarts: {}; sweeps: {}, which reaped {}",
            all(rounds),
            self.runs,
            self.green,
            self.signals.values().sum::<u64>(),
            all(signals),
            all(members),
            self.missed,
            self.unlinked,
            self.robbed,
            self.restarts,
            self.sweeps,
            self.reaped
        )
    }
}
