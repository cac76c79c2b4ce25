//! What Docker is asked for, and how its answers are understood.

use std::time::Duration;

use ccci_core::docker::answers::{TaskState, UpdateState};
use ccci_core::docker::events::Event;
use ccci_core::process::Ended;

use super::lab::{App, PATIENCE, cli, docker};

fn one_service(image: &str, command: &str) -> String {
    format!("version: \"3.8\"\nservices:\n  app:\n    image: {image}\n    command: [\"{command}\"]\n")
}

#[test]
fn the_host_is_described() {
    let host = docker().host().unwrap();
    assert!(host.manager && host.swarm == "active" && host.nodes == 1, "{host:?}");
    assert!(!host.engine.is_empty());
    let disk = host.disk.unwrap();
    assert!(disk.bytes > 0 && disk.percent_full() <= 100);
    assert!(docker().has_image("ccci-test:1").unwrap());
    assert!(!docker().has_image("ccci-test:none").unwrap());
    assert!(!docker().has_image("no.registry/a/b:1").unwrap());
}

#[test]
fn commands_run_in_a_container_and_logs_come_out() {
    let app = App::new("exec");
    app.deploy_text(&one_service("ccci-test:1", "run"));
    app.wait_for(1);
    let containers = app.docker.containers().unwrap();
    let container = containers.iter().find(|one| one.name().starts_with(&app.stack)).unwrap();
    let mut talk = Vec::new();
    let mut sink = |line: &str| talk.push(line.to_owned());
    let done = app.docker.exec(&container.id, ["/app", "cat", "/etc/hostname"], PATIENCE, &mut sink).unwrap();
    assert_eq!(done.ended, Ended::Exited(0));
    assert_eq!(String::from_utf8(done.stdout).unwrap().trim(), &container.id[..12]);
    let failed = app.docker.exec(&container.id, ["/app", "cat", "/missing"], PATIENCE, &mut sink).unwrap();
    assert_eq!(failed.ended, Ended::Exited(1));
    assert!(talk.iter().any(|line| line.contains("/missing")), "{talk:?}");
    assert_eq!(app.docker.logs(&container.id, 5).unwrap(), ["up"]);
    assert!(app.docker.runs(&container.id).unwrap());
    assert!(app.take_down(PATIENCE).is_clean());
    assert!(!app.docker.runs(&container.id).unwrap());
}

#[test]
fn a_task_that_fails_says_why_and_its_log_is_there() {
    let app = App::new("crash");
    app.deploy_text(&one_service("ccci-test:1", "fail"));
    let service = app.docker.service(&format!("{}_app", app.stack)).unwrap();
    let failed = loop {
        let since = jiff::Timestamp::now();
        let tasks = app.docker.tasks_of(&service.id).unwrap();
        if let Some(failed) = tasks.into_iter().find(|task| task.status.state.is_failure()) {
            break failed;
        }
        app.docker.wait_for_change(&[Event::Container], since, Duration::from_millis(500)).unwrap();
    };
    assert!(failed.status.err.contains("non-zero exit (3)"), "{failed:?}");
    let container = failed.status.container_status.unwrap().container_id;
    assert_eq!(app.docker.logs(&container, 5).unwrap(), ["cannot open the database"]);
    assert!(app.take_down(PATIENCE).is_clean());
}

#[test]
fn an_image_that_cannot_be_had_is_the_tasks_own_error() {
    let app = App::new("noimage");
    app.deploy_text(&one_service("ccci-test:none", "run"));
    let service = app.docker.service(&format!("{}_app", app.stack)).unwrap();
    let rejected = loop {
        let since = jiff::Timestamp::now();
        let tasks = app.docker.tasks_of(&service.id).unwrap();
        if let Some(task) = tasks.into_iter().find(|task| task.status.state == TaskState::Rejected) {
            break task;
        }
        app.docker.wait_for_change(&[Event::Container], since, Duration::from_millis(500)).unwrap();
    };
    assert!(rejected.status.err.contains("No such image"), "{rejected:?}");
    assert!(app.docker.pull("ccci-test:none", PATIENCE, &mut |_| {}).is_err());
    assert!(app.take_down(PATIENCE).is_clean());
}

#[test]
fn an_update_is_seen_to_its_end() {
    let app = App::new("update");
    let name = format!("{}_app", app.stack);
    app.deploy_text(&one_service("ccci-test:1", "run"));
    app.wait_for(1);
    assert!(app.docker.service(&name).unwrap().update_status.is_none());
    app.deploy_text(&one_service("ccci-test:2", "run"));
    let settled = loop {
        let since = jiff::Timestamp::now();
        let service = app.docker.service(&name).unwrap();
        if service.update_status.as_ref().and_then(|status| status.state).is_some_and(UpdateState::is_settled) {
            break service;
        }
        app.docker.wait_for_change(&[Event::Service], since, Duration::from_secs(1)).unwrap();
    };
    assert_eq!(settled.update_status.unwrap().state, Some(UpdateState::Completed));
    let image = settled.spec.task_template.container_spec.unwrap().image;
    assert!(image.starts_with("ccci-test:2"), "{image}");
    assert!(app.take_down(PATIENCE).is_clean());
}

#[test]
fn secrets_and_configs_are_created_once_and_hold_what_was_given() {
    let app = App::new("create");
    let name = format!("{}_c_v1", app.stack);
    app.docker.create_config(&name, &app.mark(), b"a\0b").unwrap();
    let again = app.docker.create_config(&name, &app.mark(), b"other").unwrap_err();
    assert!(again.to_string().contains("already exists") || again.to_string().contains("name conflicts"), "{again}");
    assert_eq!(cli(&app.docker, &["config", "inspect", "--format", "{{json .Spec.Data}}", &name]), "\"YQBi\"");
    app.docker.create_secret(&format!("{}_s_v1", app.stack), &app.mark(), &[0; 1000]).unwrap();
    assert!(app.take_down(PATIENCE).is_clean());
}
