//! The embedded `local` engine: needs nothing installed. Services are detached processes, which
//! outlive a killed run as containers would; volumes are directories, secrets are files.
//!
//! Every app has a loopback address of its own ([`ccci_core::name::Domain::loopback`]), so ports never clash. A service
//! that dies is started again when the app is next looked at, as Swarm's restart policy would.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ccci_core::config::Places;
use ccci_core::lock::AppLock;
use ccci_core::process::{
    Job, acts_on_programs, collect, find_program, is_exhausted, is_the_steps_own, procfs, wait_ready,
};
use ccci_core::rundir::write_atomic;
use ccci_core::substrate::local::{AppPaths, Local, SERVICE_VAR};
use ccci_core::substrate::{Kind, Object, Substrate as _, env_file};
use jiff::Timestamp;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::sightings::Sightings;
use super::swarm::secrets::letters_and_digits;
use super::{App, Archive, Deployment, Engine, EngineError, Observation, Say, ServiceState, shape, tarball};
use crate::health::Target;
use crate::recipe::source::Release;
use crate::recipe::{LocalService, RecipeToml, copy_tree};

/// What the engine remembers of a service, in `services/<name>.json`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Memory {
    pid: u32,
    start_ticks: u64,
    failures: u32,
    error: Option<String>,
    env: BTreeMap<String, String>,
}

/// The release that is deployed, in `release/.ccci-release.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Deployed {
    commit: String,
    version: String,
    /// The variables besides the env file's.
    env: BTreeMap<String, String>,
}

const DEPLOYED: &str = ".ccci-release.json";
const LOG_TAIL: u64 = 2000;
const SECRET_LENGTH: usize = 32;
/// The pause between two looks: nothing announces that a process of ours listens.
const PAUSE: Duration = Duration::from_millis(50);

/// Deploys recipes as plain processes.
#[derive(Debug)]
pub(crate) struct LocalEngine {
    local: Local,
    sightings: Sightings,
}

impl LocalEngine {
    pub(crate) fn new(places: &Places) -> Self {
        Self { local: Local::new(places), sightings: Sightings::default() }
    }

    fn paths(&self, app: &App<'_>) -> AppPaths {
        self.local.paths(&app.domain)
    }

    fn start(&self, app: &App<'_>, name: &str, service: &LocalService, memory: Memory) -> Result<(), EngineError> {
        let paths = self.paths(app);
        let log = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(paths.services.join(format!("{name}.log")))
            .map_err(|error| host("open the log of", name, &error))?;
        let (program, args) = service
            .command
            .split_first()
            .ok_or_else(|| EngineError::Recipe(format!("service {name} has no command")))?;
        // A program of the recipe's own is meant from the recipe's folder; another is the host's, and nothing that an
        // env file says leads to one in the recipe.
        let found = || find_program(program).unwrap_or_else(|| program.into());
        let program = if program.contains('/') { paths.release.join(program) } else { found() };
        let not_its_own = |key: &str| key.starts_with("CCCI_") || key.starts_with("DOCKER_") || key == "ABRA_DIR";
        let job = Job::new(program)
            .args(args)
            .without_env(|key| not_its_own(key) || is_the_steps_own(key))
            .env(&memory.env)
            .env([(SERVICE_VAR, self.local.service_mark(&app.domain, name))])
            .dir(&paths.release);
        let started = job.detach(&log);
        let memory = match started {
            Ok(pid) => {
                let pid = pid.as_raw().cast_unsigned();
                let start_ticks = procfs::start_ticks(pid).unwrap_or(0);
                Memory { pid, start_ticks, ..memory }
            }
            // Like a container that cannot start: a failure of the task.
            Err(error) => Memory { pid: 0, failures: memory.failures + 1, error: Some(error.to_string()), ..memory },
        };
        save(&paths, name, &memory)
    }

    fn stop_all(&self, lock: &AppLock, app: &App<'_>) -> Result<(), EngineError> {
        let objects = self.local.objects(&app.domain).map_err(|error| EngineError::Host(error.to_string()))?;
        for service in objects.iter().filter(|object| object.kind == Kind::Service) {
            lock.verify()?;
            self.local.remove(lock, &app.domain, service).map_err(|error| EngineError::Host(error.to_string()))?;
        }
        Ok(())
    }

    fn start_all(&self, lock: &AppLock, app: &App<'_>, extra: &BTreeMap<String, String>) -> Result<(), EngineError> {
        let paths = self.paths(app);
        for (name, service) in &app.folder.toml.local.services {
            lock.verify()?;
            let memory = Memory { env: service_env(app, &paths, service, extra)?, ..Memory::default() };
            self.start(app, name, service, memory)?;
        }
        Ok(())
    }
}

