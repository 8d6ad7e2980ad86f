//! Clients of discovery, each of which asks for the same again and again on a connection that it
//! keeps: in the closed loop when it has the answer, in the open loop when the next is due.
//!
//! A client waits for each answer before it sends the next request, as HTTP clients do. What is
//! due meanwhile is late, and its latency counts from when it was due.

mod crowd;
mod http;
mod right;
mod site;
mod work;

use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::arguments::Discovery;
use crate::clock::Alarm;
use crate::report::{Measured, Report};
use crate::run::{Moment, Run, Trouble};
use crowd::Crowd;
use http::Client;
use site::Site;
use work::Work;

/// How long is waited, at the end, for answers that have not come.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Measures how discovery answers.
///
/// # Errors
/// See [`Trouble`].
pub async fn run(run: &Run, asked: &Discovery) -> Result<Report, Trouble> {
    let site = |place| Site {
        host: run.door.name(place).to_owned(),
        path: asked.path.clone(),
        prefix: run.prefix.clone(),
    };
    let connect = async |place: usize| {
        let id = format!("client {place}");
        let stream = run.door.connect(place).await.map_err(|why| Trouble::NotIn { id, why })?;
        Ok::<_, Trouble>(Client::new(stream))
    };
    let shared = async {
        let mut client = connect(0).await?;
        Work::shared(&mut client, &site(0), asked).await.map_err(Trouble::NotPrepared)
    };
    let shared =
        run.stage.show("preparing", || (0.0, 0), shared).await.ok_or(Trouble::Stopped)??;
    let crowd = Crowd::new(run.clock, asked.connections, asked.rate);
    let entered = run.enter_all(asked.connections, async |place| {
        let mut client = connect(place).await?;
        let work = match shared.as_ref().and_then(Work::share) {
            Some(work) => work,
            None => {
                let own = Work::own(&mut client, &site(place), asked, place).await;
                own.map_err(Trouble::NotPrepared)?
            }
        };
        Ok((client, work))
    });
    let clients = entered.await?.into_iter().collect::<Result<Vec<_>, Trouble>>()?;

    let alarm = Alarm::new()?;
    let pacer = tokio::task::spawn_local(crowd.clone().pace(alarm));
    let mut asking = JoinSet::new();
    for (place, (client, work)) in clients.into_iter().enumerate() {
        asking.spawn_local(Rc::clone(&crowd).ask(run.door.clone(), place, client, work));
    }
    let mark = |moment| match moment {
        Moment::Begin => crowd.measure_from_now(),
        Moment::End => crowd.measure_until_now(),
    };
    let measured = run.measure(asked.times, || crowd.so_far(), || crowd.deserted(), mark);
    let (begin, end) = measured.await;
    pacer.abort();
    let settled = async { while asking.join_next().await.is_some() {} };
    // What has not come by then is unanswered.
    let _ = tokio::time::timeout(TIMEOUT, settled).await;
    drop(asking);

    let mut measured = Measured { unit: "requests", ..Measured::default() };
    crowd.tell(&mut measured);
    Ok(run.report(measured, &begin, &end))
}
