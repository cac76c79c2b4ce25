//! `cc-ci-run exec`: a command in a service of the app under test, for hooks and tests.
//!
//! A container that is still being replaced answers with nothing, or dies half-way (incident
//! `[exec]`), so only a running task of the service's present spec is asked.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use ccci_core::config::Settings;
use ccci_core::docker::answers::TaskState;
use ccci_core::docker::events::Event;
use ccci_core::docker::{Docker, Endpoint};
use ccci_core::lifetime::clock::Deadline;
use ccci_core::name::{BaseDomain, Domain};
use ccci_core::process::Ended;
use ccci_core::weaken::{self, Protection};
use jiff::Timestamp;

use crate::cli::Exec;

/// How long to wait for news before looking again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Runs it; stdout and stderr are the command's own.
///
/// # Errors
/// When there is no such service, or it has no running container in time.
pub(crate) fn main(exec: &Exec, config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let base = BaseDomain::new(&Settings::load(config)?.base_domain)?;
    let domain =
        Domain::expect(&exec.domain, &base).map_err(|error| anyhow::Error::new(error).context(super::Usage))?;
    let endpoint = Endpoint::find()?.context("this host has no Docker: `exec` is for apps on Swarm");
    let docker = Docker::new(endpoint.map_err(|error| error.context(super::Unable))?);
    let service = service(&docker, &domain, &exec.service)?;
    let container = running_container(&docker, &service, exec.wait)?;
    let args = ["exec".to_owned(), container].into_iter().chain(exec.command.iter().cloned());
    match docker.job(args).timeout(Duration::MAX).run_inheriting()? {
        Ended::Exited(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))),
        other => bail!("docker exec: {other}"),
    }
}

/// The service by its full name: what it answers to on a network (`app`) another stack's may answer to as well
/// (incident `[alias]`).
fn service(docker: &Docker, domain: &Domain, name: &str) -> anyhow::Result<String> {
    if !weaken::on(Protection::OwnService) {
        let alike = docker.services()?.into_iter().map(|service| service.spec.name);
        return alike.filter(|full| full.ends_with(&format!("_{name}"))).min().context("there is no such service");
    }
    Ok(format!("{}_{name}", domain.stack_name()))
}

fn running_container(docker: &Docker, name: &str, wait: Duration) -> anyhow::Result<String> {
    let until = Deadline::after(wait);
    loop {
        let since = Timestamp::now();
        let service = docker.service(name).map_err(|error| {
            let missing = error.is_gone();
            let error = anyhow::Error::new(error).context(format!("there is no service {name}"));
            if missing { error.context(super::Usage) } else { error }
        })?;
        let tasks = docker.tasks_of(&service.id)?;
        let running = tasks.iter().find(|task| {
            let meant = task.spec == service.spec.task_template && task.desired_state == TaskState::Running;
            task.status.state == TaskState::Running && (meant || !weaken::on(Protection::PresentTask))
        });
        if let Some(status) = running.and_then(|task| task.status.container_status.as_ref()) {
            return Ok(status.container_id.clone());
        }
        if until.passed() {
            bail!("service {name} has no running container of the deployed version");
        }
        docker.wait_for_change(&[Event::Container, Event::Service], since, until.left().min(LOOK_AGAIN))?;
    }
}
