//! The connections that only read, and whose turn it is to use one.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::{StoreError, failure};

/// How many may read at the same time.
const READERS: usize = 4;

/// A cheap handle on all of them.
#[derive(Clone)]
pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    turns: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn open(
        connect: impl Fn() -> rusqlite::Result<Connection>,
    ) -> rusqlite::Result<Self> {
        let idle: Vec<_> = (0..READERS).map(|_| connect()).collect::<Result<_, _>>()?;
        Ok(Self { idle: Arc::new(Mutex::new(idle)), turns: Arc::new(Semaphore::new(READERS)) })
    }

    /// What `look` finds in the file.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let turn = self.turns.clone().acquire_owned().await;
        let turn = turn.map_err(|_| StoreError::Unavailable)?;
        let readers = self.clone();
        let looking = tokio::task::spawn_blocking(move || {
            // Both go back at the end, also if nobody waits for it any more.
            let _turn = turn;
            let reader = Reader::take(readers).ok_or(StoreError::Unavailable)?;
            let found = reader.connection.as_ref().map(look);
            found.ok_or(StoreError::Unavailable)?.map_err(|error| failure(&error))
        });
        looking.await.unwrap_or(Err(StoreError::Broken))
    }

    /// Closes the connections, those in use at the end of their use.
    pub(super) fn close(&self) {
        self.turns.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A connection in use; goes back when dropped.
struct Reader {
    readers: Readers,
    connection: Option<Connection>,
}

impl Reader {
    fn take(readers: Readers) -> Option<Self> {
        let connection = readers.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        connection.is_some().then_some(Self { readers, connection })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let connection = self.connection.take();
        let mut idle = self.readers.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at under the lock, as the closing clears it after it has closed the turns.
        if !self.readers.turns.is_closed() {
            idle.extend(connection);
        }
    }
}
