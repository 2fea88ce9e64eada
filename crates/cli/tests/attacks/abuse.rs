//! Lying to the host: forged reports, broken answers, and reaching for agentd from inside.

mod answers;
mod inside;
mod paths;
mod reports;

use crate::support::attempt::Attempt;

pub(crate) fn attempts() -> Vec<Attempt> {
    [answers::ATTEMPTS, reports::ATTEMPTS, inside::ATTEMPTS, paths::ATTEMPTS].concat()
}
