//! Where a receiver is: on this replica, on another, in the overlay or nowhere.

use super::Broker;
use crate::delivery::Connection;
use crate::node::Owner;
use crate::overlay::PeerId;

/// Where a message is to be delivered.
#[derive(Debug, Clone)]
pub(super) enum Route {
    /// To a connection of this replica, which is this owner.
    Here(Owner, Connection),
    /// To the replica of this owner.
    Replica(Owner),
    /// To a peer of the overlay.
    Peer(PeerId),
    /// The receiver is not connected.
    Nowhere,
    /// The directory cannot be asked.
    Unknown,
}

impl Route {
    /// The connection at its end, if the receiver is a node.
    pub(super) fn owner(&self) -> Option<Owner> {
        match self {
            Self::Here(owner, _) | Self::Replica(owner) => Some(*owner),
            Self::Peer(_) | Self::Nowhere | Self::Unknown => None,
        }
    }
}

/// Compares two routes to one receiver.
impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
            && self.owner() == other.owner()
    }
}

impl Broker {
    /// The route to a receiver, if it is known without a lookup.
    pub(super) fn known_route(&self, to: &str) -> Option<Route> {
        if let Some((owner, connection)) = self.connections.connection(to) {
            return Some(Route::Here(owner, connection));
        }
        let Some(remote) = &self.remote else { return Some(self.route_outside(to)) };
        let owner = self.directory.known_location(to)?;
        if !remote.is_responsive(owner.replica) {
            // The node may have left it, and could be elsewhere already.
            self.directory.forget_location(to);
            return None;
        }
        Some(Route::Replica(owner))
    }

    /// Finds the route to a receiver.
    pub(super) async fn resolve(&self, to: &str) -> Route {
        if let Some(route) = self.known_route(to) {
            return route;
        }
        match self.directory.locate(to).await {
            Ok(Some(owner)) => Route::Replica(owner),
            Ok(None) => self.route_outside(to),
            Err(_) => Route::Unknown,
        }
    }

    /// Finds the route to a receiver that was not found where it was thought to be.
    pub(super) async fn resolve_again(&self, to: &str, tried: &Route) -> Route {
        // Another message may have corrected the location already.
        if self.directory.known_location(to) == tried.owner() {
            self.directory.forget_location(to);
        }
        self.resolve(to).await
    }

    /// The route at the moment of delivery. A receiver that was not connected may have connected to
    /// this replica. One that has moved is found when its old replica says so: an earlier message
    /// may still come back from there, and has to be delivered first.
    pub(super) fn look_again(&self, to: &str, route: Route) -> Route {
        if route.owner().is_some() {
            return route;
        }
        match self.connections.connection(to) {
            Some((owner, connection)) => Route::Here(owner, connection),
            None => route,
        }
    }

    /// The route to a receiver that is no node.
    fn route_outside(&self, to: &str) -> Route {
        match &self.peer {
            Some(own) => {
                peer_named(to).filter(|id| *id != own.id()).map_or(Route::Nowhere, Route::Peer)
            }
            None => Route::Nowhere,
        }
    }
}

/// The peer that `to` names. A name has one spelling, the bridge's own, so that a webhook needs to
/// know only one.
fn peer_named(to: &str) -> Option<PeerId> {
    let is_upper = to.bytes().any(|digit| digit.is_ascii_uppercase());
    PeerId::parse(to).ok().filter(|_| !is_upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_one_name() {
        let name = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(peer_named(name).map(|id| id.to_string()).as_deref(), Some(name));
        for other in [&name.to_uppercase(), &name[1..], &format!("{name}0"), &format!(" {name}")] {
            assert_eq!(peer_named(other), None, "{other}");
        }
    }
}
