//! The lease clock, and a timer that wakes on it.
//!
//! **What.** [`now_ns`] is the one clock by which leases, promises and deadlines are counted, by the
//! agent, by the shim and by whoever reads a lease file: `CLOCK_MONOTONIC_RAW + (CLOCK_BOOTTIME -
//! CLOCK_MONOTONIC)`, in nanoseconds.
//!
//! **Why not a simpler one.** `CLOCK_MONOTONIC` and std's `Instant` stop while the board is
//! suspended, so a lease would survive a night in a drawer. `CLOCK_BOOTTIME` counts suspend, but NTP
//! slews it (chrony by up to 8.3 %), far outside the 1 % that leases allow. The raw clock runs at
//! the rate of the crystal; the difference of the other two is the time spent in suspend, and no
//! slew changes it.
//!
//! **How.** The three clocks cannot be read at one instant. The two that make the difference are
//! read as a sandwich, and the difference is kept unless the sandwich proves that it changed, so
//! that being preempted between two reads does not look like a suspend.
//!
//! **What not.** It says nothing of the time of day, is not comparable between boards nor across
//! boots (see [`boot_id`]), nor with the readings inside another Linux time namespace. A [`Timer`]
//! only *wakes*: whoever is woken reads [`now_ns`] again and decides.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};

/// Now, on this board's lease clock, in nanoseconds. Never goes back within a process.
///
/// Two processes of one board that read it at the same instant differ by less than a preempted
/// sandwich, some microseconds. The driver wraps the number in the core's `Time`.
pub fn now_ns() -> u64 {
    let now = read();
    LAST.fetch_max(now, Ordering::AcqRel).max(now)
}

/// The kernel's random name for this boot, 36 characters.
///
/// A lease-clock reading means something only together with it: after a reboot the clock starts
/// again near zero.
///
/// # Errors
/// If `/proc` is not mounted.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Wakes a `poll` when the lease clock is likely to have reached an instant.
///
/// It is a `CLOCK_BOOTTIME` timerfd, so it runs on through suspend. Since `CLOCK_BOOTTIME` may be
/// slewed against the lease clock, a far instant is approached in steps of seven eighths: an early
/// wake-up is normal, and the waker calls [`Timer::arm`] again with the same instant.
///
/// From tokio: `AsyncFd::with_interest(timer, Interest::READABLE)`, then in the driver's `select!`
/// await `readable_mut()`, call `get_inner_mut().clear()` and `guard.clear_ready()`, read
/// [`now_ns`], run what is due and arm again.
#[derive(Debug)]
pub struct Timer {
    fd: OwnedFd,
    due_boot_ns: Option<u64>,
}

impl Timer {
    /// A timer that is not armed.
    ///
    /// # Errors
    /// If the process is out of file descriptors.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self { fd: timerfd_create(TimerfdClockId::Boottime, flags)?, due_boot_ns: None })
    }

    /// Wakes at the lease-clock instant `at_ns` or some time before it; at once if it has passed.
    ///
    /// Replaces what was armed before.
    ///
    /// # Errors
    /// Only those of `timerfd_settime`; none are expected.
    pub fn arm(&mut self, at_ns: u64) -> io::Result<()> {
        let step = approach(at_ns.saturating_sub(now_ns()));
        let due = clock_ns(ClockId::Boottime).saturating_add(step).max(1);
        self.settime(due)?;
        self.due_boot_ns = Some(due);
        Ok(())
    }

    /// Wakes no more.
    ///
    /// # Errors
    /// As [`Timer::arm`].
    pub fn disarm(&mut self) -> io::Result<()> {
        self.due_boot_ns = None;
        self.settime(0)
    }

    /// Takes note of an expiry and says by how much the wake-up was late; `None` if nothing expired.
    ///
    /// The lateness is how long this process was kept from running: by the scheduler, by a page
    /// fault, by `SIGSTOP`, by suspend. It is measured on the timer's own clock, so slew is not
    /// mistaken for it. Call it on every wake-up; a spurious call returns `None`.
    pub fn clear(&mut self) -> Option<Duration> {
        let mut count = [0; 8];
        rustix::io::read(&self.fd, &mut count).ok()?;
        let due = self.due_boot_ns.take()?;
        Some(Duration::from_nanos(clock_ns(ClockId::Boottime).saturating_sub(due)))
    }

    fn settime(&self, due_ns: u64) -> io::Result<()> {
        let spec = Itimerspec { it_interval: timespec(0), it_value: timespec(due_ns) };
        timerfd_settime(&self.fd, TimerfdTimerFlags::ABSTIME, &spec)?;
        Ok(())
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

fn read() -> u64 {
    let mut best = Sandwich::take();
    for _ in 1..SANDWICH_TRIES_MAX {
        if best.width() <= SANDWICH_WIDTH_NS {
            break;
        }
        let next = Sandwich::take();
        if next.width() < best.width() {
            best = next;
        }
    }
    let suspended = best.suspended(SUSPENDED.load(Ordering::Acquire));
    SUSPENDED.store(suspended, Ordering::Release);
    // Read last: a stall before this line makes the result later, never earlier, than the truth was.
    clock_ns(ClockId::MonotonicRaw).saturating_add(suspended)
}

/// `CLOCK_BOOTTIME` read between two reads of `CLOCK_MONOTONIC`.
struct Sandwich {
    before: u64,
    boot: u64,
    after: u64,
}

impl Sandwich {
    fn take() -> Self {
        let before = clock_ns(ClockId::Monotonic);
        let boot = clock_ns(ClockId::Boottime);
        let after = clock_ns(ClockId::Monotonic);
        Self { before, boot, after }
    }

    fn width(&self) -> u64 {
        self.after.saturating_sub(self.before)
    }

    /// The time spent in suspend: `known` if this reading allows it, else the least that it allows.
    fn suspended(&self, known: u64) -> u64 {
        let least = self.boot.saturating_sub(self.after);
        let most = self.boot.saturating_sub(self.before);
        if (least..=most).contains(&known) { known } else { least }
    }
}

fn approach(remaining_ns: u64) -> u64 {
    if remaining_ns <= APPROACH_NS { remaining_ns } else { remaining_ns - remaining_ns / 8 }
}

fn clock_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let secs = u64::try_from(time.tv_sec).expect("these clocks start at boot and are not negative");
    let nanos = u64::try_from(time.tv_nsec).expect("the kernel normalises to 0..1e9");
    secs.saturating_mul(NS_PER_S).saturating_add(nanos)
}

