//! The window against a simulated link: bytes leave it at a fixed rate, in order.

use std::collections::VecDeque;

use super::super::pace::{Pace, TooMuch, WINDOW_BYTES_MAX, WINDOW_BYTES_MIN};

const MS: u64 = 1_000_000;

/// Sends `bytes` over a link; the longest queue at its entrance after the first tenth, in ms, and the
/// time it took in ms.
fn over(mbit: u64, rtt_ms: u64, bytes: u64) -> (u64, u64) {
    const PIECE: u64 = 16 << 10;
    let piece_ns = PIECE * 8 * 1000 / mbit;
    let (mut now, mut free_at, mut worst) = (0_u64, 0_u64, 0_u64);
    let mut back: VecDeque<(u64, u64)> = VecDeque::new();
    let mut pace = Pace::new();
    let (mut sent, mut consumed) = (0, 0);
    while consumed < bytes {
        while sent < bytes && pace.room() >= PIECE {
            pace.on_sent(PIECE, now);
            sent += PIECE;
            if sent > bytes / 10 {
                worst = worst.max(free_at.saturating_sub(now));
            }
            free_at = free_at.max(now) + piece_ns;
            back.push_back((free_at + rtt_ms * MS, sent));
        }
        let (at, total) = back.pop_front().unwrap();
        (now, consumed) = (at, total);
        pace.on_consumed(total, now).unwrap();
    }
    (worst / MS, now / MS)
}

#[test]
fn a_slow_link_is_used_and_its_queue_stays_short() {
    for (mbit, rtt_ms) in [(5, 20), (25, 5), (25, 80), (100, 2), (100, 40)] {
        let bytes = mbit * 1_000_000 / 8 * 20;
        let (queue_ms, took_ms) = over(mbit, rtt_ms, bytes / (16 << 10) * (16 << 10));
        // A window of the least size is 105 ms at 5 Mbit/s.
        assert!(queue_ms <= 105, "{mbit} Mbit/s, {rtt_ms} ms: a queue of {queue_ms} ms");
        assert!(took_ms <= 25_000, "{mbit} Mbit/s, {rtt_ms} ms: {took_ms} ms instead of 20 s");
    }
}

#[test]
fn a_fast_link_gets_the_largest_window() {
    let mut pace = Pace::new();
    let mut now = 0;
    for _ in 0..64 {
        let burst = pace.room();
        pace.on_sent(burst, now);
        now += MS;
        pace.on_consumed(pace.sent(), now).unwrap();
    }
    assert_eq!(pace.window(), WINDOW_BYTES_MAX);
}

#[test]
fn a_sudden_queue_shrinks_the_window_at_once_but_never_below_its_least() {
    let mut pace = Pace::new();
    let mut now = 0;
    for took in [1, 1, 1, 1, 1, 1, 1, 400, 900, 2000, 5000] {
        pace.on_sent(pace.room(), now);
        now += took * MS;
        pace.on_consumed(pace.sent(), now).unwrap();
    }
    assert_eq!(pace.window(), WINDOW_BYTES_MIN);
}

#[test]
fn credit_for_what_was_never_sent_is_refused() {
    let mut pace = Pace::new();
    pace.on_sent(10, 0);
    assert_eq!(pace.on_consumed(11, 1), Err(TooMuch));
}
