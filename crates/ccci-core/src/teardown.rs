//! Taking an app away, with a receipt.
//!
//! Incident `[A3]`: a teardown "worked" and was never looked at; `[F2-5]`: its errors were swallowed.
//! So: remove in order, look again until nothing is found twice in a row, and write down each object
//! with the moment it went. What is left is named, and makes the run red.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::lifetime::clock::Deadline;
use crate::lock::AppLock;
use crate::name::Domain;
use crate::process::tagged::{self, Tag};
use crate::substrate::{Object, Substrate, SubstrateError};
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
    loop {
        let mut objects = substrate.objects(domain).map_err(|error| error.to_string())?;
        if !planned.is_empty() {
            objects.extend(substrate.unmarked(planned).map_err(|error| error.to_string())?);
            objects.sort();
            objects.dedup();
        }
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
        let mut failed = false;
        for group in objects.chunk_by(|one, two| one.kind == two.kind) {
            // A later kind waits until the earlier ones are gone: a volume in use cannot go.
            if failed {
                break;
            }
            let mut done = |object: &Object, result: Result<(), SubstrateError>| match result {
                Ok(()) => removed(object),
                Err(error) => {
                    failed = true;
                    failures.insert(object.clone(), error.to_string());
                }
            };
            lock.verify().map_err(|error| error.to_string())?;
            substrate.remove_all(lock, domain, group, &mut done).map_err(|error| error.to_string())?;
        }
        if !weaken::on(Protection::VerifyGone) {
            return Ok(Vec::new());
        }
        if failed {
            pause(RETRY.min(until.left()));
        }
    }
}

/// A pause between tries, not a synchronisation: nothing announces that a volume is no longer in use.
#[expect(clippy::disallowed_methods, reason = "the retry's pause")]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
