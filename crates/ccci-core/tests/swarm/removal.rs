//! Taking stacks down.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ccci_core::lock::AppLock;
use ccci_core::name::{BaseDomain, Domain};
use ccci_core::substrate::{Kind, Object, Substrate, SubstrateError};

use super::lab::{App, External, PATIENCE, cli, docker};

#[test]
fn a_stack_is_taken_down_to_the_last_part_and_its_neighbours_stay() {
    let app = App::new("whole");
    let external = External::new("whole");
    app.deploy(&external.0, "run");
    let env = app.write_env();

    // Witnesses whose names begin alike: an app of another host's base domain, and things of every
    // kind without a label.
    let neighbour = App::on(docker(), "whole", "ci.xy");
    assert_eq!(neighbour.stack, format!("{}y", app.stack));
    neighbour.deploy(&external.0, "run");
    let bare = format!("{}_bare", neighbour.stack);
    let witness = format!("{}-witness", app.stack);
    for name in [&bare, &witness] {
        cli(&app.docker, &["volume", "create", name]);
        cli(&app.docker, &["network", "create", name]);
        cli(&app.docker, &["secret", "create", name, env.to_str().unwrap()]);
        cli(&app.docker, &["config", "create", name, env.to_str().unwrap()]);
    }
    let neighbours_before = lasting(&neighbour);
    assert_eq!(neighbours_before.len(), 11, "{neighbours_before:?}");
    let ours_before = app.shown_by_docker();
    let kinds: BTreeSet<&str> = ours_before.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(kinds.len(), 6, "one of each kind at least: {ours_before:?}");
    assert_eq!(app.swarm().apps(&app.base).unwrap().iter().filter(|found| **found == app.domain).count(), 1);

    let receipt = app.take_down(PATIENCE);
    assert!(receipt.is_clean(), "{receipt:#?}");
    // The receipt says neither more nor less than what Docker showed before, and the env file.
    let mut removed: Vec<String> =
        receipt.removed.iter().filter(|r| r.object.kind != Kind::EnvFile).map(|r| r.object.to_string()).collect();
    removed.sort();
    assert_eq!(removed, ours_before);
    assert!(receipt.removed.iter().map(|r| r.object.kind).is_sorted(), "in order: {receipt:#?}");
    assert_eq!(receipt.removed.last().unwrap().object.kind, Kind::EnvFile, "last, so that it stays discoverable");
    assert!(!env.exists());
    assert_eq!(app.shown_by_docker(), [] as [String; 0]);
    assert!(!app.swarm().apps(&app.base).unwrap().contains(&app.domain));

    assert_eq!(lasting(&neighbour), neighbours_before);
    for kind in ["volume", "network", "secret", "config"] {
        cli(&app.docker, &[kind, "inspect", &witness]);
        cli(&app.docker, &[kind, "rm", &witness]);
        cli(&app.docker, &[kind, "rm", &bare]);
    }
    assert!(neighbour.take_down(PATIENCE).is_clean());
}

/// What Docker shows of an app, without its containers, whose names change.
fn lasting(app: &App) -> Vec<String> {
    let mut all = app.shown_by_docker();
    all.retain(|line| !line.starts_with("container"));
    all
}

#[test]
fn half_made_stacks_are_found_and_removed() {
    let app = App::new("half");
    let swarm = app.swarm();
    let name = |part: &str| format!("{}_{part}", app.stack);
    let file = app.write_env();
    let makers: [(&str, &dyn Fn()); 6] = [
        ("env file", &|| drop(app.write_env())),
        ("secret", &|| drop(app.docker.create_secret(&name("pw_v1"), &app.mark(), b"x").unwrap())),
        ("volume without label", &|| drop(cli(&app.docker, &["volume", "create", &name("data")]))),
        ("network", &|| drop(cli(&app.docker, &["network", "create", "--driver", "overlay", &name("internal")]))),
        ("config without label", &|| {
            drop(cli(&app.docker, &["config", "create", &name("c_v1"), file.to_str().unwrap()]))
        }),
        ("container that no service started", &|| {
            cli(&app.docker, &["run", "--detach", "--name", &name("tool"), "ccci-test:1", "stubborn"]);
        }),
    ];
    for (what, make) in makers {
        make();
        assert!(swarm.apps(&app.base).unwrap().contains(&app.domain), "{what} is not found");
        let receipt = app.take_down(PATIENCE);
        assert!(receipt.is_clean() && !receipt.removed.is_empty(), "{what}: {receipt:#?}");
        assert!(!swarm.apps(&app.base).unwrap().contains(&app.domain), "{what} is still found");
        app.write_env();
    }
    app.take_down(PATIENCE);
    assert!(app.take_down(PATIENCE).is_empty(), "nothing is there, and nothing is said");
}