fn timespec(ns: u64) -> Timespec {
    Timespec { tv_sec: (ns / NS_PER_S) as _, tv_nsec: (ns % NS_PER_S) as _ }
}

static LAST: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds this board has spent in suspend since it booted, as last proven.
static SUSPENDED: AtomicU64 = AtomicU64::new(0);

const NS_PER_S: u64 = 1_000_000_000;
/// A sandwich this narrow is good enough: a tenth of a per mille of the smallest kill bound.
const SANDWICH_WIDTH_NS: u64 = 10_000;
const SANDWICH_TRIES_MAX: u32 = 8;
/// Nearer than this the timer is armed for the instant itself: 8.3 % of it is 0.2 ms.
const APPROACH_NS: u64 = 2_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};

    #[test]
    fn it_never_goes_back() {
        let mut last = 0;
        for _ in 0..100_000 {
            let now = now_ns();
            assert!(now >= last);
            last = now;
        }
    }

    #[test]
    fn a_stall_inside_the_sandwich_is_not_taken_for_suspend() {
        let stalled = Sandwich { before: 1_000, boot: 51_000, after: 51_010 };
        assert_eq!(stalled.suspended(7), 7, "between 0 and 50,000 is possible: keep what is known");
        let suspended = Sandwich { before: 1_000, boot: 61_005, after: 1_010 };
        assert_eq!(suspended.suspended(7), 59_995);
    }

    #[test]
    fn a_far_instant_is_approached_and_a_near_one_is_met() {
        assert_eq!(approach(0), 0);
        assert_eq!(approach(APPROACH_NS), APPROACH_NS);
        assert_eq!(approach(8_000_000_000), 7_000_000_000);
    }

    #[test]
    fn the_timer_wakes_a_poll_and_the_clock_has_passed_the_instant_in_the_end() {
        let mut timer = Timer::new().unwrap();
        assert_eq!(timer.clear(), None, "a spurious call is a no-op");
        let at = now_ns() + 20_000_000;
        let mut wakes = 0;
        while now_ns() < at {
            timer.arm(at).unwrap();
            let wait = Timespec { tv_sec: 5, tv_nsec: 0 };
            let ready = poll(&mut [PollFd::new(&timer, PollFlags::IN)], Some(&wait)).unwrap();
            assert_eq!(ready, 1, "the timer did not fire within 5 s");
            assert!(timer.clear().is_some());
            wakes += 1;
        }
        assert!(wakes < 40, "{wakes} wake-ups for one instant");
    }

    #[test]
    fn an_instant_that_has_passed_wakes_at_once() {
        let mut timer = Timer::new().unwrap();
        timer.arm(0).unwrap();
        let wait = Timespec { tv_sec: 5, tv_nsec: 0 };
        assert_eq!(poll(&mut [PollFd::new(&timer, PollFlags::IN)], Some(&wait)).unwrap(), 1);
    }

    #[test]
    fn a_boot_has_one_name() {
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
        assert_eq!(boot_id().unwrap().len(), 36);
    }
}
