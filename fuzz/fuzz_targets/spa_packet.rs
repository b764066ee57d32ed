#![no_main]
//! See `opensesame_spa_fuzz::bodies::spa_packet`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| opensesame_spa_fuzz::bodies::spa_packet(data));
