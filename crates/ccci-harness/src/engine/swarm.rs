//! The `swarm` engine: a recipe's compose files straight onto Docker Swarm, for hosts without abra.
//!
//! It makes what abra would make, by the same names: the env file on the server `default`, secrets
//! from `SECRET_<NAME>_VERSION`, configs with the versions of `abra.sh`, the `coop-cloud` labels. What
//! looks at or removes Docker objects is [`ccci_core::substrate::swarm`]'s and alike for both.

mod interpolate;
mod limits;
mod look;
mod ports;
pub(super) mod secrets;
pub(super) mod stack;
mod tasks;
mod volumes;
mod words;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ccci_core::config::Places;
use ccci_core::config::policy::PolicySettings;
use ccci_core::docker::change::Mark;
use ccci_core::docker::command::Deploy;
use ccci_core::docker::{Docker, DockerError, Endpoint, Removable};
use ccci_core::lifetime::clock::Deadline;
use ccci_core::lock::AppLock;
use ccci_core::substrate::swarm::Swarm;
use ccci_core::substrate::{Kind, Object, env_file};
use ccci_core::weaken::{self, Protection};
use jiff::Timestamp;

use super::Never;
use super::sightings::Sightings;
use super::{App, Archive, Deployment, Engine, EngineError, Observation, Say, ServiceState, policy, shape};
use crate::checkup;
use crate::event::{Event, report};
use crate::health::Target;
use crate::plan::Plan;
use crate::recipe::OVERLAY;
use crate::recipe::source::Release;
use look::Unallocated;
use secrets::Secret;
use stack::Stack;

/// The server's name under which abra keeps the apps of the host's own Swarm.
pub(super) const SERVER: &str = "default";
/// `docker stack deploy` only hands over; a daemon that needs longer is in trouble.
const HAND_OVER: Duration = Duration::from_secs(120);
/// How long a network that had an address for us is trusted to have one.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// Deploys onto the Swarm of a Docker daemon.
#[derive(Debug)]
pub(crate) struct SwarmEngine {
    docker: Docker,
    places: Places,
    /// When it may be asked again whether a network has addresses: asking takes one.
    ask_again: Cell<Option<Deadline>>,
    ingress: Option<SocketAddr>,
    sightings: Sightings,
    policy: PolicySettings,
    run_id: String,
}

impl SwarmEngine {
    /// The engine for this host's daemon, which must be able to deploy.
    ///
    /// # Errors
    /// [`EngineError::Host`] that says what is missing.
    pub(crate) fn find(plan: &Plan) -> Result<Self, EngineError> {
        let Some(endpoint) = Endpoint::find()? else {
            return Err(EngineError::Host("this host has no Docker: install it, or set DOCKER_HOST".to_owned()));
        };
        let docker = Docker::new(endpoint);
        let info = docker.info()?;
        if !info.swarm.is_manager() {
            let why = if info.swarm.error.is_empty() { "run `docker swarm init` on it" } else { &info.swarm.error };
            return Err(EngineError::Host(format!("Docker at {} is no manager of a Swarm: {why}", docker.endpoint())));
        }
        // What would fail anyway is said before anything is made ([9], [disk]).
        if let Some(trouble) = checkup::fatal(&docker.host()?) {
            return Err(EngineError::Host(format!("{}: {}; {}", trouble.name, trouble.seen, trouble.remedy)));
        }
        Ok(Self {
            docker,
            places: plan.places.clone(),
            ask_again: Cell::default(),
            ingress: plan.settings.ingress,
            sightings: Sightings::default(),
            policy: plan.settings.policy.clone(),
            run_id: plan.run_id.clone(),
        })
    }

    pub(super) fn env_path(&self, app: &App<'_>) -> PathBuf {
        env_file::path(&self.places.abra_dir, SERVER, &app.domain)
    }

    /// The app's env file, as it is.
    pub(super) fn read_env(&self, app: &App<'_>) -> Result<Vec<u8>, EngineError> {
        let path = self.env_path(app);
        let gone = |why: &dyn std::fmt::Display| EngineError::Host(format!("cannot read {}: {why}", path.display()));
        env_file::load(&path).map_err(|error| gone(&error))?.ok_or_else(|| gone(&"it is not there"))
    }