/// A recipe that this engine has nothing to run of.
pub(crate) const NOTHING_TO_RUN: &str = "the local engine runs what the test folder's recipe.toml declares as \
    [local.services.<name>], and nothing is declared: docs/recipes.md shows how, --engine swarm needs none";

/// An app of this engine that nobody can ask.
const NO_PORT: &str = "no [local.services.<name>] of recipe.toml has a `port`";

/// The port of the service called `app`, which is the front door as in recipes; else of the first that has one.
fn front_port(services: &BTreeMap<String, LocalService>) -> Option<u16> {
    let app = services.get("app").and_then(|service| service.port);
    app.or_else(|| services.values().find_map(|service| service.port))
}

/// That somebody can ask the app, or that the test folder says why nobody can.
///
/// # Errors
/// What to add to it.
pub(crate) fn expect_to_be_asked(toml: &RecipeToml) -> Result<(), String> {
    if toml.health.none.is_some() || front_port(&toml.local.services).is_some() {
        return Ok(());
    }
    Err(format!(
        "nobody can ask the app whether it works: {NO_PORT}; give the one it listens on, or, of an app that has no \
         HTTP, the reason: [health] none = \"the reason\""
    ))
}

/// Before anything of the app runs, an address of its own that is in use is somebody else's doing.
fn expect_free(app: &App<'_>, services: &BTreeMap<String, LocalService>) -> Result<(), EngineError> {
    for (name, service) in services {
        let Some(port) = service.port else { continue };
        let address = SocketAddr::new(app.domain.loopback().into(), port);
        match std::net::TcpListener::bind(address) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                return Err(EngineError::Host(format!(
                    "{address}, where service {name} is to listen, is in use by somebody else: `ss -ltnp` says by whom"
                )));
            }
            // What else is wrong with it is the service's to say.
            _ => {}
        }
    }
    Ok(())
}

fn volume_failed(doing: &str, volume: &str, error: &std::io::Error) -> EngineError {
    let why = format!("cannot {doing} volume {volume}: {error}");
    if is_exhausted(error) { EngineError::Host(why) } else { EngineError::Recipe(why) }
}

impl Engine for LocalEngine {
    fn create(
        &self,
        lock: &AppLock,
        app: &App<'_>,
        _release: &Release,
        _say: &mut Say<'_>,
    ) -> Result<BTreeMap<String, String>, EngineError> {
        let services = &app.folder.toml.local.services;
        if services.is_empty() {
            return Err(EngineError::Recipe(NOTHING_TO_RUN.to_owned()));
        }
        let paths = self.paths(app);
        let planned = |kind, name: &str| Object { kind, name: name.to_owned(), id: String::new() };
        let mut objects = vec![planned(Kind::EnvFile, app.domain.as_str()), planned(Kind::AppDir, app.domain.as_str())];
        for (name, service) in services {
            objects.push(planned(Kind::Service, name));
            objects.extend(service.volumes.iter().map(|volume| planned(Kind::Volume, volume)));
            objects.extend(service.secrets.iter().map(|secret| planned(Kind::Secret, secret)));
        }
        expect_free(app, services)?;
        app.plan(&objects)?;
        lock.verify()?;
        super::private_file(&paths.env, &shape::env_text(&shape::sample(app)?, app)?)?;
        for dir in [&paths.services, &paths.volumes, &paths.secrets] {
            fs::create_dir_all(dir).map_err(|error| host("create", &dir.display().to_string(), &error))?;
        }
        let mut values = BTreeMap::new();
        for service in services.values() {
            for volume in &service.volumes {
                fs::create_dir_all(paths.volumes.join(volume))
                    .map_err(|error| host("create volume", volume, &error))?;
            }
            for secret in &service.secrets {
                let given = app.folder.toml.secrets.get(secret);
                let known = given.or_else(|| app.secrets.get(secret));
                let value = known.map_or_else(|| letters_and_digits(SECRET_LENGTH), |known| Ok(known.clone()));
                let value = value.map_err(|error| host("generate secret", secret, &error))?;
                super::private_file(&paths.secrets.join(secret), value.as_bytes())?;
                values.extend(Some((secret.clone(), value)).filter(|_| given.is_none()));
            }
        }
        Ok(values)
    }

