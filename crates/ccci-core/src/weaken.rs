//! The protections of the protocol, by name, so that a test build can switch one off.
//!
//! An ordinary build has no switch: [`on`] is a constant `true` and the optimiser removes it. Built
//! with `RUSTFLAGS="--cfg ccci_weaken"`, the variable `CCCI_WEAKEN` names the one protection that
//! is off; `tests/mutations.rs` then expects the named test to fail. A protection that no test
//! misses is not known to work.

macro_rules! protections {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One protection that keeps the promise; see `docs/concurrency.md` for what each is against.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Protection {
            $($(#[$doc])* $name,)*
        }

        impl Protection {
            /// Every protection, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

protections! {
    /// After `flock` returns, the fd must still be the path's inode.
    InodeCheck,
    /// The lock's file stays for who waits behind it.
    Queue,
    /// Whoever comes later does not get the lock before those who wait for it.
    Overtaking,
    /// The holder looks at its lock file again before each destructive step.
    HolderVerify,
    /// The lock's fd is closed when a child executes another program.
    Cloexec,
    /// The keeper asks for SIGTERM when the CI step's shell dies.
    ParentDeathSignal,
    /// A signal that ends or stops a process by default does neither to a guardian.
    SignalShield,
    /// What a run starts is in a control group, which is ended as a whole.
    RunGroup,
    /// Orphans that the run's parts adopted are collected.
    CollectOrphans,
    /// A process that was stopped goes on to hear its SIGTERM.
    Continue,
    /// A reaper that cannot be started is tried again, and in the end the supervisor does its work.
    ReaperStart,
    /// The worker asks for SIGTERM when the keeper dies.
    WorkerDeathSignal,
    /// The worker's last act, and its answer to SIGTERM, is to become the reaper.
    BecomeReaper,
    /// The claim on a run's directory is shared by all its parts.
    SharedClaim,
    /// A run that is not concluded is found by its directory, whatever became of its lock file.
    OpenIndex,
    /// A run that died without a result is concluded by whoever comes next.
    ConcludeDead,
    /// Of several runs that supersede, only the newest goes on.
    SupersedeAll,
    /// A part of a run does not carry the tag of a run in which it was started.
    ForeignTag,
    /// Processes that carry the run's tag are killed, also those that left every group.
    TagKill,
    /// Once teardown has begun, signals are noted and change nothing.
    SecondSignal,
    /// A fresh lock holder looks for what a dead run left and reaps it first.
    DirtyOnAcquire,
    /// After teardown the app is looked for again until nothing is found twice.
    VerifyGone,
    /// A name that is not exactly ours is not ours.
    ExactName,
    /// A source that cannot be read stops the reaping of what it could hide.
    FailClosed,
    /// The state of a run lives in the run's own directory.
    StatePerRun,
    /// `CCCI_PARENT_PID` is compared with the real parent.
    ParentCheck,
    /// A dead reaper is followed by another.
    ReaperRetry,
    /// A reaper that hangs is ended with its budget.
    ReaperBudget,
    /// A closed stdout changes nothing.
    ClosedStdout,
    /// The deadline's clock is armed.
    DeadlineClock,
    /// A cancel ends the wait for the lock.
    CancelWait,
    /// Real deploys are counted and compared with what was meant.
    DeployCount,
    /// A test file whose every test was skipped is not a pass.
    SkippedIsNotPass,
    /// An upgrade must change the commit that the app runs.
    UpgradeMoves,
    /// A service that keeps failing ends the wait.
    FailFast,
    /// A service must stay up for a while before a tier passes.
    Monitor,
    /// A stack's networks stay until its last task and container are gone.
    WaitForContainers,
    /// The `flock` itself: who finds the lock taken does not have it.
    Exclusion,
    /// A symlink in a lock file's place is never followed.
    NoFollow,
    /// As many runs work at once as there are slots.
    Slots,
    /// Nobody is asked to stop unless record and kernel name the same process.
    HolderAgreed,
    /// A guard's teardown script is saved before the CI deletes its workspace.
    SavedTeardown,
    /// A run's dependencies are taken down from what it had written down.
    DependencyRecord,
    /// Secrets are masked in all that is said.
    Redaction,
    /// What would steer a terminal or a page is made visible.
    OnlyText,
    /// The run's own files are searched for its secrets.
    SecretSearch,
    /// The janitor leaves an app alone of which a run lives that has not got the lock.
    Patience,
    /// A run lets a live run end first that was robbed of its lock file.
    RobbedFirst,
    /// A run has a share of the host lock, so that no image is pruned under it.
    HostLock,
    /// An image prune has the host lock alone.
    PruneAlone,
    /// A comment is replaced only if its author is the token's own user.
    OwnComment,
    /// The forge is told of a run's end when the lock is free.
    ToldAfterRelease,
    /// Only a member's comment starts a build.
    MembersOnly,
    /// A comment starts a build only if it was claimed on the forge first.
    ClaimedOnce,
    /// A comment is for the commit that was the head when it was written.
    SeenHead,
    /// A bridge that starts looks back to where an earlier one came.
    LookBack,
    /// A webhook counts only with its signature.
    WebhookSignature,
    /// A snapshot is used only if each of its files has the checksum that it was kept with.
    SnapshotChecksum,
    /// A snapshot is not replaced while somebody reads it.
    SnapshotLock,
    /// Only a run that came out green promotes what it has saved.
    PromoteGreen,
    /// A quick run's app has the kept data.
    KeptData,
    /// A quick run is told of under a name of its own, which no branch protection asks for.
    QuickContext,
    /// An alarm that the caller left running is called off.
    NoAlarm,
    /// A SIGHUP or SIGINT that the caller ignores cancels nothing.
    Nohup,
    /// What shed the run's mark is found below the run's parts.
    Descendants,
    /// What the caller had running before its shell became the keeper is the caller's.
    CallersOwn,
    /// The deadline is counted from the lock, and not from the begin of the wait for it.
    OwnClock,
    /// A run's images are here before its deploy.
    Prepull,
    /// A command runs in a container of the deployed version only.
    PresentTask,
    /// What the policy refuses is not made.
    Policy,
    /// What another made under the name of something of ours stops a run.
    ForeignObject,
    /// A service is known by its stack, and not by the name that it answers to on a network.
    OwnService,
    /// An app that nobody can ask has not passed.
    Asked,
    /// A line that was cut short ends where the next one begins.
    HealedLine,
    /// A run is green only if all that it said was read, and each tier that was asked for has passed.
    Completeness,
    /// A recipe's variables are data for the programs that read its files.
    VariablesAreData,
    /// A task that is over and has no container holds no teardown back.
    FinishedTasks,
    /// Only an app that asks for it is backed up.
    BackupAsked,
}

/// Whether `protection` is in force. Always, outside a test build.
#[cfg(not(ccci_weaken))]
#[must_use]
pub const fn on(_protection: Protection) -> bool {
    true
}

/// Whether `protection` is in force: not when `CCCI_WEAKEN` names it.
#[cfg(ccci_weaken)]
#[must_use]
pub fn on(protection: Protection) -> bool {
    std::env::var("CCCI_WEAKEN").map_or(true, |off| off != format!("{protection:?}"))
}