    /// The app's variables: env file, `abra.sh`, and what abra sets itself.
    fn vars(&self, app: &App<'_>, extra: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, EngineError> {
        let mut vars =
            env_file::parse(&self.read_env(app)?).map_err(|error| shape::not_read(&error, "the env file"))?;
        vars.extend(shape::exports(&app.tree)?);
        vars.extend(extra.clone());
        vars.extend(shape::always(app).map(|(key, value)| (key.to_owned(), value.to_owned())));
        vars.insert("STACK_NAME".to_owned(), app.domain.stack_name());
        Ok(vars)
    }

    /// The recipe's own compose files, as `COMPOSE_FILE` has them; one that says nothing means the default.
    fn files(app: &App<'_>, vars: &BTreeMap<String, String>, overlay: Option<&Path>) -> Vec<String> {
        let names = vars.get("COMPOSE_FILE").map_or("", String::as_str);
        // Where the overlay lies in the tree, it is the test folder's all the same.
        let placed = overlay.is_some_and(|overlay| overlay == app.tree.join(OVERLAY));
        let own = names.split(':').map(str::trim).filter(|name| !(name.is_empty() || placed && *name == OVERLAY));
        let own: Vec<String> = own.map(str::to_owned).collect();
        if own.is_empty() { vec![shape::COMPOSE.to_owned()] } else { own }
    }

    /// What Docker makes of the compose files, with the overlay over them. The recipe's own must pass the policy by
    /// themselves, before Docker reads them and after; the overlay is the operator's word.
    fn resolve(
        &self,
        app: &App<'_>,
        overlay: Option<&Path>,
        env: &BTreeMap<String, String>,
    ) -> Result<Stack, EngineError> {
        let vars = self.vars(app, env)?;
        let names = Self::files(app, &vars, overlay);
        policy::expect_files(app, &names, &vars, &self.policy)?;
        let mut files: Vec<PathBuf> = names.iter().map(|name| app.tree.join(name)).collect();
        let own = Stack::resolve(&self.docker, &files, &vars)?;
        policy::expect_resolved(app, &names, own.value(), &self.policy)?;
        let Some(overlay) = overlay else { return Ok(own) };
        files.push(overlay.to_owned());
        Stack::resolve(&self.docker, &files, &vars)
    }

    /// That the recipe may be deployed, as far as this can be told before its app has anything but an env file.
    pub(super) fn expect_allowed(&self, app: &App<'_>) -> Result<(), EngineError> {
        let stack = self.resolve(app, None, &BTreeMap::new())?;
        self.expect_unclaimed(app, &stack.objects(&app.domain.stack_name()))
    }

    /// What a deploy comes to, with everything done that comes before it: its images are here, the
    /// shared networks have room, and what it will make is written down.
    pub(super) fn prepare(
        &self,
        app: &App<'_>,
        overlay: Option<&Path>,
        env: &BTreeMap<String, String>,
    ) -> Result<Stack, EngineError> {
        let stack = self.resolve(app, overlay, env)?;
        self.expect_unclaimed(app, &stack.objects(&app.domain.stack_name()))?;
        self.pull(&stack, app)?;
        self.expect_room(&stack, &app.domain.stack_name())?;
        self.plan(app, stack.objects(&app.domain.stack_name()))?;
        Ok(stack)
    }

    /// By what all that the run makes of the app is known again.
    fn mark(&self, app: &App<'_>) -> Mark {
        Mark { stack: app.domain.stack_name(), domain: app.domain.to_string(), run: self.run_id.clone() }
    }

    pub(super) fn plan_env_file(&self, app: &App<'_>) -> Result<(), EngineError> {
        self.plan(app, vec![planned(Kind::EnvFile, format!("{SERVER}/{}.env", app.domain))])
    }

    /// The secrets that an env file asks for, written down.
    pub(super) fn plan_secrets(&self, app: &App<'_>, env: &[u8]) -> Result<Vec<Secret>, EngineError> {
        let wanted = secrets::wanted(env, &app.domain.stack_name())?;
        self.plan(app, wanted.iter().map(|secret| planned(Kind::Secret, secret.object.clone())).collect())?;
        Ok(wanted)
    }
}

