//! Keeps a session open: connects, serves the queue, notices when the session ends, reconnects.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redis::{Arg, Cmd};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::metrics::RedisMetrics;
use super::refusal::Refusal;
use super::session::{Commands, Messages, Replies, Session, SessionError};
use super::settings::RedisSettings;
use super::{MAX_BACKOFF, Message, RedisFailure, RedisState, Request};

/// The most commands in one pipeline.
const MAX_BATCH: usize = 512;

/// The bytes of commands from which on a pipeline takes no further one.
const BATCH_BYTES: usize = 1024 * 1024;

/// The arguments of questions from which on a pipeline takes no further one. What is sent next waits
/// for their replies.
const QUESTION_ARGUMENTS: usize = 500;

/// The pause after the first attempt that failed. It doubles with each further one.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);

/// The time between two probes of the channel. The subscription is lost if a probe has not returned
/// when the next but one is due.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The least time between two log lines about different refusals.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The first byte of a probe; messages must begin with another one. It is followed by the sender's
/// number, as others may subscribe to the same channel, and the probe's own.
const PROBE: u8 = 0;

/// What outlives a session.
pub(super) struct Supervisor {
    settings: RedisSettings,
    usage: &'static str,
    channel: String,
    requests: mpsc::Receiver<Request>,
    questions: mpsc::Receiver<Request>,
    messages: mpsc::Sender<Message>,
    state: watch::Sender<RedisState>,
    /// What has to work, on a key of its own.
    required: Vec<Cmd>,
    refusal: watch::Sender<Option<Refusal>>,
    logged_refusal: Option<(Refusal, Instant)>,
    metrics: RedisMetrics,
    sessions: u64,
    /// Distinguishes our probes from others'.
    sender: u64,
}

/// The ends of the channels that a supervisor holds.
pub(super) struct Ends {
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) questions: mpsc::Receiver<Request>,
    pub(super) messages: mpsc::Sender<Message>,
    pub(super) state: watch::Sender<RedisState>,
    pub(super) refusal: watch::Sender<Option<Refusal>>,
}

impl Supervisor {
    pub(super) fn new(
        settings: RedisSettings,
        usage: &'static str,
        channel: String,
        required: Vec<Cmd>,
        ends: Ends,
        metrics: RedisMetrics,
    ) -> Self {
        let Ends { requests, questions, messages, state, refusal } = ends;
        Self {
            settings,
            usage,
            channel,
            requests,
            questions,
            messages,
            state,
            required,
            refusal,
            logged_refusal: None,
            metrics,
            sessions: 0,
            sender: rand::random(),
        }
    }

