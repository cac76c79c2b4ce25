//! Quick runs: volumes that are there, full, before the first container of the app is.

use ccci_tests::kept;
use ccci_tests::swarm::SwarmHost;

pub(crate) fn a_quick_run_begins_with_the_volumes_and_secrets_of_the_last_good_release() {
    let swarm = SwarmHost::new();
    kept::begins_with_kept_data(&swarm, "swarm", || swarm.run_of("hello"));
}
