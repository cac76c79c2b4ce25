//! What the tasks of a service amount to, case by case.

use super::*;

fn service(spec: &str) -> Service {
    serde_json::from_str(&format!(
        r#"{{"ID":"s","Spec":{{"Name":"x_app","TaskTemplate":{{}},"Mode":{{"Replicated":{{"Replicas":1}}}}{spec}}}}}"#
    ))
    .unwrap()
}

fn with_policy(condition: &str, more: &str) -> Service {
    serde_json::from_str(&format!(
        r#"{{"ID":"s","Spec":{{"Name":"x_app","TaskTemplate":{{"RestartPolicy":{{"Condition":"{condition}"}}}},
            "Mode":{{"Replicated":{{"Replicas":1}}}}{more}}}}}"#
    ))
    .unwrap()
}

/// A task with this id, desired state and status.
fn task(id: &str, desired: &str, status: &str) -> Task {
    serde_json::from_str(&format!(
        r#"{{"ID":"{id}","ServiceID":"s","Slot":1,"CreatedAt":"2026-01-01T00:00:00Z","Spec":{{}},
            "DesiredState":"{desired}","Status":{status}}}"#
    ))
    .unwrap()
}

fn container_of(text: &str) -> BTreeMap<String, Inspected> {
    BTreeMap::from([("c".to_owned(), serde_json::from_str(text).unwrap())])
}

const RUNS: &str = r#"{"State":{"Status":"running"}}"#;
const RUNNING: &str = r#"{"State":"running","ContainerStatus":{"ContainerID":"c"}}"#;

struct Lab {
    sightings: Sightings,
    nodes: Vec<Node>,
    containers: BTreeMap<String, Inspected>,
    too_large: bool,
    port_holder: Option<(String, bool)>,
}

impl Default for Lab {
    fn default() -> Self {
        let node = r#"{"ID":"n","Spec":{"Role":"manager","Availability":"active"},"Description":{"Hostname":"ci"},
            "Status":{"State":"ready","Addr":"127.0.0.1"}}"#;
        let nodes = vec![serde_json::from_str(node).unwrap()];
        let (sightings, containers) = (Sightings::default(), BTreeMap::new());
        Self { sightings, nodes, containers, too_large: false, port_holder: None }
    }
}

impl Lab {
    fn state(&self, service: &Service, tasks: &[Task]) -> ServiceState {
        let facts = Facts {
            containers: self.containers.clone(),
            nodes: &self.nodes,
            too_large: self.too_large,
            port_holder: self.port_holder.clone(),
            sightings: &self.sightings,
        };
        state(service, &tasks.iter().collect::<Vec<_>>(), &facts)
    }

    /// What becomes of it when it stays like this for an hour.
    fn in_an_hour(&self, service: &Service, tasks: &[Task]) -> ServiceState {
        let _first = self.state(service, tasks);
        self.sightings.make_older(Duration::from_secs(3600));
        self.state(service, tasks)
    }
}

