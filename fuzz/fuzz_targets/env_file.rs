//! Env files of apps.

#![no_main]

use libfuzzer_sys::fuzz_target;

use ccci_core::substrate::env_file;

fuzz_target!(|text: &[u8]| {
    let Ok(vars) = env_file::parse(text) else { return };
    if let Ok(text) = std::str::from_utf8(text) {
        let _expanded = env_file::expand(text, &vars);
    }
    if let Ok(set) = env_file::set(text, &[("CCCI_KEY", "value")]) {
        assert_eq!(env_file::parse(&set).unwrap().get("CCCI_KEY").map(String::as_str), Some("value"));
    }
});
