//! Taking an app away, with a receipt.
//!
//! Incident `[A3]`: a teardown "worked" and was never looked at; `[F2-5]`: its errors were swallowed.
//! So: remove in order, look again until nothing is found twice in a row, and write down each object
//! with the moment it went. What is left is named, and makes the run red.

pub mod cleaner;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::lifetime::clock::Deadline;
use crate::lock::AppLock;
use crate::name::Domain;
use crate::process::tagged::{self, Tag};
use crate::process::wait_ready;
use crate::substrate::{Kind, Object, Substrate, SubstrateError};
use crate::weaken::{self, Protection};

/// The pause before something that would not go ("in use") is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// An object that was removed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Removed {
    /// What it was.
    #[serde(flatten)]
    pub object: Object,
    /// When it was gone.
    pub removed_at: Timestamp,
}

/// An object that is still there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Residue {
    /// What it is; nothing when the substrate itself could not be read.
    pub what: String,
    /// Why it is still there.
    pub why: String,
}

/// What a teardown did.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Receipt {
    /// What was removed.
    pub removed: Vec<Removed>,
    /// Processes that were ended, as `name (pid)`.
    pub processes: Vec<String>,
    /// What is left. Empty is the promise.
    pub residue: Vec<Residue>,
    /// Whether the app was looked for afterwards and not found, twice.
    pub verified: bool,
    /// How long it took.
    pub milliseconds: u64,
}

impl Receipt {
    /// Whether the promise was kept.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.verified && self.residue.is_empty()
    }

    /// Whether there was anything to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.processes.is_empty() && self.residue.is_empty()
    }
}

/// What is taken down, and how.
#[derive(Clone, Copy)]
pub struct Teardown<'run> {
    /// The app's lock. Verified before each removal: whoever owns it may remove, nobody else.
    pub lock: &'run AppLock,
    /// Where to look for the app.
    pub substrates: &'run [Box<dyn Substrate>],
    /// The app.
    pub domain: &'run Domain,
    /// What the run had written down that it would make (`[48]`); empty for who does not know the run.
    pub planned: &'run [Object],
    /// The processes that are ended first.
    pub tag: &'run Tag,
    /// What those get between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// The longest that it may take.
    pub budget: Duration,
}

/// Ends the processes, then removes all that the substrates find of the app, and what was planned.
///
/// Works on half-made apps, and again on what an interrupted teardown left. A lost lock ends it, since
/// another run may own the app by then. Whatever happens, the receipt says so. `journal` hears of each
/// removal at once, for who may die before the receipt.
#[must_use]
pub fn take_down(teardown: &Teardown<'_>, journal: &mut dyn FnMut(&Removed)) -> Receipt {
    let Teardown { lock, substrates, domain, planned, tag, grace, budget } = *teardown;
    let begun = Deadline::after(Duration::ZERO);
    let until = Deadline::after(budget);
    let mut receipt = Receipt::default();
    // Whoever is still deploying must stop first ([E7]), or it would put back what is removed.
    match tagged::end_all(tag, grace) {
        Ok(ended) => receipt.processes = ended,
        Err(error) => receipt.residue.push(Residue { what: "processes of the run".to_owned(), why: error.to_string() }),
    }
    let mut cleared = true;
    for substrate in substrates {
        let mut removed = |object: &Object| {
            let removed = Removed { object: object.clone(), removed_at: Timestamp::now() };
            journal(&removed);
            receipt.removed.push(removed);
        };
        match clear(lock, substrate.as_ref(), domain, planned, until, &mut removed) {
            Ok(residue) => {
                cleared &= residue.is_empty();
                receipt.residue.extend(residue);
            }
            Err(why) => {
                cleared = false;
                receipt.residue.push(Residue { what: format!("{} ({})", domain, substrate.name()), why });
            }
        }
    }
    receipt.verified = cleared;
    receipt.milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    receipt
}

