//! Long outgoing messages, written past the transport.
//!
//! The transport copies a message three times on its way out, and its write buffer keeps the size
//! of the longest one for as long as the connection lives. So a long message does not go through
//! it: it waits here as a *parcel*, a whole frame, while a short *stand-in* takes its place in
//! the transport's queue. Where the stream finds the stand-in, it writes the parcel.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite;

use super::frames::FrameScanner;
use super::stream::Stream;
use super::{LinkHandle, Shared};

/// A packet whose text has at least this many bytes goes as a parcel.
pub const PARCEL_BYTES: usize = 4096;

/// The event whose packet stands in for a parcel; it has no arguments. No node ever receives it:
/// the names of events are few, and none of them is empty.
pub const STAND_IN_EVENT: &str = "";

/// The frame of that packet: final, text, its length, `42[""]`.
const STAND_IN: [u8; 8] = *b"\x81\x0642[\"\"]";

const STAND_IN_PACKET_BYTES: usize = STAND_IN.len() - 2;

/// The most slices that are written at once.
const MAX_SLICES: usize = 16;

/// The parcels of a link that its stream has not fetched yet.
#[derive(Default)]
pub(super) struct Parcels {
    waiting: AtomicUsize,
    queue: Mutex<VecDeque<Parcel>>,
}

/// A text message as a frame.
struct Parcel {
    frame: Bytes,
    packet_bytes: usize,
}

/// The parcels that are to be written, each at the place of its stand-in.
#[derive(Default)]
pub(super) struct Outgoing {
    queue: VecDeque<Parcel>,
    /// How much of the first one has been written.
    written: usize,
}

/// A stretch of what is written at once.
#[derive(Clone, Copy)]
enum Stretch {
    /// So many bytes that the transport wrote.
    Plain(usize),
    /// A parcel.
    Parcel,
}

impl LinkHandle {
    /// Queues a packet whose text is `parts` put together, and for which room has been reserved.
    /// `send_stand_in` queues the packet of [`STAND_IN_EVENT`] and tells whether it could.
    /// Returns the same.
    pub fn send_parcel(&self, parts: &[&str], send_stand_in: impl FnOnce() -> bool) -> bool {
        let parcel = Parcel::new(parts);
        let parcels = &self.0.parcels;
        // Under the lock, so that parcels and stand-ins are queued in the same order.
        let mut queue = parcels.lock();
        queue.push_back(parcel);
        parcels.waiting.store(queue.len(), Ordering::Release);
        let is_sent = send_stand_in();
        if !is_sent {
            queue.pop_back();
            parcels.waiting.store(queue.len(), Ordering::Release);
        }
        is_sent
    }
}

impl Parcel {
    fn new(parts: &[&str]) -> Self {
        let packet_bytes = parts.iter().map(|part| part.len()).sum();
        let mut frame = Vec::with_capacity(packet_bytes + 10);
        frame.push(0x81);
        match packet_bytes {
            0..=125 => frame.push(packet_bytes as u8),
            126..=0xffff => {
                frame.push(126);
                frame.extend_from_slice(&(packet_bytes as u16).to_be_bytes());
            }
            _ => {
                frame.push(127);
                frame.extend_from_slice(&(packet_bytes as u64).to_be_bytes());
            }
        }
        for part in parts {
            frame.extend_from_slice(part.as_bytes());
        }
        Self { frame: frame.into(), packet_bytes }
    }
}

