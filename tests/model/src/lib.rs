//! The protocol of one app's lock as a model, for an exhaustive check of every interleaving.
//!
//! Two runs, a janitor and a third party that unlinks lock files share a path, the files that it named
//! in the course of time, the kernel's lock on each, and the app. A run may die at every step (keeper and
//! worker at once; a single death is the reaper's affair, and no question of locks). A step is what
//! the code does between two system calls that others can see; "verify and remove" is one step,
//! since no file lock can close the moment between the two.
//!
//! Bounds: two runs of one domain, [`CRASHES`] crashes, [`UNLINKS`] unlinks, [`SWEEPS`] sweeps of which
//! the last comes when no run is left. Every [`Protocol`] without one of its protections has a
//! counterexample that the checker finds.
//!
//! What must come in the end (an orphan is reaped, a waiter goes on) is asked of the states in which nobody has a
//! step left. That is all of it because no way through the states comes back to where it was: each has such an
//! end, which a test of its own shows.

use stateright::{Model, Property};

/// How many runs and janitors may die.
pub const CRASHES: u8 = 2;
/// How often the third party unlinks.
pub const UNLINKS: u8 = 2;
/// How many sweeps there are.
pub const SWEEPS: u8 = 2;

/// Which protections are in force.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    /// After `flock` the file must still be the path's.
    pub inode_check: bool,
    /// The holder looks again before each step that changes the app.
    pub holder_verify: bool,
    /// The janitor takes the lock before it reaps.
    pub lock_before_reap: bool,
    /// The lock file is removed only by who holds it and has just verified it.
    pub verified_unlink: bool,
    /// A run reaps what it finds before it deploys.
    pub dirty_on_acquire: bool,
    /// The janitor leaves an app alone of which a run lives that has lost its lock file.
    pub patience: bool,
    /// A run lets a live run end first that was robbed of its lock.
    pub robbed_first: bool,
    /// It looks for such a run before it verifies its own lock, not after.
    pub look_then_verify: bool,
    /// A run that woke on an unlinked file tries again.
    pub retry: bool,
    /// The janitor reaps.
    pub janitor: bool,
}

impl Protocol {
    /// As it is built.
    pub const BUILT: Self = Self {
        inode_check: true,
        holder_verify: true,
        lock_before_reap: true,
        verified_unlink: true,
        dirty_on_acquire: true,
        patience: true,
        robbed_first: true,
        look_then_verify: true,
        retry: true,
        janitor: true,
    };
}

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum At {
    /// Not begun.
    Start,
    /// About to open the path.
    Open,
    /// In `flock`.
    Wait,
    /// Has the lock of a file, and looks whether it is the path's.
    Check,
    /// About to look for a live run that had the lock before it.
    Look,
    /// About to verify that the lock is still its own.
    Verify,
    /// Waits for the end of such a run.
    Outlast,
    /// Owns the app: about to reap what it finds.
    Preclean,
    /// About to deploy.
    Deploy,
    /// About to change the app once more.
    Work,
    /// About to take it down.
    TearDown,
    /// The lock file is gone: is the lock still to be had?
    Regain,
    /// About to remove the lock file.
    Unlink,
    /// About to give the lock up.
    Unlock,
    /// Ended in an orderly way.
    Done,
    /// Killed.
    Dead,
}

impl At {
    fn owns(self) -> bool {
        (Self::Preclean..=Self::TearDown).contains(&self)
    }

    const fn lives(self) -> bool {
        !matches!(self, Self::Start | Self::Done | Self::Dead)
    }

    /// Whether its claim on its run's directory is to be met: it is given up before the lock.
    fn claims(self) -> bool {
        (Self::Open..=Self::Regain).contains(&self)
    }

    /// Whether it is to be met with a record that it had the lock.
    fn claims_with_lock(self) -> bool {
        (Self::Look..=Self::Regain).contains(&self)
    }
}

/// A run, or the janitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Actor {
    /// Where it is. The janitor uses `Start`, `Open`, `Wait`, `Check`, `Preclean` (about to reap), `Unlink`
    /// and `Unlock`.
    pub at: At,
    /// The file that it has open.
    pub file: Option<u8>,
    /// Whether a stranger removed its lock file while it held it.
    pub robbed: bool,
    /// Whether it saw a live run that had the lock before it.
    pub sees: bool,
}