/// Removes until nothing is found twice in a row, or the budget is over. `Err` is why nothing more
/// may be done.
///
/// A source that cannot be read (a daemon that restarts) is asked again until the budget is over, where
/// something of the app was planned or seen. Then that is named as not known to be gone. Where nothing was, there
/// is nothing to wait for, and who called hears of it at once.
fn clear(
    lock: &AppLock,
    substrate: &dyn Substrate,
    domain: &Domain,
    planned: &[Object],
    until: Deadline,
    removed: &mut dyn FnMut(&Object),
) -> Result<Vec<Residue>, String> {
    let mut empty = 0;
    let mut failures: BTreeMap<Object, String> = BTreeMap::new();
    // By kind and name: a planned object has no id yet.
    let key = |object: &Object| (object.kind, object.name.clone());
    let mut expected: BTreeMap<(Kind, String), Object> =
        planned.iter().map(|object| (key(object), object.clone())).collect();
    // Whether there was anything: it is looked for until it is seen to be gone, also after its removal.
    let mut known = !planned.is_empty();
    loop {
        let objects = match look(substrate, domain, planned) {
            Ok(objects) => objects,
            Err(error @ SubstrateError::Lock(_)) => return Err(error.to_string()),
            Err(error) if !known => {
                return Err(error.to_string());
            }
            Err(error) if until.passed() => {
                let source = Residue { what: format!("{} ({})", domain, substrate.name()), why: error.to_string() };
                let unknown = expected.values().map(|object| Residue {
                    what: object.to_string(),
                    why: format!("not known to be gone: {}", failures.get(object).unwrap_or(&error.to_string())),
                });
                return Ok(std::iter::once(source).chain(unknown).collect());
            }
            Err(error) => {
                tracing::warn!(%error, "asked again within the teardown's budget");
                // Whoever could not be asked in between may have made something again.
                empty = 0;
                pause(until)?;
                continue;
            }
        };
        empty = if objects.is_empty() { empty + 1 } else { 0 };
        if empty == 2 {
            return Ok(Vec::new());
        }
        if !objects.is_empty() && until.passed() {
            let why = |object: &Object| {
                failures.get(object).cloned().unwrap_or_else(|| "the teardown's budget is over".to_owned())
            };
            return Ok(objects.iter().map(|object| Residue { what: object.to_string(), why: why(object) }).collect());
        }
        known |= !objects.is_empty();
        expected.extend(objects.iter().map(|object| (key(object), object.clone())));
        let mut failed = BTreeSet::new();
        for group in objects.chunk_by(|one, two| one.kind == two.kind) {
            let Some(kind) = group.first().map(|object| object.kind) else { continue };
            if !may_follow(kind, &failed) {
                continue;
            }
            let mut done = |object: &Object, result: Result<(), SubstrateError>| match result {
                Ok(()) => {
                    expected.remove(&key(object));
                    removed(object);
                }
                Err(error) => {
                    failed.insert(kind);
                    failures.insert(object.clone(), error.to_string());
                }
            };
            lock.verify().map_err(|error| error.to_string())?;
            substrate.remove_all(lock, domain, group, &mut done).map_err(|error| error.to_string())?;
        }
        if !weaken::on(Protection::VerifyGone) {
            return Ok(Vec::new());
        }
        if !failed.is_empty() {
            pause(until)?;
        }
    }
}

/// What exists of the app, and what of the planned does.
fn look(substrate: &dyn Substrate, domain: &Domain, planned: &[Object]) -> Result<Vec<Object>, SubstrateError> {
    let mut objects = substrate.objects(domain)?;
    if !planned.is_empty() {
        objects.extend(substrate.unmarked(planned)?);
        objects.sort();
        objects.dedup();
    }
    Ok(objects)
}

/// Whether a kind's turn comes although some of the kinds before it could not go, so that one object does not keep
/// the others. Three have to wait: containers for the services that would start them anew, networks for both (each
/// task on a removed network costs an address, incident `[vip]`), and what makes the app discoverable for everything.
fn may_follow(kind: Kind, failed: &BTreeSet<Kind>) -> bool {
    match kind {
        Kind::Container => !failed.contains(&Kind::Service),
        Kind::Network => !failed.contains(&Kind::Service) && !failed.contains(&Kind::Container),
        Kind::AppDir | Kind::EnvFile => failed.is_empty(),
        Kind::Service | Kind::Volume | Kind::Secret | Kind::Config => true,
    }
}

