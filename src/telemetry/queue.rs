//! Writes log lines to the standard output: a bounded queue, and a thread.
//!
//! A pipe that nobody reads blocks its writer, and a full disk fails it. So the threads that serve
//! only append to the queue. Lines that find it full, or that cannot be written, are dropped and
//! counted.

use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::OVER_RATE;

/// The most bytes of lines that wait to be written.
const MAX_QUEUED_BYTES: usize = 1 << 20;

/// The most bytes of lines in a second. Strangers cause lines; they must not be able to fill a disk.
const MAX_BYTES_PER_SECOND: usize = 1 << 20;

/// How long the end of the process waits for the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause before a write is tried again where the output takes nothing without blocking.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Lines that found the queue full, since the process began.
pub(super) static QUEUE_FULL: AtomicU64 = AtomicU64::new(0);

/// Lines that could not be written, since the process began.
pub(super) static WRITE_FAILED: AtomicU64 = AtomicU64::new(0);

/// Lines that wait to be written.
pub(super) struct LogQueue {
    max_bytes: usize,
    max_bytes_per_second: usize,
    state: Mutex<State>,
    /// Notified when lines are queued, and when all have been written.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<u8>,
    is_writing: bool,
    /// Lines that were dropped and not reported yet.
    dropped: u64,
    /// When the current second of the rate began, and how many bytes were queued in it.
    second: Option<(Instant, usize)>,
}

impl LogQueue {
    fn new(max_bytes: usize, max_bytes_per_second: usize) -> Arc<Self> {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Arc::new(Self { max_bytes, max_bytes_per_second, state, changed })
    }

    /// Starts the thread that writes to the standard output.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub(super) fn to_stdout() -> io::Result<Arc<Self>> {
        // Not `Stdout`, which has a buffer of its own and would keep what it could not write.
        let stdout = std::fs::File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let queue = Self::new(MAX_QUEUED_BYTES, MAX_BYTES_PER_SECOND);
        let written = queue.clone();
        std::thread::Builder::new().name("log".into()).spawn(move || written.write_to(stdout))?;
        Ok(queue)
    }

    /// Writes queued lines. Never returns.
    fn write_to(&self, mut out: impl Write) {
        let mut is_torn = false;
        loop {
            let mut lines = self.take();
            if is_torn {
                lines.insert(0, b'\n');
            }
            let written = write_all(&mut out, &lines);
            let rest = lines.get(written..).unwrap_or_default();
            is_torn = written > 0 && !lines[..written].ends_with(b"\n");
            let dropped = self.finish(count(rest));
            if rest.is_empty() && dropped > 0 {
                tracing::warn!(lines = dropped, "log lines dropped: not written in time");
            }
        }
    }

    /// Waits for lines and takes all that there are.
    fn take(&self) -> Vec<u8> {
        let state = self.lock();
        let waited = self.changed.wait_while(state, |state| state.lines.is_empty());
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_writing = true;
        std::mem::take(&mut state.lines)
    }

    /// Reports the end of a write, and how many lines it lost. Returns how many were dropped since
    /// the last write that lost none.
    fn finish(&self, lost: u64) -> u64 {
        WRITE_FAILED.fetch_add(lost, Ordering::Relaxed);
        let mut state = self.lock();
        state.is_writing = false;
        state.dropped += lost;
        self.changed.notify_all();
        if lost == 0 { std::mem::take(&mut state.dropped) } else { 0 }
    }

    fn flush(&self, timeout: Duration) {
        let is_busy = |state: &mut State| state.is_writing || !state.lines.is_empty();
        // An output that takes nothing must not hold up the end of the process.
        drop(self.changed.wait_timeout_while(self.lock(), timeout, is_busy));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts `bytes` of lines, unless they are above the rate.
    fn is_within_rate(&mut self, bytes: usize, most: usize, now: Instant) -> bool {
        let (began, taken) = self.second.get_or_insert((now, 0));
        if now.duration_since(*began) >= Duration::from_secs(1) {
            (*began, *taken) = (now, 0);
        }
        let is_within = *taken + bytes <= most;
        *taken += if is_within { bytes } else { 0 };
        is_within
    }
}