/// Who did what, in the order of [`World::actors`].
pub type Who = usize;
/// The janitor among the actors.
pub const JANITOR: Who = 2;

/// All that there is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    /// The file that the path names.
    pub path: Option<u8>,
    /// Who holds the lock of each file that ever was.
    pub files: Vec<Option<Who>>,
    /// Who deployed the app that is there.
    pub app: Option<Who>,
    /// Run A, run B, the janitor.
    pub actors: [Actor; 3],
    /// Crashes that may still come.
    pub crashes: u8,
    /// Unlinks that may still come.
    pub unlinks: u8,
    /// Sweeps that may still come.
    pub sweeps: u8,
    /// Somebody changed or removed the app of an owner that is alive and was not robbed.
    pub touched: bool,
    /// The janitor removed the app of a run that is alive.
    pub reaped_live: bool,
    /// A run changed or removed the app of a run that is alive.
    pub changed_live: bool,
    /// A run deployed over what a dead one left.
    pub dirty: bool,
    /// The janitor reaped an orphan.
    pub reaped: bool,
    /// A run got its lock again after its file was removed.
    pub regained: bool,
}

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// This one does what comes next for it.
    Go(Who),
    /// This one dies.
    Crash(Who),
    /// The third party removes the lock file.
    Steal,
}

impl World {
    fn free(&mut self, who: Who) {
        if let Some(file) = self.actors[who].file.take()
            && self.files[usize::from(file)] == Some(who)
        {
            self.files[usize::from(file)] = None;
        }
        self.actors[who].robbed = false;
    }

    fn open(&mut self) -> u8 {
        *self.path.get_or_insert_with(|| {
            self.files.push(None);
            u8::try_from(self.files.len() - 1).unwrap_or(u8::MAX)
        })
    }

    fn grant(&mut self, who: Who) -> bool {
        let Some(file) = self.actors[who].file else { return false };
        let holder = &mut self.files[usize::from(file)];
        if holder.is_none() {
            *holder = Some(who);
        }
        *holder == Some(who)
    }

    fn is_live(&self, who: Who) -> bool {
        self.actors[who].file.is_some() && self.path == self.actors[who].file
    }

    /// Writes down whose app it is that `who` is about to change.
    fn touch(&mut self, who: Who) {
        let Some(owner) = self.app.filter(|owner| *owner != who) else { return };
        let other = self.actors[owner];
        self.touched |= other.at.owns() && !other.robbed;
        let alive = other.at.claims();
        self.reaped_live |= who == JANITOR && alive;
        self.changed_live |= who != JANITOR && alive;
    }

    /// Removes the path's file; whoever holds it no longer has the path's.
    fn unlink(&mut self, by_stranger: bool) {
        if let Some(file) = self.path.take()
            && let Some(holder) = self.files[usize::from(file)]
            && by_stranger
        {
            self.actors[holder].robbed = true;
        }
    }

    /// Whether the other run is alive and had the lock.
    fn outlasts(&self, run: Who) -> bool {
        self.actors[1 - run].at.claims_with_lock()
    }

    fn runs_are_over(&self) -> bool {
        self.actors[..JANITOR].iter().all(|run| !run.at.lives() && run.at != At::Start)
    }
}

