#![no_main]
//! See `opensesame_spa_fuzz::bodies::client_file`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| opensesame_spa_fuzz::bodies::client_file(data));