    fn deploy(
        &self,
        lock: &AppLock,
        app: &App<'_>,
        deployment: &Deployment<'_>,
        _say: &mut Say<'_>,
    ) -> Result<(), EngineError> {
        let Deployment { release, env, data, .. } = deployment;
        let paths = self.paths(app);
        self.stop_all(lock, app)?;
        if let Err(error) = fs::remove_dir_all(&paths.release)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(host("replace", &paths.release.display().to_string(), &error));
        }
        copy_tree(&app.tree, &paths.release).map_err(|error| EngineError::Host(format!("{error:#}")))?;
        let deployed = Deployed { commit: release.commit.clone(), version: release.version.clone(), env: env.clone() };
        let text = serde_json::to_vec(&deployed).map_err(|error| EngineError::Host(error.to_string()))?;
        write_atomic(&paths.release.join(DEPLOYED), &text).map_err(|error| host("write", DEPLOYED, &error))?;
        for (volume, archive) in data.iter().copied().flatten() {
            let dir = paths.volumes.join(volume);
            // One that this version of the recipe, or of its test folder, no longer has.
            if dir.is_dir() {
                lock.verify()?;
                tarball::unpack_open(archive, &dir).map_err(|error| host("fill volume", volume, &error))?;
            }
        }
        self.start_all(lock, app, env)
    }

    fn observe(&self, lock: &AppLock, app: &App<'_>) -> Result<Observation, EngineError> {
        let paths = self.paths(app);
        let mut services = Vec::new();
        for (name, service) in &app.folder.toml.local.services {
            let mut memory = load(&paths, name)?;
            let pid = Pid::from_raw(memory.pid.cast_signed());
            let end = if memory.pid == 0 { None } else { collect(pid) };
            let running = memory.pid != 0
                && end.is_none()
                && procfs::start_ticks(memory.pid) == Some(memory.start_ticks)
                && !procfs::is_gone(memory.pid);
            if !running {
                if memory.pid != 0 {
                    memory.failures += 1;
                    memory.error = Some(end.map_or_else(|| "it ended".to_owned(), |end| end.to_string()));
                }
                lock.verify()?;
                self.start(app, name, service, memory.clone())?;
            }
            let log = tail(&paths.services.join(format!("{name}.log")));
            services.push(ServiceState {
                name: name.clone(),
                running: u64::from(running),
                desired: 1,
                up: running.then(|| self.sightings.age(format!("{name} {} {}", memory.pid, memory.start_ticks))),
                failures: memory.failures,
                failing_since: (memory.failures > 0).then(|| self.sightings.first(format!("{name} failed"))),
                error: memory.error,
                log,
                ..ServiceState::default()
            });
        }
        let deployed = deployed(&paths);
        Ok(Observation { services, commit: deployed.map(|deployed| deployed.commit), version: None })
    }

    fn wait_for_change(&self, _since: Timestamp, at_most: Duration) -> Result<bool, EngineError> {
        // A service that dies meanwhile is seen at the next look.
        let _over = wait_ready(&mut [], Some(PAUSE.min(at_most)));
        Ok(false)
    }

    fn last_lines(&self, _app: &App<'_>, service: &ServiceState) -> String {
        service.log.clone()
    }

    fn target(&self, app: &App<'_>) -> Result<Option<Target>, EngineError> {
        Ok(front_port(&app.folder.toml.local.services).map(|port| Target {
            address: SocketAddr::new(app.domain.loopback().into(), port),
            host: app.domain.to_string(),
            ports: None,
        }))
    }

    fn unreachable(&self, app: &App<'_>) -> Result<Option<String>, EngineError> {
        Ok(front_port(&app.folder.toml.local.services).is_none().then(|| NO_PORT.to_owned()))
    }

    fn nothing_to_save(&self, app: &App<'_>) -> Result<Option<String>, EngineError> {
        let services = || app.folder.toml.local.services.values().filter(|service| !service.volumes.is_empty());
        if services().next().is_none() {
            return Ok(Some(super::NO_VOLUMES.to_owned()));
        }
        let asks = services().any(|service| service.backup);
        Ok((!asks).then(|| "no [local.services.<name>] that has volumes has backup = true".to_owned()))
    }

    fn backup(&self, lock: &AppLock, app: &App<'_>, dir: &Path, _say: &mut Say<'_>) -> Result<Archive, EngineError> {
        lock.verify()?;
        let paths = self.paths(app);
        fs::create_dir_all(dir).map_err(|error| host("create", &dir.display().to_string(), &error))?;
        let mut files = BTreeMap::new();
        let saved = app.folder.toml.local.services.values().filter(|service| service.backup);
        for volume in saved.flat_map(|service| &service.volumes) {
            let path = dir.join(format!("{volume}.tar"));
            let archived = tarball::pack(&paths.volumes.join(volume), &path);
            archived.map_err(|error| volume_failed("save", volume, &error))?;
            files.insert(volume.clone(), path);
        }
        Ok(Archive::Files(files))
    }

    fn restore(&self, lock: &AppLock, app: &App<'_>, archive: &Archive, _say: &mut Say<'_>) -> Result<(), EngineError> {
        let Archive::Files(files) = archive else { return Err(super::not_here()) };
        let paths = self.paths(app);
        let env = deployed(&paths).map(|deployed| deployed.env).unwrap_or_default();
        self.stop_all(lock, app)?;
        for (volume, file) in files {
            lock.verify()?;
            let restored = tarball::unpack(file, &paths.volumes.join(volume));
            restored.map_err(|error| volume_failed("restore", volume, &error))?;
        }
        self.start_all(lock, app, &env)
    }

    fn portable(
        &self,
        _lock: &AppLock,
        _app: &App<'_>,
        archive: &Archive,
        _dir: &Path,
        _most: u64,
    ) -> Result<BTreeMap<String, PathBuf>, EngineError> {
        match archive {
            Archive::Files(files) => Ok(files.clone()),
            Archive::Kept => Err(super::not_here()),
        }
    }
}