impl Protocol {
    /// One step of a run.
    fn run(self, world: &mut World, who: Who) {
        let verified = world.is_live(who) || !self.holder_verify;
        let at = world.actors[who].at;
        let next = match at {
            At::Start => At::Open,
            At::Open => {
                world.actors[who].file = Some(world.open());
                At::Wait
            }
            // The kernel wakes it: only possible while nobody holds the file's lock.
            At::Wait if world.grant(who) => At::Check,
            At::Wait => At::Wait,
            At::Check if world.is_live(who) || !self.inode_check => match self.robbed_first {
                true if self.look_then_verify => At::Look,
                true => At::Verify,
                false => At::Preclean,
            },
            At::Check => {
                world.free(who);
                if self.retry { At::Open } else { At::Wait }
            }
            At::Look => {
                let sees = world.outlasts(who);
                world.actors[who].sees = sees;
                match (self.look_then_verify, sees) {
                    (true, _) => At::Verify,
                    (false, true) => At::Outlast,
                    (false, false) => At::Preclean,
                }
            }
            At::Verify if !verified => At::Unlock,
            At::Verify if !self.look_then_verify => At::Look,
            At::Verify if world.actors[who].sees => At::Outlast,
            At::Verify => At::Preclean,
            // Woken by the other's end.
            At::Outlast => {
                if self.look_then_verify {
                    At::Look
                } else {
                    At::Verify
                }
            }
            At::Preclean | At::Deploy | At::Work | At::TearDown if !verified => At::Regain,
            At::Preclean => {
                if self.dirty_on_acquire && world.app.is_some() {
                    world.touch(who);
                    world.app = None;
                }
                At::Deploy
            }
            At::Deploy => {
                world.dirty |= world.app.is_some();
                world.touch(who);
                world.app = Some(who);
                At::Work
            }
            At::Work => {
                world.touch(who);
                world.app = Some(who);
                At::TearDown
            }
            At::TearDown => {
                world.touch(who);
                world.app = None;
                At::Unlink
            }
            At::Regain => {
                // Never stolen back: taken only if nobody has the path's file.
                let file = world.open();
                if world.files[usize::from(file)].is_none() {
                    world.free(who);
                    world.actors[who].file = Some(file);
                    world.files[usize::from(file)] = Some(who);
                    world.regained = true;
                    At::TearDown
                } else {
                    At::Unlock
                }
            }
            At::Unlink => {
                if world.is_live(who) || !self.verified_unlink {
                    world.unlink(false);
                }
                At::Unlock
            }
            At::Unlock => {
                world.free(who);
                At::Done
            }
            At::Done => At::Done,
            At::Dead => At::Dead,
        };
        world.actors[who].at = next;
    }

    /// One step of the janitor.
    fn sweep(self, world: &mut World) {
        let done = |world: &mut World| {
            world.free(JANITOR);
            world.sweeps -= 1;
            At::Start
        };
        // A sweep that a stranger disturbed decides nothing; the timer brings the next.
        let again = |world: &mut World| {
            world.free(JANITOR);
            At::Start
        };
        let at = world.actors[JANITOR].at;
        let next = match at {
            // The survey: is there anything to ask about?
            At::Start if world.app.is_none() && world.path.is_none() => done(world),
            At::Start if !self.lock_before_reap => At::Preclean,
            At::Start => At::Open,
            At::Open if world.app.is_none() && world.path.is_none() => done(world),
            At::Open => {
                world.actors[JANITOR].file = Some(world.open());
                At::Wait
            }
            // A probe never waits.
            At::Wait if world.grant(JANITOR) => At::Check,
            At::Wait => done(world),
            At::Check if self.inode_check && !world.is_live(JANITOR) => again(world),
            At::Check if self.patience && world.actors[..JANITOR].iter().any(|run| run.at.claims()) => At::Unlink,
            At::Check => At::Preclean,
            At::Preclean => {
                let verified = world.is_live(JANITOR) || !self.holder_verify || !self.lock_before_reap;
                if verified && world.app.is_some() {
                    world.touch(JANITOR);
                    world.app = None;
                    world.reaped = true;
                }
                if verified { At::Unlink } else { again(world) }
            }
            At::Unlink => {
                if world.is_live(JANITOR) || !self.verified_unlink {
                    world.unlink(false);
                }
                At::Unlock
            }
            _ => done(world),
        };
        world.actors[JANITOR].at = next;
    }

