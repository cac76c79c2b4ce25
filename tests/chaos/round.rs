//! What happens in a round: decided by the seed and the round's number alone, before anything starts.
//!
//! Times are thousandths of a run that nobody disturbs, counted from when what is aimed at is there: a
//! slow machine is hit in the same places as a fast one, and a run that waits for its turn as well.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;

/// `splitmix64`: small, and the same on every machine.
struct Dice(u64);

impl Dice {
    fn of(seed: u64, round: u64) -> Self {
        let mut dice = Self(seed ^ round.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let _mixed = dice.next();
        dice
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    const fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    const fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from)
    }

    fn of_all<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

/// Who may be hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Member {
    Shell,
    Keeper,
    Worker,
    Reaper,
    /// git, docker, a test, what a test left behind.
    Child,
    /// A process of the app, or a container.
    Service,
}

const MEMBERS: [Member; 6] =
    [Member::Shell, Member::Keeper, Member::Worker, Member::Reaper, Member::Child, Member::Service];

impl Member {
    /// How long a run has such a part, in thousandths of its length.
    const fn lives(self) -> u64 {
        match self {
            Self::Shell | Self::Keeper => 900,
            Self::Worker => 550,
            Self::Reaper | Self::Service => 300,
            Self::Child => 150,
        }
    }
}

/// What the hand does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Deed {
    Signal {
        run: usize,
        member: Member,
        signal: Signal,
    },
    /// Keeper and worker at once: only the janitor, or the next run, can help.
    Abandon {
        run: usize,
    },
    /// Stops it, and lets it go on a little later.
    Stop {
        run: usize,
        member: Member,
    },
    /// Removes the lock file, whoever has it.
    Unlink {
        run: usize,
    },
    /// Removes the lock file of a run whose app is up, and starts another run of the app.
    Rob {
        run: usize,
    },
    Janitor,
    KillJanitor,
    FillDisk,
    FreeDisk,
    /// Ends the Docker daemon, which comes up again.
    Restart {
        signal: Signal,
    },
}

impl Deed {
    /// The run that it is aimed at.
    pub(crate) const fn run(self) -> Option<usize> {
        match self {
            Self::Signal { run, .. }
            | Self::Abandon { run }
            | Self::Stop { run, .. }
            | Self::Unlink { run }
            | Self::Rob { run } => Some(run),
            Self::Janitor | Self::KillJanitor | Self::FillDisk | Self::FreeDisk | Self::Restart { .. } => None,
        }
    }
}

/// What kind of round it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// One kill of one member.
    Single,
    Several,
    Unlinked,
    FullDisk,
    Restart,
}

/// A round.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) kind: Kind,
    /// The domain of each run, by number.
    pub(crate) domains: Vec<u64>,
    /// What is done, and how long after it could be done.
    pub(crate) deeds: Vec<(u64, Deed)>,
}

impl Round {
    /// The round with this number, of one of these kinds.
    pub(crate) fn of(seed: u64, number: u64, kinds: &[Kind]) -> Self {
        let mut dice = Dice::of(seed, number);
        let kind = dice.of_all(kinds);
        let count = dice.between(2, 5);
        let domains: Vec<u64> = (0..count).map(|_| dice.below(3)).collect();
        let mut round = Self { kind, domains, deeds: Vec::new() };
        round.plan(&mut dice);
        round
    }

    fn plan(&mut self, dice: &mut Dice) {
        if self.kind == Kind::Single {
            let deed = if dice.below(6) == 0 { self.stop(dice) } else { self.deadly(dice) };
            return self.deeds.push(deed);
        }
        for _ in 0..dice.between(2, 6) {
            let deed = match dice.below(8) {
                0 | 1 => (dice.below(Member::Worker.lives()), Deed::Abandon { run: self.any_run(dice) }),
                2 => self.stop(dice),
                3 => (dice.below(1000), Deed::Janitor),
                4 => (dice.below(1000), Deed::KillJanitor),
                _ => self.deadly(dice),
            };
            self.deeds.push(deed);
        }
        match self.kind {
            Kind::Unlinked => {
                for _ in 0..dice.between(1, 4) {
                    let run = self.any_run(dice);
                    let deed = if dice.below(2) == 0 { Deed::Unlink { run } } else { Deed::Rob { run } };
                    self.deeds.push((dice.below(Member::Service.lives()), deed));
                }
            }
            Kind::FullDisk => {
                let full = dice.below(1000);
                self.deeds.push((full, Deed::FillDisk));
                if dice.below(2) == 0 {
                    self.deeds.push((full + dice.below(1000), Deed::FreeDisk));
                }
            }
            Kind::Restart => {
                let signal = dice.of_all(&[Signal::SIGTERM, Signal::SIGKILL]);
                self.deeds.push((dice.below(1000), Deed::Restart { signal }));
            }
            Kind::Single | Kind::Several => {}
        }
    }

    fn any_run(&self, dice: &mut Dice) -> usize {
        usize::try_from(dice.below(self.domains.len() as u64)).unwrap()
    }

    fn deadly(&self, dice: &mut Dice) -> (u64, Deed) {
        let (run, member) = (self.any_run(dice), dice.of_all(&MEMBERS));
        // A service or a child may ignore what is not deadly, as any program may.
        let signal = dice.of_all(&[Signal::SIGKILL, Signal::SIGKILL, Signal::SIGKILL, Signal::SIGTERM, Signal::SIGINT]);
        (dice.below(member.lives()), Deed::Signal { run, member, signal })
    }

    fn stop(&self, dice: &mut Dice) -> (u64, Deed) {
        // Docker's are not to be stopped from here.
        let (run, member) = (self.any_run(dice), dice.of_all(&MEMBERS[..5]));
        (dice.below(member.lives()), Deed::Stop { run, member })
    }

    /// Runs that must be green: nobody aimed at them, nor at the lock that they share.
    pub(crate) fn bystanders(&self) -> BTreeSet<usize> {
        let mut all = self.unhurt();
        for (_, deed) in &self.deeds {
            match deed {
                Deed::Unlink { run } | Deed::Rob { run } => {
                    all.retain(|other| self.domains[*other] != self.domains[*run]);
                }
                // A run that loses a sibling to it may have to share the disk, or the daemon.
                Deed::FillDisk | Deed::Restart { .. } => all.clear(),
                _ => {}
            }
        }
        all
    }

    /// Runs at which nobody aimed a signal.
    pub(crate) fn unhurt(&self) -> BTreeSet<usize> {
        let mut all: BTreeSet<usize> = (0..self.domains.len()).collect();
        for (_, deed) in &self.deeds {
            if let Deed::Signal { run, .. } | Deed::Abandon { run } | Deed::Stop { run, .. } = deed {
                all.remove(run);
            }
        }
        all
    }
}
