//! A few connections that only read, opened when first needed, used on blocking threads. What was
//! acknowledged before a read began is seen by it: it takes the newest snapshot.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use super::fault::Fault;
use super::open;
use super::read::Reader;
use crate::store::StoreError;

/// Reads at a time; the others wait their turn. As many connections are kept as were needed at once: each holds
/// about 0.3 MiB, and to open one takes longer than most reads.
pub(super) const MAX_READERS: usize = 4;

/// Reads of the queue itself: clients that read much must not hold up what bots wait for.
pub(super) const QUEUE_READERS: usize = 1;

pub(super) struct Pool {
    path: PathBuf,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Reader>>,
}

impl Pool {
    /// At most so many reads at a time.
    pub(super) fn new(path: PathBuf, readers: usize) -> Self {
        Self {
            path,
            permits: Arc::new(Semaphore::new(readers)),
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Runs a query in a read transaction.
    pub(super) async fn read<T: Send + 'static>(
        self: Arc<Self>,
        query: impl FnOnce(&mut Reader) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| StoreError::Closed)?;
        // The permit goes along: a caller that stops waiting does not make room before it is there.
        let read = tokio::task::spawn_blocking(move || {
            let result = self.read_blocking(query);
            drop(permit);
            result
        });
        match read.await {
            Ok(result) => result.map_err(Fault::into_failed),
            Err(error) => Err(StoreError::Failed(error.to_string().into())),
        }
    }

    /// Refuses later reads and closes the connections not in use.
    pub(super) fn close(&self) {
        self.permits.close();
        self.idle().clear();
    }

    fn read_blocking<T>(
        &self,
        query: impl FnOnce(&mut Reader) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let kept = self.idle().pop();
        let mut reader = match kept {
            Some(reader) => reader,
            None => open::reader(&self.path)?,
        };
        reader.conn.prepare_cached("BEGIN")?.execute([])?;
        let result = query(&mut reader)?;
        reader.conn.prepare_cached("COMMIT")?.execute([])?;
        // A connection on which something failed is not used again.
        let mut idle = self.idle();
        if !self.permits.is_closed() {
            idle.push(reader);
        }
        Ok(result)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Reader>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