    /// Whether this actor's next step is possible now.
    fn can_go(self, world: &World, who: Who) -> bool {
        let actor = world.actors[who];
        if who == JANITOR {
            // The last sweep comes when the runs are over: nothing comes after it.
            return self.janitor
                && world.sweeps > 0
                && (actor.at != At::Start || world.sweeps > 1 || world.runs_are_over());
        }
        match actor.at {
            At::Done | At::Dead => false,
            At::Wait => actor.file.is_some_and(|file| world.files[usize::from(file)].is_none()),
            At::Outlast => !world.outlasts(who),
            _ => true,
        }
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let actor = Actor { at: At::Start, file: None, robbed: false, sees: false };
        vec![World {
            path: None,
            files: Vec::new(),
            app: None,
            actors: [actor; 3],
            crashes: CRASHES,
            unlinks: UNLINKS,
            sweeps: SWEEPS,
            touched: false,
            reaped_live: false,
            changed_live: false,
            dirty: false,
            reaped: false,
            regained: false,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Step>) {
        actions.extend((0..3).filter(|who| self.can_go(world, *who)).map(Step::Go));
        if world.crashes > 0 {
            actions.extend((0..3).filter(|who| world.actors[*who].at.lives()).map(Step::Crash));
        }
        if world.unlinks > 0 && world.path.is_some() {
            actions.push(Step::Steal);
        }
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        match step {
            Step::Go(JANITOR) => self.sweep(&mut next),
            Step::Go(run) => self.run(&mut next, run),
            Step::Crash(who) => {
                next.free(who);
                next.crashes -= 1;
                // The next janitor comes with the timer.
                next.actors[who].at = if who == JANITOR { At::Start } else { At::Dead };
            }
            Step::Steal => {
                next.unlink(true);
                next.unlinks -= 1;
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("never two owners", |_, world: &World| {
                let owner = |actor: &&Actor| actor.at.owns() && !actor.robbed;
                world.actors.iter().filter(owner).count() < 2
            }),
            Property::always("nobody touches a live owner's app", |_, world: &World| !world.touched),
            Property::always("the janitor reaps no live run's app", |_, world: &World| !world.reaped_live),
            Property::always("no run changes a live run's app", |_, world: &World| !world.changed_live),
            Property::always("every run deploys on clean ground", |_, world: &World| !world.dirty),
            Property::always("in the end nothing is left", |model: &Self, world: &World| {
                !is_over(*model, world) || world.app.is_none() && world.files.iter().all(Option::is_none)
            }),
            Property::always("nobody waits for ever", |model: &Self, world: &World| {
                !is_over(*model, world) || world.actors[..JANITOR].iter().all(|run| !run.at.lives())
            }),
            // What never happens proves nothing.
            Property::sometimes("a robbed run is outlasted", |_, world: &World| {
                world.actors.iter().any(|actor| actor.at == At::Outlast)
            }),
            Property::sometimes("an orphan is reaped", |_, world: &World| world.reaped),
            Property::sometimes("what was orphaned has an end", |model: &Self, world: &World| {
                is_over(*model, world) && world.reaped
            }),
            Property::sometimes("somebody waits for a holder", |_, world: &World| {
                let behind = |run: &Actor| run.file.is_some_and(|file| world.files[usize::from(file)].is_some());
                world.actors[..JANITOR].iter().any(|run| run.at == At::Wait && behind(run))
            }),
            Property::sometimes("a lost lock is had again", |_, world: &World| world.regained),
            Property::sometimes("both runs end in order", |_, world: &World| {
                world.actors[..JANITOR].iter().all(|run| run.at == At::Done)
            }),
        ]
    }
}

/// Whether nobody has a step left; what strangers and crashes may still do helps nobody who waits.
fn is_over(model: Protocol, world: &World) -> bool {
    (0..3).all(|who| !model.can_go(world, who))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::hash::Hash;
    use std::io::Write as _;

    use stateright::{Checker, HasDiscoveries};

    use super::*;

    /// Checks a protocol without something; the property that must fail, and how many steps show it.
    fn violates(protocol: Protocol, property: &'static str) {
        let names = [property].into_iter().collect();
        let checker = protocol.checker().threads(2).finish_when(HasDiscoveries::AnyOf(names)).spawn_bfs().join();
        let path = checker.discovery(property);
        let path = path.unwrap_or_else(|| panic!("`{property}` holds without the protection: {protocol:?}"));
        let steps = path.into_actions();
        // Straight to the stream: a figure that everybody should see.
        let _unread = writeln!(std::io::stderr(), "model: not `{property}` after {} steps: {steps:?}", steps.len());
    }

    #[test]
    fn the_protocol_holds_in_every_interleaving() {
        let checker = Protocol::BUILT.checker().threads(2).spawn_bfs().join();
        let _unread = writeln!(
            std::io::stderr(),
            "model: {} states ({} unique), depth {}, {} properties; bounds: 2 runs, {CRASHES} crashes, {UNLINKS} unlinks, \
             {SWEEPS} sweeps",
            checker.state_count(),
            checker.unique_state_count(),
            checker.max_depth(),
            Protocol::BUILT.properties().len(),
        );
        assert!(checker.is_done());
        checker.assert_properties();
    }

    /// How many states a model has, and how many are left when those that nothing leads to are taken away, over
    /// and over: what is left is a circle and what comes behind it.
    fn states_and_circles<M: Model>(model: &M) -> (usize, usize)
    where
        M::State: Clone + Eq + Hash,
    {
        let mut states: Vec<M::State> = model.init_states();
        let mut numbers: HashMap<M::State, usize> = states.iter().cloned().zip(0..).collect();
        let (mut next, mut leading_here) = (Vec::new(), vec![0; states.len()]);
        while let Some(state) = states.get(next.len()).cloned() {
            let mut actions = Vec::new();
            model.actions(&state, &mut actions);
            let mut behind = Vec::new();
            for state in actions.into_iter().filter_map(|action| model.next_state(&state, action)) {
                let number = *numbers.entry(state.clone()).or_insert_with(|| {
                    states.push(state);
                    leading_here.push(0);
                    states.len() - 1
                });
                leading_here[number] += 1;
                behind.push(number);
            }
            next.push(behind);
        }
        let mut first: Vec<usize> = (0..states.len()).filter(|state| leading_here[*state] == 0).collect();
        let mut left = states.len();
        while let Some(state) = first.pop() {
            left -= 1;
            for behind in &next[state] {
                leading_here[*behind] -= 1;
                if leading_here[*behind] == 0 {
                    first.push(*behind);
                }
            }
        }
        (states.len(), left)
    }

    #[test]
    fn every_interleaving_has_an_end() {
        let (states, circles) = states_and_circles(&Protocol::BUILT);
        let _unread = writeln!(std::io::stderr(), "model: {states} states, {circles} of them on or behind a circle");
        assert!(states > 100_000, "{states}");
        assert_eq!(circles, 0);
    }

    /// A step on the spot: what the search for circles must find.
    struct Waltz;

    impl Model for Waltz {
        type State = u8;
        type Action = ();

        fn init_states(&self) -> Vec<u8> {
            vec![0]
        }

        fn actions(&self, _: &u8, actions: &mut Vec<()>) {
            actions.push(());
        }

        fn next_state(&self, beat: &u8, (): ()) -> Option<u8> {
            Some(if *beat < 4 { beat + 1 } else { 2 })
        }
    }

    #[test]
    fn a_model_that_goes_round_in_a_circle_is_found_out() {
        assert_eq!(states_and_circles(&Waltz), (5, 3));
    }

    #[test]
    fn without_the_inode_check_two_own() {
        // The janitor's patience would hide it: it lets go of whatever it woke on while a run lives.
        violates(Protocol { inode_check: false, patience: false, ..Protocol::BUILT }, "never two owners");
    }

    #[test]
    fn without_the_holders_verification_an_app_is_taken_from_its_owner() {
        violates(Protocol { holder_verify: false, ..Protocol::BUILT }, "nobody touches a live owner's app");
    }

    #[test]
    fn without_the_lock_the_janitor_reaps_a_live_run() {
        violates(Protocol { lock_before_reap: false, ..Protocol::BUILT }, "the janitor reaps no live run's app");
    }

    #[test]
    fn without_the_verified_unlink_two_own() {
        violates(Protocol { verified_unlink: false, patience: false, ..Protocol::BUILT }, "never two owners");
    }

    #[test]
    fn without_a_look_on_acquire_a_run_deploys_over_the_dead() {
        violates(Protocol { dirty_on_acquire: false, ..Protocol::BUILT }, "every run deploys on clean ground");
    }

    #[test]
    fn without_patience_the_janitor_reaps_a_run_whose_file_was_unlinked() {
        violates(Protocol { patience: false, ..Protocol::BUILT }, "the janitor reaps no live run's app");
    }

    #[test]
    fn without_a_look_for_the_robbed_a_run_takes_a_live_runs_app() {
        violates(Protocol { robbed_first: false, ..Protocol::BUILT }, "no run changes a live run's app");
    }

    #[test]
    fn verified_before_the_look_two_robbed_runs_wait_for_each_other() {
        violates(Protocol { look_then_verify: false, ..Protocol::BUILT }, "nobody waits for ever");
    }

    #[test]
    fn without_the_retry_a_waiter_waits_for_ever() {
        violates(Protocol { retry: false, ..Protocol::BUILT }, "nobody waits for ever");
    }

    #[test]
    fn without_the_janitor_an_orphan_stays() {
        violates(Protocol { janitor: false, ..Protocol::BUILT }, "in the end nothing is left");
    }
}
