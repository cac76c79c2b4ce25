//! The record in a lock file.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(owner)) = ccci_core::lock::owner::parse(bytes) {
        let _line = owner.describe();
    }
});
