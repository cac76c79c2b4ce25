//! What became of a test, a tier, a rung and a run. Never a `bool`.

use std::collections::BTreeMap;
use std::fmt;

use ccci_core::lifetime::cause::exit;
use serde::{Deserialize, Serialize};

/// What became of a test, a tier or a rung.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It was looked at and is right.
    Pass,
    /// It was looked at and is wrong.
    Fail {
        /// What is wrong.
        reason: String,
    },
    /// It does not apply, for a declared or structural reason.
    Skip {
        /// The reason.
        reason: String,
    },
    /// It was not looked at.
    #[serde(rename = "unver")]
    Unverified {
        /// Why not.
        why: String,
    },
}

impl Outcome {
    pub(crate) fn fail(reason: impl Into<String>) -> Self {
        Self::Fail { reason: reason.into() }
    }

    pub(crate) fn skip(reason: impl Into<String>) -> Self {
        Self::Skip { reason: reason.into() }
    }

    pub(crate) fn unverified(why: impl Into<String>) -> Self {
        Self::Unverified { why: why.into() }
    }

    /// The same, its reason gone through `clean`.
    pub(crate) fn cleaned(self, clean: impl Fn(&str) -> String) -> Self {
        match self {
            Self::Pass => Self::Pass,
            Self::Fail { reason } => Self::fail(clean(&reason)),
            Self::Skip { reason } => Self::skip(clean(&reason)),
            Self::Unverified { why } => Self::unverified(clean(&why)),
        }
    }

    /// One word, as in `results.json`.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail { .. } => "fail",
            Self::Skip { .. } => "skip",
            Self::Unverified { .. } => "unver",
        }
    }

    /// The reason behind the word.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Pass => "",
            Self::Fail { reason } | Self::Skip { reason } => reason,
            Self::Unverified { why } => why,
        }
    }

    /// The reason without the lines of a log that may follow it.
    pub(crate) fn headline(&self) -> &str {
        self.reason().lines().next().unwrap_or_default()
    }
}

/// The rungs of the ladder, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Rung {
    Install,
    Upgrade,
    BackupRestore,
    Functional,
    Lint,
}

impl Rung {
    pub(crate) const ALL: [Self; 5] = [Self::Install, Self::Upgrade, Self::BackupRestore, Self::Functional, Self::Lint];
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Install => "install",
            Self::Upgrade => "upgrade",
            Self::BackupRestore => "backup/restore",
            Self::Functional => "functional",
            Self::Lint => "lint",
        })
    }
}

/// The stages of a run, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Tier {
    Install,
    Upgrade,
    Backup,
    Restore,
    Custom,
}

impl Tier {
    pub(crate) const ALL: [Self; 5] = [Self::Install, Self::Upgrade, Self::Backup, Self::Restore, Self::Custom];
    /// The stages of a quick run: kept data, the upgrade of them, what it came to.
    pub(crate) const QUICK: [Self; 3] = [Self::Install, Self::Upgrade, Self::Custom];

    /// The stages without which there is nothing for this one to do.
    pub(crate) const fn needs(self) -> &'static [Self] {
        match self {
            Self::Install => &[],
            Self::Upgrade | Self::Backup | Self::Custom => &[Self::Install],
            Self::Restore => &[Self::Install, Self::Backup],
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Install => "install",
            Self::Upgrade => "upgrade",
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::Custom => "custom",
        })
    }
}

/// The rungs that the stages' outcomes and the lint's amount to.
pub(crate) fn rungs(stages: &BTreeMap<Tier, Outcome>, lint: Option<&Outcome>) -> BTreeMap<Rung, Outcome> {
    let of = |tier| stages.get(&tier).cloned().unwrap_or_else(|| Outcome::unverified("not reached"));
    let backup_restore = match (of(Tier::Backup), of(Tier::Restore)) {
        (Outcome::Pass, restore) => restore,
        (backup @ Outcome::Fail { .. }, _) => backup,
        (_, restore @ Outcome::Fail { .. }) => restore,
        (backup, _) => backup,
    };
    BTreeMap::from([
        (Rung::Install, of(Tier::Install)),
        (Rung::Upgrade, of(Tier::Upgrade)),
        (Rung::BackupRestore, backup_restore),
        (Rung::Functional, of(Tier::Custom)),
        (Rung::Lint, lint.cloned().unwrap_or_else(|| Outcome::unverified("not reached"))),
    ])
}

