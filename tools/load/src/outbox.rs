//! The side of a connection that writes: at once what the kernel takes, the rest when it can.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use tokio::net::tcp::OwnedWriteHalf;

/// What waits to be written to one connection. Everything runs on one thread, so a cell will do.
pub struct Outbox {
    half: OwnedWriteHalf,
    bytes: RefCell<Vec<u8>>,
    is_draining: Cell<bool>,
}

impl Outbox {
    /// An empty one.
    pub fn new(half: OwnedWriteHalf) -> Rc<Self> {
        Rc::new(Self { half, bytes: RefCell::default(), is_draining: Cell::new(false) })
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.bytes.borrow().len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends what `write` writes. It stays here until [`Outbox::flush`].
    pub fn put(&self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes.borrow_mut());
    }

    /// Hands to the kernel what it takes; the rest follows by itself. What a connection that has
    /// ended does not take is dropped: its reader notices the end.
    pub fn flush(self: &Rc<Self>) {
        if self.is_draining.get() || self.is_empty() || self.write() {
            return;
        }
        self.is_draining.set(true);
        let outbox = self.clone();
        tokio::task::spawn_local(async move {
            while outbox.half.writable().await.is_ok() && !outbox.write() {}
            outbox.is_draining.set(false);
        });
    }

    /// Hands everything to the kernel, as fast as it takes it.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn drained(&self) -> io::Result<()> {
        while !self.is_empty() {
            self.half.writable().await?;
            self.try_write()?;
        }
        Ok(())
    }

    fn try_write(&self) -> io::Result<()> {
        let mut bytes = self.bytes.borrow_mut();
        match self.half.try_write(&bytes) {
            Ok(written) => drop(bytes.drain(..written)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Writes once; tells whether nothing is left.
    fn write(&self) -> bool {
        if self.try_write().is_err() {
            self.bytes.borrow_mut().clear();
        }
        self.is_empty()
    }
}
