//! The list of all variables: for the documentation, and for the reader.

mod api;
mod broker;
mod cluster;
mod listener;
mod login;
mod other_networks;
mod webhooks;

use super::variable::Variable;

const SWITCH: &str = "true or false";
const MILLISECONDS: &str = "a whole number of milliseconds from 1 to 86400000";
const MILLISECONDS_OR_ZERO: &str = "a whole number of milliseconds from 0 to 86400000";
const COUNT: &str = "a whole number from 1 to 4294967295";
const COUNT_OR_ZERO: &str = "a whole number from 0 to 4294967295";
const WEBHOOK_URL: &str = "an http or https URL";

const GROUPS: [&[Variable]; 7] = [
    broker::VARIABLES,
    listener::VARIABLES,
    cluster::VARIABLES,
    login::VARIABLES,
    webhooks::VARIABLES,
    api::VARIABLES,
    other_networks::VARIABLES,
];

/// Every variable, in the order in which people are shown them.
pub const VARIABLES: &[Variable] = &concat();

const LENGTH: usize = {
    let (mut length, mut group) = (0, 0);
    while group < GROUPS.len() {
        length += GROUPS[group].len();
        group += 1;
    }
    length
};

const fn concat() -> [Variable; LENGTH] {
    let mut variables = [GROUPS[0][0]; LENGTH];
    let (mut at, mut group, mut index) = (0, 0, 0);
    while at < LENGTH {
        if index == GROUPS[group].len() {
            (group, index) = (group + 1, 0);
        } else {
            variables[at] = GROUPS[group][index];
            (at, index) = (at + 1, index + 1);
        }
    }
    variables
}