#[test]
fn a_task_runs_when_its_container_does_whatever_swarm_says() {
    let tasks = [task("t", "running", RUNNING)];
    let running = |containers| Lab { containers, ..Lab::default() }.state(&service(""), &tasks).running;
    assert_eq!(running(container_of(RUNS)), 1);
    assert_eq!(running(BTreeMap::new()), 0);
    assert_eq!(running(container_of(r#"{"State":{"Status":"exited"}}"#)), 0);
    let sick = r#"{"State":{"Status":"running","Health":{"Status":"unhealthy","FailingStreak":3}}}"#;
    assert_eq!(running(container_of(sick)), 0, "Swarm is about to end it");
}

#[test]
fn a_service_that_need_not_go_on_is_there_when_it_is_done() {
    let done = [task("t", "shutdown", r#"{"State":"complete"}"#)];
    let seen = |service: &Service| Lab::default().in_an_hour(service, &done);
    for policy in ["none", "on-failure"] {
        let state = seen(&with_policy(policy, ""));
        assert_eq!((state.running, state.desired, state.never), (1, 1, None), "{policy}");
    }
    let state = seen(&with_policy("any", ""));
    assert_eq!((state.running, state.failures), (0, 1), "it is meant to stay");
    let asked = r#","EndpointSpec":{"Ports":[{"TargetPort":80}]}"#;
    let state = seen(&with_policy("on-failure", asked));
    assert!(matches!(&state.never, Some(Never::Ended(why)) if why.contains("exit code 0")), "{state:?}");
}

#[test]
fn what_failed_and_has_no_successor_is_over() {
    let failed =
        r#"{"State":"failed","Err":"task: non-zero exit (3)","ContainerStatus":{"ContainerID":"c","ExitCode":3}}"#;
    let policy = with_policy("on-failure", "");
    let state = Lab::default().in_an_hour(&policy, &[task("t", "shutdown", failed)]);
    assert!(matches!(&state.never, Some(Never::Ended(why)) if why.contains("exit code 3")), "{state:?}");
    // Swarm has not looked at it yet, or has made another.
    assert_eq!(Lab::default().in_an_hour(&policy, &[task("t", "running", failed)]).never, None);
    let mut next = task("u", "ready", r#"{"State":"ready"}"#);
    next.created_at = "2026-01-01T00:00:01Z".parse().unwrap();
    let state = Lab::default().in_an_hour(&policy, &[task("t", "shutdown", failed), next]);
    assert_eq!(state.never, None);
    assert!(state.waits_for.as_deref().unwrap().contains("the one before: exit code 3"), "{state:?}");
}

#[test]
fn a_job_is_there_when_its_present_run_is_done() {
    let job = |index: u64| -> Service {
        serde_json::from_str(&format!(
            r#"{{"ID":"s","Spec":{{"Name":"x_job","TaskTemplate":{{}},"Mode":{{"ReplicatedJob":{{"TotalCompletions":1}}}}}},
                "JobStatus":{{"JobIteration":{{"Index":{index}}}}}}}"#
        ))
        .unwrap()
    };
    let done = task("t", "complete", r#"{"State":"complete"}"#);
    let seen = |service: &Service| {
        let present = present(service, &[&done]);
        let tasks: Vec<Task> = present.into_iter().cloned().collect();
        Lab::default().state(service, &tasks)
    };
    assert_eq!(seen(&job(0)).running, 1);
    assert_eq!((seen(&job(1)).running, seen(&job(1)).desired), (0, 1), "that was an earlier run");
    let runs = Lab { containers: container_of(RUNS), ..Lab::default() };
    assert_eq!(runs.state(&job(0), &[task("t", "complete", RUNNING)]).running, 0, "not done yet");
}

#[test]
fn a_global_service_wants_as_many_tasks_as_there_are_nodes_that_may_have_one() {
    let global = |constraint: &str| -> Service {
        serde_json::from_str(&format!(
            r#"{{"ID":"s","Spec":{{"Name":"x_a","TaskTemplate":{{"Placement":{{"Constraints":["{constraint}"]}}}},
                "Mode":{{"Global":{{}}}}}}}}"#
        ))
        .unwrap()
    };
    let state = Lab::default().state(&global("node.role == worker"), &[]);
    assert_eq!((state.running, state.desired), (0, 0));
    let state = Lab::default().state(&global("node.role == manager"), &[]);
    assert_eq!((state.running, state.desired), (0, 1));
    let mut drained = Lab::default();
    drained.nodes[0].spec.availability = "drain".into();
    let state = drained.state(&global("node.role == manager"), &[]);
    assert_eq!((state.desired, state.blame), (1, Blame::Host));
}

#[test]
fn a_pending_task_tells_what_it_waits_for_and_ends_the_wait_when_that_never_comes() {
    let pending = |words: &str| {
        let status = format!(r#"{{"State":"pending","Err":"no suitable node ({words})"}}"#);
        [task("t", "running", &status)]
    };
    let constraint = pending("scheduling constraints not satisfied on 1 node");
    let lab = Lab::default();
    let at_once = lab.state(&service(""), &constraint);
    assert!(at_once.waits_for.unwrap().contains("no suitable node (scheduling"), "told at once");
    assert_eq!(at_once.never, None, "and believed a moment later");
    assert!(matches!(lab.in_an_hour(&service(""), &constraint).never, Some(Never::Impossible(_))));
    let memory = pending("insufficient resources on 1 node");
    assert_eq!(Lab::default().in_an_hour(&service(""), &memory).never, None, "others may give some back");
    let lab = Lab { too_large: true, ..Lab::default() };
    assert!(matches!(lab.in_an_hour(&service(""), &memory).never, Some(Never::Host(_))));
    let port = pending("host-mode port already in use on 1 node");
    let lab = Lab { port_holder: Some(("port 80 is y_app's".into(), false)), ..Lab::default() };
    let state = lab.in_an_hour(&service(""), &port);
    assert!(matches!(&state.never, Some(Never::Host(why)) if why.contains("port 80 is y_app's")), "{state:?}");
    let lab = Lab { port_holder: Some(("port 80 is x_app's".into(), true)), ..Lab::default() };
    let state = lab.in_an_hour(&service(""), &port);
    assert_eq!((state.never, state.blame), (None, Blame::Recipe), "its own task that is about to stop");
}

#[test]
fn a_health_check_that_fails_is_told_in_its_own_words() {
    let sick = r#"{"State":{"Status":"running","Health":{"Status":"starting","FailingStreak":7,
        "Log":[{"ExitCode":1,"Output":"no\n"},{"ExitCode":1,"Output":"cannot connect\n to db"}]}},
        "Config":{"Healthcheck":{"Test":["CMD","x"]}}}"#;
    let starting = task("t", "running", r#"{"State":"starting","ContainerStatus":{"ContainerID":"c"}}"#);
    let lab = Lab { containers: container_of(sick), ..Lab::default() };
    let told = lab.state(&service(""), &[starting]).waits_for.unwrap();
    assert_eq!(told, "running, but its health check fails, 7 in a row: exit 1: cannot connect to db");
    // A container that is ended for it and stops in good order is called complete.
    let ended = sick.replace("starting", "unhealthy").replace("running", "exited");
    let lab = Lab { containers: container_of(&ended), ..Lab::default() };
    let done = task("t", "shutdown", r#"{"State":"complete","ContainerStatus":{"ContainerID":"c","ExitCode":0}}"#);
    let state = lab.state(&service(""), &[done]);
    assert_eq!(state.failures, 1);
    assert!(state.error.as_deref().unwrap().starts_with("its health check fails, 7 in a row: exit 1"), "{state:?}");
}

#[test]
fn a_network_that_takes_no_task_is_the_hosts_affair() {
    let seen = |error: &str| {
        Lab::default()
            .state(&service(""), &[task("t", "shutdown", &format!(r#"{{"State":"rejected","Err":"{error}"}}"#))])
    };
    assert!(matches!(seen("could not find an available IP while allocating VIP").never, Some(Never::Host(_))));
    assert!(!matches!(seen("No such image: x:1").never, Some(Never::Host(_))));
}

#[test]
fn a_clock_that_is_set_makes_no_task_younger_or_older() {
    let lab = Lab { containers: container_of(RUNS), ..Lab::default() };
    for at in ["1990-01-01T00:00:00Z", "2090-01-01T00:00:00Z"] {
        let status = format!(r#"{{"State":"running","Timestamp":"{at}","ContainerStatus":{{"ContainerID":"c"}}}}"#);
        let state = lab.state(&service(""), &[task(at, "running", &status)]);
        assert!(state.up.unwrap() < Duration::from_secs(60), "{at}: {:?}", state.up);
    }
}
