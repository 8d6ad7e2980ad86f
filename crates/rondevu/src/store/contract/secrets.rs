//! What every backend must do with the secrets of sessions.

use super::*;
use crate::model::{Answer, Secret};

pub(in super::super) async fn an_answer_is_verified_by_the_secret_that_came_with_it(store: Store) {
    let (secret, a) = (Secret::random().hash(), origin("a"));
    let new = NewSession { secret: Some(secret), ..session("a", "t", CREATED, EXPIRES) };
    store.create(new.clone()).await.unwrap();
    let verified = async || {
        let session = store.get(new.code, &a, CREATED).await.unwrap();
        (session.is_answer_verified(), session.answer.map(|answer| answer.text))
    };
    assert_eq!(verified().await, (Some(false), None));
    let others = Secret::random().hash();
    // Each answer counts with its own secret, whatever came before.
    for (number, given) in [None, Some(secret), Some(others), Some(secret), None].iter().enumerate()
    {
        let answer = Answer { text: text(&number.to_string()), secret: *given };
        store.add_answer(new.code, &a, answer.clone(), CREATED).await.unwrap();
        assert_eq!(verified().await, (Some(*given == Some(secret)), Some(answer.text)), "{number}");
    }
    // A session without a secret has nothing to verify.
    let code = create(&store, "a", "t").await;
    let answer = Answer { text: text("x"), secret: Some(secret) };
    store.add_answer(code, &a, answer, CREATED).await.unwrap();
    let session = store.get(code, &a, CREATED).await.unwrap();
    assert_eq!(session.is_answer_verified(), None);
}