/// An app that nobody can ask.
const NO_WAY_IN: &str = "no service publishes a TCP port, and the settings of this host have no `ingress`: set \
    `ingress = \"ADDRESS:PORT\"` to where its reverse proxy answers, or publish a port in compose.ccci.yml";

const fn planned(kind: Kind, name: String) -> Object {
    Object { kind, name, id: String::new() }
}

/// The archives by what the volumes are called in a stack of any name.
fn portable(app: &App<'_>, archive: &Archive) -> Result<BTreeMap<String, PathBuf>, EngineError> {
    let Archive::Files(files) = archive else { return Err(super::not_here()) };
    let stack = app.domain.stack_name();
    Ok(files.iter().map(|(volume, file)| (stack::of_any(volume, &stack).to_owned(), file.clone())).collect())
}

impl Engine for SwarmEngine {
    fn create(
        &self,
        lock: &AppLock,
        app: &App<'_>,
        _release: &Release,
        _say: &mut Say<'_>,
    ) -> Result<BTreeMap<String, String>, EngineError> {
        self.plan_env_file(app)?;
        lock.verify()?;
        let text = shape::env_text(&shape::sample(app)?, app)?;
        super::private_file(&self.env_path(app), &text)?;
        self.expect_allowed(app)?;
        let mut values = BTreeMap::new();
        for secret in self.plan_secrets(app, &text)? {
            lock.verify()?;
            let given = app.folder.toml.secrets.get(&secret.name);
            let known = given.or_else(|| app.secrets.get(&secret.name));
            let value = known.map_or_else(|| secret.generate(), |known| Ok(known.clone()));
            let value = value.map_err(|error| EngineError::Host(format!("cannot generate a secret: {error}")))?;
            self.docker.create_secret(&secret.object, &self.mark(app), value.as_bytes())?;
            // What stands in the test folder is nothing to hide.
            values.extend(Some((secret.name, value)).filter(|_| given.is_none()));
        }
        Ok(values)
    }

