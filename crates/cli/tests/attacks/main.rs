//! The attack suite: named attempts to get out of a sandbox, past its gateway or over its limits.
//!
//! Each attempt says what must happen and fails if it does not. All of them run at every level of
//! isolation that works on this machine, as the user who runs the tests and, where that is root,
//! as an ordinary user too. `target/attacks/*.json` holds what happened, `docs/security.md` the
//! list; `HANGAR_WRITE_SECURITY=1 cargo test -p cli --test attacks document` writes it anew.
//!
//! `HANGAR_ATTACK=mount-tmpfs cargo test -p cli --test attacks namespaces::escape` runs one.

#![expect(clippy::print_stderr, reason = "what was not tried is said to whoever runs this")]

mod abuse;
mod egress;
mod escape;
mod exhaustion;
mod support;

#[path = "../../../../tests/real_part.rs"]
mod real_part;
#[path = "../support/mod.rs"]
mod server;

use support::attempt::{Attempt, Group};

/// Every attempt of a group, in the order in which they are made.
fn attempts(group: Group) -> Vec<Attempt> {
    match group {
        Group::Escape => escape::attempts(),
        Group::Egress => egress::attempts(),
        Group::Exhaustion => exhaustion::attempts(),
        Group::Abuse => abuse::attempts(),
    }
}

/// One test for each group and user, at one level.
macro_rules! at {
    ($module:ident, $level:ident) => {
        mod $module {
            use crate::support::attempt::Group;
            use crate::support::{run, user};
            use protocol::sandbox::Isolation;

            pub(super) const LEVEL: Isolation = Isolation::$level;

            #[test]
            fn escape() {
                run::group(Group::Escape, LEVEL);
            }

            #[test]
            fn escape_as_ordinary_user() {
                user::group(Group::Escape, LEVEL);
            }

            #[test]
            fn egress() {
                run::group(Group::Egress, LEVEL);
            }

            #[test]
            fn egress_as_ordinary_user() {
                user::group(Group::Egress, LEVEL);
            }

            #[test]
            fn exhaustion() {
                run::group(Group::Exhaustion, LEVEL);
            }

            #[test]
            fn exhaustion_as_ordinary_user() {
                user::group(Group::Exhaustion, LEVEL);
            }

            #[test]
            fn abuse() {
                run::group(Group::Abuse, LEVEL);
            }

            #[test]
            fn abuse_as_ordinary_user() {
                user::group(Group::Abuse, LEVEL);
            }
        }
    };
}

at!(namespaces, Namespaces);
at!(gvisor, Gvisor);
at!(microvm, Microvm);

#[test]
fn every_level_is_attacked() {
    let attacked = [namespaces::LEVEL, gvisor::LEVEL, microvm::LEVEL];
    assert_eq!(attacked, protocol::sandbox::Isolation::LEVELS);
}

mod document {
    #[test]
    fn says_what_the_attempts_say() {
        crate::support::document::compare();
    }

    #[test]
    fn attempts_have_names_of_their_own_and_say_what_must_happen() {
        crate::support::document::names();
    }
}
