//! Commands in a service of the app: in that app's, and in the version that is deployed.

use std::fs;

use ccci_tests::swarm::{RECIPE, SwarmHost, compose, daemon};

pub(crate) fn a_command_runs_in_the_deployed_version_and_never_in_the_one_before() {
    let swarm = SwarmHost::new();
    // It does not stop when it is told to, so the container of before is there for some seconds more.
    swarm.recipe(RECIPE, &[&compose("stubborn", "")]);
    let update = format!("docker service update --detach --quiet --env-add MARK=new {}_app >/dev/null", swarm.stack());
    let ask = "cc-ci-run exec -- /app cat /proc/1/environ >\"$TMPDIR/environ\"";
    // A service that the app has not is the caller's mistake, and waited for by nobody.
    let missing = "code=0\ncc-ci-run exec --service nosuch -- /app cat /proc/1/environ || code=$?\n[ $code = 2 ]";
    let _folder = swarm.folder(RECIPE).script("test_install.sh", &format!("{missing}\n{update}\n{ask}"));
    let step = swarm.run().args(["--stages", "install"]).start();
    let _green = swarm.clean_end(step, 0);
    let environ = fs::read_to_string(swarm.host.path("tmp/environ")).unwrap();
    assert!(environ.split('\0').any(|entry| entry == "MARK=new"), "{environ:?}");
}

pub(crate) fn two_apps_that_are_called_alike_on_a_shared_network_are_each_asked_themselves() {
    let swarm = SwarmHost::new();
    let gate = swarm.host.gate("up");
    // A container's host name is the begin of its id.
    let ask = "cc-ci-run exec -- /app cat /etc/hostname >\"$TMPDIR/asked-$CCCI_RUN_ID\"";
    let _folder = swarm.folder(RECIPE).script("test_install.sh", &format!("{}\n{ask}", gate.pass()));
    let prs = [0, 1].map(|number| swarm.host.pr() * 10 + number);
    let steps = prs.map(|pr| swarm.run().env("PR", &pr.to_string()).args(["--stages", "install"]).start());
    let _both_are_up = (gate.reached(), gate.reached());
    let stacks = prs.map(|pr| swarm.host.domain_of(RECIPE, pr, "").stack_name());
    let containers = stacks.clone().map(|stack| {
        let service = format!("{stack}_app");
        let networks = "{{json .Spec.TaskTemplate.Networks}}";
        let networks = daemon().cli(&["service", "inspect", &service, "--format", networks]);
        assert_eq!(networks.matches("\"app\"").count(), 2, "they answer to the same name: {networks}");
        daemon().cli(&["ps", "--quiet", "--filter", &format!("label=com.docker.swarm.service.name={service}")])
    });
    assert_ne!(containers[0], containers[1]);
    let ids = [0, 1].map(|step: usize| steps[step].id().to_owned());
    let _both_go_on = (gate.open(), gate.open());
    for step in steps {
        assert_eq!(step.end().expect(0).results()["flags"]["clean_teardown"], true);
    }
    for (id, container) in ids.iter().zip(&containers) {
        let asked = fs::read_to_string(swarm.host.path("tmp").join(format!("asked-{id}"))).unwrap();
        assert_eq!(asked.trim(), container, "another stack's app answered run {id}");
    }
    stacks.iter().for_each(|stack| assert!(daemon().of_stack(stack).is_empty(), "{stack}"));
    swarm.assert_clean();
}