    fn deploy(
        &self,
        lock: &AppLock,
        app: &App<'_>,
        deployment: &Deployment<'_>,
        say: &mut Say<'_>,
    ) -> Result<(), EngineError> {
        let stack = app.domain.stack_name();
        let mut resolved = self.prepare(app, deployment.overlay.as_deref(), &deployment.env)?;
        resolved.label(&stack, &deployment.release.commit);
        resolved.mark(&self.mark(app));
        resolved.bound(&self.policy.limits, self.docker.info()?.processors);
        let file = app.dir.join(&format!("{stack}.yml"));
        super::private_file(&file, resolved.text().as_bytes())?;
        self.fill(lock, app, &resolved, deployment)?;
        lock.verify()?;
        let deploy = Deploy {
            stack,
            files: vec![file],
            // What the new version dropped must not go on running ([19]).
            prune: true,
            resolve_images: false,
        };
        match self.docker.stack_deploy(&deploy, HAND_OVER, say) {
            Ok(_) => Ok(()),
            Err(DockerError::Command(error)) => Err(stack::refused(&error.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    fn observe(&self, lock: &AppLock, app: &App<'_>) -> Result<Observation, EngineError> {
        let (mut seen, unallocated) = look::observe(&self.docker, &app.domain.stack_name(), &self.sightings)?;
        for stuck in unallocated {
            let why = self.why_unallocated(lock, app, &stuck)?;
            if let Some(service) = seen.services.iter_mut().find(|service| service.name == stuck.service) {
                service.never = service.never.take().or(why.map(Never::Host));
            }
        }
        Ok(seen)
    }

    fn wait_for_change(&self, since: Timestamp, at_most: Duration) -> Result<bool, EngineError> {
        use ccci_core::docker::events::Event;
        Ok(self.docker.wait_for_change(&[Event::Container, Event::Service], since, at_most)?)
    }

    fn last_lines(&self, app: &App<'_>, service: &ServiceState) -> String {
        look::last_words(&self.docker, &app.domain.stack_name(), &service.name)
    }

    fn target(&self, app: &App<'_>) -> Result<Option<Target>, EngineError> {
        let stack = app.domain.stack_name();
        let ports = ports::published(&self.docker, &stack)?;
        // A port beside the one that the reverse proxy leads to, such as one for SSH, is not the app's front door.
        let web = ports::behind_the_proxy(&self.docker, &stack)?;
        let (front, others): (Vec<_>, Vec<_>) = ports.iter().partition(|(own, _)| web == Some(*own));
        let beside = others.first().filter(|_| web.is_none() || self.ingress.is_none());
        let own = front.first().or(beside).map(|(_, port)| SocketAddr::from(([127, 0, 0, 1], *port)));
        // Of a target that is published twice, the first counts.
        let ports = ports.into_iter().rev().collect();
        Ok(own.or(self.ingress).map(|address| Target { address, host: app.domain.to_string(), ports: Some(ports) }))
    }

    fn unreachable(&self, app: &App<'_>) -> Result<Option<String>, EngineError> {
        let asked_for = ports::asked_for(&self.docker, &app.domain.stack_name())?;
        let mut probed = app.folder.toml.readiness.iter().filter_map(|probe| probe.tcp);
        if let Some(probed) = probed.find(|port| !asked_for.contains(port)) {
            return Ok(Some(format!("no service publishes port {probed} over TCP, which a probe names")));
        }
        Ok((asked_for.is_empty() && self.ingress.is_none()).then(|| NO_WAY_IN.to_owned()))
    }

    fn nothing_to_save(&self, app: &App<'_>) -> Result<Option<String>, EngineError> {
        let stack = app.domain.stack_name();
        if volumes::of(&self.docker, &stack)?.is_empty() {
            return Ok(Some(super::NO_VOLUMES.to_owned()));
        }
        let asks = look::asks_for_backup(&self.docker, &stack)? || !weaken::on(Protection::BackupAsked);
        Ok((!asks).then(|| super::NOT_ASKED_FOR.to_owned()))
    }

    fn backup(&self, lock: &AppLock, app: &App<'_>, dir: &Path, _say: &mut Say<'_>) -> Result<Archive, EngineError> {
        lock.verify()?;
        let stack = app.domain.stack_name();
        volumes::save(&self.docker, &stack, &volumes::left_out(&self.docker, &stack)?, dir)
    }

    fn restore(&self, lock: &AppLock, app: &App<'_>, archive: &Archive, _say: &mut Say<'_>) -> Result<(), EngineError> {
        let Archive::Files(files) = archive else { return Err(super::not_here()) };
        lock.verify()?;
        volumes::put_back(&self.docker, &app.domain.stack_name(), files)
    }

    fn portable(
        &self,
        _lock: &AppLock,
        app: &App<'_>,
        archive: &Archive,
        _dir: &Path,
        _most: u64,
    ) -> Result<BTreeMap<String, PathBuf>, EngineError> {
        volumes::expect_own(&self.docker, &app.domain.stack_name())?;
        portable(app, archive)
    }
}

impl SwarmEngine {
    /// Writes down what will be made (`[48]`).
    fn plan(&self, app: &App<'_>, objects: Vec<Object>) -> Result<(), EngineError> {
        self.expect_unclaimed(app, &objects)?;
        app.plan(&objects)
    }

    /// That nobody else has made what the stack is about to make: Docker would take it for the stack's, and the
    /// teardown would remove it (incident `[relabel]`).
    fn expect_unclaimed(&self, app: &App<'_>, objects: &[Object]) -> Result<(), EngineError> {
        let Some(swarm) = Swarm::find(&self.places) else {
            return Err(EngineError::Host("Docker was here when the run began, and is not any more".to_owned()));
        };
        let claimed = swarm.claimed(objects, &app.domain)?;
        if claimed.is_empty() || !weaken::on(Protection::ForeignObject) {
            return Ok(());
        }
        let named: Vec<String> = claimed.iter().map(ToString::to_string).collect();
        Err(EngineError::Recipe(format!(
            "refused before anything was made: {} exists already, and this run has not made it; a recipe's names \
             begin with ${{STACK_NAME}}_, or, where it is a leftover, remove it by hand",
            named.join(", ")
        )))
    }

    /// Makes the volumes of a stack that is about to be deployed, full of kept data, if it is to have any.
    pub(super) fn fill(
        &self,
        lock: &AppLock,
        app: &App<'_>,
        stack: &Stack,
        deployment: &Deployment<'_>,
    ) -> Result<(), EngineError> {
        let Some(data) = deployment.data else { return Ok(()) };
        let name = app.domain.stack_name();
        for volume in stack.volumes(&name) {
            if let Some(archive) = data.get(stack::of_any(&volume.name, &name)) {
                lock.verify()?;
                volumes::fill(&self.docker, &self.mark(app), &volume, archive)?;
            }
        }
        Ok(())
    }

    /// Saves the volumes of an app, by their names in the recipe, if they are not longer than `most` bytes.
    pub(super) fn save(&self, app: &App<'_>, dir: &Path, most: u64) -> Result<BTreeMap<String, PathBuf>, EngineError> {
        volumes::expect_small(&self.docker, &app.domain.stack_name(), most)?;
        portable(app, &volumes::save(&self.docker, &app.domain.stack_name(), &BTreeSet::new(), dir)?)
    }

    /// A shared network of a new app that is full is named before anything is made (incident `[9]`).
    /// Addresses that Swarm lost are in no list, so a deploy can still find it full.
    fn expect_room(&self, stack: &Stack, name: &str) -> Result<(), EngineError> {
        let shared = stack.external_networks();
        if shared.is_empty() || !look::services(&self.docker, name)?.is_empty() {
            return Ok(());
        }
        let full = self.docker.addresses()?.into_iter().find(|seen| seen.left == 0 && shared.contains(&seen.network));
        match full {
            Some(seen) => Err(EngineError::Host(format!(
                "no address is left on network {} ({}); see `cc-ci-run doctor`, and make the network larger",
                seen.network, seen.subnet
            ))),
            None => Ok(()),
        }
    }

    /// Removes the services of the stack that it no longer has: only some ways of deploying do (`[19]`).
    pub(super) fn prune(&self, lock: &AppLock, app: &App<'_>, stack: &Stack) -> Result<(), EngineError> {
        let name = app.domain.stack_name();
        let wanted = stack.objects(&name);
        let wanted = |service: &str| wanted.iter().any(|object| object.kind == Kind::Service && object.name == service);
        for dropped in look::services(&self.docker, &name)?.into_iter().filter(|service| !wanted(&service.spec.name)) {
            lock.verify()?;
            self.docker.remove(Removable::Service, &dropped.id)?;
        }
        Ok(())
    }

    /// The network that has no address left for a service, if that is why its task stays new (`[vip]`).
    fn why_unallocated(
        &self,
        lock: &AppLock,
        app: &App<'_>,
        stuck: &Unallocated,
    ) -> Result<Option<String>, EngineError> {
        if !self.ask_again.get().is_none_or(Deadline::passed) {
            return Ok(None);
        }
        let swarm = Swarm::new(Docker::new(self.docker.endpoint().clone()), &self.places);
        for network in &stuck.networks {
            if swarm.free_addresses(lock, &app.domain, network, 1)? == 0 {
                let network = self.docker.network(network)?;
                let subnets: Vec<&str> = network.ipam.config.iter().map(|subnet| subnet.subnet.as_str()).collect();
                return Ok(Some(format!(
                    "no address is left on network {} ({}), so Swarm does not start its task; see `cc-ci-run doctor`, \
                     and make the network anew to have lost addresses back",
                    network.name,
                    subnets.join(", ")
                )));
            }
        }
        self.ask_again.set(Some(Deadline::after(ASK_AGAIN)));
        Ok(None)
    }

    /// Has every image before the deploy, so that no download counts as convergence (`[prepull]`).
    fn pull(&self, stack: &Stack, app: &App<'_>) -> Result<(), EngineError> {
        if !weaken::on(Protection::Prepull) {
            return Ok(());
        }
        for image in stack.images() {
            let here = self.docker.has_image(&image);
            if here.map_err(|error| EngineError::of_authors(&format!("image {image:?} cannot be had"), error))? {
                continue;
            }
            report(app.dir, Event::Step { name: "pull".to_owned() });
            report(app.dir, Event::Waiting { what: image.clone() });
            let timeout = app.folder.toml.timeouts.pull;
            if let Err(error) = self.docker.pull(&image, timeout, &mut |_| {}) {
                return Err(stack::not_pulled(&image, &error.to_string()));
            }
            report(app.dir, Event::Step { name: "deploy".to_owned() });
        }
        Ok(())
    }
}
