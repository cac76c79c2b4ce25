//! The loop: look at each repository, wait for the clock or a nudge, look again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};

use ccci_core::config::forge::{Bridge, Forge};
use ccci_forge::api::Api;
use ccci_forge::remote::Trouble;

use crate::answer::Thread;
use crate::drone::Drone;
use crate::ledger::Ledger;
use crate::watch::Watch;
use crate::wish::{Parties, could_not_ask};
use crate::{say, secret_file};

/// What it works with.
pub(crate) struct Poll {
    api: Api,
    drone: Drone,
    forge: Forge,
    bridge: Bridge,
    ledger: Ledger,
    watches: Vec<Watch>,
}

impl Poll {
    /// Everything that a look needs.
    ///
    /// # Errors
    /// When a secret or the state directory cannot be used.
    pub(crate) fn open(mut forge: Forge, bridge: Bridge) -> anyhow::Result<Self> {
        forge.token_file = secret_file("forge-token", &forge.token_file);
        let api = Api::open(&forge)?;
        let drone = Drone::open(&bridge.drone)?;
        let ledger = Ledger::open(&bridge)?;
        let watches = bridge.repositories.iter().map(|repository| Watch::new(repository.clone(), &ledger)).collect();
        Ok(Self { api, drone, forge, bridge, ledger, watches })
    }

    /// Looks until it is told to stop.
    pub(crate) fn go(&mut self, nudges: &Receiver<()>, stop: &AtomicBool) {
        let stopped = || stop.load(Ordering::SeqCst);
        self.api.renew(&self.forge);
        self.check_rights();
        self.own_up();
        while !stopped() {
            let parties = (&self.drone, &self.forge, &self.bridge);
            for watch in self.watches.iter_mut().take_while(|_| !stopped()) {
                self.api.renew(&self.forge);
                let (drone, forge, bridge) = parties;
                watch.look(&Parties { api: &self.api, drone, forge, bridge }, &mut self.ledger);
            }
            match nudges.recv_timeout(self.bridge.every) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Says at the start what would else be found out with the first comment: whether the forge answers the question
    /// of who is a member.
    fn check_rights(&self) {
        let me = match self.api.myself() {
            Ok(me) => me,
            Err(trouble) => return say(&format!("cannot ask whose token it is: {trouble}")),
        };
        let asked: BTreeSet<&str> =
            self.bridge.repositories.iter().map(|each| self.bridge.organisation(each)).collect();
        for organisation in asked.into_iter().filter(|organisation| *organisation != me.login) {
            match self.api.is_member(organisation, &me.login) {
                Ok(true) => {}
                Ok(false) => say(&format!(
                    "!! the token's user {} is no member of {organisation}: the forge will not tell it who is, and no \
                     comment can start a build; make it one",
                    me.login
                )),
                Err(trouble) => say(&format!("!! {}", could_not_ask(organisation, &trouble))),
            }
        }
    }

    /// Answers what an earlier bridge claimed and ended over. Whether its build was started is not known.
    fn own_up(&mut self) {
        for (comment, claim) in self.ledger.open_claims() {
            let thread = Thread { api: &self.api, repository: &claim.repository, pull: claim.pull, comment };
            let subject = format!("{}#{}: comment {comment}", claim.repository, claim.pull);
            let why = format!(
                "the bridge was stopped while it asked for the build of `{}`, and does not know whether there is one: \
                 look at Drone, and ask again if there is none",
                crate::approval::short(&claim.commit)
            );
            let told: Result<(), Trouble> = thread.refuse(&subject, &why);
            match told {
                Ok(()) => self.ledger.settle(comment),
                Err(trouble) => say(&format!("{subject}: {trouble}; the next start tries again")),
            }
        }
    }
}
