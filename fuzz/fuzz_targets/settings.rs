//! Settings, and with them every strict TOML file.

#![no_main]

use libfuzzer_sys::fuzz_target;

use ccci_core::config::{Settings, strict};

fuzz_target!(|text: &str| {
    let _either = strict::parse::<Settings>("settings.toml", text);
});
