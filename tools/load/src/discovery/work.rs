//! What one client asks for, again and again.

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::json;

use super::http::{Client, Reply};
use super::right::{Right, code};
use super::site::{CANDIDATE, Site, description};
use crate::arguments::{Discovery, What};

/// The most topics of one page that are asked for: as many as by default.
const TOPICS_LIMIT: usize = 100;

/// What one client asks for.
#[derive(Debug)]
pub(super) enum Work {
    /// The same again and again.
    Same {
        request: Rc<[u8]>,
        /// Lists are long and the same for all clients, so all of them compare with one.
        right: Rc<RefCell<Right>>,
    },
    /// Candidates for a session, and after some of them another session.
    Candidates(Box<Candidates>),
}

/// A session, its candidates, and the next.
#[derive(Debug)]
pub(super) struct Candidates {
    site: Site,
    offer: Vec<u8>,
    candidate: Vec<u8>,
    /// How many each session gets.
    each: u64,
    /// How many this one still gets.
    left: u64,
    code: Right,
    success: Right,
}

impl Work {
    /// What many clients share; none where each has its own.
    pub(super) async fn shared(
        client: &mut Client,
        site: &Site,
        asked: &Discovery,
    ) -> Result<Option<Self>, String> {
        let offer = description(asked.size);
        let sessions = asked.sessions as usize;
        let mut codes = Vec::new();
        let (request, right) = match asked.what {
            What::Lists => {
                let topic = site.topic(0);
                let request = site.offer(&topic, &offer);
                for _ in 0..sessions {
                    codes.push(make(client, &request).await?);
                }
                (site.list(&topic), Right::sessions(codes, offer))
            }
            What::Topics => {
                for number in 0..sessions {
                    make(client, &site.offer(&site.topic(number), &offer)).await?;
                }
                let topics: Vec<_> = (0..sessions.min(TOPICS_LIMIT))
                    .map(|number| json!({"topic": site.topic(number), "count": 1}))
                    .collect();
                let pagination = json!({
                    "page": 1, "limit": TOPICS_LIMIT, "total": sessions,
                    "hasMore": sessions > TOPICS_LIMIT,
                });
                let page = json!({"topics": topics, "pagination": pagination});
                (site.topics(TOPICS_LIMIT), Right::value(page))
            }
            What::Offers | What::Answers | What::Candidates | What::Polls => return Ok(None),
        };
        Ok(Some(Self::same(request, right)))
    }

    /// What the client with this place asks for, once there is what it needs for that.
    pub(super) async fn own(
        client: &mut Client,
        site: &Site,
        asked: &Discovery,
        place: usize,
    ) -> Result<Self, String> {
        let topic = site.topic(place);
        let description = description(asked.size);
        let offer = site.offer(&topic, &description);
        Ok(match asked.what {
            What::Answers => {
                let code = make(client, &offer).await?;
                Self::same(site.answer(&code, &description), success())
            }
            What::Polls => {
                let code = make(client, &offer).await?;
                let mut news = json!({"answer": null, "answerCandidates": []});
                if asked.answered {
                    ask(client, &site.answer(&code, &description), &mut success()).await?;
                    ask(client, &site.candidate(&code, "answerer"), &mut success()).await?;
                    news = json!({"answer": description, "answerCandidates": [CANDIDATE]});
                }
                Self::same(site.poll(&code), Right::value(news))
            }
            What::Candidates => Self::Candidates(Box::new(Candidates {
                site: site.clone(),
                offer,
                candidate: Vec::new(),
                each: asked.candidates,
                left: 0,
                code: Right::code(),
                success: success(),
            })),
            What::Offers | What::Lists | What::Topics => Self::same(offer, Right::code()),
        })
    }

    fn same(request: Vec<u8>, right: Right) -> Self {
        Self::Same { request: request.into(), right: Rc::new(RefCell::new(right)) }
    }

    /// The same for another client.
    pub(super) fn share(&self) -> Option<Self> {
        match self {
            Self::Same { request, right } => {
                Some(Self::Same { request: request.clone(), right: right.clone() })
            }
            Self::Candidates(_) => None,
        }
    }

    /// What is to be asked for now.
    pub(super) fn request(&self) -> &[u8] {
        match self {
            Self::Same { request, .. } => request,
            Self::Candidates(it) if it.left == 0 => &it.offer,
            Self::Candidates(it) => &it.candidate,
        }
    }

    /// Judges the answer to that, and goes on to the next.
    pub(super) fn judge(&mut self, reply: &Reply<'_>) -> Result<(), String> {
        match self {
            Self::Same { right, .. } => right.borrow_mut().judge(reply),
            Self::Candidates(it) => it.judge(reply),
        }
    }
}

impl Candidates {
    fn judge(&mut self, reply: &Reply<'_>) -> Result<(), String> {
        if self.left == 0 {
            self.code.judge(reply)?;
            self.candidate = self.site.candidate(code(reply.body).unwrap_or_default(), "offerer");
            self.left = self.each;
            return Ok(());
        }
        let verdict = self.success.judge(reply);
        // A session that takes no candidate is no use any more.
        self.left = if verdict.is_ok() { self.left - 1 } else { 0 };
        verdict
    }
}

fn success() -> Right {
    Right::value(json!({"success": true}))
}

/// Makes a session, and gives its code.
async fn make(client: &mut Client, offer: &[u8]) -> Result<String, String> {
    let reply = client.ask(offer).await.map_err(|why| why.to_string())?;
    Right::code().judge(&reply)?;
    Ok(code(reply.body).unwrap_or_default().to_owned())
}

/// Asks for something that has to be done before.
async fn ask(client: &mut Client, request: &[u8], right: &mut Right) -> Result<(), String> {
    let reply = client.ask(request).await.map_err(|why| why.to_string())?;
    right.judge(&reply)
}
