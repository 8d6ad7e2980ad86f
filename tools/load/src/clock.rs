//! Time as the run measures it: nanoseconds since it began, and an alarm that goes off in time.

use std::io;
use std::time::{Duration, Instant};

/// Counts from where the run began.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Starts to count.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since the start.
    pub fn now_ns(self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// Sleeps more exactly than tokio, whose timers go off up to 2 ms late: that would show in every
/// latency that is measured from the time when a message should have left.
#[cfg(target_os = "linux")]
pub struct Alarm(tokio::io::unix::AsyncFd<rustix::fd::OwnedFd>);

#[cfg(target_os = "linux")]
impl Alarm {
    /// A new one.
    ///
    /// # Errors
    /// Those of the operating system.
    #[allow(
        deprecated,
        reason = "its successor is unsafe, which is forbidden here, and asks for what `OwnedFd` \
                  guarantees: that the file stays open and the same"
    )]
    pub fn new() -> io::Result<Self> {
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        use tokio::io::{Interest, unix::AsyncFd};
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self(AsyncFd::with_interest(timer, Interest::READABLE)?))
    }

    /// Sleeps for this long.
    ///
    /// # Errors
    /// Those of the operating system.
    pub async fn sleep(&self, time: Duration) -> io::Result<()> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
        // Zero would mean never.
        let time = time.max(Duration::from_nanos(1));
        let it_value = Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let setting = Itimerspec { it_interval, it_value };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &setting)?;
        loop {
            let mut ready = self.0.readable().await?;
            let read = |timer: &AsyncTimer| {
                rustix::io::read(timer.get_ref(), &mut [0; 8]).map_err(io::Error::from)
            };
            match ready.try_io(read) {
                Ok(read) => return read.map(drop),
                Err(_would_block) => {}
            }
        }
    }
}

#[cfg(target_os = "linux")]
type AsyncTimer = tokio::io::unix::AsyncFd<rustix::fd::OwnedFd>;

/// Elsewhere, tokio's timer has to do.
#[cfg(not(target_os = "linux"))]
pub struct Alarm;

#[cfg(not(target_os = "linux"))]
impl Alarm {
    /// A new one.
    ///
    /// # Errors
    /// None.
    pub fn new() -> io::Result<Self> {
        Ok(Self)
    }

    /// Sleeps for this long.
    ///
    /// # Errors
    /// None.
    pub async fn sleep(&self, time: Duration) -> io::Result<()> {
        tokio::time::sleep(time).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_alarm_goes_off_again_and_again_and_never_early() {
        let alarm = Alarm::new().unwrap();
        let clock = Clock::start();
        for time in [Duration::ZERO, Duration::from_micros(200), Duration::from_millis(3)] {
            let before = clock.now_ns();
            let sleep = tokio::time::timeout(Duration::from_secs(5), alarm.sleep(time));
            sleep.await.expect("it goes off").unwrap();
            assert!(clock.now_ns() - before >= time.as_nanos() as u64);
        }
    }
}
