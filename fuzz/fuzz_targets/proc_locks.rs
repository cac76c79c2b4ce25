//! `/proc/locks`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let entries = ccci_core::lock::proc_locks::parse(text);
    assert!(entries.len() <= text.lines().count());
});