impl Parcels {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Parcel>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outgoing {
    /// Fetches the parcels whose stand-ins may be among what is written next.
    pub(super) fn fetch(&mut self, shared: &Shared) {
        if shared.parcels.waiting.load(Ordering::Acquire) > 0 {
            let mut queue = shared.parcels.lock();
            let fetched = std::mem::take(&mut *queue);
            shared.parcels.waiting.store(0, Ordering::Release);
            drop(queue);
            if self.queue.is_empty() {
                self.queue = fetched;
            } else {
                self.queue.extend(fetched);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether a parcel has been written in part.
    pub(super) fn is_under_way(&self) -> bool {
        self.written > 0
    }

    /// Finds in `bytes` the stand-ins, and what is to be written in their place.
    fn gather<'a>(
        &'a self,
        mut scanner: FrameScanner,
        bytes: &'a [u8],
        slices: &mut [IoSlice<'a>; MAX_SLICES],
        stretches: &mut [Stretch; MAX_SLICES],
    ) -> usize {
        let mut count = 0;
        let mut push = |slice, stretch| {
            slices[count] = IoSlice::new(slice);
            stretches[count] = stretch;
            count += 1;
            count
        };
        let (mut at, mut plain_from) = (0, 0);
        let mut skip = self.written;
        for parcel in &self.queue {
            let found = loop {
                let Some((taken, message)) = scanner.next_message(&bytes[at..]) else {
                    break false;
                };
                at += taken;
                if message.bytes == STAND_IN_PACKET_BYTES as u64 && bytes[..at].ends_with(&STAND_IN)
                {
                    break true;
                }
            };
            if !found {
                break;
            }
            let plain = &bytes[plain_from..at - STAND_IN.len()];
            plain_from = at;
            if !plain.is_empty() {
                push(plain, Stretch::Plain(plain.len()));
            }
            let rest = &parcel.frame[std::mem::take(&mut skip)..];
            if push(rest, Stretch::Parcel) > MAX_SLICES - 2 {
                // There may be more stand-ins behind this one.
                return count;
            }
        }
        if plain_from < bytes.len() {
            push(&bytes[plain_from..], Stretch::Plain(bytes.len() - plain_from));
        }
        count
    }

    /// Notes that `written` bytes of the stretches have been written, and calls `left` for each
    /// parcel that has left. Returns how many of the transport's bytes are done with that.
    fn note(
        &mut self,
        stretches: &[Stretch],
        mut written: usize,
        mut left: impl FnMut(&Parcel),
    ) -> usize {
        let mut done = 0;
        for stretch in stretches {
            match *stretch {
                Stretch::Plain(length) => {
                    let part = written.min(length);
                    done += part;
                    written -= part;
                }
                Stretch::Parcel => {
                    let rest = self.queue.front().map_or(0, |it| it.frame.len() - self.written);
                    if written < rest {
                        self.written += written;
                        return done;
                    }
                    written -= rest;
                    done += STAND_IN.len();
                    self.written = 0;
                    if let Some(parcel) = self.queue.pop_front() {
                        left(&parcel);
                    }
                }
            }
            if written == 0 {
                break;
            }
        }
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        done
    }
}

impl Stream {
    /// Writes frames, and parcels where their stand-ins are.
    pub(super) fn poll_parcels(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let mut stretches = [Stretch::Plain(0); MAX_SLICES];
            let scanner = self.outgoing.clone().unwrap_or_default();
            let count = self.parcels.gather(scanner, bytes, &mut slices, &mut stretches);
            let socket = Pin::new(&mut self.socket);
            let written = ready!(socket.poll_write_vectored(cx, &slices[..count]))?;
            if written == 0 {
                return Poll::Ready(Ok(0));
            }
            self.deadline = None;
            let shared = &*self.handle.0;
            let done = self.parcels.note(&stretches[..count], written, |parcel| {
                // The stand-in's share is given back and counted when its own bytes are.
                shared.parcel_left(parcel.packet_bytes - STAND_IN_PACKET_BYTES);
                let more = (parcel.frame.len() - STAND_IN.len()) as u64;
                shared.bytes_written.fetch_add(more, Ordering::Relaxed);
            });
            if done > 0 {
                return Poll::Ready(Ok(done));
            }
            // A part of a parcel has left, and nothing that the transport knows of. To tell it of
            // no progress would mean that the stream has ended.
        }
    }
}

#[cfg(test)]
mod tests;
