//! The store in memory: what every backend must do, and that nothing is left behind.

use super::super::contract::{self, contract};
use super::*;

contract!(contract::in_memory());

#[test]
fn expired_sessions_leave_nothing() {
    let store = MemoryStore::new(contract::LIMITS);
    let session = contract::session("a", "t", Timestamp(1), Timestamp(5));
    let (code, origin) = (session.code, session.origin.clone());
    let text = contract::text("x");
    store.create(&session).unwrap();
    store.add_candidate(code, &origin, Side::Offerer, text.clone(), Timestamp(2)).unwrap();
    store.add_answer(code, &origin, text.clone().into(), Timestamp(2)).unwrap();
    store.add_answer(code, &origin, text.into(), Timestamp(2)).unwrap();
    assert_eq!((store.clean_up(Timestamp(4)), store.clean_up(Timestamp(5))), (1, 0));
    assert!(store.is_empty());
}

#[test]
fn changes_that_are_not_committed_leave_nothing() {
    let store = MemoryStore::new(contract::LIMITS);
    let session = contract::session("a", "t", Timestamp(1), Timestamp(5));
    drop(store.prepare(&session).unwrap());
    assert!(store.is_empty());
    store.create(&session).unwrap();
    let prepare = |kind, text| {
        store.prepare_text(session.code, &session.origin, kind, contract::text(text), Timestamp(1))
    };
    let half = "x".repeat(MAX_SESSION_BYTES / 2);
    for _ in 0..2 * MAX_CANDIDATES {
        drop(prepare(Kind::Candidate(Side::Offerer), &half).unwrap());
        drop(prepare(Kind::Answer(None), &half).unwrap());
    }
    assert_eq!(store.get(session.code, &session.origin, Timestamp(1)), Ok(session.as_session()));
    // The quota of both is released once, whichever is first.
    let pending = prepare(Kind::Candidate(Side::Offerer), "x").unwrap();
    store.clean_up(Timestamp(5));
    assert_eq!(pending.commit(), Err(StoreError::NotFound));
    assert!(store.is_empty());
}