#[test]
fn a_volume_in_use_is_named_and_goes_as_soon_as_it_can() {
    let app = App::new("volume");
    let volume = format!("{}_data", app.stack);
    let holder = format!("holder-{}", app.stack);
    app.write_env();
    cli(&app.docker, &["run", "--detach", "--name", &holder, "--volume", &format!("{volume}:/data"), "ccci-test:1"]);

    let receipt = app.take_down(Duration::from_secs(1));
    assert!(!receipt.is_clean(), "{receipt:#?}");
    let residue = receipt.residue.iter().find(|left| left.what.contains(&volume)).unwrap();
    assert!(residue.why.contains("in use"), "{residue:?}");
    assert!(receipt.residue.iter().any(|left| left.what.starts_with("env file")), "kept: {receipt:#?}");
    // The holder is somebody else's, whatever it holds.
    cli(&app.docker, &["inspect", &holder]);
    cli(&app.docker, &["rm", "--force", &holder]);
    assert!(app.take_down(PATIENCE).is_clean());
}

#[test]
fn a_secret_in_use_is_named_and_goes_as_soon_as_it_can() {
    let app = App::new("secret");
    let secret = format!("{}_pw_v1", app.stack);
    let holder = format!("holder-{}", app.stack);
    app.docker.create_secret(&secret, &app.mark(), b"hunter2hunter2").unwrap();
    cli(
        &app.docker,
        &["service", "create", "--detach", "--no-resolve-image", "--name", &holder, "--secret", &secret, "ccci-test:1"],
    );

    let receipt = app.take_down(Duration::from_secs(1));
    let residue = receipt.residue.iter().find(|left| left.what.contains(&secret)).unwrap();
    assert!(residue.why.contains("in use"), "{residue:?}");
    cli(&app.docker, &["service", "rm", &holder]);
    assert!(app.take_down(PATIENCE).is_clean());
}

#[test]
fn a_service_that_does_not_stop_is_killed_and_its_parts_go() {
    let app = App::new("stubborn");
    let external = External::new("stubborn");
    app.deploy(&external.0, "stubborn");
    let receipt = app.take_down(PATIENCE);
    assert!(receipt.is_clean(), "{receipt:#?}");
    assert_eq!(app.shown_by_docker(), [] as [String; 0]);
}

/// Ends the teardown, as a SIGKILL would, when it comes to one kind of object.
struct Interrupted {
    swarm: ccci_core::substrate::swarm::Swarm,
    at: Kind,
    reached: Arc<Mutex<bool>>,
}

impl Substrate for Interrupted {
    fn name(&self) -> &'static str {
        "interrupted"
    }
    fn apps(&self, base: &BaseDomain) -> Result<BTreeSet<Domain>, SubstrateError> {
        self.swarm.apps(base)
    }
    fn objects(&self, domain: &Domain) -> Result<Vec<Object>, SubstrateError> {
        self.swarm.objects(domain)
    }
    fn remove(&self, lock: &AppLock, domain: &Domain, object: &Object) -> Result<(), SubstrateError> {
        self.swarm.remove(lock, domain, object)
    }
    fn remove_all(
        &self,
        lock: &AppLock,
        domain: &Domain,
        objects: &[Object],
        done: &mut dyn FnMut(&Object, Result<(), SubstrateError>),
    ) -> Result<(), SubstrateError> {
        if objects[0].kind == self.at {
            *self.reached.lock().unwrap() = true;
            let what = "interrupted".to_owned();
            return Err(SubstrateError::Unreadable { what, source: std::io::ErrorKind::Interrupted.into() });
        }
        self.swarm.remove_all(lock, domain, objects, done)
    }
}

#[test]
fn an_interrupted_teardown_is_found_and_finished_by_the_next() {
    let external = External::new("interrupted");
    let kinds =
        [Kind::Service, Kind::Container, Kind::Network, Kind::Volume, Kind::Secret, Kind::Config, Kind::EnvFile];
    let interrupt = |at: Kind| {
        let app = App::new(&format!("interrupted-{at}"));
        app.deploy(&external.0, "run");
        app.write_env();
        let reached = Arc::default();
        let substrate = Interrupted { swarm: app.swarm(), at, reached: Arc::clone(&reached) };
        let first = app.take_down_by(Box::new(substrate), PATIENCE);
        assert!(*reached.lock().unwrap() && !first.is_clean(), "{at}: {first:#?}");
        assert!(app.swarm().apps(&app.base).unwrap().contains(&app.domain), "interrupted at {at}, it is lost");
        let second = app.take_down(PATIENCE);
        assert!(second.is_clean(), "{at}: {second:#?}");
        assert_eq!(app.shown_by_docker(), [] as [String; 0], "{at}");
    };
    std::thread::scope(|scope| kinds.map(|at| scope.spawn(move || interrupt(at))).map(|one| one.join().unwrap()));
}
