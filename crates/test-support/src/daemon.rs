//! Processes beside the tests: what they log, signals to them, and their end whatever happens.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{SOON, eventually_within};

/// A process that is killed when it is dropped, at the latest.
pub struct Daemon {
    child: Child,
    log: Arc<Mutex<String>>,
    /// Read what it says until its end; threads, so that a busy test cannot make it wait.
    readers: Vec<JoinHandle<()>>,
}

impl Daemon {
    /// Starts it and collects its output: standard error too, if that is to be piped.
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let log = Arc::default();
        let mut readers = vec![collect(child.stdout.take().unwrap(), &log)];
        readers.extend(child.stderr.take().map(|stderr| collect(stderr, &log)));
        Self { child, log, readers }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it has said so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Fails with its log if it is no longer there.
    pub fn assert_alive(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            self.readers.drain(..).for_each(|reader| reader.join().unwrap());
            panic!("it has ended with {status}: {}", self.log());
        }
    }

    /// Sends a signal, as in `TERM`.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Takes it off the processor, and returns once it stands still.
    pub fn pause(&self) {
        self.signal("STOP");
        self.until_it_stands_still(true);
    }

    pub fn resume(&self) {
        self.signal("CONT");
        self.until_it_stands_still(false);
    }

    fn until_it_stands_still(&self, wanted: bool) {
        let began = Instant::now();
        loop {
            // The state is the letter behind the name, which stands in brackets: proc(5).
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
            let state = stat.rsplit_once(") ").unwrap().1;
            if state.starts_with('T') == wanted {
                return;
            }
            assert!(began.elapsed() < SOON, "not in time: {stat}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Kills it, paused or not, and returns once it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it ends by itself: the exit code, if no signal killed it, and the whole log.
    pub async fn end(mut self) -> (Option<i32>, String) {
        let code = self.exit_code().await;
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        (code, self.log())
    }

    /// Waits until it ends by itself: the exit code, if no signal killed it.
    pub async fn exit_code(&mut self) -> Option<i32> {
        let child = &mut self.child;
        eventually_within(2 * SOON, "it ends", || child.try_wait().unwrap().is_some()).await;
        child.wait().unwrap().code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(output: impl Read + Send + 'static, log: &Arc<Mutex<String>>) -> JoinHandle<()> {
    let log = log.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            let mut log = log.lock().unwrap();
            log.push_str(&line.unwrap());
            log.push('\n');
        }
    })
}
