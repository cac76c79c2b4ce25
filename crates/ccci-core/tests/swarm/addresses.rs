//! An external network keeps its addresses ([vip]).

use std::time::Duration;

use ccci_core::docker::host::CountedBy;

use super::lab::{App, External, PATIENCE, cli, shown_by_docker};

/// Longer than any deploy of the test image takes, and short enough to wait for once.
const STUCK: Duration = Duration::from_secs(25);

#[test]
fn twenty_cycles_on_a_network_of_thirteen_addresses_succeed() {
    let external = External::with_subnet("cycles", "10.66.0.0/28");
    for cycle in 1..=20 {
        let app = App::new(&format!("cycle-{cycle}"));
        app.docker.create_secret(&format!("{}_pw_v1", app.stack), &app.stack, b"x").unwrap();
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
        app.docker.create_secret(&format!("{}_pw_v1", app.stack), &app.stack, b"x").unwrap();
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
            return;
        }
        cli(&app.docker, &["stack", "rm", &app.stack]);
        let until = ccci_core::lifetime::clock::Deadline::after(PATIENCE);
        while !running(&app).is_empty() && !until.passed() {
            let since = jiff::Timestamp::now();
            let kinds = [ccci_core::docker::events::Event::Container];
            app.docker.wait_for_change(&kinds, since, Duration::from_millis(200)).unwrap();
        }
        app.take_down(PATIENCE);
    }
    panic!("`docker stack rm` lost no addresses: is this engine repaired?");
}

fn running(app: &App) -> Vec<String> {
    let mut shown = shown_by_docker(&app.docker, &app.stack);
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