/// What a service finds in its environment.
fn service_env(
    app: &App<'_>,
    paths: &AppPaths,
    service: &LocalService,
    extra: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, EngineError> {
    let gone = |error: &io::Error| host("read", &paths.env.display().to_string(), error);
    let text = env_file::load(&paths.env).map_err(|error| gone(&error))?;
    let text = text.ok_or_else(|| gone(&io::ErrorKind::NotFound.into()))?;
    let mut env = env_file::parse(&text).map_err(|error| shape::not_read(&error, "the env file"))?;
    // Which programs, libraries and settings a process uses is for the test folder to say, not for the recipe.
    env.retain(|name, _| !acts_on_programs(name));
    env.extend(service.env.clone());
    env.extend(extra.clone());
    env.extend(shape::always(app).map(|(key, value)| (key.to_owned(), value.to_owned())));
    env.insert("ADDRESS".to_owned(), app.domain.loopback().to_string());
    if let Some(port) = service.port {
        env.insert("LISTEN".to_owned(), format!("{}:{port}", app.domain.loopback()));
    }
    let shout = |name: &str| name.to_ascii_uppercase().replace('-', "_");
    for volume in &service.volumes {
        env.insert(format!("VOLUME_{}", shout(volume)), paths.volumes.join(volume).display().to_string());
    }
    for secret in &service.secrets {
        env.insert(format!("SECRET_{}_FILE", shout(secret)), paths.secrets.join(secret).display().to_string());
    }
    Ok(env)
}

fn deployed(paths: &AppPaths) -> Option<Deployed> {
    serde_json::from_slice(&fs::read(paths.release.join(DEPLOYED)).ok()?).ok()
}

/// What is remembered of a service. One that cannot be read is no service that never ran: it may run still.
fn load(paths: &AppPaths, name: &str) -> Result<Memory, EngineError> {
    let text = match fs::read(paths.services.join(format!("{name}.json"))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Memory::default()),
        other => other.map_err(|error| host("read what is remembered of service", name, &error))?,
    };
    serde_json::from_slice(&text)
        .map_err(|error| EngineError::Host(format!("cannot read what is remembered of service {name}: {error}")))
}

fn save(paths: &AppPaths, name: &str, memory: &Memory) -> Result<(), EngineError> {
    let text = serde_json::to_vec(memory).map_err(|error| EngineError::Host(error.to_string()))?;
    write_atomic(&paths.services.join(format!("{name}.json")), &text)
        .map_err(|error| host("remember service", name, &error))
}

fn tail(path: &Path) -> String {
    let read = || -> io::Result<Vec<u8>> {
        use std::io::{Read as _, Seek as _};
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(io::SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn host(doing: &str, what: &str, error: &io::Error) -> EngineError {
    EngineError::Host(format!("cannot {doing} {what}: {error}"))
}

#[cfg(test)]
mod tests {
    use ccci_core::name::Domain;

    #[test]
    fn the_loopback_address_is_the_domains_own() {
        let base = ccci_core::name::BaseDomain::new("ci.example").unwrap();
        let address = |text| Domain::parse(text, &base).unwrap().loopback().to_string();
        assert_eq!(address("hell-0a1b2c.ci.example"), "127.10.27.44");
        assert_eq!(address("hell-000000.ci.example"), "127.1.0.1");
        assert_eq!(address("hell-ffffff.ci.example"), "127.255.255.254");
    }
}
