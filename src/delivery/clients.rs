//! The programs that nodes run, each stored once however many nodes run it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The most programs that are stored once. Clients name them, so beyond this number each connection
/// has a copy of its own.
const MAX_CLIENTS: usize = 1024;

/// What a node says about its program when it connects.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    /// The platform that it runs on.
    pub(crate) runtime: Box<str>,
    /// The version of its Crolang library.
    pub(crate) version: Box<str>,
}

/// The programs of the nodes that are connected.
#[derive(Default)]
pub(crate) struct Clients(Mutex<HashSet<Arc<Client>>>);

impl Clients {
    /// Returns the one copy of a program's description.
    pub(crate) fn intern(&self, runtime: &str, version: &str) -> Arc<Client> {
        let client = Client { runtime: runtime.into(), version: version.into() };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(&client) {
            return known.clone();
        }
        let client = Arc::new(client);
        if known.len() >= MAX_CLIENTS {
            known.retain(|client| Arc::strong_count(client) > 1);
        }
        if known.len() < MAX_CLIENTS {
            known.insert(client.clone());
        }
        client
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_stored_once_up_to_the_limit_and_those_in_use_stay() {
        let clients = Clients::default();
        let first = clients.intern("JVM", "1");
        assert!(Arc::ptr_eq(&first, &clients.intern("JVM", "1")));
        assert!(!Arc::ptr_eq(&first, &clients.intern("JVM", "2")));
        for version in 0..2 * MAX_CLIENTS {
            clients.intern("node", &version.to_string());
            assert!(clients.0.lock().unwrap().len() <= MAX_CLIENTS);
        }
        assert!(Arc::ptr_eq(&first, &clients.intern("JVM", "1")));
        let held: Vec<_> =
            (0..MAX_CLIENTS).map(|n| clients.intern("browser", &n.to_string())).collect();
        assert_eq!(clients.0.lock().unwrap().len(), MAX_CLIENTS);
        let beyond = clients.intern("beyond", "1");
        assert!(!Arc::ptr_eq(&beyond, &clients.intern("beyond", "1")));
        drop(held);
    }
}
