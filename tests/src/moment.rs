//! The moments of a run at which something may be killed, each with a gate that holds the run there.

use std::fmt;

use crate::folder::Folder;
use crate::gate::Gate;
use crate::host::{self, Host};
use crate::step::{Launch, Step};

/// A moment of a run under its lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// git clones the recipe.
    Fetch,
    /// The hook between the making of the app and its deploy.
    PreInstall,
    /// The hook once it is up.
    InstallSteps,
    /// A test of the install tier.
    Install,
    /// The hook before the upgrade.
    PreUpgrade,
    /// The hook before the backup.
    PreBackup,
    /// The hook between backup and restore.
    PreRestore,
    /// A test of the recipe's own.
    Custom,
    /// The app stays up for a person to look at.
    Keep,
    /// The reaper waits for a service that is slow to stop.
    Teardown,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// A run that stands still at its moment.
#[derive(Debug)]
pub struct Held {
    gate: Gate,
    moment: Moment,
}

impl Moment {
    /// Whether the tests have spoken by now, so that nothing changes the verdict any more.
    #[must_use]
    pub fn is_after_the_tests(self) -> bool {
        matches!(self, Self::Keep | Self::Teardown)
    }

    /// Prepares the host so that a run of the example recipe stands still here.
    #[must_use]
    pub fn prepare(self, host: &Host) -> Held {
        let gate = host.gate(&format!("{self:?}").to_lowercase());
        let folder = host.folder("hello");
        let pass = gate.pass();
        match self {
            Self::Fetch => {
                slow_git(host, &pass);
            }
            Self::PreInstall => drop(folder.script("hooks/pre_install", &pass)),
            Self::InstallSteps => drop(folder.script("hooks/install_steps", &pass)),
            Self::Install => drop(folder.script("test_install.sh", &pass)),
            Self::PreUpgrade => drop(folder.script("hooks/pre_upgrade", &pass)),
            Self::PreBackup => drop(folder.script("hooks/pre_backup", &pass)),
            Self::PreRestore => drop(folder.script("hooks/pre_restore", &pass)),
            Self::Custom => drop(folder.script("custom/test.sh", &pass)),
            Self::Keep => {}
            Self::Teardown => drop(slow_to_stop(folder, &gate)),
        }
        Held { gate, moment: self }
    }
}

impl Held {
    /// The run, with what it needs to come here.
    #[must_use]
    pub fn launch<'host>(&self, host: &'host Host) -> Launch<'host> {
        match self.moment {
            Moment::Keep => host.run().args(["--keep", "10m"]),
            // Only one deploy, so that the service is stopped once.
            Moment::Teardown => host.run().args(["--stages", "install"]),
            _ => host.run(),
        }
    }

    /// Starts a run and waits until it stands here.
    pub fn start<'host>(&self, host: &'host Host) -> Step<'host> {
        let step = self.launch(host).start();
        let _now = (step.keeper(), step.run_dir());
        self.reached(&step);
        step
    }

    /// Waits until the run stands here.
    pub fn reached(&self, step: &Step<'_>) {
        if self.moment == Moment::Keep {
            step.says("stays up for");
        } else {
            self.gate.reached();
        }
    }

    /// Waits until somebody else comes here.
    pub fn reached_again(&self) {
        self.gate.reached();
    }

    /// Lets the run go on.
    pub fn open(&self) {
        self.gate.open();
    }
}

/// A service that says at the gate that it was told to stop, every time, and stops when the gate opens.
pub fn slow_to_stop(folder: Folder, gate: &Gate) -> Folder {
    let script = format!(
        "trap '{}' TERM\n(trap '' TERM; {}; kill -KILL $$) &\nwhile :; do wait; done\n",
        gate.knock().replace('\'', "'\\''"),
        gate.wait()
    );
    folder.service("slow", &script)
}

/// A git that does `first` before it clones, and keeps a journal.
pub fn slow_git(host: &Host, first: &str) {
    let path = std::env::var("PATH").unwrap_or_default();
    let real = path.split(':').map(|dir| std::path::Path::new(dir).join("git")).find(|git| git.is_file());
    let real = real.unwrap();
    let journal = host.path("journal");
    host.program(
        "git",
        &format!(
            "echo \"git $*\" >>'{}'\ncase \" $* \" in *' clone '*) {first} ;; esac\nexec '{}' \"$@\"",
            journal.display(),
            real.display()
        ),
    );
}

/// Leaves on the host what a run leaves when all its guardians die at once: the app, its lock file.
pub fn leave_orphan(host: &Host) {
    let held = Moment::Install.prepare(host);
    let mut step = held.start(host);
    abandon(&mut step);
    let _fresh = host.folder("hello");
}

/// Kills keeper and worker at once. The worker is stopped first, or it would become the reaper.
pub fn abandon(step: &mut Step<'_>) {
    use nix::sys::signal::Signal;
    let (keeper, worker) = (step.keeper(), step.part("worker"));
    crate::process::signal(worker, Signal::SIGSTOP);
    crate::process::signal(keeper, Signal::SIGKILL);
    crate::process::signal(worker, Signal::SIGKILL);
    for pid in [keeper, worker] {
        assert!(crate::process::wait_gone(pid, host::limit()), "{pid} survives SIGKILL");
    }
    step.kill_shell();
}