impl Write for &LogQueue {
    /// Takes whole lines, all of them or none, and never fails.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let mut state = self.lock();
        if !state.is_within_rate(lines.len(), self.max_bytes_per_second, Instant::now()) {
            state.dropped += count(lines);
            OVER_RATE.fetch_add(count(lines), Ordering::Relaxed);
        } else if state.lines.len() + lines.len() > self.max_bytes {
            state.dropped += count(lines);
            QUEUE_FULL.fetch_add(count(lines), Ordering::Relaxed);
        } else {
            state.lines.extend_from_slice(lines);
            drop(state);
            self.changed.notify_all();
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits for the last lines of the log when it is dropped, for a second at most.
#[must_use = "the last lines are lost if it is dropped at once"]
pub struct LogGuard(pub(super) Arc<LogQueue>);

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.0.flush(FLUSH_TIMEOUT);
    }
}

/// Writes as much as it can; returns how many bytes that was.
fn write_all(out: &mut impl Write, bytes: &[u8]) -> usize {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match out.write(rest) {
            Ok(0) => break,
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Another process has made the descriptor that it shares with this one non-blocking.
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(RETRY_PAUSE),
            Err(_) => break,
        }
    }
    written
}

fn count(lines: &[u8]) -> u64 {
    lines.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Takes a byte at a time, and fails where the other side says so.
    struct Output {
        failures: mpsc::Receiver<bool>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.failures.recv().unwrap_or_else(|_| {
                loop {
                    std::thread::park()
                }
            }) {
                return Err(ErrorKind::StorageFull.into());
            }
            self.written.lock().unwrap().push(bytes[0]);
            Ok(1)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn queue(max_bytes: usize) -> (Arc<LogQueue>, mpsc::Sender<bool>, Arc<Mutex<Vec<u8>>>) {
        let queue = LogQueue::new(max_bytes, usize::MAX);
        let (fail, failures) = mpsc::channel();
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let output = Output { failures, written: written.clone() };
        let writer = queue.clone();
        std::thread::spawn(move || writer.write_to(output));
        (queue, fail, written)
    }

    fn until(is_so: impl Fn() -> bool) {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn an_output_that_takes_nothing_holds_up_nobody() {
        let (queue, _fail, _) = queue(10);
        (&*queue).write_all(b"first\n").unwrap();
        until(|| queue.lock().is_writing);
        let began = Instant::now();
        for _ in 0..100 {
            (&*queue).write_all(b"more\n").unwrap();
        }
        assert_eq!(queue.lock().lines.len(), 10);
        assert_eq!(queue.lock().dropped, 98);
        queue.flush(Duration::from_millis(50));
        assert!(began.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn bytes_above_the_rate_are_dropped_until_the_second_is_over() {
        let (mut state, start) = (State::default(), Instant::now());
        let mut take =
            |bytes, after| state.is_within_rate(bytes, 10, start + Duration::from_millis(after));
        assert!(take(6, 0) && !take(5, 500) && take(4, 999) && !take(1, 999));
        assert!(take(10, 1000) && !take(1, 1999));
    }

    #[test]
    fn lines_above_the_rate_are_counted() {
        let queue = LogQueue::new(usize::MAX, 10);
        let before = OVER_RATE.load(Ordering::Relaxed);
        for line in ["123456\n", "1234\n", "12\n"] {
            (&*queue).write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(queue.lock().lines, b"123456\n12\n");
        assert_eq!(queue.lock().dropped, 1);
        assert!(OVER_RATE.load(Ordering::Relaxed) > before);
    }

    #[test]
    fn what_cannot_be_written_is_dropped_and_the_next_line_is_whole() {
        let (queue, fail, written) = queue(100);
        (&*queue).write_all(b"ab\ncd\n").unwrap();
        for fails in [false, false, false, false, true] {
            fail.send(fails).unwrap();
        }
        until(|| queue.lock().dropped == 1);
        (&*queue).write_all(b"ef\n").unwrap();
        (0..4).for_each(|_| fail.send(false).unwrap());
        queue.flush(Duration::from_secs(10));
        assert_eq!(*written.lock().unwrap(), b"ab\nc\nef\n");
    }
}