/// The level: the highest rung that passed with everything below it passed or skipped. Presentation;
/// the verdict is the exit code.
pub(crate) fn level(rungs: &BTreeMap<Rung, Outcome>) -> usize {
    let mut level = 0;
    for (number, rung) in Rung::ALL.into_iter().enumerate() {
        match rungs.get(&rung) {
            Some(Outcome::Pass) => level = number + 1,
            Some(Outcome::Skip { .. }) => {}
            _ => break,
        }
    }
    level
}

/// How a run ended, from the exit code's point of view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Green,
    Red,
    Usage,
    Host,
    /// Something that the verdict needs is not known.
    Incomplete,
    Busy,
    Deadline,
    Cancelled,
}

impl Verdict {
    /// One word, as in `results.json`.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Green => "green",
            Self::Red => "red",
            Self::Usage => "usage",
            Self::Host => "host",
            Self::Incomplete => "incomplete",
            Self::Busy => "busy",
            Self::Deadline => "deadline",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the run went to its end, and this is what its tests amount to.
    pub(crate) const fn is_on_the_tests(self) -> bool {
        match self {
            Self::Green | Self::Red | Self::Incomplete => true,
            Self::Usage | Self::Host | Self::Busy | Self::Deadline | Self::Cancelled => false,
        }
    }

    /// The one place where an ending becomes an exit code.
    pub(crate) const fn exit_code(self) -> u8 {
        match self {
            Self::Green => exit::GREEN,
            Self::Red => exit::RED,
            Self::Usage => exit::USAGE,
            Self::Host | Self::Incomplete => exit::HOST,
            Self::Busy => exit::BUSY,
            Self::Deadline => exit::DEADLINE,
            Self::Cancelled => exit::CANCELLED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ladder(words: [&str; 5]) -> BTreeMap<Rung, Outcome> {
        let outcome = |word| match word {
            "pass" => Outcome::Pass,
            "fail" => Outcome::fail("x"),
            "skip" => Outcome::skip("x"),
            _ => Outcome::unverified("x"),
        };
        Rung::ALL.into_iter().zip(words.map(outcome)).collect()
    }

    #[test]
    fn no_ending_is_what_drone_takes_for_a_success() {
        use Verdict::{Busy, Cancelled, Deadline, Green, Host, Incomplete, Red, Usage};
        let codes = [Green, Red, Usage, Host, Incomplete, Busy, Deadline, Cancelled].map(Verdict::exit_code);
        assert_eq!(codes, [0, 1, 2, 69, 69, 75, 142, 143], "never 78");
    }

    #[test]
    fn the_level_is_the_highest_rung_with_nothing_broken_below() {
        for (words, expected) in [
            (["pass", "pass", "pass", "pass", "pass"], 5),
            (["pass", "pass", "pass", "pass", "unver"], 4),
            (["pass", "skip", "skip", "pass", "pass"], 5),
            (["pass", "skip", "skip", "skip", "skip"], 1),
            (["pass", "fail", "pass", "pass", "pass"], 1),
            (["pass", "unver", "pass", "pass", "pass"], 1),
            (["fail", "pass", "pass", "pass", "pass"], 0),
            (["skip", "pass", "fail", "pass", "pass"], 2),
        ] {
            assert_eq!(level(&ladder(words)), expected, "{words:?}");
        }
    }

    #[test]
    fn a_failed_restore_is_not_hidden_by_a_good_backup() {
        let stages =
            |backup: Outcome, restore: Outcome| BTreeMap::from([(Tier::Backup, backup), (Tier::Restore, restore)]);
        let rung = |stages| rungs(&stages, None)[&Rung::BackupRestore].word();
        assert_eq!(rung(stages(Outcome::Pass, Outcome::fail("x"))), "fail");
        assert_eq!(rung(stages(Outcome::fail("x"), Outcome::unverified("x"))), "fail");
        assert_eq!(rung(stages(Outcome::skip("x"), Outcome::skip("x"))), "skip");
        assert_eq!(rung(stages(Outcome::Pass, Outcome::Pass)), "pass");
        assert_eq!(rung(BTreeMap::new()), "unver");
    }
}
