//! Quick runs by abra: secrets that are inserted, volumes that are saved beside the backup bot.

use ccci_tests::abra::AbraHost;
use ccci_tests::kept;

pub(crate) fn a_quick_run_begins_with_the_volumes_and_secrets_of_the_last_good_release() {
    let abra = AbraHost::new();
    kept::begins_with_kept_data(&abra.swarm, "abra", || abra.run_of("hello"));
    let calls = abra.calls();
    assert!(calls.iter().any(|call| call.contains(" app secret insert ")), "{calls:#?}");
}
