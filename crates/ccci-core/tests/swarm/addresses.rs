//! An external network keeps its addresses (`[vip]`).

use std::time::Duration;

use ccci_core::docker::events::Event;
use ccci_core::docker::host::CountedBy;
use ccci_core::lifetime::clock::{Deadline, since_boot};

use super::lab::{App, External, PATIENCE, cli};

/// Longer than any deploy of the test image takes, and short enough to wait for once.
const STUCK: Duration = Duration::from_secs(25);

#[test]
fn twenty_cycles_on_a_network_of_thirteen_addresses_succeed() {
    let external = External::with_subnet("cycles", "10.66.0.0/28");
    for cycle in 1..=20 {
        let app = App::new(&format!("cycle-{cycle}"));
        app.docker.create_secret(&format!("{}_pw_v1", app.stack), &app.mark(), b"x").unwrap();
        app.deploy_text(&super::lab::compose(&external.0, "run"));
        assert!(app.runs_within(2, STUCK), "stuck in cycle {cycle}: {:#?}", app.docker.addresses());
        let receipt = app.take_down(PATIENCE);
        assert!(receipt.is_clean(), "{receipt:#?}");
        eprintln!("cycle {cycle}: teardown {} ms", receipt.milliseconds);
    }
}

#[test]
fn the_same_by_docker_stack_rm_gets_stuck() {
    // The negative control: without it, twenty cycles might prove nothing on this engine.
    let external = External::with_subnet("stackrm", "10.67.0.0/28");
    for cycle in 1..=20 {
        let app = App::new(&format!("stackrm-{cycle}"));
        app.docker.create_secret(&format!("{}_pw_v1", app.stack), &app.mark(), b"x").unwrap();
        app.deploy_text(&super::lab::compose(&external.0, "run"));
        if !app.runs_within(2, STUCK) {
            eprintln!("stuck in cycle {cycle}");
            assert!((8..=13).contains(&cycle), "stuck in cycle {cycle}");
            let here = app.docker.addresses().unwrap();
            let counted = here.iter().find(|network| network.network == external.0).unwrap();
            // What was lost belongs to nobody: only an engine that asks its allocator sees it.
            eprintln!("{counted:?}");
            assert!(counted.counted_by == CountedBy::Owners || counted.left == 0, "{counted:?}");
            app.take_down(PATIENCE);
            // But trying does: a cycle needs three, and fewer can be had.
            let free = app.swarm().free_addresses(&app.lock, &app.domain, &external.0, 3).unwrap();
            assert!(free < 3, "{free}");
            return;
        }
        cli(&app.docker, &["stack", "rm", &app.stack]);
        let until = Deadline::after(PATIENCE);
        while !running(&app).is_empty() && !until.passed() {
            let since = jiff::Timestamp::now();
            app.docker.wait_for_change(&[Event::Container], since, Duration::from_millis(200)).unwrap();
        }
        app.take_down(PATIENCE);
    }
    panic!("`docker stack rm` lost no addresses: is this engine repaired?");
}

fn running(app: &App) -> Vec<String> {
    let mut shown = app.shown_by_docker();
    shown.retain(|line| line.starts_with("container") || line.starts_with("network"));
    shown
}

#[test]
fn addresses_in_use_are_counted_and_come_back() {
    let app = App::new("count");
    let external = External::with_subnet("count", "10.68.0.0/28");
    let count = || {
        let all = app.docker.addresses().unwrap();
        all.into_iter().find(|network| network.network == external.0).unwrap()
    };
    let before = count();
    assert_eq!((before.total, before.in_use), (14, 1), "the gateway: {before:?}");
    app.deploy(&external.0, "run");
    // Gateway, one service's virtual address, its task, the node's load balancer.
    assert_eq!(count().in_use, 4, "{:?}", count());
    assert!(app.take_down(PATIENCE).is_clean());
    assert_eq!(count().in_use, 1, "{:?}", count());
}

#[test]
fn addresses_that_can_be_had_are_counted_by_taking_them() {
    let app = App::new("probe");
    // Six addresses, one of them the gateway's.
    let external = External::with_subnet("probe", "10.69.0.0/29");
    let free = |wanted| app.swarm().free_addresses(&app.lock, &app.domain, &external.0, wanted).unwrap();
    assert_eq!([free(7), free(3), free(7)], [5, 3, 5]);
    assert_eq!(app.shown_by_docker(), [] as [String; 0]);
}

/// Side by side in one run: how long Docker takes from the removal of a stack's services to its last
/// container, and how long a whole teardown takes.
#[test]
fn a_teardown_takes_no_longer_than_docker_itself() {
    let external = External::new("floor");
    let (bare, whole) = (App::new("floor-bare"), App::new("floor-whole"));
    for app in [&bare, &whole] {
        app.deploy(&external.0, "run");
    }
    let begun = since_boot();
    cli(&bare.docker, &["service", "rm", &format!("{}_app", bare.stack), &format!("{}_db", bare.stack)]);
    let until = Deadline::after(PATIENCE);
    loop {
        let since = jiff::Timestamp::now();
        if !bare.docker.containers().unwrap().iter().any(|one| one.name().starts_with(&bare.stack)) {
            break;
        }
        assert!(!until.passed());
        bare.docker.wait_for_change(&[Event::Container], since, Duration::from_millis(100)).unwrap();
    }
    let floor = since_boot() - begun;
    let receipt = whole.take_down(PATIENCE);
    assert!(receipt.is_clean() && bare.take_down(PATIENCE).is_clean());
    eprintln!("docker's own floor {} ms, teardown {} ms", floor.as_millis(), receipt.milliseconds);
    let limit = floor + Duration::from_millis(500);
    assert!(Duration::from_millis(receipt.milliseconds) < limit, "{} ms over {floor:?}", receipt.milliseconds);
}
