//! Games for the engine.

/// Moves: see the body.
pub fn games() -> Vec<(&'static str, Vec<u8>)> {
    const fn open(client: u8, from_now: i8) -> [u8; 8] {
        [1, client | 1 << 4, 0, 0, 3, from_now as u8, 0, 0]
    }
    const fn close(client: u8, from_now: i8) -> [u8; 8] {
        [1, client | 1 << 4 | 1 << 2, 0, 0, 0, from_now as u8, 0, 0]
    }
    const fn copy(packet: u8, from: u8) -> [u8; 8] {
        [0x41, packet, from, 0, 0, 0, 0, 0]
    }
    const fn bent(bit: u16, how: u8) -> [u8; 8] {
        [0x61, 0, (bit >> 8) as u8, bit as u8, how, 0, 0, 0]
    }
    const fn pass(half_seconds: u8) -> [u8; 8] {
        [0x81, half_seconds, 0, 0, 0, 0, 0, 0]
    }
    const fn back(half_seconds: u8) -> [u8; 8] {
        [0x81, half_seconds, 3, 0, 0, 0, 0, 0]
    }
    const SYNC: [u8; 8] = [0xa1, 0, 0, 0, 0, 0, 0, 0];
    const FULL: [u8; 8] = [0xc1, 1, 0, 0, 0, 0, 0, 0];
    const MEND: [u8; 8] = [0xc1, 2, 0, 0, 0, 0, 0, 0];
    const KILL: [u8; 8] = [0xe1, 0, 1, 0, 0, 0, 0, 0];
    const LOSE: [u8; 8] = [0xe1, 1, 1, 0, 0, 0, 0, 0];
    /// Close of everything, from now on; the same without its turn; an open for another address.
    const CLOSE_ALL: [u8; 8] = [1, 1 << 4 | 1 << 2 | 1 << 3, 0, 0, 0, 0, 0, 0];
    /// Of port 80, for another address.
    const CLOSE_WEB: [u8; 8] = [1, 1 << 5 | 1 << 2, 1, 2, 0, 0, 0, 0];
    /// Of the client whose credential ends: one for now, and one that waits for the disk.
    const ENDS: [u8; 8] = [1, 2 | 1 << 5, 0, 1, 0, 0, 0, 0];
    const LATER: [u8; 8] = [1, 2 | 1 << 5, 0, 1, 0, 20, 0, 0];
    const NO_TURN: [u8; 8] = [0, 1 | 1 << 4, 0, 0, 3, 0, 0, 0];
    const ELSEWHERE: [u8; 8] = [1, 1 << 5 | 1 << 6, 1 | 1 << 2, 2, 0, 0, 1, 0];
    let begin = [open(0, 0), SYNC, pass(20)];
    let game = |moves: &[[u8; 8]]| [begin.as_flattened(), moves.as_flattened()].concat();
    vec![
        ("open-close", game(&[open(0, 0), close(0, 1), SYNC, open(0, 0), open(0, 2)])),
        (
            "replays",
            game(&[
                copy(0, 0),
                copy(0, 1),
                pass(20),
                copy(0, 0),
                pass(130),
                copy(0, 0),
                back(140),
                copy(0, 0),
            ]),
        ),
        ("bent", game(&[bent(0, 2), bent(200, 2), bent(2_303, 2), bent(0, 0), bent(0, 1)])),
        ("guest", game(&[open(1, 0), SYNC, open(1, 0), SYNC, open(1, 0), SYNC, close(1, 0), SYNC])),
        ("guest-twice-at-once", game(&[NO_TURN, NO_TURN, NO_TURN, SYNC, SYNC])),
        ("credential-ends", game(&[open(2, 0), ELSEWHERE, ENDS, SYNC, LATER, pass(250), SYNC])),
        (
            "disk-full",
            game(&[
                FULL,
                open(0, 1),
                SYNC,
                MEND,
                open(0, 2),
                [0xc1, 0, 0, 0, 0, 0, 0, 0],
                MEND,
                open(0, 3),
                SYNC,
                KILL,
            ]),
        ),
        ("killed", game(&[open(0, 1), KILL, copy(0, 0), copy(1, 0), SYNC, open(0, 1)])),
        (
            "killed-before-the-sync",
            game(&[
                pass(40),
                open(0, 3),
                KILL,
                open(0, 4),
                LOSE,
                copy(2, 0),
                SYNC,
                copy(1, 0),
                SYNC,
            ]),
        ),
        ("lost", game(&[open(0, 1), LOSE, copy(0, 0), copy(1, 0), SYNC, open(0, 1), SYNC])),
        ("close-outlives-a-restart", game(&[CLOSE_ALL, SYNC, pass(80), KILL, open(0, -42), SYNC])),
        (
            "close-then-open-then-restart",
            game(&[CLOSE_ALL, ELSEWHERE, SYNC, open(0, 1), SYNC, KILL, open(0, -2), SYNC]),
        ),
        (
            "overtaken-close-then-restart",
            game(&[close(0, -2), SYNC, close(0, -4), SYNC, KILL, open(0, -3), SYNC]),
        ),
        (
            "overtaken-open-then-restart",
            game(&[open(0, 2), SYNC, CLOSE_WEB, SYNC, open(0, 0), SYNC, KILL, close(0, 1), SYNC]),
        ),
        (
            "late-disk",
            game(&[
                close(1, 0),
                SYNC,
                [1, 1 | 1 << 4, 0, 0, 3, 0xfe, 0, 0],
                pass(200),
                open(0, 0),
                SYNC,
                SYNC,
            ]),
        ),
        (
            "many",
            game(&[
                open(0, 0),
                open(0, 127),
                open(0, -128),
                open(3, 0),
                ELSEWHERE,
                close(0, -3),
                CLOSE_ALL,
                copy(2, 0),
                SYNC,
                SYNC,
            ]),
        ),
    ]
}