/// A pause between tries, not a synchronisation: nothing announces that a volume is no longer in use.
fn pause(until: Deadline) -> Result<(), String> {
    wait_ready(&mut [], Some(RETRY.min(until.left()))).map(drop).map_err(|error| format!("cannot wait: {error}"))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io;
    use std::path::Path;

    use super::*;
    use crate::lock::LockPath;
    use crate::name::{BaseDomain, GuardName, LockName, RecipeName};

    /// A substrate whose next answers are scripted: how often it cannot be read, and how often each object's
    /// removal fails.
    #[derive(Default)]
    struct Scripted {
        there: RefCell<Vec<Object>>,
        /// The looks, from the first, that fail.
        unreadable: RefCell<Vec<bool>>,
        failing: RefCell<BTreeMap<String, usize>>,
        tried: RefCell<Vec<String>>,
    }

    impl Substrate for Scripted {
        fn name(&self) -> &'static str {
            "scripted"
        }

        fn apps(&self, _base: &BaseDomain) -> Result<BTreeSet<Domain>, SubstrateError> {
            Ok(BTreeSet::new())
        }

        fn objects(&self, _domain: &Domain) -> Result<Vec<Object>, SubstrateError> {
            let mut script = self.unreadable.borrow_mut();
            if !script.is_empty() && script.remove(0) {
                let source = io::Error::from(io::ErrorKind::ConnectionRefused);
                return Err(SubstrateError::Unreadable { what: "Docker".to_owned(), source });
            }
            let mut there = self.there.borrow().clone();
            there.sort();
            Ok(there)
        }

        fn remove(&self, _lock: &AppLock, _domain: &Domain, object: &Object) -> Result<(), SubstrateError> {
            self.tried.borrow_mut().push(object.name.clone());
            if let Some(left) = self.failing.borrow_mut().get_mut(&object.name).filter(|left| **left > 0) {
                *left -= 1;
                return Err(SubstrateError::Remove { object: object.to_string(), why: "no space left".to_owned() });
            }
            self.there.borrow_mut().retain(|there| there != object);
            Ok(())
        }
    }

    fn object(kind: Kind, name: &str) -> Object {
        Object { kind, name: name.to_owned(), id: String::new() }
    }

    fn cleared(script: &Scripted, planned: &[Object], budget: Duration) -> (Result<Vec<Residue>, String>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let lock = lock_in(dir.path());
        let base = BaseDomain::new("ci.test").unwrap();
        let domain = Domain::derive(&RecipeName::new("r").unwrap(), "1", "main", &base);
        let mut removed = Vec::new();
        let left = clear(&lock, script, &domain, planned, Deadline::after(budget), &mut |object| {
            removed.push(object.name.clone());
        });
        (left, removed)
    }

    fn lock_in(dir: &Path) -> AppLock {
        LockPath::new(dir, LockName::Guard(GuardName::new("t").unwrap())).try_acquire(true).unwrap().unwrap()
    }

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn a_source_that_cannot_be_read_for_a_while_is_asked_again() {
        let script = Scripted::default();
        script.there.borrow_mut().push(object(Kind::Volume, "data"));
        // Before the first answer, and between the removal and the two looks that find nothing.
        script.unreadable.borrow_mut().extend([true, true, false, true, false, true]);
        let (left, removed) = cleared(&script, &[object(Kind::Volume, "data")], PATIENCE);
        assert_eq!(left.unwrap().len(), 0);
        assert_eq!(removed, ["data"]);
        assert!(script.unreadable.borrow().is_empty(), "a look that failed counts for nothing");
    }

    #[test]
    fn what_was_planned_and_cannot_be_looked_for_is_named_when_the_budget_is_over() {
        let script = Scripted::default();
        script.unreadable.borrow_mut().extend([true; 100]);
        let planned = [object(Kind::Service, "web"), object(Kind::Volume, "data")];
        let (left, removed) = cleared(&script, &planned, Duration::ZERO);
        let left = left.unwrap();
        assert!(removed.is_empty() && left.iter().any(|left| left.what.contains("(scripted)")), "{left:?}");
        for what in ["service web", "volume data"] {
            let named = left.iter().find(|left| left.what == what).unwrap();
            assert!(named.why.contains("not known to be gone") && named.why.contains("refused"), "{named:?}");
        }
    }

    #[test]
    fn an_unreadable_source_of_which_nothing_was_expected_is_an_error_at_once() {
        let script = Scripted::default();
        script.unreadable.borrow_mut().extend([true; 100]);
        assert!(cleared(&script, &[], PATIENCE).0.is_err());
        assert_eq!(script.unreadable.borrow().len(), 99);
    }

    #[test]
    fn an_object_that_cannot_go_does_not_keep_the_others_but_the_env_file_stays() {
        let script = Scripted::default();
        let all = [(Kind::Volume, "stuck"), (Kind::Volume, "data"), (Kind::Secret, "pw"), (Kind::EnvFile, "env")];
        script.there.borrow_mut().extend(all.map(|(kind, name)| object(kind, name)));
        script.failing.borrow_mut().insert("stuck".to_owned(), usize::MAX);
        // Long enough for one round; it ends by the budget, whatever the load.
        let (left, removed) = cleared(&script, &[], Duration::from_secs(1));
        let left: Vec<_> = left.unwrap().into_iter().map(|left| left.what).collect();
        assert_eq!(left, ["volume stuck", "env file env"]);
        assert_eq!(removed, ["data", "pw"]);
    }

    #[test]
    fn containers_and_networks_wait_for_their_services() {
        let failed = BTreeSet::from([Kind::Service]);
        assert!(!may_follow(Kind::Container, &failed) && !may_follow(Kind::Network, &failed));
        assert!(may_follow(Kind::Secret, &failed) && !may_follow(Kind::EnvFile, &failed));
    }

    #[test]
    fn a_removal_that_fails_is_tried_again_and_again() {
        let script = Scripted::default();
        script.there.borrow_mut().push(object(Kind::Network, "net"));
        script.failing.borrow_mut().insert("net".to_owned(), 5);
        let (left, removed) = cleared(&script, &[], PATIENCE);
        assert_eq!(left.unwrap().len(), 0);
        assert_eq!(removed, ["net"]);
        assert_eq!(script.tried.borrow().len(), 6);
    }
}
