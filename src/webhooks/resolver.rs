//! Name resolution with one lookup per name at a time, so that a hanging name server blocks one
//! thread.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Resolves names by the operating system, whose lookups cannot be cancelled and each take a
/// thread: concurrent lookups of a name are one.
#[derive(Default)]
pub(super) struct Resolver {
    lookups: Arc<Mutex<HashMap<String, Lookup>>>,
}

type Lookup = Shared<BoxFuture<'static, Result<Vec<SocketAddr>, Arc<io::Error>>>>;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let lookup = self.lookup(name.as_str());
        Box::pin(async move {
            let addresses: Addrs = Box::new(lookup.await?.into_iter());
            Ok(addresses)
        })
    }
}

impl Resolver {
    fn lookup(&self, name: &str) -> Lookup {
        let mut lookups = self.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lookup) = lookups.get(name) {
            return lookup.clone();
        }
        // A task of its own, which finishes even if all callers have gone.
        let (others, looked_up) = (self.lookups.clone(), name.to_owned());
        let lookup = tokio::spawn(async move {
            // The caller sets the port.
            let found = tokio::net::lookup_host((looked_up.as_str(), 0)).await;
            others.lock().unwrap_or_else(PoisonError::into_inner).remove(&looked_up);
            found.map(Iterator::collect).map_err(Arc::new)
        });
        let lookup = lookup
            .map(|ended| ended.unwrap_or_else(|error| Err(Arc::new(io::Error::other(error)))))
            .boxed()
            .shared();
        lookups.insert(name.to_owned(), lookup.clone());
        lookup
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_lookup_serves_all_who_wait_for_it() {
        let resolver = Resolver::default();
        let lookups: Vec<_> = (0..100).map(|_| resolver.lookup("localhost")).collect();
        assert!(lookups.windows(2).all(|pair| pair[0].ptr_eq(&pair[1])));
        for lookup in lookups {
            assert!(lookup.await.unwrap().iter().all(|address| address.ip().is_loopback()));
        }
        assert!(resolver.lookups.lock().unwrap().is_empty());
        assert!(resolver.lookup("no.such.name.invalid").await.is_err());
    }
}
