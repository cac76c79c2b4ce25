//! Time that counts while the machine sleeps: `CLOCK_BOOTTIME`, for deadlines and their timers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId as TimerClock, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId, clock_gettime};

/// Time since boot, suspended time included.
#[must_use]
pub fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// A point in time on the boot clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Duration);

impl Deadline {
    /// `duration` from now.
    #[must_use]
    pub fn after(duration: Duration) -> Self {
        Self(since_boot().saturating_add(duration))
    }

    /// The point that was this much earlier.
    #[must_use]
    pub const fn earlier(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(by))
    }

    /// How long is left; zero when it has passed.
    #[must_use]
    pub fn left(self) -> Duration {
        self.0.saturating_sub(since_boot())
    }

    /// How long ago it was; zero while it is to come.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        since_boot().saturating_sub(self.0)
    }

    /// Whether it has passed.
    #[must_use]
    pub fn passed(self) -> bool {
        self.left().is_zero()
    }
}

/// A timer that makes its fd readable once, for `poll`.
#[derive(Debug)]
pub struct Timer(TimerFd);

impl Timer {
    /// A timer that is not running.
    ///
    /// # Errors
    /// What `timerfd_create(2)` says.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        Ok(Self(TimerFd::new(TimerClock::CLOCK_BOOTTIME, flags)?))
    }

    /// Starts (or restarts) it.
    ///
    /// # Errors
    /// What `timerfd_settime(2)` says.
    pub fn arm(&self, after: Duration) -> io::Result<()> {
        // A timer set to zero would be disarmed instead of firing at once.
        let after = TimeSpec::from_duration(after.max(Duration::from_nanos(1)));
        Ok(self.0.set(Expiration::OneShot(after), TimerSetTimeFlags::empty())?)
    }

    /// Stops it and forgets an expiry that was not read.
    ///
    /// # Errors
    /// What `timerfd_settime(2)` says.
    pub fn disarm(&self) -> io::Result<()> {
        Ok(self.0.unset()?)
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