    /// Runs until it is aborted.
    pub(super) async fn run(mut self) {
        let mut backoff = FIRST_BACKOFF;
        let mut logged = None;
        loop {
            let session =
                Session::open(&self.settings, &self.channel, &self.required, &self.metrics).await;
            let error = match session {
                Ok(session) => {
                    backoff = FIRST_BACKOFF;
                    logged = None;
                    self.serve(session).await
                }
                Err(error) => error,
            };
            if let SessionError::Lacking(refusal) = &error {
                self.record(refusal);
            }
            // Once for each error in a row, however long it lasts.
            if logged.as_ref() != Some(&error) {
                tracing::error!(%error, "Redis is unavailable");
                logged = Some(error);
            }
            let percent = rand::random_range(50..=100);
            tokio::time::sleep(backoff * percent / 100).await;
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }

    /// Serves the queue in a session until that ends.
    async fn serve(&mut self, session: Session) -> SessionError {
        self.sessions += 1;
        let number = self.sessions;
        tracing::info!(session = number, "Redis is connected");
        match session.refusal {
            Some(refusal) => self.refused(&[refusal]),
            None => self.accepted(),
        }
        self.metrics.connected(self.usage, true);
        let last_received = Arc::new(AtomicU64::new(0));
        let ended = CancellationToken::new();
        let channel = Channel {
            sender: self.sender,
            last_received: last_received.clone(),
            messages: self.messages.clone(),
        };
        let listener = channel.listen(session.messages, ended.clone());
        let listener = AbortOnDropHandle::new(tokio::spawn(listener));
        self.state.send_replace(RedisState::Connected(number));
        let error = self.work(number, session.commands, &last_received, &ended).await;
        self.state.send_replace(RedisState::Unavailable);
        self.metrics.connected(self.usage, false);
        drop(listener);
        // Commands queued for this session are not sent in the next one.
        while let Ok(request) = self.requests.try_recv() {
            self.reject(request);
        }
        while let Ok(question) = self.questions.try_recv() {
            self.reject(question);
        }
        error
    }

    async fn work(
        &mut self,
        session: u64,
        mut commands: Commands,
        last_received: &AtomicU64,
        ended: &CancellationToken,
    ) -> SessionError {
        let mut probes = interval(PROBE_INTERVAL);
        probes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut probe = 0;
        let (mut requests, mut questions) = (Vec::new(), Vec::new());
        loop {
            requests.clear();
            let mut is_check = false;
            tokio::select! {
                () = ended.cancelled() => {
                    return SessionError::Connection("the channel's connection ended".into());
                }
                _ = probes.tick() => {
                    if probe >= 2 && last_received.load(Ordering::Acquire) < probe - 1 {
                        return SessionError::SubscriptionLost;
                    }
                    probe += 1;
                    requests.push(self.probe(session, probe));
                    // For as long as anything is refused: nobody else may be sending it.
                    is_check = self.refusal.borrow().is_some();
                    if is_check {
                        let required = self.required.iter().cloned();
                        requests.extend(
                            required.map(|command| Request { session, command, answer: None }),
                        );
                    }
                }
                Some(request) = self.requests.recv() => requests.push(request),
                Some(question) = self.questions.recv() => questions.push(question),
            }
            self.fill(&mut requests, &mut questions);
            requests.append(&mut questions);
            let mut batch = Vec::with_capacity(requests.len());
            let mut answers = Vec::with_capacity(requests.len());
            for request in requests.drain(..) {
                if request.session == session {
                    batch.push(request.command);
                    answers.push(request.answer);
                } else {
                    self.reject(request);
                }
            }
            let sent = answers.len() as u64;
            let began = Instant::now();
            let replies = commands.run(batch).await;
            self.metrics.round_trip(began.elapsed());
            match replies {
                Ok(Replies { results, refusals }) => {
                    self.metrics.commands("answered", sent);
                    if is_check && refusals.is_empty() {
                        self.accepted();
                    }
                    self.refused(&refusals);
                    let mut outage = None;
                    for (answer, result) in answers.into_iter().zip(results) {
                        if let Err(RedisFailure::Refused(code)) = &result {
                            tracing::debug!(code, "Redis rejected a command");
                            if commands.is_outage(code) {
                                outage = Some(code.clone());
                            }
                        }
                        answer.map(|answer| answer.send(result));
                    }
                    if let Some(code) = outage {
                        return SessionError::Refused(code);
                    }
                }
                Err(error) => {
                    self.metrics.commands("unanswered", sent);
                    for answer in answers.into_iter().flatten() {
                        let _ = answer.send(Err(RedisFailure::Unanswered));
                    }
                    return error;
                }
            }
        }
    }

    /// Takes what else fits in a pipeline.
    fn fill(&mut self, requests: &mut Vec<Request>, questions: &mut Vec<Request>) {
        let mut bytes: usize = requests.iter().map(|request| length(&request.command)).sum();
        while requests.len() < MAX_BATCH
            && bytes < BATCH_BYTES
            && let Ok(request) = self.requests.try_recv()
        {
            bytes += length(&request.command);
            requests.push(request);
        }
        let mut arguments: usize = questions.iter().map(|it| it.command.args_iter().len()).sum();
        while arguments < QUESTION_ARGUMENTS
            && bytes < BATCH_BYTES
            && let Ok(question) = self.questions.try_recv()
        {
            arguments += question.command.args_iter().len();
            questions.push(question);
        }
    }

    /// Takes note of commands that Redis refuses, and logs them.
    fn refused(&mut self, refusals: &[Refusal]) {
        for refusal in refusals {
            self.record(refusal);
            let is_logged = self.logged_refusal.as_ref().is_some_and(|(logged, at)| {
                logged == refusal || at.elapsed() < REFUSAL_LOG_INTERVAL
            });
            if !is_logged {
                tracing::error!(usage = self.usage, "{refusal}");
                self.logged_refusal = Some((refusal.clone(), Instant::now()));
            }
        }
    }

    fn record(&self, refusal: &Refusal) {
        self.metrics.refusal(refusal);
        if self.refusal.borrow().is_none() {
            self.refusal.send_replace(Some(refusal.clone()));
        }
    }

    fn accepted(&mut self) {
        if self.refusal.send_replace(None).is_some() {
            tracing::info!(usage = self.usage, "Redis accepts all commands again");
            self.logged_refusal = None;
        }
    }

    /// Builds a message to ourselves.
    fn probe(&self, session: u64, probe: u64) -> Request {
        let mut message = vec![PROBE];
        message.extend(self.sender.to_be_bytes());
        message.extend(probe.to_be_bytes());
        let mut command: Cmd = redis::cmd(self.settings.publish_command());
        command.arg(&self.channel).arg(message);
        Request { session, command, answer: None }
    }

    fn reject(&self, request: Request) {
        self.metrics.commands("not_sent", 1);
        request.answer.map(|answer| answer.send(Err(RedisFailure::Unavailable)));
    }
}

/// Returns the length of a command's arguments, in bytes.
fn length(command: &Cmd) -> usize {
    let lengths = command.args_iter().map(|argument| match argument {
        Arg::Simple(bytes) => bytes.len(),
        _ => 0,
    });
    lengths.sum()
}

/// Takes the channel's messages.
struct Channel {
    /// The number in our own probes.
    sender: u64,
    /// The number of our last probe that returned.
    last_received: Arc<AtomicU64>,
    messages: mpsc::Sender<Message>,
}

impl Channel {
    /// Takes messages until their connection ends.
    async fn listen(self, mut messages: Messages, ended: CancellationToken) {
        let _ended = ended.drop_guard();
        while let Some(message) = messages.next().await {
            self.take(message).await;
        }
    }

