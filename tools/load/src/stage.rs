//! What a person sees and says while a run goes on: a progress bar, and Ctrl-C.

use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// The time between two pictures of the bar.
const TICK: Duration = Duration::from_millis(200);

/// The bar's length, in characters.
const BAR: usize = 24;

/// How the shell calls a program that ended by Ctrl-C: 128 and the signal's number.
const INTERRUPTED: i32 = 130;

/// Shows how far a run is, and knows whether it should end early. The first Ctrl-C ends the run,
/// which then reports; the second ends the process.
#[derive(Debug)]
pub struct Stage {
    stop: Rc<Stop>,
    is_shown: bool,
}

#[derive(Debug, Default)]
struct Stop {
    is_asked_for: Cell<bool>,
    asked: Notify,
}

impl Stage {
    /// A stage that listens to Ctrl-C, and shows a bar if standard error is a terminal that can wipe
    /// it away again.
    pub fn open() -> Self {
        let stop = Rc::<Stop>::default();
        let asked = stop.clone();
        tokio::task::spawn_local(async move {
            if tokio::signal::ctrl_c().await.is_err() {
                return;
            }
            asked.is_asked_for.set(true);
            asked.asked.notify_waiters();
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(INTERRUPTED);
            }
        });
        let terminal = std::env::var("TERM").ok();
        let is_shown = std::io::stderr().is_terminal() && can_wipe(terminal.as_deref());
        Self { stop, is_shown }
    }

    /// Whether the run should end early.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_asked_for.get()
    }

    /// Waits for that.
    async fn stopped(&self) {
        let asked = self.stop.asked.notified();
        if !self.is_stopped() {
            asked.await;
        }
    }

    /// Waits for `work`, unless the run should end early: then there is nothing. `progress` tells
    /// how much of it is done, from 0 to 1, and a count.
    pub async fn show<T>(
        &self,
        label: &str,
        progress: impl Fn() -> (f64, u64),
        work: impl Future<Output = T>,
    ) -> Option<T> {
        // Made only if it is shown: a line that is dropped wipes.
        let _line = self.is_shown.then(|| Line);
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.stopped() => None,
            () = self.draw(label, progress) => None,
        }
    }

    /// Waits for this long, unless the run should end early.
    pub async fn last(&self, label: &str, time: Duration, count: impl Fn() -> u64) {
        let began = Instant::now();
        let progress = || (began.elapsed().as_secs_f64() / time.as_secs_f64(), count());
        self.show(label, progress, tokio::time::sleep(time)).await;
    }

    /// Draws for ever.
    async fn draw(&self, label: &str, progress: impl Fn() -> (f64, u64)) {
        if !self.is_shown {
            return std::future::pending().await;
        }
        let mut before = progress().1;
        loop {
            let (part, count) = progress();
            let per_s = count.saturating_sub(before) as f64 / TICK.as_secs_f64();
            before = count;
            // Nobody is there to tell if it fails.
            let _ = write!(std::io::stderr(), "\r\x1b[K{}", bar(label, part, count, per_s));
            tokio::time::sleep(TICK).await;
        }
    }
}

/// Whether a terminal of this kind knows how to wipe a line: all do that do not say otherwise.
fn can_wipe(terminal: Option<&str>) -> bool {
    terminal != Some("dumb")
}

/// Wipes the bar away when it is over.
struct Line;

impl Drop for Line {
    fn drop(&mut self) {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
}

fn bar(label: &str, part: f64, count: u64, per_s: f64) -> String {
    let part = if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 };
    let full = (part * BAR as f64) as usize;
    let percent = part * 100.0;
    format!(
        "{label:<11} [{}{}] {percent:3.0} %  {}  {}/s",
        "#".repeat(full),
        ".".repeat(BAR - full),
        grouped(count as f64),
        grouped(per_s),
    )
}

/// A whole number with its thousands apart.
pub fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.max(0.0));
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        let cases = [(0.0, "0"), (999.4, "999"), (1000.0, "1,000"), (1234567.8, "1,234,568")];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn a_dumb_terminal_has_no_bar() {
        assert!(can_wipe(Some("xterm-256color")) && can_wipe(None));
        assert!(!can_wipe(Some("dumb")));
    }

    #[test]
    fn the_bar_fills() {
        assert_eq!(
            bar("measuring", 0.5, 1500, 300.0),
            format!("measuring   [{}{}]  50 %  1,500  300/s", "#".repeat(12), ".".repeat(12))
        );
        assert!(bar("x", f64::NAN, 0, 0.0).contains("  0 %"));
        assert!(bar("x", 7.0, 0, 0.0).contains("100 %"));
    }
}