    async fn take(&self, message: Message) {
        if let [PROBE, rest @ ..] = message.as_slice() {
            if let Some((sender, number)) = rest.split_first_chunk()
                && u64::from_be_bytes(*sender) == self.sender
                && let Ok(number) = number.try_into()
            {
                self.last_received.fetch_max(u64::from_be_bytes(number), Ordering::AcqRel);
            }
        } else {
            // Without a receiver the process is about to end.
            let _ = self.messages.send(message).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_our_own_probes_show_that_the_channel_works() {
        let (messages, mut received) = mpsc::channel(9);
        let last_received = Arc::new(AtomicU64::new(0));
        let channel = Channel { sender: 7, last_received: last_received.clone(), messages };
        let probe = |sender: u64, number: u64| {
            let (sender, number) = (sender.to_be_bytes(), number.to_be_bytes());
            [&[PROBE][..], &sender, &number].concat()
        };
        let forged = [&[PROBE][..], &9_u64.to_be_bytes()].concat();
        let cut = probe(7, 9)[..16].to_vec();
        let long = [probe(7, 9), vec![0]].concat();
        for other in [probe(8, 9), forged, cut, long, vec![PROBE]] {
            channel.take(other).await;
            assert_eq!(last_received.load(Ordering::Acquire), 0);
        }
        channel.take(probe(7, 3)).await;
        channel.take(probe(7, 2)).await;
        assert_eq!(last_received.load(Ordering::Acquire), 3);
        channel.take(b"{}".to_vec()).await;
        assert_eq!(received.try_recv().unwrap(), b"{}");
        assert!(received.try_recv().is_err());
    }
}
